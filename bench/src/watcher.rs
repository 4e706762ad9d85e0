//! Who watches while connections are made.

use std::{
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use lab::{
    agent::{Agent, Config},
    eventually,
    host::Host,
    http,
};
use rustix::process::Pid;

use crate::cost;

/// Counts the events of each peer by state: the least that somebody would write for the question.
const ONE_LINER: &str = "tracepoint:sock:inet_sock_set_state /args->protocol == 6/ { @[ntop(args->family, args->daddr), args->newstate] = count(); }";

/// Where node_exporter serves here.
pub const NODE_EXPORTER: ([u8; 4], u16) = ([127, 0, 0, 1], 9100);
/// And the agent.
const AGENT: ([u8; 4], u16) = ([127, 0, 0, 1], 9796);

/// How often what serves metrics is asked for them.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);

/// Who watches, or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    Nobody,
    /// The agent, with a configuration.
    Agent(&'static str),
    Tcplife,
    Tcpstates,
    Bpftrace,
    /// `ss` each second.
    Ss,
    NodeExporter,
}

/// The way of attaching that is taken by default.
pub const TYPED: Watcher = Watcher::Agent("[probe]\nhooks = \"btf\"\n");
pub const CLASSIC: Watcher = Watcher::Agent("[probe]\nhooks = \"tracepoint\"\n");
pub const SYN_WATCH: Watcher = Watcher::Agent("[probe]\nhooks = \"btf\"\nsyn_watch = true\n");

impl Watcher {
    /// What it is called in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            TYPED => "tcpwarden",
            CLASSIC => "tcpwarden, classic tracepoints",
            SYN_WATCH => "tcpwarden with the SYN watch",
            Self::Agent(_) => "tcpwarden, configured",
            Self::Tcplife => "tcplife",
            Self::Tcpstates => "tcpstates",
            Self::Bpftrace => "bpftrace, one line",
            Self::Ss => "ss -tan each second",
            Self::NodeExporter => "node_exporter, tcpstat",
        }
    }

    /// Whether it tells figures of each peer.
    pub fn tells_of_peers(self) -> bool {
        !matches!(self, Self::Nobody | Self::NodeExporter)
    }

    /// Starts it on a host, does something under its eyes, and ends it. Returns what was done, and the processor time that the watcher
    /// took meanwhile, in seconds.
    pub fn during<T>(self, host: &Host, work: impl FnOnce() -> T) -> (T, f64) {
        match self {
            Self::Nobody => (work(), 0.0),
            Self::Agent(config) => {
                let config = Config::new(config);
                let agent = Agent::start(host, &config.args());
                timed(agent.pid(), || scraped(host, AGENT, work))
            }
            Self::NodeExporter => {
                let started = Started::node_exporter(host);
                timed(started.pid(), || scraped(host, NODE_EXPORTER, work))
            }
            Self::Ss => {
                let started =
                    Started::new(host, &["sh", "-c", "while ss -Htan > /dev/null; do sleep 1; done"]);
                timed(started.pid(), work)
            }
            Self::Tcplife => Started::attached(host, &["tcplife"]).during(work),
            Self::Tcpstates => Started::attached(host, &["tcpstates"]).during(work),
            Self::Bpftrace => Started::attached(host, &["bpftrace", "-e", ONE_LINER]).during(work),
        }
    }
}

/// Does something, and tells what a process took meanwhile.
fn timed<T>(pid: Pid, work: impl FnOnce() -> T) -> (T, f64) {
    let before = cost::processor_seconds(pid);
    let done = work();
    (done, cost::processor_seconds(pid) - before)
}

/// Does something while metrics are asked for.
fn scraped<T>(host: &Host, address: ([u8; 4], u16), work: impl FnOnce() -> T) -> T {
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while is_over.recv_timeout(SCRAPED_EVERY) == Err(RecvTimeoutError::Timeout) {
                let answer = http::get(host, address.into(), "/metrics");
                assert!(answer.is_some_and(|(status, _)| status == 200), "it answers a scrape");
            }
        });
        let done = work();
        drop(over);
        done
    })
}

/// A program that runs until it is dropped.
pub struct Started(Child);

impl Started {
    /// node_exporter, with nothing but what counts the TCP sockets of the host by state.
    pub fn node_exporter(host: &Host) -> Self {
        let started = Self::new(
            host,
            &[
                "prometheus-node-exporter",
                "--collector.disable-defaults",
                "--collector.tcpstat",
                "--web.listen-address=127.0.0.1:9100",
            ],
        );
        eventually(Duration::from_secs(10), || {
            let answer = http::get(host, NODE_EXPORTER.into(), "/metrics");
            answer.ok_or_else(|| "node_exporter does not answer".to_owned()).map(drop)
        });
        started
    }

    /// What it prints goes nowhere, as fast as it can.
    fn new(host: &Host, words: &[&str]) -> Self {
        let mut command = host.command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("nsenter runs"))
    }

    /// As [`Started::new`], and waits until its programs have been attached.
    fn attached(host: &Host, words: &[&str]) -> Self {
        let started = Self::new(host, words);
        eventually(Duration::from_secs(30), || {
            if cost::holds_programs(started.pid()) {
                Ok(())
            } else {
                Err(format!("{words:?} holds no program"))
            }
        });
        // It attaches them right after it has loaded all.
        thread::sleep(Duration::from_secs(1));
        started
    }

    fn during<T>(self, work: impl FnOnce() -> T) -> (T, f64) {
        timed(self.pid(), work)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs on a host.
pub fn command(host: &Host, words: &[&str]) -> Command {
    let mut command = host.command(words[0]);
    command.args(&words[1..]);
    command
}
