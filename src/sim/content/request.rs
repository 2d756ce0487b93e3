//! A request as the simulator sees it: values only, no connection.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// One received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// Raw path, still percent-encoded.
    pub path: String,
    /// Raw query without the question mark.
    pub query: String,
    /// Names as sent, values as text (other bytes replaced), in order.
    pub headers: Vec<(String, String)>,
    /// The body, or its first part: see `body_length`.
    pub body: Bytes,
    /// Bytes of the whole body.
    pub body_length: u64,
    /// SHA-256 of the whole body.
    pub body_sha256: [u8; 32],
    /// Which request this is since the start: what tells delays of equal requests apart.
    pub ordinal: u64,
    /// How many of the same path and body came before it, where it asks for something that depends on that.
    pub repeat: u64,
    /// When it came, in Unix seconds.
    pub received: u64,
}

impl Request {
    /// A request without headers.
    pub fn new(method: &str, target: &str, body: &[u8]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: Bytes::copy_from_slice(body),
            body_length: body.len() as u64,
            body_sha256: Sha256::digest(body).into(),
            ordinal: 0,
            repeat: 0,
            received: 0,
        }
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A query parameter, still encoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether all of the body was kept.
    pub fn whole(&self) -> bool {
        self.body.len() as u64 == self.body_length
    }
}
