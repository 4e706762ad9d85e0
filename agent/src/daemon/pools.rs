//! The part of the poll that is about source ports: whose are recorded, what they say, and what became of refused SYNs.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use probe_ebpf::{
    account::{AccountKey, Counters, INBOUND, PeerKey},
    refusal::EndedRefusal,
    sweep::HeldAt,
};

use super::state::{PoolState, Store};
use crate::{
    config::Settings,
    host,
    model::{
        AccountId, Accounts, ExportedAccount, Groups,
        pool::{Ephemeral, EphemeralFigures, LocalPorts, PoolFigures, Pools, Reuse, TimeWaits},
        refusals::{Clocks, Refusals, RefusedReuse, has_given_up, syn_within},
    },
    probe::{Probe, monotonic_ns},
};

/// Time between two occasions of writing down the pools that are known.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// What is known of source ports.
pub(super) struct SourcePorts {
    pools: Pools,
    ephemeral: Ephemeral,
    refusals: Refusals,
    /// When they were last looked at, in nanoseconds of the kernel's monotonic clock.
    refusals_seen_ns: u64,
    store: Store<PoolState>,
    saved_at: Duration,
    figures: Vec<AddressPool>,
    ephemeral_figures: Vec<AddressPorts>,
}

/// The pool of one address.
pub(super) struct AddressPool {
    pub account: AccountId,
    pub address: IpAddr,
    pub figures: PoolFigures,
}

/// Our ports towards one destination.
pub(super) struct AddressPorts {
    pub account: AccountId,
    pub address: IpAddr,
    pub figures: EphemeralFigures,
}

impl SourcePorts {
    /// Takes up the pools that were known before a restart.
    pub fn new(settings: &Settings) -> Self {
        let limits = &settings.limits;
        let mut pools = Pools::new(limits.tracked_peers as usize);
        let (store, PoolState { pools: saved, .. }) = Store::open(&settings.state_directory);
        pools.restore(saved, unix());
        Self {
            pools,
            ephemeral: Ephemeral::default(),
            refusals: Refusals::new(limits.events),
            refusals_seen_ns: 0,
            store,
            saved_at: Duration::ZERO,
            figures: Vec::new(),
            ephemeral_figures: Vec::new(),
        }
    }

    /// Takes the counters of one of the kernel's accounts; `is_news`: they are others than before, or those of a new one.
    pub fn read(&mut self, now: Duration, key: &AccountKey, counters: &Counters, is_news: bool) {
        if !key.half_open {
            self.pools.read(now, &key.peer, counters, is_news);
            self.ephemeral.read(now, &key.peer, counters);
        }
    }

    /// Takes the sockets of a census.
    pub fn settle(&mut self, now: Duration, census: &[HeldAt]) {
        self.pools.settle(now, census);
        self.ephemeral.settle(now, census, local_ports());
    }

    /// Goes on once all accounts are read: looks at the ports, the refused SYNs, and what they mean.
    pub fn poll(&mut self, now: Duration, probe: &mut Probe, accounts: &mut Accounts) -> anyhow::Result<()> {
        // Before the ports of the last second are taken, so that theirs are among them.
        self.follow_refusals(now, probe, accounts)?;
        let groups = accounts.groups();
        let choice = self.pools.choose(now, |key| groups.pool_of(key).is_some());
        for peer in choice.forget {
            probe.forget_source_ports(&peer)?;
        }
        for peer in choice.record {
            probe.record_source_ports(&peer)?;
        }
        probe.turn_source_ports()?;
        for peer in self.pools.due() {
            if let Some(ports) = probe.take_source_ports(&peer)?
                && self.pools.observe(now, &peer, &ports, groups.pool_of(&peer))
            {
                probe.record_source_ports(&peer)?;
            }
        }
        self.conclude(now, time_waits()?, accounts.groups());
        if now.saturating_sub(self.saved_at) >= SAVE_EVERY {
            self.saved_at = now;
            self.store.save(PoolState::new(self.pools.save(now, unix())));
        }
        Ok(())
    }

    /// An account was removed from the kernel.
    pub fn forget(&mut self, key: &AccountKey, probe: &mut Probe) -> anyhow::Result<()> {
        if !key.half_open && self.pools.forget(&key.peer) {
            probe.forget_source_ports(&key.peer)?;
        }
        Ok(())
    }

    fn follow_refusals(
        &mut self,
        now: Duration,
        probe: &mut Probe,
        accounts: &mut Accounts,
    ) -> anyhow::Result<()> {
        let clocks = clocks();
        let seen_ns = mem::replace(&mut self.refusals_seen_ns, clocks.monotonic_ns);
        // A story that ends meanwhile is met twice.
        let mut syns = BTreeSet::new();
        let mut look = |story: &EndedRefusal| {
            let syn = syn_within(&story.refusal, seen_ns..clocks.monotonic_ns);
            syns.extend(
                syn.map(|(port, is_repeated)| (peer(story), story.refusal.first_ns, port, is_repeated)),
            );
        };
        let mut ended = probe.take_given_up(|story| {
            look(story);
            has_given_up(&story.refusal, clocks.monotonic_ns)
        })?;
        probe.take_ended_refusals(|story| {
            look(story);
            ended.push(*story);
        });
        for (peer, _, port, is_repeated) in syns {
            self.pools.refuse(&peer, port, is_repeated);
        }
        // Those that connected are counted by the kernel side.
        for story in ended.iter().filter(|ended| ended.refusal.connected_ns == 0) {
            accounts.gave_up(now, &peer(story), story.refusal.was_open());
        }
        self.refusals.add(&ended, clocks);
        Ok(())
    }

    /// The figures of each address' pool.
    fn conclude(&mut self, now: Duration, time_waits: TimeWaits, groups: &Groups) {
        let pools = self.pools.figures(now, time_waits, |key| groups.pool_of(key).cloned());
        let pool = |(key, figures): (PeerKey, PoolFigures)| AddressPool {
            account: groups.account_of(&key),
            address: key.address(),
            figures,
        };
        self.figures = pools.map(pool).collect();
        let ports = |(key, figures): (PeerKey, EphemeralFigures)| AddressPorts {
            account: groups.account_of(&key),
            address: key.address(),
            figures,
        };
        self.ephemeral_figures = self.ephemeral.figures(now).map(ports).collect();
    }

    /// Adds to each account what is known of its pool; to a group, that of its fullest address.
    pub fn complete(&self, accounts: &mut [ExportedAccount]) {
        let mut fullest: HashMap<&AccountId, &PoolFigures> = HashMap::new();
        for AddressPool { account, figures, .. } in &self.figures {
            let fuller = fullest.get(account).is_none_or(|other| fullness(figures) > fullness(other));
            if fuller {
                fullest.insert(account, figures);
            }
        }
        let mut ephemeral: HashMap<&AccountId, &EphemeralFigures> = HashMap::new();
        for AddressPorts { account, figures, .. } in &self.ephemeral_figures {
            if ephemeral.get(account).is_none_or(|other| figures.used_ratio() > other.used_ratio()) {
                ephemeral.insert(account, figures);
            }
        }
        for account in accounts {
            let Some(id) = account.id() else { continue };
            account.pool = fullest.get(&id).map(|figures| (*figures).clone());
            account.ephemeral = ephemeral.get(&id).map(|figures| **figures);
        }
    }

    pub fn figures(&self) -> &[AddressPool] {
        &self.figures
    }

    pub fn ephemeral(&self) -> &[AddressPorts] {
        &self.ephemeral_figures
    }

    pub fn refused_reuses(&self) -> Arc<[RefusedReuse]> {
        self.refusals.last()
    }

    /// Refused reuses that had to make room for later ones.
    pub fn dropped(&self) -> u64 {
        self.refusals.dropped()
    }

    /// Connections of peers whose ports found no room.
    pub fn unrecorded(&self) -> u64 {
        self.pools.unrecorded()
    }

    /// SYNs that were not searched for blocks of ports.
    pub fn unsearched(&self) -> u64 {
        self.pools.unsearched()
    }

    /// Remembered pools that made room for others.
    pub fn evicted(&self) -> u64 {
        self.pools.evicted()
    }

    /// Whether what a restart needs is saved.
    pub fn is_saved(&self) -> bool {
        self.store.works()
    }

    pub fn recorded(&self) -> usize {
        self.pools.recorded()
    }
}

/// Whose attempt a story is about.
fn peer(EndedRefusal { attempt, .. }: &EndedRefusal) -> PeerKey {
    PeerKey { addr: attempt.remote, port: attempt.local_port, direction: INBOUND, zero: [0; 5] }
}

/// How full a pool is; by the number of its ports as long as it is not known.
fn fullness(figures: &PoolFigures) -> f64 {
    figures.used_ratio().unwrap_or(figures.load.used() / 65_536.0)
}

/// What the kernel says of its TIME_WAITs.
fn time_waits() -> anyhow::Result<TimeWaits> {
    let limit = host::sysctl("net.ipv4.tcp_max_tw_buckets");
    let now = host::SocketStats::read()?.time_wait_buckets;
    let host::Counters { time_waits, time_wait_overflows, .. } = host::Counters::read()?;
    Ok(TimeWaits {
        left: limit.map_or(f64::INFINITY, |limit| limit.saturating_sub(now) as f64),
        made: time_waits,
        overflows: time_wait_overflows,
    })
}

/// The ports the kernel chooses from now.
fn local_ports() -> LocalPorts {
    let reuse = match (host::sysctl("net.ipv4.tcp_tw_reuse"), host::sysctl("net.ipv4.tcp_timestamps")) {
        (_, Some(0)) | (None | Some(0), _) => Reuse::Never,
        (Some(2), _) => Reuse::Loopback,
        _ => Reuse::Always,
    };
    LocalPorts { size: host::ephemeral_port_count(), reuse }
}

/// Unix time, in seconds.
fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Both clocks, now.
pub(super) fn clocks() -> Clocks {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Clocks { monotonic_ns: monotonic_ns(), unix_seconds: since_epoch.as_secs_f64() }
}
