//! Mistral's messages: a closed schema with rules of its own (spec: providers 10).

use serde_json::{Map, Value, json};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::ids::{IdRule, fit};

/// What a message may have, beside `name` of tool messages.
const KNOWN: [&str; 6] = [
    "role",
    "content",
    "tool_calls",
    "prefix",
    "tool_call_id",
    "index",
];

/// Brings messages to what Mistral takes.
pub fn reshape(
    messages: Vec<Value>,
    model: &str,
    changes: &mut Changes,
) -> Result<Vec<Value>, Invalid> {
    let mut reshaped: Vec<Value> = Vec::with_capacity(messages.len() + 1);
    for (at, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{at}]");
        let Value::Object(message) = message else {
            return Err(Invalid::at(&place, format!("{place} must be an object")));
        };
        let message = one(message, &place, model, changes)?;
        if is_empty(&message) {
            changes.dropped(&place);
            continue;
        }
        let after_tool = reshaped.last().is_some_and(|last| last["role"] == "tool");
        if after_tool && message["role"] == "user" {
            reshaped.push(json!({"role": "assistant", "content": "OK"}));
            changes.added("messages");
        }
        reshaped.push(Value::Object(message));
    }
    if let Some(last) = reshaped.last_mut()
        && last["role"] == "assistant"
        && last["prefix"] != true
    {
        last["prefix"] = Value::Bool(true);
        changes.added("messages.prefix");
    }
    Ok(reshaped)
}

/// An assistant that says nothing is refused.
fn is_empty(message: &Map<String, Value>) -> bool {
    let says = |field: &str| match message.get(field) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    };
    message.get("role").is_some_and(|role| role == "assistant")
        && !says("content")
        && !says("tool_calls")
}

fn one(
    mut message: Map<String, Value>,
    place: &str,
    model: &str,
    changes: &mut Changes,
) -> Result<Map<String, Value>, Invalid> {
    if message.get("role").is_some_and(|role| role == "developer") {
        message.insert("role".to_owned(), json!("system"));
        changes.set("messages.role", "system");
    }
    let thoughts = thoughts(&mut message, model, changes);
    if let Some(Value::String(refusal)) = message.remove("refusal") {
        let content = message.entry("content").or_insert(Value::Null);
        if content.is_null() {
            *content = Value::String(refusal);
        }
    }
    let is_tool = message.get("role").is_some_and(|role| role == "tool");
    message.retain(|field, value| {
        let known = KNOWN.contains(&field.as_str()) || (is_tool && field == "name");
        if !known && !is_nothing(value) {
            changes.dropped(&format!("messages.{field}"));
        }
        known
    });
    if let Some(Value::String(id)) = message.get_mut("tool_call_id") {
        *id = fit(id, IdRule::MISTRAL).into_owned();
    }
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls
            .iter_mut()
            .for_each(|call| reshape_call(call, changes));
    }
    if let Some(Value::Array(parts)) = message.get_mut("content") {
        for (at, part) in parts.iter_mut().enumerate() {
            *part = reshape_part(part.take(), &format!("{place}.content[{at}]"), changes)?;
        }
    }
    if let Some(text) = thoughts {
        let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": text}]});
        let mut parts = vec![thinking];
        match message.remove("content") {
            Some(Value::String(text)) if !text.is_empty() => {
                parts.push(json!({"type": "text", "text": text}));
            }
            Some(Value::Array(more)) => parts.extend(more),
            _ => {}
        }
        message.insert("content".to_owned(), Value::Array(parts));
    }
    Ok(message)
}

/// What the model thought, where it takes that back. Only the magistral models are known to.
fn thoughts(
    message: &mut Map<String, Value>,
    model: &str,
    changes: &mut Changes,
) -> Option<String> {
    let mut text = None;
    for field in ["reasoning_details", "reasoning", "reasoning_content"] {
        match message.remove(field) {
            Some(Value::String(thoughts)) if !thoughts.is_empty() => {
                match model.starts_with("magistral") {
                    true => text = Some(thoughts),
                    false => changes.dropped(&format!("messages.{field}")),
                }
            }
            Some(value) if !is_nothing(&value) => changes.dropped(&format!("messages.{field}")),
            _ => {}
        }
    }
    text
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn reshape_call(call: &mut Value, changes: &mut Changes) {
    let Value::Object(call) = call else { return };
    if let Some(Value::String(id)) = call.get_mut("id") {
        *id = fit(id, IdRule::MISTRAL).into_owned();
    }
    call.retain(|field, value| {
        let known = matches!(field.as_str(), "id" | "type" | "function" | "index");
        if !known && !value.is_null() {
            changes.dropped(&format!("messages.tool_calls.{field}"));
        }
        known
    });
}

fn reshape_part(part: Value, place: &str, changes: &mut Changes) -> Result<Value, Invalid> {
    let Value::Object(mut part) = part else {
        return Ok(part);
    };
    if part.remove("cache_control").is_some() {
        changes.dropped("cache_control");
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok(match kind {
        "refusal" => json!({"type": "text", "text": part.remove("refusal")}),
        "input_audio" => {
            let data = part.get_mut("input_audio").map(|audio| match audio {
                Value::Object(audio) => audio.remove("data").unwrap_or_default(),
                other => other.take(),
            });
            json!({"type": "input_audio", "input_audio": data})
        }
        "file" => {
            let mut file = match part.remove("file") {
                Some(Value::Object(file)) => file,
                _ => Map::new(),
            };
            let Some(data) = file.remove("file_data").filter(Value::is_string) else {
                return Err(Invalid::unsupported(
                    format!("{place}.file.file_id"),
                    "A file_id belongs to another vendor's store; send file_data",
                ));
            };
            let mut document = json!({"type": "document_url", "document_url": data});
            if let Some(name) = file.remove("filename") {
                document["document_name"] = name;
            }
            document
        }
        _ => Value::Object(part),
    })
}
