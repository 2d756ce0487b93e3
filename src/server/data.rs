//! A data thread: its runtime, its listeners, its drain.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crate::gateway::{Edge, Shared, Thread, serve};
use crate::limits::{ACCEPT_PAUSE, DRAIN_CHECK, DRAIN_IDLE};
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
    runtime.block_on(live(seat));
}

async fn live(seat: Seat) {
    let thread = Rc::new(Thread {
        shared: seat.shared,
        pool: Pool::new(seat.pool),
        mailbox: seat.mailbox,
        records: RefCell::new(seat.records),
        counters: seat.counters,
        ids: RefCell::new(Ids::new(seat.index as u8, seat.run)),
        draining: Cell::new(false),
        connections: Cell::new(0),
    });
    let drain_until = Rc::new(Cell::new(None));
    spawn_inbox(seat.inbox, thread.clone(), drain_until.clone());
    let (counters, epoch) = (thread.counters.clone(), seat.epoch);
    deadlines::every_second(move || {
        counters
            .heartbeat
            .store(epoch.elapsed().as_secs(), Ordering::Relaxed);
        true
    });
    let accepting = Rc::new(Cell::new(seat.listeners.len()));
    for (listener, edge) in seat.listeners {
        let (thread, accepting) = (thread.clone(), accepting.clone());
        task::spawn("accept", async move {
            accept(&thread, listener, edge).await;
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
        let late = drain_until
            .get()
            .is_some_and(|until| Instant::now() >= until);
        if thread.draining.get() && (late || accepting.get() == 0 && thread.connections.get() == 0)
        {
            return;
        }
    }
}

fn spawn_inbox(inbox: Inbox, thread: Rc<Thread>, drain_until: Rc<Cell<Option<Instant>>>) {
    task::spawn("inbox", async move {
        let ended = inbox
            .run(|message| match message {
                Message::Drain(bound) => {
                    thread.draining.set(true);
                    drain_until.set(Some(Instant::now() + bound));
                    deadlines::hasten_idle(DRAIN_IDLE);
                }
                Message::Run(work) => work(),
                Message::Reply { .. } => {}
            })
            .await;
        // Without its bell the thread would never hear of a drain; a panic is counted, reported and seen.
        if let Err(error) = ended {
            panic!("the doorbell failed: {error}");
        }
    });
}

async fn accept(thread: &Rc<Thread>, listener: TcpListener, edge: Edge) {
    let edge = Rc::new(edge);
    let Ok(listener) = monoio::net::TcpListener::from_std(listener) else {
        bump(&thread.counters.accept_errors, 1);
        return;
    };
    loop {
        match listener.accept().await {
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
