//! A stream as the answer that it makes, for people who read a log. Each stays in its own dialect, with what no other dialect could
//! say: nothing is translated, the events are put together as the provider's own clients do.

mod merge;
mod openai;
mod others;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::http::eventstream::{self, EventStreamDecoder, Message};
use crate::http::sse::SseParser;
use openai::{Chat, Responses};
use others::{Cohere, Converse, Gemini, Messages, Words};

/// The answer that a stored stream makes, as JSON; of one that broke off what came of it. `None`: it is no stream, or none of a
/// dialect that is known.
pub fn assemble(content_type: Option<&str>, stream: &[u8]) -> Option<Vec<u8>> {
    let mut assembly = Assembly::default();
    match Framing::of(content_type?, stream)? {
        Framing::Sse => {
            let mut parser = SseParser::default();
            parser
                .feed(stream, |event| assembly.take("", event.data))
                .ok()?;
            // Of an answer that was cut, the last event may be half an event.
            parser.finish(|event| assembly.take("", event.data)).ok()?;
        }
        Framing::Lines => {
            for line in stream.split(|byte| *byte == b'\n') {
                assembly.take("", line);
            }
        }
        Framing::List => {
            let list: Vec<Value> = serde_json::from_slice(stream).ok()?;
            for document in list {
                assembly.document("", document);
            }
        }
        Framing::Messages => {
            let taken = each_message(stream, |name, payload| assembly.take(name, payload));
            taken.then_some(())?;
        }
    }
    let answer = assembly.maker?.finish()?;
    Some(answer.to_string().into_bytes())
}

/// Whether it is cut into events, of whatever dialect.
pub fn is_stream(content_type: Option<&str>, body: &[u8]) -> bool {
    content_type.is_some_and(|content_type| Framing::of(content_type, body).is_some())
}

/// An AWS event stream as text: its events one after the other, each with its name. `None`: it is none.
pub fn readable(content_type: Option<&str>, stream: &[u8]) -> Option<Vec<u8>> {
    let framing = Framing::of(content_type?, stream);
    if framing != Some(Framing::Messages) {
        return None;
    }
    let mut text = Vec::with_capacity(stream.len());
    let readable = each_message(stream, |name, payload| {
        for part in [b"event: ", name.as_bytes(), b"\ndata: ", payload, b"\n\n"] {
            text.extend_from_slice(part);
        }
    });
    readable.then_some(text)
}

/// Calls `on` with the name and the payload of each message, a vendor's event in base64 decoded; `false`: there is none, or they
/// cannot be read.
fn each_message(stream: &[u8], mut on: impl FnMut(&str, &[u8])) -> bool {
    let mut count = 0;
    let read = EventStreamDecoder::default().feed(stream, |message| {
        count += 1;
        let name = [":event-type", ":exception-type", ":error-code"]
            .iter()
            .find_map(|name| message.header(name))
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default();
        match (name == "chunk").then(|| inner(&message)).flatten() {
            Some(inner) => on(name, &inner),
            None => on(name, message.payload),
        }
    });
    read.is_ok() && count > 0
}

/// The event inside of a chunk (spec: providers 7.7).
fn inner(message: &Message<'_>) -> Option<Vec<u8>> {
    let chunk: Value = serde_json::from_slice(message.payload).ok()?;
    STANDARD.decode(chunk["bytes"].as_str()?).ok()
}

/// How a stream is cut into documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Sse,
    Lines,
    /// One list of JSON: Gemini's streams that nobody asked to be events.
    List,
    Messages,
}

impl Framing {
    fn of(content_type: &str, stream: &[u8]) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        Some(match kind.to_ascii_lowercase().as_str() {
            "text/event-stream" => Self::Sse,
            eventstream::CONTENT_TYPE => Self::Messages,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/stream+json" => Self::Lines,
            "application/json" if stream.trim_ascii_start().starts_with(b"[") => Self::List,
            _ => return None,
        })
    }
}

/// Puts the documents of one stream together.
trait Maker {
    /// Takes the next one; `name` is that of its event, where the framing has such.
    fn take(&mut self, name: &str, document: Value);

    /// The answer; `None`: there is none to tell.
    fn finish(self: Box<Self>) -> Option<Value>;
}

#[derive(Default)]
struct Assembly {
    /// Chosen by the first document whose form is known.
    maker: Option<Box<dyn Maker>>,
}

impl Assembly {
    fn take(&mut self, name: &str, data: &[u8]) {
        // What is no JSON is the end of the stream, or cut.
        if let Ok(document) = serde_json::from_slice(data) {
            self.document(name, document);
        }
    }

    fn document(&mut self, name: &str, document: Value) {
        if !document.is_object() {
            return;
        }
        if self.maker.is_none() {
            self.maker = maker(name, &document);
        }
        if let Some(maker) = &mut self.maker {
            maker.take(name, document);
        }
    }
}

fn maker(name: &str, document: &Value) -> Option<Box<dyn Maker>> {
    let kind = document["type"].as_str().unwrap_or_default();
    Some(match kind {
        _ if kind.starts_with("response.") => Box::new(Responses::default()),
        "message_start" => Box::new(Messages::default()),
        "message-start" => Box::new(Cohere::default()),
        _ if name == "messageStart" => Box::new(Converse::default()),
        _ if document["choices"].is_array() => Box::new(Chat::default()),
        _ if document["candidates"].is_array() || document["promptFeedback"].is_object() => {
            Box::new(Gemini::default())
        }
        _ if document["response"].is_string() => Box::new(Words::default()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
