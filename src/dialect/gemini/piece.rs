//! One part of a candidate, read alike in answers and streams.

use serde_json::Value;

use super::answer::{signature, take_text};
use crate::dialect::neutral::{Media, PartKind, Signature};

/// What a part says.
pub(super) struct Piece {
    pub kind: Kind,
    pub signature: Option<Signature>,
}

pub(super) enum Kind {
    Text(String),
    Thought(String),
    /// An empty text, that only carries a signature.
    Nothing,
    Call {
        id: Option<String>,
        name: String,
        /// JSON text of an object.
        arguments: String,
    },
    /// A picture, sound, film or file.
    Media(PartKind),
}

impl Piece {
    /// `None`: nothing that another dialect could say. Tools that Google ran are left out, and their results.
    pub fn read(mut part: Value) -> Option<Self> {
        if !part.is_object() {
            return None;
        }
        let signature = signature(&mut part);
        let thought = part["thought"] == true;
        let kind = kind(part, thought);
        let kind = match kind {
            None => None,
            Some(Kind::Nothing) => signature.is_some().then_some(Kind::Nothing),
            kind => kind,
        };
        Some(Self {
            kind: kind?,
            signature,
        })
    }
}

fn kind(mut part: Value, thought: bool) -> Option<Kind> {
    if let Some(text) = part.get_mut("text") {
        return match (text.take(), thought) {
            (Value::String(text), _) if text.is_empty() => Some(Kind::Nothing),
            (Value::String(text), true) => Some(Kind::Thought(text)),
            (Value::String(text), false) => Some(Kind::Text(text)),
            _ => None,
        };
    }
    if let Some(call) = part.get_mut("functionCall") {
        return Some(Kind::Call {
            id: take_text(call, "id"),
            name: take_text(call, "name")?,
            arguments: match &call["args"] {
                args @ Value::Object(_) => args.to_string(),
                _ => "{}".to_owned(),
            },
        });
    }
    // Drafts of pictures, made while thinking, are not the answer.
    if thought {
        return None;
    }
    if let Some(blob) = part.get_mut("inlineData") {
        let mime = take_text(blob, "mimeType")?;
        let data = take_text(blob, "data")?;
        return Some(Kind::Media(media(Media::Inline { mime, data })));
    }
    if let Some(file) = part.get_mut("fileData") {
        let url = take_text(file, "fileUri")?;
        let mime = take_text(file, "mimeType");
        return Some(Kind::Media(media(Media::Url { url, mime })));
    }
    None
}

fn media(media: Media) -> PartKind {
    let mime = match &media {
        Media::Inline { mime, .. } => mime.as_str(),
        Media::Url { mime, .. } => mime.as_deref().unwrap_or_default(),
        _ => "",
    };
    match mime.split('/').next().unwrap_or_default() {
        "image" => PartKind::Image {
            media,
            detail: None,
        },
        "audio" => PartKind::Audio(media),
        "video" => PartKind::Video(media),
        _ => PartKind::Document { media, name: None },
    }
}
