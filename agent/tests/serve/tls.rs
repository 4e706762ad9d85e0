//! Who gets through the handshake.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
};

use rustls::version::{TLS12, TLS13};

use crate::{
    client::{ask, connect, get, https, tls},
    pki::Authority,
    server::{Server, refusals},
};

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

#[test]
fn both_versions_are_spoken() {
    let server = Server::protected(TLS);
    for version in [&TLS12, &TLS13] {
        let stream = tls(server.address, &server.authority.certificate, None, &[version]);
        let answer = ask(stream, "/healthz", "").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
    }
}

#[test]
fn a_version_can_be_demanded() {
    let server = Server::protected(&format!("{TLS}  min_version: TLS13\n"));
    let with = |version| ask(tls(server.address, &server.authority.certificate, None, &[version]), "/", "");
    assert!(with(&TLS13).is_ok());
    let error = with(&TLS12).expect_err("1.2 is refused").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}

/// What a server answers to a plain `ClientHello` of a version (3.2 is TLS 1.1) that asks for nothing unusual.
fn answer_to_hello(server: &Server, minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    // No session; ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression; P-256 and ECDSA with it.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend([0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).expect("a short one");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = connect(server.address);
    stream.write_all(&record).expect("sent");
    stream.shutdown(Shutdown::Write).expect("that was all");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn an_old_version_is_refused() {
    let server = Server::protected(TLS);
    assert_eq!(answer_to_hello(&server, 3)[..2], [22, 3], "the handshake goes on");
    let answer = answer_to_hello(&server, 2);
    assert!(
        answer.starts_with(&[21, 3]) && answer.ends_with(&[2, 70]),
        "protocol version, fatal: {answer:?}"
    );
    let metrics = https(server.address, &server.authority.certificate, "/metrics", "").expect("a scrape");
    assert_eq!(refusals(&metrics, "tls"), 1);
}

#[test]
fn a_client_that_trusts_somebody_else_goes_away() {
    let server = Server::protected(TLS);
    let stranger = Authority::new();
    let error = https(server.address, &stranger.certificate, "/", "").expect_err("no trust").to_string();
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
}

#[test]
fn plain_http_is_told_to_use_tls() {
    let server = Server::protected(TLS);
    let answer = get(server.address, "/metrics").expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.contains("https://"), "{answer}");
    assert!(!answer.contains("tcpwarden_"), "{answer}");
}

#[test]
fn a_client_certificate_can_be_required() {
    let server = Server::protected(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
    ));
    let with = |identity: Option<&_>| {
        ask(tls(server.address, &server.authority.certificate, identity, rustls::ALL_VERSIONS), "/", "")
    };
    assert!(with(Some(&server.authority.sign("prometheus"))).expect("an answer").contains("200 OK"));
    assert!(with(None).is_err());
    assert!(with(Some(&Authority::new().sign("prometheus"))).is_err());
}

#[test]
fn a_client_certificate_can_be_verified_only_if_given() {
    let server = Server::protected(&format!(
        "{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n"
    ));
    let with = |identity: Option<&_>| {
        ask(tls(server.address, &server.authority.certificate, identity, rustls::ALL_VERSIONS), "/", "")
    };
    assert!(with(Some(&server.authority.sign("prometheus"))).is_ok());
    assert!(with(None).is_ok());
    assert!(with(Some(&Authority::new().sign("prometheus"))).is_err());
}
