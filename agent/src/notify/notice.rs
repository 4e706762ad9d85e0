//! The words of a notice, the same for every receiver.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use super::outbox::Notice;
use crate::{
    alert::{Alert, advice, summary},
    config::Severity,
};

/// What every notice of this agent says of where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Labels that every alert carries, `instance` among them.
    pub labels: BTreeMap<String, String>,
    /// Under which URL people reach the agent, without a slash at its end.
    pub external_url: String,
}

/// One alert to be posted: a notice, with the severity under which it is known, and when it ended.
pub(super) type Posting<'a> = (&'a Notice, Severity, Option<u64>);

/// What to post for notices. A severity is a label, so an alert whose severity changed is another: the one before is over.
pub(super) fn postings(notices: &[Notice], unix: u64) -> Vec<Posting<'_>> {
    let both = notices.iter().flat_map(|notice| {
        let before = notice.severity_before.map(|severity| (notice, severity, Some(unix)));
        before.into_iter().chain([(notice, notice.alert.severity, notice.ended)])
    });
    both.collect()
}

/// What identifies an alert; a severity is part of it.
pub(super) fn labels(site: &Site, alert: &Alert, severity: Severity) -> BTreeMap<String, String> {
    let mut labels = site.labels.clone();
    labels.insert("alertname".to_owned(), alert.name.name().to_owned());
    labels.insert("severity".to_owned(), severity.name().to_owned());
    let subject = alert.subject.labels().into_iter().filter(|(_, value)| !value.is_empty());
    labels.extend(subject.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// What there is to say about it.
pub(super) fn annotations(site: &Site, notice: &Notice) -> BTreeMap<&'static str, String> {
    let alert = &notice.alert;
    let mut annotations = BTreeMap::from([
        ("summary", summary(alert.name).to_owned()),
        ("description", alert.text.clone()),
        ("advice", advice(alert.name).to_owned()),
        ("runbook_url", format!("{}/runbooks/{}", site.external_url, alert.name)),
    ]);
    let figure = alert.figure;
    if !figure.measure.is_empty() {
        annotations.insert("measure", figure.measure.to_owned());
        annotations.insert("value", shown(figure.value));
        annotations.insert("limit", shown(figure.limit));
    }
    if let Some(at) = alert.exhausted_at {
        annotations.insert("exhausted_at", rfc3339(at));
    }
    let reach = &alert.reach;
    if reach.peers > 0 {
        annotations.insert("touched_peers", reach.peers.to_string());
    }
    if !reach.ports.is_empty() {
        let ports: Vec<String> = reach.ports.iter().map(u16::to_string).collect();
        annotations.insert("touched_ports", ports.join(","));
    }
    annotations
}

/// Where the alert was made.
pub(super) fn generator_url(site: &Site) -> String {
    format!("{}/api/v1/alerts", site.external_url)
}

/// Seconds since the epoch as people and Alertmanager write them.
pub(super) fn rfc3339(unix: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix)).to_string()
}

/// At most three digits behind the point.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
