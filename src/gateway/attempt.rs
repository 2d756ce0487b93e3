//! Phase 10: the connection, the upload, the answer's head. One replay on a stale connection, and only where nothing can
//! have been done twice.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quanta::Instant;

use super::Thread;
use super::caller::Caller;
use super::error::GatewayError;
use super::settle::Settle;
use crate::http::{Method, RequestFraming, RequestHead, ResponseHead};
use crate::limits::{COALESCED_WRITE, REPLAY_MAX};
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError};
use crate::net::origin::Origin;
use crate::net::outlier::Change;
use crate::net::pool::{Checkout, PoolKey, Slot};
use crate::net::task::Rounds;
use crate::record::{End, bump};
use crate::snapshot::Settings;

/// An upstream request, ready to be sent.
pub(super) struct Outgoing {
    /// Where to.
    pub origin: Arc<Origin>,
    /// Its head.
    pub head: Vec<u8>,
    /// How long the answer's head may take.
    pub response_head: Duration,
    /// When the whole request must have ended.
    pub until: Option<Instant>,
    /// Whether the meter reads the answer.
    pub metered: bool,
    /// The body, where it was read before.
    pub body: Option<Bytes>,
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    /// Its head.
    pub head: ResponseHead,
    /// The connection that brings the body.
    pub upstream: Box<Connection>,
    /// The connection's place in the pool.
    pub slot: Slot,
    /// Whether the whole request was sent, so that the connection may be used again.
    pub sent: bool,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The client is to be told.
    Error(Box<GatewayError>),
    /// The client is not there any more.
    ClientGone(End),
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::Error(Box::new(error))
    }
}

/// Sends the request and waits for the head of its answer.
pub(super) async fn attempt(
    thread: &Thread,
    settings: &Settings,
    mut caller: Caller<'_>,
    head: &RequestHead,
    outgoing: &Outgoing,
    settle: &mut Settle<'_>,
) -> Result<Answer, Failure> {
    let mut sent = Sent::default();
    let mut first = true;
    loop {
        if let Some(body) = &outgoing.body {
            sent = Sent::of(body);
        }
        settle.record.attempts = settle.record.attempts.saturating_add(1);
        if settle.timeline.sent.is_some() {
            settle.timeline.begin_again();
        }
        let (mut upstream, slot, reused) = connection(thread, settings, outgoing, settle).await?;
        settle.record.reused = reused;
        settle.record.upstream = Some(upstream.transport().peer());
        let mut exchange = Exchange {
            settings,
            caller: caller.again(),
            head,
            outgoing,
            upstream: &mut upstream,
            sent: &mut sent,
            keep: reused,
        };
        match exchange.run(settle).await {
            Ok(answer) => {
                note(&mut upstream, answer.head.status() >= 500, outgoing, settle);
                return Ok(Answer {
                    head: answer.head,
                    upstream,
                    slot,
                    sent: !answer.early && !caller.body_pending(),
                });
            }
            Err(Broken::Upstream(error)) => {
                let replay = reused
                    && std::mem::take(&mut first)
                    && is_close(&upstream, &error)
                    && sent.replayable(head.method());
                if !replay {
                    // A clock that the caller set says nothing about the provider.
                    let patient = outgoing.response_head >= settings.clocks.response_head;
                    if patient || is_close(&upstream, &error) {
                        note(&mut upstream, true, outgoing, settle);
                    }
                    return Err(no_answer(&upstream, &error, &outgoing.origin).into());
                }
                bump(&thread.counters.replays, 1);
                settle.decided("connection", "replayed", || {
                    [
                        ("reason", error.to_string().into()),
                        ("origin", outgoing.origin.to_string().into()),
                    ]
                });
            }
            Err(Broken::Client(failure)) => return Err(failure),
        }
    }
}

/// Notes how the address did that a request was sent to, where its origin has several.
fn note(upstream: &mut Connection, failed: bool, outgoing: &Outgoing, settle: &mut Settle<'_>) {
    if let Some(place) = upstream.place()
        && let Some(change) = place.answered(failed)
    {
        tell(change, &outgoing.origin, settle);
    }
}

/// Notes for the log that an address is left out or asked again.
#[cold]
fn tell(change: Change, origin: &Origin, settle: &mut Settle<'_>) {
    let origin = origin.to_string();
    match change {
        Change::Ejected {
            address,
            reason,
            wait,
            ..
        } => settle.decided("connection", "ejected", || {
            [
                ("address", address.to_string().into()),
                ("reason", reason.to_string().into()),
                ("wait_ms", (wait.as_millis() as u64).into()),
                ("origin", origin.into()),
            ]
        }),
        Change::Restored(address) => settle.decided("connection", "restored", || {
            [
                ("address", address.to_string().into()),
                ("origin", origin.into()),
            ]
        }),
    }
}

struct Answered {
    head: ResponseHead,
    /// It came before the whole request was sent.
    early: bool,
}

/// A warm connection, else a new one.
async fn connection(
    thread: &Thread,
    settings: &Settings,
    outgoing: &Outgoing,
    settle: &mut Settle<'_>,
) -> Result<(Box<Connection>, Slot, bool), Failure> {
    let key = PoolKey {
        origin: outgoing.origin.clone(),
        generation: settings.generation,
    };
    let at_once = thread.pool.at_once(&key);
    if let Some(Checkout::Warm(connection, slot)) = at_once {
        bump(&thread.counters.reuses, 1);
        return Ok((connection, slot, true));
    }
    let begin = Instant::now();
    let patience = bounded(settings.clocks.connect, outgoing.until);
    let checkout = match at_once {
        Some(checkout) => Ok(checkout),
        None => {
            // Boxed, as below.
            let checkout = Box::pin(thread.pool.checkout(&key, patience)).await;
            let queued = begin.elapsed();
            thread.counters.queued.add(queued);
            settle.timeline.queue += queued;
            checkout
        }
    };
    let result = match checkout {
        Err(full) => Err(GatewayError::no_answer(full)),
        Ok(Checkout::Warm(connection, slot)) => {
            bump(&thread.counters.reuses, 1);
            settle.timeline.connect += begin.elapsed();
            return Ok((connection, slot, true));
        }
        Ok(Checkout::Open(slot)) => {
            let connector = thread.connector(settings, patience);
            let mut changes = Vec::new();
            // Boxed: most requests find a warm connection and should not carry the room of a handshake.
            let connected = connector.connect_noting(&outgoing.origin, &mut changes);
            let connected = Box::pin(connected).await;
            for change in changes {
                tell(change, &outgoing.origin, settle);
            }
            match connected {
                Ok((mut connection, times)) => {
                    if let Some(place) = connection.place().filter(|place| place.is_probe()) {
                        settle.decided("connection", "probed", || {
                            [
                                ("address", place.address().to_string().into()),
                                ("origin", outgoing.origin.to_string().into()),
                            ]
                        });
                    }
                    bump(&thread.counters.connects, 1);
                    settle.timeline.dns += times.dns;
                    settle.timeline.tcp += times.tcp;
                    settle.timeline.tls += times.tls;
                    Ok((Box::new(connection), slot, false))
                }
                Err(error) => {
                    bump(&thread.counters.connect_errors, 1);
                    Err(match error.is_timeout() {
                        true => GatewayError::timed_out(error),
                        false => GatewayError::no_answer(error),
                    })
                }
            }
        }
    };
    settle.timeline.connect += begin.elapsed();
    result.map_err(Failure::from)
}

/// What was sent of the request, kept while it may have to be sent again.
#[derive(Default)]
struct Sent {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// More was sent than is kept.
    lost: bool,
    /// The last byte of the request was written.
    whole: bool,
}

impl Sent {
    /// Of a body that is here as a whole.
    fn of(body: &Bytes) -> Self {
        Self {
            pieces: vec![body.clone()],
            ..Self::default()
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.bytes += piece.len();
        if self.bytes > REPLAY_MAX {
            self.lost = true;
            self.pieces.clear();
        } else if !self.lost {
            self.pieces.push(piece.clone());
        }
    }

    /// A close seen before the last byte was written means that the provider cannot have worked on the request; GET and
    /// HEAD change nothing when done twice.
    fn replayable(&self, method: Method) -> bool {
        !self.lost && (!self.whole || matches!(method, Method::Get | Method::Head))
    }
}

enum Broken {
    Upstream(ConnectionError),
    Client(Failure),
}

/// One try on one connection.
struct Exchange<'a> {
    settings: &'a Settings,
    caller: Caller<'a>,
    head: &'a RequestHead,
    outgoing: &'a Outgoing,
    upstream: &'a mut Connection,
    sent: &'a mut Sent,
    /// Whether what is sent is kept for a replay.
    keep: bool,
}

/// What comes next while the request goes up.
enum Up {
    Piece(Bytes),
    End,
    Early(Box<ResponseHead>),
}

impl Exchange<'_> {
    async fn run(&mut self, settle: &mut Settle<'_>) -> Result<Answered, Broken> {
        self.expect_body(settle);
        let mut again = std::mem::take(&mut self.sent.pieces);
        (self.sent.bytes, self.sent.whole) = (0, false);
        let mut head = Some(self.first_bytes());
        if !self.keep && self.client_is_gone().await {
            return Err(Broken::Client(Failure::ClientGone(End::ClientLeft)));
        }
        let (mut rounds, mut pieces) = (Rounds::default(), 0u64);
        loop {
            let mut waited = false;
            let next = match again.is_empty() {
                false => Up::Piece(again.remove(0)),
                // The head does not wait for a body that is not here yet.
                true if head.is_some() && self.caller.body_pending() && !self.caller.buffered() => {
                    Up::Piece(Bytes::new())
                }
                true => self.next(settle, &mut waited).await?,
            };
            let piece = match next {
                Up::Piece(piece) => piece,
                Up::End => Bytes::new(),
                Up::Early(head) => return Ok(self.answered(settle, *head, true)),
            };
            if self.keep {
                self.sent.keep(&piece);
            }
            pieces += 1;
            if let Some(early) = self.write(head.take(), piece, settle).await? {
                return Ok(self.answered(settle, early, true));
            }
            if !self.caller.body_pending() && again.is_empty() {
                break;
            }
            rounds.next(waited).await;
        }
        self.sent.whole = true;
        // One write is the rule, and then it was the first.
        settle.timeline.uploaded = match pieces {
            0..=1 => settle.timeline.sent,
            _ => Some(Instant::now()),
        };
        let head = self.wait().await?;
        Ok(self.answered(settle, head, false))
    }

    /// Makes room for the copy of a body that the log keeps, or finds that it is too large for one.
    fn expect_body(&self, settle: &mut Settle<'_>) {
        if let RequestFraming::Length(length) = self.head.framing()
            && self.outgoing.body.is_none()
            && let Some(kept) = settle.kept_request()
        {
            kept.expect(length);
        }
    }

    /// A copy of the head, with room for a small body behind it.
    fn first_bytes(&self) -> Vec<u8> {
        let head = &self.outgoing.head;
        let body = match self.head.framing() {
            RequestFraming::Length(length) => length.min(COALESCED_WRITE as u64) as usize,
            _ => 0,
        };
        let mut bytes = Vec::with_capacity(head.len() + body);
        bytes.extend_from_slice(head);
        bytes
    }

    fn answered(&mut self, settle: &mut Settle<'_>, head: ResponseHead, early: bool) -> Answered {
        settle.timeline.answered = Some(Instant::now());
        self.upstream.transport().disarm_deadline();
        Answered { head, early }
    }

    /// The next piece of the body, or an answer that comes before it.
    async fn next(&mut self, settle: &mut Settle<'_>, waited: &mut bool) -> Result<Up, Broken> {
        if !self.caller.body_pending() {
            return Ok(Up::End);
        }
        let patience = bounded(self.settings.clocks.client_body_idle, self.outgoing.until);
        let (caller, upstream, method) =
            (&mut self.caller, &mut *self.upstream, self.head.method());
        let next = poll_fn(|cx| {
            let mut seen = |run: &[u8]| {
                settle.note_request(run);
                if let Some(kept) = settle.kept_request() {
                    kept.copy(run);
                }
            };
            match caller.poll_wire(cx, &mut seen) {
                Poll::Ready(Ok(Some(piece))) => Poll::Ready(Ok(Up::Piece(piece.freeze()))),
                Poll::Ready(Ok(None)) => Poll::Ready(Ok(Up::End)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(Broken::Client(client_failed(error)))),
                Poll::Pending => {
                    // The clock runs only where there is something to wait for.
                    if !std::mem::replace(waited, true) {
                        caller.arm_deadline(patience);
                    }
                    upstream.poll_response_head(cx, method).map(|head| {
                        head.map(|head| Up::Early(head.into()))
                            .map_err(Broken::Upstream)
                    })
                }
            }
        })
        .await;
        if *waited {
            self.caller.disarm_deadline();
        }
        if settle.record.request_bytes > self.settings.body_max {
            let error = GatewayError::too_large(self.settings.body_max);
            return Err(Broken::Client(error.into()));
        }
        next
    }

    /// Writes the head with the first piece, or a later piece while listening for an early answer.
    async fn write(
        &mut self,
        head: Option<Vec<u8>>,
        piece: Bytes,
        settle: &mut Settle<'_>,
    ) -> Result<Option<ResponseHead>, Broken> {
        let patience = bounded(self.outgoing.response_head, self.outgoing.until);
        self.upstream
            .transport()
            .arm_deadline(patience, OnExpiry::ShutBoth);
        let result = match head {
            Some(head) => {
                let written = self.upstream.write_message(head, piece).await;
                settle.timeline.sent = Some(Instant::now());
                written.map(|()| None).map_err(ConnectionError::from)
            }
            None if piece.is_empty() => Ok(None),
            None => {
                self.upstream
                    .write_listening(piece, self.head.method())
                    .await
            }
        };
        result.map_err(Broken::Upstream)
    }

    /// Whether the client left while a connection was opened: what it asked for need not be paid then.
    async fn client_is_gone(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.caller.poll_left(cx).is_ready())).await
    }

    /// Waits for the answer's head and watches for a client that leaves.
    async fn wait(&mut self) -> Result<ResponseHead, Broken> {
        let (caller, upstream, method) =
            (&mut self.caller, &mut *self.upstream, self.head.method());
        poll_fn(|cx| match upstream.poll_response_head(cx, method) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Broken::Upstream)),
            Poll::Pending => caller
                .poll_left(cx)
                .map(|()| Err(Broken::Client(Failure::ClientGone(End::ClientLeft)))),
        })
        .await
    }
}

/// A body that cannot be read on.
pub(super) fn client_failed(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::TimedOut(what) => GatewayError::bad_request(
            408,
            format_args!("Timed out waiting for the request's {what}"),
        )
        .into(),
        ConnectionError::Chunked(error) => GatewayError::bad_request(400, error).into(),
        _ => Failure::ClientGone(End::ClientLeft),
    }
}

/// Whether the provider closed the connection, rather than being late or sending nonsense.
fn is_close(upstream: &Connection, error: &ConnectionError) -> bool {
    let closed = matches!(
        error,
        ConnectionError::Truncated(_) | ConnectionError::Io(_)
    );
    closed && !upstream.expired()
}

fn no_answer(upstream: &Connection, error: &ConnectionError, origin: &Origin) -> GatewayError {
    let detail = format!("{origin}: {error}");
    if matches!(error, ConnectionError::TimedOut(_)) || upstream.expired() {
        GatewayError::timed_out(detail)
    } else {
        GatewayError::no_answer(detail)
    }
}

/// `after`, or what is left of the whole request's time.
pub(super) fn bounded(after: Duration, until: Option<Instant>) -> Duration {
    until.map_or(after, |until| {
        after.min(until.saturating_duration_since(Instant::now()))
    })
}
