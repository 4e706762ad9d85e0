//! What watches in production, as real programs: Prometheus scrapes and alerts, Alertmanager groups and notifies, and
//! a sink stands for whoever is notified.
//!
//! `cargo xtask setup` fetches the programs.

pub mod alertmanager;
pub mod prometheus;
pub mod sink;

use std::collections::BTreeMap;

/// Names and values of labels or annotations.
pub type Labels = BTreeMap<String, String>;
