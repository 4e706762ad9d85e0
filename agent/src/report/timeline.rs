//! What happened when.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    evidence::Evidence,
    words::{percent, stamp},
};
use crate::model::{
    grouped,
    past::{Event, Field, Happened},
};

/// As many entries make a timeline; of what happened more often, the rest is summed up.
const MOST: usize = 200;

/// A share of the pool whose first time is worth an entry.
const NEARLY: f64 = 0.8;

/// Something in a timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When.
    pub time: f64,
    /// What.
    pub text: String,
}

/// Everything that happened, the oldest first: events, and when figures first were what matters.
pub(super) fn timeline(evidence: &Evidence<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut refused: BTreeMap<String, (f64, f64, u64)> = BTreeMap::new();
    let mut pools = BTreeMap::new();
    for Happened { time, event } in &evidence.events {
        // It is told anew each day.
        if let Event::PoolKnown { who, ports, .. } = event
            && pools.insert((&who.peer, who.port, &who.direction), ports) == Some(ports)
        {
            continue;
        }
        if let Event::RefusedReuse(reuse) = event {
            let what = if reuse.was_open() { "attempt on a connection still open" } else { "refused reuse" };
            let (_, last, number) = refused
                .entry(format!("{what} of {} towards port {}", reuse.peer, reuse.port))
                .or_insert((*time, *time, 0));
            (*last, *number) = (*time, *number + 1);
        } else if let Some(text) = words(event) {
            entries.push(Entry { time: *time, text });
        }
    }
    for (who, (first, last, number)) in refused {
        let text = format!("first {who} on record ({} until {:.0} s later)", grouped(number), last - first);
        entries.push(Entry { time: first, text });
    }
    for account in &evidence.accounts {
        let (peer, port) = (&account.id.peer, account.id.port_name());
        let nearly = account.first(|sample| sample.used_ratio().is_some_and(|ratio| ratio >= NEARLY));
        if let Some(time) = nearly {
            let text = format!("{} of the pool of {peer} towards port {port} taken", percent(NEARLY));
            entries.push(Entry { time: time as f64, text });
        }
        if let Some(time) = account.first(|sample| sample.refused() > 0) {
            let text = format!("first sign: a SYN of {peer} to port {port} met a TIME_WAIT and was refused");
            entries.push(Entry { time: time as f64, text });
        }
        if let Some(time) = account.first(|sample| sample[Field::Challenged] > 0) {
            let text = format!(
                "first sign: a SYN of {peer} to port {port} met a connection that was still open and was refused"
            );
            entries.push(Entry { time: time as f64, text });
        }
        if let Some(time) = account.first(|sample| sample.failed() > 0) {
            let text = format!("first sign: an attempt of ours to connect to {peer} port {port} failed");
            entries.push(Entry { time: time as f64, text });
        }
        if let Some(time) = account.first(|sample| sample[Field::SynRetries] > 0) {
            let text = format!("first repeated SYN between {peer} and port {port}");
            entries.push(Entry { time: time as f64, text });
        }
    }
    entries.sort_by(|a, b| a.time.total_cmp(&b.time));
    if entries.len() > MOST {
        let more = entries.len() - MOST;
        entries.truncate(MOST);
        if let Some(last) = entries.last() {
            entries.push(Entry {
                time: last.time,
                text: format!("and {} more events until the end", grouped(more as u64)),
            });
        }
    }
    entries
}

/// An event in words; `None` for those that are told elsewhere.
fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::AgentStarted { version, .. } => format!("tcpwarden {version} began to watch"),
        Event::AgentStopped => "tcpwarden ceased to watch".to_owned(),
        Event::ConfigReloaded { successful: true } => "configuration of tcpwarden reloaded".to_owned(),
        Event::ConfigReloaded { successful: false } => {
            "a new configuration of tcpwarden was refused".to_owned()
        }
        Event::Settings { .. } | Event::RefusedReuse(_) => return None,
        Event::SettingChanged { name, before, after } => {
            let word =
                |value: &Option<u64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            format!("{name} changed from {} to {}", word(before), word(after))
        }
        Event::ListenerOpened { port } => format!("a program began to listen on port {port}"),
        Event::ListenerClosed { port } => format!("nobody listens on port {port} any more"),
        Event::ListenerRestarted { port } => format!("the program on port {port} was started anew"),
        Event::TrafficStep { who, before, after } => format!(
            "connections between {} and port {} ({}) went from {before:.0} to {after:.0} per second",
            who.peer,
            who.port_name(),
            who.direction
        ),
        Event::PoolKnown { who, ports, size, configured } => {
            let how = if *configured { "as configured" } else { "from its traffic" };
            format!(
                "ports of {} towards port {} known {how}: {ports} ({} ports)",
                who.peer,
                who.port,
                grouped(*size)
            )
        }
        Event::BlockOutgrown { who, text } => {
            format!("of {} towards port {}, {text}", who.peer, who.port)
        }
        Event::AlertRaised(alert) => format!("ALERT {} ({}): {}", alert.alert, alert.severity, alert.text),
        Event::AlertGoesOn(alert) => {
            format!(
                "alert {}{}, raised at {}, goes on ({}): {}",
                alert.alert,
                about(&alert.peer),
                stamp(alert.since),
                alert.severity,
                alert.text
            )
        }
        Event::AlertChanged(alert) => {
            format!("alert {} is now {}: {}", alert.alert, alert.severity, alert.text)
        }
        Event::AlertOver(alert) => format!("alert {} over{}", alert.alert, about(&alert.peer)),
        Event::Notices { receiver, outcome, notices } => {
            format!("{} notices to {receiver}: {outcome}", grouped(*notices))
        }
        Event::AddressChanged { name, address, came, .. } => {
            format!("{name} {} {address}", if *came { "began to list" } else { "ceased to list" })
        }
        Event::Failover(failover) => format!(
            "connections to {} moved from {} to {}; outage {}",
            failover.name,
            failover.old,
            failover.new,
            failover
                .outage_seconds
                .map_or_else(|| "of unknown length".to_owned(), |outage| format!("of {outage:.2} s"))
        ),
    })
}

fn about(peer: &str) -> String {
    if peer.is_empty() { String::new() } else { format!(" for {peer}") }
}
