//! ConverseStream (spec: providers 7.6): blocks without a beginning of their own, an end that comes before the usage, and
//! exceptions between.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{is_server_tool, read_citation, redacted_signature, stop, stop_sequence};
use super::errors::read_exception;
use crate::dialect::Terms;
use crate::dialect::failure::Failure;
use crate::dialect::models::others::Model;
use crate::dialect::neutral::{Delta, Event, Media, Opening, Origin, Signature};
use crate::dialect::stream::{Frame, Reader};
use crate::dialect::unwrap::Undo;
use crate::limits::{CONVERSE_OPEN_BLOCKS_MAX, EVENTSTREAM_PAYLOAD_MAX};

/// Reads a stream.
pub struct StreamReader {
    origin: Origin,
    undo: Undo,
    started: bool,
    stopped: bool,
    /// `metadata` came, which is the end.
    whole: bool,
    /// Parts opened so far.
    parts: u32,
    calls: bool,
    /// Blocks that are not complete, by the provider's index.
    open: Vec<(u64, Block)>,
}

enum Block {
    Text(u32),
    Thinking {
        index: u32,
        signature: String,
    },
    Redacted(Vec<u8>),
    Call(u32),
    /// Its format; whole with its first delta.
    Image(String),
    /// Of a tool that Bedrock runs, or not known.
    Ignored,
}

type Sink<'s> = &'s mut dyn FnMut(Event<'_>);

impl StreamReader {
    /// Of an answer to a request of these terms.
    pub fn new(terms: &Terms) -> Self {
        Self {
            origin: Model::of(&terms.model).origin(),
            undo: Undo::new(&terms.unwrap),
            started: false,
            stopped: false,
            whole: false,
            parts: 0,
            calls: false,
            open: Vec::new(),
        }
    }

    fn event(&mut self, name: &str, data: &[u8], out: Sink<'_>) -> Result<(), Failure> {
        match name {
            "messageStart" => {
                self.start(out);
                Ok(())
            }
            "contentBlockStart" => self.block_start(parse(data)?, out),
            "contentBlockDelta" => self.block_delta(parse(data)?, out),
            "contentBlockStop" => {
                let at: At = parse(data)?;
                self.close(at.content_block_index, out);
                Ok(())
            }
            "messageStop" => self.message_stop(parse(data)?, out),
            "metadata" => {
                self.whole = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, out: Sink<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            out(Event::Start {
                id: None,
                model: None,
                created: None,
            });
        }
    }

    fn block_start(&mut self, event: BlockStart<'_>, out: Sink<'_>) -> Result<(), Failure> {
        self.start(out);
        let at = event.content_block_index;
        self.close(at, out);
        let block = match event.start {
            Start {
                tool_use: Some(call),
                ..
            } if !is_server_tool(call.kind.as_deref()) => {
                self.calls = true;
                let part = Opening::ToolUse {
                    id: call.tool_use_id,
                    name: call.name,
                    custom: false,
                    signature: None,
                };
                Block::Call(self.open_part(part, out))
            }
            Start {
                image: Some(image), ..
            } => Block::Image(image.format.into_owned()),
            _ => Block::Ignored,
        };
        self.remember(at, block)
    }

    fn block_delta(&mut self, event: BlockDelta<'_>, out: Sink<'_>) -> Result<(), Failure> {
        self.start(out);
        let at = event.content_block_index;
        let delta = event.delta;
        if let Some(Text(text)) = delta.text {
            if !text.is_empty()
                && let Some(index) = self.text(at, out)?
            {
                self.grow(index, Delta::Text(text), out);
            }
        } else if let Some(call) = delta.tool_use {
            if let Some((_, Block::Call(index))) = self.find(at)
                && !call.input.is_empty()
            {
                let index = *index;
                self.grow(index, Delta::Arguments(call.input), out);
            }
        } else if let Some(reasoning) = delta.reasoning_content {
            self.reasoning(at, reasoning, out)?;
        } else if let Some(citation) = delta.citation.as_ref().and_then(read_citation) {
            if let Some(index) = self.text(at, out)? {
                self.grow(index, Delta::Citation(citation), out);
            }
        } else if let Some(image) = delta.image {
            self.image(at, &image, out);
        }
        Ok(())
    }

    fn reasoning(
        &mut self,
        at: u64,
        reasoning: ReasoningDelta<'_>,
        out: Sink<'_>,
    ) -> Result<(), Failure> {
        if let Some(Text(redacted)) = reasoning.redacted_content {
            let bytes = STANDARD.decode(redacted.as_bytes());
            let bytes = bytes.map_err(|_| broken("redacted thoughts are not base64"))?;
            return match self.find(at) {
                Some((_, Block::Redacted(kept))) => keep(kept, &bytes),
                Some(_) => Ok(()),
                None => {
                    self.close_others(out);
                    self.remember(at, Block::Redacted(bytes))
                }
            };
        }
        if reasoning.text.is_none() && reasoning.signature.is_none() {
            return Ok(());
        }
        if self.find(at).is_none() {
            self.close_others(out);
            let index = self.open_part(Opening::Thinking, out);
            let signature = String::new();
            self.remember(at, Block::Thinking { index, signature })?;
        }
        let Some((_, Block::Thinking { index, signature })) = self.find(at) else {
            return Ok(());
        };
        let index = *index;
        if let Some(Text(piece)) = &reasoning.signature {
            if signature.len() + piece.len() > EVENTSTREAM_PAYLOAD_MAX {
                return Err(broken("a signature has no end"));
            }
            signature.push_str(piece);
        }
        if let Some(Text(text)) = reasoning.text
            && !text.is_empty()
        {
            self.grow(index, Delta::Thinking(text), out);
        }
        Ok(())
    }

    fn image(&mut self, at: u64, image: &Value, out: Sink<'_>) {
        let bytes = image.pointer("/source/bytes").and_then(Value::as_str);
        let (Some((_, block @ Block::Image(_))), Some(bytes)) = (self.find(at), bytes) else {
            return;
        };
        let Block::Image(format) = std::mem::replace(block, Block::Ignored) else {
            return;
        };
        self.close_others(out);
        let index = self.open_part(
            Opening::Image(Media::Inline {
                mime: format!("image/{format}"),
                data: bytes.to_owned(),
            }),
            out,
        );
        self.pass(Event::Close { choice: 0, index }, out);
    }

    fn message_stop(&mut self, event: MessageStop<'_>, out: Sink<'_>) -> Result<(), Failure> {
        self.start(out);
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        while let Some((_, block)) = self.open.pop() {
            self.complete(block, out);
        }
        let mut stop = stop(&event.stop_reason, self.calls, self.parts > 0)?;
        let fields = event.additional_model_response_fields;
        stop.sequence = fields.as_ref().and_then(stop_sequence);
        self.pass(Event::Stop { choice: 0, stop }, out);
        Ok(())
    }

    /// The text of that block, opened where it is not. `None`: the block is something else.
    fn text(&mut self, at: u64, out: Sink<'_>) -> Result<Option<u32>, Failure> {
        match self.find(at) {
            Some((_, Block::Text(index))) => Ok(Some(*index)),
            Some(_) => Ok(None),
            None => {
                self.close_others(out);
                let index = self.open_part(Opening::Text, out);
                self.remember(at, Block::Text(index))?;
                Ok(Some(index))
            }
        }
    }

    fn open_part(&mut self, part: Opening<'_>, out: Sink<'_>) -> u32 {
        if matches!(part, Opening::ToolUse { .. }) {
            self.close_others_than_calls(out);
        }
        let index = self.parts;
        self.parts += 1;
        let event = Event::Open {
            choice: 0,
            index,
            part,
        };
        self.pass(event, out);
        index
    }

    fn grow(&mut self, index: u32, delta: Delta<'_>, out: Sink<'_>) {
        let event = Event::Delta {
            choice: 0,
            index,
            delta,
        };
        self.pass(event, out);
    }

    /// Ends whatever is open: only calls may be open together.
    fn close_others(&mut self, out: Sink<'_>) {
        for (at, block) in std::mem::take(&mut self.open) {
            match block {
                Block::Ignored | Block::Image(_) => self.open.push((at, block)),
                block => self.complete(block, out),
            }
        }
    }

    fn close_others_than_calls(&mut self, out: Sink<'_>) {
        for (at, block) in std::mem::take(&mut self.open) {
            match block {
                Block::Text(_) | Block::Thinking { .. } | Block::Redacted(_) => {
                    self.complete(block, out);
                }
                block => self.open.push((at, block)),
            }
        }
    }

    fn close(&mut self, at: u64, out: Sink<'_>) {
        let found = self.open.iter().position(|(index, _)| *index == at);
        if let Some(found) = found {
            let (_, block) = self.open.remove(found);
            self.complete(block, out);
        }
    }

    fn complete(&mut self, block: Block, out: Sink<'_>) {
        let index = match block {
            Block::Ignored | Block::Image(_) => return,
            Block::Text(index) | Block::Call(index) => index,
            Block::Thinking { index, signature } => {
                if !signature.is_empty() {
                    let signature = Signature::new(self.origin, signature);
                    self.grow(index, Delta::Signature(signature), out);
                }
                index
            }
            Block::Redacted(bytes) => {
                let signature = redacted_signature(bytes, self.origin);
                self.open_part(Opening::Redacted(signature), out)
            }
        };
        self.pass(Event::Close { choice: 0, index }, out);
    }

    fn find(&mut self, at: u64) -> Option<&mut (u64, Block)> {
        self.open.iter_mut().find(|(index, _)| *index == at)
    }

    fn remember(&mut self, at: u64, block: Block) -> Result<(), Failure> {
        if self.open.len() >= CONVERSE_OPEN_BLOCKS_MAX {
            return Err(broken("blocks begin and do not end"));
        }
        self.open.push((at, block));
        Ok(())
    }

    fn pass(&mut self, event: Event<'_>, out: Sink<'_>) {
        self.undo.pass(event, out);
    }
}

impl Reader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        match frame {
            Frame::Event { name, data } => self.event(name, data, out),
            Frame::Exception { kind, data } => Err(read_exception(kind, data)),
            Frame::Stray(_) => Ok(()),
        }
    }

    fn end(&mut self, _out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        match self.whole && self.stopped {
            true => Ok(()),
            false => Err(broken("it ended before its last event")),
        }
    }
}

fn keep(kept: &mut Vec<u8>, more: &[u8]) -> Result<(), Failure> {
    if kept.len() + more.len() > EVENTSTREAM_PAYLOAD_MAX {
        return Err(broken("redacted thoughts have no end"));
    }
    kept.extend_from_slice(more);
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(data)
        .map_err(|error| broken(&format!("an event cannot be read: {error}")).with_raw(data))
}

fn broken(what: &str) -> Failure {
    Failure::broken(format!("Bedrock's stream is broken: {what}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct At {
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart<'a> {
    #[serde(default)]
    content_block_index: u64,
    #[serde(borrow, default)]
    start: Start<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    #[serde(borrow)]
    tool_use: Option<CallStart<'a>>,
    #[serde(borrow)]
    image: Option<ImageStart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallStart<'a> {
    #[serde(borrow)]
    tool_use_id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct ImageStart<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta<'a> {
    #[serde(default)]
    content_block_index: u64,
    #[serde(borrow, default)]
    delta: Growth<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Growth<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    tool_use: Option<CallDelta<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<ReasoningDelta<'a>>,
    citation: Option<Value>,
    image: Option<Value>,
}

#[derive(Deserialize)]
struct CallDelta<'a> {
    #[serde(borrow, default)]
    input: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningDelta<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    signature: Option<Text<'a>>,
    #[serde(borrow)]
    redacted_content: Option<Text<'a>>,
}

/// Borrowed where it may be; an optional `Cow` alone never is.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop<'a> {
    #[serde(borrow, default)]
    stop_reason: Cow<'a, str>,
    additional_model_response_fields: Option<Value>,
}
