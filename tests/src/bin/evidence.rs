//! Incident I1 for a person to look at: a NAT with the source ports 2048–16383 in front of a server that closes first, until its pool has
//! run out. It leaves pictures of the pages, screens of `tcpwarden top` and the report in the directory that is its argument.

#![expect(clippy::print_stdout, reason = "it says where it leaves what")]
#![expect(clippy::expect_used, reason = "it fails by panicking")]

use std::{fs, path::Path, thread, time::Duration};

use lab::{
    agent::Agent,
    browser::{self, Browser},
    nat::{Nat, Pool, nat},
    program,
    screen::Screen,
    topology::Family,
    traffic::{First, Traffic},
};
use tempfile::TempDir;

const PORT: u16 = 443;

/// The pictures are taken after so many seconds, when every port has been used, and some again: it is a little more than the pool bears.
const SECONDS: u64 = 98;

/// The load lasts longer: what is seen is an incident that goes on.
const LOAD: usize = 110;

/// Connections a second of each client.
const RATE: f64 = 90.0;

fn main() {
    let directory = std::env::args().nth(1).expect("a directory");
    let directory = Path::new(&directory);
    let net =
        nat(&Pool { family: Family::V4, addresses: 1, ports: Some(2_048..=16_383), loses_bare_ack: true });
    let state = TempDir::new().expect("a temporary directory");
    let agent = Agent::start_with(&net.server, &[], state.path());
    let server = Nat::server_address(Family::V4);
    let _service = Traffic::welcome(&net.server, server, PORT, LOAD + 20, First::Server);
    let mut load: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, server, PORT, LOAD, RATE, First::Server))
        .collect();
    println!("pictures in {SECONDS} s");
    thread::sleep(Duration::from_secs(SECONDS));
    let peer = format!("peers/{}/inbound/{PORT}", Nat::address(Family::V4, 0));
    let mut browser = Browser::start(&net.server);
    for (device, width, height) in [("", 1_280, 900), ("-phone", 390, 844)] {
        for (scheme, dark) in [("", false), ("-dark", true)] {
            browser.show_on(browser::Screen { width, height, dark });
            for (name, path) in [("page", ""), ("peer", &*peer)] {
                browser.open(&format!("http://127.0.0.1:9796/{path}"));
                let file = directory.join(format!("{name}{device}{scheme}.png"));
                browser.picture(&file);
                println!("{}", file.display());
            }
        }
    }
    let top =
        Screen::start(&net.server, "screen-256color", &format!("{} top", program("tcpwarden").display()));
    for (key, name, shows) in [("Home", "top.txt", "TIME_WAIT"), ("Enter", "top-peer.txt", "R refused ")] {
        top.keys(&[key]);
        top.line(shows);
        let file = directory.join(name);
        fs::write(&file, top.lines().join("\n") + "\n").expect("the screen is written");
        println!("{}", file.display());
    }
    for client in &mut load {
        client.paced();
    }
    for name in ["report.md", "report.html"] {
        let file = directory.join(name);
        let (file, state) =
            (file.to_str().expect("a path in text"), state.path().to_str().expect("a path in text"));
        let ended = Agent::once(&net.server, &[], &["report", "--state.directory", state, "-o", file]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        println!("{file}");
    }
    drop(agent);
}
