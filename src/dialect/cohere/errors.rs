//! Cohere's errors: `{"id", "message"}` (spec: providers 11).

use serde_json::Value;

use crate::dialect::failure::Failure;

/// Reads an error's body.
pub fn read_error(status: u16, _kind: Option<&str>, body: &[u8]) -> Failure {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let said = parsed.as_ref().and_then(message);
    let message = said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
        match text.trim() {
            // Before the API there are front ends that answer with pages.
            text if text.is_empty() || text.starts_with(['<', '{', '[']) => {
                format!("Cohere answered with status {status}")
            }
            text => text.to_owned(),
        }
    });
    let failure = match status {
        // Its own word for a bad token.
        498 => Failure::of_status(401, message).with_code("invalid_token"),
        404 if message.contains("model") => {
            Failure::of_status(404, message).with_code("model_not_found")
        }
        status => Failure::of_status(status, message),
    };
    failure.with_raw(body)
}

/// The error inside a body that came with the status 200: a message and no answer.
pub(super) fn inside(body: &Value) -> Option<Failure> {
    let is_answer = body.get("type").is_some() || body["message"].is_object();
    match is_answer {
        true => None,
        false => Some(Failure::broken(message(body)?).with_raw(body.to_string().as_bytes())),
    }
}

fn message(body: &Value) -> Option<String> {
    let said = [&body["message"], &body["error"]["message"], &body["error"]];
    let said = said.into_iter().find_map(Value::as_str);
    said.map(str::to_owned)
}
