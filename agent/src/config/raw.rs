//! The file as it is typed. Every key is optional; unknown keys are errors.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use toml::value::Datetime;

use super::{CensusMode, HookMode, Measure, ReceiverKind, Severity};

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
    /// Names that are watched.
    pub watch: Vec<Watch>,
    /// What is kept over a restart.
    pub state: State,
    /// How much of the past is kept.
    pub history: History,
    /// What differs from the alerts' defaults, by name.
    pub alerts: BTreeMap<String, Alert>,
    /// When what is not announced.
    pub silence: Vec<Silence>,
    /// Who is told of alerts.
    pub receiver: Vec<Receiver>,
    /// Labels that each alert carries beside its own.
    pub labels: BTreeMap<String, String>,
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
    /// Under which URL people reach the agent, for links in alerts.
    pub external_url: Option<String>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen_address: SocketAddr::from(([127, 0, 0, 1], 9796)),
            telemetry_path: "/metrics".to_owned(),
            max_requests: 40,
            external_url: None,
        }
    }
}

/// `[probe]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// How the events are hooked.
    pub hooks: HookMode,
    /// Count every SYN that reaches a listener, at a cost for every packet received.
    pub syn_watch: bool,
    /// A connection to us that we end sooner may have been aborted early.
    #[serde(with = "humantime_serde")]
    pub aborted_within: Duration,
    /// It was, if we sent fewer bytes, and the peer did not.
    pub aborted_bytes: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            hooks: HookMode::default(),
            syn_watch: false,
            aborted_within: Duration::from_secs(1),
            aborted_bytes: 64,
        }
    }
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
    /// A connection of ours that has waited for an answer for so long is stalled.
    #[serde(with = "humantime_serde")]
    pub stalled_after: Duration,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            source: CensusMode::Auto,
            min_interval: Duration::from_secs(1),
            max_interval: Duration::from_mins(1),
            cpu_budget: 0.01,
            stalled_after: Duration::from_secs(10),
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
    /// Destinations and processes that call them.
    pub callers: u32,
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
            callers: 4_096,
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
    /// What differs from `[alerts]` for this peer, by name.
    #[serde(default)]
    pub alerts: BTreeMap<String, Alert>,
}

/// `[[watch]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The name.
    pub name: String,
    /// The port that is called under it; held against what a port can be later.
    pub port: i64,
    /// How often it is resolved.
    #[serde(with = "humantime_serde", default = "every_second")]
    pub every: Duration,
    /// How often while an address of it fails.
    #[serde(with = "humantime_serde", default = "four_times_a_second")]
    pub failing_every: Duration,
}

fn every_second() -> Duration {
    Duration::from_secs(1)
}

fn four_times_a_second() -> Duration {
    Duration::from_millis(250)
}

/// `[state]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Where it is kept.
    pub directory: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { directory: PathBuf::from("/var/lib/tcpwarden") }
    }
}

/// `[history]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// So much may the file take, in MiB; 0 keeps nothing.
    pub size_mib: u32,
    /// How long the figures of every second are kept.
    #[serde(with = "humantime_serde")]
    pub detail: Duration,
    /// How long the figures of every minute are kept, and what happened.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { size_mib: 256, detail: Duration::from_hours(24), keep: Duration::from_hours(14 * 24) }
    }
}

/// `[alerts.NAME]`; which measures an alert has is checked later.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alert {
    /// Whether it is raised at all.
    pub enabled: Option<bool>,
    /// How long a value must be bad before the alert is raised.
    #[serde(rename = "for", with = "humantime_serde")]
    pub hold: Option<Duration>,
    /// How long it must be good before the alert is over.
    #[serde(with = "humantime_serde")]
    pub keep_firing_for: Option<Duration>,
    /// From so many peers at once on, a warning is critical.
    pub critical_peers: Option<usize>,
    used_ratio: Option<Thresholds>,
    seconds_left: Option<Thresholds>,
    expected_refused_ratio: Option<Thresholds>,
    refused_per_minute: Option<Thresholds>,
    challenged_per_minute: Option<Thresholds>,
    retry_ratio: Option<Thresholds>,
    overflows_per_minute: Option<Thresholds>,
    queue_ratio: Option<Thresholds>,
    stale_seconds: Option<Thresholds>,
    unresolved_seconds: Option<Thresholds>,
    resolve_seconds: Option<Thresholds>,
    lost_per_minute: Option<Thresholds>,
    unanswered_per_minute: Option<Thresholds>,
    stalled_connections: Option<Thresholds>,
    aborted_ratio: Option<Thresholds>,
    close_wait_sockets: Option<Thresholds>,
}

impl Alert {
    /// The measures that are given.
    pub fn measures(&self) -> impl Iterator<Item = (Measure, Thresholds)> {
        let given = [
            (Measure::UsedRatio, self.used_ratio),
            (Measure::SecondsLeft, self.seconds_left),
            (Measure::ExpectedRefusedRatio, self.expected_refused_ratio),
            (Measure::RefusedPerMinute, self.refused_per_minute),
            (Measure::ChallengedPerMinute, self.challenged_per_minute),
            (Measure::RetryRatio, self.retry_ratio),
            (Measure::OverflowsPerMinute, self.overflows_per_minute),
            (Measure::QueueRatio, self.queue_ratio),
            (Measure::StaleSeconds, self.stale_seconds),
            (Measure::UnresolvedSeconds, self.unresolved_seconds),
            (Measure::ResolveSeconds, self.resolve_seconds),
            (Measure::LostPerMinute, self.lost_per_minute),
            (Measure::UnansweredPerMinute, self.unanswered_per_minute),
            (Measure::StalledConnections, self.stalled_connections),
            (Measure::AbortedRatio, self.aborted_ratio),
            (Measure::CloseWaitSockets, self.close_wait_sockets),
        ];
        given.into_iter().filter_map(|(measure, thresholds)| Some((measure, thresholds?)))
    }
}

/// `{ warn = …, crit = …, clear = … }`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// A warning is raised at this value.
    pub warn: Option<f64>,
    /// It is critical at this value.
    pub crit: Option<f64>,
    /// What was raised is over at this value.
    pub clear: Option<f64>,
}

/// `[[silence]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Silence {
    /// Which alerts; none is all.
    pub alerts: Vec<String>,
    /// Whose; none is everyone's, and those about the host.
    pub peers: Vec<String>,
    /// Begin of a single window.
    pub starts: Option<Datetime>,
    /// Its end.
    pub ends: Option<Datetime>,
    /// Days of a window that comes again; none is every day.
    pub days: Vec<String>,
    /// Time of day of its begin, UTC.
    pub from: Option<Datetime>,
    /// Time of day of its end, UTC.
    pub to: Option<Datetime>,
}

/// `[[receiver]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Value of the `receiver` label.
    pub name: String,
    /// What it speaks.
    #[serde(rename = "type")]
    pub kind: ReceiverKind,
    /// Where it is.
    pub url: Option<String>,
    /// File with the value of the Authorization header.
    pub authorization_file: Option<PathBuf>,
    /// File with the authorities that may vouch for it, instead of those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// File with the secret that signs what is sent.
    pub hmac_secret_file: Option<PathBuf>,
    /// Nothing below it is told.
    #[serde(default)]
    pub min_severity: Severity,
}
