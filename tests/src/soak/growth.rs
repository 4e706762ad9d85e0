//! What the agent holds, over time: memory, files, threads, accounts.

use std::fs;

use crate::agent::{Agent, Metrics};

/// What is sampled after each fault, and by how much it may grow from the first round of faults to the last: an allocator keeps
/// a little of what it has seen, and a scrape may be under way.
const KINDS: [(&str, f64); 4] =
    [("own memory, KiB", 2_048.0), ("open files", 3.0), ("threads", 0.9), ("peers known", f64::INFINITY)];

/// Accounts there is room for, and one for the rest of each direction.
const MOST_PEERS: f64 = 128.0 + 1_024.0 + 2.0;

/// One kind of what it holds.
#[derive(Clone, Debug)]
pub struct Growth {
    /// What.
    pub kind: &'static str,
    /// The median of each round of faults, in order: what is held differs from fault to fault, so only rounds compare.
    pub medians: Vec<f64>,
    /// What the line through them rises by from its begin to its end.
    pub growth: f64,
    /// By how much it may rise.
    pub allowed: f64,
}

pub(super) struct Samples {
    pid: i32,
    samples: [Vec<f64>; KINDS.len()],
}

impl Samples {
    pub fn new(agent: &Agent<'_>) -> Self {
        Self { pid: agent.pid().as_raw_nonzero().get(), samples: Default::default() }
    }

    pub fn take(&mut self, metrics: &Metrics) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the agent runs");
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the agent runs").count();
        let peers = metrics.value("peers", &[]).expect("the agent tells it");
        let now = [field("RssAnon:"), files as f64, field("Threads:"), peers];
        for (samples, now) in self.samples.iter_mut().zip(now) {
            samples.push(now);
        }
    }

    /// What has a bound and was beyond it.
    pub fn out_of_bounds(&self) -> Option<String> {
        let most = self.samples[3].iter().copied().fold(0.0, f64::max);
        (most > MOST_PEERS).then(|| format!("{most} peers known, with room for {MOST_PEERS}"))
    }

    /// By what each grew, over rounds of so many faults.
    pub fn growth(&self, faults: usize) -> Vec<Growth> {
        let kinds = KINDS.into_iter().zip(&self.samples);
        kinds
            .map(|((kind, allowed), samples)| {
                let medians = medians(samples, faults);
                Growth { kind, growth: rise(&medians), medians, allowed }
            })
            .collect()
    }
}

/// The median of each round that is whole.
fn medians(samples: &[f64], round: usize) -> Vec<f64> {
    let median = |round: &[f64]| {
        let mut round = round.to_vec();
        round.sort_by(f64::total_cmp);
        round[round.len() / 2]
    };
    samples.chunks_exact(round).map(median).collect()
}

/// By how much the line of least squares through evenly spaced values rises from the first to the last.
fn rise(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (middle, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let places = || (0..values.len()).map(|place| place as f64 - middle);
    let spread: f64 = places().map(|place| place * place).sum();
    let together: f64 = places().zip(values).map(|(place, value)| place * (value - mean)).sum();
    if spread > 0.0 { together / spread * (count - 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rises_and_noise_does_not() {
        let leak: Vec<f64> = (0..60).map(|second| 100.0 + f64::from(second)).collect();
        assert!((rise(&medians(&leak, 10)) - 50.0).abs() < 1e-9);
        let noise: Vec<f64> = (0..60).map(|second| if second % 7 == 0 { 500.0 } else { 100.0 }).collect();
        assert!(rise(&medians(&noise, 10)).abs() < 1e-9);
        assert!(rise(&[]).abs() < 1e-9 && rise(&[3.0]).abs() < 1e-9);
    }
}
