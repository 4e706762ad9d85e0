//! Connections that are older than the agent keep their direction, also when their listener is gone.

use std::{net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Series},
    attaching::exact,
    inconclusive,
    topology::{Family, Pair, pair},
    traffic::Traffic,
    truth, within,
};

lab::scenarios! {
    Staged 5 s:
        connections_older_than_the_agent_by_iterator,
        connections_of_a_port_that_connect_might_have_chosen,
        connections_older_than_the_agent_by_netlink_ipv6,
        connections_that_outlived_their_listener_by_iterator_ipv6,
        connections_that_outlived_their_listener_by_netlink;
}

const INBOUND: usize = 4;
const OUTBOUND: usize = 3;
const SERVICE: u16 = 7001;
const BACKEND: u16 = 7002;

/// Two of the ports that the kernel chooses from for a connect().
const CHOSEN: [u16; 2] = [40_000, 40_001];

/// A listener on such a port that is gone when the agent starts, as after a passive FTP transfer: its connections are inbound, and those of
/// a client that the kernel gave another port, or that bound one, are outbound.
fn connections_of_a_port_that_connect_might_have_chosen() {
    let Pair { client: remote, server: ours } = &pair();
    let (from, to) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    ours.sysctl("net.ipv4.ip_local_port_range", &format!("{} {}", CHOSEN[0], CHOSEN[0] + 9));
    let accepted = Traffic::serve(ours, to, CHOSEN[0], INBOUND, "hold");
    let mut callers = Traffic::connect(remote, to, CHOSEN[0], INBOUND, "hold");
    callers.connected();
    let backends = [BACKEND, BACKEND + 1].map(|port| Traffic::serve(remote, from, port, 1, "hold"));
    let mut chosen = Traffic::connect(ours, from, BACKEND, 1, "hold");
    let mut bound = Traffic::connect_from(ours, CHOSEN[1], from, BACKEND + 1, "hold");
    assert_eq!((chosen.connected().len(), bound.connected().len()), (0, 0));

    let agent = Agent::start(ours, &["--census", "iter"]);
    let _exact = exact();
    let peers = |sockets: truth::Sockets| -> Vec<(u16, String, u64)> {
        let of_peer = sockets.into_iter().filter(|((peer, ..), _)| *peer == from);
        of_peer.map(|((_, port, state), count)| (port, state, count)).collect()
    };
    let metrics = agent.scrape();
    let established = |port, count: usize| (port, "established".to_owned(), count as u64);
    assert_eq!(peers(metrics.sockets("inbound")), [established(CHOSEN[0], INBOUND)]);
    assert_eq!(peers(metrics.sockets("outbound")), [established(BACKEND, 1), established(BACKEND + 1, 1)]);
    drop((accepted, callers, backends, chosen, bound));
}

fn older_than_the_agent(census: &str, family: Family, listening: bool) {
    let pair = pair();
    let (client, server) = (Pair::client_address(family), Pair::server_address(family));
    let any = IpAddr::from([0_u16; 8]);

    let mut accepted = Traffic::serve(&pair.server, any, SERVICE, INBOUND, "gate,close");
    let mut callers = Traffic::connect(&pair.client, server, SERVICE, INBOUND, "read,close");
    callers.connected();
    let backend = Traffic::serve(&pair.client, client, BACKEND, OUTBOUND, "read,close");
    let mut calls = Traffic::connect(&pair.server, client, BACKEND, OUTBOUND, "gate,close");
    calls.connected();
    // The first listener closed when it had all its connections; this one, if any, is there while the agent starts.
    let listener = listening.then(|| Traffic::serve(&pair.server, any, SERVICE, 1, "hold"));
    let agent = Agent::start(&pair.server, &["--census", census]);
    drop(listener);
    let _exact = exact();

    let (peer, service, backend_port) = (client.to_string(), SERVICE.to_string(), BACKEND.to_string());
    let inbound = Series { peer: &peer, port: &service, direction: "inbound" };
    let outbound = Series { peer: &peer, port: &backend_port, direction: "outbound" };
    let established = |series| agent.scrape().peer("peer_sockets", series, &[("state", "established")]);
    assert_eq!((established(inbound), established(outbound)), (INBOUND as u64, OUTBOUND as u64));

    accepted.open_gate();
    accepted.finish();
    callers.finish();
    calls.open_gate();
    calls.finish();
    backend.finish();
    let compared = within(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let closed = |series| metrics.peer("peer_closes_total", series, &[("by", "local")]);
        let time_wait = |series| metrics.peer("peer_sockets", series, &[("state", "time_wait")]);
        // ss knows how many TIME_WAITs there are: on two CPUs a late segment may have met no socket any more, and the RST
        // that answered it ended one.
        let ss =
            |sockets: truth::Sockets, port| sockets.get(&(client, port, "time_wait".to_owned())).copied();
        let left_in = ss(truth::sockets_by_local_port(&pair.server), SERVICE).unwrap_or_default();
        let left_out = ss(truth::sockets_by_remote_port(&pair.server), BACKEND).unwrap_or_default();
        let got = (closed(inbound), closed(outbound), time_wait(inbound), time_wait(outbound));
        let right = (INBOUND as u64, OUTBOUND as u64, left_in, left_out);
        if got == right {
            Ok(left_in > 0 && left_out > 0)
        } else {
            Err(format!("{got:?}, expected {right:?}"))
        }
    });
    // Where each was ended by a RST, which happens on a slow machine, nobody keeps a TIME_WAIT, and nothing was compared.
    if !compared.expect("the figures of ss") {
        inconclusive::note("TIME_WAIT".to_owned(), "ss knows of none".to_owned());
    }
    let metrics = agent.scrape();
    // Nobody knows when they began, and the agent does not invent it.
    assert_eq!(metrics.peer("peer_connection_seconds", inbound, &[]), 0);
    assert_eq!(metrics.peer("peer_connections_total", inbound, &[]), 0);
    assert_eq!(
        metrics.sum("peer_closes_total", "outbound", Some(&peer)),
        OUTBOUND as u64,
        "nothing is booked in the wrong direction"
    );
}

fn connections_older_than_the_agent_by_iterator() {
    older_than_the_agent("iter", Family::V4, true);
}

fn connections_older_than_the_agent_by_netlink_ipv6() {
    older_than_the_agent("netlink", Family::V6, true);
}

fn connections_that_outlived_their_listener_by_iterator_ipv6() {
    older_than_the_agent("iter", Family::V6, false);
}

fn connections_that_outlived_their_listener_by_netlink() {
    older_than_the_agent("netlink", Family::V4, false);
}
