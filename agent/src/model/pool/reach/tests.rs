//! Recordings of the SYNs that reached one server, and simulated NATs behind simulated balancers.

use std::collections::HashSet;

use super::*;
use crate::model::pool::{inference::Inference, recordings};

const LOW: u16 = 2_048;
const SIZE: u16 = 4_096;

/// What is told of ports that came, as the agent takes them: second by second.
struct Server {
    arrivals: Arrivals,
    inference: Inference,
    second: u64,
    is_in_turn: bool,
}

impl Server {
    fn new(is_in_turn: bool) -> Self {
        Self {
            arrivals: Arrivals::new(),
            inference: Inference::new(std::time::Duration::ZERO),
            second: 0,
            is_in_turn,
        }
    }

    /// A second in which these ports came.
    fn second(&mut self, came: &[u16]) -> Reach {
        self.second += 1;
        let set = came.iter().copied().collect();
        self.arrivals.observe(&set, self.inference.ranges(), self.is_in_turn);
        let now = std::time::Duration::from_secs(self.second);
        let _ = self.inference.observe(&set, came.len() as u64, now);
        self.arrivals.reach(self.inference.ranges())
    }

    fn gaps(&self) -> Gaps {
        self.arrivals.gaps(self.inference.ranges())
    }

    /// The ports that reach other servers, once it is known which part comes here.
    fn elsewhere(&self) -> Option<Vec<u16>> {
        let is_part = matches!(self.arrivals.reach(self.inference.ranges()), Reach::Part(_));
        is_part.then(|| self.arrivals.elsewhere(&Ranges::whole(&[(LOW, LOW + SIZE - 1)])).iter().collect())
    }
}

/// The ports of each second.
fn seconds(packed: &[u8]) -> Vec<Vec<u16>> {
    let seconds = recordings::seconds(&recordings::syns(packed));
    seconds.into_iter().map(|syns| syns.into_iter().map(|(_, port, _)| port).collect()).collect()
}

/// What is told at the end of each second of a recording.
fn told(packed: &[u8], is_in_turn: bool) -> (Vec<Reach>, Server) {
    let mut server = Server::new(is_in_turn);
    let told = seconds(packed).iter().map(|ports| server.second(ports)).collect();
    (told, server)
}

#[test]
fn behind_a_hash_the_ports_that_come_are_known_early_in_the_second_round() {
    let packed = recordings::HASH;
    let mut all: Vec<u16> = seconds(packed).concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 1_372, "by the recording itself");
    let (told, server) = told(packed, true);
    // A round takes 102 s.
    for (second, told) in told.iter().enumerate().skip(116) {
        let Reach::Part(ports) = told else { panic!("{told:?} in second {second}") };
        assert!((1_365..=1_415).contains(ports), "{ports} in second {second}");
    }
    assert_eq!(told.last(), Some(&Reach::Part(1_372)));
    assert_eq!(server.gaps(), Gaps::ByChance);
}

#[test]
fn behind_chance_and_round_robin_all_ports_can_come() {
    for packed in [recordings::RANDOM, recordings::TURN] {
        let (told, _) = told(packed, true);
        assert!(told.iter().all(|told| matches!(told, Reach::All { .. })), "{told:?}");
    }
}

#[test]
fn a_lone_server_is_never_said_to_get_a_part() {
    // Drawn at random, and sixteen blocks of which one is used ten times as much as each of the others.
    for packed in [recordings::CHANCE, recordings::BLOCKS] {
        let (told, _) = told(packed, false);
        assert!(told.iter().all(|told| !matches!(told, Reach::Part(_))), "{told:?}");
    }
}

#[test]
fn a_lone_server_gets_all_of_a_pool_however_it_is_handed_out() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut stands = 0;
    let mut in_turn = || {
        stands = (stands + 40) % SIZE;
        (stands..stands + 40).map(|port| LOW + port % SIZE).collect::<Vec<_>>()
    };
    let mut server = Server::new(true);
    for second in 0..400 {
        let told = server.second(&in_turn());
        assert!(matches!(told, Reach::All { .. }), "{told:?} in second {second}");
        assert!(second < 110 || told == Reach::All { seen: true }, "{told:?} in second {second}");
    }
    for rate in [5, 40, 200] {
        let mut server = Server::new(false);
        for second in 0..400 {
            let ports: Vec<u16> = (0..rate).map(|_| LOW + random.u16(..SIZE)).collect();
            let told = server.second(&ports);
            assert!(matches!(told, Reach::All { .. }), "{told:?} in second {second} of {rate}/s");
        }
    }
}

/// A peer that draws 40 ports a second at random or in turn, behind a hash: one of `servers` gets those whose hash is the first of them.
/// Consistent, as maglev: a server that joins takes ports of the others, and what is left stays.
struct Hashed {
    random: fastrand::Rng,
    order: Vec<u32>,
    stands: u16,
    is_in_turn: bool,
}

impl Hashed {
    fn new(is_in_turn: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(2);
        let order = (0..SIZE).map(|_| random.u32(..1_200)).collect();
        Self { random, order, stands: 0, is_in_turn }
    }

    fn comes(&self, port: u16, servers: u32) -> bool {
        self.order[usize::from(port)] < 1_200 / servers
    }

    /// How many ports come to one of so many servers.
    fn count(&self, servers: u32) -> u32 {
        (0..SIZE).filter(|&port| self.comes(port, servers)).map(|_| 1).sum()
    }

    fn second(&mut self, servers: u32) -> Vec<u16> {
        let drawn: Vec<u16> = (0..40)
            .map(|_| {
                self.stands =
                    if self.is_in_turn { (self.stands + 1) % SIZE } else { self.random.u16(..SIZE) };
                self.stands
            })
            .collect();
        drawn.into_iter().filter(|&port| self.comes(port, servers)).map(|port| LOW + port).collect()
    }
}

#[test]
fn a_server_more_or_less_in_the_fleet_is_learned_within_two_rounds() {
    // 40 a second go round once in 102 s.
    const ROUND: usize = 103;
    for (before, after) in [(3, 4), (3, 2), (3, 1)] {
        let mut nat = Hashed::new(true);
        let mut server = Server::new(true);
        (0..4 * ROUND).for_each(|_| _ = server.second(&nat.second(before)));
        assert_eq!(server.second(&nat.second(before)), Reach::Part(nat.count(before)));
        let told: Vec<Reach> = (0..4 * ROUND).map(|_| server.second(&nat.second(after))).collect();
        let is_right = |told: &Reach| match told {
            Reach::Part(ports) => ports.abs_diff(nat.count(after)) * 50 <= nat.count(after),
            Reach::All { .. } => after == 1,
            Reach::Learning => false,
        };
        let wrong = told.iter().rposition(|told| !is_right(told)).expect("at first it is");
        assert!(wrong < 2 * ROUND, "{before} to {after}: wrong {wrong} s later, {:?}", told[wrong]);
        let learning = told.iter().filter(|&&told| told == Reach::Learning).count();
        assert!(learning > 10, "{before} to {after}: it is said that it is being learned ({learning} s)");
    }
}

#[test]
fn ports_drawn_at_random_behind_a_hash_are_known_once_hardly_one_is_new() {
    let mut nat = Hashed::new(false);
    let right = f64::from(nat.count(3));
    let mut server = Server::new(false);
    let told: Vec<Reach> = (0..900).map(|_| server.second(&nat.second(3))).collect();
    let known: Vec<f64> = told
        .iter()
        .filter_map(|told| if let Reach::Part(ports) = told { Some(f64::from(*ports)) } else { None })
        .collect();
    assert!(known.len() > 500, "{told:?}");
    let (least, most) =
        known.iter().fold((f64::MAX, 0.0_f64), |(least, most), &known| (least.min(known), most.max(known)));
    assert!(least > 0.94 * right && most < 1.06 * right, "{least} to {most} of {right}");
    assert_eq!(server.gaps(), Gaps::ByChance);
}

#[test]
fn every_third_port_is_a_step_of_the_peer_or_of_the_balancer_and_no_hash() {
    let mut server = Server::new(true);
    let mut stands = 0;
    for _ in 0..300 {
        let ports: Vec<u16> = (0..13)
            .map(|_| {
                stands = (stands + 3) % 3_000;
                LOW + stands
            })
            .collect();
        let _ = server.second(&ports);
    }
    assert_eq!(server.second(&[LOW]), Reach::Part(1_000));
    assert_eq!(server.gaps(), Gaps::Regular);
}

#[test]
fn whether_ports_are_drawn_by_chance_is_seen_from_those_that_follow_each_other() {
    let (_, chance) = told(recordings::CHANCE, false);
    assert!(chance.arrivals.is_by_chance());
    // Each of sixteen machines goes round in its own block.
    let (_, blocks) = told(recordings::BLOCKS, false);
    assert!(!blocks.arrivals.is_by_chance());
    let (_, turn) = told(recordings::HASH, true);
    assert!(!turn.arrivals.is_by_chance());
}

#[test]
fn behind_a_hash_the_ports_of_other_servers_are_known_after_a_round_and_behind_the_others_none() {
    let hash = seconds(recordings::HASH);
    let mut server = Server::new(true);
    let told: Vec<Option<Vec<u16>>> = hash
        .iter()
        .map(|ports| {
            let _ = server.second(ports);
            server.elsewhere()
        })
        .collect();
    let first = told.iter().position(Option::is_some).expect("it is known");
    // 4,096 ports at 40 a second.
    assert!(
        (103..=116).contains(&first),
        "known in second {first}, once a round is over and an eighth of another"
    );
    let came: HashSet<u16> = hash.concat().into_iter().collect();
    for (second, ports) in told.iter().enumerate().skip(first) {
        let ports = ports.as_ref().unwrap_or_else(|| panic!("still known in second {second}"));
        let wrong = ports.iter().filter(|port| came.contains(port)).count();
        assert!(
            wrong * 100 <= came.len(),
            "{wrong} of {} ports in second {second} do come here",
            ports.len()
        );
        assert!(ports.len() + came.len() >= usize::from(SIZE), "in second {second}");
    }
    let right: Vec<u16> = (LOW..LOW + SIZE).filter(|port| !came.contains(port)).collect();
    assert_eq!(told.last(), Some(&Some(right)), "in the end");
    for packed in [recordings::RANDOM, recordings::TURN] {
        let mut server = Server::new(true);
        for (second, ports) in seconds(packed).iter().enumerate() {
            let _ = server.second(ports);
            assert_eq!(server.elsewhere(), None, "in second {second} any port may come here");
        }
    }
}

#[test]
fn a_server_that_joins_or_leaves_moves_the_ports_that_come_here_within_two_rounds() {
    let three = |port: u16| port.is_multiple_of(3);
    let four = |port: u16| port.is_multiple_of(3) && !port.is_multiple_of(4);
    let changes: [[&dyn Fn(u16) -> bool; 2]; 2] = [[&three, &four], [&four, &three]];
    for [before, after] in changes {
        let comes_here = |second, port| if second < 150 { before(port) } else { after(port) };
        let mut server = Server::new(true);
        let mut stands = 0;
        // Once round in 34 s.
        for second in 0..300 {
            let all: Vec<u16> = (stands..stands + 120).map(|port| port % SIZE).collect();
            stands = (stands + 120) % SIZE;
            let here = all.into_iter().filter(|&port| comes_here(second, port)).map(|port| LOW + port);
            let _ = server.second(&here.collect::<Vec<_>>());
            let ports = server.elsewhere();
            if second == 149 || second == 299 {
                let right = (0..SIZE).filter(|&port| !comes_here(second, port)).map(|port| LOW + port);
                assert_eq!(ports, Some(right.collect()), "in second {second}");
            }
            // Nothing that comes here is said to go elsewhere for longer than it takes to see it.
            if second >= 150 + 2 * 35 + 5 {
                let is_wrong = |port: &u16| comes_here(second, port - LOW);
                assert!(!ports.unwrap_or_default().iter().any(is_wrong), "in second {second}");
            }
        }
    }
}

#[test]
fn a_port_that_is_passed_over_once_still_comes_here() {
    // Every port whose number is a multiple of 3, in turn; in the fifth round every tenth of them is taken.
    let mut server = Server::new(true);
    for round in 0..7_u16 {
        let all: Vec<u16> = (0..SIZE).collect();
        for second in all.chunks(120) {
            let here = |port: &u16| port.is_multiple_of(3) && !(round == 5 && port.is_multiple_of(30));
            let ports: Vec<u16> = second.iter().copied().filter(here).map(|port| LOW + port).collect();
            let _ = server.second(&ports);
            let elsewhere = server.elsewhere().unwrap_or_default();
            assert!(
                round < 2 || elsewhere.iter().all(|port| !(port - LOW).is_multiple_of(3)),
                "in round {round}"
            );
        }
    }
}
