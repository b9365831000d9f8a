//! `GET /px.gif`: an event in the query. The answer is an image whatever the event is worth, so
//! that no page shows a broken one; only what may work later is refused.

use http::Response;

use crate::answer::AnswerBody;
use crate::gateway::accept::Sender;
use crate::gateway::answer::Taken;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, answer, decode};

pub(in crate::gateway) async fn answer(
    arrived: &Arrived<'_>,
) -> Result<Response<AnswerBody>, Rejection> {
    arrived.limit()?;
    arrived.check_volume(Sender::Client)?;
    match take(arrived).await {
        Ok(taken) => Ok(answer::gif(taken)),
        Err(
            rejection @ (Rejection::RateLimited(_)
            | Rejection::Busy
            | Rejection::Full
            | Rejection::Unwritable
            | Rejection::Closing),
        ) => Err(rejection),
        Err(rejection) => {
            arrived.count_refused(&rejection);
            Ok(answer::gif(Taken::default()))
        }
    }
}

async fn take(arrived: &Arrived<'_>) -> Result<Taken, Rejection> {
    let query = arrived.head.uri.query().unwrap_or_default();
    arrived.spend_bytes(Sender::Client, query.len())?;
    let text = decode::from_query(query)?;
    let messages = arrived.messages(text.into(), None, None).await?;
    arrived.accept(messages, Sender::Client).await
}
