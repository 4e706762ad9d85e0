//! Throughput with and without the SYN watch, which sees every packet that a socket receives.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use lab::{
    host::Host,
    topology::{Family, Pair, pair},
};

use crate::{
    load,
    table::{Cell, Table, median, quantile},
    watcher::{SYN_WATCH, TYPED, Watcher},
};

/// Who is compared; nobody takes two turns.
const COMPARED: [Watcher; 4] = [Watcher::Nobody, TYPED, SYN_WATCH, Watcher::Nobody];

/// A turn of each load.
const TURN: Duration = Duration::from_secs(2);

const PORT: u16 = 9_000;

/// What is done for a turn; returns what came of it a second.
type Load = fn(&Pair) -> f64;

const LOADS: [(&str, Load); 3] = [
    ("one stream on loopback, MB/s", |pair| stream(&pair.server, &pair.server, [127, 0, 0, 1].into()) / 1e6),
    ("one stream of full packets on a wire, packets/s", |pair| {
        // 1,500 bytes less the headers of IPv4 and TCP with timestamps.
        stream(&pair.client, &pair.server, Pair::server_address(Family::V4)) / 1_448.0
    }),
    ("requests of one byte on loopback, 1/s", |pair| requests(&pair.server)),
];

/// Lets all take turns.
pub fn measure(rounds: usize) -> Table {
    let pair = pair();
    let mut results = vec![vec![Vec::new(); COMPARED.len()]; LOADS.len()];
    let mut order: Vec<usize> = (0..COMPARED.len()).collect();
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..rounds {
        random.shuffle(&mut order);
        for &place in &order {
            let (rates, _) = COMPARED[place].during(&pair.server, || LOADS.map(|(_, load)| load(&pair)));
            for (results, rate) in results.iter_mut().zip(rates) {
                results[place].push(rate);
            }
        }
    }
    let mut rows = Vec::new();
    for ((load, _), rates) in LOADS.iter().zip(&results) {
        for (place, watcher) in COMPARED.iter().enumerate() {
            let mut ratios: Vec<f64> =
                rates[place].iter().zip(&rates[0]).map(|(rate, nobody)| rate / nobody).collect();
            rows.push(vec![
                Cell::text(*load),
                Cell::text(watcher.name()),
                median(&mut rates[place].clone()).into(),
                median(&mut ratios).into(),
                quantile(&mut ratios, 0.25).into(),
                quantile(&mut ratios, 0.75).into(),
            ]);
        }
    }
    Table {
        name: "packets",
        title: format!(
            "Packets, {rounds} turns of {} s (ratios to nobody in the same round)",
            TURN.as_secs()
        ),
        columns: vec!["LOAD", "WATCHER", "RATE", "RATIO", "QUARTILE 1", "QUARTILE 3"],
        rows,
        drawn: Vec::new(),
    }
}

/// Bytes a second that one connection carries.
fn stream(client: &Host, server: &Host, address: IpAddr) -> f64 {
    let listener = server.enter(|| TcpListener::bind((address, PORT))).expect("the port is free");
    thread::scope(|scope| {
        let received = scope.spawn(move || {
            load::pin(load::processors() - 1);
            let (mut stream, _) = listener.accept().expect("a client");
            let begun = Instant::now();
            let mut buffer = vec![0; 1 << 20];
            let mut bytes = 0;
            loop {
                match stream.read(&mut buffer).expect("bytes") {
                    0 => break bytes as f64 / begun.elapsed().as_secs_f64(),
                    length => bytes += length,
                }
            }
        });
        client.enter(|| {
            load::pin(0);
            let mut stream = TcpStream::connect(SocketAddr::new(address, PORT)).expect("a server");
            let (begun, buffer) = (Instant::now(), vec![0; 1 << 18]);
            while begun.elapsed() < TURN {
                stream.write_all(&buffer).expect("it is read");
            }
        });
        received.join().expect("the server receives")
    })
}

/// Requests a second on one connection, one after the other.
fn requests(host: &Host) -> f64 {
    host.enter(|| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], PORT))).expect("the port is free");
        thread::scope(|scope| {
            // On one processor: how long it takes to wake another says nothing about packets.
            scope.spawn(move || {
                load::pin(0);
                let (mut stream, _) = listener.accept().expect("a client");
                stream.set_nodelay(true).expect("an option of TCP");
                let mut byte = [0];
                while stream.read(&mut byte).expect("a byte") > 0 {
                    stream.write_all(&byte).expect("it is read");
                }
            });
            load::pin(0);
            let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], PORT))).expect("a server");
            stream.set_nodelay(true).expect("an option of TCP");
            let (begun, mut asked) = (Instant::now(), 0_u64);
            while begun.elapsed() < TURN {
                stream.write_all(&[0]).expect("it is read");
                stream.read_exact(&mut [0]).expect("an answer");
                asked += 1;
            }
            asked as f64 / begun.elapsed().as_secs_f64()
        })
    })
}
