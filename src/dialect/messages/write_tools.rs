//! Tools for Claude, and the form of its answer, which a tool may have to bring about.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::claude::Claude;
use super::super::neutral::{Format, Request, Tool, ToolChoice, ToolKind};
use super::super::{Dialect, Unwrap, schema};
use super::wire::{Block, CacheControl};

/// The tool whose arguments are the answer in JSON.
const JSON_TOOL: &str = "json_output";
/// The tool that is declared where a conversation used tools that are not declared any more.
const PLACEHOLDER_TOOL: &str = "unavailable";

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Definition<'a> {
    Function {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Cow<'a, Value>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        strict: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl<'a>>,
    },
    Hosted(&'a Value),
}

impl Definition<'_> {
    pub fn is_marked(&self) -> bool {
        match self {
            Self::Function { cache_control, .. } => cache_control.is_some(),
            Self::Hosted(definition) => definition.get("cache_control").is_some(),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Function { name, .. } => Some(name),
            Self::Hosted(definition) => definition.get("name").and_then(Value::as_str),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Choice {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

impl Choice {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            name: None,
            disable_parallel_tool_use: false,
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::new("tool")
        }
    }

    pub fn is_forced(&self) -> bool {
        matches!(self.kind, "any" | "tool")
    }
}

/// Declares the tools; one that says nothing where only the conversation knows any.
pub(super) fn write_tools<'a>(
    request: &'a Request,
    claude: Claude,
    uses_tools: bool,
    changes: &mut Changes,
) -> Result<Vec<Definition<'a>>, Invalid> {
    let mut definitions = Vec::with_capacity(request.tools.len());
    for (at, tool) in request.tools.iter().enumerate() {
        definitions.extend(write_tool(request, at, tool, claude, changes)?);
    }
    if definitions.is_empty() && uses_tools {
        definitions.push(Definition::Function {
            name: Cow::Borrowed(PLACEHOLDER_TOOL),
            description: Some("Not available any more."),
            input_schema: Cow::Owned(no_arguments()),
            strict: false,
            cache_control: None,
        });
        changes.added("tools");
    }
    Ok(definitions)
}

fn write_tool<'a>(
    request: &Request,
    at: usize,
    tool: &'a Tool,
    claude: Claude,
    changes: &mut Changes,
) -> Result<Option<Definition<'a>>, Invalid> {
    let cache_control = tool.cache.as_ref().map(CacheControl::of);
    match &tool.kind {
        ToolKind::Function {
            name,
            description,
            parameters,
            strict,
        } => {
            let input_schema = object_schema(parameters.as_ref(), at)?;
            let closed = match strict {
                Some(true) if claude.follows_schemas() => schema::strict(&input_schema),
                _ => None,
            };
            if *strict == Some(true) && closed.is_none() {
                changes.dropped("strict");
            }
            Ok(Some(Definition::Function {
                name: Cow::Borrowed(name),
                description: description.as_deref().filter(|text| !text.is_empty()),
                strict: closed.is_some(),
                input_schema: closed.map_or(input_schema, Cow::Owned),
                cache_control,
            }))
        }
        ToolKind::Custom { .. } if request.from == Dialect::Chat => Err(Invalid::unsupported(
            format!("tools[{at}]"),
            "Claude's tools take objects; declare a function",
        )),
        ToolKind::Custom {
            name, description, ..
        } => Ok(Some(Definition::Function {
            name: Cow::Borrowed(name),
            description: description.as_deref(),
            input_schema: Cow::Owned(json!({
                "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
            })),
            strict: false,
            cache_control,
        })),
        ToolKind::Hosted { definition, .. } if request.from == Dialect::Messages => {
            Ok(Some(Definition::Hosted(definition)))
        }
        ToolKind::Hosted { kind, .. } => {
            changes.dropped(&format!("tools.{kind}"));
            Ok(None)
        }
    }
}

fn no_arguments() -> Value {
    json!({"type": "object", "properties": {}})
}

/// The schema of a tool's arguments, whose root has to say that it is an object.
fn object_schema(schema: Option<&Value>, at: usize) -> Result<Cow<'_, Value>, Invalid> {
    match schema {
        None => Ok(Cow::Owned(no_arguments())),
        Some(schema @ Value::Object(map)) => match map.get("type") {
            Some(Value::String(kind)) if kind == "object" => Ok(Cow::Borrowed(schema)),
            None | Some(Value::Null) => {
                let mut whole = Map::from_iter([("type".to_owned(), json!("object"))]);
                whole.extend(
                    map.iter()
                        .filter(|(key, _)| *key != "type")
                        .map(|(key, value)| (key.clone(), value.clone())),
                );
                Ok(Cow::Owned(Value::Object(whole)))
            }
            Some(_) => Err(Invalid::at(
                format!("tools[{at}].function.parameters"),
                "The schema of a function's parameters must be of type object",
            )),
        },
        Some(_) => Err(Invalid::at(
            format!("tools[{at}].function.parameters"),
            "The schema must be an object",
        )),
    }
}

/// Whether they may or must be called; leaves those that may.
pub(super) fn tool_choice(
    request: &Request,
    tools: &mut Vec<Definition<'_>>,
    changes: &mut Changes,
) -> Option<Choice> {
    let declared_here = request.tools.is_empty() && !tools.is_empty();
    let mut choice = match &request.tool_choice {
        _ if declared_here => Some(Choice::new("none")),
        None => None,
        Some(ToolChoice::Auto) => Some(Choice::new("auto")),
        Some(ToolChoice::None) => Some(Choice::new("none")),
        Some(ToolChoice::Required) => Some(Choice::new("any")),
        Some(ToolChoice::Named(name)) => Some(Choice::named(name)),
        Some(ToolChoice::Allowed { required, names }) => {
            tools.retain(|tool| {
                tool.name()
                    .is_some_and(|tool| names.iter().any(|name| name == tool))
            });
            changes.set("tools", "allowed_tools");
            Some(Choice::new(if *required { "any" } else { "auto" }))
        }
    };
    if request.parallel_tool_calls == Some(false) && !tools.is_empty() {
        let choice = choice.get_or_insert_with(|| Choice::new("auto"));
        choice.disable_parallel_tool_use = choice.kind != "none";
    }
    if tools.is_empty() && choice.take_if(|choice| choice.kind != "none").is_some() {
        changes.dropped("tool_choice");
    }
    choice
}

/// How the answer is brought into the form that the client wants.
pub(super) enum Shape {
    Free,
    Native(Value),
    Tool {
        name: String,
        schema: Value,
    },
    /// By a line of the system's.
    Told(String),
}

impl Shape {
    pub fn of(
        request: &Request,
        claude: Claude,
        tools: &[Definition<'_>],
        changes: &mut Changes,
    ) -> Result<Self, Invalid> {
        let wanted = match &request.format {
            None | Some(Format::Text) => return Ok(Self::Free),
            Some(Format::JsonObject) => {
                return Ok(Self::Told(
                    "Answer with one JSON object and nothing else, without a code fence."
                        .to_owned(),
                ));
            }
            Some(Format::JsonSchema { schema, .. }) => schema,
        };
        if claude.follows_schemas()
            && let Some(closed) = schema::strict(wanted)
        {
            if closed != *wanted {
                changes.set("response_format", "strict");
            }
            return Ok(Self::Native(closed));
        }
        let calls = matches!(
            request.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_))
        );
        if calls && !tools.is_empty() {
            changes.dropped("response_format");
            return Ok(Self::Free);
        }
        let is_object = wanted.get("type").is_some_and(|kind| kind == "object");
        if claude.refuses_forced_tools() || !is_object {
            return Ok(Self::Told(format!(
                "Answer with one JSON value that follows this JSON Schema, and nothing else, without a code fence:\n{wanted}"
            )));
        }
        let mut name = JSON_TOOL.to_owned();
        while tools.iter().any(|tool| tool.name() == Some(&name)) {
            name.push('_');
        }
        changes.set("response_format", "tool");
        Ok(Self::Tool {
            name,
            schema: wanted.clone(),
        })
    }

    /// Adds what makes the model answer so.
    pub fn declare<'a>(
        &self,
        tools: &mut Vec<Definition<'a>>,
        choice: &mut Option<Choice>,
        system: &mut Vec<Block<'a>>,
    ) {
        match self {
            Self::Free | Self::Native(_) => {}
            Self::Told(line) => system.push(Block::text(line.clone())),
            Self::Tool { name, schema } => {
                let may_call =
                    !tools.is_empty() && choice.as_ref().is_none_or(|choice| choice.kind != "none");
                tools.push(Definition::Function {
                    name: Cow::Owned(name.clone()),
                    description: Some("Gives the answer to the user."),
                    input_schema: Cow::Owned(schema.clone()),
                    strict: false,
                    cache_control: None,
                });
                let forced = match may_call {
                    true => Choice::new("any"),
                    false => Choice::named(name),
                };
                let one = choice
                    .as_ref()
                    .is_some_and(|choice| choice.disable_parallel_tool_use);
                *choice = Some(Choice {
                    disable_parallel_tool_use: one,
                    ..forced
                });
            }
        }
    }

    pub fn unwrap(self) -> Unwrap {
        match self {
            Self::Free | Self::Native(_) => Unwrap::Nothing,
            Self::Tool { name, .. } => Unwrap::Tool(name),
            Self::Told(_) => Unwrap::Fence,
        }
    }
}
