//! What a counter is found by.

use sha2::{Digest, Sha256};

/// Half a SHA-256.
pub type Name = [u8; 16];

/// Names a counter: that of a rule, or of one value under it. Digests, so that a name takes the same room whatever clients
/// send, and so that it is the same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    rule: Name,
    own: Name,
}

impl Key {
    /// Of a rule, by the parts of its identity.
    pub fn rule(parts: &[&str]) -> Self {
        let parts = parts.iter().map(|part| part.as_bytes());
        let name = name(Sha256::new(), parts);
        Self {
            rule: name,
            own: name,
        }
    }

    /// Of values under this rule: each combination has a counter of its own.
    pub fn of<'v>(self, values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        Self {
            rule: self.rule,
            own: name(Sha256::new_with_prefix(self.rule), values),
        }
    }

    /// Its name.
    pub fn own(self) -> Name {
        self.own
    }

    /// That of its rule, whose counter all values share once there is room for no more.
    pub fn shared(self) -> Name {
        self.rule
    }
}

fn name<'p>(mut digest: Sha256, parts: impl IntoIterator<Item = &'p [u8]>) -> Name {
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let mut name = Name::default();
    name.copy_from_slice(&digest[..16]);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let rule = Key::rule(&["spend", "gateway", "rule"]);
        assert_eq!(rule, Key::rule(&["spend", "gateway", "rule"]));
        assert_ne!(rule, Key::rule(&["spend", "gateway", "ru", "le"]));
        assert_eq!(rule.own(), rule.shared());
        let of = |values: &[&str]| rule.of(values.iter().map(|value| value.as_bytes()));
        assert_ne!(of(&["ab", "c"]).own(), of(&["a", "bc"]).own());
        assert_ne!(of(&[""]).own(), of(&[]).own());
        assert_eq!(of(&["a"]).shared(), rule.own());
    }
}
