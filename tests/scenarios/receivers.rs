//! Receivers that are down, slow, picky or restarted, and an agent that is: each hears what is true, once.

use std::{collections::BTreeMap, net::IpAddr, path::Path, process::Command, thread, time::Duration};

use lab::{
    agent::{Agent, Config},
    certificates::certificates,
    eventually,
    host::Host,
    journal::Journal,
    monitoring::{
        alertmanager::Alertmanager,
        sink::{Answer, Received, Sink},
    },
    traffic::Traffic,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

lab::scenarios! {
    Others 30 s:
        receivers_that_are_down_cost_nothing_and_hear_the_state_of_now;
    Others 20 s:
        a_restart_announces_nothing_twice_and_ends_what_is_over,
        every_bad_file_is_refused_and_the_old_one_stays_in_force;
    Others 10 s:
        an_alertmanager_with_tls_and_a_password,
        the_journal_has_an_alert_with_its_parts_as_fields;
    Others 5 s:
        a_reload_keeps_what_is_told_and_takes_up_new_receivers,
        a_signature_that_openssl_makes_too,
        check_says_who_cannot_be_reached_and_what_overlaps;
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Queues are judged at once, so that a play is short.
const FAST: &str = "[alerts.ListenQueueOverflow]\nfor = \"1s\"\nkeep_firing_for = \"2s\"\n";

/// A listener whose accept queue is full, of its backlog and one more, which raises ListenQueueOverflow for its port until this is dropped:
/// a warning, since nobody else comes.
struct FullQueue {
    _clients: Traffic,
    _server: Traffic,
}

fn full_queue(host: &Host, port: u16) -> FullQueue {
    let address = IpAddr::from([127, 0, 0, 1]);
    let server = Traffic::deaf(host, address, port, 3);
    let mut clients = Traffic::connect(host, address, port, 4, "hold");
    assert_eq!(clients.connected(), [""; 0]);
    FullQueue { _clients: clients, _server: server }
}

fn webhook(name: &str, port: u16) -> String {
    format!("[[receiver]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/{name}\"\n")
}

/// Port and status of every alert that was posted, in order.
fn told(posts: &[Received]) -> Vec<(u16, String)> {
    let alerts = posts.iter().flat_map(|post| {
        let body: Value = serde_json::from_str(&post.body).expect("a post is JSON");
        body["alerts"].as_array().expect("it holds alerts").clone()
    });
    alerts
        .map(|alert| {
            assert_eq!(alert["labels"]["alertname"], "ListenQueueOverflow", "{alert}");
            let port = alert["labels"]["port"].as_str().expect("a port").parse().expect("a number");
            (port, alert["status"].as_str().expect("a status").to_owned())
        })
        .collect()
}

fn pairs(expected: &[(u16, &str)]) -> Vec<(u16, String)> {
    expected.iter().map(|&(port, status)| (port, status.to_owned())).collect()
}

/// What a receiver believes of each port after all it was told.
fn believes(posts: &[Received]) -> BTreeMap<u16, String> {
    told(posts).into_iter().collect()
}

/// Waits until the agent says that so many alerts of queues are raised.
fn raised(agent: &Agent<'_>, ports: &[u16]) {
    eventually(PATIENCE, || {
        let (_, body) = agent.get("/api/v1/alerts").expect("the agent answers");
        let alerts: Value = serde_json::from_str(&body).expect("JSON");
        let found = alerts.as_array().expect("a list").iter().filter_map(|alert| alert["port"].as_u64());
        let mut found: Vec<u64> = found.collect();
        found.sort_unstable();
        if found == ports.iter().map(|&port| u64::from(port)).collect::<Vec<_>>() {
            Ok(())
        } else {
            Err(body)
        }
    });
}

fn receivers_that_are_down_cost_nothing_and_hear_the_state_of_now() {
    let host = Host::new("host");
    let sinks = [("away", 9097), ("hangs", 9098), ("fails", 9099)]
        .map(|(name, port)| (name, Sink::start(&host, port)));
    let receivers = ["away", "hangs", "fails"].into_iter().zip([9097, 9098, 9099]);
    let receivers: String = receivers.map(|(name, port)| webhook(name, port)).collect();
    let config = Config::new(&format!("{FAST}{receivers}"));
    let agent = Agent::start(&host, &config.args());
    let first = full_queue(&host, 7001);
    for (name, sink) in &sinks {
        eventually(PATIENCE, || match told(&sink.received()) {
            told if told == pairs(&[(7001, "firing")]) => Ok(()),
            told => Err(format!("{name} was told {told:?}")),
        });
    }
    let fds = agent.scrape().process("open_fds");
    for ((_, sink), answer) in sinks.iter().zip([Answer::Refuse, Answer::Hang, Answer::Status(500)]) {
        sink.answer(answer);
    }
    drop(first);
    let _second = full_queue(&host, 7002);
    raised(&agent, &[7002]);
    let mut memory = Vec::new();
    for _ in 0..3 {
        // These come and go while nobody listens.
        let passing = full_queue(&host, 7003);
        raised(&agent, &[7002, 7003]);
        drop(passing);
        raised(&agent, &[7002]);
        // A scrape waits for no receiver.
        assert!(agent.get("/healthz").is_some_and(|(status, _)| status == 200));
        memory.push(agent.own_memory_kib());
    }
    eventually(PATIENCE, || {
        let metrics = agent.scrape();
        let failed =
            |name| metrics.value("notifications_total", &[("receiver", name), ("outcome", "failed")]);
        let failed = sinks.each_ref().map(|(name, _)| failed(name).unwrap_or_default());
        if failed.iter().all(|&failed| failed >= 1.0) { Ok(()) } else { Err(format!("failures {failed:?}")) }
    });
    let fds_now = agent.scrape().process("open_fds");
    assert!(fds_now <= fds + 3.0, "each has one connection at most: {fds} files, then {fds_now}");
    assert!(memory[2] <= memory[0] + 1024, "no growth from one time to the next, in KiB: {memory:?}");

    let posts_before = sinks.each_ref().map(|(_, sink)| sink.received().len());
    for (_, sink) in &sinks {
        sink.answer(Answer::Status(200));
    }
    for (name, sink) in &sinks {
        eventually(Duration::from_mins(1), || {
            let mut believes = believes(&sink.received());
            // One that never answered may have heard of it, and then hears of its end.
            if believes.get(&7003).is_some_and(|status| status == "resolved") {
                believes.remove(&7003);
            }
            let right = [(7001, "resolved".to_owned()), (7002, "firing".to_owned())];
            if believes == BTreeMap::from(right) {
                Ok(())
            } else {
                Err(format!("{name} believes {believes:?}"))
            }
        });
    }
    // Who could not hear of what passed was not told of it afterwards either.
    let (_, away) = &sinks[0];
    let news = told(&away.received()[posts_before[0]..]);
    assert_eq!(news, pairs(&[(7001, "resolved"), (7002, "firing")]));
    thread::sleep(Duration::from_secs(3));
    assert_eq!(told(&away.received()[posts_before[0]..]), news, "and nothing twice");
    let metrics = agent.scrape();
    let count = |outcome| metrics.value("notifications_total", &[("receiver", "away"), ("outcome", outcome)]);
    assert_eq!(count("delivered"), Some(3.0), "as the sink counts");
    assert_eq!(count("superseded"), Some(3.0));
}

fn a_restart_announces_nothing_twice_and_ends_what_is_over() {
    let host = Host::new("host");
    let sink = Sink::start(&host, 9099);
    let config = Config::new(&format!("{FAST}{}", webhook("hook", 9099)));
    let state = TempDir::new().expect("a temporary directory");
    let first = full_queue(&host, 7001);
    let _second = full_queue(&host, 7002);
    let agent = Agent::start_with(&host, &config.args(), state.path());
    eventually(PATIENCE, || match told(&sink.received()).len() {
        2 => Ok(()),
        _ => Err(format!("{:?}", sink.received())),
    });
    // The poll that follows the delivery saves that it was told.
    thread::sleep(Duration::from_millis(2_500));
    // No chance to say goodbye: kill -9.
    drop(agent);
    drop(first);
    let agent = Agent::start_with(&host, &config.args(), state.path());
    raised(&agent, &[7002]);
    eventually(PATIENCE, || {
        let mut told = told(&sink.received());
        told.sort();
        let right = pairs(&[(7001, "firing"), (7001, "resolved"), (7002, "firing")]);
        if told == right { Ok(()) } else { Err(format!("{told:?}")) }
    });
    thread::sleep(Duration::from_secs(3));
    assert_eq!(told(&sink.received()).len(), 3, "and nothing more");
    let (_, events) = agent.get("/api/v1/events").expect("the agent answers");
    let events: Vec<Value> = serde_json::from_str(&events).expect("events");
    let restart = events.iter().rposition(|event| event["event"] == "agent_started").expect("it started");
    let since: Vec<(&str, u64)> = events[restart..]
        .iter()
        .filter_map(|event| Some((event["event"].as_str()?, event["port"].as_u64()?)))
        .filter(|(event, _)| event.starts_with("alert"))
        .collect();
    let right = [("alert_goes_on", 7001), ("alert_goes_on", 7002), ("alert_over", 7001)];
    assert_eq!(since, right, "who reads only what came after the restart knows what is raised");
}

fn a_reload_keeps_what_is_told_and_takes_up_new_receivers() {
    let host = Host::new("host");
    let (one, two) = (Sink::start(&host, 9098), Sink::start(&host, 9099));
    let config = Config::new(&format!("{FAST}{}", webhook("one", 9098)));
    let agent = Agent::start(&host, &config.args());
    let _queue = full_queue(&host, 7001);
    let firing = pairs(&[(7001, "firing")]);
    eventually(
        PATIENCE,
        || if told(&one.received()) == firing { Ok(()) } else { Err("not told".to_owned()) },
    );
    config.write(&format!("{FAST}{}{}", webhook("one", 9098), webhook("two", 9099)));
    agent.signal(Signal::HUP);
    eventually(
        PATIENCE,
        || if told(&two.received()) == firing { Ok(()) } else { Err("not told".to_owned()) },
    );
    assert_eq!(told(&one.received()), firing, "it knows already");
}

fn every_bad_file_is_refused_and_the_old_one_stays_in_force() {
    let host = Host::new("host");
    let config = Config::new(FAST);
    let agent = Agent::start(&host, &config.args());
    let in_force = || agent.scrape().value("config_last_reload_successful", &[]) == Some(1.0);
    assert!(in_force());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/tests/config/invalid");
    let files = std::fs::read_dir(directory).expect("the fixtures are there");
    let mut texts: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text")).collect();
    assert!(texts.len() > 40, "{}", texts.len());
    texts.push("# padding\n".repeat(1_000_000));
    for (number, text) in texts.iter().enumerate() {
        config.write(text);
        agent.signal(Signal::HUP);
        eventually(PATIENCE, || {
            let refusals = agent.log().matches("the old configuration stays in force").count();
            if refusals == number + 1 {
                Ok(())
            } else {
                Err(format!("{refusals} refusals, not {}: {text:.300}", number + 1))
            }
        });
    }
    eventually(PATIENCE, || if in_force() { Err("it is not told".to_owned()) } else { Ok(()) });
    // The old one is in force: a queue is judged as fast as it says.
    let queue = full_queue(&host, 7001);
    raised(&agent, &[7001]);
    drop(queue);
    raised(&agent, &[]);
    config.write(FAST);
    agent.signal(Signal::HUP);
    eventually(PATIENCE, || if in_force() { Ok(()) } else { Err("it is not in force".to_owned()) });
}

fn a_signature_that_openssl_makes_too() {
    let host = Host::new("host");
    let sink = Sink::start(&host, 9099);
    let secret = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(secret.path(), "a secret of ours\n").expect("written");
    let path = secret.path().display();
    let config = Config::new(&format!("{FAST}{}hmac_secret_file = \"{path}\"\n", webhook("hook", 9099)));
    let agent = Agent::start(&host, &config.args());
    let _queue = full_queue(&host, 7001);
    eventually(PATIENCE, || if sink.received().is_empty() { Err("nothing yet".to_owned()) } else { Ok(()) });
    let post = sink.received().remove(0);
    let body = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(body.path(), &post.body).expect("written");
    let openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", "a secret of ours", "-r"])
        .arg(body.path())
        .output()
        .expect("openssl runs");
    let right = String::from_utf8(openssl.stdout).expect("text");
    let right = right.split(' ').next().expect("a digest");
    assert_eq!(post.headers["x-tcpwarden-signature"], format!("sha256={right}"));
    assert_eq!(post.headers["content-type"], "application/json");
    assert!(!agent.log().contains("a secret of ours"));
    let body: Value = serde_json::from_str(&post.body).expect("JSON");
    assert_eq!((&body["version"], &body["status"]), (&Value::from("4"), &Value::from("firing")));
    let annotations = &body["alerts"][0]["annotations"];
    assert_eq!((&annotations["value"], &annotations["limit"]), (&Value::from("1"), &Value::from("0.8")));
    let runbook = annotations["runbook_url"].as_str().expect("a link");
    assert_eq!(runbook, "http://127.0.0.1:9796/runbooks/ListenQueueOverflow");
    let (status, page) = agent.get("/runbooks/ListenQueueOverflow").expect("the link leads there");
    assert!(status == 200 && page.starts_with("# ListenQueueOverflow"), "{page:.100}");
}

fn an_alertmanager_with_tls_and_a_password() {
    let host = Host::new("host");
    let directory = certificates();
    let at = |name: &str| directory.path().join(name).display().to_string();
    // "swordfish", hashed by crypt(3).
    let web = format!(
        "tls_server_config: {{ cert_file: '{}', key_file: '{}' }}\nbasic_auth_users: {{ agent: '$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.' }}\n",
        at("server.crt"),
        at("server.key")
    );
    std::fs::write(directory.path().join("web.yml"), web).expect("written");
    let nobody = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";
    let alertmanager = Alertmanager::start_protected(
        &host,
        9093,
        nobody,
        &directory.path().join("web.yml"),
        "agent:swordfish",
    );
    // printf agent:swordfish | base64
    std::fs::write(directory.path().join("right"), "Basic YWdlbnQ6c3dvcmRmaXNo\n").expect("written");
    std::fs::write(directory.path().join("wrong"), "Basic YWdlbnQ6d3Jvbmc=\n").expect("written");
    let receiver = |name: &str, ca: &str, authorization: &str| {
        format!(
            "[[receiver]]\nname = \"{name}\"\ntype = \"alertmanager\"\nurl = \"https://127.0.0.1:9093\"\n{ca}authorization_file = \"{}\"\n",
            at(authorization)
        )
    };
    let ca = format!("ca_file = \"{}\"\n", at("ca.crt"));
    let config = Config::new(&format!(
        "{FAST}{}{}{}",
        receiver("right", &ca, "right"),
        receiver("stranger", "", "right"),
        receiver("impostor", &ca, "wrong"),
    ));
    let agent = Agent::start(&host, &config.args());
    let _queue = full_queue(&host, 7001);
    let count = |receiver: &str, outcome: &str| {
        agent.scrape().value("notifications_total", &[("receiver", receiver), ("outcome", outcome)])
    };
    eventually(PATIENCE, || {
        let counts =
            (count("right", "delivered"), count("stranger", "failed"), count("impostor", "rejected"));
        match counts {
            (Some(1.0), Some(1.0..), Some(1.0..)) => Ok(()),
            _ => Err(format!("{counts:?}")),
        }
    });
    assert_eq!((count("stranger", "delivered"), count("impostor", "delivered")), (Some(0.0), Some(0.0)));
    assert!(
        agent.log().contains("receiver impostor: not reached, trying again: it answered 401"),
        "{}",
        agent.log()
    );
    let alerts = alertmanager.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let label = |name: &str| alerts[0].labels.get(name).map(String::as_str);
    assert_eq!(
        (label("alertname"), label("port"), label("severity")),
        (Some("ListenQueueOverflow"), Some("7001"), Some("warning"))
    );
    assert!(alerts[0].ends_at > alerts[0].starts_at, "it ends by itself if nobody repeats it");
}

fn the_journal_has_an_alert_with_its_parts_as_fields() {
    let host = Host::new("host");
    let journal = Journal::start();
    let config = Config::new(&format!("{FAST}[[receiver]]\nname = \"journal\"\ntype = \"journal\"\n"));
    let agent = Agent::start_beside(&host, &config.args(), &journal);
    let queue = full_queue(&host, 7001);
    let entries = || journal.entries("TCPWARDEN_ALERT=ListenQueueOverflow");
    eventually(PATIENCE, || if entries().len() == 1 { Ok(()) } else { Err(format!("{:?}", entries())) });
    drop(queue);
    eventually(PATIENCE, || if entries().len() == 2 { Ok(()) } else { Err(format!("{:?}", entries())) });
    let parts = |entry: &Value| {
        ["TCPWARDEN_STATE", "PRIORITY", "TCPWARDEN_SEVERITY", "TCPWARDEN_PORT", "SYSLOG_IDENTIFIER"]
            .map(|field| entry[field].as_str().expect("a field").to_owned())
    };
    let [firing, resolved] = entries().try_into().expect("two");
    // syslog(3): 4 is a warning, 5 is a notice.
    assert_eq!(parts(&firing), ["firing", "4", "warning", "7001", "tcpwarden"]);
    assert_eq!(parts(&resolved), ["resolved", "5", "warning", "7001", "tcpwarden"]);
    let message = firing["MESSAGE"].as_str().expect("a message");
    assert!(message.contains("4 connections wait to be accepted on port 7001"), "{message}");
    assert!(agent.scrape().value("notifications_total", &[("outcome", "failed")]) == Some(0.0));
}

fn check_says_who_cannot_be_reached_and_what_overlaps() {
    let host = Host::new("host");
    let _sink = Sink::start(&host, 9098);
    let peers = "[[peer]]\nname = \"office\"\ncidrs = [\"10.0.0.0/8\"]\n[[peer]]\nname = \"lab\"\ncidrs = [\"10.1.0.0/16\"]\n";
    let config = Config::new(&format!("{peers}{}{}", webhook("there", 9098), webhook("gone", 9099)));
    let check = Agent::once(&host, &[], &["check", config.args()[0], config.args()[1]]);
    assert_eq!(check.code, Some(1), "{check:?}");
    for words in [
        "10.1.0.0/16 of \"lab\" lies in 10.0.0.0/8 of \"office\": the most specific one wins",
        "receiver  there: can be reached",
        "receiver  gone: cannot be reached now, alerts will wait: 127.0.0.1:9099: Connection refused",
    ] {
        assert!(check.stdout.contains(words), "no {words:?} in {check:?}");
    }
}
