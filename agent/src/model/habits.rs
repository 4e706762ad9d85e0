//! What is usual for a peer on a port, learned from what it did before.
//!
//! A share of connections is usual if it was never lower in any span of the last hour or two with enough connections. Idle time does not
//! count: what a peer does once a day is usual after as many days. A restart of the agent forgets nothing.

mod answers;
mod endings;
mod saved;

use std::{collections::HashMap, time::Duration};

use probe_ebpf::{
    account::{Counters, EPHEMERAL},
    sweep::Held,
};

use answers::Answers;
use endings::ENOUGH;
pub use endings::Endings;
pub use saved::{SavedDestination, SavedHabit};

use super::peer::{AccountId, Direction};

/// So many accounts are remembered; beyond that, those that nothing is known of go first, then those without events for the longest time.
const CAPACITY: usize = 4_096;

/// So many more may gather until those beyond the capacity are forgotten at once.
const EXCESS: usize = CAPACITY / 4;

/// Idle accounts are forgotten no more often than this; meanwhile no new one is watched if there is no room.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// What is usual, by account.
#[derive(Debug, Default)]
pub struct Habits {
    endings: HashMap<AccountId, Endings>,
    answers: HashMap<AccountId, Answers>,
    /// When idle ones were last forgotten.
    endings_swept: Option<Duration>,
    answers_swept: Option<Duration>,
    forgotten: u64,
}

/// Whether there is no room for one more, nor may idle ones be forgotten yet.
fn is_full(watched: usize, now: Duration, swept: Option<Duration>) -> bool {
    watched >= CAPACITY + EXCESS && swept.is_some_and(|swept| now.saturating_sub(swept) < SWEEP_EVERY)
}

impl Habits {
    /// Takes what is new of an account. `now` is any clock that never goes back.
    pub fn read(&mut self, now: Duration, account: &AccountId, new: &Counters) {
        if account.direction == Direction::Outbound {
            if let Some(answers) = self.answers.get_mut(account) {
                answers.learn(now, new);
            }
            return;
        }
        let has_news = new.connections + new.aborted_early + new.answered > 0;
        if account.port == EPHEMERAL || !has_news {
            return;
        }
        if let Some(endings) = self.endings.get_mut(account) {
            endings.add(now, new);
            return;
        }
        if is_full(self.endings.len(), now, self.endings_swept) {
            return;
        }
        let mut endings = Endings::new(now);
        endings.add(now, new);
        self.endings.insert(account.clone(), endings);
        if self.endings.len() > CAPACITY + EXCESS {
            self.endings_swept = Some(now);
            self.forget_idle();
        }
    }

    /// Takes the sockets of a census; returns how many connections of ours wait for longer than is usual for their destination.
    pub(super) fn settle(&mut self, now: Duration, account: &AccountId, held: &Held) -> u32 {
        if account.direction == Direction::Inbound {
            return 0;
        }
        // Many destinations behind one account have no habits.
        if held.peer.is_overflow() {
            return Answers::new(now).stalled(held);
        }
        if let Some(answers) = self.answers.get_mut(account) {
            answers.see(now, held);
            return answers.stalled(held);
        }
        let mut answers = Answers::new(now);
        answers.see(now, held);
        let stalled = answers.stalled(held);
        if is_full(self.answers.len(), now, self.answers_swept) {
            return stalled;
        }
        self.answers.insert(account.clone(), answers);
        if self.answers.len() > CAPACITY + EXCESS {
            self.answers_swept = Some(now);
            self.forget_idle_destinations();
        }
        stalled
    }

    fn forget_idle_destinations(&mut self) {
        let mut order: Vec<(bool, Duration, AccountId)> = self
            .answers
            .iter()
            .map(|(id, answers)| (answers.is_worth_saving(), answers.seen(), id.clone()))
            .collect();
        order.sort_unstable();
        let excess = order.len().saturating_sub(CAPACITY);
        for (is_known, _, id) in order.into_iter().take(excess) {
            self.answers.remove(&id);
            self.forgotten += u64::from(is_known);
        }
    }

    fn forget_idle(&mut self) {
        let mut order: Vec<(bool, Duration, AccountId)> = self
            .endings
            .iter()
            .map(|(id, endings)| (endings.usual().is_some(), endings.seen(), id.clone()))
            .collect();
        order.sort_unstable();
        let excess = order.len().saturating_sub(CAPACITY);
        for (is_known, _, id) in order.into_iter().take(excess) {
            self.endings.remove(&id);
            self.forgotten += u64::from(is_known);
        }
    }

    /// How the connections of a peer to a port of ours usually end.
    #[must_use]
    pub fn endings(&self, account: &AccountId) -> Option<&Endings> {
        self.endings.get(account)
    }

    /// Whether connections to a port of ours are answered in full as a rule or now and then, whoever the peer is: ten of them in the last
    /// hour or two of traffic.
    #[must_use]
    pub fn is_answering(&self, port: u16) -> bool {
        let of_port = self.endings.iter().filter(|(id, _)| id.port == port);
        of_port.map(|(_, endings)| endings.answered()).sum::<u64>() >= ENOUGH
    }

    /// Accounts of which something was known and that made room for others.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes up what was saved.
    pub fn restore(&mut self, now: Duration, saved: &[SavedHabit]) {
        for habit in saved.iter().take(CAPACITY) {
            if let Some(account) = habit.account() {
                self.endings.insert(account, Endings::restored(now, habit.hours()));
            }
        }
    }

    /// The same of destinations of ours.
    pub fn restore_destinations(&mut self, now: Duration, saved: &[SavedDestination]) {
        for destination in saved.iter().take(CAPACITY) {
            if let Some(account) = destination.account() {
                self.answers.insert(account, Answers::restored(now, destination.known()));
            }
        }
    }

    /// What is to be written down of destinations of ours.
    #[must_use]
    pub fn save_destinations(&self) -> Vec<SavedDestination> {
        let worth = self.answers.iter().filter(|(_, answers)| answers.is_worth_saving());
        let mut destinations: Vec<(&AccountId, &Answers)> = worth.collect();
        if destinations.len() > CAPACITY {
            destinations.sort_unstable_by_key(|(id, answers)| (std::cmp::Reverse(answers.seen()), *id));
            destinations.truncate(CAPACITY);
        }
        destinations.sort_unstable_by_key(|&(id, _)| id);
        destinations.into_iter().map(|(id, answers)| SavedDestination::new(id, answers.known())).collect()
    }

    /// What is to be written down, in an order of its own.
    #[must_use]
    pub fn save(&self) -> Vec<SavedHabit> {
        let known = self.endings.iter().filter(|(_, endings)| endings.usual().is_some());
        let mut accounts: Vec<(&AccountId, &Endings)> = known.collect();
        if accounts.len() > CAPACITY {
            accounts.sort_unstable_by_key(|(id, endings)| (std::cmp::Reverse(endings.seen()), *id));
            accounts.truncate(CAPACITY);
        }
        accounts.sort_unstable_by_key(|&(id, _)| id);
        accounts.into_iter().map(|(id, endings)| SavedHabit::new(id, endings.hours())).collect()
    }
}

#[cfg(test)]
mod tests;
