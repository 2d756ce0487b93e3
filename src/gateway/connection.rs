//! One client connection: TLS, the PROXY protocol, and one request after the other.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quanta::Instant;

use super::admit::{admit, admit_key};
use super::attempt::{Failure, Outgoing, attempt};
use super::authenticate::{Identity, authenticate};
use super::caller::Caller;
use super::credential::{self, Costly, Paying, Usable};
use super::error::GatewayError;
use super::flight;
use super::knobs::Knobs;
use super::native::{self, Given, Means, Unwritten, unwritten};
use super::outgoing::{Key, write_head};
use super::recall::{self, Question, Wish};
use super::relay::{After, Relaying, relay};
use super::resolve::{Leads, Resolved, resolve};
use super::settle::Settle;
use super::translate::translate;
use super::unified::{self, Admitted, Begun};
use super::{Ask, Thread, plan, steps, universal};
use crate::config::{ErrorStatus, Secret};
use crate::http::proxy_protocol;
use crate::http::{HeadLimits, Method, RequestFraming, RequestHead, is_name};
use crate::limits::{BODY_READ_BYTES, IDLE_READ_BYTES, LINGER, LINGER_BYTES};
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError, HeadClocks};
use crate::net::tls::ServerTls;
use crate::net::transport::Transport;
use crate::record::{End, TokenName, bump};
use crate::snapshot::{Settings, Snapshot};

/// How a listener's connections begin.
#[derive(Clone)]
pub struct Edge {
    /// TLS is spoken.
    pub tls: Option<Arc<ServerTls>>,
    /// Every connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Bounds of a request's head.
    pub head_limits: HeadLimits,
    /// How long heads may take and connections idle.
    pub clocks: HeadClocks,
}

impl Edge {
    /// Whether a connection begins with its first request.
    fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.proxy_protocol
    }
}

/// Serves a connection to its end. At the bound it is told so and closed.
pub fn serve(thread: Rc<Thread>, transport: Transport, edge: Rc<Edge>) -> impl Future<Output = ()> {
    let mut connection = Box::new(Connection::server(transport, edge.head_limits));
    let client = connection.transport().peer().ip();
    // What an idle connection does not need is boxed, so that it does not hold the room.
    async move {
        let _open = Open::enter(&thread);
        if thread.shared.open.load(Ordering::Relaxed) > thread.shared.open_max {
            bump(&thread.counters.refused, 1);
            return Box::pin(refuse_busy(connection, edge)).await;
        }
        let stall = thread
            .shared
            .snapshot
            .load()
            .settings
            .clocks
            .client_write_stall;
        connection.transport().bound_silence(stall);
        connection.set_head_clocks(edge.clocks);
        let client = match edge.is_plain() {
            true => Some(client),
            false => Box::pin(begin(&mut connection, &edge, edge.clocks.head)).await,
        };
        if let Some(client) = client {
            requests(&thread, connection, client).await;
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Open<'a>(&'a Thread);

impl<'a> Open<'a> {
    fn enter(thread: &'a Thread) -> Self {
        thread.shared.open.fetch_add(1, Ordering::Relaxed);
        thread.connections.set(thread.connections.get() + 1);
        bump(&thread.counters.accepted, 1);
        bump(&thread.counters.open, 1);
        Self(thread)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.0.connections.set(self.0.connections.get() - 1);
        bump(&self.0.counters.open, u64::MAX);
    }
}

/// Says so in the client's own language: a handshake too has to be over within a moment.
async fn refuse_busy(mut connection: Box<Connection>, edge: Rc<Edge>) {
    if begin(&mut connection, &edge, LINGER).await.is_none() {
        return;
    }
    let answer = GatewayError::too_busy().answer(ErrorStatus::Strict, b"", true, false);
    connection
        .transport()
        .arm_deadline(LINGER, OnExpiry::ShutBoth);
    if connection.write(Bytes::from(answer)).await.is_ok() {
        linger(connection).await;
    }
}

/// The PROXY header, then TLS; both within `patience`. `None`: the client did not get so far.
async fn begin(connection: &mut Connection, edge: &Edge, patience: Duration) -> Option<IpAddr> {
    let transport = connection.transport();
    let mut client = transport.peer();
    let mut early = BytesMut::new();
    transport.arm_deadline(patience, OnExpiry::ShutBoth);
    if edge.proxy_protocol {
        client = proxied(transport, &mut early).await?.unwrap_or(client);
    }
    if let Some(tls) = &edge.tls {
        let session = rustls::ServerConnection::new(tls.config()).ok()?;
        transport.start_tls(session.into(), &early).await.ok()?;
        early.clear();
    }
    transport.disarm_deadline();
    connection.put_buffered(early);
    Some(client.ip())
}

/// Reads a PROXY protocol header; what follows it stays in `early`. `None`: there is none, and the connection is not to be
/// trusted (the protocol's section 2).
async fn proxied(transport: &mut Transport, early: &mut BytesMut) -> Option<Option<SocketAddr>> {
    loop {
        match proxy_protocol::parse(early) {
            Ok(Some(header)) => {
                let _ = early.split_to(header.length);
                return Some(header.source);
            }
            Ok(None) => {}
            Err(_) => return None,
        }
        let received = transport.read(IDLE_READ_BYTES).await.ok()?;
        if received.is_empty() {
            return None;
        }
        early.extend_from_slice(&received);
    }
}

async fn requests(thread: &Thread, mut connection: Box<Connection>, client: IpAddr) {
    loop {
        let next = connection.next_request().await;
        let Some(answering) = answering(thread, &mut connection, client, next) else {
            return;
        };
        match answering.await {
            After::Keep if !thread.draining.get() => {}
            After::Keep | After::Close => return Box::pin(linger(connection)).await,
            After::Abort => return connection.abort(),
            After::Drop => return,
        }
    }
}

/// What is to be done about what [`Connection::next_request`] brought; `None`: nothing. Boxed, so that an idle connection
/// does not hold the room of a running request.
fn answering<'a>(
    thread: &'a Thread,
    connection: &'a mut Connection,
    client: IpAddr,
    next: Result<Option<RequestHead>, ConnectionError>,
) -> Option<Pin<Box<dyn Future<Output = After> + 'a>>> {
    match next {
        Ok(Some(head)) => {
            let head = Box::new(head);
            Some(Box::pin(exchange(thread, connection, head, client)))
        }
        Ok(None) => None,
        Err(error) => Some(Box::pin(refuse(thread, connection, client, error))),
    }
}

/// Answers a head that cannot be read.
async fn refuse(
    thread: &Thread,
    connection: &mut Connection,
    client: IpAddr,
    error: ConnectionError,
) -> After {
    let status = match &error {
        ConnectionError::Head(error) => error.status(),
        ConnectionError::TimedOut(_) => 408,
        _ => return After::Drop,
    };
    let setting = thread.shared.snapshot.load().settings.error_status;
    let error = GatewayError::bad_request(status, &error);
    let mut settle = Settle::begin_unread(thread, client);
    settle.note_error(&error, setting);
    let mut headers = Vec::new();
    settle.write_headers(&mut headers);
    connection
        .transport()
        .arm_deadline(LINGER, OnExpiry::ShutBoth);
    let answer = error.answer(setting, &headers, true, false);
    let written = connection.write(Bytes::from(answer)).await;
    settle.timeline.relayed = Some(Instant::now());
    settle.record.end = match written {
        Ok(()) => End::Complete,
        Err(_) => End::ClientLeft,
    };
    match written {
        Ok(()) => After::Close,
        Err(_) => After::Drop,
    }
}

/// Closes our side and takes in what the client still sends, within a bound: closing with bytes unread would reset the
/// connection, and the reset would overtake the answer (RFC 9112 section 9.6).
async fn linger(mut connection: Box<Connection>) {
    connection
        .transport()
        .arm_deadline(LINGER, OnExpiry::ShutBoth);
    if connection.transport().finish().await.is_err() {
        return;
    }
    let mut taken = connection.take_buffered().len();
    while taken < LINGER_BYTES {
        match connection.transport().read(BODY_READ_BYTES).await {
            Ok(bytes) if !bytes.is_empty() => taken += bytes.len(),
            _ => return,
        }
    }
}

/// One request: the phases in their order.
async fn exchange(
    thread: &Thread,
    client: &mut Connection,
    head: Box<RequestHead>,
    peer: IpAddr,
) -> After {
    let snapshot = thread.shared.snapshot.load_full();
    let settings = snapshot.settings.clone();
    let forwarded = head
        .headers()
        .filter(|(name, _)| is_name(name, b"x-forwarded-for"))
        .map(|(_, value)| value);
    let peer = settings.client_address(peer, forwarded);
    let mut settle = Settle::begin(thread, &head, peer, client.head_came());
    let prepared = prepare(thread, &snapshot, &head, &mut settle);
    // From here on the request may wait for long; an old snapshot must not live as long as it.
    drop(snapshot);
    // Boxed, and gone before the answer is relayed: a stream should not hold the room of its request.
    let begun = Box::pin(answer(
        thread,
        &settings,
        client,
        &head,
        prepared,
        &mut settle,
    ));
    let begun = begun.await;
    let begun = match settle.claim.take() {
        Some(claim) => flight::lead(&settings, claim, begun, &mut settle),
        None => begun,
    };
    match begun {
        Ok(Begun::Relaying(relaying)) => {
            drop(head);
            relay(&settings, client, relaying, &mut settle).await
        }
        Ok(Begun::Translating(translating)) => {
            drop(head);
            Box::pin(translate(&settings, client, translating, &mut settle)).await
        }
        Ok(Begun::Recalled(hit)) => {
            Box::pin(recall::give(
                thread,
                &settings,
                client,
                &head,
                hit,
                &mut settle,
            ))
            .await
        }
        Ok(Begun::Reply(reply) | Begun::Failed(reply)) => {
            Box::pin(unified::send(
                thread,
                &settings,
                client,
                &head,
                *reply,
                &mut settle,
            ))
            .await
        }
        Err(Failure::Error(error)) => {
            Box::pin(answer_error(
                thread,
                &settings,
                client,
                &head,
                &error,
                &mut settle,
            ))
            .await
        }
        Err(Failure::ClientGone(end)) => {
            settle.record.end = end;
            After::Abort
        }
    }
}

/// A request that may go up as it comes, or one that needs more.
enum Prepared<'a> {
    Ready(Outgoing),
    Unwritten(Box<Unwritten<'a>>),
    Unified(Box<Admitted>),
    Universal(Box<universal::Admitted>),
}

/// Phases 2 to 9, which wait for nothing.
fn prepare<'a>(
    thread: &Thread,
    snapshot: &Snapshot,
    head: &'a RequestHead,
    settle: &mut Settle<'_>,
) -> Result<Prepared<'a>, GatewayError> {
    let settings = &snapshot.settings;
    let resolved = match resolve(head, snapshot)? {
        Leads::Native(resolved) => resolved,
        Leads::Unified(asked) => {
            let admitted = unified::admit(thread, snapshot, head, *asked, settle)?;
            return Ok(Prepared::Unified(admitted));
        }
        Leads::Universal(gateway, unmade) => {
            let admitted = universal::admit(thread, snapshot, head, gateway, unmade, settle)?;
            return Ok(Prepared::Universal(Box::new(admitted)));
        }
    };
    settle.record.gateway = Some(resolved.gateway.id.clone());
    settle.record.provider = Some(resolved.entry.name.clone());
    let slug = resolved.entry.provider.slug();
    settle.record.model = slug.model_in_path(resolved.rest).map(Box::from);
    if settle.record.model.is_none() && head.framing() != RequestFraming::None {
        settle.search_model();
    }
    let now = settle.record.began / 1000;
    let client = settle.record.client;
    let identity = authenticate(head, &resolved.gateway, &snapshot.tokens, now, client)?;
    settle.record.token = identity.token.as_ref().map(|token| TokenName {
        id: token.id.clone(),
        name: token.name.clone(),
    });
    // What is refused before this would let anybody fill the log.
    settle.note_gateway(head, &resolved.gateway);
    admit(thread, &resolved.gateway, settle)?;
    if resolved.unmade && identity.is_authenticated() {
        (thread.shared.ask)(Ask::DefaultGateway);
    }
    if let RequestFraming::Length(length) = head.framing()
        && length > settings.body_max
    {
        return Err(GatewayError::too_large(settings.body_max));
    }
    let knobs = Knobs::of(head, &resolved.gateway.retries);
    let wish = Wish::of(head, &resolved.gateway.cache);
    let chosen = choose(thread, snapshot, head, &resolved, &identity, settle)?;
    if knobs.tries > 1 || wish.is_some() || matches!(chosen.usable, Usable::Costly(_)) {
        let unwritten = chosen.unwritten(snapshot, head, resolved, knobs, wish)?;
        return Ok(Prepared::Unwritten(Box::new(unwritten)));
    }
    let key = match (&chosen.usable, &chosen.paying, &chosen.opened) {
        (Usable::Token(token), ..) => Key::Put(token.expose().as_bytes()),
        (_, Paying::Request, _) => Key::OfRequest,
        (_, Paying::Stored(_), Some(key)) => Key::Put(key.expose()),
        (_, Paying::House, _) => match &resolved.entry.house_key {
            Some(key) => Key::Put(key.expose()),
            None => Key::None,
        },
        _ => Key::None,
    };
    let query = chosen.query.as_deref();
    let step = plan::native(head, &resolved, &snapshot.account, query)?;
    Ok(Prepared::Ready(Outgoing {
        head: write_head(head, &step, key, head.framing(), &snapshot.tokens),
        ..unwritten(settings, &knobs, &step, settle)
    }))
}

/// Who pays for a step at a provider's own endpoint, and with what.
pub(super) struct Chosen<'a> {
    paying: Paying,
    /// The stored key.
    opened: Option<Secret>,
    usable: Usable,
    /// The query as it goes up.
    query: Option<Cow<'a, str>>,
}

/// Phase 7 of one step.
pub(super) fn choose<'a>(
    thread: &Thread,
    snapshot: &Snapshot,
    head: &'a RequestHead,
    resolved: &Resolved<'_>,
    identity: &Identity,
    settle: &mut Settle<'_>,
) -> Result<Chosen<'a>, GatewayError> {
    let slug = resolved.entry.provider.slug();
    let paying = credential::choose(
        head,
        &resolved.gateway,
        &resolved.entry,
        &snapshot.tokens,
        identity,
        snapshot.settings.house_keys_unauthenticated,
    )?;
    settle.log_payer(&paying);
    admit_key(thread, &paying, settle)?;
    let opened = match &paying {
        Paying::Stored(key) => Some(credential::open(key, &snapshot.sealer, &snapshot.account)?),
        _ => None,
    };
    let value = match (&paying, &opened, &resolved.entry.house_key) {
        (Paying::Request, ..) => credential::on_request(head),
        (Paying::Stored(_), Some(key), _) | (Paying::House, _, Some(key)) => key.expose(),
        _ => &b""[..],
    };
    let from_request = matches!(paying, Paying::Request);
    let now = settle.record.began / 1000;
    let usable = credential::look_at(value, slug, from_request, &thread.minted, now)?;
    let of_request = from_request && !matches!(usable, Usable::Token(_));
    let query = head
        .query()
        .map(|query| credential::query_going_up(query, slug, of_request, &snapshot.tokens));
    Ok(Chosen {
        paying,
        opened,
        usable,
        query: query.filter(|query| !query.is_empty()),
    })
}

impl Chosen<'_> {
    /// A request that is written later, and maybe more than once. `wish`: what it says about stored answers.
    pub fn unwritten<'a>(
        self,
        snapshot: &Snapshot,
        head: &RequestHead,
        resolved: Resolved<'a>,
        knobs: Knobs,
        wish: Option<Wish<'_>>,
    ) -> Result<Unwritten<'a>, GatewayError> {
        let question = match wish {
            Some(wish) => {
                let query = self.query.as_deref();
                let step = plan::native(head, &resolved, &snapshot.account, query)?;
                let (gateway, tokens) = (&resolved.gateway, &snapshot.tokens);
                let (entry, target, paying) = (&step.entry, &step.target, &self.paying);
                let question =
                    Question::native(head, &wish, gateway, entry, target, paying, tokens);
                Some(question)
            }
            None => None,
        };
        let means = match (self.usable, self.paying, self.opened) {
            (Usable::Costly(Costly::Aws(keys)), ..) => Means::Aws(keys),
            (Usable::Costly(Costly::Google(found, account)), ..) => Means::Google(found, account),
            (Usable::Token(token), ..) => Means::Token(token),
            (Usable::Plain, Paying::Request, _) => Means::OfRequest,
            (Usable::Plain, Paying::Stored(_), Some(key)) => Means::Stored(key),
            (Usable::Plain, Paying::House, _) => Means::House,
            (Usable::Plain, Paying::Stored(_) | Paying::Nobody, _) => Means::Nothing,
        };
        Ok(Unwritten {
            resolved,
            query: self.query.map(Cow::into_owned),
            means,
            knobs,
            question,
            account: snapshot.account.clone(),
            tokens: snapshot.tokens.clone(),
        })
    }
}

/// Phase 10 and what comes before the commit point.
async fn answer(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    prepared: Result<Prepared<'_>, GatewayError>,
    settle: &mut Settle<'_>,
) -> Result<Begun, Failure> {
    let given = Given {
        body: None,
        more: false,
    };
    let outgoing = match prepared? {
        Prepared::Ready(outgoing) => outgoing,
        Prepared::Unified(admitted) => {
            let answer = unified::answer(thread, settings, client, head, &admitted, given, settle);
            return Box::pin(answer).await;
        }
        // Boxed: few requests go this way.
        Prepared::Unwritten(unwritten) => {
            let answer = native::answer(thread, settings, client, head, *unwritten, given, settle);
            return Box::pin(answer).await;
        }
        Prepared::Universal(admitted) => {
            let answer = steps::answer(thread, settings, client, head, &admitted, settle);
            return Box::pin(answer).await;
        }
    };
    if client.admit_body().await.is_err() {
        return Err(Failure::ClientGone(End::ClientLeft));
    }
    let answer = attempt(
        thread,
        settings,
        recall::asking(Caller::Client(client), settle),
        head,
        &outgoing,
        settle,
    )
    .await?;
    Ok(Begun::Relaying(Relaying::begin(
        thread, head, answer, &outgoing, settle,
    )))
}

/// Tells the client what is wrong. The connection is kept only where the whole request was read.
async fn answer_error(
    thread: &Thread,
    settings: &Settings,
    client: &mut Connection,
    head: &RequestHead,
    error: &GatewayError,
    settle: &mut Settle<'_>,
) -> After {
    settle.note_error(error, settings.error_status);
    let keep = head.keep_alive() && !client.body_pending() && !thread.draining.get();
    let mut headers = Vec::with_capacity(192);
    settle.write_headers(&mut headers);
    let head_only = head.method() == Method::Head;
    settle.log_answer(Some(b"application/json"), None, None);
    if !head_only && settle.kept_answer().is_some() {
        settle.keep_answer(&error.body(settle.record.status).into());
    }
    let answer = error.answer(settings.error_status, &headers, !keep, head_only);
    client
        .transport()
        .arm_deadline(settings.clocks.client_write_stall, OnExpiry::ShutBoth);
    let written = client.write(Bytes::from(answer)).await;
    settle.timeline.relayed = Some(Instant::now());
    if written.is_err() {
        settle.record.end = End::ClientLeft;
        return After::Abort;
    }
    client.transport().disarm_deadline();
    settle.record.end = End::Complete;
    if keep { After::Keep } else { After::Close }
}
