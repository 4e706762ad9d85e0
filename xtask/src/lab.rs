//! `cargo xtask lab` and `cargo xtask soak`.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{
    package::{self, Shipped},
    setup,
    shell::run,
};

/// An incident that can be played.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Incident {
    /// Three NAT addresses run out of source ports (four minutes)
    NatPool,
    /// Who hears of an exhausted NAT when, and of its end: the agent's notices, Prometheus, Alertmanager, webhooks (five minutes)
    Alerts,
    /// A web tier that resolved its backend's name once, and a backend that moved (a minute)
    StaleAddress,
    /// A database that fails over, and a name that follows too late (a minute)
    Failover,
    /// A mail server that stalls, and what becomes of those who call it (three minutes)
    HangingDependency,
    /// Phones that do not speak the TLS version of the server (a minute)
    AbortedEarly,
    /// A NAT runs out of source ports; leaves pictures of the pages, screens of `top` and the report in target/evidence (two minutes)
    Evidence,
}

/// Plays an incident, with the agent as it is shipped.
pub(crate) fn play(incident: Incident) -> anyhow::Result<()> {
    let (program, args) = match incident {
        Incident::NatPool => ("nat-pool", None),
        Incident::Alerts => ("alerts", None),
        Incident::StaleAddress => ("stale-address", None),
        Incident::Failover => ("failover", None),
        Incident::HangingDependency => ("hanging-dependency", None),
        Incident::AbortedEarly => ("aborted-early", None),
        Incident::Evidence => ("evidence", Some(evidence()?)),
    };
    shipped(program, args.as_slice())
}

/// An empty directory for what a person is to look at.
fn evidence() -> anyhow::Result<String> {
    let directory = std::env::current_dir()?.join("target/evidence");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory.display().to_string())
}

/// A long load with faults, on the agent as it is shipped.
pub(crate) fn soak(minutes: u64) -> anyhow::Result<()> {
    shipped("soak", &[minutes.to_string()])
}

/// Builds the agent as it is shipped, and runs a program of the lab on it.
fn shipped(program: &str, args: &[String]) -> anyhow::Result<()> {
    setup::build_tools()?;
    setup::require_root("the lab")?;
    setup::test_tools()?;
    let Shipped { binary, .. } = package::package(&package::Options::default())?;
    run(Command::new("cargo").args(["build", "--release", "--package", "lab", "--bins"]))?;
    let program = Path::new("target/release").join(program);
    run(Command::new(program).args(args).env("PATH", setup::path_with_tools()?).env("LAB_AGENT", binary))
}
