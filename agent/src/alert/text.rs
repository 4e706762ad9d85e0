//! What there is to say about an alert: sentences that name the peer, the numbers and the remedy.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use super::{EphemeralFact, PoolFact};
use crate::{
    config::AlertName,
    model::{
        AccountId, CloseWaits, Destination, Direction, Events, QueueFigures,
        names::{NameTrouble, StaleAddress},
    },
};

/// What an alert is, in a few words, whatever it is about.
#[must_use]
pub fn summary(name: AlertName) -> &'static str {
    match name {
        AlertName::TimeWaitNearPoolLimit => "A peer's pool of source ports runs out",
        AlertName::PortReuseRefused => "New connections are refused by TIME_WAIT",
        AlertName::PoolDiffers => "A configured pool of source ports is not the real one",
        AlertName::EphemeralPortsNearLimit => "Our ports towards a destination run out",
        AlertName::StaleAddress => "An address is called that its name no longer lists",
        AlertName::BackendNotAnswering => "A destination answers none of our SYNs",
        AlertName::DependencyHanging => "Connections to a destination wait for an answer",
        AlertName::AbortedEarly => "Connections of a peer come to nothing",
        AlertName::SynRetriesHigh => "SYNs have to be repeated",
        AlertName::TimeWaitNearBucketLimit => "The host's TIME_WAITs come near their limit",
        AlertName::ListenQueueOverflow => "An accept queue is full",
        AlertName::CloseWaitGrowing => "Our program does not close connections that its peers closed",
        AlertName::NameNotResolving => "A watched name does not resolve, or slowly",
        AlertName::AgentDegraded => "tcpwarden cannot tell all it should",
    }
}

/// What to do about it.
#[must_use]
pub fn advice(name: AlertName) -> &'static str {
    match name {
        AlertName::TimeWaitNearPoolLimit => {
            "Let the client pool its connections, or close them on the client's side; else give its NAT more ports or addresses."
        }
        AlertName::PortReuseRefused => {
            "The peer reuses its source ports within 60 s of our close: let the client pool its connections, or close them on its side; \
             else give its NAT more ports or addresses. No kernel setting shortens TIME_WAIT."
        }
        AlertName::PoolDiffers => "Correct port_pool of this peer, or ask whoever runs its NAT.",
        AlertName::EphemeralPortsNearLimit => {
            "Keep connections to this destination open and reuse them; else widen net.ipv4.ip_local_port_range, set net.ipv4.tcp_tw_reuse = 1, \
             or call from several addresses."
        }
        AlertName::BackendNotAnswering => {
            "Is the address still that of the service (does its name list it)? Is the host up, and does a firewall drop our SYNs? Restart what \
             keeps an old address, or make it resolve the name again."
        }
        AlertName::DependencyHanging => {
            "The destination takes connections and does not answer: look at it first. Give the calls a time-out and a limit, so that they do \
             not fill this host."
        }
        AlertName::AbortedEarly => {
            "The peer speaks and is cut off: a protocol or TLS version that one side no longer takes, a certificate, a wrong port? Look at the \
             service's own log for this peer. If these are probes by design, disable the alert for this peer."
        }
        AlertName::StaleAddress => {
            "The program resolved the name once and kept the address: restart or reload it, and let it resolve the name again at run time."
        }
        AlertName::SynRetriesHigh => {
            "Inbound: look at the accept queue and at what may drop packets before it. Outbound: is the destination there, and does it answer?"
        }
        AlertName::TimeWaitNearBucketLimit => {
            "Raise net.ipv4.tcp_max_tw_buckets (each TIME_WAIT takes a few hundred bytes), and find out who closes so many connections here."
        }
        AlertName::ListenQueueOverflow => {
            "The program does not accept as fast as clients connect: find out what keeps it, then raise its backlog and net.core.somaxconn."
        }
        AlertName::CloseWaitGrowing => {
            "The program on this port no longer closes its sockets: a leak, or its threads wait for something else. Look at what they wait for; \
             a restart frees the sockets."
        }
        AlertName::NameNotResolving => {
            "Ask the name servers of /etc/resolv.conf yourself (dig NAME @SERVER), and see whether the name is written right in [[watch]]."
        }
        AlertName::AgentDegraded => {
            "See the agent's log and `tcpwarden check`; raise the limit that is named, or correct the file."
        }
    }
}

/// What a sentence is put together from, once it is needed.
#[derive(Debug)]
pub(super) enum Sentence<'a> {
    NearLimit(PoolFact<'a>),
    ReuseRefused(&'a AccountId, &'a Events),
    PoolDiffers(PoolFact<'a>),
    PortsNearLimit(EphemeralFact<'a>),
    NotAnswering { account: &'a AccountId, unanswered: u64, events: &'a Events, destination: &'a Destination },
    Hanging { account: &'a AccountId, destination: &'a Destination },
    Aborted { account: &'a AccountId, aborted: u64, all: u64 },
    CloseWaits(u16, &'a CloseWaits),
    SynRetries { account: &'a AccountId, retries: u64, all: u64 },
    Stale(&'a StaleAddress),
    NotResolving(&'a NameTrouble),
    Buckets { used: u64, limit: u64 },
    Overflows(u64, &'a [QueueFigures]),
    Queue(&'a QueueFigures),
    Degraded(Degraded<'a>),
}

/// What this agent cannot do.
#[derive(Debug)]
pub(super) struct Degraded<'a> {
    /// Events of the last minute that found no room, by where.
    pub losses: Vec<(&'static str, u64)>,
    pub config_reloaded: bool,
    pub history_trouble: Option<&'a str>,
    pub unreached: &'a [Arc<str>],
}

impl Sentence<'_> {
    pub fn text(&self) -> String {
        match self {
            Self::NearLimit(pool) => near_limit(pool),
            Self::ReuseRefused(account, events) => {
                let AccountId { peer, port, .. } = account;
                let Events { refused, accepted, .. } = events;
                format!(
                    "{peer} towards port {port}: {refused} SYNs met a TIME_WAIT and were refused in the last minute, {accepted} were accepted"
                )
            }
            Self::PoolDiffers(pool) => pool_differs(pool),
            Self::PortsNearLimit(fact) => ports_near_limit(fact),
            Self::NotAnswering { account, unanswered, events, destination } => {
                not_answering(account, *unanswered, events, destination)
            }
            Self::Hanging { account, destination } => {
                let Destination { stalled, open, callers, .. } = destination;
                let AccountId { peer, port, .. } = account;
                format!(
                    "{stalled} of our {open} connections to {peer} port {port} wait for an answer{}",
                    by(callers)
                )
            }
            Self::Aborted { account, aborted, all } => {
                let AccountId { peer, port, .. } = account;
                let percent = *aborted as f64 * 100.0 / (*all).max(1) as f64;
                format!(
                    "{peer} towards port {port}: {aborted} of {all} connections in the last minute ended at once, after next to nothing of ours ({percent:.0} %)"
                )
            }
            Self::CloseWaits(port, CloseWaits { sockets, owners }) => {
                let mut text = format!(
                    "{sockets} connections on port {port} were closed by their peers and not by our program (CLOSE_WAIT), and they become more"
                );
                let owners: Vec<String> =
                    owners.iter().map(|(name, own)| format!("{name} keeps {own}")).collect();
                if !owners.is_empty() {
                    let _ = write!(text, "; {}", owners.join(", "));
                }
                text
            }
            Self::SynRetries { account, retries, all } => syn_retries(account, *retries, *all),
            Self::Stale(stale) => stale_address(stale),
            Self::NotResolving(name) => not_resolving(name),
            Self::Buckets { used, limit } => {
                let percent = *used as f64 * 100.0 / *limit as f64;
                format!(
                    "{used} mini-sockets of {limit} (net.ipv4.tcp_max_tw_buckets), {percent:.0} %; beyond it a connection that is closed gets no TIME_WAIT"
                )
            }
            Self::Overflows(overflows, queues) => overflowed(*overflows, queues),
            Self::Queue(QueueFigures { port, waiting, limit, .. }) => {
                format!("{waiting} connections wait to be accepted on port {port}, which can hold {limit}")
            }
            Self::Degraded(degraded) => degraded.text(),
        }
    }
}

fn near_limit(pool: &PoolFact<'_>) -> String {
    let PoolFact { account, address, figures } = pool;
    let mut text = format!("{address} towards port {}", account.port);
    if let Some(ports) = figures.pool() {
        let how = if figures.configured.is_some() { "configured" } else { "seen" };
        let _ = write!(text, " draws its source ports from {ports} ({} ports, {how})", ports.len());
    }
    let _ = write!(
        text,
        "; {:.0} % of them are taken here, {:.0} in TIME_WAIT",
        figures.used_ratio().unwrap_or_default() * 100.0,
        figures.load.time_wait
    );
    let rate = figures.load.rate;
    match figures.exhaustion_seconds {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => {
            let _ = write!(text, "; at {rate:.0} connections/s they run out in {seconds:.0} s");
        }
        Some(seconds) if seconds.is_finite() => {
            let _ = write!(text, "; none is free, at {rate:.0} connections/s");
        }
        _ => {
            let _ = write!(text, "; at {rate:.0} connections/s that is as far as it goes");
        }
    }
    if figures.refused >= 1.0 {
        let _ = write!(text, "; {:.0} SYNs were refused in the last minute", figures.refused);
    }
    text
}

fn ports_near_limit(fact: &EphemeralFact<'_>) -> String {
    let EphemeralFact { account, address, figures } = fact;
    let mut text = format!(
        "towards {address} port {}, {:.0} of our {} ports are taken ({:.0} %), {:.0} in TIME_WAIT",
        account.port,
        figures.load.used(),
        figures.size,
        figures.used_ratio() * 100.0,
        figures.load.time_wait
    );
    let (rate, seconds) = (figures.load.rate, figures.exhaustion_seconds);
    let _ = if seconds.is_infinite() {
        write!(text, "; at {rate:.0} connections/s that is as far as it goes")
    } else if seconds > 0.0 {
        write!(text, "; at {rate:.0} connections/s they run out in {seconds:.0} s")
    } else {
        write!(text, "; none is free, at {rate:.0} connections/s")
    };
    text
}

fn not_answering(account: &AccountId, unanswered: u64, events: &Events, destination: &Destination) -> String {
    let AccountId { peer, port, .. } = account;
    let Events { failures, lost_ns, .. } = events;
    let mut text =
        format!("{peer} port {port} does not answer: {unanswered} SYNs of ours in the last minute");
    let failed = failures.iter().sum::<u64>();
    if failed > 0 {
        let seconds = *lost_ns as f64 / 1e9 / failed as f64;
        let _ = write!(text, "; {failed} attempts failed, after {seconds:.1} s each");
    }
    let Destination { answered_ago, callers, .. } = destination;
    text.push_str(&by(callers));
    match answered_ago {
        Some(ago) => {
            let _ = write!(
                text,
                "; it last answered {} ago",
                humantime::format_duration(Duration::from_secs(ago.as_secs()))
            );
        }
        None => text.push_str("; it has not answered since this agent started"),
    }
    text
}

/// Whose connections they are.
fn by(callers: &[Arc<str>]) -> String {
    if callers.is_empty() { String::new() } else { format!(" (called by {})", callers.join(", ")) }
}

fn pool_differs(pool: &PoolFact<'_>) -> String {
    let PoolFact { account, address, figures } = pool;
    let mut text = format!("{address} towards port {}: ", account.port);
    if let Some(configured) = &figures.configured {
        let _ = write!(text, "configured {configured} ({} ports), but ", configured.len());
    }
    if figures.outside > 0 {
        let _ = write!(text, "{} of {} ports seen lie outside of it", figures.outside, figures.source_ports);
    } else {
        let observed = &figures.observed;
        let seen = figures.source_ports;
        let _ = write!(text, "{seen} ports seen, none outside {observed} ({} ports)", observed.len());
    }
    text
}

fn syn_retries(account: &AccountId, retries: u64, all: u64) -> String {
    let AccountId { peer, port, direction } = account;
    let percent = retries as f64 * 100.0 / all.max(1) as f64;
    let who = match direction {
        Direction::Inbound => format!("{peer} towards port {port} repeats its SYNs"),
        Direction::Outbound => format!("we repeat our SYNs to {peer} port {port}"),
    };
    format!("{who}: {retries} of {all} in the last minute ({percent:.0} %)")
}

fn stale_address(stale: &StaleAddress) -> String {
    let StaleAddress { id, address, gone_seconds, called_seconds_ago, is_failing, connections, processes } =
        stale;
    let fails = if *is_failing { " and does not answer" } else { "" };
    let who = if processes.is_empty() { String::new() } else { format!(" by {}", processes.join(", ")) };
    format!(
        "{address} port {} is called{who}, last {called_seconds_ago:.0} s ago{fails}, but {} has not listed it for {gone_seconds:.0} s; {connections} \
         connections to it are open or being opened",
        id.port, id.name
    )
}

fn not_resolving(trouble: &NameTrouble) -> String {
    let NameTrouble { name, unresolved_seconds, why, slow_seconds } = trouble;
    if *unresolved_seconds > 0.0 {
        format!("{name} has not resolved for {unresolved_seconds:.0} s: {why}")
    } else {
        format!("{name} resolves slowly: each of the last lookups took {slow_seconds:.1} s at least")
    }
}

fn overflowed(overflows: u64, queues: &[QueueFigures]) -> String {
    let mut text = format!("an accept queue was full {overflows} times in the last minute");
    let share = |queue: &&QueueFigures| queue.waiting as f64 / queue.limit.max(1) as f64;
    if let Some(fullest) = queues.iter().max_by(|a, b| share(a).total_cmp(&share(b))) {
        let QueueFigures { port, waiting, limit, .. } = fullest;
        let _ = write!(text, "; the fullest now is that of port {port}: {waiting} of {limit}");
    }
    text
}

impl Degraded<'_> {
    fn text(&self) -> String {
        let Self { losses, config_reloaded, history_trouble, unreached } = self;
        let lost =
            |(map, events): &(_, _)| format!("{events} events found no room in {map} in the last minute");
        let mut parts: Vec<String> = losses.iter().map(lost).collect();
        if !config_reloaded {
            parts.push("the configuration last given was refused, the one before is in force".to_owned());
        }
        if let Some(why) = history_trouble {
            parts.push(format!("the history is kept in memory only: {why}"));
        }
        if !unreached.is_empty() {
            parts.push(format!("not reached for five minutes: {}", unreached.join(", ")));
        }
        parts.join("; ")
    }
}
