//! The part of the poll that is about watched names: what they list, and who calls what they no longer list.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use probe_ebpf::{
    account::{AccountKey, Calls, OUTBOUND, PeerKey},
    sweep::Held,
};

use crate::{
    config::{Settings, Watch},
    host::names::{Listing, Lookup, Pace, Resolver},
    model::{
        AccountId, Callers, Groups, Peer,
        names::{Answer, Failover, NameFigures, NameTrouble, Names, Part, StaleAddress, Told, WatchId},
        refusals::Clocks,
    },
    probe::monotonic_ns,
};

/// What is known of watched names.
#[derive(Default)]
pub(super) struct WatchedNames {
    names: Names,
    /// From the first name on.
    resolver: Option<Resolver>,
    figures: Arc<[NameFigures]>,
}

impl WatchedNames {
    /// Watches what is configured from now on.
    pub fn watch(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let watches = settings
            .watches
            .iter()
            .map(|watch| (WatchId { name: Arc::clone(&watch.name), port: watch.port }, watch.every));
        self.names.watch(monotonic_ns(), watches);
        if self.resolver.is_none() && !settings.watches.is_empty() {
            self.resolver = Some(Resolver::start().context("cannot start the thread that resolves names")?);
        }
        if let Some(resolver) = &self.resolver {
            resolver.watch(settings.watches.iter().map(|watch| {
                let Watch { name, every, failing_every, .. } = watch;
                (Arc::clone(name), Pace { every: *every, hurried_every: *failing_every })
            }));
        }
        Ok(())
    }

    /// Takes one of the kernel's accounts.
    pub fn read(&mut self, key: &AccountKey, calls: &Calls) {
        self.names.read(key, calls);
    }

    /// Takes the sockets of a census.
    pub fn settle(&mut self, census: &[Held]) {
        self.names.settle(census);
    }

    /// Goes on once all accounts are read; says which failovers are over.
    pub fn poll(&mut self, callers: &Callers) {
        let Some(resolver) = &self.resolver else { return };
        let (now, now_ns) = (Instant::now(), monotonic_ns());
        for lookup in resolver.take() {
            self.names.learn(&lookup.name, &answer(&lookup, now, now_ns));
        }
        for failover in self.names.conclude(now_ns, callers) {
            log::info!("{}", told(&failover));
        }
        resolver.hurry(self.names.hurried(now_ns).cloned().collect::<BTreeSet<_>>());
        self.figures = self.names.figures(now_ns, callers).into();
    }

    pub fn figures(&self) -> Arc<[NameFigures]> {
        Arc::clone(&self.figures)
    }

    pub fn failovers(&self) -> Arc<[Failover]> {
        self.names.failovers()
    }

    /// Who is called though no name lists it any more, with the account it belongs to.
    pub fn stale(&self, clocks: Clocks, groups: &Groups) -> Vec<(AccountId, StaleAddress)> {
        let stale = self.names.stale(clocks.monotonic_ns, &self.figures);
        let account = |stale: StaleAddress| {
            let key = PeerKey::new(stale.address, stale.id.port, OUTBOUND);
            (groups.account_of(&key), stale)
        };
        stale.into_iter().map(account).collect()
    }

    /// Accounts whose calls ended with a name's move. A group has other addresses, too.
    pub fn left_behind(&self, groups: &Groups) -> HashSet<AccountId> {
        let accounts = self.names.left_behind(&self.figures).into_iter().map(|key| groups.account_of(&key));
        accounts.filter(|account| matches!(account.peer, Peer::Address(_))).collect()
    }

    pub fn troubles(&self, clocks: Clocks) -> Vec<NameTrouble> {
        self.names.troubles(clocks.monotonic_ns)
    }

    /// Lookups that found no room.
    pub fn lost(&self) -> u64 {
        self.resolver.as_ref().map_or(0, Resolver::lost)
    }
}

/// A lookup on the kernel's clock.
fn answer(lookup: &Lookup, now: Instant, now_ns: u64) -> Answer {
    let ns = |at: Instant| {
        let ago = u64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
        now_ns.saturating_sub(ago)
    };
    let Lookup { asked, answered, v4, v6, .. } = lookup;
    Answer { asked_ns: ns(*asked), answered_ns: ns(*answered), v4: told_of(v4), v6: told_of(v6) }
}

fn told_of(listing: &Listing) -> Told {
    match listing {
        Listing::Listed(addresses, left_out) => {
            Told::Listed { addresses: addresses.clone(), left_out: *left_out }
        }
        Listing::Nothing { exists } => Told::Nothing { exists: *exists },
        Listing::Failed(why) => Told::Failed(why.clone()),
        Listing::TimedOut => Told::TimedOut,
    }
}

/// A failover in one line.
fn told(failover: &Failover) -> String {
    let Failover { name, port, old, new, dns_changed, .. } = failover;
    let part = |part, what: &str| {
        let took = Duration::from_nanos(failover.part_ns(part)?);
        Some(format!("{:.3} s {what}", took.as_secs_f64()))
    };
    let uncertain = dns_changed.and_then(|changed| Some(changed.latest_ns - changed.earliest_ns?));
    let uncertain = uncertain.map(|ns| format!("until the name listed the new one (±{} ms)", ns / 2_000_000));
    let parts = [
        part(Part::Unnoticed, "until the first attempt failed"),
        uncertain.and_then(|what| part(Part::Dns, &what)),
        part(Part::Reconnect, "until the first connection to it"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let outage = part(Part::Outage, "without a connection").unwrap_or_default();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("failover of {name} port {port} from {old} to {new}: {outage}{parts}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Between;

    #[test]
    fn a_failover_is_one_line_with_its_parts() {
        let ms = |ms: u64| ms * 1_000_000;
        let failover = Failover {
            name: Arc::from("db.example"),
            port: 3306,
            old: [192, 0, 2, 1].into(),
            new: [192, 0, 2, 2].into(),
            last_success_ns: Some(ms(10_000)),
            first_failure_ns: ms(10_250),
            dns_changed: Some(Between { earliest_ns: Some(ms(13_200)), latest_ns: ms(13_230) }),
            first_success_ns: ms(13_500),
        };
        assert_eq!(
            told(&failover),
            "failover of db.example port 3306 from 192.0.2.1 to 192.0.2.2: 3.500 s without a connection: 0.250 s until the first attempt \
             failed, 2.965 s until the name listed the new one (±15 ms), 0.285 s until the first connection to it"
        );
        let unknown = Failover { last_success_ns: None, dns_changed: None, ..failover };
        assert_eq!(
            told(&unknown),
            "failover of db.example port 3306 from 192.0.2.1 to 192.0.2.2: 3.250 s without a connection"
        );
    }
}
