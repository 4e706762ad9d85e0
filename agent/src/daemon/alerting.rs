//! The part of the poll that is about alerts: judging the facts, telling receivers, keeping what a restart needs.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

use super::state::{State, Store};
use crate::{
    alert::{Alert, Change, Engine, Facts, Now},
    config::{AlertName, Settings},
    host,
    model::{AccountId, NotificationFigures},
    notify::{Notifier, Site},
    serve::AlertView,
};

/// Alerts, receivers, and the state file.
pub(super) struct Alerting {
    engine: Engine,
    notifier: Notifier,
    store: Store<State>,
}

impl Alerting {
    /// Takes up what was raised and told before a restart. `now` is the clock that [`Self::evaluate`] is given.
    pub fn start(settings: &Settings, now: Duration) -> anyhow::Result<Self> {
        let (store, State { alerts, receivers, .. }) = Store::open(&settings.state_directory);
        let mut engine = Engine::new(settings.alerts.clone(), settings.silences.clone());
        engine.restore(both_clocks(now), &alerts);
        let notifier = Notifier::start(site(settings), &settings.receivers, &receivers)
            .context("cannot start a receiver's thread")?;
        Ok(Self { engine, notifier, store })
    }

    /// Puts other settings in force; returns whether all of them are.
    pub fn reconfigure(&mut self, settings: &Settings) -> bool {
        self.engine.reconfigure(settings.alerts.clone(), settings.silences.clone());
        let started = self.notifier.reconfigure(site(settings), &settings.receivers);
        if let Err(error) = &started {
            log::error!("cannot start a receiver's thread: {error}");
        }
        started.is_ok()
    }

    /// Receivers that have not been reached for long.
    pub fn unreached(&self) -> Vec<Arc<str>> {
        self.notifier.unreached()
    }

    /// Whether an alert of this name is raised, or about to be.
    pub fn is_active(&self, name: AlertName) -> bool {
        self.engine.is_active(name)
    }

    /// Accounts that an alert is raised for.
    pub fn accounts(&self) -> HashSet<AccountId> {
        self.engine.accounts()
    }

    /// Judges the facts, says what changed, and passes on what is to be announced.
    pub fn evaluate(&mut self, now: Duration, facts: &Facts<'_>) -> Vec<Change> {
        let now = both_clocks(now);
        let changes = self.engine.evaluate(now, facts);
        for change in &changes {
            match change {
                Change::Raised(alert) | Change::Severity(alert) => {
                    let Alert { name, severity, text, announced, .. } = alert;
                    let silenced = if *announced { "" } else { ", silenced" };
                    log::warn!("{name} ({}{silenced}): {text}", severity.name());
                }
                Change::Over(Alert { name, subject, .. }) => log::info!("{name}: over for {subject}"),
            }
        }
        let announced: Vec<Arc<Alert>> = self
            .engine
            .raised()
            .filter(|alert| alert.announced)
            .map(|alert| Arc::new(alert.clone()))
            .collect();
        self.notifier.publish(now.unix, &announced);
        self.store.save(State::new(self.engine.save(), self.notifier.save()));
        changes
    }

    /// What there is to show.
    pub fn view(&self) -> AlertView {
        AlertView { raised: self.engine.raised().cloned().collect(), quiet: self.engine.quiet() }
    }

    pub fn notifications(&self) -> Vec<NotificationFigures> {
        self.notifier.figures()
    }

    /// The alerts that are raised.
    pub fn raised(&self) -> impl Iterator<Item = &Alert> {
        self.engine.raised()
    }

    /// Alerts that found no room.
    pub fn left_out(&self) -> u64 {
        self.engine.left_out()
    }

    /// Whether what a restart needs is saved.
    pub fn is_saved(&self) -> bool {
        self.store.works()
    }
}

fn both_clocks(monotonic: Duration) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Now { monotonic, unix }
}

/// What notices say of where they come from.
fn site(settings: &Settings) -> Site {
    let mut labels = settings.labels.clone();
    labels.entry("instance".to_owned()).or_insert_with(host::name);
    Site { labels, external_url: settings.external_url.clone().unwrap_or_default() }
}
