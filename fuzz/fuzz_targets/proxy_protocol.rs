//! A PROXY header is decided by its own bytes: more input changes nothing, less asks for more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::http::proxy_protocol::parse;

fuzz_target!(|input: (u8, &[u8])| {
    let (start, rest) = input;
    let start: &[u8] = match start % 4 {
        0 => b"PROXY TCP",
        1 => b"\r\n\r\n\0\r\nQUIT\n\x21",
        2 => b"PROXY ",
        _ => b"",
    };
    let buffer = [start, rest].concat();
    let whole = parse(&buffer);
    for end in 0..=buffer.len().min(700) {
        let part = parse(&buffer[..end]);
        match part {
            Ok(None) => {}
            Ok(Some(header)) => {
                assert!(header.length <= end);
                assert_eq!(part, whole);
            }
            Err(_) => assert!(whole.is_err()),
        }
    }
    if let Ok(Some(header)) = whole {
        assert_eq!(parse(&buffer[..header.length]), whole);
        assert_eq!(parse(&buffer[..header.length - 1]), Ok(None));
    }
});
