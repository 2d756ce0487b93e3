//! Phases 10 and 11 of a step that may be tried more than once, or that another step may follow: what an answer counts as, the
//! pause before the next try, and the first event of a stream (spec: data plane 6.2, resolutions 11).

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use quanta::Instant;

use super::Thread;
use super::attempt::{Answer, Failure};
use super::caller::Caller;
use super::error::GatewayError;
use super::knobs::Knobs;
use super::retry::{self, First, Verdict};
use super::settle::Settle;
use super::unified::{Bounds, Whole, is_stream, read};
use crate::http::RequestHead;
use crate::limits::{FAILED_ANSWER_IDLE, FAILED_ANSWER_MAX, HOLD_BYTES_MAX, HOLD_WAIT, PAUSE_LOOK};
use crate::net::http1::ConnectionError;
use crate::providers::Slug;
use crate::record::{End, Try};

/// The tries of one step.
pub(super) struct Tries {
    knobs: Knobs,
    /// Tries that have failed.
    failed: u8,
    /// Whether another step may follow this one.
    more: bool,
    until: Option<Instant>,
    /// When the current try began, and what was spent on connections before.
    began: Instant,
    connect: Duration,
    /// The last answer, where the provider gave one.
    last: Option<Box<Whole>>,
}

/// What came of a try.
pub(super) enum Tried {
    /// An answer that may go down as it comes.
    Answer(Box<Answer>),
    /// The step's last word: an answer of the provider's by which it failed.
    Failed(Box<Whole>),
    /// It is to be tried again.
    Again,
}

/// Why a try failed.
struct Failed {
    status: Option<u16>,
    reason: String,
    /// Whether the same may succeed later, and after how long where the provider says it.
    passes: bool,
    wait: Option<Duration>,
}

impl Tries {
    /// `more`: whether another step may follow. `until`: when the whole request must have ended.
    pub fn new(knobs: Knobs, more: bool, until: Option<Instant>, settle: &Settle<'_>) -> Self {
        Self {
            knobs,
            failed: 0,
            more,
            until,
            began: Instant::now(),
            connect: settle.timeline.connect,
            last: None,
        }
    }

    /// How long the answer's head may take. The last try of the last step waits as long as the instance allows, where there were
    /// others before it (data plane 6.2).
    pub fn patience(&self, clock: Duration) -> Duration {
        let is_last = self.knobs.tries > 1 && self.is_last_try() && !self.more;
        match is_last {
            true => clock,
            false => self.knobs.timeout.unwrap_or(clock),
        }
    }

    fn is_last_try(&self) -> bool {
        self.failed + 1 >= self.knobs.tries
    }

    /// What is to be done about what a try brought. Before it is tried again this pauses; a client that leaves meanwhile and the
    /// end of the gateway end the tries.
    pub async fn judge(
        &mut self,
        thread: &Thread,
        mut caller: Caller<'_>,
        head: &RequestHead,
        slug: Slug,
        tried: Result<Answer, Failure>,
        settle: &mut Settle<'_>,
    ) -> Result<Tried, Failure> {
        let (failed, whole, error) = match tried {
            Ok(answer) if self.is_last_try() && !self.more => {
                return Ok(Tried::Answer(Box::new(answer)));
            }
            Ok(answer) => match self
                .look_at(&mut caller, head, slug, answer, settle)
                .await?
            {
                Ok(answer) => return Ok(Tried::Answer(Box::new(answer))),
                Err((failed, Ok(whole))) => (failed, Some(whole), None),
                Err((failed, Err(error))) => (failed, None, Some(error)),
            },
            Err(Failure::Error(error)) => (Failed::without_answer(&error), None, Some(error)),
            Err(gone) => return Err(gone),
        };
        if let Some(whole) = whole {
            self.last = Some(Box::new(whole));
        }
        if failed.passes && self.pause(thread, &mut caller, &failed, settle).await? {
            return Ok(Tried::Again);
        }
        settle.record.detail = Some(failed.reason.into());
        match (self.last.take(), error) {
            (Some(last), _) => Ok(Tried::Failed(last)),
            (None, Some(error)) => Err(Failure::Error(error)),
            (None, None) => Err(GatewayError::no_answer("no answer was kept").into()),
        }
    }

    /// Whether the answer is one; else why not, and all of it as far as it could be read.
    async fn look_at(
        &self,
        caller: &mut Caller<'_>,
        head: &RequestHead,
        slug: Slug,
        mut answer: Answer,
        settle: &mut Settle<'_>,
    ) -> Result<Result<Answer, (Failed, Kept)>, Failure> {
        let status = answer.head.status();
        if status < 400 {
            let failed = match self.hold(caller, &mut answer).await? {
                Held::Answer => return Ok(Ok(answer)),
                Held::Broke(error) => {
                    let error = GatewayError::no_answer(error);
                    let failed = Failed::without_answer(&error);
                    return Ok(Err((failed, Err(Box::new(error)))));
                }
                Held::Error { told, passes } => Failed {
                    status: Some(status),
                    reason: format!("an error as first event: {told}"),
                    passes,
                    wait: None,
                },
            };
            let kept = self.keep(caller, answer, settle).await?;
            return Ok(Err((failed, kept)));
        }
        let verdict = retry::of_head(&answer.head, head, slug);
        if !self.more && verdict == Verdict::Never {
            return Ok(Ok(answer));
        }
        let kept = self.keep(caller, answer, settle).await?;
        let now = settle.record.began / 1000 + settle.began.elapsed().as_secs();
        let (body, wait) = match &kept {
            Ok(whole) => (
                &*whole.body,
                retry::stated_wait(&whole.head, &whole.body, now),
            ),
            Err(_) => (&b""[..], None),
        };
        let failed = Failed {
            status: Some(status),
            reason: format!("status {status}"),
            passes: match verdict {
                Verdict::Again => true,
                Verdict::Never => false,
                Verdict::AskBody => retry::passes(body),
            },
            wait,
        };
        Ok(Err((failed, kept)))
    }

    /// Reads a failed answer, so that its connection can be used again and it can still go down. One that is too long or breaks
    /// off is let go, with its connection.
    async fn keep(
        &self,
        caller: &mut Caller<'_>,
        answer: Answer,
        settle: &mut Settle<'_>,
    ) -> Result<Kept, Failure> {
        let bounds = Bounds {
            most: FAILED_ANSWER_MAX,
            idle: FAILED_ANSWER_IDLE,
            until: self.until,
        };
        match read(caller, answer, bounds, settle).await {
            Ok(whole) => Ok(Ok(whole)),
            Err(Failure::Error(error)) => Ok(Err(error)),
            Err(gone) => Err(gone),
        }
    }

    /// Waits for a stream's first event, and for the first byte of anything else. What came stays in the connection for whoever
    /// relays it.
    async fn hold(&self, caller: &mut Caller<'_>, answer: &mut Answer) -> Result<Held, Failure> {
        let content_type = answer.head.header("content-type").unwrap_or_default();
        let in_events = is_stream(&answer.head);
        let upstream = &mut answer.upstream;
        let patience = match self.until {
            Some(until) => HOLD_WAIT.min(until.saturating_duration_since(Instant::now())),
            None => HOLD_WAIT,
        };
        let mut expiry = Box::pin(monoio::time::sleep(patience));
        loop {
            let (bytes, whole) = match upstream.peek_body() {
                Ok(peeked) => peeked,
                Err(error) => return Ok(Held::Broke(error)),
            };
            let first = match in_events {
                true => retry::first_event(content_type, &bytes),
                false if bytes.is_empty() => First::Missing,
                false => First::Begun,
            };
            match first {
                First::Begun => return Ok(Held::Answer),
                First::Error { told, passes } => return Ok(Held::Error { told, passes }),
                First::Missing if whole || bytes.len() >= HOLD_BYTES_MAX => {
                    return Ok(Held::Answer);
                }
                First::Missing => {}
            }
            let next = poll_fn(|cx| {
                if let Poll::Ready(read) = upstream.poll_ahead(cx) {
                    return Poll::Ready(Some(Ok(read)));
                }
                if caller.poll_left(cx).is_ready() {
                    return Poll::Ready(Some(Err(Failure::ClientGone(End::ClientLeft))));
                }
                expiry.as_mut().poll(cx).map(|()| None)
            })
            .await;
            match next {
                Some(Ok(Ok(true))) => {}
                Some(Ok(Ok(false))) if bytes.is_empty() => {
                    return Ok(Held::Broke(ConnectionError::Truncated("first event")));
                }
                Some(Ok(Ok(false))) | None => return Ok(Held::Answer),
                Some(Ok(Err(error))) => return Ok(Held::Broke(error)),
                Some(Err(gone)) => return Err(gone),
            }
        }
    }

    /// Notes the try and waits for the next one; false where there is none.
    async fn pause(
        &mut self,
        thread: &Thread,
        caller: &mut Caller<'_>,
        failed: &Failed,
        settle: &mut Settle<'_>,
    ) -> Result<bool, Failure> {
        if self.is_last_try() || thread.draining.get() {
            return Ok(false);
        }
        self.failed += 1;
        let id = u128::from_be_bytes(settle.id().to_bytes());
        let random = (id as u64).wrapping_add(u64::from(self.failed));
        let pause = self.knobs.pause(self.failed, random);
        let pause = pause.max(failed.wait.unwrap_or_default());
        let now = Instant::now();
        if self.until.is_some_and(|until| now + pause >= until) {
            return Ok(false);
        }
        settle.decided("try", "failed", || {
            [
                ("try", u64::from(self.failed).into()),
                ("reason", failed.reason.clone().into()),
                ("delay_ms", (pause.as_millis() as u64).into()),
            ]
        });
        settle.tried(Try {
            status: failed.status,
            reason: failed.reason.as_str().into(),
            upstream: settle.record.upstream,
            took: now.saturating_duration_since(self.began),
            pause,
        });
        let go_on = sleep(thread, caller, pause).await?;
        let connect = settle.timeline.connect;
        let elsewhere = self.began.elapsed();
        settle.timeline.wait += elsewhere.saturating_sub(connect - self.connect);
        (
            settle.timeline.sent,
            settle.timeline.uploaded,
            settle.timeline.answered,
        ) = (None, None, None);
        (self.began, self.connect) = (Instant::now(), connect);
        Ok(go_on)
    }
}

/// A failed answer, or why it could not be read.
type Kept = Result<Whole, Box<GatewayError>>;

/// What a stream begins with.
enum Held {
    /// With an answer, or it could not be told in time.
    Answer,
    Error {
        told: String,
        passes: bool,
    },
    /// With nothing: it broke off.
    Broke(ConnectionError),
}

impl Failed {
    fn without_answer(error: &GatewayError) -> Self {
        let described = error.description.as_deref();
        let told = error.detail.as_deref().or(described);
        Self {
            status: None,
            reason: told.unwrap_or(&error.message).to_owned(),
            // What the gateway itself refuses it would refuse again.
            passes: error.code == 2005,
            wait: None,
        }
    }
}

/// Sleeps; false where the gateway is being stopped, which does not wait for it.
async fn sleep(thread: &Thread, caller: &mut Caller<'_>, pause: Duration) -> Result<bool, Failure> {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        let mut look = Box::pin(monoio::time::sleep(left.min(PAUSE_LOOK)));
        let gone = poll_fn(|cx| match caller.poll_left(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => look.as_mut().poll(cx).map(|()| false),
        });
        if gone.await {
            return Err(Failure::ClientGone(End::ClientLeft));
        }
        if thread.draining.get() {
            return Ok(false);
        }
    }
}
