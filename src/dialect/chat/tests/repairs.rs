//! Answers of chat providers on their way to a chat client.

use proptest::prelude::*;

use super::streams::{any_chunk, broken_calls, calls, chunk, data, fed, stream};
use super::*;

fn repaired(slug: Slug, include_usage: bool, text: &str) -> (String, Option<Failure>) {
    let mut repair = Repair::new(slug, include_usage, "abc");
    let (out, failure) = fed(&mut repair, text.as_bytes(), &[]);
    (String::from_utf8(out).unwrap(), failure)
}

fn good(slug: Slug, include_usage: bool, chunks: &[Value]) -> Vec<Value> {
    let (out, failure) = repaired(slug, include_usage, &stream(chunks));
    assert_eq!(failure, None);
    data(out.as_bytes())
}

fn usage() -> Value {
    json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
}

fn with_usage(mut chunk: Value) -> Value {
    chunk["usage"] = usage();
    chunk
}

fn only_usage() -> Value {
    let mut chunk = with_usage(chunk(json!({}), Value::Null));
    chunk["choices"] = json!([]);
    chunk
}

fn hello_chunks() -> Vec<Value> {
    vec![
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"content": "hi"}), Value::Null),
        chunk(json!({}), json!("stop")),
    ]
}

#[test]
fn who_needs_no_repair_is_left_alone() {
    assert!(!needs_repair(Slug::OpenAi, true));
    assert!(needs_repair(Slug::OpenAi, false));
    assert!(!needs_repair(Slug::Baseten, true));
    for slug in [
        Slug::Groq,
        Slug::OpenRouter,
        Slug::Mistral,
        Slug::AzureOpenAi,
        Slug::Custom,
    ] {
        assert!(needs_repair(slug, true), "{slug:?}");
    }
    assert!(!answer_needs_repair(Slug::OpenAi));
    assert!(!answer_needs_repair(Slug::AzureOpenAi));
    assert!(answer_needs_repair(Slug::OpenRouter));
}

#[test]
fn usage_that_was_not_asked_for_is_hidden_and_all_else_keeps_its_bytes() {
    let kept = ": a comment\n\ndata: {\"choices\" : [{\"index\":0,\"delta\":{\"content\":\"hi \\\"usage\\\":{\"}}],\"usage\":null,\"obfuscation\":\"x\"}\n\ndata: {\"choices\":[],\"moderation\":{}}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let text = format!("{kept}data: {}\n\ndata: [DONE]\n\n", only_usage());
    let (out, failure) = repaired(Slug::OpenAi, false, &text);
    assert_eq!(failure, None);
    assert_eq!(out, format!("{kept}data: [DONE]\n\n"));
    let (out, _) = repaired(Slug::OpenAi, true, &text);
    assert_eq!(out, text);
}

#[test]
fn usage_stands_alone_wherever_it_came() {
    let mut last_choice = hello_chunks();
    last_choice[2] = with_usage(last_choice[2].clone());
    let every: Vec<Value> = hello_chunks().into_iter().map(with_usage).collect();
    let mut with_choice = hello_chunks();
    with_choice.push(with_usage(chunk(
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    )));
    let mut groq = hello_chunks();
    groq[2]["x_groq"] = json!({"id": "r", "usage": usage()});
    let mut groq_twice = groq.clone();
    groq_twice.push(only_usage());
    for (slug, chunks) in [
        (Slug::DeepSeek, &last_choice),
        (Slug::Mistral, &last_choice),
        (Slug::Fireworks, &last_choice),
        (Slug::PerplexityAi, &every),
        (Slug::OpenRouter, &with_choice),
        (Slug::Groq, &groq),
        (Slug::Groq, &groq_twice),
    ] {
        let out = good(slug, true, chunks);
        let [.., finish, told, done] = &out[..] else {
            panic!("{slug:?}: {out:?}");
        };
        assert_eq!(finish["choices"][0]["finish_reason"], "stop", "{slug:?}");
        assert_eq!(told["choices"], json!([]), "{slug:?}");
        assert_eq!(told["usage"], usage(), "{slug:?}");
        assert_eq!(told["id"], "c1");
        assert_eq!(done, "[DONE]");
        assert!(
            out[..out.len() - 2]
                .iter()
                .all(|chunk| chunk.get("usage").is_none())
        );
        assert_eq!(out.len(), 5, "{slug:?}: {out:?}");
        let out = good(slug, false, chunks);
        assert!(
            out.iter().all(|chunk| chunk.get("usage").is_none()),
            "{slug:?}"
        );
        assert_eq!(out.len(), 4, "{slug:?}: {out:?}");
    }
}

#[test]
fn thoughts_are_told_under_the_name_that_clients_know() {
    for slug in [Slug::Groq, Slug::Cerebras, Slug::OpenRouter, Slug::Custom] {
        let mut chunks = hello_chunks();
        chunks[1] = chunk(
            json!({"reasoning": "hm", "channel": "analysis"}),
            Value::Null,
        );
        let out = good(slug, true, &chunks);
        assert_eq!(
            out[1]["choices"][0]["delta"],
            json!({"reasoning": "hm", "channel": "analysis", "reasoning_content": "hm"})
        );
    }
    let mut chunks = hello_chunks();
    chunks[1] = chunk(
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "x"}]}),
        Value::Null,
    );
    let out = good(Slug::Mistral, true, &chunks);
    assert_eq!(
        out[1]["choices"][0]["delta"],
        json!({"content": "x", "reasoning_content": "hm"})
    );
}

#[test]
fn azures_remarks_go_and_its_choices_are_whole() {
    let remark = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []});
    let mut filter = chunk(json!({}), Value::Null);
    filter["choices"][0]
        .as_object_mut()
        .unwrap()
        .remove("delta");
    filter["choices"][0]["content_filter_offsets"] = json!({"check_offset": 1});
    let mut chunks = vec![remark];
    chunks.extend(hello_chunks());
    chunks.insert(3, filter);
    let out = good(Slug::AzureOpenAi, true, &chunks);
    assert_eq!(out.len(), 5);
    assert_eq!(out[0], hello_chunks()[0]);
    assert_eq!(out[2]["choices"][0]["delta"], json!({}));
}

#[test]
fn ends_come_once_in_words_that_clients_know() {
    let role = json!({"role": "assistant", "content": "x"});
    let mut doubled = vec![
        chunk(role.clone(), Value::Null),
        chunk(role.clone(), Value::Null),
        chunk(json!({"role": "assistant", "content": ""}), json!("stop")),
        chunk(json!({"role": "assistant", "content": ""}), json!("stop")),
    ];
    let out = good(Slug::OpenRouter, true, &doubled);
    assert_eq!(out[0]["choices"][0]["delta"], role);
    assert_eq!(out[1]["choices"][0]["delta"], json!({"content": "x"}));
    assert_eq!(out[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(out.len(), 4);
    doubled[2] = chunk(json!({"content": ""}), json!("eos_token"));
    let out = good(Slug::HuggingFace, true, &doubled);
    assert_eq!(out[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(out[2]["choices"][0]["native_finish_reason"], "eos_token");
    let xai = [
        chunk(json!({"content": ""}), json!("")),
        chunk(
            json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
            Value::Null,
        ),
        chunk(json!({}), json!("")),
    ];
    let out = good(Slug::Grok, true, &xai);
    assert_eq!(out[0]["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(out[2]["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn calls_are_numbered_without_gaps() {
    for (name, chunks, expected) in broken_calls() {
        let out = good(Slug::Custom, true, &chunks);
        assert_eq!(calls(&out), expected, "{name}");
    }
}

#[test]
fn xais_completion_holds_its_reasoning() {
    let told = |total: u64| json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": 7}});
    for (total, completion) in [(22, 12), (15, 5)] {
        let mut chunks = hello_chunks();
        let mut last = only_usage();
        last["usage"] = told(total);
        chunks.push(last);
        let out = good(Slug::Grok, true, &chunks);
        assert_eq!(out[3]["usage"]["completion_tokens"], completion);
        let answer = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": told(total)});
        let answer = repair_answer(Slug::Grok, answer, "abc").unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], completion);
    }
}

#[test]
fn errors_inside_end_the_stream_in_openais_way() {
    let start = format!("data: {}\n\n", hello_chunks()[1]);
    let mut inside = chunk(json!({"content": ""}), json!("error"));
    inside["error"] = json!({"code": 502, "message": "gone"});
    inside["user_id"] = json!("u");
    for (slug, text, status) in [
        (
            Slug::OpenRouter,
            format!("{start}{}", stream(&[inside])),
            502,
        ),
        (
            Slug::Groq,
            format!(
                "{start}event: error\ndata: {{\"error\":{{\"message\":\"bad\",\"code\":\"tool_use_failed\",\"status_code\":400}}}}\n\n"
            ),
            400,
        ),
        (
            Slug::OpenAi,
            format!("{start}data: {{\"error\":{{\"message\":\"bad\"}}}}\n\n"),
            502,
        ),
        (
            Slug::DeepSeek,
            format!(
                "{start}{}",
                stream(&[chunk(json!({}), json!("insufficient_system_resource"))])
            ),
            502,
        ),
        (Slug::OpenAi, start.clone(), 502),
    ] {
        let (out, failure) = repaired(slug, true, &text);
        assert!(out.starts_with(&start), "{slug:?}");
        let failure = failure.expect("a failure");
        assert_eq!(failure.status, status, "{slug:?}");
        let last = data(out.as_bytes()).pop().unwrap();
        assert_eq!(last["error"]["message"], failure.message);
        assert!(!out.contains("[DONE]") && !out.contains("event:"));
    }
    let mut repair = Repair::new(Slug::OpenAi, true, "abc");
    let mut out = Vec::new();
    repair.feed(stream(&hello_chunks()).as_bytes(), &mut out);
    repair.end(false, &mut out);
    assert_eq!(repair.failure(), None);
}

#[test]
fn a_missing_end_is_added_when_the_answer_said_its_own() {
    let text = stream(&hello_chunks()).replace("data: [DONE]\n\n", "");
    let (out, failure) = repaired(Slug::PerplexityAi, true, &text);
    assert_eq!(failure, None);
    assert!(out.ends_with("data: [DONE]\n\n"));
    let (out, failure) = repaired(Slug::PerplexityAi, true, text.trim_end());
    assert_eq!(failure, None);
    assert!(out.ends_with("data: [DONE]\n\n"));
}

#[test]
fn whole_answers_are_repaired_too() {
    let answer = |message: Value, finish: &str| json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}], "user_id": "u"});
    let mended =
        |slug, message, finish| repair_answer(slug, answer(message, finish), "abc").unwrap();
    let out = mended(
        Slug::OpenRouter,
        json!({"content": "x", "reasoning": "t"}),
        "eos",
    );
    assert_eq!(
        out,
        json!({"choices": [{"index": 0, "message": {"content": "x", "reasoning": "t", "reasoning_content": "t"}, "finish_reason": "stop", "native_finish_reason": "eos"}]})
    );
    let out = mended(
        Slug::Mistral,
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "x"}]}),
        "stop",
    );
    assert_eq!(
        out["choices"][0]["message"],
        json!({"content": "x", "reasoning_content": "t"})
    );
    let out = mended(
        Slug::WorkersAi,
        json!({"content": null, "tool_calls": [{"name": "f", "arguments": {"a": 1}}]}),
        "stop",
    );
    assert_eq!(
        out["choices"][0]["message"]["tool_calls"],
        json!([{"function": {"name": "f", "arguments": "{\"a\":1}"}, "type": "function", "id": "call_abc0"}])
    );
    assert_eq!(out["choices"][0]["finish_reason"], "stop");
    let out = mended(
        Slug::DeepSeek,
        json!({"content": "x"}),
        "insufficient_system_resource",
    );
    assert_eq!(out["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        out["choices"][0]["native_finish_reason"],
        "insufficient_system_resource"
    );
    let failed = answer(json!({"content": ""}), "error");
    assert_eq!(
        repair_answer(Slug::Mistral, failed, "abc")
            .unwrap_err()
            .status,
        502
    );
    let error = json!({"error": {"code": 402, "message": "no credits"}, "user_id": "u"});
    let failure = repair_answer(Slug::OpenRouter, error, "abc").unwrap_err();
    assert_eq!((failure.status, failure.kind), (402, FailureKind::Billing));
    for odd in [
        json!(7),
        json!([]),
        json!({"choices": 1}),
        json!({"choices": [1, {"message": 2}]}),
    ] {
        let _ = repair_answer(Slug::Custom, odd, "abc");
    }
}

proptest! {
    #[test]
    fn cut_anywhere_a_stream_is_repaired_the_same(
        chunks in proptest::collection::vec(any_chunk(), 0..8),
        cuts in proptest::collection::vec(0usize..4000, 0..6),
        slug in 0usize..7,
        include_usage in any::<bool>(),
        line_end in "\n|\r\n|\r",
    ) {
        let slug = [Slug::OpenAi, Slug::OpenRouter, Slug::Groq, Slug::Mistral, Slug::AzureOpenAi, Slug::Custom, Slug::Grok][slug];
        let text = format!(": note\n\n{}", stream(&chunks)).replace('\n', &line_end);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let every: Vec<usize> = (0..text.len()).collect();
        let with = |cuts: &[usize]| fed(&mut Repair::new(slug, include_usage, "abc"), text.as_bytes(), cuts);
        let whole = with(&[]);
        prop_assert_eq!(&whole, &with(&cuts));
        prop_assert_eq!(&whole, &with(&every));
        if include_usage || !needs_repair(slug, false) {
            return Ok(());
        }
        let told = String::from_utf8(whole.0).unwrap().contains("\"usage\":{");
        prop_assert!(!told);
    }
}
