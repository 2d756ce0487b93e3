//! A streamed answer. The dialect repeats each part when it is complete, and everything in its last event, so that what was said is
//! kept until then, within [`RESPONSE_HELD_MAX`].

use serde_json::{Value, json};

use super::super::Terms;
use super::super::failure::Failure;
use super::super::neutral::{Delta, Event, Media, Opening, Stop, StopReason};
use super::super::stream::Writer;
use super::answer;
use super::errors;
use super::parts::{Call, Refusal, Talk, Text, Thinking, whole_reasoning};
use super::pen::Pen;
use super::seal::Seal;
use super::tools::Toolbox;
use crate::limits::RESPONSE_HELD_MAX;
use crate::meter::Usage;

/// Writes the events of an answer.
pub struct StreamWriter {
    /// The response around the items, as it stands.
    response: Value,
    pen: Pen,
    talk: Talk,
    /// The parts that grow, by their indices.
    open: Vec<(u32, Open)>,
    toolbox: Toolbox,
    custom_tools: Vec<String>,
    started: bool,
    ended: bool,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

/// A part that grows.
#[derive(Debug)]
enum Open {
    Text(Text),
    Refusal(Refusal),
    Thinking(Thinking),
    Call(Call),
    /// Was told when it was opened.
    Told,
}

impl StreamWriter {
    /// A writer for one answer.
    pub fn new(terms: &Terms) -> Self {
        Self {
            response: answer::frame(terms),
            pen: Pen::new(&terms.id),
            talk: Talk::default(),
            open: Vec::new(),
            toolbox: answer::toolbox(terms),
            custom_tools: terms.custom_tools.clone(),
            started: false,
            ended: false,
            stop: None,
            usage: None,
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
                if let Some(model) = model.as_ref().filter(|_| !self.started) {
                    self.response["model"] = Value::from(model.as_ref());
                }
                if let Some(created) = created.filter(|_| !self.started) {
                    self.response["created_at"] = Value::from(created);
                }
                self.start(out);
            }
            Event::Open {
                choice: 0,
                index,
                part,
            } => {
                self.start(out);
                let open = self.open_part(part, out);
                self.pen.held += size_of::<Open>();
                self.open.push((*index, open));
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
                self.stop = Some(stop.clone());
            }
            // One answer is all that the dialect knows.
            Event::Open { .. } | Event::Delta { .. } | Event::Close { .. } | Event::Stop { .. } => {
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::KeepAlive => out.extend_from_slice(b": keep-alive\n\n"),
            Event::Failed(failure) => self.fail(failure, out),
        }
        if self.pen.held > RESPONSE_HELD_MAX && !self.ended {
            let told = format!("The answer is larger than {RESPONSE_HELD_MAX} bytes");
            self.fail(&Failure::broken(told), out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.start(out);
        let stop = self.stop.take();
        let stop = stop.unwrap_or_else(|| Stop::new(StopReason::End));
        self.stopped(&stop, out);
        let items = self.pen.take_items();
        answer::finish(&mut self.response, &stop, items, self.usage.as_ref());
        let kind = match answer::cut(&stop) {
            true => "response.incomplete",
            false => "response.completed",
        };
        self.pen.response(kind, &self.response, out);
        self.ended = true;
    }
}

impl StreamWriter {
    fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            for kind in ["response.created", "response.in_progress"] {
                self.pen.response(kind, &self.response, out);
            }
        }
    }

    fn open_part(&mut self, part: &Opening<'_>, out: &mut Vec<u8>) -> Open {
        // Thoughts may turn out to be none; they end the message when they begin.
        let whole = matches!(
            part,
            Opening::Redacted(_) | Opening::ToolUse { .. } | Opening::Image(Media::Inline { .. })
        );
        if whole {
            self.talk.close("completed", &mut self.pen, out);
        }
        match part {
            Opening::Text => Open::Text(Text::default()),
            Opening::Refusal => Open::Refusal(Refusal::default()),
            Opening::Thinking => Open::Thinking(Thinking::default()),
            Opening::Redacted(signature) => {
                self.pen.held += signature.data.len();
                let seal = Seal::Redacted(signature.clone());
                whole_reasoning(&seal, &mut self.pen, out);
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
                    self.pen.held += signature.data.len();
                    let seal = Seal::Call(signature.clone());
                    whole_reasoning(&seal, &mut self.pen, out);
                }
                let known = answer::known(&self.toolbox, &self.custom_tools, name);
                Open::Call(Call::open(id, known, *custom, &mut self.pen, out))
            }
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let found = self.open.iter_mut().find(|(open, _)| *open == index);
        let Some((_, part)) = found else { return };
        let (talk, pen) = (&mut self.talk, &mut self.pen);
        match (part, delta) {
            (Open::Text(text), Delta::Text(piece)) => text.grow(piece, Vec::new(), talk, pen, out),
            (Open::Text(text), Delta::Logprobs(told)) => {
                text.grow("", answer::logprobs(told), talk, pen, out);
            }
            (Open::Text(text), Delta::Citation(citation)) => text.cite(citation, talk, pen, out),
            (Open::Text(text), Delta::Signature(signature)) => {
                pen.held += signature.data.len();
                text.signature = Some(signature.clone());
            }
            (Open::Refusal(refusal), Delta::Refusal(piece) | Delta::Text(piece)) => {
                refusal.grow(piece, talk, pen, out);
            }
            (Open::Thinking(thinking), Delta::Thinking(piece)) => {
                thinking.grow(piece, talk, pen, out);
            }
            (Open::Thinking(thinking), Delta::Signature(signature)) => {
                thinking.sign(signature, pen);
            }
            (Open::Call(call), Delta::Arguments(piece)) => call.grow(piece, pen, out),
            _ => {}
        }
    }

    fn close_part(&mut self, part: Open, out: &mut Vec<u8>) {
        let (talk, pen) = (&mut self.talk, &mut self.pen);
        match part {
            Open::Text(text) => text.close(talk, pen, out),
            Open::Refusal(refusal) => refusal.close(talk, pen, out),
            Open::Thinking(thinking) => thinking.close(talk, pen, out),
            Open::Call(call) => call.close(pen, out),
            Open::Told => {}
        }
    }

    /// A picture that the model made.
    fn image(&mut self, media: &Media, out: &mut Vec<u8>) {
        if let Media::Inline { data, .. } = media {
            self.pen.held += data.len();
            let item = self.pen.next_item("ig");
            if let Some(done) = answer::image(media, &item.id) {
                self.pen.whole(item.at, done, out);
            }
            return;
        }
        let (talk, pen) = (&mut self.talk, &mut self.pen);
        let mut text = Text::default();
        text.grow(&answer::image_text(media), Vec::new(), talk, pen, out);
        text.close(talk, pen, out);
    }

    /// The answer is complete but for its last event.
    fn stopped(&mut self, stop: &Stop, out: &mut Vec<u8>) {
        for (_, part) in std::mem::take(&mut self.open) {
            self.close_part(part, out);
        }
        let (talk, pen) = (&mut self.talk, &mut self.pen);
        if let Some(words) = answer::refusal(stop).filter(|_| !talk.refused) {
            let mut refusal = Refusal::default();
            refusal.grow(words, talk, pen, out);
            refusal.close(talk, pen, out);
        }
        talk.close(answer::status(stop), pen, out);
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.start(out);
        // Flat as the dialect has it, and nested: official clients raise an exception for a field of that name.
        let (code, message) = (json!(errors::code(failure)), json!(failure.message));
        let param = json!(failure.param);
        let nested = json!({"type": errors::kind(failure), "code": code, "message": message, "param": param});
        let fields = [
            ("code", &code),
            ("message", &message),
            ("param", &param),
            ("error", &nested),
        ];
        self.pen.tell_alone("error", &fields, out);
        self.response["status"] = Value::from("failed");
        self.response["error"] = errors::inside(failure);
        self.response["output"] = Value::Array(self.pen.take_items());
        self.pen.response("response.failed", &self.response, out);
        self.ended = true;
    }
}
