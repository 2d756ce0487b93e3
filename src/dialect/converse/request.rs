//! Requests to Converse (spec: providers 7.3 and 15).

use serde_json::{Map, Value, json};

use super::thinking::{self, Thinks, drop_sampling};
use super::tools::{self, OutputTool, root_object};
use super::turns;
use super::wire::{Block, Body, Inference};
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::models::claude::Claude;
use crate::dialect::models::others::{Abilities, Model, TopK, abilities};
use crate::dialect::neutral::{Format, PartKind, Request, ToolChoice};
use crate::dialect::{Unwrap, Upstream, Written, schema};

/// Whether Bedrock fetches such an address itself.
pub fn takes_url(kind: &PartKind, url: &str, _upstream: &Upstream<'_>) -> bool {
    super::media::fetches(kind, url)
}

/// Says the request in Converse. The model and whether the answer streams stand in the path.
pub fn write_request(
    request: &Request,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    refuse(request)?;
    let model = Model::of(upstream.model);
    let mut abilities = abilities(&model);
    let claude = model
        .is_claude()
        .then(|| Claude::of(upstream.model))
        .flatten();
    abilities.json_schema &= claude.is_none_or(Claude::follows_schemas);
    let max_output = upstream
        .max_output
        .or_else(|| claude.and_then(Claude::max_output));

    let mut conversation = turns::write(request, &model, &abilities, changes)?;
    let mut inference = inference(request, &abilities, claude, max_output, changes);
    let mut fields = Map::new();
    let thinking = thinking::Terms {
        abilities: &abilities,
        claude,
        lost: conversation.lost_thoughts(),
        max_output,
    };
    let thinks = thinking::write(
        request.reasoning.as_ref(),
        &thinking,
        &mut fields,
        &mut inference,
        changes,
    );
    let thinking_claude = claude.is_some() && thinks != Thinks::Unsaid;
    if thinking_claude {
        drop_sampling(&mut inference, changes);
    }
    top_k(
        request,
        &abilities,
        thinking_claude,
        claude,
        &mut fields,
        changes,
    );

    let forcible = abilities.tool_choice
        && thinks != Thinks::Budget
        && !claude.is_some_and(Claude::refuses_forced_tools);
    let form = form(request, &abilities, forcible, changes);
    if let Form::Told(text) = &form {
        conversation.system.push(Block::text(text.clone()));
    }
    let terms = tools::Terms {
        abilities: &abilities,
        claude: claude.is_some(),
        forcible,
        has_calls: conversation.has_calls(),
        output: form.tool(),
    };
    let tools = tools::write(request, &terms, changes)?;
    if let Some(choice) = tools.anthropic_choice {
        fields.insert("tool_choice".to_owned(), choice);
    }
    let body = Body {
        messages: conversation.messages,
        system: conversation.system,
        inference_config: inference,
        tool_config: tools.config,
        output_config: form.config(),
        additional_model_request_fields: fields,
        service_tier: service_tier(request, changes),
        request_metadata: metadata(request, changes),
    };
    drop_rest(request, changes);
    let body = serde_json::to_vec(&body)
        .map_err(|error| Invalid::at("", format!("The request cannot be written: {error}")))?;
    Ok(Written {
        body,
        headers: Vec::new(),
        unwrap: form.unwrap(),
    })
}

/// What no model behind Converse can do, and what would be missed in the answer.
fn refuse(request: &Request) -> Result<(), Invalid> {
    if request.choices.is_some_and(|choices| choices > 1) {
        let message = "Bedrock gives one answer to a request";
        return Err(Invalid::unsupported("n", message));
    }
    if request.logprobs.is_some() {
        let message = "Bedrock tells no log probabilities";
        return Err(Invalid::unsupported("logprobs", message));
    }
    let speaks = request.extra.get("modalities").and_then(Value::as_array);
    let speaks = speaks.is_some_and(|kinds| kinds.iter().any(|kind| kind == "audio"));
    if speaks || request.extra.contains_key("audio") {
        let message = "Bedrock's Converse answers in text";
        return Err(Invalid::unsupported("modalities", message));
    }
    Ok(())
}

fn inference<'a>(
    request: &'a Request,
    abilities: &Abilities,
    claude: Option<Claude>,
    max_output: Option<u64>,
    changes: &mut Changes,
) -> Inference<'a> {
    let within = |field: &str, value: Option<f64>, changes: &mut Changes| {
        value.map(|value| changes.within(field, value, 0.0, 1.0))
    };
    let most = max_output.unwrap_or(u64::MAX).clamp(1, i32::MAX as u64);
    let max_tokens = request
        .max_tokens
        .map(|tokens| changes.within("max_tokens", tokens, 1, most));
    let stops = request.stop.iter().map(String::as_str);
    let mut inference = Inference {
        max_tokens,
        temperature: within("temperature", request.temperature, changes),
        top_p: within("top_p", request.top_p, changes),
        stop_sequences: stops.filter(|stop| !stop.trim().is_empty()).collect(),
    };
    if inference.stop_sequences.len() < request.stop.len() {
        changes.dropped("stop");
    }
    if !abilities.sampling || claude.is_some_and(Claude::refuses_budget_and_sampling) {
        drop_sampling(&mut inference, changes);
    }
    if claude.is_some_and(Claude::refuses_two_samplings)
        && inference.temperature.is_some()
        && inference.top_p.take().is_some()
    {
        changes.dropped("top_p");
    }
    inference
}

fn top_k(
    request: &Request,
    abilities: &Abilities,
    thinking_claude: bool,
    claude: Option<Claude>,
    fields: &mut Map<String, Value>,
    changes: &mut Changes,
) {
    let Some(top_k) = request.top_k else { return };
    let refused = thinking_claude || claude.is_some_and(Claude::refuses_budget_and_sampling);
    let (field, value) = match abilities.top_k {
        TopK::Flat if !refused => ("top_k", Value::from(top_k)),
        TopK::Nested => ("inferenceConfig", json!({"topK": top_k})),
        TopK::No | TopK::Flat => return changes.dropped("top_k"),
    };
    fields.insert(field.to_owned(), value);
}

/// How the wanted form of the answer is had.
enum Form {
    Free,
    /// The model keeps to it by itself.
    Kept(Value),
    /// It is made to call a tool, whose arguments are the answer.
    Called(OutputTool),
    /// It is asked for it.
    Told(String),
}

impl Form {
    fn config(&self) -> Option<Value> {
        match self {
            Self::Kept(config) => Some(config.clone()),
            _ => None,
        }
    }

    fn tool(&self) -> Option<&OutputTool> {
        match self {
            Self::Called(tool) => Some(tool),
            _ => None,
        }
    }

    fn unwrap(&self) -> Unwrap {
        match self {
            Self::Free | Self::Kept(_) => Unwrap::Nothing,
            Self::Called(tool) => Unwrap::Tool(tool.name.clone()),
            Self::Told(_) => Unwrap::Fence,
        }
    }
}

fn form(request: &Request, abilities: &Abilities, forcible: bool, changes: &mut Changes) -> Form {
    let (name, description, wanted) = match &request.format {
        None | Some(Format::Text) => return Form::Free,
        Some(Format::JsonObject) => {
            changes.added("system");
            return Form::Told("Answer with a single JSON object and nothing else.".to_owned());
        }
        Some(Format::JsonSchema {
            name,
            description,
            schema,
            ..
        }) => (name, description, schema),
    };
    if let Some(closed) = schema::strict(wanted).filter(|_| abilities.json_schema) {
        // The schema goes as text, unlike everywhere else.
        let mut definition = json!({"schema": closed.to_string()});
        definition["name"] = Value::from(name.as_deref().unwrap_or("answer"));
        if let Some(description) = description {
            definition["description"] = Value::from(description.as_str());
        }
        return Form::Kept(json!({
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}
        }));
    }
    let calls = matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_))
    );
    if calls {
        // The answer is a call, and has no other form.
        return Form::Free;
    }
    let is_object = wanted.get("type").is_none_or(|kind| kind == "object");
    if forcible && is_object && wanted.is_object() {
        changes.added("tools");
        let mut name = "json_output".to_owned();
        while request.tools.iter().any(|tool| tool.name() == name) {
            name.push('_');
        }
        let schema = root_object(Some(wanted)).into_owned();
        return Form::Called(OutputTool { name, schema });
    }
    changes.added("system");
    Form::Told(format!(
        "Answer with JSON alone, nothing before or after it, that follows this JSON Schema: {wanted}"
    ))
}

fn service_tier(request: &Request, changes: &mut Changes) -> Option<Value> {
    let tier = match request.service_tier.as_deref()? {
        tier @ ("default" | "priority" | "flex" | "reserved") => tier,
        "standard_only" => "default",
        "auto" => return None,
        _ => {
            changes.dropped("service_tier");
            return None;
        }
    };
    Some(json!({"type": tier}))
}

/// Most pairs of `requestMetadata`.
const PAIRS_MAX: usize = 16;

fn metadata(request: &Request, changes: &mut Changes) -> Map<String, Value> {
    let fits = |text: &str| {
        let allowed = |letter: char| {
            letter.is_ascii_alphanumeric()
                || letter.is_whitespace()
                || ":_@$#=/+,-.".contains(letter)
        };
        text.len() <= 256 && text.chars().all(allowed)
    };
    let mut pairs = Map::new();
    for (name, value) in &request.metadata {
        let value = value.as_str().filter(|value| fits(value));
        match value {
            Some(value) if !name.is_empty() && fits(name) && pairs.len() < PAIRS_MAX => {
                pairs.insert(name.clone(), Value::from(value));
            }
            _ => changes.dropped("metadata"),
        }
    }
    pairs
}

/// What Converse has no field for and nobody misses in the answer.
fn drop_rest(request: &Request, changes: &mut Changes) {
    let dropped = [
        ("seed", request.seed.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("user", request.user.is_some()),
    ];
    for (field, _) in dropped.iter().filter(|(_, there)| *there) {
        changes.dropped(field);
    }
    for field in request.extra.keys() {
        changes.dropped(field);
    }
}
