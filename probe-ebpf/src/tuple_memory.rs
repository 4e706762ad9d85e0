//! Memories of 4-tuples: of those that closed, by which a reuse is recognised, and of SYNs, by which a repeated one is.
//!
//! A set-associative table, as a CPU's cache is: one half of the hash of a 4-tuple chooses a set, and inside the set a slot is
//! found by the other half. One array access per close and per open, 20 bytes per tuple, and it is known what is forgotten, none of
//! which an LRU map gives. Two closed tuples of the same hash would be taken for one (4 in 10^9 lookups); the hash is seeded.

use bytemuck::{Pod, Zeroable};

/// Slots per set: two cache lines, and half of one for the timestamps.
pub const WAYS: u32 = 8;

/// A remembered 4-tuple.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TupleSlot {
    /// Half of the hash of the 4-tuple; 0 is an empty slot.
    pub tag: u32,
    /// Of a closed 4-tuple: the sequence number after our last. Of a SYN: its own.
    pub next_sent: u32,
    /// Monotonic time in nanoseconds, whose three lowest bits are flags; 0 in an empty slot.
    pub stamp: u64,
}

/// The 4-tuples of one set, in no order. The one with the oldest stamp makes room for a new one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TupleSet {
    /// The slots.
    pub slots: [TupleSlot; WAYS as usize],
    /// By slot, of a closed 4-tuple: the last timestamp that the peer sent on it; 0 where it sent none.
    pub timestamps: [u32; WAYS as usize],
}

/// The bits of a stamp that are flags: the time is known to 8 ns.
pub const STAMP_FLAGS: u64 = 7;
/// The connection left a mini-socket, TIME_WAIT or about to be; the stamp is when its 60 s began anew.
pub const MINI_SOCKET: u64 = 1;
/// The peer's RST took the mini-socket away, or the connection while it was open.
pub const RESET: u64 = 2;
/// The close was not seen; the stamp is that of the RST.
pub const CLOSE_UNSEEN: u64 = 4;

/// A tuple forgotten within this time is counted as lost: TIME_WAIT and its restarts are over by then, what comes later is no
/// sign of a pool that runs out, and no SYN is repeated after a longer pause.
pub const WORTH_REMEMBERING_NS: u64 = 120_000_000_000;

/// What the kernel adds to [`TupleSlot::next_sent`] for the first sequence number of a connection that takes the place of a
/// mini-socket (net/ipv4/tcp_minisocks.c tcp_timewait_state_process()).
pub const ISN_STEP: u32 = 65_537;

/// How long a mini-socket in TIME_WAIT lives (TCP_TIMEWAIT_LEN, include/net/tcp.h, a constant since 2.4).
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

/// The peer's clock for timestamps ticks no faster than once in this time (RFC 7323, section 5.4). Linux ticks so (net/ipv4/tcp_output.c,
/// tcp_time_stamp_ms()), unless a route has the feature `tcp_usec_ts` (6.7 on): those clocks are not recognised.
const SHORTEST_TICK_NS: u64 = 1_000_000;

/// Whether two timestamps may be of the same clock, of which the peer sent the second `since_ns` after the 4-tuple closed. Two clocks that have
/// nothing to do with each other look like one in 3 of 100,000 cases after a minute, in 1 of 1,000 after an hour.
#[inline]
#[must_use]
pub const fn is_same_clock(before: u32, after: u32, since_ns: u64) -> bool {
    let ticks = after.wrapping_sub(before) as u64;
    // The peer's clock may run a little fast. What it sent last may be as much older than the close as a FIN_WAIT2 timewait socket lives.
    let most = (since_ns + since_ns / 16 + TIME_WAIT_NS) / SHORTEST_TICK_NS;
    ticks > 0 && ticks <= most
}

const _: () = assert!(size_of::<TupleSet>() == 160);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TupleSet {}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_clock_that_went_on_is_the_same_and_any_other_is_not() {
        assert!(is_same_clock(5_000, 67_000, 62 * S));
        assert!(is_same_clock(u32::MAX - 1_000, 61_000, 62 * S), "it went past its end");
        assert!(is_same_clock(5_000, 5_620, 62 * S), "a clock of 10 Hz");
        assert!(is_same_clock(5_000, 5_000 + 110_000, 62 * S), "its last segment came long before the close");
        assert!(!is_same_clock(5_000, 5_000, 62 * S), "it stood still");
        assert!(!is_same_clock(5_000, 4_999, 62 * S), "it went back");
        assert!(!is_same_clock(5_000, 5_000 + 130_000, 62 * S), "it went twice as fast as any may");
    }
}
