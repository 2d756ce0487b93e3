//! The simulator by itself: what it says it used, what a seed fixes, every fault.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use ringgate::sim::{self, Running};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, eventually, received, simulator};

/// A generation endpoint: its name here, its path, its path for a stream, and how a prompt is put.
struct Endpoint {
    name: &'static str,
    path: &'static str,
    stream: &'static str,
    body: fn(&str) -> Value,
}

fn messages(prompt: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]})
}

fn contents(prompt: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": prompt}]}]})
}

fn blocks(prompt: &str) -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": prompt}]}]})
}

const ENDPOINTS: [Endpoint; 12] = [
    Endpoint {
        name: "chat",
        path: "/v1/chat/completions",
        stream: "/v1/chat/completions",
        body: messages,
    },
    Endpoint {
        name: "azure",
        path: "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        stream: "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        body: messages,
    },
    Endpoint {
        name: "groq",
        path: "/groq/openai/v1/chat/completions",
        stream: "/groq/openai/v1/chat/completions",
        body: messages,
    },
    Endpoint {
        name: "mistral",
        path: "/mistral/v1/chat/completions",
        stream: "/mistral/v1/chat/completions",
        body: messages,
    },
    Endpoint {
        name: "grok",
        path: "/grok/v1/chat/completions",
        stream: "/grok/v1/chat/completions",
        body: messages,
    },
    Endpoint {
        name: "responses",
        path: "/v1/responses",
        stream: "/v1/responses",
        body: |prompt| json!({"model": "m", "input": prompt}),
    },
    Endpoint {
        name: "messages",
        path: "/v1/messages",
        stream: "/v1/messages",
        body: messages,
    },
    Endpoint {
        name: "gemini",
        path: "/v1beta/models/g:generateContent",
        stream: "/v1beta/models/g:streamGenerateContent?alt=sse",
        body: contents,
    },
    Endpoint {
        name: "converse",
        path: "/model/m/converse",
        stream: "/model/m/converse-stream",
        body: blocks,
    },
    Endpoint {
        name: "cohere",
        path: "/cohere/v2/chat",
        stream: "/cohere/v2/chat",
        body: messages,
    },
    Endpoint {
        name: "cohere v1",
        path: "/cohere/v1/chat",
        stream: "/cohere/v1/chat",
        body: |prompt| json!({"model": "m", "message": prompt}),
    },
    Endpoint {
        name: "workers-ai",
        path: "/client/v4/accounts/a/ai/run/@cf/meta/llama",
        stream: "/client/v4/accounts/a/ai/run/@cf/meta/llama",
        body: messages,
    },
];

const PROMPT: &str = "How many words has this sentence?";

fn endpoint(name: &str) -> &'static Endpoint {
    ENDPOINTS
        .iter()
        .find(|endpoint| endpoint.name == name)
        .expect("an endpoint")
}

fn request(path: &str, directives: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nx-sim: {directives}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(simulator: &Running, path: &str, directives: &str, body: &Value) -> Answer {
    let mut client = Client::connect(simulator.addr());
    client.write(request(path, directives, body).as_bytes());
    client.answer()
}

fn whole(simulator: &Running, endpoint: &Endpoint, directives: &str) -> Answer {
    send(
        simulator,
        endpoint.path,
        directives,
        &(endpoint.body)(PROMPT),
    )
}

fn streamed(simulator: &Running, endpoint: &Endpoint, directives: &str) -> Answer {
    let mut body = (endpoint.body)(PROMPT);
    if endpoint.name != "gemini" && endpoint.name != "converse" {
        body["stream"] = json!(true);
    }
    if body["messages"].is_array() && endpoint.path.contains("chat/completions") {
        body["stream_options"] = json!({"include_usage": true});
    }
    send(simulator, endpoint.stream, directives, &body)
}

/// The JSON objects of a stream: SSE, one a line (Cohere's first version), or AWS's messages.
fn events(answer: &Answer) -> Vec<Value> {
    if answer.header("content-type") == Some("application/vnd.amazon.eventstream") {
        let mut rest = &answer.body[..];
        let mut found = Vec::new();
        while rest.len() > 16 {
            let word = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().expect("4"));
            let (total, headers) = (word(0) as usize, word(4) as usize);
            found.push(serde_json::from_slice(&rest[12 + headers..total - 4]).expect("JSON"));
            rest = &rest[total..];
        }
        return found;
    }
    let text = answer.text();
    let lines = text.lines();
    let data = lines.filter_map(|line| match line.strip_prefix("data: ") {
        None => line.starts_with('{').then_some(line),
        data => data,
    });
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
        .collect()
}

/// The numbers of a usage in its own dialect: prompt, cache read, cache write, output (reasoning with it), and the total
/// where one is told.
fn arithmetic(name: &str, usage: &Value) -> (u64, Option<u64>) {
    let at = |pointer: &str| {
        usage
            .pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("{name}: {pointer} in {usage}"))
    };
    match name {
        "grok" => (
            at("/prompt_tokens")
                + at("/completion_tokens")
                + at("/completion_tokens_details/reasoning_tokens"),
            Some(at("/total_tokens")),
        ),
        "responses" => (
            at("/input_tokens") + at("/output_tokens"),
            Some(at("/total_tokens")),
        ),
        "messages" => (
            at("/input_tokens")
                + at("/cache_read_input_tokens")
                + at("/cache_creation_input_tokens")
                + at("/output_tokens"),
            None,
        ),
        "gemini" => (
            at("/promptTokenCount") + at("/candidatesTokenCount") + at("/thoughtsTokenCount"),
            Some(at("/totalTokenCount")),
        ),
        "converse" => (
            at("/inputTokens")
                + at("/cacheReadInputTokens")
                + at("/cacheWriteInputTokens")
                + at("/outputTokens"),
            Some(at("/totalTokens")),
        ),
        "cohere" | "cohere v1" => (
            at("/billed_units/input_tokens") + at("/billed_units/output_tokens"),
            None,
        ),
        _ => (
            at("/prompt_tokens") + at("/completion_tokens"),
            Some(at("/total_tokens")),
        ),
    }
}

fn usage_of(name: &str, body: &Value) -> Value {
    let pointer = match name {
        "gemini" => "/usageMetadata",
        "cohere v1" => "/meta",
        "workers-ai" => "/result/usage",
        _ => "/usage",
    };
    body.pointer(pointer).cloned().unwrap_or(Value::Null)
}

/// What a stream has told in the end: later fields win, as clients add them up.
fn usage_in(name: &str, events: &[Value]) -> Value {
    let pointers: &[&str] = match name {
        "responses" => &["/response/usage"],
        "messages" => &["/message/usage", "/usage"],
        "gemini" => &["/usageMetadata"],
        "cohere" => &["/delta/usage"],
        "cohere v1" => &["/response/meta"],
        _ => &["/usage"],
    };
    let mut sum = json!({});
    let told = events.iter().flat_map(|event| {
        pointers
            .iter()
            .filter_map(|pointer| event.pointer(pointer)?.as_object())
    });
    for (key, value) in told.flatten() {
        sum[key] = value.clone();
    }
    sum
}

#[test]
fn usage_adds_up_in_each_dialects_own_arithmetic() {
    let simulator = simulator();
    let mut totals = std::collections::BTreeMap::new();
    for endpoint in &ENDPOINTS {
        let name = endpoint.name;
        let directives = "tokens-7, reasoning-5, cached-3, cache-write-2";
        let answer = whole(&simulator, endpoint, directives);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let (sum, total) = arithmetic(name, &usage_of(name, &answer.json()));
        assert!(
            total.is_none_or(|total| total == sum),
            "{name}: {}",
            answer.text()
        );
        totals.entry(sum).or_insert_with(Vec::new).push(name);
        // A stream of the same question tells the same.
        let answer = streamed(&simulator, endpoint, directives);
        assert!(answer.whole, "{name}");
        let usage = usage_in(name, &events(&answer));
        let (streamed_sum, total) = arithmetic(name, &usage);
        assert!(total.is_none_or(|total| total == sum), "{name}: {usage}");
        assert_eq!(streamed_sum, sum, "{name}: {usage}");
        // And none is told where none is asked for.
        let silent = whole(&simulator, endpoint, "no-usage").json();
        assert!(
            usage_of(name, &silent)["total_tokens"].is_null(),
            "{name}: {silent}"
        );
    }
    // Twelve tokens of output; the prompt's tokens differ by what each dialect wraps it in, never by the arithmetic.
    assert!(
        totals.keys().all(|total| (15..60).contains(total)),
        "{totals:?}"
    );
}

#[test]
fn a_seed_fixes_every_byte() {
    let start = |seed| {
        sim::start(&sim::Options {
            seed,
            ..sim::Options::default()
        })
        .expect("a simulator")
    };
    let (one, same, other) = (start(7), start(7), start(8));
    // What came before does not matter.
    whole(&same, endpoint("messages"), "tokens-3");
    for endpoint in &ENDPOINTS {
        let name = endpoint.name;
        let body = |simulator, directives| {
            (
                whole(simulator, endpoint, directives).body,
                streamed(simulator, endpoint, directives).body,
            )
        };
        let first = body(&one, "tokens-20");
        assert_eq!(first, body(&same, "tokens-20"), "{name}");
        let (whole, streamed) = body(&other, "tokens-20");
        assert_ne!(first.0, whole, "{name}");
        assert_ne!(first.1, streamed, "{name}");
        assert_eq!(
            body(&one, "seed-5"),
            body(&other, "seed-5"),
            "{name}: a seed of its own"
        );
    }
}

#[test]
fn tools_are_called_and_schemas_kept_in_each_dialect() {
    let simulator = simulator();
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"], "additionalProperties": false});
    let function = json!({"name": "weather", "description": "d", "parameters": schema});
    let cases = [
        (
            "chat",
            json!([{"type": "function", "function": function}]),
            "/choices/0/message/tool_calls/0/function/arguments",
            ("/choices/0/finish_reason", "tool_calls"),
        ),
        (
            "responses",
            json!([{"type": "function", "name": "weather", "parameters": schema}]),
            "/output/0/arguments",
            ("/output/0/type", "function_call"),
        ),
        (
            "messages",
            json!([{"name": "weather", "input_schema": schema}]),
            "/content/0/input",
            ("/stop_reason", "tool_use"),
        ),
        (
            "gemini",
            json!([{"functionDeclarations": [function]}]),
            "/candidates/0/content/parts/0/functionCall/args",
            ("/candidates/0/content/parts/0/functionCall/name", "weather"),
        ),
        (
            "converse",
            json!({"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": schema}}}]}),
            "/output/message/content/0/toolUse/input",
            ("/stopReason", "tool_use"),
        ),
        (
            "cohere",
            json!([{"type": "function", "function": function}]),
            "/message/tool_calls/0/function/arguments",
            ("/finish_reason", "TOOL_CALL"),
        ),
    ];
    for (name, tools, arguments, (pointer, expected)) in cases {
        let endpoint = endpoint(name);
        let mut body = (endpoint.body)(PROMPT);
        let key = if name == "converse" {
            "toolConfig"
        } else {
            "tools"
        };
        body[key] = tools;
        let answer = send(&simulator, endpoint.path, "tool", &body).json();
        assert_eq!(
            answer.pointer(pointer),
            Some(&json!(expected)),
            "{name}: {answer}"
        );
        let called = answer.pointer(arguments).expect("arguments");
        // Some dialects carry them as text.
        let called: Value = match called.as_str() {
            Some(text) => serde_json::from_str(text).expect("JSON"),
            None => called.clone(),
        };
        assert!(
            called["city"].is_string() && called["days"].is_i64(),
            "{name}: {called}"
        );
        // Without being told, prose is answered; the tool's name in the question calls it.
        let plain = send(&simulator, endpoint.path, "", &body).json();
        assert_ne!(
            plain.pointer(pointer),
            Some(&json!(expected)),
            "{name}: {plain}"
        );
    }
    let cases = [
        (
            "chat",
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}),
            "/choices/0/message/content",
        ),
        (
            "responses",
            "text",
            json!({"format": {"type": "json_schema", "name": "n", "schema": schema}}),
            "/output/0/content/0/text",
        ),
        (
            "gemini",
            "generationConfig",
            json!({"responseMimeType": "application/json", "responseJsonSchema": schema}),
            "/candidates/0/content/parts/0/text",
        ),
        (
            "cohere",
            "response_format",
            json!({"type": "json_object", "schema": schema}),
            "/message/content/0/text",
        ),
        (
            "messages",
            "output_config",
            json!({"format": {"type": "json_schema", "schema": schema}}),
            "/content/0/text",
        ),
    ];
    for (name, key, format, text) in cases {
        let endpoint = endpoint(name);
        let mut body = (endpoint.body)(PROMPT);
        body[key] = format;
        let answer = send(&simulator, endpoint.path, "", &body).json();
        let text = answer.pointer(text).and_then(Value::as_str);
        let value: Value = serde_json::from_str(text.unwrap_or_else(|| panic!("{name}: {answer}")))
            .unwrap_or_else(|error| panic!("{name}: {error}: {answer}"));
        assert!(
            value["city"].is_string() && value["days"].is_i64(),
            "{name}: {value}"
        );
    }
}

#[test]
fn statuses_come_in_each_providers_envelope() {
    let simulator = simulator();
    let cases = [
        ("chat", "/error/type"),
        ("responses", "/error/type"),
        ("messages", "/error/type"),
        ("gemini", "/error/status"),
        ("converse", "/message"),
        ("cohere", "/message"),
        ("mistral", "/message"),
        ("workers-ai", "/errors/0/code"),
        ("grok", "/error"),
    ];
    for (name, pointer) in cases {
        for status in [400, 401, 403, 404, 429, 500, 503, 529] {
            let answer = whole(&simulator, endpoint(name), &format!("status-{status}"));
            assert_eq!(answer.status, status, "{name}");
            assert!(
                answer.json().pointer(pointer).is_some(),
                "{name}: {}",
                answer.text()
            );
        }
        let limited = whole(&simulator, endpoint(name), "retry-after-7");
        assert_eq!(
            (limited.status, limited.header("retry-after")),
            (429, Some("7")),
            "{name}"
        );
    }
    // By the model's name as well, wherever the dialect puts it.
    let by_name = [
        ("/v1/chat/completions", "m+sim-status-418"),
        ("/v1beta/models/sim-status-418:generateContent", ""),
        ("/model/us.sim-status-418-v1%3A0/converse", ""),
        ("/openai/deployments/sim-status-418/chat/completions", ""),
    ];
    for (path, model) in by_name {
        let body = json!({"model": model, "messages": [], "contents": []});
        assert_eq!(send(&simulator, path, "", &body).status, 418, "{path}");
    }
    assert_eq!(whole(&simulator, endpoint("chat"), "explode").status, 400);
}

#[test]
fn answers_break_as_they_are_asked_to() {
    let simulator = simulator();
    let open = |directives: &str, stream: bool| {
        let mut body = messages(PROMPT);
        body["stream"] = json!(stream);
        let mut client = Client::connect(simulator.addr());
        client.write(request("/v1/chat/completions", directives, &body).as_bytes());
        client
    };
    for name in ["chat", "messages", "gemini", "converse", "responses"] {
        let endpoint = endpoint(name);
        let plain = streamed(&simulator, endpoint, "tokens-9");
        for directives in ["tokens-9, close-after-2", "tokens-9, reset-after-2"] {
            let broken = streamed(&simulator, endpoint, directives);
            assert!(!broken.whole, "{name} {directives}");
            assert!(broken.body.len() < plain.body.len(), "{name} {directives}");
        }
        let torn = streamed(&simulator, endpoint, "tokens-9, truncated-chunk");
        assert!(!torn.whole, "{name}");
        let failed = streamed(&simulator, endpoint, "tokens-9, error-in-stream");
        let text = failed.text().to_lowercase();
        assert!(
            failed.whole && failed.body.len() < plain.body.len(),
            "{name}"
        );
        assert!(
            text.contains("error") || text.contains("exception"),
            "{name}: {text}"
        );
        if name != "converse" {
            let wrong = streamed(&simulator, endpoint, "tokens-9, malformed").text();
            let data = wrong.lines().filter_map(|line| line.strip_prefix("data: "));
            let broken = data
                .filter(|data| *data != "[DONE]" && serde_json::from_str::<Value>(data).is_err());
            assert_eq!(broken.count(), 1, "{name}");
        }
    }
    // A whole body that breaks off, and one that does not parse.
    assert!(!whole(&simulator, endpoint("chat"), "close-after-1").whole);
    let malformed = whole(&simulator, endpoint("chat"), "malformed");
    assert!(malformed.whole && serde_json::from_slice::<Value>(&malformed.body).is_err());
    // Silence: at once, after the head, after an event. The simulator says how far it came.
    for (directives, seen) in [
        ("hang", ""),
        ("hang-body", "\r\n\r\n"),
        ("hang-after-1", "\n\n"),
    ] {
        let mut client = open(directives, true);
        if !seen.is_empty() {
            client.read_until(seen);
        }
        client
            .stream
            .set_read_timeout(Some(Duration::from_millis(30)))
            .expect("a timeout");
        let silence = client.stream.read(&mut [0; 64]);
        let kind = silence.expect_err("nothing comes").kind();
        assert!(
            matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{directives}: {kind}"
        );
        drop(client);
        eventually("the answer noted as aborted", || {
            let last = received(&simulator).last().cloned();
            last.filter(|entry| entry["aborted"] == true)
        });
    }
}

#[test]
fn answers_have_the_size_the_pace_and_the_form_that_are_asked_for() {
    let simulator = simulator();
    let chat = endpoint("chat");
    let huge = whole(&simulator, chat, "huge-3m").json();
    let text = huge.pointer("/choices/0/message/content");
    assert!(text.and_then(Value::as_str).expect("text").len() >= 3 << 20);
    let huge = streamed(&simulator, chat, "huge-300k");
    assert!(huge.whole && huge.body.len() > 300 << 10);
    let dripping = whole(&simulator, endpoint("workers-ai"), "drip, tokens-1");
    assert!(dripping.whole && dripping.json()["success"] == true);
    let zipped = streamed(&simulator, chat, "gzip");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..])
        .read_to_string(&mut plain)
        .expect("gzip");
    assert!(plain.ends_with("data: [DONE]\n\n"));
    let closing = whole(&simulator, chat, "close");
    assert_eq!(closing.header("connection"), Some("close"));
    let refused = whole(&simulator, chat, "filter").json();
    assert_eq!(refused["choices"][0]["finish_reason"], "content_filter");
    let counted = whole(&simulator, chat, "tokens-123").json();
    assert_eq!(counted["usage"]["completion_tokens"], 123);
    // The head of an early-head answer is there while the first token is not due for an hour.
    let mut client = Client::connect(simulator.addr());
    let mut body = messages(PROMPT);
    body["stream"] = json!(true);
    client.write(request(chat.path, "early-head, ttft-3600000", &body).as_bytes());
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 200"));
    // Interim answers come first.
    let mut client = Client::connect(simulator.addr());
    client.write(request(chat.path, "100-continue", &body).as_bytes());
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    assert!(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 103"));
    assert_eq!(client.answer().status, 200);
    // A body that is announced and never sent is not waited for.
    let mut client = Client::connect(simulator.addr());
    client.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nx-sim: no-read, status-500\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.answer().status, 500);
}

#[test]
fn a_share_of_all_requests_fails_and_a_seed_says_which() {
    let failing = |seed| {
        let simulator = sim::start(&sim::Options {
            seed,
            fault_rate: 0.25,
            fault: "status-503, retry-after-1".to_owned(),
            ..sim::Options::default()
        })
        .expect("a simulator");
        let mut client = Client::connect(simulator.addr());
        (0..400)
            .map(|_| {
                client.write(request("/v1/chat/completions", "", &messages("hi")).as_bytes());
                client.answer().status
            })
            .collect::<Vec<_>>()
    };
    let first = failing(1);
    let count = first.iter().filter(|status| **status == 503).count();
    assert!((60..=140).contains(&count), "{count} of 400");
    assert_eq!(first, failing(1));
    assert_ne!(first, failing(2));
}

#[test]
fn keys_are_demanded_where_one_is_set() {
    let simulator = sim::start(&sim::Options {
        api_key: Some("sk-sim".to_owned()),
        ..sim::Options::default()
    })
    .expect("a simulator");
    let status = |path: &str, header: &str| {
        let mut client = Client::connect(simulator.addr());
        client.write(format!("GET {path} HTTP/1.1\r\nHost: s\r\n{header}\r\n").as_bytes());
        client.answer().status
    };
    assert_eq!(status("/v1/models", ""), 401);
    assert_eq!(status("/v1/models", "Authorization: Bearer other\r\n"), 401);
    for header in [
        "Authorization: Bearer sk-sim\r\n",
        "x-api-key: sk-sim\r\n",
        "x-goog-api-key: sk-sim\r\n",
        "api-key: sk-sim\r\n",
        "xi-api-key: sk-sim\r\n",
    ] {
        assert_eq!(status("/v1/models", header), 200, "{header}");
    }
    assert_eq!(status("/v1beta/models?key=sk-sim", ""), 200);
}
