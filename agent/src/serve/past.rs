//! What is answered from the past, and from the kernel's sockets.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{Shared, View, api, lookup, refusal::Refusal};
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
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let most = wanted.limit.min(MOST_EVENTS);
    let events = lookup::ask(&shared.lookup, move |lookup| lookup.events(wanted.span(), most)).await?;
    Ok(Json(events).into_response())
}

/// The accounts of one peer.
pub(super) async fn peer(
    State(shared): State<Arc<Shared>>,
    Path(peer): Path<String>,
) -> Result<Response, Refusal> {
    let accounts = api::accounts_of(&*shared.view()?, &peer);
    if accounts.is_empty() { Err(UNKNOWN) } else { Ok(Json(accounts).into_response()) }
}

/// The figures of an account, second by second or minute by minute.
pub(super) async fn seconds(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, u16)>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let account = find(&*shared.view()?, &path)?;
    let samples = lookup::ask(&shared.lookup, move |lookup| lookup.samples(&account, wanted.span())).await?;
    let seconds: Vec<Second> = samples.iter().map(|(time, sample)| Second::new(*time, sample)).collect();
    Ok(Json(seconds).into_response())
}

/// All ports of an account.
pub(super) async fn ports(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, u16)>,
) -> Result<Response, Refusal> {
    let account = find(&*shared.view()?, &path)?;
    let (address, map) = lookup::ask(&shared.lookup, move |lookup| lookup.ports(&account)).await?;
    Ok(Json(Ports::new(address.to_string(), &map)).into_response())
}

const UNKNOWN: Refusal =
    Refusal::not_found("no such peer has figures of its own now; /api/v1/peers lists them");

/// The account that a path names.
pub(super) fn find(
    view: &View,
    (peer, direction, port): &(String, String, u16),
) -> Result<AccountId, Refusal> {
    api::account_id(view, peer, direction, *port).ok_or(UNKNOWN)
}
