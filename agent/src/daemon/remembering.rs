//! The part of the poll that is about the past: what happened beside the figures, and who keeps it all.

use std::{
    collections::BTreeSet,
    mem,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::alerting::Alerting;
use crate::{
    alert::{Alert, AlertKey, Change},
    config::Settings,
    history::{self, History},
    model::{
        HistoryFigures, Snapshot,
        past::{AlertEvent, Event, Happened, RESTATED},
    },
};

/// As long is waited for the last seconds to be written.
const GRACE: Duration = Duration::from_millis(500);

/// The past, if it is kept.
pub(super) struct Remembering {
    history: Option<(History, JoinHandle<()>)>,
    limit_bytes: u64,
    happened: Vec<Event>,
    /// When it was last told which alerts go on.
    stated: Option<Instant>,
}

impl Remembering {
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let start = |wanted| {
            History::start(history::file(&settings.state_directory), wanted)
                .context("cannot start the thread that keeps the history")
        };
        let history = settings.history.map(start).transpose()?;
        let limit_bytes = settings.history.map_or(0, |wanted| wanted.bytes);
        Ok(Self { history, limit_bytes, happened: Vec::new(), stated: None })
    }

    /// Puts other limits in force; beginning or ceasing to keep it needs a restart.
    pub fn reconfigure(&mut self, settings: &Settings) {
        if let (Some((history, _)), Some(wanted)) = (&self.history, settings.history) {
            self.limit_bytes = wanted.bytes;
            history.resize(wanted);
        }
    }

    /// Something happened that no snapshot shows.
    pub fn note(&mut self, event: Event) {
        if self.history.is_some() {
            self.happened.push(event);
        }
    }

    /// Hands over a second: its figures, and what changed about the alerts that are raised.
    pub fn take(&mut self, snapshot: Arc<Snapshot>, alerting: &Alerting, changes: &[Change]) {
        let Some((history, _)) = &self.history else { return };
        let time = snapshot.taken.unix_seconds;
        let noted = mem::take(&mut self.happened).into_iter();
        let mut going_on = Vec::new();
        if self.stated.is_none_or(|stated| stated.elapsed() >= RESTATED) {
            self.stated = Some(Instant::now());
            let new: BTreeSet<AlertKey> = changes.iter().filter_map(just_raised).collect();
            let old = alerting.raised().filter(|alert| !new.contains(&alert.key()));
            going_on.extend(old.map(|alert| Event::AlertGoesOn(of_alert(alert))));
        }
        let events = noted.chain(going_on).chain(changes.iter().map(of_change));
        history.take(snapshot, events.map(|event| Happened { time, event }).collect());
    }

    pub fn figures(&self) -> Option<HistoryFigures> {
        let (history, _) = self.history.as_ref()?;
        let history::Status { trouble, bytes } = history.status();
        Some(HistoryFigures { trouble, bytes, limit_bytes: self.limit_bytes })
    }

    /// Seconds that were not taken, because the disk hangs or the host has no time for us.
    pub fn lost(&self) -> u64 {
        self.history.as_ref().map_or(0, |(history, _)| history.lost())
    }

    /// The way to the past for those who ask.
    pub fn history(&self) -> Option<History> {
        self.history.as_ref().map(|(history, _)| history.clone())
    }

    /// Has the last seconds written.
    pub fn stop(self) {
        let Some((history, thread)) = self.history else { return };
        history.stop();
        super::wait_for(&thread, GRACE);
    }
}

fn just_raised(change: &Change) -> Option<AlertKey> {
    if let Change::Raised(alert) = change { Some(alert.key()) } else { None }
}

fn of_change(change: &Change) -> Event {
    match change {
        Change::Raised(alert) => Event::AlertRaised(of_alert(alert)),
        Change::Severity(alert) => Event::AlertChanged(of_alert(alert)),
        Change::Over(alert) => Event::AlertOver(of_alert(alert)),
    }
}

fn of_alert(alert: &Alert) -> AlertEvent {
    let [(_, peer), _, (_, direction), (_, name)] = alert.subject.labels();
    AlertEvent {
        alert: alert.name.name().to_owned(),
        severity: alert.severity.name().to_owned(),
        peer,
        port: alert.subject.port(),
        direction,
        name,
        since: alert.since,
        text: alert.text.clone(),
    }
}
