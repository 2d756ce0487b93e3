//! What a finished request leaves behind: data only. The data thread fills it, the writer thread prints it.

mod captured;
mod trail;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quanta::Instant;

pub use captured::{Captured, CapturedBody, Loss, is_text};
pub use trail::{Decision, Input, Trail};

use crate::meter::Usage;
use crate::meter::cost::Money;

/// One request, as logged.
#[derive(Debug)]
pub struct Record {
    /// The request's id: `cf-aig-request-id`.
    pub id: Id,
    /// When its head was whole, in milliseconds since the Unix epoch.
    pub began: u64,
    /// The client, as far as trusted proxies tell.
    pub client: IpAddr,
    /// The method's token.
    pub method: Cow<'static, str>,
    /// The path without its query, cut to a bound.
    pub path: Box<str>,
    /// The gateway, once it is known.
    pub gateway: Option<Arc<str>>,
    /// The caller's token, where a valid one was shown: `cf.token_id` and `cf.token_name` (resolutions 30).
    pub token: Option<TokenName>,
    /// The provider's name, once it is known.
    pub provider: Option<Arc<str>>,
    /// The model asked for, without the provider before it.
    pub model: Option<Box<str>>,
    /// The dynamic route that chose the model.
    pub route: Option<Box<Routed>>,
    /// What was changed of the request beyond saying it in another dialect: `cf-aig-changes`.
    pub changes: Option<Box<str>>,
    /// Whether the provider speaks another dialect than the client.
    pub translated: bool,
    /// The model that answered, as it names itself.
    pub answered_model: Option<Box<str>>,
    /// What a provider need not do again: set where the answer came out of the gateway's own cache.
    pub cached: Option<Box<Saved>>,
    /// Tokens used, where the answer stated them.
    pub usage: Option<Usage>,
    /// What that costs; `None`: not known, for want of usage or of a price.
    pub cost: Option<Money>,
    /// The status sent to the client; 0 where none could be sent.
    pub status: u16,
    /// The gateway's own error code where it made the answer.
    pub code: Option<u16>,
    /// What went wrong, for the operator.
    pub detail: Option<Box<str>>,
    /// How it ended.
    pub end: End,
    /// Body bytes received from the client, without framing.
    pub request_bytes: u64,
    /// Body bytes received from the provider, without framing.
    pub response_bytes: u64,
    /// Which step of the request this was, counted from 0.
    pub step: u8,
    /// Whether another step answered the request: this one counts for what it used and is no request by itself.
    pub superseded: bool,
    /// Upstream connections tried: 2 where a stale one was replaced.
    pub attempts: u8,
    /// Whether the connection used had served before.
    pub reused: bool,
    /// The provider's address, once there was a connection.
    pub upstream: Option<SocketAddr>,
    /// Where the time went.
    pub timings: Timings,
    /// What its log entry says beyond this; `None`: none is to be written.
    pub log: Option<Box<Logged>>,
}

impl Record {
    /// Of a request about which nothing more is known.
    #[inline]
    pub fn new(id: Id, client: IpAddr) -> Self {
        Self {
            id,
            began: id.milliseconds(),
            client,
            method: Cow::Borrowed(""),
            path: Box::from(""),
            gateway: None,
            token: None,
            provider: None,
            model: None,
            route: None,
            changes: None,
            translated: false,
            answered_model: None,
            cached: None,
            usage: None,
            cost: None,
            status: 0,
            code: None,
            detail: None,
            end: End::Dropped,
            request_bytes: 0,
            response_bytes: 0,
            step: 0,
            superseded: false,
            attempts: 0,
            reused: false,
            upstream: None,
            timings: Timings::default(),
            log: None,
        }
    }

    /// Whether the client got a whole answer that is no error.
    pub fn succeeded(&self) -> bool {
        (200..400).contains(&self.status) && self.end == End::Complete
    }
}

/// What an answer out of the cache took when it was made (resolutions 5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its tokens, where it stated them.
    pub usage: Option<Usage>,
    /// What it cost, where that was known.
    pub cost: Option<Money>,
}

/// What only a log entry tells of a request.
#[derive(Debug, Default)]
pub struct Logged {
    /// The trace id that the client sent; else the record's own id stands for it.
    pub event_id: Option<Box<str>>,
    /// Metadata: a flat JSON object (data plane 2.3).
    pub metadata: Option<Box<str>>,
    /// `User-Agent`, cut to a bound.
    pub user_agent: Option<Box<str>>,
    /// `Content-Type` of the request.
    pub request_content_type: Option<Box<str>>,
    /// `Content-Type` of the answer.
    pub response_content_type: Option<Box<str>>,
    /// Whose key paid.
    pub paid_by: PaidBy,
    /// The tries that failed before the last one.
    pub tries: Vec<Try>,
    /// Whether the caller named the price.
    pub custom_cost: bool,
    /// Which rules ran, and what they decided.
    pub trail: Trail,
    /// The bodies, where they are to be stored with it.
    pub captured: Option<Captured>,
}

/// A try that failed and was followed by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// The provider's status; `None`: it did not answer.
    pub status: Option<u16>,
    /// Why it counts as failed.
    pub reason: Box<str>,
    /// The provider's address, once there was a connection.
    pub upstream: Option<SocketAddr>,
    /// How long the try took.
    pub took: Duration,
    /// The pause after it.
    pub pause: Duration,
}

/// Whose credential paid the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PaidBy {
    /// The caller's own, on the request.
    Request,
    /// A stored key, by its alias.
    Stored(Box<str>),
    /// The instance's own key.
    House,
    /// Nobody's.
    #[default]
    Nobody,
}

/// Tells a token from others without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName {
    /// 32 hexadecimal digits.
    pub id: Arc<str>,
    /// As its owner called it.
    pub name: Arc<str>,
}

/// Where in a dynamic route a model was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The route's name.
    pub name: Arc<str>,
    /// The version that was deployed.
    pub version_id: Arc<str>,
    /// The model element; empty where the route ended before one.
    pub element_id: Box<str>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The answer was sent whole.
    Complete,
    /// The client closed before the end.
    ClientLeft,
    /// The client took no bytes for too long.
    ClientStalled,
    /// The provider broke off after its answer had begun.
    UpstreamBroke,
    /// The provider fell silent after its answer had begun.
    UpstreamIdle,
    /// The request was dropped: a panic, or the end of a drain.
    Dropped,
}

impl End {
    /// As logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientLeft => "client_left",
            Self::ClientStalled => "client_stalled",
            Self::UpstreamBroke => "upstream_broke",
            Self::UpstreamIdle => "upstream_idle",
            Self::Dropped => "dropped",
        }
    }
}

/// Where a request's time went; the parts add up to `total` (resolutions 21).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the last byte of the request's head to the last byte of the answer.
    pub total: Duration,
    /// The gateway's work before the first byte went up.
    pub own_request: Duration,
    /// Of `own_request`: reading the head.
    pub parse: Duration,
    /// Waits before the first byte went down that neither the gateway nor a new connection caused: for a body that is needed
    /// whole, for the token that pays, for tries and for other steps that came to nothing.
    pub wait: Duration,
    /// Waiting for a free connection, DNS, TCP, TLS.
    pub connect: Duration,
    /// Of `connect`: until an origin at its bound had one to give.
    pub queue: Duration,
    /// Of `connect`: name resolution.
    pub dns: Duration,
    /// Of `connect`: TCP, and the proxy's agreement.
    pub tcp: Duration,
    /// Of `connect`: the TLS handshake.
    pub tls: Duration,
    /// From the first byte sent up to the first byte of the answer: the provider's.
    pub upstream: Duration,
    /// Of `upstream`: until the last byte of the request was sent.
    pub upload: Duration,
    /// From the first byte of the answer to the first byte sent down: the gateway's.
    pub own_response: Duration,
    /// From the first byte sent down to the last.
    pub stream: Duration,
}

impl Timings {
    /// The gateway's own share of the latency.
    pub fn own(&self) -> Duration {
        self.own_request + self.own_response
    }
}

/// The moments of a request, from which [`Timings`] are made. Later moments are missing where it ended early.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    /// The head had come.
    pub began: Instant,
    /// Spent on other steps, after `answered`.
    pub aside: Duration,
    /// Reading it.
    pub parse: Duration,
    /// See [`Timings::wait`].
    pub wait: Duration,
    /// Spent waiting for a connection, before `sent`.
    pub connect: Duration,
    /// Parts of `connect`.
    pub queue: Duration,
    /// Parts of `connect`.
    pub dns: Duration,
    /// Parts of `connect`.
    pub tcp: Duration,
    /// Parts of `connect`.
    pub tls: Duration,
    /// The first bytes were written upstream.
    pub sent: Option<Instant>,
    /// The last bytes of the request were.
    pub uploaded: Option<Instant>,
    /// The first byte of the answer came.
    pub answered: Option<Instant>,
    /// The first bytes were written to the client.
    pub relayed: Option<Instant>,
}

impl Timeline {
    /// Begins with a head that came at `began` and is read now.
    pub fn begin(began: Instant) -> Self {
        Self {
            aside: Duration::ZERO,
            began,
            parse: began.elapsed(),
            wait: Duration::ZERO,
            connect: Duration::ZERO,
            queue: Duration::ZERO,
            dns: Duration::ZERO,
            tcp: Duration::ZERO,
            tls: Duration::ZERO,
            sent: None,
            uploaded: None,
            answered: None,
            relayed: None,
        }
    }

    /// Adds the moments of a call that was made beside others for the same request: it went up when the first of them did, and was
    /// answered when the last of them was.
    pub fn add(&mut self, other: &Self) {
        self.wait = self.wait.max(other.wait);
        self.connect = self.connect.max(other.connect);
        self.queue = self.queue.max(other.queue);
        self.dns = self.dns.max(other.dns);
        self.tcp = self.tcp.max(other.tcp);
        self.tls = self.tls.max(other.tls);
        self.sent = match (self.sent, other.sent) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.uploaded = self.uploaded.max(other.uploaded);
        self.answered = self.answered.max(other.answered);
    }

    /// What was sent up came to nothing, and is sent again.
    pub fn begin_again(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.wait += sent.elapsed();
        }
        (self.uploaded, self.answered) = (None, None);
    }

    /// The parts up to `end`. What comes before the first missing moment is the gateway's.
    pub fn timings(&self, end: Instant) -> Timings {
        let sent = self.sent.unwrap_or(end);
        let answered = self.answered.unwrap_or(end).max(sent);
        let relayed = self.relayed.unwrap_or(end).max(answered);
        let before = sent.saturating_duration_since(self.began);
        let connect = self.connect.min(before);
        let own_response = relayed.saturating_duration_since(answered);
        let aside = self.aside.min(own_response);
        let wait = self.wait.min(before - connect);
        let upstream = answered.saturating_duration_since(sent);
        let uploaded = self.uploaded.unwrap_or(answered);
        Timings {
            total: end.saturating_duration_since(self.began),
            own_request: before - connect - wait,
            parse: self.parse,
            wait: wait + aside,
            connect,
            queue: self.queue,
            dns: self.dns,
            tcp: self.tcp,
            tls: self.tls,
            upstream,
            upload: uploaded.saturating_duration_since(sent).min(upstream),
            own_response: own_response - aside,
            stream: end.saturating_duration_since(relayed),
        }
    }
}

/// A UUID of version 7 (RFC 9562 section 5.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Two halves: a block that holds a `u128` would have to be aligned to more than a word.
    high: u64,
    low: u64,
}

/// The two hexadecimal digits of every byte.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    table
};

impl Id {
    /// As text, without an allocation.
    pub fn text(self) -> [u8; 36] {
        /// Where the two digits of each byte stand.
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        let mut text = [b'-'; 36];
        for (place, byte) in PLACES.into_iter().zip(self.to_bytes()) {
            text[place..place + 2].copy_from_slice(&HEX[usize::from(byte)]);
        }
        text
    }

    /// Milliseconds since the Unix epoch.
    pub fn milliseconds(self) -> u64 {
        self.high >> 16
    }

    /// As stored: in the order of ids, which is that of time.
    pub fn to_bytes(self) -> [u8; 16] {
        self.number().to_be_bytes()
    }

    /// Of what was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::of_number(u128::from_be_bytes(bytes))
    }

    /// The lowest id of a moment, in milliseconds since the Unix epoch.
    pub fn lowest_at(milliseconds: u64) -> Self {
        Self::of_number(u128::from(milliseconds & 0xffff_ffff_ffff) << 80)
    }

    /// Reads the text form, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let dashes = [8, 13, 18, 23];
        if text.len() != 36 || !dashes.iter().all(|&at| text.as_bytes()[at] == b'-') {
            return None;
        }
        let digits = text.bytes().filter(|byte| *byte != b'-');
        let mut number = 0;
        let mut count = 0;
        for byte in digits {
            number = number << 4 | u128::from(char::from(byte).to_digit(16)?);
            count += 1;
        }
        (count == 32).then_some(Self::of_number(number))
    }

    fn number(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn of_number(number: u128) -> Self {
        Self {
            high: (number >> 64) as u64,
            low: number as u64,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

/// Makes the ids of one thread: they rise, and no other thread or earlier run makes the same.
#[derive(Debug)]
pub struct Ids {
    thread: u8,
    run: u32,
    counter: u32,
    anchor: Instant,
    /// The wall clock at `anchor`, in milliseconds.
    wall: u64,
    last: u64,
}

impl Ids {
    /// For thread `thread`; `run` tells this start of the program from others.
    pub fn new(thread: u8, run: u32) -> Self {
        Self {
            thread,
            run,
            counter: 0,
            anchor: Instant::now(),
            wall: wall_clock(),
            last: 0,
        }
    }

    /// The next id at `now`. The wall clock is read once a second and never goes back here.
    pub fn next(&mut self, now: Instant) -> Id {
        let mut since = now.saturating_duration_since(self.anchor);
        if since >= Duration::from_secs(1) {
            (self.anchor, self.wall) = (now, wall_clock());
            since = Duration::ZERO;
        }
        self.last = self.last.max(self.wall + since.as_millis() as u64);
        self.counter = self.counter.wrapping_add(1);
        let counter = u64::from(self.counter);
        // 12 bits of rand_a and the lowest 20 of rand_b count, so that ids of one millisecond rise.
        let version = 7 << 12 | counter >> 20;
        let variant = 0b10 << 62;
        let origin = u64::from(self.run & 0x3_ffff) << 28 | u64::from(self.thread) << 20;
        Id {
            high: (self.last & 0xffff_ffff_ffff) << 16 | version,
            low: variant | origin << 16 & ((1 << 62) - 1) | counter & 0xf_ffff,
        }
    }
}

fn wall_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Upper bounds of the latency histograms' buckets, microseconds.
pub const LATENCY_BUCKETS: [u64; 16] = [
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
];

/// A histogram with one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Values up to each bound; the last counts the rest.
    pub buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    /// Sum of all values, microseconds.
    pub sum: AtomicU64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&self, value: Duration) {
        let value = value.as_micros() as u64;
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < value);
        bump(&self.buckets[bucket], 1);
        bump(&self.sum, value);
    }
}

/// The counters of one data thread, which alone writes them; summed when they are read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused at the bound.
    pub refused: AtomicU64,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// Client connections open now.
    pub open: AtomicU64,
    /// Requests by the first digit of their status; index 0: none was sent.
    pub statuses: [AtomicU64; 6],
    /// Answers that the gateway made itself.
    pub own_errors: AtomicU64,
    /// Requests that did not end complete.
    pub incomplete: AtomicU64,
    /// Requests running now.
    pub running: AtomicU64,
    /// Upstream connections opened.
    pub connects: AtomicU64,
    /// Upstream connections that could not be opened.
    pub connect_errors: AtomicU64,
    /// Requests on a connection that had served before.
    pub reuses: AtomicU64,
    /// Requests sent again because a connection was stale.
    pub replays: AtomicU64,
    /// Request body bytes.
    pub bytes_in: AtomicU64,
    /// Response body bytes.
    pub bytes_out: AtomicU64,
    /// Tokens of prompts.
    pub tokens_in: AtomicU64,
    /// Of these, read from a provider's cache.
    pub tokens_cached: AtomicU64,
    /// Tokens of answers.
    pub tokens_out: AtomicU64,
    /// Answers out of the cache.
    pub cache_hits: AtomicU64,
    /// Requests that the cache was looked into for, without finding an answer.
    pub cache_misses: AtomicU64,
    /// Answers of providers that were stored.
    pub cache_stores: AtomicU64,
    /// What answers out of the cache had cost, pico-dollars.
    pub cost_saved: AtomicU64,
    /// What providers charge, pico-dollars: wraps after 18 million dollars.
    pub cost: AtomicU64,
    /// Answers with usage to which no price is known.
    pub unpriced: AtomicU64,
    /// Records that found the ring full.
    pub records_dropped: AtomicU64,
    /// The gateway's own share.
    pub own: Histogram,
    /// The whole request.
    pub total: Histogram,
    /// Waits for a connection, of requests that reached a provider.
    pub connect: Histogram,
    /// The provider's time to its first byte.
    pub upstream: Histogram,
    /// Waits for one of an origin's connections, of requests that had to.
    pub queued: Histogram,
    /// Seconds since the start at which the thread was last seen alive.
    pub heartbeat: AtomicU64,
}

impl Counters {
    /// Counts a finished request by the record of the step that answered it. `total`: how long it took with all of its steps.
    pub fn count(&self, record: &Record, total: Duration) {
        bump(&self.statuses[usize::from(record.status / 100).min(5)], 1);
        bump(&self.own_errors, u64::from(record.code.is_some()));
        bump(&self.incomplete, u64::from(record.end != End::Complete));
        self.count_use(record);
        self.own.add(record.timings.own());
        self.total.add(total);
        if record.upstream.is_some() {
            self.connect.add(record.timings.connect);
            self.upstream.add(record.timings.upstream);
        }
    }

    /// Counts what a step of a request used, which another step answered.
    pub fn count_use(&self, record: &Record) {
        bump(&self.bytes_in, record.request_bytes);
        bump(&self.bytes_out, record.response_bytes);
        if let Some(saved) = &record.cached {
            bump(&self.cache_hits, 1);
            let cost = saved.cost.map_or(0, |cost| cost.0);
            bump(&self.cost_saved, u64::try_from(cost).unwrap_or(u64::MAX));
        }
        if let Some(usage) = &record.usage {
            bump(&self.tokens_in, usage.input);
            bump(&self.tokens_cached, usage.cached_input);
            bump(&self.tokens_out, usage.output);
            match record.cost {
                Some(cost) => bump(&self.cost, u64::try_from(cost.0).unwrap_or(u64::MAX)),
                None => bump(&self.unpriced, 1),
            }
        }
    }
}

/// Adds to a counter that only this thread writes: a load and a store, no locked instruction.
pub fn bump(counter: &AtomicU64, by: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_tell_threads_apart() {
        let (mut first, mut second) = (Ids::new(0, 7), Ids::new(1, 7));
        let now = Instant::now();
        let mut last = first.next(now);
        for _ in 0..1000 {
            let id = first.next(now);
            assert!(id > last);
            last = id;
        }
        assert_ne!(first.next(now), second.next(now));
        let text = last.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "7"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert!(last.milliseconds().abs_diff(wall_clock()) < 60_000);
        let many: std::collections::HashSet<_> = (0..5000).map(|_| second.next(now)).collect();
        assert_eq!(many.len(), 5000);
    }

    #[test]
    fn an_id_comes_back_from_its_text_and_its_bytes() {
        let id = Ids::new(3, 9).next(Instant::now());
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse(&id.to_string().to_uppercase()), Some(id));
        assert_eq!(Id::from_bytes(id.to_bytes()), id);
        assert!(Id::lowest_at(id.milliseconds()) <= id);
        assert!(Id::lowest_at(id.milliseconds() + 1) > id);
        let text = id.to_string();
        for wrong in [
            "",
            &text[1..],
            &text.replace('-', "0"),
            &format!("g{}", &text[1..]),
        ] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_parts_add_up_to_the_total() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut line = Timeline {
            began,
            wait: Duration::from_millis(10),
            connect: Duration::from_millis(3),
            sent: Some(at(15)),
            uploaded: Some(at(20)),
            answered: Some(at(60)),
            relayed: Some(at(61)),
            ..Timeline::begin(began)
        };
        let sum = |timings: &Timings| {
            let others = timings.wait + timings.connect + timings.upstream + timings.stream;
            timings.own() + others
        };
        let timings = line.timings(at(90));
        assert_eq!(sum(&timings), timings.total);
        assert_eq!(timings.own(), Duration::from_millis(3));
        assert_eq!(timings.upload, Duration::from_millis(5));
        let again = Timeline {
            aside: Duration::from_millis(1),
            ..line
        };
        let timings = again.timings(at(90));
        assert_eq!(sum(&timings), timings.total);
        assert_eq!(timings.own(), Duration::from_millis(2));
        let early = Timeline {
            sent: None,
            answered: None,
            relayed: None,
            ..line
        };
        let timings = early.timings(at(14));
        assert_eq!(sum(&timings), timings.total);
        assert_eq!(timings.own(), Duration::from_millis(1));
        // A try that failed was waited for; the next one begins anew.
        line.sent = Some(began - Duration::from_millis(50));
        line.begin_again();
        assert!(line.wait >= Duration::from_millis(60));
        assert_eq!(
            (line.sent, line.uploaded, line.answered),
            (None, None, None)
        );
    }

    #[test]
    fn latencies_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [25, 26, 200_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let read = |index: usize| histogram.buckets[index].load(Ordering::Relaxed);
        assert_eq!((read(0), read(1), read(LATENCY_BUCKETS.len())), (1, 1, 1));
    }
}
