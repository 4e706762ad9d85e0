//! SYNs of an account, which are counted in two places where the SYN watch is attached.

use probe_ebpf::account::Counters;

use super::{Direction, Events, Tells};

/// SYNs of an account as every output tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syns {
    /// Sent or received for the first time. Inbound, 0 where nobody watches them.
    pub first: u64,
    /// Repeated.
    pub repeated: u64,
}

/// As the kernel side counts them.
#[derive(Clone, Copy, Debug)]
pub struct SynCounts {
    /// Ours; of a peer, repeated on a pending request or into TIME_WAIT.
    met: Syns,
    /// Those that the SYN watch saw.
    watched: Syns,
}

impl From<&Counters> for SynCounts {
    fn from(counters: &Counters) -> Self {
        let &Counters { syns, syn_retries, watched_syns, watched_syn_retries, .. } = counters;
        Self {
            met: Syns { first: syns, repeated: syn_retries },
            watched: Syns { first: watched_syns, repeated: watched_syn_retries },
        }
    }
}

impl From<&Events> for SynCounts {
    fn from(events: &Events) -> Self {
        let &Events { syns, syn_retries, watched_syns, watched_syn_retries, .. } = events;
        Self {
            met: Syns { first: syns, repeated: syn_retries },
            watched: Syns { first: watched_syns, repeated: watched_syn_retries },
        }
    }
}

impl Tells {
    /// The SYNs to tell: the watch sees every one of a peer's, among them those that also met something of ours.
    #[must_use]
    pub fn syns(self, direction: Direction, counts: impl Into<SynCounts>) -> Syns {
        let SynCounts { met, watched } = counts.into();
        if direction == Direction::Inbound && self.syn_watch { watched } else { met }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    #[test]
    fn those_of_a_peer_are_the_watched_ones_and_no_sum_of_both() {
        let counters = Counters {
            syns: 7,
            syn_retries: 3,
            watched_syns: 50,
            watched_syn_retries: 9,
            ..Counters::zeroed()
        };
        let (watches, does_not) = (Tells { syn_watch: true, ..Tells::default() }, Tells::default());
        let told = |tells: Tells, direction| tells.syns(direction, &counters);
        let syns = |first, repeated| Syns { first, repeated };
        assert_eq!(told(watches, Direction::Inbound), syns(50, 9));
        assert_eq!(told(does_not, Direction::Inbound), syns(7, 3));
        assert_eq!(told(watches, Direction::Outbound), syns(7, 3));
    }
}
