//! Phase 5 where the whole body is needed before anything goes up: it is read into memory, within bounds (mechanisms 10).

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quanta::Instant;

use super::Thread;
use super::attempt::{Failure, bounded, client_failed};
use super::error::GatewayError;
use super::settle::Settle;
use crate::http::{RequestFraming, RequestHead};
use crate::limits::{BODY_BUFFER_MAX, BUFFERED_BYTES_MAX};
use crate::net::deadlines::OnExpiry;
use crate::net::http1::Connection;
use crate::record::End;
use crate::snapshot::Settings;

/// A body in memory, and its share of the memory that bodies may take.
pub(super) struct Whole<'a> {
    /// The payload, without its framing.
    pub bytes: Bytes,
    _share: Share<'a>,
}

/// Reads a request's body to its end. The answer to `Expect: 100-continue` is sent here.
pub(super) async fn whole<'a>(
    thread: &'a Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    settle: &mut Settle<'_>,
) -> Result<Whole<'a>, Failure> {
    let limit = settings.body_max.min(BODY_BUFFER_MAX);
    let mut share = Share::of(&thread.shared.buffered);
    let stated = match head.framing() {
        RequestFraming::Length(length) if length > limit => {
            return Err(GatewayError::too_large(limit).into());
        }
        RequestFraming::Length(length) => length as usize,
        RequestFraming::None | RequestFraming::Chunked => 0,
    };
    // What is stated is taken at once, so that a body is refused before it is read and not in its middle.
    share.grow(stated)?;
    if client.admit_body().await.is_err() {
        return Err(Failure::ClientGone(End::ClientLeft));
    }
    let mut body = BytesMut::with_capacity(stated);
    let read = pieces(settings, client, limit, &mut share, &mut body, settle).await;
    let bytes = body.freeze();
    // Also of a body that broke off: what was received is told.
    if let Some(kept) = settle.kept_request() {
        kept.share(bytes.clone());
    }
    read?;
    Ok(Whole {
        bytes,
        _share: share,
    })
}

async fn pieces(
    settings: &Settings,
    client: &mut Connection,
    limit: u64,
    share: &mut Share<'_>,
    body: &mut BytesMut,
    settle: &mut Settle<'_>,
) -> Result<(), Failure> {
    while let Some(piece) = next(settings, client, &mut settle.timeline.wait).await? {
        settle.note_request(&piece);
        if body.len() + piece.len() > limit as usize {
            return Err(GatewayError::too_large(limit).into());
        }
        share.grow((body.len() + piece.len()).saturating_sub(share.taken))?;
        body.extend_from_slice(&piece);
    }
    Ok(())
}

async fn next(
    settings: &Settings,
    client: &mut Connection,
    wait: &mut Duration,
) -> Result<Option<Bytes>, Failure> {
    let mut since = None;
    let piece = poll_fn(|cx| {
        let polled = client.poll_body_chunk(cx);
        // The clock runs only where there is something to wait for.
        if polled.is_pending() && since.is_none() {
            since = Some(Instant::now());
            let patience = bounded(settings.clocks.client_body_idle, None);
            client
                .transport()
                .arm_deadline(patience, OnExpiry::ShutRead);
        }
        polled
    })
    .await;
    if let Some(since) = since {
        client.transport().disarm_deadline();
        *wait += since.elapsed();
    }
    piece.map_err(client_failed)
}

/// Bytes taken of what all threads may hold; given back when dropped.
pub(super) struct Share<'a> {
    all: &'a AtomicUsize,
    taken: usize,
}

impl<'a> Share<'a> {
    pub(super) fn of(all: &'a AtomicUsize) -> Self {
        Self { all, taken: 0 }
    }

    pub(super) fn grow(&mut self, by: usize) -> Result<(), GatewayError> {
        self.taken += by;
        match self.all.fetch_add(by, Ordering::Relaxed) + by > BUFFERED_BYTES_MAX {
            true => Err(GatewayError::no_memory()),
            false => Ok(()),
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_back_however_they_end() {
        let all = AtomicUsize::new(0);
        {
            let mut share = Share::of(&all);
            assert!(share.grow(1000).is_ok());
            let mut greedy = Share::of(&all);
            assert!(greedy.grow(BUFFERED_BYTES_MAX).is_err());
            drop(greedy);
            assert_eq!(all.load(Ordering::Relaxed), 1000);
            assert!(share.grow(BUFFERED_BYTES_MAX - 1000).is_ok());
        }
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
