//! The Prometheus and Alertmanager files of deploy/: whether they are valid, and whether the alerts fire when they should and
//! only then.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    setup,
    shell::{files, run},
};

/// Runs promtool over the example configuration, the rules it names, and their tests; amtool over Alertmanager's example.
pub(crate) fn test() -> anyhow::Result<()> {
    setup::servers()?;
    let directory = Path::new("deploy/prometheus");
    promtool(&["check", "config"], &[directory.join("prometheus.yml")])?;
    promtool(&["check", "rules"], &files(directory, "-rules.yml")?)?;
    promtool(&["test", "rules"], &files(&directory.join("tests"), ".yml")?)?;
    tool("amtool", &["check-config"], &files(Path::new("deploy/alertmanager"), ".yml")?)
}

fn promtool(command: &[&str], files: &[PathBuf]) -> anyhow::Result<()> {
    tool("promtool", command, files)
}

fn tool(name: &str, command: &[&str], files: &[PathBuf]) -> anyhow::Result<()> {
    run(Command::new(name).args(command).args(files).env("PATH", setup::path_with_tools()?))
}
