//! What there is to say, as JSON: the alerts that are raised, and the last refused reuses.

use serde_json::{Value, json};

use super::View;
use crate::{
    alert::{self, Alert},
    model::refusals::RefusedReuse,
};

/// `[{"alert", "severity", "since", "announced", "peer", "port", "direction", "summary", "text", "advice", "runbook", "measure", "value",
/// "limit", "exhausted_at", "touched_peers", "touched_ports"}]`, those that are raised. Times are in seconds since the epoch; what does not
/// apply is empty or null.
pub(super) fn alerts(view: &View) -> Value {
    let alert = |alert: &Alert| {
        let [(_, peer), (_, port), (_, direction)] = alert.subject.labels();
        json!({
            "alert": alert.name.name(),
            "severity": alert.severity.name(),
            "since": alert.since,
            "announced": alert.announced,
            "peer": peer,
            "port": port.parse::<u16>().ok(),
            "direction": direction,
            "summary": alert::summary(alert.name),
            "text": alert.text,
            "advice": alert::advice(alert.name),
            "runbook": format!("/runbooks/{}", alert.name),
            "measure": alert.figure.measure,
            "value": alert.figure.value,
            "limit": alert.figure.limit,
            "exhausted_at": alert.exhausted_at,
            "touched_peers": alert.reach.peers,
            "touched_ports": alert.reach.ports,
        })
    };
    view.alerts.raised.iter().map(alert).collect()
}

/// `[{"event", "time", "peer", "peer_port", "address", "port", "end", "attempts", "retries", "waited_seconds", "answers"}]`, the oldest
/// first. `time` is in seconds since the epoch; `answers` counts the refused SYNs by how they were answered.
pub(super) fn events(view: &View) -> Value {
    let event = |reuse: &RefusedReuse| {
        let [ack, reset, none] = reuse.answers;
        json!({
            "event": "refused_reuse",
            "time": reuse.began,
            "peer": reuse.remote.0.to_string(),
            "peer_port": reuse.remote.1,
            "address": reuse.local.0.to_string(),
            "port": reuse.local.1,
            "end": reuse.end.name(),
            "attempts": reuse.attempts,
            "retries": reuse.retries,
            "waited_seconds": reuse.waited.as_secs_f64(),
            "answers": {"ack": ack, "reset": reset, "none": none},
        })
    };
    view.snapshot.refused_reuses.iter().map(event).collect()
}
