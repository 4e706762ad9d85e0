//! Several servers behind one virtual address: an L4 balancer sends each connection to one of them, and each sees a part of the peers' ports.

pub mod said;

use std::net::IpAddr;

use clap::ValueEnum;

use crate::{
    agent::Agent,
    host::Host,
    monitoring::prometheus::Prometheus,
    nat::{Nat, Pool, forget_early, nat, wire},
    topology::Family,
    workspace,
};

/// The hash of a port names one of so many slots, each of which belongs to a server (as in Maglev's table): a server that joins or leaves
/// moves its own slots only. It is a multiple of 1 to 6 servers.
const SLOTS: usize = 60;

/// Where each agent serves, for Prometheus too.
const AGENT: &str = "0.0.0.0:9796";

/// How the balancer chooses a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Balance {
    /// By a hash of the source port: a port always reaches the same server.
    Hash,
    /// Any of them, by chance.
    Random,
    /// One after the other.
    Turn,
}

impl Balance {
    /// Whether a port reaches the same server again when the NAT, which uses so many in turn, comes to it the next time.
    #[must_use]
    pub fn brings_back(self, ports: usize, servers: usize) -> bool {
        match self {
            Self::Hash | Self::Random => true,
            Self::Turn => ports.is_multiple_of(servers),
        }
    }

    /// What is written on each new connection: the number of its server, from 1. Of `servers` only the `active` ones, from 0, get any.
    fn rule(self, servers: usize, active: &[usize]) -> String {
        let owner = |slot: usize| {
            let own = slot % servers;
            // The slots of one that is away go to the others in equal parts.
            if active.contains(&own) { own } else { active[slot / servers % active.len()] }
        };
        let (choose, targets): (&str, Vec<usize>) = match self {
            Self::Hash => ("jhash tcp sport", (0..SLOTS).map(owner).collect()),
            Self::Random => ("numgen random", active.to_vec()),
            Self::Turn => ("numgen inc", active.to_vec()),
        };
        let seed = if self == Self::Hash { "seed 0x1f123bb5" } else { "" };
        let count = targets.len();
        let map: Vec<String> = (0..)
            .zip(targets)
            .map(|(slot, target): (usize, usize)| format!("{slot} : {}", target + 1))
            .collect();
        format!("ct mark set {choose} mod {count} {seed} map {{ {} }}", map.join(", "))
    }
}

/// `clients ── nat ── balancer ── servers`
#[derive(Debug)]
pub struct Fleet {
    /// Its clients and its NAT; what was its server is the balancer.
    pub net: Nat,
    /// Each has the virtual address, [`Nat::server_address`].
    pub servers: Vec<Host>,
    balance: Balance,
}

/// Builds it, for IPv4; all servers get connections.
#[must_use]
pub fn fleet(pool: &Pool, balance: Balance, servers: usize) -> Fleet {
    let net = nat(pool);
    let (balancer, virtual_address) = (&net.server, Nat::server_address(Family::V4));
    balancer.sh(&format!("ip addr del {virtual_address}/24 dev eth0"));
    balancer.sh("ip addr add 10.79.0.254/24 dev eth0");
    net.nat.sh(&format!("ip route add {virtual_address}/32 via 10.79.0.254"));
    balancer.sysctl("net.ipv4.ip_forward", "1");
    forget_early(balancer);
    let hosts = (1..=servers).map(|number| {
        let server = Host::new(&format!("s{number}"));
        let name = format!("s{number}");
        wire(balancer, &name, &server, "eth0");
        balancer.sh(&format!("ip addr add 10.80.{number}.1/24 dev {name}"));
        server.sh(&format!("ip addr add 10.80.{number}.2/24 dev eth0"));
        server.sh(&format!("ip addr add {virtual_address}/32 dev lo"));
        server.sh(&format!("ip route add default via 10.80.{number}.1"));
        balancer.sh(&format!("ip route add default via 10.80.{number}.2 dev {name} table {}", 100 + number));
        balancer.sh(&format!("ip rule add fwmark {number} lookup {}", 100 + number));
        server
    });
    let hosts = hosts.collect();
    let fleet = Fleet { net, servers: hosts, balance };
    fleet.spread_over(&(0..servers).collect::<Vec<_>>());
    fleet
}

impl Fleet {
    /// The virtual address.
    #[must_use]
    pub fn address() -> IpAddr {
        Nat::server_address(Family::V4)
    }

    /// From now on new connections go to these servers, from 0; those there are stay where they are.
    pub fn spread_over(&self, active: &[usize]) {
        let rules = format!(
            "table ip fleet {{}}\ndelete table ip fleet\n\
             table ip fleet {{\nchain spread {{ type filter hook prerouting priority mangle;\n \
             iifname \"eth0\" ip daddr {address} tcp flags & (syn | ack) == syn ct mark 0 {}\n\
             iifname \"eth0\" ip daddr {address} meta mark set ct mark\n}}\n}}\n",
            self.balance.rule(self.servers.len(), active),
            address = Self::address(),
        );
        self.net.server.feed("nft", &["-f", "-"], &rules);
    }

    /// Starts an agent on each server.
    #[must_use]
    pub fn agents(&self, args: &[&str]) -> Vec<Agent<'_>> {
        let args = [&["--web.listen-address", AGENT], args].concat();
        self.servers.iter().map(|server| Agent::start(server, &args)).collect()
    }

    /// Starts Prometheus on the balancer, with the shipped rules, and scrapes the agents as often as the shipped example does.
    #[must_use]
    pub fn prometheus(&self) -> Prometheus<'_> {
        let rules = ["tcpwarden-rules.yml", "tcpwarden-fleet-rules.yml"]
            .map(|name| format!("'{}'", workspace("deploy/prometheus").join(name).display()));
        let targets: Vec<String> =
            (1..=self.servers.len()).map(|number| format!("'10.80.{number}.2:9796'")).collect();
        let config = format!(
            "
global: {{ scrape_interval: 15s, evaluation_interval: 15s }}
rule_files: [{}]
scrape_configs:
- job_name: tcpwarden
  static_configs: [{{ targets: [{}], labels: {{ vip: fleet }} }}]
",
            rules.join(", "),
            targets.join(", ")
        );
        Prometheus::start(&self.net.server, &config)
    }
}
