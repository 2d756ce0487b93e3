//! What request and response heads share: the end of a head, its fields, and the rules that both obey.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use smallvec::SmallVec;

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, LEADING_EMPTY_LINES_MAX};

/// A range of bytes inside a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Where `part` lies in `whole`, of which it must be a slice.
    pub(super) fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }

    pub(super) fn slice(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// Minor versions of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No keep-alive unless asked for, no chunks.
    Http10,
    /// RFC 9112.
    Http11,
}

/// Bounds of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first of the start line to the last of the empty line.
    pub bytes: usize,
    /// Number of header fields.
    pub headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes: HEAD_BYTES_MAX,
            headers: HEADERS_MAX,
        }
    }
}

/// Why a head is refused. A message that could be read in two ways is never passed on (RFC 9112 section 11.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a head at all.
    #[error("malformed {part}: {reason}")]
    Malformed {
        /// Start line or header fields.
        part: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A line ends with a bare LF, or holds a bare CR (RFC 9112 section 2.2).
    #[error("line ending at byte {0} is not CR LF")]
    LineEnding(usize),
    /// A field breaks a rule.
    #[error("header {name}: {reason}")]
    Field {
        /// The field's name.
        name: &'static str,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A transfer coding other than chunked.
    #[error("header transfer-encoding: only chunked is implemented")]
    TransferCoding,
    /// CONNECT, or another method this end does not speak.
    #[error("method {0} is not implemented")]
    Method(&'static str),
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    /// The head is longer than its bound.
    #[error("head is larger than {0} bytes")]
    TooLarge(usize),
    /// The head has more fields than its bound.
    #[error("head has more than {0} header fields")]
    TooManyHeaders(usize),
}

impl HeadError {
    /// The status a server answers with (RFC 9110 section 15).
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::LineEnding(_) | Self::Field { .. } => 400,
            Self::TransferCoding | Self::Method(_) => 501,
            Self::Version => 505,
            Self::TooLarge(_) | Self::TooManyHeaders(_) => 431,
        }
    }
}

/// Finds the end of the head at the front of `buffer`; `scanned` keeps repeated calls linear. Whether every line of a whole head
/// ends with CR LF is left to [`check_lines`], which knows where they begin.
pub(super) fn find_end(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    let start = empty_lines(buffer)?;
    let from = scanned.saturating_sub(3).max(start);
    let Some(position) = END.find(&buffer[from..]) else {
        *scanned = buffer.len();
        // A bare LF would keep the end from ever being found: say so now rather than time out.
        check_line_endings(&buffer[start..buffer.len().saturating_sub(1).max(start)])?;
        return match buffer.len() > limits.bytes {
            true => Err(HeadError::TooLarge(limits.bytes)),
            false => Ok(None),
        };
    };
    let _ = buffer.split_to(start);
    let end = from + position + 4 - start;
    if end > limits.bytes {
        return Err(HeadError::TooLarge(limits.bytes));
    }
    Ok(Some(end))
}

/// Prepared once: that takes longer than the search itself.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Bytes of the empty lines before a start line (RFC 9112 section 2.2); not any number of them is tolerated.
fn empty_lines(buffer: &[u8]) -> Result<usize, HeadError> {
    let pairs = buffer.chunks_exact(2);
    let lines = pairs.take_while(|pair| *pair == b"\r\n").count();
    match lines > LEADING_EMPTY_LINES_MAX {
        true => Err(HeadError::Malformed {
            part: "start line",
            reason: "empty lines before it",
        }),
        false => Ok(2 * lines),
    }
}

/// Where the head ends that httparse found at the front of `buffer`, if it may be taken without a search for its end: no line
/// stands before it, and its lines end with CR LF, a bare LF being good enough for httparse. It ends at its first empty line.
pub(super) fn end_of_parsed(
    buffer: &[u8],
    headers: &[httparse::Header<'_>],
    parsed: &httparse::Status<usize>,
    limits: &HeadLimits,
) -> Option<usize> {
    let httparse::Status::Complete(end) = *parsed else {
        return None;
    };
    let begins_at_once = !matches!(buffer.first(), Some(b'\r' | b'\n'));
    let is_sure = begins_at_once
        && end <= limits.bytes
        && buffer[..end].ends_with(b"\r\n\r\n")
        && begin_lines(buffer, headers);
    is_sure.then_some(end)
}

/// Checks the line endings of a head that was parsed: httparse takes a bare LF for one. It took in all of it, so that the head
/// ends with the only empty line; every other line ends where a field's name begins.
pub(super) fn check_lines(
    whole: &[u8],
    headers: &[httparse::Header<'_>],
    parsed: &httparse::Status<usize>,
) -> Result<(), HeadError> {
    // httparse passes over empty lines before the start line, those of a bare LF too.
    let blank = whole
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let blank = &whole[..blank.count()];
    let paired = blank.chunks(2).all(|pair| pair == b"\r\n");
    let complete = *parsed == httparse::Status::Complete(whole.len());
    match complete && paired && begin_lines(whole, headers) {
        true => Ok(()),
        false => check_line_endings(whole),
    }
}

/// Whether every field's name stands behind a CR LF.
fn begin_lines(whole: &[u8], headers: &[httparse::Header<'_>]) -> bool {
    headers.iter().all(|header| {
        let start = Span::of(whole, header.name.as_bytes()).start as usize;
        whole[..start].ends_with(b"\r\n")
    })
}

/// What is wrong with a head that httparse refuses.
pub(super) fn refused(whole: &[u8], error: httparse::Error, limits: &HeadLimits) -> HeadError {
    match check_line_endings(whole) {
        Err(ending) => ending,
        Ok(()) => malformed(error, limits),
    }
}

fn check_line_endings(head: &[u8]) -> Result<(), HeadError> {
    for position in memchr::memchr2_iter(b'\r', b'\n', head) {
        let paired = match head[position] {
            b'\r' => head.get(position + 1).is_none_or(|&next| next == b'\n'),
            _ => position > 0 && head[position - 1] == b'\r',
        };
        if !paired {
            return Err(HeadError::LineEnding(position));
        }
    }
    Ok(())
}

/// The fields of a head and what was decided about them in one pass.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub bytes: Bytes,
    /// On the heap: a head is moved more often than it is made.
    spans: Vec<(Span, Span)>,
    /// A bit for each name that is there: most questions are about names that are not.
    names: u64,
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub transfer_encoding: bool,
    pub close: bool,
    pub keep_alive: bool,
    pub connection_upgrade: bool,
    connection: SmallVec<[Span; 2]>,
    pub host: Option<Span>,
    pub hosts: usize,
    pub expect_continue: bool,
    pub upgrade: Option<Span>,
}

impl Fields {
    /// `headers` are slices of `whole`, which becomes `bytes` when all is checked.
    pub fn read(headers: &[httparse::Header<'_>], whole: &[u8]) -> Result<Self, HeadError> {
        let mut fields = Self {
            bytes: Bytes::new(),
            spans: Vec::with_capacity(headers.len()),
            names: 0,
            content_length: None,
            chunked: false,
            transfer_encoding: false,
            close: false,
            keep_alive: false,
            connection_upgrade: false,
            connection: SmallVec::new(),
            host: None,
            hosts: 0,
            expect_continue: false,
            upgrade: None,
        };
        for header in headers {
            let (name, value) = (header.name.as_bytes(), header.value.trim_ascii_end());
            let span = Span::of(whole, value);
            fields.spans.push((Span::of(whole, name), span));
            fields.names |= name_bit(name);
            fields.note(name, value, span)?;
        }
        if fields.transfer_encoding && fields.content_length.is_some() {
            return Err(HeadError::Field {
                name: "content-length",
                reason: "stands beside transfer-encoding (RFC 9112 section 6.3)",
            });
        }
        Ok(fields)
    }

    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        match self.names & name_bit(name.as_bytes()) {
            0 => None,
            _ => self.find(name.as_bytes()),
        }
    }

    fn find(&self, name: &[u8]) -> Option<&[u8]> {
        self.spans
            .iter()
            .find(|(key, _)| is_name(key.slice(&self.bytes), name))
            .map(|(_, value)| value.slice(&self.bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans
            .iter()
            .map(|(name, value)| (name.slice(&self.bytes), value.slice(&self.bytes)))
    }

    /// As [`Self::iter`], with where each field's line lies, from its name to the end of its value.
    pub fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Span)> {
        self.spans.iter().map(|(name, value)| {
            let line = Span {
                start: name.start,
                end: value.end,
            };
            (name.slice(&self.bytes), value.slice(&self.bytes), line)
        })
    }

    /// Whether a field is about this connection alone (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        is_about_connection(name)
            || self
                .connection
                .iter()
                .any(|span| span.slice(&self.bytes).eq_ignore_ascii_case(name))
    }

    fn note(&mut self, name: &[u8], value: &[u8], span: Span) -> Result<(), HeadError> {
        match name.len() {
            4 if is_name(name, b"host") => {
                self.host = Some(span);
                self.hosts += 1;
            }
            6 if is_name(name, b"expect") => {
                self.expect_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is_name(name, b"upgrade") => self.upgrade = Some(span),
            10 if is_name(name, b"connection") => self.note_connection(value, span),
            14 if is_name(name, b"content-length") => self.note_length(value)?,
            17 if is_name(name, b"transfer-encoding") => self.note_coding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8], span: Span) {
        let mut at = span.start;
        for part in value.split(|&byte| byte == b',') {
            let token = part.trim_ascii();
            let lead = part.len() - part.trim_ascii_start().len();
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            } else if !token.is_empty() {
                let start = at + lead as u32;
                self.connection.push(Span {
                    start,
                    end: start + token.len() as u32,
                });
            }
            at += part.len() as u32 + 1;
        }
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let field = |reason| HeadError::Field {
            name: "content-length",
            reason,
        };
        if self.content_length.is_some() {
            return Err(field("stands more than once"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(field("is not a plain decimal number"));
        }
        let length = value.iter().try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        self.content_length = Some(length.ok_or_else(|| field("is too large"))?);
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.transfer_encoding {
            return Err(HeadError::Field {
                name: "transfer-encoding",
                reason: "stands more than once",
            });
        }
        self.transfer_encoding = true;
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        if self.chunked {
            return Ok(());
        }
        let has_chunked = memchr::memmem::find(&value.to_ascii_lowercase(), b"chunked").is_some();
        Err(match has_chunked || value.is_empty() {
            true => HeadError::Field {
                name: "transfer-encoding",
                reason: "must be exactly one chunked",
            },
            false => HeadError::TransferCoding,
        })
    }
}

/// Whether a field's name is `known`, in any case. `known` has letters, digits and hyphens alone, and a name is a token: two of
/// their bytes that differ in no more than the bit of the case are one letter.
#[inline]
pub fn is_name(name: &[u8], known: &[u8]) -> bool {
    const CASE: u64 = u64::from_le_bytes([b' '; 8]);
    let differ =
        |a: &[u8; 8], b: &[u8; 8]| (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)) & !CASE;
    if name.len() != known.len() {
        return false;
    }
    // The last eight bytes may overlap those before them.
    let (Some(end), Some(known_end)) = (name.last_chunk(), known.last_chunk()) else {
        let mut pairs = name.iter().zip(known);
        return pairs.all(|(a, b)| (a ^ b) & !b' ' == 0);
    };
    let words = name.as_chunks().0.iter().zip(known.as_chunks().0);
    words.fold(differ(end, known_end), |any, (a, b)| any | differ(a, b)) == 0
}

/// Whether a field is about one connection in every message (RFC 9110 section 7.6.1).
pub fn is_about_connection(name: &[u8]) -> bool {
    // Told by its length first: few names are compared with any of these.
    let known: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 => &[b"trailer", b"upgrade"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        18 => &[b"proxy-authenticate"],
        19 => &[b"proxy-authorization"],
        _ => return false,
    };
    known.iter().any(|known| is_name(name, known))
}

/// One of 64 bits, by length, first and last letter in any case.
#[inline]
fn name_bit(name: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    let (first, last) = (u32::from(first | 0x20), u32::from(last | 0x20));
    1 << ((name.len() as u32 * 7 + first * 3 + last * 5) & 63)
}

/// httparse's errors in this room's words.
pub(super) fn malformed(error: httparse::Error, limits: &HeadLimits) -> HeadError {
    let (part, reason) = match error {
        httparse::Error::TooManyHeaders => return HeadError::TooManyHeaders(limits.headers),
        httparse::Error::Version => return HeadError::Version,
        httparse::Error::HeaderName => (
            "header fields",
            "invalid byte in a field name, or a space before the colon",
        ),
        httparse::Error::HeaderValue => (
            "header fields",
            "invalid byte in a field value, or a folded line",
        ),
        httparse::Error::NewLine => ("header fields", "invalid line ending"),
        httparse::Error::Status => ("start line", "invalid status"),
        httparse::Error::Token => ("start line", "invalid byte"),
    };
    HeadError::Malformed { part, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_in_any_case() {
        let known = [
            "te",
            "host",
            "x-a",
            "upgrade",
            "x-api-key",
            "keep-alive",
            "content-length",
            "transfer-encoding",
        ];
        for name in known {
            for other in known {
                let upper = other.to_ascii_uppercase();
                assert_eq!(is_name(upper.as_bytes(), name.as_bytes()), name == other);
            }
            for at in 0..name.len() {
                for byte in 0..=127u8 {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let is_token =
                        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                    if is_token {
                        let same = name.as_bytes().eq_ignore_ascii_case(&other);
                        assert_eq!(is_name(&other, name.as_bytes()), same, "{name} {other:?}");
                    }
                }
            }
        }
    }
}
