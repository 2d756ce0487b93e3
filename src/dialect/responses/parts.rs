//! The parts of a streamed answer while they grow.

use serde_json::{Value, json};

use super::super::neutral::{Citation, Signature};
use super::answer;
use super::custom::InputReader;
use super::pen::{Item, Pen, Place};
use super::seal::Seal;
use super::tools::{Guise, Known};

/// The message that texts and refusals go into.
#[derive(Debug, Default)]
pub(super) struct Talk {
    message: Option<Message>,
    /// A refusal was among it.
    pub refused: bool,
}

#[derive(Debug)]
struct Message {
    item: Item,
    content: Vec<Value>,
}

impl Talk {
    /// Begins a content, and the message where there is none.
    fn begin(&mut self, part: &Value, pen: &mut Pen, out: &mut Vec<u8>) {
        let message = self.message.get_or_insert_with(|| {
            let item = pen.next_item("msg");
            let begun = answer::message(&item.id, Vec::new(), "in_progress");
            pen.added(item.at, &begun, out);
            Message {
                item,
                content: Vec::new(),
            }
        });
        let place = message.place();
        pen.tell("response.content_part.added", place, &[("part", part)], out);
    }

    fn place(&self) -> Option<Place<'_>> {
        self.message.as_ref().map(Message::place)
    }

    /// The content is complete.
    fn complete(&mut self, part: Value, pen: &mut Pen, out: &mut Vec<u8>) {
        if let Some(message) = &mut self.message {
            let place = message.place();
            pen.tell("response.content_part.done", place, &[("part", &part)], out);
            message.content.push(part);
        }
    }

    /// The message is complete.
    pub fn close(&mut self, status: &str, pen: &mut Pen, out: &mut Vec<u8>) {
        if let Some(Message { item, content }) = self.message.take() {
            let done = answer::message(&item.id, content, status);
            pen.done(item.at, done, out);
        }
    }
}

impl Message {
    fn place(&self) -> Place<'_> {
        Place::Content(&self.item, self.content.len())
    }
}

/// Text for the user.
#[derive(Debug, Default)]
pub(super) struct Text {
    begun: bool,
    text: String,
    /// Characters of it.
    length: u64,
    annotations: Vec<Value>,
    logprobs: Vec<Value>,
    pub signature: Option<Signature>,
}

impl Text {
    pub fn grow(
        &mut self,
        piece: &str,
        logprobs: Vec<Value>,
        talk: &mut Talk,
        pen: &mut Pen,
        out: &mut Vec<u8>,
    ) {
        if piece.is_empty() && logprobs.is_empty() {
            return;
        }
        self.begin(talk, pen, out);
        if let Some(place) = talk.place() {
            let kind = "response.output_text.delta";
            pen.delta(kind, place, piece, Some(&logprobs), out);
        }
        self.text.push_str(piece);
        self.length += piece.chars().count() as u64;
        pen.held += logprobs.len() * LOGPROB_SIZE;
        self.logprobs.extend(logprobs);
    }

    pub fn cite(&mut self, citation: &Citation, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        let Some(annotation) = answer::annotation(citation, self.length) else {
            return;
        };
        self.begin(talk, pen, out);
        if let Some(place) = talk.place() {
            let index = Value::from(self.annotations.len());
            let fields = [("annotation_index", &index), ("annotation", &annotation)];
            pen.tell("response.output_text.annotation.added", place, &fields, out);
        }
        pen.held += citation.url.len() + citation.title.as_ref().map_or(0, String::len);
        self.annotations.push(annotation);
    }

    pub fn close(self, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        if self.begun {
            let part = answer::text_part(&self.text, self.annotations, self.logprobs);
            if let Some(place) = talk.place() {
                let fields = [("text", &part["text"]), ("logprobs", &part["logprobs"])];
                pen.tell("response.output_text.done", place, &fields, out);
            }
            talk.complete(part, pen, out);
        }
        if let Some(signature) = self.signature {
            talk.close("completed", pen, out);
            whole_reasoning(&Seal::Text(signature), pen, out);
        }
    }

    fn begin(&mut self, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            talk.begin(&answer::text_part("", Vec::new(), Vec::new()), pen, out);
        }
    }
}

/// About what the log probability of one token takes.
const LOGPROB_SIZE: usize = 256;

/// Why the model does not answer.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    words: String,
}

impl Refusal {
    pub fn grow(&mut self, piece: &str, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        if self.words.is_empty() {
            talk.begin(&answer::refusal_part(""), pen, out);
            talk.refused = true;
        }
        if let Some(place) = talk.place() {
            pen.delta("response.refusal.delta", place, piece, None, out);
        }
        self.words.push_str(piece);
    }

    pub fn close(self, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        if self.words.is_empty() {
            return;
        }
        let part = answer::refusal_part(&self.words);
        if let Some(place) = talk.place() {
            let fields = [("refusal", &part["refusal"])];
            pen.tell("response.refusal.done", place, &fields, out);
        }
        talk.complete(part, pen, out);
    }
}

/// Thoughts. What is neither readable nor proved is not told.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    item: Option<Item>,
    text: String,
    signature: Option<Signature>,
}

impl Thinking {
    pub fn grow(&mut self, piece: &str, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        let begins = self.text.is_empty();
        self.text.push_str(piece);
        let place = Place::Summary(Self::item(&mut self.item, talk, pen, out));
        if begins {
            let part = summary("");
            let kind = "response.reasoning_summary_part.added";
            pen.tell(kind, place, &[("part", &part)], out);
        }
        let kind = "response.reasoning_summary_text.delta";
        pen.delta(kind, place, piece, None, out);
    }

    pub fn sign(&mut self, signature: &Signature, pen: &mut Pen) {
        pen.held += signature.data.len();
        self.signature = Some(signature.clone());
    }

    pub fn close(mut self, talk: &mut Talk, pen: &mut Pen, out: &mut Vec<u8>) {
        let seal = self.signature.take().map(Seal::Thought);
        if self.text.is_empty() && seal.is_none() {
            return;
        }
        let item = Self::item(&mut self.item, talk, pen, out);
        if !self.text.is_empty() {
            let place = Place::Summary(item);
            let part = summary(&self.text);
            let kind = "response.reasoning_summary_text.done";
            pen.tell(kind, place, &[("text", &part["text"])], out);
            let kind = "response.reasoning_summary_part.done";
            pen.tell(kind, place, &[("part", &part)], out);
        }
        let done = answer::reasoning(&item.id, &self.text, seal.as_ref());
        pen.done(item.at, done, out);
    }

    fn item<'a>(
        item: &'a mut Option<Item>,
        talk: &mut Talk,
        pen: &mut Pen,
        out: &mut Vec<u8>,
    ) -> &'a Item {
        item.get_or_insert_with(|| {
            talk.close("completed", pen, out);
            let item = pen.next_item("rs");
            pen.added(item.at, &answer::reasoning(&item.id, "", None), out);
            item
        })
    }
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

/// An item that is nothing but a proof.
pub(super) fn whole_reasoning(seal: &Seal, pen: &mut Pen, out: &mut Vec<u8>) {
    let item = pen.next_item("rs");
    let done = answer::reasoning(&item.id, "", Some(seal));
    pen.whole(item.at, done, out);
}

/// A call of a tool.
#[derive(Debug)]
pub(super) struct Call {
    item: Item,
    call_id: String,
    known: Known,
    form: Form,
    arguments: String,
}

/// How a call's arguments come, and go on.
#[derive(Debug)]
enum Form {
    /// A function's, as they are.
    Arguments,
    /// Free text, as it is.
    Text,
    /// Free text, to be read out of arguments.
    Wrapped(InputReader),
    /// Told when it is known what the tool is to do.
    Held,
}

impl Call {
    /// `custom`: the provider itself gives free text.
    pub fn open(
        call_id: &str,
        known: Known,
        custom: bool,
        pen: &mut Pen,
        out: &mut Vec<u8>,
    ) -> Self {
        let item = pen.next_item(answer::stem(&known, custom));
        let form = match known.guise {
            _ if custom => Form::Text,
            Guise::Function => Form::Arguments,
            Guise::Custom => Form::Wrapped(InputReader::default()),
            _ => Form::Held,
        };
        if !matches!(form, Form::Held) {
            let mut begun = answer::call_item(&item.id, call_id, &known, "", custom, "in_progress");
            if let Some(arguments) = begun.get_mut("arguments") {
                *arguments = Value::from("");
            }
            pen.added(item.at, &begun, out);
        }
        Self {
            item,
            call_id: call_id.to_owned(),
            known,
            form,
            arguments: String::new(),
        }
    }

    pub fn grow(&mut self, piece: &str, pen: &mut Pen, out: &mut Vec<u8>) {
        if let Form::Wrapped(input) = &mut self.form {
            // What is read counts when it is told; what only surrounds it is not much, but may be all there is.
            let text = input.feed(piece);
            pen.held += piece.len().saturating_sub(text.len());
            return self.tell(&text, pen, out);
        }
        self.arguments.push_str(piece);
        match self.form {
            Form::Held => pen.held += piece.len(),
            _ => self.tell(piece, pen, out),
        }
    }

    pub fn close(mut self, pen: &mut Pen, out: &mut Vec<u8>) {
        if let Form::Wrapped(input) = &mut self.form {
            let rest = input.end();
            self.arguments = input.text().to_owned();
            self.tell(&rest, pen, out);
        }
        let custom = matches!(self.form, Form::Text | Form::Wrapped(_));
        if matches!(self.form, Form::Arguments) && self.arguments.is_empty() {
            // Who puts the deltas together gets an object as well.
            self.tell("{}", pen, out);
        }
        let (id, call_id) = (&self.item.id, &self.call_id);
        let done = answer::call_item(
            id,
            call_id,
            &self.known,
            &self.arguments,
            custom,
            "completed",
        );
        let place = Place::Whole(&self.item);
        match self.form {
            Form::Held => return pen.whole(self.item.at, done, out),
            Form::Arguments => {
                let fields = [("name", &done["name"]), ("arguments", &done["arguments"])];
                pen.tell("response.function_call_arguments.done", place, &fields, out);
            }
            Form::Text | Form::Wrapped(_) => {
                let fields = [("input", &done["input"])];
                pen.tell("response.custom_tool_call_input.done", place, &fields, out);
            }
        }
        pen.done(self.item.at, done, out);
    }

    fn tell(&self, piece: &str, pen: &mut Pen, out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        let kind = match self.form {
            Form::Arguments | Form::Held => "response.function_call_arguments.delta",
            Form::Text | Form::Wrapped(_) => "response.custom_tool_call_input.delta",
        };
        pen.delta(kind, Place::Whole(&self.item), piece, None, out);
    }
}
