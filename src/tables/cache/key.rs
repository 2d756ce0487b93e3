//! What tells stored answers apart: a cryptographic digest, since whoever could make two requests meet under one key would read
//! another's answer.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// Names one answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// Changes with the parts that are digested or their order: answers on disk that were stored under another are never found.
const FORM: &[u8] = b"ringgate answer 1";

impl Key {
    /// Of what was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As stored.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Which of so many shards it belongs to; a power of two.
    pub fn shard(&self, shards: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]])) & (shards - 1)
    }

    /// Stands for the key where a rare mistake does no harm.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[8..16]);
        u64::from_le_bytes(bytes)
    }
}

/// The first eight digits: enough to find like requests in logs.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// What a request is told apart by (data plane 4), beyond its body.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The gateway: no answer leaves it.
    pub gateway: &'a str,
    /// Rises when all its stored answers are to be forgotten.
    pub epoch: u64,
    /// What the rest is.
    pub of: Of<'a>,
}

/// Where a key comes from.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// The caller named it; whatever is asked for shares it.
    Custom(&'a [u8]),
    /// It is made of what decides about the answer.
    Derived {
        /// The provider's name.
        provider: &'a str,
        /// Where the request goes, piece by piece: origin, path, query.
        endpoint: &'a [&'a [u8]],
        /// The model asked for.
        model: &'a str,
        /// Whose credential pays: what another's paid for is not given out.
        credential: &'a [&'a [u8]],
    },
}

/// A key on its way: the body is still to come.
pub struct Keying {
    context: Context,
    takes_body: bool,
}

impl Keying {
    /// Digests everything but the body.
    pub fn begin(parts: &Parts<'_>) -> Self {
        let mut keying = Self {
            context: Context::new(&SHA256),
            takes_body: true,
        };
        keying.part(FORM);
        keying.part(parts.gateway.as_bytes());
        keying.part(&parts.epoch.to_le_bytes());
        match parts.of {
            Of::Custom(named) => {
                keying.takes_body = false;
                keying.part(b"custom");
                keying.part(named);
            }
            Of::Derived {
                provider,
                endpoint,
                model,
                credential,
            } => {
                keying.part(b"derived");
                keying.part(provider.as_bytes());
                keying.list(endpoint);
                keying.part(model.as_bytes());
                keying.list(credential);
            }
        }
        keying
    }

    /// Digests the body and whether the answer comes as a stream, which reads differently on the wire.
    pub fn end(mut self, body: &[u8], stream: bool) -> Key {
        self.part(&[u8::from(stream)]);
        if self.takes_body {
            self.part(body);
        }
        let mut key = [0; 32];
        key.copy_from_slice(self.context.finish().as_ref());
        Key(key)
    }

    /// With its length before it: no two lists of parts read the same.
    fn part(&mut self, part: &[u8]) {
        self.context.update(&(part.len() as u64).to_le_bytes());
        self.context.update(part);
    }

    fn list(&mut self, parts: &[&[u8]]) {
        self.part(&(parts.len() as u64).to_le_bytes());
        for part in parts {
            self.part(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Provider, endpoint, model, credential.
    type Derived<'a> = (&'a str, &'a [&'a [u8]], &'a str, &'a [&'a [u8]]);

    const PLAIN: Derived<'_> = ("openai", &[b"https://a", b"/v1"], "m", &[b"key", b"k"]);

    fn derived(gateway: &str, epoch: u64, of: Derived<'_>, body: &[u8], stream: bool) -> Key {
        let of = Of::Derived {
            provider: of.0,
            endpoint: of.1,
            model: of.2,
            credential: of.3,
        };
        let parts = Parts { gateway, epoch, of };
        Keying::begin(&parts).end(body, stream)
    }

    fn custom(gateway: &str, named: &[u8], body: &[u8], stream: bool) -> Key {
        let parts = Parts {
            gateway,
            epoch: 1,
            of: Of::Custom(named),
        };
        Keying::begin(&parts).end(body, stream)
    }

    #[test]
    fn every_part_tells_requests_apart() {
        let (endpoint, credential) = (PLAIN.1, PLAIN.3);
        let other: &[(&str, u64, Derived<'_>, &[u8], bool)] = &[
            ("g", 1, PLAIN, b"body", false),
            ("h", 1, PLAIN, b"body", false),
            ("g", 2, PLAIN, b"body", false),
            ("g", 1, PLAIN, b"bodz", false),
            ("g", 1, PLAIN, b"body", true),
            ("g", 1, ("groq", endpoint, "m", credential), b"body", false),
            (
                "g",
                1,
                ("openai", &[b"https://b", b"/v1"], "m", credential),
                b"body",
                false,
            ),
            (
                "g",
                1,
                ("openai", &[b"https://a/", b"v1"], "m", credential),
                b"body",
                false,
            ),
            (
                "g",
                1,
                ("openai", &[b"https://a/v1"], "m", credential),
                b"body",
                false,
            ),
            (
                "g",
                1,
                ("openai", endpoint, "n", credential),
                b"body",
                false,
            ),
            (
                "g",
                1,
                ("openai", endpoint, "m", &[b"key", b"l"]),
                b"body",
                false,
            ),
            ("g", 1, ("openai", endpoint, "m", &[]), b"body", false),
            (
                "g",
                1,
                ("openai", endpoint, "mkey", &[b"k"]),
                b"body",
                false,
            ),
        ];
        let keys = other.iter().map(|of| derived(of.0, of.1, of.2, of.3, of.4));
        let mut keys: HashSet<Key> = keys.collect();
        assert_eq!(keys.len(), other.len());
        assert!(!keys.insert(derived("g", 1, PLAIN, b"body", false)));
        assert!(keys.insert(custom("g", b"body", b"body", false)));
    }

    #[test]
    fn a_named_key_stands_for_any_body_but_for_no_other_gateway_and_no_stream() {
        let named = custom("g", b"n", b"one", false);
        assert_eq!(named, custom("g", b"n", b"two", false));
        assert_ne!(named, custom("h", b"n", b"one", false));
        assert_ne!(named, custom("g", b"n", b"one", true));
        assert_ne!(named, custom("g", b"m", b"one", false));
        // Not even where lengths could be read otherwise.
        let split = custom("a", b"bc", b"", false);
        assert_ne!(split, custom("ab", b"c", b"", false));
    }
}
