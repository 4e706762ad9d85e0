//! The census by `sock_diag`: every socket crosses to userspace and is summed here.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use netlink_packet_sock_diag::inet::StateFlags;
use probe_ebpf::{
    account::{INBOUND, OUTBOUND, PeerKey},
    connection::{LISTEN_GRACE_NS, LISTENING},
    sweep::{STATES, state},
};
use rustix::time::{ClockId, clock_gettime};

use super::{Census, SocketCounts};
use crate::{
    probe::Probe,
    sock_diag::{self, DiagSocket},
};

/// A dump that was interrupted is started again this often.
const ATTEMPTS: u32 = 3;

pub(super) fn take(probe: Option<&mut Probe>) -> anyhow::Result<Census> {
    let (listening, listeners) = listeners()?;
    let mut ports = Ports { listening, probe, known: HashMap::new() };
    if let Some(probe) = &mut ports.probe {
        probe.mark_listening(ports.listening.iter().copied())?;
    }
    // CLOSE would add sockets that were never connected (bound ones, since 6.8), which no walk of the hash shows.
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE;
    for _ in 1..ATTEMPTS {
        match sum(&states, &mut ports) {
            Err(error) if is_interrupted(&error) => {}
            result => return result.map(|census| with_listeners(census, listeners)),
        }
    }
    sum(&states, &mut ports).map(|census| with_listeners(census, listeners))
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

fn with_listeners(mut census: Census, count: u32) -> Census {
    census.totals[state::LISTEN as usize] = count;
    census
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    let io_error = error.downcast_ref::<std::io::Error>();
    io_error.is_some_and(|error| error.kind() == std::io::ErrorKind::Interrupted)
}

fn sum(states: &StateFlags, ports: &mut Ports<'_>) -> anyhow::Result<Census> {
    let mut rows: HashMap<PeerKey, SocketCounts> = HashMap::new();
    let mut totals = [0; STATES];
    let mut mini_sockets = 0;
    let mut failed = None;
    sock_diag::dump(states, |socket| {
        let index = usize::from(socket.state) % STATES;
        totals[index] += 1;
        mini_sockets += u32::from(socket.is_mini_socket);
        match ports.key(&socket) {
            Ok(key) => rows.entry(key).or_default()[index] += 1,
            Err(error) => failed = Some(error),
        }
    })
    .context("cannot list the sockets over sock_diag netlink")?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Census { rows: rows.into_iter().collect(), totals, mini_sockets, ..Census::default() }),
    }
}

/// Tells services from ephemeral ports: by the listeners there are, else by what the kernel side remembers.
struct Ports<'a> {
    listening: HashSet<u16>,
    probe: Option<&'a mut Probe>,
    known: HashMap<u16, bool>,
}

impl Ports<'_> {
    fn key(&mut self, socket: &DiagSocket) -> anyhow::Result<PeerKey> {
        let remote = socket.remote.ip();
        let pending = u32::from(socket.state) == state::SYN_RECV;
        Ok(if pending || self.is_service(socket.local.port())? {
            PeerKey::new(remote, socket.local.port(), INBOUND)
        } else {
            PeerKey::new(remote, socket.remote.port(), OUTBOUND)
        })
    }

    fn is_service(&mut self, port: u16) -> anyhow::Result<bool> {
        if self.listening.contains(&port) {
            return Ok(true);
        }
        let Some(probe) = &self.probe else { return Ok(false) };
        if let Some(&known) = self.known.get(&port) {
            return Ok(known);
        }
        let mark = probe.port_mark(port)?;
        let service =
            mark == LISTENING || (mark != 0 && monotonic_ns().saturating_sub(mark) < LISTEN_GRACE_NS);
        self.known.insert(port, service);
        Ok(service)
    }
}

/// The clock of `bpf_ktime_get_ns()`.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
