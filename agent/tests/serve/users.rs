//! Who may ask, and what is added to every answer.

use std::{io::Write as _, time::Instant};

use crate::{
    client::{ask, basic, connect, get, is_closed, next_head, request},
    server::Server,
};

/// "swordfish", hashed by crypt(3).
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.";
const SLOWER_HASH: &str = "$2y$08$abcdefghijklmnopqrstuu0qivvCtJ1kvpFL2d4gLKVgMs6tQmkIm";

fn users(hash: &str) -> String {
    format!("basic_auth_users:\n  alice: {hash}\n  bob: {hash}\n")
}

fn status(server: &Server, path: &str, headers: &str) -> String {
    let answer = ask(connect(server.address), path, headers).expect("an answer");
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn only_users_are_answered_whatever_they_ask() {
    let server = Server::protected(&users(HASH));
    for path in ["/", "/metrics", "/api/v1/alerts", "/healthz", "/readyz", "/nowhere"] {
        for headers in [
            String::new(),
            basic("alice", "wrong"),
            basic("alice", ""),
            basic("alice", "swordfish "),
            basic("", "swordfish"),
            basic("mallory", "swordfish"),
            "Authorization: Bearer c3dvcmRmaXNo\r\n".to_owned(),
            "Authorization: Basic\r\n".to_owned(),
            "Authorization: Basic !!!\r\n".to_owned(),
            "Authorization: Basic YWxpY2U=\r\n".to_owned(),
        ] {
            assert_eq!(status(&server, path, &headers), "401", "{path} {headers}");
        }
        let right = if path == "/nowhere" { "404" } else { "200" };
        assert_eq!(status(&server, path, &basic("alice", "swordfish")), right, "{path}");
        assert_eq!(
            status(&server, path, &basic("bob", "swordfish").replace("Basic", "basic")),
            right,
            "{path}"
        );
    }
}

#[test]
fn a_stranger_is_asked_for_a_password_and_holds_no_connection() {
    let server = Server::protected(&users(HASH));
    let mut stream = connect(server.address);
    stream.write_all(request("/metrics", "").as_bytes()).expect("sent");
    let head = next_head(&mut stream);
    assert!(head.starts_with("http/1.1 401 ") && head.contains("www-authenticate: basic realm="), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(is_closed(&mut stream));
}

#[test]
fn a_user_keeps_the_connection() {
    let server = Server::protected(&users(HASH));
    let mut stream = connect(server.address);
    for _ in 0..3 {
        stream.write_all(request("/healthz", &basic("alice", "swordfish")).as_bytes()).expect("sent");
        let head = next_head(&mut stream);
        assert!(head.starts_with("http/1.1 200 ") && !head.contains("connection: close"), "{head}");
    }
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let server = Server::protected(&users(SLOWER_HASH));
    let quickest = |user: &str| {
        let once = |attempt| {
            let began = Instant::now();
            assert_eq!(status(&server, "/", &basic(user, &format!("guess {attempt}"))), "401");
            began.elapsed()
        };
        (0..3).map(once).min().expect("three")
    };
    let (known, unknown) = (quickest("alice"), quickest("mallory"));
    assert!(unknown > known / 4 && known > unknown / 4, "known {known:?}, unknown {unknown:?}");
}

#[test]
fn headers_come_with_every_answer() {
    let text = users(HASH)
        + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'self'\n    \
           X-XSS-Protection: \"\"\n";
    let server = Server::protected(&text);
    for (path, headers) in
        [("/", basic("alice", "swordfish")), ("/nowhere", basic("alice", "swordfish")), ("/", String::new())]
    {
        let answer = ask(connect(server.address), path, &headers).expect("an answer").to_lowercase();
        assert!(answer.contains("\r\nx-frame-options: deny\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-security-policy: default-src 'self'\r\n"), "{answer}");
        assert!(!answer.contains("x-xss-protection"), "{answer}");
    }
}

#[test]
fn without_users_nobody_is_asked() {
    let server = Server::protected("http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n");
    let answer = get(server.address, "/metrics").expect("an answer").to_lowercase();
    assert!(
        answer.starts_with("http/1.1 200 ") && answer.contains("\r\nx-content-type-options: nosniff\r\n")
    );
}
