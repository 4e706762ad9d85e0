//! What our programs cost. Their runs are counted exactly; how long a run takes is known while the kernel keeps statistics of it
//! (`kernel.bpf_stats_enabled`), which the administrator may switch on for as long as they like.

/// Cost of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    runs: u64,
    /// Runs that wait for a first sample to be charged.
    uncharged: u64,
    seconds: f64,
    ns_per_run: Option<f64>,
    /// The kernel's own figures when they were last read: runs and nanoseconds.
    sampled: (u64, u64),
}

impl Overhead {
    /// Takes the exact number of runs so far and the kernel's `(runs, nanoseconds)` of the time its statistics were on.
    pub fn update(&mut self, runs: u64, sampled: (u64, u64)) {
        let sampled_runs = sampled.0.saturating_sub(self.sampled.0);
        let sampled_ns = sampled.1.saturating_sub(self.sampled.1);
        self.sampled = sampled;
        if sampled_runs > 0 {
            self.ns_per_run = Some(sampled_ns as f64 / sampled_runs as f64);
        }
        self.uncharged += runs.saturating_sub(self.runs);
        self.runs = runs;
        if let Some(ns) = self.ns_per_run {
            self.seconds += self.uncharged as f64 * ns / 1e9;
            self.uncharged = 0;
        }
    }

    /// Seconds spent, as estimated; `None` until the kernel has timed a run.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        self.ns_per_run.map(|_| self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::Overhead;

    #[test]
    fn runs_before_the_first_sample_are_charged_once_it_is_there() {
        let mut overhead = Overhead::default();
        assert_eq!(overhead.seconds(), None);
        overhead.update(1_000, (0, 0));
        assert_eq!(overhead.seconds(), None);
        overhead.update(2_000, (10, 5_000));
        assert_eq!(overhead.seconds(), Some(2_000.0 * 500e-9));
    }

    #[test]
    fn later_runs_are_charged_at_the_latest_sample() {
        let mut overhead = Overhead::default();
        overhead.update(100, (100, 10_000));
        overhead.update(300, (200, 40_000));
        let expected = 100.0 * 100e-9 + 200.0 * 300e-9;
        assert!((overhead.seconds().expect("sampled") - expected).abs() < 1e-12);
    }
}
