//! Name servers of our own, on loopback, that answer as told: their messages are put together here, byte by byte.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket as Socket},
    thread,
};

use tokio::{runtime, sync::mpsc::unbounded_channel};

use super::*;

/// What a server does with a question for a name (in lower case) and type (1 is A, 28 is AAAA).
type Answer = fn(&str, u16) -> Say;

#[derive(Clone)]
enum Say {
    Addresses(Vec<&'static str>),
    Code(u8),
    Bytes(&'static [u8]),
    Truncated,
    Silence,
}

/// The message that says it.
fn message(question: &[u8], say: &Say) -> Option<Vec<u8>> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let mut answer = question[..end].to_vec();
    answer[2] |= 0x80;
    match say {
        Say::Silence => return None,
        Say::Bytes(bytes) => return Some([&question[..2], bytes].concat()),
        Say::Code(code) => answer[3] = 0x80 | code,
        Say::Truncated => answer[2] |= 0x02,
        Say::Addresses(addresses) => {
            answer[6..8].copy_from_slice(&u16::try_from(addresses.len()).ok()?.to_be_bytes());
            for address in addresses {
                answer.extend([0xc0, 12, 0]);
                match address.parse().ok()? {
                    std::net::IpAddr::V4(v4) => {
                        answer.extend([1, 0, 1, 0, 0, 0, 60, 0, 4]);
                        answer.extend(v4.octets());
                    }
                    std::net::IpAddr::V6(v6) => {
                        answer.extend([28, 0, 1, 0, 0, 0, 60, 0, 16]);
                        answer.extend(v6.octets());
                    }
                }
            }
        }
    }
    Some(answer)
}

fn asked(question: &[u8]) -> (String, u16) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] > 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), u16::from_be_bytes([question[at + 1], question[at + 2]]))
}

/// A server that answers over UDP, and to the same address over TCP what `large` says.
fn server(answer: Answer, large: Answer) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("an address");
    let udp = Socket::bind(address).expect("the same port");
    thread::spawn(move || {
        let mut buffer = [0; 1_500];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let (name, kind) = asked(&buffer[..length]);
            if let Some(message) = message(&buffer[..length], &answer(&name, kind)) {
                let _ = udp.send_to(&message, from);
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).expect("a question");
            let (name, kind) = asked(&question);
            if let Some(message) = message(&question, &large(&name, kind)) {
                let length = u16::try_from(message.len()).expect("short enough");
                stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).expect("sent");
            }
        }
    });
    address
}

fn silent(_: &str, _: u16) -> Say {
    Say::Silence
}

/// What a round over `names` finds out, by name, and how long it took.
fn lookups(conf: Conf, names: &[&str]) -> (HashMap<String, Lookup>, Duration) {
    let begun = Instant::now();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (done, mut lookups) = unbounded_channel();
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    runtime.block_on(run(Arc::new(conf), names, done));
    let mut found = HashMap::new();
    while let Ok(lookup) = lookups.try_recv() {
        let before = found.insert(lookup.name.to_string(), lookup);
        assert!(before.is_none(), "told twice");
    }
    (found, begun.elapsed())
}

/// As long as a silent server is waited for: whoever takes less has not waited for one.
const PATIENCE: Duration = Duration::from_secs(8);

fn conf(servers: Vec<SocketAddr>) -> Conf {
    Conf::of_servers(servers, PATIENCE)
}

fn listed(addresses: &[&str]) -> Listing {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    Listing::Listed(addresses, 0)
}

const NODATA: Listing = Listing::Nothing { exists: true };

#[test]
fn each_family_is_told_for_each_name() {
    let answer: Answer = |name, kind| match (name, kind) {
        ("both.example", 1) => Say::Addresses(vec!["192.0.2.2", "192.0.2.1"]),
        ("both.example", _) => Say::Addresses(vec!["2001:db8::1"]),
        ("six.example", 28) => Say::Addresses(vec!["2001:db8::6"]),
        ("none.example", _) => Say::Code(3),
        _ => Say::Addresses(Vec::new()),
    };
    let (found, took) =
        lookups(conf(vec![server(answer, silent)]), &["both.example", "six.example", "none.example"]);
    assert_eq!(found["both.example"].v4, listed(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(found["both.example"].v6, listed(&["2001:db8::1"]));
    assert_eq!((&found["six.example"].v4, &found["six.example"].v6), (&NODATA, &listed(&["2001:db8::6"])));
    assert_eq!(found["none.example"].v4, Listing::Nothing { exists: false });
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_name_that_nobody_answers_for_keeps_no_other() {
    let answer: Answer = |name, kind| match (name, kind) {
        ("slow.example", _) => Say::Silence,
        (_, 1) => Say::Addresses(vec!["192.0.2.1"]),
        _ => Say::Addresses(Vec::new()),
    };
    let patience = Duration::from_millis(1_500);
    let conf = Conf::of_servers(vec![server(answer, silent)], patience);
    let (found, _) = lookups(conf, &["slow.example", "fast.example"]);
    let took = |name: &str| found[name].answered - found[name].asked;
    assert!(took("fast.example") < patience && took("slow.example") >= patience, "{found:?}");
    assert_eq!(
        (&found["slow.example"].v4, &found["slow.example"].v6),
        (&Listing::TimedOut, &Listing::TimedOut)
    );
}

#[test]
fn a_family_that_nobody_answers_for_is_not_waited_for_long_and_is_unknown() {
    let answer: Answer = |_, kind| if kind == 1 { Say::Addresses(vec!["192.0.2.1"]) } else { Say::Silence };
    let (found, took) = lookups(conf(vec![server(answer, silent)]), &["db.example"]);
    let Lookup { v4, v6, .. } = &found["db.example"];
    assert_eq!((v4, v6), (&listed(&["192.0.2.1"]), &Listing::TimedOut));
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_server_that_is_broken_or_gone_hands_over_to_the_next() {
    let right: Answer =
        |_, kind| if kind == 1 { Say::Addresses(vec!["192.0.2.1"]) } else { Say::Addresses(vec![]) };
    for broken in [
        (|_, _| Say::Code(2)) as Answer,
        |_, _| Say::Bytes(b"\x81\x80\0\x01\0\x01\0\0\0\0\xff\xff\xff"),
        |_, _| Say::Bytes(b"\x80"),
    ] {
        let servers = vec![server(broken, silent), server(right, silent)];
        let (found, _) = lookups(conf(servers), &["db.example"]);
        assert_eq!(found["db.example"].v4, listed(&["192.0.2.1"]));
    }
    let nobody = Socket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let (found, took) = lookups(conf(vec![nobody, server(right, silent)]), &["db.example"]);
    assert_eq!(found["db.example"].v4, listed(&["192.0.2.1"]));
    assert!(took < PATIENCE, "who is not there is not waited for: {took:?}");
}

#[test]
fn what_the_last_server_said_is_why_nobody_knows() {
    let (found, _) = lookups(conf(vec![server(|_, _| Say::Code(2), silent)]), &["db.example"]);
    assert_eq!(found["db.example"].v4, Listing::Failed("127.0.0.1 answers SERVFAIL".to_owned()));
    let nobody = Socket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let (found, _) = lookups(conf(vec![nobody]), &["db.example"]);
    let Listing::Failed(why) = &found["db.example"].v4 else { panic!("{found:?}") };
    assert!(why.starts_with("127.0.0.1 cannot be asked: Connection refused"), "{why}");
}

#[test]
fn what_is_lost_is_sent_again() {
    static HEARD: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let answer: Answer = |_, _| {
        let first = HEARD.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
        if first { Say::Silence } else { Say::Addresses(vec!["192.0.2.1"]) }
    };
    let (found, took) = lookups(conf(vec![server(answer, silent)]), &["db.example"]);
    assert_eq!(found["db.example"].v4, listed(&["192.0.2.1"]));
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_large_answer_comes_over_tcp() {
    let thousand: Answer = |_, kind| {
        if kind == 28 {
            return Say::Addresses(Vec::new());
        }
        let address = |n: u32| &*format!("10.0.{}.{}", n / 256, n % 256).leak();
        Say::Addresses((0..1_000).map(address).collect())
    };
    let (found, _) = lookups(conf(vec![server(|_, _| Say::Truncated, thousand)]), &["db.example"]);
    let Listing::Listed(addresses, left_out) = &found["db.example"].v4 else { panic!("{found:?}") };
    assert_eq!((addresses.len(), *left_out), (64, 936));
    let (found, _) = lookups(conf(vec![server(|_, _| Say::Truncated, silent)]), &["db.example"]);
    assert!(matches!(&found["db.example"].v4, Listing::Failed(why) if why.contains("over TCP")), "{found:?}");
}

#[test]
fn the_search_list_is_followed_until_a_name_is_known() {
    let answer: Answer = |name, kind| match (name, kind) {
        ("db.corp.example", 1) => Say::Addresses(vec!["192.0.2.1"]),
        ("db.corp.example", _) => Say::Addresses(Vec::new()),
        _ => Say::Code(3),
    };
    let conf = conf(vec![server(answer, silent)]).with_search("other.example").with_search("corp.example");
    let (found, _) = lookups(conf, &["db", "nobody"]);
    assert_eq!(found["db"].v4, listed(&["192.0.2.1"]));
    assert_eq!(found["nobody"].v4, Listing::Nothing { exists: false });
}
