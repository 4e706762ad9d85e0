//! Ranges of ports.

use std::fmt;

use probe_ebpf::source_ports::PortSet;

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

/// The ports of a set, ascending.
pub(super) fn ports(set: &PortSet) -> impl Iterator<Item = u16> + '_ {
    (0_u16..).zip(&set.bits).filter(|&(_, &byte)| byte != 0).flat_map(|(index, &byte)| {
        (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| index * 8 + bit)
    })
}

/// Number of ports in a set.
pub(super) fn count(set: &PortSet) -> u32 {
    set.bits.iter().map(|byte| byte.count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

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
    fn a_set_lists_its_ports_in_order() {
        let mut set = PortSet::zeroed();
        for port in [u16::MAX, 0, 8, 2048] {
            set.insert(port);
        }
        assert_eq!(ports(&set).collect::<Vec<_>>(), [0, 8, 2048, u16::MAX]);
        assert_eq!(count(&set), 4);
        assert!(set.contains(2048) && !set.contains(2049));
    }
}
