//! The host at a glance.

use maud::{Markup, html};

use super::{alerts::alerts, fact, link, roughly};
use crate::{
    api::{Account, Overview},
    model::{PortName, grouped},
    serve::{View, api},
    visible::visible,
};

/// As many rows of a table are shown: a page that is loaded again every few seconds has to stay small.
const ROWS: usize = 200;

/// What stands in the page.
pub(super) fn body(view: &View, telemetry_path: &str) -> Markup {
    let overview = Overview::from(&*view.snapshot);
    let mut accounts = api::all_accounts(view);
    accounts.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal));
    html! {
        (alerts(view, None))
        h2 { "Peers" }
        (peers(&accounts))
        h2 { "This host" }
        (host(&overview))
        h2 { "This agent" }
        (agent(&overview))
        footer {
            a href=(telemetry_path) { "Metrics" } " "
            @for (path, name) in [
                ("events", "Events"), ("names", "Watched names"), ("failovers", "Failovers"), ("openapi.yaml", "API"),
            ] { a href=(format!("/api/v1/{path}")) { (name) } " " }
            a href="/healthz" { "Health" } " " a href="/readyz" { "Readiness" }
        }
    }
}

/// What is worse comes first: alerts, then full pools, then many sockets. Everyone else comes last.
fn rank(account: &Account) -> (bool, usize, f64, u32) {
    let used = account.pool.as_ref().and_then(|pool| pool.used_ratio).unwrap_or_default();
    (account.port.is_some(), account.alerts.len(), used, account.sockets.values().sum())
}

fn peers(accounts: &[Account]) -> Markup {
    html! {
        table #peers {
            thead {
                tr {
                    th { "Peer" } th { "Pool used" } th.n { "Runs out in" } th.n { "TIME_WAIT" } th.n.wide { "Open" } th.n.wide { "Per second" }
                    th.n.wide { "SYNs repeated" } th.n.wide { "SYNs refused" } th.wide { "Pool" }
                }
            }
            tbody {
                @for account in accounts.iter().take(ROWS) { (row(account)) }
            }
        }
        @if accounts.len() > ROWS {
            p.quiet { "And " (grouped((accounts.len() - ROWS) as u64)) " more; " a href="/api/v1/peers" { "/api/v1/peers" } " has them all." }
        }
    }
}

fn row(account: &Account) -> Markup {
    let state = |name| grouped(account.sockets.get(name).copied().unwrap_or_default());
    html! {
        tr.alerted[!account.alerts.is_empty()] {
            td {
                @match account.port {
                    Some(port) => {
                        a href=(link(&account.peer, &account.direction, port)) { (visible(&account.peer)) }
                        " " small { (account.direction) " " (PortName::new(port, &account.direction)) }
                    }
                    None => { "Everyone else " small { (account.direction) } }
                }
            }
            (used(account))
            td.n { (state("time_wait")) }
            td.n.wide { (state("established")) }
            td.n.wide { (format!("{:.1}", account.connections_per_second)) }
            td.n.wide { (grouped(account.syn_retries)) }
            td.n.wide { @match account.time_wait_syns { Some(syns) => (grouped(syns.refused)), None => "unknown" } }
            td.wide { @if let Some(pool) = &account.pool { (super::peer::ranges(pool)) } }
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
            @for (state, sockets) in host.sockets.iter().filter(|(_, sockets)| **sockets > 0) {
                (fact(&state.to_uppercase(), &html! { (grouped(*sockets)) }))
            }
            (fact("TIME_WAIT buckets", &html! {
                (grouped(host.time_wait_buckets)) @if let Some(limit) = host.time_wait_buckets_limit { " of " (grouped(limit)) }
            }))
            (fact("Accept queues full", &html! { (grouped(host.listen_overflows)) " times since boot" }))
        }
        @if !host.listeners.is_empty() {
            table {
                thead { tr { th.n { "Listening on" } th { "Accept queue" } th.n { "Waiting" } th.n { "Of" } } }
                tbody {
                    @for listener in host.listeners.iter().take(ROWS) {
                        tr {
                            td.n { (listener.port) }
                            td { meter min="0" max=(listener.holds()) value=(listener.waiting) {} }
                            td.n { (grouped(listener.waiting)) }
                            td.n { (grouped(listener.holds())) }
                        }
                    }
                }
            }
        }
    }
}

fn agent(overview: &Overview) -> Markup {
    let agent = &overview.agent;
    let age = overview.time - agent.started;
    let share = agent.cpu_seconds / age.max(1.0) * 100.0;
    html! {
        dl {
            (fact("Version", &html! { (agent.version) }))
            (fact("Has run for", &html! { (roughly(age)) }))
            (fact("Accounts", &html! { (grouped(agent.peers as u64)) }))
            (fact("Sockets counted", &html! { "every " (format!("{:.0}", agent.census_interval_seconds)) " s" }))
            (fact("CPU time of a count", &html! { (format!("{:.1}", agent.census_seconds * 1e3)) " ms" }))
            (fact("Off the kernel's count", &html! { (agent.census_drift) }))
            (fact("CPU", &html! { (format!("{share:.2}")) " % of a core" }))
            (fact("Memory", &html! { (format!("{:.1}", agent.resident_bytes as f64 / 1_048_576.0)) " MiB" }))
        }
        @if !agent.config_reloaded { p.bad { "Reload failed; the previous configuration stays active." } }
        @if let Some(why) = &agent.history_trouble { p.bad { "The history is in memory only: " (visible(why)) } }
        @if !agent.unavailable.is_empty() { p.bad { "This kernel does not have: " (agent.unavailable.join(", ")) } }
        // The list of the last events is cut short by intention.
        @for lost in agent.lost.iter().filter(|lost| lost.map != "events") { p.bad { (grouped(lost.events)) " events dropped: " (lost.map) " is full." } }
    }
}
