//! Writing heads.

use super::fields::Span;

/// Appends a status line; the reason is the given one or, where that is empty, the standard one.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    let reason = if reason.is_empty() {
        status_reason(status)
    } else {
        reason
    };
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a header field.
pub fn header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Copies fields from a head that was read into one that is written. Fields that follow one another are copied at once, as they
/// stand: the lines of a head that was taken are known to be well-formed.
pub struct Copied<'a> {
    out: &'a mut Vec<u8>,
    head: &'a [u8],
    /// The lines that are still to be copied, without the last one's end.
    run: Span,
}

impl<'a> Copied<'a> {
    /// From `head` to the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, head: &'a [u8]) -> Self {
        let run = Span::default();
        Self { out, head, run }
    }

    /// Copies a line of [`super::RequestHead::lines`] or [`super::ResponseHead::lines`].
    #[inline]
    pub fn line(&mut self, line: Span) {
        if line.start != self.run.end + 2 {
            self.end();
            self.run.start = line.start;
        }
        self.run.end = line.end;
    }

    /// Ends what is copied, for something else to be written.
    #[inline]
    pub fn end(&mut self) -> &mut Vec<u8> {
        if self.run.end != 0 {
            self.out.extend_from_slice(self.run.slice(self.head));
            self.out.extend_from_slice(b"\r\n");
            self.run = Span::default();
        }
        self.out
    }
}

/// Appends a number in decimal digits.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The reason phrase of the registered status codes that occur here (RFC 9110 section 15, RFC 6585).
pub fn status_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeadLimits, RequestHead};
    use super::*;

    #[test]
    fn lines_are_copied_as_they_stand_and_no_others() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-One:1\r\nX-Two:  2 \t\r\nX-Empty:\r\nX-Blank: \r\nLeft: out\r\nX-Last: 3\r\n\r\n";
        let head = RequestHead::take(&mut text.into(), &mut 0, &HeadLimits::default());
        let head = head.expect("valid").expect("whole");
        let mut out = b"before\r\n".to_vec();
        let mut copied = Copied::new(&mut out, head.bytes());
        for (name, _, line) in head.lines().filter(|(name, ..)| *name != b"Left") {
            if name == b"X-Last" {
                header(copied.end(), b"between", b"x");
            }
            copied.line(line);
        }
        copied.end();
        let expected = "before\r\nHost: a\r\nX-One:1\r\nX-Two:  2\r\nX-Empty:\r\nX-Blank: \r\nbetween: x\r\nX-Last: 3\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn heads_are_written_byte_for_byte() {
        let mut out = Vec::new();
        status_line(&mut out, 200, "");
        status_line(&mut out, 529, "Site is overloaded");
        header(&mut out, b"content-length", b"0");
        decimal(&mut out, u64::MAX);
        let expected = "HTTP/1.1 200 OK\r\nHTTP/1.1 529 Site is overloaded\r\ncontent-length: 0\r\n18446744073709551615";
        assert_eq!(out, expected.as_bytes());
    }
}
