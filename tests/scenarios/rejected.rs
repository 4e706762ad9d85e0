//! connect() that a firewall of the same host rejects at once, as it does for a Kubernetes service without endpoints.

use std::time::Duration;

use lab::{
    agent::{Agent, Series},
    attaching::exact,
    inconclusive::{self, Count},
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
    Staged 5 s:
        an_icmp_error_at_once_is_told_by_its_kind,
        an_icmp_error_at_once_by_classic_hooks,
        an_icmpv6_error_at_once_is_told_by_its_kind;
}

/// What the firewall answers at a port, in its own words for IPv4 and IPv6; what the program is told; what we tell.
const ANSWERS: [(u16, [&str; 2], &str, &str); 3] = [
    (5_400, ["icmp type port-unreachable", "icmpv6 type port-unreachable"], "Connection refused", "refused"),
    (
        5_401,
        ["icmp type host-unreachable", "icmpv6 type addr-unreachable"],
        "No route to host",
        "unreachable",
    ),
    (5_402, ["tcp reset", "tcp reset"], "Connection refused", "refused"),
];

const COUNT: usize = 5;

const REASONS: [&str; 7] = ["timeout", "refused", "unreachable", "reset", "other", "no_port", "abandoned"];

fn an_icmp_error_at_once_is_told_by_its_kind() {
    rejected("auto", Family::V4);
}

fn an_icmp_error_at_once_by_classic_hooks() {
    rejected("tracepoint", Family::V4);
}

fn an_icmpv6_error_at_once_is_told_by_its_kind() {
    rejected("auto", Family::V6);
}

fn rejected(hooks: &str, family: Family) {
    let Pair { client, .. } = &pair();
    let to = Pair::server_address(family);
    let rules: Vec<String> = ANSWERS
        .iter()
        .map(|(port, words, ..)| {
            format!("tcp dport {port} reject with {}", words[usize::from(family == Family::V6)])
        })
        .collect();
    let table = format!(
        "table inet lab {{ chain output {{ type filter hook output priority filter;\n{}\n}}\n}}\n",
        rules.join("\n")
    );
    client.feed("nft", &["-f", "-"], &table);
    let agent = Agent::start(client, &["--hooks", hooks]);
    let _exact = exact();
    for (port, _, told, _) in ANSWERS {
        let mut tried = Traffic::attempt(client, to, port, COUNT);
        let failed = tried.connected();
        assert!(
            failed.len() == COUNT && failed.iter().all(|failure| failure.contains(told)),
            "port {port}: the program was told {failed:?}"
        );
        tried.finish();
    }
    let peer = to.to_string();
    inconclusive::hold(&agent, Duration::from_secs(10), |metrics| {
        let of_port = |(port, _, _, right): (u16, _, _, &'static str)| {
            REASONS.map(|reason| {
                let (port, truth) = (port.to_string(), if reason == right { COUNT as u64 } else { 0 });
                let series = Series { peer: &peer, port: &port, direction: "outbound" };
                let told = metrics.peer("peer_connect_failures_total", series, &[("reason", reason)]);
                Count { what: format!("port {port}: connects that fail as {reason}"), told, truth }
            })
        };
        ANSWERS.into_iter().flat_map(of_port).collect()
    });
}
