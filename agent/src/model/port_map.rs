//! All ports of one peer towards one service, at a glance.

use super::pool::{Ports, Ranges};

/// How a port stands; what is worse is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortState {
    /// No connection, and not of the pool as far as that is known.
    #[default]
    Outside,
    /// Of the pool, and not used here: other servers get it, as far as that is known.
    Elsewhere,
    /// Of the pool, and free.
    Free,
    /// Taken by a live connection.
    Live,
    /// Taken by a TIME_WAIT.
    TimeWait,
    /// A SYN from it was refused within the last minute.
    Refused,
}

impl PortState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Outside, Self::Elsewhere, Self::Free, Self::Live, Self::TimeWait, Self::Refused];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Elsewhere => "elsewhere",
            Self::Free => "free",
            Self::Live => "live",
            Self::TimeWait => "time_wait",
            Self::Refused => "refused",
        }
    }
}

/// Number of ports.
const PORTS: usize = 65_536;

/// The state of each port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap {
    states: Vec<PortState>,
}

/// Ports next to each other in the same state; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// Their state.
    pub state: PortState,
}

impl PortMap {
    /// All ports, none taken; other servers get those of the pool that are `elsewhere`.
    #[must_use]
    pub fn new(pool: Option<&Ranges>, elsewhere: Option<&Ports>) -> Self {
        let state = |port| {
            if !pool.is_some_and(|pool| pool.contains(port)) {
                PortState::Outside
            } else if elsewhere.is_some_and(|elsewhere| elsewhere.contains(port)) {
                PortState::Elsewhere
            } else {
                PortState::Free
            }
        };
        Self { states: (0..=u16::MAX).map(state).collect() }
    }

    /// Sets the state of a port.
    pub fn set(&mut self, port: u16, state: PortState) {
        self.states[usize::from(port)] = state;
    }

    /// How many ports are in a state.
    #[must_use]
    pub fn count(&self, state: PortState) -> usize {
        self.states.iter().filter(|&&other| other == state).count()
    }

    /// The ports as runs, ascending; a run ends at the latest at each multiple of `row`.
    pub fn runs(&self, row: usize) -> impl Iterator<Item = Run> + '_ {
        let ports = (0..=u16::MAX).zip(&self.states);
        let mut ports = ports.peekable();
        std::iter::from_fn(move || {
            let (low, &state) = ports.next()?;
            let mut high = low;
            let goes_on =
                |&(port, other): &(u16, &PortState)| *other == state && usize::from(port) % row != 0;
            while let Some((port, _)) = ports.next_if(goes_on) {
                high = port;
            }
            Some(Run { low, high, state })
        })
    }
}

impl Default for PortMap {
    fn default() -> Self {
        Self { states: vec![PortState::Outside; PORTS] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pool_is_free_until_ports_are_taken() {
        let mut map = PortMap::new(Some(&Ranges::whole(&[(2_048, 16_383)])), None);
        map.set(2_050, PortState::TimeWait);
        map.set(70, PortState::Live);
        assert_eq!(
            [PortState::Free, PortState::TimeWait, PortState::Live].map(|state| map.count(state)),
            [14_335, 1, 1]
        );
        let runs: Vec<_> = map.runs(PORTS).collect();
        let run = |low, high, state| Run { low, high, state };
        assert_eq!(
            runs,
            [
                run(0, 69, PortState::Outside),
                run(70, 70, PortState::Live),
                run(71, 2_047, PortState::Outside),
                run(2_048, 2_049, PortState::Free),
                run(2_050, 2_050, PortState::TimeWait),
                run(2_051, 16_383, PortState::Free),
                run(16_384, 65_535, PortState::Outside),
            ]
        );
    }

    #[test]
    fn what_other_servers_get_is_of_the_pool_and_not_taken_here() {
        let elsewhere: Ports = [100, 2_048, 2_049, 2_050].into_iter().collect();
        let mut map = PortMap::new(Some(&Ranges::whole(&[(2_048, 2_111)])), Some(&elsewhere));
        map.set(2_050, PortState::TimeWait);
        assert_eq!(
            PortState::ALL.map(|state| map.count(state)),
            [65_536 - 64, 2, 61, 0, 1, 0],
            "100 is not of the pool, and what is taken here did come here"
        );
    }

    proptest! {
        #[test]
        fn runs_cover_every_port_once(taken in prop::collection::vec((any::<u16>(), 0..PortState::ALL.len()), 0..200)) {
            let mut map = PortMap::default();
            for (port, state) in taken {
                map.set(port, PortState::ALL[state]);
            }
            let mut next = 0_u32;
            for Run { low, high, state } in map.runs(256) {
                prop_assert_eq!(u32::from(low), next);
                prop_assert!(low / 256 == high / 256);
                prop_assert!((low..=high).all(|port| map.states[usize::from(port)] == state));
                next = u32::from(high) + 1;
            }
            prop_assert_eq!(next, 65_536);
        }
    }
}
