//! `cargo xtask lab`.

use std::process::Command;

use clap::ValueEnum;

use crate::{setup, shell::run};

/// An incident that can be played.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Incident {
    /// Three NAT addresses run out of source ports (four minutes)
    NatPool,
    /// Who hears of an exhausted NAT when, and of its end: the agent's notices, Prometheus, Alertmanager, webhooks (five minutes)
    Alerts,
}

/// Plays an incident, with the agent as it is shipped.
pub(crate) fn play(incident: Incident) -> anyhow::Result<()> {
    setup::build_tools()?;
    setup::require_root("the lab")?;
    setup::test_tools()?;
    run(Command::new("cargo").args([
        "build",
        "--release",
        "--package",
        "tcpwarden",
        "--package",
        "lab",
        "--bins",
    ]))?;
    let program = match incident {
        Incident::NatPool => "target/release/nat-pool",
        Incident::Alerts => "target/release/alerts",
    };
    run(Command::new(program).env("PATH", setup::path_with_tools()?))
}
