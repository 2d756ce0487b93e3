//! Whole answers in chat (spec: providers 1.4).

use serde_json::{Map, Value, json};

use super::super::Terms;
use super::super::failure::Failure;
use super::super::neutral::{
    Answer, Choice, Citation, Media, Origin, Part, PartKind, Signature, Stop, StopReason, ToolUse,
};
use super::errors::{failure_of, holds_error};
use super::finish::{self, Finish};
use super::places::data_url;
use super::thoughts::{Thought, combine, encrypted_detail, text_detail, text_signature_detail};
use crate::meter::Usage;

/// Reads a provider's answer. One that holds an error instead is a failure.
pub fn read_answer(body: Value, terms: &Terms) -> Result<Answer, Failure> {
    let mut body = unveiled(body);
    let choices = match take(Some(&mut body), "choices") {
        Value::Array(choices) if !choices.is_empty() => choices,
        _ if holds_error(&body) => return Err(failure_of(None, &body)),
        _ => return Err(Failure::broken("The provider's answer has no choices")),
    };
    let cited = page_citations(&body);
    let mut answer = Answer {
        id: text(&mut body, "id"),
        model: text(&mut body, "model"),
        created: body["created"].as_u64().filter(|created| *created > 0),
        service_tier: text(&mut body, "service_tier"),
        ..Answer::default()
    };
    for (at, choice) in choices.into_iter().enumerate() {
        let mut choice = read_choice(choice, at, &body, terms)?;
        cite(&mut choice.parts, &cited);
        answer.choices.push(choice);
    }
    Ok(answer)
}

/// Workers AI wraps the answers of one of its surfaces.
pub fn unveiled(mut body: Value) -> Value {
    match body.get("choices").is_none() && body["result"]["choices"].is_array() {
        true => take(Some(&mut body), "result"),
        false => body,
    }
}

fn read_choice(
    mut choice: Value,
    at: usize,
    body: &Value,
    terms: &Terms,
) -> Result<Choice, Failure> {
    let mut message = match take(Some(&mut choice), "message") {
        Value::Object(message) => message,
        _ => Map::new(),
    };
    let parts = read_message(&mut message, at, terms)?;
    let has_calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolUse(_)));
    let word = choice["finish_reason"].as_str().unwrap_or_default();
    let says_nothing = !parts.iter().any(says);
    let stop = match finish::read(word, has_calls) {
        Finish::Ended(_) if says_nothing && holds_error(&choice) => {
            return Err(failure_of(None, &choice));
        }
        Finish::Ended(_) if says_nothing && holds_error(body) => {
            return Err(failure_of(None, body));
        }
        Finish::Failed if says_nothing => return Err(failed(word, &choice, body)),
        Finish::Failed => Stop::with_native(StopReason::End, word),
        Finish::Ended(stop) => stop,
    };
    let logprobs = Some(take(Some(&mut choice), "logprobs")).filter(|logprobs| !logprobs.is_null());
    Ok(Choice {
        parts,
        stop,
        logprobs,
    })
}

/// The provider says that it failed.
pub fn failed(word: &str, choice: &Value, body: &Value) -> Failure {
    match [choice, body].into_iter().find(|value| holds_error(value)) {
        Some(value) => failure_of(None, value),
        None => {
            let message = format!("The provider could not finish the answer: {word}");
            Failure::broken(message).with_code(word)
        }
    }
}

fn says(part: &Part) -> bool {
    match &part.kind {
        PartKind::Text { text, .. } | PartKind::Refusal(text) => !text.is_empty(),
        PartKind::Thinking { text, .. } => !text.is_empty(),
        _ => true,
    }
}

fn read_message(
    message: &mut Map<String, Value>,
    choice: usize,
    terms: &Terms,
) -> Result<Vec<Part>, Failure> {
    let mut parts: Vec<Part> = Vec::new();
    let mut signature = None;
    let content = content_of(message.remove("content").unwrap_or_default());
    let plain = ["reasoning_content", "reasoning"]
        .into_iter()
        .filter_map(|field| match message.remove(field) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        })
        .next()
        .or(Some(content.thinking).filter(|text| !text.is_empty()));
    let details = match message.remove("reasoning_details") {
        Some(Value::Array(details)) => details,
        _ => Vec::new(),
    };
    for thought in combine(plain.unwrap_or_default(), details) {
        match thought {
            Thought::Part(kind) => parts.push(kind.into()),
            Thought::OfText(of_text) => signature = Some(of_text),
        }
    }
    if !content.text.is_empty() {
        let annotations = message.remove("annotations").unwrap_or_default();
        let citations = annotations.as_array().into_iter().flatten();
        let citations = citations.filter_map(read_annotation).collect();
        let text = PartKind::Text {
            text: content.text,
            citations,
            signature,
        };
        parts.push(text.into());
    }
    if let Some(Value::String(refusal)) = message.remove("refusal")
        && !refusal.is_empty()
    {
        parts.push(PartKind::Refusal(refusal).into());
    }
    parts.extend(images_of(message).into_iter().map(|media| {
        Part::from(PartKind::Image {
            media,
            detail: None,
        })
    }));
    if let Some(audio @ Value::Object(_)) = message.remove("audio") {
        let block = json!({"type": "audio", "audio": audio});
        parts.push(PartKind::Foreign(block).into());
    }
    let calls = match message.remove("tool_calls") {
        Some(Value::Array(calls)) => calls,
        _ => Vec::new(),
    };
    for (at, call) in calls.into_iter().enumerate() {
        let call = read_call(call, || made_id(terms, choice, at))?;
        parts.push(PartKind::ToolUse(call).into());
    }
    if let Some(function @ Value::Object(_)) = message.remove("function_call") {
        let call = json!({"function": function});
        let call = read_call(call, || made_id(terms, choice, 0))?;
        parts.push(PartKind::ToolUse(call).into());
    }
    Ok(parts)
}

/// An id for a call that has none.
pub fn made_id(terms: &Terms, choice: usize, call: usize) -> String {
    match choice {
        0 => format!("call_{}{call}", terms.id),
        choice => format!("call_{}{choice}x{call}", terms.id),
    }
}

/// What a message's or a delta's content says.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    /// To the user.
    pub text: String,
    /// To itself (Mistral).
    pub thinking: String,
}

/// Reads content: text, or a list of parts.
pub fn content_of(content: Value) -> Content {
    let mut read = Content::default();
    match content {
        Value::String(text) => read.text = text,
        Value::Array(parts) => {
            for part in &parts {
                match part["type"].as_str() {
                    Some("thinking") => match &part["thinking"] {
                        Value::String(text) => read.thinking.push_str(text),
                        thoughts => {
                            let thoughts = thoughts.as_array().into_iter().flatten();
                            thoughts
                                .filter_map(|thought| thought["text"].as_str())
                                .for_each(|text| read.thinking.push_str(text));
                        }
                    },
                    _ => read
                        .text
                        .push_str(part["text"].as_str().unwrap_or_default()),
                }
            }
        }
        // An answer in JSON that the provider has parsed already (Workers AI).
        object @ Value::Object(_) => read.text = object.to_string(),
        Value::Number(number) => read.text = number.to_string(),
        Value::Null | Value::Bool(_) => {}
    }
    read
}

fn read_call(mut call: Value, id: impl FnOnce() -> String) -> Result<ToolUse, Failure> {
    let signature = call["extra_content"]["google"]["thought_signature"]
        .as_str()
        .map(|data| Signature::new(Origin::Google, data));
    let custom = call["custom"].is_object();
    let mut inner = match custom {
        true => take(Some(&mut call), "custom"),
        false => take(Some(&mut call), "function"),
    };
    // Older models of Workers AI write the call flat.
    if inner.is_null() {
        inner = json!({"name": take(Some(&mut call), "name"), "arguments": take(Some(&mut call), "arguments")});
    }
    let name = text(&mut inner, "name")
        .ok_or_else(|| Failure::broken("The provider's answer calls a tool without a name"))?;
    let arguments = match custom {
        true => text(&mut inner, "input").unwrap_or_default(),
        false => arguments_of(take(Some(&mut inner), "arguments")),
    };
    Ok(ToolUse {
        id: text(&mut call, "id").unwrap_or_else(id),
        name,
        arguments,
        custom,
        signature,
    })
}

/// Arguments as text of an object.
pub fn arguments_of(arguments: Value) -> String {
    match arguments {
        Value::String(text) if !text.trim_ascii().is_empty() => text,
        Value::String(_) | Value::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Pictures of an answer, as OpenRouter gives them.
pub fn images_of(message: &mut Map<String, Value>) -> Vec<Media> {
    let images = match message.remove("images") {
        Some(Value::Array(images)) => images,
        _ => return Vec::new(),
    };
    images
        .into_iter()
        .filter_map(|mut image| match take(image.get_mut("image_url"), "url") {
            Value::String(url) if super::places::is_data_url(&url) => data_url(url),
            Value::String(url) => Some(Media::Url { url, mime: None }),
            _ => None,
        })
        .collect()
}

/// Reads a `url_citation`.
pub fn read_annotation(annotation: &Value) -> Option<Citation> {
    let cited = &annotation["url_citation"];
    let range = cited["start_index"]
        .as_u64()
        .zip(cited["end_index"].as_u64())
        .filter(|(start, end)| start < end);
    Some(Citation {
        url: cited["url"].as_str()?.to_owned(),
        title: cited["title"].as_str().map(str::to_owned),
        range,
        quote: cited["content"].as_str().map(str::to_owned),
    })
}

/// The pages that Perplexity read, beside its answer.
pub fn page_citations(body: &Value) -> Vec<Citation> {
    let results = body["search_results"].as_array().into_iter().flatten();
    let results: Vec<Citation> = results
        .filter_map(|result| {
            Some(Citation {
                url: result["url"].as_str()?.to_owned(),
                title: result["title"].as_str().map(str::to_owned),
                ..Citation::default()
            })
        })
        .collect();
    if !results.is_empty() {
        return results;
    }
    let pages = body["citations"].as_array().into_iter().flatten();
    pages
        .filter_map(|page| {
            Some(Citation {
                url: page.as_str()?.to_owned(),
                ..Citation::default()
            })
        })
        .collect()
}

fn cite(parts: &mut [Part], cited: &[Citation]) {
    let text = parts.iter_mut().find_map(|part| match &mut part.kind {
        PartKind::Text { citations, .. } => Some(citations),
        _ => None,
    });
    if let Some(citations) = text.filter(|citations| citations.is_empty()) {
        citations.extend_from_slice(cited);
    }
}

/// Takes a field out of what may be an object.
pub fn take(value: Option<&mut Value>, field: &str) -> Value {
    let field = value.and_then(|value| value.get_mut(field));
    field.map(Value::take).unwrap_or_default()
}

fn text(value: &mut Value, field: &str) -> Option<String> {
    match value.get_mut(field)?.take() {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Writes an answer for a chat client.
pub fn write_answer(answer: &Answer, terms: &Terms) -> Value {
    let choices = answer.choices.iter().enumerate();
    let choices: Vec<Value> = choices
        .map(|(at, choice)| write_choice(at, choice, terms))
        .collect();
    let mut body = json!({
        "id": answer.id.clone().unwrap_or_else(|| format!("chatcmpl-{}", terms.id)),
        "object": "chat.completion",
        "created": answer.created.unwrap_or(terms.created),
        "model": answer.model.as_deref().unwrap_or(&terms.model),
        "choices": choices,
    });
    if let Some(usage) = &answer.usage {
        body["usage"] = usage_value(usage);
    }
    if let Some(tier) = answer.service_tier.as_deref().and_then(tier) {
        body["service_tier"] = tier.into();
    }
    body
}

/// The tier in a word that clients know: their SDKs refuse others.
fn tier(word: &str) -> Option<&str> {
    match word {
        "standard" => Some("default"),
        "auto" | "default" | "flex" | "scale" | "priority" => Some(word),
        _ => None,
    }
}

fn write_choice(at: usize, choice: &Choice, terms: &Terms) -> Value {
    let mut written = Message::default();
    for part in &choice.parts {
        written.take(part);
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let explanation = choice.stop.explanation.as_deref();
    let explanation = explanation.filter(|_| choice.stop.reason == StopReason::Filter);
    let refusal = match written.refusal.is_empty() {
        true => explanation.map(str::to_owned),
        false => Some(written.refusal),
    };
    let silent = !written.calls.is_empty() || refusal.is_some();
    let content = match written.text.is_empty() && silent {
        true => Value::Null,
        false => Value::String(written.text),
    };
    message.insert("content".to_owned(), content);
    message.insert("refusal".to_owned(), refusal.into());
    if !written.thoughts.is_empty() {
        message.insert("reasoning_content".to_owned(), written.thoughts.into());
    }
    for (field, list) in [
        ("reasoning_details", written.details),
        ("annotations", written.annotations),
        ("images", written.images),
    ] {
        if !list.is_empty() {
            message.insert(field.to_owned(), Value::Array(list));
        }
    }
    let mut word = finish::word(choice.stop.reason);
    if terms.legacy_calls && !written.calls.is_empty() {
        message.insert(
            "function_call".to_owned(),
            take(written.calls.first_mut(), "function"),
        );
        if choice.stop.reason == StopReason::ToolUse {
            word = "function_call";
        }
    } else if !written.calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(written.calls));
    }
    let mut value = json!({
        "index": at, "message": message, "logprobs": choice.logprobs, "finish_reason": word,
    });
    if let Some(native) = &choice.stop.native {
        value["native_finish_reason"] = native.as_str().into();
    }
    value
}

/// The pieces of a message.
#[derive(Default)]
struct Message {
    text: String,
    refusal: String,
    thoughts: String,
    details: Vec<Value>,
    annotations: Vec<Value>,
    images: Vec<Value>,
    calls: Vec<Value>,
}

impl Message {
    fn take(&mut self, part: &Part) {
        match &part.kind {
            PartKind::Text {
                text,
                citations,
                signature,
            } => {
                let offset = self.text.chars().count() as u64;
                self.text.push_str(text);
                let annotations = citations
                    .iter()
                    .filter_map(|citation| annotation(citation, offset));
                self.annotations.extend(annotations);
                if let Some(signature) = signature {
                    let detail = text_signature_detail(signature, self.details.len());
                    self.details.push(detail);
                }
            }
            PartKind::Refusal(text) => self.refusal.push_str(text),
            PartKind::Thinking { text, signature } => {
                self.thoughts.push_str(text);
                if let Some(signature) = signature {
                    let detail = text_detail(Some(text), signature, self.details.len());
                    self.details.push(detail);
                }
            }
            PartKind::Redacted(signature) => {
                self.details
                    .push(encrypted_detail(signature, self.details.len()));
            }
            PartKind::Image { media, .. } => self.images.extend(image(media)),
            PartKind::ToolUse(call) => self.calls.push(write_call(call)),
            PartKind::Audio(_)
            | PartKind::Video(_)
            | PartKind::Document { .. }
            | PartKind::ToolResult { .. }
            | PartKind::Foreign(_) => {}
        }
    }
}

/// A picture as OpenRouter gives it.
pub fn image(media: &Media) -> Option<Value> {
    let url = match media {
        Media::Inline { mime, data } => format!("data:{mime};base64,{data}"),
        Media::Url { url, .. } => url.clone(),
        Media::Text(_) | Media::File(_) => return None,
    };
    Some(json!({"type": "image_url", "image_url": {"url": url}}))
}

/// A citation as OpenAI gives it, of a text that starts at `offset`.
pub fn annotation(citation: &Citation, offset: u64) -> Option<Value> {
    if citation.url.is_empty() {
        return None;
    }
    let (start, end) = citation.range.map_or((0, 0), |(start, end)| {
        (start.saturating_add(offset), end.saturating_add(offset))
    });
    Some(json!({"type": "url_citation", "url_citation": {
        "url": citation.url, "title": citation.title.as_deref().unwrap_or_default(),
        "start_index": start, "end_index": end,
    }}))
}

fn write_call(call: &ToolUse) -> Value {
    let mut value = match call.custom {
        true => json!({
            "id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments},
        }),
        false => {
            let arguments = match call.arguments.is_empty() {
                true => "{}",
                false => &call.arguments,
            };
            json!({
                "id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments},
            })
        }
    };
    if let Some(extra) = extra_content(call.signature.as_ref()) {
        value["extra_content"] = extra;
    }
    value
}

/// Where a call carries Google's signature.
pub fn extra_content(signature: Option<&Signature>) -> Option<Value> {
    let signature = signature.filter(|signature| signature.origin == Origin::Google)?;
    Some(json!({"google": {"thought_signature": signature.data}}))
}

/// Usage as OpenAI states it (spec: providers 1.8).
pub fn usage_value(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input, "cache_write_tokens": usage.cache_write, "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    })
}
