//! Gemini's streams: each event is a whole answer's worth of news, and the body just ends (spec: providers 5.5).

use std::borrow::Cow;

use serde_json::Value;

use super::answer::{self, Finish};
use super::errors;
use super::piece::{Kind, Piece};
use crate::dialect::Terms;
use crate::dialect::failure::Failure;
use crate::dialect::neutral::{
    Citation, Delta, Event, Media, Opening, PartKind, Signature, Stop, StopReason,
};
use crate::dialect::stream::{Frame, Reader};
use crate::limits::GEMINI_CANDIDATES_MAX;

/// Reads a stream of `alt=sse`.
pub struct StreamReader {
    terms: Terms,
    started: bool,
    calls: usize,
    choices: Vec<Candidate>,
    /// The prompt was blocked.
    blocked: bool,
}

/// One answer so far.
#[derive(Default)]
struct Candidate {
    seen: bool,
    /// Parts that were begun.
    parts: u32,
    open: Open,
    /// The open part has its signature: what follows is another part.
    signed: bool,
    called: bool,
    strayed: bool,
    says_something: bool,
    finish: Option<(String, Option<String>)>,
    /// Bytes of text, while they are as many as characters: Google counts the bytes of what is cited, others characters.
    plain_text: Option<u64>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    #[default]
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
            calls: 0,
            choices: Vec::new(),
            blocked: false,
        }
    }

    fn event(&mut self, data: &[u8], out: &mut Sink<'_>) -> Result<(), Failure> {
        if data.trim_ascii().is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let mut body: Value = serde_json::from_slice(data).map_err(|error| {
            Failure::broken(format!("An event of Gemini's stream is not JSON: {error}"))
                .with_raw(data)
        })?;
        if let Some(failure) = errors::inside(&body) {
            return Err(failure);
        }
        if !body.is_object() {
            return Ok(());
        }
        self.start(&body, out);
        let candidates = answer::take_list(&mut body, "candidates");
        if candidates.is_empty()
            && !self.blocked
            && self.choices.is_empty()
            && let Some((message, stop)) = answer::blocked(&body)
        {
            self.blocked = true;
            refuse(0, 0, &message, out);
            out(Event::Stop { choice: 0, stop });
        }
        for candidate in candidates {
            let index = candidate["index"].as_u64().unwrap_or(0);
            if self.blocked || index >= GEMINI_CANDIDATES_MAX as u64 {
                continue;
            }
            self.candidate(index as usize, candidate, out);
        }
        Ok(())
    }

    fn start(&mut self, body: &Value, out: &mut Sink<'_>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let text = |field: &str| body[field].as_str().map(Cow::Borrowed);
        out(Event::Start {
            id: text("responseId"),
            model: text("modelVersion"),
            created: answer::created(body),
        });
    }

    fn candidate(&mut self, at: usize, mut value: Value, out: &mut Sink<'_>) {
        while self.choices.len() <= at {
            self.choices.push(Candidate {
                plain_text: Some(0),
                ..Candidate::default()
            });
        }
        let choice = at as u32;
        let candidate = &mut self.choices[at];
        candidate.seen = true;
        let reason = answer::take_text(&mut value, "finishReason");
        let unexpected = reason.as_deref() == Some("UNEXPECTED_TOOL_CALL");
        if let Some(reason) = reason {
            // Old models say it with each event; the last one counts.
            candidate.finish = Some((reason, answer::take_text(&mut value, "finishMessage")));
        }
        let parts = answer::take_parts(&mut value);
        for piece in parts.into_iter().filter_map(Piece::read) {
            let undeclared =
                matches!(&piece.kind, Kind::Call { name, .. } if !self.terms.tools.contains(name));
            candidate.strayed |= undeclared;
            if unexpected && undeclared {
                continue;
            }
            candidate.piece(choice, piece, &mut self.calls, &self.terms, out);
        }
        if let Some(logprobs) = answer::logprobs(&value["logprobsResult"]) {
            candidate.on_text(choice, Delta::Logprobs(logprobs), out);
        }
        for (_, citation) in answer::citations(&value["groundingMetadata"]) {
            let within =
                |range: &(u64, u64)| candidate.plain_text.is_some_and(|length| range.1 <= length);
            let range = citation.range.filter(within);
            let citation = Citation { range, ..citation };
            candidate.on_text(choice, Delta::Citation(citation), out);
        }
    }
}

impl Candidate {
    fn piece(
        &mut self,
        choice: u32,
        piece: Piece,
        calls: &mut usize,
        terms: &Terms,
        out: &mut Sink<'_>,
    ) {
        let signature = piece.signature;
        match piece.kind {
            Kind::Text(text) => {
                let length = text.len() as u64;
                self.plain_text = match text.is_ascii() {
                    true => self.plain_text.map(|before| before + length),
                    false => None,
                };
                self.says_something = true;
                self.grow(choice, Open::Text, out);
                self.delta(choice, Delta::Text(Cow::Owned(text)), out);
                self.sign(choice, signature, out);
            }
            Kind::Thought(text) => {
                self.grow(choice, Open::Thinking, out);
                self.delta(choice, Delta::Thinking(Cow::Owned(text)), out);
                self.sign(choice, signature, out);
            }
            Kind::Nothing => {
                if self.open == Open::Text && !self.signed {
                    self.sign(choice, signature, out);
                } else if let Some(signature) = signature {
                    self.whole(choice, Opening::Redacted(signature), None, out);
                }
            }
            Kind::Call {
                id,
                name,
                arguments,
            } => {
                *calls += 1;
                self.called = true;
                let id = id.unwrap_or_else(|| answer::made_id(terms, *calls));
                let opening = Opening::ToolUse {
                    id: Cow::Owned(id),
                    name: Cow::Owned(name),
                    custom: false,
                    signature,
                };
                let arguments = Delta::Arguments(Cow::Owned(arguments));
                self.whole(choice, opening, Some(arguments), out);
            }
            Kind::Media(PartKind::Image { media, .. }) => {
                self.says_something = true;
                self.whole(choice, Opening::Image(media), None, out);
            }
            // Streams of other dialects have no word for sound and files; their address is one.
            Kind::Media(
                PartKind::Audio(media) | PartKind::Video(media) | PartKind::Document { media, .. },
            ) => {
                if let Media::Url { url, .. } = media {
                    self.says_something = true;
                    self.grow(choice, Open::Text, out);
                    self.delta(choice, Delta::Text(Cow::Owned(url)), out);
                }
            }
            Kind::Media(_) => {}
        }
    }

    /// A part that comes in one piece.
    fn whole(
        &mut self,
        choice: u32,
        part: Opening<'_>,
        delta: Option<Delta<'_>>,
        out: &mut Sink<'_>,
    ) {
        self.close(choice, out);
        let index = self.parts;
        self.parts += 1;
        out(Event::Open {
            choice,
            index,
            part,
        });
        if let Some(delta) = delta {
            out(Event::Delta {
                choice,
                index,
                delta,
            });
        }
        out(Event::Close { choice, index });
    }

    /// Opens a part that grows, unless one of its kind is open.
    fn grow(&mut self, choice: u32, kind: Open, out: &mut Sink<'_>) {
        if self.open == kind && !self.signed {
            return;
        }
        self.close(choice, out);
        self.open = kind;
        let index = self.parts;
        self.parts += 1;
        let part = match kind {
            Open::Thinking => Opening::Thinking,
            _ => Opening::Text,
        };
        out(Event::Open {
            choice,
            index,
            part,
        });
    }

    fn sign(&mut self, choice: u32, signature: Option<Signature>, out: &mut Sink<'_>) {
        if let Some(signature) = signature {
            self.delta(choice, Delta::Signature(signature), out);
            self.signed = true;
        }
    }

    /// Adds to the text, unless something else came after it.
    fn on_text(&mut self, choice: u32, delta: Delta<'_>, out: &mut Sink<'_>) {
        if self.open == Open::Text {
            self.delta(choice, delta, out);
        }
    }

    fn delta(&mut self, choice: u32, delta: Delta<'_>, out: &mut Sink<'_>) {
        let index = self.parts.saturating_sub(1);
        out(Event::Delta {
            choice,
            index,
            delta,
        });
    }

    fn close(&mut self, choice: u32, out: &mut Sink<'_>) {
        self.signed = false;
        if std::mem::take(&mut self.open) != Open::Nothing {
            let index = self.parts.saturating_sub(1);
            out(Event::Close { choice, index });
        }
    }

    fn stop(&self) -> Result<Stop, Failure> {
        let Some((word, message)) = &self.finish else {
            return Err(Failure::broken(
                "Gemini's stream ended without a finish reason",
            ));
        };
        let message = message.as_deref();
        match Finish::of(word, self.called) {
            Finish::Stop(stop) => Ok(stop),
            Finish::Spoilt(word)
                if word == "UNEXPECTED_TOOL_CALL" && self.strayed && self.called =>
            {
                Err(answer::spoilt(&word, message))
            }
            Finish::Spoilt(word) => {
                answer::stop_of_spoilt(&word, message, self.says_something, self.called)
            }
        }
    }
}

fn refuse(choice: u32, index: u32, message: &str, out: &mut Sink<'_>) {
    out(Event::Open {
        choice,
        index,
        part: Opening::Refusal,
    });
    out(Event::Delta {
        choice,
        index,
        delta: Delta::Refusal(Cow::Borrowed(message)),
    });
    out(Event::Close { choice, index });
}

impl Reader for StreamReader {
    fn read(&mut self, frame: Frame<'_>, out: &mut Sink<'_>) -> Result<(), Failure> {
        match frame {
            Frame::Event { data, .. } => self.event(data, out),
            Frame::Exception { data, .. } => Err(errors::read_error(502, None, data)),
            Frame::Stray(bytes) => match errors::stray(bytes) {
                Some(failure) => Err(failure),
                None => Ok(()),
            },
        }
    }

    fn end(&mut self, out: &mut Sink<'_>) -> Result<(), Failure> {
        if self.blocked {
            return Ok(());
        }
        if !self.choices.iter().any(|candidate| candidate.seen) {
            return Err(Failure::broken("Gemini's stream holds no candidate"));
        }
        for (at, candidate) in self.choices.iter_mut().enumerate() {
            if !candidate.seen {
                continue;
            }
            let choice = at as u32;
            candidate.close(choice, out);
            let stop = candidate.stop()?;
            if stop.reason == StopReason::Filter
                && !candidate.says_something
                && !candidate.called
                && let Some((_, Some(message))) = &candidate.finish
            {
                refuse(choice, candidate.parts, message, out);
            }
            out(Event::Stop { choice, stop });
        }
        Ok(())
    }
}
