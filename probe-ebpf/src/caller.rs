//! Which process calls which destination, and which keeps sockets that it should close.

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

/// A local port, and the name of a process that keeps sockets of it in CLOSE_WAIT; kept with their number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct OwnerKey {
    /// The port, host order.
    pub port: u64,
    /// As in [`CallerKey`].
    pub name: ProcessName,
}

/// `task_struct.comm`
pub type ProcessName = [u64; 2];

const _: () = assert!(size_of::<CallerKey>() == 40 && size_of::<OwnerKey>() == 24);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CallerKey {}
// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OwnerKey {}
