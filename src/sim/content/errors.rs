//! Each provider's way of saying no (spec: providers, the sections on errors).

use serde_json::{Value, json};

/// Whose error envelope to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// `{"error":{"message","type","param","code"}}`.
    OpenAi,
    /// `{"type":"error","error":{...},"request_id"}`.
    Anthropic,
    /// `{"error":{"code","message","status"}}`.
    Google,
    /// `{"message"}` and `x-amzn-errortype`.
    Bedrock,
    /// `{"message"}`.
    Cohere,
    /// The fields at the top level.
    Mistral,
    /// `{"success":false,"errors":[...]}`.
    Workers,
    /// `error` is a string.
    Xai,
    /// A numeric code and metadata.
    OpenRouter,
    /// `{"title","detail","status"}`.
    Replicate,
    /// `{"error":"text"}`.
    Plain,
}

/// A body and the headers that go with it.
pub fn body(
    envelope: Envelope,
    status: u16,
    message: &str,
) -> (Value, Vec<(&'static str, String)>) {
    let mut headers = Vec::new();
    let body = match envelope {
        Envelope::OpenAi => openai(status, message),
        Envelope::Anthropic => {
            headers.push(("request-id", "req_simulated".to_owned()));
            anthropic(status, message)
        }
        Envelope::Google => {
            json!({"error": {"code": status, "message": message, "status": google_status(status)}})
        }
        Envelope::Bedrock => {
            let name = bedrock_exception(status);
            headers.push((
                "x-amzn-errortype",
                format!("{name}:http://internal.amazon.com/coral/"),
            ));
            headers.push((
                "x-amzn-requestid",
                "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            ));
            json!({"message": message})
        }
        Envelope::Cohere => {
            json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "message": message})
        }
        Envelope::Mistral => {
            json!({"object": "error", "message": message, "type": kind(status), "param": null, "code": null})
        }
        Envelope::Workers => {
            json!({"result": null, "success": false, "errors": [{"code": workers_code(status), "message": message}], "messages": []})
        }
        Envelope::Xai => json!({"code": kind(status), "error": message}),
        Envelope::OpenRouter => {
            json!({"error": {"code": status, "message": message, "metadata": {"provider_name": "Simulated", "raw": message}}, "user_id": "user_simulated"})
        }
        Envelope::Replicate => json!({"title": kind(status), "detail": message, "status": status}),
        Envelope::Plain => json!({"error": message}),
    };
    (body, headers)
}

/// OpenAI's envelope, which its streams carry too.
pub fn openai(status: u16, message: &str) -> Value {
    let code = match status {
        401 => json!("invalid_api_key"),
        404 => json!("model_not_found"),
        429 => json!("rate_limit_exceeded"),
        _ => Value::Null,
    };
    json!({"error": {"message": message, "type": kind(status), "param": null, "code": code}})
}

/// Anthropic's envelope, which its streams carry too.
pub fn anthropic(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"})
}

/// The name of a Bedrock exception.
pub fn bedrock_exception(status: u16) -> &'static str {
    match status {
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..500 => "ValidationException",
        _ => "InternalServerException",
    }
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

fn workers_code(status: u16) -> u32 {
    match status {
        401 => 10000,
        403 => 5018,
        404 => 3042,
        408 => 3007,
        413 => 3006,
        429 => 3040,
        400..500 => 5004,
        _ => 3001,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_envelope_names_the_error_its_own_way() {
        let of = |envelope, status| body(envelope, status, "too many").0;
        assert_eq!(
            of(Envelope::OpenAi, 429)["error"]["type"],
            "rate_limit_error"
        );
        assert_eq!(
            of(Envelope::Anthropic, 529)["error"]["type"],
            "overloaded_error"
        );
        assert_eq!(
            of(Envelope::Google, 429)["error"]["status"],
            "RESOURCE_EXHAUSTED"
        );
        assert_eq!(of(Envelope::Xai, 400)["error"], "too many");
        assert_eq!(of(Envelope::OpenRouter, 402)["error"]["code"], 402);
        assert_eq!(of(Envelope::Workers, 429)["errors"][0]["code"], 3040);
        let (_, headers) = body(Envelope::Bedrock, 429, "too many");
        assert!(headers[0].1.starts_with("ThrottlingException:"));
    }
}
