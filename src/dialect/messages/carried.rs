//! Signatures of parts that have none in Messages: Gemini signs calls and texts. Each travels in a `thinking` block without text
//! beside its part, and comes back to it.

use super::super::neutral::{Origin, Part, PartKind, Signature};

/// Which part a carried signature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one after the block.
    Next,
    /// The one before it.
    Last,
}

impl Side {
    /// Neither base64 nor a signature's tag can be taken for it.
    fn mark(self) -> &'static str {
        match self {
            Self::Next => "next:",
            Self::Last => "last:",
        }
    }
}

/// The `signature` of the block that carries one.
pub(super) fn carry(signature: &Signature, side: Side) -> String {
    let data = format!("{}{}", side.mark(), signature.data);
    match signature.origin {
        Origin::Anthropic => data,
        origin => Signature::new(origin, data)
            .tagged(Origin::Anthropic)
            .into_owned(),
    }
}

/// Brings carried signatures back while parts are read.
#[derive(Default)]
pub(super) struct Carried {
    waiting: Option<Signature>,
}

impl Carried {
    /// Looks at the parts that were read last, from `from` on: takes away a block that carries a signature, or signs the part that
    /// one waits for.
    pub fn settle(&mut self, parts: &mut Vec<Part>, from: usize) {
        if let Some((signature, side)) = parts[from..].last().and_then(carries) {
            parts.pop();
            match side {
                Side::Next => self.waiting = Some(signature),
                Side::Last => sign(parts.last_mut(), signature),
            }
        } else if let Some(signature) = self.waiting.take() {
            sign(parts.get_mut(from), signature);
        }
    }
}

fn carries(part: &Part) -> Option<(Signature, Side)> {
    let PartKind::Thinking {
        text,
        signature: Some(signature),
    } = &part.kind
    else {
        return None;
    };
    let marked = [Side::Next, Side::Last].into_iter().find_map(|side| {
        let data = signature.data.strip_prefix(side.mark())?;
        Some((Signature::new(signature.origin, data), side))
    });
    marked.filter(|_| text.is_empty())
}

/// A signature whose part is gone is of no use.
fn sign(part: Option<&mut Part>, carried: Signature) {
    match part.map(|part| &mut part.kind) {
        Some(PartKind::ToolUse(call)) => call.signature = Some(carried),
        Some(PartKind::Text { signature, .. }) => *signature = Some(carried),
        _ => {}
    }
}
