use super::*;
use crate::dialect::failure::FailureKind;

fn answer(content: Value, stop: &str) -> Value {
    json!({
        "metrics": {"latencyMs": 1}, "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": stop, "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    })
}

#[test]
fn blocks_become_parts() {
    let content = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "YzJsbg=="}},
        {"text": "Calling"},
        {"toolUse": {"input": {"b": 1, "a": 2.50}, "name": "f", "toolUseId": "tooluse_1", "type": "tool_use"}},
        {"toolUse": {"input": {}, "name": "search", "toolUseId": "tooluse_2", "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "tooluse_2", "content": []}},
        {"somethingNew": {}},
        {"toolUse": {"name": "g", "toolUseId": "tooluse_3"}},
    ]);
    let found = read_answer(answer(content.clone(), "tool_use"), &terms(CLAUDE)).unwrap();
    let choice = &found.choices[0];
    assert_eq!(
        choice.parts,
        [
            PartKind::Thinking {
                text: "hm".to_owned(),
                signature: Some(Signature::new(Origin::Anthropic, "sig"))
            }
            .into(),
            PartKind::Redacted(Signature::new(Origin::Anthropic, "c2ln")).into(),
            Part::text("Calling"),
            call("tooluse_1", "f", r#"{"b":1,"a":2.5}"#),
            call("tooluse_3", "g", "{}"),
        ]
    );
    assert_eq!(choice.stop, Stop::new(StopReason::ToolUse));
    assert_eq!((&found.id, &found.model, found.usage), (&None, &None, None));
    let found = read_answer(answer(content, "tool_use"), &terms(NOVA_2)).unwrap();
    let redacted = PartKind::Redacted(Signature::new(Origin::Bedrock, "YzJsbg=="));
    assert_eq!(found.choices[0].parts[1].kind, redacted);
}

#[test]
fn cited_text_and_pictures() {
    let content = json!([
        {"citationsContent": {"content": [{"text": "It "}, {"text": "rains"}], "citations": [
            {"title": "Weather", "location": {"web": {"url": "https://example.com", "domain": "example.com"}},
                "sourceContent": [{"text": "rain"}]},
            {"title": "Own file", "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 4}}},
        ]}},
        {"image": {"format": "png", "source": {"bytes": "aGk="}}},
    ]);
    let found = read_answer(answer(content, "end_turn"), &terms(NOVA)).unwrap();
    let citation = Citation {
        url: "https://example.com".to_owned(),
        title: Some("Weather".to_owned()),
        range: None,
        quote: Some("rain".to_owned()),
    };
    let cited = PartKind::Text {
        text: "It rains".to_owned(),
        citations: vec![citation],
        signature: None,
    };
    assert_eq!(found.choices[0].parts, [cited.into(), image("image/png")]);
}

#[test]
fn reasons_to_stop() {
    let text = json!([{"text": "Hi"}]);
    let tool = json!([{"toolUse": {"input": {}, "name": "f", "toolUseId": "t"}}]);
    let native = Stop::with_native;
    for (content, word, stop) in [
        (&text, "end_turn", Stop::new(StopReason::End)),
        (&text, "stop_sequence", Stop::new(StopReason::StopSequence)),
        (&text, "max_tokens", Stop::new(StopReason::Length)),
        (
            &text,
            "model_context_window_exceeded",
            native(StopReason::Length, "model_context_window_exceeded"),
        ),
        (&tool, "tool_use", Stop::new(StopReason::ToolUse)),
        (&tool, "end_turn", Stop::new(StopReason::ToolUse)),
        (&text, "tool_use", native(StopReason::End, "tool_use")),
        (
            &text,
            "guardrail_intervened",
            native(StopReason::Filter, "guardrail_intervened"),
        ),
        (
            &text,
            "content_filtered",
            native(StopReason::Filter, "content_filtered"),
        ),
        (
            &text,
            "malformed_model_output",
            native(StopReason::End, "malformed_model_output"),
        ),
        (
            &tool,
            "malformed_tool_use",
            native(StopReason::End, "malformed_tool_use"),
        ),
        (&text, "new_word", native(StopReason::End, "new_word")),
    ] {
        let found = read_answer(answer(content.clone(), word), &terms(CLAUDE)).unwrap();
        assert_eq!(found.choices[0].stop, stop, "{word}");
    }
    for word in ["malformed_model_output", "malformed_tool_use"] {
        let failure = read_answer(answer(json!([]), word), &terms(CLAUDE)).unwrap_err();
        assert_eq!((failure.status, failure.code.as_deref()), (502, Some(word)));
        assert!(failure.retryable);
    }
    let mut body = answer(text, "stop_sequence");
    body["additionalModelResponseFields"] = json!({"stop_sequence": "END"});
    body["serviceTier"] = json!({"type": "flex"});
    let found = read_answer(body, &terms(CLAUDE)).unwrap();
    assert_eq!(found.choices[0].stop.sequence.as_deref(), Some("END"));
    assert_eq!(found.service_tier.as_deref(), Some("flex"));
}

#[test]
fn tricks_are_undone() {
    let content =
        json!([{"toolUse": {"input": {"a": 1}, "name": "json_output", "toolUseId": "t"}}]);
    let terms = Terms {
        unwrap: Unwrap::Tool("json_output".to_owned()),
        ..terms(CLAUDE)
    };
    let found = read_answer(answer(content, "tool_use"), &terms).unwrap();
    assert_eq!(found.choices[0].parts, [Part::text(r#"{"a":1}"#)]);
    assert_eq!(found.choices[0].stop.reason, StopReason::End);
}

#[test]
fn a_success_that_holds_none_is_a_failure() {
    for (body, status, word) in [
        (
            json!({"message": "Too busy", "__type": "x#ThrottlingException"}),
            429,
            "Too busy",
        ),
        (json!({}), 502, "no message"),
        (json!([]), 502, "no message"),
        (json!({"output": {"message": {}}}), 502, "no message"),
    ] {
        let failure = read_answer(body.clone(), &terms(CLAUDE)).unwrap_err();
        assert_eq!(failure.status, status, "{body}");
        assert!(failure.message.contains(word), "{}", failure.message);
    }
}

#[test]
fn errors_are_told_by_header_body_and_status() {
    let message = br#"{"message":"Bad thing"}"#.as_slice();
    let header = "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/";
    for (status, kind, body, code, failure_kind, retryable) in [
        (
            400,
            Some(header),
            message,
            "ValidationException",
            FailureKind::InvalidRequest,
            false,
        ),
        (
            403,
            Some("AccessDeniedException"),
            br#"{"Message":"Bad thing"}"#.as_slice(),
            "AccessDeniedException",
            FailureKind::Permission,
            false,
        ),
        (
            404,
            Some("ResourceNotFoundException"),
            message,
            "ResourceNotFoundException",
            FailureKind::NotFound,
            false,
        ),
        (
            408,
            Some("ModelTimeoutException"),
            message,
            "ModelTimeoutException",
            FailureKind::Timeout,
            true,
        ),
        (
            424,
            Some("ModelErrorException"),
            message,
            "ModelErrorException",
            FailureKind::Server,
            true,
        ),
        (
            429,
            None,
            br#"{"__type":"com.amazon#ThrottlingException","message":"Bad thing"}"#.as_slice(),
            "ThrottlingException",
            FailureKind::RateLimit,
            true,
        ),
        (
            500,
            Some("InternalServerException"),
            message,
            "InternalServerException",
            FailureKind::Server,
            true,
        ),
        (
            503,
            Some("ServiceUnavailableException"),
            message,
            "ServiceUnavailableException",
            FailureKind::Overloaded,
            true,
        ),
    ] {
        let failure = read_error(status, kind, body);
        assert_eq!(failure.message, "Bad thing");
        assert_eq!(failure.code.as_deref(), Some(code));
        assert_eq!(
            (failure.status, failure.kind, failure.retryable),
            (status, failure_kind, retryable)
        );
    }
    let unknown = read_error(
        400,
        Some("ValidationException"),
        br#"{"message":"The provided model identifier is invalid."}"#,
    );
    assert_eq!(
        (
            unknown.status,
            unknown.code.as_deref(),
            unknown.param.as_deref()
        ),
        (400, Some("model_not_found"), Some("model"))
    );
    let bare = read_error(502, None, b"<html>Bad Gateway</html>");
    assert_eq!(
        (bare.message.as_str(), bare.raw.as_deref()),
        ("Bedrock answered 502", Some("<html>Bad Gateway</html>"))
    );
    assert_eq!(
        read_error(429, Some("ThrottlingException"), b"").message,
        "ThrottlingException"
    );
}

/// Recorded exchanges lie outside of the repository; `RINGGATE_RECORDED` names their folder.
#[cfg(test)]
#[test]
fn recorded_answers_are_read() {
    let Some(folder) = std::env::var_os("RINGGATE_RECORDED") else {
        return;
    };
    let file = std::path::Path::new(&folder).join("aws-bedrock.jsonl");
    let mut read = 0;
    for line in std::fs::read_to_string(file)
        .expect("recorded exchanges")
        .lines()
    {
        let exchange: Value = serde_json::from_str(line).expect("JSON");
        let path = exchange["path"].as_str().expect("a path");
        let Some(model) = path
            .strip_prefix("/model/")
            .and_then(|path| path.strip_suffix("/converse"))
        else {
            continue;
        };
        let status = exchange["status"].as_u64().expect("a status") as u16;
        let text = exchange["resp_body"].as_str().expect("a body");
        let model = model.replace("%3A", ":");
        read += 1;
        if status >= 400 {
            let failure = read_error(status, None, text.as_bytes());
            assert_eq!(failure.status, status);
            assert!(!failure.message.is_empty());
            continue;
        }
        let body: Value = serde_json::from_str(text).expect("JSON");
        let answer = read_answer(body, &terms(&model)).expect("an answer");
        assert!(!answer.choices[0].parts.is_empty(), "{}", exchange["id"]);
    }
    assert!(read > 10);
}
