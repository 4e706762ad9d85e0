//! The accounts of peers.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::model::{
    CONNECT_FAILURES, CONNECTED_STATES, ExportedAccount, Peer, Tells,
    past::{Field, Sample},
    pool::{self, EphemeralFigures, PoolFigures, Range, Ranges},
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
    /// SYNs that met a connection still open here; null where they cannot be seen.
    pub challenged_syns: Option<ChallengedSyns>,
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
    /// Attempts so refused that connected after all.
    pub connected: u64,
    /// Attempts so refused that the client gave up.
    pub gave_up: u64,
    /// Attempts so refused that waited for 0.9 s or more, whatever came of them.
    pub late: u64,
}

/// SYNs that met a connection still open here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengedSyns {
    /// By the state of that connection; late copies of its own are among them.
    pub by_state: BTreeMap<String, u64>,
    /// Late copies of the SYN or SYN-ACK by which that connection began.
    pub duplicates: u64,
    /// Attempts so refused, by how they ended: `reset`, `retry`, `other_port`, `gave_up`.
    pub attempts: BTreeMap<String, u64>,
}

impl ChallengedSyns {
    /// Those that were attempts to connect.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.by_state.values().sum::<u64>().saturating_sub(self.duplicates)
    }
}

/// A pool of ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How it is known: `configured`, `observed`, `remembered` (observed before, and not contradicted since), or `sysctl` for our own ports. Null while it is not known.
    pub source: Option<String>,
    /// Its ports; empty while they are not known, and for our own.
    pub ranges: Vec<PortRange>,
    /// Number of its ports; null while it is not known.
    pub size: Option<u32>,
    /// The local address with the most of these ports taken; the figures below are for this address. Null while no census found a socket.
    pub local_address: Option<IpAddr>,
    /// Number of local addresses that the peer has sockets at.
    #[serde(default)]
    pub local_addresses: u32,
    /// Ports that are taken.
    pub taken: f64,
    /// Of these, the ones in TIME_WAIT.
    pub time_wait: f64,
    /// Ports that go into TIME_WAIT per second.
    pub time_wait_per_second: f64,
    /// How many of the ports can come to this server: fewer than there are where a balancer hashes the source port. Null while that is not
    /// known, and for our own.
    #[serde(default)]
    pub reachable_ports: Option<u32>,
    /// What lies between them, where they are a part: `by_chance` (a hash), `regular` (steps of the peer or the balancer) or `unknown`.
    #[serde(default)]
    pub gaps: Option<String>,
    /// Whether it is not settled yet, or no longer, which ports can come here.
    #[serde(default)]
    pub learning: bool,
    /// The share that is taken of the ports that can come here.
    pub used_ratio: Option<f64>,
    /// Seconds until no port is free, or, where it is known how the peer goes round (or a machine behind it in its block) and which ports come
    /// back here, until the first SYN meets a TIME_WAIT; null when that will not be, and while it is not known.
    pub seconds_left: Option<f64>,
    /// How surely such forecasts of this pool come true, by those before, 0 to 1; null for our own.
    #[serde(default)]
    pub forecast_confidence: Option<f64>,
    /// Different source ports seen; null for our own.
    pub ports_seen: Option<u32>,
    /// How the peer goes round it; null where its ports are not seen to be handed out in turn, and for our own.
    pub turn: Option<Turn>,
    /// What its SYNs meet, where it draws its ports at random; null where it is not seen to, and for our own.
    #[serde(default)]
    pub chance: Option<Chance>,
    /// Which blocks of ports have become too small for the machines behind the address that they are assigned to; null where none is seen to,
    /// and for our own.
    #[serde(default)]
    pub outgrown: Option<Outgrown>,
    /// The machine behind the address that goes round its block of ports sooner than a TIME_WAIT ends, the first of them to meet one; null where
    /// none does, and for our own.
    #[serde(default)]
    pub circling: Option<Circling>,
}

/// A block of ports that is handed out in turn too fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circling {
    /// The block.
    pub block: PortRange,
    /// Ports handed out per second.
    pub per_second: f64,
    /// Seconds until it has been gone round once.
    pub round_seconds: f64,
    /// All this, and the seconds left, in words.
    pub text: String,
}

/// Blocks of ports that the SYNs come from that TIME_WAIT refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgrown {
    /// The blocks.
    pub blocks: Vec<PortRange>,
    /// Attempts from them that were refused in the last seconds.
    pub refused: usize,
    /// All attempts of the address that were.
    pub all_refused: usize,
    /// How many seconds those are: 60, or fewer of a peer with more than 136 SYNs a second.
    #[serde(default = "minute")]
    pub seconds: u32,
    /// All this in words.
    pub text: String,
}

/// What an agent looked at that did not tell.
const fn minute() -> u32 {
    60
}

/// A pool that is drawn from at random: it runs out at no moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// The share of its SYNs here that TIME_WAIT refused in the last minute.
    pub refused_ratio: f64,
    /// The share that it refuses in the long run at this rate; null while it is not known what becomes of SYNs that meet one.
    pub expected_refused_ratio: Option<f64>,
}

/// A pool that is handed out in turn, to connections towards whichever server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Ports handed out per second, over all servers.
    pub per_second: f64,
    /// Seconds until it has been gone round once.
    pub round_seconds: f64,
    /// The shares of the ports used here that are used here again after 1, 2, 3 … rounds and not before, for as many rounds as that is
    /// known of; null while it is known of none.
    pub returning: Option<Vec<f64>>,
    /// The share of its SYNs here that will meet a TIME_WAIT; null while that is not known.
    pub expected_refused_ratio: Option<f64>,
    /// All this, and the seconds left, in words; the peer's name goes before them.
    pub text: String,
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
    /// The address, which for a group is that with the most sockets. The ports are those it uses towards the address of ours with the
    /// most of them.
    pub address: String,
    /// How many ports are in each state: `outside` (of the pool), `elsewhere` (of the pool, and other servers get it), `free`, `live`, `time_wait`, `refused` (a SYN, within the last minute).
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
            syn_retries: tells.syns(account.direction, counters).repeated,
            time_wait_syns: tells.time_wait.then(|| TimeWaitSyns {
                accepted: counters.time_wait_accepted,
                refused: counters.time_wait_refused.iter().sum(),
                connected: counters.refused_connected.iter().sum(),
                gave_up: account.gave_up,
                late: counters.refused_late,
            }),
            challenged_syns: tells.challenged.then(|| ChallengedSyns {
                by_state: account
                    .challenged_by_state()
                    .map(|(state, syns)| (state.to_owned(), syns))
                    .collect(),
                duplicates: counters.challenged_duplicates,
                attempts: named(
                    &["reset", "retry", "other_port", "gave_up"],
                    &[
                        counters.challenged_connected[0],
                        counters.challenged_connected[1],
                        counters.challenged_connected[2],
                        account.challenged_gave_up,
                    ],
                ),
            }),
            connect_failures: named(&CONNECT_FAILURES, &counters.connect_failures),
            pool: pool.or_else(|| account.ephemeral.as_ref().map(Pool::from)),
            processes: account.callers.iter().map(ToString::to_string).collect(),
            alerts,
        }
    }
}

impl Pool {
    /// Whether [`Self::seconds_left`] is until the first SYN meets a TIME_WAIT, and not until no port is free.
    #[must_use]
    pub fn follows_returns(&self) -> bool {
        self.circling.is_some() || self.turn.as_ref().is_some_and(|turn| turn.returning.is_some())
    }

    /// Whether it is known how the peer goes round, but not when its SYNs meet a TIME_WAIT: such a forecast did not come true, or the host keeps
    /// no more TIME_WAITs.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        let is_told = |turn: &Turn| turn.returning.is_none() || turn.expected_refused_ratio.is_some();
        self.seconds_left.is_none() && self.turn.as_ref().is_some_and(|turn| !is_told(turn))
    }
}

impl From<&PoolFigures> for Pool {
    fn from(figures: &PoolFigures) -> Self {
        let source = match (&figures.configured, figures.observed_pool()) {
            (Some(_), _) => Some("configured"),
            (None, Some(_)) if figures.remembered => Some("remembered"),
            (None, Some(_)) => Some("observed"),
            (None, None) => None,
        };
        let pool = figures.pool();
        Self {
            source: source.map(str::to_owned),
            ranges: pool.map_or_else(Vec::new, |pool| pool.as_slice().iter().map(PortRange::from).collect()),
            size: pool.map(Ranges::len),
            local_address: figures.local,
            local_addresses: figures.local_addresses,
            taken: figures.load.used(),
            time_wait: figures.load.time_wait,
            time_wait_per_second: figures.load.rate,
            reachable_ports: figures.reachable,
            gaps: figures.gaps.map(|gaps| gaps.name().to_owned()),
            learning: figures.is_learning,
            used_ratio: figures.used_ratio(),
            seconds_left: figures.exhaustion_seconds.filter(|left| left.is_finite()),
            forecast_confidence: Some(figures.forecast_confidence),
            ports_seen: Some(figures.source_ports),
            turn: figures.turn.as_ref().map(|turn| Turn::new(turn, figures.load.rate)),
            chance: figures.chance.as_ref().map(Chance::from),
            outgrown: figures.outgrown.as_ref().map(Outgrown::from),
            circling: figures.circling.as_ref().map(Circling::from),
        }
    }
}

impl From<&EphemeralFigures> for Pool {
    fn from(figures: &EphemeralFigures) -> Self {
        Self {
            source: Some("sysctl".to_owned()),
            ranges: Vec::new(),
            size: Some(figures.size),
            local_address: figures.local,
            local_addresses: figures.local_addresses,
            taken: figures.load.used(),
            time_wait: figures.load.time_wait,
            time_wait_per_second: figures.load.rate,
            reachable_ports: None,
            gaps: None,
            learning: false,
            used_ratio: Some(figures.used_ratio()),
            seconds_left: Some(figures.exhaustion_seconds).filter(|left| left.is_finite()),
            forecast_confidence: None,
            ports_seen: None,
            turn: None,
            chance: None,
            outgrown: None,
            circling: None,
        }
    }
}

impl From<&pool::Circling> for Circling {
    fn from(circling: &pool::Circling) -> Self {
        let pool::Circling { block, rate, round_seconds, .. } = circling;
        Self {
            block: PortRange::from(block),
            per_second: *rate,
            round_seconds: *round_seconds,
            text: circling.text(),
        }
    }
}

impl From<&pool::Outgrown> for Outgrown {
    fn from(outgrown: &pool::Outgrown) -> Self {
        let pool::Outgrown { blocks, refused, all_refused, seconds } = outgrown;
        Self {
            blocks: blocks.iter().map(PortRange::from).collect(),
            refused: *refused,
            all_refused: *all_refused,
            seconds: *seconds,
            text: outgrown.text(),
        }
    }
}

impl From<&pool::Chance> for Chance {
    fn from(chance: &pool::Chance) -> Self {
        let pool::Chance { refused_ratio, expected_refused_ratio } = *chance;
        Self { refused_ratio, expected_refused_ratio }
    }
}

impl Turn {
    /// `here` is how many of its ports go into TIME_WAIT here per second.
    fn new(turn: &pool::Turn, here: f64) -> Self {
        Self {
            per_second: turn.rate,
            round_seconds: turn.round_seconds,
            returning: turn.returning.clone(),
            expected_refused_ratio: turn.expected_refused_ratio(),
            text: turn.text(here),
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
