//! The control thread: starts the others, watches them, answers the management listener, hears signals, drains.

// Channels between this thread and its helpers; the data threads only send.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::data::{self, Seat};
use super::journal::{self, Journal};
use super::{DataDir, Premises, Start, StartError, Summary, cache, listen};
use crate::aggregate::Block;
use crate::config::{AccessLog, Config, Driver};
use crate::gateway::{Ask, Edge, Shared};
use crate::http::HeadLimits;
use crate::limits::{
    ASKS_MAX, DEFAULT_GATEWAY, HEARTBEAT_MAX, HELPERS, LAST_USED_INTERVAL, RECORDS_MAX,
    RESOLVER_THREADS, RESTARTS_PER_MINUTE, SERVED_CHECK, THREADS_MAX,
};
use crate::manage::{self, Api, Declared, Evaluator, Problem, PublishError, publish};
use crate::net::driver::{DriverChoice, Probe};
use crate::net::health::Health;
use crate::net::helpers::Helpers;
use crate::net::http1::HeadClocks;
use crate::net::mailbox::{self, Mailbox, Message};
use crate::net::pool::PoolLimits;
use crate::net::resolver::Resolver;
use crate::net::task;
use crate::net::tls::ServerTls;
use crate::record::Counters;
use crate::snapshot::{Published, Snapshot};
use crate::store::{Database, Store};
use crate::tables::cache::Cache;
use crate::telemetry::analytics::Analytics;
use crate::telemetry::logs::{self, Bounds, Logs};
use crate::telemetry::{Format, Writer, notice, prometheus};

/// A server whose threads run.
pub struct Running {
    crew: Crew,
    runtime: tokio::runtime::Runtime,
    exits: mpsc::UnboundedReceiver<usize>,
    asked: mpsc::Receiver<Ask>,
    management: TcpListener,
    signals: Signals,
    reload: Box<dyn Fn() -> Result<Config, String> + Send>,
    exit_after: Option<u64>,
    summary: Summary,
    journal: Journal,
    _data_dir: DataDir,
}

/// Heard from before the start-up line is printed: a signal right after it must not kill.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Needs the runtime's context.
    fn hear() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// The data threads and what it takes to start one again.
struct Crew {
    config: Config,
    posts: Vec<Post>,
    shared: Arc<Shared>,
    state: Arc<State>,
    tls: Option<Arc<ServerTls>>,
    api: Arc<Api>,
    exited: mpsc::UnboundedSender<usize>,
    run: u32,
    restarts: Vec<Instant>,
    watch: Watch,
}

/// Which data threads do not answer; said once when it begins and once when it ends.
#[derive(Default)]
struct Watch {
    late: Vec<bool>,
}

impl Watch {
    /// `heartbeats` and `now` in seconds since the start.
    fn look(&mut self, now: u64, heartbeats: impl Iterator<Item = u64>) -> Vec<String> {
        let mut notices = Vec::new();
        for (index, heartbeat) in heartbeats.enumerate() {
            if index == self.late.len() {
                self.late.push(false);
            }
            let late = now.saturating_sub(heartbeat) > HEARTBEAT_MAX;
            if std::mem::replace(&mut self.late[index], late) != late {
                notices.push(match late {
                    true => format!("data-{index} has not answered for {HEARTBEAT_MAX} s"),
                    false => format!("data-{index} answers again"),
                });
            }
        }
        notices
    }
}

/// One data thread's place.
struct Post {
    listeners: Vec<(TcpListener, Edge)>,
    driver: DriverChoice,
    mailbox: Option<Mailbox>,
    handle: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// What the management pages tell.
struct State {
    draining: AtomicBool,
    counters: Mutex<Vec<Arc<Counters>>>,
    /// One of each data thread that lives.
    mailboxes: Mutex<Vec<Mailbox>>,
    /// Whose turn it is to get a connection.
    turn: AtomicUsize,
    restarts: AtomicU64,
    published: Arc<Published>,
    writer: Mutex<Option<Writer>>,
    logs: Arc<Logs>,
    cache: Arc<Cache>,
    health: Arc<Health>,
    analytics: Arc<Analytics>,
    epoch: Instant,
}

pub(super) fn start(start: Start) -> Result<Running, StartError> {
    let Start {
        config,
        reload,
        bootstrap,
        master_key,
        token_file,
        exit_after,
        dev,
    } = start;
    let management = config.management.listen;
    if dev && !management.ip().to_canonical().is_loopback() {
        return Err(StartError::Dev(management));
    }
    // The first reading calibrates the clock, up to 200 ms of work that no data thread should do.
    let _ = quanta::Instant::now();
    let Premises {
        mut data_dir,
        mut database,
        office,
    } = Premises::enter(&config, master_key.as_deref())?;
    let account = office.account.clone();
    let file_bound = listen::raise_file_limit().map_err(thread_failed("file limit"))?;
    let open_max = config.data.connections.unwrap_or(file_bound);
    let threads = match config.data.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
    .min(THREADS_MAX);
    let tls = match &config.data.tls {
        Some(files) => Some(Arc::new(ServerTls::load(&files.certificate, &files.key)?)),
        None => None,
    };
    let first_token = manage::inaugurate(&office, &mut database, bootstrap.as_deref())
        .map_err(PublishError::from)?;
    let declared = office.declared.load_full();
    let sealer = office.sealer.clone();
    let snapshot = publish::build(&account, &declared, sealer, database.connection())?;
    warn_of_open_relay(&config, &declared, &snapshot);
    let published = Arc::new(Published::new(snapshot));
    let token_file = match &first_token {
        Some(token) if token_file => Some(data_dir.store_first_token(token)?),
        _ => None,
    };
    let (posts, data) = posts(&config, threads, tls.as_ref())?;
    let management = listen::bind(config.management.listen, false).map_err(listen_failed(
        config.management.listen,
        "--management-listen",
    ))?;
    let management_address = management
        .local_addr()
        .map_err(thread_failed("management listener"))?;
    data_dir.announce(&format!("http://{management_address}"))?;

    task::install_panic_hook();
    let format = match config.data.access_log {
        AccessLog::Text => Some(Format::Text),
        AccessLog::Json => Some(Format::Json),
        AccessLog::Off => None,
    };
    let (ledger, counters) = journal::open(data_dir.path())?;
    let logs = Logs::start(
        &data_dir.path().join(logs::FOLDER),
        log_bounds(&config),
        published.clone(),
    );
    let logs = Arc::new(logs.map_err(thread_failed("logs"))?);
    let analytics = Analytics::start(data_dir.path(), config.metrics.max_series);
    let analytics = Arc::new(analytics.map_err(thread_failed("analytics"))?);
    let writer = Writer::start(format, logs.clone()).map_err(thread_failed("writer"))?;
    let journal = Journal::start(ledger.clone(), counters).map_err(thread_failed("counters"))?;
    let store = Store::start(database).map_err(thread_failed("store"))?;
    let api = Arc::new(Api {
        office,
        published: published.clone(),
        store,
        logs: logs.clone(),
        evaluator: Evaluator::default(),
        analytics: analytics.clone(),
        dev,
    });
    let cache = cache::open(&config.cache, data_dir.path()).map_err(thread_failed("cache"))?;
    let cache = Arc::new(cache);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let health = Arc::new(Health::default());
    let shared = Arc::new(Shared {
        snapshot: published.clone(),
        // A full queue holds the same question already.
        ask: Box::new(move |ask| {
            let _ = asks.try_send(ask);
        }),
        ledger,
        cache: cache.clone(),
        flights: Arc::default(),
        helpers: Helpers::start(HELPERS).map_err(thread_failed("helper"))?,
        resolver: Resolver::start_knowing(RESOLVER_THREADS, config.upstream.hosts.clone())
            .map_err(thread_failed("resolver"))?,
        health: health.clone(),
        background: Default::default(),
        occupancy: Arc::default(),
        buffered: AtomicUsize::new(0),
        open: AtomicUsize::new(0),
        open_max,
    });
    let state = Arc::new(State {
        draining: AtomicBool::new(false),
        counters: Mutex::default(),
        mailboxes: Mutex::default(),
        turn: AtomicUsize::new(0),
        restarts: AtomicU64::new(0),
        published: published.clone(),
        writer: Mutex::new(Some(writer)),
        logs,
        cache,
        health,
        analytics,
        epoch: Instant::now(),
    });
    let (exited, exits) = mpsc::unbounded_channel();
    let drain = config.data.drain;
    let mut crew = Crew {
        config,
        posts,
        shared,
        state,
        tls,
        api,
        exited,
        run: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u32),
        restarts: Vec::new(),
        watch: Watch::default(),
    };
    let probes = crew.start_all()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(thread_failed("control runtime"))?;
    let signals = {
        let _context = runtime.enter();
        Signals::hear().map_err(thread_failed("signal handlers"))?
    };
    let (driver, driver_note) = describe(&probes);
    let summary = Summary {
        account,
        data,
        management: management_address,
        threads,
        driver,
        driver_note,
        connections: open_max,
        drain,
        tls: crew.tls.is_some(),
        first_token,
        token_file,
    };
    Ok(Running {
        crew,
        runtime,
        exits,
        asked,
        management,
        signals,
        reload,
        exit_after,
        summary,
        journal,
        _data_dir: data_dir,
    })
}

impl Running {
    /// What the start-up line says.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Serves until a signal asks for the end and the drain is done. An error: the data threads die faster than they may be
    /// started again.
    pub fn wait(self) -> Result<(), String> {
        let Self {
            mut crew,
            runtime,
            mut exits,
            mut asked,
            management,
            mut signals,
            reload,
            exit_after,
            summary,
            journal,
            _data_dir,
        } = self;
        let outcome = runtime.block_on(async {
            let failed = |error: io::Error| format!("control thread: {error}");
            let listener = tokio::net::TcpListener::from_std(management).map_err(failed)?;
            let router = manage::router(crew.state.clone(), crew.api.clone());
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            let pages = tokio::spawn(async move { axum::serve(listener, service).await });
            let mut second = tokio::time::interval(Duration::from_secs(1));
            let mut served = pin!(served(crew.state.clone(), exit_after));
            // Nothing was used yet, and the first calls must not wait behind a walk over all tokens.
            let first = tokio::time::Instant::now() + LAST_USED_INTERVAL;
            let mut flush = tokio::time::interval_at(first, LAST_USED_INTERVAL);
            crew.api.evaluate();
            loop {
                tokio::select! {
                    _ = second.tick() => crew.watch(),
                    _ = signals.terminate.recv() => break,
                    _ = signals.interrupt.recv() => break,
                    () = &mut served => break,
                    _ = signals.hangup.recv() => crew.reload(&*reload).await,
                    Some(ask) = asked.recv() => crew.answer(ask).await,
                    _ = flush.tick() => {
                        crew.store_last_used().await;
                        // For those that an unusable database left waiting.
                        crew.api.evaluate();
                    }
                    Some(index) = exits.recv() => crew.restart(index)?,
                }
            }
            notice::say(format_args!("draining: at most {:?}", summary.drain));
            crew.begin_drain(summary.drain);
            let all = crew.posts.len();
            let mut ended = 0;
            while ended < all {
                tokio::select! {
                    Some(_) = exits.recv() => ended += 1,
                    _ = signals.interrupt.recv() => break,
                    _ = tokio::time::sleep(summary.drain + Duration::from_secs(2)) => break,
                }
            }
            pages.abort();
            crew.store_last_used().await;
            Ok(())
        });
        // A thread that did not end in time is left behind: the process ends with it.
        if let Some(writer) = crew.state.writer().take() {
            writer.stop();
        }
        crew.state.logs.stop();
        journal.stop();
        crew.state.cache.stop();
        crew.state.analytics.stop();
        outcome
    }
}

impl Crew {
    fn start_all(&mut self) -> Result<Vec<Probe>, StartError> {
        let mut waiting = Vec::new();
        for index in 0..self.posts.len() {
            let (ready, started) = sync_channel(1);
            self.start_one(index, ready)?;
            waiting.push((index, started));
        }
        waiting
            .into_iter()
            .map(|(index, started)| {
                let died = || io::Error::other("the thread died at its start");
                started
                    .recv()
                    .unwrap_or_else(|_| Err(died()))
                    .map_err(thread_failed(&format!("data-{index}")))
            })
            .collect()
    }

    fn start_one(
        &mut self,
        index: usize,
        ready: SyncSender<io::Result<Probe>>,
    ) -> Result<(), StartError> {
        let name = format!("data-{index}");
        let failed = |source| StartError::Thread {
            what: format!("data-{index}"),
            source,
        };
        let post = &mut self.posts[index];
        let (mailbox, inbox) = mailbox::pair().map_err(failed)?;
        let (producer, consumer) = rtrb::RingBuffer::new(RECORDS_MAX);
        if let Some(writer) = &*self.state.writer() {
            writer.add(consumer);
        }
        let listeners = post
            .listeners
            .iter()
            .map(|(listener, edge)| Ok((listener.try_clone()?, edge.clone())))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        let counters = Arc::new(Counters::default());
        counters
            .heartbeat
            .store(self.state.epoch.elapsed().as_secs(), Ordering::Relaxed);
        self.state.counters().push(counters.clone());
        let figures = Arc::new(Block::default());
        self.state.analytics.add(figures.clone());
        post.counters = counters.clone();
        self.state.set_mailbox(index, mailbox.clone());
        post.mailbox = Some(mailbox.clone());
        self.run = self.run.wrapping_add(1);
        let seat = Seat {
            index,
            listeners,
            shared: self.shared.clone(),
            mailbox,
            inbox,
            records: producer,
            counters,
            figures,
            driver: post.driver,
            pool: PoolLimits {
                per_origin: self.config.upstream.connections_per_origin,
                per_origin_total: self
                    .config
                    .upstream
                    .connections_per_origin_total
                    .unwrap_or(usize::MAX),
                idle: self.config.upstream.keep_alive,
            },
            run: self.run,
            epoch: self.state.epoch,
        };
        let exited = self.exited.clone();
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                let _exit = Exit { index, exited };
                data::run(seat, &ready);
            })
            .map_err(failed)?;
        post.handle = Some(handle);
        Ok(())
    }

    /// Starts a dead thread again on its own listeners, at most so often.
    fn restart(&mut self, index: usize) -> Result<(), String> {
        let now = Instant::now();
        self.restarts
            .retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        if self.restarts.len() >= RESTARTS_PER_MINUTE {
            return Err(format!(
                "data threads died {RESTARTS_PER_MINUTE} times within a minute"
            ));
        }
        self.restarts.push(now);
        self.state.restarts.fetch_add(1, Ordering::Relaxed);
        notice::say(format_args!("data-{index} died and is started again"));
        if let Some(handle) = self.posts[index].handle.take() {
            let _ = handle.join();
        }
        self.forget_open(index);
        let (ready, _) = sync_channel(1);
        self.start_one(index, ready)
            .map_err(|error| error.to_string())
    }

    fn watch(&mut self) {
        let now = self.state.epoch.elapsed().as_secs();
        let heartbeats = self
            .posts
            .iter()
            .map(|post| post.counters.heartbeat.load(Ordering::Relaxed));
        for text in self.watch.look(now, heartbeats) {
            notice::say(text);
        }
        for text in self.state.health.take_notices() {
            notice::say(text);
        }
    }

    /// What a dead thread had open went with it.
    fn forget_open(&self, index: usize) {
        let counters = &self.posts[index].counters;
        counters.running.store(0, Ordering::Relaxed);
        let open = counters.open.swap(0, Ordering::Relaxed);
        self.shared.open.fetch_sub(open as usize, Ordering::Relaxed);
    }

    fn begin_drain(&self, bound: Duration) {
        self.state.draining.store(true, Ordering::Release);
        for post in &self.posts {
            if let Some(mailbox) = &post.mailbox {
                // A full inbox belongs to a thread that hangs; it is left behind when the time is up.
                let _ = mailbox.send(Message::Drain(bound));
            }
            for (listener, _) in &post.listeners {
                // Ends the armed accept; one already shut down is as good.
                let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Read);
            }
        }
    }

    /// Does what a data thread asked for.
    async fn answer(&self, ask: Ask) {
        let api = self.api.clone();
        let done = self.api.store.call(move |database| match ask {
            Ask::DefaultGateway => {
                manage::create_default_gateway(&api.office, &api.published, database)
            }
        });
        // A request that comes later asks again.
        if let Err(problem) = done.await.map_err(Problem::from).flatten() {
            notice::say(format_args!(
                "gateway {DEFAULT_GATEWAY} is not made: {problem}"
            ));
        }
    }

    async fn store_last_used(&self) {
        let published = self.api.published.clone();
        // The walk over all tokens must hold up neither control nor the database. A panic in it is reported by the hook.
        let walk = tokio::task::spawn_blocking(move || manage::last_used(&published));
        let Ok(used) = walk.await else { return };
        if used.is_empty() {
            return;
        }
        let work = move |database: &mut Database| manage::store_last_used(used, database);
        let stored = self.api.store.call(work).await;
        // Tried again a minute later; the times are not lost until the end.
        if let Err(problem) = stored.map_err(Problem::from).flatten() {
            notice::say(format_args!("times of last use are not stored: {problem}"));
        }
    }

    /// Takes in a changed configuration; a wrong one changes nothing.
    async fn reload(&mut self, read: &dyn Fn() -> Result<Config, String>) {
        let config = match read() {
            Ok(config) => config,
            Err(error) => {
                return notice::say(format_args!("reload refused, nothing changed:\n{error}"));
            }
        };
        let declared = match Declared::of(&config) {
            Ok(declared) => Arc::new(declared),
            Err(error) => {
                return notice::say(format_args!("reload refused, nothing changed: {error}"));
            }
        };
        if let (Some(tls), Some(files)) = (&self.tls, &config.data.tls)
            && let Err(error) = tls.reload(&files.certificate, &files.key)
        {
            return notice::say(format_args!(
                "reload refused, nothing changed: data.tls: {error}"
            ));
        }
        let api = self.api.clone();
        let work = move |database: &mut Database| api.redeclare(declared, database);
        let published = self.api.store.call(work).await;
        let published = published.map_err(|undone| undone.to_string());
        if let Err(error) = published.and_then(|done| done.map_err(|error| error.to_string())) {
            return notice::say(format_args!("reload refused, nothing changed: {error}"));
        }
        self.state.logs.bound(log_bounds(&config));
        self.state.analytics.bound(config.metrics.max_series);
        for warning in &config.warnings {
            notice::say(format_args!("warning: {warning}"));
        }
        let declared = self.api.office.declared.load_full();
        warn_of_open_relay(&config, &declared, &self.state.published.load_full());
        let kept = needs_restart(&self.config, &config);
        match kept.is_empty() {
            true => notice::say("reloaded"),
            false => notice::say(format_args!(
                "reloaded; needs a restart: {}",
                kept.join(", ")
            )),
        }
    }
}

/// Resolves once so many requests were served, or never. It looks rather than counts: a request pays nothing for it.
async fn served(state: Arc<State>, exit_after: Option<u64>) {
    let Some(wanted) = exit_after else {
        return std::future::pending().await;
    };
    let served = |state: &State| -> u64 {
        let counters = state.counters();
        let statuses = counters.iter().flat_map(|block| &block.statuses);
        statuses.map(|count| count.load(Ordering::Relaxed)).sum()
    };
    while served(&state) < wanted {
        tokio::time::sleep(SERVED_CHECK).await;
    }
}

/// Keys and gateways that only the database knows count too; the configuration has warned of its own already.
fn warn_of_open_relay(config: &Config, declared: &Declared, snapshot: &Snapshot) {
    let warned = config
        .warnings
        .iter()
        .any(|warning| warning.starts_with("OPEN RELAY"));
    if let Some(warning) = declared.open_relay(snapshot).filter(|_| !warned) {
        notice::say(format_args!("warning: {warning}"));
    }
}

/// Tells control that a data thread ended, whichever way.
struct Exit {
    index: usize,
    exited: mpsc::UnboundedSender<usize>,
}

impl Drop for Exit {
    fn drop(&mut self) {
        // Control is gone when the whole program ends.
        let _ = self.exited.send(self.index);
    }
}

impl State {
    fn mailboxes(&self) -> MutexGuard<'_, Vec<Mailbox>> {
        self.mailboxes
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Threads are started in the order of their numbers, and again under the same.
    fn set_mailbox(&self, index: usize, mailbox: Mailbox) {
        let mut mailboxes = self.mailboxes();
        match mailboxes.get_mut(index) {
            Some(place) => *place = mailbox,
            None => mailboxes.push(mailbox),
        }
    }

    fn counters(&self) -> MutexGuard<'_, Vec<Arc<Counters>>> {
        self.counters
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl manage::Status for State {
    fn adopt(&self, connection: TcpStream) -> bool {
        let mailboxes = self.mailboxes();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mailbox = mailboxes.get(turn % mailboxes.len().max(1));
        mailbox.is_some_and(|mailbox| mailbox.send(Message::Adopt(connection)).is_ok())
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Acquire) {
            return Err("draining".to_owned());
        }
        let now = self.epoch.elapsed().as_secs();
        let counters = self.counters();
        // The blocks of threads that died stay, so that no count goes back; each was replaced by a later one.
        let restarts = self.restarts.load(Ordering::Relaxed) as usize;
        let alive = counters.len().saturating_sub(restarts);
        let heard = counters
            .iter()
            .filter(|block| {
                now.saturating_sub(block.heartbeat.load(Ordering::Relaxed)) <= HEARTBEAT_MAX
            })
            .count();
        match heard >= alive {
            true => Ok(()),
            false => Err(format!(
                "{} of {alive} data threads do not answer",
                alive - heard
            )),
        }
    }

    fn metrics(&self) -> String {
        let process = prometheus::Process {
            panics: task::panics(),
            restarts: self.restarts.load(Ordering::Relaxed),
            lines_lost: self.writer().as_ref().map_or(0, Writer::lost),
            publications: self.published.count(),
            ejected: self.health.ejected(),
            ejections: self.health.ejections(),
            cache: self.cache.stats(),
        };
        let counters = self.counters().clone();
        let mut page = prometheus::render(&counters, process, Some(&self.logs));
        prometheus::render_analytics(&mut page, &self.analytics);
        page
    }
}

/// The bounds of the log store.
pub(super) fn log_bounds(config: &Config) -> Bounds {
    let logs = &config.logs;
    let (days, body_days) = (logs.max_age_days, logs.body_max_age_days);
    Bounds::on(&config.data_dir, logs.disk_max, days, body_days)
}

/// Binds every data address for every thread; also tells the addresses.
fn posts(
    config: &Config,
    threads: usize,
    tls: Option<&Arc<ServerTls>>,
) -> Result<(Vec<Post>, Vec<SocketAddr>), StartError> {
    let data = &config.data;
    let edge = Edge {
        tls: tls.cloned(),
        proxy_protocol: data.proxy_protocol,
        head_limits: HeadLimits {
            bytes: data.head_bytes,
            headers: data.headers,
        },
        clocks: HeadClocks {
            idle: data.keep_alive,
            head: data.client_head,
        },
    };
    let mut posts: Vec<Post> = (0..threads)
        .map(|index| Post {
            listeners: Vec::new(),
            driver: match data.driver {
                Driver::Auto => DriverChoice::Auto,
                Driver::Epoll => DriverChoice::Epoll,
                Driver::Uring => DriverChoice::Uring,
                Driver::Mixed if index % 2 == 0 => DriverChoice::Auto,
                Driver::Mixed => DriverChoice::Epoll,
            },
            mailbox: None,
            handle: None,
            counters: Arc::default(),
        })
        .collect();
    let mut addresses = Vec::new();
    for &address in &data.listen {
        let failed = listen_failed(address, "--listen");
        let sockets = listen::bind_shared(address, threads).map_err(&failed)?;
        addresses.push(sockets[0].local_addr().map_err(&failed)?);
        for (post, socket) in posts.iter_mut().zip(sockets) {
            post.listeners.push((socket, edge.clone()));
        }
    }
    Ok((posts, addresses))
}

/// The keys that differ and are only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.data, &new.data);
    let (c, d) = (&old.upstream, &new.upstream);
    let differing = [
        ("data.listen", a.listen != b.listen),
        ("data.threads", a.threads != b.threads),
        ("data.driver", a.driver != b.driver),
        ("data.tls", a.tls.is_some() != b.tls.is_some()),
        ("data.proxy_protocol", a.proxy_protocol != b.proxy_protocol),
        ("data.access_log", a.access_log != b.access_log),
        ("data.client_head", a.client_head != b.client_head),
        ("data.keep_alive", a.keep_alive != b.keep_alive),
        ("data.head_bytes", a.head_bytes != b.head_bytes),
        ("data.headers", a.headers != b.headers),
        ("data.connections", a.connections != b.connections),
        ("data.drain", a.drain != b.drain),
        ("upstream.hosts", c.hosts != d.hosts),
        ("upstream.keep_alive", c.keep_alive != d.keep_alive),
        (
            "upstream.connections_per_origin",
            c.connections_per_origin != d.connections_per_origin,
        ),
        (
            "upstream.connections_per_origin_total",
            c.connections_per_origin_total != d.connections_per_origin_total,
        ),
        (
            "management.listen",
            old.management.listen != new.management.listen,
        ),
        ("cache", old.cache != new.cache),
        ("account.id", old.account_id != new.account_id),
        ("data_dir", old.data_dir != new.data_dir),
    ];
    differing
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

fn describe(probes: &[Probe]) -> (String, String) {
    let mut drivers: Vec<&str> = probes.iter().map(|probe| probe.driver).collect();
    drivers.dedup();
    let note = probes.iter().find_map(|probe| match &probe.fallback {
        Some(reason) => Some(reason.clone()),
        None => Some(probe.flags.clone()).filter(|flags| !flags.is_empty()),
    });
    (
        drivers.join("+"),
        note.unwrap_or_else(|| "as asked for".to_owned()),
    )
}

fn listen_failed(address: SocketAddr, option: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Listen {
        address,
        option,
        source,
    }
}

fn thread_failed(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = what.to_owned();
    move |source| StartError::Thread { what, source }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::config::{self, Flags};

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connected");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        // A reset while the thread dies is no answer.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn eventually(what: &str, mut is: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is() {
            assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_thread_that_hangs_is_told_of_once() {
        let mut watch = Watch::default();
        let mut look = |now, heartbeats: [u64; 2]| watch.look(now, heartbeats.into_iter());
        assert!(look(10, [0, 9]).is_empty());
        let told = look(11, [0, 11]);
        assert_eq!(
            told,
            [format!("data-0 has not answered for {HEARTBEAT_MAX} s")]
        );
        assert!(look(12, [0, 12]).is_empty());
        assert_eq!(look(13, [13, 13]), ["data-0 answers again"]);
    }

    #[test]
    fn a_thread_that_died_serves_again_on_its_own_listener() {
        for driver in ["auto", "epoll"] {
            let folder = tempfile::tempdir().expect("a folder");
            let flags = Flags {
                listen: vec!["127.0.0.1:0".to_owned()],
                management_listen: Some("127.0.0.1:0".to_owned()),
                data_dir: Some(folder.path().join("data").display().to_string()),
                threads: Some("1".to_owned()),
                driver: Some(driver.to_owned()),
                access_log: Some("off".to_owned()),
                ..Flags::default()
            };
            let (config, _) = config::load(&flags, &|_| None).expect("a configuration");
            let running = start(Start {
                config,
                reload: Box::new(|| Err("not here".to_owned())),
                bootstrap: None,
                master_key: None,
                token_file: false,
                exit_after: None,
                dev: false,
            })
            .unwrap_or_else(|error| panic!("{error}"));
            let (data, management) = (running.summary.data[0], running.summary.management);
            let mailbox = running.crew.posts[0].mailbox.clone().expect("a mailbox");
            std::thread::spawn(move || running.wait());
            assert!(get(data, "/").contains("7003"));
            // A connection that is open when its thread dies is closed, and not counted any more.
            let mut open = TcpStream::connect(data).expect("connected");
            eventually("an open connection", || {
                get(management, "/metrics").contains("ringgate_connections_open 1\n")
            });
            let panic = Message::Run(Box::new(|| panic!("on purpose")));
            assert!(mailbox.send(panic).is_ok());
            eventually("a restart", || {
                get(management, "/metrics").contains("ringgate_thread_restarts_total 1\n")
            });
            open.set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a timeout");
            let end = open.read(&mut [0; 1]);
            assert!(
                !matches!(&end, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
                "{driver}: {end:?}"
            );
            assert!(get(data, "/").contains("7003"), "{driver}");
            let page = get(management, "/metrics");
            assert!(!page.contains("ringgate_panics_total 0\n"), "{page}");
            eventually("no connection", || {
                get(management, "/metrics").contains("ringgate_connections_open 0\n")
            });
            assert!(get(management, "/ready").contains("200 OK"), "{driver}");
        }
    }
}
