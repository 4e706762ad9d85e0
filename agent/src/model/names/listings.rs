//! What one name lists, over time: which addresses, since when, and which it no longer lists.
//!
//! Only an answer takes an address away. Some servers answer with another part of a long list each time: an address that came back
//! after a while may do so again, and is not gone until it has been away for much longer.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use super::answer::{Answer, Told};

const SECOND: u64 = 1_000_000_000;

/// An address is gone once so many answers in a row were without it,
const ANSWERS: u32 = 3;

/// for so long at least, in nanoseconds,
const AWAY: u64 = 10 * SECOND;

/// and for so many times as long as addresses of this name stayed away and came back.
const TIMES: u64 = 3;

/// Who comes back later than this was gone: a name went back to an address it had before.
const ROTATION: u64 = 60 * SECOND;

/// How long it is remembered that addresses came back.
const REMEMBERED: u64 = 600 * SECOND;

/// So many addresses of a name are known, and so many changes.
const MOST_KNOWN: usize = 256;
const MOST_CHANGES: usize = 32;

/// A moment that lies between two answers; monotonic, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// When the last answer was asked for that did not know of it; `None` where there was none.
    pub earliest_ns: Option<u64>,
    /// When the first answer came that did.
    pub latest_ns: u64,
}

impl Between {
    /// Halfway between: as near as it can be told.
    #[must_use]
    pub fn middle_ns(&self) -> u64 {
        self.earliest_ns.map_or(self.latest_ns, |earliest| earliest.midpoint(self.latest_ns))
    }
}

/// An address came to a name, or left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The address.
    pub address: IpAddr,
    /// Whether it came.
    pub came: bool,
    /// When.
    pub when: Between,
}

/// An address that is listed, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// When the name began to list it.
    pub came: Between,
    /// When it had left before, if it came back; 0 if it had not.
    pub left_before: u64,
    /// When the last answer with it was asked for, and came.
    listed: (u64, u64),
    away: Option<Away>,
    /// It is gone, and its leaving has been noted.
    noted: bool,
}

/// The answers since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Away {
    /// When the first of them came.
    since: u64,
    /// When the last of them was asked for.
    last_asked: u64,
    answers: u32,
}

impl Known {
    /// Whether the last answers had it.
    pub fn is_listed(&self) -> bool {
        self.away.is_none()
    }

    /// When it left, if the last answers were without it.
    pub fn left(&self) -> Option<Between> {
        self.away.map(|away| Between { earliest_ns: Some(self.listed.0), latest_ns: away.since })
    }
}

/// What one name lists.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: BTreeMap<IpAddr, Known>,
    /// When the last answer for each family was asked for, and came.
    answered: [Option<(u64, u64)>; 2],
    /// Addresses in the last answers of each family.
    count: [usize; 2],
    /// When addresses came back, and after how long; ever shorter, as a longer one outweighs those before it.
    returns: VecDeque<(u64, u64)>,
    changes: VecDeque<Change>,
}

impl Listings {
    /// Takes an answer. Where it lists nothing at all, nothing takes the place of what was listed: that is not a move.
    pub fn learn(&mut self, answer: &Answer) {
        if !answer.lists() {
            if answer.is_empty() {
                self.count = [0; 2];
            }
            return;
        }
        let times = (answer.asked_ns, answer.answered_ns);
        for (family, told) in [&answer.v4, &answer.v6].into_iter().enumerate() {
            let (addresses, left_out) = match told {
                Told::Listed { addresses, left_out } => (&addresses[..], *left_out),
                Told::Nothing { .. } => (&[][..], 0),
                Told::Failed(_) | Told::TimedOut => continue,
            };
            for &address in addresses {
                self.listed(address, times, self.answered[family]);
            }
            self.missed(family, addresses, times, left_out);
            self.answered[family] = Some(times);
            self.count[family] = addresses.len() + left_out;
        }
        self.make_room();
    }

    fn listed(&mut self, address: IpAddr, times: (u64, u64), before: Option<(u64, u64)>) {
        let when = |asked: Option<u64>| Between { earliest_ns: asked, latest_ns: times.1 };
        let rotation = self.rotation(times.1);
        let Some(known) = self.known.get_mut(&address) else {
            let came = when(before.map(|(asked, _)| asked));
            self.known
                .insert(address, Known { came, left_before: 0, listed: times, away: None, noted: false });
            // What was listed when we began to look did not come.
            if before.is_some() {
                self.note(Change { address, came: true, when: came });
            }
            return;
        };
        let away = known.away.take();
        let absence = times.1.saturating_sub(known.listed.1);
        known.listed = times;
        known.noted = false;
        let Some(away) = away else { return };
        if absence > rotation {
            let came = when(Some(away.last_asked));
            known.came = came;
            known.left_before = away.since;
            self.note(Change { address, came: true, when: came });
        }
        if absence <= ROTATION {
            while self.returns.pop_back_if(|(_, shorter)| *shorter <= absence).is_some() {}
            self.returns.push_back((times.1, absence));
            self.returns.truncate(MOST_KNOWN);
        }
    }

    /// Counts the answer for those it did not list; where addresses were left out of it, they may be among them.
    fn missed(&mut self, family: usize, addresses: &[IpAddr], (asked, came): (u64, u64), left_out: usize) {
        for (address, known) in &mut self.known {
            if usize::from(address.is_ipv6()) != family || addresses.contains(address) {
                continue;
            }
            if left_out > 0 {
                known.away = None;
                continue;
            }
            let away = known.away.get_or_insert(Away { since: came, last_asked: asked, answers: 0 });
            away.last_asked = asked;
            away.answers += 1;
        }
    }

    /// So long may an address stay away and come back, in nanoseconds; 0 where none ever did.
    fn rotation(&self, now: u64) -> u64 {
        let recent = self.returns.iter().filter(|(at, _)| now.saturating_sub(*at) <= REMEMBERED);
        recent.map(|(_, absence)| absence * TIMES).max().unwrap_or_default()
    }

    /// Whether the name lists an address no more.
    pub fn is_gone(&self, now: u64, known: &Known) -> bool {
        let away_for = now.saturating_sub(known.listed.1);
        known.away.is_some_and(|away| away.answers >= ANSWERS) && away_for >= AWAY.max(self.rotation(now))
    }

    /// Notes who has gone since it was last asked.
    pub fn tick(&mut self, now: u64) {
        let gone = self.known.iter().filter(|(_, known)| !known.noted && self.is_gone(now, known));
        let gone: Vec<(IpAddr, Between)> =
            gone.filter_map(|(address, known)| Some((*address, known.left()?))).collect();
        for (address, when) in gone {
            if let Some(known) = self.known.get_mut(&address) {
                known.noted = true;
            }
            self.note(Change { address, came: false, when });
        }
    }

    fn note(&mut self, change: Change) {
        if self.changes.len() == MOST_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// Forgets who has been away longest, where there are too many.
    fn make_room(&mut self) {
        while self.known.len() > MOST_KNOWN {
            let away = self.known.iter().filter(|(_, known)| known.away.is_some());
            let Some((&oldest, _)) = away.min_by_key(|(_, known)| known.listed.1) else { return };
            self.known.remove(&oldest);
        }
    }

    /// Forgets those that are gone and whom `is_needed` does not want.
    pub fn forget(&mut self, now: u64, is_needed: impl Fn(IpAddr, &Known) -> bool) {
        let gone: Vec<IpAddr> = self
            .known
            .iter()
            .filter(|(address, known)| self.is_gone(now, known) && !is_needed(**address, known))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            self.known.remove(&address);
        }
    }

    /// Addresses in the last answers, those that are not kept counted in.
    pub fn count(&self) -> usize {
        self.count.iter().sum()
    }

    pub fn known(&self) -> impl Iterator<Item = (IpAddr, &Known)> {
        self.known.iter().map(|(address, known)| (*address, known))
    }

    pub fn get(&self, address: IpAddr) -> Option<&Known> {
        self.known.get(&address)
    }

    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }
}

#[cfg(test)]
mod tests;
