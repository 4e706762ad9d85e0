//! The log, which nobody waits for: a thread of its own writes it to stderr, so that whoever reads there (a pipe that is full, a journal
//! that restarts) holds up neither the reading of the kernel nor the serving of figures. What finds no room is counted.

use std::{
    fmt::Display,
    io::{self, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use env_logger::{Env, Target, fmt::Formatter};
use libsystemd::logging::connected_to_journal;
use log::{Level, Record};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::visible::visible;

/// So many lines may wait to be written.
const ROOM: usize = 256;

/// As long may the last lines take as the process ends.
const PATIENCE: Duration = Duration::from_millis(500);

static WRITER: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();
static WAITING: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// Logs to stderr from now on: `info` and worse, unless `RUST_LOG` says otherwise.
pub fn start() {
    let (writer, lines) = sync_channel(ROOM);
    // Where threads are refused, the agent fails soon, and stderr is where it can say so.
    if thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines)).is_ok() {
        let _ = WRITER.set(writer);
    }
    let to_journal = connected_to_journal();
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .target(Target::Pipe(Box::new(Queue)))
        .format(move |out, record| format(out, record, to_journal))
        .init();
}

/// Says why the process ends.
pub fn last_word(text: &str) {
    let words = format!("tcpwarden: {text}");
    let lines =
        if connected_to_journal() { prioritized(Level::Error, words) } else { harmless(words) + "\n" };
    put(lines.as_bytes());
}

/// Gives the lines that wait a moment to be written; to be called as the process ends.
pub fn finish() {
    let deadline = Instant::now() + PATIENCE;
    while WAITING.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Lines that nobody took so far.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// A line, without time when the journal adds its own.
fn format(out: &mut Formatter, record: &Record<'_>, to_journal: bool) -> io::Result<()> {
    if to_journal {
        return out.write_all(prioritized(record.level(), record.args()).as_bytes());
    }
    let level = record.level().as_str().to_lowercase();
    writeln!(out, "{} {level}: {}", out.timestamp_seconds(), harmless(record.args()))
}

/// A text whose lines play no tricks on a terminal: names from outside may be in it.
fn harmless(text: impl Display) -> String {
    let lines: Vec<String> = text.to_string().lines().map(|line| visible(&line.replace('\t', " "))).collect();
    lines.join("\n")
}

/// Each line is an entry of the journal, and needs the prefix that tells its priority (sd-daemon(3)).
fn prioritized(level: Level, text: impl Display) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let (prefix, text) = (format!("<{priority}>"), harmless(text));
    text.lines().flat_map(|line| [&prefix, line, "\n"]).collect()
}

/// Where the logger puts each line.
struct Queue;

impl io::Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(line: &[u8]) {
    let Some(writer) = WRITER.get() else {
        let _ = io::stderr().write_all(line);
        return;
    };
    WAITING.fetch_add(1, Ordering::Relaxed);
    if writer.try_send(line.to_owned()).is_err() {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(lines: &Receiver<Vec<u8>>) {
    // Writing needs no right, and giving them up later does not reach this thread.
    let none = CapabilitySet::empty();
    let _ = set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
    for line in lines {
        if io::stderr().write_all(&line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        WAITING.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(
            prioritized(Level::Error, "2 mistakes:\nline 1\nline 7"),
            "<3>2 mistakes:\n<3>line 1\n<3>line 7\n"
        );
        assert_eq!(prioritized(Level::Info, "serving"), "<6>serving\n");
    }

    #[test]
    fn names_play_no_tricks() {
        assert_eq!(harmless("called by \u{1b}[2Jhttpd\nline\t2\n"), "called by \u{fffd}[2Jhttpd\nline 2");
    }
}
