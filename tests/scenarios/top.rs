//! `tcpwarden top` as someone at a terminal sees it: what stands on the screen against `ss` and the API.

use std::{fs, net::IpAddr, time::Duration};

use lab::{
    agent::Agent,
    certificates::certificates,
    eventually,
    host::Host,
    nat::{Nat, Pool, nat},
    program,
    screen::Screen,
    topology::Family,
    traffic::{First, Traffic},
    truth, within,
};
use serde_json::Value;

lab::scenarios! {
    Others 20 s:
        with_a_daemon_the_screen_tells_what_ss_and_the_api_tell;
    Others 10 s:
        without_a_daemon_it_counts_itself_on_a_terminal_without_colours;
    Others 5 s:
        it_ends_with_its_terminal,
        a_daemon_that_is_protected_is_asked_as_it_wants,
        where_there_is_no_terminal_it_says_what_to_use_instead;
}

const PORT: u16 = 443;

/// Three clients behind two addresses with 64 ports each; TIME_WAITs are left at the server.
struct Incident {
    net: Nat,
    _service: Traffic,
}

fn incident() -> Incident {
    let pool = Pool { family: Family::V4, addresses: 2, ports: Some(2048..=2111), loses_bare_ack: false };
    let net = nat(&pool);
    let service = Traffic::welcome(&net.server, server(), PORT, 300, First::Server);
    Incident { net, _service: service }
}

impl Incident {
    /// A load that has ended; its TIME_WAITs stay for a minute.
    fn load(&self) {
        let mut clients: Vec<Traffic> = self
            .net
            .clients
            .iter()
            .map(|client| {
                client.sysctl("net.ipv4.tcp_timestamps", "2");
                Traffic::pace(client, server(), PORT, 6, 6.0, First::Server)
            })
            .collect();
        for client in &mut clients {
            client.paced();
        }
    }

    fn top(&self, terminal: &str, args: &str) -> Screen {
        let program = program("tcpwarden");
        Screen::start(&self.net.server, terminal, &format!("{} top {args}", program.display()))
    }
}

fn server() -> IpAddr {
    Nat::server_address(Family::V4)
}

fn peer(number: u8) -> String {
    Nat::address(Family::V4, number).to_string()
}

/// TIME_WAITs of a peer, by `ss`.
fn time_waits(host: &Host, peer: &str) -> u64 {
    let sockets = truth::sockets_by_local_port(host);
    let key = (peer.parse().expect("an address"), PORT, "time_wait".to_owned());
    sockets.get(&key).copied().unwrap_or_default()
}

/// What stands in a column of the table in the row of a peer.
fn cell(lines: &[String], peer: &str, title: &str) -> Option<String> {
    let mut table = lines.iter().skip_while(|line| !line.contains("PEER"));
    let header = table.next()?;
    let row = table.find(|line| line.split_whitespace().any(|word| word == peer))?;
    // Numbers end where their title ends.
    let end = header.find(title)? + title.len();
    row.get(..end)?.split_whitespace().next_back().map(str::to_owned)
}

fn api(agent: &Agent<'_>, path: &str) -> Value {
    let (status, body) = agent.get(path).expect("the agent answers");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Waits until the screen and `ss` agree on the TIME_WAITs of both peers.
fn agrees(incident: &Incident, screen: &Screen) {
    eventually(Duration::from_secs(20), || {
        let right = [0, 1].map(|number| time_waits(&incident.net.server, &peer(number)).to_string());
        let lines = screen.lines();
        let told = [0, 1].map(|number| cell(&lines, &peer(number), "TIME_WAIT").unwrap_or_default());
        if told == right && right.iter().all(|count| count != "0") {
            Ok(())
        } else {
            Err(format!("ss counts {right:?}:\n{}", lines.join("\n")))
        }
    });
}

fn with_a_daemon_the_screen_tells_what_ss_and_the_api_tell() {
    let incident = incident();
    let agent = Agent::start(&incident.net.server, &[]);
    incident.load();
    let screen = incident.top("screen-256color", "");
    agrees(&incident, &screen);

    // A filter leaves one peer; looked at, it has its ports.
    screen.keys(&["/"]);
    screen.keys(&["-l", &peer(1)]);
    screen.line(&format!("filter: {}_ (1 of them)", peer(1)));
    screen.keys(&["Enter"]);
    screen.keys(&["Enter"]);
    screen.line(&format!("{} inbound port {PORT}", peer(1)));
    let legend = |lines: &[String]| lines.iter().find(|line| line.starts_with("R refused ")).cloned();
    let told = within(Duration::from_secs(20), || {
        let right = time_waits(&incident.net.server, &peer(1));
        let told = legend(&screen.lines()).unwrap_or_default();
        if told.contains(&format!("# time_wait {right} ")) { Ok(told) } else { Err((told, right)) }
    });
    let told = told.expect("the map counts what ss counts");
    let ports = api(&agent, &format!("/api/v1/peers/{}/inbound/{PORT}/ports", peer(1)));
    assert!(
        told.contains(&format!("# time_wait {} ", ports["counts"]["time_wait"])),
        "{told} is not {ports:#}"
    );
    // 128 ports are a cell: the NAT's 64 ports from 2048 on are the one at 16 of the first row, and nothing else is.
    let lines = screen.lines();
    let map: Vec<&String> =
        lines.iter().skip_while(|line| !line.contains("a cell is 128 ports")).skip(1).take(8).collect();
    assert_eq!(map[0].trim_end(), format!("    0 {}#", " ".repeat(16)), "{lines:#?}");
    assert!(map[1..].iter().all(|row| row.split_whitespace().count() == 1), "{lines:#?}");

    // Back, and sorted by name, once each way.
    screen.keys(&["Escape"]);
    screen.line("PEER");
    screen.keys(&["Escape"]);
    // A terminal sends Escape and the key after it as it sends Alt with that key: who reads both at once cannot tell.
    screen.shows("list without a filter", |lines| {
        (!lines.iter().any(|line| line.starts_with("filter: "))).then_some(())
    });
    screen.keys(&["s"]);
    screen.line("(by PEER)");
    let above = |upper: u8, lower: u8| {
        move |lines: &[String]| {
            let place = |number| lines.iter().position(|line| line.contains(&format!(" {} ", peer(number))));
            (place(upper)? < place(lower)?).then_some(())
        }
    };
    screen.shows("lower address above the higher one", above(0, 1));
    screen.keys(&["r"]);
    screen.line("(by PEER, reversed)");
    screen.shows("higher address above the lower one", above(1, 0));

    // The daemon goes away and comes back.
    drop(agent);
    screen.line("OLD, ");
    let agent = Agent::start(&incident.net.server, &[]);
    screen.shows("new figures", |lines| lines.iter().all(|line| !line.contains("OLD, ")).then_some(()));
    agrees(&incident, &screen);
    drop(agent);
    screen.keys(&["q"]);
    screen.line("ended by 0");
}

fn without_a_daemon_it_counts_itself_on_a_terminal_without_colours() {
    let incident = incident();
    incident.load();
    let screen = incident.top("vt100", "");
    screen.line("No daemon: rates, pools and alerts need one (tcpwarden run)");
    agrees(&incident, &screen);
    // ESC [ 3x m and 4x m are colours; 39 and 49 are none.
    let attributes = screen.with_attributes();
    let codes = attributes
        .split("\u{1b}[")
        .skip(1)
        .filter_map(|rest| rest.split_once('m'))
        .flat_map(|(codes, _)| codes.split(';'));
    let codes: Vec<&str> = codes.filter(|code| !["39", "49"].contains(code)).collect();
    assert!(codes.contains(&"7"), "the selected row is set apart: {attributes:?}");
    assert!(!codes.iter().any(|code| code.len() > 1 && ["3", "4"].contains(&&code[..1])), "{attributes:?}");
    // Ended by somebody else, it gives the terminal back.
    screen.terminate();
    screen.line("ended by 0");
    screen.keys(&["-l", "stty -a | grep -c -e -icanon"]);
    screen.keys(&["Enter"]);
    screen.shows("terminal that edits lines", |lines| {
        lines.iter().any(|line| line.trim() == "0").then_some(())
    });
}

fn it_ends_with_its_terminal() {
    let host = Host::new("server");
    let line = program("tcpwarden").display().to_string() + " top";
    let screen = Screen::start(&host, "screen-256color", &line);
    screen.line("No daemon");
    let process = format!("/proc/{}", screen.program().as_raw_nonzero());
    drop(screen);
    eventually(Duration::from_secs(10), || {
        if fs::exists(&process).expect("/proc is there") {
            Err("it runs on without a terminal".to_owned())
        } else {
            Ok(())
        }
    });
}

fn a_daemon_that_is_protected_is_asked_as_it_wants() {
    let host = Host::new("server");
    let directory = certificates();
    let at = |name: &str| directory.path().join(name);
    // The hash is of "swordfish".
    let protection = "tls_server_config: { cert_file: server.crt, key_file: server.key }\n\
                      basic_auth_users: { prometheus: '$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.' }\n";
    fs::write(at("web.yml"), protection).expect("written");
    fs::write(at("header"), "Basic cHJvbWV0aGV1czpzd29yZGZpc2g=\n").expect("written");
    let _agent = Agent::start_protected(&host, &at("web.yml"), "prometheus:swordfish");
    let program = program("tcpwarden");
    let line = format!(
        "{} top --url https://localhost:9796 --ca.file {}",
        program.display(),
        at("ca.crt").display()
    );
    let screen = Screen::start(&host, "screen-256color", &line);
    screen.line("No figures: it asks who we are");
    screen.line("--authorization.file");
    screen.keys(&["q"]);
    screen.line("ended by 0");
    let screen = Screen::start(
        &host,
        "screen-256color",
        &format!("{line} --authorization.file {}", at("header").display()),
    );
    screen.line("alerts 0  TIME_WAIT ");
    screen.keys(&["q"]);
    screen.line("ended by 0");
}

fn where_there_is_no_terminal_it_says_what_to_use_instead() {
    let host = Host::new("server");
    let ended = Agent::once(&host, &[], &["top"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("tcpwarden census"), "{}", ended.stderr);
}
