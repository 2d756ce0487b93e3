//! What goes wrong on the way: requests that cannot be translated, and what providers answer instead of an answer.

use std::time::Duration;

/// A request that the client has to mend: 400, in the client's own dialect (spec: providers 1.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// What is wrong and, where it helps, what would be right.
    pub message: String,
    /// Where: `messages[2].content[0].type`.
    pub param: Option<String>,
    /// A word for programs: `unsupported_parameter`, `model_not_found`, ...
    pub code: Option<&'static str>,
}

impl Invalid {
    /// Something is wrong with the field at `param`.
    pub fn at(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            param: Some(param.into()),
            code: None,
        }
    }

    /// The provider, or the model, cannot do what the field at `param` asks for.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::at(param, message)
        }
    }
}

/// A provider's error, in no dialect. Status and kind agree (spec: providers 1.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// As the provider gave it, or as its kind implies where it came inside a 200.
    pub status: u16,
    /// What kind of error.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// The provider's own word or number: `insufficient_quota`, `overloaded_error`, `ThrottlingException`.
    pub code: Option<String>,
    /// The field that the provider blames.
    pub param: Option<String>,
    /// How long to wait, where the provider says so outside of `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The same request may succeed later.
    pub retryable: bool,
    /// The start of the body as it came.
    pub raw: Option<String>,
}

/// Kinds of errors, as all dialects know them under other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FailureKind {
    InvalidRequest,
    Authentication,
    Billing,
    Permission,
    NotFound,
    Timeout,
    Conflict,
    TooLarge,
    RateLimit,
    Overloaded,
    Server,
}

impl FailureKind {
    /// The kind that a status stands for.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 498 => Self::Authentication,
            402 => Self::Billing,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            429 => Self::RateLimit,
            503 | 529 => Self::Overloaded,
            status if status >= 500 || status == 424 => Self::Server,
            _ => Self::InvalidRequest,
        }
    }

    /// The status of an error that came without one.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Billing => 402,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::Timeout => 504,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimit => 429,
            Self::Overloaded => 503,
            Self::Server => 502,
        }
    }
}

/// Longest part of a provider's error body that is kept and shown.
pub const RAW_MAX: usize = 2048;

impl Failure {
    /// An error of this status; kind and retryability follow from it.
    pub fn of_status(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: FailureKind::of_status(status),
            message: message.into(),
            code: None,
            param: None,
            retry_after: None,
            retryable: matches!(
                status,
                408 | 409 | 424 | 429 | 498 | 500 | 502 | 503 | 504 | 529
            ),
            raw: None,
        }
    }

    /// The provider's answer, or its stream, makes no sense or ended too early.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::of_status(502, message)
    }

    /// With the provider's own word.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With the start of the body as it came.
    pub fn with_raw(mut self, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(RAW_MAX)]);
        self.raw = Some(text.into_owned()).filter(|text| !text.is_empty());
        self
    }
}
