//! The pages for people: the host at a glance, and a page for each peer. Rendered here, so that a browser needs no script and nothing
//! from anywhere else; they ask to be loaded again after a few seconds.

mod alerts;
mod overview;
mod peer;

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;

use super::{Lookup, Shared, lookup, past, refusal::Refusal};
use crate::{
    api::segment,
    model::{
        AccountId,
        past::{Span, second_of},
    },
    visible::visible,
};

/// Nothing but what this server itself sends, no script, and no page around ours.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("style.css");

/// A page as it is sent.
struct Page(Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.0.into_string().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// How the pages look.
pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// The host at a glance.
pub(super) async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    let host = &shared.host;
    match shared.view() {
        Ok(view) => Page(frame(host, host, &overview::body(&view, &shared.telemetry_path))).into_response(),
        // The first census takes a moment; the page comes back by itself.
        Err(_) => {
            Page(frame(host, host, &html! { p { "The first census is not done yet." } })).into_response()
        }
    }
}

/// How much of the past a page shows.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// The last so many seconds.
    seconds: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { seconds: 600 }
    }
}

/// One peer.
pub(super) async fn peer(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<(String, String, u16)>,
    Query(Wanted { seconds }): Query<Wanted>,
) -> Result<Response, Refusal> {
    let view = shared.view()?;
    let id = past::find(&view, &path)?;
    let now = second_of(view.snapshot.taken.unix_seconds);
    let span = Span { from: now.saturating_sub(seconds.clamp(60, 14 * 86_400)), to: now + 1 };
    let asked = id.clone();
    // What cannot be answered is said in its place; the rest of the page is there all the same.
    let ask = move |lookup: &dyn Lookup| Ok((lookup.samples(&asked, span), lookup.ports(&asked)));
    let (samples, ports) = lookup::ask(&shared.lookup, ask).await?;
    let title = format!("{} – {}", id.peer, shared.host);
    let body = peer::body(&view, &id, span, &samples, &ports);
    Ok(Page(frame(&shared.host, &title, &body)).into_response())
}

/// What all pages have in common.
fn frame(host: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta http-equiv="refresh" content="5";
                title { (visible(title)) " – tcpwarden" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header { a href="/" { "tcpwarden" } " on " b { (visible(host)) } }
                main { (body) }
            }
        }
    }
}

/// The path of an account's page.
fn link(peer: &str, direction: &str, port: u16) -> String {
    format!("/peers/{}/{direction}/{port}", segment(peer))
}

/// As [`link`].
fn link_to(id: &AccountId) -> String {
    link(&id.peer.to_string(), id.direction.name(), id.port)
}

/// A figure and what it is.
fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// A picture that was drawn here.
fn picture(svg: String) -> PreEscaped<String> {
    PreEscaped(svg)
}

/// A length of time, roughly.
fn roughly(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
