//! A chat client's request in the neutral form (spec: providers 1.2).

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::super::Dialect;
use super::super::failure::Invalid;
use super::super::fields::{Fields, wrong};
use super::super::neutral::{
    CacheMark, Effort, Format, Media, Origin, Part, PartKind, Reasoning, Request, Role, Signature,
    Tool, ToolChoice, ToolKind, ToolUse, Turn,
};
use super::places::{data_url, is_data_url, sniffed, standard};
use super::thoughts::{Thought, thoughts_of};

/// Reads a request of a chat client.
pub fn read_request(body: Value) -> Result<Request, Invalid> {
    let mut body = Fields::of(body, "")?;
    let mut request = Request::new(Dialect::Chat, body.required_text("model")?);
    read_messages(&mut body, &mut request)?;
    read_tools(&mut body, &mut request)?;
    let old_bound = body.count("max_tokens")?;
    request.max_tokens = body.count("max_completion_tokens")?.or(old_bound);
    request.temperature = body.number("temperature")?;
    request.top_p = body.number("top_p")?;
    request.top_k = body.count("top_k")?;
    request.stop = read_stop(&mut body)?;
    request.seed = body.integer("seed")?;
    request.presence_penalty = body.number("presence_penalty")?;
    request.frequency_penalty = body.number("frequency_penalty")?;
    request.choices = read_choices(&mut body)?;
    request.logprobs = read_logprobs(&mut body)?;
    request.format = read_format(&mut body)?;
    request.reasoning = read_reasoning(&mut body)?;
    request.stream = body.truth("stream")?.unwrap_or(false);
    if let Some(mut options) = body.inner("stream_options")? {
        request.include_usage = options.truth("include_usage")?.unwrap_or(false);
    }
    let pseudonym = body.text("safety_identifier")?;
    request.user = body.text("user")?.or(pseudonym);
    request.service_tier = body.text("service_tier")?;
    request.metadata = body.object("metadata")?.unwrap_or_default();
    request.extra = body.rest();
    Ok(request)
}

/// Whether the client speaks of functions as it was done before there were tools. It then wants calls to come back so
/// ([`super::super::Terms::legacy_calls`]).
pub fn speaks_legacy(body: &Value) -> bool {
    let says = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
    says("functions") && !says("tools")
}

fn read_messages(body: &mut Fields, request: &mut Request) -> Result<(), Invalid> {
    let messages = body
        .list("messages")?
        .ok_or_else(|| Invalid::at("messages", "messages is missing"))?;
    if messages.is_empty() {
        return Err(Invalid::at("messages", "messages must not be empty"));
    }
    let mut calls = HashSet::new();
    for (at, message) in messages.into_iter().enumerate() {
        let mut message = Fields::of(message, format!("messages[{at}]"))?;
        let role = message.required_text("role")?;
        let mark = read_mark(&mut message)?;
        let mut turn = match role.as_str() {
            "system" | "developer" => {
                let parts = read_content(&mut message, &role)?;
                if request.turns.is_empty() {
                    request.system.extend(marked(parts, mark));
                    continue;
                }
                Turn::new(Role::System, parts)
            }
            "user" => Turn::new(Role::User, read_content(&mut message, &role)?),
            "assistant" => Turn::new(Role::Assistant, read_assistant(&mut message, &mut calls)?),
            "tool" | "function" => {
                Turn::new(Role::User, vec![read_result(&mut message, &role, &calls)?])
            }
            other => {
                let place = message.place("role");
                let message = format!("{place}: there is no role {other}");
                return Err(Invalid::at(place, message));
            }
        };
        turn.parts = marked(turn.parts, mark);
        if turn.role != Role::System && !matches!(role.as_str(), "tool" | "function") {
            turn.name = message.text("name")?;
        }
        request.turns.push(turn);
    }
    Ok(())
}

/// A mark on a whole message stands at its end.
fn marked(mut parts: Vec<Part>, mark: Option<CacheMark>) -> Vec<Part> {
    if let (Some(mark), Some(last)) = (mark, parts.last_mut()) {
        last.cache = Some(mark);
    }
    parts
}

fn read_mark(fields: &mut Fields) -> Result<Option<CacheMark>, Invalid> {
    let Some(mut mark) = fields.inner("cache_control")? else {
        return Ok(None);
    };
    Ok(Some(CacheMark {
        ttl: mark.text("ttl")?,
    }))
}

fn read_content(message: &mut Fields, role: &str) -> Result<Vec<Part>, Invalid> {
    let place = message.place("content");
    match message.take("content") {
        None => Err(Invalid::at(&place, format!("{place} is missing"))),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(at, part)| read_part(part, &format!("{place}[{at}]"), role))
                .collect()
        }
        Some(other) => Err(wrong(&place, "a string or a list of parts", &other)),
    }
}

fn read_part(part: Value, place: &str, role: &str) -> Result<Part, Invalid> {
    if let Value::String(text) = part {
        return Ok(Part::text(text));
    }
    let mut part = Fields::of(part, place)?;
    let kind = part.required_text("type")?;
    let cache = read_mark(&mut part)?;
    let kind = match (kind.as_str(), role) {
        ("text" | "input_text" | "output_text", _) => Part::text(part.required_text("text")?).kind,
        ("image_url", _) => read_image(&mut part)?,
        ("input_audio", "user" | "tool") => read_audio(&mut part)?,
        ("file", "user" | "tool") => read_file(&mut part)?,
        ("video_url", "user" | "tool") => {
            let url = read_url(&mut part, "video_url")?.0;
            PartKind::Video(media_of(url, &part.place("video_url"))?)
        }
        ("refusal", "assistant") => PartKind::Refusal(part.required_text("refusal")?),
        ("thinking", "assistant") => PartKind::Thinking {
            text: part.required_text("thinking")?,
            signature: part.text("signature")?.map(super::thoughts::unmarked),
        },
        ("redacted_thinking", "assistant") => {
            PartKind::Redacted(super::thoughts::unmarked(part.required_text("data")?))
        }
        (other, role) => {
            let place = part.place("type");
            let message = format!("{place}: a message of the role {role} has no parts {other}");
            return Err(Invalid::at(place, message));
        }
    };
    Ok(Part { kind, cache })
}

fn read_image(part: &mut Fields) -> Result<PartKind, Invalid> {
    let (url, detail) = read_url(part, "image_url")?;
    let media = media_of(url, &part.place("image_url.url"))?;
    Ok(PartKind::Image { media, detail })
}

/// `{"image_url": {"url", "detail"}}`, or the address alone.
fn read_url(part: &mut Fields, field: &str) -> Result<(String, Option<String>), Invalid> {
    if part.peek(field).is_some_and(Value::is_string) {
        return Ok((part.required_text(field)?, None));
    }
    let place = part.place(field);
    let mut inner = part
        .inner(field)?
        .ok_or_else(|| Invalid::at(&place, format!("{place} is missing")))?;
    Ok((inner.required_text("url")?, inner.text("detail")?))
}

fn media_of(url: String, place: &str) -> Result<Media, Invalid> {
    if !is_data_url(&url) {
        return Ok(Media::Url { url, mime: None });
    }
    data_url(url).ok_or_else(|| Invalid::at(place, format!("{place} is not a valid data URL")))
}

fn read_audio(part: &mut Fields) -> Result<PartKind, Invalid> {
    let place = part.place("input_audio");
    let mut audio = part
        .inner("input_audio")?
        .ok_or_else(|| Invalid::at(&place, format!("{place} is missing")))?;
    let data = audio.required_text("data")?;
    if is_data_url(&data) {
        return Ok(PartKind::Audio(media_of(data, &audio.place("data"))?));
    }
    let mime = match audio.required_text("format")?.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format => format!("audio/{format}"),
    };
    let place = audio.place("data");
    let data =
        standard(data).ok_or_else(|| Invalid::at(&place, format!("{place} is not base64")))?;
    Ok(PartKind::Audio(Media::Inline { mime, data }))
}

fn read_file(part: &mut Fields) -> Result<PartKind, Invalid> {
    let place = part.place("file");
    let mut file = part
        .inner("file")?
        .ok_or_else(|| Invalid::at(&place, format!("{place} is missing")))?;
    let name = file.text("filename")?;
    let place = file.place("file_data");
    let media = match (file.text("file_data")?, file.text("file_id")?) {
        (Some(data), _) if is_data_url(&data) => media_of(data, &place)?,
        (Some(url), _) if url.starts_with("http://") || url.starts_with("https://") => {
            Media::Url { url, mime: None }
        }
        // Some clients leave the head of the URL away.
        (Some(data), _) if sniffed(&data) == Some("application/pdf") => {
            media_of(format!("data:application/pdf;base64,{data}"), &place)?
        }
        (Some(_), _) => {
            let message = format!("{place} must be a data URL: data:application/pdf;base64,...");
            return Err(Invalid::at(place, message));
        }
        (None, Some(id)) => Media::File(id),
        (None, None) => return Err(Invalid::at(&place, format!("{place} is missing"))),
    };
    Ok(PartKind::Document { media, name })
}

/// An assistant's turn: thoughts, then what it said, then its calls.
fn read_assistant(message: &mut Fields, calls: &mut HashSet<String>) -> Result<Vec<Part>, Invalid> {
    let mut parts: Vec<Part> = Vec::new();
    let mut text_signature = None;
    for thought in thoughts_of(message)? {
        match thought {
            Thought::Part(kind) => parts.push(kind.into()),
            Thought::OfText(signature) => text_signature = Some(signature),
        }
    }
    if message.peek("content").is_some() {
        parts.extend(read_content(message, "assistant")?);
        parts.retain(|part| part.as_text() != Some(""));
    }
    if let Some(refusal) = message.text("refusal")? {
        parts.push(PartKind::Refusal(refusal).into());
    }
    if let Some(audio) = message.object("audio")? {
        let block = json!({"type": "audio", "audio": audio});
        parts.push(PartKind::Foreign(block).into());
    }
    let last_text = parts
        .iter_mut()
        .rev()
        .find_map(|part| match &mut part.kind {
            PartKind::Text { signature, .. } => Some(signature),
            _ => None,
        });
    if let (Some(place), Some(_)) = (last_text, &text_signature) {
        *place = text_signature;
    }
    let list = message.list("tool_calls")?.unwrap_or_default();
    for (at, call) in list.into_iter().enumerate() {
        let call = Fields::of(call, message.place(&format!("tool_calls[{at}]")))?;
        let call = read_call(call)?;
        calls.insert(call.id.clone());
        parts.push(PartKind::ToolUse(call).into());
    }
    if let Some(mut call) = message.inner("function_call")? {
        let name = call.required_text("name")?;
        calls.insert(name.clone());
        let call = ToolUse {
            id: name.clone(),
            name,
            arguments: arguments(&mut call)?,
            custom: false,
            signature: None,
        };
        parts.push(PartKind::ToolUse(call).into());
    }
    Ok(parts)
}

fn read_call(mut call: Fields) -> Result<ToolUse, Invalid> {
    let id = call.required_text("id")?;
    let kind = call.text("type")?;
    let signature = call
        .take("extra_content")
        .and_then(|extra| {
            extra["google"]["thought_signature"]
                .as_str()
                .map(str::to_owned)
        })
        .map(|data| Signature::new(Origin::Google, data));
    if kind.as_deref() == Some("custom") {
        let place = call.place("custom");
        let mut custom = call
            .inner("custom")?
            .ok_or_else(|| Invalid::at(&place, format!("{place} is missing")))?;
        return Ok(ToolUse {
            id,
            name: custom.required_text("name")?,
            arguments: custom.text("input")?.unwrap_or_default(),
            custom: true,
            signature,
        });
    }
    let place = call.place("function");
    let mut function = call
        .inner("function")?
        .ok_or_else(|| Invalid::at(&place, format!("{place} is missing")))?;
    Ok(ToolUse {
        id,
        name: function.required_text("name")?,
        arguments: arguments(&mut function)?,
        custom: false,
        signature,
    })
}

/// The arguments of a call: text of an object.
fn arguments(function: &mut Fields) -> Result<String, Invalid> {
    let place = function.place("arguments");
    let text = match function.take("arguments") {
        None => return Ok("{}".to_owned()),
        Some(Value::String(text)) => text,
        Some(object @ Value::Object(_)) => return Ok(object.to_string()),
        Some(other) => return Err(wrong(&place, "a string that holds a JSON object", &other)),
    };
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() || trimmed == "null" {
        return Ok("{}".to_owned());
    }
    let parsed = serde_json::from_str::<IgnoredAny>(trimmed);
    match parsed {
        Ok(_) if trimmed.starts_with('{') => Ok(text),
        Ok(_) => Err(Invalid::at(
            &place,
            format!("{place} must hold a JSON object"),
        )),
        Err(error) => Err(Invalid::at(
            &place,
            format!("{place} does not hold JSON: {error}"),
        )),
    }
}

fn read_result(message: &mut Fields, role: &str, calls: &HashSet<String>) -> Result<Part, Invalid> {
    let field = match role {
        "function" => "name",
        _ => "tool_call_id",
    };
    let id = message.required_text(field)?;
    if !calls.contains(&id) {
        let place = message.place(field);
        let message = format!("{place}: no earlier message of the assistant calls {id}");
        return Err(Invalid::at(place, message));
    }
    let content = match message.peek("content") {
        None => Vec::new(),
        Some(_) => read_content(message, "tool")?,
    };
    Ok(PartKind::ToolResult {
        id,
        content,
        is_error: false,
    }
    .into())
}

fn read_tools(body: &mut Fields, request: &mut Request) -> Result<(), Invalid> {
    let tools = body.list("tools")?.unwrap_or_default();
    for (at, tool) in tools.into_iter().enumerate() {
        request
            .tools
            .push(read_tool(tool, &format!("tools[{at}]"))?);
    }
    let functions = body.list("functions")?.unwrap_or_default();
    for (at, function) in functions.into_iter().enumerate() {
        let mut function = Fields::of(function, format!("functions[{at}]"))?;
        let tool = read_function(&mut function, None)?;
        request.tools.push(tool);
    }
    let legacy = body.take("function_call");
    request.tool_choice = match (body.take("tool_choice"), legacy) {
        (Some(choice), _) => Some(read_choice(choice, "tool_choice")?),
        (None, Some(Value::Object(mut named))) => match named.remove("name") {
            Some(Value::String(name)) => Some(ToolChoice::Named(name)),
            _ => {
                return Err(Invalid::at(
                    "function_call.name",
                    "function_call.name must be a string",
                ));
            }
        },
        (None, Some(word)) => Some(read_choice(word, "function_call")?),
        (None, None) => None,
    };
    request.parallel_tool_calls = body.truth("parallel_tool_calls")?;
    Ok(())
}

fn read_tool(tool: Value, place: &str) -> Result<Tool, Invalid> {
    let kind = tool.get("type").and_then(Value::as_str).map(str::to_owned);
    if let Some(kind) = kind.filter(|kind| kind != "function" && kind != "custom") {
        let mut mark = Fields::of(json!({"cache_control": tool.get("cache_control")}), place)?;
        let cache = read_mark(&mut mark)?;
        let definition = tool;
        let kind = ToolKind::Hosted { kind, definition };
        return Ok(Tool { kind, cache });
    }
    let mut tool = Fields::of(tool, place)?;
    let cache = read_mark(&mut tool)?;
    match tool.text("type")?.as_deref() {
        Some("custom") => {
            let Some(mut custom) = tool.inner("custom")? else {
                return Err(missing(&tool, "custom"));
            };
            let kind = ToolKind::Custom {
                name: custom.required_text("name")?,
                description: custom.text("description")?,
                format: custom.take("format"),
            };
            Ok(Tool { kind, cache })
        }
        _ => match tool.inner("function")? {
            Some(mut function) => read_function(&mut function, cache),
            None => Err(missing(&tool, "function")),
        },
    }
}

fn missing(fields: &Fields, field: &str) -> Invalid {
    let place = fields.place(field);
    Invalid::at(&place, format!("{place} is missing"))
}

fn read_function(function: &mut Fields, outer: Option<CacheMark>) -> Result<Tool, Invalid> {
    let kind = ToolKind::Function {
        name: function.required_text("name")?,
        description: function.text("description")?,
        parameters: function.object("parameters")?.map(Value::Object),
        strict: function.truth("strict")?,
    };
    let cache = read_mark(function)?.or(outer);
    Ok(Tool { kind, cache })
}

fn read_choice(choice: Value, place: &str) -> Result<ToolChoice, Invalid> {
    let choice = match choice {
        Value::String(word) => match word.as_str() {
            "auto" => return Ok(ToolChoice::Auto),
            "none" => return Ok(ToolChoice::None),
            "required" | "any" => return Ok(ToolChoice::Required),
            _ => {
                let message = format!("{place} must be none, auto, required or an object");
                return Err(Invalid::at(place, message));
            }
        },
        object => object,
    };
    let mut choice = Fields::of(choice, place)?;
    let kind = choice
        .text("type")?
        .unwrap_or_else(|| "function".to_owned());
    match kind.as_str() {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "any" | "required" => Ok(ToolChoice::Required),
        "function" | "custom" => {
            let Some(mut named) = choice.inner(&kind)? else {
                return Err(missing(&choice, &kind));
            };
            Ok(ToolChoice::Named(named.required_text("name")?))
        }
        "allowed_tools" => {
            let mut allowed = match choice.inner("allowed_tools")? {
                Some(allowed) => allowed,
                None => choice,
            };
            let required = allowed.text("mode")?.as_deref() == Some("required");
            let place = allowed.place("tools");
            let tools = allowed.list("tools")?.unwrap_or_default();
            let names: Option<Vec<String>> = tools
                .into_iter()
                .map(|tool| {
                    let inner = ["function", "custom"]
                        .iter()
                        .find_map(|kind| tool.get(kind));
                    let name = inner.unwrap_or(&tool).get("name")?.as_str()?;
                    Some(name.to_owned())
                })
                .collect();
            let names = names
                .ok_or_else(|| Invalid::at(&place, format!("{place}: each must have a name")))?;
            Ok(ToolChoice::Allowed { required, names })
        }
        other => {
            let place = choice.place("type");
            let message = format!("{place}: there is no choice of the type {other}");
            Err(Invalid::at(place, message))
        }
    }
}

fn read_stop(body: &mut Fields) -> Result<Vec<String>, Invalid> {
    match body.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(texts)) => {
            let texts = texts.into_iter().enumerate();
            texts
                .map(|(at, text)| match text {
                    Value::String(text) => Ok(text),
                    other => Err(wrong(&format!("stop[{at}]"), "a string", &other)),
                })
                .collect()
        }
        Some(other) => Err(wrong("stop", "a string or a list of strings", &other)),
    }
}

fn read_choices(body: &mut Fields) -> Result<Option<u64>, Invalid> {
    match body.count("n")? {
        Some(0) => Err(Invalid::at("n", "n must be at least 1")),
        n => Ok(n),
    }
}

fn read_logprobs(body: &mut Fields) -> Result<Option<u64>, Invalid> {
    let wanted = body.truth("logprobs")?.unwrap_or(false);
    let top = body.count("top_logprobs")?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(Invalid::at(
            "top_logprobs",
            "top_logprobs needs logprobs: true",
        )),
    }
}

fn read_format(body: &mut Fields) -> Result<Option<Format>, Invalid> {
    let Some(mut format) = body.inner("response_format")? else {
        return Ok(None);
    };
    match format.required_text("type")?.as_str() {
        "text" => Ok(Some(Format::Text)),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => {
            let Some(mut inner) = format.inner("json_schema")? else {
                return Err(missing(&format, "json_schema"));
            };
            let Some(schema) = inner.object("schema")? else {
                return Err(missing(&inner, "schema"));
            };
            Ok(Some(Format::JsonSchema {
                name: inner.text("name")?,
                description: inner.text("description")?,
                schema: Value::Object(schema),
                strict: inner.truth("strict")?,
            }))
        }
        other => {
            let place = format.place("type");
            let message = format!("{place} must be text, json_object or json_schema, not {other}");
            Err(Invalid::at(place, message))
        }
    }
}

/// `reasoning_effort`; and what clients of other providers write: `thinking` as in Messages, `reasoning` as OpenRouter has it.
fn read_reasoning(body: &mut Fields) -> Result<Option<Reasoning>, Invalid> {
    let mut reasoning = match body.text("reasoning_effort")? {
        None => None,
        Some(word) if word == "default" => Some(Reasoning::default()),
        Some(word) => {
            let effort = Effort::parse(&word).ok_or_else(|| {
                Invalid::at(
                    "reasoning_effort",
                    "reasoning_effort must be none, minimal, low, medium, high, xhigh or max",
                )
            })?;
            Some(Reasoning {
                effort: Some(effort),
                ..Reasoning::default()
            })
        }
    };
    if body.peek("thinking").is_some_and(Value::is_object) {
        let thinking = body.object("thinking")?.unwrap_or_default();
        let reasoning = reasoning.get_or_insert_default();
        match thinking.get("type").and_then(Value::as_str) {
            Some("disabled") => reasoning.effort = Some(Effort::None),
            Some("adaptive") => reasoning.adaptive = true,
            _ => {
                reasoning.budget = thinking.get("budget_tokens").and_then(Value::as_u64);
                reasoning.adaptive = reasoning.budget.is_none() && reasoning.effort.is_none();
            }
        }
        reasoning.visible = match thinking.get("display").and_then(Value::as_str) {
            Some("omitted") => Some(false),
            Some("summarized") => Some(true),
            _ => None,
        };
    }
    if body.peek("reasoning").is_some_and(Value::is_object) {
        let told = body.object("reasoning")?.unwrap_or_default();
        read_openrouter(&told, reasoning.get_or_insert_default());
    }
    Ok(reasoning)
}

fn read_openrouter(told: &Map<String, Value>, reasoning: &mut Reasoning) {
    let effort = told.get("effort").and_then(Value::as_str);
    reasoning.effort = effort.and_then(Effort::parse).or(reasoning.effort);
    reasoning.budget = told
        .get("max_tokens")
        .and_then(Value::as_u64)
        .or(reasoning.budget);
    match told.get("enabled").and_then(Value::as_bool) {
        Some(false) => reasoning.effort = Some(Effort::None),
        Some(true) if reasoning.effort.is_none() && reasoning.budget.is_none() => {
            reasoning.effort = Some(Effort::Medium);
        }
        _ => {}
    }
    if let Some(exclude) = told.get("exclude").and_then(Value::as_bool) {
        reasoning.visible = Some(!exclude);
    }
}
