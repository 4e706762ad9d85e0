//! Answers to what people and programs ask beyond the latest view: from the past, and from the kernel's sockets.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use netlink_packet_sock_diag::inet::StateFlags;
use probe_ebpf::{
    account::{EPHEMERAL, INBOUND, OUTBOUND, PeerKey},
    sweep::state::TIME_WAIT,
};
use tokio::sync::watch;

use crate::{
    history::{History, HistoryError},
    host,
    model::{
        AccountId, Direction, ExportedAccount, Snapshot,
        past::{Happened, Sample, Series, Span},
        pool::Ranges,
        port_map::{PortMap, PortState},
    },
    serve::{Latest, Lookup},
    sock_diag::{self, DiagSocket},
};

/// Looking at every socket may take this part of the time.
const SHARE: u32 = 20;

/// What was looked at is shown for as long at least.
const FRESH: Duration = Duration::from_secs(1);

/// SYNs refused as long ago are shown.
const REFUSED: f64 = 60.0;

/// Who answers.
pub(super) struct Answers {
    history: Option<History>,
    latest: watch::Receiver<Latest>,
    last: Mutex<Option<Look>>,
}

/// The last time that every socket was looked at.
struct Look {
    at: Instant,
    took: Duration,
    account: AccountId,
    found: (IpAddr, PortMap),
}

impl Answers {
    pub fn new(history: Option<History>, latest: watch::Receiver<Latest>) -> Self {
        Self { history, latest, last: Mutex::default() }
    }

    fn history(&self) -> anyhow::Result<&History> {
        Ok(self.history.as_ref().ok_or(HistoryError::Off)?)
    }
}

impl Lookup for Answers {
    fn samples(&self, account: &AccountId, span: Span) -> anyhow::Result<Vec<(u64, Sample)>> {
        let series = Series::Account(account.clone());
        Ok(self.history()?.ask(move |store| store.samples(&series, span))?)
    }

    fn events(&self, span: Span, most: usize) -> anyhow::Result<Vec<Happened>> {
        Ok(self.history()?.ask(move |store| store.events(span, most))?)
    }

    fn ports(&self, account: &AccountId) -> anyhow::Result<(IpAddr, PortMap)> {
        let Some((_, view)) = self.latest.borrow().clone() else { bail!("the first census is not done yet") };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = &*last {
            let pause = (look.took * SHARE).max(FRESH);
            if look.at.elapsed() < pause && look.account == *account {
                return Ok(look.found.clone());
            }
            if look.at.elapsed() < look.took * SHARE {
                bail!(
                    "looking at every socket takes {:.1} s here; try again in a while",
                    look.took.as_secs_f64()
                );
            }
        }
        let at = Instant::now();
        let found = look(account, &view.snapshot)?;
        *last = Some(Look { at, took: at.elapsed(), account: account.clone(), found: found.clone() });
        Ok(found)
    }
}

/// The peer's address and ours, if that is known. A port is taken once for each pair, so a port map is that of the pair with the most.
type Addresses = (IpAddr, Option<IpAddr>);

/// Looks at every socket of this host.
fn look(account: &AccountId, snapshot: &Snapshot) -> anyhow::Result<(IpAddr, PortMap)> {
    let exported = snapshot.accounts.iter().find(|exported| exported.id().as_ref() == Some(account));
    if (account.port, account.direction) == (EPHEMERAL, Direction::Inbound) {
        bail!("a source port is taken once for each port of ours, and this account is of several");
    }
    let Some(exported) = exported else { bail!("{} has no figures of its own now", account.peer) };
    let mut ports: HashMap<Addresses, Vec<(u16, PortState)>> = HashMap::new();
    sock_diag::dump(&StateFlags::all(), |socket| {
        let (service, drawn, direction) = match account.direction {
            Direction::Inbound => (socket.local.port(), socket.remote.port(), INBOUND),
            Direction::Outbound => (socket.remote.port(), socket.local.port(), OUTBOUND),
        };
        let key = PeerKey::new(socket.remote.ip(), service, direction);
        if service == account.port && drawn > 0 && snapshot.groups.account_of(&key) == *account {
            ports
                .entry((socket.remote.ip(), Some(socket.local.ip())))
                .or_default()
                .push((drawn, state_of(&socket)));
        }
    })
    .context("cannot look at the sockets over sock_diag netlink")?;
    let ((address, ours), taken) = ports
        .into_iter()
        .max_by_key(|(_, taken)| taken.len())
        .or_else(|| Some(((account.peer.address()?, None), Vec::new())))
        .with_context(|| format!("{} has no sockets now", account.peer))?;
    let elsewhere = exported.pool.as_ref().and_then(|pool| pool.elsewhere.as_ref());
    let mut map = PortMap::new(pool_of(exported).as_ref(), elsewhere);
    for (port, state) in taken {
        map.set(port, state);
    }
    let now = snapshot.taken.unix_seconds;
    let refused = snapshot.refused_reuses.iter().filter(|reuse| {
        let (remote, local) = (reuse.remote.0, reuse.local.1);
        account.direction == Direction::Inbound
            && remote == address
            && local == account.port
            && ours.is_none_or(|ours| ours == reuse.local.0)
            && now - reuse.began < REFUSED
    });
    for reuse in refused {
        map.set(reuse.remote.1, PortState::Refused);
    }
    Ok((address, map))
}

fn state_of(socket: &DiagSocket) -> PortState {
    if u32::from(socket.state) == TIME_WAIT { PortState::TimeWait } else { PortState::Live }
}

/// The ports it draws from: its pool, or what the kernel chooses from for ours.
fn pool_of(account: &ExportedAccount) -> Option<Ranges> {
    match account.direction {
        Direction::Inbound => account.pool.as_ref()?.pool().cloned(),
        Direction::Outbound => Some(Ranges::whole(&[host::ephemeral_ports()])),
    }
}
