//! `basic_auth_users`: who may ask, proven by a password.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use ring::{hmac, rand::SystemRandom};
use tokio::{sync::Semaphore, task};

use super::place::Place;
use crate::config::ConfigError;

/// Beyond it (about a second) whoever sends a wrong password keeps a core busy.
const HIGHEST_COST: u32 = 14;

/// Wrong passwords remembered, so that a client that insists on one costs nothing.
const REFUSED: usize = 64;

/// The users; without any, everybody may ask.
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// What the password of an unknown user is compared with, so that it takes as long as for a known one.
    stranger: String,
    /// Passwords are remembered as keyed digests only, so that neither the memory nor the time of a comparison tells them.
    key: hmac::Key,
    known: Mutex<Known>,
    /// bcrypt takes a core: one at a time.
    turn: Arc<Semaphore>,
}

/// Bounded: the last right password of each user and the last wrong ones.
#[derive(Default)]
struct Known {
    accepted: HashMap<String, Vec<u8>>,
    refused: VecDeque<Vec<u8>>,
}

impl Users {
    pub fn new(hashes: BTreeMap<String, String>, place: Place<'_>) -> Result<Self, ConfigError> {
        let mut highest = 0;
        for (user, hash) in &hashes {
            highest = highest.max(cost(user, hash, place)?);
        }
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| place.invalid("basic_auth_users", "...", "the system gives no random numbers"))?;
        Ok(Self {
            hashes: hashes.into_iter().collect(),
            stranger: format!("$2b${highest:02}${}", ".".repeat(53)),
            key,
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// Whether a value of the header `Authorization` is that of a user.
    pub async fn admit(&self, authorization: &[u8]) -> bool {
        let Some((user, password)) = credentials(authorization) else { return false };
        if let Some(verdict) = self.remembered(&user, &password) {
            return verdict;
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        // Somebody with the same password may have been before us.
        if let Some(verdict) = self.remembered(&user, &password) {
            return verdict;
        }
        let known = self.hashes.get(&user);
        let hash = known.unwrap_or(&self.stranger).clone();
        let secret = password.clone();
        let right = task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(secret, &hash).unwrap_or(false)
        });
        let verdict = right.await.unwrap_or(false) && known.is_some();
        self.remember(user, &password, verdict);
        verdict
    }

    fn remembered(&self, user: &str, password: &[u8]) -> Option<bool> {
        let digest = self.digest(user, password);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.accepted.get(user) == Some(&digest) {
            Some(true)
        } else {
            known.refused.contains(&digest).then_some(false)
        }
    }

    fn remember(&self, user: String, password: &[u8], verdict: bool) {
        let digest = self.digest(&user, password);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if verdict {
            known.accepted.insert(user, digest);
        } else {
            known.refused.push_back(digest);
            if known.refused.len() > REFUSED {
                known.refused.pop_front();
            }
        }
    }

    fn digest(&self, user: &str, password: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        // No user name has a colon.
        context.update(user.as_bytes());
        context.update(b":");
        context.update(password);
        context.sign().as_ref().to_vec()
    }
}

/// The cost of a hash that can be used.
fn cost(user: &str, hash: &str, place: Place<'_>) -> Result<u32, ConfigError> {
    let key = format!("basic_auth_users.{user}");
    if user.is_empty() || user.contains(':') {
        return Err(place.invalid(
            &key,
            "...",
            "is a name that no client can send; it must not be empty or have a colon",
        ));
    }
    // The value is never shown: it may be a password that was not hashed.
    let Some(parts) = hash.parse::<HashParts>().ok().filter(|_| hash.len() == 60) else {
        return Err(place.invalid(&key, "...", "is no bcrypt hash; make one with htpasswd -nBC 10 USER"));
    };
    let cost = parts.get_cost();
    if (4..=HIGHEST_COST).contains(&cost) {
        return Ok(cost);
    }
    Err(place.invalid(
        &key,
        "...",
        format!(
            "has the bcrypt cost {cost}; make it again with one of 4 to {HIGHEST_COST}: htpasswd -nBC 10 USER"
        ),
    ))
}

/// User and password of `Basic dXNlcjpwYXNzd29yZA==`.
fn credentials(authorization: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((String::from_utf8(user).ok()?, password))
}

#[cfg(test)]
mod tests {
    use std::{future::ready, path::Path};

    use super::*;

    /// Of `swordfish`.
    const HASH: &str = "$2b$04$abcdefghijklmnopqrstuugIEnm3ZbWF6xb2GcoE3L1CoGJFMKtu.";

    #[tokio::test]
    async fn what_was_answered_once_is_not_hashed_again() {
        let hashes = [("alice".to_owned(), HASH.to_owned())].into();
        let users = Users::new(hashes, Place(Path::new("web.yml"))).expect("a hash");
        let basic = |password: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("alice:{password}")));
        for (password, right) in [("swordfish", true), ("guess", false)] {
            assert_eq!(users.admit(basic(password).as_bytes()).await, right);
        }
        // Whoever hashes waits for this.
        let _turn = Arc::clone(&users.turn).acquire_owned().await.expect("it is open");
        for (password, right) in [("swordfish", true), ("guess", false)] {
            let basic = basic(password);
            tokio::select! {
                biased;
                verdict = users.admit(basic.as_bytes()) => assert_eq!(verdict, right),
                () = ready(()) => panic!("{password} is hashed again"),
            }
        }
    }
}
