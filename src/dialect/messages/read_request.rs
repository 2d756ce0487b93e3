//! A request of a client that speaks Messages, for providers that do not.

use serde_json::{Map, Value, json};

use super::super::Dialect;
use super::super::failure::Invalid;
use super::super::fields::{Fields, wrong};
use super::super::neutral::{
    CacheMark, Effort, Format, Part, Reasoning, Request, Role, Tool, ToolChoice, ToolKind, Turn,
};
use super::read_blocks::{read_cache, read_content};

/// Reads a request.
pub fn read_request(body: Value) -> Result<Request, Invalid> {
    let mut fields = Fields::of(body, "")?;
    let mut request = Request::new(Dialect::Messages, fields.required_text("model")?);
    let mut notes = Notes::default();
    if let Some(system) = fields.take("system") {
        request.system = read_content(system, "system", &mut notes)?;
    }
    let turns = fields.list("messages")?;
    for (at, turn) in turns.unwrap_or_default().into_iter().enumerate() {
        request
            .turns
            .push(read_turn(turn, format!("messages[{at}]"), &mut notes)?);
    }
    for (at, tool) in fields
        .list("tools")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        request
            .tools
            .push(read_tool(tool, format!("tools[{at}]"), &mut notes)?);
    }
    if let Some(choice) = fields.inner("tool_choice")? {
        read_tool_choice(choice, &mut request)?;
    }
    request.max_tokens = fields.count("max_tokens")?;
    request.temperature = fields.number("temperature")?;
    request.top_p = fields.number("top_p")?;
    request.top_k = fields.count("top_k")?;
    request.stop = read_stop(&mut fields)?;
    request.stream = fields.truth("stream")?.unwrap_or_default();
    request.include_usage = true;
    request.service_tier = fields.text("service_tier")?;
    read_metadata(&mut fields, &mut request)?;
    read_reasoning(&mut fields, &mut request, &mut notes)?;
    if let Some(mark) = read_cache(&mut fields)? {
        mark_last(&mut request, mark);
    }
    request.extra = fields.rest();
    request.extra.extend(notes.0);
    Ok(request)
}

/// Reads `thinking`.
pub(super) fn read_thinking(thinking: Value, place: &str) -> Result<Reasoning, Invalid> {
    let mut fields = Fields::of(thinking, place)?;
    let kind = fields.required_text("type")?;
    let mut reasoning = Reasoning {
        budget: fields.count("budget_tokens")?,
        visible: match fields.text("display")?.as_deref() {
            Some("summarized") => Some(true),
            Some("omitted") => Some(false),
            _ => None,
        },
        ..Reasoning::default()
    };
    match kind.as_str() {
        // Some who speak alike know no budget.
        "enabled" => reasoning.adaptive = reasoning.budget.is_none(),
        "adaptive" => reasoning.adaptive = true,
        "disabled" | "between_tools" => reasoning.effort = Some(Effort::None),
        _ => {
            let message = format!("thinking cannot be of type {kind}");
            return Err(Invalid::at(fields.place("type"), message));
        }
    }
    Ok(reasoning)
}

/// Names of what the neutral form has no place for, below the top level: they stand among the fields that writers report as dropped.
#[derive(Default)]
pub(super) struct Notes(Map<String, Value>);

impl Notes {
    pub fn add(&mut self, field: &str) {
        self.0.insert(field.to_owned(), Value::Bool(true));
    }
}

fn read_turn(turn: Value, place: String, notes: &mut Notes) -> Result<Turn, Invalid> {
    let mut fields = Fields::of(turn, place)?;
    let role = match fields.required_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        other => {
            let message = format!("The role must be user, assistant or system, not {other}");
            return Err(Invalid::at(fields.place("role"), message));
        }
    };
    let place = fields.place("content");
    let content = fields.take("content");
    let content = content.ok_or_else(|| Invalid::at(&*place, format!("{place} is missing")))?;
    Ok(Turn::new(role, read_content(content, &place, notes)?))
}

fn read_tool(tool: Value, place: String, notes: &mut Notes) -> Result<Tool, Invalid> {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or("custom");
    if kind != "custom" {
        let kind = kind.to_owned();
        let definition = tool;
        let kind = ToolKind::Hosted { kind, definition };
        return Ok(Tool { kind, cache: None });
    }
    let mut fields = Fields::of(tool, place)?;
    fields.take("type");
    let cache = read_cache(&mut fields)?;
    let kind = ToolKind::Function {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters: fields.object("input_schema")?.map(Value::Object),
        strict: fields.truth("strict")?,
    };
    for field in fields.rest().keys() {
        notes.add(&format!("tools.{field}"));
    }
    Ok(Tool { kind, cache })
}

fn read_tool_choice(mut fields: Fields, request: &mut Request) -> Result<(), Invalid> {
    request.tool_choice = Some(match fields.required_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(fields.required_text("name")?),
        other => {
            let message = format!("tool_choice cannot be of type {other}");
            return Err(Invalid::at(fields.place("type"), message));
        }
    });
    let single = fields.truth("disable_parallel_tool_use")?;
    request.parallel_tool_calls = single.map(|single| !single);
    Ok(())
}

fn read_stop(fields: &mut Fields) -> Result<Vec<String>, Invalid> {
    let texts = fields.list("stop_sequences")?.unwrap_or_default();
    let texts = texts.into_iter().enumerate().map(|(at, text)| match text {
        Value::String(text) => Ok(text),
        other => Err(wrong(&format!("stop_sequences[{at}]"), "a string", &other)),
    });
    texts.collect()
}

fn read_metadata(fields: &mut Fields, request: &mut Request) -> Result<(), Invalid> {
    if let Some(mut metadata) = fields.inner("metadata")? {
        request.user = metadata.text("user_id")?;
        request.metadata = metadata.rest();
    }
    Ok(())
}

/// How much to think, and what the answer looks like, which stand beside each other in `output_config`.
fn read_reasoning(
    fields: &mut Fields,
    request: &mut Request,
    notes: &mut Notes,
) -> Result<(), Invalid> {
    if let Some(thinking) = fields.take("thinking") {
        request.reasoning = Some(read_thinking(thinking, "thinking")?);
    }
    let mut format = fields.inner("output_format")?;
    if let Some(mut config) = fields.inner("output_config")? {
        if let Some(word) = config.text("effort")? {
            let effort = Effort::parse(&word).ok_or_else(|| {
                Invalid::at("output_config.effort", format!("There is no effort {word}"))
            })?;
            let reasoning = request.reasoning.get_or_insert_default();
            reasoning.effort.get_or_insert(effort);
        }
        format = config.inner("format")?.or(format);
        for field in config.rest().keys() {
            notes.add(&format!("output_config.{field}"));
        }
    }
    let Some(mut format) = format else {
        return Ok(());
    };
    match format.required_text("type")?.as_str() {
        "json_schema" => {
            let schema = format.take("schema");
            let place = format.place("schema");
            request.format = Some(Format::JsonSchema {
                name: None,
                description: None,
                schema: schema
                    .ok_or_else(|| Invalid::at(&*place, format!("{place} is missing")))?,
                strict: Some(true),
            });
            Ok(())
        }
        other => Err(Invalid::at(
            format.place("type"),
            format!("There is no format {other}"),
        )),
    }
}

/// A mark for the whole request stands for one at the end of what it says.
fn mark_last(request: &mut Request, mark: CacheMark) {
    let turns = request.turns.iter_mut().rev();
    let last = turns.flat_map(|turn| turn.parts.last_mut()).next();
    let last = last.or(request.system.last_mut());
    if let Some(Part { cache, .. }) = last {
        cache.get_or_insert(mark);
    }
}

/// What `count_tokens` answers for a model whose provider counts no tokens beforehand: a guess would be taken for the truth.
pub fn count_tokens_unavailable(model: &str) -> Value {
    json!({
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": format!(
                "Tokens cannot be counted beforehand for {model}: only Anthropic's own API counts them. \
                 Read `usage` in the answer, or count with the provider's own tokenizer."
            ),
        },
    })
}
