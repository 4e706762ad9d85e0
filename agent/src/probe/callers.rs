//! Reading who calls which destination.

use anyhow::Context as _;
use probe_ebpf::caller::CallerKey;

use super::Probe;

impl Probe {
    /// Hands every caller known to `each`, with the time of its last connect(), monotonic, in nanoseconds.
    pub fn for_each_caller(&mut self, mut each: impl FnMut(&CallerKey, u64)) -> anyhow::Result<()> {
        self.callers
            .for_each(|key, &last_ns| each(key, last_ns))
            .context("cannot read who calls which destination")
    }
}
