//! Incident I4: a mail server that stalls, and what becomes of the server that calls it: its calls wait, its threads are taken, its
//! accept queue fills, and its customers, who have left, are never let go.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use crate::{
    agent::{Agent, Series},
    alarms::{Alarm, exactly, raised},
    attaching::exact,
    host::Host,
    lan::{Lan, OURS},
    reports,
    story::Story,
    traffic::Traffic,
    truth,
};

/// The mail server's port.
pub const MAIL_PORT: u16 = 25;
/// The port of the server that calls it.
pub const PORT: u16 = 8025;
/// The port of another, which forgets to close what its customers closed.
const LEAK_PORT: u16 = 8026;

const MAIL: u8 = 41;
const STREET: u8 = 42;

/// Threads of the server, and how many may wait for one.
const THREADS: usize = 60;
const BACKLOG: usize = 30;

/// Customers leave after this time, which is longer than an aborted connection lasts.
const LEAVING: Duration = Duration::from_secs(2);
/// Or they stay.
const STAYING: Duration = Duration::from_mins(2);

/// So long all is well before.
const WELL: Duration = Duration::from_secs(5);

/// So long what comes of an incident may take to be told.
const PATIENCE: Duration = Duration::from_secs(90);

/// The mail server.
#[must_use]
pub fn mail() -> IpAddr {
    Lan::address(MAIL)
}

/// A server for customers that calls a mail server.
#[derive(Debug)]
pub struct Shop {
    front: Traffic,
    mail: Traffic,
    _mail_host: Host,
    street: Host,
}

impl Shop {
    /// Sets it up on `host`, which has number [`OURS`]; all is well.
    #[must_use]
    pub fn start(lan: &Lan, host: &Host) -> Self {
        let (mail_host, street) = (lan.host("mail", MAIL), lan.host("street", STREET));
        // Customers are many machines, which do not come again from the port of a connection that they left and the server has not closed.
        street.sysctl("net.ipv4.tcp_fin_timeout", "300");
        let mail = Traffic::answer(&mail_host, mail(), MAIL_PORT, 300);
        let address = SocketAddr::new(Lan::address(OURS), PORT);
        let front = Traffic::front(host, address, BACKLOG, THREADS, SocketAddr::new(self::mail(), MAIL_PORT));
        Self { front, mail, _mail_host: mail_host, street }
    }

    /// `count` customers of a port of the shop, who come again a second after they were served, or left.
    #[must_use]
    pub fn customers(&self, count: usize, port: u16, leave: Duration) -> Traffic {
        let shop = SocketAddr::new(Lan::address(OURS), port);
        Traffic::ask(&self.street, shop, count, Duration::from_secs(1), leave)
    }

    /// As many customers as it takes, who leave.
    #[must_use]
    pub fn crowd(&self) -> Traffic {
        self.customers(24, PORT, LEAVING)
    }

    /// The mail server stalls: its kernel goes on taking connections, and nobody answers them.
    pub fn stall_mail(&self) {
        self.mail.stall();
    }

    /// The server itself stalls.
    pub fn stall_front(&self) {
        self.front.stall();
    }
}

/// Which links of the chain are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Calls wait; there are threads enough.
    Calls,
    /// The accept queue is full: the server itself has stalled.
    Queue,
    /// Customers leave, and another server does not notice.
    Leavers,
    /// From the mail server to all of that.
    Chain,
}

/// What is due for a link.
#[must_use]
pub fn due(link: Link) -> Vec<Alarm> {
    let calls = Alarm::outbound("DependencyHanging", mail(), MAIL_PORT);
    let queue = [Alarm::port("ListenQueueOverflow", PORT), Alarm::host("ListenQueueOverflow")];
    match link {
        Link::Calls => vec![calls],
        Link::Queue => queue.to_vec(),
        Link::Leavers => vec![Alarm::port("CloseWaitGrowing", LEAK_PORT)],
        Link::Chain => queue.into_iter().chain([calls, Alarm::port("CloseWaitGrowing", PORT)]).collect(),
    }
}

/// Plays a link.
pub fn play(story: &mut Story, link: Link) {
    let lan = Lan::new();
    let host = lan.host("shop", OURS);
    let shop = Shop::start(&lan, &host);
    let leak =
        (link == Link::Leavers).then(|| Traffic::serve(&host, Lan::address(OURS), LEAK_PORT, 1_000, "hold"));
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    // A mail server that the agent does not know yet hangs at once only where it has answered as many as wait then.
    let (well, crowd) = (shop.customers(4, PORT, LEAVING), shop.crowd());
    thread::sleep(WELL);
    drop(crowd);
    let served = well.told();
    let all = served.iter().all(|request| request.outcome == "200");
    story.holds(!served.is_empty() && all, format_args!("not all customers were served: {served:?}"));
    story.note(format_args!("{} customers were served; now comes this: {link:?}", served.len()));
    let customers = match link {
        Link::Calls => {
            shop.stall_mail();
            shop.customers(15, PORT, STAYING)
        }
        Link::Queue => {
            shop.stall_front();
            shop.customers(BACKLOG + 4, PORT, STAYING)
        }
        Link::Leavers => shop.customers(24, LEAK_PORT, LEAVING),
        Link::Chain => {
            shop.stall_mail();
            shop.crowd()
        }
    };
    exactly(story, &agent, &due(link), PATIENCE);
    // Whoever waits or was left goes on waiting; nobody comes any more.
    drop(customers);
    compare(story, &agent, &host, link);
    let cause = match link {
        Link::Calls | Link::Chain => "dependency_hangs",
        Link::Queue => "queue_full",
        Link::Leavers => "server_does_not_close",
    };
    reports::names(story, &agent, &[cause]);
    drop((leak, shop));
}

/// Holds the agent's gauges against what ss counts.
fn compare(story: &mut Story, agent: &Agent<'_>, host: &Host, link: Link) {
    let value = |name: &str, labels: &[(&str, &str)]| agent.scrape().value(name, labels);
    let number = |count: u64| Some(count as f64);
    if matches!(link, Link::Calls | Link::Chain) {
        let (peer, port) = (mail().to_string(), MAIL_PORT.to_string());
        let of = [("peer", peer.as_str()), ("port", &port), ("direction", "outbound")];
        let waiting = truth::sockets_by_remote_port(host);
        let waiting =
            waiting.get(&(mail(), MAIL_PORT, "established".to_owned())).copied().unwrap_or_default();
        story.holds(waiting >= 10, format_args!("only {waiting} calls wait"));
        story.same("calls that wait", &number(waiting), || value("peer_stalled_sockets", &of));
        let caller = [&of[..], &[("process", "traffic")]].concat();
        story.same("who calls", &Some(1.0), || value("peer_caller_info", &caller));
        says(story, agent, "DependencyHanging", "called by traffic");
    }
    if matches!(link, Link::Queue | Link::Chain) {
        let port = PORT.to_string();
        let queue = truth::accept_queue(host, PORT);
        story.same("waiting to be accepted", &number(queue), || value("listen_queue", &[("port", &port)]));
        let overflows = truth::nstat(host, "TcpExtListenOverflows");
        story.holds(overflows > 0, "the accept queue did not overflow");
        story.same("overflows", &number(overflows), || value("listen_overflows_total", &[]));
    }
    if matches!(link, Link::Leavers | Link::Chain) {
        let port = if link == Link::Leavers { LEAK_PORT } else { PORT };
        let street = Lan::address(STREET);
        let left = truth::sockets_by_local_port(host);
        let left = left.get(&(street, port, "close_wait".to_owned())).copied().unwrap_or_default();
        story.holds(left >= 50, format_args!("only {left} sockets are in CLOSE_WAIT"));
        let (peer, port) = (street.to_string(), port.to_string());
        let of = Series { peer: &peer, port: &port, direction: "inbound" };
        let told = || agent.scrape().peer("peer_sockets", of, &[("state", "close_wait")]);
        story.same("in CLOSE_WAIT", &left, told);
        let kept = truth::close_waits(host, of.port, "traffic");
        says(story, agent, "CloseWaitGrowing", &format!("traffic keeps {kept}"));
    }
}

/// Whether the sentence of an alert holds these words.
fn says(story: &mut Story, agent: &Agent<'_>, alert: &str, words: &str) {
    let said = || {
        let alarms = raised(agent).into_iter().filter(|(alarm, _)| alarm.alert == alert);
        alarms.map(|(_, text)| if text.contains(words) { words.to_owned() } else { text }).collect()
    };
    story.same(alert, &vec![words.to_owned()], said);
}
