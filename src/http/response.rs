//! The head of a response.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};

use super::Method;
use super::fields::{
    Fields, HeadError, HeadLimits, Span, Version, check_lines, end_of_parsed, find_end, refused,
};
use crate::limits::HEADERS_MAX;

/// How a response's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body: the status or the request's method rules it out.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
}

/// A response's head: its bytes, and where in them the parts lie.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    fields: Fields,
    status: u16,
    reason: Span,
    version: Version,
    framing: ResponseFraming,
}

impl ResponseHead {
    /// Takes a whole head off the front of `buffer`; see [`super::RequestHead::take`]. `request` is the method it answers.
    pub fn take(
        buffer: &mut BytesMut,
        scanned: &mut usize,
        request: Method,
        limits: &HeadLimits,
    ) -> Result<Option<Self>, HeadError> {
        // As in a request's head.
        if *scanned == 0
            && let Ok(Some((head, end))) = Self::parse(buffer, request, limits, false)
        {
            return Ok(Some(head.with_bytes(buffer.split_to(end))));
        }
        let Some(end) = find_end(buffer, scanned, limits)? else {
            return Ok(None);
        };
        *scanned = 0;
        let parsed = Self::parse(&buffer[..end], request, limits, true)?;
        let bytes = buffer.split_to(end);
        Ok(parsed.map(|(head, _)| head.with_bytes(bytes)))
    }

    /// As [`super::RequestHead::parse`].
    fn parse(
        bytes: &[u8],
        request: Method,
        limits: &HeadLimits,
        whole: bool,
    ) -> Result<Option<(Self, usize)>, HeadError> {
        let mut storage = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let bound = limits.headers.min(HEADERS_MAX);
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut storage[..bound])
            .map_err(|error| refused(bytes, error, limits))?;
        let end = match whole {
            true => {
                check_lines(bytes, response.headers, &parsed)?;
                bytes.len()
            }
            false => match end_of_parsed(bytes, response.headers, &parsed, limits) {
                Some(end) => end,
                None => return Ok(None),
            },
        };
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(HeadError::Malformed {
                part: "start line",
                reason: "incomplete",
            });
        };
        if status < 100 {
            return Err(HeadError::Malformed {
                part: "start line",
                reason: "status below 100",
            });
        }
        let reason = response
            .reason
            .filter(|reason| !reason.is_empty())
            .map_or(Span::default(), |reason| Span::of(bytes, reason.as_bytes()));
        let fields = Fields::read(response.headers, bytes)?;
        let version = if version == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        if fields.transfer_encoding && version == Version::Http10 {
            return Err(HeadError::Field {
                name: "transfer-encoding",
                reason: "does not exist in HTTP/1.0",
            });
        }
        let framing = match status {
            100..200 | 204 | 304 => ResponseFraming::None,
            _ if request == Method::Head => ResponseFraming::None,
            _ if fields.chunked => ResponseFraming::Chunked,
            _ => fields
                .content_length
                .map_or(ResponseFraming::UntilClose, ResponseFraming::Length),
        };
        let head = Self {
            fields,
            status,
            reason,
            version,
            framing,
        };
        Ok(Some((head, end)))
    }

    fn with_bytes(mut self, bytes: BytesMut) -> Self {
        self.fields.bytes = bytes.freeze();
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; empty where none was sent.
    pub fn reason(&self) -> &str {
        std::str::from_utf8(self.reason.slice(&self.fields.bytes)).unwrap_or_default()
    }

    /// HTTP/1.0 or HTTP/1.1.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body is framed.
    pub fn framing(&self) -> ResponseFraming {
        self.framing
    }

    /// Whether the server keeps the connection (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.version == Version::Http11
            && !self.fields.close
            && self.framing != ResponseFraming::UntilClose
    }

    /// The first field called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// All fields in order.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(head: &str, request: Method) -> Result<ResponseHead, HeadError> {
        let head = ResponseHead::take(
            &mut BytesMut::from(head),
            &mut 0,
            request,
            &HeadLimits::default(),
        );
        head.map(|head| head.expect("a whole head"))
    }

    #[test]
    fn framing_follows_status_method_and_fields() {
        let cases = [
            (
                "200 OK\r\nContent-Length: 5",
                Method::Get,
                ResponseFraming::Length(5),
            ),
            (
                "200 OK\r\nTransfer-Encoding: chunked",
                Method::Get,
                ResponseFraming::Chunked,
            ),
            (
                "200 OK\r\nContent-Type: a/b",
                Method::Get,
                ResponseFraming::UntilClose,
            ),
            (
                "200 OK\r\nContent-Length: 5",
                Method::Head,
                ResponseFraming::None,
            ),
            (
                "204 No Content\r\nContent-Length: 5",
                Method::Get,
                ResponseFraming::None,
            ),
            (
                "304 Not Modified\r\nTransfer-Encoding: chunked",
                Method::Get,
                ResponseFraming::None,
            ),
            ("100 Continue", Method::Post, ResponseFraming::None),
        ];
        for (head, method, framing) in cases {
            let head = take(&format!("HTTP/1.1 {head}\r\n\r\n"), method).expect(head);
            assert_eq!(head.framing(), framing, "{head:?}");
        }
    }

    #[test]
    fn keep_alive_needs_http11_and_a_framed_body() {
        let keep = |head| take(head, Method::Get).expect("valid").keep_alive();
        assert!(keep("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keep("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keep(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        assert!(!keep("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_missing_reason_is_empty_and_ambiguity_is_refused() {
        let head = take("HTTP/1.1 529\r\nContent-Length: 0\r\n\r\n", Method::Get).expect("valid");
        assert_eq!((head.status(), head.reason()), (529, ""));
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(take(both, Method::Get).is_err());
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(take(old, Method::Get).is_err());
    }
}
