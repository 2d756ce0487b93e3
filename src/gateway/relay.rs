//! Phase 12: the answer goes down as it comes.

use bytes::Bytes;
use quanta::Instant;

use super::Thread;
use super::attempt::{Answer, Outgoing};
use super::settle::Settle;
use super::taps::Taps;
use super::{flight, recall};
use crate::http::{RequestHead, ResponseFraming, Version, write};
use crate::limits::COALESCED_WRITE;
use crate::meter::Meter;
use crate::net::http1::Connection;
use crate::net::pool::Slot;
use crate::net::pump::{self, Framing, RelayClocks, RelayEnd};
use crate::providers::goes_down;
use crate::record::End;
use crate::snapshot::Settings;
use crate::tables::flight::{Claim, Opening};

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Keep,
    /// A clean close.
    Close,
    /// A reset: what was sent is not whole.
    Abort,
    /// Nothing: the connection is broken.
    Drop,
}

/// An answer about to be relayed. It holds nothing of the request and of the answer's head but what the relay needs: a
/// stream may last for an hour.
pub(super) struct Relaying {
    upstream: Box<Connection>,
    slot: Slot,
    /// Whether the upstream connection may be used again.
    sent: bool,
    /// The head for the client.
    head: Vec<u8>,
    framing: Framing,
    /// Whether the client's connection is kept.
    keep: bool,
    /// When the relay must have ended.
    until: Option<Instant>,
    meter: Option<Meter>,
    /// How the answer begins for others that wait for it.
    pub opening: Option<Box<Opening>>,
}

impl Relaying {
    /// Writes the head for the client.
    pub fn begin(
        thread: &Thread,
        request: &RequestHead,
        answer: Answer,
        outgoing: &Outgoing,
        settle: &mut Settle<'_>,
    ) -> Box<Self> {
        let Answer {
            head,
            upstream,
            slot,
            sent,
        } = answer;
        let old = request.version() == Version::Http10;
        let framing = match head.framing() {
            ResponseFraming::UntilClose if !old => Framing::IntoChunks,
            ResponseFraming::Chunked if old => Framing::OutOfChunks,
            _ => Framing::Same,
        };
        let ends_by_close = old
            && matches!(
                head.framing(),
                ResponseFraming::UntilClose | ResponseFraming::Chunked
            );
        let keep = request.keep_alive() && sent && !ends_by_close && !thread.draining.get();
        settle.record.status = head.status();
        let (content_type, coding) = (head.header("content-type"), head.header("content-encoding"));
        let length = match head.framing() {
            ResponseFraming::Length(length) => Some(length),
            _ => None,
        };
        settle.log_answer(content_type, coding, length);
        let body = length.map_or(0, |length| length.min(COALESCED_WRITE as u64) as usize);
        recall::begin(&head, settle);
        let mut out = Vec::with_capacity(head.bytes().len() + 256 + body);
        write_head(&mut out, &head, request, framing, keep);
        settle.write_headers(&mut out);
        out.extend_from_slice(b"\r\n");
        let meter = outgoing.metered.then(|| {
            let meter = Meter::new(content_type, coding);
            match length {
                Some(length) => meter.of_length(length),
                None => meter,
            }
        });
        Box::new(Self {
            upstream,
            slot,
            sent,
            head: out,
            framing,
            keep,
            until: outgoing.until,
            meter,
            opening: settle.claim.is_some().then(|| recall::opening(&head)),
        })
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
        let (upstream, meter) = (&mut self.upstream, &mut self.meter);
        let seen = |piece: Bytes| {
            if let Some(meter) = meter {
                meter.feed(&piece);
            }
            piece
        };
        settle.record.end = flight::pour(settings, upstream, self.until, claim, settle, seen).await;
        if let Some(meter) = self.meter {
            settle.note_metered(meter);
        }
        recall::end(settle);
        if settle.record.end == End::Complete && self.sent {
            self.slot.give_back(self.upstream);
        }
    }
}

/// Relays head and body to the client and puts the upstream connection back.
pub(super) async fn relay(
    settings: &Settings,
    client: &mut Connection,
    mut relaying: Box<Relaying>,
    settle: &mut Settle<'_>,
) -> After {
    let clocks = RelayClocks {
        sender_idle: settings.clocks.stream_idle,
        receiver_stall: settings.clocks.client_write_stall,
        until: relaying.until,
    };
    let head = std::mem::take(&mut relaying.head);
    let framing = relaying.framing;
    let (upstream, meter) = (&mut relaying.upstream, relaying.meter.as_mut());
    let mut taps = Taps::new(&mut settle.record, meter, settle.storing.as_deref_mut());
    let relayed = pump::relay(upstream, client, head, framing, clocks, |run| {
        taps.feed(run);
    })
    .await;
    let Relaying {
        upstream,
        slot,
        sent,
        keep,
        meter,
        ..
    } = *relaying;
    // Also of an answer that broke off: what was received counts.
    if let Some(meter) = meter {
        settle.note_metered(meter);
    }
    settle.timeline.relayed = relayed.first;
    settle.record.end = match &relayed.end {
        RelayEnd::Complete => End::Complete,
        RelayEnd::ReceiverLeft => End::ClientLeft,
        RelayEnd::ReceiverStalled => End::ClientStalled,
        RelayEnd::SenderIdle => End::UpstreamIdle,
        RelayEnd::SenderBroke(error) => {
            settle.record.detail = Some(error.to_string().into());
            End::UpstreamBroke
        }
    };
    recall::end(settle);
    match (settle.record.end, keep) {
        (End::Complete, keep) => {
            if sent {
                slot.give_back(upstream);
            }
            if keep { After::Keep } else { After::Close }
        }
        _ => After::Abort,
    }
}

fn write_head(
    out: &mut Vec<u8>,
    head: &crate::http::ResponseHead,
    request: &RequestHead,
    framing: Framing,
    keep: bool,
) {
    write::status_line(out, head.status(), head.reason());
    let mut copied = write::Copied::new(out, head.bytes());
    for (name, _, line) in head.lines() {
        if goes_down(name) && !head.is_hop_by_hop(name) {
            copied.line(line);
        }
    }
    copied.end();
    match (head.framing(), framing) {
        (ResponseFraming::Chunked, Framing::Same) | (_, Framing::IntoChunks) => {
            write::header(out, b"transfer-encoding", b"chunked");
        }
        (ResponseFraming::Length(_), _) => copy_length(out, head),
        // The answer to HEAD and a 304 may tell the length of what they leave out (RFC 9110 section 8.6).
        (ResponseFraming::None, _) if head.status() != 204 => copy_length(out, head),
        _ => {}
    }
    if !keep {
        write::header(out, b"connection", b"close");
    } else if request.version() == Version::Http10 {
        write::header(out, b"connection", b"keep-alive");
    }
}

fn copy_length(out: &mut Vec<u8>, head: &crate::http::ResponseHead) {
    if let Some(length) = head.header("content-length") {
        write::header(out, b"content-length", length);
    }
}
