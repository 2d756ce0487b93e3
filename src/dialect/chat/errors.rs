//! Errors in chat: the envelopes of the providers that speak it, and OpenAI's for the client (spec: providers 1.7 and 8 to 12).

use std::time::Duration;

use serde_json::{Value, json};

use super::super::failure::{Failure, FailureKind, Invalid};

/// Reads a provider's error.
pub fn read_error(status: u16, _kind: Option<&str>, body: &[u8]) -> Failure {
    let value: Option<Value> = serde_json::from_slice(body.trim_ascii()).ok();
    let failure = match value {
        Some(value) => failure_of(Some(status), &value),
        None => {
            let text = String::from_utf8_lossy(&body[..body.len().min(MESSAGE_MAX)]);
            let text = text.trim();
            let message = match text.is_empty() || text.starts_with('<') {
                true => format!("The provider answered {status}"),
                false => text.to_owned(),
            };
            Failure::of_status(status, message)
        }
    };
    failure.with_raw(body)
}

/// Whether an answer or a chunk is an error, or holds one.
pub fn holds_error(value: &Value) -> bool {
    let says = |field: &str| value.get(field).is_some_and(|value| !is_nothing(value));
    if says("error") {
        return true;
    }
    let is_answer = value.get("choices").is_some_and(Value::is_array);
    !is_answer && (value["object"] == "error" || says("errors") || value["success"] == false)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

const MESSAGE_MAX: usize = 1000;

/// Reads whatever envelope an error stands in. `status`: the answer's, where it has one of an error.
pub fn failure_of(status: Option<u16>, value: &Value) -> Failure {
    let stated = Stated::of(value);
    let inner = match stated.is_workers {
        true => stated.number.and_then(workers_status),
        false => None,
    };
    let in_200 = stated
        .number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| (400..600).contains(number));
    let status = inner.or(status).or(in_200).unwrap_or(502);
    let message = match stated.message.is_empty() {
        true => format!("The provider answered {status}"),
        false => stated.message,
    };
    let mut failure = Failure::of_status(status, message);
    // The daily allowance, or the money, is used up: waiting a little does not help.
    let spent = stated.code.as_deref() == Some("insufficient_quota")
        || (stated.is_workers && stated.number == Some(3036));
    failure.retryable &= !spent;
    failure.code = stated.code;
    failure.param = stated.param;
    failure.retry_after = stated.retry_after;
    failure
}

/// What an error says, whatever its shape.
#[derive(Default)]
struct Stated {
    message: String,
    code: Option<String>,
    /// The code, where it is a number.
    number: Option<u64>,
    param: Option<String>,
    retry_after: Option<Duration>,
    is_workers: bool,
}

impl Stated {
    fn of(value: &Value) -> Self {
        let mut stated = match (&value["error"], &value["errors"]) {
            (Value::Object(_), _) => Self::of_object(&value["error"]),
            (Value::String(message), _) => Self {
                message: message.clone(),
                code: text(&value["code"]),
                ..Self::default()
            },
            (_, Value::Array(list)) if !list.is_empty() => Self::of_workers(&list[0]),
            _ => Self::of_object(value),
        };
        let wait = [&value["estimated_time"], &value["retry_after"]]
            .into_iter()
            .find_map(Value::as_f64);
        let wait = wait.filter(|seconds| (0.0..1e6).contains(seconds));
        stated.retry_after = wait.map(Duration::from_secs_f64);
        stated
    }

    fn of_object(error: &Value) -> Self {
        let message = ["message", "detail", "title", "error"]
            .iter()
            .find_map(|field| text(&error[*field]));
        let (listed, place) = listed(&error["detail"]);
        let mut message = message.or(listed).unwrap_or_default();
        // OpenRouter's own message says little; what its provider answered stands beside it.
        if let Some(raw) = text(&error["metadata"]["raw"]).filter(|raw| !message.contains(raw)) {
            message = format!("{message}: {}", shortened(&raw));
        }
        let number = error["code"].as_u64().or(error["status_code"].as_u64());
        let kind = text(&error["type"]).filter(|kind| !COMMON_TYPES.contains(&kind.as_str()));
        Self {
            message,
            code: text(&error["code"])
                .or(kind)
                .or(error["code"].as_u64().map(|code| code.to_string())),
            number,
            param: text(&error["param"]).or(place),
            ..Self::default()
        }
    }

    fn of_workers(error: &Value) -> Self {
        let message = text(&error["message"]).unwrap_or_default();
        let head = message
            .split(':')
            .next()
            .and_then(|head| head.trim().parse().ok());
        let number = head.or(error["code"].as_u64());
        Self {
            message,
            code: number.map(|number| number.to_string()),
            number,
            is_workers: true,
            ..Self::default()
        }
    }
}

/// Types that say no more than the status does.
const COMMON_TYPES: [&str; 8] = [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
    "api_error",
    "error",
    "Error",
];

fn text(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).collect()
}

/// `[{"loc": ["body", "x"], "msg"}]`: what is wrong, and where the first fault is.
fn listed(detail: &Value) -> (Option<String>, Option<String>) {
    let Some(list) = detail.as_array() else {
        return (None, None);
    };
    let place = |one: &Value| {
        let steps = one["loc"].as_array()?.iter().map(|step| match step {
            Value::String(step) => step.clone(),
            step => step.to_string(),
        });
        let steps: Vec<String> = steps.filter(|step| step != "body").collect();
        (!steps.is_empty()).then(|| steps.join("."))
    };
    let told: Vec<String> = list
        .iter()
        .take(8)
        .filter_map(|one| {
            let message = one["msg"].as_str()?;
            Some(match place(one) {
                Some(place) => format!("{place}: {message}"),
                None => message.to_owned(),
            })
        })
        .collect();
    let message = (!told.is_empty()).then(|| told.join("; "));
    (message, list.first().and_then(place))
}

/// What Workers AI's own codes stand for (spec: providers 9).
fn workers_status(code: u64) -> Option<u16> {
    Some(match code {
        5007 | 5004 | 3039 | 3003 => 400,
        10000 => 401,
        5018 | 5016 | 3023 | 3041 => 403,
        3042 => 404,
        5019 | 5005 => 405,
        3007 | 3008 => 408,
        3006 => 413,
        3036 | 3040 => 429,
        _ => return None,
    })
}

/// Writes a provider's error for a chat client.
pub fn write_error(failure: &Failure) -> Value {
    let code = match (&failure.code, failure.kind) {
        (Some(code), _) => Some(code.as_str()),
        (None, FailureKind::Overloaded) if failure.status == 529 => Some("overloaded"),
        (None, FailureKind::NotFound) if names_model(&failure.message) => Some("model_not_found"),
        (None, _) => None,
    };
    let mut error = json!({
        "message": failure.message, "type": type_of(failure), "param": failure.param, "code": code,
    });
    if let Some(raw) = &failure.raw {
        error["metadata"] = json!({"raw": raw});
    }
    json!({"error": error})
}

fn names_model(message: &str) -> bool {
    message.to_ascii_lowercase().contains("model")
}

fn type_of(failure: &Failure) -> &'static str {
    if failure.code.as_deref() == Some("insufficient_quota") {
        return "insufficient_quota";
    }
    match failure.status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        408 => "timeout_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Writes the gateway's own refusal of a request.
pub fn write_invalid(invalid: &Invalid) -> Value {
    json!({"error": {
        "message": invalid.message, "type": "invalid_request_error", "param": invalid.param, "code": invalid.code,
    }})
}
