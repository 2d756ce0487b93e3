//! Whole answers and errors.

use std::time::Duration;

use super::*;
use crate::meter::Usage;

fn answer(message: Value, finish: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m-1", "choices": [
        {"index": 0, "message": message, "logprobs": null, "finish_reason": finish},
    ], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
}

fn parts(message: Value, finish: &str) -> Vec<PartKind> {
    let read = read_answer(answer(message, finish), &terms()).unwrap();
    let choice = read.choices.into_iter().next().unwrap();
    choice.parts.into_iter().map(|part| part.kind).collect()
}

#[test]
fn an_answer_comes_through_as_it_was() {
    let message = json!({"role": "assistant", "content": "x", "refusal": null, "reasoning_content": "t",
    "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0}],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 1}}],
    "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}, "extra_content": {"google": {"thought_signature": "g"}}},
        {"id": "d", "type": "custom", "custom": {"name": "g", "input": "free"}},
    ]});
    let mut body = answer(message, "tool_calls");
    body["choices"][0]["logprobs"] =
        json!({"content": [{"token": "x", "logprob": -1.0, "bytes": null, "top_logprobs": []}]});
    body["service_tier"] = json!("default");
    let mut read = read_answer(body.clone(), &terms()).unwrap();
    assert_eq!(read.usage, None);
    read.usage = Some(Usage {
        input: 1,
        output: 2,
        total: 3,
        ..Usage::default()
    });
    let mut written = write_answer(&read, &terms());
    assert_eq!(written["usage"]["prompt_tokens"], 1);
    assert_eq!(
        written["usage"]["completion_tokens_details"]["reasoning_tokens"],
        0
    );
    written["usage"] = body["usage"].clone();
    assert_eq!(written, body);
}

#[test]
fn content_is_null_or_empty_and_calls_are_absent_as_openai_has_it() {
    let calls =
        json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]);
    for (message, finish, content, has_calls) in [
        (
            json!({"content": "", "tool_calls": calls}),
            "tool_calls",
            Value::Null,
            true,
        ),
        (
            json!({"content": "", "tool_calls": []}),
            "stop",
            json!(""),
            false,
        ),
        (
            json!({"content": null, "tool_calls": null}),
            "stop",
            json!(""),
            false,
        ),
        (
            json!({"content": null, "refusal": "no"}),
            "stop",
            Value::Null,
            false,
        ),
    ] {
        let read = read_answer(answer(message, finish), &terms()).unwrap();
        let written = write_answer(&read, &terms());
        let message = &written["choices"][0]["message"];
        assert_eq!(message["content"], content);
        assert_eq!(message.get("tool_calls").is_some(), has_calls);
        if has_calls {
            assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{}");
        }
    }
}

#[test]
fn what_the_provider_leaves_out_is_made() {
    let body = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]});
    let read = read_answer(body, &terms()).unwrap();
    let written = write_answer(&read, &terms());
    assert_eq!(written["id"], "chatcmpl-abc");
    assert_eq!(written["created"], 7);
    assert_eq!(written["model"], "m");
    assert!(written.get("usage").is_none());
    let flat = json!({"content": null, "tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"function": {"name": "g"}}]});
    let [PartKind::ToolUse(first), PartKind::ToolUse(second)] = &parts(flat, "stop")[..] else {
        panic!("two calls");
    };
    assert_eq!(
        (first.id.as_str(), first.arguments.as_str()),
        ("call_abc0", "{\"a\":1}")
    );
    assert_eq!(
        (second.id.as_str(), second.arguments.as_str()),
        ("call_abc1", "{}")
    );
    let nameless = answer(json!({"tool_calls": [{"id": "c", "function": {}}]}), "stop");
    assert_eq!(read_answer(nameless, &terms()).unwrap_err().status, 502);
}

#[test]
fn mistrals_parts_and_others_thoughts_are_told_apart() {
    let thinking = |text: &str| PartKind::Thinking {
        text: text.to_owned(),
        signature: None,
    };
    let content = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"type": "text", "text": "c"}, {"type": "text", "text": "d"}]);
    assert_eq!(
        parts(json!({"content": content}), "stop"),
        [thinking("ab"), Part::text("cd").kind]
    );
    assert_eq!(
        parts(json!({"content": "x", "reasoning": "t"}), "stop"),
        [thinking("t"), Part::text("x").kind]
    );
    assert_eq!(
        parts(
            json!({"content": "x", "reasoning": "t", "reasoning_details": [{"type": "reasoning.summary", "summary": "t"}]}),
            "stop"
        ),
        [thinking("t"), Part::text("x").kind]
    );
    assert_eq!(
        parts(json!({"content": {"a": 1}}), "stop"),
        [Part::text("{\"a\":1}").kind]
    );
}

#[test]
fn pages_that_were_read_become_citations() {
    let mut body = answer(json!({"content": "x"}), "stop");
    body["citations"] = json!(["https://a"]);
    body["search_results"] = json!([{"url": "https://a", "title": "A"}]);
    let read = read_answer(body, &terms()).unwrap();
    let written = write_answer(&read, &terms());
    assert_eq!(
        written["choices"][0]["message"]["annotations"],
        json!([{"type": "url_citation", "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 0}}])
    );
}

#[test]
fn finish_reasons_are_openais_and_the_native_one_is_kept() {
    for (given, message, written, native) in [
        ("stop", json!({"content": "x"}), "stop", Value::Null),
        ("eos", json!({"content": "x"}), "stop", json!("eos")),
        (
            "model_length",
            json!({"content": "x"}),
            "length",
            json!("model_length"),
        ),
        ("error", json!({"content": "x"}), "stop", json!("error")),
        (
            "insufficient_system_resource",
            json!({"content": "x"}),
            "stop",
            json!("insufficient_system_resource"),
        ),
        (
            "",
            json!({"tool_calls": [{"id": "c", "function": {"name": "f"}}]}),
            "tool_calls",
            Value::Null,
        ),
    ] {
        let read = read_answer(answer(message, given), &terms()).unwrap();
        let choice = write_answer(&read, &terms())["choices"][0].clone();
        assert_eq!(choice["finish_reason"], written, "{given}");
        assert_eq!(
            choice
                .get("native_finish_reason")
                .cloned()
                .unwrap_or_default(),
            native
        );
    }
    for word in ["error", "insufficient_system_resource"] {
        let failure = read_answer(answer(json!({"content": ""}), word), &terms()).unwrap_err();
        assert_eq!((failure.status, failure.retryable), (502, true));
    }
}

#[test]
fn a_filter_that_explains_itself_is_a_refusal() {
    let mut read =
        read_answer(answer(json!({"content": null}), "content_filter"), &terms()).unwrap();
    read.choices[0].stop.explanation = Some("not this".to_owned());
    let message = write_answer(&read, &terms())["choices"][0]["message"].clone();
    assert_eq!(message["refusal"], "not this");
    assert_eq!(message["content"], Value::Null);
}

#[test]
fn the_tier_is_told_in_words_that_openais_sdk_takes() {
    let message = json!({"role": "assistant", "content": "x"});
    let mut read = read_answer(answer(message, "stop"), &terms()).unwrap();
    for (tier, told) in [
        ("standard", json!("default")),
        ("priority", json!("priority")),
        ("flex", json!("flex")),
        ("batch", Value::Null),
        ("on_demand", Value::Null),
    ] {
        read.service_tier = Some(tier.to_owned());
        assert_eq!(
            write_answer(&read, &terms())["service_tier"],
            told,
            "{tier}"
        );
    }
}

#[test]
fn calls_go_back_as_functions_to_clients_of_old() {
    let call = json!({"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let read = read_answer(answer(call, "tool_calls"), &terms()).unwrap();
    let legacy = Terms {
        legacy_calls: true,
        ..terms()
    };
    let choice = write_answer(&read, &legacy)["choices"][0].clone();
    assert_eq!(
        choice["message"]["function_call"],
        json!({"name": "f", "arguments": "{}"})
    );
    assert!(choice["message"].get("tool_calls").is_none());
    assert_eq!(choice["finish_reason"], "function_call");
}

#[test]
fn a_200_may_hold_an_error() {
    for (body, status, message) in [
        (
            json!({"error": {"code": 429, "message": "slow", "metadata": {"raw": "upstream says no", "provider_name": "P"}}, "user_id": "u"}),
            429,
            "slow: upstream says no",
        ),
        (json!({"error": "text", "code": "x"}), 502, "text"),
        (json!({"choices": [], "error": {"message": "m"}}), 502, "m"),
        (
            json!({"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": {"code": 503, "message": "m"}}]}),
            503,
            "m",
        ),
        (
            json!({"choices": []}),
            502,
            "The provider's answer has no choices",
        ),
        (json!(7), 502, "The provider's answer has no choices"),
    ] {
        let failure = read_answer(body, &terms()).unwrap_err();
        assert_eq!(
            (failure.status, failure.message.as_str()),
            (status, message)
        );
        assert!(failure.retryable);
    }
}

#[test]
fn every_envelope_of_an_error_is_read() {
    let read = |status: u16, body: Value| read_error(status, None, body.to_string().as_bytes());
    for (status, body, message, code, param) in [
        (
            400,
            json!({"error": {"message": "m", "type": "invalid_request_error", "param": "p", "code": "c"}}),
            "m",
            Some("c"),
            Some("p"),
        ),
        (
            429,
            json!({"error": {"message": "m", "type": "tokens", "param": null, "code": null}}),
            "m",
            Some("tokens"),
            None,
        ),
        (
            400,
            json!({"code": "Client specified an invalid argument", "error": "m"}),
            "m",
            Some("Client specified an invalid argument"),
            None,
        ),
        (
            402,
            json!({"error": {"code": 402, "message": "m"}, "user_id": "u"}),
            "m",
            Some("402"),
            None,
        ),
        (
            400,
            json!({"object": "error", "message": "m", "type": "invalid_request", "param": null, "code": "1"}),
            "m",
            Some("1"),
            None,
        ),
        (
            422,
            json!({"detail": [{"loc": ["body", "messages", 0], "msg": "field required", "type": "missing"}, {"loc": ["body"], "msg": "x"}]}),
            "messages.0: field required; x",
            None,
            Some("messages.0"),
        ),
        (422, json!({"detail": "m"}), "m", None, None),
        (
            401,
            json!({"error": {"code": "401", "message": "m"}}),
            "m",
            Some("401"),
            None,
        ),
        (500, json!({"error": "m"}), "m", None, None),
        (
            400,
            json!({"error": {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": "g"}}),
            "m",
            Some("tool_use_failed"),
            None,
        ),
    ] {
        let failure = read(status, body.clone());
        assert_eq!(failure.status, status);
        assert_eq!(failure.message, message, "{body}");
        assert_eq!(failure.code.as_deref(), code, "{body}");
        assert_eq!(failure.param.as_deref(), param, "{body}");
        assert_eq!(failure.kind, FailureKind::of_status(status));
        assert_eq!(failure.raw, Some(body.to_string()));
    }
    let page = read_error(503, None, b"<html>bad gateway</html>");
    assert_eq!(page.message, "The provider answered 503");
    assert!(page.retryable);
    assert_eq!(
        read_error(500, None, b" plain words ").message,
        "plain words"
    );
    assert_eq!(read_error(500, None, b"").raw, None);
}

#[test]
fn what_may_be_tried_again_is_told_by_more_than_the_status() {
    let read = |status: u16, body: Value| read_error(status, None, body.to_string().as_bytes());
    let quota = json!({"error": {"message": "m", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}});
    let failure = read(429, quota);
    assert!(!failure.retryable);
    assert_eq!(write_error(&failure)["error"]["type"], "insufficient_quota");
    let workers = |code: u64, message: &str| json!({"success": false, "errors": [{"code": code, "message": message}], "result": null});
    for (code, message, status, retryable) in [
        (3036, "m", 429, false),
        (3040, "m", 429, true),
        (5000, "3040: capacity", 429, true),
        (10000, "m", 401, false),
        (5018, "m", 403, false),
        (3042, "m", 404, false),
        (3006, "m", 413, false),
        (3007, "m", 408, true),
        (9999, "m", 500, true),
    ] {
        let failure = read(500, workers(code, message));
        assert_eq!(
            (failure.status, failure.retryable),
            (status, retryable),
            "{code}"
        );
    }
    let loading = read(
        503,
        json!({"error": "Model x is currently loading", "estimated_time": 20.5}),
    );
    assert_eq!(loading.retry_after, Some(Duration::from_millis(20_500)));
    assert!(loading.retryable);
    assert!(read(498, json!({"error": {"message": "m"}})).retryable);
}

#[test]
fn errors_are_written_in_openais_envelope() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "insufficient_quota"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (529, "server_error"),
    ] {
        let written = write_error(&Failure::of_status(status, "m"));
        assert_eq!(written["error"]["type"], kind, "{status}");
        assert_eq!(written["error"]["message"], "m");
        assert_eq!(written["error"]["param"], Value::Null);
    }
    assert_eq!(
        write_error(&Failure::of_status(529, "m"))["error"]["code"],
        "overloaded"
    );
    assert_eq!(
        write_error(&Failure::of_status(404, "The model x does not exist"))["error"]["code"],
        "model_not_found"
    );
    let raw = Failure::of_status(500, "m")
        .with_code("c")
        .with_raw(b"body");
    assert_eq!(
        write_error(&raw),
        json!({"error": {"message": "m", "type": "server_error", "param": null, "code": "c", "metadata": {"raw": "body"}}})
    );
    assert_eq!(
        write_invalid(&Invalid::unsupported("n", "no")),
        json!({"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "unsupported_parameter"}})
    );
}
