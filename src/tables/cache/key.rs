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
    /// Whether the answer comes as a stream: it reads differently on the wire.
    pub stream: bool,
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
#[derive(Clone)]
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
        keying.part(&[u8::from(parts.stream)]);
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

    /// Whether the body has a say.
    pub fn takes_body(&self) -> bool {
        self.takes_body
    }

    /// Digests the body and ends.
    pub fn end(mut self, body: &[u8]) -> Key {
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

    fn derived<'a>() -> Parts<'a> {
        Parts {
            gateway: "g",
            epoch: 1,
            stream: false,
            of: Of::Derived {
                provider: "openai",
                endpoint: &[b"https://api.openai.com", b"/v1/chat/completions", b"a=b"],
                model: "m",
                credential: &[b"authorization", b"Bearer k"],
            },
        }
    }

    fn custom<'a>(gateway: &'a str, stream: bool, named: &'a [u8]) -> Parts<'a> {
        Parts {
            gateway,
            epoch: 1,
            stream,
            of: Of::Custom(named),
        }
    }

    #[test]
    fn every_part_tells_requests_apart() {
        let of = |change: fn(&mut Parts<'_>)| {
            let mut parts = derived();
            change(&mut parts);
            Keying::begin(&parts).end(b"body")
        };
        fn replace(
            parts: &mut Parts<'_>,
            with: (
                &'static str,
                &'static [&'static [u8]],
                &'static str,
                &'static [&'static [u8]],
            ),
        ) {
            parts.of = Of::Derived {
                provider: with.0,
                endpoint: with.1,
                model: with.2,
                credential: with.3,
            };
        }
        let keys = [
            of(|_| ()),
            of(|parts| parts.gateway = "h"),
            of(|parts| parts.epoch = 2),
            of(|parts| parts.stream = true),
            of(|parts| replace(parts, ("groq", &[b"/v1"], "m", &[b"k"]))),
            of(|parts| replace(parts, ("openai", &[b"/v1"], "m", &[b"k"]))),
            of(|parts| replace(parts, ("openai", &[b"/v", b"1"], "m", &[b"k"]))),
            of(|parts| replace(parts, ("openai", &[b"/v1"], "mk", &[b""]))),
            of(|parts| replace(parts, ("openai", &[b"/v1"], "m", &[b"l"]))),
            of(|parts| replace(parts, ("openai", &[b"/v1"], "m", &[]))),
            Keying::begin(&derived()).end(b"bodz"),
            Keying::begin(&custom("g", false, b"body")).end(b"body"),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(of(|_| ()), Keying::begin(&derived()).end(b"body"));
    }

    #[test]
    fn a_named_key_stands_for_any_body_but_for_no_other_gateway_and_no_stream() {
        let key = |parts| Keying::begin(&parts).end(b"one");
        let named = key(custom("g", false, b"n"));
        assert_eq!(named, Keying::begin(&custom("g", false, b"n")).end(b"two"));
        assert_ne!(named, key(custom("h", false, b"n")));
        assert_ne!(named, key(custom("g", true, b"n")));
        assert_ne!(named, key(custom("g", false, b"m")));
        // Not even where lengths could be read otherwise.
        assert_ne!(
            key(custom("ab", false, b"c")),
            key(custom("a", false, b"bc"))
        );
    }
}
