//! The part of the poll that keeps what is usual for each peer over a restart.

use std::time::Duration;

use super::state::{HabitState, Store};
use crate::{config::Settings, model::Accounts};

/// Time between two occasions of writing it down.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The file of what is usual.
pub(super) struct KeptHabits {
    store: Store<HabitState>,
    saved_at: Duration,
}

impl KeptHabits {
    /// Takes up what was usual before a restart. `now` is the clock that the accounts are read with.
    pub fn start(settings: &Settings, now: Duration, accounts: &mut Accounts) -> Self {
        let (store, HabitState { habits, destinations, .. }) = Store::open(&settings.state_directory);
        accounts.habits_mut().restore(now, &habits);
        accounts.habits_mut().restore_destinations(now, &destinations);
        Self { store, saved_at: now }
    }

    /// Writes down what is usual now, if it is time.
    pub fn save(&mut self, now: Duration, accounts: &Accounts) {
        if now.saturating_sub(self.saved_at) >= SAVE_EVERY {
            self.saved_at = now;
            let habits = accounts.habits();
            self.store.save(HabitState::new(habits.save(), habits.save_destinations()));
        }
    }
}
