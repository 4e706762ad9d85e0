//! The host at a glance.

use maud::{Markup, html};

use super::{alerts, link, number, roughly};
use crate::{
    api::{Account, Overview},
    model::visible,
    serve::{View, api},
};

/// What stands in the page.
pub(super) fn body(view: &View, telemetry_path: &str) -> Markup {
    let overview = Overview::from(&*view.snapshot);
    let mut accounts = api::all_accounts(view);
    accounts.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal));
    html! {
        h2 { "Alerts" }
        (alerts(view, |_| true))
        h2 { "Peers" }
        (peers(&accounts))
        h2 { "This host" }
        (host(&overview))
        h2 { "This agent" }
        (agent(&overview))
        footer {
            a href=(telemetry_path) { "metrics" } " · "
            @for (path, name) in [
                ("overview", "overview"), ("peers", "peers"), ("alerts", "alerts"), ("events", "events"), ("names", "watched names"),
                ("failovers", "failovers"),
            ] { a href=(format!("/api/v1/{path}")) { (name) } " · " }
            a href="/healthz" { "health" } " · " a href="/readyz" { "readiness" }
        }
    }
}

/// What is worse comes first: alerts, then full pools, then many sockets.
fn rank(account: &Account) -> (usize, f64, u32) {
    let used = account.pool.as_ref().and_then(|pool| pool.used_ratio).unwrap_or_default();
    (account.alerts.len(), used, account.sockets.values().sum())
}

fn peers(accounts: &[Account]) -> Markup {
    html! {
        table {
            tr {
                th { "Peer" } th.n { "Port" } th { "Direction" } th { "Pool used" } th.n { "Runs out in" } th.n { "TIME_WAIT" } th.n { "Open" }
                th.n { "Per second" } th.n.extra { "SYNs repeated" } th.n.extra { "SYNs refused" } th.extra { "Pool" }
            }
            @for account in accounts {
                tr.alerted[!account.alerts.is_empty()] {
                    td {
                        @match link(account) {
                            Some(link) => a href=(link) { (visible(&account.peer)) },
                            None => "everyone else",
                        }
                    }
                    td.n { @if let Some(port) = account.port { (port) } }
                    td { (account.direction) }
                    (used(account))
                    td.n { (number(account.sockets.get("time_wait").copied().unwrap_or_default())) }
                    td.n { (number(account.sockets.get("established").copied().unwrap_or_default())) }
                    td.n { (format!("{:.1}", account.connections_per_second)) }
                    td.n.extra { (number(account.syn_retries)) }
                    td.n.extra { @match account.time_wait_syns { Some(syns) => (number(syns.refused)), None => "unknown" } }
                    td.extra { (super::peer::ranges(account)) }
                }
            }
        }
    }
}

/// How full its pool is, and how soon it will be.
fn used(account: &Account) -> Markup {
    let Some((pool, ratio)) = account.pool.as_ref().and_then(|pool| Some((pool, pool.used_ratio?))) else {
        return html! { td { } td { } };
    };
    html! {
        td {
            meter min="0" max="1" low="0.8" high="0.95" optimum="0" value=(format!("{ratio:.4}")) {}
            " " (format!("{:.0} %", ratio * 100.0))
        }
        td.n { @if let Some(left) = pool.seconds_left { (roughly(left)) } }
    }
}

fn host(overview: &Overview) -> Markup {
    let host = &overview.host;
    html! {
        dl {
            dt { "TIME_WAIT buckets" }
            dd { (number(host.time_wait_buckets)) @if let Some(limit) = host.time_wait_buckets_limit { " of " (number(limit)) } }
            dt { "Accept queues full" } dd { (number(host.listen_overflows)) " times since boot" }
            @for (state, sockets) in host.sockets.iter().filter(|(_, sockets)| **sockets > 0) {
                dt { (state) } dd { (number(*sockets)) }
            }
        }
        @if !host.listeners.is_empty() {
            table {
                tr { th.n { "Listening on" } th { "Accept queue" } th.n { "Waiting" } th.n { "Of" } }
                @for listener in &host.listeners {
                    tr {
                        td.n { (listener.port) }
                        td { meter min="0" max=(listener.limit.max(1)) value=(listener.waiting) {} }
                        td.n { (number(listener.waiting)) }
                        td.n { (number(listener.limit)) }
                    }
                }
            }
        }
    }
}

fn agent(overview: &Overview) -> Markup {
    let agent = &overview.agent;
    let share = agent.cpu_seconds / (overview.time - agent.started).max(1.0) * 100.0;
    html! {
        dl {
            dt { "Version" } dd { (agent.version) }
            dt { "Runs since" } dd { (roughly(overview.time - agent.started)) }
            dt { "Accounts" } dd { (number(agent.peers as u64)) }
            dt { "Census" } dd {
                "every " (format!("{:.0}", agent.census_interval_seconds)) " s, " (format!("{:.1}", agent.census_seconds * 1e3))
                " ms of CPU time, " (agent.census_drift) " mini-sockets off the kernel's own count"
            }
            dt { "CPU" } dd { (format!("{share:.2}")) " % of a core" }
            dt { "Memory" } dd { (format!("{:.1}", agent.resident_bytes as f64 / 1_048_576.0)) " MiB" }
            @if !agent.config_reloaded { dt { "Configuration" } dd.bad { "the last one given was refused" } }
            @if let Some(why) = &agent.history_trouble { dt { "History" } dd.bad { "in memory only: " (visible(why)) } }
            @if !agent.unavailable.is_empty() { dt { "Unavailable" } dd.bad { (agent.unavailable.join(", ")) } }
            @for lost in &agent.lost { dt { "No room in " (lost.map) } dd.bad { (number(lost.events)) " events" } }
        }
    }
}
