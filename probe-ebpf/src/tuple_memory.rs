//! Memories of 4-tuples: of those that closed, by which a reuse is recognised, and of SYNs, by which a repeated one is.
//!
//! A set-associative table, as a CPU's cache is: one half of the hash of a 4-tuple chooses a set, and inside the set a slot is
//! found by the other half. One array access per close and per open, 16 bytes per tuple, and it is known what is forgotten, none of
//! which an LRU map gives. Two closed tuples of the same hash would be taken for one (4 in 10^9 lookups); the hash is seeded.

use bytemuck::{Pod, Zeroable};

/// Slots per set: two cache lines.
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
}

/// The bits of a stamp that are flags: the time is known to 8 ns.
pub const STAMP_FLAGS: u64 = 7;
/// The connection left a mini-socket, TIME_WAIT or about to be; the stamp is when its 60 s began anew.
pub const MINI_SOCKET: u64 = 1;
/// A SYN met the mini-socket and was refused; `REFUSALS` has the story.
pub const REFUSED: u64 = 2;
/// The close was not seen; the stamp is that of the first refused SYN.
pub const CLOSE_UNSEEN: u64 = 4;

/// A tuple forgotten within this time is counted as lost: TIME_WAIT and its restarts are over by then, what comes later is no
/// sign of a pool that runs out, and no SYN is repeated after a longer pause.
pub const WORTH_REMEMBERING_NS: u64 = 120_000_000_000;

/// What the kernel adds to [`TupleSlot::next_sent`] for the first sequence number of a connection that takes the place of a
/// mini-socket (net/ipv4/tcp_minisocks.c tcp_timewait_state_process()).
pub const ISN_STEP: u32 = 65_537;

/// How long a mini-socket in TIME_WAIT lives (TCP_TIMEWAIT_LEN, include/net/tcp.h, a constant since 2.4).
pub const TIME_WAIT_NS: u64 = 60_000_000_000;

const _: () = assert!(size_of::<TupleSet>() == 128);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TupleSet {}
