//! The networks the scenarios play in.

use std::net::IpAddr;

use crate::host::Host;

/// Which protocol a scenario speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Two hosts on one wire.
#[derive(Debug)]
pub struct Pair {
    /// 10.77.0.1 and `fd77::1`, on `eth0`.
    pub client: Host,
    /// 10.77.0.2 and `fd77::2`, on `eth0`.
    pub server: Host,
}

impl Pair {
    /// Address of the client.
    #[must_use]
    pub fn client_address(family: Family) -> IpAddr {
        address(family, 1)
    }

    /// Address of the server.
    #[must_use]
    pub fn server_address(family: Family) -> IpAddr {
        address(family, 2)
    }
}

/// Address number `host` of the wire.
#[must_use]
pub fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 77, 0, host]),
        Family::V6 => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

/// `client eth0 ── eth0 server`
#[must_use]
pub fn pair() -> Pair {
    let pair = Pair { client: Host::new("client"), server: Host::new("server") };
    pair.client.run(
        "ip",
        ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pair.server.name()],
    );
    for (host, number) in [(&pair.client, 1), (&pair.server, 2)] {
        // One segment is one packet: captures count segments.
        host.sh("ip link set eth0 gso_max_segs 1");
        host.sysctl("net.ipv6.conf.eth0.accept_dad", "0");
        host.sh(&format!("ip addr add 10.77.0.{number}/24 dev eth0"));
        host.sh(&format!("ip addr add fd77::{number}/64 dev eth0 nodad"));
        host.sh("ip link set eth0 up");
    }
    pair
}
