//! How long each command took that was run.

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;

static TIMES: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Notes one.
pub(crate) fn note(command: String, took: Duration) {
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((command, took));
}

/// Prints those that took a second or more and `together`, and writes all of them as JSON.
pub(crate) fn print(together: Duration, file: &Path) -> anyhow::Result<()> {
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    println!("\nseconds  command");
    for (command, took) in times.iter().filter(|(_, took)| took.as_secs() > 0) {
        let short: String = command.chars().take(140).collect();
        println!("{:>7.1}  {short}", took.as_secs_f64());
    }
    println!("{:>7.1}  together", together.as_secs_f64());
    let entries: Vec<serde_json::Value> = times
        .iter()
        .map(|(command, took)| serde_json::json!({ "command": command, "seconds": took.as_secs_f64() }))
        .collect();
    let text = serde_json::to_string_pretty(&entries)? + "\n";
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
