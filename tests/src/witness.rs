//! A second observer of the hooks that the agents use: a trace of the same tracepoints, through tracefs.
//!
//! The development machines run a kernel that runs no eBPF program while the process on the CPU belongs to process 1, which supervises the
//! machine, and counts no such run as missed. A softirq that interrupts one of its threads handles packets of any host; their events reach a
//! trace (without its stacks), and no program. (Seen on 6.18: in each of four runs of `nat_pool`, with 0, 1, 3 and 1 of about 1,050 handshakes that
//! the agent did not count, as many completed on top of a thread of process 1.) The trace follows these threads only, so it is small.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// The tracepoints of the hooks. Of `kfree_skb`, what was for a socket.
const EVENTS: [(&str, &str); 6] = [
    ("sock/inet_sock_set_state", "protocol == 6"),
    ("tcp/tcp_retransmit_skb", ""),
    ("tcp/tcp_retransmit_synack", ""),
    ("tcp/tcp_receive_reset", ""),
    ("tcp/tcp_send_reset", ""),
    ("skb/kfree_skb", "rx_sk != 0"),
];

static WITNESS: Mutex<Option<Witness>> = Mutex::new(None);

/// A trace of its own; gone on drop.
#[derive(Debug)]
struct Witness {
    directory: PathBuf,
}

impl Witness {
    fn start() -> std::io::Result<Self> {
        let directory = Path::new(INSTANCES).join(format!("lab{}", std::process::id()));
        fs::create_dir(&directory)?;
        let witness = Self { directory };
        let threads = fs::read_dir("/proc/1/task")?.filter_map(Result::ok);
        let threads: Vec<String> =
            threads.map(|thread| thread.file_name().to_string_lossy().into_owned()).collect();
        witness.write("set_event_pid", &threads.join(" "))?;
        witness.write("options/event-fork", "1")?;
        // As CLOCK_MONOTONIC.
        witness.write("trace_clock", "mono")?;
        for (event, filter) in EVENTS {
            if !filter.is_empty() {
                // An older kernel does not tell the socket.
                let _ = witness.write(&format!("events/{event}/filter"), filter);
            }
            witness.write(&format!("events/{event}/enable"), "1")?;
        }
        Ok(witness)
    }

    fn write(&self, file: &str, text: &str) -> std::io::Result<()> {
        fs::write(self.directory.join(file), text)
    }

    /// Events since that time.
    fn events_since(&self, since: Duration) -> u64 {
        let trace = fs::read_to_string(self.directory.join("trace")).unwrap_or_default();
        let events = trace.lines().filter(|line| !line.starts_with('#'));
        events.filter_map(time_of).filter(|at| *at >= since).count() as u64
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // A directory of tracefs is removed with all that it shows.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// When the event of a line happened: `comm-pid [cpu] flags seconds: event: …`.
fn time_of(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("] ")?;
    let seconds = rest.split_whitespace().nth(1)?.trim_end_matches(':');
    seconds.parse().ok().map(Duration::from_secs_f64)
}

/// Begins to watch, where tracefs is there and nobody watches yet.
pub(crate) fn start() {
    if let Ok(mut slot) = WITNESS.lock()
        && slot.is_none()
    {
        *slot = Witness::start().ok();
    }
}

/// Ends it.
pub(crate) fn stop() {
    if let Ok(mut slot) = WITNESS.lock() {
        *slot = None;
    }
}

/// The time by the clock of the trace.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// How many events since that time no program was run for; 0 where nobody watches.
pub(crate) fn events_since(since: Duration) -> u64 {
    WITNESS
        .lock()
        .ok()
        .and_then(|slot| slot.as_ref().map(|witness| witness.events_since(since)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_event_is_read() {
        let line = " tokio-rt-worker-75      [001] .Ns3.  7131.674244: inet_sock_set_state: family=AF_INET sport=443";
        assert_eq!(time_of(line), Some(Duration::from_micros(7_131_674_244)));
        assert_eq!(time_of("# tracer: nop"), None);
    }
}
