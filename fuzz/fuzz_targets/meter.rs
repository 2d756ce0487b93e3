//! An answer cut anywhere meters the same, and the parts of its usage never exceed their whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::meter::{Meter, Metered};

const TYPES: [&[u8]; 4] = [
    b"text/event-stream",
    b"application/json",
    b"application/stream+json",
    b"application/vnd.amazon.eventstream",
];

fn meter(kind: &[u8], coding: Option<&[u8]>, pieces: &[&[u8]]) -> Metered {
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut meter = Meter::new(Some(kind), coding).of_length(length);
    pieces.iter().for_each(|piece| meter.feed(piece));
    meter.finish()
}

fuzz_target!(|input: (u16, u8, u8, &[u8])| {
    let (cut, kind, coding, body) = input;
    let kind = TYPES[usize::from(kind) % TYPES.len()];
    let codings: [Option<&[u8]>; 5] = [
        None,
        Some(b"gzip"),
        Some(b"deflate"),
        Some(b"br"),
        Some(b"zstd"),
    ];
    let coding = codings[usize::from(coding) % codings.len()];
    let cut = usize::from(cut) % (body.len() + 1);
    let whole = meter(kind, coding, &[body]);
    let pieces = meter(kind, coding, &[&body[..cut], &body[cut..]]);
    if coding.is_none() {
        assert_eq!(whole, pieces);
    }
    if let Some(usage) = whole.usage {
        assert!(usage.cached_input.saturating_add(usage.cache_write) <= usage.input);
        assert!(usage.reasoning <= usage.output);
        assert!(usage.total >= usage.input.saturating_add(usage.output));
    }
});
