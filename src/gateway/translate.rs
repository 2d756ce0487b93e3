//! Phase 12 where the provider's stream is not the client's: it is changed on its way down, event by event.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use quanta::Instant;

use super::Thread;
use super::attempt::{Answer, Outgoing, bounded};
use super::relay::After;
use super::settle::Settle;
use super::{flight, recall};
use crate::dialect::stream::Transform;
use crate::http::chunked::{LAST_CHUNK, chunk_head};
use crate::http::{RequestHead, Version, write};
use crate::meter::Meter;
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError};
use crate::net::pool::Slot;
use crate::net::task::Rounds;
use crate::record::End;
use crate::snapshot::Settings;
use crate::tables::flight::{Claim, Opening};

const CONTENT_TYPE: &[u8] = b"text/event-stream; charset=utf-8";

/// A stream about to be changed on its way. It holds nothing of the request: a stream may last for an hour.
pub(super) struct Translating {
    upstream: Box<Connection>,
    slot: Slot,
    /// Whether the upstream connection may be used again.
    sent: bool,
    /// The head for the client.
    head: Vec<u8>,
    /// A client of HTTP/1.0 gets no chunks.
    chunked: bool,
    keep: bool,
    until: Option<Instant>,
    meter: Meter,
    transform: Box<dyn Transform>,
}

impl Translating {
    /// Writes the head for the client; `more` are lines of the provider's that go down.
    pub fn begin(
        thread: &Thread,
        request: &RequestHead,
        answer: Answer,
        outgoing: &Outgoing,
        transform: Box<dyn Transform>,
        more: &[u8],
        settle: &mut Settle<'_>,
    ) -> Box<Self> {
        let chunked = request.version() != Version::Http10;
        let keep = request.keep_alive() && answer.sent && chunked && !thread.draining.get();
        settle.record.status = 200;
        settle.log_answer(Some(CONTENT_TYPE), None, None);
        recall::begin_changed(CONTENT_TYPE, settle);
        let mut head = Vec::with_capacity(512 + more.len());
        write::status_line(&mut head, 200, "");
        write::header(&mut head, b"content-type", CONTENT_TYPE);
        write::header(&mut head, b"cache-control", b"no-cache");
        head.extend_from_slice(more);
        if chunked {
            write::header(&mut head, b"transfer-encoding", b"chunked");
        }
        if !keep {
            write::header(&mut head, b"connection", b"close");
        }
        settle.write_headers(&mut head);
        head.extend_from_slice(b"\r\n");
        let meter = Meter::new(
            answer.head.header("content-type"),
            answer.head.header("content-encoding"),
        );
        Box::new(Self {
            upstream: answer.upstream,
            slot: answer.slot,
            sent: answer.sent,
            head,
            chunked,
            keep,
            until: outgoing.until,
            meter,
            transform,
        })
    }
}

impl Translating {
    /// How the answer begins for others that wait for it.
    pub fn opening(&self) -> Opening {
        let mut lines = Vec::new();
        write::header(&mut lines, b"content-type", CONTENT_TYPE);
        write::header(&mut lines, b"cache-control", b"no-cache");
        Opening {
            status: 200,
            lines: lines.into(),
            length: None,
        }
    }

    /// The head for the client, and whether its connection is kept.
    pub fn take_head(&mut self) -> (Vec<u8>, bool) {
        (std::mem::take(&mut self.head), self.keep)
    }

    /// Brings the answer to a flight.
    pub async fn pour(
        mut self: Box<Self>,
        settings: &Settings,
        claim: &Claim,
        settle: &mut Settle<'_>,
    ) {
        let mut fresh = Vec::new();
        let (upstream, meter, transform) =
            (&mut self.upstream, &mut self.meter, &mut self.transform);
        let change = |piece: Bytes| {
            meter.feed(&piece);
            transform.feed(&piece, &mut fresh);
            Bytes::from(std::mem::take(&mut fresh))
        };
        let mut end = flight::pour(settings, upstream, self.until, claim, settle, change).await;
        let mut last = Vec::new();
        self.transform.end(end == End::Complete, &mut last);
        if end == End::Complete && self.transform.failure().is_some() {
            end = End::UpstreamBroke;
        }
        flight::append(claim, last.into(), settle);
        finish(*self, end, settle);
    }
}

/// What one look at the provider brings.
enum Next {
    /// Bytes, already fed.
    Piece,
    /// The body's end.
    End,
    ClientLeft,
    Broke(ConnectionError),
}

/// Relays the stream and puts the upstream connection back. Every piece of the provider's is written on as soon as it makes an
/// event for the client. A stream that breaks ends with the dialect's own error event and without its last chunk
/// (resolutions 8).
pub(super) async fn translate(
    settings: &Settings,
    client: &mut Connection,
    mut translating: Box<Translating>,
    settle: &mut Settle<'_>,
) -> After {
    let mut head = Some(std::mem::take(&mut translating.head));
    let (mut fresh, mut buffer) = (Vec::new(), BytesMut::new());
    let (mut rounds, mut waited) = (Rounds::default(), true);
    let end = loop {
        rounds.next(std::mem::take(&mut waited)).await;
        let next = match head.is_some() && !translating.upstream.buffered() {
            // The head does not wait for the first event.
            true => Next::Piece,
            false => {
                let idle = bounded(settings.clocks.stream_idle, translating.until);
                let received = &mut settle.record.response_bytes;
                next(
                    &mut translating,
                    client,
                    idle,
                    received,
                    &mut fresh,
                    &mut waited,
                )
                .await
            }
        };
        let end = match next {
            Next::Piece if translating.transform.failure().is_some() => Some(End::UpstreamBroke),
            Next::Piece => None,
            Next::End => {
                translating.transform.end(true, &mut fresh);
                match translating.transform.failure() {
                    Some(_) => Some(End::UpstreamBroke),
                    None => Some(End::Complete),
                }
            }
            Next::ClientLeft => break End::ClientLeft,
            Next::Broke(error) => {
                translating.transform.end(false, &mut fresh);
                settle.record.detail = Some(error.to_string().into());
                match error {
                    ConnectionError::TimedOut(_) => Some(End::UpstreamIdle),
                    _ => Some(End::UpstreamBroke),
                }
            }
        };
        let last = end == Some(End::Complete);
        frame(&fresh, translating.chunked, last, &mut buffer);
        if let Some(storing) = &mut settle.storing {
            storing.feed(&fresh);
        }
        if let Some(kept) = settle.kept_answer() {
            kept.copy(&fresh);
        }
        fresh.clear();
        if head.is_some() || !buffer.is_empty() {
            let patience = bounded(settings.clocks.client_write_stall, translating.until);
            let transport = client.transport();
            transport.arm_deadline(patience, OnExpiry::ShutBoth);
            let written = match head.take() {
                // Boxed: it is done once, and a stream should not hold its room.
                Some(head) => {
                    let first = Bytes::from(std::mem::take(&mut buffer));
                    Box::pin(transport.write_message(head, first))
                        .await
                        .map(|()| BytesMut::new())
                }
                None => transport.relay(std::mem::take(&mut buffer)).await,
            };
            match written {
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
    };
    finish(*translating, end, settle)
}

/// Feeds what the provider sends next; watches for a client that leaves meanwhile.
async fn next(
    translating: &mut Translating,
    client: &mut Connection,
    idle: std::time::Duration,
    received: &mut u64,
    out: &mut Vec<u8>,
    waited: &mut bool,
) -> Next {
    let Translating {
        upstream,
        meter,
        transform,
        ..
    } = translating;
    let next = poll_fn(|cx| {
        let mut seen = |run: &[u8]| {
            *received += run.len() as u64;
            meter.feed(run);
            transform.feed(run, out);
        };
        match upstream.poll_wire(cx, &mut seen) {
            Poll::Ready(Ok(Some(piece))) => {
                upstream.give_back(piece);
                Poll::Ready(Next::Piece)
            }
            Poll::Ready(Ok(None)) => Poll::Ready(Next::End),
            Poll::Ready(Err(error)) => Poll::Ready(Next::Broke(error)),
            Poll::Pending => {
                // The clock runs only where there is something to wait for.
                if !std::mem::replace(waited, true) {
                    upstream.transport().arm_deadline(idle, OnExpiry::ShutBoth);
                }
                client.poll_client_left(cx).map(|()| Next::ClientLeft)
            }
        }
    })
    .await;
    if *waited {
        translating.upstream.transport().disarm_deadline();
    }
    next
}

/// Appends the client's events as they go on the wire.
pub(super) fn frame(events: &[u8], chunked: bool, last: bool, out: &mut BytesMut) {
    match chunked {
        false => out.put_slice(events),
        true if events.is_empty() => {}
        true => {
            let mut size = [0; 18];
            out.put_slice(chunk_head(events.len(), &mut size));
            out.put_slice(events);
            out.put_slice(b"\r\n");
        }
    }
    if chunked && last {
        out.put_slice(LAST_CHUNK);
    }
}

fn finish(translating: Translating, end: End, settle: &mut Settle<'_>) -> After {
    let Translating {
        upstream,
        slot,
        sent,
        chunked,
        keep,
        meter,
        transform,
        ..
    } = translating;
    // Also of a stream that broke off: what was received counts.
    settle.note_metered(meter);
    settle.record.end = end;
    if let Some(failure) = transform.failure() {
        let told = || failure.message.as_str().into();
        settle.record.detail.get_or_insert_with(told);
    }
    recall::end(settle);
    match end {
        End::Complete => {
            if sent {
                slot.give_back(upstream);
            }
            if keep { After::Keep } else { After::Close }
        }
        // What was written last tells what went wrong: a reset could overtake it. A client that counts chunks sees that the last
        // one is missing; any other sees nothing but a reset.
        End::UpstreamBroke | End::UpstreamIdle if chunked => After::Close,
        _ => After::Abort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_framed_for_the_client() {
        let framed = |events: &[u8], chunked, last| {
            let mut out = BytesMut::new();
            frame(events, chunked, last, &mut out);
            String::from_utf8(out.to_vec()).expect("text")
        };
        assert_eq!(framed(b"data: 1\n\n", true, false), "9\r\ndata: 1\n\n\r\n");
        assert_eq!(framed(b"", true, false), "");
        assert_eq!(framed(b"x", true, true), "1\r\nx\r\n0\r\n\r\n");
        assert_eq!(framed(b"", true, true), "0\r\n\r\n");
        assert_eq!(framed(b"data: 1\n\n", false, true), "data: 1\n\n");
    }
}
