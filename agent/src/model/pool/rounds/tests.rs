//! Recordings of the SYNs that reached the first of three servers, and simulated NATs.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::*;
use crate::model::pool::{kept::TimeWaits, recordings};

const LOW: u16 = 2_048;
const SIZE: u16 = 4_096;

/// SYNs that reached this server: when, in seconds, and the source port.
type Syns = Vec<(f64, u16)>;

fn recording(packed: &[u8]) -> Syns {
    recordings::syns(packed).into_iter().map(|(seconds, port, _)| (seconds, port)).collect()
}

/// What is told at the end of each second.
fn told(syns: &Syns) -> Vec<Option<Turn>> {
    let mut rounds = Rounds::new(&Ranges::whole(&[(LOW, LOW + SIZE - 1)]));
    let second = |syn: &(f64, u16)| Duration::from_secs_f64(syn.0).as_secs();
    let seconds = syns.chunk_by(|one, next| second(one) == second(next));
    seconds
        .map(|syns| {
            // As the agent, which looks once the second is over.
            let now = Duration::from_secs(second(&syns[0]) + 1);
            rounds.observe(now, syns.iter().map(|&(_, port)| port));
            rounds.turn(now, 60.0, &Kept::default(), 50.0)
        })
        .collect()
}

/// When each SYN came whose port had been used here within the last minute, repeated SYNs left out: those that met a TIME_WAIT.
fn met(syns: &Syns) -> Vec<f64> {
    let mut last = HashMap::new();
    let mut met = Vec::new();
    for &(now, port) in syns {
        match last.insert(port, now) {
            // A repeated SYN comes 1, 3, 7 s after the first one; nobody has gone round so soon.
            Some(before) if now - before <= 8.0 => drop(last.insert(port, before)),
            Some(before) if now - before < 60.0 => met.push(now),
            _ => {}
        }
    }
    met
}

fn is_about(value: f64, right: f64) -> bool {
    (value - right).abs() <= 0.05 * right
}

/// Holds what is told against what the three recordings have in common.
fn hold(name: &str, told: &[Option<Turn>]) {
    for (second, turn) in told.iter().enumerate().skip(20) {
        let Turn { rate, .. } = turn.as_ref().unwrap_or_else(|| panic!("{name}: in turn in second {second}"));
        let right = if second < 130 { 40.0 } else { 150.0 };
        // The second in which the step is.
        // The step is within second 130; and once SYNs are refused, the NAT skips the ports of those that are repeated.
        let is_open = second == 130 || second >= 146;
        assert!(is_open || is_about(*rate, right), "{name}: {rate} in second {second}");
    }
}

#[test]
fn behind_a_hash_every_port_comes_back_and_the_first_refusal_is_foretold_to_the_second() {
    let syns = recording(recordings::HASH);
    let (told, first) = (told(&syns), met(&syns)[0]);
    hold("hash", &told);
    assert!((145.0..146.0).contains(&first), "15 s after the step by the recording itself: {first}");
    for (second, turn) in told.iter().enumerate().take(145).skip(131) {
        let Turn { refusal_seconds, refused_share, returning, .. } = turn.as_ref().expect("in turn");
        assert!(
            (second as f64 + 1.0 + refusal_seconds - first).abs() <= 1.0,
            "{refusal_seconds} in second {second}"
        );
        assert!(*refused_share > 0.95 && returning.as_ref().is_some_and(|shares| shares[0] > 0.95));
    }
    assert!(
        told[..130].iter().flatten().all(|turn| turn.refusal_seconds.is_infinite()),
        "no alarm before the step"
    );
    assert!(told[145..].iter().flatten().all(|turn| turn.refusal_seconds < 1.0), "while they are refused");
}

#[test]
fn behind_chance_a_third_comes_back_and_a_third_is_refused() {
    let syns = recording(recordings::RANDOM);
    let (told, met) = (told(&syns), met(&syns));
    hold("random", &told);
    let first = met[0];
    assert!((145.0..146.0).contains(&first), "15 s after the step by the recording itself: {first}");
    for (second, turn) in told.iter().enumerate().take(145).skip(131) {
        let Turn { refusal_seconds, refused_share, .. } = turn.as_ref().expect("in turn");
        assert!(
            (second as f64 + 1.0 + refusal_seconds - first).abs() <= 1.0,
            "{refusal_seconds} in second {second}"
        );
        assert!(*refused_share > 0.28 && *refused_share < 0.4, "{refused_share} in second {second}");
    }
}

#[test]
fn behind_round_robin_no_port_comes_back_in_time_and_nothing_is_foretold() {
    let syns = recording(recordings::TURN);
    let told = told(&syns);
    hold("turn", &told);
    assert_eq!(met(&syns), [] as [f64; 0], "by the recording itself");
    for turn in told.iter().flatten() {
        assert!(turn.refusal_seconds.is_infinite() && turn.refused_share.abs() < 0.01, "{turn:?}");
    }
}

/// What is told at the end of each of 300 seconds of a simulated NAT, which gives the ports of each.
fn simulated(mut ports: impl FnMut(u64) -> Vec<u16>) -> Vec<Option<Turn>> {
    let syns = (0..300).flat_map(|second| {
        let ports = ports(second);
        assert!(!ports.is_empty(), "every second has some");
        ports.into_iter().map(move |port| (second as f64, LOW + port))
    });
    told(&syns.collect())
}

/// The ports of a second, 60 in all, in turn from `stands` on, of which a third reach this server.
fn third(random: &mut fastrand::Rng, stands: &mut u16) -> Vec<u16> {
    let all: Vec<u16> = (*stands..*stands + 60).map(|port| port % SIZE).collect();
    *stands = (*stands + 60) % SIZE;
    all.into_iter().filter(|_| random.u32(..3) == 0).collect()
}

#[test]
fn ports_drawn_at_random_and_in_many_blocks_are_in_no_turn() {
    let mut random = fastrand::Rng::with_seed(1);
    for count in [1_u16, 3, 4, 5, 20, 200] {
        let told = simulated(|_| (0..count).map(|_| random.u16(..SIZE)).collect());
        assert!(told.iter().all(Option::is_none), "{count} a second");
    }
    // A block of 256 for each of 16 cores, each of which hands out its own in turn.
    let mut stands = [0; 16];
    let told = simulated(|_| {
        let draw = |_| {
            let core = random.usize(..16);
            stands[core] = (stands[core] + 1) % 256;
            u16::try_from(core).expect("one of 16") * 256 + stands[core]
        };
        (0..20).map(draw).collect()
    });
    assert!(told.iter().all(Option::is_none));
}

#[test]
fn two_pointers_are_no_turn() {
    let mut stands = 0;
    let told = simulated(|_| {
        stands = (stands + 15) % SIZE;
        (stands..stands + 15).flat_map(|port| [port % SIZE, (port + SIZE / 2) % SIZE]).collect()
    });
    assert!(told.iter().all(Option::is_none));
}

#[test]
fn jitter_losses_and_repeated_syns_do_not_matter() {
    let mut random = fastrand::Rng::with_seed(2);
    let (mut stands, mut late) = (0, Vec::new());
    let mut repeated: VecDeque<Vec<u16>> = (0..8).map(|_| Vec::new()).collect();
    let told = simulated(|_| {
        let mut ports = third(&mut random, &mut stands);
        // A tenth is lost, a tenth comes in the next second only, a tenth is sent again after 1, 3 and 7 s.
        ports.retain(|_| random.u32(..10) > 0);
        let in_time = ports.iter().copied().filter(|_| random.u32(..10) > 0).collect::<Vec<_>>();
        let mut now = std::mem::replace(
            &mut late,
            ports.iter().copied().filter(|port| !in_time.contains(port)).collect(),
        );
        for port in in_time.iter().filter(|_| random.u32(..10) == 0) {
            for seconds in [1, 3, 7] {
                repeated[seconds].push(*port);
            }
        }
        now.extend(in_time);
        now.extend(repeated.pop_front().unwrap_or_default());
        repeated.push_back(Vec::new());
        now
    });
    for (second, turn) in told.iter().enumerate().skip(30) {
        let turn = turn.as_ref().unwrap_or_else(|| panic!("in turn in second {second}"));
        assert!((turn.rate - 60.0).abs() < 6.0, "{turn:?} in second {second}");
    }
    let shares = told[299].as_ref().and_then(|turn| turn.returning.as_ref()).expect("after four rounds");
    assert!((shares[0] - 0.33).abs() < 0.1 && (shares[1] - 0.22).abs() < 0.1, "{shares:?}");
}

/// Of a hundred NATs that go from 12 connections a second to 48, a third of them here.
#[test]
fn what_was_before_a_step_is_out_of_the_speed_soon() {
    const SIZE: u16 = 1_024;
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); 8];
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rounds = Rounds::new(&Ranges::whole(&[(LOW, LOW + SIZE - 1)]));
        let mut stands = 0;
        for second in 0..68_u8 {
            let before = stands;
            stands += if second < 60 { 12 } else { 48 };
            let ports = (before..stands).filter(|_| random.u8(..3) == 0).map(|number| LOW + number % SIZE);
            let now = Duration::from_secs(u64::from(second) + 1);
            rounds.observe(now, ports.collect::<Vec<_>>());
            if second >= 60 {
                let turn = rounds.turn(now, 60.0, &Kept::default(), 50.0).expect("in turn");
                rates[usize::from(second - 60)].push(turn.rate);
            }
        }
    }
    let within = |after: usize, part: f64| {
        rates[after - 1].iter().filter(|&&rate| (rate - 48.0).abs() <= part * 48.0).count()
    };
    // Three seconds after it nine of ten are about right, and a second later all are.
    assert!(within(3, 0.1) >= 90 && within(4, 0.1) == 100, "{rates:?}");
    assert!((5..=8).all(|after| within(after, 0.05) >= 97), "{rates:?}");
}

/// A host that keeps 600 TIME_WAITs, where a round of 150 connections a second takes 27 s. A SYN that meets one begins its minute anew, as each
/// does whose timestamp is too old.
#[test]
fn at_the_limit_the_ports_whose_time_wait_was_kept_are_foretold_and_no_others() {
    const LIMIT: usize = 600;
    let mut rounds = Rounds::new(&Ranges::whole(&[(LOW, LOW + SIZE - 1)]));
    let mut kept = Kept::default();
    let mut time_waits: HashMap<u16, f64> = HashMap::new();
    let (mut stands, mut made, mut overflows) = (0_u32, 0, 0);
    let (mut met, mut told) = (Vec::new(), Vec::new());
    for second in 0..200_u32 {
        let mut ports = Vec::new();
        for syn in 0..150_u32 {
            let now = f64::from(second) + f64::from(syn) / 150.0;
            let port = LOW + u16::try_from(stands % u32::from(SIZE)).expect("below the size");
            stands += 1;
            ports.push(port);
            time_waits.retain(|_, end| *end > now);
            if let Some(end) = time_waits.get_mut(&port) {
                *end = now + 60.0;
                met.push((now, port));
            } else if time_waits.len() < LIMIT {
                time_waits.insert(port, now + 60.0);
                made += 1;
            } else {
                overflows += 1;
            }
        }
        let now = Duration::from_secs(u64::from(second) + 1);
        kept.observe(now, TimeWaits { left: (LIMIT - time_waits.len()) as f64, made, overflows });
        rounds.observe(now, ports);
        told.push(rounds.turn(now, 60.0, &kept, 150.0));
    }
    let mut foretold = HashSet::new();
    for (turn, second) in told[70..165].iter().zip(71_u32..) {
        let turn = turn.as_ref().expect("in turn");
        let due = f64::from(second) + turn.refusal_seconds;
        let first = met.iter().find(|(at, _)| (at - due).abs() <= 1.5);
        let (_, first) = *first.unwrap_or_else(|| panic!("none meets one at {due}, in second {second}"));
        let (from, to) = turn.next_met.expect("the host is at its limit");
        // Such a run takes 4 s, and of each second it is known whether TIME_WAITs were kept.
        let mut run = met.iter().filter(|(at, _)| (due - 1.5..due + 6.0).contains(at)).map(|&(_, port)| port);
        let last = run.next_back().expect("the first at least");
        if turn.refusal_seconds > 5.0 {
            assert!(
                from.abs_diff(first) <= 160 && to.abs_diff(last) <= 160,
                "{from} to {to}: {first} to {last}"
            );
            foretold.insert(first);
        }
    }
    assert!(!foretold.is_empty(), "ahead of it");
}

#[test]
fn a_pointer_that_jumps_makes_no_alarm_and_is_followed_again() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut stands = 0;
    let told = simulated(|second| {
        if second == 150 {
            stands += 1_500;
        }
        third(&mut random, &mut stands)
    });
    // 60 a second go round once in 68 s, later than a TIME_WAIT ends.
    assert!(told.iter().flatten().all(|turn| turn.refusal_seconds.is_infinite()));
    assert!(told[200..].iter().flatten().count() == 100);
    assert!(told[160..].iter().flatten().all(|turn| is_about(turn.rate, 60.0)));
    assert!(
        told[151].as_ref().is_none_or(|turn| turn.returning.is_none()),
        "what it did before is unknown now"
    );
}

#[test]
fn ports_that_wait_are_none_of_a_pool_that_became_smaller() {
    let at = Duration::from_secs;
    let mut rounds = Rounds::new(&Ranges::whole(&[(1_000, 1_999)]));
    rounds.observe(at(1), 1_950..1_960);
    rounds.observe(at(2), [1_998, 1_999]);
    rounds.follow(&Ranges::whole(&[(1_000, 1_995)]));
    rounds.observe(at(3), [1_000, 1_001, 1_002, 1_003]);
    assert_eq!(rounds.ends.last().map(|(at, _)| at), Some(3.0), "and it goes on");
}
