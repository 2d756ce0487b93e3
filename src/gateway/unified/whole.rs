//! Answers that are read whole before anything of them goes down, and those that are made here.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quanta::Instant;

use crate::gateway::Thread;
use crate::gateway::attempt::{Answer, Failure, bounded};
use crate::gateway::caller::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::recall;
use crate::gateway::relay::After;
use crate::gateway::settle::Settle;
use crate::http::{Method, RequestHead, ResponseHead, is_name, write};
use crate::limits::ANSWER_BUFFER_MAX;
use crate::meter::{self, Meter};
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError};
use crate::providers::goes_down;
use crate::record::End;
use crate::snapshot::Settings;

/// An answer that is here as a whole, ready for the client.
pub(in crate::gateway) struct Reply {
    pub status: u16,
    /// Lines of the provider's that go down.
    pub more: Vec<u8>,
    /// Empty where there is none.
    pub content_type: Cow<'static, [u8]>,
    pub body: Vec<u8>,
}

impl Reply {
    /// In JSON.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            more: Vec::new(),
            content_type: Cow::Borrowed(b"application/json"),
            body,
        }
    }

    /// An answer in the client's dialect, as events where it asked for these.
    pub fn answer(body: Vec<u8>, stream: bool) -> Self {
        let content_type: &[u8] = match stream {
            true => b"text/event-stream; charset=utf-8",
            false => b"application/json",
        };
        Self {
            content_type: Cow::Borrowed(content_type),
            ..Self::json(200, body)
        }
    }

    /// A provider's answer as it came, but for a content coding, which was undone.
    pub fn verbatim(answer: Whole) -> Self {
        let head = &answer.head;
        let mut more = Vec::new();
        for (name, value) in head.headers() {
            let written_anew = is_name(name, b"content-type") || is_name(name, b"content-encoding");
            if goes_down(name) && !head.is_hop_by_hop(name) && !written_anew {
                write::header(&mut more, name, value);
            }
        }
        let content_type = head.header("content-type").unwrap_or_default();
        Self {
            status: head.status(),
            content_type: Cow::Owned(content_type.to_vec()),
            more,
            body: answer.body,
        }
    }
}

/// Writes the reply. The connection is kept only where the whole request was read.
pub(in crate::gateway) async fn send(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    request: &RequestHead,
    reply: Reply,
    settle: &mut Settle<'_>,
) -> After {
    settle.record.status = reply.status;
    let keep = request.keep_alive() && !client.body_pending() && !thread.draining.get();
    let mut head = Vec::with_capacity(512 + reply.more.len());
    write::status_line(&mut head, reply.status, "");
    if !reply.content_type.is_empty() {
        write::header(&mut head, b"content-type", &reply.content_type);
    }
    head.extend_from_slice(b"content-length: ");
    write::decimal(&mut head, reply.body.len() as u64);
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(&reply.more);
    if !keep {
        write::header(&mut head, b"connection", b"close");
    }
    settle.write_headers(&mut head);
    head.extend_from_slice(b"\r\n");
    let body = match request.method() {
        Method::Head => Bytes::new(),
        _ => Bytes::from(reply.body),
    };
    settle.log_answer(Some(&reply.content_type), None, None);
    settle.keep_answer(&body);
    // Before it goes down: who has it may ask again at once.
    recall::end_whole(reply.status, &reply.content_type, &body, settle);
    let stall = settings.clocks.client_write_stall;
    client.transport().arm_deadline(stall, OnExpiry::ShutBoth);
    let written = client.write_message(head, body).await;
    settle.timeline.relayed = Some(Instant::now());
    if written.is_err() {
        settle.record.end = match client.expired() {
            true => End::ClientStalled,
            false => End::ClientLeft,
        };
        return After::Abort;
    }
    client.transport().disarm_deadline();
    settle.record.end = End::Complete;
    if keep { After::Keep } else { After::Close }
}

/// A provider's answer, read to its end.
pub(in crate::gateway) struct Whole {
    pub head: ResponseHead,
    /// Without content coding.
    pub body: Vec<u8>,
}

/// How much of an answer is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Bounds {
    /// Bytes.
    pub most: usize,
    /// The longest silence.
    pub idle: Duration,
    /// When the whole request must have ended.
    pub until: Option<Instant>,
}

impl Bounds {
    /// Of an answer that goes down.
    pub fn of(settings: &Settings, until: Option<Instant>) -> Self {
        Self {
            most: ANSWER_BUFFER_MAX,
            idle: settings.clocks.stream_idle,
            until,
        }
    }
}

/// Reads an answer to its end and puts the upstream connection back. Watches for a client that leaves meanwhile.
pub(in crate::gateway) async fn read(
    caller: &mut Caller<'_>,
    answer: Answer,
    bounds: Bounds,
    settle: &mut Settle<'_>,
) -> Result<Whole, Failure> {
    let Answer {
        head,
        mut upstream,
        slot,
        sent,
    } = answer;
    let coding = head.header("content-encoding");
    let mut meter = Meter::new(head.header("content-type"), coding);
    let mut body = Vec::new();
    let read = loop {
        let idle = bounded(bounds.idle, bounds.until);
        match next(caller, &mut upstream, idle).await {
            Ok(Some(piece)) => {
                settle.record.response_bytes += piece.len() as u64;
                meter.feed(&piece);
                body.extend_from_slice(&piece);
                if body.len() > bounds.most {
                    let told = format!("an answer of more than {} bytes", bounds.most);
                    break Err(GatewayError::no_answer(told).into());
                }
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    settle.note_metered(meter);
    read?;
    if sent {
        slot.give_back(upstream);
    }
    let body = match coding {
        None => body,
        Some(coding) => meter::decoded(&body, coding, ANSWER_BUFFER_MAX).ok_or_else(|| {
            GatewayError::no_answer("an answer in a content coding that cannot be undone")
        })?,
    };
    Ok(Whole { head, body })
}

async fn next(
    caller: &mut Caller<'_>,
    upstream: &mut Connection,
    idle: Duration,
) -> Result<Option<Bytes>, Failure> {
    let mut waited = false;
    let next = poll_fn(|cx| match upstream.poll_body_chunk(cx) {
        Poll::Ready(piece) => Poll::Ready(piece.map_err(broken)),
        Poll::Pending => {
            if !std::mem::replace(&mut waited, true) {
                upstream.transport().arm_deadline(idle, OnExpiry::ShutBoth);
            }
            let left = caller.poll_left(cx);
            left.map(|()| Err(Failure::ClientGone(End::ClientLeft)))
        }
    })
    .await;
    if waited {
        upstream.transport().disarm_deadline();
    }
    next
}

fn broken(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::TimedOut(_) => GatewayError::timed_out(error),
        error => GatewayError::no_answer(error),
    }
    .into()
}

/// Appends what of a provider's head is good to know whatever its body becomes.
pub(super) fn write_kept_headers(head: &ResponseHead, out: &mut Vec<u8>) {
    const KEPT: [&str; 6] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "request-id",
        "x-request-id",
        "openai-processing-ms",
    ];
    const FAMILIES: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "ratelimit-"];
    for (name, value) in head.headers() {
        let known = KEPT
            .iter()
            .any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()));
        let of_family = FAMILIES.iter().any(|prefix| {
            name.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        });
        if known || of_family {
            write::header(out, name, value);
        }
    }
}
