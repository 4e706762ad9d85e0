//! Peers: an address, or the configured group it falls in.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use probe_ebpf::account::{EPHEMERAL, INBOUND, PeerKey};

use super::pool::Ranges;

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The peer connected to a port of ours.
    Inbound,
    /// We connected to a port of the peer.
    Outbound,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// Value of the `direction` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    pub(super) fn of(key: &PeerKey) -> Self {
        if key.direction == INBOUND { Self::Inbound } else { Self::Outbound }
    }
}

/// Value of the `peer` label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// A configured group.
    Group(Arc<str>),
    /// A single address.
    Address(IpAddr),
}

impl Peer {
    /// The address; a group has several.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Group(_) => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => f.write_str(name),
            Self::Address(addr) => addr.fmt(f),
        }
    }
}

/// What an account is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountId {
    /// Who.
    pub peer: Peer,
    /// The service port: ours when inbound, the peer's when outbound.
    pub port: u16,
    /// Who called.
    pub direction: Direction,
}

impl AccountId {
    /// Its port as it is written.
    #[must_use]
    pub fn port_name(&self) -> PortName {
        PortName::new(self.port, self.direction.name())
    }
}

/// A service port as it is written everywhere but in JSON: by its number, or `ephemeral` for the ports of short-lived listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortName {
    /// A number.
    Number(u16),
    /// [`EPHEMERAL`], which is no number of a port of ours; a peer's may be 0.
    Ephemeral,
}

impl PortName {
    /// The name of the service port of connections in this direction.
    #[must_use]
    pub fn new(port: u16, direction: &str) -> Self {
        if port == EPHEMERAL && direction == Direction::Inbound.name() {
            Self::Ephemeral
        } else {
            Self::Number(port)
        }
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => port.fmt(f),
            Self::Ephemeral => f.write_str("ephemeral"),
        }
    }
}

impl Hash for AccountId {
    /// As of the kernel's key, which takes a third of the time; there is one for every peer each second.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.peer {
            Peer::Address(address) => PeerKey::new(*address, self.port, self.direction as u8).hash(state),
            Peer::Group(name) => (name, self.port, self.direction).hash(state),
        }
    }
}

/// The configured groups. Where networks overlap, the most specific one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    networks: Vec<(IpNet, Arc<str>)>,
    pools: HashMap<Arc<str>, Ranges>,
}

impl Groups {
    /// Takes `(network, name)` pairs in any order, and the pools of source ports that each address of a group draws from.
    pub fn new(
        networks: impl IntoIterator<Item = (IpNet, Arc<str>)>,
        pools: impl IntoIterator<Item = (Arc<str>, Ranges)>,
    ) -> Self {
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Self { networks, pools: pools.into_iter().collect() }
    }

    /// The configured pool of source ports of an inbound peer.
    #[must_use]
    pub fn pool_of(&self, key: &PeerKey) -> Option<&Ranges> {
        match self.account_of(key) {
            AccountId { peer: Peer::Group(name), direction: Direction::Inbound, .. } => self.pools.get(&name),
            _ => None,
        }
    }

    /// The account that a kernel key belongs to.
    #[must_use]
    pub fn account_of(&self, key: &PeerKey) -> AccountId {
        let addr = key.address();
        let group = self.networks.iter().find(|(network, _)| network.contains(&addr));
        let peer = group.map_or(Peer::Address(addr), |(_, name)| Peer::Group(Arc::clone(name)));
        AccountId { peer, port: key.port, direction: Direction::of(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::account::OUTBOUND;

    fn groups() -> Groups {
        let network = |text: &str| text.parse::<IpNet>().expect("a network");
        Groups::new(
            [
                (network("10.0.0.0/8"), Arc::from("office")),
                (network("10.1.0.0/16"), Arc::from("lab")),
                (network("2001:db8::/32"), Arc::from("six")),
            ],
            [],
        )
    }

    fn peer_of(addr: &str) -> String {
        let key = PeerKey::new(addr.parse().expect("an address"), 443, INBOUND);
        groups().account_of(&key).peer.to_string()
    }

    #[test]
    fn the_most_specific_network_wins() {
        assert_eq!(peer_of("10.2.3.4"), "office");
        assert_eq!(peer_of("10.1.3.4"), "lab");
        assert_eq!(peer_of("2001:db8::1"), "six");
    }

    #[test]
    fn an_ungrouped_peer_has_one_spelling() {
        assert_eq!(peer_of("192.0.2.1"), "192.0.2.1");
        assert_eq!(peer_of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(peer_of("::ffff:10.1.0.1"), "lab");
    }

    #[test]
    fn only_a_port_of_ours_can_be_ephemeral() {
        let name = |port, direction| {
            let key = PeerKey::new("192.0.2.1".parse().expect("an address"), port, direction);
            groups().account_of(&key).port_name().to_string()
        };
        assert_eq!(name(443, INBOUND), "443");
        assert_eq!(name(EPHEMERAL, INBOUND), "ephemeral");
        // connect() takes a peer's port 0.
        assert_eq!(name(0, OUTBOUND), "0");
    }

    #[test]
    fn port_and_direction_are_the_keys() {
        let key = PeerKey::new("192.0.2.1".parse().expect("an address"), 5432, OUTBOUND);
        let id = groups().account_of(&key);
        assert_eq!((id.port, id.direction), (5432, Direction::Outbound));
    }
}
