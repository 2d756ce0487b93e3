//! Endpoints that lead to every provider: the body's `model` names it (spec: data plane 1.1, 1.2 and 9, providers 1.1).

mod background;
mod embed;
mod head;
mod listing;
mod pay;
mod route;
mod run_model;
mod whole;

use std::sync::Arc;

use bytes::Bytes;
use quanta::Instant;

pub(super) use whole::{Bounds, Reply, Whole, read, send};

use self::head::Upward;
use self::pay::{Credential, Means};
use super::attempt::{Answer, Failure, Outgoing, attempt};
use super::authenticate::{Identity, authenticate};
use super::body;
use super::caller::Caller;
use super::error::GatewayError;
use super::knobs::Knobs;
use super::native::Given;
use super::recall::{self, Hit, Question, Wish};
use super::relay::Relaying;
use super::settle::Settle;
use super::translate::Translating;
use super::tries::{Tried, Tries};
use super::{Ask, Thread, admit, media, mint};
use crate::dialect::exchange::{self, Handling, Seed, Sending};
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::PartKind;
use crate::dialect::run::{self, KeySource};
use crate::dialect::surface::{self, Way};
use crate::dialect::{self, Dialect, messages};
use crate::http::{Method, RequestHead, ResponseHead, eventstream, write};
use crate::limits::HELPED_BYTES;
use crate::net::http1::Connection;
use crate::providers::Slug;
use crate::record::TokenName;
use crate::seal::Sealer;
use crate::snapshot::{Gateway, Map, ProviderEntry, Settings, Snapshot, Tokens};

/// What stands in the place of a provider where the body, which would name it, was not read.
const ANY_PROVIDER: &str = "compat";

/// An endpoint for all providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Messages,
    CountTokens,
    Responses,
    Embeddings,
    Models,
    Run,
}

impl Endpoint {
    /// The endpoint of a path behind `compat/`.
    pub fn below_compat(rest: &str) -> Option<Self> {
        Self::of(rest).filter(|endpoint| *endpoint != Self::Run)
    }

    /// The endpoint of a path behind `ai/`.
    pub fn below_ai(rest: &str) -> Option<Self> {
        if rest == "run" {
            return Some(Self::Run);
        }
        rest.strip_prefix("v1/").and_then(Self::of)
    }

    /// With and without a version, and with the second one that SDKs add (data plane 1.2).
    fn of(rest: &str) -> Option<Self> {
        let rest = rest.strip_prefix("v1/").unwrap_or(rest);
        let rest = rest.strip_prefix("v1/").unwrap_or(rest);
        Some(match rest.strip_suffix('/').unwrap_or(rest) {
            "chat/completions" => Self::Chat,
            "messages" => Self::Messages,
            "messages/count_tokens" => Self::CountTokens,
            "responses" => Self::Responses,
            "embeddings" => Self::Embeddings,
            "models" => Self::Models,
            _ => return None,
        })
    }

    /// What its clients speak.
    fn dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Messages,
            Self::Responses => Dialect::Responses,
            Self::Chat | Self::Embeddings | Self::Models | Self::Run => Dialect::Chat,
        }
    }
}

/// A request of such an endpoint.
#[derive(Clone)]
pub(super) struct Asked {
    pub gateway: Arc<Gateway>,
    /// Whether the gateway is still to be made.
    pub unmade: bool,
    pub endpoint: Endpoint,
}

/// A request that may go on to its body, and what of the snapshot it needs then.
#[derive(Clone)]
pub(super) struct Admitted {
    asked: Asked,
    identity: Identity,
    account: Arc<str>,
    providers: Arc<Map<Box<str>, Arc<ProviderEntry>>>,
    tokens: Arc<Tokens>,
    sealer: Arc<Sealer>,
}

/// What there is for the client.
pub(super) enum Begun {
    /// The provider's answer as it comes.
    Relaying(Box<Relaying>),
    /// A stream that is changed on its way.
    Translating(Box<Translating>),
    /// A whole answer.
    Reply(Box<Reply>),
    /// An answer that was given before.
    Recalled(Box<Hit>),
    /// The step failed by this answer, and another one may do better.
    Failed(Box<Reply>),
}

/// Phase 3, and what else is known before the body.
pub(super) fn admit(
    thread: &Thread,
    snapshot: &Snapshot,
    head: &RequestHead,
    asked: Asked,
    settle: &mut Settle<'_>,
) -> Result<Box<Admitted>, GatewayError> {
    settle.record.gateway = Some(asked.gateway.id.clone());
    let (now, client) = (settle.record.began / 1000, settle.record.client);
    let identity = authenticate(head, &asked.gateway, &snapshot.tokens, now, client)?;
    settle.record.token = identity.token.as_ref().map(|token| TokenName {
        id: token.id.clone(),
        name: token.name.clone(),
    });
    if asked.unmade && identity.is_authenticated() {
        (thread.shared.ask)(Ask::DefaultGateway);
    }
    let reads = matches!(head.method(), Method::Get | Method::Head);
    if (asked.endpoint == Endpoint::Models) != reads || !reads && head.method() != Method::Post {
        return Err(GatewayError::wrong_method(head.method_str()));
    }
    // What is refused before this would let anybody fill the log.
    settle.note_gateway(head, &asked.gateway);
    if let Err(error) = admit::admit(thread, &asked.gateway, settle) {
        // Nobody has asked for a provider yet, and an entry has to name one.
        settle.record.provider = Some(ANY_PROVIDER.into());
        return Err(error);
    }
    Ok(Box::new(Admitted::new(snapshot, asked, identity)))
}

impl Admitted {
    /// Of a caller that may use the gateway.
    pub fn new(snapshot: &Snapshot, asked: Asked, identity: Identity) -> Self {
        Self {
            asked,
            identity,
            account: snapshot.account.clone(),
            providers: snapshot.providers.clone(),
            tokens: snapshot.tokens.clone(),
            sealer: snapshot.sealer.clone(),
        }
    }
}

/// Why there is no answer of a provider's.
enum Refusal {
    Failure(Failure),
    /// The client is told in its own dialect what to mend.
    Invalid(Invalid),
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<media::Refused> for Refusal {
    fn from(refused: media::Refused) -> Self {
        match refused {
            media::Refused::Invalid(invalid) => Self::Invalid(invalid),
            media::Refused::Gateway(error) => error.into(),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<GatewayError> for Refusal {
    fn from(error: GatewayError) -> Self {
        Self::Failure(error.into())
    }
}

/// Phases 5 to 11.
pub(super) async fn answer(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    admitted: &Admitted,
    given: Given,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let endpoint = admitted.asked.endpoint;
    if endpoint == Endpoint::Models {
        let snapshot = thread.shared.snapshot.load();
        let body = listing::models(head, admitted, settings, &snapshot.prices);
        return Ok(Begun::Reply(Box::new(Reply::json(200, body))));
    }
    let mut whole = None;
    let body = match given.body {
        Some(body) => body,
        None => {
            let read = body::whole(thread, settings, client, head, settle).await?;
            whole.insert(read).bytes.clone()
        }
    };
    let mut exchange = Exchange {
        thread,
        settings,
        caller: Caller::Client(client),
        head,
        admitted,
        settle,
        dialect: endpoint.dialect(),
        run: false,
        knobs: Knobs::of(head, &admitted.asked.gateway.retries),
        more: given.more,
    };
    let begun = match endpoint {
        Endpoint::CountTokens => exchange.count(body).await,
        Endpoint::Embeddings => exchange.embed(body).await,
        Endpoint::Run => exchange.run(body).await,
        _ => exchange.generate(body).await,
    };
    match begun {
        Ok(begun) => Ok(begun),
        Err(Refusal::Failure(failure)) => Err(failure),
        Err(Refusal::Invalid(invalid)) => Ok(exchange.refused(400, &invalid)),
    }
}

/// One request on its way through the phases.
struct Exchange<'e, 't, 's> {
    thread: &'t Thread,
    settings: &'e Settings,
    caller: Caller<'e>,
    head: &'e RequestHead,
    admitted: &'e Admitted,
    settle: &'e mut Settle<'s>,
    /// What the client speaks.
    dialect: Dialect,
    /// Whether an answer is told as that of a run, with who paid for it.
    run: bool,
    /// How a provider is tried.
    knobs: Knobs,
    /// Whether another step follows if this one fails.
    more: bool,
}

/// What a provider answered in the end.
enum Sent {
    /// An answer that may go down as it comes.
    Answer(Box<Answer>, Box<Outgoing>),
    /// One by which the step failed.
    Failed(Box<Whole>),
}

impl<'t> Exchange<'_, 't, '_> {
    /// A conversation.
    async fn generate(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let asked = exchange::peek(&body).map_err(unreadable)?;
        if let Some(name) = route::named(&asked.model) {
            // Boxed: most requests name a model.
            return Box::pin(self.route(name, asked.stream, body)).await;
        }
        let (entry, model) = self.provider(&asked.model)?;
        self.ask(&entry, model, asked.stream, body).await
    }

    /// A conversation with one model.
    async fn ask(
        &mut self,
        entry: &Arc<ProviderEntry>,
        model: &str,
        stream: bool,
        body: Bytes,
    ) -> Result<Begun, Refusal> {
        let mut credential = self.credential(entry)?;
        if let Some(hit) = self
            .recall("conversation", entry, model, &credential, &body)
            .await?
        {
            return Ok(Begun::Recalled(hit));
        }
        let slug = entry.provider.slug();
        let way = surface::way(self.dialect, slug, model, stream, &credential.site)?;
        let (sending, _media) = self.sending(&way, body).await?;
        let sent = self.send(entry, &way, &mut credential, &sending, stream);
        let sent = sent.await?;
        let paid = credential.source();
        self.take(sent, &sending.handling, stream, paid).await
    }

    /// How many tokens a conversation would take.
    async fn count(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let asked = exchange::peek(&body).map_err(unreadable)?;
        let (entry, model) = self.provider(&asked.model)?;
        let Some(way) = surface::counting(entry.provider.slug(), model) else {
            let body = messages::count_tokens_unavailable(&asked.model).to_string();
            return Ok(self.failed(Reply::json(404, body.into_bytes())));
        };
        let mut credential = self.credential(&entry)?;
        let (sending, _media) = self.sending(&way, body).await?;
        let sent = self.send(&entry, &way, &mut credential, &sending, false);
        let sent = sent.await?;
        let paid = credential.source();
        self.take(sent, &sending.handling, false, paid).await
    }

    /// The provider that a model's prefix names, and the rest of the name (providers 1.1).
    fn provider<'m>(&mut self, model: &'m str) -> Result<(Arc<ProviderEntry>, &'m str), Refusal> {
        self.settle.record.model = Some(model.into());
        let (prefix, name) = match model.split_once('/') {
            Some(("@cf" | "@hf", _)) => (Slug::WorkersAi.as_str(), model),
            Some((prefix, name)) if !name.is_empty() => (prefix, name),
            _ => {
                let told = format!("The model {model:?} has no provider before it: provider/model");
                return Err(GatewayError::bad_format(told).into());
            }
        };
        if route::named(model).is_some() {
            let told = format!("The route {name:?} cannot be run: routes are for conversations");
            return Err(GatewayError::unroutable(told).into());
        }
        if model == "cloudflare/auto" {
            let told = "There is no automatic choice of a model: name one as provider/model";
            return Err(GatewayError::unroutable(told).into());
        }
        let entry = self.admitted.providers.get(prefix).cloned();
        let entry = entry.ok_or_else(|| {
            GatewayError::no_provider(format!("The model {model:?} names no provider: {prefix:?}"))
        })?;
        self.settle.record.provider = Some(entry.name.clone());
        self.settle.record.model = Some(name.into());
        Ok((entry, name))
    }

    fn credential(&mut self, entry: &ProviderEntry) -> Result<Credential, GatewayError> {
        let now = self.settle.record.began / 1000;
        let minted = &self.thread.minted;
        let credential =
            pay::credential(self.head, self.admitted, entry, self.settings, minted, now)?;
        self.settle.log_payer(&credential.paying);
        admit::admit_key(self.thread, &credential.paying, self.settle)?;
        Ok(credential)
    }

    /// Phase 8.
    async fn recall(
        &mut self,
        what: &str,
        entry: &Arc<ProviderEntry>,
        model: &str,
        credential: &Credential,
        body: &Bytes,
    ) -> Result<Option<Box<Hit>>, Failure> {
        let gateway = &self.admitted.asked.gateway;
        let Some(wish) = Wish::of(self.head, &gateway.cache) else {
            return Ok(None);
        };
        let key = pay::key_on_request(self.head, self.admitted);
        let spoken = format!("{what} {:?} {}", self.dialect, self.run);
        let paying = &credential.paying;
        let question = Question::unified(&wish, gateway, entry, &spoken, model, paying, key);
        self.settle.unified = true;
        let (thread, settings, caller) = (self.thread, self.settings, &mut self.caller);
        let recalled = recall::recall(thread, settings, caller, question, body, self.settle);
        let hit = Box::pin(recalled).await?;
        let caller = std::mem::replace(&mut self.caller, Caller::Nobody);
        self.caller = recall::asking(caller, self.settle);
        Ok(hit)
    }

    /// The body as the provider gets it, and the memory that fetched media take in it.
    async fn sending(
        &mut self,
        way: &Way,
        body: Bytes,
    ) -> Result<(Sending, Option<media::Kept<'t>>), Refusal> {
        let (seed, dialect) = (self.seed(), self.dialect);
        let (length, way) = (body.len(), way.clone());
        let betas = self.betas();
        if exchange::is_relayed(dialect, &way) {
            let relay = move || exchange::relay(&way, &body, &betas, seed);
            return Ok((self.aside(length, relay).await??, None));
        }
        let read = move || exchange::read(dialect, &body, seed);
        let (mut request, terms) = self.aside(length, read).await??;
        let takes = |kind: &PartKind, url: &str| exchange::takes_url(&way, kind, url);
        let fetch = media::inline(self.thread, self.settings, &mut request, takes);
        let begin = Instant::now();
        let kept = self.caller.unless_left(fetch).await;
        self.settle.timeline.wait += begin.elapsed();
        let kept = kept??;
        let write = move || exchange::write(request, terms, &way, &betas);
        Ok((self.aside(length, write).await??, Some(kept)))
    }

    fn seed(&self) -> Seed {
        let id = self.settle.id().text();
        Seed {
            id: id
                .iter()
                .filter(|byte| **byte != b'-')
                .map(|byte| char::from(*byte))
                .collect(),
            created: self.settle.record.began / 1000,
        }
    }

    /// The beta features that the client's head asks Anthropic for.
    fn betas(&self) -> Vec<String> {
        let named = |name: &[u8]| name.eq_ignore_ascii_case(b"anthropic-beta");
        let headers = self.head.headers().filter(|(name, _)| named(name));
        headers
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(|beta| beta.trim().to_owned())
            .filter(|beta| !beta.is_empty())
            .collect()
    }

    /// Work on a body of such a length: a large one holds up no data thread.
    async fn aside<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GatewayError> {
        if length < HELPED_BYTES {
            return Ok(work());
        }
        let helped = self.thread.shared.helpers.run(&self.thread.mailbox, work);
        helped.await.map_err(GatewayError::no_answer)
    }

    /// Phase 10.
    async fn send(
        &mut self,
        entry: &Arc<ProviderEntry>,
        way: &Way,
        credential: &mut Credential,
        sending: &Sending,
        stream: bool,
    ) -> Result<Sent, Failure> {
        self.mint(credential).await?;
        self.call(entry, way, &credential.means, sending, stream)
            .await
    }

    /// Gets the token of an account that pays with one.
    async fn mint(&mut self, credential: &mut Credential) -> Result<(), Failure> {
        let now = self.settle.record.began / 1000;
        credential.means = match std::mem::replace(&mut credential.means, Means::Nothing) {
            Means::Google(account, kept_under) => {
                let (thread, settings) = (self.thread, self.settings);
                let begin = Instant::now();
                let token = mint::token(thread, settings, kept_under, *account, now).await;
                self.settle.timeline.wait += begin.elapsed();
                Means::Token(token?)
            }
            means => means,
        };
        Ok(())
    }

    /// One call of a provider's, as often as the knobs say.
    async fn call(
        &mut self,
        entry: &Arc<ProviderEntry>,
        way: &Way,
        means: &Means,
        sending: &Sending,
        stream: bool,
    ) -> Result<Sent, Failure> {
        self.settle.unified = true;
        if !sending.changes.is_empty() {
            self.settle.record.changes = Some(sending.changes.to_string().into());
        }
        self.settle.record.translated = sending.handling.is_translated();
        let target = entry
            .provider
            .target(&self.admitted.account, &way.rest, way.query.as_deref())
            .map_err(|error| GatewayError::no_provider(error.to_string()))?;
        let now = self.settle.record.began / 1000;
        let mut upward = Upward {
            client: self.head,
            from: self.dialect,
            speech: way.speech,
            stream,
            entry,
            target: &target,
            rest: &way.rest,
            headers: &sending.headers,
            body: &sending.body,
            tokens: &self.admitted.tokens,
            now,
        };
        let clocks = &self.settings.clocks;
        let until = clocks.total.map(|total| self.settle.began + total);
        let mut tries = Tries::new(self.knobs, self.more, until, self.settle);
        loop {
            // A signature is as old as its try.
            upward.now = now + self.settle.began.elapsed().as_secs();
            let head = upward
                .write(means)
                .ok_or_else(|| GatewayError::no_provider("The path names no service and region"))?;
            let outgoing = Outgoing {
                origin: target.origin.clone(),
                head,
                response_head: tries.patience(clocks.response_head),
                until,
                metered: true,
                body: Some(sending.body.clone()),
            };
            let (thread, settings, head) = (self.thread, self.settings, self.head);
            let (caller, settle) = (&mut self.caller, &mut *self.settle);
            let tried = attempt(thread, settings, caller.again(), head, &outgoing, settle).await;
            let slug = entry.provider.slug();
            let judged = tries.judge(thread, caller.again(), head, slug, tried, settle);
            match Box::pin(judged).await? {
                Tried::Answer(answer) => return Ok(Sent::Answer(answer, Box::new(outgoing))),
                Tried::Failed(last) => return Ok(Sent::Failed(last)),
                Tried::Again => {}
            }
        }
    }

    /// Phase 11 and the commit: what becomes of the answer.
    async fn take(
        &mut self,
        sent: Sent,
        handling: &Handling,
        stream: bool,
        paid: KeySource,
    ) -> Result<Begun, Refusal> {
        let (thread, head) = (self.thread, self.head);
        let wrapped = self.run && !stream;
        let whole = wrapped || self.caller.is_nobody();
        let mut more = Vec::new();
        let read = match sent {
            Sent::Answer(answer, outgoing) => {
                if handling.is_untouched(answer.head.status()) && !whole {
                    let relaying = Relaying::begin(thread, head, *answer, &outgoing, self.settle);
                    return Ok(Begun::Relaying(relaying));
                }
                whole::write_kept_headers(&answer.head, &mut more);
                if stream && is_stream(&answer.head) {
                    let transform = handling.stream();
                    let settle = &mut *self.settle;
                    let translating = Translating::begin(
                        thread, head, *answer, &outgoing, transform, &more, settle,
                    );
                    return Ok(Begun::Translating(translating));
                }
                self.read(*answer, &outgoing).await?
            }
            Sent::Failed(failed) => {
                if handling.is_untouched(failed.head.status()) && !wrapped {
                    return Ok(self.failed(Reply::verbatim(*failed)));
                }
                whole::write_kept_headers(&failed.head, &mut more);
                if stream && is_stream(&failed.head) {
                    let mut body = Vec::new();
                    let mut transform = handling.stream();
                    transform.feed(&failed.body, &mut body);
                    transform.end(true, &mut body);
                    let reply = Reply::answer(body, true);
                    return Ok(self.failed(Reply { more, ..reply }));
                }
                *failed
            }
        };
        let (length, handling) = (read.body.len(), handling.clone());
        let reply = move || {
            let replied = Replied::of(&handling, &read, stream);
            let replied = match wrapped {
                true => replied.with_source(paid),
                false => replied,
            };
            (replied, read.head)
        };
        let (replied, answered) = self.aside(length, reply).await?;
        Ok(self.reply(replied, stream, &answered, more))
    }

    async fn read(&mut self, answer: Answer, outgoing: &Outgoing) -> Result<Whole, Failure> {
        let bounds = Bounds::of(self.settings, outgoing.until);
        whole::read(&mut self.caller, answer, bounds, self.settle).await
    }

    /// An answer by which the step failed.
    fn failed(&mut self, reply: Reply) -> Begun {
        self.settle.storing = None;
        match self.more {
            true => Begun::Failed(Box::new(reply)),
            false => Begun::Reply(Box::new(reply)),
        }
    }

    /// A whole answer for the client; `answered` is the provider's head, and `more` what of it goes down.
    fn reply(
        &mut self,
        replied: Replied,
        stream: bool,
        answered: &ResponseHead,
        mut more: Vec<u8>,
    ) -> Begun {
        match replied {
            Replied::Answer(body) => Begun::Reply(Box::new(Reply {
                more,
                ..Reply::answer(body, stream)
            })),
            Replied::Failed(failure, body) => {
                self.settle.record.detail = Some(failure.message.as_str().into());
                write_retry_after(&failure, answered, &mut more);
                self.failed(Reply {
                    more,
                    ..Reply::json(failure.status, body)
                })
            }
        }
    }

    /// What the client has to mend, in its own dialect.
    fn refused(&mut self, status: u16, invalid: &Invalid) -> Begun {
        self.settle.record.detail = Some(invalid.message.as_str().into());
        let body = exchange::write_invalid(self.dialect, invalid);
        self.failed(Reply::json(status, body))
    }
}

/// What a whole answer comes to in the client's dialect.
enum Replied {
    Answer(Vec<u8>),
    Failed(dialect::failure::Failure, Vec<u8>),
}

impl Replied {
    fn of(handling: &Handling, read: &whole::Whole, stream: bool) -> Self {
        let failed = |failure: dialect::failure::Failure| {
            let body = handling.write_failure(&failure);
            Self::Failed(failure, body)
        };
        let kind = read.head.header("x-amzn-errortype");
        let kind = kind.and_then(|kind| std::str::from_utf8(kind).ok());
        match read.head.status() {
            200..300 if is_stream(&read.head) => failed(dialect::failure::Failure::broken(
                "The provider answers in events that nobody asked for",
            )),
            200..300 => match handling.whole(&read.body, stream) {
                Ok(body) => Self::Answer(body),
                Err(failure) => failed(failure),
            },
            status => {
                let (failure, body) = handling.error(status, kind, &read.body);
                Self::Failed(failure, body)
            }
        }
    }
}

impl Replied {
    /// With a note of whose key paid.
    fn with_source(self, source: KeySource) -> Self {
        match self {
            Self::Answer(body) => Self::Answer(match serde_json::from_slice(&body) {
                Ok(value) => run::with_key_source(value, source).to_string().into_bytes(),
                Err(_) => body,
            }),
            failed => failed,
        }
    }
}

/// Whether an answer is made of events.
pub(super) fn is_stream(head: &ResponseHead) -> bool {
    const EVENTS: [&[u8]; 2] = [b"text/event-stream", eventstream::CONTENT_TYPE.as_bytes()];
    let content_type = head.header("content-type").unwrap_or_default();
    (200..300).contains(&head.status())
        && EVENTS.iter().any(|kind| {
            content_type
                .get(..kind.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(kind))
        })
}

/// How long to wait, where the provider says it in its body alone.
fn write_retry_after(failure: &dialect::failure::Failure, head: &ResponseHead, more: &mut Vec<u8>) {
    let Some(wait) = failure
        .retry_after
        .filter(|_| head.header("retry-after").is_none())
    else {
        return;
    };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    more.extend_from_slice(b"retry-after: ");
    write::decimal(more, seconds);
    more.extend_from_slice(b"\r\n");
}

/// What is no request of the endpoint at all, before anything else of it is looked at.
fn unreadable(invalid: Invalid) -> Refusal {
    match invalid.param.as_deref() {
        None | Some("model") => GatewayError::bad_format(invalid.message).into(),
        Some(_) => Refusal::Invalid(invalid),
    }
}
