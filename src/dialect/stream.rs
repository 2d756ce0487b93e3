//! Streams from one dialect to another, event by event: the provider's framing is cut into [`Frame`]s, a [`Reader`] turns them into
//! neutral events, a [`Writer`] says these in the client's dialect. Nothing is held beyond one event of the provider's.

use memchr::memmem;

use super::failure::Failure;
use super::neutral::Event;
use crate::http::eventstream::{EventStreamDecoder, Message};
use crate::http::sse::SseParser;
use crate::limits::STRAY_BYTES_MAX;
use crate::meter::{Tally, Usage};

/// One event of a provider's stream, as its framing gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An event. `name` is the `event` field or `:event-type`, empty where there is none.
    Event {
        /// Its type.
        name: &'a str,
        /// JSON as a rule; `[DONE]`.
        data: &'a [u8],
    },
    /// An exception of an AWS event stream: `:exception-type`, or the code of an `error` message.
    Exception {
        /// Its type.
        kind: &'a str,
        /// JSON as a rule.
        data: &'a [u8],
    },
    /// What stood behind the last event and is none, at the end of the stream: Google writes an error as bare JSON (spec:
    /// providers 5.6). At most [`STRAY_BYTES_MAX`] bytes; may begin with pieces of the last event.
    Stray(&'a [u8]),
}

/// Reads a provider's stream.
pub trait Reader {
    /// Takes the next frame. An error ends the stream; it is told to the client as [`Event::Failed`]. Whatever cannot be
    /// understood and is not needed (unknown events, unknown fields) is skipped without an error.
    fn read(&mut self, frame: Frame<'_>, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure>;

    /// The body ended. An error where the dialect's own end was missing: the answer is cut short.
    fn end(&mut self, out: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure>;
}

/// Writes a stream for a client.
pub trait Writer {
    /// Appends what the event is in the client's dialect, framing included.
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>);

    /// Appends the end of a stream that came to its end well: what was held back (stop and usage) and the closing event.
    fn end(&mut self, out: &mut Vec<u8>);
}

/// Changes a stream on its way: translation, or repairs within one dialect.
pub trait Transform {
    /// Takes bytes of the provider's body, cut anywhere, and appends what the client gets for them.
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>);

    /// The provider's body ended; `whole` says that its framing did so properly. Appends the end.
    fn end(&mut self, whole: bool, out: &mut Vec<u8>);

    /// Why the client's stream ended with an error, if it did. Nothing is written after it.
    fn failure(&self) -> Option<&Failure>;
}

/// How a provider cuts its stream into events.
enum Framing {
    Sse { parser: SseParser, stray: Vec<u8> },
    EventStream(EventStreamDecoder),
}

/// From one dialect to another.
pub struct Translator {
    framing: Framing,
    inner: Inner,
}

struct Inner {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    tally: Tally,
    usage: Option<Usage>,
    failure: Option<Failure>,
    produced: bool,
}

impl Translator {
    /// Of server-sent events.
    pub fn of_sse(reader: Box<dyn Reader>, writer: Box<dyn Writer>) -> Self {
        let framing = Framing::Sse {
            parser: SseParser::default(),
            stray: Vec::new(),
        };
        Self::new(framing, reader, writer)
    }

    /// Of an AWS event stream.
    pub fn of_event_stream(reader: Box<dyn Reader>, writer: Box<dyn Writer>) -> Self {
        Self::new(
            Framing::EventStream(EventStreamDecoder::default()),
            reader,
            writer,
        )
    }

    fn new(framing: Framing, reader: Box<dyn Reader>, writer: Box<dyn Writer>) -> Self {
        let inner = Inner {
            reader,
            writer,
            tally: Tally::default(),
            usage: None,
            failure: None,
            produced: false,
        };
        Self { framing, inner }
    }
}

impl Transform for Translator {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let inner = &mut self.inner;
        inner.produced = false;
        match &mut self.framing {
            Framing::Sse { parser, stray } => {
                let line_starts = stray
                    .last()
                    .is_none_or(|last| matches!(last, b'\n' | b'\r'));
                let fed = parser.feed(bytes, |event| {
                    let name = std::str::from_utf8(event.event).unwrap_or_default();
                    let data = event.data;
                    inner.take(Frame::Event { name, data }, out);
                });
                if let Err(error) = fed {
                    inner.fail(Failure::broken(error.to_string()), out);
                }
                if inner.produced {
                    stray.clear();
                }
                keep_end(stray, bytes);
                if !inner.produced && has_comment(bytes, line_starts) {
                    inner.write(&Event::KeepAlive, out);
                }
            }
            Framing::EventStream(decoder) => {
                let fed = decoder.feed(bytes, |message| inner.take(frame(&message), out));
                if let Err(error) = fed {
                    inner.fail(Failure::broken(error.to_string()), out);
                }
            }
        }
    }

    fn end(&mut self, whole: bool, out: &mut Vec<u8>) {
        let inner = &mut self.inner;
        let whole = match &mut self.framing {
            Framing::Sse { parser, stray } => {
                inner.produced = false;
                let rest = std::mem::take(parser).finish(|event| {
                    let name = std::str::from_utf8(event.event).unwrap_or_default();
                    let data = event.data;
                    inner.take(Frame::Event { name, data }, out);
                });
                if !inner.produced && !stray.is_empty() {
                    inner.take(Frame::Stray(stray), out);
                }
                whole && rest.is_ok()
            }
            Framing::EventStream(decoder) => whole && decoder.is_whole(),
        };
        inner.end(whole, out);
    }

    fn failure(&self) -> Option<&Failure> {
        self.inner.failure.as_ref()
    }
}

impl Inner {
    fn take(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) {
        self.produced = true;
        if self.failure.is_some() {
            return;
        }
        if let Frame::Event { data, .. } = frame
            && let Some(usage) = self
                .tally
                .note(data)
                .filter(|usage| self.usage != Some(*usage))
        {
            self.usage = Some(usage);
            self.writer.write(&Event::Usage(usage), out);
        }
        self.read(out, |reader, sink| reader.read(frame, sink));
    }

    fn end(&mut self, whole: bool, out: &mut Vec<u8>) {
        if self.failure.is_some() {
            return;
        }
        if !whole {
            let failure = Failure::broken("The provider's stream broke off");
            return self.fail(failure, out);
        }
        self.read(out, |reader, sink| reader.end(sink));
        if self.failure.is_none() {
            self.writer.end(out);
        }
    }

    fn read(
        &mut self,
        out: &mut Vec<u8>,
        step: impl FnOnce(&mut dyn Reader, &mut dyn FnMut(Event<'_>)) -> Result<(), Failure>,
    ) {
        let (writer, failure) = (&mut self.writer, &mut self.failure);
        let mut sink = |event: Event<'_>| {
            if failure.is_some() {
                return;
            }
            writer.write(&event, out);
            if let Event::Failed(error) = event {
                *failure = Some(error);
            }
        };
        if let Err(error) = step(self.reader.as_mut(), &mut sink) {
            sink(Event::Failed(error));
        }
    }

    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if self.failure.is_none() {
            self.writer.write(event, out);
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) {
        if self.failure.is_none() {
            self.writer.write(&Event::Failed(failure.clone()), out);
            self.failure = Some(failure);
        }
    }
}

fn frame<'a>(message: &Message<'a>) -> Frame<'a> {
    let header = |name| {
        let value = message.header(name).unwrap_or_default();
        std::str::from_utf8(value).unwrap_or_default()
    };
    let data = message.payload;
    match header(":message-type") {
        "exception" => Frame::Exception {
            kind: header(":exception-type"),
            data,
        },
        "error" => Frame::Exception {
            kind: header(":error-code"),
            data: message.header(":error-message").unwrap_or_default(),
        },
        _ => Frame::Event {
            name: header(":event-type"),
            data,
        },
    }
}

/// Whether a comment begins in the piece: the provider's sign of life while it works. A piece may begin with the colon behind a
/// field's name.
fn has_comment(bytes: &[u8], line_starts: bool) -> bool {
    line_starts && bytes.starts_with(b":") || memmem::find(bytes, b"\n:").is_some()
}

/// Keeps the end of what came, within its bound.
fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    let fresh = &bytes[bytes.len().saturating_sub(STRAY_BYTES_MAX)..];
    let old = (kept.len() + fresh.len()).saturating_sub(STRAY_BYTES_MAX);
    kept.drain(..old);
    kept.extend_from_slice(fresh);
}
