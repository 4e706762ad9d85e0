//! Hosts on one switch.

use std::net::{IpAddr, Ipv4Addr};

use crate::host::Host;

/// Number of the host that an agent watches, and of the name server.
pub const OURS: u8 = 10;
/// As [`OURS`].
pub const DNS: u8 = 53;

/// A switch that hosts are joined to.
#[derive(Debug)]
pub struct Lan {
    switch: Host,
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Lan {
    /// A switch with nobody on it.
    #[must_use]
    pub fn new() -> Self {
        let switch = Host::new("switch");
        switch.sh("ip link add switch type bridge");
        switch.sh("ip link set switch up");
        Self { switch }
    }

    /// A host with one address, on `eth0`.
    #[must_use]
    pub fn host(&self, role: &str, number: u8) -> Host {
        let host = Host::new(role);
        self.join(&host, "eth0", number);
        host
    }

    /// Gives a host an interface on this switch.
    pub fn join(&self, host: &Host, interface: &str, number: u8) {
        let port = format!("port{number}");
        let veth = ["link", "add", &port, "type", "veth", "peer", "name", interface, "netns", host.name()];
        self.switch.run("ip", veth);
        self.switch.sh(&format!("ip link set {port} master switch"));
        self.switch.sh(&format!("ip link set {port} up"));
        // One segment is one packet: captures count segments.
        host.sh(&format!("ip link set {interface} gso_max_segs 1"));
        host.sh(&format!("ip link set {interface} up"));
        Self::add_address(host, interface, number);
    }

    /// Gives a host that is joined one more address.
    pub fn add_address(host: &Host, interface: &str, number: u8) {
        host.sh(&format!("ip addr add {}/24 dev {interface}", Self::address(number)));
    }

    /// Address of host `number`.
    #[must_use]
    pub fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 80, 0, number).into()
    }
}
