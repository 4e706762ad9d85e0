//! Which accounts have series of their own: the configured groups, and the heaviest of the rest.

use super::{peer::AccountId, recency::STAY};

/// A candidate for a place.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub id: AccountId,
    /// Sockets now plus recent connections.
    pub weight: f64,
    pub shown: bool,
}

/// Sorts the candidates so that the first `places` are those to show; equal weights go by id, for a stable choice.
pub(super) fn choose(candidates: &mut [Candidate], places: usize) {
    if candidates.len() <= places || places == 0 {
        return;
    }
    let effective = |c: &Candidate| if c.shown { c.weight * STAY } else { c.weight };
    candidates.select_nth_unstable_by(places - 1, |a, b| {
        effective(b)
            .total_cmp(&effective(a))
            .then_with(|| b.shown.cmp(&a.shown))
            .then_with(|| a.id.cmp(&b.id))
    });
}

#[cfg(test)]
mod tests {
    use super::{super::peer::*, Candidate, choose};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn candidate(port: u16, weight: f64, shown: bool) -> Candidate {
        let peer = Peer::Address([192, 0, 2, 1].into());
        Candidate { id: AccountId { peer, port, direction: Direction::Inbound }, weight, shown }
    }

    fn chosen(mut candidates: Vec<Candidate>, places: usize) -> BTreeSet<u16> {
        choose(&mut candidates, places);
        candidates.iter().take(places).map(|c| c.id.port).collect()
    }

    #[test]
    fn the_heaviest_are_shown() {
        let all = vec![candidate(1, 1.0, false), candidate(2, 9.0, false), candidate(3, 5.0, false)];
        assert_eq!(chosen(all, 2), BTreeSet::from([2, 3]));
    }

    #[test]
    fn a_newcomer_must_be_clearly_heavier() {
        let close = vec![candidate(1, 10.0, true), candidate(2, 12.0, false)];
        assert_eq!(chosen(close, 1), BTreeSet::from([1]));
        let clear = vec![candidate(1, 10.0, true), candidate(2, 13.0, false)];
        assert_eq!(chosen(clear, 1), BTreeSet::from([2]));
    }

    proptest! {
        #[test]
        fn no_hidden_one_outweighs_a_shown_one(weights in prop::collection::vec((0.0_f64..1e6, any::<bool>()), 1..60), places in 1_usize..20) {
            let mut all: Vec<_> = (0..).zip(&weights).map(|(port, &(weight, shown))| candidate(port, weight, shown)).collect();
            choose(&mut all, places);
            let effective = |c: &Candidate| if c.shown { c.weight * 1.25 } else { c.weight };
            let split = places.min(all.len());
            let least = all[..split].iter().map(effective).fold(f64::INFINITY, f64::min);
            prop_assert!(all[split..].iter().all(|c| effective(c) <= least));
        }
    }
}
