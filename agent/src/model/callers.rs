//! Who calls which destination.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use probe_ebpf::{
    account::PeerKey,
    caller::{CallerKey, ProcessName},
};

use super::peer::{AccountId, Groups};
use crate::visible::visible;

/// So many names are told of one destination, the last to call it.
const TOLD: usize = 3;

/// When it called last, and its name.
type Caller = (Reverse<u64>, Arc<str>);

/// Names of the processes that call each destination.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    names: HashMap<PeerKey, Vec<Caller>>,
}

impl Callers {
    /// Adds one, with the time of its last call.
    pub fn add(&mut self, key: &CallerKey, last_ns: u64) {
        self.names.entry(key.destination).or_default().push((Reverse(last_ns), readable(key.name)));
    }

    /// When a destination was last called, monotonic, in nanoseconds; 0 where that is not known.
    #[must_use]
    pub fn last_call(&self, destination: &PeerKey) -> u64 {
        let calls = self.names.get(destination).into_iter().flatten();
        calls.map(|(Reverse(last_ns), _)| *last_ns).max().unwrap_or_default()
    }

    /// When a process of this name last called a destination, as above; `None` where it is not known to have.
    #[must_use]
    pub fn last_call_by(&self, destination: &PeerKey, name: &str) -> Option<u64> {
        self.calls(destination)?.filter(|(caller, _)| ***caller == *name).map(|(_, last_ns)| last_ns).max()
    }

    /// The processes that call a destination, each with its last call; `None` where none is known.
    #[must_use]
    pub fn calls(&self, destination: &PeerKey) -> Option<impl Iterator<Item = (&Arc<str>, u64)>> {
        let calls = self.names.get(destination)?;
        Some(calls.iter().map(|(Reverse(last_ns), name)| (name, *last_ns)))
    }

    /// The names of the last to call each account.
    #[must_use]
    pub fn by_account(&self, groups: &Groups) -> HashMap<AccountId, Vec<Arc<str>>> {
        let mut destinations: HashMap<AccountId, Vec<&PeerKey>> = HashMap::new();
        for key in self.names.keys() {
            destinations.entry(groups.account_of(key)).or_default().push(key);
        }
        destinations.into_iter().map(|(id, keys)| (id, self.of(&keys))).collect()
    }

    /// The names of the last to call any of `destinations`, in the order of the alphabet.
    #[must_use]
    pub fn of(&self, destinations: &[&PeerKey]) -> Vec<Arc<str>> {
        Self::last(destinations.iter().filter_map(|key| self.calls(key)).flatten().collect())
    }

    /// The names of the last of these calls, in the order of the alphabet.
    #[must_use]
    pub fn last(mut calls: Vec<(&Arc<str>, u64)>) -> Vec<Arc<str>> {
        calls.sort_unstable_by_key(|(_, last_ns)| Reverse(*last_ns));
        let mut told = BTreeSet::new();
        for (name, _) in calls {
            if told.len() < TOLD {
                told.insert(Arc::clone(name));
            }
        }
        told.into_iter().collect()
    }
}

/// A process's name, whatever it says: bytes that are no text, and control characters, must not reach a log or a terminal.
#[must_use]
pub fn readable(name: ProcessName) -> Arc<str> {
    let bytes: [u8; 16] = bytemuck::cast(name);
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..length]);
    visible(&text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::account::OUTBOUND;

    fn destination(port: u16) -> PeerKey {
        PeerKey::new([192, 0, 2, 1].into(), port, OUTBOUND)
    }

    fn caller(port: u16, name: &[u8]) -> CallerKey {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name);
        CallerKey { destination: destination(port), name: bytemuck::cast(bytes) }
    }

    #[test]
    fn the_last_three_names_of_a_destination_are_told() {
        let mut callers = Callers::default();
        for (at, name) in [(4, "httpd"), (1, "curl"), (3, "java"), (2, "python3")] {
            callers.add(&caller(443, name.as_bytes()), at);
        }
        callers.add(&caller(80, b"wget"), 9);
        assert_eq!(callers.of(&[&destination(443)]), ["httpd", "java", "python3"].map(Arc::from));
        assert_eq!(callers.of(&[&destination(1)]), []);
    }

    #[test]
    fn what_follows_the_nul_makes_no_other_name_and_controls_are_no_text() {
        let mut callers = Callers::default();
        callers.add(&caller(443, b"sh\0rest"), 1);
        callers.add(&caller(443, b"sh\0other"), 2);
        callers.add(&caller(443, b"a\x1b[31m\nb"), 3);
        let shown = callers.of(&[&destination(443)]);
        assert_eq!(shown, ["a\u{fffd}[31m\u{fffd}b", "sh"].map(Arc::from));
    }
}
