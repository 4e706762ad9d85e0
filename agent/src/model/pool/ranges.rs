//! Ranges of ports.

use std::fmt;

use super::port_set::{BITS, EVEN, Ports, mask};

/// The ports from `low` to `high`, every `step`-th of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// 1, or 2 when only even or only odd ones are meant.
    pub step: u16,
}

impl Range {
    fn len(self) -> u32 {
        u32::from((self.high - self.low) / self.step) + 1
    }

    fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port) && (port - self.low).is_multiple_of(self.step)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, high, step } = self;
        match (low == high, step, low % 2) {
            (true, ..) => write!(f, "{low}"),
            (_, 2, 0) => write!(f, "{low}-{high} (even ones)"),
            (_, 2, _) => write!(f, "{low}-{high} (odd ones)"),
            _ => write!(f, "{low}-{high}"),
        }
    }
}

/// Ranges, ascending and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

/// As many ranges are written out; the others are summed up.
const WRITTEN: usize = 4;

impl Ranges {
    /// Whole ranges, from pairs of first and last port.
    #[must_use]
    pub fn whole(pairs: &[(u16, u16)]) -> Self {
        Self(pairs.iter().map(|&(low, high)| Range { low, high, step: 1 }).collect())
    }

    pub(super) fn new(ranges: Vec<Range>) -> Self {
        Self(ranges)
    }

    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Number of ports.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|range| range.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their ports.
    pub(super) fn set(&self) -> Ports {
        let mut set = Ports::default();
        for &Range { low, high, step } in &self.0 {
            let every = match (step, low % 2) {
                (2, 0) => EVEN,
                (2, _) => EVEN << 1,
                _ => u64::MAX,
            };
            for index in low / BITS..=high / BITS {
                set.add_word(index.into(), mask(index, low, high) & every);
            }
        }
        set
    }

    /// The lowest port; 0 if there is none.
    pub(super) fn first(&self) -> u16 {
        self.0.first().map_or(0, |range| range.low)
    }

    /// The place of a port among them, from 0 on.
    pub(super) fn number(&self, port: u16) -> Option<u32> {
        let place = self.0.partition_point(|range| range.high < port);
        let range = self.0.get(place).filter(|range| range.contains(port))?;
        let before: u32 = self.0[..place].iter().map(|range| range.len()).sum();
        Some(before + u32::from((port - range.low) / range.step))
    }

    /// The port at a place.
    pub(super) fn port(&self, number: u32) -> Option<u16> {
        let mut left = number;
        for range in &self.0 {
            if left < range.len() {
                return Some(range.low + u16::try_from(left).ok()? * range.step);
            }
            left -= range.len();
        }
        None
    }

    /// Whether a port lies in one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let place = self.0.partition_point(|range| range.high < port);
        self.0.get(place).is_some_and(|range| range.contains(port))
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().take(WRITTEN).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        match self.0.len().saturating_sub(WRITTEN) {
            0 => Ok(()),
            more => write!(f, " and {more} more ranges"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_what_they_hold() {
        let ranges = Ranges::new(vec![
            Range { low: 1024, high: 2047, step: 1 },
            Range { low: 3000, high: 3010, step: 2 },
        ]);
        assert_eq!(ranges.len(), 1024 + 6);
        assert!(ranges.contains(1024) && ranges.contains(2047) && ranges.contains(3004));
        assert!(!ranges.contains(3005) && !ranges.contains(2048) && !ranges.contains(1023));
        assert_eq!(ranges.to_string(), "1024-2047, 3000-3010 (even ones)");
        assert_eq!(Ranges::whole(&[(1, u16::MAX)]).len(), 65_535);
    }

    #[test]
    fn ranges_are_the_set_of_their_ports() {
        let ranges = [
            Range { low: 0, high: 0, step: 1 },
            Range { low: 60, high: 200, step: 1 },
            Range { low: 1_024, high: 1_500, step: 2 },
            Range { low: 1_501, high: 1_801, step: 2 },
            Range { low: 65_535, high: 65_535, step: 1 },
        ];
        let ranges = Ranges::new(ranges.to_vec());
        let right: Vec<u16> = (0..=u16::MAX).filter(|&port| ranges.contains(port)).collect();
        assert_eq!(ranges.set().iter().collect::<Vec<_>>(), right);
    }
}
