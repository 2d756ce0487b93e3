//! Tools and whether they are called. Converse cannot say "none", wants the tools declared while the history has calls, and most
//! families cannot be made to call.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::turns::cache_point;
use super::wire::{InputSchema, ToolBlock, ToolConfig};
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::models::others::{Abilities, Caching};
use crate::dialect::neutral::{Request, Tool, ToolChoice, ToolKind};
use crate::dialect::schema;

/// What decides about tools beside the request.
pub(super) struct Terms<'t> {
    pub abilities: &'t Abilities,
    /// The model knows Anthropic's own `tool_choice`, which says more than Converse's.
    pub claude: bool,
    /// It can be made to call, as it will think.
    pub forcible: bool,
    /// The turns hold calls.
    pub has_calls: bool,
    /// The tool whose arguments are the answer.
    pub output: Option<&'t OutputTool>,
}

/// A tool that stands for the form of the answer.
pub(super) struct OutputTool {
    pub name: String,
    pub schema: Value,
}

/// What goes up.
#[derive(Default)]
pub(super) struct Tools<'a> {
    pub config: Option<ToolConfig<'a>>,
    /// Anthropic's `tool_choice`, for `additionalModelRequestFields`. Never beside Converse's own.
    pub anthropic_choice: Option<Value>,
}

/// Writes the tools.
pub(super) fn write<'a>(
    request: &'a Request,
    terms: &Terms<'a>,
    changes: &mut Changes,
) -> Result<Tools<'a>, Invalid> {
    let mut blocks = Vec::with_capacity(request.tools.len());
    for (at, tool) in request.tools.iter().enumerate() {
        if let Some(names) = allowed(request)
            && !names.iter().any(|name| name == tool.name())
        {
            continue;
        }
        declare(tool, at, terms.abilities, &mut blocks, changes)?;
    }
    let declared = !blocks.is_empty();
    let mut choice = choose(request, declared, terms, changes)?;
    if let Some(output) = terms.output {
        blocks.push(spec(&output.name, Cow::Borrowed(OUTPUT), &output.schema));
        choice = match declared && choice != Choice::None {
            true => Choice::Any,
            false => Choice::Tool(&output.name),
        };
    }
    if choice == Choice::None && !terms.has_calls {
        return Ok(Tools::default());
    }
    if blocks.is_empty() {
        if !terms.has_calls {
            return Ok(Tools::default());
        }
        changes.added("tools");
        blocks.push(ToolBlock::ToolSpec {
            name: "placeholder",
            description: Some(Cow::Borrowed(
                "Stands for tools that are gone. Never call it.",
            )),
            input_schema: InputSchema {
                json: Cow::Owned(no_arguments()),
            },
            strict: None,
        });
    }
    let serial = request.parallel_tool_calls == Some(false) && declared;
    let (tool_choice, anthropic_choice) = match (terms.claude, choice, serial) {
        (true, Choice::None, _) => (None, Some(json!({"type": "none"}))),
        (true, choice, true) => (None, Some(choice.serial())),
        (_, choice, serial) => {
            if serial {
                changes.dropped("parallel_tool_calls");
            }
            (choice.converse(), None)
        }
    };
    if choice == Choice::None && !terms.claude && declared {
        // The tools must be declared, and nothing keeps the model from them.
        changes.dropped("tool_choice");
    }
    Ok(Tools {
        config: Some(ToolConfig {
            tools: blocks,
            tool_choice,
        }),
        anthropic_choice,
    })
}

const OUTPUT: &str = "Gives the answer to the user. Call it with the whole answer.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice<'a> {
    Unsaid,
    Auto,
    Any,
    Tool(&'a str),
    None,
}

impl Choice<'_> {
    fn converse(self) -> Option<Value> {
        match self {
            Self::Unsaid | Self::None => None,
            Self::Auto => Some(json!({"auto": {}})),
            Self::Any => Some(json!({"any": {}})),
            Self::Tool(name) => Some(json!({"tool": {"name": name}})),
        }
    }

    /// In Anthropic's words, one call at a time.
    fn serial(self) -> Value {
        let mut choice = match self {
            Self::Any => json!({"type": "any"}),
            Self::Tool(name) => json!({"type": "tool", "name": name}),
            Self::Unsaid | Self::Auto | Self::None => json!({"type": "auto"}),
        };
        choice["disable_parallel_tool_use"] = Value::Bool(true);
        choice
    }
}

fn allowed(request: &Request) -> Option<&[String]> {
    match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => Some(names),
        _ => None,
    }
}

fn choose<'a>(
    request: &'a Request,
    declared: bool,
    terms: &Terms<'_>,
    changes: &mut Changes,
) -> Result<Choice<'a>, Invalid> {
    let wanted = match &request.tool_choice {
        None => return Ok(Choice::Unsaid),
        Some(ToolChoice::None) => return Ok(Choice::None),
        Some(ToolChoice::Auto) => Choice::Auto,
        Some(ToolChoice::Allowed {
            required: false, ..
        }) => Choice::Auto,
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => Choice::Any,
        Some(ToolChoice::Named(name)) => {
            let known = request
                .tools
                .iter()
                .any(|tool| tool.name() == name && !matches!(tool.kind, ToolKind::Hosted { .. }));
            if !known {
                let message = format!("No tool is called {name}");
                return Err(Invalid::at("tool_choice", message));
            }
            Choice::Tool(name)
        }
    };
    if wanted != Choice::Auto && !declared {
        let message = "There is no tool that could be called";
        return Err(Invalid::at("tool_choice", message));
    }
    if !terms.abilities.tool_choice && wanted == Choice::Auto {
        // It is what the family does anyway.
        return Ok(Choice::Unsaid);
    }
    if wanted == Choice::Auto || terms.forcible {
        return Ok(wanted);
    }
    changes.set("tool_choice", "auto");
    Ok(match terms.abilities.tool_choice {
        true => Choice::Auto,
        false => Choice::Unsaid,
    })
}

fn declare<'a>(
    tool: &'a Tool,
    at: usize,
    abilities: &Abilities,
    blocks: &mut Vec<ToolBlock<'a>>,
    changes: &mut Changes,
) -> Result<(), Invalid> {
    match &tool.kind {
        ToolKind::Function {
            name,
            description,
            parameters,
            strict,
        } => {
            check_name(name, at)?;
            let description = description
                .as_deref()
                .filter(|text| !text.trim().is_empty());
            let mut json = root_object(parameters.as_ref());
            let mut kept = None;
            if *strict == Some(true) {
                match schema::strict(&json).filter(|_| abilities.json_schema) {
                    Some(closed) => {
                        json = Cow::Owned(closed);
                        kept = Some(true);
                    }
                    None => changes.dropped("tools.strict"),
                }
            }
            blocks.push(ToolBlock::ToolSpec {
                name,
                description: description.map(Cow::Borrowed),
                input_schema: InputSchema { json },
                strict: kept,
            });
        }
        ToolKind::Custom { .. } => {
            return Err(Invalid::unsupported(
                format!("tools[{at}]"),
                "Bedrock has no tools that take free text: declare a function",
            ));
        }
        ToolKind::Hosted { kind, .. } => {
            changes.dropped(kind);
            return Ok(());
        }
    }
    if let Some(mark) = &tool.cache {
        // Nova keeps a cache of system text and turns alone.
        let caching = match abilities.caching {
            Caching::Conversation => Caching::No,
            other => other,
        };
        blocks.extend(cache_point(mark, caching, changes).map(ToolBlock::CachePoint));
    }
    Ok(())
}

fn check_name(name: &str, at: usize) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(Invalid::at(
            format!("tools[{at}].function.name"),
            "Bedrock takes names of at most 64 letters, digits, underscores and hyphens",
        )),
    }
}

fn spec<'a>(name: &'a str, description: Cow<'a, str>, schema: &'a Value) -> ToolBlock<'a> {
    ToolBlock::ToolSpec {
        name,
        description: Some(description),
        input_schema: InputSchema {
            json: Cow::Borrowed(schema),
        },
        strict: None,
    }
}

fn no_arguments() -> Value {
    json!({"type": "object", "properties": {}})
}

/// The schema of a tool's arguments, which must say that they are an object.
pub(super) fn root_object(schema: Option<&Value>) -> Cow<'_, Value> {
    match schema {
        Some(Value::Object(map)) if map.contains_key("type") => {
            schema.map_or_else(|| Cow::Owned(no_arguments()), Cow::Borrowed)
        }
        Some(Value::Object(map)) => {
            let mut typed = map.clone();
            typed.insert("type".to_owned(), Value::from("object"));
            Cow::Owned(Value::Object(typed))
        }
        _ => Cow::Owned(no_arguments()),
    }
}
