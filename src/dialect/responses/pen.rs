//! Writes events, numbered, and keeps the items that they tell of: the last event repeats them.

use std::io::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::answer::item_id;

/// What was written of one answer.
#[derive(Debug, Default)]
pub(super) struct Pen {
    /// From which ids are made.
    id: String,
    events: u64,
    /// In their order; null while they are open.
    items: Vec<Value>,
    /// Bytes that are kept.
    pub held: usize,
}

/// An item that is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub id: String,
    pub at: usize,
}

/// What an event is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// The item itself.
    Whole(&'a Item),
    /// One of its contents.
    Content(&'a Item, usize),
    /// Its only summary.
    Summary(&'a Item),
}

/// About what an item takes beside its text.
const ITEM_SIZE: usize = 512;

impl Pen {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// The next item; its id begins with `stem`.
    pub fn next_item(&mut self, stem: &str) -> Item {
        let at = self.items.len();
        self.items.push(Value::Null);
        self.held += ITEM_SIZE;
        Item {
            id: item_id(stem, &self.id, at),
            at,
        }
    }

    /// An item begins.
    pub fn added(&mut self, at: usize, item: &Value, out: &mut Vec<u8>) {
        self.item("response.output_item.added", at, item, out);
    }

    /// An item is complete.
    pub fn done(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.item("response.output_item.done", at, &item, out);
        self.items[at] = item;
    }

    /// An item begins and is complete.
    pub fn whole(&mut self, at: usize, item: Value, out: &mut Vec<u8>) {
        self.added(at, &item, out);
        self.done(at, item, out);
    }

    /// The items that came to their end.
    pub fn take_items(&mut self) -> Vec<Value> {
        let items = std::mem::take(&mut self.items);
        items.into_iter().filter(|item| !item.is_null()).collect()
    }

    /// An event about the response.
    pub fn response(&mut self, kind: &str, response: &Value, out: &mut Vec<u8>) {
        self.begin(kind, out);
        out.extend_from_slice(b",\"response\":");
        json(response, out);
        end(out);
    }

    /// An event about a place, with these fields.
    pub fn tell(
        &mut self,
        kind: &str,
        place: Place<'_>,
        fields: &[(&str, &Value)],
        out: &mut Vec<u8>,
    ) {
        self.begin(kind, out);
        place.write(out);
        write_fields(fields, out);
        end(out);
    }

    /// An event about nothing but itself.
    pub fn tell_alone(&mut self, kind: &str, fields: &[(&str, &Value)], out: &mut Vec<u8>) {
        self.begin(kind, out);
        write_fields(fields, out);
        end(out);
    }

    /// Something grows by this text.
    pub fn delta(
        &mut self,
        kind: &str,
        place: Place<'_>,
        delta: &str,
        logprobs: Option<&[Value]>,
        out: &mut Vec<u8>,
    ) {
        self.held += delta.len();
        self.begin(kind, out);
        place.write(out);
        out.extend_from_slice(b",\"delta\":");
        json(delta, out);
        if let Some(logprobs) = logprobs {
            out.extend_from_slice(b",\"logprobs\":");
            json(logprobs, out);
        }
        end(out);
    }

    fn item(&mut self, kind: &str, at: usize, item: &Value, out: &mut Vec<u8>) {
        self.begin(kind, out);
        let _ = write!(out, ",\"output_index\":{at},\"item\":");
        json(item, out);
        end(out);
    }

    fn begin(&mut self, kind: &str, out: &mut Vec<u8>) {
        let number = self.events;
        self.events += 1;
        let _ = write!(
            out,
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number}"
        );
    }
}

impl Place<'_> {
    fn write(self, out: &mut Vec<u8>) {
        let (Self::Whole(item) | Self::Content(item, _) | Self::Summary(item)) = self;
        out.extend_from_slice(b",\"item_id\":");
        json(&item.id, out);
        let _ = write!(out, ",\"output_index\":{}", item.at);
        match self {
            Self::Whole(_) => {}
            Self::Content(_, content) => {
                let _ = write!(out, ",\"content_index\":{content}");
            }
            Self::Summary(_) => out.extend_from_slice(b",\"summary_index\":0"),
        }
    }
}

fn write_fields(fields: &[(&str, &Value)], out: &mut Vec<u8>) {
    for (name, value) in fields {
        let _ = write!(out, ",\"{name}\":");
        json(*value, out);
    }
}

/// Values and texts can always be written, and so can memory.
fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n\n");
}
