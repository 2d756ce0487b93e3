//! Whatever bytes come as a request, an answer, an error or a stream of the Messages dialect: no panic, an output in proportion,
//! and the same one however the stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::dialect::changes::Changes;
use ringgate::dialect::messages::{self, InvokeStream, Platform, StreamReader, StreamWriter};
use ringgate::dialect::stream::{Transform, Translator};
use ringgate::dialect::{Terms, Unwrap, Upstream, json};
use ringgate::providers::Slug;

/// An event of a few bytes becomes one with all its names, and an id becomes a longer one.
const GROWTH: usize = 64;
const BASE: usize = 4096;

const MODELS: [&str; 5] = [
    "claude-3-5-sonnet",
    "claude-sonnet-4-0",
    "claude-sonnet-4-6",
    "claude-opus-5-5",
    "odd",
];

fn request(bytes: &[u8], model: &str) {
    let Ok(request) = json::request(bytes).and_then(messages::read_request) else {
        return;
    };
    for slug in [Slug::Anthropic, Slug::GoogleVertexAi, Slug::AwsBedrock] {
        let upstream = Upstream {
            slug,
            model,
            max_output: None,
        };
        if let Ok(written) = messages::write_request(&request, &upstream, &mut Changes::default()) {
            assert!(serde_json::from_slice::<serde_json::Value>(&written.body).is_ok());
            assert!(written.body.len() <= GROWTH * bytes.len() + BASE);
        }
    }
}

fn enveloped(bytes: &[u8]) {
    let valid = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    for platform in [Platform::Anthropic, Platform::Vertex, Platform::Bedrock] {
        let betas = ["context-1m-2025-08-07".to_owned()];
        if let Ok(written) = messages::envelope(bytes, platform, &betas, &mut Changes::default()) {
            let is_json = serde_json::from_slice::<serde_json::Value>(&written.body).is_ok();
            assert!(
                is_json || !valid,
                "{}",
                String::from_utf8_lossy(&written.body)
            );
            assert!(written.body.len() <= bytes.len() + BASE);
        }
    }
}

fn whole(bytes: &[u8], terms: &Terms) {
    let _ = messages::write_error(&messages::read_error(400, Some("x:y"), bytes));
    if let Ok(answer) = json::answer(bytes).and_then(|body| messages::read_answer(body, terms)) {
        let written = messages::write_answer(&answer, terms).to_string();
        assert!(written.len() <= GROWTH * bytes.len() + BASE);
    }
}

fn streamed(pieces: &[&[u8]], terms: &Terms) -> Vec<u8> {
    let (reader, writer) = (StreamReader::new(terms), StreamWriter::new(terms));
    run(
        Translator::of_sse(Box::new(reader), Box::new(writer)),
        pieces,
    )
}

fn run(mut transform: impl Transform, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    pieces
        .iter()
        .for_each(|piece| transform.feed(piece, &mut out));
    transform.end(true, &mut out);
    out
}

/// Signs of life depend on how the stream is cut.
fn without_pings(stream: &[u8]) -> String {
    String::from_utf8_lossy(stream).replace("event: ping\ndata: {\"type\": \"ping\"}\n\n", "")
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (choice, cut, bytes) = input;
    let cut = usize::from(cut) % (bytes.len() + 1);
    let unwrap = match choice % 3 {
        0 => Unwrap::Nothing,
        1 => Unwrap::Tool("f".to_owned()),
        _ => Unwrap::Fence,
    };
    let terms = Terms {
        unwrap,
        ..Terms::default()
    };
    request(bytes, MODELS[usize::from(choice) % MODELS.len()]);
    enveloped(bytes);
    whole(bytes, &terms);
    let pieces = [&bytes[..cut], &bytes[cut..]];
    let stream = streamed(&[bytes], &terms);
    assert!(stream.len() <= GROWTH * bytes.len() + BASE);
    if choice % 3 == 0 {
        // What is held back of a fence comes in other pieces.
        assert_eq!(
            without_pings(&stream),
            without_pings(&streamed(&pieces, &terms))
        );
    }
    let opened = run(InvokeStream::new(&terms), &[bytes]);
    assert_eq!(opened, run(InvokeStream::new(&terms), &pieces));
});
