//! What the facts mean to each alert: its measures' values, subject by subject.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use probe_ebpf::account::ConnectFailure;

use super::{
    AlertKey, EphemeralFact, Facts, PoolFact, Subject, aborted,
    close_wait::CloseWaiting,
    growth::Growth,
    rise::Rise,
    text::{Degraded, Sentence},
};
use crate::{
    config::{AlertName, Measure},
    model::{AccountId, Destination, Direction, Events, Syns},
};

/// A share of repeated SYNs means nothing below so many of them.
const ENOUGH_RETRIES: u64 = 10;

/// A destination that has answered nothing for so long does not answer.
const SILENT: Duration = Duration::from_secs(5);

/// What is kept there makes room for what comes later all the time; nothing is wrong then.
const NO_LOSS: [&str; 2] = ["events", "habits"];

/// What one alert sees of one subject.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// Its measures, as far as they are known.
    pub values: Vec<(Measure, f64)>,
    /// Something is wrong that needs no threshold.
    pub is_wrong: bool,
    /// Nobody is hurt so far: whatever the values, it is no more than a warning.
    pub is_harmless: bool,
    /// Seconds until nothing is left, where that is foreseen.
    pub seconds_left: Option<f64>,
    /// What to say if it is raised.
    pub sentence: Sentence<'a>,
}

impl<'a> Reading<'a> {
    /// One that only has values.
    pub fn of(values: Vec<(Measure, f64)>, sentence: Sentence<'a>) -> Self {
        Self { values, is_wrong: false, is_harmless: false, seconds_left: None, sentence }
    }
}

/// Measures the facts. Counters of the host are compared with a minute ago.
#[derive(Debug, Default)]
pub(super) struct Readings {
    overflows: Growth,
    /// Whether connections of ours, and sockets in CLOSE_WAIT, have been looked at before.
    begun: [bool; 2],
    /// Connections of ours that wait, by destination.
    waiting: HashMap<AccountId, Rise>,
    /// Sockets in CLOSE_WAIT, by our port.
    close_waits: HashMap<u16, CloseWaiting>,
    lost: HashMap<&'static str, Growth>,
}

impl Readings {
    /// Every reading there is now; of a group, one for each of its addresses.
    pub fn take<'a>(&mut self, now: Duration, facts: &'a Facts<'_>) -> BTreeMap<AlertKey, Vec<Reading<'a>>> {
        let mut readings: BTreeMap<AlertKey, Vec<Reading<'a>>> = BTreeMap::new();
        let mut add = |name, subject, reading| readings.entry((name, subject)).or_default().push(reading);
        for pool in facts.pools {
            let subject = Subject::Account(pool.account.clone());
            add(AlertName::TimeWaitNearPoolLimit, subject.clone(), near_limit(*pool));
            if pool.figures.configured.is_some() {
                let reading = Reading::of(Vec::new(), Sentence::PoolDiffers(*pool));
                let is_wrong = pool.figures.contradicts();
                add(AlertName::PoolDiffers, subject, Reading { is_wrong, ..reading });
            }
        }
        // Where a service has moved away and nobody calls any more, what came to nothing is over.
        let is_present = |account: &AccountId| !facts.left_behind.contains(account);
        for (account, events) in facts.troubled.iter().filter(|(account, _)| is_present(account)) {
            for (name, measure, value, sentence) in of_events(account, events, facts) {
                // Most have one trouble and not the others, and there may be thousands of them.
                if value > 0.0 {
                    let is_harmless = name == AlertName::PortReuseRefused && is_refused_briefly(events);
                    let reading = Reading { is_harmless, ..Reading::of(vec![(measure, value)], sentence) };
                    add(name, Subject::Account(account.clone()), reading);
                }
            }
            if account.direction == Direction::Inbound && facts.tells.aborted_early {
                for reading in aborted::readings(account, events, facts.habits) {
                    add(AlertName::AbortedEarly, Subject::Account(account.clone()), reading);
                }
            }
        }
        for (account, stale) in facts.stale {
            let values = vec![(Measure::StaleSeconds, stale.used_seconds)];
            // That its name lists others leaves no doubt about one that does not answer.
            let is_wrong = stale.is_failing;
            // Processes that connect to the new address as well have not missed the move.
            let is_harmless = stale.calls_successor;
            let reading = Reading { is_wrong, is_harmless, ..Reading::of(values, Sentence::Stale(stale)) };
            add(AlertName::StaleAddress, Subject::Account(account.clone()), reading);
        }
        for name in facts.names {
            let values = vec![
                (Measure::UnresolvedSeconds, name.unresolved_seconds),
                (Measure::ResolveSeconds, name.slow_seconds),
            ];
            let reading = Reading::of(values, Sentence::NotResolving(name));
            add(AlertName::NameNotResolving, Subject::Name(Arc::clone(&name.name)), reading);
        }
        for fact in facts.ephemeral {
            let subject = Subject::Account(fact.account.clone());
            let without_port = facts.troubled.get(fact.account).map_or(0, Events::without_port);
            add(AlertName::EphemeralPortsNearLimit, subject, ports_near_limit(*fact, without_port));
        }
        // A connect() that found no port needs no threshold, nor that the destination is followed.
        for (account, events) in facts.troubled.iter().filter(|(_, events)| events.without_port() > 0) {
            let sentence = Sentence::WithoutPort { account, attempts: events.without_port() };
            let reading = Reading { is_wrong: true, ..Reading::of(Vec::new(), sentence) };
            add(AlertName::EphemeralPortsNearLimit, Subject::Account(account.clone()), reading);
        }
        self.waiting(now, facts, &mut add);
        self.host(now, facts, &mut add);
        readings
    }

    /// Connections that wait, of ours and at our own program.
    fn waiting<'a>(
        &mut self,
        now: Duration,
        facts: &'a Facts<'_>,
        add: &mut impl FnMut(AlertName, Subject, Reading<'a>),
    ) {
        if facts.tells.stalled {
            self.stalled(now, facts, add);
        }
        let begin = begin(&mut self.begun[1], now);
        self.close_waits
            .retain(|port, waiting| facts.close_waits.contains_key(port) || !waiting.is_over(now));
        for (&port, close_waits) in facts.close_waits {
            let waiting =
                self.close_waits.entry(port).or_insert_with(|| CloseWaiting::new(begin(close_waits.sockets)));
            let unclosed = waiting.update(now, close_waits);
            let values = vec![(Measure::CloseWaitSockets, unclosed.sockets() as f64)];
            let reading = Reading::of(values, Sentence::CloseWaits { port, close_waits, unclosed });
            add(AlertName::CloseWaitGrowing, Subject::Port(port), reading);
        }
    }

    /// Connections of ours that wait.
    fn stalled<'a>(
        &mut self,
        now: Duration,
        facts: &'a Facts<'_>,
        add: &mut impl FnMut(AlertName, Subject, Reading<'a>),
    ) {
        let begin = begin(&mut self.begun[0], now);
        // Nothing waits where there is nothing to tell.
        self.waiting.retain(|account, rise| {
            facts.destinations.contains_key(account) || {
                rise.update(now, 0);
                rise.usual() > 0
            }
        });
        let present = facts.destinations.iter().filter(|(account, _)| !facts.left_behind.contains(*account));
        for (account, destination) in present {
            let Destination { stalled, open, .. } = *destination;
            let rise = self.waiting.entry(account.clone()).or_insert_with(|| begin(stalled));
            let rise = rise.update(now, stalled);
            // A few slow answers among many are no hanging.
            let hanging = if stalled * 2 >= open { rise } else { 0 };
            let values = vec![(Measure::StalledConnections, hanging as f64)];
            let reading = Reading::of(values, Sentence::Hanging { account, destination });
            add(AlertName::DependencyHanging, Subject::Account(account.clone()), reading);
        }
    }

    fn host<'a>(
        &mut self,
        now: Duration,
        facts: &'a Facts<'_>,
        add: &mut impl FnMut(AlertName, Subject, Reading<'a>),
    ) {
        let host = facts.host;
        if let Some(limit) = host.time_wait_buckets_limit.filter(|&limit| limit > 0) {
            let used = host.time_wait_buckets;
            let values = vec![(Measure::UsedRatio, used as f64 / limit as f64)];
            let reading = Reading::of(values, Sentence::Buckets { used, limit });
            add(AlertName::TimeWaitNearBucketLimit, Subject::Host, reading);
        }
        let overflows = self.overflows.update(now, host.listen_overflows);
        let values = vec![(Measure::OverflowsPerMinute, overflows as f64)];
        let reading = Reading::of(values, Sentence::Overflows(overflows, &host.listen_queues));
        add(AlertName::ListenQueueOverflow, Subject::Host, reading);
        for queue in &host.listen_queues {
            let values = vec![(Measure::QueueRatio, queue.used_ratio())];
            // A queue that holds one or two is often full, and hurts nobody until another client comes and the kernel counts it.
            let is_harmless = overflows == 0;
            let reading = Reading { is_harmless, ..Reading::of(values, Sentence::Queue(queue)) };
            add(AlertName::ListenQueueOverflow, Subject::Port(queue.port), reading);
        }

        let losses: Vec<(&'static str, u64)> = facts
            .lost
            .iter()
            .filter(|loss| !NO_LOSS.contains(&loss.map))
            .map(|loss| (loss.map, self.lost.entry(loss.map).or_default().update(now, loss.events)))
            .filter(|&(_, events)| events > 0)
            .collect();
        let lost: u64 = losses.iter().map(|(_, events)| events).sum();
        let Facts { drift, config_reloaded, history_trouble, unreached, .. } = *facts;
        let sentence =
            Sentence::Degraded(Degraded { losses, drift, config_reloaded, history_trouble, unreached });
        let reading = Reading::of(vec![(Measure::LostPerMinute, lost as f64)], sentence);
        let is_wrong = drift != 0 || !config_reloaded || history_trouble.is_some() || !unreached.is_empty();
        add(AlertName::AgentDegraded, Subject::Host, Reading { is_wrong, ..reading });
    }
}

/// What there was before the agent is taken for usual; what comes later began at nothing.
fn begin(begun: &mut bool, now: Duration) -> impl Fn(u64) -> Rise + use<> {
    let is_first = !std::mem::replace(begun, true);
    move |value| Rise::above(now, if is_first { value } else { 0 })
}

fn near_limit(pool: PoolFact<'_>) -> Reading<'_> {
    let figures = pool.figures;
    let ratio = figures.blocked_ratio().map(|ratio| (Measure::UsedRatio, ratio));
    let seconds = figures.exhaustion_seconds.map(|seconds| (Measure::SecondsLeft, seconds));
    // Of a pool in turn it is known when, which says more.
    let chance = figures.chance.and_then(|chance| chance.expected_refused_ratio);
    let expected = chance.map(|share| (Measure::ExpectedRefusedRatio, share));
    let values = ratio.into_iter().chain(seconds).chain(expected).collect();
    let seconds_left = figures.exhaustion_seconds.filter(|seconds| seconds.is_finite());
    Reading { seconds_left, ..Reading::of(values, Sentence::NearLimit(pool)) }
}

fn ports_near_limit(fact: EphemeralFact<'_>, without_port: u64) -> Reading<'_> {
    let figures = fact.figures;
    let values = vec![
        (Measure::UsedRatio, figures.blocked_ratio()),
        (Measure::SecondsLeft, figures.exhaustion_seconds),
    ];
    let seconds_left = Some(figures.exhaustion_seconds).filter(|seconds| seconds.is_finite());
    Reading { seconds_left, ..Reading::of(values, Sentence::PortsNearLimit { fact, without_port }) }
}

/// What the last minute of an account means to each alert that looks at it.
fn of_events<'a>(
    account: &'a AccountId,
    events: &'a Events,
    facts: &'a Facts<'_>,
) -> impl Iterator<Item = (AlertName, Measure, f64, Sentence<'a>)> {
    let (retries, all) = syns(account.direction, events, facts);
    let ratio = if retries < ENOUGH_RETRIES { 0.0 } else { retries as f64 / all as f64 };
    let sentence = Sentence::SynRetries { account, retries, all };
    let repeated = (AlertName::SynRetriesHigh, Measure::RetryRatio, ratio, sentence);
    let is_inbound = account.direction == Direction::Inbound;
    let refused = (is_inbound && facts.tells.time_wait).then(|| {
        let sentence = Sentence::ReuseRefused { account, events, pools: facts.pools };
        (AlertName::PortReuseRefused, Measure::RefusedPerMinute, events.refused as f64, sentence)
    });
    let challenged = (is_inbound && facts.tells.challenged).then(|| {
        let sentence = Sentence::HalfOpen(account, events);
        (AlertName::HalfOpenConnections, Measure::ChallengedPerMinute, events.challenged as f64, sentence)
    });
    // Only destinations of ours are among these.
    let unanswered = facts.destinations.get(account).map(|destination| {
        let unanswered = unanswered(events, destination);
        let sentence = Sentence::NotAnswering { account, unanswered, events, destination };
        (AlertName::BackendNotAnswering, Measure::UnansweredPerMinute, unanswered as f64, sentence)
    });
    [Some(repeated), refused, challenged, unanswered].into_iter().flatten()
}

/// Whether every attempt that TIME_WAIT refused connected soon, as far as is known: the client heard the refusal and lost milliseconds.
fn is_refused_briefly(events: &Events) -> bool {
    events.refused_failed + events.refused_late == 0
}

/// SYNs of ours in the last minute that nothing answered, if nothing has for a while: now and then one is lost. A RST is an answer, too:
/// somebody is there. Whether one that our program abandoned soon would have been answered is not known.
fn unanswered(events: &Events, destination: &Destination) -> u64 {
    let answers =
        [ConnectFailure::Refused, ConnectFailure::Reset].map(|reason| events.failures[reason as usize]);
    let is_silent = destination.is_failing && destination.answered_ago.is_none_or(|ago| ago >= SILENT);
    if !is_silent || answers.iter().sum::<u64>() > 0 {
        return 0;
    }
    events.syns.saturating_sub(events.connections + events.abandoned_soon) + events.syn_retries
}

/// Repeated SYNs of an account in the last minute, and all of them. Where nobody watches inbound SYNs, each connection is taken
/// for one.
fn syns(direction: Direction, events: &Events, facts: &Facts<'_>) -> (u64, u64) {
    let Syns { first, repeated } = facts.tells.syns(direction, events);
    let is_watched = direction == Direction::Outbound || facts.tells.syn_watch;
    let first = if is_watched { first } else { events.connections };
    (repeated, first + repeated)
}
