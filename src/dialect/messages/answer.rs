//! Whole answers, to and from the neutral form.

use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::fields::Fields;
use super::super::ids::{IdRule, fit};
use super::super::neutral::{
    Answer, Choice, Citation, Media, Origin, Part, PartKind, Signature, Stop, StopReason, ToolUse,
};
use super::super::{Terms, unwrap};
use super::carried::{Side, carry};
use super::errors::read_error_within;
use super::read_blocks::read_citation;
use crate::meter::Usage;

/// Reads an answer.
pub fn read_answer(body: Value, terms: &Terms) -> Result<Answer, Failure> {
    if body.get("type").is_some_and(|kind| kind == "error") {
        return Err(read_error_within(&body));
    }
    let broken = |_| Failure::broken("The provider's answer is no message");
    let mut fields = Fields::of(body, "").map_err(broken)?;
    let Ok(Some(blocks)) = fields.list("content") else {
        let raw = Value::Object(fields.rest()).to_string();
        return Err(
            Failure::broken("The provider's answer has no content").with_raw(raw.as_bytes())
        );
    };
    let usage = fields.take("usage").unwrap_or_default();
    let choice = Choice {
        parts: blocks.into_iter().filter_map(read_block).collect(),
        stop: read_stop(&fields),
        logprobs: None,
    };
    let mut answer = Answer {
        id: fields.text("id").ok().flatten(),
        model: fields.text("model").ok().flatten(),
        created: None,
        choices: vec![choice],
        usage: None,
        service_tier: usage["service_tier"].as_str().map(str::to_owned),
    };
    unwrap::answer(&mut answer, &terms.unwrap);
    Ok(answer)
}

/// What a block says to the client. Tools that ran at Anthropic are no business of a client of another dialect.
fn read_block(mut block: Value) -> Option<Part> {
    let mut take = |key: &str| match block.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let own = |data| Signature::new(Origin::Anthropic, data);
    let kind = match take("type").as_str() {
        "text" => PartKind::Text {
            text: take("text"),
            citations: match block.get("citations") {
                Some(Value::Array(citations)) => {
                    citations.iter().filter_map(read_citation).collect()
                }
                _ => Vec::new(),
            },
            signature: None,
        },
        "thinking" => PartKind::Thinking {
            text: take("thinking"),
            signature: Some(take("signature"))
                .filter(|data| !data.is_empty())
                .map(own),
        },
        "redacted_thinking" => PartKind::Redacted(own(take("data"))),
        "tool_use" => PartKind::ToolUse(ToolUse {
            id: take("id"),
            name: take("name"),
            arguments: match block.get("input") {
                Some(input @ Value::Object(_)) => input.to_string(),
                _ => "{}".to_owned(),
            },
            custom: false,
            signature: None,
        }),
        _ => return None,
    };
    Some(kind.into())
}

/// Reads why an answer ended, from `stop_reason` and what stands beside it.
pub(super) fn read_stop(fields: &Fields) -> Stop {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let word = text(fields.peek("stop_reason")).unwrap_or_default();
    let mut stop = match word.as_str() {
        "end_turn" | "" => Stop::new(StopReason::End),
        "stop_sequence" => Stop::new(StopReason::StopSequence),
        "max_tokens" => Stop::new(StopReason::Length),
        "tool_use" => Stop::new(StopReason::ToolUse),
        "model_context_window_exceeded" | "pause_turn" => {
            Stop::with_native(StopReason::Length, word)
        }
        "refusal" => Stop::with_native(StopReason::Filter, word),
        _ => Stop::with_native(StopReason::End, word),
    };
    stop.sequence = text(fields.peek("stop_sequence"));
    let details = fields.peek("stop_details");
    stop.explanation = text(details.and_then(|details| details.get("explanation")));
    stop
}

/// Writes an answer.
pub fn write_answer(answer: &Answer, terms: &Terms) -> Value {
    let choice = answer.choices.first();
    let mut content = Vec::new();
    for part in choice
        .map(|choice| choice.parts.as_slice())
        .unwrap_or_default()
    {
        write_part(part, &mut content);
    }
    let stop = choice.map_or_else(|| Stop::new(StopReason::End), |choice| choice.stop.clone());
    let mut message = envelope(answer.id.as_deref(), answer.model.as_deref(), terms);
    message.insert("content".to_owned(), Value::Array(content));
    message.extend(write_stop(&stop));
    let mut usage = write_usage(answer.usage.unwrap_or_default());
    match answer.service_tier.as_deref() {
        Some("default") => usage["service_tier"] = json!("standard"),
        Some(tier @ ("standard" | "priority" | "batch")) => usage["service_tier"] = json!(tier),
        _ => {}
    }
    message.insert("usage".to_owned(), usage);
    Value::Object(message)
}

/// What a message begins with.
pub(super) fn envelope(id: Option<&str>, model: Option<&str>, terms: &Terms) -> Map<String, Value> {
    let id = id.map_or_else(|| format!("msg_{}", terms.id), str::to_owned);
    let pairs = [
        ("id", json!(id)),
        ("type", json!("message")),
        ("role", json!("assistant")),
        ("model", json!(model.unwrap_or(&terms.model))),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

/// The fields that say why an answer ended.
pub(super) fn write_stop(stop: &Stop) -> Map<String, Value> {
    let reason = match stop.reason {
        StopReason::End => "end_turn",
        StopReason::StopSequence => "stop_sequence",
        StopReason::Length => "max_tokens",
        StopReason::ToolUse => "tool_use",
        StopReason::Filter => "refusal",
    };
    let mut fields = Map::new();
    fields.insert("stop_reason".to_owned(), json!(reason));
    fields.insert("stop_sequence".to_owned(), json!(stop.sequence));
    if stop.reason == StopReason::Filter {
        let details = json!({"type": "refusal", "category": null, "explanation": stop.explanation});
        fields.insert("stop_details".to_owned(), details);
    }
    fields
}

/// Counts as Messages states them: input without what was cached.
pub(super) fn write_usage(usage: Usage) -> Value {
    let Usage {
        input,
        output,
        cached_input,
        cache_write,
        reasoning,
        ..
    } = usage;
    let mut written = json!({
        "input_tokens": input.saturating_sub(cached_input).saturating_sub(cache_write),
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cached_input,
        "output_tokens": output,
    });
    if reasoning > 0 {
        written["output_tokens_details"] = json!({"thinking_tokens": reasoning});
    }
    written
}

/// A citation of the web.
pub(super) fn write_citation(citation: &Citation) -> Value {
    json!({
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.quote.as_deref().unwrap_or_default(),
        "encrypted_index": "",
    })
}

/// What stands for an image, which a message of the assistant cannot hold.
pub(super) fn image_note(media: &Media) -> String {
    match media {
        Media::Url { url, .. } => format!("![image]({url})"),
        Media::Inline { mime, .. } => {
            format!("[{mime} left out: this API has no images in answers]")
        }
        _ => "[image left out: this API has no images in answers]".to_owned(),
    }
}

fn write_part(part: &Part, content: &mut Vec<Value>) {
    let carrier = |signature: &Signature, side| json!({"type": "thinking", "thinking": "", "signature": carry(signature, side)});
    match &part.kind {
        PartKind::Text {
            text,
            citations,
            signature,
        } => {
            let mut block = json!({"type": "text", "text": text});
            if !citations.is_empty() {
                block["citations"] = citations.iter().map(write_citation).collect();
            }
            content.push(block);
            content.extend(
                signature
                    .as_ref()
                    .map(|signature| carrier(signature, Side::Last)),
            );
        }
        PartKind::Refusal(text) => content.push(json!({"type": "text", "text": text})),
        PartKind::Thinking { text, signature } => {
            let signature = signature
                .as_ref()
                .map(|signature| signature.tagged(Origin::Anthropic));
            let signature = signature.unwrap_or_default();
            content.push(json!({"type": "thinking", "thinking": text, "signature": signature}));
        }
        PartKind::Redacted(signature) => {
            content.push(
                json!({"type": "redacted_thinking", "data": signature.tagged(Origin::Anthropic)}),
            );
        }
        PartKind::ToolUse(call) => {
            content.extend(
                call.signature
                    .as_ref()
                    .map(|signature| carrier(signature, Side::Next)),
            );
            content.push(json!({
                "type": "tool_use",
                "id": fit(&call.id, IdRule::ANTHROPIC),
                "name": call.name,
                "input": input(call),
            }));
        }
        PartKind::Image { media, .. } => {
            content.push(json!({"type": "text", "text": image_note(media)}))
        }
        PartKind::Foreign(_)
        | PartKind::Audio(_)
        | PartKind::Video(_)
        | PartKind::Document { .. }
        | PartKind::ToolResult { .. } => {}
    }
}

/// The arguments as an object; some models write JSON that is none.
fn input(call: &ToolUse) -> Value {
    match serde_json::from_str(&call.arguments) {
        Ok(input @ Value::Object(_)) if !call.custom => input,
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({"input": call.arguments}),
    }
}
