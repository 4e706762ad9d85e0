//! The source ports that a peer was seen to use towards one service.

use bytemuck::{Pod, Zeroable};

/// Bytes of the bitmap: one bit per port.
pub const PORT_BYTES: usize = 8_192;

/// A set of ports.
///
/// The kernel side sets bits without a lock. Two CPUs that set two bits of one byte at the same moment may lose one of them;
/// the next census that fills in, or the next use of the port, brings it back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PortSet {
    /// Bit `port % 8` of byte `port / 8`.
    pub bits: [u8; PORT_BYTES],
    /// The census that filled in the ports of all sockets there are; 0: none yet.
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

const _: () = assert!(size_of::<PortSet>() == 8_200 && align_of::<PortSet>() == 4);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortSet {}
