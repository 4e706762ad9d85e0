//! The accounts: what the kernel counts per address, summed per peer, and who of them is shown.
//!
//! The kernel's counters are read again and again; what is new since the last reading is booked to the peer's account
//! while it is shown, and to everyone else's while it is not. So every event is in exactly one series, series never go
//! backwards while they exist, and an account that comes or goes makes no jump in the rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{Account as Counted, AccountKey, COUNTER_WORDS, Calls, ClosedBy, Counters, PeerKey},
    sweep::{
        Held, STATES,
        state::{CLOSE_WAIT, ESTABLISHED, SYN_SENT},
    },
};

use super::{
    export::{self, Candidate},
    habits::Habits,
    peer::{AccountId, Direction, Groups, Peer},
    recency::decay,
    snapshot::ExportedAccount,
    trouble::{Events, Trouble},
};

/// Above this share of the kernel's room for accounts, in percent, idle ones are forgotten before their time.
const CROWDED_PERCENT: usize = 90;

/// A rate that is shown is that of about so long.
const RATE_OVER: Duration = Duration::from_secs(5);

/// A connection in one of these may wait for an answer.
const OPEN_STATES: [u32; 2] = [SYN_SENT, ESTABLISHED];

/// Connections on a port of ours that their peers have closed, and our program has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseWaits {
    /// How many.
    pub sockets: u64,
    /// How many had come to be so, since the agent began, when these were counted.
    pub entered: u64,
    /// Names of the processes that keep them, as far as they are known, and how many each.
    pub owners: Vec<(Arc<str>, u64)>,
}

/// A destination of ours, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Connections that have waited for an answer for too long.
    pub stalled: u64,
    /// Connections that are open, or being opened.
    pub open: u64,
    /// Whether calls came to nothing since the last one that was answered.
    pub is_failing: bool,
    /// How long ago a connection to it was last established; `None` is never, as far as is known.
    pub answered_ago: Option<Duration>,
    /// Names of the processes that called it last.
    pub callers: Vec<Arc<str>>,
}

/// How much is kept and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Accounts with series of their own, configured groups not counted.
    pub exported: usize,
    /// Room for accounts in the kernel.
    pub capacity: usize,
    /// An account without sockets and events is forgotten after this time.
    pub forget_after: Duration,
}

/// All accounts.
#[derive(Debug)]
pub struct Accounts {
    groups: Arc<Groups>,
    retention: Retention,
    rows: HashMap<AccountKey, Row>,
    by_id: HashMap<AccountId, Account>,
    /// Everyone without series of their own, by direction.
    others: [Totals; 2],
    /// Inbound connections that their peers have closed first, by the port of ours.
    closed_by_peers: HashMap<u16, u64>,
    /// As many when the sockets of the last census were asked for.
    closed_at_census: Option<HashMap<u16, u64>>,
    habits: Habits,
    evicted: u64,
    updated_at: Duration,
}

/// What was last read from the kernel for one of its accounts.
#[derive(Debug)]
struct Row {
    last: Box<Counters>,
    account: AccountId,
    /// Whether it had sockets at the last census.
    has_sockets: bool,
    /// When it last had a socket or an event.
    active_at: Duration,
    /// Whether it is one of those that `Retention::capacity` is about: not half-open, and not known by its sockets alone.
    takes_room: bool,
}

impl Row {
    fn new(account: AccountId, now: Duration) -> Self {
        let last = Box::new(Counters::zeroed());
        Self { last, account, has_sockets: false, active_at: now, takes_room: false }
    }
}

/// One peer's account: one row, or those of a group.
#[derive(Debug)]
struct Account {
    // Boxed, as the counters of a row: a hash table keeps room for twice as many as it holds.
    totals: Box<Totals>,
    rows: usize,
    shown: bool,
    /// Connections of late, decaying.
    recent: f64,
    /// Connections since they were last turned into a rate, and that rate.
    opened: u64,
    per_second: f64,
    /// While it has some.
    trouble: Option<Box<Trouble>>,
    /// Outbound: when it was answered; of a group, by whoever was last.
    calls: Calls,
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    counters: Counters,
    sockets: [u32; STATES],
    stalled: u32,
    gave_up: u64,
    challenged_gave_up: u64,
}

impl Totals {
    fn none() -> Self {
        Self {
            counters: Counters::zeroed(),
            sockets: [0; STATES],
            stalled: 0,
            gave_up: 0,
            challenged_gave_up: 0,
        }
    }

    fn add_sockets(&mut self, sockets: &[u32; STATES], stalled: u32) {
        for (sum, count) in self.sockets.iter_mut().zip(sockets) {
            *sum += count;
        }
        self.stalled += stalled;
    }

    fn add_counters(&mut self, delta: &Counters) {
        let sums: &mut [u64; COUNTER_WORDS] = bytemuck::cast_mut(&mut self.counters);
        let delta: &[u64; COUNTER_WORDS] = bytemuck::cast_ref(delta);
        for (sum, new) in sums.iter_mut().zip(delta) {
            *sum += new;
        }
    }
}

impl Accounts {
    /// No account yet.
    #[must_use]
    pub fn new(groups: Groups, retention: Retention) -> Self {
        Self {
            groups: Arc::new(groups),
            retention,
            rows: HashMap::new(),
            by_id: HashMap::new(),
            others: [Totals::none(); 2],
            closed_by_peers: HashMap::new(),
            closed_at_census: None,
            habits: Habits::default(),
            evicted: 0,
            updated_at: Duration::ZERO,
        }
    }

    /// Books what one of the kernel's accounts holds; returns whether it is new, or something has happened since the last reading. `now`
    /// is any clock that never goes back.
    pub fn read(&mut self, now: Duration, key: AccountKey, counted: &Counted) -> bool {
        let Self { groups, retention, rows, by_id, others, closed_by_peers, habits, .. } = self;
        let mut is_new = false;
        let row = rows.entry(key).or_insert_with(|| {
            is_new = true;
            let id = groups.account_of(&key.peer);
            if !key.peer.is_overflow() {
                open_account(by_id, retention.exported, &id);
            }
            Row::new(id, now)
        });
        row.takes_room = !key.half_open;
        if *row.last == counted.counters {
            return is_new;
        }
        let delta = difference(&counted.counters, &row.last);
        *row.last = counted.counters;
        row.active_at = now;
        if !key.peer.is_overflow() {
            count_closes(closed_by_peers, &row.account, &delta);
            habits.read(now, &row.account, &delta);
        }
        book(by_id, others, now, &row.account, &delta, counted.calls);
        true
    }

    /// Whether an account of the kernel's was read before.
    #[must_use]
    pub fn knows(&self, key: &AccountKey) -> bool {
        self.rows.contains_key(key)
    }

    /// Books an account of the kernel's that was not read before, on the port of a short-lived listener, to its peer's account for those ports,
    /// and forgets it. It has been removed from the kernel.
    pub fn fold(&mut self, now: Duration, peer: &PeerKey, counted: &Counted) {
        let Self { groups, retention, rows, by_id, others, closed_by_peers, .. } = self;
        let peer = peer.ephemeral();
        let row = rows.entry(AccountKey { peer, half_open: false }).or_insert_with(|| {
            let id = groups.account_of(&peer);
            open_account(by_id, retention.exported, &id);
            Row::new(id, now)
        });
        // The census needs one in the kernel for its sockets.
        row.takes_room = true;
        row.active_at = now;
        count_closes(closed_by_peers, &row.account, &counted.counters);
        book(by_id, others, now, &row.account, &counted.counters, counted.calls);
    }

    /// Books a connection attempt that a peer gave up, which only the agent notices; `was_open`: a connection refused it that was still
    /// open.
    pub fn gave_up(&mut self, now: Duration, peer: &PeerKey, was_open: bool) {
        let id = self.groups.account_of(peer);
        let mut account = self.by_id.get_mut(&id);
        if let Some(account) = account.as_mut().filter(|_| !was_open) {
            Trouble::add(&mut account.trouble, now, Events { refused_failed: 1, ..Events::default() });
        }
        let totals = match account {
            Some(account) if account.shown => &mut *account.totals,
            _ => &mut self.others[id.direction as usize],
        };
        *if was_open { &mut totals.challenged_gave_up } else { &mut totals.gave_up } += 1;
    }

    /// Replaces everyone's sockets by those of a census.
    pub fn settle(&mut self, now: Duration, census: &[Held]) {
        let Self { groups, retention, rows, by_id, others, habits, .. } = self;
        self.closed_at_census = None;
        for totals in by_id.values_mut().map(|account| &mut *account.totals).chain(others.iter_mut()) {
            totals.sockets = [0; STATES];
            totals.stalled = 0;
        }
        for row in rows.values_mut() {
            row.has_sockets = false;
        }
        for held in census {
            let Held { peer, sockets, .. } = held;
            let id = groups.account_of(peer);
            let stalled = habits.settle(now, &id, held);
            if peer.is_overflow() {
                others[id.direction as usize].add_sockets(sockets, stalled);
                continue;
            }
            // Sockets make a row, so that a peer that only holds some is remembered and forgotten like any other.
            let key = AccountKey { peer: *peer, half_open: false };
            let row = rows.entry(key).or_insert_with(|| {
                open_account(by_id, retention.exported, &id);
                Row::new(id, now)
            });
            row.has_sockets = true;
            row.active_at = now;
            if let Some(account) = by_id.get_mut(&row.account) {
                account.totals.add_sockets(sockets, stalled);
            }
        }
    }

    /// The accounts that had trouble within the last minute, with what happened in it.
    #[must_use]
    pub fn troubled(&mut self, now: Duration) -> HashMap<AccountId, Events> {
        let accounts = self.by_id.iter_mut();
        accounts
            .filter_map(|(id, account)| {
                Some((id.clone(), Trouble::of_last_minute(&mut account.trouble, now)?))
            })
            .collect()
    }

    /// The destinations of ours that had trouble within the last minute, or whose connections wait for an answer. `now_ns` is the clock
    /// that the kernel's times are of.
    #[must_use]
    pub fn destinations(&self, now_ns: u64) -> HashMap<AccountId, Destination> {
        let outbound = self.by_id.iter().filter(|(id, _)| id.direction == Direction::Outbound);
        let wanted = outbound.filter(|(_, account)| account.trouble.is_some() || account.totals.stalled > 0);
        let destination = |(id, account): (&AccountId, &Account)| {
            let Account { totals, calls, .. } = account;
            let ago = now_ns.saturating_sub(calls.last_success_ns);
            let destination = Destination {
                stalled: u64::from(totals.stalled),
                open: OPEN_STATES.iter().map(|&state| u64::from(totals.sockets[state as usize])).sum(),
                is_failing: calls.last_failure_ns > calls.last_success_ns,
                answered_ago: (calls.last_success_ns > 0).then(|| Duration::from_nanos(ago)),
                callers: Vec::new(),
            };
            (id.clone(), destination)
        };
        wanted.map(destination).collect()
    }

    /// Sockets in CLOSE_WAIT by the port of ours: their peers are gone, and our program has not closed. To be called once all of the
    /// reading that follows a census is booked.
    #[must_use]
    pub fn close_waits(&mut self) -> BTreeMap<u16, CloseWaits> {
        let mut ports: BTreeMap<u16, CloseWaits> = BTreeMap::new();
        for (id, account) in self.by_id.iter().filter(|(id, _)| id.direction == Direction::Inbound) {
            ports.entry(id.port).or_default().sockets +=
                u64::from(account.totals.sockets[CLOSE_WAIT as usize]);
        }
        ports.retain(|_, close_waits| close_waits.sockets > 0);
        let at_census = self.closed_at_census.get_or_insert_with(|| self.closed_by_peers.clone());
        for (port, close_waits) in &mut ports {
            close_waits.entered = at_census.get(port).copied().unwrap_or_default();
        }
        ports
    }

    /// Decides anew who is shown: groups, the accounts in `wanted`, and the heaviest of the rest. To be called once all of a reading
    /// is booked.
    pub fn rank(&mut self, now: Duration, wanted: &HashSet<AccountId>) {
        let elapsed = now.saturating_sub(self.updated_at);
        self.updated_at = now;
        let decay = decay(elapsed);
        let seconds = elapsed.as_secs_f64();
        let share = 1.0 - (-seconds / RATE_OVER.as_secs_f64()).exp();
        let mut candidates = Vec::with_capacity(self.by_id.len());
        for (id, account) in &mut self.by_id {
            account.recent *= decay;
            if seconds > 0.0 {
                let now = std::mem::take(&mut account.opened) as f64 / seconds;
                account.per_second += (now - account.per_second) * share;
            }
            if wanted.contains(id) {
                account.shown = true;
            } else if !matches!(id.peer, Peer::Group(_)) {
                let sockets: u32 = account.totals.sockets.iter().sum();
                let weight = account.recent + f64::from(sockets);
                candidates.push(Candidate { id: id.clone(), weight, shown: account.shown });
            }
        }
        export::choose(&mut candidates, self.retention.exported);
        for (place, candidate) in candidates.iter().enumerate() {
            if let Some(account) = self.by_id.get_mut(&candidate.id) {
                account.shown = place < self.retention.exported;
            }
        }
    }

    /// Kernel accounts that have been idle long enough to be removed, with the counters that were booked; when the
    /// kernel's room gets scarce, the longest idle ones of those without sockets, whatever their time. Half-open peers have a room
    /// of their own, so that forged addresses drive nobody out. Who was known by sockets alone is not known without them.
    #[must_use]
    pub fn idle(&self, now: Duration) -> Vec<(AccountKey, Counters)> {
        let Retention { capacity, forget_after, .. } = self.retention;
        let mut idle: Vec<_> = self
            .rows
            .iter()
            .filter(|(key, row)| !key.peer.is_overflow() && !row.has_sockets && row.active_at < now)
            .map(|(key, row)| (now.saturating_sub(row.active_at), key, row))
            .collect();
        idle.sort_unstable_by_key(|&(idle_for, key, _)| (std::cmp::Reverse(idle_for), key));
        let mut excess = self.taken().saturating_sub(crowded_from(capacity));
        idle.into_iter()
            .filter(|(idle_for, key, row)| {
                let is_crowded = row.takes_room && excess > 0;
                excess -= usize::from(is_crowded);
                let is_nobody = !row.takes_room && !key.half_open;
                is_crowded || is_nobody || *idle_for >= forget_after
            })
            .map(|(_, key, row)| (*key, *row.last))
            .collect()
    }

    /// Accounts in the kernel's map, as far as they were read.
    fn taken(&self) -> usize {
        self.rows.values().filter(|row| row.takes_room).count()
    }

    /// How many accounts a census may add to the kernel's map: what is left above that is for peers with events, which a census would otherwise
    /// take for TIME_WAIT sockets again as soon as idle accounts are forgotten.
    #[must_use]
    pub fn free(&self) -> usize {
        crowded_from(self.retention.capacity).saturating_sub(self.taken())
    }

    /// Forgets an account that was removed from the kernel. Its series goes, unless others of its group remain.
    pub fn forget(&mut self, key: &AccountKey) {
        let Some(row) = self.rows.remove(key) else { return };
        self.evicted += 1;
        close_account(&mut self.by_id, &row.account);
    }

    /// Puts other groups and limits in force. Accounts that stay the same keep their figures.
    pub fn reconfigure(&mut self, groups: Groups, retention: Retention) {
        let Self { rows, by_id, .. } = self;
        for (key, row) in rows.iter_mut().filter(|(key, _)| !key.peer.is_overflow()) {
            let id = groups.account_of(&key.peer);
            if id != row.account {
                open_account(by_id, retention.exported, &id);
                close_account(by_id, &row.account);
                row.account = id;
            }
        }
        self.groups = Arc::new(groups);
        self.retention = retention;
    }

    /// What is usual for each of them.
    #[must_use]
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// To take up what was usual before a restart, and to forget what is too old.
    pub fn habits_mut(&mut self) -> &mut Habits {
        &mut self.habits
    }

    /// The groups in force.
    #[must_use]
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// How much is kept and shown.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Number of accounts known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no account is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of kernel accounts forgotten so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is to be shown, by peer, port and direction; last the two of everyone else.
    #[must_use]
    pub fn export(&self) -> Vec<ExportedAccount> {
        let mut others = self.others;
        let mut rates = [0.0; Direction::ALL.len()];
        let mut shown: Vec<(&AccountId, &Account)> = Vec::with_capacity(self.retention.exported);
        for (id, account) in &self.by_id {
            if account.shown {
                shown.push((id, account));
            } else {
                others[id.direction as usize].add_sockets(&account.totals.sockets, account.totals.stalled);
                rates[id.direction as usize] += account.per_second;
            }
        }
        shown.sort_unstable_by_key(|&(id, _)| id);
        let own = shown.into_iter().map(|(id, Account { totals, calls, per_second, .. })| ExportedAccount {
            who: Some((id.peer.clone(), id.port)),
            direction: id.direction,
            counters: totals.counters,
            sockets: totals.sockets,
            stalled: totals.stalled,
            gave_up: totals.gave_up,
            challenged_gave_up: totals.challenged_gave_up,
            connections_per_second: *per_second,
            calls: *calls,
            callers: Vec::new(),
            pool: None,
            ephemeral: None,
        });
        let rest = Direction::ALL.into_iter().map(|direction| {
            let Totals { counters, sockets, stalled, gave_up, challenged_gave_up } =
                others[direction as usize];
            ExportedAccount {
                who: None,
                direction,
                counters,
                sockets,
                stalled,
                gave_up,
                challenged_gave_up,
                connections_per_second: rates[direction as usize],
                calls: Calls::default(),
                callers: Vec::new(),
                pool: None,
                ephemeral: None,
            }
        });
        own.chain(rest).collect()
    }
}

/// From so many accounts on, the kernel's map is nearly full.
const fn crowded_from(capacity: usize) -> usize {
    capacity * CROWDED_PERCENT / 100
}

/// Adds a row to an account, creating it if need be; while there are places, with its own series from the first event.
fn open_account(accounts: &mut HashMap<AccountId, Account>, places: usize, id: &AccountId) {
    let shown = matches!(id.peer, Peer::Group(_)) || accounts.len() < places;
    let account = accounts.entry(id.clone()).or_insert_with(|| Account {
        totals: Box::new(Totals::none()),
        rows: 0,
        shown,
        recent: 0.0,
        opened: 0,
        per_second: 0.0,
        trouble: None,
        calls: Calls::default(),
    });
    account.rows += 1;
}

/// Takes a row from an account, and the account away with its last one.
fn close_account(accounts: &mut HashMap<AccountId, Account>, id: &AccountId) {
    if let Some(account) = accounts.get_mut(id) {
        account.rows -= 1;
        if account.rows == 0 {
            accounts.remove(id);
        }
    }
}

/// Books what has happened since the last reading: to the account while it is shown, and to everyone else's while it is not.
fn book(
    accounts: &mut HashMap<AccountId, Account>,
    others: &mut [Totals; 2],
    now: Duration,
    id: &AccountId,
    delta: &Counters,
    calls: Calls,
) {
    let other = &mut others[id.direction as usize];
    let Some(account) = accounts.get_mut(id) else {
        other.add_counters(delta);
        return;
    };
    account.calls = latest(account.calls, calls);
    account.opened += delta.connections;
    account.recent += (delta.connections + delta.syn_retries) as f64;
    Trouble::add(&mut account.trouble, now, Events::of(delta));
    let totals = if account.shown { &mut *account.totals } else { other };
    totals.add_counters(delta);
}

/// Counts the connections that their peers closed, and that are in CLOSE_WAIT from then on.
fn count_closes(closed_by_peers: &mut HashMap<u16, u64>, id: &AccountId, delta: &Counters) {
    let new = delta.closes[ClosedBy::Peer as usize];
    if id.direction == Direction::Inbound && new > 0 {
        *closed_by_peers.entry(id.port).or_default() += new;
    }
}

/// When two addresses of one account were answered last.
fn latest(one: Calls, other: Calls) -> Calls {
    Calls {
        last_success_ns: one.last_success_ns.max(other.last_success_ns),
        first_success_ns: one.first_success_ns.max(other.first_success_ns),
        last_failure_ns: one.last_failure_ns.max(other.last_failure_ns),
        first_failure_ns: one.first_failure_ns.max(other.first_failure_ns),
    }
}

/// What was counted since `before`. A counter that went back was begun anew: then all of it is new.
pub(super) fn difference(now: &Counters, before: &Counters) -> Counters {
    let words: &[u64; COUNTER_WORDS] = bytemuck::cast_ref(now);
    let old: &[u64; COUNTER_WORDS] = bytemuck::cast_ref(before);
    if words.iter().zip(old).any(|(new, old)| new < old) {
        return *now;
    }
    let mut delta = *now;
    let sums: &mut [u64; COUNTER_WORDS] = bytemuck::cast_mut(&mut delta);
    for (sum, old) in sums.iter_mut().zip(old) {
        *sum -= old;
    }
    delta
}

#[cfg(test)]
mod tests;
