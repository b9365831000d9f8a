//! Turns a body into judged messages: at once if that is fast, else on a blocking thread, when it is the client's
//! turn.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;

use super::SiteRequest;
use super::accept::{DecodedMessages, SenderKind};
use super::body::{self, ReceivedBody};
use super::budget::{BudgetAccount, BudgetOwner, BudgetShare};
use super::decode::{self, DecodeContext};
use super::rejection::RequestRejection;
use super::snapshot::GatewaySnapshot;
use tagway_core::event::EventKind;

impl SiteRequest<'_> {
    /// Returns the owner of the request's budget, until the body proves another sender.
    pub(super) fn budget_owner(&self) -> BudgetOwner {
        BudgetOwner::client(self.site.id, self.client.client)
    }

    /// Returns the budget on which a body of this owner counts.
    pub(super) fn budget_account(&self, owner: BudgetOwner) -> BudgetAccount<'_> {
        BudgetAccount { budget: &self.snapshot.budget, owner }
    }

    /// Reads a body and judges its messages. Its bytes are charged to the sender's quota; if only the body can
    /// prove the sender, the caller charges them.
    pub(super) async fn read<B>(
        &self,
        body: B,
        kind: Option<EventKind>,
        sender: Option<SenderKind>,
    ) -> Result<DecodedMessages, RequestRejection>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
    {
        let payer = match sender {
            Some(SenderKind::Server) => BudgetOwner::servers(self.site.id),
            Some(SenderKind::Client) | None => self.budget_owner(),
        };
        let (limits, account) = (&self.snapshot.limits, self.budget_account(payer));
        let ReceivedBody { text, sent, bytes, share } =
            body::read(body, &self.head.headers, limits, account).await?;
        drop(sent);
        if let Some(sender) = sender {
            self.spend_bytes(sender, bytes)?;
        }
        match self.decode_messages(text, share, kind, payer).await {
            Ok(messages) => Ok(DecodedMessages { bytes, ..messages }),
            Err(rejection) => {
                if sender.is_none() {
                    self.spend_bytes(SenderKind::Client, bytes)?;
                }
                Err(rejection)
            }
        }
    }

    async fn decode_messages(
        &self,
        text: Bytes,
        share: Option<BudgetShare>,
        kind: Option<EventKind>,
        payer: BudgetOwner,
    ) -> Result<DecodedMessages, RequestRejection> {
        if share.is_some() {
            return self.messages(text, share, kind).await;
        }
        match self.messages(text.clone(), None, kind).await {
            // It is short, but many events take as long as a long body, and so do shared members.
            Err(rejection) if rejection.is_of_size() => {
                let GatewaySnapshot { limits, budget, .. } = &**self.snapshot;
                let share = budget.take(payer, text.len(), limits).await?;
                self.messages(text, Some(share), kind).await
            }
            judged => judged,
        }
    }

    /// Judges the message in a query.
    pub(super) fn read_query(&self, query: &str) -> Result<DecodedMessages, RequestRejection> {
        let limits = &self.snapshot.limits;
        let (placeholder_ids, received_at) = (&self.site.placeholder_ids, self.received_at);
        let anonymizes_ip = self.site.privacy.anonymizes_ip();
        let terms =
            DecodeContext { limits, kind: None, placeholder_ids, anonymizes_ip, received_at };
        let judged = decode::read_query(query, &terms, &limits.small_body_limits())?;
        Ok(DecodedMessages::of(judged, query.len()))
    }

    /// Judges the messages of a text: without a share, only as many as take a moment.
    async fn messages(
        &self,
        text: Bytes,
        share: Option<BudgetShare>,
        kind: Option<EventKind>,
    ) -> Result<DecodedMessages, RequestRejection> {
        let (snapshot, received_at) = (Arc::clone(self.snapshot), self.received_at);
        let placeholder_ids = Arc::clone(&self.site.placeholder_ids);
        let anonymizes_ip = self.site.privacy.anonymizes_ip();
        let judge = move |share: Option<BudgetShare>| {
            let limits = &snapshot.limits;
            let terms = DecodeContext {
                limits,
                kind,
                placeholder_ids: &placeholder_ids,
                anonymizes_ip,
                received_at,
            };
            let bounds = match share {
                Some(_) => limits.body_limits(),
                None => limits.small_body_limits(),
            };
            let judged = decode::read_within(&text, &terms, &bounds)?;
            Ok(DecodedMessages { share, ..DecodedMessages::of(judged, text.len()) })
        };
        match share {
            None => judge(None),
            Some(share) => share.run(move |share| judge(Some(share))).await,
        }
    }
}
