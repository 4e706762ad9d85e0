//! An alert that is raised.

use serde::{Deserialize, Serialize};

use crate::alert::{self, advice, summary};

/// An alert that is raised. What does not apply is empty or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Which.
    pub alert: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// Since when.
    pub since: u64,
    /// Whether receivers are told; not while a silence holds.
    pub announced: bool,
    /// The peer it is about.
    pub peer: String,
    /// The port it is about.
    pub port: Option<u16>,
    /// `inbound`, `outbound` or nothing.
    pub direction: String,
    /// The watched name it is about.
    pub name: String,
    /// What it means, in a few words.
    pub summary: String,
    /// What was found, with its numbers.
    pub text: String,
    /// What to do.
    pub advice: String,
    /// Path of its page on this agent.
    pub runbook: String,
    /// What the value measures, as its threshold is named in the configuration.
    pub measure: String,
    /// The value.
    pub value: f64,
    /// The threshold it passed.
    pub limit: f64,
    /// When nothing will be left, where that is foreseen.
    pub exhausted_at: Option<u64>,
    /// Peers that the same alert is raised for.
    pub touched_peers: usize,
    /// Services of ours that the same alert is raised for.
    pub touched_ports: Vec<u16>,
}

impl From<&alert::Alert> for Alert {
    fn from(alert: &alert::Alert) -> Self {
        let [(_, peer), _, (_, direction), (_, name)] = alert.subject.labels();
        Self {
            alert: alert.name.name().to_owned(),
            severity: alert.severity.name().to_owned(),
            since: alert.since,
            announced: alert.announced,
            peer,
            port: alert.subject.port(),
            direction,
            name,
            summary: summary(alert.name).to_owned(),
            text: alert.text.clone(),
            advice: advice(alert.name).to_owned(),
            runbook: format!("/runbooks/{}", alert.name),
            measure: alert.figure.measure.to_owned(),
            value: alert.figure.value,
            limit: alert.figure.limit,
            exhausted_at: alert.exhausted_at,
            touched_peers: alert.reach.peers,
            touched_ports: alert.reach.ports.clone(),
        }
    }
}
