//! A stream of events cut anywhere reads the same, and no event is made of bytes that the stream does not hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::sse::SseParser;

fn read(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let (mut parser, mut events) = (SseParser::default(), Vec::new());
    let mut note = |event: ringgate::http::sse::SseEvent<'_>| {
        assert!(!event.event.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
        assert!(!event.data.contains(&b'\r'));
        events.push((event.event.to_vec(), event.data.to_vec(), event.id.to_vec()));
    };
    for piece in pieces {
        parser.feed(piece, &mut note).expect("within the bound");
    }
    parser.finish(&mut note).expect("within the bound");
    events
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, stream) = input;
    let cut = usize::from(cut) % (stream.len() + 1);
    let whole = read(&[stream]);
    assert_eq!(whole, read(&[&stream[..cut], &stream[cut..]]));
    assert_eq!(whole, read(&stream.chunks(1).collect::<Vec<_>>()));
    let size: usize = whole
        .iter()
        .map(|event| event.0.len() + event.1.len())
        .sum();
    assert!(size <= stream.len());
});
