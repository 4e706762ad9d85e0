//! Against a recording, and against what a simulated server counts.

use std::{collections::HashMap, time::Duration};

use super::*;
use crate::model::pool::{Load, recordings, traffic::Totals};

/// A server that takes SYNs as they come: what its counters and its TIME_WAITs are.
#[derive(Default)]
struct Server {
    traffic: Traffic,
    totals: Totals,
    /// By port, when its last connection ended.
    ended: HashMap<u16, f64>,
}

impl Server {
    fn syn(&mut self, now: f64, port: u16, is_refused: bool) {
        self.totals.attempts += 1;
        let meets = self.ended.get(&port).is_some_and(|ended| now - ended < 60.0);
        if is_refused {
            self.totals.refused += 1;
            return;
        }
        self.totals.accepted += u64::from(meets);
        self.totals.opened += 1;
        self.totals.ended += 1;
        self.totals.left += 1;
        self.ended.insert(port, now);
    }

    /// A second is over.
    fn told(&mut self, now: f64, ports: f64, lost: Option<f64>) -> Chance {
        self.traffic.sample(Duration::from_secs_f64(now), self.totals);
        let time_wait = self.ended.values().filter(|&&ended| now - ended < 60.0).count() as f64;
        let rate = self.traffic.rate(|totals| totals.attempts);
        Chance::new(
            &self.traffic,
            &Load { time_wait, live: 0.0, rate, ends: [0.0; TIME_WAIT_SECONDS] },
            ports,
            lost,
        )
    }
}

#[test]
fn the_recorded_gateway_is_warned_of_at_its_first_refused_syn_and_told_its_share() {
    let seconds = recordings::seconds(&recordings::syns(recordings::CHANCE));
    let mut server = Server::default();
    server.traffic.sample(Duration::ZERO, Totals::default());
    let mut refused = 0;
    for (second, syns) in (1_u32..).zip(&seconds) {
        for &(now, port, is_refused) in syns {
            server.syn(now, port, is_refused);
        }
        refused += syns.iter().filter(|&&(.., is_refused)| is_refused).count();
        let told = server.told(f64::from(second), 4_096.0, None);
        assert!(
            refused == 0 || told.expected_refused_ratio.is_some_and(|share| share >= 0.01),
            "{second}: {told:?}"
        );
        // By the recording, in the minute before it.
        let minute = seconds[..second as usize].iter().rev().take(60).flatten();
        let (lost, all) =
            minute.fold((0, 0), |(lost, all), &(.., is_refused)| (lost + u32::from(is_refused), all + 1));
        assert!(
            second < 60 || (told.refused_ratio - f64::from(lost) / f64::from(all)).abs() < 0.02,
            "{told:?}"
        );
        // In its last 30 seconds 11 % were refused, as many as in the long run.
        let expected = told.expected_refused_ratio.unwrap_or_default();
        assert!(second < 70 || (expected - 0.11).abs() <= 0.03, "{second}: {told:?}");
    }
}

/// Draws from 1,000 ports for five minutes; what is told early, and what was refused in the last two minutes.
fn simulated(rate: u32, lost: f64, is_known: bool) -> (Chance, f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut server = Server::default();
    server.traffic.sample(Duration::ZERO, Totals::default());
    let (mut early, mut refused, mut all) = (None, 0, 0);
    for second in 0..300 {
        for syn in 0..rate {
            let now = f64::from(second) + f64::from(syn) / f64::from(rate);
            let port = random.u16(..1_000);
            let meets = server.ended.get(&port).is_some_and(|ended| now - ended < 60.0);
            let is_refused = meets && random.f64() < lost;
            server.syn(now, port, is_refused);
            if second >= 180 {
                (refused, all) = (refused + u32::from(is_refused), all + 1);
            }
        }
        let told = server.told(f64::from(second + 1), 1_000.0, is_known.then_some(lost));
        if second == 20 {
            early = Some(told);
        }
    }
    (early.expect("a second"), f64::from(refused) / f64::from(all))
}

#[test]
fn the_share_that_a_rate_leads_to_is_told_before_it_is_reached() {
    for (rate, lost) in [(5, 1.0), (10, 0.5), (20, 1.0), (20, 0.2), (50, 0.0)] {
        let (told, right) = simulated(rate, lost, true);
        let expected = told.expected_refused_ratio.expect("known of others");
        assert!((expected - right).abs() < 0.05, "{rate}/s, {lost} lost: {told:?}, {right}");
    }
}

#[test]
fn what_becomes_of_a_meeting_is_unknown_before_the_first_ones() {
    let mut server = Server::default();
    server.traffic.sample(Duration::ZERO, Totals::default());
    (0..7).for_each(|port| server.syn(0.0, port, false));
    (0..7).for_each(|port| server.syn(0.5, port, false));
    assert_eq!(server.told(1.0, 100.0, None).expected_refused_ratio, None, "seven were accepted");
    server.syn(1.5, 7, false);
    server.syn(1.6, 7, false);
    assert_eq!(server.told(2.0, 100.0, None).expected_refused_ratio, Some(0.0));
    server.syn(2.5, 7, true);
    assert!(server.told(3.0, 100.0, None).expected_refused_ratio > Some(0.0));
}
