//! Against a recording, and against NATs that are played.

use std::collections::HashMap;

use super::*;
use crate::model::pool::{
    kept::{Kept, TimeWaits},
    recordings,
};

/// Gives the SYNs of each second to the agent as it gets them, and returns what it tells at the end of each. A SYN that comes within `repeats`
/// seconds after a refused one from the same port repeats it.
fn told(seconds: &[Vec<recordings::Syn>], repeats: f64) -> Vec<Option<Outgrown>> {
    look(seconds, repeats, Blocks::outgrown)
}

fn look<T>(seconds: &[Vec<recordings::Syn>], repeats: f64, tell: impl Fn(&Blocks, Duration) -> T) -> Vec<T> {
    let mut blocks = Blocks::default();
    let mut last: HashMap<u16, (f64, bool)> = HashMap::new();
    let look = |(second, syns): (u64, &Vec<recordings::Syn>)| {
        for &(at, port, is_refused) in syns {
            let before = last.insert(port, (at, is_refused));
            let is_repeated = before.is_some_and(|(before, refused)| refused && at - before < repeats);
            if is_refused || is_repeated {
                blocks.refuse(port, is_repeated);
            }
        }
        let came = syns.iter().map(|&(_, port, _)| port).collect();
        let now = Duration::from_secs(second);
        blocks.observe(now, &came, true);
        tell(&blocks, now)
    };
    (1..).zip(seconds).map(look).collect()
}

/// What is foretold where every TIME_WAIT is kept.
fn soonest(blocks: &Blocks, now: Duration) -> Option<Circling> {
    blocks.soonest(now, &Kept::default())
}

fn block(low: u16, size: u16) -> Vec<Range> {
    vec![Range { low, high: low + (size - 1), step: 1 }]
}

#[test]
fn the_recorded_block_is_named_within_ten_seconds_of_the_first_five_refused_syns_and_no_other() {
    let syns = recordings::syns(recordings::BLOCKS);
    let refused: Vec<f64> = syns.iter().filter(|&&(.., is_refused)| is_refused).map(|&(at, ..)| at).collect();
    // No port of the recording comes round so soon.
    let told = told(&recordings::seconds(&syns), 6.0);
    let named = told.iter().position(Option::is_some).expect("named");
    assert!(refused[0] < named as f64 && named as f64 + 1.0 <= refused[4] + 10.0, "named in second {named}");
    for outgrown in &told[named..] {
        let Outgrown { blocks, refused, all_refused, seconds } = outgrown.as_ref().expect("from then on");
        assert_eq!((blocks, refused, *seconds), (&block(1_216, 64), all_refused, 60));
    }
}

#[test]
fn the_recorded_machine_is_foretold_to_meet_its_own_time_waits_once_its_block_was_gone_round() {
    let syns = recordings::syns(recordings::BLOCKS);
    let first = syns.iter().find(|&&(.., is_refused)| is_refused).expect("one").0;
    assert!((429.0..430.5).contains(&first), "30 s after the step by the recording itself: {first}");
    let mut told = look(&recordings::seconds(&syns), 6.0, soonest);
    // Those that end before it.
    told.truncate(429);
    let named = told.iter().position(Option::is_some).expect("foretold");
    assert!(named >= 400, "the step is at 400 s");
    // By half of the SYNs after the step the rate is not known yet.
    for (second, told) in (1_u32..).zip(&told).skip(named + 1) {
        let Circling { block, refusal_seconds, .. } = told.as_ref().expect("from then on");
        assert_eq!((block.low, block.high), (1_216, 1_279));
        assert!((f64::from(second) + refusal_seconds - first).abs() <= 1.0, "in second {second}: {told:?}");
    }
    assert!(named as f64 + 2.0 <= first - 15.0, "foretold in second {named}");
}

/// A NAT whose next port, for each of its machines, is what a function of the machine and of how many ports it had says.
struct Nat {
    random: fastrand::Rng,
    ended: HashMap<u16, f64>,
    /// Of the SYNs that meet a TIME_WAIT, this share is refused.
    refused: f64,
    /// When it takes a port again that it gave out, in seconds.
    forgets: f64,
}

impl Nat {
    fn new(seed: u64, refused: f64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), ended: HashMap::new(), refused, forgets: 1.0 }
    }

    /// Two minutes of SYNs: `rates` are those of the machines.
    fn play(
        &mut self,
        rates: &[f64],
        mut port: impl FnMut(&mut fastrand::Rng, u16, u32) -> u16,
    ) -> Vec<Vec<recordings::Syn>> {
        let mut drawn = vec![0; rates.len()];
        let mut due = vec![0.0; rates.len()];
        let mut seconds = Vec::new();
        for second in 0..120_u32 {
            let mut syns = Vec::new();
            for (machine, rate) in (0_u16..).zip(rates) {
                let at = usize::from(machine);
                due[at] += rate * (0.5 + self.random.f64());
                while due[at] >= 1.0 {
                    due[at] -= 1.0;
                    let now = f64::from(second) + self.random.f64();
                    let (mut port_now, mut tries) = (port(&mut self.random, machine, drawn[at]), 0);
                    while self.ended.get(&port_now).is_some_and(|ended| now - ended < self.forgets)
                        && tries < 9
                    {
                        (drawn[at], tries) = (drawn[at] + 1, tries + 1);
                        port_now = port(&mut self.random, machine, drawn[at]);
                    }
                    drawn[at] += 1;
                    let meets = self.ended.get(&port_now).is_some_and(|ended| now - ended < 60.0);
                    let is_refused = meets && self.random.f64() < self.refused;
                    if !is_refused {
                        self.ended.insert(port_now, now);
                    }
                    syns.push((now, port_now, is_refused));
                }
            }
            syns.sort_by(|a, b| a.0.total_cmp(&b.0));
            seconds.push(syns);
        }
        seconds
    }
}

/// What is told in these two minutes, each block once.
fn named(seconds: &[Vec<recordings::Syn>]) -> Vec<Vec<Range>> {
    let mut named: Vec<_> =
        told(seconds, 0.0).into_iter().flatten().map(|outgrown| outgrown.blocks).collect();
    named.dedup();
    named
}

/// The blocks of which a refusal is foretold in these two minutes.
fn circling(seconds: &[Vec<recordings::Syn>]) -> Vec<Range> {
    let told = look(seconds, 0.0, soonest).into_iter().flatten();
    let mut blocks: Vec<Range> = told.map(|circling| circling.block).collect();
    blocks.dedup();
    blocks
}

/// Machine 5 of 16 has so many times the load of the others.
fn rates(one: f64, other: f64) -> Vec<f64> {
    (0..16).map(|machine| if machine == 5 { one } else { other }).collect()
}

#[test]
fn blocks_of_each_size_are_named_in_turn_and_at_random() {
    for size in [64, 256, 1_024, 2_048_u16] {
        let rate = f64::from(size) / 20.0;
        let low = |machine: u16| 2_048 + machine * size;
        let last = |number: u32| u16::try_from(number % u32::from(size)).expect("below the size");
        let in_turn = Nat::new(1, 1.0)
            .play(&rates(rate, rate / 30.0), |_, machine, number| low(machine) + last(number));
        assert_eq!(named(&in_turn), [block(low(5), size)], "{size} in turn");
        // The largest is that of a peer with more SYNs than are kept for a minute.
        let foretold = if size < 2_048 { block(low(5), size) } else { Vec::new() };
        assert_eq!(circling(&in_turn), foretold, "{size} in turn");
        let at_random = Nat::new(1, 1.0)
            .play(&rates(rate, rate / 30.0), |random, machine, _| low(machine) + random.u16(..size));
        assert_eq!(named(&at_random), [block(low(5), size)], "{size} at random");
        assert_eq!(circling(&at_random), [], "{size} at random");
    }
}

#[test]
fn of_a_busier_peer_it_is_told_how_many_seconds_were_looked_at() {
    let last = |number: u32| u16::try_from(number % 1_024).expect("below 1,024");
    let busy = Nat::new(1, 1.0)
        .play(&rates(100.0, 10.0), |_, machine, number| 2_048 + machine * 1_024 + last(number));
    let told = told(&busy, 0.0);
    let seconds = told[110].as_ref().expect("named").seconds;
    let mut syns = 0;
    let last = busy[..=110].iter().rev().take_while(|second| {
        syns += second.len();
        syns <= KEPT
    });
    assert_eq!(seconds as usize, last.count());
    assert!(seconds < 40, "{seconds} s");
}

#[test]
fn more_syns_at_once_than_are_kept_are_counted() {
    let mut blocks = Blocks::default();
    let most = u16::try_from(KEPT).expect("few");
    let mut unsearched = |second, ports: u16, refused: u16| {
        (0..refused).for_each(|port| blocks.refuse(port, false));
        blocks.observe(Duration::from_secs(second), &(0..ports).collect(), true);
        (blocks.take_unsearched(), blocks.take_unsearched())
    };
    assert_eq!(unsearched(1, most, most), (0, 0));
    assert_eq!(unsearched(2, 5, 5), (0, 0), "the second before was searched");
    assert_eq!(unsearched(3, most + 5, 1), (u64::from(most) + 5, 0), "no part of a second is");
    assert_eq!(unsearched(4, most + 5, 0), (0, 0), "nothing to search for");
}

#[test]
fn a_machine_whose_time_waits_are_not_kept_is_foretold_to_meet_none() {
    let turn = |number: u32| 2_048 + u16::try_from(number % 64).expect("below 64");
    let mut blocks = Blocks::default();
    let (mut kept, mut met) = (Kept::default(), Vec::new());
    for second in 0..200_u32 {
        let now = Duration::from_secs(u64::from(second));
        blocks.observe(now, &(2 * second..2 * second + 2).map(turn).collect(), true);
        // Those of the seconds 100 to 109 and no others.
        let made = u64::from(second.clamp(99, 109) - 99) * 2;
        kept.observe(now, TimeWaits { left: 0.0, made, overflows: u64::from(second) * 2 - made });
        met.push(blocks.soonest(now, &kept).map(|circling| f64::from(second) + circling.refusal_seconds));
    }
    // Each comes again after 32 s.
    let told = |second: usize| met[second].map(f64::round);
    assert_eq!([99, 105, 125, 131].map(told), [None, Some(132.0), Some(132.0), Some(132.0)]);
    assert_eq!(told(150), None, "those were met");
}

#[test]
fn two_machines_that_have_outgrown_their_blocks_are_named_both() {
    let rates: Vec<f64> = (0..16).map(|machine| if matches!(machine, 5 | 9) { 4.0 } else { 0.3 }).collect();
    let seconds = Nat::new(1, 1.0).play(&rates, |random, machine, _| 2_048 + machine * 64 + random.u16(..64));
    let last = told(&seconds, 0.0).pop().flatten().expect("named");
    assert_eq!(last.blocks, [block(2_048 + 5 * 64, 64), block(2_048 + 9 * 64, 64)].concat());
}

#[test]
fn a_neighbour_that_uses_all_of_its_ports_as_well_does_not_make_the_block_larger() {
    // It goes round in 45 s and is refused, too, but is slower.
    let rates: Vec<f64> = [4.0, 1.4].into_iter().chain([0.1; 14]).collect();
    let seconds = Nat::new(1, 1.0).play(&rates, |_, machine, number| {
        2_048 + machine * 64 + u16::try_from(number % 64).expect("below 64")
    });
    for blocks in named(&seconds) {
        assert!(blocks.iter().all(|range| range.high - range.low == 63), "{blocks:?}");
    }
}

#[test]
fn pools_without_blocks_have_none_named() {
    let all = [10.0; 4];
    for seed in 0..4 {
        for refused in [0.3, 1.0] {
            let random = Nat::new(seed, refused).play(&all, |random, _, _| 32_768 + random.u16(..2_048));
            assert_eq!(named(&random), [] as [Vec<Range>; 0], "at random, seed {seed}");
            assert_eq!(circling(&random), [], "at random, seed {seed}");
            // As Linux clients behind a NAT that keeps their ports: each goes up in steps of two, and one follows the other.
            let ahead = 200 + 97 * u16::try_from(seed).expect("small");
            let kept = Nat::new(seed, refused).play(&[8.0, 12.0], |_, machine, number| {
                33_000 + ahead * (1 - machine) + u16::try_from(number * 2).expect("a few thousand")
            });
            assert_eq!(named(&kept), [] as [Vec<Range>; 0], "kept, seed {seed}");
            assert_eq!(circling(&kept), [], "kept, seed {seed}");
            // One pool, handed out in turn to all of them.
            let mut next = 0;
            let whole = Nat::new(seed, refused).play(&all, |_, _, _| {
                next = (next + 1) % 1_000;
                2_600 + next
            });
            assert_eq!(named(&whole), [] as [Vec<Range>; 0], "in turn as a whole, seed {seed}");
            assert_eq!(circling(&whole), [], "in turn as a whole, seed {seed}");
            // One machine alone behind the address.
            let alone = Nat::new(seed, refused)
                .play(&[4.0], |_, _, number| 2_048 + u16::try_from(number % 64).expect("below 64"));
            assert_eq!(named(&alone), [] as [Vec<Range>; 0], "alone, seed {seed}");
        }
    }
}

#[test]
fn the_bound_on_chance_is_no_less_than_chance() {
    // Exactly, by counting: of 40 SYNs 10 come from the block, 8 are refused, all of them in the block: C(10,8) / C(40,8).
    assert!(by_chance(8, 8, 0.25) >= 45.0 / 76_904_685.0);
    // Six or more of eight: (C(10,6) C(30,2) + C(10,7) C(30,1) + C(10,8)) / C(40,8).
    assert!(by_chance(6, 8, 0.25) >= (210.0 * 435.0 + 120.0 * 30.0 + 45.0) / 76_904_685.0);
    assert!(by_chance(2, 8, 0.25) >= 1.0 && by_chance(8, 8, 1.0) >= 1.0, "as many as are to be expected");
    assert!(by_chance(8, 8, 0.25) < 2e-5, "0.25 to the power of 8");
}
