//! What is known of a client whose SYN met a mini-socket or an open connection of ours and was refused.

use bytemuck::{Pod, Zeroable};

use crate::{account::REFUSAL_ANSWERS, connection::FourTuple, sweep::state::TIME_WAIT};

/// The story of one connection attempt, from its first refused SYN until it connects or the client gives up. An attempt is known by the
/// peer and its sequence number ([`FourTuple::attempt`]): behind a NAT its SYNs may come from several ports. All times are monotonic, in
/// nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Refusal {
    /// When the first SYN was refused.
    pub first_ns: u64,
    /// When the last one was.
    pub last_ns: u64,
    /// The longest pause before a repeated one.
    pub longest_pause_ns: u64,
    /// When it connected after all; 0: it did not.
    pub connected_ns: u64,
    /// Refused SYNs by [`RefusalAnswer`](crate::account::RefusalAnswer).
    pub answers: [u32; REFUSAL_ANSWERS],
    /// SYNs that repeated the first one, the one that connected included.
    pub retries: u32,
    /// When the mini-socket or the old connection last sent an ACK out of turn, in the kernel's jiffies; 0: not known.
    pub acked_at: u32,
    /// Source port of the first SYN.
    pub port: u16,
    /// Source port of the last one, or of the connection.
    pub last_port: u16,
    /// TCP state of the old connection when it refused the first SYN; TIME_WAIT stands for its FIN_WAIT2 mini-socket, too.
    pub state: u16,
    /// 1: it connected after a RST of the client took the old connection or its mini-socket away.
    pub reset: u16,
    /// 1: it is counted as late.
    pub late: u32,
}

impl Refusal {
    /// Whether the old connection was still open when the first SYN came; else it was in TIME_WAIT, or on its way there.
    #[must_use]
    #[inline(always)]
    pub const fn was_open(&self) -> bool {
        self.state as u32 != TIME_WAIT
    }
}

/// A story that ended, as the ring buffer carries it when a connection came about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct EndedRefusal {
    /// Whose.
    pub attempt: FourTuple,
    /// The story.
    pub refusal: Refusal,
}

const _: () = assert!(size_of::<Refusal>() == 64);
const _: () = assert!(size_of::<EndedRefusal>() == 104);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Refusal {}
