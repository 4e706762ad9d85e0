//! Whole screens, as someone at a terminal sees them.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::Color,
};

use super::{
    figures::{Detail, Figures, News, Who},
    row::Column,
    state::{Action, State},
};
use crate::api::{
    Account, Agent, Alert, Census, Host, Outgrown, Overview, PeerSockets, Pool, PortRange, PortRun, Ports,
    Second, TimeWaitSyns, Turn,
};

fn drawn(state: &State, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory takes it");
    terminal.draw(|frame| state.draw(frame)).expect("memory takes it");
    terminal.backend().buffer().clone()
}

fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(state, width, height);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(state: &mut State, code: KeyCode) -> Action {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_in(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        assert_eq!(press(state, KeyCode::Char(letter)), Action::Nothing);
    }
}

fn overview() -> Overview {
    Overview {
        time: 1_795_000_000.0,
        host: Host {
            sockets: [("established".to_owned(), 8), ("time_wait".to_owned(), 9_140)].into(),
            time_wait_buckets: 9_140,
            time_wait_buckets_limit: Some(131_072),
            listen_overflows: 0,
            listeners: Vec::new(),
            settings: [].into(),
        },
        agent: Agent {
            version: "0.1.0".to_owned(),
            started: 1_794_999_000.0,
            peers: 3,
            census_interval_seconds: 1.0,
            census_seconds: 0.001,
            census_drift: 0,
            cpu_seconds: 1.0,
            resident_bytes: 1,
            lost: Vec::new(),
            unavailable: Vec::new(),
            history_trouble: None,
            config_reloaded: true,
        },
    }
}

fn account(peer: &str, port: u16, direction: &str, time_wait: u32, established: u32) -> Account {
    Account {
        peer: peer.to_owned(),
        is_group: false,
        port: Some(port),
        direction: direction.to_owned(),
        sockets: [("established".to_owned(), established), ("time_wait".to_owned(), time_wait)].into(),
        stalled: None,
        connections_per_second: 0.0,
        connections: u64::from(time_wait),
        closes: [("local".to_owned(), u64::from(time_wait))].into(),
        syn_retries: 0,
        time_wait_syns: Some(TimeWaitSyns { accepted: 0, refused: 0, connected: 0, gave_up: 0, late: 0 }),
        challenged_syns: None,
        connect_failures: [("timeout".to_owned(), 0)].into(),
        pool: None,
        processes: Vec::new(),
        alerts: Vec::new(),
    }
}

/// A peer whose pool runs out.
fn nat() -> Account {
    Account {
        connections_per_second: 478.0,
        syn_retries: 7,
        time_wait_syns: Some(TimeWaitSyns { accepted: 12, refused: 3, connected: 2, gave_up: 1, late: 1 }),
        pool: Some(Pool {
            source: Some("observed".to_owned()),
            ranges: vec![PortRange { low: 2_048, high: 16_383, step: 1 }],
            size: Some(14_336),
            local_address: None,
            local_addresses: 1,
            taken: 9_140.0,
            time_wait: 9_140.0,
            time_wait_per_second: 478.0,
            reachable_ports: Some(14_336),
            gaps: None,
            learning: false,
            used_ratio: Some(0.6376),
            seconds_left: Some(11.0),
            forecast_confidence: Some(1.0),
            ports_seen: Some(14_336),
            turn: None,
            chance: None,
            outgrown: None,
            circling: None,
        }),
        ..account("10.0.1.11", 443, "inbound", 9_140, 0)
    }
}

fn alert() -> Alert {
    Alert {
        alert: "TimeWaitNearPoolLimit".to_owned(),
        severity: "critical".to_owned(),
        since: 1_794_999_990,
        announced: true,
        peer: "10.0.1.11".to_owned(),
        port: Some(443),
        direction: "inbound".to_owned(),
        name: String::new(),
        summary: String::new(),
        text: "10.0.1.11 towards port 443 runs out of ports in 11 s".to_owned(),
        advice: String::new(),
        runbook: String::new(),
        measure: String::new(),
        value: 0.6,
        limit: 0.5,
        exhausted_at: None,
        touched_peers: 1,
        touched_ports: Vec::new(),
    }
}

fn daemon(accounts: Vec<Account>, alerts: Vec<Alert>) -> Figures {
    Figures::Daemon { overview: Box::new(overview()), accounts, alerts }
}

/// Three peers, one of them in trouble, and no others.
fn three() -> Figures {
    let others = Account { port: None, ..account("other", 0, "inbound", 0, 0) };
    let accounts = vec![
        account("10.0.2.9", 5_432, "outbound", 0, 8),
        account("10.0.1.7", 443, "inbound", 20, 0),
        others,
        nat(),
    ];
    daemon(accounts, vec![alert()])
}

fn told(figures: Figures) -> News {
    News { figures: Ok(figures), detail: None }
}

fn state() -> State {
    let mut state = State::new("http://127.0.0.1:9796", true);
    assert!(state.hear(told(three())));
    state
}

/// Who stands in the rows.
fn peers(state: &State) -> Vec<String> {
    state.rows.iter().map(|row| row.who.peer.clone()).collect()
}

fn detail() -> Detail {
    let run = |low, high, state: &str| PortRun { low, high, state: state.to_owned() };
    let counts = [("outside", 51_200), ("free", 5_196), ("live", 0), ("time_wait", 9_137), ("refused", 3)];
    let second = |time| Second {
        time,
        established: 0,
        time_wait: u32::try_from(time % 100 / 10).expect("small"),
        connections: 478,
        syn_retries: 0,
        refused: 0,
        failed: 0,
        used_ratio: None,
        seconds_left: None,
    };
    Detail {
        who: Who { peer: "10.0.1.11".to_owned(), port: Some(443), direction: "inbound".to_owned() },
        ports: Ok(Ports {
            address: "10.0.1.11".to_owned(),
            counts: counts.map(|(state, count)| (state.to_owned(), count)).into(),
            runs: vec![
                run(2_048, 9_000, "time_wait"),
                run(9_001, 9_003, "refused"),
                run(9_004, 11_187, "time_wait"),
                run(11_188, 16_383, "free"),
            ],
        }),
        seconds: Ok((1_795_000_011..=1_795_000_065).filter(|time| time % 10 != 5).map(second).collect()),
    }
}

/// One peer, looked at.
fn opened() -> State {
    let mut state = state();
    let who = detail().who;
    assert_eq!(press(&mut state, KeyCode::Enter), Action::Look(Some(who)));
    state.hear(News { figures: Ok(three()), detail: Some(detail()) });
    state
}

#[test]
fn the_table_at_80_by_24() {
    let screen = screen(&state(), 80, 24);
    assert_eq!(
        screen[..8],
        [
            "tcpwarden top  http://127.0.0.1:9796",
            "alerts 1  TIME_WAIT 9140 of 131072  ESTAB 8  accept queues full 0 times",
            "critical: TimeWaitNearPoolLimit: 10.0.1.11 towards port 443 runs out of ports in",
            "11 s",
            "  ALERT PEER      PORT DIR USED LEFT TIME_WAIT ESTAB CONN/S RETRIES REFUSED",
            "> CRIT  10.0.1.11  443 in   64% 11 s      9140     0  478.0       7       3",
            "        10.0.1.7   443 in                   20     0    0.0       0       0",
            "        10.0.2.9  5432 out                   0     8    0.0       0       0",
        ]
    );
    assert_eq!(screen[23], "Enter open  / filter  s sort (by ALERT)  r reverse  ? help  q quit");
}

#[test]
fn a_small_terminal_shows_the_columns_that_matter_and_a_large_one_all() {
    assert_eq!(
        screen(&state(), 40, 10),
        [
            "tcpwarden top  http://127.0.0.1:9796",
            "alerts 1  TIME_WAIT 9140 of 131072  ESTA",
            "critical: TimeWaitNearPoolLimit:",
            "  ALERT PEER      PORT USED TIME_WAIT",
            "> CRIT  10.0.1.11  443  64%      9140",
            "        10.0.1.7   443             20",
            "        10.0.2.9  5432              0",
            "",
            "",
            "by ALERT  ? help  q quit",
        ]
    );
    assert_eq!(
        screen(&state(), 200, 60)[3],
        "  ALERT PEER      PORT DIR USED LEFT TIME_WAIT ESTAB CONN/S RETRIES REFUSED FAILED"
    );
}

#[test]
fn no_size_is_too_small() {
    for state in [State::new("http://127.0.0.1:9796", true), state(), opened()] {
        for (width, height) in (0..30).flat_map(|width| (0..12).map(move |height| (width, height))) {
            screen(&state, width, height);
        }
    }
}

#[test]
fn a_peer_at_80_by_24_with_its_pool_as_a_block() {
    assert_eq!(
        screen(&opened(), 80, 24),
        [
            "tcpwarden top  http://127.0.0.1:9796",
            "10.0.1.11 inbound port 443",
            "critical: TimeWaitNearPoolLimit: 10.0.1.11 towards port 443 runs out of ports in",
            "11 s",
            "pool 2048-16383, 14336 ports, observed  63.8% used  runs out in 11 s",
            "478.0 connections/s  time_wait 9140  SYNs into TIME_WAIT: 12 accepted, 3 refused",
            "SYNs repeated 7  connections 9140  ended by local 9140",
            "All ports of 10.0.1.11; a cell is 128 ports, its worst shown",
            "    0                 ################################################",
            " 8192 ######R#################........................................",
            "16384",
            "24576",
            "32768",
            "40960",
            "49152",
            "57344",
            "R refused 3  # time_wait 9137  o live 0  . free 5196",
            "TIME_WAIT                                              ..... ....||||| ||||#####",
            "now 6, most 6             .... ....||||| ||||##### ######### ######### #########",
            "connections               #### ######### ######### ######### ######### #########",
            "now 478, most 478         #### ######### ######### ######### ######### #########",
            "refused or failed",
            "now 0, most 0",
            "Esc back  ? help  q quit",
        ]
    );
}

#[test]
fn a_block_that_was_outgrown_is_told_unless_an_alert_tells_it() {
    let text = "14 of 15 attempts that TIME_WAIT refused in the last minute came from ports 1344-1407: one machine or subscriber behind this \
                address has outgrown its block of 64 ports";
    let outgrown = Outgrown {
        blocks: vec![PortRange { low: 1_344, high: 1_407, step: 1 }],
        refused: 14,
        all_refused: 15,
        seconds: 60,
        text: text.to_owned(),
    };
    let account = nat();
    let pool = account.pool.clone().map(|pool| Pool { outgrown: Some(outgrown), ..pool });
    let mut state = state();
    press(&mut state, KeyCode::Enter);
    let account = Account { pool, ..account };
    let figures = daemon(vec![account.clone()], Vec::new());
    state.hear(News { figures: Ok(figures), detail: Some(detail()) });
    assert_eq!(
        screen(&state, 80, 24)[2..5],
        [
            "14 of 15 attempts that TIME_WAIT refused in the last minute came from ports",
            "1344-1407: one machine or subscriber behind this address has outgrown its block",
            "of 64 ports",
        ]
    );
    let alert = Alert { alert: "PortReuseRefused".to_owned(), ..alert() };
    state.hear(News { figures: Ok(daemon(vec![account], vec![alert])), detail: Some(detail()) });
    assert!(!screen(&state, 80, 24).join(" ").contains("1344-1407"));
}

/// One of several servers behind round robin, as [`Turn::text`] is made by the agent.
#[test]
fn how_a_peer_goes_round_its_pool_is_told_in_words() {
    let text = "hands its ports out in turn, 150 a second over all servers (50 here): one round takes 27 s, less than the 60 s of a TIME_WAIT; 99 % of \
                the ports used here come back here after 3 rounds (82 s), none sooner; so none of its SYNs is expected to meet a TIME_WAIT here";
    let turn = Turn {
        per_second: 150.0,
        round_seconds: 27.3,
        returning: Some(vec![0.0, 0.01, 0.99, 0.0, 0.0, 0.0]),
        expected_refused_ratio: Some(0.0),
        text: text.to_owned(),
    };
    let account = nat();
    let pool = account.pool.clone().map(|pool| Pool { turn: Some(turn), seconds_left: None, ..pool });
    let figures = daemon(vec![Account { pool, ..account }], Vec::new());
    let mut state = state();
    press(&mut state, KeyCode::Enter);
    state.hear(News { figures: Ok(figures), detail: Some(detail()) });
    assert_eq!(
        screen(&state, 80, 24)[1..9],
        [
            "10.0.1.11 inbound port 443",
            "It hands its ports out in turn, 150 a second over all servers (50 here): one",
            "round takes 27 s, less than the 60 s of a TIME_WAIT; 99 % of the ports used here",
            "come back here after 3 rounds (82 s), none sooner; so none of its SYNs is",
            "expected to meet a TIME_WAIT here",
            "pool 2048-16383, 14336 ports, observed  63.8% used",
            "no SYN meets a TIME_WAIT at this rate  478.0 connections/s  time_wait 9140",
            "SYNs into TIME_WAIT: 12 accepted, 3 refused  SYNs repeated 7  connections 9140",
        ]
    );
}

#[test]
fn a_peer_in_a_small_terminal_and_in_a_large_one() {
    assert_eq!(
        screen(&opened(), 40, 10)[1..8],
        [
            "10.0.1.11 inbound port 443",
            "critical: TimeWaitNearPoolLimit:",
            "10.0.1.11 towards port 443 runs out of",
            "All ports of 10.0.1.11; a cell is 1024 p",
            "    0   ######R##.....",
            "32768",
            "R refused 3  # time_wait 9137  o live 0",
        ]
    );
    let large = screen(&opened(), 200, 60);
    let map = large.iter().position(|line| line.ends_with("a cell is 16 ports, its worst shown"));
    let row = |place: usize| large[map.expect("a map") + 1 + place].as_str();
    assert_eq!((row(0), row(8), row(31)), ("    0", "16384", "63488"));
    assert_eq!(row(1), format!(" 2048 {}", "#".repeat(128)));
    assert_eq!(row(7), format!("14336 {}", ".".repeat(128)));
}

#[test]
fn esc_leads_back_to_the_table_and_ends_looking() {
    let mut state = opened();
    assert_eq!(press(&mut state, KeyCode::Esc), Action::Look(None));
    assert!(screen(&state, 80, 24)[5].starts_with("> CRIT  10.0.1.11"));
    // What was still under way is of no use any more.
    state.hear(News { figures: Ok(three()), detail: Some(detail()) });
    assert_eq!(state.detail, None);
}

#[test]
fn every_column_sorts_and_the_order_turns_round() {
    let mut state = state();
    let mut orders = Vec::new();
    for _ in 0..state.columns.len() {
        let column = state.sorted_by().map(Column::title).expect("a column");
        orders.push(format!("{column}: {}", peers(&state).join(" ")));
        type_in(&mut state, "s");
    }
    assert_eq!(
        orders,
        [
            "ALERT: 10.0.1.11 10.0.1.7 10.0.2.9",
            "PEER: 10.0.1.7 10.0.1.11 10.0.2.9",
            "PORT: 10.0.1.11 10.0.1.7 10.0.2.9",
            "DIR: 10.0.1.11 10.0.1.7 10.0.2.9",
            "USED: 10.0.1.11 10.0.1.7 10.0.2.9",
            "LEFT: 10.0.1.11 10.0.1.7 10.0.2.9",
            "TIME_WAIT: 10.0.1.11 10.0.1.7 10.0.2.9",
            "ESTAB: 10.0.2.9 10.0.1.11 10.0.1.7",
            "CONN/S: 10.0.1.11 10.0.1.7 10.0.2.9",
            "RETRIES: 10.0.1.11 10.0.1.7 10.0.2.9",
            "REFUSED: 10.0.1.11 10.0.1.7 10.0.2.9",
            "FAILED: 10.0.1.11 10.0.1.7 10.0.2.9",
        ]
    );
    // Once round; and back to the last column, which is shown wherever the rows are sorted by it.
    assert_eq!(state.sorted_by().map(Column::title).as_deref(), Some("ALERT"));
    type_in(&mut state, "<r");
    assert_eq!(peers(&state), ["10.0.2.9", "10.0.1.7", "10.0.1.11"]);
    let screen = screen(&state, 40, 10);
    assert!(screen[3].contains("FAILED") && screen[9].contains("by FAILED, reversed"), "{screen:?}");
}

#[test]
fn a_filter_leaves_the_rows_with_all_its_words() {
    let mut state = state();
    type_in(&mut state, "/443 INq");
    assert_eq!(peers(&state), [""; 0]);
    press(&mut state, KeyCode::Backspace);
    assert_eq!(peers(&state), ["10.0.1.11", "10.0.1.7"]);
    assert_eq!(screen(&state, 80, 24)[23], "filter: 443 IN_ (2 of them)");
    press(&mut state, KeyCode::Enter);
    assert!(screen(&state, 80, 24)[23].starts_with("filter: 443 IN (2 of them)  "));
    press(&mut state, KeyCode::Esc);
    assert_eq!(peers(&state).len(), 3);
}

#[test]
fn the_selected_peer_stays_selected_wherever_it_moves() {
    let mut state = state();
    type_in(&mut state, "j");
    assert_eq!(state.selected, 1);
    let busier = account("10.0.1.7", 443, "inbound", 20_000, 0);
    state.hear(told(daemon(vec![nat(), busier, account("10.0.2.9", 5_432, "outbound", 0, 8)], Vec::new())));
    type_in(&mut state, "ssssss");
    assert_eq!((peers(&state)[0].as_str(), state.selected), ("10.0.1.7", 0));
    state.hear(told(daemon(vec![nat()], Vec::new())));
    assert_eq!(state.selected, 0, "it is gone");
}

#[test]
fn many_rows_are_shown_in_pages() {
    let accounts = (0..60).map(|number| account(&format!("10.0.3.{number}"), 80, "inbound", 60 - number, 0));
    let mut state = State::new("http://127.0.0.1:9796", true);
    state.hear(told(daemon(accounts.collect(), Vec::new())));
    press(&mut state, KeyCode::PageDown);
    press(&mut state, KeyCode::PageDown);
    type_in(&mut state, "k");
    let screen = screen(&state, 80, 24);
    // Twenty rows fit below the title, the host and the header.
    assert!(screen[3].contains(" 10.0.3.0 ") && screen[22].starts_with(">       10.0.3.19"), "{screen:?}");
    press(&mut state, KeyCode::Down);
    let screen = self::screen(&state, 80, 24);
    assert!(screen[3].starts_with(">       10.0.3.20"), "{screen:?}");
    press(&mut state, KeyCode::End);
    assert_eq!(state.selected, 59);
}

#[test]
fn a_name_cannot_play_tricks_nor_take_all_the_room() {
    let hostile =
        Account { is_group: true, ..account("\u{1b}[2J\u{202e}evil\u{200b}\n", 443, "inbound", 1, 0) };
    let long = account(&"n".repeat(300), 443, "inbound", 2, 0);
    let mut state = State::new("http://127.0.0.1:9796", true);
    state.hear(told(daemon(vec![hostile, long], Vec::new())));
    let table = screen(&state, 80, 24);
    assert!(table[3].contains(&format!(" {}~{} ", "n".repeat(19), "n".repeat(20))), "{table:?}");
    assert!(table[4].contains("\u{fffd}[2J\u{fffd}evil\u{fffd}\u{fffd} "), "{table:?}");
    type_in(&mut state, "j");
    press(&mut state, KeyCode::Enter);
    assert_eq!(screen(&state, 80, 24)[1], "\u{fffd}[2J\u{fffd}evil\u{fffd}\u{fffd} inbound port 443");
}

#[test]
fn without_colours_the_same_is_said() {
    for coloured in [state(), opened()] {
        let mut plain = coloured.clone();
        plain.colours = false;
        assert_eq!(screen(&plain, 80, 24), screen(&coloured, 80, 24));
        let has_colour = |state| {
            let buffer = drawn(state, 80, 24);
            buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
        };
        assert!(has_colour(&coloured) && !has_colour(&plain));
    }
}

#[test]
fn figures_that_do_not_move_on_are_marked() {
    let mut state = state();
    assert!(!state.hear(told(three())), "the daemon has counted nothing since");
    assert!(!state.grow_old(4) && state.grow_old(7));
    assert_eq!(screen(&state, 80, 24)[1], "OLD, 7 s: the daemon has no newer figures");
    state.hear(News { figures: Err("nobody answers".to_owned()), detail: None });
    let away = screen(&state, 80, 24);
    assert_eq!(away[1], "OLD, 7 s: nobody answers");
    assert!(away[6].starts_with("> CRIT  10.0.1.11"), "the last figures stay: {away:?}");
}

#[test]
fn who_has_never_heard_anything_says_why() {
    let mut state = State::new("http://10.0.0.1:9796", true);
    state.hear(News { figures: Err("it answered 500 \u{1b}[2J".to_owned()), detail: None });
    assert_eq!(
        screen(&state, 80, 24)[..3],
        ["tcpwarden top  http://10.0.0.1:9796", "No figures: it answered 500 \u{fffd}[2J", ""]
    );
}

#[test]
fn without_a_daemon_there_are_sockets_only() {
    let peer = |peer: &str, port, sockets: &[(&str, u32)]| PeerSockets {
        peer: peer.to_owned(),
        port,
        direction: "inbound".to_owned(),
        sockets: sockets.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect(),
        by_local_address: std::collections::BTreeMap::new(),
    };
    let census = Census {
        source: "netlink",
        sockets: 35,
        listen: 1,
        peers: vec![
            peer("other", 0, &[("time_wait", 1)]),
            peer("10.0.1.11", 443, &[("time_wait", 30), ("syn_recv", 3), ("last_ack", 0)]),
        ],
    };
    let mut state = State::new("http://127.0.0.1:9796", true);
    assert!(state.hear(told(Figures::Census(census))));
    assert_eq!(
        screen(&state, 80, 24)[..6],
        [
            "tcpwarden top  census of this host (by netlink)",
            "35 sockets: 1 listening, the rest with 2 peers",
            "No daemon: rates, pools and alerts need one (tcpwarden run)",
            "  PEER      PORT DIR SOCKETS TIME_WAIT SYN_RECV",
            "> 10.0.1.11  443 in       33        30        3",
            "  other          in        1         1        0",
        ]
    );
    press(&mut state, KeyCode::Enter);
    assert_eq!(
        screen(&state, 80, 24)[1..3],
        [
            "10.0.1.11 inbound port 443",
            "syn_recv 3  time_wait 30  The daemon knows more: its ports, rates and past."
        ]
    );
    // The daemon was started meanwhile.
    assert!(state.hear(told(three())));
}

#[test]
fn keys_are_explained_until_the_next_one() {
    let mut state = state();
    type_in(&mut state, "?");
    let small = screen(&state, 40, 10);
    assert!(small[1].starts_with("up down") && small[8] == "? q          this; quit", "{small:?}");
    type_in(&mut state, "x");
    assert!(screen(&state, 80, 24)[5].starts_with("> CRIT"));
    assert_eq!(press(&mut state, KeyCode::Char('q')), Action::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    type_in(&mut state, "/");
    assert_eq!(state.key(control_c), Action::Quit);
}
