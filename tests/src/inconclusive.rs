//! Figures that lack events, each with a witness that the kernel did not let the agent see them.
//!
//! A scenario is not run again until it passes, and no figure has a tolerance: what an agent does not count is an error, unless a witness
//! in the same run tells of at least as many events that reached none of its programs, and some of the kind did. An attempt whose last event
//! was among them ends as another kind than it did: what is counted too much must then lack elsewhere in the same comparison. Each such
//! figure is printed and written to `target/inconclusive.json`. There are two witnesses: the kernel's own count of runs that it left out, of
//! which more than [`MOST`] in a run of the suite fail it, and a trace of the same tracepoints ([`crate::witness`]).

use std::{
    cell::Cell,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::{
    agent::{Agent, Metrics},
    suite::write_json,
    within, witness,
};

/// So many figures may be inconclusive in a run of the whole suite.
const MOST: usize = 2;

static NOTED: Mutex<Vec<Inconclusive>> = Mutex::new(Vec::new());

thread_local! {
    static SCENARIO: Cell<(&'static str, Duration)> = const { Cell::new(("", Duration::ZERO)) };
}

#[derive(Debug, Serialize)]
struct Inconclusive {
    scenario: &'static str,
    figure: String,
    witness: String,
    /// Whether a trace saw the events that the agent lacks: then the figure is explained.
    explained: bool,
}

/// The current thread runs this scenario from now on.
pub fn begin(scenario: &'static str) {
    witness::start();
    SCENARIO.set((scenario, witness::now()));
}

/// Name of the scenario that this thread runs, if it runs one.
pub(crate) fn scenario() -> Option<&'static str> {
    let (scenario, _) = SCENARIO.get();
    (!scenario.is_empty()).then_some(scenario)
}

/// Events since the scenario of this thread began that no program was run for.
#[must_use]
pub fn hidden_events() -> u64 {
    let (_, begun) = SCENARIO.get();
    witness::events_since(begun)
}

/// Notes that a figure of the current scenario proves nothing, and by which witness.
pub fn note(figure: String, witness: String) {
    keep(figure, witness, false);
}

fn keep(figure: String, witness: String, explained: bool) {
    let (scenario, _) = SCENARIO.get();
    let word = if explained { "explained" } else { "inconclusive" };
    let _ = writeln!(std::io::stdout(), "{word}: {scenario}: {figure} (witness: {witness})");
    let inconclusive = Inconclusive { scenario, figure, witness, explained };
    NOTED.lock().unwrap_or_else(PoisonError::into_inner).push(inconclusive);
}

/// Writes the list, and ends the trace; whether the list is short enough.
#[must_use]
pub fn conclude() -> bool {
    witness::stop();
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    write_json("target/inconclusive.json", &*noted);
    let open = noted.iter().filter(|noted| !noted.explained).count();
    let _ = writeln!(
        std::io::stdout(),
        "{open} inconclusive figures, {MOST} allowed; {} explained by the trace",
        noted.len() - open
    );
    open <= MOST
}

/// A number of events: what the agent tells, and what the wire or the kernel counts.
#[derive(Clone, Debug)]
pub struct Count {
    /// What is counted.
    pub what: String,
    /// By the agent.
    pub told: u64,
    /// By something that is not our code.
    pub truth: u64,
}

/// Waits until the agent tells all that happened, and holds what it tells after `patience` against the truth. Returns whether nothing lacks.
///
/// # Panics
/// As [`compare`] complains.
pub fn hold(agent: &Agent<'_>, patience: Duration, counts: impl Fn(&Metrics) -> Vec<Count>) -> bool {
    let settled = within(patience, || {
        let metrics = agent.scrape();
        let counts = counts(&metrics);
        if counts.iter().all(|count| count.told == count.truth) { Ok(()) } else { Err((counts, metrics)) }
    });
    let Err((counts, metrics)) = settled else { return true };
    compare(counts, &metrics).unwrap_or_else(|complaint| panic!("{complaint}"));
    false
}

/// Holds counts against the truth.
///
/// # Errors
/// All that differ, unless a witness tells of as many events that no program was run for as each of them lacks, and what is counted too much
/// lacks elsewhere.
pub fn compare(counts: impl IntoIterator<Item = Count>, metrics: &Metrics) -> Result<(), String> {
    let differing: Vec<Count> = counts.into_iter().filter(|count| count.told != count.truth).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let hidden = hidden_events();
    let missed = metrics.sum_of("probe_missed_runs_total");
    let text = |count: &Count| format!("{}: {} counted, {} happened", count.what, count.told, count.truth);
    if !are_lost(&differing, hidden + missed) {
        let complaints: Vec<String> = differing.iter().map(text).collect();
        return Err(format!(
            "{}\n({hidden} events without a program, {missed} runs left out)",
            complaints.join("\n")
        ));
    }
    let explained = are_lost(&differing, hidden);
    for count in &differing {
        keep(text(count), format!("{hidden} events without a program, {missed} runs left out"), explained);
    }
    Ok(())
}

/// Whether so many events that no program was run for explain all of these differences.
fn are_lost(differing: &[Count], events: u64) -> bool {
    let lacking: u64 = differing.iter().map(|count| count.truth.saturating_sub(count.told)).sum();
    let surplus: u64 = differing.iter().map(|count| count.told.saturating_sub(count.truth)).sum();
    let is_explained = |count: &Count| count.told > 0 && count.truth.saturating_sub(count.told) <= events;
    surplus <= lacking.min(events) && differing.iter().all(is_explained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_needs_a_witness_and_what_is_too_much_must_lack_elsewhere() {
        let count = |told, truth| Count { what: String::new(), told, truth };
        assert!(are_lost(&[count(3, 4)], 1));
        assert!(!are_lost(&[count(2, 4)], 1), "fewer were left out than lack");
        assert!(!are_lost(&[count(0, 4)], 9), "none of the kind was counted");
        assert!(!are_lost(&[count(5, 4)], 9), "more than there were");
        assert!(are_lost(&[count(3, 4), count(1, 0)], 1), "one attempt ends as another kind");
        assert!(!are_lost(&[count(3, 4), count(2, 0)], 9));
        assert!(!are_lost(&[count(3, 4), count(1, 0)], 0));
    }
}
