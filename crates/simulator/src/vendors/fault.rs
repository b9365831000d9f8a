//! Simulated faults of vendors.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;

use super::super::server::{DemoReply, whole};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFault {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and `Retry-After`, in seconds.
    RetryAfter(u16, u64),
    /// Never replies.
    Hang,
    /// Cuts the connection after this many bytes of the reply's body; 0 cuts before the reply.
    ResetAfter(usize),
    /// Sends its reply a byte a second, without end.
    Trickle,
    /// Sends a reply of this status without end, as fast as it is read. Below 300 it has accepted the
    /// request first.
    HugeBody(u16),
}

impl SimulatedFault {
    /// Returns true if the request is read and accepted despite the fault.
    pub(super) const fn accepts(self) -> bool {
        matches!(self, Self::HugeBody(..300))
    }

    pub(super) async fn reply(self) -> Option<DemoReply> {
        match self {
            Self::Status(status) => with_status(status).body(whole("")).ok(),
            Self::RetryAfter(status, seconds) => {
                with_status(status).header(RETRY_AFTER, seconds).body(whole("")).ok()
            }
            Self::Hang => std::future::pending().await,
            Self::ResetAfter(0) => None,
            Self::ResetAfter(bytes) => {
                let cut = Err(io::Error::from(io::ErrorKind::ConnectionReset));
                let frames = [Ok(Bytes::from(vec![b'.'; bytes])), cut];
                let reply = with_status(200).header(CONTENT_LENGTH, bytes + 1000);
                reply.body(streamed(stream::iter(frames).boxed())).ok()
            }
            Self::Trickle => {
                let drops = stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Some((Ok(Bytes::from_static(b".")), ()))
                });
                with_status(200).body(streamed(drops.boxed())).ok()
            }
            Self::HugeBody(status) => {
                let chunk = Bytes::from(vec![b'.'; 64 << 10]);
                let flood = stream::repeat_with(move || Ok(chunk.clone()));
                with_status(status).body(streamed(flood.boxed())).ok()
            }
        }
    }
}

fn with_status(status: u16) -> http::response::Builder {
    Response::builder().status(StatusCode::from_u16(status).unwrap_or_default())
}

fn streamed(stream: BoxStream<'static, io::Result<Bytes>>) -> UnsyncBoxBody<Bytes, io::Error> {
    StreamBody::new(stream.map(|bytes| bytes.map(Frame::data))).boxed_unsync()
}

/// The planned faults.
#[derive(Debug, Default)]
pub(super) struct FaultScript(Mutex<FaultPlan>);

#[derive(Debug, Default)]
struct FaultPlan {
    next: VecDeque<SimulatedFault>,
    then: Option<SimulatedFault>,
}

impl FaultScript {
    pub(super) fn plan(&self, times: usize, fault: SimulatedFault) {
        self.lock().next.extend(std::iter::repeat_n(fault, times));
    }

    pub(super) fn replace(&self, fault: Option<SimulatedFault>) {
        *self.lock() = FaultPlan { next: VecDeque::new(), then: fault };
    }

    pub(super) fn next(&self) -> Option<SimulatedFault> {
        let mut plan = self.lock();
        plan.next.pop_front().or(plan.then)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, FaultPlan> {
        self.0.lock()
    }
}
