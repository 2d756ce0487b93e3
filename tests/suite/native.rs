//! Provider-native endpoints: paths, headers, keys, errors.

use std::io::{Read, Write};

use ringgate::providers::Slug;
use serde_json::Value;

use crate::harness::{Setup, chat, eventually, post, received, sent_header, simulator};

#[test]
fn every_method_and_every_byte_of_the_target_goes_up() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let target = "/v1/acc/default/custom-sim/echo/a%2Fb%3Ac//d;e=f?x=%20&y=a+b&x=2";
        let request = format!("{method} {target} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n");
        let echo = gateway.send(&request).json();
        assert_eq!(echo["method"], method);
        assert_eq!(echo["path"], "/echo/a%2Fb%3Ac//d;e=f");
        assert_eq!(echo["query"], "x=%20&y=a+b&x=2");
    }
}

#[test]
fn each_provider_is_reached_at_its_own_path() {
    let simulator = simulator();
    let gateway = Setup::every(&format!("http://{}", simulator.addr()), "").start();
    let vertex = "v1/projects/p/locations/europe-west1/publishers/google/models/g:generateContent";
    let cases = [
        ("openai/chat/completions", "/v1/chat/completions"),
        ("openai/v1/chat/completions", "/v1/chat/completions"),
        ("anthropic/v1/messages", "/v1/messages"),
        ("anthropic/messages", "/v1/messages"),
        (
            "google-ai-studio/v1/models/gemini-2.5:generateContent",
            "/v1/models/gemini-2.5:generateContent",
        ),
        (
            "google/models/gemini-2.5:generateContent",
            "/v1beta/models/gemini-2.5:generateContent",
        ),
        (&format!("google-vertex-ai/{vertex}"), &format!("/{vertex}")),
        (&format!("google-vertex/{vertex}"), &format!("/{vertex}")),
        (
            "azure-openai/res/gpt-4o/chat/completions?api-version=2024-10-21",
            "/openai/deployments/gpt-4o/chat/completions",
        ),
        (
            "azure/res/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
            "/openai/deployments/gpt-4o/chat/completions",
        ),
        (
            "azure-openai/res/openai/v1/responses",
            "/openai/v1/responses",
        ),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/us.anthropic.claude-v1%3A0/converse",
            "/model/us.anthropic.claude-v1%3A0/converse",
        ),
        (
            "bedrock/bedrock-mantle/us-east-1/anthropic/v1/messages",
            "/anthropic/v1/messages",
        ),
        (
            "workers-ai/@cf/meta/llama-3",
            "/client/v4/accounts/acc/ai/run/@cf/meta/llama-3",
        ),
        (
            "workers-ai/run/@cf/meta/llama-3",
            "/client/v4/accounts/acc/ai/run/@cf/meta/llama-3",
        ),
        (
            "workers-ai/v1/chat/completions",
            "/client/v4/accounts/acc/ai/v1/chat/completions",
        ),
        ("groq/chat/completions", "/openai/v1/chat/completions"),
        (
            "groq/openai/v1/chat/completions",
            "/openai/v1/chat/completions",
        ),
        ("grok/v1/chat/completions", "/v1/chat/completions"),
        ("xai/chat/completions", "/v1/chat/completions"),
        ("mistral/v1/chat/completions", "/v1/chat/completions"),
        ("cohere/v1/chat", "/v1/chat"),
        ("cohere/v2/chat", "/v2/chat"),
        (
            "cohere/compatibility/v1/embeddings",
            "/compatibility/v1/embeddings",
        ),
        ("perplexity-ai/chat/completions", "/chat/completions"),
        ("perplexity/v1/chat/completions", "/chat/completions"),
        ("deepseek/chat/completions", "/chat/completions"),
        ("cerebras/chat/completions", "/v1/chat/completions"),
        ("openrouter/chat/completions", "/api/v1/chat/completions"),
        ("openrouter/v1/chat/completions", "/api/v1/chat/completions"),
        ("replicate/predictions", "/v1/predictions"),
        (
            "huggingface/bigcode/starcoder",
            "/hf-inference/models/bigcode/starcoder",
        ),
        ("cartesia/tts/bytes", "/tts/bytes"),
        (
            "elevenlabs/v1/text-to-speech/v?output_format=mp3",
            "/v1/text-to-speech/v",
        ),
        ("deepgram/v1/listen?model=nova", "/v1/listen"),
        ("fal/fal-ai/fast-sdxl", "/fal-ai/fast-sdxl"),
        (
            "ideogram/v1/ideogram-v3/generate",
            "/v1/ideogram-v3/generate",
        ),
        ("baseten/v1/chat/completions", "/v1/chat/completions"),
        ("baseten/model/ab12", "/environments/production/predict"),
        ("parallel/v1/tasks/runs", "/v1/tasks/runs"),
        (
            "fireworks/chat/completions",
            "/inference/v1/chat/completions",
        ),
        ("adobe-firefly/v3/images/generate", "/v3/images/generate"),
        (
            "alibaba/chat/completions",
            "/compatible-mode/v1/chat/completions",
        ),
        ("minimax/v1/chat/completions", "/v1/chat/completions"),
        ("custom-sim/v1/models", "/v1/models"),
    ];
    for (path, upstream) in cases {
        gateway.send(&post(path, "", r#"{"messages":[]}"#));
        let requests = received(&simulator);
        assert_eq!(
            requests.last().expect("a request")["path"],
            upstream,
            "{path}"
        );
    }
    let reached: std::collections::BTreeSet<&str> = cases
        .iter()
        .filter_map(|(path, _)| path.split('/').next())
        .collect();
    for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::Custom) {
        for name in slug.names() {
            assert!(reached.contains(name), "{name} has no case");
        }
    }
    let record = gateway.access.record("/v1/acc/default/bedrock/");
    assert_eq!(record["provider"], "aws-bedrock");
    let record = gateway.access.record("/v1/acc/default/aws-bedrock/");
    assert_eq!(record["model"], "us.anthropic.claude-v1:0");
}

#[test]
fn a_house_key_goes_where_its_provider_looks() {
    let simulator = simulator();
    let gateway = Setup::every(
        &format!("http://{}", simulator.addr()),
        "api_key = \"env:TEST_HOUSE_KEY\"",
    )
    .with("[data]\nhouse_keys_unauthenticated = true")
    .env("TEST_HOUSE_KEY", "house-1")
    .start();
    let bearer = ("authorization", "Bearer house-1");
    let cases = [
        ("openai/v1/models", bearer),
        ("anthropic/v1/messages", ("x-api-key", "house-1")),
        (
            "google-ai-studio/v1beta/models",
            ("x-goog-api-key", "house-1"),
        ),
        ("google-ai-studio/v1beta/openai/models", bearer),
        ("google-vertex-ai/v1/projects/p/locations/global/x", bearer),
        ("azure-openai/r/d/x", ("api-key", "house-1")),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/m/converse",
            bearer,
        ),
        (
            "aws-bedrock/bedrock-mantle/us-east-1/anthropic/v1/messages",
            ("x-api-key", "house-1"),
        ),
        ("workers-ai/@cf/m", bearer),
        ("groq/models", bearer),
        ("grok/models", bearer),
        ("mistral/v1/models", bearer),
        ("cohere/v1/models", bearer),
        ("perplexity-ai/chat/completions", bearer),
        ("deepseek/models", bearer),
        ("cerebras/models", bearer),
        ("openrouter/models", bearer),
        ("replicate/predictions", bearer),
        ("huggingface/o/m", bearer),
        ("cartesia/tts/bytes", ("x-api-key", "house-1")),
        ("elevenlabs/v1/voices", ("xi-api-key", "house-1")),
        ("deepgram/v1/listen", ("authorization", "Token house-1")),
        ("fal/x", ("authorization", "Key house-1")),
        ("ideogram/generate", ("api-key", "house-1")),
        ("baseten/v1/models", bearer),
        ("baseten/model/m", ("authorization", "Api-Key house-1")),
        ("parallel/v1/tasks/runs", ("x-api-key", "house-1")),
        ("fireworks/models", bearer),
        ("adobe-firefly/v3/x", bearer),
        ("alibaba/models", bearer),
        ("minimax/models", bearer),
        ("custom-sim/x", bearer),
    ];
    let keys = [
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "xi-api-key",
    ];
    for (path, (header, value)) in cases {
        gateway.send(&post(
            path,
            "cf-aig-authorization: Bearer rg-test\r\n",
            "{}",
        ));
        let requests = received(&simulator);
        let sent = requests.last().expect("a request");
        for name in keys {
            let expected = (name == header).then_some(value);
            assert_eq!(sent_header(sent, name), expected, "{path}: {name}");
        }
    }
    let named = cases
        .iter()
        .filter_map(|(path, _)| Slug::parse(path.split('/').next()?));
    let named: std::collections::HashSet<Slug> = named.collect();
    assert_eq!(
        named.len(),
        Slug::ALL.len() - 1,
        "every provider has a case"
    );
    // The Anthropic SDK against x.ai and against Bedrock puts its key elsewhere than they look.
    let moved = [
        (
            "grok/v1/messages",
            "x-api-key: k1",
            ("authorization", "Bearer k1"),
        ),
        (
            "bedrock/bedrock-mantle/us-east-1/anthropic/v1/messages",
            "Authorization: Bearer k1",
            ("x-api-key", "k1"),
        ),
    ];
    for (path, given, (header, value)) in moved {
        let headers = format!("cf-aig-authorization: rg-test\r\n{given}\r\n");
        gateway.send(&post(path, &headers, "{}"));
        let requests = received(&simulator);
        let sent = requests.last().expect("a request");
        for name in keys {
            let expected = (name == header).then_some(value);
            assert_eq!(sent_header(sent, name), expected, "{path}: {name}");
        }
    }
}

#[test]
fn configured_base_urls_and_custom_providers_are_followed() {
    let simulator = simulator();
    let address = simulator.addr();
    let lines = format!(
        "[providers.openai]\nbase_url = \"http://{address}/proxy/v4/\"
[providers.groq]\nbase_url = \"http://{address}/groq\"
[providers.workers-ai]\nbase_url = \"http://{address}/workers\"
[providers.anthropic]\nbase_url = \"http://localhost:{}/v1\"
[providers.custom-a]\nbase_url = \"http://{address}/api/v2\"
[providers.\"custom-b.1_x\"]\nbase_url = \"http://{address}\"",
        address.port()
    );
    let gateway = Setup::default().with(&lines).start();
    let cases = [
        ("openai/chat/completions", "/proxy/v4/chat/completions"),
        ("openai/v4/models", "/proxy/v4/models"),
        ("groq/chat/completions", "/groq/v1/chat/completions"),
        ("workers-ai/run/@cf/m", "/workers/@cf/m"),
        ("anthropic/v1/messages", "/v1/messages"),
        ("anthropic/messages", "/v1/messages"),
        ("custom-a/v2/things", "/api/v2/things"),
        ("custom-a/things", "/api/v2/things"),
        ("custom-b.1_x/v1/models", "/v1/models"),
        ("custom-b.1_x", "/"),
        ("custom-b.1_x/", "/"),
    ];
    for (path, upstream) in cases {
        gateway.send(&post(path, "Authorization: Bearer mine\r\n", "{}"));
        let requests = received(&simulator);
        let sent = requests.last().expect("a request");
        assert_eq!(sent["path"], upstream, "{path}");
        // The host is the one that is really spoken to, and the key goes along as it came.
        let host = match path.starts_with("anthropic") {
            true => format!("localhost:{}", address.port()),
            false => address.to_string(),
        };
        assert_eq!(sent_header(sent, "host"), Some(&*host), "{path}");
        assert_eq!(
            sent_header(sent, "authorization"),
            Some("Bearer mine"),
            "{path}"
        );
    }
    let unknown = gateway.send(&post("custom-c/x", "", "{}"));
    assert_eq!((unknown.status, unknown.code()), (400, 2008));
}

#[test]
fn headers_that_are_the_gateways_business_stay_here() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let request = "POST /v1/acc/default/custom-sim/echo HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: 0\r\n\
        cf-aig-metadata: {\"a\":1}\r\ncf-cache-ttl: 60\r\nCF-Access-Token: t\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
        Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\n\
        Accept-Encoding: gzip, br\r\nCookie: a=1; CF_Authorization=jwt; b=2\r\nUser-Agent: test/1\r\n\
        anthropic-beta: x\r\nanthropic-beta: y\r\nX-Api-Key: k\r\nx-stainless-os: Linux\r\ncf-aig-event-id: mine\r\n\r\n";
    let answer = gateway.send(request);
    assert_eq!(answer.header("cf-aig-event-id"), Some("mine"));
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    let names: Vec<String> = sent["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|pair| pair[0].as_str().expect("a name").to_ascii_lowercase())
        .collect();
    for name in [
        "cf-aig-metadata",
        "cf-cache-ttl",
        "cf-access-token",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-hop",
        "keep-alive",
        "te",
        "proxy-authorization",
        "cf-aig-event-id",
    ] {
        assert!(!names.iter().any(|sent| sent == name), "{name} went up");
    }
    assert_eq!(
        sent_header(sent, "host"),
        Some(simulator.addr().to_string().as_str())
    );
    assert_eq!(sent_header(sent, "accept-encoding"), Some("identity"));
    assert_eq!(sent_header(sent, "cookie"), Some("a=1; b=2"));
    assert_eq!(sent_header(sent, "x-api-key"), Some("k"));
    assert_eq!(
        names
            .iter()
            .filter(|name| *name == "anthropic-beta")
            .count(),
        2
    );
    // What the provider sends down is its own, but for cookies.
    let (upstream, serving) = crate::http::one_shot(
        b"HTTP/1.1 201 Made\r\nSet-Cookie: a=b\r\nX-RateLimit: 5\r\ncf-ray: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let other = Setup::at(&format!("http://{upstream}")).start();
    let answer = other.send("GET /v1/acc/default/custom-sim/x HTTP/1.1\r\nHost: g\r\n\r\n");
    assert!(answer.head.starts_with("HTTP/1.1 201 Made\r\n"));
    assert_eq!(
        (answer.header("x-ratelimit"), answer.header("cf-ray")),
        (Some("5"), Some("1"))
    );
    assert_eq!(
        (answer.header("set-cookie"), answer.header("x-hop")),
        (None, None)
    );
    serving.join().expect("served");
}

#[test]
fn refusals_have_their_documented_codes() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[data]\nbody_max = 1000")
        .start();
    let cases = [
        ("GET /v1/acc/nope/openai/x", 400, 2001),
        ("GET /v1/acc/default/nope/x", 400, 2008),
        ("GET /v1/acc/default/custom-none/x", 400, 2008),
        ("GET /v1/acc/default", 400, 2008),
        ("GET /v1/acc/default/azure-openai/res", 400, 2008),
        ("GET /v1/acc/default/openai/a/../b", 400, 2008),
        ("GET /v1/acc/default/openai/a/%2e%2e/b", 400, 2008),
        ("GET /v1/acc/default/openai/a%0d%0aX:1", 400, 2008),
        ("GET /v1/acc/default/openai/a%0Db", 400, 2008),
        ("GET /v1/acc/default/openai/a%0Ab", 400, 2008),
        ("GET /v1/acc/default/openai/a%00b", 400, 2008),
        ("GET /v1/acc/default/openai/.", 400, 2008),
        ("GET /v1/acc/default/openai/a/.%2E/b", 400, 2008),
        ("GET /v1/acc/default/openai/a%2f%2e%2e%2fb", 400, 2008),
        ("GET /v1/acc/default/openai/a/..\\b", 400, 2008),
        ("GET /v1/acc/default/openai/a/..%5cb", 400, 2008),
        ("GET /v1/nobody/default/openai/x", 404, 7003),
        ("GET /", 404, 7003),
        ("GET /v2/acc/default/openai/x", 404, 7003),
    ];
    for (line, status, code) in cases {
        let answer = gateway.send(&format!("{line} HTTP/1.1\r\nHost: g\r\n\r\n"));
        assert_eq!((answer.status, answer.code()), (status, code), "{line}");
        assert!(answer.header("cf-aig-request-id").is_some(), "{line}");
    }
    let upgrade = "GET /v1/acc/default/openai/realtime HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(gateway.send(upgrade).status, 501);
    let long = format!(
        "POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nContent-Length: 1001\r\n\r\n{}",
        "x".repeat(1001)
    );
    assert_eq!(
        (gateway.send(&long).status, gateway.send(&long).code()),
        (413, 2002)
    );
    let chunked = format!(
        "POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    );
    assert_eq!(gateway.send(&chunked).status, 413);
    // None of them reached the provider as a whole request.
    assert_eq!(received(&simulator).len(), 0);
    // Errors of the provider are its own, verbatim.
    let answer = gateway.send(&chat("sim-status-429+retry-after-7", false));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );
    assert!(answer.json()["error"]["type"].is_string());
}

#[test]
fn a_gateway_token_opens_and_never_goes_up() {
    let token = "rg-test-token-0123456789-of-the-suite";
    let simulator = simulator();
    let lines = "[providers.mistral]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_HOUSE_KEY\"\n[gateways.default]\nauthentication = true\n[gateways.open]\nauthentication = false\n[gateways.shut]\nauthentication = true"
        .replace("{sim}", &simulator.addr().to_string());
    let gateway = Setup::over(&simulator)
        .with(&lines)
        .env("RINGGATE_BOOTSTRAP_TOKEN", token)
        .env("TEST_HOUSE_KEY", "house-1")
        .start();
    let send = |gateway_id: &str, provider: &str, headers: &str| {
        let target = format!("/v1/acc/{gateway_id}/{provider}/v1/echo?z=1");
        gateway.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: g\r\n{headers}\r\n"
        ))
    };
    for headers in [
        "",
        "cf-aig-authorization: Bearer wrong\r\n",
        "Authorization: Bearer sk-1\r\n",
        "cf-aig-authorization: wrong\r\nAuthorization: Bearer rg-test-token-0123456789-of-the-suite\r\n",
    ] {
        let answer = send("shut", "openai", headers);
        assert_eq!((answer.status, answer.code()), (401, 2009), "{headers}");
    }
    assert_eq!(received(&simulator).len(), 0);
    let last =
        |simulator: &ringgate::sim::Running| received(simulator).last().expect("a request").clone();
    for headers in [
        format!("cf-aig-authorization: Bearer {token}\r\n"),
        format!("cf-aig-authorization: {token}\r\n"),
        format!("Authorization: Bearer {token}\r\n"),
        format!("x-api-key: {token}\r\n"),
        format!("x-goog-api-key: {token}\r\n"),
        format!("api-key: {token}\r\n"),
        format!(
            "cf-aig-authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\nX-Other: {token}\r\n"
        ),
    ] {
        let answer = send("shut", "mistral", &headers);
        assert_ne!(answer.status, 401, "{headers}");
        let sent = last(&simulator);
        assert!(!sent.to_string().contains(token), "{headers}: {sent}");
        // No key came along: the instance's own pays.
        assert_eq!(
            sent_header(&sent, "authorization"),
            Some("Bearer house-1"),
            "{headers}"
        );
    }
    // A key on the request wins over the house key, and goes up verbatim.
    send(
        "shut",
        "mistral",
        &format!("cf-aig-authorization: Bearer {token}\r\nAuthorization: Bearer sk-mine\r\n"),
    );
    assert_eq!(
        sent_header(&last(&simulator), "authorization"),
        Some("Bearer sk-mine")
    );
    // The log names the caller by its token's name, never its value.
    let record = gateway.access.record("/v1/acc/shut/mistral");
    assert_eq!(record["token"]["name"], "initial", "{record}");
    // House keys do not pay for strangers.
    send("open", "mistral", "");
    assert_eq!(sent_header(&last(&simulator), "authorization"), None);
    // A token in the query opens too, and is cut out of it.
    let target = format!(
        "GET /v1/acc/shut/google/v1beta/echo?alt=sse&key={token} HTTP/1.1\r\nHost: g\r\n\r\n"
    );
    assert_ne!(gateway.send(&target).status, 401);
    assert_eq!(last(&simulator)["query"], "alt=sse");
    let text = format!("{}\n{}", gateway.access.text(), gateway.notices.text());
    assert!(
        !text.contains(token) && !text.contains("house-1"),
        "no secret in the log"
    );
}

#[test]
fn an_open_gateway_forwards_keys_as_they_are() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for (provider, header) in [
        ("anthropic", "x-api-key: sk-ant"),
        ("google-ai-studio", "x-goog-api-key: g"),
        ("azure-openai/r/d", "api-key: z"),
        ("openai", "Authorization: Token t"),
    ] {
        gateway.send(&post(
            &format!("{provider}/x"),
            &format!("{header}\r\n"),
            "{}",
        ));
        let requests = received(&simulator);
        let (name, value) = header.split_once(": ").expect("a header");
        assert_eq!(
            sent_header(requests.last().expect("a request"), name),
            Some(value),
            "{provider}"
        );
    }
    gateway.send("GET /v1/acc/default/google/v1beta/models?key=AIza HTTP/1.1\r\nHost: g\r\n\r\n");
    assert_eq!(
        received(&simulator).last().expect("a request")["query"],
        "key=AIza"
    );
    assert!(
        !gateway.access.text().contains("AIza"),
        "keys in queries are not logged"
    );
}

#[test]
fn what_a_bedrock_client_signed_goes_up_untouched() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let path = "model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse";
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/bedrock/aws4_request, SignedHeaders=accept-encoding;content-type;host;x-amz-date, Signature=00";
    let headers = format!(
        "Accept-Encoding: gzip\r\nX-Amz-Date: 20260115T120000Z\r\nAuthorization: {authorization}\r\n"
    );
    let target = format!("aws-bedrock/bedrock-runtime/us-east-1/{path}");
    gateway.send(&post(&target, &headers, "{}"));
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    assert_eq!(sent["path"], format!("/{path}"));
    assert_eq!(sent_header(sent, "authorization"), Some(authorization));
    assert_eq!(sent_header(sent, "x-amz-date"), Some("20260115T120000Z"));
    assert_eq!(sent_header(sent, "content-type"), Some("application/json"));
    assert_eq!(
        sent_header(sent, "accept-encoding"),
        Some("gzip"),
        "it is signed too"
    );
}

#[test]
fn fals_target_header_leads_to_fal_alone() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let send = |url: &str| {
        gateway.send(&post(
            "fal/x",
            &format!("x-fal-target-url: {url}\r\n"),
            "{}",
        ))
    };
    send("https://queue.fal.run/echo/flux?a=1");
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    assert_eq!(
        (&sent["path"], &sent["query"]),
        (&Value::from("/echo/flux"), &Value::from("a=1"))
    );
    assert_eq!(sent_header(sent, "x-fal-target-url"), None);
    assert_eq!(send("https://169.254.169.254/latest").code(), 2008);
    assert_eq!(received(&simulator).len(), 1);
}

#[test]
fn multipart_uploads_and_binary_answers_pass_byte_for_byte() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let part = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\u{0}\u{1}binary\r\n--b--\r\n";
    let request = format!(
        "POST /v1/acc/default/custom-sim/upload/files HTTP/1.1\r\nHost: g\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{part}",
        part.len()
    );
    let echo = gateway.send(&request).json();
    assert_eq!(echo["body_bytes"], part.len());
    let speech = gateway.send(&post(
        "openai/audio/speech",
        "",
        r#"{"model":"tts-1","input":"hi","voice":"alloy"}"#,
    ));
    assert_eq!(speech.status, 200);
    assert!(
        speech
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("audio/")),
        "{}",
        speech.head
    );
    let noise = gateway
        .send("GET /v1/acc/default/custom-sim/bytes/300000?chunked HTTP/1.1\r\nHost: g\r\n\r\n");
    assert!(noise.whole && noise.body.len() == 300_000);
}

/// An upstream that answers one request on each connection and then closes it: at once, or when told.
fn stale_upstream(
    close_after_answer: bool,
) -> (
    std::net::SocketAddr,
    std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let requests = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let mut answered = false;
                let mut received = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count) = stream.read(&mut buffer) {
                    if count == 0 {
                        return;
                    }
                    received.extend_from_slice(&buffer[..count]);
                    if !received.windows(4).any(|window| window == b"\r\n\r\n") {
                        continue;
                    }
                    received.clear();
                    counted.fetch_add(1, Ordering::SeqCst);
                    if answered && !close_after_answer {
                        return;
                    }
                    if stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                        .is_err()
                        || close_after_answer
                    {
                        return;
                    }
                    answered = true;
                }
            });
        }
    });
    (address, requests)
}

#[test]
fn a_stale_connection_is_replaced_only_where_nothing_can_happen_twice() {
    use std::sync::atomic::Ordering;
    for driver in ["auto", "epoll"] {
        // The provider reads the second request of a connection and closes without an answer.
        let (upstream, requests) = stale_upstream(false);
        let gateway = Setup::at(&format!("http://{upstream}")).on(driver).start();
        let get = "GET /v1/acc/default/custom-sim/get HTTP/1.1\r\nHost: g\r\n\r\n";
        assert_eq!(gateway.send(get).status, 200);
        // A GET may be repeated: it is, on a new connection, and the log shows it.
        assert_eq!(gateway.send(get).status, 200, "{driver}");
        assert_eq!(gateway.metric("upstream_replays_total"), 1);
        let replayed = gateway.access.wait_for("\"attempts\":2");
        assert!(replayed.contains("/custom-sim/get"));
        assert_eq!(requests.load(Ordering::SeqCst), 3);
        // A POST that was sent whole may have been worked on.
        let answer = gateway.send(&post("custom-sim/post", "", "{}"));
        assert_eq!((answer.status, answer.code()), (400, 2005), "{driver}");
        assert_eq!(requests.load(Ordering::SeqCst), 4);
    }
}

#[test]
fn a_provider_that_is_late_on_a_warm_connection_is_not_asked_again() {
    for driver in ["auto", "epoll"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let upstream = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut buffer = [0; 4096];
            assert!(stream.read(&mut buffer).expect("a request") > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .expect("written");
            assert!(stream.read(&mut buffer).expect("a request") > 0);
            // No answer: the gateway gives up, and comes with no other connection.
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            listener.set_nonblocking(true).expect("set");
            listener.accept().is_err()
        });
        let gateway = Setup::at(&format!("http://{address}"))
            .on(driver)
            .with("[upstream]\nresponse_head = \"100ms\"")
            .start();
        let get = "GET /v1/acc/default/custom-sim/get HTTP/1.1\r\nHost: g\r\n\r\n";
        assert_eq!(gateway.send(get).status, 200);
        assert_eq!(gateway.send(get).code(), 2005, "{driver}");
        assert_eq!(gateway.metric("upstream_replays_total"), 0);
        assert!(upstream.join().expect("the upstream"), "{driver}");
    }
}

#[test]
fn an_upload_is_sent_again_where_the_close_came_before_its_last_byte() {
    for driver in ["auto", "epoll"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let read_until = |stream: &mut std::net::TcpStream, end: &[u8]| {
                let (mut received, mut byte) = (Vec::new(), [0; 1]);
                while !received.ends_with(end) && stream.read(&mut byte).expect("a byte") > 0 {
                    received.push(byte[0]);
                }
            };
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let (mut stale, _) = listener.accept().expect("accepted");
            read_until(&mut stale, b"\r\n\r\n");
            stale.write_all(ok).expect("written");
            read_until(&mut stale, b"\r\n\r\n");
            drop(stale);
            let (mut fresh, _) = listener.accept().expect("accepted");
            read_until(&mut fresh, b"\r\n\r\n");
            read_until(&mut fresh, b"0123456789");
            fresh.write_all(ok).expect("written");
            let _ = fresh.read(&mut [0; 1]);
        });
        let gateway = Setup::at(&format!("http://{address}")).on(driver).start();
        let get = "GET /v1/acc/default/custom-sim/get HTTP/1.1\r\nHost: g\r\n\r\n";
        assert_eq!(gateway.send(get).status, 200);
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/custom-sim/post HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\n0123");
        eventually("a replay", || {
            (gateway.metric("upstream_replays_total") == 1).then_some(())
        });
        client.write(b"456789");
        assert_eq!(client.answer().status, 200, "{driver}");
        let record = gateway.access.record("/v1/acc/default/custom-sim/post");
        assert_eq!(
            (&record["attempts"], &record["request_bytes"]),
            (&2.into(), &10.into())
        );
    }
}

#[test]
fn bytes_beyond_an_answer_answer_no_other_request() {
    const EVIL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for driver in ["auto", "epoll"] {
        for at_once in [true, false] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            let address = listener.local_addr().expect("an address");
            let upstream = std::thread::spawn(move || {
                let mut kept = Vec::new();
                for _ in 0..2 {
                    let (mut stream, _) = listener.accept().expect("accepted");
                    let mut buffer = [0; 4096];
                    assert!(stream.read(&mut buffer).expect("a request") > 0);
                    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
                    if at_once {
                        bytes.extend_from_slice(EVIL);
                    }
                    stream.write_all(&bytes).expect("written");
                    if !at_once {
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        let _ = stream.write_all(EVIL);
                    }
                    kept.push(stream);
                }
                kept
            });
            let gateway = Setup::at(&format!("http://{address}")).on(driver).start();
            let get = "GET /v1/acc/default/custom-sim/get HTTP/1.1\r\nHost: g\r\n\r\n";
            for _ in 0..2 {
                assert_eq!(gateway.send(get).text(), "ok", "{driver}");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            assert_eq!(gateway.metric("upstream_reuses_total"), 0, "{driver}");
            upstream.join().expect("the upstream");
        }
    }
}

#[test]
fn a_connection_that_the_provider_closed_while_idle_is_not_used() {
    for driver in ["auto", "epoll"] {
        let (upstream, _) = stale_upstream(true);
        let gateway = Setup::at(&format!("http://{upstream}")).on(driver).start();
        for _ in 0..5 {
            let answer = gateway.send(&post("custom-sim/post", "", "{}"));
            assert_eq!(answer.status, 200, "{driver}");
            // The close travels on its own; the idle connection's read sees it.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eventually("all ended", || {
            (gateway.metric("requests_running") == 0).then_some(())
        });
        assert_eq!(gateway.metric("upstream_reuses_total"), 0, "{driver}");
    }
}
