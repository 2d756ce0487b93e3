//! Gemini's answers (spec: providers 5.4 and 16).

use serde_json::{Value, json};

use super::errors;
use super::piece::{Kind, Piece};
use crate::dialect::Terms;
use crate::dialect::failure::Failure;
use crate::dialect::neutral::{
    Answer, Choice, Citation, Origin, Part, PartKind, Signature, Stop, StopReason, ToolUse,
};
use crate::limits::GEMINI_CANDIDATES_MAX;

/// Reads an answer. Blocked prompts and answers that came to nothing have the status 200 too.
pub fn read_answer(mut body: Value, terms: &Terms) -> Result<Answer, Failure> {
    if let Some(failure) = errors::inside(&body) {
        return Err(failure);
    }
    let candidates = take_list(&mut body, "candidates");
    let mut choices = Vec::with_capacity(candidates.len().min(GEMINI_CANDIDATES_MAX));
    let mut failure = None;
    let mut calls = 0;
    for candidate in candidates.into_iter().take(GEMINI_CANDIDATES_MAX) {
        match choice(candidate, &mut calls, terms) {
            Ok(choice) => choices.push(choice),
            Err(error) => failure = Some(error),
        }
    }
    if choices.is_empty() {
        match (failure, blocked(&body)) {
            (Some(failure), _) => return Err(failure),
            (None, Some((message, stop))) => choices.push(Choice {
                parts: vec![PartKind::Refusal(message).into()],
                stop,
                logprobs: None,
            }),
            (None, None) => {
                return Err(Failure::broken("Gemini's answer holds no candidate"));
            }
        }
    }
    Ok(Answer {
        id: take_text(&mut body, "responseId"),
        model: take_text(&mut body, "modelVersion"),
        created: created(&body),
        choices,
        ..Answer::default()
    })
}

/// Takes a list out of an object; empty where there is none.
pub(super) fn take_list(value: &mut Value, field: &str) -> Vec<Value> {
    match value.get_mut(field).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Takes a text out of an object; an empty one is none.
pub(super) fn take_text(value: &mut Value, field: &str) -> Option<String> {
    match value.get_mut(field).map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Takes the parts out of a candidate; its content may lack them, and be missing itself.
pub(super) fn take_parts(candidate: &mut Value) -> Vec<Value> {
    let content = candidate.get_mut("content");
    content.map_or_else(Vec::new, |content| take_list(content, "parts"))
}

/// When Vertex began the answer.
pub(super) fn created(body: &Value) -> Option<u64> {
    let time: jiff::Timestamp = body["createTime"].as_str()?.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

/// Why the prompt got no answer.
pub(super) fn blocked(body: &Value) -> Option<(String, Stop)> {
    let feedback = &body["promptFeedback"];
    let reason = feedback["blockReason"].as_str()?;
    let message = match feedback["blockReasonMessage"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("Google blocked the prompt: {reason}"),
    };
    Some((message, Stop::with_native(StopReason::Filter, reason)))
}

/// How an answer ended, in Gemini's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// Well, or by a bound or a filter.
    Stop(Stop),
    /// The model made something that Google could not read; the word.
    Spoilt(String),
}

impl Finish {
    /// `called`: the answer holds calls.
    pub(super) fn of(reason: &str, called: bool) -> Self {
        match reason {
            "STOP" if called => Self::Stop(Stop::new(StopReason::ToolUse)),
            "STOP" => Self::Stop(Stop::new(StopReason::End)),
            "" if called => Self::Stop(Stop::new(StopReason::ToolUse)),
            "" => Self::Stop(Stop::new(StopReason::End)),
            "MAX_TOKENS" => Self::Stop(Stop::new(StopReason::Length)),
            "CONTINUATION" => Self::Stop(Stop::with_native(StopReason::Length, reason)),
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "MODEL_ARMOR"
            | "ESCALATION" => Self::Stop(Stop::with_native(StopReason::Filter, reason)),
            "MALFORMED_FUNCTION_CALL"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MALFORMED_RESPONSE"
            | "MISSING_THOUGHT_SIGNATURE" => Self::Spoilt(reason.to_owned()),
            // OTHER, IMAGE_OTHER, NO_IMAGE and words not known yet. Calls are whole, so the client can act on them.
            _ if called => Self::Stop(Stop::with_native(StopReason::ToolUse, reason)),
            _ => Self::Stop(Stop::with_native(StopReason::End, reason)),
        }
    }
}

/// The error of an answer that came to nothing.
pub(super) fn spoilt(word: &str, message: Option<&str>) -> Failure {
    let message = match message {
        Some(message) => format!("The model's answer was unusable: {word}: {message}"),
        None => format!("The model's answer was unusable: {word}"),
    };
    Failure::broken(message).with_code(word)
}

/// The end of an answer that Google could not read, by what there is of it.
pub(super) fn stop_of_spoilt(
    word: &str,
    message: Option<&str>,
    says_something: bool,
    called: bool,
) -> Result<Stop, Failure> {
    match (called, says_something) {
        // All were declared: the client can run them.
        (true, _) => Ok(Stop::with_native(StopReason::ToolUse, word)),
        (false, true) => Ok(Stop::with_native(StopReason::End, word)),
        (false, false) => Err(spoilt(word, message)),
    }
}

fn choice(mut candidate: Value, calls: &mut usize, terms: &Terms) -> Result<Choice, Failure> {
    let word = take_text(&mut candidate, "finishReason").unwrap_or_default();
    let unexpected = word == "UNEXPECTED_TOOL_CALL";
    let parts = take_parts(&mut candidate).into_iter().enumerate();
    let mut pieces: Vec<(u64, Piece)> = parts
        .filter_map(|(at, value)| Some((at as u64, Piece::read(value)?)))
        .collect();
    let is_known = |name: &String| terms.tools.contains(name);
    // A call of a function that was never declared is no answer; nobody could run it.
    let strays = |piece: &Piece| matches!(&piece.kind, Kind::Call { name, .. } if !is_known(name));
    if unexpected && pieces.iter().any(|(_, piece)| strays(piece)) {
        pieces.retain(|(_, piece)| !matches!(piece.kind, Kind::Call { .. }));
    }
    let called = pieces
        .iter()
        .any(|(_, piece)| matches!(piece.kind, Kind::Call { .. }));
    let mut parts: Vec<(Option<u64>, Part)> = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces {
        add(&mut parts, at, piece, calls, terms);
    }
    cite(&mut parts, &candidate["groundingMetadata"]);
    let mut parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
    let message = candidate["finishMessage"].as_str();
    let says_something = parts.iter().any(says_something);
    let stop = match Finish::of(&word, called) {
        Finish::Stop(stop) => stop,
        Finish::Spoilt(word) => stop_of_spoilt(&word, message, says_something, called)?,
    };
    if stop.reason == StopReason::Filter
        && !says_something
        && let Some(message) = message
    {
        parts.push(PartKind::Refusal(message.to_owned()).into());
    }
    Ok(Choice {
        parts,
        stop,
        logprobs: logprobs(&candidate["logprobsResult"]),
    })
}

fn says_something(part: &Part) -> bool {
    match &part.kind {
        PartKind::Text { text, .. } => !text.is_empty(),
        PartKind::Thinking { .. } | PartKind::Redacted(_) => false,
        _ => true,
    }
}

fn add(
    parts: &mut Vec<(Option<u64>, Part)>,
    at: u64,
    piece: Piece,
    calls: &mut usize,
    terms: &Terms,
) {
    let signature = piece.signature;
    let kind = match piece.kind {
        Kind::Text(text) => PartKind::Text {
            text,
            citations: Vec::new(),
            signature,
        },
        Kind::Thought(text) => PartKind::Thinking { text, signature },
        // It belongs to the text before it.
        Kind::Nothing => {
            if let Some((_, last)) = parts.last_mut()
                && let PartKind::Text {
                    signature: place @ None,
                    ..
                } = &mut last.kind
            {
                *place = signature;
                return;
            }
            let Some(signature) = signature else { return };
            PartKind::Redacted(signature)
        }
        Kind::Call {
            id,
            name,
            arguments,
        } => {
            *calls += 1;
            PartKind::ToolUse(ToolUse {
                id: id.unwrap_or_else(|| made_id(terms, *calls)),
                name,
                arguments,
                custom: false,
                signature,
            })
        }
        Kind::Media(kind) => kind,
    };
    parts.push((Some(at), kind.into()));
}

/// An id for a call that came without one. Gemini 2 gives none.
pub(super) fn made_id(terms: &Terms, count: usize) -> String {
    format!("call_{}_{count}", terms.id)
}

/// A signature of Gemini's.
pub(super) fn signature(part: &mut Value) -> Option<Signature> {
    let field = match part.get("thoughtSignature") {
        Some(_) => "thoughtSignature",
        None => "thought_signature",
    };
    Some(Signature::new(Origin::Google, take_text(part, field)?))
}

/// Where the answer's statements come from. A segment's bounds count the bytes of its part.
fn cite(parts: &mut [(Option<u64>, Part)], grounding: &Value) {
    for (part, citation) in citations(grounding) {
        let place = parts
            .iter_mut()
            .find_map(|(at, found)| match &mut found.kind {
                PartKind::Text {
                    text, citations, ..
                } if part.is_none_or(|part| *at == Some(part)) => Some((text, citations)),
                _ => None,
            });
        let Some((text, list)) = place else { continue };
        let characters = |end: u64| {
            let end = usize::try_from(end).ok()?;
            Some(text.get(..end)?.chars().count() as u64)
        };
        let range = citation
            .range
            .and_then(|(start, end)| Some((characters(start)?, characters(end)?)));
        list.push(Citation { range, ..citation });
    }
}

/// The sources named, each with the part it is about; ranges in bytes.
pub(super) fn citations(grounding: &Value) -> Vec<(Option<u64>, Citation)> {
    let chunks = grounding["groundingChunks"].as_array();
    let chunks = chunks.map(Vec::as_slice).unwrap_or_default();
    let source = |chunk: &Value| {
        let page = ["web", "retrievedContext", "maps"]
            .iter()
            .map(|kind| &chunk[kind])
            .find(|page| page["uri"].is_string())?;
        Some(Citation {
            url: page["uri"].as_str()?.to_owned(),
            title: page["title"].as_str().map(str::to_owned),
            range: None,
            quote: None,
        })
    };
    let Some(supports) = grounding["groundingSupports"]
        .as_array()
        .filter(|supports| !supports.is_empty())
    else {
        return chunks
            .iter()
            .filter_map(|chunk| Some((None, source(chunk)?)))
            .collect();
    };
    let mut found = Vec::new();
    for support in supports {
        let segment = &support["segment"];
        let range = segment["endIndex"]
            .as_u64()
            .map(|end| (segment["startIndex"].as_u64().unwrap_or(0), end));
        let indices = support["groundingChunkIndices"].as_array();
        for index in indices.into_iter().flatten().filter_map(Value::as_u64) {
            let chunk = usize::try_from(index).ok().and_then(|at| chunks.get(at));
            if let Some(citation) = chunk.and_then(source) {
                let part = segment["partIndex"].as_u64();
                found.push((part, Citation { range, ..citation }));
            }
        }
    }
    found
}

/// Log probabilities in chat's form.
pub(super) fn logprobs(result: &Value) -> Option<Value> {
    let chosen = result["chosenCandidates"].as_array()?;
    let nothing = Vec::new();
    let top = result["topCandidates"].as_array().unwrap_or(&nothing);
    let content: Vec<Value> = chosen
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let others = top.get(at).and_then(|step| step["candidates"].as_array());
            let others = others.unwrap_or(&nothing).iter().map(token);
            let mut token = token(candidate);
            token["top_logprobs"] = others.collect();
            token
        })
        .collect();
    Some(json!({"content": content, "refusal": null}))
}

fn token(candidate: &Value) -> Value {
    let token = candidate["token"].as_str().unwrap_or_default();
    // Google leaves out numbers that are 0.
    let probability = candidate["logProbability"].as_f64().unwrap_or(0.0);
    json!({"token": token, "logprob": probability, "bytes": token.as_bytes()})
}
