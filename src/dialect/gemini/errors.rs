//! Google's errors (spec: providers 5.6).

use std::time::Duration;

use serde_json::Value;

use crate::dialect::failure::Failure;

/// Reads an error's body.
pub fn read_error(status: u16, _kind: Option<&str>, body: &[u8]) -> Failure {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let failure = match parsed.as_ref().and_then(envelope) {
        Some(error) => of_envelope(error, Some(status)),
        None => {
            let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
            let text = text.trim();
            // Before the API there are front ends that answer with pages.
            match text.is_empty() || text.starts_with('<') {
                true => Failure::of_status(status, format!("Google answered with status {status}")),
                false => Failure::of_status(status, text),
            }
        }
    };
    failure.with_raw(body)
}

/// The error inside a body that came with the status 200, if there is one.
pub(super) fn inside(body: &Value) -> Option<Failure> {
    let error = envelope(body)?;
    Some(of_envelope(error, None).with_raw(body.to_string().as_bytes()))
}

/// An error that stands as bare JSON behind or between the events of a stream; `bytes` may begin with pieces of an event.
pub(super) fn stray(bytes: &[u8]) -> Option<Failure> {
    // A document begins at the start of a line; what is nested in it is indented.
    let starts = (0..bytes.len()).filter(|at| {
        matches!(bytes[*at], b'{' | b'[') && (*at == 0 || matches!(bytes[*at - 1], b'\n' | b'\r'))
    });
    starts.take(STRAY_DOCUMENTS).find_map(|start| {
        let mut documents = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter();
        let document: Value = documents.next()?.ok()?;
        let error = envelope(&document)?;
        Some(of_envelope(error, None).with_raw(&bytes[start..start + documents.byte_offset()]))
    })
}

/// Places where a stray document may begin that are tried.
const STRAY_DOCUMENTS: usize = 64;

/// The error itself; streams that are one array wrap it.
fn envelope(body: &Value) -> Option<&Value> {
    let body = match body {
        Value::Array(list) => list.first()?,
        body => body,
    };
    body.get("error")
        .filter(|error| error.is_object() || error.is_string())
}

fn of_envelope(error: &Value, status: Option<u16>) -> Failure {
    let word = error["status"].as_str();
    let code = error["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let stated = status
        .or_else(|| code.filter(|code| (400..600).contains(code)))
        .or_else(|| word.and_then(status_of))
        .unwrap_or(502);
    let message = error["message"].as_str().or(error.as_str());
    let message = message.unwrap_or("Google answered with an error");
    let details = error["details"].as_array();
    let details = details.map(Vec::as_slice).unwrap_or_default();
    let reason = details.iter().find_map(|detail| detail["reason"].as_str());
    // Google says 400 where a key is wrong.
    let bad_key = reason == Some("API_KEY_INVALID");
    let mut failure = Failure::of_status(if bad_key { 401 } else { stated }, message);
    failure.code = match bad_key {
        true => reason.map(str::to_owned),
        false => word.map(str::to_owned),
    };
    failure.param = details.iter().find_map(|detail| {
        let field = detail["fieldViolations"][0]["field"].as_str()?;
        Some(field.to_owned())
    });
    failure.retry_after = details
        .iter()
        .find_map(|detail| delay(detail["retryDelay"].as_str()?));
    failure
}

/// `34s`, `1.5s`.
fn delay(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn status_of(word: &str) -> Option<u16> {
    Some(match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "ALREADY_EXISTS" | "ABORTED" => 409,
        "RESOURCE_EXHAUSTED" => 429,
        "CANCELLED" => 499,
        "INTERNAL" | "UNKNOWN" | "DATA_LOSS" => 500,
        "UNIMPLEMENTED" => 501,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        _ => return None,
    })
}
