//! The file as it is typed. Every key is optional; unknown keys are errors.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;

use super::{CensusMode, HookMode};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Serving HTTP.
    pub web: Web,
    /// Which ways into the kernel to take.
    pub probe: Probe,
    /// How often the sockets are counted.
    pub census: Census,
    /// Sizes of what is remembered.
    pub limits: Limits,
    /// Named groups of peers.
    pub peer: Vec<Peer>,
}

/// `[web]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Web {
    /// Address and port to listen on.
    pub listen_address: SocketAddr,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes answered at the same time; the others get 503. 0 is no limit.
    pub max_requests: usize,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen_address: SocketAddr::from(([127, 0, 0, 1], 9796)),
            telemetry_path: "/metrics".to_owned(),
            max_requests: 40,
        }
    }
}

/// `[probe]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// How the events are hooked.
    pub hooks: HookMode,
    /// Count every SYN that reaches a listener, at a cost for every packet received.
    pub syn_watch: bool,
}

/// `[census]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Census {
    /// How the sockets are counted.
    pub source: CensusMode,
    /// Shortest time between two counts.
    #[serde(with = "humantime_serde")]
    pub min_interval: Duration,
    /// Longest time between two counts.
    #[serde(with = "humantime_serde")]
    pub max_interval: Duration,
    /// Share of one core that counting may take.
    pub cpu_budget: f64,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            source: CensusMode::Auto,
            min_interval: Duration::from_secs(1),
            max_interval: Duration::from_mins(1),
            cpu_budget: 0.01,
        }
    }
}

/// `[limits]`: sizes of what is remembered. It means what it says, so the validated settings hold it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Accounts of peers kept in the kernel.
    pub peers: u32,
    /// Accounts of peers that never completed a handshake.
    pub half_open_peers: u32,
    /// Open connections whose start is remembered.
    pub connections: u32,
    /// Closed 4-tuples remembered to recognise a reuse.
    pub closed_tuples: u32,
    /// Peers whose source ports are recorded.
    pub tracked_peers: u32,
    /// 4-tuples whose refused SYNs are followed.
    pub refusals: u32,
    /// SYNs remembered to recognise a repeated one, while the SYN watch is on.
    pub syns: u32,
    /// Refused reuses kept for the record.
    pub events: usize,
    /// Accounts with series of their own.
    pub exported_peers: usize,
    /// How long an account without sockets and events is kept.
    #[serde(with = "humantime_serde")]
    pub forget_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 16_384,
            half_open_peers: 4_096,
            connections: 131_072,
            closed_tuples: 524_288,
            tracked_peers: 256,
            refusals: 8_192,
            syns: 65_536,
            events: 1_000,
            exported_peers: 100,
            forget_after: Duration::from_mins(10),
        }
    }
}

/// `[[peer]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Value of the `peer` label.
    pub name: String,
    /// Networks (or single addresses) that belong to the group.
    pub cidrs: Vec<String>,
    /// The source ports that each address of the group draws from, such as `2048-16383` or `1024-9999, 20000-29999`.
    pub port_pool: Option<String>,
}
