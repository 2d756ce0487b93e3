//! A streamed answer. The dialect repeats each part when it is complete, and everything in its last event, so that what was said is
//! kept until then, within [`RESPONSE_HELD_MAX`].

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::Terms;
use super::super::failure::Failure;
use super::super::neutral::{Delta, Event, Media, Opening, Signature, Stop, StopReason};
use super::super::stream::Writer;
use super::answer::{self, item_id};
use super::custom::InputReader;
use super::errors;
use super::seal::Seal;
use super::tools::{Guise, Known, Toolbox};
use crate::limits::RESPONSE_HELD_MAX;
use crate::meter::Usage;

/// Writes the events of an answer.
pub struct StreamWriter {
    /// The response around the items, as it stands.
    response: Value,
    id: String,
    toolbox: Toolbox,
    custom_tools: Vec<String>,
    sequence: u64,
    started: bool,
    ended: bool,
    /// Items in their order; null while they are open.
    items: Vec<Value>,
    /// The message that goes on.
    message: Option<Message>,
    open: Vec<(u32, Open)>,
    refused: bool,
    stop: Option<Stop>,
    usage: Option<Usage>,
    /// Bytes that are kept.
    held: usize,
}

struct Message {
    id: String,
    at: usize,
    content: Vec<Value>,
}

/// A part that grows.
enum Open {
    Text(Text),
    Refusal {
        begun: bool,
        words: String,
    },
    Thinking(Thinking),
    Call(Call),
    /// Was told when it was opened.
    Told,
}

#[derive(Default)]
struct Text {
    begun: bool,
    text: String,
    /// Characters of it.
    length: u64,
    annotations: Vec<Value>,
    logprobs: Vec<Value>,
    signature: Option<Signature>,
}

#[derive(Default)]
struct Thinking {
    /// Its item, once there is something to tell.
    item: Option<(usize, String)>,
    text: String,
    signature: Option<Signature>,
}

struct Call {
    at: usize,
    id: String,
    call_id: String,
    known: Known,
    /// The provider gives free text.
    custom: bool,
    arguments: String,
    /// Reads free text out of arguments.
    input: Option<InputReader>,
}

impl StreamWriter {
    /// A writer for one answer.
    pub fn new(terms: &Terms) -> Self {
        Self {
            response: answer::frame(terms),
            id: terms.id.clone(),
            toolbox: answer::toolbox(terms),
            custom_tools: terms.custom_tools.clone(),
            sequence: 0,
            started: false,
            ended: false,
            items: Vec::new(),
            message: None,
            open: Vec::new(),
            refused: false,
            stop: None,
            usage: None,
            held: 0,
        }
    }
}

impl Writer for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { model, created, .. } => {
                if !self.started {
                    if let Some(model) = model {
                        self.response["model"] = Value::from(model.as_ref());
                    }
                    if let Some(created) = created {
                        self.response["created_at"] = Value::from(*created);
                    }
                }
                self.start(out);
            }
            Event::Open {
                choice: 0,
                index,
                part,
            } => {
                self.start(out);
                self.open_part(*index, part, out);
            }
            Event::Delta {
                choice: 0,
                index,
                delta,
            } => self.delta(*index, delta, out),
            Event::Close { choice: 0, index } => {
                if let Some(at) = self.open.iter().position(|(open, _)| open == index) {
                    let (_, part) = self.open.remove(at);
                    self.close_part(part, out);
                }
            }
            Event::Stop { choice: 0, stop } => {
                self.start(out);
                self.stopped(stop, out);
            }
            // One answer is all that the dialect knows.
            Event::Open { .. } | Event::Delta { .. } | Event::Close { .. } | Event::Stop { .. } => {
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::KeepAlive => out.extend_from_slice(b": keep-alive\n\n"),
            Event::Failed(failure) => self.fail(failure, out),
        }
        if self.held > RESPONSE_HELD_MAX && !self.ended {
            let failure = Failure::broken(format!(
                "The answer is larger than {RESPONSE_HELD_MAX} bytes"
            ));
            self.fail(&failure, out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.start(out);
        let done = Stop::new(StopReason::End);
        let stop = self.stop.take().unwrap_or(done);
        self.stopped(&stop, out);
        let items = self.complete_items();
        answer::finish(&mut self.response, &stop, items, self.usage.as_ref());
        let kind = match answer::cut(&stop) {
            true => "response.incomplete",
            false => "response.completed",
        };
        self.tell_response(kind, out);
        self.ended = true;
    }
}

impl StreamWriter {
    fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            self.tell_response("response.created", out);
            self.tell_response("response.in_progress", out);
        }
    }

    fn open_part(&mut self, index: u32, part: &Opening<'_>, out: &mut Vec<u8>) {
        if !matches!(part, Opening::Text | Opening::Refusal) {
            self.close_message("completed", out);
        }
        let open = match part {
            Opening::Text => Open::Text(Text::default()),
            Opening::Refusal => Open::Refusal {
                begun: false,
                words: String::new(),
            },
            Opening::Thinking => Open::Thinking(Thinking::default()),
            Opening::Redacted(signature) => {
                self.whole_reasoning(Seal::Redacted(signature.clone()), out);
                Open::Told
            }
            Opening::Image(media) => {
                self.image(media, out);
                Open::Told
            }
            Opening::ToolUse {
                id,
                name,
                custom,
                signature,
            } => {
                if let Some(signature) = signature {
                    self.whole_reasoning(Seal::Call(signature.clone()), out);
                }
                Open::Call(self.open_call(id, name, *custom, out))
            }
        };
        self.open.push((index, open));
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|(open, _)| *open == index) else {
            return;
        };
        // Taken out for the while, so that its item and it can be changed beside each other.
        let mut part = std::mem::replace(&mut self.open[at].1, Open::Told);
        match (&mut part, delta) {
            (Open::Text(text), Delta::Text(piece)) => self.text(text, piece, &[], out),
            (Open::Text(text), Delta::Logprobs(told)) => {
                let told = answer::logprobs(told);
                self.text(text, "", &told, out);
                text.logprobs.extend(told);
            }
            (Open::Text(text), Delta::Citation(citation)) => {
                if let Some(annotation) = answer::annotation(citation, text.length) {
                    self.annotate(text, annotation, out);
                }
            }
            (Open::Text(Text { signature, .. }), Delta::Signature(told)) => {
                *signature = Some(told.clone())
            }
            (Open::Refusal { begun, words }, Delta::Refusal(piece) | Delta::Text(piece)) => {
                self.refuse(begun, words, piece, out);
            }
            (Open::Thinking(thinking), Delta::Thinking(piece)) => self.think(thinking, piece, out),
            (Open::Thinking(Thinking { signature, .. }), Delta::Signature(told)) => {
                self.held += told.data.len();
                *signature = Some(told.clone());
            }
            (Open::Call(call), Delta::Arguments(piece)) => self.arguments(call, piece, out),
            _ => {}
        }
        self.open[at].1 = part;
    }

    fn close_part(&mut self, part: Open, out: &mut Vec<u8>) {
        match part {
            Open::Text(text) => self.close_text(text, out),
            Open::Refusal { begun, words } => {
                if begun {
                    self.close_content(
                        "response.refusal.done",
                        "refusal",
                        &words,
                        answer::refusal_part(&words),
                        out,
                    );
                }
            }
            Open::Thinking(thinking) => self.close_thinking(thinking, out),
            Open::Call(call) => self.close_call(call, out),
            Open::Told => {}
        }
    }

    /// The answer is complete but for its end.
    fn stopped(&mut self, stop: &Stop, out: &mut Vec<u8>) {
        for (_, part) in std::mem::take(&mut self.open) {
            self.close_part(part, out);
        }
        if let Some(words) = answer::refusal(stop).filter(|_| !self.refused) {
            let (mut begun, mut told) = (false, String::new());
            self.refuse(&mut begun, &mut told, words, out);
            self.close_part(Open::Refusal { begun, words: told }, out);
        }
        let status = if answer::cut(stop) {
            "incomplete"
        } else {
            "completed"
        };
        self.close_message(status, out);
        self.stop = Some(stop.clone());
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.start(out);
        // Flat as the dialect has it, and nested: official clients raise an exception for a field of that name.
        let (code, message) = (errors::code(failure), failure.message.as_str());
        let error = json!({"type": errors::kind(failure), "code": code, "message": message, "param": failure.param});
        let flat =
            json!({"code": code, "message": message, "param": failure.param, "error": error});
        self.tell("error", flat, out);
        self.response["status"] = Value::from("failed");
        self.response["error"] = errors::inside(failure);
        self.response["output"] = Value::Array(self.complete_items());
        self.tell_response("response.failed", out);
        self.ended = true;
    }
}

// Messages.
impl StreamWriter {
    /// The message that goes on; begins one where there is none. Gives where the next content stands.
    fn say(&mut self, out: &mut Vec<u8>) {
        if self.message.is_some() {
            return;
        }
        let (at, id) = self.next_item("msg");
        self.added(at, answer::message(&id, Vec::new(), "in_progress"), out);
        self.message = Some(Message {
            id,
            at,
            content: Vec::new(),
        });
    }

    /// Where the content that is open stands, as fields of its events.
    fn place(&self) -> (String, usize, usize) {
        match &self.message {
            Some(message) => (message.id.clone(), message.at, message.content.len()),
            None => (String::new(), 0, 0),
        }
    }

    fn begin_content(&mut self, part: Value, out: &mut Vec<u8>) {
        self.say(out);
        let (id, at, content) = self.place();
        let event =
            json!({"item_id": id, "output_index": at, "content_index": content, "part": part});
        self.tell("response.content_part.added", event, out);
    }

    fn text(&mut self, text: &mut Text, piece: &str, logprobs: &[Value], out: &mut Vec<u8>) {
        if piece.is_empty() && logprobs.is_empty() {
            return;
        }
        if !std::mem::replace(&mut text.begun, true) {
            self.begin_content(answer::text_part("", Vec::new(), Vec::new()), out);
        }
        self.held += piece.len();
        text.text.push_str(piece);
        text.length += piece.chars().count() as u64;
        self.begin("response.output_text.delta", out);
        self.write_place(out);
        out.extend_from_slice(b",\"delta\":");
        write_text(piece, out);
        out.extend_from_slice(b",\"logprobs\":");
        write_json(&logprobs, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn annotate(&mut self, text: &mut Text, annotation: Value, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut text.begun, true) {
            self.begin_content(answer::text_part("", Vec::new(), Vec::new()), out);
        }
        let (id, at, content) = self.place();
        let event = json!({
            "item_id": id, "output_index": at, "content_index": content,
            "annotation_index": text.annotations.len(), "annotation": annotation,
        });
        self.held += annotation.to_string().len();
        self.tell("response.output_text.annotation.added", event, out);
        text.annotations.push(annotation);
    }

    fn refuse(&mut self, begun: &mut bool, words: &mut String, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        self.refused = true;
        if !std::mem::replace(begun, true) {
            self.begin_content(answer::refusal_part(""), out);
        }
        self.held += piece.len();
        words.push_str(piece);
        self.begin("response.refusal.delta", out);
        self.write_place(out);
        out.extend_from_slice(b",\"delta\":");
        write_text(piece, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn close_text(&mut self, text: Text, out: &mut Vec<u8>) {
        if text.begun {
            let part = answer::text_part(&text.text, text.annotations, text.logprobs);
            self.close_content("response.output_text.done", "text", &text.text, part, out);
        }
        if let Some(signature) = text.signature {
            self.close_message("completed", out);
            self.whole_reasoning(Seal::Text(signature), out);
        }
    }

    fn close_content(
        &mut self,
        kind: &str,
        field: &str,
        text: &str,
        part: Value,
        out: &mut Vec<u8>,
    ) {
        let (id, at, content) = self.place();
        let mut done =
            json!({"item_id": id, "output_index": at, "content_index": content, field: text});
        if let Some(logprobs) = part.get("logprobs") {
            done["logprobs"] = logprobs.clone();
        }
        self.tell(kind, done, out);
        let event =
            json!({"item_id": id, "output_index": at, "content_index": content, "part": part});
        self.tell("response.content_part.done", event, out);
        if let Some(message) = &mut self.message {
            message.content.push(part);
        }
    }

    fn close_message(&mut self, status: &str, out: &mut Vec<u8>) {
        if let Some(message) = self.message.take() {
            self.done(
                message.at,
                answer::message(&message.id, message.content, status),
                out,
            );
        }
    }
}

// Reasoning.
impl StreamWriter {
    fn think(&mut self, thinking: &mut Thinking, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        let begins = thinking.text.is_empty();
        let (at, id) = self.reasoning_item(thinking, out);
        if begins {
            let part = json!({"type": "summary_text", "text": ""});
            let event =
                json!({"item_id": id, "output_index": at, "summary_index": 0, "part": part});
            self.tell("response.reasoning_summary_part.added", event, out);
        }
        self.held += piece.len();
        thinking.text.push_str(piece);
        self.begin("response.reasoning_summary_text.delta", out);
        write_item(&id, at, out);
        out.extend_from_slice(b",\"summary_index\":0,\"delta\":");
        write_text(piece, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn reasoning_item(&mut self, thinking: &mut Thinking, out: &mut Vec<u8>) -> (usize, String) {
        if let Some((at, id)) = &thinking.item {
            return (*at, id.clone());
        }
        let (at, id) = self.next_item("rs");
        self.added(at, answer::reasoning(&id, "", None), out);
        thinking.item = Some((at, id.clone()));
        (at, id)
    }

    fn close_thinking(&mut self, mut thinking: Thinking, out: &mut Vec<u8>) {
        let seal = thinking.signature.take().map(Seal::Thought);
        if thinking.text.is_empty() && seal.is_none() {
            return;
        }
        let (at, id) = self.reasoning_item(&mut thinking, out);
        if !thinking.text.is_empty() {
            let text = &thinking.text;
            let done = json!({"item_id": id, "output_index": at, "summary_index": 0, "text": text});
            self.tell("response.reasoning_summary_text.done", done, out);
            let part = json!({"type": "summary_text", "text": text});
            let event =
                json!({"item_id": id, "output_index": at, "summary_index": 0, "part": part});
            self.tell("response.reasoning_summary_part.done", event, out);
        }
        self.done(
            at,
            answer::reasoning(&id, &thinking.text, seal.as_ref()),
            out,
        );
    }

    /// An item that is nothing but a proof.
    fn whole_reasoning(&mut self, seal: Seal, out: &mut Vec<u8>) {
        let (at, id) = self.next_item("rs");
        let item = answer::reasoning(&id, "", Some(&seal));
        self.whole(at, item, out);
    }
}

// Calls and pictures.
impl StreamWriter {
    fn open_call(&mut self, call_id: &str, name: &str, custom: bool, out: &mut Vec<u8>) -> Call {
        let known = answer::known(&self.toolbox, &self.custom_tools, name);
        let (at, id) = self.next_item(answer::stem(&known, custom));
        let guise = if custom { Guise::Custom } else { known.guise };
        let input = (guise == Guise::Custom && !custom).then(InputReader::default);
        // Tools with an item of their own kind are told when it is known what they are to do.
        match guise {
            Guise::Function => {
                let mut item = answer::call_item(&id, call_id, &known, "", custom, "in_progress");
                item["arguments"] = Value::from("");
                self.added(at, item, out);
            }
            Guise::Custom => {
                let item = answer::call_item(&id, call_id, &known, "", custom, "in_progress");
                self.added(at, item, out);
            }
            _ => {}
        }
        Call {
            at,
            id,
            call_id: call_id.to_owned(),
            known,
            custom,
            arguments: String::new(),
            input,
        }
    }

    fn arguments(&mut self, call: &mut Call, piece: &str, out: &mut Vec<u8>) {
        self.held += piece.len();
        if let Some(input) = &mut call.input {
            let text = input.feed(piece);
            return self.input_delta(call.at, &call.id, &text, out);
        }
        call.arguments.push_str(piece);
        match call.known.guise {
            _ if call.custom => self.input_delta(call.at, &call.id, piece, out),
            Guise::Function => self.call_delta(
                "response.function_call_arguments.delta",
                call.at,
                &call.id,
                piece,
                out,
            ),
            _ => {}
        }
    }

    fn input_delta(&mut self, at: usize, id: &str, piece: &str, out: &mut Vec<u8>) {
        self.call_delta("response.custom_tool_call_input.delta", at, id, piece, out);
    }

    fn call_delta(&mut self, kind: &str, at: usize, id: &str, piece: &str, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        self.begin(kind, out);
        write_item(id, at, out);
        out.extend_from_slice(b",\"delta\":");
        write_text(piece, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn close_call(&mut self, mut call: Call, out: &mut Vec<u8>) {
        let mut custom = call.custom;
        if let Some(mut input) = call.input.take() {
            let rest = input.end();
            self.input_delta(call.at, &call.id, &rest, out);
            call.arguments = input.text().to_owned();
            custom = true;
        }
        let item = answer::call_item(
            &call.id,
            &call.call_id,
            &call.known,
            &call.arguments,
            custom,
            "completed",
        );
        let place = json!({"item_id": call.id, "output_index": call.at});
        let with = |field: &str, value: &Value| {
            let mut event = place.clone();
            event[field] = value.clone();
            event
        };
        match call.known.guise {
            _ if custom => {
                let done = with("input", &item["input"]);
                self.tell("response.custom_tool_call_input.done", done, out);
            }
            Guise::Function => {
                if call.arguments.is_empty() {
                    // Who puts the deltas together gets an object as well.
                    self.call_delta(
                        "response.function_call_arguments.delta",
                        call.at,
                        &call.id,
                        "{}",
                        out,
                    );
                }
                let mut done = with("arguments", &item["arguments"]);
                done["name"] = item["name"].clone();
                self.tell("response.function_call_arguments.done", done, out);
            }
            _ => return self.whole_at(call.at, item, out),
        }
        self.done(call.at, item, out);
    }

    fn image(&mut self, media: &Media, out: &mut Vec<u8>) {
        if let Media::Inline { data, .. } = media {
            self.held += data.len();
            let (at, id) = self.next_item("ig");
            if let Some(item) = answer::image(media, &id) {
                self.whole(at, item, out);
            }
            return;
        }
        let mut text = Text::default();
        self.text(&mut text, &answer::image_text(media), &[], out);
        self.close_text(text, out);
    }
}

// Items and events.
impl StreamWriter {
    fn next_item(&mut self, stem: &str) -> (usize, String) {
        let at = self.items.len();
        self.items.push(Value::Null);
        (at, item_id(stem, &self.id, at))
    }

    fn added(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.tell(
            "response.output_item.added",
            json!({"output_index": at, "item": item}),
            out,
        );
    }

    fn done(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.begin("response.output_item.done", out);
        let _ = write!(out, ",\"output_index\":{at},\"item\":");
        write_json(&item, out);
        out.extend_from_slice(b"}\n\n");
        self.items[at] = item;
    }

    /// An item that does not grow.
    fn whole(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.whole_at(at, item, out);
    }

    fn whole_at(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.begin("response.output_item.added", out);
        let _ = write!(out, ",\"output_index\":{at},\"item\":");
        write_json(&item, out);
        out.extend_from_slice(b"}\n\n");
        self.done(at, item, out);
    }

    /// The items that came to their end.
    fn complete_items(&mut self) -> Vec<Value> {
        let items = std::mem::take(&mut self.items);
        items.into_iter().filter(|item| !item.is_null()).collect()
    }

    fn tell_response(&mut self, kind: &str, out: &mut Vec<u8>) {
        self.begin(kind, out);
        out.extend_from_slice(b",\"response\":");
        write_json(&self.response, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn tell(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        self.begin(kind, out);
        for (name, value) in fields.as_object().into_iter().flatten() {
            out.push(b',');
            write_text(name, out);
            out.push(b':');
            write_json(value, out);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn begin(&mut self, kind: &str, out: &mut Vec<u8>) {
        let number = self.sequence;
        self.sequence += 1;
        let _ = write!(
            out,
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number}"
        );
    }

    fn write_place(&self, out: &mut Vec<u8>) {
        if let Some(message) = &self.message {
            write_item(&message.id, message.at, out);
            let _ = write!(out, ",\"content_index\":{}", message.content.len());
        }
    }
}

fn write_item(id: &str, at: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"item_id\":");
    write_text(id, out);
    let _ = write!(out, ",\"output_index\":{at}");
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_json(&text, out);
}

/// Values and texts can always be written, and so can memory.
fn write_json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}
