//! How the scenarios are run: several at a time, in an order in which none disturbs another.

use std::{
    cell::RefCell,
    cmp::Reverse,
    fs,
    io::Write as _,
    process::ExitCode,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use libtest_mimic::{Arguments, Completion, Trial};
use serde::Serialize;

use crate::{alert_table, attaching, inconclusive, workspace};

/// What runs beside a scenario. They run in this order: all of one kind before the first of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    /// Others that start their agents with it, play and compare while all of these run, and stop them together ([`attaching`]).
    Staged,
    /// Others that start and stop agents as they like, and are exact for moments.
    Others,
    /// No other scenario: it plays many programs at once, or starts agents that the lab does not see, or one that cannot tell network
    /// namespaces apart, as where the kernel has no BTF.
    Builds,
    /// Nothing, not even what is built: that is what it installs, or it is about what the agent or the traffic gets of the processors, or holds
    /// exact figures of classic tracepoints, whose programs the kernel leaves out while any agent reads a map in a batch.
    Nothing,
}

impl Beside {
    /// Whether no other scenario runs beside it.
    fn is_alone(self) -> bool {
        matches!(self, Self::Builds | Self::Nothing)
    }
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its module and function.
    pub name: &'static str,
    /// Plays it; panics when something is wrong.
    pub run: fn(),
    /// What runs beside it.
    pub beside: Beside,
    /// About how long it takes. Of one kind the longest begin first, so that those that wait for each other are alike.
    pub seconds: u32,
}

impl Scenario {
    /// Without the name of the test program.
    fn name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }
}

/// The scenarios of a module, by what runs beside them and how long they take:
/// `scenarios! { Staged 60 s: one, another; Others 5 s: a_third }`.
#[macro_export]
macro_rules! scenarios {
    ($($beside:ident $seconds:literal s: $($function:ident),+);+ $(;)?) => {
        pub(crate) const SCENARIOS: &[$crate::suite::Scenario] = &[$($($crate::suite::Scenario {
            name: concat!(module_path!(), "::", stringify!($function)),
            run: $function,
            beside: $crate::suite::Beside::$beside,
            seconds: $seconds,
        }),+),+];
    };
}

/// As of a test program of libtest's; what it does not name is everything.
#[derive(Debug, Parser)]
struct Options {
    /// Only scenarios whose name contains one of these
    filters: Vec<String>,
    /// None whose name contains this
    #[arg(long)]
    skip: Vec<String>,
    /// Print the names, and run nothing
    #[arg(long)]
    list: bool,
    /// How many run at the same time
    #[arg(long, default_value_t = 12)]
    test_threads: usize,
}

/// Runs them as the command line says.
#[must_use]
pub fn run(modules: &[&'static [Scenario]]) -> ExitCode {
    let Options { filters, skip, list, test_threads } = Options::parse();
    let mut scenarios: Vec<&'static Scenario> = modules.iter().copied().flatten().collect();
    let has = |scenario: &Scenario, words: &[String]| {
        words.iter().any(|word| scenario.name().contains(word.as_str()))
    };
    scenarios.retain(|scenario| (filters.is_empty() || has(scenario, &filters)) && !has(scenario, &skip));
    scenarios.sort_by_key(|scenario| (scenario.beside, Reverse(scenario.seconds)));
    let arguments = Arguments { list, test_threads: Some(test_threads), ..Arguments::default() };
    if !list {
        TURNS.fill(&scenarios);
    }
    let trials = scenarios.into_iter().map(|scenario| {
        Trial::ignorable_test(scenario.name(), || {
            let _turn = TURNS.take(scenario);
            inconclusive::begin(scenario.name());
            let _staged = (scenario.beside == Beside::Staged).then(attaching::attaching);
            (scenario.run)();
            Ok(IGNORED.take().map_or(Completion::Completed, Completion::ignored_with))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if list {
        return ExitCode::SUCCESS;
    }
    TURNS.print_times();
    alert_table::print();
    let is_conclusive = inconclusive::conclude();
    if conclusion.has_failed() || !is_conclusive { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

thread_local! {
    /// Why the scenario of this thread plays nothing.
    static IGNORED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The scenario of this thread plays nothing, because this kernel lacks what it is about: it is listed as ignored, with this reason.
pub fn ignore(reason: &str) {
    IGNORED.set(Some(reason.to_owned()));
}

static TURNS: Turns = Turns {
    state: Mutex::new(State { left: [0; 4], alone: false, times: Vec::new() }),
    changed: Condvar::new(),
};

/// Whose turn it is.
struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How many of each kind have not ended.
    left: [usize; 4],
    /// Whether one runs that wants no other beside it.
    alone: bool,
    times: Vec<Time>,
}

/// How long a scenario took.
#[derive(Debug, Serialize)]
struct Time {
    name: &'static str,
    /// Of its own.
    seconds: f64,
    /// For the other scenarios, to attach or to be exact.
    waited: f64,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, scenarios: &[&Scenario]) {
        let mut state = self.state();
        for scenario in scenarios {
            state.left[scenario.beside as usize] += 1;
        }
    }

    /// Waits until all of earlier kinds have ended.
    fn take(&'static self, scenario: &'static Scenario) -> Turn {
        let kind = scenario.beside as usize;
        let alone = scenario.beside.is_alone();
        let waits =
            |state: &mut State| state.left[..kind].iter().any(|&left| left > 0) || (alone && state.alone);
        let state = self.changed.wait_while(self.state(), waits);
        state.unwrap_or_else(PoisonError::into_inner).alone = alone;
        if scenario.beside == Beside::Nothing {
            wait_for_what_runs_beside_the_lab();
        }
        let _ = attaching::take_waited();
        Turn { scenario, begun: Instant::now() }
    }

    /// Prints how long each scenario took, the longest first, and writes it to a file.
    fn print_times(&self) {
        let mut times = std::mem::take(&mut self.state().times);
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "seconds  waited for others");
        for Time { name, seconds, waited } in &times {
            let _ = writeln!(out, "{seconds:>7.1}  {waited:>6.1}  {name}");
        }
        write_json("target/scenarios.json", &times);
    }
}

/// `cargo xtask test` builds and checks on the processors that the lab leaves idle, and locks a file until it has done. What is made there
/// is what some of the scenarios install.
fn wait_for_what_runs_beside_the_lab() {
    if let Ok(file) = fs::File::open(workspace("target/beside-the-lab.lock")) {
        file.lock().expect("a file can be locked");
    }
}

/// The turn of a scenario; over on drop.
struct Turn {
    scenario: &'static Scenario,
    begun: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waited = attaching::take_waited();
        let seconds = self.begun.elapsed().saturating_sub(waited);
        let mut state = TURNS.state();
        state.left[self.scenario.beside as usize] -= 1;
        if self.scenario.beside.is_alone() {
            state.alone = false;
        }
        let [seconds, waited] = [seconds, waited].map(|time: Duration| time.as_secs_f64());
        state.times.push(Time { name: self.scenario.name(), seconds, waited });
        TURNS.changed.notify_all();
    }
}

/// Writes what a run of the suite leaves for later, where the workspace is; in a virtual machine it is not.
pub(crate) fn write_json<T: Serialize>(path: &str, value: &T) {
    let path = workspace(path);
    if path.parent().is_some_and(std::path::Path::is_dir) {
        let text = serde_json::to_string_pretty(value).expect("plain values");
        fs::write(&path, text + "\n")
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}
