//! What is owed to one receiver. Pure: times and alerts go in, notices come out.
//!
//! Only the state of now is owed: a receiver that was away hears what is raised when it is back, and that what it was told of is
//! over. What came and went meanwhile it never hears of; that is counted. So what is owed is bounded, however long it is away.
//! A notice that was sent and never answered may have arrived: it is told again, and so is its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    alert::{Alert, AlertKey, CAPACITY, SavedAlert},
    config::Severity,
    model::NotificationFigures,
};

/// So many notices go into one delivery; the rest follows at once.
const BATCH: usize = 100;

/// As many alerts are kept for a receiver: twice as many as can be raised.
const MOST: usize = 2 * CAPACITY;

/// Time to the next attempt after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest time to the next attempt.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A receiver that fails for so long counts as not reached.
const UNREACHED: Duration = Duration::from_mins(5);

/// Something to tell: an alert is raised, worse or better than before, or over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub alert: Arc<Alert>,
    /// When it ended, in seconds since the epoch.
    pub ended: Option<u64>,
    /// The severity that the receiver was told before, where it is another.
    pub severity_before: Option<Severity>,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It could not be reached, or had a trouble of its own.
    Failed,
    /// It was sent, and not answered, or by a failure: the receiver may have it, or not.
    Unanswered,
    /// It does not want it.
    Rejected,
}

/// What is known of one alert.
#[derive(Debug)]
struct Entry {
    alert: Arc<Alert>,
    ended: Option<u64>,
    told: Option<Told>,
    /// A delivery of it is under way.
    under_way: bool,
    /// A delivery of it was not answered.
    unanswered: bool,
}

/// What the receiver knows of it.
#[derive(Clone, Copy, Debug)]
struct Told {
    severity: Severity,
    since: u64,
    /// When it was told last; `None` before a restart.
    at: Option<Duration>,
}

/// What a receiver was told, over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedOutbox(Vec<SavedAlert>);

/// What is owed to one receiver.
#[derive(Debug)]
pub(super) struct Outbox {
    min_severity: Severity,
    /// What is raised is told again after this time.
    repeat: Option<Duration>,
    entries: BTreeMap<AlertKey, Entry>,
    failures: u32,
    failing_since: Option<Duration>,
    next_try: Duration,
    figures: NotificationFigures,
}

impl Outbox {
    pub fn new(
        receiver: &Arc<str>,
        min_severity: Severity,
        repeat: Option<Duration>,
        known: &SavedOutbox,
    ) -> Self {
        let entries = known.0.iter().take(MOST).filter_map(|saved| {
            let alert = saved.alert()?;
            let told = Told { severity: alert.severity, since: alert.since, at: None };
            Some((alert.key(), Entry::new(Arc::new(alert), Some(told))))
        });
        Self {
            min_severity,
            repeat,
            entries: entries.collect(),
            failures: 0,
            failing_since: None,
            next_try: Duration::ZERO,
            figures: NotificationFigures { receiver: Arc::clone(receiver), ..NotificationFigures::default() },
        }
    }

    /// Takes all that is announced now. Returns whether there is something new to tell.
    pub fn update(&mut self, unix: u64, announced: &[Arc<Alert>]) -> bool {
        let mut raised: BTreeMap<AlertKey, &Arc<Alert>> = BTreeMap::new();
        raised.extend(
            announced
                .iter()
                .filter(|alert| alert.severity >= self.min_severity)
                .map(|alert| (alert.key(), alert)),
        );
        let Self { entries, figures, .. } = self;
        entries.retain(|key, entry| {
            if raised.contains_key(key) {
                return true;
            }
            if !entry.may_be_known() {
                figures.superseded += 1;
                return false;
            }
            entry.ended.get_or_insert(unix);
            true
        });
        for (key, alert) in raised {
            let entry = entries.entry(key).or_insert_with(|| Entry::new(Arc::clone(alert), None));
            entry.alert = Arc::clone(alert);
            if entry.ended.take().is_some() {
                // Its end was not told yet, and is no longer true.
                figures.superseded += 1;
            }
        }
        self.bound();
        self.entries.values().any(Entry::is_news)
    }

    /// Only ends that a receiver may not even wait for can be too many: alerts that come and go while it takes notices and
    /// never answers.
    fn bound(&mut self) {
        let excess = self.entries.len().saturating_sub(MOST);
        let uncertain =
            self.entries.iter().filter(|(_, entry)| entry.ended.is_some() && entry.told.is_none());
        let dropped: Vec<AlertKey> = uncertain.take(excess).map(|(key, _)| key.clone()).collect();
        for key in dropped {
            self.entries.remove(&key);
            self.figures.dropped += 1;
        }
    }

    /// What to tell now: what is new, and what is to be told again. How it went is to be told to [`Self::settle`].
    pub fn due(&mut self, now: Duration) -> Vec<Notice> {
        if now < self.next_try {
            return Vec::new();
        }
        let repeat = self.repeat;
        let entries = self.entries.values_mut();
        let due = entries.filter(|entry| entry.due_at(repeat).is_some_and(|at| at <= now));
        due.take(BATCH).map(Entry::take_up).collect()
    }

    /// When there will be something to tell, if nothing else happens.
    pub fn due_at(&self) -> Option<Duration> {
        let first = self.entries.values().filter_map(|entry| entry.due_at(self.repeat)).min()?;
        Some(first.max(self.next_try))
    }

    /// Books how a delivery ended. `jitter` between 0 and 1 spreads the next attempts of many agents.
    pub fn settle(&mut self, now: Duration, notices: &[Notice], outcome: Outcome, jitter: f64) {
        let count = notices.len() as u64;
        match outcome {
            Outcome::Delivered => {
                self.figures.delivered += count;
                self.failures = 0;
                self.failing_since = None;
                for notice in notices {
                    self.delivered(now, notice);
                }
                return;
            }
            Outcome::Failed | Outcome::Unanswered => self.figures.failed += count,
            Outcome::Rejected => self.figures.rejected += count,
        }
        for notice in notices {
            self.undelivered(notice, outcome == Outcome::Unanswered);
        }
        self.failing_since.get_or_insert(now);
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LAST_RETRY);
        self.failures += 1;
        self.next_try = now + pause.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    }

    fn delivered(&mut self, now: Duration, notice: &Notice) {
        let key = notice.alert.key();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.under_way = false;
        entry.unanswered = false;
        let told = Told { severity: notice.alert.severity, since: notice.alert.since, at: Some(now) };
        match (notice.ended, entry.ended) {
            // It knows the end; meanwhile it may be raised anew.
            (Some(_), Some(_)) => {
                self.entries.remove(&key);
            }
            (Some(_), None) => entry.told = None,
            (None, _) => entry.told = Some(told),
        }
    }

    fn undelivered(&mut self, notice: &Notice, unanswered: bool) {
        let key = notice.alert.key();
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.under_way = false;
        entry.unanswered |= unanswered;
        if entry.ended.is_some() && !entry.may_be_known() {
            self.entries.remove(&key);
            self.figures.superseded += 1;
        }
    }

    pub fn is_unreached(&self, now: Duration) -> bool {
        self.failing_since.is_some_and(|since| now.saturating_sub(since) >= UNREACHED)
    }

    pub fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    pub fn figures(&self) -> NotificationFigures {
        self.figures.clone()
    }

    /// What the receiver was told, for after a restart.
    pub fn save(&self) -> SavedOutbox {
        let told = self.entries.values().filter_map(|entry| {
            let Told { severity, since, .. } = entry.told?;
            let alert = Alert { severity, since, ..Alert::clone(&entry.alert) };
            Some(SavedAlert::of(&alert))
        });
        SavedOutbox(told.collect())
    }
}

impl Entry {
    fn new(alert: Arc<Alert>, told: Option<Told>) -> Self {
        Self { alert, ended: None, told, under_way: false, unanswered: false }
    }

    /// Whether the receiver has heard of it, as far as we can tell. If so, it is to hear of its end.
    fn may_be_known(&self) -> bool {
        self.told.is_some() || self.under_way || self.unanswered
    }

    /// Whether the receiver knows something else than is true, or may, because a notice was not answered.
    fn is_news(&self) -> bool {
        let Some(Told { severity, since, .. }) = self.told else { return true };
        self.unanswered
            || self.ended.is_some()
            || severity != self.alert.severity
            || since != self.alert.since
    }

    fn due_at(&self, repeat: Option<Duration>) -> Option<Duration> {
        if self.is_news() {
            return Some(Duration::ZERO);
        }
        let told = self.told?;
        Some(told.at.map_or(Duration::ZERO, |at| at + repeat.unwrap_or_default()))
            .filter(|_| repeat.is_some())
    }

    fn take_up(&mut self) -> Notice {
        self.under_way = true;
        let alert = match (self.ended, self.told) {
            // It ends as it was told.
            (Some(_), Some(Told { severity, since, .. })) => {
                Arc::new(Alert { severity, since, ..Alert::clone(&self.alert) })
            }
            _ => Arc::clone(&self.alert),
        };
        let severity_before = self.told.map(|told| told.severity).filter(|before| *before != alert.severity);
        Notice { alert, ended: self.ended, severity_before }
    }
}

#[cfg(test)]
mod tests;
