//! The body of `POST /ai/run` and its answers (spec: data plane 1.2).

use serde_json::{Map, Value, json};

use super::Dialect;
use super::failure::Invalid;
use super::fields::Fields;

/// What is to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// `author/model` or `@cf/author/model`.
    pub model: String,
    /// The model's input.
    pub input: Map<String, Value>,
    /// How.
    pub options: Options,
}

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The answer is not waited for.
    pub background: bool,
    /// Where the outcome is posted to.
    pub webhook: Option<String>,
    /// The outcome is wrapped as a message: `{"text": ...}`.
    pub webhook_as_text: bool,
}

/// What a model's input asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// A conversation, in this dialect.
    Conversation(Dialect, Value),
    /// Embeddings, as at OpenAI.
    Embeddings(Value),
    /// Neither; only the model itself can tell.
    Own(Value),
}

/// Whose key paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The caller's, sent along or stored.
    Own,
    /// The gateway's.
    House,
}

/// Reads the body.
pub fn read(body: Value) -> Result<Run, Invalid> {
    let mut fields = Fields::of(body, "")?;
    let model = fields.required_text("model")?;
    let input = fields.object("input")?;
    let input = input.ok_or_else(|| Invalid::at("input", "input is missing"))?;
    let options = match fields.inner("options")? {
        Some(inner) => read_options(inner)?,
        None => Options::default(),
    };
    Ok(Run {
        model,
        input,
        options,
    })
}

fn read_options(mut fields: Fields) -> Result<Options, Invalid> {
    let background = fields.truth("background")?.unwrap_or(false);
    let webhook = fields.text("webhookUrl")?;
    let format = fields.text("webhookFormat")?;
    let place = |field: &str| format!("options.{field}");
    if let Some(url) = &webhook {
        if !background {
            return Err(Invalid::at(
                place("webhookUrl"),
                "options.webhookUrl has a meaning with options.background: true only",
            ));
        }
        if !url
            .get(..8)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
        {
            return Err(Invalid::at(
                place("webhookUrl"),
                "options.webhookUrl must be an https address",
            ));
        }
    }
    if format.is_some() && webhook.is_none() {
        return Err(Invalid::at(
            place("webhookFormat"),
            "options.webhookFormat has a meaning beside options.webhookUrl only",
        ));
    }
    let webhook_as_text = match format.as_deref() {
        None | Some("raw") => false,
        Some("chat") => true,
        Some(other) => {
            return Err(Invalid::at(
                place("webhookFormat"),
                format!("{other:?} is neither raw nor chat"),
            ));
        }
    };
    Ok(Options {
        background,
        webhook,
        webhook_as_text,
    })
}

impl Run {
    /// Whether the answer comes as events.
    pub fn is_streamed(&self) -> bool {
        self.input.get("stream") == Some(&Value::Bool(true))
    }

    /// What the input asks for, with the model's name in it. `provider` is the dialect that the model's provider speaks: Anthropic's
    /// models are asked in their own.
    pub fn asked(self, provider: Dialect) -> Asked {
        let mut input = self.input;
        let embeds = self.model.contains("embed");
        input.insert("model".to_owned(), Value::String(self.model));
        if input.contains_key("messages") {
            let dialect = match provider {
                Dialect::Messages => Dialect::Messages,
                _ => Dialect::Chat,
            };
            return Asked::Conversation(dialect, Value::Object(input));
        }
        if let Some(prompt) = input.remove("prompt") {
            if !prompt.is_string() {
                input.insert("prompt".to_owned(), prompt);
                return Asked::Own(Value::Object(input));
            }
            input.insert(
                "messages".to_owned(),
                json!([{"role": "user", "content": prompt}]),
            );
            return Asked::Conversation(Dialect::Chat, Value::Object(input));
        }
        match input.contains_key("input") {
            true if embeds => Asked::Embeddings(Value::Object(input)),
            true => Asked::Conversation(Dialect::Responses, Value::Object(input)),
            false => Asked::Own(Value::Object(input)),
        }
    }
}

/// The answer of a Workers AI model.
pub fn result(result: Value) -> Value {
    json!({"result": result, "success": true, "errors": [], "messages": []})
}

/// The answer of another provider's language model: its body, and whose key paid.
pub fn with_key_source(mut body: Value, source: KeySource) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("gatewayMetadata".to_owned(), metadata(source));
    }
    body
}

/// The answer of another provider's media model.
pub fn completed(result: Value, source: KeySource) -> Value {
    json!({"state": "Completed", "result": result, "gatewayMetadata": metadata(source)})
}

fn metadata(source: KeySource) -> Value {
    let name = match source {
        KeySource::Own => "BYOK",
        KeySource::House => "Unified",
    };
    json!({"keySource": name})
}
