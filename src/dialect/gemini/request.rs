//! Requests for Gemini (spec: providers 5.2, 5.3 and 15).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::contents::{self, Content, WirePart};
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::models::gemini::{Gemini, Thinking, budget, level};
use crate::dialect::neutral::{Effort, Format, Reasoning, Request, Tool, ToolChoice, ToolKind};
use crate::dialect::{Upstream, Written};
use crate::providers::Slug;

/// Most texts that end an answer.
const STOPS_MAX: usize = 5;
/// Most alternatives for each token.
const LOGPROBS_MAX: u64 = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Declarations<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Generation::is_empty")]
    generation_config: Generation<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Instruction<'a> {
    parts: Vec<WirePart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declarations<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<&'a str>,
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_modalities: Option<[&'static str; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

impl Generation<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
}

/// Writes a request for generateContent. Whether it streams is said by the path.
pub fn write_request(
    request: &Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    let model = Gemini::of(upstream.model);
    let tools = declarations(&request.tools, changes)?;
    let calling = calling(request, &tools, model, changes)?;
    let tools = match &calling {
        // An older model is kept from other functions by not knowing them.
        Some(Choice::Only(names)) => {
            let allowed = |tool: &Declaration<'_>| names.iter().any(|name| name == tool.name);
            tools.into_iter().filter(allowed).collect()
        }
        _ => tools,
    };
    let generation_config = generation(request, upstream, model, !tools.is_empty(), changes)?;
    let body = Body {
        contents: contents::write(request, upstream, model, changes)?,
        system_instruction: instruction(request, changes)?,
        tools: (!tools.is_empty()).then_some([Declarations {
            function_declarations: tools,
        }]),
        tool_config: match calling {
            Some(Choice::Config(function_calling_config)) => Some(ToolConfig {
                function_calling_config,
            }),
            _ => None,
        },
        generation_config,
        labels: labels(request, upstream, changes),
    };
    leave_out(request, changes)?;
    let body = serde_json::to_vec(&body)
        .map_err(|error| Invalid::at("", format!("The request cannot be written: {error}")))?;
    Ok(Written {
        body,
        ..Written::default()
    })
}

fn instruction<'a>(
    request: &'a Request,
    changes: &mut Changes,
) -> Result<Option<Instruction<'a>>, Invalid> {
    let mut parts = Vec::with_capacity(request.system.len());
    for (at, part) in request.system.iter().enumerate() {
        if part.cache.is_some() {
            changes.dropped("cache_control");
        }
        match part.as_text() {
            Some("") => {}
            Some(text) => parts.push(WirePart::text(text)),
            None => {
                return Err(Invalid::unsupported(
                    format!("messages[{at}].content"),
                    "Gemini takes only text as the system's instruction",
                ));
            }
        }
    }
    Ok((!parts.is_empty()).then_some(Instruction { parts }))
}

fn declarations<'a>(
    tools: &'a [Tool],
    changes: &mut Changes,
) -> Result<Vec<Declaration<'a>>, Invalid> {
    let mut declared = Vec::with_capacity(tools.len());
    for (at, tool) in tools.iter().enumerate() {
        if tool.cache.is_some() {
            changes.dropped("cache_control");
        }
        match &tool.kind {
            ToolKind::Function {
                name,
                description,
                parameters,
                strict,
            } => {
                if *strict == Some(true) {
                    changes.dropped("tools.strict");
                }
                declared.push(Declaration {
                    name,
                    description: description.as_deref(),
                    parameters_json_schema: parameters.as_ref(),
                });
            }
            ToolKind::Custom { .. } => {
                return Err(Invalid::unsupported(
                    format!("tools[{at}]"),
                    "Gemini has no tools that take free text",
                ));
            }
            ToolKind::Hosted { kind, .. } => changes.dropped(&format!("tools.{kind}")),
        }
    }
    Ok(declared)
}

/// How the choice of a tool is said.
enum Choice<'a> {
    Config(Calling<'a>),
    /// Only these are declared.
    Only(&'a [String]),
}

fn calling<'a>(
    request: &'a Request,
    tools: &[Declaration<'_>],
    model: Gemini,
    changes: &mut Changes,
) -> Result<Option<Choice<'a>>, Invalid> {
    // Several calls in one turn cannot be forbidden.
    if request.parallel_tool_calls == Some(false) {
        changes.dropped("parallel_tool_calls");
    }
    let Some(choice) = &request.tool_choice else {
        return Ok(None);
    };
    let known = |name: &String| match tools.iter().any(|tool| tool.name == name) {
        true => Ok(()),
        false => Err(Invalid::at(
            "tool_choice",
            format!("tool_choice names {name}, which is not among the functions in tools"),
        )),
    };
    let config = |mode, names: &'a [String]| {
        Some(Choice::Config(Calling {
            mode,
            allowed_function_names: names.iter().map(String::as_str).collect(),
        }))
    };
    Ok(match choice {
        ToolChoice::Auto | ToolChoice::None if tools.is_empty() => None,
        ToolChoice::Auto => config("AUTO", &[]),
        ToolChoice::None => config("NONE", &[]),
        ToolChoice::Required if tools.is_empty() => {
            return Err(Invalid::at(
                "tool_choice",
                "tool_choice demands a call, but there are no functions in tools",
            ));
        }
        ToolChoice::Required => config("ANY", &[]),
        ToolChoice::Named(name) => {
            known(name)?;
            config("ANY", std::slice::from_ref(name))
        }
        ToolChoice::Allowed { required, names } => {
            names.iter().try_for_each(known)?;
            match required {
                true => config("ANY", names),
                false if model.validates_calls() => config("VALIDATED", names),
                false => Some(Choice::Only(names)),
            }
        }
    })
}

fn generation<'a>(
    request: &'a Request,
    upstream: &Upstream<'_>,
    model: Gemini,
    has_tools: bool,
    changes: &mut Changes,
) -> Result<Generation<'a>, Invalid> {
    let (mime, schema) = format(request, model, has_tools, changes)?;
    let seed = request.seed.map(|seed| {
        // 32 bits; the same long seed still gives the same short one.
        i32::try_from(seed).unwrap_or_else(|_| {
            let short = (seed ^ (seed >> 32)) as i32;
            changes.set("seed", short);
            short
        })
    });
    if request.stop.len() > STOPS_MAX {
        changes.clamped("stop", STOPS_MAX);
    }
    Ok(Generation {
        max_output_tokens: request.max_tokens.map(|tokens| {
            let most = upstream.max_output.unwrap_or(i32::MAX as u64).max(1);
            changes.within("max_tokens", tokens, 1, most.max(1))
        }),
        temperature: request
            .temperature
            .map(|value| changes.within("temperature", value, 0.0, 2.0)),
        top_p: request
            .top_p
            .map(|value| changes.within("top_p", value, 0.0, 1.0)),
        top_k: request
            .top_k
            .map(|k| changes.within("top_k", k, 1, i32::MAX as u64)),
        stop_sequences: &request.stop[..request.stop.len().min(STOPS_MAX)],
        seed,
        presence_penalty: request
            .presence_penalty
            .map(|value| changes.within("presence_penalty", value, -2.0, 2.0)),
        frequency_penalty: request
            .frequency_penalty
            .map(|value| changes.within("frequency_penalty", value, -2.0, 2.0)),
        candidate_count: candidates(request, model)?,
        response_logprobs: request.logprobs.map(|_| true),
        logprobs: request
            .logprobs
            .filter(|count| *count > 0)
            .map(|count| changes.within("top_logprobs", count, 1, LOGPROBS_MAX)),
        response_mime_type: mime,
        response_json_schema: schema,
        response_modalities: modalities(request)?,
        thinking_config: request
            .reasoning
            .as_ref()
            .and_then(|reasoning| thinking(reasoning, model, changes)),
    })
}

fn format<'a>(
    request: &'a Request,
    model: Gemini,
    has_tools: bool,
    changes: &mut Changes,
) -> Result<(Option<&'static str>, Option<&'a Value>), Invalid> {
    let schema = match &request.format {
        None | Some(Format::Text) => return Ok((None, None)),
        Some(Format::JsonObject) => None,
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => {
            if description.is_some() {
                changes.dropped("response_format.json_schema.description");
            }
            Some(schema)
        }
    };
    if has_tools && !model.formats_beside_tools() {
        return Err(Invalid::unsupported(
            "response_format",
            "This model cannot answer in JSON while it has functions; Gemini 3 and later can",
        ));
    }
    Ok((Some("application/json"), schema))
}

fn candidates(request: &Request, model: Gemini) -> Result<Option<u64>, Invalid> {
    match request.choices {
        None | Some(1) => Ok(None),
        Some(count) if (1..=model.candidates_max()).contains(&count) => Ok(Some(count)),
        Some(count) => Err(Invalid::unsupported(
            "n",
            format!(
                "This model gives 1 to {} answers, not {count}",
                model.candidates_max()
            ),
        )),
    }
}

fn modalities(request: &Request) -> Result<Option<[&'static str; 2]>, Invalid> {
    let no_sound = |param| {
        Err(Invalid::unsupported(
            param,
            "Sound from Gemini is not to be had here",
        ))
    };
    let wanted = request.extra.get("modalities").and_then(Value::as_array);
    let wants = |what: &str| {
        let is_it = |modality: &Value| {
            modality
                .as_str()
                .is_some_and(|word| word.eq_ignore_ascii_case(what))
        };
        wanted.is_some_and(|wanted| wanted.iter().any(is_it))
    };
    match () {
        () if wants("audio") => no_sound("modalities"),
        () if request.extra.get("audio").is_some_and(Value::is_object) => no_sound("audio"),
        () if wants("image") => Ok(Some(["TEXT", "IMAGE"])),
        () => Ok(None),
    }
}

fn thinking(reasoning: &Reasoning, model: Gemini, changes: &mut Changes) -> Option<ThinkingConfig> {
    let wanted = wanted(reasoning);
    let off = wanted == Some(Wanted::Effort(Effort::None));
    let mut config = ThinkingConfig {
        include_thoughts: match reasoning.visible {
            Some(false) => None,
            Some(true) => Some(true),
            None => (!off).then_some(true),
        },
        ..ThinkingConfig::default()
    };
    match model.thinking() {
        Thinking::Fixed => {
            if !off {
                changes.dropped("reasoning_effort");
            }
            return None;
        }
        Thinking::Budget { least, most, off } => {
            config.thinking_budget = wanted.map(|wanted| match wanted {
                Wanted::Dynamic => -1,
                Wanted::Budget(0) | Wanted::Effort(Effort::None) if off => 0,
                Wanted::Budget(tokens) => {
                    changes.within("thinking.budget_tokens", tokens, least, most.max(least)) as i64
                }
                Wanted::Effort(effort) => {
                    let tokens = budget(effort).clamp(least, most);
                    if effort == Effort::None {
                        changes.clamped("reasoning_effort", tokens);
                    }
                    tokens as i64
                }
            });
        }
        Thinking::Level(levels) => {
            let effort = wanted.and_then(|wanted| match wanted {
                Wanted::Dynamic => None,
                Wanted::Budget(tokens) => Some(Effort::of_budget(tokens)),
                Wanted::Effort(effort) => Some(effort),
            });
            config.thinking_level = effort.map(|effort| {
                let near = level(effort, levels);
                if near != effort {
                    changes.clamped("reasoning_effort", near.name());
                }
                near.name()
            });
        }
    }
    (config != ThinkingConfig::default()).then_some(config)
}

/// How much thinking is asked for, in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Dynamic,
    Budget(u64),
    Effort(Effort),
}

fn wanted(reasoning: &Reasoning) -> Option<Wanted> {
    match (reasoning.budget, reasoning.effort) {
        (_, Some(Effort::None)) => Some(Wanted::Effort(Effort::None)),
        (Some(0), _) => Some(Wanted::Effort(Effort::None)),
        (Some(budget), _) => Some(Wanted::Budget(budget)),
        (None, Some(effort)) => Some(Wanted::Effort(effort)),
        (None, None) => reasoning.adaptive.then_some(Wanted::Dynamic),
    }
}

/// Vertex has labels: pairs of lower-case words that appear on the bill.
fn labels<'a>(
    request: &'a Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> BTreeMap<&'a str, &'a str> {
    let vertex = upstream.slug == Slug::GoogleVertexAi;
    let mut labels = BTreeMap::new();
    for (key, value) in &request.metadata {
        match value.as_str() {
            Some(value) if vertex && is_label(value) && is_label_key(key) => {
                labels.insert(key.as_str(), value);
            }
            _ => changes.dropped("metadata"),
        }
    }
    labels
}

fn is_label(text: &str) -> bool {
    let takes =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    text.len() <= 63 && text.bytes().all(takes)
}

fn is_label_key(key: &str) -> bool {
    is_label(key) && key.starts_with(|letter: char| letter.is_ascii_lowercase())
}

/// Reports what Gemini has no word for.
fn leave_out(request: &Request, changes: &mut Changes) -> Result<(), Invalid> {
    if request.user.is_some() {
        changes.dropped("user");
    }
    if request.service_tier.is_some() {
        changes.dropped("service_tier");
    }
    for field in request.extra.keys() {
        match field.as_str() {
            "modalities" => {}
            field => changes.dropped(field),
        }
    }
    Ok(())
}
