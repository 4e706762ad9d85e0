//! Who keeps the sockets that should be closed. Walking all files of all processes is not free, so it is done only while an alert about
//! them is raised, or about to be.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    model::{CloseWaits, readable},
    probe::Probe,
};

/// Time between two walks.
const PERIOD: Duration = Duration::from_secs(5);

/// What the last walk found.
pub(super) struct Owners {
    /// Why this kernel cannot tell, if so.
    loaded: Result<(), String>,
    walked_at: Option<Instant>,
    names: BTreeMap<u16, Vec<(Arc<str>, u64)>>,
}

impl Owners {
    /// Loads what it takes; without it, nobody is named.
    pub fn new(probe: &mut Probe) -> Self {
        Self { loaded: probe.load_owners(), walked_at: None, names: BTreeMap::new() }
    }

    /// Says why nobody will be named, if so.
    pub fn tell(&self) {
        if let Err(reason) = &self.loaded {
            log::info!("which process keeps sockets in CLOSE_WAIT cannot be told: {reason}");
        }
    }

    /// Adds the owners to the sockets of each port, if they are `wanted`.
    pub fn complete(&mut self, probe: &mut Probe, wanted: bool, close_waits: &mut BTreeMap<u16, CloseWaits>) {
        if self.loaded.is_err() || !wanted {
            self.names.clear();
            return;
        }
        if self.walked_at.is_none_or(|at| at.elapsed() >= PERIOD) {
            self.names.clear();
            self.walked_at = Some(Instant::now());
            match probe.owners_of_close_waits() {
                Ok(owners) => {
                    for (key, sockets) in owners {
                        let port = u16::try_from(key.port).unwrap_or_default();
                        self.names.entry(port).or_default().push((readable(key.name), sockets));
                    }
                }
                // Everything else is told without them.
                Err(error) => {
                    self.loaded = Err(format!("{error:#}"));
                    self.tell();
                }
            }
        }
        for (port, close_waits) in close_waits {
            close_waits.owners = self.names.get(port).cloned().unwrap_or_default();
        }
    }
}
