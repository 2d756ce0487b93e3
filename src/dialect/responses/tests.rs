use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::failure::{Failure, Invalid};
use crate::dialect::neutral::*;
use crate::dialect::stream::Writer;
use crate::dialect::{Dialect, Terms};
use crate::meter::Usage;

fn request(body: Value) -> Request {
    read_request(body).unwrap_or_else(|invalid| panic!("{invalid:?}"))
}

fn refused(body: Value) -> Invalid {
    read_request(body).expect_err("is not to be read")
}

fn asked(fields: Value) -> Value {
    let mut body = json!({"model": "m", "input": "hi"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn input(items: Value) -> Request {
    request(asked(json!({"input": items})))
}

fn texts(parts: &[Part]) -> Vec<&str> {
    parts.iter().filter_map(Part::as_text).collect()
}

fn call(id: &str, name: &str, arguments: &str) -> PartKind {
    PartKind::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        custom: false,
        signature: None,
    })
}

fn result(id: &str, content: Vec<Part>) -> PartKind {
    PartKind::ToolResult {
        id: id.to_owned(),
        content,
        is_error: false,
    }
}

fn kinds(turn: &Turn) -> Vec<PartKind> {
    turn.parts.iter().map(|part| part.kind.clone()).collect()
}

// Requests.

#[test]
fn a_text_is_what_the_user_says() {
    let read = request(asked(json!({"instructions": "be kind"})));
    assert_eq!(read.from, Dialect::Responses);
    assert_eq!(read.model, "m");
    assert_eq!(texts(&read.system), ["be kind"]);
    assert_eq!(read.turns, [Turn::new(Role::User, vec![Part::text("hi")])]);
    assert!(!read.stream);
    assert!(read.extra.is_empty(), "{:?}", read.extra);
}

#[test]
fn messages_have_roles_and_contents() {
    let read = input(json!([
        {"role": "developer", "content": "first"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "second"}]},
        {"role": "user", "content": [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
            {"type": "input_image", "image_url": "data:image/PNG;base64,AAAA"},
            {"type": "input_image", "file_id": "file-1"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
            {"type": "input_file", "filename": "a.csv", "file_data": "YQ=="},
            {"type": "input_file", "file_data": "JVBERi0="},
            {"type": "input_file", "file_url": "https://x/z.pdf"},
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
        ]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
            {"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"},
        ]},
        {"role": "assistant", "content": "b"},
        {"role": "developer", "content": "later"},
        {"role": "user", "content": "and?"},
    ]));
    assert_eq!(texts(&read.system), ["first", "second"]);
    let inline = |mime: &str, data: &str| Media::Inline {
        mime: mime.to_owned(),
        data: data.to_owned(),
    };
    let url = |url: &str| Media::Url {
        url: url.to_owned(),
        mime: None,
    };
    let image = |media, detail: Option<&str>| PartKind::Image {
        media,
        detail: detail.map(str::to_owned),
    };
    let document = |media, name: Option<&str>| PartKind::Document {
        media,
        name: name.map(str::to_owned),
    };
    assert_eq!(
        kinds(&read.turns[0])[1..],
        [
            image(url("https://x/y.png"), Some("low")),
            image(inline("image/png", "AAAA"), None),
            image(Media::File("file-1".to_owned()), None),
            document(inline("application/pdf", "JVBERi0="), Some("a.pdf")),
            document(inline("text/csv", "YQ=="), Some("a.csv")),
            document(inline("application/pdf", "JVBERi0="), None),
            document(url("https://x/z.pdf"), None),
            PartKind::Audio(inline("audio/mp3", "UklG")),
        ]
    );
    let roles: Vec<Role> = read.turns.iter().map(|turn| turn.role).collect();
    use Role::{Assistant, System, User};
    assert_eq!(roles, [User, Assistant, Assistant, System, User]);
    assert_eq!(kinds(&read.turns[1])[1], PartKind::Refusal("no".to_owned()));
    assert_eq!(texts(&read.turns[3].parts), ["later"]);
}

#[test]
fn what_the_model_did_in_one_turn_stays_one_turn() {
    let read = input(json!([
        {"role": "user", "content": "?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
         "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\":1}"},
        {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": "data:image/png;base64,AA"}]},
        {"role": "user", "content": "go on"},
        {"type": "function_call", "call_id": "c3", "name": "f", "arguments": {"y": 2}},
        {"type": "function_call_output", "call_id": "c3", "output": {"content": "failed", "success": false}},
    ]));
    let roles: Vec<Role> = read.turns.iter().map(|turn| turn.role).collect();
    use Role::{Assistant, User};
    assert_eq!(roles, [User, Assistant, User, User, Assistant, User]);
    let thought = PartKind::Thinking {
        text: "a\n\nb".to_owned(),
        signature: Some(Signature::new(Origin::OpenAi, "gAAA")),
    };
    assert_eq!(
        kinds(&read.turns[1]),
        [
            thought,
            Part::text("I look.").kind,
            call("c1", "f", "{\"x\":1}"),
            call("c2", "g", "{}")
        ]
    );
    let picture = PartKind::Image {
        media: Media::Inline {
            mime: "image/png".to_owned(),
            data: "AA".to_owned(),
        },
        detail: None,
    };
    assert_eq!(
        kinds(&read.turns[2]),
        [
            result("c1", vec![Part::text("one")]),
            result("c2", vec![Part::text("two"), picture.into()])
        ]
    );
    assert_eq!(kinds(&read.turns[4]), [call("c3", "f", "{\"y\":2}")]);
    let failed = PartKind::ToolResult {
        id: "c3".to_owned(),
        content: vec![Part::text("failed")],
        is_error: true,
    };
    assert_eq!(kinds(&read.turns[5]), [failed]);
}

#[test]
fn an_empty_message_beside_calls_is_no_turn() {
    let read = input(json!([
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": ""},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "Mexico"},
    ]));
    assert_eq!(kinds(&read.turns[1]), [call("c", "f", "{}")]);
    assert_eq!(read.turns.len(), 3);
}

#[test]
fn what_other_providers_sealed_comes_back_to_its_place() {
    let read = input(json!([
        {"role": "user", "content": "?"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "anthropic:Eq"},
        {"type": "reasoning", "summary": [], "encrypted_content": "redacted:anthropic:Em"},
        {"type": "reasoning", "summary": [], "encrypted_content": "call:google:Ci"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": ""},
        {"role": "assistant", "content": "done"},
        {"type": "reasoning", "summary": [], "encrypted_content": "text:google:Cj"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "raw"}], "encrypted_content": null},
        {"type": "reasoning", "summary": []},
    ]));
    let google = |data: &str| Some(Signature::new(Origin::Google, data));
    let mut signed = call("c", "f", "{}");
    if let PartKind::ToolUse(call) = &mut signed {
        call.signature = google("Ci");
    }
    assert_eq!(
        kinds(&read.turns[1]),
        [
            PartKind::Thinking {
                text: "hm".to_owned(),
                signature: Some(Signature::new(Origin::Anthropic, "Eq")),
            },
            PartKind::Redacted(Signature::new(Origin::Anthropic, "Em")),
            signed
        ]
    );
    let done = PartKind::Text {
        text: "done".to_owned(),
        citations: Vec::new(),
        signature: google("Cj"),
    };
    let raw = PartKind::Thinking {
        text: "raw".to_owned(),
        signature: None,
    };
    assert_eq!(kinds(&read.turns[3]), [done, raw]);
}

#[test]
fn cache_marks_stay_where_they_are() {
    let read = request(asked(json!({
        "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "input_text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}},
            {"type": "input_text", "text": "c"}]}],
        "tools": [{"type": "function", "name": "f", "parameters": null, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    })));
    let hour = Some(CacheMark {
        ttl: Some("1h".to_owned()),
    });
    let marks: Vec<_> = read.turns[0]
        .parts
        .iter()
        .map(|part| part.cache.clone())
        .collect();
    assert_eq!(marks, [Some(CacheMark::default()), hour.clone(), None]);
    assert_eq!(read.tools[0].cache, hour);
}

#[test]
fn settings_have_their_places() {
    let read = request(asked(json!({
        "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_logprobs": 3, "parallel_tool_calls": false, "stream": true,
        "stream_options": {"include_obfuscation": false}, "user": "u", "service_tier": "flex", "metadata": {"a": "b"},
        "reasoning": {"effort": "xhigh", "summary": "auto", "context": "auto"}, "store": true, "truncation": "auto",
        "prompt_cache_key": "k", "text": {"verbosity": "low", "format": {"type": "text"}}, "client_metadata": {"x": "y"},
        "include": ["reasoning.encrypted_content", "web_search_call.action.sources"], "max_tool_calls": 3, "tool_choice": "none",
    })));
    assert_eq!(read.max_tokens, Some(100));
    assert_eq!(read.temperature, Some(0.5));
    assert_eq!(read.top_p, Some(0.9));
    assert_eq!(read.logprobs, Some(3));
    assert_eq!(read.parallel_tool_calls, Some(false));
    assert!(read.stream && read.include_usage);
    assert_eq!(read.user.as_deref(), Some("u"));
    assert_eq!(read.service_tier.as_deref(), Some("flex"));
    assert_eq!(Value::Object(read.metadata), json!({"a": "b"}));
    assert_eq!(read.format, Some(Format::Text));
    assert_eq!(read.tool_choice, Some(ToolChoice::None));
    let reasoning = Reasoning {
        effort: Some(Effort::XHigh),
        visible: Some(true),
        ..Reasoning::default()
    };
    assert_eq!(read.reasoning, Some(reasoning));
    // What has no place is reported as dropped by who writes for the provider.
    let mut others: Vec<&str> = read.extra.keys().map(String::as_str).collect();
    others.sort_unstable();
    let expected = [
        "client_metadata",
        "include",
        "max_tool_calls",
        "prompt_cache_key",
        "reasoning.context",
        "store",
        "truncation",
        "verbosity",
    ];
    assert_eq!(others, expected);
    assert_eq!(
        read.extra["include"],
        json!(["web_search_call.action.sources"])
    );
    let quiet = request(asked(json!({
        "store": false, "background": false, "truncation": "disabled", "safety_identifier": "s", "user": "u", "include": null,
        "reasoning": null, "text": null, "tools": null, "tool_choice": null, "previous_response_id": null, "metadata": null,
        "include": ["message.output_text.logprobs"],
    })));
    assert!(quiet.extra.is_empty(), "{:?}", quiet.extra);
    assert_eq!(quiet.user.as_deref(), Some("s"));
    assert_eq!(quiet.logprobs, Some(0));
    assert_eq!(quiet.reasoning, None);
}

#[test]
fn the_answers_form_is_read() {
    let format = |format| {
        request(asked(json!({"text": {"format": format}})))
            .format
            .unwrap()
    };
    assert_eq!(format(json!({"type": "json_object"})), Format::JsonObject);
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let wanted = json!({"type": "json_schema", "name": "n", "description": "d", "strict": true, "schema": schema});
    let read = Format::JsonSchema {
        name: Some("n".to_owned()),
        description: Some("d".to_owned()),
        schema,
        strict: Some(true),
    };
    assert_eq!(format(wanted), read);
    let missing = asked(json!({"text": {"format": {"type": "json_schema", "name": "n"}}}));
    assert_eq!(
        refused(missing).param.as_deref(),
        Some("text.format.schema")
    );
    let grammar = asked(json!({"text": {"format": {"type": "grammar"}}}));
    assert_eq!(refused(grammar).param.as_deref(), Some("text.format.type"));
}

#[test]
fn what_cannot_work_says_why_and_where() {
    for (fields, place) in [
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"conversation": {"id": "conv_1"}}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (json!({"background": true}), "background"),
        (json!({"input": null}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"model": 7}), "model"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"reasoning": {"effort": "much"}}), "reasoning.effort"),
        (json!({"input": [7]}), "input[0]"),
        (json!({"input": [{"id": "msg_1"}]}), "input[0].type"),
        (
            json!({"input": [{"type": "item_reference", "id": "rs_1"}]}),
            "input[0].type",
        ),
        (
            json!({"input": [{"type": "compaction", "encrypted_content": "g"}]}),
            "input[0].type",
        ),
        (
            json!({"input": [{"type": "computer_call_output", "call_id": "c"}]}),
            "input[0].type",
        ),
        (json!({"input": [{"type": "new_thing"}]}), "input[0].type"),
        (
            json!({"input": [{"role": "tool", "content": "x"}]}),
            "input[0].role",
        ),
        (
            json!({"input": [{"role": "user", "content": 7}]}),
            "input[0].content",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}),
            "input[0].content[0].type",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
            "input[0].content[0].text",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input[0].content[0].image_url",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png,x"}]}]}),
            "input[0].content[0].image_url",
        ),
        (
            json!({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "https://x"}]}]}),
            "input[0].content[0]",
        ),
        (
            json!({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}),
            "input[0].call_id",
        ),
        (
            json!({"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]}),
            "input[0].name",
        ),
        (
            json!({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": 7}]}),
            "input[0].arguments",
        ),
        (
            json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}),
            "input[0].call_id",
        ),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"tools": [{"name": "f"}]}), "tools[0].type"),
        (
            json!({"tools": [{"type": "function", "name": "f", "parameters": "x"}]}),
            "tools[0].parameters",
        ),
        (json!({"tool_choice": "any"}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "function", "name": "f"}}),
            "tool_choice.name",
        ),
        (
            json!({"tool_choice": {"type": "web_search_preview"}, "tools": [{"type": "web_search_preview"}]}),
            "tool_choice",
        ),
        (
            json!({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
                "tools": [{"type": "web_search"}]}),
            "tool_choice.tools",
        ),
    ] {
        let refused = refused(asked(fields.clone()));
        assert_eq!(refused.param.as_deref(), Some(place), "{fields}: {refused}");
        assert!(refused.message.len() > 10, "{fields}: {refused}");
    }
    assert_eq!(
        refused(json!({"input": "x"})).param.as_deref(),
        Some("model")
    );
    assert_eq!(refused(json!([])).code, Some("invalid_type"));
}

// Tools.

fn agent_tools() -> Value {
    json!([
        {"type": "function", "name": "exec", "description": "runs", "strict": false, "parameters": {"type": "object", "properties": {}}},
        {"type": "custom", "name": "apply_patch_text", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"*** Begin Patch\""}},
        {"type": "custom", "name": "plain", "format": {"type": "text"}},
        {"type": "local_shell"},
        {"type": "shell"},
        {"type": "apply_patch"},
        {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {"type": "object"}},
        {"type": "namespace", "name": "mcp__git__", "description": "git", "tools": [
            {"type": "function", "name": "log", "parameters": {"type": "object"}}, {"type": "custom", "name": "commit"}]},
        {"type": "web_search", "external_web_access": true},
        {"type": "mcp", "server_label": "x", "server_url": "https://x"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "tool_search"},
    ])
}

#[test]
fn tools_that_the_client_runs_become_functions() {
    let read = request(asked(json!({"tools": agent_tools()})));
    let names: Vec<&str> = read.tools.iter().map(Tool::name).collect();
    let functions = [
        "exec",
        "apply_patch_text",
        "plain",
        "local_shell",
        "shell",
        "apply_patch",
        "tool_search",
        "mcp__git__log",
        "mcp__git__commit",
    ];
    assert_eq!(names[..9], functions);
    assert_eq!(names[9..], ["web_search", "mcp", "shell", "tool_search"]);
    for tool in &read.tools[..9] {
        assert!(matches!(&tool.kind, ToolKind::Function { .. }), "{tool:?}");
    }
    let hosted = ToolKind::Hosted {
        kind: "web_search".to_owned(),
        definition: json!({"external_web_access": true, "type": "web_search"}),
    };
    assert_eq!(read.tools[9].kind, hosted);
    let ToolKind::Function {
        description,
        parameters: Some(parameters),
        strict,
        ..
    } = &read.tools[1].kind
    else {
        panic!("no function");
    };
    assert_eq!(parameters["required"], json!(["input"]));
    assert_eq!(parameters["properties"]["input"]["type"], "string");
    let description = description.as_deref().unwrap();
    assert!(description.starts_with("Edits files.\n\n"), "{description}");
    assert!(
        description.ends_with("(lark) to the letter:\nstart: \"*** Begin Patch\""),
        "{description}"
    );
    assert_eq!(*strict, None);
}

#[test]
fn choices_name_declared_functions() {
    let choose = |choice: Value| {
        request(asked(
            json!({"tools": agent_tools(), "tool_choice": choice}),
        ))
        .tool_choice
        .unwrap()
    };
    let named = |name: &str| ToolChoice::Named(name.to_owned());
    assert_eq!(choose(json!("auto")), ToolChoice::Auto);
    assert_eq!(choose(json!("required")), ToolChoice::Required);
    assert_eq!(
        choose(json!({"type": "function", "name": "exec"})),
        named("exec")
    );
    assert_eq!(
        choose(json!({"type": "custom", "name": "plain"})),
        named("plain")
    );
    assert_eq!(choose(json!({"type": "apply_patch"})), named("apply_patch"));
    assert_eq!(choose(json!({"type": "shell"})), named("shell"));
    let log = json!({"type": "function", "name": "log", "namespace": "mcp__git__"});
    assert_eq!(choose(log), named("mcp__git__log"));
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "function", "name": "exec"}, {"type": "web_search"}, {"type": "custom", "name": "plain"}]});
    let expected = ToolChoice::Allowed {
        required: true,
        names: vec!["exec".to_owned(), "plain".to_owned()],
    };
    assert_eq!(choose(allowed), expected);
}

#[test]
fn tools_found_on_the_way_are_declared_once() {
    let weather = json!({"type": "function", "name": "weather", "parameters": {"type": "object"}, "defer_loading": true});
    let read = request(asked(json!({
        "tools": [weather, {"type": "tool_search", "execution": "client"}],
        "input": [
            {"role": "user", "content": "?"},
            {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"q": "x"}, "status": "completed"},
            {"type": "tool_search_output", "call_id": "s1", "execution": "client", "tools": [weather, {"type": "function", "name": "rates"}]},
            {"type": "tool_search_call", "call_id": null, "execution": "server", "arguments": {}},
            {"type": "tool_search_output", "call_id": null, "execution": "server", "tools": [{"type": "function", "name": "rates"}]},
            {"type": "additional_tools", "role": "developer", "tools": [
                {"type": "namespace", "name": "m", "tools": [{"type": "function", "name": "rates"}]}]},
            {"type": "function_call", "call_id": "c", "name": "rates", "namespace": "rates", "arguments": "{}"},
            {"type": "function_call", "call_id": "d", "name": "rates", "namespace": "m", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            {"type": "function_call_output", "call_id": "d", "output": "2"},
        ],
    })));
    let names: Vec<&str> = read.tools.iter().map(Tool::name).collect();
    assert_eq!(names, ["weather", "tool_search", "rates", "m__rates"]);
    assert_eq!(
        kinds(&read.turns[1]),
        [call("s1", "tool_search", "{\"q\":\"x\"}")]
    );
    let found = vec![Part::text("{\"tools\":[\"weather\",\"rates\"]}")];
    assert_eq!(kinds(&read.turns[2]), [result("s1", found)]);
    assert!(matches!(kinds(&read.turns[3])[0], PartKind::Foreign(_)));
    assert_eq!(
        kinds(&read.turns[3])[1..],
        [call("c", "rates", "{}"), call("d", "m__rates", "{}")]
    );
}

#[test]
fn calls_of_the_dialects_own_tools_are_calls_of_functions() {
    let read = request(asked(json!({"tools": agent_tools(), "input": [
        {"role": "user", "content": "?"},
        {"type": "custom_tool_call", "call_id": "c1", "name": "plain", "input": "a \"b\""},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"},
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "c2", "status": "completed",
         "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": null}},
        {"type": "local_shell_call_output", "id": "lsh_1", "output": "a.txt"},
        {"type": "shell_call", "call_id": "c3", "action": {"commands": ["ls"], "max_output_length": 10}},
        {"type": "shell_call_output", "call_id": "c3", "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
        {"type": "apply_patch_call", "call_id": "c4", "status": "completed", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "c4", "status": "failed", "output": "no such file"},
        {"type": "custom_tool_call", "call_id": "c5", "name": "commit", "namespace": "mcp__git__", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c5", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA", "output_format": "webp"},
    ]})));
    let turns: Vec<Vec<PartKind>> = read.turns.iter().map(kinds).collect();
    assert_eq!(
        turns[1],
        [call("c1", "plain", "{\"input\":\"a \\\"b\\\"\"}")]
    );
    assert_eq!(turns[2], [result("c1", vec![Part::text("ok")])]);
    assert_eq!(
        turns[3],
        [call(
            "c2",
            "local_shell",
            "{\"command\":[\"ls\"],\"env\":{}}"
        )]
    );
    assert_eq!(turns[4], [result("c2", vec![Part::text("a.txt")])]);
    assert_eq!(
        turns[5],
        [call(
            "c3",
            "shell",
            "{\"commands\":[\"ls\"],\"max_output_length\":10}"
        )]
    );
    let told =
        "[{\"stdout\":\"a\",\"stderr\":\"\",\"outcome\":{\"type\":\"exit\",\"exit_code\":0}}]";
    assert_eq!(turns[6], [result("c3", vec![Part::text(told)])]);
    assert_eq!(
        turns[7],
        [call(
            "c4",
            "apply_patch",
            "{\"type\":\"delete_file\",\"path\":\"a\"}"
        )]
    );
    let failed = PartKind::ToolResult {
        id: "c4".to_owned(),
        content: vec![Part::text("no such file")],
        is_error: true,
    };
    assert_eq!(turns[8], [failed]);
    assert_eq!(
        turns[9],
        [call("c5", "mcp__git__commit", "{\"input\":\"x\"}")]
    );
    assert_eq!(turns[10], [result("c5", vec![Part::text("done")])]);
    assert!(matches!(&turns[11][0], PartKind::Foreign(item) if item["type"] == "web_search_call"));
    let picture = PartKind::Image {
        media: Media::Inline {
            mime: "image/webp".to_owned(),
            data: "AAAA".to_owned(),
        },
        detail: None,
    };
    assert_eq!(turns[11][1], picture);
}

// Answers.

fn terms(body: &Value) -> Terms {
    let mut terms = Terms {
        model: "m".to_owned(),
        id: "T".to_owned(),
        created: 7,
        ..Terms::default()
    };
    note(body, &mut terms);
    terms
}

fn answer(parts: Vec<PartKind>, stop: Stop) -> Answer {
    let choice = Choice {
        parts: parts.into_iter().map(Part::from).collect(),
        stop,
        logprobs: None,
    };
    Answer {
        choices: vec![choice],
        ..Answer::default()
    }
}

fn use_tool(name: &str, arguments: &str) -> PartKind {
    call("call_1", name, arguments)
}

fn text(text: &str) -> PartKind {
    Part::text(text).kind
}

fn output(parts: Vec<PartKind>, terms: &Terms) -> Value {
    write_answer(&answer(parts, Stop::new(StopReason::End)), terms)["output"].take()
}

#[test]
fn a_response_has_every_field_and_repeats_the_request() {
    let body = asked(json!({
        "instructions": "be kind", "max_output_tokens": 9, "temperature": 0.5, "metadata": {"a": "b"}, "truncation": "auto",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}], "tool_choice": "required", "store": true,
        "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "parallel_tool_calls": false, "user": "u", "top_logprobs": 2,
    }));
    let mut given = answer(vec![text("Hello")], Stop::new(StopReason::End));
    given.model = Some("m-1".to_owned());
    given.created = Some(5);
    given.service_tier = Some("standard".to_owned());
    given.usage = Some(Usage {
        input: 10,
        output: 5,
        cached_input: 4,
        cache_write: 2,
        reasoning: 3,
        total: 15,
    });
    let expected = json!({
        "id": "resp_T", "object": "response", "created_at": 5, "status": "completed", "background": false, "completed_at": null,
        "error": null, "incomplete_details": null, "instructions": "be kind", "max_output_tokens": 9, "max_tool_calls": null,
        "model": "m-1", "output": [{"id": "msg_T0", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}]}],
        "parallel_tool_calls": false, "previous_response_id": null, "prompt_cache_key": null, "prompt_cache_retention": null,
        "reasoning": {"effort": "low", "summary": null}, "safety_identifier": null, "service_tier": "default", "store": false,
        "temperature": 0.5, "text": {"format": {"type": "text"}, "verbosity": "low"}, "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "description": null, "parameters": null, "strict": null},
            {"type": "custom", "name": "c"}],
        "top_logprobs": 2, "top_p": null, "truncation": "auto",
        "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}, "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 15},
        "user": "u", "metadata": {"a": "b"},
    });
    assert_eq!(write_answer(&given, &terms(&body)), expected);
}

#[test]
fn each_end_has_its_status() {
    let terms = terms(&asked(json!({})));
    for (reason, status, why) in [
        (StopReason::End, "completed", Value::Null),
        (StopReason::StopSequence, "completed", Value::Null),
        (StopReason::ToolUse, "completed", Value::Null),
        (
            StopReason::Length,
            "incomplete",
            json!({"reason": "max_output_tokens"}),
        ),
        (
            StopReason::Filter,
            "incomplete",
            json!({"reason": "content_filter"}),
        ),
    ] {
        let response = write_answer(&answer(vec![text("x")], Stop::new(reason)), &terms);
        assert_eq!(response["status"], status, "{reason:?}");
        assert_eq!(response["incomplete_details"], why, "{reason:?}");
        assert_eq!(response["output"][0]["status"], status, "{reason:?}");
    }
    let mut stop = Stop::new(StopReason::Filter);
    stop.explanation = Some("I may not.".to_owned());
    let response = write_answer(&answer(Vec::new(), stop.clone()), &terms);
    assert_eq!(
        response["output"][0]["content"],
        json!([{"type": "refusal", "refusal": "I may not."}])
    );
    let said = write_answer(
        &answer(vec![PartKind::Refusal("No.".to_owned())], stop),
        &terms,
    );
    assert_eq!(
        said["output"][0]["content"],
        json!([{"type": "refusal", "refusal": "No."}])
    );
    assert_eq!(
        write_answer(&Answer::default(), &terms)["output"],
        json!([])
    );
}

#[test]
fn parts_become_items() {
    let terms = terms(&asked(json!({})));
    let cited = PartKind::Text {
        text: "Über".to_owned(),
        citations: vec![
            Citation {
                url: "https://x".to_owned(),
                title: Some("X".to_owned()),
                ..Citation::default()
            },
            Citation {
                url: "https://y".to_owned(),
                range: Some((1, 2)),
                ..Citation::default()
            },
            Citation::default(),
        ],
        signature: Some(Signature::new(Origin::Google, "Cj")),
    };
    let parts = vec![
        PartKind::Thinking {
            text: "hm".to_owned(),
            signature: Some(Signature::new(Origin::Anthropic, "Eq")),
        },
        PartKind::Thinking {
            text: String::new(),
            signature: None,
        },
        PartKind::Redacted(Signature::new(Origin::Anthropic, "Em")),
        text("a"),
        text(""),
        cited,
        PartKind::ToolUse(ToolUse {
            id: "call_1".to_owned(),
            name: "f".to_owned(),
            arguments: String::new(),
            custom: false,
            signature: Some(Signature::new(Origin::Google, "Ci")),
        }),
        PartKind::Image {
            media: Media::Inline {
                mime: "image/png".to_owned(),
                data: "AA".to_owned(),
            },
            detail: None,
        },
    ];
    let expected = json!([
        {"id": "rs_T0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "anthropic:Eq"},
        {"id": "rs_T1", "type": "reasoning", "summary": [], "encrypted_content": "redacted:anthropic:Em"},
        {"id": "msg_T2", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "annotations": [], "logprobs": [], "text": "a"},
            {"type": "output_text", "logprobs": [], "text": "Über", "annotations": [
                {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 4},
                {"type": "url_citation", "url": "https://y", "title": "", "start_index": 1, "end_index": 2}]}]},
        {"id": "rs_T3", "type": "reasoning", "summary": [], "encrypted_content": "text:google:Cj"},
        {"id": "rs_T4", "type": "reasoning", "summary": [], "encrypted_content": "call:google:Ci"},
        {"id": "fc_T5", "type": "function_call", "status": "completed", "arguments": "{}", "call_id": "call_1", "name": "f"},
        {"id": "ig_T6", "type": "image_generation_call", "status": "completed", "output_format": "png", "result": "AA"},
    ]);
    assert_eq!(output(parts, &terms), expected);
}

#[test]
fn calls_mean_what_the_client_declared() {
    let terms = terms(&asked(json!({"tools": agent_tools()})));
    for (name, arguments, expected) in [
        (
            "exec",
            "{\"a\":1}",
            json!({"id": "fc_T0", "type": "function_call", "arguments": "{\"a\":1}", "name": "exec"}),
        ),
        (
            "plain",
            "{\"input\":\"x\\ny\"}",
            json!({"id": "ctc_T0", "type": "custom_tool_call", "input": "x\ny", "name": "plain"}),
        ),
        (
            "plain",
            "no json",
            json!({"id": "ctc_T0", "type": "custom_tool_call", "input": "no json", "name": "plain"}),
        ),
        (
            "mcp__git__log",
            "{}",
            json!({"id": "fc_T0", "type": "function_call", "arguments": "{}", "name": "log", "namespace": "mcp__git__"}),
        ),
        (
            "mcp__git__commit",
            "{\"input\":\"x\"}",
            json!({"id": "ctc_T0", "type": "custom_tool_call", "input": "x", "name": "commit", "namespace": "mcp__git__"}),
        ),
        (
            "local_shell",
            "{\"command\":[\"ls\"]}",
            json!({"id": "lsh_T0", "type": "local_shell_call", "action": {"command": ["ls"], "type": "exec", "env": {}}}),
        ),
        (
            "shell",
            "{\"commands\":[\"ls\"]}",
            json!({"id": "sh_T0", "type": "shell_call",
                "action": {"commands": ["ls"], "max_output_length": null, "timeout_ms": null}}),
        ),
        (
            "apply_patch",
            "{\"type\":\"update_file\",\"path\":\"a\",\"diff\":\"@@\"}",
            json!({"id": "apc_T0", "type": "apply_patch_call", "operation": {"type": "update_file", "path": "a", "diff": "@@"}}),
        ),
        (
            "tool_search",
            "{\"q\":1}",
            json!({"id": "tsc_T0", "type": "tool_search_call", "execution": "client", "arguments": {"q": 1}}),
        ),
        // What makes no sense for the tool goes as it is.
        (
            "local_shell",
            "{\"cmd\":1}",
            json!({"id": "lsh_T0", "type": "function_call", "arguments": "{\"cmd\":1}", "name": "local_shell"}),
        ),
        (
            "apply_patch",
            "{\"type\":\"update_file\",\"path\":\"a\"}",
            json!({"id": "apc_T0", "type": "function_call",
            "arguments": "{\"type\":\"update_file\",\"path\":\"a\"}", "name": "apply_patch"}),
        ),
        (
            "unknown",
            "{}",
            json!({"id": "fc_T0", "type": "function_call", "arguments": "{}", "name": "unknown"}),
        ),
    ] {
        let mut expected = expected;
        expected["status"] = json!("completed");
        expected["call_id"] = json!("call_1");
        assert_eq!(
            output(vec![use_tool(name, arguments)], &terms)[0],
            expected,
            "{name} {arguments}"
        );
    }
    let mut named = Terms::default();
    named.custom_tools.push("old".to_owned());
    assert_eq!(
        output(vec![use_tool("old", "{\"input\":\"x\"}")], &named)[0]["input"],
        "x"
    );
    let mut free = use_tool("any", "{\"input\":\"stays\"}");
    if let PartKind::ToolUse(call) = &mut free {
        call.custom = true;
    }
    assert_eq!(
        output(vec![free], &Terms::default())[0]["input"],
        "{\"input\":\"stays\"}"
    );
}

#[test]
fn tools_found_on_the_way_are_known_in_the_answer() {
    let body = asked(json!({"input": [
        {"type": "additional_tools", "tools": [{"type": "namespace", "name": "m", "tools": [{"type": "custom", "name": "run"}]}]},
    ]}));
    let output = output(vec![use_tool("m__run", "{\"input\":\"x\"}")], &terms(&body));
    assert_eq!(output[0]["type"], "custom_tool_call");
    assert_eq!(output[0]["namespace"], "m");
    assert_eq!(output[0]["name"], "run");
}

#[test]
fn log_probabilities_have_bytes() {
    let mut given = answer(vec![text("é")], Stop::new(StopReason::End));
    given.choices[0].logprobs = Some(json!({"content": [
        {"token": "é", "logprob": -0.5, "bytes": null, "top_logprobs": [{"token": "e", "logprob": -1.5, "bytes": [101]}]}]}));
    let response = write_answer(&given, &Terms::default());
    let expected = json!([{"token": "é", "bytes": [195, 169], "logprob": -0.5,
        "top_logprobs": [{"token": "e", "bytes": [101], "logprob": -1.5}]}]);
    assert_eq!(response["output"][0]["content"][0]["logprobs"], expected);
}

#[test]
fn what_was_answered_can_be_sent_back() {
    let body = asked(json!({"tools": agent_tools()}));
    let parts = vec![
        PartKind::Thinking {
            text: "hm".to_owned(),
            signature: Some(Signature::new(Origin::Anthropic, "Eq")),
        },
        PartKind::Redacted(Signature::new(Origin::Anthropic, "Em")),
        text("I look."),
        use_tool("plain", "{\"input\":\"x\"}"),
        call("call_2", "local_shell", "{\"command\":[\"ls\"],\"env\":{}}"),
        call("call_3", "mcp__git__log", "{\"n\":3}"),
        PartKind::ToolUse(ToolUse {
            id: "call_4".to_owned(),
            name: "exec".to_owned(),
            arguments: "{}".to_owned(),
            custom: false,
            signature: Some(Signature::new(Origin::Google, "Ci")),
        }),
    ];
    let mut items = vec![json!({"role": "user", "content": "?"})];
    if let Value::Array(output) = output(parts.clone(), &terms(&body)) {
        items.extend(output);
    }
    let read = request(asked(json!({"tools": agent_tools(), "input": items})));
    assert_eq!(kinds(&read.turns[1]), parts);
}

// Streams.

fn written(events: &[Event<'_>], terms: &Terms) -> String {
    let mut writer = StreamWriter::new(terms);
    let mut out = Vec::new();
    events
        .iter()
        .for_each(|event| writer.write(event, &mut out));
    writer.end(&mut out);
    String::from_utf8(out).unwrap()
}

/// The events as values, checked for what all have in common.
fn told(stream: &str) -> Vec<Value> {
    let blocks = stream
        .split_terminator("\n\n")
        .filter(|block| !block.starts_with(':'));
    let events: Vec<Value> = blocks
        .map(|block| {
            let (name, data) = block.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
            data
        })
        .collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    events
}

fn types(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["type"].as_str().unwrap());
    names
        .map(|name| name.strip_prefix("response.").unwrap_or(name))
        .collect()
}

fn start() -> Event<'static> {
    Event::Start {
        id: Some("x".into()),
        model: Some("m-1".into()),
        created: Some(5),
    }
}

fn open(index: u32, part: Opening<'_>) -> Event<'_> {
    Event::Open {
        choice: 0,
        index,
        part,
    }
}

fn delta(index: u32, delta: Delta<'_>) -> Event<'_> {
    Event::Delta {
        choice: 0,
        index,
        delta,
    }
}

fn close(index: u32) -> Event<'static> {
    Event::Close { choice: 0, index }
}

fn stop(reason: StopReason) -> Event<'static> {
    Event::Stop {
        choice: 0,
        stop: Stop::new(reason),
    }
}

fn tool(id: &'static str, name: &'static str) -> Opening<'static> {
    Opening::ToolUse {
        id: id.into(),
        name: name.into(),
        custom: false,
        signature: None,
    }
}

#[test]
fn a_stream_tells_everything_in_order() {
    let usage = Usage {
        input: 3,
        output: 2,
        total: 5,
        ..Usage::default()
    };
    let stream = written(
        &[
            start(),
            open(0, Opening::Thinking),
            delta(0, Delta::Thinking("h".into())),
            delta(0, Delta::Thinking("m".into())),
            delta(0, Delta::Signature(Signature::new(Origin::Anthropic, "Eq"))),
            close(0),
            open(1, Opening::Text),
            delta(1, Delta::Text("Hel".into())),
            delta(1, Delta::Text("lo".into())),
            close(1),
            open(2, tool("call_1", "f")),
            delta(2, Delta::Arguments("{\"a\"".into())),
            delta(2, Delta::Arguments(":1}".into())),
            close(2),
            stop(StopReason::ToolUse),
            Event::Usage(usage),
        ],
        &terms(&asked(json!({}))),
    );
    let events = told(&stream);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(types(&events), expected);
    let strip = |at: usize| {
        let mut event = events[at].clone();
        let fields = event.as_object_mut().unwrap();
        fields.remove("type");
        fields.remove("sequence_number");
        event
    };
    assert_eq!(strip(0)["response"]["status"], "in_progress");
    assert_eq!(strip(0)["response"]["output"], json!([]));
    assert_eq!(strip(0)["response"]["usage"], Value::Null);
    assert_eq!(
        strip(2),
        json!({"output_index": 0, "item": {"id": "rs_T0", "type": "reasoning", "summary": []}})
    );
    assert_eq!(
        strip(3),
        json!({"item_id": "rs_T0", "output_index": 0, "summary_index": 0, "part": {"type": "summary_text", "text": ""}})
    );
    assert_eq!(
        strip(4),
        json!({"item_id": "rs_T0", "output_index": 0, "summary_index": 0, "delta": "h"})
    );
    assert_eq!(
        strip(6),
        json!({"item_id": "rs_T0", "output_index": 0, "summary_index": 0, "text": "hm"})
    );
    assert_eq!(
        strip(9),
        json!({"output_index": 1, "item": {"id": "msg_T1", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}})
    );
    assert_eq!(
        strip(10),
        json!({"item_id": "msg_T1", "output_index": 1, "content_index": 0,
            "part": {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}})
    );
    assert_eq!(
        strip(11),
        json!({"item_id": "msg_T1", "output_index": 1, "content_index": 0, "delta": "Hel", "logprobs": []})
    );
    assert_eq!(
        strip(13),
        json!({"item_id": "msg_T1", "output_index": 1, "content_index": 0, "text": "Hello", "logprobs": []})
    );
    let item = json!({"id": "fc_T2", "type": "function_call", "status": "in_progress", "arguments": "", "call_id": "call_1", "name": "f"});
    assert_eq!(strip(16), json!({"output_index": 2, "item": item}));
    assert_eq!(
        strip(17),
        json!({"item_id": "fc_T2", "output_index": 2, "delta": "{\"a\""})
    );
    assert_eq!(
        strip(19),
        json!({"item_id": "fc_T2", "output_index": 2, "name": "f", "arguments": "{\"a\":1}"})
    );
    let mut whole = answer(
        vec![
            PartKind::Thinking {
                text: "hm".to_owned(),
                signature: Some(Signature::new(Origin::Anthropic, "Eq")),
            },
            text("Hello"),
            use_tool("f", "{\"a\":1}"),
        ],
        Stop::new(StopReason::ToolUse),
    );
    whole.model = Some("m-1".to_owned());
    whole.created = Some(5);
    whole.usage = Some(usage);
    let whole = write_answer(&whole, &terms(&asked(json!({}))));
    assert_eq!(strip(21)["response"], whole);
    assert!(!stream.contains("[DONE]"));
}

#[test]
fn a_streamed_custom_call_is_text() {
    let body = asked(json!({"tools": agent_tools()}));
    let stream = written(
        &[
            start(),
            open(0, tool("call_1", "apply_patch_text")),
            delta(0, Delta::Arguments("{\"inp".into())),
            delta(0, Delta::Arguments("ut\":\"*** Begin".into())),
            delta(0, Delta::Arguments(" Patch\\n\"}".into())),
            close(0),
            stop(StopReason::ToolUse),
        ],
        &terms(&body),
    );
    let events = told(&stream);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(types(&events), expected);
    assert_eq!(events[2]["item"]["input"], "");
    assert_eq!(events[3]["delta"], "*** Begin");
    assert_eq!(events[4]["delta"], " Patch\n");
    assert_eq!(events[5]["input"], "*** Begin Patch\n");
    assert_eq!(events[6]["item"]["input"], "*** Begin Patch\n");
    assert_eq!(events[6]["item"]["name"], "apply_patch_text");
}

#[test]
fn tools_with_their_own_items_are_told_when_they_are_known() {
    let body = asked(json!({"tools": agent_tools()}));
    let stream = written(
        &[
            start(),
            open(0, tool("call_1", "local_shell")),
            delta(0, Delta::Arguments("{\"command\":".into())),
            delta(0, Delta::Arguments("[\"ls\"]}".into())),
            close(0),
            stop(StopReason::ToolUse),
        ],
        &terms(&body),
    );
    let events = told(&stream);
    assert_eq!(
        types(&events)[2..4],
        ["output_item.added", "output_item.done"]
    );
    assert_eq!(events[3]["item"]["action"]["command"], json!(["ls"]));
}

#[test]
fn calls_may_be_open_side_by_side() {
    let stream = written(
        &[
            start(),
            open(0, tool("call_1", "f")),
            open(1, tool("call_2", "g")),
            delta(1, Delta::Arguments("{}".into())),
            delta(0, Delta::Arguments("{\"a\":1}".into())),
            close(1),
            close(0),
            stop(StopReason::ToolUse),
        ],
        &terms(&asked(json!({}))),
    );
    let events = told(&stream);
    let last = &events.last().unwrap()["response"]["output"];
    assert_eq!(last[0]["arguments"], "{\"a\":1}");
    assert_eq!(last[1]["name"], "g");
    let indices: Vec<u64> = events
        .iter()
        .filter_map(|event| event["output_index"].as_u64())
        .collect();
    assert_eq!(indices, [0, 1, 1, 0, 1, 1, 0, 0]);
}

#[test]
fn a_stream_that_fails_says_so_and_ends() {
    let mut writer = StreamWriter::new(&terms(&asked(json!({}))));
    let mut out = Vec::new();
    for event in [
        start(),
        open(0, Opening::Text),
        delta(0, Delta::Text("Hel".into())),
        Event::KeepAlive,
    ] {
        writer.write(&event, &mut out);
    }
    let failure = Failure::of_status(429, "Too fast").with_code("slow_down");
    writer.write(&Event::Failed(failure), &mut out);
    let length = out.len();
    writer.write(&delta(0, Delta::Text("lo".into())), &mut out);
    writer.end(&mut out);
    assert_eq!(out.len(), length);
    let stream = String::from_utf8(out).unwrap();
    assert!(stream.contains("\n\n: keep-alive\n\n"));
    let events = told(&stream);
    assert_eq!(types(&events)[5..], ["error", "failed"]);
    assert_eq!(events[5]["message"], "Too fast");
    assert_eq!(events[5]["code"], "slow_down");
    assert_eq!(events[5]["error"]["type"], "rate_limit_error");
    let failed = &events[6]["response"];
    assert_eq!(failed["status"], "failed");
    assert_eq!(
        failed["error"],
        json!({"code": "rate_limit_exceeded", "message": "Too fast"})
    );
    // Before anything else was told.
    let stream = written(&[Event::Failed(Failure::broken("gone"))], &Terms::default());
    assert_eq!(
        types(&told(&stream)),
        ["created", "in_progress", "error", "failed"]
    );
}

#[test]
fn an_answer_that_is_too_large_fails() {
    let mut writer = StreamWriter::new(&Terms::default());
    let mut out = Vec::new();
    writer.write(&start(), &mut out);
    writer.write(&open(0, Opening::Text), &mut out);
    let piece = "x".repeat(1 << 20);
    let mut failed = false;
    for _ in 0..=crate::limits::RESPONSE_HELD_MAX >> 20 {
        out.clear();
        writer.write(&delta(0, Delta::Text(piece.as_str().into())), &mut out);
        failed |= memchr::memmem::find(&out, b"event: response.failed").is_some();
    }
    assert!(failed);
    assert!(out.is_empty());
}

#[test]
fn a_refusal_and_a_cut_stream_as_they_are_answered() {
    let mut refused = Stop::new(StopReason::Filter);
    refused.explanation = Some("I may not.".to_owned());
    let event = Event::Stop {
        choice: 0,
        stop: refused.clone(),
    };
    let stream = written(&[start(), event], &terms(&asked(json!({}))));
    let events = told(&stream);
    let expected = [
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ];
    assert_eq!(types(&events)[2..], expected);
    assert_eq!(events[5]["refusal"], "I may not.");
}

/// Parts that a provider may answer, without what a stream tells otherwise.
fn any_part() -> impl Strategy<Value = PartKind> {
    let words = "[a-zé\"\\\\\n😀 ]{0,12}";
    let origin = prop_oneof![
        Just(Origin::Anthropic),
        Just(Origin::Google),
        Just(Origin::OpenAi)
    ];
    let signature =
        (origin, "[A-Za-z0-9+/=]{1,8}").prop_map(|(origin, data)| Signature::new(origin, data));
    let names = prop_oneof![
        Just("exec"),
        Just("plain"),
        Just("local_shell"),
        Just("mcp__git__commit"),
        Just("unknown")
    ];
    let arguments = prop_oneof![
        Just("{}".to_owned()),
        Just("{\"command\":[\"ls\"]}".to_owned()),
        Just(String::new()),
        words.prop_map(|text| json!({"input": text}).to_string()),
    ];
    let maybe = prop::option::of(signature.clone());
    prop_oneof![
        (words, maybe.clone()).prop_map(|(text, signature)| PartKind::Text {
            text,
            citations: Vec::new(),
            signature
        }),
        (words, maybe.clone()).prop_map(|(text, signature)| PartKind::Thinking { text, signature }),
        signature.prop_map(PartKind::Redacted),
        words.prop_map(PartKind::Refusal),
        ("[a-z]{1,6}", names, arguments, maybe).prop_map(|(id, name, arguments, signature)| {
            PartKind::ToolUse(ToolUse {
                id,
                name: name.to_owned(),
                arguments,
                custom: false,
                signature,
            })
        }),
    ]
}

/// The events of a part, its text in pieces of so many characters.
fn events_of(index: u32, part: &PartKind, size: usize) -> Vec<Event<'_>> {
    let pieces = |text: &str| -> Vec<String> {
        let letters: Vec<char> = text.chars().collect();
        letters
            .chunks(size)
            .map(|piece| piece.iter().collect())
            .collect()
    };
    let (opening, deltas, signature) = match part {
        PartKind::Text {
            text, signature, ..
        } => {
            let deltas: Vec<Delta<'_>> = pieces(text)
                .into_iter()
                .map(|piece| Delta::Text(piece.into()))
                .collect();
            (Opening::Text, deltas, signature.clone())
        }
        PartKind::Thinking { text, signature } => {
            let deltas = pieces(text)
                .into_iter()
                .map(|piece| Delta::Thinking(piece.into()));
            (Opening::Thinking, deltas.collect(), signature.clone())
        }
        PartKind::Refusal(text) => {
            let deltas = pieces(text)
                .into_iter()
                .map(|piece| Delta::Refusal(piece.into()));
            (Opening::Refusal, deltas.collect(), None)
        }
        PartKind::ToolUse(call) => {
            let opening = Opening::ToolUse {
                id: call.id.as_str().into(),
                name: call.name.as_str().into(),
                custom: call.custom,
                signature: call.signature.clone(),
            };
            let deltas = pieces(&call.arguments)
                .into_iter()
                .map(|piece| Delta::Arguments(piece.into()));
            (opening, deltas.collect(), None)
        }
        PartKind::Redacted(signature) => (Opening::Redacted(signature.clone()), Vec::new(), None),
        _ => return Vec::new(),
    };
    let signed = signature.map(|signature| delta(index, Delta::Signature(signature)));
    std::iter::once(open(index, opening))
        .chain(deltas.into_iter().map(|piece| delta(index, piece)))
        .chain(signed)
        .chain([close(index)])
        .collect()
}

proptest! {
    #[test]
    fn a_stream_ends_with_what_would_have_been_answered_whole(
        parts in prop::collection::vec(any_part(), 0..6),
        size in 1_usize..5,
        reason in prop_oneof![Just(StopReason::End), Just(StopReason::Length), Just(StopReason::ToolUse)],
    ) {
        // An empty refusal is nothing in a stream.
        let parts: Vec<PartKind> = parts.into_iter().filter(|part| *part != PartKind::Refusal(String::new())).collect();
        let terms = terms(&asked(json!({"tools": agent_tools()})));
        let mut events = vec![start()];
        for (index, part) in parts.iter().enumerate() {
            events.extend(events_of(index as u32, part, size));
        }
        events.push(stop(reason));
        let events = told(&written(&events, &terms));
        let mut whole = answer(parts, Stop::new(reason));
        whole.model = Some("m-1".to_owned());
        whole.created = Some(5);
        let whole = write_answer(&whole, &terms);
        prop_assert_eq!(&events.last().unwrap()["response"], &whole);
        // What grows by deltas ends as what is told to be done.
        for (field, grows, done) in [
            ("text", "response.output_text.delta", "response.output_text.done"),
            ("text", "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done"),
            ("arguments", "response.function_call_arguments.delta", "response.function_call_arguments.done"),
            ("input", "response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"),
        ] {
            for end in events.iter().filter(|event| event["type"] == done) {
                let same = |event: &&Value| {
                    event["type"] == grows && event["item_id"] == end["item_id"] && event["content_index"] == end["content_index"]
                };
                let grown: String = events.iter().filter(same).filter_map(|event| event["delta"].as_str()).collect();
                prop_assert_eq!(&grown, end[field].as_str().unwrap());
            }
        }
    }

    #[test]
    fn what_was_answered_comes_back_as_the_same_parts(parts in prop::collection::vec(any_part(), 1..6)) {
        let written = output(parts.clone(), &terms(&asked(json!({"tools": agent_tools()}))));
        let mut items = vec![json!({"role": "user", "content": "?"})];
        items.extend(written.as_array().unwrap().iter().cloned());
        let read = request(asked(json!({"tools": agent_tools(), "input": items})));
        // Empty texts are nothing; arguments may be told in another form of the same.
        let tidy = |part: PartKind| match part {
            PartKind::ToolUse(mut call) => {
                let value = serde_json::from_str::<Value>(&call.arguments).unwrap_or(json!({}));
                let value = match (call.name.as_str(), &value["input"], &value["command"]) {
                    ("plain" | "mcp__git__commit", Value::Null, Value::Null) => json!({"input": ""}),
                    ("plain" | "mcp__git__commit", Value::Null, _) => json!({"input": call.arguments}),
                    ("local_shell", _, Value::Array(command)) => json!({"command": command, "env": {}}),
                    _ => value,
                };
                call.arguments = value.to_string();
                Some(PartKind::ToolUse(call))
            }
            PartKind::Thinking { text, signature: None } if text.is_empty() => None,
            PartKind::Text { text, .. } if text.is_empty() => None,
            part => Some(part),
        };
        // A signature of a text that is empty has no place to come back to.
        prop_assume!(!parts.iter().any(|part| matches!(part, PartKind::Text { text, signature: Some(_), .. } if text.is_empty())));
        let sent: Vec<PartKind> = parts.into_iter().filter_map(tidy).collect();
        let back: Vec<PartKind> = read.turns[1..].iter().flat_map(kinds).filter_map(tidy).collect();
        prop_assert_eq!(sent, back);
    }

    #[test]
    fn no_request_panics(text in "[\\[\\]{}:,\"a-z_0-9]{0,60}", items in prop::collection::vec(any_item(), 0..6)) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = read_request(value.clone());
            let _ = read_request(asked(json!({"input": value.clone()})));
            let _ = read_request(asked(json!({"tools": value})));
        }
        let _ = read_request(asked(json!({"input": items})));
    }
}

fn any_item() -> impl Strategy<Value = Value> {
    let kinds = prop_oneof![
        Just("message"),
        Just("reasoning"),
        Just("function_call"),
        Just("function_call_output"),
        Just("custom_tool_call"),
        Just("local_shell_call"),
        Just("shell_call_output"),
        Just("tool_search_output"),
        Just("additional_tools"),
    ];
    let value = prop_oneof![
        Just(Value::Null),
        Just(json!("text")),
        Just(json!(7)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"type": "input_text", "text": "x"}])),
        Just(json!([{"type": "function", "name": "f"}, 7])),
    ];
    let fields = prop_oneof![
        Just("role"),
        Just("content"),
        Just("call_id"),
        Just("name"),
        Just("arguments"),
        Just("output"),
        Just("tools"),
        Just("action"),
        Just("summary"),
        Just("encrypted_content")
    ];
    (kinds, prop::collection::vec((fields, value), 0..5)).prop_map(|(kind, fields)| {
        let mut item = json!({"type": kind, "role": "assistant", "call_id": "c"});
        for (name, value) in fields {
            item[name] = value;
        }
        item
    })
}

// What real clients sent.

#[test]
fn recorded_requests_are_read() {
    let Some(folder) = std::env::var_os("RINGGATE_RECORDED") else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let exchange: Value = serde_json::from_str(line).unwrap();
            let is_request = exchange["method"] == "POST"
                && exchange["path"].as_str().unwrap().ends_with("/responses");
            if !is_request {
                continue;
            }
            let body: Value = match &exchange["req_body"] {
                Value::String(text) => serde_json::from_str(text).unwrap(),
                body => body.clone(),
            };
            seen += 1;
            let stored = body.get("conversation").is_some();
            let read = read_request(body);
            match read {
                Ok(read) => assert!(!stored && !read.turns.is_empty(), "{}", exchange["id"]),
                Err(invalid) => assert!(stored, "{}: {invalid:?}", exchange["id"]),
            }
        }
    }
    assert!(seen > 20, "{seen}");
}
