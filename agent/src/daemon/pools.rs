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
    model::{
        AccountId, Accounts, ExportedAccount, Groups,
        pool::{PoolFigures, Pools},
        refusals::{Clocks, Refusals, RefusedReuse, has_given_up},
    },
    probe::{Probe, monotonic_ns},
};

/// What is known of source ports.
pub(super) struct SourcePorts {
    pools: Pools,
    refusals: Refusals,
    figures: Vec<AddressPool>,
}

/// The pool of one address.
pub(super) struct AddressPool {
    pub account: AccountId,
    pub address: IpAddr,
    pub figures: PoolFigures,
}

impl SourcePorts {
    pub fn new(limits: &Limits) -> Self {
        Self {
            pools: Pools::new(limits.tracked_peers as usize),
            refusals: Refusals::new(limits.events),
            figures: Vec::new(),
        }
    }

    /// Takes the counters of one of the kernel's accounts.
    pub fn read(&mut self, now: Duration, key: &AccountKey, counters: &Counters) {
        if !key.half_open {
            self.pools.read(now, &key.peer, counters);
        }
    }

    /// Takes the sockets of a census.
    pub fn settle(&mut self, now: Duration, census: &[Held]) {
        self.pools.settle(now, census);
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
        for account in accounts {
            let Some(id) = account.id() else { continue };
            account.pool = fullest.get(&id).map(|figures| (*figures).clone());
        }
    }

    pub fn figures(&self) -> &[AddressPool] {
        &self.figures
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

/// Both clocks, now.
pub(super) fn clocks() -> Clocks {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Clocks { monotonic_ns: monotonic_ns(), unix_seconds: since_epoch.as_secs_f64() }
}
