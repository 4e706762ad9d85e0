//! One count of all sockets.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;

/// One count of all sockets, as `tcpwarden census --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Census {
    /// How it was taken: `iter` or `netlink`.
    pub source: &'static str,
    /// All TCP sockets.
    pub sockets: u64,
    /// Those among them that listen.
    pub listen: u32,
    /// The peers of the others, those with the most sockets first.
    pub peers: Vec<PeerSockets>,
}

/// The sockets of one peer and one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerSockets {
    /// Its address, or `other` for those that found no room.
    pub peer: String,
    /// The service port: ours when inbound, the peer's when outbound; 0 for `other`.
    pub port: u16,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Its sockets by state.
    pub sockets: BTreeMap<String, u32>,
    /// Those of them that take a port, by the address of ours: a port is taken once for each.
    pub by_local_address: BTreeMap<IpAddr, u32>,
}
