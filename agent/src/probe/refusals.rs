//! Reading the stories of refused SYNs.

use anyhow::Context as _;
use probe_ebpf::refusal::{EndedRefusal, Refusal};

use super::Probe;

impl Probe {
    /// Takes the stories that ended in a connection since the last call.
    pub fn take_ended_refusals(&mut self, mut each: impl FnMut(&EndedRefusal)) {
        while let Some(item) = self.evidence.next() {
            if let Ok(ended) = bytemuck::try_pod_read_unaligned(&item) {
                each(&ended);
            }
        }
    }

    /// Takes the stories that `has_given_up` says have ended. A SYN that comes between the look and the removal, microseconds
    /// later, is counted but no longer part of a story.
    pub fn take_given_up(
        &mut self,
        has_given_up: impl Fn(&Refusal) -> bool,
    ) -> anyhow::Result<Vec<EndedRefusal>> {
        let mut ended = Vec::new();
        self.refusals
            .for_each(|&tuple, &refusal| {
                if has_given_up(&refusal) {
                    ended.push(EndedRefusal { tuple, refusal });
                }
            })
            .context("cannot read the refused SYNs")?;
        for EndedRefusal { tuple, .. } in &ended {
            self.refusals.remove(tuple).context("cannot forget a refused SYN")?;
        }
        Ok(ended)
    }
}
