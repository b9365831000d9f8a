//! The pooled connections to an origin, and one request over them.
//!
//! A connection is a task of its own, so that an upload goes on while nobody takes of the answer; what
//! is pooled is where it takes requests from. An origin closes connections that are unused for long,
//! and may do so just when the next request is on its way. Such a request goes once more, over a
//! connection made for it, if nothing is lost or done twice by that.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::connect::{Connector, Guard, connector};
use super::settings::Settings;
use crate::answer::BodyError;

/// The body of a request.
pub(super) type Sent = UnsyncBoxBody<Bytes, BodyError>;

/// Connections to one origin.
pub(super) struct Pool {
    connector: Connector,
    /// Where it is.
    scheme: Scheme,
    authority: Authority,
    silence: Duration,
    idle_time: Duration,
    idle_connections: usize,
    idle: Mutex<Idle>,
    /// Connections, and the watch over them: they end with the pool.
    tasks: Mutex<JoinSet<()>>,
}

/// What stands ready.
#[derive(Default)]
struct Idle {
    /// Of HTTP/1.1, the latest used last.
    unused: VecDeque<(http1::SendRequest<Sent>, Instant)>,
    /// Whether somebody will end those that stay unused.
    is_watched: bool,
    /// The one of HTTP/2, for all requests.
    shared: Option<http2::SendRequest<Sent>>,
}

/// Where a connection takes requests from.
enum Line {
    One(http1::SendRequest<Sent>),
    Shared(http2::SendRequest<Sent>),
}

impl Pool {
    /// Nothing is connected yet.
    pub(super) fn new(
        settings: &Settings,
        tls: &ClientConfig,
        guard: Guard,
        is_http1: bool,
    ) -> Result<Arc<Self>, http::Error> {
        let origin: Uri = settings.origin.as_str().parse()?;
        let origin = origin.into_parts();
        Ok(Arc::new(Self {
            connector: connector(settings, tls, guard, is_http1),
            scheme: origin.scheme.unwrap_or(Scheme::HTTP),
            authority: origin.authority.map_or_else(|| Authority::try_from(""), Ok)?,
            silence: settings.silence,
            idle_time: settings.idle_time,
            idle_connections: settings.idle_connections,
            idle: Mutex::default(),
            tasks: Mutex::default(),
        }))
    }

    /// The head of the answer, and what follows it. The request names a path alone.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Sent>,
    ) -> Result<Response<Flow>, BodyError> {
        while let Some(mut line) = self.take().await {
            let again = repeatable(&request);
            let mut error = match self.ask(&mut line, request).await {
                Ok(answer) => return Ok(self.flow(answer, line)),
                Err(error) => error,
            };
            request = match (error.take_message(), again) {
                // It was not sent at all.
                (Some(request), _) => request,
                (None, Some(again)) if was_at_its_end(error.error()) => {
                    request = again;
                    break;
                }
                (None, _) => return Err(error.into_error().into()),
            };
        }
        let mut line = self.connect().await?;
        match self.ask(&mut line, request).await {
            Ok(answer) => Ok(self.flow(answer, line)),
            Err(error) => Err(error.into_error().into()),
        }
    }

    async fn ask(
        &self,
        line: &mut Line,
        mut request: Request<Sent>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sent>>> {
        match line {
            Line::One(sender) => sender.try_send_request(request).await,
            Line::Shared(sender) => {
                let mut whole = mem::take(request.uri_mut()).into_parts();
                whole.scheme = Some(self.scheme.clone());
                whole.authority = Some(self.authority.clone());
                // A path with a scheme and an authority is always a URI.
                *request.uri_mut() = Uri::from_parts(whole).unwrap_or_default();
                sender.try_send_request(request).await
            }
        }
    }

    /// A connection that was used before and takes a request.
    async fn take(&self) -> Option<Line> {
        let shared = self.lock().shared.clone();
        if let Some(mut sender) = shared {
            if sender.ready().await.is_ok() {
                return Some(Line::Shared(sender));
            }
            self.lock().shared = None;
        }
        loop {
            let (mut sender, since) = self.lock().unused.pop_back()?;
            if since.elapsed() > self.idle_time {
                // Those that were used before it are older.
                self.lock().unused.clear();
                return None;
            }
            // The connection has to see the end of the answer before.
            if sender.ready().await.is_ok() {
                return Some(Line::One(sender));
            }
        }
    }

    async fn connect(&self) -> Result<Line, BodyError> {
        let origin = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()?;
        let stream = self.connector.clone().call(origin).await?;
        if stream.connected().is_negotiated_h2() {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new());
            let (sender, connection) = builder.handshake(stream).await?;
            self.spawn(connection.map(drop));
            self.lock().shared = Some(sender.clone());
            return Ok(Line::Shared(sender));
        }
        let (sender, connection) = http1::handshake(stream).await?;
        self.spawn(connection.with_upgrades().map(drop));
        Ok(Line::One(sender))
    }

    /// The answer, which gives the connection back at its end.
    fn flow(self: &Arc<Self>, answer: Response<Incoming>, line: Line) -> Response<Flow> {
        let line = match line {
            Line::One(sender) => Some(sender),
            Line::Shared(_) => None,
        };
        answer.map(|body| {
            let mut flow = Flow { body, line, pool: self.clone(), waiting: None };
            if flow.body.is_end_stream() {
                flow.give_back();
            }
            flow
        })
    }

    fn put(self: &Arc<Self>, sender: http1::SendRequest<Sent>) {
        if sender.is_closed() || self.idle_connections == 0 {
            return;
        }
        let mut idle = self.lock();
        if idle.unused.len() >= self.idle_connections {
            idle.unused.pop_front();
        }
        idle.unused.push_back((sender, Instant::now()));
        if !mem::replace(&mut idle.is_watched, true) {
            self.spawn(watch(Arc::downgrade(self), self.idle_time));
        }
    }

    /// Ends those that were not used for long. Whether there are others.
    fn prune(&self) -> bool {
        let mut idle = self.lock();
        let fresh = idle.unused.partition_point(|(_, since)| since.elapsed() > self.idle_time);
        idle.unused.drain(..fresh);
        idle.is_watched = !idle.unused.is_empty();
        idle.is_watched
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after unused connections as long as there are any.
async fn watch(pool: Weak<Pool>, idle_time: Duration) {
    loop {
        tokio::time::sleep(idle_time).await;
        if !pool.upgrade().is_some_and(|pool| pool.prune()) {
            return;
        }
    }
}

/// The request once more, if it may be made twice and has no body that would be lost.
fn repeatable(request: &Request<Sent>) -> Option<Request<Sent>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Whether a connection that had served before was at its end.
fn was_at_its_end(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user() && !error.is_timeout()
}

/// The body of an answer, which must not be silent for too long.
pub(super) struct Flow {
    body: Incoming,
    /// Since the last of it came.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Where its connection takes requests from, if it has one of its own.
    line: Option<http1::SendRequest<Sent>>,
    /// Whose connection it is.
    pool: Arc<Pool>,
}

impl Flow {
    /// Gives the connection back, once all is here. What is dropped before ends its connection.
    fn give_back(&mut self) {
        if let Some(sender) = self.line.take() {
            self.pool.put(sender);
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let silence = self.pool.silence;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
            ready!(waiting.as_mut().poll(context));
            return Poll::Ready(Some(Err("the origin fell silent".into())));
        };
        self.waiting = None;
        match &frame {
            Some(Err(_)) => self.line = None,
            // Nobody may ask for the end of a body whose length was said.
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            Some(Ok(_)) | None => self.give_back(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
