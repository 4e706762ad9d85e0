//! A count of all TIME_WAIT sockets, beside other ways to count them.

use std::time::{Duration, Instant};

use lab::{
    agent::{Agent, Config},
    host::Host,
    http, program, truth,
};

use crate::{
    cost::{self, Spent},
    load::{self, Plan},
    table::{Cell, Table, median},
    watcher::{self, Started},
    yardsticks::Yardsticks,
};

/// So many sockets are counted.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// A TIME_WAIT lasts a minute: what takes longer meets fewer of them.
const LIFE: Duration = Duration::from_secs(58);

/// The commands that count, and how they are called in a table.
const WAYS: [(&str, &str); 7] = [
    ("an iterator that does nothing", ""),
    ("census of the daemon", ""),
    ("tcpwarden census", "tcpwarden census"),
    ("tcpwarden census --census iter", "tcpwarden census --census iter"),
    ("ss state time-wait", "ss -Htan state time-wait"),
    ("/proc/net/tcp", "wc -l /proc/net/tcp"),
    ("node_exporter, tcpstat", ""),
];

/// One way at one size.
struct Measured {
    sockets: f64,
    /// By the clock, where that is known.
    wall_ms: Option<f64>,
    processor_ms: f64,
    memory_mib: Option<f64>,
}

/// Counts sockets in every way, as long as they are there; each with its own cost, and all against their number.
pub fn measure(rounds: usize) -> Vec<Table> {
    let measured: Vec<Vec<Option<Measured>>> = SIZES.into_iter().map(|size| at(size, rounds)).collect();
    let mut rows = Vec::new();
    for ways in &measured {
        for ((name, _), found) in WAYS.iter().zip(ways) {
            let Some(Measured { sockets, wall_ms, processor_ms, memory_mib }) = found else { continue };
            rows.push(vec![
                Cell::text(*name),
                (*sockets).into(),
                (*wall_ms).into(),
                (*processor_ms).into(),
                (processor_ms * 1e3 / sockets).into(),
                (*memory_mib).into(),
            ]);
        }
    }
    let growth = measured.iter().map(|ways| {
        let sockets = ways.iter().flatten().map(|way| way.sockets).fold(0.0, f64::max);
        let costs = ways.iter().map(|way| way.as_ref().map(|way| way.processor_ms).into());
        [sockets.into()].into_iter().chain(costs).collect()
    });
    vec![
        Table {
            name: "census",
            title: "Counting TIME_WAIT sockets (medians; µs of CPU per socket)".to_owned(),
            columns: vec!["WAY", "SOCKETS", "WALL ms", "CPU ms", "CPU µs/SOCKET", "MEMORY MiB"],
            rows,
            drawn: Vec::new(),
        },
        Table {
            name: "census_growth",
            title: "CPU milliseconds of a count".to_owned(),
            columns: ["SOCKETS"].into_iter().chain(WAYS.map(|(name, _)| name)).collect(),
            rows: growth.collect(),
            drawn: (1..=WAYS.len()).collect(),
        },
    ]
}

fn at(size: u64, rounds: usize) -> Vec<Option<Measured>> {
    let host = Host::new("bench");
    load::prepare(&host);
    let config = Config::new("[census]\ncpu_budget = 0.05\n");
    let agent = Agent::start(&host, &config.args());
    let exporter = Started::node_exporter(&host);
    let begun = Instant::now();
    load::saturate(&host, Plan { peers: 100, time: LIFE, most: size });
    let _services = load::services(&host);
    let own_program = program("tcpwarden").to_string_lossy().into_owned();
    let mut yardsticks = Yardsticks::load().expect("the kernel takes programs that do nothing");
    yardsticks.load_walk().expect("the kernel takes an iterator");
    let mut seen: Vec<Vec<(f64, Spent)>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..rounds {
        for ((name, line), seen) in WAYS.iter().zip(&mut seen) {
            if begun.elapsed() > LIFE {
                break;
            }
            let before = truth::time_wait_buckets(&host) as f64;
            let spent = match *name {
                "census of the daemon" => continue,
                "an iterator that does nothing" => host.enter(|| walk(&mut yardsticks)),
                "node_exporter, tcpstat" => scrape(&host, &exporter),
                _ => {
                    let words: Vec<&str> = line
                        .split(' ')
                        .map(|word| if word == "tcpwarden" { &*own_program } else { word })
                        .collect();
                    cost::spend(watcher::command(&host, &words))
                }
            };
            let after = truth::time_wait_buckets(&host) as f64;
            seen.push((f64::midpoint(before, after), spent));
        }
    }
    let metrics = agent.scrape();
    let walked = metrics.value("census_sockets", &[]).unwrap_or(f64::NAN);
    let own = Measured {
        sockets: walked,
        wall_ms: None,
        processor_ms: metrics.value("census_seconds", &[]).unwrap_or(f64::NAN) * 1e3,
        memory_mib: Some(cost::own_memory_mib(agent.pid())),
    };
    let mut own = Some(own);
    seen.into_iter()
        .map(|seen| {
            if seen.is_empty() {
                return own.take();
            }
            let middle =
                |value: fn(&(f64, Spent)) -> f64| median(&mut seen.iter().map(value).collect::<Vec<_>>());
            Some(Measured {
                sockets: middle(|(sockets, _)| *sockets),
                wall_ms: Some(middle(|(_, spent)| spent.wall_ms)),
                processor_ms: middle(|(_, spent)| spent.processor_ms),
                memory_mib: seen.last().and_then(|(_, spent)| spent.memory_mib),
            })
        })
        .collect()
}

/// What a walk over all sockets costs that does nothing with them.
fn walk(yardsticks: &mut Yardsticks) -> Spent {
    let (begun, before) = (Instant::now(), cost::thread_ms());
    yardsticks.walk().expect("the sockets are walked");
    Spent {
        wall_ms: begun.elapsed().as_secs_f64() * 1e3,
        processor_ms: cost::thread_ms() - before,
        memory_mib: None,
    }
}

/// What a scrape of node_exporter costs.
fn scrape(host: &Host, exporter: &Started) -> Spent {
    let (begun, before) = (Instant::now(), cost::processor_seconds(exporter.pid()));
    let answer = http::get(host, watcher::NODE_EXPORTER.into(), "/metrics");
    assert!(answer.is_some_and(|(status, _)| status == 200), "node_exporter answers");
    Spent {
        wall_ms: begun.elapsed().as_secs_f64() * 1e3,
        processor_ms: (cost::processor_seconds(exporter.pid()) - before) * 1e3,
        memory_mib: Some(cost::own_memory_mib(exporter.pid())),
    }
}
