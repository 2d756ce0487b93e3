//! The short way through an ordinary answer: one document, one `usage` and one `model` at its top. Both are looked for, and what
//! stands between them is not read. Whatever is not sure this way is left to [`super::node`].

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};

use super::counts::{Count, Counts, Member, Part};
use super::scan::{depth, member_value};
use super::search;

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

/// Fills `counts` with what an ordinary answer counts, and gives the model that answered. `None`: not sure.
pub(super) fn read<'a>(body: &'a [u8], counts: &mut Counts) -> Option<&'a str> {
    let finders = &*FINDERS;
    let usage = only(&finders.usage, body)?;
    let value = member_value(body[usage..].strip_prefix(b"\"usage\"")?)?;
    let behind = read_usage(value.trim_ascii_start(), counts)?;
    if body.first() != Some(&b'{') || !closes_once(behind) {
        return None;
    }
    // Its searches stand among what it gives out.
    if counts.get(Count::Input).is_some() && search::has_calls(body) {
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
    (is_top && !name.is_empty()).then_some(name)
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

/// Reads the usage object at the front of `json`, and gives what stands behind it.
fn read_usage<'a>(json: &'a [u8], counts: &mut Counts) -> Option<&'a [u8]> {
    let behind = object(json, Some(Part::Usage), counts, NESTED_MAX)?;
    // With an escape in it a key may be another than it seems, and a text end elsewhere.
    let is_sure = memchr(b'\\', &json[..json.len() - behind.len()]).is_none();
    is_sure.then_some(behind)
}

/// Usage has objects within its object; some put lists into these, which are not read here.
const NESTED_MAX: usize = 4;

/// Reads an object of whole numbers, plain texts and of such objects, as usage mostly is; of a `part`, its members count. Gives
/// what stands behind it.
fn object<'a>(
    json: &'a [u8],
    part: Option<Part>,
    counts: &mut Counts,
    nested: usize,
) -> Option<&'a [u8]> {
    let mut rest = skip_space(json.strip_prefix(b"{")?);
    if let [b'}', behind @ ..] = rest {
        return Some(behind);
    }
    loop {
        let (key, behind) = split_text(rest)?;
        let member = part.and_then(|part| part.member(key));
        let [b':', value @ ..] = skip_space(behind) else {
            return None;
        };
        rest = skip_space(read_value(skip_space(value), member, counts, nested)?);
        match rest {
            [b',', behind @ ..] => rest = skip_space(behind),
            [b'}', behind @ ..] => return Some(behind),
            _ => return None,
        }
    }
}

#[inline]
fn read_value<'a>(
    json: &'a [u8],
    member: Option<Member>,
    counts: &mut Counts,
    nested: usize,
) -> Option<&'a [u8]> {
    let mut count = None;
    let behind = match *json.first()? {
        digit @ b'0'..=b'9' => {
            let (value, behind) = number(digit, &json[1..])?;
            count = Some(value);
            behind
        }
        b'{' => {
            let part = match member {
                Some(Member::Part(part)) => Some(part),
                Some(Member::Either(count, part)) => {
                    counts.set(count, None);
                    Some(part)
                }
                _ => None,
            };
            part.inspect(|part| counts.begin(*part));
            let behind = object(json, part, counts, nested.checked_sub(1)?)?;
            if part.is_some() {
                return Some(behind);
            }
            behind
        }
        b'"' => split_text(json)?.1,
        b'n' => json.strip_prefix(b"null")?,
        b't' => json.strip_prefix(b"true")?,
        b'f' => json.strip_prefix(b"false")?,
        _ => return None,
    };
    match member {
        Some(Member::Count(place)) => counts.set(place, count),
        Some(Member::Part(part)) => counts.begin(part),
        Some(Member::Either(place, part)) => {
            counts.set(place, count);
            counts.begin(part);
        }
        Some(Member::Iterations | Member::Modalities(..) | Member::CacheDetails) => return None,
        None => {}
    }
    Some(behind)
}

/// A whole number by its first digit and what follows it; `None` for leading zeros, fractions, and what could overflow.
#[inline]
fn number(first: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = u64::from(first - b'0');
    let (mut behind, mut left) = (rest, 18);
    while let [digit @ b'0'..=b'9', others @ ..] = behind {
        left -= 1;
        if first == b'0' || left == 0 {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
        behind = others;
    }
    let is_whole = !matches!(behind.first(), Some(b'.' | b'e' | b'E') | None);
    is_whole.then_some((value, behind))
}

/// What stands between two quotes, where it has no escapes, and what stands behind it.
#[inline]
fn split_text(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = json.strip_prefix(b"\"")?;
    let (text, behind) = quoted.split_at_checked(end_of_text(quoted)?)?;
    Some((text, behind.get(1..)?))
}

#[inline]
fn skip_space(mut json: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = json {
        json = rest;
    }
    json
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
        let mut quick = Reading::default();
        if !quick.take(body.as_bytes()) {
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
            let mut counts = Counts::default();
            assert!(read(broken.as_bytes(), &mut counts).is_none(), "{broken}");
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
