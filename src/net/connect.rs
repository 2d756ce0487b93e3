//! Opening connections to upstreams: addresses, happy eyeballs, an HTTP proxy, TLS.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use monoio::net::TcpStream;
use quanta::Instant;
use sha2::{Digest, Sha256};

use super::deadlines::OnExpiry;
use super::health::{Health, Plan};
use super::http1::{Connection, ConnectionError};
use super::mailbox::Mailbox;
use super::origin::Origin;
use super::outlier::Change;
use super::resolver::{ResolveError, Resolver};
use super::tls::UpstreamTls;
use super::transport::Transport;
use crate::http::Method;
use crate::limits::CONNECT_STAGGER;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{host}: {source}")]
    Resolve {
        /// The name asked for.
        host: Box<str>,
        /// What the resolver said.
        source: ResolveError,
    },
    /// No address answered.
    #[error("{address}: {source}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// Why it failed.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host}: {source}")]
    Tls {
        /// The name the certificate must carry.
        host: Box<str>,
        /// Why it failed.
        source: io::Error,
    },
    /// The proxy refused or broke off.
    #[error("proxy {proxy}: {reason}")]
    Proxy {
        /// The proxy's authority.
        proxy: Box<str>,
        /// What it answered.
        reason: String,
    },
    /// The connect clock passed.
    #[error("no connection to {0} within {1:?}")]
    TimedOut(Box<str>, Duration),
}

impl ConnectError {
    /// Whether time ran out, rather than someone saying no.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::TimedOut(..)
                | Self::Resolve {
                    source: ResolveError::TimedOut(_),
                    ..
                }
        )
    }
}

/// How long the steps of a new connection took.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectTimes {
    /// Name resolution.
    pub dns: Duration,
    /// Until a TCP connection stood (and the proxy had agreed).
    pub tcp: Duration,
    /// The TLS handshake; zero on plain connections.
    pub tls: Duration,
}

/// Stands for everything that is set about connections but not said by their origin: one opened under other trust anchors,
/// or past a proxy, must serve no request that is to have these.
pub fn generation(tls: &UpstreamTls, proxy: Option<&Origin>) -> u64 {
    let mut hash = Sha256::new_with_prefix(tls.anchors());
    if let Some(proxy) = proxy {
        hash.update(proxy.to_string());
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

/// What every connection to an upstream needs.
#[derive(Clone)]
pub struct Connector {
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// This thread's own: brings the resolver's answers.
    pub mailbox: Mailbox,
    /// Trust anchors and the shared session store.
    pub tls: UpstreamTls,
    /// An HTTP proxy that every connection goes through.
    pub proxy: Option<Arc<Origin>>,
    /// How the addresses of origins that have several did lately. Not looked at where a proxy chooses among them.
    pub health: Arc<Health>,
    /// The whole of resolution, TCP and TLS must be done within this.
    pub timeout: Duration,
}

impl Connector {
    /// Opens a connection to `origin`.
    pub async fn connect(
        &self,
        origin: &Origin,
    ) -> Result<(Connection, ConnectTimes), ConnectError> {
        self.connect_noting(origin, &mut Vec::new()).await
    }

    /// The same, and tells which addresses are left out for what came of it.
    pub async fn connect_noting(
        &self,
        origin: &Origin,
        changes: &mut Vec<Change>,
    ) -> Result<(Connection, ConnectTimes), ConnectError> {
        let begin = Instant::now();
        let next_hop = self.proxy.as_deref().unwrap_or(origin);
        let addresses = self.resolve(next_hop).await?;
        let plan = match self.proxy {
            Some(_) => None,
            None => self.health.plan(origin, &addresses),
        };
        match plan {
            None => {
                let mut watch = Watch::nobody();
                self.open(origin, origin, &addresses, begin, &mut watch)
                    .await
            }
            Some(mut plan) => {
                let addresses = std::mem::take(&mut plan.addresses);
                let mut watch = Watch(Some((plan, changes)));
                self.open(origin, origin, &addresses, begin, &mut watch)
                    .await
            }
        }
    }

    /// Opens a connection to `origin` at one of these addresses, which the caller has resolved and looked at: its name is not
    /// asked for again. A proxy is asked for the first of them, not for the name.
    pub async fn connect_at(
        &self,
        origin: &Origin,
        addresses: &[SocketAddr],
    ) -> Result<(Connection, ConnectTimes), ConnectError> {
        let begin = Instant::now();
        match (&self.proxy, addresses.first()) {
            (Some(proxy), Some(first)) => {
                let place = Origin::new(origin.tls, &first.ip().to_string(), first.port());
                let addresses = self.resolve(proxy).await?;
                self.open(origin, &place, &addresses, begin, &mut Watch::nobody())
                    .await
            }
            _ => {
                self.open(origin, origin, addresses, begin, &mut Watch::nobody())
                    .await
            }
        }
    }

    async fn resolve(&self, hop: &Origin) -> Result<Arc<[SocketAddr]>, ConnectError> {
        if let Some(addresses) = self.resolver.cached(&hop.host, hop.port) {
            return Ok(addresses);
        }
        let found = self
            .resolver
            .resolve(&self.mailbox, &hop.host, hop.port, self.timeout)
            .await;
        found.map_err(|source| ConnectError::Resolve {
            host: hop.host.clone(),
            source,
        })
    }

    /// Opens a connection at one of the next hop's `addresses`; a proxy there is asked for `place`.
    async fn open(
        &self,
        origin: &Origin,
        place: &Origin,
        addresses: &[SocketAddr],
        begin: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<(Connection, ConnectTimes), ConnectError> {
        let mut times = ConnectTimes {
            dns: begin.elapsed(),
            ..ConnectTimes::default()
        };
        let next_hop = self.proxy.as_deref().unwrap_or(origin);
        let stream = self.race(next_hop, addresses, begin, watch).await?;
        let failed = |source| ConnectError::Connect {
            address: addresses[0],
            source,
        };
        let transport = Transport::new(stream).map_err(failed)?;
        let mut connection = Connection::client(transport);
        let peer = connection.transport().peer();
        let left = self
            .timeout
            .saturating_sub(begin.elapsed())
            .max(Duration::from_millis(1));
        connection
            .transport()
            .arm_deadline(left, OnExpiry::ShutBoth);
        if let Some(proxy) = &self.proxy {
            let opened = Box::pin(open_tunnel(&mut connection, proxy, place)).await;
            if connection.expired() {
                return Err(self.timed_out(proxy));
            }
            opened?;
        }
        times.tcp = begin.elapsed() - times.dns;
        if origin.tls {
            // Boxed, as the tunnel is: many connections are opened at once, and most need no handshake.
            let secured = Box::pin(self.start_tls(&mut connection, origin)).await;
            secured.inspect_err(|_| watch.failed(peer))?;
            times.tls = begin.elapsed() - times.dns - times.tcp;
        }
        connection.transport().disarm_deadline();
        watch.connected(peer, &mut connection);
        Ok((connection, times))
    }

    /// Tries the addresses in order, each a moment after the one before, and takes the first that answers (RFC 8305
    /// section 5). Connects that lost are dropped, which no descriptor outlives.
    async fn race(
        &self,
        hop: &Origin,
        addresses: &[SocketAddr],
        begin: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<TcpStream, ConnectError> {
        type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;
        let mut waiting = addresses.iter().copied().peekable();
        let mut running: Vec<(SocketAddr, Instant, Attempt)> = Vec::new();
        let mut last = None;
        let mut overall = std::pin::pin!(monoio::time::sleep(
            self.timeout.saturating_sub(begin.elapsed())
        ));
        let mut stagger = std::pin::pin!(monoio::time::sleep(Duration::ZERO));
        poll_fn(|cx| {
            if overall.as_mut().poll(cx).is_ready() {
                let late = running.iter().map(|(address, since, _)| (*address, *since));
                watch.outrun(late, None);
                return Poll::Ready(Err(self.timed_out(hop)));
            }
            loop {
                let mut failed = false;
                let mut index = 0;
                while index < running.len() {
                    let (address, since, attempt) = &mut running[index];
                    let (address, since) = (*address, *since);
                    match attempt.as_mut().poll(cx) {
                        Poll::Ready(Ok(stream)) => {
                            let others = running.iter().filter(|other| other.0 != address);
                            let others = others.map(|(address, since, _)| (*address, *since));
                            watch.outrun(others, Some(since));
                            return Poll::Ready(Ok(stream));
                        }
                        Poll::Ready(Err(source)) => {
                            watch.failed(address);
                            last = Some(ConnectError::Connect { address, source });
                            drop(running.swap_remove(index));
                            failed = true;
                        }
                        Poll::Pending => index += 1,
                    }
                }
                let due = failed || running.is_empty() || stagger.as_mut().poll(cx).is_ready();
                match waiting.next_if(|_| due) {
                    Some(address) => {
                        let attempt = Box::pin(TcpStream::connect_addr(address));
                        running.push((address, Instant::now(), attempt));
                        let next = monoio::time::Instant::now() + CONNECT_STAGGER;
                        stagger.as_mut().reset(next);
                    }
                    None if running.is_empty() => {
                        return Poll::Ready(Err(last
                            .take()
                            .unwrap_or_else(|| self.timed_out(hop))));
                    }
                    None => return Poll::Pending,
                }
            }
        })
        .await
    }

    async fn start_tls(
        &self,
        connection: &mut Connection,
        origin: &Origin,
    ) -> Result<(), ConnectError> {
        let failed = |source| ConnectError::Tls {
            host: origin.host.clone(),
            source,
        };
        let name = rustls_pki_types::ServerName::try_from(origin.host.to_string())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let session = rustls::ClientConnection::new(self.tls.config(), name)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let early = connection.take_buffered();
        let result = connection
            .transport()
            .start_tls(session.into(), &early)
            .await;
        if connection.expired() {
            return Err(self.timed_out(origin));
        }
        result.map_err(failed)
    }

    fn timed_out(&self, of: &Origin) -> ConnectError {
        ConnectError::TimedOut(of.authority.clone(), self.timeout)
    }
}

/// Notes how the addresses of an origin do while a connection to one of them is opened, where it has several.
struct Watch<'a>(Option<(Plan, &'a mut Vec<Change>)>);

impl Watch<'_> {
    /// Of an origin whose addresses are not ours to choose.
    fn nobody() -> Self {
        Self(None)
    }

    fn failed(&mut self, address: SocketAddr) {
        if let Some((plan, changes)) = &mut self.0 {
            changes.extend(plan.failed(address));
        }
    }

    /// Connects that had their head start and yet did not get there, `before` one that did: nobody knows of them, but each
    /// request would wait for them again.
    fn outrun(
        &mut self,
        running: impl Iterator<Item = (SocketAddr, Instant)>,
        before: Option<Instant>,
    ) {
        for (address, since) in running {
            let earlier = before.is_none_or(|winner| since < winner);
            if earlier && since.elapsed() >= CONNECT_STAGGER {
                self.failed(address);
            }
        }
    }

    fn connected(&mut self, address: SocketAddr, connection: &mut Connection) {
        if let Some((plan, _)) = &mut self.0 {
            connection.set_place(plan.connected(address));
        }
    }
}

/// Asks a proxy for a tunnel (RFC 9110 section 9.3.6). Plain origins go through one too: the proxy then sees no more of
/// the traffic than the wire shows.
async fn open_tunnel(
    connection: &mut Connection,
    proxy: &Origin,
    origin: &Origin,
) -> Result<(), ConnectError> {
    let refused = |reason: String| ConnectError::Proxy {
        proxy: proxy.authority.clone(),
        reason,
    };
    let host = if origin.host.contains(':') {
        format!("[{}]:{}", origin.host, origin.port)
    } else {
        format!("{}:{}", origin.host, origin.port)
    };
    let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection
        .write(Bytes::from(request))
        .await
        .map_err(|error| refused(error.to_string()))?;
    // A tunnel's answer has no body whatever its headers say, as the answer to HEAD (RFC 9110 section 9.3.6).
    let head = connection
        .response_head(Method::Head)
        .await
        .map_err(|error: ConnectionError| refused(error.to_string()))?;
    if !(200..300).contains(&head.status()) {
        return Err(refused(format!(
            "answered {} {}",
            head.status(),
            head.reason()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::pool::{Checkout, Pool, PoolKey, PoolLimits};
    use crate::net::pump::{Framing, RelayClocks, RelayEnd, relay};
    use crate::net::tls::{Roots, ServerTls};
    use crate::net::{mailbox, task};
    use monoio::net::TcpListener;
    use std::path::Path;

    const ANSWER: &str =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BODY: &str = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";

    fn on_both_drivers(test: impl AsyncFn(Connector)) {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            let (mailbox, inbox) = mailbox::pair().expect("a pair");
            runtime.block_on(async {
                task::spawn("inbox", async move {
                    inbox.run(|_| ()).await.expect("a working bell")
                });
                test(connector(mailbox, None)).await;
            });
        }
    }

    fn connector(mailbox: Mailbox, extra_ca: Option<&Path>) -> Connector {
        Connector {
            resolver: Resolver::start(1).expect("a thread"),
            mailbox,
            tls: UpstreamTls::build(Roots::Bundled, extra_ca).expect("roots"),
            proxy: None,
            health: Arc::default(),
            timeout: Duration::from_secs(20),
        }
    }

    /// Answers every request of every connection with a chunked body, over TLS where given.
    fn serve(listener: TcpListener, tls: Option<Arc<ServerTls>>) {
        task::spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                task::spawn("connection", async move {
                    let mut transport = Transport::new(stream).expect("a transport");
                    if let Some(tls) = tls {
                        let session =
                            rustls::ServerConnection::new(tls.config()).expect("a session");
                        transport
                            .start_tls(session.into(), b"")
                            .await
                            .expect("a handshake");
                    }
                    let mut connection = Connection::server(transport, Default::default());
                    while let Ok(Some(_)) = connection.next_request().await {
                        while let Some(_piece) = connection.body_chunk().await.expect("a body") {}
                        let (head, body) = (
                            ANSWER.as_bytes().to_vec(),
                            Bytes::from_static(BODY.as_bytes()),
                        );
                        connection.write_message(head, body).await.expect("written");
                    }
                });
            }
        });
    }

    async fn exchange(connection: &mut Connection) -> Vec<u8> {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        connection
            .write(Bytes::from_static(request.as_bytes()))
            .await
            .expect("written");
        assert_eq!(
            connection
                .response_head(Method::Post)
                .await
                .expect("a head")
                .status(),
            200
        );
        let mut body = Vec::new();
        while let Some(piece) = connection.body_chunk().await.expect("a piece") {
            body.extend_from_slice(&piece);
        }
        body
    }

    fn listen() -> (TcpListener, Arc<Origin>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        (listener, Arc::new(Origin::new(false, "127.0.0.1", port)))
    }

    #[test]
    fn a_pooled_connection_serves_many_requests_and_a_closed_one_none() {
        on_both_drivers(async |connector| {
            let (listener, origin) = listen();
            serve(listener, None);
            let limits = PoolLimits {
                per_origin: 1,
                per_origin_total: 1,
                idle: Duration::from_secs(30),
            };
            let pool = Pool::new(limits, Arc::default());
            let key = PoolKey {
                origin: origin.clone(),
                generation: 0,
            };
            let patience = Duration::from_millis(50);
            let Ok(Checkout::Open(slot)) = pool.checkout(&key, patience).await else {
                panic!("nothing is pooled yet");
            };
            assert!(
                pool.checkout(&key, patience).await.is_err(),
                "one connection is all there may be"
            );
            let (mut connection, _) = connector.connect(&origin).await.expect("connected");
            assert_eq!(exchange(&mut connection).await, b"hello world");
            slot.give_back(Box::new(connection));
            let Ok(Checkout::Warm(mut connection, slot)) = pool.checkout(&key, patience).await
            else {
                panic!("the connection was given back");
            };
            assert_eq!(exchange(&mut connection).await, b"hello world");
            connection
                .transport()
                .arm_deadline(Duration::ZERO, OnExpiry::ShutBoth);
            while !connection.transport().expired() {
                monoio::time::sleep(Duration::from_millis(5)).await;
            }
            slot.give_back(connection);
            // On io_uring the read that sees the close completes with the next turn of the ring.
            monoio::time::sleep(Duration::from_millis(50)).await;
            assert!(matches!(
                pool.checkout(&key, patience).await,
                Ok(Checkout::Open(_))
            ));
        });
    }

    /// An address whose connects are never answered: its backlog is full. The sockets keep it so.
    fn dead_address() -> (SocketAddr, Vec<Box<dyn std::any::Any>>) {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("bound");
        socket.listen(0).expect("listening");
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().expect("an address");
        let mut kept: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
        let brief = Duration::from_millis(200);
        while let Ok(filler) = std::net::TcpStream::connect_timeout(&address, brief) {
            kept.push(Box::new(filler));
            assert!(kept.len() < 64, "a backlog of 0 takes a few");
        }
        (address, kept)
    }

    #[test]
    fn a_dead_first_address_does_not_keep_from_the_second() {
        let (dead, _kept) = dead_address();
        on_both_drivers(async |connector| {
            let (listener, origin) = listen();
            let live = listener.local_addr().expect("an address");
            let refusing = {
                let (gone, _) = listen();
                gone.local_addr().expect("an address")
            };
            for addresses in [vec![dead, live], vec![refusing, live], vec![live, dead]] {
                let stream = connector
                    .race(&origin, &addresses, Instant::now(), &mut Watch::nobody())
                    .await;
                let peer = stream.expect("connected").peer_addr().expect("an address");
                assert_eq!(peer, live, "{addresses:?}");
            }
            let refused = connector
                .race(&origin, &[refusing], Instant::now(), &mut Watch::nobody())
                .await;
            assert!(
                matches!(refused, Err(ConnectError::Connect { address, .. }) if address == refusing)
            );
            let brief = Connector {
                timeout: Duration::from_millis(100),
                ..connector.clone()
            };
            let late = brief
                .race(&origin, &[dead, dead], Instant::now(), &mut Watch::nobody())
                .await;
            assert!(late.is_err_and(|error| error.is_timeout()));
        });
    }

    #[test]
    fn a_second_handshake_resumes_the_first() {
        use std::io::{Read, Write};
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = self_signed(folder.path());
        let tls = ServerTls::load(&certificate, &key).expect("loaded");
        on_both_drivers(async |untrusting| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            let port = listener.local_addr().expect("an address").port();
            let config = tls.config();
            let server = std::thread::spawn(move || {
                let mut kinds = Vec::new();
                for _ in 0..2 {
                    let (mut stream, _) = listener.accept().expect("accepted");
                    let mut session =
                        rustls::ServerConnection::new(config.clone()).expect("a session");
                    let mut tls = rustls::Stream::new(&mut session, &mut stream);
                    let mut request = [0; 4096];
                    assert!(tls.read(&mut request).expect("a request") > 0);
                    let message = [ANSWER, BODY].concat();
                    tls.write_all(message.as_bytes()).expect("written");
                    kinds.push(session.handshake_kind());
                }
                kinds
            });
            let trusting = connector(untrusting.mailbox.clone(), Some(&certificate));
            let origin = Origin::new(true, "localhost", port);
            for _ in 0..2 {
                let (mut connection, _) = trusting.connect(&origin).await.expect("connected");
                assert_eq!(exchange(&mut connection).await, b"hello world");
            }
            let kinds = server.join().expect("the server");
            assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed), "{kinds:?}");
        });
    }

    #[test]
    fn other_anchors_or_another_proxy_make_another_generation() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, _) = self_signed(folder.path());
        let plain = UpstreamTls::build(Roots::Bundled, None).expect("roots");
        let extra = UpstreamTls::build(Roots::Bundled, Some(&certificate)).expect("roots");
        let proxy = Origin::new(false, "127.0.0.1", 3128);
        let generations = [
            generation(&plain, None),
            generation(&extra, None),
            generation(&plain, Some(&proxy)),
            generation(&extra, Some(&proxy)),
        ];
        for (index, one) in generations.iter().enumerate() {
            assert!(!generations[index + 1..].contains(one));
        }
        let again = UpstreamTls::build(Roots::Bundled, Some(&certificate)).expect("roots");
        assert_eq!(generation(&again, None), generations[1]);
    }

    /// Paths of a certificate for `localhost` and its key.
    fn self_signed(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .expect("a certificate");
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        (certificate, key)
    }

    #[test]
    fn a_relay_passes_every_byte_and_notices_a_receiver_who_leaves() {
        on_both_drivers(async |connector| {
            let (listener, origin) = listen();
            serve(listener, None);
            let (sink, sink_origin) = listen();
            let clocks = RelayClocks {
                sender_idle: Duration::from_secs(20),
                receiver_stall: Duration::from_secs(20),
                until: None,
            };
            let (mut receiver, _) = connector.connect(&sink_origin).await.expect("connected");
            let far = sink.accept().await.expect("accepted").0;
            let (mut sender, _) = connector.connect(&origin).await.expect("connected");
            let request = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            sender.write(request).await.expect("written");
            sender.response_head(Method::Get).await.expect("a head");
            let mut seen = Vec::new();
            let relayed = relay(
                &mut sender,
                &mut receiver,
                Vec::new(),
                Framing::Same,
                clocks,
                |run| {
                    seen.extend_from_slice(run);
                },
            )
            .await;
            assert!(matches!(relayed.end, RelayEnd::Complete), "{relayed:?}");
            assert_eq!(
                (seen.as_slice(), relayed.written),
                (&b"hello world"[..], BODY.len() as u64)
            );
            let mut far = Transport::new(far).expect("a transport");
            assert_eq!(far.read(1024).await.expect("bytes"), BODY);

            let (silent, silent_origin) = listen();
            let (mut sender, _) = connector.connect(&silent_origin).await.expect("connected");
            let mut upstream =
                Transport::new(silent.accept().await.expect("accepted").0).expect("a transport");
            let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            upstream.write(head).await.expect("written");
            sender.response_head(Method::Get).await.expect("a head");
            drop(far);
            let relayed = relay(
                &mut sender,
                &mut receiver,
                Vec::new(),
                Framing::Same,
                clocks,
                |_| (),
            )
            .await;
            assert!(matches!(relayed.end, RelayEnd::ReceiverLeft), "{relayed:?}");
        });
    }

    #[test]
    fn tls_is_verified_against_the_extra_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = self_signed(folder.path());
        on_both_drivers(async |untrusting| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let port = listener.local_addr().expect("an address").port();
            let origin = Origin::new(true, "localhost", port);
            serve(
                listener,
                Some(Arc::new(
                    ServerTls::load(&certificate, &key).expect("loaded"),
                )),
            );
            let trusting = connector(untrusting.mailbox.clone(), Some(&certificate));
            let (mut connection, times) = trusting.connect(&origin).await.expect("connected");
            assert!(times.tls > Duration::ZERO);
            assert_eq!(exchange(&mut connection).await, b"hello world");
            assert!(connection.reusable());
            let refused = untrusting.connect(&origin).await;
            assert!(matches!(refused, Err(ConnectError::Tls { .. })));
        });
    }
}
