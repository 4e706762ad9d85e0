//! What is answered from the past, and from the kernel's sockets.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{Shared, View, api, lookup};
use crate::{
    api::{Ports, Second},
    model::{AccountId, past::Span},
};

/// A span is as long at most.
const LONGEST: Duration = Duration::from_hours(400 * 24);

/// As many events are told at most.
const MOST_EVENTS: usize = 10_000;

/// Which part of the past.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// The last so many seconds.
    seconds: u64,
    /// At most so many events, the last ones.
    limit: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { seconds: 3_600, limit: 1_000 }
    }
}

impl Wanted {
    /// The span that ends now.
    fn span(self) -> Span {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let length = self.seconds.min(LONGEST.as_secs());
        Span { from: now.saturating_sub(length), to: now + 1 }
    }
}

/// What happened, the oldest first.
pub(super) async fn events(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Response {
    let most = wanted.limit.min(MOST_EVENTS);
    match lookup::ask(&shared.lookup, move |lookup| lookup.events(wanted.span(), most)).await {
        Ok(events) => Json(events).into_response(),
        Err(refusal) => refusal,
    }
}

/// The accounts of one peer.
pub(super) async fn peer(State(shared): State<Arc<Shared>>, Path(peer): Path<String>) -> Response {
    let view = match shared.view() {
        Ok(view) => view,
        Err(refusal) => return refusal,
    };
    let accounts = api::accounts_of(&view, &peer);
    if accounts.is_empty() { unknown() } else { Json(accounts).into_response() }
}

/// The figures of an account, second by second or minute by minute.
pub(super) async fn seconds(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, u16)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let account = match shared.view().and_then(|view| find(&view, &path)) {
        Ok(account) => account,
        Err(refusal) => return refusal,
    };
    match lookup::ask(&shared.lookup, move |lookup| lookup.samples(&account, wanted.span())).await {
        Ok(samples) => {
            let seconds: Vec<Second> =
                samples.iter().map(|(time, sample)| Second::new(*time, sample)).collect();
            Json(seconds).into_response()
        }
        Err(refusal) => refusal,
    }
}

/// All ports of an account.
pub(super) async fn ports(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, u16)>,
) -> Response {
    let account = match shared.view().and_then(|view| find(&view, &path)) {
        Ok(account) => account,
        Err(refusal) => return refusal,
    };
    match lookup::ask(&shared.lookup, move |lookup| lookup.ports(&account)).await {
        Ok((address, map)) => Json(Ports::new(address.to_string(), &map)).into_response(),
        Err(refusal) => refusal,
    }
}

/// The account that a path names.
pub(super) fn find(
    view: &View,
    (peer, direction, port): &(String, String, u16),
) -> Result<AccountId, Response> {
    api::account_id(view, peer, direction, *port).ok_or_else(unknown)
}

fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "no such peer has figures of its own now; /api/v1/peers lists them\n")
        .into_response()
}
