//! Several waits of one request at the same time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Waits for all of them, `most` at a time, and leaves in `outcomes` what each comes to, in their order. The first whose outcome
/// `ends` it is the last: those that run are dropped then, and those that wait are never begun.
pub(super) async fn together<F: Future>(
    most: usize,
    futures: impl Iterator<Item = F>,
    outcomes: &mut Vec<Option<F::Output>>,
    ends: impl Fn(&F::Output) -> bool,
) {
    let mut waiting = futures;
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    poll_fn(|cx| {
        let mut at = 0;
        loop {
            if at == running.len() {
                let next = match running.len() < most {
                    true => waiting.next(),
                    false => None,
                };
                match next {
                    Some(future) => {
                        running.push((outcomes.len(), Box::pin(future)));
                        outcomes.push(None);
                    }
                    None if running.is_empty() => return Poll::Ready(()),
                    None => return Poll::Pending,
                }
            }
            let (place, future) = &mut running[at];
            match future.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(outcome) => {
                    let ended = ends(&outcome);
                    outcomes[*place] = Some(outcome);
                    running.swap_remove(at);
                    if ended {
                        return Poll::Ready(());
                    }
                }
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::task::{Context, Waker};

    use super::*;

    /// A wait that counts those that run, and ends when its turn has come.
    struct Wait<'a> {
        name: usize,
        open: &'a RefCell<Vec<usize>>,
        running: &'a Cell<usize>,
        begun: bool,
    }

    impl Future for Wait<'_> {
        type Output = usize;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
            if !std::mem::replace(&mut self.begun, true) {
                self.running.set(self.running.get() + 1);
            }
            match self.open.borrow().contains(&self.name) {
                true => Poll::Ready(self.name),
                false => Poll::Pending,
            }
        }
    }

    impl Drop for Wait<'_> {
        fn drop(&mut self) {
            if self.begun {
                self.running.set(self.running.get() - 1);
            }
        }
    }

    #[test]
    fn so_many_run_at_once_and_outcomes_keep_their_order() {
        let (open, running) = (RefCell::new(Vec::new()), Cell::new(0));
        let wait = |name| Wait {
            name,
            open: &open,
            running: &running,
            begun: false,
        };
        let mut outcomes = Vec::new();
        let mut all = Box::pin(together(2, (0..5).map(wait), &mut outcomes, |_| false));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(&mut cx).is_pending());
        assert_eq!(running.get(), 2);
        // Not in their order; the last two in one look.
        for name in [1, 0, 2] {
            open.borrow_mut().push(name);
            assert!(all.as_mut().poll(&mut cx).is_pending());
            assert_eq!(running.get(), 2);
        }
        open.borrow_mut().extend([4, 3]);
        assert!(all.as_mut().poll(&mut cx).is_ready());
        drop(all);
        assert_eq!(outcomes, (0..5).map(Some).collect::<Vec<_>>());
        assert_eq!(running.get(), 0);
    }

    #[test]
    fn the_first_that_ends_it_stops_the_others() {
        let (open, running) = (RefCell::new(vec![1]), Cell::new(0));
        let wait = |name| Wait {
            name,
            open: &open,
            running: &running,
            begun: false,
        };
        let mut outcomes = Vec::new();
        let ends = |name: &usize| *name == 1;
        let mut all = Box::pin(together(3, (0..5).map(wait), &mut outcomes, ends));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(&mut cx).is_ready());
        drop(all);
        assert_eq!(outcomes, [None, Some(1)]);
        assert_eq!(running.get(), 0);
    }
}
