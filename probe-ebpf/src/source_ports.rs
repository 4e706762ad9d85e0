//! The source ports that a peer was seen to use towards one service.

use bytemuck::{Pod, Zeroable};

use crate::account::PeerKey;

/// The ports of all sockets were filled in before.
pub const FILLED_IN: u32 = u32::MAX;

/// Bytes of the bitmap: one bit per port.
pub const PORT_BYTES: usize = 8_192;

/// Ports are recorded in one of two sets of a peer, while the agent takes and empties the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PortSetKey {
    /// Whose.
    pub peer: PeerKey,
    /// 0 or 1.
    pub set: u32,
    /// Always 0.
    pub zero: u32,
}

impl PortSetKey {
    /// One of both sets of a peer.
    #[must_use]
    pub fn new(peer: PeerKey, set: u32) -> Self {
        Self { peer, set, zero: 0 }
    }
}

/// A set of ports.
///
/// The kernel side sets bits without a lock. Two CPUs that set two bits of one byte at the same moment may lose one of them;
/// the next census that fills in, or the next use of the port, brings it back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PortSet {
    /// Bit `port % 8` of byte `port / 8`.
    pub bits: [u8; PORT_BYTES],
    /// The census that filled in the ports of all sockets there are; 0: the next one is to; [`FILLED_IN`]: one did, in an earlier set.
    pub filled_in: u32,
    /// Always 0.
    pub zero: u32,
}

impl PortSet {
    /// Adds a port.
    pub fn insert(&mut self, port: u16) {
        self.bits[usize::from(port >> 3)] |= 1 << (port & 7);
    }

    /// Whether a port is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.bits[usize::from(port >> 3)] & (1 << (port & 7)) != 0
    }
}

const _: () = assert!(size_of::<PortSetKey>() == 32 && align_of::<PortSetKey>() == 8);
const _: () = assert!(size_of::<PortSet>() == 8_200 && align_of::<PortSet>() == 4);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortSet {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortSetKey {}
