//! How many connections a second a saturated machine makes under each watcher.

use std::time::Duration;

use lab::host::Host;

use crate::{
    load::{self, Made, Plan},
    table::{Cell, Table, median, quantile},
    watcher::{CLASSIC, SYN_WATCH, TYPED, Watcher},
};

/// Who is compared. Nobody takes two turns: that these are the same shows what a difference is worth.
const COMPARED: [Watcher; 10] = [
    Watcher::Nobody,
    TYPED,
    CLASSIC,
    SYN_WATCH,
    Watcher::Bpftrace,
    Watcher::Tcplife,
    Watcher::Tcpstates,
    Watcher::Ss,
    Watcher::NodeExporter,
    Watcher::Nobody,
];

/// A turn.
const PLAN: Plan = Plan { peers: 100, time: Duration::from_secs(3), most: u64::MAX };

/// Lets all take turns, in an order that changes.
pub fn measure(rounds: usize) -> Table {
    let mut rates = vec![Vec::new(); COMPARED.len()];
    let mut spent = vec![Vec::new(); COMPARED.len()];
    let mut order: Vec<usize> = (0..COMPARED.len()).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..rounds {
        random.shuffle(&mut order);
        for &place in &order {
            let (made, seconds) = turn(COMPARED[place]);
            rates[place].push(made.rate());
            spent[place].push(seconds / made.connections as f64 * 1e6);
        }
    }
    // Of each round, against nobody in that round.
    let ratios = |place: usize| -> Vec<f64> {
        rates[place].iter().zip(&rates[0]).map(|(rate, nobody)| rate / nobody).collect()
    };
    let rows = (0..COMPARED.len()).map(|place| {
        let mut ratios = ratios(place);
        vec![
            Cell::text(COMPARED[place].name()),
            Cell::text(if COMPARED[place].tells_of_peers() { "yes" } else { "no" }),
            median(&mut rates[place].clone()).into(),
            median(&mut ratios).into(),
            quantile(&mut ratios, 0.25).into(),
            quantile(&mut ratios, 0.75).into(),
            median(&mut spent[place].clone()).into(),
        ]
    });
    Table {
        name: "connections",
        title: format!(
            "Connections per second of a saturated machine, {} peers, {rounds} turns of {} s\n(the ratio to nobody is of the same round; the second nobody shows what it is worth)",
            PLAN.peers,
            PLAN.time.as_secs()
        ),
        columns: vec!["WATCHER", "PEERS", "CONN/S", "RATIO", "QUARTILE 1", "QUARTILE 3", "ITS CPU µs/CONN"],
        rows: rows.collect(),
        drawn: Vec::new(),
    }
}

/// A host of its own each time, so that no TIME_WAIT of the turn before is in the way.
fn turn(watcher: Watcher) -> (Made, f64) {
    let host = Host::new("bench");
    load::prepare(&host);
    watcher.during(&host, || load::saturate(&host, PLAN))
}
