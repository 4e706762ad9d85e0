//! What there is to say, as JSON: the alerts that are raised, the last refused reuses, watched names, and failovers.

use serde_json::{Value, json};

use super::View;
use crate::{
    alert::{self, Alert},
    model::{
        names::{Between, Failover, NameFigures, Part},
        refusals::{Clocks, RefusedReuse},
    },
};

/// `[{"alert", "severity", "since", "announced", "peer", "port", "direction", "name", "summary", "text", "advice", "runbook", "measure", "value",
/// "limit", "exhausted_at", "touched_peers", "touched_ports"}]`, those that are raised. Times are in seconds since the epoch; what does not
/// apply is empty or null.
pub(super) fn alerts(view: &View) -> Value {
    let alert = |alert: &Alert| {
        let [(_, peer), (_, port), (_, direction), (_, name)] = alert.subject.labels();
        json!({
            "alert": alert.name.name(),
            "severity": alert.severity.name(),
            "since": alert.since,
            "announced": alert.announced,
            "peer": peer,
            "port": port.parse::<u16>().ok(),
            "direction": direction,
            "name": name,
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

/// A monotonic time as seconds since the epoch, to the millisecond: two clocks are compared anew each time.
fn time(clocks: Clocks, ns: u64) -> f64 {
    (clocks.unix_seconds_of(ns) * 1e3).round() / 1e3
}

/// `{"time", "earliest", "latest"}`
fn between(clocks: Clocks, when: &Between) -> Value {
    json!({
        "time": time(clocks, when.middle_ns()),
        "earliest": when.earliest_ns.map(|earliest| time(clocks, earliest)),
        "latest": time(clocks, when.latest_ns),
    })
}

/// `[{"name", "port", "every_seconds", "listed", "stale_connections", "last", "addresses", "changes"}]`, by name and port. `last` is `{"time",
/// "outcome", "why"}` of the last lookup; `addresses` are `{"address", "standing", "came", "left", "connections", "last_call", "processes"}`,
/// `changes` are `{"address", "came", "when"}`. Times are in seconds since the epoch; when something changed is told by the middle, the
/// earliest and the latest moment at which it may have. What is not known is null.
pub(super) fn names(view: &View) -> Value {
    let clocks = view.snapshot.taken;
    let name = |figures: &NameFigures| {
        let addresses = figures.addresses.iter().map(|address| {
            json!({
                "address": address.address,
                "standing": address.standing.name(),
                "came": between(clocks, &address.came),
                "left": address.left.as_ref().map(|left| between(clocks, left)),
                "connections": address.connections,
                "last_call": (address.called_ns > 0).then(|| time(clocks, address.called_ns)),
                "processes": address.processes.iter().map(|name| &**name).collect::<Vec<_>>(),
            })
        });
        let changes = figures.changes.iter().map(|change| {
            json!({"address": change.address, "came": change.came, "when": between(clocks, &change.when)})
        });
        let last = figures.last.as_ref().map(
            |(at, outcome, why)| json!({"time": time(clocks, *at), "outcome": outcome.name(), "why": why}),
        );
        json!({
            "name": &*figures.id.name,
            "port": figures.id.port,
            "every_seconds": figures.every.as_secs_f64(),
            "listed": figures.listed,
            "stale_connections": figures.stale_connections(),
            "last": last,
            "addresses": addresses.collect::<Vec<_>>(),
            "changes": changes.collect::<Vec<_>>(),
        })
    };
    view.snapshot.names.iter().map(name).collect()
}

/// `[{"name", "port", "old", "new", "last_success_old", "first_failure", "dns_changed", "first_success_new", "unnoticed_seconds",
/// "dns_seconds", "reconnect_seconds", "outage_seconds"}]`, the oldest first. Times as of [`names`].
pub(super) fn failovers(view: &View) -> Value {
    let clocks = view.snapshot.taken;
    let failover = |failover: &Failover| {
        let seconds = |part| failover.part_ns(part).map(|ns| ns as f64 / 1e9);
        json!({
            "name": &*failover.name,
            "port": failover.port,
            "old": failover.old,
            "new": failover.new,
            "last_success_old": failover.last_success_ns.map(|ns| time(clocks, ns)),
            "first_failure": time(clocks, failover.first_failure_ns),
            "dns_changed": failover.dns_changed.as_ref().map(|changed| between(clocks, changed)),
            "first_success_new": time(clocks, failover.first_success_ns),
            "unnoticed_seconds": seconds(Part::Unnoticed),
            "dns_seconds": seconds(Part::Dns),
            "reconnect_seconds": seconds(Part::Reconnect),
            "outage_seconds": seconds(Part::Outage),
        })
    };
    view.snapshot.failovers.iter().map(failover).collect()
}
