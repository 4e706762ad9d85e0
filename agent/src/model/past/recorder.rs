//! Reading the past off one snapshot after the other.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{Counters, Histogram},
    sweep::state,
};

use super::{
    RESTATED, Series,
    event::{Event, Happened, Who},
    field::{Field, Sample, nearest},
    listeners::Listeners,
    second_of,
    step::Steps,
};
use crate::model::{
    AccountId, ExportedAccount, HostFigures, NotificationFigures, Snapshot, Syns, Tells,
    accounts::difference,
    pool::{Range, Ranges},
};

/// So many refused reuses of one second are kept one by one; all of them are in the samples.
const REUSES_PER_SECOND: usize = 50;

/// As many accounts are remembered that may no longer be shown.
const REMEMBERED: usize = 256;

/// What one snapshot adds.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The figures of its second.
    pub samples: Vec<(Series, Sample)>,
    /// What happened since the one before.
    pub events: Vec<Happened>,
}

/// What was seen last, to tell what is new.
#[derive(Debug, Default)]
pub struct Recorder {
    accounts: HashMap<AccountId, Seen>,
    /// Some that are no longer shown were forgotten, so that one not seen before may have a past all the same.
    forgot: bool,
    host: Option<HostFigures>,
    /// When it was last told how things stand.
    stated: u64,
    settings: Option<BTreeMap<&'static str, u64>>,
    listeners: Listeners,
    notices: Option<Vec<NotificationFigures>>,
    /// Refused reuses so far.
    reuses: u64,
    /// When the last failover was over.
    failover_ns: u64,
    /// Of each watched name and port, when it last changed.
    names_ns: HashMap<(String, u16), u64>,
}

/// What was last seen of an account.
#[derive(Debug)]
struct Seen {
    counters: Box<Counters>,
    /// As of the account, by TIME_WAIT and by open connections.
    gave_up: [u64; 2],
    steps: Steps,
    pool: Option<Ranges>,
    /// The blocks of its ports that were outgrown last.
    blocks: Vec<Range>,
}

impl Seen {
    fn new(account: &ExportedAccount, has_past: bool) -> Self {
        let (counters, gave_up) =
            if has_past { (account.counters, gave_up(account)) } else { (Counters::zeroed(), [0; 2]) };
        Self {
            counters: Box::new(counters),
            gave_up,
            steps: Steps::default(),
            pool: None,
            blocks: Vec::new(),
        }
    }
}

impl Recorder {
    /// Takes a snapshot.
    pub fn record(&mut self, snapshot: &Snapshot) -> Recorded {
        let now = snapshot.taken.unix_seconds;
        let mut events = Vec::new();
        if self.host.is_none() {
            events.push(Event::AgentStarted { version: env!("CARGO_PKG_VERSION").to_owned() });
        }
        // A clock that was set back is waited for.
        if self.settings.is_none() || second_of(now) >= self.stated + RESTATED.as_secs() {
            self.stated = second_of(now);
            self.settings = None;
            self.accounts.values_mut().for_each(|seen| seen.pool = None);
        }
        events.extend(self.settings(snapshot));
        let mut samples = vec![(Series::Host, self.host(&snapshot.host))];
        for account in &snapshot.accounts {
            let Some(id) = account.id() else { continue };
            let sample = self.account(&id, account, snapshot.tells, &mut events);
            samples.push((Series::Account(id), sample));
        }
        if self.accounts.len() > REMEMBERED.max(2 * samples.len()) {
            let shown: HashSet<AccountId> =
                snapshot.accounts.iter().filter_map(ExportedAccount::id).collect();
            self.accounts.retain(|id, _| shown.contains(id));
            self.forgot = true;
        }
        events.extend(self.listeners.look(&snapshot.host.listen_queues));
        events.extend(self.notices(&snapshot.itself.notifications));
        let mut events: Vec<_> = events.into_iter().map(|event| Happened { time: now, event }).collect();
        self.reuses(snapshot, &mut events);
        self.names(snapshot, &mut events);
        Recorded { samples, events }
    }

    fn account(
        &mut self,
        id: &AccountId,
        account: &ExportedAccount,
        tells: Tells,
        events: &mut Vec<Event>,
    ) -> Sample {
        let forgot = self.forgot;
        let seen = self.accounts.entry(id.clone()).or_insert_with(|| Seen::new(account, forgot));
        let mut sample = Sample::default();
        states(&mut sample, &account.sockets);
        sample[Field::Stalled] = account.stalled;
        let new = difference(&account.counters, &seen.counters);
        counters(&mut sample, &new);
        syns(&mut sample, tells.syns(account.direction, &new));
        // An account that was forgotten and came back begins at 0.
        let now = gave_up(account);
        for (field, (now, before)) in
            [Field::GaveUp, Field::ChallengedGaveUp].into_iter().zip(now.into_iter().zip(seen.gave_up))
        {
            sample[field] = narrow(now.checked_sub(before).unwrap_or(now));
        }
        *seen.counters = account.counters;
        seen.gave_up = now;
        if let Some(pool) = &account.pool {
            let size = pool.pool().map_or(0, Ranges::len);
            ports(&mut sample, pool.reachable.unwrap_or_default(), pool.load.used(), pool.exhaustion_seconds);
            if let Some(turn) = &pool.turn {
                sample.set_turn(turn);
            }
            if let Some(ranges) = pool.pool().filter(|&ranges| seen.pool.as_ref() != Some(ranges)) {
                events.push(Event::PoolKnown {
                    who: id.into(),
                    ports: ranges.to_string(),
                    size,
                    configured: pool.configured.is_some(),
                });
                seen.pool = Some(ranges.clone());
            }
            if let Some(outgrown) = pool.outgrown.as_ref().filter(|outgrown| outgrown.blocks != seen.blocks) {
                events.push(Event::BlockOutgrown { who: id.into(), text: outgrown.text() });
                seen.blocks.clone_from(&outgrown.blocks);
            }
        }
        if let Some(ours) = &account.ephemeral {
            ports(&mut sample, ours.size, ours.load.used(), Some(ours.exhaustion_seconds));
        }
        if let Some((before, after)) = seen.steps.add(sample[Field::Connections]) {
            events.push(Event::TrafficStep { who: Who::from(id), before, after });
        }
        sample
    }

    fn host(&mut self, host: &HostFigures) -> Sample {
        let before = self.host.replace(host.clone()).unwrap_or_else(|| host.clone());
        let mut sample = Sample::default();
        states(&mut sample, &host.sockets);
        sample[Field::Buckets] = narrow(host.time_wait_buckets);
        sample[Field::ListenOverflows] =
            narrow(host.listen_overflows.saturating_sub(before.listen_overflows));
        sample[Field::BucketOverflows] =
            narrow(host.time_wait_overflows.saturating_sub(before.time_wait_overflows));
        let percent = host.listen_queues.iter().map(|queue| queue.waiting * 100 / queue.holds()).max();
        sample[Field::QueuePercent] = narrow(percent.unwrap_or_default());
        sample
    }

    fn settings(&mut self, snapshot: &Snapshot) -> Vec<Event> {
        let now: BTreeMap<&'static str, u64> = snapshot.host.sysctls.iter().copied().collect();
        let Some(before) = self.settings.replace(now.clone()) else {
            let values = now.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            return vec![Event::Settings { values, unknown: unknown(snapshot.tells) }];
        };
        let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
        names
            .filter(|name| before.get(*name) != now.get(*name))
            .map(|name| Event::SettingChanged {
                name: (*name).to_owned(),
                before: before.get(name).copied(),
                after: now.get(name).copied(),
            })
            .collect()
    }

    fn notices(&mut self, now: &[NotificationFigures]) -> Vec<Event> {
        let Some(before) = self.notices.replace(now.to_vec()) else { return Vec::new() };
        let mut events = Vec::new();
        for figures in now {
            let old = before.iter().find(|old| old.receiver == figures.receiver).cloned().unwrap_or_default();
            for (outcome, now, old) in [
                ("delivered", figures.delivered, old.delivered),
                ("failed", figures.failed, old.failed),
                ("rejected", figures.rejected, old.rejected),
                ("superseded", figures.superseded, old.superseded),
                ("dropped", figures.dropped, old.dropped),
            ] {
                if now > old {
                    events.push(Event::Notices {
                        receiver: figures.receiver.to_string(),
                        outcome: outcome.to_owned(),
                        notices: now - old,
                    });
                }
            }
        }
        events
    }

    fn reuses(&mut self, snapshot: &Snapshot, events: &mut Vec<Happened>) {
        let kept = &snapshot.refused_reuses;
        let all = snapshot.refused_reuses_before + kept.len() as u64;
        let new = usize::try_from(all - self.reuses.min(all)).unwrap_or(usize::MAX).min(kept.len());
        self.reuses = all;
        events.extend(kept.iter().rev().take(new.min(REUSES_PER_SECOND)).rev().map(Happened::from));
    }

    fn names(&mut self, snapshot: &Snapshot, events: &mut Vec<Happened>) {
        let clocks = snapshot.taken;
        for figures in snapshot.names.iter() {
            let last = self.names_ns.entry((figures.id.name.to_string(), figures.id.port)).or_default();
            // What a name lists at first did not come just then.
            let changes = figures.changes.iter().filter(|change| change.when.earliest_ns.is_some());
            for change in changes.filter(|change| change.when.latest_ns > *last) {
                events.push(Happened {
                    time: clocks.unix_seconds_of(change.when.middle_ns()),
                    event: Event::AddressChanged {
                        name: figures.id.name.to_string(),
                        port: figures.id.port,
                        address: change.address,
                        came: change.came,
                    },
                });
            }
            *last =
                figures.changes.iter().map(|change| change.when.latest_ns).max().unwrap_or(*last).max(*last);
        }
        let new = snapshot.failovers.iter().filter(|failover| failover.first_success_ns > self.failover_ns);
        events.extend(new.map(|failover| Happened::failover(failover, clocks)));
        let last = snapshot.failovers.iter().map(|failover| failover.first_success_ns).max();
        self.failover_ns = last.unwrap_or_default().max(self.failover_ns);
    }
}

/// Attempts that its clients gave up, by TIME_WAIT and by open connections.
fn gave_up(account: &ExportedAccount) -> [u64; 2] {
    [account.gave_up, account.challenged_gave_up]
}

/// The figures that this kernel does not let the agent know.
fn unknown(tells: Tells) -> Vec<String> {
    let Tells {
        retransmits,
        synack_retries,
        resets_peer,
        resets_local,
        time_wait,
        challenged,
        stalled,
        aborted_early,
        ..
    } = tells;
    let known = [
        ("retransmits", retransmits),
        ("synack_retries", synack_retries),
        ("resets_peer", resets_peer),
        ("resets_local", resets_local),
        ("time_wait_syns", time_wait),
        ("challenged_syns", challenged),
        ("stalled", stalled),
        ("aborted_early", aborted_early),
    ];
    known.into_iter().filter(|(_, is_known)| !is_known).map(|(name, _)| name.to_owned()).collect()
}

fn states(sample: &mut Sample, sockets: &[u32]) {
    let count = |states: &[u32]| -> u32 {
        states
            .iter()
            .filter_map(|&state| sockets.get(state as usize))
            .fold(0, |sum, &n| sum.saturating_add(n))
    };
    sample[Field::Established] = count(&[state::ESTABLISHED]);
    sample[Field::TimeWait] = count(&[state::TIME_WAIT]);
    sample[Field::CloseWait] = count(&[state::CLOSE_WAIT]);
    sample[Field::Opening] = count(&[state::SYN_SENT, state::SYN_RECV]);
    sample[Field::Closing] = count(&[state::FIN_WAIT1, state::FIN_WAIT2, state::LAST_ACK, state::CLOSING]);
}

fn ports(sample: &mut Sample, size: u32, taken: f64, seconds_left: Option<f64>) {
    sample[Field::PoolSize] = size;
    sample[Field::PortsTaken] = nearest(taken);
    sample[Field::SecondsLeft] = seconds_left.filter(|left| left.is_finite()).map_or(Sample::NEVER, nearest);
}

fn syns(sample: &mut Sample, new: Syns) {
    sample[Field::Syns] = narrow(new.first);
    sample[Field::SynRetries] = narrow(new.repeated);
}

fn counters(sample: &mut Sample, new: &Counters) {
    let mut set = |field, get: fn(&Counters) -> u64| sample[field] = narrow(get(new));
    set(Field::Connections, |c| c.connections);
    set(Field::ClosedLocal, |c| c.closes[0]);
    set(Field::ClosedPeer, |c| c.closes[1]);
    set(Field::ClosedReset, |c| c.closes[2]);
    set(Field::ClosedTimeout, |c| c.closes[3]);
    set(Field::LivedMillis, |c| c.lifetime.sum_ns / 1_000_000);
    set(Field::SynackRetries, |c| c.synack_retries);
    set(Field::Retransmits, |c| c.retransmits);
    set(Field::ResetsLocal, |c| c.resets_local);
    set(Field::ResetsPeer, |c| c.resets_peer);
    set(Field::Accepted, |c| c.time_wait_accepted);
    set(Field::RefusedByAck, |c| c.time_wait_refused[0]);
    set(Field::RefusedByReset, |c| c.time_wait_refused[1]);
    set(Field::RefusedUnanswered, |c| c.time_wait_refused[2]);
    set(Field::ConnectedAfterReset, |c| c.refused_connected[0]);
    set(Field::ConnectedAfterRetry, |c| c.refused_connected[1]);
    set(Field::ConnectedFromOtherPort, |c| c.refused_connected[2]);
    set(Field::RefusedMillis, |c| c.refused_delay.sum_ns / 1_000_000);
    set(Field::RefusedLate, |c| c.refused_late);
    set(Field::Challenged, |c| c.challenged_syns.iter().sum::<u64>().saturating_sub(c.challenged_duplicates));
    set(Field::ChallengedAfterReset, |c| c.challenged_connected[0]);
    set(Field::ChallengedAfterRetry, |c| c.challenged_connected[1]);
    set(Field::ChallengedFromOtherPort, |c| c.challenged_connected[2]);
    set(Field::Reused, |c| count(&c.reuse));
    set(Field::ReusedAfterMillis, |c| c.reuse.sum_ns / 1_000_000);
    set(Field::AbortedEarly, |c| c.aborted_early);
    set(Field::FailedTimeout, |c| c.connect_failures[0]);
    set(Field::FailedRefused, |c| c.connect_failures[1]);
    set(Field::FailedUnreachable, |c| c.connect_failures[2]);
    set(Field::FailedOther, |c| c.connect_failures[3] + c.connect_failures[4]);
    set(Field::FailedNoPort, |c| c.connect_failures[5]);
    set(Field::FailedAbandoned, |c| c.connect_failures[6]);
    set(Field::AbandonedMillis, |c| c.abandoned.sum_ns / 1_000_000);
    set(Field::FailedMillis, |c| c.connect_lost_ns / 1_000_000);
}

fn count(histogram: &Histogram) -> u64 {
    histogram.buckets.iter().sum()
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
