//! Allocators as NATs, balancers and hosts have them, against what is inferred from their draws.

use std::time::Duration;

use proptest::prelude::*;

use super::{Inference, KNOWN};
use crate::model::pool::recordings;

/// A generator of random numbers that is the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }

    fn port(&mut self, low: u16, high: u16) -> u16 {
        low + u16::try_from(self.below(u64::from(high - low) + 1)).expect("below 65,536")
    }
}

/// Looks at the ports after every 50 of `draws` connections, five times a second.
fn observe(draws: usize, mut next: impl FnMut(usize) -> u16) -> Inference {
    let mut inference = Inference::new(Duration::ZERO);
    let mut recorded = Vec::new();
    for draw in 0..draws {
        recorded.push(next(draw));
        if draw % 50 == 49 {
            let now = Duration::from_millis(draw as u64 * 4);
            let _ = inference.observe(&recorded.drain(..).collect(), 50, now);
        }
    }
    inference
}

/// The share by which the inferred size differs from the real one.
fn error(inference: &Inference, size: u32) -> f64 {
    (f64::from(inference.ranges().len()) - f64::from(size)).abs() / f64::from(size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_uniform_pool_is_known_within_two_percent_after_a_thousand_connections(
        low in 1_u16..40_000, size in 200_u16..20_000, seed in 1_u64..u64::MAX
    ) {
        let high = low + size - 1;
        let mut random = Random(seed);
        let inference = observe(1_500, |_| random.port(low, high));
        prop_assert!(inference.confidence() >= 0.97, "{}", inference.confidence());
        prop_assert!(error(&inference, u32::from(size)) < 0.02, "{} of {low}-{high}", inference.ranges());
        prop_assert!(inference.ranges().as_slice().iter().all(|range| range.low >= low && range.high <= high));
    }

    #[test]
    fn a_pool_handed_out_in_turn_is_not_known_before_its_first_round_and_exact_after_it(
        low in 1_u16..40_000, size in 64_u16..16_384, begin in 0_usize..16_384
    ) {
        let port = |draw: usize| low + u16::try_from((begin + draw) % usize::from(size)).expect("below");
        if size >= 200 {
            let first = observe(usize::from(size) * 9 / 10 / 50 * 50, port);
            prop_assert!(first.confidence() < KNOWN, "{} after nine tenths", first.confidence());
        }
        let round = observe(usize::from(size) + 300, port);
        prop_assert!(round.confidence() >= KNOWN, "{}", round.confidence());
        prop_assert_eq!(round.ranges().to_string(), format!("{low}-{}", low + size - 1));
    }

    #[test]
    fn two_ranges_are_told_apart(seed in 1_u64..u64::MAX) {
        let mut random = Random(seed);
        let inference = observe(1_500, |_| {
            if random.below(2) == 0 { random.port(1_024, 3_071) } else { random.port(40_000, 44_095) }
        });
        prop_assert!(inference.ranges().len() > 5_900 && inference.ranges().len() <= 6_144, "{}", inference.ranges());
        prop_assert!(!inference.ranges().contains(20_000));
        prop_assert!(inference.confidence() >= 0.97, "{}", inference.confidence());
    }

    #[test]
    fn even_ports_alone_are_half_a_pool(seed in 1_u64..u64::MAX, odd in 0_u16..2) {
        let mut random = Random(seed);
        let inference = observe(1_500, |_| 2 * random.port(10_000, 12_999) + odd);
        prop_assert!(error(&inference, 3_000) < 0.02, "{}", inference.ranges());
        prop_assert!(inference.ranges().as_slice().iter().all(|range| range.step == 2));
    }

    #[test]
    fn nothing_is_claimed_of_a_handful(seed in 1_u64..u64::MAX, draws in 0_usize..100) {
        let mut random = Random(seed);
        let inference = observe(draws, |_| random.port(1_024, 65_535));
        prop_assert!(inference.confidence() < KNOWN);
    }

    #[test]
    fn what_was_seen_lies_in_the_ranges(ports in prop::collection::vec(1_u16.., 1..500)) {
        let inference = observe(ports.len() / 50 * 50, |draw| ports[draw]);
        for &port in ports.iter().take(ports.len() / 50 * 50) {
            prop_assert!(inference.ranges().contains(port));
        }
        prop_assert!(inference.confidence() >= 0.0 && inference.confidence() <= 1.0);
    }
}

#[test]
fn a_linux_client_takes_even_ports_and_goes_over_to_odd_ones() {
    // connect() prefers the parity of the first port of ip_local_port_range (net/ipv4/inet_hashtables.c __inet_hash_connect()).
    let mut random = Random(7);
    let even = observe(3_000, |_| 32_768 + 2 * u16::try_from(random.below(14_116)).expect("below"));
    assert!(error(&even, 14_116) < 0.01, "{}", even.ranges());
    let mut random = Random(7);
    let both = observe(4_000, |draw| match draw {
        0..3_000 => 32_768 + 2 * u16::try_from(random.below(14_116)).expect("below"),
        _ => random.port(32_768, 60_999),
    });
    assert!(error(&both, 28_232) < 0.01, "{}", both.ranges());
}

#[test]
fn a_block_of_512_is_exact_after_a_few_rounds() {
    let mut random = Random(42);
    let block = observe(5_000, |_| random.port(20_480, 20_991));
    assert_eq!(block.ranges().to_string(), "20480-20991");
    assert!(block.confidence() >= KNOWN);
    assert_eq!((block.seen(), block.bounds()), (512, Some((20_480, 20_991))));
}

#[test]
fn a_pool_that_moved_is_followed_once_the_windows_have_passed() {
    let mut random = Random(3);
    // 250 connections a second: three windows of five minutes after the move.
    let moved = observe(450_000, |draw| match draw {
        0..150_000 => random.port(1_024, 5_119),
        _ => random.port(30_000, 34_095),
    });
    assert_eq!(moved.ranges().to_string(), "30000-34095");
    assert!(moved.confidence() >= KNOWN);
}

#[test]
fn a_pool_that_is_known_stays_known_while_ports_at_its_edges_come_for_the_first_time() {
    let seconds = recordings::seconds(&recordings::syns(recordings::CHANCE));
    let mut inference = Inference::new(Duration::ZERO);
    let known: Vec<bool> = (1..)
        .zip(seconds)
        .map(|(second, syns)| {
            let recorded = syns.iter().map(|&(_, port, _)| port).collect();
            let _ = inference.observe(&recorded, syns.len() as u64, Duration::from_secs(second));
            inference.is_known()
        })
        .collect();
    let first = known.iter().position(|&known| known).expect("a thousand connections make it known");
    assert!(first < 30, "after {first} s");
    assert!(known[first..].iter().all(|&known| known), "{known:?}");
}
