//! What the kernel remembers of connections: the open ones by socket, the closed ones by 4-tuple.

use bytemuck::{Pod, Zeroable};

/// A connection seen from this host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FourTuple {
    /// Local address, IPv4 as v4-mapped.
    pub local: [u8; 16],
    /// Remote address, IPv4 as v4-mapped.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
}

/// An open connection, kept under the address of its socket until the socket reaches CLOSE.
///
/// The address is reused at once after that (`SLAB_TYPESAFE_BY_RCU`), so nothing may look it up later.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Connection {
    /// Monotonic time of the last step seen: our SYN, then ESTABLISHED. 0: it began before the agent did.
    pub since_ns: u64,
    /// `OUTBOUND_FLAG`, `ESTABLISHED_FLAG`, `SYN_COUNTED_FLAG`.
    pub flags: u64,
}

/// This host connected; otherwise it accepted.
pub const OUTBOUND_FLAG: u64 = 1;
/// The connection was established.
pub const ESTABLISHED_FLAG: u64 = 2;
/// The first SYN has been counted.
pub const SYN_COUNTED_FLAG: u64 = 4;

/// In the map of local ports: this port is being listened on. Other values are the monotonic time in nanoseconds
/// when it last was, or when an accepted connection on it was last seen; 0 is never.
pub const LISTENING: u64 = u64::MAX;

/// How long after the last sign of a listener a local port still counts as a service: the longest a mini-socket of
/// one of its connections lives (60 s as FIN_WAIT2, then 60 s as TIME_WAIT), and a margin.
pub const LISTEN_GRACE_NS: u64 = 130_000_000_000;

const _: () = assert!(size_of::<FourTuple>() == 36 && align_of::<FourTuple>() == 2);
const _: () = assert!(size_of::<Connection>() == 16);
