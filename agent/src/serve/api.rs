//! What there is to say, as JSON: the findings that hold, and the last refused reuses.

use serde_json::{Value, json};

use crate::model::{Snapshot, findings::Finding, refusals::RefusedReuse};

/// `[{"finding", "peer", "port", "direction", "text"}]`
pub(super) fn findings(snapshot: &Snapshot) -> Value {
    let finding = |Finding { kind, account, text }: &Finding| {
        json!({
            "finding": kind.name(),
            "peer": account.peer.to_string(),
            "port": account.port,
            "direction": account.direction.name(),
            "text": text,
        })
    };
    snapshot.findings.iter().map(finding).collect()
}

/// `[{"event", "time", "peer", "peer_port", "address", "port", "end", "attempts", "retries", "waited_seconds", "answers"}]`, the oldest
/// first. `time` is in seconds since the epoch; `answers` counts the refused SYNs by how they were answered.
pub(super) fn events(snapshot: &Snapshot) -> Value {
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
    snapshot.refused_reuses.iter().map(event).collect()
}
