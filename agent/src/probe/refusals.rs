//! Reading the stories of refused SYNs.

use anyhow::Context as _;
use probe_ebpf::refusal::EndedRefusal;

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

    /// Shows the stories that have not ended in a connection to `has_given_up`, and takes those of which it says that they have ended. A SYN that
    /// comes between the look and the removal, microseconds later, is counted but no longer part of a story.
    pub fn take_given_up(
        &mut self,
        mut has_given_up: impl FnMut(&EndedRefusal) -> bool,
    ) -> anyhow::Result<Vec<EndedRefusal>> {
        let mut ended = Vec::new();
        self.refusals
            .for_each(|&attempt, &refusal| {
                let story = EndedRefusal { attempt, refusal };
                if has_given_up(&story) {
                    ended.push(story);
                }
            })
            .context("cannot read the refused SYNs")?;
        for EndedRefusal { attempt, .. } in &ended {
            self.refusals.remove(attempt).context("cannot forget a refused SYN")?;
        }
        Ok(ended)
    }
}
