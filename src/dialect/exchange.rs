//! Between a client that speaks one dialect and a provider that speaks another, or the same: what goes up, and what becomes of what
//! comes back.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::changes::Changes;
use super::failure::{Failure, Invalid};
use super::neutral::{Answer, Delta, Event, Opening, PartKind, Request, ToolKind};
use super::splice::{Edits, Object, quoted};
use super::stream::{Reader, Transform, Translator, Writer};
use super::surface::{Speech, Way};
use super::{Dialect, Terms, Upstream, Written};
use super::{chat, cohere, converse, gemini, json, messages, responses};
use crate::meter;
use crate::providers::Slug;

/// What is read of a body before it is known where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// `model`, with the provider's prefix.
    pub model: String,
    /// `stream`.
    pub stream: bool,
}

/// Reads what decides about the way.
pub fn peek(body: &[u8]) -> Result<Peeked, Invalid> {
    let top = Object::read(body)?;
    let model = top.text("model").ok_or_else(|| {
        let told = match top.raw("model") {
            None => "model is missing",
            Some(_) => "model must be a string",
        };
        Invalid::at("model", told)
    })?;
    let stream = match top.raw("stream") {
        None | Some(b"false") => false,
        Some(b"true") => true,
        Some(_) => return Err(Invalid::at("stream", "stream must be true or false")),
    };
    Ok(Peeked {
        model: model.into_owned(),
        stream,
    })
}

/// Whether a body asks for its answer in events.
pub fn is_streamed(body: &[u8]) -> bool {
    Object::read(body).is_ok_and(|top| top.raw("stream") == Some(b"true"))
}

/// A request as it goes up, and what is to be done with its answer.
#[derive(Debug)]
pub struct Sending {
    /// JSON.
    pub body: Bytes,
    /// Headers that go with it.
    pub headers: Vec<(&'static str, String)>,
    /// What was changed.
    pub changes: Changes,
    /// What becomes of the answer.
    pub handling: Handling,
}

/// What becomes of a provider's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Handling {
    client: Dialect,
    rules: Slug,
    kind: Kind,
    terms: Terms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It goes down as it comes.
    Untouched,
    /// Chat, brought to what OpenAI's clients know.
    Repaired,
    /// Messages out of another platform's envelope.
    Opened(Speech),
    /// Said anew in the client's dialect.
    Translated(Speech),
}

/// What ids and times are made from where a provider gives none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Unique letters and digits.
    pub id: String,
    /// Now, in seconds since 1970.
    pub created: u64,
}

impl Seed {
    fn terms(self, model: &str) -> Terms {
        Terms {
            model: model.to_owned(),
            id: self.id,
            created: self.created,
            ..Terms::default()
        }
    }
}

impl Way {
    fn upstream(&self) -> Upstream<'_> {
        Upstream {
            slug: self.rules,
            model: &self.model,
            max_output: meter::prices::most_output(self.rules.as_str(), &self.model),
        }
    }
}

/// Whether the body is only edited: the provider speaks the client's dialect.
pub fn is_relayed(client: Dialect, way: &Way) -> bool {
    way.speech.dialect() == client
}

/// Edits a body for a provider that speaks the client's dialect; `betas` are those that the client's head asks for.
pub fn relay(way: &Way, body: &Bytes, betas: &[String], seed: Seed) -> Result<Sending, Invalid> {
    let upstream = way.upstream();
    let mut changes = Changes::default();
    let mut terms = seed.terms(&way.model);
    let (body, headers, kind) = match way.speech {
        Speech::Chat => {
            let edited = chat::edit_request(body, &upstream, &mut changes)?;
            terms.include_usage = edited.include_usage;
            let repaired = match edited.stream {
                true => chat::needs_repair(way.rules, edited.include_usage),
                false => chat::answer_needs_repair(way.rules),
            };
            let kind = if repaired {
                Kind::Repaired
            } else {
                Kind::Untouched
            };
            (edited.body.into(), Vec::new(), kind)
        }
        Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
            let platform = match way.speech {
                Speech::MessagesOnVertex => messages::Platform::Vertex,
                _ => messages::Platform::Bedrock,
            };
            let enveloped = messages::envelope(body, platform, betas, &mut changes)?;
            let kind = Kind::Opened(way.speech);
            (enveloped.body.into(), enveloped.headers, kind)
        }
        // Thoughts of other providers, from earlier turns, are taken out: the vendor refuses what it cannot verify.
        Speech::Messages => {
            let body = with_model(body, &way.model)?;
            let platform = messages::Platform::Anthropic;
            let enveloped = messages::envelope(&body, platform, betas, &mut changes)?;
            (enveloped.body.into(), enveloped.headers, Kind::Untouched)
        }
        Speech::Responses => {
            let body = with_model(body, &way.model)?;
            let body = match responses::without_foreign_reasoning(&body, &mut changes) {
                Some(cleaned) => cleaned.into(),
                None => body,
            };
            (body, Vec::new(), Kind::Untouched)
        }
        _ => (with_model(body, &way.model)?, Vec::new(), Kind::Untouched),
    };
    Ok(Sending {
        body,
        headers,
        changes,
        handling: Handling {
            client: way.speech.dialect(),
            rules: way.rules,
            kind,
            terms,
        },
    })
}

/// The body with another model; all its other bytes stay.
fn with_model(body: &Bytes, model: &str) -> Result<Bytes, Invalid> {
    let mut top = Object::read(body)?;
    if top.text("model").as_deref() == Some(model) {
        return Ok(body.clone());
    }
    top.set("model", quoted(model));
    let mut edits = Edits::default();
    top.note(&mut edits);
    Ok(edits.apply(body).into())
}

/// Reads a request that is to be said in another dialect, and what its answer has to know of it.
pub fn read(client: Dialect, body: &[u8], seed: Seed) -> Result<(Request, Terms), Invalid> {
    let body = json::request(body)?;
    let mut terms = seed.terms("");
    let request = match client {
        Dialect::Messages => messages::read_request(body),
        Dialect::Responses => {
            responses::note(&body, &mut terms);
            responses::read_request(body)
        }
        _ => {
            terms.legacy_calls = chat::speaks_legacy(&body);
            chat::read_request(body)
        }
    }?;
    terms.include_usage = request.include_usage;
    for tool in &request.tools {
        match &tool.kind {
            ToolKind::Function { name, .. } => terms.tools.push(name.clone()),
            ToolKind::Custom { name, .. } => terms.custom_tools.push(name.clone()),
            ToolKind::Hosted { .. } => {}
        }
    }
    Ok((request, terms))
}

/// Says it in the provider's dialect.
pub fn write(
    mut request: Request,
    mut terms: Terms,
    way: &Way,
    betas: &[String],
) -> Result<Sending, Invalid> {
    way.model.clone_into(&mut request.model);
    let upstream = way.upstream();
    let mut changes = Changes::default();
    let written = match way.speech {
        Speech::Chat => chat::write_request(&request, &upstream, &mut changes),
        Speech::Messages => messages::write_request(&request, &upstream, &mut changes),
        Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
            messages::write_request(&request, &upstream, &mut changes)
        }
        Speech::Gemini => gemini::write_request(&request, &upstream, &mut changes),
        Speech::Converse => converse::write_request(&request, &upstream, &mut changes),
        Speech::Cohere => cohere::write_request(&request, &upstream, &mut changes),
        Speech::Responses => Err(Invalid::at("model", "Responses are only relayed")),
    }?;
    let Written {
        body,
        mut headers,
        unwrap,
    } = written;
    if way.speech.dialect() == Dialect::Messages {
        merge_betas(&mut headers, betas);
    }
    way.model.clone_into(&mut terms.model);
    terms.unwrap = unwrap;
    Ok(Sending {
        body: body.into(),
        headers,
        changes,
        handling: Handling {
            client: request.from,
            rules: way.rules,
            kind: Kind::Translated(way.speech),
            terms,
        },
    })
}

/// Beta features that the client names, beside those that the body needs.
fn merge_betas(headers: &mut Vec<(&'static str, String)>, betas: &[String]) {
    const NAME: &str = "anthropic-beta";
    for beta in betas {
        match headers.iter_mut().find(|(name, _)| *name == NAME) {
            Some((_, listed)) if listed.split(',').any(|one| one.trim() == beta) => {}
            Some((_, listed)) => *listed = format!("{listed},{beta}"),
            None => headers.push((NAME, beta.clone())),
        }
    }
}

impl Handling {
    /// Of an answer that goes down as it comes.
    pub fn untouched(way: &Way) -> Self {
        Self {
            client: way.speech.dialect(),
            rules: way.rules,
            kind: Kind::Untouched,
            terms: Terms::default(),
        }
    }

    /// Of the answers of embeddings, of which only errors are read here.
    pub fn of_embeddings(way: &Way, translated: bool) -> Self {
        let speech = match way.rules {
            Slug::GoogleAiStudio | Slug::GoogleVertexAi => Speech::Gemini,
            Slug::AwsBedrock => Speech::Converse,
            Slug::Cohere => Speech::Cohere,
            _ => Speech::Chat,
        };
        Self {
            client: Dialect::Chat,
            kind: match translated {
                true => Kind::Translated(speech),
                false => Kind::Repaired,
            },
            ..Self::untouched(way)
        }
    }

    /// Whether an answer of this status goes down as it comes.
    pub fn is_untouched(&self, status: u16) -> bool {
        self.kind == Kind::Untouched && (status < 400 || self.has_clients_errors())
    }

    /// Whether the provider's errors have the form that the dialect's own vendor gives them.
    fn has_clients_errors(&self) -> bool {
        match (self.kind, self.client) {
            (Kind::Translated(_) | Kind::Opened(_), _) => false,
            (_, Dialect::Messages) => self.rules == Slug::Anthropic,
            (_, Dialect::Responses) => matches!(self.rules, Slug::OpenAi | Slug::AzureOpenAi),
            _ => !chat::answer_needs_repair(self.rules),
        }
    }

    /// Whether the answer is said in another dialect.
    pub fn is_translated(&self) -> bool {
        matches!(self.kind, Kind::Translated(_))
    }

    /// What changes a stream on its way down.
    pub fn stream(&self) -> Box<dyn Transform> {
        let terms = &self.terms;
        match self.kind {
            Kind::Untouched | Kind::Repaired => {
                let repair = chat::Repair::new(self.rules, terms.include_usage, &terms.id);
                Box::new(repair)
            }
            Kind::Opened(Speech::MessagesOnBedrock) => Box::new(messages::InvokeStream::new(terms)),
            Kind::Opened(speech) | Kind::Translated(speech) => {
                let reader = self.reader(speech);
                let writer = self.writer();
                Box::new(match speech {
                    Speech::Converse | Speech::MessagesOnBedrock => {
                        Translator::of_event_stream(reader, writer)
                    }
                    _ => Translator::of_sse(reader, writer),
                })
            }
        }
    }

    fn reader(&self, speech: Speech) -> Box<dyn Reader> {
        let terms = &self.terms;
        match speech {
            Speech::Messages | Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
                Box::new(messages::StreamReader::new(terms))
            }
            Speech::Gemini => Box::new(gemini::StreamReader::new(terms)),
            Speech::Converse => Box::new(converse::StreamReader::new(terms)),
            Speech::Cohere => Box::new(cohere::StreamReader::new(terms)),
            Speech::Chat | Speech::Responses => Box::new(chat::StreamReader::new(terms)),
        }
    }

    fn writer(&self) -> Box<dyn Writer> {
        match self.client {
            Dialect::Messages => Box::new(messages::StreamWriter::new(&self.terms)),
            Dialect::Responses => Box::new(responses::StreamWriter::new(&self.terms)),
            _ => Box::new(chat::StreamWriter::new(&self.terms)),
        }
    }

    /// A whole answer as the client gets it: as events where it asked for these and the provider gave none.
    pub fn whole(&self, body: &[u8], stream: bool) -> Result<Vec<u8>, Failure> {
        let read = json::answer(body)?;
        match self.kind {
            Kind::Repaired if !stream && chat::answer_needs_repair(self.rules) => {
                let repaired = chat::repair_answer(self.rules, read, &self.terms.id)?;
                return Ok(repaired.to_string().into_bytes());
            }
            Kind::Untouched | Kind::Repaired | Kind::Opened(_) if !stream => {
                return Ok(body.to_vec());
            }
            _ => {}
        }
        let mut answer = self.read_answer(read)?;
        answer.usage = meter::stated_usage(body);
        Ok(match stream {
            true => told(&answer, &mut *self.writer()),
            false => self.write_answer(&answer).to_string().into_bytes(),
        })
    }

    fn speech(&self) -> Speech {
        match self.kind {
            Kind::Translated(speech) | Kind::Opened(speech) => speech,
            Kind::Untouched if self.client == Dialect::Messages => Speech::Messages,
            Kind::Untouched | Kind::Repaired => Speech::Chat,
        }
    }

    fn read_answer(&self, body: Value) -> Result<Answer, Failure> {
        let terms = &self.terms;
        match self.speech() {
            Speech::Messages | Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
                messages::read_answer(body, terms)
            }
            Speech::Gemini => gemini::read_answer(body, terms),
            Speech::Converse => converse::read_answer(body, terms),
            Speech::Cohere => cohere::read_answer(body, terms),
            Speech::Chat | Speech::Responses => chat::read_answer(body, terms),
        }
    }

    fn write_answer(&self, answer: &Answer) -> Value {
        match self.client {
            Dialect::Messages => messages::write_answer(answer, &self.terms),
            Dialect::Responses => responses::write_answer(answer, &self.terms),
            _ => chat::write_answer(answer, &self.terms),
        }
    }

    fn read_error(&self, status: u16, kind: Option<&str>, body: &[u8]) -> Failure {
        match self.speech() {
            Speech::Messages | Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
                messages::read_error(status, kind, body)
            }
            Speech::Gemini => gemini::read_error(status, kind, body),
            Speech::Converse => converse::read_error(status, kind, body),
            Speech::Cohere => cohere::read_error(status, kind, body),
            Speech::Chat | Speech::Responses => chat::read_error(status, kind, body),
        }
    }

    /// A provider's error, `kind` being the header in which AWS names it, as the client gets it: as it came where the provider's errors are the client's.
    pub fn error(&self, status: u16, kind: Option<&str>, body: &[u8]) -> (Failure, Vec<u8>) {
        let failure = self.read_error(status, kind, body);
        let written = match self.has_clients_errors() {
            true => body.to_vec(),
            false => self.write_failure(&failure),
        };
        (failure, written)
    }

    /// A failure in the client's dialect.
    pub fn write_failure(&self, failure: &Failure) -> Vec<u8> {
        write_failure(self.client, failure)
    }
}

/// A failure in the client's dialect.
pub fn write_failure(client: Dialect, failure: &Failure) -> Vec<u8> {
    let body = match client {
        Dialect::Messages => messages::write_error(failure),
        Dialect::Responses => responses::write_error(failure),
        _ => chat::write_error(failure),
    };
    body.to_string().into_bytes()
}

/// A request that the client has to mend, in its own dialect: 400.
pub fn write_invalid(client: Dialect, invalid: &Invalid) -> Vec<u8> {
    let body = match client {
        Dialect::Messages => messages::write_invalid(invalid),
        Dialect::Responses => responses::write_invalid(invalid),
        _ => chat::write_invalid(invalid),
    };
    body.to_string().into_bytes()
}

/// Whether the provider fetches media from such an address itself.
pub fn takes_url(way: &Way, kind: &PartKind, url: &str) -> bool {
    let upstream = way.upstream();
    match way.speech {
        Speech::Messages | Speech::MessagesOnVertex | Speech::MessagesOnBedrock => {
            messages::takes_url(kind, url, &upstream)
        }
        Speech::Gemini => gemini::takes_url(kind, url, &upstream),
        Speech::Converse => converse::takes_url(kind, url, &upstream),
        Speech::Cohere => cohere::takes_url(kind, url, &upstream),
        Speech::Chat => chat::takes_url(kind, url, &upstream),
        Speech::Responses => true,
    }
}

/// A whole answer as events, for a client that asked for these.
fn told(answer: &Answer, writer: &mut dyn Writer) -> Vec<u8> {
    let mut out = Vec::new();
    let mut tell = |event: Event<'_>| writer.write(&event, &mut out);
    tell(Event::Start {
        id: answer.id.as_deref().map(Cow::from),
        model: answer.model.as_deref().map(Cow::from),
        created: answer.created,
    });
    for (choice, answered) in (0u32..).zip(&answer.choices) {
        for (index, part) in (0u32..).zip(&answered.parts) {
            let Some((opening, deltas)) = parts(&part.kind) else {
                continue;
            };
            tell(Event::Open {
                choice,
                index,
                part: opening,
            });
            for delta in deltas {
                tell(Event::Delta {
                    choice,
                    index,
                    delta,
                });
            }
            tell(Event::Close { choice, index });
        }
        tell(Event::Stop {
            choice,
            stop: answered.stop.clone(),
        });
    }
    if let Some(usage) = answer.usage {
        tell(Event::Usage(usage));
    }
    writer.end(&mut out);
    out
}

/// How a part of an answer begins, and what it grows by; `None`: no stream has such a part.
fn parts(kind: &PartKind) -> Option<(Opening<'_>, Vec<Delta<'_>>)> {
    Some(match kind {
        PartKind::Text {
            text,
            citations,
            signature,
        } => {
            let mut deltas = vec![Delta::Text(text.into())];
            deltas.extend(citations.iter().cloned().map(Delta::Citation));
            deltas.extend(signature.clone().map(Delta::Signature));
            (Opening::Text, deltas)
        }
        PartKind::Refusal(text) => (Opening::Refusal, vec![Delta::Refusal(text.into())]),
        PartKind::Thinking { text, signature } => {
            let mut deltas = vec![Delta::Thinking(text.into())];
            deltas.extend(signature.clone().map(Delta::Signature));
            (Opening::Thinking, deltas)
        }
        PartKind::Redacted(signature) => (Opening::Redacted(signature.clone()), Vec::new()),
        PartKind::Image { media, .. } => (Opening::Image(media.clone()), Vec::new()),
        PartKind::ToolUse(call) => {
            let opening = Opening::ToolUse {
                id: (&call.id).into(),
                name: (&call.name).into(),
                custom: call.custom,
                signature: call.signature.clone(),
            };
            (opening, vec![Delta::Arguments((&call.arguments).into())])
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::surface::{self, Site};
    use super::*;

    fn seed() -> Seed {
        Seed {
            id: "0123abcd".to_owned(),
            created: 1_768_478_400,
        }
    }

    fn way(client: Dialect, slug: Slug, model: &str, stream: bool) -> Way {
        let site = Site {
            project: Some("p".to_owned()),
            resource: Some("r".to_owned()),
            ..Site::default()
        };
        surface::way(client, slug, model, stream, &site).expect("a way")
    }

    #[test]
    fn what_decides_is_read_and_nothing_is_guessed() {
        let peeked = peek(br#"{"messages":[],"model":"openai/gpt-5","stream":true}"#);
        let expected = Peeked {
            model: "openai/gpt-5".to_owned(),
            stream: true,
        };
        assert_eq!(peeked, Ok(expected));
        for (body, param) in [
            ("{}", Some("model")),
            (r#"{"model":1}"#, Some("model")),
            (r#"{"model":"m","stream":1}"#, Some("stream")),
            ("[]", None),
        ] {
            let invalid = peek(body.as_bytes()).expect_err(body);
            assert_eq!(invalid.param.as_deref(), param, "{body}");
        }
    }

    #[test]
    fn a_relayed_body_differs_in_its_model_alone() {
        for (client, slug, body) in [
            (
                Dialect::Chat,
                Slug::OpenAi,
                r#"{"model":"openai/m", "x":1.0,"messages":[]}"#,
            ),
            (
                Dialect::Responses,
                Slug::OpenAi,
                r#"{"model":"openai/m", "x":1.0,"input":"a"}"#,
            ),
            (
                Dialect::Messages,
                Slug::Anthropic,
                r#"{"model":"openai/m", "x":1e0,"messages":[]}"#,
            ),
        ] {
            let way = way(client, slug, "m", false);
            let body = Bytes::from_static(body.as_bytes());
            let sending = relay(&way, &body, &[], seed()).expect("relayed");
            let expected = String::from_utf8_lossy(&body).replace("openai/", "");
            assert_eq!(String::from_utf8_lossy(&sending.body), expected);
            assert!(sending.handling.is_untouched(200) && sending.handling.is_untouched(400));
        }
    }

    #[test]
    fn thoughts_of_other_providers_stay_out_of_a_relayed_body() {
        let thought = r#"{"type":"thinking","thinking":"t","signature":"google:abc"}"#;
        let messages = format!(
            r#"{{"model":"m","messages":[{{"role":"assistant","content":[{thought},{{"type":"text","text":"a"}}]}}]}}"#
        );
        let reasoning =
            r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"anthropic:abc"}"#;
        let responses =
            format!(r#"{{"model":"m","input":[{reasoning},{{"role":"user","content":"a"}}]}}"#);
        for (client, slug, body, foreign) in [
            (Dialect::Messages, Slug::Anthropic, messages, thought),
            (Dialect::Responses, Slug::OpenAi, responses, reasoning),
        ] {
            let way = way(client, slug, "m", false);
            let sending = relay(&way, &body.clone().into(), &[], seed()).expect("relayed");
            let expected = body.replace(&format!("{foreign},"), "");
            assert_eq!(String::from_utf8_lossy(&sending.body), expected);
            assert!(!sending.changes.is_empty());
        }
    }

    #[test]
    fn foreign_errors_are_told_in_the_clients_dialect() {
        let way = way(Dialect::Responses, Slug::Grok, "grok-4", false);
        let body = Bytes::from_static(br#"{"model":"grok/grok-4","input":"hi"}"#);
        let handling = relay(&way, &body, &[], seed()).expect("relayed").handling;
        assert!(handling.is_untouched(200) && !handling.is_untouched(400));
        let (failure, told) = handling.error(400, None, br#"{"code":"x","error":"no such model"}"#);
        assert_eq!(failure.status, 400);
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!(told["error"]["message"], "no such model");
    }

    #[test]
    fn beta_features_are_joined_and_none_comes_twice() {
        let mut headers = vec![("anthropic-beta", "a,b".to_owned())];
        merge_betas(&mut headers, &["b".to_owned(), "c".to_owned()]);
        assert_eq!(headers, [("anthropic-beta", "a,b,c".to_owned())]);
        let mut headers = Vec::new();
        merge_betas(&mut headers, &["c".to_owned()]);
        assert_eq!(headers, [("anthropic-beta", "c".to_owned())]);
    }

    #[test]
    fn an_answer_that_should_have_come_in_events_is_told_in_events() {
        let way = way(Dialect::Messages, Slug::Groq, "m", true);
        let body = json!({
            "model": "groq/m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}],
        });
        let (request, terms) =
            read(Dialect::Messages, body.to_string().as_bytes(), seed()).expect("read");
        let sending = write(request, terms, &way, &[]).expect("written");
        let answer = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "Well",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        });
        let told = sending.handling.whole(answer.to_string().as_bytes(), true);
        let told = String::from_utf8(told.expect("an answer")).expect("text");
        let at = |part: &str| told.find(part).unwrap_or_else(|| panic!("{part}: {told}"));
        assert!(told.starts_with("event: message_start"));
        assert!(at("text_delta") < at("tool_use") && at("tool_use") < at("input_json_delta"));
        assert!(at("\"output_tokens\":2") < at("event: message_stop"));
        assert!(sending.handling.whole(b"<html>", true).is_err());
    }
}
