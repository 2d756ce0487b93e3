//! JSON of requests and answers into values. Keys keep their order: schemas and prompts that come back in another order miss the
//! provider's prompt cache.

use serde_json::Value;

use super::failure::{Failure, Invalid};
use super::splice::Object;

/// Reads a request's body: an object, nested within bounds, that names none of its fields twice.
pub fn request(body: &[u8]) -> Result<Value, Invalid> {
    Object::read(body)?;
    serde_json::from_slice(body).map_err(|error| Invalid {
        message: format!("The body is not JSON: {error}"),
        param: None,
        code: Some("invalid_json"),
    })
}

/// Reads a provider's answer. White space may stand before it: DeepSeek sends empty lines while it works.
pub fn answer(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::broken(format!("The provider's answer is not JSON: {error}")).with_raw(body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_told_with_its_place() {
        for (body, told) in [
            ("{\"a\":1,\n \"b\":}", "line 2 column 6"),
            ("{\"a\":{\"b\":tru}}", "line 1 column"),
            ("{\"a\":\"\u{1}\"}", "line 1 column"),
            ("[1]", "JSON object"),
            ("", "JSON object"),
        ] {
            let invalid = request(body.as_bytes()).unwrap_err();
            assert!(
                invalid.message.contains(told),
                "{body}: {}",
                invalid.message
            );
        }
        let doubled = request(b"{\"model\":\"a\",\"model\":\"b\"}").unwrap_err();
        assert_eq!(doubled.param.as_deref(), Some("model"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(request(deep.as_bytes()).is_err());
        assert!(answer(deep.as_bytes()).is_err());
    }

    #[test]
    fn order_is_kept_and_space_before_an_answer_skipped() {
        let value = request(b"{\"z\":1,\"a\":{\"y\":2,\"b\":3}}").unwrap();
        assert_eq!(value.to_string(), "{\"z\":1,\"a\":{\"y\":2,\"b\":3}}");
        assert_eq!(
            answer(b"\n\n \n{\"a\":1}").unwrap().to_string(),
            "{\"a\":1}"
        );
        assert_eq!(answer(b"x").unwrap_err().status, 502);
    }
}
