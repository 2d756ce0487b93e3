//! Requests that wait for one answer together. The first claims the flight and brings the answer; the others read along from its
//! beginning, whichever thread they are on. Who brings it waits for the fastest of them and never for a slow one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::cache::Key;
use crate::limits::{
    FLIGHT_BYTES, FLIGHT_FOLLOWERS_MAX, FLIGHT_HELD_MAX, FLIGHT_SHARDS, FLIGHTS_BYTES_MAX,
};
use crate::meter::Usage;
use crate::meter::cost::Money;
use crate::net::mailbox::ReplyAddress;

/// The flights of all threads, by what is asked for.
pub struct Flights {
    shards: Box<[Mutex<Shard>]>,
    /// Bytes held by all flights.
    held: Arc<AtomicUsize>,
}

type Shard = HashMap<Key, Arc<Flight>, ahash::RandomState>;

/// What a request is to a flight.
pub enum Entered {
    /// It brings the answer.
    Leads(Claim),
    /// It reads along.
    Joins(Follower),
    /// It goes by itself: the flight is too far on, or has all the followers that it may have.
    Alone,
}

/// How an answer begins.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its status.
    pub status: u16,
    /// Lines of its head that belong to the body, each with its end.
    pub lines: Bytes,
    /// Its length, where it is known.
    pub length: Option<u64>,
}

/// What is logged of an answer once it is whole.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Tokens it took.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: Option<Money>,
    /// The model that answered.
    pub answered_model: Option<Box<str>>,
}

/// How a flight ended.
#[derive(Debug, Clone)]
pub enum Landing {
    /// The answer is whole.
    Whole(Figures),
    /// It broke off.
    Broken,
    /// Nobody brings an answer: another may.
    Abandoned,
}

struct Flight {
    /// The log id of who leads.
    leader: [u8; 36],
    held: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opening: Option<Opening>,
    pieces: VecDeque<Bytes>,
    /// How many pieces were let go before the first of these.
    before: usize,
    /// Bytes of these.
    bytes: usize,
    /// Pieces were let go, or more is held than a late joiner should get at once.
    closed: bool,
    landing: Option<Landing>,
    /// The next piece of each follower.
    followers: Vec<Option<usize>>,
    /// Followers that wait.
    waiting: Vec<ReplyAddress>,
    /// Who brings the answer and waits for room.
    holding: Option<ReplyAddress>,
    /// Who is to be told that nobody follows any more.
    watching: Option<ReplyAddress>,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            shards: (0..FLIGHT_SHARDS).map(|_| Mutex::default()).collect(),
            held: Arc::default(),
        }
    }
}

impl Flights {
    /// Joins the flight that is under way to this answer, or begins one; `id` is the log id of who asks.
    pub fn enter(self: &Arc<Self>, key: Key, id: [u8; 36]) -> Entered {
        let mut shard = self.shard(&key);
        if let Some(flight) = shard.get(&key) {
            return match Follower::join(flight) {
                Some(follower) => Entered::Joins(follower),
                None => Entered::Alone,
            };
        }
        let flight = Arc::new(Flight {
            leader: id,
            held: self.held.clone(),
            state: Mutex::default(),
        });
        shard.insert(key, flight.clone());
        Entered::Leads(Claim {
            flights: self.clone(),
            key,
            flight,
            open: true,
        })
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let at = key.shard(self.shards.len());
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right and the duty to bring the answer. Dropped before that it leaves the others to themselves.
pub struct Claim {
    flights: Arc<Flights>,
    key: Key,
    flight: Arc<Flight>,
    open: bool,
}

impl Claim {
    /// Reads along too: the client of who leads.
    pub fn follow(&self) -> Option<Follower> {
        Follower::join(&self.flight)
    }

    /// Tells, without the claim, whether anybody reads along.
    pub fn others(&self) -> Others {
        Others(self.flight.clone())
    }

    /// How many read along.
    pub fn followers(&self) -> usize {
        self.flight.lock().count()
    }

    /// The answer begins.
    pub fn begin(&self, opening: Opening) {
        let mut state = self.flight.lock();
        state.opening = Some(opening);
        ring(state);
    }

    /// The next piece of the body.
    pub fn append(&self, piece: Bytes) {
        let length = piece.len();
        let mut state = self.flight.lock();
        state.bytes += length;
        state.pieces.push_back(piece);
        let all = self.flight.held.fetch_add(length, Ordering::Relaxed) + length;
        if state.bytes > FLIGHT_BYTES || all > FLIGHTS_BYTES_MAX {
            // Who comes from now on goes alone, so that what everybody has read can go.
            state.closed = true;
            let freed = state.trim();
            self.flight.held.fetch_sub(freed, Ordering::Relaxed);
        }
        ring(state);
    }

    /// Whether the next piece may come. `wait` is told when it may, where it may not: more is held than even the fastest took.
    pub fn has_room(&self, wait: impl FnOnce() -> ReplyAddress) -> bool {
        let mut state = self.flight.lock();
        let fastest = state.followers.iter().flatten().max().copied();
        let read = fastest.unwrap_or(usize::MAX).saturating_sub(state.before);
        let unread: usize = state.pieces.iter().skip(read).map(Bytes::len).sum();
        if unread <= FLIGHT_BYTES {
            return true;
        }
        state.holding = Some(wait());
        false
    }

    /// The answer has ended, and nobody joins any more.
    pub fn end(mut self, landing: Landing) {
        self.close(landing);
    }

    fn close(&mut self, landing: Landing) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.flights.shard(&self.key).remove(&self.key);
        let mut state = self.flight.lock();
        state.landing = Some(landing);
        (state.holding, state.watching) = (None, None);
        ring(state);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let begun = self.flight.lock().opening.is_some();
        self.close(match begun {
            true => Landing::Broken,
            false => Landing::Abandoned,
        });
    }
}

/// Those who follow a flight, for who leads it.
pub struct Others(Arc<Flight>);

impl Others {
    /// Tells `wait` once there is nobody any more; at once where there is nobody.
    pub fn watch(&self, wait: ReplyAddress) {
        let mut state = self.0.lock();
        match state.count() {
            0 => wait.reply(()),
            _ => state.watching = Some(wait),
        }
    }
}

/// What there is for a follower.
#[derive(Debug)]
pub enum Next {
    /// The answer begins.
    Opening(Opening),
    /// The next pieces of the body.
    Pieces(Vec<Bytes>),
    /// The end, with how it came to it.
    End(Landing),
    /// Nothing yet.
    Wait,
    /// It was so slow that what it has still to read is gone.
    Lost,
}

/// One who reads along.
pub struct Follower {
    flight: Arc<Flight>,
    place: usize,
    opened: bool,
}

impl Follower {
    fn join(flight: &Arc<Flight>) -> Option<Self> {
        let mut state = flight.lock();
        if state.closed || state.landing.is_some() || state.count() >= FLIGHT_FOLLOWERS_MAX {
            return None;
        }
        let free = state.followers.iter().position(Option::is_none);
        let place = free.unwrap_or(state.followers.len());
        match free {
            Some(place) => state.followers[place] = Some(0),
            None => state.followers.push(Some(0)),
        }
        drop(state);
        Some(Self {
            flight: flight.clone(),
            place,
            opened: false,
        })
    }

    /// The log id of who leads.
    pub fn leader(&self) -> [u8; 36] {
        self.flight.leader
    }

    /// What comes next. `wait` is told when there is more, where there is nothing.
    pub fn next(&mut self, wait: impl FnOnce() -> ReplyAddress) -> Next {
        let mut state = self.flight.lock();
        if !self.opened
            && let Some(opening) = &state.opening
        {
            self.opened = true;
            return Next::Opening(opening.clone());
        }
        let Some(at) = state.followers[self.place] else {
            return Next::Lost;
        };
        let end = state.before + state.pieces.len();
        if self.opened && at < end {
            let pieces = state.pieces.iter().skip(at - state.before).cloned();
            let pieces = pieces.collect();
            state.followers[self.place] = Some(end);
            let freed = state.trim();
            self.flight.held.fetch_sub(freed, Ordering::Relaxed);
            if let Some(holding) = state.holding.take() {
                holding.reply(());
            }
            return Next::Pieces(pieces);
        }
        if let Some(landing) = &state.landing {
            return Next::End(landing.clone());
        }
        state.waiting.push(wait());
        Next::Wait
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.followers[self.place] = None;
        if state.count() == 0
            && let Some(watching) = state.watching.take()
        {
            watching.reply(());
        }
        if let Some(holding) = state.holding.take() {
            holding.reply(());
        }
    }
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let held = self.lock().bytes;
        self.held.fetch_sub(held, Ordering::Relaxed);
    }
}

impl State {
    fn count(&self) -> usize {
        self.followers.iter().flatten().count()
    }

    /// Lets go of what everybody has read, once nobody joins any more, and of followers that are too far behind. Returns the bytes.
    fn trim(&mut self) -> usize {
        if !self.closed {
            return 0;
        }
        let mut freed = 0;
        let slowest = |state: &Self| state.followers.iter().flatten().min().copied();
        loop {
            let read = slowest(self).unwrap_or(self.before + self.pieces.len());
            while self.before < read {
                let Some(piece) = self.pieces.pop_front() else {
                    break;
                };
                freed += piece.len();
                self.bytes -= piece.len();
                self.before += 1;
            }
            // One that is alone is waited for.
            if self.bytes <= FLIGHT_HELD_MAX || self.count() < 2 {
                return freed;
            }
            for follower in &mut self.followers {
                if *follower == Some(read) {
                    *follower = None;
                }
            }
        }
    }
}

/// Tells everyone that waits. Not under the lock: a mailbox has one of its own.
fn ring(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    for address in waiting {
        address.reply(());
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::{Keying, Of, Parts};
    use super::*;
    use crate::net::mailbox::{self, Inbox, Mailbox, Ticket};

    fn key(name: &str) -> Key {
        let parts = Parts {
            gateway: "g",
            epoch: 1,
            of: Of::Custom(name.as_bytes()),
        };
        Keying::begin(&parts).end(b"", false)
    }

    fn enter(flights: &Arc<Flights>, name: &str) -> Entered {
        flights.enter(key(name), [b'0'; 36])
    }

    fn claimed(flights: &Arc<Flights>, name: &str) -> Claim {
        match enter(flights, name) {
            Entered::Leads(claim) => claim,
            _ => panic!("{name} is claimed"),
        }
    }

    fn joined(flights: &Arc<Flights>, name: &str) -> Follower {
        match enter(flights, name) {
            Entered::Joins(follower) => follower,
            _ => panic!("{name} is not to be joined"),
        }
    }

    /// Addresses that lead nowhere in particular.
    struct Nowhere(Mailbox, #[allow(dead_code)] Inbox);

    impl Nowhere {
        fn new() -> Self {
            let (mailbox, inbox) = mailbox::pair().expect("a pair");
            Self(mailbox, inbox)
        }

        fn address(&self) -> ReplyAddress {
            Ticket::take().address(&self.0)
        }
    }

    fn opening() -> Opening {
        Opening {
            status: 200,
            lines: Bytes::new(),
            length: None,
        }
    }

    fn read(follower: &mut Follower, nowhere: &Nowhere) -> (Vec<u8>, Next) {
        let mut body = Vec::new();
        loop {
            match follower.next(|| nowhere.address()) {
                Next::Opening(_) => {}
                Next::Pieces(pieces) => pieces.iter().for_each(|piece| body.extend(piece)),
                other => return (body, other),
            }
        }
    }

    #[test]
    fn everybody_reads_the_whole_answer_however_late_they_come() {
        let (flights, nowhere) = (Arc::new(Flights::default()), Nowhere::new());
        let claim = claimed(&flights, "a");
        let mut early = joined(&flights, "a");
        assert!(matches!(read(&mut early, &nowhere), (body, Next::Wait) if body.is_empty()));
        claim.begin(opening());
        claim.append(Bytes::from_static(b"one "));
        let mut late = joined(&flights, "a");
        assert_eq!(read(&mut late, &nowhere).0, b"one ");
        claim.append(Bytes::from_static(b"two"));
        let mut last = joined(&flights, "a");
        assert_eq!((claim.followers(), last.leader()), (3, [b'0'; 36]));
        claim.end(Landing::Whole(Figures::default()));
        assert_eq!(read(&mut early, &nowhere).0, b"one two");
        assert_eq!(read(&mut late, &nowhere).0, b"two");
        let (body, end) = read(&mut last, &nowhere);
        assert_eq!(body, b"one two");
        assert!(matches!(end, Next::End(Landing::Whole(_))));
        // The flight is over: the next one begins anew, and another answer never was the same.
        drop((claimed(&flights, "a"), claimed(&flights, "b")));
        drop((early, late, last));
        assert_eq!(flights.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_claim_that_is_dropped_leaves_room_for_exactly_one_other() {
        let (flights, nowhere) = (Arc::new(Flights::default()), Nowhere::new());
        let claim = claimed(&flights, "a");
        let mut follower = joined(&flights, "a");
        drop(claim);
        let (_, end) = read(&mut follower, &nowhere);
        assert!(matches!(end, Next::End(Landing::Abandoned)));
        let again = claimed(&flights, "a");
        let mut other = joined(&flights, "a");
        again.begin(opening());
        drop(again);
        let (_, end) = read(&mut other, &nowhere);
        assert!(matches!(end, Next::End(Landing::Broken)));
        claimed(&flights, "a");
    }

    #[test]
    fn a_long_answer_closes_the_flight_and_a_slow_follower_is_let_go() {
        let (flights, nowhere) = (Arc::new(Flights::default()), Nowhere::new());
        let claim = claimed(&flights, "a");
        let mut fast = claim.follow().expect("room");
        let mut slow = joined(&flights, "a");
        claim.begin(opening());
        let piece = Bytes::from(vec![7; 1 << 20]);
        let (mut sent, mut got) = (0, 0);
        while sent < 2 * FLIGHT_HELD_MAX {
            assert!(claim.has_room(|| nowhere.address()));
            claim.append(piece.clone());
            sent += piece.len();
            got += read(&mut fast, &nowhere).0.len();
            assert!(flights.held.load(Ordering::Relaxed) <= FLIGHT_HELD_MAX + piece.len());
        }
        assert_eq!(got, sent);
        assert!(matches!(enter(&flights, "a"), Entered::Alone));
        assert!(matches!(read(&mut slow, &nowhere).1, Next::Lost));
        // Nobody reads now: who brings the answer has to wait, until somebody does.
        let mut more = 0;
        while claim.has_room(|| nowhere.address()) {
            claim.append(piece.clone());
            more += piece.len();
        }
        assert!(
            more > FLIGHT_BYTES && more <= FLIGHT_BYTES + 2 * piece.len(),
            "{more}"
        );
        assert_eq!(read(&mut fast, &nowhere).0.len(), more);
        assert!(claim.has_room(|| nowhere.address()));
    }

    #[test]
    fn one_alone_is_waited_for_and_the_number_of_followers_is_bounded() {
        let (flights, nowhere) = (Arc::new(Flights::default()), Nowhere::new());
        let claim = claimed(&flights, "a");
        let mut only = claim.follow().expect("room");
        claim.begin(opening());
        let piece = Bytes::from(vec![7; 1 << 20]);
        let mut sent = 0;
        for _ in 0..2 * FLIGHT_HELD_MAX / piece.len() {
            claim.append(piece.clone());
            sent += piece.len();
        }
        assert_eq!(read(&mut only, &nowhere).0.len(), sent);
        let crowded = claimed(&flights, "b");
        let crowd: Vec<Follower> = (0..FLIGHT_FOLLOWERS_MAX)
            .map(|_| joined(&flights, "b"))
            .collect();
        assert!(matches!(enter(&flights, "b"), Entered::Alone));
        drop(crowd);
        assert_eq!(crowded.followers(), 0);
    }
}
