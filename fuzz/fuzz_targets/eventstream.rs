//! An event stream cut anywhere decodes the same. Checksums are mended first, or the fuzzer would never pass them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::eventstream::EventStreamDecoder;

fn decode(pieces: &[&[u8]]) -> (Vec<(Option<Vec<u8>>, Vec<u8>)>, bool, bool) {
    let (mut decoder, mut messages, mut broken) =
        (EventStreamDecoder::default(), Vec::new(), false);
    for piece in pieces {
        broken |= decoder
            .feed(piece, |message| {
                let kind = message.header(":message-type").map(<[u8]>::to_vec);
                messages.push((kind, message.payload.to_vec()));
            })
            .is_err();
    }
    (messages, decoder.is_whole(), broken)
}

/// CRC 32 as zlib computes it, bit by bit: another implementation than the one under test.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    let sum = bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), step)
    });
    (!sum).to_be_bytes()
}

fn mend(stream: &mut [u8]) {
    let mut at = 0;
    while stream.len() - at >= 16 {
        let message = &mut stream[at..];
        let sum = crc(&message[..8]);
        message[8..12].copy_from_slice(&sum);
        let total = u32::from_be_bytes([message[0], message[1], message[2], message[3]]) as usize;
        if total < 16 || total > message.len() {
            return;
        }
        let sum = crc(&message[..total - 4]);
        message[total - 4..total].copy_from_slice(&sum);
        at += total;
    }
}

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (cut, mended, stream) = input;
    let mut stream = stream.to_vec();
    if mended {
        mend(&mut stream);
    }
    let cut = usize::from(cut) % (stream.len() + 1);
    let whole = decode(&[&stream]);
    assert_eq!(whole, decode(&[&stream[..cut], &stream[cut..]]));
    assert_eq!(whole, decode(&stream.chunks(1).collect::<Vec<_>>()));
    assert!(!(whole.1 && whole.2), "broken and whole");
    let size: usize = whole.0.iter().map(|message| 16 + message.1.len()).sum();
    assert!(size <= stream.len());
});
