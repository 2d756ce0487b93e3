//! Cohere's answers (spec: providers 11 and 16).

use serde_json::{Value, json};

use super::errors;
use crate::dialect::Terms;
use crate::dialect::failure::Failure;
use crate::dialect::neutral::{
    Answer, Choice, Citation, Part, PartKind, Stop, StopReason, ToolUse,
};

/// Reads an answer. It names neither the model nor the time.
pub fn read_answer(mut body: Value, terms: &Terms) -> Result<Answer, Failure> {
    if let Some(failure) = errors::inside(&body) {
        return Err(failure);
    }
    if !body["message"].is_object() {
        return Err(Failure::broken("Cohere's answer holds no message"));
    }
    let mut message = body.get_mut("message").map(Value::take).unwrap_or_default();
    let mut parts = Vec::new();
    // What the model plans stands before its calls, and is no answer to the user.
    if let Some(plan) = take_text(&mut message, "tool_plan") {
        parts.push(thought(plan));
    }
    parts.extend(content(&mut message));
    cite(&mut parts, &message["citations"]);
    let calls = take_list(&mut message, "tool_calls").into_iter();
    let calls = calls
        .enumerate()
        .filter_map(|(at, value)| call(value, at, terms));
    parts.extend(calls);
    let word = take_text(&mut body, "finish_reason").unwrap_or_default();
    let says_something = parts
        .iter()
        .any(|part| !matches!(part.kind, PartKind::Thinking { .. }));
    Ok(Answer {
        id: take_text(&mut body, "id"),
        choices: vec![Choice {
            stop: stop(&word, None, says_something)?,
            parts,
            logprobs: logprobs(&body["logprobs"]),
        }],
        ..Answer::default()
    })
}

/// Why the answer ended; an error where it failed and there is nothing of it.
pub(super) fn stop(word: &str, error: Option<&str>, says_something: bool) -> Result<Stop, Failure> {
    Ok(match word {
        "COMPLETE" => Stop::new(StopReason::End),
        "STOP_SEQUENCE" => Stop::new(StopReason::StopSequence),
        "MAX_TOKENS" => Stop::new(StopReason::Length),
        "TOOL_CALL" => Stop::new(StopReason::ToolUse),
        "ERROR_TOXIC" => Stop::with_native(StopReason::Filter, word),
        "ERROR_LIMIT" => Stop::with_native(StopReason::Length, word),
        "ERROR" | "TIMEOUT" if !says_something => {
            let status = if word == "TIMEOUT" { 504 } else { 502 };
            let message = error.unwrap_or("Cohere could not finish the answer");
            return Err(Failure::of_status(status, message).with_code(word));
        }
        "" => Stop::new(StopReason::End),
        word => Stop::with_native(StopReason::End, word),
    })
}

/// The id of a call that came without one.
pub(super) fn made_id(terms: &Terms, at: usize) -> String {
    format!("call_{}_{}", terms.id, at + 1)
}

fn thought(text: String) -> Part {
    let signature = None;
    PartKind::Thinking { text, signature }.into()
}

fn content(message: &mut Value) -> Vec<Part> {
    if let Some(text) = message["content"].as_str() {
        return match text {
            "" => Vec::new(),
            text => vec![Part::text(text)],
        };
    }
    let blocks = take_list(message, "content").into_iter();
    blocks
        .filter_map(|mut block| {
            let thinking = take_text(&mut block, "thinking").map(thought);
            thinking.or_else(|| take_text(&mut block, "text").map(Part::text))
        })
        .collect()
}

fn call(mut value: Value, at: usize, terms: &Terms) -> Option<Part> {
    let id = take_text(&mut value, "id").unwrap_or_else(|| made_id(terms, at));
    let function = value.get_mut("function")?;
    Some(
        PartKind::ToolUse(ToolUse {
            id,
            name: take_text(function, "name")?,
            arguments: take_text(function, "arguments").unwrap_or_else(|| "{}".to_owned()),
            custom: false,
            signature: None,
        })
        .into(),
    )
}

/// Sources that have an address belong to the text; others only name what the client sent itself.
fn cite(parts: &mut [Part], citations: &Value) {
    let texts = parts.iter_mut().filter_map(|part| match &mut part.kind {
        PartKind::Text { citations, .. } => Some(citations),
        _ => None,
    });
    let mut texts: Vec<&mut Vec<Citation>> = texts.collect();
    for citation in citations.as_array().into_iter().flatten() {
        let at = citation["content_index"].as_u64().unwrap_or(0) as usize;
        let at = at.min(texts.len().saturating_sub(1));
        if let Some(list) = texts.get_mut(at) {
            list.extend(sources(citation));
        }
    }
}

/// The sources of one citation.
pub(super) fn sources(citation: &Value) -> Vec<Citation> {
    let bound = |name: &str| citation[name].as_u64();
    let range = bound("start").zip(bound("end"));
    let sources = citation["sources"].as_array().into_iter().flatten();
    sources
        .filter_map(|source| {
            let fields = match source["document"].is_object() {
                true => &source["document"],
                false => &source["tool_output"],
            };
            Some(Citation {
                url: fields["url"].as_str()?.to_owned(),
                title: fields["title"].as_str().map(str::to_owned),
                range,
                quote: None,
            })
        })
        .collect()
}

/// Log probabilities in chat's form. Cohere gives pieces of several tokens: theirs are added up.
pub(super) fn logprobs(list: &Value) -> Option<Value> {
    let pieces = match list {
        Value::Array(pieces) => pieces.as_slice(),
        piece @ Value::Object(_) => std::slice::from_ref(piece),
        _ => return None,
    };
    let content: Vec<Value> = pieces
        .iter()
        .map(|piece| {
            let text = piece["text"].as_str().unwrap_or_default();
            let tokens = piece["logprobs"].as_array().into_iter().flatten();
            let sum: f64 = tokens.filter_map(Value::as_f64).sum();
            json!({"token": text, "logprob": sum, "bytes": text.as_bytes(), "top_logprobs": []})
        })
        .collect();
    Some(json!({"content": content, "refusal": null}))
}

fn take_list(value: &mut Value, field: &str) -> Vec<Value> {
    match value.get_mut(field).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Takes a text out of an object; an empty one is none.
pub(super) fn take_text(value: &mut Value, field: &str) -> Option<String> {
    match value.get_mut(field).map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}
