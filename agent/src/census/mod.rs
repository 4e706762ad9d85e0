//! Who holds which sockets now: summed in the kernel by the iterator, or here from a netlink dump.

mod iter;
mod netlink;

use std::time::Duration;

use anyhow::bail;
use probe_ebpf::sweep::{Held, HeldAt, STATES};
use rustix::time::{ClockId, clock_gettime};

use crate::{config::CensusMode, probe::Probe};

/// Number of sockets by TCP state number; mini-sockets count by their sub-state.
pub type SocketCounts = [u32; STATES];

/// The result of one walk over all TCP sockets of the namespace.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Sockets per peer; listeners belong to none. A peer may have more than one row.
    pub rows: Vec<Held>,
    /// The same sockets by the local address they use, without pending requests.
    pub at: Vec<HeldAt>,
    /// All sockets, listeners included.
    pub totals: SocketCounts,
    /// Mini-sockets among them, TIME_WAIT and FIN_WAIT2: what the kernel counts against `tcp_max_tw_buckets`.
    pub mini_sockets: u32,
    /// Sockets whose peers have no account in the kernel, because the map is full; in `rows`, they are the overflow account's.
    pub without_account: u32,
    /// CPU time it took.
    pub cost: Duration,
}

impl Census {
    /// Number of sockets walked.
    #[must_use]
    pub fn sockets(&self) -> u64 {
        self.totals.iter().map(|&count| u64::from(count)).sum()
    }
}

/// How the census is taken on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `iter/tcp`, summed in the kernel.
    Iter,
    /// `sock_diag`, summed here.
    Netlink,
}

impl Source {
    /// As it is written in metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iter => "iter",
            Self::Netlink => "netlink",
        }
    }

    /// Chooses by what is wanted and what the kernel has, and says why the better way is closed if it is.
    ///
    /// # Errors
    /// When the iterator is demanded and this kernel has none.
    pub fn choose(wanted: CensusMode, probe: &mut Probe) -> anyhow::Result<(Self, Option<String>)> {
        if wanted == CensusMode::Netlink {
            return Ok((Self::Netlink, None));
        }
        match probe.load_census() {
            Ok(()) => Ok((Self::Iter, None)),
            Err(reason) if wanted == CensusMode::Auto => Ok((Self::Netlink, Some(reason))),
            Err(reason) => {
                bail!("cannot count sockets with the iterator: {reason}; use --census netlink")
            }
        }
    }

    /// Takes one census. `ephemeral` is `net.ipv4.ip_local_port_range`: a shared port outside it was a service, even if
    /// nobody listens on it any more. `patience` is how long a connection of ours may wait for an answer before it is stalled, which
    /// only the iterator can tell. `free_accounts` is how many accounts the iterator may add to the kernel's map.
    ///
    /// # Errors
    /// What the kernel answered, with context.
    pub fn take(
        self,
        probe: &mut Probe,
        ephemeral: (u16, u16),
        patience: Duration,
        free_accounts: u32,
    ) -> anyhow::Result<Census> {
        timed(|| match self {
            Self::Iter => iter::take(probe, ephemeral, patience, free_accounts),
            Self::Netlink => netlink::take(Some(probe), ephemeral),
        })
    }
}

/// Takes one census over netlink without any kernel side, which needs no rights. See [`Source::take`].
///
/// # Errors
/// What the kernel answered, with context.
pub fn without_probe(ephemeral: (u16, u16)) -> anyhow::Result<Census> {
    timed(|| netlink::take(None, ephemeral))
}

/// Ports that are being listened on now.
///
/// # Errors
/// What the kernel answered, with context.
pub fn listening_ports() -> anyhow::Result<Vec<u16>> {
    netlink::listening_ports()
}

fn timed(take: impl FnOnce() -> anyhow::Result<Census>) -> anyhow::Result<Census> {
    let before = cpu_time();
    let census = take()?;
    Ok(Census { cost: cpu_time().saturating_sub(before), ..census })
}

/// CPU time of this thread so far.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
