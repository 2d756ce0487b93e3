//! Chat answers of providers with quirks, brought to what OpenAI's clients know (spec: providers 1.5, 8 to 12 and 19). What needs no
//! repair goes on byte for byte.

use memchr::{memchr2_iter, memmem};
use serde_json::{Map, Value, json};

use super::super::failure::Failure;
use super::super::stream::Transform;
use super::answer::{arguments_of, content_of, failed, unveiled};
use super::calls::Calls;
use super::errors::{failure_of, holds_error};
use super::finish::{self, Finish};
use super::rows::{self, Quirk, Row};
use super::writer::write_failure;
use crate::http::sse::SseParser;
use crate::limits::{CHAT_CALLS_MAX, CHAT_CHOICES_MAX, SSE_EVENT_MAX};
use crate::providers::Slug;

/// Whether a provider's streams must go through [`Repair`]. `client_asked`: for the usage.
pub fn needs_repair(slug: Slug, client_asked: bool) -> bool {
    !client_asked || !rows::row(slug).quirks.is_empty()
}

/// Whether a provider's whole answers must go through [`repair_answer`].
pub fn answer_needs_repair(slug: Slug) -> bool {
    let harmless = [
        Quirk::EmptyChoices,
        Quirk::UsageBesideChoices,
        Quirk::NoDone,
    ];
    let row = rows::row(slug);
    row.quirks.iter().any(|quirk| !harmless.contains(quirk))
}

/// Repairs a whole answer. `id`: letters and digits, unique, from which ids of calls are made.
pub fn repair_answer(slug: Slug, answer: Value, id: &str) -> Result<Value, Failure> {
    let row = rows::row(slug);
    let mut answer = unveiled(answer);
    let is_empty = !matches!(&answer["choices"], Value::Array(choices) if !choices.is_empty());
    if is_empty && holds_error(&answer) {
        return Err(failure_of(None, &answer));
    }
    let error = answer
        .get("error")
        .filter(|error| !error.is_null())
        .cloned();
    if let Value::Object(map) = &mut answer {
        // Whose key paid is nobody's business.
        map.remove("user_id");
        if let Some(Value::Object(usage)) = map.get_mut("usage") {
            mend_usage(row, usage);
        }
    }
    let Some(Value::Array(choices)) = answer.get_mut("choices") else {
        return Ok(answer);
    };
    for (at, choice) in choices.iter_mut().enumerate() {
        let Value::Object(choice) = choice else {
            continue;
        };
        if let Some(Value::Object(message)) = choice.get_mut("message") {
            mend_text(row, message);
            if row.has(Quirk::LooseCalls) {
                mend_whole_calls(message, id, at);
            }
        }
        let message = choice.get("message").unwrap_or(&Value::Null);
        let has_calls = says(message, "tool_calls") || says(message, "function_call");
        let has_content = has_calls || says(message, "content") || says(message, "refusal");
        let word = choice.get("finish_reason").and_then(Value::as_str);
        let Some(word) = word.map(str::to_owned) else {
            continue;
        };
        match finish_of(&word, has_calls) {
            Finish::Failed if !has_content => {
                let choice = Value::Object(std::mem::take(choice));
                return Err(failed(&word, &choice, &json!({"error": error})));
            }
            Finish::Failed => set_finish(choice, "stop", Some(&word)),
            Finish::Ended(stop) => {
                let ours = finish::word(stop.reason);
                if word != ours && word != "function_call" {
                    set_finish(choice, ours, stop.native.as_deref());
                }
            }
        }
    }
    Ok(answer)
}

/// `stop` after calls stays as it is here: OpenAI says so itself.
fn finish_of(word: &str, has_calls: bool) -> Finish {
    finish::read(word, has_calls && word.is_empty())
}

fn says(value: &Value, field: &str) -> bool {
    match value.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

fn set_finish(choice: &mut Map<String, Value>, word: &str, native: Option<&str>) {
    choice.insert("finish_reason".to_owned(), word.into());
    if let Some(native) = native.filter(|native| !native.is_empty()) {
        let field = choice.entry("native_finish_reason").or_insert(Value::Null);
        if field.is_null() {
            *field = native.into();
        }
    }
}

/// Thoughts where clients look for them, and content that is text. Whether anything changed.
fn mend_text(row: &Row, message: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    let is_parts = matches!(message.get("content"), Some(Value::Array(_)));
    let is_parsed = matches!(
        message.get("content"),
        Some(Value::Object(_) | Value::Number(_))
    );
    if (row.has(Quirk::ContentParts) && is_parts) || is_parsed {
        let content = content_of(message.remove("content").unwrap_or_default());
        message.insert("content".to_owned(), content.text.into());
        if !content.thinking.is_empty() {
            message.insert("reasoning_content".to_owned(), content.thinking.into());
        }
        changed = true;
    }
    if row.has(Quirk::ReasoningField)
        && !message.contains_key("reasoning_content")
        && let Some(Value::String(thoughts)) = message.get("reasoning")
    {
        let thoughts = thoughts.clone();
        message.insert("reasoning_content".to_owned(), thoughts.into());
        changed = true;
    }
    changed
}

fn mend_whole_calls(message: &mut Map<String, Value>, id: &str, choice: usize) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else {
        return;
    };
    for (at, call) in calls.iter_mut().enumerate() {
        let Value::Object(call) = call else { continue };
        mend_call(call);
        if !matches!(call.get("id"), Some(Value::String(own)) if !own.is_empty()) {
            call.insert("id".to_owned(), made_id(id, choice, at).into());
        }
        if let Some(Value::Object(function)) = call.get_mut("function") {
            let arguments = function.remove("arguments").unwrap_or_default();
            function.insert("arguments".to_owned(), arguments_of(arguments).into());
        }
    }
}

/// A call that is written flat, or does not say its type. Whether anything changed.
fn mend_call(call: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    if !call.contains_key("function") && call.contains_key("name") {
        let mut function = Map::new();
        for field in ["name", "arguments"] {
            if let Some(value) = call.remove(field) {
                function.insert(field.to_owned(), value);
            }
        }
        call.insert("function".to_owned(), Value::Object(function));
        changed = true;
    }
    if call.get("type").is_none_or(Value::is_null) && says_name(call) {
        call.insert("type".to_owned(), "function".into());
        changed = true;
    }
    changed
}

fn says_name(call: &Map<String, Value>) -> bool {
    call.get("function")
        .is_some_and(|function| says(function, "name"))
}

fn made_id(id: &str, choice: usize, call: usize) -> String {
    match choice {
        0 => format!("call_{id}{call}"),
        choice => format!("call_{id}{choice}x{call}"),
    }
}

/// xAI counts reasoning apart from the completion; the total tells.
fn mend_usage(row: &Row, usage: &mut Map<String, Value>) -> bool {
    if !row.has(Quirk::ReasoningOutside) {
        return false;
    }
    let count = |field: &str| usage.get(field).and_then(Value::as_u64);
    let reasoning = usage
        .get("completion_tokens_details")
        .and_then(|details| details["reasoning_tokens"].as_u64())
        .unwrap_or(0);
    let (Some(prompt), Some(completion), Some(total)) = (
        count("prompt_tokens"),
        count("completion_tokens"),
        count("total_tokens"),
    ) else {
        return false;
    };
    let apart = completion.checked_add(reasoning);
    let sum = apart.and_then(|apart| apart.checked_add(prompt));
    if reasoning == 0 || sum != Some(total) {
        return false;
    }
    usage.insert("completion_tokens".to_owned(), apart.into());
    true
}

/// Repairs a stream on its way to a chat client.
pub struct Repair {
    row: &'static Row,
    /// The client asked for the usage.
    include_usage: bool,
    /// Unique letters and digits.
    id: String,
    /// The start of an event that is not whole yet.
    pending: Vec<u8>,
    search: Search,
    choices: Vec<Seen>,
    /// Usage that came beside choices, in a chunk without any.
    usage: Option<Value>,
    usage_told: bool,
    finished: bool,
    done: bool,
    failure: Option<Failure>,
}

/// What was seen of one answer.
#[derive(Default)]
struct Seen {
    number: u64,
    role: bool,
    /// A first chunk went by.
    begun: bool,
    finished: bool,
    calls: Calls,
}

/// What becomes of an event.
enum Fate {
    Stays,
    Changes(Value),
    Goes,
    Fails(Failure),
}

impl Repair {
    /// Of a stream of `slug`. `include_usage`: the client asked for it. `id`: letters and digits, unique, from which ids of calls are
    /// made.
    pub fn new(slug: Slug, include_usage: bool, id: &str) -> Self {
        Self {
            row: rows::row(slug),
            include_usage,
            id: id.to_owned(),
            pending: Vec::new(),
            search: Search::default(),
            choices: Vec::new(),
            usage: None,
            usage_told: false,
            finished: false,
            done: false,
            failure: None,
        }
    }

    /// Takes the lines of one event, or of a comment.
    fn block(&mut self, block: &[u8], out: &mut Vec<u8>) {
        if self.failure.is_some() || self.done || block.is_empty() {
            return;
        }
        let (mut parser, mut seen) = (SseParser::default(), false);
        let fed = parser.feed(block, |_| {});
        debug_assert!(fed.is_ok());
        let finished = parser.finish(|event| {
            seen = true;
            self.event(event.event, event.data, block, out);
        });
        if let Err(error) = finished {
            return self.fail(Failure::broken(error.to_string()), out);
        }
        if !seen {
            relay(block, out);
        }
    }

    fn event(&mut self, name: &[u8], data: &[u8], block: &[u8], out: &mut Vec<u8>) {
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.tell_usage(out);
            self.done = true;
            return relay(block, out);
        }
        let is_error = name == b"error";
        if !is_error && !self.concerns(data) {
            return relay(block, out);
        }
        let fate = match serde_json::from_slice::<Value>(data) {
            Ok(chunk) if is_error => Fate::Fails(failure_of(None, &chunk).with_raw(data)),
            Ok(chunk) => self.chunk(chunk),
            Err(_) if is_error => {
                let message = String::from_utf8_lossy(&data[..data.len().min(1000)]);
                Fate::Fails(Failure::broken(message).with_raw(data))
            }
            // Not ours to judge.
            Err(_) => Fate::Stays,
        };
        match fate {
            Fate::Stays => relay(block, out),
            Fate::Goes => {}
            Fate::Changes(chunk) => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(chunk.to_string().as_bytes());
                out.extend_from_slice(b"\n\n");
            }
            Fate::Fails(failure) => self.fail(failure, out),
        }
    }

    /// Whether an event may need more than a look; most do not.
    fn concerns(&mut self, data: &[u8]) -> bool {
        let row = self.row;
        let follows = |field: &str| first_byte_of(data, field);
        let finishes = follows("finish_reason") == Some(b'"');
        self.finished |= finishes;
        follows("usage") == Some(b'{')
            || follows("error").is_some_and(|byte| byte != b'n')
            || follows("errors").is_some()
            || follows("choices").is_none()
            || follows("x_groq").is_some()
            || (finishes && row.has(Quirk::LooseFinish))
            || (row.has(Quirk::LooseFinish)
                && (follows("role").is_some() || self.choices.iter().any(|one| one.finished)))
            || (row.has(Quirk::ReasoningField) && follows("reasoning") == Some(b'"'))
            || ((row.has(Quirk::LooseCalls) || row.has(Quirk::LooseFinish))
                && follows("tool_calls") == Some(b'['))
            || follows("content")
                .is_some_and(|byte| matches!(byte, b'[' | b'{' | b'0'..=b'9' | b'-'))
            || (row.has(Quirk::EmptyChoices)
                && (follows("delta").is_none() || memmem::find(data, b"[]").is_some()))
    }

    fn chunk(&mut self, chunk: Value) -> Fate {
        let before = chunk.get("choices").is_some();
        let mut chunk = unveiled(chunk);
        let mut changed = !before && chunk.get("choices").is_some();
        if holds_error(&chunk) {
            return Fate::Fails(failure_of(None, &chunk).with_raw(chunk.to_string().as_bytes()));
        }
        let Value::Object(map) = &mut chunk else {
            return Fate::Stays;
        };
        let mut choices = match map.get_mut("choices") {
            Some(Value::Array(choices)) => std::mem::take(choices),
            _ => return Fate::Stays,
        };
        let had_choices = !choices.is_empty();
        if let Some(Value::Object(usage)) = map.get_mut("usage") {
            changed |= mend_usage(self.row, usage);
            match (had_choices, self.include_usage) {
                (false, true) => self.usage_told = true,
                (false, false) => return Fate::Goes,
                (true, _) => {
                    self.hold_usage(map);
                    changed = true;
                }
            }
        } else if !had_choices && self.row.has(Quirk::EmptyChoices) {
            return Fate::Goes;
        }
        self.hold_groq_usage(map);
        let mut kept = Vec::with_capacity(choices.len());
        for mut choice in choices.drain(..) {
            match self.choice(&mut choice) {
                Ok(Some(mended)) => {
                    changed |= mended;
                    kept.push(choice);
                }
                Ok(None) => changed = true,
                Err(failure) => return Fate::Fails(failure),
            }
        }
        if had_choices && kept.is_empty() {
            return Fate::Goes;
        }
        map.insert("choices".to_owned(), Value::Array(kept));
        match changed {
            true => Fate::Changes(chunk),
            false => Fate::Stays,
        }
    }

    /// Mends a choice: whether that changed it; `None` where nothing is left of it.
    fn choice(&mut self, choice: &mut Value) -> Result<Option<bool>, Failure> {
        let row = self.row;
        let Value::Object(choice) = choice else {
            return Ok(Some(false));
        };
        let number = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let Some(at) = self.place_of(number) else {
            return Err(Failure::broken(
                "The provider's stream has too many choices",
            ));
        };
        let mut changed = false;
        let delta = choice.entry("delta").or_insert_with(|| {
            changed = true;
            json!({})
        });
        if delta.is_null() {
            *delta = json!({});
            changed = true;
        }
        let Value::Object(delta) = delta else {
            return Ok(Some(false));
        };
        changed |= mend_text(row, delta);
        let seen = &mut self.choices[at];
        if delta.contains_key("role") && std::mem::replace(&mut seen.role, true) {
            delta.shift_remove("role");
            changed = true;
        }
        if row.has(Quirk::LooseCalls)
            && let Some(Value::Array(calls)) = delta.get_mut("tool_calls")
        {
            let mut fresh = Vec::with_capacity(calls.len());
            for call in calls.drain(..) {
                let (call, mended) = seen.call(call, &self.id)?;
                changed |= mended;
                fresh.push(call);
            }
            *calls = fresh;
        } else if seen.calls.is_empty()
            && matches!(delta.get("tool_calls"), Some(Value::Array(calls)) if !calls.is_empty())
        {
            seen.calls.add(None, String::new(), false);
        }
        let is_silent = delta.iter().all(|(field, value)| {
            field == "role" || value.is_null() || value == "" || value == &json!([])
        });
        let word = choice.get("finish_reason").and_then(Value::as_str);
        let word = word.map(str::to_owned);
        if seen.finished && row.has(Quirk::LooseFinish) {
            if is_silent {
                return Ok(None);
            }
            if word.is_some() {
                choice.insert("finish_reason".to_owned(), Value::Null);
                changed = true;
            }
            return Ok(Some(changed));
        }
        let Some(word) = word else {
            return Ok(match is_silent && self.usage.is_some() && seen.begun {
                true => None,
                false => {
                    seen.begun = true;
                    Some(changed)
                }
            });
        };
        seen.begun = true;
        match finish_of(&word, !seen.calls.is_empty()) {
            Finish::Failed => {
                let choice = Value::Object(std::mem::take(choice));
                return Err(failed(&word, &choice, &Value::Null));
            }
            Finish::Ended(_) if word.is_empty() && seen.calls.is_empty() => {
                choice.insert("finish_reason".to_owned(), Value::Null);
                changed = true;
            }
            Finish::Ended(stop) => {
                seen.finished = true;
                let ours = finish::word(stop.reason);
                if word != ours && word != "function_call" {
                    set_finish(choice, ours, stop.native.as_deref());
                    changed = true;
                }
            }
        }
        Ok(Some(changed))
    }

    fn place_of(&mut self, number: u64) -> Option<usize> {
        if let Some(at) = self.choices.iter().position(|one| one.number == number) {
            return Some(at);
        }
        if self.choices.len() == CHAT_CHOICES_MAX {
            return None;
        }
        self.choices.push(Seen {
            number,
            ..Seen::default()
        });
        Some(self.choices.len() - 1)
    }

    /// Takes the usage out of a chunk with choices; it will stand in a chunk of its own.
    fn hold_usage(&mut self, chunk: &mut Map<String, Value>) {
        if let Some(usage) = chunk.remove("usage") {
            self.usage = Some(usage_chunk(chunk, usage));
        }
    }

    fn hold_groq_usage(&mut self, chunk: &Map<String, Value>) {
        let usage = chunk.get("x_groq").map(|groq| &groq["usage"]);
        if let Some(usage) = usage.filter(|usage| usage.is_object())
            && self.usage.is_none()
        {
            self.usage = Some(usage_chunk(chunk, usage.clone()));
        }
    }

    fn tell_usage(&mut self, out: &mut Vec<u8>) {
        if !self.include_usage || std::mem::replace(&mut self.usage_told, true) {
            return;
        }
        if let Some(chunk) = self.usage.take() {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(chunk.to_string().as_bytes());
            out.extend_from_slice(b"\n\n");
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) {
        if self.failure.is_none() {
            write_failure(&failure, out);
            self.failure = Some(failure);
        }
    }
}

/// The chunk that holds nothing but the usage.
fn usage_chunk(chunk: &Map<String, Value>, usage: Value) -> Value {
    let field = |name: &str| chunk.get(name).cloned().unwrap_or_default();
    json!({
        "id": field("id"), "object": "chat.completion.chunk", "created": field("created"), "model": field("model"),
        "choices": [], "usage": usage,
    })
}

impl Seen {
    /// A fragment of a call, under an index that counts from zero without gaps, and under an id.
    fn call(&mut self, mut call: Value, id: &str) -> Result<(Value, bool), Failure> {
        let Value::Object(map) = &mut call else {
            return Ok((call, false));
        };
        let mut changed = mend_call(map);
        let text = |value: Option<&Value>| {
            let text = value
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let key = map.get("index").and_then(Value::as_u64);
        let call_id = text(map.get("id"));
        let inner = map.get("function").or(map.get("custom"));
        let name = inner.and_then(|inner| text(inner.get("name")));
        let found = self.calls.find(key, call_id.as_deref(), name.as_deref());
        let at = match found {
            Some(at) => at,
            None if self.calls.len() == CHAT_CALLS_MAX => {
                return Err(Failure::broken(
                    "The provider's stream calls too many tools",
                ));
            }
            None => {
                let made = || made_id(id, self.number as usize, self.calls.len());
                let own = call_id.clone().unwrap_or_else(made);
                if call_id.is_none() {
                    map.insert("id".to_owned(), own.as_str().into());
                    changed = true;
                }
                let at = self.calls.add(key, own, false);
                self.calls.list[at].part = Some(0);
                at
            }
        };
        if found.is_some() && call_id.is_some_and(|id| id != self.calls.list[at].id) {
            map.remove("id");
            changed = true;
        }
        if key != Some(at as u64) {
            map.insert("index".to_owned(), at.into());
            changed = true;
        }
        if let Some(Value::Object(function)) = map.get_mut("function") {
            match function.get("arguments") {
                Some(Value::String(text)) => self.calls.list[at].shape.take(text),
                Some(Value::Null) | None => {}
                Some(_) => {
                    let arguments = arguments_of(function.remove("arguments").unwrap_or_default());
                    self.calls.list[at].shape.take(&arguments);
                    function.insert("arguments".to_owned(), arguments.into());
                    changed = true;
                }
            }
        }
        Ok((call, changed))
    }
}

impl Transform for Repair {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.failure.is_some() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some((end, next)) = self.search.end_of_block(&pending[start..]) {
            self.block(&pending[start..start + end], out);
            start += next;
        }
        pending.drain(..start);
        if pending.len() > SSE_EVENT_MAX {
            let message = "An event of the provider's stream is too large";
            self.fail(Failure::broken(message), out);
            return;
        }
        self.pending = pending;
    }

    fn end(&mut self, whole: bool, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.pending);
        self.block(rest.trim_ascii(), out);
        if self.failure.is_some() || self.done {
            return;
        }
        if !whole || !self.finished {
            return self.fail(Failure::broken("The provider's stream broke off"), out);
        }
        // Some leave the end away.
        self.tell_usage(out);
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}

fn relay(block: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(block);
    out.extend_from_slice(b"\n\n");
}

/// Where the empty line is searched that ends an event.
#[derive(Debug, Default, Clone, Copy)]
struct Search {
    /// Bytes that were searched.
    searched: usize,
    /// Where the last line starts.
    line: usize,
}

impl Search {
    /// The end of the event at the front, and where the next one starts. An LF whose CR ended the event before makes an empty
    /// event.
    fn end_of_block(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        let from = self.searched;
        for at in memchr2_iter(b'\r', b'\n', &bytes[from..]).map(|at| from + at) {
            let ends_crlf = bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r';
            if at == self.line && !ends_crlf {
                *self = Self::default();
                let before = &bytes[..at];
                let line_ends = before.iter().rev();
                let line_ends = line_ends.take_while(|byte| matches!(byte, b'\r' | b'\n'));
                return Some((at - line_ends.count(), at + 1));
            }
            self.line = at + 1;
        }
        self.searched = bytes.len();
        None
    }
}

/// The byte with which the value of the first member of this name starts, wherever it stands.
fn first_byte_of(json: &[u8], name: &str) -> Option<u8> {
    let mut from = 0;
    loop {
        let at = from + memmem::find(&json[from..], name.as_bytes())?;
        from = at + name.len();
        let quoted = at > 0 && json[at - 1] == b'"' && json.get(from) == Some(&b'"');
        if !quoted {
            continue;
        }
        let mut rest = json[from + 1..]
            .iter()
            .filter(|byte| !byte.is_ascii_whitespace());
        if rest.next() == Some(&b':') {
            return rest.next().copied();
        }
    }
}
