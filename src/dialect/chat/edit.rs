//! A chat client's request for a provider that speaks chat: the model's name, and what the provider's row says, are changed in
//! place.

use std::ops::Range;

use memchr::memmem;
use serde_json::{Value, json};

use super::super::Upstream;
use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::openai;
use super::super::neutral::Effort;
use super::super::splice::{Edits, Object, items, quoted};
use super::mistral;
use super::rows::{self, Bound, Lack, Row, Thoughts, UsageAsked};
use crate::providers::Slug;

/// A request as it goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// JSON.
    pub body: Vec<u8>,
    /// The client wants events.
    pub stream: bool,
    /// The client wants the usage among them.
    pub include_usage: bool,
}

/// Brings a chat client's request to what the provider takes. What the row does not name stays byte for byte.
pub fn edit_request(
    body: &[u8],
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Edited, Invalid> {
    let mut top = Object::read(body)?;
    let mut edit = Edit {
        json: body,
        row: rows::row(upstream.slug),
        upstream,
        changes,
        edits: Edits::default(),
    };
    let stream = top.raw("stream") == Some(b"true");
    let include_usage = asks_for_usage(&top);
    edit.refuse(&top)?;
    edit.bound(&mut top);
    edit.tools(&mut top)?;
    edit.effort(&mut top);
    edit.sampling(&mut top);
    edit.format(&mut top)?;
    edit.messages(&mut top)?;
    edit.leave_out(&mut top);
    if top.text("model").as_deref() != Some(upstream.model) {
        top.set("model", quoted(upstream.model));
    }
    edit.usage(&mut top, stream)?;
    top.note(&mut edit.edits);
    let body = match edit.edits.is_empty() {
        true => body.to_vec(),
        false => edit.edits.apply(body),
    };
    let body = match upstream.slug {
        Slug::PerplexityAi => merged(body, changes)?,
        _ => body,
    };
    Ok(Edited {
        body,
        stream,
        include_usage,
    })
}

fn asks_for_usage(top: &Object<'_>) -> bool {
    let options = top.raw("stream_options");
    let options = options.and_then(|raw| serde_json::from_slice::<Value>(raw).ok());
    options.is_some_and(|options| options["include_usage"] == true)
}

struct Edit<'a, 'b> {
    json: &'a [u8],
    row: &'static Row,
    upstream: &'b Upstream<'b>,
    changes: &'b mut Changes,
    edits: Edits,
}

impl Edit<'_, '_> {
    /// Refuses what the provider cannot do and what cannot be left out either.
    fn refuse(&self, top: &Object<'_>) -> Result<(), Invalid> {
        let slug = self.upstream.slug.as_str();
        if self.row.one_choice && number(top, "n").is_some_and(|n| n != 1.0) {
            return Err(Invalid::unsupported(
                "n",
                format!("{slug} gives one answer only"),
            ));
        }
        if self.row.no_logprobs && top.raw("logprobs") == Some(b"true") {
            return Err(Invalid::unsupported(
                "logprobs",
                format!("{slug} does not tell log probabilities"),
            ));
        }
        if self.row.lacks(Lack::AudioOutput)
            && top
                .raw("modalities")
                .is_some_and(|raw| memmem::find(raw, b"\"audio\"").is_some())
        {
            return Err(Invalid::unsupported(
                "modalities",
                format!("{slug} does not answer in sound"),
            ));
        }
        let legacy = ["functions", "function_call"];
        let keeps = self.row.keeps;
        if let Some(name) = legacy
            .into_iter()
            .find(|name| !keeps.is_empty() && top.span(name).is_some())
        {
            return Err(Invalid::unsupported(
                name,
                format!("{slug} does not know {name}; use tools"),
            ));
        }
        Ok(())
    }

    /// `max_tokens` and `max_completion_tokens` (spec: providers 3, resolutions 16).
    fn bound(&mut self, top: &mut Object<'_>) {
        const OLD: &str = "max_tokens";
        const NEW: &str = "max_completion_tokens";
        let (old, new) = (top.span(OLD).is_some(), top.span(NEW).is_some());
        let only_new = openai::rules(self.upstream.model).completion_tokens_only;
        let is_unknown = self.row.thoughts == Thoughts::AsTheyCame;
        if old && new {
            top.remove(OLD);
            self.changes.dropped(OLD);
        }
        match self.row.bound {
            Bound::Completion if old && !new && only_new => {
                top.remove(NEW);
                top.rename(OLD, NEW);
                self.changes.renamed(OLD, NEW);
            }
            Bound::Tokens if new && !(is_unknown && only_new) => {
                top.remove(OLD);
                top.rename(NEW, OLD);
                self.changes.renamed(NEW, OLD);
            }
            _ => {}
        }
    }

    fn tools(&mut self, top: &mut Object<'_>) -> Result<(), Invalid> {
        let slug = self.upstream.slug.as_str();
        let spans = top.span("tools").and_then(|span| items(self.json, span));
        let spans = spans.unwrap_or_default();
        if self.row.lacks(Lack::Tools) && !spans.is_empty() {
            return Err(Invalid::unsupported(
                "tools",
                format!("{slug} ignores tools"),
            ));
        }
        let mut tools = Vec::with_capacity(spans.len());
        for (at, span) in spans.into_iter().enumerate() {
            let changed = self.tool(&self.json[span.clone()], at)?;
            tools.push((span, changed));
        }
        if let Some((names, required)) = self.allowed(top) {
            let raw = |(span, changed): (Range<usize>, Option<Vec<u8>>)| {
                changed.unwrap_or_else(|| self.json[span].to_vec())
            };
            let kept: Vec<Vec<u8>> = tools
                .into_iter()
                .map(raw)
                .filter(|tool| names.contains(&name_of(tool)))
                .collect();
            top.set(
                "tools",
                [b"[", kept.join(&b","[..]).as_slice(), b"]"].concat(),
            );
            let choice = if required { "required" } else { "auto" };
            top.set("tool_choice", quoted(self.choice_word(choice)));
            self.changes.set("tool_choice", choice);
            return Ok(());
        }
        let choice = top.text("tool_choice");
        if let Some(word) = choice.filter(|word| self.choice_word(word) != word) {
            top.set("tool_choice", quoted(self.choice_word(&word)));
        }
        for (span, changed) in tools {
            if let Some(changed) = changed {
                self.edits.push(span, changed);
            }
        }
        Ok(())
    }

    /// Mistral calls `required` `any`.
    fn choice_word<'w>(&self, word: &'w str) -> &'w str {
        match (self.upstream.slug, word) {
            (Slug::Mistral, "required") => "any",
            (_, word) => word,
        }
    }

    /// The tools that `tool_choice` allows, where the provider does not know that form, and whether one must be called.
    fn allowed(&self, top: &Object<'_>) -> Option<(Vec<String>, bool)> {
        let raw = top.raw("tool_choice").filter(|_| !self.row.allowed_tools)?;
        memmem::find(raw, b"allowed_tools")?;
        let choice: Value = serde_json::from_slice(raw).ok()?;
        let allowed = choice.get("allowed_tools").unwrap_or(&choice);
        let tools = allowed["tools"].as_array()?;
        let names = tools.iter().filter_map(|tool| {
            let name = tool["function"]["name"].as_str().or(tool["name"].as_str());
            name.map(str::to_owned)
        });
        Some((names.collect(), allowed["mode"] == "required"))
    }

    /// A tool as the provider takes it, if that is otherwise than it came.
    fn tool(&mut self, raw: &[u8], at: usize) -> Result<Option<Vec<u8>>, Invalid> {
        let slug = self.upstream.slug;
        let holds = |word: &[u8]| memmem::find(raw, word).is_some();
        let no_custom = self.row.lacks(Lack::CustomTools) && holds(b"custom");
        let no_strict = slug == Slug::Grok && holds(b"\"strict\"");
        let no_marks = self.refuses_marks() && holds(CACHE_CONTROL.as_bytes());
        if !no_custom && !no_strict && !no_marks {
            return Ok(None);
        }
        let place = format!("tools[{at}]");
        let mut tool = Object::at(raw, 0..raw.len(), &place)?;
        if no_custom && tool.text("type").as_deref() == Some("custom") {
            return Err(Invalid::unsupported(
                format!("{place}.type"),
                format!("{} knows function tools only", slug.as_str()),
            ));
        }
        let mut edits = Edits::default();
        let function = tool.span("function").filter(|span| raw[span.start] == b'{');
        if let Some(span) = function {
            let mut function = Object::at(raw, span, &format!("{place}.function"))?;
            if no_strict && function.remove("strict") {
                self.changes.dropped("tools.strict");
            }
            if no_marks && function.remove(CACHE_CONTROL) {
                self.changes.dropped(CACHE_CONTROL);
            }
            function.note(&mut edits);
        }
        if no_marks && tool.remove(CACHE_CONTROL) {
            self.changes.dropped(CACHE_CONTROL);
        }
        tool.note(&mut edits);
        Ok((!edits.is_empty()).then(|| edits.apply(raw)))
    }

    /// Whether the provider is known to refuse `cache_control`. One that is not known may be Anthropic's own surface.
    fn refuses_marks(&self) -> bool {
        !self.row.cache_marks && self.row.thoughts != Thoughts::AsTheyCame
    }

    /// `reasoning_effort`, where the words differ by model (spec: providers 12).
    fn effort(&mut self, top: &mut Object<'_>) {
        const FIELD: &str = "reasoning_effort";
        let Some(word) = top.text(FIELD) else { return };
        let effort = Effort::parse(&word);
        let name = self.upstream.model.rsplit('/').next().unwrap_or_default();
        let fitted = match self.upstream.slug {
            Slug::Groq if name.starts_with("gpt-oss") => effort.map(|effort| match effort {
                Effort::None | Effort::Minimal | Effort::Low => "low",
                Effort::Medium => "medium",
                _ => "high",
            }),
            Slug::Groq if name.starts_with("qwen3") => effort.map(|effort| match effort {
                Effort::None => "none",
                _ => "default",
            }),
            Slug::Grok => match effort.and_then(|effort| xai_effort(name, effort)) {
                Some(fitted) => Some(fitted),
                None => {
                    top.remove(FIELD);
                    return self.changes.dropped(FIELD);
                }
            },
            Slug::DeepSeek if effort == Some(Effort::None) => {
                top.remove(FIELD);
                self.changes.dropped(FIELD);
                if top.span("thinking").is_none() {
                    top.set("thinking", json!({"type": "disabled"}).to_string());
                    self.changes.set("thinking", "disabled");
                }
                return;
            }
            _ => None,
        };
        if let Some(fitted) = fitted.filter(|fitted| *fitted != word) {
            top.set(FIELD, quoted(fitted));
            self.changes.clamped(FIELD, fitted);
        }
    }

    /// Temperature within its bounds, and what xAI's reasoning models refuse.
    fn sampling(&mut self, top: &mut Object<'_>) {
        if number(top, "temperature").is_some_and(|temperature| temperature > self.row.hottest) {
            top.set("temperature", self.row.hottest.to_string());
            self.changes.clamped("temperature", self.row.hottest);
        }
        if self.upstream.slug == Slug::Grok && xai_thinks(self.upstream.model) {
            self.drop(top, &["presence_penalty", "frequency_penalty", "stop"]);
        }
    }

    /// DeepSeek has no mode for schemas: any JSON, and the schema in words.
    fn format(&mut self, top: &mut Object<'_>) -> Result<(), Invalid> {
        const FIELD: &str = "response_format";
        if self.upstream.slug != Slug::DeepSeek {
            return Ok(());
        }
        let format: Value = match top.raw(FIELD).map(serde_json::from_slice) {
            Some(Ok(format)) => format,
            _ => return Ok(()),
        };
        if format["type"] != "json_schema" {
            return Ok(());
        }
        let schema = &format["json_schema"]["schema"];
        if !schema.is_object() {
            let place = format!("{FIELD}.json_schema.schema");
            return Err(Invalid::at(&place, format!("{place} must be an object")));
        }
        top.set(FIELD, json!({"type": "json_object"}).to_string());
        self.changes.set(FIELD, "json_object");
        let told = format!("{SCHEMA_TOLD}{schema}");
        let message = json!({"role": "system", "content": told}).to_string();
        if let Some(span) = top.span("messages")
            && let Some(items) = items(self.json, span.clone())
        {
            let comma = if items.is_empty() { "" } else { "," };
            let at = span.start + 1;
            self.edits
                .push(at..at, format!("{message}{comma}").into_bytes());
            self.changes.added("messages");
        }
        Ok(())
    }

    fn messages(&mut self, top: &mut Object<'_>) -> Result<(), Invalid> {
        let Some(span) = top.span("messages") else {
            return Ok(());
        };
        let raw = &self.json[span.clone()];
        if self.upstream.slug == Slug::Mistral {
            let Ok(Value::Array(messages)) = serde_json::from_slice(raw) else {
                return Ok(());
            };
            let reshaped = mistral::reshape(messages.clone(), self.upstream.model, self.changes)?;
            if reshaped != messages {
                top.set("messages", Value::Array(reshaped).to_string());
            }
            return Ok(());
        }
        let holds = |word: &str| memmem::find(raw, word.as_bytes()).is_some();
        let slug = self.upstream.slug;
        let row = self.row;
        let concerned = (!row.developer && holds("developer"))
            || (row.thoughts != Thoughts::AsTheyCame && holds("reasoning"))
            || holds("extra_content")
            || (self.refuses_marks() && holds(CACHE_CONTROL))
            || (row.lacks(Lack::AudioInput) && holds("input_audio"))
            || (row.lacks(Lack::Files) && holds("file"))
            || match slug {
                Slug::Groq => holds("\"name\""),
                Slug::WorkersAi => holds("null") || holds("tool_calls"),
                Slug::DeepSeek => holds("tool_calls"),
                _ => false,
            };
        if !concerned {
            return Ok(());
        }
        for (at, span) in items(self.json, span)
            .unwrap_or_default()
            .into_iter()
            .enumerate()
        {
            self.message(span, at, top)?;
        }
        Ok(())
    }

    fn message(&mut self, span: Range<usize>, at: usize, top: &Object<'_>) -> Result<(), Invalid> {
        let place = format!("messages[{at}]");
        let mut message = Object::at(self.json, span, &place)?;
        let role = message.text("role").unwrap_or_default();
        if !self.row.developer && role == "developer" {
            message.set("role", "\"system\"");
            self.changes.set("messages.role", "system");
        }
        if self.upstream.slug == Slug::Groq && message.remove("name") {
            self.changes.dropped("messages.name");
        }
        if self.upstream.slug == Slug::WorkersAi && message.span("content").is_none() {
            message.set("content", "\"\"");
        }
        if self.refuses_marks() && message.remove(CACHE_CONTROL) {
            self.changes.dropped(CACHE_CONTROL);
        }
        if role == "assistant" {
            self.thoughts(&mut message, top);
            self.calls(&message, &place)?;
        }
        if let Some(parts) = message
            .span("content")
            .and_then(|span| items(self.json, span))
        {
            for (index, span) in parts.into_iter().enumerate() {
                self.part(span, &format!("{place}.content[{index}]"))?;
            }
        }
        message.note(&mut self.edits);
        Ok(())
    }

    /// What a model thought, where its provider looks for it.
    fn thoughts(&mut self, message: &mut Object<'_>, top: &Object<'_>) {
        const CONTENT: &str = "reasoning_content";
        const SHORT: &str = "reasoning";
        const DETAILS: &str = "reasoning_details";
        let drop = |message: &mut Object<'_>, name: &str, changes: &mut Changes| {
            if message.remove(name) {
                changes.dropped(&format!("messages.{name}"));
            }
        };
        let changes = &mut *self.changes;
        match self.row.thoughts {
            Thoughts::AsTheyCame => return,
            Thoughts::Nowhere | Thoughts::Parts => {
                [CONTENT, SHORT, DETAILS]
                    .into_iter()
                    .for_each(|name| drop(message, name, changes));
            }
            Thoughts::Field(field) => {
                drop(message, DETAILS, changes);
                let other = if field == CONTENT { SHORT } else { CONTENT };
                match message.span(field).is_some() || message.span(other).is_none() {
                    // Said twice: the answers of our own say it under both names.
                    true => {
                        message.remove(other);
                    }
                    false => {
                        message.remove(field);
                        message.rename(other, field);
                    }
                }
            }
            Thoughts::Details => {
                match message.span(SHORT).is_some() || message.span(CONTENT).is_none() {
                    true => {
                        message.remove(CONTENT);
                    }
                    false => {
                        message.remove(SHORT);
                        message.rename(CONTENT, SHORT);
                    }
                }
                let foreign = message
                    .raw(DETAILS)
                    .is_some_and(|raw| !details_fit(raw, self.upstream.model));
                if foreign {
                    drop(message, DETAILS, changes);
                }
            }
        }
        // DeepSeek wants its thoughts back as long as its tools are answered; a client may have lost them.
        let wants_thoughts = self.upstream.slug == Slug::DeepSeek
            && message.span("tool_calls").is_some()
            && message.span(CONTENT).is_none()
            && message.span(SHORT).is_none();
        if wants_thoughts && deepseek_thinks(top, self.upstream.model) {
            message.set(CONTENT, "\" \"");
            self.changes.added("messages.reasoning_content");
        }
    }

    /// Signatures of Google's in tool calls mean nothing to others.
    fn calls(&mut self, message: &Object<'_>, place: &str) -> Result<(), Invalid> {
        if self.row.thoughts == Thoughts::AsTheyCame {
            return Ok(());
        }
        let span = message.span("tool_calls");
        let Some(calls) = span.and_then(|span| items(self.json, span)) else {
            return Ok(());
        };
        for (index, span) in calls.into_iter().enumerate() {
            if memmem::find(&self.json[span.clone()], b"extra_content").is_none() {
                continue;
            }
            let mut call = Object::at(self.json, span, &format!("{place}.tool_calls[{index}]"))?;
            if call.remove("extra_content") {
                self.changes.dropped("messages.tool_calls.extra_content");
            }
            call.note(&mut self.edits);
        }
        Ok(())
    }

    fn part(&mut self, span: Range<usize>, place: &str) -> Result<(), Invalid> {
        let mut part = Object::at(self.json, span, place)?;
        let kind = part.text("type").unwrap_or_default();
        let lack = match kind.as_ref() {
            "input_audio" => Some(Lack::AudioInput),
            "file" => Some(Lack::Files),
            _ => None,
        };
        if lack.is_some_and(|lack| self.row.lacks(lack)) {
            return Err(Invalid::unsupported(
                format!("{place}.type"),
                format!(
                    "{} does not take parts of the type {kind}",
                    self.upstream.slug.as_str()
                ),
            ));
        }
        if self.refuses_marks() && part.remove(CACHE_CONTROL) {
            self.changes.dropped(CACHE_CONTROL);
        }
        part.note(&mut self.edits);
        Ok(())
    }

    /// Takes away what the provider has no use for.
    fn leave_out(&mut self, top: &mut Object<'_>) {
        if self.upstream.slug == Slug::Mistral && !top.has("random_seed") {
            top.rename("seed", "random_seed");
            if top.span("seed").is_some() {
                self.changes.renamed("seed", "random_seed");
            }
        }
        self.drop(top, self.row.drops);
        if self.row.no_logprobs {
            top.remove("logprobs");
            self.drop(top, &["top_logprobs"]);
        }
        if self.refuses_marks() && top.remove(CACHE_CONTROL) {
            self.changes.dropped(CACHE_CONTROL);
        }
        if self.row.keeps.is_empty() {
            return;
        }
        let unknown: Vec<String> = top
            .names()
            .filter(|name| !self.row.keeps.contains(&top.new_name(name)))
            .map(str::to_owned)
            .collect();
        // The gateway itself sees to the usage.
        for name in unknown {
            if top.remove(&name) && name != "stream_options" {
                self.changes.dropped(&name);
            }
        }
    }

    fn drop(&mut self, top: &mut Object<'_>, names: &[&str]) {
        for name in names {
            if top.remove(name) {
                self.changes.dropped(name);
            }
        }
    }

    /// Asks for the usage of a stream, whether or not the client does.
    fn usage(&mut self, top: &mut Object<'_>, stream: bool) -> Result<(), Invalid> {
        const FIELD: &str = "stream_options";
        if self.row.usage == UsageAsked::Unasked {
            top.remove(FIELD);
            return Ok(());
        }
        if !stream || asks_for_usage(top) {
            return Ok(());
        }
        match top.span(FIELD) {
            None => top.set(FIELD, json!({"include_usage": true}).to_string()),
            Some(span) => {
                let mut options = Object::at(self.json, span, FIELD)?;
                options.set("include_usage", "true");
                options.note(&mut self.edits);
            }
        }
        self.changes.added("stream_options.include_usage");
        Ok(())
    }
}

const CACHE_CONTROL: &str = "cache_control";
const SCHEMA_TOLD: &str =
    "Answer with nothing but one JSON object that is valid against this JSON Schema: ";

fn number(top: &Object<'_>, name: &str) -> Option<f64> {
    serde_json::from_slice(top.raw(name)?).ok()
}

fn name_of(tool: &[u8]) -> String {
    let tool: Value = serde_json::from_slice(tool).unwrap_or_default();
    let name = tool["function"]["name"].as_str();
    name.unwrap_or_default().to_owned()
}

/// The nearest effort that a model of xAI's knows; `None`: it refuses the field.
fn xai_effort(model: &str, effort: Effort) -> Option<&'static str> {
    let floor = match model {
        model if model.starts_with("grok-3-mini") => {
            return Some(match effort {
                Effort::None | Effort::Minimal | Effort::Low => "low",
                _ => "high",
            });
        }
        model if model.starts_with("grok-4.3") => Effort::None,
        model if model.starts_with("grok-4.5") => Effort::Low,
        _ => return None,
    };
    let fitted = match effort {
        Effort::Minimal => Effort::Low,
        effort => effort,
    };
    Some(fitted.clamp(floor, Effort::High).name())
}

fn xai_thinks(model: &str) -> bool {
    ["grok-3-mini", "grok-4", "grok-code"]
        .iter()
        .any(|family| model.starts_with(family))
        && !model.contains("non-reasoning")
}

fn deepseek_thinks(top: &Object<'_>, model: &str) -> bool {
    let off = top
        .raw("thinking")
        .is_some_and(|raw| memmem::find(raw, b"disabled").is_some())
        || top.text("reasoning_effort").as_deref() == Some("none");
    !off && model != "deepseek-chat"
}

/// Whether thoughts in OpenRouter's form may go to this model: none of them is known to be another vendor's.
fn details_fit(raw: &[u8], model: &str) -> bool {
    let Ok(Value::Array(details)) = serde_json::from_slice(raw) else {
        return false;
    };
    details.iter().all(|detail| {
        let format = detail["format"].as_str().unwrap_or_default();
        match super::places::origin_of(format) {
            None => true,
            Some(origin) => super::places::vendor(model) == Some(origin),
        }
    })
}

/// Perplexity wants the user and the assistant to take turns.
fn merged(body: Vec<u8>, changes: &mut Changes) -> Result<Vec<u8>, Invalid> {
    let mut top = Object::read(&body)?;
    let Some(Ok(Value::Array(messages))) = top.raw("messages").map(serde_json::from_slice) else {
        return Ok(body);
    };
    let before = messages.len();
    let mut merged: Vec<Value> = Vec::with_capacity(before);
    for mut message in messages {
        let same = merged.last().is_some_and(|last| {
            last["role"] == message["role"]
                && matches!(last["role"].as_str(), Some("user" | "assistant"))
        });
        match merged.last_mut().filter(|_| same) {
            Some(last) => join(&mut last["content"], message["content"].take()),
            None => merged.push(message),
        }
    }
    if merged.len() == before {
        return Ok(body);
    }
    changes.set("messages", "merged");
    top.set("messages", Value::Array(merged).to_string());
    let mut edits = Edits::default();
    top.note(&mut edits);
    Ok(edits.apply(&body))
}

/// Puts one content behind another.
fn join(content: &mut Value, more: Value) {
    let parts = |content: Value| match content {
        Value::Array(parts) => parts,
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    };
    *content = match (content.take(), more) {
        (Value::String(text), Value::String(more)) => Value::String(format!("{text}\n\n{more}")),
        (content, more) => {
            let mut parts_of_both = parts(content);
            parts_of_both.extend(parts(more));
            Value::Array(parts_of_both)
        }
    };
}
