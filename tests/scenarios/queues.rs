//! Accept queues of several listeners on one port.

use std::time::Duration;

use lab::{
    agent::Agent,
    alarms::{self, Alarm},
    eventually,
    topology::{Family, Pair, pair},
    traffic::Traffic,
    truth,
};

lab::scenarios! {
    Others 5 s:
        of_several_listeners_the_fullest_is_told;
}

const PORT: u16 = 7_500;
const LISTENERS: usize = 2;
const BACKLOG: usize = 3;

/// The kernel chooses a listener by a hash: of so many connections, one of them holds as many as it may, one more than its backlog.
const CONNECTIONS: usize = LISTENERS * BACKLOG + 1;

fn of_several_listeners_the_fullest_is_told() {
    let Pair { client, server } = &pair();
    let to = Pair::server_address(Family::V4);
    // Where most of them meet one listener, the last do not get in, and are not to try for two minutes.
    client.sysctl("net.ipv4.tcp_syn_retries", "1");
    let agent = Agent::start(server, &[]);
    let _listeners: Vec<Traffic> = (0..LISTENERS).map(|_| Traffic::deaf(server, to, PORT, BACKLOG)).collect();
    let mut clients = Traffic::connect(client, to, PORT, CONNECTIONS, "hold");
    clients.connected();
    let queues = truth::accept_queues(server, PORT);
    let fullest = queues.iter().copied().max().expect("ss shows the listeners");
    assert_eq!(queues.len(), LISTENERS);
    assert_eq!(fullest.0, fullest.1 + 1, "one is full: {queues:?}");
    let alarm = Alarm::port("ListenQueueOverflow", PORT);
    let says = format!(
        "{} connections wait to be accepted on port {PORT} in the fullest queue of {LISTENERS} listeners, which holds {} (backlog {})",
        fullest.0,
        fullest.1 + 1,
        fullest.1
    );
    eventually(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let port = PORT.to_string();
        let value = |name| metrics.value(name, &[("port", &port)]);
        let told = (value("listen_queue"), value("listen_queue_limit"));
        let raised = alarms::raised(&agent).remove(&alarm);
        if told == (Some(fullest.0 as f64), Some(fullest.1 as f64)) && raised.as_ref() == Some(&says) {
            Ok(())
        } else {
            Err(format!("{told:?} of the listeners {queues:?}; {raised:?}"))
        }
    });
}
