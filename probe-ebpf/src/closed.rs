//! The memory of closed 4-tuples, by which a reuse is recognised.
//!
//! A set-associative table, as a CPU's cache is: the hash of a 4-tuple chooses a set, and inside the set a slot is found by
//! the whole hash. One array access per close and per open, 16 bytes per tuple, and it is known what is forgotten, none of
//! which an LRU map gives. Two tuples of the same 64-bit hash would be taken for one; the hash is seeded.

use bytemuck::{Pod, Zeroable};

/// Slots per set: two cache lines.
pub const WAYS: u32 = 8;

/// A closed 4-tuple.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ClosedSlot {
    /// Hash of the 4-tuple; 0 is an empty slot.
    pub hash: u64,
    /// Monotonic time of the close; 0 in an empty slot.
    pub closed_ns: u64,
}

/// The 4-tuples of one set, in no order. The one that closed longest ago makes room for a new one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ClosedSet {
    /// The slots.
    pub slots: [ClosedSlot; WAYS as usize],
}

/// A tuple forgotten within this time of its close is counted as lost: TIME_WAIT and its restarts are over by then, and
/// what comes later was no sign of a pool that runs out.
pub const WORTH_REMEMBERING_NS: u64 = 120_000_000_000;

const _: () = assert!(size_of::<ClosedSet>() == 128);

// SAFETY: `repr(C)`, `Copy`, only `u64` fields.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ClosedSet {}
