//! Phase 13: the record. A guard, so that a disconnect, a panic and a drain leave one too.

use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::net::IpAddr;

use bytes::Bytes;
use quanta::Instant;

use super::credential::Paying;
use super::error::GatewayError;
use super::recall::Storing;
use super::{Thread, figures, metadata};
use crate::config::ErrorStatus;
use crate::dialect::named::ModelSearch;
use crate::http::{Method, RequestHead, write};
use crate::limits::{EVENT_ID_MAX, LOGGED_HEADER_MAX, LOGGED_PATH_MAX};
use crate::meter::cost::{CustomCost, Extras, Money};
use crate::meter::{Meter, Metered, Usage};
use crate::record::{
    Captured, CapturedBody, Decision, End, Id, Input, Logged, PaidBy, Record, Timeline, Try, bump,
};
use crate::snapshot::{Gateway, LogSettings};
use crate::tables::flight::Claim;
use crate::tables::spend::Hold;

/// Writes the record of one request when it is dropped.
pub(super) struct Settle<'a> {
    thread: &'a Thread,
    /// What is known so far; gone only when the guard is.
    pub record: ManuallyDrop<Record>,
    /// The moments so far.
    pub timeline: Timeline,
    event_id: Option<Box<[u8]>>,
    /// The price that the caller names (data plane 8.3).
    custom_cost: Option<CustomCost>,
    /// What figures say of the request where no log entry is written.
    unlogged: Option<Box<Logged>>,
    /// Whether the body named the provider, so that the answer's head tells which it was.
    pub unified: bool,
    /// Whether somebody else writes the record: this guard is of a part, or its request goes on without it.
    silent: bool,
    /// Stores the answer, where that is asked for.
    pub storing: Option<Box<Storing>>,
    /// The duty to bring an answer that others wait for too.
    pub claim: Option<Box<Claim>>,
    /// Finds the model that the body names, where the path names none (resolutions 15).
    search: Option<ModelSearch>,
    /// Whether the answer's head tells where the time went (resolutions 22).
    server_timing: bool,
    /// The request's id, which is that of its first step.
    request_id: Id,
    /// When the request began, whichever step it is at.
    pub began: Instant,
    /// The step whose answer goes down if no later one does better.
    kept: Option<Box<Kept>>,
    /// The place of the entry, where the client named several and tells by it how to read the answer.
    pub entry: Option<u8>,
    /// What a route has reserved, for whatever its steps cost together.
    reserved: Option<Box<Reserved>>,
}

/// Reservations for several steps, and what those cost that are over.
#[derive(Default)]
struct Reserved {
    holds: Vec<Hold>,
    spent: Option<Money>,
}

/// A step that was answered by an error, while others are tried.
struct Kept {
    record: Record,
    timeline: Timeline,
    unlogged: Option<Box<Logged>>,
    unified: bool,
    entry: Option<u8>,
    since: Instant,
}

impl<'a> Settle<'a> {
    /// Begins with the request's head, which came at `came`.
    #[inline]
    pub fn begin(thread: &'a Thread, head: &RequestHead, client: IpAddr, came: Instant) -> Self {
        let event_id = head
            .header("cf-aig-event-id")
            .filter(|value| !value.is_empty() && value.len() <= EVENT_ID_MAX)
            .map(Box::from);
        let path = logged_path(head.path());
        let mut settle = Self::new(thread, client, came, method(head), path, event_id);
        if let Some(named) = head.header("cf-aig-custom-cost") {
            settle.custom_cost = CustomCost::read(named);
        }
        settle
    }

    /// Begins with a head that cannot be read.
    pub fn begin_unread(thread: &'a Thread, client: IpAddr) -> Self {
        let (now, none) = (Instant::now(), Cow::Borrowed("-"));
        Self::new(thread, client, now, none, "-".into(), None)
    }

    #[inline]
    fn new(
        thread: &'a Thread,
        client: IpAddr,
        came: Instant,
        method: Cow<'static, str>,
        path: Box<str>,
        event_id: Option<Box<[u8]>>,
    ) -> Self {
        let timeline = Timeline::begin(came);
        let id = thread.ids.borrow_mut().next(timeline.began);
        bump(&thread.counters.running, 1);
        Self {
            thread,
            record: ManuallyDrop::new(Record {
                method,
                path,
                ..Record::new(id, client)
            }),
            timeline,
            event_id,
            custom_cost: None,
            unlogged: None,
            unified: false,
            search: None,
            server_timing: false,
            silent: false,
            storing: None,
            request_id: id,
            began: timeline.began,
            kept: None,
            claim: None,
            entry: None,
            reserved: None,
        }
    }

    /// Passes all that is known on to what goes on without this guard, and writes the record. What is left is good for the
    /// head of the answer.
    pub fn hand_over(&mut self) -> Handed {
        let left = Record {
            method: self.record.method.clone(),
            log: self.record.log.is_some().then(Box::default),
            ..Record::new(self.record.id, self.record.client)
        };
        self.silent = true;
        Handed {
            record: Box::new(std::mem::replace(&mut *self.record, left)),
            timeline: self.timeline,
            custom_cost: self.custom_cost.take(),
            unlogged: self.unlogged.take(),
        }
    }

    /// Goes on with what was passed on.
    pub fn take_over(thread: &'a Thread, handed: Handed) -> Self {
        let id = handed.record.id;
        Self {
            thread,
            record: ManuallyDrop::new(*handed.record),
            timeline: handed.timeline,
            event_id: None,
            custom_cost: handed.custom_cost,
            unlogged: handed.unlogged,
            unified: false,
            search: None,
            server_timing: false,
            silent: false,
            storing: None,
            request_id: id,
            began: handed.timeline.began,
            kept: None,
            claim: None,
            entry: None,
            reserved: None,
        }
    }

    /// Of a call among several that are made for the same request. What it comes to counts once it is [added](Self::add).
    pub fn apart(&self) -> Self {
        let (id, client) = (self.record.id, self.record.client);
        let record = Record {
            provider: self.record.provider.clone(),
            model: self.record.model.clone(),
            ..Record::new(id, client)
        };
        Self {
            thread: self.thread,
            record: ManuallyDrop::new(record),
            timeline: Timeline::begin(self.timeline.began),
            event_id: None,
            custom_cost: self.custom_cost.clone(),
            unlogged: None,
            unified: self.unified,
            search: None,
            server_timing: false,
            silent: true,
            storing: None,
            request_id: self.request_id,
            began: self.began,
            kept: None,
            claim: None,
            entry: None,
            reserved: None,
        }
    }

    /// Adds what a call among several came to. The answer is there when the last of theirs is.
    pub fn add(&mut self, mut apart: Self) {
        let (record, part) = (&mut self.record, &mut apart.record);
        record.usage = match (record.usage, part.usage) {
            (Some(before), Some(usage)) => Some(before.plus(usage)),
            (before, usage) => usage.or(before),
        };
        record.cost = match (record.cost, part.cost) {
            (Some(before), Some(cost)) => Some(before + cost),
            (before, cost) => cost.or(before),
        };
        record.request_bytes += part.request_bytes;
        record.response_bytes += part.response_bytes;
        record.attempts = record.attempts.max(part.attempts);
        record.reused = part.reused;
        record.upstream = part.upstream.or(record.upstream);
        record.translated = part.translated;
        record.changes = part.changes.take().or(record.changes.take());
        let answered = part.answered_model.take();
        record.answered_model = answered.or(record.answered_model.take());
        self.unified |= apart.unified;
        self.timeline.add(&apart.timeline);
    }

    /// Whose request it is.
    pub fn thread(&self) -> &'a Thread {
        self.thread
    }

    /// Closes the record of a step that failed and begins that of the next one. `answered`: there is an answer that may still
    /// go down.
    pub fn next_step(&mut self, answered: bool) {
        let timeline = Timeline::begin(Instant::now());
        let id = self.thread.ids.borrow_mut().next(timeline.began);
        let before = &mut *self.record;
        let next = Record {
            method: before.method.clone(),
            gateway: before.gateway.clone(),
            token: before.token.clone(),
            step: before.step.saturating_add(1),
            ..Record::new(id, before.client)
        };
        let record = std::mem::replace(before, next);
        let kept = Kept {
            record,
            timeline: std::mem::replace(&mut self.timeline, timeline),
            unlogged: self.unlogged.take(),
            unified: std::mem::take(&mut self.unified),
            entry: self.entry,
            since: timeline.began,
        };
        (self.custom_cost, self.search) = (None, None);
        (self.storing, self.claim) = (None, None);
        let superseded = match answered {
            true => self.kept.replace(Box::new(kept)).map(|kept| *kept),
            false => Some(kept),
        };
        if let Some(superseded) = superseded {
            self.supersede(superseded);
        }
    }

    /// Goes back to the step whose answer goes down after all; whether there is one.
    pub fn go_back(&mut self) -> bool {
        let Some(mut kept) = self.kept.take() else {
            return false;
        };
        let now = Instant::now();
        kept.timeline.aside += now.saturating_duration_since(kept.since);
        let last = Kept {
            record: std::mem::replace(&mut *self.record, kept.record),
            timeline: std::mem::replace(&mut self.timeline, kept.timeline),
            unlogged: std::mem::replace(&mut self.unlogged, kept.unlogged),
            unified: std::mem::replace(&mut self.unified, kept.unified),
            entry: std::mem::replace(&mut self.entry, kept.entry),
            since: now,
        };
        self.supersede(last);
        // What the last step was to bring, it did not.
        (self.storing, self.claim) = (None, None);
        true
    }

    /// Hands over the record of a step that is not the one whose answer goes down.
    #[cold]
    fn supersede(&mut self, step: Kept) {
        let counters = &self.thread.counters;
        let mut record = step.record;
        record.timings = step.timeline.timings(step.since);
        record.superseded = true;
        if record.end == End::Dropped {
            record.end = End::Complete;
        }
        counters.count_use(&record);
        let known = record.log.as_deref().or(step.unlogged.as_deref());
        figures::count_step(&self.thread.figures, &record, known);
        if let Some(reserved) = &mut self.reserved {
            reserved.spend(record.cost);
        }
        if self.thread.records.borrow_mut().push(record).is_err() {
            bump(&counters.records_dropped, 1);
        }
    }

    /// Keeps a reservation until all steps are over; then what they cost together is booked.
    pub fn reserve(&mut self, hold: Hold) {
        self.reserved.get_or_insert_default().holds.push(hold);
    }

    /// Notes for the log a try that failed and is followed by another one.
    pub fn tried(&mut self, tried: Try) {
        if let Some(log) = self.record.log.as_mut().or(self.unlogged.as_mut()) {
            log.tries.push(tried);
        }
    }

    /// Takes from a step's head what a request's own head says at its beginning.
    pub fn begin_step(&mut self, head: &RequestHead) {
        self.record.path = logged_path(head.path());
        self.custom_cost = head.header("cf-aig-custom-cost").and_then(CustomCost::read);
    }

    /// Takes what the gateway says about log entries and answers' heads, and the request about itself.
    pub fn note_gateway(&mut self, head: &RequestHead, gateway: &Gateway) {
        let timing = switch(head, "cf-aig-server-timing");
        self.server_timing = timing.unwrap_or(gateway.server_timing);
        self.log(head, &gateway.logs);
    }

    /// Decides whether a log entry is written, and whether with bodies (data plane 2.1, resolutions 28), and notes what it takes
    /// from the head.
    fn log(&mut self, head: &RequestHead, settings: &LogSettings) {
        if !switch(head, "cf-aig-collect-log").unwrap_or(settings.collect) {
            return self.leave_unlogged(head);
        }
        let text = |name| head.header(name).and_then(logged_header);
        // The entries of one request's steps are tied together by the first one's id.
        let of_request = self.request_id.text();
        let of_request = Some(&of_request[..]).filter(|_| self.record.step > 0);
        let event_id = self.event_id.as_deref().or(of_request);
        let with_payload = switch(head, "cf-aig-collect-log-payload");
        self.record.log = Some(Box::new(Logged {
            event_id: event_id.map(|id| String::from_utf8_lossy(id).into()),
            metadata: head.header("cf-aig-metadata").and_then(metadata::read),
            user_agent: text("user-agent"),
            request_content_type: text("content-type"),
            custom_cost: self.custom_cost.is_some(),
            captured: with_payload
                .unwrap_or(settings.payload)
                .then(|| captured(head)),
            ..Logged::default()
        }));
    }

    /// Notes for the log which program asked, where a step's head does not tell.
    pub fn log_client(&mut self, head: &RequestHead) {
        let known = self.record.log.as_mut().or(self.unlogged.as_mut());
        if let Some(log) = known.filter(|log| log.user_agent.is_none()) {
            log.user_agent = head.header("user-agent").and_then(logged_header);
        }
    }

    /// The request is counted all the same.
    #[cold]
    fn leave_unlogged(&mut self, head: &RequestHead) {
        self.unlogged = Some(Box::new(Logged {
            metadata: head.header("cf-aig-metadata").and_then(metadata::read),
            user_agent: head.header("user-agent").and_then(logged_header),
            ..Logged::default()
        }));
    }

    /// Notes for the log and the figures who pays.
    pub fn log_payer(&mut self, paying: &Paying) {
        if let Some(log) = self.record.log.as_mut().or(self.unlogged.as_mut()) {
            log.paid_by = match paying {
                Paying::Request => PaidBy::Request,
                Paying::Stored(key) => PaidBy::Stored(key.alias.clone()),
                Paying::House => PaidBy::House,
                Paying::Nobody => PaidBy::Nobody,
            };
        }
    }

    /// Notes for the log what a rule decided. What it looked at is put together only where there is an entry to hold it.
    pub fn decided<const N: usize>(
        &mut self,
        rule: &'static str,
        outcome: &'static str,
        inputs: impl FnOnce() -> [(&'static str, Input); N],
    ) {
        if let Some(log) = &mut self.record.log {
            log.trail.push(Decision {
                rule,
                outcome,
                at: self.timeline.began.elapsed(),
                inputs: inputs().into(),
            });
        }
    }

    /// Notes for the log what the answer is: its type, its content coding, and its length where that is known.
    pub fn log_answer(
        &mut self,
        content_type: Option<&[u8]>,
        coding: Option<&[u8]>,
        length: Option<u64>,
    ) {
        let Some(log) = &mut self.record.log else {
            return;
        };
        log.response_content_type = content_type.and_then(logged_header);
        if let Some(captured) = &mut log.captured {
            captured.response.describe(content_type, coding);
            if let Some(length) = length {
                captured.response.expect(length);
            }
        }
    }

    /// Has the body searched for the model, which nothing else names.
    pub fn search_model(&mut self) {
        self.search = Some(ModelSearch::default());
    }

    /// Notes what came of the request's body.
    #[inline]
    pub fn note_request(&mut self, run: &[u8]) {
        self.record.request_bytes += run.len() as u64;
        if let Some(search) = &mut self.search
            && let Some(found) = search.feed(run)
        {
            self.record.model = found;
            self.search = None;
        }
    }

    /// The request's body in the log entry, where it is to be kept.
    pub fn kept_request(&mut self) -> Option<&mut CapturedBody> {
        let captured = self.record.log.as_mut()?.captured.as_mut()?;
        Some(&mut captured.request).filter(|body| body.is_wanted())
    }

    /// The answer's body there.
    pub fn kept_answer(&mut self) -> Option<&mut CapturedBody> {
        let captured = self.record.log.as_mut()?.captured.as_mut()?;
        Some(&mut captured.response).filter(|body| body.is_wanted())
    }

    /// Keeps for the log an answer that is in memory as a whole.
    pub fn keep_answer(&mut self, body: &Bytes) {
        if let Some(kept) = self.kept_answer() {
            kept.share(body.clone());
        }
    }

    /// The request's id.
    pub fn id(&self) -> Id {
        self.record.id
    }

    /// Appends the `cf-aig-*` lines (data plane 2.2).
    pub fn write_headers(&self, out: &mut Vec<u8>) {
        let id = self.request_id.text();
        let event_id = self.event_id.as_deref().unwrap_or(&id);
        write::header(out, b"cf-aig-event-id", event_id);
        write::header(out, b"cf-aig-request-id", &id);
        match (&self.record.log, self.record.step) {
            (None, _) => {}
            (Some(_), 0) => write::header(out, b"cf-aig-log-id", &id),
            (Some(_), _) => write::header(out, b"cf-aig-log-id", &self.id().text()),
        }
        out.extend_from_slice(b"cf-aig-step: ");
        write::decimal(out, u64::from(self.entry.unwrap_or(self.record.step)));
        out.extend_from_slice(b"\r\n");
        if self.record.cached.is_some() {
            out.extend_from_slice(b"cf-aig-cache-status: HIT\r\n");
        } else if self.record.method == "POST" {
            out.extend_from_slice(b"cf-aig-cache-status: MISS\r\n");
        }
        if self.unified {
            self.write_choice(out);
        }
        if self.server_timing {
            self.write_timing(out);
        }
    }

    /// Where the time went up to here (W3C Server Timing), in milliseconds.
    #[cold]
    fn write_timing(&self, out: &mut Vec<u8>) {
        let times = self.timeline.timings(Instant::now());
        out.extend_from_slice(b"server-timing: ");
        for (index, (name, time)) in [
            ("own", times.own()),
            ("parse", times.parse),
            ("wait", times.wait),
            ("queue", times.queue),
            ("dns", times.dns),
            ("tcp", times.tcp),
            ("tls", times.tls),
            ("upload", times.upload),
            ("upstream", times.upstream),
        ]
        .into_iter()
        .enumerate()
        {
            let comma = if index == 0 { "" } else { ", " };
            let milliseconds = time.as_nanos() as f64 / 1e6;
            out.extend_from_slice(format!("{comma}{name};dur={milliseconds:.3}").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Where the body's model led, and what was changed on the way (data plane 2.2).
    #[cold]
    fn write_choice(&self, out: &mut Vec<u8>) {
        let record = &self.record;
        for (name, value) in [
            ("cf-aig-provider", record.provider.as_deref()),
            ("cf-aig-model", record.model.as_deref()),
            ("cf-aig-changes", record.changes.as_deref()),
        ] {
            // A model's name is the client's text.
            if let Some(value) = value.filter(|value| is_header_value(value)) {
                write::header(out, name.as_bytes(), value.as_bytes());
            }
        }
    }

    /// Notes what the meter read. Several answers to one request add up.
    pub fn note_metered(&mut self, meter: Meter) {
        let Metered {
            usage,
            extras,
            model,
            ..
        } = meter.finish();
        if let Some(usage) = &usage {
            let cost = self.cost(usage, &extras, model.as_deref());
            self.record.cost = match (self.record.cost, cost) {
                (Some(before), Some(cost)) => Some(before + cost),
                (before, cost) => cost.or(before),
            };
        }
        self.record.usage = match (self.record.usage, usage) {
            (Some(before), Some(usage)) => Some(before.plus(usage)),
            (before, usage) => usage.or(before),
        };
        self.record.answered_model = model.map(Box::from).or(self.record.answered_model.take());
    }

    /// What an answer costs, by the caller's own price or by that of the model which answered.
    fn cost(&self, usage: &Usage, extras: &Extras, answered: Option<&str>) -> Option<Money> {
        if let Some(custom) = &self.custom_cost {
            return custom.cost(usage);
        }
        let provider = self.record.provider.as_deref()?;
        let snapshot = self.thread.shared.snapshot.load();
        let models = answered.into_iter().chain(self.record.model.as_deref());
        snapshot.prices.cost(provider, models, usage, extras)
    }

    /// Notes an answer of the gateway's own.
    pub fn note_error(&mut self, error: &GatewayError, setting: ErrorStatus) {
        self.record.status = error.status(setting);
        self.record.code = Some(error.code);
        let described = error.description.as_deref();
        self.record.detail = error.detail.as_deref().or(described).map(Box::from);
    }
}

impl Reserved {
    fn spend(&mut self, cost: Option<Money>) {
        self.spent = match (self.spent, cost) {
            (Some(before), Some(cost)) => Some(before + cost),
            (before, cost) => cost.or(before),
        };
    }

    fn book(self, now: u64) {
        for hold in self.holds {
            hold.settle(self.spent, now);
        }
    }
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        if self.silent {
            // SAFETY: the guard is being dropped, so that nothing looks at the record again.
            unsafe { ManuallyDrop::drop(&mut self.record) };
            return;
        }
        if let Some(kept) = self.kept.take() {
            self.supersede(*kept);
        }
        if let Some(mut reserved) = self.reserved.take() {
            reserved.spend(self.record.cost);
            let now = self.thread.shared.ledger.now();
            reserved.book(now);
        }
        let counters = &self.thread.counters;
        let now = Instant::now();
        self.record.timings = self.timeline.timings(now);
        bump(&counters.running, u64::MAX);
        counters.count(&self.record, now.saturating_duration_since(self.began));
        let known = self.record.log.as_deref().or(self.unlogged.as_deref());
        figures::count(&self.thread.figures, &self.record, known);
        let mut records = self.thread.records.borrow_mut();
        // Not by `push`, which would hand the record back and so moves it three times more.
        let mut chunk = records.write_chunk_uninit(1).ok();
        let place = chunk
            .as_mut()
            .and_then(|chunk| chunk.as_mut_slices().0.first_mut());
        // SAFETY: the guard is being dropped, so that nothing looks at the record again, and its own drop does nothing.
        let record = unsafe { ManuallyDrop::take(&mut self.record) };
        match place {
            Some(place) => {
                place.write(record);
            }
            None => {
                drop(record);
                bump(&counters.records_dropped, 1);
            }
        }
        if let Some(chunk) = chunk {
            // SAFETY: a chunk of one place has it in its first slice, and it was written.
            unsafe { chunk.commit_all() };
        }
    }
}

/// A request on its way from one guard to another. Dropped between them it leaves no record.
pub(super) struct Handed {
    record: Box<Record>,
    timeline: Timeline,
    custom_cost: Option<CustomCost>,
    unlogged: Option<Box<Logged>>,
}

/// Bodies of a request, of which nothing came yet.
fn captured(head: &RequestHead) -> Captured {
    let mut captured = Captured::default();
    let (content_type, coding) = (head.header("content-type"), head.header("content-encoding"));
    captured.request.describe(content_type, coding);
    captured
}

/// A header that is `true` or `false`; anything else counts as absent.
pub(super) fn switch(head: &RequestHead, name: &str) -> Option<bool> {
    let value = head.header(name)?.trim_ascii();
    let is = |text: &[u8]| value.eq_ignore_ascii_case(text);
    match (is(b"true"), is(b"false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// At most so much of a header is logged.
fn logged_header(value: &[u8]) -> Option<Box<str>> {
    let value = &value[..value.len().min(LOGGED_HEADER_MAX)];
    (!value.is_empty()).then(|| String::from_utf8_lossy(value).into())
}

fn method(head: &RequestHead) -> Cow<'static, str> {
    Cow::Borrowed(match head.method() {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        _ => return Cow::Owned(head.method_str().to_owned()),
    })
}

fn is_header_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// At most so much of a path is logged; cut between characters.
fn logged_path(path: &str) -> Box<str> {
    path[..path.floor_char_boundary(LOGGED_PATH_MAX)].into()
}
