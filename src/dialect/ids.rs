//! Ids of tool calls that one provider made and another refuses (spec: providers 1.11).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// What a provider takes as the id of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRule {
    /// Characters beside letters and digits.
    pub marks: &'static [u8],
    /// Fewest characters.
    pub shortest: usize,
    /// Most characters.
    pub longest: usize,
}

impl IdRule {
    /// Messages: `[a-zA-Z0-9_-]+`.
    pub const ANTHROPIC: Self = Self {
        marks: b"_-",
        shortest: 1,
        longest: 256,
    };
    /// Converse: `[a-zA-Z0-9_.:-]{1,64}`.
    pub const BEDROCK: Self = Self {
        marks: b"_.:-",
        shortest: 1,
        longest: 64,
    };
    /// Mistral: nine letters and digits.
    pub const MISTRAL: Self = Self {
        marks: b"",
        shortest: 9,
        longest: 9,
    };

    fn takes(&self, id: &str) -> bool {
        (self.shortest..=self.longest).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || self.marks.contains(&byte))
    }
}

/// The id itself where the rule allows it, else one that always follows from it, so that a call and its result still agree.
pub fn fit(id: &str, rule: IdRule) -> Cow<'_, str> {
    if rule.takes(id) {
        return Cow::Borrowed(id);
    }
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(id.as_bytes());
    let length = rule.longest.min(24);
    let digits = digest.iter().take(length);
    Cow::Owned(
        digits
            .map(|byte| DIGITS[usize::from(*byte) % 62] as char)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_where_they_may_and_change_alike_where_not() {
        assert_eq!(fit("toolu_01-x", IdRule::ANTHROPIC), "toolu_01-x");
        assert_eq!(fit("a:b.c", IdRule::BEDROCK), "a:b.c");
        assert_eq!(fit("Ab3dE6gh9", IdRule::MISTRAL), "Ab3dE6gh9");
        for (id, rule) in [
            ("functions.get:0", IdRule::ANTHROPIC),
            ("", IdRule::ANTHROPIC),
            ("call_1", IdRule::MISTRAL),
            (&"x".repeat(65), IdRule::BEDROCK),
        ] {
            let fitted = fit(id, rule);
            assert!(rule.takes(&fitted), "{id} became {fitted}");
            assert_eq!(fitted, fit(id, rule));
        }
        assert_ne!(
            fit("call_1", IdRule::MISTRAL),
            fit("call_2", IdRule::MISTRAL)
        );
    }
}
