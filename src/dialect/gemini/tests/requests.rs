use super::*;

fn request(turns: Vec<Turn>) -> Request {
    Request {
        turns,
        ..Request::new(Dialect::Chat, "")
    }
}

fn asked(text: &str) -> Request {
    request(vec![Turn::new(Role::User, vec![Part::text(text)])])
}

fn function(name: &str) -> Tool {
    Tool {
        kind: ToolKind::Function {
            name: name.to_owned(),
            description: Some("d".to_owned()),
            parameters: Some(json!({"type": "object", "properties": {}, "$defs": {}})),
            strict: None,
        },
        cache: None,
    }
}

fn result(id: &str, text: &str) -> Part {
    PartKind::ToolResult {
        id: id.to_owned(),
        content: vec![Part::text(text)],
        is_error: false,
    }
    .into()
}

fn try_write(request: &Request, slug: Slug, model: &str) -> Result<(Value, String), Invalid> {
    let upstream = Upstream {
        slug,
        model,
        max_output: Some(65_536),
    };
    let mut changes = Changes::default();
    let written = write_request(request, &upstream, &mut changes)?;
    assert!(written.headers.is_empty());
    let body = serde_json::from_slice(&written.body).expect("JSON");
    Ok((body, changes.to_string()))
}

fn write(request: &Request, model: &str) -> (Value, String) {
    try_write(request, Slug::GoogleAiStudio, model).expect("written")
}

fn refused(request: &Request, model: &str) -> String {
    let invalid = try_write(request, Slug::GoogleAiStudio, model).expect_err("refused");
    invalid.param.expect("a place")
}

const FLASH3: &str = "gemini-3-flash-preview";
const FLASH25: &str = "gemini-2.5-flash";

#[test]
fn a_plain_question_has_nothing_else() {
    let (body, changes) = write(&asked("Hi"), FLASH25);
    assert_eq!(
        body,
        json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})
    );
    assert_eq!(changes, "");
}

#[test]
fn system_text_is_the_instruction_and_later_system_text_is_the_users() {
    let mut request = asked("Hi");
    request.system = vec![Part::text("one"), Part::text(""), Part::text("two")];
    request
        .turns
        .push(Turn::new(Role::Assistant, vec![Part::text("Ho")]));
    request
        .turns
        .push(Turn::new(Role::System, vec![Part::text("be short")]));
    request
        .turns
        .push(Turn::new(Role::User, vec![Part::text("go")]));
    let (body, changes) = write(&request, FLASH25);
    assert_eq!(
        body["systemInstruction"],
        json!({"parts": [{"text": "one"}, {"text": "two"}]})
    );
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Ho"}]},
            {"role": "user", "parts": [{"text": "be short"}, {"text": "go"}]},
        ])
    );
    assert_eq!(changes, "set:messages[5].role=user");
}

#[test]
fn the_first_turn_is_the_users() {
    let request = request(vec![Turn::new(Role::Assistant, vec![Part::text("Hello")])]);
    let (body, changes) = write(&request, FLASH25);
    assert_eq!(
        body["contents"][0],
        json!({"role": "user", "parts": [{"text": "."}]})
    );
    assert_eq!(body["contents"][1]["role"], "model");
    assert_eq!(changes, "add:messages");
    let mut alone = self::request(Vec::new());
    alone.system = vec![Part::text("Say something")];
    assert_eq!(
        write(&alone, FLASH25).0["contents"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn every_plain_parameter_has_its_name() {
    let request = Request {
        max_tokens: Some(100),
        temperature: Some(1.5),
        top_p: Some(0.5),
        top_k: Some(40),
        stop: vec!["a".to_owned(), "b".to_owned()],
        seed: Some(7),
        presence_penalty: Some(0.25),
        frequency_penalty: Some(-0.5),
        choices: Some(3),
        logprobs: Some(5),
        ..asked("Hi")
    };
    let (body, changes) = write(&request, FLASH25);
    assert_eq!(
        body["generationConfig"],
        json!({
            "maxOutputTokens": 100, "temperature": 1.5, "topP": 0.5, "topK": 40, "stopSequences": ["a", "b"], "seed": 7,
            "presencePenalty": 0.25, "frequencyPenalty": -0.5, "candidateCount": 3, "responseLogprobs": true, "logprobs": 5,
        })
    );
    assert_eq!(changes, "");
    let plain = Request {
        logprobs: Some(0),
        choices: Some(1),
        ..asked("Hi")
    };
    assert_eq!(
        write(&plain, FLASH25).0["generationConfig"],
        json!({"responseLogprobs": true})
    );
}

#[test]
fn values_out_of_range_are_clamped_and_reported() {
    let request = Request {
        max_tokens: Some(1_000_000),
        temperature: Some(3.0),
        top_p: Some(1.5),
        stop: "abcdef".chars().map(String::from).collect(),
        seed: Some(1 << 40),
        presence_penalty: Some(-9.0),
        logprobs: Some(50),
        ..asked("Hi")
    };
    let (body, changes) = write(&request, FLASH25);
    let config = &body["generationConfig"];
    assert_eq!(config["maxOutputTokens"], 65_536);
    assert_eq!(config["temperature"], 2.0);
    assert_eq!(config["stopSequences"].as_array().map(Vec::len), Some(5));
    assert_eq!(config["seed"], 256);
    let told = "clamp:stop=5,set:seed=256,clamp:max_tokens=65536,clamp:temperature=2,clamp:top_p=1,\
                clamp:presence_penalty=-2,clamp:top_logprobs=20";
    let mut told: Vec<&str> = told.split(',').collect();
    let mut changes: Vec<&str> = changes.split(',').collect();
    told.sort_unstable();
    changes.sort_unstable();
    assert_eq!(changes, told);
}

#[test]
fn what_gemini_lacks_is_dropped_and_reported() {
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
    let (body, changes) = write(&request, FLASH25);
    assert_eq!(
        body,
        json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})
    );
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
fn vertex_takes_metadata_as_labels() {
    let mut request = asked("Hi");
    request.metadata.insert("team".to_owned(), json!("red-1"));
    request.metadata.insert("Owner".to_owned(), json!("Ann"));
    let (body, changes) = try_write(&request, Slug::GoogleVertexAi, FLASH25).unwrap();
    assert_eq!(body["labels"], json!({"team": "red-1"}));
    assert_eq!(changes, "drop:metadata");
}

#[test]
fn what_would_change_the_answers_shape_is_refused() {
    let with = |change: fn(&mut Request)| {
        let mut request = asked("Hi");
        change(&mut request);
        refused(&request, FLASH25)
    };
    assert_eq!(with(|request| request.choices = Some(9)), "n");
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
            request.tools = vec![function("f"), Tool { kind, cache: None }];
        }),
        "tools[1]"
    );
    assert_eq!(
        with(|request| {
            let media = Media::File("file-abc".to_owned());
            let part = PartKind::Document { media, name: None };
            request.turns[0].parts.push(part.into());
        }),
        "messages[0].content[1]"
    );
    assert_eq!(
        with(|request| {
            let part = call("c", "f", "{\"a\":", None);
            request.turns.push(Turn::new(Role::Assistant, vec![part]));
        }),
        "messages[1].tool_calls[0].function.arguments"
    );
    assert_eq!(
        with(|request| request
            .turns
            .push(Turn::new(Role::User, vec![result("lost", "1")]))),
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
}

#[test]
fn pictures_may_be_wanted() {
    let mut request = asked("Draw");
    request
        .extra
        .insert("modalities".to_owned(), json!(["text", "image"]));
    let (body, changes) = write(&request, "gemini-2.5-flash-image");
    assert_eq!(
        body["generationConfig"],
        json!({"responseModalities": ["TEXT", "IMAGE"]})
    );
    assert_eq!(changes, "");
}

#[test]
fn tools_stand_in_one_entry_and_keep_their_schemas() {
    let mut request = asked("Hi");
    request.tools = vec![function("f"), function("g")];
    if let ToolKind::Function {
        strict, parameters, ..
    } = &mut request.tools[1].kind
    {
        *strict = Some(true);
        *parameters = None;
    }
    let hosted = ToolKind::Hosted {
        kind: "web_search".to_owned(),
        definition: json!({"type": "web_search"}),
    };
    request.tools.push(Tool {
        kind: hosted,
        cache: None,
    });
    let (body, changes) = write(&request, FLASH25);
    assert_eq!(
        body["tools"],
        json!([{"functionDeclarations": [
            {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {}, "$defs": {}}},
            {"name": "g", "description": "d"},
        ]}])
    );
    assert!(body.get("toolConfig").is_none());
    assert_eq!(changes, "drop:tools.strict,drop:tools.web_search");
}

#[test]
fn each_tool_choice_has_a_mode() {
    let names = || vec!["g".to_owned()];
    for (choice, expected) in [
        (ToolChoice::Auto, json!({"mode": "AUTO"})),
        (ToolChoice::None, json!({"mode": "NONE"})),
        (ToolChoice::Required, json!({"mode": "ANY"})),
        (
            ToolChoice::Named("f".to_owned()),
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ),
        (
            ToolChoice::Allowed {
                required: true,
                names: names(),
            },
            json!({"mode": "ANY", "allowedFunctionNames": ["g"]}),
        ),
        (
            ToolChoice::Allowed {
                required: false,
                names: names(),
            },
            json!({"mode": "VALIDATED", "allowedFunctionNames": ["g"]}),
        ),
    ] {
        let mut request = asked("Hi");
        request.tools = vec![function("f"), function("g")];
        request.tool_choice = Some(choice);
        let (body, _) = write(&request, FLASH25);
        assert_eq!(body["toolConfig"]["functionCallingConfig"], expected);
    }
    let mut request = asked("Hi");
    request.tools = vec![function("f"), function("g")];
    request.tool_choice = Some(ToolChoice::Allowed {
        required: false,
        names: names(),
    });
    let (body, _) = write(&request, "gemini-2.0-flash");
    let declared = body["tools"][0]["functionDeclarations"].as_array().unwrap();
    assert_eq!((declared.len(), &declared[0]["name"]), (1, &json!("g")));
    assert!(body.get("toolConfig").is_none());
}

#[test]
fn json_beside_tools_is_for_gemini_3() {
    let schema = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}});
    let mut request = asked("Hi");
    request.format = Some(Format::JsonSchema {
        name: Some("x".to_owned()),
        description: None,
        schema: schema.clone(),
        strict: Some(true),
    });
    let expected = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    assert_eq!(write(&request, FLASH25).0["generationConfig"], expected);
    request.tools = vec![function("f")];
    assert_eq!(refused(&request, FLASH25), "response_format");
    assert_eq!(write(&request, FLASH3).0["generationConfig"], expected);
    request.format = Some(Format::JsonObject);
    assert_eq!(refused(&request, FLASH25), "response_format");
    request.tools.clear();
    let (body, _) = write(&request, FLASH25);
    assert_eq!(
        body["generationConfig"],
        json!({"responseMimeType": "application/json"})
    );
}

#[test]
fn thinking_follows_the_models_generation() {
    let effort = |effort| Reasoning {
        effort: Some(effort),
        ..Reasoning::default()
    };
    let budget = |tokens| Reasoning {
        budget: Some(tokens),
        ..Reasoning::default()
    };
    let dynamic = Reasoning {
        adaptive: true,
        ..Reasoning::default()
    };
    let hidden = Reasoning {
        visible: Some(false),
        ..effort(Effort::High)
    };
    let (pro25, lite, pro3) = (
        "gemini-2.5-pro",
        "gemini-2.5-flash-lite",
        "gemini-3-pro-preview",
    );
    for (model, reasoning, expected, told) in [
        (
            FLASH25,
            effort(Effort::None),
            json!({"thinkingBudget": 0}),
            "",
        ),
        (
            FLASH25,
            effort(Effort::Minimal),
            json!({"thinkingBudget": 512, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            effort(Effort::Low),
            json!({"thinkingBudget": 2048, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            effort(Effort::Medium),
            json!({"thinkingBudget": 8192, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            effort(Effort::High),
            json!({"thinkingBudget": 24576, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            effort(Effort::Max),
            json!({"thinkingBudget": 24576, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            dynamic.clone(),
            json!({"thinkingBudget": -1, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            hidden.clone(),
            json!({"thinkingBudget": 24576}),
            "",
        ),
        (
            FLASH25,
            budget(3000),
            json!({"thinkingBudget": 3000, "includeThoughts": true}),
            "",
        ),
        (
            FLASH25,
            budget(60_000),
            json!({"thinkingBudget": 24576, "includeThoughts": true}),
            "clamp:thinking.budget_tokens=24576",
        ),
        (
            pro25,
            effort(Effort::None),
            json!({"thinkingBudget": 128}),
            "clamp:reasoning_effort=128",
        ),
        (
            pro25,
            effort(Effort::Minimal),
            json!({"thinkingBudget": 512, "includeThoughts": true}),
            "",
        ),
        (
            pro25,
            effort(Effort::XHigh),
            json!({"thinkingBudget": 32768, "includeThoughts": true}),
            "",
        ),
        (
            lite,
            budget(100),
            json!({"thinkingBudget": 512, "includeThoughts": true}),
            "clamp:thinking.budget_tokens=512",
        ),
        (lite, effort(Effort::None), json!({"thinkingBudget": 0}), ""),
        (
            FLASH3,
            effort(Effort::None),
            json!({"thinkingLevel": "minimal"}),
            "clamp:reasoning_effort=minimal",
        ),
        (
            FLASH3,
            effort(Effort::Medium),
            json!({"thinkingLevel": "medium", "includeThoughts": true}),
            "",
        ),
        (
            FLASH3,
            effort(Effort::XHigh),
            json!({"thinkingLevel": "high", "includeThoughts": true}),
            "clamp:reasoning_effort=high",
        ),
        (
            FLASH3,
            budget(2048),
            json!({"thinkingLevel": "low", "includeThoughts": true}),
            "",
        ),
        (FLASH3, dynamic, json!({"includeThoughts": true}), ""),
        (
            pro3,
            effort(Effort::Low),
            json!({"thinkingLevel": "low", "includeThoughts": true}),
            "",
        ),
        (
            pro3,
            effort(Effort::Medium),
            json!({"thinkingLevel": "high", "includeThoughts": true}),
            "clamp:reasoning_effort=high",
        ),
        (
            "gemini-2.0-flash",
            effort(Effort::High),
            Value::Null,
            "drop:reasoning_effort",
        ),
        ("gemini-2.0-flash", effort(Effort::None), Value::Null, ""),
    ] {
        let mut request = asked("Hi");
        request.reasoning = Some(reasoning.clone());
        let (body, changes) = write(&request, model);
        let config = &body["generationConfig"]["thinkingConfig"];
        assert_eq!(
            (config, changes.as_str()),
            (&expected, told),
            "{model} {reasoning:?}"
        );
    }
}

#[test]
fn media_goes_up_inline_or_by_an_address_that_the_provider_fetches() {
    let inline = |mime: &str| Media::Inline {
        mime: mime.to_owned(),
        data: "QUJD".to_owned(),
    };
    let url = |url: &str| Media::Url {
        url: url.to_owned(),
        mime: None,
    };
    let picture = |media| PartKind::Image {
        media,
        detail: Some("low".to_owned()),
    };
    let document = |media, name: Option<&str>| PartKind::Document {
        media,
        name: name.map(str::to_owned),
    };
    let parts: Vec<PartKind> = vec![
        picture(inline("image/png")),
        PartKind::Audio(inline("audio/wav")),
        document(inline("application/pdf"), Some("a.pdf")),
        PartKind::Video(url("https://youtu.be/lCdaVNyHtjU")),
        document(
            url("https://generativelanguage.googleapis.com/v1beta/files/abc"),
            None,
        ),
        document(Media::Text("plain".to_owned()), Some("Title")),
    ];
    let turn = Turn::new(Role::User, parts.into_iter().map(Part::from).collect());
    let (body, changes) = write(&request(vec![turn]), FLASH25);
    assert_eq!(
        body["contents"][0]["parts"],
        json!([
            {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "QUJD"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "QUJD"}},
            {"fileData": {"fileUri": "https://youtu.be/lCdaVNyHtjU", "mimeType": "video/mp4"}},
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc", "mimeType": "application/pdf"}},
            {"text": "Title\n\nplain"},
        ])
    );
    assert_eq!(changes, "drop:image_url.detail");

    let far = request(vec![Turn::new(
        Role::User,
        vec![picture(url("https://example.com/a.png?x=1")).into()],
    )]);
    let (body, _) = try_write(&far, Slug::GoogleVertexAi, FLASH25).unwrap();
    assert_eq!(
        body["contents"][0]["parts"][0],
        json!({"fileData": {"fileUri": "https://example.com/a.png?x=1", "mimeType": "image/png"}})
    );
    let invalid = try_write(&far, Slug::GoogleAiStudio, FLASH25).unwrap_err();
    assert_eq!(invalid.param.as_deref(), Some("messages[0].content[0]"));
    assert!(invalid.message.contains("media.fetch"));
}

#[test]
fn addresses_that_each_provider_fetches() {
    let kind = PartKind::Refusal(String::new());
    let takes = |slug, url| {
        let upstream = Upstream {
            slug,
            model: FLASH25,
            max_output: None,
        };
        takes_url(&kind, url, &upstream)
    };
    for (url, studio, vertex) in [
        ("https://example.com/a.png", false, true),
        ("http://example.com/a.png", false, true),
        ("gs://bucket/a.png", false, true),
        ("https://www.youtube.com/watch?v=x", true, true),
        (
            "https://generativelanguage.googleapis.com/v1beta/files/x",
            true,
            true,
        ),
        ("https://youtube.com.evil.example/x", false, true),
        ("s3://bucket/a.png", false, false),
        ("file:///etc/passwd", false, false),
    ] {
        assert_eq!(takes(Slug::GoogleAiStudio, url), studio, "{url}");
        assert_eq!(takes(Slug::GoogleVertexAi, url), vertex, "{url}");
    }
}

#[test]
fn results_stand_together_in_the_order_of_the_calls() {
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("Weather?")]),
        Turn::new(
            Role::Assistant,
            vec![
                Part::text("Let me see"),
                call(
                    "96c1su3s",
                    "one",
                    "{\"b\": 1, \"a\": [2]}",
                    Some(google("c2ln")),
                ),
                call("vcyiitct", "two", "", None),
            ],
        ),
        Turn::new(Role::User, vec![result("vcyiitct", "cold")]),
        Turn::new(Role::User, vec![result("96c1su3s", "{\"t\": 20}")]),
        Turn::new(Role::User, vec![Part::text("And?")]),
    ]);
    let (body, changes) = write(&request, FLASH3);
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [
                {"text": "Let me see"},
                {"functionCall": {"id": "96c1su3s", "name": "one", "args": {"b": 1, "a": [2]}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "vcyiitct", "name": "two", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "96c1su3s", "name": "one", "response": {"t": 20}}},
                {"functionResponse": {"id": "vcyiitct", "name": "two", "response": {"output": "cold"}}},
                {"text": "And?"},
            ]},
        ])
    );
    assert_eq!(changes, "");
    let keys: Vec<&String> = body["contents"][1]["parts"][1]["functionCall"]["args"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(keys, ["b", "a"]);

    let mut short = request.clone();
    short.turns.remove(3);
    assert_eq!(refused(&short, FLASH3), "messages[1].tool_calls[0]");
}

#[test]
fn ids_of_others_stay_here_but_still_name_their_function() {
    for id in ["call_Ab12_1", "toolu_01X", "tooluse_x", "functions.get:0"] {
        let request = request(vec![
            Turn::new(Role::User, vec![Part::text("?")]),
            Turn::new(Role::Assistant, vec![call(id, "get", "{}", None)]),
            Turn::new(Role::User, vec![result(id, "[1]")]),
        ]);
        let (body, _) = write(&request, FLASH25);
        assert_eq!(
            body["contents"][1]["parts"][0],
            json!({"functionCall": {"name": "get", "args": {}}})
        );
        assert_eq!(
            body["contents"][2]["parts"][0],
            json!({"functionResponse": {"name": "get", "response": {"output": "[1]"}}})
        );
    }
}

#[test]
fn an_id_used_again_names_the_latest_call() {
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("?")]),
        Turn::new(Role::Assistant, vec![call("0", "first", "{}", None)]),
        Turn::new(Role::User, vec![result("0", "1")]),
        Turn::new(Role::Assistant, vec![call("0", "second", "{}", None)]),
        Turn::new(Role::User, vec![result("0", "2")]),
    ]);
    let (body, _) = write(&request, FLASH25);
    assert_eq!(
        body["contents"][2]["parts"][0]["functionResponse"]["name"],
        "first"
    );
    assert_eq!(
        body["contents"][4]["parts"][0]["functionResponse"]["name"],
        "second"
    );
}

#[test]
fn failed_tools_say_so_and_pictures_go_where_the_model_takes_them() {
    let picture: Part = PartKind::Image {
        media: Media::Inline {
            mime: "image/png".to_owned(),
            data: "QUJD".to_owned(),
        },
        detail: None,
    }
    .into();
    let answered = PartKind::ToolResult {
        id: "1rw0qtec".to_owned(),
        content: vec![Part::text("no"), picture],
        is_error: true,
    };
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("?")]),
        Turn::new(
            Role::Assistant,
            vec![call("1rw0qtec", "get", "{}", Some(google("c2ln")))],
        ),
        Turn::new(Role::User, vec![answered.into()]),
    ]);
    let blob = json!({"inlineData": {"mimeType": "image/png", "data": "QUJD"}});
    let mut response = json!({"id": "1rw0qtec", "name": "get", "response": {"error": "no"}});
    let parts = write(&request, FLASH25).0["contents"][2]["parts"].clone();
    assert_eq!(parts, json!([{"functionResponse": response}, blob]));
    response["parts"] = json!([blob]);
    let parts = write(&request, FLASH3).0["contents"][2]["parts"].clone();
    assert_eq!(parts, json!([{"functionResponse": response}]));
}

#[test]
fn lost_signatures_are_replaced_in_the_current_turn_alone() {
    let round = |id: &str, signature: Option<Signature>| {
        vec![
            Turn::new(
                Role::Assistant,
                vec![
                    call(id, "f", "{}", signature),
                    call(&format!("{id}b"), "f", "{}", None),
                ],
            ),
            Turn::new(
                Role::User,
                vec![result(id, "1"), result(&format!("{id}b"), "2")],
            ),
        ]
    };
    let foreign = Signature::new(Origin::Anthropic, "EqQB");
    let mut turns = vec![Turn::new(Role::User, vec![Part::text("old")])];
    turns.extend(round("a", None));
    turns.push(Turn::new(Role::User, vec![Part::text("new")]));
    turns.extend(round("c", Some(google("c2ln"))));
    turns.extend(round("d", Some(foreign)));
    let request = request(turns);
    let (body, changes) = write(&request, FLASH3);
    let signatures: Vec<Option<&str>> = body["contents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|content| content["role"] == "model")
        .flat_map(|content| content["parts"].as_array().unwrap())
        .map(|part| part["thoughtSignature"].as_str())
        .collect();
    let stand_in = Some("skip_thought_signature_validator");
    assert_eq!(signatures, [None, None, Some("c2ln"), None, stand_in, None]);
    assert_eq!(changes, "add:thought_signature");
    let (body, changes) = write(&request, FLASH25);
    assert!(!body.to_string().contains("skip_thought"));
    assert_eq!(changes, "");
}

#[test]
fn signatures_go_back_on_their_own_parts_and_thoughts_of_others_do_not() {
    let thought = |text: &str, signature| {
        Part::from(PartKind::Thinking {
            text: text.to_owned(),
            signature,
        })
    };
    let foreign = Signature::new(Origin::Anthropic, "EqQB");
    let text = PartKind::Text {
        text: "done".to_owned(),
        citations: Vec::new(),
        signature: Some(google("dGV4dA")),
    };
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("?")]),
        Turn::new(
            Role::Assistant,
            vec![
                thought("mine", Some(google("dGg"))),
                thought("theirs", Some(foreign.clone())),
                PartKind::Redacted(foreign).into(),
                PartKind::Redacted(google("cmVk")).into(),
                text.into(),
                Part::text(""),
                PartKind::Foreign(json!({"type": "server_tool_use"})).into(),
            ],
        ),
    ]);
    let (body, changes) = write(&request, FLASH3);
    assert_eq!(
        body["contents"][1]["parts"],
        json!([
            {"text": "mine", "thought": true, "thoughtSignature": "dGg"},
            {"text": "", "thoughtSignature": "cmVk"},
            {"text": "done", "thoughtSignature": "dGV4dA"},
        ])
    );
    assert_eq!(
        changes,
        "drop:reasoning_content,drop:reasoning_details,drop:messages.content.server_tool_use"
    );
}

#[test]
fn a_turn_of_which_nothing_is_left_does_not_divide_its_neighbours() {
    let request = request(vec![
        Turn::new(Role::User, vec![Part::text("a")]),
        Turn::new(Role::Assistant, vec![Part::text("")]),
        Turn::new(Role::User, vec![Part::text("b")]),
    ]);
    let (body, _) = write(&request, FLASH25);
    assert_eq!(
        body["contents"],
        json!([{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}])
    );
}
