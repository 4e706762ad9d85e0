//! Clients and servers as processes.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{dns::Resolver, host::Host, program};

/// Who closes a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Its port is kept by the client's TIME_WAIT.
    Client,
    /// And by the server's.
    Server,
}

impl First {
    fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// One request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Dialogue {
    /// Bytes of the request.
    pub asked: usize,
    /// Bytes of the answer.
    pub answered: usize,
    /// Who closes the connection.
    pub first: First,
}

impl Dialogue {
    fn words(self) -> [String; 3] {
        [self.asked.to_string(), self.answered.to_string(), self.first.word().to_owned()]
    }
}

/// What the sockets of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP's own.
    Tcp,
    /// Multipath TCP's.
    Mptcp,
    /// TCP's, listeners in a sockmap.
    Sockmap,
}

impl Kind {
    fn option(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp",
            Self::Mptcp => "--mptcp",
            Self::Sockmap => "--sockmap",
        }
    }
}

/// One request or one attempt to connect, as its maker accounts for it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub begun: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What came of it: an HTTP status, `none`, `connected` or `failed`.
    pub outcome: String,
    /// Whom it was made to, where it went by a name.
    pub address: Option<IpAddr>,
}

/// A `traffic` process; killed on drop if it still runs.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Traffic {
    /// Starts a server that plays `steps` on `count` connections, and waits until it listens.
    #[must_use]
    pub fn serve(host: &Host, address: IpAddr, port: u16, count: usize, steps: &str) -> Self {
        Self::start(host, "serve", address, port, count, &[steps]).listening()
    }

    /// As [`Self::serve`], by a listener of a kind.
    #[must_use]
    pub fn serve_as(kind: Kind, host: &Host, address: IpAddr, port: u16, count: usize, steps: &str) -> Self {
        Self::start_as(kind, host, "serve", address, port, count, &[steps]).listening()
    }

    /// As [`Self::connect`], by sockets of a kind.
    #[must_use]
    pub fn connect_as(kind: Kind, host: &Host, to: IpAddr, port: u16, count: usize, steps: &str) -> Self {
        Self::start_as(kind, host, "connect", to, port, count, &[steps])
    }

    /// Starts a server that accepts and closes `count` connections, one after the other.
    #[must_use]
    pub fn drain(host: &Host, address: IpAddr, port: u16, count: usize) -> Self {
        Self::start(host, "drain", address, port, count, &[]).listening()
    }

    /// Starts a client that plays `steps` on `count` connections.
    #[must_use]
    pub fn connect(host: &Host, to: IpAddr, port: u16, count: usize, steps: &str) -> Self {
        Self::start(host, "connect", to, port, count, &[steps])
    }

    /// Starts a client that connects `count` times without blocking, asks for SO_ERROR, and closes.
    #[must_use]
    pub fn attempt(host: &Host, to: IpAddr, port: u16, count: usize) -> Self {
        Self::start(host, "try", to, port, count, &[])
    }

    /// Starts a client that binds `source_port` first.
    #[must_use]
    pub fn connect_from(host: &Host, source_port: u16, to: IpAddr, port: u16, steps: &str) -> Self {
        Self::start(host, "connect", to, port, 1, &[steps, &source_port.to_string()])
    }

    /// Starts a client that makes `count` connections from one of its host's addresses, one after the other.
    #[must_use]
    pub fn flood(host: &Host, from: IpAddr, to: IpAddr, port: u16, count: usize) -> Self {
        Self::start(host, "flood", to, port, count, &[&from.to_string()])
    }

    /// Starts a passive FTP server for one client and so many transfers.
    #[must_use]
    pub fn passive(host: &Host, address: IpAddr, port: u16, transfers: usize) -> Self {
        Self::start(host, "passive", address, port, transfers, &[]).listening()
    }

    /// Starts its client.
    #[must_use]
    pub fn fetch(host: &Host, from: IpAddr, port: u16, transfers: usize, pause: Duration) -> Self {
        Self::start(host, "fetch", from, port, transfers, &[&pause.as_millis().to_string()])
    }

    /// Starts a server that never accepts; `backlog` and one more connections may wait.
    #[must_use]
    pub fn deaf(host: &Host, address: IpAddr, port: u16, backlog: usize) -> Self {
        Self::start(host, "deaf", address, port, backlog, &[]).listening()
    }

    /// Sends a SYN from an address and port with a sequence number, so many times at once, whatever that host's sockets think of it.
    pub fn syns(host: &Host, from: SocketAddr, to: IpAddr, port: u16, sequence: u32, times: u32) {
        let sequence = usize::try_from(sequence).expect("a usize has 64 bits");
        Self::start(host, "syns", to, port, sequence, &[&from.to_string(), &times.to_string()]).finish();
    }

    /// As [`Self::syns`], RSTs.
    pub fn resets(host: &Host, from: SocketAddr, to: IpAddr, port: u16, sequence: u32, times: u32) {
        let sequence = usize::try_from(sequence).expect("a usize has 64 bits");
        Self::start(host, "resets", to, port, sequence, &[&from.to_string(), &times.to_string()]).finish();
    }

    /// Starts to send a SYN from each of `count` forged addresses in 10.128.0.0/9.
    #[must_use]
    pub fn spoof(host: &Host, to: IpAddr, port: u16, count: usize) -> Self {
        Self::start(host, "spoof", to, port, count, &[])
    }

    /// Starts a server that takes all comers for a limited time.
    #[must_use]
    pub fn welcome(host: &Host, address: IpAddr, port: u16, seconds: usize, first: First) -> Self {
        Self::start(host, "welcome", address, port, seconds, &[first.word()]).listening()
    }

    /// Starts a client that makes `rate` connections a second for a time.
    #[must_use]
    pub fn pace(host: &Host, to: IpAddr, port: u16, seconds: usize, rate: f64, first: First) -> Self {
        Self::start(host, "pace", to, port, seconds, &[&rate.to_string(), first.word()])
    }

    /// As [`Self::pace`], from ports of its host's IPv4 address, one after the other and round again.
    #[must_use]
    pub fn pace_in_turn(
        host: &Host,
        ports: &RangeInclusive<u16>,
        to: (IpAddr, u16),
        seconds: usize,
        rate: f64,
        first: First,
    ) -> Self {
        let [low, high] = [ports.start(), ports.end()].map(u16::to_string);
        Self::start(host, "pace", to.0, to.1, seconds, &[&rate.to_string(), first.word(), &low, &high])
    }

    /// Waits until a paced client has ended; returns how many connections came about, and how many failed.
    pub fn paced(&mut self) -> (u64, u64) {
        self.watch_pace(|_, _| {})
    }

    /// As [`Self::paced`], with a call about every second that tells both figures so far.
    pub fn watch_pace(&mut self, mut each: impl FnMut(u64, u64)) -> (u64, u64) {
        let mut last = false;
        loop {
            let line = self.line();
            if line == "done" {
                last = true;
                continue;
            }
            let (connected, failed) = line.split_once(' ').expect("two numbers; the client ended too early");
            let figures = (connected.parse().expect("a number"), failed.parse().expect("a number"));
            if last {
                return figures;
            }
            each(figures.0, figures.1);
        }
    }

    /// Starts a client that makes connections from `count` addresses of its host upwards from `from`, none before [`Self::rate`].
    #[must_use]
    pub fn load(host: &Host, from: Ipv4Addr, count: usize, to: IpAddr, port: u16, first: First) -> Self {
        Self::start(host, "load", to, port, count, &[first.word(), &from.to_string()])
    }

    /// From now on a load makes so many connections a second.
    pub fn rate(&mut self, rate: f64) {
        let stdin = self.stdin.as_mut().expect("it was not told to end");
        writeln!(stdin, "{rate}").expect("the load runs");
    }

    /// Stops a load and waits until its connections have ended; returns how many came about, and how many failed, of each address.
    pub fn quiet(&mut self) -> BTreeMap<IpAddr, (u64, u64)> {
        self.rate(0.0);
        let mut counts = BTreeMap::new();
        loop {
            let line = self.line();
            if line == "quiet" {
                return counts;
            }
            let mut words = line.split(' ').map(str::parse);
            let address = line.split(' ').next().and_then(|word| word.parse().ok()).expect("an address");
            let (Some(Ok(connected)), Some(Ok(failed))) = (words.nth(1), words.next()) else {
                panic!("the load printed {line:?}");
            };
            counts.insert(address, (connected, failed));
        }
    }

    /// Starts a server that answers whatever is said by ten bytes, for a limited time.
    #[must_use]
    pub fn answer(host: &Host, address: IpAddr, port: u16, seconds: usize) -> Self {
        Self::start(host, "answer", address, port, seconds, &[]).listening()
    }

    /// As [`Self::answer`], and by ten bytes more each time `pause` is over, for as long as the connection lasts.
    #[must_use]
    pub fn drip(host: &Host, address: IpAddr, port: u16, seconds: usize, pause: Duration) -> Self {
        Self::start(host, "answer", address, port, seconds, &[&pause.as_millis().to_string()]).listening()
    }

    /// Starts a server that answers so long after a client has closed its half, for a limited time.
    #[must_use]
    pub fn work(host: &Host, address: IpAddr, port: u16, seconds: usize, takes: Duration) -> Self {
        Self::start(host, "work", address, port, seconds, &[&takes.as_millis().to_string()]).listening()
    }

    /// Starts a server that answers a login at once and a request after so long, for a limited time.
    #[must_use]
    pub fn slow(host: &Host, address: IpAddr, port: u16, seconds: usize, takes: Duration) -> Self {
        Self::start(host, "slow", address, port, seconds, &[&takes.as_millis().to_string()]).listening()
    }

    /// Starts `count` clients of it, which ask one request after the other; `login` first, if they are to.
    #[must_use]
    pub fn poll(host: &Host, to: IpAddr, port: u16, count: usize, login: bool) -> Self {
        Self::start(host, "poll", to, port, count, &[&login.to_string()])
    }

    /// Starts `count` clients that say something each time `pause` is over, and expect no answer.
    #[must_use]
    pub fn tell(host: &Host, to: IpAddr, port: u16, count: usize, pause: Duration) -> Self {
        Self::start(host, "tell", to, port, count, &[&pause.as_millis().to_string()])
    }

    /// Starts a server that answers one request on each connection, for a limited time.
    #[must_use]
    pub fn reply(host: &Host, address: IpAddr, port: u16, seconds: usize, dialogue: Dialogue) -> Self {
        let [asked, answered, first] = dialogue.words();
        Self::start(host, "reply", address, port, seconds, &[&asked, &answered, &first]).listening()
    }

    /// Starts `rate` clients of it a second for a time. To be asked as [`Self::paced`].
    #[must_use]
    pub fn query(host: &Host, to: IpAddr, port: u16, seconds: usize, dialogue: Dialogue, rate: f64) -> Self {
        let [asked, answered, first] = dialogue.words();
        let rest = [&*asked, &answered, &first, &rate.to_string()];
        Self::start(host, "query", to, port, seconds, &rest)
    }

    /// Starts a client that makes `rate` requests a second for a time: it closes its half after each and waits for the answer. To be
    /// asked as [`Self::paced`].
    #[must_use]
    pub fn request(
        host: &Host,
        to: IpAddr,
        port: u16,
        seconds: usize,
        rate: f64,
        patience: Duration,
    ) -> Self {
        let patience = patience.as_millis().to_string();
        Self::start(host, "request", to, port, seconds, &[&rate.to_string(), &patience])
    }

    /// Starts a server of `threads` threads; each request takes one of them until the server behind has answered.
    #[must_use]
    pub fn front(host: &Host, at: SocketAddr, backlog: usize, threads: usize, behind: SocketAddr) -> Self {
        let rest = [&*threads.to_string(), &behind.to_string()];
        Self::start(host, "front", at.ip(), at.port(), backlog, &rest).listening()
    }

    /// Starts `count` customers who ask by HTTP, wait so long for the answer, and ask again after a pause.
    #[must_use]
    pub fn ask(host: &Host, to: SocketAddr, count: usize, pause: Duration, patience: Duration) -> Self {
        let [pause, patience] = [pause, patience].map(|time| time.as_millis().to_string());
        Self::start(host, "ask", to.ip(), to.port(), count, &[&pause, &patience]).asking()
    }

    /// Starts a caller that resolves a name, connects and closes, again and again.
    #[must_use]
    pub fn call(host: &Host, resolver: &Resolver, service: &str, patience: Duration) -> Self {
        let mut command = resolver.command(host, program("traffic").to_str().expect("the path is text"));
        command.args(["call", service, &patience.as_millis().to_string()]);
        Self::run(command).asking()
    }

    /// Ends customers or a caller; returns what each of their attempts came to.
    #[must_use]
    pub fn told(mut self) -> Vec<Attempt> {
        drop(self.stdin.take());
        let mut attempts = Vec::new();
        loop {
            let line = self.line();
            let mut words = line.split(' ');
            let (Some(begun), Some(took), Some(outcome)) = (words.next(), words.next(), words.next()) else {
                self.finish();
                return attempts;
            };
            let nanoseconds = |text: &str| Duration::from_nanos(text.parse().expect("nanoseconds"));
            attempts.push(Attempt {
                begun: SystemTime::UNIX_EPOCH + nanoseconds(begun),
                took: nanoseconds(took),
                outcome: outcome.to_owned(),
                address: words.next().map(|address| address.parse().expect("an address")),
            });
        }
    }

    /// Stops it: it does nothing any more, and the kernel goes on for it.
    pub fn stall(&self) {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::STOP).expect("it runs");
        // A thread that waits in accept() and has not been given the CPU since may still take a connection; the kernel tells of the stop once
        // all threads have.
        waitid(WaitId::Pid(process), WaitIdOptions::STOPPED).expect("it is a child of ours");
    }

    fn asking(mut self) -> Self {
        assert_eq!(self.line(), "asking");
        self
    }

    fn start(host: &Host, role: &str, address: IpAddr, port: u16, count: usize, rest: &[&str]) -> Self {
        Self::start_as(Kind::Tcp, host, role, address, port, count, rest)
    }

    fn start_as(
        kind: Kind,
        host: &Host,
        role: &str,
        address: IpAddr,
        port: u16,
        count: usize,
        rest: &[&str],
    ) -> Self {
        let mut command = host.command(program("traffic"));
        command
            .arg(kind.option())
            .args([role, &SocketAddr::new(address, port).to_string(), &count.to_string()])
            .args(rest);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the traffic program starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, stdin, stdout }
    }

    fn listening(mut self) -> Self {
        assert_eq!(self.line(), "listening");
        self
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("its output is text");
        line.trim_end().to_owned()
    }

    /// Waits until every connection attempt of a client has ended; returns the failures it reported.
    pub fn connected(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        loop {
            let line = self.line();
            match line.as_str() {
                "connected" => return failures,
                "" => panic!("the client ended without having tried all connections"),
                _ => failures.push(line),
            }
        }
    }

    /// Lets it pass its next gate.
    pub fn open_gate(&mut self) {
        let stdin = self.stdin.as_mut().expect("the gate is still there");
        stdin.write_all(b"\n").expect("it waits at the gate");
    }

    /// Ends its `hold`, and waits until it has played its script.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "the traffic program failed: {status}");
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
