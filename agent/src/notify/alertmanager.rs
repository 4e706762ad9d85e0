//! Alertmanager's API, version 2: every alert that is raised is posted with the time until which it holds, and posted again before.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    notice::{Posting, Site, annotations, generator_url, labels, postings, rfc3339},
    outbox::Notice,
};

/// What is raised is posted again after this time, as Prometheus does.
pub(super) const REPEAT: Duration = Duration::from_mins(1);

/// What is posted holds for this long: three posts may be lost before Alertmanager takes it for over.
const HOLDS_FOR: u64 = 4 * 60;

/// Where alerts are posted, behind the configured URL.
pub(super) const PATH: &str = "/api/v2/alerts";

/// The body of a post.
pub(super) fn body(site: &Site, notices: &[Notice], unix: u64) -> Value {
    let post = |(notice, severity, ended): Posting<'_>| {
        json!({
            "labels": labels(site, &notice.alert, severity),
            "annotations": annotations(site, notice),
            "startsAt": rfc3339(notice.alert.since),
            "endsAt": rfc3339(ended.unwrap_or(unix + HOLDS_FOR)),
            "generatorURL": generator_url(site),
        })
    };
    postings(notices, unix).into_iter().map(post).collect()
}
