//! One peer: its ports at a glance, and its figures over time.

use std::net::IpAddr;

use maud::{Markup, html};

use super::{alerts::alerts, fact, link_to, picture, roughly};
use crate::{
    alert::Subject,
    api::{Account, Pool, Turn},
    model::{
        AccountId, grouped,
        past::{Sample, Span},
        port_map::{PortMap, PortState},
    },
    plot,
    serve::{View, api},
    visible::visible,
};

/// Spans to choose from.
const SPANS: [(u64, &str); 4] =
    [(600, "10 minutes"), (3_600, "an hour"), (86_400, "a day"), (14 * 86_400, "two weeks")];

/// As many ranges of a pool are shown.
const SHOWN: usize = 4;

/// A smaller share would be written as 0 %.
const SHOWN_SHARE: f64 = 0.005;

/// What stands in the page.
pub(super) fn body(
    view: &View,
    id: &AccountId,
    span: Span,
    samples: &anyhow::Result<Vec<(u64, Sample)>>,
    ports: &anyhow::Result<(IpAddr, PortMap)>,
) -> Markup {
    let account = api::account(view, id);
    let subject = Subject::Account(id.clone());
    let bounds = account.as_ref().map(bounds).unwrap_or_default();
    html! {
        h1 { (visible(&id.peer.to_string())) " " small { (id.direction.name()) ", port " (id.port_name()) } }
        (alerts(view, Some(&subject)))
        div.columns {
            @match ports {
                Ok((address, map)) => (port_map(*address, map, &bounds)),
                Err(error) => p.quiet { "No map of its ports: " (visible(&format!("{error:#}"))) },
            }
            @if let Some(account) = &account {
                div {
                    (figures(account))
                    @if let Some(turn) = account.pool.as_ref().and_then(|pool| pool.turn.as_ref()) {
                        p.turn { "It " (turn.text) "." }
                    }
                }
            }
        }
        h2 { "Over time (UTC)" }
        p.spans {
            @for (seconds, name) in SPANS {
                @if seconds == span.seconds() - 1 { b { (name) } } @else { a href=(format!("{}?seconds={seconds}", link_to(id))) { (name) } } " "
            }
        }
        @match samples {
            Ok(samples) => (pictures(samples, span)),
            Err(error) => p.quiet { (visible(&format!("{error:#}"))) },
        }
    }
}

/// Where the ranges of its pool begin and end; of a pool in many pieces, nothing.
fn bounds(account: &Account) -> Vec<u16> {
    let ranges = account.pool.as_ref().map(|pool| &*pool.ranges).unwrap_or_default();
    let few = ranges.iter().filter(|_| ranges.len() <= SHOWN);
    few.flat_map(|range| [range.low, range.high]).collect()
}

fn figures(account: &Account) -> Markup {
    html! {
        dl {
            @if let Some(pool) = &account.pool {
                (fact("Pool", &html! { (ranges(pool)) @if let Some(source) = &pool.source { " " small { (source) } } }))
                @if let Some(size) = pool.size { (fact("Ports in it", &html! { (grouped(size)) })) }
                @if let Some(local) = pool.local_address.filter(|_| pool.local_addresses > 1) {
                    (fact("Fullest address of ours", &html! { (local) " " small { "of " (pool.local_addresses) } }))
                }
                @if let Some(ratio) = pool.used_ratio { (fact("Used", &html! { (format!("{:.1} %", ratio * 100.0)) })) }
                @let what = if pool.follows_returns() { "First SYN meets TIME_WAIT in" } else { "Runs out in" };
                (fact(what, &html! { @match pool.seconds_left { Some(left) => (roughly(left)), None if pool.is_withdrawn() => "not known", None => "not at this rate" } }))
                @if let Some(turn) = &pool.turn { (round(turn, pool.time_wait_per_second)) }
                @if let Some(circling) = &pool.circling {
                    (fact("Block gone round too fast", &html! {
                        (circling.block.low) "–" (circling.block.high) " " small { "in " (roughly(circling.round_seconds)) }
                    }))
                }
                @if let Some(outgrown) = &pool.outgrown {
                    (fact("Blocks outgrown", &html! {
                        @for block in &outgrown.blocks { (block.low) "–" (block.high) " " }
                        small { (outgrown.refused) " of " (outgrown.all_refused) " refused attempts of the last " (outgrown.seconds) " s" }
                        @if pool.circling.is_none() {
                            " " small { "; no forecast: the ports of the block are not seen to come in turn" }
                        }
                    }))
                }
            }
            (fact("Per second", &html! { (format!("{:.1}", account.connections_per_second)) }))
            (fact("Connections", &html! { (grouped(account.connections)) }))
            @for (state, sockets) in account.sockets.iter().filter(|(_, sockets)| **sockets > 0) {
                (fact(&state.to_uppercase(), &html! { (grouped(*sockets)) }))
            }
            @for (by, closes) in account.closes.iter().filter(|(_, closes)| **closes > 0) {
                (fact(&format!("Ended by {by}"), &html! { (grouped(*closes)) }))
            }
            (fact("SYNs repeated", &html! { (grouped(account.syn_retries)) }))
            @if let Some(syns) = account.time_wait_syns {
                (fact("SYNs TIME_WAIT accepted", &html! { (grouped(syns.accepted)) }))
                (fact("SYNs TIME_WAIT refused", &html! { (grouped(syns.refused)) }))
                @if syns.refused > 0 {
                    (fact("Refused, then connected", &html! { (grouped(syns.connected)) }))
                    (fact("Refused, waited 0.9 s or more", &html! { (grouped(syns.late)) }))
                    (fact("Refused, gave up", &html! { (grouped(syns.gave_up)) }))
                }
            }
            @if let Some(syns) = &account.challenged_syns {
                (fact("SYNs open connections refused", &html! { (grouped(syns.refused())) }))
            }
            @for (reason, failures) in account.connect_failures.iter().filter(|(_, failures)| **failures > 0) {
                (fact(&format!("Failed: {reason}"), &html! { (grouped(*failures)) }))
            }
            @if !account.processes.is_empty() { (fact("Called by", &html! { (visible(&account.processes.join(", "))) })) }
        }
    }
}

/// How the peer goes round its pool; `here` is how many of its ports go into TIME_WAIT here per second.
fn round(turn: &Turn, here: f64) -> Markup {
    html! {
        (fact("Ports handed out per second", &html! { (format!("{:.1}", turn.per_second)) " " small { (format!("{here:.1} here")) } }))
        (fact("Goes round in", &html! { (roughly(turn.round_seconds)) }))
        @if let Some(returning) = &turn.returning {
            (fact("Come back here", &html! {
                @if !returning.iter().any(|share| *share >= SHOWN_SHARE) { "none so far" }
                @for (rounds, share) in (1..).zip(returning).filter(|(_, share)| **share >= SHOWN_SHARE) {
                    (format!("{:.0} % ", share * 100.0)) small { "after " (rounds) @if rounds == 1 { " round " } @else { " rounds " } }
                }
            }))
        }
        @if let Some(ratio) = turn.expected_refused_ratio {
            (fact("SYNs expected to meet TIME_WAIT", &html! { (format!("{:.0} %", ratio * 100.0)) }))
        }
    }
}

/// The ranges of a pool.
pub(super) fn ranges(pool: &Pool) -> String {
    let ranges = pool.ranges.iter().take(SHOWN).map(|range| format!("{}–{}", range.low, range.high));
    let mut text = ranges.collect::<Vec<_>>().join(", ");
    if pool.ranges.len() > SHOWN {
        text += " and more";
    }
    text
}

fn port_map(address: IpAddr, map: &PortMap, bounds: &[u16]) -> Markup {
    html! {
        figure.ports {
            (picture(plot::ports(map, bounds)))
            figcaption {
                p.quiet { "All 65,536 ports of " (address) ", 256 in a row." }
                @for state in PortState::ALL.into_iter().filter(|&state| state != PortState::Elsewhere || map.count(state) > 0) {
                    span.key { i.(state.name()) {} (words(state)) " " b id=(format!("ports-{}", state.name())) { (grouped(map.count(state) as u64)) } } " "
                }
            }
        }
    }
}

fn words(state: PortState) -> &'static str {
    match state {
        PortState::Outside => "outside of the pool",
        PortState::Elsewhere => "of the pool, reaches other servers",
        PortState::Free => "free",
        PortState::Live => "live",
        PortState::TimeWait => "TIME_WAIT",
        PortState::Refused => "refused within a minute",
    }
}

fn pictures(samples: &[(u64, Sample)], span: Span) -> Markup {
    html! {
        @if samples.is_empty() { p.quiet { "Nothing is kept of this span." } }
        div.pictures { @for svg in plot::account(samples, span) { figure { (picture(svg)) } } }
    }
}
