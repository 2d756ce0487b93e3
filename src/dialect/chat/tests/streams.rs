//! Streams from chat to neutral events and back.

use proptest::prelude::*;

use super::*;

/// A stream of these chunks, with its end.
pub fn stream(chunks: &[Value]) -> String {
    let mut text: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    text.push_str("data: [DONE]\n\n");
    text
}

/// A chunk with one choice.
pub fn chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1", "choices": [
        {"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish},
    ]})
}

/// The data of the events of a stream.
pub fn data(stream: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    text.split("\n\n")
        .filter_map(|block| block.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
        .collect()
}

fn translated(bytes: &[u8], cuts: &[usize], terms: &Terms) -> (Vec<u8>, Option<Failure>) {
    let reader = Box::new(StreamReader::new(terms));
    let writer = Box::new(StreamWriter::new(terms));
    let mut translator = Translator::of_sse(reader, writer);
    let (out, failure) = fed(&mut translator, bytes, cuts);
    // Signs of life go by pieces.
    let out = String::from_utf8(out).unwrap().replace(": ping\n\n", "");
    (out.into_bytes(), failure)
}

/// Feeds a stream cut at these places.
pub fn fed(
    transform: &mut dyn Transform,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<u8>, Option<Failure>) {
    let mut out = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().map(|cut| cut % (bytes.len() + 1)) {
        if cut > at {
            transform.feed(&bytes[at..cut], &mut out);
            at = cut;
        }
    }
    transform.feed(&bytes[at..], &mut out);
    transform.end(true, &mut out);
    (out, transform.failure().cloned())
}

fn deltas(out: &[Value]) -> Vec<Value> {
    let choices = out.iter().filter_map(|chunk| chunk.get("choices"));
    choices
        .flat_map(|choices| choices.as_array().unwrap().clone())
        .map(|choice| choice["delta"].clone())
        .collect()
}

fn good(chunks: &[Value]) -> Vec<Value> {
    let (out, failure) = translated(stream(chunks).as_bytes(), &[], &terms());
    assert_eq!(failure, None);
    data(&out)
}

fn bad(text: &str) -> Failure {
    let (out, failure) = translated(text.as_bytes(), &[], &terms());
    let last = data(&out).pop().unwrap();
    let failure = failure.expect("a failure");
    assert_eq!(last["error"]["message"], failure.message, "{last}");
    failure
}

#[test]
fn frames_come_in_openais_order() {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 3}});
    let mut last = chunk(json!({}), Value::Null);
    last["choices"] = json!([]);
    last["usage"] = usage;
    let out = good(&[
        chunk(
            json!({"role": "assistant", "content": "", "refusal": null}),
            Value::Null,
        ),
        chunk(json!({"reasoning_content": "hm"}), Value::Null),
        chunk(json!({"content": "He"}), Value::Null),
        chunk(json!({"content": "llo"}), Value::Null),
        chunk(json!({}), json!("stop")),
        last,
    ]);
    for chunk in &out[..out.len() - 1] {
        assert_eq!(chunk["id"], "c1");
        assert_eq!(chunk["created"], 5);
        assert_eq!(chunk["model"], "m-1");
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    assert_eq!(
        deltas(&out),
        [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "hm"}),
            json!({"content": "He"}),
            json!({"content": "llo"}),
            json!({}),
        ]
    );
    assert_eq!(out[4]["choices"][0]["finish_reason"], "stop");
    assert_eq!(out[0]["usage"], Value::Null);
    assert_eq!(out[5]["choices"], json!([]));
    assert_eq!(out[5]["usage"]["prompt_tokens"], 10);
    assert_eq!(out[5]["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert_eq!(out[6], "[DONE]");
    assert_eq!(out.len(), 7);
}

#[test]
fn usage_is_kept_from_a_client_that_did_not_ask() {
    let mut last = chunk(json!({"content": "x"}), json!("stop"));
    last["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    let silent = Terms {
        include_usage: false,
        ..terms()
    };
    let (out, failure) = translated(stream(&[last]).as_bytes(), &[], &silent);
    assert_eq!(failure, None);
    assert!(!String::from_utf8(out).unwrap().contains("usage"));
}

fn call(fields: Value) -> Value {
    chunk(json!({"tool_calls": [fields]}), Value::Null)
}

/// Index, id, name and arguments.
type Call = (u64, String, String, String);

/// The calls that a client puts together.
pub fn calls(out: &[Value]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for delta in deltas(out) {
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap();
            if calls.len() as u64 == index {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                calls.push((
                    index,
                    text(&call["id"]),
                    text(&call["function"]["name"]),
                    String::new(),
                ));
                assert_eq!(call["type"], "function");
            }
            let fragment = call["function"]["arguments"].as_str().unwrap_or_default();
            calls[index as usize].3.push_str(fragment);
        }
    }
    calls
}

fn expected(calls: &[(&str, &str, &str)]) -> Vec<Call> {
    let calls = calls.iter().enumerate();
    calls
        .map(|(at, (id, name, arguments))| {
            (
                at as u64,
                (*id).to_owned(),
                (*name).to_owned(),
                (*arguments).to_owned(),
            )
        })
        .collect()
}

/// Streams of calls as servers break them, and what they mean.
pub fn broken_calls() -> Vec<(&'static str, Vec<Value>, Vec<Call>)> {
    let end = || chunk(json!({}), json!("tool_calls"));
    let first = |index: Value, id: Value, name: Value, arguments: Value| {
        let mut fields =
            json!({"type": "function", "function": {"name": name, "arguments": arguments}});
        if !index.is_null() {
            fields["index"] = index;
        }
        if !id.is_null() {
            fields["id"] = id;
        }
        call(fields)
    };
    let more = |index: Value, arguments: &str| {
        let mut fields = json!({"function": {"arguments": arguments}});
        if !index.is_null() {
            fields["index"] = index;
        }
        call(fields)
    };
    let two = expected(&[("a", "f", "{\"x\":1}"), ("b", "g", "{\"y\":2}")]);
    vec![
        (
            "as it should be",
            vec![
                first(json!(0), json!("a"), json!("f"), json!("")),
                more(json!(0), "{\"x\":"),
                more(json!(0), "1}"),
                first(json!(1), json!("b"), json!("g"), json!("")),
                more(json!(1), "{\"y\":2}"),
                end(),
            ],
            two.clone(),
        ),
        (
            "interleaved",
            vec![
                first(json!(0), json!("a"), json!("f"), json!("")),
                first(json!(1), json!("b"), json!("g"), json!("{\"y\"")),
                more(json!(0), "{\"x\":1}"),
                more(json!(1), ":2}"),
                end(),
            ],
            two.clone(),
        ),
        (
            "without indices",
            vec![
                first(Value::Null, json!("a"), json!("f"), json!("{\"x\"")),
                more(Value::Null, ":1}"),
                first(Value::Null, json!("b"), json!("g"), json!("{\"y\":2}")),
                end(),
            ],
            two.clone(),
        ),
        (
            "all under index 0, whole",
            vec![
                first(json!(0), json!("a"), json!("f"), json!("{\"x\":1}")),
                first(json!(0), json!("b"), json!("g"), json!("{\"y\":2}")),
                end(),
            ],
            two.clone(),
        ),
        (
            "all under index 0, in fragments",
            vec![
                first(json!(0), json!("a"), json!("f"), json!("")),
                more(json!(0), "{\"x\":1}"),
                first(json!(0), json!("b"), json!("g"), json!("")),
                more(json!(0), "{\"y\":2}"),
                end(),
            ],
            two.clone(),
        ),
        (
            "indices from 1",
            vec![
                first(json!(1), json!("a"), json!("f"), json!("{\"x\":1}")),
                first(json!(2), json!("b"), json!("g"), json!("{\"y\":2}")),
                end(),
            ],
            two.clone(),
        ),
        (
            "another id in every fragment",
            vec![
                first(json!(0), json!("a"), json!("f"), json!("{\"x\"")),
                call(json!({"index": 0, "id": "zzz", "function": {"arguments": ":1}"}})),
                first(json!(1), json!("b"), json!("g"), json!("{\"y\":2}")),
                end(),
            ],
            two.clone(),
        ),
        (
            "arguments that are an object",
            vec![
                first(json!(0), json!("a"), json!("f"), json!({"x": 1})),
                first(json!(1), json!("b"), json!("g"), json!({"y": 2})),
                end(),
            ],
            two,
        ),
        (
            "without ids",
            vec![
                first(json!(0), Value::Null, json!("f"), json!("{\"x\":1}")),
                first(json!(0), Value::Null, json!("g"), json!("{\"y\":2}")),
                end(),
            ],
            expected(&[
                ("call_abc0", "f", "{\"x\":1}"),
                ("call_abc1", "g", "{\"y\":2}"),
            ]),
        ),
    ]
}

#[test]
fn calls_are_told_apart_however_they_are_numbered() {
    for (name, chunks, expected) in broken_calls() {
        let out = good(&chunks);
        assert_eq!(calls(&out), expected, "{name}");
        let finish = &out[out.len() - 2]["choices"][0]["finish_reason"];
        assert_eq!(finish, "tool_calls", "{name}");
    }
}

#[test]
fn a_call_without_arguments_gets_an_empty_object() {
    let out = good(&[
        call(
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ),
        chunk(json!({}), json!("stop")),
    ]);
    assert_eq!(calls(&out), expected(&[("a", "f", "{}")]));
    let last = &out[out.len() - 2]["choices"][0];
    assert_eq!(last["finish_reason"], "tool_calls");
    assert_eq!(last["native_finish_reason"], "stop");
}

#[test]
fn a_name_may_come_late_but_must_come() {
    let early = call(json!({"index": 0, "id": "a", "function": {"arguments": "{\"x\":"}}));
    let late = call(json!({"index": 0, "function": {"name": "f", "arguments": "1}"}}));
    let end = chunk(json!({}), json!("tool_calls"));
    let out = good(&[early.clone(), late, end.clone()]);
    assert_eq!(calls(&out), expected(&[("a", "f", "{\"x\":1}")]));
    let failure = bad(&stream(&[early, end]));
    assert!(failure.message.contains("without a name"));
}

#[test]
fn text_between_calls_opens_a_part_of_its_own() {
    let out = good(&[
        chunk(json!({"content": "a"}), Value::Null),
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}})),
        chunk(json!({"content": "b"}), Value::Null),
        call(json!({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
        chunk(json!({}), json!("tool_calls")),
    ]);
    assert_eq!(calls(&out), expected(&[("a", "f", "{}"), ("b", "g", "{}")]));
    let text: Vec<Value> = deltas(&out)
        .into_iter()
        .filter(|delta| delta.get("content").is_some())
        .collect();
    assert_eq!(
        text,
        [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "a"}),
            json!({"content": "b"})
        ]
    );
}

#[test]
fn thoughts_travel_with_their_signatures() {
    let detail = |fields: Value| {
        let mut detail =
            json!({"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0});
        for (field, value) in fields.as_object().unwrap() {
            detail[field] = value.clone();
        }
        chunk(
            json!({"reasoning": fields.get("text"), "reasoning_details": [detail], "content": "", "role": "assistant"}),
            Value::Null,
        )
    };
    let out = good(&[
        detail(json!({"text": "let "})),
        detail(json!({"text": "me"})),
        detail(json!({"signature": "sig"})),
        chunk(
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "enc", "format": "anthropic-claude-v1"}]}),
            Value::Null,
        ),
        chunk(json!({"content": "x"}), Value::Null),
        chunk(json!({}), json!("stop")),
    ]);
    assert_eq!(
        deltas(&out)[1..5],
        [
            json!({"reasoning_content": "let "}),
            json!({"reasoning_content": "me"}),
            json!({"reasoning_details": [{"type": "reasoning.text", "text": "let me", "signature": "sig", "format": "anthropic-claude-v1", "index": 0}]}),
            json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "enc", "format": "anthropic-claude-v1", "index": 1}]}),
        ]
    );
}

#[test]
fn mistral_flips_from_parts_to_text_and_tells_usage_unasked() {
    let mut last = chunk(json!({"content": ""}), json!("stop"));
    last["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let out = good(&[
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            Value::Null,
        ),
        chunk(
            json!({"content": [{"type": "text", "text": "a"}]}),
            Value::Null,
        ),
        chunk(json!({"content": "b"}), Value::Null),
        last,
    ]);
    assert_eq!(
        deltas(&out)[1..4],
        [
            json!({"reasoning_content": "hm"}),
            json!({"content": "a"}),
            json!({"content": "b"})
        ]
    );
    assert_eq!(out[out.len() - 2]["usage"]["total_tokens"], 3);
}

#[test]
fn what_is_nothing_makes_no_chunk_and_a_second_end_is_none() {
    let azure = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []});
    let mut counted = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    counted["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let out = good(&[
        azure,
        chunk(json!({"role": "assistant", "content": "x"}), Value::Null),
        chunk(json!({"content": ""}), json!("stop")),
        chunk(json!({"content": ""}), json!("stop")),
        counted,
    ]);
    assert_eq!(out[0]["id"], "c1");
    assert_eq!(
        deltas(&out),
        [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "x"}),
            json!({})
        ]
    );
}

#[test]
fn several_answers_keep_apart() {
    let of = |number: u64, text: &str, finish: Value| {
        let mut chunk = chunk(json!({"content": text}), finish);
        chunk["choices"][0]["index"] = json!(number);
        chunk
    };
    let out = good(&[
        of(0, "a", Value::Null),
        of(1, "b", Value::Null),
        of(0, "c", json!("stop")),
        of(1, "d", json!("length")),
    ]);
    let text = |number: u64| -> String {
        let choices = out.iter().filter_map(|chunk| chunk["choices"].get(0));
        choices
            .filter(|choice| choice["index"] == number)
            .filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!((text(0), text(1)), ("ac".to_owned(), "bd".to_owned()));
}

#[test]
fn refusals_pictures_citations_and_log_probabilities_pass() {
    let logprobs = json!({"content": [{"token": "x"}]});
    let mut first = chunk(json!({"content": "x"}), Value::Null);
    first["choices"][0]["logprobs"] = logprobs.clone();
    let cited = json!({"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 1}});
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let out = good(&[
        first,
        chunk(json!({"annotations": [cited]}), Value::Null),
        chunk(json!({"images": [image]}), Value::Null),
        chunk(json!({"refusal": "no"}), Value::Null),
        chunk(json!({}), json!("content_filter")),
    ]);
    assert_eq!(out[2]["choices"][0]["logprobs"], logprobs);
    assert_eq!(
        deltas(&out)[3..6],
        [
            json!({"annotations": [cited]}),
            json!({"images": [image]}),
            json!({"refusal": "no"})
        ]
    );
}

#[test]
fn an_explained_filter_is_told_before_the_end() {
    let mut writer = StreamWriter::new(&terms());
    let mut out = Vec::new();
    writer.write(
        &Event::Start {
            id: None,
            model: None,
            created: None,
        },
        &mut out,
    );
    let stop = Stop {
        explanation: Some("not this".to_owned()),
        ..Stop::with_native(StopReason::Filter, "refusal")
    };
    writer.write(&Event::Stop { choice: 0, stop }, &mut out);
    writer.write(&Event::KeepAlive, &mut out);
    writer.end(&mut out);
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(text.contains(": ping\n\n"));
    let out = data(&out);
    assert_eq!(
        out[1]["choices"][0]["delta"],
        json!({"refusal": "not this"})
    );
    assert_eq!(out[2]["choices"][0]["native_finish_reason"], "refusal");
    assert_eq!(out[0]["id"], "chatcmpl-abc");
    assert_eq!(out[0]["model"], "m");
}

#[test]
fn clients_of_old_get_a_function_call() {
    let legacy = Terms {
        legacy_calls: true,
        ..terms()
    };
    let chunks = [
        call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}})),
        call(json!({"index": 0, "function": {"arguments": "{\"x\":1}"}})),
        chunk(json!({}), json!("tool_calls")),
    ];
    let (out, failure) = translated(stream(&chunks).as_bytes(), &[], &legacy);
    assert_eq!(failure, None);
    let out = data(&out);
    assert_eq!(
        deltas(&out)[1..3],
        [
            json!({"function_call": {"name": "f", "arguments": ""}}),
            json!({"function_call": {"arguments": "{\"x\":1}"}}),
        ]
    );
    assert_eq!(
        out[out.len() - 2]["choices"][0]["finish_reason"],
        "function_call"
    );
    let old = [
        chunk(
            json!({"function_call": {"name": "f", "arguments": ""}}),
            Value::Null,
        ),
        chunk(json!({"function_call": {"arguments": "{}"}}), Value::Null),
        chunk(json!({}), json!("function_call")),
    ];
    assert_eq!(calls(&good(&old)), expected(&[("call_abc0", "f", "{}")]));
}

#[test]
fn errors_in_the_middle_end_the_stream_without_its_mark() {
    let start = format!("data: {}\n\n", chunk(json!({"content": "x"}), Value::Null));
    let groq = "event: error\ndata: {\"error\":{\"message\":\"bad call\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"status_code\":400}}\n\n";
    let failure = bad(&format!("{start}{groq}"));
    assert_eq!(
        (failure.status, failure.code.as_deref()),
        (400, Some("tool_use_failed"))
    );
    let mut inside = chunk(json!({"content": ""}), json!("error"));
    inside["error"] = json!({"code": 502, "message": "gone"});
    assert_eq!(
        bad(&format!("{start}{}", stream(&[inside]))).message,
        "gone"
    );
    let cut = chunk(json!({}), json!("insufficient_system_resource"));
    let failure = bad(&format!("{start}{}", stream(&[cut])));
    assert_eq!(
        failure.code.as_deref(),
        Some("insufficient_system_resource")
    );
    assert_eq!(bad(&start).message, "The provider's stream broke off");
    assert_eq!(bad("").status, 502);
    assert_eq!(bad("data: [DONE]\n\n").status, 502);
    assert_eq!(
        bad(&format!(
            "{start}{{\"error\":{{\"code\":503,\"message\":\"bare\"}}}}"
        ))
        .status,
        503
    );
    assert_eq!(bad(&format!("{start}data: nonsense\n\n")).status, 502);
    let (out, failure) = translated(start.as_bytes(), &[], &terms());
    assert!(failure.is_some() && !String::from_utf8(out).unwrap().contains("[DONE]"));
}

#[test]
fn an_end_without_its_mark_is_an_end_when_every_answer_said_so() {
    let mut text = format!(
        "data: {}\n\n",
        chunk(json!({"content": "x"}), json!("stop"))
    );
    let (out, failure) = translated(text.as_bytes(), &[], &terms());
    assert_eq!(failure, None);
    assert_eq!(data(&out).last(), Some(&json!("[DONE]")));
    text = stream(&[chunk(json!({"content": "x"}), Value::Null)]);
    let (out, failure) = translated(text.as_bytes(), &[], &terms());
    assert_eq!(failure, None);
    let out = data(&out);
    assert_eq!(out[out.len() - 2]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn pages_are_cited_before_the_text_ends() {
    let mut first = chunk(json!({"content": "x"}), Value::Null);
    first["citations"] = json!(["https://a"]);
    let out = good(&[first, chunk(json!({}), json!("stop"))]);
    assert_eq!(
        deltas(&out)[2]["annotations"][0]["url_citation"]["url"],
        "https://a"
    );
}

/// Chunks of all kinds.
pub fn any_chunk() -> impl Strategy<Value = Value> {
    let index = prop_oneof![Just(Value::Null), (0u64..3).prop_map(Value::from)];
    let delta = prop_oneof![
        "[a-zé\\n]{0,5}".prop_map(|text| json!({"content": text})),
        "[a-z]{0,5}".prop_map(|text| json!({"reasoning": text, "role": "assistant"})),
        "[a-z]{0,5}".prop_map(|text| json!({"reasoning_content": text})),
        Just(json!({"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}, {"type": "reasoning.encrypted", "data": "d"}]})),
        (index, "|a|b", "|f|g", "[{}\"a:1]{0,4}").prop_map(|(index, id, name, arguments)| {
            json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]})
        }),
        Just(json!({"refusal": "no"})),
        Just(json!({"content": [{"type": "thinking", "thinking": [{"text": "x"}]}, {"type": "text", "text": "y"}]})),
        Just(json!({})),
        Just(Value::Null),
    ];
    let finish = prop_oneof![
        6 => Just(Value::Null),
        1 => "stop|length|tool_calls|eos|error|".prop_map(Value::from),
    ];
    let usage = prop_oneof![
        4 => Just(Value::Null),
        1 => (0u64..9).prop_map(|count| json!({"prompt_tokens": count, "completion_tokens": 1, "total_tokens": count + 1})),
    ];
    (delta, finish, usage, 0u64..2).prop_map(|(delta, finish, usage, number)| {
        let mut chunk = chunk(delta, finish);
        chunk["choices"][0]["index"] = json!(number);
        chunk["usage"] = usage;
        chunk
    })
}

proptest! {
    #[test]
    fn cut_anywhere_a_stream_says_the_same(
        chunks in proptest::collection::vec(any_chunk(), 0..8),
        cuts in proptest::collection::vec(0usize..4000, 0..6),
        done in any::<bool>(),
    ) {
        let mut text = stream(&chunks);
        if !done {
            text.truncate(text.len() - "data: [DONE]\n\n".len());
        }
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = translated(text.as_bytes(), &[], &terms());
        prop_assert_eq!(&whole, &translated(text.as_bytes(), &cuts, &terms()));
        let every: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&whole, &translated(text.as_bytes(), &every, &terms()));
    }

    #[test]
    fn what_was_written_is_read_the_same(chunks in proptest::collection::vec(any_chunk(), 1..8)) {
        let (once, failure) = translated(stream(&chunks).as_bytes(), &[], &terms());
        if failure.is_none() {
            let (twice, failure) = translated(&once, &[], &terms());
            prop_assert_eq!(failure, None);
            let told = |out: &[u8]| {
                let out = data(out);
                let text = |field: &str| -> String { deltas(&out).iter().filter_map(|delta| delta[field].as_str().map(str::to_owned)).collect() };
                (text("content"), text("reasoning_content"), text("refusal"), out.last().cloned())
            };
            prop_assert_eq!(told(&once), told(&twice));
        }
    }
}
