//! What a client may send to the agent's port: whole conversations over a stream in memory. Time stands still but where everybody
//! waits, so every time-out is reached at once.

#![no_main]
#![expect(clippy::expect_used, clippy::panic, reason = "a fuzz target fails by panicking")]

use std::{fs, sync::Arc};

use libfuzzer_sys::fuzz_target;
use tcpwarden::serve::{Limits, Nobody, Options, Protection, View, serve_stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split},
    runtime,
    sync::watch,
    time::Instant,
};

/// `htpasswd -nbBC 4 ops …`, with a password that nobody guesses.
const USER: &str = "basic_auth_users: {ops: $2y$04$wJ2b0cQYmUVBv6UhQsbRZeTkW2r3f1p5Vh2m5m6mDk3m9WjVQ8N1a}\n";

fuzz_target!(|input: &[u8]| {
    let Some((kind, request)) = input.split_first() else { return };
    let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let protected = kind % 2 == 1;
    let answer = runtime.expect("a runtime").block_on(converse(request, protected));
    if !answer.is_empty() {
        check(request, &answer, protected);
    }
});

async fn converse(request: &[u8], protected: bool) -> Vec<u8> {
    let protection = if protected {
        let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory");
        let file = directory.path().join("web.yml");
        fs::write(&file, USER).expect("written");
        Protection::load(Some(&file)).expect("a valid file")
    } else {
        Protection::load(None).expect("no file, no mistake")
    };
    let options = Options {
        host: "web1".to_owned(),
        telemetry_path: "/metrics".to_owned(),
        max_requests: Some(40),
        protection,
        limits: Limits::default(),
        lookup: Arc::new(Nobody),
    };
    let (_sender, snapshots) = watch::channel(Some((Instant::now(), Arc::new(View::default()))));
    let (ours, theirs) = duplex(64 * 1024);
    let (mut read, mut write) = split(ours);
    let mut answer = Vec::new();
    let client = async {
        let send = async {
            // The agent may hang up before it has all.
            let _ = write.write_all(request).await;
            // Kept open: a client that waits.
            write
        };
        let (_write, received) = tokio::join!(send, read.read_to_end(&mut answer));
        received.expect("a stream in memory");
    };
    tokio::join!(serve_stream(theirs, options, snapshots), client);
    answer
}

/// Each answer begins as HTTP has it, and to whom is no user, there is but one.
fn check(request: &[u8], answer: &[u8], protected: bool) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let status = response.parse(answer).unwrap_or_else(|error| panic!("no HTTP ({error}): {answer:?}"));
    assert!(status.is_complete(), "an answer that was cut off");
    let code = response.code.expect("a status");
    let known = [100, 200, 400, 401, 404, 405, 413, 414, 431, 501, 505];
    assert!(known.contains(&code), "{code}");
    assert!(!protected || code != 200, "an answer without a password");
    // A request has at least `GET / HTTP/1.0\r\n\r\n`.
    let requests = request.len() / 16 + 1;
    assert!(answer.len() <= requests * 256 * 1024, "{} bytes for {requests} requests", answer.len());
}
