//! `alerts.json`, `pools.json` and `habits.json`: what is kept over a restart. Somebody may have edited it, or the disk may have eaten of it.

#![no_main]
#![expect(clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tcpwarden::{
    alert::{CAPACITY, Engine, Now},
    config::Settings,
    daemon::{HabitState, PoolState, State},
    model::{habits::Habits, pool::Pools},
};

fuzz_target!(|text: &[u8]| {
    if let Ok(state) = PoolState::parse(text) {
        let written = serde_json::to_vec(&state).expect("what was read can be written");
        assert_eq!(PoolState::parse(&written).expect("and read again"), state);
        let mut pools = Pools::new(1);
        pools.restore(state.pools.clone(), 1_800_000_000);
        let saved = pools.save(Duration::ZERO, 1_800_000_000);
        assert!(saved.len() <= state.pools.len() && saved.iter().all(|pool| pool.check().is_ok()));
    }
    if let Ok(state) = HabitState::parse(text) {
        let written = serde_json::to_vec(&state).expect("what was read can be written");
        assert_eq!(HabitState::parse(&written).expect("and read again"), state);
        let mut habits = Habits::default();
        habits.restore(Duration::from_secs(1), &state.habits);
        habits.restore_destinations(Duration::from_secs(1), &state.destinations);
        let saved = habits.save();
        assert!(saved.len() <= state.habits.len() && saved.iter().all(|habit| habit.check().is_ok()));
        let saved = habits.save_destinations();
        assert!(saved.len() <= state.destinations.len() && saved.iter().all(|known| known.check().is_ok()));
    }
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
