//! The short way through an ordinary answer: one document, one `usage` and one `model` at its top. Both are looked for, and what
//! stands between them is not read. Whatever is not sure this way is left to [`super::node`].

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use super::node::{Node, known};
use super::scan::{depth, member_value};

/// What an ordinary answer states.
pub(super) struct Stated<'a> {
    /// The object with the counts.
    pub counts: Node<'a>,
    /// The model that answered.
    pub model: &'a str,
}

/// Prepared once: that takes longer than a search.
struct Finders {
    usage: Finder<'static>,
    model: Finder<'static>,
    message: Finder<'static>,
}

static FINDERS: LazyLock<Finders> = LazyLock::new(|| Finders {
    usage: Finder::new(b"\"usage"),
    model: Finder::new(b"\"model\""),
    message: Finder::new(b"\"message_"),
});

/// `None`: not sure.
pub(super) fn read(body: &[u8]) -> Option<Stated<'_>> {
    let finders = &*FINDERS;
    let usage = only(&finders.usage, body)?;
    let value = member_value(body[usage..].strip_prefix(b"\"usage\"")?)?;
    let value = value.trim_ascii_start();
    let mut reader = Counts {
        json: value,
        at: 0,
        nested: 0,
    };
    let counts = reader.value()?;
    let behind = &value[reader.at..];
    let is_top = body.first() == Some(&b'{') && closes_once(behind);
    if !is_top || !matches!(counts, Node::Map(_)) {
        return None;
    }
    // A stream's events state their counts in parts, whoever sends them as a body.
    let of_messages = ["input_tokens", "output_tokens"];
    if counts.first_count(&of_messages).is_some() && finders.message.find(body).is_some() {
        return None;
    }
    let model = only(&finders.model, body)?;
    let is_top = match model < usage {
        true => is_flat(&body[1..model]) || is_flat(&body[model..usage]),
        false => is_flat(&body[body.len() - behind.len()..model]),
    };
    let name = member_value(&body[model + b"\"model\"".len()..])?.trim_ascii_start();
    let name = text(name.strip_prefix(b"\"")?)?;
    (is_top && !name.is_empty()).then_some(Stated {
        counts,
        model: name,
    })
}

/// Where the pattern stands, if it does so once. A quote inside a JSON string is escaped, so that no text is found.
fn only(pattern: &Finder<'_>, body: &[u8]) -> Option<usize> {
    let mut found = pattern.find_iter(body);
    let at = found.next()?;
    let in_text = at > 0 && body[at - 1] == b'\\';
    (!in_text && found.next().is_none()).then_some(at)
}

/// Whether `rest`, which starts behind a member of an object, closes this object with its last byte and nothing else before.
fn closes_once(rest: &[u8]) -> bool {
    let Some(members) = rest.trim_ascii_end().strip_suffix(b"}") else {
        return false;
    };
    let members = members.trim_ascii();
    // Without brackets no member can close what it did not open; with some in it the careful way is taken.
    members.is_empty() || members.starts_with(b",") && is_flat(members) && depth(members) == Some(0)
}

/// Whether no object and no list begins or ends there: both ends are within the same one.
fn is_flat(json: &[u8]) -> bool {
    memchr2(b'{', b'}', json).is_none() && memchr2(b'[', b']', json).is_none()
}

/// The text up to the next quote, where it has no escapes.
fn text(quoted: &[u8]) -> Option<&str> {
    let end = quoted
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    match quoted[end] {
        b'"' => std::str::from_utf8(&quoted[..end]).ok(),
        _ => None,
    }
}

/// Reads an object of whole numbers and of such objects, as usage mostly is.
struct Counts<'a> {
    json: &'a [u8],
    at: usize,
    nested: usize,
}

/// Usage has objects within its object; some put lists into these, which are not read here.
const NESTED_MAX: usize = 4;

impl<'a> Counts<'a> {
    fn value(&mut self) -> Option<Node<'a>> {
        match self.peek()? {
            b'0'..=b'9' => self.number(),
            b'{' => self.object(),
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            _ => None,
        }
    }

    fn object(&mut self) -> Option<Node<'a>> {
        self.at += 1;
        self.nested += 1;
        if self.nested > NESTED_MAX {
            return None;
        }
        let mut members = Vec::with_capacity(8);
        if self.peek()? != b'}' {
            loop {
                if self.peek()? != b'"' {
                    return None;
                }
                let quoted = &self.json[self.at + 1..];
                let end = memchr2(b'"', b'\\', quoted)?;
                if quoted[end] == b'\\' {
                    return None;
                }
                let key = &quoted[..end];
                self.at += end + 2;
                if self.peek()? != b':' {
                    return None;
                }
                self.at += 1;
                let value = self.value()?;
                if let Some(key) = known(key) {
                    members.push((key, value));
                }
                match self.peek()? {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.at += 1;
        self.nested -= 1;
        Some(Node::Map(members))
    }

    fn number(&mut self) -> Option<Node<'a>> {
        let digits = &self.json[self.at..];
        let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        // No leading zeros, no fractions, and no overflow.
        let plain = length < 19 && (length == 1 || digits[0] != b'0');
        if !plain || matches!(digits[length], b'.' | b'e' | b'E') {
            return None;
        }
        self.at += length;
        let sum = digits[..length]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(Node::Count(sum))
    }

    fn literal(&mut self, word: &[u8]) -> Option<Node<'a>> {
        self.json[self.at..].strip_prefix(word)?;
        self.at += word.len();
        Some(Node::Other)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.json.get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::usage::Reading;
    use super::*;
    use proptest::prelude::*;

    /// Both ways through a valid document; the short one may be unsure.
    fn agree(body: &str) -> bool {
        let mut careful = Reading::default();
        careful.observe(body.as_bytes()).expect("valid JSON");
        let Some(stated) = read(body.as_bytes()) else {
            return false;
        };
        let mut quick = Reading::default();
        if !quick.take(&stated) {
            return false;
        }
        assert_eq!(quick.finish(), careful.finish(), "{body}");
        true
    }

    #[test]
    fn ordinary_answers_are_read_the_short_way() {
        for body in [
            r#"{"id":"c","model":"gpt-a","choices":[{"message":{"content":"the \"usage\": 1"}}],"usage":{"prompt_tokens":78,"completion_tokens":9,"total_tokens":87,"prompt_tokens_details":{"cached_tokens":64}}}"#,
            r#"{"model":"claude-a","type":"message","content":[{}],"usage":{"cache_creation_input_tokens":10,"input_tokens":30,"output_tokens":40,"service_tier":null},"stop":"x"}"#,
            r#"{"choices":[{"message":{"content":"x"}}],"created":1,"model":"m","object":"o","usage":{"completion_tokens":32,"completion_tokens_details":{"audio_tokens":0,"reasoning_tokens":0},"prompt_tokens":8,"total_tokens":40}}"#,
            "{ \"object\" : [ { } ] ,\n \"usage\" : {\n \"prompt_tokens\" : 4 } , \"model\" : \"embed\" }\n",
        ] {
            // The text that speaks of usage makes it unsure; without it the way is short.
            assert!(agree(&body.replace("\\\"usage\\\"", "x")), "{body}");
            agree(body);
        }
    }

    #[test]
    fn what_is_not_sure_is_left_to_the_other() {
        for body in [
            r#"{"model":"m","choices":[{"usage":{"prompt_tokens":9}}]}"#,
            r#"{"model":"m","result":{"usage":{"prompt_tokens":9}}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":9},"usage":{"prompt_tokens":8}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":9.0}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":9},"x_groq":{"usage":{"prompt_tokens":8}}}"#,
            r#"{"choices":[{"model":"n"}],"usage":{"prompt_tokens":9}}"#,
            r#"{"model":"","usage":{"prompt_tokens":9}}"#,
            r#"{"model":"a\u0041","usage":{"prompt_tokens":9}}"#,
            r#"{"model":"m","usage":null}"#,
            r#"{"model":"m","usage":{"seconds":9}}"#,
            r#"{"model":"m","type":"message_delta","usage":{"output_tokens":9}}"#,
            r#"{"choices":[{"model":"n"},{}],"usage":{"prompt_tokens":9}}"#,
            r#"[{"model":"m","usage":{"prompt_tokens":9}}]"#,
        ] {
            assert!(!agree(body), "{body}");
        }
        for broken in [
            r#"{"model":"m","usage":{"prompt_tokens":1,"#,
            r#"{"model":"m","usage":{"prompt_tokens":01}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":1}"#,
            r#"{"model":"m","usage":{"prompt_tokens":1}} x"#,
            r#"{"model":"m","usage":{"prompt_tokens":1}}}"#,
        ] {
            assert!(read(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same(
            members in proptest::collection::vec(0..9usize, 0..6),
            counts in proptest::collection::vec((0..6usize, 0u64..1000), 0..5),
        ) {
            const NAMES: [&str; 6] = ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "other"];
            let counts: Vec<String> = counts.iter().map(|(name, count)| format!("\"{}\":{count}", NAMES[*name])).collect();
            let usage = format!("{{{}}}", counts.join(","));
            let members: Vec<String> = members.iter().map(|kind| match kind {
                0 => format!("\"usage\":{usage}"),
                1 => "\"model\":\"m\"".to_owned(),
                2 => format!("\"choices\":[{{\"usage\":{usage},\"model\":\"n\"}}]"),
                3 => "\"text\":\"\\\"usage\\\":{}]}\"".to_owned(),
                4 => format!("\"response\":{{\"usage\":{usage}}}"),
                5 => "\"tail\":[]".to_owned(),
                6 => "\"object\":\"model\"".to_owned(),
                7 => "\"tail\":\"}{][\"".to_owned(),
                _ => "\"list\":[1,{},[]]".to_owned(),
            }).collect();
            agree(&format!("{{{}}}", members.join(",")));
        }
    }
}
