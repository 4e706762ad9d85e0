//! The agent as a service: what it tells the service manager, and what its unit lets it do.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use lab::{
    agent::{Agent, Config},
    eventually,
    host::Host,
    program,
};
use rustix::process::Signal;
use tempfile::TempDir;

lab::scenarios! {
    Others 5 s:
        the_service_manager_hears_of_every_step,
        the_unit_is_understood_and_leaves_little_open;
}

/// Exposure by systemd's own rating, times ten: 0 is a locked box, 20 is "OK".
const EXPOSURE: &str = "--threshold=20";

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/tcpwarden.service")
}

fn systemd_analyze(args: &[&str]) -> Output {
    Command::new("systemd-analyze").args(args).output().expect("systemd-analyze runs (`cargo xtask setup`)")
}

fn the_service_manager_hears_of_every_step() {
    let host = Host::new("host");
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("it can be asked without waiting");
    let mut heard = Vec::new();
    let mut hear = |word: &str| {
        heard.clear();
        eventually(Duration::from_secs(10), || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                heard.extend(text.lines().map(str::to_owned));
            }
            if heard.iter().any(|line| line == word) { Ok(()) } else { Err(format!("no {word}: {heard:?}")) }
        });
        heard.clone()
    };
    let config = Config::new("");
    let mut agent = Agent::start_service(&host, &config.args(), &path);
    hear("READY=1");
    let alive = hear("WATCHDOG=1");
    let status = alive.iter().find_map(|line| line.strip_prefix("STATUS=")).expect("it says how it is");
    assert!(status.ends_with("peers, 0 alerts raised"), "{status}");
    for text in ["[limits]\nevents = 10\n", "no toml"] {
        config.write(text);
        agent.signal(Signal::HUP);
        let lines = hear("READY=1");
        let at = |word: &str| lines.iter().position(|line| line == word);
        assert!(at("RELOADING=1") < at("READY=1"), "whether or not the file is right: {lines:?}");
    }
    agent.signal(Signal::TERM);
    hear("STOPPING=1");
    assert!(agent.wait().success());
}

fn the_unit_is_understood_and_leaves_little_open() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("tcpwarden.service");
    let text = fs::read_to_string(unit()).expect("the unit is there");
    let program = program("tcpwarden");
    let installed = text.replace("/usr/bin/tcpwarden", program.to_str().expect("text"));
    assert_ne!(installed, text);
    fs::write(&file, installed).expect("written");
    let file = file.to_str().expect("text");
    // A key that is not known is only a warning, and no failure.
    let verified = systemd_analyze(&["verify", "--man=no", file]);
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    let rated = systemd_analyze(&["security", "--offline=true", "--no-pager", EXPOSURE, file]);
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}
