//! Claude's stream to neutral events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::super::Terms;
use super::super::failure::Failure;
use super::super::fields::Fields;
use super::super::neutral::{Delta, Event, Opening, Origin, Signature};
use super::super::stream::{Frame, Reader};
use super::super::unwrap::Undo;
use super::answer::read_stop;
use super::errors::{read_error, read_error_within};
use super::read_blocks::read_citation;
use crate::limits::STREAM_PARTS_OPEN_MAX;

/// Reads the events of an answer.
pub struct StreamReader {
    undo: Undo,
    /// Blocks that began and did not end.
    open: Vec<OpenBlock>,
    /// Parts that were opened.
    parts: u32,
    stopped: bool,
    ended: bool,
}

/// A block of the provider's, and the part that it is.
struct OpenBlock {
    index: u64,
    part: u32,
    is_call: bool,
    /// The arguments that stood in the block's start, for a call that gets none later.
    arguments: Option<String>,
}

impl StreamReader {
    /// For the answer to one request.
    pub fn new(terms: &Terms) -> Self {
        Self {
            undo: Undo::new(&terms.unwrap),
            open: Vec::new(),
            parts: 0,
            stopped: false,
            ended: false,
        }
    }
}

impl Reader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        match frame {
            Frame::Event { data, .. } => self.event(data, out),
            Frame::Exception { kind, data } => {
                Err(read_error(exception_status(kind), Some(kind), data))
            }
            Frame::Stray(data) => match serde_json::from_slice::<Value>(data) {
                Ok(envelope) if envelope.get("error").is_some() => {
                    Err(read_error_within(&envelope))
                }
                _ => Ok(()),
            },
        }
    }

    fn end(&mut self, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        // Some that speak alike leave out the last event; with a reason to stop nothing is missing.
        if !self.ended && !self.stopped {
            return Err(Failure::broken(
                "The provider's stream ended before its answer did",
            ));
        }
        self.close_all(out);
        Ok(())
    }
}

/// What an event holds; only those are parsed further that are needed.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Grown<'a>>,
    content_block: Option<Value>,
    message: Option<Value>,
}

/// What a block grows by, or what changed in the message.
#[derive(Deserialize)]
struct Grown<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    citation: Option<Value>,
    stop_reason: Option<Value>,
    stop_sequence: Option<Value>,
    stop_details: Option<Value>,
}

impl StreamReader {
    fn event(&mut self, data: &[u8], out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        if data.trim_ascii() == b"[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let incoming: Incoming<'_> = serde_json::from_slice(data).map_err(|error| {
            Failure::broken(format!(
                "An event of the provider's cannot be read: {error}"
            ))
            .with_raw(data)
        })?;
        match incoming.kind.as_ref() {
            "message_start" => start(incoming.message.as_ref(), out),
            "content_block_start" => return self.open(incoming.index, incoming.content_block, out),
            "content_block_delta" => {
                if let Some(delta) = incoming.delta {
                    self.grow(incoming.index, delta, out);
                }
            }
            "content_block_stop" => self.close(incoming.index, out),
            "message_delta" => {
                if let Some(delta) = incoming.delta {
                    self.stop(delta, out);
                }
            }
            "message_stop" => self.ended = true,
            "ping" => out(Event::KeepAlive),
            "error" => {
                let envelope = serde_json::from_slice(data).unwrap_or_default();
                return Err(read_error_within(&envelope));
            }
            // A bare error, of something between the provider and here.
            "" => {
                let envelope: Value = serde_json::from_slice(data).unwrap_or_default();
                if envelope.get("error").is_some() {
                    return Err(read_error_within(&envelope));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        index: u64,
        block: Option<Value>,
        out: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let block = block.unwrap_or_default();
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut arguments = None;
        let part = match text("type") {
            "text" => Opening::Text,
            "thinking" => Opening::Thinking,
            "redacted_thinking" => {
                Opening::Redacted(Signature::new(Origin::Anthropic, text("data")))
            }
            "tool_use" => {
                let input = block.get("input").and_then(Value::as_object);
                let given = input.filter(|input| !input.is_empty());
                arguments = given.map(|_| block["input"].to_string());
                Opening::ToolUse {
                    id: Cow::Borrowed(text("id")),
                    name: Cow::Borrowed(text("name")),
                    custom: false,
                    signature: None,
                }
            }
            // Tools that run at the provider, and what is to come: their deltas find no block.
            _ => return Ok(()),
        };
        let is_call = matches!(part, Opening::ToolUse { .. });
        self.make_room(index, is_call, out)?;
        let opened = self.parts;
        self.parts += 1;
        self.open.push(OpenBlock {
            index,
            part: opened,
            is_call,
            arguments,
        });
        self.undo.pass(
            Event::Open {
                choice: 0,
                index: opened,
                part,
            },
            out,
        );
        // Some begin a block with its first words.
        for (key, delta) in [
            ("text", Delta::Text(Cow::Borrowed(text("text")))),
            ("thinking", Delta::Thinking(Cow::Borrowed(text("thinking")))),
        ] {
            if text("type") == key && !text(key).is_empty() {
                self.undo.pass(
                    Event::Delta {
                        choice: 0,
                        index: opened,
                        delta,
                    },
                    out,
                );
            }
        }
        if text("type") == "thinking" && !text("signature").is_empty() {
            let delta = Delta::Signature(Signature::new(Origin::Anthropic, text("signature")));
            self.undo.pass(
                Event::Delta {
                    choice: 0,
                    index: opened,
                    delta,
                },
                out,
            );
        }
        Ok(())
    }

    /// Calls may be open beside each other; nothing else may.
    fn make_room(
        &mut self,
        index: u64,
        is_call: bool,
        out: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        if self.open.len() >= STREAM_PARTS_OPEN_MAX {
            return Err(Failure::broken(
                "The provider's stream opens blocks without end",
            ));
        }
        let in_the_way = |block: &OpenBlock| block.index == index || !(is_call && block.is_call);
        while let Some(at) = self.open.iter().position(in_the_way) {
            let block = self.open.remove(at);
            self.finish(block, out);
        }
        Ok(())
    }

    fn grow(&mut self, index: u64, delta: Grown<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let Some(block) = self.open.iter_mut().find(|block| block.index == index) else {
            return;
        };
        let part = block.part;
        let delta = match delta.kind.as_ref() {
            "text_delta" => delta.text.filter(|text| !text.is_empty()).map(Delta::Text),
            "input_json_delta" => {
                let fragment = delta.partial_json.filter(|text| !text.is_empty());
                block.arguments = block.arguments.take().filter(|_| fragment.is_none());
                fragment.map(Delta::Arguments)
            }
            "thinking_delta" => delta
                .thinking
                .filter(|text| !text.is_empty())
                .map(Delta::Thinking),
            "signature_delta" => {
                let data = delta.signature.filter(|data| !data.is_empty());
                data.map(|data| Delta::Signature(Signature::new(Origin::Anthropic, data)))
            }
            "citations_delta" => delta
                .citation
                .as_ref()
                .and_then(read_citation)
                .map(Delta::Citation),
            _ => None,
        };
        if let Some(delta) = delta {
            self.undo.pass(
                Event::Delta {
                    choice: 0,
                    index: part,
                    delta,
                },
                out,
            );
        }
    }

    fn close(&mut self, index: u64, out: &mut dyn FnMut(Event<'_>)) {
        if let Some(at) = self.open.iter().position(|block| block.index == index) {
            let block = self.open.remove(at);
            self.finish(block, out);
        }
    }

    fn finish(&mut self, block: OpenBlock, out: &mut dyn FnMut(Event<'_>)) {
        let index = block.part;
        if let Some(arguments) = block.arguments {
            let delta = Delta::Arguments(Cow::Owned(arguments));
            self.undo.pass(
                Event::Delta {
                    choice: 0,
                    index,
                    delta,
                },
                out,
            );
        }
        self.undo.pass(Event::Close { choice: 0, index }, out);
    }

    fn close_all(&mut self, out: &mut dyn FnMut(Event<'_>)) {
        for block in std::mem::take(&mut self.open) {
            self.finish(block, out);
        }
    }

    fn stop(&mut self, delta: Grown<'_>, out: &mut dyn FnMut(Event<'_>)) {
        let Some(reason) = delta.stop_reason.filter(|_| !self.stopped) else {
            return;
        };
        self.close_all(out);
        self.stopped = true;
        let fields = serde_json::json!({
            "stop_reason": reason, "stop_sequence": delta.stop_sequence, "stop_details": delta.stop_details,
        });
        if let Ok(fields) = Fields::of(fields, "") {
            let stop = read_stop(&fields);
            self.undo.pass(Event::Stop { choice: 0, stop }, out);
        }
    }
}

fn start(message: Option<&Value>, out: &mut dyn FnMut(Event<'_>)) {
    let text = |key: &str| message?.get(key)?.as_str().map(Cow::Borrowed);
    out(Event::Start {
        id: text("id"),
        model: text("model"),
        created: None,
    });
}

/// The status that an exception of a Bedrock stream stands for (spec: providers 7.6).
pub(super) fn exception_status(kind: &str) -> u16 {
    match kind {
        "throttlingException" => 429,
        "serviceUnavailableException" => 503,
        "modelStreamErrorException" => 424,
        "validationException" => 400,
        "modelTimeoutException" => 408,
        _ => 500,
    }
}
