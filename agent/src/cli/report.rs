//! `tcpwarden report`: an incident, written up from the history.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use tcpwarden::{
    history::{self, Store},
    host,
    model::past::Span,
    report::{html, latest_incident, markdown, write},
};

/// What a report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people, in a terminal, a ticket or a wiki
    Markdown,
    /// For people, a page of its own with pictures
    Html,
    /// For programs
    Json,
}

/// Without an incident, the report is about the last hour.
const USUAL: Duration = Duration::from_hours(1);

/// What to report on, and where to.
#[derive(Debug)]
pub(super) struct Wishes {
    pub state_directory: PathBuf,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
    pub peer: Option<String>,
    pub format: Option<Format>,
    pub output: Option<PathBuf>,
}

pub(super) fn execute(wishes: &Wishes) -> anyhow::Result<ExitCode> {
    let file = history::file(&wishes.state_directory);
    let store = Store::read(&file).with_context(|| {
        format!(
            "cannot read the history {}; name the agent's state directory by --state.directory, and run as root or as the agent's user",
            file.display()
        )
    })?;
    let now = seconds(SystemTime::now());
    let span = span(&store, wishes, now)?;
    let past = store.past(span).with_context(|| format!("cannot read the history {}", file.display()))?;
    let report = write(&host::name(), &past, wishes.peer.as_deref());
    let text = match wishes.format.unwrap_or_else(|| format_of(wishes.output.as_deref())) {
        Format::Markdown => markdown(&report),
        Format::Html => html(&report, &past),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    match &wishes.output {
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?,
        None => io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn span(store: &Store, wishes: &Wishes, now: u64) -> anyhow::Result<Span> {
    let until = wishes.until.map_or(now + 1, seconds);
    let from = match wishes.since {
        Some(since) => seconds(since),
        None if wishes.until.is_some() => until.saturating_sub(USUAL.as_secs()),
        None => {
            let events = store.events(Span { from: 0, to: until }, usize::MAX)?;
            if let Some(incident) = latest_incident(&events, now) {
                return Ok(incident);
            }
            log::info!("no alert is on record; this is about the last hour");
            until.saturating_sub(USUAL.as_secs())
        }
    };
    ensure!(from < until, "the span is empty: --since must be before --until");
    Ok(Span { from, to: until })
}

/// As the name of the output says, else for a terminal.
fn format_of(output: Option<&Path>) -> Format {
    match output.and_then(Path::extension).and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => Format::Html,
        Some("json") => Format::Json,
        _ => Format::Markdown,
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A moment on the command line: so long ago, or a time in UTC.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| format!("{text} ago is before all time"));
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "write how long ago (2h, 30m, 1day) or a time in UTC (2026-11-22T14:05:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_time() {
        let ago = moment("2h").expect("a duration").elapsed().expect("in the past");
        assert!((7_199..7_210).contains(&ago.as_secs()), "{ago:?}");
        assert_eq!(moment("2026-11-18 11:06:40").map(seconds), Ok(1_795_000_000));
        assert_eq!(moment("2026-11-18T11:06:40Z").map(seconds), Ok(1_795_000_000));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn the_name_of_the_output_says_the_format() {
        let format = |name: &str| format_of(Some(Path::new(name)));
        assert_eq!(
            [format("a.html"), format("b.json"), format("c.md")],
            [Format::Html, Format::Json, Format::Markdown]
        );
        assert_eq!(format_of(None), Format::Markdown);
    }
}
