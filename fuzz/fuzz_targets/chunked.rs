//! A chunked body cut anywhere decodes the same, and never yields more than it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::chunked::ChunkedDecoder;

/// What came of a body: its data, the bytes it took, whether it ended; `None` where its framing is broken.
fn decode(pieces: [&[u8]; 2]) -> (Vec<u8>, Option<(usize, bool)>) {
    let (mut decoder, mut data, mut consumed) = (ChunkedDecoder::default(), Vec::new(), 0);
    for piece in pieces {
        match decoder.scan(piece, |run| data.extend_from_slice(run)) {
            Ok(scanned) => consumed += scanned.consumed,
            Err(_) => return (data, None),
        }
    }
    (data, Some((consumed, decoder.is_done())))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, body) = input;
    let cut = usize::from(cut) % (body.len() + 1);
    let whole = decode([body, b""]);
    assert_eq!(whole, decode([&body[..cut], &body[cut..]]));
    assert!(whole.0.len() <= body.len());
});
