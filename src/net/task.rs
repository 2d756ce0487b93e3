//! Starting tasks on a data thread, with panics contained.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::limits::{PANIC_REPORTS_MAX, ROUNDS_AT_ONCE, ROUNDS_PAUSE};

static PANICS: AtomicU64 = AtomicU64::new(0);
static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs `future` on this data thread. A panic in it ends this task alone and is counted: without the catch it would end
/// the thread and every connection on it.
#[allow(clippy::disallowed_methods)]
pub fn spawn(name: &'static str, future: impl Future<Output = ()> + 'static) {
    // Boxed here: within the task the future would take its room twice, before and after it is moved.
    let contained = Contained(Box::pin(future));
    monoio::spawn(async move {
        if contained.await.is_err() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            report(format!("task {name} ended by a panic"));
        }
    });
}

/// Panics contained so far, over all threads.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Takes the panic reports gathered since the last call, for the control thread to print.
pub fn take_panic_reports() -> Vec<String> {
    std::mem::take(
        &mut *REPORTS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()),
    )
}

/// Keeps panics of data threads (named `data-N`) off the terminal: a data thread never writes to one. What they say is
/// kept for [`take_panic_reports`].
pub fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| name.starts_with("data-")) {
            report(format!("{}: {info}", thread.name().unwrap_or_default()));
        } else {
            default(info);
        }
    }));
}

fn report(text: String) {
    let mut reports = REPORTS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if reports.len() < PANIC_REPORTS_MAX {
        reports.push(text);
    }
}

/// Keeps a loop over reads and writes from keeping its thread.
#[derive(Debug, Default)]
pub struct Rounds(u32);

impl Rounds {
    /// Called once a round; `waited` tells whether anything else could run meanwhile.
    pub async fn next(&mut self, waited: bool) {
        self.0 = if waited { 0 } else { self.0 + 1 };
        if self.0 >= ROUNDS_AT_ONCE {
            self.0 = 0;
            // Boxed: a timer is aligned to two lines of the cache, and with it would be every future that may wait here.
            Box::pin(monoio::time::sleep(ROUNDS_PAUSE)).await;
        }
    }
}

struct Contained<F>(Pin<Box<F>>);

impl<F: Future<Output = ()>> Future for Contained<F> {
    type Output = std::thread::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
