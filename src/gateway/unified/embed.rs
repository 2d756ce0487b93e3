//! Embeddings: one request of the client's, and as many calls of the provider as it takes (spec: providers 18).

use std::sync::Arc;

use bytes::Bytes;

use super::pay::Means;
use super::{Begun, Exchange, Refusal, Replied, Reply, Sent, unreadable, whole};
use crate::dialect::embeddings::{self, Plan, UNSUPPORTED_ENDPOINT};
use crate::dialect::exchange::{self, Handling, Sending};
use crate::dialect::failure::{self, Invalid};
use crate::dialect::run::{self, KeySource};
use crate::dialect::surface::{self, Way};
use crate::dialect::{Upstream, json};
use crate::gateway::attempt::Failure;
use crate::gateway::caller::Caller;
use crate::gateway::error::GatewayError;
use crate::gateway::together::together;
use crate::limits::EMBEDDING_CALLS_AT_ONCE;
use crate::snapshot::ProviderEntry;

/// Whether a provider made what it was asked for.
fn is_success(read: &whole::Whole) -> bool {
    (200..300).contains(&read.head.status())
}

/// Headers in which providers state the tokens of an answer whose body does not.
const TOKEN_HEADERS: [&str; 2] = ["x-amzn-bedrock-input-token-count", "num_tokens"];

impl Exchange<'_, '_, '_> {
    /// The endpoint `embeddings`.
    pub(super) async fn embed(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let asked = exchange::peek(&body).map_err(unreadable)?;
        let (entry, model) = self.provider(&asked.model)?;
        let mut credential = self.credential(&entry)?;
        if let Some(hit) = self
            .recall("embeddings", &entry, model, &credential, &body)
            .await?
        {
            return Ok(Begun::Recalled(hit));
        }
        let slug = entry.provider.slug();
        let way = surface::embedding_way(slug, model, &credential.site)?;
        let mut plan = match self.plan(&way, body).await? {
            Ok(plan) => plan,
            Err(invalid) if invalid.code == Some(UNSUPPORTED_ENDPOINT) => {
                return Ok(self.refused(404, &invalid));
            }
            Err(invalid) => return Err(invalid.into()),
        };
        let handling = Handling::of_embeddings(&way, !plan.is_untouched());
        self.mint(&mut credential).await?;
        let means = &credential.means;
        let calls = std::mem::take(&mut plan.calls).into_iter().map(|call| {
            let path = match call.path.strip_prefix("v1/") {
                Some(path) if credential.site.versioned => path,
                _ => &call.path,
            };
            let way = Way {
                rest: format!("{}{path}", way.rest),
                ..way.clone()
            };
            let sending = Sending {
                body: call.body.to_string().into(),
                headers: Vec::new(),
                changes: plan.changes.clone(),
                handling: handling.clone(),
            };
            let (thread, settings, head) = (self.thread, self.settings, self.head);
            let (admitted, dialect) = (self.admitted, self.dialect);
            let (knobs, more) = (self.knobs, self.more);
            let (mut settle, entry) = (self.settle.apart(), &entry);
            async move {
                let mut exchange = Exchange {
                    thread,
                    settings,
                    caller: Caller::Nobody,
                    head,
                    admitted,
                    settle: &mut settle,
                    dialect,
                    run: false,
                    knobs,
                    more,
                };
                let read = exchange.one_call(entry, &way, means, &sending).await;
                (settle, read)
            }
        });
        let mut called = Vec::new();
        let all = together(
            EMBEDDING_CALLS_AT_ONCE,
            calls,
            &mut called,
            |(_, read)| !matches!(read, Ok(read) if is_success(read)),
        );
        let here = self.caller.unless_left(all).await;
        let mut reads = Vec::with_capacity(called.len());
        for (settle, read) in called.into_iter().flatten() {
            // Also of those that were made before one failed, or before the client left.
            self.settle.add(settle);
            reads.push(read);
        }
        here?;
        let (mut answers, mut more) = (Vec::with_capacity(reads.len()), Vec::new());
        if let Some(failed) = reads
            .iter()
            .position(|read| !matches!(read, Ok(read) if is_success(read)))
        {
            let read = reads.swap_remove(failed)?;
            whole::write_kept_headers(&read.head, &mut more);
            let replied = Replied::of(&handling, &read, false);
            return Ok(self.reply(replied, false, &read.head, more));
        }
        for read in reads {
            let read = read?;
            more.clear();
            whole::write_kept_headers(&read.head, &mut more);
            let tokens = TOKEN_HEADERS.iter().find_map(|name| read.head.header(name));
            let tokens = tokens.and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
            if let Some(tokens) = tokens {
                plan.header_tokens = Some(plan.header_tokens.unwrap_or(0).saturating_add(tokens));
            }
            answers.push(read.body);
        }
        self.merged(plan, answers, more, credential.source()).await
    }

    async fn one_call(
        &mut self,
        entry: &Arc<ProviderEntry>,
        way: &Way,
        means: &Means,
        sending: &Sending,
    ) -> Result<whole::Whole, Failure> {
        match self.call(entry, way, means, sending, false).await? {
            Sent::Answer(answer, outgoing) => self.read(*answer, &outgoing).await,
            Sent::Failed(whole) => Ok(*whole),
        }
    }

    async fn plan(&self, way: &Way, body: Bytes) -> Result<Result<Plan, Invalid>, GatewayError> {
        let (length, way) = (body.len(), way.clone());
        let plan = move || {
            let upstream = Upstream {
                slug: way.rules,
                model: &way.model,
                max_output: None,
            };
            embeddings::plan(json::request(&body)?, &upstream)
        };
        self.aside(length, plan).await
    }

    async fn merged(
        &mut self,
        plan: Plan,
        answers: Vec<Vec<u8>>,
        more: Vec<u8>,
        paid: KeySource,
    ) -> Result<Begun, Refusal> {
        let length = answers.iter().map(Vec::len).sum();
        let wrapped = self.run;
        let merge = move || {
            let values = answers.iter().map(|answer| json::answer(answer));
            let merged = plan.merge(values.collect::<Result<_, _>>()?)?;
            let told = match wrapped {
                true => run::with_key_source(merged, paid),
                false => merged,
            };
            Ok::<_, failure::Failure>(told.to_string().into_bytes())
        };
        let reply = match self.aside(length, merge).await? {
            Ok(body) => Reply {
                more,
                ..Reply::json(200, body)
            },
            Err(failure) => {
                self.settle.record.detail = Some(failure.message.as_str().into());
                let body = exchange::write_failure(self.dialect, &failure);
                return Ok(self.failed(Reply::json(failure.status, body)));
            }
        };
        Ok(Begun::Reply(Box::new(reply)))
    }
}
