//! A JSON document without all that tells nothing about usage: only known keys are kept, the rest is skipped unread.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Every key that leads to a count or a model's name.
const KEYS: [&str; 76] = [
    "ttl",
    "meta",
    "type",
    "cost",
    "bytes",
    "delta",
    "model",
    "usage",
    "result",
    "tokens",
    "x_groq",
    "message",
    "metrics",
    "metadata",
    "response",
    "modality",
    "embeddings",
    "iterations",
    "statistics",
    "total_cost",
    "tokenCount",
    "inputTokens",
    "predictions",
    "token_count",
    "totalTokens",
    "billed_units",
    "input_tokens",
    "modelVersion",
    "outputTokens",
    "total_tokens",
    "audio_tokens",
    "image_tokens",
    "search_units",
    "cacheDetails",
    "cached_tokens",
    "output_tokens",
    "prompt_tokens",
    "usageMetadata",
    "cache_creation",
    "inputTokenCount",
    "thinking_tokens",
    "totalTokenCount",
    "server_tool_use",
    "outputTokenCount",
    "promptTokenCount",
    "reasoning_tokens",
    "completion_tokens",
    "input_token_count",
    "num_cached_tokens",
    "cost_in_usd_ticks",
    "cache_write_tokens",
    "output_token_count",
    "thoughtsTokenCount",
    "num_search_queries",
    "cacheTokensDetails",
    "inputTextTokenCount",
    "web_search_requests",
    "promptTokensDetails",
    "cacheReadInputTokens",
    "candidatesTokenCount",
    "input_tokens_details",
    "cacheWriteInputTokens",
    "output_tokens_details",
    "prompt_tokens_details",
    "cache_read_input_tokens",
    "cachedContentTokenCount",
    "prompt_cache_hit_tokens",
    "toolUsePromptTokenCount",
    "candidatesTokensDetails",
    "cacheReadInputTokenCount",
    "cacheWriteInputTokenCount",
    "completion_tokens_details",
    "ephemeral_1h_input_tokens",
    "ephemeral_5m_input_tokens",
    "cache_creation_input_tokens",
    "amazon-bedrock-invocationMetrics",
];

/// Where each key stands in [`KEYS`], one more than the index, at its [`place`] or the next free one: a key of an answer is
/// compared with very few of these.
const PLACES: [u8; PLACES_LENGTH] = {
    let mut places = [0; PLACES_LENGTH];
    let mut at = 0;
    while at < KEYS.len() {
        let mut place = place(KEYS[at].as_bytes());
        while places[place] != 0 {
            place = (place + 1) % PLACES_LENGTH;
        }
        at += 1;
        places[place] = at as u8;
    }
    places
};

const PLACES_LENGTH: usize = 256;

const fn place(key: &[u8]) -> usize {
    let length = key.len();
    let letters = key[length / 4] as usize * 7 + key[length / 2] as usize * 13;
    (length * 31 + letters + key[length - 1] as usize) % PLACES_LENGTH
}

pub(super) fn known(key: &[u8]) -> Option<&'static str> {
    if key.is_empty() {
        return None;
    }
    let mut place = place(key);
    loop {
        let known = KEYS[usize::from(PLACES[place].checked_sub(1)?)];
        if *known.as_bytes() == *key {
            return Some(known);
        }
        place = (place + 1) % PLACES_LENGTH;
    }
}

/// A value of such a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    /// A count: not negative.
    Count(u64),
    /// Not negative. Some providers write counts as floats: as a count it is rounded.
    Fraction(f64),
    Text(Cow<'a, str>),
    Map(Vec<(&'static str, Node<'a>)>),
    /// The maps of a list.
    List(Vec<Node<'a>>),
    /// Null, booleans, and numbers that count nothing.
    Other,
}

impl<'a> Node<'a> {
    /// Reads one document; what stands behind it must be white space.
    pub fn read(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Reads the value at the front of `json`, and tells where it ends.
    pub fn read_front(json: &'a [u8]) -> Option<(Self, usize)> {
        let mut values = serde_json::Deserializer::from_slice(json).into_iter();
        let value = values.next()?.ok()?;
        Some((value, values.byte_offset()))
    }

    /// The last member of that name, null included.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(members) = self else {
            return None;
        };
        members
            .iter()
            .rev()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The value at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn count(&self, path: &[&str]) -> Option<u64> {
        self.at(path)?.as_count()
    }

    /// A count, rounded where it is none.
    pub fn as_count(&self) -> Option<u64> {
        match *self {
            Self::Count(count) => Some(count),
            Self::Fraction(number) => Some(number.round() as u64),
            _ => None,
        }
    }

    /// A text that is not empty.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        match self.at(path) {
            Some(Self::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, key: &str) -> &[Self] {
        self.get(key).map_or(&[], Self::items)
    }

    /// The maps of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok(Node::Count(count))
    }

    fn visit_i64<E>(self, _negative: i64) -> Result<Self::Value, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(match number >= 0.0 {
            true => Node::Fraction(number),
            false => Node::Other,
        })
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node<'de>>()? {
            if matches!(item, Node::Map(_)) {
                list.push(item);
            }
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            match key {
                Some(key) => members.push((key, entries.next_value()?)),
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Node::Map(members))
    }
}

/// Reads a key into its entry of [`KEYS`].
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes: a key that is no UTF-8 is simply not known.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(known(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_and_no_other() {
        for key in KEYS {
            assert_eq!(known(key.as_bytes()), Some(key));
        }
        for other in ["", "typ", "types", "Usage", "usagf", &"x".repeat(300)] {
            assert_eq!(known(other.as_bytes()), None);
        }
    }

    #[test]
    fn only_known_keys_are_kept() {
        let json = br#" {"id":"x","choices":[{"message":{"content":"usage"}}],"usage":{"prompt_tokens":3.0,
            "completion_tokens":-1,"total_tokens":null,"cost":{"a":[1]}},"model":"m\u0041","result":[1,{"type":"t"},[]]} "#;
        let node = Node::read(json).expect("valid");
        assert_eq!(node.count(&["usage", "prompt_tokens"]), Some(3));
        assert_eq!(node.count(&["usage", "completion_tokens"]), None);
        assert_eq!(node.at(&["usage", "total_tokens"]), Some(&Node::Other));
        assert_eq!(node.text(&["model"]), Some("mA"));
        assert_eq!(node.list("result").len(), 1);
        assert_eq!(node.get("choices"), None);
    }

    #[test]
    fn broken_documents_are_errors() {
        let deep = "[".repeat(100_000);
        for json in ["", "{", "{\"usage\":}", "{} x", "{\"a\":\"\u{1}\"}", &deep] {
            assert!(Node::read(json.as_bytes()).is_err());
        }
    }
}
