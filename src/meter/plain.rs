//! The short way through an ordinary answer: one document, one `usage` and one `model` at its top. Both are looked for, and what
//! stands between them is not read. Whatever is not sure this way is left to [`super::node`].

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use super::counts::{Count, Counts, Member, Part};
use super::scan::{depth, member_value};

/// What an ordinary answer states.
pub(super) struct Stated<'a> {
    /// What its usage object counts.
    pub counts: Counts,
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
    let (counts, behind) = read_counts(value.trim_ascii_start())?;
    if body.first() != Some(&b'{') || !closes_once(behind) {
        return None;
    }
    // A stream's events state their counts in parts, whoever sends them as a body.
    let of_messages = counts.first(&[Count::Input, Count::Output]).is_some();
    if of_messages && finders.message.find(body).is_some() {
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
    let at = pattern.find(body)?;
    let in_text = at > 0 && body[at - 1] == b'\\';
    (!in_text && pattern.find(&body[at + 1..]).is_none()).then_some(at)
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
    let text = &quoted[..end_of_text(quoted)?];
    match text.iter().any(|byte| *byte < 0x20 || *byte == b'\\') {
        true => None,
        false => std::str::from_utf8(text).ok(),
    }
}

/// Where the first quote stands. Looks at eight bytes at once: keys are too short for a call of `memchr`.
#[inline]
fn end_of_text(quoted: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    let mut rest = quoted;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word) ^ QUOTES;
        // The lowest bit set is that of the first zero byte.
        let found = word.wrapping_sub(ONES) & !word & HIGH;
        if found != 0 {
            return Some(quoted.len() - rest.len() + found.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    let at = rest.iter().position(|byte| *byte == b'"')?;
    Some(quoted.len() - rest.len() + at)
}

/// Reads the object at the front of `json`, and gives what stands behind it.
fn read_counts(json: &[u8]) -> Option<(Counts, &[u8])> {
    let mut reader = Reader {
        rest: json,
        nested: 0,
        counts: Counts::default(),
    };
    reader.object(Some(Part::Usage))?;
    let object = &json[..json.len() - reader.rest.len()];
    // With an escape in it a key may be another than it seems, and a text end elsewhere.
    let is_sure = memchr(b'\\', object).is_none();
    is_sure.then_some((reader.counts, reader.rest))
}

/// Reads an object of whole numbers, plain texts and of such objects, as usage mostly is.
struct Reader<'a> {
    rest: &'a [u8],
    nested: usize,
    counts: Counts,
}

/// Usage has objects within its object; some put lists into these, which are not read here.
const NESTED_MAX: usize = 4;

impl Reader<'_> {
    /// An object whose members count, or one whose do not.
    fn object(&mut self, part: Option<Part>) -> Option<()> {
        self.take(b'{')?;
        self.nested += 1;
        if self.nested > NESTED_MAX {
            return None;
        }
        if self.peek()? != b'}' {
            loop {
                let key = self.text()?;
                let member = part.and_then(|part| part.member(key));
                self.peek()?;
                self.take(b':')?;
                self.value(member)?;
                match self.peek()? {
                    b',' => self.take(b',')?,
                    _ => break,
                }
                self.peek()?;
            }
        }
        self.take(b'}')?;
        self.nested -= 1;
        Some(())
    }

    #[inline]
    fn value(&mut self, member: Option<Member>) -> Option<()> {
        let mut count = None;
        match self.peek()? {
            b'0'..=b'9' => count = Some(self.number()?),
            b'{' => {
                if let Some(Member::Part(part)) = member {
                    self.counts.begin(part);
                    return self.object(Some(part));
                }
                self.object(None)?;
            }
            b'"' => {
                self.text()?;
            }
            b'n' => self.literal(b"null")?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            _ => return None,
        }
        match member {
            Some(Member::Count(place)) => self.counts.set(place, count),
            Some(Member::Part(part)) => self.counts.begin(part),
            Some(Member::Iterations) => return None,
            None => {}
        }
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let digits = self.rest;
        let mut sum = u64::from(digits[0] - b'0');
        let mut length = 1;
        loop {
            match *digits.get(length)? {
                digit @ b'0'..=b'9' => {
                    sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                }
                b'.' | b'e' | b'E' => return None,
                _ => break,
            }
            length += 1;
        }
        self.rest = &digits[length..];
        // No leading zeros, and no overflow.
        (length == 1 || digits[0] != b'0' && length < 19).then_some(sum)
    }

    /// What stands between two quotes, where it has no escapes.
    #[inline]
    fn text(&mut self) -> Option<&[u8]> {
        self.take(b'"')?;
        let (text, behind) = self.rest.split_at(end_of_text(self.rest)?);
        self.rest = &behind[1..];
        Some(text)
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => self.rest = rest,
            _ => return None,
        }
        Some(())
    }

    /// The next byte that is no white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest.split_first()? {
                (byte, _) if *byte > b' ' => return Some(*byte),
                (b' ' | b'\t' | b'\r' | b'\n', rest) => self.rest = rest,
                _ => return None,
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
            r#"{"model":"claude-a","type":"message","content":[{}],"usage":{"input_tokens":3,"cache_creation":{"ephemeral_5m_input_tokens":7},"output_tokens":4,"service_tier":"standard","cache_creation_input_tokens":null}}"#,
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
            r#"{"model":"m","usage":{"input_tokens":9,"iterations":null}}"#,
            r#"{"model":"m","usage":{"prompt\u005ftokens":8,"prompt_tokens":9}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":9,"x":"a\"b"}}"#,
            r#"{"model":"m","usage":{"prompt_tokens":9,"x":[1]}}"#,
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
            counts in proptest::collection::vec((0..11usize, 0..9u64, 0u64..1000), 0..8),
        ) {
            const NAMES: [&str; 11] = ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "other",
                "prompt_tokens_details", "output_tokens_details", "cache_creation", "cached_tokens", "tokens"];
            let counts: Vec<String> = counts.iter().map(|(name, kind, count)| {
                let value = match kind {
                    0 => "null".to_owned(),
                    1 => format!("{{\"cached_tokens\":{count},\"cache_write_tokens\":1}}"),
                    2 => format!("{{\"input_tokens\":{count},\"reasoning_tokens\":1}}"),
                    3 => "\"text\"".to_owned(),
                    _ => count.to_string(),
                };
                format!("\"{}\":{value}", NAMES[*name])
            }).collect();
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
