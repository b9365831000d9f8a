//! A response over HTTP/2, monitored until the client has read all of it.
//!
//! An HTTP/2 client decides how much of a response it takes. The rest waits in this process while the socket is
//! free, so the bytes themselves record when they leave.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::EdgeResponseBody;
use super::connection_activity::{ConnectionActivity, UnreadResponse};
use tagway_core::answer::BodyStreamError;

/// A response body that records the client's reading of it.
pub(super) struct MonitoredBody {
    body: EdgeResponseBody,
    activity: Arc<ConnectionActivity>,
    /// Set since the next chunk could be polled: the server polls as soon as the client takes more.
    unread_response: Option<UnreadResponse>,
}

/// A chunk of a response.
pub(super) struct MonitoredChunk {
    bytes: Bytes,
    unread_response: Option<UnreadResponse>,
}

impl MonitoredBody {
    pub(super) fn new(body: EdgeResponseBody, pulse: &Arc<ConnectionActivity>) -> Self {
        let mark = (!body.is_end_stream()).then(|| pulse.track_unread_response());
        Self { body, activity: pulse.clone(), unread_response: mark }
    }
}

impl HttpBody for MonitoredBody {
    type Data = MonitoredChunk;
    type Error = BodyStreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<MonitoredChunk>, BodyStreamError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let mark = self.unread_response.take();
        // A wait for the handler's next chunk does not count against the client.
        if self.body.is_stream() && matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.unread_response = Some(self.activity.track_unread_response());
        }
        frame.map(|frame| {
            let mark = mark.or_else(|| Some(self.activity.track_unread_response()));
            frame.map(|frame| {
                frame.map(|frame| {
                    frame.map_data(|bytes| MonitoredChunk { bytes, unread_response: mark })
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for MonitoredChunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(mark) = &self.unread_response {
            mark.record_progress();
        }
    }
}
