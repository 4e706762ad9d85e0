//! How long each part of a connection may take.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, timeout_at},
};

use super::Limits;

/// Where a connection is, and until when it may be there.
#[derive(Clone, Copy)]
struct Stage {
    part: Part,
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The handshake or a request is arriving.
    Arriving,
    /// The answer is being made.
    Answering,
    /// The answer is made and not sent yet.
    Sending,
    /// Nothing is under way.
    Idle,
}

/// The stages of one connection, moved on by its stream and its service.
pub(super) struct Pace {
    stage: watch::Sender<Stage>,
    head: Duration,
    answer: Duration,
    idle: Duration,
}

impl Pace {
    pub fn new(limits: &Limits) -> Arc<Self> {
        let stage = Stage { part: Part::Arriving, until: Instant::now() + limits.head };
        Arc::new(Self {
            stage: watch::Sender::new(stage),
            head: limits.head,
            answer: limits.answer,
            idle: limits.idle,
        })
    }

    /// Resolves when a stage has taken too long.
    pub async fn overrun(&self) {
        let mut stage = self.stage.subscribe();
        loop {
            let until = stage.borrow_and_update().until;
            // The sender is ours, so the channel does not close.
            if timeout_at(until, stage.changed()).await.is_err() {
                return;
            }
        }
    }

    /// A request is complete.
    pub fn answer(&self) {
        self.stage.send_replace(Stage { part: Part::Answering, until: Instant::now() + self.answer });
    }

    /// Its answer is made.
    pub fn answered(&self) {
        self.stage.send_modify(|stage| stage.part = Part::Sending);
    }

    fn received(&self) {
        self.pass(Part::Idle, Part::Arriving, self.head);
    }

    fn sent(&self) {
        self.pass(Part::Sending, Part::Idle, self.idle);
    }

    fn pass(&self, from: Part, to: Part, limit: Duration) {
        self.stage.send_if_modified(|stage| {
            let passes = stage.part == from;
            if passes {
                *stage = Stage { part: to, until: Instant::now() + limit };
            }
            passes
        });
    }
}

/// A stream that tells the pace what it does.
pub(super) struct Paced<S> {
    pub stream: S,
    pub pace: Arc<Pace>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pace.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.pace.sent();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
