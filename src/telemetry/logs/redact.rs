//! Takes what looks like a credential out of what is stored.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

use crate::http::eventstream::EventStreamDecoder;

/// Stands where a secret stood.
const MARK: &[u8] = b"[redacted]";

/// Keys by the form that their makers gave them, tokens behind their scheme, private keys, and members of JSON whose name says
/// what they hold: keys of many providers have no form of their own. What the group `keep` matches stays.
const FORMS: [&str; 11] = [
    r#"(?P<keep>"(?i:authorization|proxy-authorization|cookie|cf-aig-authorization|cf-access-(?:token|client-secret|jwt-assertion)|(?:[a-z0-9]{1,16}[-_]){0,3}api[-_]?key|(?:access|refresh|auth|id|session|security)[-_]?token|(?:client|shared|aws|secret)[-_]?secret(?:[-_]access)?(?:[-_]key)?|secret[-_]access[-_]key|secretaccesskey|accesskeyid|sessiontoken|private[-_]key|password|passwd)"\s*:\s*")(?:[^"\\]|\\.)+"#,
    r"(?P<keep2>\b(?i:bearer|basic|token|key)[ =]+)[A-Za-z0-9._~+/=-]{20,}",
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b(?:gsk|hf|r8|fw|key|rpa|tvly|ghp|gho|ghu|ghs|ghr|github_pat)_[A-Za-z0-9_]{16,}",
    r"\b(?:xai|pplx|csk|nvapi|xox[abprs]|glpat)-[A-Za-z0-9_-]{16,}",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\bya29\.[A-Za-z0-9_-]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\brg_[A-Za-z0-9_-]{37}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]+-----END [A-Z ]{0,32}PRIVATE KEY-----",
];

static SECRETS: LazyLock<Regex> = LazyLock::new(|| pattern(&FORMS.join("|")));

/// Each by itself: as a rule there is none, and that one of them is seen a few times as fast as all of them at once.
static EACH: LazyLock<[Regex; FORMS.len()]> = LazyLock::new(|| FORMS.map(pattern));

fn pattern(form: &str) -> Regex {
    Regex::new(&format!("(?-u){form}")).expect("the pattern is tested")
}

/// The bytes without what looks like a credential.
pub fn redact(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !EACH.iter().any(|form| form.is_match(bytes)) {
        return Cow::Borrowed(bytes);
    }
    SECRETS.replace_all(bytes, |found: &Captures<'_>| {
        let kept = found.name("keep").or_else(|| found.name("keep2"));
        let mut text = kept.map_or_else(Vec::new, |kept| kept.as_bytes().to_vec());
        text.extend_from_slice(MARK);
        text
    })
}

/// The messages of an AWS event stream without what looks like a credential in their payloads, each as long as it then is. What
/// is no whole message at the end is treated as bytes.
pub fn redact_messages(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut read, mut found) = (Vec::with_capacity(bytes.len()), 0, false);
    let whole = EventStreamDecoder::default().feed(bytes, |message| {
        read += message.wire_length();
        let payload = redact(message.payload);
        found |= matches!(payload, Cow::Owned(_));
        message.write_with(&payload, &mut out);
    });
    let rest = match whole {
        Ok(()) => redact(&bytes[read..]),
        Err(_) => return redact(bytes),
    };
    match found || matches!(rest, Cow::Owned(_)) {
        false => Cow::Borrowed(bytes),
        true => {
            out.extend_from_slice(&rest);
            Cow::Owned(out)
        }
    }
}

/// The text without what looks like a credential.
pub fn redact_text(text: &str) -> Cow<'_, str> {
    match redact(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::generate_token;
    use crate::http::eventstream::tests::message;

    #[test]
    fn keys_are_told_by_their_form() {
        let own = generate_token().expect("random");
        for secret in [
            "sk-proj-abcdefghijklmnopqrstuvwx",
            "sk-ant-api03-abcdefghijklmnop_qrst-uvwx",
            "sk-or-v1-0123456789abcdef0123456789abcdef",
            "gsk_abcdefghijklmnopqrstuvwxyz012345",
            "hf_abcdefghijklmnopqrstuvwxyz",
            "r8_abcdefghijklmnopqrstuvwxyz",
            "fw_abcdefghijklmnopqrst",
            "xai-abcdefghijklmnopqrstuvwxyz",
            "pplx-abcdefghijklmnopqrstuvwxyz",
            "csk-abcdefghijklmnopqrstuvwxyz",
            "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
            "ya29.a0AfH6SMBabcdefghijklmnop",
            "AKIAIOSFODNN7EXAMPLE",
            "ASIAIOSFODNN7EXAMPLE",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            "-----BEGIN RSA PRIVATE KEY-----\\nMIIEowIBAAKCAQEA\\n-----END RSA PRIVATE KEY-----",
            &own,
        ] {
            let text = format!(r#"{{"role":"user","content":"use {secret} please"}}"#);
            let out = redact_text(&text);
            assert_eq!(
                out, r#"{"role":"user","content":"use [redacted] please"}"#,
                "{secret}"
            );
        }
    }

    #[test]
    fn values_behind_a_scheme_or_in_a_member_that_says_so_go_whatever_their_form() {
        for (text, expected) in [
            (
                r#"{"headers":{"Authorization": "Bearer abc", "x":"y"}}"#,
                r#"{"headers":{"Authorization": "[redacted]", "x":"y"}}"#,
            ),
            (
                r#"{"api-key":"0123456789abcdef"}"#,
                r#"{"api-key":"[redacted]"}"#,
            ),
            (
                r#"{"xi-api-key":"a\"b","n":1}"#,
                r#"{"xi-api-key":"[redacted]","n":1}"#,
            ),
            (
                r#"{"x-goog-api-key":"k"}"#,
                r#"{"x-goog-api-key":"[redacted]"}"#,
            ),
            (r#"{"apiKey":"k"}"#, r#"{"apiKey":"[redacted]"}"#),
            (
                r#"{"OPENAI_API_KEY":"k"}"#,
                r#"{"OPENAI_API_KEY":"[redacted]"}"#,
            ),
            (
                r#"{"secretAccessKey":"k"}"#,
                r#"{"secretAccessKey":"[redacted]"}"#,
            ),
            (
                r#"{"cf-access-client-secret":"k"}"#,
                r#"{"cf-access-client-secret":"[redacted]"}"#,
            ),
            (r#"{"password":"p"}"#, r#"{"password":"[redacted]"}"#),
            (
                "Authorization: Token 0123456789abcdef0123",
                "Authorization: Token [redacted]",
            ),
            (
                "https://h/p?key=0123456789abcdef0123&x=1",
                "https://h/p?key=[redacted]&x=1",
            ),
        ] {
            assert_eq!(redact_text(text), expected);
        }
    }

    #[test]
    fn messages_of_an_event_stream_stay_readable() {
        let secret = "sk-abcdefghijklmnopqrstuvwx";
        let message = |text: &str| message(b"", format!(r#"{{"text":"{text}"}}"#).as_bytes());
        let clean = [message("a"), message("b")].concat();
        assert!(matches!(redact_messages(&clean), Cow::Borrowed(_)));
        let cut = &message(secret)[..20];
        let stream = [&message("a"), &message(secret), cut].concat();
        let expected = [&message("a"), &message("[redacted]"), cut].concat();
        assert_eq!(&*redact_messages(&stream), expected);
        assert_eq!(&*redact_messages(secret.as_bytes()), b"[redacted]");
    }

    #[test]
    fn what_people_write_stays() {
        for text in [
            r#"{"model":"gpt-4o","max_tokens":100,"stop":["sk-"],"key":"C major"}"#,
            "The token bucket holds 20 tokens; a bearer of news; the key is under the mat.",
            "task-force-of-the-united-nations-2026",
            r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}"#,
            r#"{"id":"chatcmpl-0123456789abcdefghij","system_fingerprint":"fp_0123456789"}"#,
            r#"{"id":"resp_0123456789abcdef0123456789abcdef","object":"response"}"#,
        ] {
            assert!(
                matches!(redact(text.as_bytes()), Cow::Borrowed(_)),
                "{text}"
            );
        }
        let bytes = b"\xff\xfe\x00 sk-abcdefghijklmnopqrstuvwx \xff";
        assert_eq!(&*redact(bytes), b"\xff\xfe\x00 [redacted] \xff");
    }
}
