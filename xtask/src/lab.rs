//! `cargo xtask lab` and `cargo xtask soak`.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;
use clap::Subcommand;

use crate::{
    package::{self, Shipped},
    setup,
    shell::run,
};

/// An incident that can be played.
#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Three NAT addresses run out of source ports (four minutes)
    NatPool,
    /// Several servers behind one virtual address, a NAT that runs out of source ports, an agent on each server and Prometheus over all
    /// (five minutes)
    Fleet {
        /// How the balancer chooses a server: by a hash of the source port, at random, or in turn
        #[arg(long, value_parser = ["hash", "random", "turn"])]
        balance: String,
        /// How many servers there are
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=6))]
        servers: u8,
        /// One NAT address with 4,096 ports, or three with 14,336 each
        #[arg(long, default_value = "small", value_parser = ["small", "real"])]
        size: String,
    },
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
    /// A balancer that forgets connections which are still open at the server, and uses their ports again (a minute)
    HalfOpen,
    /// No incident: redis, PostgreSQL, nginx, haproxy, sshd and other programs at work, and no alert
    Healthy {
        /// How long, at least three
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..))]
        minutes: u64,
    },
    /// A NAT runs out of source ports; leaves pictures of the pages, screens of `top` and the report in target/evidence (two minutes)
    Evidence,
}

/// Plays an incident, with the agent as it is shipped.
pub(crate) fn play(incident: Incident) -> anyhow::Result<()> {
    let (program, args) = match incident {
        Incident::NatPool => ("nat-pool", Vec::new()),
        Incident::Fleet { balance, servers, size } => ("fleet", vec![balance, servers.to_string(), size]),
        Incident::Alerts => ("alerts", Vec::new()),
        Incident::StaleAddress => ("stale-address", Vec::new()),
        Incident::Failover => ("failover", Vec::new()),
        Incident::HangingDependency => ("hanging-dependency", Vec::new()),
        Incident::AbortedEarly => ("aborted-early", Vec::new()),
        Incident::HalfOpen => ("half-open", Vec::new()),
        Incident::Healthy { minutes } => {
            setup::everyday_programs()?;
            ("healthy", vec![minutes.to_string()])
        }
        Incident::Evidence => ("evidence", vec![evidence()?]),
    };
    shipped(program, &args)
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
