//! The part of the poll that is about source ports: whose are recorded, what they say, and what became of refused SYNs.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use probe_ebpf::{
    account::{AccountKey, Counters, INBOUND, PeerKey},
    refusal::EndedRefusal,
    sweep::Held,
};

use crate::{
    config::Limits,
    host,
    model::{
        AccountId, Accounts, ExportedAccount, Groups,
        pool::{Ephemeral, EphemeralFigures, LocalPorts, PoolFigures, Pools, Reuse},
        refusals::{Clocks, Refusals, RefusedReuse, has_given_up},
    },
    probe::{Probe, monotonic_ns},
};

/// What is known of source ports.
pub(super) struct SourcePorts {
    pools: Pools,
    ephemeral: Ephemeral,
    refusals: Refusals,
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
    pub fn new(limits: &Limits) -> Self {
        Self {
            pools: Pools::new(limits.tracked_peers as usize),
            ephemeral: Ephemeral::default(),
            refusals: Refusals::new(limits.events),
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
    pub fn settle(&mut self, now: Duration, census: &[Held]) {
        self.pools.settle(now, census);
        self.ephemeral.settle(now, census, local_ports());
    }

    /// Goes on once all accounts are read: looks at the ports, the refused SYNs, and what they mean.
    pub fn poll(&mut self, now: Duration, probe: &mut Probe, accounts: &mut Accounts) -> anyhow::Result<()> {
        let groups = accounts.groups();
        let choice = self.pools.choose(now, |key| groups.pool_of(key).is_some());
        for peer in choice.forget {
            probe.forget_source_ports(&peer)?;
        }
        for peer in choice.record {
            probe.record_source_ports(&peer)?;
        }
        for peer in self.pools.due() {
            if let Some(ports) = probe.source_ports(&peer)?
                && self.pools.observe(now, &peer, &ports)
            {
                probe.record_source_ports(&peer)?;
            }
        }
        self.follow_refusals(probe, accounts)?;
        self.conclude(now, accounts.groups());
        Ok(())
    }

    /// An account was removed from the kernel.
    pub fn forget(&mut self, key: &AccountKey, probe: &mut Probe) -> anyhow::Result<()> {
        if !key.half_open && self.pools.forget(&key.peer) {
            probe.forget_source_ports(&key.peer)?;
        }
        Ok(())
    }

    fn follow_refusals(&mut self, probe: &mut Probe, accounts: &mut Accounts) -> anyhow::Result<()> {
        let clocks = clocks();
        let mut ended = Vec::new();
        probe.take_ended_refusals(|story| ended.push(*story));
        ended.extend(probe.take_given_up(|refusal| has_given_up(refusal, clocks.monotonic_ns))?);
        for EndedRefusal { tuple, refusal } in &ended {
            // The attempt that connected is counted by the kernel side.
            let failed = refusal.attempts.saturating_sub(u32::from(refusal.connected_ns > 0));
            let peer =
                PeerKey { addr: tuple.remote, port: tuple.local_port, direction: INBOUND, zero: [0; 5] };
            accounts.gave_up(&peer, u64::from(failed));
        }
        self.refusals.add(&ended, clocks);
        Ok(())
    }

    /// The figures of each address' pool.
    fn conclude(&mut self, now: Duration, groups: &Groups) {
        let pools = self.pools.figures(now, |key| groups.pool_of(key).cloned());
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

    pub fn recorded(&self) -> usize {
        self.pools.recorded()
    }
}

/// How full a pool is; by the number of its ports as long as it is not known.
fn fullness(figures: &PoolFigures) -> f64 {
    figures.used_ratio().unwrap_or(figures.load.used() / 65_536.0)
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

/// Both clocks, now.
pub(super) fn clocks() -> Clocks {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Clocks { monotonic_ns: monotonic_ns(), unix_seconds: since_epoch.as_secs_f64() }
}
