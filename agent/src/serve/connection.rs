//! One connection, from its handshake to its end.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Limits, RefusedConnections,
    pace::{Pace, Paced},
    web_config::WebConfig,
};

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

const NO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis port speaks TLS: use https://\n";

pub(super) struct Connection {
    pub router: Router,
    /// What is in force when it is made.
    pub config: Arc<WebConfig>,
    pub limits: Limits,
    pub refused: Arc<RefusedConnections>,
    /// Closes when the server stops.
    pub stopped: watch::Receiver<()>,
}

impl Connection {
    pub async fn serve(self, stream: TcpStream) {
        self.in_time(|connection, pace| connection.converse(stream, pace)).await;
    }

    pub async fn serve_plain<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.in_time(|connection, pace| connection.speak_http(stream, pace)).await;
    }

    async fn in_time<F: Future<Output = ()>>(self, converse: impl FnOnce(Self, Arc<Pace>) -> F) {
        let refused = Arc::clone(&self.refused);
        let pace = Pace::new(&self.limits);
        tokio::select! {
            () = converse(self, Arc::clone(&pace)) => {}
            () = pace.overrun() => {
                refused.timeout.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn converse(mut self, stream: TcpStream, pace: Arc<Pace>) {
        // The end of an answer must not wait for an acknowledgement; without it, it only comes later.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.config.tls.clone() else { return self.speak_http(stream, pace).await };
        let handshake = tokio::select! {
            handshake = shake_hands(stream, tls) => handshake,
            _ = self.stopped.changed() => return,
        };
        match handshake {
            Ok(stream) => self.speak_http(stream, pace).await,
            // A client that goes away, such as a balancer that only looks whether the port is open, is no failure.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                log::debug!("a TLS handshake failed: {error}");
                self.refused.tls.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    async fn speak_http<S>(mut self, stream: S, pace: Arc<Pace>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let router = TowerToHyperService::new(self.router);
        let io = TokioIo::new(Paced { stream, pace: Arc::clone(&pace) });
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let pace = Arc::clone(&pace);
            pace.answer();
            request.extensions_mut().insert(Arc::clone(&self.config));
            let answer = router.call(request);
            async move {
                let answer = answer.await;
                pace.answered();
                answer
            }
        });
        let http = http1::Builder::new()
            .max_header_size(self.limits.head_bytes)
            .max_buf_size(self.limits.head_bytes)
            .header_read_timeout(None)
            .serve_connection(io, service);
        let mut http = pin!(http);
        tokio::select! {
            _ = http.as_mut() => return,
            _ = self.stopped.changed() => http.as_mut().graceful_shutdown(),
        }
        // What went wrong is between hyper and the client, which got its answer or knows that it did not.
        let _ = http.await;
    }
}

/// Speaks TLS, and tells a client that does not what to do.
async fn shake_hands(mut stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [HANDSHAKE];
    stream.peek(&mut first).await?;
    if first != [HANDSHAKE] {
        // What stays unread when we close would take the answer away from the client.
        let _ = stream.read(&mut vec![0; 4096]).await?;
        stream.write_all(NO_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    TlsAcceptor::from(tls).accept(stream).await
}
