//! Neutral events to the stream that Anthropic's clients put together.

use serde_json::{Value, json};

use super::super::Terms;
use super::super::ids::{IdRule, fit};
use super::super::neutral::{Delta, Event, Opening, Origin, Signature, Stop, StopReason};
use super::super::stream::Writer;
use super::answer::{envelope, image_note, write_citation, write_stop, write_usage};
use super::carried::{Side, carry};
use super::errors::write_error;
use crate::meter::Usage;

/// Writes the events of an answer: the first choice, as Messages has no others.
pub struct StreamWriter {
    terms: Terms,
    started: bool,
    failed: bool,
    /// Index of the next block.
    next: u32,
    open: Vec<OpenPart>,
    usage: Usage,
    /// Held back until the end of the stream, which states the usage with it.
    stop: Option<Stop>,
}

/// A part of the answer and the block that it is.
struct OpenPart {
    part: u32,
    block: u32,
    kind: Kind,
    /// Came while the block could not say it.
    signature: Option<Signature>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
    /// Said all with its start.
    Whole,
}

impl StreamWriter {
    /// For the answer to one request.
    pub fn new(terms: &Terms) -> Self {
        Self {
            terms: terms.clone(),
            started: false,
            failed: false,
            next: 0,
            open: Vec::new(),
            usage: Usage::default(),
            stop: None,
        }
    }
}

impl Writer for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, .. } => self.start(id.as_deref(), model.as_deref(), out),
            Event::Open {
                choice: 0,
                index,
                part,
            } => self.open(*index, part, out),
            Event::Delta {
                choice: 0,
                index,
                delta,
            } => self.grow(*index, delta, out),
            Event::Close { choice: 0, index } => {
                if let Some(at) = self.open.iter().position(|open| open.part == *index) {
                    let open = self.open.remove(at);
                    self.close(open, out);
                }
            }
            Event::Stop { choice: 0, stop } => self.stop = Some(stop.clone()),
            Event::Usage(usage) => self.usage = *usage,
            Event::KeepAlive => {
                out.extend_from_slice(b"event: ping\ndata: {\"type\": \"ping\"}\n\n")
            }
            Event::Failed(failure) => {
                self.failed = true;
                put("error", &write_error(failure), out);
            }
            Event::Open { .. } | Event::Delta { .. } | Event::Close { .. } | Event::Stop { .. } => {
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        self.start(None, None, out);
        for open in std::mem::take(&mut self.open) {
            self.close(open, out);
        }
        let stop = self
            .stop
            .take()
            .unwrap_or_else(|| Stop::new(StopReason::End));
        let event = json!({"type": "message_delta", "delta": write_stop(&stop), "usage": write_usage(self.usage)});
        put("message_delta", &event, out);
        put("message_stop", &json!({"type": "message_stop"}), out);
    }
}

impl StreamWriter {
    fn start(&mut self, id: Option<&str>, model: Option<&str>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let mut message = envelope(id, model, &self.terms);
        let nothing_yet = [
            ("content", json!([])),
            ("stop_reason", Value::Null),
            ("stop_sequence", Value::Null),
        ];
        message.extend(nothing_yet.map(|(key, value)| (key.to_owned(), value)));
        message.insert("usage".to_owned(), write_usage(self.usage));
        put(
            "message_start",
            &json!({"type": "message_start", "message": message}),
            out,
        );
    }

    fn open(&mut self, part: u32, opening: &Opening<'_>, out: &mut Vec<u8>) {
        self.start(None, None, out);
        let (kind, content) = match opening {
            Opening::Text | Opening::Refusal => (Kind::Text, json!({"type": "text", "text": ""})),
            Opening::Thinking => (
                Kind::Thinking,
                json!({"type": "thinking", "thinking": "", "signature": ""}),
            ),
            Opening::Redacted(signature) => {
                let data = signature.tagged(Origin::Anthropic);
                (
                    Kind::Whole,
                    json!({"type": "redacted_thinking", "data": data}),
                )
            }
            Opening::Image(_) => (Kind::Whole, json!({"type": "text", "text": ""})),
            Opening::ToolUse {
                id,
                name,
                signature,
                ..
            } => {
                if let Some(signature) = signature {
                    self.carrier(signature, Side::Next, out);
                }
                let id = fit(id, IdRule::ANTHROPIC);
                (
                    Kind::Call,
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                )
            }
        };
        let block = self.open_block(content, out);
        if let Opening::Image(media) = opening {
            let delta = json!({"type": "text_delta", "text": image_note(media)});
            put_delta(block, &delta, out);
        }
        self.open.push(OpenPart {
            part,
            block,
            kind,
            signature: None,
        });
    }

    fn grow(&mut self, part: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(open) = self.open.iter_mut().find(|open| open.part == part) else {
            return;
        };
        match (open.kind, delta) {
            (Kind::Text, Delta::Text(text) | Delta::Refusal(text)) => {
                put_text(open.block, "text_delta", "text", text, out);
            }
            (Kind::Thinking, Delta::Thinking(text)) => {
                put_text(open.block, "thinking_delta", "thinking", text, out)
            }
            (Kind::Call, Delta::Arguments(text)) => {
                put_text(open.block, "input_json_delta", "partial_json", text, out);
            }
            (Kind::Thinking, Delta::Signature(signature)) => {
                let signature = signature.tagged(Origin::Anthropic);
                put_text(open.block, "signature_delta", "signature", &signature, out);
            }
            (_, Delta::Signature(signature)) => open.signature = Some(signature.clone()),
            (Kind::Text, Delta::Citation(citation)) => {
                let delta =
                    json!({"type": "citations_delta", "citation": write_citation(citation)});
                put_delta(open.block, &delta, out);
            }
            _ => {}
        }
    }

    fn close(&mut self, open: OpenPart, out: &mut Vec<u8>) {
        close_block(open.block, out);
        if let Some(signature) = open.signature {
            self.carrier(&signature, Side::Last, out);
        }
    }

    /// A block that holds nothing but the signature of the part beside it.
    fn carrier(&mut self, signature: &Signature, side: Side, out: &mut Vec<u8>) {
        let block = self.open_block(
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            out,
        );
        put_text(
            block,
            "signature_delta",
            "signature",
            &carry(signature, side),
            out,
        );
        close_block(block, out);
    }

    fn open_block(&mut self, content: Value, out: &mut Vec<u8>) -> u32 {
        let block = self.next;
        self.next += 1;
        let event =
            json!({"type": "content_block_start", "index": block, "content_block": content});
        put("content_block_start", &event, out);
        block
    }
}

fn put(name: &str, event: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, event);
    out.extend_from_slice(b"\n\n");
}

fn put_delta(block: u32, delta: &Value, out: &mut Vec<u8>) {
    let event = json!({"type": "content_block_delta", "index": block, "delta": delta});
    put("content_block_delta", &event, out);
}

/// The events that come for every token are written without a tree.
fn put_text(block: u32, kind: &str, field: &str, text: &str, out: &mut Vec<u8>) {
    if text.is_empty() {
        return;
    }
    let head = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{block},\"delta\":{{\"type\":\"{kind}\",\"{field}\":"
    );
    out.extend_from_slice(head.as_bytes());
    let _ = serde_json::to_writer(&mut *out, text);
    out.extend_from_slice(b"}}\n\n");
}

fn close_block(block: u32, out: &mut Vec<u8>) {
    let event = json!({"type": "content_block_stop", "index": block});
    put("content_block_stop", &event, out);
}
