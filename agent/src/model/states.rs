//! Names of the TCP states, as node_exporter spells them.

use probe_ebpf::sweep::state;

/// A state's name in labels, and its number.
pub type NamedState = (&'static str, u32);

/// States in which a socket is connected with a peer.
pub const CONNECTED_STATES: [NamedState; 9] = [
    ("established", state::ESTABLISHED),
    ("time_wait", state::TIME_WAIT),
    ("syn_sent", state::SYN_SENT),
    ("syn_recv", state::SYN_RECV),
    ("fin_wait1", state::FIN_WAIT1),
    ("fin_wait2", state::FIN_WAIT2),
    ("close_wait", state::CLOSE_WAIT),
    ("last_ack", state::LAST_ACK),
    ("closing", state::CLOSING),
];

/// The others.
pub const UNCONNECTED_STATES: [NamedState; 2] = [("close", state::CLOSE), ("listen", state::LISTEN)];

/// The name of a state of an open connection, as it is written in labels and in JSON.
#[must_use]
pub fn state_name(state: u32) -> &'static str {
    CONNECTED_STATES.iter().find(|(_, known)| *known == state).map_or("unknown", |(name, _)| name)
}
