//! Errors, as the official clients know them.

use serde_json::{Value, json};

/// A refusal has the form that it has in chat.
pub use super::super::chat::write_invalid;

use super::super::failure::{Failure, FailureKind};

/// The body of an error that came instead of an answer.
pub fn write_error(failure: &Failure) -> Value {
    let mut error = json!({
        "message": failure.message,
        "type": kind(failure),
        "param": failure.param,
        "code": code(failure),
    });
    if let Some(raw) = &failure.raw {
        error["metadata"] = json!({"raw": raw});
    }
    json!({"error": error})
}

/// The error inside a response that failed on its way. Clients know few words there, and act on these.
pub(super) fn inside(failure: &Failure) -> Value {
    let known = failure.code.as_deref().filter(|code| {
        matches!(
            *code,
            "context_length_exceeded"
                | "insufficient_quota"
                | "server_error"
                | "rate_limit_exceeded"
                | "invalid_prompt"
        )
    });
    let code = known.unwrap_or(match failure.kind {
        FailureKind::RateLimit => "rate_limit_exceeded",
        FailureKind::InvalidRequest | FailureKind::TooLarge => "invalid_prompt",
        _ => "server_error",
    });
    json!({"code": code, "message": failure.message})
}

pub(super) fn kind(failure: &Failure) -> &'static str {
    if failure.status >= 500 {
        return "server_error";
    }
    match failure.kind {
        FailureKind::InvalidRequest | FailureKind::NotFound | FailureKind::TooLarge => {
            "invalid_request_error"
        }
        FailureKind::Authentication => "authentication_error",
        FailureKind::Billing => "insufficient_quota",
        FailureKind::Permission => "permission_error",
        FailureKind::Timeout => "timeout_error",
        FailureKind::Conflict => "conflict_error",
        FailureKind::RateLimit => "rate_limit_error",
        FailureKind::Overloaded | FailureKind::Server => "server_error",
    }
}

pub(super) fn code(failure: &Failure) -> Option<&str> {
    let overloaded = (failure.status == 529).then_some("overloaded");
    failure.code.as_deref().or(overloaded)
}

#[cfg(test)]
mod tests {
    use super::super::super::failure::Invalid;
    use super::*;

    #[test]
    fn errors_have_the_type_of_their_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "insufficient_quota"),
            (403, "permission_error"),
            (404, "invalid_request_error"),
            (408, "timeout_error"),
            (409, "conflict_error"),
            (413, "invalid_request_error"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "server_error"),
            (504, "server_error"),
            (529, "server_error"),
        ] {
            let body = write_error(&Failure::of_status(status, "no"));
            assert_eq!(body["error"]["type"], kind, "{status}");
            assert_eq!(body["error"]["message"], "no");
        }
        assert_eq!(
            write_error(&Failure::of_status(529, ""))["error"]["code"],
            "overloaded"
        );
        let told = Failure::of_status(429, "slow")
            .with_code("tokens")
            .with_raw(b"{}");
        let expected = json!({"error": {
            "message": "slow", "type": "rate_limit_error", "param": null, "code": "tokens", "metadata": {"raw": "{}"},
        }});
        assert_eq!(write_error(&told), expected);
    }

    #[test]
    fn refusals_name_the_place() {
        let refused = write_invalid(&Invalid::unsupported("input[0].type", "no such thing"));
        let expected = json!({"error": {
            "message": "no such thing", "type": "invalid_request_error",
            "param": "input[0].type", "code": "unsupported_parameter",
        }});
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_failure_on_the_way_has_a_word_that_clients_act_on() {
        assert_eq!(
            inside(&Failure::of_status(429, ""))["code"],
            "rate_limit_exceeded"
        );
        assert_eq!(inside(&Failure::of_status(529, ""))["code"], "server_error");
        assert_eq!(
            inside(&Failure::of_status(400, "").with_code("odd"))["code"],
            "invalid_prompt"
        );
        let full = Failure::of_status(400, "").with_code("context_length_exceeded");
        assert_eq!(inside(&full)["code"], "context_length_exceeded");
    }
}
