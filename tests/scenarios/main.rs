//! Every scenario plays on a kernel and needs root; where either is missing it fails and says so.

#![expect(clippy::expect_used, clippy::panic, reason = "a scenario fails by panicking")]

mod alerts;
mod census;
mod endings;
mod everything;
mod faults;
mod fleet;
mod half_open;
mod healthy;
mod history;
mod incidents;
mod kubernetes;
mod limits;
mod local_addresses;
mod metrics;
mod monitoring;
mod names;
mod nat_pool;
mod no_port;
mod old_syns;
mod outages;
mod outbound;
mod package;
mod page;
mod preexisting;
mod protocols;
mod queues;
mod receivers;
mod rejected;
mod rights;
mod service;
mod slow_rounds;
mod soak;
mod starts;
mod syn_watch;
mod time_wait_limit;
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
        fleet::SCENARIOS,
        half_open::SCENARIOS,
        healthy::SCENARIOS,
        history::SCENARIOS,
        incidents::SCENARIOS,
        kubernetes::SCENARIOS,
        limits::SCENARIOS,
        local_addresses::SCENARIOS,
        metrics::SCENARIOS,
        monitoring::SCENARIOS,
        names::SCENARIOS,
        nat_pool::SCENARIOS,
        no_port::SCENARIOS,
        old_syns::SCENARIOS,
        outages::SCENARIOS,
        outbound::SCENARIOS,
        package::SCENARIOS,
        page::SCENARIOS,
        preexisting::SCENARIOS,
        protocols::SCENARIOS,
        queues::SCENARIOS,
        receivers::SCENARIOS,
        rejected::SCENARIOS,
        rights::SCENARIOS,
        service::SCENARIOS,
        slow_rounds::SCENARIOS,
        soak::SCENARIOS,
        starts::SCENARIOS,
        syn_watch::SCENARIOS,
        time_wait_limit::SCENARIOS,
        top::SCENARIOS,
        usual::SCENARIOS,
        verifier::SCENARIOS,
        web_config::SCENARIOS,
    ])
}
