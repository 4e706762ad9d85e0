//! The per-peer families, written straight from the snapshot.

use probe_ebpf::account::{
    BOUNDS, CONNECT_BOUNDS_NS, CONNECT_FAILURES, ClosedBy, Histogram, LIFETIME_BOUNDS_NS, LONG_DELAY_NS,
    PATIENCE_NS, REUSE_BOUNDS_NS, RefusalAnswer, ReuseClock, Waits,
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
    /// A histogram with one bound, in nanoseconds.
    Waits(u64, fn(&ExportedAccount) -> &Waits),
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

const CHALLENGED: Shown = |_, tells| tells.challenged;

const FAMILIES: [Family; 45] = [
    Family {
        name: "tcpwarden_peer_sockets",
        kind: Kind::Gauge,
        help: "Sockets with this peer by TCP state as of the last census; timewait sockets as time_wait or fin_wait2.",
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
        help: "Connections of the peer that we ended within probe.aborted_within after fewer than probe.aborted_bytes of ours, though it had sent as many.",
        shown: |direction, tells| direction == Direction::Inbound && tells.aborted_early,
        samples: Samples::One(|account, _| account.counters.aborted_early),
    },
    Family {
        name: "tcpwarden_peer_answered_total",
        kind: Kind::Counter,
        help: "Closed connections of the peer that we sent at least probe.aborted_bytes on.",
        shown: |direction, tells| direction == Direction::Inbound && tells.aborted_early,
        samples: Samples::One(|account, _| account.counters.answered),
    },
    Family {
        name: "tcpwarden_peer_syns_total",
        kind: Kind::Counter,
        help: "SYNs: sent by us for the first time (outbound), received for the first time (inbound, with the SYN watch).",
        shown: |direction, tells| direction == Direction::Outbound || tells.syn_watch,
        samples: Samples::One(|account, tells| tells.syns(account.direction, &account.counters).first),
    },
    Family {
        name: "tcpwarden_peer_syn_retries_total",
        kind: Kind::Counter,
        help: "Retransmitted SYNs: ours (outbound), the peer's (inbound: on a pending request, into TIME_WAIT or on an open connection; with the SYN watch, all).",
        shown: |direction, tells| match direction {
            Direction::Inbound => tells.synack_retries || tells.syn_watch,
            Direction::Outbound => tells.retransmits,
        },
        samples: Samples::One(|account, tells| tells.syns(account.direction, &account.counters).repeated),
    },
    Family {
        name: "tcpwarden_peer_synack_retries_total",
        kind: Kind::Counter,
        help: "Retransmitted SYN-ACKs, by our timer or because the peer retransmitted its SYN.",
        shown: |direction, tells| direction == Direction::Inbound && tells.synack_retries,
        samples: Samples::One(|account, _| account.counters.synack_retries),
    },
    Family {
        name: "tcpwarden_peer_retransmits_total",
        kind: Kind::Counter,
        help: "Retransmitted segments other than SYN and SYN-ACK.",
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
            CONNECT_FAILURES.into_iter().zip(account.counters.connect_failures).collect()
        }),
    },
    Family {
        name: "tcpwarden_peer_connect_failure_seconds_total",
        kind: Kind::Counter,
        help: "Time that failed connection attempts of ours took, from connect() to the failure.",
        shown: OUTBOUND,
        samples: Samples::Seconds(|account| account.counters.connect_lost_ns),
    },
    Family {
        name: "tcpwarden_peer_connect_abandoned_seconds",
        kind: Kind::Histogram,
        help: "Time from connect() until our program closed the socket, of connection attempts without an answer by then.",
        shown: OUTBOUND,
        samples: Samples::Waits(PATIENCE_NS, |account| &account.counters.abandoned),
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
        help: "When a connection attempt of ours last failed or had to retransmit its SYN.",
        shown: OUTBOUND,
        samples: Samples::When(|account| account.calls.last_failure_ns),
    },
    Family {
        name: "tcpwarden_peer_caller_info",
        kind: Kind::Gauge,
        help: "Processes that last opened connections to this peer, three at most.",
        shown: OUTBOUND,
        samples: Samples::Names("process", |account| &account.callers),
    },
    Family {
        name: "tcpwarden_peer_stalled_sockets",
        kind: Kind::Gauge,
        help: "Connections of ours that have waited for an answer for longer than census.stalled_after and than is usual for the destination, as of the last census.",
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
        name: "tcpwarden_peer_port_reuse_clocks_total",
        kind: Kind::Counter,
        help: "New connections of the peer on a 4-tuple seen before, where both carried timestamps, by whether these are of the same clock.",
        shown: |direction, tells| direction == Direction::Inbound && tells.timestamps,
        samples: Samples::By("clock", |account| {
            let clocks = &account.counters.reuse_clocks;
            vec![("same", clocks[ReuseClock::Same as usize]), ("other", clocks[ReuseClock::Other as usize])]
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
        help: "Connection attempts that TIME_WAIT refused at first, by how they ended: connected after the peer's RST, connected after a retry, connected from another port, given up.",
        shown: TIME_WAIT,
        samples: Samples::By("end", |account| {
            let [reset, retry, other_port] = account.counters.refused_connected;
            vec![
                (End::Reset.name(), reset),
                (End::Retry.name(), retry),
                (End::OtherPort.name(), other_port),
                (End::GaveUp.name(), account.gave_up),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_refused_attempt_seconds",
        kind: Kind::Histogram,
        help: "Time from the first SYN that TIME_WAIT refused until the attempt connected, of those that did.",
        shown: TIME_WAIT,
        samples: Samples::Waits(LONG_DELAY_NS, |account| &account.counters.refused_delay),
    },
    Family {
        name: "tcpwarden_peer_refused_attempts_late_total",
        kind: Kind::Counter,
        help: "Connection attempts that TIME_WAIT refused and that still tried, or connected, more than 0.9 s later.",
        shown: TIME_WAIT,
        samples: Samples::One(|account, _| account.counters.refused_late),
    },
    Family {
        name: "tcpwarden_peer_challenged_syns_total",
        kind: Kind::Counter,
        help: "SYNs received on a connection that is still open here and answered by a challenge ACK (RFC 5961), by the state of that connection.",
        shown: CHALLENGED,
        samples: Samples::By("state", |account| account.challenged_by_state().collect()),
    },
    Family {
        name: "tcpwarden_peer_challenged_duplicates_total",
        kind: Kind::Counter,
        help: "Of these, late copies of the SYN or SYN-ACK by which the connection itself began.",
        shown: CHALLENGED,
        samples: Samples::One(|account, _| account.counters.challenged_duplicates),
    },
    Family {
        name: "tcpwarden_peer_challenged_attempts_total",
        kind: Kind::Counter,
        help: "Connection attempts that a connection still open refused at first, by how they ended: connected after the peer's RST, connected after a retry, connected from another port, given up.",
        shown: |direction, tells| direction == Direction::Inbound && tells.challenged,
        samples: Samples::By("end", |account| {
            let [reset, retry, other_port] = account.counters.challenged_connected;
            vec![
                (End::Reset.name(), reset),
                (End::Retry.name(), retry),
                (End::OtherPort.name(), other_port),
                (End::GaveUp.name(), account.challenged_gave_up),
            ]
        }),
    },
    Family {
        name: "tcpwarden_peer_source_ports",
        kind: Kind::Gauge,
        help: "Distinct source ports of the peer recently seen.",
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
        help: "Confidence that the peer's next connection comes from the observed pool, 0 to 1; trusted from 0.98.",
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
        name: "tcpwarden_peer_pool_reachable_ports",
        kind: Kind::Gauge,
        help: "Ports of the pool that can come to this server: all of them, or the part that a balancer sends here by a hash of the source port; absent while the agent learns which.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| pool.reachable.map(f64::from)),
    },
    Family {
        name: "tcpwarden_peer_pool_used_ports",
        kind: Kind::Gauge,
        help: "Ports of the peer (outbound: of ours) taken by TIME_WAIT or a live connection; with several local addresses, at the one with the most.",
        shown: ALWAYS,
        samples: Samples::Known(|account| match account.direction {
            Direction::Inbound => Some(account.pool.as_ref()?.load.used()),
            Direction::Outbound => Some(account.ephemeral?.load.used()),
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_used_ratio",
        kind: Kind::Gauge,
        help: "Share of the ports that can come to this server (outbound: of our ports) taken by TIME_WAIT or a live connection; with several local addresses, at the one with the most.",
        shown: ALWAYS,
        samples: Samples::Known(|account| match account.direction {
            Direction::Inbound => account.pool.as_ref()?.used_ratio(),
            Direction::Outbound => Some(account.ephemeral?.used_ratio()),
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_exhaustion_seconds",
        kind: Kind::Gauge,
        help: "Seconds until no port is free or, of a pool handed out in turn, until the first port comes back here that TIME_WAIT still keeps; +Inf if not expected at the current rate; absent without a forecast, as where ports are drawn at random.",
        shown: ALWAYS,
        samples: Samples::Known(|account| match account.direction {
            Direction::Inbound => account.pool.as_ref()?.exhaustion_seconds,
            Direction::Outbound => Some(account.ephemeral?.exhaustion_seconds),
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_forecast_confidence",
        kind: Kind::Gauge,
        help: "Confidence in the forecast of pool_exhaustion_seconds, 0 to 1; halved by each one that did not come true.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(pool.forecast_confidence)),
    },
    Family {
        name: "tcpwarden_peer_pool_allocations_per_second",
        kind: Kind::Gauge,
        help: "Ports that the peer hands out per second towards all servers together; known where it hands them out in turn.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(pool.turn.as_ref()?.rate)),
    },
    Family {
        name: "tcpwarden_peer_pool_round_seconds",
        kind: Kind::Gauge,
        help: "Seconds that one round takes through a pool that is handed out in turn, at this rate.",
        shown: INBOUND,
        samples: Samples::Pool(|pool| Some(pool.turn.as_ref()?.round_seconds)),
    },
    Family {
        name: "tcpwarden_peer_pool_returning_ratio",
        kind: Kind::Gauge,
        help: "Share of the ports used here that come back here after so many rounds and not before; below 1 in sum where other servers get some.",
        shown: INBOUND,
        samples: Samples::KnownBy("rounds", |account| {
            let turn = account.pool.as_ref().and_then(|pool| pool.turn.as_ref());
            let shares = turn.and_then(|turn| turn.returning.as_ref());
            shares.map_or_else(Vec::new, |shares| {
                ["1", "2", "3", "4", "5", "6"].into_iter().zip(shares.iter().copied()).collect()
            })
        }),
    },
    Family {
        name: "tcpwarden_peer_pool_expected_refused_ratio",
        kind: Kind::Gauge,
        help: "Share of the peer's SYNs here that TIME_WAIT will refuse at this rate, where ports are drawn at random; that will meet a TIME_WAIT, where they are handed out in turn (known from the second round on).",
        shown: INBOUND,
        samples: Samples::Pool(PoolFigures::expected_refused_ratio),
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
        Samples::Waits(bound, waits) => {
            let Waits { buckets, sum_ns } = waits(account);
            text.histogram(family.name, labels, &[*bound], buckets, *sum_ns);
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
    match account.id() {
        Some(id) => Labels::new(&[("peer", &id.peer), ("port", &id.port_name()), ("direction", &direction)]),
        None => Labels::new(&[("peer", &"other"), ("port", &"other"), ("direction", &direction)]),
    }
}
