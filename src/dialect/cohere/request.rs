//! Requests for Cohere (spec: providers 11 and 15).

use serde::Serialize;
use serde_json::{Value, json};

use super::messages::{self, Message};
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::{Effort, Format, Reasoning, Request, Tool, ToolChoice, ToolKind};
use crate::dialect::{Upstream, Written};

/// Most texts that end an answer.
const STOPS_MAX: usize = 5;
/// Most likeliest tokens to sample among.
const K_MAX: u64 = 500;
/// Fields of Cohere's own that a client may send beside those of its dialect.
const OWN_FIELDS: [&str; 3] = ["documents", "citation_options", "safety_mode"];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict_tools: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    citation_options: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_mode: Option<&'a Value>,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a Value>,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Parameters<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parameters<'a> {
    Given(&'a Value),
    /// Cohere wants a schema where there are none.
    Empty(Value),
}

#[derive(Serialize)]
struct Thinking {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_budget: Option<u64>,
}

/// Writes a request for `/v2/chat`.
pub fn write_request(
    request: &Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    refuse(request)?;
    let (tools, strict_tools) = tools(&request.tools, changes)?;
    let (tools, tool_choice) = choose(request, tools)?;
    let [documents, citation_options, safety_mode] =
        OWN_FIELDS.map(|field| request.extra.get(field));
    let response_format = format(request, !tools.is_empty(), documents.is_some(), changes)?;
    let reasons = reasons(upstream.model);
    let body = Body {
        model: upstream.model,
        messages: messages::write(request, reasons, changes)?,
        stream: request.stream,
        max_tokens: request
            .max_tokens
            .map(|tokens| most(tokens, upstream.max_output, changes)),
        temperature: request
            .temperature
            .map(|value| changes.within("temperature", value, 0.0, 1.0)),
        p: request
            .top_p
            .map(|value| changes.within("top_p", value, 0.01, 0.99)),
        k: request.top_k.map(|k| {
            if k > K_MAX {
                changes.clamped("top_k", K_MAX);
            }
            k.min(K_MAX)
        }),
        seed: request.seed.map(|seed| {
            u64::try_from(seed).unwrap_or_else(|_| {
                let positive = seed.unsigned_abs();
                changes.set("seed", positive);
                positive
            })
        }),
        stop_sequences: {
            if request.stop.len() > STOPS_MAX {
                changes.clamped("stop", STOPS_MAX);
            }
            &request.stop[..request.stop.len().min(STOPS_MAX)]
        },
        frequency_penalty: request
            .frequency_penalty
            .map(|value| changes.within("frequency_penalty", value, 0.0, 1.0)),
        presence_penalty: request
            .presence_penalty
            .map(|value| changes.within("presence_penalty", value, 0.0, 1.0)),
        logprobs: {
            // There are no alternatives.
            if request.logprobs.is_some_and(|count| count > 0) {
                changes.dropped("top_logprobs");
            }
            request.logprobs.is_some()
        },
        response_format,
        strict_tools: strict_tools && !tools.is_empty(),
        tools,
        tool_choice,
        thinking: request
            .reasoning
            .as_ref()
            .and_then(|reasoning| thinking(reasoning, reasons, changes)),
        documents,
        citation_options,
        safety_mode,
    };
    leave_out(request, changes);
    let body = serde_json::to_vec(&body)
        .map_err(|error| Invalid::at("", format!("The request cannot be written: {error}")))?;
    Ok(Written {
        body,
        ..Written::default()
    })
}

/// Refuses what would change the answer's shape.
fn refuse(request: &Request) -> Result<(), Invalid> {
    if request.choices.is_some_and(|count| count != 1) {
        return Err(Invalid::unsupported(
            "n",
            "Cohere gives one answer to a request",
        ));
    }
    let modalities = request.extra.get("modalities").and_then(Value::as_array);
    if modalities.is_some_and(|list| list.iter().any(|modality| modality != "text")) {
        return Err(Invalid::unsupported(
            "modalities",
            "Cohere answers in text alone",
        ));
    }
    if request.extra.get("audio").is_some_and(Value::is_object) {
        return Err(Invalid::unsupported(
            "audio",
            "Cohere answers in text alone",
        ));
    }
    Ok(())
}

/// Models that think before they answer, and can be told how much.
fn reasons(model: &str) -> bool {
    model.to_ascii_lowercase().contains("reasoning")
}

fn tools<'a>(
    tools: &'a [Tool],
    changes: &mut Changes,
) -> Result<(Vec<WireTool<'a>>, bool), Invalid> {
    let (mut written, mut any_strict) = (Vec::with_capacity(tools.len()), false);
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
                any_strict |= *strict == Some(true);
                let parameters = match parameters {
                    Some(parameters) => Parameters::Given(parameters),
                    None => Parameters::Empty(json!({"type": "object", "properties": {}})),
                };
                written.push(WireTool {
                    r#type: "function",
                    function: Function {
                        name,
                        description: description.as_deref(),
                        parameters,
                    },
                });
            }
            ToolKind::Custom { .. } => {
                return Err(Invalid::unsupported(
                    format!("tools[{at}]"),
                    "Cohere has no tools that take free text",
                ));
            }
            ToolKind::Hosted { kind, .. } => changes.dropped(&format!("tools.{kind}")),
        }
    }
    Ok((written, any_strict))
}

type Chosen<'a> = (Vec<WireTool<'a>>, Option<&'static str>);

/// A tool is chosen by leaving out the others.
fn choose<'a>(request: &Request, tools: Vec<WireTool<'a>>) -> Result<Chosen<'a>, Invalid> {
    let only = |names: &[String]| {
        let known = |name: &String| tools.iter().any(|tool| tool.function.name == name);
        match names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(Invalid::at(
                "tool_choice",
                format!("tool_choice names {name}, which is not among the functions in tools"),
            )),
        }
    };
    let (names, word) = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => return Ok((tools, None)),
        Some(ToolChoice::None) if tools.is_empty() => return Ok((tools, None)),
        Some(ToolChoice::None) => return Ok((tools, Some("NONE"))),
        Some(ToolChoice::Required) if tools.is_empty() => {
            return Err(Invalid::at(
                "tool_choice",
                "tool_choice demands a call, but there are no functions in tools",
            ));
        }
        Some(ToolChoice::Required) => return Ok((tools, Some("REQUIRED"))),
        Some(ToolChoice::Named(name)) => (std::slice::from_ref(name), Some("REQUIRED")),
        Some(ToolChoice::Allowed { required, names }) => {
            (names.as_slice(), required.then_some("REQUIRED"))
        }
    };
    only(names)?;
    let allowed = |tool: &WireTool<'_>| names.iter().any(|name| name == tool.function.name);
    Ok((tools.into_iter().filter(allowed).collect(), word))
}

fn format<'a>(
    request: &'a Request,
    has_tools: bool,
    has_documents: bool,
    changes: &mut Changes,
) -> Result<Option<ResponseFormat<'a>>, Invalid> {
    let json_schema = match &request.format {
        None | Some(Format::Text) => return Ok(None),
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
    if has_tools || has_documents {
        return Err(Invalid::unsupported(
            "response_format",
            "Cohere cannot answer in JSON while it has tools or documents",
        ));
    }
    // It has the same name with a schema and without.
    Ok(Some(ResponseFormat {
        r#type: "json_object",
        json_schema,
    }))
}

fn thinking(reasoning: &Reasoning, reasons: bool, changes: &mut Changes) -> Option<Thinking> {
    let off = reasoning.effort == Some(Effort::None) || reasoning.budget == Some(0);
    if !reasons {
        if !off {
            changes.dropped("reasoning_effort");
        }
        return None;
    }
    if off {
        return Some(Thinking {
            r#type: "disabled",
            token_budget: None,
        });
    }
    let budget = reasoning.budget.or(reasoning.effort.map(Effort::budget));
    (budget.is_some() || reasoning.adaptive).then_some(Thinking {
        r#type: "enabled",
        token_budget: budget,
    })
}

/// Reports what Cohere has no word for.
fn leave_out(request: &Request, changes: &mut Changes) {
    if request.parallel_tool_calls == Some(false) {
        changes.dropped("parallel_tool_calls");
    }
    if request.user.is_some() {
        changes.dropped("user");
    }
    if request.service_tier.is_some() {
        changes.dropped("service_tier");
    }
    if !request.metadata.is_empty() {
        changes.dropped("metadata");
    }
    for field in request.extra.keys() {
        if field != "modalities" && !OWN_FIELDS.contains(&field.as_str()) {
            changes.dropped(field);
        }
    }
}

fn most(tokens: u64, bound: Option<u64>, changes: &mut Changes) -> u64 {
    let near = bound.map_or(tokens, |bound| tokens.min(bound.max(1)));
    if near != tokens {
        changes.clamped("max_tokens", near);
    }
    near
}
