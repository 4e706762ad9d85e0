//! What the agent may still do once it runs.

use std::{fs, net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Config, Series},
    attaching::exact,
    eventually,
    host::Host,
    traffic::Traffic,
    truth,
};
use rustix::process::Signal;

lab::scenarios! {
    Others 10 s:
        typed_hooks_and_the_iterator_need_none,
        classic_hooks_and_netlink_need_none;
    Others 5 s:
        a_file_that_is_not_ours_is_not_read_at_the_start_either;
}

/// `CAP_BPF` as /proc prints it.
const ONLY_BPF: &str = "0000008000000000";
const NONE: &str = "0000000000000000";
const PORT: u16 = 7000;

/// `name` of every thread of the agent.
fn of_every_thread(agent: &Agent<'_>, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", agent.pid().as_raw_nonzero());
    let threads = fs::read_dir(tasks).expect("the agent runs").filter_map(Result::ok);
    let of_thread = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("every status has it");
        line.trim_start_matches(':').trim().to_owned()
    };
    threads.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).map(of_thread).collect()
}

/// Starts an agent with a thread of every kind, and looks at what each may do while it counts, reloads and ends.
fn keeps_no_right_and_works(args: &[&str]) {
    let host = Host::new("host");
    let check = Agent::once(&host, &[], &["check"]);
    let expected = if check.stdout.contains("it keeps CAP_BPF") { ONLY_BPF } else { NONE };
    // On a slow machine a census may cost so much that the next one is far away.
    let text = "[probe]\nsyn_watch = true\n[census]\ncpu_budget = 0.5\n[[receiver]]\nname = \"journal\"\ntype = \"journal\"\n";
    let config = Config::new(text);
    let mut agent = Agent::start(&host, &[&config.args(), args].concat());
    let assert_given_up = || {
        for set in ["CapEff", "CapPrm", "CapAmb"] {
            let rights = of_every_thread(&agent, set);
            assert!(rights.len() >= 3, "main, poll and the receiver's: {rights:?}");
            let expected = if set == "CapAmb" { NONE } else { expected };
            // The thread that writes the log reads no map, and keeps nothing anywhere.
            let is_given_up = |right: &String| right == expected || right == NONE;
            assert!(rights.iter().all(is_given_up), "{args:?}: {set} is {rights:?}");
        }
        assert!(of_every_thread(&agent, "NoNewPrivs").iter().all(|on| on == "1"));
    };
    assert_given_up();

    let localhost = IpAddr::from([127, 0, 0, 1]);
    let counted = |count| {
        let server = Traffic::serve(&host, localhost, PORT, count, "close");
        Traffic::connect(&host, localhost, PORT, count, "read,close").finish();
        server.finish();
    };
    let port = PORT.to_string();
    let inbound = Series { peer: "127.0.0.1", port: &port, direction: "inbound" };
    let told = |connections: u64| {
        eventually(Duration::from_secs(10), || {
            let metrics = agent.scrape();
            let told = (
                metrics.peer("peer_connections_total", inbound, &[]),
                metrics.peer("peer_sockets", inbound, &[("state", "time_wait")]),
            );
            let sockets = truth::sockets_by_local_port(&host);
            let time_waits = sockets.get(&(localhost, PORT, "time_wait".to_owned()));
            let expected = (connections, time_waits.copied().unwrap_or_default());
            if told == expected && expected.1 > 0 {
                Ok(())
            } else {
                Err(format!("{told:?}, expected {expected:?}"))
            }
        });
    };
    {
        let _exact = exact();
        counted(5);
        told(5);
    }
    config.write(&format!("{text}[limits]\nevents = 10\n"));
    agent.signal(Signal::HUP);
    eventually(Duration::from_secs(10), || {
        let log = agent.log();
        if log.contains("configuration reloaded") { Ok(()) } else { Err(log) }
    });
    {
        let _exact = exact();
        counted(5);
        told(10);
    }
    assert_given_up();
    agent.signal(Signal::TERM);
    assert!(agent.wait().success());
}

fn typed_hooks_and_the_iterator_need_none() {
    keeps_no_right_and_works(&["--hooks=btf", "--census=iter"]);
}

fn classic_hooks_and_netlink_need_none() {
    keeps_no_right_and_works(&["--hooks=tracepoint", "--census=netlink"]);
}

fn a_file_that_is_not_ours_is_not_read_at_the_start_either() {
    let host = Host::new("host");
    let config = Config::new("");
    let [_, path] = config.args();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("our own file");
    std::os::unix::fs::chown(path, Some(65_534), None).expect("root may give files away");
    let refusal = Agent::once(&host, &[], &["run", "--config.file", path]);
    assert_eq!(refusal.code, Some(2), "{refusal:?}");
    assert!(refusal.stderr.contains("Permission denied") && refusal.stderr.contains(path), "{refusal:?}");
}
