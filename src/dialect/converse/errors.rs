//! Bedrock's errors (spec: providers 7.8): the type in a header, in the body or in an exception's frame, and a message.

use serde_json::Value;

use crate::dialect::failure::Failure;

/// Reads an error's answer. `kind`: the header `x-amzn-errortype`.
pub fn read_error(status: u16, kind: Option<&str>, body: &[u8]) -> Failure {
    let body_value: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = body_value.get("__type").and_then(Value::as_str);
    let kind = kind
        .or(told)
        .map(short_kind)
        .filter(|kind| !kind.is_empty());
    // Behind a success stands no status of an error.
    let status = match status {
        status if status >= 400 => status,
        _ => kind.map_or(502, status_of),
    };
    failure(status, kind, &body_value, body)
}

/// Reads an exception in the middle of a stream; its frame has no status.
pub(super) fn read_exception(kind: &str, data: &[u8]) -> Failure {
    let value: Value = serde_json::from_slice(data).unwrap_or_default();
    let kind = short_kind(kind);
    let mut failure = failure(status_of(kind), Some(kind), &value, data);
    if let Some(original) = value.get("originalMessage").and_then(Value::as_str)
        && original != failure.message
    {
        failure.message = format!("{}: {original}", failure.message);
    }
    failure
}

/// `ValidationException` of `com.amazon.coral.validate#ValidationException:http://internal.amazon.com/...`.
fn short_kind(kind: &str) -> &str {
    let kind = kind.split(':').next().unwrap_or_default();
    kind.rsplit('#').next().unwrap_or_default().trim()
}

/// The statuses of Bedrock's exceptions, whose names begin in a frame with a small letter.
fn status_of(kind: &str) -> u16 {
    const STATUSES: [(&str, u16); 14] = [
        ("ValidationException", 400),
        ("ServiceQuotaExceededException", 400),
        ("AccessDeniedException", 403),
        ("ResourceNotFoundException", 404),
        ("ModelTimeoutException", 408),
        ("ConflictException", 409),
        ("ModelErrorException", 424),
        ("ModelStreamErrorException", 424),
        ("ThrottlingException", 429),
        ("ModelNotReadyException", 429),
        ("InternalServerException", 500),
        ("InternalFailure", 500),
        ("ServiceUnavailableException", 503),
        ("UnknownOperationException", 404),
    ];
    let found = STATUSES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(kind));
    found.map_or(502, |(_, status)| *status)
}

fn failure(status: u16, kind: Option<&str>, value: &Value, body: &[u8]) -> Failure {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let message = text("message").or(text("Message"));
    let message = match (message.filter(|message| !message.trim().is_empty()), kind) {
        (Some(message), _) => message.to_owned(),
        (None, Some(kind)) => kind.to_owned(),
        (None, None) => format!("Bedrock answered {status}"),
    };
    // An unknown model is a 400 like any other.
    let unknown_model = message.contains("model identifier is invalid");
    let mut failure = Failure::of_status(status, message).with_raw(body);
    if unknown_model {
        failure.param = Some("model".to_owned());
        return failure.with_code("model_not_found");
    }
    match kind {
        Some(kind) => failure.with_code(kind),
        None => failure,
    }
}
