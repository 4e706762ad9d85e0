//! What is known of a client whose SYN met a mini-socket of ours and was refused.

use bytemuck::{Pod, Zeroable};

use crate::{account::REFUSAL_ANSWERS, connection::FourTuple};

/// The story of one 4-tuple, from the first refused SYN until a connection comes about on it or the client gives up. All times
/// are monotonic, in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Refusal {
    /// When the first SYN was refused.
    pub first_ns: u64,
    /// When the last one was.
    pub last_ns: u64,
    /// The longest pause before a repeated one.
    pub longest_pause_ns: u64,
    /// When the last attempt connected after all; 0: it did not.
    pub connected_ns: u64,
    /// Refused SYNs by [`RefusalAnswer`](crate::account::RefusalAnswer).
    pub answers: [u32; REFUSAL_ANSWERS],
    /// Sequence number of the last one.
    pub isn: u32,
    /// SYNs that repeated the sequence number of the one before, the one that connected included.
    pub retries: u32,
    /// SYNs with a sequence number of their own: connection attempts, all but the last of which the client gave up.
    pub attempts: u32,
    /// 1: a RST of the client took the mini-socket away.
    pub reset: u32,
    /// When the mini-socket last sent an ACK, in the kernel's jiffies; 0: not known.
    pub acked_at: u32,
}

/// A story that ended, as the ring buffer carries it when a connection came about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct EndedRefusal {
    /// Whose.
    pub tuple: FourTuple,
    /// The story.
    pub refusal: Refusal,
}

const _: () = assert!(size_of::<Refusal>() == 64);
const _: () = assert!(size_of::<EndedRefusal>() == 104);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Refusal {}
