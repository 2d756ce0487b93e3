use proptest::prelude::*;

use super::*;
use crate::dialect::stream::{Transform, Translator, Writer};

fn terms() -> Terms {
    Terms {
        id: "Ab12".to_owned(),
        ..Terms::default()
    }
}

fn read(body: Value) -> Result<Answer, Failure> {
    read_answer(body, &terms())
}

#[test]
fn an_answer_has_thoughts_text_calls_and_sources() {
    let answer = read(json!({
        "id": "8bd5", "finish_reason": "TOOL_CALL",
        "message": {"role": "assistant", "tool_plan": "I will look.", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Sunny"}, {"type": "text", "text": ""}],
            "tool_calls": [
                {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"type": "function", "function": {"name": "g"}}],
            "citations": [{"start": 0, "end": 5, "text": "Sunny", "sources": [
                {"type": "document", "id": "d", "document": {"url": "https://a.example", "title": "a"}},
                {"type": "tool", "id": "t", "tool_output": {"x": 1}}]}]},
        "logprobs": [{"text": "Sun", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}],
    }))
    .unwrap();
    assert_eq!(
        (answer.id.as_deref(), &answer.model, answer.created),
        (Some("8bd5"), &None, None)
    );
    let choice = &answer.choices[0];
    assert_eq!(choice.stop, Stop::new(StopReason::ToolUse));
    let citation = Citation {
        url: "https://a.example".to_owned(),
        title: Some("a".to_owned()),
        range: Some((0, 5)),
        quote: None,
    };
    let text = PartKind::Text {
        text: "Sunny".to_owned(),
        citations: vec![citation],
        signature: None,
    };
    assert_eq!(
        choice.parts,
        [
            thought("I will look."),
            thought("hm"),
            text.into(),
            call("f_1", "f", "{\"a\":1}"),
            call("call_Ab12_2", "g", "{}"),
        ]
    );
    let logprobs = choice.logprobs.as_ref().unwrap();
    assert_eq!(logprobs["content"][0]["logprob"], -0.75);
}

#[test]
fn every_finish_reason_has_a_word() {
    for (word, expected, keeps_word) in [
        ("COMPLETE", StopReason::End, false),
        ("STOP_SEQUENCE", StopReason::StopSequence, false),
        ("MAX_TOKENS", StopReason::Length, false),
        ("TOOL_CALL", StopReason::ToolUse, false),
        ("ERROR_TOXIC", StopReason::Filter, true),
        ("ERROR", StopReason::End, true),
        ("TIMEOUT", StopReason::End, true),
        ("SOMETHING_NEW", StopReason::End, true),
    ] {
        let body = |content: &str| json!({"id": "i", "finish_reason": word, "message": {"content": content}});
        let stop = read(body("x")).unwrap().choices[0].stop.clone();
        assert_eq!(stop.reason, expected, "{word}");
        assert_eq!(stop.native.as_deref(), keeps_word.then_some(word));
        match word {
            "ERROR" => assert_eq!(read(body("")).unwrap_err().status, 502),
            "TIMEOUT" => assert_eq!(read(body("")).unwrap_err().status, 504),
            _ => assert_eq!(read(body("")).unwrap().choices[0].parts, []),
        }
    }
}

#[test]
fn what_is_no_answer_is_an_error() {
    assert_eq!(
        read(json!({"message": "busy"})).unwrap_err().message,
        "busy"
    );
    for odd in [
        json!({}),
        json!([]),
        json!("x"),
        json!(null),
        json!({"message": []}),
    ] {
        assert!(read(odd).is_err());
    }
    let odd =
        json!({"content": [1, {"text": 2}], "tool_calls": [3, {"function": 4}], "citations": 5});
    assert_eq!(read(json!({"message": odd})).unwrap().choices[0].parts, []);
}

#[test]
fn errors_say_what_kind_they_are() {
    for (status, expected, kind) in [
        (400, 400, FailureKind::InvalidRequest),
        (401, 401, FailureKind::Authentication),
        (403, 403, FailureKind::Permission),
        (404, 404, FailureKind::NotFound),
        (422, 422, FailureKind::InvalidRequest),
        (429, 429, FailureKind::RateLimit),
        (498, 401, FailureKind::Authentication),
        (500, 500, FailureKind::Server),
        (503, 503, FailureKind::Overloaded),
        (504, 504, FailureKind::Timeout),
    ] {
        let failure = read_error(status, None, b"{\"id\":\"8bd5\",\"message\":\"m\"}");
        assert_eq!((failure.status, failure.kind), (expected, kind));
        assert_eq!(
            (failure.message.as_str(), failure.retryable),
            ("m", expected >= 429)
        );
        let token = (status == 498).then_some("invalid_token");
        assert_eq!(failure.code.as_deref(), token);
    }
    let body = b"{\"message\":\"model 'nonexistent' not found\"}";
    assert_eq!(
        read_error(404, None, body).code.as_deref(),
        Some("model_not_found")
    );
    assert_eq!(
        read_error(502, None, b"<html>").message,
        "Cohere answered with status 502"
    );
}

/// In short: what was opened, filled, closed and how it stopped.
struct Told;

impl Writer for Told {
    fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let line = match event {
            Event::Start { id, .. } => format!("start {id:?}"),
            Event::Open { index, part, .. } => match part {
                Opening::ToolUse { id, name, .. } => format!("{index} call {id} {name}"),
                part => format!("{index} {part:?}"),
            },
            Event::Delta { index, delta, .. } => match delta {
                Delta::Text(text) => format!("{index} + {text}"),
                Delta::Thinking(text) => format!("{index} + thought {text}"),
                Delta::Arguments(text) => format!("{index} + arguments {text}"),
                Delta::Citation(citation) => format!("{index} + {}", citation.url),
                delta => format!("{index} + {delta:?}"),
            },
            Event::Close { index, .. } => format!("{index} close"),
            Event::Stop { stop, .. } => format!("stop {:?}", stop.reason),
            Event::Failed(failure) => format!("failed {} {}", failure.status, failure.message),
            Event::Usage(usage) => format!("usage {} {}", usage.input, usage.output),
            Event::KeepAlive => return,
        };
        out.extend(line.bytes().chain(*b"\n"));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend(b"end\n");
    }
}

fn translate(pieces: &[&[u8]]) -> String {
    let reader = Box::new(StreamReader::new(&terms()));
    let mut translator = Translator::of_sse(reader, Box::new(Told));
    let mut out = Vec::new();
    for piece in pieces {
        translator.feed(piece, &mut out);
    }
    translator.end(true, &mut out);
    String::from_utf8(out).expect("text")
}

fn stream(events: &[Value]) -> String {
    let event = |event: &Value| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    };
    events.iter().map(event).collect()
}

fn told(events: &[Value]) -> Vec<String> {
    let text = stream(events);
    translate(&[text.as_bytes()])
        .lines()
        .map(str::to_owned)
        .collect()
}

fn start() -> Value {
    json!({"type": "message-start", "id": "8bd5", "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}}})
}

fn end(word: &str) -> Value {
    json!({"type": "message-end", "delta": {"finish_reason": word, "usage": {
        "billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": {"input_tokens": 61.0, "output_tokens": 2.0}}}})
}

#[test]
fn thoughts_text_and_sources_stream() {
    let content = |kind: &str, at: u64, content: Value| json!({"type": kind, "index": at, "delta": {"message": {"content": content}}});
    let lines = told(&[
        start(),
        content(
            "content-start",
            0,
            json!({"type": "thinking", "thinking": ""}),
        ),
        content("content-delta", 0, json!({"thinking": "hm"})),
        json!({"type": "content-end", "index": 0}),
        content("content-start", 1, json!({"type": "text", "text": "A"})),
        content("content-delta", 1, json!({"text": "B"})),
        json!({"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"start": 0, "end": 2, "text": "AB",
            "sources": [{"type": "document", "document": {"url": "https://a.example"}}]}}}}),
        json!({"type": "citation-end", "index": 0}),
        json!({"type": "debug", "prompt": "x"}),
        json!({"type": "content-end", "index": 1}),
        end("COMPLETE"),
        json!({"type": "content-start", "delta": {"message": {"content": {"text": "late"}}}}),
    ]);
    assert_eq!(
        lines,
        [
            "start Some(\"8bd5\")",
            "0 Thinking",
            "0 + thought hm",
            "0 close",
            "1 Text",
            "1 + A",
            "1 + B",
            "1 + https://a.example",
            "1 close",
            "usage 61 2",
            "stop End",
            "end",
        ]
    );
}

#[test]
fn plans_and_calls_stream_and_are_counted_by_themselves() {
    let call = |at: u64, id: &str, name: &str, arguments: &str| {
        json!({"type": "tool-call-start", "index": at, "delta": {"message": {"tool_calls": {
            "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}}}})
    };
    let piece = |at: u64, text: &str| {
        json!({"type": "tool-call-delta", "index": at,
               "delta": {"message": {"tool_calls": {"function": {"arguments": text}}}}})
    };
    let lines = told(&[
        start(),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I "}}}),
        json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "will"}}}),
        call(0, "f_1", "f", ""),
        piece(0, "{\"a\":"),
        piece(0, "1}"),
        json!({"type": "tool-call-end", "index": 0}),
        call(1, "g_1", "g", "{}"),
        piece(9, "lost"),
        end("TOOL_CALL"),
    ]);
    assert_eq!(
        lines,
        [
            "start Some(\"8bd5\")",
            "0 Thinking",
            "0 + thought I ",
            "0 + thought will",
            "0 close",
            "1 call f_1 f",
            "1 + arguments {\"a\":",
            "1 + arguments 1}",
            "1 close",
            "2 call g_1 g",
            "2 + arguments {}",
            "usage 61 2",
            "2 close",
            "stop ToolUse",
            "end",
        ]
    );
}

#[test]
fn a_stream_that_fails_says_so() {
    let failed =
        json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "midway"}});
    assert_eq!(
        told(&[start(), failed]).last().unwrap(),
        "failed 502 midway"
    );
    let timeout =
        json!({"type": "message-end", "delta": {"finish_reason": "TIMEOUT", "error": "slow"}});
    assert_eq!(told(&[start(), timeout]).last().unwrap(), "failed 504 slow");
    assert!(told(&[start()]).last().unwrap().starts_with("failed 502"));
    assert_eq!(
        told(&[start(), json!({"message": "busy"})]).last().unwrap(),
        "failed 502 busy"
    );
    assert_eq!(
        translate(&[b"{\"message\":\"bare\"}\n"]),
        "failed 502 bare\n"
    );
    let open = json!({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"function": {"name": "f"}}}}});
    let many = (0..2000).map(|at| {
        let mut event = open.clone();
        event["index"] = json!(at);
        event
    });
    let events: Vec<Value> = std::iter::once(start()).chain(many).collect();
    assert!(told(&events).last().unwrap().contains("too many calls"));
}

#[test]
fn a_done_behind_the_end_is_tolerated() {
    let text = format!("{}data: [DONE]\n\n", stream(&[start(), end("COMPLETE")]));
    assert!(translate(&[text.as_bytes()]).ends_with("stop End\nend\n"));
}

fn any_event() -> impl Strategy<Value = Value> {
    let kinds = prop_oneof![
        Just("content-start"),
        Just("content-delta"),
        Just("content-end"),
        Just("tool-plan-delta"),
        Just("tool-call-start"),
        Just("tool-call-delta"),
        Just("tool-call-end"),
        Just("citation-start"),
        Just("debug"),
    ];
    (kinds, 0..3_u64, "[a-zé\"]{0,4}", any::<bool>()).prop_map(|(kind, index, text, thinks)| {
        let content = if thinks { json!({"thinking": text}) } else { json!({"text": text}) };
        json!({"type": kind, "index": index, "delta": {"message": {"content": content, "tool_plan": text,
            "tool_calls": {"id": text, "function": {"name": text, "arguments": text}}}}})
    })
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_says_the_same(
        middle in proptest::collection::vec(any_event(), 0..8),
        ends in any::<bool>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut events = vec![start()];
        events.extend(middle);
        if ends {
            events.push(end("COMPLETE"));
        }
        let text = stream(&events);
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let whole = translate(&[bytes]);
        prop_assert_eq!(&translate(&pieces), &whole);
        prop_assert_eq!(&translate(&single), &whole);
        prop_assert_eq!(whole.ends_with("\nend\n"), ends);
        // Parts are opened and closed in turn.
        let opened = whole.lines().filter(|line| line.contains(" call ") || line.ends_with(" Text") || line.ends_with("Thinking"));
        let closed = whole.lines().filter(|line| line.ends_with(" close"));
        prop_assert!(!ends || opened.count() == closed.count());
    }
}
