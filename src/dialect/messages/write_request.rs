//! A request for Claude, on Anthropic's own API, on Vertex (`rawPredict`) and on Bedrock (`InvokeModel`).

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::claude::Claude;
use super::super::neutral::{Media, PartKind, Request};
use super::super::{Dialect, Upstream, Written};
use super::wire::{Block, Message};
use super::write_settings::{Settings, asked_reasoning, thoughts_are_whole};
use super::write_tools::{Choice, Definition, Shape, tool_choice, write_tools};
use super::write_turns::{self, Conversation};
use crate::providers::Slug;

/// Most marks of prompt caches in a request, as Anthropic counts them.
const CACHE_MARKS_MAX: usize = 4;

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
    let mut tools = write_tools(request, claude, conversation.uses_tools, changes)?;
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
    limit_cache_marks(request, &tools, &mut conversation, changes);
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

/// The marks of tools and system text are kept; those of the conversation as far as there is room.
fn limit_cache_marks(
    request: &Request,
    tools: &[Definition<'_>],
    conversation: &mut Conversation<'_>,
    changes: &mut Changes,
) {
    let of_request = usize::from(request.extra.contains_key("cache_control"));
    let of_tools = tools.iter().filter(|tool| tool.is_marked()).count();
    let of_system = conversation
        .system
        .iter_mut()
        .filter_map(Block::cache_control);
    let marks = of_request + of_tools + of_system.flatten().count();
    let allowed = CACHE_MARKS_MAX.saturating_sub(marks);
    write_turns::limit_cache_marks(&mut conversation.messages, allowed, changes);
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
