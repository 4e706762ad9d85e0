//! Whoever is notified: records what is posted to it, and answers as the test wants.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{Ipv6Addr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, watch};

use crate::host::Host;

/// What one sink takes at most: connections at once (more wait to be accepted), bytes of one body, bytes of all bodies, and
/// requests.
const MOST_CONNECTIONS: usize = 64;
const LARGEST_BODY: usize = 1 << 20;
const LARGEST_SUM: usize = 64 << 20;
const MOST_REQUESTS: usize = 10_000;

/// An HTTP server on every address of a host; ends on drop.
#[derive(Debug)]
pub struct Sink<'a> {
    host: &'a Host,
    port: u16,
    desk: Arc<Desk>,
    /// The thread that serves, while the port is open.
    open: Mutex<Option<JoinHandle<()>>>,
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// Not at all, until that is changed; who waits then gets the new answer.
    Hang,
    /// The port is closed, and so is every connection.
    Refuse,
}

/// One POST.
#[derive(Clone, Debug)]
pub struct Received {
    /// Path, and query if there was one.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// As it came.
    pub body: String,
    /// When it was complete.
    pub at: Instant,
}

impl<'a> Sink<'a> {
    /// Starts it; it answers 200.
    #[must_use]
    pub fn start(host: &'a Host, port: u16) -> Self {
        let (answer, _) = watch::channel(Answer::Refuse);
        let desk = Desk { answer, page: Mutex::default(), received: Mutex::default() };
        let sink = Self { host, port, desk: Arc::new(desk), open: Mutex::default() };
        sink.answer(Answer::Status(200));
        sink
    }

    /// Answers so from now on; when this returns, the port is open, or closed.
    pub fn answer(&self, answer: Answer) {
        if let Answer::Status(status) = answer {
            assert!(StatusCode::from_u16(status).is_ok(), "{status} is no status of HTTP");
        }
        let mut open = lock(&self.open);
        self.desk.answer.send_replace(answer);
        if answer != Answer::Refuse {
            open.get_or_insert_with(|| self.listen());
        } else if let Some(thread) = open.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// What it answers to every GET from now on, when it answers 200.
    pub fn page(&self, text: &str) {
        text.clone_into(&mut lock(&self.desk.page));
    }

    /// Every POST so far, oldest first, however it was answered.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        let received = lock(&self.desk.received);
        assert!(
            !received.full,
            "more was posted to port {} of {} than a sink takes",
            self.port,
            self.host.name()
        );
        received.list.clone()
    }

    fn listen(&self) -> JoinHandle<()> {
        // A socket stays on the host where it was made, whichever thread uses it.
        let listener = self.host.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port)));
        let listener = listener.unwrap_or_else(|error| {
            panic!("cannot listen on port {} of {}: {error}", self.port, self.host.name())
        });
        let desk = Arc::clone(&self.desk);
        thread::spawn(move || serve(listener, &desk).expect("the sink serves"))
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        self.desk.answer.send_replace(Answer::Refuse);
        if let Some(thread) = lock(&self.open).take() {
            let _ = thread.join();
        }
    }
}

/// Serves until the answer is to refuse; with the runtime go the connections.
fn serve(listener: TcpListener, desk: &Arc<Desk>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut answer = desk.answer.subscribe();
        tokio::select! {
            _ = answer.wait_for(|answer| *answer == Answer::Refuse) => Ok(()),
            () = accept(listener, desk) => Ok(()),
        }
    })
}

async fn accept(listener: tokio::net::TcpListener, desk: &Arc<Desk>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Likely there are no descriptors left for the moment.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(desk);
        tokio::spawn(async move {
            let service = service_fn(|request| desk.serve(request));
            // A client that goes away early is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

/// What the test and the connections share.
#[derive(Debug)]
struct Desk {
    answer: watch::Sender<Answer>,
    page: Mutex<String>,
    received: Mutex<Posts>,
}

#[derive(Debug, Default)]
struct Posts {
    list: Vec<Received>,
    bytes: usize,
    full: bool,
}

impl Desk {
    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, LARGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE)),
            Err(_) => return Ok(empty(StatusCode::BAD_REQUEST)),
        };
        if head.method == Method::POST {
            lock(&self.received).add(Received {
                path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                headers: head
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                    .collect(),
                body: text(&body),
                at: Instant::now(),
            });
        }
        let mut response = empty(self.status().await);
        if head.method == Method::GET && response.status() == StatusCode::OK {
            *response.body_mut() = Full::from(lock(&self.page).clone());
        }
        Ok(response)
    }

    /// The status to answer with, once there is one.
    async fn status(&self) -> StatusCode {
        let mut answer = self.answer.subscribe();
        loop {
            if let Answer::Status(status) = *answer.borrow_and_update() {
                return StatusCode::from_u16(status).expect("no other was let in");
            }
            let _ = answer.changed().await;
        }
    }
}

impl Posts {
    fn add(&mut self, post: Received) {
        self.bytes += post.body.len();
        self.full |= self.bytes > LARGEST_SUM || self.list.len() >= MOST_REQUESTS;
        if !self.full {
            self.list.push(post);
        }
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a test left behind when it panicked is still to be read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
