//! Plays whose every event is counted, on a kernel that now and then does not run a program.
//!
//! Seen on 6.18 with a trace of the same tracepoint as a witness: of 284 events it saw all, a typed program 281; the three missing
//! ones lay in one softirq, and the kernel's `recursion_misses` stayed 0 (task switches were missing from the trace around
//! that time, too). So a play in which the agent tells a few events less than the wire, and in nothing more, is void and played
//! again. More events than the wire, or many less, are wrong.

use crate::agent::Metrics;

/// How often a play may be void.
const PLAYS: u32 = 5;

/// As many events may be missing from a void play, in one figure.
pub(crate) const FEW: u64 = 6;

/// How a play ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Every figure is right.
    Right(T),
    /// A few events were not seen.
    Void(String),
}

/// Plays until a play is right.
pub fn until_right<T>(mut play: impl FnMut() -> Outcome<T>) -> T {
    let mut reasons = Vec::new();
    for _ in 0..PLAYS {
        match play() {
            Outcome::Right(result) => return result,
            Outcome::Void(reason) => reasons.push(reason),
        }
    }
    panic!("{PLAYS} plays were void: {}", reasons.join("\n"));
}

/// Whether the figures `(told, on the wire)` differ by a few unseen events, and not otherwise.
#[must_use]
pub fn lacks_a_few(figures: impl IntoIterator<Item = (u64, u64)>) -> bool {
    figures.into_iter().all(|(told, wire)| told <= wire && wire - told <= FEW)
}

/// Whether what the figures `(told, on the wire)` lack is no more than the runs that the kernel left out and the agent tells of. On 7.2,
/// emulated, these were 33 in two thousand connections; on 6.18 there are none.
#[must_use]
pub fn lacks_what_was_missed(figures: impl IntoIterator<Item = (u64, u64)>, metrics: &Metrics) -> bool {
    let missed = metrics.sum_of("probe_missed_runs_total");
    figures.into_iter().all(|(told, wire)| told <= wire && wire - told <= missed)
}
