//! HTTP: the metrics, what there is to say to programs and to people, and whether the agent is alive and ready.

mod api;
mod connection;
mod fixed;
mod listen;
mod lookup;
mod names;
mod pace;
mod page;
mod past;
mod peers;
mod protect;
mod refusal;
mod runbooks;
mod text;
mod web_config;

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    time::Instant,
};

use self::{connection::Connection, refusal::Refusal};
pub use self::{
    listen::{Limits, RefusedConnections},
    lookup::{Lookup, Nobody},
    web_config::Protection,
};
use crate::{
    alert::{Alert, AlertKey},
    config::AlertName,
    model::Snapshot,
};

/// Everything there is to show at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The figures.
    pub snapshot: Arc<Snapshot>,
    /// The alerts.
    pub alerts: AlertView,
}

/// The alerts at one moment.
#[derive(Clone, Debug, Default)]
pub struct AlertView {
    /// Those that are raised.
    pub raised: Vec<Alert>,
    /// Those that are pending, or were raised not long ago.
    pub quiet: Vec<AlertKey>,
}

/// The latest view, and when it was made.
pub type Latest = Option<(Instant, Arc<View>)>;

/// Snapshots come every second; when the last is older than this the loop that makes them hangs.
const STALE: Duration = Duration::from_secs(30);

/// An account takes so many bytes of a body at most, or hardly more.
const BODY_BYTES: usize = 16 * 1024;

const NO_LONGER_UPDATED: &str = "the figures are no longer updated\n";

/// How to serve.
pub struct Options {
    /// What people call this host.
    pub host: String,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes answered at the same time; `None` is no limit.
    pub max_requests: Option<usize>,
    /// Who may connect and how.
    pub protection: Protection,
    /// What clients may take.
    pub limits: Limits,
    /// Who answers what the latest view does not.
    pub lookup: Arc<dyn Lookup>,
}

/// What the handlers share.
struct Shared {
    snapshots: watch::Receiver<Latest>,
    refused: Arc<RefusedConnections>,
    slots: Option<Semaphore>,
    host: String,
    telemetry_path: String,
    rendered: Mutex<Option<Rendered>>,
    lookup: Arc<dyn Lookup>,
}

/// The last metrics that were rendered: whoever scrapes in the same second is given them, too.
struct Rendered {
    view: Weak<View>,
    refused: [u64; 3],
    body: Bytes,
}

impl Shared {
    /// The latest view.
    fn view(&self) -> Result<Arc<View>, Refusal> {
        let latest = self.snapshots.borrow().clone();
        latest.map(|(_, view)| view).ok_or_else(|| Refusal::unavailable("the first census is not done yet"))
    }

    /// The metrics of a view, rendered at most once.
    fn rendered(&self, view: &Arc<View>) -> anyhow::Result<Bytes> {
        let refused = self.refused.counts();
        let mut last = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && last.view.as_ptr() == Arc::as_ptr(view)
            && last.refused == refused
        {
            return Ok(last.body.clone());
        }
        let body = Bytes::from(render(view, &self.refused)?);
        // As long as it is remembered, no other view can lie at its address.
        *last = Some(Rendered { view: Arc::downgrade(view), refused, body: body.clone() });
        Ok(body)
    }
}

/// Renders a view as Prometheus text format 0.0.4.
pub fn render(view: &View, refused: &RefusedConnections) -> anyhow::Result<Vec<u8>> {
    // Room that is not needed is never touched; a body that grows is copied, and twice in memory meanwhile.
    let mut body = Vec::with_capacity(256 * 1024 + BODY_BYTES * view.snapshot.accounts.len());
    fixed::encode(view, refused, &mut body)?;
    peers::encode(&view.snapshot, &mut body);
    names::encode(&view.snapshot.names, view.snapshot.taken.monotonic_ns, &mut body);
    Ok(body)
}

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    snapshots: watch::Receiver<Latest>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let server = Server::new(options, snapshots);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    listen::listen(listener, server, stop).await;
    Ok(())
}

/// Serves one client over a stream that is there already, over plain HTTP, until it leaves or takes too long.
pub async fn serve_stream<S>(stream: S, options: Options, snapshots: watch::Receiver<Latest>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (_running, stopped) = watch::channel(());
    Server::new(options, snapshots).connection(stopped).serve_plain(stream).await;
}

/// What all connections share.
struct Server {
    router: Router,
    protection: Arc<Protection>,
    limits: Limits,
    refused: Arc<RefusedConnections>,
}

impl Server {
    fn new(options: Options, snapshots: watch::Receiver<Latest>) -> Self {
        let Options { host, telemetry_path, max_requests, protection, limits, lookup } = options;
        let path = telemetry_path.clone();
        let protection = Arc::new(protection);
        let refused = Arc::<RefusedConnections>::default();
        let slots = max_requests.map(Semaphore::new);
        let shared = Arc::new(Shared {
            snapshots,
            refused: Arc::clone(&refused),
            slots,
            host,
            telemetry_path,
            rendered: Mutex::default(),
            lookup,
        });
        let router = Router::new()
            .route("/", get(page::overview))
            .route("/peers/{peer}/{direction}/{port}", get(page::peer))
            .route("/style.css", get(page::style))
            .route(&path, get(metrics))
            .route("/api/v1/openapi.yaml", get(api::description))
            .route("/api/v1/overview", get(async |state| answer(state, api::overview)))
            .route("/api/v1/alerts", get(async |state| answer(state, api::alerts)))
            .route("/api/v1/events", get(past::events))
            .route("/api/v1/peers", get(async |state| answer(state, api::peers)))
            .route("/api/v1/peers/{peer}", get(past::peer))
            .route("/api/v1/peers/{peer}/{direction}/{port}/seconds", get(past::seconds))
            .route("/api/v1/peers/{peer}/{direction}/{port}/ports", get(past::ports))
            .route("/api/v1/names", get(async |state| answer(state, api::names)))
            .route("/api/v1/failovers", get(async |state| answer(state, api::failovers)))
            .route("/runbooks/{alert}", get(runbook))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .with_state(shared)
            .layer(middleware::from_fn_with_state(Arc::clone(&protection), protect::protect));
        Self { router, protection, limits, refused }
    }

    fn connection(&self, stopped: watch::Receiver<()>) -> Connection {
        Connection {
            router: self.router.clone(),
            config: self.protection.now(),
            limits: self.limits,
            refused: Arc::clone(&self.refused),
            stopped,
        }
    }
}

/// The page of an alert.
async fn runbook(Path(alert): Path<String>) -> Response {
    match AlertName::named(&alert) {
        Some(name) => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], runbooks::page(name)).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such alert\n").into_response(),
    }
}

/// Answers with a part of the latest view as JSON.
fn answer(
    State(shared): State<Arc<Shared>>,
    part: fn(&View) -> serde_json::Value,
) -> Result<Response, Refusal> {
    Ok(([(header::CONTENT_TYPE, "application/json")], part(&*shared.view()?).to_string()).into_response())
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let _slot = match &shared.slots {
        None => None,
        Some(slots) => match slots.try_acquire() {
            Ok(slot) => Some(slot),
            Err(_) => {
                return (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many scrapes at the same time (web.max_requests)\n",
                )
                    .into_response();
            }
        },
    };
    let Some((made, view)) = shared.snapshots.borrow().clone() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first census is not done yet\n").into_response();
    };
    // Whoever scrapes must not take old figures for new ones.
    if made.elapsed() > STALE {
        return (StatusCode::SERVICE_UNAVAILABLE, NO_LONGER_UPDATED).into_response();
    }
    match shared.rendered(&view) {
        Ok(body) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
        }
        Err(error) => {
            log::error!("cannot render the metrics: {error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, "cannot render the metrics, see the log\n").into_response()
        }
    }
}

/// Alive: the figures are fresh, or the first ones are still being made.
async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.snapshots.borrow().as_ref() {
        Some((made, _)) if made.elapsed() > STALE => {
            (StatusCode::SERVICE_UNAVAILABLE, NO_LONGER_UPDATED).into_response()
        }
        _ => "ok\n".into_response(),
    }
}

/// Ready: there are figures, and they are fresh.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.snapshots.borrow().as_ref() {
        Some((made, _)) if made.elapsed() <= STALE => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "no current figures\n").into_response(),
    }
}
