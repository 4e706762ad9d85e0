//! All incidents on one host at the same time: each is told apart.

use std::{thread, time::Duration};

use lab::{
    aborted_early::{self, Entrance, Tls},
    agent::{Agent, Config},
    alarms::{Alarm, exactly},
    attaching::exact,
    dns::{Dns, Resolver},
    failover::{self, Cluster, Death},
    hanging_dependency::{self, Link, Shop},
    lan::{DNS, Lan, OURS},
    nat::{Nat, Pool, nat},
    stale_address::{self, Tier},
    story::Story,
    topology::Family,
    traffic::{First, Traffic},
};

lab::scenarios! {
    Staged 80 s:
        five_incidents_at_once;
}

const NAT_PORT: u16 = 443;

fn five_incidents_at_once() {
    let mut story = Story::quiet();
    play(&mut story);
    story.end();
}

fn play(story: &mut Story) {
    // The server of the NAT is also a web tier, an application, a shop and an entrance, on another wire.
    let net = nat(&Pool { family: Family::V4, addresses: 1, ports: Some(2048..=2111), loses_bare_ack: true });
    let host = &net.server;
    let lan = Lan::new();
    lan.join(host, "lan0", OURS);
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let tier = Tier::start(&lan, host, &dns, &resolver);
    let mut cluster = Cluster::start(&lan, host, &dns, &resolver);
    let shop = Shop::start(&lan, host);
    let entrance = Entrance::start(&lan, host, Tls::V13);
    let server = Nat::server_address(Family::V4);
    let _service = Traffic::welcome(host, server, NAT_PORT, 300, First::Server);
    let config = Config::new(&[stale_address::watch(), failover::watch()].concat());
    let agent = Agent::start_seeing(host, &resolver, &config);
    let _exact = exact();
    // Before the incidents all is well: whom the agent has not seen otherwise may always have been so.
    let well = (tier.customers(), shop.crowd());
    thread::sleep(Duration::from_secs(4));
    for _ in 0..12 {
        story.holds(entrance.visit(), "a client that speaks the server's version was not served");
    }
    drop((well.0.told(), well.1.told()));

    // All of it.
    let load: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, server, NAT_PORT, 90, 10.0, First::Server))
        .collect();
    tier.move_backend(&dns);
    shop.stall_mail();
    let customers = (tier.customers(), shop.crowd(), entrance.phones());
    let changed = cluster.fail_over(story, &dns, Death::Refuses);
    let peer = Nat::address(Family::V4, 0);
    let mut due = vec![
        Alarm::inbound("TimeWaitNearPoolLimit", peer, NAT_PORT),
        Alarm::inbound("PortReuseRefused", peer, NAT_PORT),
        Alarm::outbound("StaleAddress", stale_address::old(), stale_address::PORT),
        aborted_early::due(),
    ];
    due.extend(hanging_dependency::due(Link::Chain));
    exactly(story, &agent, &due, Duration::from_mins(2));
    drop((customers, load));
    failover::compare(story, &agent, &cluster.account(), changed);
}
