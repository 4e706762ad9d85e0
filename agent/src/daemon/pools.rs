//! The part of the poll that is about source ports: whose are recorded, what they say, and what became of refused SYNs.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use probe_ebpf::{
    account::{AccountKey, Counters, INBOUND, PeerKey},
    refusal::EndedRefusal,
    sweep::STATES,
};

use crate::{
    config::Limits,
    model::{
        AccountId, Accounts, ExportedAccount, Groups,
        findings::{self, Change, Finding, Findings},
        pool::{PoolFigures, Pools},
        refusals::{Clocks, Refusals, RefusedReuse, has_given_up},
    },
    probe::{Probe, monotonic_ns},
};

/// What is known of source ports.
pub(super) struct SourcePorts {
    pools: Pools,
    refusals: Refusals,
    findings: Findings,
    figures: HashMap<AccountId, PoolFigures>,
}

impl SourcePorts {
    pub fn new(limits: &Limits) -> Self {
        Self {
            pools: Pools::new(limits.tracked_peers as usize),
            refusals: Refusals::new(limits.events),
            findings: Findings::default(),
            figures: HashMap::new(),
        }
    }

    /// Takes the counters of one of the kernel's accounts.
    pub fn read(&mut self, now: Duration, key: &AccountKey, counters: &Counters) {
        if !key.half_open {
            self.pools.read(now, &key.peer, counters);
        }
    }

    /// Takes the sockets of a census.
    pub fn settle(&mut self, now: Duration, census: &[(PeerKey, [u32; STATES])]) {
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

    /// The figures of each account's pool, and what there is to say about them.
    fn conclude(&mut self, now: Duration, groups: &Groups) {
        self.figures.clear();
        let mut found: Vec<(f64, Finding)> = Vec::new();
        for (key, figures) in self.pools.figures(now, |key| groups.pool_of(key).cloned()) {
            let account = groups.account_of(&key);
            let fullness = fullness(&figures);
            let address = key.address().to_string();
            found.extend(findings::of_pool(&account, &address, &figures).into_iter().map(|f| (fullness, f)));
            let fuller = self.figures.get(&account).is_none_or(|other| fullness > self::fullness(other));
            if fuller {
                self.figures.insert(account, figures);
            }
        }
        // Of a group, the last to speak is the fullest address.
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        for change in self.findings.update(now, found.into_iter().map(|(_, finding)| finding).collect()) {
            match change {
                Change::Raised(Finding { kind, text, .. }) => log::warn!("{}: {text}", kind.name()),
                Change::Cleared(Finding { kind, account, .. }) => {
                    log::info!("{}: over for {} towards port {}", kind.name(), account.peer, account.port);
                }
            }
        }
    }

    /// Adds to each account what is known of its pool.
    pub fn complete(&self, accounts: &mut [ExportedAccount]) {
        for account in accounts {
            let Some((peer, port)) = &account.who else { continue };
            let id = AccountId { peer: peer.clone(), port: *port, direction: account.direction };
            account.pool = self.figures.get(&id).cloned();
        }
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.findings.raised()
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

fn clocks() -> Clocks {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Clocks { monotonic_ns: monotonic_ns(), unix_seconds: since_epoch.as_secs_f64() }
}
