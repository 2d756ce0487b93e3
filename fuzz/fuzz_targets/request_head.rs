//! A request's head that comes in pieces cut anywhere is the same head, and its parts hold no line ends.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ringgate::http::{HeadLimits, RequestHead};

/// What is read of a head, the bytes left behind it, or its status where it is refused.
fn take(pieces: [&[u8]; 2]) -> Result<Option<(String, String, usize)>, u16> {
    let (mut buffer, mut scanned) = (BytesMut::new(), 0);
    let mut head = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if head.is_none() {
            let taken = RequestHead::take(&mut buffer, &mut scanned, &HeadLimits::default());
            head = taken.map_err(|error| error.status())?;
        }
    }
    Ok(head.map(|head| {
        let (method, target) = (head.method_str().to_owned(), head.target().to_owned());
        assert!(!target.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
        assert!(target.starts_with(head.path()));
        (method, target, buffer.len())
    }))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let cut = usize::from(cut) % (bytes.len() + 1);
    let whole = take([bytes, b""]);
    let pieces = take([&bytes[..cut], &bytes[cut..]]);
    // Which rule a refused head breaks first may depend on what has come so far.
    assert_eq!(whole.is_err(), pieces.is_err());
    if whole.is_ok() {
        assert_eq!(whole, pieces);
    }
});
