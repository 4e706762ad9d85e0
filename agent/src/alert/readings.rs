//! What the facts mean to each alert: its measures' values, subject by subject.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{AlertKey, Facts, PoolFact, Subject, growth::Growth, text::Sentence};
use crate::{
    config::{AlertName, Measure},
    model::{Direction, Events},
};

/// A share of repeated SYNs means nothing below so many of them.
const ENOUGH_RETRIES: u64 = 10;

/// Events of this log make room for later ones all the time; nothing is wrong then.
const NO_LOSS: &str = "events";

/// What one alert sees of one subject.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// Its measures, as far as they are known.
    pub values: Vec<(Measure, f64)>,
    /// Something is wrong that needs no threshold.
    pub is_wrong: bool,
    /// Seconds until nothing is left, where that is foreseen.
    pub seconds_left: Option<f64>,
    /// What to say if it is raised.
    pub sentence: Sentence<'a>,
}

impl<'a> Reading<'a> {
    /// One that only has values.
    fn of(values: Vec<(Measure, f64)>, sentence: Sentence<'a>) -> Self {
        Self { values, is_wrong: false, seconds_left: None, sentence }
    }
}

/// Measures the facts. Counters of the host are compared with a minute ago.
#[derive(Debug, Default)]
pub(super) struct Readings {
    overflows: Growth,
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
        for (account, events) in facts.troubled {
            let subject = Subject::Account(account.clone());
            if facts.tells.time_wait && account.direction == Direction::Inbound {
                let values = vec![(Measure::RefusedPerMinute, events.refused as f64)];
                let reading = Reading::of(values, Sentence::ReuseRefused(account, *events));
                add(AlertName::PortReuseRefused, subject.clone(), reading);
            }
            let (retries, all) = syns(account.direction, events, facts);
            let ratio = if retries < ENOUGH_RETRIES { 0.0 } else { retries as f64 / all as f64 };
            let values = vec![(Measure::RetryRatio, ratio)];
            let reading = Reading::of(values, Sentence::SynRetries { account, retries, all });
            add(AlertName::SynRetriesHigh, subject, reading);
        }
        self.host(now, facts, &mut add);
        readings
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
        for queue in host.listen_queues.iter().filter(|queue| queue.limit > 0) {
            let values = vec![(Measure::QueueRatio, queue.waiting as f64 / queue.limit as f64)];
            let reading = Reading::of(values, Sentence::Queue(*queue));
            add(AlertName::ListenQueueOverflow, Subject::Port(queue.port), reading);
        }

        let losses: Vec<(&'static str, u64)> = facts
            .lost
            .iter()
            .filter(|loss| loss.map != NO_LOSS)
            .map(|loss| (loss.map, self.lost.entry(loss.map).or_default().update(now, loss.events)))
            .filter(|&(_, events)| events > 0)
            .collect();
        let lost: u64 = losses.iter().map(|(_, events)| events).sum();
        let Facts { config_reloaded, unreached, .. } = *facts;
        let sentence = Sentence::Degraded { losses, config_reloaded, unreached };
        let reading = Reading::of(vec![(Measure::LostPerMinute, lost as f64)], sentence);
        let is_wrong = !config_reloaded || !unreached.is_empty();
        add(AlertName::AgentDegraded, Subject::Host, Reading { is_wrong, ..reading });
    }
}

fn near_limit(pool: PoolFact<'_>) -> Reading<'_> {
    let figures = pool.figures;
    let ratio = figures.blocked_ratio().map(|ratio| (Measure::UsedRatio, ratio));
    let seconds = figures.exhaustion_seconds.map(|seconds| (Measure::SecondsLeft, seconds));
    let values = ratio.into_iter().chain(seconds).collect();
    let seconds_left = figures.exhaustion_seconds.filter(|seconds| seconds.is_finite());
    Reading { seconds_left, ..Reading::of(values, Sentence::NearLimit(pool)) }
}

/// Repeated SYNs of an account in the last minute, and all of them. Where nobody watches inbound SYNs, each connection is taken
/// for one.
fn syns(direction: Direction, events: &Events, facts: &Facts<'_>) -> (u64, u64) {
    let (first, retries) = match direction {
        Direction::Outbound => (events.syns, events.syn_retries),
        Direction::Inbound if facts.tells.syn_watch => (events.watched_syns, events.watched_syn_retries),
        Direction::Inbound => (events.connections, events.syn_retries),
    };
    (retries, first + retries)
}
