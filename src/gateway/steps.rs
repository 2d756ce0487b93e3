//! Phase 6 where several steps may answer: a cursor that gives one after the other, and the loop that goes through them (spec:
//! data plane 6.3, resolutions 11).

use std::sync::Arc;

use bytes::Bytes;

use super::attempt::Failure;
use super::authenticate::Identity;
use super::connection::choose;
use super::error::GatewayError;
use super::knobs::Knobs;
use super::native::{self, Given};
use super::recall::Wish;
use super::resolve::Resolved;
use super::settle::Settle;
use super::unified::{self, Asked, Begun, Endpoint};
use super::{Thread, body, universal};
use crate::dialect::exchange;
use crate::http::RequestHead;
use crate::limits::HELPED_BYTES;
use crate::net::http1::Connection;
use crate::snapshot::{Gateway, ProviderEntry, Settings};

/// One step: a request as a client would have sent it, and where it leads.
pub(super) struct Step {
    /// Its head. It has the form of the client's connection, so that an answer to it fits.
    pub head: Box<RequestHead>,
    /// Its body.
    pub body: Bytes,
    pub to: To,
}

/// Where a step leads.
pub(super) enum To {
    /// To a provider's own endpoint; the native path begins at this byte of the head's path.
    Native(Arc<ProviderEntry>, usize),
    /// To an endpoint for all providers.
    Unified(Endpoint),
}

/// Which step comes next.
pub(super) enum Cursor {
    /// The entries of a universal request, in their order.
    Entries(std::vec::IntoIter<Step>),
}

/// What became of the step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There was none.
    Begin,
    /// It failed; the status that it would have been told with.
    Failed(u16),
}

impl Cursor {
    /// The next step, and whether another one may follow if it fails.
    fn next(&mut self, outcome: Outcome) -> Option<(Step, bool)> {
        match self {
            Self::Entries(entries) => {
                debug_assert!(!matches!(outcome, Outcome::Failed(..400)));
                let step = entries.next()?;
                Some((step, entries.len() > 0))
            }
        }
    }
}

/// Who asks, and where.
pub(super) struct Asker<'a> {
    pub gateway: &'a Arc<Gateway>,
    pub identity: &'a Identity,
    /// The client's own head.
    pub head: &'a RequestHead,
}

/// Phases 5 to 11 of a universal request.
pub(super) async fn answer(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    admitted: &universal::Admitted,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let whole = body::whole(thread, settings, client, head, settle).await?;
    let snapshot = thread.shared.snapshot.load_full();
    let account = snapshot.account.clone();
    let providers = snapshot.providers.clone();
    drop(snapshot);
    let entries = match whole.bytes.len() {
        ..HELPED_BYTES => universal::read(head, &account, &admitted.gateway.id, &whole.bytes)?,
        _ => {
            let (head, gateway) = (head.clone(), admitted.gateway.id.clone());
            let bytes = whole.bytes.clone();
            let read = move || universal::read(&head, &account, &gateway, &bytes);
            let read = thread.shared.helpers.run(&thread.mailbox, read).await;
            read.map_err(GatewayError::no_answer)??
        }
    };
    let steps = entries.into_iter().enumerate();
    let steps: Vec<Step> = steps
        .map(|(index, entry)| entry.step(&providers, index))
        .collect::<Result<_, _>>()?;
    let asker = Asker {
        gateway: &admitted.gateway,
        identity: &admitted.identity,
        head,
    };
    let cursor = Cursor::Entries(steps.into_iter());
    run(thread, settings, client, &asker, cursor, settle).await
}

/// Goes through the steps until one answers. If none does, the last answer of a provider's goes down, else the last error.
pub(super) async fn run(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    asker: &Asker<'_>,
    mut cursor: Cursor,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let (mut outcome, mut answered) = (Outcome::Begin, false);
    let (mut last, mut error) = (None, None);
    while let Some((step, more)) = cursor.next(outcome) {
        if outcome != Outcome::Begin {
            settle.next_step(answered);
        }
        // The models of a route count for themselves.
        settle.entry = Some(settle.entry.map_or(0, |entry| entry + 1));
        let stepped = Box::pin(go(thread, settings, client, asker, &step, more, settle));
        match stepped.await {
            Ok(Begun::Failed(reply)) => {
                settle.record.status = reply.status;
                failed(settle);
                settle.log_answer(Some(&reply.content_type), None, None);
                if settle.kept_answer().is_some() {
                    settle.keep_answer(&Bytes::copy_from_slice(&reply.body));
                }
                (outcome, answered) = (Outcome::Failed(reply.status.max(400)), true);
                last = Some(reply);
            }
            Ok(begun) => return Ok(begun),
            Err(Failure::Error(refused)) => {
                settle.note_error(&refused, settings.error_status);
                failed(settle);
                let status = refused.status(settings.error_status);
                (outcome, answered) = (Outcome::Failed(status), false);
                error = Some(refused);
            }
            Err(gone) => return Err(gone),
        }
    }
    match (last, error) {
        (Some(last), _) => {
            if !answered {
                settle.go_back();
            }
            Ok(Begun::Reply(last))
        }
        (None, Some(error)) => Err(Failure::Error(error)),
        (None, None) => Err(GatewayError::no_answer("there was no step to try").into()),
    }
}

/// Notes for the log that the step failed.
fn failed(settle: &mut Settle<'_>) {
    let status = u64::from(settle.record.status);
    settle.decided("step", "failed", || [("status", status.into())]);
}

/// Phases 7 to 11 of one step.
async fn go(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    asker: &Asker<'_>,
    step: &Step,
    more: bool,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let head = &*step.head;
    settle.begin_step(head);
    let snapshot = thread.shared.snapshot.load_full();
    let identity = asker.identity.at_step(head, &snapshot.tokens);
    let gateway = asker.gateway.clone();
    settle.note_gateway(head, &gateway);
    if let Some(kept) = settle.kept_request() {
        kept.share(step.body.clone());
    }
    settle.log_client(asker.head);
    let given = Given {
        body: Some(step.body.clone()),
        more,
    };
    let (entry, at) = match &step.to {
        To::Native(entry, at) => (entry.clone(), *at),
        To::Unified(endpoint) => {
            let asked = Asked {
                gateway,
                unmade: false,
                endpoint: *endpoint,
            };
            let admitted = unified::Admitted::new(&snapshot, asked, identity);
            drop(snapshot);
            let answer = unified::answer(thread, settings, client, head, &admitted, given, settle);
            return Box::pin(answer).await;
        }
    };
    let resolved = Resolved {
        gateway,
        unmade: false,
        entry,
        rest: &head.path()[at..],
    };
    settle.record.provider = Some(resolved.entry.name.clone());
    let slug = resolved.entry.provider.slug();
    let in_body = || exchange::peek(&step.body).ok().map(|asked| asked.model);
    let model = slug.model_in_path(resolved.rest).or_else(in_body);
    settle.record.model = model.map(Box::from);
    let knobs = Knobs::of(head, &resolved.gateway.retries);
    let chosen = choose(thread, &snapshot, head, &resolved, &identity, settle)?;
    let wish = Wish::of(head, &resolved.gateway.cache);
    let unwritten = chosen.unwritten(&snapshot, head, resolved, knobs, wish)?;
    // An old snapshot must not live as long as the provider takes.
    drop(snapshot);
    native::answer(thread, settings, client, head, unwritten, given, settle).await
}
