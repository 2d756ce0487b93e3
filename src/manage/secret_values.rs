//! Values of stored secrets: what may be seen of them, and in which form they can be a provider's key.

use std::borrow::Cow;

use rusqlite::Connection;
use serde_json::Value;

use super::answer::Problem;
use super::tokens;
use crate::config::Secret;

/// A text whose memory is cleared once it was used.
pub(super) fn secret_of(text: String) -> Secret {
    Secret::from(text.into_bytes().into_boxed_slice())
}

/// A secret's text; values are taken as JSON strings, so that they are UTF-8.
pub(super) fn text_of(value: &Secret) -> &str {
    std::str::from_utf8(value.expose()).unwrap_or_default()
}

/// The first three and the last four characters; nothing of a short one (control plane 6.1).
pub(super) fn preview(value: &str) -> String {
    let characters: Vec<char> = value.chars().collect();
    if characters.len() < 16 {
        return "****".to_owned();
    }
    let first: String = characters[..3].iter().collect();
    let last: String = characters[characters.len() - 4..].iter().collect();
    format!("{first}...{last}")
}

/// The form in which a value can be a provider's key, or why it cannot: visible characters, as a header takes them, or a
/// JSON object of credentials, which is written anew so that no line end stands in it.
pub(super) fn fit<'a>(
    database: &Connection,
    value: &'a str,
) -> Result<Result<Cow<'a, str>, &'static str>, Problem> {
    if tokens::is_token(database, value)? {
        return Ok(Err("is a token of this gateway, not a provider's key"));
    }
    Ok(header_form(value))
}

fn header_form(value: &str) -> Result<Cow<'_, str>, &'static str> {
    if let Ok(credentials @ Value::Object(_)) = serde_json::from_str(value) {
        return Ok(credentials.to_string().into());
    }
    let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if value.is_empty() || !value.bytes().all(visible) || value.trim() != value {
        return Err(
            "must be visible ASCII characters without spaces around them or line ends, or a JSON object of credentials",
        );
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_show_little_and_nothing_of_short_ones() {
        assert_eq!(preview("sk-proj-0123456789abcd"), "sk-...abcd");
        assert_eq!(preview("0123456789abcdef"), "012...cdef");
        assert_eq!(preview("0123456789abcde"), "****");
        assert_eq!(preview("éééééééééééééééü"), "ééé...éééü");
        assert_eq!(preview(""), "****");
    }

    #[test]
    fn keys_fit_into_a_header_or_are_json_objects() {
        for key in ["sk-1", "two words", "~!\"#"] {
            assert_eq!(header_form(key).as_deref(), Ok(key));
        }
        for key in [
            "",
            " sk",
            "sk ",
            "sk\n",
            "a\r\nX: 1",
            "a\tb",
            "a\0b",
            "schlüssel",
            "[1,\n2]",
        ] {
            assert!(header_form(key).is_err(), "{key:?}");
        }
        let credentials =
            "{\n  \"accessKeyId\": \"A\",\r\n  \"private_key\": \"-----BEGIN\\nX\"\n}\n";
        assert_eq!(
            header_form(credentials).as_deref(),
            Ok(r#"{"accessKeyId":"A","private_key":"-----BEGIN\nX"}"#)
        );
    }
}
