//! Cohere's streams (spec: providers 11). Content and calls are counted apart there.

use std::borrow::Cow;

use serde_json::Value;

use super::answer;
use super::errors;
use crate::dialect::Terms;
use crate::dialect::failure::Failure;
use crate::dialect::neutral::{Delta, Event, Opening};
use crate::dialect::stream::{Frame, Reader};
use crate::limits::COHERE_OPEN_CALLS_MAX;

/// Reads a stream of `/v2/chat`.
pub struct StreamReader {
    terms: Terms,
    started: bool,
    ended: bool,
    says_something: bool,
    /// Parts that were begun.
    parts: u32,
    calls: usize,
    open: Open,
    /// Calls that are open: Cohere's index, and the part's.
    open_calls: Vec<(u64, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
}

type Sink<'s> = dyn FnMut(Event<'_>) + 's;

impl StreamReader {
    /// Of the answer to a request with these terms.
    pub fn new(terms: &Terms) -> Self {
        Self {
            terms: terms.clone(),
            started: false,
            ended: false,
            says_something: false,
            parts: 0,
            calls: 0,
            open: Open::Nothing,
            open_calls: Vec::new(),
        }
    }

    fn event(&mut self, data: &[u8], out: &mut Sink<'_>) -> Result<(), Failure> {
        if self.ended || data.trim_ascii().is_empty() || data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let mut event: Value = serde_json::from_slice(data).map_err(|error| {
            Failure::broken(format!("An event of Cohere's stream is not JSON: {error}"))
                .with_raw(data)
        })?;
        if let Some(failure) = errors::inside(&event) {
            return Err(failure);
        }
        let kind = answer::take_text(&mut event, "type").unwrap_or_default();
        if !self.started && !kind.is_empty() {
            self.started = true;
            out(Event::Start {
                id: event["id"].as_str().map(Cow::Borrowed),
                model: None,
                created: None,
            });
        }
        let logprobs = answer::logprobs(&event["logprobs"]);
        let index = event["index"].as_u64().unwrap_or(0);
        let mut delta = event.get_mut("delta").map(Value::take).unwrap_or_default();
        match kind.as_str() {
            "content-start" | "content-delta" => {
                self.content(&mut delta, out);
                if let Some(logprobs) = logprobs.filter(|_| self.open == Open::Text) {
                    self.delta(Delta::Logprobs(logprobs), out);
                }
            }
            "content-end" => self.close(out),
            "tool-plan-delta" => {
                let plan =
                    message(&mut delta).and_then(|message| answer::take_text(message, "tool_plan"));
                if let Some(plan) = plan {
                    self.grow(Open::Thinking, out);
                    self.delta(Delta::Thinking(Cow::Owned(plan)), out);
                }
            }
            "tool-call-start" => self.call(index, &mut delta, out)?,
            "tool-call-delta" => {
                let text = call(&mut delta).and_then(arguments);
                self.arguments(index, text, out);
            }
            "tool-call-end" => self.close_call(index, out),
            "citation-start" => {
                let citation = &delta["message"]["citations"];
                for source in answer::sources(citation) {
                    if self.open == Open::Text {
                        self.delta(Delta::Citation(source), out);
                    }
                }
            }
            "message-end" => return self.finish(&mut delta, out),
            _ => {}
        }
        Ok(())
    }

    fn content(&mut self, delta: &mut Value, out: &mut Sink<'_>) {
        let Some(content) = message(delta).and_then(|message| message.get_mut("content")) else {
            return;
        };
        if let Some(text) = answer::take_text(content, "thinking") {
            self.grow(Open::Thinking, out);
            self.delta(Delta::Thinking(Cow::Owned(text)), out);
        }
        if let Some(text) = answer::take_text(content, "text") {
            self.says_something = true;
            self.grow(Open::Text, out);
            self.delta(Delta::Text(Cow::Owned(text)), out);
        }
    }

    fn call(&mut self, at: u64, delta: &mut Value, out: &mut Sink<'_>) -> Result<(), Failure> {
        let Some(call) = call(delta) else {
            return Ok(());
        };
        if self.open_calls.len() >= COHERE_OPEN_CALLS_MAX {
            return Err(Failure::broken("Cohere's stream opens too many calls"));
        }
        self.close(out);
        self.close_call(at, out);
        let id = answer::take_text(call, "id");
        let id = id.unwrap_or_else(|| answer::made_id(&self.terms, self.calls));
        let name = call
            .get_mut("function")
            .and_then(|function| answer::take_text(function, "name"));
        let first = arguments(call);
        let index = self.parts;
        self.parts += 1;
        self.calls += 1;
        self.says_something = true;
        out(Event::Open {
            choice: 0,
            index,
            part: Opening::ToolUse {
                id: Cow::Owned(id),
                name: Cow::Owned(name.unwrap_or_default()),
                custom: false,
                signature: None,
            },
        });
        self.open_calls.push((at, index));
        self.arguments(at, first, out);
        Ok(())
    }

    fn arguments(&mut self, at: u64, text: Option<String>, out: &mut Sink<'_>) {
        let open = self.open_calls.iter().find(|(index, _)| *index == at);
        let (Some((_, index)), Some(text)) = (open, text) else {
            return;
        };
        out(Event::Delta {
            choice: 0,
            index: *index,
            delta: Delta::Arguments(Cow::Owned(text)),
        });
    }

    fn close_call(&mut self, at: u64, out: &mut Sink<'_>) {
        self.open_calls.retain(|(index, part)| {
            if *index == at {
                let index = *part;
                out(Event::Close { choice: 0, index });
            }
            *index != at
        });
    }

    fn finish(&mut self, delta: &mut Value, out: &mut Sink<'_>) -> Result<(), Failure> {
        self.ended = true;
        self.close_all(out);
        let word = answer::take_text(delta, "finish_reason").unwrap_or_default();
        if let Some(message) = answer::take_text(delta, "error") {
            let status = if word == "TIMEOUT" { 504 } else { 502 };
            return Err(Failure::of_status(status, message).with_code(word));
        }
        let stop = answer::stop(&word, None, self.says_something)?;
        out(Event::Stop { choice: 0, stop });
        Ok(())
    }

    fn grow(&mut self, kind: Open, out: &mut Sink<'_>) {
        if self.open == kind {
            return;
        }
        self.close_all(out);
        self.open = kind;
        let index = self.parts;
        self.parts += 1;
        let part = match kind {
            Open::Thinking => Opening::Thinking,
            _ => Opening::Text,
        };
        out(Event::Open {
            choice: 0,
            index,
            part,
        });
    }

    /// Adds to the open part, which is the last one begun.
    fn delta(&mut self, delta: Delta<'_>, out: &mut Sink<'_>) {
        let index = self.parts.saturating_sub(1);
        out(Event::Delta {
            choice: 0,
            index,
            delta,
        });
    }

    fn close(&mut self, out: &mut Sink<'_>) {
        if std::mem::replace(&mut self.open, Open::Nothing) != Open::Nothing {
            let index = self.parts.saturating_sub(1);
            out(Event::Close { choice: 0, index });
        }
    }

    fn close_all(&mut self, out: &mut Sink<'_>) {
        self.close(out);
        for (_, index) in std::mem::take(&mut self.open_calls) {
            out(Event::Close { choice: 0, index });
        }
    }
}

fn message(delta: &mut Value) -> Option<&mut Value> {
    delta
        .get_mut("message")
        .filter(|message| message.is_object())
}

/// The call of an event: an object, though its name is a plural.
fn call(delta: &mut Value) -> Option<&mut Value> {
    let call = message(delta)?.get_mut("tool_calls")?;
    let call = match call {
        Value::Array(list) => list.first_mut()?,
        call => call,
    };
    Some(call).filter(|call| call.is_object())
}

fn arguments(call: &mut Value) -> Option<String> {
    answer::take_text(call.get_mut("function")?, "arguments")
}

impl Reader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, out: &mut Sink<'_>) -> Result<(), Failure> {
        match frame {
            Frame::Event { data, .. } => self.event(data, out),
            Frame::Exception { data, .. } => Err(errors::read_error(502, None, data)),
            Frame::Stray(bytes) => {
                let body: Option<Value> = serde_json::from_slice(bytes.trim_ascii()).ok();
                match body.as_ref().and_then(errors::inside) {
                    Some(failure) if !self.ended => Err(failure),
                    _ => Ok(()),
                }
            }
        }
    }

    fn end(&mut self, _out: &mut Sink<'_>) -> Result<(), Failure> {
        match self.ended {
            true => Ok(()),
            false => Err(Failure::broken("Cohere's stream ended without message-end")),
        }
    }
}
