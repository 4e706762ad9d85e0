//! What the past says, summed up.

use std::collections::{BTreeMap, BTreeSet};

use super::Touched;
use crate::model::{
    AccountId, Direction,
    past::{AlertEvent, Event, Field, Happened, Past, Sample, Series, Span, Who, second_of},
    pool::Turn,
};

/// The most of something per second is taken over so many seconds.
const OVER: u64 = 10;

/// So many of those who were touched are told of.
const MOST_TOUCHED: usize = 20;

/// The past of one series.
pub(super) struct Account<'a> {
    pub id: AccountId,
    samples: &'a [(u64, Sample)],
}

/// Everything that a hypothesis can be held against.
pub(super) struct Evidence<'a> {
    pub span: Span,
    /// The accounts in question.
    pub accounts: Vec<Account<'a>>,
    /// The host itself.
    host: &'a [(u64, Sample)],
    /// What happened.
    pub events: Vec<&'a Happened>,
    /// The settings of the kernel in force at the end, by name.
    pub settings: BTreeMap<&'a str, u64>,
    /// The pools that became known, the oldest first, by whose they are.
    pools: Vec<(&'a Who, &'a str, u32)>,
    /// Figures that could not be known.
    not_told: BTreeSet<&'a str>,
    /// Whether figures of every second are there.
    is_fine: bool,
}

impl Account<'_> {
    /// The sum of events of a kind.
    pub fn sum(&self, field: Field) -> u64 {
        sum(self.samples, field)
    }

    pub fn sums(&self, fields: &[Field]) -> u64 {
        fields.iter().map(|&field| self.sum(field)).sum()
    }

    /// The highest value of a level, and when it was reached first.
    pub fn most(&self, field: Field) -> (u32, u64) {
        most(self.samples, |sample| sample[field])
    }

    /// The highest share of the pool that was taken, and when.
    pub fn most_used(&self) -> Option<(f64, u64)> {
        let ratios = self.samples.iter().filter_map(|(time, sample)| Some((sample.used_ratio()?, *time)));
        ratios.fold(None, |best, (ratio, time)| match best {
            Some((most, _)) if most >= ratio => best,
            _ => Some((ratio, time)),
        })
    }

    /// How the peer went round its pool when it did so fastest, how many connections per second there were here then, and when that was.
    pub fn fastest_round(&self) -> Option<(Turn, f64, u64)> {
        let (_, at) = self.most(Field::PortsPerMinute);
        let (_, sample) = self.samples.iter().find(|(time, _)| *time == at)?;
        let here = f64::from(sample[Field::Connections]) / self.step() as f64;
        Some((sample.turn()?, here, at))
    }

    /// When something was so first.
    pub fn first(&self, is_so: impl Fn(&Sample) -> bool) -> Option<u64> {
        self.samples.iter().find(|(_, sample)| is_so(sample)).map(|(time, _)| *time)
    }

    /// The fewest seconds left that were foreseen, and when.
    pub fn fewest_left(&self) -> Option<(u32, u64)> {
        let foreseen = self.samples.iter().map(|(time, sample)| (sample[Field::SecondsLeft], *time));
        foreseen.filter(|(left, _)| *left != Sample::NEVER).min()
    }

    /// How many ports could be taken when most of them were: ours, or those of a peer's pool that could come to this server.
    pub fn pool_size(&self) -> Option<u32> {
        let (_, at) = self.most_used()?;
        let (_, sample) = self.samples.iter().find(|(time, _)| *time == at)?;
        Some(sample[Field::PoolSize])
    }

    /// The most connections per second, over a while.
    pub fn most_per_second(&self) -> f64 {
        let windows = self.samples.iter().enumerate().map(|(place, (from, _))| {
            let window = self.samples.get(place..).unwrap_or_default().iter();
            let within = window.take_while(|(time, _)| time - from < OVER.max(self.step()));
            within.map(|(_, sample)| u64::from(sample[Field::Connections])).sum::<u64>()
        });
        windows.max().unwrap_or_default() as f64 / OVER.max(self.step()) as f64
    }

    /// The mean of what was summed up per event, in seconds; `None` where there was no event, or the sum is beyond what is kept.
    pub fn mean_seconds(&self, millis: Field, events: &[Field]) -> Option<f64> {
        let is_whole = self.samples.iter().all(|(_, sample)| sample[millis] != u32::MAX);
        let count = self.sums(events);
        (is_whole && count > 0).then(|| self.sum(millis) as f64 / 1e3 / count as f64)
    }

    /// Connections that ended.
    pub fn closed(&self) -> u64 {
        self.sums(&[Field::ClosedLocal, Field::ClosedPeer, Field::ClosedReset, Field::ClosedTimeout])
    }

    /// SYNs that TIME_WAIT refused.
    pub fn refused(&self) -> u64 {
        self.sums(&[Field::RefusedByAck, Field::RefusedByReset, Field::RefusedUnanswered])
    }

    /// Attempts of ours that failed.
    pub fn failed(&self) -> u64 {
        self.samples.iter().map(|(_, sample)| u64::from(sample.failed())).sum()
    }

    pub fn is_inbound(&self) -> bool {
        self.id.direction == Direction::Inbound
    }

    /// Seconds that a sample stands for.
    fn step(&self) -> u64 {
        step(self.samples)
    }
}

impl<'a> Evidence<'a> {
    /// Sums up a past, of one peer or all.
    pub fn new(past: &'a Past, peer: Option<&str>) -> Self {
        let wanted = |id: &AccountId| peer.is_none_or(|peer| id.peer.to_string() == peer);
        let accounts = past.series.iter().filter_map(|(series, samples)| match series {
            Series::Account(id) if wanted(id) => Some(Account { id: id.clone(), samples }),
            _ => None,
        });
        let accounts: Vec<_> = accounts.collect();
        let mut settings = BTreeMap::new();
        let mut not_told = BTreeSet::new();
        let mut not_told_by_this_run = BTreeSet::new();
        let mut pools = Vec::new();
        for Happened { event, .. } in &past.events {
            match event {
                Event::AgentStarted { .. } => not_told.append(&mut not_told_by_this_run),
                Event::Settings { values, unknown } => {
                    not_told_by_this_run = unknown.iter().map(String::as_str).collect();
                    settings = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                }
                Event::SettingChanged { name, after: Some(after), .. } => {
                    settings.insert(name.as_str(), *after);
                }
                Event::SettingChanged { name, after: None, .. } => {
                    settings.remove(name.as_str());
                }
                Event::PoolKnown { who, ports, size, .. } => pools.push((who, ports.as_str(), *size)),
                _ => {}
            }
        }
        not_told.append(&mut not_told_by_this_run);
        let within =
            |happened: &&Happened| happened.time >= past.span.from as f64 && concerns(happened, peer);
        Self {
            span: past.span,
            is_fine: accounts.iter().all(|account| account.step() == 1),
            accounts,
            host: past.series.get(&Series::Host).map_or(&[], Vec::as_slice),
            events: past.events.iter().filter(within).collect(),
            settings,
            pools,
            not_told,
        }
    }

    /// Of the host, the sum of events of a kind.
    pub fn host_sum(&self, field: Field) -> u64 {
        sum(self.host, field)
    }

    /// Of the host, the highest value of a level, and when.
    pub fn host_most(&self, field: Field) -> (u32, u64) {
        most(self.host, |sample| sample[field])
    }

    /// Whether a figure can be known on this kernel.
    pub fn tells(&self, figure: &str) -> bool {
        !self.not_told.contains(figure)
    }

    pub fn inbound(&self) -> impl Iterator<Item = &Account<'a>> {
        self.accounts.iter().filter(|account| account.is_inbound())
    }

    pub fn outbound(&self) -> impl Iterator<Item = &Account<'a>> {
        self.accounts.iter().filter(|account| !account.is_inbound())
    }

    /// The alerts that were raised, by name, each with when it was first.
    pub fn alerts(&self) -> BTreeMap<&'a str, f64> {
        let mut alerts = BTreeMap::new();
        for (time, alert) in self.raised() {
            alerts.entry(alert.alert.as_str()).or_insert(time);
        }
        alerts
    }

    /// Each alert that was raised or still was, and when that was told.
    fn raised(&self) -> impl Iterator<Item = (f64, &'a AlertEvent)> {
        self.events.iter().filter_map(|happened| match &happened.event {
            Event::AlertRaised(alert) | Event::AlertGoesOn(alert) => Some((happened.time, alert)),
            _ => None,
        })
    }

    /// Whether this alert was raised, or still was, for an account.
    pub fn was_raised(&self, alert: &str, id: &AccountId) -> bool {
        let who = Who::from(id);
        self.raised().any(|(_, raised)| raised.alert == alert && raised.is_about(&who))
    }

    /// The pool of a peer that was last known: its ranges, and how many ports these are.
    pub fn pool_of(&self, id: &AccountId) -> Option<(&'a str, u32)> {
        let known = Who::from(id);
        self.pools.iter().rev().find(|(who, ..)| **who == known).map(|&(_, ports, size)| (ports, size))
    }

    /// The blocks of ports that machines behind an account's address have outgrown, in words, each with when that was known.
    pub fn outgrown(&self, id: &AccountId) -> impl Iterator<Item = (u64, &'a str)> {
        let of = Who::from(id);
        self.events.iter().filter_map(move |Happened { time, event }| match event {
            Event::BlockOutgrown { who, text } if *who == of => Some((second_of(*time), text.as_str())),
            _ => None,
        })
    }

    /// Who was touched, the worst first.
    pub fn touched(&self) -> Vec<Touched> {
        let mut touched: Vec<Touched> =
            self.accounts.iter().map(|account| self.touch(account)).filter(Touched::has_trouble).collect();
        touched.sort_by_key(|peer| {
            let troubles =
                peer.refused + peer.challenged + peer.syn_retries + peer.failed + peer.aborted_early;
            std::cmp::Reverse((peer.alerts.len(), troubles))
        });
        touched.truncate(MOST_TOUCHED);
        touched
    }

    fn touch(&self, account: &Account<'_>) -> Touched {
        let who = Who::from(&account.id);
        let pool = self.pool_of(&account.id);
        let mut alerts: Vec<String> = Vec::new();
        for (_, alert) in self.raised() {
            if alert.is_about(&who) && !alerts.contains(&alert.alert) {
                alerts.push(alert.alert.clone());
            }
        }
        Touched {
            who,
            alerts,
            ports: pool.map(|(ports, _)| ports.to_owned()),
            pool_size: if account.is_inbound() { pool.map(|(_, size)| size) } else { account.pool_size() },
            highest_used_ratio: account.most_used(),
            fewest_seconds_left: account.fewest_left(),
            most_time_wait: account.most(Field::TimeWait),
            connections: account.sum(Field::Connections),
            most_per_second: account.most_per_second(),
            refused: account.refused(),
            challenged: account.sum(Field::Challenged),
            first_refused: account.first(|sample| sample.refused() > 0),
            syn_retries: account.sum(Field::SynRetries),
            failed: account.failed(),
            aborted_early: account.sum(Field::AbortedEarly),
        }
    }

    /// What could not be known.
    pub fn unknown(&self) -> Vec<String> {
        let mut unknown: Vec<String> = self
            .not_told
            .iter()
            .map(|figure| format!("{figure}: this kernel does not tell (see tcpwarden check)"))
            .collect();
        if !self.is_fine {
            unknown.push(
                "figures of single seconds: of some peers only those of whole minutes are kept".to_owned(),
            );
        }
        let gap = self.host.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[0].0)).max();
        if let Some((seconds, from)) = gap.filter(|(seconds, _)| *seconds > step(self.host) * 5) {
            let from = super::words::clock(from);
            unknown.push(format!(
                "what was in the {seconds} s from {from} on: the agent did not run, or was not read"
            ));
        }
        if self.host.is_empty() {
            unknown.push("any figure: nothing is kept of this span".to_owned());
        }
        unknown
    }
}

impl Touched {
    fn has_trouble(&self) -> bool {
        !self.alerts.is_empty()
            || self.refused + self.challenged + self.syn_retries + self.failed + self.aborted_early > 0
            || self.highest_used_ratio.is_some_and(|(ratio, _)| ratio >= 0.5)
    }
}

/// Whether something that happened bears on a peer: it names none, or that one.
fn concerns(happened: &Happened, peer: Option<&str>) -> bool {
    let Some(peer) = peer else { return true };
    match &happened.event {
        Event::TrafficStep { who, .. } | Event::PoolKnown { who, .. } | Event::BlockOutgrown { who, .. } => {
            who.peer == peer
        }
        Event::AlertRaised(alert)
        | Event::AlertGoesOn(alert)
        | Event::AlertChanged(alert)
        | Event::AlertOver(alert) => alert.peer.is_empty() || alert.peer == peer,
        Event::RefusedReuse(reuse) => reuse.peer == peer,
        _ => true,
    }
}

fn sum(samples: &[(u64, Sample)], field: Field) -> u64 {
    samples.iter().map(|(_, sample)| u64::from(sample[field])).sum()
}

fn most(samples: &[(u64, Sample)], value: impl Fn(&Sample) -> u32) -> (u32, u64) {
    samples.iter().fold((0, 0), |best, (time, sample)| {
        let value = value(sample);
        if value > best.0 { (value, *time) } else { best }
    })
}

/// The seconds that each sample stands for.
fn step(samples: &[(u64, Sample)]) -> u64 {
    samples.windows(2).map(|pair| pair[1].0 - pair[0].0).min().unwrap_or(1)
}
