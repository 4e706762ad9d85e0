//! Hypotheses, each held against the evidence.
//!
//! Every one of them is always looked at, so that a report also says what it was not, and by which figures.

mod backend;
mod between;
mod closing;
mod early;
mod half_open;
mod limits;
mod pool;

use serde::Serialize;

use super::evidence::Evidence;

/// What the evidence says to a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is supported.
    Supported,
    /// It was so, but follows from one that is supported.
    Follows,
    /// The figures that would tell are not there.
    Unknown,
    /// The figures speak against it.
    Rejected,
}

impl Verdict {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Follows => "follows from another",
            Self::Unknown => "cannot be told",
            Self::Rejected => "rejected",
        }
    }
}

/// A hypothesis and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hypothesis {
    /// A word for programs.
    pub name: &'static str,
    /// What would be the case.
    pub statement: &'static str,
    /// What the evidence says.
    pub verdict: Verdict,
    /// The figures for it.
    pub supporting: Vec<String>,
    /// The figures against it.
    pub opposing: Vec<String>,
    /// What to do if it is so.
    #[serde(skip)]
    pub advice: &'static [&'static str],
    /// Hypotheses that would explain it.
    #[serde(skip)]
    explained_by: &'static [&'static str],
}

/// A hypothesis that is being looked at.
struct Case {
    name: &'static str,
    statement: &'static str,
    advice: &'static [&'static str],
    explained_by: &'static [&'static str],
    supporting: Vec<String>,
    opposing: Vec<String>,
}

impl Case {
    fn new(name: &'static str, statement: &'static str) -> Self {
        Self { name, statement, advice: &[], explained_by: &[], supporting: Vec::new(), opposing: Vec::new() }
    }

    /// Notes figures: for it where they support it, else against it.
    fn weigh(&mut self, supports: bool, figures: String) {
        if supports { &mut self.supporting } else { &mut self.opposing }.push(figures);
    }

    fn close(self, verdict: Verdict) -> Hypothesis {
        let Self { name, statement, advice, explained_by, supporting, opposing } = self;
        Hypothesis { name, statement, verdict, supporting, opposing, advice, explained_by }
    }

    /// Supported or rejected.
    fn decide(self, is_so: bool) -> Hypothesis {
        self.close(if is_so { Verdict::Supported } else { Verdict::Rejected })
    }
}

/// Holds every hypothesis against the evidence. What is supported comes first, and of that what explains more.
pub(super) fn judge(evidence: &Evidence<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = vec![
        pool::too_small(evidence),
        pool::ours_too_small(evidence),
        half_open::forgotten(evidence),
        backend::moved(evidence),
        backend::failed_over(evidence),
        backend::gone(evidence),
        backend::hangs(evidence),
        early::aborted(evidence),
        between::rewrites_or_drops(evidence),
        closing::client_does_not_close(evidence),
        closing::server_does_not_close(evidence),
        limits::queue_full(evidence),
        limits::buckets_full(evidence),
        between::loses_handshakes(evidence),
    ];
    let supported: Vec<&str> = hypotheses
        .iter()
        .filter(|hypothesis| hypothesis.verdict == Verdict::Supported)
        .map(|hypothesis| hypothesis.name)
        .collect();
    for hypothesis in &mut hypotheses {
        let is_explained = hypothesis.explained_by.iter().any(|name| supported.contains(name));
        if hypothesis.verdict == Verdict::Supported && is_explained {
            hypothesis.verdict = Verdict::Follows;
        }
    }
    // Those of one verdict stay in the order above: what explains the others before them.
    hypotheses.sort_by_key(|hypothesis| hypothesis.verdict);
    hypotheses
}

/// What to do about all that is supported.
pub(super) fn advice(hypotheses: &[Hypothesis]) -> Vec<String> {
    let supported = hypotheses.iter().filter(|hypothesis| hypothesis.verdict == Verdict::Supported);
    let mut advice: Vec<String> =
        supported.flat_map(|hypothesis| hypothesis.advice).map(|&advice| advice.to_owned()).collect();
    if advice.is_empty() {
        advice.push(
            "Nothing here needs doing. Write a report about a time when there was trouble (--since, --until), or look at what this agent \
             cannot see: the network beyond the peers, and the application."
                .to_owned(),
        );
    }
    advice
}
