//! Requests of chat clients for providers that speak chat.

use super::*;

#[test]
fn a_request_that_needs_nothing_keeps_every_byte_but_the_model() {
    let body = "{ \"model\" : \"openai/gpt-4o\",\"temperature\":1.0e0, \"seed\":123456789012345678901234567890,\n\"odd\":{\"b\":1,\"a\":[ ]},\"messages\":[{\"role\":\"developer\",\"content\":\"\\u00e9\"}] } ";
    let mut changes = Changes::default();
    let slug = upstream(Slug::OpenAi, "gpt-4o");
    let edited = edit_request(body.as_bytes(), &slug, &mut changes).unwrap();
    let expected = body.replace("openai/gpt-4o", "gpt-4o");
    assert_eq!(String::from_utf8(edited.body).unwrap(), expected);
    assert!(changes.is_empty());
    assert!(!edited.stream && !edited.include_usage);
}

#[test]
fn the_bound_of_tokens_has_the_name_that_the_provider_knows() {
    let old = hello(json!({"max_tokens": 5}));
    let new = hello(json!({"max_completion_tokens": 5}));
    let both = hello(json!({"max_tokens": 4, "max_completion_tokens": 5}));
    for (slug, model, body, field, told) in [
        (Slug::OpenAi, "gpt-4o", &old, "max_tokens", ""),
        (Slug::OpenAi, "gpt-4o", &new, "max_completion_tokens", ""),
        (
            Slug::OpenAi,
            "o3",
            &old,
            "max_completion_tokens",
            "rename:max_tokens=max_completion_tokens",
        ),
        (
            Slug::AzureOpenAi,
            "gpt-5-mini",
            &old,
            "max_completion_tokens",
            "rename:max_tokens=max_completion_tokens",
        ),
        (
            Slug::OpenAi,
            "gpt-4o",
            &both,
            "max_completion_tokens",
            "drop:max_tokens",
        ),
        (Slug::Groq, "m", &new, "max_completion_tokens", ""),
        (Slug::Cerebras, "m", &old, "max_tokens", ""),
        (
            Slug::DeepSeek,
            "m",
            &new,
            "max_tokens",
            "rename:max_completion_tokens=max_tokens",
        ),
        (
            Slug::Mistral,
            "m",
            &both,
            "max_tokens",
            "drop:max_tokens,rename:max_completion_tokens=max_tokens",
        ),
        (
            Slug::Custom,
            "m",
            &new,
            "max_tokens",
            "rename:max_completion_tokens=max_tokens",
        ),
        (Slug::Custom, "o3", &new, "max_completion_tokens", ""),
    ] {
        let (body, changes) = edited(slug, model, body.clone());
        assert_eq!(body[field], 5, "{slug:?} {body}");
        let other = match field {
            "max_tokens" => "max_completion_tokens",
            _ => "max_tokens",
        };
        assert!(body.get(other).is_none(), "{slug:?} {body}");
        assert_eq!(changes, told, "{slug:?}");
    }
}

#[test]
fn developers_are_systems_but_for_openai() {
    let body = json!({"model": "m", "messages": [{"role": "developer", "content": "x"}]});
    for slug in [Slug::OpenAi, Slug::AzureOpenAi] {
        assert_eq!(
            edited(slug, "m", body.clone()),
            (body.clone(), String::new())
        );
    }
    for slug in [
        Slug::Groq,
        Slug::Mistral,
        Slug::WorkersAi,
        Slug::Custom,
        Slug::PerplexityAi,
    ] {
        let (body, changes) = edited(slug, "m", body.clone());
        assert_eq!(body["messages"][0]["role"], "system", "{slug:?}");
        assert_eq!(changes, "set:messages.role=system");
    }
}

#[test]
fn fields_go_where_the_row_says_so() {
    for (slug, fields) in [
        (
            Slug::Groq,
            &["logit_bias", "prompt_cache_key", "top_logprobs"][..],
        ),
        (
            Slug::WorkersAi,
            &[
                "logit_bias",
                "metadata",
                "user",
                "parallel_tool_calls",
                "service_tier",
                "store",
                "prediction",
                "verbosity",
                "prompt_cache_key",
                "web_search_options",
            ],
        ),
        (
            Slug::PerplexityAi,
            &["stop", "seed", "logit_bias", "parallel_tool_calls"],
        ),
        (
            Slug::Cerebras,
            &[
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "parallel_tool_calls",
                "service_tier",
            ],
        ),
        (
            Slug::Mistral,
            &[
                "user",
                "logit_bias",
                "store",
                "service_tier",
                "verbosity",
                "prompt_cache_key",
                "web_search_options",
                "unheard_of",
            ],
        ),
        (
            Slug::Parallel,
            &["temperature", "stop", "seed", "user", "unheard_of"],
        ),
    ] {
        let given: serde_json::Map<String, Value> = fields
            .iter()
            .map(|field| ((*field).to_owned(), json!(1)))
            .collect();
        let (body, changes) = edited(slug, "m", hello(Value::Object(given)));
        assert_eq!(body, hello(json!({})), "{slug:?}");
        for field in fields {
            assert!(
                changes.contains(&format!("drop:{field}")),
                "{slug:?}: {changes}"
            );
        }
    }
    let odd = hello(
        json!({"search_domain_filter": ["a"], "provider": {"only": ["x"]}, "top_k": 3, "unheard_of": null}),
    );
    for slug in [
        Slug::PerplexityAi,
        Slug::OpenRouter,
        Slug::Custom,
        Slug::Groq,
        Slug::OpenAi,
    ] {
        assert_eq!(edited(slug, "m", odd.clone()), (odd.clone(), String::new()));
    }
}

#[test]
fn what_would_change_the_answer_is_refused_and_named() {
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let custom = json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]});
    let with = |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]});
    let audio =
        with(json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}));
    let file = with(json!({"type": "file", "file": {"file_id": "f"}}));
    for (slug, more, param) in [
        (Slug::Groq, json!({"n": 2}), "n"),
        (Slug::WorkersAi, json!({"n": 2}), "n"),
        (Slug::PerplexityAi, json!({"n": 2}), "n"),
        (Slug::Parallel, json!({"n": 2}), "n"),
        (Slug::Groq, json!({"logprobs": true}), "logprobs"),
        (Slug::WorkersAi, json!({"logprobs": true}), "logprobs"),
        (Slug::Parallel, tools, "tools"),
        (Slug::WorkersAi, custom.clone(), "tools[1].type"),
        (Slug::Mistral, custom, "tools[1].type"),
        (
            Slug::WorkersAi,
            json!({"modalities": ["text", "audio"]}),
            "modalities",
        ),
        (
            Slug::Mistral,
            json!({"modalities": ["audio"]}),
            "modalities",
        ),
        (Slug::WorkersAi, audio, "messages[0].content[1].type"),
        (Slug::WorkersAi, file.clone(), "messages[0].content[1].type"),
        (Slug::Mistral, file, "messages[0].content[1].file.file_id"),
        (
            Slug::Mistral,
            json!({"functions": [{"name": "f"}]}),
            "functions",
        ),
    ] {
        let refused = refused(slug, hello(more));
        assert_eq!(refused.param.as_deref(), Some(param), "{slug:?}");
        assert_eq!(refused.code, Some("unsupported_parameter"));
    }
    let (body, changes) = edited(Slug::Groq, "m", hello(json!({"n": 1, "logprobs": false})));
    assert_eq!((body, changes.as_str()), (hello(json!({"n": 1})), ""));
}

#[test]
fn the_usage_of_a_stream_is_asked_for_and_who_wants_it_is_remembered() {
    let ask = |slug, options: Value| {
        let mut body = hello(json!({"stream": true}));
        if !options.is_null() {
            body["stream_options"] = options;
        }
        let mut changes = Changes::default();
        let text = body.to_string();
        let edited = edit_request(text.as_bytes(), &upstream(slug, "m"), &mut changes).unwrap();
        assert!(edited.stream);
        let body: Value = serde_json::from_slice(&edited.body).unwrap();
        (
            body["stream_options"].clone(),
            edited.include_usage,
            changes.to_string(),
        )
    };
    let added = "add:stream_options.include_usage".to_owned();
    let wanted = json!({"include_usage": true});
    assert_eq!(
        ask(Slug::OpenAi, Value::Null),
        (wanted.clone(), false, added.clone())
    );
    assert_eq!(
        ask(Slug::OpenAi, json!({"include_usage": true})),
        (wanted.clone(), true, String::new())
    );
    assert_eq!(
        ask(
            Slug::Groq,
            json!({"include_usage": false, "include_obfuscation": false})
        ),
        (
            json!({"include_usage": true, "include_obfuscation": false}),
            false,
            added
        )
    );
    for slug in [Slug::Mistral, Slug::Parallel, Slug::PerplexityAi] {
        assert_eq!(
            ask(slug, wanted.clone()),
            (Value::Null, true, String::new())
        );
    }
    let (body, _) = edited(Slug::OpenAi, "m", hello(json!({"stream": false})));
    assert!(body.get("stream_options").is_none());
}

#[test]
fn allowed_tools_are_sorted_out_where_the_form_is_not_known() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "strict": true}});
    let choice = |mode: &str| {
        json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [
            {"type": "function", "function": {"name": "b"}},
        ]}})
    };
    let body =
        |mode: &str| hello(json!({"tools": [tool("a"), tool("b")], "tool_choice": choice(mode)}));
    assert_eq!(
        edited(Slug::OpenAi, "m", body("auto")),
        (body("auto"), String::new())
    );
    for (slug, mode, word) in [
        (Slug::Groq, "auto", "auto"),
        (Slug::Groq, "required", "required"),
        (Slug::Mistral, "required", "any"),
    ] {
        let (body, changes) = edited(slug, "m", body(mode));
        assert_eq!(body["tools"], json!([tool("b")]));
        assert_eq!(body["tool_choice"], word);
        assert_eq!(changes, format!("set:tool_choice={mode}"));
    }
    let (body, changes) = edited(Slug::Grok, "grok-4", body("auto"));
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {"name": "b"}}])
    );
    assert_eq!(changes, "drop:tools.strict,set:tool_choice=auto");
}

#[test]
fn efforts_have_the_words_of_the_model() {
    for (slug, model, wanted, sent, told) in [
        (Slug::OpenAi, "o3", "max", json!("max"), ""),
        (
            Slug::Groq,
            "openai/gpt-oss-120b",
            "xhigh",
            json!("high"),
            "clamp:reasoning_effort=high",
        ),
        (
            Slug::Groq,
            "openai/gpt-oss-20b",
            "none",
            json!("low"),
            "clamp:reasoning_effort=low",
        ),
        (
            Slug::Groq,
            "qwen/qwen3-32b",
            "high",
            json!("default"),
            "clamp:reasoning_effort=default",
        ),
        (Slug::Groq, "qwen/qwen3-32b", "none", json!("none"), ""),
        (
            Slug::Grok,
            "grok-3-mini",
            "medium",
            json!("high"),
            "clamp:reasoning_effort=high",
        ),
        (Slug::Grok, "grok-4.3", "none", json!("none"), ""),
        (
            Slug::Grok,
            "grok-4.5",
            "none",
            json!("low"),
            "clamp:reasoning_effort=low",
        ),
        (
            Slug::Grok,
            "grok-4",
            "high",
            Value::Null,
            "drop:reasoning_effort",
        ),
        (Slug::DeepSeek, "deepseek-chat", "high", json!("high"), ""),
        (
            Slug::DeepSeek,
            "deepseek-v4",
            "none",
            Value::Null,
            "drop:reasoning_effort,set:thinking=disabled",
        ),
    ] {
        let (body, changes) = edited(slug, model, hello(json!({"reasoning_effort": wanted})));
        assert_eq!(body["reasoning_effort"], sent, "{model} {wanted}");
        assert_eq!(changes, told, "{model} {wanted}");
    }
}

#[test]
fn xais_reasoning_models_refuse_penalties_and_stops() {
    let more = json!({"presence_penalty": 1, "frequency_penalty": 1, "stop": ["x"]});
    let (body, changes) = edited(Slug::Grok, "grok-4", hello(more.clone()));
    assert_eq!(body, {
        let mut body = hello(json!({}));
        body["model"] = json!("grok-4");
        body
    });
    assert_eq!(
        changes,
        "drop:presence_penalty,drop:frequency_penalty,drop:stop"
    );
    let model = "grok-4-fast-non-reasoning";
    assert_eq!(edited(Slug::Grok, model, hello(more)).1, "");
}

#[test]
fn temperatures_stay_within_bounds() {
    for (slug, given, sent) in [
        (Slug::Mistral, 2.0, 1.5),
        (Slug::Mistral, 1.5, 1.5),
        (Slug::OpenAi, 2.0, 2.0),
        (Slug::WorkersAi, 6.0, 5.0),
    ] {
        let (body, changes) = edited(slug, "m", hello(json!({"temperature": given})));
        assert_eq!(body["temperature"].as_f64(), Some(sent));
        assert_eq!(changes.is_empty(), given == sent);
    }
}

#[test]
fn a_schema_is_told_in_words_where_there_is_no_mode_for_it() {
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    let (body, changes) = edited(
        Slug::DeepSeek,
        "m",
        hello(json!({"response_format": format})),
    );
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    let told = body["messages"][0]["content"].as_str().unwrap();
    assert!(told.contains("JSON") && told.ends_with(r#"{"type":"object"}"#));
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!(body["messages"][1], hello(json!({}))["messages"][0]);
    assert_eq!(changes, "set:response_format=json_object,add:messages");
    let more = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}});
    let refused = refused(Slug::DeepSeek, hello(more));
    assert_eq!(
        refused.param.as_deref(),
        Some("response_format.json_schema.schema")
    );
}

#[test]
fn thoughts_go_where_the_provider_looks_for_them() {
    let details = json!([{"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1"}]);
    let turn = |message: Value| {
        let mut assistant = json!({"role": "assistant", "content": "a"});
        for (field, value) in message.as_object().unwrap() {
            assistant[field] = value.clone();
        }
        json!({"model": "m", "messages": [{"role": "user", "content": "u"}, assistant]})
    };
    let both = turn(json!({"reasoning_content": "t", "reasoning_details": details}));
    for (slug, model, body, left) in [
        (Slug::OpenAi, "m", &both, json!({})),
        (Slug::AzureOpenAi, "m", &both, json!({})),
        (Slug::Groq, "m", &both, json!({"reasoning": "t"})),
        (Slug::Cerebras, "m", &both, json!({"reasoning": "t"})),
        (
            Slug::DeepSeek,
            "m",
            &both,
            json!({"reasoning_content": "t"}),
        ),
        (Slug::Grok, "m", &both, json!({"reasoning_content": "t"})),
        (
            Slug::OpenRouter,
            "openai/gpt-5",
            &both,
            json!({"reasoning": "t"}),
        ),
        (
            Slug::OpenRouter,
            "anthropic/claude-sonnet-4.5",
            &both,
            json!({"reasoning": "t", "reasoning_details": details}),
        ),
        (
            Slug::Custom,
            "m",
            &both,
            json!({"reasoning_content": "t", "reasoning_details": details}),
        ),
        (
            Slug::Groq,
            "m",
            &turn(json!({"reasoning": "t", "reasoning_content": "t"})),
            json!({"reasoning": "t"}),
        ),
        (
            Slug::DeepSeek,
            "m",
            &turn(json!({"reasoning": "t"})),
            json!({"reasoning_content": "t"}),
        ),
    ] {
        let (body, _) = edited(slug, model, body.clone());
        let mut expected = turn(left)["messages"][1].clone();
        let mut found = body["messages"][1].clone();
        for value in [&mut expected, &mut found] {
            value.as_object_mut().unwrap().sort_keys();
        }
        assert_eq!(found, expected, "{slug:?} {model}");
    }
}

#[test]
fn deepseek_gets_its_thoughts_back_even_when_the_client_lost_them() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]});
    let body = |more: Value| {
        let mut body = json!({"model": "deepseek-reasoner", "messages": [
            {"role": "user", "content": "u"}, call, {"role": "tool", "tool_call_id": "c", "content": "r"},
        ]});
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    };
    let (sent, changes) = edited(Slug::DeepSeek, "deepseek-reasoner", body(json!({})));
    assert_eq!(sent["messages"][1]["reasoning_content"], " ");
    assert_eq!(changes, "add:messages.reasoning_content");
    let off = body(json!({"thinking": {"type": "disabled"}}));
    let (sent, _) = edited(Slug::DeepSeek, "deepseek-reasoner", off);
    assert!(sent["messages"][1].get("reasoning_content").is_none());
}

#[test]
fn cache_marks_and_foreign_signatures_stay_away_from_those_who_refuse_them() {
    let mark = json!({"type": "ephemeral"});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "s"}}});
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": mark}]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
    ], "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}]});
    let (sent, changes) = edited(Slug::OpenAi, "m", body.clone());
    let text = sent.to_string();
    assert!(!text.contains("cache_control") && !text.contains("extra_content"));
    assert_eq!(
        changes,
        "drop:cache_control,drop:messages.tool_calls.extra_content"
    );
    assert_eq!(
        edited(Slug::Custom, "m", body.clone()),
        (body.clone(), String::new())
    );
    let (sent, _) = edited(Slug::OpenRouter, "m", body.clone());
    assert_eq!(sent["tools"], body["tools"]);
    assert_eq!(sent["messages"][0], body["messages"][0]);
}

#[test]
fn single_providers_have_rules_of_their_own_for_messages() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "name": "Ann", "content": "u"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ]});
    let (sent, changes) = edited(Slug::Groq, "m", body.clone());
    assert_eq!(sent["messages"][0], json!({"role": "user", "content": "u"}));
    assert_eq!(sent["messages"][1], body["messages"][1]);
    assert_eq!(changes, "drop:messages.name");
    let (sent, _) = edited(Slug::WorkersAi, "m", body);
    assert_eq!(sent["messages"][1]["content"], "");
    let body = json!({"model": "m", "messages": [
        {"role": "developer", "content": "s"}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c", "reasoning_content": "t"},
        {"role": "user", "content": [{"type": "text", "text": "d"}]}, {"role": "user", "content": "e"},
    ]});
    let (sent, changes) = edited(Slug::PerplexityAi, "m", body);
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "s"}, {"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c"},
            {"role": "user", "content": [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]},
        ])
    );
    assert_eq!(
        changes,
        "set:messages.role=system,drop:messages.reasoning_content,set:messages=merged"
    );
}

#[test]
fn mistral_gets_what_its_closed_schema_takes() {
    let body = json!({"model": "m", "seed": 3, "tool_choice": "required", "temperature": 0.5, "prompt_cache_key": "k",
    "stream_options": {"include_usage": true}, "tools": [{"type": "function", "function": {"name": "f"}}],
    "messages": [
        {"role": "developer", "name": "x", "content": "s"},
        {"role": "user", "name": "Ann", "content": [
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        ]},
        {"role": "assistant", "content": null, "refusal": null, "annotations": [], "tool_calls": [
            {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_0123456789", "name": "f", "content": "r"},
        {"role": "user", "content": "next"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "prefill", "reasoning_content": "t"},
    ]});
    let (sent, changes) = edited(Slug::Mistral, "m", body.clone());
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages[0], json!({"role": "system", "content": "s"}));
    assert_eq!(
        messages[1],
        json!({"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            {"type": "document_url", "document_url": "data:application/pdf;base64,AA==", "document_name": "a.pdf"},
            {"type": "input_audio", "input_audio": "AA=="},
        ]})
    );
    let id = messages[2]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(messages[3]["tool_call_id"], id);
    assert_eq!(messages[3]["name"], "f");
    assert!(messages[2].get("refusal").is_none());
    assert_eq!(messages[4], json!({"role": "assistant", "content": "OK"}));
    assert_eq!(messages[5], json!({"role": "user", "content": "next"}));
    assert_eq!(
        messages[6],
        json!({"role": "assistant", "content": "prefill", "prefix": true})
    );
    assert_eq!(messages.len(), 7);
    assert_eq!(sent["random_seed"], 3);
    assert_eq!(sent["tool_choice"], "any");
    for gone in ["seed", "prompt_cache_key", "stream_options"] {
        assert!(sent.get(gone).is_none());
    }
    for told in [
        "rename:seed=random_seed",
        "drop:prompt_cache_key",
        "add:messages",
        "drop:messages.name",
        "drop:messages.reasoning_content",
    ] {
        assert!(changes.contains(told), "{told}: {changes}");
    }
    let (sent, _) = edited(Slug::Mistral, "magistral-medium", body);
    assert_eq!(
        sent["messages"][6]["content"],
        json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "prefill"},
        ])
    );
}
