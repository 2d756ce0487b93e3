//! Relaying one body from one connection to another, as it arrives.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use quanta::Instant;

use super::deadlines::OnExpiry;
use super::http1::{Connection, ConnectionError};
use super::task::Rounds;
use crate::http::chunked::{LAST_CHUNK, chunk_head};

/// How the receiver's framing differs from the sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The sender's bytes are right for the receiver as they stand.
    Same,
    /// The sender's body ends with its connection; the receiver gets it in chunks (RFC 9112 section 7.1).
    IntoChunks,
    /// The sender's chunks are taken apart for a receiver that knows only the end of the connection (HTTP/1.0).
    OutOfChunks,
}

/// The waits of a relay.
#[derive(Debug, Clone, Copy)]
pub struct RelayClocks {
    /// Longest silence of the sender.
    pub sender_idle: Duration,
    /// Longest time one write may take.
    pub receiver_stall: Duration,
    /// When the relay must have ended.
    pub until: Option<Instant>,
}

impl RelayClocks {
    fn bounded(&self, after: Duration) -> Duration {
        self.until.map_or(after, |until| {
            after.min(until.saturating_duration_since(Instant::now()))
        })
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// The whole body went through.
    Complete,
    /// The receiver closed its side or could not be written to.
    ReceiverLeft,
    /// The receiver took no bytes for too long.
    ReceiverStalled,
    /// The sender sent nothing for too long.
    SenderIdle,
    /// The sender broke off or broke its framing.
    SenderBroke(ConnectionError),
}

/// What a relay did.
#[derive(Debug)]
pub struct Relayed {
    /// How it ended.
    pub end: RelayEnd,
    /// Bytes written to the receiver, head and framing included.
    pub written: u64,
    /// When the first of them were written.
    pub first: Option<Instant>,
}

/// Writes `head` to `to` and relays the rest of `from`'s current body behind it, in one write with what of it is already
/// here. Every later piece is written from the buffer it was received into. While it waits for the sender it watches the
/// receiver, so that one who leaves is noticed at once. `seen` gets each run of payload.
pub async fn relay(
    from: &mut Connection,
    to: &mut Connection,
    head: Vec<u8>,
    framing: Framing,
    clocks: RelayClocks,
    mut seen: impl FnMut(&[u8]),
) -> Relayed {
    let mut relayed = Relayed {
        end: RelayEnd::Complete,
        written: 0,
        first: None,
    };
    let mut head = Some(head).filter(|head| !head.is_empty());
    let (mut rounds, mut waited) = (Rounds::default(), true);
    loop {
        rounds.next(std::mem::take(&mut waited)).await;
        let next = if head.is_some() && !from.buffered() {
            Next::Piece(BytesMut::new())
        } else {
            next_piece(
                from,
                to,
                framing,
                clocks.bounded(clocks.sender_idle),
                &mut seen,
                &mut waited,
            )
            .await
        };
        let (piece, last) = match next {
            Next::Piece(piece) => (piece, false),
            Next::End if framing == Framing::IntoChunks => (BytesMut::from(LAST_CHUNK), true),
            Next::End if head.is_some() => (BytesMut::new(), true),
            Next::End => return relayed,
            Next::ReceiverLeft => return ended(relayed, RelayEnd::ReceiverLeft),
            Next::Broke(ConnectionError::TimedOut(_)) => {
                return ended(relayed, RelayEnd::SenderIdle);
            }
            Next::Broke(error) => return ended(relayed, RelayEnd::SenderBroke(error)),
        };
        let length = piece.len() + head.as_ref().map_or(0, Vec::len);
        to.transport()
            .arm_deadline(clocks.bounded(clocks.receiver_stall), OnExpiry::ShutBoth);
        let result = match head.take() {
            // Boxed: it is done once, and a stream should not hold its room.
            Some(head) => Box::pin(to.write_message(head, piece.freeze())).await,
            None => to
                .transport()
                .relay(piece)
                .await
                .map(|buffer| from.give_back(buffer)),
        };
        if result.is_err() {
            let end = receiver_failed(to);
            return ended(relayed, end);
        }
        to.transport().disarm_deadline();
        relayed.written += length as u64;
        relayed.first.get_or_insert_with(Instant::now);
        if last || (framing != Framing::IntoChunks && !from.body_pending()) {
            return relayed;
        }
    }
}

fn ended(relayed: Relayed, end: RelayEnd) -> Relayed {
    Relayed { end, ..relayed }
}

enum Next {
    Piece(BytesMut),
    End,
    ReceiverLeft,
    Broke(ConnectionError),
}

async fn next_piece(
    from: &mut Connection,
    to: &mut Connection,
    framing: Framing,
    idle: Duration,
    seen: &mut impl FnMut(&[u8]),
    waited: &mut bool,
) -> Next {
    let next = poll_fn(|cx| {
        let arrived = match framing {
            Framing::Same | Framing::IntoChunks => from.poll_wire(cx, seen),
            Framing::OutOfChunks => from.poll_body_chunk(cx).map_ok(|piece| {
                piece.map(|piece| {
                    seen(&piece);
                    BytesMut::from(piece)
                })
            }),
        };
        match arrived {
            Poll::Ready(Ok(Some(piece))) => Poll::Ready(Next::Piece(piece)),
            Poll::Ready(Ok(None)) => Poll::Ready(Next::End),
            Poll::Ready(Err(error)) => Poll::Ready(Next::Broke(error)),
            Poll::Pending => {
                // The clock runs only where there is something to wait for.
                if !std::mem::replace(waited, true) {
                    from.transport().arm_deadline(idle, OnExpiry::ShutBoth);
                }
                to.poll_client_left(cx).map(|()| Next::ReceiverLeft)
            }
        }
    })
    .await;
    if *waited {
        from.transport().disarm_deadline();
    }
    match next {
        Next::Piece(piece) if framing == Framing::IntoChunks => Next::Piece(as_chunk(&piece)),
        other => other,
    }
}

fn as_chunk(piece: &[u8]) -> BytesMut {
    let mut size = [0; 18];
    let size = chunk_head(piece.len(), &mut size);
    let mut chunk = BytesMut::with_capacity(size.len() + piece.len() + 2);
    chunk.put_slice(size);
    chunk.put_slice(piece);
    chunk.put_slice(b"\r\n");
    chunk
}

fn receiver_failed(to: &mut Connection) -> RelayEnd {
    if to.transport().expired() {
        RelayEnd::ReceiverStalled
    } else {
        RelayEnd::ReceiverLeft
    }
}
