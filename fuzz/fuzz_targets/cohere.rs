//! Whatever Cohere answers is read without harm: a stream cut anywhere says the same, and what was said can be sent back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::dialect::changes::Changes;
use ringgate::dialect::cohere::{StreamReader, read_answer, read_error, write_request};
use ringgate::dialect::neutral::{Event, Request, Role, Turn};
use ringgate::dialect::stream::{Transform, Translator, Writer};
use ringgate::dialect::{Dialect, Terms, Upstream};
use ringgate::providers::Slug;

/// Writes events as Rust does.
struct Told;

impl Writer for Told {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if !matches!(event, Event::KeepAlive) {
            out.extend(format!("{event:?}\n").bytes());
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend(b"end\n");
    }
}

fn translate(pieces: &[&[u8]], terms: &Terms) -> Vec<u8> {
    let mut translator = Translator::of_sse(Box::new(StreamReader::new(terms)), Box::new(Told));
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| translator.feed(piece, &mut out));
    translator.end(true, &mut out);
    out
}

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (cut, reasons, bytes) = input;
    let terms = Terms {
        id: "Ab12".to_owned(),
        ..Terms::default()
    };
    let cut = usize::from(cut) % (bytes.len() + 1);
    let whole = translate(&[bytes], &terms);
    assert_eq!(whole, translate(&[&bytes[..cut], &bytes[cut..]], &terms));
    // Rust writes more than the provider sent, but not without bound.
    assert!(whole.len() <= 4096 + 256 * bytes.len());

    let failure = read_error(500, None, bytes);
    assert!(failure.message.len() <= bytes.len() * 3 + 64);
    let Ok(body) = serde_json::from_slice(bytes) else {
        return;
    };
    let Ok(answer) = read_answer(body, &terms) else {
        return;
    };
    let model = match reasons {
        true => "command-a-reasoning-08-2025",
        false => "command-a-03-2025",
    };
    let upstream = Upstream {
        slug: Slug::Cohere,
        model,
        max_output: None,
    };
    let mut request = Request::new(Dialect::Chat, model);
    request.turns = answer.choices.into_iter().map(|choice| Turn::new(Role::Assistant, choice.parts)).collect();
    if let Ok(written) = write_request(&request, &upstream, &mut Changes::default()) {
        let body: serde_json::Value = serde_json::from_slice(&written.body).expect("JSON");
        assert!(body["messages"].is_array());
    }
});
