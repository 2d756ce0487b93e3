//! Errors, to and from Anthropic's envelope; Google's and Amazon's where Claude runs with them (spec: providers 4.6, 6.3, 7.8).

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::failure::{Failure, FailureKind, Invalid};

/// Anthropic's words for the kinds of errors; the first for a kind is the one that is written.
const TYPES: [(&str, FailureKind); 13] = [
    ("invalid_request_error", FailureKind::InvalidRequest),
    ("authentication_error", FailureKind::Authentication),
    ("billing_error", FailureKind::Billing),
    ("permission_error", FailureKind::Permission),
    ("not_found_error", FailureKind::NotFound),
    ("timeout_error", FailureKind::Timeout),
    ("gateway_timeout_error", FailureKind::Timeout),
    ("conflict_error", FailureKind::Conflict),
    ("request_too_large", FailureKind::TooLarge),
    ("rate_limit_error", FailureKind::RateLimit),
    ("overloaded_error", FailureKind::Overloaded),
    ("api_error", FailureKind::Server),
    ("internal_server_error", FailureKind::Server),
];

/// Reads an error's body. `kind` is the header `x-amzn-errortype`.
pub fn read_error(status: u16, kind: Option<&str>, body: &[u8]) -> Failure {
    let failure = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(errors)) => {
            let first = errors.into_iter().next().unwrap_or_default();
            read_envelope(status, kind, &first)
        }
        Ok(envelope) => read_envelope(status, kind, &envelope),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            Failure::of_status(status, text.trim().chars().take(500).collect::<String>())
        }
    };
    let failure = match failure.message.is_empty() {
        true => Failure {
            message: format!("The provider answered with status {status}"),
            ..failure
        },
        false => failure,
    };
    failure.with_raw(body)
}

fn read_envelope(status: u16, kind: Option<&str>, envelope: &Value) -> Failure {
    let error = envelope.get("error").unwrap_or(envelope);
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let message = text("message").or(text("Message")).or(error.as_str());
    let mut failure = Failure::of_status(status, message.unwrap_or_default());
    // Amazon's ends in a colon and an address.
    let amazon = kind.and_then(|kind| kind.split(':').next());
    failure.code = text("type")
        .or(text("status"))
        .or(amazon)
        .map(str::to_owned);
    if let Some(named) = text("type").and_then(kind_of_type)
        && failure.kind != named
        && !(400..500).contains(&status)
    {
        failure.kind = named;
    }
    if failure.message.contains("model identifier is invalid") {
        failure.code = Some("model_not_found".to_owned());
    }
    if is_spent(error) {
        failure.retryable = false;
    }
    failure.retry_after = retry_delay(error);
    failure
}

/// An error inside of a 200, in a stream or in place of the answer.
pub(super) fn read_error_within(envelope: &Value) -> Failure {
    let kind = envelope.pointer("/error/type").and_then(Value::as_str);
    let status = match kind.and_then(kind_of_type) {
        Some(FailureKind::Overloaded) => 529,
        Some(FailureKind::Server) | None => 500,
        Some(kind) => kind.status(),
    };
    read_error(status, None, envelope.to_string().as_bytes())
}

/// A limit of money that waiting does not lift.
fn is_spent(error: &Value) -> bool {
    let code = error.pointer("/details/error_code").and_then(Value::as_str);
    code == Some("enforced_spend_limit_reached")
}

/// Google says in the body how long to wait: `"retryDelay": "34s"`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn kind_of_type(word: &str) -> Option<FailureKind> {
    let found = TYPES.iter().find(|(name, _)| *name == word);
    found.map(|(_, kind)| *kind)
}

fn type_of_kind(kind: FailureKind) -> &'static str {
    let found = TYPES.iter().find(|(_, other)| *other == kind);
    found.map_or("api_error", |(name, _)| name)
}

/// Writes a provider's error for the client.
pub fn write_error(failure: &Failure) -> Value {
    let mut error = Map::new();
    error.insert("type".to_owned(), json!(type_of_kind(failure.kind)));
    error.insert("message".to_owned(), json!(failure.message));
    for (key, value) in [("code", &failure.code), ("param", &failure.param)] {
        if let Some(value) = value
            .as_ref()
            .filter(|value| **value != type_of_kind(failure.kind))
        {
            error.insert(key.to_owned(), json!(value));
        }
    }
    json!({"type": "error", "error": error})
}

/// Writes the refusal of a request: 400.
pub fn write_invalid(invalid: &Invalid) -> Value {
    let mut error = Map::new();
    error.insert("type".to_owned(), json!("invalid_request_error"));
    let message = match invalid.param.as_deref() {
        // As Anthropic does: the place stands before the message.
        Some(param) if !invalid.message.contains(param) => format!("{param}: {}", invalid.message),
        _ => invalid.message.clone(),
    };
    error.insert("message".to_owned(), json!(message));
    if let Some(code) = invalid.code {
        error.insert("code".to_owned(), json!(code));
    }
    if let Some(param) = &invalid.param {
        error.insert("param".to_owned(), json!(param));
    }
    json!({"type": "error", "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: Value) -> Failure {
        read_error(status, None, body.to_string().as_bytes())
    }

    #[test]
    fn anthropics_errors_are_read() {
        for (status, word, kind, retryable) in [
            (
                400,
                "invalid_request_error",
                FailureKind::InvalidRequest,
                false,
            ),
            (
                401,
                "authentication_error",
                FailureKind::Authentication,
                false,
            ),
            (402, "billing_error", FailureKind::Billing, false),
            (403, "permission_error", FailureKind::Permission, false),
            (404, "not_found_error", FailureKind::NotFound, false),
            (409, "conflict_error", FailureKind::Conflict, true),
            (413, "request_too_large", FailureKind::TooLarge, false),
            (429, "rate_limit_error", FailureKind::RateLimit, true),
            (500, "api_error", FailureKind::Server, true),
            (504, "timeout_error", FailureKind::Timeout, true),
            (529, "overloaded_error", FailureKind::Overloaded, true),
        ] {
            let envelope = json!({"type": "error", "error": {"type": word, "message": "m"}, "request_id": "req_1"});
            let failure = read(status, envelope.clone());
            assert_eq!(
                (failure.status, failure.kind, failure.retryable),
                (status, kind, retryable),
                "{word}"
            );
            assert_eq!(failure.code.as_deref(), Some(word));
            assert_eq!(failure.message, "m");
            assert_eq!(failure.raw, Some(envelope.to_string()));
            assert_eq!(
                write_error(&failure),
                json!({"type": "error", "error": {"type": word, "message": "m"}})
            );
            let within = read_error_within(&envelope);
            assert_eq!((within.status, within.kind), (status, kind), "{word}");
        }
        let spent = json!({"error": {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}}});
        assert!(!read(429, spent).retryable);
    }

    #[test]
    fn errors_of_the_platforms_are_read() {
        let google = json!({"error": {
            "code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
        }});
        for body in [google.clone(), json!([google])] {
            let failure = read(429, body);
            assert_eq!(failure.kind, FailureKind::RateLimit);
            assert_eq!(failure.code.as_deref(), Some("RESOURCE_EXHAUSTED"));
            assert_eq!(failure.retry_after, Some(Duration::from_millis(34_500)));
            assert_eq!(failure.message, "Quota exceeded");
        }
        let amazon =
            |status, kind, body: Value| read_error(status, Some(kind), body.to_string().as_bytes());
        let failure = amazon(
            429,
            "ThrottlingException:http://internal.amazon.com/",
            json!({"message": "Too many"}),
        );
        assert_eq!(failure.code.as_deref(), Some("ThrottlingException"));
        assert!(failure.retryable);
        let failure = amazon(
            400,
            "ValidationException",
            json!({"message": "The provided model identifier is invalid."}),
        );
        assert_eq!(
            (failure.status, failure.code.as_deref()),
            (400, Some("model_not_found"))
        );
        let failure = amazon(403, "AccessDeniedException", json!({"Message": "no"}));
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (FailureKind::Permission, "no")
        );
        assert!(amazon(424, "ModelErrorException", json!({"message": "m"})).retryable);
        let failure = read_error(502, None, b"<html>Bad gateway</html>");
        assert_eq!(failure.message, "<html>Bad gateway</html>");
        assert_eq!(
            read_error(503, None, b"").message,
            "The provider answered with status 503"
        );
    }

    #[test]
    fn other_providers_errors_are_written_with_their_code() {
        let failure = Failure::of_status(429, "m").with_code("insufficient_quota");
        let expected =
            json!({"type": "rate_limit_error", "message": "m", "code": "insufficient_quota"});
        assert_eq!(write_error(&failure)["error"], expected);
        let invalid = Invalid::unsupported("messages[0].content[1]", "No audio");
        let expected = json!({
            "type": "invalid_request_error", "message": "messages[0].content[1]: No audio",
            "code": "unsupported_parameter", "param": "messages[0].content[1]",
        });
        assert_eq!(
            write_invalid(&invalid),
            json!({"type": "error", "error": expected})
        );
    }
}
