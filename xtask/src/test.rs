//! `cargo xtask test`.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use clap::Args;

use crate::{
    fuzz, helm, instructions, package, rules, setup,
    shell::{output, run},
    times,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out the tests that need root and a kernel with eBPF, and say how many
    #[arg(long)]
    no_kernel: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Checks formatting, lints and the Prometheus rules, then runs the unit tests, then the lab.
pub(crate) fn test(options: &Options) -> anyhow::Result<()> {
    let tested = steps(options);
    times::print(Path::new("target/times.json"))?;
    tested
}

fn steps(options: &Options) -> anyhow::Result<()> {
    setup::build_tools()?;
    let filter = options.filter.as_deref();
    if filter.is_none() {
        cargo(&["fmt", "--all", "--check"], None)?;
        cargo(
            &[
                "clippy",
                "--workspace",
                "--exclude",
                "probe-ebpf",
                "--exclude",
                "yardsticks",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
            None,
        )?;
        rules::test()?;
        helm::test()?;
        dependencies()?;
    }
    // The programs that the lab calls; then what is tested is compiled beside them.
    cargo(&["build", "--package", "tcpwarden", "--package", "lab", "--bins"], None)?;
    let mut unit = vec!["test", "--workspace", "--lib", "--bins", "--tests"];
    for without in ["lab", "probe-ebpf", "yardsticks", "fuzz"] {
        unit.extend(["--exclude", without]);
    }
    cargo(&unit, filter)?;
    cargo(&["test", "--package", "lab", "--package", "probe-ebpf", "--lib"], filter)?;
    if filter.is_none() {
        fuzz::test()?;
        instructions::test()?;
    }
    let args = ["test", "--quiet", "--package", "lab", "--test", "scenarios", "--", "--list"];
    let list = output("cargo", &args.into_iter().chain(filter).collect::<Vec<_>>());
    let list = list.context("cannot list the tests of the lab")?;
    if options.no_kernel {
        let count = list.lines().filter(|line| line.ends_with(": test")).count();
        println!("left out {count} tests that need a kernel (--no-kernel)");
        return Ok(());
    }
    setup::require_root("the lab")?;
    setup::test_tools()?;
    setup::machine()?;
    setup::tracefs()?;
    // The package takes minutes to build, and is needed by its own scenarios only.
    if list.lines().any(|line| line.starts_with("package::")) {
        package::package(&package::Options::default())?;
    }
    cargo(&["test", "--package", "lab", "--test", "scenarios", "--"], filter)
}

/// Whether every dependency has a licence that is allowed, one version, and comes from the registry.
fn dependencies() -> anyhow::Result<()> {
    setup::cargo_deny()?;
    cargo(&["deny", "check", "licenses", "bans", "sources"], None)?;
    println!(
        "not checked: whether a known vulnerability is in a dependency, which takes the RustSec database from the network; run: cargo deny check advisories"
    );
    Ok(())
}

fn cargo(args: &[&str], filter: Option<&str>) -> anyhow::Result<()> {
    run(Command::new("cargo").args(args).args(filter).env("PATH", setup::path_with_tools()?))
}
