//! What other providers want back unchanged, in the one opaque field that reasoning items have.

use super::super::neutral::{Origin, Signature};

/// Whose proof `encrypted_content` holds, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seal {
    /// Of the item's own thoughts.
    Thought(Signature),
    /// The thoughts themselves, unreadable.
    Redacted(Signature),
    /// Of the call that follows: Gemini signs calls.
    Call(Signature),
    /// Of the text before: Gemini signs the end of its answer.
    Text(Signature),
}

const REDACTED: &str = "redacted:";
const CALL: &str = "call:";
const TEXT: &str = "text:";

impl Seal {
    /// The field's value. OpenAI's own stays as it came.
    pub fn write(&self) -> String {
        let (prefix, signature) = match self {
            Self::Thought(signature) => ("", signature),
            Self::Redacted(signature) => (REDACTED, signature),
            Self::Call(signature) => (CALL, signature),
            Self::Text(signature) => (TEXT, signature),
        };
        format!("{prefix}{}", signature.tagged(Origin::OpenAi))
    }

    /// Reads [`Self::write`].
    pub fn read(text: &str) -> Self {
        let read = |text| Signature::from_tagged(text, Origin::OpenAi);
        if let Some(rest) = text.strip_prefix(REDACTED) {
            return Self::Redacted(read(rest));
        }
        if let Some(rest) = text.strip_prefix(CALL) {
            return Self::Call(read(rest));
        }
        match text.strip_prefix(TEXT) {
            Some(rest) => Self::Text(read(rest)),
            None => Self::Thought(read(text)),
        }
    }

    /// Whether OpenAI could not have made this.
    pub fn is_foreign(text: &str) -> bool {
        !matches!(Self::read(text), Self::Thought(signature) if signature.origin == Origin::OpenAi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_come_back_as_they_went_out() {
        for origin in [
            Origin::Anthropic,
            Origin::Google,
            Origin::OpenAi,
            Origin::Bedrock,
            Origin::Other,
        ] {
            let signature = Signature::new(origin, "Eq+/=");
            for seal in [
                Seal::Thought(signature.clone()),
                Seal::Redacted(signature.clone()),
                Seal::Call(signature.clone()),
                Seal::Text(signature),
            ] {
                assert_eq!(Seal::read(&seal.write()), seal);
                let own = matches!(&seal, Seal::Thought(_)) && origin == Origin::OpenAi;
                assert_eq!(Seal::is_foreign(&seal.write()), !own);
            }
        }
        assert_eq!(
            Seal::Thought(Signature::new(Origin::OpenAi, "gAAAA")).write(),
            "gAAAA"
        );
        assert_eq!(
            Seal::Redacted(Signature::new(Origin::Anthropic, "EmwK")).write(),
            "redacted:anthropic:EmwK"
        );
    }
}
