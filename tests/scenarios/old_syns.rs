//! SYNs that are too old for a mini-socket, sent one by one: each answer the kernel has for them.

use std::{net::SocketAddr, thread, time::Duration};

use lab::{
    agent::Agent,
    attaching::exact,
    capture::Capture,
    host::RESETS,
    inconclusive,
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
    Staged 10 s:
        each_answer_to_an_old_syn;
}

const PORT: u16 = 7_100;
const COUNT: usize = 4;

/// Above it the kernel answers a mini-socket's segments again (tcp_invalid_ratelimit is 500 ms).
const PAUSE: Duration = Duration::from_millis(600);

fn each_answer_to_an_old_syn() {
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    // Nobody on the client's side stands behind the forged SYNs; its kernel would reset what answers them.
    pair.client.lose(RESETS);
    let agent = Agent::start(&pair.server, &[]);
    let _exact = exact();
    let all = Capture::start(&pair.server);

    // Half of the connections end in TIME_WAIT; of the others the client never closes its side, and FIN_WAIT2 is what remains.
    let before = Capture::start(&pair.server);
    let closing = Traffic::serve(&pair.server, server, PORT, COUNT, "close");
    let mut over = Traffic::connect(&pair.client, server, PORT, COUNT, "read,close");
    over.connected();
    over.finish();
    closing.finish();
    let closing = Traffic::serve(&pair.server, server, PORT + 1, COUNT, "close");
    let mut half_open = Traffic::connect(&pair.client, server, PORT + 1, COUNT, "read,hold");
    half_open.connected();
    closing.finish();
    thread::sleep(PAUSE);
    let before = before.stop();

    let time_waits = before.expected(server, PORT);
    let fin_wait2s = before.expected(server, PORT + 1);
    assert_eq!((time_waits.len(), fin_wait2s.len()), (COUNT, COUNT));
    let send = |port, (from, sequence): (&SocketAddr, u32), times| {
        Traffic::syns(&pair.client, *from, server, port, sequence, times);
    };
    for (from, expected) in &time_waits {
        // Below what it expects: a bare ACK. Again, at once: nothing. Once more, later: an ACK.
        let old = expected.wrapping_sub(10_000);
        send(PORT, (from, old), 2);
        thread::sleep(PAUSE);
        send(PORT, (from, old), 1);
    }
    for (from, expected) in &fin_wait2s {
        // Within its window: a RST, and the mini-socket is gone.
        send(PORT + 1, (from, expected.wrapping_add(1)), 1);
    }
    thread::sleep(PAUSE);
    drop(half_open);
    let wire = all.stop();
    let wire = [PORT, PORT + 1].map(|port| wire.reuses(client, server, port));
    let count = COUNT as u64;
    assert_eq!(
        (wire[0].refused_by_ack, wire[0].unanswered, wire[0].syn_retries),
        (2 * count, count, 2 * count)
    );
    assert_eq!(wire[1].refused_by_reset, count);

    let peer = client.to_string();
    inconclusive::hold(&agent, Duration::from_secs(15), |metrics| {
        let told = [PORT, PORT + 1].map(|port| metrics.reuses(&peer, port));
        wire.iter().zip(&told).flat_map(|(wire, told)| wire.counts(told)).collect()
    });
}
