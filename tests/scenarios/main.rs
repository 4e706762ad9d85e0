//! Every scenario plays on a kernel and needs root; where either is missing it fails and says so.

#![expect(clippy::expect_used, clippy::panic, reason = "a scenario fails by panicking")]

mod alerts;
mod census;
mod endings;
mod everything;
mod faults;
mod history;
mod incidents;
mod kubernetes;
mod limits;
mod metrics;
mod monitoring;
mod names;
mod nat_pool;
mod old_syns;
mod outages;
mod outbound;
mod package;
mod page;
mod preexisting;
mod receivers;
mod rights;
mod service;
mod soak;
mod starts;
mod syn_watch;
mod top;
mod usual;
mod verifier;
mod web_config;

fn main() -> std::process::ExitCode {
    lab::suite::run(&[
        alerts::SCENARIOS,
        census::SCENARIOS,
        endings::SCENARIOS,
        everything::SCENARIOS,
        faults::SCENARIOS,
        history::SCENARIOS,
        incidents::SCENARIOS,
        kubernetes::SCENARIOS,
        limits::SCENARIOS,
        metrics::SCENARIOS,
        monitoring::SCENARIOS,
        names::SCENARIOS,
        nat_pool::SCENARIOS,
        old_syns::SCENARIOS,
        outages::SCENARIOS,
        outbound::SCENARIOS,
        package::SCENARIOS,
        page::SCENARIOS,
        preexisting::SCENARIOS,
        receivers::SCENARIOS,
        rights::SCENARIOS,
        service::SCENARIOS,
        soak::SCENARIOS,
        starts::SCENARIOS,
        syn_watch::SCENARIOS,
        top::SCENARIOS,
        usual::SCENARIOS,
        verifier::SCENARIOS,
        web_config::SCENARIOS,
    ])
}
