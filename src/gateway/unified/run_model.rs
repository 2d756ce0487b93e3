//! `POST ai/run`: the model and its input in one envelope (spec: data plane 1.2).

use bytes::Bytes;

use super::{Begun, Exchange, Refusal, unreadable};
use crate::dialect::exchange::{self, Handling, Sending};
use crate::dialect::failure::Invalid;
use crate::dialect::run::{self, Asked};
use crate::dialect::surface;
use crate::dialect::{Dialect, json};
use crate::providers::Slug;

impl Exchange<'_, '_, '_> {
    /// Reads the envelope and does what the input asks for.
    pub(super) async fn run(&mut self, body: Bytes) -> Result<Begun, Refusal> {
        let length = body.len();
        let read = move || run::read(json::request(&body)?);
        let run = self.aside(length, read).await?.map_err(unreadable)?;
        if run.options.background {
            return Err(Invalid::unsupported(
                "options.background",
                "Runs are answered at once: leave out options.background",
            )
            .into());
        }
        let (entry, model) = self.provider(&run.model)?;
        let slug = entry.provider.slug();
        if slug == Slug::WorkersAi {
            let input = serde_json::Value::Object(run.input.clone());
            let (model, stream) = (model.to_owned(), run.is_streamed());
            let mut credential = self.credential(&entry)?;
            let way = surface::running(slug, &model);
            let sending = Sending {
                body: input.to_string().into(),
                headers: Vec::new(),
                changes: Default::default(),
                handling: Handling::untouched(&way),
            };
            let sent = self.send(&entry, &way, &mut credential, &sending, stream);
            let (answer, outgoing) = sent.await?;
            // Its answer has the envelope already.
            let paid = credential.source();
            return self
                .take(answer, &outgoing, &sending.handling, stream, paid)
                .await;
        }
        let spoken = match slug {
            Slug::Anthropic => Dialect::Messages,
            _ => Dialect::Chat,
        };
        self.run = true;
        match run.asked(spoken) {
            Asked::Conversation(dialect, body) => {
                self.dialect = dialect;
                self.generate(body.to_string().into()).await
            }
            Asked::Embeddings(body) => self.embed(body.to_string().into()).await,
            Asked::Own(_) => {
                let told = "The input has neither messages nor prompt nor input, and other input is for models of Workers AI alone";
                let invalid = Invalid::unsupported("input", told);
                Ok(Begun::Reply(Box::new(super::Reply::json(
                    400,
                    exchange::write_invalid(self.dialect, &invalid),
                ))))
            }
        }
    }
}
