use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::http::eventstream::tests::message;

const SSE: &str = "text/event-stream; charset=utf-8";

fn sse(documents: &[Value]) -> String {
    let event = |document: &Value| format!("event: x\ndata: {document}\n\n");
    documents.iter().map(event).collect()
}

fn of(content_type: &str, stream: &[u8]) -> Option<Value> {
    let answer = assemble(Some(content_type), stream)?;
    Some(serde_json::from_slice(&answer).expect("JSON"))
}

fn assembled(documents: &[Value]) -> Value {
    of(SSE, sse(documents).as_bytes()).expect("an answer")
}

#[test]
fn chunks_make_a_completion() {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "system_fingerprint": "fp",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null, "obfuscation": "xx"})
    };
    let call = |index: u64, rest: Value| {
        let mut call = json!({"index": index});
        merge::replace(&mut call, rest);
        json!({"tool_calls": [call]})
    };
    let documents = [
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"reasoning_content": "Hm"}), Value::Null),
        chunk(json!({"reasoning_content": "m"}), Value::Null),
        chunk(json!({"content": "Hel"}), Value::Null),
        chunk(json!({"content": "lo"}), Value::Null),
        chunk(
            call(
                0,
                json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}),
            ),
            Value::Null,
        ),
        chunk(
            call(
                1,
                json!({"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
            ),
            Value::Null,
        ),
        chunk(
            call(0, json!({"function": {"arguments": "{\"x\""}})),
            Value::Null,
        ),
        chunk(
            call(0, json!({"function": {"arguments": ":1}"}})),
            Value::Null,
        ),
        chunk(json!({}), json!("tool_calls")),
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "system_fingerprint": "fp",
            "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}),
    ];
    let mut stream = sse(&documents);
    stream.push_str(": a comment\n\ndata: [DONE]\n\n");
    let expected = json!({"id": "c1", "object": "chat.completion", "created": 5, "model": "m", "system_fingerprint": "fp",
    "usage": {"prompt_tokens": 3, "completion_tokens": 9},
    "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Hello", "reasoning_content": "Hmm",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ]}}]});
    assert_eq!(of(SSE, stream.as_bytes()), Some(expected));
    // Of a stream that broke off in the middle of an event, what came before.
    let cut = stream.find("lo\"").expect("the text");
    let answer = of(SSE, &stream.as_bytes()[..cut]).expect("an answer");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hel");
    let two = assembled(&[
        json!({"object": "text_completion", "choices": [{"index": 1, "text": "b"}]}),
        json!({"object": "text_completion", "choices": [{"index": 0, "text": "a"}]}),
        json!({"object": "text_completion", "choices": [{"index": 1, "text": "c", "finish_reason": "stop"}]}),
    ]);
    assert_eq!(
        two["choices"],
        json!([{"index": 0, "text": "a"}, {"index": 1, "text": "bc", "finish_reason": "stop"}])
    );
}

#[test]
fn blocks_make_a_message() {
    let block = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let documents = [
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m",
            "stop_reason": null, "usage": {"input_tokens": 7, "output_tokens": 1}}}),
        block(
            0,
            json!({"type": "thinking", "thinking": "", "signature": ""}),
        ),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "ping"}),
        block(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "Hel"})),
        delta(1, json!({"type": "text_delta", "text": "lo"})),
        delta(
            1,
            json!({"type": "citations_delta", "citation": {"cited_text": "x"}}),
        ),
        block(
            2,
            json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        ),
        delta(
            2,
            json!({"type": "input_json_delta", "partial_json": "{\"x\":"}),
        ),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        block(
            3,
            json!({"type": "tool_use", "id": "u", "name": "g", "input": {}}),
        ),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let expected = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
    "stop_sequence": null, "usage": {"input_tokens": 7, "output_tokens": 20},
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "text", "text": "Hello", "citations": [{"cited_text": "x"}]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "u", "name": "g", "input": {}},
    ]});
    assert_eq!(assembled(&documents), expected);
    // On Bedrock each of these events comes inside of a message of its own, in base64.
    let chunk = |document: &Value| {
        let bytes = STANDARD.encode(document.to_string());
        let payload = json!({"bytes": bytes, "p": "abc"}).to_string();
        message(&header(":event-type", "chunk"), payload.as_bytes())
    };
    let stream: Vec<u8> = documents.iter().flat_map(chunk).collect();
    assert_eq!(of(eventstream::CONTENT_TYPE, &stream), Some(expected));
    let text = readable(Some(eventstream::CONTENT_TYPE), &stream).expect("text");
    let text = String::from_utf8(text).expect("text");
    assert!(
        text.starts_with("event: chunk\ndata: {\"type\":\"message_start\""),
        "{text}"
    );
    let cut = assembled(&documents[..12]);
    assert_eq!(cut["content"][2]["input"], "{\"x\":");
    assert_eq!(cut["stop_reason"], Value::Null);
}

fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![name.len() as u8];
    block.extend_from_slice(name.as_bytes());
    block.push(7);
    block.extend_from_slice(&(value.len() as u16).to_be_bytes());
    block.extend_from_slice(value.as_bytes());
    block
}

#[test]
fn events_make_a_response() {
    let item = json!({"id": "i", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    let documents = [
        json!({"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel"}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "lo"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "f", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"}),
        json!({"type": "response.completed", "response": {"id": "r", "object": "response", "status": "completed", "output": ["all"]}}),
    ];
    assert_eq!(
        assembled(&documents),
        json!({"id": "r", "object": "response", "status": "completed", "output": ["all"]})
    );
    let cut = assembled(&documents[..7]);
    assert_eq!(cut["status"], "in_progress");
    assert_eq!(
        cut["output"][0]["content"],
        json!([{"type": "output_text", "text": "Hello", "annotations": []}])
    );
    assert_eq!(cut["output"][1]["arguments"], "{}");
}

#[test]
fn candidates_make_an_answer() {
    let chunk = |parts: Value, rest: Value| {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        merge::replace(&mut candidate, rest);
        json!({"candidates": [candidate], "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "m"})
    };
    let documents = [
        chunk(json!([{"text": "Hm", "thought": true}]), json!({})),
        chunk(json!([{"text": "m", "thought": true}]), json!({})),
        chunk(json!([{"text": "Hel"}]), json!({})),
        chunk(
            json!([{"text": "lo"}, {"functionCall": {"name": "f", "args": {}}}]),
            json!({}),
        ),
        chunk(json!([{"text": "!"}]), json!({"finishReason": "STOP"})),
    ];
    let expected = json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Hmm", "thought": true}, {"text": "Hello"}, {"functionCall": {"name": "f", "args": {}}}, {"text": "!"}]}}],
        "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "m"});
    assert_eq!(assembled(&documents), expected);
    let list = Value::from(documents.to_vec()).to_string();
    assert_eq!(of("application/json", list.as_bytes()), Some(expected));
}

#[test]
fn converse_and_cohere_and_plain_words_too() {
    let event = |name: &str, payload: Value| {
        message(&header(":event-type", name), payload.to_string().as_bytes())
    };
    let delta = |index: u64, delta: Value| {
        let payload = json!({"contentBlockIndex": index, "delta": delta, "p": "abcd"});
        event("contentBlockDelta", payload)
    };
    let stream = [
        event("messageStart", json!({"role": "assistant", "p": "ab"})),
        delta(0, json!({"reasoningContent": {"text": "H"}})),
        delta(0, json!({"reasoningContent": {"text": "m"}})),
        delta(0, json!({"reasoningContent": {"signature": "s"}})),
        delta(1, json!({"text": "Hel"})),
        delta(1, json!({"text": "lo"})),
        event(
            "contentBlockStart",
            json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
        ),
        delta(2, json!({"toolUse": {"input": "{\"x\""}})),
        delta(2, json!({"toolUse": {"input": ":1}"}})),
        event("messageStop", json!({"stopReason": "tool_use", "p": "a"})),
        event(
            "metadata",
            json!({"usage": {"totalTokens": 4}, "metrics": {"latencyMs": 1}}),
        ),
    ]
    .concat();
    let expected = json!({"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "s"}}}, {"text": "Hello"},
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"x": 1}}}]}},
        "stopReason": "tool_use", "usage": {"totalTokens": 4}, "metrics": {"latencyMs": 1}});
    assert_eq!(of(eventstream::CONTENT_TYPE, &stream), Some(expected));
    let cohere = |kind: &str, index: u64, message: Value| json!({"type": kind, "index": index, "delta": {"message": message}});
    let documents = [
        json!({"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant", "content": []}}}),
        cohere("tool-plan-delta", 0, json!({"tool_plan": "I "})),
        cohere("tool-plan-delta", 0, json!({"tool_plan": "will"})),
        cohere(
            "content-start",
            0,
            json!({"content": {"type": "text", "text": ""}}),
        ),
        cohere("content-delta", 0, json!({"content": {"text": "Hel"}})),
        cohere("content-delta", 0, json!({"content": {"text": "lo"}})),
        cohere(
            "tool-call-start",
            0,
            json!({"tool_calls": {"id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}}),
        ),
        cohere(
            "tool-call-delta",
            0,
            json!({"tool_calls": {"function": {"arguments": "{}"}}}),
        ),
        cohere(
            "citation-start",
            0,
            json!({"citations": {"start": 0, "text": "Hel"}}),
        ),
        json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 1}}}}),
    ];
    assert_eq!(
        assembled(&documents),
        json!({"id": "i", "finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 1}},
            "message": {"role": "assistant", "tool_plan": "I will", "content": [{"type": "text", "text": "Hello"}],
                "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                "citations": [{"start": 0, "text": "Hel"}]}})
    );
    let words = assembled(&[
        json!({"response": "Hel", "p": "ab"}),
        json!({"response": "lo", "p": "abcd"}),
        json!({"response": "", "usage": {"total_tokens": 2}}),
    ]);
    assert_eq!(
        words,
        json!({"response": "Hello", "usage": {"total_tokens": 2}})
    );
}

#[test]
fn what_is_no_known_stream_stays_as_it_is() {
    for (kind, body) in [
        (
            SSE,
            "data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\n",
        ),
        (SSE, "data: 7\n\ndata: \"x\"\n\n"),
        (SSE, ""),
        ("application/json", r#"{"choices":[]}"#),
        ("application/json", "[1,2]"),
        ("text/plain", "data: {\"choices\":[]}\n\n"),
        (eventstream::CONTENT_TYPE, "not a message at all"),
    ] {
        assert_eq!(assemble(Some(kind), body.as_bytes()), None, "{kind} {body}");
        assert_eq!(readable(Some(kind), body.as_bytes()), None);
    }
    assert_eq!(assemble(None, b"data: {\"choices\":[]}\n\n"), None);
}

/// Values whose members are those that makers look at, of any type.
fn anything() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 24] = [
        "type",
        "message",
        "choices",
        "delta",
        "index",
        "content",
        "parts",
        "candidates",
        "usage",
        "response",
        "item",
        "part",
        "output_index",
        "content_index",
        "content_block",
        "input",
        "tool_calls",
        "text",
        "contentBlockIndex",
        "start",
        "toolUse",
        "reasoningContent",
        "error",
        "citation",
    ];
    const TEXTS: [&str; 14] = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "text_delta",
        "input_json_delta",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "message-start",
        "content-delta",
        "tool-call-start",
        "message-end",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3u64).prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let name = proptest::sample::select(&NAMES[..]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..5).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_stream_is_a_panic(documents in proptest::collection::vec(anything(), 0..6), names in proptest::collection::vec(0..5usize, 6)) {
        let _ = of(SSE, sse(&documents).as_bytes());
        let events = ["messageStart", "contentBlockStart", "contentBlockDelta", "messageStop", "chunk"];
        let stream: Vec<u8> = documents.iter().zip(names).flat_map(|(document, name)| {
            message(&header(":event-type", events[name]), document.to_string().as_bytes())
        }).collect();
        let _ = of(eventstream::CONTENT_TYPE, &stream);
        for makers in ["message_start", "message-start", "response.x"] {
            let first = json!({"type": makers});
            let all: Vec<Value> = std::iter::once(first).chain(documents.clone()).collect();
            let _ = of(SSE, sse(&all).as_bytes());
        }
    }
}
