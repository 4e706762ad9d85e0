//! The Prometheus and Alertmanager files of deploy/: whether they are valid, and whether the alerts fire when they should and
//! only then.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{setup, shell::run};

/// Runs promtool over the example configuration, the rules it names, and their tests; amtool over Alertmanager's example.
pub(crate) fn test() -> anyhow::Result<()> {
    setup::monitoring()?;
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

/// The files of a directory whose names end so. That there are none is an error: promtool would find nothing to complain of.
fn files(directory: &Path, end: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} has no file *{end}", directory.display());
    }
    files.sort();
    Ok(files)
}
