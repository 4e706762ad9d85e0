//! When the latest incident was.

use crate::model::past::{AlertEvent, Event, Happened, Span, second_of};

/// What came before the first alert belongs to it,
const BEFORE: u64 = 300;

/// and what came after the last one,
const AFTER: u64 = 60;

/// and alerts with less than this between them are one incident.
const APART: u64 = 600;

/// The span of the latest incident: from before the first of its alerts until after the last, or until now. `None` if no alert is among
/// these events, which are the oldest first.
#[must_use]
pub fn latest_incident(events: &[Happened], now: u64) -> Option<Span> {
    let mut raised: Vec<(String, u64)> = Vec::new();
    let mut incident: Option<Span> = None;
    for Happened { time, event } in events {
        let time = second_of(*time);
        match event {
            Event::AlertRaised(alert) | Event::AlertChanged(alert) | Event::AlertGoesOn(alert) => {
                // One that goes on after a restart belongs to the incident in which it was raised.
                let since = if matches!(event, Event::AlertGoesOn(_)) { alert.since } else { time };
                let is_new = raised.is_empty() && incident.is_none_or(|before| since > before.to + APART);
                let from = if is_new { since } else { incident.map_or(since, |before| before.from) };
                incident = Some(Span { from, to: time });
                let key = key(alert);
                if !raised.iter().any(|(other, _)| *other == key) {
                    raised.push((key, time));
                }
            }
            Event::AlertOver(alert) => {
                let key = key(alert);
                raised.retain(|(other, _)| *other != key);
                if let Some(incident) = &mut incident {
                    incident.to = time;
                }
            }
            // What was raised then goes on, as is told next, or is over without a word.
            Event::AgentStarted { .. } => raised.clear(),
            _ => {}
        }
    }
    let Span { from, to } = incident?;
    let to = if raised.is_empty() { (to + AFTER).min(now) } else { now };
    Some(Span { from: from.saturating_sub(BEFORE), to: to + 1 })
}

fn key(alert: &AlertEvent) -> String {
    format!("{} {} {:?} {} {}", alert.alert, alert.peer, alert.port, alert.direction, alert.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str) -> AlertEvent {
        AlertEvent {
            alert: name.to_owned(),
            severity: "warning".to_owned(),
            peer: "192.0.2.1".to_owned(),
            port: Some(443),
            direction: "inbound".to_owned(),
            name: String::new(),
            since: 0,
            text: String::new(),
        }
    }

    fn at(time: u32, event: Event) -> Happened {
        Happened { time: f64::from(time), event }
    }

    #[test]
    fn without_an_alert_there_is_none() {
        assert_eq!(latest_incident(&[at(5, Event::ListenerOpened { port: 80 })], 100), None);
    }

    #[test]
    fn alerts_close_to_each_other_are_one_incident() {
        let events = [
            at(1_000, Event::AlertRaised(alert("Old"))),
            at(1_010, Event::AlertOver(alert("Old"))),
            at(5_000, Event::AlertRaised(alert("A"))),
            at(5_100, Event::AlertOver(alert("A"))),
            at(5_500, Event::AlertRaised(alert("B"))),
            at(5_600, Event::AlertOver(alert("B"))),
        ];
        assert_eq!(latest_incident(&events, 9_000), Some(Span { from: 4_700, to: 5_661 }));
    }

    #[test]
    fn what_is_still_raised_goes_on_until_now() {
        let events = [at(5_000, Event::AlertRaised(alert("A"))), at(7_000, Event::AlertChanged(alert("A")))];
        assert_eq!(latest_incident(&events, 9_000), Some(Span { from: 4_700, to: 9_001 }));
    }

    #[test]
    fn a_restart_of_the_agent_ends_no_incident() {
        let started = || Event::AgentStarted { version: "1".to_owned() };
        let goes_on = || Event::AlertGoesOn(AlertEvent { since: 5_000, ..alert("A") });
        let mut events =
            vec![at(5_000, Event::AlertRaised(alert("A"))), at(7_000, started()), at(7_000, goes_on())];
        let whole = Some(Span { from: 4_700, to: 9_001 });
        assert_eq!(latest_incident(&events, 9_000), whole);
        assert_eq!(latest_incident(&events[1..], 9_000), whole, "also if its beginning was forgotten");
        events.push(at(8_000, Event::AlertOver(alert("A"))));
        assert_eq!(latest_incident(&events, 9_000), Some(Span { from: 4_700, to: 8_061 }));
    }

    #[test]
    fn what_a_restart_does_not_take_up_is_over() {
        let events = [
            at(5_000, Event::AlertRaised(alert("A"))),
            at(7_000, Event::AgentStarted { version: "1".to_owned() }),
        ];
        assert_eq!(latest_incident(&events, 9_000), Some(Span { from: 4_700, to: 5_061 }));
    }
}
