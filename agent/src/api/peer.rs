//! The accounts of peers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    CONNECTED_STATES, ExportedAccount, Peer, Tells,
    past::{Field, Sample},
    pool::{EphemeralFigures, PoolFigures, Range, Ranges},
    port_map::{PortMap, PortState},
};

/// What is known of one peer and one service, or of everyone without an account of their own: then `peer` is `other` and `port` null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// An address, or the name of a configured group.
    pub peer: String,
    /// Whether it is a group.
    pub is_group: bool,
    /// The service port: ours when inbound, the peer's when outbound.
    pub port: Option<u16>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Its sockets by state.
    pub sockets: BTreeMap<String, u32>,
    /// Connections of ours that wait for an answer; null where that cannot be told.
    pub stalled: Option<u32>,
    /// Connections established per second, of late.
    pub connections_per_second: f64,
    /// Connections established since the account exists.
    pub connections: u64,
    /// Connections that ended, by who ended them: `local`, `peer`, `reset`, `timeout`.
    pub closes: BTreeMap<String, u64>,
    /// SYNs repeated.
    pub syn_retries: u64,
    /// SYNs that met a TIME_WAIT; null where they cannot be seen.
    pub time_wait_syns: Option<TimeWaitSyns>,
    /// Attempts of ours that failed, by reason.
    pub connect_failures: BTreeMap<String, u64>,
    /// The ports it draws from (inbound), or we draw from towards it (outbound), if that is known.
    pub pool: Option<Pool>,
    /// Names of the processes that called it last.
    pub processes: Vec<String>,
    /// Names of the alerts that are raised for it.
    pub alerts: Vec<String>,
}

/// SYNs that met a TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWaitSyns {
    /// Those that took its place.
    pub accepted: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// A pool of ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How it is known: `configured`, `observed`, or `sysctl` for our own ports. Null while it is not known.
    pub source: Option<String>,
    /// Its ports; empty while they are not known, and for our own.
    pub ranges: Vec<PortRange>,
    /// Number of its ports; null while it is not known.
    pub size: Option<u32>,
    /// Ports that are taken.
    pub taken: f64,
    /// Of these, the ones in TIME_WAIT.
    pub time_wait: f64,
    /// Ports that go into TIME_WAIT per second.
    pub time_wait_per_second: f64,
    /// The share that is taken.
    pub used_ratio: Option<f64>,
    /// Seconds until no port is free; null when that will not be.
    pub seconds_left: Option<f64>,
    /// Different source ports seen; null for our own.
    pub ports_seen: Option<u32>,
}

/// Ports from `low` to `high`, every `step`-th of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// 1, or 2 where only even or only odd ones are meant.
    pub step: u16,
}

/// All ports of a peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The address, which for a group is that with the most sockets.
    pub address: String,
    /// How many ports are in each state: `outside` (of the pool), `free`, `live`, `time_wait`, `refused` (a SYN, within the last minute).
    pub counts: BTreeMap<String, usize>,
    /// The ports, in runs of one state; those outside of the pool are left out.
    pub runs: Vec<PortRun>,
}

/// Ports next to each other in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRun {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// Their state.
    pub state: String,
}

/// Some figures of a second, or the worst of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// When it began.
    pub time: u64,
    /// Sockets in ESTABLISHED.
    pub established: u32,
    /// Sockets in TIME_WAIT.
    pub time_wait: u32,
    /// Connections established.
    pub connections: u32,
    /// SYNs repeated.
    pub syn_retries: u32,
    /// SYNs that a TIME_WAIT refused.
    pub refused: u32,
    /// Attempts of ours that failed.
    pub failed: u32,
    /// The share of the pool that is taken; null while it is not known.
    pub used_ratio: Option<f64>,
    /// Seconds until no port is free, as foreseen then; null where that was not foreseen.
    pub seconds_left: Option<u32>,
}

impl Account {
    /// What a snapshot holds of an account; `alerts` are the names of those raised for it.
    #[must_use]
    pub fn new(account: &ExportedAccount, tells: Tells, alerts: Vec<String>) -> Self {
        let counters = &account.counters;
        let (peer, is_group, port) = match &account.who {
            Some((peer, port)) => (peer.to_string(), matches!(peer, Peer::Group(_)), Some(*port)),
            None => ("other".to_owned(), false, None),
        };
        let named = |names: &[&str], counts: &[u64]| {
            names.iter().map(|&name| name.to_owned()).zip(counts.iter().copied()).collect()
        };
        let pool = account.pool.as_ref().map(Pool::from);
        Self {
            peer,
            is_group,
            port,
            direction: account.direction.name().to_owned(),
            sockets: CONNECTED_STATES
                .iter()
                .map(|&(name, state)| (name.to_owned(), account.sockets[state as usize]))
                .collect(),
            stalled: tells.stalled.then_some(account.stalled),
            connections_per_second: account.connections_per_second,
            connections: counters.connections,
            closes: named(&["local", "peer", "reset", "timeout"], &counters.closes),
            syn_retries: counters.syn_retries,
            time_wait_syns: tells.time_wait.then(|| TimeWaitSyns {
                accepted: counters.time_wait_accepted,
                refused: counters.time_wait_refused.iter().sum(),
            }),
            connect_failures: named(
                &["timeout", "refused", "unreachable", "reset", "other"],
                &counters.connect_failures,
            ),
            pool: pool.or_else(|| account.ephemeral.as_ref().map(Pool::from)),
            processes: account.callers.iter().map(ToString::to_string).collect(),
            alerts,
        }
    }
}

impl From<&PoolFigures> for Pool {
    fn from(figures: &PoolFigures) -> Self {
        let source = match (&figures.configured, figures.observed_pool()) {
            (Some(_), _) => Some("configured"),
            (None, Some(_)) => Some("observed"),
            (None, None) => None,
        };
        let pool = figures.pool();
        Self {
            source: source.map(str::to_owned),
            ranges: pool.map_or_else(Vec::new, |pool| pool.as_slice().iter().map(PortRange::from).collect()),
            size: pool.map(Ranges::len),
            taken: figures.load.used(),
            time_wait: figures.load.time_wait,
            time_wait_per_second: figures.load.rate,
            used_ratio: figures.used_ratio(),
            seconds_left: figures.exhaustion_seconds.filter(|left| left.is_finite()),
            ports_seen: Some(figures.source_ports),
        }
    }
}

impl From<&EphemeralFigures> for Pool {
    fn from(figures: &EphemeralFigures) -> Self {
        Self {
            source: Some("sysctl".to_owned()),
            ranges: Vec::new(),
            size: Some(figures.size),
            taken: figures.load.used(),
            time_wait: figures.load.time_wait,
            time_wait_per_second: figures.load.rate,
            used_ratio: Some(figures.used_ratio()),
            seconds_left: Some(figures.exhaustion_seconds).filter(|left| left.is_finite()),
            ports_seen: None,
        }
    }
}

impl From<&Range> for PortRange {
    fn from(range: &Range) -> Self {
        let Range { low, high, step } = *range;
        Self { low, high, step }
    }
}

impl Ports {
    /// The map of an address' ports.
    #[must_use]
    pub fn new(address: String, map: &PortMap) -> Self {
        let runs = map.runs(usize::from(u16::MAX) + 1).filter(|run| run.state != PortState::Outside);
        Self {
            address,
            counts: PortState::ALL.iter().map(|state| (state.name().to_owned(), map.count(*state))).collect(),
            runs: runs
                .map(|run| PortRun { low: run.low, high: run.high, state: run.state.name().to_owned() })
                .collect(),
        }
    }
}

impl Second {
    /// A sample, and the first second it stands for.
    #[must_use]
    pub fn new(time: u64, sample: &Sample) -> Self {
        let left = sample[Field::SecondsLeft];
        Self {
            time,
            established: sample[Field::Established],
            time_wait: sample[Field::TimeWait],
            connections: sample[Field::Connections],
            syn_retries: sample[Field::SynRetries],
            refused: sample.refused(),
            failed: sample.failed(),
            used_ratio: sample.used_ratio(),
            seconds_left: (left != Sample::NEVER).then_some(left),
        }
    }
}
