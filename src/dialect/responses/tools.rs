//! Tools that only this dialect knows. Those that the client runs itself are declared as functions, and a call of such a function
//! goes back as what the client expects; those that OpenAI runs stay hosted, and no other provider has them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::failure::Invalid;
use super::super::fields::Fields;
use super::super::neutral::{CacheMark, Tool, ToolKind};

/// What a client knows a declared function as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guise {
    /// A function.
    Function,
    /// A tool that takes free text.
    Custom,
    /// One command at a time.
    LocalShell,
    /// Several commands.
    Shell,
    /// Changes of files.
    ApplyPatch,
    /// A search for tools, done by the client.
    ToolSearch,
}

impl Guise {
    /// Of a tool's definition; `None`: OpenAI runs it.
    fn of(tool: &Value) -> Option<Self> {
        Some(match tool["type"].as_str()? {
            "function" => Self::Function,
            "custom" => Self::Custom,
            "local_shell" => Self::LocalShell,
            "shell" if matches!(tool["environment"]["type"].as_str(), None | Some("local")) => {
                Self::Shell
            }
            "apply_patch" => Self::ApplyPatch,
            "tool_search" if tool["execution"] == "client" => Self::ToolSearch,
            _ => return None,
        })
    }

    /// The name, where the kind of tool has but one.
    fn fixed_name(self) -> Option<&'static str> {
        match self {
            Self::Function | Self::Custom => None,
            Self::LocalShell => Some("local_shell"),
            Self::Shell => Some("shell"),
            Self::ApplyPatch => Some("apply_patch"),
            Self::ToolSearch => Some("tool_search"),
        }
    }
}

/// A tool as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub guise: Guise,
    /// The client's name of it.
    pub name: String,
    /// The group of tools that it belongs to.
    pub namespace: Option<String>,
}

/// Every tool that the client runs, by the name it is declared under.
#[derive(Debug, Default)]
pub(super) struct Toolbox {
    known: HashMap<String, Known>,
}

impl Toolbox {
    /// The tools of these lists; the first of a name counts.
    pub fn of<'a>(lists: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut toolbox = Self::default();
        for tool in lists.into_iter().filter_map(Value::as_array).flatten() {
            toolbox.note(tool, None);
            if let Some(inner) = grouped(tool) {
                let namespace = tool["name"].as_str().unwrap_or_default();
                inner
                    .iter()
                    .for_each(|tool| toolbox.note(tool, Some(namespace)));
            }
        }
        toolbox
    }

    fn note(&mut self, tool: &Value, namespace: Option<&str>) {
        let Some(guise) = Guise::of(tool) else { return };
        let Some(name) = guise.fixed_name().or(tool["name"].as_str()) else {
            return;
        };
        self.known
            .entry(declared(namespace, name))
            .or_insert(Known {
                guise,
                name: name.to_owned(),
                namespace: namespace.map(str::to_owned),
            });
    }

    /// What a call of the function means to the client.
    pub fn known(&self, declared: &str) -> Option<&Known> {
        self.known.get(declared)
    }

    /// The name under which the client's tool is declared. Calls of tools that are not declared any more keep theirs, and so do
    /// those whose group holds only themselves.
    pub fn declared(&self, namespace: Option<&str>, name: String) -> String {
        let full = declared(namespace, &name);
        match self.known.contains_key(&full) {
            true => full,
            false => name,
        }
    }
}

/// The lists of tools that stand in a request: its own, and those among the items of the conversation.
pub(super) fn lists(body: &Value) -> impl Iterator<Item = &Value> {
    let items = body["input"].as_array().into_iter().flatten();
    let found = items
        .filter(|item| {
            matches!(
                item["type"].as_str(),
                Some("additional_tools" | "tool_search_output")
            )
        })
        .map(|item| &item["tools"]);
    std::iter::once(&body["tools"]).chain(found)
}

fn grouped(tool: &Value) -> Option<&Vec<Value>> {
    (tool["type"] == "namespace").then(|| tool["tools"].as_array())?
}

/// Longest name of a function that every provider takes.
const NAME_MAX: usize = 64;

fn declared(namespace: Option<&str>, name: &str) -> String {
    let Some(namespace) = namespace.map(|group| group.trim_end_matches('_')) else {
        return name.to_owned();
    };
    let full = format!("{namespace}__{name}");
    match full.len() <= NAME_MAX {
        true => full,
        false => name.to_owned(),
    }
}

/// Adds the tools of a list to what is declared. `found`: they come from the conversation, and may be declared already.
pub(super) fn declare(
    list: Vec<Value>,
    place: &str,
    found: bool,
    tools: &mut Vec<Tool>,
) -> Result<(), Invalid> {
    for (at, tool) in list.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        if tool["type"] == "namespace" {
            let mut group = Fields::of(tool, &place)?;
            let namespace = group.required_text("name")?;
            let inner = group.place("tools");
            for (at, tool) in group
                .list("tools")?
                .unwrap_or_default()
                .into_iter()
                .enumerate()
            {
                let place = format!("{inner}[{at}]");
                push(read(tool, &place, Some(&namespace))?, found, tools);
            }
        } else {
            push(read(tool, &place, None)?, found, tools);
        }
    }
    Ok(())
}

fn push(tool: Tool, found: bool, tools: &mut Vec<Tool>) {
    if !(found && tools.iter().any(|other| other.name() == tool.name())) {
        tools.push(tool);
    }
}

fn read(tool: Value, place: &str, namespace: Option<&str>) -> Result<Tool, Invalid> {
    let guise = Guise::of(&tool);
    let mut fields = Fields::of(tool, place)?;
    let kind = fields.required_text("type")?;
    let cache = cache_mark(&mut fields)?;
    let Some(guise) = guise else {
        let mut definition = fields.rest();
        definition.insert("type".to_owned(), Value::String(kind.clone()));
        let definition = Value::Object(definition);
        return Ok(Tool {
            kind: ToolKind::Hosted { kind, definition },
            cache,
        });
    };
    let name = match guise.fixed_name() {
        Some(name) => name.to_owned(),
        None => fields.required_text("name")?,
    };
    let told = fields.text("description")?.filter(|text| !text.is_empty());
    let (description, parameters) = match guise {
        Guise::Function => (told, fields.object("parameters")?.map(Value::Object)),
        Guise::Custom => (
            Some(custom_description(told, fields.take("format"))),
            Some(only_text("The tool's whole input, as plain text.")),
        ),
        Guise::LocalShell => (
            Some("Runs a command on the user's machine and returns what it prints.".to_owned()),
            Some(local_shell()),
        ),
        Guise::Shell => (
            Some("Runs shell commands and returns what each prints and how it ended.".to_owned()),
            Some(shell()),
        ),
        Guise::ApplyPatch => (
            Some("Creates, changes or deletes one file by a diff.".to_owned()),
            Some(apply_patch()),
        ),
        Guise::ToolSearch => {
            let told = told.unwrap_or_else(|| "Finds more tools for a task.".to_owned());
            let parameters = fields.object("parameters")?.map(Value::Object);
            (
                Some(told),
                Some(parameters.unwrap_or_else(|| only_text("What to look for."))),
            )
        }
    };
    let strict = fields.truth("strict")?.filter(|_| guise == Guise::Function);
    Ok(Tool {
        kind: ToolKind::Function {
            name: declared(namespace, &name),
            description,
            parameters,
            strict,
        },
        cache,
    })
}

/// Anthropic's mark, which agents set in any dialect, and OpenAI's own.
pub(super) fn cache_mark(fields: &mut Fields) -> Result<Option<CacheMark>, Invalid> {
    if let Some(mut mark) = fields.inner("cache_control")? {
        let ttl = mark.text("ttl")?;
        return Ok(Some(CacheMark { ttl }));
    }
    // Both of its lives, half an hour and half a day, are nearest to an hour.
    let mark = fields.inner("prompt_cache_breakpoint")?;
    Ok(mark.map(|_| CacheMark {
        ttl: Some("1h".to_owned()),
    }))
}

fn custom_description(told: Option<String>, format: Option<Value>) -> String {
    let mut description = told.unwrap_or_default();
    let grammar = format.filter(|format| format["type"] == "grammar");
    if let Some(grammar) = grammar {
        // Both forms are in use: flat, and as chat has it.
        let inner = grammar.get("grammar").unwrap_or(&grammar);
        let syntax = inner["syntax"].as_str().unwrap_or("lark");
        let definition = inner["definition"].as_str().unwrap_or_default();
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str(&format!(
            "`{INPUT}` must follow this grammar ({syntax}) to the letter:\n{definition}"
        ));
    }
    description
}

/// The one argument of a function that stands for a custom tool.
pub(super) const INPUT: &str = "input";

fn only_text(description: &str) -> Value {
    object(
        json!({INPUT: {"type": "string", "description": description}}),
        &[INPUT],
    )
}

fn local_shell() -> Value {
    let properties = json!({
        "command": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments."},
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    });
    object(properties, &["command"])
}

fn shell() -> Value {
    let properties = json!({
        "commands": {"type": "array", "items": {"type": "string"}, "description": "Each is run by itself."},
        "timeout_ms": {"type": "integer"},
        "max_output_length": {"type": "integer", "description": "Characters to return of each."},
    });
    object(properties, &["commands"])
}

fn apply_patch() -> Value {
    let properties = json!({
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string"},
        "diff": {"type": "string", "description": "Hunks of a V4A diff; for a new file each line with + before it."},
    });
    object(properties, &["type", "path"])
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The free text in the arguments of a function that stands for a custom tool. Models that name the argument otherwise, or write
/// the text as it is, are understood.
pub(super) fn custom_input(arguments: &str) -> String {
    let Ok(Value::Object(mut map)) = serde_json::from_str::<Value>(arguments) else {
        return arguments.to_owned();
    };
    if let Some(Value::String(text)) = map.remove(INPUT) {
        return text;
    }
    match only_value(map) {
        Some(Value::String(text)) => text,
        None if arguments.trim() == "{}" => String::new(),
        _ => arguments.to_owned(),
    }
}

fn only_value(map: Map<String, Value>) -> Option<Value> {
    let mut values = map.into_iter().map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// The arguments that stand for a custom tool's input.
pub(super) fn custom_arguments(input: String) -> String {
    json!({INPUT: input}).to_string()
}
