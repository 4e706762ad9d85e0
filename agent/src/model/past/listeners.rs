//! Who listens, and who was started anew.

use std::collections::BTreeMap;

use super::event::Event;
use crate::model::QueueFigures;

/// The listening sockets by port, as of the last look; none before the first.
#[derive(Debug, Default)]
pub(super) struct Listeners(Option<BTreeMap<u16, Vec<u32>>>);

impl Listeners {
    /// Looks again; returns what changed.
    pub fn look(&mut self, queues: &[QueueFigures]) -> Vec<Event> {
        let now: BTreeMap<u16, Vec<u32>> =
            queues.iter().map(|queue| (queue.port, queue.sockets.clone())).collect();
        let Some(before) = self.0.replace(now) else { return Vec::new() };
        let now = self.0.iter().flatten();
        let changed = now.filter_map(|(port, sockets)| match before.get(port) {
            None => Some(Event::ListenerOpened { port: *port }),
            Some(old) if !old.iter().any(|socket| sockets.contains(socket)) => {
                Some(Event::ListenerRestarted { port: *port })
            }
            Some(_) => None,
        });
        let is_gone = |port: &&u16| self.0.as_ref().is_some_and(|now| !now.contains_key(port));
        let closed = before.keys().filter(is_gone).map(|&port| Event::ListenerClosed { port });
        closed.chain(changed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(port: u16, sockets: &[u32]) -> QueueFigures {
        QueueFigures { port, waiting: 0, limit: 128, sockets: sockets.to_vec() }
    }

    #[test]
    fn what_was_there_before_the_first_look_is_no_event() {
        let mut listeners = Listeners::default();
        assert_eq!(listeners.look(&[queue(80, &[1])]), []);
        assert_eq!(listeners.look(&[queue(80, &[1])]), []);
    }

    #[test]
    fn a_port_that_comes_goes_or_has_new_sockets_only() {
        let mut listeners = Listeners::default();
        listeners.look(&[queue(80, &[1, 2]), queue(443, &[3])]);
        // One worker of two, and nobody on 443 any more.
        assert_eq!(
            listeners.look(&[queue(80, &[2, 4]), queue(8080, &[5])]),
            [Event::ListenerClosed { port: 443 }, Event::ListenerOpened { port: 8080 }]
        );
        assert_eq!(
            listeners.look(&[queue(80, &[6]), queue(8080, &[5])]),
            [Event::ListenerRestarted { port: 80 }]
        );
    }
}
