//! Blocks of ports behind one address, each assigned to one machine or subscriber, as NAT gateways of clouds and carrier-grade NATs do. A
//! machine that has outgrown its block loses SYNs while its neighbours behind the same address lose none.
//!
//! Where the block lies follows from the ports of all SYNs of the last minute, whether refused or not. Blocks have a power of two of ports and
//! are aligned to their size. From the smallest such window around a refused SYN on, the window is doubled as long as the other half is used as
//! much. The SYNs within must come in turn, round and round, or independently of each other: those of a client that only passes through do neither.
//!
//! Whether it is this block that the refused SYNs are about is tested: see [`by_chance`].

mod pointers;

use std::{cmp::Reverse, collections::VecDeque, mem, time::Duration};

pub use self::pointers::Circling;
use self::pointers::Pointers;
use super::{port_set::Ports, ranges::Range, traffic::TIME_WAIT_SECONDS};

/// Sizes of blocks that are looked for.
const SMALLEST: u32 = 64;
const LARGEST: u32 = 2_048;

/// SYNs kept of a peer: a minute of 136 a second. Of a busier peer the oldest seconds are dropped, so that less than a minute is searched.
const KEPT: usize = 8_192;

/// So few refused attempts tell nothing.
const FEWEST_REFUSED: usize = 5;

/// Of so many of the smallest windows, those with the most refused attempts, it is found out whether they belong to such a block.
const CANDIDATES: usize = 8;

/// Two halves are used differently when they are so many standard deviations apart.
const SIGMAS: f64 = 4.0;

/// Refused SYNs lie beyond chance where chance puts them there less often than this, in all blocks that could be meant together.
const BY_CHANCE: f64 = 1e-3;

/// So few SYNs show no order.
const FEWEST_STEPS: usize = 16;

/// In turn, nearly all steps from one SYN to the next are shorter than this part of the block; at random, a quarter is.
const NEAR: u32 = 8;
const IN_TURN: f64 = 0.9;

/// At random, few SYNs are closer than this part of the block to one of so many before; where several go in turn, nearly all are.
const CLOSE: u32 = 32;
const BEFORE: usize = 4;
const AT_RANDOM: f64 = 0.5;

/// Who goes round does not rest at the end of the block: from the last port to the first it takes no longer than so many steps do on average,
/// and what seconds cannot tell apart.
const LONGEST_STEPS: f64 = 4.0;
const UNSURE_SECONDS: u32 = 2;

/// At random, no pause takes longer than so many steps do on average, but for one in e^10. One who goes through the block at once, and comes
/// again after a round of a larger pool, stays away for longer.
const LONGEST_PAUSE: f64 = 10.0;

/// The SYNs of a second that repeat no other, by their ports: all of them, and those that were refused. Both ascend.
#[derive(Debug)]
struct Second {
    at: u32,
    ports: Box<[u16]>,
    refused: Box<[u16]>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Syn {
    /// The second in which it came.
    at: u32,
    port: u16,
    is_refused: bool,
}

/// The SYNs of one peer in the last minute.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    seconds: VecDeque<Second>,
    /// Ports since the last look: of SYNs that were the first of their attempt to be refused, and of those that repeated such a one.
    refused: Ports,
    repeated: Ports,
    /// The last second that was dropped for later ones.
    dropped: Option<u32>,
    /// SYNs that were not searched at all: more came at once than are kept, and some were refused.
    unsearched: u64,
    pointers: Pointers,
}

/// The blocks that refused attempts came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgrown {
    /// The blocks, ascending.
    pub blocks: Vec<Range>,
    /// Attempts from them that TIME_WAIT refused in the last minute.
    pub refused: usize,
    /// All attempts of the peer that it refused then.
    pub all_refused: usize,
    /// How many seconds this minute has: fewer than 60 of a peer whose SYNs are too many to be kept for longer.
    pub seconds: u32,
}

/// As many ports as its size, from a multiple of its size on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    low: u32,
    size: u32,
}

impl Window {
    fn around(port: u16, size: u32) -> Self {
        Self { low: u32::from(port) / size * size, size }
    }

    fn contains(self, port: u16) -> bool {
        (self.low..self.low + self.size).contains(&u32::from(port))
    }

    /// The other half of the window of twice its size.
    fn sibling(self) -> Self {
        Self { low: self.low ^ self.size, ..self }
    }

    fn doubled(self) -> Self {
        let size = 2 * self.size;
        Self { low: self.low / size * size, size }
    }

    fn range(self) -> Option<Range> {
        let high = u16::try_from(self.low + self.size - 1).ok()?;
        Some(Range { low: u16::try_from(self.low).ok()?, high, step: 1 })
    }
}

/// How the ports of a window come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    InTurn,
    AtRandom,
    Neither,
}

impl Blocks {
    /// A SYN from this port was refused by a TIME_WAIT; `is_repeated`: as one of its attempt was before.
    pub fn refuse(&mut self, port: u16, is_repeated: bool) {
        let ports = if is_repeated { &mut self.repeated } else { &mut self.refused };
        ports.insert(port);
    }

    /// SYNs of seconds with refused ones that were not searched because more came at once than are kept, since the last call.
    pub fn take_unsearched(&mut self) -> u64 {
        mem::take(&mut self.unsearched)
    }

    /// Takes the ports of the SYNs since the last call. `may_circle`: the peer is not known to draw its ports in another way than by going round
    /// in blocks.
    pub fn observe(&mut self, now: Duration, came: &Ports, may_circle: bool) {
        let (refused, repeated) = (mem::take(&mut self.refused), mem::take(&mut self.repeated));
        let mut ports = came.clone();
        ports.remove(&repeated);
        ports.add(&refused);
        let [ports, refused]: [Box<[u16]>; 2] = [&ports, &refused].map(|ports| ports.iter().collect());
        let at = second(now);
        if may_circle {
            self.pointers.observe(at, &ports);
        } else {
            self.pointers.clear();
        }
        self.keep(Second { at, ports, refused }, begin(now));
    }

    /// Keeps one more second of those from `begin` on.
    fn keep(&mut self, newest: Second, begin: u32) {
        let mut kept = newest.ports.len();
        // Where none was refused, there is no block to be named.
        if kept > KEPT && !newest.refused.is_empty() {
            self.unsearched += kept as u64;
        }
        kept += self.seconds.iter().map(|second| second.ports.len()).sum::<usize>();
        self.seconds.push_back(newest);
        while let Some(oldest) = self.seconds.pop_front_if(|second| second.at < begin || kept > KEPT) {
            kept -= oldest.ports.len();
            if oldest.at >= begin {
                self.dropped = Some(oldest.at);
            }
        }
    }

    /// The SYNs from a second on.
    fn since(&self, begin: u32) -> impl Iterator<Item = Syn> + '_ {
        let seconds = self.seconds.iter().skip_while(move |second| second.at < begin);
        seconds.flat_map(|Second { at, ports, refused }| {
            let is_refused = |port| refused.binary_search(port).is_ok();
            ports.iter().map(move |port| Syn { at: *at, port: *port, is_refused: is_refused(port) })
        })
    }

    /// The blocks that were outgrown, as far as that is beyond chance.
    pub fn outgrown(&self, now: Duration) -> Option<Outgrown> {
        let begin = begin(now);
        if !self.seconds.iter().any(|second| second.at >= begin && !second.refused.is_empty()) {
            return None;
        }
        let mut minute: Vec<Syn> = self.since(begin).collect();
        // Those of a second are told in no order: in this one, only ports that come in turn are near each other.
        minute.sort_unstable_by_key(|syn| (syn.at, syn.port.reverse_bits()));
        let first = minute.iter().find(|syn| syn.is_refused)?.at;
        let since_first = &minute[minute.partition_point(|syn| syn.at < first)..];
        let mut refused: Vec<u16> =
            since_first.iter().filter(|syn| syn.is_refused).map(|syn| syn.port).collect();
        if refused.len() < FEWEST_REFUSED {
            return None;
        }
        refused.sort_unstable();
        let windows = refused.chunk_by(|&a, &b| Window::around(a, SMALLEST).contains(b));
        let mut candidates: Vec<(usize, u16)> = windows.map(|ports| (ports.len(), ports[0])).collect();
        candidates.sort_unstable_by_key(|&(refused, port)| (Reverse(refused), port));
        let uses = Uses::of(now, &minute);
        let mut candidates: Vec<Window> =
            candidates.iter().take(CANDIDATES).filter_map(|&(_, port)| uses.block_of(port)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let mut blocks: Vec<Window> = Vec::new();
        // Those that are outgrown say nothing of the others.
        while let Some(place) = candidates.iter().position(|&block| {
            let count = |ports: &mut dyn Iterator<Item = u16>| {
                let others = ports.filter(|&port| !blocks.iter().any(|block| block.contains(port)));
                others
                    .fold((0, 0), |(within, all), port| (within + usize::from(block.contains(port)), all + 1))
            };
            let (within, refused) = count(&mut refused.iter().copied());
            let (syns_within, syns) = count(&mut since_first.iter().map(|syn| syn.port));
            let share = syns_within as f64 / syns.max(1) as f64;
            by_chance(within, refused, share) * uses.smallest_windows() < BY_CHANCE
        }) {
            blocks.push(candidates.swap_remove(place));
        }
        let refused_within =
            refused.iter().filter(|&&port| blocks.iter().any(|block| block.contains(port))).count();
        blocks.sort_unstable();
        let blocks: Vec<Range> = blocks.into_iter().filter_map(Window::range).collect();
        (!blocks.is_empty()).then_some(Outgrown {
            blocks,
            refused: refused_within,
            all_refused: refused.len(),
            seconds: self.searched_seconds(now),
        })
    }

    /// Of how many of the last 60 seconds the SYNs are kept.
    fn searched_seconds(&self, now: Duration) -> u32 {
        let since = self.dropped.map_or(u32::MAX, |dropped| second(now).saturating_sub(dropped));
        since.clamp(1, second(Duration::from_secs(TIME_WAIT_SECONDS as u64)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "wraps after 136 years")]
fn second(now: Duration) -> u32 {
    now.as_secs() as u32
}

/// The second in which the last minute began.
fn begin(now: Duration) -> u32 {
    second(now.saturating_sub(Duration::from_secs(TIME_WAIT_SECONDS as u64)))
}

/// How often chance puts at least `refused` of `all` refused SYNs into a block that has this share of the SYNs since the first refused one, if a
/// SYN is refused irrespective of the block it comes from: no more often than this.
///
/// The number is hypergeometric then, for which Hoeffding's bound holds as it does for the binomial (W. Hoeffding, Probability Inequalities for
/// Sums of Bounded Random Variables, 1963, section 6).
fn by_chance(refused: usize, all: usize, share: f64) -> f64 {
    let (refused, all) = (refused as f64, all as f64);
    let found = refused / all;
    if found <= share {
        return 1.0;
    }
    let of_others = if found < 1.0 { (1.0 - found) * ((1.0 - found) / (1.0 - share)).ln() } else { 0.0 };
    (-all * (found * (found / share).ln() + of_others)).exp()
}

/// How the ports are used in a minute.
struct Uses<'a> {
    now: u32,
    syns: &'a [Syn],
    /// Different ones, ascending.
    ports: Vec<u16>,
}

impl<'a> Uses<'a> {
    fn of(now: Duration, syns: &'a [Syn]) -> Self {
        let mut ports: Vec<u16> = syns.iter().map(|syn| syn.port).collect();
        ports.sort_unstable();
        ports.dedup();
        Self { now: second(now), syns, ports }
    }

    /// How many windows of the smallest size SYNs come from: so many blocks there are at most.
    fn smallest_windows(&self) -> f64 {
        let windows = self.ports.chunk_by(|a, b| u32::from(*a) / SMALLEST == u32::from(*b) / SMALLEST);
        windows.count() as f64
    }

    /// The block that a port belongs to; `None` where its bounds do not show.
    fn block_of(&self, port: u16) -> Option<Window> {
        let mut block = Window::around(port, SMALLEST);
        loop {
            let difference = self.ports_apart(block);
            if difference >= SIGMAS {
                break;
            }
            if difference <= -SIGMAS || block.size == LARGEST {
                return None;
            }
            block = block.doubled();
        }
        // Two blocks side by side that use all of their ports look like one of twice the size, but for their order.
        loop {
            let half = Window::around(port, block.size / 2);
            match self.order(block) {
                Order::InTurn => return Some(block),
                _ if block.size > SMALLEST && self.order(half) == Order::InTurn => block = half,
                Order::AtRandom => return self.is_even(block).then_some(block),
                Order::Neither => return None,
            }
        }
    }

    fn within(&self, window: Window) -> impl Iterator<Item = &Syn> {
        self.syns.iter().filter(move |syn| window.contains(syn.port))
    }

    /// How many more of its ports are used than of its sibling's, in standard deviations.
    fn ports_apart(&self, window: Window) -> f64 {
        let used = |window: Window| {
            let below = |bound: u32| self.ports.partition_point(|&port| u32::from(port) < bound);
            (below(window.low + window.size) - below(window.low)) as f64 / f64::from(window.size)
        };
        let (own, other) = (used(window), used(window.sibling()));
        let mean = f64::midpoint(own, other);
        let deviation = (2.0 * mean * (1.0 - mean) / f64::from(window.size)).sqrt();
        if deviation > 0.0 { (own - other) / deviation } else { 0.0 }
    }

    /// Whether as many SYNs come from one half as from the other.
    fn is_even(&self, window: Window) -> bool {
        let half = Window { size: window.size / 2, ..window };
        let [low, high] = [half, half.sibling()].map(|half| self.within(half).count() as f64);
        (low - high).abs() <= SIGMAS * (low + high).sqrt()
    }

    fn order(&self, window: Window) -> Order {
        let syns: Vec<&Syn> = self.within(window).collect();
        let [first, .., last] = syns[..] else { return Order::Neither };
        let steps = syns.len() - 1;
        if steps < FEWEST_STEPS {
            return Order::Neither;
        }
        let is_within = |part: u32, one: &Syn, other: &Syn| {
            let distance = u32::from(one.port.abs_diff(other.port));
            distance.min(window.size - distance) <= window.size / part
        };
        let share = |matches: &dyn Fn(usize) -> bool| {
            (1..=steps).filter(|&at| matches(at)).count() as f64 / steps as f64
        };
        let seconds_per_step = f64::from(last.at - first.at) / steps as f64;
        let longest = f64::from(UNSURE_SECONDS) + LONGEST_STEPS * seconds_per_step;
        // The SYNs of one who passes through do not go on.
        if f64::from(self.now.saturating_sub(last.at)) > longest {
            return Order::Neither;
        }
        // One who leaves at the top while another enters at the bottom does not come round either.
        let beside = window.size / CLOSE;
        let (low, high) = (window.low, window.low + window.size);
        let came = |ports: std::ops::Range<u32>, from: u32, to: u32| {
            let is_there = |syn: &Syn| ports.contains(&u32::from(syn.port));
            self.syns.iter().any(|syn| is_there(syn) && (from..=to).contains(&syn.at))
        };
        let comes_round = syns.windows(2).any(|pair| {
            let (from, to) = (pair[0], pair[1]);
            let is_back = u32::from(from.port) > u32::from(to.port) + window.size / 2;
            is_back
                && is_within(NEAR, from, to)
                && f64::from(to.at - from.at) <= longest
                && !(came(high..high + beside, from.at, to.at + UNSURE_SECONDS)
                    && came(low.saturating_sub(beside)..low, from.at.saturating_sub(UNSURE_SECONDS), to.at))
        });
        if share(&|at| is_within(NEAR, syns[at - 1], syns[at])) >= IN_TURN {
            return if comes_round { Order::InTurn } else { Order::Neither };
        }
        let is_close = |at: usize| {
            syns[at.saturating_sub(BEFORE)..at].iter().any(|before| is_within(CLOSE, before, syns[at]))
        };
        let longest_pause = f64::from(UNSURE_SECONDS) + LONGEST_PAUSE * seconds_per_step;
        let pauses = syns.windows(2).any(|pair| f64::from(pair[1].at - pair[0].at) > longest_pause);
        if !pauses && share(&is_close) <= AT_RANDOM { Order::AtRandom } else { Order::Neither }
    }
}

#[cfg(test)]
mod tests;
