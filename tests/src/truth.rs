//! What the system's own tools say.

use std::{collections::BTreeMap, net::IpAddr};

use crate::host::Host;

/// Number of sockets by peer, our port and `ss` state.
pub type Sockets = BTreeMap<(IpAddr, u16, String), u64>;

/// All TCP sockets of a host but its listeners, as `ss` counts them, by peer and local port.
#[must_use]
pub fn sockets_by_local_port(host: &Host) -> Sockets {
    count(host, |local, remote| (remote.0, local.1))
}

/// The sockets of a service's port, the host's own or another's, by the host's own address.
#[must_use]
pub fn sockets_by_local_address(host: &Host, port: u16) -> BTreeMap<IpAddr, u64> {
    let mut addresses = BTreeMap::new();
    count(host, |local, remote| {
        if [local.1, remote.1].contains(&port) {
            *addresses.entry(local.0).or_default() += 1;
        }
        remote
    });
    addresses
}

/// As [`sockets_by_local_port`], by peer and the peer's port.
#[must_use]
pub fn sockets_by_remote_port(host: &Host) -> Sockets {
    count(host, |_, remote| remote)
}

/// TIME_WAITs of these peers at a port of the host. They may be fewer than the connections it closed: on two CPUs a late segment may have met no
/// socket at the peer any more, and the RST that answered it ended one.
#[must_use]
pub fn time_waits(host: &Host, peers: &[IpAddr], port: u16) -> u64 {
    let sockets = sockets_by_local_port(host);
    peers.iter().filter_map(|peer| sockets.get(&(*peer, port, "time_wait".to_owned()))).sum()
}

type Endpoint = (IpAddr, u16);

fn count(host: &Host, mut key: impl FnMut(Endpoint, Endpoint) -> Endpoint) -> Sockets {
    let mut sockets = Sockets::new();
    for line in host.sh("ss -Htan").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [state, _, _, local, remote, ..] = words.as_slice() else { panic!("ss printed {line:?}") };
        if *state == "LISTEN" {
            continue;
        }
        let (peer, port) = key(endpoint(local), endpoint(remote));
        *sockets.entry((peer, port, state_name(state))).or_default() += 1;
    }
    sockets
}

/// `10.0.0.1:80`, `[::1]:80`, `[::ffff:10.0.0.1]:80`, `[fe80::1]%eth0:80`
fn endpoint(text: &str) -> Endpoint {
    let (address, port) = text.rsplit_once(':').unwrap_or_else(|| panic!("ss printed the address {text:?}"));
    let address = address.split('%').next().unwrap_or(address).trim_matches(['[', ']']);
    let address: IpAddr = address.parse().unwrap_or_else(|_| panic!("ss printed the address {text:?}"));
    (address.to_canonical(), port.parse().unwrap_or_else(|_| panic!("ss printed the port {text:?}")))
}

/// `ss` and Prometheus spell the states differently.
fn state_name(ss: &str) -> String {
    match ss {
        "ESTAB" => "established".to_owned(),
        "FIN-WAIT-1" => "fin_wait1".to_owned(),
        "FIN-WAIT-2" => "fin_wait2".to_owned(),
        other => other.to_lowercase().replace('-', "_"),
    }
}

/// How many connections wait to be accepted at a port.
#[must_use]
pub fn accept_queue(host: &Host, port: u16) -> u64 {
    accept_queues(host, port).into_iter().map(|(waiting, _)| waiting).sum()
}

/// The accept queue of each listener of a port, and how many it may hold.
#[must_use]
pub fn accept_queues(host: &Host, port: u16) -> Vec<(u64, u64)> {
    let text = host.sh(&format!("ss -Htln sport = :{port}"));
    let queue = |line: &str| {
        let mut words = line.split_whitespace().skip(1).map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    };
    text.lines().filter_map(queue).collect()
}

/// How many sockets in CLOSE_WAIT a process of this name holds at a port.
#[must_use]
pub fn close_waits(host: &Host, port: &str, process: &str) -> usize {
    let text = host.sh(&format!("ss -Htnp state close-wait sport = :{port}"));
    text.lines().filter(|line| line.contains(&format!("((\"{process}\","))).count()
}

/// The kernel's own count of mini-sockets (`/proc/net/sockstat`).
#[must_use]
pub fn time_wait_buckets(host: &Host) -> u64 {
    let text = host.sh("cat /proc/net/sockstat");
    let line = text.lines().find(|line| line.starts_with("TCP:")).expect("sockstat has a TCP line");
    let words: Vec<&str> = line.split_whitespace().collect();
    let position = words.iter().position(|&word| word == "tw").expect("sockstat counts tw");
    words[position + 1].parse().expect("a number")
}

/// One counter of the kernel, as `nstat` prints it.
#[must_use]
pub fn nstat(host: &Host, name: &str) -> u64 {
    let text = host.run("nstat", ["-asz", name]);
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("nstat knows no {name}"));
    line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("nstat prints name and value")
}
