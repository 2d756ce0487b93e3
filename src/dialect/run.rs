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

/// A run whose answer nobody waited for, as its webhook is told.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The provider's name.
    pub provider: &'a str,
    /// The model as it was asked for.
    pub model: &'a str,
    /// The status that a client would have got.
    pub status: u16,
    /// The body that it would have got.
    pub body: Value,
}

impl Outcome<'_> {
    /// As JSON, wrapped as a message where that is wanted.
    pub fn write(self, as_text: bool) -> Value {
        let outcome = self.to_json();
        match as_text {
            true => json!({"text": format!("{outcome:#}")}),
            false => outcome,
        }
    }

    /// The same without its result, which is too large to be sent.
    pub fn too_large(self) -> Self {
        let told = "The result is too large to be sent to a webhook";
        let usage = self.usage();
        let body = json!({"error": {"code": "result_too_large", "message": told}, "usage": usage});
        Self {
            status: 500,
            body,
            ..self
        }
    }

    fn to_json(&self) -> Value {
        let failed = !(200..300).contains(&self.status);
        let (state, result, error) = match failed {
            false => ("Completed", self.result(), Value::Null),
            true => ("Failed", Value::Null, self.error()),
        };
        json!({
            "id": self.id,
            "state": state,
            "result": result,
            "error": error,
            "provider": self.provider,
            "model": self.model,
            "usage": self.usage(),
        })
    }

    /// Workers AI has an envelope around it.
    fn result(&self) -> Value {
        let enveloped = self.body.get("success").is_some();
        let result = self.body.get("result").filter(|_| enveloped);
        result.unwrap_or(&self.body).clone()
    }

    fn usage(&self) -> Value {
        let places = ["/usage", "/result/usage"];
        let usage = places.iter().find_map(|place| self.body.pointer(place));
        usage.cloned().unwrap_or(Value::Null)
    }

    /// Of whatever form the error is: every vendor's has a message, and something that tells it from others.
    fn error(&self) -> Value {
        let places = ["/error/0", "/errors/0", "/error"];
        let error = places.iter().find_map(|place| self.body.pointer(place));
        let error = error.unwrap_or(&Value::Null);
        let filled = |name: &str| error.get(name).filter(|value| !value.is_null());
        let code = filled("code").or_else(|| filled("type")).cloned();
        let message = self
            .body
            .get("description")
            .or_else(|| error.get("message"));
        json!({
            "code": code.unwrap_or_else(|| self.status.into()),
            "message": message.and_then(Value::as_str).unwrap_or("The run failed"),
        })
    }
}

/// The answer to a request that goes on without its client.
pub fn pending(id: &str, model: &str) -> Value {
    json!({"id": id, "state": "Pending", "model": model})
}

fn metadata(source: KeySource) -> Value {
    let name = match source {
        KeySource::Own => "BYOK",
        KeySource::House => "Unified",
    };
    json!({"keySource": name})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: &str, input: Value, provider: Dialect) -> Asked {
        let run = read(json!({"model": model, "input": input})).unwrap();
        run.asked(provider)
    }

    #[test]
    fn inputs_say_what_they_ask_for() {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let body = json!({"messages": messages, "max_tokens": 5, "model": "openai/gpt-5"});
        let chat = asked(
            "openai/gpt-5",
            json!({"messages": messages, "max_tokens": 5}),
            Dialect::Chat,
        );
        assert_eq!(chat, Asked::Conversation(Dialect::Chat, body));
        let body = json!({"messages": messages, "model": "anthropic/c"});
        let own = asked(
            "anthropic/c",
            json!({"messages": messages}),
            Dialect::Messages,
        );
        assert_eq!(own, Asked::Conversation(Dialect::Messages, body.clone()));
        let gemini = asked(
            "anthropic/c",
            json!({"messages": messages}),
            Dialect::Gemini,
        );
        assert_eq!(gemini, Asked::Conversation(Dialect::Chat, body.clone()));
        let prompt = asked("anthropic/c", json!({"prompt": "hi"}), Dialect::Messages);
        assert_eq!(
            prompt,
            Asked::Conversation(
                Dialect::Chat,
                json!({"model": "anthropic/c", "messages": messages})
            )
        );
        let items = asked("openai/gpt-5", json!({"input": "hi"}), Dialect::Chat);
        assert_eq!(
            items,
            Asked::Conversation(
                Dialect::Responses,
                json!({"input": "hi", "model": "openai/gpt-5"})
            )
        );
        let embeddings = asked(
            "openai/text-embedding-3-small",
            json!({"input": "hi"}),
            Dialect::Chat,
        );
        assert!(matches!(embeddings, Asked::Embeddings(_)));
        let own = asked("recraft/v3", json!({"size": "1x1"}), Dialect::Chat);
        assert_eq!(
            own,
            Asked::Own(json!({"size": "1x1", "model": "recraft/v3"}))
        );
    }

    #[test]
    fn options_agree_with_each_other() {
        let read = |options: Value| {
            read(json!({"model": "m", "input": {"stream": true}, "options": options}))
        };
        let run =
            read(json!({"background": true, "webhookUrl": "HTTPS://x/y", "webhookFormat": "chat"}))
                .unwrap();
        let expected = Options {
            background: true,
            webhook: Some("HTTPS://x/y".to_owned()),
            webhook_as_text: true,
        };
        assert_eq!(run.options, expected);
        assert!(run.is_streamed());
        assert_eq!(read(json!({})).unwrap().options, Options::default());
        for (options, place) in [
            (json!({"webhookUrl": "https://x"}), "options.webhookUrl"),
            (
                json!({"background": true, "webhookUrl": "http://x"}),
                "options.webhookUrl",
            ),
            (
                json!({"background": true, "webhookFormat": "raw"}),
                "options.webhookFormat",
            ),
            (
                json!({"background": true, "webhookUrl": "https://x", "webhookFormat": "xml"}),
                "options.webhookFormat",
            ),
            (json!({"background": "yes"}), "options.background"),
        ] {
            let refused = read(options.clone()).unwrap_err();
            assert_eq!(refused.param.as_deref(), Some(place), "{options}");
        }
        assert_eq!(
            super::read(json!({"model": "m"}))
                .unwrap_err()
                .param
                .as_deref(),
            Some("input")
        );
        assert_eq!(
            super::read(json!({"input": {}}))
                .unwrap_err()
                .param
                .as_deref(),
            Some("model")
        );
    }

    #[test]
    fn outcomes_are_told_to_webhooks() {
        let outcome = |status, body| Outcome {
            id: "i",
            provider: "openai",
            model: "openai/m",
            status,
            body,
        };
        let answer = json!({"choices": [], "usage": {"total_tokens": 3}});
        let told = json!({
            "id": "i", "state": "Completed", "result": answer, "error": null, "provider": "openai", "model": "openai/m",
            "usage": {"total_tokens": 3},
        });
        assert_eq!(outcome(200, answer.clone()).write(false), told);
        let text = outcome(200, answer.clone()).write(true);
        let text = text["text"].as_str().unwrap();
        assert!(text.contains("\n  \"state\": \"Completed\""), "{text}");
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), told);
        let large = outcome(200, answer).too_large().write(false);
        assert_eq!(large["error"]["code"], "result_too_large");
        assert_eq!(large["usage"]["total_tokens"], 3);
        let enveloped = result(json!({"response": "x", "usage": {"total_tokens": 1}}));
        let told = outcome(200, enveloped).write(false);
        assert_eq!(told["result"]["response"], "x");
        assert_eq!(told["usage"]["total_tokens"], 1);
        for (body, code, message) in [
            (
                json!({"error": {"message": "m", "type": "t", "code": null}}),
                json!("t"),
                "m",
            ),
            (
                json!({"error": {"message": "m", "type": "t", "code": "c"}}),
                json!("c"),
                "m",
            ),
            (
                json!({"type": "error", "error": {"type": "t", "message": "m"}}),
                json!("t"),
                "m",
            ),
            (
                json!({"errors": [{"code": 5007, "message": "m"}], "success": false}),
                json!(5007),
                "m",
            ),
            (
                json!({"error": [{"code": 2005, "message": "m"}], "description": "d"}),
                json!(2005),
                "d",
            ),
            (json!("?"), json!(502), "The run failed"),
        ] {
            let told = outcome(502, body.clone()).write(false);
            assert_eq!(
                (&told["state"], &told["result"]),
                (&json!("Failed"), &Value::Null)
            );
            assert_eq!(
                told["error"],
                json!({"code": code, "message": message}),
                "{body}"
            );
        }
    }

    #[test]
    fn answers_are_wrapped_as_documented() {
        let wrapped =
            json!({"result": {"response": "x"}, "success": true, "errors": [], "messages": []});
        assert_eq!(result(json!({"response": "x"})), wrapped);
        let told = with_key_source(json!({"id": "x"}), KeySource::Own);
        assert_eq!(
            told,
            json!({"id": "x", "gatewayMetadata": {"keySource": "BYOK"}})
        );
        let media = completed(json!({"image": "https://x"}), KeySource::House);
        let expected = json!({"state": "Completed", "result": {"image": "https://x"}, "gatewayMetadata": {"keySource": "Unified"}});
        assert_eq!(media, expected);
    }
}
