//! The states of all alerts: inactive, pending, raised, over.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use probe_ebpf::account::EPHEMERAL;

use super::{
    Alert, AlertKey, Facts, Figure, Reach, SavedAlert, Subject,
    readings::{Reading, Readings},
    watch::{Levels, Verdict, judge},
};
use crate::{
    config::{AlertName, Alerts, Severity, Silence},
    model::{AccountId, Direction},
};

/// As many alerts about peers can be raised or pending at a time; more are left out, and counted at each evaluation.
pub const CAPACITY: usize = 1_000;

/// After a restart, what was raised stays so for this long while its figures are not known again: a pool is inferred anew, and rates
/// need a minute.
const RESTART_GRACE: Duration = Duration::from_mins(2);

/// What is over is remembered for this long, so that its series does not vanish at once.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The time of an evaluation, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// A clock that never goes back; durations are measured on it.
    pub monotonic: Duration,
    /// Seconds since the epoch, for what people read, and for silences.
    pub unix: u64,
}

/// An alert was raised, became better or worse, or is over.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is raised.
    Raised(Alert),
    /// It is raised with another severity than before.
    Severity(Alert),
    /// It no longer is.
    Over(Alert),
}

/// One alert about one subject.
#[derive(Debug, Default)]
struct Watch {
    levels: Levels,
    /// While it is raised.
    alert: Option<Alert>,
    /// What was found last hurts nobody.
    is_harmless: bool,
    /// It was raised before a restart; until then, what is not known does not end it.
    grace_until: Option<Duration>,
    over_at: Option<Duration>,
}

/// All alerts.
#[derive(Debug)]
pub struct Engine {
    alerts: Alerts,
    silences: Vec<Silence>,
    readings: Readings,
    watches: BTreeMap<AlertKey, Watch>,
    /// How many more can be raised or pending.
    room: usize,
    left_out: u64,
}

impl Engine {
    /// Nothing raised yet.
    #[must_use]
    pub fn new(alerts: Alerts, silences: Vec<Silence>) -> Self {
        Self {
            alerts,
            silences,
            readings: Readings::default(),
            watches: BTreeMap::new(),
            room: CAPACITY,
            left_out: 0,
        }
    }

    /// Puts other thresholds and silences in force; what is raised stays so until it is judged anew.
    pub fn reconfigure(&mut self, alerts: Alerts, silences: Vec<Silence>) {
        self.alerts = alerts;
        self.silences = silences;
    }

    /// Takes what was raised before a restart, as much of it as can be raised.
    pub fn restore(&mut self, now: Now, saved: &[SavedAlert]) {
        for alert in saved.iter().filter_map(SavedAlert::alert).take(CAPACITY) {
            let key = alert.key();
            let watch = Watch {
                levels: Levels::raised(alert.severity),
                alert: Some(alert),
                is_harmless: false,
                grace_until: Some(now.monotonic + RESTART_GRACE),
                over_at: None,
            };
            self.watches.insert(key, watch);
        }
    }

    /// What is to be kept over a restart.
    #[must_use]
    pub fn save(&self) -> Vec<SavedAlert> {
        self.raised().map(SavedAlert::of).collect()
    }

    /// Looks at the facts; returns what changed.
    pub fn evaluate(&mut self, now: Now, facts: &Facts<'_>) -> Vec<Change> {
        let mut readings = self.readings.take(now.monotonic, facts);
        let before: BTreeMap<AlertKey, Severity> =
            self.raised().map(|alert| (alert.key(), alert.severity)).collect();
        let gone: Vec<AlertKey> =
            self.watches.keys().filter(|key| !readings.contains_key(*key)).cloned().collect();
        for key in gone {
            readings.insert(key, Vec::new());
        }
        let active = self.watches.values().filter(|watch| !watch.levels.is_quiet()).count();
        self.room = CAPACITY.saturating_sub(active);
        // In the order of their names' declaration: what explains another alert comes before it.
        for (key, readings) in readings {
            self.look(now, key, readings);
        }
        let mut changes = self.conclude(now);
        changes.extend(self.changes(&before));
        let over =
            |watch: &Watch| watch.over_at.is_some_and(|at| now.monotonic.saturating_sub(at) < REMEMBERED);
        self.watches.retain(|_, watch| watch.alert.is_some() || !watch.levels.is_quiet() || over(watch));
        changes
    }

    /// Takes the readings of one alert about one subject; none where nothing is known of it.
    fn look(&mut self, now: Now, key: AlertKey, readings: Vec<Reading<'_>>) {
        let explained = self.is_explained(&key);
        let settings = self.alerts.of(key.0, key.1.group());
        let watch = self.watches.get(&key);
        let is_raised = watch.is_some_and(|watch| watch.alert.is_some());
        let worst =
            readings.into_iter().map(|reading| (judge(&reading, settings, is_raised), reading)).max_by(
                |(a, x), (b, y)| rank(a, x).partial_cmp(&rank(b, y)).unwrap_or(std::cmp::Ordering::Equal),
            );
        // Of a port that nobody listens on any more there is nothing to be known.
        let is_known = !matches!(key.1, Subject::Account(_))
            || worst.as_ref().is_some_and(|(_, reading)| !reading.values.is_empty() || reading.is_wrong);
        let (verdict, reading) = worst.unzip();
        let verdict = verdict.filter(|_| settings.enabled && !explained).unwrap_or(GOOD);
        if watch.is_none() {
            if !verdict.warns {
                return;
            }
            // The few about the host always find room.
            if self.room == 0 && key.0.is_of_peers() {
                self.left_out += 1;
                return;
            }
            self.room = self.room.saturating_sub(1);
        }
        let watch = self.watches.entry(key.clone()).or_default();
        if !settings.enabled {
            watch.levels = Levels::default();
            return;
        }
        if !is_known && watch.grace_until.is_some_and(|until| now.monotonic < until) {
            return;
        }
        watch.levels.update(now.monotonic, verdict, settings);
        let (Some(severity), Some(reading)) = (watch.levels.severity(), reading) else { return };
        if verdict.warns || watch.alert.is_none() {
            let in_seconds = |seconds: f64| {
                now.unix + Duration::try_from_secs_f64(seconds).map_or(0, |left| left.as_secs())
            };
            watch.is_harmless = reading.is_harmless;
            let before = watch.alert.take();
            watch.alert = Some(Alert {
                name: key.0,
                subject: key.1,
                severity,
                since: before.as_ref().map_or(now.unix, |alert| alert.since),
                exhausted_at: reading.seconds_left.map(in_seconds),
                text: reading.sentence.text(),
                figure: verdict.figure.unwrap_or(Figure::NONE),
                reach: Reach::default(),
                announced: before.is_some_and(|alert| alert.announced),
            });
        }
    }

    /// Whether another alert about the same subject says why.
    fn is_explained(&self, (name, subject): &AlertKey) -> bool {
        let causes: &[AlertName] = match name {
            // SYNs that TIME_WAIT or an open connection refuses are repeated, and so are those that nobody answers.
            AlertName::SynRetriesHigh => &[
                AlertName::PortReuseRefused,
                AlertName::HalfOpenConnections,
                AlertName::StaleAddress,
                AlertName::BackendNotAnswering,
            ],
            // Where a service has moved away, nobody need be any more.
            AlertName::BackendNotAnswering => &[AlertName::StaleAddress],
            // Connections that are being opened wait, too.
            AlertName::DependencyHanging => &[AlertName::StaleAddress, AlertName::BackendNotAnswering],
            _ => &[],
        };
        let is_active = |&cause: &AlertName| {
            let watch = self.watches.get(&(cause, subject.clone()));
            watch.is_some_and(|watch| !watch.levels.is_quiet())
        };
        causes.iter().any(is_active)
    }

    /// Ends what is no longer raised, and sees how far the rest reaches.
    fn conclude(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut reaches: BTreeMap<AlertName, (HashSet<String>, BTreeSet<u16>)> = BTreeMap::new();
        let mut hurt: BTreeMap<AlertName, HashSet<String>> = BTreeMap::new();
        for watch in self.watches.values_mut() {
            if watch.levels.severity().is_none()
                && let Some(alert) = watch.alert.take()
            {
                watch.over_at = Some(now.monotonic);
                changes.push(Change::Over(alert));
            }
            let Some(alert) = &watch.alert else { continue };
            let (peers, ports) = reaches.entry(alert.name).or_default();
            match &alert.subject {
                Subject::Account(id) => {
                    peers.insert(id.peer.to_string());
                    if !watch.is_harmless {
                        hurt.entry(alert.name).or_default().insert(id.peer.to_string());
                    }
                    let is_service = id.direction == Direction::Inbound && id.port != EPHEMERAL;
                    ports.extend(is_service.then_some(id.port));
                }
                Subject::Port(port) => {
                    ports.insert(*port);
                }
                Subject::Host | Subject::Name(_) => {}
            }
        }
        for watch in self.watches.values_mut() {
            let (Some(alert), Some(severity)) = (&mut watch.alert, watch.levels.severity()) else { continue };
            let Some((peers, ports)) = reaches.get(&alert.name) else { continue };
            let settings = self.alerts.of(alert.name, alert.subject.group());
            let hurt = hurt.get(&alert.name).map_or(0, HashSet::len);
            let is_wide = !watch.is_harmless && hurt >= settings.critical_peers;
            alert.severity = if is_wide { Severity::Critical } else { severity };
            alert.reach = Reach { peers: peers.len(), ports: ports.iter().copied().collect() };
            alert.announced |= !is_silenced(&self.silences, now, alert);
        }
        changes
    }

    fn changes(&self, before: &BTreeMap<AlertKey, Severity>) -> Vec<Change> {
        let change = |alert: &Alert| match before.get(&alert.key()) {
            None => Some(Change::Raised(alert.clone())),
            Some(severity) if *severity != alert.severity => Some(Change::Severity(alert.clone())),
            Some(_) => None,
        };
        self.raised().filter_map(change).collect()
    }

    /// What is raised, by name and subject.
    pub fn raised(&self) -> impl Iterator<Item = &Alert> {
        self.watches.values().filter_map(|watch| watch.alert.as_ref())
    }

    /// Whether an alert of this name is raised, or about to be.
    #[must_use]
    pub fn is_active(&self, name: AlertName) -> bool {
        self.watches.iter().any(|((of, _), watch)| *of == name && !watch.levels.is_quiet())
    }

    /// Accounts that an alert is raised for.
    #[must_use]
    pub fn accounts(&self) -> HashSet<AccountId> {
        let accounts = self.raised().filter_map(|alert| match &alert.subject {
            Subject::Account(id) => Some(id.clone()),
            _ => None,
        });
        accounts.collect()
    }

    /// What is pending, or was raised not long ago, and is not raised now.
    #[must_use]
    pub fn quiet(&self) -> Vec<AlertKey> {
        self.watches.iter().filter(|(_, watch)| watch.alert.is_none()).map(|(key, _)| key.clone()).collect()
    }

    /// Alerts that found no room, counted at each evaluation.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

const GOOD: Verdict = Verdict { warns: false, is_critical: false, figure: None };

/// What is worse comes later; of two that are as bad, the one that hurts somebody.
fn rank(verdict: &Verdict, reading: &Reading<'_>) -> (bool, bool, bool, f64) {
    let first = reading.values.first().map_or(0.0, |&(_, value)| value);
    (verdict.is_critical, verdict.warns, !reading.is_harmless, first)
}

fn is_silenced(silences: &[Silence], now: Now, alert: &Alert) -> bool {
    let peer = match &alert.subject {
        Subject::Account(id) => Some(id.peer.to_string()),
        _ => None,
    };
    silences.iter().any(|silence| {
        (silence.alerts.is_empty() || silence.alerts.contains(&alert.name))
            && (silence.peers.is_empty() || peer.as_ref().is_some_and(|peer| silence.peers.contains(peer)))
            && silence.window.holds(now.unix)
    })
}

#[cfg(test)]
mod tests;
