//! What there is to say about an alert: sentences that name the peer, the numbers and the remedy.

use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Duration};

use probe_ebpf::account::ConnectFailure;

use super::{
    EphemeralFact, PoolFact,
    close_wait::{STAY, Unclosed},
    service,
};
use crate::{
    config::AlertName,
    model::{
        AccountId, CloseWaits, Destination, Direction, Events, Peer, QueueFigures,
        drift::CENSUSES,
        names::{NameTrouble, StaleAddress},
        pool::{Chance, PoolFigures},
    },
};

/// What an alert is, in a few words, whatever it is about.
#[must_use]
pub fn summary(name: AlertName) -> &'static str {
    match name {
        AlertName::TimeWaitNearPoolLimit => "A peer is running out of source ports",
        AlertName::PortReuseRefused => "New connections are refused by TIME_WAIT",
        AlertName::HalfOpenConnections => "Half-open connections here refuse new connections of a peer",
        AlertName::PoolDiffers => "A configured pool of source ports is not the real one",
        AlertName::EphemeralPortsNearLimit => "This host is running out of local ports towards a destination",
        AlertName::StaleAddress => "Connections to an address that DNS no longer returns",
        AlertName::BackendNotAnswering => "A destination answers none of our SYNs",
        AlertName::DependencyHanging => "A destination accepts connections but does not answer",
        AlertName::AbortedEarly => "Connections aborted early",
        AlertName::SynRetriesHigh => "High SYN retransmission rate",
        AlertName::TimeWaitNearBucketLimit => "The host is near its limit of TIME_WAIT sockets",
        AlertName::ListenQueueOverflow => "An accept queue is full",
        AlertName::CloseWaitGrowing => "Our program does not close connections that its peers closed",
        AlertName::NameNotResolving => "A watched name does not resolve, or resolves slowly",
        AlertName::AgentDegraded => "tcpwarden is degraded",
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
        AlertName::HalfOpenConnections => {
            "The peer has forgotten these connections and we have not: find the NAT, balancer or firewall on the way that drops idle connections, \
             and close them here first (idle timeout of the service, SO_KEEPALIVE with a short net.ipv4.tcp_keepalive_time, TCP_USER_TIMEOUT). \
             Let challenge ACKs and the client's RST pass."
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
             service's own log for this peer. If the peer is new and these are probes by design, the alert ends after an hour of them and does \
             not come back."
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
            "See the agent's log and `tcpwarden check`; raise the limit of what is full, or correct the file. If the census is off, \
             `ss -tan` shows the right figures."
        }
    }
}

/// Of so many addresses of a group the blocks that were outgrown are told.
const ADDRESSES: usize = 3;

/// What a sentence is put together from, once it is needed.
#[derive(Debug)]
pub(super) enum Sentence<'a> {
    NearLimit(PoolFact<'a>),
    ReuseRefused {
        account: &'a AccountId,
        events: &'a Events,
        pools: &'a [PoolFact<'a>],
    },
    HalfOpen(&'a AccountId, &'a Events),
    PoolDiffers(PoolFact<'a>),
    PortsNearLimit {
        fact: EphemeralFact<'a>,
        without_port: u64,
    },
    WithoutPort {
        account: &'a AccountId,
        attempts: u64,
    },
    NotAnswering {
        account: &'a AccountId,
        unanswered: u64,
        events: &'a Events,
        destination: &'a Destination,
    },
    Hanging {
        account: &'a AccountId,
        destination: &'a Destination,
    },
    /// `usual`: the share that is usual for the peer, where that is known.
    Aborted {
        account: &'a AccountId,
        aborted: u64,
        all: u64,
        usual: Option<f64>,
    },
    CloseWaits {
        port: u16,
        close_waits: &'a CloseWaits,
        unclosed: Unclosed,
    },
    SynRetries {
        account: &'a AccountId,
        retries: u64,
        all: u64,
    },
    Stale(&'a StaleAddress),
    NotResolving(&'a NameTrouble),
    Buckets {
        used: u64,
        limit: u64,
    },
    Overflows(u64, &'a [QueueFigures]),
    Queue(&'a QueueFigures),
    Degraded(Degraded<'a>),
}

/// What this agent cannot do.
#[derive(Debug)]
pub(super) struct Degraded<'a> {
    /// Events dropped in the last minute, by what was full.
    pub losses: Vec<(&'static str, u64)>,
    /// TIME_WAIT and FIN_WAIT2 sockets that each of the last censuses found, less the kernel's own count.
    pub drift: i64,
    pub config_reloaded: bool,
    pub history_trouble: Option<&'a str>,
    pub unreached: &'a [Arc<str>],
}

impl Sentence<'_> {
    pub fn text(&self) -> String {
        match self {
            Self::NearLimit(pool) => near_limit(pool),
            Self::ReuseRefused { account, events, pools } => reuse_refused(account, events, pools),
            Self::HalfOpen(account, events) => {
                let (peer, port) = (&account.peer, account.port_name());
                let Events { challenged, connections, .. } = events;
                format!(
                    "{peer} towards port {port}: {challenged} SYNs in the last minute met a connection that is still open here and were refused \
                     by a challenge ACK, {connections} connections were established"
                )
            }
            Self::PoolDiffers(pool) => pool_differs(pool),
            Self::PortsNearLimit { fact, without_port } => ports_near_limit(fact, *without_port),
            Self::WithoutPort { account: AccountId { peer, port, .. }, attempts } => {
                format!("towards {peer} port {port}, {}", found_no_port(*attempts))
            }
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
            Self::Aborted { account, aborted, all, usual } => {
                let (peer, port) = (&account.peer, account.port_name());
                let percent = *aborted as f64 * 100.0 / (*all).max(1) as f64;
                let compared = match usual {
                    Some(usual) => format!("usual for this peer: {:.0} %", usual * 100.0),
                    None => "it is not known yet whether that is usual for this peer; other connections to the port are answered".to_owned(),
                };
                format!(
                    "{peer} towards port {port}: {aborted} of {all} connections in the last minute were closed early by us, with almost no \
                     response sent ({percent:.0} %; {compared})"
                )
            }
            Self::CloseWaits { port, close_waits, unclosed } => {
                unclosed_sockets(*port, close_waits, unclosed)
            }
            Self::SynRetries { account, retries, all } => syn_retries(account, *retries, *all),
            Self::Stale(stale) => stale_address(stale),
            Self::NotResolving(name) => not_resolving(name),
            Self::Buckets { used, limit } => {
                let percent = *used as f64 * 100.0 / *limit as f64;
                format!(
                    "{used} TIME_WAIT and FIN_WAIT2 sockets of {limit} (net.ipv4.tcp_max_tw_buckets), {percent:.0} %; beyond this limit connections end \
                     without a TIME_WAIT"
                )
            }
            Self::Overflows(overflows, queues) => overflowed(*overflows, queues),
            Self::Queue(queue) => {
                let QueueFigures { port, waiting, limit, sockets } = queue;
                let of = if sockets.len() > 1 {
                    format!(" in the fullest queue of {} listeners", sockets.len())
                } else {
                    String::new()
                };
                let holds = queue.holds();
                format!(
                    "{waiting} connections wait to be accepted on port {port}{of}, which holds {holds} (backlog {limit})"
                )
            }
            Self::Degraded(degraded) => degraded.text(),
        }
    }
}

fn reuse_refused(account: &AccountId, events: &Events, pools: &[PoolFact<'_>]) -> String {
    let (peer, port) = (&account.peer, account.port_name());
    let Events { refused, accepted, refused_failed, refused_late, .. } = events;
    let mut text = format!(
        "{peer} towards port {port}: {refused} SYNs met a TIME_WAIT and were refused in the last minute, {accepted} were accepted; \
         {refused_failed} attempts failed, {refused_late} waited for 0.9 s or more"
    );
    let outgrown = pools
        .iter()
        .filter(|pool| pool.account == account)
        .filter_map(|pool| Some((pool.address, pool.figures.outgrown.as_ref()?)));
    for (address, outgrown) in outgrown.take(ADDRESSES) {
        let _ = match peer {
            Peer::Address(_) => write!(text, "; {}", outgrown.text()),
            Peer::Group(_) => write!(text, "; of {address}, {}", outgrown.text()),
        };
    }
    text
}

fn near_limit(pool: &PoolFact<'_>) -> String {
    ports_of(pool) + &clocks(pool.figures)
}

/// What the timestamps of ports that came back say of the clients.
fn clocks(figures: &PoolFigures) -> String {
    let PoolFigures { same_clock, other_clock, .. } = figures;
    if *other_clock < 1.0 {
        return String::new();
    }
    let all = same_clock + other_clock;
    format!(
        "; of {all:.0} connections on ports used before in the last minute, {other_clock:.0} had timestamps of another clock, as behind a NAT with \
         several clients: a TIME_WAIT refuses about half of such SYNs"
    )
}

fn ports_of(pool: &PoolFact<'_>) -> String {
    let PoolFact { account, address, figures } = pool;
    let mut text = format!(
        "{address} towards {}port {}",
        fullest("", figures.local, figures.local_addresses),
        account.port
    );
    if let Some(ports) = figures.pool() {
        let how = match figures {
            PoolFigures { configured: Some(_), .. } => "configured",
            PoolFigures { remembered: true, .. } => "seen earlier",
            _ => "seen",
        };
        let _ = write!(text, " draws its source ports from {ports} ({} ports, {how})", ports.len());
    }
    let part = figures.reachable.filter(|&ports| figures.pool().is_some_and(|pool| ports < pool.len()));
    if let Some(ports) = part {
        let _ = write!(text, ", of which {ports} come to this server");
    }
    let _ = match figures.used_ratio() {
        Some(ratio) => write!(text, "; {:.0} % of them are taken here", ratio * 100.0),
        None => write!(text, "; it is being learned which of them come to this server"),
    };
    let _ = write!(text, ", {:.0} in TIME_WAIT", figures.load.time_wait);
    if let Some(circling) = &figures.circling {
        return text + "; " + &circling.text() + &refused_of_late(figures);
    }
    let rate = figures.load.rate;
    if let Some(turn) = figures.turn.as_ref().filter(|turn| turn.returning.is_some()) {
        return text + "; it " + &turn.text(rate) + &refused_of_late(figures);
    }
    if let Some(Chance { refused_ratio, expected_refused_ratio }) = figures.chance {
        let _ = write!(
            text,
            "; it draws its ports at random, {rate:.0} a second here: {:.1} % of its SYNs were refused in the last minute",
            refused_ratio * 100.0
        );
        let _ = match expected_refused_ratio {
            Some(share) => write!(text, ", and {:.1} % will be at this rate", share * 100.0),
            None => write!(text, "; whether those that meet a TIME_WAIT will be refused is not known yet"),
        };
        return text;
    }
    match figures.exhaustion_seconds {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => {
            let _ = write!(text, "; at {rate:.0} connections/s they run out in {seconds:.0} s");
        }
        Some(seconds) if seconds.is_finite() => {
            let _ = write!(text, "; none is free, at {rate:.0} connections/s");
        }
        Some(_) => {
            let _ = write!(text, "; at {rate:.0} connections/s they do not run out");
        }
        None => {
            let _ = write!(text, "; {rate:.0} connections/s; when they run out is not known");
        }
    }
    text + &refused_of_late(figures)
}

fn refused_of_late(figures: &PoolFigures) -> String {
    if figures.refused < 1.0 {
        return String::new();
    }
    format!("; {:.0} SYNs were refused in the last minute", figures.refused)
}

/// The address of ours that the figures are of, where there are several, after `preposition`.
fn fullest(preposition: &str, local: Option<IpAddr>, addresses: u32) -> String {
    match local {
        Some(local) if addresses > 1 => {
            format!("{preposition}our address {local} (the fullest of {addresses}), ")
        }
        _ => String::new(),
    }
}

fn ports_near_limit(fact: &EphemeralFact<'_>, without_port: u64) -> String {
    let EphemeralFact { account, address, figures } = fact;
    let mut text = format!(
        "{}towards {address} port {}, {:.0} of our {} ports are taken ({:.0} %), {:.0} in TIME_WAIT",
        fullest("from ", figures.local, figures.local_addresses),
        account.port,
        figures.load.used(),
        figures.size,
        figures.used_ratio() * 100.0,
        figures.load.time_wait
    );
    let (rate, seconds) = (figures.load.rate, figures.exhaustion_seconds);
    let _ = if seconds.is_infinite() {
        write!(text, "; at {rate:.0} connections/s they do not run out")
    } else if seconds > 0.0 {
        write!(text, "; at {rate:.0} connections/s they run out in {seconds:.0} s")
    } else {
        write!(text, "; none is free, at {rate:.0} connections/s")
    };
    if without_port > 0 {
        let _ = write!(text, "; {}", found_no_port(without_port));
    }
    text
}

fn found_no_port(attempts: u64) -> String {
    format!(
        "{attempts} connect() calls failed in the last minute because no local port was free (EADDRNOTAVAIL)"
    )
}

fn not_answering(account: &AccountId, unanswered: u64, events: &Events, destination: &Destination) -> String {
    let AccountId { peer, port, .. } = account;
    let Events { lost_ns, failures, abandoned_ns, .. } = events;
    let mut text =
        format!("{peer} port {port} does not answer: {unanswered} SYNs of ours in the last minute");
    let failed = events.failed();
    if failed > 0 {
        let seconds = *lost_ns as f64 / 1e9 / failed as f64;
        let _ = write!(text, "; {failed} attempts failed, after {seconds:.1} s on average");
    }
    let abandoned = failures[ConnectFailure::Abandoned as usize];
    if abandoned > 0 {
        let seconds = *abandoned_ns as f64 / 1e9 / abandoned as f64;
        let _ = write!(text, "; our program gave up {abandoned} of them, after {seconds:.1} s on average");
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
    let AccountId { peer, direction, .. } = account;
    let port = account.port_name();
    let percent = retries as f64 * 100.0 / all.max(1) as f64;
    let who = match direction {
        Direction::Inbound => format!("{peer} towards port {port} retransmits its SYNs"),
        Direction::Outbound => format!("we retransmit our SYNs to {peer} port {port}"),
    };
    format!("{who}: {retries} of {all} in the last minute ({percent:.0} %)")
}

fn stale_address(stale: &StaleAddress) -> String {
    let StaleAddress { id, address, gone_seconds, called_seconds_ago, connections, processes, .. } = stale;
    let fails = if stale.is_failing { " and does not answer" } else { "" };
    let both = if stale.calls_successor {
        "; these processes connect to the address that took its place, too"
    } else {
        ""
    };
    let who = if processes.is_empty() { String::new() } else { format!(" by {}", processes.join(", ")) };
    format!(
        "{address} port {} is called{who}, last {called_seconds_ago:.0} s ago{fails}, but {} has not listed it for {gone_seconds:.0} s; {connections} \
         connections to it are open or being opened{both}",
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

fn unclosed_sockets(port: u16, close_waits: &CloseWaits, unclosed: &Unclosed) -> String {
    let (CloseWaits { sockets, owners, .. }, port) = (close_waits, service(port));
    let Unclosed { closed, growth, .. } = unclosed;
    let mut text = format!(
        "{sockets} connections on port {port} were closed by their peers and not by our program (CLOSE_WAIT); {closed} left that state in the last {} s",
        STAY.as_secs()
    );
    if *growth > 0 {
        let _ = write!(text, ", and the number grew by {growth} in two minutes");
    }
    let owners: Vec<String> = owners.iter().map(|(name, own)| format!("{name} keeps {own}")).collect();
    if !owners.is_empty() {
        let _ = write!(text, "; {}", owners.join(", "));
    }
    text
}

fn overflowed(overflows: u64, queues: &[QueueFigures]) -> String {
    let mut text = format!("an accept queue was full {overflows} times in the last minute");
    if let Some(fullest) = queues.iter().max_by(|a, b| a.used_ratio().total_cmp(&b.used_ratio())) {
        let QueueFigures { port, waiting, .. } = fullest;
        let holds = fullest.holds();
        let _ = write!(text, "; the fullest now is that of port {port}: {waiting} of {holds}");
    }
    text
}

impl Degraded<'_> {
    fn text(&self) -> String {
        let Self { losses, drift, config_reloaded, history_trouble, unreached } = self;
        let lost =
            |(map, events): &(_, _)| format!("{events} events dropped in the last minute: {map} is full");
        let mut parts: Vec<String> = losses.iter().map(lost).collect();
        if *drift != 0 {
            let (sockets, than) = (drift.unsigned_abs(), if *drift < 0 { "fewer" } else { "more" });
            parts.push(format!(
                "each of the last {CENSUSES} censuses found {sockets} TIME_WAIT and FIN_WAIT2 sockets {than} than the kernel counts"
            ));
        }
        if !config_reloaded {
            parts.push("reload failed, the previous configuration stays active".to_owned());
        }
        if let Some(why) = history_trouble {
            parts.push(format!("the history is kept in memory only: {why}"));
        }
        if !unreached.is_empty() {
            parts.push(format!("receivers not reached for five minutes: {}", unreached.join(", ")));
        }
        parts.join("; ")
    }
}
