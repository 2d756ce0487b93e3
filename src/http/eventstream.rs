//! Messages of `application/vnd.amazon.eventstream` (spec: providers 7.5), cut out of a stream and checked.

use crate::limits::{EVENTSTREAM_HEADERS_MAX, EVENTSTREAM_PAYLOAD_MAX};

/// The content type of a stream of such messages.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// One message whose lengths and checksums are right and whose headers are well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    headers: &'a [u8],
    /// What it carries; JSON as a rule.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The value of the first header of that name, if it is a string. `:message-type` is `event`, `exception` or `error`.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        Headers(self.headers)
            .map_while(Result::ok)
            .find(|header| header.name == name.as_bytes())
            .filter(|header| header.kind == STRING)
            .map(|header| header.value)
    }

    /// Bytes of it on the wire.
    pub fn wire_length(&self) -> usize {
        OVERHEAD + self.headers.len() + self.payload.len()
    }

    /// Appends the message with another payload, on the wire.
    pub fn write_with(&self, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let total = (OVERHEAD + self.headers.len() + payload.len()) as u32;
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&(self.headers.len() as u32).to_be_bytes());
        out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
        out.extend_from_slice(self.headers);
        out.extend_from_slice(payload);
        out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
    }
}

/// Why a stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broken event stream: {0}")]
pub struct EventStreamError(&'static str);

/// Reads a stream of messages that comes in pieces cut anywhere. A message that lies whole in one piece is not copied.
#[derive(Debug, Clone, Default)]
pub struct EventStreamDecoder {
    partial: Vec<u8>,
    failed: Option<EventStreamError>,
}

impl EventStreamDecoder {
    /// Calls `on` with each message that ends in `bytes`. After an error nothing more is read.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        on: impl FnMut(Message<'_>),
    ) -> Result<(), EventStreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.walk(bytes, on);
        if let Err(error) = result {
            self.failed = Some(error);
            self.partial = Vec::new();
        }
        result
    }

    /// Whether the stream may end here: between two messages.
    pub fn is_whole(&self) -> bool {
        self.partial.is_empty() && self.failed.is_none()
    }

    fn walk(
        &mut self,
        mut bytes: &[u8],
        mut on: impl FnMut(Message<'_>),
    ) -> Result<(), EventStreamError> {
        while !self.partial.is_empty() {
            let wanted = total_length(&self.partial)?.unwrap_or(PRELUDE);
            let missing = wanted - self.partial.len();
            if missing == 0 {
                on(read(&self.partial)?);
                self.partial.clear();
            } else if bytes.is_empty() {
                return Ok(());
            } else {
                let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                self.partial.extend_from_slice(taken);
                bytes = rest;
            }
        }
        while let Some(total) = total_length(bytes)? {
            let Some((message, rest)) = bytes.split_at_checked(total) else {
                break;
            };
            on(read(message)?);
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// Two lengths and their checksum.
const PRELUDE: usize = 12;
/// What a message holds beside headers and payload.
const OVERHEAD: usize = PRELUDE + 4;
const STRING: u8 = 7;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The length that the prelude at the front of `bytes` states, once it is whole and its checksum is right.
fn total_length(bytes: &[u8]) -> Result<Option<usize>, EventStreamError> {
    let (Some(total), Some(headers), Some(checksum)) =
        (word(bytes, 0), word(bytes, 4), word(bytes, 8))
    else {
        return Ok(None);
    };
    if checksum != crc32fast::hash(&bytes[..8]) {
        return Err(EventStreamError("the checksum of a prelude is wrong"));
    }
    let (total, headers) = (total as usize, headers as usize);
    if headers > EVENTSTREAM_HEADERS_MAX {
        return Err(EventStreamError("headers larger than 128 KiB"));
    }
    match total.checked_sub(OVERHEAD + headers) {
        None => Err(EventStreamError("a message is shorter than its headers")),
        Some(payload) if payload > EVENTSTREAM_PAYLOAD_MAX => {
            Err(EventStreamError("a payload is larger than 24 MiB"))
        }
        Some(_) => Ok(Some(total)),
    }
}

/// A whole message whose prelude was checked.
fn read(message: &[u8]) -> Result<Message<'_>, EventStreamError> {
    let body = message.len() - 4;
    if word(message, body) != Some(crc32fast::hash(&message[..body])) {
        return Err(EventStreamError("the checksum of a message is wrong"));
    }
    let headers = word(message, 4).unwrap_or_default() as usize;
    let (headers, payload) = message[PRELUDE..body].split_at(headers);
    for header in Headers(headers) {
        header?;
    }
    Ok(Message { headers, payload })
}

struct Header<'a> {
    name: &'a [u8],
    kind: u8,
    value: &'a [u8],
}

struct Headers<'a>(&'a [u8]);

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, EventStreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let header = self.header();
        if header.is_none() {
            self.0 = b"";
        }
        Some(header.ok_or(EventStreamError("a header is malformed")))
    }
}

impl<'a> Headers<'a> {
    fn header(&mut self) -> Option<Header<'a>> {
        let length = usize::from(self.take(1)?[0]);
        let name = self.take(length)?;
        let kind = self.take(1)?[0];
        let length = match kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            9 => 16,
            6 | STRING => usize::from(u16::from_be_bytes(*self.take(2)?.first_chunk()?)),
            _ => return None,
        };
        let value = self.take(length)?;
        Some(Header { name, kind, value })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENT: &str = "0000007a00000051ca2c46650b3a6576656e742d7479706507000b6d65737361676553746f70\
        0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e\
        0d3a6d6573736167652d747970650700056576656e74\
        7b2273746f70526561736f6e223a22656e645f7475726e227d5fbf09fc";
    const EXCEPTION: &str = "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e\
        0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e\
        0d3a6d6573736167652d74797065070009657863657074696f6e\
        7b226d657373616765223a22546f6f206d616e7920746f6b656e73227dc81b1ec1";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).expect("hexadecimal") as u8;
        let pairs = hex.as_bytes().chunks(2);
        pairs
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    /// A message around a raw block of headers.
    pub(crate) fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = (OVERHEAD + headers.len() + payload.len()) as u32;
        let mut out = total.to_be_bytes().to_vec();
        out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        sealed(out, &[headers, payload].concat())
    }

    fn sealed(mut out: Vec<u8>, rest: &[u8]) -> Vec<u8> {
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out
    }

    type Read = (Option<Vec<u8>>, Vec<u8>);

    fn decode(pieces: &[&[u8]]) -> (Vec<Read>, bool) {
        let (mut decoder, mut read) = (EventStreamDecoder::default(), Vec::new());
        for piece in pieces {
            let result = decoder.feed(piece, |message| {
                let kind = message.header(":message-type");
                read.push((kind.map(<[u8]>::to_vec), message.payload.to_vec()));
            });
            if result.is_err() {
                break;
            }
        }
        (read, decoder.is_whole())
    }

    #[test]
    fn the_vendors_vectors_decode() {
        let stream = [bytes(EVENT), bytes(EXCEPTION)].concat();
        let (read, whole) = decode(&[&stream]);
        assert_eq!(
            read,
            [
                (
                    Some(b"event".to_vec()),
                    br#"{"stopReason":"end_turn"}"#.to_vec()
                ),
                (
                    Some(b"exception".to_vec()),
                    br#"{"message":"Too many tokens"}"#.to_vec()
                ),
            ]
        );
        assert!(whole);
        assert!(!decode(&[&stream[..stream.len() - 1]]).1);
    }

    #[test]
    fn every_type_of_header_is_walked() {
        let headers: Vec<u8> = [
            b"\x01a\x00".as_slice(),
            b"\x01b\x01",
            b"\x01c\x02x",
            b"\x01d\x03xx",
            b"\x01e\x04xxxx",
            b"\x01f\x05xxxxxxxx",
            b"\x01g\x06\0\x01x",
            b"\x01h\x08xxxxxxxx",
            b"\x01i\x09xxxxxxxxxxxxxxxx",
            b"\x0d:message-type\x07\0\x05event",
        ]
        .concat();
        let (read, whole) = decode(&[&message(&headers, b"")]);
        assert_eq!(read, [(Some(b"event".to_vec()), Vec::new())]);
        assert!(whole);
        for end in 1..3 {
            let (read, whole) = decode(&[&message(&headers[..end], b"")]);
            assert!(read.is_empty() && !whole);
        }
        assert!(!decode(&[&message(b"\x01a\x0a", b"")]).1, "no such type");
    }

    #[test]
    fn broken_messages_are_refused_before_they_are_buffered() {
        for at in 0..bytes(EVENT).len() {
            let mut broken = bytes(EVENT);
            broken[at] ^= 1;
            assert_eq!(decode(&[&broken]), (Vec::new(), false), "byte {at}");
        }
        let prelude = |total: u32, headers: u32| {
            let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            sealed(lengths, b"")[..PRELUDE].to_vec()
        };
        let (headers, payload) = (
            EVENTSTREAM_HEADERS_MAX as u32,
            EVENTSTREAM_PAYLOAD_MAX as u32,
        );
        let cases = [
            prelude(15, 0),
            prelude(20, 5),
            prelude(u32::MAX, u32::MAX),
            prelude(17 + headers, headers + 1),
            prelude(17 + payload, 0),
        ];
        for case in cases {
            let mut decoder = EventStreamDecoder::default();
            assert!(decoder.feed(&case, |_| ()).is_err(), "{case:?}");
            assert!(decoder.feed(&bytes(EVENT), |_| ()).is_err());
        }
        let mut decoder = EventStreamDecoder::default();
        assert!(decoder.feed(&prelude(16 + payload, 0), |_| ()).is_ok());
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_decodes_the_same(first in 0..400usize, second in 0..400usize, broken in 0..400usize) {
            let mut stream = [bytes(EVENT), bytes(EXCEPTION), message(b"", b"")].concat();
            if let Some(byte) = stream.get_mut(broken) {
                *byte ^= 0x10;
            }
            let cut = |at: usize| at.min(stream.len());
            let (first, second) = (cut(first.min(second)), cut(first.max(second)));
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(decode(&pieces), decode(&[&stream]));
            prop_assert_eq!(decode(&single), decode(&[&stream]));
        }
    }
}
