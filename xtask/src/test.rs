//! `cargo xtask test`.

use std::{path::Path, thread, time::Instant};

use anyhow::Context as _;
use clap::Args;

use crate::{
    beside, helm, package, rules, setup,
    shell::{self, cargo, output},
    times,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the lab, which needs root and a kernel with eBPF, and all that runs beside it: fuzzing, the count of instructions, the package,
    /// and the look at the dependencies
    #[arg(long)]
    no_kernel: bool,
    #[command(flatten)]
    beside: beside::BesideTheLab,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Checks formatting, lints and the Prometheus rules, then runs the unit tests, then the lab.
pub(crate) fn test(options: &Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    let tested = steps(options);
    times::print(begun.elapsed(), Path::new("target/times.json"))?;
    tested
}

fn steps(options: &Options) -> anyhow::Result<()> {
    setup::build_tools()?;
    let filter = options.filter.as_deref();
    if filter.is_none() {
        checked_alone()?;
    } else {
        compiled(filter)?;
    }
    if options.no_kernel {
        println!(
            "left out (--no-kernel): the scenarios of the lab, fuzzing, the count of instructions, the package, the look at the dependencies"
        );
        return Ok(());
    }
    setup::require_root("the lab")?;
    setup::test_tools()?;
    setup::machine()?;
    setup::everyday_programs()?;
    setup::tracefs()?;
    let Some(filter) = filter else { return lab_and_beside_it(options) };
    // The package takes minutes to build, and is needed by its own scenarios only.
    let list =
        output("cargo", &["test", "--quiet", "-p", "lab", "--test", "scenarios", "--", "--list", filter]);
    let list = list.context("cannot list the tests of the lab")?;
    if list.lines().any(|line| line.starts_with("package::")) {
        package::package(&package::Options::default())?;
    }
    lab(Some(filter))
}

/// Formatting and lints, what others check, and the tests that need no kernel with eBPF.
fn checked_alone() -> anyhow::Result<()> {
    thread::scope(|scope| {
        // They wait for the network more than they compute.
        let others = scope.spawn(|| rules::test().and_then(|()| helm::test()));
        let ours =
            cargo(&["fmt", "--all", "--check"], None).and_then(|()| lints()).and_then(|()| compiled(None));
        shell::both(ours, others)
    })
}

/// Both, and then what was printed beside the lab.
fn lab_and_beside_it(options: &Options) -> anyhow::Result<()> {
    let locked = beside::locked()?;
    let tested = thread::scope(|scope| {
        let beside = scope.spawn(move || {
            let _locked = locked;
            beside::run_idle(options.beside)
        });
        shell::both(lab(None), beside)
    });
    beside::print()?;
    tested
}

fn lab(filter: Option<&str>) -> anyhow::Result<()> {
    cargo(&["test", "--package", "lab", "--test", "scenarios", "--"], filter)
}

fn lints() -> anyhow::Result<()> {
    let mut clippy = vec!["clippy", "--workspace", "--all-targets"];
    for without in ["probe-ebpf", "yardsticks"] {
        clippy.extend(["--exclude", without]);
    }
    clippy.extend(["--", "--deny", "warnings"]);
    cargo(&clippy, None)
}

/// The tests that need no kernel with eBPF.
fn compiled(filter: Option<&str>) -> anyhow::Result<()> {
    // The programs that the lab calls; then what is tested is compiled beside them.
    cargo(&["build", "--package", "tcpwarden", "--package", "lab", "--bins"], None)?;
    let mut unit = vec!["test", "--workspace", "--lib", "--bins", "--tests"];
    for without in ["lab", "probe-ebpf", "yardsticks", "fuzz"] {
        unit.extend(["--exclude", without]);
    }
    cargo(&unit, filter)?;
    cargo(&["test", "--package", "lab", "--package", "probe-ebpf", "--lib"], filter)
}
