//! `POST ai/run`: the model and its input in one envelope (spec: data plane 1.2).

use bytes::Bytes;
use serde_json::Value;

use super::{Begun, Exchange, Refusal, route, unreadable};
use crate::dialect::exchange::{Handling, Sending};
use crate::dialect::failure::Invalid;
use crate::dialect::run::{self, Asked, Run};
use crate::dialect::surface;
use crate::dialect::{Dialect, json};
use crate::providers::Slug;

/// What is to be run, once its envelope is opened.
pub(super) enum Work {
    /// Input of a model of Workers AI, which goes up as it is.
    Own {
        asked: String,
        input: Value,
        stream: bool,
    },
    Conversation(Dialect, Value),
    Embeddings(Value),
}

impl Exchange<'_, '_, '_> {
    /// Reads the envelope and does what the input asks for.
    pub(super) async fn run(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let length = body.len();
        let read = move || run::read(json::request(&body)?);
        let run = self.aside(length, read).await?.map_err(unreadable)?;
        let entry = match route::named(&run.model) {
            Some(_) => None,
            None => Some(self.provider(&run.model)?.0),
        };
        let (asked, options) = (run.model.clone(), run.options.clone());
        let stream = run.is_streamed();
        let work = work(entry.as_ref().map(|entry| entry.provider.slug()), run)?;
        if !options.background {
            return self.work(work).await;
        }
        if stream {
            let told = "What runs in the background has no stream: leave out input.stream";
            return Err(Invalid::unsupported("input.stream", told).into());
        }
        // What nobody pays for is refused now.
        if let Some(entry) = &entry {
            self.credential(entry)?;
        }
        self.in_background(&asked, work, length, options).await
    }

    /// Does it.
    pub(super) async fn work(&mut self, work: Work) -> Result<Begun, Refusal> {
        match work {
            Work::Own {
                asked,
                input,
                stream,
            } => self.own(&asked, &input, stream).await,
            Work::Conversation(dialect, body) => {
                (self.run, self.dialect) = (true, dialect);
                self.generate(body.to_string().into()).await
            }
            Work::Embeddings(body) => {
                self.run = true;
                self.embed(body.to_string().into()).await
            }
        }
    }

    async fn own(&mut self, asked: &str, input: &Value, stream: bool) -> Result<Begun, Refusal> {
        let (entry, model) = self.provider(asked)?;
        let mut credential = self.credential(&entry)?;
        let body = Bytes::from(input.to_string());
        if let Some(hit) = self
            .recall("run", &entry, model, &credential, &body)
            .await?
        {
            return Ok(Begun::Recalled(hit));
        }
        let way = surface::running(entry.provider.slug(), model);
        let sending = Sending {
            body,
            headers: Vec::new(),
            changes: Default::default(),
            handling: Handling::untouched(&way),
        };
        let sent = self.send(&entry, &way, &mut credential, &sending, stream);
        let sent = sent.await?;
        // Its answer has the envelope already.
        let paid = credential.source();
        self.take(sent, &sending.handling, stream, paid).await
    }
}

/// Where no provider is known yet, as it is a route, input is that of a conversation.
fn work(slug: Option<Slug>, run: Run) -> Result<Work, Invalid> {
    if slug == Some(Slug::WorkersAi) {
        return Ok(Work::Own {
            stream: run.is_streamed(),
            asked: run.model,
            input: Value::Object(run.input),
        });
    }
    let spoken = match slug {
        Some(Slug::Anthropic) => Dialect::Messages,
        _ => Dialect::Chat,
    };
    match run.asked(spoken) {
        Asked::Conversation(dialect, body) => Ok(Work::Conversation(dialect, body)),
        Asked::Embeddings(body) => Ok(Work::Embeddings(body)),
        Asked::Own(_) => Err(Invalid::unsupported(
            "input",
            "The input has neither messages nor prompt nor input, and other input is for models of Workers AI alone",
        )),
    }
}
