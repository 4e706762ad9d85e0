//! Which alerts there are, what each measures, and from which value on it is raised.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use super::{check::Check, raw};

/// The alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertName {
    /// A peer's pool of source ports runs out, or is nearly full.
    TimeWaitNearPoolLimit,
    /// SYNs that met TIME_WAIT were refused.
    PortReuseRefused,
    /// SYNs of a peer meet connections that are still open here.
    HalfOpenConnections,
    /// The configured pool is not the one the peer draws from.
    PoolDiffers,
    /// Our ports towards a destination run out.
    EphemeralPortsNearLimit,
    /// An address is called that its watched name no longer lists.
    StaleAddress,
    /// A destination answers none of our SYNs.
    BackendNotAnswering,
    /// More and more of our connections to a destination wait for an answer.
    DependencyHanging,
    /// Connections of a peer come to nothing.
    AbortedEarly,
    /// SYNs have to be repeated.
    SynRetriesHigh,
    /// The host's mini-sockets come near their limit.
    TimeWaitNearBucketLimit,
    /// An accept queue is full, or nearly.
    ListenQueueOverflow,
    /// Our program does not close connections that their peers closed.
    CloseWaitGrowing,
    /// A watched name does not resolve, or slowly.
    NameNotResolving,
    /// The agent cannot tell all it should, or cannot tell it to everyone.
    AgentDegraded,
}

/// What an alert looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// What is taken of what there is.
    UsedRatio,
    /// Seconds until nothing is left; the only one that is bad when it is low.
    SecondsLeft,
    /// SYNs refused in the last minute.
    RefusedPerMinute,
    /// SYNs of the last minute that met a connection still open here.
    ChallengedPerMinute,
    /// Repeated SYNs of all SYNs in the last minute.
    RetryRatio,
    /// Times a queue was full in the last minute.
    OverflowsPerMinute,
    /// Connections in the accept queue of those that it holds.
    QueueRatio,
    /// The share of SYNs expected to be refused, of a pool that is drawn from at random.
    ExpectedRefusedRatio,
    /// Seconds for which an address that is called has not been listed.
    StaleSeconds,
    /// Seconds for which a name has had no addresses.
    UnresolvedSeconds,
    /// Seconds that each of the last lookups took at least.
    ResolveSeconds,
    /// Events that found no room in the last minute.
    LostPerMinute,
    /// SYNs of ours in the last minute, while none was answered.
    UnansweredPerMinute,
    /// Connections that wait for an answer, above the fewest of the last hour.
    StalledConnections,
    /// The share of connections in the last minute that were aborted early, above the share that is usual for the peer.
    AbortedRatio,
    /// Sockets in CLOSE_WAIT that stay, above the fewest of the last hour and above those that are closed in a minute; or by how much their
    /// number grew in two minutes.
    CloseWaitSockets,
}

/// From which values on a measure is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// A warning is raised at this value.
    pub warn: f64,
    /// It is critical at this value.
    pub crit: f64,
    /// What was raised is over at this value.
    pub clear: f64,
}

/// How one alert behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSettings {
    /// Whether it is raised at all.
    pub enabled: bool,
    /// A value must be bad for so long before the alert is raised.
    pub hold: Duration,
    /// It must be good for so long before the alert is over.
    pub keep_firing_for: Duration,
    /// A warning that holds for so many peers at once is critical.
    pub critical_peers: usize,
    /// Its measures.
    pub thresholds: Vec<(Measure, Thresholds)>,
}

/// All alerts, and what differs for single peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    all: BTreeMap<AlertName, AlertSettings>,
    of_peer: HashMap<String, BTreeMap<AlertName, AlertSettings>>,
}

impl AlertName {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::TimeWaitNearPoolLimit,
        Self::PortReuseRefused,
        Self::HalfOpenConnections,
        Self::PoolDiffers,
        Self::EphemeralPortsNearLimit,
        Self::StaleAddress,
        Self::BackendNotAnswering,
        Self::DependencyHanging,
        Self::AbortedEarly,
        Self::SynRetriesHigh,
        Self::TimeWaitNearBucketLimit,
        Self::ListenQueueOverflow,
        Self::CloseWaitGrowing,
        Self::NameNotResolving,
        Self::AgentDegraded,
    ];

    /// As it is written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeWaitNearPoolLimit => "TimeWaitNearPoolLimit",
            Self::PortReuseRefused => "PortReuseRefused",
            Self::HalfOpenConnections => "HalfOpenConnections",
            Self::PoolDiffers => "PoolDiffers",
            Self::StaleAddress => "StaleAddress",
            Self::NameNotResolving => "NameNotResolving",
            Self::EphemeralPortsNearLimit => "EphemeralPortsNearLimit",
            Self::BackendNotAnswering => "BackendNotAnswering",
            Self::DependencyHanging => "DependencyHanging",
            Self::AbortedEarly => "AbortedEarly",
            Self::SynRetriesHigh => "SynRetriesHigh",
            Self::TimeWaitNearBucketLimit => "TimeWaitNearBucketLimit",
            Self::ListenQueueOverflow => "ListenQueueOverflow",
            Self::CloseWaitGrowing => "CloseWaitGrowing",
            Self::AgentDegraded => "AgentDegraded",
        }
    }

    /// The alert of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alert| alert.name() == name)
    }

    /// What it looks at; some look at facts that need no threshold, too.
    #[must_use]
    pub fn measures(self) -> &'static [Measure] {
        match self {
            Self::TimeWaitNearPoolLimit => {
                &[Measure::UsedRatio, Measure::SecondsLeft, Measure::ExpectedRefusedRatio]
            }
            Self::EphemeralPortsNearLimit => &[Measure::UsedRatio, Measure::SecondsLeft],
            Self::PortReuseRefused => &[Measure::RefusedPerMinute],
            Self::HalfOpenConnections => &[Measure::ChallengedPerMinute],
            Self::PoolDiffers => &[],
            Self::StaleAddress => &[Measure::StaleSeconds],
            Self::NameNotResolving => &[Measure::UnresolvedSeconds, Measure::ResolveSeconds],
            Self::BackendNotAnswering => &[Measure::UnansweredPerMinute],
            Self::DependencyHanging => &[Measure::StalledConnections],
            Self::AbortedEarly => &[Measure::AbortedRatio],
            Self::SynRetriesHigh => &[Measure::RetryRatio],
            Self::TimeWaitNearBucketLimit => &[Measure::UsedRatio],
            Self::ListenQueueOverflow => &[Measure::OverflowsPerMinute, Measure::QueueRatio],
            Self::CloseWaitGrowing => &[Measure::CloseWaitSockets],
            Self::AgentDegraded => &[Measure::LostPerMinute],
        }
    }

    /// Whether it is about a peer; the others are about the host.
    #[must_use]
    pub fn is_of_peers(self) -> bool {
        matches!(
            self,
            Self::TimeWaitNearPoolLimit
                | Self::PortReuseRefused
                | Self::HalfOpenConnections
                | Self::PoolDiffers
                | Self::StaleAddress
                | Self::EphemeralPortsNearLimit
                | Self::BackendNotAnswering
                | Self::DependencyHanging
                | Self::AbortedEarly
                | Self::SynRetriesHigh
        )
    }

    /// Whether it may be about the host as a whole.
    #[must_use]
    pub fn is_of_host(self) -> bool {
        matches!(self, Self::TimeWaitNearBucketLimit | Self::ListenQueueOverflow | Self::AgentDegraded)
    }

    /// How long a value must be bad, unless configured. What the kernel counted one by one is no noise; what is a share of few, or a
    /// queue that a burst fills, may be.
    fn hold(self) -> Duration {
        Duration::from_secs(match self {
            Self::TimeWaitNearPoolLimit
            | Self::PortReuseRefused
            | Self::HalfOpenConnections
            | Self::EphemeralPortsNearLimit
            | Self::StaleAddress
            | Self::NameNotResolving
            // What it looks at has lasted for 25 s.
            | Self::CloseWaitGrowing => 1,
            Self::ListenQueueOverflow => 5,
            Self::PoolDiffers
            | Self::BackendNotAnswering
            | Self::DependencyHanging
            | Self::AbortedEarly
            | Self::SynRetriesHigh
            | Self::TimeWaitNearBucketLimit
            | Self::AgentDegraded => 10,
        })
    }
}

impl fmt::Display for AlertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Measure {
    /// Its key in the configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::UsedRatio => "used_ratio",
            Self::SecondsLeft => "seconds_left",
            Self::ExpectedRefusedRatio => "expected_refused_ratio",
            Self::RefusedPerMinute => "refused_per_minute",
            Self::ChallengedPerMinute => "challenged_per_minute",
            Self::RetryRatio => "retry_ratio",
            Self::OverflowsPerMinute => "overflows_per_minute",
            Self::QueueRatio => "queue_ratio",
            Self::StaleSeconds => "stale_seconds",
            Self::UnresolvedSeconds => "unresolved_seconds",
            Self::ResolveSeconds => "resolve_seconds",
            Self::LostPerMinute => "lost_per_minute",
            Self::UnansweredPerMinute => "unanswered_per_minute",
            Self::StalledConnections => "stalled_connections",
            Self::AbortedRatio => "aborted_ratio",
            Self::CloseWaitSockets => "close_wait_sockets",
        }
    }

    /// Whether it is bad when it is low.
    #[must_use]
    pub fn is_bad_when_low(self) -> bool {
        self == Self::SecondsLeft
    }

    /// The greatest threshold that makes sense.
    fn greatest(self) -> f64 {
        match self {
            Self::UsedRatio
            | Self::ExpectedRefusedRatio
            | Self::RetryRatio
            | Self::QueueRatio
            | Self::AbortedRatio => 1.0,
            // The forecast looks one minute ahead, the life of a TIME_WAIT: beyond it a steady load has levelled off.
            Self::SecondsLeft => 60.0,
            Self::RefusedPerMinute
            | Self::ChallengedPerMinute
            | Self::OverflowsPerMinute
            | Self::LostPerMinute
            | Self::StaleSeconds
            | Self::UnresolvedSeconds
            | Self::ResolveSeconds
            | Self::UnansweredPerMinute
            | Self::StalledConnections
            | Self::CloseWaitSockets => f64::MAX,
        }
    }

    fn default_thresholds(self) -> Thresholds {
        let (warn, crit, clear) = match self {
            Self::UsedRatio => (0.8, 0.95, 0.7),
            Self::SecondsLeft => (60.0, 20.0, 60.0),
            Self::ExpectedRefusedRatio => (0.01, 0.05, 0.005),
            Self::RefusedPerMinute | Self::OverflowsPerMinute => (1.0, 60.0, 0.0),
            // One attempt that fails repeats its SYN so often; a host that restarted and meets its own old port does not.
            Self::ChallengedPerMinute => (3.0, 60.0, 0.0),
            Self::RetryRatio => (0.05, 0.25, 0.02),
            Self::QueueRatio => (0.8, 1.0, 0.5),
            Self::StaleSeconds => (60.0, 600.0, 0.0),
            Self::UnresolvedSeconds => (10.0, 60.0, 0.0),
            Self::ResolveSeconds => (1.0, 5.0, 0.5),
            Self::LostPerMinute => (1.0, 1000.0, 0.0),
            Self::UnansweredPerMinute => (3.0, 30.0, 0.0),
            Self::StalledConnections => (10.0, 100.0, 2.0),
            Self::AbortedRatio => (0.2, 0.5, 0.1),
            Self::CloseWaitSockets => (50.0, 500.0, 10.0),
        };
        Thresholds { warn, crit, clear }
    }
}

impl AlertSettings {
    fn default_of(name: AlertName) -> Self {
        Self {
            enabled: true,
            hold: name.hold(),
            keep_firing_for: Duration::from_mins(1),
            critical_peers: 5,
            thresholds: name
                .measures()
                .iter()
                .map(|&measure| (measure, measure.default_thresholds()))
                .collect(),
        }
    }

    /// The thresholds of a measure.
    #[must_use]
    pub fn thresholds(&self, measure: Measure) -> Option<Thresholds> {
        self.thresholds.iter().find(|(own, _)| *own == measure).map(|&(_, thresholds)| thresholds)
    }

    /// What differs in the file, on top of these.
    fn with(&self, check: &mut Check<'_>, at: &str, name: AlertName, raw: &raw::Alert) -> Self {
        let mut settings = self.clone();
        settings.enabled = raw.enabled.unwrap_or(self.enabled);
        settings.hold = raw.hold.unwrap_or(self.hold);
        settings.keep_firing_for = raw.keep_firing_for.unwrap_or(self.keep_firing_for);
        settings.critical_peers = raw.critical_peers.unwrap_or(self.critical_peers);
        check.that(
            settings.critical_peers > 0,
            &format!("{at}.critical_peers"),
            0,
            "must be at least 1; a large number means never",
        );
        for (measure, raw) in raw.measures() {
            let at = format!("{at}.{}", measure.key());
            let Some((_, thresholds)) = settings.thresholds.iter_mut().find(|(own, _)| *own == measure)
            else {
                let own: Vec<&str> = name.measures().iter().map(|measure| measure.key()).collect();
                let own = if own.is_empty() { "nothing".to_owned() } else { own.join(" and ") };
                check.that(false, &at, "{…}", format!("is no measure of {name}, which has {own}"));
                continue;
            };
            thresholds.warn = raw.warn.unwrap_or(thresholds.warn);
            thresholds.crit = raw.crit.unwrap_or(thresholds.crit);
            thresholds.clear = raw.clear.unwrap_or(thresholds.clear);
            check_thresholds(check, &at, measure, *thresholds);
        }
        settings
    }
}

fn check_thresholds(check: &mut Check<'_>, at: &str, measure: Measure, thresholds: Thresholds) {
    let Thresholds { warn, crit, clear } = thresholds;
    let greatest = measure.greatest();
    for (key, value) in [("warn", warn), ("crit", crit), ("clear", clear)] {
        let remedy = if greatest < f64::MAX {
            format!("must be between 0 and {greatest}")
        } else {
            "must be a number from 0 on".to_owned()
        };
        if !check.that((0.0..=greatest).contains(&value), &format!("{at}.{key}"), value, remedy) {
            return;
        }
    }
    let (ordered, rule) = if measure.is_bad_when_low() {
        (crit <= warn && warn <= clear, "crit must be at most warn, and warn at most clear: fewer is worse")
    } else {
        (clear <= warn && warn <= crit, "clear must be at most warn, and warn at most crit: more is worse")
    };
    let all = format!("{{ warn = {warn}, crit = {crit}, clear = {clear} }}");
    if check.that(ordered, at, &all, rule) && !measure.is_bad_when_low() {
        check.that(warn > 0.0, at, all, "warn must be above 0, or it would always be raised");
    }
}

impl Default for Alerts {
    fn default() -> Self {
        let all = AlertName::ALL.into_iter().map(|name| (name, AlertSettings::default_of(name)));
        Self { all: all.collect(), of_peer: HashMap::new() }
    }
}

impl Alerts {
    pub(super) fn new(
        check: &mut Check<'_>,
        raw: &BTreeMap<String, raw::Alert>,
        peers: &[raw::Peer],
    ) -> Self {
        let mut alerts = Self::default();
        for (name, raw) in raw {
            let at = format!("alerts.{name}");
            if let Some(name) = known(check, &at, name, |_| true) {
                let settings = alerts.of(name, None).with(check, &at, name, raw);
                alerts.all.insert(name, settings);
            }
        }
        for (place, peer) in peers.iter().enumerate() {
            for (name, raw) in &peer.alerts {
                let at = format!("peer[{place}].alerts.{name}");
                if let Some(name) = known(check, &at, name, AlertName::is_of_peers) {
                    let settings = alerts.of(name, None).with(check, &at, name, raw);
                    alerts.of_peer.entry(peer.name.clone()).or_default().insert(name, settings);
                }
            }
        }
        alerts
    }

    /// How an alert behaves, for the `[[peer]]` of that name if it is about one.
    #[must_use]
    pub fn of(&self, name: AlertName, peer: Option<&str>) -> &AlertSettings {
        let own = peer.and_then(|peer| self.of_peer.get(peer)?.get(&name));
        // Every name is in `all` from the start.
        own.unwrap_or_else(|| &self.all[&name])
    }
}

fn known(check: &mut Check<'_>, at: &str, name: &str, fits: impl Fn(AlertName) -> bool) -> Option<AlertName> {
    let alert = AlertName::named(name).filter(|&alert| fits(alert));
    let names: Vec<&str> =
        AlertName::ALL.into_iter().filter(|&alert| fits(alert)).map(AlertName::name).collect();
    check.that(alert.is_some(), at, "{…}", format!("is none of the alerts here: {}", names.join(", ")));
    alert
}
