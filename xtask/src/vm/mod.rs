//! `cargo xtask vm`: the lab on other kernels, from the oldest supported to the newest.
//!
//! A kernel that loads the programs may still count wrongly, so each one plays the scenarios that hold figures against the wire.

mod guest;
mod kernels;
mod machine;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::{
    guest::Task,
    kernels::{Image, Kernel},
    machine::Lockdown,
    report::{Outcome, Verdict},
};
use crate::{
    package::{self, Shipped},
    setup,
    shell::{output, run},
};

/// The scenarios that depend on the kernel. Left out are those about HTTP, receivers and files, which do not, and those whose load an
/// emulated processor cannot bear.
const SCENARIOS: &[&str] = &[
    "census::every_source_agrees",
    "endings::",
    "faults::",
    "half_open::each",
    "half_open::forged",
    "metrics::every_series_exists",
    "nat_pool::",
    "no_port::",
    "old_syns::",
    "preexisting::",
    "protocols::",
    "rejected::",
    "rights::",
    "slow_rounds::",
    "syn_watch::",
    "verifier::",
];
/// A few of them, that pass every hook and every map.
const QUICK_SCENARIOS: &[&str] =
    &["endings::every_ending_through_typed", "old_syns", "rights::typed", "verifier::typed"];

/// On which the package is installed: the oldest whose hooks are all typed tracepoints, as the scenarios expect.
const PACKAGE_KERNEL: Kernel = Kernel::V6_12;

/// Beside the log of a machine lies which agent was played.
const AGENT: &str = "agent";

/// A guest that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(40);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What CI has time for: the oldest and the newest kernel, no lockdown, a few scenarios
    #[arg(long, conflicts_with = "kernels")]
    quick: bool,
    /// Only the package, installed on a machine that systemd has booted; the README gets its table if all kernels have been played
    #[arg(long, conflicts_with_all = ["kernels", "quick"])]
    package: bool,
    /// Only these levels of lockdown [default: all]
    #[arg(long, conflicts_with_all = ["quick", "package"])]
    lockdown: Vec<Lockdown>,
    /// Only these kernels [default: all]. Once all have been played on what is built, the package is, and the README gets the table
    kernels: Vec<Kernel>,
}

/// Plays the scenarios on each kernel, at each level of lockdown.
pub(crate) fn play(options: &Options) -> anyhow::Result<()> {
    setup::require_root("a system for the guests")?;
    setup::virtual_machines()?;
    let binary = package::compile("tcpwarden")?;
    let (programs, agent) = (&build(binary.clone())?, &checksum(&binary)?);
    if !options.package {
        play_kernels(options, programs, agent)?;
    }
    if options.quick {
        return Ok(());
    }
    let played = all_played(agent);
    if options.package || played.is_ok() {
        let Shipped { package, .. } = package::package(&package::Options::default())?;
        play_package(&package, programs)?;
    }
    match played {
        Ok(outcomes) => report::write(&report::table(&outcomes)),
        Err(missing) => {
            println!("the README keeps its table: {missing:#}");
            Ok(())
        }
    }
}

/// Plays the scenarios on the kernels that are wanted.
fn play_kernels(options: &Options, programs: &[PathBuf], agent: &str) -> anyhow::Result<()> {
    let (kernels, levels, scenarios): (&[Kernel], &[Lockdown], _) = if options.quick {
        (&[Kernel::V5_10, Kernel::Newest], &[Lockdown::None], QUICK_SCENARIOS)
    } else {
        (or_all(&options.kernels), or_all(&options.lockdown), SCENARIOS)
    };
    let system = &guest::system()?;
    let mut outcomes = Vec::new();
    // Two at a time: an emulated machine waits as much as it computes.
    for pair in kernels.chunks(2) {
        let played: Vec<anyhow::Result<Vec<Outcome>>> = thread::scope(|scope| {
            let playing: Vec<_> = pair
                .iter()
                .map(|&kernel| {
                    scope.spawn(move || play_on(kernel, levels, scenarios, system, programs, agent))
                })
                .collect();
            let ended = playing.into_iter().map(ScopedJoinHandle::join);
            ended.map(|ended| ended.unwrap_or_else(|_| bail!("a thread panicked"))).collect()
        });
        for played in played {
            outcomes.extend(played?);
        }
    }
    println!("\n{}", report::table(&outcomes));
    if outcomes.iter().any(|outcome| outcome.verdict.failed > 0) {
        bail!("scenarios failed; {}/*.log has what the guests printed", kernels::CACHE);
    }
    Ok(())
}

fn or_all<T: ValueEnum>(some: &[T]) -> &[T] {
    if some.is_empty() { T::value_variants() } else { some }
}

/// Everything that was played on this agent, now or before, on every kernel at every level of lockdown.
fn all_played(agent: &str) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &kernel in Kernel::value_variants() {
        let image = kernel.fetch()?;
        for &lockdown in Lockdown::value_variants() {
            let log = machine::log(&log_name(&image, lockdown));
            let played = fs::read_to_string(log.with_extension(AGENT));
            if !played.is_ok_and(|played| played == agent) {
                bail!("{} has not been played with lockdown {}", image.release, lockdown.name());
            }
            let outcome = Outcome::read(kernel, lockdown, &image.release, &machine::printed(&log)?)?;
            if outcome.verdict.failed > 0 {
                bail!("{} failed with lockdown {}", image.release, lockdown.name());
            }
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Which agent it is: built again from the same, it is the same.
fn checksum(agent: &Path) -> anyhow::Result<String> {
    let line = output("sha256sum", &[&agent.to_string_lossy()]).context("cannot run sha256sum")?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn log_name(image: &Image, lockdown: Lockdown) -> String {
    format!("{}-{}", image.release, lockdown.name())
}

/// Plays the scenarios on one kernel, at each level of lockdown.
fn play_on(
    kernel: Kernel,
    levels: &[Lockdown],
    scenarios: &[&str],
    system: &Path,
    programs: &[PathBuf],
    agent: &str,
) -> anyhow::Result<Vec<Outcome>> {
    let image = kernel.fetch()?;
    let lab = guest::lab(&image, programs, Task::Kernel(scenarios))?;
    let play = |&lockdown| {
        let name =
            format!("{} ({}), lockdown {}", image.release, kernel.shipped_by(), Lockdown::name(lockdown));
        println!("+ {name}");
        // What was played in part does not stand for the whole.
        let log = log_name(&image, lockdown) + if scenarios == SCENARIOS { "" } else { "-quick" };
        let text =
            machine::boot(&image, lockdown, &log, &[system, &lab], PATIENCE).with_context(|| name.clone())?;
        fs::write(machine::log(&log).with_extension(AGENT), agent)?;
        let outcome = Outcome::read(kernel, lockdown, &image.release, &text).with_context(|| name.clone())?;
        println!("  {name}: {outcome}");
        Ok(outcome)
    };
    levels.iter().map(play).collect()
}

/// Plays the package's scenarios on a machine that systemd has booted.
fn play_package(package: &Path, programs: &[PathBuf]) -> anyhow::Result<()> {
    let image = PACKAGE_KERNEL.fetch()?;
    let lab = guest::lab(&image, programs, Task::Package(package))?;
    println!("+ the package on {} under systemd", image.release);
    let log = format!("{}-package", image.release);
    let text = machine::boot(&image, Lockdown::None, &log, &[&guest::system()?, &lab], PATIENCE)?;
    let verdict = Verdict::read(&text)?;
    println!("  the package on {} under systemd: {verdict}", image.release);
    if verdict.failed > 0 || verdict.passed == 0 {
        bail!("scenarios failed; {}/{log}.log has what the guest printed", kernels::CACHE);
    }
    Ok(())
}

/// The agent as it is shipped, and the lab around it.
fn build(agent: PathBuf) -> anyhow::Result<Vec<PathBuf>> {
    run(Command::new("cargo").args(["build", "--package", "lab", "--bins"]))?;
    let list = ["test", "--package", "lab", "--test", "scenarios", "--no-run", "--message-format=json"];
    let built = Command::new("cargo").args(list).output().context("cannot run cargo")?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let scenarios = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "scenarios";
        message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
    });
    let scenarios = scenarios.context("cargo built no scenarios")?;
    Ok(vec![agent, "target/debug/traffic".into(), "target/debug/without-bpf".into(), scenarios])
}
