//! The forecast against a simulated server that counts its TIME_WAITs one by one.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{ClosedBy, Counters, INBOUND, PeerKey},
    source_ports::PortSet,
    sweep::{Held, STATES, state::TIME_WAIT},
};
use proptest::prelude::*;

use super::{Load, PoolFigures, Pools, Ranges, TIME_WAIT_SECONDS};

fn peer() -> PeerKey {
    PeerKey::new(IpAddr::from([203, 0, 113, 7]), 443, INBOUND)
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
}

impl Server {
    fn new() -> Self {
        Self {
            pools: Pools::new(4),
            counters: Counters::zeroed(),
            time_waits: VecDeque::new(),
            ports: PortSet::zeroed(),
            second: 0,
            fraction: 0.0,
            configured: None,
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
            let mut sockets = [0; STATES];
            sockets[TIME_WAIT as usize] = self.time_wait();
            self.pools.settle(now, &[Held { sockets, ..Held::none(peer()) }]);
        }
        self.pools.read(now, &peer(), &self.counters, true);
        // A census fills in the ports of all sockets there are, so recording begins with them.
        let _ = self.pools.choose(now, |_| self.configured.is_some());
        for key in self.pools.due() {
            self.ports.filled_in = 1;
            if self.pools.observe(now, &key, &self.ports) {
                self.ports = PortSet::zeroed();
            }
        }
        let configured = self.configured.clone();
        let figures = self.pools.figures(now, |_| configured.clone()).next();
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
