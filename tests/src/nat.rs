//! Three clients behind a NAT that hands out source ports from a pool, and a server that cannot tell them apart.
//!
//! One client alone would never be refused: its sequence numbers and timestamps only grow. Three behind one address each
//! bring their own, so a SYN on a port that another used before may look old to the server's TIME_WAIT. The NAT's own
//! memory of connections is short, as that of an L4 balancer is, so it hands a port out again while the server remembers it.

use std::{fmt::Write as _, net::IpAddr, ops::RangeInclusive};

use crate::{host::Host, topology::Family};

/// Number of clients.
pub const CLIENTS: u8 = 3;

/// How the NAT hands out ports.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Which protocol it translates.
    pub family: Family,
    /// Source addresses of the NAT.
    pub addresses: u8,
    /// Source ports of each, handed out in turn; `None` leaves the clients' own.
    pub ports: Option<RangeInclusive<u16>>,
    /// A box on the way loses the bare ACK that answers a SYN too old for the server.
    pub loses_bare_ack: bool,
}

/// `clients ── nat ── server`
#[derive(Debug)]
pub struct Nat {
    /// 10.78.C.2 or `fd78:C::2`, on `eth0`.
    pub clients: Vec<Host>,
    /// 10.79.0.11 or `fd79::11` and up towards the server, on `eth0`.
    pub nat: Host,
    /// 10.79.0.1 or `fd79::1`, on `eth0`.
    pub server: Host,
}

impl Nat {
    /// Address of the server.
    #[must_use]
    pub fn server_address(family: Family) -> IpAddr {
        outside(family, 1)
    }

    /// Address `number` (from 0) of the NAT, as the server sees it.
    #[must_use]
    pub fn address(family: Family, number: u8) -> IpAddr {
        outside(family, 11 + number)
    }

    /// From now on the NAT draws source ports at random, as a Linux gateway does that masquerades.
    pub fn draw_at_random(&self, ports: RangeInclusive<u16>) {
        let (low, high) = ports.into_inner();
        let rules = format!(
            "flush chain ip lab translate\n\
             add rule ip lab translate oifname \"eth0\" meta l4proto tcp masquerade to :{low}-{high} random,fully-random\n"
        );
        self.nat.feed("nft", &["-f", "-"], &rules);
    }

    /// From now on the NAT assigns each client a block of `size` ports, one after another from `low` on, and hands out each in turn.
    pub fn assign_blocks(&self, low: u16, size: u16) {
        let mut rules = "flush chain ip lab translate\n".to_owned();
        for client in 0..CLIENTS {
            let low = low + u16::from(client) * size;
            let block = low..=low + (size - 1);
            let ports = in_turn(&block);
            let (from, to) = (inside(Family::V4, client, 2), Nat::address(Family::V4, 0));
            let _ = writeln!(
                rules,
                "add rule ip lab translate oifname \"eth0\" ip saddr {from} meta l4proto tcp snat to {to} {ports}"
            );
        }
        self.nat.feed("nft", &["-f", "-"], &rules);
    }
}

/// The part of a rule that hands these ports out in turn.
fn in_turn(ports: &RangeInclusive<u16>) -> String {
    // Without a map the port would come out with its bytes swapped.
    let map: Vec<String> =
        ports.clone().enumerate().map(|(index, port)| format!("{index} : {port}")).collect();
    format!(": numgen inc mod {} map {{ {} }}", ports.len(), map.join(", "))
}

/// Between the NAT and the server.
fn outside(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 79, 0, host]),
        Family::V6 => IpAddr::from([0xfd79, 0, 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

/// Between a client and the NAT.
fn inside(family: Family, client: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 78, client, host]),
        Family::V6 => IpAddr::from([0xfd78, u16::from(client), 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

/// Builds it.
#[must_use]
pub fn nat(pool: &Pool) -> Nat {
    let net = Nat {
        clients: (0..CLIENTS).map(|number| Host::new(&format!("c{number}"))).collect(),
        nat: Host::new("nat"),
        server: Host::new("server"),
    };
    let family = pool.family;
    wire(&net.nat, "eth0", &net.server, "eth0");
    give(&net.server, "eth0", Nat::server_address(family));
    for number in 0..pool.addresses {
        give(&net.nat, "eth0", Nat::address(family, number));
    }
    for (number, client) in (0..).zip(&net.clients) {
        let name = format!("c{number}");
        wire(&net.nat, &name, client, "eth0");
        give(&net.nat, &name, inside(family, number, 1));
        give(client, "eth0", inside(family, number, 2));
        client.sh(&format!("ip route add default via {}", inside(family, number, 1)));
    }
    let forward = match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    };
    net.nat.sysctl(forward, "1");
    net.nat.sysctl("net.netfilter.nf_conntrack_acct", "1");
    forget_early(&net.nat);
    net.nat.feed("nft", &["-f", "-"], &rules(pool));
    net
}

/// Shortens the time for which conntrack of a host keeps connections that have ended and attempts that have failed, so that it follows each
/// port's new use. What one side has closed is kept as long as the other may take to close it, too: else that FIN would not reach the server,
/// and the next SYN from this port would meet a connection that is still open there.
pub(crate) fn forget_early(host: &Host) {
    for state in ["time_wait", "close", "last_ack"] {
        host.sysctl(&format!("net.netfilter.nf_conntrack_tcp_timeout_{state}"), "1");
    }
    // Both sides give a connection up, and a client its attempt, after 3.5 s.
    for state in ["fin_wait", "close_wait", "syn_sent"] {
        host.sysctl(&format!("net.netfilter.nf_conntrack_tcp_timeout_{state}"), "4");
    }
}

/// Gives an interface an address, at once (without looking for duplicates).
fn give(host: &Host, interface: &str, address: IpAddr) {
    match address {
        IpAddr::V4(_) => host.sh(&format!("ip addr add {address}/24 dev {interface}")),
        IpAddr::V6(_) => host.sh(&format!("ip addr add {address}/64 dev {interface} nodad")),
    };
}

pub(crate) fn wire(one: &Host, name: &str, other: &Host, other_name: &str) {
    one.run("ip", ["link", "add", name, "type", "veth", "peer", "name", other_name, "netns", other.name()]);
    for (host, name) in [(one, name), (other, other_name)] {
        // One segment is one packet: captures count segments.
        host.sh(&format!("ip link set {name} gso_max_segs 1"));
        host.sh(&format!("ip link set {name} up"));
    }
}

/// Connections go to the addresses in turn, and to the ports of each address in turn.
fn rules(pool: &Pool) -> String {
    let ip = match pool.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let ports = pool.ports.as_ref().map(in_turn).unwrap_or_default();
    let addresses = pool.addresses;
    let mut rules = format!(
        "table {ip} lab {{\nchain choose {{ type filter hook prerouting priority mangle; \
         ct state new iifname \"c*\" meta mark set numgen inc mod {addresses}; }}\n\
         chain translate {{ type nat hook postrouting priority srcnat;\n"
    );
    for number in 0..addresses {
        let mut address = Nat::address(pool.family, number).to_string();
        if pool.family == Family::V6 && pool.ports.is_some() {
            address = format!("[{address}]");
        }
        let _ =
            writeln!(rules, "oifname \"eth0\" meta mark {number} meta l4proto tcp snat to {address} {ports}");
    }
    rules.push_str("}\n");
    if pool.loses_bare_ack {
        rules.push_str(
            "chain lossy { type filter hook forward priority filter; \
             iifname \"eth0\" ct reply packets < 2 tcp flags & (syn | ack) == ack drop; }\n",
        );
    }
    rules.push_str("}\n");
    rules
}
