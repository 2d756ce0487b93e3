//! Changes single fields of a JSON text and leaves every other byte as it is: the form of numbers, unknown fields, white space
//! and order reach the provider as the client wrote them.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use super::failure::Invalid;
use crate::limits::JSON_DEPTH_MAX;

/// A member of an object.
#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    /// The name with its quotes.
    key: Range<usize>,
    value: Range<usize>,
    fate: Fate,
}

/// What becomes of a member.
#[derive(Debug, PartialEq)]
enum Fate {
    Stays,
    Goes,
    /// Other bytes stand for its name, its value, or both.
    Changes {
        name: Option<String>,
        value: Option<Vec<u8>>,
    },
}

/// The members of one object of a JSON text, and what is to become of them. What the values hold is only looked at so far that
/// their ends are found.
#[derive(Debug)]
pub struct Object<'a> {
    json: &'a [u8],
    /// Behind the opening brace.
    open: usize,
    members: Vec<Member<'a>>,
    added: Vec<(String, Vec<u8>)>,
}

impl<'a> Object<'a> {
    /// Reads a request's body. Nothing may follow the object, nesting is bounded, and no name may come twice: parsers differ in
    /// which of the two they believe, also where only the case differs.
    pub fn read(json: &'a [u8]) -> Result<Self, Invalid> {
        let start = skip_space(json, 0);
        let (object, end) = Self::parse(json, start, "")?;
        let end = skip_space(json, end);
        match end == json.len() {
            true => Ok(object),
            false => Err(broken(json, end)),
        }
    }

    /// Reads an object inside of a text; `place` names it in errors.
    pub fn at(json: &'a [u8], span: Range<usize>, place: &str) -> Result<Self, Invalid> {
        Self::parse(&json[..span.end], span.start, place).map(|(object, _)| object)
    }

    fn parse(json: &'a [u8], start: usize, place: &str) -> Result<(Self, usize), Invalid> {
        if json.get(start) != Some(&b'{') {
            let message = match place.is_empty() {
                true => "The body must be a JSON object".to_owned(),
                false => format!("{place} must be an object"),
            };
            return Err(Invalid {
                message,
                param: Some(place.to_owned()).filter(|place| !place.is_empty()),
                code: Some("invalid_type"),
            });
        }
        let mut object = Self {
            json,
            open: start + 1,
            members: Vec::with_capacity(16),
            added: Vec::new(),
        };
        let mut at = skip_space(json, start + 1);
        if json.get(at) == Some(&b'}') {
            return Ok((object, at + 1));
        }
        loop {
            at = object.member(at).map_err(|at| broken(json, at))?;
            match json.get(at) {
                Some(b',') => at = skip_space(json, at + 1),
                Some(b'}') => break,
                _ => return Err(broken(json, at)),
            }
        }
        object.refuse_doubles(place)?;
        Ok((object, at + 1))
    }

    /// Reads a member and gives what follows it, or where it is broken.
    fn member(&mut self, at: usize) -> Result<usize, usize> {
        let json = self.json;
        let key = at..string_end(json, at)?;
        let colon = skip_space(json, key.end);
        if json.get(colon) != Some(&b':') {
            return Err(colon);
        }
        let start = skip_space(json, colon + 1);
        let value = start..value_end(json, start)?;
        let next = skip_space(json, value.end);
        let name = text(&json[key.clone()]).ok_or(key.start)?;
        self.members.push(Member {
            name,
            key,
            value,
            fate: Fate::Stays,
        });
        Ok(next)
    }

    fn refuse_doubles(&self, place: &str) -> Result<(), Invalid> {
        let same =
            |one: &Member<'_>, other: &Member<'_>| one.name.eq_ignore_ascii_case(&other.name);
        let doubled = match self.members.len() {
            // Requests have some ten fields.
            0..=64 => self
                .members
                .iter()
                .enumerate()
                .find(|(at, member)| self.members[..*at].iter().any(|other| same(other, member)))
                .map(|(_, member)| member.name.to_string()),
            _ => {
                let mut names: Vec<String> = self
                    .members
                    .iter()
                    .map(|member| member.name.to_ascii_lowercase())
                    .collect();
                names.sort_unstable();
                let pair = names.windows(2).find(|pair| pair[0] == pair[1]);
                pair.map(|pair| pair[0].clone())
            }
        };
        let Some(name) = doubled else { return Ok(()) };
        let param = match place.is_empty() {
            true => name.clone(),
            false => format!("{place}.{name}"),
        };
        Err(Invalid {
            code: Some("duplicate_field"),
            ..Invalid::at(param, format!("The field {name} occurs twice"))
        })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_ref())
    }

    /// Where the value of a field stands in the text; `None` where it is absent or null.
    pub fn span(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().find(|member| member.name == name)?;
        let is_null = &self.json[member.value.clone()] == b"null";
        (!is_null).then(|| member.value.clone())
    }

    /// The text of a field's value; `None` where it is absent or null.
    pub fn raw(&self, name: &str) -> Option<&'a [u8]> {
        self.span(name).map(|span| &self.json[span])
    }

    /// A field that is a string.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.raw(name)?)
    }

    /// Whether there is such a field, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// Replaces a field's value, or adds the field behind the others.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.find(name) {
            Some(member) => match &mut member.fate {
                Fate::Changes { value: old, .. } => *old = Some(value),
                _ => {
                    member.fate = Fate::Changes {
                        name: None,
                        value: Some(value),
                    };
                }
            },
            None => self.added.push((name.to_owned(), value)),
        }
    }

    /// Gives a field another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        let Some(member) = self.find(from) else {
            return;
        };
        match &mut member.fate {
            Fate::Changes { name, .. } => *name = Some(to.to_owned()),
            _ => {
                member.fate = Fate::Changes {
                    name: Some(to.to_owned()),
                    value: None,
                };
            }
        }
    }

    /// Takes a field away; whether it said something.
    pub fn remove(&mut self, name: &str) -> bool {
        let said = self.span(name).is_some();
        if let Some(member) = self.find(name) {
            member.fate = Fate::Goes;
        }
        said
    }

    /// What a field will be called.
    pub fn new_name<'n>(&'n self, name: &'n str) -> &'n str {
        let member = self.members.iter().find(|member| member.name == name);
        match member.map(|member| &member.fate) {
            Some(Fate::Changes {
                name: Some(name), ..
            }) => name,
            _ => name,
        }
    }

    fn find(&mut self, name: &str) -> Option<&mut Member<'a>> {
        self.members.iter_mut().find(|member| member.name == name)
    }

    /// Notes what is to be done to the text.
    pub fn note(self, edits: &mut Edits) {
        let goes = |member: &Member<'_>| member.fate == Fate::Goes;
        let first_kept = self.members.iter().position(|member| !goes(member));
        for (at, member) in self.members.iter().enumerate() {
            let kept_before = first_kept.is_some_and(|first| first < at);
            match &member.fate {
                Fate::Stays => {}
                Fate::Goes if kept_before => {
                    edits.push(self.members[at - 1].value.end..member.value.end, Vec::new());
                }
                Fate::Goes => {
                    let end = match self.members.get(at + 1) {
                        Some(next) => next.key.start,
                        None => member.value.end,
                    };
                    edits.push(member.key.start..end, Vec::new());
                }
                Fate::Changes { name, value } => {
                    if let Some(name) = name {
                        edits.push(member.key.clone(), quoted(name));
                    }
                    if let Some(value) = value {
                        edits.push(member.value.clone(), value.clone());
                    }
                }
            }
        }
        let end = self.members.last().map_or(self.open, |last| last.value.end);
        let mut comma = first_kept.is_some();
        let mut tail = Vec::new();
        for (name, value) in self.added {
            if std::mem::replace(&mut comma, true) {
                tail.push(b',');
            }
            tail.extend_from_slice(&quoted(&name));
            tail.push(b':');
            tail.extend_from_slice(&value);
        }
        if !tail.is_empty() {
            edits.push(end..end, tail);
        }
    }
}

/// The elements of a list, by where they stand; `None` where it is no list.
pub fn items(json: &[u8], span: Range<usize>) -> Option<Vec<Range<usize>>> {
    let json = &json[..span.end];
    if json.get(span.start) != Some(&b'[') {
        return None;
    }
    let mut found = Vec::new();
    let mut at = skip_space(json, span.start + 1);
    if json.get(at) == Some(&b']') {
        return Some(found);
    }
    loop {
        let end = value_end(json, at).ok()?;
        found.push(at..end);
        at = skip_space(json, end);
        match json.get(at) {
            Some(b',') => at = skip_space(json, at + 1),
            Some(b']') => return Some(found),
            _ => return None,
        }
    }
}

/// Whether a JSON text is nested no deeper than parsers may recurse. What is no JSON at all may pass.
pub fn is_bounded(json: &[u8]) -> bool {
    match value_end(json, skip_space(json, 0)) {
        Ok(end) => skip_space(json, end) == json.len(),
        Err(_) => false,
    }
}

/// What is to be done to a text.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<(Range<usize>, Vec<u8>)>,
}

impl Edits {
    /// Other bytes stand where these stood.
    pub fn push(&mut self, span: Range<usize>, bytes: Vec<u8>) {
        self.edits.push((span, bytes));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The text with everything done. Of edits within each other the outer one counts.
    pub fn apply(mut self, json: &[u8]) -> Vec<u8> {
        self.edits
            .sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
        let more: usize = self.edits.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut out = Vec::with_capacity(json.len() + more);
        let mut at = 0;
        for (span, bytes) in self.edits {
            if span.start < at {
                continue;
            }
            out.extend_from_slice(&json[at..span.start]);
            out.extend_from_slice(&bytes);
            at = span.end;
        }
        out.extend_from_slice(&json[at..]);
        out
    }
}

/// A text as JSON.
pub fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// A JSON string as text.
fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    match memchr::memchr(b'\\', inner) {
        None => std::str::from_utf8(inner).ok().map(Cow::Borrowed),
        Some(_) => serde_json::from_slice(raw).ok().map(Cow::Owned),
    }
}

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    let space = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    from + space.count()
}

/// One past the string that starts at `at`.
fn string_end(json: &[u8], at: usize) -> Result<usize, usize> {
    if json.get(at) != Some(&b'"') {
        return Err(at);
    }
    let mut from = at + 1;
    loop {
        let found = memchr2(b'"', b'\\', json.get(from..).unwrap_or_default());
        match found.map(|found| from + found) {
            None => return Err(json.len()),
            Some(end) if json[end] == b'"' => return Ok(end + 1),
            Some(escape) => from = escape + 2,
        }
    }
}

/// One past the value that starts at `at`.
fn value_end(json: &[u8], at: usize) -> Result<usize, usize> {
    match json.get(at) {
        Some(b'"') => string_end(json, at),
        Some(b'{' | b'[') => container_end(json, at),
        Some(_) => {
            let rest = &json[at..];
            let length = rest.iter().position(|byte| {
                matches!(
                    byte,
                    b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'{' | b'['
                )
            });
            let end = at + length.unwrap_or(rest.len());
            let is_scalar = serde_json::from_slice::<serde::de::IgnoredAny>(&json[at..end]).is_ok();
            is_scalar.then_some(end).ok_or(at)
        }
        None => Err(json.len()),
    }
}

fn container_end(json: &[u8], start: usize) -> Result<usize, usize> {
    // One bit for each level: whether it is a list. The level around this one counts.
    let (mut lists, mut depth, mut at) = (0_u128, 1, start);
    loop {
        match json.get(at) {
            Some(b'"') => {
                at = string_end(json, at)?;
                continue;
            }
            Some(open @ (b'{' | b'[')) => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(at);
                }
                lists = lists << 1 | u128::from(*open == b'[');
            }
            Some(close @ (b'}' | b']')) => {
                if (lists & 1 == 1) != (*close == b']') {
                    return Err(at);
                }
                lists >>= 1;
                depth -= 1;
                if depth == 1 {
                    return Ok(at + 1);
                }
            }
            Some(_) => {}
            None => return Err(json.len()),
        }
        at += 1;
    }
}

fn broken(json: &[u8], at: usize) -> Invalid {
    let before = &json[..at.min(json.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + before.len() - memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
    let what = match at >= json.len() {
        true => "it ends too early",
        false => "something is wrong",
    };
    Invalid {
        message: format!(
            "The body is not JSON, or is nested deeper than {JSON_DEPTH_MAX} levels: {what} at line {line} column {column}"
        ),
        param: None,
        code: Some("invalid_json"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn edited(json: &str, change: impl FnOnce(&mut Object<'_>)) -> String {
        let mut object = Object::read(json.as_bytes()).unwrap();
        change(&mut object);
        let mut edits = Edits::default();
        object.note(&mut edits);
        String::from_utf8(edits.apply(json.as_bytes())).unwrap()
    }

    #[test]
    fn what_is_not_meant_stays_byte_for_byte() {
        let json = "{ \"temperature\" : 1.0e+0,\n\t\"model\": \"a\\u002fb\" , \"seed\":12345678901234567890123, \"x\":[{\"model\":1}] }\n";
        assert_eq!(edited(json, |_| {}), json);
        let with = |new: &str| json.replace("\"a\\u002fb\"", new);
        assert_eq!(
            edited(json, |object| object.set("model", "\"c\"")),
            with("\"c\"")
        );
        assert_eq!(
            edited(json, |object| object.rename("seed", "random_seed")),
            json.replace("\"seed\"", "\"random_seed\"")
        );
        assert_eq!(
            edited(json, |object| object.set("n", "1")),
            json.replace("}] }", "}],\"n\":1 }")
        );
        let object = Object::read(json.as_bytes()).unwrap();
        assert_eq!(object.text("model").as_deref(), Some("a/b"));
        assert_eq!(object.raw("temperature"), Some(b"1.0e+0".as_slice()));
    }

    #[test]
    fn members_go_wherever_they_stand() {
        let json = r#"{"a":1, "b":2, "c":3}"#;
        for (names, left) in [
            (vec!["a"], r#"{"b":2, "c":3}"#),
            (vec!["b"], r#"{"a":1, "c":3}"#),
            (vec!["c"], r#"{"a":1, "b":2}"#),
            (vec!["a", "b"], r#"{"c":3}"#),
            (vec!["a", "c"], r#"{"b":2}"#),
            (vec!["b", "c"], r#"{"a":1}"#),
            (vec!["a", "b", "c"], "{}"),
        ] {
            let removed = edited(json, |object| {
                for name in &names {
                    assert!(object.remove(name));
                }
            });
            assert_eq!(removed, left);
        }
        let all = edited(json, |object| {
            ["a", "b", "c"].iter().for_each(|name| {
                object.remove(name);
            });
            object.set("d", "4");
        });
        assert_eq!(all, r#"{"d":4}"#);
        assert_eq!(edited(" {} ", |object| object.set("d", "4")), " {\"d\":4} ");
    }

    #[test]
    fn doubled_names_are_refused_and_named() {
        for (json, name) in [
            (r#"{"model":"a","x":1,"model":"b"}"#, "model"),
            (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
            (r#"{"model":"a","Model":"b"}"#, "Model"),
        ] {
            let refused = Object::read(json.as_bytes()).unwrap_err();
            assert_eq!(refused.param.as_deref(), Some(name));
            assert_eq!(refused.code, Some("duplicate_field"));
        }
        let many: Vec<String> = (0..100).map(|at| format!("\"k{at}\":{at}")).collect();
        let json = format!("{{{},\"K7\":1}}", many.join(","));
        assert_eq!(
            Object::read(json.as_bytes()).unwrap_err().param.as_deref(),
            Some("k7")
        );
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (json, place) in [
            ("{\"a\":1,\n \"b\":}", "line 2 column 6"),
            ("{\"a\":[1,2}", "line 1 column 10"),
            ("{\"a\":1} x", "line 1 column 9"),
            ("{\"a\":1", "line 1 column 7"),
            ("{\"a\":\"x", "ends too early"),
            ("{a:1}", "line 1 column 2"),
            ("{\"a\":tru}", "line 1 column 6"),
            ("{\"a\":01}", "line 1 column 6"),
            ("{\"a\" 1}", "line 1 column 6"),
            ("{\"a\":1,}", "line 1 column 8"),
        ] {
            let refused = Object::read(json.as_bytes()).unwrap_err();
            assert!(
                refused.message.contains(place),
                "{json}: {}",
                refused.message
            );
        }
        for json in ["", "[]", "7", "null"] {
            assert!(Object::read(json.as_bytes()).is_err());
        }
        let deep =
            |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        let bounded: Result<Value, _> = serde_json::from_str(&deep(JSON_DEPTH_MAX - 1));
        assert!(bounded.is_ok());
        assert!(Object::read(deep(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        assert!(Object::read(deep(JSON_DEPTH_MAX).as_bytes()).is_err());
    }

    #[test]
    fn lists_are_divided_and_inner_objects_changed() {
        let json = br#"{"messages": [ {"role":"developer"} , "x", [1,2] ]}"#;
        let object = Object::read(json).unwrap();
        let spans = items(json, object.span("messages").unwrap()).unwrap();
        assert_eq!(spans.len(), 3);
        assert_eq!(&json[spans[2].clone()], b"[1,2]");
        let mut inner = Object::at(json, spans[0].clone(), "messages[0]").unwrap();
        inner.set("role", "\"system\"");
        let mut edits = Edits::default();
        inner.note(&mut edits);
        assert_eq!(
            edits.apply(json),
            br#"{"messages": [ {"role":"system"} , "x", [1,2] ]}"#
        );
        assert!(Object::at(json, spans[1].clone(), "messages[1]").is_err());
        assert_eq!(items(json, 0..json.len()), None);
    }

    proptest! {
        #[test]
        fn edits_mean_what_the_same_edits_of_values_mean(
            names in proptest::collection::btree_set("[a-f]", 0..6),
            gone in proptest::collection::vec("[a-g]", 0..4),
            set in proptest::collection::vec(("[a-g]", -5i64..5), 0..3),
            space in "[ \n]{0,2}",
        ) {
            let members: Vec<String> = names.iter().map(|name| format!("{space}\"{name}\"{space}:{space}[{{\"{name}\":1}}]{space}")).collect();
            let json = format!("{space}{{{}}}{space}", members.join(","));
            let mut expected: Map<String, Value> = serde_json::from_str(&json).unwrap();
            let text = edited(&json, |object| {
                for name in &gone {
                    object.remove(name);
                    expected.remove(name);
                }
                let mut done = std::collections::BTreeSet::new();
                for (name, value) in set.iter().filter(|(name, _)| done.insert(name.clone())) {
                    object.set(name, value.to_string());
                    expected.insert(name.clone(), Value::from(*value));
                }
            });
            let found: Map<String, Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_text_makes_it_panic(json in "[{}\\[\\]\",:a1\\\\ nul]{0,40}") {
            if let Ok(object) = Object::read(json.as_bytes()) {
                // What it takes for JSON is at least divided as JSON would be.
                if let Ok(value) = serde_json::from_str::<Map<String, Value>>(&json) {
                    prop_assert_eq!(value.len(), object.names().count());
                }
            } else if let Ok(value) = serde_json::from_str::<Map<String, Value>>(&json) {
                let doubles = json.matches(':').count() > value.len();
                prop_assert!(doubles, "{json} is JSON");
            }
        }
    }
}
