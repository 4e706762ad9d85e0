//! The agent under test, as a process, and what it says of itself over HTTP.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use prometheus_parse::{Scrape, Value};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    attaching::{Attaching, attaching},
    capture::Reuses,
    dns::Resolver,
    host::Host,
    http::Door,
    journal::Journal,
    pod::Pod,
    process::Process,
    program,
};

/// Where each agent serves, on its own host's loopback.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9796);

/// A configuration file; removed on drop.
#[derive(Debug)]
pub struct Config {
    path: String,
    _directory: TempDir,
}

impl Config {
    /// Writes it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("tcpwarden.toml");
        let path = file.to_str().expect("the path is text").to_owned();
        let config = Self { path, _directory: directory };
        config.write(text);
        config
    }

    /// Writes it anew.
    pub fn write(&self, text: &str) {
        fs::write(&self.path, text).expect("a config file");
    }

    /// The arguments that name it.
    #[must_use]
    pub fn args(&self) -> [&str; 2] {
        ["--config.file", &self.path]
    }
}

/// A running agent; killed on drop if it still runs.
#[derive(Debug)]
pub struct Agent<'a> {
    host: &'a Host,
    door: Door,
    process: Process,
    state: PathBuf,
    /// From the signal that ends it to its end.
    ending: Mutex<Option<Attaching>>,
    /// What `state` is in, where nobody else keeps it.
    directory: Option<TempDir>,
}

impl<'a> Agent<'a> {
    /// Starts an agent and waits until it is ready.
    #[must_use]
    pub fn start(host: &'a Host, args: &[&str]) -> Self {
        let command = host.command(program("tcpwarden"));
        Self::run_alone(host, command, args, Door::Open)
    }

    /// As [`Agent::start`], where it sees a journal.
    #[must_use]
    pub fn start_beside(host: &'a Host, args: &[&str], journal: &Journal) -> Self {
        let mut command = host.command("nsenter");
        command.arg(journal.join()).arg(program("tcpwarden"));
        Self::run_alone(host, command, args, Door::Open)
    }

    /// As [`Agent::start`], with a service manager's socket to tell how it is.
    #[must_use]
    pub fn start_service(host: &'a Host, args: &[&str], notify_socket: &Path) -> Self {
        let mut command = host.command(program("tcpwarden"));
        command.env("NOTIFY_SOCKET", notify_socket);
        Self::run_alone(host, command, args, Door::Open)
    }

    /// As [`Agent::start`], with a web configuration that asks for TLS and `USER:PASSWORD`.
    #[must_use]
    pub fn start_protected(host: &'a Host, web_config: &Path, user: &str) -> Self {
        let flag = format!("--web.config.file={}", web_config.display());
        let command = host.command(program("tcpwarden"));
        Self::run_alone(host, command, &[&flag], Door::Locked(user.to_owned()))
    }

    /// As [`Agent::start`], with a directory for what it keeps over a restart.
    #[must_use]
    pub fn start_with(host: &'a Host, args: &[&str], state: &Path) -> Self {
        Self::run(host, host.command(program("tcpwarden")), args, state, Door::Open)
    }

    /// As [`Agent::start_with`], by a command of the host that the agent's own arguments are put behind, and that becomes the agent.
    #[must_use]
    pub fn start_by(host: &'a Host, command: Command, args: &[&str], state: &Path) -> Self {
        Self::run(host, command, args, state, Door::Open)
    }

    /// As [`Agent::start`], with a configuration, where names are resolved in a way of their own.
    #[must_use]
    pub fn start_seeing(host: &'a Host, resolver: &Resolver, config: &Config) -> Self {
        let agent = program("tcpwarden");
        let command = resolver.command(host, agent.to_str().expect("the path is text"));
        Self::run_alone(host, command, &config.args(), Door::Open)
    }

    /// Starts the agent of a pod, on the node `host`, and waits until it is ready.
    #[must_use]
    pub fn start_pod(host: &'a Host, pod: &Pod) -> Self {
        let mut command = host.command("bwrap");
        pod.enter(&mut command, &IpAddr::from(ADDRESS.0).to_string());
        Self::begin(host, command, Path::new("/nowhere"), Door::Open)
    }

    /// Its state is gone with it.
    fn run_alone(host: &'a Host, command: Command, args: &[&str], door: Door) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut agent = Self::run(host, command, args, directory.path(), door);
        agent.directory = Some(directory);
        agent
    }

    fn run(host: &'a Host, mut command: Command, args: &[&str], state: &Path, door: Door) -> Self {
        command.arg("run").args(args).env("STATE_DIRECTORY", state);
        Self::begin(host, command, state, door)
    }

    fn begin(host: &'a Host, command: Command, state: &Path, door: Door) -> Self {
        let _attaching = attaching();
        let directory = TempDir::new().expect("a temporary directory");
        let name = format!("the agent on {}", host.name());
        let process = Process::start(name, directory, command);
        let (state, ending) = (state.to_owned(), Mutex::new(None));
        let mut agent = Self { host, door, process, state, ending, directory: None };
        let Self { door, process, .. } = &mut agent;
        process.ready(|| door.get(host, ADDRESS.into(), "/readyz"));
        agent
    }

    /// Runs a command line that ends by itself; `wrapper` is put before the agent's own.
    #[must_use]
    pub fn once(host: &Host, wrapper: &[&str], args: &[&str]) -> Ended {
        let agent = program("tcpwarden");
        let agent = agent.to_str().expect("the path is text");
        let mut words = wrapper.iter().chain([&agent]).chain(args);
        let mut command = host.command(words.next().expect("a program"));
        // A census attaches to no tracepoint, and a report to nothing.
        let attaches = args.first().is_some_and(|command| ["run", "check"].contains(command));
        let _attaching = attaches.then(attaching);
        let output = command.args(words).stdin(Stdio::null()).output().expect("nsenter runs");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Ids of the eBPF programs the agent has loaded.
    #[must_use]
    pub fn loaded_programs(&self) -> BTreeSet<u32> {
        let directory = format!("/proc/{}/fdinfo", self.pid().as_raw_nonzero());
        let files = fs::read_dir(directory).expect("the agent runs").filter_map(Result::ok);
        files
            .filter_map(|file| {
                let text = fs::read_to_string(file.path()).ok()?;
                text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
            })
            .collect()
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        self.process.pid()
    }

    /// The process of the agent itself, where [`Agent::pid`] is that of the pod's sandbox.
    #[must_use]
    pub fn pid_in_pod(&self) -> i32 {
        let pid = self.pid().as_raw_nonzero();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).expect("the sandbox runs");
        children.trim().parse().unwrap_or_else(|_| panic!("not one process in the pod: {children}"))
    }

    /// Its resident memory that no file backs, as the kernel counts it.
    #[must_use]
    pub fn own_memory_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let text = fs::read_to_string(status).expect("the agent runs");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends it a signal. After one that ends it, [`Agent::wait`].
    pub fn signal(&self, signal: Signal) {
        if [Signal::TERM, Signal::INT, Signal::KILL].contains(&signal) {
            self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(attaching);
        }
        rustix::process::kill_process(self.pid(), signal).expect("the agent runs");
    }

    /// Waits until it has ended, which it should within a minute.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.process.wait();
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        status
    }

    /// Status and body of an HTTP request; `None` when nothing answers.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        self.door.get(self.host, ADDRESS.into(), path)
    }

    /// What `tcpwarden report` writes of its past, as JSON.
    #[must_use]
    pub fn report(&self, args: &[&str]) -> serde_json::Value {
        let state = self.state.to_str().expect("the path is text");
        let common = ["report", "--format", "json", "--state.directory", state];
        let Ended { code, stdout, stderr } = Self::once(self.host, &[], &[&common, args].concat());
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Where it keeps its state.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Scrapes it.
    #[must_use]
    pub fn scrape(&self) -> Metrics {
        let (status, body) = self.get("/metrics").expect("the agent serves");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _attaching = attaching();
        self.process.kill();
        drop(self.directory.take());
    }
}

/// A run that ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

/// One scrape.
#[derive(Debug)]
pub struct Metrics {
    /// As it came.
    pub body: String,
    scrape: Scrape,
}

/// Whose series.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Value of `peer`.
    pub peer: &'a str,
    /// Value of `port`.
    pub port: &'a str,
    /// Value of `direction`.
    pub direction: &'a str,
}

impl Metrics {
    pub(crate) fn parse(body: &str) -> Self {
        let lines = body.lines().map(|line| Ok(line.to_owned()));
        Self { body: body.to_owned(), scrape: Scrape::parse(lines).expect("text format") }
    }

    /// The one sample of `name` (without `tcpwarden_`) that has all of `labels`; of a histogram, its count.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let name = format!("tcpwarden_{name}");
        let matching = self.scrape.samples.iter().filter(|sample| {
            sample.metric == name && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value))
        });
        let values: Vec<f64> = matching.map(|sample| number(&sample.value)).collect();
        assert!(values.len() <= 1, "{name}{labels:?} is {} series", values.len());
        values.first().copied()
    }

    /// What it tells of an inbound peer's SYNs that met TIME_WAIT.
    #[must_use]
    pub fn reuses(&self, peer: &str, port: u16) -> Reuses {
        let port = port.to_string();
        let series = Series { peer, port: &port, direction: "inbound" };
        let value = |family, label: &[(&str, &str)]| self.peer(family, series, label);
        let answer = |answer| value("peer_time_wait_answers_total", &[("answer", answer)]);
        let end = |end| value("peer_refused_attempts_total", &[("end", end)]);
        let told = Reuses {
            accepted: value("peer_time_wait_syns_total", &[("outcome", "accepted")]),
            refused_by_ack: answer("ack"),
            refused_by_reset: answer("reset"),
            unanswered: answer("none"),
            syn_retries: value("peer_syn_retries_total", &[]),
            connected_after_reset: end("reset"),
            connected_by_retry: end("retry"),
            connected_from_other_port: end("other_port"),
            gave_up: end("gave_up"),
            late: value("peer_refused_attempts_late_total", &[]),
        };
        let refused = value("peer_time_wait_syns_total", &[("outcome", "refused")]);
        assert_eq!(refused, told.refused());
        told
    }

    /// The samples that contain one of `words` and are not 0, for the message of a failed test.
    #[must_use]
    pub fn lines_with(&self, words: &[&str]) -> String {
        let telling = |line: &&str| words.iter().any(|word| line.contains(word)) && !line.ends_with(" 0");
        self.body.lines().filter(|line| !line.starts_with('#')).filter(telling).collect::<Vec<_>>().join("\n")
    }

    /// One of the agent's figures of its own process (without `process_`).
    #[must_use]
    pub fn process(&self, name: &str) -> f64 {
        let name = format!("process_{name}");
        let sample = self.scrape.samples.iter().find(|sample| sample.metric == name);
        number(&sample.expect("the agent tells of its process").value)
    }

    /// A per-peer sample; 0 when the peer has no series (yet).
    #[must_use]
    pub fn peer(&self, name: &str, series: Series<'_>, extra: &[(&str, &str)]) -> u64 {
        let Series { peer, port, direction } = series;
        let mut labels = vec![("peer", peer), ("port", port), ("direction", direction)];
        labels.extend(extra);
        whole(self.value(name, &labels).unwrap_or_default())
    }

    /// Sum of a per-peer family in one direction over all ports of one peer, or over everyone, `other` included.
    #[must_use]
    pub fn sum(&self, name: &str, direction: &str, peer: Option<&str>) -> u64 {
        let name = format!("tcpwarden_{name}");
        let matching = self.scrape.samples.iter().filter(|sample| {
            sample.metric == name
                && sample.labels.get("direction") == Some(direction)
                && (peer.is_none() || sample.labels.get("peer") == peer)
        });
        matching.map(|sample| whole(number(&sample.value))).sum()
    }

    /// Sum of all series of a family.
    #[must_use]
    pub fn sum_of(&self, name: &str) -> u64 {
        let name = format!("tcpwarden_{name}");
        let matching = self.scrape.samples.iter().filter(|sample| sample.metric == name);
        matching.map(|sample| whole(number(&sample.value))).sum()
    }

    /// Values that the label `peer` takes in one direction.
    #[must_use]
    pub fn peers(&self, direction: &str) -> BTreeSet<String> {
        let matching =
            self.scrape.samples.iter().filter(|sample| sample.labels.get("direction") == Some(direction));
        matching.filter_map(|sample| Some(sample.labels.get("peer")?.to_owned())).collect()
    }

    /// All per-peer sockets that are not 0, by peer, port and state, in one direction.
    #[must_use]
    pub fn sockets(&self, direction: &str) -> crate::truth::Sockets {
        let matching = self.scrape.samples.iter().filter(|sample| {
            sample.metric == "tcpwarden_peer_sockets" && sample.labels.get("direction") == Some(direction)
        });
        let mut sockets = crate::truth::Sockets::new();
        for sample in matching {
            let label =
                |name: &str| sample.labels.get(name).expect("every peer series has these labels").to_owned();
            let count = whole(number(&sample.value));
            if count > 0 {
                let peer: IpAddr = label("peer").parse().expect("no group and no rest in this scenario");
                sockets.insert((peer, label("port").parse().expect("a port"), label("state")), count);
            }
        }
        sockets
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
        Value::Histogram(buckets) => buckets.last().map_or(0.0, |bucket| bucket.count),
        Value::Summary(_) => f64::NAN,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a test are small and whole"
)]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value} is no count");
    value as u64
}
