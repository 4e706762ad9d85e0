//! Named groups of peers: their networks and their pools of source ports.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use super::{check::Check, raw};

/// Peers that share one account under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerGroup {
    /// Value of the `peer` label.
    pub name: Arc<str>,
    /// Networks of the group; v4-mapped ones are written as IPv4.
    pub networks: Vec<IpNet>,
    /// First and last source port of each range its addresses draw from, ascending, apart from each other; `None` is not known.
    pub port_pool: Option<Vec<(u16, u16)>>,
}

/// A network inside another group's: its addresses belong to the inner one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The more specific network, which wins, and its group.
    pub inner: (IpNet, Arc<str>),
    /// The network around it, and its group.
    pub outer: (IpNet, Arc<str>),
}

pub(super) fn groups(check: &mut Check<'_>, peers: &[raw::Peer]) -> Vec<PeerGroup> {
    let mut owner: HashMap<IpNet, &str> = HashMap::new();
    let mut groups: Vec<PeerGroup> = Vec::new();
    for (place, peer) in peers.iter().enumerate() {
        let at = format!("peer[{place}]");
        check.that(
            !peer.name.is_empty() && peer.name != "other" && !peer.name.contains(char::is_control),
            &format!("{at}.name"),
            &peer.name,
            "must be a name other than \"other\", which holds the peers without series of their own, and without control characters",
        );
        check.that(
            peer.name.parse::<IpAddr>().is_err(),
            &format!("{at}.name"),
            &peer.name,
            "is an address, and the figures of that address have the same label; give the group a name",
        );
        check.that(
            groups.iter().all(|group| *group.name != *peer.name),
            &format!("{at}.name"),
            &peer.name,
            "is given twice; put all networks of a peer into one [[peer]]",
        );
        let at_cidrs = format!("{at}.cidrs");
        check.that(
            !peer.cidrs.is_empty(),
            &at_cidrs,
            "[]",
            "needs at least one network, such as 192.0.2.0/24",
        );
        let mut networks = Vec::new();
        for (place, cidr) in peer.cidrs.iter().enumerate() {
            let at = format!("{at_cidrs}[{place}]");
            let network = parse_network(cidr);
            check.that(
                network.is_some(),
                &at,
                cidr,
                "is no network or address; write it as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7",
            );
            let Some(network) = network else { continue };
            if let Some(other) = owner.insert(network, &peer.name) {
                check.that(
                    false,
                    &at,
                    cidr,
                    format!("belongs to peer \"{other}\" already; leave one of them"),
                );
            }
            networks.push(network);
        }
        let port_pool = peer.port_pool.as_deref().and_then(|text| {
            let ranges = parse_port_ranges(text);
            check.that(
                ranges.is_some(),
                &format!("{at}.port_pool"),
                text,
                "is no list of port ranges; write it as \"2048-16383\" or \"1024-9999, 20000-29999\"",
            );
            ranges
        });
        groups.push(PeerGroup { name: Arc::from(peer.name.as_str()), networks, port_pool });
    }
    groups
}

/// Where networks of two groups overlap. That is allowed: the most specific one wins.
pub(super) fn overlaps(groups: &[PeerGroup]) -> Vec<Overlap> {
    let mut all: Vec<(IpNet, &Arc<str>)> = groups
        .iter()
        .flat_map(|group| group.networks.iter().map(|&network| (network, &group.name)))
        .collect();
    // What is around a network then stands before it, with nothing but what is in both of them between.
    all.sort_unstable();
    let mut around: Vec<(IpNet, &Arc<str>)> = Vec::new();
    let mut overlaps = Vec::new();
    for inner in all {
        while around.pop_if(|outer| !outer.0.contains(&inner.0)).is_some() {}
        let others = around.iter().filter(|outer| outer.1 != inner.1 && outer.0 != inner.0);
        overlaps.extend(others.map(|outer| Overlap {
            inner: (inner.0, Arc::clone(inner.1)),
            outer: (outer.0, Arc::clone(outer.1)),
        }));
        around.push(inner);
    }
    overlaps
}

/// A network or a single address; v4-mapped IPv6 becomes the IPv4 it means, as the accounts spell it.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        return Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4);
    }
    Some(network)
}

/// `2048-16383, 20000`: at least one range, each from low to high, none reaching into another. Returned ascending.
fn parse_port_ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    let mut ranges = text
        .split(',')
        .map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (0 < low && low <= high).then_some((low, high))
        })
        .collect::<Option<Vec<(u16, u16)>>>()?;
    ranges.sort_unstable();
    let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    apart.then_some(ranges)
}
