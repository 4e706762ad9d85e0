//! A server without a kernel side, on a thread of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tcpwarden::serve::{self, Limits, Nobody, Options, Protection, View};
use tempfile::TempDir;
use tokio::{runtime, sync::oneshot, sync::watch};

use crate::{client, pki::Authority};

pub struct Server {
    pub address: SocketAddr,
    pub authority: Authority,
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves plain HTTP.
    pub fn open(limits: Limits) -> Self {
        Self::start(None, limits, View::default())
    }

    /// Serves as a web configuration says, which finds `server.crt` and `server.key` (for localhost) and `ca.crt` beside it.
    pub fn protected(web_config: &str) -> Self {
        Self::start(Some(web_config), Limits::default(), View::default())
    }

    pub fn start(web_config: Option<&str>, limits: Limits, view: View) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let authority = Authority::new();
        authority.sign("localhost").write(directory.path());
        fs::write(directory.path().join("ca.crt"), &authority.certificate).expect("written");
        let file = web_config.map(|text| {
            let file = directory.path().join("web.yml");
            fs::write(&file, text).expect("written");
            file
        });
        let options = Options {
            host: "web1".to_owned(),
            telemetry_path: "/metrics".to_owned(),
            max_requests: Some(40),
            protection: Protection::load(file.as_deref()).expect("right"),
            limits,
            lookup: Arc::new(Nobody),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let latest = Some((tokio::time::Instant::now(), Arc::new(view)));
                let (_publish, snapshots) = watch::channel(latest);
                let stopped = async {
                    let _ = stopped.await;
                };
                serve::serve(listener, options, snapshots, stopped).await.expect("it serves");
            });
        });
        Self { address, authority, directory, stop: Some(stop), thread: Some(thread) }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Over plain HTTP, how many connections were refused for a reason.
    pub fn refused(&self, reason: &str) -> u64 {
        let answer = client::get(self.address, "/metrics").expect("a scrape is answered");
        refusals(&answer, reason)
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let Some(thread) = self.thread.take() else { return };
        eventually("the server ends", || thread.is_finished());
        assert!(thread.join().is_ok(), "the server failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

/// The counter in an answer to a scrape.
pub fn refusals(answer: &str, reason: &str) -> u64 {
    let name = format!("tcpwarden_http_connections_refused_total{{reason=\"{reason}\"}} ");
    let value = answer.lines().find_map(|line| line.strip_prefix(&name));
    value.expect("the family is there").parse().expect("a count")
}

/// Asks again and again, for much longer than it should take.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
