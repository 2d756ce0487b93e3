//! The items of a conversation into turns.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::failure::Invalid;
use super::super::fields::{Fields, wrong};
use super::super::neutral::{Media, Part, PartKind, Role, Signature, ToolUse, Turn};
use super::seal::Seal;
use super::tools::{self, Toolbox};

/// A conversation as its items tell it.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// System text before everything else.
    pub system: Vec<Part>,
    /// What follows.
    pub turns: Vec<Turn>,
    /// Lists of tools that came to light on the way, and where.
    pub found: Vec<(Vec<Value>, String)>,
}

/// Reads `input`.
pub(super) fn read(input: Value, toolbox: &Toolbox) -> Result<Conversation, Invalid> {
    let mut reader = Reader {
        toolbox,
        conversation: Conversation::default(),
        calls: HashMap::new(),
        call_seal: None,
    };
    match input {
        Value::String(text) => reader.say(Role::User, vec![Part::text(text)]),
        Value::Array(items) => {
            for (at, item) in items.into_iter().enumerate() {
                reader.item(Fields::of(item, format!("input[{at}]"))?)?;
            }
        }
        other => return Err(wrong("input", "a string or a list", &other)),
    }
    Ok(reader.conversation)
}

struct Reader<'a> {
    toolbox: &'a Toolbox,
    conversation: Conversation,
    /// Ids under which calls may be answered, and the calls' own.
    calls: HashMap<String, String>,
    /// Belongs to the next call.
    call_seal: Option<Signature>,
}

impl Reader<'_> {
    fn item(&mut self, mut item: Fields) -> Result<(), Invalid> {
        let kind = item.text("type")?;
        let kind = match kind {
            Some(kind) => kind,
            None if item.peek("role").is_some() => "message".to_owned(),
            None => "item_reference".to_owned(),
        };
        match kind.as_str() {
            "message" => self.message(item),
            "reasoning" => self.reasoning(item),
            "function_call" | "custom_tool_call" | "local_shell_call" | "shell_call"
            | "apply_patch_call" => self.call(&kind, item),
            "function_call_output"
            | "custom_tool_call_output"
            | "local_shell_call_output"
            | "shell_call_output"
            | "apply_patch_call_output" => self.output(&kind, item),
            "tool_search_call" if item.peek("call_id").is_some() => self.call(&kind, item),
            "tool_search_output" => self.found(item),
            "additional_tools" => {
                let place = item.place("tools");
                let list = item.list("tools")?.unwrap_or_default();
                self.conversation.found.push((list, place));
                Ok(())
            }
            "image_generation_call" => self.image(item),
            "item_reference" => Err(Invalid::unsupported(
                item.place("type"),
                "Items are not stored here and cannot be referred to: send the item itself. SDKs do so with store: false",
            )),
            "compaction" | "compaction_summary" | "compaction_trigger" => {
                Err(Invalid::unsupported(
                    item.place("type"),
                    "Only OpenAI can read a compacted conversation: send its items, or a summary in a message",
                ))
            }
            "computer_call" | "computer_call_output" => Err(Invalid::unsupported(
                item.place("type"),
                "This provider cannot use a computer: declare functions and send pictures in their outputs",
            )),
            kind if HOSTED.contains(&kind) => {
                self.foreign(kind, item);
                Ok(())
            }
            kind => Err(Invalid::at(
                item.place("type"),
                format!("There is no item of type {kind:?}"),
            )),
        }
    }

    fn message(&mut self, mut item: Fields) -> Result<(), Invalid> {
        let word = item.required_text("role")?;
        let role = match word.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            _ => {
                return Err(Invalid::at(
                    item.place("role"),
                    format!("{word:?} is none of user, assistant, system and developer"),
                ));
            }
        };
        let parts = content(&mut item, "content")?;
        match role {
            Role::Assistant => {
                let said = parts.into_iter().filter(|part| part.as_text() != Some(""));
                let said: Vec<Part> = said.collect();
                // Two messages one after the other are two turns; with anything between them they are one.
                let goes_on = self.last_part().is_none_or(|part| {
                    !matches!(part.kind, PartKind::Text { .. } | PartKind::Refusal(_))
                });
                match goes_on || said.is_empty() {
                    true => said.into_iter().for_each(|part| self.assistant(part)),
                    false => self.say(Role::Assistant, said),
                }
            }
            Role::System => {
                if let Some(at) = parts.iter().position(|part| part.as_text().is_none()) {
                    return Err(Invalid::unsupported(
                        format!("{}[{at}]", item.place("content")),
                        format!("A {word} message holds nothing but text"),
                    ));
                }
                match self.conversation.turns.is_empty() {
                    true => self.conversation.system.extend(parts),
                    false => self.say(Role::System, parts),
                }
            }
            Role::User => self.say(Role::User, parts),
        }
        Ok(())
    }

    fn reasoning(&mut self, mut item: Fields) -> Result<(), Invalid> {
        let raw = texts(&mut item, "content", "")?;
        let summary = texts(&mut item, "summary", "\n\n")?;
        let text = if raw.is_empty() { summary } else { raw };
        let seal = item.text("encrypted_content")?;
        let seal = seal
            .filter(|seal| !seal.is_empty())
            .map(|seal| Seal::read(&seal));
        let signature = match seal {
            Some(Seal::Thought(signature)) => Some(signature),
            Some(Seal::Redacted(signature)) => {
                self.assistant(PartKind::Redacted(signature).into());
                None
            }
            Some(Seal::Call(signature)) => {
                self.call_seal = Some(signature);
                None
            }
            Some(Seal::Text(seal)) => {
                if let Some(PartKind::Text { signature, .. }) =
                    self.last_part().map(|part| &mut part.kind)
                {
                    *signature = Some(seal);
                }
                None
            }
            None => None,
        };
        if !text.is_empty() || signature.is_some() {
            self.assistant(PartKind::Thinking { text, signature }.into());
        }
        Ok(())
    }

    fn call(&mut self, kind: &str, mut item: Fields) -> Result<(), Invalid> {
        let own = item.text("id")?;
        let id = item.text("call_id")?.or_else(|| own.clone());
        let id = id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| missing(&item, "call_id"))?;
        let namespace = item.text("namespace")?;
        let (name, arguments) = match kind {
            "function_call" => (item.required_text("name")?, arguments(&mut item)?),
            "custom_tool_call" => {
                let input = item.text("input")?.unwrap_or_default();
                (item.required_text("name")?, tools::custom_arguments(input))
            }
            "local_shell_call" => ("local_shell".to_owned(), action(&mut item, "action")?),
            "shell_call" => ("shell".to_owned(), action(&mut item, "action")?),
            "apply_patch_call" => ("apply_patch".to_owned(), action(&mut item, "operation")?),
            _ => ("tool_search".to_owned(), arguments(&mut item)?),
        };
        let name = self.toolbox.declared(namespace.as_deref(), name);
        if let Some(own) = own {
            self.calls.insert(own, id.clone());
        }
        self.calls.insert(id.clone(), id.clone());
        let signature = self.call_seal.take();
        let call = ToolUse {
            id,
            name,
            arguments,
            custom: false,
            signature,
        };
        self.assistant(PartKind::ToolUse(call).into());
        Ok(())
    }

    fn output(&mut self, kind: &str, mut item: Fields) -> Result<(), Invalid> {
        let id = self.answered(&mut item)?;
        let (content, is_error) = match kind {
            "shell_call_output" => {
                let output = item.take("output").unwrap_or_default();
                (vec![Part::text(output.to_string())], false)
            }
            "apply_patch_call_output" => {
                let failed = item.text("status")?.as_deref() == Some("failed");
                let told = item.text("output")?;
                let told =
                    told.unwrap_or_else(|| if failed { "failed" } else { "done" }.to_owned());
                (vec![Part::text(told)], failed)
            }
            _ => output(&mut item)?,
        };
        self.result(id, content, is_error);
        Ok(())
    }

    /// What a search for tools brought. One that OpenAI did answers no call.
    fn found(&mut self, mut item: Fields) -> Result<(), Invalid> {
        let place = item.place("tools");
        let list = item.list("tools")?.unwrap_or_default();
        if item.peek("call_id").is_some() {
            let id = self.answered(&mut item)?;
            let names: Vec<&Value> = list.iter().map(|tool| &tool["name"]).collect();
            self.result(
                id,
                vec![Part::text(json!({"tools": names}).to_string())],
                false,
            );
        }
        self.conversation.found.push((list, place));
        Ok(())
    }

    /// The call that an output answers.
    fn answered(&mut self, item: &mut Fields) -> Result<String, Invalid> {
        let place = item.place("call_id");
        let id = match item.text("call_id")? {
            Some(id) => id,
            None => item.text("id")?.ok_or_else(|| missing(item, "call_id"))?,
        };
        self.calls.get(&id).cloned().ok_or_else(|| {
            Invalid::at(
                place,
                format!("No call before this output has the id {id:?}"),
            )
        })
    }

    fn result(&mut self, id: String, content: Vec<Part>, is_error: bool) {
        let part = Part::from(PartKind::ToolResult {
            id,
            content,
            is_error,
        });
        match self.conversation.turns.last_mut() {
            Some(Turn {
                role: Role::User,
                parts,
                ..
            }) if matches!(
                parts.last(),
                Some(Part {
                    kind: PartKind::ToolResult { .. },
                    ..
                })
            ) =>
            {
                parts.push(part);
            }
            _ => self.say(Role::User, vec![part]),
        }
    }

    fn image(&mut self, mut item: Fields) -> Result<(), Invalid> {
        let Some(data) = item.text("result")? else {
            return Ok(());
        };
        let format = item.text("output_format")?;
        let mime = format!("image/{}", format.as_deref().unwrap_or("png"));
        let media = Media::Inline { mime, data };
        self.assistant(
            PartKind::Image {
                media,
                detail: None,
            }
            .into(),
        );
        Ok(())
    }

    /// What OpenAI did by itself. The text that follows says what came of it.
    fn foreign(&mut self, kind: &str, item: Fields) {
        let mut whole = Map::new();
        whole.insert("type".to_owned(), Value::from(kind));
        whole.extend(item.rest());
        self.assistant(PartKind::Foreign(Value::Object(whole)).into());
    }

    fn say(&mut self, role: Role, parts: Vec<Part>) {
        self.conversation.turns.push(Turn::new(role, parts));
    }

    /// Adds to what the model said last.
    fn assistant(&mut self, part: Part) {
        match self.conversation.turns.last_mut() {
            Some(turn) if turn.role == Role::Assistant => turn.parts.push(part),
            _ => self.say(Role::Assistant, vec![part]),
        }
    }

    /// The last thing the model said, if nobody spoke after it.
    fn last_part(&mut self) -> Option<&mut Part> {
        let last = self.conversation.turns.last_mut();
        last.filter(|turn| turn.role == Role::Assistant)
            .and_then(|turn| turn.parts.last_mut())
    }
}

/// Items of tools that OpenAI runs.
const HOSTED: [&str; 11] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "tool_search_call",
    "configuration_update",
    "program",
    "program_output",
];

fn missing(item: &Fields, field: &str) -> Invalid {
    let place = item.place(field);
    Invalid::at(&place, format!("{place} is missing"))
}

/// Arguments of a call; some write them as an object.
fn arguments(item: &mut Fields) -> Result<String, Invalid> {
    match item.take("arguments") {
        None => Ok("{}".to_owned()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok("{}".to_owned()),
        Some(Value::String(text)) => Ok(text),
        Some(object @ Value::Object(_)) => Ok(object.to_string()),
        Some(other) => Err(wrong(&item.place("arguments"), "a string", &other)),
    }
}

/// What a tool of its own kind is to do, as arguments of the function that stands for it.
fn action(item: &mut Fields, field: &str) -> Result<String, Invalid> {
    let mut action = item.object(field)?.ok_or_else(|| missing(item, field))?;
    action.retain(|name, value| !value.is_null() && (name != "type" || field == "operation"));
    Ok(Value::Object(action).to_string())
}

/// A function's or a custom tool's output, and whether it tells of a failure.
fn output(item: &mut Fields) -> Result<(Vec<Part>, bool), Invalid> {
    // An older form: {"content": ..., "success": false}.
    if let Some(Value::Object(_)) = item.peek("output")
        && let Some(mut inner) = item.inner("output")?
    {
        let failed = inner.truth("success")? == Some(false);
        return Ok((content(&mut inner, "content")?, failed));
    }
    Ok((content(item, "output")?, false))
}

/// Text, or a list of contents.
fn content(item: &mut Fields, field: &str) -> Result<Vec<Part>, Invalid> {
    let place = item.place(field);
    match item.take(field) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(list)) => {
            let mut parts = Vec::with_capacity(list.len());
            for (at, value) in list.into_iter().enumerate() {
                parts.push(part(Fields::of(value, format!("{place}[{at}]"))?)?);
            }
            Ok(parts)
        }
        Some(other) => Err(wrong(&place, "a string or a list", &other)),
    }
}

fn part(mut fields: Fields) -> Result<Part, Invalid> {
    let kind = fields.required_text("type")?;
    let cache = tools::cache_mark(&mut fields)?;
    let kind = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            PartKind::Text {
                text: fields.required_text("text")?,
                citations: Vec::new(),
                signature: None,
            }
        }
        "refusal" => PartKind::Refusal(fields.required_text("refusal")?),
        "input_image" | "computer_screenshot" => image(&mut fields)?,
        "input_file" => file(&mut fields)?,
        "input_audio" => audio(&mut fields)?,
        other => {
            return Err(Invalid::at(
                fields.place("type"),
                format!("There is no content of type {other:?}"),
            ));
        }
    };
    Ok(Part { kind, cache })
}

fn image(fields: &mut Fields) -> Result<PartKind, Invalid> {
    let detail = fields.text("detail")?;
    // Clients that speak chat as well wrap the address.
    let url = match fields.peek("image_url") {
        Some(Value::Object(_)) => match fields.inner("image_url")? {
            Some(mut inner) => inner.text("url")?,
            None => None,
        },
        _ => fields.text("image_url")?,
    };
    let media = match (url, fields.text("file_id")?) {
        (Some(url), _) => at_address(url, &fields.place("image_url"))?,
        (None, Some(id)) => Media::File(id),
        (None, None) => return Err(missing(fields, "image_url")),
    };
    Ok(PartKind::Image { media, detail })
}

fn file(fields: &mut Fields) -> Result<PartKind, Invalid> {
    let name = fields.text("filename")?;
    let data = fields.text("file_data")?;
    let url = fields.text("file_url")?;
    let media = match (data, url, fields.text("file_id")?) {
        (Some(data), _, _) if data.starts_with("data:") => {
            at_address(data, &fields.place("file_data"))?
        }
        (Some(data), _, _) => Media::Inline {
            mime: mime_of(name.as_deref(), &data).to_owned(),
            data,
        },
        (None, Some(url), _) => at_address(url, &fields.place("file_url"))?,
        (None, None, Some(id)) => Media::File(id),
        (None, None, None) => return Err(missing(fields, "file_data")),
    };
    Ok(PartKind::Document { media, name })
}

/// The type of a file that comes without one: by its name, else by how it begins.
fn mime_of(name: Option<&str>, data: &str) -> &'static str {
    let ending = name
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, ending)| ending);
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("txt" | "text" | "log") => "text/plain",
        Some("md") => "text/markdown",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("json") => "application/json",
        Some("doc") => "application/msword",
        Some("docx") => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Some("xls") => "application/vnd.ms-excel",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Some("pdf") => "application/pdf",
        // `%PDF-`
        _ if data.starts_with("JVBERi") => "application/pdf",
        _ => "application/octet-stream",
    }
}

fn audio(fields: &mut Fields) -> Result<PartKind, Invalid> {
    let mut inner = fields
        .inner("input_audio")?
        .ok_or_else(|| missing(fields, "input_audio"))?;
    let data = inner.required_text("data")?;
    let mime = match inner.text("format")?.as_deref() {
        Some("mp3") => "audio/mp3".to_owned(),
        Some(format) => format!("audio/{format}"),
        None => "audio/wav".to_owned(),
    };
    Ok(PartKind::Audio(Media::Inline { mime, data }))
}

/// What an address leads to; what it holds itself is not copied.
fn at_address(mut url: String, place: &str) -> Result<Media, Invalid> {
    if !url.starts_with("data:") {
        return Ok(Media::Url { url, mime: None });
    }
    let head = url.find(',').map(|comma| url[5..comma].to_owned());
    let Some(head) = head.filter(|head| head.to_ascii_lowercase().ends_with(";base64")) else {
        return Err(Invalid::at(
            place,
            format!("{place} must be an address, or data:TYPE;base64,DATA"),
        ));
    };
    url.drain(..5 + head.len() + 1);
    let mime = head.split(';').next().unwrap_or_default();
    let mime = match mime.is_empty() {
        true => "text/plain".to_owned(),
        false => mime.to_ascii_lowercase(),
    };
    Ok(Media::Inline { mime, data: url })
}

/// The texts of a list, joined.
fn texts(item: &mut Fields, field: &str, between: &str) -> Result<String, Invalid> {
    let place = item.place(field);
    let list = item.list(field)?.unwrap_or_default();
    let mut texts = Vec::with_capacity(list.len());
    for (at, value) in list.into_iter().enumerate() {
        let mut inner = Fields::of(value, format!("{place}[{at}]"))?;
        texts.push(inner.text("text")?.unwrap_or_default());
    }
    Ok(texts.join(between))
}
