//! The JSON API against its description, docs/openapi.yaml: every path, every kind of answer, every kind of event.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod view;

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path, sync::Arc};

use jsonschema::Draft;
use serde_json::{Value, json};
use tcpwarden::{
    model::{
        AccountId, Snapshot,
        names::{Between, Change, Failover},
        past::{Field, Happened, Sample, Span},
        pool::{Circling, EphemeralFigures, Load, Outgrown, Range, Ranges},
        port_map::{PortMap, PortState},
    },
    serve::{Limits, Lookup, Nobody, Options, Protection, View, serve_stream},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime,
    sync::watch,
    time::Instant,
};

/// The group of the view, as a path has it.
const PEER: &str = "seoul%20%22nat%22";

/// Whoever remembers something of everything.
struct Everything;

impl Lookup for Everything {
    fn samples(&self, _: &AccountId, span: Span) -> anyhow::Result<Vec<(u64, Sample)>> {
        let mut foreseen = Sample::default();
        (foreseen[Field::PoolSize], foreseen[Field::PortsTaken], foreseen[Field::SecondsLeft]) = (64, 32, 12);
        Ok(vec![(span.from, Sample::default()), (span.from + 1, foreseen)])
    }

    fn events(&self, _: Span, _: usize) -> anyhow::Result<Vec<Happened>> {
        Ok(serde_json::from_value(events())?)
    }

    fn ports(&self, _: &AccountId) -> anyhow::Result<(IpAddr, PortMap)> {
        let mut map = PortMap::new(Some(&Ranges::whole(&[(2_048, 2_111)])), None);
        for (port, state) in [
            (2_049, PortState::Live),
            (2_050, PortState::TimeWait),
            (2_060, PortState::Refused),
            (2_061, PortState::Elsewhere),
        ] {
            map.set(port, state);
        }
        Ok(([192, 0, 2, 1].into(), map))
    }
}

/// One of each kind.
fn events() -> Value {
    let alert = |event, port: Option<u16>| {
        json!({
            "time": 1.5, "event": event, "alert": "PortReuseRefused", "severity": "critical", "peer": "192.0.2.1", "port": port,
            "direction": "inbound", "name": "", "since": 1, "text": "what was found",
        })
    };
    json!([
        {"time": 1.5, "event": "agent_started", "version": "0.1.0"},
        {"time": 1.5, "event": "agent_stopped"},
        {"time": 1.5, "event": "config_reloaded", "successful": true},
        {"time": 1.5, "event": "settings", "values": {"net.ipv4.tcp_fin_timeout": 60}, "unknown": ["stalled"]},
        {"time": 1.5, "event": "setting_changed", "name": "net.ipv4.tcp_tw_reuse", "before": 2, "after": null},
        {"time": 1.5, "event": "listener_opened", "port": 443},
        {"time": 1.5, "event": "listener_closed", "port": 443},
        {"time": 1.5, "event": "listener_restarted", "port": 443},
        {"time": 1.5, "event": "traffic_step", "peer": "nat", "port": 443, "direction": "inbound", "before": 1.0, "after": 9.5},
        {"time": 1.5, "event": "pool_known", "peer": "nat", "port": 443, "direction": "inbound", "ports": "2048-2111", "size": 64,
         "configured": false},
        {"time": 1.5, "event": "block_outgrown", "peer": "nat", "port": 443, "direction": "inbound", "text": "which block"},
        alert("alert_raised", Some(443)),
        alert("alert_goes_on", Some(443)),
        alert("alert_changed", Some(443)),
        alert("alert_over", None),
        {"time": 1.5, "event": "notices", "receiver": "ops", "outcome": "delivered", "notices": 3},
        {"time": 1.5, "event": "refused_reuse", "peer": "192.0.2.1", "peer_port": 2050, "address": "192.0.2.9", "port": 443,
         "state": "established", "end": "gave_up", "retries": 3, "waited_seconds": 7.0, "answers": {"ack": 4, "reset": 0, "none": 0}},
        {"time": 1.5, "event": "address_changed", "name": "db", "port": 3306, "address": "192.0.2.2", "came": true},
        {"time": 1.5, "event": "failover", "name": "db", "port": 3306, "old": "192.0.2.1", "new": "192.0.2.2", "first_failure": 1.0,
         "first_success_new": 1.5, "unnoticed_seconds": null, "dns_seconds": 0.25, "reconnect_seconds": 0.25, "outage_seconds": null},
    ])
}

/// What the view of all tests leaves empty is filled.
fn view() -> View {
    let mut snapshot = view::snapshot();
    let between = Between { earliest_ns: Some(1), latest_ns: 3 };
    for name in Arc::make_mut(&mut snapshot.names) {
        let address = name.addresses.first_mut().expect("it has addresses");
        (address.left, address.called_ns) = (Some(between), 5);
        name.changes = vec![Change { address: address.address, came: false, when: between }];
    }
    let block = Range { low: 2_048, high: 2_111, step: 1 };
    for pool in snapshot.accounts.iter_mut().filter_map(|account| account.pool.as_mut()) {
        pool.outgrown = Some(Outgrown { blocks: vec![block], refused: 7, all_refused: 8, seconds: 60 });
        pool.circling = Some(Circling { block, rate: 2.0, round_seconds: 32.0, refusal_seconds: 16.0 });
    }
    snapshot.accounts[1].ephemeral = Some(EphemeralFigures {
        size: 28_232,
        local: Some([192, 0, 2, 1].into()),
        local_addresses: 1,
        load: Load { time_wait: 31.0, live: 1.0, rate: 1.0, ends: [0.5; 60] },
        reuses: false,
        exhaustion_seconds: 80.0,
    });
    let failover = Failover {
        name: Arc::from("db"),
        port: 3306,
        old: [192, 0, 2, 1].into(),
        new: [192, 0, 2, 2].into(),
        last_success_ns: Some(1),
        first_failure_ns: 2,
        dns_changed: Some(between),
        first_success_ns: 4,
    };
    let unnoticed = Failover { last_success_ns: None, dns_changed: None, ..failover.clone() };
    let snapshot = Snapshot { failovers: [failover, unnoticed].into(), ..snapshot };
    View { snapshot: Arc::new(snapshot), alerts: view::alerts() }
}

/// The answer of a server with such a view and such a past.
fn ask(view: Option<View>, lookup: Arc<dyn Lookup>, path: &str) -> Answer {
    let options = Options {
        host: "web1".to_owned(),
        telemetry_path: "/metrics".to_owned(),
        max_requests: Some(40),
        protection: Protection::load(None).expect("no file, no mistake"),
        limits: Limits::default(),
        lookup,
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let text = runtime.block_on(async {
        let (_sender, snapshots) = watch::channel(view.map(|view| (Instant::now(), Arc::new(view))));
        let (mut ours, theirs) = duplex(64 * 1024);
        let client = async {
            let request = format!("GET {path} HTTP/1.0\r\nHost: web1\r\n\r\n");
            ours.write_all(request.as_bytes()).await.expect("a stream in memory");
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.expect("text");
            answer
        };
        tokio::join!(serve_stream(theirs, options, snapshots), client).1
    });
    let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().to_owned();
    Answer { status, kind, body: body.to_owned() }
}

struct Answer {
    status: String,
    /// Its content type.
    kind: String,
    body: String,
}

fn file() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.yaml");
    fs::read_to_string(file).expect("the description is there")
}

fn description() -> Value {
    serde_saphyr::from_str(&file()).expect("YAML")
}

/// The paths of the description.
fn documented(description: &Value) -> BTreeSet<String> {
    description["paths"].as_object().expect("paths").keys().cloned().collect()
}

/// What the description says of a path's answers.
fn responses<'a>(description: &'a Value, path: &str) -> &'a serde_json::Map<String, Value> {
    description["paths"][path]["get"]["responses"].as_object().expect("responses")
}

/// A path with an account that there is.
fn filled(path: &str) -> String {
    path.replace("{peer}", PEER).replace("{direction}", "inbound").replace("{port}", "443")
}

/// Holds an answer against what is documented of its path.
fn check(description: &Value, path: &str, status: &str, answer: &Answer) {
    assert_eq!(answer.status, status, "{path}: {}", answer.body);
    let response = &responses(description, path)[status];
    let response = match response["$ref"].as_str() {
        Some(place) => description.pointer(&place[1..]).expect("it is there"),
        None => response,
    };
    let kinds: Vec<&String> = response["content"].as_object().expect("a content").keys().collect();
    assert_eq!(kinds, [&answer.kind], "{path}");
    if answer.kind != "application/json" {
        return;
    }
    let mut schema = response["content"]["application/json"]["schema"].clone();
    schema["components"] = description["components"].clone();
    let schema = jsonschema::options().with_draft(Draft::Draft202012).build(&schema).expect("a schema");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(body.as_array().is_none_or(|items| !items.is_empty()), "{path} tells nothing");
    let complaints: Vec<String> =
        schema.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(complaints.is_empty(), "{path}: {}", complaints.join("\n"));
}

#[test]
fn every_answer_is_as_documented() {
    let description = description();
    for path in documented(&description) {
        let answer = ask(Some(view()), Arc::new(Everything), &filled(&path));
        check(&description, &path, "200", &answer);
    }
}

#[test]
fn what_the_server_has_is_documented() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/mod.rs");
    let server = fs::read_to_string(server).expect("source text");
    let routes = server.split('"').filter(|text| text.starts_with("/api/")).map(str::to_owned);
    assert_eq!(documented(&description()), routes.collect());
}

#[test]
fn refusals_are_as_documented() {
    let description = description();
    for path in documented(&description) {
        let full = filled(&path);
        for status in responses(&description, &path).keys() {
            match &**status {
                "200" => {}
                "400" => {
                    let number = full.replace("443", "https");
                    let query =
                        ["seconds=soon", "limit=-1", "second=5"].map(|query| format!("{full}?{query}"));
                    let by_port = (number != full).then_some(number);
                    let takes_query =
                        description["paths"][&path]["get"]["parameters"].to_string().contains("seconds");
                    let by_query = query.into_iter().filter(|_| takes_query);
                    for wrong in by_port.into_iter().chain(by_query) {
                        let answer = ask(Some(view()), Arc::new(Everything), &wrong);
                        check(&description, &path, status, &answer);
                    }
                }
                "404" => {
                    for (what, other) in [(PEER, "nobody"), ("inbound", "sideways"), ("443", "444")] {
                        if full.contains(what) {
                            let answer = ask(Some(view()), Arc::new(Everything), &full.replace(what, other));
                            check(&description, &path, status, &answer);
                        }
                    }
                }
                "503" => {
                    // Who answers from the past needs no census.
                    let lookup: Arc<dyn Lookup> = Arc::new(Nobody);
                    check(&description, &path, status, &ask(None, Arc::clone(&lookup), &full));
                    let asks_lookup = ["events", "seconds", "ports"].iter().any(|last| path.ends_with(last));
                    if asks_lookup {
                        check(&description, &path, status, &ask(Some(view()), lookup, &full));
                    }
                }
                other => panic!("{path}: nobody tries {other}"),
            }
        }
    }
}

#[test]
fn every_kind_of_event_is_documented_and_tried() {
    let description = description();
    let schemas = description["components"]["schemas"].as_object().expect("schemas");
    let kinds = |value: &Value| value.as_str().map(str::to_owned);
    let documented: BTreeSet<String> = schemas
        .values()
        .filter_map(|schema| schema["properties"]["event"]["enum"].as_array())
        .flatten()
        .filter_map(kinds)
        .collect();
    let events = events();
    let tried: BTreeSet<String> =
        events.as_array().expect("events").iter().filter_map(|event| kinds(&event["event"])).collect();
    // What is none of them is refused with the list of all.
    let refused =
        serde_json::from_value::<Happened>(json!({"time": 1.0, "event": "no such"})).expect_err("refused");
    let refused = refused.to_string();
    let known: BTreeSet<String> = refused.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert_eq!(documented, known, "{refused}");
    assert_eq!(tried, known);
}

/// Each object with fields of its own requires all of them and allows no others, so that the other tests miss nothing.
fn assert_closed(schema: &Value) {
    if let Some(properties) = schema["properties"].as_object() {
        let names: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let required =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(names, required);
        assert_eq!(schema["additionalProperties"], false, "{names:?}");
    }
    let inner: Vec<&Value> = match schema {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    for inner in inner {
        assert_closed(inner);
    }
}

#[test]
fn the_description_is_strict_and_served() {
    assert_closed(&description()["components"]["schemas"]);
    assert_eq!(ask(None, Arc::new(Nobody), "/api/v1/openapi.yaml").body, file());
}
