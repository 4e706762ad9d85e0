//! Healthy workloads: what servers and their clients do every day, by the programs that do it. None of it is a reason for an alert.
//!
//! The programs are Debian's, with their own protocols and their own ways to use connections; only a few clients and servers are the lab's.
//! An agent watches the server, another one the clients, both with the shipped configuration, and both are restarted while all of it goes on.
//! What they raise is held against each workload by its port. A workload that did not run is an error, too.

mod habits;
mod protocols;
mod sandbox;
mod stores;
mod web;
mod workload;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use self::{
    sandbox::Sandbox,
    workload::{Running, Server, Workload, port_of},
};
use crate::{
    agent::{Agent, Config},
    alarms::{self, Alarm},
    alert_table,
    attaching::loose,
    dns::{Dns, Resolver},
    eventually,
    host::Host,
    lan::{DNS, Lan},
    process::Process,
    program,
    story::Story,
    truth, workspace,
};

const SERVERS: [&[Server]; 4] = [stores::SERVERS, web::SERVERS, protocols::SERVERS, habits::SERVERS];
const WORKLOADS: [&[Workload]; 4] =
    [stores::WORKLOADS, web::WORKLOADS, protocols::WORKLOADS, habits::WORKLOADS];

/// How long it takes at least after the restart: longer than any alert takes from its cause to its first notification.
pub const SHORTEST: Duration = Duration::from_secs(130);

/// Number of the server, and of its second address.
const SERVER: u8 = 10;
const SECOND: u8 = 11;
const CLIENTS: u8 = 20;

/// When the agents are restarted. The name moves later: an agent that starts does not know which addresses a name listed before.
const RESTART: Duration = Duration::from_secs(25);

/// The name that moves from the server's first address to its second one, and how long after the restart.
const NAME: &str = "cache.example";
const MOVES: Duration = Duration::from_secs(5);

/// What the agent of the clients is told beside the shipped configuration.
const WATCH: &str = "\n[[watch]]\nname = \"cache.example\"\nport = 6390\n";

/// An agent, what it is started with, and what it has raised so far: when, and its sentence.
struct Watcher<'a> {
    side: &'static str,
    host: &'a Host,
    resolver: &'a Resolver,
    config: &'a Config,
    state: &'a Path,
    agent: Option<Agent<'a>>,
    raised: BTreeMap<Alarm, (f64, String)>,
}

impl<'a> Watcher<'a> {
    fn start(&mut self) {
        let agent = program("tcpwarden");
        let command = self.resolver.command(self.host, agent.to_str().expect("the path is text"));
        self.agent = Some(Agent::start_by(self.host, command, &self.config.args(), self.state));
    }

    fn agent(&self) -> &Agent<'a> {
        self.agent.as_ref().expect("it was started")
    }

    fn restart(&mut self, story: &mut Story) {
        if let Some(mut agent) = self.agent.take() {
            agent.signal(Signal::TERM);
            let status = agent.wait();
            let is_well = status.success() && !agent.log().contains("panicked");
            story.holds(is_well, format_args!("the {}'s agent ended with {status}", self.side));
        }
        self.start();
    }

    fn look(&mut self, story: &Story, begun: Instant) {
        for (alarm, text) in alarms::raised(self.agent()) {
            if self.raised.contains_key(&alarm) {
                continue;
            }
            let at = begun.elapsed().as_secs_f64();
            story.note(format_args!("{}: {alarm}: {text}", self.side));
            self.raised.insert(alarm, (at, text));
        }
    }
}

/// Runs all workloads, for this time after the agents were restarted, which is [`SHORTEST`] or more.
pub fn play(story: &mut Story, time: Duration) {
    let lan = Lan::new();
    let (server, clients) = (lan.host("server", SERVER), lan.host("clients", CLIENTS));
    Lan::add_address(&server, "eth0", SECOND);
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let _ = dns.point(NAME, Lan::address(SERVER));
    let sandbox = Sandbox::new(Lan::address(SERVER), Lan::address(DNS));
    let servers = serve(&sandbox, &server);

    let shipped = fs::read_to_string(workspace("deploy/tcpwarden.toml")).expect("it is shipped");
    let (as_shipped, with_watch) = (Config::new(&shipped), Config::new(&(shipped + WATCH)));
    let states = [(); 2].map(|()| TempDir::new().expect("a temporary directory"));
    let watcher = |side, host, config, state| {
        let (resolver, raised) = (&resolver, BTreeMap::new());
        Watcher { side, host, resolver, config, state, agent: None, raised }
    };
    let mut watchers = [
        watcher("server", &server, &as_shipped, states[0].path()),
        watcher("clients", &clients, &with_watch, states[1].path()),
    ];
    watchers.iter_mut().for_each(Watcher::start);
    alert_table::note_due([].into_iter());
    let _loose = loose();

    let begun = Instant::now();
    let running: Vec<Running<'_>> = WORKLOADS
        .into_iter()
        .flatten()
        .map(|workload| {
            let listens = |(program, _): &&(&Server, Process)| program.ports.contains(&workload.ports[0]);
            let (_, process) = servers.iter().find(listens).expect("each workload has a server");
            let client = sandbox.start(&clients, workload.client);
            Running { workload, server: process, host: &server, client }
        })
        .collect();
    story.note(format_args!("{} workloads run", running.len()));
    watch(story, &mut watchers, begun, RESTART);
    for watcher in &mut watchers {
        watcher.restart(story);
    }
    story.note("the agents have been restarted");
    // In the suite, the restart waits until other scenarios allow agents to start.
    let restarted = begun.elapsed();
    watch(story, &mut watchers, begun, restarted + MOVES);
    let _ = dns.point(NAME, Lan::address(SECOND));
    story.note(format_args!("{NAME} has moved"));
    watch(story, &mut watchers, begun, restarted + time);
    for running in &running {
        judge(story, running, &watchers);
    }
    no_strangers(story, &watchers);
}

/// Starts all servers, and waits until they listen.
fn serve(sandbox: &Sandbox, host: &Host) -> Vec<(&'static Server, Process)> {
    let servers: Vec<_> =
        SERVERS.into_iter().flatten().map(|server| (server, sandbox.start(host, server.script))).collect();
    eventually(Duration::from_mins(1), || {
        let ports =
            servers.iter().flat_map(|(server, process)| server.ports.iter().map(move |port| (port, process)));
        let mut silent = ports.filter(|(port, _)| truth::accept_queues(host, **port).is_empty());
        match silent.next() {
            None => Ok(()),
            Some((port, process)) => Err(format!("nothing listens on port {port}: {}", process.log())),
        }
    });
    servers
}

/// Asks the agents what they raise until so long after the beginning.
fn watch(story: &Story, watchers: &mut [Watcher<'_>], begun: Instant, until: Duration) {
    while begun.elapsed() < until {
        for watcher in &mut *watchers {
            watcher.look(story, begun);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Complains of what was raised about a workload, and of one that did not run.
fn judge(story: &mut Story, running: &Running<'_>, watchers: &[Watcher<'_>]) {
    let Workload { name, ports, .. } = running.workload;
    let gaps = running.gaps().into_iter().map(|gap| format!("it did not run: {gap}"));
    let alerts = raised(watchers, |port| port.is_some_and(|port| ports.contains(&port)));
    let complaints: Vec<String> = gaps.chain(alerts).collect();
    if complaints.is_empty() {
        story.holds(true, name);
        story.note(format_args!("no alert: {name}"));
    }
    for complaint in complaints {
        story.holds(false, format_args!("{name}: {complaint}"));
    }
}

/// Complains of what was raised about no workload, such as the host.
fn no_strangers(story: &mut Story, watchers: &[Watcher<'_>]) {
    let known: Vec<u16> =
        WORKLOADS.into_iter().flatten().flat_map(|workload| workload.ports).copied().collect();
    for alert in raised(watchers, |port| port.is_none_or(|port| !known.contains(&port))) {
        story.holds(false, format_args!("of no single workload: {alert}"));
    }
}

/// What was raised about a port that is `wanted`, each with its moment.
fn raised(watchers: &[Watcher<'_>], wanted: impl Fn(Option<u16>) -> bool) -> Vec<String> {
    let all =
        watchers.iter().flat_map(|watcher| watcher.raised.iter().map(move |raised| (watcher.side, raised)));
    all.filter(|(_, (alarm, _))| wanted(port_of(&alarm.subject)))
        .map(|(side, (alarm, (at, text)))| format!("after {at:.0} s, {side}: {alarm}: {text}"))
        .collect()
}
