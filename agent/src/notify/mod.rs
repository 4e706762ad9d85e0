//! Telling receivers of alerts: each has a thread and an [`outbox`] of its own, so none waits for another, and nothing waits for any.

mod alertmanager;
mod courier;
mod http;
mod journal;
mod notice;
mod outbox;
mod webhook;

use std::{collections::BTreeMap, io, sync::Arc};

use self::courier::Courier;
pub use self::notice::Site;
pub use self::outbox::SavedOutbox;
use crate::{alert::Alert, config::Receiver, model::NotificationFigures};

/// Whether a receiver of the configuration can be reached: a connection is made, and nothing is sent.
///
/// # Errors
/// Why it cannot.
pub fn reach(receiver: &Receiver) -> Result<(), String> {
    use crate::config::Channel;
    match &receiver.channel {
        Channel::Alertmanager(endpoint) | Channel::Webhook(endpoint, _) => http::connect(endpoint),
        Channel::Journal => journal::find(),
    }
}

/// All receivers.
#[derive(Default)]
pub struct Notifier {
    site: Site,
    couriers: Vec<Courier>,
}

impl Notifier {
    /// Starts a thread for each receiver; `saved` is what each was told before a restart, by name.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        site: Site,
        receivers: &[Receiver],
        saved: &BTreeMap<String, SavedOutbox>,
    ) -> io::Result<Self> {
        let mut notifier = Self { site, couriers: Vec::new() };
        for receiver in receivers {
            let known = saved.get(&*receiver.name).cloned().unwrap_or_default();
            notifier.couriers.push(Courier::start(receiver, &notifier.site, &known)?);
        }
        Ok(notifier)
    }

    /// Puts other receivers in force; those that stay as they are go on undisturbed.
    ///
    /// # Errors
    /// When a thread cannot be started; those before it are in force then.
    pub fn reconfigure(&mut self, site: Site, receivers: &[Receiver]) -> io::Result<()> {
        let same_site = self.site == site;
        self.site = site;
        let saved = self.save();
        let mut before = std::mem::take(&mut self.couriers);
        for receiver in receivers {
            let same = before.iter().position(|courier| same_site && courier.receiver() == receiver);
            let courier = if let Some(place) = same {
                before.swap_remove(place)
            } else {
                let known = saved.get(&*receiver.name).cloned().unwrap_or_default();
                Courier::start(receiver, &self.site, &known)?
            };
            self.couriers.push(courier);
        }
        Ok(())
    }

    /// Takes what is announced now, and the time in seconds since the epoch. Each receiver hears of what is new to it.
    pub fn publish(&self, unix: u64, announced: &[Arc<Alert>]) {
        for courier in &self.couriers {
            courier.publish(unix, announced);
        }
    }

    /// What became of the notices, per receiver.
    #[must_use]
    pub fn figures(&self) -> Vec<NotificationFigures> {
        self.couriers.iter().map(Courier::figures).collect()
    }

    /// Receivers that have not been reached for long.
    #[must_use]
    pub fn unreached(&self) -> Vec<Arc<str>> {
        self.couriers
            .iter()
            .filter(|courier| courier.is_unreached())
            .map(|c| Arc::clone(&c.receiver().name))
            .collect()
    }

    /// What each receiver was told, to be kept over a restart.
    #[must_use]
    pub fn save(&self) -> BTreeMap<String, SavedOutbox> {
        self.couriers.iter().map(|courier| (courier.receiver().name.to_string(), courier.save())).collect()
    }
}
