use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::super::failure::Failure;
use super::super::super::neutral::{
    Answer, Choice, Citation, Delta, Event, Media, Opening, Origin, Part, PartKind, Signature,
    Stop, StopReason, ToolUse,
};
use super::super::super::stream::{Frame, Reader, Transform, Translator, Writer};
use super::super::super::{Terms, Unwrap};
use super::*;
use crate::meter::Usage;

/// As Anthropic writes it, with padding, pings anywhere and a tool of its own.
const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}   }

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}  }

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm\n"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0 }

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"red"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"Grüße, "}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"\"you\""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","url":"u","title":"T","cited_text":"q","encrypted_index":"e"}}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: content_block_start
data: {"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_1","name":"add","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":4}

event: future_event
data: {"type":"future_event","index":9}

event: content_block_start
data: {"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":5}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":20,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":31}  }

event: message_stop
data: {"type":"message_stop" }

"#;

fn terms() -> Terms {
    Terms {
        model: "asked".to_owned(),
        id: "abc".to_owned(),
        ..Terms::default()
    }
}

/// Reads frames and keeps the events.
fn read(frames: &[&str], terms: &Terms) -> (Vec<Event<'static>>, Result<(), Failure>) {
    let (mut reader, mut events) = (StreamReader::new(terms), Vec::new());
    let mut sink = |event: Event<'_>| events.push(owned(event));
    let mut result = Ok(());
    for data in frames {
        let frame = Frame::Event {
            name: "",
            data: data.as_bytes(),
        };
        result = result.and_then(|()| reader.read(frame, &mut sink));
    }
    let result = result.and_then(|()| reader.end(&mut sink));
    (events, result)
}

fn owned(event: Event<'_>) -> Event<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    match event {
        Event::Start { id, model, created } => Event::Start {
            id: id.map(own),
            model: model.map(own),
            created,
        },
        Event::Open {
            choice,
            index,
            part,
        } => {
            let part = match part {
                Opening::Text => Opening::Text,
                Opening::Refusal => Opening::Refusal,
                Opening::Thinking => Opening::Thinking,
                Opening::Redacted(signature) => Opening::Redacted(signature),
                Opening::Image(media) => Opening::Image(media),
                Opening::ToolUse {
                    id,
                    name,
                    custom,
                    signature,
                } => Opening::ToolUse {
                    id: own(id),
                    name: own(name),
                    custom,
                    signature,
                },
            };
            Event::Open {
                choice,
                index,
                part,
            }
        }
        Event::Delta {
            choice,
            index,
            delta,
        } => {
            let delta = match delta {
                Delta::Text(text) => Delta::Text(own(text)),
                Delta::Refusal(text) => Delta::Refusal(own(text)),
                Delta::Thinking(text) => Delta::Thinking(own(text)),
                Delta::Arguments(text) => Delta::Arguments(own(text)),
                Delta::Signature(signature) => Delta::Signature(signature),
                Delta::Citation(citation) => Delta::Citation(citation),
                Delta::Logprobs(logprobs) => Delta::Logprobs(logprobs),
            };
            Event::Delta {
                choice,
                index,
                delta,
            }
        }
        Event::Close { choice, index } => Event::Close { choice, index },
        Event::Stop { choice, stop } => Event::Stop { choice, stop },
        Event::Usage(usage) => Event::Usage(usage),
        Event::KeepAlive => Event::KeepAlive,
        Event::Failed(failure) => Event::Failed(failure),
    }
}

fn open(index: u32, part: Opening<'static>) -> Event<'static> {
    Event::Open {
        choice: 0,
        index,
        part,
    }
}

fn delta(index: u32, delta: Delta<'static>) -> Event<'static> {
    Event::Delta {
        choice: 0,
        index,
        delta,
    }
}

fn close(index: u32) -> Event<'static> {
    Event::Close { choice: 0, index }
}

fn tool(id: &'static str, name: &'static str) -> Opening<'static> {
    Opening::ToolUse {
        id: id.into(),
        name: name.into(),
        custom: false,
        signature: None,
    }
}

fn citation() -> Citation {
    Citation {
        url: "u".to_owned(),
        title: Some("T".to_owned()),
        range: None,
        quote: Some("q".to_owned()),
    }
}

fn data_of(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

#[test]
fn claudes_stream_is_read() {
    let (events, result) = read(&data_of(STREAM), &terms());
    let own = |data: &str| Signature::new(Origin::Anthropic, data);
    let expected = vec![
        Event::Start {
            id: Some("msg_1".into()),
            model: Some("claude-x".into()),
            created: None,
        },
        open(0, Opening::Thinking),
        Event::KeepAlive,
        delta(0, Delta::Thinking("hm\n".into())),
        delta(0, Delta::Signature(own("sig="))),
        close(0),
        open(1, Opening::Redacted(own("red"))),
        close(1),
        open(2, Opening::Text),
        delta(2, Delta::Text("Grüße, ".into())),
        delta(2, Delta::Text("\"you\"".into())),
        delta(2, Delta::Citation(citation())),
        close(2),
        open(3, tool("toolu_1", "add")),
        delta(3, Delta::Arguments("{\"a\":".into())),
        delta(3, Delta::Arguments("1}".into())),
        close(3),
        open(4, tool("toolu_2", "now")),
        close(4),
        Event::Stop {
            choice: 0,
            stop: Stop::new(StopReason::ToolUse),
        },
    ];
    assert_eq!(events, expected);
    assert_eq!(result, Ok(()));
}

#[test]
fn streams_of_those_who_speak_alike_are_read() {
    let (events, result) = read(
        &[
            r#"{"type":"message_start","message":{}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"first"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"1","name":"f","input":{"a":1}}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"2","name":"g","input":{"b":1}}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":1}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            "[DONE]",
        ],
        &terms(),
    );
    let expected = vec![
        Event::Start {
            id: None,
            model: None,
            created: None,
        },
        open(0, Opening::Text),
        delta(0, Delta::Text("first".into())),
        close(0),
        open(1, tool("1", "f")),
        open(2, tool("2", "g")),
        delta(2, Delta::Arguments("{}".into())),
        delta(1, Delta::Arguments("{\"a\":1}".into())),
        close(1),
        close(2),
        Event::Stop {
            choice: 0,
            stop: Stop::new(StopReason::ToolUse),
        },
    ];
    assert_eq!((events, result), (expected, Ok(())));
}

#[test]
fn failures_within_a_stream() {
    let start = r#"{"type":"message_start","message":{}}"#;
    for (frames, status) in [
        (
            vec![
                start,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ],
            529,
        ),
        (
            vec![
                start,
                r#"{"error":{"type":"rate_limit_error","message":"m"}}"#,
            ],
            429,
        ),
        (
            vec![r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#],
            500,
        ),
        (vec![start, "{"], 502),
        (vec![start], 502),
        (vec![], 502),
    ] {
        let (_, result) = read(&frames, &terms());
        assert_eq!(result.expect_err("failed").status, status, "{frames:?}");
    }
    let mut reader = StreamReader::new(&terms());
    let mut read = |frame| {
        reader
            .read(frame, &mut |_| ())
            .map_err(|failure| failure.status)
    };
    assert_eq!(
        read(Frame::Stray(br#"{"error":{"message":"m"}}"#)),
        Err(500)
    );
    assert_eq!(read(Frame::Stray(b"data: x")), Ok(()));
    let exception = Frame::Exception {
        kind: "throttlingException",
        data: br#"{"message":"m"}"#,
    };
    assert_eq!(read(exception), Err(429));
}

#[test]
fn blocks_without_end_are_refused() {
    let mut reader = StreamReader::new(&terms());
    let opened = (0..2 * crate::limits::STREAM_PARTS_OPEN_MAX).try_for_each(|index| {
        let data = json!({"type": "content_block_start", "index": index, "content_block": {"type": "tool_use", "id": "1", "name": "f"}}).to_string();
        reader.read(Frame::Event { name: "", data: data.as_bytes() }, &mut |_| ())
    });
    assert_eq!(opened.expect_err("refused").status, 502);
}

#[test]
fn a_forced_tool_streams_as_text() {
    let forced = Terms {
        unwrap: Unwrap::Tool("json_output".to_owned()),
        ..terms()
    };
    let (events, _) = read(
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"1","name":"json_output","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        &forced,
    );
    let stop = Stop::new(StopReason::End);
    let expected = [
        open(0, Opening::Text),
        delta(0, Delta::Text("{\"a\":1}".into())),
        close(0),
        Event::Stop { choice: 0, stop },
    ];
    assert_eq!(events, expected);
}

/// Puts a stream together as Anthropic's own client does, and checks what that relies on.
fn put_together(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut buffers: Vec<String> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut done = false;
    for block in stream.split_terminator("\n\n") {
        let (name, data) = block.split_once('\n').expect("two lines");
        let event: Value =
            serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        let kind = event["type"].as_str().expect("a type");
        assert_eq!(name, format!("event: {kind}"));
        assert!(!done, "nothing follows the end");
        let at = event["index"].as_u64().unwrap_or_default() as usize;
        match kind {
            "ping" => {}
            "message_start" => {
                assert!(message.is_null());
                message = event["message"].clone();
            }
            "content_block_start" => {
                assert_eq!(at, buffers.len(), "blocks count from 0");
                message["content"]
                    .as_array_mut()
                    .expect("a list")
                    .push(event["content_block"].clone());
                buffers.push(String::new());
                open.push(at);
            }
            "content_block_delta" => {
                assert!(open.contains(&at));
                let block = &mut message["content"][at];
                let delta = &event["delta"];
                let text = |key: &str| delta[key].as_str().expect("text");
                match delta["type"].as_str().expect("a type") {
                    "text_delta" => {
                        block["text"] = json!(format!(
                            "{}{}",
                            block["text"].as_str().expect("text"),
                            text("text")
                        ))
                    }
                    "thinking_delta" => {
                        block["thinking"] = json!(format!(
                            "{}{}",
                            block["thinking"].as_str().expect("text"),
                            text("thinking")
                        ))
                    }
                    "signature_delta" => block["signature"] = json!(text("signature")),
                    "input_json_delta" => buffers[at].push_str(text("partial_json")),
                    "citations_delta" => {
                        let mut citations =
                            block["citations"].as_array().cloned().unwrap_or_default();
                        citations.push(delta["citation"].clone());
                        block["citations"] = json!(citations);
                    }
                    other => panic!("unexpected {other}"),
                }
            }
            "content_block_stop" => {
                open.retain(|other| *other != at);
                if !buffers[at].is_empty() {
                    message["content"][at]["input"] =
                        serde_json::from_str(&buffers[at]).expect("JSON");
                }
            }
            "message_delta" => {
                assert!(open.is_empty(), "all blocks are closed");
                for (key, value) in event["delta"].as_object().expect("an object") {
                    message[key] = value.clone();
                }
                for (key, value) in event["usage"].as_object().expect("an object") {
                    message["usage"][key] = value.clone();
                }
            }
            "message_stop" => done = true,
            other => panic!("unexpected {other}"),
        }
    }
    assert!(done, "the end came");
    message
}

fn write(events: &[Event<'_>]) -> String {
    let (mut writer, mut out) = (StreamWriter::new(&terms()), Vec::new());
    events
        .iter()
        .for_each(|event| writer.write(event, &mut out));
    writer.end(&mut out);
    String::from_utf8(out).expect("text")
}

/// An answer as the events that say it.
fn told(answer: &Answer) -> Vec<Event<'_>> {
    let mut events = vec![Event::Start {
        id: answer.id.as_deref().map(Cow::from),
        model: answer.model.as_deref().map(Cow::from),
        created: None,
    }];
    for (index, part) in answer.choices[0].parts.iter().enumerate() {
        let index = index as u32;
        let mut deltas = Vec::new();
        let sign = |signature: &Option<Signature>| signature.clone().map(Delta::Signature);
        let opening = match &part.kind {
            PartKind::Text {
                text,
                citations,
                signature,
            } => {
                deltas.push(Delta::Text(text.as_str().into()));
                deltas.extend(citations.iter().cloned().map(Delta::Citation));
                deltas.extend(sign(signature));
                Opening::Text
            }
            PartKind::Refusal(text) => {
                deltas.push(Delta::Refusal(text.as_str().into()));
                Opening::Refusal
            }
            PartKind::Thinking { text, signature } => {
                deltas.push(Delta::Thinking(text.as_str().into()));
                deltas.extend(sign(signature));
                Opening::Thinking
            }
            PartKind::Redacted(signature) => Opening::Redacted(signature.clone()),
            PartKind::Image { media, .. } => Opening::Image(media.clone()),
            PartKind::ToolUse(call) => {
                deltas.push(Delta::Arguments(call.arguments.as_str().into()));
                Opening::ToolUse {
                    id: call.id.as_str().into(),
                    name: call.name.as_str().into(),
                    custom: false,
                    signature: call.signature.clone(),
                }
            }
            other => panic!("no part of an answer: {other:?}"),
        };
        events.push(Event::Open {
            choice: 0,
            index,
            part: opening,
        });
        events.extend(deltas.into_iter().map(|delta| Event::Delta {
            choice: 0,
            index,
            delta,
        }));
        events.push(Event::Close { choice: 0, index });
    }
    events.extend(answer.usage.map(Event::Usage));
    events.push(Event::Stop {
        choice: 0,
        stop: answer.choices[0].stop.clone(),
    });
    events
}

#[test]
fn a_written_stream_says_what_the_whole_answer_says() {
    let google = |data: &str| Some(Signature::new(Origin::Google, data));
    let call = |id: &str, arguments: &str, signature| {
        PartKind::ToolUse(ToolUse {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
            custom: false,
            signature,
        })
        .into()
    };
    let parts: Vec<Part> = vec![
        PartKind::Thinking {
            text: "hm".to_owned(),
            signature: google("s"),
        }
        .into(),
        PartKind::Redacted(Signature::new(Origin::Anthropic, "red")).into(),
        PartKind::Text {
            text: "Grüße\n".to_owned(),
            citations: vec![citation()],
            signature: google("t"),
        }
        .into(),
        PartKind::Image {
            media: Media::Url {
                url: "https://a".to_owned(),
                mime: None,
            },
            detail: None,
        }
        .into(),
        PartKind::Refusal("No.".to_owned()).into(),
        call("a:b", r#"{"x":[1,"é"]}"#, google("c")),
        call("c", "", None),
    ];
    for reason in [
        StopReason::End,
        StopReason::ToolUse,
        StopReason::Length,
        StopReason::Filter,
        StopReason::StopSequence,
    ] {
        let answer = Answer {
            id: Some("id-1".to_owned()),
            model: Some("gpt".to_owned()),
            choices: vec![Choice {
                parts: parts.clone(),
                stop: Stop {
                    sequence: Some("x".to_owned()),
                    ..Stop::new(reason)
                },
                logprobs: None,
            }],
            usage: Some(Usage {
                input: 10,
                output: 5,
                cached_input: 4,
                cache_write: 0,
                reasoning: 2,
                total: 15,
            }),
            ..Answer::default()
        };
        assert_eq!(
            put_together(&write(&told(&answer))),
            write_answer(&answer, &terms())
        );
    }
}

#[test]
fn a_written_stream_is_whole_whatever_comes() {
    let empty = put_together(&write(&[]));
    assert_eq!(empty["content"], json!([]));
    assert_eq!(
        (&empty["stop_reason"], &empty["usage"]["output_tokens"]),
        (&json!("end_turn"), &json!(0))
    );
    let unclosed = put_together(&write(&[
        open(0, tool("1", "f")),
        open(1, tool("2", "g")),
        delta(0, Delta::Arguments("{\"a\":".into())),
        delta(1, Delta::Arguments("{}".into())),
        delta(0, Delta::Arguments("2}".into())),
    ]));
    assert_eq!(unclosed["content"][0]["input"], json!({"a": 2}));
    let other_choice = [
        Event::Open {
            choice: 1,
            index: 0,
            part: Opening::Text,
        },
        Event::Delta {
            choice: 1,
            index: 0,
            delta: Delta::Text("x".into()),
        },
    ];
    assert_eq!(put_together(&write(&other_choice))["content"], json!([]));
    let failed = write(&[
        Event::KeepAlive,
        Event::Failed(Failure::of_status(529, "busy")),
    ]);
    let expected = "event: ping\ndata: {\"type\": \"ping\"}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    assert_eq!(failed, expected);
}

fn translate(pieces: &[&[u8]]) -> String {
    let reader = Box::new(StreamReader::new(&terms()));
    let writer = Box::new(StreamWriter::new(&terms()));
    let (mut translator, mut out) = (Translator::of_sse(reader, writer), Vec::new());
    pieces
        .iter()
        .for_each(|piece| translator.feed(piece, &mut out));
    translator.end(true, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn usage_goes_through_to_the_end() {
    let message = put_together(&translate(&[STREAM.as_bytes()]));
    let expected = json!({"input_tokens": 20, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 31});
    assert_eq!(message["usage"], expected);
    let kinds: Vec<&str> = message["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "thinking",
            "redacted_thinking",
            "text",
            "tool_use",
            "tool_use"
        ]
    );
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_is_the_same(cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let bytes = STREAM.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(translate(&pieces), translate(&[bytes]));
    }

    #[test]
    fn an_answer_comes_back_as_it_went_out(answer in answers()) {
        let whole = write_answer(&answer, &terms());
        let read = read_answer(whole.clone(), &terms()).expect("an answer");
        prop_assert_eq!(&read.choices, &answer.choices);
        let stream = write(&told(&answer));
        let (events, result) = read_events(&stream);
        prop_assert_eq!(result, Ok(()));
        let again = write(&events);
        prop_assert_eq!(put_together(&again), put_together(&stream));
        prop_assert_eq!(put_together(&stream), whole);
    }
}

fn read_events(stream: &str) -> (Vec<Event<'static>>, Result<(), Failure>) {
    read(&data_of(stream), &terms())
}

/// Answers that Messages can say.
fn answers() -> impl Strategy<Value = Answer> {
    let own = |data: String| Signature::new(Origin::Anthropic, data);
    let text = "[a-zé\"\\\\\n]{1,8}";
    let part = prop_oneof![
        text.prop_map(Part::text),
        (text, "[A-Za-z0-9+/=]{1,8}").prop_map(move |(text, data)| Part::from(
            PartKind::Thinking {
                text,
                signature: Some(own(data))
            }
        )),
        "[A-Za-z0-9+/=]{1,8}".prop_map(move |data| Part::from(PartKind::Redacted(own(data)))),
        (
            "[a-zA-Z0-9_-]{1,12}",
            "[a-z_]{1,8}",
            proptest::option::of(text)
        )
            .prop_map(|(id, name, value)| {
                let arguments = value
                    .map_or_else(|| json!({}), |value| json!({"k": value}))
                    .to_string();
                Part::from(PartKind::ToolUse(ToolUse {
                    id,
                    name,
                    arguments,
                    custom: false,
                    signature: None,
                }))
            }),
    ];
    let reason = prop_oneof![
        Just(StopReason::End),
        Just(StopReason::StopSequence),
        Just(StopReason::Length),
        Just(StopReason::ToolUse),
    ];
    (proptest::collection::vec(part, 0..6), reason).prop_map(|(parts, reason)| Answer {
        id: Some("msg_1".to_owned()),
        choices: vec![Choice {
            parts,
            stop: Stop::new(reason),
            logprobs: None,
        }],
        ..Answer::default()
    })
}
