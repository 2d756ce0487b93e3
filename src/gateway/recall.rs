//! Phase 8: answers that were given before (spec: data plane 4, resolutions 5). A request that asks for it is looked up once its body
//! and its credential are known; where nothing is found, its answer is gathered on its way to the client and stored at its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use quanta::Instant;

use super::Thread;
use super::attempt::Failure;
use super::caller::{Caller, Leading};
use super::credential::{Paying, is_key};
use super::flight::{self, Boarded, Following};
use super::relay::After;
use super::settle::{Settle, switch};
use crate::dialect::exchange;
use crate::http::{
    Method, RequestFraming, RequestHead, ResponseFraming, ResponseHead, eventstream, write,
};
use crate::limits::{
    CACHE_DISK_WAIT, CACHE_TTL_MAX, CACHE_TTL_MIN, CACHE_TTL_NAMED, CACHED_BODY_MAX, HELPED_BYTES,
};
use crate::meter::Usage;
use crate::meter::cost::Money;
use crate::net::deadlines::OnExpiry;
use crate::net::http1::Connection;
use crate::net::mailbox::Ticket;
use crate::net::task::Rounds;
use crate::providers::{Slug, Target};
use crate::record::{End, Saved, bump};
use crate::snapshot::{CacheSettings, Gateway, ProviderEntry, Settings, Tokens};
use crate::tables::cache::{Answer, Filling, Found, Key, Keying, Of, Parts, Told};
use crate::tables::flight::Opening;

/// What a request says about stored answers, where it may have one.
pub(super) struct Wish<'h> {
    /// `cf-aig-cache-key`.
    named: Option<&'h [u8]>,
    /// For how long its answer is stored; `None`: it is not, and none that was is given out.
    ttl: Option<Duration>,
    /// Whether it waits for one answer with others.
    coalesces: bool,
}

impl<'h> Wish<'h> {
    /// `None`: its answer is neither looked for nor stored.
    #[inline]
    pub fn of(head: &'h RequestHead, settings: &CacheSettings) -> Option<Self> {
        settings.epoch?;
        let named = head
            .header("cf-aig-cache-key")
            .filter(|key| !key.is_empty());
        let ttl = header(head, "cf-aig-cache-ttl", "cf-cache-ttl").and_then(seconds);
        let opted_in = settings.ttl > 0
            || named.is_some()
            || settings.ttl_header_opts_in && ttl.is_some_and(|ttl| ttl > 0);
        let coalesces = switch(head, "cf-aig-coalesce").unwrap_or(settings.coalesce);
        // Most requests want none of it and are asked nothing more.
        if !(opted_in || coalesces) || head.method() != Method::Post {
            return None;
        }
        let skipped = switch(head, "cf-aig-skip-cache").or_else(|| switch(head, "cf-skip-cache"));
        let large = matches!(head.framing(), RequestFraming::Length(length) if length > CACHED_BODY_MAX as u64);
        let off = ttl.is_some_and(|ttl| ttl <= 0);
        if skipped == Some(true) || large || off && !coalesces {
            return None;
        }
        let seconds = match (ttl, settings.ttl) {
            (Some(ttl), _) => (ttl.unsigned_abs()).clamp(CACHE_TTL_MIN, CACHE_TTL_MAX),
            (None, 0) => CACHE_TTL_NAMED,
            (None, ttl) => ttl.into(),
        };
        Some(Self {
            named,
            ttl: (opted_in && !off).then(|| Duration::from_secs(seconds)),
            coalesces,
        })
    }
}

/// A header by its name, else by the one it had before.
fn header<'h>(head: &'h RequestHead, name: &str, before: &str) -> Option<&'h [u8]> {
    head.header(name).or_else(|| head.header(before))
}

fn seconds(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// What is known of a request before its body, digested.
pub(super) struct Question {
    keying: Keying,
    ttl: Option<Duration>,
    coalesces: bool,
    streams: bool,
    entry: Arc<ProviderEntry>,
    /// Whether its path says that it is answered as a stream.
    stream: bool,
}

impl Question {
    /// At a provider's own endpoint.
    pub fn native(
        head: &RequestHead,
        wish: &Wish<'_>,
        gateway: &Gateway,
        entry: &Arc<ProviderEntry>,
        target: &Target<'_>,
        paying: &Paying,
        tokens: &Tokens,
    ) -> Self {
        let mut path = Vec::new();
        target.write_path(&mut path);
        let origin = target.origin.to_string();
        let slug = entry.provider.slug();
        let paid = identity(paying, || keys(head, slug, tokens).collect());
        let endpoint = [&b"native"[..], origin.as_bytes(), &path];
        let stream = head.path().rsplit('/').next().is_some_and(names_stream);
        Self {
            stream,
            ..Self::new(wish, gateway, entry, &endpoint, "", &paid)
        }
    }

    /// At an endpoint for all providers; `spoken` tells it from the others.
    pub fn unified(
        wish: &Wish<'_>,
        gateway: &Gateway,
        entry: &Arc<ProviderEntry>,
        spoken: &str,
        model: &str,
        paying: &Paying,
        key: Option<&[u8]>,
    ) -> Self {
        let paid = identity(paying, || key.into_iter().collect());
        let endpoint = [&b"unified"[..], spoken.as_bytes()];
        Self::new(wish, gateway, entry, &endpoint, model, &paid)
    }

    fn new(
        wish: &Wish<'_>,
        gateway: &Gateway,
        entry: &Arc<ProviderEntry>,
        endpoint: &[&[u8]],
        model: &str,
        credential: &[&[u8]],
    ) -> Self {
        let of = match wish.named {
            Some(named) => Of::Custom(named),
            None => Of::Derived {
                provider: &entry.name,
                endpoint,
                model,
                credential,
            },
        };
        let parts = Parts {
            gateway: &gateway.id,
            epoch: gateway.cache.epoch.unwrap_or(0),
            of,
        };
        Self {
            keying: Keying::begin(&parts),
            ttl: wish.ttl,
            coalesces: wish.coalesces,
            streams: gateway.cache.streams,
            entry: entry.clone(),
            stream: false,
        }
    }
}

/// The last segment of a path that is answered as a stream: of Gemini and Bedrock.
fn names_stream(segment: &str) -> bool {
    segment.contains("streamGenerateContent")
        || segment == "converse-stream"
        || segment == "invoke-with-response-stream"
}

/// Whose credential pays. A caller's own is told by its value; a stored one by its name, so that it may be replaced.
fn identity<'p>(paying: &'p Paying, own: impl FnOnce() -> Vec<&'p [u8]>) -> Vec<&'p [u8]> {
    match paying {
        Paying::Request => {
            let mut parts = own();
            parts.push(b"request");
            parts
        }
        Paying::Stored(key) => vec![key.provider.as_bytes(), key.alias.as_bytes(), b"stored"],
        Paying::House => vec![b"house"],
        Paying::Nobody => vec![b"nobody"],
    }
}

/// Every key that a request brings, with the name it stands under.
fn keys<'h>(
    head: &'h RequestHead,
    slug: Slug,
    tokens: &'h Tokens,
) -> impl Iterator<Item = &'h [u8]> {
    head.headers()
        .filter(move |(name, value)| slug.is_key_header(name) && is_key(value, tokens))
        .flat_map(|(name, value)| [name, value])
}

/// A stored answer that stands for the provider's.
pub(super) enum Hit {
    /// It is here.
    Stored(Arc<Answer>, u64),
    /// Another request brings it.
    Followed(Box<Following>),
}

impl Hit {
    /// The body in one piece, for who does not write it to a client.
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::Stored(answer, _) => answer.pieces.concat(),
            // Who has no client follows nobody.
            Self::Followed(_) => Vec::new(),
        }
    }
}

/// Looks for the answer to a request whose body is here. `None`: there is none, and what the provider answers is stored if it is
/// fit for that. Where others wait for the same answer, this request waits with them, or asks for all of them.
pub(super) async fn recall(
    thread: &Thread,
    settings: &Settings,
    caller: &mut Caller<'_>,
    question: Question,
    body: &Bytes,
    settle: &mut Settle<'_>,
) -> Result<Option<Box<Hit>>, Failure> {
    (settle.storing, settle.claim) = (None, None);
    if body.len() > CACHED_BODY_MAX {
        settle.decided("cache", "too_large", || {
            [("bytes", (body.len() as u64).into())]
        });
        return Ok(None);
    }
    let Question { keying, stream, .. } = question;
    let digest = move |body: &[u8]| {
        let stream = stream || asks_for_stream(body);
        (keying.end(body, stream), stream)
    };
    let (key, stream) = match body.len() {
        ..HELPED_BYTES => digest(body),
        _ => {
            let body = body.clone();
            let digest = move || digest(&body);
            let helped = thread.shared.helpers.run(&thread.mailbox, digest);
            match Box::pin(helped).await {
                Ok(digested) => digested,
                Err(_) => return Ok(None),
            }
        }
    };
    let ttl = question.ttl.filter(|_| !stream || question.streams);
    if ttl.is_none() && question.ttl.is_some() {
        settle.decided("cache", "no_streams", || []);
    }
    if ttl.is_some() {
        if let Some(hit) = stored(thread, &key, settle).await {
            return Ok(Some(hit));
        }
        bump(&thread.counters.cache_misses, 1);
        settle.decided("cache", "miss", || [("key", key.to_string().into())]);
    }
    if question.coalesces && !caller.is_nobody() {
        let patience = settings.clocks.response_head;
        let boarded = flight::board(thread, caller, key, patience, settle);
        match Box::pin(boarded).await? {
            Boarded::Follows(following) => {
                following.note(settle);
                return Ok(Some(Box::new(Hit::Followed(following))));
            }
            Boarded::Leads(claim) => {
                // Its flight may have ended since the cache was looked into.
                if ttl.is_some()
                    && let Some(hit) = stored(thread, &key, settle).await
                {
                    return Ok(Some(hit));
                }
                settle.claim = Some(claim);
            }
            // Whoever led before may have left it there.
            Boarded::Alone if ttl.is_some() => {
                if let Some(hit) = stored(thread, &key, settle).await {
                    return Ok(Some(hit));
                }
            }
            Boarded::Alone => {}
        }
    }
    settle.storing = ttl.map(|ttl| {
        Box::new(Storing {
            key,
            ttl,
            streams: question.streams,
            entry: question.entry,
            lines: Vec::new(),
            filling: None,
            watch: None,
        })
    });
    Ok(None)
}

/// For whom the provider is asked after that: a client for whose answer others wait may leave.
pub(super) fn asking<'c>(caller: Caller<'c>, settle: &Settle<'_>) -> Caller<'c> {
    match (caller, &settle.claim) {
        (Caller::Client(client), Some(claim)) => {
            let leading = Leading::new(claim.others(), &settle.thread().mailbox);
            Caller::Leader(client, Rc::new(leading))
        }
        (caller, _) => caller,
    }
}

/// A stored answer that is still good.
async fn stored(thread: &Thread, key: &Key, settle: &mut Settle<'_>) -> Option<Box<Hit>> {
    let now = now(settle);
    let answer = match thread.shared.cache.get(key, now) {
        Found::Here(answer) => Some(answer),
        Found::OnDisk => Box::pin(from_disk(thread, *key)).await,
        Found::Nowhere => None,
    };
    let answer = answer.filter(|answer| answer.until > now && is_current(thread, &answer.told))?;
    let age = answer.age(now);
    settle.decided("cache", "hit", || {
        [("key", key.to_string().into()), ("age_s", age.into())]
    });
    settle.record.cached = Some(Box::new(Saved {
        usage: answer.told.usage,
        cost: answer.told.cost,
    }));
    settle.record.answered_model = answer.told.answered_model.clone();
    settle.record.usage = Some(Usage::default());
    settle.record.cost = Some(Money::ZERO);
    Some(Box::new(Hit::Stored(answer, age)))
}

/// `"stream": true` in a JSON body's top level.
fn asks_for_stream(body: &[u8]) -> bool {
    memmem::find(body, b"\"stream\"").is_some() && exchange::is_streamed(body)
}

async fn from_disk(thread: &Thread, key: Key) -> Option<Arc<Answer>> {
    let cache = &thread.shared.cache;
    let ticket = Ticket::take();
    if !cache.read(key, ticket.address(&thread.mailbox)) {
        return None;
    }
    let sent = ticket.wait(CACHE_DISK_WAIT).await?;
    let answer = *sent.downcast::<Option<Arc<Answer>>>().ok()?;
    let answer = answer?;
    cache.promote(key, answer.clone());
    Some(answer)
}

/// Whether who gave it has not been changed since (control plane 6.3).
fn is_current(thread: &Thread, told: &Told) -> bool {
    let snapshot = thread.shared.snapshot.load();
    let entry = snapshot.providers.get(&*told.provider);
    entry.is_some_and(|entry| entry.revision == told.revision)
}

/// Milliseconds since the Unix epoch.
fn now(settle: &Settle<'_>) -> u64 {
    settle.record.began + settle.timeline.began.elapsed().as_millis() as u64
}

/// Gives a stored answer out.
pub(super) async fn give(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    request: &RequestHead,
    hit: Box<Hit>,
    settle: &mut Settle<'_>,
) -> After {
    let (answer, age) = match *hit {
        Hit::Stored(answer, age) => (answer, age),
        Hit::Followed(following) => {
            return flight::give(thread, settings, client, request, following, settle).await;
        }
    };
    let keep = request.keep_alive() && !client.body_pending() && !thread.draining.get();
    let length = answer.length() as u64;
    settle.record.status = 200;
    settle.record.response_bytes = length;
    let line = |name| line(&answer.lines, name);
    settle.log_answer(
        line(b"content-type:"),
        line(b"content-encoding:"),
        Some(length),
    );
    if let Some(kept) = settle.kept_answer() {
        match &answer.pieces[..] {
            [whole] => kept.share(whole.clone()),
            pieces => pieces.iter().for_each(|piece| kept.copy(piece)),
        }
    }
    let mut head = Vec::with_capacity(512 + answer.lines.len());
    write::status_line(&mut head, 200, "OK");
    head.extend_from_slice(&answer.lines);
    for (name, number) in [(&b"content-length: "[..], length), (b"age: ", age)] {
        head.extend_from_slice(name);
        write::decimal(&mut head, number);
        head.extend_from_slice(b"\r\n");
    }
    if !keep {
        write::header(&mut head, b"connection", b"close");
    }
    settle.write_headers(&mut head);
    head.extend_from_slice(b"\r\n");
    let mut pieces = answer.pieces.iter().cloned();
    let mut head = Some(head);
    let mut rounds = Rounds::default();
    loop {
        let stall = settings.clocks.client_write_stall;
        client.transport().arm_deadline(stall, OnExpiry::ShutBoth);
        let written = match (head.take(), pieces.next()) {
            (Some(head), piece) => client.write_message(head, piece.unwrap_or_default()).await,
            (None, Some(piece)) => client.write(piece).await,
            (None, None) => break,
        };
        settle.timeline.relayed.get_or_insert_with(Instant::now);
        if written.is_err() {
            settle.record.end = match client.expired() {
                true => End::ClientStalled,
                false => End::ClientLeft,
            };
            return After::Abort;
        }
        rounds.next(false).await;
    }
    client.transport().disarm_deadline();
    settle.record.end = End::Complete;
    if keep { After::Keep } else { After::Close }
}

/// The value behind `name`, with its colon, among stored lines.
pub(super) fn line<'l>(lines: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// An answer that is to be stored once it is here as a whole.
pub(super) struct Storing {
    key: Key,
    ttl: Duration,
    streams: bool,
    entry: Arc<ProviderEntry>,
    lines: Vec<u8>,
    filling: Option<Filling>,
    watch: Option<Watch>,
}

/// Lines of a provider's head that belong to the body as much as its type.
const KEPT: [&str; 5] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "x-amzn-bedrock-content-type",
];

impl Storing {
    /// Takes a copy of the next bytes of the body.
    #[inline]
    pub fn feed(&mut self, run: &[u8]) {
        if let Some(filling) = &mut self.filling {
            filling.feed(run);
        }
        if let Some(watch) = &mut self.watch {
            watch.look(run);
        }
    }

    /// Whether an answer of this type may be stored; watches it where it is a stream.
    fn takes(&mut self, content_type: Option<&[u8]>) -> bool {
        let kind = kind(content_type.unwrap_or_default());
        let streamed = matches!(kind, Kind::Events | Kind::Messages);
        if kind == Kind::Other || streamed && !self.streams {
            return false;
        }
        self.watch = streamed.then(|| Watch::of(kind));
        true
    }
}

/// How a provider's answer begins for others that wait for it.
pub(super) fn opening(head: &ResponseHead) -> Box<Opening> {
    let mut lines = Vec::new();
    for name in KEPT.iter().chain(&["retry-after"]) {
        if let Some(value) = head.header(name) {
            write::header(&mut lines, name.as_bytes(), value);
        }
    }
    Box::new(Opening {
        status: head.status(),
        lines: lines.into(),
        length: match head.framing() {
            ResponseFraming::Length(length) => Some(length),
            ResponseFraming::None => Some(0),
            _ => None,
        },
    })
}

/// Decides by its head whether a provider's answer is stored as it goes down.
pub(super) fn begin(head: &ResponseHead, settle: &mut Settle<'_>) {
    let Some(mut storing) = settle.storing.take() else {
        return;
    };
    // An end that is told by a close alone may have been another's.
    let length = match head.framing() {
        ResponseFraming::Length(length) if length <= CACHED_BODY_MAX as u64 => Some(Some(length)),
        ResponseFraming::Chunked => Some(None),
        _ => None,
    };
    let fits = head.status() == 200 && storing.takes(head.header("content-type"));
    match length.filter(|_| fits) {
        Some(length) => {
            for name in KEPT {
                if let Some(value) = head.header(name) {
                    write::header(&mut storing.lines, name.as_bytes(), value);
                }
            }
            storing.filling = Some(settle.thread().shared.cache.gather(length));
            settle.storing = Some(storing);
        }
        None => not_stored(settle),
    }
}

/// The same for a stream that is changed on its way.
pub(super) fn begin_changed(content_type: &[u8], settle: &mut Settle<'_>) {
    let Some(mut storing) = settle.storing.take() else {
        return;
    };
    if !storing.takes(Some(content_type)) {
        return not_stored(settle);
    }
    write::header(&mut storing.lines, b"content-type", content_type);
    write::header(&mut storing.lines, b"cache-control", b"no-cache");
    storing.filling = Some(settle.thread().shared.cache.gather(None));
    settle.storing = Some(storing);
}

fn not_stored(settle: &mut Settle<'_>) {
    settle.decided("cache", "not_stored", || []);
}

/// Stores what was gathered of an answer that has ended as it should, and lets go of any other.
pub(super) fn end(settle: &mut Settle<'_>) {
    let Some(mut storing) = settle.storing.take() else {
        return;
    };
    let body = storing.filling.take().and_then(Filling::end);
    let failed = settle.record.end != End::Complete
        || storing.watch.as_ref().is_some_and(|watch| watch.failed);
    match body.filter(|_| !failed) {
        Some(pieces) => store(*storing, pieces, settle),
        None => not_stored(settle),
    }
}

/// Stores an answer that was here as a whole before anything of it went down.
pub(super) fn end_whole(status: u16, content_type: &[u8], body: &Bytes, settle: &mut Settle<'_>) {
    let Some(mut storing) = settle.storing.take() else {
        return;
    };
    let fits = status == 200 && body.len() <= CACHED_BODY_MAX && storing.takes(Some(content_type));
    storing.feed(body);
    if !fits || storing.watch.as_ref().is_some_and(|watch| watch.failed) {
        return not_stored(settle);
    }
    write::header(&mut storing.lines, b"content-type", content_type);
    store(*storing, vec![body.clone()], settle);
}

fn store(storing: Storing, pieces: Vec<Bytes>, settle: &mut Settle<'_>) {
    let now = now(settle);
    let record = &settle.record;
    let answer = Answer {
        lines: storing.lines.into(),
        pieces,
        stored: now,
        until: now.saturating_add(storing.ttl.as_millis() as u64),
        told: Told {
            provider: storing.entry.name.clone(),
            revision: storing.entry.revision,
            model: record.model.clone(),
            answered_model: record.answered_model.clone(),
            usage: record.usage,
            cost: record.cost,
        },
    };
    let bytes = answer.length() as u64;
    let thread = settle.thread();
    thread.shared.cache.store(storing.key, Arc::new(answer));
    bump(&thread.counters.cache_stores, 1);
    settle.decided("cache", "stored", || {
        [
            ("ttl_s", storing.ttl.as_secs().into()),
            ("bytes", bytes.into()),
        ]
    });
}

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Read as a whole.
    Plain,
    /// Server-sent events.
    Events,
    /// An AWS event stream.
    Messages,
    /// Not stored.
    Other,
}

fn kind(content_type: &[u8]) -> Kind {
    let essence = content_type.split(|byte| *byte == b';').next();
    let essence = essence
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    match &*essence {
        b"text/event-stream" => Kind::Events,
        essence if essence == eventstream::CONTENT_TYPE.as_bytes() => Kind::Messages,
        b"application/json" | b"application/x-ndjson" => Kind::Plain,
        essence
            if essence.starts_with(b"text/")
                || essence.starts_with(b"image/")
                || essence.starts_with(b"application/") && essence.ends_with(b"+json") =>
        {
            Kind::Plain
        }
        _ => Kind::Other,
    }
}

/// Looks for errors that providers tell in the middle of a stream, which then ends as if nothing were wrong.
struct Watch {
    signs: &'static [&'static [u8]],
    /// The end of what was seen: a sign may stand across two runs.
    tail: Vec<u8>,
    failed: bool,
}

/// How errors are told in events. In texts of models the quotation marks of these would be escaped.
const EVENT_SIGNS: &[&[u8]] = &[
    b"event: error",
    b"event:error",
    b"event: response.failed",
    b"data: {\"error\"",
    b"data:{\"error\"",
    b"\"type\":\"error\"",
    b"\"type\": \"error\"",
    b"\"finish_reason\":\"error\"",
];
const MESSAGE_SIGNS: &[&[u8]] = &[b":exception-type", b":error-code"];
const SIGN_MAX: usize = 32;

impl Watch {
    fn of(kind: Kind) -> Self {
        let signs = match kind {
            Kind::Messages => MESSAGE_SIGNS,
            _ => EVENT_SIGNS,
        };
        debug_assert!(signs.iter().all(|sign| sign.len() <= SIGN_MAX));
        Self {
            signs,
            tail: Vec::new(),
            failed: false,
        }
    }

    fn look(&mut self, run: &[u8]) {
        let shows = |part: &[u8]| {
            self.signs
                .iter()
                .any(|sign| memmem::find(part, sign).is_some())
        };
        let mut joint = std::mem::take(&mut self.tail);
        joint.extend_from_slice(&run[..run.len().min(SIGN_MAX)]);
        self.failed = self.failed || shows(&joint) || shows(run);
        self.tail = match run.len() {
            ..SIGN_MAX => joint.split_off(joint.len().saturating_sub(SIGN_MAX)),
            length => run[length - SIGN_MAX..].to_vec(),
        };
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http::HeadLimits;

    fn head(method: &str, lines: &str) -> RequestHead {
        let text = format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n{lines}\r\n");
        let mut bytes = BytesMut::from(&*text);
        let head = RequestHead::take(&mut bytes, &mut 0, &HeadLimits::default());
        head.expect("a head").expect("whole")
    }

    fn ttl(settings: CacheSettings, method: &str, lines: &str) -> Option<u64> {
        let head = head(method, lines);
        let wish = Wish::of(&head, &settings)?;
        Some(wish.ttl.expect("a time").as_secs())
    }

    #[test]
    fn caching_is_asked_for_by_the_gateway_a_key_or_a_time() {
        let off = CacheSettings {
            epoch: Some(1),
            ..CacheSettings::default()
        };
        let on = CacheSettings { ttl: 5, ..off };
        let strict = CacheSettings {
            ttl_header_opts_in: false,
            ..off
        };
        let unmade = CacheSettings { epoch: None, ..on };
        let month = Some(2_592_000);
        for (settings, lines, expected) in [
            (off, "", None),
            (on, "", Some(5)),
            (unmade, "", None),
            (off, "cf-aig-cache-key: a\r\n", Some(300)),
            (off, "cf-aig-cache-key: \r\n", None),
            (on, "cf-aig-cache-key: a\r\n", Some(5)),
            (off, "cf-aig-cache-ttl: 90\r\n", Some(90)),
            (strict, "cf-aig-cache-ttl: 90\r\n", None),
            (
                strict,
                "cf-aig-cache-key: a\r\ncf-aig-cache-ttl: 90\r\n",
                Some(90),
            ),
            (on, "cf-aig-cache-ttl: 1\r\n", Some(60)),
            (on, "cf-aig-cache-ttl: 9999999999\r\n", month),
            (on, "cf-aig-cache-ttl: soon\r\n", Some(5)),
            (on, "cf-aig-cache-ttl: 0\r\n", None),
            (on, "cf-aig-cache-ttl: -4\r\n", None),
            (off, "cf-aig-cache-key: a\r\ncf-aig-cache-ttl: 0\r\n", None),
            (off, "cf-cache-ttl: 90\r\n", Some(90)),
            (on, "cf-cache-ttl: 90\r\ncf-aig-cache-ttl: 70\r\n", Some(70)),
            (on, "cf-aig-skip-cache: TRUE\r\n", None),
            (on, "cf-skip-cache: true\r\n", None),
            (
                on,
                "cf-skip-cache: true\r\ncf-aig-skip-cache: false\r\n",
                Some(5),
            ),
            (on, "cf-aig-skip-cache: yes\r\n", Some(5)),
        ] {
            assert_eq!(
                ttl(settings, "POST", lines),
                expected,
                "{settings:?} {lines:?}"
            );
        }
        assert_eq!(ttl(on, "GET", ""), None);
        assert_eq!(ttl(on, "PUT", "cf-aig-cache-key: a\r\n"), None);
    }

    #[test]
    fn json_text_pictures_and_streams_are_stored() {
        for (content_type, expected) in [
            ("application/json", Kind::Plain),
            ("Application/JSON; charset=utf-8", Kind::Plain),
            ("application/problem+json", Kind::Plain),
            ("text/plain", Kind::Plain),
            ("image/png", Kind::Plain),
            ("text/event-stream; charset=utf-8", Kind::Events),
            ("application/vnd.amazon.eventstream", Kind::Messages),
            ("audio/mpeg", Kind::Other),
            ("application/octet-stream", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(kind(content_type.as_bytes()), expected, "{content_type}");
        }
        let lines = b"x: 1\r\nContent-Type: text/plain; charset=utf-8\r\ny: 2\r\n";
        let content_type = |lines| line(lines, b"content-type:");
        assert_eq!(content_type(lines), Some(&b"text/plain; charset=utf-8"[..]));
        assert_eq!(content_type(b"x: content-type: a\r\n"), None);
    }

    #[test]
    fn an_error_within_a_stream_is_seen_however_it_is_cut() {
        let broken = b"data: {\"a\":1}\n\nevent: error\ndata: {\"type\":\"error\"}\n\n";
        let sound = br#"data: {"text":"event error, {\"type\":\"error\"} and data: {\"error\""}"#;
        for size in 1..broken.len() {
            let failed = |body: &[u8]| {
                let mut watch = Watch::of(Kind::Events);
                body.chunks(size).for_each(|run| watch.look(run));
                watch.failed
            };
            assert!(failed(broken) && !failed(sound), "{size}");
        }
        assert!(
            EVENT_SIGNS
                .iter()
                .chain(MESSAGE_SIGNS)
                .all(|sign| sign.len() <= SIGN_MAX)
        );
    }

    #[test]
    fn a_stream_is_known_by_its_body_or_its_path() {
        assert!(asks_for_stream(br#"{"model":"m","stream":true}"#));
        assert!(asks_for_stream(br#"{"stream": true}"#));
        assert!(!asks_for_stream(br#"{"stream":false}"#));
        assert!(!asks_for_stream(br#"{"a":{"stream":true}}"#));
        assert!(!asks_for_stream(b"\"stream\" and no JSON"));
        assert!(names_stream("m:streamGenerateContent") && names_stream("converse-stream"));
        assert!(!names_stream("generateContent") && !names_stream("converse"));
    }
}
