//! When which name is asked for: each as often as said, those that are due together in one round, none twice at a time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    time::sleep_until,
};

use super::{
    Lookup, Out, Pace, Plan,
    conf::{Conf, Files},
    round,
};

/// Names in one round: so many answers find room in a socket, and in what a small name server does at a time.
const TOGETHER: usize = 32;

/// What is due so soon is asked for now, so that fewer rounds are needed.
const SOON: Duration = Duration::from_millis(5);

/// All names whose change is waited for are asked for so many times a second, however eager each of them is.
const HURRIED_PER_SECOND: u32 = 200;

/// An interval of theirs differs from the next by up to this part, so that a fleet that lost its database at the same moment does not ask
/// its name servers at the same moments.
const JITTER: f64 = 0.25;

/// How often it is looked whether the host resolves otherwise.
const CONF_CHECKED: Duration = Duration::from_secs(1);

/// A name's place in time.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    pace: Pace,
    hurried: bool,
    due: Instant,
    asked: bool,
}

/// All names.
#[derive(Debug, Default)]
struct Schedule {
    entries: Vec<Entry>,
    by_name: HashMap<Arc<str>, usize>,
    hurried: usize,
    random: fastrand::Rng,
}

/// Asks until the plan's owner is gone.
pub(super) async fn run(mut wanted: watch::Receiver<Plan>, mut files: Files, out: &Out) {
    let mut schedule = Schedule::default();
    let mut conf = None;
    let mut checked = Instant::now();
    // A name is in it once at most: it is bounded.
    let (done, mut lookups) = unbounded_channel();
    loop {
        let now = Instant::now();
        if conf.is_none() || now.saturating_duration_since(checked) >= CONF_CHECKED {
            checked = now;
            if let Some(new) = files.changed(&schedule.names()) {
                conf = Some(Arc::new(new));
            }
        }
        if let Some(conf) = &conf {
            for names in schedule.due(now).chunks(TOGETHER) {
                tokio::spawn(round::run(Arc::<Conf>::clone(conf), names.to_vec(), done.clone()));
            }
        }
        let next = schedule.next().unwrap_or(now + Duration::from_hours(1));
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                if schedule.follow(&wanted.borrow_and_update(), Instant::now()) {
                    // Of the hosts, those are known that were wanted.
                    files.forget();
                    conf = None;
                }
            }
            Some(lookup) = lookups.recv() => take(lookup, &mut lookups, &mut schedule, out),
            () = sleep_until(next.into()) => {}
        }
    }
}

/// Takes a lookup, and all that came with it.
fn take(first: Lookup, more: &mut UnboundedReceiver<Lookup>, schedule: &mut Schedule, out: &Out) {
    let mut next = Some(first);
    while let Some(lookup) = next {
        schedule.answered(&lookup.name);
        out.put(lookup);
        next = more.try_recv().ok();
    }
}

impl Schedule {
    fn names(&self) -> Vec<Arc<str>> {
        self.entries.iter().map(|entry| Arc::clone(&entry.name)).collect()
    }

    /// Goes over to another plan; returns whether it has other names. Those that stay keep their turn; one that is hurried now has it
    /// at once.
    fn follow(&mut self, plan: &Plan, now: Instant) -> bool {
        let names = self.names();
        let mut before: HashMap<Arc<str>, Entry> =
            self.entries.drain(..).map(|entry| (Arc::clone(&entry.name), entry)).collect();
        let rounds = u32::try_from(plan.names.len().div_ceil(TOGETHER)).unwrap_or(u32::MAX).max(1);
        for (place, (name, pace)) in plan.names.iter().enumerate() {
            let hurried = plan.hurried.contains(name);
            let turn = u32::try_from(place / TOGETHER).unwrap_or_default();
            let entry = if let Some(entry) = before.remove(name) {
                let due = if hurried && !entry.hurried { now } else { entry.due.min(now + pace.every) };
                Entry { pace: *pace, hurried, due, ..entry }
            } else {
                let due = now + pace.every * turn / rounds;
                Entry { name: Arc::clone(name), pace: *pace, hurried, due, asked: false }
            };
            self.entries.push(entry);
        }
        self.hurried = plan.hurried.len();
        let places = self.entries.iter().enumerate();
        self.by_name = places.map(|(place, entry)| (Arc::clone(&entry.name), place)).collect();
        names != self.names()
    }

    /// The names whose turn it is; each has its next in time, counted from this one's.
    fn due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let shortest = self.shortest_hurried();
        let Self { entries, random, .. } = self;
        let mut names = Vec::new();
        for entry in entries.iter_mut().filter(|entry| !entry.asked && entry.due <= now + SOON) {
            let interval = if entry.hurried {
                let jitter = 1.0 + JITTER * (2.0 * random.f64() - 1.0);
                entry.pace.hurried_every.max(shortest).mul_f64(jitter)
            } else {
                entry.pace.every
            };
            entry.due += interval;
            if entry.due <= now {
                entry.due = now + interval;
            }
            entry.asked = true;
            names.push(Arc::clone(&entry.name));
        }
        names
    }

    /// How often each name may be asked for while so many are in a hurry.
    fn shortest_hurried(&self) -> Duration {
        let hurried = u32::try_from(self.hurried).unwrap_or(u32::MAX);
        Duration::from_secs(1) * hurried / HURRIED_PER_SECOND
    }

    fn next(&self) -> Option<Instant> {
        self.entries.iter().filter(|entry| !entry.asked).map(|entry| entry.due).min()
    }

    fn answered(&mut self, name: &Arc<str>) {
        if let Some(&place) = self.by_name.get(name) {
            self.entries[place].asked = false;
        }
    }
}

#[cfg(test)]
mod tests;
