//! A body in Messages for a platform that speaks Messages too: what the platform wants otherwise is changed, and every other byte
//! stays as the client wrote it (spec: providers 6.3 and 7.7).

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;
use serde_json::{Value, json};

use super::super::Written;
use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::neutral::{Origin, Signature};
use super::super::splice::{Edits, Object, items};
use super::betas::{BetaRules, Platform, kept};
use crate::limits::JSON_DEPTH_MAX;

/// Changes the body as the platform wants it. `betas` are the values of the client's `anthropic-beta` headers; those that the
/// platform takes go into its body or its headers. The model stays in the body only on Anthropic's own API.
pub fn envelope(
    body: &[u8],
    platform: Platform,
    betas: &[String],
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    envelope_with(body, platform, betas, &BetaRules::default(), changes)
}

/// The same, with what an operator knows better of betas.
pub fn envelope_with(
    body: &[u8],
    platform: Platform,
    betas: &[String],
    rules: &BetaRules,
    changes: &mut Changes,
) -> Result<Written, Invalid> {
    let mut top = Object::read(body)?;
    let in_body = top
        .raw("anthropic_beta")
        .and_then(|raw| serde_json::from_slice(raw).ok());
    let in_body: Vec<String> = in_body.unwrap_or_default();
    let asked = [betas, &in_body].concat();
    let betas = kept(platform, &asked, rules, changes);
    if platform != Platform::Anthropic {
        top.remove("model");
        for field in ["service_tier", "inference_geo", "speed"] {
            if top.remove(field) {
                changes.dropped(field);
            }
        }
        limit_context_management(&mut top, platform, &betas, changes);
    }
    match platform {
        Platform::Anthropic => {}
        Platform::Vertex => {
            top.remove("anthropic_beta");
            top.set("anthropic_version", r#""vertex-2023-10-16""#);
        }
        Platform::Bedrock => {
            top.remove("stream");
            top.set("anthropic_version", r#""bedrock-2023-05-31""#);
            match betas.is_empty() {
                true => drop(top.remove("anthropic_beta")),
                false => top.set("anthropic_beta", json!(betas).to_string()),
            }
        }
    }
    let mut cleaner = Cleaner {
        body,
        platform,
        edits: Edits::default(),
        changes,
    };
    for field in ["system", "messages", "tools"] {
        if let Some(span) = top.span(field) {
            cleaner.field(field, span);
        }
    }
    let mut edits = cleaner.edits;
    top.note(&mut edits);
    let in_header = platform != Platform::Bedrock && !betas.is_empty();
    Ok(Written {
        body: if edits.is_empty() {
            body.to_vec()
        } else {
            edits.apply(body)
        },
        headers: in_header
            .then(|| ("anthropic-beta", betas.join(",")))
            .into_iter()
            .collect(),
        ..Written::default()
    })
}

/// Edits of the context that platforms beside Anthropic make; they refuse others, and the field without its beta.
const CONTEXT_EDITS: [(&str, &str); 2] = [
    ("compact_20260112", "compact-"),
    ("clear_tool_uses_20250919", "context-management-"),
];

fn limit_context_management(
    top: &mut Object<'_>,
    platform: Platform,
    betas: &[String],
    changes: &mut Changes,
) {
    let Some(raw) = top.raw("context_management") else {
        return;
    };
    let mut management: Value = serde_json::from_slice(raw).unwrap_or_default();
    let allowed = |edit: &Value| {
        let with_beta = |(kind, beta): &(&str, &str)| {
            edit["type"] == *kind && betas.iter().any(|asked| asked.starts_with(beta))
        };
        let as_it_is = platform == Platform::Vertex
            && betas
                .iter()
                .any(|beta| beta.starts_with("context-management-"));
        as_it_is || CONTEXT_EDITS.iter().any(with_beta)
    };
    let Some(edits) = management.get_mut("edits").and_then(Value::as_array_mut) else {
        return;
    };
    let before = edits.len();
    edits.retain(allowed);
    let after = edits.len();
    if after == 0 {
        top.remove("context_management");
    } else if after < before {
        top.set("context_management", management.to_string());
    }
    if after < before || after == 0 {
        changes.dropped("context_management");
    }
}

/// Takes out of a body's blocks what only others understand: thoughts of other providers, which Anthropic refuses; and the scope
/// of a cache, which platforms beside it refuse.
struct Cleaner<'a, 'c> {
    body: &'a [u8],
    platform: Platform,
    edits: Edits,
    changes: &'c mut Changes,
}

impl Cleaner<'_, '_> {
    fn field(&mut self, field: &str, span: Range<usize>) {
        let text = &self.body[span.clone()];
        let scoped =
            self.platform != Platform::Anthropic && memmem::find(text, b"\"scope\"").is_some();
        let thinks = memmem::find(text, b"thinking\"").is_some();
        if field != "messages" && scoped {
            self.list(span, |cleaner, block| cleaner.block(block, 0));
        } else if field == "messages" && (scoped || thinks) {
            self.list(span, Self::message);
        }
    }

    /// Whether nothing is left of a message.
    fn message(&mut self, span: Range<usize>) -> bool {
        let message = Object::at(self.body, span, "").ok();
        let content = message.and_then(|message| message.span("content"));
        content.is_some_and(|content| self.list(content, |cleaner, block| cleaner.block(block, 0)))
    }

    /// Whether a block is to go as a whole.
    fn block(&mut self, span: Range<usize>, depth: usize) -> bool {
        let Ok(block) = Object::at(self.body, span, "") else {
            return false;
        };
        let proof = match block.text("type").as_deref() {
            Some("thinking") => Some(block.text("signature").unwrap_or_default()),
            Some("redacted_thinking") => Some(block.text("data").unwrap_or_default()),
            _ => None,
        };
        let foreign = |proof: Cow<'_, str>| {
            proof.is_empty()
                || Signature::from_tagged(&proof, Origin::Anthropic).origin != Origin::Anthropic
        };
        if proof.is_some_and(foreign) {
            self.changes.dropped("thinking");
            return true;
        }
        if self.platform != Platform::Anthropic
            && let Some(control) = block.span("cache_control")
            && let Ok(mut control) = Object::at(self.body, control, "")
            && control.remove("scope")
        {
            self.changes.dropped("cache_control.scope");
            control.note(&mut self.edits);
        }
        if let Some(content) = block.span("content").filter(|_| depth < JSON_DEPTH_MAX) {
            self.list(content, |cleaner, block| cleaner.block(block, depth + 1));
        }
        false
    }

    /// Takes those elements out of a list that are to go; whether these are all.
    fn list(
        &mut self,
        span: Range<usize>,
        mut goes: impl FnMut(&mut Self, Range<usize>) -> bool,
    ) -> bool {
        let elements = items(self.body, span).unwrap_or_default();
        let gone: Vec<bool> = elements
            .iter()
            .map(|element| goes(self, element.clone()))
            .collect();
        let first_kept = gone.iter().position(|gone| !gone);
        for at in (0..elements.len()).filter(|at| gone[*at]) {
            let span = match (first_kept, elements.get(at + 1)) {
                (Some(first), _) if first < at => elements[at - 1].end..elements[at].end,
                (_, Some(next)) => elements[at].start..next.start,
                (_, None) => elements[at].clone(),
            };
            self.edits.push(span, Vec::new());
        }
        first_kept.is_none() && !elements.is_empty()
    }
}
