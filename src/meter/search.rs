//! Searches that a provider ran and that no usage object counts: calls among what Responses gives out, queries among what
//! Gemini's answers are grounded on.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::IgnoredAny;

use super::scan::member_value;

const QUERIES: &[u8] = b"\"webSearchQueries\"";

struct Finders {
    call: Finder<'static>,
    queries: Finder<'static>,
}

// A quote inside a JSON string is escaped, so that no text is taken for one of these.
static FINDERS: LazyLock<Finders> = LazyLock::new(|| Finders {
    call: Finder::new(b"\"web_search_call\""),
    queries: Finder::new(QUERIES),
});

/// Whether a search stands among what Responses gives out.
pub(super) fn has_calls(json: &[u8]) -> bool {
    FINDERS.call.find(json).is_some()
}

/// Searches of one document.
pub(super) fn count(json: &[u8]) -> u64 {
    let finders = &*FINDERS;
    let calls = finders.call.find_iter(json).count() as u64;
    let places = finders.queries.find_iter(json);
    let queries = places.filter_map(|at| {
        let value = member_value(&json[at + QUERIES.len()..])?;
        let mut values = serde_json::Deserializer::from_slice(value).into_iter();
        let list: Vec<IgnoredAny> = values.next()?.ok()?;
        Some(list.len() as u64)
    });
    calls.saturating_add(queries.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_queries_are_counted_and_texts_are_not() {
        let responses = br#"{"output":[{"type":"web_search_call","id":"ws_1"},{"type":"web_search_call"},
            {"type":"message","content":[{"text":"\"web_search_call\""}]}],"tools":[{"type":"web_search"}]}"#;
        assert_eq!(count(responses), 2);
        assert!(has_calls(responses));
        let gemini = br#"{"candidates":[{"groundingMetadata":{"webSearchQueries" : ["a","b \"webSearchQueries\":[1]","c"]}},
            {"groundingMetadata":{"webSearchQueries":[]}}]}"#;
        assert_eq!(count(gemini), 3);
        for nothing in [
            &b"{}"[..],
            b"\"webSearchQueries\"",
            b"\"webSearchQueries\":[1",
            b"\"webSearchQueries\":7",
        ] {
            assert_eq!(count(nothing), 0);
        }
    }
}
