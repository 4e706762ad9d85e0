//! The census by `sock_diag`: every socket crosses to userspace and is summed here.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use netlink_packet_sock_diag::inet::StateFlags;
use probe_ebpf::{
    account::{Address, INBOUND, OUTBOUND, PeerKey},
    port::{LISTENING, SHARED},
    sweep::{Held, HeldAt, STATES, state},
};

use super::{Census, SocketCounts};
use crate::{
    probe::{Probe, monotonic_ns},
    sock_diag::{self, DiagSocket},
};

/// A dump that was interrupted is started again this often.
const ATTEMPTS: u32 = 3;

pub(super) fn take(mut probe: Option<&mut Probe>, ephemeral: (u16, u16)) -> anyhow::Result<Census> {
    let (listening, listeners) = listeners()?;
    if let Some(probe) = &mut probe {
        probe.set_ephemeral_ports(ephemeral)?;
        probe.mark_ports(listening.iter().copied(), LISTENING)?;
    }
    // CLOSE would add sockets that were never connected (bound ones, since 6.8), which no walk of the hash shows.
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE;
    let mut walk = Walk::new(&listening, probe.as_deref());
    for _ in 1..ATTEMPTS {
        match sock_diag::dump(&states, |socket| walk.add(&socket)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                walk = Walk::new(&listening, probe.as_deref());
            }
            Err(error) => return Err(error).context("cannot list the sockets over sock_diag netlink"),
            Ok(()) => {
                let (mut census, services) = walk.finish(ephemeral)?;
                if let Some(probe) = probe {
                    probe.mark_ports(services, monotonic_ns())?;
                }
                census.totals[state::LISTEN as usize] = listeners;
                return Ok(census);
            }
        }
    }
    anyhow::bail!("the kernel interrupted {ATTEMPTS} socket dumps in a row; the next census tries again")
}

pub(super) fn listening_ports() -> anyhow::Result<Vec<u16>> {
    Ok(listeners()?.0.into_iter().collect())
}

fn listeners() -> anyhow::Result<(HashSet<u16>, u32)> {
    let mut ports = HashSet::new();
    let mut count = 0;
    sock_diag::dump(&StateFlags::LISTEN, |socket| {
        ports.insert(socket.local.port());
        count += 1;
    })
    .context("cannot list the listeners over sock_diag netlink")?;
    Ok((ports, count))
}

/// The sums of one dump.
struct Walk<'a> {
    listening: &'a HashSet<u16>,
    probe: Option<&'a Probe>,
    rows: HashMap<PeerKey, Held>,
    at: HashMap<(PeerKey, Address), HeldAt>,
    totals: SocketCounts,
    mini_sockets: u32,
    /// Ports that the kernel side was asked about, and its answers.
    known: HashMap<u16, bool>,
    /// Sockets of ports that nobody listens on, kept until it is known how many share a port.
    undecided: Vec<DiagSocket>,
    failed: Option<anyhow::Error>,
}

impl<'a> Walk<'a> {
    fn new(listening: &'a HashSet<u16>, probe: Option<&'a Probe>) -> Self {
        Self {
            listening,
            probe,
            rows: HashMap::new(),
            at: HashMap::new(),
            totals: [0; STATES],
            mini_sockets: 0,
            known: HashMap::new(),
            undecided: Vec::new(),
            failed: None,
        }
    }

    fn add(&mut self, socket: &DiagSocket) {
        self.totals[usize::from(socket.state) % STATES] += 1;
        self.mini_sockets += u32::from(socket.is_mini_socket);
        match self.is_service(socket) {
            Ok(true) => self.book(socket, INBOUND),
            Ok(false) => self.undecided.push(*socket),
            Err(error) => self.failed = Some(error),
        }
    }

    fn book(&mut self, socket: &DiagSocket, direction: u8) {
        let port = if direction == INBOUND { socket.local.port() } else { socket.remote.port() };
        let peer = PeerKey::new(socket.remote.ip(), port, direction);
        let held = self.rows.entry(peer).or_insert_with(|| Held::none(peer));
        held.sockets[usize::from(socket.state) % STATES] += 1;
        let shown = u32::from(socket.state);
        if shown != state::SYN_RECV {
            let local = PeerKey::new(socket.local.ip(), 0, 0).addr;
            let none = HeldAt { peer, local, live: 0, time_wait: 0 };
            let at = self.at.entry((peer, local)).or_insert(none);
            if shown == state::TIME_WAIT { at.time_wait += 1 } else { at.live += 1 }
        }
    }

    /// Whether its port is a service: by the listeners there are, else by what the kernel side remembers.
    fn is_service(&mut self, socket: &DiagSocket) -> anyhow::Result<bool> {
        let port = socket.local.port();
        if u32::from(socket.state) == state::SYN_RECV || self.listening.contains(&port) {
            return Ok(true);
        }
        let Some(probe) = &self.probe else { return Ok(false) };
        if let Some(&known) = self.known.get(&port) {
            return Ok(known);
        }
        let service = probe.port(port)?.is_service(monotonic_ns());
        self.known.insert(port, service);
        Ok(service)
    }

    /// Decides the undecided: a port that several share and that the kernel would not have chosen for a connect() was a
    /// service. Returns those ports, too.
    fn finish(mut self, (low, high): (u16, u16)) -> anyhow::Result<(Census, HashSet<u16>)> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut sharing: HashMap<u16, u32> = HashMap::new();
        for socket in &self.undecided {
            *sharing.entry(socket.local.port()).or_default() += 1;
        }
        let services: HashSet<u16> = sharing
            .into_iter()
            .filter(|&(port, sockets)| sockets >= SHARED && !(low..=high).contains(&port))
            .map(|(port, _)| port)
            .collect();
        for socket in std::mem::take(&mut self.undecided) {
            let inbound = services.contains(&socket.local.port());
            self.book(&socket, if inbound { INBOUND } else { OUTBOUND });
        }
        let Self { rows, at, totals, mini_sockets, .. } = self;
        let (rows, at) = (rows.into_values().collect(), at.into_values().collect());
        Ok((Census { rows, at, totals, mini_sockets, ..Census::default() }, services))
    }
}
