//! Bodies in log entries: what is kept, how it is read, and that no key is ever in it.

use std::path::Path;

use ringgate::sim;
use serde_json::{Value, json};

use crate::harness::{
    Answer, DRIVERS, Gateway, Setup, chat, eventually, post, received, simulator,
};

const TOKEN: &str = "bodies-test-token-0123456789-0123456789";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs";

/// The same words whatever the request looks like.
const SEED: &str = "x-sim: seed-7\r\n";

fn start(simulator: &sim::Running, more: &str) -> Gateway {
    Setup::every(&format!("http://{}", simulator.addr()), "")
        .with(more)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start()
}

fn id_of(answer: &Answer) -> String {
    answer.header("cf-aig-log-id").expect("a log id").to_owned()
}

/// The entry, once it is stored.
fn entry(gateway: &Gateway, id: &str) -> Value {
    eventually("the entry", || {
        let answer = gateway.call(TOKEN, "GET", &format!("{LOGS}/{id}"), "");
        (answer.status == 200).then(|| answer.json()["result"].clone())
    })
}

/// A stored body, once its entry is stored; `None`: there is none.
fn stored(gateway: &Gateway, id: &str, part: &str) -> Option<Answer> {
    entry(gateway, id);
    let answer = gateway.call(TOKEN, "GET", &format!("{LOGS}/{id}/{part}"), "");
    match answer.status {
        200 => Some(answer),
        404 => None,
        status => panic!("{status}: {}", answer.text()),
    }
}

/// The newest entry, once there are so many.
fn newest(gateway: &Gateway, count: usize) -> Value {
    eventually(&format!("{count} entries"), || {
        let listed = gateway.call(TOKEN, "GET", LOGS, "").json()["result"].clone();
        let listed = listed.as_array().expect("a list").clone();
        (listed.len() == count).then(|| listed[0].clone())
    })
}

#[test]
fn both_bodies_are_kept_as_the_client_sent_and_got_them() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
            .on(driver)
            .start();
        let body = r#"{ "messages":[{"role":"user","content":"a needle in the hay"}], "model" :"gpt-4o", "x":1.0 }"#;
        let answer = gateway.send(&post("openai/chat/completions", "", body));
        let id = id_of(&answer);
        let request = stored(&gateway, &id, "request").expect("a body");
        assert_eq!(
            (&*request.text(), request.header("content-type")),
            (body, Some("application/json"))
        );
        let response = stored(&gateway, &id, "response").expect("a body");
        assert_eq!(response.body, answer.body);
        let entry = entry(&gateway, &id);
        for (name, expected) in [
            ("request_head", json!(body)),
            ("request_head_complete", json!(true)),
            ("request_size", json!(body.len())),
            ("response_head", json!(answer.text())),
            ("response_head_complete", json!(true)),
            ("response_size", json!(answer.body.len())),
            ("model", json!("gpt-4o")),
        ] {
            assert_eq!(entry[name], expected, "{driver} {name}");
        }
        // In chunks, cut anywhere; larger than a head.
        let long = format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{}"}}]}}"#,
            "long ".repeat(30_000)
        );
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/openai/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in long.as_bytes().chunks(7001) {
            client.write(format!("{:x}\r\n", piece.len()).as_bytes());
            client.write(piece);
            client.write(b"\r\n");
        }
        client.write(b"0\r\n\r\n");
        let answer = client.answer();
        let id = id_of(&answer);
        assert_eq!(
            stored(&gateway, &id, "request").expect("a body").text(),
            long
        );
        let listed = self::entry(&gateway, &id);
        assert_eq!(listed["request_head"], long[..5000]);
        assert_eq!(
            (&listed["request_head_complete"], &listed["model"]),
            (&json!(false), &json!("gpt-4o"))
        );
        let found = gateway.call(TOKEN, "GET", &format!("{LOGS}?search=needle"), "");
        assert_eq!(found.json()["result_info"]["total_count"], 1);
    }
}

#[test]
fn gateway_and_request_say_whether_bodies_are_kept() {
    let simulator = simulator();
    let gateway = start(
        &simulator,
        "[gateways.quiet]\nauthentication = false\ncollect_log_payload = false",
    );
    let send = |gateway_id: &str, headers: &str| {
        let request = post(
            "openai/chat/completions",
            headers,
            r#"{"model":"gpt-4o","messages":[]}"#,
        )
        .replace("/default/", &format!("/{gateway_id}/"));
        let id = id_of(&gateway.send(&request));
        let logs = LOGS.replace("/default/", &format!("/{gateway_id}/"));
        let entry = eventually("the entry", || {
            let answer = gateway.call(TOKEN, "GET", &format!("{logs}/{id}"), "");
            (answer.status == 200).then(|| answer.json()["result"].clone())
        });
        assert!(
            entry["request_size"].as_u64() > Some(10) && entry["response_size"].as_u64() > Some(10)
        );
        ["request", "response"].map(|part| {
            let status = gateway
                .call(TOKEN, "GET", &format!("{logs}/{id}/{part}"), "")
                .status;
            assert_eq!(status == 200, entry[format!("{part}_head")] != "");
            status == 200
        })
    };
    let (off, on) = (
        "cf-aig-collect-log-payload: false\r\n",
        "cf-aig-collect-log-payload: true\r\n",
    );
    assert_eq!(send("default", ""), [true, true]);
    assert_eq!(send("default", off), [false, false]);
    assert_eq!(send("quiet", ""), [false, false]);
    assert_eq!(send("quiet", on), [true, true]);
}

/// A provider's path, a request to it, and where its answer has the text.
fn dialects() -> Vec<(&'static str, String, Value, &'static str)> {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let parts = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    let gemini = |kind| format!("google-ai-studio/v1beta/models/gemini-2.5-flash:{kind}");
    let bedrock =
        |model: &str, kind| format!("aws-bedrock/bedrock-runtime/us-east-1/model/{model}/{kind}");
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]});
    let invoke =
        json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": hi});
    let claude = "anthropic.claude-3-haiku-20240307-v1:0";
    vec![
        (
            "openai/chat/completions",
            "openai/chat/completions".into(),
            json!({"model": "gpt-4o", "messages": hi}),
            "/choices/0/message/content",
        ),
        (
            "anthropic/v1/messages",
            "anthropic/v1/messages".into(),
            json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": hi}),
            "/content/0/text",
        ),
        (
            "openai/responses",
            "openai/responses".into(),
            json!({"model": "gpt-4o", "input": "hi"}),
            "/output/0/content/0/text",
        ),
        (
            "cohere/v2/chat",
            "cohere/v2/chat".into(),
            json!({"model": "command-a", "messages": hi}),
            "/message/content/0/text",
        ),
        (
            "google-ai-studio",
            gemini("streamGenerateContent?alt=sse"),
            json!({"contents": parts}),
            "/candidates/0/content/parts/0/text",
        ),
        (
            "google-ai-studio list",
            gemini("streamGenerateContent"),
            json!({"contents": parts}),
            "/candidates/0/content/parts/0/text",
        ),
        (
            "converse",
            bedrock("amazon.nova-lite-v1:0", "converse-stream"),
            converse,
            "/output/message/content/0/text",
        ),
        (
            "invoke",
            bedrock(claude, "invoke-with-response-stream"),
            invoke,
            "/content/0/text",
        ),
        (
            "workers-ai",
            "workers-ai/@cf/meta/llama-3.1-8b-instruct".into(),
            json!({"messages": hi}),
            "/response",
        ),
    ]
}

#[test]
fn a_stream_is_read_as_the_answer_it_made_and_as_it_came() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    for (name, path, body, place) in dialects() {
        let whole_path = path
            .replace("streamGenerateContent?alt=sse", "generateContent")
            .replace("streamGenerateContent", "generateContent")
            .replace("converse-stream", "converse")
            .replace("invoke-with-response-stream", "invoke");
        let mut streamed = body.clone();
        if path == whole_path {
            streamed["stream"] = json!(true);
            if name.ends_with("completions") {
                streamed["stream_options"] = json!({"include_usage": true});
            }
        }
        let whole = gateway.send(&post(&whole_path, SEED, &body.to_string()));
        assert_eq!(whole.status, 200, "{name}: {}", whole.text());
        let answer = gateway.send(&post(&path, SEED, &streamed.to_string()));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let id = id_of(&answer);
        let raw = stored(&gateway, &id, "response?form=raw").expect("a body");
        assert_eq!(raw.body, answer.body, "{name}");
        let kind = answer.header("content-type");
        assert_eq!(raw.header("content-type"), kind, "{name}");
        let told = stored(&gateway, &id, "response").expect("a body");
        assert_eq!(
            told.header("content-type"),
            Some("application/json"),
            "{name}"
        );
        let (told, mut whole) = (told.json(), whole.json());
        if whole["result"].is_object() {
            // Only whole answers have the API's envelope.
            whole = whole["result"].take();
        }
        let text = told
            .pointer(place)
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(text.len() > 20, "{name}: {told}");
        assert_eq!(told.pointer(place), whole.pointer(place), "{name}: {told}");
        // It has the members of the answer that nobody asked to be streamed.
        for (member, value) in whole.as_object().expect("an object") {
            let same = match (value, &told[member]) {
                (Value::Object(one), Value::Object(other)) => {
                    one.keys().all(|key| other.contains_key(key))
                }
                (one, other) => one.is_null() || !other.is_null(),
            };
            assert!(same, "{name}: {member}: {value} in {told}");
        }
        let head = entry(&gateway, &id)["response_head"]
            .as_str()
            .expect("a text")
            .to_owned();
        assert!(told.to_string().starts_with(&head), "{name}: {head}");
    }
}

#[test]
fn what_a_translated_stream_said_to_the_client_is_kept() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    for stream in [true, false] {
        let body = json!({"model": "anthropic/claude-sonnet-4-5", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let answer = gateway.send(&post("compat/chat/completions", "", &body));
        let id = id_of(&answer);
        assert_eq!(
            stored(&gateway, &id, "request").expect("a body").text(),
            body
        );
        let raw = stored(&gateway, &id, "response?form=raw").expect("a body");
        assert_eq!(raw.body, answer.body);
        let told = stored(&gateway, &id, "response").expect("a body").json();
        assert_eq!(told["object"], "chat.completion");
    }
    // An error that the gateway makes itself is what the client got.
    let refused = gateway.send(&post(
        "compat/embeddings",
        "",
        r#"{"model":"openai/x","input":{"a":1}}"#,
    ));
    let id = id_of(&refused);
    assert_eq!(
        stored(&gateway, &id, "response").expect("a body").body,
        refused.body
    );
}

#[test]
fn what_the_gateway_says_of_a_dead_provider_is_kept() {
    let gateway = Setup::at("http://127.0.0.1:1")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let dead = gateway.send(&chat("gpt-4o", false));
    let kept = stored(&gateway, &id_of(&dead), "response").expect("a body");
    assert_eq!((dead.status, kept.body), (400, dead.body));
}

#[test]
fn compressed_answers_are_kept_decoded_and_binary_ones_not() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    for stream in [false, true] {
        let body = json!({"model": "gpt-4o", "stream": stream, "messages": []}).to_string();
        let kept = |headers: &str, coding: Option<&str>| {
            let answer = gateway.send(&post("openai/chat/completions", headers, &body));
            assert_eq!(answer.header("content-encoding"), coding);
            let raw = stored(&gateway, &id_of(&answer), "response?form=raw").expect("a body");
            assert_eq!(raw.body == answer.body, coding.is_none());
            raw.text()
        };
        let plain = kept(SEED, None);
        assert_eq!(kept("x-sim: seed-7+gzip\r\n", Some("gzip")), plain);
    }
    let speech = gateway.send(&post(
        "openai/audio/speech",
        "",
        r#"{"model":"tts-1","input":"hi","voice":"alloy"}"#,
    ));
    assert_eq!(speech.status, 200);
    let id = id_of(&speech);
    assert!(stored(&gateway, &id, "request").is_some());
    assert!(stored(&gateway, &id, "response").is_none());
    assert_eq!(entry(&gateway, &id)["response_size"], speech.body.len());
    let form =
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--\r\n";
    let upload = post("openai/audio/transcriptions", "", form)
        .replace("application/json", "multipart/form-data; boundary=b");
    let answer = gateway.send(&upload);
    let entry = entry(&gateway, &id_of(&answer));
    assert_eq!(
        (
            &entry["request_head"],
            &entry["request_size"],
            &entry["model"]
        ),
        (&json!(""), &json!(form.len()), &json!(""))
    );
}

#[test]
fn what_was_received_of_broken_exchanges_is_kept() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    let mut client = gateway.connect();
    client.write(chat("sim-hang-after-3", true).as_bytes());
    let head = client.read_until("\r\n\r\n");
    for _ in 0..3 {
        client.read_until("data: ");
    }
    drop(client);
    assert!(head.starts_with("HTTP/1.1 200"));
    let left = newest(&gateway, 1);
    assert_eq!(left["end"], "client_left");
    let id = left["id"].as_str().expect("an id");
    let raw = stored(&gateway, id, "response?form=raw")
        .expect("a body")
        .text();
    assert_eq!(raw.matches("data: ").count(), 3, "{raw}");
    let told = stored(&gateway, id, "response").expect("a body").json();
    assert!(
        told["choices"][0]["message"]["content"].is_string(),
        "{told}"
    );
    let broken = gateway.send(&chat("sim-reset-after-3", true));
    let id = id_of(&broken);
    assert_eq!(entry(&gateway, &id)["end"], "upstream_broke");
    assert_eq!(
        stored(&gateway, &id, "response?form=raw")
            .expect("a body")
            .body,
        broken.body
    );
    // Half of an upload.
    let mut client = gateway.connect();
    client.write(b"POST /v1/acc/default/openai/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\":\"gpt-4o\",");
    eventually("the upload", || {
        (gateway.metric("requests_running") == 1 && gateway.metric("upstream_connects_total") >= 3)
            .then_some(())
    });
    drop(client);
    let half = newest(&gateway, 3);
    assert_eq!(
        (&half["status_code"], &half["model"]),
        (&json!(0), &json!("gpt-4o"))
    );
    let id = half["id"].as_str().expect("an id");
    assert_eq!(
        stored(&gateway, id, "request").expect("a body").text(),
        "{\"model\":\"gpt-4o\","
    );
    let failed = gateway.send(&chat("gpt-4o+sim-status-500", false));
    let id = id_of(&failed);
    assert_eq!(
        stored(&gateway, &id, "response").expect("a body").body,
        failed.body
    );
}

#[test]
fn a_body_that_is_too_large_is_left_out_and_counted() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    let body =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "x".repeat(6 << 20)}]})
            .to_string();
    let answer = gateway.send(&post("openai/chat/completions", "", &body));
    let id = id_of(&answer);
    assert!(stored(&gateway, &id, "request").is_none());
    assert_eq!(
        stored(&gateway, &id, "response").expect("a body").body,
        answer.body
    );
    assert_eq!(entry(&gateway, &id)["request_size"], body.len());
    let huge = gateway.send(&chat("sim-huge-6m", false));
    assert!(stored(&gateway, &id_of(&huge), "response").is_none());
    assert_eq!(gateway.metric("log_bodies_too_large_total"), 2);
    assert_eq!(gateway.metric("log_bodies_dropped_total"), 0);
}

#[test]
fn the_model_is_that_of_the_body_where_the_path_has_none() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    let deep = json!({"messages": [{"role": "user", "content": "\"model\":\"no\""}], "x": {"model": "no"}, "model": "asked"}).to_string();
    for (path, body, model) in [
        ("openai/chat/completions", deep.as_str(), "asked"),
        (
            "openai/embeddings",
            r#"{"input":"hi","model":"text-embedding-3-small"}"#,
            "text-embedding-3-small",
        ),
        ("openai/files", "[1]", ""),
        (
            "google-ai-studio/v1beta/models/gemini-2.5-flash:generateContent",
            r#"{"model":"no","contents":[]}"#,
            "gemini-2.5-flash",
        ),
    ] {
        let answer = gateway.send(&post(path, "", body));
        assert_eq!(entry(&gateway, &id_of(&answer))["model"], model, "{path}");
    }
    // Bytes that come one by one, and a key that is signed for, are searched as well.
    let mut client = gateway.connect();
    let body = r#"{"messages":[],"model":"slow"}"#;
    let request = post("openai/chat/completions", "", body);
    let (front, _) = request.split_at(request.len() - body.len());
    client.write(front.as_bytes());
    for byte in body.as_bytes().chunks(1) {
        client.write(byte);
    }
    assert_eq!(entry(&gateway, &id_of(&client.answer()))["model"], "slow");
}

/// Every credential that a request may bring (data plane 3), in its head and in bodies on both ways.
#[test]
fn no_key_is_in_what_is_stored_or_told() {
    let simulator = simulator();
    let gateway = start(&simulator, "");
    let secrets = [
        "sk-proj-abcdefghijklmnopqrstuvwx01",
        "sk-ant-api03-abcdefghijklmnop_qrst-uv02",
        "gsk_abcdefghijklmnopqrstuvwxyz03",
        "AIzaSyA-abcdefghijklmnopqrstuvwxyz01204",
        "hf_abcdefghijklmnopqrstuvwxyz05",
        "xai-abcdefghijklmnopqrstuvwxyz06",
        "AKIAIOSFODNN7EXAMP07",
        "r8_abcdefghijklmnopqrstuvwxyz08",
        "plain-secret-without-a-form-09",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijklmnop10",
    ];
    let mut sent = 0;
    for (index, secret) in secrets.iter().enumerate() {
        for slot in [
            "Authorization: Bearer ",
            "Authorization: Token ",
            "Authorization: Key ",
            "Authorization: ",
            "x-api-key: ",
            "api-key: ",
            "x-goog-api-key: ",
            "xi-api-key: ",
            "x-cartesia-api-key: ",
            "cf-aig-authorization: Bearer ",
            "cf-access-token: ",
            "cf-access-jwt-assertion: ",
            "Cookie: CF_Authorization=",
            "x-amz-security-token: ",
            "Proxy-Authorization: Basic ",
        ] {
            let headers = format!("{slot}{secret}\r\n");
            let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
                .to_string();
            gateway.send(&post(
                &format!("openai/chat/completions?key={secret}&api_key={secret}"),
                &headers,
                &body,
            ));
            sent += 1;
        }
        // A secret without a form is told by the name of its member alone.
        let shown = if index == 8 { "nothing" } else { secret };
        let body = json!({
            "model": "gpt-4o", "api_key": secret, "headers": {"Authorization": secret, "x-api-key": secret}, "secret_access_key": secret,
            "password": secret, "metadata": {"access_token": secret},
            "messages": [{"role": "user", "content": format!("my key is {shown}, keep it")}],
        });
        for path in [
            "openai/chat/completions",
            "compat/chat/completions",
            "anthropic/v1/messages",
        ] {
            let mut body = body.clone();
            if path.starts_with("compat") {
                body["model"] = json!("openai/gpt-4o");
            }
            let tags = format!(
                "cf-aig-event-id: {shown}\r\ncf-aig-metadata: {{\"k\":\"{shown}\"}}\r\nUser-Agent: {shown}\r\n"
            );
            gateway.send(&post(path, &tags, &body.to_string()));
            sent += 1;
        }
    }
    eventually("all entries", || {
        let sum = gateway.metric("logs_stored_total") + gateway.metric("logs_ownerless_total");
        (sum == sent).then_some(())
    });
    let mut told = gateway.notices.text();
    for page in 1..=4 {
        let list = gateway.call(TOKEN, "GET", &format!("{LOGS}?per_page=50&page={page}"), "");
        told.push_str(&list.text());
        for item in list.json()["result"].as_array().expect("a list") {
            let id = item["id"].as_str().expect("an id");
            told.push_str(&entry(&gateway, id).to_string());
            for part in ["request", "response", "response?form=raw"] {
                if let Some(body) = stored(&gateway, id, part) {
                    told.push_str(&body.text());
                }
            }
        }
    }
    assert!(
        told.contains("my key is [redacted], keep it"),
        "bodies are told"
    );
    // What went up had the keys in it.
    assert!(
        received(&simulator)
            .iter()
            .any(|request| request.to_string().contains(secrets[0]))
    );
    let folder = gateway.end(libc::SIGTERM);
    let bytes = all_bytes(&folder.path().join("data"));
    let frames: Vec<u8> = bodies_of(&folder.path().join("data/logs"));
    assert!(
        frames.windows(10).any(|window| window == b"my key is "),
        "bodies are stored"
    );
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} is told");
        let within = |bytes: &[u8]| memchr::memmem::find(bytes, secret.as_bytes()).is_some();
        assert!(!within(&bytes), "{secret} is in a file");
        assert!(!within(&frames), "{secret} is in a stored body");
    }
}

/// Every file of a folder, one after the other.
fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(all_bytes(&path)),
            false => all.extend(std::fs::read(path).expect("a file")),
        }
    }
    all
}

/// Every stored body, decompressed.
fn bodies_of(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().ends_with("bodies.db")
            && !path.to_string_lossy().contains("bodies")
        {
            continue;
        }
        let Ok(connection) = rusqlite::Connection::open(&path) else {
            continue;
        };
        let Ok(mut statement) = connection.prepare("SELECT request, response FROM bodies") else {
            continue;
        };
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            for column in 0..2 {
                if let Some(frame) = row.get::<_, Option<Vec<u8>>>(column).expect("a frame") {
                    all.extend(zstd::stream::decode_all(&frame[..]).expect("a body"));
                }
            }
        }
    }
    all
}
