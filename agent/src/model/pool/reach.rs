//! The ports of a pool that can come to this server.
//!
//! Behind a balancer that hashes the source port, a part of a peer's ports comes to this server, the same ones again and again: this part is
//! what can be taken here, not the range that it lies in. It is known once new connections hardly bring a port that did not come here
//! lately. "Lately" is about one round of the peer, so that another server in the fleet, or one less, is noticed in that time.
//!
//! How many ports there are that did not come lately follows from how often one of them comes: the share of connections from ports not seen
//! is the share of ports not seen (Good and Turing). So the pool as a whole can be told from a part before all of it was seen.

use super::{port_set::Ports, ranges::Ranges};

/// The ports that came are kept by epochs. Those of the last so many came lately.
const LATELY: usize = 6;

/// In turn, a port is passed over while the peer has a connection on it, and comes again one round later. So many epochs hold two rounds.
const EPOCHS: usize = 11;

/// Connections in an epoch, per port that can come here. Of ports handed out in turn, all but the newest of the last epochs hold a whole round; of
/// others,
/// where the same port comes again by chance while another one does not come, so many that one in 15 is missing at most (e^-2.75).
const EPOCH_IN_TURN: f64 = 0.21;
const EPOCH_BY_CHANCE: f64 = 0.55;
/// And at least so many.
const SHORTEST_EPOCH: f64 = 32.0;

/// While more of the connections than this come from ports not seen, nothing is dropped: the first round is not over.
const MOSTLY_NEW: f64 = 0.5;

/// The ports that can come here are known once fewer of the connections come from others.
const HARDLY_NEW: f64 = 0.1;

/// A connection's weight halves after so many later ones, per port seen; and at least so many.
const HALF_LIFE: f64 = 0.25;
const SHORTEST_HALF_LIFE: f64 = 32.0;

/// A part is less than the whole by more than this, and by so many standard deviations.
const SAME: f64 = 0.03;
const SIGMAS: f64 = 4.0;

/// A port may follow another one by chance. It takes so many of those, if each is drawn independently, to say whether they are more.
const ENOUGH_FOLLOWED: f64 = 8.0;
/// By chance it is hardly ever less than this part of them (less than 2 of 8 in 3 of 1,000 cases), or more than so many times as many.
const FEWEST_FOLLOWED: f64 = 0.25;
const MOST_FOLLOWED: f64 = 2.0;

/// Which ports of a pool can come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All of them, as far as is known. `seen`: and all of them came.
    All { seen: bool },
    /// As many as this.
    Part(u32),
    /// Not all of them, and how many is not known yet, or no longer.
    Learning,
}

/// What lies between the ports that come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Gaps as chance makes them: something hashes the ports, and the others go elsewhere.
    ByChance,
    /// The same gap again and again: the peer uses these ports only, or connections go round the servers exactly.
    Regular,
    /// Neither.
    Unknown,
}

impl Gaps {
    /// As it is written in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ByChance => "by_chance",
            Self::Regular => "regular",
            Self::Unknown => "unknown",
        }
    }
}

/// The ports that came here lately.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The current epoch first.
    epochs: [Ports; EPOCHS],
    /// Different ports that came lately.
    seen: u32,
    /// Connections in the current epoch, and the different ports that they came from.
    draws: u32,
    different: u32,
    /// Of these connections, the ones from two ports after one that came, and how many that would be by chance.
    followed: f64,
    followed_by_chance: f64,
    /// Whether the epoch before holds no more than half of the ports.
    is_last_short: bool,
    /// Connections, decaying, and those of them from ports not seen; and those since the last one of these.
    recent: f64,
    fresh: f64,
    calm: u64,
    /// Different ports at the end of each of the last two epochs.
    ends: [u32; 2],
    /// Whether each port is drawn independently of the others, once that is known.
    independent: Option<bool>,
}

impl Arrivals {
    pub fn new() -> Self {
        Self {
            epochs: Default::default(),
            seen: 0,
            draws: 0,
            different: 0,
            followed: 0.0,
            followed_by_chance: 0.0,
            is_last_short: false,
            recent: 0.0,
            fresh: 0.0,
            calm: 0,
            ends: [0; 2],
            independent: None,
        }
    }

    /// Takes the ports that came since the last call; `pool` is what they are drawn from, as far as that is known.
    pub fn observe(&mut self, came: &Ports, pool: &Ranges, is_in_turn: bool) {
        let (mut all, mut draws, mut different, mut fresh) = (0, 0, 0, 0);
        for (index, came) in came.words() {
            let mut epochs = self.epochs[..LATELY].iter().map(|ports| ports.word(index));
            let (before, last) = (epochs.next().unwrap_or_default(), epochs.next().unwrap_or_default());
            let known = epochs.fold(before | last, |known, word| known | word);
            all += came.count_ones();
            // In turn no port comes again so soon: that is a repeated SYN.
            let again = match (is_in_turn, self.is_last_short) {
                (false, _) => 0,
                (true, false) => before,
                (true, true) => before | last,
            };
            draws += (came & !again).count_ones();
            different += (came & !before).count_ones();
            fresh += (came & !known).count_ones();
            self.epochs[0].add_word(index, came);
        }
        self.draws += draws;
        self.different += different;
        self.seen += fresh;
        let half_life = (HALF_LIFE * f64::from(self.seen)).max(SHORTEST_HALF_LIFE);
        let decay = 0.5_f64.powf(f64::from(all) / half_life);
        self.recent = self.recent * decay + f64::from(all);
        self.fresh = self.fresh * decay + f64::from(fresh);
        self.calm = if fresh == 0 { self.calm + u64::from(all) } else { 0 };
        self.independent =
            if is_in_turn { None } else { self.judge_independence(came, pool).or(self.independent) };
        let new = self.new_share();
        let per_port = if is_in_turn { EPOCH_IN_TURN } else { EPOCH_BY_CHANCE };
        let full = (per_port * f64::from(self.seen) / (1.0 - new)).max(SHORTEST_EPOCH);
        if new <= MOSTLY_NEW && f64::from(self.draws) >= full {
            self.end_epoch(is_in_turn);
        }
    }

    fn end_epoch(&mut self, is_in_turn: bool) {
        self.ends = [self.seen, self.ends[0]];
        self.is_last_short = 2 * self.different < self.seen;
        let all = f64::from(self.seen) / (1.0 - self.new_share());
        self.epochs.rotate_right(1);
        self.epochs[0] = Ports::default();
        (self.draws, self.different, self.followed, self.followed_by_chance) = (0, 0, 0.0, 0.0);
        self.seen = self.came(LATELY).len();
        if !is_in_turn {
            self.epochs[LATELY..].fill(Ports::default());
            // Ports that chance did not bring again lately will come as new ones.
            self.fresh += self.recent * f64::from(self.ends[0] - self.seen) / all;
            self.calm = 0;
        }
    }

    /// The ports that came in the last so many epochs.
    fn came(&self, epochs: usize) -> Ports {
        let mut came = Ports::default();
        self.epochs[..epochs].iter().for_each(|ports| came.add(ports));
        came
    }

    /// Whether the ports are drawn independently of each other; `None` while too few came to say.
    ///
    /// Then the port two before one (the next, where all are even or all are odd) is among those that came as often as any other. Of a peer that
    /// goes round in its pool, or in several parts of it, it nearly always is; or never, where a balancer sends every third connection here.
    fn judge_independence(&mut self, came: &Ports, pool: &Ranges) -> Option<bool> {
        let follows = |port: &u16| port.checked_sub(2).is_some_and(|before| self.epochs[0].contains(before));
        self.followed += came.iter().filter(follows).count() as f64;
        self.followed_by_chance +=
            f64::from(came.len()) * f64::from(self.different) / f64::from(pool.len().max(1));
        // Once most ports came, each follows one that did, however they are drawn.
        let is_telling = 2 * self.different <= pool.len() && self.followed_by_chance >= ENOUGH_FOLLOWED;
        let as_by_chance =
            FEWEST_FOLLOWED * self.followed_by_chance..=MOST_FOLLOWED * self.followed_by_chance;
        is_telling.then(|| as_by_chance.contains(&self.followed))
    }

    /// The share of the connections that come from ports not seen, now.
    fn new_share(&self) -> f64 {
        if self.recent < 1.0 {
            return 1.0;
        }
        // The rule of three: after a calm of n, less than 3/n is left unseen, with 95 %.
        (self.fresh / self.recent).min(3.0 / self.calm.max(3) as f64)
    }

    /// Whether each connection draws its port by chance.
    pub fn is_by_chance(&self) -> bool {
        self.independent == Some(true)
    }

    /// Which ports of a pool, as it is inferred from the ports seen, can come here.
    pub fn reach(&self, pool: &Ranges) -> Reach {
        let (whole, seen, new) = (f64::from(pool.len()), f64::from(self.seen), self.new_share());
        if seen >= whole * (1.0 - SAME) {
            return Reach::All { seen: true };
        }
        let all = seen / (1.0 - new);
        // Of the share of new ones, and of the number of ports seen, which is that of a draw by chance as well.
        let error = (new.max(1.0 / self.recent.max(1.0)) / self.recent.max(1.0)).sqrt() / (1.0 - new);
        if new >= 1.0 || all * (1.0 + SAME + SIGMAS * error) >= whole {
            return Reach::All { seen: false };
        }
        let [last, before] = self.ends.map(f64::from);
        let is_shrinking = last < before * (1.0 - 0.5 * SAME) - before.sqrt();
        if new > HARDLY_NEW || is_shrinking {
            return Reach::Learning;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than a pool has")]
        Reach::Part(all.round() as u32)
    }

    /// The ports of a pool that did not come in the last two rounds, where it is handed out in turn.
    pub fn elsewhere(&self, pool: &Ranges) -> Ports {
        let mut ports = pool.set();
        ports.remove(&self.came(EPOCHS));
        ports
    }

    /// How those that came here lie in a pool.
    pub fn gaps(&self, pool: &Ranges) -> Gaps {
        let numbers: Vec<u32> = self.came(LATELY).iter().filter_map(|port| pool.number(port)).collect();
        let mut gaps: Vec<u32> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        let count = gaps.len() as f64;
        let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
        let like = |gap: u32| gaps.iter().filter(|&&other| other == gap).count() as f64;
        if usual > 1 && like(usual) >= count * 0.95 {
            return Gaps::Regular;
        }
        // Each port is among them with the same chance, whatever its neighbour is.
        let chance = numbers.len() as f64 / f64::from(pool.len().max(1));
        let deviation = (count * chance * (1.0 - chance)).sqrt();
        if count > 0.0 && (like(1) - count * chance).abs() <= SIGMAS * deviation {
            Gaps::ByChance
        } else {
            Gaps::Unknown
        }
    }
}

#[cfg(test)]
mod tests;
