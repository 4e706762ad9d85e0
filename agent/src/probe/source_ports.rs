//! Which peers' source ports are recorded, and reading them.

use anyhow::Context as _;
use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::PeerKey,
    source_ports::{FILLED_IN, PortSet, PortSetKey},
};

use super::{Probe, load::typed_array};

impl Probe {
    /// Begins to record a peer's source ports, or begins anew with none; the next census fills in those in use.
    ///
    /// # Errors
    /// When the map is full.
    pub fn record_source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<()> {
        for set in [0, 1] {
            self.source_ports
                .insert(&PortSetKey::new(*peer, set), &PortSet::zeroed())
                .with_context(|| format!("cannot record the source ports of {}", peer.address()))?;
        }
        Ok(())
    }

    /// Ceases to record a peer's source ports.
    pub fn forget_source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<()> {
        for set in [0, 1] {
            self.source_ports
                .remove(&PortSetKey::new(*peer, set))
                .with_context(|| format!("cannot forget the source ports of {}", peer.address()))?;
        }
        Ok(())
    }

    /// From now on all ports are recorded in the other sets, so that [`Self::take_source_ports`] gives those of the time until now.
    ///
    /// A program that runs this moment may still add a port to the set that is being taken, and it may be lost: it is seen when it is used
    /// again, as is one that two CPUs set at once.
    pub fn turn_source_ports(&mut self) -> anyhow::Result<()> {
        let other = 1 - self.recording;
        typed_array(&mut self.ebpf, "RECORDING")?
            .set(0, other, 0)
            .context("cannot turn to the other sets of source ports")?;
        self.recording = other;
        Ok(())
    }

    /// The source ports of a peer that were recorded until the last turn, since the one before; `None` if they are not recorded.
    /// They are then forgotten.
    pub fn take_source_ports(&mut self, peer: &PeerKey) -> anyhow::Result<Option<PortSet>> {
        let key = PortSetKey::new(*peer, 1 - self.recording);
        let Some(taken) = self.source_ports.get(&key)? else { return Ok(None) };
        let filled_in = if taken.filled_in == 0 { 0 } else { FILLED_IN };
        if taken != (PortSet { filled_in, ..PortSet::zeroed() }) {
            self.source_ports.insert(&key, &PortSet { filled_in, ..PortSet::zeroed() })?;
        }
        Ok(Some(taken))
    }
}
