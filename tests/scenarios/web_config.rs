//! Web configurations: promtool's verdict and ours, and curl and openssl as clients of what they protect. Only the last
//! scenario needs the kernel side.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use lab::{
    agent::Agent, certificates::certificates, eventually, host::Host, monitoring::prometheus::Prometheus,
};
use tcpwarden::serve::{self, Limits, Nobody, Options, Protection, View};
use tokio::{runtime, sync::watch};

lab::scenarios! {
    Others 10 s:
        prometheus_scrapes_an_agent_that_is_protected;
    Others 5 s:
        promtool_and_the_agent_agree,
        curl_and_openssl_are_let_in_or_not;
}

/// "swordfish", hashed by crypt(3).
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.";

fn run(program: &str, directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).stdin(Stdio::null());
    command.output().expect("curl, openssl and promtool are there (`cargo xtask setup` fetches them)")
}

fn openssl(directory: &Path, args: &str) -> Output {
    run("openssl", directory, &args.split(' ').collect::<Vec<_>>())
}

fn promtool_and_the_agent_agree() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/tests/web-config");
    // What is `unsupported` is refused by the agent alone, each for the reason in the first line of the file.
    for (kind, by_promtool, by_agent) in
        [("valid", true, true), ("invalid", false, false), ("unsupported", true, false)]
    {
        let directory = certificates();
        let mut count = 0;
        for fixture in fs::read_dir(fixtures.join(kind)).expect("the fixtures are there") {
            let fixture = fixture.expect("a file");
            let name = fixture.file_name().into_string().expect("text");
            let copy = directory.path().join(&name);
            fs::copy(fixture.path(), &copy).expect("copied");
            let promtool = run("promtool", directory.path(), &["check", "web-config", &name]);
            assert_eq!(promtool.status.success(), by_promtool, "{kind} {name}: {promtool:?}");
            assert_eq!(Protection::load(Some(&copy)).is_ok(), by_agent, "{kind} {name}");
            count += 1;
        }
        assert!(count > 0, "{kind}");
    }
}

/// Serves for as long as the process lives.
fn serve(directory: &Path, web_config: &str) -> SocketAddr {
    let file = directory.join("web.yml");
    fs::write(&file, web_config).expect("written");
    let options = Options {
        host: "host".to_owned(),
        telemetry_path: "/metrics".to_owned(),
        max_requests: Some(40),
        protection: Protection::load(Some(&file)).expect("right"),
        limits: Limits::default(),
        lookup: Arc::new(Nobody),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let latest = Some((tokio::time::Instant::now(), Arc::new(View::default())));
        let (_publish, snapshots) = watch::channel(latest);
        runtime
            .block_on(serve::serve(listener, options, snapshots, std::future::pending()))
            .expect("it serves");
    });
    address
}

fn curl_and_openssl_are_let_in_or_not() {
    let directory = certificates();
    let address = serve(
        directory.path(),
        &format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n\
             basic_auth_users:\n  prometheus: {HASH}\n"
        ),
    );
    let port = address.port();

    let curl = |args: &str| {
        let url = format!("https://localhost:{port}/metrics");
        let resolve = format!("localhost:{port}:127.0.0.1");
        let mut words = vec![
            "--silent",
            "--output",
            "answer",
            "--write-out",
            "%{http_code} %{http_version}",
            "--max-time",
            "20",
        ];
        words.extend(["--resolve", &resolve, &url]);
        words.extend(args.split(' '));
        let output = run("curl", directory.path(), &words);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let client = "--cacert ca.crt --cert client.crt --key client.key";
    assert_eq!(curl(&format!("{client} --user prometheus:swordfish")), (true, "200 1.1".to_owned()));
    let body = fs::read_to_string(directory.path().join("answer")).expect("a body");
    assert!(body.contains("tcpwarden_build_info"), "{body}");
    assert_eq!(curl(&format!("{client} --user prometheus:sailfish")), (true, "401 1.1".to_owned()));
    assert_eq!(curl(&format!("{client} --user grafana:swordfish")), (true, "401 1.1".to_owned()));
    assert_eq!(curl(client), (true, "401 1.1".to_owned()));
    for refused in [
        "--cacert ca.crt --user prometheus:swordfish",
        "--cacert ca.crt --cert other.crt --key other.key --user prometheus:swordfish",
        "--cacert other.crt --cert client.crt --key client.key --user prometheus:swordfish",
    ] {
        let (done, code) = curl(refused);
        assert!(!done && code.starts_with("000"), "{refused}: {code}");
    }

    let handshake = |version: &str| {
        let args = format!(
            "s_client -connect {address} -CAfile ca.crt -cert client.crt -key client.key -cipher DEFAULT@SECLEVEL=0 {version}"
        );
        let output = openssl(directory.path(), &args);
        let words = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&words).into_owned()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let told = handshake(version);
        assert!(told.contains("Verify return code: 0 (ok)"), "{version}: {told}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let told = handshake(version);
        assert!(told.contains("alert") && told.contains("Cipher is (NONE)"), "{version}: {told}");
    }
}

fn prometheus_scrapes_an_agent_that_is_protected() {
    let host = Host::new("host");
    let directory = certificates();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let web_config = directory.path().join("web.yml");
    let protection = format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n  prometheus: {HASH}\n"
    );
    fs::write(&web_config, protection).expect("written");
    let agent = Agent::start_protected(&host, &web_config, "prometheus:swordfish");
    let scrape = |ca: &str, password: &str| {
        format!(
            "\n  scheme: https\n  tls_config: {{ ca_file: '{}' }}\n  basic_auth: {{ username: prometheus, password: {password} }}\n  \
             static_configs: [{{ targets: ['127.0.0.1:9796'] }}]\n",
            at(ca)
        )
    };
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: right{}- job_name: stranger{}- job_name: impostor{}",
        scrape("ca.crt", "swordfish"),
        scrape("other.crt", "swordfish"),
        scrape("ca.crt", "guess"),
    );
    let prometheus = Prometheus::start(&host, &config);
    eventually(Duration::from_secs(30), || {
        let up = prometheus.query("up");
        let up: BTreeMap<&str, f64> =
            up.iter().map(|(labels, value)| (labels["job"].as_str(), *value)).collect();
        let right = BTreeMap::from([("right", 1.0), ("stranger", 0.0), ("impostor", 0.0)]);
        if up == right { Ok(()) } else { Err(format!("{up:?}")) }
    });
    let version = prometheus.query("tcpwarden_build_info");
    assert_eq!(version.len(), 1, "{version:?}");
    // Who would be told of an alert gets links that work.
    assert!(agent.log().contains("serving https://127.0.0.1:9796/metrics"), "{}", agent.log());
}
