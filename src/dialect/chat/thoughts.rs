//! How thoughts and their signatures travel in chat: `reasoning_content` for people, `reasoning_details` for their provider (spec:
//! providers 1.9).

use serde_json::{Map, Value, json};

use super::super::failure::Invalid;
use super::super::fields::Fields;
use super::super::neutral::{Origin, PartKind, Signature};
use super::places::{format_of, origin_of};

/// What a message says of thoughts.
#[derive(Debug, PartialEq)]
pub enum Thought {
    /// A thought.
    Part(PartKind),
    /// The signature of the text that ends the thinking (Gemini).
    OfText(Signature),
}

/// The `id` of an entry that signs the text.
const OF_TEXT: &str = "text";

/// Takes the thoughts of a message: from the details where there are some, else from the plain text.
pub fn thoughts_of(message: &mut Fields) -> Result<Vec<Thought>, Invalid> {
    let short = message.take("reasoning");
    let plain = match message.take("reasoning_content") {
        Some(Value::String(text)) => Some(text),
        _ => short.and_then(|short| short.as_str().map(str::to_owned)),
    };
    let details = message.list("reasoning_details")?.unwrap_or_default();
    Ok(combine(plain.unwrap_or_default(), details))
}

/// Thoughts from their text and their details.
pub fn combine(plain: String, details: Vec<Value>) -> Vec<Thought> {
    let mut thoughts: Vec<Thought> = details.into_iter().filter_map(read_detail).collect();
    let said = |thought: &Thought| match thought {
        Thought::Part(PartKind::Thinking { text, .. }) => !text.is_empty(),
        _ => false,
    };
    if plain.is_empty() || thoughts.iter().any(said) {
        return thoughts;
    }
    // A client that dropped the text of the details may have kept the signature; it can only be the one of the whole.
    let unsaid: Vec<usize> = (0..thoughts.len())
        .filter(|at| matches!(&thoughts[*at], Thought::Part(PartKind::Thinking { .. })))
        .collect();
    match unsaid.as_slice() {
        [at] => {
            if let Thought::Part(PartKind::Thinking { text, .. }) = &mut thoughts[*at] {
                *text = plain;
            }
        }
        _ => {
            thoughts.retain(|thought| !matches!(thought, Thought::Part(PartKind::Thinking { .. })));
            let thinking = PartKind::Thinking {
                text: plain,
                signature: None,
            };
            thoughts.insert(0, Thought::Part(thinking));
        }
    }
    thoughts
}

fn read_detail(detail: Value) -> Option<Thought> {
    let Value::Object(mut detail) = detail else {
        return None;
    };
    let format = text_of(&mut detail, "format");
    let origin = format
        .as_deref()
        .map(|format| origin_of(format).unwrap_or(Origin::Other));
    let sign = |data: String| match origin {
        Some(origin) => Signature::new(origin, data),
        None => unmarked(data),
    };
    match text_of(&mut detail, "type")?.as_str() {
        "reasoning.text" => {
            let text = text_of(&mut detail, "text").unwrap_or_default();
            let signature = text_of(&mut detail, "signature").filter(|data| !data.is_empty());
            Some(Thought::Part(PartKind::Thinking {
                text,
                signature: signature.map(sign),
            }))
        }
        "reasoning.summary" => Some(Thought::Part(PartKind::Thinking {
            text: text_of(&mut detail, "summary").unwrap_or_default(),
            signature: None,
        })),
        "reasoning.encrypted" => {
            let signature = sign(text_of(&mut detail, "data")?);
            match text_of(&mut detail, "id").as_deref() {
                Some(OF_TEXT) => Some(Thought::OfText(signature)),
                _ => Some(Thought::Part(PartKind::Redacted(signature))),
            }
        }
        _ => None,
    }
}

fn text_of(map: &mut Map<String, Value>, field: &str) -> Option<String> {
    match map.remove(field) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A signature whose owner nobody names is most likely Claude's: nobody else signs readable thoughts.
pub fn unmarked(data: String) -> Signature {
    Signature::from_tagged(&data, Origin::Anthropic)
}

/// An entry for a readable thought.
pub fn text_detail(text: Option<&str>, signature: &Signature, index: usize) -> Value {
    let mut detail = json!({"type": "reasoning.text"});
    if let Some(text) = text {
        detail["text"] = text.into();
    }
    detail["signature"] = signature.data.as_str().into();
    detail["format"] = format_of(signature.origin).into();
    detail["index"] = index.into();
    detail
}

/// An entry for a thought that cannot be read.
pub fn encrypted_detail(signature: &Signature, index: usize) -> Value {
    json!({
        "type": "reasoning.encrypted", "data": signature.data, "format": format_of(signature.origin), "index": index,
    })
}

/// An entry for the signature of the text.
pub fn text_signature_detail(signature: &Signature, index: usize) -> Value {
    let mut detail = encrypted_detail(signature, index);
    detail["id"] = OF_TEXT.into();
    detail
}
