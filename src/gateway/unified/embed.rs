//! Embeddings: one request of the client's, and as many calls of the provider as it takes (spec: providers 18).

use bytes::Bytes;

use super::{Begun, Exchange, Refusal, Replied, Reply, unreadable, whole};
use crate::dialect::embeddings::{self, Plan, UNSUPPORTED_ENDPOINT};
use crate::dialect::exchange::{self, Handling, Sending};
use crate::dialect::failure::{Failure, Invalid};
use crate::dialect::run::{self, KeySource};
use crate::dialect::surface::{self, Way};
use crate::dialect::{Upstream, json};
use crate::gateway::error::GatewayError;

/// Headers in which providers state the tokens of an answer whose body does not.
const TOKEN_HEADERS: [&str; 2] = ["x-amzn-bedrock-input-token-count", "num_tokens"];

impl Exchange<'_, '_, '_> {
    /// The endpoint `embeddings`.
    pub(super) async fn embed(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let asked = exchange::peek(&body).map_err(unreadable)?;
        let (entry, model) = self.provider(&asked.model)?;
        let mut credential = self.credential(&entry)?;
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
        let (mut answers, mut more) = (Vec::with_capacity(plan.calls.len()), Vec::new());
        for call in std::mem::take(&mut plan.calls) {
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
            let sent = self.send(&entry, &way, &mut credential, &sending, false);
            let (answer, outgoing) = sent.await?;
            more.clear();
            whole::write_kept_headers(&answer.head, &mut more);
            let read = self.read(answer, &outgoing).await?;
            if !(200..300).contains(&read.head.status()) {
                let replied = Replied::of(&handling, &read, false);
                return Ok(self.reply(replied, false, &read.head, more));
            }
            let tokens = TOKEN_HEADERS.iter().find_map(|name| read.head.header(name));
            let tokens = tokens.and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
            if let Some(tokens) = tokens {
                plan.header_tokens = Some(plan.header_tokens.unwrap_or(0).saturating_add(tokens));
            }
            answers.push(read.body);
        }
        self.merged(plan, answers, more, credential.source()).await
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
            Ok::<_, Failure>(told.to_string().into_bytes())
        };
        let reply = match self.aside(length, merge).await? {
            Ok(body) => Reply {
                more,
                ..Reply::json(200, body)
            },
            Err(failure) => {
                self.settle.record.detail = Some(failure.message.as_str().into());
                let body = exchange::write_failure(self.dialect, &failure);
                Reply::json(failure.status, body)
            }
        };
        Ok(Begun::Reply(Box::new(reply)))
    }
}
