//! One receiver's thread: waits until something is owed, delivers it, tries again.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Site, alertmanager,
    http::Client,
    journal,
    outbox::{Notice, Outbox, Outcome, SavedOutbox},
    webhook,
};
use crate::{
    alert::Alert,
    config::{Channel, Receiver, Secret},
    model::NotificationFigures,
};

/// One receiver; dropping it ends its thread once a delivery under way is over.
pub(super) struct Courier {
    receiver: Receiver,
    desk: Arc<Desk>,
}

/// What a courier and its thread share.
struct Desk {
    state: Mutex<State>,
    news: Condvar,
    started: Instant,
}

struct State {
    outbox: Outbox,
    stop: bool,
}

/// How notices reach the receiver.
enum Way {
    Alertmanager(Client),
    Webhook(Client, Option<Secret>),
    Journal,
}

impl Courier {
    pub fn start(receiver: &Receiver, site: &Site, known: &SavedOutbox) -> io::Result<Self> {
        let (way, repeat) = match &receiver.channel {
            Channel::Alertmanager(endpoint) => {
                let client = Client::new(endpoint, alertmanager::PATH);
                (Way::Alertmanager(client), Some(alertmanager::REPEAT))
            }
            Channel::Webhook(endpoint, secret) => {
                (Way::Webhook(Client::new(endpoint, ""), secret.clone()), None)
            }
            Channel::Journal => (Way::Journal, None),
        };
        let outbox = Outbox::new(&receiver.name, receiver.min_severity, repeat, known);
        let desk = Arc::new(Desk {
            state: Mutex::new(State { outbox, stop: false }),
            news: Condvar::new(),
            started: Instant::now(),
        });
        let run = Run { name: Arc::clone(&receiver.name), site: site.clone(), way, desk: Arc::clone(&desk) };
        thread::Builder::new().name("notify".to_owned()).spawn(move || run.run())?;
        Ok(Self { receiver: receiver.clone(), desk })
    }

    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    pub fn publish(&self, unix: u64, announced: &[Arc<Alert>]) {
        if self.desk.lock().outbox.update(unix, announced) {
            self.desk.news.notify_one();
        }
    }

    pub fn figures(&self) -> NotificationFigures {
        self.desk.lock().outbox.figures()
    }

    pub fn is_unreached(&self) -> bool {
        self.desk.lock().outbox.is_unreached(self.desk.now())
    }

    pub fn save(&self) -> SavedOutbox {
        self.desk.lock().outbox.save()
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.desk.lock().stop = true;
        self.desk.news.notify_one();
    }
}

impl Desk {
    /// A panic while it was locked left nothing half done that matters more than going on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until something is owed; `None` when the courier was dropped.
    fn next(&self) -> Option<Vec<Notice>> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let now = self.now();
            let due = state.outbox.due(now);
            if !due.is_empty() {
                return Some(due);
            }
            state = match state.outbox.due_at() {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let pause = at.saturating_sub(now).max(Duration::from_millis(1));
                    self.news.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The thread.
struct Run {
    name: Arc<str>,
    site: Site,
    way: Way,
    desk: Arc<Desk>,
}

impl Run {
    fn run(&self) {
        while let Some(notices) = self.desk.next() {
            let result = self.deliver(&notices);
            let outcome = result.as_ref().map_or_else(|&(outcome, _)| outcome, |()| Outcome::Delivered);
            let mut state = self.desk.lock();
            let was_failing = state.outbox.is_failing();
            state.outbox.settle(self.desk.now(), &notices, outcome, fastrand::f64());
            drop(state);
            // The first failure and the first success after it; what lies between is counted.
            match result {
                Err((_, reason)) if !was_failing => {
                    log::warn!("receiver {}: not reached, trying again: {reason}", self.name);
                }
                Ok(()) if was_failing => log::info!("receiver {}: reached again", self.name),
                _ => {}
            }
        }
    }

    fn deliver(&self, notices: &[Notice]) -> Result<(), (Outcome, String)> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match &self.way {
            Way::Alertmanager(client) => {
                let body = alertmanager::body(&self.site, notices, unix).to_string();
                client.post(body.as_bytes(), &[])
            }
            Way::Webhook(client, secret) => {
                let body = webhook::body(&self.site, &self.name, notices, unix).to_string();
                let signature = secret.as_ref().map(|secret| webhook::signature(secret, body.as_bytes()));
                let headers: Vec<_> =
                    signature.into_iter().map(|value| (webhook::SIGNATURE, value)).collect();
                client.post(body.as_bytes(), &headers)
            }
            Way::Journal => {
                let write = |notice| journal::write(&self.site, notice);
                notices.iter().try_for_each(write).map_err(|error| (Outcome::Failed, error))
            }
        }
    }
}
