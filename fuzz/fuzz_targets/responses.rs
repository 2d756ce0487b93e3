//! No request in the Responses dialect makes its reader panic, and whatever is answered to it is told whole and in bounds: the last
//! event of a stream repeats what came before it. No answer of a provider of embeddings makes their merging panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::dialect::failure::Failure;
use ringgate::dialect::neutral::{Delta, Event, Opening, Origin, Signature, Stop, StopReason};
use ringgate::dialect::responses::{StreamWriter, note, read_request, without_foreign_reasoning, write_answer};
use ringgate::dialect::stream::Writer;
use ringgate::dialect::{Terms, Upstream, changes::Changes, embeddings, neutral};
use ringgate::providers::Slug;
use serde_json::Value;

/// Names that mean something, beside any.
const NAMES: [&str; 6] = ["exec", "plain", "local_shell", "shell", "apply_patch", "tool_search"];

fn event<'a>(bytes: &[u8], text: &'a str) -> Event<'a> {
    let [kind, choice, index, pick] = [0, 1, 2, 3].map(|at| bytes.get(at).copied().unwrap_or_default());
    let (choice, index) = (u32::from(choice / 200), u32::from(index % 4));
    let signature = || Signature::new(Origin::Google, text);
    let part = match pick % 6 {
        0 => Opening::Text,
        1 => Opening::Refusal,
        2 => Opening::Thinking,
        3 => Opening::Redacted(signature()),
        4 => Opening::Image(neutral::Media::File(text.to_owned())),
        _ => Opening::ToolUse {
            id: text.into(),
            name: NAMES.get(usize::from(pick / 6)).copied().unwrap_or(text).into(),
            custom: pick == 255,
            signature: (pick > 200).then(signature),
        },
    };
    let delta = match pick % 7 {
        0 => Delta::Text(text.into()),
        1 => Delta::Refusal(text.into()),
        2 => Delta::Thinking(text.into()),
        3 => Delta::Signature(signature()),
        4 => Delta::Logprobs(serde_json::from_str(text).unwrap_or_default()),
        _ => Delta::Arguments(text.into()),
    };
    match kind % 16 {
        0 => Event::Start { id: None, model: Some(text.into()), created: Some(1) },
        1..4 => Event::Open { choice, index, part },
        4..12 => Event::Delta { choice, index, delta },
        12..14 => Event::Close { choice, index },
        14 if pick > 128 => Event::Stop { choice, stop: Stop::with_native(StopReason::Filter, text) },
        14 => Event::KeepAlive,
        _ if pick > 240 => Event::Failed(Failure::broken(text)),
        _ => Event::Usage(Default::default()),
    }
}

fuzz_target!(|input: (&[u8], &str, &str)| {
    let (bytes, body, text) = input;
    let mut terms = Terms { id: "T".to_owned(), ..Terms::default() };
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    note(&body, &mut terms);
    without_foreign_reasoning(text.as_bytes(), &mut Changes::default());
    for slug in [Slug::OpenAi, Slug::GoogleAiStudio, Slug::GoogleVertexAi, Slug::Cohere, Slug::HuggingFace] {
        let upstream = Upstream { slug, model: "m", max_output: None };
        let asked = serde_json::json!({"input": ["a"]});
        let plan = embeddings::plan(asked, &upstream).expect("a good request");
        let _ = plan.merge(vec![body.clone()]);
        let _ = embeddings::plan(body.clone(), &upstream);
    }
    let request = read_request(body);
    let mut answer = neutral::Answer::default();
    if let Ok(request) = request {
        for turn in request.turns {
            let stop = Stop::new(StopReason::Length);
            answer.choices = vec![neutral::Choice { parts: turn.parts, stop, logprobs: None }];
            write_answer(&answer, &terms);
        }
    }
    let mut writer = StreamWriter::new(&terms);
    let mut out = Vec::new();
    let pieces: Vec<&str> = text.split('\n').collect();
    for (at, bytes) in bytes.chunks(4).enumerate() {
        let piece = pieces.get(at % pieces.len()).copied().unwrap_or_default();
        writer.write(&event(bytes, piece), &mut out);
    }
    writer.end(&mut out);
    let events = bytes.len() / 4 + 8;
    assert!(out.len() < (events + 8) * (4096 + 16 * (text.len() + terms_size(&terms))), "{} bytes", out.len());
    let mut last = Value::Null;
    let mut number = 0;
    for block in out.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")) {
        last = serde_json::from_slice(block).expect("an event is JSON");
        assert_eq!(last["sequence_number"], number);
        number += 1;
    }
    let status = last["response"]["status"].as_str().expect("the last event tells of the response");
    assert!(["completed", "incomplete", "failed"].contains(&status));
});

fn terms_size(terms: &Terms) -> usize {
    serde_json::to_vec(&terms.echo).map_or(0, |echo| echo.len())
}
