//! The other endpoints, the other paths, and what surrounds a translated answer.

use std::io::Read;

use serde_json::{Value, json};

use super::dialects::Client;
use super::pairs::everything;
use crate::harness::{
    Client as Connection, DRIVERS, Gateway, Setup, eventually, new_gateway, post, received,
    sent_header, simulator,
};

const TOKEN: &str = "a-bootstrap-token-of-forty-characters-00";

/// A gateway that demands its token, with keys of its own.
fn closed(simulator: &ringgate::sim::Running) -> Gateway {
    Setup::over(simulator)
        .with("[gateways.default]\nauthentication = true")
        .with("[gateways.other]\nauthentication = true")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start()
}

pub(super) fn rest(path: &str, headers: &str, body: &str) -> String {
    post("X", headers, body).replace(
        "/v1/acc/default/X",
        &format!("/client/v4/accounts/acc/ai/{path}"),
    )
}

#[test]
fn the_inference_family_answers_on_both_listeners() {
    let simulator = simulator();
    let gateway = closed(&simulator);
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let key = format!("x-api-key: {TOKEN}\r\n");
    let chat = Client::Chat.body("openai/gpt-4o+sim-tokens-3", false, false);
    let messages = Client::Messages.body("anthropic/claude+sim-tokens-3", true, false);
    for address in [gateway.address, gateway.management] {
        let send = |request: &str| {
            let mut client = Connection::connect(address);
            client.write(request.as_bytes());
            client.answer()
        };
        let answer = send(&rest("v1/chat/completions", &authorized, &chat));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(Client::Chat.read(&answer, false).stop, "stop");
        assert_eq!(answer.header("cf-aig-provider"), Some("openai"));
        // As Anthropic's SDK builds it from the documented base URL, its key where it puts keys.
        let answer = send(&rest("v1/v1/messages", &key, &messages));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(Client::Messages.read(&answer, true).stop, "end_turn");
        let named = format!("{authorized}cf-aig-gateway-id: other\r\n");
        let answer = send(&rest("v1/chat/completions", &named, &chat));
        assert_eq!(answer.status, 200);
        let id = answer
            .header("cf-aig-request-id")
            .expect("an id")
            .to_owned();
        let record: Value =
            serde_json::from_str(&gateway.access.wait_for(&id)).expect("a JSON line");
        assert_eq!(
            (&record["gateway"], &record["client"]),
            (&json!("other"), &json!("127.0.0.1"))
        );
        let answer = send(&rest("v1/chat/completions", "", &chat));
        assert_eq!((answer.status, answer.code()), (401, 2009));
        let named = format!("{authorized}cf-aig-gateway-id: nowhere\r\n");
        let answer = send(&rest("v1/chat/completions", &named, &chat));
        assert_eq!((answer.status, answer.code()), (400, 2001));
        let answer = send(&rest("v1/audio/speech", &authorized, &chat));
        assert_eq!(answer.status, 404);
    }
    for request in received(&simulator) {
        assert!(!request.to_string().contains(TOKEN), "{request}");
    }
}

#[test]
fn a_client_of_the_management_listener_that_leaves_stops_the_provider() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let body = Client::Chat.body("openai/sim-tps-20+tokens-4000", true, false);
    let mut client = Connection::connect(gateway.management);
    client.write(rest("v1/chat/completions", "", &body).as_bytes());
    client.read_until("\n\n");
    drop(client);
    eventually("an aborted answer", || {
        (simulator.stats()["aborted"].as_u64() > Some(0)).then_some(())
    });
}

#[test]
fn models_can_be_listed() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .env("TEST_KEY", "sk-house")
        .with("[providers.mistral]\napi_key = \"env:TEST_KEY\"")
        .start();
    let made = gateway.call(
        TOKEN,
        "POST",
        "/accounts/acc/ai-gateway/gateways",
        &new_gateway("g", true),
    );
    assert_eq!(made.status, 200, "{}", made.text());
    let list = |headers: &str| {
        let request =
            format!("GET /v1/acc/g/compat/v1/models HTTP/1.1\r\nHost: g\r\n{headers}\r\n");
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ids = answer.json()["data"].as_array().expect("a list").clone();
        let ids: Vec<String> = ids
            .iter()
            .map(|model| model["id"].as_str().expect("an id").to_owned())
            .collect();
        assert!(ids.is_sorted());
        ids
    };
    let house = list(&format!("cf-aig-authorization: Bearer {TOKEN}\r\n"));
    assert!(
        house.iter().any(|id| id == "mistral/mistral-large-latest"),
        "{house:?}"
    );
    assert!(
        !house.iter().any(|id| id.starts_with("openai/")),
        "{house:?}"
    );
    // From the price table, and what is priced by hand; pictures and sound are no conversation.
    let has = |list: &[String], id: &str| list.iter().any(|found| found == id);
    assert!(has(&house, "mistral/codestral-2508") && !has(&house, "mistral/aa-mine"));
    let price = json!({
        "account_provider_id": "mistral", "model": "aa-mine", "model_rule": "equals",
        "cost_in": 0.000001, "cost_out": 0.000002,
    });
    let priced = gateway.call(
        TOKEN,
        "POST",
        "/accounts/acc/ai-gateway/custom-providers/costs",
        &price.to_string(),
    );
    assert_eq!(priced.status, 200, "{}", priced.text());
    let house = list(&format!("cf-aig-authorization: Bearer {TOKEN}\r\n"));
    assert!(has(&house, "mistral/aa-mine"), "{house:?}");
    let own = list(&format!(
        "cf-aig-authorization: Bearer {TOKEN}\r\nAuthorization: Bearer sk-mine\r\n"
    ));
    assert!(
        has(&own, "openai/gpt-5") && has(&own, "openai/gpt-4o-2024-08-06"),
        "{own:?}"
    );
    assert!(!has(&own, "openai/whisper-1"));
    assert!(!own.iter().any(|id| id.starts_with("fal/")), "{own:?}");
    assert!(received(&simulator).is_empty());
}

#[test]
fn embeddings_are_made_by_every_provider_that_has_them() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    for model in [
        "openai/text-embedding-3-small",
        "mistral/mistral-embed",
        "cohere/embed-v4.0",
        "google-ai-studio/gemini-embedding-001",
        "google-vertex-ai/google/text-embedding-005",
        "aws-bedrock/amazon.titan-embed-text-v2:0",
        "workers-ai/@cf/baai/bge-m3",
        "azure-openai/res/embed",
        "custom-sim/any",
    ] {
        let body =
            json!({"model": model, "input": ["one", "two", "three"], "encoding_format": "base64"});
        for path in ["compat/embeddings", "compat/v1/embeddings"] {
            let answer = gateway.send(&post(path, "", &body.to_string()));
            assert_eq!(answer.status, 200, "{model}: {}", answer.text());
            let said = answer.json();
            assert_eq!(said["object"], "list", "{model}");
            assert_eq!(
                said["data"].as_array().map(Vec::len),
                Some(3),
                "{model}: {said}"
            );
            assert!(said["data"][2]["embedding"].is_string(), "{model}: {said}");
        }
    }
    let titans = received(&simulator);
    let titans = titans
        .iter()
        .filter(|request| request.to_string().contains("titan"));
    assert_eq!(titans.count(), 6, "one call for each text");
    let refused = gateway.send(&post(
        "compat/embeddings",
        "",
        &json!({"model": "anthropic/claude", "input": "x"}).to_string(),
    ));
    assert_eq!(refused.status, 404);
    assert_eq!(refused.json()["error"]["code"], "unsupported_endpoint");
    let failed = json!({"model": "cohere/embed+sim-status-429+retry-after-3", "input": "x"});
    let failed = gateway.send(&post("compat/embeddings", "", &failed.to_string()));
    assert_eq!(
        (failed.status, failed.header("retry-after")),
        (429, Some("3"))
    );
    Client::Chat.error(&failed.json());
}

#[test]
fn a_plain_token_of_google_pays_where_the_project_is_told() {
    let simulator = simulator();
    let vertex = format!(
        "[providers.google-vertex-ai]\nbase_url = \"http://{}\"",
        simulator.addr()
    );
    let configured = Setup::over(&simulator)
        .with(&format!(
            "{vertex}\nproject = \"p-1\"\nregion = \"europe-west1\""
        ))
        .start();
    let plain = Setup::over(&simulator).with(&vertex).start();
    let full = "projects/p-2/locations/us-east4/endpoints/123";
    for (gateway, model, path) in [
        (
            &configured,
            "google/gemini-2.5-flash",
            "/v1/projects/p-1/locations/europe-west1/publishers/google/models/gemini-2.5-flash:generateContent",
        ),
        (
            &configured,
            "endpoints/123",
            "/v1/projects/p-1/locations/europe-west1/endpoints/123:generateContent",
        ),
        (&plain, full, &format!("/v1/{full}:generateContent")),
    ] {
        let body = Client::Chat.body(&format!("google-vertex-ai/{model}"), false, false);
        let headers = "Authorization: Bearer ya29.token\r\n";
        let answer = gateway.send(&post("compat/chat/completions", headers, &body));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(Client::Chat.read(&answer, false).stop, "stop");
        let request = received(&simulator).pop().expect("a request");
        assert_eq!(request["path"], path);
        assert_eq!(
            sent_header(&request, "authorization"),
            Some("Bearer ya29.token")
        );
    }
    let body = Client::Chat.body("google-vertex-ai/google/gemini-2.5-flash", false, false);
    let headers = "Authorization: Bearer ya29.token\r\n";
    let untold = plain.send(&post("compat/chat/completions", headers, &body));
    assert_eq!(untold.status, 400);
    assert!(
        untold.text().contains("google-vertex-ai.project"),
        "{}",
        untold.text()
    );
}

#[test]
fn models_are_run_in_their_envelope() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let run = |body: Value| gateway.send(&rest("run", "", &body.to_string()));
    let messages = json!([{"role": "user", "content": "hi"}]);
    let answer = run(json!({"model": "openai/gpt-4o", "input": {"messages": messages}}));
    assert_eq!(
        answer.json()["object"],
        "chat.completion",
        "{}",
        answer.text()
    );
    assert_eq!(answer.json()["gatewayMetadata"]["keySource"], "BYOK");
    let input = json!({"messages": messages, "max_tokens": 9});
    let answer = run(json!({"model": "anthropic/claude", "input": input}));
    assert_eq!(answer.json()["type"], "message", "{}", answer.text());
    let answer = run(json!({"model": "@cf/meta/llama", "input": {"prompt": "hi"}}));
    assert_eq!(answer.json()["success"], true, "{}", answer.text());
    let answer = gateway.send(&rest("run/@cf/meta/llama", "", r#"{"prompt":"hi"}"#));
    assert_eq!(answer.json()["success"], true, "{}", answer.text());
    let streamed = json!({"messages": messages, "stream": true});
    let answer = run(json!({"model": "openai/gpt-4o", "input": streamed}));
    assert!(answer.text().contains("[DONE]"), "{}", answer.text());
    for (body, status) in [
        (json!({"model": "openai/gpt-4o"}), 400),
        (
            json!({"model": "openai/gpt-4o", "input": {"voice": "x"}}),
            400,
        ),
    ] {
        assert_eq!(run(body).status, status);
    }
}

#[test]
fn tokens_are_counted_where_the_provider_counts_them() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let body = Client::Messages.body("anthropic/claude-sonnet-4-5", false, false);
    let answer = gateway.send(&post(
        "compat/v1/messages/count_tokens",
        "x-api-key: k\r\n",
        &body,
    ));
    assert!(
        answer.json()["input_tokens"].as_u64() > Some(0),
        "{}",
        answer.text()
    );
    let request = received(&simulator).pop().expect("a request");
    assert_eq!(request["path"], "/v1/messages/count_tokens");
    assert_eq!(sent_header(&request, "x-api-key"), Some("k"));
    let body = Client::Messages.body("openai/gpt-4o", false, false);
    let answer = gateway.send(&post("compat/messages/count_tokens", "", &body));
    assert_eq!(answer.status, 404);
    assert!(
        Client::Messages
            .error(&answer.json())
            .contains("openai/gpt-4o")
    );
}

#[test]
fn keys_move_to_where_the_provider_looks_and_no_other_header_carries_one() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let chat = |model: &str| Client::Chat.body(model, false, false);
    for (model, sent, slot, value) in [
        (
            "anthropic/claude",
            "Authorization: Bearer k1\r\n",
            "x-api-key",
            "k1",
        ),
        ("anthropic/claude", "x-api-key: k2\r\n", "x-api-key", "k2"),
        (
            "google-ai-studio/gemini-2.5-flash",
            "Authorization: Bearer k3\r\n",
            "x-goog-api-key",
            "k3",
        ),
        (
            "azure-openai/res/gpt-4o",
            "Authorization: Bearer k4\r\n",
            "api-key",
            "k4",
        ),
        (
            "openai/gpt-4o",
            "x-api-key: k5\r\n",
            "authorization",
            "Bearer k5",
        ),
    ] {
        let headers = format!("{sent}cookie: a=b\r\nuser-agent: test/1\r\nanthropic-beta: x-1\r\n");
        let answer = gateway.send(&post("compat/chat/completions", &headers, &chat(model)));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let request = received(&simulator).pop().expect("a request");
        assert_eq!(sent_header(&request, slot), Some(value), "{request}");
        assert_eq!(sent_header(&request, "user-agent"), Some("test/1"));
        assert_eq!(sent_header(&request, "cookie"), None);
        assert_eq!(sent_header(&request, "accept-encoding"), Some("identity"));
        let carrying = request["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .filter(|pair| {
                pair[1]
                    .as_str()
                    .is_some_and(|text| text.contains(value.trim_start_matches("Bearer ")))
            });
        assert_eq!(carrying.count(), 1, "{request}");
        let betas = sent_header(&request, "anthropic-beta");
        assert_eq!(betas, model.starts_with("anthropic").then_some("x-1"));
    }
}

#[test]
fn what_cannot_be_said_is_refused_in_the_clients_dialect_with_its_place() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for (client, body, param) in [
        (
            Client::Chat,
            json!({"model": "anthropic/claude", "n": 2, "messages": [{"role": "user", "content": "hi"}]}),
            Some("n"),
        ),
        (
            Client::Chat,
            json!({"model": "anthropic/claude", "messages": [{"role": "user", "content": [{"type": "odd"}]}]}),
            Some("messages[0].content[0].type"),
        ),
        (
            Client::Chat,
            json!({"model": "openai/gpt-4o", "stream": "yes", "messages": []}),
            Some("stream"),
        ),
        (
            Client::Responses,
            json!({"model": "anthropic/claude", "input": "hi", "previous_response_id": "resp_1"}),
            Some("previous_response_id"),
        ),
        (
            Client::Messages,
            json!({"model": "openai/gpt-4o", "messages": "hi", "max_tokens": 5}),
            None,
        ),
        (
            Client::Chat,
            json!({"model": "elevenlabs/voice", "messages": [{"role": "user", "content": "hi"}]}),
            Some("model"),
        ),
        (
            Client::Chat,
            json!({"model": "google-ai-studio/gemini-2.5-flash", "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}]}]}),
            Some("messages[0].content[0]"),
        ),
    ] {
        let answer = gateway.send(&post(client.path(), "", &body.to_string()));
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let told = answer.json();
        client.error(&told);
        if let Some(param) = param {
            let named = told["error"]["param"].as_str().unwrap_or_default();
            assert!(named.starts_with(param), "{body}: {told}");
        }
    }
    assert!(received(&simulator).is_empty());
}

#[test]
fn a_client_that_leaves_a_translated_answer_stops_the_provider() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for (model, stream, event) in [
            ("anthropic/sim-hang-after-4", true, true),
            ("anthropic/sim-tps-20+tokens-4000", true, true),
            ("anthropic/sim-hang", true, false),
            ("anthropic/sim-hang-body", false, false),
        ] {
            let before = simulator.stats()["aborted"].as_u64().expect("a number");
            let mut client = gateway.connect();
            client.write(
                post(
                    Client::Chat.path(),
                    "",
                    &Client::Chat.body(model, stream, false),
                )
                .as_bytes(),
            );
            match event {
                true => drop(client.read_until("\n\n")),
                false => eventually("the request", || {
                    let all = received(&simulator);
                    all.iter()
                        .any(|request| request["answered"] == false)
                        .then_some(())
                }),
            }
            drop(client);
            eventually(&format!("an aborted answer of {model} on {driver}"), || {
                (simulator.stats()["aborted"].as_u64() > Some(before)).then_some(())
            });
        }
        eventually("an idle gateway", || {
            (gateway.metric("requests_running") == 0).then_some(())
        });
    }
}

#[test]
fn events_cut_anywhere_and_answers_in_a_coding_are_translated_alike() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    let check = &|model: &str| {
        let said = |directives: &str, stream| {
            let asked = format!("{model}+sim-seed-5+tokens-1{directives}");
            let body = Client::Chat.body(&asked, stream, false);
            let answer = gateway.send(&post(Client::Chat.path(), "", &body));
            assert_eq!(answer.status, 200, "{}", answer.text());
            Client::Chat.read(&answer, stream).text
        };
        // One byte each ten milliseconds.
        assert_eq!(said("+drip", true), said("", true), "{model}");
        // Against what was asked for.
        assert_eq!(said("+gzip", false), said("", false), "{model}");
    };
    std::thread::scope(|scope| {
        for model in [
            "anthropic/claude",
            "google-ai-studio/gemini-2.5-flash",
            "aws-bedrock/us.amazon.nova-lite-v1:0",
            "cohere/command-a",
        ] {
            scope.spawn(move || check(model));
        }
    });
}

#[test]
fn large_bodies_are_translated_beside_the_data_threads() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let text = "word ".repeat(200_000);
    let body = json!({"model": "anthropic/sim-huge-600k", "max_tokens": 9, "messages": [{"role": "user", "content": text}]});
    let answer = gateway.send(&post(Client::Chat.path(), "", &body.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = Client::Chat.read(&answer, false);
    assert!(said.text.len() >= 600_000, "{}", said.text.len());
}

#[test]
fn a_translated_stream_reaches_a_client_that_knows_no_chunks() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let body = Client::Chat.body("anthropic/sim-tokens-5", true, false);
    let mut client = gateway.connect();
    client.write(
        post(Client::Chat.path(), "", &body)
            .replace("HTTP/1.1", "HTTP/1.0")
            .as_bytes(),
    );
    let mut received = Vec::new();
    client
        .stream
        .read_to_end(&mut received)
        .expect("a clean end");
    let text = String::from_utf8(received).expect("text");
    let (head, events) = text.split_once("\r\n\r\n").expect("a head");
    assert!(
        !head.contains("transfer-encoding") && head.contains("connection: close"),
        "{head}"
    );
    assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
}

#[test]
fn a_custom_domain_serves_all_providers_too() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let path = "/accounts/acc/ai-gateway/gateways/g/custom-domains";
    let made = gateway.call(
        TOKEN,
        "POST",
        "/accounts/acc/ai-gateway/gateways",
        &new_gateway("g", false),
    );
    assert_eq!(made.status, 200, "{}", made.text());
    let made = gateway.call(TOKEN, "POST", path, r#"{"domain":"ai.example"}"#);
    assert!(made.status < 300, "{}", made.text());
    let body = Client::Chat.body("anthropic/claude", false, false);
    let request = post(Client::Chat.path(), "", &body)
        .replace("/v1/acc/default/compat", "/compat")
        .replace("Host: g", "Host: ai.example");
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
