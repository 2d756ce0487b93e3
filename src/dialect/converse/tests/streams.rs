use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::dialect::stream::{Transform, Translator, Writer};

/// An AWS event-stream message.
fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
        block.push(7);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    let mut out = ((16 + block.len() + payload.len()) as u32)
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(&(block.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

fn event(name: &str, payload: &Value) -> Vec<u8> {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    message(&headers, payload.to_string().as_bytes())
}

fn exception(kind: &str, text: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":message-type", "exception")];
    message(&headers, json!({"message": text}).to_string().as_bytes())
}

fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|(name, payload)| event(name, payload))
        .collect()
}

/// Writes events down in short.
struct Notes(Rc<RefCell<Vec<String>>>);

impl Writer for Notes {
    fn write(&mut self, event: &Event<'_>, _out: &mut Vec<u8>) {
        let note = match event {
            Event::Start { .. } => "start".to_owned(),
            Event::Open { index, part, .. } => match part {
                Opening::ToolUse { id, name, .. } => format!("open {index} call {id} {name}"),
                other => format!("open {index} {other:?}"),
            },
            Event::Delta { index, delta, .. } => format!("{index} {delta:?}"),
            Event::Close { index, .. } => format!("close {index}"),
            Event::Stop { stop, .. } => format!("stop {:?} {:?}", stop.reason, stop.native),
            Event::Usage(usage) => format!("usage {:?}", usage.total),
            Event::KeepAlive => "alive".to_owned(),
            Event::Failed(failure) => format!("failed {} {}", failure.status, failure.message),
        };
        self.0.borrow_mut().push(note);
    }

    fn end(&mut self, _out: &mut Vec<u8>) {
        self.0.borrow_mut().push("end".to_owned());
    }
}

fn notes<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, terms: &Terms) -> Vec<String> {
    let notes = Rc::new(RefCell::new(Vec::new()));
    let reader = Box::new(StreamReader::new(terms));
    let mut translator = Translator::of_event_stream(reader, Box::new(Notes(notes.clone())));
    let mut out = Vec::new();
    for piece in pieces {
        translator.feed(piece, &mut out);
    }
    translator.end(true, &mut out);
    notes.take()
}

fn read(stream: &[u8]) -> Vec<String> {
    notes([stream], &terms(CLAUDE))
}

fn delta(at: u64, delta: Value) -> (&'static str, Value) {
    (
        "contentBlockDelta",
        json!({"contentBlockIndex": at, "delta": delta, "p": "abc"}),
    )
}

fn stop_block(at: u64) -> (&'static str, Value) {
    (
        "contentBlockStop",
        json!({"contentBlockIndex": at, "p": "ab"}),
    )
}

fn opening() -> (&'static str, Value) {
    ("messageStart", json!({"role": "assistant", "p": "a"}))
}

fn ending(reason: &str) -> [(&'static str, Value); 2] {
    [
        ("messageStop", json!({"stopReason": reason, "p": "abc"})),
        (
            "metadata",
            json!({"metrics": {"latencyMs": 4}, "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "p": ""}),
        ),
    ]
}

fn ordinary() -> Vec<(&'static str, Value)> {
    let call = json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "f"}}});
    let mut events = vec![
        opening(),
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        delta(0, json!({"reasoningContent": {"signature": "sig"}})),
        stop_block(0),
        delta(1, json!({"text": ""})),
        delta(1, json!({"text": "Calling \u{e4}\n\"f\""})),
        stop_block(1),
        ("contentBlockStart", call),
        delta(2, json!({"toolUse": {"input": ""}})),
        delta(2, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(2, json!({"toolUse": {"input": "1}"}})),
        stop_block(2),
    ];
    events.extend(ending("tool_use"));
    events
}

#[test]
fn an_ordinary_stream() {
    assert_eq!(
        read(&stream(&ordinary())),
        [
            "start",
            "open 0 Thinking",
            "0 Thinking(\"hm\")",
            "0 Signature(Signature { origin: Anthropic, data: \"sig\" })",
            "close 0",
            "open 1 Text",
            "1 Text(\"Calling ä\\n\\\"f\\\"\")",
            "close 1",
            "open 2 call tooluse_1 f",
            "2 Arguments(\"{\\\"a\\\":\")",
            "2 Arguments(\"1}\")",
            "close 2",
            "stop ToolUse None",
            "usage 7",
            "end",
        ]
    );
}

#[test]
fn tools_of_bedrocks_own_and_unknown_events_are_skipped() {
    let mut events = vec![
        opening(),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "search", "type": "server_tool_use"}}}),
        ),
        delta(0, json!({"toolUse": {"input": "{}"}})),
        stop_block(0),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 1, "start": {"toolResult": {"toolUseId": "t"}}}),
        ),
        delta(1, json!({"toolResult": [{"text": "found"}]})),
        stop_block(1),
        ("somethingNew", json!({"x": 1})),
        delta(2, json!({"text": "Hi"})),
        delta(
            2,
            json!({"citation": {"title": "W", "location": {"web": {"url": "https://example.com"}}}}),
        ),
        delta(2, json!({"somethingNew": {}})),
        stop_block(2),
    ];
    events.extend(ending("end_turn"));
    assert_eq!(
        read(&stream(&events)),
        [
            "start",
            "open 0 Text",
            "0 Text(\"Hi\")",
            "0 Citation(Citation { url: \"https://example.com\", title: Some(\"W\"), range: None, quote: None })",
            "close 0",
            "stop End None",
            "usage 7",
            "end",
        ]
    );
}

#[test]
fn a_call_without_arguments_redacted_thoughts_and_missing_ends() {
    let mut events = vec![
        delta(0, json!({"reasoningContent": {"redactedContent": "YzJs"}})),
        delta(0, json!({"reasoningContent": {"redactedContent": "bg=="}})),
        delta(1, json!({"text": "Hi"})),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "f", "type": "tool_use"}}}),
        ),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "g"}}}),
        ),
        delta(2, json!({"toolUse": {"input": "{}"}})),
        stop_block(3),
    ];
    events.extend(ending("end_turn"));
    assert_eq!(
        read(&stream(&events)),
        [
            "start",
            "open 0 Redacted(Signature { origin: Anthropic, data: \"c2ln\" })",
            "close 0",
            "open 1 Text",
            "1 Text(\"Hi\")",
            "close 1",
            "open 2 call t1 f",
            "open 3 call t2 g",
            "2 Arguments(\"{}\")",
            "close 3",
            "close 2",
            "stop ToolUse None",
            "usage 7",
            "end",
        ]
    );
}

#[test]
fn pictures_come_whole() {
    let mut events = vec![
        opening(),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}),
        ),
        delta(0, json!({"image": {"source": {"bytes": "aGk="}}})),
        delta(0, json!({"image": {"source": {"bytes": "aGk="}}})),
        stop_block(0),
    ];
    events.extend(ending("end_turn"));
    let found = read(&stream(&events));
    assert_eq!(
        found[1],
        "open 0 Image(Inline { mime: \"image/png\", data: \"aGk=\" })"
    );
    assert_eq!(found[2..], ["close 0", "stop End None", "usage 7", "end"]);
}

#[test]
fn a_picture_in_a_block_of_text_leaves_the_text_as_it_is() {
    let picture = json!({"image": {"source": {"bytes": "aGk="}}});
    let mut events = vec![
        opening(),
        delta(0, json!({"text": "Hi"})),
        delta(0, picture),
        delta(0, json!({"text": " there"})),
    ];
    events.extend(ending("end_turn"));
    let found = read(&stream(&events));
    assert_eq!(
        found[2..5],
        ["0 Text(\"Hi\")", "0 Text(\" there\")", "close 0"]
    );
}

#[test]
fn exceptions_end_the_stream_with_their_status() {
    for (kind, status) in [
        ("throttlingException", 429),
        ("serviceUnavailableException", 503),
        ("modelStreamErrorException", 424),
        ("validationException", 400),
        ("internalServerException", 500),
        ("modelTimeoutException", 408),
        ("newException", 502),
    ] {
        let mut bytes = stream(&[opening(), delta(0, json!({"text": "Hi"}))]);
        bytes.extend(exception(kind, "No more"));
        bytes.extend(stream(&ending("end_turn")));
        let found = read(&bytes);
        assert_eq!(
            found.last().unwrap(),
            &format!("failed {status} No more"),
            "{kind}"
        );
    }
}

#[test]
fn an_end_without_metadata_is_none() {
    let whole = ordinary();
    for length in 0..whole.len() {
        let found = read(&stream(&whole[..length]));
        assert!(
            found.last().unwrap().starts_with("failed 502"),
            "{length}: {found:?}"
        );
    }
    let nothing = [
        opening(),
        ("messageStop", json!({"stopReason": "malformed_tool_use"})),
    ];
    assert!(
        read(&stream(&nothing))
            .last()
            .unwrap()
            .starts_with("failed 502")
    );
}

#[test]
fn what_cannot_be_read_is_a_failure_and_what_grows_without_end_too() {
    for bad in [
        json!({"contentBlockIndex": -1, "delta": {"text": "x"}}),
        json!({"contentBlockIndex": 0, "delta": {"text": 1}}),
        json!([]),
    ] {
        let found = read(&stream(&[opening(), ("contentBlockDelta", bad.clone())]));
        assert!(
            found.last().unwrap().starts_with("failed 502"),
            "{bad}: {found:?}"
        );
    }
    let endless: Vec<(&str, Value)> = (0..400)
        .map(|at| ("contentBlockStart", json!({"contentBlockIndex": at, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}})))
        .collect();
    assert!(
        read(&stream(&endless))
            .last()
            .unwrap()
            .starts_with("failed 502")
    );
}

#[test]
fn tricks_are_undone_in_streams() {
    let call = json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "json_output"}}});
    let mut events = vec![
        opening(),
        ("contentBlockStart", call),
        delta(0, json!({"toolUse": {"input": "{\"a\":1}"}})),
        stop_block(0),
    ];
    events.extend(ending("tool_use"));
    let terms = Terms {
        unwrap: Unwrap::Tool("json_output".to_owned()),
        ..terms(CLAUDE_3)
    };
    let found = notes([stream(&events).as_slice()], &terms);
    assert_eq!(
        found[1..5],
        [
            "open 0 Text",
            "0 Text(\"{\\\"a\\\":1}\")",
            "close 0",
            "stop End None"
        ]
    );
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_reads_the_same(cuts in proptest::collection::vec(0..2000usize, 0..6)) {
        let bytes = stream(&ordinary());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(notes(pieces, &terms(CLAUDE)), read(&bytes));
        prop_assert_eq!(notes(bytes.chunks(1), &terms(CLAUDE)), read(&bytes));
    }

    #[test]
    fn any_order_of_events_keeps_to_the_rules_of_parts(order in proptest::collection::vec((0..14usize, 0..4u64), 0..24)) {
        let events = ordinary();
        let mut reader = StreamReader::new(&terms(NOVA));
        let (mut open, mut next) = (Vec::new(), 0);
        for (event, at) in order {
            let (name, mut payload) = events[event].clone();
            if payload.get("contentBlockIndex").is_some() {
                payload["contentBlockIndex"] = json!(at);
            }
            let data = payload.to_string();
            let frame = crate::dialect::stream::Frame::Event { name, data: data.as_bytes() };
            let read = crate::dialect::stream::Reader::read(&mut reader, frame, &mut |event| match event {
                Event::Open { index, part, .. } => {
                    assert_eq!(index, next, "parts count from 0");
                    next += 1;
                    let calls = matches!(part, Opening::ToolUse { .. });
                    assert!(open.iter().all(|(_, call)| calls && *call), "only calls are open together");
                    open.push((index, calls));
                }
                Event::Delta { index, .. } => assert!(open.iter().any(|(at, _)| *at == index)),
                Event::Close { index, .. } => {
                    let at = open.iter().position(|(at, _)| *at == index).expect("an open part");
                    open.remove(at);
                }
                Event::Stop { .. } => assert!(open.is_empty()),
                _ => {}
            });
            if read.is_err() {
                break;
            }
        }
    }
}
