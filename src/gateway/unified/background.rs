//! A run that nobody waits for: it is answered at once and goes on as a task of its own, and its outcome is posted once where the
//! client asked for that (spec: data plane 1.2).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quanta::Instant;
use serde_json::Value;

use super::run_model::Work;
use super::{Admitted, Begun, Exchange, Refusal, Reply};
use crate::dialect::exchange;
use crate::dialect::failure::Invalid;
use crate::dialect::run::{self, Options, Outcome};
use crate::gateway::Thread;
use crate::gateway::attempt::Failure;
use crate::gateway::body::Share;
use crate::gateway::caller::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::knobs::Knobs;
use crate::gateway::media::Webhook;
use crate::gateway::recall;
use crate::gateway::settle::{Handed, Settle};
use crate::http::RequestHead;
use crate::limits::{
    BACKGROUND_RUN_WAIT, BACKGROUND_RUNS_MAX, BACKGROUND_RUNS_OF_THREAD, HELPED_BYTES,
    WEBHOOK_BYTES_MAX,
};
use crate::net::task;
use crate::record::End;
use crate::snapshot::{Clocks, Settings};

impl Exchange<'_, '_, '_> {
    /// Begins the run and answers that it has begun. `length` is that of its request.
    pub(super) async fn in_background(
        &mut self,
        asked: &str,
        work: Work,
        length: usize,
        options: Options,
    ) -> Result<Begun, Refusal> {
        if let Some(url) = &options.webhook {
            let (thread, settings) = (self.thread, self.settings);
            let webhook = Webhook {
                thread,
                settings,
                url,
            };
            let checked = self.caller.unless_left(webhook.check()).await?;
            checked.map_err(|reason| {
                let told = format!("options.webhookUrl cannot be used: {reason}");
                Invalid::at("options.webhookUrl", told)
            })?;
        }
        let place = Place::take(self.thread).ok_or_else(GatewayError::too_many_runs)?;
        let id = String::from_utf8_lossy(&self.settle.id().text()).into_owned();
        let reply = run::pending(&id, asked).to_string().into_bytes();
        let detached = Detached {
            place,
            head: self.head.clone(),
            admitted: self.admitted.clone(),
            handed: self.settle.hand_over(),
            asked: asked.to_owned(),
            work,
            length,
            options,
        };
        task::spawn("background run", detached.run());
        Ok(Begun::Reply(Box::new(Reply::json(202, reply))))
    }
}

/// A run without a client.
struct Detached {
    place: Place,
    head: RequestHead,
    admitted: Admitted,
    handed: Handed,
    asked: String,
    work: Work,
    length: usize,
    options: Options,
}

impl Detached {
    async fn run(self) {
        let thread: &Thread = &self.place.0;
        let settings = patient(&thread.shared.snapshot.load().settings);
        let mut settle = Settle::take_over(thread, self.handed);
        // It was let in with its client, whose share is given back.
        let mut share = Share::of(&thread.shared.buffered);
        let _ = share.grow(self.length);
        let mut exchange = Exchange {
            thread,
            settings: &settings,
            caller: Caller::Nobody,
            head: &self.head,
            admitted: &self.admitted,
            settle: &mut settle,
            dialect: super::Endpoint::Run.dialect(),
            run: false,
            knobs: Knobs::of(&self.head, &self.admitted.asked.gateway.retries),
            more: false,
        };
        let begun = exchange.work(self.work).await;
        let dialect = exchange.dialect;
        let reply = match begun {
            Ok(Begun::Reply(reply) | Begun::Failed(reply)) => *reply,
            Ok(Begun::Recalled(hit)) => Reply::json(200, hit.body()),
            Ok(Begun::Relaying(_) | Begun::Translating(_)) => {
                unreachable!("an answer that nobody waits for is read whole")
            }
            Err(Refusal::Invalid(invalid)) => {
                settle.record.detail = Some(invalid.message.as_str().into());
                Reply::json(400, exchange::write_invalid(dialect, &invalid))
            }
            Err(Refusal::Failure(Failure::Error(error))) => failed(&error, &settings, &mut settle),
            Err(Refusal::Failure(Failure::ClientGone(_))) => {
                let error = GatewayError::no_answer("the run was given up");
                failed(&error, &settings, &mut settle)
            }
        };
        settle.record.status = reply.status;
        settle.record.end = End::Complete;
        settle.timeline.relayed = Some(Instant::now());
        settle.log_answer(Some(&reply.content_type), None, None);
        if let Some(kept) = settle.kept_answer() {
            kept.copy(&reply.body);
        }
        if settle.storing.is_some() {
            let body = Bytes::copy_from_slice(&reply.body);
            recall::end_whole(reply.status, &reply.content_type, &body, &mut settle);
        }
        let Some(url) = self.options.webhook else {
            return;
        };
        let told = Told {
            id: String::from_utf8_lossy(&settle.id().text()).into_owned(),
            provider: settle.record.provider.clone(),
            model: self.asked,
            status: reply.status,
            body: reply.body,
            as_text: self.options.webhook_as_text,
        };
        let body = match told.body.len() < HELPED_BYTES {
            true => told.write(),
            false => {
                let helped = thread.shared.helpers.run(&thread.mailbox, || told.write());
                helped.await.unwrap_or_default()
            }
        };
        let webhook = Webhook {
            thread,
            settings: &settings,
            url: &url,
        };
        let posted = match webhook.post(&body).await {
            Ok(status) => format!("the webhook answered {status}"),
            Err(reason) => format!("the webhook was not reached: {reason}"),
        };
        settle.record.detail = Some(match &settle.record.detail {
            Some(detail) => format!("{detail}; {posted}").into(),
            None => posted.into(),
        });
    }
}

/// What a webhook is told.
struct Told {
    id: String,
    provider: Option<Arc<str>>,
    model: String,
    status: u16,
    body: Vec<u8>,
    as_text: bool,
}

impl Told {
    fn write(self) -> Vec<u8> {
        let large = self.body.len() > WEBHOOK_BYTES_MAX;
        let outcome = Outcome {
            id: &self.id,
            provider: self.provider.as_deref().unwrap_or_default(),
            model: &self.model,
            status: self.status,
            body: serde_json::from_slice(&self.body).unwrap_or(Value::Null),
        };
        let outcome = if large { outcome.too_large() } else { outcome };
        outcome.write(self.as_text).to_string().into_bytes()
    }
}

/// The instance's settings, with an end for what has none.
fn patient(settings: &Arc<Settings>) -> Settings {
    let total = settings.clocks.total.unwrap_or(Duration::MAX);
    Settings {
        clocks: Clocks {
            total: Some(total.min(BACKGROUND_RUN_WAIT)),
            ..settings.clocks
        },
        ..Settings::clone(settings)
    }
}

fn failed(error: &GatewayError, settings: &Settings, settle: &mut Settle<'_>) -> Reply {
    settle.note_error(error, settings.error_status);
    let status = error.status(settings.error_status);
    Reply::json(status, error.body(status))
}

/// One of the runs that may go on without a client. A drain waits for it.
struct Place(Rc<Thread>);

impl Place {
    /// `None`: as many go on as may.
    fn take(thread: &Thread) -> Option<Self> {
        let thread = thread.own.upgrade()?;
        let all = &thread.shared.background;
        if thread.background.get() >= BACKGROUND_RUNS_OF_THREAD
            || all.load(Ordering::Relaxed) >= BACKGROUND_RUNS_MAX
        {
            return None;
        }
        all.fetch_add(1, Ordering::Relaxed);
        thread.background.set(thread.background.get() + 1);
        Some(Self(thread))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.shared.background.fetch_sub(1, Ordering::Relaxed);
        self.0.background.set(self.0.background.get() - 1);
    }
}
