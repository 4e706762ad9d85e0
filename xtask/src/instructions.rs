//! The instructions of what the agent computes all the time, held against those that are on record.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{package, setup, shell::output};

/// How many there are of each path, each time.
const RECORD: &str = "hot-paths/instructions.json";

/// Paths may become longer by this share until somebody has to look. The order of hash tables is never the same, which alone makes 4 %.
const TOLERANCE: f64 = 0.1;

/// So many times more is what a path is run for the difference.
const TIMES: u64 = 10;

/// Counts them in what is shipped; fails where there are clearly more than on record.
pub(crate) fn test() -> anyhow::Result<()> {
    setup::instruction_counter()?;
    let program = &package::compile("hot-paths")?;
    let paths = output(&program.to_string_lossy(), &[]).context("the hot paths have no list")?;
    let mut counted = BTreeMap::new();
    for path in paths.lines() {
        let once = count(program, path, 1)?;
        let more = count(program, path, 1 + TIMES)?;
        counted.insert(path.to_owned(), more.saturating_sub(once) / TIMES);
    }
    if env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        let text = serde_json::to_string_pretty(&counted)? + "\n";
        return fs::write(RECORD, text).with_context(|| format!("cannot write {RECORD}"));
    }
    let text = fs::read_to_string(RECORD).with_context(|| format!("cannot read {RECORD}"))?;
    let record: BTreeMap<String, u64> = serde_json::from_str(&text).context("not what was written")?;
    let mut longer = Vec::new();
    for (path, now) in &counted {
        let before = record.get(path).with_context(|| format!("{path} is not in {RECORD}"))?;
        let ratio = *now as f64 / *before as f64;
        println!("{path}: {now} instructions, {ratio:.3} of those on record");
        if ratio > 1.0 + TOLERANCE {
            longer.push(path.as_str());
        }
    }
    if longer.is_empty() {
        return Ok(());
    }
    bail!(
        "more instructions than on record: {}; if they are worth it, UPDATE_INSTRUCTIONS=1 cargo xtask test writes {RECORD} anew",
        longer.join(", ")
    )
}

/// Instructions of a run, from its beginning to its end.
fn count(program: &Path, path: &str, times: u64) -> anyhow::Result<u64> {
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([path, &times.to_string()])
        .output()
        .context("cannot run valgrind (cargo xtask setup installs it)")?;
    let text = String::from_utf8_lossy(&counted.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.and_then(|(_, number)| number.trim().parse().ok());
    number
        .filter(|_| counted.status.success())
        .with_context(|| format!("valgrind counted nothing of {path}:\n{text}"))
}
