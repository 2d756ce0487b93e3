//! One sending thread: its connections, and in the open loop its schedule.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Run;
use super::report::{Sample, Tally};
use crate::limits::{LOAD_LAG, LOAD_QUEUE_MAX, LOAD_STOP_CHECK};
use crate::net::connect::Connector;
use crate::net::deadlines::OnExpiry;
use crate::net::driver::{DriverChoice, Runtime};
use crate::net::http1::{Connection, ConnectionError};
use crate::net::{mailbox, task};

pub(super) fn run(
    shared: Arc<Run>,
    connections: usize,
    rate: Option<f64>,
    driver: DriverChoice,
) -> io::Result<Tally> {
    let (mut runtime, _) = Runtime::build(driver)?;
    let (mailbox, inbox) = mailbox::pair()?;
    runtime.block_on(async move {
        task::spawn("inbox", async move {
            // It ends with the run; a broken bell shows as names that do not resolve.
            let _ = inbox.run(|_| ()).await;
        });
        let thread = Rc::new(Thread {
            connector: Connector {
                resolver: shared.resolver.clone(),
                mailbox,
                tls: shared.tls.clone(),
                proxy: None,
                health: Default::default(),
                timeout: shared.job.timeout,
            },
            shared,
            tally: RefCell::default(),
            working: Cell::new(connections),
            due: RefCell::default(),
            waiting: RefCell::default(),
            scheduled: Cell::new(rate.is_some()),
            ended: Cell::new(None),
        });
        if let Some(rate) = rate {
            task::spawn("schedule", schedule(thread.clone(), rate));
        }
        for _ in 0..connections {
            let thread = thread.clone();
            task::spawn("worker", async move {
                let _working = Working(thread.clone());
                work(&thread).await;
            });
        }
        poll_fn(|cx| {
            if thread.working.get() == 0 {
                return Poll::Ready(());
            }
            thread.ended.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        Ok(thread.tally.take())
    })
}

struct Thread {
    shared: Arc<Run>,
    connector: Connector,
    tally: RefCell<Tally>,
    /// Workers still at it.
    working: Cell<usize>,
    /// When the requests that no worker took yet were due.
    due: RefCell<VecDeque<Instant>>,
    waiting: RefCell<Vec<Waker>>,
    /// Whether requests are sent on schedule.
    scheduled: Cell<bool>,
    ended: Cell<Option<Waker>>,
}

struct Working(Rc<Thread>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.set(self.0.working.get() - 1);
        if let Some(waker) = self.0.ended.take() {
            waker.wake();
        }
    }
}

/// Lets requests fall due. The timer has a grain of a millisecond and fires late rather than early: a request counts from
/// the moment it was let go, unless that was later than the grain explains; then from the moment it was due.
async fn schedule(thread: Rc<Thread>, rate: f64) {
    let begin = Instant::now();
    let due_at = |index: u64| begin + Duration::from_secs_f64(index as f64 / rate);
    let mut index = 0;
    'run: loop {
        let now = Instant::now();
        while due_at(index) <= now {
            if !thread.shared.take() {
                break 'run;
            }
            let lag = now.saturating_duration_since(due_at(index));
            let from = if lag > LOAD_LAG { due_at(index) } else { now };
            let mut due = thread.due.borrow_mut();
            if due.len() >= LOAD_QUEUE_MAX {
                thread
                    .tally
                    .borrow_mut()
                    .failed("not sent: queue full".to_owned());
            } else {
                due.push_back(from);
            }
            index += 1;
        }
        wake_waiting(&thread);
        let pause = due_at(index).saturating_duration_since(Instant::now());
        monoio::time::sleep(pause.min(LOAD_STOP_CHECK)).await;
        if thread.shared.stopping.load(Ordering::Relaxed) {
            thread.due.borrow_mut().clear();
            break;
        }
    }
    thread.scheduled.set(false);
    wake_waiting(&thread);
}

fn wake_waiting(thread: &Thread) {
    for waker in thread.waiting.take() {
        waker.wake();
    }
}

async fn work(thread: &Thread) {
    let open = thread.scheduled.get();
    let mut connection = None;
    loop {
        let from = if open {
            match next_due(thread).await {
                Some(from) => from,
                None => return,
            }
        } else if thread.shared.take() {
            Instant::now()
        } else {
            return;
        };
        let outcome = exchange(thread, &mut connection, from).await;
        note(thread, from, outcome);
    }
}

/// The next request of the schedule; `None` when it has ended.
async fn next_due(thread: &Thread) -> Option<Instant> {
    poll_fn(|cx| {
        if let Some(from) = thread.due.borrow_mut().pop_front() {
            return Poll::Ready(Some(from));
        }
        if !thread.scheduled.get() {
            return Poll::Ready(None);
        }
        thread.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    })
    .await
}

fn note(thread: &Thread, from: Instant, outcome: Result<Sample, String>) {
    let shared = &thread.shared;
    let counted = from >= shared.counted_from;
    match outcome {
        Ok(sample) => {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared.events.fetch_add(sample.events, Ordering::Relaxed);
            if counted {
                thread.tally.borrow_mut().answered(&sample);
            }
        }
        Err(kind) => {
            shared.errors.fetch_add(1, Ordering::Relaxed);
            if counted {
                thread.tally.borrow_mut().failed(kind);
            }
        }
    }
}

/// One request on the worker's connection, or on a new one.
async fn exchange(
    thread: &Thread,
    slot: &mut Option<Connection>,
    from: Instant,
) -> Result<Sample, String> {
    let job = &thread.shared.job;
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => match thread.connector.connect(&job.origin).await {
            Ok((connection, _)) => connection,
            Err(error) => return Err(format!("connect: {error}")),
        },
    };
    connection
        .transport()
        .arm_deadline(job.timeout, OnExpiry::ShutBoth);
    let result = answer(thread, &mut connection, from).await;
    let expired = connection.expired();
    connection.transport().disarm_deadline();
    let answered = matches!(result, Ok(_) | Err(Failure::Status(_)));
    let sample = result.map_err(|error| match error {
        Failure::Status(status) => format!("status {status}"),
        Failure::Connection(_) if expired => "timeout".to_owned(),
        Failure::Connection(ConnectionError::TimedOut(_)) => "timeout".to_owned(),
        Failure::Connection(ConnectionError::Truncated(_)) | Failure::Truncated => {
            "truncated".to_owned()
        }
        Failure::Connection(_) => "connection".to_owned(),
    });
    if answered && job.keep_alive && connection.reusable() {
        *slot = Some(connection);
    }
    sample
}

enum Failure {
    Status(u16),
    Connection(ConnectionError),
    Truncated,
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

async fn answer(
    thread: &Thread,
    connection: &mut Connection,
    from: Instant,
) -> Result<Sample, Failure> {
    let job = &thread.shared.job;
    connection
        .write(job.bytes.clone())
        .await
        .map_err(ConnectionError::from)?;
    let head = connection.response_head(job.method).await?;
    let events = head
        .header("content-type")
        .is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let mut sample = Sample {
        first_byte: from.elapsed(),
        ..Sample::default()
    };
    let mut tail = Tail::default();
    let mut last_event: Option<Instant> = None;
    while let Some(piece) = connection.body_chunk().await? {
        sample.bytes += piece.len() as u64;
        let ended = tail.take(&piece);
        if events && ended > 0 {
            let now = Instant::now();
            sample.events += ended;
            sample.delays.extend(delays(&piece, SystemTime::now()));
            match last_event {
                None => sample.first_event = Some(now.saturating_duration_since(from)),
                Some(last) => sample
                    .gaps
                    .push(now.saturating_duration_since(last).as_micros() as u64),
            }
            last_event = Some(now);
        }
    }
    if !(200..300).contains(&head.status()) {
        return Err(Failure::Status(head.status()));
    }
    if events
        && job
            .last
            .is_some_and(|last| memchr::memmem::find(&tail.bytes, last).is_none())
    {
        return Err(Failure::Truncated);
    }
    sample.latency = from.elapsed();
    Ok(sample)
}

/// How late the events of a piece came that tell when they were due, in microseconds. A stamp that two pieces share is
/// left out.
fn delays(piece: &[u8], now: SystemTime) -> impl Iterator<Item = u64> {
    const STAMP: &[u8] = b": due ";
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    memchr::memmem::find_iter(piece, STAMP).filter_map(move |at| {
        let (digits, _) = piece[at + STAMP.len()..].split_at_checked(16)?;
        let due: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some((now.as_micros() as u64).saturating_sub(due))
    })
}

/// The last bytes of a body: enough to see how it ended.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    const KEPT: usize = 256;

    /// Takes a piece; how many events ended in it.
    fn take(&mut self, piece: &[u8]) -> u64 {
        let straddles = self.bytes.last() == Some(&b'\n') && piece.first() == Some(&b'\n');
        let ended = memchr::memmem::find_iter(piece, b"\n\n").count() as u64 + u64::from(straddles);
        self.bytes
            .extend_from_slice(&piece[piece.len().saturating_sub(Self::KEPT)..]);
        let excess = self.bytes.len().saturating_sub(Self::KEPT);
        self.bytes.drain(..excess);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_how_late_an_event_is() {
        let piece =
            b": due 1767225600000100\ndata: a\n\n: due 1767225600000300\ndata: b\n\n: due 17672";
        let now = UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_400);
        assert_eq!(delays(piece, now).collect::<Vec<_>>(), [300, 100]);
    }

    #[test]
    fn events_are_counted_across_cuts() {
        let mut tail = Tail::default();
        let counts: Vec<u64> = ["data: a\n", "\ndata: b\n\nda", "ta: [DONE]\n\n"]
            .iter()
            .map(|piece| tail.take(piece.as_bytes()))
            .collect();
        assert_eq!(counts, [0, 2, 1]);
        assert!(tail.bytes.ends_with(b"data: [DONE]\n\n"));
        tail.take(&[b'x'; 1000]);
        assert_eq!(tail.bytes.len(), Tail::KEPT);
    }
}
