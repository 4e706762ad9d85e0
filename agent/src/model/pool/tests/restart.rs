//! What is told of a peer behind a balancer after the agent was restarted, with the pool it knew, by recordings of the first of three servers.

use std::{collections::HashMap, time::Duration};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{ClosedBy, Counters},
    source_ports::{FILLED_IN, PortSet},
};

use super::{PoolFigures, Pools, Ranges, SavedPool, UNLIMITED, at, peer};
use crate::model::pool::recordings;

const LOW: u16 = 2_048;
const SIZE: u16 = 4_096;

/// Ports that were used here within the last minute, by when.
type Kept = HashMap<u16, f64>;

/// What is told in each second from a restart in this one on, and the ports that are taken then.
fn restarted(seconds: &[Vec<u16>], restart: usize) -> Vec<(PoolFigures, usize)> {
    let mut pools = Pools::new(1);
    let ranges = vec![(LOW, LOW + SIZE - 1, 1)];
    let pool = SavedPool {
        peer: peer().address(),
        port: 443,
        ranges,
        confidence: 1.0,
        accepts_reuse: false,
        confirmed: 0,
    };
    pools.restore(vec![pool], 1);
    let (mut kept, mut counters, mut told) = (Kept::new(), Counters::zeroed(), Vec::new());
    for (second, ports) in seconds.iter().enumerate() {
        let now = second as f64 + 1.0;
        kept.retain(|_, used| now - *used < 60.0);
        kept.extend(ports.iter().map(|&port| (port, now)));
        if second < restart {
            continue;
        }
        counters.connections += ports.len() as u64;
        counters.closes[ClosedBy::Local as usize] += ports.len() as u64;
        // A census fills in the ports of all sockets there are, so recording begins with them.
        let filled_in = if second == restart { 1 } else { FILLED_IN };
        let mut recorded = PortSet { filled_in, ..PortSet::zeroed() };
        let held = kept.keys().filter(|_| second == restart);
        for &port in ports.iter().chain(held) {
            recorded.insert(port);
        }
        let now = Duration::from_secs(second as u64 + 1);
        pools.read(now, &peer(), &counters, true);
        let _ = pools.choose(now, |_| true);
        pools.settle(now, &[at(1, u32::try_from(kept.len()).expect("4,096 at most"))]);
        for key in pools.due() {
            let _ = pools.observe(now, &key, &recorded, None);
        }
        let (_, figures) = pools.figures(now, UNLIMITED, |_| None).next().expect("it is recorded");
        told.push((figures, kept.len()));
    }
    told
}

/// The ports of each second of a recording.
fn recorded(packed: &[u8]) -> Vec<Vec<u16>> {
    let seconds = recordings::seconds(&recordings::syns(packed));
    seconds.into_iter().map(|syns| syns.into_iter().map(|(_, port, _)| port).collect()).collect()
}

/// Holds that nothing is forecast, nothing expected to be refused, and that the ports taken are of the whole pool.
fn is_calm(figures: &PoolFigures, taken: usize) {
    // Once it is known by what came since the restart, a few ports at its ends may be missing.
    assert!(figures.pool().is_some_and(|pool| (4_090..=4_096).contains(&pool.len())), "{figures:?}");
    assert_eq!(figures.reachable, figures.pool().map(Ranges::len), "{figures:?}");
    assert!((figures.load.used() - taken as f64).abs() <= 0.02 * f64::from(SIZE), "{taken}: {figures:?}");
    assert_eq!(figures.exhaustion_seconds, Some(f64::INFINITY), "{figures:?}");
    assert!(figures.expected_refused_ratio().is_none_or(|share| share < 0.01), "{figures:?}");
    assert_eq!((&figures.outgrown, &figures.circling, &figures.elsewhere), (&None, &None, &None));
    assert_eq!(figures.chance, None, "{figures:?}");
}

#[test]
fn ports_in_turn_are_not_taken_for_random_ones_after_a_restart_whatever_the_balancer_does() {
    for packed in [recordings::HASH, recordings::RANDOM, recordings::TURN] {
        let seconds = recorded(packed);
        for restart in [0, 20, 70, 110, 125] {
            for (figures, _) in restarted(&seconds, restart) {
                assert_eq!(figures.chance, None, "{figures:?}");
            }
        }
    }
}

#[test]
fn behind_round_robin_nothing_false_is_told_after_a_restart_and_the_rate_is_right_after_twelve_seconds() {
    let seconds = recorded(recordings::TURN);
    // Before the step, at it, and after it.
    for restart in [0, 20, 70, 125, 129, 130, 135, 150] {
        for (after, (figures, taken)) in (1..).zip(restarted(&seconds, restart)) {
            is_calm(&figures, taken);
            let second = restart + after;
            let right = if second <= 130 { 40.0 } else { 150.0 };
            // A step is seen within four seconds.
            let is_open = after <= 12 || (131..135).contains(&second);
            let rate = figures.turn.as_ref().map(|turn| turn.rate);
            assert!(
                is_open || rate.is_some_and(|rate| (rate - right).abs() <= 0.05 * right),
                "{rate:?}, {after} s after a restart in second {restart}"
            );
        }
    }
}

/// Behind three servers in turn: when it is known after a restart that none comes back after one and two rounds, and all after three.
#[test]
fn behind_round_robin_what_comes_back_is_known_again_after_a_round_for_each_number_of_rounds() {
    // 150 a second: a round takes 27.3 s.
    let mut next = 0_u32;
    let mut second = || {
        let from = next;
        next += 150;
        let port = |number: u32| LOW + u16::try_from(number % u32::from(SIZE)).expect("below it");
        (from..next).filter(|number| number % 3 == 0).map(port).collect::<Vec<_>>()
    };
    let seconds: Vec<Vec<u16>> = (0..260).map(|_| second()).collect();
    let told = restarted(&seconds, 100);
    for (figures, taken) in &told {
        is_calm(figures, *taken);
    }
    let known = |rounds: usize| {
        let shares = |figures: &PoolFigures| figures.turn.as_ref()?.returning.clone();
        let is_known = |(figures, _): &(PoolFigures, usize)| {
            shares(figures).is_some_and(|shares| shares.len() >= rounds)
        };
        let first = told.iter().position(is_known).expect("in time");
        let share = shares(&told[first].0).expect("known")[rounds - 1];
        assert!((share - f64::from(u8::from(rounds == 3))).abs() < 0.05, "{share} after {rounds} rounds");
        first + 1
    };
    let rounds = [1, 2, 3].map(known);
    for (number, after) in (1_u32..).zip(rounds) {
        // Ten seconds until it is seen that they are handed out in turn, and one for 30 ports.
        let round = f64::from(number) * f64::from(SIZE) / 150.0;
        assert!((round + 8.0..round + 14.0).contains(&(after as f64)), "{rounds:?}");
    }
}
