//! Phase 10 of a provider's own endpoint where the request cannot simply go up as it comes: its credential needs work first, or
//! it may be sent more than once.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use quanta::Instant;

use super::Thread;
use super::attempt::{Failure, Outgoing, attempt};
use super::body::{self, Whole};
use super::caller::Caller;
use super::error::GatewayError;
use super::knobs::Knobs;
use super::mint::{self, Account};
use super::outgoing::{self, Key, write_head};
use super::plan::{self, Step};
use super::recall::{self, Question};
use super::relay::Relaying;
use super::resolve::Resolved;
use super::settle::Settle;
use super::tries::{Tried, Tries};
use super::unified::{Begun, Reply};
use crate::config::Secret;
use crate::http::{RequestFraming, RequestHead};
use crate::limits::BODY_BUFFER_MAX;
use crate::net::http1::Connection;
use crate::providers::aws::AwsKeys;
use crate::providers::vertex::{AccessToken, ServiceAccount};
use crate::record::End;
use crate::snapshot::{Settings, Tokens};

/// All that is needed to write a request once its credential and its body are there.
pub(super) struct Unwritten<'a> {
    pub resolved: Resolved<'a>,
    pub query: Option<String>,
    pub means: Means,
    pub knobs: Knobs,
    /// Asks for a stored answer.
    pub question: Option<Question>,
    pub account: Arc<str>,
    pub tokens: Arc<Tokens>,
}

/// What pays.
pub(super) enum Means {
    /// What the request brings.
    OfRequest,
    /// The instance's own key.
    House,
    /// A stored key.
    Stored(Secret),
    /// A token that is kept.
    Token(Rc<AccessToken>),
    /// An account whose token is still to be got.
    Google(Box<ServiceAccount>, Account),
    /// Keys that sign each request.
    Aws(AwsKeys),
    /// Nothing: the provider may not ask.
    Nothing,
}

impl Unwritten<'_> {
    /// Whether the body must be here as a whole: it is signed, or it may be sent again.
    fn wants_body(&self, head: &RequestHead, more: bool) -> bool {
        let again = more || self.knobs.tries > 1;
        match (&self.means, &self.question) {
            (Means::Aws(_), _) | (_, Some(_)) => true,
            _ => again && !is_large(head),
        }
    }

    fn write(
        &self,
        settings: &Settings,
        head: &RequestHead,
        body: Option<&Bytes>,
        settle: &Settle<'_>,
    ) -> Result<Outgoing, GatewayError> {
        let query = self.query.as_deref();
        let step = plan::native(head, &self.resolved, &self.account, query)?;
        let framing = match (body, head.framing()) {
            (None, framing) => framing,
            (Some(_), RequestFraming::None) => RequestFraming::None,
            (Some(body), _) => RequestFraming::Length(body.len() as u64),
        };
        let signature = match &self.means {
            Means::Aws(keys) => {
                let now = settle.record.began / 1000 + settle.began.elapsed().as_secs();
                let body = body.map_or(&b""[..], |body| body);
                let signature = outgoing::sign(keys, head, &step, body, now);
                let missing = "The path names no service and region";
                Some(signature.ok_or_else(|| GatewayError::no_provider(missing))?)
            }
            _ => None,
        };
        let house = || step.entry.house_key.as_ref().map(Secret::expose);
        let key = match (&self.means, &signature) {
            (_, Some(signature)) => Key::Signed(signature),
            (Means::OfRequest, _) => Key::OfRequest,
            (Means::Stored(key), _) => Key::Put(key.expose()),
            (Means::Token(token), _) => Key::Put(token.expose().as_bytes()),
            (Means::House, _) => house().map_or(Key::None, Key::Put),
            (Means::Nothing | Means::Google(..) | Means::Aws(_), _) => Key::None,
        };
        Ok(Outgoing {
            head: write_head(head, &step, key, framing, &self.tokens),
            body: body.cloned(),
            ..unwritten(settings, &self.knobs, &step, settle)
        })
    }
}

/// A body that is known to be larger than what is held in memory is sent once, as it comes.
fn is_large(head: &RequestHead) -> bool {
    matches!(head.framing(), RequestFraming::Length(length) if length > BODY_BUFFER_MAX)
}

/// Everything of an upstream request but its head and body.
pub(super) fn unwritten(
    settings: &Settings,
    knobs: &Knobs,
    step: &Step<'_>,
    settle: &Settle<'_>,
) -> Outgoing {
    let total = settings.clocks.total;
    Outgoing {
        origin: step.target.origin.clone(),
        head: Vec::new(),
        response_head: knobs.timeout.unwrap_or(settings.clocks.response_head),
        until: total.map(|total| settle.began + total),
        metered: step.metered,
        body: None,
    }
}

/// What goes up, and whether that is all that may be done.
pub(super) struct Given {
    /// The body, where it is not the client's own.
    pub body: Option<Bytes>,
    /// Whether another step follows if this one fails.
    pub more: bool,
}

/// Sends the request, as often as its knobs say.
pub(super) async fn answer(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    mut unwritten: Unwritten<'_>,
    Given { body, more }: Given,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let mut whole: Option<Whole<'_>> = None;
    let body = match body {
        Some(body) => Some(body),
        None if unwritten.wants_body(head, more) => {
            let read = body::whole(thread, settings, client, head, settle).await?;
            Some(whole.insert(read).bytes.clone())
        }
        None => {
            if client.admit_body().await.is_err() {
                return Err(Failure::ClientGone(End::ClientLeft));
            }
            if unwritten.knobs.tries > 1 {
                settle.record.detail = Some("tried once: the body is too large to be kept".into());
                unwritten.knobs.tries = 1;
            }
            None
        }
    };
    if let (Some(question), Some(body)) = (unwritten.question.take(), &body) {
        let mut caller = Caller::Client(client);
        let recalled = recall::recall(thread, settings, &mut caller, question, body, settle);
        if let Some(hit) = Box::pin(recalled).await? {
            return Ok(Begun::Recalled(hit));
        }
    }
    if let Means::Google(..) = unwritten.means
        && let Means::Google(account, kept_under) =
            std::mem::replace(&mut unwritten.means, Means::Nothing)
    {
        let now = settle.record.began / 1000;
        let begin = Instant::now();
        let token = mint::token(thread, settings, kept_under, *account, now).await;
        settle.timeline.wait += begin.elapsed();
        unwritten.means = Means::Token(token?);
    }
    let slug = unwritten.resolved.entry.provider.slug();
    let total = settings.clocks.total;
    let until = total.map(|total| settle.began + total);
    let mut tries = Tries::new(unwritten.knobs, more, until, settle);
    loop {
        let outgoing = Outgoing {
            response_head: tries.patience(settings.clocks.response_head),
            ..unwritten.write(settings, head, body.as_ref(), settle)?
        };
        let caller = recall::asking(Caller::Client(client), settle);
        let tried = attempt(thread, settings, caller, head, &outgoing, settle).await;
        let caller = recall::asking(Caller::Client(client), settle);
        let judged = tries.judge(thread, caller, head, slug, tried, settle);
        match Box::pin(judged).await? {
            Tried::Answer(answer) => {
                let relaying = Relaying::begin(thread, head, *answer, &outgoing, settle);
                return Ok(Begun::Relaying(relaying));
            }
            Tried::Failed(last) => {
                settle.storing = None;
                let reply = Box::new(Reply::verbatim(*last));
                return Ok(match more {
                    true => Begun::Failed(reply),
                    false => Begun::Reply(reply),
                });
            }
            Tried::Again => {}
        }
    }
}
