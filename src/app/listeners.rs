//! The listeners: the one for sites, with the gateway behind it, and the operators'.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;

use crate::admin::AdminServer;
use crate::config::TagwaySettings;
use crate::gateway::{ClientFacts, Gateway};
use tagway_core::metrics::Metrics;
use tagway_edge::{EdgeClientFacts, EdgeServer, RequestHandler, TlsTerminator};

/// Binds the listeners for sites.
pub(super) async fn bind_edge(
    settings: &TagwaySettings,
    metrics: &Arc<Metrics>,
    gateway: &Arc<Gateway>,
) -> anyhow::Result<EdgeServer> {
    let handler = Arc::new(GatewayHandler(gateway.clone()));
    Ok(EdgeServer::bind(&settings.edge, metrics.clone(), handler).await?)
}

/// Binds the admin listener; also returns its certificates, if it speaks TLS.
pub(super) async fn bind_admin(
    settings: &TagwaySettings,
) -> anyhow::Result<(AdminServer, Option<TlsTerminator>)> {
    let (address, tls) = (settings.admin.address, &settings.admin.tls);
    let tls = match tls.is_on() {
        true => Some(TlsTerminator::load(tls.certificates(&settings.edge)).await?),
        false => None,
    };
    let bound = AdminServer::bind(address, tls.clone()).await;
    let bound = bound.with_context(|| format!("cannot listen on {address} (listen.admin)"))?;
    Ok((bound, tls))
}

/// The edge's handler: passes requests to the gateway.
struct GatewayHandler(Arc<Gateway>);

impl RequestHandler for GatewayHandler {
    fn handle(
        &self,
        request: http::Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> BoxFuture<'static, http::Response<tagway_edge::EdgeResponseBody>> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.handle(request, facts(arrival)).await })
    }

    fn respond_overloaded(
        &self,
        request: &http::Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> http::Response<tagway_edge::EdgeResponseBody> {
        self.0.respond_overloaded(request, facts(arrival))
    }

    fn is_host_served(&self, request: &http::Request<Incoming>) -> bool {
        self.0.is_host_served(request)
    }

    fn record_edge_response(
        &self,
        request: &http::Request<Incoming>,
        arrival: EdgeClientFacts,
        answer: http::Response<tagway_edge::EdgeResponseBody>,
    ) -> http::Response<tagway_edge::EdgeResponseBody> {
        self.0.record_edge_response(request, facts(arrival), answer)
    }
}

fn facts(arrival: EdgeClientFacts) -> ClientFacts {
    ClientFacts { client: arrival.client, secure: arrival.secure }
}
