//! The envelope of management answers, and what goes wrong (spec: control plane 1.3 and 1.6).

use axum::body::Body;
use axum::http::header::{
    ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rusqlite::ErrorCode;
use serde_json::{Value, json};

use super::logs::Later;
use super::schema::Flaw;
use crate::seal::SealError;
use crate::store::Undone;
use crate::telemetry::logs::Unread;
use crate::telemetry::notice;

/// What an operation answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Behind `result`.
    Result(Value),
    /// One page of a list.
    Page {
        /// Its items.
        items: Vec<Value>,
        /// Which page, from 1.
        page: i64,
        /// Items a page.
        per_page: i64,
        /// Items of the whole list.
        total: i64,
    },
    /// The whole body.
    Raw(Value),
    /// The whole body, as somebody once sent it.
    Stored {
        /// Its type.
        content_type: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// What the log store still has to say or do.
    Later(Box<Later>),
}

impl Answer {
    /// The whole body, as a client of the API reads it.
    pub fn into_body(self, messages: &[(u32, String)]) -> Value {
        success(&self, messages)
    }
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, one entry each.
    pub errors: Vec<Fault>,
    /// The methods that the path knows, where the asked one is not among them.
    pub allow: Option<String>,
}

/// One entry of `errors`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The code, which is contract.
    pub code: u32,
    /// For people.
    pub message: String,
    /// The field, if it is about one.
    pub path: Vec<String>,
    /// Codes behind the code.
    pub chain: Vec<(u32, String)>,
}

impl Problem {
    /// One entry.
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![Fault {
                code,
                message: message.into(),
                path: Vec::new(),
                chain: Vec::new(),
            }],
            allow: None,
        }
    }

    /// Adds the codes behind the first entry.
    pub fn behind(mut self, code: u32, message: &str) -> Self {
        if let Some(first) = self.errors.first_mut() {
            first.chain.push((code, message.to_owned()));
        }
        self
    }

    /// A field of the body that cannot be taken: 400/7001.
    pub fn field(path: &[&str], message: impl Into<String>) -> Self {
        let mut problem = Self::new(400, 7001, message);
        problem.errors[0].path = path.iter().map(|&part| part.to_owned()).collect();
        problem
    }

    pub(super) fn flaws(flaws: Vec<Flaw>) -> Self {
        let fault = |flaw: Flaw| Fault {
            code: 7001,
            message: format!("{} {}", flaw.path.join("."), flaw.message),
            path: flaw.path,
            chain: Vec::new(),
        };
        Self {
            status: 400,
            errors: flaws.into_iter().map(fault).collect(),
            allow: None,
        }
    }

    /// The caller may not: 403/10000, with a second entry that tells why.
    pub fn forbidden(reason: impl Into<String>) -> Self {
        let mut problem = Self::new(403, 10000, "Authentication error");
        problem.errors.extend(Self::new(403, 10000, reason).errors);
        problem
    }

    /// The object is not there: 404/7002.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, 7002, format!("Not Found: {what}"))
    }

    /// No such path, or no such account: 404/7003.
    pub fn no_route(what: impl std::fmt::Display) -> Self {
        Self::new(404, 7003, format!("Could not route: {what}"))
    }

    /// The object is there already: 400/7001, which no SDK sends again.
    pub fn exists(path: &[&str], what: &str) -> Self {
        Self::field(path, format!("{what} already exists"))
    }

    fn internal() -> Self {
        Self::new(500, 7009, "Internal error; the gateway's log tells more")
    }

    fn unavailable() -> Self {
        Self::new(
            503,
            7011,
            "The configuration database is not available; try again",
        )
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, fault) in self.errors.iter().enumerate() {
            let gap = if index > 0 { "; " } else { "" };
            write!(f, "{gap}{} (code {})", fault.message, fault.code)?;
        }
        Ok(())
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        notice::say(format_args!("configuration database: {error}"));
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt,
            ) => Self::unavailable(),
            _ => Self::internal(),
        }
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        notice::say(format_args!(
            "configuration database: a stored value is not JSON: {error}"
        ));
        Self::internal()
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        notice::say(format_args!("stored keys: {error}"));
        Self::new(
            500,
            7009,
            format!("The key cannot be sealed or opened: {error}"),
        )
    }
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Late => Self::new(400, 7001, format!("{unread}")),
            Unread::Busy => Self::new(503, 7011, "The log store is busy; try again"),
            Unread::Broken(reason) => {
                notice::say(format_args!("logs cannot be read or changed: {reason}"));
                Self::new(
                    503,
                    7011,
                    "The log store cannot be used; the gateway's log tells more",
                )
            }
        }
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Busy => Self::unavailable(),
            Undone::Failed => Self::internal(),
        }
    }
}

fn insert_id(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
}

/// A body that anybody may have written: a browser must take it for no page of this server's.
fn stored(content_type: &str, bytes: Vec<u8>, request_id: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    let fallback = HeaderValue::from_static("application/octet-stream");
    let content_type = HeaderValue::from_str(content_type).unwrap_or(fallback);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    insert_id(headers, request_id);
    response
}

/// The response of an outcome; `messages` go with a success.
pub(super) fn respond(
    outcome: Result<Answer, Problem>,
    messages: &[(u32, String)],
    request_id: &str,
) -> Response<Body> {
    if let Ok(Answer::Stored {
        content_type,
        bytes,
    }) = outcome
    {
        return stored(&content_type, bytes, request_id);
    }
    let (status, body) = match &outcome {
        Ok(answer) => (200, success(answer, messages)),
        Err(problem) => (problem.status, failure(problem)),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    insert_id(headers, request_id);
    if let Err(problem) = outcome {
        if problem.status == 503 {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        } else if problem.status >= 500 || problem.status == 409 {
            // The SDKs send these again by themselves.
            let name = HeaderName::from_static("x-should-retry");
            headers.insert(name, HeaderValue::from_static("false"));
        }
        if let Some(Ok(allow)) = problem.allow.map(HeaderValue::try_from) {
            headers.insert(ALLOW, allow);
        }
    }
    response
}

fn success(answer: &Answer, messages: &[(u32, String)]) -> Value {
    let messages: Vec<Value> = messages
        .iter()
        .map(|(code, message)| json!({"code": code, "message": message}))
        .collect();
    match answer {
        Answer::Raw(body) => body.clone(),
        // The one is no JSON, the other was asked for its answer before.
        Answer::Stored { .. } | Answer::Later(_) => Value::Null,
        Answer::Result(result) => {
            json!({"success": true, "errors": [], "messages": messages, "result": result})
        }
        Answer::Page {
            items,
            page,
            per_page,
            total,
        } => json!({
            "success": true,
            "errors": [],
            "messages": messages,
            "result": items,
            "result_info": {
                "page": page,
                "per_page": per_page,
                "count": items.len(),
                "total_count": total,
                "total_pages": (total + per_page - 1) / per_page.max(&1),
            },
        }),
    }
}

fn failure(problem: &Problem) -> Value {
    let entry = |fault: &Fault| {
        let mut entry = json!({"code": fault.code, "message": fault.message});
        if !fault.path.is_empty() {
            entry["path"] = json!(fault.path);
        }
        if !fault.chain.is_empty() {
            let chain = fault.chain.iter();
            let chain: Vec<Value> = chain
                .map(|(code, message)| json!({"code": code, "message": message}))
                .collect();
            entry["error_chain"] = Value::from(chain);
        }
        entry
    };
    let errors: Vec<Value> = problem.errors.iter().map(entry).collect();
    json!({"success": false, "errors": errors, "messages": [], "result": null})
}
