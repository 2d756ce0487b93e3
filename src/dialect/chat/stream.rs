//! A provider's chat stream as neutral events (spec: providers 1.5, 1.6 and 12).

use std::borrow::Cow;

use memchr::memmem;
use serde_json::{Map, Value, json};

use super::super::Terms;
use super::super::failure::Failure;
use super::super::neutral::{Citation, Delta, Event, Opening, Origin, PartKind, Signature, Stop};
use super::super::stream::{Frame, Reader};
use super::answer::{
    arguments_of, content_of, failed, images_of, made_id, page_citations, read_annotation, take,
    unveiled,
};
use super::calls::Calls;
use super::errors::{failure_of, holds_error};
use super::finish::{self, Finish};
use super::thoughts::{self, Thought};
use crate::limits::{CALL_HELD_MAX, CHAT_CALLS_MAX, CHAT_CHOICES_MAX, THOUGHTS_HELD_MAX};

const NO_NAME: &str = "The provider's stream calls a tool without a name";

/// Reads a provider's stream.
pub struct StreamReader {
    terms: Terms,
    started: bool,
    done: bool,
    choices: Vec<Choice>,
    cited: Vec<Citation>,
}

type Sink<'s> = dyn FnMut(Event<'_>) + 's;

impl StreamReader {
    /// Of a request with these terms.
    pub fn new(terms: &Terms) -> Self {
        Self {
            terms: terms.clone(),
            started: false,
            done: false,
            choices: Vec::new(),
            cited: Vec::new(),
        }
    }

    fn event(&mut self, name: &str, data: &[u8], out: &mut Sink<'_>) -> Result<(), Failure> {
        let data = data.trim_ascii();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return self.finish_all(out);
        }
        let chunk: Value = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(_) if name == "error" => {
                let message = String::from_utf8_lossy(&data[..data.len().min(1000)]).into_owned();
                return Err(Failure::broken(message).with_raw(data));
            }
            Err(error) => {
                let message = format!("The provider's stream holds what is not JSON: {error}");
                return Err(Failure::broken(message).with_raw(data));
            }
        };
        let mut chunk = unveiled(chunk);
        if name == "error" || holds_error(&chunk) {
            return Err(failure_of(None, &chunk).with_raw(data));
        }
        let choices = match take(Some(&mut chunk), "choices") {
            Value::Array(choices) => choices,
            _ => return Ok(()),
        };
        if chunk.get("search_results").is_some() || chunk.get("citations").is_some() {
            self.cited = page_citations(&chunk);
        }
        if !choices.is_empty() && !std::mem::replace(&mut self.started, true) {
            let text = |field: &str| {
                let text = chunk[field].as_str().filter(|text| !text.is_empty());
                text.map(Cow::Borrowed)
            };
            out(Event::Start {
                id: text("id"),
                model: text("model"),
                created: chunk["created"].as_u64().filter(|created| *created > 0),
            });
        }
        for choice in choices {
            self.choice(choice, &chunk, out)?;
        }
        Ok(())
    }

    fn choice(
        &mut self,
        mut chunk: Value,
        whole: &Value,
        out: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let number = chunk["index"].as_u64().unwrap_or(0);
        let at = match u32::try_from(number) {
            Ok(number) => self.place_of(number)?,
            Err(_) => return Err(Failure::broken("The provider's stream has no such choice")),
        };
        let choice = &mut self.choices[at];
        if choice.stopped {
            // OpenRouter says twice that it is done, and puts the usage on a choice.
            return Ok(());
        }
        let delta = ["delta", "message"].into_iter().find_map(|field| {
            match take(Some(&mut chunk), field) {
                Value::Object(delta) => Some(delta),
                _ => None,
            }
        });
        choice.delta(delta.unwrap_or_default(), &self.terms, out)?;
        if let logprobs @ Value::Object(_) = take(Some(&mut chunk), "logprobs") {
            choice.logprobs(logprobs, out);
        }
        let Some(word) = chunk["finish_reason"].as_str() else {
            return Ok(());
        };
        match finish::read(word, !choice.calls.is_empty()) {
            // xAI's way to say nothing.
            Finish::Ended(_) if word.is_empty() && choice.calls.is_empty() => Ok(()),
            Finish::Ended(stop) => choice.stop(stop, &self.cited, out),
            Finish::Failed => Err(failed(word, &chunk, whole)),
        }
    }

    fn place_of(&mut self, number: u32) -> Result<usize, Failure> {
        if let Some(at) = self.choices.iter().position(|one| one.number == number) {
            return Ok(at);
        }
        if self.choices.len() == CHAT_CHOICES_MAX {
            return Err(Failure::broken(
                "The provider's stream has too many choices",
            ));
        }
        self.choices.push(Choice::new(number));
        Ok(self.choices.len() - 1)
    }

    /// The stream is over: choices that did not say so are over too.
    fn finish_all(&mut self, out: &mut Sink<'_>) -> Result<(), Failure> {
        if !self.started {
            return Err(Failure::broken("The provider's stream holds no answer"));
        }
        for choice in self.choices.iter_mut().filter(|choice| !choice.stopped) {
            if !choice.said {
                return Err(Failure::broken("The provider's stream holds no answer"));
            }
            if let Finish::Ended(stop) = finish::read("", !choice.calls.is_empty()) {
                choice.stop(stop, &self.cited, out)?;
            }
        }
        Ok(())
    }
}

impl Reader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        match frame {
            Frame::Event { name, data } => self.event(name, data, out),
            Frame::Exception { kind, data } => {
                let message = format!("The provider's stream ended with {kind}");
                Err(Failure::broken(message).with_code(kind).with_raw(data))
            }
            Frame::Stray(bytes) => match serde_json::from_slice::<Value>(last_object(bytes)) {
                Ok(value) if holds_error(&value) => Err(failure_of(None, &value).with_raw(bytes)),
                _ => Ok(()),
            },
        }
    }

    fn end(&mut self, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        if self.done {
            return Ok(());
        }
        // Perplexity, and others, may leave `[DONE]` away; then every choice must have said its end.
        match self.started && self.choices.iter().all(|choice| choice.stopped) {
            true => self.finish_all(out),
            false => Err(Failure::broken("The provider's stream broke off")),
        }
    }
}

/// The object that starts the last line to do so: pieces of an event may stand before it.
fn last_object(bytes: &[u8]) -> &[u8] {
    match memmem::rfind(bytes, b"\n{") {
        Some(before) => &bytes[before + 1..],
        None => bytes,
    }
}

/// One of the answers in a stream.
struct Choice {
    number: u32,
    /// The next part's index.
    next: u32,
    open: Open,
    calls: Calls,
    /// The thought that is open, as far as it is held.
    thought: String,
    /// Something came, be it empty.
    said: bool,
    stopped: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Open {
    Nothing,
    Text(u32),
    Refusal(u32),
    Thinking(u32),
    Calls,
}

impl Choice {
    fn new(number: u32) -> Self {
        Self {
            number,
            next: 0,
            open: Open::Nothing,
            calls: Calls::default(),
            thought: String::new(),
            said: false,
            stopped: false,
        }
    }

    fn delta(
        &mut self,
        mut delta: Map<String, Value>,
        terms: &Terms,
        out: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        self.said |= !delta.is_empty();
        let content = delta.remove("content").unwrap_or_default();
        // Text is the ordinary case and costs no copy.
        let (text, inner) = match &content {
            Value::String(text) => (Cow::Borrowed(text.as_str()), String::new()),
            Value::Null => (Cow::Borrowed(""), String::new()),
            _ => {
                let read = content_of(content);
                (Cow::Owned(read.text), read.thinking)
            }
        };
        self.thoughts(&mut delta, inner, out);
        if !text.is_empty() {
            let index = self.text(out);
            self.grow(index, Delta::Text(text), out);
        }
        if let Some(Value::String(refusal)) = delta.get("refusal")
            && !refusal.is_empty()
        {
            let index = match self.open {
                Open::Refusal(index) => index,
                _ => {
                    let index = self.begin(Opening::Refusal, out);
                    self.open = Open::Refusal(index);
                    index
                }
            };
            self.grow(index, Delta::Refusal(Cow::Borrowed(refusal)), out);
        }
        for media in images_of(&mut delta) {
            self.whole(Opening::Image(media), out);
        }
        if let Some(annotations) = delta.get("annotations").and_then(Value::as_array)
            && let Open::Text(index) = self.open
        {
            for citation in annotations.iter().filter_map(read_annotation) {
                self.grow(index, Delta::Citation(citation), out);
            }
        }
        if let Some(Value::Array(calls)) = delta.remove("tool_calls") {
            for call in calls {
                self.call(call, terms, out)?;
            }
        }
        if let Some(function @ Value::Object(_)) = delta.remove("function_call") {
            let call = json!({"index": 0, "function": function});
            self.call(call, terms, out)?;
        }
        Ok(())
    }

    fn thoughts(&mut self, delta: &mut Map<String, Value>, inner: String, out: &mut Sink<'_>) {
        let mut plain = inner;
        for field in ["reasoning_content", "reasoning"] {
            match delta.remove(field) {
                Some(Value::String(text)) if plain.is_empty() => plain = text,
                _ => {}
            }
        }
        let details = match delta.remove("reasoning_details") {
            Some(Value::Array(details)) => details,
            _ => Vec::new(),
        };
        if plain.is_empty() && details.is_empty() {
            return;
        }
        for thought in thoughts::combine(plain, details) {
            match thought {
                Thought::Part(PartKind::Thinking { text, signature }) => {
                    // A signature may bring its whole thought once more.
                    let again = signature.is_some() && text == self.thought;
                    if !text.is_empty() && !again {
                        let index = self.thinking(out);
                        if self.thought.len() + text.len() <= THOUGHTS_HELD_MAX {
                            self.thought.push_str(&text);
                        }
                        self.grow(index, Delta::Thinking(Cow::Borrowed(&text)), out);
                    }
                    // A signature without its thought proves nothing.
                    if let (Some(signature), Open::Thinking(index)) = (signature, self.open) {
                        self.grow(index, Delta::Signature(signature), out);
                    }
                }
                Thought::Part(PartKind::Redacted(signature)) => {
                    self.whole(Opening::Redacted(signature), out);
                }
                Thought::Part(_) => {}
                Thought::OfText(signature) => {
                    let index = self.text(out);
                    self.grow(index, Delta::Signature(signature), out);
                }
            }
        }
    }

    fn thinking(&mut self, out: &mut Sink<'_>) -> u32 {
        if let Open::Thinking(index) = self.open {
            return index;
        }
        let index = self.begin(Opening::Thinking, out);
        self.open = Open::Thinking(index);
        self.thought.clear();
        index
    }

    fn text(&mut self, out: &mut Sink<'_>) -> u32 {
        if let Open::Text(index) = self.open {
            return index;
        }
        let index = self.begin(Opening::Text, out);
        self.open = Open::Text(index);
        index
    }

    fn call(&mut self, mut call: Value, terms: &Terms, out: &mut Sink<'_>) -> Result<(), Failure> {
        let signature = call["extra_content"]["google"]["thought_signature"]
            .as_str()
            .map(|data| Signature::new(Origin::Google, data));
        let custom = call["custom"].is_object();
        let mut inner = match custom {
            true => take(Some(&mut call), "custom"),
            false => take(Some(&mut call), "function"),
        };
        if inner.is_null() {
            inner = json!({"name": take(Some(&mut call), "name"), "arguments": take(Some(&mut call), "arguments")});
        }
        let fragment = match take(Some(&mut inner), if custom { "input" } else { "arguments" }) {
            Value::String(text) => text,
            Value::Null => String::new(),
            object => arguments_of(object),
        };
        let text = |value: &Value| {
            let text = value.as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let (id, name) = (text(&call["id"]), text(&inner["name"]));
        let at = self
            .calls
            .find(call["index"].as_u64(), id.as_deref(), name.as_deref());
        let at = match at {
            Some(at) => at,
            None if self.calls.len() == CHAT_CALLS_MAX => {
                return Err(Failure::broken(
                    "The provider's stream calls too many tools",
                ));
            }
            None => {
                let made = || made_id(terms, self.number as usize, self.calls.len());
                let id = id.unwrap_or_else(made);
                self.calls.add(call["index"].as_u64(), id, custom)
            }
        };
        let (number, next) = (self.number, self.next);
        let held = &mut self.calls.list[at];
        if held.closed {
            let message = "The provider's stream goes on with a call that it had left";
            return Err(Failure::broken(message));
        }
        held.shape.take(&fragment);
        if held.part.is_none() {
            held.pending.push_str(&fragment);
            if held.pending.len() > CALL_HELD_MAX {
                return Err(Failure::broken(NO_NAME));
            }
            let Some(name) = name else { return Ok(()) };
            held.part = Some(next);
            let (id, pending) = (held.id.clone(), std::mem::take(&mut held.pending));
            let custom = held.custom;
            self.make_way_for_calls(out);
            self.next += 1;
            out(Event::Open {
                choice: number,
                index: next,
                part: Opening::ToolUse {
                    id: Cow::Borrowed(&id),
                    name: Cow::Borrowed(&name),
                    custom,
                    signature,
                },
            });
            if !pending.is_empty() {
                self.grow(next, Delta::Arguments(Cow::Borrowed(&pending)), out);
            }
            return Ok(());
        }
        if let Some(index) = held.part.filter(|_| !fragment.is_empty()) {
            self.grow(index, Delta::Arguments(Cow::Borrowed(&fragment)), out);
        }
        Ok(())
    }

    fn make_way_for_calls(&mut self, out: &mut Sink<'_>) {
        if self.open != Open::Calls {
            self.close(out);
            self.open = Open::Calls;
        }
    }

    fn logprobs(&mut self, logprobs: Value, out: &mut Sink<'_>) {
        if let Open::Text(index) = self.open {
            self.grow(index, Delta::Logprobs(logprobs), out);
        }
    }

    fn stop(&mut self, stop: Stop, cited: &[Citation], out: &mut Sink<'_>) -> Result<(), Failure> {
        if let Open::Text(index) = self.open {
            for citation in cited {
                self.grow(index, Delta::Citation(citation.clone()), out);
            }
        }
        if self.calls.list.iter().any(|call| call.part.is_none()) {
            return Err(Failure::broken(NO_NAME));
        }
        self.close(out);
        self.stopped = true;
        let choice = self.number;
        out(Event::Stop { choice, stop });
        Ok(())
    }

    /// Opens a part that grows, after the one that did so before.
    fn begin(&mut self, part: Opening<'_>, out: &mut Sink<'_>) -> u32 {
        self.close(out);
        let (choice, index) = (self.number, self.next);
        self.next += 1;
        out(Event::Open {
            choice,
            index,
            part,
        });
        index
    }

    /// A part that comes whole.
    fn whole(&mut self, part: Opening<'_>, out: &mut Sink<'_>) {
        let index = self.begin(part, out);
        let choice = self.number;
        out(Event::Close { choice, index });
    }

    fn grow(&self, index: u32, delta: Delta<'_>, out: &mut Sink<'_>) {
        out(Event::Delta {
            choice: self.number,
            index,
            delta,
        });
    }

    fn close(&mut self, out: &mut Sink<'_>) {
        let choice = self.number;
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Text(index) | Open::Refusal(index) | Open::Thinking(index) => {
                out(Event::Close { choice, index });
            }
            Open::Calls => {
                for call in self.calls.list.iter_mut().filter(|call| !call.closed) {
                    if let Some(index) = call.part {
                        call.closed = true;
                        out(Event::Close { choice, index });
                    }
                }
            }
        }
    }
}
