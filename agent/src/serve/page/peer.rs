//! One peer: its ports at a glance, and its figures over time.

use std::net::IpAddr;

use maud::{Markup, html};

use super::{alerts, link, number, picture, roughly};
use crate::{
    alert::Subject,
    api::Account,
    model::{
        AccountId,
        past::{Field, Sample, Span},
        port_map::{PortMap, PortState},
        visible,
    },
    plot::{self, Line},
    serve::{View, api},
};

/// Spans to choose from.
const SPANS: [(u64, &str); 4] =
    [(600, "10 minutes"), (3_600, "an hour"), (86_400, "a day"), (14 * 86_400, "two weeks")];

/// What stands in the page.
pub(super) fn body(
    view: &View,
    id: &AccountId,
    span: Span,
    samples: &anyhow::Result<Vec<(u64, Sample)>>,
    ports: &anyhow::Result<(IpAddr, PortMap)>,
) -> Markup {
    let account = api::all_accounts(view).into_iter().find(|account| {
        account.port == Some(id.port)
            && account.direction == id.direction.name()
            && account.peer == id.peer.to_string()
    });
    let subject = Subject::Account(id.clone());
    html! {
        h1 { (visible(&id.peer.to_string())) " " small { (id.direction.name()) ", port " (id.port) } }
        (alerts(view, |alert| alert.subject == subject))
        @if let Some(account) = &account { (figures(account)) }
        h2 { "All 65,536 ports" }
        @match ports {
            Ok((address, map)) => (port_map(*address, map)),
            Err(error) => p.quiet { (visible(&format!("{error:#}"))) },
        }
        h2 { "Over time" }
        @if let Some(path) = account.as_ref().and_then(link) {
            p { @for (seconds, name) in SPANS { a href=(format!("{path}?seconds={seconds}")) { (name) } " " } }
        }
        @match samples {
            Ok(samples) => (pictures(samples, span)),
            Err(error) => p.quiet { (visible(&format!("{error:#}"))) },
        }
    }
}

fn figures(account: &Account) -> Markup {
    html! {
        dl {
            @if let Some(pool) = &account.pool {
                dt { "Pool" } dd { (ranges(account)) @if let Some(source) = &pool.source { " (" (source) ")" } }
                @if let Some(ratio) = pool.used_ratio { dt { "Used" } dd { (format!("{:.1} %", ratio * 100.0)) } }
                dt { "Runs out in" } dd { @match pool.seconds_left { Some(left) => (roughly(left)), None => "not at this rate" } }
            }
            dt { "Per second" } dd { (format!("{:.1}", account.connections_per_second)) }
            dt { "Connections" } dd { (number(account.connections)) }
            dt { "Ended by" } dd { @for (by, closes) in &account.closes { (by) " " (number(*closes)) " " } }
            dt { "SYNs repeated" } dd { (number(account.syn_retries)) }
            @if let Some(syns) = account.time_wait_syns {
                dt { "SYNs into TIME_WAIT" } dd { (number(syns.accepted)) " accepted, " (number(syns.refused)) " refused" }
            }
            @if account.connect_failures.values().any(|&failures| failures > 0) {
                dt { "Failed" } dd { @for (reason, failures) in &account.connect_failures { (reason) " " (number(*failures)) " " } }
            }
            @if !account.processes.is_empty() { dt { "Called by" } dd { (visible(&account.processes.join(", "))) } }
            @for (state, sockets) in account.sockets.iter().filter(|(_, sockets)| **sockets > 0) {
                dt { (state) } dd { (number(*sockets)) }
            }
        }
    }
}

/// The ranges of its pool.
pub(super) fn ranges(account: &Account) -> Markup {
    let Some(pool) = &account.pool else { return html! {} };
    let ranges: Vec<String> =
        pool.ranges.iter().take(4).map(|range| format!("{}–{}", range.low, range.high)).collect();
    html! {
        (ranges.join(", "))
        @if pool.ranges.len() > 4 { " and " (pool.ranges.len() - 4) " more" }
        @if let Some(size) = pool.size { " (" (number(size)) " ports)" }
    }
}

fn port_map(address: IpAddr, map: &PortMap) -> Markup {
    html! {
        figure.ports {
            (picture(plot::ports(map)))
            figcaption {
                "Ports of " (address) ", 256 in a row from 0 at the top left. "
                @for state in PortState::ALL {
                    span.key.(state.name()) {} (state.name()) " " b id=(format!("ports-{}", state.name())) { (number(map.count(state) as u64)) } " "
                }
            }
        }
    }
}

fn pictures(samples: &[(u64, Sample)], span: Span) -> Markup {
    let line = |name, value: fn(&Sample) -> u32| Line {
        name,
        points: samples.iter().map(|(time, sample)| (*time, f64::from(value(sample)))).collect(),
    };
    let pictures = [
        (
            "Ports",
            vec![
                line("TIME_WAIT", |sample| sample[Field::TimeWait]),
                line("taken", |sample| sample[Field::PortsTaken]),
                line("pool", |sample| sample[Field::PoolSize]),
            ],
        ),
        (
            "Connections, SYNs repeated, refused, and attempts failed",
            vec![
                line("connections", |sample| sample[Field::Connections]),
                line("repeated", |sample| sample[Field::SynRetries]),
                line("refused", Sample::refused),
                line("failed", Sample::failed),
            ],
        ),
        ("Open connections", vec![line("open", |sample| sample[Field::Established])]),
    ];
    html! {
        @if samples.is_empty() { p.quiet { "Nothing is kept of this span." } }
        @for (caption, lines) in pictures { figure { (picture(plot::lines(caption, span, &lines))) } }
    }
}
