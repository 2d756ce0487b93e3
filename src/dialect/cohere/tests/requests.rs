use super::*;

const PLAIN: &str = "command-a-03-2025";
const REASONING: &str = "command-a-reasoning-08-2025";

fn request(turns: Vec<Turn>) -> Request {
    Request {
        turns,
        ..Request::new(Dialect::Chat, "")
    }
}

fn asked(text: &str) -> Request {
    request(vec![Turn::new(Role::User, vec![Part::text(text)])])
}

fn function(name: &str, strict: Option<bool>) -> Tool {
    Tool {
        kind: ToolKind::Function {
            name: name.to_owned(),
            description: None,
            parameters: Some(json!({"type": "object"})),
            strict,
        },
        cache: None,
    }
}

fn result(id: &str, content: Vec<Part>) -> Part {
    PartKind::ToolResult {
        id: id.to_owned(),
        content,
        is_error: false,
    }
    .into()
}

fn try_write(request: &Request, model: &str) -> Result<(Value, String), Invalid> {
    let upstream = Upstream {
        slug: Slug::Cohere,
        model,
        max_output: Some(8000),
    };
    let mut changes = Changes::default();
    let written = write_request(request, &upstream, &mut changes)?;
    let body = serde_json::from_slice(&written.body).expect("JSON");
    Ok((body, changes.to_string()))
}

fn write(request: &Request) -> (Value, String) {
    try_write(request, PLAIN).expect("written")
}

fn refused(request: &Request) -> String {
    try_write(request, PLAIN)
        .expect_err("refused")
        .param
        .expect("a place")
}

#[test]
fn a_plain_question_has_nothing_else() {
    let (body, changes) = write(&asked("Hi"));
    assert_eq!(
        body,
        json!({"model": PLAIN, "messages": [{"role": "user", "content": "Hi"}]})
    );
    assert_eq!(changes, "");
    let streamed = Request {
        stream: true,
        include_usage: true,
        ..asked("Hi")
    };
    assert_eq!(write(&streamed).0["stream"], true);
}

#[test]
fn every_plain_parameter_has_its_name() {
    let mut request = Request {
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        stop: vec!["a".to_owned()],
        seed: Some(7),
        presence_penalty: Some(0.25),
        frequency_penalty: Some(0.5),
        choices: Some(1),
        logprobs: Some(0),
        ..asked("Hi")
    };
    request
        .extra
        .insert("safety_mode".to_owned(), json!("STRICT"));
    request
        .extra
        .insert("citation_options".to_owned(), json!({"mode": "off"}));
    let (mut body, changes) = write(&request);
    body["messages"].take();
    assert_eq!(
        body,
        json!({
            "model": PLAIN, "messages": null, "max_tokens": 100, "temperature": 0.5, "p": 0.9, "k": 40, "seed": 7,
            "stop_sequences": ["a"], "frequency_penalty": 0.5, "presence_penalty": 0.25, "logprobs": true,
            "citation_options": {"mode": "off"}, "safety_mode": "STRICT",
        })
    );
    assert_eq!(changes, "");
}

#[test]
fn values_out_of_range_are_clamped_and_reported() {
    let request = Request {
        max_tokens: Some(100_000),
        temperature: Some(1.5),
        top_p: Some(1.0),
        top_k: Some(900),
        stop: "abcdef".chars().map(String::from).collect(),
        seed: Some(-7),
        presence_penalty: Some(-1.0),
        frequency_penalty: Some(2.0),
        logprobs: Some(3),
        ..asked("Hi")
    };
    let (body, changes) = write(&request);
    assert_eq!(
        (&body["temperature"], &body["p"]),
        (&json!(1.0), &json!(0.99))
    );
    assert_eq!(
        (&body["presence_penalty"], &body["frequency_penalty"]),
        (&json!(0.0), &json!(1.0))
    );
    assert_eq!(
        (&body["seed"], &body["k"], &body["max_tokens"]),
        (&json!(7), &json!(500), &json!(8000))
    );
    assert_eq!(
        changes,
        "clamp:max_tokens=8000,clamp:temperature=1,clamp:top_p=0.99,clamp:top_k=500,set:seed=7,clamp:stop=5,\
         clamp:frequency_penalty=1,clamp:presence_penalty=0,drop:top_logprobs"
    );
}

#[test]
fn what_cohere_lacks_is_dropped_and_reported() {
    let mut request = asked("Hi");
    request.parallel_tool_calls = Some(false);
    request.user = Some("u".to_owned());
    request.service_tier = Some("flex".to_owned());
    request.metadata.insert("team".to_owned(), json!("red"));
    for field in [
        "logit_bias",
        "store",
        "prediction",
        "verbosity",
        "prompt_cache_key",
        "web_search_options",
    ] {
        request.extra.insert(field.to_owned(), json!("x"));
    }
    request.turns[0].name = Some("Ann".to_owned());
    request.turns[0].parts[0].cache = Some(CacheMark::default());
    let (body, changes) = write(&request);
    assert_eq!(body.as_object().map(|body| body.len()), Some(2));
    for field in [
        "parallel_tool_calls",
        "user",
        "service_tier",
        "metadata",
        "logit_bias",
        "store",
        "prediction",
        "verbosity",
        "prompt_cache_key",
        "web_search_options",
        "messages.name",
        "cache_control",
    ] {
        assert!(
            changes
                .split(',')
                .any(|entry| entry == format!("drop:{field}")),
            "{field}: {changes}"
        );
    }
}

#[test]
fn what_would_change_the_answers_shape_is_refused() {
    let with = |change: fn(&mut Request)| {
        let mut request = asked("Hi");
        change(&mut request);
        refused(&request)
    };
    let inline = || Media::Inline {
        mime: "application/pdf".to_owned(),
        data: "QUJD".to_owned(),
    };
    assert_eq!(with(|request| request.choices = Some(2)), "n");
    assert_eq!(
        with(|request| {
            request
                .extra
                .insert("modalities".to_owned(), json!(["text", "audio"]));
        }),
        "modalities"
    );
    assert_eq!(
        with(|request| {
            request
                .extra
                .insert("audio".to_owned(), json!({"voice": "alloy"}));
        }),
        "audio"
    );
    assert_eq!(
        with(|request| {
            let kind = ToolKind::Custom {
                name: "patch".to_owned(),
                description: None,
                format: None,
            };
            request.tools = vec![Tool { kind, cache: None }];
        }),
        "tools[0]"
    );
    for kind in [
        PartKind::Audio(inline()),
        PartKind::Video(inline()),
        PartKind::Document {
            media: inline(),
            name: None,
        },
        PartKind::Document {
            media: Media::File("file-abc".to_owned()),
            name: None,
        },
        PartKind::Image {
            media: Media::File("file-abc".to_owned()),
            detail: None,
        },
        PartKind::Image {
            media: Media::Url {
                url: "gs://a/b".to_owned(),
                mime: None,
            },
            detail: None,
        },
    ] {
        let mut request = asked("Hi");
        request.turns[0].parts.push(kind.into());
        assert_eq!(refused(&request), "messages[0].content[1]");
    }
    assert_eq!(
        with(|request| {
            let part = call("c", "f", "[1]");
            request.turns.push(Turn::new(Role::Assistant, vec![part]));
        }),
        "messages[1].tool_calls[0].function.arguments"
    );
    assert_eq!(
        with(|request| {
            let part = result("lost", Vec::new());
            request.turns.push(Turn::new(Role::User, vec![part]));
        }),
        "messages[1].tool_call_id"
    );
    assert_eq!(
        with(|request| request.tool_choice = Some(ToolChoice::Required)),
        "tool_choice"
    );
    assert_eq!(
        with(|request| request.tool_choice = Some(ToolChoice::Named("g".to_owned()))),
        "tool_choice"
    );
    assert_eq!(with(|request| request.turns.clear()), "messages");
}

#[test]
fn tools_lose_their_strictness_to_the_request() {
    let mut request = asked("Hi");
    request.tools = vec![function("f", Some(true)), function("g", None)];
    if let ToolKind::Function { parameters, .. } = &mut request.tools[1].kind {
        *parameters = None;
    }
    let (body, changes) = write(&request);
    assert_eq!(
        body["tools"],
        json!([
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
        ])
    );
    assert_eq!(body["strict_tools"], true);
    assert_eq!(changes, "");
}

#[test]
fn a_tool_is_chosen_by_leaving_out_the_others() {
    let names = || vec!["g".to_owned()];
    for (choice, word, left) in [
        (ToolChoice::Auto, Value::Null, 2),
        (ToolChoice::None, json!("NONE"), 2),
        (ToolChoice::Required, json!("REQUIRED"), 2),
        (ToolChoice::Named("g".to_owned()), json!("REQUIRED"), 1),
        (
            ToolChoice::Allowed {
                required: true,
                names: names(),
            },
            json!("REQUIRED"),
            1,
        ),
        (
            ToolChoice::Allowed {
                required: false,
                names: names(),
            },
            Value::Null,
            1,
        ),
    ] {
        let mut request = asked("Hi");
        request.tools = vec![function("f", None), function("g", None)];
        request.tool_choice = Some(choice.clone());
        let (body, _) = write(&request);
        let tools = body["tools"].as_array().unwrap();
        assert_eq!(
            (&body["tool_choice"], tools.len()),
            (&word, left),
            "{choice:?}"
        );
        assert_eq!(tools[left - 1]["function"]["name"], "g");
    }
}

#[test]
fn json_has_one_name_and_no_tools_beside() {
    let schema = json!({"type": "object"});
    let mut request = asked("Hi");
    request.format = Some(Format::JsonObject);
    assert_eq!(
        write(&request).0["response_format"],
        json!({"type": "json_object"})
    );
    request.format = Some(Format::JsonSchema {
        name: Some("x".to_owned()),
        description: None,
        schema: schema.clone(),
        strict: Some(true),
    });
    assert_eq!(
        write(&request).0["response_format"],
        json!({"type": "json_object", "json_schema": schema})
    );
    request.tools = vec![function("f", None)];
    assert_eq!(refused(&request), "response_format");
    request.tools.clear();
    request.extra.insert("documents".to_owned(), json!(["d"]));
    assert_eq!(refused(&request), "response_format");
}

#[test]
fn only_reasoning_models_are_told_how_much_to_think() {
    for (effort, budget, thinking) in [
        (Some(Effort::None), None, json!({"type": "disabled"})),
        (
            Some(Effort::Minimal),
            None,
            json!({"type": "enabled", "token_budget": 1024}),
        ),
        (
            Some(Effort::High),
            None,
            json!({"type": "enabled", "token_budget": 16384}),
        ),
        (
            None,
            Some(5000),
            json!({"type": "enabled", "token_budget": 5000}),
        ),
    ] {
        let mut request = asked("Hi");
        request.reasoning = Some(Reasoning {
            effort,
            budget,
            ..Reasoning::default()
        });
        let (body, changes) = try_write(&request, REASONING).unwrap();
        assert_eq!((&body["thinking"], changes.as_str()), (&thinking, ""));
        let (body, changes) = write(&request);
        assert!(body.get("thinking").is_none());
        assert_eq!(changes.is_empty(), effort == Some(Effort::None));
    }
}

#[test]
fn a_conversation_keeps_its_order() {
    let picture = PartKind::Image {
        media: Media::Inline {
            mime: "image/png".to_owned(),
            data: "QUJD".to_owned(),
        },
        detail: Some("low".to_owned()),
    };
    let linked = PartKind::Image {
        media: Media::Url {
            url: "https://example.com/a.png".to_owned(),
            mime: None,
        },
        detail: Some("original".to_owned()),
    };
    let mut request = request(vec![
        Turn::new(
            Role::User,
            vec![Part::text("See"), picture.into(), linked.into()],
        ),
        Turn::new(
            Role::Assistant,
            vec![
                Part::text("I will look"),
                call("a", "f", "{\"x\": 1}"),
                call("b", "g", ""),
            ],
        ),
        Turn::new(
            Role::User,
            vec![
                result("b", vec![Part::text("2"), Part::text("3")]),
                result("a", vec![Part::text("1")]),
                Part::text("so?"),
            ],
        ),
        Turn::new(Role::System, vec![Part::text("short")]),
        Turn::new(Role::Assistant, vec![Part::text("done"), Part::text("")]),
    ]);
    request.system = vec![Part::text("one"), Part::text("two")];
    let (body, changes) = write(&request);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "user", "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ]},
            {"role": "assistant", "tool_plan": "I will look", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "b", "content": "2\n3"},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "user", "content": "so?"},
            {"role": "system", "content": "short"},
            {"role": "assistant", "content": "done"},
        ])
    );
    assert_eq!(changes, "drop:image_url.detail");
}

#[test]
fn thoughts_go_back_to_models_that_had_them() {
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("?")]),
        Turn::new(Role::Assistant, vec![thought("hm"), Part::text("A")]),
        Turn::new(Role::Assistant, vec![thought("plan"), call("a", "f", "{}")]),
        Turn::new(Role::User, vec![result("a", vec![Part::text("1")])]),
    ]);
    let (body, changes) = try_write(&request, REASONING).unwrap();
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}])
    );
    assert_eq!(
        body["messages"][2]["content"],
        json!([{"type": "thinking", "thinking": "plan"}])
    );
    assert_eq!(changes, "");
    let (body, changes) = write(&request);
    assert_eq!(body["messages"][1]["content"], "A");
    assert_eq!(body["messages"][2]["tool_plan"], "plan");
    assert_eq!(changes, "drop:reasoning_content");
}
