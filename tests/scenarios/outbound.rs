//! Our own calls: what those cost that come to nothing, who makes them, and which wait for an answer.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab::{
    agent::{Agent, Config, Metrics, Series},
    alarms::{self, Alarm},
    attaching::exact,
    capture::Capture,
    eventually,
    inconclusive::{self, Count},
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
    Staged 20 s:
        attempts_that_our_program_abandons,
        attempts_that_our_program_abandons_by_classic_hooks;
    Staged 10 s:
        what_calls_cost_and_which_thread_makes_them_by_classic_hooks,
        connections_that_wait_for_an_answer_are_told_from_those_that_idle;
    Staged 5 s:
        what_calls_cost_and_which_process_makes_them;
}

const ANSWERED: u16 = 5_200;
const UNANSWERED: u16 = 5_201;
const REFUSED: u16 = 5_202;

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Whether a figure lies between two others; `None` is no figure.
fn is_between(figure: Option<f64>, from: f64, to: f64) -> bool {
    // The agent rounds to milliseconds.
    figure.is_some_and(|figure| from - 0.001 <= figure && figure <= to + 0.001)
}

fn of(metrics: &Metrics, name: &str, port: u16, extra: &[(&str, &str)]) -> Option<f64> {
    let (peer, port) = (Pair::server_address(Family::V4).to_string(), port.to_string());
    let series = [("peer", peer.as_str()), ("port", &port), ("direction", "outbound")];
    metrics.value(name, &[&series, extra].concat())
}

/// The name that `process` is told by: typed hooks know the process, classic ones the thread.
fn calls(hooks: &str, process: &str) {
    let pair = pair();
    let server = Pair::server_address(Family::V4);
    pair.server.swallow(UNANSWERED);
    pair.client.sysctl("net.ipv4.tcp_syn_retries", "1");
    // Since 6.5 the first four are sent again a second apart, on top.
    let _ = pair.client.command("sysctl").args(["-qw", "net.ipv4.tcp_syn_linear_timeouts=0"]).output();
    let agent = Agent::start(&pair.client, &["--hooks", hooks]);
    let _exact = exact();
    let capture = Capture::start(&pair.client);

    // Each port: when its calls began and ended by our own clock.
    let mut spans = Vec::new();
    let played = [(ANSWERED, 2, "none"), (UNANSWERED, 3, "timeout"), (REFUSED, 3, "refused")];
    for (port, count, _) in played {
        let began = now();
        let answering =
            (port == ANSWERED).then(|| Traffic::serve(&pair.server, server, port, count, "close"));
        let mut client = Traffic::connect(&pair.client, server, port, count, "read,close");
        let failed = client.connected();
        assert_eq!(failed.len(), if port == ANSWERED { 0 } else { count }, "{failed:?}");
        client.finish();
        drop(answering);
        spans.push((port, began, now()));
    }
    let wire = capture.stop();
    let unanswered = wire.service(server, UNANSWERED);
    assert_eq!((unanswered.syns, unanswered.syn_retries), (3, 3), "each SYN is sent twice");

    let peer = server.to_string();
    inconclusive::hold(&agent, Duration::from_secs(10), |metrics| {
        let of_port = |(port, count, why): (u16, usize, &str)| {
            ["timeout", "refused"].map(|reason| {
                let (port, truth) = (port.to_string(), if reason == why { count as u64 } else { 0 });
                let series = Series { peer: &peer, port: &port, direction: "outbound" };
                let told = metrics.peer("peer_connect_failures_total", series, &[("reason", reason)]);
                Count { what: format!("port {port}: connects that fail by {reason}"), told, truth }
            })
        };
        played.into_iter().flat_map(of_port).collect()
    });
    // Of several calls one may be left out, as above: these figures hold without it.
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let told = |name, port, extra: &[(&str, &str)]| of(&metrics, name, port, extra);
        let mut wrong = Vec::new();
        for &(port, began, ended) in &spans {
            let success = told("peer_last_success_timestamp_seconds", port, &[]);
            let failure = told("peer_last_failure_timestamp_seconds", port, &[]);
            let lost = told("peer_connect_failure_seconds_total", port, &[]);
            // Three SYNs that were sent again took a second at least, each.
            let least = if port == UNANSWERED { 3.0 } else { 0.0 };
            let is_right = if port == ANSWERED {
                is_between(success, began, ended) && failure.is_none() && lost == Some(0.0)
            } else {
                success.is_none()
                    && is_between(failure, began, ended)
                    && is_between(lost, least, ended - began)
            };
            let caller = told("peer_caller_info", port, &[("process", process)]);
            if !is_right || caller != Some(1.0) {
                wrong
                    .push(format!("{port}: {success:?} {failure:?} {lost:?} {caller:?} in {began}..{ended}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
}

fn what_calls_cost_and_which_process_makes_them() {
    calls("btf", "traffic");
}

fn what_calls_cost_and_which_thread_makes_them_by_classic_hooks() {
    calls("tracepoint", "caller");
}

fn connections_that_wait_for_an_answer_are_told_from_those_that_idle() {
    let pair = pair();
    let server = Pair::server_address(Family::V4);
    pair.server.swallow(UNANSWERED);
    // Of destinations that are not known well, what waits for eight times as long counts.
    let config = Config::new("[census]\nstalled_after = \"1s\"\n");
    let agent = Agent::start(&pair.client, &config.args());
    let _exact = exact();
    // Server, client, how many, and how many of them wait for longer than they may.
    let plays: [(u16, &str, &str, usize, u64); 5] = [
        (5_210, "hold", "write,hold", 4, 4),                 // asked, not answered
        (5_211, "peek,write,hold", "write,peek,hold", 3, 0), // answered, idle
        (5_212, "hold", "hold", 2, 0),                       // opened, not used
        (5_213, "write,hold", "peek,hold", 2, 0),            // and one that does
        (5_214, "write,peek,hold", "peek,write,hold", 2, 2), // asked again after an answer
    ];
    let mut running = Vec::new();
    for &(port, ours, theirs, count, _) in &plays {
        running.push(Traffic::serve(&pair.server, server, port, count, ours));
        let mut client = Traffic::connect(&pair.client, server, port, count, theirs);
        assert_eq!(client.connected(), [""; 0]);
        running.push(client);
    }
    for _ in 0..2 {
        running.push(Traffic::connect(&pair.client, server, UNANSWERED, 1, "close"));
    }
    // An upload: nothing comes back, and it goes on.
    running.push(Traffic::serve(&pair.server, server, 5_215, 1, "read"));
    let upload = "exec 3<>/dev/tcp/10.77.0.2/5215; for i in $(seq 60); do echo more >&3; sleep 0.5; done";
    let mut uploading = pair.client.command("bash").args(["-c", upload]).spawn().expect("bash runs");

    let wanted: Vec<(u16, u64)> = plays.iter().map(|&(port, .., waiting)| (port, waiting)).collect();
    let wanted = [wanted, vec![(UNANSWERED, 2), (5_215, 0)]].concat();
    let peer = server.to_string();
    let told = || {
        let metrics = agent.scrape();
        let stalled = |port: u16| {
            let port = port.to_string();
            let series = Series { peer: &peer, port: &port, direction: "outbound" };
            metrics.peer("peer_stalled_sockets", series, &[])
        };
        wanted.iter().map(|&(port, _)| (port, stalled(port))).collect::<Vec<_>>()
    };
    eventually(Duration::from_secs(15), || {
        let told = told();
        if told == wanted { Ok(()) } else { Err(format!("told {told:?}, there are {wanted:?}")) }
    });
    // And it stays so.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(told(), wanted);
    uploading.kill().expect("it still runs");
    let _ = uploading.wait();
}

/// How long our program waits for an answer, and one that hardly waits at all.
const PATIENT: (u16, Duration) = (UNANSWERED, Duration::from_secs(1));
const HASTY: (u16, Duration) = (5_203, Duration::from_millis(5));

/// Attempts that our program abandoned within 0.2 s.
fn abandoned_soon(metrics: &Metrics, port: u16) -> Option<f64> {
    let of = format!("peer=\"{}\",port=\"{port}\",direction=\"outbound\"", Pair::server_address(Family::V4));
    let sample = format!("tcpwarden_peer_connect_abandoned_seconds_bucket{{{of},le=\"0.2\"}} ");
    metrics.body.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
}

/// A firewall that drops our SYNs, and programs with connect timeouts of their own.
fn abandoned(hooks: &str) {
    let pair = pair();
    let server = Pair::server_address(Family::V4);
    let quiet = format!(
        "table ip lab {{ chain quiet {{ type filter hook input priority filter; tcp dport {{ {}, {} }} drop; }}\n}}\n",
        PATIENT.0, HASTY.0
    );
    pair.server.feed("nft", &["-f", "-"], &quiet);
    let config = Config::new("[alerts.BackendNotAnswering]\nfor = \"1s\"\n");
    let agent = Agent::start(&pair.client, &[&config.args()[..], &["--hooks", hooks]].concat());
    let _exact = exact();
    let capture = Capture::start(&pair.client);
    let pause = Duration::from_millis(300);
    let asking = [PATIENT, HASTY].map(|(port, patience)| {
        Traffic::ask(&pair.client, SocketAddr::new(server, port), 3, pause, patience)
    });
    let raised = |(port, _): (u16, Duration)| {
        alarms::raised(&agent).get(&Alarm::outbound("BackendNotAnswering", server, port)).cloned()
    };
    eventually(Duration::from_secs(20), || {
        let text = raised(PATIENT).ok_or("no alert is raised")?;
        if text.contains("our program gave up") { Ok(()) } else { Err(text) }
    });
    assert_eq!(raised(HASTY), None, "an answer may have been under way");
    let attempts = asking.map(Traffic::told);
    let wire = capture.stop();
    let in_all = attempts.iter().map(|attempts| attempts.len() as u64).sum::<u64>();

    for ((port, patience), attempts) in [PATIENT, HASTY].into_iter().zip(attempts) {
        let seen = wire.service(server, port);
        let count = attempts.len() as u64;
        assert_eq!(
            (seen.syns, seen.connections),
            (count, 0),
            "each attempt sent a SYN, and none was answered"
        );
        // What an attempt took by its maker's clock ends after the socket was closed.
        let most: Duration = attempts.iter().map(|attempt| attempt.took).sum();
        let least = patience * u32::try_from(count).expect("a few");
        let soon =
            attempts.iter().filter(|attempt| attempt.took <= Duration::from_millis(200)).count() as f64;
        eventually(Duration::from_secs(10), || {
            let metrics = agent.scrape();
            let told = |name, extra: &[(&str, &str)]| of(&metrics, name, port, extra);
            let failures = told("peer_connect_failures_total", &[("reason", "abandoned")]);
            let all = metrics.sum("peer_connect_failures_total", "outbound", Some(&server.to_string()));
            let waits = told("peer_connect_abandoned_seconds", &[]);
            let sum = told("peer_connect_abandoned_seconds_sum", &[]);
            let within = abandoned_soon(&metrics, port);
            let right = failures == Some(count as f64)
                && all == in_all
                && waits == failures
                && within == Some(soon)
                && is_between(sum, least.as_secs_f64(), most.as_secs_f64());
            let told = format!("{failures:?} of {all}, {waits:?} took {sum:?} s, {within:?} of them little");
            if right {
                Ok(())
            } else {
                Err(format!("{port}: {told}; {count}, {least:?} to {most:?}, {soon}"))
            }
        });
    }
    eventually(Duration::from_secs(15), || {
        let report = agent.report(&[]).to_string();
        let says =
            format!("connects to {server} port {}, after 1.0 s on average; nothing had answered", PATIENT.0);
        if report.contains(&says) { Ok(()) } else { Err(report) }
    });
}

fn attempts_that_our_program_abandons() {
    abandoned("btf");
}

fn attempts_that_our_program_abandons_by_classic_hooks() {
    abandoned("tracepoint");
}
