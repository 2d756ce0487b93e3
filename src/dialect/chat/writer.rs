//! Neutral events as a chat stream (spec: providers 1.5).

use serde_json::{Value, json};

use super::super::Terms;
use super::super::failure::Failure;
use super::super::neutral::{Delta, Event, Opening, Signature, Stop, StopReason};
use super::super::stream::Writer;
use super::answer::{annotation, extra_content, image, usage_value};
use super::errors::write_error;
use super::finish;
use super::thoughts::{encrypted_detail, text_detail, text_signature_detail};
use crate::limits::{CHAT_NAME_MAX, THOUGHTS_HELD_MAX};
use crate::meter::Usage;

/// Writes a stream for a chat client.
pub struct StreamWriter {
    /// Up to and with `"choices":[`, the same in every chunk.
    head: Vec<u8>,
    /// Behind the choices, in all chunks but the one with the usage.
    tail: &'static str,
    terms: Terms,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

/// One of the answers.
#[derive(Default)]
struct Choice {
    number: u32,
    parts: Vec<(u32, Kind)>,
    calls: usize,
    details: usize,
    /// Characters of text that closed parts have.
    characters: u64,
    refused: bool,
    stopped: bool,
}

enum Kind {
    Text {
        characters: u64,
    },
    Thinking {
        held: String,
    },
    Call {
        number: usize,
        custom: bool,
        begun: bool,
    },
    Other,
}

impl StreamWriter {
    /// For a request with these terms.
    pub fn new(terms: &Terms) -> Self {
        let mut writer = Self {
            head: Vec::new(),
            tail: if terms.include_usage {
                "],\"usage\":null}\n\n"
            } else {
                "]}\n\n"
            },
            terms: terms.clone(),
            choices: Vec::new(),
            usage: None,
        };
        writer.set_head(None, None, None);
        writer
    }

    fn set_head(&mut self, id: Option<&str>, model: Option<&str>, created: Option<u64>) {
        let short = |name: &&str| name.len() <= CHAT_NAME_MAX;
        let id = match id.filter(short) {
            Some(id) => Value::from(id),
            None => Value::from(format!("chatcmpl-{}", self.terms.id)),
        };
        let model = Value::from(model.filter(short).unwrap_or(&self.terms.model));
        let created = created.unwrap_or(self.terms.created);
        self.head = format!(
            "data: {{\"id\":{id},\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},\"choices\":["
        )
        .into_bytes();
    }

    /// The place of a choice; its first chunk is written where it begins.
    fn choice(&mut self, number: u32, out: &mut Vec<u8>) -> usize {
        if let Some(at) = self.choices.iter().position(|one| one.number == number) {
            return at;
        }
        self.choices.push(Choice {
            number,
            ..Choice::default()
        });
        self.chunk(number, "{\"role\":\"assistant\",\"content\":\"\"}", out);
        self.choices.len() - 1
    }

    fn chunk(&self, choice: u32, delta: &str, out: &mut Vec<u8>) {
        self.begin_chunk(choice, out);
        out.extend_from_slice(delta.as_bytes());
        self.end_chunk(out);
    }

    fn begin_chunk(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        out.extend_from_slice(choice.to_string().as_bytes());
        out.extend_from_slice(b",\"delta\":");
    }

    fn end_chunk(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}");
        out.extend_from_slice(self.tail.as_bytes());
    }

    /// A chunk whose delta is one text: the ordinary case.
    fn text_chunk(&self, choice: u32, before: &str, text: &str, after: &str, out: &mut Vec<u8>) {
        self.begin_chunk(choice, out);
        out.extend_from_slice(before.as_bytes());
        quote(text, out);
        out.extend_from_slice(after.as_bytes());
        self.end_chunk(out);
    }

    fn open(&mut self, number: u32, index: u32, part: &Opening<'_>, out: &mut Vec<u8>) {
        let at = self.choice(number, out);
        let choice = &mut self.choices[at];
        let kind = match part {
            Opening::Text => Kind::Text { characters: 0 },
            Opening::Thinking => Kind::Thinking {
                held: String::new(),
            },
            Opening::Refusal => Kind::Other,
            Opening::Redacted(signature) => {
                let detail = encrypted_detail(signature, choice.details);
                choice.details += 1;
                self.detail(number, detail, out);
                Kind::Other
            }
            Opening::Image(media) => {
                if let Some(image) = image(media) {
                    self.chunk(number, &json!({"images": [image]}).to_string(), out);
                }
                Kind::Other
            }
            Opening::ToolUse {
                id,
                name,
                custom,
                signature,
            } => {
                let kind = Kind::Call {
                    number: choice.calls,
                    custom: *custom,
                    begun: false,
                };
                let call = choice.calls;
                choice.calls += 1;
                self.begin_call(number, call, (id, name), *custom, signature.as_ref(), out);
                kind
            }
        };
        self.choices[at].parts.push((index, kind));
    }

    fn begin_call(
        &self,
        choice: u32,
        call: usize,
        (id, name): (&str, &str),
        custom: bool,
        signature: Option<&Signature>,
        out: &mut Vec<u8>,
    ) {
        if self.terms.legacy_calls {
            // There was no second call in those days.
            if call == 0 {
                let delta = json!({"function_call": {"name": name, "arguments": ""}});
                self.chunk(choice, &delta.to_string(), out);
            }
            return;
        }
        let mut delta = match custom {
            true => json!({
                "index": call, "id": id, "type": "custom", "custom": {"name": name, "input": ""},
            }),
            false => json!({
                "index": call, "id": id, "type": "function", "function": {"name": name, "arguments": ""},
            }),
        };
        if let Some(extra) = extra_content(signature) {
            delta["extra_content"] = extra;
        }
        self.chunk(choice, &json!({"tool_calls": [delta]}).to_string(), out);
    }

    fn arguments(&self, choice: u32, call: usize, custom: bool, fragment: &str, out: &mut Vec<u8>) {
        if self.terms.legacy_calls {
            if call == 0 {
                let before = "{\"function_call\":{\"arguments\":";
                self.text_chunk(choice, before, fragment, "}}", out);
            }
            return;
        }
        let field = match custom {
            true => "\"custom\":{\"input\":",
            false => "\"function\":{\"arguments\":",
        };
        let before = format!("{{\"tool_calls\":[{{\"index\":{call},{field}");
        self.text_chunk(choice, &before, fragment, "}}]}", out);
    }

    fn detail(&self, choice: u32, detail: Value, out: &mut Vec<u8>) {
        let delta = json!({"reasoning_details": [detail]});
        self.chunk(choice, &delta.to_string(), out);
    }

    fn grow(&mut self, number: u32, index: u32, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let at = self.choice(number, out);
        let choice = &mut self.choices[at];
        let part = choice.parts.iter_mut().rev().find(|(one, _)| *one == index);
        let kind = part.map(|(_, kind)| kind);
        match delta {
            Delta::Text(text) => {
                if let Some(Kind::Text { characters }) = kind {
                    *characters += text.chars().count() as u64;
                }
                self.text_chunk(number, "{\"content\":", text, "}", out);
            }
            Delta::Refusal(text) => {
                choice.refused = true;
                self.text_chunk(number, "{\"refusal\":", text, "}", out);
            }
            Delta::Thinking(text) => {
                if let Some(Kind::Thinking { held }) = kind
                    && held.len() + text.len() <= THOUGHTS_HELD_MAX
                {
                    held.push_str(text);
                }
                self.text_chunk(number, "{\"reasoning_content\":", text, "}", out);
            }
            Delta::Arguments(fragment) => {
                if let Some(Kind::Call {
                    number: call,
                    custom,
                    begun,
                }) = kind
                    && !fragment.is_empty()
                {
                    *begun = true;
                    let (call, custom) = (*call, *custom);
                    self.arguments(number, call, custom, fragment, out);
                }
            }
            Delta::Signature(signature) => {
                let detail = match kind {
                    // With its text: clients that give details back give back what they got in them.
                    Some(Kind::Thinking { held }) => {
                        text_detail(Some(held), signature, choice.details)
                    }
                    Some(Kind::Text { .. }) => text_signature_detail(signature, choice.details),
                    _ => return,
                };
                choice.details += 1;
                self.detail(number, detail, out);
            }
            Delta::Citation(citation) => {
                let offset = choice.characters;
                if let Some(annotation) = annotation(citation, offset) {
                    let delta = json!({"annotations": [annotation]});
                    self.chunk(number, &delta.to_string(), out);
                }
            }
            Delta::Logprobs(logprobs) => {
                self.begin_chunk(number, out);
                out.extend_from_slice(b"{\"content\":\"\"},\"logprobs\":");
                out.extend_from_slice(logprobs.to_string().as_bytes());
                out.extend_from_slice(b",\"finish_reason\":null}");
                out.extend_from_slice(self.tail.as_bytes());
            }
        }
    }

    fn close(&mut self, number: u32, index: u32, out: &mut Vec<u8>) {
        let at = self.choice(number, out);
        let choice = &mut self.choices[at];
        let Some(place) = choice.parts.iter().rposition(|(one, _)| *one == index) else {
            return;
        };
        match choice.parts.swap_remove(place).1 {
            Kind::Text { characters } => choice.characters += characters,
            Kind::Call {
                number: call,
                custom: false,
                begun: false,
            } => self.arguments(number, call, false, "{}", out),
            _ => {}
        }
    }

    fn stop(&mut self, number: u32, stop: &Stop, out: &mut Vec<u8>) {
        let at = self.choice(number, out);
        let choice = &mut self.choices[at];
        if std::mem::replace(&mut choice.stopped, true) {
            return;
        }
        let explanation = stop.explanation.as_deref();
        let explanation = explanation.filter(|_| stop.reason == StopReason::Filter);
        if let Some(explanation) = explanation.filter(|_| !choice.refused) {
            self.text_chunk(number, "{\"refusal\":", explanation, "}", out);
        }
        let word = match stop.reason {
            StopReason::ToolUse if self.terms.legacy_calls => "function_call",
            reason => finish::word(reason),
        };
        self.begin_chunk(number, out);
        out.extend_from_slice(b"{},\"logprobs\":null,\"finish_reason\":");
        quote(word, out);
        if let Some(native) = &stop.native {
            out.extend_from_slice(b",\"native_finish_reason\":");
            quote(native, out);
        }
        out.push(b'}');
        out.extend_from_slice(self.tail.as_bytes());
    }
}

impl Writer for StreamWriter {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created } => {
                self.set_head(id.as_deref(), model.as_deref(), *created);
                self.choice(0, out);
            }
            Event::Open {
                choice,
                index,
                part,
            } => self.open(*choice, *index, part, out),
            Event::Delta {
                choice,
                index,
                delta,
            } => self.grow(*choice, *index, delta, out),
            Event::Close { choice, index } => self.close(*choice, *index, out),
            Event::Stop { choice, stop } => self.stop(*choice, stop, out),
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::KeepAlive => out.extend_from_slice(b": ping\n\n"),
            Event::Failed(failure) => write_failure(failure, out),
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.terms.include_usage
            && let Some(usage) = &self.usage
        {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            out.extend_from_slice(usage_value(usage).to_string().as_bytes());
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// The stream ends with an error: clients of OpenAI's raise what has a field `error`.
pub fn write_failure(failure: &Failure, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(write_error(failure).to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn quote(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}
