//! tcpwarden watches the TCP sockets of a host through eBPF and keeps one account per peer.
//!
//! Each module is a room of the house described in `ARCHITECTURE.md`; data flows from `probe`, `census` and `host` into
//! the pure `model`, and out through `serve`. `daemon` joins the rooms.

#![deny(missing_docs)]

pub mod alert;
pub mod api;
pub mod census;
pub mod config;
pub mod daemon;
pub mod history;
pub mod host;
pub mod http_client;
pub mod logging;
pub mod model;
pub mod notify;
pub mod plot;
pub mod probe;
pub mod report;
pub mod serve;
pub mod sock_diag;
pub mod top;
pub mod visible;
