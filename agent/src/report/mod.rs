//! The write-up of an incident: from the past alone, for people who were not there. Pure: a past goes in, text comes out.
//!
//! [`Evidence`](evidence::Evidence) sums up the figures; [`judge`] holds each hypothesis against them, with what speaks for it and what
//! against; [`markdown`] and [`html`] put it in writing.

mod evidence;
mod html;
mod incident;
mod judge;
mod markdown;
mod settings;
mod timeline;
mod words;

use serde::Serialize;

use self::evidence::Evidence;
pub use self::{
    html::html,
    incident::latest_incident,
    judge::{Hypothesis, Verdict},
    markdown::markdown,
    settings::Setting,
    timeline::Entry,
};
use crate::model::past::{Past, Who};

/// A report, as it is written to JSON. Times are in seconds since the epoch.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The host it is about.
    pub host: String,
    /// The first second it looks at.
    pub from: u64,
    /// The second after the last.
    pub to: u64,
    /// What happened, why, and what to do.
    pub summary: [String; 3],
    /// Who was touched, the worst first.
    pub touched: Vec<Touched>,
    /// What happened when.
    pub timeline: Vec<Entry>,
    /// What may have been the cause: what the evidence supports first.
    pub hypotheses: Vec<Hypothesis>,
    /// The limits in force.
    pub settings: Vec<Setting>,
    /// What to do next.
    pub advice: Vec<String>,
    /// What could not be known, and why.
    pub unknown: Vec<String>,
}

/// A peer that was touched, by its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Touched {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// The alerts that were raised for it.
    pub alerts: Vec<String>,
    /// The ranges it drew its ports from, if they became known.
    pub ports: Option<String>,
    /// How many ports these are.
    pub pool_size: Option<u32>,
    /// The highest share that was taken of those that could come here, and when.
    pub highest_used_ratio: Option<(f64, u64)>,
    /// The fewest seconds left that were foreseen, and when.
    pub fewest_seconds_left: Option<(u32, u64)>,
    /// The most TIME_WAITs, and when.
    pub most_time_wait: (u32, u64),
    /// Connections established.
    pub connections: u64,
    /// The most per second, over ten seconds.
    pub most_per_second: f64,
    /// SYNs that TIME_WAIT refused.
    pub refused: u64,
    /// SYNs that met a connection still open here.
    pub challenged: u64,
    /// When the first was that TIME_WAIT refused.
    pub first_refused: Option<u64>,
    /// SYNs repeated.
    pub syn_retries: u64,
    /// Attempts of ours that failed.
    pub failed: u64,
    /// Connections aborted early.
    pub aborted_early: u64,
}

/// Writes up a past. `peer` narrows it to one peer, as it is spelled in labels.
#[must_use]
pub fn write(host: &str, past: &Past, peer: Option<&str>) -> Report {
    let evidence = Evidence::new(past, peer);
    let hypotheses = judge::judge(&evidence);
    Report {
        host: host.to_owned(),
        from: past.span.from,
        to: past.span.to,
        summary: words::summary(&evidence, &hypotheses),
        touched: evidence.touched(),
        timeline: timeline::timeline(&evidence),
        settings: settings::settings(&evidence, &hypotheses),
        advice: judge::advice(&hypotheses),
        unknown: evidence.unknown(),
        hypotheses,
    }
}

#[cfg(test)]
mod tests;
