//! What happened to an account within the last minute, as far as it bears on trouble.

use std::{collections::VecDeque, ops::AddAssign, time::Duration};

use probe_ebpf::account::{CONNECT_FAILURES, ConnectFailure, Counters};

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
    /// Attempts so refused that the client gave up.
    pub refused_failed: u64,
    /// Attempts so refused that waited for about a second or more, whatever came of them.
    pub refused_late: u64,
    /// SYNs that met a connection still open here, late copies of its own aside.
    pub challenged: u64,
    /// Attempts of ours that failed, by [`ConnectFailure`].
    pub failures: [u64; CONNECT_FAILURES.len()],
    /// Nanoseconds that these took.
    pub lost_ns: u64,
    /// Of these, attempts that our program abandoned too soon to say anything about the destination.
    pub abandoned_soon: u64,
    /// Nanoseconds that our program waited for an answer before it abandoned attempts.
    pub abandoned_ns: u64,
    /// Connections that were aborted early.
    pub aborted: u64,
}

impl Events {
    pub(super) fn of(delta: &Counters) -> Self {
        Self {
            connections: delta.connections,
            syns: delta.syns,
            syn_retries: delta.syn_retries,
            watched_syns: delta.watched_syns,
            watched_syn_retries: delta.watched_syn_retries,
            accepted: delta.time_wait_accepted,
            refused: delta.time_wait_refused.iter().sum(),
            // Only the agent notices these.
            refused_failed: 0,
            refused_late: delta.refused_late,
            challenged: delta.challenged_syns.iter().sum::<u64>().saturating_sub(delta.challenged_duplicates),
            failures: delta.connect_failures,
            lost_ns: delta.connect_lost_ns,
            abandoned_soon: delta.abandoned.buckets[0],
            abandoned_ns: delta.abandoned.sum_ns,
            aborted: delta.aborted_early,
        }
    }

    /// Attempts of ours that failed for want of a local port, in which the destination has no part.
    #[must_use]
    pub fn without_port(&self) -> u64 {
        self.failures[ConnectFailure::NoPort as usize]
    }

    /// The other attempts of ours that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum::<u64>() - self.without_port()
    }

    fn is_trouble(&self) -> bool {
        let Self {
            syn_retries,
            watched_syn_retries,
            refused,
            refused_failed,
            challenged,
            aborted,
            failures,
            ..
        } = self;
        let refused = refused + refused_failed + challenged;
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
        self.refused_failed += other.refused_failed;
        self.refused_late += other.refused_late;
        self.challenged += other.challenged;
        for (sum, failures) in self.failures.iter_mut().zip(other.failures) {
            *sum += failures;
        }
        self.lost_ns += other.lost_ns;
        self.abandoned_soon += other.abandoned_soon;
        self.abandoned_ns += other.abandoned_ns;
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
    pub fn add(trouble: &mut Option<Box<Self>>, now: Duration, events: Events) {
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

    fn events(connections: u64, syn_retries: u64) -> Events {
        Events::of(&Counters { connections, syn_retries, ..Counters::zeroed() })
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn trouble_is_summed_over_a_minute_and_forgotten() {
        let mut trouble = None;
        Trouble::add(&mut trouble, s(100), events(50, 0));
        assert!(trouble.is_none(), "nothing wrong, nothing kept");
        Trouble::add(&mut trouble, s(101), events(1, 2));
        Trouble::add(&mut trouble, s(130), events(3, 0));
        let sum = Trouble::of_last_minute(&mut trouble, s(160)).expect("trouble within the minute");
        assert_eq!((sum.connections, sum.syn_retries), (4, 2));
        assert_eq!(Trouble::of_last_minute(&mut trouble, s(166)), None);
        Trouble::add(&mut trouble, s(167), events(9, 0));
        assert!(trouble.is_none(), "what went well begins nothing");
    }
}
