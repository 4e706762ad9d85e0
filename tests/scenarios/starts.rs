//! Starts that go wrong, or half right: nothing is left behind, the reason is said, and the next start works.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use aya::programs::loaded_programs;
use lab::{
    agent::{Agent, Config, Ended, Series},
    attaching::{attaching, exact},
    eventually,
    host::Host,
    program,
    topology::{Family, Pair, pair},
    traffic::Traffic,
    truth,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

lab::scenarios! {
    Builds 20 s:
        an_agent_that_is_killed_or_ended_at_any_point_of_its_start;
    Builds 5 s:
        a_kernel_without_types;
    Others 10 s:
        the_verifier_refuses_programs;
    Others 5 s:
        without_proc;
}

const PATIENCE: Duration = Duration::from_secs(20);

/// How many points in time, from the begin of a start to a little after its end, and which signal comes then.
const POINTS: [(Signal, u32); 2] = [(Signal::KILL, 8), (Signal::TERM, 4)];

fn programs() -> BTreeSet<u32> {
    loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect()
}

/// Waits until the kernel has the programs it had before, and none more.
fn nothing_is_left(before: &BTreeSet<u32>) {
    eventually(PATIENCE, || {
        let left: Vec<u32> = programs().difference(before).copied().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("programs {left:?} are left")) }
    });
}

/// How long it takes from the begin of a start until the agent is ready, here and now.
fn time_to_start(host: &Host, args: &[&str]) -> Duration {
    let begun = std::time::Instant::now();
    drop(Agent::start(host, args));
    begun.elapsed()
}

fn an_agent_that_is_killed_or_ended_at_any_point_of_its_start() {
    let host = Host::new("host");
    let state = TempDir::new().expect("a temporary directory");
    let config = Config::new("[probe]\nsyn_watch = true\n");
    let mut args = vec!["run"];
    args.extend(config.args());
    let kept = "{\"version\":1,\"alerts\":[],\"receivers\":{\"hook\":[]}}";
    let file = state.path().join("alerts.json");
    fs::write(&file, kept).expect("written");
    let start = time_to_start(&host, &config.args());
    let before = programs();
    for (signal, points) in POINTS {
        for point in 0..points {
            let mut command = host.command(program("tcpwarden"));
            command.args(&args).env("STATE_DIRECTORY", state.path());
            let log = state.path().join("log");
            let mut child =
                command.stderr(fs::File::create(&log).expect("a file")).spawn().expect("nsenter runs");
            thread::sleep(start * point / (points - 2));
            // nsenter has become the agent, or nearly.
            kill_process(Pid::from_child(&child), signal).expect("it has not ended");
            let status = child.wait().expect("it can be waited for");
            let log = fs::read_to_string(&log).expect("text");
            // A signal that comes before anyone handles it ends a process, too.
            assert!(status.code().is_none_or(|code| code == 0), "{signal:?} at {point}: {status} {log}");
            nothing_is_left(&before);
        }
    }
    // Its own state, or that of a moment later: never half of it.
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(text.starts_with("{\"version\":1,") && text.ends_with('}'), "{text}");
    let next = Agent::start_with(&host, &config.args(), state.path());
    assert!(!next.log().contains("alerts.json"), "{}", next.log());
}

/// Runs a script in a mount namespace of its own on the host, then the agent to its end.
fn once_after(host: &Host, script: &str, args: &str) -> Ended {
    let script = format!("{script} && exec {} {args}", program("tcpwarden").display());
    let _attaching = attaching();
    let output =
        host.command("unshare").args(["--mount", "sh", "-c", &script]).output().expect("nsenter runs");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts an agent after a script in a mount namespace of its own.
fn start_after<'a>(host: &'a Host, script: &str, state: &Path) -> Agent<'a> {
    let script = format!("{script} && exec {} \"$@\"", program("tcpwarden").display());
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    Agent::start_by(host, command, &[], state)
}

/// Five connections are five, and leave five TIME_WAITs.
fn counts_right(pair: &Pair, agent: &Agent<'_>) {
    let server = Pair::server_address(Family::V4);
    let _exact = exact();
    let service = Traffic::drain(&pair.server, server, 8001, 5);
    Traffic::flood(&pair.client, Pair::client_address(Family::V4), server, 8001, 5).finish();
    service.finish();
    let series = Series { peer: "10.77.0.1", port: "8001", direction: "inbound" };
    eventually(PATIENCE, || {
        let metrics = agent.scrape();
        let told = [
            metrics.peer("peer_connections_total", series, &[]),
            metrics.peer("peer_sockets", series, &[("state", "time_wait")]),
        ];
        let left = truth::time_waits(&pair.server, &[Pair::client_address(Family::V4)], 8001);
        if left > 0 && told == [5, left] { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

fn a_kernel_without_types() {
    let pair = pair();
    let state = TempDir::new().expect("a temporary directory");
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    let agent = start_after(&pair.server, hide, state.path());
    counts_right(&pair, &agent);
    let modes = agent.scrape().lines_with(&["probe_info"]);
    assert!(modes.contains("mode=\"tracepoint\"") && modes.contains("mode=\"netlink\""), "{modes}");
    assert!(!modes.contains("mode=\"btf\"") && !modes.contains("mode=\"iter\""), "{modes}");
    assert!(
        agent.log().contains("counting sockets over netlink: this kernel publishes no types"),
        "{}",
        agent.log()
    );
    let check = once_after(&pair.server, hide, "check");
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains("no BTF") && check.stdout.contains("degraded"), "{check:?}");
}

/// The kernel's types, with a member of a structure at a place that is far beyond its end.
fn wrong_types(member: &str) -> Vec<u8> {
    let mut types = fs::read("/sys/kernel/btf/vmlinux").expect("this kernel publishes its types");
    let word = |types: &[u8], at: usize| {
        u32::from_ne_bytes(types[at..at + 4].try_into().expect("four bytes")) as usize
    };
    // struct btf_header: magic, version, flags; then its length, and where types and strings are behind it.
    let [header, first, length, strings] = [4, 8, 12, 16].map(|at| word(&types, at));
    let needle = format!("\0{member}\0");
    let text = &types[header + strings..];
    let name =
        text.windows(needle.len()).position(|text| text == needle.as_bytes()).expect("the kernel has it") + 1;
    // struct btf_member: name, type, offset in bits.
    for at in (header + first..header + first + length - 8).step_by(4) {
        if word(&types, at) == name {
            types[at + 8..at + 12].copy_from_slice(&(8 * 0x7000_u32).to_ne_bytes());
        }
    }
    types
}

fn the_verifier_refuses_programs() {
    let pair = pair();
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("types");
    let bind = format!("mount --bind {} /sys/kernel/btf/vmlinux", file.display());
    // All of them read the family of a socket.
    fs::write(&file, wrong_types("skc_family")).expect("written");
    let agent = start_after(&pair.server, &bind, directory.path());
    counts_right(&pair, &agent);
    let log = agent.log();
    let refusal = "inet_sock_set_state is attached as tracepoint: btf: the kernel refused the program: ";
    let line = log.lines().find(|line| line.contains(refusal)).unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("access beyond struct") && line.contains("28672"),
        "the verifier's last word: {line}"
    );
    drop(agent);
    // Only the one for SYNs that meet TIME_WAIT reads this.
    fs::write(&file, wrong_types("tw_last_oow_ack_time")).expect("written");
    let agent = start_after(&pair.server, &bind, directory.path());
    counts_right(&pair, &agent);
    assert!(
        agent.log().contains("time_wait is not available: btf: the kernel refused the program: "),
        "{}",
        agent.log()
    );
    let modes = agent.scrape().lines_with(&["probe_info"]);
    assert_eq!(modes.matches("mode=\"unavailable\"").count(), 1, "{modes}");
    // What cannot be known has no series.
    assert!(!agent.scrape().body.contains("tcpwarden_peer_time_wait_syns_total{"));
    let check = once_after(&pair.server, &bind, "check");
    assert_eq!(check.code, Some(1), "{check:?}");
}

fn without_proc() {
    let host = Host::new("host");
    let refusal = once_after(&host, "mount -t tmpfs none /proc", "run");
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(refusal.stderr.contains("/proc"), "{refusal:?}");
}
