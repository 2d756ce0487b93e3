//! Answers that the gateway makes itself (spec: data plane 11).

use std::borrow::Cow;
use std::time::Duration;

use crate::config::ErrorStatus;
use crate::http::write;
use crate::limits::SDK_WAIT_MAX;

/// A refusal or a failure, as the client and the log are told.
#[derive(Debug, Clone)]
pub struct GatewayError {
    /// HTTP status.
    pub status: u16,
    /// The code of data plane 11.
    pub code: u16,
    /// The message that stands for the code.
    pub message: Cow<'static, str>,
    /// More about it, where the page gives no text: goes into `description`.
    pub description: Option<Cow<'static, str>>,
    /// What the operator should know; never sent.
    pub detail: Option<String>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// Whether clients are told that it is no use to try again soon (`x-should-retry: false`, as SDKs understand it).
    pub is_final: bool,
}

impl GatewayError {
    fn new(status: u16, code: u16, message: &'static str) -> Self {
        Self {
            status,
            code,
            message: Cow::Borrowed(message),
            description: None,
            detail: None,
            retry_after: None,
            is_final: false,
        }
    }

    fn described(mut self, description: impl Into<Cow<'static, str>>) -> Self {
        self.description = Some(description.into());
        self
    }

    fn detailed(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// The gateway does not exist.
    pub fn no_gateway(id: &str) -> Self {
        Self::new(
            400,
            2001,
            "Please configure AI Gateway in the Cloudflare dashboard",
        )
        .detailed(format_args!("no gateway {id:?}"))
    }

    /// No usable answer of the provider.
    pub fn no_answer(detail: impl ToString) -> Self {
        Self::new(400, 2005, "Failed to get response from provider").detailed(detail)
    }

    /// Whether the provider is what failed, so that anybody who asked the same would have been told so.
    pub fn is_of_provider(&self) -> bool {
        self.code == 2005
    }

    /// The provider took too long: a 504 where [`ErrorStatus::Semantic`] is set.
    pub fn timed_out(detail: impl ToString) -> Self {
        Self {
            status: TIMED_OUT,
            ..Self::no_answer(detail)
        }
    }

    /// The provider does not exist, or its path is not of its form.
    pub fn no_provider(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, 2008, "Invalid provider").described(description)
    }

    /// No endpoint for all providers has this path below `compat`.
    pub fn no_endpoint(path: &str) -> Self {
        Self::no_provider(format!(
            "compat has no endpoint {path:?}: chat/completions, messages, messages/count_tokens, responses, embeddings and models are served"
        ))
    }

    /// The body of a universal request is none.
    pub fn bad_entries(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, 2002, "Invalid request body").described(description)
    }

    /// The body is none of its endpoint's: no JSON, or without a model of a provider.
    pub fn bad_format(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, 2019, "Chat completion bad format").described(description)
    }

    /// The model cannot be reached in this way.
    pub fn unroutable(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, 2005, "Failed to get response from provider").described(description)
    }

    /// The request names a stored key that there is none of (data plane 3.2).
    pub fn no_alias(alias: &str, provider: &str) -> Self {
        Self::new(400, 2005, "Failed to get response from provider").described(format!(
            "No stored key {alias:?} for {provider} (cf-aig-byok-alias)"
        ))
    }

    /// A stored key is there and cannot be opened; nobody else pays instead (data plane 3.2).
    pub fn unreadable_key(alias: &str, provider: &str, reason: impl ToString) -> Self {
        Self::new(400, 2005, "Failed to get response from provider")
            .described(format!(
                "The stored key {alias:?} for {provider} cannot be read"
            ))
            .detailed(reason)
    }

    /// Nobody may pay: own keys are demanded and none is there (data plane 8.4).
    pub fn no_credential(provider: &str) -> Self {
        Self::new(400, 2021, "No credentials available")
            .described(format!("No credentials available for provider {provider}"))
    }

    /// The token is missing or wrong.
    pub fn unauthorized() -> Self {
        Self::new(401, 2009, "Unauthorized")
    }

    /// There were as many requests as there may be; one more may come after `wait`.
    pub fn rate_limited(wait: Duration) -> Self {
        Self::new(429, 2003, "Rate limited").after(wait)
    }

    /// As much money was spent as may be; `text` names the rule (data plane 8.1).
    pub fn spent(text: String, wait: Duration) -> Self {
        Self {
            message: Cow::Owned(text),
            is_final: true,
            ..Self::new(429, 2045, "").after(wait)
        }
    }

    /// With a wait: SDKs wait for a minute at most, and else try again much too early.
    fn after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self.is_final = wait > SDK_WAIT_MAX;
        self
    }

    /// The account is not this instance's.
    pub fn no_account(id: &str) -> Self {
        Self::new(404, 7003, "Could not route to the account")
            .described(format!("No account {id:?} on this instance"))
    }

    /// The path is none of the data plane's.
    pub fn no_path() -> Self {
        Self::new(404, 7003, "No such path")
            .described("Expected /v1/{account}/{gateway}/{provider}/...")
    }

    /// The request's HTTP is wrong, too large or too slow; `status` says which.
    pub fn bad_request(status: u16, reason: impl ToString) -> Self {
        Self::new(status, 2002, "Invalid request").described(reason.to_string())
    }

    /// The endpoint is there, and does not serve this method.
    pub fn wrong_method(method: &str) -> Self {
        Self::bad_request(405, format_args!("The endpoint does not serve {method}"))
    }

    /// The body is over the limit.
    pub fn too_large(limit: u64) -> Self {
        Self::new(413, 2002, "Request body too large")
            .described(format!("The limit is {limit} bytes (data.body_max)"))
    }

    /// Too many bodies are held in memory.
    pub fn no_memory() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(503, 2002, "Too many request bodies in memory")
        }
    }

    /// As many runs go on without a client as may.
    pub fn too_many_runs() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(429, 2003, "Rate limited")
                .described("Too many runs are in the background (options.background)")
        }
    }

    /// A stored credential is none of its provider's.
    pub fn unfit_key(provider: &str, reason: impl ToString) -> Self {
        Self::new(400, 2005, "Failed to get response from provider").described(format!(
            "The credential for {provider} is unfit: {}",
            reason.to_string()
        ))
    }

    /// WebSockets are not served.
    pub fn no_upgrade() -> Self {
        Self::new(501, 2002, "Not implemented").described("WebSocket upgrades are not served")
    }

    /// As many connections are open as the file limit allows.
    pub fn too_busy() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(503, 2002, "Too many connections")
        }
    }

    /// The answer's status under the instance's setting.
    pub fn status(&self, setting: ErrorStatus) -> u16 {
        match (self.code, setting) {
            (2005, ErrorStatus::Strict) => 400,
            (2005, ErrorStatus::Semantic) if self.status == TIMED_OUT => 504,
            (2005, ErrorStatus::Semantic) => 502,
            _ => self.status,
        }
    }

    /// The body: the exact envelope of data plane 11.
    pub fn body(&self, status: u16) -> Vec<u8> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let message = quoted(&self.message);
        let description = quoted(self.description.as_deref().unwrap_or(&self.message));
        let code = self.code;
        // In the order of the page, for people who read it.
        format!(
            r#"{{"success":false,"result":[],"messages":[],"error":[{{"code":{code},"message":{message}}}],"name":"AiGatewayError","httpCode":{status},"internalCode":{code},"message":{message},"description":{description}}}"#
        )
        .into_bytes()
    }

    /// The whole answer; `headers` holds the `cf-aig-*` lines. A HEAD request gets no body.
    pub fn answer(
        &self,
        setting: ErrorStatus,
        headers: &[u8],
        close: bool,
        head_only: bool,
    ) -> Vec<u8> {
        let status = self.status(setting);
        let body = self.body(status);
        let mut out = Vec::with_capacity(body.len() + headers.len() + 160);
        write::status_line(&mut out, status, "");
        write::header(&mut out, b"content-type", b"application/json");
        out.extend_from_slice(b"content-length: ");
        write::decimal(&mut out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
        if let Some(seconds) = self.retry_after {
            out.extend_from_slice(b"retry-after: ");
            write::decimal(&mut out, u64::from(seconds));
            out.extend_from_slice(b"\r\n");
        }
        if self.is_final {
            write::header(&mut out, b"x-should-retry", b"false");
        }
        if close {
            write::header(&mut out, b"connection", b"close");
        }
        out.extend_from_slice(headers);
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(&body);
        }
        out
    }
}

/// Marks a 2005 that is a timeout until the setting decides its status.
const TIMED_OUT: u16 = 504;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_envelope_is_the_documented_one() {
        let error = GatewayError::no_answer("connection refused");
        let answer = error.answer(ErrorStatus::Strict, b"cf-aig-step: 0\r\n", false, false);
        let text = String::from_utf8(answer).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"));
        assert!(head.ends_with("cf-aig-step: 0"));
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let expected = json!({"success":false,"result":[],"messages":[],
            "error":[{"code":2005,"message":"Failed to get response from provider"}],
            "name":"AiGatewayError","httpCode":400,"internalCode":2005,
            "message":"Failed to get response from provider","description":"Failed to get response from provider"});
        assert_eq!(body, expected);
    }

    #[test]
    fn waits_are_told_and_long_ones_as_final() {
        let head = |error: GatewayError| {
            let answer = error.answer(ErrorStatus::Strict, b"", false, true);
            String::from_utf8(answer).expect("text")
        };
        let short = head(GatewayError::rate_limited(Duration::from_millis(1001)));
        assert!(short.starts_with("HTTP/1.1 429 ") && short.contains("retry-after: 2\r\n"));
        assert!(!short.contains("x-should-retry"));
        let long = head(GatewayError::rate_limited(Duration::from_millis(60_001)));
        assert!(long.contains("retry-after: 61\r\nx-should-retry: false\r\n"));
        let text = "Spend limit exceeded: rule 'a'".to_owned();
        let spent = GatewayError::spent(text, Duration::ZERO);
        assert_eq!((spent.retry_after, spent.is_final), (Some(1), true));
        let body = String::from_utf8(spent.body(429)).expect("text");
        assert_eq!(body.matches("Spend limit exceeded: rule 'a'").count(), 3);
    }

    #[test]
    fn only_2005_depends_on_the_setting() {
        let semantic = |error: GatewayError| error.status(ErrorStatus::Semantic);
        assert_eq!(semantic(GatewayError::no_answer("x")), 502);
        assert_eq!(semantic(GatewayError::timed_out("x")), 504);
        assert_eq!(semantic(GatewayError::unauthorized()), 401);
        assert_eq!(
            GatewayError::timed_out("x").status(ErrorStatus::Strict),
            400
        );
        let busy = GatewayError::too_busy().answer(ErrorStatus::Strict, b"", true, true);
        let busy = String::from_utf8(busy).expect("text");
        assert!(busy.contains("retry-after: 1\r\n") && busy.ends_with("connection: close\r\n\r\n"));
    }
}
