//! What fails around an agent that runs: it goes on, its figures stay right, and it says what it lacks.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    process::{Child, Command},
    thread,
    time::Duration,
};

use lab::{
    agent::{Agent, Config, Series},
    alarms::{self, Alarm},
    attaching::exact,
    eventually,
    host::Host,
    monitoring::{
        alertmanager::Alertmanager,
        sink::{Answer, Sink},
    },
    program,
    topology::{Family, Pair, pair},
    traffic::{First, Traffic},
    truth,
};
use rustix::process::Signal;
use tempfile::TempDir;

lab::scenarios! {
    Builds 10 s:
        tracefs_bpffs_and_the_kernels_types_are_unmounted;
    Nothing 10 s:
        hardly_any_cpu;
    Others 20 s:
        the_wall_clock_jumps;
    Others 10 s:
        nobody_reads_the_log,
        a_service_manager_that_does_not_read,
        the_disk_is_full_then_read_only,
        one_agent_follows_another_while_connections_are_made,
        proc_shows_another_network_namespace,
        hardly_any_files;
    Others 5 s:
        its_namespace_loses_its_name_and_its_wire,
        a_storm_of_reloads,
        it_ends_while_a_receiver_hangs,
        the_journal_is_not_there;
}

const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 8001;

/// Queues are judged at once, so that a play is short.
const FAST: &str = "[alerts.ListenQueueOverflow]\nfor = \"1s\"\nkeep_firing_for = \"1s\"\n";

/// A command of the host that the agent's arguments are put behind: `script` in a mount namespace of its own, then the agent.
fn after(host: &Host, script: &str) -> Command {
    let mut command = host.command("unshare");
    let script = format!("{script} && exec {} \"$@\"", program("tcpwarden").display());
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command
}

/// Runs a script in the mount namespace of an agent.
fn beside(agent: &Agent<'_>, script: &str) {
    let pid = agent.pid().as_raw_nonzero().to_string();
    let output = Command::new("nsenter").args(["--mount", "--target", &pid, "sh", "-c", script]).output();
    let output = output.expect("nsenter runs (util-linux)");
    assert!(output.status.success(), "{script}: {output:?}");
}

/// Makes `count` connections that the server closes, and waits until the agent tells all of the peer's connections so far, and
/// its TIME_WAITs as ss does.
fn counts(pair: &Pair, agent: &Agent<'_>, count: usize, all: u64) {
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let _exact = exact();
    let service = Traffic::serve(&pair.server, server, PORT, count, "close");
    let mut callers = Traffic::connect(&pair.client, server, PORT, count, "read,close");
    callers.connected();
    callers.finish();
    service.finish();
    tells(pair, agent, client, all);
}

fn tells(pair: &Pair, agent: &Agent<'_>, client: IpAddr, all: u64) {
    let (peer, port) = (client.to_string(), PORT.to_string());
    let series = Series { peer: &peer, port: &port, direction: "inbound" };
    eventually(PATIENCE, || {
        let sockets = truth::sockets_by_local_port(&pair.server);
        let time_waits = sockets.get(&(client, PORT, "time_wait".to_owned())).copied().unwrap_or_default();
        let metrics = agent.scrape();
        let told = [
            metrics.peer("peer_connections_total", series, &[]),
            metrics.peer("peer_sockets", series, &[("state", "time_wait")]),
        ];
        if told == [all, time_waits] { Ok(()) } else { Err(format!("{told:?}, not {:?}", [all, time_waits])) }
    });
}

/// A listener whose accept queue is full, of its backlog and one more, which raises ListenQueueOverflow for its port until this is dropped:
/// a warning, since nobody else comes.
fn full_queue(host: &Host, port: u16) -> [Traffic; 2] {
    let address = IpAddr::from([127, 0, 0, 1]);
    let server = Traffic::deaf(host, address, port, 3);
    let mut clients = Traffic::connect(host, address, port, 4, "hold");
    assert_eq!(clients.connected(), [""; 0]);
    [clients, server]
}

/// As in a container that was given the wrong /proc: the kernel's count of TIME_WAIT sockets that it shows is not that of the sockets here.
fn proc_shows_another_network_namespace() {
    const THERE: usize = 30;
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let directory = TempDir::new().expect("a temporary directory");
    let agent = Agent::start_by(&pair.server, after(&pair.server, "true"), &[], directory.path());
    counts(&pair, &agent, 5, 5);
    // The client closes first and keeps the TIME_WAITs.
    let service = Traffic::serve(&pair.server, server, PORT, THERE, "read,close");
    let mut callers = Traffic::connect(&pair.client, server, PORT, THERE, "close");
    callers.connected();
    callers.finish();
    service.finish();
    let mut resident = pair.client.command("sleep").arg("60").spawn().expect("sleep runs");
    let shown = format!("/proc/{}/net", agent.pid().as_raw_nonzero());
    beside(&agent, &format!("mount --bind /proc/{}/net {shown}", resident.id()));
    // The last FIN of the server may still be on its way.
    eventually(PATIENCE, || {
        let there = truth::time_wait_buckets(&pair.client);
        if there == THERE as u64 { Ok(()) } else { Err(format!("{there} TIME_WAITs of {THERE}")) }
    });
    let (there, here) = (truth::time_wait_buckets(&pair.client), truth::time_wait_buckets(&pair.server));
    // The log says it, too. Each request over HTTP leaves a TIME_WAIT.
    let says = format!("found {} TIME_WAIT and FIN_WAIT2 sockets fewer than the kernel counts", there - here);
    eventually(PATIENCE, || {
        let log = agent.log();
        if log.contains(&says) { Ok(()) } else { Err(format!("{log}\ndoes not say {says:?}")) }
    });
    assert!(alarms::raised(&agent).contains_key(&Alarm::host("AgentDegraded")));
    tells(&pair, &agent, client, 5 + THERE as u64);

    beside(&agent, &format!("umount {shown}"));
    eventually(PATIENCE, || match agent.scrape().value("census_lasting_drift_sockets", &[]) {
        Some(0.0) => Ok(()),
        other => Err(format!("{other:?} after it ended")),
    });
    resident.kill().expect("it still runs");
    let _ = resident.wait();
}

fn nobody_reads_the_log() {
    let pair = pair();
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("stderr");
    pair.server.sh(&format!("mkfifo {}", path.display()));
    let mut pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .expect("the pipe is there");
    // To the brim.
    while pipe.write(&[b'#'; 4096]).is_ok() {}
    while pipe.write(b"#").is_ok() {}
    let config = Config::new("");
    let script = format!("exec 2>{}", path.display());
    let mut agent =
        Agent::start_by(&pair.server, after(&pair.server, &script), &config.args(), directory.path());
    counts(&pair, &agent, 5, 5);
    config.write("no toml\n");
    let lost = || agent.scrape().value("lost_total", &[("map", "log")]).expect("it counts them");
    eventually(PATIENCE, || {
        for _ in 0..50 {
            agent.signal(Signal::HUP);
            thread::sleep(Duration::from_millis(2));
        }
        if lost() > 0.0 { Ok(()) } else { Err("no line is lost yet".to_owned()) }
    });
    counts(&pair, &agent, 5, 10);
    // Somebody reads again: what waited comes, and what is said from now on.
    let mut read = move || {
        let mut text = Vec::new();
        let _ = pipe.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    eventually(PATIENCE, || {
        if read().contains("stays in force") { Ok(()) } else { Err("no line comes".to_owned()) }
    });
    config.write("");
    agent.signal(Signal::HUP);
    eventually(PATIENCE, || {
        if read().contains("configuration reloaded") { Ok(()) } else { Err("it says nothing".to_owned()) }
    });
    // And nobody, as it ends.
    let mut pipe = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .expect("the agent reads and writes");
    while pipe.write(&[b'#'; 4096]).is_ok() {}
    while pipe.write(b"#").is_ok() {}
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
}

fn a_service_manager_that_does_not_read() {
    let pair = pair();
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("notify");
    pair.server.sysctl("net.unix.max_dgram_qlen", "1");
    let _socket = pair.server.enter(|| UnixDatagram::bind(&path).expect("a socket"));
    let mut agent = Agent::start_service(&pair.server, &[], &path);
    for round in 1..=4 {
        counts(&pair, &agent, 3, 3 * round);
        thread::sleep(Duration::from_secs(1));
    }
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
}

fn the_disk_is_full_then_read_only() {
    let host = Host::new("host");
    let directory = TempDir::new().expect("a temporary directory");
    let state = directory.path().display().to_string();
    let script =
        format!("mount -t tmpfs -o size=64k tmpfs {state} && ! cat /dev/zero >{state}/full 2>/dev/null");
    let config = Config::new(FAST);
    let agent = Agent::start_by(&host, after(&host, &script), &config.args(), directory.path());
    let saved = |right: f64| {
        eventually(PATIENCE, || match agent.scrape().value("state_last_save_successful", &[]) {
            Some(saved) if saved.to_bits() == right.to_bits() => Ok(()),
            other => Err(format!("{other:?}, not {right}")),
        });
    };
    let queue = full_queue(&host, 7001);
    saved(0.0);
    assert_eq!(agent.log().matches("No space left on device").count(), 1, "said once: {}", agent.log());
    beside(&agent, &format!("rm {state}/full"));
    saved(1.0);
    assert!(agent.log().contains("saved again"), "{}", agent.log());
    beside(
        &agent,
        &format!("grep -q ListenQueueOverflow {state}/alerts.json && mount -o remount,ro {state}"),
    );
    drop(queue);
    saved(0.0);
    assert!(agent.log().contains("Read-only file system"), "{}", agent.log());
    beside(&agent, &format!("mount -o remount,rw {state}"));
    saved(1.0);
}

fn tracefs_bpffs_and_the_kernels_types_are_unmounted() {
    let pair = pair();
    let state = TempDir::new().expect("a temporary directory");
    let script = "mount -t bpf bpf /sys/fs/bpf";
    for hooks in ["btf", "tracepoint"] {
        let agent =
            Agent::start_by(&pair.server, after(&pair.server, script), &["--hooks", hooks], state.path());
        let before = agent.scrape().lines_with(&["probe_info"]);
        counts(&pair, &agent, 5, 5);
        beside(&agent, "umount /sys/kernel/tracing /sys/fs/bpf && mount -t tmpfs none /sys/kernel/btf");
        counts(&pair, &agent, 5, 10);
        assert_eq!(agent.scrape().lines_with(&["probe_info"]), before);
    }
}

fn its_namespace_loses_its_name_and_its_wire() {
    let pair = pair();
    let mut agent = Agent::start(&pair.server, &[]);
    counts(&pair, &agent, 5, 5);
    let (name, pid) = (pair.server.name(), agent.pid().as_raw_nonzero().to_string());
    pair.client.sh("ip link del eth0");
    pair.client.sh(&format!("ip netns del {name}"));
    // The namespace lives as long as somebody is in it; the agent is the last.
    pair.client.sh(&format!("ip netns attach {name} {pid}"));
    tells(&pair, &agent, Pair::client_address(Family::V4), 5);
    let host = &pair.server;
    let local = IpAddr::from([127, 0, 0, 1]);
    let service = Traffic::drain(host, local, PORT, 7);
    Traffic::flood(host, local, local, PORT, 7).finish();
    service.finish();
    tells(&pair, &agent, local, 7);
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.log());
}

fn a_storm_of_reloads() {
    let pair = pair();
    let config = Config::new("");
    let agent = Agent::start(&pair.server, &config.args());
    for round in 0..1_000 {
        if round % 100 == 0 {
            config.write(if round % 200 == 0 { "no toml\n" } else { "" });
        }
        agent.signal(Signal::HUP);
        thread::sleep(Duration::from_millis(1));
    }
    config.write("[limits]\nexported_peers = 7\n");
    agent.signal(Signal::HUP);
    eventually(PATIENCE, || match agent.scrape().value("config_last_reload_successful", &[]) {
        Some(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    counts(&pair, &agent, 5, 5);
}

fn it_ends_while_a_receiver_hangs() {
    let host = Host::new("host");
    let sink = Sink::start(&host, 9099);
    sink.answer(Answer::Hang);
    let receiver = "[[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9099/\"\n";
    let config = Config::new(&format!("{FAST}{receiver}"));
    let mut agent = Agent::start(&host, &config.args());
    let _queue = full_queue(&host, 7001);
    eventually(
        PATIENCE,
        || if sink.received().is_empty() { Err("nothing is sent".to_owned()) } else { Ok(()) },
    );
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.log());
}

fn the_journal_is_not_there() {
    let host = Host::new("host");
    let state = TempDir::new().expect("a temporary directory");
    let config = Config::new(&format!("{FAST}[[receiver]]\nname = \"journal\"\ntype = \"journal\"\n"));
    let script = "mkdir -p /run/systemd && mount -t tmpfs none /run/systemd";
    let agent = Agent::start_by(&host, after(&host, script), &config.args(), state.path());
    let _queue = full_queue(&host, 7001);
    eventually(PATIENCE, || {
        match agent.scrape().value("notifications_total", &[("receiver", "journal"), ("outcome", "failed")]) {
            Some(2.0..) => Ok(()),
            other => Err(format!("{other:?} failures")),
        }
    });
    assert_eq!(agent.log().matches("receiver journal: not reached").count(), 1, "{}", agent.log());
}

fn one_agent_follows_another_while_connections_are_made() {
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let (peer, port) = (client.to_string(), PORT.to_string());
    let series = Series { peer: &peer, port: &port, direction: "inbound" };
    let connections = |agent: &Agent<'_>| agent.scrape().peer("peer_connections_total", series, &[]);
    let _service = Traffic::welcome(&pair.server, server, PORT, 60, First::Server);
    let mut load = Traffic::load(&pair.client, [10, 77, 0, 1].into(), 1, server, PORT, First::Server);
    let mut first = Agent::start(&pair.server, &[]);
    load.rate(200.0);
    eventually(PATIENCE, || match connections(&first) {
        500.. => Ok(()),
        count => Err(format!("{count} connections")),
    });
    let before = connections(&first);
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0), "{}", first.log());
    let second = Agent::start(&pair.server, &[]);
    // What TIME_WAITs there are does not depend on who saw them begin.
    let inherited = second.scrape().peer("peer_sockets", series, &[("state", "time_wait")]);
    assert!(inherited >= before, "{inherited} TIME_WAITs after {before} connections");
    eventually(PATIENCE, || match connections(&second) {
        500.. => Ok(()),
        count => Err(format!("{count} connections")),
    });
    let (all, failed) = load.quiet()[&client];
    assert_eq!(failed, 0);
    // Each tells what it saw, and together they tell no more than there was: what came between them is in neither.
    eventually(PATIENCE, || {
        let metrics = second.scrape();
        let told = metrics.peer("peer_connections_total", series, &[]);
        let time_waits = metrics.peer("peer_sockets", series, &[("state", "time_wait")]);
        let closes = metrics.peer("peer_closes_total", series, &[("by", "local")]);
        let sockets = truth::sockets_by_local_port(&pair.server);
        let right = sockets[&(client, PORT, "time_wait".to_owned())];
        // A connection that was open as the second came is closed in its sight.
        if time_waits == right && told + before <= all && (told..=told + 200).contains(&closes) {
            return Ok(());
        }
        Err(format!("{before} and {told} of {all}; {closes} closes, {time_waits} of {right} TIME_WAITs"))
    });
}

fn hardly_any_files() {
    let pair = pair();
    let state = TempDir::new().expect("a temporary directory");
    let mut command = pair.server.command("prlimit");
    command.arg("--nofile=80").arg(program("tcpwarden"));
    let agent = Agent::start_by(&pair.server, command, &[], state.path());
    // A thread of its own writes the log.
    eventually(PATIENCE, || {
        let log = agent.log();
        if log.contains("16 connections are served at the same time, not 128") { Ok(()) } else { Err(log) }
    });
    // More than there are files, and none of them reads.
    let clients = pair.server.enter(|| {
        let clients = (0..100).map(|_| {
            let mut stream =
                TcpStream::connect((IpAddr::from([127, 0, 0, 1]), 9796)).expect("the agent listens");
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n");
            stream
        });
        clients.collect::<Vec<_>>()
    });
    thread::sleep(Duration::from_secs(3));
    drop(clients);
    counts(&pair, &agent, 5, 5);
    let refused = agent.scrape().value("http_connections_refused_total", &[("reason", "limit")]);
    assert!(refused >= Some(80.0), "{refused:?}");
}

/// A process that takes what CPU there is; killed on drop.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hardly_any_cpu() {
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let state = TempDir::new().expect("a temporary directory");
    let mut command = pair.server.command("nice");
    command.args(["-n", "19"]).arg(program("tcpwarden"));
    let agent = Agent::start_by(&pair.server, command, &[], state.path());
    // Four that want all there is; their limit ends them if nothing else does.
    let hogs = (0..4).map(|_| {
        Hog(Command::new("sh").args(["-c", "ulimit -t 20; while :; do :; done"]).spawn().expect("sh runs"))
    });
    let hogs: Vec<Hog> = hogs.collect();
    let _service = Traffic::welcome(&pair.server, server, PORT, 60, First::Server);
    let mut load = Traffic::pace(&pair.client, server, PORT, 8, 100.0, First::Server);
    let (connected, failed) = load.paced();
    drop(hogs);
    assert_eq!(failed, 0);
    assert!(connected > 0);
    tells(&pair, &agent, client, connected);
}

/// Debian's libfaketime, which answers for the C library; the dynamic linker fills in the directory of the architecture.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketime.so.1";

fn the_wall_clock_jumps() {
    let pair = pair();
    let host = &pair.server;
    let directory = TempDir::new().expect("a temporary directory");
    let clock = directory.path().join("clock");
    let set = |text: &str| fs::write(&clock, text).expect("written");
    set("+0");
    let mut command = host.command("env");
    command.arg(format!("LD_PRELOAD={FAKETIME}"));
    command.arg(format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()));
    command.args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]);
    command.arg(program("tcpwarden"));
    let sink = Sink::start(host, 9099);
    let silence = "[[silence]]\nstarts = 2035-01-01T00:00:00Z\nends = 2035-01-02T00:00:00Z\n";
    let receiver = "[[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9099/\"\n";
    let manager = format!(
        "[[receiver]]\nname = \"manager\"\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n",
        Alertmanager::PORT
    );
    let nobody = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";
    let alertmanager = Alertmanager::start(host, Alertmanager::PORT, nobody);
    let config = Config::new(&format!("{FAST}{silence}{receiver}{manager}"));
    let agent = Agent::start_by(host, command, &config.args(), directory.path());
    let posts = |port: u16| {
        let label = format!("\"port\":\"{port}\"");
        sink.received()
            .iter()
            .filter(|post| post.body.contains(&label))
            .map(|post| post.body.clone())
            .collect::<Vec<_>>()
    };
    let told = |port: u16, word: &str| {
        eventually(PATIENCE, || match posts(port).last() {
            Some(post) if post.contains(word) => Ok(()),
            other => Err(format!("{port}: {other:?}")),
        });
    };
    let is_raised = |port: u16| {
        let label = format!("\"port\":{port},");
        eventually(PATIENCE, || {
            let (_, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
            if alerts.contains(&label) { Ok(()) } else { Err(alerts) }
        });
    };
    counts(&pair, &agent, 5, 5);
    let first = full_queue(host, 7001);
    told(7001, "firing");

    // Years ahead, into the silence.
    set("@2035-01-01 12:00:00");
    counts(&pair, &agent, 5, 10);
    let second = full_queue(host, 7002);
    is_raised(7002);
    assert!(agent.log().contains("2035-01-01T12:"), "the log follows: {}", agent.log());
    assert!(agent.log().contains("ListenQueueOverflow (warning, silenced): "), "{}", agent.log());
    assert_eq!(posts(7002), [""; 0]);
    // What was announced before is over when it is, silence or not.
    drop(first);
    told(7001, "resolved");

    // And as far back, out of it.
    set("+0");
    told(7002, "firing");
    // Alertmanager refuses what ends before it begins. (It still holds 7001, which was over in 2035.)
    eventually(PATIENCE, || {
        let mut alerts = alertmanager.alerts().into_iter();
        let has = alerts.any(|alert| alert.labels.get("port").is_some_and(|port| port == "7002"));
        if has { Ok(()) } else { Err(agent.log()) }
    });
    counts(&pair, &agent, 5, 15);
    drop(second);
    told(7002, "resolved");
}
