//! A generic webhook: the same document that Alertmanager posts to its webhooks (version 4), so that whatever takes those takes ours.

use std::{collections::BTreeMap, fmt::Write as _};

use ring::{digest, hmac};
use serde_json::{Value, json};

use super::{
    notice::{Site, annotations, generator_url, labels, postings, rfc3339},
    outbox::Notice,
};
use crate::config::Secret;

/// The header with the signature of the body.
pub(super) const SIGNATURE: &str = "X-Tcpwarden-Signature";

/// What the document says where there is no end yet.
const NO_END: &str = "0001-01-01T00:00:00Z";

/// The body of a post.
pub(super) fn body(site: &Site, receiver: &str, notices: &[Notice], unix: u64) -> Value {
    let postings = postings(notices, unix);
    let all: Vec<_> = postings
        .iter()
        .map(|(notice, severity, _)| (labels(site, &notice.alert, *severity), annotations(site, notice)))
        .collect();
    let status = |ended: bool| if ended { "resolved" } else { "firing" };
    let alerts = postings.iter().zip(&all).map(|((notice, _, ended), (labels, annotations))| {
        json!({
            "status": status(ended.is_some()),
            "labels": labels,
            "annotations": annotations,
            "startsAt": rfc3339(notice.alert.since),
            "endsAt": ended.map_or_else(|| NO_END.to_owned(), rfc3339),
            "generatorURL": generator_url(site),
            "fingerprint": fingerprint(labels),
        })
    });
    let alerts: Vec<Value> = alerts.collect();
    json!({
        "version": "4",
        "receiver": receiver,
        "status": status(postings.iter().all(|(_, _, ended)| ended.is_some())),
        "alerts": alerts,
        "groupKey": "tcpwarden",
        "groupLabels": {},
        "commonLabels": common(all.iter().map(|(labels, _)| labels)),
        "commonAnnotations": common(all.iter().map(|(_, annotations)| annotations)),
        "externalURL": site.external_url,
        "truncatedAlerts": 0,
    })
}

/// What is the same in all.
fn common<'a, K: Ord + Clone + 'a>(
    mut all: impl Iterator<Item = &'a BTreeMap<K, String>>,
) -> BTreeMap<K, String> {
    let mut common = all.next().cloned().unwrap_or_default();
    for other in all {
        common.retain(|name, value| other.get(name) == Some(value));
    }
    common
}

/// The same for the same labels, and for no others.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in labels.iter().flat_map(|(name, value)| [name, value]) {
        context.update(part.as_bytes());
        context.update(&[0xff]);
    }
    hex(&context.finish().as_ref()[..8])
}

/// The value of [`SIGNATURE`]: HMAC-SHA256 of the body, in hexadecimal.
pub(super) fn signature(secret: &Secret, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, body).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
