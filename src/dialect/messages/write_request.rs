//! A request for Claude, on Anthropic's own API, on Vertex (`rawPredict`) and on Bedrock (`InvokeModel`).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::claude::{Claude, Thinking, ThinkingOff};
use super::super::neutral::{
    Effort, Format, Media, PartKind, Reasoning, Request, Tool, ToolChoice, ToolKind,
};
use super::super::{Dialect, Unwrap, Upstream, Written, schema};
use super::wire::{Block, CacheControl, Message};
use super::write_turns::{self, Conversation};
use crate::providers::Slug;

/// Most marks of prompt caches in a request, as Anthropic counts them.
const CACHE_MARKS_MAX: usize = 4;
/// Tokens to generate where the client does not say and the model's bound is not known.
const MAX_TOKENS_UNKNOWN: u64 = 4096;
/// Tokens to generate where the client does not say.
const MAX_TOKENS_DEFAULT: u64 = 32_000;
/// Fewest tokens to think with.
const BUDGET_MIN: u64 = 1024;
/// The tool whose arguments are the answer in JSON.
const JSON_TOOL: &str = "json_output";
/// The tool that is declared where a conversation used tools that are not declared any more.
const PLACEHOLDER_TOOL: &str = "unavailable";

/// Writes a request for the upstream's model.
pub fn write_request(
    request: &Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    refuse_what_cannot_be(request)?;
    drop_what_only_tunes(request, changes);
    let claude = Claude::of(upstream.model).unwrap_or(Claude::UNNAMED);
    let mut conversation = write_turns::write(request, upstream, claude, changes)?;
    let mut tools = write_tools(request, claude, &conversation, changes)?;
    let shape = Shape::of(request, claude, &tools, changes)?;
    let reasoning = asked_reasoning(request)?;
    let mut choice = tool_choice(request, &mut tools, changes);
    let may_budget = !matches!(shape, Shape::Tool { .. });
    let mut settings = Settings::new(request, upstream, claude, changes);
    settings.think(
        reasoning.as_ref(),
        may_budget && thoughts_are_whole(&conversation.messages),
    );
    shape.declare(&mut tools, &mut choice, &mut conversation.system);
    settings.soften(&mut choice);
    settings.sample();
    if let Shape::Native(schema) = &shape {
        let format = json!({"type": "json_schema", "schema": schema});
        settings.output_config.insert("format".to_owned(), format);
    }
    let Settings {
        max_tokens,
        thinking,
        output_config,
        temperature,
        top_p,
        top_k,
        ..
    } = settings;
    let top_mark = request.extra.get("cache_control");
    let marks = usize::from(top_mark.is_some())
        + tools.iter().filter(|tool| tool.is_marked()).count()
        + conversation
            .system
            .iter_mut()
            .filter_map(Block::cache_control)
            .flatten()
            .count();
    let allowed = CACHE_MARKS_MAX.saturating_sub(marks);
    write_turns::limit_cache_marks(&mut conversation.messages, allowed, changes);
    let (version, in_path) = match upstream.slug {
        Slug::GoogleVertexAi => (Some("vertex-2023-10-16"), true),
        Slug::AwsBedrock => (Some("bedrock-2023-05-31"), true),
        _ => (None, false),
    };
    let body = Body {
        anthropic_version: version,
        model: (!in_path).then_some(upstream.model),
        max_tokens,
        system: conversation.system,
        messages: conversation.messages,
        tool_choice: choice.filter(|_| !tools.is_empty()),
        tools,
        thinking,
        output_config,
        temperature,
        top_p,
        top_k,
        stop_sequences: stop_sequences(request, changes),
        metadata: request.user.as_ref().map(|user| json!({"user_id": user})),
        service_tier: service_tier(request, changes),
        // InvokeModel has an operation of its own for streams.
        stream: request.stream && upstream.slug != Slug::AwsBedrock,
        extra: extra(request, changes),
    };
    Ok(Written {
        body: serde_json::to_vec(&body).unwrap_or_default(),
        headers: Vec::new(),
        unwrap: shape.unwrap(),
    })
}

/// Whether the provider fetches the address itself: Anthropic does, for images and PDF; Claude elsewhere does not.
pub fn takes_url(kind: &PartKind, url: &str, upstream: &Upstream<'_>) -> bool {
    let web = url.starts_with("https://") || url.starts_with("http://");
    let fetches = !matches!(upstream.slug, Slug::GoogleVertexAi | Slug::AwsBedrock);
    let readable = match kind {
        PartKind::Image { .. } => true,
        PartKind::Document {
            media: Media::Url { mime, .. },
            ..
        } => mime.as_deref().is_none_or(|mime| mime == "application/pdf"),
        _ => false,
    };
    web && fetches && readable
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Definition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Definition<'a> {
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
    fn is_marked(&self) -> bool {
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
struct Choice {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
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

    fn is_forced(&self) -> bool {
        matches!(self.kind, "any" | "tool")
    }
}

fn refuse_what_cannot_be(request: &Request) -> Result<(), Invalid> {
    if request.choices.is_some_and(|choices| choices > 1) {
        return Err(Invalid::unsupported(
            "n",
            "Claude gives one answer to a request",
        ));
    }
    if request.logprobs.is_some() {
        return Err(Invalid::unsupported(
            "logprobs",
            "Claude gives no log probabilities",
        ));
    }
    let speaks = request.extra.get("modalities").and_then(Value::as_array);
    if speaks.is_some_and(|modalities| modalities.iter().any(|modality| modality == "audio")) {
        return Err(Invalid::unsupported(
            "modalities",
            "Claude does not answer in audio",
        ));
    }
    Ok(())
}

fn drop_what_only_tunes(request: &Request, changes: &mut Changes) {
    let fields = [
        ("seed", request.seed.is_some()),
        (
            "presence_penalty",
            request
                .presence_penalty
                .is_some_and(|penalty| penalty != 0.0),
        ),
        (
            "frequency_penalty",
            request
                .frequency_penalty
                .is_some_and(|penalty| penalty != 0.0),
        ),
        ("metadata", !request.metadata.is_empty()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        changes.dropped(field);
    }
}

fn write_tools<'a>(
    request: &'a Request,
    claude: Claude,
    conversation: &Conversation<'_>,
    changes: &mut Changes,
) -> Result<Vec<Definition<'a>>, Invalid> {
    let mut definitions = Vec::with_capacity(request.tools.len());
    for (at, tool) in request.tools.iter().enumerate() {
        definitions.extend(write_tool(request, at, tool, claude, changes)?);
    }
    if definitions.is_empty() && conversation.uses_tools {
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

fn tool_choice(
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
    choice
}

/// How the answer is brought into the form that the client wants.
enum Shape {
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
    fn of(
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
    fn declare<'a>(
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

    fn unwrap(self) -> Unwrap {
        match self {
            Self::Free | Self::Native(_) => Unwrap::Nothing,
            Self::Tool { name, .. } => Unwrap::Tool(name),
            Self::Told(_) => Unwrap::Fence,
        }
    }
}

/// What the client asks of thinking; Anthropic's own field, where a client of another dialect sends it, comes first.
fn asked_reasoning(request: &Request) -> Result<Option<Reasoning>, Invalid> {
    match request.extra.get("thinking") {
        Some(thinking) if request.from != Dialect::Messages => {
            let mut reasoning = super::read_thinking(thinking.clone(), "thinking")?;
            let words = request
                .reasoning
                .as_ref()
                .and_then(|reasoning| reasoning.effort);
            reasoning.effort = reasoning.effort.or(words);
            Ok(Some(reasoning))
        }
        _ => Ok(request.reasoning.clone()),
    }
}

/// With a budget, a turn that waits for results of tools must begin with the thoughts that led to its calls.
fn thoughts_are_whole(messages: &[Message<'_>]) -> bool {
    let last = messages.iter().rfind(|message| message.role == "assistant");
    last.is_none_or(|message| {
        let calls = message
            .content
            .iter()
            .any(|block| matches!(block, Block::ToolUse { .. }));
        let thought = matches!(
            message.content.first(),
            Some(Block::Thinking { .. } | Block::RedactedThinking { .. })
        );
        !calls || thought
    })
}

/// Settings that hang together: thoughts bound tokens and forbid sampling and forced tools.
struct Settings<'a, 'c> {
    request: &'a Request,
    claude: Claude,
    changes: &'c mut Changes,
    max_output: Option<u64>,
    max_tokens: u64,
    thinking: Option<Value>,
    thinks: bool,
    has_budget: bool,
    output_config: Map<String, Value>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
}

impl<'a, 'c> Settings<'a, 'c> {
    fn new(
        request: &'a Request,
        upstream: &Upstream<'_>,
        claude: Claude,
        changes: &'c mut Changes,
    ) -> Self {
        let max_output = upstream.max_output.or(claude.max_output());
        let max_tokens = match (request.max_tokens, max_output) {
            (Some(wanted), Some(most)) if wanted > most => {
                changes.clamped("max_tokens", most);
                most
            }
            (Some(wanted), _) => wanted,
            (None, most) => {
                let default = most.map_or(MAX_TOKENS_UNKNOWN, |most| most.min(MAX_TOKENS_DEFAULT));
                changes.set("max_tokens", default);
                default
            }
        };
        Self {
            request,
            claude,
            changes,
            max_output,
            max_tokens,
            thinking: None,
            thinks: false,
            has_budget: false,
            output_config: Map::new(),
            temperature: None,
            top_p: None,
            top_k: None,
        }
    }

    fn think(&mut self, reasoning: Option<&Reasoning>, may_budget: bool) {
        let Some(reasoning) = reasoning else {
            return;
        };
        let off = reasoning.effort == Some(Effort::None)
            && !reasoning.adaptive
            && reasoning.budget.is_none();
        match self.claude.thinking() {
            _ if off => self.think_not(),
            Thinking::None => self.changes.dropped("reasoning_effort"),
            Thinking::Budget if !may_budget => self.changes.dropped("reasoning_effort"),
            Thinking::Budget => self.think_within_budget(reasoning),
            Thinking::Adaptive => match reasoning.budget {
                Some(_) if !self.claude.refuses_budget_and_sampling() && may_budget => {
                    self.think_within_budget(reasoning);
                }
                _ => self.think_adaptively(reasoning),
            },
        }
    }

    fn think_not(&mut self) {
        match self.claude.thinking_off() {
            _ if self.claude.thinking() == Thinking::None => {}
            ThinkingOff::Disabled => self.thinking = Some(json!({"type": "disabled"})),
            ThinkingOff::BetweenTools => self.thinking = Some(json!({"type": "between_tools"})),
            ThinkingOff::Never => self.changes.dropped("reasoning_effort"),
        }
    }

    fn think_within_budget(&mut self, reasoning: &Reasoning) {
        let words = reasoning
            .effort
            .filter(|effort| *effort != Effort::None)
            .unwrap_or(Effort::High);
        let mut budget = reasoning.budget.unwrap_or(words.budget()).max(BUDGET_MIN);
        if self.max_tokens <= budget {
            let room = self.max_tokens.saturating_add(budget);
            self.max_tokens = room.min(self.max_output.unwrap_or(room));
            self.changes.set("max_tokens", self.max_tokens);
            budget = budget.min(self.max_tokens.saturating_sub(1));
        }
        if budget < BUDGET_MIN {
            return self.changes.dropped("reasoning_effort");
        }
        let mut thinking = json!({"type": "enabled", "budget_tokens": budget});
        self.show(reasoning, &mut thinking);
        (self.thinks, self.has_budget) = (true, true);
    }

    fn think_adaptively(&mut self, reasoning: &Reasoning) {
        let mut thinking = json!({"type": "adaptive"});
        self.show(reasoning, &mut thinking);
        self.thinks = true;
        if reasoning.budget.is_some() {
            self.changes.set("thinking", "adaptive");
        }
        let words = reasoning.effort.filter(|effort| *effort != Effort::None);
        let Some(effort) = words.or(reasoning.budget.map(Effort::of_budget)) else {
            return;
        };
        let taken = self.claude.effort(effort, true);
        if taken != effort {
            self.changes.clamped("reasoning_effort", taken.name());
        }
        self.output_config
            .insert("effort".to_owned(), json!(taken.name()));
    }

    fn show(&mut self, reasoning: &Reasoning, thinking: &mut Value) {
        if let Some(visible) = reasoning.visible {
            thinking["display"] = json!(if visible { "summarized" } else { "omitted" });
        }
        self.thinking = Some(thinking.take());
    }

    /// Forced tools become optional where the model would refuse them.
    fn soften(&mut self, choice: &mut Option<Choice>) {
        let refused = self.has_budget || self.claude.refuses_forced_tools();
        if let Some(choice) = choice
            .as_mut()
            .filter(|choice| choice.is_forced() && refused)
        {
            (choice.kind, choice.name) = ("auto", None);
            self.changes.set("tool_choice", "auto");
        }
    }

    fn sample(&mut self) {
        let request = self.request;
        let refused = self.claude.refuses_budget_and_sampling();
        let asked = [
            ("temperature", request.temperature.is_some()),
            ("top_k", request.top_k.is_some()),
            ("top_p", request.top_p.is_some()),
        ];
        let narrow = request.top_p.is_some_and(|top_p| top_p < 0.95);
        for (field, _) in asked.iter().filter(|(_, is_set)| *is_set) {
            let with_thoughts = self.thinks && (*field != "top_p" || narrow);
            let twice = *field == "top_p"
                && request.temperature.is_some()
                && self.claude.refuses_two_samplings()
                && !self.thinks;
            if refused || with_thoughts || twice {
                self.changes.dropped(field);
                continue;
            }
            match *field {
                "temperature" => {
                    self.temperature = request
                        .temperature
                        .map(|value| self.clamp("temperature", value))
                }
                "top_p" => self.top_p = request.top_p.map(|value| self.clamp("top_p", value)),
                _ => self.top_k = request.top_k,
            }
        }
    }

    fn clamp(&mut self, field: &str, value: f64) -> f64 {
        let clamped = value.clamp(0.0, 1.0);
        if clamped != value {
            self.changes.clamped(field, clamped);
        }
        clamped
    }
}

fn stop_sequences<'a>(request: &'a Request, changes: &mut Changes) -> Vec<&'a str> {
    let (said, blank): (Vec<&str>, Vec<&str>) = request
        .stop
        .iter()
        .map(String::as_str)
        .partition(|text| !text.trim().is_empty());
    if !blank.is_empty() {
        changes.dropped("stop");
    }
    said
}

fn service_tier(request: &Request, changes: &mut Changes) -> Option<&'static str> {
    let tier = request.service_tier.as_deref()?;
    match (request.from, tier) {
        (_, "auto") => Some("auto"),
        (Dialect::Messages, "standard_only") => Some("standard_only"),
        (Dialect::Chat | Dialect::Responses, "default") => Some("standard_only"),
        _ => {
            changes.dropped("service_tier");
            None
        }
    }
}

/// Of what the neutral form does not know, Anthropic's own clients may say all, others what Anthropic has a field for.
fn extra(request: &Request, changes: &mut Changes) -> Map<String, Value> {
    let mut kept = Map::new();
    for (field, value) in &request.extra {
        match field.as_str() {
            "thinking" if request.from != Dialect::Messages => {}
            "cache_control" => kept.extend([(field.clone(), value.clone())]),
            _ if request.from == Dialect::Messages => kept.extend([(field.clone(), value.clone())]),
            _ => changes.dropped(field),
        }
    }
    kept
}
