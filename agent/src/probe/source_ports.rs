//! Which peers' source ports are recorded, and reading them.

use anyhow::Context as _;
use bytemuck::Zeroable as _;
use probe_ebpf::{account::PeerKey, source_ports::PortSet};

use super::Probe;

impl Probe {
    /// Begins to record a peer's source ports, or begins anew with none; the next census fills in those in use.
    ///
    /// # Errors
    /// When the map is full.
    pub fn record_source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<()> {
        self.source_ports
            .insert(peer, &PortSet::zeroed())
            .with_context(|| format!("cannot record the source ports of {}", peer.address()))
    }

    /// Ceases to record a peer's source ports.
    pub fn forget_source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<()> {
        self.source_ports
            .remove(peer)
            .with_context(|| format!("cannot forget the source ports of {}", peer.address()))
    }

    /// The source ports recorded since [`Self::record_source_ports`]; `None` if they are not.
    pub fn source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<Option<PortSet>> {
        Ok(self.source_ports.get(peer)?)
    }
}
