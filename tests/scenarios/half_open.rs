//! SYNs on connections that are still open here: every state that has them, and every way such an attempt can end.

use std::{net::SocketAddr, thread, time::Duration};

use lab::{
    agent::{Agent, Metrics, Series},
    attaching::exact,
    capture::{Capture, Wire},
    eventually, half_open,
    host::{Host, RESETS},
    inconclusive::{self, Count},
    story::Story,
    suite,
    topology::{Family, Pair, pair},
    traffic::Traffic,
    truth,
};

lab::scenarios! {
    Staged 15 s: each_open_state_counts_its_syns;
    Staged 60 s: the_story_of_a_balancer_that_forgets;
    Staged 15 s: forged_segments_on_other_4_tuples_move_nothing;
    Staged 15 s: each_end_of_an_attempt_on_an_open_connection;
}

const COUNT: usize = 4;
const N: u64 = COUNT as u64;

/// Above it the kernel answers out-of-window segments again (tcp_invalid_ratelimit is 500 ms).
const PAUSE: Duration = Duration::from_millis(600);

/// One state of the old connection: how the server and the client come to it, and whether the client falls silent in between.
struct Open {
    state: &'static str,
    port: u16,
    server: &'static str,
    client: &'static str,
    silent: bool,
}

const STATES: [Open; 5] = [
    Open { state: "established", port: 7_110, server: "hold", client: "hold", silent: false },
    Open { state: "close_wait", port: 7_111, server: "hold", client: "shut,hold", silent: false },
    Open { state: "fin_wait2", port: 7_112, server: "shut,hold", client: "hold", silent: false },
    Open { state: "fin_wait1", port: 7_113, server: "gate,shut,hold", client: "hold", silent: true },
    Open { state: "last_ack", port: 7_114, server: "gate,close,hold", client: "shut,hold", silent: true },
];

/// Starts an agent on the server, if this kernel tells whose SYNs meet an open connection (6.11 on). Where it does not, no figure may
/// pretend that there were none.
fn start(pair: &Pair) -> Option<Agent<'_>> {
    let agent = Agent::start(&pair.server, &[]);
    let is_told = agent.scrape().value("challenged_drift_syns", &[]).is_some();
    assert_eq!(is_told, lab::kernel() >= (6, 11));
    assert_eq!(agent.scrape().body.contains("tcpwarden_peer_challenged_"), is_told);
    is_told.then_some(agent)
}

/// Source ports of a host's connections to a port.
fn sources(server: &Host, port: u16) -> Vec<u16> {
    let text = server.sh(&format!("ss -Htan state connected sport = :{port}"));
    let remote = |line: &str| line.split_whitespace().last()?.rsplit_once(':')?.1.parse().ok();
    text.lines().filter_map(remote).collect()
}

fn inbound<'a>(peer: &'a str, port: &'a str) -> Series<'a> {
    Series { peer, port, direction: "inbound" }
}

/// What the agent tells of the attempts on open connections of a port, against what was played.
fn ends(metrics: &Metrics, peer: &str, port: u16, truth: [u64; 3]) -> Vec<Count> {
    let port = port.to_string();
    let told = |end| metrics.peer("peer_challenged_attempts_total", inbound(peer, &port), &[("end", end)]);
    ["reset", "retry", "gave_up"]
        .into_iter()
        .zip(truth)
        .map(|(end, truth)| Count {
            what: format!("port {port}: attempts that end by {end}"),
            told: told(end),
            truth,
        })
        .collect()
}

/// The agent's figures of all SYNs on open connections against the kernel's own, and SYNs sent again against the wire.
fn totals(metrics: &Metrics, server: &Host, wire: &Wire, peer: &str, ports: &[u16]) -> Vec<Count> {
    let address = Pair::server_address(if peer.contains(':') { Family::V6 } else { Family::V4 });
    let kernel = truth::nstat(server, "TcpExtTCPSYNChallenge");
    let mut counts = vec![
        Count {
            what: "SYNs on open connections".to_owned(),
            told: metrics.sum_of("peer_challenged_syns_total"),
            truth: kernel,
        },
        Count {
            what: "the kernel's own count, as told".to_owned(),
            told: metrics.sum_of("syn_challenges_total"),
            truth: kernel,
        },
    ];
    counts.extend(ports.iter().map(|port| Count {
        what: format!("port {port}: SYNs sent again"),
        told: metrics.peer("peer_syn_retries_total", inbound(peer, &port.to_string()), &[]),
        truth: wire.service(address, *port).syn_retries,
    }));
    counts
}

fn hold_against(agent: &Agent<'_>, counts: impl Fn(&Metrics) -> Vec<Count>) {
    if inconclusive::hold(agent, Duration::from_secs(20), counts) {
        let drift = agent.scrape().value("challenged_drift_syns", &[]);
        assert_eq!(drift, Some(0.0), "against the kernel's own count");
    }
}

fn each_open_state_counts_its_syns() {
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let Some(agent) = start(&pair) else { return };
    let _exact = exact();
    pair.client.lose(RESETS);
    let all = Capture::start(&pair.server);
    let mut open = Vec::new();
    for Open { state, port, server: serves, client: connects, silent } in &STATES {
        let mut serving = Traffic::serve(&pair.server, server, *port, COUNT, serves);
        let mut connecting = Traffic::connect(&pair.client, server, *port, COUNT, connects);
        assert_eq!(connecting.connected(), [] as [&str; 0]);
        if *silent {
            thread::sleep(PAUSE);
            pair.client.lose(&format!("tcp dport {port} tcp flags & syn == 0"));
            serving.open_gate();
        }
        let key = (client, *port, (*state).to_owned());
        eventually(Duration::from_secs(5), || {
            let sockets = truth::sockets_by_local_port(&pair.server);
            if sockets.get(&key) == Some(&N) { Ok(()) } else { Err(format!("{key:?}: {sockets:?}")) }
        });
        open.push((serving, connecting));
    }
    let first = &STATES[0];
    for Open { port, .. } in &STATES {
        for (source, sequence) in sources(&pair.server, *port).into_iter().zip([1_u32, 7, 1 << 20, 1 << 31]) {
            let from = SocketAddr::new(client, source);
            // Twice at once, of which the kernel answers one; and once more.
            Traffic::syns(&pair.client, from, server, *port, sequence, 2);
        }
    }
    thread::sleep(PAUSE);
    for Open { port, .. } in &STATES {
        for (source, sequence) in sources(&pair.server, *port).into_iter().zip([1_u32, 7, 1 << 20, 1 << 31]) {
            Traffic::syns(&pair.client, SocketAddr::new(client, source), server, *port, sequence, 1);
        }
    }
    thread::sleep(PAUSE);
    let wire = all.stop();

    // The copy of a SYN that comes late, when the connection is established: no attempt to open another.
    let late = Capture::start(&pair.server);
    for (from, isn) in wire.first_syns(server, first.port) {
        Traffic::syns(&pair.client, from, server, first.port, isn, 1);
    }
    let late = late.stop();
    assert_eq!(late.service(server, first.port).syns, N);

    let peer = client.to_string();
    hold_against(&agent, |metrics| {
        let mut counts = totals(metrics, &pair.server, &wire, &peer, &[]);
        for Open { state, port, .. } in &STATES {
            let copies = if *port == first.port { N } else { 0 };
            let port_label = port.to_string();
            let told =
                |family, labels: &[(&str, &str)]| metrics.peer(family, inbound(&peer, &port_label), labels);
            let sum: u64 =
                STATES.iter().map(|open| told("peer_challenged_syns_total", &[("state", open.state)])).sum();
            let of_state = told("peer_challenged_syns_total", &[("state", state)]);
            let count = |what: &str, told, truth| Count { what: format!("port {port}: {what}"), told, truth };
            counts.extend([
                count(state, of_state, 3 * N + copies),
                count("in any state", sum, 3 * N + copies),
                count("late copies", told("peer_challenged_duplicates_total", &[]), copies),
                count("sent again", told("peer_syn_retries_total", &[]), 2 * N + copies),
            ]);
            counts.extend(ends(metrics, &peer, *port, [0, 0, N]));
        }
        counts
    });
}

/// Connections whose client forgets them without a word, and the source ports it then uses again.
fn forgotten(pair: &Pair, port: u16, server_then: &str) -> (Traffic, Vec<u16>) {
    let server = Pair::server_address(Family::V6);
    let serving = Traffic::serve(&pair.server, server, port, COUNT, server_then);
    let mut connecting = Traffic::connect(&pair.client, server, port, COUNT, "gate,linger0,close");
    assert_eq!(connecting.connected(), [] as [&str; 0]);
    eventually(Duration::from_secs(5), || {
        let open = sources(&pair.server, port).len();
        if open == COUNT { Ok(()) } else { Err(format!("{open} are open")) }
    });
    connecting.open_gate();
    connecting.finish();
    let ports = sources(&pair.server, port);
    assert_eq!(ports.len(), COUNT, "the server still has them");
    (serving, ports)
}

fn again(pair: &Pair, port: u16, sources: &[u16]) -> Vec<Traffic> {
    let server = Pair::server_address(Family::V6);
    sources.iter().map(|&from| Traffic::connect_from(&pair.client, from, server, port, "close")).collect()
}

fn each_end_of_an_attempt_on_an_open_connection() {
    const RESET: u16 = 7_120;
    const RETRY: u16 = 7_121;
    const GAVE_UP: u16 = 7_122;
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V6), Pair::server_address(Family::V6));
    let Some(agent) = start(&pair) else { return };
    let _exact = exact();
    pair.client.sysctl("net.ipv4.tcp_syn_retries", "2");
    if pair.client.sh("ls /proc/sys/net/ipv4").contains("tcp_syn_linear_timeouts") {
        pair.client.sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    }
    pair.client.lose(RESETS);
    let all = Capture::start(&pair.server);
    let (_reset, reset) = forgotten(&pair, RESET, "hold");
    let (mut retried, retry) = forgotten(&pair, RETRY, "gate,linger0,close");
    let (_gave_up, gave_up) = forgotten(&pair, GAVE_UP, "hold");
    let serving = |port| Traffic::serve(&pair.server, server, port, COUNT, "read,close");
    let listening = [serving(RESET), serving(RETRY), serving(GAVE_UP)];

    // No RST arrives: of two, one gets in when the old connection has ended otherwise.
    let mut failing = again(&pair, GAVE_UP, &gave_up);
    let mut late = again(&pair, RETRY, &retry);
    thread::sleep(Duration::from_millis(300));
    retried.open_gate();
    let succeeded = |attempts: &mut Vec<Traffic>| {
        attempts.iter_mut().map(Traffic::connected).filter(Vec::is_empty).count()
    };
    assert_eq!(succeeded(&mut late), COUNT);
    assert_eq!(succeeded(&mut failing), 0);
    // The client's RST arrives and ends the old connection.
    pair.client.lose_nothing();
    assert_eq!(succeeded(&mut again(&pair, RESET, &reset)), COUNT);
    let wire = all.stop();
    drop(listening);

    let peer = client.to_string();
    hold_against(&agent, |metrics| {
        let mut counts = totals(metrics, &pair.server, &wire, &peer, &[RESET, RETRY, GAVE_UP]);
        counts.extend(ends(metrics, &peer, RESET, [N, 0, 0]));
        counts.extend(ends(metrics, &peer, RETRY, [0, N, 0]));
        counts.extend(ends(metrics, &peer, GAVE_UP, [0, 0, N]));
        counts
    });
}

fn forged_segments_on_other_4_tuples_move_nothing() {
    const PORT: u16 = 7_130;
    const FORGED: u16 = 50;
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let Some(agent) = start(&pair) else { return };
    let _exact = exact();
    // Nothing answers for the forged ports: halves of handshakes stay.
    let deaf = format!(
        "table inet lab {{ chain deaf {{ type filter hook input priority filter; tcp dport 20000-{} drop; }}\n}}\n",
        20_000 + FORGED
    );
    pair.client.feed("nft", &["-f", "-"], &deaf);
    let _serving = Traffic::serve(&pair.server, server, PORT, COUNT, "hold");
    let mut connecting = Traffic::connect(&pair.client, server, PORT, COUNT, "hold");
    assert_eq!(connecting.connected(), [] as [&str; 0]);
    let _listening = Traffic::serve(&pair.server, server, PORT, COUNT, "hold");
    let open = sources(&pair.server, PORT);
    let others = (20_000..20_000 + FORGED).filter(|port| !open.contains(port));
    for port in others {
        // Halves of handshakes, repeated, and RSTs that fit nothing.
        Traffic::syns(&pair.client, SocketAddr::new(client, port), server, PORT, 77, 2);
        Traffic::resets(&pair.client, SocketAddr::new(client, port), server, PORT, 4_000_000_000, 2);
    }
    for port in &open {
        // Not the number that the connection expects: the kernel does not believe them.
        Traffic::resets(&pair.client, SocketAddr::new(client, *port), server, PORT, 4_000_000_000, 5);
    }
    thread::sleep(Duration::from_secs(2));
    assert_eq!(sources(&pair.server, PORT).iter().filter(|port| open.contains(port)).count(), COUNT);
    let metrics = agent.scrape();
    assert_eq!(truth::nstat(&pair.server, "TcpExtTCPSYNChallenge"), 0);
    for family in
        ["peer_challenged_syns_total", "peer_challenged_duplicates_total", "peer_challenged_attempts_total"]
    {
        assert_eq!(metrics.sum_of(family), 0, "{}", metrics.lines_with(&["challenged"]));
    }
    assert_eq!(metrics.value("challenged_drift_syns", &[]), Some(0.0));
}

fn the_story_of_a_balancer_that_forgets() {
    if lab::kernel() < (6, 11) {
        suite::ignore("before 6.11 the kernel does not tell whose SYNs meet an open connection");
        return;
    }
    let mut story = Story::quiet();
    half_open::play(&mut story);
    story.end();
}
