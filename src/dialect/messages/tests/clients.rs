use serde_json::{Value, json};

use super::super::super::neutral::{
    Answer, CacheMark, Choice, Citation, Effort, Format, Media, Origin, Part, PartKind, Reasoning,
    Role, Signature, Stop, StopReason, ToolChoice, ToolKind, ToolUse,
};
use super::super::super::{Terms, Unwrap};
use super::*;
use crate::meter::Usage;

fn with(fields: Value) -> Value {
    let mut body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let object = body.as_object_mut().expect("an object");
    object.extend(fields.as_object().expect("an object").clone());
    body
}

fn read(fields: Value) -> Request {
    read_request(with(fields)).expect("a request")
}

fn refused(fields: Value) -> String {
    let invalid = read_request(with(fields)).expect_err("refused");
    invalid.param.expect("a place")
}

fn content(blocks: Value) -> Vec<Part> {
    let mut request = read(json!({"messages": [{"role": "user", "content": blocks}]}));
    request.turns.remove(0).parts
}

#[test]
fn an_agents_request() {
    let request = read(json!({
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=1;"},
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "metadata": {"user_id": "user_1_account__session_2"},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high", "task_budget": {"total": 1}},
        "context_management": {"edits": []},
        "tools": [
            {"name": "Bash", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}, "defer_loading": true},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "stop_sequences": ["x"], "temperature": 1, "top_p": 0.5, "top_k": 3, "stream": true, "service_tier": "auto",
    }));
    assert!(
        matches!(&request.system[0].kind, PartKind::Foreign(_)),
        "it changes with every request"
    );
    assert_eq!(
        request.system[1].cache,
        Some(CacheMark {
            ttl: Some("1h".to_owned())
        })
    );
    assert_eq!(request.user.as_deref(), Some("user_1_account__session_2"));
    let reasoning = Reasoning {
        effort: Some(Effort::High),
        budget: None,
        adaptive: true,
        visible: Some(true),
    };
    assert_eq!(request.reasoning, Some(reasoning));
    assert_eq!(request.tools[0].name(), "Bash");
    assert!(request.tools[0].cache.is_some());
    assert!(
        matches!(&request.tools[1].kind, ToolKind::Hosted { kind, definition } if kind == "web_search_20250305" && definition["max_uses"] == 5)
    );
    assert_eq!(
        (request.tool_choice, request.parallel_tool_calls),
        (Some(ToolChoice::Auto), Some(false))
    );
    assert_eq!(
        (
            request.max_tokens,
            request.temperature,
            request.top_p,
            request.top_k
        ),
        (Some(9), Some(1.0), Some(0.5), Some(3))
    );
    assert_eq!(
        (
            request.stop,
            request.stream,
            request.service_tier.as_deref()
        ),
        (vec!["x".to_owned()], true, Some("auto"))
    );
    let kept: Vec<&str> = request.extra.keys().map(String::as_str).collect();
    assert_eq!(
        kept,
        [
            "context_management",
            "tools.defer_loading",
            "output_config.task_budget"
        ]
    );
}

#[test]
fn settings_are_read() {
    let reasoning = |fields| read(fields).reasoning.expect("reasoning");
    assert_eq!(
        reasoning(json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})).budget,
        Some(2000)
    );
    assert_eq!(
        reasoning(json!({"thinking": {"type": "disabled"}})).effort,
        Some(Effort::None)
    );
    let off =
        reasoning(json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}));
    assert_eq!(off.effort, Some(Effort::None));
    for (choice, expected) in [
        (json!({"type": "any"}), ToolChoice::Required),
        (json!({"type": "none"}), ToolChoice::None),
        (
            json!({"type": "tool", "name": "f"}),
            ToolChoice::Named("f".to_owned()),
        ),
    ] {
        assert_eq!(
            read(json!({"tool_choice": choice})).tool_choice,
            Some(expected)
        );
    }
    let format = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
    for fields in [
        json!({"output_config": format}),
        json!({"output_format": format["format"]}),
    ] {
        let format = read(fields).format.expect("a format");
        assert!(
            matches!(format, Format::JsonSchema { schema, .. } if schema == json!({"type": "object"}))
        );
    }
    let request = read(json!({"cache_control": {"type": "ephemeral"}}));
    assert_eq!(request.turns[0].parts[0].cache, Some(CacheMark::default()));
    assert!(request.extra.is_empty());
}

#[test]
fn blocks_are_read() {
    let parts = content(json!([
        {"type": "text", "text": "t", "citations": [
            {"type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "q", "encrypted_index": "x"},
            {"type": "char_location", "cited_text": "c", "document_index": 0},
        ]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
        {"type": "image", "source": {"type": "url", "url": "https://a"}},
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "context": "C", "source": {"type": "content", "content": [{"type": "text", "text": "x"}, {"type": "image", "source": {"type": "file", "file_id": "f"}}]}},
        {"type": "search_result", "source": "https://s", "title": "S", "content": [{"type": "text", "text": "found"}]},
        {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [{"type": "text", "text": "r"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]},
        {"type": "tool_result", "tool_use_id": "u", "content": "plain", "cache_control": {"type": "ephemeral"}},
        {"type": "compaction", "content": "so far"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ]));
    let citation = Citation {
        url: "https://a".to_owned(),
        title: Some("A".to_owned()),
        range: None,
        quote: Some("q".to_owned()),
    };
    let png = || Media::Inline {
        mime: "image/png".to_owned(),
        data: "AA".to_owned(),
    };
    let image = |media| {
        Part::from(PartKind::Image {
            media,
            detail: None,
        })
    };
    let document = |text: &str, name: Option<&str>| {
        Part::from(PartKind::Document {
            media: Media::Text(text.to_owned()),
            name: name.map(str::to_owned),
        })
    };
    let expected = [
        PartKind::Text {
            text: "t".to_owned(),
            citations: vec![citation],
            signature: None,
        }
        .into(),
        image(png()),
        image(Media::Url {
            url: "https://a".to_owned(),
            mime: None,
        }),
        document("d", Some("T")),
        Part::text("C"),
        document("x", None),
        image(Media::File("f".to_owned())),
        document("https://s\nfound", Some("S")),
        PartKind::ToolResult {
            id: "t".to_owned(),
            content: vec![Part::text("r"), image(png())],
            is_error: true,
        }
        .into(),
        Part {
            cache: Some(CacheMark::default()),
            ..PartKind::ToolResult {
                id: "u".to_owned(),
                content: vec![Part::text("plain")],
                is_error: false,
            }
            .into()
        },
        Part::text("so far"),
        PartKind::Foreign(
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        )
        .into(),
    ];
    assert_eq!(parts, expected);
}

#[test]
fn what_is_wrong_is_named() {
    for (fields, place) in [
        (json!({"model": null}), "model"),
        (json!({"max_tokens": "9"}), "max_tokens"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "user", "content": ["x"]}]}),
            "messages[0].content[0]",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "odd"}}]}]}),
            "messages[0].content[0].source.type",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "messages[0].content[0].source",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": "x"}]}]}),
            "messages[0].content[0].input",
        ),
        (json!({"tools": [{"input_schema": {}}]}), "tools[0].name"),
        (json!({"tool_choice": {"type": "odd"}}), "tool_choice.type"),
        (json!({"thinking": {"type": "odd"}}), "thinking.type"),
        (
            json!({"output_config": {"effort": "odd"}}),
            "output_config.effort",
        ),
        (json!({"stop_sequences": [1]}), "stop_sequences[0]"),
    ] {
        assert_eq!(refused(fields.clone()), place, "{fields}");
    }
}

fn terms() -> Terms {
    Terms {
        model: "asked".to_owned(),
        id: "abc".to_owned(),
        ..Terms::default()
    }
}

fn answer(parts: Vec<Part>, stop: Stop) -> Answer {
    Answer {
        choices: vec![Choice {
            parts,
            stop,
            logprobs: None,
        }],
        ..Answer::default()
    }
}

fn call(signature: Option<Signature>) -> Part {
    PartKind::ToolUse(ToolUse {
        id: "functions.f:0".to_owned(),
        name: "f".to_owned(),
        arguments: r#"{"a":1}"#.to_owned(),
        custom: false,
        signature,
    })
    .into()
}

#[test]
fn answers_are_written_whole() {
    let mut got = answer(vec![Part::text("Hi")], Stop::new(StopReason::End));
    got.usage = Some(Usage {
        input: 100,
        output: 7,
        cached_input: 60,
        cache_write: 30,
        reasoning: 2,
        total: 107,
    });
    let expected = json!({
        "id": "msg_abc", "type": "message", "role": "assistant", "model": "asked",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60, "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    });
    assert_eq!(write_answer(&got, &terms()), expected);
    for (tier, told) in [
        ("default", json!("standard")),
        ("priority", json!("priority")),
        ("flex", Value::Null),
    ] {
        got.service_tier = Some(tier.to_owned());
        let written = write_answer(&got, &terms());
        assert_eq!(written["usage"]["service_tier"], told, "{tier}");
    }
    for (reason, word) in [
        (StopReason::End, "end_turn"),
        (StopReason::StopSequence, "stop_sequence"),
        (StopReason::Length, "max_tokens"),
        (StopReason::ToolUse, "tool_use"),
        (StopReason::Filter, "refusal"),
    ] {
        let stop = Stop {
            sequence: Some("x".to_owned()),
            explanation: Some("e".to_owned()),
            ..Stop::new(reason)
        };
        let written = write_answer(&answer(Vec::new(), stop), &terms());
        assert_eq!(
            (&written["stop_reason"], &written["stop_sequence"]),
            (&json!(word), &json!("x"))
        );
        let details = json!({"type": "refusal", "category": null, "explanation": "e"});
        assert_eq!(
            written.get("stop_details"),
            (reason == StopReason::Filter).then_some(&details)
        );
    }
}

#[test]
fn foreign_signatures_travel_and_come_back_to_their_parts() {
    let google = |data: &str| Some(Signature::new(Origin::Google, data));
    let signed_text = |text: &str, data| PartKind::Text {
        text: text.to_owned(),
        citations: Vec::new(),
        signature: google(data),
    };
    let parts = vec![
        PartKind::Thinking {
            text: "hm".to_owned(),
            signature: Some(Signature::new(Origin::OpenAi, "enc")),
        }
        .into(),
        PartKind::Thinking {
            text: "open".to_owned(),
            signature: None,
        }
        .into(),
        PartKind::Redacted(Signature::new(Origin::Bedrock, "red")).into(),
        signed_text("a", "t1").into(),
        call(google("c1")),
        call(google("c2")),
    ];
    let written = write_answer(
        &answer(parts.clone(), Stop::new(StopReason::ToolUse)),
        &terms(),
    );
    let signatures: Vec<&Value> = written["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|block| block.get("signature").or(block.get("data")))
        .collect();
    assert_eq!(
        signatures,
        [
            "openai:enc",
            "",
            "bedrock:red",
            "google:last:t1",
            "google:next:c1",
            "google:next:c2"
        ]
    );
    let request = read(json!({"messages": [{"role": "assistant", "content": written["content"]}]}));
    let id = ids::fit("functions.f:0", ids::IdRule::ANTHROPIC).into_owned();
    let mut expected = parts;
    for part in &mut expected {
        if let PartKind::ToolUse(call) = &mut part.kind {
            call.id.clone_from(&id);
        }
    }
    assert_eq!(request.turns[0].parts, expected);
    assert_eq!(request.turns[0].role, Role::Assistant);
}

#[test]
fn what_messages_cannot_say_in_an_answer() {
    let parts = vec![
        PartKind::Refusal("No.".to_owned()).into(),
        PartKind::Image {
            media: Media::Inline {
                mime: "image/png".to_owned(),
                data: "AA".to_owned(),
            },
            detail: None,
        }
        .into(),
    ];
    let written = write_answer(&answer(parts, Stop::new(StopReason::End)), &terms());
    assert_eq!(
        written["content"][0],
        json!({"type": "text", "text": "No."})
    );
    assert!(
        written["content"][1]["text"]
            .as_str()
            .unwrap()
            .contains("image/png")
    );
}

#[test]
fn answers_are_read() {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "thinking", "thinking": "", "signature": "sig2"},
            {"type": "redacted_thinking", "data": "red"},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "text", "text": "t", "citations": [{"type": "web_search_result_location", "url": "u", "title": "T", "cited_text": "q", "encrypted_index": "e"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": 2}, "caller": {"type": "direct"}},
            {"type": "tool_use", "id": "toolu_2", "name": "g"},
            {"type": "unknown_block"},
        ],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "priority"},
    });
    let read = read_answer(body, &terms()).unwrap();
    let thought = |text: &str, data: &str| PartKind::Thinking {
        text: text.to_owned(),
        signature: Some(Signature::new(Origin::Anthropic, data)),
    };
    let tool = |id: &str, name: &str, arguments: &str| {
        PartKind::ToolUse(ToolUse {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            custom: false,
            signature: None,
        })
    };
    let citation = Citation {
        url: "u".to_owned(),
        title: Some("T".to_owned()),
        range: None,
        quote: Some("q".to_owned()),
    };
    let expected: Vec<Part> = [
        thought("hm", "sig"),
        thought("", "sig2"),
        PartKind::Redacted(Signature::new(Origin::Anthropic, "red")),
        PartKind::Text {
            text: "t".to_owned(),
            citations: vec![citation],
            signature: None,
        },
        tool("toolu_1", "f", r#"{"b":1,"a":2}"#),
        tool("toolu_2", "g", "{}"),
    ]
    .map(Part::from)
    .into();
    assert_eq!(read.choices[0].parts, expected);
    assert_eq!(read.choices[0].stop, Stop::new(StopReason::ToolUse));
    assert_eq!(
        (
            read.id.as_deref(),
            read.model.as_deref(),
            read.service_tier.as_deref()
        ),
        (Some("msg_1"), Some("claude-x"), Some("priority"))
    );
}

#[test]
fn every_reason_to_stop_is_read() {
    for (word, reason, native) in [
        ("end_turn", StopReason::End, false),
        ("stop_sequence", StopReason::StopSequence, false),
        ("max_tokens", StopReason::Length, false),
        ("tool_use", StopReason::ToolUse, false),
        ("model_context_window_exceeded", StopReason::Length, true),
        ("pause_turn", StopReason::Length, true),
        ("refusal", StopReason::Filter, true),
        ("never_heard_of", StopReason::End, true),
    ] {
        let body = json!({"content": [], "stop_reason": word, "stop_sequence": "s", "stop_details": {"explanation": "e"}});
        let stop = read_answer(body, &terms()).unwrap().choices.remove(0).stop;
        let expected = Stop {
            reason,
            native: native.then(|| word.to_owned()),
            sequence: Some("s".to_owned()),
            explanation: Some("e".to_owned()),
        };
        assert_eq!(stop, expected);
    }
}

#[test]
fn answers_that_are_none_fail() {
    let overloaded =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}});
    assert_eq!(read_answer(overloaded, &terms()).unwrap_err().status, 529);
    for body in [json!({}), json!([]), json!({"content": "x"})] {
        assert_eq!(read_answer(body, &terms()).unwrap_err().status, 502);
    }
    let forced = Terms {
        unwrap: Unwrap::Tool("json_output".to_owned()),
        ..terms()
    };
    let body = json!({"content": [{"type": "tool_use", "id": "1", "name": "json_output", "input": {"a": 1}}], "stop_reason": "tool_use"});
    let read = read_answer(body, &forced).unwrap();
    assert_eq!(read.choices[0].parts, [Part::text(r#"{"a":1}"#)]);
    assert_eq!(read.choices[0].stop.reason, StopReason::End);
}

#[test]
fn tokens_are_not_guessed() {
    let body = count_tokens_unavailable("gpt-5");
    assert_eq!(body["error"]["type"], "not_found_error");
    assert!(body["error"]["message"].as_str().unwrap().contains("gpt-5"));
}
