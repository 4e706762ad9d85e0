//! Accounts on ports of short-lived listeners. Passive FTP opens one for each transfer, on a port that the kernel chooses: an account for each
//! of them would tell nothing and fill the map.
//!
//! That a listener is short-lived is known once it has ended. Until then, or until it has lasted, a new account on its port waits in the
//! kernel; so its events are in one series only, and a service that is started anew loses none.

use std::collections::HashMap;

use probe_ebpf::{
    account::{AccountKey, INBOUND},
    port::{LISTENING, Port},
};

use crate::{
    host,
    probe::{Probe, monotonic_ns},
};

/// The last listener of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// It lasts, or lasted; or its beginning was not seen.
    Lasting,
    /// It is too young to tell.
    Young,
    /// It ended soon.
    ShortLived,
}

/// The ports that the kernel chooses from, and what was asked of them during one poll.
pub(super) struct EphemeralPorts {
    pub range: (u16, u16),
    asked: HashMap<u16, Listener>,
}

impl EphemeralPorts {
    /// Those of now.
    pub fn now() -> Self {
        Self { range: host::ephemeral_ports(), asked: HashMap::new() }
    }

    /// Whether an account is on one of them. Half-open peers have a map of their own: forged addresses must not get accounts by this.
    pub fn contain(&self, key: &AccountKey) -> bool {
        let (low, high) = self.range;
        !key.half_open && key.peer.direction == INBOUND && (low..=high).contains(&key.peer.port)
    }

    /// The last listener of a port.
    pub fn listener(&mut self, probe: &Probe, number: u16) -> anyhow::Result<Listener> {
        if let Some(&listener) = self.asked.get(&number) {
            return Ok(listener);
        }
        let listener = listener_of(&probe.port(number)?, monotonic_ns());
        self.asked.insert(number, listener);
        Ok(listener)
    }
}

fn listener_of(port: &Port, now_ns: u64) -> Listener {
    match port.is_short_lived(now_ns) {
        false => Listener::Lasting,
        true if port.mark == LISTENING => Listener::Young,
        true => Listener::ShortLived,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_listener_is_short_lived_once_it_has_ended_soon() {
        let opened_at = |seconds: u64, mark| Port {
            mark,
            opened_ns: seconds * SECOND,
            generation: 0,
            sockets: 0,
            sockets_before: 0,
            zero: 0,
        };
        let listener = |port: Port, seconds: u64| listener_of(&port, seconds * SECOND);
        assert_eq!(listener(opened_at(100, LISTENING), 109), Listener::Young);
        assert_eq!(listener(opened_at(100, LISTENING), 110), Listener::Lasting);
        assert_eq!(listener(opened_at(100, 101 * SECOND), 101), Listener::ShortLived);
        assert_eq!(listener(opened_at(100, 101 * SECOND), 1_000), Listener::ShortLived, "and stays so");
        // One that lasted, or that is older than the agent.
        assert_eq!(listener(opened_at(0, LISTENING), 5), Listener::Lasting);
        assert_eq!(listener(opened_at(0, 101 * SECOND), 101), Listener::Lasting);
    }
}
