//! The request that is sent again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Dialect, LoadError, Options};
use crate::http::Method;
use crate::net::origin::Origin;
use crate::providers::BaseUrl;

/// What every worker sends, and how its answer is read.
pub(super) struct Job {
    /// Where to.
    pub origin: Arc<Origin>,
    /// Head and body.
    pub bytes: Bytes,
    /// The method, for the framing of the answer.
    pub method: Method,
    /// What a whole stream has near its end.
    pub last: Option<&'static [u8]>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether connections are used again.
    pub keep_alive: bool,
}

impl Job {
    /// Reads the options; what is wrong is named.
    pub fn build(options: &Options) -> Result<Self, LoadError> {
        let (url, query) = match options.url.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (options.url.as_str(), None),
        };
        let url: BaseUrl = url
            .parse()
            .map_err(|error| LoadError::Option(format!("{error}")))?;
        let body = match (&options.body, options.method.as_str()) {
            (Some(path), _) => std::fs::read(path).map_err(|source| LoadError::Body {
                path: path.clone(),
                source,
            })?,
            (None, "GET" | "HEAD") => Vec::new(),
            (None, _) => made_body(options),
        };
        let mut target = format!("{}{}", url.path, endpoint(options.dialect, &url.path));
        if target.is_empty() {
            target.push('/');
        }
        if let Some(query) = query {
            target = format!("{target}?{query}");
        }
        if target
            .bytes()
            .chain(options.method.bytes())
            .any(|byte| !byte.is_ascii_graphic())
        {
            return Err(LoadError::Option(
                "the URL or the method holds a space or a control character".to_owned(),
            ));
        }
        let mut head = format!(
            "{} {target} HTTP/1.1\r\nhost: {}\r\n",
            options.method, url.origin.authority
        );
        if !body.is_empty() {
            head += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        if options.dialect == Dialect::Anthropic {
            head += "anthropic-version: 2023-06-01\r\n";
        }
        for header in &options.headers {
            let (name, value) = header
                .split_once(':')
                .filter(|_| !header.contains(['\r', '\n']))
                .ok_or_else(|| {
                    LoadError::Option(format!("--header {header:?} is not 'name: value'"))
                })?;
            head += &format!("{}: {}\r\n", name.trim(), value.trim());
        }
        if options.no_keep_alive {
            head += "connection: close\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        Ok(Self {
            origin: url.origin,
            bytes: bytes.into(),
            method: match options.method.as_str() {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                _ => Method::Post,
            },
            last: match options.dialect {
                Dialect::Openai if options.stream => Some(b"[DONE]"),
                Dialect::Anthropic if options.stream => Some(b"message_stop"),
                _ => None,
            },
            timeout: Duration::from_secs_f64(options.timeout),
            keep_alive: !options.no_keep_alive,
        })
    }
}

/// What an SDK would put behind its base URL; nothing where the URL is an endpoint already.
fn endpoint(dialect: Dialect, path: &str) -> &'static str {
    const ENDPOINTS: [&str; 6] = [
        "/completions",
        "/messages",
        "/responses",
        "/embeddings",
        "/models",
        "/converse",
    ];
    if ENDPOINTS.iter().any(|endpoint| path.ends_with(endpoint)) {
        return "";
    }
    match dialect {
        Dialect::Openai => "/chat/completions",
        Dialect::Anthropic => "/v1/messages",
        Dialect::Raw => "",
    }
}

fn made_body(options: &Options) -> Vec<u8> {
    let prompt = "ping ".repeat(options.prompt_bytes / 5 + 1);
    let mut body = json!({
        "model": options.model,
        "messages": [{"role": "user", "content": &prompt[..options.prompt_bytes]}],
    });
    if options.stream {
        body["stream"] = json!(true);
    }
    match options.tokens {
        Some(tokens) => body["max_tokens"] = json!(tokens),
        None if options.dialect == Dialect::Anthropic => body["max_tokens"] = json!(1024),
        None => {}
    }
    body.to_string().into_bytes()
}
