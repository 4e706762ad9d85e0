//! Every way a connection can end, with the exact counters on both sides, and the wire as the judge of every count.

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr, thread, time::Duration};

use lab::{
    agent::{Agent, Metrics, Series},
    attaching::exact,
    capture::{Capture, Service, Wire},
    eventually,
    host::Host,
    inconclusive::{self, Count},
    topology::{Family, Pair, address, pair},
    traffic::Traffic,
    truth, within,
};

lab::scenarios! {
    Staged 20 s: every_ending_through_typed_hooks_and_the_iterator;
    Nothing 20 s: every_ending_through_classic_hooks_and_netlink;
}

/// Connections per ending.
const COUNT: usize = 5;
const N: u64 = COUNT as u64;
const FEW: usize = 2;

/// One ending and what both agents must have counted afterwards.
struct Ending {
    name: &'static str,
    port: u16,
    play: fn(&Stage<'_>),
    server: Expected,
    client: Expected,
}

/// Counters of one side. What depends on timing (retries, retransmits) is not here: there the wire alone decides.
#[derive(Clone, Copy, Default)]
struct Expected {
    local: u64,
    peer: u64,
    reset: u64,
    timeout: u64,
    resets_local: u64,
    resets_peer: u64,
    reuses: u64,
    failures: &'static [(&'static str, u64)],
}

const NOTHING: Expected = Expected {
    local: 0,
    peer: 0,
    reset: 0,
    timeout: 0,
    resets_local: 0,
    resets_peer: 0,
    reuses: 0,
    failures: &[],
};

const ENDINGS: &[Ending] = &[
    Ending {
        name: "the server closes first",
        port: 5001,
        play: |stage| stage.scripts("close", "read,close"),
        server: Expected { local: N, ..NOTHING },
        client: Expected { peer: N, ..NOTHING },
    },
    Ending {
        name: "the client closes first",
        port: 5002,
        play: |stage| stage.scripts("read,close", "close"),
        server: Expected { peer: N, ..NOTHING },
        client: Expected { local: N, ..NOTHING },
    },
    Ending {
        name: "both close before they hear of the other",
        port: 5003,
        play: both_at_once,
        server: Expected { local: N, ..NOTHING },
        client: Expected { local: N, ..NOTHING },
    },
    Ending {
        name: "the client resets (linger 0)",
        port: 5004,
        play: |stage| stage.scripts("read,close", "linger0,close"),
        server: Expected { reset: N, resets_peer: N, ..NOTHING },
        client: Expected { reset: N, resets_local: N, ..NOTHING },
    },
    Ending {
        name: "the server resets (linger 0)",
        port: 5005,
        play: |stage| stage.scripts("linger0,close", "read,close"),
        server: Expected { reset: N, resets_local: N, ..NOTHING },
        client: Expected { reset: N, resets_peer: N, ..NOTHING },
    },
    Ending {
        name: "the server closes with unread data",
        port: 5006,
        play: |stage| stage.scripts("peek,close", "write,read,close"),
        server: Expected { reset: N, resets_local: N, ..NOTHING },
        client: Expected { reset: N, resets_peer: N, ..NOTHING },
    },
    Ending {
        name: "the client half-closes and still gets its answer",
        port: 5007,
        play: |stage| stage.scripts("read,write,close", "shut,read,close"),
        server: Expected { peer: N, ..NOTHING },
        client: Expected { local: N, ..NOTHING },
    },
    Ending {
        name: "the client never closes: FIN_WAIT2 times out, its late FIN meets no socket",
        port: 5008,
        play: fin_wait2_timeout,
        server: Expected { local: N, ..NOTHING },
        client: Expected { peer: N, resets_peer: N, ..NOTHING },
    },
    Ending {
        name: "a closed port",
        port: 5009,
        play: |stage| assert_eq!(stage.connect(COUNT, "close").connected().len(), COUNT),
        server: NOTHING,
        client: Expected { resets_peer: N, failures: &[("refused", N)], ..NOTHING },
    },
    Ending {
        name: "handshakes that lose the SYN-ACK at first",
        port: 5010,
        play: synack_lost,
        server: Expected { peer: 1, ..NOTHING },
        client: Expected { local: 1, ..NOTHING },
    },
    Ending {
        name: "data that is lost at first",
        port: 5011,
        play: data_lost,
        server: Expected { peer: 1, ..NOTHING },
        client: Expected { local: 1, ..NOTHING },
    },
    Ending {
        name: "a peer that vanishes: the client gives up, the server's FIN meets no socket",
        port: 5012,
        play: peer_vanishes,
        server: Expected { local: N, resets_peer: N, ..NOTHING },
        client: Expected { timeout: N, ..NOTHING },
    },
    Ending {
        name: "the same source port again",
        port: 5013,
        play: port_reused,
        server: Expected { local: 3, reuses: 2, ..NOTHING },
        client: Expected { peer: 3, reuses: 2, ..NOTHING },
    },
    Ending {
        name: "an unreachable port (ICMP)",
        port: 5014,
        play: unreachable,
        server: NOTHING,
        client: Expected { failures: &[("unreachable", FEW as u64)], ..NOTHING },
    },
];

/// Endings towards an address where nobody is; nothing of them reaches the server.
const BLACK_HOLE: u8 = 99;
const BLACK_HOLE_PORT: u16 = 5051;
const GIVEN_UP_PORT: u16 = 5052;

/// Where one ending is played.
struct Stage<'a> {
    pair: &'a Pair,
    family: Family,
    port: u16,
}

impl Stage<'_> {
    fn server_address(&self) -> IpAddr {
        Pair::server_address(self.family)
    }

    /// A server; on even ports it listens on the wildcard of both protocols, so that IPv4 comes v4-mapped.
    fn serve(&self, count: usize, steps: &str) -> Traffic {
        let any = IpAddr::from([0_u16; 8]);
        let bind = if self.port.is_multiple_of(2) { any } else { self.server_address() };
        Traffic::serve(&self.pair.server, bind, self.port, count, steps)
    }

    fn connect(&self, count: usize, steps: &str) -> Traffic {
        Traffic::connect(&self.pair.client, self.server_address(), self.port, count, steps)
    }

    fn scripts(&self, server: &str, client: &str) {
        let server = self.serve(COUNT, server);
        let client = self.connect(COUNT, client);
        client.finish();
        server.finish();
    }

    /// Until the returned guard is dropped, `host` loses the arriving packets that `matching` describes.
    fn lose<'h>(&self, host: &'h Host, matching: &str) -> Loss<'h> {
        let table = format!("lab{}{:?}", self.port, self.family).to_lowercase();
        let protocol = if self.family == Family::V4 { "ip" } else { "ip6" };
        let rules = format!(
            "add table {protocol} {table}; add chain {protocol} {table} in {{ type filter hook input priority 0; }}; \
             add rule {protocol} {table} in {matching}"
        );
        host.run("nft", [rules.as_str()]);
        Loss { host, table: format!("{protocol} {table}") }
    }
}

struct Loss<'h> {
    host: &'h Host,
    table: String,
}

impl Drop for Loss<'_> {
    fn drop(&mut self) {
        self.host.sh(&format!("nft delete table {}", self.table));
    }
}

fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

fn both_at_once(stage: &Stage<'_>) {
    let mut server = stage.serve(COUNT, "gate,close");
    let mut client = stage.connect(COUNT, "gate,close");
    client.connected();
    {
        let _server_deaf = stage.lose(&stage.pair.server, &format!("tcp dport {} drop", stage.port));
        let _client_deaf = stage.lose(&stage.pair.client, &format!("tcp sport {} drop", stage.port));
        server.open_gate();
        client.open_gate();
        server.finish();
        client.finish();
    }
}

fn fin_wait2_timeout(stage: &Stage<'_>) {
    stage.pair.server.sysctl("net.ipv4.tcp_fin_timeout", "2");
    // Their timers must not fire in one softirq: what hides one event would hide all of them.
    let mut server = stage.serve(COUNT, "gate,part");
    let mut client = stage.connect(COUNT, "hold,close");
    client.connected();
    {
        // Where the ACK of its FIN comes while close() still holds the socket, no mini-socket takes its place, and the full one ends with a
        // RST of its own (net/ipv4/tcp_input.c tcp_rcv_state_process(), net/ipv4/tcp_timer.c tcp_keepalive_timer(), 5.10 to 7.2).
        // The first FIN is lost, so that the ACK is that of a later one, which a timer sends.
        let _loss =
            stage.lose(&stage.pair.client, &format!("tcp sport {} tcp flags & fin == fin drop", stage.port));
        server.open_gate();
        server.finish();
    }
    let held = || {
        let sockets = truth::sockets_by_local_port(&stage.pair.server);
        sockets.iter().filter(|((_, port, _), _)| *port == stage.port).map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(held(), N, "the sockets wait for the client's FIN");
    eventually(Duration::from_secs(20), || match held() {
        0 => Ok(()),
        left => Err(format!("{left} sockets are left in FIN_WAIT2")),
    });
    client.finish();
}

fn synack_lost(stage: &Stage<'_>) {
    let server = stage.serve(1, "read,close");
    let loss =
        stage.lose(&stage.pair.client, &format!("tcp sport {} tcp flags syn,ack / syn,ack drop", stage.port));
    let client = stage.connect(1, "close");
    pause(1_500); // The SYN is repeated after one second, and after two.
    drop(loss);
    client.finish();
    server.finish();
}

fn data_lost(stage: &Stage<'_>) {
    let server = stage.serve(1, "read,close");
    let mut client = stage.connect(1, "gate,write,gate,close");
    client.connected();
    let loss = stage.lose(&stage.pair.server, &format!("tcp dport {} drop", stage.port));
    client.open_gate();
    pause(1_000);
    drop(loss);
    client.open_gate();
    client.finish();
    server.finish();
}

fn peer_vanishes(stage: &Stage<'_>) {
    let server = stage.serve(COUNT, "hold,close");
    let mut client = stage.connect(COUNT, "timeout1,gate,write,read,close");
    client.connected();
    {
        let _deaf = stage.lose(&stage.pair.server, &format!("tcp dport {} drop", stage.port));
        client.open_gate();
        client.finish();
    }
    server.finish();
    // The server's FIN is answered by a RST while it is in FIN_WAIT1.
    pause(200);
}

/// Which the kernel chooses for nobody else.
const SOURCE_PORT: u16 = 40_000;

fn port_reused(stage: &Stage<'_>) {
    let host = &stage.pair.client;
    for _ in 0..3 {
        let server = stage.serve(1, "close");
        let client =
            Traffic::connect_from(host, SOURCE_PORT, stage.server_address(), stage.port, "read,close");
        client.finish();
        server.finish();
        // The client's socket outlives its process until its FIN is acknowledged, and keeps the 4-tuple.
        eventually(Duration::from_secs(20), || {
            let left = host.sh(&format!("ss -Htan sport = :{SOURCE_PORT} and dport = :{}", stage.port));
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}

fn unreachable(stage: &Stage<'_>) {
    let reject = match stage.family {
        Family::V4 => "reject with icmp type host-unreachable",
        Family::V6 => "reject with icmpv6 type addr-unreachable",
    };
    let _wall = stage.lose(&stage.pair.server, &format!("tcp dport {} {reject}", stage.port));
    // The peer's kernel sends few such errors a second; what they answer takes a second more each.
    assert_eq!(stage.connect(FEW, "close").connected().len(), FEW);
}

fn black_holes(pair: &Pair, family: Family) {
    let nobody = address(family, BLACK_HOLE);
    pair.client.sh(&format!("ip neigh add {nobody} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
    let given_up = Traffic::connect(&pair.client, nobody, GIVEN_UP_PORT, 1, "close");
    let mut client = Traffic::connect(&pair.client, nobody, BLACK_HOLE_PORT, 2, "close");
    eventually(Duration::from_secs(20), || {
        let syns = pair.client.sh(&format!("ss -Htno state syn-sent dport = :{GIVEN_UP_PORT}"));
        let syn = syns.lines().find(|line| line.contains(&nobody.to_string())).unwrap_or_default();
        // `timer:(on,1.2sec,1)`: how long until the next SYN, and how many have been repeated.
        if syn.contains("timer:(on,") && !syn.contains(",0)") { Ok(()) } else { Err(syns) }
    });
    drop(given_up); // Killed while it connects.
    assert_eq!(client.connected().len(), 2);
}

fn play(pair: &Pair, family: Family) {
    thread::scope(|scope| {
        scope.spawn(|| black_holes(pair, family));
        for ending in ENDINGS {
            (ending.play)(&Stage { pair, family, port: port_of(ending, family) });
        }
    });
}

/// Both families play at the same time, on ports of their own.
fn port_of(ending: &Ending, family: Family) -> u16 {
    ending.port + if family == Family::V6 { 100 } else { 0 }
}

/// Collects every difference, to show all of them at once. Some endings are played once: whether events of a kind came at all shows in the sum
/// of all endings.
#[derive(Default)]
struct Differences {
    /// More than there was.
    beyond: Vec<Count>,
    /// Less, and the kind.
    lacking: Vec<(String, String)>,
    /// By kind, what was told of all endings and what there was.
    sums: BTreeMap<String, (u64, u64)>,
}

impl Differences {
    fn compare(&mut self, what: impl FnOnce() -> String, kind: String, got: u64, expected: u64) {
        let (told, truth) = self.sums.entry(kind.clone()).or_default();
        (*told, *truth) = (*told + got, *truth + expected);
        match got.cmp(&expected) {
            Ordering::Greater => self.beyond.push(Count { what: what(), told: got, truth: expected }),
            Ordering::Less => {
                self.lacking
                    .push((format!("{}: {got} counted, {expected} happened; of all endings", what()), kind));
            }
            Ordering::Equal => {}
        }
    }

    fn counts(self) -> Vec<Count> {
        let of_kind = |(what, kind): (String, String)| {
            let (told, truth) = self.sums[&kind];
            Count { what, told, truth }
        };
        self.beyond.into_iter().chain(self.lacking.into_iter().map(of_kind)).collect()
    }
}

/// One side's counters of one service against the table and against the wire.
fn compare(
    differences: &mut Differences,
    name: &str,
    metrics: &Metrics,
    series: Series<'_>,
    expected: &Expected,
    wire: &Service,
) {
    let inbound = series.direction == "inbound";
    let (own_resets, peer_resets, own_retransmits) = if inbound {
        (wire.server_resets, wire.client_resets, wire.server_retransmits)
    } else {
        (wire.client_resets, wire.server_resets, wire.client_retransmits)
    };
    let mut check = |metric: &str, extra: &[(&str, &str)], right: u64| {
        let got = metrics.peer(metric, series, extra);
        let kind = format!("{metric}{extra:?} {}", series.direction);
        differences.compare(|| format!("{name}: {metric}{extra:?} of {series:?}"), kind, got, right);
    };
    check("peer_connections_total", &[], wire.connections);
    check("peer_closes_total", &[("by", "local")], expected.local);
    check("peer_closes_total", &[("by", "peer")], expected.peer);
    check("peer_closes_total", &[("by", "reset")], expected.reset);
    check("peer_closes_total", &[("by", "timeout")], expected.timeout);
    check("peer_connection_seconds", &[], wire.connections);
    check("peer_syn_retries_total", &[], wire.syn_retries);
    check("peer_retransmits_total", &[], own_retransmits);
    check("peer_resets_total", &[("by", "local")], expected.resets_local);
    check("peer_resets_total", &[("by", "peer")], expected.resets_peer);
    check("peer_port_reuses_total", &[], expected.reuses);
    check("peer_port_reuse_seconds", &[], expected.reuses);
    if inbound {
        check("peer_synack_retries_total", &[], wire.synack_retries);
    } else {
        check("peer_syns_total", &[], wire.syns);
        check("peer_connect_seconds", &[], wire.connections);
        for reason in ["timeout", "refused", "unreachable", "reset", "other", "no_port", "abandoned"] {
            let right =
                expected.failures.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count);
            check("peer_connect_failures_total", &[("reason", reason)], right);
        }
    }
    // The table itself is held against the wire, where there may be more: a segment that comes after its socket is gone is
    // answered by a RST that no socket sends, and that meets at best a TIME_WAIT.
    let (sent, received) = (expected.resets_local, expected.resets_peer);
    assert!(
        own_resets >= sent && peer_resets >= received,
        "{name}: the table expects RSTs that are not on the wire"
    );
}

fn differences(server: &Metrics, client: &Metrics, wire: &(Wire, Wire)) -> Differences {
    let mut differences = Differences::default();
    for family in [Family::V4, Family::V6] {
        let (client_address, server_address) = (Pair::client_address(family), Pair::server_address(family));
        let (client_name, server_name) = (client_address.to_string(), server_address.to_string());
        for ending in ENDINGS {
            let port = port_of(ending, family);
            let text = port.to_string();
            let inbound = Series { peer: &client_name, port: &text, direction: "inbound" };
            let outbound = Series { peer: &server_name, port: &text, direction: "outbound" };
            let seen_by_server = wire.0.service(server_address, port);
            let seen_by_client = wire.1.service(server_address, port);
            // Handshakes to a closed or walled port leave nothing on the server.
            if ending.client.failures.is_empty() {
                compare(&mut differences, ending.name, server, inbound, &ending.server, &seen_by_server);
            }
            compare(&mut differences, ending.name, client, outbound, &ending.client, &seen_by_client);
            let first_fins = (seen_by_client.client_closes, seen_by_client.server_closes);
            let closes = (ending.client.local, ending.client.peer);
            if ending.name != "both close before they hear of the other" && ending.client.timeout == 0 {
                assert_eq!(first_fins, closes, "{}: first FINs on the wire", ending.name);
            }
        }
        let nobody = address(family, BLACK_HOLE).to_string();
        for (port, failures) in [(BLACK_HOLE_PORT, &[("timeout", 2)]), (GIVEN_UP_PORT, &[("abandoned", 1)])] {
            let text = port.to_string();
            let series = Series { peer: &nobody, port: &text, direction: "outbound" };
            let expected = Expected { failures, ..NOTHING };
            let seen = wire.1.service(address(family, BLACK_HOLE), port);
            assert!(seen.syns > 0 && seen.syn_retries > 0, "the SYNs to nobody are on the wire: {seen:?}");
            compare(&mut differences, "a black hole", client, series, &expected, &seen);
        }
    }
    differences
}

fn without_loopback(mut sockets: truth::Sockets) -> truth::Sockets {
    sockets.retain(|(peer, _, _), _| !peer.is_loopback());
    sockets
}

const HOOKS: [&str; 5] = [
    "inet_sock_set_state",
    "tcp_retransmit_skb",
    "tcp_retransmit_synack",
    "tcp_receive_reset",
    "tcp_send_reset",
];

/// All endings, seen through one kind of hooks and one kind of census.
fn all_endings(hooks: &str, census: &str) {
    let pair = pair();
    pair.client.sysctl("net.ipv4.tcp_syn_retries", "2");
    pair.client.sysctl("net.ipv4.ip_local_reserved_ports", &SOURCE_PORT.to_string());
    let server_agent = Agent::start(&pair.server, &["--hooks", hooks, "--census", census]);
    let client_agent = Agent::start(&pair.client, &["--hooks", hooks, "--census", census]);
    for agent in [&server_agent, &client_agent] {
        let metrics = agent.scrape();
        for hook in HOOKS {
            assert_eq!(metrics.value("probe_info", &[("probe", hook), ("mode", hooks)]), Some(1.0), "{hook}");
        }
        assert_eq!(metrics.value("probe_info", &[("probe", "census"), ("mode", census)]), Some(1.0));
    }
    let _exact = exact();
    let captures = (Capture::start(&pair.server), Capture::start(&pair.client));

    thread::scope(|scope| {
        scope.spawn(|| play(&pair, Family::V4));
        scope.spawn(|| play(&pair, Family::V6));
    });

    let wire = (captures.0.stop(), captures.1.stop());
    let compared = within(Duration::from_secs(15), || {
        let differences = differences(&server_agent.scrape(), &client_agent.scrape(), &wire).counts();
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    });
    if let Err(differences) = compared {
        let rest = |agent: &Agent<'_>| agent.scrape().lines_with(&["peer=\"other\"", "_lost_", "_missed_"]);
        let (server, client) = (rest(&server_agent), rest(&client_agent));
        // Why the kernel sent a RST, where one was not expected.
        let reasons = pair.server.run("nstat", ["-as", "TcpOutRsts", "TcpExtTCPAbort*"]);
        // Either may have missed it.
        let compare = |agent: &Agent<'_>| inconclusive::compare(differences.clone(), &agent.scrape());
        if let Err(complaint) = compare(&server_agent).or_else(|_| compare(&client_agent)) {
            panic!("{complaint}\nserver:\n{server}\n{reasons}client:\n{client}");
        }
    }
    eventually(Duration::from_secs(15), || {
        let server = (
            without_loopback(server_agent.scrape().sockets("inbound")),
            without_loopback(truth::sockets_by_local_port(&pair.server)),
        );
        let client = (
            without_loopback(client_agent.scrape().sockets("outbound")),
            without_loopback(truth::sockets_by_remote_port(&pair.client)),
        );
        for (ours, theirs) in [server, client] {
            assert!(
                theirs.keys().any(|(_, _, state)| state == "time_wait"),
                "the play leaves TIME_WAIT on both sides"
            );
            if ours != theirs {
                return Err(format!("sockets by peer, port and state: {ours:?}, but ss says {theirs:?}"));
            }
        }
        Ok(())
    });
    for agent in [&server_agent, &client_agent] {
        let metrics = agent.scrape();
        for map in ["peers", "half_open_peers", "connections", "closed_tuples"] {
            assert_eq!(metrics.value("lost_total", &[("map", map)]), Some(0.0), "lost in {map}");
        }
        // SYNs to nobody are repeated, and not answered; where the play takes long, the agent rightly says so.
        let log = agent.log();
        let is_unasked = |line: &&str| line.contains("warn:") || line.contains("error:");
        let unasked: Vec<&str> = log
            .lines()
            .filter(is_unasked)
            .filter(|line| !DESERVED.iter().any(|alert| line.contains(alert)))
            .collect();
        assert!(unasked.is_empty(), "the agent complains: {unasked:?}");
    }
}

/// Alerts that the black holes of the play deserve.
const DESERVED: [&str; 2] = ["SynRetriesHigh", "BackendNotAnswering"];

fn every_ending_through_typed_hooks_and_the_iterator() {
    all_endings("btf", "iter");
}

fn every_ending_through_classic_hooks_and_netlink() {
    all_endings("tracepoint", "netlink");
}
