//! An answer over HTTP/2, watched until the client has taken all of it.
//!
//! A client of HTTP/2 says how much of an answer it takes. What it does not take waits in this
//! process while the socket is free, so the bytes themselves note when they leave.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::Body;
use super::pulse::{Pulse, Untaken};
use crate::answer::BodyError;

/// An answer's body that notes how the client takes it.
pub(super) struct Watched {
    body: Body,
    pulse: Arc<Pulse>,
    /// Since the next piece could be asked for: the server asks as soon as the client takes more.
    mark: Option<Untaken>,
}

/// Some bytes of an answer.
pub(super) struct Piece {
    bytes: Bytes,
    mark: Option<Untaken>,
}

impl Watched {
    pub(super) fn new(body: Body, pulse: &Arc<Pulse>) -> Self {
        let mark = (!body.is_end_stream()).then(|| pulse.untaken());
        Self { body, pulse: pulse.clone(), mark }
    }
}

impl HttpBody for Watched {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let mark = self.mark.take();
        // While the handler has nothing to give, nothing is the client's fault.
        if self.body.is_stream() && matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.mark = Some(self.pulse.untaken());
        }
        frame.map(|frame| {
            let mark = mark.or_else(|| Some(self.pulse.untaken()));
            frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| Piece { bytes, mark })))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(mark) = &self.mark {
            mark.note_taken();
        }
    }
}
