//! What slow, many and greedy clients get, and that the others do not notice.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{Calls, Counters},
    sweep::STATES,
};
use tcpwarden::{
    model::{Direction, ExportedAccount, Peer, Snapshot},
    serve::{Limits, View},
};

use crate::{
    client::{ask, connect, get, is_closed, next_head, request},
    server::{Server, eventually},
};

const SHORT: Duration = Duration::from_secs(1);

#[test]
fn a_request_that_drips_is_cut() {
    let server = Server::open(Limits { head: SHORT, ..Limits::default() });
    // The first request of a connection, and one that follows another.
    for (before, timeouts) in [(0, 1), (1, 2)] {
        let mut stream = connect(server.address);
        for _ in 0..before {
            stream.write_all(request("/healthz", "").as_bytes()).expect("sent");
            assert!(next_head(&mut stream).starts_with("http/1.1 200 "));
        }
        stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
        // Each line comes in time; all of them together do not.
        eventually("the drip is cut", || {
            thread::sleep(SHORT / 4);
            stream.write_all(b"X-Slow: 1\r\n").is_err()
        });
        assert_eq!(server.refused("timeout"), timeouts);
    }
}

#[test]
fn a_client_that_says_nothing_is_cut() {
    let plain = Server::open(Limits { head: SHORT, ..Limits::default() });
    assert!(is_closed(&mut connect(plain.address)));
    assert_eq!(plain.refused("timeout"), 1);

    let tls = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    let tls = Server::start(Some(tls), Limits { head: SHORT, ..Limits::default() }, View::default());
    let mut silent = connect(tls.address);
    let mut halfway = connect(tls.address);
    halfway.write_all(&[22, 3, 1]).expect("sent");
    assert!(is_closed(&mut silent) && is_closed(&mut halfway));
}

#[test]
fn an_idle_connection_is_closed() {
    let server = Server::open(Limits { idle: SHORT, ..Limits::default() });
    let mut stream = connect(server.address);
    for _ in 0..2 {
        stream.write_all(request("/healthz", "").as_bytes()).expect("sent");
        assert!(next_head(&mut stream).starts_with("http/1.1 200 "));
    }
    assert!(is_closed(&mut stream));
    assert_eq!(server.refused("timeout"), 1);
}

#[test]
fn an_answer_that_is_not_taken_is_cut() {
    // More than the kernel keeps for both ends of a connection.
    let account = |number: u32| ExportedAccount {
        who: Some((Peer::Address(std::net::Ipv4Addr::from(number).into()), 443)),
        direction: Direction::Inbound,
        counters: Counters::zeroed(),
        sockets: [0; STATES],
        connections_per_second: 0.0,
        stalled: 0,
        calls: Calls::default(),
        callers: Vec::new(),
        gave_up: 0,
        challenged_gave_up: 0,
        pool: None,
        ephemeral: None,
    };
    let snapshot = Snapshot { accounts: (0..2_500).map(account).collect(), ..Snapshot::default() };
    let view = View { snapshot: snapshot.into(), ..View::default() };
    let server = Server::start(None, Limits { answer: 3 * SHORT, ..Limits::default() }, view);
    let mut stream = connect(server.address);
    stream.write_all(request("/metrics", "").as_bytes()).expect("sent");
    eventually("the connection is counted as too slow", || server.refused("timeout") == 1);
    let mut taken = Vec::new();
    let _ = stream.read_to_end(&mut taken);
    let text = String::from_utf8_lossy(&taken);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let promised = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    assert!(body.len() < promised.expect("a length"), "it was cut: {} of {promised:?}", body.len());
}

#[test]
fn a_flood_of_connections_does_not_keep_it_from_answering() {
    let server = Server::open(Limits { head: 3 * SHORT, ..Limits::default() });
    // One that is there already keeps being served.
    let mut early = connect(server.address);
    early.write_all(request("/healthz", "").as_bytes()).expect("sent");
    assert!(next_head(&mut early).starts_with("http/1.1 200 "));

    let mut flood: Vec<TcpStream> = (0..400).map(|_| connect(server.address)).collect();
    early.write_all(request("/healthz", "").as_bytes()).expect("sent");
    assert!(next_head(&mut early).starts_with("http/1.1 200 "));
    assert!(flood.iter_mut().all(is_closed), "all of them are closed, at once or for their silence");

    let (limit, timeout) = (server.refused("limit"), server.refused("timeout"));
    assert_eq!(limit + timeout, 400);
    assert!(limit > 0 && timeout >= 127, "{limit} at once, {timeout} later");
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = Server::open(Limits::default());
    let fits = format!("X-Long: {}\r\n", "a".repeat(12 * 1024));
    assert!(ask(connect(server.address), "/", &fits).expect("an answer").starts_with("HTTP/1.1 200 "));
    let long = format!("X-Long: {}\r\n", "a".repeat(20 * 1024));
    let path = format!("/{}", "a".repeat(20 * 1024));
    let many = "X: 1\r\n".repeat(200);
    for (path, headers) in [("/", long.as_str()), (&path, ""), ("/", &many)] {
        let mut stream = connect(server.address);
        stream.write_all(request(path, headers).as_bytes()).expect("sent");
        let head = next_head(&mut stream);
        assert!(head.starts_with("http/1.1 431 ") || head.starts_with("http/1.1 414 "), "{head}");
        assert!(is_closed(&mut stream));
    }
    // Without an end.
    let mut stream = connect(server.address);
    let mut sent = 0;
    while stream.write_all(&[b'a'; 1024]).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "it is taken without an end");
    }
}

#[test]
fn a_body_is_refused() {
    let server = Server::open(Limits::default());
    let mut stream = connect(server.address);
    stream.write_all(request("/", "Content-Length: 1000000000\r\n").as_bytes()).expect("sent");
    let head = next_head(&mut stream);
    assert!(head.starts_with("http/1.1 413 ") && head.contains("connection: close"), "{head}");
    assert!(get(server.address, "/").is_ok());
}

#[test]
fn it_stops_while_clients_hold_connections() {
    let server = Server::open(Limits::default());
    let mut idle = connect(server.address);
    idle.write_all(request("/healthz", "").as_bytes()).expect("sent");
    assert!(next_head(&mut idle).starts_with("http/1.1 200 "));
    server.stop();
    assert!(is_closed(&mut idle));
}
