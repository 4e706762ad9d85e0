//! Which process calls which destination.

use bytemuck::{Pod, Zeroable};

use crate::account::PeerKey;

/// A destination, and the name of a process that calls it; kept with the time of its last connect(), monotonic, in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct CallerKey {
    /// The destination; its direction is outbound.
    pub destination: PeerKey,
    /// The name up to the first NUL; what follows says nothing. Where the kernel does not lead from a thread to its process (before
    /// 5.11, or by classic hooks), it is the thread's.
    pub name: ProcessName,
}

/// `task_struct.comm`
pub type ProcessName = [u64; 2];

const _: () = assert!(size_of::<CallerKey>() == 40);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CallerKey {}
