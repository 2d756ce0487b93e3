//! How another thread wakes a data thread.
//!
//! monoio's wakers must not leave their thread: waking one from outside panics or is lost. So a data thread owns an inbox
//! behind a doorbell, a socket that one of its own tasks reads; whoever has something for it queues a message and writes
//! one byte, unless the bell is already rung.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::AsyncReadRent;

use super::task::Rounds;
use crate::limits::MAILBOX_MESSAGES_MAX;

/// What a data thread can be told.
pub enum Message {
    /// The answer to a [`Ticket`].
    Reply {
        /// The ticket's slot.
        slot: usize,
        /// Tells the ticket from an earlier one in the same slot.
        generation: u64,
        /// The answer.
        value: Box<dyn Any + Send>,
    },
    /// Stop taking requests; what runs has so long to finish.
    Drain(Duration),
    /// A connection to serve; it begins with a PROXY protocol header.
    Adopt(std::net::TcpStream),
    /// Something to run on the data thread.
    Run(Box<dyn FnOnce() + Send>),
}

/// The far end: any thread may send.
#[derive(Clone)]
pub struct Mailbox(Arc<Shared>);

/// The near end, run by the data thread.
pub struct Inbox {
    shared: Arc<Shared>,
    bell: UnixStream,
}

struct Shared {
    queue: Mutex<VecDeque<Message>>,
    rung: AtomicBool,
    bell: UnixStream,
}

/// Makes both ends.
pub fn pair() -> io::Result<(Mailbox, Inbox)> {
    let (far, near) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    near.set_nonblocking(true)?;
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        rung: AtomicBool::new(false),
        bell: far,
    });
    Ok((Mailbox(shared.clone()), Inbox { shared, bell: near }))
}

impl Mailbox {
    /// Queues a message and rings. Never waits; a full inbox gives the message back.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        {
            let mut queue = self.0.lock();
            if queue.len() >= MAILBOX_MESSAGES_MAX {
                return Err(message);
            }
            queue.push_back(message);
        }
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // A full socket buffer means that the bell is already ringing.
            let _ = (&self.0.bell).write(&[1]);
        }
        Ok(())
    }
}

impl Inbox {
    /// Delivers messages until every [`Mailbox`] is gone. Replies go to the tickets of this thread, the rest to `on`.
    pub async fn run(self, mut on: impl FnMut(Message)) -> io::Result<()> {
        let mut bell = monoio::net::UnixStream::from_std(self.bell)?;
        let mut buffer = vec![0; 16];
        let mut rounds = Rounds::default();
        loop {
            // Whether the bell was rung before it was listened to cannot be told on io_uring.
            rounds.next(false).await;
            let (read, returned) = bell.read(buffer).await;
            if read? == 0 {
                return Ok(());
            }
            buffer = returned;
            // Cleared before the queue is emptied: a message that comes later rings again.
            self.shared.rung.store(false, Ordering::Release);
            let messages = std::mem::take(&mut *self.shared.lock());
            for message in messages {
                match message {
                    Message::Reply {
                        slot,
                        generation,
                        value,
                    } => deliver(slot, generation, value),
                    other => on(other),
                }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Message>> {
        self.queue
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A place on this thread where one answer from another thread is awaited.
pub struct Ticket {
    slot: usize,
    generation: u64,
}

/// Where to send the answer to a [`Ticket`].
pub struct ReplyAddress {
    mailbox: Mailbox,
    slot: usize,
    generation: u64,
}

impl Ticket {
    /// Reserves a place.
    pub fn take() -> Self {
        SLOTS.with_borrow_mut(|slots| {
            slots.generation += 1;
            let generation = slots.generation;
            let entry = Some((generation, Awaited::default()));
            let slot = match slots.entries.iter().position(Option::is_none) {
                Some(slot) => {
                    slots.entries[slot] = entry;
                    slot
                }
                None => {
                    slots.entries.push(entry);
                    slots.entries.len() - 1
                }
            };
            Self { slot, generation }
        })
    }

    /// Where the answer goes; `mailbox` is this thread's.
    pub fn address(&self, mailbox: &Mailbox) -> ReplyAddress {
        ReplyAddress {
            mailbox: mailbox.clone(),
            slot: self.slot,
            generation: self.generation,
        }
    }

    /// Waits for the answer; `None` when `timeout` passed first. A later answer is dropped.
    pub async fn wait(self, timeout: Duration) -> Option<Box<dyn Any + Send>> {
        let mut expiry = std::pin::pin!(monoio::time::sleep(timeout));
        poll_fn(|cx| {
            let value = SLOTS.with_borrow_mut(|slots| {
                let (_, awaited) = slots.entries[self.slot].as_mut()?;
                awaited.waker = Some(cx.waker().clone());
                awaited.value.take()
            });
            match value {
                Some(value) => Poll::Ready(Some(value)),
                None => expiry.as_mut().poll(cx).map(|()| None),
            }
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        SLOTS.with_borrow_mut(|slots| slots.entries[self.slot] = None);
    }
}

impl ReplyAddress {
    /// Sends the answer. To a thread whose inbox is full it is lost, and the ticket times out.
    pub fn reply(self, value: impl Any + Send) {
        let _ = self.mailbox.send(Message::Reply {
            slot: self.slot,
            generation: self.generation,
            value: Box::new(value),
        });
    }
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<(u64, Awaited)>>,
    generation: u64,
}

#[derive(Default)]
struct Awaited {
    value: Option<Box<dyn Any + Send>>,
    waker: Option<Waker>,
}

thread_local! {
    static SLOTS: RefCell<Slots> = RefCell::default();
}

fn deliver(slot: usize, generation: u64, value: Box<dyn Any + Send>) {
    let waker = SLOTS.with_borrow_mut(|slots| match slots.entries.get_mut(slot) {
        Some(Some((current, awaited))) if *current == generation => {
            awaited.value = Some(value);
            awaited.waker.take()
        }
        _ => None,
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::task;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn no_message_of_three_threads_is_lost() {
        const EACH: usize = 20_000;
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mailbox, inbox) = pair().expect("a pair");
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            let received = Rc::new(Cell::new(0));
            let counted = received.clone();
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let mailbox = mailbox.clone();
                    std::thread::spawn(move || {
                        for _ in 0..EACH {
                            let mut message = Message::Run(Box::new(|| ()));
                            while let Err(returned) = mailbox.send(message) {
                                message = returned;
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            runtime.block_on(async move {
                task::spawn("inbox", async move {
                    let on = move |_| counted.set(counted.get() + 1);
                    inbox.run(on).await.expect("a working bell");
                });
                while received.get() < 3 * EACH {
                    monoio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            for sender in senders {
                sender.join().expect("a sender");
            }
        }
    }

    /// Two tasks that hand each other work without end, through the doorbell as the house rule is: a chain of local wakes would
    /// keep an io_uring with deferred task work from ever looking at its sockets.
    #[test]
    fn work_handed_round_through_the_doorbell_starves_no_socket() {
        use monoio::io::AsyncReadRent;
        use std::io::Write;
        use std::sync::atomic::AtomicU64;

        fn hand_on(mailbox: Mailbox, rounds: Arc<AtomicU64>) {
            rounds.fetch_add(1, Ordering::Relaxed);
            let next = (mailbox.clone(), rounds);
            // Nobody waits for the last one.
            let _ = mailbox.send(Message::Run(Box::new(move || hand_on(next.0, next.1))));
        }

        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mailbox, inbox) = pair().expect("a pair");
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            let rounds = Arc::new(AtomicU64::new(0));
            runtime.block_on(async {
                task::spawn("inbox", async move {
                    let on = |message| match message {
                        Message::Run(work) => work(),
                        _ => unreachable!("only work is sent"),
                    };
                    inbox.run(on).await.expect("a working bell");
                });
                for _ in 0..2 {
                    hand_on(mailbox.clone(), rounds.clone());
                }
                let (near, mut far) = UnixStream::pair().expect("a pair");
                near.set_nonblocking(true).expect("set");
                let mut near = monoio::net::UnixStream::from_std(near).expect("from std");
                let writer = {
                    let rounds = rounds.clone();
                    std::thread::spawn(move || {
                        for _ in 0..100 {
                            // Only once the tasks are at it again.
                            let before = rounds.load(Ordering::Relaxed);
                            while rounds.load(Ordering::Relaxed) < before + 10 {
                                std::thread::yield_now();
                            }
                            far.write_all(b"x").expect("written");
                        }
                    })
                };
                for _ in 0..100 {
                    assert_eq!(near.read(vec![0; 1]).await.0.expect("a byte"), 1);
                }
                writer.join().expect("the writer");
            });
        }
    }

    #[test]
    fn a_ticket_gets_its_own_answer_or_times_out() {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mailbox, inbox) = pair().expect("a pair");
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            runtime.block_on(async move {
                task::spawn("inbox", async move {
                    inbox.run(|_| ()).await.expect("a working bell")
                });
                let late = Ticket::take();
                let late_address = late.address(&mailbox);
                assert!(late.wait(Duration::from_millis(10)).await.is_none());
                let ticket = Ticket::take();
                let address = ticket.address(&mailbox);
                std::thread::spawn(move || {
                    late_address.reply(1u32);
                    address.reply(2u32);
                });
                let answer = ticket
                    .wait(Duration::from_secs(20))
                    .await
                    .expect("an answer");
                assert_eq!(answer.downcast_ref::<u32>(), Some(&2));
            });
        }
    }
}
