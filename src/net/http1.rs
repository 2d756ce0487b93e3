//! An HTTP/1.1 connection, either end: heads and bodies of `http` read from and written to a [`Transport`].

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quanta::Instant;
use smallvec::SmallVec;

use super::deadlines::OnExpiry;
use super::health::Place;
use super::transport::Transport;
use crate::http::chunked::{ChunkedDecoder, ChunkedError};
use crate::http::{
    HeadError, HeadLimits, Method, RequestFraming, RequestHead, ResponseFraming, ResponseHead,
};
use crate::limits::{
    ANSWER_READ_BYTES, BODY_READ_BYTES, IDLE_READ_BYTES, INFORMATIONAL_MAX, RELAY_READ_MAX,
    RELAY_READ_MIN,
};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The head breaks a rule of RFC 9112 or a limit.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// The chunked framing of the body is broken.
    #[error("{0}")]
    Chunked(#[from] ChunkedError),
    /// The peer closed before the message was whole.
    #[error("the connection closed before the {0} was complete")]
    Truncated(&'static str),
    /// A deadline set on the connection passed.
    #[error("timed out waiting for the {0}")]
    TimedOut(&'static str),
    /// The peer changes to a protocol that nobody asked for.
    #[error("answered 101 Switching Protocols to a request without Upgrade")]
    Switching,
    /// More 1xx answers than anyone sends.
    #[error("more than {INFORMATIONAL_MAX} informational (1xx) answers before the final one")]
    Informational,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How long a server waits on an idle or slow client.
#[derive(Debug, Clone, Copy)]
pub struct HeadClocks {
    /// Between two requests.
    pub idle: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
}

/// One connection and the message being read from it.
pub struct Connection {
    transport: Transport,
    /// Received and not yet consumed.
    buffer: BytesMut,
    /// How much of `buffer` was searched for the end of a head.
    scanned: usize,
    body: Body,
    /// Decoded pieces of a chunked body that one read brought together.
    pieces: VecDeque<Bytes>,
    continue_due: bool,
    head_limits: HeadLimits,
    head_clocks: Option<HeadClocks>,
    relay_read: usize,
    informational: usize,
    reusable: bool,
    head_came: Instant,
    /// Its address among those of an origin that has several.
    place: Option<Box<Place>>,
}

enum Body {
    Ended,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
}

impl Connection {
    /// The server's end of an accepted connection.
    pub fn server(transport: Transport, head_limits: HeadLimits) -> Self {
        Self {
            transport,
            buffer: BytesMut::new(),
            scanned: 0,
            body: Body::Ended,
            pieces: VecDeque::new(),
            continue_due: false,
            head_limits,
            head_clocks: None,
            relay_read: RELAY_READ_MIN,
            informational: 0,
            reusable: true,
            head_came: Instant::now(),
            place: None,
        }
    }

    /// The client's end of a connection to a server.
    pub fn client(transport: Transport) -> Self {
        Self::server(transport, HeadLimits::default())
    }

    /// Bounds the waits of [`Connection::next_request`].
    pub fn set_head_clocks(&mut self, clocks: HeadClocks) {
        self.head_clocks = Some(clocks);
    }

    /// The socket below.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Notes which of its origin's addresses it leads to.
    pub fn set_place(&mut self, place: Place) {
        self.place = Some(Box::new(place));
    }

    /// Its address among its origin's; `None` where that has one alone.
    pub fn place(&mut self) -> Option<&mut Place> {
        self.place.as_deref_mut()
    }

    /// Bytes already received beyond what was consumed, for a protocol that takes the connection over.
    pub fn take_buffered(&mut self) -> BytesMut {
        std::mem::take(&mut self.buffer)
    }

    /// Puts bytes back that came before HTTP: what followed a PROXY protocol header.
    pub fn put_buffered(&mut self, bytes: BytesMut) {
        self.buffer = bytes;
    }

    /// The next request's head. `None`: the client closed, or stayed idle too long, between two requests.
    pub async fn next_request(&mut self) -> Result<Option<RequestHead>, ConnectionError> {
        let mut clock = Clock::Off;
        loop {
            if !self.buffer.is_empty() {
                self.head_came = Instant::now();
                match RequestHead::take(&mut self.buffer, &mut self.scanned, &self.head_limits) {
                    Ok(Some(head)) => {
                        self.transport.disarm_deadline();
                        self.begin_request(&head);
                        return Ok(Some(head));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.transport.disarm_deadline();
                        return Err(error.into());
                    }
                }
            }
            self.arm_head_clock(&mut clock);
            let size = if self.buffer.is_empty() {
                IDLE_READ_BYTES
            } else {
                BODY_READ_BYTES
            };
            let received = poll_fn(|cx| self.poll_fill(cx, size)).await;
            match received {
                Ok(0) if self.nothing_begun() => return Ok(None),
                Ok(0) if self.transport.expired() => {
                    return Err(ConnectionError::TimedOut("request head"));
                }
                Ok(0) => return Err(ConnectionError::Truncated("request head")),
                Ok(_) => {}
                Err(_) if self.nothing_begun() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// When the last byte of the current request's head had come, before it was read.
    pub fn head_came(&self) -> Instant {
        self.head_came
    }

    /// The final answer's head; informational answers before it are skipped (RFC 9110 section 15.2).
    pub async fn response_head(
        &mut self,
        request: Method,
    ) -> Result<ResponseHead, ConnectionError> {
        poll_fn(|cx| self.poll_response_head(cx, request)).await
    }

    /// [`Connection::response_head`] for a caller that waits for something else too.
    pub fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        request: Method,
    ) -> Poll<Result<ResponseHead, ConnectionError>> {
        loop {
            let limits = &self.head_limits;
            let (scanned, passed) = (&mut self.scanned, &mut self.informational);
            if let Some(head) = take_final_head(&mut self.buffer, scanned, passed, request, limits)?
            {
                self.begin_response(&head);
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_fill(cx, ANSWER_READ_BYTES))? == 0 {
                let what = "response head";
                return Poll::Ready(Err(if self.transport.expired() {
                    ConnectionError::TimedOut(what)
                } else {
                    ConnectionError::Truncated(what)
                }));
            }
        }
    }

    /// Writes a piece of a request's body while listening for the answer. `Some`: the final head came before the piece was
    /// taken; the rest of the request is not sent then, and the connection serves no further one.
    pub async fn write_listening(
        &mut self,
        piece: Bytes,
        request: Method,
    ) -> Result<Option<ResponseHead>, ConnectionError> {
        let Self {
            transport,
            buffer,
            scanned,
            informational,
            head_limits,
            ..
        } = self;
        let (mut reading, mut writing) = transport.split();
        let early = {
            let mut write = std::pin::pin!(writing.write(piece));
            let mut failed: Option<io::Error> = None;
            poll_fn(
                |cx| -> Poll<Result<Option<ResponseHead>, ConnectionError>> {
                    if failed.is_none() {
                        match write.as_mut().poll(cx) {
                            Poll::Ready(Ok(())) => return Poll::Ready(Ok(None)),
                            Poll::Ready(Err(error)) => failed = Some(error),
                            Poll::Pending => {}
                        }
                    }
                    loop {
                        let head =
                            take_final_head(buffer, scanned, informational, request, head_limits)?;
                        if head.is_some() {
                            return Poll::Ready(Ok(head));
                        }
                        match reading.poll_read(cx, ANSWER_READ_BYTES) {
                            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                                buffer.extend_from_slice(&bytes);
                            }
                            Poll::Ready(_) => {
                                let error = failed.take().map(ConnectionError::from);
                                return Poll::Ready(Err(
                                    error.unwrap_or(ConnectionError::Truncated("request"))
                                ));
                            }
                            // A peer that refuses the rest may have said why: after a failed write the read ends soon, with
                            // what it sent first.
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                },
            )
            .await?
        };
        if let Some(head) = &early {
            self.begin_response(head);
            self.reusable = false;
        }
        Ok(early)
    }

    /// The next piece of the current message's body, without its framing; `None` at its end. On the server's end the first
    /// call answers `Expect: 100-continue` (RFC 9110 section 10.1.1).
    pub async fn body_chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        self.admit_body().await?;
        poll_fn(|cx| self.poll_body_chunk(cx)).await
    }

    /// Sends `100 Continue` where the client waits for it and nothing of the body came yet (RFC 9110 section 10.1.1).
    pub async fn admit_body(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.continue_due) && self.buffer.is_empty() {
            self.transport.write(Bytes::from_static(CONTINUE)).await?;
        }
        Ok(())
    }

    /// Whether the last deadline set on the connection has passed.
    pub fn expired(&self) -> bool {
        self.transport.expired()
    }

    /// Whether bytes were received that no one has taken yet.
    pub fn buffered(&self) -> bool {
        !self.buffer.is_empty() || !self.pieces.is_empty()
    }

    /// [`Connection::body_chunk`] for a caller that waits for something else too; it never sends `100 Continue`.
    pub fn poll_body_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if !self.body_pending() {
                return Poll::Ready(Ok(None));
            }
            if self.buffer.is_empty() {
                match ready!(self.poll_more_body(cx, BODY_READ_BYTES))? {
                    true => continue,
                    false => return Poll::Ready(Ok(None)),
                }
            }
            let mut ranges: SmallVec<[Range<usize>; 4]> = SmallVec::new();
            let wire = self
                .take_wire(&mut |data, start| ranges.push(start..start + data.len()))?
                .freeze();
            self.pieces
                .extend(ranges.into_iter().map(|range| wire.slice(range)));
        }
    }

    /// The next bytes of the current body as they came, framing included, while `data` sees the payload within them.
    /// `None` at the end.
    pub fn poll_wire(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut dyn FnMut(&[u8]),
    ) -> Poll<Result<Option<BytesMut>, ConnectionError>> {
        if !self.body_pending() {
            return Poll::Ready(Ok(None));
        }
        if self.buffer.is_empty() {
            let size = self.relay_read;
            if !ready!(self.poll_more_body(cx, size))? {
                return Poll::Ready(Ok(None));
            }
            self.adapt_relay_read(size);
        }
        Poll::Ready(self.take_wire(&mut |bytes, _| data(bytes)).map(Some))
    }

    /// What is here of the current body, without its framing, and whether that is all of it. Nothing is taken: whoever reads the
    /// body finds it whole.
    pub fn peek_body(&self) -> Result<(Vec<u8>, bool), ConnectionError> {
        let mut payload = Vec::with_capacity(self.buffer.len());
        let whole = match &self.body {
            Body::Ended => true,
            Body::UntilClose => {
                payload.extend_from_slice(&self.buffer);
                false
            }
            Body::Length(remaining) => {
                let here = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let here = here.min(self.buffer.len());
                payload.extend_from_slice(&self.buffer[..here]);
                here as u64 == *remaining
            }
            Body::Chunked(decoder) => {
                let mut decoder = (**decoder).clone();
                let scanned = decoder.scan(&self.buffer, |run| payload.extend_from_slice(run))?;
                scanned.done
            }
        };
        Ok((payload, whole))
    }

    /// Reads on without taking anything, for [`Connection::peek_body`]; false at the end of the stream.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ConnectionError>> {
        let received = ready!(self.poll_fill(cx, ANSWER_READ_BYTES))?;
        if received == 0 && self.transport.expired() {
            return Poll::Ready(Err(ConnectionError::TimedOut("body")));
        }
        Poll::Ready(Ok(received > 0))
    }

    /// Returns a buffer that [`Connection::poll_wire`] gave, for the next read.
    pub fn give_back(&mut self, buffer: BytesMut) {
        self.transport.give_back(buffer);
    }

    /// Resolves when the client has closed its side while an answer is due. With a pipelined request waiting it stays
    /// silent: at most one request is read ahead.
    pub async fn client_left(&mut self) {
        poll_fn(|cx| self.poll_client_left(cx)).await;
    }

    /// [`Connection::client_left`] for a caller that waits for something else too.
    pub fn poll_client_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body_pending() || !self.buffer.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_fill(cx, IDLE_READ_BYTES)) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }

    /// Whether an idle connection to a server is still fit for a request: nothing came in and it did not close. The read that
    /// watches it brings the next answer's head.
    pub fn poll_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.buffer.is_empty() && self.transport.poll_quiet(cx, ANSWER_READ_BYTES)
    }

    /// Writes all of `bytes`.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.transport.write(bytes).await
    }

    /// Writes a head and the first bytes of a body together.
    pub async fn write_message(&mut self, head: Vec<u8>, body: Bytes) -> io::Result<()> {
        self.transport.write_message(head, body).await
    }

    /// Whether the current message's body has bytes still to come.
    pub fn body_pending(&self) -> bool {
        !matches!(self.body, Body::Ended) || !self.pieces.is_empty()
    }

    /// Whether the body was read to its end, nothing came beyond it and both sides want to keep the connection.
    pub fn reusable(&self) -> bool {
        self.reusable && !self.body_pending() && self.buffer.is_empty()
    }

    /// Closes with a reset: the peer must not take what it has for a whole message.
    pub fn abort(self) {
        self.transport.abort();
    }

    fn begin_request(&mut self, head: &RequestHead) {
        self.scanned = 0;
        self.pieces.clear();
        self.reusable = head.keep_alive();
        self.body = match head.framing() {
            RequestFraming::None | RequestFraming::Length(0) => Body::Ended,
            RequestFraming::Length(length) => Body::Length(length),
            RequestFraming::Chunked => Body::Chunked(Box::default()),
        };
        self.continue_due = head.expect_continue() && self.body_pending();
    }

    fn begin_response(&mut self, head: &ResponseHead) {
        self.scanned = 0;
        self.informational = 0;
        self.pieces.clear();
        self.reusable = head.keep_alive();
        self.body = match head.framing() {
            ResponseFraming::None | ResponseFraming::Length(0) => Body::Ended,
            ResponseFraming::Length(length) => Body::Length(length),
            ResponseFraming::Chunked => Body::Chunked(Box::default()),
            ResponseFraming::UntilClose => {
                self.reusable = false;
                Body::UntilClose
            }
        };
    }

    fn arm_head_clock(&self, clock: &mut Clock) {
        let Some(clocks) = self.head_clocks else {
            return;
        };
        if self.nothing_begun() {
            if *clock == Clock::Off {
                self.transport.arm_idle(clocks.idle);
                *clock = Clock::Idle;
            }
        } else if *clock != Clock::Head {
            self.transport.arm_deadline(clocks.head, OnExpiry::ShutRead);
            *clock = Clock::Head;
        }
    }

    /// Whether nothing of a head is here: line ends that some clients send behind a body are none of it.
    fn nothing_begun(&self) -> bool {
        self.buffer.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Appends what the next read brings; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        let received = ready!(self.transport.poll_read(cx, size))?;
        let length = received.len();
        if self.buffer.is_empty() {
            self.buffer = received;
        } else {
            self.buffer.extend_from_slice(&received);
            self.transport.give_back(received);
        }
        Poll::Ready(Ok(length))
    }

    /// Reads more of a body; false where the end of the stream is also the end of the body.
    fn poll_more_body(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
    ) -> Poll<Result<bool, ConnectionError>> {
        if ready!(self.poll_fill(cx, size))? > 0 {
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(if self.transport.expired() {
            Err(ConnectionError::TimedOut("body"))
        } else if matches!(self.body, Body::UntilClose) {
            self.body = Body::Ended;
            Ok(false)
        } else {
            Err(ConnectionError::Truncated("body"))
        })
    }

    /// Cuts the bytes of the current body off the buffer; `data` gets each run of payload and where it starts.
    fn take_wire(
        &mut self,
        data: &mut dyn FnMut(&[u8], usize),
    ) -> Result<BytesMut, ConnectionError> {
        let consumed = match &mut self.body {
            Body::Ended => 0,
            Body::UntilClose => {
                data(&self.buffer, 0);
                self.buffer.len()
            }
            Body::Length(remaining) => {
                let length = usize::try_from(*remaining)
                    .map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                data(&self.buffer[..length], 0);
                *remaining -= length as u64;
                if *remaining == 0 {
                    self.body = Body::Ended;
                }
                length
            }
            Body::Chunked(decoder) => {
                let start = self.buffer.as_ptr() as usize;
                let scanned =
                    decoder.scan(&self.buffer, |run| data(run, run.as_ptr() as usize - start))?;
                if scanned.done {
                    self.body = Body::Ended;
                }
                scanned.consumed
            }
        };
        Ok(if consumed == self.buffer.len() {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(consumed)
        })
    }

    /// A stream of small events keeps a small buffer; a bulk transfer grows to a large one.
    fn adapt_relay_read(&mut self, size: usize) {
        if self.buffer.len() >= size {
            self.relay_read = (size * 4).min(RELAY_READ_MAX);
        } else if self.buffer.len() < size / 8 {
            self.relay_read = (size / 2).max(RELAY_READ_MIN);
        }
    }
}

/// Takes the final answer's head off `buffer`, skipping informational ones (RFC 9110 section 15.2), of which there may be
/// so many.
fn take_final_head(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    informational: &mut usize,
    request: Method,
    limits: &HeadLimits,
) -> Result<Option<ResponseHead>, ConnectionError> {
    while !buffer.is_empty() {
        match ResponseHead::take(buffer, scanned, request, limits)? {
            Some(head) if head.status() == 101 => return Err(ConnectionError::Switching),
            Some(head) if head.status() < 200 => {
                *informational += 1;
                if *informational > INFORMATIONAL_MAX {
                    return Err(ConnectionError::Informational);
                }
            }
            other => return Ok(other),
        }
    }
    Ok(None)
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Clock {
    Off,
    Idle,
    Head,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::pump::{Framing, RelayClocks, RelayEnd, relay};
    use std::io::{Read, Write};

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            runtime.block_on(test());
        }
    }

    fn accepted() -> (Connection, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let far = std::net::TcpStream::connect(listener.local_addr().expect("an address"))
            .expect("connect");
        let (near, _) = listener.accept().expect("accept");
        near.set_nonblocking(true).expect("non-blocking");
        let stream = monoio::net::TcpStream::from_std(near).expect("from std");
        let transport = Transport::new(stream).expect("a transport");
        (Connection::server(transport, HeadLimits::default()), far)
    }

    #[test]
    fn an_idle_client_is_let_go_and_a_slow_head_times_out() {
        let clocks = HeadClocks {
            idle: Duration::from_millis(40),
            head: Duration::from_millis(40),
        };
        on_both_drivers(async || {
            let (mut idle, _far) = accepted();
            idle.set_head_clocks(clocks);
            assert!(matches!(idle.next_request().await, Ok(None)));
            let (mut slow, mut far) = accepted();
            slow.set_head_clocks(clocks);
            far.write_all(b"GET / HT").expect("written");
            assert!(matches!(
                slow.next_request().await,
                Err(ConnectionError::TimedOut("request head"))
            ));
            slow.write(Bytes::from_static(b"408"))
                .await
                .expect("an answer can still be written");
        });
    }

    #[test]
    fn pipelined_requests_come_one_by_one_and_continue_is_sent_when_the_body_is_wanted() {
        on_both_drivers(async || {
            let (mut connection, mut far) = accepted();
            let pipelined = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\
                Expect: 100-continue\r\n\r\n";
            far.write_all(pipelined.as_bytes()).expect("written");
            let first = connection
                .next_request()
                .await
                .expect("valid")
                .expect("a request");
            let second = connection
                .next_request()
                .await
                .expect("valid")
                .expect("a request");
            assert_eq!((first.path(), second.path()), ("/1", "/2"));
            let peer = std::thread::spawn(move || {
                let mut interim = [0; CONTINUE.len()];
                far.read_exact(&mut interim).expect("an interim answer");
                assert_eq!(interim, CONTINUE);
                far.write_all(b"hi").expect("written");
            });
            assert_eq!(
                connection.body_chunk().await.expect("a body").as_deref(),
                Some(&b"hi"[..])
            );
            assert!(connection.body_chunk().await.expect("an end").is_none());
            peer.join().expect("the peer");
        });
    }

    #[test]
    fn framings_are_changed_for_the_receiver_and_a_truncated_body_is_no_end() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\n\r\n",
                "hello",
                Framing::IntoChunks,
                "5\r\nhello\r\n0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
                Framing::OutOfChunks,
                "hello",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                "hello",
                Framing::Same,
                "hello",
                false,
            ),
        ];
        let clocks = RelayClocks {
            sender_idle: Duration::from_secs(20),
            receiver_stall: Duration::from_secs(20),
            until: None,
        };
        on_both_drivers(async || {
            for (head, body, framing, expected, complete) in cases {
                let (mut sender, mut upstream) = accepted();
                let (mut receiver, mut client) = accepted();
                upstream.write_all(head.as_bytes()).expect("written");
                upstream.write_all(body.as_bytes()).expect("written");
                drop(upstream);
                sender.response_head(Method::Get).await.expect("a head");
                let head = b"head ".to_vec();
                let relayed =
                    relay(&mut sender, &mut receiver, head, framing, clocks, |_| ()).await;
                let end = &relayed.end;
                assert_eq!(matches!(end, RelayEnd::Complete), complete, "{end:?}");
                let expected = format!("head {expected}");
                assert_eq!(relayed.written, expected.len() as u64);
                let mut received = vec![0; expected.len()];
                client.read_exact(&mut received).expect("received");
                assert_eq!(received, expected.as_bytes());
            }
        });
    }
}
