//! What is served, to real clients on the loopback: TLS and users, limits, changes while it runs. The clients are of their own
//! code (rustls, or bytes on a socket); the lab holds the same against curl and openssl.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod changes;
mod client;
mod limits;
#[path = "../pki/mod.rs"]
mod pki;
mod server;
mod tls;
mod users;
