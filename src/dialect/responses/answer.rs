//! A whole answer as items, and the response around them.

use serde_json::{Map, Value, json};

use super::super::Terms;
use super::super::neutral::{Answer, Citation, Media, PartKind, Stop, StopReason, ToolUse};
use super::request::FOUND;
use super::seal::Seal;
use super::tools::{self, Guise, Known, Toolbox};
use crate::meter::Usage;

/// Writes an answer for a client.
pub fn write_answer(answer: &Answer, terms: &Terms) -> Value {
    let mut response = frame(terms);
    if let Some(model) = &answer.model {
        response["model"] = Value::from(model.as_str());
    }
    if let Some(created) = answer.created {
        response["created_at"] = Value::from(created);
    }
    let mut items = Items::new(terms);
    let done = Stop::new(StopReason::End);
    let mut stop = &done;
    if let Some(choice) = answer.choices.first() {
        stop = &choice.stop;
        let mut logprobs = choice.logprobs.as_ref().map(logprobs).unwrap_or_default();
        let mut refused = false;
        for part in &choice.parts {
            refused |= matches!(part.kind, PartKind::Refusal(_));
            items.part(&part.kind, &mut logprobs);
        }
        if let Some(words) = refusal(stop).filter(|_| !refused) {
            items.say(refusal_part(words));
        }
    }
    if cut(stop)
        && let Some(last) = items
            .list
            .last_mut()
            .filter(|item| item["type"] == "message")
    {
        last["status"] = Value::from("incomplete");
    }
    finish(&mut response, stop, items.list, answer.usage.as_ref());
    response["service_tier"] = service_tier(answer.service_tier.as_deref());
    response
}

/// What surrounds the items, as far as the request decides it.
pub(super) fn frame(terms: &Terms) -> Value {
    let echo = |field: &str| terms.echo.get(field).cloned().unwrap_or_default();
    let or = |field: &str, value: Value| terms.echo.get(field).cloned().unwrap_or(value);
    let inner = |outer: &str, field: &str| {
        let found = terms.echo.get(outer).and_then(|outer| outer.get(field));
        found.cloned().unwrap_or_default()
    };
    let mut text = json!({"format": {"type": "text"}});
    for field in ["format", "verbosity"] {
        let value = inner("text", field);
        if !value.is_null() {
            text[field] = value;
        }
    }
    let mut tools = or("tools", json!([]));
    tools
        .as_array_mut()
        .into_iter()
        .flatten()
        .for_each(complete);
    json!({
        "id": format!("resp_{}", terms.id),
        "object": "response",
        "created_at": terms.created,
        "status": "in_progress",
        "background": false,
        "completed_at": null,
        "error": null,
        "incomplete_details": null,
        "instructions": echo("instructions"),
        "max_output_tokens": echo("max_output_tokens"),
        "max_tool_calls": echo("max_tool_calls"),
        "model": terms.model,
        "output": [],
        "parallel_tool_calls": or("parallel_tool_calls", Value::Bool(true)),
        "previous_response_id": null,
        "prompt_cache_key": echo("prompt_cache_key"),
        "prompt_cache_retention": echo("prompt_cache_retention"),
        "reasoning": {"effort": inner("reasoning", "effort"), "summary": inner("reasoning", "summary")},
        "safety_identifier": echo("safety_identifier"),
        "service_tier": null,
        "store": false,
        "temperature": echo("temperature"),
        "text": text,
        "tool_choice": or("tool_choice", Value::from("auto")),
        "tools": tools,
        "top_logprobs": or("top_logprobs", Value::from(0)),
        "top_p": echo("top_p"),
        "truncation": or("truncation", Value::from("disabled")),
        "usage": null,
        "user": echo("user"),
        "metadata": or("metadata", json!({})),
    })
}

/// A function as an answer repeats it has every field.
fn complete(tool: &mut Value) {
    if tool["type"] == "function"
        && let Some(fields) = tool.as_object_mut()
    {
        for field in ["description", "parameters", "strict"] {
            fields.entry(field).or_insert(Value::Null);
        }
    }
}

/// Brings a response to its end.
pub(super) fn finish(response: &mut Value, stop: &Stop, items: Vec<Value>, usage: Option<&Usage>) {
    response["status"] = Value::from(if cut(stop) { "incomplete" } else { "completed" });
    response["incomplete_details"] = match stop.reason {
        StopReason::Length => json!({"reason": "max_output_tokens"}),
        StopReason::Filter => json!({"reason": "content_filter"}),
        StopReason::End | StopReason::StopSequence | StopReason::ToolUse => Value::Null,
    };
    response["output"] = Value::Array(items);
    response["usage"] = usage.map(counts).unwrap_or_default();
}

/// Whether the answer is not all that the model would have said.
pub(super) fn cut(stop: &Stop) -> bool {
    matches!(stop.reason, StopReason::Length | StopReason::Filter)
}

/// How the answer, and its last message, ended.
pub(super) fn status(stop: &Stop) -> &'static str {
    match cut(stop) {
        true => "incomplete",
        false => "completed",
    }
}

/// The words of a refusal that has none of its own.
pub(super) fn refusal(stop: &Stop) -> Option<&str> {
    let words = stop.explanation.as_deref();
    words.filter(|words| stop.reason == StopReason::Filter && !words.is_empty())
}

fn counts(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached_input, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    })
}

/// The tier in a word that clients know.
pub(super) fn service_tier(tier: Option<&str>) -> Value {
    match tier {
        Some("standard") => Value::from("default"),
        Some(tier @ ("auto" | "default" | "flex" | "scale" | "priority")) => Value::from(tier),
        _ => Value::Null,
    }
}

/// The tools that a call may mean.
pub(super) fn toolbox(terms: &Terms) -> Toolbox {
    let own = terms.echo.get("tools").into_iter();
    let found = terms.echo.get(FOUND).and_then(Value::as_array);
    Toolbox::of(own.chain(found.into_iter().flatten()))
}

/// What a call of the function means to the client.
pub(super) fn known(toolbox: &Toolbox, terms_custom: &[String], name: &str) -> Known {
    let custom = terms_custom.iter().any(|custom| custom == name);
    toolbox.known(name).cloned().unwrap_or_else(|| Known {
        guise: if custom {
            Guise::Custom
        } else {
            Guise::Function
        },
        name: name.to_owned(),
        namespace: None,
    })
}

/// Collects the items of an answer.
struct Items<'a> {
    list: Vec<Value>,
    terms: &'a Terms,
    toolbox: Toolbox,
    /// The last item is a message that may go on.
    talking: bool,
}

impl<'a> Items<'a> {
    fn new(terms: &'a Terms) -> Self {
        Self {
            list: Vec::new(),
            terms,
            toolbox: toolbox(terms),
            talking: false,
        }
    }

    fn part(&mut self, kind: &PartKind, logprobs: &mut Vec<Value>) {
        match kind {
            PartKind::Text {
                text,
                citations,
                signature,
            } => {
                if !text.is_empty() {
                    let length = text.chars().count() as u64;
                    let annotations = citations
                        .iter()
                        .filter_map(|citation| annotation(citation, length));
                    let part = text_part(text, annotations.collect(), std::mem::take(logprobs));
                    self.say(part);
                }
                if let Some(signature) = signature {
                    self.reason("", Some(&Seal::Text(signature.clone())));
                }
            }
            PartKind::Refusal(words) => self.say(refusal_part(words)),
            PartKind::Thinking { text, signature } => {
                let seal = signature.clone().map(Seal::Thought);
                if !text.is_empty() || seal.is_some() {
                    self.reason(text, seal.as_ref());
                }
            }
            PartKind::Redacted(signature) => {
                self.reason("", Some(&Seal::Redacted(signature.clone())))
            }
            PartKind::ToolUse(call) => self.call(call),
            PartKind::Image { media, .. } => match image(media, &self.next_id("ig")) {
                Some(item) => self.push(item),
                None => self.say(text_part(&image_text(media), Vec::new(), Vec::new())),
            },
            // Models of other providers do not answer in these, and the dialect has no item for them.
            PartKind::Audio(_)
            | PartKind::Video(_)
            | PartKind::Document { .. }
            | PartKind::ToolResult { .. }
            | PartKind::Foreign(_) => {}
        }
    }

    /// Adds to the message.
    fn say(&mut self, part: Value) {
        if !self.talking {
            let id = self.next_id("msg");
            self.push(message(&id, Vec::new(), "completed"));
            self.talking = true;
        }
        if let Some(content) = self
            .list
            .last_mut()
            .and_then(|item| item["content"].as_array_mut())
        {
            content.push(part);
        }
    }

    fn reason(&mut self, text: &str, seal: Option<&Seal>) {
        let id = self.next_id("rs");
        self.push(reasoning(&id, text, seal));
    }

    fn call(&mut self, call: &ToolUse) {
        if let Some(signature) = &call.signature {
            self.reason("", Some(&Seal::Call(signature.clone())));
        }
        let known = known(&self.toolbox, &self.terms.custom_tools, &call.name);
        let stem = stem(&known, call.custom);
        let id = self.next_id(stem);
        self.push(call_item(
            &id,
            &call.id,
            &known,
            &call.arguments,
            call.custom,
            "completed",
        ));
    }

    fn push(&mut self, item: Value) {
        self.list.push(item);
        self.talking = false;
    }

    fn next_id(&self, stem: &str) -> String {
        item_id(stem, &self.terms.id, self.list.len())
    }
}

/// Ids begin as OpenAI's do, which refuses others when the conversation goes on there.
pub(super) fn item_id(stem: &str, id: &str, at: usize) -> String {
    format!("{stem}_{id}{at}")
}

pub(super) fn message(id: &str, content: Vec<Value>, status: &str) -> Value {
    json!({"id": id, "type": "message", "status": status, "content": content, "role": "assistant"})
}

pub(super) fn text_part(text: &str, annotations: Vec<Value>, logprobs: Vec<Value>) -> Value {
    json!({"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": text})
}

pub(super) fn refusal_part(words: &str) -> Value {
    json!({"type": "refusal", "refusal": words})
}

pub(super) fn reasoning(id: &str, text: &str, seal: Option<&Seal>) -> Value {
    let summary = match text.is_empty() {
        true => json!([]),
        false => json!([{"type": "summary_text", "text": text}]),
    };
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
    if let Some(seal) = seal {
        item["encrypted_content"] = Value::String(seal.write());
    }
    item
}

/// A picture that the model made; `None`: it is not here.
pub(super) fn image(media: &Media, id: &str) -> Option<Value> {
    let Media::Inline { mime, data } = media else {
        return None;
    };
    let format = mime.strip_prefix("image/").unwrap_or("png");
    Some(json!({
        "id": id, "type": "image_generation_call", "status": "completed", "output_format": format, "result": data,
    }))
}

/// A picture that is elsewhere.
pub(super) fn image_text(media: &Media) -> String {
    match media {
        Media::Url { url, .. } => format!("![image]({url})"),
        Media::File(id) => format!("![image]({id})"),
        Media::Text(text) => text.clone(),
        Media::Inline { .. } => String::new(),
    }
}

/// A source that has an address. Without a range it is about all of the text, which is so long.
pub(super) fn annotation(citation: &Citation, length: u64) -> Option<Value> {
    if citation.url.is_empty() {
        return None;
    }
    let (start, end) = citation.range.unwrap_or((0, length));
    Some(json!({
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title.as_deref().unwrap_or_default(),
        "start_index": start,
        "end_index": end,
    }))
}

/// Log probabilities in chat's form as this dialect has them: bytes are always told.
pub(super) fn logprobs(chat: &Value) -> Vec<Value> {
    let one = |entry: &Value| {
        let token = entry["token"].as_str().unwrap_or_default();
        let bytes = match &entry["bytes"] {
            Value::Array(bytes) => Value::Array(bytes.clone()),
            _ => Value::from(token.as_bytes().to_vec()),
        };
        json!({"token": token, "bytes": bytes, "logprob": entry["logprob"].as_f64().unwrap_or_default()})
    };
    let entries = chat["content"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let others = entry["top_logprobs"].as_array().into_iter().flatten();
            let mut own = one(entry);
            own["top_logprobs"] = others.map(one).collect();
            own
        })
        .collect()
}

/// How ids of the call's item begin.
pub(super) fn stem(known: &Known, custom: bool) -> &'static str {
    match known.guise {
        _ if custom => "ctc",
        Guise::Function => "fc",
        Guise::Custom => "ctc",
        Guise::LocalShell => "lsh",
        Guise::Shell => "sh",
        Guise::ApplyPatch => "apc",
        Guise::ToolSearch => "tsc",
    }
}

/// A call as the client knows the tool. Arguments that do not say what the tool needs go as they are, in a call of a function: the
/// client tells the model what is wrong with them.
pub(super) fn call_item(
    id: &str,
    call_id: &str,
    known: &Known,
    arguments: &str,
    custom: bool,
    status: &str,
) -> Value {
    let guise = if custom { Guise::Custom } else { known.guise };
    let mut item = match guise {
        Guise::Custom => {
            let input = match custom {
                true => arguments.to_owned(),
                false => tools::custom_input(arguments),
            };
            json!({"id": id, "type": "custom_tool_call", "status": status, "call_id": call_id, "input": input, "name": known.name})
        }
        Guise::Function => function_call(id, call_id, known, arguments, status),
        guise => own_call(guise, id, call_id, arguments, status)
            .unwrap_or_else(|| function_call(id, call_id, known, arguments, status)),
    };
    if let Some(namespace) = &known.namespace {
        item["namespace"] = Value::from(namespace.as_str());
    }
    item
}

fn function_call(id: &str, call_id: &str, known: &Known, arguments: &str, status: &str) -> Value {
    let arguments = if arguments.is_empty() {
        "{}"
    } else {
        arguments
    };
    json!({
        "id": id, "type": "function_call", "status": status,
        "arguments": arguments, "call_id": call_id, "name": known.name,
    })
}

/// A call of a tool that has an item of its own kind.
fn own_call(guise: Guise, id: &str, call_id: &str, arguments: &str, status: &str) -> Option<Value> {
    let mut arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    let mut item = json!({"id": id, "type": null, "status": status, "call_id": call_id});
    match guise {
        Guise::LocalShell => {
            arguments.get("command")?.as_array()?;
            arguments.insert("type".to_owned(), Value::from("exec"));
            arguments.entry("env").or_insert_with(|| json!({}));
            item["type"] = Value::from("local_shell_call");
            item["action"] = Value::Object(arguments);
        }
        Guise::Shell => {
            arguments.get("commands")?.as_array()?;
            for field in ["max_output_length", "timeout_ms"] {
                arguments.entry(field).or_insert(Value::Null);
            }
            item["type"] = Value::from("shell_call");
            item["action"] = Value::Object(arguments);
        }
        Guise::ApplyPatch => {
            let kind = arguments.get("type")?.as_str()?;
            arguments.get("path")?.as_str()?;
            let needs_diff = match kind {
                "create_file" | "update_file" => true,
                "delete_file" => false,
                _ => return None,
            };
            if needs_diff {
                arguments.get("diff")?.as_str()?;
            }
            item["type"] = Value::from("apply_patch_call");
            item["operation"] = Value::Object(arguments);
        }
        Guise::ToolSearch => {
            item["type"] = Value::from("tool_search_call");
            item["execution"] = Value::from("client");
            item["arguments"] = Value::Object(arguments);
        }
        Guise::Function | Guise::Custom => return None,
    }
    Some(item)
}
