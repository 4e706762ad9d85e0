//! Several addresses of ours, as on a server behind a balancer in DSR mode: a port that is taken towards one is free towards the others.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Config},
    attaching::exact,
    eventually,
    host::Host,
    topology::{Family, Pair, address, pair},
    traffic::{First, Traffic},
    truth,
};

lab::scenarios! {
    Staged 10 s:
        ports_of_a_peer_are_counted_for_each_address_of_ours,
        ports_of_ours_are_counted_for_each_source_address;
}

const PORT: u16 = 443;

/// Ports that connect() chooses from.
const RANGE: &str = "40000 40499";
const PORTS: f64 = 500.0;

/// For how long connections are made, and how many a second to the fullest address and to each other one.
const SECONDS: usize = 2;
const MOST: f64 = 70.0;
const FEWER: f64 = 50.0;

/// By which protocol, how the agent counts, and which addresses the server has.
const PLAYS: [(Family, &str, &[u8]); 4] = [
    (Family::V4, "iter", &[2, 3]),
    (Family::V4, "iter", &[2, 3, 4, 5]),
    (Family::V6, "iter", &[2, 3]),
    (Family::V4, "netlink", &[2, 3]),
];

fn add_address(host: &Host, family: Family, number: u8) {
    match family {
        Family::V4 => host.sh(&format!("ip addr add {}/24 dev eth0", address(family, number))),
        Family::V6 => host.sh(&format!("ip addr add {}/64 dev eth0 nodad", address(family, number))),
    };
}

/// What the agent tells of the only account there is towards the port: the share of its pool that is taken, of which address of ours,
/// and of how many.
fn told(agent: &Agent<'_>, peer: &str) -> Option<(f64, IpAddr, u64)> {
    let ratio = agent.scrape().value("peer_pool_used_ratio", &[("peer", peer)])?;
    let (_, text) = agent.get(&format!("/api/v1/peers/{peer}"))?;
    let accounts: serde_json::Value = serde_json::from_str(&text).ok()?;
    let pool = &accounts.as_array()?.iter().find(|account| account["port"] == PORT)?["pool"];
    let local = pool["local_address"].as_str()?.parse().ok()?;
    Some(((ratio * PORTS).round(), local, pool["local_addresses"].as_u64()?))
}

/// Holds what the agent tells against ss; returns the sockets of each address of ours.
fn compare(agent: &Agent<'_>, host: &Host, peer: &str) -> BTreeMap<IpAddr, u64> {
    let mut sockets = BTreeMap::new();
    eventually(Duration::from_secs(15), || {
        sockets = truth::sockets_by_local_address(host, PORT);
        let (fullest, most) = sockets.iter().max_by_key(|(_, count)| **count).ok_or("ss knows none")?;
        let right = Some((*most as f64, *fullest, sockets.len() as u64));
        let told = told(agent, peer);
        if told == right { Ok(()) } else { Err(format!("{told:?}, and by ss {right:?}: {sockets:?}")) }
    });
    sockets
}

fn ports_of_a_peer_are_counted_for_each_address_of_ours() {
    let config = |family, source| {
        let peer = Pair::client_address(family);
        Config::new(&format!(
            "[census]\nsource = \"{source}\"\n[[peer]]\nname = \"nat\"\ncidrs = [\"{peer}\"]\nport_pool = \"40000-40499\"\n"
        ))
    };
    let plays = PLAYS.map(|(family, source, numbers)| (pair(), config(family, source), family, numbers));
    let agents: Vec<Agent<'_>> =
        plays.iter().map(|(pair, config, ..)| Agent::start(&pair.server, &config.args())).collect();
    let _exact = exact();
    for (agent, (pair, _, family, numbers)) in agents.iter().zip(&plays) {
        pair.client.sysctl("net.ipv4.ip_local_port_range", RANGE);
        numbers[1..].iter().for_each(|&number| add_address(&pair.server, *family, number));
        let any = if *family == Family::V4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let _server = Traffic::welcome(&pair.server, any, PORT, 60, First::Server);
        let rate = |place| if place == 1 { MOST } else { FEWER };
        let to = |number| address(*family, number);
        let mut clients: Vec<Traffic> = (0..)
            .zip(*numbers)
            .map(|(place, &number)| {
                Traffic::pace(&pair.client, to(number), PORT, SECONDS, rate(place), First::Server)
            })
            .collect();
        for client in &mut clients {
            client.paced();
        }
        let sockets = compare(agent, &pair.server, "nat");
        assert_eq!(sockets.len(), numbers.len(), "{sockets:?}");
        assert!(sockets.values().all(|&count| count > 40), "{sockets:?}");
        // All of them together are most of the pool where the server has four addresses, and nobody is alarmed.
        let (_, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
        assert!(!alerts.contains("TimeWaitNearPoolLimit"), "{alerts}");
    }
}

fn ports_of_ours_are_counted_for_each_source_address() {
    let pair = pair();
    let server = Pair::server_address(Family::V4);
    let own = [11, 12].map(|number| {
        add_address(&pair.client, Family::V4, number);
        address(Family::V4, number)
    });
    pair.client.sysctl("net.ipv4.ip_local_port_range", RANGE);
    let agent = Agent::start(&pair.client, &[]);
    let _exact = exact();
    let _server = Traffic::welcome(&pair.server, server, PORT, 60, First::Client);
    let IpAddr::V4(first) = own[0] else { panic!("IPv4") };
    let mut load = Traffic::load(&pair.client, first, own.len(), server, PORT, First::Client);
    load.rate(2.0 * FEWER);
    Traffic::pace(&pair.client, server, PORT, SECONDS, MOST, First::Client).paced();
    load.quiet();
    let sockets = compare(&agent, &pair.client, &server.to_string());
    assert_eq!(sockets.len(), 3, "{sockets:?}");
    assert!(sockets.values().all(|&count| count > 40), "{sockets:?}");
}
