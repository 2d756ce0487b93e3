//! A neutral request for a provider that speaks chat: written as OpenAI would have it, then brought to the provider's row.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::openai;
use super::super::neutral::{
    CacheMark, Effort, Format, Media, Part, PartKind, Request, Role, Signature, Tool, ToolChoice,
    ToolKind, ToolUse, Turn,
};
use super::super::{Dialect, Unwrap, Upstream, Written};
use super::edit::edit_request;
use super::places::{format_of, origin_of, vendor};
use super::rows::{self, Bound, Row, Thoughts};
use super::thoughts::{encrypted_detail, text_detail, text_signature_detail};
use crate::limits::{CHAT_STOPS_MAX, CHAT_USER_MAX};
use crate::providers::Slug;

/// Writes a request of any client for a provider that speaks chat.
pub fn write_request(
    request: &Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    let mut writer = Writer {
        row: rows::row(upstream.slug),
        upstream,
        request,
        changes,
    };
    let mut body = Map::new();
    body.insert("model".to_owned(), upstream.model.into());
    body.insert("messages".to_owned(), Value::Array(writer.messages()?));
    writer.tools(&mut body)?;
    writer.bounds_and_sampling(&mut body);
    writer.format(&mut body);
    writer.reasoning(&mut body);
    writer.bookkeeping(&mut body);
    let body = Value::Object(body).to_string().into_bytes();
    let edited = edit_request(&body, upstream, changes)?;
    Ok(Written {
        body: edited.body,
        headers: Vec::new(),
        unwrap: Unwrap::Nothing,
    })
}

/// Whether the provider fetches such an address itself (spec: providers 1.10).
pub fn takes_url(kind: &PartKind, url: &str, upstream: &Upstream<'_>) -> bool {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let slug = upstream.slug;
    match kind {
        // Workers AI takes pictures as data only.
        PartKind::Image { .. } => is_web && slug != Slug::WorkersAi,
        PartKind::Document { .. } => is_web && matches!(slug, Slug::Mistral | Slug::OpenRouter),
        PartKind::Video(_) => is_web && takes_video(slug),
        _ => false,
    }
}

fn takes_video(slug: Slug) -> bool {
    rows::row(slug).thoughts == Thoughts::AsTheyCame || slug == Slug::OpenRouter
}

struct Writer<'a> {
    row: &'static Row,
    upstream: &'a Upstream<'a>,
    request: &'a Request,
    changes: &'a mut Changes,
}

impl Writer<'_> {
    fn messages(&mut self) -> Result<Vec<Value>, Invalid> {
        let request = self.request;
        let mut messages = Vec::with_capacity(request.turns.len() + 1);
        if !request.system.is_empty() {
            let content = self.plain_content(&request.system, "\n\n", "system")?;
            messages.push(json!({"role": "system", "content": content}));
        }
        for (at, turn) in request.turns.iter().enumerate() {
            let place = format!("messages[{at}]");
            match turn.role {
                Role::System => {
                    let content = self.plain_content(&turn.parts, "\n\n", &place)?;
                    messages.push(json!({"role": "system", "content": content}));
                }
                Role::User => self.user(turn, &place, &mut messages)?,
                Role::Assistant => messages.extend(self.assistant(turn, &place)?),
            }
        }
        Ok(messages)
    }

    /// Content that is text only: of system messages and of tools' results.
    fn plain_content(
        &mut self,
        parts: &[Part],
        between: &str,
        place: &str,
    ) -> Result<Value, Invalid> {
        let has_marks = self.row.cache_marks && parts.iter().any(|part| part.cache.is_some());
        let mut texts: Vec<(String, Option<&CacheMark>)> = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            let text = match &part.kind {
                PartKind::Text { text, .. } | PartKind::Refusal(text) => text.clone(),
                PartKind::Document {
                    media: Media::Text(text),
                    ..
                } => text.clone(),
                PartKind::Foreign(block) => {
                    self.drop_foreign(block);
                    continue;
                }
                _ => {
                    let place = format!("{place}.content[{at}]");
                    let message = format!("{place}: only text can stand here");
                    return Err(Invalid::unsupported(place, message));
                }
            };
            texts.push((text, part.cache.as_ref()));
        }
        if has_marks {
            let parts = texts
                .into_iter()
                .map(|(text, mark)| with_mark(json!({"type": "text", "text": text}), mark, true));
            return Ok(parts.collect());
        }
        self.tell_marks(parts);
        let texts: Vec<String> = texts.into_iter().map(|(text, _)| text).collect();
        Ok(Value::String(texts.join(between)))
    }

    fn tell_marks(&mut self, parts: &[Part]) {
        if !self.row.cache_marks && parts.iter().any(|part| part.cache.is_some()) {
            self.changes.dropped("cache_control");
        }
    }

    /// Results of tools become messages of their own; what else the turn says follows them.
    fn user(&mut self, turn: &Turn, place: &str, messages: &mut Vec<Value>) -> Result<(), Invalid> {
        let mut content = Vec::with_capacity(turn.parts.len());
        for (at, part) in turn.parts.iter().enumerate() {
            let place = format!("{place}.content[{at}]");
            match &part.kind {
                PartKind::ToolResult {
                    id,
                    content: result,
                    is_error,
                } => {
                    if *is_error {
                        self.changes.dropped("tool_result.is_error");
                    }
                    let (shown, plain): (Vec<&Part>, Vec<&Part>) =
                        result.iter().partition(|part| is_shown(part));
                    let mut plain: Vec<Part> = plain.into_iter().cloned().collect();
                    if let Some(last) = plain.last_mut()
                        && last.cache.is_none()
                    {
                        last.cache = part.cache.clone();
                    }
                    let text = self.plain_content(&plain, "\n", &place)?;
                    messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                    if shown.is_empty() {
                        continue;
                    }
                    // A tool's message holds no pictures: they come right after the results, and say whose they are.
                    self.changes.set("messages.tool.content", "user");
                    let from = format!("Result of the tool call {id}:");
                    content.push(json!({"type": "text", "text": from}));
                    for part in shown {
                        content.extend(self.part(part, &place)?);
                    }
                }
                _ => content.extend(self.part(part, &place)?),
            }
        }
        if content.is_empty() {
            return Ok(());
        }
        self.tell_marks(&turn.parts);
        let mut message = json!({"role": "user", "content": self.contracted(content)});
        if let Some(name) = &turn.name {
            message["name"] = name.as_str().into();
        }
        messages.push(message);
        Ok(())
    }

    /// A list of parts, or one text where that says the same.
    fn contracted(&self, content: Vec<Value>) -> Value {
        let is_plain = |part: &Value| part["type"] == "text" && part.get("cache_control").is_none();
        let joins = content.len() == 1 || !self.row.text_parts;
        if !joins || !content.iter().all(is_plain) {
            return Value::Array(content);
        }
        let texts: Vec<&str> = content
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect();
        Value::String(texts.join("\n\n"))
    }

    /// A part of a user's message; `None` where nothing is left of it.
    fn part(&mut self, part: &Part, place: &str) -> Result<Option<Value>, Invalid> {
        let slug = self.upstream.slug;
        let unsupported = |what: &str| {
            let message = format!("{place}: {} does not take {what}", slug.as_str());
            Err(Invalid::unsupported(place, message))
        };
        let value = match &part.kind {
            PartKind::Text { text, .. } | PartKind::Refusal(text) => {
                json!({"type": "text", "text": text})
            }
            PartKind::Image { media, detail } => {
                let url = match media {
                    Media::Url { url, .. } if takes_url(&part.kind, url, self.upstream) => {
                        url.clone()
                    }
                    Media::Url { .. } => return Err(not_fetched(place, slug)),
                    Media::Inline { mime, data } => format!("data:{mime};base64,{data}"),
                    Media::File(_) | Media::Text(_) => {
                        return unsupported("a picture that is a file of another store");
                    }
                };
                let mut image = json!({"url": url});
                if let Some(detail) = detail {
                    image["detail"] = detail.as_str().into();
                }
                json!({"type": "image_url", "image_url": image})
            }
            PartKind::Audio(Media::Inline { mime, data }) => {
                let format = match mime.as_str() {
                    "audio/mpeg" | "audio/mp3" => "mp3",
                    "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                    other => other.split('/').next_back().unwrap_or(other),
                };
                json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
            }
            PartKind::Audio(Media::Url { .. }) => return Err(not_fetched(place, slug)),
            PartKind::Audio(_) => return unsupported("such sound"),
            PartKind::Video(media) if takes_video(slug) => {
                let url = match media {
                    Media::Url { url, .. } => url.clone(),
                    Media::Inline { mime, data } => format!("data:{mime};base64,{data}"),
                    Media::File(_) | Media::Text(_) => return unsupported("such a film"),
                };
                json!({"type": "video_url", "video_url": {"url": url}})
            }
            PartKind::Video(_) => return unsupported("films"),
            PartKind::Document { media, name } => {
                self.document(media, name.as_deref(), &part.kind, place)?
            }
            PartKind::Foreign(block) => {
                self.drop_foreign(block);
                return Ok(None);
            }
            PartKind::Thinking { .. }
            | PartKind::Redacted(_)
            | PartKind::ToolUse(_)
            | PartKind::ToolResult { .. } => return unsupported("such a part here"),
        };
        let mark = part.cache.as_ref();
        Ok(Some(with_mark(value, mark, self.row.cache_marks)))
    }

    fn document(
        &mut self,
        media: &Media,
        name: Option<&str>,
        kind: &PartKind,
        place: &str,
    ) -> Result<Value, Invalid> {
        let slug = self.upstream.slug;
        let data = match media {
            Media::Text(text) => return Ok(titled(name, text)),
            Media::Inline { mime, data } if mime.starts_with("text/") => {
                let bytes = STANDARD.decode(data).ok();
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                let text = text.ok_or_else(|| {
                    Invalid::at(place, format!("{place}: the document is not text in UTF-8"))
                })?;
                return Ok(titled(name, &text));
            }
            Media::Inline { mime, data } => format!("data:{mime};base64,{data}"),
            Media::Url { url, .. } if takes_url(kind, url, self.upstream) => url.clone(),
            Media::Url { .. } => return Err(not_fetched(place, slug)),
            Media::File(id) => {
                // Files of OpenAI's store are the same in its two dialects; those of Anthropic's are not.
                if self.request.from == Dialect::Messages {
                    let message = format!(
                        "{place}: a file of another vendor's store; send the document itself"
                    );
                    return Err(Invalid::unsupported(place, message));
                }
                return Ok(json!({"type": "file", "file": {"file_id": id}}));
            }
        };
        let name = name.unwrap_or("document.pdf");
        Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
    }

    fn assistant(&mut self, turn: &Turn, place: &str) -> Result<Option<Value>, Invalid> {
        let (mut text, mut refusal, mut calls) = (String::new(), String::new(), Vec::new());
        let (mut marked, mut audio) = (None, None);
        let mut images = Vec::new();
        for part in &turn.parts {
            match &part.kind {
                PartKind::Text { text: more, .. } => {
                    text.push_str(more);
                    marked = part.cache.as_ref().or(marked);
                }
                PartKind::Refusal(more) => refusal.push_str(more),
                PartKind::ToolUse(call) => calls.push(self.call(call)),
                PartKind::Thinking { .. } | PartKind::Redacted(_) => {}
                PartKind::Image { media, .. } if self.row.thoughts == Thoughts::Details => {
                    if let Media::Inline { mime, data } = media {
                        let url = format!("data:{mime};base64,{data}");
                        images.push(json!({"type": "image_url", "image_url": {"url": url}}));
                    }
                }
                PartKind::Foreign(block) if self.request.from == Dialect::Chat => {
                    audio = block.get("audio").cloned();
                }
                PartKind::Foreign(block) => self.drop_foreign(block),
                _ => self.changes.dropped(&format!("{place}.content")),
            }
        }
        self.tell_marks(&turn.parts);
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        let content = match (marked, self.row.cache_marks) {
            (Some(mark), true) if !text.is_empty() => {
                let part = json!({"type": "text", "text": text});
                Value::Array(vec![with_mark(part, Some(mark), true)])
            }
            _ if text.is_empty()
                && (!calls.is_empty() || !refusal.is_empty() || audio.is_some()) =>
            {
                Value::Null
            }
            _ => Value::String(text),
        };
        let says_nothing = content == "" && images.is_empty();
        message.insert("content".to_owned(), content);
        self.thoughts(turn, &mut message);
        let thinks = ["reasoning_content", "reasoning", "reasoning_details"]
            .iter()
            .any(|field| message.contains_key(*field));
        if says_nothing && calls.is_empty() && !thinks {
            return Ok(None);
        }
        if let Some(name) = &turn.name {
            message.insert("name".to_owned(), name.as_str().into());
        }
        if !refusal.is_empty() {
            message.insert("refusal".to_owned(), refusal.into());
        }
        if let Some(audio) = audio {
            message.insert("audio".to_owned(), audio);
        }
        if !images.is_empty() {
            message.insert("images".to_owned(), Value::Array(images));
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        Ok(Some(Value::Object(message)))
    }

    fn call(&mut self, call: &ToolUse) -> Value {
        if call.custom {
            return json!({
                "id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments},
            });
        }
        json!({
            "id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments},
        })
    }

    /// Thoughts of earlier turns, where the provider takes them back.
    fn thoughts(&mut self, turn: &Turn, message: &mut Map<String, Value>) {
        let fits = |signature: &Signature| match self.row.thoughts {
            Thoughts::Details => {
                let vendor = vendor(self.upstream.model);
                vendor == Some(signature.origin) || origin_of(format_of(signature.origin)).is_none()
            }
            _ => false,
        };
        let (mut text, mut details, mut lost) = (String::new(), Vec::new(), false);
        for part in &turn.parts {
            match &part.kind {
                PartKind::Thinking {
                    text: more,
                    signature,
                } => {
                    text.push_str(more);
                    match signature {
                        Some(signature) if fits(signature) => {
                            details.push(text_detail(Some(more), signature, details.len()));
                        }
                        Some(_) => lost = true,
                        None => {}
                    }
                }
                PartKind::Redacted(signature) if fits(signature) => {
                    details.push(encrypted_detail(signature, details.len()));
                }
                PartKind::Text {
                    signature: Some(signature),
                    ..
                } if fits(signature) => {
                    details.push(text_signature_detail(signature, details.len()));
                }
                PartKind::Redacted(_)
                | PartKind::Text {
                    signature: Some(_), ..
                } => lost = true,
                PartKind::ToolUse(call) => lost |= call.signature.is_some(),
                _ => {}
            }
        }
        if lost {
            self.changes.dropped("thinking.signature");
        }
        let field = match self.row.thoughts {
            Thoughts::Nowhere if text.is_empty() => return,
            Thoughts::Nowhere => return self.changes.dropped("thinking"),
            Thoughts::Field(field) => field,
            Thoughts::Details => "reasoning",
            Thoughts::Parts | Thoughts::AsTheyCame => "reasoning_content",
        };
        if !text.is_empty() {
            message.insert(field.to_owned(), text.into());
        }
        if !details.is_empty() {
            message.insert("reasoning_details".to_owned(), Value::Array(details));
        }
    }

    fn tools(&mut self, body: &mut Map<String, Value>) -> Result<(), Invalid> {
        let request = self.request;
        let mut tools = Vec::with_capacity(request.tools.len());
        for (at, tool) in request.tools.iter().enumerate() {
            if let Some(tool) = self.tool(tool, at)? {
                tools.push(tool);
            }
        }
        if tools.is_empty() {
            return match &request.tool_choice {
                Some(ToolChoice::Required | ToolChoice::Named(_)) => Err(Invalid::unsupported(
                    "tool_choice",
                    "tool_choice asks for a call, and there is no tool that this provider knows",
                )),
                _ => Ok(()),
            };
        }
        body.insert("tools".to_owned(), Value::Array(tools));
        if let Some(choice) = &request.tool_choice {
            body.insert("tool_choice".to_owned(), self.choice(choice)?);
        }
        if let Some(parallel) = request.parallel_tool_calls {
            body.insert("parallel_tool_calls".to_owned(), parallel.into());
        }
        Ok(())
    }

    fn tool(&mut self, tool: &Tool, at: usize) -> Result<Option<Value>, Invalid> {
        let value = match &tool.kind {
            ToolKind::Function {
                name,
                description,
                parameters,
                strict,
            } => {
                let mut function = json!({"name": name});
                if let Some(description) = description {
                    function["description"] = description.as_str().into();
                }
                if let Some(parameters) = parameters {
                    function["parameters"] = parameters.clone();
                }
                if let Some(strict) = strict {
                    function["strict"] = (*strict).into();
                }
                json!({"type": "function", "function": function})
            }
            ToolKind::Custom {
                name,
                description,
                format,
            } => {
                let mut custom = json!({"name": name});
                if let Some(description) = description {
                    custom["description"] = description.as_str().into();
                }
                if let Some(format) = format {
                    custom["format"] = grammar(format);
                }
                json!({"type": "custom", "custom": custom})
            }
            ToolKind::Hosted { definition, .. } if self.request.from == Dialect::Chat => {
                definition.clone()
            }
            ToolKind::Hosted { kind, .. } => {
                if self.request.tool_choice == Some(ToolChoice::Named(kind.clone())) {
                    let message = format!("{} has no tool {kind}", self.upstream.slug.as_str());
                    return Err(Invalid::unsupported(format!("tools[{at}]"), message));
                }
                self.changes.dropped(&format!("tools.{kind}"));
                return Ok(None);
            }
        };
        if tool.cache.is_some() && !self.row.cache_marks {
            self.changes.dropped("cache_control");
        }
        let mark = tool.cache.as_ref();
        Ok(Some(with_mark(value, mark, self.row.cache_marks)))
    }

    fn choice(&self, choice: &ToolChoice) -> Result<Value, Invalid> {
        let named = |name: &String| {
            let found = self.request.tools.iter().find(|tool| tool.name() == name);
            match found.map(|tool| &tool.kind) {
                Some(ToolKind::Custom { .. }) => {
                    json!({"type": "custom", "custom": {"name": name}})
                }
                _ => json!({"type": "function", "function": {"name": name}}),
            }
        };
        Ok(match choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => named(name),
            ToolChoice::Allowed { required, names } => {
                let mode = if *required { "required" } else { "auto" };
                let tools: Vec<Value> = names.iter().map(named).collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
            }
        })
    }

    fn bounds_and_sampling(&mut self, body: &mut Map<String, Value>) {
        let request = self.request;
        if let Some(bound) = request.max_tokens {
            let is_unknown = self.row.thoughts == Thoughts::AsTheyCame;
            let only_new = openai::rules(self.upstream.model).completion_tokens_only;
            let name = match self.row.bound {
                Bound::Completion => "max_completion_tokens",
                _ if is_unknown && only_new => "max_completion_tokens",
                _ => "max_tokens",
            };
            body.insert(name.to_owned(), bound.into());
        }
        let rules = openai::rules(self.upstream.model);
        let effort = request.reasoning.as_ref().and_then(wanted_effort);
        let effort = effort.and_then(|effort| rules.fit(effort));
        // A client of another dialect cannot know what OpenAI's reasoning models refuse; chat's own gets OpenAI's word for it.
        let refused = self.row.bound == Bound::Completion
            && request.from != Dialect::Chat
            && rules.refuses_sampling(effort);
        for (name, value) in [
            ("temperature", request.temperature),
            ("top_p", request.top_p),
            ("presence_penalty", request.presence_penalty),
            ("frequency_penalty", request.frequency_penalty),
        ] {
            match value {
                Some(_) if refused => self.changes.dropped(name),
                Some(value) => {
                    body.insert(name.to_owned(), number(value));
                }
                None => {}
            }
        }
        match request.top_k {
            Some(top_k) if self.row.top_k => {
                body.insert("top_k".to_owned(), top_k.into());
            }
            Some(_) => self.changes.dropped("top_k"),
            None => {}
        }
        if !request.stop.is_empty() {
            let bound = match self.row.bound {
                Bound::Completion => CHAT_STOPS_MAX,
                _ => request.stop.len(),
            };
            if bound < request.stop.len() {
                self.changes.clamped("stop", bound);
            }
            let texts: Vec<&str> = request
                .stop
                .iter()
                .take(bound)
                .map(String::as_str)
                .collect();
            body.insert("stop".to_owned(), json!(texts));
        }
        if let Some(seed) = request.seed {
            body.insert("seed".to_owned(), seed.into());
        }
        if let Some(choices) = request.choices {
            body.insert("n".to_owned(), choices.into());
        }
        if let Some(top) = request.logprobs {
            body.insert("logprobs".to_owned(), true.into());
            if top > 0 {
                body.insert("top_logprobs".to_owned(), top.into());
            }
        }
        if request.stream {
            body.insert("stream".to_owned(), true.into());
            if request.include_usage {
                body.insert("stream_options".to_owned(), json!({"include_usage": true}));
            }
        }
    }

    fn format(&mut self, body: &mut Map<String, Value>) {
        let format = match &self.request.format {
            None => return,
            Some(Format::Text) => json!({"type": "text"}),
            Some(Format::JsonObject) => json!({"type": "json_object"}),
            Some(Format::JsonSchema {
                name,
                description,
                schema,
                strict,
            }) => {
                let mut inner = json!({"name": name.as_deref().unwrap_or("response")});
                if let Some(description) = description {
                    inner["description"] = description.as_str().into();
                }
                inner["schema"] = schema.clone();
                if let Some(strict) = strict {
                    inner["strict"] = (*strict).into();
                }
                json!({"type": "json_schema", "json_schema": inner})
            }
        };
        body.insert("response_format".to_owned(), format);
    }

    fn reasoning(&mut self, body: &mut Map<String, Value>) {
        let Some(reasoning) = &self.request.reasoning else {
            return;
        };
        let effort = wanted_effort(reasoning);
        if self.upstream.slug == Slug::OpenRouter {
            let mut told = Map::new();
            match (reasoning.effort, reasoning.budget) {
                (Some(effort), _) => {
                    told.insert("effort".to_owned(), effort.name().into());
                }
                (None, Some(budget)) => {
                    told.insert("max_tokens".to_owned(), budget.into());
                }
                (None, None) => {
                    told.insert("enabled".to_owned(), true.into());
                }
            }
            if reasoning.visible == Some(false) {
                told.insert("exclude".to_owned(), true.into());
            }
            body.insert("reasoning".to_owned(), Value::Object(told));
            return;
        }
        if self.upstream.slug == Slug::DeepSeek
            && effort.is_none_or(|effort| effort != Effort::None)
            && (reasoning.adaptive || reasoning.budget.is_some())
        {
            body.insert("thinking".to_owned(), json!({"type": "enabled"}));
            return;
        }
        let Some(wanted) = effort else { return };
        // As with sampling: chat's own clients know what they write.
        let fitted = match self.row.bound {
            Bound::Completion if self.request.from != Dialect::Chat => {
                openai::rules(self.upstream.model).fit(wanted)
            }
            _ => Some(wanted),
        };
        match fitted {
            None => self.changes.dropped("reasoning_effort"),
            Some(fitted) => {
                if fitted != wanted {
                    self.changes.clamped("reasoning_effort", fitted.name());
                }
                body.insert("reasoning_effort".to_owned(), fitted.name().into());
            }
        }
    }

    fn bookkeeping(&mut self, body: &mut Map<String, Value>) {
        let request = self.request;
        let own = request.from == Dialect::Chat;
        if let Some(user) = &request.user {
            let user = match user.chars().count() > CHAT_USER_MAX && !own {
                true => {
                    self.changes.set("user", "hash");
                    let digest = Sha256::digest(user.as_bytes());
                    digest.iter().map(|byte| format!("{byte:02x}")).collect()
                }
                false => user.clone(),
            };
            body.insert("user".to_owned(), user.into());
        }
        let tier = request.service_tier.as_deref();
        match (request.from, tier) {
            (_, None) => {}
            (Dialect::Messages, Some("standard_only")) => {
                body.insert("service_tier".to_owned(), "default".into());
            }
            (_, Some(tier)) => {
                body.insert("service_tier".to_owned(), tier.into());
            }
        }
        if !request.metadata.is_empty() {
            // OpenAI takes metadata of what it stores only, and stores no chat unasked.
            match own {
                true => {
                    let metadata = Value::Object(request.metadata.clone());
                    body.insert("metadata".to_owned(), metadata);
                }
                false => self.changes.dropped("metadata"),
            }
        }
        for (name, value) in &request.extra {
            match own || SHARED.contains(&name.as_str()) {
                true => {
                    body.entry(name).or_insert_with(|| value.clone());
                }
                false => self.changes.dropped(name),
            }
        }
    }

    fn drop_foreign(&mut self, block: &Value) {
        let kind = block["type"].as_str().unwrap_or("block");
        self.changes.dropped(&format!("content.{kind}"));
    }
}

/// Top-level fields of other dialects that mean the same in chat.
const SHARED: [&str; 3] = [
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
];

/// How much thinking is asked for, in words.
fn wanted_effort(reasoning: &super::super::neutral::Reasoning) -> Option<Effort> {
    reasoning
        .effort
        .or_else(|| reasoning.budget.map(Effort::of_budget))
}

/// A number as the client wrote it: whole ones without a point.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}

fn is_shown(part: &Part) -> bool {
    match &part.kind {
        PartKind::Image { .. } | PartKind::Audio(_) | PartKind::Video(_) => true,
        PartKind::Document { media, .. } => !matches!(media, Media::Text(_)),
        _ => false,
    }
}

fn titled(name: Option<&str>, text: &str) -> Value {
    let text = match name {
        Some(name) => format!("{name}\n\n{text}"),
        None => text.to_owned(),
    };
    json!({"type": "text", "text": text})
}

fn with_mark(mut value: Value, mark: Option<&CacheMark>, takes: bool) -> Value {
    if let Some(mark) = mark.filter(|_| takes) {
        let mut written = json!({"type": "ephemeral"});
        if let Some(ttl) = &mark.ttl {
            written["ttl"] = ttl.as_str().into();
        }
        value["cache_control"] = written;
    }
    value
}

/// Responses writes a grammar flat, chat in an object of its own.
fn grammar(format: &Value) -> Value {
    match format["type"] == "grammar" && format.get("grammar").is_none() {
        true => json!({
            "type": "grammar",
            "grammar": {"definition": format["definition"], "syntax": format["syntax"]},
        }),
        false => format.clone(),
    }
}

fn not_fetched(place: &str, slug: Slug) -> Invalid {
    let message = format!(
        "{place}: {} does not fetch this address itself, and the gateway does so only with media.fetch = true",
        slug.as_str()
    );
    Invalid::unsupported(place, message)
}
