//! The chunked transfer coding (RFC 9112 section 7.1), read strictly.

use crate::limits::{CHUNK_LINE_MAX, TRAILERS_MAX};

/// Ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Where a chunked body breaks its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken chunked framing: {0}")]
pub struct ChunkedError(&'static str);

/// What one call of [`ChunkedDecoder::scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes of the input that belong to this body; all of them unless `done`.
    pub consumed: usize,
    /// Whether the last chunk and the trailers were read.
    pub done: bool,
}

/// Reads a chunked body that comes in pieces cut anywhere.
#[derive(Debug, Clone, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of the current chunk's data still to come.
    remaining: u64,
    /// Length of the current size line, or of the trailers so far.
    line: usize,
    digits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkedDecoder {
    /// Walks `input` and calls `data` with each run of body bytes in it.
    pub fn scan(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<Scanned, ChunkedError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let run = usize::try_from(self.remaining)
                    .map_or(input.len() - at, |left| left.min(input.len() - at));
                data(&input[at..at + run]);
                at += run;
                self.remaining -= run as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                    // What mostly follows is taken in one step each, and byte by byte only where it was cut or is otherwise.
                    if input[at..].starts_with(b"\r\n") {
                        self.state = State::Size;
                        at += 2;
                    }
                }
            } else if self.state == State::Size
                && self.digits == 0
                && let Some((size, length)) = plain_size(&input[at..])
            {
                self.remaining = size;
                self.state = State::Data;
                at += length;
            } else {
                self.step(input[at])?;
                at += 1;
            }
        }
        Ok(Scanned {
            consumed: at,
            done: self.is_done(),
        })
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkedError> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (State::Size, _) if self.digits == 0 => {
                return Err(ChunkedError("a chunk size is missing"));
            }
            (State::Size, b'\r') | (State::Extension, b'\r') => State::SizeEnd,
            (State::Size, b';') => self.lengthen(CHUNK_LINE_MAX, State::Extension)?,
            (State::Size, _) => return Err(ChunkedError("a chunk size is not hexadecimal")),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.lengthen(CHUNK_LINE_MAX, State::Extension)?
            }
            (State::Extension, _) => {
                return Err(ChunkedError("control character in a chunk extension"));
            }
            (State::SizeEnd, b'\n') => self.begin_chunk(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, byte) if is_token(byte) => {
                self.lengthen(TRAILERS_MAX, State::TrailerName)?
            }
            (State::TrailerName, b':') => self.lengthen(TRAILERS_MAX, State::Trailer)?,
            // A server that looks for no trailers would take such a line for the next request.
            (State::TrailerStart | State::TrailerName, _) => {
                return Err(ChunkedError("a trailer is no header field"));
            }
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                self.lengthen(TRAILERS_MAX, State::Trailer)?
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (State::Trailer, _) => {
                return Err(ChunkedError("control character in a trailer"));
            }
            (State::DataCr | State::DataLf, _) => {
                return Err(ChunkedError("a chunk is longer than its size"));
            }
            _ => return Err(ChunkedError("a line does not end with CR LF")),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<State, ChunkedError> {
        self.digits += 1;
        if self.digits > 16 {
            return Err(ChunkedError("a chunk size has more than 16 digits"));
        }
        let digit = (byte as char).to_digit(16).unwrap_or_default();
        self.remaining = (self.remaining << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn lengthen(&mut self, bound: usize, next: State) -> Result<State, ChunkedError> {
        self.line += 1;
        match self.line > bound {
            true => Err(ChunkedError("extensions or trailers are too long")),
            false => Ok(next),
        }
    }

    fn begin_chunk(&mut self) -> State {
        self.digits = 0;
        self.line = 0;
        match self.remaining {
            0 => State::TrailerStart,
            _ => State::Data,
        }
    }
}

/// The size line at the front of `input` and its length, where it is as plain as nearly all are: up to eight digits and nothing
/// else, and not the last chunk's.
fn plain_size(input: &[u8]) -> Option<(u64, usize)> {
    let (mut size, mut length) = (0, 0);
    loop {
        let byte = *input.get(length)?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => break,
        };
        if length == 8 {
            return None;
        }
        size = size << 4 | u64::from(digit);
        length += 1;
    }
    // Without a digit the size is 0, too.
    let is_plain = size != 0 && input[length..].starts_with(b"\r\n");
    is_plain.then_some((size, length + 2))
}

/// What a field's name is made of (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes the size line of a chunk of `length` bytes into `out` and returns it.
pub fn chunk_head(length: usize, out: &mut [u8; 18]) -> &[u8] {
    out[16..].copy_from_slice(b"\r\n");
    let (mut rest, mut at) = (length, 16);
    loop {
        at -= 1;
        out[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &out[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = b"5;x=\"y\"\r\nhello\r\n006\r\n world\r\n0\r\nTrailer: a\r\n\r\n";

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Scanned), ChunkedError> {
        let (mut decoder, mut decoded, mut last) = (ChunkedDecoder::default(), Vec::new(), None);
        for piece in pieces {
            last = Some(decoder.scan(piece, |run| decoded.extend_from_slice(run))?);
        }
        Ok((decoded, last.expect("a piece")))
    }

    /// Stops where the body ends, as a reader does.
    fn decode_until_done(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), ChunkedError> {
        let (mut decoder, mut decoded) = (ChunkedDecoder::default(), Vec::new());
        for piece in pieces {
            if decoder
                .scan(piece, |run| decoded.extend_from_slice(run))?
                .done
            {
                break;
            }
        }
        Ok((decoded, decoder.is_done()))
    }

    #[test]
    fn the_body_ends_where_its_framing_ends() {
        let mut input = BODY.to_vec();
        input.extend_from_slice(b"HTTP/1.1");
        let (decoded, scanned) = decode(&[&input]).expect("valid");
        assert_eq!(decoded, b"hello world");
        assert_eq!(
            scanned,
            Scanned {
                consumed: BODY.len(),
                done: true
            }
        );
    }

    #[test]
    fn broken_framing_is_refused() {
        let cases: [&[u8]; 18] = [
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"0x5\r\n",
            b"5\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5;a\nb\r\n",
            b"5;\0\r\n",
            b"11111111111111111\r\n",
            b"0\r\n: a\r\n\r\n",
            b"0\r\na\n\r\n",
            b"0\r\na\r\n\r\n",
            b"0\r\na : b\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\na: \0\r\n\r\n",
        ];
        for case in cases {
            assert!(
                decode(&[case]).is_err(),
                "{:?}",
                String::from_utf8_lossy(case)
            );
        }
        let long = [b"5;".as_slice(), &vec![b'a'; CHUNK_LINE_MAX + 1]].concat();
        assert!(decode(&[&long]).is_err());
    }

    #[test]
    fn size_lines_are_written_in_hexadecimal() {
        let mut out = [0; 18];
        assert_eq!(chunk_head(0, &mut out), b"0\r\n");
        assert_eq!(chunk_head(0x1af, &mut out), b"1af\r\n");
        assert_eq!(chunk_head(usize::MAX, &mut out), b"ffffffffffffffff\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_decode_the_same(text in "([0-9a-fA-F]{1,2}(\r\n|\r|\n|;a\r\n)|[0-9a-f]{7,18}\r\n|\r\n|[a-z]{1,4}|0\r\n\r\n){0,8}") {
            let bytes = text.as_bytes();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            if !bytes.is_empty() {
                let (whole, single) = (decode(&[bytes]), decode_until_done(&single));
                prop_assert_eq!(whole.map(|(data, scanned)| (data, scanned.done)), single);
            }
        }

        #[test]
        fn a_body_cut_anywhere_decodes_the_same(first in 0..BODY.len(), second in 0..BODY.len()) {
            let (first, second) = (first.min(second), first.max(second));
            let (decoded, scanned) = decode(&[&BODY[..first], &BODY[first..second], &BODY[second..]]).expect("valid");
            prop_assert_eq!(decoded, b"hello world");
            prop_assert!(scanned.done);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&[&bytes]);
        }
    }
}
