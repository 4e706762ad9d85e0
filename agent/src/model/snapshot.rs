//! The figures at one moment, as the ways out show them.

use std::{sync::Arc, time::Duration};

use probe_ebpf::{
    account::{CHALLENGING_STATES, Calls, Counters},
    sweep::STATES,
};

use super::{
    names::{Failover, NameFigures},
    peer::{AccountId, Direction, Groups, Peer},
    pool::{EphemeralFigures, PoolFigures},
    refusals::{Clocks, RefusedReuse},
    states::state_name,
};

/// Everything there is to show.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Accounts with series of their own, by peer, port and direction; last the two of everyone else.
    pub accounts: Vec<ExportedAccount>,
    /// Which addresses are which peer.
    pub groups: Arc<Groups>,
    /// What the attached hooks can tell.
    pub tells: Tells,
    /// When it was taken.
    pub taken: Clocks,
    /// The last refused reuses, the oldest first.
    pub refused_reuses: Arc<[RefusedReuse]>,
    /// How many there were before these.
    pub refused_reuses_before: u64,
    /// Watched names, by name and port.
    pub names: Arc<[NameFigures]>,
    /// The last failovers, the oldest first.
    pub failovers: Arc<[Failover]>,
    /// The host.
    pub host: HostFigures,
    /// The agent.
    pub itself: SelfFigures,
}

/// One account.
#[derive(Clone, Debug)]
pub struct ExportedAccount {
    /// Who and which service port; `None` is everyone else.
    pub who: Option<(Peer, u16)>,
    /// Who called.
    pub direction: Direction,
    /// What only grows.
    pub counters: Counters,
    /// Sockets by state as of the last census.
    pub sockets: [u32; STATES],
    /// Connections of ours among them that have waited for an answer for too long.
    pub stalled: u32,
    /// Connections established per second, of late.
    pub connections_per_second: f64,
    /// Connection attempts that TIME_WAIT refused and the client gave up.
    pub gave_up: u64,
    /// Connection attempts that an open connection refused and the client gave up.
    pub challenged_gave_up: u64,
    /// Outbound: when it was answered.
    pub calls: Calls,
    /// Outbound: names of the processes that called it last.
    pub callers: Vec<Arc<str>>,
    /// The pool of source ports it draws from, if they are recorded; a group's is that of its fullest address.
    pub pool: Option<PoolFigures>,
    /// Outbound: our ports towards it, if they are followed; a group's are those towards its fullest address.
    pub ephemeral: Option<EphemeralFigures>,
}

impl ExportedAccount {
    /// Whose it is; `None` is everyone else.
    #[must_use]
    pub fn id(&self) -> Option<AccountId> {
        let (peer, port) = self.who.clone()?;
        Some(AccountId { peer, port, direction: self.direction })
    }

    /// SYNs that met a connection still open here, by the name of its state.
    pub fn challenged_by_state(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CHALLENGING_STATES.map(state_name).into_iter().zip(self.counters.challenged_syns)
    }
}

/// Which figures this kernel lets us know; what it does not is left out, not shown as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Tells {
    /// `tcp_retransmit_skb` is attached.
    pub retransmits: bool,
    /// `tcp_retransmit_synack` is attached.
    pub synack_retries: bool,
    /// `tcp_receive_reset` is attached.
    pub resets_peer: bool,
    /// `tcp_send_reset` is attached.
    pub resets_local: bool,
    /// Segments that meet a mini-socket are seen.
    pub time_wait: bool,
    /// SYNs that meet an open connection are seen.
    pub challenged: bool,
    /// The SYN watch is attached.
    pub syn_watch: bool,
    /// The census tells which connections wait for an answer.
    pub stalled: bool,
    /// How much a connection carried is known.
    pub aborted_early: bool,
    /// The timestamps of a connection are known.
    pub timestamps: bool,
}

/// The host's own figures.
#[derive(Clone, Debug, Default)]
pub struct HostFigures {
    /// All sockets by state, mini-sockets by their sub-state.
    pub sockets: [u32; STATES],
    /// Mini-sockets of both sub-states, by the kernel's own count.
    pub time_wait_buckets: u64,
    /// What that count may reach.
    pub time_wait_buckets_limit: Option<u64>,
    /// Connections that got no TIME_WAIT because of it.
    pub time_wait_overflows: u64,
    /// Accept queues.
    pub listen_queues: Vec<QueueFigures>,
    /// The accept queue was full.
    pub listen_overflows: u64,
    /// Dropped by a listener for whatever reason.
    pub listen_drops: u64,
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// Segments with SYN on connections that are still open, by the kernel's own count.
    pub syn_challenges: u64,
    /// Name and value of the settings that matter.
    pub sysctls: Vec<(&'static str, u64)>,
}

/// The accept queue of one port: of several listeners, that of the fullest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFigures {
    /// The port.
    pub port: u16,
    /// Connections waiting.
    pub waiting: u64,
    /// Its backlog: the smaller of listen()'s and `somaxconn`.
    pub limit: u64,
    /// All listening sockets of the port, by inode.
    pub sockets: Vec<u32>,
}

impl QueueFigures {
    /// How many connections may wait: the kernel calls a queue full that holds more than its backlog (include/net/sock.h of 6.18,
    /// sk_acceptq_is_full()), so the queue of listen(0) holds one.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.limit + 1
    }

    /// The share of it that is taken.
    #[must_use]
    pub fn used_ratio(&self) -> f64 {
        self.waiting as f64 / self.holds() as f64
    }
}

/// The agent's figures of itself.
#[derive(Clone, Debug, Default)]
pub struct SelfFigures {
    /// One per hook, and one for the census.
    pub probes: Vec<ProbeFigures>,
    /// Events that found no room, per map.
    pub lost: Vec<LostFigures>,
    /// The last census.
    pub census: CensusFigures,
    /// Segments with SYN on open connections that were seen since the agent attached, less the kernel's own count; `None` where they are
    /// not seen.
    pub challenged_drift: Option<i64>,
    /// Peers known, each counted per port and direction.
    pub peers: usize,
    /// Accounts forgotten because they were idle.
    pub peers_evicted: u64,
    /// Peers whose source ports are recorded.
    pub recorded_peers: usize,
    /// What became of the notices, per receiver.
    pub notifications: Vec<NotificationFigures>,
    /// Whether what a restart needs was saved when it last changed.
    pub state_last_save_successful: bool,
    /// The past on disk; `None` if none is kept.
    pub history: Option<HistoryFigures>,
    /// Whether the configuration in force is the one last given.
    pub config_last_reload_successful: bool,
    /// User and system time of the agent.
    pub cpu_seconds: f64,
    /// Its resident memory.
    pub resident_bytes: u64,
    /// Its open file descriptors.
    pub open_fds: u64,
    /// When it started, in seconds since the epoch.
    pub start_time_seconds: f64,
}

/// One program.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeFigures {
    /// Its name in labels.
    pub probe: &'static str,
    /// Where it is attached.
    pub hook: String,
    /// How; `unavailable` is not at all.
    pub mode: &'static str,
    /// What it ran; `None` where nothing is attached.
    pub runs: Option<RunFigures>,
}

/// Runs of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunFigures {
    /// Times it ran.
    pub runs: u64,
    /// Seconds it took, estimated; `None` where the kernel does not let us sample.
    pub seconds: Option<f64>,
    /// Runs the kernel left out; `None` where it does not say.
    pub missed: Option<u64>,
}

/// Events that found no room in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostFigures {
    /// The map.
    pub map: &'static str,
    /// How many so far.
    pub events: u64,
}

/// What became of the notices to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotificationFigures {
    /// Value of the `receiver` label.
    pub receiver: Arc<str>,
    /// It has them.
    pub delivered: u64,
    /// It was not reached, or had a trouble of its own; they are told again.
    pub failed: u64,
    /// It did not want them; they are told again, too.
    pub rejected: u64,
    /// They were no longer true before it could be told.
    pub superseded: u64,
    /// They found no room: ends of alerts that it may never have heard of.
    pub dropped: u64,
}

/// The past on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFigures {
    /// Why it is kept in memory only, if so.
    pub trouble: Option<String>,
    /// How large it is.
    pub bytes: u64,
    /// How large it may become.
    pub limit_bytes: u64,
}

/// The last census.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CensusFigures {
    /// CPU time it took.
    pub cost: Duration,
    /// Sockets walked.
    pub sockets: u64,
    /// Sockets whose peers have no account because the kernel's map is full: they are in `other`.
    pub without_account: u64,
    /// Mini-sockets it found, less the kernel's own count.
    pub drift: i64,
    /// By how many it was off the kernel's counts before and after it, as the censuses before it were; 0 if they were not.
    pub lasting_drift: i64,
    /// Time until the next one.
    pub interval: Duration,
}
