//! `GET /px.gif`: an event in the query. The response is an image whether the event is accepted or not, so that no
//! page shows a broken one; only a failure that a retry may cure is refused.

use http::Response;

use crate::gateway::accept::SenderKind;
use crate::gateway::answer::AcceptOutcome;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, answer};
use tagway_core::answer::ResponseBody;

pub(in crate::gateway) async fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.limit()?;
    arrived.check_volume(SenderKind::Client)?;
    match take(arrived).await {
        Ok(taken) => Ok(answer::gif(taken)),
        Err(
            rejection @ (RequestRejection::RateLimited(_)
            | RequestRejection::Busy
            | RequestRejection::Full
            | RequestRejection::Unwritable
            | RequestRejection::Closing),
        ) => Err(rejection),
        Err(rejection) => {
            arrived.count_refused(&rejection);
            Ok(answer::gif(AcceptOutcome::default()))
        }
    }
}

async fn take(arrived: &SiteRequest<'_>) -> Result<AcceptOutcome, RequestRejection> {
    let query = arrived.head.uri.query().unwrap_or_default();
    arrived.spend_bytes(SenderKind::Client, query.len())?;
    arrived.accept(arrived.read_query(query)?, SenderKind::Client).await
}
