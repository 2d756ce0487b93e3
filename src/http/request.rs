//! The head of a request.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};

use super::fields::{
    Fields, HeadError, HeadLimits, Span, Version, check_lines, end_of_parsed, find_end, refused,
};
use crate::limits::HEADERS_MAX;

/// Request methods (RFC 9110 section 9, RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Other,
}

/// How a request's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request's head: its bytes, and where in them the parts lie.
#[derive(Debug, Clone)]
pub struct RequestHead {
    fields: Fields,
    method: Method,
    method_span: Span,
    target: Span,
    query: Option<Span>,
    authority: Option<Span>,
    version: Version,
}

impl RequestHead {
    /// Takes a whole head off the front of `buffer` and leaves what follows it. `None`: more bytes are needed. `scanned`
    /// starts at 0 and belongs to the caller between calls: it keeps a head that comes byte by byte linear.
    pub fn take(
        buffer: &mut BytesMut,
        scanned: &mut usize,
        limits: &HeadLimits,
    ) -> Result<Option<Self>, HeadError> {
        // Mostly all of it is here at the first look, and its end is where the parser stops.
        if *scanned == 0
            && let Ok(Some((head, end))) = Self::parse(buffer, limits, false)
        {
            return Ok(Some(head.with_bytes(buffer.split_to(end))));
        }
        let Some(end) = find_end(buffer, scanned, limits)? else {
            return Ok(None);
        };
        *scanned = 0;
        let parsed = Self::parse(&buffer[..end], limits, true)?;
        let bytes = buffer.split_to(end);
        Ok(parsed.map(|(head, _)| head.with_bytes(bytes)))
    }

    /// Parses a head that is `whole`, or one at the front of what there is: `None` where its end is not sure. Tells where it ends.
    fn parse(
        bytes: &[u8],
        limits: &HeadLimits,
        whole: bool,
    ) -> Result<Option<(Self, usize)>, HeadError> {
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            return Err(HeadError::Version);
        }
        let mut storage = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let bound = limits.headers.min(HEADERS_MAX);
        let mut request = httparse::Request::new(&mut []);
        let parsed = request
            .parse_with_uninit_headers(bytes, &mut storage[..bound])
            .map_err(|error| refused(bytes, error, limits))?;
        let end = match whole {
            true => {
                check_lines(bytes, request.headers, &parsed)?;
                bytes.len()
            }
            false => match end_of_parsed(bytes, request.headers, &parsed, limits) {
                Some(end) => end,
                None => return Ok(None),
            },
        };
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed {
                part: "start line",
                reason: "incomplete",
            });
        };
        let fields = Fields::read(request.headers, bytes)?;
        let mut head = Self {
            fields,
            method: Method::from_token(method)?,
            method_span: Span::of(bytes, method.as_bytes()),
            target: Span::of(bytes, target.as_bytes()),
            query: None,
            authority: None,
            version: if version == 0 {
                Version::Http10
            } else {
                Version::Http11
            },
        };
        head.split_target(target, bytes)?;
        head.check_host(bytes)?;
        if head.fields.chunked && head.version == Version::Http10 {
            return Err(HeadError::Field {
                name: "transfer-encoding",
                reason: "does not exist in HTTP/1.0",
            });
        }
        Ok(Some((head, end)))
    }

    fn with_bytes(mut self, bytes: BytesMut) -> Self {
        self.fields.bytes = bytes.freeze();
        self
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method's token as sent.
    pub fn method_str(&self) -> &str {
        self.text(self.method_span)
    }

    /// The target in origin form, undecoded; an absolute target without its scheme and authority.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The target's path, undecoded.
    pub fn path(&self) -> &str {
        let end = self.query.map_or(self.target.end, |query| query.start - 1);
        self.text(Span {
            start: self.target.start,
            end,
        })
    }

    /// What follows the target's first `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|query| self.text(query))
    }

    /// HTTP/1.0 or HTTP/1.1.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The authority of an absolute target, else the `Host` field (RFC 9112 section 3.2.2).
    pub fn host(&self) -> Option<&str> {
        self.authority
            .or(self.fields.host)
            .map(|span| self.text(span))
    }

    /// How the body is framed.
    pub fn framing(&self) -> RequestFraming {
        match (self.fields.chunked, self.fields.content_length) {
            (true, _) => RequestFraming::Chunked,
            (false, Some(length)) => RequestFraming::Length(length),
            (false, None) => RequestFraming::None,
        }
    }

    /// Whether the client wants the connection kept (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.fields.close,
            Version::Http10 => self.fields.keep_alive && !self.fields.close,
        }
    }

    /// Whether the client waits for `100 Continue`; never so in HTTP/1.0 (RFC 9110 section 10.1.1).
    pub fn expect_continue(&self) -> bool {
        self.fields.expect_continue && self.version == Version::Http11
    }

    /// The protocol asked for by `Upgrade`, where `Connection` names it too.
    pub fn upgrade(&self) -> Option<&[u8]> {
        let span = self
            .fields
            .upgrade
            .filter(|_| self.fields.connection_upgrade)?;
        Some(span.slice(&self.fields.bytes))
    }

    /// The first field called `name`, in any case.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// All fields in order: names as sent, values without the white space around them.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    /// As [`Self::headers`], with where each field's line lies, for [`super::write::Copied`].
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Span)> {
        self.fields.lines()
    }

    /// Whether a field is about this connection alone (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        self.fields.is_hop_by_hop(name)
    }

    /// The head's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.fields.bytes
    }

    fn text(&self, span: Span) -> &str {
        let text = span.slice(&self.fields.bytes);
        // SAFETY: every span that is read as text was checked to be ASCII when the head was parsed: the method is a token, of the
        // target each byte is printable, and of the host each one is in `HOST_BYTES`.
        unsafe { std::str::from_utf8_unchecked(text) }
    }

    /// Origin form, absolute form or, for OPTIONS, `*` (RFC 9112 section 3.2).
    fn split_target(&mut self, target: &str, whole: &[u8]) -> Result<(), HeadError> {
        let malformed = |reason| HeadError::Malformed {
            part: "request target",
            reason,
        };
        // Without a way out of the loop many bytes are looked at at once.
        let strange = |byte: u8| !byte.is_ascii_graphic() | (byte == b'#');
        if target.bytes().fold(false, |any, byte| any | strange(byte)) {
            return Err(malformed(
                "holds a fragment or a byte that is not printable ASCII",
            ));
        }
        let path = if target.starts_with('/') || (target == "*" && self.method == Method::Options) {
            target
        } else {
            let scheme = target
                .find("://")
                .ok_or_else(|| malformed("is neither a path nor a URL"))?;
            if !target[..scheme].eq_ignore_ascii_case("http")
                && !target[..scheme].eq_ignore_ascii_case("https")
            {
                return Err(malformed("has a scheme other than http and https"));
            }
            let rest = &target[scheme + 3..];
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if authority.is_empty() || authority.contains('@') {
                return Err(malformed("has no host, or credentials before it"));
            }
            if !path.starts_with('/') {
                return Err(malformed("has no path"));
            }
            self.authority = Some(Span::of(whole, authority.as_bytes()));
            path
        };
        self.target = Span::of(whole, path.as_bytes());
        self.query = memchr::memchr(b'?', path.as_bytes())
            .map(|at| Span::of(whole, &path.as_bytes()[at + 1..]));
        Ok(())
    }

    /// Exactly one valid `Host` in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 section 3.2).
    fn check_host(&self, whole: &[u8]) -> Result<(), HeadError> {
        let field = |reason| {
            Err(HeadError::Field {
                name: "host",
                reason,
            })
        };
        match (self.fields.hosts, self.version) {
            (0, Version::Http11) => return field("is missing"),
            (0 | 1, _) => {}
            _ => return field("stands more than once"),
        }
        let valid = |byte: &u8| HOST_BYTES[usize::from(*byte)];
        match self.fields.host.map(|span| span.slice(whole)) {
            Some(host) if !host.iter().all(valid) => field("holds a byte that no host has"),
            _ => Ok(()),
        }
    }
}

/// What a host, in brackets or not, and its port are made of (RFC 3986 section 3.2.2).
const HOST_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        bytes[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~:[]%!$&'()*+,;=";
    let mut at = 0;
    while at < others.len() {
        bytes[others[at] as usize] = true;
        at += 1;
    }
    bytes
};

impl Method {
    fn from_token(token: &str) -> Result<Self, HeadError> {
        Ok(match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            "CONNECT" => return Err(HeadError::Method("CONNECT")),
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(head: &str) -> Result<Option<RequestHead>, HeadError> {
        RequestHead::take(&mut BytesMut::from(head), &mut 0, &HeadLimits::default())
    }

    fn whole(head: &str) -> RequestHead {
        take(head).expect("a valid head").expect("a whole head")
    }

    const TYPICAL: &str = "POST /v1/a/default/openai/chat/completions?x=1&y=%2F HTTP/1.1\r\nHost: localhost:8787\r\n\
        Authorization: Bearer sk\r\nContent-Type: application/json \r\nContent-Length: 42\r\nConnection: keep-alive, X-Hop\r\n\
        X-Hop: 1\r\nExpect: 100-Continue\r\n\r\n";

    #[test]
    fn a_typical_head_is_taken_apart() {
        let head = whole(TYPICAL);
        assert_eq!(head.method(), Method::Post);
        assert_eq!(head.path(), "/v1/a/default/openai/chat/completions");
        assert_eq!(head.query(), Some("x=1&y=%2F"));
        assert_eq!(head.host(), Some("localhost:8787"));
        assert_eq!(head.framing(), RequestFraming::Length(42));
        assert_eq!(head.header("content-type"), Some(&b"application/json"[..]));
        assert!(head.keep_alive() && head.expect_continue());
        assert!(
            head.is_hop_by_hop(b"x-hop")
                && head.is_hop_by_hop(b"Connection")
                && !head.is_hop_by_hop(b"host")
        );
        assert_eq!(head.headers().count(), 7);
    }

    #[test]
    fn what_follows_the_head_stays_in_the_buffer() {
        let mut buffer = BytesMut::from("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest");
        let head = RequestHead::take(&mut buffer, &mut 0, &HeadLimits::default());
        assert!(head.expect("valid").is_some());
        assert_eq!(&buffer[..], b"rest");
    }

    #[test]
    fn versions_decide_keep_alive() {
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive());
        assert!(whole("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive());
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n").keep_alive());
    }

    #[test]
    fn an_absolute_target_is_reduced_to_its_path() {
        let head = whole("GET http://gateway:1/v1/a?b HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!((head.target(), head.host()), ("/v1/a?b", Some("gateway:1")));
    }

    #[test]
    fn ambiguous_and_malformed_heads_are_refused() {
        let cases = [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
                400,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
                400,
            ),
            ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400),
            ("\nGET / HTTP/1.0\r\n\r\n", 400),
            ("\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.0\n\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ];
        for (head, status) in cases {
            let error = take(head).expect_err(head);
            assert_eq!(error.status(), status, "{head:?}: {error}");
        }
    }

    #[test]
    fn limits_are_kept() {
        let limits = HeadLimits {
            bytes: 64,
            headers: 2,
        };
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(80));
        let error = RequestHead::take(&mut BytesMut::from(&*long), &mut 0, &limits);
        assert_eq!(error.expect_err("too long"), HeadError::TooLarge(64));
        let many = "GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nC: 2\r\n\r\n";
        let error = RequestHead::take(&mut BytesMut::from(many), &mut 0, &limits);
        assert_eq!(error.expect_err("too many"), HeadError::TooManyHeaders(2));
    }

    proptest! {
        #[test]
        fn a_head_cut_anywhere_is_the_same_head(cut in 0..TYPICAL.len()) {
            let (mut buffer, mut scanned) = (BytesMut::from(&TYPICAL[..cut]), 0);
            let early = RequestHead::take(&mut buffer, &mut scanned, &HeadLimits::default());
            prop_assert!(early.expect("a prefix is no error").is_none());
            buffer.extend_from_slice(&TYPICAL.as_bytes()[cut..]);
            let head = RequestHead::take(&mut buffer, &mut scanned, &HeadLimits::default());
            let head = head.expect("valid").expect("whole");
            prop_assert_eq!(&head.bytes()[..], TYPICAL.as_bytes());
        }

        #[test]
        fn what_is_text_is_ascii(method in "[A-Z!~é]{1,5}", target in "/[a-zé\u{80}?:/]{0,9}", host in "[a-z.é\u{7f}]{0,9}") {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            if let Ok(Some(head)) = take(&head) {
                let host = head.host().unwrap_or_default();
                for text in [head.method_str(), head.target(), head.path(), head.query().unwrap_or_default(), host] {
                    prop_assert!(text.as_bytes().is_ascii());
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            buffer.extend_from_slice(b"\r\n\r\n");
            let _ = RequestHead::take(&mut buffer, &mut 0, &HeadLimits::default());
        }
    }
}
