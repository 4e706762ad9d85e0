//! Reading who calls which destination, and who keeps sockets that they should close.

use anyhow::Context as _;
use probe_ebpf::caller::{CallerKey, OwnerKey};

use super::Probe;

impl Probe {
    /// Hands every caller known to `each`, with the time of its last connect(), monotonic, in nanoseconds.
    pub fn for_each_caller(&mut self, mut each: impl FnMut(&CallerKey, u64)) -> anyhow::Result<()> {
        self.callers
            .for_each(|key, &last_ns| each(key, last_ns))
            .context("cannot read who calls which destination")
    }

    /// Walks all files of all processes with the iterator loaded by [`Self::load_owners`]; returns who keeps sockets in CLOSE_WAIT, and
    /// how many. A process of another PID namespace than ours is seen only from the first of them.
    pub fn owners_of_close_waits(&mut self) -> anyhow::Result<Vec<(OwnerKey, u64)>> {
        for (key, _) in self.owners()? {
            self.owners.remove(&key).context("cannot forget who owned sockets")?;
        }
        self.run_iterator("owners").context("cannot walk the files of all processes")?;
        self.owners()
    }

    /// What the last walk found.
    fn owners(&mut self) -> anyhow::Result<Vec<(OwnerKey, u64)>> {
        let mut owners = Vec::new();
        self.owners
            .for_each(|key, &sockets| owners.push((*key, sockets)))
            .context("cannot read who owns sockets")?;
        Ok(owners)
    }
}
