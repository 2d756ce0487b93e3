//! `cf-aig-metadata` (spec: data plane 2.3).

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::METADATA_ENTRIES_MAX;

/// The first entries of a flat JSON object, as text. Names that begin with `cf.` are the gateway's own and left out, as are
/// nulls; a nested value drops all of it. `None`: nothing is left, or it is no object.
pub(super) fn read(value: &[u8]) -> Option<Box<str>> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let entries = reader.deserialize_map(Entries).ok()?;
    reader.end().ok()?;
    (!entries.is_empty()).then(|| Value::Object(entries).to_string().into())
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if entries.len() == METADATA_ENTRIES_MAX || name.starts_with("cf.") {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match map.next_value::<Value>()? {
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => {
                    return Err(serde::de::Error::custom("a nested value"));
                }
                value => {
                    entries.insert(name, value);
                }
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_five_flat_entries_are_kept_in_their_order() {
        let read = |text: &str| read(text.as_bytes());
        let kept = |text: &str| read(text).expect("metadata").into_string();
        assert_eq!(
            kept(r#"{"z":"1", "a":2, "m":true, "big":12345678901234567890}"#),
            r#"{"z":"1","a":2,"m":true,"big":12345678901234567890}"#
        );
        assert_eq!(
            kept(r#"{"1":1,"2":2,"3":3,"4":4,"5":5,"6":6,"7":{}}"#),
            r#"{"1":1,"2":2,"3":3,"4":4,"5":5}"#
        );
        assert_eq!(
            kept(r#"{"cf.user_id":"x","a":"b","n":null}"#),
            r#"{"a":"b"}"#
        );
        for nothing in [
            "",
            "[]",
            "{",
            "{}",
            "3",
            r#"{"a":{"b":1}}"#,
            r#"{"a":[]}"#,
            r#"{"a":1} x"#,
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        let long = "v".repeat(600);
        assert_eq!(kept(&format!(r#"{{"k":"{long}"}}"#)).len(), 608);
    }
}
