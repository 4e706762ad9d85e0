//! Someone who scrapes four times a second, and what he had to wait.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use crate::agent::Agent;

const PERIOD: Duration = Duration::from_millis(250);

pub(super) struct Scraper<'a> {
    agent: &'a Agent<'a>,
    ended: AtomicBool,
    answered: AtomicU64,
    unanswered: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// When the last scrape was answered.
    last: Option<Instant>,
    /// How long the agent has been stopped by us since then.
    stopped: Duration,
    /// The last fault that has begun.
    fault: &'static str,
    longest: Gap,
}

/// A time without an answered scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// How long.
    pub time: Duration,
    /// The fault that had begun last when it ended; empty before the first.
    pub fault: &'static str,
}

/// Ends the scraper when it is dropped.
pub(super) struct Running<'s>(&'s AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Scraper<'a> {
    pub fn new(agent: &'a Agent<'a>) -> Self {
        Self {
            agent,
            ended: AtomicBool::default(),
            answered: AtomicU64::default(),
            unanswered: AtomicU64::default(),
            log: Mutex::default(),
        }
    }

    pub fn run<'s, 'e>(&'e self, scope: &'s Scope<'s, 'e>) -> Running<'e> {
        scope.spawn(|| {
            while !self.ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                self.scrape();
                thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
            }
        });
        Running(&self.ended)
    }

    fn scrape(&self) {
        let answer = self.agent.get("/metrics");
        if answer.is_none_or(|(status, _)| status != 200) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(last) = log.last {
            let time = (now - last).saturating_sub(log.stopped);
            if time > log.longest.time {
                log.longest = Gap { time, fault: log.fault };
            }
        }
        log.last = Some(now);
        log.stopped = Duration::ZERO;
    }

    /// A fault begins.
    pub fn begins(&self, fault: &'static str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).fault = fault;
    }

    /// The agent is stopped by `stop` meanwhile, and cannot answer.
    pub fn excused(&self, stop: impl FnOnce()) {
        // Whoever is answered as soon as it goes on has to know of the stop.
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        stop();
        log.stopped += begun.elapsed();
    }

    /// The longest time without an answer, and how many scrapes were answered and not.
    pub fn result(&self) -> (Gap, (u64, u64)) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = [&self.answered, &self.unanswered].map(|count| count.load(Ordering::Relaxed));
        (log.longest, counts.into())
    }
}
