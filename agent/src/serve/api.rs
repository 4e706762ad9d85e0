//! What a view has to say, as JSON; `docs/openapi.yaml` describes it.

use std::collections::HashMap;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::View;
use crate::{
    alert::Subject,
    api::{Account, Alert, Overview},
    model::{
        AccountId, Clocks, ExportedAccount,
        names::{Between, Failover, NameFigures, Part},
    },
};

/// What each answer holds, for programs that read it.
pub(super) async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], include_str!("../../../docs/openapi.yaml")).into_response()
}

/// How the host and the agent are.
pub(super) fn overview(view: &View) -> Value {
    json!(Overview::from(&*view.snapshot))
}

/// The alerts that are raised.
pub(super) fn alerts(view: &View) -> Value {
    json!(view.alerts.raised.iter().map(Alert::from).collect::<Vec<_>>())
}

/// The accounts with figures of their own, and what is left in two more.
pub(super) fn peers(view: &View) -> Value {
    json!(all_accounts(view))
}

/// All of them.
pub(super) fn all_accounts(view: &View) -> Vec<Account> {
    accounts(view, |_| true)
}

/// The accounts of one peer.
pub(super) fn accounts_of(view: &View, peer: &str) -> Vec<Account> {
    accounts(view, |account| account.who.as_ref().is_some_and(|(name, _)| name.to_string() == peer))
}

/// One of them.
pub(super) fn account(view: &View, id: &AccountId) -> Option<Account> {
    accounts(view, |account| account.id().as_ref() == Some(id)).pop()
}

fn accounts(view: &View, wanted: impl Fn(&ExportedAccount) -> bool) -> Vec<Account> {
    let mut alerts: HashMap<&AccountId, Vec<String>> = HashMap::new();
    for alert in &view.alerts.raised {
        if let Subject::Account(id) = &alert.subject {
            alerts.entry(id).or_default().push(alert.name.name().to_owned());
        }
    }
    let wanted = view.snapshot.accounts.iter().filter(|account| wanted(account));
    wanted
        .map(|account| {
            let alerts = account.id().and_then(|id| alerts.get(&id).cloned());
            Account::new(account, view.snapshot.tells, alerts.unwrap_or_default())
        })
        .collect()
}

/// The account that a path names, if it is shown.
pub(super) fn account_id(view: &View, peer: &str, direction: &str, port: u16) -> Option<AccountId> {
    let ids = view.snapshot.accounts.iter().filter_map(ExportedAccount::id);
    ids.into_iter()
        .find(|id| id.port == port && id.direction.name() == direction && id.peer.to_string() == peer)
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

/// Watched names, by name and port.
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

/// The last failovers, the oldest first.
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
