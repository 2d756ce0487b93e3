use proptest::prelude::*;

use super::*;
use crate::dialect::stream::{Transform, Translator, Writer};

/// Writes each event as Rust does: one line.
struct Told;

impl Writer for Told {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if !matches!(event, Event::Usage(_) | Event::KeepAlive) {
            out.extend(format!("{event:?}\n").bytes());
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend(b"end\n");
    }
}

fn translate(pieces: &[&[u8]], terms: &Terms) -> (String, Option<Failure>) {
    let reader = Box::new(StreamReader::new(terms));
    let mut translator = Translator::of_sse(reader, Box::new(Told));
    let mut out = Vec::new();
    for piece in pieces {
        translator.feed(piece, &mut out);
    }
    translator.end(true, &mut out);
    let failure = translator.failure().cloned();
    (String::from_utf8(out).expect("text"), failure)
}

fn stream(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("data: {event}\r\n\r\n"))
        .collect()
}

/// In short: what was opened, filled, closed and how it stopped.
fn told(events: &[Value], tools: &[&str]) -> Result<Vec<String>, Failure> {
    let mut reader = StreamReader::new(&terms(tools));
    let mut lines = Vec::new();
    let mut note = |event: Event<'_>| lines.push(short(&event));
    for event in events {
        let data = event.to_string();
        let frame = crate::dialect::stream::Frame::Event {
            name: "",
            data: data.as_bytes(),
        };
        crate::dialect::stream::Reader::read(&mut reader, frame, &mut note)?;
    }
    crate::dialect::stream::Reader::end(&mut reader, &mut note)?;
    Ok(lines)
}

fn short(event: &Event<'_>) -> String {
    match event {
        Event::Start { id, model, .. } => format!("start {id:?} {model:?}"),
        Event::Open {
            choice,
            index,
            part,
        } => match part {
            Opening::ToolUse {
                id,
                name,
                signature,
                ..
            } => {
                let signature = signature.as_ref().map(|signature| signature.data.as_str());
                format!("{choice}.{index} call {id} {name} {signature:?}")
            }
            Opening::Redacted(signature) => format!("{choice}.{index} redacted {}", signature.data),
            Opening::Image(_) => format!("{choice}.{index} image"),
            part => format!("{choice}.{index} {part:?}"),
        },
        Event::Delta {
            choice,
            index,
            delta,
        } => match delta {
            Delta::Signature(signature) => {
                format!("{choice}.{index} + signature {}", signature.data)
            }
            Delta::Text(text) => format!("{choice}.{index} + {text}"),
            Delta::Thinking(text) => format!("{choice}.{index} + thought {text}"),
            Delta::Arguments(text) => format!("{choice}.{index} + arguments {text}"),
            Delta::Refusal(text) => format!("{choice}.{index} + refusal {text}"),
            Delta::Citation(citation) => {
                format!("{choice}.{index} + {} {:?}", citation.url, citation.range)
            }
            Delta::Logprobs(_) => format!("{choice}.{index} + logprobs"),
        },
        Event::Close { choice, index } => format!("{choice}.{index} close"),
        Event::Stop { choice, stop } => {
            format!("{choice} stop {:?} {:?}", stop.reason, stop.native)
        }
        event => format!("{event:?}"),
    }
}

fn parts(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}]})
}

fn last(parts: Value, reason: &str) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
           "usageMetadata": {"promptTokenCount": 29, "candidatesTokenCount": 12, "totalTokenCount": 110, "thoughtsTokenCount": 69}})
}

#[test]
fn a_call_comes_whole_and_ends_in_tool_use() {
    let mut first = parts(
        json!([{"functionCall": {"name": "get_country", "args": {}, "id": "96c1su3s"}, "thoughtSignature": "EpID"}]),
    );
    first["responseId"] = json!("g1P6");
    first["modelVersion"] = json!("gemini-3-flash-preview");
    let lines = told(
        &[first, last(json!([{"text": ""}]), "STOP")],
        &["get_country"],
    )
    .unwrap();
    assert_eq!(
        lines,
        [
            "start Some(\"g1P6\") Some(\"gemini-3-flash-preview\")",
            "0.0 call 96c1su3s get_country Some(\"EpID\")",
            "0.0 + arguments {}",
            "0.0 close",
            "0 stop ToolUse None",
        ]
    );
}

#[test]
fn thoughts_text_and_several_calls_follow_each_other() {
    let events = [
        parts(json!([{"text": "hm ", "thought": true}])),
        parts(json!([{"text": "so", "thought": true}, {"text": "A"}])),
        parts(json!([{"text": "B"}])),
        parts(
            json!([{"functionCall": {"name": "f", "args": {"x": 1}}}, {"functionCall": {"name": "g"}}]),
        ),
        json!({"usageMetadata": {"promptTokenCount": 3}}),
        last(json!([{"functionCall": {"name": "f", "args": {}}}]), "STOP"),
    ];
    let lines = told(&events, &["f", "g"]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Thinking",
            "0.0 + thought hm ",
            "0.0 + thought so",
            "0.0 close",
            "0.1 Text",
            "0.1 + A",
            "0.1 + B",
            "0.1 close",
            "0.2 call call_Ab12_1 f None",
            "0.2 + arguments {\"x\":1}",
            "0.2 close",
            "0.3 call call_Ab12_2 g None",
            "0.3 + arguments {}",
            "0.3 close",
            "0.4 call call_Ab12_3 f None",
            "0.4 + arguments {}",
            "0.4 close",
            "0 stop ToolUse None",
        ]
    );
}

#[test]
fn a_signature_is_kept_with_the_text_it_follows() {
    let events = [
        parts(json!([{"text": "Hi"}])),
        last(json!([{"text": "", "thoughtSignature": "c2ln"}]), "STOP"),
    ];
    let lines = told(&events, &[]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Text",
            "0.0 + Hi",
            "0.0 + signature c2ln",
            "0.0 close",
            "0 stop End None"
        ]
    );
    let events = [
        parts(json!([{"text": "A", "thoughtSignature": "YQ"}])),
        parts(json!([{"text": "B"}])),
        parts(json!([{"functionCall": {"name": "f"}}])),
        last(json!([{"text": "", "thoughtSignature": "ZW5k"}]), "STOP"),
    ];
    let lines = told(&events, &["f"]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Text",
            "0.0 + A",
            "0.0 + signature YQ",
            "0.0 close",
            "0.1 Text",
            "0.1 + B",
            "0.1 close",
            "0.2 call call_Ab12_1 f None",
            "0.2 + arguments {}",
            "0.2 close",
            "0.3 redacted ZW5k",
            "0.3 close",
            "0 stop ToolUse None",
        ]
    );
}

#[test]
fn candidates_are_choices() {
    let both = |first: &str, second: &str, reason: Value| {
        json!({"candidates": [
            {"content": {"parts": [{"text": first}]}, "finishReason": reason},
            {"content": {"parts": [{"text": second}]}, "finishReason": reason, "index": 1},
            {"content": {"parts": [{"text": "no"}]}, "index": 4_000_000_000_u64},
        ]})
    };
    let events = [both("a", "x", Value::Null), both("b", "y", json!("STOP"))];
    let lines = told(&events, &[]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Text",
            "0.0 + a",
            "1.0 Text",
            "1.0 + x",
            "0.0 + b",
            "1.0 + y",
            "0.0 close",
            "0 stop End None",
            "1.0 close",
            "1 stop End None",
        ]
    );
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let event = json!({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."}, "responseId": "r"});
    let lines = told(&[event], &[]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Refusal",
            "0.0 + refusal No.",
            "0.0 close",
            "0 stop Filter Some(\"SAFETY\")"
        ]
    );
    let filtered = json!({"candidates": [{"finishReason": "SPII", "finishMessage": "Private."}]});
    let lines = told(&[filtered], &[]).unwrap();
    assert_eq!(lines[2], "0.0 + refusal Private.");
}

#[test]
fn sources_and_log_probabilities_belong_to_the_text() {
    let mut end = last(json!([{"text": "", "thoughtSignature": "cw"}]), "STOP");
    end["candidates"][0]["groundingMetadata"] = json!({
        "groundingChunks": [{"web": {"uri": "https://a.example"}}],
        "groundingSupports": [{"segment": {"startIndex": 1, "endIndex": 2}, "groundingChunkIndices": [0]}],
    });
    let mut first = parts(json!([{"text": "ab"}]));
    first["candidates"][0]["logprobsResult"] = json!({"chosenCandidates": [{"token": "ab"}]});
    let lines = told(&[first, parts(json!([{"text": "c"}])), end.clone()], &[]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Text",
            "0.0 + ab",
            "0.0 + logprobs",
            "0.0 + c",
            "0.0 + signature cw",
            "0.0 + https://a.example Some((1, 2))",
            "0.0 close",
            "0 stop End None",
        ]
    );
    // Bytes are no characters here, and the text is gone.
    let lines = told(&[parts(json!([{"text": "é"}])), end], &[]).unwrap();
    assert!(lines.contains(&"0.0 + https://a.example None".to_owned()));
}

#[test]
fn what_came_to_nothing_is_an_error() {
    let spoilt = |parts: Value| [last(parts, "MALFORMED_FUNCTION_CALL")];
    assert_eq!(told(&spoilt(json!([])), &[]).unwrap_err().status, 502);
    let lines = told(&spoilt(json!([{"text": "x"}])), &[]).unwrap();
    assert_eq!(
        lines.last().unwrap(),
        "0 stop End Some(\"MALFORMED_FUNCTION_CALL\")"
    );
    let call = json!([{"functionCall": {"name": "list_files", "args": {}}}]);
    let unexpected = [last(call.clone(), "UNEXPECTED_TOOL_CALL")];
    assert_eq!(
        told(&unexpected, &["get_file"]).unwrap_err().code.unwrap(),
        "UNEXPECTED_TOOL_CALL"
    );
    let lines = told(&unexpected, &["list_files"]).unwrap();
    assert_eq!(
        lines.last().unwrap(),
        "0 stop ToolUse Some(\"UNEXPECTED_TOOL_CALL\")"
    );
    let apart = [parts(call), last(json!([]), "UNEXPECTED_TOOL_CALL")];
    assert!(told(&apart, &["get_file"]).is_err());
}

#[test]
fn a_stream_without_an_end_is_cut_short() {
    assert!(told(&[parts(json!([{"text": "x"}]))], &[]).is_err());
    assert!(told(&[], &[]).is_err());
    assert!(
        told(
            &[json!({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})],
            &[]
        )
        .is_err()
    );
}

#[test]
fn an_end_in_every_event_ends_once() {
    let events = [
        last(json!([{"text": "a"}]), "STOP"),
        last(json!([{"text": "b"}]), "STOP"),
    ];
    let lines = told(&events, &[]).unwrap();
    assert_eq!(
        lines[1..],
        [
            "0.0 Text",
            "0.0 + a",
            "0.0 + b",
            "0.0 close",
            "0 stop End None"
        ]
    );
}

#[test]
fn a_bare_error_behind_the_events_is_found() {
    let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
    let text = format!("{}{error:#}\n\n", stream(&[parts(json!([{"text": "x"}]))]));
    for cut in 0..text.len() {
        let (before, after) = text.as_bytes().split_at(cut);
        let (out, failure) = translate(&[before, after], &terms(&[]));
        let failure = failure.expect("an error");
        assert_eq!(
            (failure.status, failure.message.as_str()),
            (503, "The model is overloaded.")
        );
        assert!(out.contains("+") || out.contains("Text(\"x\")"));
        assert!(!out.ends_with("end\n"));
    }
    let wrapped = format!("[{error}\n]\n");
    assert_eq!(
        translate(&[wrapped.as_bytes()], &terms(&[]))
            .1
            .unwrap()
            .status,
        503
    );
}

#[test]
fn odd_events_do_no_harm() {
    let events = [
        json!({"candidates": 3}),
        json!({"candidates": [1, null, {"content": "x", "index": "y"}, {"content": {"parts": [[], 4]}}]}),
        json!([]),
        json!("x"),
        last(json!([{"text": "ok"}]), "STOP"),
    ];
    let lines = told(&events, &[]).unwrap();
    assert_eq!(lines.last().unwrap(), "0 stop End None");
}

fn any_part() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-zé\\n\"]{0,6}".prop_map(|text| json!({"text": text})),
        "[a-z]{0,6}".prop_map(|text| json!({"text": text, "thought": true})),
        "[a-z]{1,3}".prop_map(|data| json!({"text": "", "thoughtSignature": data})),
        "[fg]".prop_map(|name| json!({"functionCall": {"name": name, "args": {"a": [1, "é"]}}})),
        Just(json!({"inlineData": {"mimeType": "image/png", "data": "QUJD"}})),
        Just(json!({"executableCode": {}})),
    ]
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_says_the_same(
        events in proptest::collection::vec((proptest::collection::vec(any_part(), 0..3), 0..3_u64), 1..6),
        ends in any::<bool>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut events: Vec<Value> = events
            .into_iter()
            .map(|(parts, index)| json!({"candidates": [{"content": {"parts": parts}, "index": index}]}))
            .collect();
        if ends {
            events.extend((0..3).map(|index| json!({"candidates": [{"index": index, "finishReason": "STOP"}]})));
        }
        let text = stream(&events);
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let terms = terms(&["f"]);
        let whole = translate(&[bytes], &terms);
        prop_assert_eq!(&translate(&pieces, &terms), &whole);
        prop_assert_eq!(&translate(&single, &terms), &whole);
        prop_assert_eq!(whole.1.is_none(), ends);
    }
}
