//! The stream of Bedrock's InvokeModel, whose frames hold Claude's own events, as the stream that Anthropic would have sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use super::super::Terms;
use super::super::failure::Failure;
use super::super::stream::Transform;
use super::errors::{read_error, read_error_within, write_error};
use super::read_stream::exception_status;
use crate::http::eventstream::{EventStreamDecoder, Message};

/// Takes Claude's events out of Amazon's frames.
pub struct InvokeStream {
    decoder: EventStreamDecoder,
    state: State,
}

#[derive(Default)]
struct State {
    /// The last event came.
    ended: bool,
    failure: Option<Failure>,
}

/// What a frame carries.
#[derive(Deserialize)]
struct Chunk<'a> {
    bytes: &'a str,
}

/// What an event says of itself.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

impl InvokeStream {
    /// For the answer to one request.
    pub fn new(_terms: &Terms) -> Self {
        Self {
            decoder: EventStreamDecoder::default(),
            state: State::default(),
        }
    }
}

impl Transform for InvokeStream {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let state = &mut self.state;
        if state.failure.is_some() {
            return;
        }
        let fed = self.decoder.feed(bytes, |message| {
            if state.failure.is_none()
                && let Err(failure) = state.take(&message, out)
            {
                state.fail(failure, out);
            }
        });
        if let Err(error) = fed {
            state.fail(Failure::broken(error.to_string()), out);
        }
    }

    fn end(&mut self, whole: bool, out: &mut Vec<u8>) {
        if !(whole && self.decoder.is_whole() && self.state.ended) {
            let failure = Failure::broken("The provider's stream ended before its answer did");
            self.state.fail(failure, out);
        }
    }

    fn failure(&self) -> Option<&Failure> {
        self.state.failure.as_ref()
    }
}

impl State {
    fn take(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let header = |name| {
            let value = message.header(name).unwrap_or_default();
            std::str::from_utf8(value).unwrap_or_default()
        };
        match header(":message-type") {
            "exception" => {
                let kind = header(":exception-type");
                return Err(read_error(
                    exception_status(kind),
                    Some(kind),
                    message.payload,
                ));
            }
            "error" => {
                let text = message.header(":error-message").unwrap_or_default();
                return Err(read_error(500, Some(header(":error-code")), text));
            }
            _ if header(":event-type") != "chunk" => return Ok(()),
            _ => {}
        }
        let unreadable = || {
            Failure::broken("A frame of the provider's cannot be read").with_raw(message.payload)
        };
        let chunk: Chunk<'_> = serde_json::from_slice(message.payload).map_err(|_| unreadable())?;
        let mut event = STANDARD.decode(chunk.bytes).map_err(|_| unreadable())?;
        let typed: Typed<'_> = serde_json::from_slice(&event).map_err(|_| unreadable())?;
        let kind = typed.kind.to_owned();
        match kind.as_str() {
            "message_stop" => {
                self.ended = true;
                // Amazon adds its own counts.
                if memmem::find(&event, b"amazon-bedrock-").is_some() {
                    event = br#"{"type":"message_stop"}"#.to_vec();
                }
            }
            "error" => {
                let envelope: Value = serde_json::from_slice(&event).unwrap_or_default();
                return Err(read_error_within(&envelope));
            }
            _ => {}
        }
        // In JSON a line's end is nothing but space; in an event it would end the data.
        for byte in &mut event {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        put(&kind.replace(['\n', '\r'], " "), &event, out);
        Ok(())
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) {
        if self.failure.is_none() {
            put("error", write_error(&failure).to_string().as_bytes(), out);
            self.failure = Some(failure);
        }
    }
}

fn put(name: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}
