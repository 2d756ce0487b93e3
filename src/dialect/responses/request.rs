//! The request around its items.

use serde_json::{Map, Value};

use super::super::failure::Invalid;
use super::super::fields::{Fields, wrong};
use super::super::neutral::{Effort, Format, Part, Reasoning, Request, ToolChoice, ToolKind};
use super::super::{Dialect, Terms};
use super::input;
use super::tools::{self, Toolbox};

/// Reads a client's request.
pub fn read_request(body: Value) -> Result<Request, Invalid> {
    let toolbox = Toolbox::of(tools::lists(&body));
    let mut fields = Fields::of(body, "")?;
    refuse_what_is_stored(&mut fields)?;
    let mut request = Request::new(Dialect::Responses, fields.required_text("model")?);
    if let Some(text) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        request.system.push(Part::text(text));
    }
    let input = fields.take("input");
    let input = input.ok_or_else(|| Invalid::at("input", "input is missing"))?;
    let conversation = input::read(input, &toolbox)?;
    request.system.extend(conversation.system);
    request.turns = conversation.turns;
    let list = fields.list("tools")?.unwrap_or_default();
    tools::declare(list, "tools", false, &mut request.tools)?;
    for (list, place) in conversation.found {
        tools::declare(list, &place, true, &mut request.tools)?;
    }
    let choice = fields.take("tool_choice");
    request.tool_choice = choice
        .map(|choice| tool_choice(choice, &toolbox, &request))
        .transpose()?;
    request.parallel_tool_calls = fields.truth("parallel_tool_calls")?;
    sampling(&mut fields, &mut request)?;
    if let Some(text) = fields.inner("text")? {
        text_options(text, &mut request)?;
    }
    if let Some(inner) = fields.inner("reasoning")? {
        request.reasoning = Some(reasoning(inner, &mut request.extra)?);
    }
    request.stream = fields.truth("stream")?.unwrap_or(false);
    request.include_usage = request.stream;
    // Obfuscation is the only thing that can be asked for, and never done here.
    fields.object("stream_options")?;
    about_the_client(&mut fields, &mut request)?;
    request.extra.extend(fields.rest());
    Ok(request)
}

/// Notes in `terms` what the answer repeats of the request, and which tools its calls may mean. To be done before
/// [`read_request`] takes the body apart.
pub fn note(body: &Value, terms: &mut Terms) {
    for field in ECHOED {
        if let Some(value) = body.get(field).filter(|value| !value.is_null()) {
            terms.echo.insert(field.to_owned(), value.clone());
        }
    }
    let found: Vec<Value> = tools::lists(body)
        .skip(1)
        .filter(|list| list.is_array())
        .cloned()
        .collect();
    if !found.is_empty() {
        terms.echo.insert(FOUND.to_owned(), Value::Array(found));
    }
}

/// Fields that an answer repeats.
const ECHOED: [&str; 17] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

/// Beside the fields that are repeated: lists of tools that stood among the items.
pub(super) const FOUND: &str = "found_tools";

/// The gateway keeps no conversations, and so cannot go on with one, run one behind the client's back, or fill in a template.
fn refuse_what_is_stored(fields: &mut Fields) -> Result<(), Invalid> {
    for (field, why) in [
        (
            "previous_response_id",
            "Responses of this provider are not stored: send the whole conversation in input, the output items of earlier \
             responses included",
        ),
        (
            "conversation",
            "Conversations of this provider are not stored: send all items in input",
        ),
        (
            "prompt",
            "Prompt templates are stored at OpenAI alone: send instructions and input",
        ),
    ] {
        if fields.take(field).is_some() {
            return Err(Invalid::unsupported(field, why));
        }
    }
    match fields.truth("background")? {
        Some(true) => Err(Invalid::unsupported(
            "background",
            "Responses of this provider are not stored, so none can be made in the background: leave background out",
        )),
        _ => Ok(()),
    }
}

fn sampling(fields: &mut Fields, request: &mut Request) -> Result<(), Invalid> {
    request.max_tokens = fields.count("max_output_tokens")?;
    request.temperature = fields.number("temperature")?;
    request.top_p = fields.number("top_p")?;
    let alternatives = fields.count("top_logprobs")?;
    let mut include = fields.list("include")?.unwrap_or_default();
    let asked = include
        .iter()
        .any(|item| item == "message.output_text.logprobs");
    if asked || alternatives.is_some_and(|count| count > 0) {
        request.logprobs = Some(alternatives.unwrap_or_default());
    }
    // Reasoning always comes with what is needed to send it back, pictures are never hidden.
    include.retain(|item| {
        item != "message.output_text.logprobs"
            && item != "reasoning.encrypted_content"
            && item != "message.input_image.image_url"
    });
    if !include.is_empty() {
        request
            .extra
            .insert("include".to_owned(), Value::Array(include));
    }
    Ok(())
}

fn text_options(mut text: Fields, request: &mut Request) -> Result<(), Invalid> {
    if let Some(verbosity) = text.text("verbosity")? {
        request
            .extra
            .insert("verbosity".to_owned(), Value::String(verbosity));
    }
    let Some(mut format) = text.inner("format")? else {
        return Ok(());
    };
    let kind = format.required_text("type")?;
    request.format = Some(match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => Format::JsonSchema {
            name: format.text("name")?,
            description: format.text("description")?,
            schema: match format.object("schema")? {
                Some(schema) => Value::Object(schema),
                None => {
                    return Err(Invalid::at(
                        "text.format.schema",
                        "text.format.schema is missing",
                    ));
                }
            },
            strict: format.truth("strict")?,
        },
        _ => {
            return Err(Invalid::unsupported(
                "text.format.type",
                format!("{kind:?} is none of text, json_object and json_schema"),
            ));
        }
    });
    Ok(())
}

fn reasoning(mut fields: Fields, extra: &mut Map<String, Value>) -> Result<Reasoning, Invalid> {
    let effort = match fields.text("effort")? {
        None => None,
        Some(word) => Some(Effort::parse(&word).ok_or_else(|| {
            Invalid::at(
                "reasoning.effort",
                format!("{word:?} is none of none, minimal, low, medium, high, xhigh and max"),
            )
        })?),
    };
    let summary = fields.text("summary")?;
    let older = fields.text("generate_summary")?;
    for (name, value) in fields.rest() {
        extra.insert(format!("reasoning.{name}"), value);
    }
    Ok(Reasoning {
        effort,
        visible: summary.or(older).map(|word| word != "none"),
        ..Reasoning::default()
    })
}

/// Who asks, and what it asks for itself.
fn about_the_client(fields: &mut Fields, request: &mut Request) -> Result<(), Invalid> {
    let user = fields.text("user")?;
    request.user = fields.text("safety_identifier")?.or(user);
    request.service_tier = fields.text("service_tier")?;
    request.metadata = fields.object("metadata")?.unwrap_or_default();
    // What is not asked for happens anyway.
    if fields.truth("store")? == Some(true) {
        request.extra.insert("store".to_owned(), Value::Bool(true));
    }
    let truncation = fields.text("truncation")?;
    if let Some(word) = truncation.filter(|word| word != "disabled") {
        request
            .extra
            .insert("truncation".to_owned(), Value::String(word));
    }
    fields.truth("background")?;
    Ok(())
}

fn tool_choice(choice: Value, toolbox: &Toolbox, request: &Request) -> Result<ToolChoice, Invalid> {
    const FIELD: &str = "tool_choice";
    let mut fields = match choice {
        Value::String(word) => {
            return Ok(match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                _ => {
                    return Err(Invalid::at(
                        FIELD,
                        format!("{word:?} is none of auto, none and required"),
                    ));
                }
            });
        }
        Value::Object(_) => Fields::of(choice, FIELD)?,
        other => return Err(wrong(FIELD, "a string or an object", &other)),
    };
    let kind = fields.required_text("type")?;
    if kind == "allowed_tools" {
        return allowed(fields, toolbox, request);
    }
    match named(&kind, &mut fields, toolbox, request)? {
        Some(name) => Ok(ToolChoice::Named(name)),
        None => Err(Invalid::unsupported(
            FIELD,
            format!("Only OpenAI runs {kind}: choose a function, or leave the choice to the model"),
        )),
    }
}

fn allowed(
    mut fields: Fields,
    toolbox: &Toolbox,
    request: &Request,
) -> Result<ToolChoice, Invalid> {
    let required = fields.text("mode")?.as_deref() == Some("required");
    let place = fields.place("tools");
    let mut names = Vec::new();
    for (at, tool) in fields
        .list("tools")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let mut tool = Fields::of(tool, format!("{place}[{at}]"))?;
        let kind = tool.required_text("type")?;
        // Hosted tools are left out here as they are among the tools.
        names.extend(named(&kind, &mut tool, toolbox, request)?);
    }
    match names.is_empty() {
        true => Err(Invalid::unsupported(
            place,
            "None of these tools is one that the client runs itself, and others only OpenAI has",
        )),
        false => Ok(ToolChoice::Allowed { required, names }),
    }
}

/// The declared name of a tool that is chosen by kind and name; `None`: OpenAI runs it.
fn named(
    kind: &str,
    fields: &mut Fields,
    toolbox: &Toolbox,
    request: &Request,
) -> Result<Option<String>, Invalid> {
    let name = match kind {
        "function" | "custom" => {
            let namespace = fields.text("namespace")?;
            toolbox.declared(namespace.as_deref(), fields.required_text("name")?)
        }
        kind => kind.to_owned(),
    };
    let is_declared = request.tools.iter().any(
        |tool| matches!(&tool.kind, ToolKind::Function { name: declared, .. } if *declared == name),
    );
    match is_declared {
        true => Ok(Some(name)),
        false if matches!(kind, "function" | "custom") => Err(Invalid::at(
            fields.place("name"),
            format!("No tool is called {name:?}"),
        )),
        false => Ok(None),
    }
}
