//! Answers of Converse (spec: providers 7.4 and 16).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::errors::read_error;
use crate::dialect::failure::Failure;
use crate::dialect::models::others::Model;
use crate::dialect::neutral::{
    Answer, Choice, Citation, Media, Origin, Part, PartKind, Signature, Stop, StopReason, ToolUse,
};
use crate::dialect::{Terms, unwrap};

/// Reads a whole answer. It has neither id nor model; the one is in a header, the other is the one asked for.
pub fn read_answer(mut body: Value, terms: &Terms) -> Result<Answer, Failure> {
    let content = body
        .pointer_mut("/output/message/content")
        .and_then(Value::as_array_mut)
        .map(std::mem::take);
    let Some(content) = content else {
        let raw = body.to_string();
        let is_error = body.get("message").or(body.get("__type")).is_some();
        return Err(match is_error {
            true => read_error(200, None, raw.as_bytes()),
            false => Failure::broken("Bedrock's answer holds no message").with_raw(raw.as_bytes()),
        });
    };
    let origin = Model::of(&terms.model).origin();
    let parts: Vec<Part> = content
        .into_iter()
        .filter_map(|block| read_block(block, origin))
        .collect();
    let calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolUse(_)));
    let word = body.get("stopReason").and_then(Value::as_str);
    let mut stop = stop(word.unwrap_or_default(), calls, !parts.is_empty())?;
    stop.sequence = body
        .get("additionalModelResponseFields")
        .and_then(stop_sequence);
    let mut answer = Answer {
        choices: vec![Choice {
            parts,
            stop,
            logprobs: None,
        }],
        service_tier: body
            .pointer("/serviceTier/type")
            .and_then(Value::as_str)
            .map(str::to_owned),
        ..Answer::default()
    };
    unwrap::answer(&mut answer, &terms.unwrap);
    Ok(answer)
}

/// Where the answer ended, in one word of ours. An error where the model made nothing that can be used.
pub(super) fn stop(word: &str, calls: bool, content: bool) -> Result<Stop, Failure> {
    Ok(match word {
        // Not all families say why they stop.
        "end_turn" | "tool_use" if calls => Stop::new(StopReason::ToolUse),
        "end_turn" => Stop::new(StopReason::End),
        "stop_sequence" => Stop::new(StopReason::StopSequence),
        "max_tokens" => Stop::new(StopReason::Length),
        "model_context_window_exceeded" => Stop::with_native(StopReason::Length, word),
        "guardrail_intervened" | "content_filtered" => Stop::with_native(StopReason::Filter, word),
        "malformed_model_output" | "malformed_tool_use" if !content => {
            let message = format!("The model made nothing that can be read ({word})");
            return Err(Failure::broken(message).with_code(word));
        }
        // Tools of the provider's own were called, or a word that is not known.
        _ => Stop::with_native(StopReason::End, word),
    })
}

/// Claude's stop text, where it was asked for.
pub(super) fn stop_sequence(fields: &Value) -> Option<String> {
    let places = ["/stop_sequence", "/delta/stop_sequence"];
    let found = places.iter().find_map(|place| fields.pointer(place));
    found.and_then(Value::as_str).map(str::to_owned)
}

fn read_block(mut block: Value, origin: Origin) -> Option<Part> {
    if let Some(Value::String(text)) = block.get_mut("text") {
        return Some(Part::text(std::mem::take(text)));
    }
    if let Some(call) = block.get_mut("toolUse") {
        return read_call(call);
    }
    if let Some(reasoning) = block.get_mut("reasoningContent") {
        return read_reasoning(reasoning, origin);
    }
    if let Some(cited) = block.get("citationsContent") {
        return read_cited(cited);
    }
    if let Some(image) = block.get_mut("image") {
        let mime = format!("image/{}", image.get("format")?.as_str()?);
        let data = take_text(image.pointer_mut("/source/bytes"))?;
        let kind = PartKind::Image {
            media: Media::Inline { mime, data },
            detail: None,
        };
        return Some(kind.into());
    }
    // Tools that Bedrock ran, and what is not known yet.
    None
}

fn read_call(call: &mut Value) -> Option<Part> {
    if is_server_tool(call.get("type").and_then(Value::as_str)) {
        return None;
    }
    let arguments = match call.get("input") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(input) => input.to_string(),
    };
    let call = ToolUse {
        id: take_text(call.get_mut("toolUseId"))?,
        name: take_text(call.get_mut("name"))?,
        arguments,
        custom: false,
        signature: None,
    };
    Some(PartKind::ToolUse(call).into())
}

/// Claude writes `tool_use` here for the client's own tools.
pub(super) fn is_server_tool(kind: Option<&str>) -> bool {
    kind == Some("server_tool_use")
}

fn read_reasoning(reasoning: &mut Value, origin: Origin) -> Option<Part> {
    if let Some(redacted) = reasoning.get("redactedContent") {
        let bytes = STANDARD.decode(redacted.as_str()?).ok()?;
        return Some(PartKind::Redacted(redacted_signature(bytes, origin)).into());
    }
    let readable = reasoning.get_mut("reasoningText")?;
    let signature = take_text(readable.get_mut("signature")).filter(|data| !data.is_empty());
    let kind = PartKind::Thinking {
        text: take_text(readable.get_mut("text")).unwrap_or_default(),
        signature: signature.map(|data| Signature::new(origin, data)),
    };
    Some(kind.into())
}

/// Claude's is the text that Anthropic's own endpoint calls its data; of others the bytes are kept.
pub(super) fn redacted_signature(bytes: Vec<u8>, origin: Origin) -> Signature {
    let bytes = match origin {
        Origin::Anthropic => match String::from_utf8(bytes) {
            Ok(data) => return Signature::new(origin, data),
            Err(error) => error.into_bytes(),
        },
        _ => bytes,
    };
    Signature::new(Origin::Bedrock, STANDARD.encode(bytes))
}

fn read_cited(cited: &Value) -> Option<Part> {
    let list = |field: &str| cited.get(field).and_then(Value::as_array);
    let texts = list("content")?.iter();
    let text: String = texts
        .filter_map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    let citations = list("citations").into_iter().flatten();
    let kind = PartKind::Text {
        text,
        citations: citations.filter_map(read_citation).collect(),
        signature: None,
    };
    Some(kind.into())
}

/// A source that has an address; places in the client's own documents have none.
pub(super) fn read_citation(citation: &Value) -> Option<Citation> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let quotes = citation.get("sourceContent").and_then(Value::as_array);
    let quotes: String = quotes
        .into_iter()
        .flatten()
        .filter_map(|quote| quote.get("text").and_then(Value::as_str))
        .collect();
    Some(Citation {
        url: text(citation.pointer("/location/web/url"))?,
        title: text(citation.get("title")),
        range: None,
        quote: Some(quotes).filter(|quote| !quote.is_empty()),
    })
}

fn take_text(value: Option<&mut Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(std::mem::take(text)),
        _ => None,
    }
}
