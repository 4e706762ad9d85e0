//! The per-peer families, written straight from the snapshot.

use probe_ebpf::account::{
    BOUNDS, CONNECT_BOUNDS_NS, ClosedBy, ConnectFailure, Histogram, LIFETIME_BOUNDS_NS, REUSE_BOUNDS_NS,
    RefusalAnswer,
};

use std::sync::Arc;

use super::text::{Float, Kind, Labels, Text, escaped};
use crate::model::{
    CONNECTED_STATES, Direction, ExportedAccount, Snapshot, Tells,
    pool::{PoolFigures, Ranges},
    refusals::End,
};

/// One family: its samples for one account.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Whether it has a meaning in this direction, and this kernel lets us know it.
    shown: fn(Direction, Tells) -> bool,
    samples: Samples,
}

enum Samples {
    One(fn(&ExportedAccount, Tells) -> u64),
    /// A time in nanoseconds, summed, in seconds.
    Seconds(fn(&ExportedAccount) -> u64),
    /// A monotonic time in nanoseconds, as seconds since the epoch; 0 is never.
    When(fn(&ExportedAccount) -> u64),
    /// 1 for each of the names that are known.
    Names(&'static str, fn(&ExportedAccount) -> &[Arc<str>]),
    /// One per value of a label.
    By(&'static str, fn(&ExportedAccount) -> Vec<(&'static str, u64)>),
    Histogram(&'static [u64; BOUNDS], fn(&ExportedAccount) -> &Histogram),
    /// One for the accounts whose pool is known so far.
    Pool(fn(&PoolFigures) -> Option<f64>),
    /// One for the accounts of which it is known.
    Known(fn(&ExportedAccount) -> Option<f64>),
    /// As above, one per value of a label.
    KnownBy(&'static str, fn(&ExportedAccount) -> Vec<(&'static str, f64)>),
}

type Shown = fn(Direction, Tells) -> bool;
const ALWAYS: Shown = |_, _| true;
const INBOUND: Shown = |direction, _| direction == Direction::Inbound;
const OUTBOUND: Shown = |direction, _| direction == Direction::Outbound;
const TIME_WAIT: Shown = |direction, tells| direction == Direction::Inbound && tells.time_wait;

const FAMILIES: [Family; 30] = [
    Family {
        name: "tcpwarden_peer_sockets",
        kind: Kind::Gauge,
        help: "Sockets with this peer by TCP state as of the last census; mini-sockets by their sub-state.",
        shown: ALWAYS,
        samples: Samples::By("state", |account| {
            CONNECTED_STATES
                .iter()
                .map(|&(name, state)| (name, u64::from(account.sockets[state as usize])))
                .collect()
        }),
    },
    Family {
        name: "tcpwarden_peer_connections_total",
        kind: Kind::Counter,
        help: "Connections established.",
        shown: ALWAYS,
        samples: Samples::One(|account, _| account.counters.connections),
    },
    Family {
        name: "tcpwarden_peer_closes_total",
        kind: Kind::Counter,
        help: "Connections that left ESTABLISHED, by who ended it first: our FIN, the peer's, a RST, or a time-out.",
        shown: ALWAYS,
        samples: Samples::By("by", |account| {
            let closes = &account.counters.closes;
            vec![
                ("local", closes[ClosedBy::Local as usize]),
                ("peer", closes[ClosedBy::Peer as usize]),
                ("reset", closes[ClosedBy::Reset as usize]),
                ("timeout", closes[ClosedBy::Timeout as usize]),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_connection_seconds",
        kind: Kind::Histogram,
        help: "Lifetime of closed connections whose start was seen.",
        shown: ALWAYS,
        samples: Samples::Histogram(&LIFETIME_BOUNDS_NS, |account| &account.counters.lifetime),
    },
    Family {
        name: "tcpwarden_peer_aborted_early_total",
        kind: Kind::Counter,
        help: "Connections of the peer that ended within probe.aborted_within though it had said something, after fewer than probe.aborted_bytes of ours.",
        shown: |direction, tells| direction == Direction::Inbound && tells.aborted_early,
        samples: Samples::One(|account, _| account.counters.aborted_early),
    },
    Family {
        name: "tcpwarden_peer_syns_total",
        kind: Kind::Counter,
        help: "SYNs: sent by us for the first time (outbound), received for the first time (inbound, with the SYN watch).",
        shown: |direction, tells| direction == Direction::Outbound || tells.syn_watch,
        samples: Samples::One(|account, _| match account.direction {
            Direction::Inbound => account.counters.watched_syns,
            Direction::Outbound => account.counters.syns,
        }),
    },
    Family {
        name: "tcpwarden_peer_syn_retries_total",
        kind: Kind::Counter,
        help: "SYNs repeated: by us (outbound), by the peer (inbound: on a pending request or into TIME_WAIT; with the SYN watch, all).",
        shown: |direction, tells| match direction {
            Direction::Inbound => tells.synack_retries || tells.syn_watch,
            Direction::Outbound => tells.retransmits,
        },
        samples: Samples::One(|account, tells| match account.direction {
            Direction::Inbound if tells.syn_watch => account.counters.watched_syn_retries,
            _ => account.counters.syn_retries,
        }),
    },
    Family {
        name: "tcpwarden_peer_synack_retries_total",
        kind: Kind::Counter,
        help: "SYN-ACKs we repeated, whether by our timer or because the peer repeated its SYN.",
        shown: |direction, tells| direction == Direction::Inbound && tells.synack_retries,
        samples: Samples::One(|account, _| account.counters.synack_retries),
    },
    Family {
        name: "tcpwarden_peer_retransmits_total",
        kind: Kind::Counter,
        help: "Segments other than SYN and SYN-ACK that we repeated.",
        shown: |_, tells| tells.retransmits,
        samples: Samples::One(|account, _| account.counters.retransmits),
    },
    Family {
        name: "tcpwarden_peer_resets_total",
        kind: Kind::Counter,
        help: "RSTs on a connection, by who sent them.",
        shown: |_, tells| tells.resets_local && tells.resets_peer,
        samples: Samples::By("by", |account| {
            vec![("local", account.counters.resets_local), ("peer", account.counters.resets_peer)]
        }),
    },
    Family {
        name: "tcpwarden_peer_port_reuse_seconds",
        kind: Kind::Histogram,
        help: "Time between the close of a 4-tuple and its next connection.",
        shown: ALWAYS,
        samples: Samples::Histogram(&REUSE_BOUNDS_NS, |account| &account.counters.reuse),
    },
    Family {
        name: "tcpwarden_peer_connect_failures_total",
        kind: Kind::Counter,
        help: "Connection attempts of ours that failed, by reason.",
        shown: OUTBOUND,
        samples: Samples::By("reason", |account| {
            let failures = &account.counters.connect_failures;
            vec![
                ("timeout", failures[ConnectFailure::Timeout as usize]),
                ("refused", failures[ConnectFailure::Refused as usize]),
                ("unreachable", failures[ConnectFailure::Unreachable as usize]),
                ("reset", failures[ConnectFailure::Reset as usize]),
                ("other", failures[ConnectFailure::Other as usize]),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_connect_failure_seconds_total",
        kind: Kind::Counter,
        help: "Time that failed connection attempts of ours took, from the SYN to the failure.",
        shown: OUTBOUND,
        samples: Samples::Seconds(|account| account.counters.connect_lost_ns),
    },
    Family {
        name: "tcpwarden_peer_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a connection attempt of ours last succeeded.",
        shown: OUTBOUND,
        samples: Samples::When(|account| account.calls.last_success_ns),
    },
    Family {
        name: "tcpwarden_peer_last_failure_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a connection attempt of ours last failed or had to repeat its SYN.",
        shown: OUTBOUND,
        samples: Samples::When(|account| account.calls.last_failure_ns),
    },
    Family {
        name: "tcpwarden_peer_caller_info",
        kind: Kind::Gauge,
        help: "Processes that called this peer last, three at most.",
        shown: OUTBOUND,
        samples: Samples::Names("process", |account| &account.callers),
    },
    Family {
        name: "tcpwarden_peer_stalled_sockets",
        kind: Kind::Gauge,
        help: "Connections of ours that have waited for an answer for longer than census.stalled_after, as of the last census.",
        shown: |direction, tells| direction == Direction::Outbound && tells.stalled,
        samples: Samples::One(|account, _| u64::from(account.stalled)),
    },
    Family {
        name: "tcpwarden_peer_connect_seconds",
        kind: Kind::Histogram,
        help: "Time from our SYN to an established connection.",
        shown: OUTBOUND,
        samples: Samples::Histogram(&CONNECT_BOUNDS_NS, |account| &account.counters.connect),
    },
    Family {
        name: "tcpwarden_peer_port_reuses_total",
        kind: Kind::Counter,
        help: "New connections on a 4-tuple seen before, within the memory of closed 4-tuples (limits.closed_tuples).",
        shown: ALWAYS,
        // The observations of the histogram: a counter of their own lets rules do without it.
        samples: Samples::One(|account, _| account.counters.reuse.buckets.iter().sum()),
    },
    Family {
        name: "tcpwarden_peer_time_wait_syns_total",
        kind: Kind::Counter,
        help: "SYNs that met a socket in TIME_WAIT, by whether they took its place.",
        shown: TIME_WAIT,
        samples: Samples::By("outcome", |account| {
            let refused = account.counters.time_wait_refused.iter().sum();
            vec![("accepted", account.counters.time_wait_accepted), ("refused", refused)]
        }),
    },
    Family {
        name: "tcpwarden_peer_time_wait_answers_total",
        kind: Kind::Counter,
        help: "SYNs that TIME_WAIT refused, by how they were answered: a bare ACK, a RST, or nothing, as the kernel limits its answers.",
        shown: TIME_WAIT,
        samples: Samples::By("answer", |account| {
            let refused = &account.counters.time_wait_refused;
            vec![
                ("ack", refused[RefusalAnswer::Ack as usize]),
                ("reset", refused[RefusalAnswer::Reset as usize]),
                ("none", refused[RefusalAnswer::None as usize]),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_refused_attempts_total",
        kind: Kind::Counter,
        help: "Connection attempts that TIME_WAIT refused at first, by how they ended: connected after the peer's RST, connected after a retry, given up.",
        shown: TIME_WAIT,
        samples: Samples::By("end", |account| {
            let [reset, retry] = account.counters.refused_connected;
            vec![
                (End::Reset.name(), reset),
                (End::Retry.name(), retry),
                (End::GaveUp.name(), account.gave_up),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_source_ports",
        kind: Kind::Gauge,
        help: "Different source ports the peer was seen to use of late.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(f64::from(pool.source_ports))),
    },
    Family {
        name: "tcpwarden_peer_source_port_min",
        kind: Kind::Gauge,
        help: "The lowest of them.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(f64::from(pool.bounds?.0))),
    },
    Family {
        name: "tcpwarden_peer_source_port_max",
        kind: Kind::Gauge,
        help: "The highest of them.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(f64::from(pool.bounds?.1))),
    },
    Family {
        name: "tcpwarden_peer_pool_size",
        kind: Kind::Gauge,
        help: "Ports to draw from: the peer's as configured, and as observed once that is known (inbound); ours as the settings say (outbound).",
        shown: ALWAYS,
        samples: Samples::KnownBy("source", |account| {
            let pool = account.pool.as_ref();
            let size = |ranges: &Ranges| f64::from(ranges.len());
            let configured = pool.and_then(|pool| Some(("configured", size(pool.configured.as_ref()?))));
            let observed = pool.and_then(|pool| Some(("observed", size(pool.observed_pool()?))));
            let own = account.ephemeral.map(|ports| ("sysctl", f64::from(ports.size)));
            configured.into_iter().chain(observed).chain(own).collect()
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_confidence",
        kind: Kind::Gauge,
        help: "How surely the peer's next connection comes from the pool as observed, 0 to 1; it is taken for known from 0.98 on.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(pool.confidence)),
    },
    Family {
        name: "tcpwarden_peer_pool_outside_ports",
        kind: Kind::Gauge,
        help: "Source ports seen outside of the configured pool, where one is configured.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| pool.configured.as_ref().map(|_| f64::from(pool.outside))),
    },
    Family {
        name: "tcpwarden_peer_pool_used_ratio",
        kind: Kind::Gauge,
        help: "Ports that TIME_WAIT or a live connection keeps, of those in the pool (the configured one, else the observed one; outbound, ours).",
        shown: ALWAYS,
        samples: Samples::Known(|account| match account.direction {
            Direction::Inbound => account.pool.as_ref()?.used_ratio(),
            Direction::Outbound => Some(account.ephemeral?.used_ratio()),
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_exhaustion_seconds",
        kind: Kind::Gauge,
        help: "Seconds until no port is left at this rate; +Inf when the load levels off below, or when TIME_WAIT does not stand in the way.",
        shown: ALWAYS,
        samples: Samples::Known(|account| match account.direction {
            Direction::Inbound => account.pool.as_ref()?.exhaustion_seconds,
            Direction::Outbound => Some(account.ephemeral?.exhaustion_seconds),
        }),
    },
];

/// Writes every family that this kernel lets us know.
pub(super) fn encode(snapshot: &Snapshot, body: &mut Vec<u8>) {
    let tells = snapshot.tells;
    let labels: Vec<Labels> = snapshot.accounts.iter().map(labels).collect();
    let mut text = Text::new(body);
    for family in &FAMILIES {
        if !Direction::ALL.into_iter().any(|direction| (family.shown)(direction, tells)) {
            continue;
        }
        text.family(family.name, family.kind, family.help);
        let accounts = snapshot.accounts.iter().zip(&labels);
        for (account, labels) in accounts.filter(|(account, _)| (family.shown)(account.direction, tells)) {
            samples(&mut text, family, account, labels, snapshot);
        }
    }
}

fn samples(
    text: &mut Text<'_>,
    family: &Family,
    account: &ExportedAccount,
    labels: &Labels,
    snapshot: &Snapshot,
) {
    let Snapshot { tells, taken, .. } = snapshot;
    match &family.samples {
        Samples::One(value) => text.sample(family.name, labels, None, value(account, *tells)),
        Samples::Seconds(value) => {
            text.sample(family.name, labels, None, value(account) as f64 / 1e9);
        }
        Samples::When(value) => {
            let when = value(account);
            if when > 0 {
                // Two clocks are compared anew each time: finer digits would dance.
                let milliseconds = (taken.unix_seconds_of(when) * 1e3).round();
                text.sample(family.name, labels, None, milliseconds / 1e3);
            }
        }
        Samples::Names(label, names) => {
            for name in names(account) {
                text.sample(family.name, labels, Some((label, &escaped(name))), 1);
            }
        }
        Samples::By(label, values) => {
            for (name, value) in values(account) {
                text.sample(family.name, labels, Some((label, name)), value);
            }
        }
        Samples::Histogram(bounds, histogram) => {
            let Histogram { buckets, sum_ns } = histogram(account);
            text.histogram(family.name, labels, bounds.as_slice(), buckets, *sum_ns);
        }
        Samples::Pool(value) => {
            if let Some(value) = account.pool.as_ref().and_then(value) {
                text.sample(family.name, labels, None, Float(value));
            }
        }
        Samples::Known(value) => {
            if let Some(value) = value(account) {
                text.sample(family.name, labels, None, Float(value));
            }
        }
        Samples::KnownBy(label, values) => {
            for (name, value) in values(account) {
                text.sample(family.name, labels, Some((label, name)), Float(value));
            }
        }
    }
}

fn labels(account: &ExportedAccount) -> Labels {
    let direction = account.direction.name();
    match &account.who {
        Some((peer, port)) => Labels::new(&[("peer", peer), ("port", port), ("direction", &direction)]),
        None => Labels::new(&[("peer", &"other"), ("port", &"other"), ("direction", &direction)]),
    }
}
