//! Threads for work that would hold up a data thread: large bodies that are parsed and written anew. They run beside the data
//! threads at a lower priority, and answer through the mailbox of who asked.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use super::mailbox::{Mailbox, Ticket};
use crate::limits::{HELPED_PATIENCE, HELPERS_QUEUE_MAX};

type Work = Box<dyn FnOnce() + Send>;

/// The threads' queue.
pub struct Helpers(SyncSender<Work>);

/// The work panicked, or its thread hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work on a large body did not end")]
pub struct Unhelped;

impl Helpers {
    /// Starts so many threads.
    pub fn start(threads: usize) -> io::Result<Self> {
        let (queue, works) = sync_channel(HELPERS_QUEUE_MAX);
        let works = Arc::new(Mutex::new(works));
        for index in 0..threads {
            let works = works.clone();
            std::thread::Builder::new()
                .name(format!("helper-{index}"))
                .spawn(move || help(&works))?;
        }
        Ok(Self(queue))
    }

    /// Has the work done and waits for what comes of it. Where as much waits already as may, the caller's own thread does it.
    pub async fn run<T: Send + 'static>(
        &self,
        mailbox: &Mailbox,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unhelped> {
        let ticket = Ticket::take();
        let address = ticket.address(mailbox);
        let boxed: Work = Box::new(move || address.reply(work()));
        match self.0.try_send(boxed) {
            Ok(()) => {}
            Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => work(),
        }
        let answer = ticket.wait(HELPED_PATIENCE).await.ok_or(Unhelped)?;
        answer
            .downcast()
            .map(|answer| *answer)
            .map_err(|_| Unhelped)
    }
}

fn help(works: &Mutex<Receiver<Work>>) {
    // SAFETY: nice(2) takes a number and touches no memory; on Linux it is the calling thread's alone. Where it is refused, the
    // priority stays.
    unsafe { libc::nice(10) };
    loop {
        let next = works
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .recv();
        let Ok(work) = next else { return };
        // Who waits for it learns by its clock; the panic hook has told the rest.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::{mailbox, task};

    #[test]
    fn work_is_done_elsewhere_and_a_full_queue_does_not_lose_it() {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            let helpers = Helpers::start(1).expect("a thread");
            let (mailbox, inbox) = mailbox::pair().expect("a mailbox");
            runtime.block_on(async {
                task::spawn("inbox", async move {
                    let _ = inbox.run(|_| ()).await;
                });
                let here = std::thread::current().id();
                let there = helpers.run(&mailbox, || std::thread::current().id()).await;
                assert_ne!(there, Ok(here));
                let (hold, held) = std::sync::mpsc::channel::<()>();
                let mut waiting = 0;
                let (begin, begun) = std::sync::mpsc::channel::<()>();
                let blocked: Work = Box::new(move || {
                    drop(begin);
                    assert!(held.recv().is_err());
                });
                assert!(helpers.0.send(blocked).is_ok());
                // Taken up later, it would free a place in the queue.
                assert!(begun.recv().is_err());
                while helpers.0.try_send(Box::new(|| ())).is_ok() {
                    waiting += 1;
                }
                assert!(waiting <= HELPERS_QUEUE_MAX + 1);
                assert_eq!(helpers.run(&mailbox, || 7).await, Ok(7));
                drop(hold);
            });
        }
    }
}
