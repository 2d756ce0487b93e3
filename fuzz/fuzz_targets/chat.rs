//! Whatever a client or a provider sends in chat: it is read and written without a panic, and what comes out is bounded by what
//! went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::dialect::changes::Changes;
use ringgate::dialect::chat::{
    Repair, StreamReader, StreamWriter, edit_request, read_answer, read_error, read_request,
    repair_answer, write_answer, write_error, write_request,
};
use ringgate::dialect::stream::{Transform, Translator};
use ringgate::dialect::{Terms, Upstream, json};
use ringgate::providers::Slug;

fn feed(transform: &mut dyn Transform, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| transform.feed(piece, &mut out));
    transform.end(true, &mut out);
    out
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (slug, cut, bytes) = input;
    let slug = Slug::ALL[usize::from(slug) % Slug::ALL.len()];
    let cut = usize::from(cut) % (bytes.len() + 1);
    let upstream = Upstream {
        slug,
        model: "m",
        max_output: None,
    };
    let terms = Terms {
        include_usage: true,
        ..Terms::default()
    };
    // Each message, part or call may gain some fields; each event brings no more than some chunks.
    let bound = 4096 + 1024 * bytes.len();
    if let Ok(edited) = edit_request(bytes, &upstream, &mut Changes::default()) {
        assert!(edited.body.len() <= bound);
    }
    if let Ok(request) = json::request(bytes).and_then(read_request)
        && let Ok(written) = write_request(&request, &upstream, &mut Changes::default())
    {
        assert!(written.body.len() <= bound);
        json::request(&written.body).expect("what is written is JSON");
    }
    if let Ok(value) = json::answer(bytes) {
        let _ = repair_answer(slug, value.clone(), "a");
        if let Ok(answer) = read_answer(value, &terms) {
            assert!(write_answer(&answer, &terms).to_string().len() <= bound);
        }
    }
    write_error(&read_error(500, None, bytes));
    let pieces = [&bytes[..cut], &bytes[cut..]];
    let reader = Box::new(StreamReader::new(&terms));
    let mut translator = Translator::of_sse(reader, Box::new(StreamWriter::new(&terms)));
    assert!(feed(&mut translator, &pieces).len() <= bound);
    let whole = feed(&mut Repair::new(slug, false, "a"), &[bytes]);
    assert!(whole.len() <= bound);
    assert_eq!(whole, feed(&mut Repair::new(slug, false, "a"), &pieces));
});
