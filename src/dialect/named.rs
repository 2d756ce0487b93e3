//! The model that a request's body names, found while the body goes by.

use memchr::memchr2;

use crate::limits::{MODEL_NAME_MAX, MODEL_SEARCH_MAX};

/// Searches the top level of a JSON object that comes in pieces cut anywhere for `model`. It stops at the first one, or where
/// the body is no such object or names none early enough: it is for people who read logs, and nothing is decided by it.
#[derive(Debug)]
pub struct ModelSearch {
    place: Place,
    /// Objects and lists that are open inside of the top level.
    depth: usize,
    /// The name as it is written, with its quotes.
    name: Vec<u8>,
    seen: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the object.
    Before,
    /// Before a key of the top level.
    Members,
    /// In a key, of which so many bytes were those of `model`.
    Key(Option<usize>),
    /// Between a key and its value.
    Colon {
        of_model: bool,
    },
    /// In a value, outside of strings.
    Value,
    /// In a string of a value.
    Text,
    /// Behind a backslash there.
    Escape,
    /// In the model's name.
    Name,
    /// Behind a backslash there.
    NameEscape,
    Done,
}

const KEY: &[u8] = b"model";

impl Default for ModelSearch {
    fn default() -> Self {
        Self {
            place: Place::Before,
            depth: 0,
            name: Vec::new(),
            seen: 0,
        }
    }
}

impl ModelSearch {
    /// Takes the next bytes of the body. `Some`: the search is over, with the name if there is one.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Option<Option<Box<str>>> {
        self.seen += bytes.len();
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self.place, Place::Text | Place::Key(Some(0)) | Place::Name) {
                match self.jump(bytes) {
                    Jump::To(rest) => {
                        bytes = rest;
                        continue;
                    }
                    Jump::Out => break,
                    Jump::Found => return Some(read(&self.name)),
                    Jump::None => {}
                }
            }
            self.place = self.step(byte);
            if self.place == Place::Done {
                return Some(read(&self.name));
            }
            bytes = rest;
        }
        (self.seen > MODEL_SEARCH_MAX).then_some(None)
    }

    /// A string whose end is here is taken at once.
    fn jump<'b>(&mut self, bytes: &'b [u8]) -> Jump<'b> {
        let most = match self.place {
            Place::Name => bytes.len().min(MODEL_NAME_MAX),
            _ => bytes.len(),
        };
        let end = memchr2(b'"', b'\\', &bytes[..most]);
        match (self.place, end) {
            (Place::Text, None) => Jump::Out,
            (Place::Text, Some(at)) => {
                self.place = match bytes[at] {
                    b'"' => Place::Value,
                    _ => Place::Escape,
                };
                Jump::To(&bytes[at + 1..])
            }
            (Place::Key(_), Some(at)) if bytes[at] == b'"' => {
                let of_model = &bytes[..at] == KEY;
                self.place = Place::Colon { of_model };
                Jump::To(&bytes[at + 1..])
            }
            (Place::Name, Some(at))
                if bytes[at] == b'"' && self.name.len() + at < MODEL_NAME_MAX =>
            {
                self.name.extend_from_slice(&bytes[..=at]);
                Jump::Found
            }
            _ => Jump::None,
        }
    }

    fn step(&mut self, byte: u8) -> Place {
        match (self.place, byte) {
            (
                Place::Before | Place::Members | Place::Colon { .. },
                b' ' | b'\t' | b'\r' | b'\n',
            ) => self.place,
            (Place::Before, b'{') | (Place::Members, b',') => Place::Members,
            (Place::Members, b'"') => Place::Key(Some(0)),
            (Place::Key(met), b'"') => Place::Colon {
                of_model: met == Some(KEY.len()),
            },
            // A key with an escape is another one for whoever writes JSON as everybody does.
            (Place::Key(_), b'\\') => Place::Done,
            (Place::Key(met), byte) => {
                let met = met.filter(|&met| KEY.get(met) == Some(&byte));
                Place::Key(met.map(|met| met + 1))
            }
            (Place::Colon { .. }, b':') => self.place,
            (Place::Colon { of_model: true }, b'"') => {
                self.name.push(byte);
                Place::Name
            }
            (Place::Colon { of_model: true }, _) => Place::Done,
            (Place::Colon { .. } | Place::Value, b'"') => Place::Text,
            (Place::Colon { .. } | Place::Value, b'{' | b'[') => {
                self.depth += 1;
                Place::Value
            }
            (Place::Value, b'}' | b']') if self.depth > 0 => {
                self.depth -= 1;
                Place::Value
            }
            (Place::Value, b',') if self.depth == 0 => Place::Members,
            (Place::Value, b'}' | b']') => Place::Done,
            (Place::Colon { .. } | Place::Value, _) => Place::Value,
            (Place::Text | Place::Escape, _) => Place::Text,
            (Place::Name | Place::NameEscape, _) => {
                self.name.push(byte);
                match (self.place, byte) {
                    _ if self.name.len() > MODEL_NAME_MAX => {
                        self.name.clear();
                        Place::Done
                    }
                    (Place::Name, b'"') => Place::Done,
                    (Place::Name, b'\\') => Place::NameEscape,
                    _ => Place::Name,
                }
            }
            (Place::Before | Place::Members | Place::Done, _) => Place::Done,
        }
    }
}

/// Where a string that was taken at once leads.
enum Jump<'b> {
    /// Behind it.
    To(&'b [u8]),
    /// Its end is not here yet.
    Out,
    /// It is the name.
    Found,
    /// It has to be gone through byte by byte.
    None,
}

fn read(quoted: &[u8]) -> Option<Box<str>> {
    let plain = quoted
        .strip_prefix(b"\"")
        .and_then(|name| name.strip_suffix(b"\""));
    match plain {
        Some(name)
            if name
                .iter()
                .all(|byte| byte.is_ascii_graphic() && *byte != b'\\') =>
        {
            std::str::from_utf8(name).ok().map(Box::from)
        }
        _ => serde_json::from_slice(quoted).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(pieces: &[&[u8]]) -> Option<Option<String>> {
        let mut search = ModelSearch::default();
        let found = pieces.iter().find_map(|piece| search.feed(piece));
        found.map(|name| name.map(String::from))
    }

    #[test]
    fn the_model_of_the_top_level_is_found_wherever_it_stands() {
        for (body, name) in [
            (r#"{"model":"gpt-4o","messages":[]}"#, "gpt-4o"),
            (" {\n \"model\" :\t\"a b\" }", "a b"),
            (
                r#"{"x":{"model":"no"},"y":[{"model":"no"}],"model":"m"}"#,
                "m",
            ),
            (r#"{"a":"\"model\":\"no\"","b":"\\","model":"m"}"#, "m"),
            (
                r#"{"n":-1.5e3,"t":true,"z":null,"modelx":"no","mode":"no","model":"m"}"#,
                "m",
            ),
            (r#"{"model":"a\/b\u00e9\"","x":1}"#, "a/bé\""),
            (r#"{"e":{},"l":[],"s":"","model":"m"}"#, "m"),
        ] {
            assert_eq!(
                search(&[body.as_bytes()]),
                Some(Some(name.to_owned())),
                "{body}"
            );
        }
    }

    #[test]
    fn where_there_is_none_the_search_ends() {
        for body in [
            "--boundary\r\n",
            "[{\"model\":\"m\"}]",
            "{}",
            r#"{"model":7}"#,
            r#"{"model":null}"#,
            r#"{"a":1}"#,
            r#"{"mo\u0064el":"m"}"#,
            "\x1f\u{8b}",
        ] {
            assert_eq!(search(&[body.as_bytes()]), Some(None), "{body}");
        }
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MODEL_NAME_MAX));
        assert_eq!(search(&[long.as_bytes()]), Some(None));
        assert_eq!(search(&[br#"{"messages":["#]), None);
        let far = format!(r#"{{"a":"{}"#, "x".repeat(MODEL_SEARCH_MAX));
        assert_eq!(search(&[far.as_bytes()]), Some(None));
    }

    proptest! {
        #[test]
        fn pieces_cut_anywhere_are_searched_as_the_whole(
            keys in proptest::collection::vec(("[a-z\\\\\"é]{0,6}", 0..5usize), 0..6),
            name in proptest::option::of("[a-z/\\\\\"é]{0,12}"),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut object = serde_json::Map::new();
            for (key, kind) in keys {
                let value = [
                    serde_json::json!({"model": [key, "\\\""]}),
                    serde_json::json!(["{", key]),
                    serde_json::json!(key),
                    serde_json::json!(1.5),
                    serde_json::json!(null),
                ][kind].clone();
                object.insert(key.replace(['\\', '"'], "_"), value);
            }
            object.remove("model");
            if let Some(name) = &name {
                object.insert("model".to_owned(), name.as_str().into());
            }
            let body = serde_json::Value::Object(object).to_string();
            let (first, second) = body.as_bytes().split_at(cut.index(body.len()));
            prop_assert_eq!(search(&[first, second]), Some(name.clone()));
            let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            prop_assert_eq!(search(&single), Some(name));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            search(&[&bytes]);
        }
    }
}
