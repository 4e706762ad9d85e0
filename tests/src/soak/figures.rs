//! Every figure against the truth.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Load, faults::NOISE};
use crate::{
    agent::{Agent, Metrics, Series},
    host::Host,
    inconclusive,
    topology::{Family, Pair},
    traffic::Traffic,
    truth::{self, Sockets},
    within,
};

/// Connections that stay open all the time.
const HELD: usize = 20;
const HELD_PORT: u16 = 9004;

/// The firewall counts the SYNs of each peer of the load to each port.
const SYNS: &str = "table ip lab {
    set syns { type ipv4_addr . inet_service; flags dynamic; size 4096; counter; }
    chain arrived {
        type filter hook input priority filter;
        ip saddr 10.77.0.0/24 tcp flags & (syn | ack) == syn add @syns { ip saddr . tcp dport }
    }
}
";

const TIME_WAIT: &str = "time_wait";
/// What may become one.
const CLOSING: [&str; 4] = ["established", "fin_wait1", "fin_wait2", "closing"];

/// One figure, summed over all peers of the load.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Which.
    pub name: &'static str,
    /// What was so, at least.
    pub truth: u64,
    /// As many more it may have been: a connection that failed for the client may have come about for the server, and TIME_WAITs end
    /// while they are counted.
    pub doubt: u64,
    /// What the agent tells.
    pub told: u64,
    /// As many events may be missing: runs that the kernel left out and the agent counted.
    pub missed: u64,
    /// And as many that a trace saw, and no program.
    pub unseen: u64,
}

impl Figure {
    /// What the agent does not tell.
    #[must_use]
    pub fn lacking(&self) -> u64 {
        self.truth.saturating_sub(self.told)
    }

    /// Whether the agent tells the truth.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.told <= self.truth + self.doubt && self.lacking() <= self.missed + self.unseen
    }
}

pub(super) struct Figures<'a> {
    host: &'a Host,
    agent: &'a Agent<'a>,
    _held: [Traffic; 2],
    time_waits: u64,
}

pub(super) fn count_syns(server: &Host) {
    server.feed("nft", &["-f", "-"], SYNS);
}

/// What is so for one peer of a load.
#[derive(Clone, Copy)]
struct Truth {
    connected: u64,
    failed: u64,
    syns: Option<u64>,
}

impl<'a> Figures<'a> {
    pub fn new(pair: &'a Pair, agent: &'a Agent<'a>) -> Self {
        let server = Pair::server_address(Family::V4);
        let service = Traffic::serve(&pair.server, server, HELD_PORT, HELD, "hold");
        let mut clients = Traffic::connect(&pair.client, server, HELD_PORT, HELD, "hold");
        assert_eq!(clients.connected(), [""; 0]);
        Self { host: &pair.server, agent, _held: [clients, service], time_waits: 0 }
    }

    /// TIME_WAITs at the last check.
    pub fn time_waits(&self) -> u64 {
        self.time_waits
    }

    /// Compares every figure of every peer while no load runs; what differs is put into `wrong`.
    pub fn check(
        &mut self,
        loads: &[Load],
        counts: &[BTreeMap<IpAddr, (u64, u64)>],
        wrong: &mut Vec<String>,
    ) -> Vec<Figure> {
        let before = self.sockets();
        let metrics = self.after_a_census();
        let after = self.sockets();
        let syns = self.syns();
        let missed = |probe| as_count(metrics.value("probe_missed_runs_total", &[("probe", probe)]));
        // A repeated SYN whose first one was forgotten for want of room, which is counted, seems to be another first one.
        let forgotten = as_count(metrics.value("lost_total", &[("map", "syns")]));
        let figure = |name, missed| Figure { name, truth: 0, doubt: 0, told: 0, missed, unseen: 0 };
        let mut figures = [
            figure("connections", missed("inet_sock_set_state")),
            figure("closes, by whom", missed("inet_sock_set_state")),
            figure("SYNs, all", missed("syn_watch")),
            figure("SYNs repeated", missed("syn_watch") + forgotten),
            figure("TIME_WAIT now", 0),
        ];
        for (load, counts) in loads.iter().zip(counts) {
            for (&address, &(connected, failed)) in counts {
                // Outbound, the peer is whom we connect to.
                let outbound = load.direction == "outbound";
                let peer = if outbound { Pair::client_address(Family::V4) } else { address };
                let syns = (!outbound).then(|| syns.get(&(peer, load.port)).copied().unwrap_or_default());
                let truth = Truth { connected, failed, syns };
                let count = |sockets: &Sockets, state: &str| {
                    sockets.get(&(peer, load.port, state.to_owned())).copied().unwrap_or_default()
                };
                // Some of those that were still closing have become TIME_WAITs since they were counted.
                let closing: u64 = CLOSING.iter().map(|state| count(&before, state)).sum();
                let time_waits =
                    [count(&before, TIME_WAIT) + closing, count(&after, TIME_WAIT).saturating_sub(closing)];
                let told = told(&metrics, load, peer);
                for (sum, one) in figures.iter_mut().zip(compare(truth, time_waits, told)) {
                    let Some((truth, doubt, told)) = one else { continue };
                    if told > truth + doubt || (sum.name == "TIME_WAIT now" && told < truth) {
                        wrong.push(format!(
                            "{} of {peer}:{}: {told} told, {truth} and up to {doubt} true",
                            sum.name, load.port
                        ));
                    }
                    sum.truth += truth;
                    sum.doubt += doubt;
                    sum.told += told;
                }
            }
        }
        let hidden = inconclusive::hidden_events();
        for figure in &mut figures {
            if figure.name != "TIME_WAIT now" {
                figure.unseen = hidden;
            }
            if !figure.is_right() {
                wrong.push(format!("{figure:?}, while the host counts {}", self.refusals()));
            }
        }
        wrong.extend(Self::bystanders(&metrics));
        self.time_waits =
            after.iter().filter(|((_, _, state), _)| state == "time_wait").map(|(_, count)| count).sum();
        figures.to_vec()
    }

    /// Peers without a load: some whose connections stay open, and one that is in another network namespace.
    fn bystanders(metrics: &Metrics) -> Vec<String> {
        let peer = Pair::client_address(Family::V4).to_string();
        let port = HELD_PORT.to_string();
        let series = Series { peer: &peer, port: &port, direction: "inbound" };
        let held = metrics.peer("peer_sockets", series, &[("state", "established")]);
        let mut wrong = Vec::new();
        if held != HELD as u64 {
            wrong.push(format!("{held} of {HELD} connections that stay open"));
        }
        // A port that a client of ours used, taken for a service.
        let services = [super::PORTS[0], super::PORTS[1], HELD_PORT, super::faults::DEAF_PORT, 9_099, 9_796];
        for line in metrics.lines_with(&["tcpwarden_peer_sockets"]).lines() {
            let port = line.split_once("port=\"").and_then(|(_, rest)| rest.split_once('"')?.0.parse().ok());
            if line.contains("inbound") && port.is_some_and(|port: u16| !services.contains(&port)) {
                wrong.push(format!("no service is at this port: {line}"));
            }
        }
        if metrics.peers("inbound").contains(&NOISE.to_string()) {
            wrong.push("a peer of another network namespace has series".to_owned());
        }
        wrong
    }

    /// What is served when a census has begun and ended after the call.
    fn after_a_census(&self) -> Metrics {
        let cost = |metrics: &Metrics| metrics.value("census_seconds", &[]).map(f64::to_bits);
        let mut last = cost(&self.agent.scrape());
        let mut left = 2;
        let mut latest = None;
        let found = within(Duration::from_mins(1), || {
            let metrics = self.agent.scrape();
            if cost(&metrics) != last {
                last = cost(&metrics);
                left -= 1;
            }
            latest = Some(metrics);
            if left == 0 { Ok(()) } else { Err("no census came") }
        });
        assert_eq!(found, Ok(()));
        latest.expect("it was scraped")
    }

    /// The host's own counters of SYNs that it did not take at once.
    fn refusals(&self) -> String {
        let names = [
            "TcpExtPAWSTimewait",
            "TcpExtTCPACKSkippedTimeWait",
            "TcpExtListenDrops",
            "TcpExtListenOverflows",
        ];
        names.map(|name| format!("{name} {}", truth::nstat(self.host, name))).join(", ")
    }

    /// Inbound ones by our port, outbound ones by theirs.
    fn sockets(&self) -> Sockets {
        let mut sockets = truth::sockets_by_local_port(self.host);
        sockets.extend(
            truth::sockets_by_remote_port(self.host)
                .into_iter()
                .filter(|((_, port, _), _)| *port == super::PORTS[2]),
        );
        sockets
    }

    /// SYNs that the firewall counted, by peer and port.
    fn syns(&self) -> BTreeMap<(IpAddr, u16), u64> {
        let text = self.host.sh("nft list set ip lab syns");
        let (_, elements) = text.split_once("elements = {").unwrap_or_default();
        // 10.77.0.101 . 9001 counter packets 5 bytes 300
        let elements = elements.split(',').map(|element| element.split_whitespace().collect::<Vec<_>>());
        elements
            .filter_map(|words| {
                Some((
                    (words.first()?.parse().ok()?, words.get(2)?.parse().ok()?),
                    words.get(5)?.parse().ok()?,
                ))
            })
            .collect()
    }
}

/// What the agent tells of a peer, in the order of the figures.
fn told(metrics: &Metrics, load: &Load, peer: IpAddr) -> [u64; 5] {
    let (peer, port) = (peer.to_string(), load.port.to_string());
    let series = Series { peer: &peer, port: &port, direction: load.direction };
    let value = |family, label: &[(&str, &str)]| metrics.peer(family, series, label);
    [
        value("peer_connections_total", &[]),
        value("peer_closes_total", &[("by", load.closed_by)]),
        value("peer_syns_total", &[]) + value("peer_syn_retries_total", &[]),
        value("peer_syn_retries_total", &[]),
        value("peer_sockets", &[("state", "time_wait")]),
    ]
}

/// Truth, doubt and what was told of each figure; `None` where the truth is not known.
fn compare(truth: Truth, [before, after]: [u64; 2], told: [u64; 5]) -> [Option<(u64, u64, u64)>; 5] {
    let Truth { connected, failed, syns } = truth;
    [
        Some((connected, failed, told[0])),
        Some((connected, failed, told[1])),
        syns.map(|syns| (syns, 0, told[2])),
        // Each attempt has a first SYN; whatever came beside it is a repeated one.
        syns.map(|syns| (syns.saturating_sub(connected + failed), failed, told[3])),
        Some((after, before.saturating_sub(after), told[4])),
    ]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
fn as_count(value: Option<f64>) -> u64 {
    value.unwrap_or_default() as u64
}
