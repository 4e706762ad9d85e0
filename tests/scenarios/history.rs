//! The past: its figures against those who made the traffic, and what becomes of it when the agent is killed or the disk is full.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab::{
    agent::{Agent, Config},
    attaching::exact,
    eventually,
    inconclusive::{self, Count},
    topology::{Family, Pair, pair},
    traffic::{First, Traffic},
    truth,
};
use rustix::process::Signal;
use serde_json::Value;
use tcpwarden::model::past::second_of;
use tempfile::TempDir;

lab::scenarios! {
    Others 60 s:
        on_a_full_disk_memory_serves_until_there_is_room_again;
    Others 30 s:
        killed_at_any_moment_it_loses_the_last_seconds_at_most;
    Others 5 s:
        what_is_no_history_is_set_aside_and_said,
        without_a_history_everything_else_works;
    Staged 20 s:
        every_connection_is_in_one_second_and_the_ports_are_those_of_ss;
}

const PORT: u16 = 8_080;

fn client() -> IpAddr {
    Pair::client_address(Family::V4)
}

fn server() -> IpAddr {
    Pair::server_address(Family::V4)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn json(agent: &Agent<'_>, path: &str) -> Value {
    let (status, body) = agent.get(path).expect("the agent answers");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// The seconds that the API tells of the client.
fn seconds(agent: &Agent<'_>, client: IpAddr) -> Vec<Value> {
    let path = format!("/api/v1/peers/{client}/inbound/{PORT}/seconds?seconds=600");
    json(agent, &path).as_array().expect("seconds").clone()
}

fn sum(seconds: &[Value], figure: &str) -> u64 {
    seconds.iter().map(|second| second[figure].as_u64().expect("a number")).sum()
}

fn every_connection_is_in_one_second_and_the_ports_are_those_of_ss() {
    let net = pair();
    let agent = Agent::start(&net.server, &[]);
    let _exact = exact();
    let _service = Traffic::welcome(&net.server, server(), PORT, 60, First::Server);
    let mut load = Traffic::pace(&net.client, server(), PORT, 10, 50.0, First::Server);
    let (connected, failed) = load.paced();
    assert_eq!(failed, 0);
    // The last census has counted the last TIME_WAIT.
    thread::sleep(Duration::from_secs(3));
    let told = seconds(&agent, client());
    let connections = sum(&told, "connections");
    let count = Count { what: "connections".to_owned(), told: connections, truth: connected };
    inconclusive::compare([count], &agent.scrape()).unwrap_or_else(|complaint| panic!("{complaint}"));
    let seconds = told.iter().filter(|second| second["connections"].as_u64() > Some(0)).count();
    assert!(seconds >= 5, "what came in ten seconds lies in {seconds}");
    let ports = json(&agent, &format!("/api/v1/peers/{}/inbound/{PORT}/ports", client()));
    let sockets = truth::sockets_by_local_port(&net.server);
    let mine = sockets.iter().filter(|((address, port, _), _)| (*address, *port) == (client(), PORT));
    let right: u64 = mine.map(|(_, count)| count).sum();
    assert_eq!(ports["counts"]["time_wait"].as_u64(), Some(right), "{ports:#}");
}

fn killed_at_any_moment_it_loses_the_last_seconds_at_most() {
    let net = pair();
    let state = TempDir::new().expect("a temporary directory");
    let _service = Traffic::welcome(&net.server, server(), PORT, 120, First::Server);
    let _load = Traffic::pace(&net.client, server(), PORT, 60, 50.0, First::Server);
    for pause in [6_300, 8_100, 7_700] {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let mut agent = Agent::start_with(&net.server, &[], state.path());
        thread::sleep(Duration::from_millis(pause));
        agent.signal(Signal::KILL);
        agent.wait();
        let killed = now();
        // While nobody runs, the file is read by whoever wants a report.
        let report = agent.report(&["--since", "5m"]);
        let timeline = report["timeline"].as_array().expect("a timeline");
        let starts = timeline.iter().filter(|entry| {
            let text = entry["text"].as_str().expect("a text");
            text.contains("began to watch") && entry["time"].as_f64().is_some_and(|time| time >= begun)
        });
        assert_eq!(starts.count(), 1, "{timeline:?}");
        let agent = Agent::start_with(&net.server, &[], state.path());
        let told = seconds(&agent, client());
        let kept = told
            .iter()
            .filter_map(|second| second["time"].as_u64())
            .filter(|time| (second_of(begun)..killed).contains(time));
        let last = kept.max().expect("some seconds are kept");
        assert!(killed - last <= 7, "the last {} seconds are lost", killed - last);
        assert!(!agent.log().contains("set aside") && !agent.log().contains("kept as"), "{}", agent.log());
    }
}

/// A file system of its own with a little room; gone on drop.
struct Small(TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        assert!(mount.status().expect("mount runs").success(), "a tmpfs");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(thread::panicking() || unmounted.is_ok_and(|status| status.success()), "unmounted");
    }
}

fn on_a_full_disk_memory_serves_until_there_is_room_again() {
    let net = pair();
    let disk = Small::new("512k");
    fs::write(disk.path().join("ballast"), vec![0; 480 * 1024]).expect("room for ballast");
    let agent = Agent::start_with(&net.server, &[], disk.path());
    let _service = Traffic::welcome(&net.server, server(), PORT, 200, First::Server);
    let mut load = Traffic::pace(&net.client, server(), PORT, 20, 20.0, First::Server);
    let on_disk = || agent.scrape().value("history_on_disk", &[]);
    eventually(Duration::from_secs(30), || match on_disk() {
        Some(0.0) => Ok(()),
        other => Err(format!("history_on_disk {other:?}: {}", agent.log())),
    });
    eventually(Duration::from_secs(30), || {
        let (_, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
        if alerts.contains("AgentDegraded") && alerts.contains("kept in memory only") {
            Ok(())
        } else {
            Err(alerts)
        }
    });
    let (connected, _) = load.paced();
    thread::sleep(Duration::from_secs(2));
    let told = sum(&seconds(&agent, client()), "connections");
    assert!(connected > 0 && told + 3 >= connected && told <= connected, "{told} of {connected} connections");
    fs::remove_file(disk.path().join("ballast")).expect("removed");
    eventually(Duration::from_secs(90), || match on_disk() {
        Some(1.0) => Ok(()),
        other => Err(format!("history_on_disk {other:?}: {}", agent.log())),
    });
    assert_eq!(sum(&seconds(&agent, client()), "connections"), told, "what memory held is kept");
}

fn what_is_no_history_is_set_aside_and_said() {
    let net = pair();
    let state = TempDir::new().expect("a temporary directory");
    fs::write(state.path().join("history.db"), "somebody's letters").expect("written");
    let agent = Agent::start_with(&net.server, &[], state.path());
    eventually(Duration::from_secs(10), || {
        let log = agent.log();
        if log.contains("it is kept as") && log.contains("history.db.broken") { Ok(()) } else { Err(log) }
    });
    let kept = fs::read_to_string(state.path().join("history.db.broken")).expect("it is there");
    assert_eq!(kept, "somebody's letters");
    assert_eq!(agent.scrape().value("history_on_disk", &[]), Some(1.0));
}

fn without_a_history_everything_else_works() {
    let net = pair();
    let state = TempDir::new().expect("a temporary directory");
    let config = Config::new("[history]\nsize_mib = 0\n");
    let agent = Agent::start_with(&net.server, &config.args(), state.path());
    let (status, body) = agent.get("/api/v1/events").expect("the agent answers");
    assert!(status == 503 && body.contains("size_mib"), "{status} {body}");
    assert_eq!(agent.scrape().value("history_on_disk", &[]), None);
    assert!(!state.path().join("history.db").exists());
    let args = ["report", "--state.directory", state.path().to_str().expect("text")];
    let report = Agent::once(&net.server, &[], &args);
    assert!(report.code == Some(1) && report.stderr.contains("cannot read the history"), "{report:?}");
}
