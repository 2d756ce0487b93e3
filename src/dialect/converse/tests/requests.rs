use super::*;

#[test]
fn a_plain_request_says_no_more_than_it_must() {
    let (body, changes) = written(&ask(CLAUDE));
    let wanted = json!({"messages": [{"role": "user", "content": [{"text": "Hello"}]}]});
    assert_eq!(body, wanted);
    assert_eq!(changes, "");
}

#[test]
fn parameters_are_mapped_clamped_and_dropped() {
    let mut request = ask(NOVA);
    request.system = vec![Part::text("Be brief"), Part::text("  ")];
    request.max_tokens = Some(100);
    request.temperature = Some(1.7);
    request.top_p = Some(0.9);
    request.top_k = Some(40);
    request.stop = vec!["END".to_owned(), "\n".to_owned()];
    request.seed = Some(1);
    request.presence_penalty = Some(0.5);
    request.frequency_penalty = Some(0.5);
    request.user = Some("u".to_owned());
    request.service_tier = Some("priority".to_owned());
    request.metadata = json!({"team": "a b", "bad": "ü"})
        .as_object()
        .cloned()
        .unwrap();
    request.extra = json!({"logit_bias": {}, "store": true})
        .as_object()
        .cloned()
        .unwrap();
    let (body, changes) = written(&request);
    assert_eq!(
        body,
        json!({
            "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
            "system": [{"text": "Be brief"}],
            "inferenceConfig": {"maxTokens": 100, "temperature": 1.0, "topP": 0.9, "stopSequences": ["END"]},
            "additionalModelRequestFields": {"inferenceConfig": {"topK": 40}},
            "serviceTier": {"type": "priority"},
            "requestMetadata": {"team": "a b"},
        })
    );
    assert_eq!(
        changes,
        "clamp:temperature=1,drop:stop,drop:metadata,drop:seed,drop:presence_penalty,drop:frequency_penalty,drop:user,drop:logit_bias,drop:store"
    );
}

#[test]
fn what_would_be_missed_in_the_answer_is_refused() {
    let mut request = ask(CLAUDE);
    request.choices = Some(2);
    assert_eq!(refused(&request).param.as_deref(), Some("n"));
    request.choices = Some(1);
    request.logprobs = Some(0);
    assert_eq!(refused(&request).param.as_deref(), Some("logprobs"));
    request.logprobs = None;
    request.extra = json!({"modalities": ["text", "audio"]})
        .as_object()
        .cloned()
        .unwrap();
    assert_eq!(refused(&request).param.as_deref(), Some("modalities"));
    request.extra = json!({"modalities": ["text"]})
        .as_object()
        .cloned()
        .unwrap();
    assert_eq!(written(&request).1, "drop:modalities");
    request.tools = vec![Tool {
        kind: ToolKind::Custom {
            name: "free".to_owned(),
            description: None,
            format: None,
        },
        cache: None,
    }];
    assert_eq!(refused(&request).param.as_deref(), Some("tools[0]"));
}

#[test]
fn tokens_are_bounded_by_what_the_model_can() {
    let mut request = ask(LLAMA);
    request.max_tokens = Some(100_000);
    let upstream = Upstream {
        max_output: Some(8192),
        ..upstream(LLAMA)
    };
    let mut changes = Changes::default();
    let written = write_request(&request, &upstream, &mut changes).unwrap();
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 8192}));
    assert_eq!(changes.to_string(), "clamp:max_tokens=8192");
}

#[test]
fn sampling_follows_claudes_generation() {
    for (model, temperature, top_p, config, told) in [
        (
            CLAUDE,
            Some(0.5),
            Some(0.9),
            json!({"temperature": 0.5}),
            "drop:top_p",
        ),
        (CLAUDE, None, Some(0.9), json!({"topP": 0.9}), ""),
        (
            CLAUDE_3,
            Some(0.5),
            Some(0.9),
            json!({"temperature": 0.5, "topP": 0.9}),
            "",
        ),
        (
            CLAUDE_5,
            Some(0.5),
            Some(0.9),
            Value::Null,
            "drop:temperature,drop:top_p",
        ),
        (
            "xai.grok-4-6",
            Some(0.5),
            None,
            Value::Null,
            "drop:temperature",
        ),
    ] {
        let mut request = ask(model);
        (request.temperature, request.top_p) = (temperature, top_p);
        let (body, changes) = written(&request);
        assert_eq!(
            (&body["inferenceConfig"], changes.as_str()),
            (&config, told),
            "{model}"
        );
    }
    let mut request = ask(CLAUDE_5);
    request.top_k = Some(5);
    assert_eq!(written(&request).1, "drop:top_k");
    request.model = CLAUDE.to_owned();
    let fields = json!({"top_k": 5});
    assert_eq!(written(&request).0["additionalModelRequestFields"], fields);
}

#[test]
fn thinking_has_a_field_of_its_own_in_each_family() {
    let effort = |effort| Reasoning {
        effort: Some(effort),
        ..Reasoning::default()
    };
    for (model, reasoning, fields, told) in [
        (
            CLAUDE_4_6,
            effort(Effort::High),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            "",
        ),
        (
            CLAUDE_4_6,
            effort(Effort::XHigh),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            "set:reasoning_effort=max",
        ),
        (
            CLAUDE_5,
            effort(Effort::XHigh),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
            "",
        ),
        (
            CLAUDE_5,
            effort(Effort::None),
            json!({"thinking": {"type": "disabled"}}),
            "",
        ),
        (
            CLAUDE_5,
            Reasoning {
                adaptive: true,
                visible: Some(true),
                ..Reasoning::default()
            },
            json!({"thinking": {"type": "adaptive", "display": "summarized"}}),
            "",
        ),
        (
            "anthropic.claude-fable-5",
            effort(Effort::None),
            json!({"output_config": {"effort": "low"}}),
            "set:reasoning_effort=low",
        ),
        (
            CLAUDE,
            effort(Effort::Low),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}),
            "",
        ),
        (
            CLAUDE,
            Reasoning {
                budget: Some(5000),
                ..Reasoning::default()
            },
            json!({"thinking": {"type": "enabled", "budget_tokens": 5000}}),
            "",
        ),
        (
            CLAUDE,
            Reasoning {
                budget: Some(10),
                ..Reasoning::default()
            },
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
            "clamp:thinking.budget_tokens=1024",
        ),
        (CLAUDE, effort(Effort::None), Value::Null, ""),
        (
            CLAUDE_3,
            effort(Effort::Low),
            Value::Null,
            "drop:reasoning_effort",
        ),
        (
            GPT_OSS,
            effort(Effort::Minimal),
            json!({"reasoning_effort": "low"}),
            "set:reasoning_effort=low",
        ),
        (
            GPT_OSS,
            effort(Effort::High),
            json!({"reasoning_effort": "high"}),
            "",
        ),
        (
            QWEN,
            effort(Effort::High),
            json!({"reasoning_config": "high"}),
            "",
        ),
        (
            QWEN,
            effort(Effort::Medium),
            json!({"reasoning_config": "high"}),
            "set:reasoning_effort=high",
        ),
        (
            NOVA_2,
            effort(Effort::Low),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
            "",
        ),
        (NOVA_2, effort(Effort::None), Value::Null, ""),
        (
            NOVA,
            effort(Effort::Low),
            Value::Null,
            "drop:reasoning_effort",
        ),
        (
            "xai.grok-4-6",
            effort(Effort::Max),
            json!({"reasoning": {"effort": "xhigh"}}),
            "set:reasoning_effort=xhigh",
        ),
        (
            "deepseek.v3.2",
            effort(Effort::Low),
            json!({"reasoning_effort": "high"}),
            "set:reasoning_effort=high",
        ),
        (
            OPAQUE,
            effort(Effort::Low),
            Value::Null,
            "drop:reasoning_effort",
        ),
    ] {
        let mut request = ask(model);
        request.reasoning = Some(reasoning);
        let (body, changes) = written(&request);
        assert_eq!(
            (&body["additionalModelRequestFields"], changes.as_str()),
            (&fields, told),
            "{model}"
        );
    }
}

#[test]
fn a_budget_fits_between_its_bounds_and_takes_sampling_and_forcing_away() {
    let mut request = ask(CLAUDE);
    request.reasoning = Some(Reasoning {
        effort: Some(Effort::High),
        ..Reasoning::default()
    });
    request.max_tokens = Some(1000);
    request.temperature = Some(0.2);
    request.top_k = Some(5);
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::Required);
    let (body, changes) = written(&request);
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 17384}));
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"auto": {}}));
    assert_eq!(
        changes,
        "set:max_tokens=17384,drop:temperature,drop:top_k,set:tool_choice=auto"
    );
    // A model that decides by itself may be made to call.
    request.model = CLAUDE_4_6.to_owned();
    assert_eq!(
        written(&request).0["toolConfig"]["toolChoice"],
        json!({"any": {}})
    );
}

#[test]
fn thinking_is_left_out_where_the_thoughts_before_a_call_are_lost() {
    let mut request = ask(CLAUDE);
    request.reasoning = Some(Reasoning {
        budget: Some(2000),
        ..Reasoning::default()
    });
    request.tools = vec![function("f")];
    request.turns = vec![
        user("Hello"),
        assistant(vec![call("t1", "f", "{}")]),
        Turn::new(Role::User, vec![result("t1", vec![Part::text("42")])]),
    ];
    let (body, changes) = written(&request);
    assert_eq!(body.get("additionalModelRequestFields"), None);
    assert_eq!(changes, "drop:reasoning_effort");
    // Once the user spoke again, they are no longer wanted.
    request.turns.push(assistant(vec![Part::text("It is 42")]));
    request.turns.push(user("Thanks"));
    assert_eq!(
        written(&request).0["additionalModelRequestFields"]["thinking"]["budget_tokens"],
        2000
    );
    // And with them all is well.
    request.turns.truncate(3);
    let thought = PartKind::Thinking {
        text: "hm".to_owned(),
        signature: Some(Signature::new(Origin::Anthropic, "sig")),
    };
    request.turns[1].parts.insert(0, thought.into());
    let (body, changes) = written(&request);
    assert_eq!(changes, "");
    assert_eq!(
        body["messages"][1]["content"][0],
        json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}})
    );
}

#[test]
fn thoughts_go_back_to_whom_they_belong() {
    let thought = |origin: Option<Origin>| -> Part {
        PartKind::Thinking {
            text: "hm".to_owned(),
            signature: origin.map(|origin| Signature::new(origin, "c2ln")),
        }
        .into()
    };
    let redacted = |origin| -> Part { PartKind::Redacted(Signature::new(origin, "c2ln")).into() };
    let signed =
        json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}});
    let bare = json!({"reasoningContent": {"reasoningText": {"text": "hm"}}});
    let hidden = json!({"reasoningContent": {"redactedContent": "YzJsbg=="}});
    let hidden_as_is = json!({"reasoningContent": {"redactedContent": "c2ln"}});
    let lost = "drop:reasoning_content";
    for (model, part, block, told) in [
        (CLAUDE, thought(Some(Origin::Anthropic)), Some(&signed), ""),
        (CLAUDE, thought(Some(Origin::Google)), None, lost),
        (CLAUDE, thought(None), None, lost),
        (NOVA_2, thought(Some(Origin::Bedrock)), Some(&signed), ""),
        (NOVA_2, thought(Some(Origin::Anthropic)), None, lost),
        (QWEN, thought(None), None, lost),
        (R1, thought(None), Some(&bare), ""),
        (R1, thought(Some(Origin::Anthropic)), Some(&bare), ""),
        (CLAUDE, redacted(Origin::Anthropic), Some(&hidden), ""),
        (
            CLAUDE,
            redacted(Origin::OpenAi),
            None,
            "drop:reasoning_details",
        ),
        (NOVA_2, redacted(Origin::Bedrock), Some(&hidden_as_is), ""),
        (
            NOVA_2,
            redacted(Origin::Anthropic),
            None,
            "drop:reasoning_details",
        ),
    ] {
        let mut request = ask(model);
        request.turns.push(assistant(vec![part, Part::text("Hi")]));
        request.turns.push(user("Go on"));
        let (body, changes) = written(&request);
        let content = body["messages"][1]["content"].as_array().unwrap();
        let found = content
            .iter()
            .find(|block| block.get("reasoningContent").is_some());
        assert_eq!((found, changes.as_str()), (block, told), "{model}");
    }
}

#[test]
fn tools_are_declared_as_they_must_be() {
    let mut request = ask(CLAUDE);
    request.tools = vec![
        function("f"),
        Tool {
            kind: ToolKind::Function {
                name: "bare".to_owned(),
                description: Some(" ".to_owned()),
                parameters: None,
                strict: Some(false),
            },
            cache: Some(CacheMark {
                ttl: Some("1h".to_owned()),
            }),
        },
        Tool {
            kind: ToolKind::Function {
                name: "untyped".to_owned(),
                description: None,
                parameters: Some(json!({"properties": {"x": {"type": "integer"}}})),
                strict: Some(true),
            },
            cache: None,
        },
        Tool {
            kind: ToolKind::Hosted {
                kind: "web_search".to_owned(),
                definition: json!({}),
            },
            cache: None,
        },
    ];
    request.tool_choice = Some(ToolChoice::Auto);
    let (body, changes) = written(&request);
    let tools = json!([
        {"toolSpec": {"name": "f", "description": "Does it", "inputSchema": {"json":
            {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}}}},
        {"toolSpec": {"name": "bare", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        {"toolSpec": {"name": "untyped", "inputSchema": {"json":
            {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": false}}, "strict": true}},
    ]);
    assert_eq!(
        body["toolConfig"],
        json!({"tools": tools, "toolChoice": {"auto": {}}})
    );
    assert_eq!(changes, "drop:web_search");
    // Keys keep their order: the prompt's cache hangs on it.
    let text = String::from_utf8(full(&request).0.body).unwrap();
    assert!(text.contains(r#"{"b":{"type":"string"},"a":"#));
    request.model = LLAMA.to_owned();
    let (body, changes) = written(&request);
    assert_eq!(
        changes,
        "drop:cache_control,drop:tools.strict,drop:web_search"
    );
    assert_eq!(body["toolConfig"].get("toolChoice"), None);
    request.tools = vec![function("a.b")];
    assert_eq!(
        refused(&request).param.as_deref(),
        Some("tools[0].function.name")
    );
}

#[test]
fn choices_of_tools() {
    let allowed = |required| ToolChoice::Allowed {
        required,
        names: vec!["g".to_owned()],
    };
    for (model, choice, converse, names, told) in [
        (CLAUDE, ToolChoice::Auto, json!({"auto": {}}), "fg", ""),
        (CLAUDE, ToolChoice::Required, json!({"any": {}}), "fg", ""),
        (
            NOVA,
            ToolChoice::Named("g".to_owned()),
            json!({"tool": {"name": "g"}}),
            "fg",
            "",
        ),
        (CLAUDE, allowed(false), json!({"auto": {}}), "g", ""),
        (CLAUDE, allowed(true), json!({"any": {}}), "g", ""),
        (LLAMA, ToolChoice::Auto, Value::Null, "fg", ""),
        (
            LLAMA,
            ToolChoice::Required,
            Value::Null,
            "fg",
            "set:tool_choice=auto",
        ),
        (
            LLAMA,
            ToolChoice::Named("g".to_owned()),
            Value::Null,
            "fg",
            "set:tool_choice=auto",
        ),
        (OPAQUE, ToolChoice::Required, json!({"any": {}}), "fg", ""),
        (CLAUDE, ToolChoice::None, Value::Null, "", ""),
    ] {
        let mut request = ask(model);
        request.tools = vec![function("f"), function("g")];
        request.tool_choice = Some(choice.clone());
        let (body, changes) = written(&request);
        let tools = body["toolConfig"]["tools"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found: String = tools
            .iter()
            .map(|tool| tool["toolSpec"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            (
                &body["toolConfig"]["toolChoice"],
                found.as_str(),
                changes.as_str()
            ),
            (&converse, names, told),
            "{model} {choice:?}"
        );
    }
    let mut request = ask(CLAUDE);
    request.tool_choice = Some(ToolChoice::Required);
    assert_eq!(refused(&request).param.as_deref(), Some("tool_choice"));
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::Named("other".to_owned()));
    assert_eq!(refused(&request).param.as_deref(), Some("tool_choice"));
}

#[test]
fn history_with_calls_keeps_tools_declared() {
    let mut request = ask(NOVA);
    request.turns = vec![
        user("Hello"),
        assistant(vec![call("t1", "f", "{}")]),
        Turn::new(Role::User, vec![result("t1", vec![Part::text("42")])]),
    ];
    let (body, changes) = written(&request);
    assert_eq!(changes, "add:tools");
    assert_eq!(
        body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]["type"],
        "object"
    );
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::None);
    let (body, changes) = written(&request);
    assert_eq!(changes, "drop:tool_choice");
    assert_eq!(body["toolConfig"].get("toolChoice"), None);
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    // Claude knows "none" by its own name.
    request.model = CLAUDE.to_owned();
    let (body, changes) = written(&request);
    assert_eq!(changes, "");
    assert_eq!(body["toolConfig"].get("toolChoice"), None);
    assert_eq!(
        body["additionalModelRequestFields"],
        json!({"tool_choice": {"type": "none"}})
    );
}

#[test]
fn one_call_at_a_time_where_the_model_can() {
    let mut request = ask(CLAUDE);
    request.tools = vec![function("f")];
    request.parallel_tool_calls = Some(false);
    let (body, changes) = written(&request);
    let serial = json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    assert_eq!(body["additionalModelRequestFields"], serial);
    assert_eq!(
        (body["toolConfig"].get("toolChoice"), changes.as_str()),
        (None, "")
    );
    request.model = NOVA.to_owned();
    assert_eq!(written(&request).1, "drop:parallel_tool_calls");
    request.parallel_tool_calls = Some(true);
    assert_eq!(written(&request).1, "");
    request.parallel_tool_calls = Some(false);
    request.tools.clear();
    assert_eq!(written(&request).1, "");
}

#[test]
fn a_schema_goes_as_text_or_becomes_a_tool_or_is_asked_for() {
    let format = Format::JsonSchema {
        name: Some("City".to_owned()),
        description: Some("A city".to_owned()),
        schema: json!({"type": "object", "properties": {"name": {"type": "string"}}}),
        strict: None,
    };
    let of = |model: &str| {
        let mut request = ask(model);
        request.format = Some(format.clone());
        request
    };
    for model in [CLAUDE, QWEN] {
        let (written, changes) = full(&of(model));
        let body: Value = serde_json::from_slice(&written.body).unwrap();
        let schema = r#"{"type":"object","properties":{"name":{"type":"string"}},"additionalProperties":false}"#;
        let found = &body["outputConfig"]["textFormat"];
        assert_eq!(found["type"], "json_schema");
        let definition = &found["structure"]["jsonSchema"];
        assert_eq!(
            (&definition["name"], &definition["description"]),
            (&json!("City"), &json!("A city"))
        );
        let closed: Value = serde_json::from_str(definition["schema"].as_str().unwrap()).unwrap();
        assert_eq!(closed, serde_json::from_str::<Value>(schema).unwrap());
        assert_eq!((written.unwrap, changes.as_str()), (Unwrap::Nothing, ""));
    }
    let (written, changes) = full(&of(CLAUDE_3));
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(
        body["toolConfig"]["toolChoice"],
        json!({"tool": {"name": "json_output"}})
    );
    assert_eq!(written.unwrap, Unwrap::Tool("json_output".to_owned()));
    assert_eq!(changes, "add:tools");
    // Beside tools of the client's it is one that may be called.
    let mut request = of(CLAUDE_3);
    request.tools = vec![function("json_output")];
    let (written, _) = full(&request);
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(written.unwrap, Unwrap::Tool("json_output_".to_owned()));
    // A call that must come has no other form.
    request.tool_choice = Some(ToolChoice::Required);
    let (written, _) = full(&request);
    assert_eq!(written.unwrap, Unwrap::Nothing);
    let (written, changes) = full(&of(LLAMA));
    let body: Value = serde_json::from_slice(&written.body).unwrap();
    assert!(
        body["system"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\"name\"")
    );
    assert_eq!(
        (written.unwrap, changes.as_str()),
        (Unwrap::Fence, "add:system")
    );
    let mut request = ask(CLAUDE);
    request.format = Some(Format::JsonObject);
    let (written, changes) = full(&request);
    assert_eq!(
        (written.unwrap, changes.as_str()),
        (Unwrap::Fence, "add:system")
    );
}

#[test]
fn speakers_alternate_and_blanks_are_left_out() {
    let mut request = ask(NOVA);
    request.turns = vec![
        assistant(vec![Part::text("Welcome")]),
        user("One"),
        user(" "),
        assistant(vec![Part::text("")]),
        Turn {
            name: Some("Ann".to_owned()),
            ..user("Two")
        },
        Turn::new(Role::System, vec![Part::text("Be brief")]),
        assistant(vec![Part::text("Let me \n")]),
    ];
    let (body, changes) = written(&request);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"text": "."}]},
            {"role": "assistant", "content": [{"text": "Welcome"}]},
            {"role": "user", "content": [{"text": "One"}, {"text": "Two"}, {"text": "<system>\nBe brief\n</system>"}]},
            {"role": "assistant", "content": [{"text": "Let me"}]},
        ])
    );
    assert_eq!(changes, "drop:messages.name,add:messages");
    request.model = CLAUDE.to_owned();
    assert_eq!(written(&request).0["messages"][0]["role"], "assistant");
    request.turns.clear();
    assert_eq!(refused(&request).param.as_deref(), Some("messages"));
    request.system = vec![Part::text("Say hello")];
    assert_eq!(
        written(&request).0["messages"],
        json!([{"role": "user", "content": [{"text": "."}]}])
    );
}

#[test]
fn calls_and_results_fit_together() {
    let long = "x".repeat(70);
    let mut request = ask(CLAUDE);
    request.tools = vec![function("f")];
    request.turns = vec![
        user("Hello"),
        assistant(vec![
            Part::text("Calling"),
            call("functions.get:0", "f", r#"{"b": 1, "a": 2}"#),
            call(&long, "mcp.tool/name", ""),
        ]),
        Turn::new(Role::User, vec![result(&long, vec![])]),
        Turn::new(
            Role::User,
            vec![
                Part::text("And?"),
                result("functions.get:0", vec![Part::text(r#"{"x":1}"#)]),
            ],
        ),
    ];
    let (body, _) = written(&request);
    let calls = &body["messages"][1]["content"];
    assert_eq!(
        calls[1]["toolUse"],
        json!({"toolUseId": "functions.get:0", "name": "f", "input": {"b": 1, "a": 2}})
    );
    assert_eq!(
        (&calls[2]["toolUse"]["name"], &calls[2]["toolUse"]["input"]),
        (&json!("mcp_tool_name"), &json!({}))
    );
    let results = &body["messages"][2]["content"];
    assert_eq!(
        results[0]["toolResult"]["toolUseId"],
        calls[2]["toolUse"]["toolUseId"]
    );
    assert!(
        results[0]["toolResult"]["toolUseId"]
            .as_str()
            .unwrap()
            .len()
            <= 64
    );
    assert_eq!(results[0]["toolResult"]["content"], json!([{"text": "."}]));
    assert_eq!(
        results[1]["toolResult"],
        json!({"toolUseId": "functions.get:0", "content": [{"text": "{\"x\":1}"}], "status": "success"})
    );
    assert_eq!(results[2], json!({"text": "And?"}));

    request.model = MISTRAL.to_owned();
    let (body, changes) = written(&request);
    let id = body["messages"][1]["content"][1]["toolUse"]["toolUseId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 9);
    let results = &body["messages"][2]["content"];
    assert_eq!(results[1]["toolResult"]["toolUseId"], json!(id));
    assert_eq!(
        results[1]["toolResult"]["content"],
        json!([{"json": {"x": 1}}])
    );
    // Nothing may stand beside results, and turns of one speaker would be joined.
    assert_eq!(
        body["messages"][3],
        json!({"role": "assistant", "content": [{"text": "."}]})
    );
    assert_eq!(
        body["messages"][4],
        json!({"role": "user", "content": [{"text": "And?"}]})
    );
    assert_eq!(changes, "add:messages");
}

#[test]
fn calls_that_make_no_sense_are_refused_where_they_stand() {
    let mut request = ask(CLAUDE);
    request.system = vec![Part::text("Be brief")];
    request.turns.push(assistant(vec![call("t1", "f", "[1]")]));
    assert_eq!(
        refused(&request).param.as_deref(),
        Some("messages[2].tool_calls")
    );
    request.turns[1] = assistant(vec![call("t1", "f", "{}")]);
    request
        .turns
        .push(Turn::new(Role::User, vec![result("t2", vec![])]));
    assert_eq!(
        refused(&request).param.as_deref(),
        Some("messages[3].tool_call_id")
    );
    request.from = Dialect::Messages;
    assert_eq!(
        refused(&request).param.as_deref(),
        Some("messages[2].tool_call_id")
    );
}

#[test]
fn failed_tools_and_their_pictures() {
    let failed: Part = PartKind::ToolResult {
        id: "t1".to_owned(),
        content: vec![
            Part::text("no"),
            image("image/png"),
            document("a.pdf", "application/pdf"),
        ],
        is_error: true,
    }
    .into();
    let mut request = ask(CLAUDE);
    request.turns.push(assistant(vec![call("t1", "f", "{}")]));
    request.turns.push(Turn::new(Role::User, vec![failed]));
    let file = json!({"image": {"format": "png", "source": {"bytes": "aGk="}}});
    let pdf = json!({"document": {"format": "pdf", "name": "a", "source": {"bytes": "aGk="}}});
    let (body, _) = written(&request);
    assert_eq!(
        body["messages"][2]["content"],
        json!([{"toolResult": {"toolUseId": "t1", "content": [{"text": "no"}, file, pdf], "status": "error"}}])
    );
    request.model = "writer.palmyra-x5-v1:0".to_owned();
    let (body, changes) = written(&request);
    let result = &body["messages"][2]["content"][0]["toolResult"];
    assert_eq!(result.get("status"), None);
    assert_eq!(result["content"].as_array().unwrap().len(), 3);
    assert_eq!(
        body["messages"][4]["content"],
        json!([{"text": "The result of the tool call t1:"}, pdf])
    );
    assert_eq!(changes, "drop:is_error,add:messages,add:tools");
}

#[test]
fn media_go_by_bytes_and_formats() {
    let mut request = ask(CLAUDE);
    let text_file: Part = PartKind::Document {
        media: Media::Text("hi".to_owned()),
        name: None,
    }
    .into();
    let in_s3: Part = PartKind::Image {
        media: Media::Url {
            url: "s3://bucket/a.jpg".to_owned(),
            mime: None,
        },
        detail: Some("high".to_owned()),
    }
    .into();
    let table = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    request.turns = vec![Turn::new(
        Role::User,
        vec![
            image("image/jpeg"),
            in_s3,
            document("a.xlsx", table),
            document("a.xlsx", table),
            text_file,
        ],
    )];
    let (body, changes) = written(&request);
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"text": "."},
            {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}},
            {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
            {"document": {"format": "xlsx", "name": "a", "source": {"bytes": "aGk="}}},
            {"document": {"format": "xlsx", "name": "a 2", "source": {"bytes": "aGk="}}},
            {"document": {"format": "txt", "name": "document", "source": {"bytes": "aGk="}}},
        ])
    );
    assert_eq!(changes, "drop:detail,add:messages.content");
}

#[test]
fn media_that_cannot_go_are_refused_where_they_stand() {
    let remote = Media::Url {
        url: "https://example.com/a".to_owned(),
        mime: None,
    };
    let document = PartKind::Document {
        media: remote.clone(),
        name: None,
    };
    let file = PartKind::Document {
        media: Media::File("file-1".to_owned()),
        name: None,
    };
    let audio = Media::Inline {
        mime: "audio/wav".to_owned(),
        data: String::new(),
    };
    let picture = PartKind::Image {
        media: remote,
        detail: None,
    };
    assert!(!takes_url(
        &picture,
        "https://example.com/a",
        &upstream(CLAUDE)
    ));
    assert!(takes_url(&picture, "s3://bucket/a.png", &upstream(CLAUDE)));
    for (part, word) in [
        (picture.into(), "media.fetch"),
        (document.into(), "media.fetch"),
        (file.into(), "store"),
        (image("image/svg+xml"), "png, jpeg, gif, webp"),
        (PartKind::Audio(audio).into(), "sound"),
        (PartKind::Video(Media::Text(String::new())).into(), "films"),
    ] {
        let mut request = ask(CLAUDE);
        request.turns[0].parts.push(part);
        let refusal = refused(&request);
        assert_eq!(refusal.param.as_deref(), Some("messages[0].content[1]"));
        assert!(refusal.message.contains(word), "{refusal}");
    }
    let mut request = ask(NOVA);
    let film = Media::Inline {
        mime: "video/mp4".to_owned(),
        data: "aGk=".to_owned(),
    };
    request.turns[0].parts.push(PartKind::Video(film).into());
    let video = json!({"video": {"format": "mp4", "source": {"bytes": "aGk="}}});
    assert_eq!(written(&request).0["messages"][0]["content"][1], video);
}

#[test]
fn cache_marks_become_points_where_the_family_has_them() {
    let of = |model: &str| {
        let mut request = ask(model);
        request.system = vec![marked(Part::text("Be brief"), Some("1h"))];
        request.turns = vec![Turn::new(
            Role::User,
            vec![
                marked(Part::text("Hello"), None),
                marked(document("a.csv", "text/csv"), None),
            ],
        )];
        request
    };
    let (body, changes) = written(&of(CLAUDE));
    assert_eq!(
        body["system"][1],
        json!({"cachePoint": {"type": "default", "ttl": "1h"}})
    );
    let point = json!({"cachePoint": {"type": "default"}});
    // Behind a document that is no PDF it would be refused; before it there is one already.
    assert_eq!(body["messages"][0]["content"][1], point);
    assert_eq!(body["messages"][0]["content"].as_array().unwrap().len(), 3);
    assert_eq!(changes, "drop:cache_control");
    let (body, changes) = written(&of(NOVA));
    assert_eq!(
        (&body["system"][1], &body["messages"][0]["content"][1]),
        (&point, &point)
    );
    assert_eq!(changes, "drop:cache_control.ttl,drop:cache_control");
    let (body, changes) = written(&of(LLAMA));
    assert_eq!(body["system"].as_array().unwrap().len(), 1);
    assert_eq!(changes, "drop:cache_control");
    // Behind the results of tools they stay with them.
    let mut request = ask(CLAUDE);
    request.turns.push(assistant(vec![call("t1", "f", "{}")]));
    let answers = vec![
        Part::text("Here"),
        marked(result("t1", vec![Part::text("42")]), None),
    ];
    request.turns.push(Turn::new(Role::User, answers));
    let content = &written(&request).0["messages"][2]["content"];
    assert!(content[0].get("toolResult").is_some());
    assert_eq!(
        (&content[1], &content[2]),
        (&point, &json!({"text": "Here"}))
    );
}

#[test]
fn what_only_other_dialects_know_is_left_out_and_told() {
    let mut request = ask(CLAUDE);
    let cited = PartKind::Text {
        text: "See there".to_owned(),
        citations: vec![Citation::default()],
        signature: Some(Signature::new(Origin::Google, "x")),
    };
    let foreign = PartKind::Foreign(json!({"type": "server_tool_use"}));
    let parts = vec![
        cited.into(),
        foreign.into(),
        PartKind::Refusal("No".to_owned()).into(),
    ];
    request.turns.push(assistant(parts));
    request.turns.push(user("Go on"));
    let (body, changes) = written(&request);
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"text": "See there"}, {"text": "No"}])
    );
    assert_eq!(changes, "drop:messages.annotations,drop:server_tool_use");
}
