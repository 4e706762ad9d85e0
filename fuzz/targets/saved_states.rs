//! `alerts.json`: what is kept over a restart. Somebody may have edited it, or the disk may have eaten of it.

#![no_main]
#![expect(clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tcpwarden::{
    alert::{CAPACITY, Engine, Now},
    config::Settings,
    daemon::State,
};

fuzz_target!(|text: &[u8]| {
    let Ok(state) = State::parse(text) else { return };
    let written = serde_json::to_vec(&state).expect("what was read can be written");
    assert_eq!(State::parse(&written).expect("and read again"), state);

    let settings = Settings::default();
    let mut engine = Engine::new(settings.alerts, settings.silences);
    engine.restore(Now { monotonic: Duration::from_secs(1), unix: 1_800_000_000 }, &state.alerts);
    assert!(engine.raised().count() <= CAPACITY);
    for alert in engine.raised() {
        let since = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(alert.since));
        assert!(since.to_string().ends_with('Z'), "a time that can be told to a receiver");
    }
    // What is saved next is what was restored.
    let saved = engine.save();
    assert!(saved.len() <= state.alerts.len());
});
