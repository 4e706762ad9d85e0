//! What happened to an account within the last minute, as far as it bears on trouble.

use std::{collections::VecDeque, ops::AddAssign, time::Duration};

use probe_ebpf::account::Counters;

/// The last minute is kept in slots of this length.
const SLOT: Duration = Duration::from_secs(5);

/// Slots of a minute; the one that is being filled comes on top.
const SLOTS: u64 = 12;

/// Events of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Connections established.
    pub connections: u64,
    /// SYNs of ours.
    pub syns: u64,
    /// SYNs repeated, as far as that is seen without the SYN watch.
    pub syn_retries: u64,
    /// SYNs the SYN watch saw for the first time.
    pub watched_syns: u64,
    /// SYNs the SYN watch saw again.
    pub watched_syn_retries: u64,
    /// SYNs that TIME_WAIT accepted.
    pub accepted: u64,
    /// SYNs that TIME_WAIT refused.
    pub refused: u64,
    /// Attempts of ours that failed, by [`ConnectFailure`](probe_ebpf::account::ConnectFailure).
    pub failures: [u64; 5],
    /// Nanoseconds that these took.
    pub lost_ns: u64,
    /// Connections that were aborted early.
    pub aborted: u64,
}

impl Events {
    fn of(delta: &Counters) -> Self {
        Self {
            connections: delta.connections,
            syns: delta.syns,
            syn_retries: delta.syn_retries,
            watched_syns: delta.watched_syns,
            watched_syn_retries: delta.watched_syn_retries,
            accepted: delta.time_wait_accepted,
            refused: delta.time_wait_refused.iter().sum(),
            failures: delta.connect_failures,
            lost_ns: delta.connect_lost_ns,
            aborted: delta.aborted_early,
        }
    }

    fn is_trouble(&self) -> bool {
        let Self { syn_retries, watched_syn_retries, refused, aborted, failures, .. } = self;
        syn_retries + watched_syn_retries + refused + aborted + failures.iter().sum::<u64>() > 0
    }
}

impl AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.syns += other.syns;
        self.syn_retries += other.syn_retries;
        self.watched_syns += other.watched_syns;
        self.watched_syn_retries += other.watched_syn_retries;
        self.accepted += other.accepted;
        self.refused += other.refused;
        for (sum, failures) in self.failures.iter_mut().zip(other.failures) {
            *sum += failures;
        }
        self.lost_ns += other.lost_ns;
        self.aborted += other.aborted;
    }
}

/// The last minute of an account that has trouble. Most have none, and keep nothing.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    slots: VecDeque<(u64, Events)>,
}

impl Trouble {
    /// Books what is new, if it is trouble or adds to some.
    pub fn add(trouble: &mut Option<Box<Self>>, now: Duration, delta: &Counters) {
        let events = Events::of(delta);
        if trouble.is_none() && !events.is_trouble() {
            return;
        }
        let slots = &mut trouble.get_or_insert_default().slots;
        let slot = slot(now);
        match slots.back_mut() {
            Some((last, sum)) if *last == slot => *sum += events,
            _ => slots.push_back((slot, events)),
        }
    }

    /// Forgets what is older than a minute; returns the rest, if it holds trouble.
    pub fn of_last_minute(trouble: &mut Option<Box<Self>>, now: Duration) -> Option<Events> {
        let slots = &mut trouble.as_mut()?.slots;
        let slot = slot(now);
        while slots.front().is_some_and(|&(first, _)| first + SLOTS < slot) {
            slots.pop_front();
        }
        let mut sum = Events::default();
        for &(_, events) in &*slots {
            sum += events;
        }
        if sum.is_trouble() {
            return Some(sum);
        }
        // Only what went well is left: it counts from the next trouble on.
        *trouble = None;
        None
    }
}

fn slot(now: Duration) -> u64 {
    now.as_secs() / SLOT.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn counters(connections: u64, syn_retries: u64) -> Counters {
        Counters { connections, syn_retries, ..Counters::zeroed() }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn trouble_is_summed_over_a_minute_and_forgotten() {
        let mut trouble = None;
        Trouble::add(&mut trouble, s(100), &counters(50, 0));
        assert!(trouble.is_none(), "nothing wrong, nothing kept");
        Trouble::add(&mut trouble, s(101), &counters(1, 2));
        Trouble::add(&mut trouble, s(130), &counters(3, 0));
        let sum = Trouble::of_last_minute(&mut trouble, s(160)).expect("trouble within the minute");
        assert_eq!((sum.connections, sum.syn_retries), (4, 2));
        assert_eq!(Trouble::of_last_minute(&mut trouble, s(166)), None);
        Trouble::add(&mut trouble, s(167), &counters(9, 0));
        assert!(trouble.is_none(), "what went well begins nothing");
    }
}
