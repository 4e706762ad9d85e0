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
        let ends = ended.unwrap_or(unix + HOLDS_FOR);
        json!({
            "labels": labels(site, &notice.alert, severity),
            "annotations": annotations(site, notice),
            // A clock that was set back would have it end before it began, and the whole post refused.
            "startsAt": rfc3339(notice.alert.since.min(ends)),
            "endsAt": rfc3339(ends),
            "generatorURL": generator_url(site),
        })
    };
    postings(notices, unix).into_iter().map(post).collect()
}
