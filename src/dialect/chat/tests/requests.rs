//! Chat requests to the neutral form and from it.

use proptest::prelude::*;

use super::*;

fn read(body: Value) -> Request {
    read_request(body).unwrap()
}

fn written(request: &Request, slug: Slug, model: &str) -> (Value, String) {
    let mut changes = Changes::default();
    let written = write_request(request, &upstream(slug, model), &mut changes).unwrap();
    let body = serde_json::from_slice(&written.body).unwrap();
    (body, changes.to_string())
}

fn whole_request() -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ], "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "free"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "system", "content": "later"},
        {"role": "assistant", "content": "said", "refusal": "no"},
        {"role": "user", "content": "go on"},
    ], "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}, "strict": true}},
        {"type": "custom", "custom": {"name": "g", "description": "e", "format": {"type": "text"}}},
    ], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}},
    "parallel_tool_calls": false, "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.25,
    "presence_penalty": 1, "frequency_penalty": -1, "stop": ["x", "y"], "seed": 4, "n": 2, "logprobs": true, "top_logprobs": 3,
    "stream": true, "stream_options": {"include_usage": true},
    "response_format": {"type": "json_schema", "json_schema": {"name": "r", "description": "d", "schema": {"type": "object"}, "strict": true}},
    "reasoning_effort": "low", "user": "u", "service_tier": "flex", "metadata": {"k": "v"},
    "logit_bias": {"1": 2}, "store": true, "modalities": ["text"], "unheard_of": {"x": [1]}})
}

#[test]
fn what_chat_can_say_comes_through_whole() {
    let body = whole_request();
    let (mut sent, changes) = written(&read(body.clone()), Slug::OpenAi, "m");
    assert_eq!(changes, "");
    let mut expected = body;
    expected.as_object_mut().unwrap().sort_keys();
    sent.as_object_mut().unwrap().sort_keys();
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&sent[name], value, "{name}");
    }
    assert_eq!(
        sent.as_object().unwrap().len(),
        expected.as_object().unwrap().len()
    );
    let again = read(sent);
    assert_eq!(again, read(whole_request()));
}

#[test]
fn fields_find_their_places_in_the_neutral_form() {
    let request = read(whole_request());
    assert_eq!(request.system, [Part::text("s")]);
    assert_eq!(request.turns.len(), 7);
    assert_eq!(request.turns[0].name.as_deref(), Some("Ann"));
    assert_eq!(request.turns[4].role, Role::System);
    let kinds: Vec<&PartKind> = request.turns[0]
        .parts
        .iter()
        .map(|part| &part.kind)
        .collect();
    assert_eq!(
        kinds[1],
        &PartKind::Image {
            media: Media::Inline {
                mime: "image/png".to_owned(),
                data: "AAAA".to_owned()
            },
            detail: Some("low".to_owned())
        }
    );
    assert_eq!(
        kinds[5],
        &PartKind::Document {
            media: Media::File("file-1".to_owned()),
            name: None
        }
    );
    assert_eq!(request.logprobs, Some(3));
    assert_eq!(
        request.tool_choice,
        Some(ToolChoice::Allowed {
            required: false,
            names: vec!["f".to_owned()]
        })
    );
    let extra: Vec<&String> = request.extra.keys().collect();
    assert_eq!(extra, ["logit_bias", "store", "modalities", "unheard_of"]);
    assert!(request.include_usage && request.stream);
}

#[test]
fn functions_of_old_become_tools() {
    let body = json!({"model": "m", "functions": [{"name": "f", "parameters": {"type": "object"}}], "function_call": {"name": "f"},
    "messages": [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "r"},
    ]});
    assert!(speaks_legacy(&body));
    assert!(!speaks_legacy(&whole_request()));
    let request = read(body);
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("f".to_owned())));
    assert_eq!(request.tools[0].name(), "f");
    let (sent, _) = written(&request, Slug::OpenAi, "m");
    assert_eq!(
        sent["messages"][1]["tool_calls"][0],
        json!({"id": "f", "type": "function", "function": {"name": "f", "arguments": "{}"}})
    );
    assert_eq!(
        sent["messages"][2],
        json!({"role": "tool", "tool_call_id": "f", "content": "r"})
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let with = |message: Value| json!({"model": "m", "messages": [{"role": "user", "content": "u"}, message]});
    let call = |arguments: Value| {
        with(
            json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]}),
        )
    };
    let part = |part: Value| with(json!({"role": "user", "content": [part]}));
    for (body, param) in [
        (json!([]), ""),
        (json!({"messages": []}), "model"),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": ["x"]}), "messages[0]"),
        (
            with(json!({"role": "wizard", "content": "x"})),
            "messages[1].role",
        ),
        (with(json!({"role": "user"})), "messages[1].content"),
        (
            with(json!({"role": "user", "content": 7})),
            "messages[1].content",
        ),
        (
            part(json!({"type": "hologram"})),
            "messages[1].content[0].type",
        ),
        (
            part(json!({"type": "refusal", "refusal": "x"})),
            "messages[1].content[0].type",
        ),
        (part(json!({"type": "text"})), "messages[1].content[0].text"),
        (
            part(json!({"type": "image_url", "image_url": {}})),
            "messages[1].content[0].image_url.url",
        ),
        (
            part(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,%"}})),
            "messages[1].content[0].image_url.url",
        ),
        (
            part(json!({"type": "input_audio", "input_audio": {"data": "AA==" }})),
            "messages[1].content[0].input_audio.format",
        ),
        (
            part(json!({"type": "file", "file": {"file_data": "AAAA"}})),
            "messages[1].content[0].file.file_data",
        ),
        (
            call(json!("{\"a\":")),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            call(json!("[1]")),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            call(json!(7)),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            with(json!({"role": "tool", "tool_call_id": "nobody", "content": "x"})),
            "messages[1].tool_call_id",
        ),
        (hello(json!({"temperature": "hot"})), "temperature"),
        (hello(json!({"max_tokens": -1})), "max_tokens"),
        (hello(json!({"n": 0})), "n"),
        (hello(json!({"stop": ["a", 1]})), "stop[1]"),
        (
            hello(json!({"tools": [{"type": "function"}]})),
            "tools[0].function",
        ),
        (hello(json!({"tools": [{}]})), "tools[0].function"),
        (hello(json!({"tool_choice": "maybe"})), "tool_choice"),
        (
            hello(json!({"response_format": {"type": "poem"}})),
            "response_format.type",
        ),
        (
            hello(json!({"response_format": {"type": "json_schema", "json_schema": {}}})),
            "response_format.json_schema.schema",
        ),
        (
            hello(json!({"reasoning_effort": "much"})),
            "reasoning_effort",
        ),
        (hello(json!({"top_logprobs": 2})), "top_logprobs"),
        (
            hello(json!({"stream_options": {"include_usage": 1}})),
            "stream_options.include_usage",
        ),
    ] {
        let invalid = read_request(body.clone()).unwrap_err();
        assert_eq!(invalid.param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn arguments_that_say_nothing_are_an_empty_object() {
    for arguments in [json!(""), json!("null"), json!(" "), json!({}), Value::Null] {
        let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": arguments}},
        ]}]});
        let request = read(body);
        let PartKind::ToolUse(call) = &request.turns[0].parts[0].kind else {
            panic!("a call");
        };
        assert_eq!(call.arguments, "{}");
    }
}

#[test]
fn thinking_is_read_in_the_words_of_several_providers() {
    let reasoning = |effort, budget, adaptive, visible| Reasoning {
        effort,
        budget,
        adaptive,
        visible,
    };
    for (more, read_as) in [
        (
            json!({"reasoning_effort": "HIGH"}),
            reasoning(Some(Effort::High), None, false, None),
        ),
        (json!({"reasoning_effort": "default"}), Reasoning::default()),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            reasoning(None, Some(2000), false, None),
        ),
        (
            json!({"thinking": {"type": "disabled"}}),
            reasoning(Some(Effort::None), None, false, None),
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "omitted"}, "reasoning_effort": "low"}),
            reasoning(Some(Effort::Low), None, true, Some(false)),
        ),
        (
            json!({"reasoning": {"max_tokens": 10, "exclude": true}}),
            reasoning(None, Some(10), false, Some(false)),
        ),
        (
            json!({"reasoning": {"enabled": true}}),
            reasoning(Some(Effort::Medium), None, false, None),
        ),
    ] {
        assert_eq!(read(hello(more.clone())).reasoning, Some(read_as), "{more}");
    }
}

#[test]
fn thoughts_of_earlier_turns_are_read_with_their_owners() {
    let turn = |message: Value| {
        let mut message = message;
        message["role"] = json!("assistant");
        let request = read(json!({"model": "m", "messages": [message]}));
        let parts = request.turns[0].parts.iter();
        parts.map(|part| part.kind.clone()).collect::<Vec<_>>()
    };
    let thinking = |text: &str, signature: Option<Signature>| PartKind::Thinking {
        text: text.to_owned(),
        signature,
    };
    let claude = Signature::new(Origin::Anthropic, "s");
    assert_eq!(
        turn(json!({"content": "x", "reasoning_content": "t"})),
        [thinking("t", None), Part::text("x").kind]
    );
    assert_eq!(
        turn(
            json!({"content": null, "reasoning": "t", "reasoning_details": [
                {"type": "reasoning.text", "signature": "s", "index": 0},
            ]})
        ),
        [thinking("t", Some(claude.clone()))]
    );
    assert_eq!(
        turn(json!({"reasoning_content": "ab", "reasoning_details": [
            {"type": "reasoning.text", "text": "a", "signature": "s", "format": "anthropic-claude-v1"},
            {"type": "reasoning.encrypted", "data": "e", "format": "openai-responses-v1"},
            {"type": "reasoning.text", "text": "b", "signature": "s", "format": "unknown"},
        ]})),
        [
            thinking("a", Some(claude)),
            PartKind::Redacted(Signature::new(Origin::OpenAi, "e")),
            thinking("b", Some(Signature::new(Origin::Other, "s"))),
        ]
    );
    let google = Signature::new(Origin::Google, "g");
    let parts = turn(json!({"content": "x", "reasoning_details": [
        {"type": "reasoning.encrypted", "data": "g", "format": "google-gemini-v1", "id": "text"},
    ], "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "g"}}}]}));
    assert!(
        matches!(&parts[0], PartKind::Text { signature: Some(signature), .. } if *signature == google)
    );
    assert!(matches!(&parts[1], PartKind::ToolUse(call) if call.signature == Some(google)));
}

#[test]
fn cache_marks_are_read_and_written() {
    let mark = |ttl: Option<&str>| {
        Some(CacheMark {
            ttl: ttl.map(str::to_owned),
        })
    };
    let body = json!({"model": "anthropic/claude", "messages": [
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"role": "user", "content": "whole", "cache_control": {"type": "ephemeral"}},
    ], "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral"}}]});
    let request = read(body);
    assert_eq!(request.system[1].cache, mark(Some("1h")));
    assert_eq!(request.turns[0].parts[0].cache, mark(None));
    assert_eq!(request.tools[0].cache, mark(None));
    let (sent, changes) = written(&request, Slug::OpenRouter, "anthropic/claude");
    assert_eq!(
        sent["messages"][0]["content"][1]["cache_control"]["ttl"],
        "1h"
    );
    assert_eq!(
        sent["messages"][1]["content"][0]["cache_control"],
        json!({"type": "ephemeral"})
    );
    assert_eq!(
        sent["tools"][0]["cache_control"],
        json!({"type": "ephemeral"})
    );
    assert_eq!(changes, "");
    let (sent, changes) = written(&request, Slug::OpenAi, "m");
    assert_eq!(sent["messages"][0]["content"], "a\n\nb");
    assert!(!sent.to_string().contains("cache_control"));
    assert_eq!(changes, "drop:cache_control");
}

/// A request of a Messages client.
fn foreign() -> Request {
    let mut request = Request::new(Dialect::Messages, "m");
    request.turns = vec![Turn::new(Role::User, vec![Part::text("hi")])];
    request
}

#[test]
fn openais_reasoning_models_are_spared_what_they_refuse() {
    let mut request = foreign();
    request.max_tokens = Some(100);
    request.temperature = Some(1.0);
    request.top_p = Some(0.5);
    request.top_k = Some(4);
    request.reasoning = Some(Reasoning {
        budget: Some(40_000),
        ..Reasoning::default()
    });
    let (sent, changes) = written(&request, Slug::OpenAi, "o3");
    assert_eq!(
        sent,
        json!({"model": "o3", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 100, "reasoning_effort": "high"})
    );
    assert_eq!(
        changes,
        "drop:temperature,drop:top_p,drop:top_k,clamp:reasoning_effort=high"
    );
    let (sent, changes) = written(&request, Slug::OpenAi, "gpt-4o");
    assert_eq!(
        (&sent["temperature"], &sent["top_p"]),
        (&json!(1), &json!(0.5))
    );
    assert_eq!(changes, "drop:top_k,drop:reasoning_effort");
    request.from = Dialect::Chat;
    let (sent, changes) = written(&request, Slug::OpenAi, "o3");
    assert_eq!(
        (&sent["temperature"], &sent["reasoning_effort"]),
        (&json!(1), &json!("max"))
    );
    assert_eq!(changes, "drop:top_k");
}

#[test]
fn thinking_is_asked_for_in_the_providers_words() {
    let mut request = foreign();
    request.reasoning = Some(Reasoning {
        budget: Some(5000),
        visible: Some(false),
        ..Reasoning::default()
    });
    let (sent, _) = written(&request, Slug::OpenRouter, "m");
    assert_eq!(
        sent["reasoning"],
        json!({"max_tokens": 5000, "exclude": true})
    );
    let (sent, _) = written(&request, Slug::DeepSeek, "m");
    assert_eq!(sent["thinking"], json!({"type": "enabled"}));
    let (sent, _) = written(&request, Slug::Groq, "openai/gpt-oss-120b");
    assert_eq!(sent["reasoning_effort"], "medium");
    request.reasoning = Some(Reasoning {
        effort: Some(Effort::None),
        ..Reasoning::default()
    });
    let (sent, _) = written(&request, Slug::DeepSeek, "m");
    assert_eq!(sent["thinking"], json!({"type": "disabled"}));
}

#[test]
fn results_of_tools_stand_alone_and_their_pictures_behind_them() {
    let picture = || {
        Part::from(PartKind::Image {
            media: Media::Inline {
                mime: "image/png".to_owned(),
                data: "AAAA".to_owned(),
            },
            detail: None,
        })
    };
    let result = |id: &str, content: Vec<Part>| {
        Part::from(PartKind::ToolResult {
            id: id.to_owned(),
            content,
            is_error: id == "b",
        })
    };
    let mut request = foreign();
    request.turns.push(Turn::new(
        Role::User,
        vec![
            result("a", vec![Part::text("one"), picture()]),
            result("b", vec![Part::text("two"), Part::text("three")]),
            Part::text("and now?"),
        ],
    ));
    let (sent, changes) = written(&request, Slug::OpenAi, "m");
    assert_eq!(
        sent["messages"].as_array().unwrap()[1..],
        [
            json!({"role": "tool", "tool_call_id": "a", "content": "one"}),
            json!({"role": "tool", "tool_call_id": "b", "content": "two\nthree"}),
            json!({"role": "user", "content": [
                {"type": "text", "text": "Result of the tool call a:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "and now?"},
            ]}),
        ]
    );
    assert_eq!(
        changes,
        "set:messages.tool.content=user,drop:tool_result.is_error"
    );
}

#[test]
fn documents_films_and_addresses_go_only_where_they_are_taken() {
    let of = |kind: PartKind| {
        let mut request = foreign();
        request.turns[0].parts.push(kind.into());
        request
    };
    let url = |url: &str| Media::Url {
        url: url.to_owned(),
        mime: None,
    };
    let document = |media: Media| PartKind::Document {
        media,
        name: Some("n".to_owned()),
    };
    let sent = |kind: PartKind, slug: Slug| {
        let mut changes = Changes::default();
        let written = write_request(&of(kind), &upstream(slug, "m"), &mut changes)?;
        let body: Value = serde_json::from_slice(&written.body).unwrap();
        Ok::<_, Invalid>(body["messages"][0]["content"][1].clone())
    };
    assert_eq!(
        sent(document(Media::Text("t".to_owned())), Slug::OpenAi).unwrap(),
        json!({"type": "text", "text": "n\n\nt"})
    );
    let inline = |mime: &str| Media::Inline {
        mime: mime.to_owned(),
        data: "aGk=".to_owned(),
    };
    assert_eq!(
        sent(document(inline("text/plain")), Slug::OpenAi).unwrap(),
        json!({"type": "text", "text": "n\n\nhi"})
    );
    assert_eq!(
        sent(document(inline("application/pdf")), Slug::OpenAi).unwrap(),
        json!({"type": "file", "file": {"filename": "n", "file_data": "data:application/pdf;base64,aGk="}})
    );
    assert_eq!(
        sent(document(url("https://a/b.pdf")), Slug::Mistral).unwrap()["document_url"],
        "https://a/b.pdf"
    );
    assert_eq!(
        sent(PartKind::Video(url("https://a/b.mp4")), Slug::OpenRouter).unwrap(),
        json!({"type": "video_url", "video_url": {"url": "https://a/b.mp4"}})
    );
    let image = |address: &str| PartKind::Image {
        media: url(address),
        detail: None,
    };
    for (kind, slug, takes) in [
        (image("https://a/b"), Slug::OpenAi, true),
        (image("https://a/b"), Slug::Mistral, true),
        (image("https://a/b"), Slug::WorkersAi, false),
        (image("gs://a/b"), Slug::OpenAi, false),
        (document(url("https://a/b")), Slug::OpenAi, false),
        (document(url("https://a/b")), Slug::OpenRouter, true),
        (PartKind::Audio(url("https://a/b")), Slug::OpenAi, false),
        (PartKind::Video(url("https://a/b")), Slug::Custom, true),
        (PartKind::Video(url("https://a/b")), Slug::OpenAi, false),
    ] {
        let address = match &kind {
            PartKind::Image { media, .. } | PartKind::Document { media, .. } => media,
            PartKind::Audio(media) | PartKind::Video(media) => media,
            _ => unreachable!("media only"),
        };
        let Media::Url { url, .. } = address else {
            unreachable!("addresses only");
        };
        let url = url.clone();
        assert_eq!(
            takes_url(&kind, &url, &upstream(slug, "m")),
            takes,
            "{slug:?} {kind:?}"
        );
        match (sent(kind, slug), takes) {
            (Ok(_), true) => {}
            (Err(invalid), false) => {
                assert_eq!(invalid.param.as_deref(), Some("messages[0].content[1]"));
                assert_eq!(invalid.code, Some("unsupported_parameter"));
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    let file = document(Media::File("file_1".to_owned()));
    assert!(sent(file, Slug::OpenAi).is_err());
}

#[test]
fn what_only_another_dialect_knows_is_left_out_and_told() {
    let mut request = foreign();
    request.extra.insert("container".to_owned(), json!("c"));
    request
        .extra
        .insert("prompt_cache_key".to_owned(), json!("k"));
    request.metadata.insert("k".to_owned(), json!("v"));
    request.user = Some("x".repeat(65));
    request.service_tier = Some("standard_only".to_owned());
    request.stop = (0..6).map(|at| at.to_string()).collect();
    request.tools.push(Tool {
        kind: ToolKind::Hosted {
            kind: "web_search_20250305".to_owned(),
            definition: json!({}),
        },
        cache: None,
    });
    request.turns.push(Turn::new(
        Role::Assistant,
        vec![
            PartKind::Thinking {
                text: "t".to_owned(),
                signature: Some(Signature::new(Origin::Anthropic, "s")),
            }
            .into(),
            PartKind::Foreign(json!({"type": "server_tool_use"})).into(),
            Part::text("a"),
            Part::text("b"),
        ],
    ));
    let (sent, changes) = written(&request, Slug::OpenAi, "m");
    assert_eq!(
        sent["messages"][1],
        json!({"role": "assistant", "content": "ab"})
    );
    assert_eq!(sent["user"].as_str().unwrap().len(), 64);
    assert_eq!(sent["service_tier"], "default");
    assert_eq!(sent["stop"], json!(["0", "1", "2", "3"]));
    assert_eq!(sent["prompt_cache_key"], "k");
    assert!(sent.get("tools").is_none() && sent.get("metadata").is_none());
    for told in [
        "drop:container",
        "drop:metadata",
        "set:user=hash",
        "clamp:stop=4",
        "drop:tools.web_search_20250305",
        "drop:content.server_tool_use",
        "drop:thinking",
        "drop:thinking.signature",
    ] {
        assert!(
            changes.split(',').any(|one| one == told),
            "{told}: {changes}"
        );
    }
    request.tool_choice = Some(ToolChoice::Required);
    let upstream = upstream(Slug::OpenAi, "m");
    let invalid = write_request(&request, &upstream, &mut Changes::default()).unwrap_err();
    assert_eq!(invalid.param.as_deref(), Some("tool_choice"));
}

#[test]
fn signatures_go_only_to_models_of_their_owner() {
    let mut request = foreign();
    request.turns.push(Turn::new(
        Role::Assistant,
        vec![
            PartKind::Thinking {
                text: "t".to_owned(),
                signature: Some(Signature::new(Origin::Anthropic, "s")),
            }
            .into(),
            PartKind::Redacted(Signature::new(Origin::Anthropic, "r")).into(),
            Part::text("a"),
        ],
    ));
    let (sent, changes) = written(&request, Slug::OpenRouter, "anthropic/claude");
    assert_eq!(
        sent["messages"][1]["reasoning_details"],
        json!([
            {"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "r", "format": "anthropic-claude-v1", "index": 1},
        ])
    );
    assert_eq!(sent["messages"][1]["reasoning"], "t");
    assert_eq!(changes, "");
    for (slug, model) in [
        (Slug::OpenRouter, "openai/gpt-5"),
        (Slug::DeepSeek, "m"),
        (Slug::Custom, "m"),
        (Slug::OpenAi, "m"),
    ] {
        let (sent, changes) = written(&request, slug, model);
        assert!(!sent.to_string().contains("reasoning_details"), "{slug:?}");
        assert!(changes.contains("drop:thinking.signature"), "{slug:?}");
    }
}

#[test]
fn a_grammar_of_responses_is_written_as_chat_has_it() {
    let mut request = foreign();
    request.from = Dialect::Responses;
    request.tools.push(Tool {
        kind: ToolKind::Custom {
            name: "g".to_owned(),
            description: None,
            format: Some(json!({"type": "grammar", "syntax": "lark", "definition": "start: A"})),
        },
        cache: None,
    });
    request.tool_choice = Some(ToolChoice::Named("g".to_owned()));
    let (sent, _) = written(&request, Slug::OpenAi, "m");
    assert_eq!(
        sent["tools"][0]["custom"]["format"],
        json!({"type": "grammar", "grammar": {"definition": "start: A", "syntax": "lark"}})
    );
    assert_eq!(
        sent["tool_choice"],
        json!({"type": "custom", "custom": {"name": "g"}})
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,6}|data:image/png;base64,AAAA|text|user|assistant|function".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let names = "role|content|type|text|tool_calls|function|name|arguments|id|image_url|url|tool_call_id|model|messages|tools|reasoning_details|stop|file|file_data";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names, inner), 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(message in any_json(), tool in any_json(), more in any_json()) {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "u"}, message], "tools": [tool], "tool_choice": more, "stop": more});
        for slug in [Slug::OpenAi, Slug::Mistral, Slug::OpenRouter, Slug::DeepSeek, Slug::WorkersAi, Slug::PerplexityAi] {
            let upstream = upstream(slug, "m");
            let _ = edit_request(body.to_string().as_bytes(), &upstream, &mut Changes::default());
            if let Ok(request) = read_request(body.clone()) {
                let _ = write_request(&request, &upstream, &mut Changes::default());
            }
        }
    }

    #[test]
    fn what_was_read_reads_the_same_after_it_was_written(
        texts in proptest::collection::vec("[a-z \\n\"é]{1,8}", 1..5),
        numbers in (0u64..1000, -5i64..5, (0u32..64).prop_map(|step| f64::from(step) / 32.0)),
        effort in "low|medium|high",
        called in any::<bool>(),
    ) {
        let mut messages = vec![json!({"role": "system", "content": texts[0]})];
        for text in &texts {
            messages.push(json!({"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "https://a/b"}}]}));
            messages.push(json!({"role": "assistant", "content": text, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": json!({"t": text}).to_string()}}]}));
            messages.push(json!({"role": "tool", "tool_call_id": "c", "content": text}));
        }
        let mut body = json!({"model": "m", "messages": messages, "max_completion_tokens": numbers.0, "seed": numbers.1, "temperature": numbers.2, "reasoning_effort": effort});
        if called {
            body["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
            body["tool_choice"] = json!("required");
        }
        let request = read(body);
        let (sent, changes) = written(&request, Slug::OpenAi, "m");
        prop_assert_eq!(changes, "");
        prop_assert_eq!(read(sent), request);
    }
}
