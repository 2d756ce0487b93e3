//! A response's head that comes in pieces cut anywhere is the same head, framed in the same way.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ringgate::http::{HeadLimits, Method, ResponseFraming, ResponseHead};

fn take(pieces: [&[u8]; 2], method: Method) -> Result<Option<(u16, ResponseFraming, usize)>, u16> {
    let (mut buffer, mut scanned) = (BytesMut::new(), 0);
    let mut head = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if head.is_none() {
            let taken =
                ResponseHead::take(&mut buffer, &mut scanned, method, &HeadLimits::default());
            head = taken.map_err(|error| error.status())?;
        }
    }
    Ok(head.map(|head| {
        assert!((100..1000).contains(&head.status()));
        assert!(!head.reason().contains(['\r', '\n']));
        (head.status(), head.framing(), buffer.len())
    }))
}

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (cut, is_head, bytes) = input;
    let method = if is_head { Method::Head } else { Method::Post };
    let cut = usize::from(cut) % (bytes.len() + 1);
    let whole = take([bytes, b""], method);
    let pieces = take([&bytes[..cut], &bytes[cut..]], method);
    assert_eq!(whole.is_err(), pieces.is_err());
    if let Ok(head) = whole {
        assert_eq!(Ok(head), pieces);
        if let (true, Some((_, framing, _))) = (is_head, head) {
            assert_eq!(framing, ResponseFraming::None);
        }
    }
});
