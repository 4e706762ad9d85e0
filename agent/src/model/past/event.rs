//! What happened, as it is kept and as it is told to programs.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use probe_ebpf::sweep::state;

use crate::model::{
    AccountId, Clocks, PortName, RefusedReuse,
    names::{Failover, Part},
    state_name,
};

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// In seconds since the epoch.
    pub time: f64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// A peer's account, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// An address, or the name of a configured group.
    pub peer: String,
    /// The service port: ours when inbound, the peer's when outbound.
    pub port: u16,
    /// `inbound` or `outbound`.
    pub direction: String,
}

impl Who {
    /// Its port as it is written.
    #[must_use]
    pub fn port_name(&self) -> PortName {
        PortName::new(self.port, &self.direction)
    }
}

impl From<&AccountId> for Who {
    fn from(id: &AccountId) -> Self {
        Self { peer: id.peer.to_string(), port: id.port, direction: id.direction.name().to_owned() }
    }
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// This agent began to watch.
    AgentStarted {
        /// Its version.
        version: String,
    },
    /// This agent ceased to watch.
    AgentStopped,
    /// The configuration was read again.
    ConfigReloaded {
        /// Whether it is in force.
        successful: bool,
    },
    /// How the kernel is set, and what it tells: when the agent started, and once a day.
    Settings {
        /// The settings in force, by name.
        values: BTreeMap<String, u64>,
        /// Figures that this kernel does not let the agent know.
        unknown: Vec<String>,
    },
    /// A setting of the kernel was changed.
    SettingChanged {
        /// Which.
        name: String,
        /// Its value before; null where there was none.
        before: Option<u64>,
        /// Its value since.
        after: Option<u64>,
    },
    /// Somebody listens on a port of ours.
    ListenerOpened {
        /// The port.
        port: u16,
    },
    /// Nobody listens on a port of ours any more.
    ListenerClosed {
        /// The port.
        port: u16,
    },
    /// All sockets that listen on a port of ours are new: its program was started anew.
    ListenerRestarted {
        /// The port.
        port: u16,
    },
    /// The connections per second of a peer changed clearly.
    TrafficStep {
        /// Whose.
        #[serde(flatten)]
        who: Who,
        /// Connections per second before.
        before: f64,
        /// Connections per second since.
        after: f64,
    },
    /// It became known from which ports a peer draws, or that these have changed; and once a day.
    PoolKnown {
        /// Whose.
        #[serde(flatten)]
        who: Who,
        /// The ranges.
        ports: String,
        /// Number of ports in them.
        size: u32,
        /// Whether they are those of the configuration.
        configured: bool,
    },
    /// A machine behind a peer's address has outgrown its block of ports, or another one has.
    BlockOutgrown {
        /// Whose.
        #[serde(flatten)]
        who: Who,
        /// Which block, and what share of the refused attempts came from it.
        text: String,
    },
    /// An alert was raised.
    AlertRaised(AlertEvent),
    /// An alert that was raised before is still raised: when the agent started, and once a day.
    AlertGoesOn(AlertEvent),
    /// An alert became better or worse.
    AlertChanged(AlertEvent),
    /// An alert is over.
    AlertOver(AlertEvent),
    /// Notices to a receiver were delivered, or not.
    Notices {
        /// Which.
        receiver: String,
        /// `delivered`, `failed`, `rejected`, `superseded` or `dropped`.
        outcome: String,
        /// How many.
        notices: u64,
    },
    /// A SYN met a TIME_WAIT and was refused.
    RefusedReuse(RefusedReuseEvent),
    /// A watched name began to list an address, or ceased to.
    AddressChanged {
        /// The name.
        name: String,
        /// The port that is called under it.
        port: u16,
        /// The address.
        address: IpAddr,
        /// Whether it came.
        came: bool,
    },
    /// Connections moved from one address of a name to another.
    Failover(FailoverEvent),
}

impl Event {
    /// Whether it says how things stand until they change again.
    #[must_use]
    pub fn stands(&self) -> bool {
        matches!(self, Self::Settings { .. } | Self::SettingChanged { .. } | Self::PoolKnown { .. })
    }
}

/// An alert at the moment it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertEvent {
    /// Which.
    pub alert: String,
    /// How bad.
    pub severity: String,
    /// The peer it is about, if any.
    pub peer: String,
    /// The port it is about, if any.
    pub port: Option<u16>,
    /// `inbound`, `outbound` or nothing.
    pub direction: String,
    /// The watched name it is about, if any.
    pub name: String,
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// What was found.
    pub text: String,
}

impl AlertEvent {
    /// Whether it is about this account.
    #[must_use]
    pub fn is_about(&self, who: &Who) -> bool {
        (&self.peer, self.port, &self.direction) == (&who.peer, Some(who.port), &who.direction)
    }
}

/// A refused reuse, once it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedReuseEvent {
    /// Whose.
    pub peer: String,
    /// The source port of the first refused SYN.
    pub peer_port: u16,
    /// Our address.
    pub address: IpAddr,
    /// Our port.
    pub port: u16,
    /// State of the old connection when the first SYN met it; records older than this field are of TIME_WAIT.
    #[serde(default = "time_wait")]
    pub state: String,
    /// `reset`, `retry`, `other_port` or `gave_up`.
    pub end: String,
    /// SYNs that repeated the first.
    pub retries: u32,
    /// From the first refused SYN to the connection, or to the last SYN of a client that gave up.
    pub waited_seconds: f64,
    /// The refused SYNs by how they were answered.
    pub answers: Answers,
}

fn time_wait() -> String {
    state_name(state::TIME_WAIT).to_owned()
}

impl RefusedReuseEvent {
    /// Whether the old connection was still open, and not in TIME_WAIT.
    #[must_use]
    pub fn was_open(&self) -> bool {
        self.state != state_name(state::TIME_WAIT)
    }
}

/// How SYNs were answered that TIME_WAIT or an open connection refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// By a bare ACK.
    pub ack: u32,
    /// By a RST.
    pub reset: u32,
    /// Not at all.
    pub none: u32,
}

impl From<&RefusedReuse> for Happened {
    fn from(reuse: &RefusedReuse) -> Self {
        let [ack, reset, none] = reuse.answers;
        let event = RefusedReuseEvent {
            peer: reuse.remote.0.to_string(),
            peer_port: reuse.remote.1,
            address: reuse.local.0,
            port: reuse.local.1,
            state: state_name(u32::from(reuse.state)).to_owned(),
            end: reuse.end.name().to_owned(),
            retries: reuse.retries,
            waited_seconds: reuse.waited.as_secs_f64(),
            answers: Answers { ack, reset, none },
        };
        Self { time: reuse.began, event: Event::RefusedReuse(event) }
    }
}

/// A failover that is over. Times are in seconds since the epoch; what is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailoverEvent {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The address before.
    pub old: IpAddr,
    /// The address since.
    pub new: IpAddr,
    /// When the first attempt failed.
    pub first_failure: f64,
    /// When the new address answered first.
    pub first_success_new: f64,
    /// From the last success to the first failure.
    pub unnoticed_seconds: Option<f64>,
    /// From there until the name listed the new address.
    pub dns_seconds: Option<f64>,
    /// From there to the first success.
    pub reconnect_seconds: Option<f64>,
    /// From the last success to the first.
    pub outage_seconds: Option<f64>,
}

impl Happened {
    /// A failover, told when it was over.
    #[must_use]
    pub fn failover(failover: &Failover, clocks: Clocks) -> Self {
        let seconds = |part| failover.part_ns(part).map(|ns| ns as f64 / 1e9);
        let time = clocks.unix_seconds_of(failover.first_success_ns);
        let event = FailoverEvent {
            name: failover.name.to_string(),
            port: failover.port,
            old: failover.old,
            new: failover.new,
            first_failure: clocks.unix_seconds_of(failover.first_failure_ns),
            first_success_new: time,
            unnoticed_seconds: seconds(Part::Unnoticed),
            dns_seconds: seconds(Part::Dns),
            reconnect_seconds: seconds(Part::Reconnect),
            outage_seconds: seconds(Part::Outage),
        };
        Self { time, event: Event::Failover(event) }
    }
}
