//! A data thread: its runtime, its listeners, its drain.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::aggregate::Block;
use crate::gateway::{Edge, Minted, Shared, Thread, serve};
use crate::limits::{ACCEPT_PAUSE, DRAIN_CHECK, DRAIN_IDLE, LAST_WORDS};
use crate::net::driver::{DriverChoice, Probe, Runtime};
use crate::net::mailbox::{Inbox, Mailbox, Message};
use crate::net::pool::{Pool, PoolLimits};
use crate::net::transport::Transport;
use crate::net::{deadlines, task};
use crate::record::{Counters, Ids, Record, bump};

/// What a data thread is given.
pub(super) struct Seat {
    /// Its number, also in its name.
    pub index: usize,
    /// Its own sockets and how their connections begin.
    pub listeners: Vec<(TcpListener, Edge)>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Its inbox's far end, for the answers it asks for.
    pub mailbox: Mailbox,
    /// Its inbox.
    pub inbox: Inbox,
    /// Its ring.
    pub records: rtrb::Producer<Record>,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// Its figures.
    pub figures: Arc<Block>,
    /// Which driver it may take.
    pub driver: DriverChoice,
    /// Bounds of its pool.
    pub pool: PoolLimits,
    /// Tells this start from others in request ids.
    pub run: u32,
    /// The zero of heartbeats.
    pub epoch: Instant,
}

/// Runs to the end of the drain; `ready` gets the driver, or why there is none.
pub(super) fn run(seat: Seat, ready: &SyncSender<io::Result<Probe>>) {
    let mut runtime = match Runtime::build(seat.driver) {
        Ok((runtime, probe)) => {
            // Nobody waits any more for a thread that was started again.
            let _ = ready.send(Ok(probe));
            runtime
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let whole = runtime.block_on(live(seat));
    drop(runtime);
    assert!(whole, "a task that the thread needs has ended");
}

/// False: the thread lost a task that it needs, and is to be started again.
async fn live(seat: Seat) -> bool {
    let thread = Rc::new_cyclic(|own| Thread {
        pool: Pool::new(seat.pool, seat.shared.occupancy.clone()),
        shared: seat.shared,
        mailbox: seat.mailbox,
        minted: Minted::default(),
        records: RefCell::new(seat.records),
        counters: seat.counters,
        figures: seat.figures,
        ids: RefCell::new(Ids::new(seat.index as u8, seat.run)),
        draining: Cell::new(false),
        connections: Cell::new(0),
        background: Cell::new(0),
        own: own.clone(),
    });
    let drain_until = Rc::new(Cell::new(None));
    let broken = Rc::new(Cell::new(false));
    let inbox = Vital(broken.clone());
    let edge = seat.listeners.first().map(|(_, edge)| adopting(edge));
    spawn_inbox(seat.inbox, thread.clone(), edge, drain_until.clone(), inbox);
    let (counters, epoch) = (thread.counters.clone(), seat.epoch);
    deadlines::every_second(move || {
        counters
            .heartbeat
            .store(epoch.elapsed().as_secs(), Ordering::Relaxed);
        true
    });
    let stop = Rc::new(Stop::default());
    let accepting = Rc::new(Cell::new(seat.listeners.len()));
    for (listener, edge) in seat.listeners {
        let (thread, accepting, stop) = (thread.clone(), accepting.clone(), stop.clone());
        let vital = Vital(broken.clone());
        task::spawn("accept", async move {
            let _vital = vital;
            accept(&thread, listener, edge, &stop).await;
            accepting.set(accepting.get() - 1);
        });
    }
    // Looks now and then rather than being woken: an idle second costs nothing, and a drain may be a little late.
    loop {
        let pause = if thread.draining.get() {
            DRAIN_CHECK
        } else {
            Duration::from_millis(250)
        };
        monoio::time::sleep(pause).await;
        if broken.get() {
            // One that accepts or hears nothing any more would still be given its share of the connections.
            stop.all();
            deadlines::shut_all();
            monoio::time::sleep(LAST_WORDS).await;
            return false;
        }
        let late = drain_until
            .get()
            .is_some_and(|until| Instant::now() >= until);
        let busy = accepting.get() + thread.connections.get() + thread.background.get() > 0;
        if thread.draining.get() && (late || !busy) {
            return true;
        }
    }
}

/// Held by a task that the thread needs: ended by a panic it takes the thread along, which control starts again.
struct Vital(Rc<Cell<bool>>);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(true);
        }
    }
}

fn spawn_inbox(
    inbox: Inbox,
    thread: Rc<Thread>,
    edge: Option<Rc<Edge>>,
    drain_until: Rc<Cell<Option<Instant>>>,
    vital: Vital,
) {
    task::spawn("inbox", async move {
        let _vital = vital;
        let ended = inbox
            .run(|message| match message {
                Message::Drain(bound) => {
                    thread.draining.set(true);
                    drain_until.set(Some(Instant::now() + bound));
                    deadlines::hasten_idle(DRAIN_IDLE);
                }
                Message::Adopt(connection) => adopt(&thread, connection, edge.as_ref()),
                Message::Run(work) => work(),
                Message::Reply { .. } => {}
            })
            .await;
        // Without its bell the thread would never hear of a drain.
        if let Err(error) = ended {
            panic!("the doorbell failed: {error}");
        }
    });
}

/// How a connection begins that control hands over.
fn adopting(edge: &Edge) -> Rc<Edge> {
    Rc::new(Edge {
        tls: None,
        proxy_protocol: true,
        ..edge.clone()
    })
}

fn adopt(thread: &Rc<Thread>, connection: std::net::TcpStream, edge: Option<&Rc<Edge>>) {
    let transport = connection
        .set_nonblocking(true)
        .and_then(|()| monoio::net::TcpStream::from_std(connection))
        .and_then(Transport::new);
    match (transport, edge) {
        (Ok(transport), Some(edge)) => {
            task::spawn("connection", serve(thread.clone(), transport, edge.clone()));
        }
        _ => bump(&thread.counters.accept_errors, 1),
    }
}

/// Ends the accepts of a thread that is given up. They are dropped while the runtime still runs, which takes them back: an
/// accept left behind in the kernel would get the next connection instead of the thread that follows on the same socket.
#[derive(Default)]
struct Stop {
    stopped: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Stop {
    fn all(&self) {
        self.stopped.set(true);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// `accept`, or `None` once stopped.
    async fn or<T>(&self, accept: impl Future<Output = T>) -> Option<T> {
        let mut accept = std::pin::pin!(accept);
        poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(None);
            }
            let polled = accept.as_mut().poll(cx).map(Some);
            let mut waiting = self.waiting.borrow_mut();
            if polled.is_pending() && !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            polled
        })
        .await
    }
}

async fn accept(thread: &Rc<Thread>, listener: TcpListener, edge: Edge, stop: &Stop) {
    let edge = Rc::new(edge);
    let Ok(listener) = monoio::net::TcpListener::from_std(listener) else {
        bump(&thread.counters.accept_errors, 1);
        return;
    };
    while let Some(accepted) = stop.or(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => match Transport::new(stream) {
                Ok(transport) => {
                    task::spawn("connection", serve(thread.clone(), transport, edge.clone()));
                }
                // The client was gone before it was greeted.
                Err(_) => bump(&thread.counters.accept_errors, 1),
            },
            // A drain shuts the socket down, which ends an armed accept and nothing else does.
            Err(_) if thread.draining.get() => return,
            Err(_) => {
                bump(&thread.counters.accept_errors, 1);
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
