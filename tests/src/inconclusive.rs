//! Figures that lack events, each with a witness that the kernel did not let the agent see them.
//!
//! A scenario is not run again until it passes, and no figure has a tolerance: what an agent does not count is an error, unless a witness
//! in the same run tells of at least as many events that reached none of its programs, and some of the kind did. Each such figure is printed
//! and written to `target/inconclusive.json`. There are two witnesses: the kernel's own count of runs that it left out, of which more than
//! [`MOST`] in a run of the suite fail it, and a trace of the same tracepoints ([`crate::witness`]).

use std::{
    cell::Cell,
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::{agent::Metrics, suite::write_json, witness};

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

/// Holds counts against the truth.
///
/// # Errors
/// All that differ, unless a witness tells of as many events that no program was run for as each of them lacks.
pub fn compare(counts: impl IntoIterator<Item = Count>, metrics: &Metrics) -> Result<(), String> {
    let differing: Vec<Count> = counts.into_iter().filter(|count| count.told != count.truth).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let hidden = hidden_events();
    let missed = metrics.sum_of("probe_missed_runs_total");
    let text = |count: &Count| format!("{}: {} counted, {} happened", count.what, count.told, count.truth);
    let lack_at_most = |most: u64| {
        let is_witnessed =
            |count: &Count| 0 < count.told && count.told < count.truth && count.truth - count.told <= most;
        differing.iter().all(is_witnessed)
    };
    if !lack_at_most(hidden + missed) {
        let complaints: Vec<String> = differing.iter().map(text).collect();
        return Err(format!(
            "{}\n({hidden} events without a program, {missed} runs left out)",
            complaints.join("\n")
        ));
    }
    let explained = lack_at_most(hidden);
    for count in &differing {
        keep(text(count), format!("{hidden} events without a program, {missed} runs left out"), explained);
    }
    Ok(())
}
