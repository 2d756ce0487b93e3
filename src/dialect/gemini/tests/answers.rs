use super::*;

fn read(body: Value, tools: &[&str]) -> Result<Answer, Failure> {
    read_answer(body, &terms(tools))
}

fn one(candidate: Value, tools: &[&str]) -> Result<Choice, Failure> {
    let answer = read(json!({"candidates": [candidate]}), tools)?;
    assert_eq!(answer.choices.len(), 1);
    Ok(answer.choices.into_iter().next().expect("one"))
}

#[test]
fn an_answer_says_who_and_when() {
    let body = json!({
        "candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "modelVersion": "gemini-2.5-flash", "responseId": "MeuT", "createTime": "2026-02-17T04:28:26.569950Z",
        "usageMetadata": {"promptTokenCount": 1},
    });
    let answer = read(body, &[]).unwrap();
    assert_eq!(answer.id.as_deref(), Some("MeuT"));
    assert_eq!(answer.model.as_deref(), Some("gemini-2.5-flash"));
    assert_eq!(answer.created, Some(1_771_302_506));
    assert_eq!(answer.choices[0].parts, [Part::text("Hi")]);
    assert_eq!(answer.choices[0].stop, Stop::new(StopReason::End));
}

#[test]
fn each_kind_of_part_is_read() {
    let choice = one(
        json!({"content": {"parts": [
            {"text": "hm", "thought": true},
            {"text": "So", "thoughtSignature": "c2ln"},
            {"executableCode": {"code": "1"}, "thoughtSignature": "eA"},
            {"codeExecutionResult": {"output": "1"}},
            {"toolCall": {}}, {"toolResponse": {}},
            {"text": "more"},
            {"text": "", "thoughtSignature": "ZW5k"},
            {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
            {"inlineData": {"mimeType": "image/png", "data": "QUJD"}, "thought": true},
            {"functionCall": {"name": "f", "args": {"z": 1, "a": "b"}, "id": "96c1su3s"}, "thoughtSignature": "Zg"},
            {"functionCall": {"name": "g"}},
            {"text": "", "thoughtSignature": "bGFzdA"},
            {"text": ""},
            7, {"functionCall": 7}, {"inlineData": 1}, {"text": 1}, {"fileData": []},
        ]}, "finishReason": "STOP"}),
        &["f", "g"],
    )
    .unwrap();
    let text = |text: &str, data: &str| {
        Part::from(PartKind::Text {
            text: text.to_owned(),
            citations: Vec::new(),
            signature: Some(google(data)),
        })
    };
    let picture = PartKind::Image {
        media: Media::Inline {
            mime: "image/png".to_owned(),
            data: "QUJD".to_owned(),
        },
        detail: None,
    };
    let thought = PartKind::Thinking {
        text: "hm".to_owned(),
        signature: None,
    };
    assert_eq!(
        choice.parts,
        [
            thought.into(),
            text("So", "c2ln"),
            text("more", "ZW5k"),
            picture.into(),
            call("96c1su3s", "f", "{\"z\":1,\"a\":\"b\"}", Some(google("Zg"))),
            call("call_Ab12_2", "g", "{}", None),
            PartKind::Redacted(google("bGFzdA")).into(),
        ]
    );
    assert_eq!(choice.stop, Stop::new(StopReason::ToolUse));
}

#[test]
fn every_finish_reason_has_a_word() {
    let finish = |reason: &str| {
        let candidate = json!({"content": {"parts": [{"text": "x"}]}, "finishReason": reason});
        one(candidate, &[]).unwrap().stop
    };
    for (reason, expected, keeps_word) in [
        ("STOP", StopReason::End, false),
        ("MAX_TOKENS", StopReason::Length, false),
        ("CONTINUATION", StopReason::Length, true),
        ("SAFETY", StopReason::Filter, true),
        ("RECITATION", StopReason::Filter, true),
        ("LANGUAGE", StopReason::Filter, true),
        ("BLOCKLIST", StopReason::Filter, true),
        ("PROHIBITED_CONTENT", StopReason::Filter, true),
        ("SPII", StopReason::Filter, true),
        ("IMAGE_SAFETY", StopReason::Filter, true),
        ("IMAGE_PROHIBITED_CONTENT", StopReason::Filter, true),
        ("IMAGE_RECITATION", StopReason::Filter, true),
        ("MODEL_ARMOR", StopReason::Filter, true),
        ("ESCALATION", StopReason::Filter, true),
        ("MALFORMED_FUNCTION_CALL", StopReason::End, true),
        ("UNEXPECTED_TOOL_CALL", StopReason::End, true),
        ("TOO_MANY_TOOL_CALLS", StopReason::End, true),
        ("MALFORMED_RESPONSE", StopReason::End, true),
        ("MISSING_THOUGHT_SIGNATURE", StopReason::End, true),
        ("OTHER", StopReason::End, true),
        ("IMAGE_OTHER", StopReason::End, true),
        ("NO_IMAGE", StopReason::End, true),
        ("FINISH_REASON_UNSPECIFIED", StopReason::End, true),
        ("SOMETHING_NEW", StopReason::End, true),
    ] {
        let stop = finish(reason);
        assert_eq!(stop.reason, expected, "{reason}");
        assert_eq!(stop.native.as_deref(), keeps_word.then_some(reason));
    }
}

#[test]
fn an_answer_that_came_to_nothing_is_an_error() {
    for reason in [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    ] {
        let candidate =
            json!({"content": {"role": "model"}, "finishReason": reason, "finishMessage": "why"});
        let failure = one(candidate, &[]).unwrap_err();
        assert_eq!(
            (failure.status, failure.code.as_deref()),
            (502, Some(reason))
        );
        assert!(failure.retryable && failure.message.contains("why"));
    }
    assert_eq!(read(json!({}), &[]).unwrap_err().status, 502);
    for odd in [
        json!([]),
        json!("x"),
        json!(null),
        json!({"candidates": [7, {"content": 3}]}),
    ] {
        let _ = read(odd, &[]);
    }
}

#[test]
fn unexpected_calls_of_declared_functions_are_calls() {
    let candidate = |text: &str| {
        json!({"content": {"parts": [{"text": text}, {"functionCall": {"name": "list_files", "args": {}}}]},
               "finishReason": "UNEXPECTED_TOOL_CALL", "finishMessage": "Model tried to call an undeclared function"})
    };
    let known = one(candidate(""), &["list_files"]).unwrap();
    let stop = Stop::with_native(StopReason::ToolUse, "UNEXPECTED_TOOL_CALL");
    assert_eq!((known.parts.len(), known.stop), (1, stop));
    assert_eq!(one(candidate(""), &["get_file"]).unwrap_err().status, 502);
    let beside = one(candidate("Hm"), &["get_file"]).unwrap();
    assert_eq!(beside.parts, [Part::text("Hm")]);
    assert_eq!(beside.stop.reason, StopReason::End);
}

#[test]
fn a_bound_that_thinking_used_up_leaves_an_empty_answer() {
    let choice = one(
        json!({"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}),
        &[],
    );
    let choice = choice.unwrap();
    assert_eq!(
        (choice.parts.len(), choice.stop.reason),
        (0, StopReason::Length)
    );
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let body = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "No."},
                      "usageMetadata": {"promptTokenCount": 12}, "modelVersion": "gemini-2.5-flash"});
    let answer = read(body, &[]).unwrap();
    assert_eq!(
        answer.choices[0].parts,
        [PartKind::Refusal("No.".to_owned()).into()]
    );
    let stop = Stop::with_native(StopReason::Filter, "PROHIBITED_CONTENT");
    assert_eq!(answer.choices[0].stop, stop);
    let silent = one(
        json!({"finishReason": "SAFETY", "finishMessage": "Unsafe."}),
        &[],
    )
    .unwrap();
    assert_eq!(
        silent.parts,
        [PartKind::Refusal("Unsafe.".to_owned()).into()]
    );
}

#[test]
fn several_candidates_are_several_choices() {
    let candidate = |index: u64, text: &str| json!({"content": {"parts": [{"text": text}]}, "finishReason": "STOP", "index": index});
    let body = json!({"candidates": [candidate(0, "a"), candidate(1, "b"),
        {"finishReason": "MALFORMED_RESPONSE", "index": 2}]});
    let answer = read(body, &[]).unwrap();
    let texts: Vec<_> = answer
        .choices
        .iter()
        .map(|choice| choice.parts[0].as_text())
        .collect();
    assert_eq!(texts, [Some("a"), Some("b")]);
}

#[test]
fn log_probabilities_have_the_form_of_chat() {
    let choice = one(
        json!({"content": {"parts": [{"text": "é"}]}, "finishReason": "STOP", "logprobsResult": {
            "chosenCandidates": [{"token": "é", "tokenId": 3, "logProbability": -0.5}],
            "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e"}]}],
        }}),
        &[],
    );
    assert_eq!(
        choice.unwrap().logprobs.unwrap(),
        json!({"content": [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "e", "logprob": 0.0, "bytes": [101]},
        ]}], "refusal": null})
    );
}

#[test]
fn sources_are_named_by_characters() {
    let choice = one(
        json!({"content": {"parts": [{"text": "Né. Sunny"}]}, "finishReason": "STOP", "groundingMetadata": {
            "groundingChunks": [{"web": {"uri": "https://a.example", "title": "a"}}, {"web": {"uri": "https://b.example"}}],
            "groundingSupports": [
                {"segment": {"startIndex": 5, "endIndex": 10, "text": "Sunny"}, "groundingChunkIndices": [1, 0, 9]},
                {"segment": {"endIndex": 900}, "groundingChunkIndices": [0]},
            ],
        }}),
        &[],
    )
    .unwrap();
    let PartKind::Text { citations, .. } = &choice.parts[0].kind else {
        panic!("text");
    };
    let seen: Vec<_> = citations
        .iter()
        .map(|citation| {
            (
                citation.url.as_str(),
                citation.title.as_deref(),
                citation.range,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("https://b.example", None, Some((4, 9))),
            ("https://a.example", Some("a"), Some((4, 9))),
            ("https://a.example", Some("a"), None),
        ]
    );
}

#[test]
fn errors_say_what_kind_they_are() {
    let error = |status: u16, body: Value| read_error(status, None, body.to_string().as_bytes());
    let google = |code: u16, word: &str, details: Value| json!({"error": {"code": code, "message": "m", "status": word, "details": details}});
    for (code, word, kind) in [
        (400, "INVALID_ARGUMENT", FailureKind::InvalidRequest),
        (400, "FAILED_PRECONDITION", FailureKind::InvalidRequest),
        (401, "UNAUTHENTICATED", FailureKind::Authentication),
        (403, "PERMISSION_DENIED", FailureKind::Permission),
        (404, "NOT_FOUND", FailureKind::NotFound),
        (429, "RESOURCE_EXHAUSTED", FailureKind::RateLimit),
        (500, "INTERNAL", FailureKind::Server),
        (503, "UNAVAILABLE", FailureKind::Overloaded),
        (504, "DEADLINE_EXCEEDED", FailureKind::Timeout),
    ] {
        let failure = error(code, google(code, word, json!([])));
        assert_eq!((failure.status, failure.kind), (code, kind));
        assert_eq!(failure.code.as_deref(), Some(word));
        assert_eq!(
            (failure.message.as_str(), failure.retryable),
            ("m", code >= 429)
        );
        // Inside a 200, with and without the number.
        for body in [
            google(code, word, json!([])),
            json!({"error": {"status": word}}),
        ] {
            assert_eq!(read(body, &[]).unwrap_err().status, code);
        }
        let wrapped = json!([google(code, word, json!([]))]);
        assert_eq!(error(code, wrapped).kind, kind);
    }
    let key =
        json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let failure = error(400, google(400, "INVALID_ARGUMENT", key));
    assert_eq!(
        (failure.status, failure.kind),
        (401, FailureKind::Authentication)
    );
    assert_eq!(failure.code.as_deref(), Some("API_KEY_INVALID"));
    let wait =
        json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]);
    let failure = error(429, google(429, "RESOURCE_EXHAUSTED", wait));
    assert_eq!(
        failure.retry_after,
        Some(std::time::Duration::from_millis(34_500))
    );
    let field =
        json!([{"fieldViolations": [{"field": "generation_config.top_p", "description": "d"}]}]);
    let failure = error(400, google(400, "INVALID_ARGUMENT", field));
    assert_eq!(failure.param.as_deref(), Some("generation_config.top_p"));
    let page = read_error(502, None, b"<!DOCTYPE html><title>502</title>");
    assert_eq!(page.message, "Google answered with status 502");
    assert!(page.raw.is_some());
    assert_eq!(read_error(403, None, b"no\n").message, "no");
}
