//! Requests that wait for one answer together (`coalesce`, `cf-aig-coalesce`). The first of them asks the provider; once its answer
//! begins, a task of its own brings it, and the first one's client is a reader like the others: if it leaves, nothing changes.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quanta::Instant;

use super::Thread;
use super::attempt::{Failure, bounded};
use super::caller::Caller;
use super::recall::{self, Hit, Storing};
use super::relay::{After, Relaying};
use super::settle::{Handed, Settle};
use super::translate::{Translating, frame};
use super::unified::Begun;
use crate::http::{RequestHead, Version, write};
use crate::limits::{FLIGHT_CLAIMS_MAX, FLIGHT_RECHECK, FLIGHT_WATCH};
use crate::meter::Usage;
use crate::meter::cost::Money;
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError};
use crate::net::mailbox::{Mailbox, Ticket};
use crate::net::task;
use crate::net::task::Rounds;
use crate::record::{End, Saved};
use crate::snapshot::Settings;
use crate::tables::cache::Key;
use crate::tables::flight::{Claim, Entered, Figures, Follower, Landing, Next, Opening, Others};

/// An answer that another request brings.
pub(super) struct Following {
    follower: Follower,
    opening: Opening,
    /// The head for the client of who leads, and whether its connection is kept.
    own: Option<(Vec<u8>, bool)>,
}

/// What a request is to the flight of its key.
pub(super) enum Boarded {
    Leads(Box<Claim>),
    Follows(Box<Following>),
    Alone,
}

/// Enters the flight of a key and waits until its answer begins. Where its leader gives up, exactly one of those that wait leads the
/// next one; after some such ends each goes alone.
pub(super) async fn board(
    thread: &Thread,
    caller: &mut Caller<'_>,
    key: Key,
    patience: Duration,
    settle: &mut Settle<'_>,
) -> Result<Boarded, Failure> {
    let began = Instant::now();
    for _ in 0..=FLIGHT_CLAIMS_MAX {
        let mut follower = match thread.shared.flights.enter(key, settle.id().text()) {
            Entered::Leads(claim) => return Ok(Boarded::Leads(Box::new(claim))),
            Entered::Alone => return Ok(Boarded::Alone),
            Entered::Joins(follower) => follower,
        };
        loop {
            let ticket = Ticket::take();
            match follower.next(|| ticket.address(&thread.mailbox)) {
                Next::Opening(opening) => {
                    let leader = follower.leader();
                    settle.decided("cache", "joined", || {
                        [("leader", String::from_utf8_lossy(&leader).as_ref().into())]
                    });
                    return Ok(Boarded::Follows(Box::new(Following {
                        follower,
                        opening,
                        own: None,
                    })));
                }
                Next::Wait if began.elapsed() < patience => {
                    caller.unless_left(ticket.wait(FLIGHT_RECHECK)).await?;
                }
                Next::End(Landing::Abandoned) => break,
                _ => return Ok(Boarded::Alone),
            }
        }
    }
    Ok(Boarded::Alone)
}

impl Following {
    /// Notes of a follower's request what it is: the provider was not asked for it.
    pub fn note(&self, settle: &mut Settle<'_>) {
        if self.opening.status == 200 {
            settle.record.cached = Some(Box::default());
            settle.record.usage = Some(Usage::default());
            settle.record.cost = Some(Money::ZERO);
        }
    }
}

/// What becomes of an answer that others wait for: a task brings it from here on, and the client of who leads reads along.
pub(super) fn lead(
    settings: &Arc<Settings>,
    claim: Box<Claim>,
    begun: Result<Begun, Failure>,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let begun = match begun {
        Err(Failure::Error(error)) if error.is_of_provider() => {
            let status = error.status(settings.error_status);
            share(
                &claim,
                status,
                b"application/json",
                error.body(status).into(),
            );
            claim.end(Landing::Whole(Figures::default()));
            return Err(Failure::Error(error));
        }
        // What this request alone is refused for is none of the others' business: one of them asks anew.
        begun => begun?,
    };
    let (mut pouring, opening) = match begun {
        Begun::Relaying(mut relaying) => match relaying.opening.take() {
            Some(opening) => (Pouring::Relaying(relaying), *opening),
            None => return Ok(Begun::Relaying(relaying)),
        },
        Begun::Translating(translating) => {
            let opening = translating.opening();
            (Pouring::Translating(translating), opening)
        }
        Begun::Reply(reply) => {
            let body = Bytes::from(reply.body.clone());
            share(&claim, reply.status, &reply.content_type, body.clone());
            // Before the flight is over: who comes then finds it stored.
            recall::end_whole(reply.status, &reply.content_type, &body, settle);
            claim.end(Landing::Whole(figures(settle)));
            return Ok(Begun::Reply(reply));
        }
        other => return Ok(other),
    };
    let (Some(thread), Some(follower)) = (settle.thread().own.upgrade(), claim.follow()) else {
        return Ok(pouring.begun());
    };
    let own = Some(pouring.take_head());
    claim.begin(opening.clone());
    let storing = settle.storing.take();
    let handed = settle.hand_over();
    let bringing = bring(thread, settings.clone(), claim, pouring, handed, storing);
    task::spawn("flight", bringing);
    Ok(Begun::Recalled(Box::new(Hit::Followed(Box::new(
        Following {
            follower,
            opening,
            own,
        },
    )))))
}

/// Gives the others an answer that is here as a whole.
fn share(claim: &Claim, status: u16, content_type: &[u8], body: Bytes) {
    let mut lines = Vec::new();
    write::header(&mut lines, b"content-type", content_type);
    claim.begin(Opening {
        status,
        lines: lines.into(),
        length: Some(body.len() as u64),
    });
    claim.append(body);
}

/// An answer on its way.
enum Pouring {
    Relaying(Box<Relaying>),
    Translating(Box<Translating>),
}

impl Pouring {
    fn take_head(&mut self) -> (Vec<u8>, bool) {
        match self {
            Self::Relaying(relaying) => relaying.take_head(),
            Self::Translating(translating) => translating.take_head(),
        }
    }

    fn begun(self) -> Begun {
        match self {
            Self::Relaying(relaying) => Begun::Relaying(relaying),
            Self::Translating(translating) => Begun::Translating(translating),
        }
    }
}

/// Keeps a drain waiting for an answer that clients of other threads may read.
struct Busy(Rc<Thread>);

impl Busy {
    fn new(thread: Rc<Thread>) -> Self {
        thread.background.set(thread.background.get() + 1);
        Self(thread)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.background.set(self.0.background.get() - 1);
    }
}

async fn bring(
    thread: Rc<Thread>,
    settings: Arc<Settings>,
    claim: Box<Claim>,
    pouring: Pouring,
    handed: Handed,
    storing: Option<Box<Storing>>,
) {
    let busy = Busy::new(thread);
    let mut settle = Settle::take_over(&busy.0, handed);
    settle.storing = storing;
    match pouring {
        Pouring::Relaying(relaying) => relaying.pour(&settings, &claim, &mut settle).await,
        Pouring::Translating(changed) => changed.pour(&settings, &claim, &mut settle).await,
    }
    let landing = match settle.record.end {
        End::Complete => Landing::Whole(figures(&settle)),
        _ => Landing::Broken,
    };
    claim.end(landing);
}

fn figures(settle: &Settle<'_>) -> Figures {
    let record = &settle.record;
    Figures {
        usage: record.usage,
        cost: record.cost,
        answered_model: record.answered_model.clone(),
    }
}

/// Passes the rest of a provider's answer on to a flight, as long as anybody follows. `change` makes of each piece what the clients
/// get.
pub(super) async fn pour(
    settings: &Settings,
    upstream: &mut Connection,
    until: Option<Instant>,
    claim: &Claim,
    settle: &mut Settle<'_>,
    mut change: impl FnMut(Bytes) -> Bytes,
) -> End {
    let thread = settle.thread();
    let mut deserted = std::pin::pin!(deserted(&claim.others(), &thread.mailbox));
    let mut rounds = Rounds::default();
    loop {
        while claim.followers() > 0 {
            let ticket = Ticket::take();
            if claim.has_room(|| ticket.address(&thread.mailbox)) {
                break;
            }
            ticket.wait(FLIGHT_RECHECK).await;
        }
        let idle = bounded(settings.clocks.stream_idle, until);
        let mut waited = false;
        let next = poll_fn(|cx| match upstream.poll_body_chunk(cx) {
            Poll::Ready(piece) => Poll::Ready(Some(piece)),
            Poll::Pending => {
                // The clock runs only where there is something to wait for.
                if !std::mem::replace(&mut waited, true) {
                    upstream.transport().arm_deadline(idle, OnExpiry::ShutBoth);
                }
                deserted.as_mut().poll(cx).map(|()| None)
            }
        })
        .await;
        if waited {
            upstream.transport().disarm_deadline();
        }
        match next {
            None => return End::ClientLeft,
            Some(Ok(None)) => return End::Complete,
            Some(Ok(Some(piece))) => {
                settle.record.response_bytes += piece.len() as u64;
                append(claim, change(piece), settle);
            }
            Some(Err(error)) => {
                settle.record.detail = Some(error.to_string().into());
                return match error {
                    ConnectionError::TimedOut(_) => End::UpstreamIdle,
                    _ => End::UpstreamBroke,
                };
            }
        }
        rounds.next(waited).await;
    }
}

/// Resolves once nobody follows any more.
pub(super) fn deserted(others: &Others, mailbox: &Mailbox) -> impl Future<Output = ()> + use<> {
    let ticket = Ticket::take();
    others.watch(ticket.address(mailbox));
    async move {
        ticket.wait(FLIGHT_WATCH).await;
    }
}

/// What all clients get next.
pub(super) fn append(claim: &Claim, piece: Bytes, settle: &mut Settle<'_>) {
    if piece.is_empty() {
        return;
    }
    settle.timeline.relayed.get_or_insert_with(Instant::now);
    if let Some(storing) = &mut settle.storing {
        storing.feed(&piece);
    }
    if let Some(kept) = settle.kept_answer() {
        kept.copy(&piece);
    }
    claim.append(piece);
}

/// Gives a client what a flight brings, as it comes.
pub(super) async fn give(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    request: &RequestHead,
    following: Box<Following>,
    settle: &mut Settle<'_>,
) -> After {
    let Following {
        mut follower,
        opening,
        own,
    } = *following;
    let chunked = opening.length.is_none() && request.version() != Version::Http10;
    settle.record.status = opening.status;
    let line = |name| recall::line(&opening.lines, name);
    settle.log_answer(
        line(b"content-type:"),
        line(b"content-encoding:"),
        opening.length,
    );
    let (head, keep) = own.unwrap_or_else(|| {
        let framed = chunked || opening.length.is_some();
        let pending = client.body_pending() || thread.draining.get();
        let keep = request.keep_alive() && framed && !pending;
        (write_head(&opening, chunked, keep, settle), keep)
    });
    let mut buffer = BytesMut::from(&head[..]);
    let mut rounds = Rounds::default();
    let stall = settings.clocks.client_write_stall;
    let end = loop {
        let ticket = Ticket::take();
        let next = follower.next(|| ticket.address(&thread.mailbox));
        let mut end = None;
        match next {
            Next::Opening(_) => continue,
            Next::Wait if buffer.is_empty() => {
                let mut caller = Caller::Client(client);
                match caller.unless_left(ticket.wait(FLIGHT_RECHECK)).await {
                    Ok(_) => continue,
                    Err(_) => break End::ClientLeft,
                }
            }
            Next::Wait => {}
            Next::Pieces(pieces) => {
                for piece in pieces {
                    settle.record.response_bytes += piece.len() as u64;
                    if let Some(kept) = settle.kept_answer() {
                        kept.copy(&piece);
                    }
                    frame(&piece, chunked, false, &mut buffer);
                }
            }
            Next::End(Landing::Whole(figures)) => {
                frame(b"", chunked, true, &mut buffer);
                if let Some(saved) = &mut settle.record.cached {
                    **saved = Saved {
                        usage: figures.usage,
                        cost: figures.cost,
                    };
                    settle.record.answered_model = figures.answered_model;
                }
                end = Some(End::Complete);
            }
            Next::End(_) => end = Some(End::UpstreamBroke),
            Next::Lost => end = Some(End::ClientStalled),
        }
        if !buffer.is_empty() {
            let transport = client.transport();
            transport.arm_deadline(stall, OnExpiry::ShutBoth);
            match transport.relay(std::mem::take(&mut buffer)).await {
                Ok(returned) => buffer = returned,
                Err(_) if client.transport().expired() => break End::ClientStalled,
                Err(_) => break End::ClientLeft,
            }
            client.transport().disarm_deadline();
            buffer.clear();
            settle.timeline.relayed.get_or_insert_with(Instant::now);
        }
        if let Some(end) = end {
            break end;
        }
        rounds.next(false).await;
    };
    settle.record.end = end;
    match end {
        End::Complete if keep => After::Keep,
        End::Complete => After::Close,
        _ => After::Abort,
    }
}

fn write_head(opening: &Opening, chunked: bool, keep: bool, settle: &Settle<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(512 + opening.lines.len());
    write::status_line(&mut head, opening.status, "");
    head.extend_from_slice(&opening.lines);
    if chunked {
        write::header(&mut head, b"transfer-encoding", b"chunked");
    } else if let Some(length) = opening.length {
        head.extend_from_slice(b"content-length: ");
        write::decimal(&mut head, length);
        head.extend_from_slice(b"\r\n");
    }
    if !keep {
        write::header(&mut head, b"connection", b"close");
    }
    settle.write_headers(&mut head);
    head.extend_from_slice(b"\r\n");
    head
}
