//! The I/O shell: accepts connections, reads requests, plays scripts.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use monoio::time::Instant;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::content::Simulator;
use super::content::request::Request;
use super::ledger::Ledger;
use super::play::{self, After};
use super::{Error, Running};
use crate::http::{HeadLimits, RequestHead, Version};
use crate::limits::{
    BODY_READ_BYTES, SIM_ACCEPT_PAUSE, SIM_BACKLOG, SIM_BODY_WAIT, SIM_HEAD_WAIT, SIM_IDLE_WAIT,
    SIM_JSON_BODY, SIM_OTHER_BODY, SIM_REPEATS_MAX, SIM_STOP_CHECK, SIM_STOP_WAIT,
};
use crate::net::deadlines::OnExpiry;
use crate::net::driver::{DriverChoice, Runtime};
use crate::net::http1::{Connection, ConnectionError, HeadClocks};
use crate::net::task;
use crate::net::transport::Transport;

/// What all threads of one simulator share.
pub(super) struct Shared {
    simulator: Simulator,
    ledger: Ledger,
    ordinal: AtomicU64,
    /// How often requests came that ask for something the first times only, by path and body.
    repeats: Mutex<HashMap<[u8; 32], u64>>,
    stopping: AtomicBool,
}

impl Shared {
    /// How many of the same path and body came before, where the request may ask.
    fn repeat(&self, request: &Request) -> u64 {
        const WORD: &[u8] = b"first-";
        let named = request.header("x-sim").unwrap_or_default().as_bytes();
        let asks = [named, request.path.as_bytes(), &request.body];
        if !asks.iter().any(|text| memmem::find(text, WORD).is_some()) {
            return 0;
        }
        let mut key = Sha256::new_with_prefix(request.body_sha256);
        key.update(request.path.as_bytes());
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        if repeats.len() >= SIM_REPEATS_MAX {
            repeats.clear();
        }
        let count = repeats.entry(key.finalize().into()).or_default();
        *count += 1;
        *count - 1
    }
}

/// The threads of a running simulator.
pub(super) struct Threads {
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
    handles: Vec<JoinHandle<()>>,
}

/// Binds, then starts the threads; returns when all of them accept.
pub(super) fn start(
    simulator: Simulator,
    listen: SocketAddr,
    threads: usize,
    driver: DriverChoice,
) -> Result<Running, Error> {
    let listeners = bind(listen, threads).map_err(|source| Error::Listen {
        address: listen,
        source,
    })?;
    let address = listeners[0].local_addr().map_err(Error::Thread)?;
    let shared = Arc::new(Shared {
        simulator,
        ledger: Ledger::default(),
        ordinal: AtomicU64::new(0),
        repeats: Mutex::default(),
        stopping: AtomicBool::new(false),
    });
    let mut running = Threads {
        shared,
        listeners: Vec::new(),
        handles: Vec::new(),
    };
    let (ready, started) = mpsc::channel();
    for (index, listener) in listeners.into_iter().enumerate() {
        running
            .listeners
            .push(listener.try_clone().map_err(Error::Thread)?);
        let (shared, ready) = (Arc::clone(&running.shared), ready.clone());
        let thread = std::thread::Builder::new().name(format!("sim-{index}"));
        let handle = thread
            .spawn(move || run_thread(shared, listener, driver, &ready))
            .map_err(Error::Thread)?;
        running.handles.push(handle);
    }
    drop(ready);
    let outcomes: Vec<io::Result<()>> = started.iter().take(threads).collect();
    if let Some(error) = outcomes.into_iter().find_map(Result::err) {
        running.stop();
        return Err(Error::Thread(error));
    }
    Ok(Running {
        address,
        threads: running,
    })
}

impl Threads {
    /// Ends accepting and every answer in flight, and waits for the threads.
    pub(super) fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        for listener in &self.listeners {
            // An armed accept ends by the shutdown of its socket and by nothing else; one already shut is as good.
            let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Read);
        }
        for handle in self.handles {
            // A panic there was contained or has been reported by the hook.
            let _ = handle.join();
        }
    }

    /// The counters, as `GET /sim/stats` tells them.
    pub(super) fn stats(&self) -> Value {
        self.shared.ledger.stats()
    }
}

fn bind(listen: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = listen;
    let mut listeners = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        // Only where threads share the port: otherwise a second simulator would share it silently.
        socket.set_reuse_port(threads > 1)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(SIM_BACKLOG)?;
        let listener = TcpListener::from(socket);
        // Port 0 is chosen once, for all.
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn run_thread(
    shared: Arc<Shared>,
    listener: TcpListener,
    driver: DriverChoice,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    let mut runtime = match Runtime::build(driver) {
        Ok((runtime, _)) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let ready = ready.clone();
    runtime.block_on(async move {
        let busy = Rc::new(Cell::new(0usize));
        match monoio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let _ = ready.send(Ok(()));
                accept(listener, &shared, &busy).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
        // Answers that sleep see the flag at their next check; idle connections go with the runtime.
        let end = Instant::now() + SIM_STOP_WAIT;
        while busy.get() > 0 && Instant::now() < end {
            monoio::time::sleep(SIM_STOP_CHECK / 4).await;
        }
    });
}

async fn accept(listener: monoio::net::TcpListener, shared: &Arc<Shared>, busy: &Rc<Cell<usize>>) {
    loop {
        let accepted = listener.accept().await;
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                let (shared, busy) = (Arc::clone(shared), Rc::clone(busy));
                task::spawn("simulated connection", async move {
                    let id = shared
                        .ledger
                        .counters
                        .accepted
                        .fetch_add(1, Ordering::Relaxed)
                        + 1;
                    let _open = Open::new(&shared);
                    // A connection that fails before it is set up has nobody to tell.
                    if let Ok(transport) = Transport::new(stream) {
                        Session {
                            shared: &shared,
                            id,
                            busy,
                        }
                        .run(transport)
                        .await;
                    }
                });
            }
            // Out of descriptors: what is open must end before accepting can go on.
            Err(_) => monoio::time::sleep(SIM_ACCEPT_PAUSE).await,
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.ledger.counters.open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.ledger.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts an answer in flight.
struct Busy(Rc<Cell<usize>>);

impl Busy {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Closes our side and takes in what is left of an unread body: a close with bytes unread is a reset, which would overtake
/// the answer.
async fn linger(mut connection: Connection) {
    connection
        .transport()
        .arm_deadline(SIM_BODY_WAIT, OnExpiry::ShutBoth);
    if connection.transport().finish().await.is_err() {
        return;
    }
    while let Ok(bytes) = connection.transport().read(BODY_READ_BYTES).await
        && !bytes.is_empty()
    {}
}

struct Session<'a> {
    shared: &'a Shared,
    id: u64,
    busy: Rc<Cell<usize>>,
}

impl Session<'_> {
    async fn run(&self, transport: Transport) {
        let mut connection = Connection::server(transport, HeadLimits::default());
        connection.set_head_clocks(HeadClocks {
            idle: SIM_IDLE_WAIT,
            head: SIM_HEAD_WAIT,
        });
        loop {
            let head = match connection.next_request().await {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(error) => return self.refuse(&mut connection, &error).await,
            };
            let _busy = Busy::new(&self.busy);
            match self.exchange(&mut connection, &head).await {
                // Unread bytes of a body would be taken for the next request.
                Ok(After::Keep) if head.keep_alive() && !connection.body_pending() => {}
                Ok(After::Reset) => return connection.abort(),
                Ok(After::Keep | After::Close) if connection.body_pending() => {
                    return linger(connection).await;
                }
                Ok(After::Keep | After::Close) => return,
                Err(error) => return self.refuse(&mut connection, &error).await,
            }
            if self.shared.stopping.load(Ordering::Acquire) {
                return;
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        head: &RequestHead,
    ) -> Result<After, ConnectionError> {
        let mut request = self.read(connection, head).await?;
        let started = Instant::now();
        if request.path.starts_with("/sim/") {
            let answer = self.own(&request);
            let message = play::whole(answer.0, &answer.1, head.keep_alive());
            connection.write(message).await?;
            return Ok(After::Keep);
        }
        request.ordinal = self.shared.ordinal.fetch_add(1, Ordering::Relaxed);
        request.repeat = self.shared.repeat(&request);
        let script = self.shared.simulator.answer(&request);
        let (ledger, usage) = (&self.shared.ledger, script.usage);
        let number = ledger.begin(request, self.id, script.status, usage);
        let way = play::Way {
            started,
            stopping: &self.shared.stopping,
            chunks: head.version() == Version::Http11,
            bodiless: head.method_str() == "HEAD",
            keep_alive: head.keep_alive(),
        };
        let (after, sent) = play::play(connection, script, &way).await;
        self.shared.ledger.finish(number, sent);
        Ok(after)
    }

    async fn read(
        &self,
        connection: &mut Connection,
        head: &RequestHead,
    ) -> Result<Request, ConnectionError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<(String, String)> = head
            .headers()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let json = head
            .header("content-type")
            .is_none_or(|kind| memchr::memmem::find(kind, b"json").is_some());
        let limit = if json { SIM_JSON_BODY } else { SIM_OTHER_BODY };
        let unread = head
            .header("x-sim")
            .is_some_and(|value| memchr::memmem::find(value, b"no-read").is_some());
        let mut kept = BytesMut::new();
        let mut first = Bytes::new();
        let (mut hash, mut length) = (Sha256::new(), 0u64);
        connection
            .transport()
            .arm_deadline(SIM_BODY_WAIT, OnExpiry::ShutRead);
        loop {
            let chunk = if unread {
                None
            } else {
                connection.body_chunk().await?
            };
            let Some(chunk) = chunk else { break };
            connection
                .transport()
                .arm_deadline(SIM_BODY_WAIT, OnExpiry::ShutRead);
            hash.update(&chunk);
            length += chunk.len() as u64;
            // Most bodies come in one piece, which need not be copied.
            if first.is_empty() && kept.is_empty() {
                first = chunk.slice(..chunk.len().min(limit));
            } else {
                kept.extend_from_slice(&std::mem::take(&mut first));
                let room = limit - kept.len().min(limit);
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        }
        connection.transport().disarm_deadline();
        Ok(Request {
            method: head.method_str().to_owned(),
            path: head.path().to_owned(),
            query: head.query().unwrap_or_default().to_owned(),
            headers,
            body: if kept.is_empty() {
                first
            } else {
                kept.freeze()
            },
            body_length: length,
            body_sha256: hash.finalize().into(),
            ordinal: 0,
            repeat: 0,
            received: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        })
    }

    /// The simulator's own pages.
    fn own(&self, request: &Request) -> (u16, Value) {
        let ledger = &self.shared.ledger;
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/sim/requests") => match request.parameter("since").unwrap_or("0").parse() {
                Ok(since) => (200, ledger.read(since)),
                Err(_) => (400, json!({"error": "since takes the number of a request"})),
            },
            ("DELETE", "/sim/requests") => {
                ledger.clear();
                (200, json!({"cleared": true}))
            }
            ("GET", "/sim/stats") => (200, ledger.stats()),
            (method, path) => (
                404,
                json!({"error": format!("the simulator has no {method} {path}")}),
            ),
        }
    }

    /// Says what is wrong with the HTTP of a request, and closes.
    async fn refuse(&self, connection: &mut Connection, error: &ConnectionError) {
        self.shared
            .ledger
            .counters
            .refused
            .fetch_add(1, Ordering::Relaxed);
        let status = match error {
            ConnectionError::Head(error) => error.status(),
            ConnectionError::Chunked(_) => 400,
            ConnectionError::TimedOut(_) => 408,
            _ => return,
        };
        let body =
            json!({"error": {"message": error.to_string(), "type": "invalid_request_error"}});
        // The client may be gone; then there is nobody to tell.
        let _ = connection.write(play::whole(status, &body, false)).await;
    }
}
