//! Token usage, read beside a relayed answer of any dialect (spec: providers 1.8 and 17). The dialect is told by the answer's
//! shape, never by the provider's name.

mod coding;
pub mod cost;
mod counts;
mod node;
mod plain;
pub mod prices;
mod scan;
mod search;
mod usage;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::eventstream::{self, EventStreamDecoder, Message};
use crate::limits::{METER_BODY_MAX, METER_IN_PLACE, METER_MODEL_EVENTS};
use coding::{Decoding, Take};
use node::Node;
use scan::{Events, Framing, Hints, Window};
use usage::Reading;

use cost::Extras;
pub use usage::Usage;

/// What an answer said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metered {
    /// `None`: it stated none.
    pub usage: Option<Usage>,
    /// What changes the cost beside the tokens.
    pub extras: Extras,
    /// The model that answered, as it names itself.
    pub model: Option<String>,
    /// Why usage may be missing or too low although the answer stated it.
    pub gap: Option<Gap>,
}

/// Why an answer could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// The content coding is not known, broken, or decodes to more than the bounds allow.
    #[error("the content coding could not be undone")]
    Coding,
    /// The JSON or the framing of the answer is broken.
    #[error("the answer is malformed")]
    Malformed,
}

impl Metered {
    fn of((reading, malformed): (Reading, bool)) -> Self {
        let (usage, extras, model) = reading.finish();
        Self {
            usage,
            extras,
            model,
            gap: malformed.then_some(Gap::Malformed),
        }
    }
}

/// Reads an answer beside its relay. It copies no more than the event or the answer that is being read, within bounds; an
/// answer of a kind that states no usage costs nothing.
pub struct Meter {
    stage: Stage,
    /// Bytes of the whole body, where they are known.
    length: Option<u64>,
}

enum Stage {
    /// Nothing to read, and why if that is a gap.
    Nothing(Option<Gap>),
    /// All was read.
    Done(Metered),
    Plain(Reader),
    Coded(Box<Decoding<Reader>>),
}

impl Meter {
    /// `content_type` and `content_encoding` are the values of the answer's headers.
    pub fn new(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Self {
        let coding = content_encoding.unwrap_or_default().trim_ascii();
        let stage = match Reader::of(content_type.unwrap_or_default()) {
            None => Stage::Nothing(None),
            Some(reader) if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") => {
                Stage::Plain(reader)
            }
            Some(reader) => match Decoding::new(coding, reader) {
                Some(decoding) => Stage::Coded(Box::new(decoding)),
                None => Stage::Nothing(Some(Gap::Coding)),
            },
        };
        Self {
            stage,
            length: None,
        }
    }

    /// Tells how long the body will be: a small one that comes in one piece is then read where it lies, without a copy.
    pub fn of_length(self, length: u64) -> Self {
        Self {
            length: Some(length),
            ..self
        }
    }

    /// Takes the next bytes of the body, without transfer coding, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Nothing(_) | Stage::Done(_) => {}
            Stage::Plain(Reader::Body(window))
                if window.kept.is_empty()
                    && bytes.len() <= METER_IN_PLACE
                    && self.length == Some(bytes.len() as u64) =>
            {
                self.stage = Stage::Done(Metered::of(read_body(bytes)));
            }
            Stage::Plain(reader) => reader.take(bytes),
            Stage::Coded(decoding) => decoding.feed(bytes),
        }
    }

    /// Whether [`Self::finish`] may take more than a moment, because a large body is to be parsed: about 1 ms for each MiB.
    pub fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Plain(Reader::Body(window)) => window.kept.len(),
            _ => 0,
        }
    }

    /// Ends the reading, also of an answer that was cut short: what it stated up to there counts.
    pub fn finish(self) -> Metered {
        match self.stage {
            Stage::Nothing(gap) => Metered {
                gap,
                ..Metered::default()
            },
            Stage::Done(metered) => metered,
            Stage::Plain(reader) => reader.finish(),
            Stage::Coded(decoding) => {
                let (reader, whole) = decoding.finish();
                let metered = reader.map(Reader::finish).unwrap_or_default();
                Metered {
                    gap: (!whole).then_some(Gap::Coding).or(metered.gap),
                    ..metered
                }
            }
        }
    }
}

/// Usage as the documents of one answer state it, for those who cut a stream into documents themselves.
#[derive(Default)]
pub struct Tally {
    hints: Hints,
    reading: Reading,
}

impl Tally {
    /// Takes the next document; the usage stated up to here, if it says anything about it.
    pub fn note(&mut self, document: &[u8]) -> Option<Usage> {
        self.hints.find(document)?;
        self.reading.observe(document).ok()?;
        self.reading.usage()
    }
}

/// A body without its content coding, within the meter's bounds and `longest`; `None` where the coding is unknown or broken.
pub fn decoded(body: &[u8], coding: &[u8], longest: usize) -> Option<Vec<u8>> {
    struct Kept(Vec<u8>, usize);
    impl Take for Kept {
        fn take(&mut self, bytes: &[u8]) {
            let room = self.1.saturating_sub(self.0.len());
            self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
    let coding = coding.trim_ascii();
    if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
        return Some(body.to_vec());
    }
    let mut decoding = Decoding::new(coding, Kept(Vec::new(), longest))?;
    decoding.feed(body);
    let (kept, whole) = decoding.finish();
    kept.filter(|kept| whole && kept.0.len() < longest)
        .map(|kept| kept.0)
}

/// The usage that a whole answer in JSON states.
pub fn stated_usage(answer: &[u8]) -> Option<Usage> {
    let mut reading = Reading::default();
    reading.observe(answer).ok()?;
    reading.usage()
}

/// Reads one kind of body.
enum Reader {
    Events(Box<Events>),
    Body(Window),
    Frames(Box<Frames>),
}

impl Reader {
    fn of(content_type: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
        let kind = content_type[..end].trim_ascii();
        if kind == b"application/json" {
            return Some(Self::Body(Window::new(METER_BODY_MAX)));
        }
        let kind = kind.to_ascii_lowercase();
        match kind.as_slice() {
            b"text/event-stream" => Some(Self::Events(Box::new(Events::new(Framing::Sse)))),
            b"application/stream+json"
            | b"application/x-ndjson"
            | b"application/ndjson"
            | b"application/jsonl"
            | b"application/x-jsonlines" => {
                Some(Self::Events(Box::new(Events::new(Framing::Lines))))
            }
            b"application/json" | b"text/json" => Some(Self::Body(Window::new(METER_BODY_MAX))),
            kind if kind.ends_with(b"+json") => Some(Self::Body(Window::new(METER_BODY_MAX))),
            kind if kind == eventstream::CONTENT_TYPE.as_bytes() => {
                Some(Self::Frames(Box::new(Frames::new())))
            }
            _ => None,
        }
    }

    fn finish(self) -> Metered {
        Metered::of(match self {
            Self::Events(events) => events.finish(),
            Self::Body(window) if window.is_cut() => {
                let mut reading = Reading::default();
                window.search(&mut reading);
                (reading, false)
            }
            Self::Body(window) => read_body(&window.kept),
            Self::Frames(frames) => (frames.reading, frames.broken),
        })
    }
}

impl Take for Reader {
    fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Events(events) => events.feed(bytes),
            Self::Body(window) => window.extend(bytes),
            Self::Frames(frames) => frames.feed(bytes),
        }
    }
}

/// Reads a whole body; tells whether it is malformed.
fn read_body(body: &[u8]) -> (Reading, bool) {
    let mut reading = Reading::default();
    if reading.take(body) {
        return (reading, false);
    }
    let is_empty = body.trim_ascii().is_empty();
    let malformed = !is_empty && reading.observe(body).is_err();
    (reading, malformed)
}

/// Reads the messages of an event stream.
struct Frames {
    decoder: EventStreamDecoder,
    hints: Hints,
    models_left: u8,
    /// The event inside a message, decoded.
    inner: Vec<u8>,
    reading: Reading,
    broken: bool,
}

impl Frames {
    fn new() -> Self {
        Self {
            decoder: EventStreamDecoder::default(),
            hints: Hints::new(),
            models_left: METER_MODEL_EVENTS,
            inner: Vec::new(),
            reading: Reading::default(),
            broken: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        self.broken |= decoder.feed(bytes, |message| self.note(message)).is_err();
        self.decoder = decoder;
    }

    fn note(&mut self, message: Message<'_>) {
        if message.header(":message-type") != Some(b"event") {
            return;
        }
        let read = match message.header(":event-type") {
            Some(b"chunk") => self.note_chunk(message.payload),
            _ if self.hints.find(message.payload).is_some() => {
                self.reading.observe(message.payload).ok()
            }
            _ => Some(()),
        };
        self.broken |= read.is_none();
    }

    /// A vendor's event in base64 (spec: providers 7.7).
    fn note_chunk(&mut self, payload: &[u8]) -> Option<()> {
        let chunk = Node::read(payload).ok()?;
        self.inner.clear();
        let encoded = chunk.text(&["bytes"])?;
        STANDARD.decode_vec(encoded, &mut self.inner).ok()?;
        let wants_model = self.models_left > 0 && !self.reading.has_model();
        self.models_left = self.models_left.saturating_sub(1);
        let inner = self.inner.as_slice();
        if wants_model || self.hints.find(inner).is_some() || self.hints.has_metrics(inner) {
            self.reading.observe(inner).ok()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
