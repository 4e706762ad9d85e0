//! Incident I5: phones that cannot speak the TLS version that a server requires, beside others that can.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    process::Stdio,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    agent::{Agent, Series},
    alarms::{Alarm, exactly},
    attaching::exact,
    capture::Capture,
    certificates::certificates,
    host::Host,
    lan::{Lan, OURS},
    process::Process,
    reports,
    story::Story,
    within,
};

/// The server's port.
pub const PORT: u16 = 8443;

const PHONES: u8 = 51;
const DESKTOPS: u8 = 52;

/// What the agent takes for early, and for next to nothing, unless it is told otherwise.
const WITHIN: Duration = Duration::from_secs(1);
const BYTES: u32 = 64;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

impl Tls {
    fn flag(self) -> &'static str {
        match self {
            Self::V12 => "-tls1_2",
            Self::V13 => "-tls1_3",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V12 => Self::V13,
            Self::V13 => Self::V12,
        }
    }
}

/// The phones' address.
#[must_use]
pub fn phones() -> IpAddr {
    Lan::address(PHONES)
}

/// That of the desktops.
#[must_use]
pub fn desktops() -> IpAddr {
    Lan::address(DESKTOPS)
}

/// A server that speaks one version only, and clients of both.
#[derive(Debug)]
pub struct Entrance {
    server: Process,
    version: Tls,
    phones: Host,
    desktops: Host,
}

impl Entrance {
    /// Sets it up on `host`, which has number [`OURS`].
    #[must_use]
    pub fn start(lan: &Lan, host: &Host, version: Tls) -> Self {
        let entrance = Self {
            server: serve(host, version),
            version,
            phones: lan.host("phones", PHONES),
            desktops: lan.host("desktops", DESKTOPS),
        };
        let ready = within(Duration::from_secs(10), || if entrance.visit() { Ok(()) } else { Err(()) });
        assert!(ready.is_ok(), "the TLS server does not serve: {}", entrance.server.log());
        entrance
    }

    /// A client that speaks the server's version asks for the page; whether it gets it.
    #[must_use]
    pub fn visit(&self) -> bool {
        let server = SocketAddr::new(Lan::address(OURS), PORT).to_string();
        let mut command = self.desktops.command("timeout");
        command.args(["10", "openssl", "s_client", "-quiet", "-connect", &server, self.version.flag()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = command.spawn().expect("it runs");
        let mut stdin = client.stdin.take().expect("it is piped");
        let _ = stdin.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let mut page = String::new();
        let mut stdout = client.stdout.take().expect("it is piped");
        let _ = stdout.read_to_string(&mut page);
        drop(stdin);
        let _ = client.wait();
        page.contains("200 ok")
    }

    /// Phones try, one after the other, until this is dropped.
    #[must_use]
    pub fn phones(&self) -> Crowd {
        crowd(&self.phones, self.version.other())
    }

    /// The same of desktops, which speak the version that the server began with.
    #[must_use]
    pub fn desktops(&self) -> Crowd {
        crowd(&self.desktops, self.version)
    }

    /// The server is updated on `host`: from now on it speaks the other version only.
    pub fn update(&mut self, host: &Host) {
        // The port has to be free first.
        self.server.end();
        self.server = serve(host, self.version.other());
    }
}

fn serve(host: &Host, version: Tls) -> Process {
    let files = certificates();
    let mut command = host.command("openssl");
    command.args(["s_server", "-accept", &PORT.to_string(), version.flag(), "-www"]);
    command.arg("-key").arg(files.path().join("server.key"));
    command.arg("-cert").arg(files.path().join("server.crt"));
    Process::start("openssl s_server".to_owned(), files, command)
}

fn crowd(clients: &Host, version: Tls) -> Crowd {
    let server = SocketAddr::new(Lan::address(OURS), PORT);
    let flag = version.flag();
    let mut command = clients.command("sh");
    let script = format!(
        "for try in $(seq 1000); do openssl s_client -connect {server} {flag} </dev/null 2>&1; sleep 0.1; done"
    );
    command.args(["-c", &script]);
    let directory = TempDir::new().expect("a temporary directory");
    Crowd { _process: Process::start("the clients".to_owned(), directory, command) }
}

/// Clients that come again and again.
#[derive(Debug)]
pub struct Crowd {
    _process: Process,
}

/// What is due.
#[must_use]
pub fn due() -> Alarm {
    Alarm::inbound("AbortedEarly", phones(), PORT)
}

/// Plays it, with a server that speaks `version` only.
pub fn play(story: &mut Story, version: Tls) {
    let lan = Lan::new();
    let host = lan.host("entrance", OURS);
    let entrance = Entrance::start(&lan, &host, version);
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    let capture = Capture::of_talk(&host, "tcp");
    story.note(format_args!("the server requires {version:?}, and the phones speak {:?}", version.other()));
    let phones = entrance.phones();
    for _ in 0..20 {
        story.holds(entrance.visit(), "a client that speaks the server's version was not served");
    }
    exactly(story, &agent, &[due()], Duration::from_mins(1));
    drop(phones);
    // The last of them may still be at it.
    thread::sleep(WITHIN);
    let wire = capture.stop();
    let server = (Lan::address(OURS), PORT);
    for (who, number) in [("phones", PHONES), ("desktops", DESKTOPS)] {
        let client = Lan::address(number);
        let (peer, port) = (client.to_string(), PORT.to_string());
        let of = Series { peer: &peer, port: &port, direction: "inbound" };
        let aborted = wire.aborted_early(client, server, WITHIN, BYTES);
        story.holds(
            (aborted > 0) == (number == PHONES),
            format_args!("{aborted} connections of {who} were aborted"),
        );
        story.same_count(&format!("aborted connections of {who}"), aborted, &agent, || {
            agent.scrape().peer("peer_aborted_early_total", of, &[])
        });
        let accepted = wire.accepted(client, server);
        story.same_count(&format!("connections of {who}"), accepted, &agent, || {
            agent.scrape().peer("peer_connections_total", of, &[])
        });
    }
    reports::names(story, &agent, &["aborted_early"]);
}
