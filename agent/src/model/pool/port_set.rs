//! Sets of ports as the agent keeps them.

use std::iter;

use probe_ebpf::source_ports::PortSet;

/// Ports of one word of a set.
pub(super) const BITS: u16 = 64;

/// The even ports of a word.
pub(super) const EVEN: u64 = 0x5555_5555_5555_5555;

/// A set of ports. It takes a bit for each port from about its lowest to about its highest, while the kernel's [`PortSet`] always takes 8 KiB:
/// a pool of 14,336 ports takes 1.8 KB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// How many words of no port lie before the first one.
    skipped: usize,
    words: Vec<u64>,
}

impl Ports {
    /// Whether a port is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.word(usize::from(port / BITS)) & (1 << (port % BITS)) != 0
    }

    /// Number of ports.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The ports, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words().flat_map(|(index, word)| ports(index, word))
    }

    /// The lowest and the highest one.
    pub(super) fn bounds(&self) -> Option<(u16, u16)> {
        let (first, low) = self.words().next()?;
        let (last, high) = self.words().last()?;
        Some((ports(first, low).next()?, ports(last, high).last()?))
    }

    /// Whether all are even, or all are odd.
    pub(super) fn is_of_one_parity(&self) -> bool {
        let all = self.words.iter().fold(0, |all, word| all | word);
        all & EVEN == 0 || all & !EVEN == 0
    }

    /// Neighbours that are further apart than this.
    pub(super) fn gaps(&self, longest: u16) -> Vec<(u16, u16)> {
        let mut gaps = Vec::new();
        let mut before: Option<u16> = None;
        let mut check = |port: u16, last: u16| {
            gaps.extend(before.filter(|before| port - before > longest).map(|before| (before, port)));
            before = Some(last);
        };
        for (index, word) in self.words() {
            // Of a pool that is handed out in turn nearly all words are full.
            if word == u64::MAX {
                let first = first(index);
                check(first, first + (BITS - 1));
            } else {
                ports(index, word).for_each(|port| check(port, port));
            }
        }
        gaps
    }

    /// Those from `low` to `high`.
    pub(super) fn part(&self, low: u16, high: u16) -> Self {
        let mut part = Self::default();
        for index in low / BITS..=high / BITS {
            part.add_word(index.into(), self.word(index.into()) & mask(index, low, high));
        }
        part
    }

    /// The words that hold ports, and the place of each among those of all ports.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (self.skipped..).zip(self.words.iter().copied()).filter(|&(_, word)| word != 0)
    }

    /// The word at a place.
    pub(super) fn word(&self, index: usize) -> u64 {
        index.checked_sub(self.skipped).and_then(|at| self.words.get(at)).copied().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, port: u16) {
        self.add_word(usize::from(port / BITS), 1 << (port % BITS));
    }

    /// Adds the ports of a word.
    pub(super) fn add_word(&mut self, index: usize, word: u64) {
        if self.words.is_empty() {
            self.skipped = index;
        }
        if let Some(missing) = self.skipped.checked_sub(index) {
            self.words.splice(..0, iter::repeat_n(0, missing));
            self.skipped = index;
        }
        let at = index - self.skipped;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= word;
    }

    /// Adds the ports of another set.
    pub(super) fn add(&mut self, other: &Self) {
        other.words().for_each(|(index, word)| self.add_word(index, word));
    }

    /// Takes the ports of another set out.
    pub(super) fn remove(&mut self, other: &Self) {
        for (index, word) in (self.skipped..).zip(&mut self.words) {
            *word &= !other.word(index);
        }
    }
}

/// The lowest port of a word.
fn first(index: usize) -> u16 {
    u16::try_from(index).unwrap_or_default() * BITS
}

/// The ports of a word, ascending.
fn ports(index: usize, mut word: u64) -> impl Iterator<Item = u16> {
    let first = first(index);
    iter::from_fn(move || {
        let bit = u16::try_from(word.trailing_zeros()).ok().filter(|_| word != 0)?;
        word &= word - 1;
        Some(first + bit)
    })
}

/// The ports from `low` to `high` of a word in which there are some.
pub(super) fn mask(index: u16, low: u16, high: u16) -> u64 {
    let first = index * BITS;
    let from = u64::MAX << low.saturating_sub(first);
    let to = u64::MAX >> (BITS - 1 - (high - first).min(BITS - 1));
    from & to
}

impl From<&PortSet> for Ports {
    fn from(set: &PortSet) -> Self {
        let mut ports = Self::default();
        let words = set.bits.as_chunks().0.iter().copied().map(u64::from_le_bytes);
        let words = (0..).zip(words).filter(|&(_, word)| word != 0);
        words.for_each(|(index, word)| ports.add_word(index, word));
        ports
    }
}

impl FromIterator<u16> for Ports {
    fn from_iter<T: IntoIterator<Item = u16>>(ports: T) -> Self {
        let mut set = Self::default();
        ports.into_iter().for_each(|port| set.insert(port));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytemuck::Zeroable as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_set_holds_the_same_ports() {
        let mut set = PortSet::zeroed();
        for port in [u16::MAX, 0, 8, 2_048] {
            set.insert(port);
        }
        assert_eq!(Ports::from(&set).iter().collect::<Vec<_>>(), [0, 8, 2_048, u16::MAX]);
        assert_eq!(Ports::from(&PortSet::zeroed()), Ports::default());
    }

    #[test]
    fn a_set_takes_no_more_than_the_part_in_which_it_lies() {
        assert_eq!((2_048..16_384).rev().collect::<Ports>().words.len(), 14_336 / 64);
    }

    proptest! {
        #[test]
        fn gaps_and_parts_are_those_of_the_ports_in_order(
            ports in prop::collection::btree_set(any::<u16>(), 2..200), longest in 1_u16..2_000, full in 0_u16..1_000
        ) {
            let ports: BTreeSet<u16> = ports.into_iter().chain(full * 64..full * 64 + 130).collect();
            let set: Ports = ports.iter().copied().collect();
            let sorted: Vec<u16> = ports.iter().copied().collect();
            let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
            prop_assert_eq!(set.bounds(), Some((low, high)));
            let gaps: Vec<(u16, u16)> =
                sorted.windows(2).map(|pair| (pair[0], pair[1])).filter(|(a, b)| b - a > longest).collect();
            prop_assert_eq!(set.gaps(longest), gaps);
            let (from, to) = (sorted[sorted.len() / 3], sorted[sorted.len() / 2]);
            prop_assert!(set.part(from, to).iter().eq(ports.range(from..=to).copied()));
            prop_assert!(!set.is_of_one_parity());
            let odd: Ports = ports.iter().map(|port| port | 1).collect();
            prop_assert!(odd.is_of_one_parity());
        }

        #[test]
        fn it_holds_what_was_added_and_not_taken_out(
            added in prop::collection::vec(any::<u16>(), 0..50),
            more in prop::collection::vec(any::<u16>(), 0..50),
            out in prop::collection::vec(any::<u16>(), 0..50),
        ) {
            let mut set: Ports = added.iter().copied().collect();
            set.add(&more.iter().copied().collect());
            // Some of those that are in it, too.
            let out: Vec<u16> = out.iter().chain(added.iter().step_by(2)).copied().collect();
            set.remove(&out.iter().copied().collect());
            let right: BTreeSet<u16> = added.iter().chain(&more).copied().filter(|port| !out.contains(port)).collect();
            prop_assert_eq!(set.len() as usize, right.len());
            prop_assert_eq!(set.is_empty(), right.is_empty());
            prop_assert!(right.iter().all(|&port| set.contains(port)));
            prop_assert!(out.iter().all(|&port| !set.contains(port)));
            prop_assert!(set.iter().eq(right));
        }
    }
}
