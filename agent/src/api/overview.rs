//! The host and the agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{CONNECTED_STATES, Snapshot, UNCONNECTED_STATES};

/// How the host and the agent are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// When the figures were taken.
    pub time: f64,
    /// The host.
    pub host: Host,
    /// The agent.
    pub agent: Agent,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// All TCP sockets by state.
    pub sockets: BTreeMap<String, u32>,
    /// Mini-sockets, by the kernel's own count.
    pub time_wait_buckets: u64,
    /// How many there may be (net.ipv4.tcp_max_tw_buckets).
    pub time_wait_buckets_limit: Option<u64>,
    /// Times that an accept queue was full, since boot.
    pub listen_overflows: u64,
    /// Who listens.
    pub listeners: Vec<Listener>,
    /// The settings of the kernel that matter, by name.
    pub settings: BTreeMap<String, u64>,
}

/// The accept queue of one port; of several listeners, the fullest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Connections waiting to be accepted.
    pub waiting: u64,
    /// Its backlog, the smaller of listen()'s and `somaxconn`.
    pub limit: u64,
}

impl Listener {
    /// How many connections may wait: one more than the backlog.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.limit + 1
    }
}

/// The agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: f64,
    /// Accounts known; not all of them have figures of their own.
    pub peers: usize,
    /// Time between two counts of the sockets.
    pub census_interval_seconds: f64,
    /// CPU time of the last count.
    pub census_seconds: f64,
    /// Mini-sockets that it found, less the kernel's own count.
    pub census_drift: i64,
    /// User and system CPU time so far.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// What found no room so far, where anything did.
    pub lost: Vec<Lost>,
    /// Hooks that this kernel does not have.
    pub unavailable: Vec<String>,
    /// Why the past is kept in memory only.
    pub history_trouble: Option<String>,
    /// Whether the configuration last given is in force.
    pub config_reloaded: bool,
}

/// Events that found no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where.
    pub map: String,
    /// How many.
    pub events: u64,
}

impl From<&Snapshot> for Overview {
    fn from(snapshot: &Snapshot) -> Self {
        let (host, itself) = (&snapshot.host, &snapshot.itself);
        let states = CONNECTED_STATES.into_iter().chain(UNCONNECTED_STATES);
        let listeners = host.listen_queues.iter();
        let lost = itself.lost.iter().filter(|lost| lost.events > 0);
        let unavailable = itself.probes.iter().filter(|probe| probe.mode == "unavailable");
        Self {
            time: snapshot.taken.unix_seconds,
            host: Host {
                sockets: states
                    .map(|(name, state)| (name.to_owned(), host.sockets[state as usize]))
                    .collect(),
                time_wait_buckets: host.time_wait_buckets,
                time_wait_buckets_limit: host.time_wait_buckets_limit,
                listen_overflows: host.listen_overflows,
                listeners: listeners
                    .map(|queue| Listener { port: queue.port, waiting: queue.waiting, limit: queue.limit })
                    .collect(),
                settings: host.sysctls.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
            },
            agent: Agent {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: itself.start_time_seconds,
                peers: itself.peers,
                census_interval_seconds: itself.census.interval.as_secs_f64(),
                census_seconds: itself.census.cost.as_secs_f64(),
                census_drift: itself.census.drift,
                cpu_seconds: itself.cpu_seconds,
                resident_bytes: itself.resident_bytes,
                lost: lost.map(|lost| Lost { map: lost.map.to_owned(), events: lost.events }).collect(),
                unavailable: unavailable.map(|probe| probe.probe.to_owned()).collect(),
                history_trouble: itself.history.as_ref().and_then(|history| history.trouble.clone()),
                config_reloaded: itself.config_last_reload_successful,
            },
        }
    }
}
