//! Relaying one body from one connection to another, as it arrives.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::deadlines::OnExpiry;
use super::http1::{Connection, ConnectionError};
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

/// The two waits of a relay.
#[derive(Debug, Clone, Copy)]
pub struct RelayClocks {
    /// Longest silence of the sender.
    pub sender_idle: Duration,
    /// Longest time one write may take.
    pub receiver_stall: Duration,
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

/// Relays the rest of `from`'s current body to `to`. Every piece is written from the buffer it was received into. While
/// it waits for the sender it watches the receiver, so that one who leaves is noticed at once. `seen` gets each run of
/// payload and how many bytes of the wire carried it are returned beside the end.
pub async fn relay(
    from: &mut Connection,
    to: &mut Connection,
    framing: Framing,
    clocks: RelayClocks,
    mut seen: impl FnMut(&[u8]),
) -> (RelayEnd, u64) {
    let mut written = 0;
    loop {
        let piece = match next_piece(from, to, framing, clocks.sender_idle, &mut seen).await {
            Next::Piece(piece) => piece,
            Next::End => break,
            Next::ReceiverLeft => return (RelayEnd::ReceiverLeft, written),
            Next::Broke(ConnectionError::TimedOut(_)) => return (RelayEnd::SenderIdle, written),
            Next::Broke(error) => return (RelayEnd::SenderBroke(error), written),
        };
        let length = piece.len() as u64;
        to.transport()
            .arm_deadline(clocks.receiver_stall, OnExpiry::ShutBoth);
        match to.transport().relay(piece).await {
            Ok(buffer) => from.give_back(buffer),
            Err(_) => return (receiver_failed(to), written),
        }
        to.transport().disarm_deadline();
        written += length;
    }
    if framing == Framing::IntoChunks {
        if to.write(Bytes::from_static(LAST_CHUNK)).await.is_err() {
            return (receiver_failed(to), written);
        }
        written += LAST_CHUNK.len() as u64;
    }
    (RelayEnd::Complete, written)
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
) -> Next {
    from.transport().arm_deadline(idle, OnExpiry::ShutBoth);
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
            Poll::Pending => to.poll_client_left(cx).map(|()| Next::ReceiverLeft),
        }
    })
    .await;
    from.transport().disarm_deadline();
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
