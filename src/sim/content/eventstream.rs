//! Messages of `application/vnd.amazon.eventstream` (spec: providers 7.5).

use bytes::Bytes;

/// The content type of a stream of such messages.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// An event with a JSON payload.
pub fn event(name: &str, payload: &[u8]) -> Bytes {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    message(&headers, payload)
}

/// An exception with a JSON payload.
pub fn exception(name: &str, payload: &[u8]) -> Bytes {
    let headers = [
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    message(&headers, payload)
}

/// One message: prelude, string headers, payload and both checksums. Names are shorter than 256 bytes, values than 64 KiB.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    const STRING: u8 = 7;
    let mut block = Vec::with_capacity(128);
    for (name, value) in headers {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
        block.push(STRING);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    let total = 16 + block.len() + payload.len();
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(block.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a run of messages back, checking every length and checksum: (type, payload) of each.
    pub fn read(mut wire: &[u8]) -> Vec<(String, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        let mut messages = Vec::new();
        while !wire.is_empty() {
            let total = word(&wire[..4]) as usize;
            let headers = word(&wire[4..8]) as usize;
            assert_eq!(
                word(&wire[8..12]),
                crc32fast::hash(&wire[..8]),
                "prelude checksum"
            );
            let (message, rest) = wire.split_at(total);
            assert_eq!(
                word(&message[total - 4..]),
                crc32fast::hash(&message[..total - 4]),
                "message checksum"
            );
            let name = message[12] as usize;
            let value = u16::from_be_bytes([message[14 + name], message[15 + name]]) as usize;
            let kind =
                String::from_utf8(message[16 + name..16 + name + value].to_vec()).expect("text");
            messages.push((kind, message[12 + headers..total - 4].to_vec()));
            wire = rest;
        }
        messages
    }

    #[test]
    fn a_run_of_messages_reads_back() {
        let wire = [
            event("metadata", b"{}"),
            exception("validationException", b""),
        ]
        .concat();
        let expected = [
            ("metadata".to_owned(), b"{}".to_vec()),
            ("validationException".to_owned(), Vec::new()),
        ];
        assert_eq!(read(&wire), expected);
    }

    #[test]
    fn frames_match_the_vendors_vectors() {
        assert_eq!(
            hex(&event("messageStop", br#"{"stopReason":"end_turn"}"#)),
            "0000007a00000051ca2c46650b3a6576656e742d7479706507000b6d65737361676553746f70\
             0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e\
             0d3a6d6573736167652d747970650700056576656e74\
             7b2273746f70526561736f6e223a22656e645f7475726e227d5fbf09fc"
        );
        assert_eq!(
            hex(&exception(
                "throttlingException",
                br#"{"message":"Too many tokens"}"#
            )),
            "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e\
             0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e\
             0d3a6d6573736167652d74797065070009657863657074696f6e\
             7b226d657373616765223a22546f6f206d616e7920746f6b656e73227dc81b1ec1"
        );
    }
}
