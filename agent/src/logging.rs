//! The log, which nobody waits for: a thread of its own writes it to stderr, so that whoever reads there (a pipe that is full, a journal
//! that restarts) holds up neither the reading of the kernel nor the serving of figures. What finds no room is counted.

use std::{
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
use log::Record;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

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
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .target(Target::Pipe(Box::new(Queue)))
        .format(move |out, record| format(out, record, under_systemd))
        .init();
}

/// Says why the process ends.
pub fn last_word(text: &str) {
    put(format!("tcpwarden: {text}\n").as_bytes());
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
fn format(out: &mut Formatter, record: &Record<'_>, under_systemd: bool) -> io::Result<()> {
    if under_systemd {
        // The priority prefix that the journal understands (sd-daemon(3)).
        let priority = match record.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        writeln!(out, "<{priority}>{}", record.args())
    } else {
        let level = record.level().as_str().to_lowercase();
        writeln!(out, "{} {level}: {}", out.timestamp_seconds(), record.args())
    }
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
