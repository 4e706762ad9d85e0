//! Our own calls: what those cost that come to nothing, who makes them, and which wait for an answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::{
    agent::{Agent, Config, Metrics, Series},
    attaching::exact,
    capture::Capture,
    eventually,
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
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
    let quiet = format!(
        "table ip lab {{ chain quiet {{ type filter hook input priority filter; tcp dport {UNANSWERED} drop; }}\n}}\n"
    );
    pair.server.feed("nft", &["-f", "-"], &quiet);
    pair.client.sysctl("net.ipv4.tcp_syn_retries", "1");
    // Since 6.5 the first four are sent again a second apart, on top.
    let _ = pair.client.command("sysctl").args(["-qw", "net.ipv4.tcp_syn_linear_timeouts=0"]).output();
    let agent = Agent::start(&pair.client, &["--hooks", hooks]);
    let _exact = exact();
    let capture = Capture::start(&pair.client);

    // Each port: when its calls began and ended by our own clock.
    let mut spans = Vec::new();
    for (port, count) in [(ANSWERED, 2), (UNANSWERED, 1), (REFUSED, 3)] {
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
    assert_eq!((unanswered.syns, unanswered.syn_retries), (1, 1), "one SYN, sent twice");

    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let told = |name, port, extra: &[(&str, &str)]| of(&metrics, name, port, extra);
        let mut wrong = Vec::new();
        for &(port, began, ended) in &spans {
            let success = told("peer_last_success_timestamp_seconds", port, &[]);
            let failure = told("peer_last_failure_timestamp_seconds", port, &[]);
            let lost = told("peer_connect_failure_seconds_total", port, &[]);
            // A SYN that was sent again took a second at least.
            let least = if port == UNANSWERED { 1.0 } else { 0.0 };
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
        let failures = |port, reason| told("peer_connect_failures_total", port, &[("reason", reason)]);
        let counts = (failures(UNANSWERED, "timeout"), failures(REFUSED, "refused"));
        if counts != (Some(1.0), Some(3.0)) {
            wrong.push(format!("{counts:?}"));
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
    let quiet = format!(
        "table ip lab {{ chain quiet {{ type filter hook input priority filter; tcp dport {UNANSWERED} drop; }}\n}}\n"
    );
    pair.server.feed("nft", &["-f", "-"], &quiet);
    let config = Config::new("[census]\nstalled_after = \"2s\"\n");
    let agent = Agent::start(&pair.client, &config.args());
    let _exact = exact();
    // Server, client, how many, and how many of them wait.
    let plays: [(u16, &str, &str, usize, u64); 5] = [
        (5_210, "hold", "write,hold", 4, 4),                 // asked, not answered
        (5_211, "peek,write,hold", "write,peek,hold", 3, 0), // answered, idle
        (5_212, "hold", "hold", 2, 2),                       // a server that speaks first, and does not
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
