//! The per-peer families, written straight from the snapshot.

use probe_ebpf::account::{
    BOUNDS, CONNECT_BOUNDS_NS, ClosedBy, ConnectFailure, Histogram, LIFETIME_BOUNDS_NS, REUSE_BOUNDS_NS,
};

use super::text::{Kind, Labels, Text};
use crate::model::{CONNECTED_STATES, Direction, ExportedAccount, Snapshot, Tells};

/// One family: its samples for one account.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Whether this kernel lets us know it.
    known: fn(Tells) -> bool,
    /// Whether it has a meaning in this direction.
    applies: fn(Direction) -> bool,
    samples: Samples,
}

enum Samples {
    One(fn(&ExportedAccount) -> u64),
    /// One per value of a label.
    By(&'static str, fn(&ExportedAccount) -> Vec<(&'static str, u64)>),
    Histogram(&'static [u64; BOUNDS], fn(&ExportedAccount) -> &Histogram),
}

const ALWAYS: fn(Tells) -> bool = |_| true;
const BOTH: fn(Direction) -> bool = |_| true;
const INBOUND: fn(Direction) -> bool = |direction| matches!(direction, Direction::Inbound);
const OUTBOUND: fn(Direction) -> bool = |direction| matches!(direction, Direction::Outbound);

const FAMILIES: [Family; 12] = [
    Family {
        name: "tcpwarden_peer_sockets",
        kind: Kind::Gauge,
        help: "Sockets with this peer by TCP state as of the last census; mini-sockets by their sub-state.",
        known: ALWAYS,
        applies: BOTH,
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
        known: ALWAYS,
        applies: BOTH,
        samples: Samples::One(|account| account.counters.connections),
    },
    Family {
        name: "tcpwarden_peer_closes_total",
        kind: Kind::Counter,
        help: "Connections that left ESTABLISHED, by who ended it first: our FIN, the peer's, a RST, or a time-out.",
        known: ALWAYS,
        applies: BOTH,
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
        known: ALWAYS,
        applies: BOTH,
        samples: Samples::Histogram(&LIFETIME_BOUNDS_NS, |account| &account.counters.lifetime),
    },
    Family {
        name: "tcpwarden_peer_syns_total",
        kind: Kind::Counter,
        help: "SYNs we sent for the first time.",
        known: ALWAYS,
        applies: OUTBOUND,
        samples: Samples::One(|account| account.counters.syns),
    },
    Family {
        name: "tcpwarden_peer_syn_retries_total",
        kind: Kind::Counter,
        help: "SYNs repeated: by the peer on a pending request (inbound), by us (outbound).",
        known: |tells| tells.synack_retries && tells.retransmits,
        applies: BOTH,
        samples: Samples::One(|account| account.counters.syn_retries),
    },
    Family {
        name: "tcpwarden_peer_synack_retries_total",
        kind: Kind::Counter,
        help: "SYN-ACKs we repeated, whether by our timer or because the peer repeated its SYN.",
        known: |tells| tells.synack_retries,
        applies: INBOUND,
        samples: Samples::One(|account| account.counters.synack_retries),
    },
    Family {
        name: "tcpwarden_peer_retransmits_total",
        kind: Kind::Counter,
        help: "Segments other than SYN and SYN-ACK that we repeated.",
        known: |tells| tells.retransmits,
        applies: BOTH,
        samples: Samples::One(|account| account.counters.retransmits),
    },
    Family {
        name: "tcpwarden_peer_resets_total",
        kind: Kind::Counter,
        help: "RSTs on a connection, by who sent them.",
        known: |tells| tells.resets_local && tells.resets_peer,
        applies: BOTH,
        samples: Samples::By("by", |account| {
            vec![("local", account.counters.resets_local), ("peer", account.counters.resets_peer)]
        }),
    },
    Family {
        name: "tcpwarden_peer_port_reuse_seconds",
        kind: Kind::Histogram,
        help: "Time between the close of a 4-tuple and its next connection.",
        known: ALWAYS,
        applies: BOTH,
        samples: Samples::Histogram(&REUSE_BOUNDS_NS, |account| &account.counters.reuse),
    },
    Family {
        name: "tcpwarden_peer_connect_failures_total",
        kind: Kind::Counter,
        help: "Connection attempts of ours that failed, by reason.",
        known: ALWAYS,
        applies: OUTBOUND,
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
        name: "tcpwarden_peer_connect_seconds",
        kind: Kind::Histogram,
        help: "Time from our SYN to an established connection.",
        known: ALWAYS,
        applies: OUTBOUND,
        samples: Samples::Histogram(&CONNECT_BOUNDS_NS, |account| &account.counters.connect),
    },
];

/// Reuses are the observations of their histogram; a counter of their own lets rules do without the histogram.
const REUSES: Family = Family {
    name: "tcpwarden_peer_port_reuses_total",
    kind: Kind::Counter,
    help: "New connections on a 4-tuple seen before, within the memory of closed 4-tuples (limits.closed_tuples).",
    known: ALWAYS,
    applies: BOTH,
    samples: Samples::One(|account| account.counters.reuse.buckets.iter().sum()),
};

/// Writes every family that this kernel lets us know.
pub(super) fn encode(snapshot: &Snapshot, body: &mut Vec<u8>) {
    let labels: Vec<Labels> = snapshot.accounts.iter().map(labels).collect();
    let mut text = Text::new(body);
    for family in FAMILIES.iter().chain([&REUSES]).filter(|family| (family.known)(snapshot.tells)) {
        text.family(family.name, family.kind, family.help);
        let accounts = snapshot.accounts.iter().zip(&labels);
        for (account, labels) in accounts.filter(|(account, _)| (family.applies)(account.direction)) {
            match &family.samples {
                Samples::One(value) => text.sample(family.name, labels, None, value(account)),
                Samples::By(label, values) => {
                    for (name, value) in values(account) {
                        text.sample(family.name, labels, Some((label, name)), value);
                    }
                }
                Samples::Histogram(bounds, histogram) => {
                    let Histogram { buckets, sum_ns } = histogram(account);
                    text.histogram(family.name, labels, bounds.as_slice(), buckets, *sum_ns);
                }
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
