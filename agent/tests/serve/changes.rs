//! A web configuration and its certificates change while the server runs.

use std::{fs, io::Write as _, thread, time::Duration};

use crate::{
    client::{ask, basic, connect, get, https, is_closed, next_head, request, tls},
    pki::Authority,
    server::{Server, eventually},
};

/// A little longer than the server waits before it looks at its files again.
const LOOKED_AT_AGAIN: Duration = Duration::from_millis(1_100);

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
/// "swordfish" and "trout", hashed by crypt(3).
const SWORDFISH: &str = "$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.";
const TROUT: &str = "$2b$04$abcdefghijklmnopqrstuunpr.IEf73iYxZ4IwssSXjfDiSNkwg.m";

#[test]
fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let server = Server::protected(TLS);
    let old = &server.authority.certificate;
    let mut kept = tls(server.address, old, None, rustls::ALL_VERSIONS);
    kept.write_all(request("/healthz", "").as_bytes()).expect("sent");
    assert!(!next_head(&mut kept).contains("connection: close"));

    let renewed = Authority::new();
    renewed.sign("localhost").write(server.directory());
    eventually("the renewed certificate is served", || {
        https(server.address, &renewed.certificate, "/", "").is_ok()
    });
    assert!(https(server.address, old, "/", "").is_err());
    // A connection from before is answered once more.
    kept.write_all(request("/healthz", "").as_bytes()).expect("sent");
    assert!(next_head(&mut kept).contains("connection: close"));
    assert!(is_closed(&mut kept));

    // Half a renewal, rubbish, nothing: what was there stays.
    let key = fs::read(server.directory().join("server.key")).expect("a key");
    let next = Authority::new();
    for broken in [next.sign("localhost").key.into_bytes(), b"rubbish".to_vec(), Vec::new()] {
        fs::write(server.directory().join("server.key"), broken).expect("written");
        thread::sleep(LOOKED_AT_AGAIN);
        for _ in 0..2 {
            assert!(https(server.address, &renewed.certificate, "/", "").is_ok());
        }
    }
    fs::write(server.directory().join("server.key"), key).expect("written");
    fs::remove_file(server.directory().join("server.crt")).expect("removed");
    thread::sleep(LOOKED_AT_AGAIN);
    assert!(https(server.address, &renewed.certificate, "/", "").is_ok());

    next.sign("localhost").write(server.directory());
    eventually("the next one is served", || https(server.address, &next.certificate, "/", "").is_ok());
}

#[test]
fn users_come_and_go() {
    let server = Server::protected(&format!("basic_auth_users:\n  alice: {SWORDFISH}\n"));
    let web_config = server.directory().join("web.yml");
    let admitted = |password: &str| {
        let answer = ask(connect(server.address), "/", &basic("alice", password)).expect("an answer");
        answer.starts_with("HTTP/1.1 200 ")
    };
    assert!(admitted("swordfish") && !admitted("trout"));

    fs::write(&web_config, format!("basic_auth_users:\n  alice: {TROUT}\n")).expect("written");
    eventually("the new password is right", || admitted("trout"));
    assert!(!admitted("swordfish"));

    // A broken file does not open the door.
    fs::write(&web_config, "basic_auth_users:\n  alice: trout\n").expect("written");
    thread::sleep(LOOKED_AT_AGAIN);
    assert!(admitted("trout") && !admitted("swordfish"));
    fs::remove_file(&web_config).expect("removed");
    thread::sleep(LOOKED_AT_AGAIN);
    assert!(admitted("trout") && !admitted("swordfish"));

    fs::write(&web_config, "basic_auth_users:\n").expect("written");
    eventually("no password is needed any more", || {
        get(server.address, "/").expect("an answer").contains("200 OK")
    });
}

#[test]
fn tls_is_switched_on() {
    let server = Server::protected("");
    assert!(get(server.address, "/").is_ok());
    fs::write(server.directory().join("web.yml"), TLS).expect("written");
    let authority = &server.authority.certificate;
    eventually("TLS is spoken", || https(server.address, authority, "/", "").is_ok());
    assert!(get(server.address, "/").expect("an answer").starts_with("HTTP/1.0 400 "));
}
