//! The lab's own monitoring, without an agent: an alert passes through it, and ends again, as it would in production.

use std::{
    collections::BTreeSet, fmt::Write as _, fs, io::Write as _, net::SocketAddr, path::Path, thread,
    time::Duration,
};

use lab::{
    eventually,
    host::Host,
    http,
    monitoring::{
        Labels,
        alertmanager::Alertmanager,
        prometheus::Prometheus,
        sink::{Answer, Received, Sink},
    },
};
use serde_json::Value;
use tempfile::NamedTempFile;

lab::scenarios! {
    Others 20 s:
        monitoring_tells_the_sink_of_an_alert_and_of_its_end;
    Others 40 s:
        monitoring_tells_once_of_each_virtual_address_in_trouble;
    Others 5 s:
        monitoring_sink_answers_as_it_is_told;
}

const EXPORTER: u16 = 9100;
const SINK: u16 = 9099;
const PATIENCE: Duration = Duration::from_secs(20);

const RULES: &str = "
groups:
- name: lab
  rules:
  - alert: PoolFull
    expr: lab_pool_used_ratio > 0.9
    for: 1s
    keep_firing_for: 2s
    labels: { severity: critical }
    annotations: { summary: 'the pool of {{ $labels.peer }} is full' }
";

const ALERTMANAGER: &str = "
route: { receiver: sink, group_by: [alertname], group_wait: 1s, group_interval: 1s }
receivers:
- name: sink
  webhook_configs:
  - { url: 'http://127.0.0.1:9099/hook?of=lab', send_resolved: true }
";

/// Exposition of one pool, with a label that only a careful client carries through unharmed.
fn pool(used: f64) -> String {
    format!("# TYPE lab_pool_used_ratio gauge\nlab_pool_used_ratio{{peer=\"a+b & c\"}} {used}\n")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Status and labels of each alert in a webhook's payload.
fn payload(received: &Received) -> Vec<(String, Labels)> {
    let body: Value = serde_json::from_str(&received.body).expect("the payload is JSON");
    let alerts = body["alerts"].as_array().expect("the payload has alerts");
    let alert = |alert: &Value| {
        let status = alert["status"].as_str().expect("an alert has a status").to_owned();
        (status, serde_json::from_value(alert["labels"].clone()).expect("an alert has labels"))
    };
    alerts.iter().map(alert).collect()
}

fn monitoring_tells_the_sink_of_an_alert_and_of_its_end() {
    let host = Host::new("monitor");
    let exporter = Sink::start(&host, EXPORTER);
    exporter.page(&pool(0.5));
    let sink = Sink::start(&host, SINK);
    let alertmanager = Alertmanager::start(&host, Alertmanager::PORT, ALERTMANAGER);
    let elsewhere = Alertmanager::start(&host, 9193, ALERTMANAGER);
    let mut rules = NamedTempFile::new().expect("a temporary file");
    rules.write_all(RULES.as_bytes()).expect("a file with rules");
    let prometheus = Prometheus::start(
        &host,
        &format!(
            "
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ['{}']
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}] }}
scrape_configs:
- {{ job_name: lab, static_configs: [{{ targets: ['127.0.0.1:{EXPORTER}'] }}] }}
",
            rules.path().display(),
            Alertmanager::PORT,
        ),
    );
    eventually(PATIENCE, || prometheus.targets_up());
    eventually(PATIENCE, || match prometheus.alertmanagers().as_slice() {
        [url] if url.starts_with("http://127.0.0.1:9093/") => Ok(()),
        other => Err(format!("Prometheus sends to {other:?}")),
    });
    let series = [("peer", "a+b & c"), ("instance", "127.0.0.1:9100"), ("job", "lab")];
    let told = prometheus.query(r#"lab_pool_used_ratio{peer=~"a\\+b & .+"} + 0"#);
    assert_eq!(told, [(labels(&series), 0.5)]);
    assert!(prometheus.alerts().is_empty() && alertmanager.alerts().is_empty() && sink.received().is_empty());

    // The incident; whoever is notified fails at first.
    sink.answer(Answer::Status(500));
    exporter.page(&pool(1.0));
    let alert = labels(&[&series[..], &[("alertname", "PoolFull"), ("severity", "critical")]].concat());
    eventually(PATIENCE, || match prometheus.alerts().as_slice() {
        [only] if only.state == "firing" => {
            assert_eq!((&only.labels, only.value), (&alert, 1.0));
            Ok(())
        }
        other => Err(format!("at Prometheus: {other:?}")),
    });
    eventually(PATIENCE, || match sink.received().as_slice() {
        [first, again, ..] if first.body == again.body => Ok(()),
        other => Err(format!("no notification was sent again: {other:?}")),
    });
    sink.answer(Answer::Status(200));
    let held = alertmanager.alerts();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!((&held[0].labels, held[0].status.state.as_str()), (&alert, "active"));
    assert_eq!(held[0].annotations, labels(&[("summary", "the pool of a+b & c is full")]));
    assert!(held[0].starts_at < held[0].ends_at, "{held:?}");
    assert!(elsewhere.alerts().is_empty(), "nobody told the other");
    for post in sink.received() {
        assert_eq!(post.path, "/hook?of=lab");
        assert_eq!(post.headers["content-type"], "application/json");
        assert_eq!(payload(&post), [("firing".to_owned(), alert.clone())]);
    }

    // Its end.
    exporter.page(&pool(0.5));
    eventually(PATIENCE, || match payload(&sink.received()[sink.received().len() - 1]).as_slice() {
        [(status, labels)] if status == "resolved" => {
            assert_eq!(labels, &alert);
            Ok(())
        }
        other => Err(format!("the last notification tells {other:?}")),
    });
    assert!(prometheus.alerts().is_empty() && alertmanager.alerts().is_empty());
    let posts = sink.received();
    assert!(posts.is_sorted_by_key(|post| post.at), "{posts:?}");
}

/// Virtual addresses that one peer calls, each with three servers, and the seconds until the first refusal there, as each server tells.
const FLEET: [(&str, &str); 3] = [("shop", "13.6"), ("mail", "14"), ("blog", "+Inf")];

/// What the agents of all servers say: each sees a third of the 4,096 ports.
fn fleet() -> String {
    let mut page = String::new();
    for (vip, left) in FLEET {
        for server in 1..=3 {
            let server = format!("vip=\"{vip}\",instance=\"{vip}{server}:9796\"");
            let peer = format!("{server},peer=\"192.0.2.1\",port=\"443\",direction=\"inbound\"");
            let _ = writeln!(
                page,
                "tcpwarden_build_info{{{server}}} 1\ntcpwarden_peer_pool_size{{{peer},source=\"observed\"}} 4096\n\
                 tcpwarden_peer_pool_used_ports{{{peer}}} 840\ntcpwarden_peer_pool_used_ratio{{{peer}}} 0.205\n\
                 tcpwarden_peer_pool_exhaustion_seconds{{{peer}}} {left}"
            );
        }
    }
    page
}

/// The alert of an agent that sends it itself, which knows of no virtual address.
const OF_AN_AGENT: &str = "
groups:
- name: agent
  rules:
  - alert: TimeWaitNearPoolLimit
    expr: vector(1)
    # Until Prometheus knows where Alertmanager is.
    for: 10s
    labels: { severity: critical, instance: shop1, peer: 192.0.2.1, port: '443', direction: inbound }
";

fn monitoring_tells_once_of_each_virtual_address_in_trouble() {
    let host = Host::new("monitor");
    let exporter = Sink::start(&host, EXPORTER);
    exporter.page(&fleet());
    let sink = Sink::start(&host, SINK);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let config =
        fs::read_to_string(deploy.join("alertmanager/alertmanager.yml")).expect("the example is there");
    let config = ["chat", "pager"].into_iter().fold(config, |text, name| {
        let url = format!("https://{name}.example.net/hooks/tcpwarden");
        assert!(text.contains(&url), "the example has no {url}");
        text.replace(&url, &format!("http://127.0.0.1:{SINK}/{name}"))
    });
    let alertmanager = Alertmanager::start(&host, Alertmanager::PORT, &config);
    let mut rules = NamedTempFile::new().expect("a temporary file");
    rules.write_all(OF_AN_AGENT.as_bytes()).expect("a file with rules");
    let shipped = deploy.join("prometheus/tcpwarden*-rules.yml");
    let _prometheus = Prometheus::start(
        &host,
        &format!(
            "
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ['{}', '{}']
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}] }}
scrape_configs:
- {{ job_name: lab, honor_labels: true, static_configs: [{{ targets: ['127.0.0.1:{EXPORTER}'] }}] }}
",
            shipped.display(),
            rules.path().display(),
            Alertmanager::PORT,
        ),
    );
    // Fleet and servers warn and are critical, of two virtual addresses; and the one agent.
    let expected = 2 * (2 + 3 * 2) + 1;
    let told = |state: &str| -> Vec<Labels> {
        let held = alertmanager.alerts().into_iter();
        held.filter(|alert| alert.status.state == state).map(|alert| alert.labels).collect()
    };
    let fleet = "FleetTimeWaitNearPoolLimit";
    eventually(Duration::from_mins(1), || {
        let (active, suppressed) = (told("active"), told("suppressed"));
        let is_one = |vip: &str| {
            active.iter().any(|labels| {
                [("alertname", fleet), ("severity", "critical"), ("vip", vip)]
                    .into_iter()
                    .all(|(name, value)| labels.get(name).is_some_and(|own| own == value))
            })
        };
        if active.len() == 2 && suppressed.len() == expected - 2 && is_one("shop") && is_one("mail") {
            Ok(())
        } else {
            Err(format!("active: {active:#?}, suppressed: {suppressed:#?}"))
        }
    });
    // What is told of a fleet is told to whom a critical alert is, once.
    let groups = || -> Vec<(String, Value)> {
        let posts = sink.received().into_iter();
        let groups = posts.map(|post| {
            let body: Value = serde_json::from_str(&post.body).expect("the payload is JSON");
            (post.path, body["groupLabels"].clone())
        });
        groups.filter(|(_, group)| group["alertname"] == fleet).collect()
    };
    eventually(PATIENCE, || if groups().len() >= 2 { Ok(()) } else { Err(format!("{:?}", groups())) });
    let groups = groups();
    assert!(groups.iter().all(|(path, _)| path == "/pager"), "{groups:?}");
    let vips: BTreeSet<&str> = groups.iter().filter_map(|(_, group)| group["vip"].as_str()).collect();
    assert_eq!((vips, groups.len()), (BTreeSet::from(["mail", "shop"]), 2), "{groups:?}");
    let of_servers = |post: &Received| {
        payload(post).iter().any(|(_, labels)| labels.contains_key("vip") && labels["alertname"] != fleet)
    };
    assert!(!sink.received().iter().any(of_servers), "{:?}", sink.received());
}

fn monitoring_sink_answers_as_it_is_told() {
    let host = Host::new("monitor");
    let sink = Sink::start(&host, SINK);
    sink.page("a page");
    let address = SocketAddr::from(([127, 0, 0, 1], SINK));
    let get = || http::get(&host, address, "/");
    assert_eq!(get(), Some((200, "a page".to_owned())));
    for status in [500, 429] {
        sink.answer(Answer::Status(status));
        assert_eq!(get(), Some((status, String::new())));
    }

    sink.answer(Answer::Refuse);
    assert!(host.sh("ss -Htln").is_empty(), "the port is closed");
    assert_eq!(get(), None);

    sink.answer(Answer::Hang);
    for end in [Answer::Status(200), Answer::Refuse] {
        let answer = thread::scope(|scope| {
            let waiting = scope.spawn(get);
            thread::sleep(Duration::from_millis(500));
            assert!(!waiting.is_finished(), "nobody was answered");
            sink.answer(end);
            waiting.join().expect("it asks")
        });
        assert_eq!(answer.is_some(), end != Answer::Refuse, "{answer:?}");
        sink.answer(Answer::Hang);
    }
    drop(sink);
    assert!(host.sh("ss -Htln").is_empty(), "the port is closed");
}
