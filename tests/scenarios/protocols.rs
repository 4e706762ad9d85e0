//! Sockets whose `sk_prot` is not TCP's own: listeners and clients of MPTCP (what Go's listeners are since 1.24), listeners and connections in
//! a sockmap, and kernel TLS. `ss` and the wire show the same of them as of any other.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use lab::{
    agent::{Agent, Series},
    attaching::exact,
    capture::Capture,
    eventually,
    host::{Host, RESETS},
    inconclusive, suite,
    topology::{Family, Pair, pair},
    traffic::{Kind, Traffic},
    truth, within,
};

lab::scenarios! {
    Staged 15 s:
        mptcp_is_counted_like_tcp,
        a_listener_in_a_sockmap_is_counted_like_any;
    Staged 5 s:
        connections_in_a_sockmap_are_counted_like_any,
        connections_with_kernel_tls_are_counted_like_any;
}

/// Closed here; open; asked for and not answered; ours, closed here; ours, open.
const CLOSED: u16 = 7_300;
const OPEN: u16 = 7_301;
const REQUESTED: u16 = 7_302;
const OURS_CLOSED: u16 = 7_303;
const OURS_OPEN: u16 = 7_304;

const CONNECTIONS: usize = 12;
const FEW: usize = 4;

/// Above it the kernel answers the segments of a timewait socket or a request again (tcp_invalid_ratelimit is 500 ms).
const PAUSE: Duration = Duration::from_millis(600);

fn mptcp_is_counted_like_tcp() {
    if !Path::new("/proc/sys/net/mptcp").exists() {
        return suite::ignore("this kernel has no MPTCP");
    }
    // To the kernel a client that speaks plain TCP and one that speaks MPTCP leave other sockets behind.
    for client in [Kind::Tcp, Kind::Mptcp] {
        is_counted_like_tcp(Kind::Mptcp, client);
    }
}

fn a_listener_in_a_sockmap_is_counted_like_any() {
    is_counted_like_tcp(Kind::Sockmap, Kind::Tcp);
}

/// TIME_WAIT and FIN_WAIT2, refused reuse, SYN_RECV, open and outbound sockets of a host whose listeners and clients are of the kind `of`.
fn is_counted_like_tcp(of: Kind, peer: Kind) {
    let Pair { client, server } = &pair();
    let (from, to) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    // Nobody on the client's side stands behind the forged SYNs; its kernel would reset what answers them.
    client.lose(RESETS);
    let agent = Agent::start(server, &[]);
    let _exact = exact();
    let all = Capture::start(server);

    let before = Capture::start(server);
    let closing = Traffic::serve_as(of, server, to, CLOSED, CONNECTIONS, "close");
    let mut over = Traffic::connect_as(peer, client, to, CLOSED, CONNECTIONS, "read,close");
    over.connected();
    over.finish();
    closing.finish();
    let mut held = vec![
        Traffic::serve_as(of, server, to, OPEN, FEW, "hold"),
        Traffic::connect_as(peer, client, to, OPEN, FEW, "hold"),
        // It stays for the SYNs that follow.
        Traffic::serve_as(of, server, to, CLOSED, 1, "hold"),
        Traffic::serve_as(of, server, to, REQUESTED, 1, "hold"),
    ];
    let waiting = Traffic::serve_as(peer, client, from, OURS_CLOSED, FEW, "read,close");
    let mut ours = Traffic::connect_as(of, server, from, OURS_CLOSED, FEW, "close");
    ours.connected();
    ours.finish();
    waiting.finish();
    held.push(Traffic::serve_as(peer, client, from, OURS_OPEN, FEW, "hold"));
    let mut ours = Traffic::connect_as(of, server, from, OURS_OPEN, FEW, "hold");
    ours.connected();
    held.push(ours);

    // SYNs that meet TIME_WAIT and are too old: a bare ACK, and no answer to one that follows at once. And SYNs for which a request is
    // made, sent again while it waits.
    let time_waits: BTreeMap<SocketAddr, u32> = before.stop().expected(to, CLOSED);
    assert_eq!(time_waits.len(), CONNECTIONS, "each connection has a port of its own");
    let requests: Vec<SocketAddr> =
        (0..FEW).map(|n| SocketAddr::new(from, 60_000 + u16::try_from(n).expect("few"))).collect();
    for (source, expected) in &time_waits {
        Traffic::syns(client, *source, to, CLOSED, expected.wrapping_sub(10_000), 2);
    }
    for source in &requests {
        Traffic::syns(client, *source, to, REQUESTED, 1_000, 2);
    }
    thread::sleep(PAUSE);
    for source in &requests {
        Traffic::syns(client, *source, to, REQUESTED, 1_000, 1);
    }
    eventually(Duration::from_secs(10), || {
        let (theirs, ours) = ([CLOSED, OPEN, REQUESTED], [OURS_CLOSED, OURS_OPEN]);
        agrees(server, &agent, &theirs, &ours, &["time_wait", "established"])?;
        let requests =
            truth::sockets_by_local_port(server).get(&(from, REQUESTED, "syn_recv".to_owned())).copied();
        if requests == Some(FEW as u64) { Ok(()) } else { Err(format!("ss shows {requests:?} requests")) }
    });
    let wire = all.stop();
    let reuses = wire.reuses(from, to, CLOSED);
    assert_eq!(reuses.refused(), 2 * CONNECTIONS as u64, "each forged SYN met a TIME_WAIT");
    let requested = wire.service(to, REQUESTED);
    assert_eq!(requested.syn_retries, 2 * FEW as u64);
    let peer = from.to_string();
    let compared = within(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let told = metrics.reuses(&peer, CLOSED);
        let port = REQUESTED.to_string();
        let series = Series { peer: &peer, port: &port, direction: "inbound" };
        let retries = metrics.peer("peer_syn_retries_total", series, &[]);
        if told == reuses && retries == requested.syn_retries {
            Ok(())
        } else {
            Err(Box::new((told, retries)))
        }
    });
    if let Err(wrong) = compared {
        let (told, retries) = *wrong;
        let retries = inconclusive::Count {
            what: "repeated SYNs of requests".to_owned(),
            told: retries,
            truth: requested.syn_retries,
        };
        inconclusive::compare(reuses.counts(&told).into_iter().chain([retries]), &agent.scrape())
            .unwrap_or_else(|complaint| panic!("{of:?}, {peer}: {complaint}"));
    }
    drop(held);
}

fn connections_in_a_sockmap_are_counted_like_any() {
    changed_connections_are_counted("sockmap");
}

fn connections_with_kernel_tls_are_counted_like_any() {
    // Not every kernel has it, some as a module, and none tells a namespace of its own.
    let _ = Command::new("modprobe").args(["-q", "tls"]).status();
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").expect("5.10 and later tell");
    if available.split_whitespace().any(|protocol| protocol == "tls") {
        changed_connections_are_counted("ktls");
    } else {
        suite::ignore("this kernel has no TLS");
    }
}

/// Connections that become something else once they are established, by a step of both programs, ours and others', closed here and open.
fn changed_connections_are_counted(step: &str) {
    let Pair { client, server } = &pair();
    let (from, to) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let agent = Agent::start(server, &[]);
    let _exact = exact();
    let closing = Traffic::serve(server, to, CLOSED, FEW, &format!("{step},close"));
    let mut over = Traffic::connect(client, to, CLOSED, FEW, "read,close");
    over.connected();
    over.finish();
    closing.finish();
    let mut held = vec![
        Traffic::serve(server, to, OPEN, FEW, &format!("{step},hold")),
        Traffic::connect(client, to, OPEN, FEW, "hold"),
        Traffic::serve(client, from, OURS_OPEN, FEW, "hold"),
    ];
    let mut ours = Traffic::connect(server, from, OURS_OPEN, FEW, &format!("{step},hold"));
    ours.connected();
    held.push(ours);
    let waiting = Traffic::serve(client, from, OURS_CLOSED, FEW, "read,close");
    let mut ours = Traffic::connect(server, from, OURS_CLOSED, FEW, &format!("{step},close"));
    ours.connected();
    ours.finish();
    waiting.finish();
    eventually(Duration::from_secs(10), || {
        agrees(server, &agent, &[CLOSED, OPEN], &[OURS_CLOSED, OURS_OPEN], &["time_wait", "established"])
    });
    let metrics = agent.scrape();
    for (peer, port, direction) in [
        (from, CLOSED, "inbound"),
        (from, OPEN, "inbound"),
        (from, OURS_CLOSED, "outbound"),
        (from, OURS_OPEN, "outbound"),
    ] {
        let (peer, port) = (peer.to_string(), port.to_string());
        let told =
            metrics.peer("peer_connections_total", Series { peer: &peer, port: &port, direction }, &[]);
        assert_eq!(told, FEW as u64, "connections of port {port}, {direction}");
    }
    drop(held);
}

/// Whether the agent's sockets of these ports are those of `ss`, which shows some in each of these states in both directions.
fn agrees(
    host: &Host,
    agent: &Agent<'_>,
    theirs: &[u16],
    ours: &[u16],
    states: &[&str],
) -> Result<(), String> {
    let metrics = agent.scrape();
    let directions = [
        ("inbound", theirs, truth::sockets_by_local_port(host)),
        ("outbound", ours, truth::sockets_by_remote_port(host)),
    ];
    for (direction, ports, right) in directions {
        let of_ports = |sockets: truth::Sockets| -> truth::Sockets {
            sockets.into_iter().filter(|((_, port, _), _)| ports.contains(port)).collect()
        };
        let (told, right) = (of_ports(metrics.sockets(direction)), of_ports(right));
        if told != right {
            return Err(format!("{direction}: {told:?}; ss: {right:?}"));
        }
        if let Some(state) = states.iter().find(|state| !right.keys().any(|(_, _, shown)| shown == *state)) {
            return Err(format!("{direction}: ss shows no {state}: {right:?}"));
        }
    }
    match metrics.value("census_drift_sockets", &[]) {
        Some(0.0) => Ok(()),
        drift => Err(format!("the census is {drift:?} off the kernel's count")),
    }
}
