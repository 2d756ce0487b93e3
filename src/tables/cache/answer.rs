//! A stored answer, and one that is being gathered beside its relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::limits::{CACHE_FILLING_BYTES_MAX, CACHED_BODY_MAX, CACHED_PIECE_MAX, CACHED_PIECE_MIN};
use crate::meter::Usage;
use crate::meter::cost::Money;

/// An answer of status 200, as it is given out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Lines of its head that belong to the body, each with its end.
    pub lines: Bytes,
    /// The body without framing, in as many pieces as it was gathered in.
    pub pieces: Vec<Bytes>,
    /// When it was stored, milliseconds since the Unix epoch.
    pub stored: u64,
    /// From when on it is given out no more.
    pub until: u64,
    /// What is logged of it.
    pub told: Told,
}

/// What a log entry tells of a stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who gave it.
    pub provider: Arc<str>,
    /// Tells the provider from what it was before a change: its answers are forgotten with it.
    pub revision: u64,
    /// The model asked for.
    pub model: Option<Box<str>>,
    /// The model that answered.
    pub answered_model: Option<Box<str>>,
    /// Tokens it took.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Option<Money>,
}

/// What an answer takes beside its bytes: its places in the table, and its parts.
const OVERHEAD: usize = 320;

impl Answer {
    /// Bytes of the body.
    pub fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Bytes of memory.
    pub fn weight(&self) -> usize {
        let pieces = self.pieces.len() * size_of::<Bytes>() * 2;
        OVERHEAD + self.lines.len() + self.length() + pieces
    }

    /// Seconds since it was stored.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.stored) / 1000
    }
}

/// Gathers a body piece by piece. What is gathered at once, over all requests, is bounded: a body for which there is no room is
/// not stored.
pub struct Filling {
    all: Arc<AtomicUsize>,
    taken: usize,
    pieces: Vec<Bytes>,
    filling: BytesMut,
    length: usize,
    given_up: bool,
}

impl Filling {
    /// For a body whose length may be known.
    pub fn begin(all: &Arc<AtomicUsize>, length: Option<u64>) -> Self {
        let mut filling = Self {
            all: all.clone(),
            taken: 0,
            pieces: Vec::new(),
            filling: BytesMut::new(),
            length: 0,
            given_up: length.is_some_and(|length| length > CACHED_BODY_MAX as u64),
        };
        if let Some(length) = length.filter(|_| !filling.given_up) {
            filling.more((length as usize).min(CACHED_PIECE_MAX));
        }
        filling
    }

    /// Takes a copy of the next bytes.
    pub fn feed(&mut self, mut run: &[u8]) {
        if self.given_up || run.is_empty() {
            return;
        }
        self.length += run.len();
        if self.length > CACHED_BODY_MAX {
            return self.give_up();
        }
        while !run.is_empty() {
            let room = self.filling.capacity() - self.filling.len();
            let (now, later) = run.split_at(room.min(run.len()));
            self.filling.extend_from_slice(now);
            run = later;
            if !run.is_empty() {
                self.put_aside();
                let grown = self.length.next_power_of_two();
                self.more(
                    grown
                        .clamp(CACHED_PIECE_MIN, CACHED_PIECE_MAX)
                        .max(run.len().min(CACHED_PIECE_MAX)),
                );
                if self.given_up {
                    return;
                }
            }
        }
    }

    /// The body, unless it was too large.
    pub fn end(mut self) -> Option<Vec<Bytes>> {
        if self.given_up {
            return None;
        }
        // A last piece that is half empty would hold twice what it is counted for.
        if self.filling.len() < self.filling.capacity() / 8 * 7 {
            let exact = BytesMut::from(&self.filling[..]);
            self.filling = exact;
        }
        self.put_aside();
        Some(std::mem::take(&mut self.pieces))
    }

    /// Lets go of everything: the answer is not to be stored.
    pub fn give_up(&mut self) {
        self.given_up = true;
        self.pieces = Vec::new();
        self.filling = BytesMut::new();
        self.all
            .fetch_sub(std::mem::take(&mut self.taken), Ordering::Relaxed);
    }

    fn put_aside(&mut self) {
        let full = std::mem::take(&mut self.filling);
        if !full.is_empty() {
            self.pieces.push(full.freeze());
        }
    }

    fn more(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.all.fetch_add(bytes, Ordering::Relaxed) + bytes > CACHE_FILLING_BYTES_MAX {
            return self.give_up();
        }
        self.filling = BytesMut::with_capacity(bytes);
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.all.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(runs: &[&[u8]], length: Option<u64>) -> Option<Vec<Bytes>> {
        let all = Arc::default();
        let mut filling = Filling::begin(&all, length);
        for run in runs {
            filling.feed(run);
        }
        let body = filling.end();
        assert_eq!(all.load(Ordering::Relaxed), 0);
        body
    }

    #[test]
    fn a_body_comes_out_as_it_went_in() {
        let large: Vec<u8> = (0..3_000_000_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        for length in [None, Some(large.len() as u64), Some(10)] {
            for size in [1000, 70_000, large.len()] {
                let runs: Vec<&[u8]> = large.chunks(size).collect();
                let body = gathered(&runs, length).expect("gathered");
                assert!(body.concat() == large, "{length:?} {size}");
                assert!(
                    body.len() < 3_000_000 / CACHED_PIECE_MAX + 16,
                    "{}",
                    body.len()
                );
            }
        }
        assert_eq!(
            gathered(&[b"one ", b"", b"two"], Some(7))
                .expect("gathered")
                .concat(),
            b"one two"
        );
        assert!(gathered(&[], None).expect("gathered").is_empty());
    }

    #[test]
    fn bounds_let_go_of_the_body_and_not_of_the_count() {
        assert!(gathered(&[b"x"], Some(CACHED_BODY_MAX as u64 + 1)).is_none());
        let much = vec![0; CACHED_BODY_MAX];
        assert!(gathered(&[&much, b"x"], None).is_none());
        let all: Arc<AtomicUsize> = Arc::default();
        all.store(CACHE_FILLING_BYTES_MAX, Ordering::Relaxed);
        let mut filling = Filling::begin(&all, None);
        filling.feed(b"x");
        assert!(filling.end().is_none());
        assert_eq!(all.load(Ordering::Relaxed), CACHE_FILLING_BYTES_MAX);
    }
}
