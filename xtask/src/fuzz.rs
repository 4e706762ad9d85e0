//! `cargo xtask fuzz`: the readers of bytes that others wrote, under libFuzzer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use crate::{setup, shell::run};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long to fuzz each target; what it finds out is kept in target/fuzz for the next time
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target
    target: Option<String>,
}

/// A target of the crate `fuzz`.
struct Target {
    name: &'static str,
    /// Runs within `cargo xtask test`: a few seconds.
    runs: u32,
    /// Where examples are, beside `fuzz/seeds`.
    examples: &'static [&'static str],
}

const TARGETS: [Target; 9] = [
    Target { name: "tracepoint_formats", runs: 5_000, examples: &[] },
    Target { name: "kernel_types", runs: 20_000, examples: &[] },
    Target { name: "socket_dumps", runs: 100_000, examples: &[] },
    Target { name: "refused_syns", runs: 100_000, examples: &[] },
    Target {
        name: "configurations",
        runs: 2_000,
        examples: &[
            "deploy",
            "agent/tests/config/valid",
            "agent/tests/config/invalid",
            "agent/tests/config/mistakes",
        ],
    },
    Target {
        name: "web_configurations",
        runs: 5_000,
        examples: &[
            "agent/tests/web-config/valid",
            "agent/tests/web-config/invalid",
            "agent/tests/web-config/unsupported",
            "agent/tests/web-config/newer",
        ],
    },
    Target { name: "requests", runs: 5_000, examples: &[] },
    Target { name: "name_answers", runs: 100_000, examples: &[] },
    Target { name: "saved_states", runs: 20_000, examples: &[] },
];

const SEEDS: &str = "fuzz/seeds";
const KEPT: &str = "target/fuzz";

/// Compiles the crates of the workspace so that libFuzzer sees which branches an input takes.
const INSTRUMENTED: &str = "fuzz/instrumented.sh";

/// Where the targets are built.
const BUILT: &str = "target/debug";

/// Longest input, in bytes: as long as the longest seed, so that nothing of them is cut off.
const LONGEST: u32 = 16 * 1024;

/// Fuzzes for a time, from where the last time ended.
pub(crate) fn fuzz(options: &Options) -> anyhow::Result<()> {
    setup::build_tools()?;
    let wanted = options.target.as_deref();
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| wanted.is_none_or(|wanted| wanted == target.name)).collect();
    if targets.is_empty() {
        bail!("there is no such target; there are {}", TARGETS.map(|target| target.name).join(", "));
    }
    build()?;
    for target in targets {
        let corpus = Path::new(KEPT).join("corpus").join(target.name);
        target.run(&corpus, &[format!("-max_total_time={}", options.seconds)])?;
    }
    Ok(())
}

/// Runs the targets, one on each processor, the same every time: from the seeds alone, a fixed number, with a fixed source of chance.
pub(crate) fn test() -> anyhow::Result<()> {
    build()?;
    let nothing_kept = Path::new(KEPT).join("test");
    if nothing_kept.exists() {
        fs::remove_dir_all(&nothing_kept)
            .with_context(|| format!("cannot remove {}", nothing_kept.display()))?;
    }
    let left = Mutex::new(TARGETS.iter());
    let run_those_left = || {
        loop {
            let Some(target) = left.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                return Ok(());
            };
            let corpus = nothing_kept.join(target.name);
            target.run(&corpus, &[format!("-runs={}", target.runs), "-seed=1".to_owned()])?;
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(run_those_left)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_panic| anyhow!("a worker panicked, see above"))?)
    })
}

/// Without a sanitizer: what is fuzzed is safe Rust, whose faults are panics. With the checks of a debug build, overflow above all.
///
/// Our own crates are instrumented and nothing else, so that dependencies are those of every other debug build. What is fuzzed is what is
/// shipped: no `cfg(fuzzing)`.
fn build() -> anyhow::Result<()> {
    setup::libfuzzer()?;
    let instrumented = env::current_dir()?.join(INSTRUMENTED);
    run(Command::new("cargo")
        .args(["build", "--package", "fuzz", "--bins"])
        .env("RUSTC_WORKSPACE_WRAPPER", instrumented))
}

impl Target {
    /// `corpus` is where what is new goes. A finding is an error, and stays in a file.
    fn run(&self, corpus: &Path, limits: &[String]) -> anyhow::Result<()> {
        let findings = PathBuf::from(KEPT).join("findings").join(self.name);
        for directory in [corpus, &findings] {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let seeds = Path::new(SEEDS).join(self.name);
        let program = Path::new(BUILT).join(self.name);
        run(Command::new(program)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args([format!("-max_len={LONGEST}"), "-timeout=10".to_owned(), "-rss_limit_mb=1024".to_owned()])
            .args(["-print_final_stats=1", "-verbosity=0"])
            .args(limits)
            .arg(corpus)
            .args(seeds.exists().then_some(seeds))
            .args(self.examples))
        .with_context(|| {
            format!("{}: what it was given is in {}; make it a seed of a test", self.name, findings.display())
        })
    }
}
