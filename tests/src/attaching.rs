//! Agents start and stop only while no scenario holds exact figures against the wire.
//!
//! While a program attaches to a tracepoint or leaves it, the kernel can lose events of that tracepoint for every program, and it counts
//! none of them (ARCHITECTURE.md, "Where the kernel bites"). So there are two kinds of time, which never overlap: in one, any number of
//! threads attach and detach; in the other, any number of them generate traffic and compare.
//!
//! A staged scenario ([`crate::suite`]) attaches from its beginning until it calls [`exact`], and again from there to its end: all scenarios
//! that run at the same time have started their agents when the first of them sends traffic, and stop them when the last has compared.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

static GATE: Gate = Gate {
    threads: Mutex::new(Threads { attaching: 0, about_to_attach: 0, exact: 0 }),
    changed: Condvar::new(),
};

thread_local! {
    static NOW: Cell<Phase> = const { Cell::new(Phase::Neither) };
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What the current thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Neither,
    Attaching,
    Exact,
}

struct Gate {
    threads: Mutex<Threads>,
    changed: Condvar,
}

/// How many threads are in each phase; `attaching` or `exact` is 0.
struct Threads {
    attaching: usize,
    about_to_attach: usize,
    exact: usize,
}

impl Gate {
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds; the time is none of the scenario's own.
    fn wait_while<'a>(
        &'a self,
        threads: MutexGuard<'a, Threads>,
        condition: impl Fn(&Threads) -> bool,
    ) -> MutexGuard<'a, Threads> {
        let begun = Instant::now();
        let threads = self.changed.wait_while(threads, |threads| condition(threads));
        WAITED.set(WAITED.get() + begun.elapsed());
        threads.unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self) {
        let mut threads = self.threads();
        threads.about_to_attach += 1;
        threads = self.wait_while(threads, |threads| threads.exact > 0);
        threads.about_to_attach -= 1;
        threads.attaching += 1;
    }

    fn be_exact(&self) {
        // Who attaches goes first, so that all who wait for it can be exact together.
        let mut threads =
            self.wait_while(self.threads(), |threads| threads.attaching + threads.about_to_attach > 0);
        threads.exact += 1;
    }

    fn leave(&self, phase: Phase) {
        let mut threads = self.threads();
        match phase {
            Phase::Neither => {}
            Phase::Attaching => threads.attaching -= 1,
            Phase::Exact => threads.exact -= 1,
        }
        self.changed.notify_all();
    }
}

/// While it lives, this thread may start and stop agents.
#[derive(Debug)]
pub struct Attaching {
    before: Phase,
}

/// Waits until no scenario compares exact figures.
///
/// # Panics
/// When this thread compares exact figures itself: then it would wait for ever.
#[must_use]
pub fn attaching() -> Attaching {
    let before = NOW.get();
    match before {
        Phase::Neither => {
            GATE.attach();
            NOW.set(Phase::Attaching);
        }
        Phase::Attaching => {}
        // What fails takes its agents down as it unwinds.
        Phase::Exact => {
            assert!(
                thread::panicking(),
                "an agent starts or stops while its scenario compares exact figures"
            );
        }
    }
    Attaching { before }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        if self.before == Phase::Neither {
            NOW.set(Phase::Neither);
            GATE.leave(Phase::Attaching);
        }
    }
}

/// While it lives, no agent of any scenario starts or stops, or any may ([`loose`]).
#[derive(Debug)]
pub struct Playing {
    before: Phase,
    now: Phase,
}

/// Waits until no scenario attaches or detaches.
#[must_use]
pub fn exact() -> Playing {
    let before = NOW.replace(Phase::Exact);
    if before != Phase::Exact {
        GATE.leave(before);
        GATE.be_exact();
    }
    Playing { before, now: Phase::Exact }
}

/// Lets others attach and be exact, while this scenario plays for so long that they would wait for minutes.
#[must_use]
pub fn loose() -> Playing {
    let before = NOW.replace(Phase::Neither);
    GATE.leave(before);
    Playing { before, now: Phase::Neither }
}

impl Drop for Playing {
    fn drop(&mut self) {
        NOW.set(self.before);
        if self.before != self.now {
            GATE.leave(self.now);
        }
        if self.before == Phase::Attaching {
            GATE.attach();
        }
    }
}

/// How long this thread has waited for others since it was last asked.
pub(crate) fn take_waited() -> Duration {
    WAITED.take()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn attaching_and_exact_figures_never_overlap_and_all_attach_before_the_first_is_exact() {
        const THREADS: usize = 8;
        static ATTACHED: AtomicUsize = AtomicUsize::new(0);
        static EXACT: AtomicUsize = AtomicUsize::new(0);
        thread::scope(|scope| {
            // All of them are attaching before the first may be exact.
            let first = attaching();
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let _staged = attaching();
                    ATTACHED.fetch_add(1, SeqCst);
                    {
                        let _exact = exact();
                        assert_eq!(ATTACHED.load(SeqCst), THREADS, "somebody still attaches");
                        EXACT.fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_millis(20));
                        EXACT.fetch_sub(1, SeqCst);
                    }
                    assert_eq!(EXACT.load(SeqCst), 0, "it detaches while another is exact");
                });
            }
            while ATTACHED.load(SeqCst) < THREADS {
                thread::yield_now();
            }
            drop(first);
        });
    }

    #[test]
    fn to_attach_while_exact_is_an_error_and_leaves_the_gate_open() {
        static CAUGHT: AtomicBool = AtomicBool::new(false);
        thread::scope(|scope| {
            let attempt = scope.spawn(|| {
                let _exact = exact();
                let _ = attaching();
            });
            CAUGHT.store(attempt.join().is_err(), SeqCst);
        });
        assert!(CAUGHT.load(SeqCst));
        drop(attaching());
        drop(exact());
    }
}
