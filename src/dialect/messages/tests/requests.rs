use serde_json::{Value, json};

use super::super::super::neutral::{
    CacheMark, Origin, Part, PartKind, Reasoning, Request, Role, Signature, ToolUse, Turn,
};
use super::super::super::{Dialect, Unwrap};
use super::*;

const OLD: &str = "claude-sonnet-4-0";
const NEW: &str = "claude-sonnet-4-5";
const ADAPTIVE: &str = "claude-sonnet-4-6";
const NEWEST: &str = "claude-opus-5";

fn with(fields: Value) -> Value {
    let mut body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let object = body.as_object_mut().expect("an object");
    object.extend(fields.as_object().expect("an object").clone());
    body
}

/// What becomes of fields beside the conversation.
fn settings(model: &str, fields: Value) -> (Value, String) {
    let (mut body, changes, _) = from_chat(model, with(fields)).expect("a request");
    let object = body.as_object_mut().expect("an object");
    for field in ["model", "messages"] {
        object.remove(field);
    }
    (body, changes)
}

fn refused(model: &str, fields: Value) -> String {
    let invalid = from_chat(model, with(fields)).expect_err("refused");
    invalid.param.expect("a place")
}

fn turns(model: &str, messages: Value) -> Value {
    let (body, ..) = from_chat(model, with(json!({"messages": messages}))).expect("a request");
    json!({"system": body["system"], "messages": body["messages"]})
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": {}}}})
}

#[test]
fn the_smallest_request() {
    let (body, changes, written) = from_chat(NEW, with(json!({}))).unwrap();
    let expected = json!({
        "model": NEW, "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    });
    assert_eq!(body, expected);
    assert_eq!(changes, "");
    assert_eq!(written.unwrap, Unwrap::Nothing);
    assert!(written.headers.is_empty());
}

#[test]
fn tokens_are_bounded_as_the_model_is() {
    for (model, fields, tokens, told) in [
        (
            NEW,
            json!({"max_tokens": null}),
            32_000,
            "set:max_tokens=32000",
        ),
        (
            "claude-3-opus-20240229",
            json!({"max_tokens": null}),
            4096,
            "set:max_tokens=4096",
        ),
        (NEW, json!({"max_completion_tokens": 20}), 20, ""),
        (
            NEW,
            json!({"max_tokens": 90_000}),
            64_000,
            "clamp:max_tokens=64000",
        ),
    ] {
        let (body, changes) = settings(model, fields);
        assert_eq!(
            (body["max_tokens"].as_u64(), changes.as_str()),
            (Some(tokens), told),
            "{model}"
        );
    }
    let request = Request {
        max_tokens: None,
        turns: vec![Turn::new(Role::User, vec![Part::text("Hi")])],
        ..Request::new(Dialect::Chat, "m")
    };
    let upstream = Upstream {
        max_output: Some(8192),
        ..upstream(NEW)
    };
    assert_eq!(written(&request, &upstream).unwrap().0["max_tokens"], 8192);
}

#[test]
fn sampling_is_clamped_and_dropped() {
    for (model, fields, expected, told) in [
        (
            OLD,
            json!({"temperature": 0.5, "top_p": 0.9}),
            json!({"temperature": 0.5, "top_p": 0.9}),
            "",
        ),
        (
            OLD,
            json!({"temperature": 1.7}),
            json!({"temperature": 1.0}),
            "clamp:temperature=1",
        ),
        (
            NEW,
            json!({"temperature": 0.5, "top_p": 0.9}),
            json!({"temperature": 0.5}),
            "drop:top_p",
        ),
        (NEW, json!({"top_p": 0.9}), json!({"top_p": 0.9}), ""),
        (
            NEWEST,
            json!({"temperature": 0.5}),
            json!({}),
            "drop:temperature",
        ),
        (NEWEST, json!({"top_p": 0.5}), json!({}), "drop:top_p"),
        (
            "claude-fable-5",
            json!({"temperature": 0.0}),
            json!({}),
            "drop:temperature",
        ),
    ] {
        let mut expected = expected;
        expected["max_tokens"] = json!(9);
        assert_eq!(
            settings(model, fields),
            (expected, told.to_owned()),
            "{model}"
        );
    }
}

#[test]
fn cells_of_the_matrix() {
    for (fields, expected, told) in [
        (json!({"stop": "x"}), json!({"stop_sequences": ["x"]}), ""),
        (
            json!({"stop": ["x", " \n"]}),
            json!({"stop_sequences": ["x"]}),
            "drop:stop",
        ),
        (json!({"n": 1, "logprobs": false}), json!({}), ""),
        (json!({"seed": 1}), json!({}), "drop:seed"),
        (
            json!({"presence_penalty": 1, "frequency_penalty": 0.5}),
            json!({}),
            "drop:presence_penalty,drop:frequency_penalty",
        ),
        (
            json!({"logit_bias": {"1": 2}}),
            json!({}),
            "drop:logit_bias",
        ),
        (
            json!({"user": "u"}),
            json!({"metadata": {"user_id": "u"}}),
            "",
        ),
        (
            json!({"safety_identifier": "u"}),
            json!({"metadata": {"user_id": "u"}}),
            "",
        ),
        (json!({"metadata": {"a": "b"}}), json!({}), "drop:metadata"),
        (json!({"store": true}), json!({}), "drop:store"),
        (
            json!({"prediction": {"type": "content", "content": "x"}}),
            json!({}),
            "drop:prediction",
        ),
        (json!({"verbosity": "low"}), json!({}), "drop:verbosity"),
        (
            json!({"prompt_cache_key": "k"}),
            json!({}),
            "drop:prompt_cache_key",
        ),
        (
            json!({"service_tier": "auto"}),
            json!({"service_tier": "auto"}),
            "",
        ),
        (
            json!({"service_tier": "default"}),
            json!({"service_tier": "standard_only"}),
            "",
        ),
        (
            json!({"service_tier": "flex"}),
            json!({}),
            "drop:service_tier",
        ),
        (
            json!({"web_search_options": {}}),
            json!({}),
            "drop:web_search_options",
        ),
        (json!({"top_k": 5}), json!({"top_k": 5}), ""),
        (
            json!({"cache_control": {"type": "ephemeral"}}),
            json!({"cache_control": {"type": "ephemeral"}}),
            "",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": true}}),
            json!({"stream": true}),
            "",
        ),
        (json!({"parallel_tool_calls": false}), json!({}), ""),
        (
            json!({"reasoning_effort": "none"}),
            json!({"thinking": {"type": "disabled"}}),
            "",
        ),
    ] {
        let mut expected = expected;
        expected["max_tokens"] = json!(9);
        assert_eq!(
            settings(NEW, fields.clone()),
            (expected, told.to_owned()),
            "{fields}"
        );
    }
    for (fields, place) in [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (
            json!({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
            "modalities",
        ),
        (
            json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}),
            "tools[0]",
        ),
        (json!({"messages": []}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": "  "}]}),
            "messages",
        ),
    ] {
        assert_eq!(refused(NEW, fields.clone()), place, "{fields}");
    }
}

#[test]
fn tools_and_choices() {
    let plain = json!({"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}});
    for (choice, parallel, expected) in [
        (json!(null), json!(null), json!(null)),
        (json!("auto"), json!(true), json!({"type": "auto"})),
        (json!("required"), json!(null), json!({"type": "any"})),
        (json!("none"), json!(false), json!({"type": "none"})),
        (
            json!(null),
            json!(false),
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!(false),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
        ),
    ] {
        let fields =
            json!({"tools": [tool("f")], "tool_choice": choice, "parallel_tool_calls": parallel});
        let (body, changes) = settings(NEW, fields);
        assert_eq!(body["tools"], json!([plain]));
        assert_eq!(
            (&body["tool_choice"], changes.as_str()),
            (&expected, ""),
            "{choice}"
        );
    }
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}});
    let (body, changes) = settings(
        NEW,
        json!({"tools": [tool("e"), tool("f")], "tool_choice": allowed}),
    );
    assert_eq!(body["tools"], json!([plain]));
    assert_eq!(body["tool_choice"], json!({"type": "any"}));
    assert_eq!(changes, "set:tools=allowed_tools");
    let (body, changes) = settings(NEW, json!({"tool_choice": "required"}));
    assert_eq!(
        (&body["tool_choice"], changes.as_str()),
        (&json!(null), "drop:tool_choice")
    );
    let (body, changes) = settings(
        "claude-fable-5-2",
        json!({"tools": [tool("f")], "tool_choice": "required"}),
    );
    assert_eq!(
        (&body["tool_choice"], changes.as_str()),
        (&json!({"type": "auto"}), "set:tool_choice=auto")
    );
}

#[test]
fn schemas_of_tools() {
    let one = |function: Value| {
        let (body, changes) = settings(
            NEW,
            json!({"tools": [{"type": "function", "function": function}]}),
        );
        (body["tools"][0].clone(), changes)
    };
    let (bare, _) = one(json!({"name": "f"}));
    assert_eq!(
        bare,
        json!({"name": "f", "input_schema": {"type": "object", "properties": {}}})
    );
    let (untyped, _) = one(json!({"name": "f", "parameters": {"properties": {"b": {}, "a": {}}}}));
    assert_eq!(
        untyped["input_schema"].to_string(),
        r#"{"type":"object","properties":{"b":{},"a":{}}}"#
    );
    let open = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}});
    let (strict, changes) = one(json!({"name": "f", "strict": true, "parameters": open}));
    assert_eq!(strict["strict"], true);
    assert_eq!(strict["input_schema"]["additionalProperties"], false);
    assert_eq!(changes, "");
    let fields = json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true, "parameters": open}}]});
    let (body, changes) = settings(OLD, fields);
    assert_eq!(
        (&body["tools"][0]["input_schema"], changes.as_str()),
        (&open, "drop:strict")
    );
    let fields = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]});
    assert_eq!(refused(NEW, fields), "tools[0].function.parameters");
}

#[test]
fn thinking_by_generation() {
    for (model, fields, thinking, effort, tokens, told) in [
        (
            OLD,
            json!({"reasoning_effort": "low"}),
            json!({"type": "enabled", "budget_tokens": 2048}),
            json!(null),
            2057,
            "set:max_tokens=2057",
        ),
        (
            NEW,
            json!({"reasoning_effort": "high", "max_tokens": 30_000}),
            json!({"type": "enabled", "budget_tokens": 16_384}),
            json!(null),
            30_000,
            "",
        ),
        (
            NEW,
            json!({"thinking": {"type": "enabled", "budget_tokens": 10}, "max_tokens": 2000}),
            json!({"type": "enabled", "budget_tokens": 1024}),
            json!(null),
            2000,
            "",
        ),
        (
            ADAPTIVE,
            json!({"reasoning_effort": "medium"}),
            json!({"type": "adaptive"}),
            json!("medium"),
            9,
            "",
        ),
        (
            ADAPTIVE,
            json!({"reasoning_effort": "xhigh"}),
            json!({"type": "adaptive"}),
            json!("max"),
            9,
            "clamp:reasoning_effort=max",
        ),
        (
            ADAPTIVE,
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 5000}),
            json!({"type": "enabled", "budget_tokens": 2000}),
            json!(null),
            5000,
            "",
        ),
        (
            NEWEST,
            json!({"reasoning_effort": "xhigh"}),
            json!({"type": "adaptive"}),
            json!("xhigh"),
            9,
            "",
        ),
        (
            NEWEST,
            json!({"reasoning_effort": "minimal"}),
            json!({"type": "adaptive"}),
            json!("low"),
            9,
            "clamp:reasoning_effort=low",
        ),
        (
            NEWEST,
            json!({"thinking": {"type": "enabled", "budget_tokens": 9000}}),
            json!({"type": "adaptive"}),
            json!("high"),
            9,
            "set:thinking=adaptive",
        ),
        (
            NEWEST,
            json!({"reasoning_effort": "none"}),
            json!({"type": "disabled"}),
            json!(null),
            9,
            "",
        ),
        (
            "claude-sonnet-5-5",
            json!({"reasoning_effort": "none"}),
            json!({"type": "between_tools"}),
            json!(null),
            9,
            "",
        ),
        (
            "claude-fable-5",
            json!({"reasoning_effort": "none"}),
            json!(null),
            json!(null),
            9,
            "drop:reasoning_effort",
        ),
        (
            "claude-3-5-sonnet-latest",
            json!({"reasoning_effort": "high"}),
            json!(null),
            json!(null),
            9,
            "drop:reasoning_effort",
        ),
        (
            "claude-3-5-sonnet-latest",
            json!({"reasoning_effort": "none"}),
            json!(null),
            json!(null),
            9,
            "",
        ),
    ] {
        let (body, changes) = settings(model, fields.clone());
        let got = (
            &body["thinking"],
            &body["output_config"]["effort"],
            body["max_tokens"].as_u64(),
        );
        assert_eq!(got, (&thinking, &effort, Some(tokens)), "{model} {fields}");
        assert_eq!(changes, told, "{model} {fields}");
    }
    let fields = json!({"reasoning_effort": "low", "temperature": 0.2, "tools": [tool("f")], "tool_choice": "required"});
    let (body, changes) = settings(OLD, fields);
    assert_eq!(body["tool_choice"], json!({"type": "auto"}));
    assert_eq!(body["temperature"], json!(null));
    assert_eq!(
        changes,
        "set:max_tokens=2057,set:tool_choice=auto,drop:temperature"
    );
}

#[test]
fn structured_output_by_generation() {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}}});
    let mut closed = schema.clone();
    closed["additionalProperties"] = json!(false);
    let (body, changes, written) = from_chat(NEW, with(format.clone())).unwrap();
    assert_eq!(
        body["output_config"],
        json!({"format": {"type": "json_schema", "schema": closed}})
    );
    assert_eq!(
        (changes.as_str(), written.unwrap),
        ("set:response_format=strict", Unwrap::Nothing)
    );

    let (body, changes, written) = from_chat(OLD, with(format.clone())).unwrap();
    assert_eq!(body["tools"][0]["name"], "json_output");
    assert_eq!(body["tools"][0]["input_schema"], schema);
    assert_eq!(
        body["tool_choice"],
        json!({"type": "tool", "name": "json_output"})
    );
    assert_eq!(
        (changes.as_str(), written.unwrap),
        (
            "set:response_format=tool",
            Unwrap::Tool("json_output".to_owned())
        )
    );

    let mut both = with(format.clone());
    both["tools"] = json!([tool("json_output")]);
    both["reasoning_effort"] = json!("low");
    let (body, changes, written) = from_chat(OLD, both).unwrap();
    assert_eq!(body["tools"][1]["name"], "json_output_");
    assert_eq!(body["tool_choice"], json!({"type": "any"}));
    assert_eq!(changes, "set:response_format=tool,drop:reasoning_effort");
    assert_eq!(written.unwrap, Unwrap::Tool("json_output_".to_owned()));

    let circle = json!({"$defs": {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": circle}}});
    let (body, ..) = from_chat(NEW, with(format.clone())).unwrap();
    assert_eq!(
        body["tools"][0]["input_schema"], circle,
        "a forced tool follows what the compiler refuses"
    );
    let (body, _, written) = from_chat("claude-opus-5-5", with(format)).unwrap();
    assert_eq!(
        written.unwrap,
        Unwrap::Fence,
        "neither compiler nor forced tools"
    );
    assert!(
        body["system"][0]["text"]
            .as_str()
            .unwrap()
            .contains("$defs")
    );

    let (body, _, written) = from_chat(
        NEW,
        with(json!({"response_format": {"type": "json_object"}})),
    )
    .unwrap();
    assert_eq!(written.unwrap, Unwrap::Fence);
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"));
}

#[test]
fn turns_alternate_and_results_come_first() {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let messages = json!([
        {"role": "system", "content": "S"},
        {"role": "developer", "content": [{"type": "text", "text": "D"}]},
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "tool_calls": [call("t:1", "{\"x\": 1}"), call("t2", "")]},
        {"role": "tool", "tool_call_id": "t:1", "content": "one"},
        {"role": "user", "content": "meanwhile"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "assistant", "content": "end  \n"},
    ]);
    let id = ids::fit("t:1", ids::IdRule::ANTHROPIC);
    let text = |text: &str| json!({"type": "text", "text": text});
    let expected = json!({
        "system": [text("S"), text("D")],
        "messages": [
            {"role": "user", "content": [text("a"), text("b")]},
            {"role": "assistant", "content": [
                text("c"),
                {"type": "tool_use", "id": id, "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id, "content": [text("one")]},
                {"type": "tool_result", "tool_use_id": "t2"},
                text("meanwhile"),
            ]},
            {"role": "assistant", "content": [text("end")]},
        ],
    });
    assert_eq!(turns(NEW, messages), expected);
}

#[test]
fn a_conversation_that_used_tools_keeps_one() {
    let messages = json!([
        {"role": "assistant", "content": null, "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "r"},
    ]);
    let (body, changes, _) = from_chat(NEW, with(json!({"messages": messages}))).unwrap();
    assert_eq!(
        body["messages"][0],
        json!({"role": "user", "content": [{"type": "text", "text": "."}]})
    );
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
    assert_eq!(changes, "add:messages,add:tools");
    for (call, result, place) in [
        ("[1]", "t", "messages[1].tool_calls"),
        ("{", "t", "messages[1].tool_calls"),
        ("{}", "other", "messages[2].tool_call_id"),
    ] {
        let messages = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": call}}]},
            {"role": "tool", "tool_call_id": result, "content": "r"},
        ]);
        assert!(
            refused(NEW, json!({"messages": messages})).starts_with(place),
            "{call} {result}"
        );
    }
}

#[test]
fn later_system_text_stays_where_it_was_said() {
    let messages = json!([
        {"role": "user", "content": "a"},
        {"role": "system", "content": "now"},
        {"role": "assistant", "content": "b"},
        {"role": "system", "content": "then"},
    ]);
    let old = turns(ADAPTIVE, messages.clone());
    assert_eq!(
        old["messages"][0]["content"][1]["text"],
        "<system>\nnow\n</system>"
    );
    assert_eq!(
        old["messages"][2],
        json!({"role": "user", "content": [{"type": "text", "text": "<system>\nthen\n</system>"}]})
    );
    let new = turns("claude-opus-4-8", messages);
    assert_eq!(
        new["messages"][1],
        json!({"role": "system", "content": [{"type": "text", "text": "now"}]})
    );
    assert_eq!(
        new["messages"][3]["role"], "user",
        "not after the model's turn"
    );
}

#[test]
fn media_are_taken_or_refused() {
    let content = |parts: Value| json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": parts}]});
    let image =
        |url: &str| json!([{"type": "image_url", "image_url": {"url": url, "detail": "high"}}]);
    let file = |mime: &str, data: &str| json!([{"type": "file", "file": {"filename": "a.x", "file_data": format!("data:{mime};base64,{data}")}}]);
    for (parts, expected) in [
        (
            image("data:image/png;base64,AAAA"),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
        ),
        (
            image("data:image/jpg;base64,AAAA"),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}}),
        ),
        (
            image("https://a.b/c.png"),
            json!({"type": "image", "source": {"type": "url", "url": "https://a.b/c.png"}}),
        ),
        (
            file("application/pdf", "AAAA"),
            json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}, "title": "a.x"}),
        ),
        (
            file("text/plain", "w6Q="),
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ä"}, "title": "a.x"}),
        ),
    ] {
        let (body, ..) = from_chat(NEW, with(content(parts))).unwrap();
        assert_eq!(body["messages"][0]["content"][0], expected);
    }
    for parts in [
        image("data:image/tiff;base64,AAAA"),
        file("text/plain", "/w=="),
        file("application/zip", "AAAA"),
        json!([{"type": "file", "file": {"file_id": "file-1"}}]),
        json!([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
    ] {
        assert!(
            refused(NEW, content(parts.clone())).starts_with("messages[1].content[0]"),
            "{parts}"
        );
    }
    let request = chat::read_request(with(content(image("https://a.b/c.png")))).unwrap();
    let vertex = Upstream {
        slug: Slug::GoogleVertexAi,
        ..upstream("claude-sonnet-4-5@20250929")
    };
    let invalid = written(&request, &vertex).unwrap_err();
    assert!(invalid.message.contains("media.fetch"), "{invalid}");
}

#[test]
fn platforms_have_the_model_elsewhere() {
    let mut request = chat::read_request(with(json!({}))).unwrap();
    request.stream = true;
    for (slug, version, stream) in [
        (Slug::GoogleVertexAi, "vertex-2023-10-16", json!(true)),
        (Slug::AwsBedrock, "bedrock-2023-05-31", json!(null)),
    ] {
        let (body, ..) = written(
            &request,
            &Upstream {
                slug,
                ..upstream(NEW)
            },
        )
        .unwrap();
        assert_eq!(
            (&body["model"], &body["anthropic_version"], &body["stream"]),
            (&json!(null), &json!(version), &stream)
        );
    }
}

fn thought(text: &str, signature: Option<(Origin, &str)>) -> Part {
    let signature = signature.map(|(origin, data)| Signature::new(origin, data));
    PartKind::Thinking {
        text: text.to_owned(),
        signature,
    }
    .into()
}

fn call(id: &str) -> Part {
    PartKind::ToolUse(ToolUse {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: "{}".to_owned(),
        custom: false,
        signature: Some(Signature::new(Origin::Google, "g")),
    })
    .into()
}

fn result(id: &str) -> Part {
    PartKind::ToolResult {
        id: id.to_owned(),
        content: vec![Part::text("r")],
        is_error: true,
    }
    .into()
}

#[test]
fn only_claudes_own_thoughts_go_back() {
    let turn = |parts| Turn::new(Role::Assistant, parts);
    let mut request = Request::new(Dialect::Chat, "m");
    request.turns = vec![
        Turn::new(Role::User, vec![Part::text("a")]),
        turn(vec![
            thought("mine", Some((Origin::Anthropic, "sig"))),
            PartKind::Redacted(Signature::new(Origin::Anthropic, "red")).into(),
            thought("theirs", Some((Origin::Google, "sig"))),
            thought("unsigned", None),
            PartKind::Redacted(Signature::new(Origin::OpenAi, "red")).into(),
            call("t"),
        ]),
        Turn::new(Role::User, vec![result("t")]),
    ];
    request.max_tokens = Some(5000);
    request.reasoning = Some(Reasoning {
        visible: Some(true),
        ..Reasoning::default()
    });
    let (body, ..) = written(&request, &upstream(NEW)).unwrap();
    assert_eq!(body["thinking"], json!(null), "not asked for");
    request.reasoning = Some(Reasoning {
        adaptive: true,
        ..Reasoning::default()
    });
    let (body, changes, _) = written(&request, &upstream(NEW)).unwrap();
    let expected = json!([
        {"type": "thinking", "thinking": "mine", "signature": "sig"},
        {"type": "redacted_thinking", "data": "red"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]);
    assert_eq!(body["messages"][1]["content"], expected);
    assert_eq!(body["messages"][2]["content"][0]["is_error"], true);
    assert_eq!(body["thinking"]["type"], "enabled");
    assert!(
        changes.starts_with("drop:reasoning_content,drop:reasoning_details"),
        "{changes}"
    );

    // Without the thoughts that led to the call, a budget would be refused.
    request.turns[1].parts.drain(..2);
    let (body, changes, _) = written(&request, &upstream(NEW)).unwrap();
    assert_eq!(body["thinking"], json!(null));
    assert!(changes.contains("drop:reasoning_effort"), "{changes}");
    let (body, ..) = written(&request, &upstream(ADAPTIVE)).unwrap();
    assert_eq!(
        body["thinking"],
        json!({"type": "adaptive"}),
        "adaptive thinking does not mind"
    );
}

#[test]
fn cache_marks_stay_and_are_bounded() {
    let marked = |text: &str, ttl: Option<&str>| Part {
        cache: Some(CacheMark {
            ttl: ttl.map(str::to_owned),
        }),
        ..Part::text(text)
    };
    let mut request = Request::new(Dialect::Chat, "m");
    request.system = vec![marked("s", Some("1h")), marked(" ", None)];
    let texts = ["a", "b", "c", "d"].map(|text| marked(text, None));
    request.turns = vec![Turn::new(Role::User, texts.to_vec())];
    let (body, changes, _) = written(&request, &upstream(NEW)).unwrap();
    assert_eq!(
        body["system"],
        json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}])
    );
    let marks: Vec<bool> = body["messages"][0]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["cache_control"].is_object())
        .collect();
    assert_eq!(marks, [false, true, true, true]);
    assert_eq!(changes, "set:max_tokens=32000,drop:cache_control");
}
