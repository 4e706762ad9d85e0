//! The forecast against a simulated server that counts its TIME_WAITs one by one.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{ClosedBy, Counters, INBOUND, PeerKey, ReuseClock},
    source_ports::{FILLED_IN, PortSet},
    sweep::HeldAt,
};
use proptest::prelude::*;

use super::{Load, PoolFigures, Pools, Ranges, SavedPool, TimeWaits, traffic::TIME_WAIT_SECONDS};

mod restart;

const UNLIMITED: TimeWaits = TimeWaits { left: f64::INFINITY, made: 0, overflows: 0 };

fn peer() -> PeerKey {
    PeerKey::new(IpAddr::from([203, 0, 113, 7]), 443, INBOUND)
}

/// Timewait sockets of the peer at one address of ours.
fn at(host: u8, time_wait: u32) -> HeldAt {
    let local = PeerKey::new(IpAddr::from([192, 0, 2, host]), 0, INBOUND).addr;
    HeldAt { peer: peer(), local, live: 0, time_wait }
}

/// A server that closes first, and one peer whose NAT hands out 2048–16383 in turn.
struct Server {
    pools: Pools,
    counters: Counters,
    /// TIME_WAITs by the second they began in.
    time_waits: VecDeque<(u64, u32)>,
    ports: PortSet,
    second: u64,
    /// Part of a connection that is due.
    fraction: f64,
    configured: Option<Ranges>,
    kernel: TimeWaits,
}

impl Server {
    fn new() -> Self {
        Self {
            pools: Pools::new(4),
            counters: Counters::zeroed(),
            time_waits: VecDeque::new(),
            ports: PortSet { filled_in: 1, ..PortSet::zeroed() },
            second: 0,
            fraction: 0.0,
            configured: None,
            kernel: UNLIMITED,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.second)
    }

    fn time_wait(&self) -> u32 {
        self.time_waits.iter().map(|(_, count)| count).sum()
    }

    /// One second of `rate` connections a second, with a census if wanted.
    fn second(&mut self, rate: f64, census: bool) -> PoolFigures {
        self.second += 1;
        self.fraction += rate;
        let mut count = 0;
        while self.fraction >= 1.0 {
            self.fraction -= 1.0;
            count += 1;
        }
        for _ in 0..count {
            let port = 2_048 + u16::try_from(self.counters.connections % 14_336).expect("below 65,536");
            self.ports.insert(port);
            self.counters.connections += 1;
            self.counters.closes[ClosedBy::Local as usize] += 1;
        }
        self.time_waits.push_back((self.second, count));
        self.time_waits.retain(|&(began, _)| began + 60 > self.second);
        let now = self.now();
        if census {
            let rows = [at(1, self.time_wait())];
            self.pools.settle(now, if rows[0].sockets() > 0 { &rows } else { &[] });
        }
        self.pools.read(now, &peer(), &self.counters, true);
        let _ = self.pools.choose(now, |_| self.configured.is_some());
        for key in self.pools.due() {
            let taken = std::mem::replace(&mut self.ports, PortSet::zeroed());
            // A census fills in the ports of all sockets there are, so recording begins with them.
            self.ports.filled_in = FILLED_IN;
            if self.pools.observe(now, &key, &taken, self.configured.as_ref()) {
                self.ports.filled_in = 1;
            }
        }
        let configured = self.configured.clone();
        let figures = self.pools.figures(now, self.kernel, |_| configured.clone()).next();
        figures.map_or_else(|| panic!("the peer is recorded"), |(_, figures)| figures)
    }

    fn seconds(&mut self, rate: f64, seconds: u64) -> PoolFigures {
        (1..seconds).for_each(|_| drop(self.second(rate, true)));
        self.second(rate, true)
    }

    /// How many more seconds of `rate` fill a pool.
    fn seconds_to(&mut self, rate: f64, pool: u32) -> u64 {
        let mut seconds = 0;
        while self.time_wait() < pool {
            self.second(rate, true);
            seconds += 1;
            assert!(seconds < 200, "the pool is never full");
        }
        seconds
    }
}

#[test]
fn a_step_to_twice_the_pools_rate_is_foretold_within_five_seconds() {
    let mut server = Server::new();
    let calm = server.seconds(60.0, 300);
    assert_eq!(calm.observed.to_string(), "2048-16383");
    assert!(calm.observed_pool().is_some(), "{}", calm.confidence);
    assert_eq!(calm.exhaustion_seconds, Some(f64::INFINITY));
    assert!((calm.load.used() - 3_600.0).abs() < 61.0, "{}", calm.load.used());

    let stepped = server.seconds(478.0, 4);
    let foretold = stepped.exhaustion_seconds.expect("the pool is known");
    let real = server.seconds_to(478.0, 14_336) as f64;
    assert!(real >= 20.0, "{real}");
    assert!((foretold - real).abs() < 2.0, "foretold {foretold}, real {real}");
}

#[test]
fn a_busy_pool_that_levels_off_below_its_limit_is_no_matter() {
    let mut server = Server::new();
    for _ in 0..300 {
        // 96 % at the end, having come up from 0 within a minute.
        let figures = server.second(230.0, true);
        assert!(figures.exhaustion_seconds.is_none_or(f64::is_infinite), "{figures:?}");
    }
    let figures = server.second(230.0, true);
    assert!(figures.used_ratio().is_some_and(|ratio| ratio > 0.95), "{figures:?}");
}

#[test]
fn the_forecast_holds_between_two_censuses_a_minute_apart() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    for _ in 0..5 {
        server.second(478.0, false);
    }
    let figures = server.second(478.0, false);
    assert!((figures.load.used() - f64::from(server.time_wait())).abs() < 61.0, "{figures:?}");
    let foretold = figures.exhaustion_seconds.expect("the pool is known");
    let real = server.seconds_to(478.0, 14_336) as f64;
    assert!((foretold - real).abs() < 2.0, "foretold {foretold}, real {real}");
}

#[test]
fn where_time_wait_accepts_every_syn_no_port_is_taken() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    server.counters.time_wait_accepted += 500;
    let figures = server.seconds(478.0, 5);
    assert_eq!(figures.exhaustion_seconds, Some(f64::INFINITY));
    server.counters.time_wait_refused[0] += 1;
    let figures = server.seconds(478.0, 5);
    assert!(figures.exhaustion_seconds.is_some_and(f64::is_finite), "one was refused: {figures:?}");
}

#[test]
fn where_the_timestamps_of_each_port_go_on_no_port_is_taken_though_none_met_a_time_wait() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    server.counters.reuse_clocks[ReuseClock::Same as usize] += 500;
    let figures = server.seconds(478.0, 5);
    assert_eq!(figures.exhaustion_seconds, Some(f64::INFINITY), "{figures:?}");
    server.counters.reuse_clocks[ReuseClock::Other as usize] += 1;
    let figures = server.seconds(478.0, 5);
    assert!(figures.exhaustion_seconds.is_some_and(f64::is_finite), "one was of another clock: {figures:?}");
}

#[test]
fn a_configured_pool_counts_at_once_and_a_wrong_one_is_noticed() {
    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_000, 65_000)]));
    let figures = server.seconds(60.0, 60);
    assert_eq!(figures.used_ratio(), Some(figures.load.used() / 63_001.0));
    assert!(!figures.contradicts(), "the first round is not over: {figures:?}");
    let figures = server.seconds(60.0, 200);
    assert!(figures.contradicts() && figures.outside == 0, "{figures:?}");

    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_048, 2_100)]));
    let figures = server.seconds(60.0, 2);
    assert!(figures.contradicts() && figures.outside == 120 - 53, "{figures:?}");

    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_048, 16_383)]));
    assert!(!server.seconds(60.0, 300).contradicts());
}

#[test]
fn only_busy_peers_are_recorded_and_no_more_than_there_is_room_for() {
    let mut pools = Pools::new(2);
    let key = |last| PeerKey::new(IpAddr::from([203, 0, 113, last]), 443, INBOUND);
    let counters = |connections| Counters { connections, ..Counters::zeroed() };
    let now = Duration::from_secs(1);
    for (last, connections) in [(1, 5), (2, 100), (3, 500), (4, 50)] {
        pools.read(now, &key(last), &counters(connections), true);
    }
    let choice = pools.choose(now, |_| false);
    assert_eq!(choice.record, [key(3), key(2)]);
    assert_eq!(pools.unrecorded(), 0, "who has just become busy is about to be recorded");
    for (last, connections) in [(1, 6), (2, 110), (3, 600), (4, 57)] {
        pools.read(now, &key(last), &counters(connections), true);
    }
    assert_eq!(pools.unrecorded(), 7, "the fourth found no room");
    // A peer that is configured goes before any other, however few its connections.
    let choice = pools.choose(now, |peer| *peer == key(1));
    assert_eq!((choice.record, choice.forget), (vec![key(1)], vec![key(2)]));
    assert!(pools.forget(&key(1)) && !pools.forget(&key(4)));
    assert_eq!(pools.recorded(), 1);
}

/// What is known of a peer that used 500 ports, each towards `addresses` of ours, and left half of these connections in TIME_WAIT.
fn towards(addresses: u8) -> PoolFigures {
    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_048, 2_547)]));
    (2_048..2_548).for_each(|port| server.ports.insert(port));
    server.counters.connections = 500 * u64::from(addresses);
    server.counters.closes[ClosedBy::Peer as usize] = 250 * u64::from(addresses);
    server.counters.closes[ClosedBy::Local as usize] = 250 * u64::from(addresses);
    server.second(0.0, true);
    // Towards one of them a connection more, so that it is the fullest.
    let census: Vec<HeldAt> = (1..=addresses).map(|host| at(host, 250 + u32::from(host == 2))).collect();
    server.pools.settle(server.now(), &census);
    server.second(0.0, false)
}

#[test]
fn a_port_is_taken_towards_one_address_of_ours_and_free_towards_the_others() {
    for addresses in [2, 4] {
        let figures = towards(addresses);
        assert_eq!((figures.local, figures.local_addresses), (Some([192, 0, 2, 2].into()), addresses.into()));
        assert_eq!(figures.used_ratio(), Some(251.0 / 500.0), "{addresses}: {figures:?}");
    }
    assert_eq!(towards(1).used_ratio(), Some(0.5));
}

#[test]
fn traffic_since_the_census_is_divided_as_that_was() {
    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_048, 16_383)]));
    server.seconds(0.0, 2);
    // Three quarters of what there is are towards the second address.
    (10_000..10_400).for_each(|port| server.ports.insert(port));
    server.pools.settle(server.now(), &[at(1, 100), at(2, 300)]);
    let figures = (0..4).map(|_| server.second(100.0, false)).last().expect("four seconds");
    assert!((figures.load.used() - 600.0).abs() < 1.0, "300 and three quarters of 400: {figures:?}");
    assert!((figures.load.rate - 75.0).abs() < 20.0, "{figures:?}");
}

#[test]
fn no_more_ports_are_taken_than_were_seen() {
    // 64 ports towards several addresses at once, before a census tells these apart.
    let mut server = Server::new();
    server.configured = Some(Ranges::whole(&[(2_048, 2_111)]));
    server.seconds(0.0, 2);
    (2_048..2_112).for_each(|port| server.ports.insert(port));
    server.counters.connections += 256;
    server.counters.closes[ClosedBy::Local as usize] += 256;
    assert_eq!(server.second(0.0, false).used_ratio(), Some(1.0));
}

#[test]
fn what_a_new_peer_took_before_it_was_recorded_counts_without_a_census() {
    let mut pools = Pools::new(1);
    pools.settle(Duration::from_secs(1), &[]);
    let mut counters = Counters::zeroed();
    for second in 2..130 {
        let now = Duration::from_secs(second);
        counters.connections += 10;
        counters.closes[ClosedBy::Local as usize] += 10;
        pools.read(now, &peer(), &counters, true);
        let _ = pools.choose(now, |_| false);
        let Some((_, figures)) = pools.figures(now, UNLIMITED, |_| None).next() else { continue };
        let taken = 10.0 * (second - 1).min(60) as f64;
        assert!((figures.load.used() - taken).abs() < 1.0, "{taken} in second {second}: {figures:?}");
    }
    assert_eq!(pools.recorded(), 1);
}

/// A server that closes first and whose TIME_WAITs accept every SYN: 120 a second come from 2,048 ports, drawn by `next`. Holds the ports taken
/// between censuses `every` so many seconds against those that are.
fn accepting(every: u64, mut next: impl FnMut() -> u16) {
    let mut pools = Pools::new(1);
    let mut counters = Counters::zeroed();
    let mut ended: HashMap<u16, f64> = HashMap::new();
    let pool = Ranges::whole(&[(32_768, 32_768 + 2_047)]);
    let mut begins_anew = true;
    for second in 1..=400 {
        let mut came = PortSet { filled_in: FILLED_IN, ..PortSet::zeroed() };
        if begins_anew {
            came.filled_in = u32::from(second % every == 1);
        }
        if came.filled_in == 1 {
            for port in ended.keys() {
                came.insert(32_768 + port);
            }
        }
        for syn in 0..120 {
            let now = second as f64 + f64::from(syn) / 120.0;
            let port = next();
            let before = ended.insert(port, now);
            counters.time_wait_accepted += u64::from(before.is_some_and(|before| now - before < 60.0));
            counters.connections += 1;
            counters.closes[ClosedBy::Local as usize] += 1;
            came.insert(32_768 + port);
        }
        let is_taken = |&&ended: &&f64| second as f64 + 1.0 - ended < 60.0;
        let taken = u32::try_from(ended.values().filter(is_taken).count()).expect("2,048 at most");
        let now = Duration::from_secs(second + 1);
        if second % every == 1 {
            pools.settle(now, &[at(1, taken)]);
        }
        pools.read(now, &peer(), &counters, true);
        let _ = pools.choose(now, |_| true);
        begins_anew &= came.filled_in != 1;
        begins_anew |= pools.observe(now, &peer(), &came, Some(&pool));
        let (_, figures) =
            pools.figures(now, UNLIMITED, |_| Some(pool.clone())).next().expect("it is recorded");
        if second > 150 {
            let used = figures.load.used();
            assert!(
                (used - f64::from(taken)).abs() < 0.01 * 2_048.0,
                "{used} of {taken} in second {second}, with a census every {every} s"
            );
        }
    }
}

#[test]
fn between_two_censuses_closes_are_added_as_accepted_syns_are_subtracted() {
    for every in [2, 10, 60] {
        let mut random = fastrand::Rng::with_seed(1);
        accepting(every, || random.u16(..2_048));
        let mut stands = 0;
        accepting(every, || {
            stands = (stands + 1) % 2_048;
            stands
        });
    }
    // A Linux host goes on by one to eight of its free ports (net/ipv4/inet_hashtables.c, __inet_hash_connect()): neither in turn nor quite by
    // chance.
    for every in [2, 60] {
        let (mut random, mut stands) = (fastrand::Rng::with_seed(1), 0);
        accepting(every, || {
            stands = (stands + random.u16(1..=8)) % 2_048;
            stands
        });
    }
}

/// A server that restarts with what another one saved.
fn restarted(saved: Vec<SavedPool>, unix: u64) -> Server {
    let mut server = Server::new();
    server.pools.restore(saved, unix);
    server
}

#[test]
fn a_pool_that_was_known_is_known_at_once_after_a_restart() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    let saved = server.pools.save(server.now(), 1_000_000);
    assert_eq!((&*saved[0].ranges, saved[0].confirmed), (&[(2_048, 16_383, 1)][..], 997_200));

    // The peer made a single connection: without its pool its ports would not be recorded, and not be known for a round.
    let mut server = restarted(saved.clone(), 1_000_100);
    let figures = server.second(1.0, true);
    assert!(figures.remembered && figures.source_ports == 1, "{figures:?}");
    assert_eq!(figures.pool(), Some(&Ranges::whole(&[(2_048, 16_383)])));
    // What stands in TIME_WAIT since before it, a census finds, and the load that fills the pool is foretold.
    let figures = server.seconds(478.0, 5);
    let foretold = figures.exhaustion_seconds.expect("the pool is known");
    let real = server.seconds_to(478.0, 14_336) as f64;
    assert!((foretold - real).abs() < 2.0, "foretold {foretold}, real {real}");
    assert!(!server.seconds(478.0, 10).remembered, "the round is over, and it tells by itself");
    assert_eq!(server.pools.save(server.now(), 1_003_600)[0].confirmed, 1_000_800);
}

#[test]
fn that_time_wait_accepts_a_peer_stands_for_two_minutes_after_a_restart() {
    let mut server = Server::new();
    assert!(!server.seconds(300.0, 60).accepts_reuse);
    server.counters.reuse_clocks[ReuseClock::Same as usize] = 8;
    assert!(server.seconds(300.0, 1).accepts_reuse);
    let saved = server.pools.save(server.now(), 1);
    assert!(saved[0].accepts_reuse);
    let mut server = restarted(saved.clone(), 1);
    assert!(server.seconds(1.0, 119).accepts_reuse);
    assert!(!server.seconds(1.0, 1).accepts_reuse, "its ports did not come back");
    let mut server = restarted(saved, 1);
    assert!(server.seconds(1.0, 10).accepts_reuse);
    server.counters.reuse_clocks[ReuseClock::Other as usize] = 1;
    assert!(!server.seconds(1.0, 1).accepts_reuse, "another host behind the address");
}

#[test]
fn a_remembered_pool_is_given_up_with_the_first_port_from_outside() {
    let pool = |high| SavedPool {
        peer: peer().address(),
        port: 443,
        ranges: vec![(2_048, high, 1)],
        confidence: 1.0,
        accepts_reuse: false,
        confirmed: 0,
    };
    let mut server = restarted(vec![pool(2_147)], 1);
    assert!(server.seconds(100.0, 1).remembered, "100 ports of 100");
    let figures = server.second(1.0, true);
    assert!(!figures.remembered && figures.pool().is_none(), "{figures:?}");
    assert_eq!(server.pools.save(server.now(), 1), [], "and it does not come back with the next restart");

    // An idle peer's pool stays as it was saved.
    let mut idle = Pools::new(1);
    idle.restore(vec![pool(16_383)], 1);
    assert_eq!(idle.save(Duration::ZERO, 3_601), [pool(16_383)]);
}

#[test]
fn nothing_is_foretold_that_the_limit_of_time_waits_prevents() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    // 3,600 are taken, and it takes 10,736 more to fill the pool.
    server.kernel.left = 5_000.0;
    let figures = server.seconds(478.0, 5);
    assert_eq!(figures.exhaustion_seconds, None, "{figures:?}");
    server.kernel.left = 20_000.0;
    let figures = server.second(478.0, true);
    assert!(figures.exhaustion_seconds.is_some_and(f64::is_finite), "{figures:?}");
}

#[test]
fn a_forecast_that_does_not_come_true_is_withdrawn_and_lowers_the_confidence() {
    let mut server = Server::new();
    server.seconds(60.0, 300);
    // TIME_WAITs end sooner than they should, so that no more are taken: a limit nobody told of, say.
    let mut stood = 0;
    for _ in 0..50 {
        server.time_waits.drain(..server.time_waits.len() - 10);
        let figures = server.second(478.0, true);
        stood += u32::from(figures.exhaustion_seconds.is_some_and(f64::is_finite));
    }
    let figures = server.second(478.0, true);
    assert!(0 < stood && stood <= 35, "{stood} s");
    assert_eq!(figures.exhaustion_seconds, None, "{figures:?}");
    assert!(figures.forecast_confidence < 1.0, "{figures:?}");
}

/// A load whose TIME_WAITs end in the given proportions.
fn load(time_wait: f64, live: f64, rate: f64, weights: &[f64]) -> Load {
    let sum: f64 = weights.iter().sum();
    let mut ends = [time_wait / TIME_WAIT_SECONDS as f64; TIME_WAIT_SECONDS];
    if sum > 0.0 {
        for (end, weight) in ends.iter_mut().zip(weights) {
            *end = time_wait * weight / sum;
        }
    }
    Load { time_wait, live, rate, ends }
}

proptest! {
    #[test]
    fn the_forecast_is_never_negative_and_monotone(
        time_wait in 0.0_f64..60_000.0,
        live in 0.0_f64..5_000.0,
        rate in 0.0_f64..2_000.0,
        more in 0.0_f64..500.0,
        pool in 1.0_f64..65_535.0,
        larger in 0.0_f64..20_000.0,
        weights in prop::collection::vec(0.0_f64..10.0, TIME_WAIT_SECONDS),
    ) {
        let now = load(time_wait, live, rate, &weights);
        let seconds = now.seconds_until(pool);
        prop_assert!(seconds >= 0.0 && !seconds.is_nan());
        prop_assert!(Load { rate: rate + more, ..now }.seconds_until(pool) <= seconds, "a higher rate is no later");
        prop_assert!(Load { live: live + more, ..now }.seconds_until(pool) <= seconds, "nor are more connections");
        prop_assert!(now.seconds_until(pool + larger) >= seconds, "a larger pool is no sooner");
    }

    #[test]
    fn it_runs_out_exactly_when_the_minute_to_come_fills_it(
        rate in 1.0_f64..1_000.0, pool in 100.0_f64..60_000.0
    ) {
        // From nothing, the TIME_WAITs of a steady load grow by the rate for a minute, and then no more.
        let empty = load(0.0, 0.0, rate, &[]);
        let seconds = empty.seconds_until(pool);
        if rate * 60.0 >= pool {
            prop_assert!((seconds - pool / rate).abs() < 1e-6, "{seconds}");
        } else {
            prop_assert!(seconds.is_infinite());
        }
    }

    #[test]
    fn noise_does_not_move_a_steady_load(seed in 1_u64..u64::MAX) {
        // 200 a second in random bunches: half of the pool's rate to 14,336 ports, so it never runs out.
        let mut server = Server::new();
        server.seconds(200.0, 100);
        let mut state = seed;
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) % 57;
            let figures = server.second(172.0 + noise as f64, true);
            prop_assert!(figures.exhaustion_seconds.is_none_or(f64::is_infinite), "{figures:?}");
        }
    }
}
