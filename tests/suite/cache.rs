//! Answers given out again: what is told apart, what is stored, for how long, and what survives a restart.

use ringgate::sim;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Setup, eventually, new_gateway, post, received, simulator};

const TOKEN: &str = "cache-test-token-0123456789-012345678";
const ON: &str = "[gateways.default]\nauthentication = false\ncache_ttl = 300\n";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";

fn start(simulator: &sim::Running, driver: &'static str, lines: &str) -> Gateway {
    let setup = Setup::over(simulator).with(lines).on(driver);
    setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start()
}

fn chat(text: &str) -> String {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}).to_string()
}

fn status(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
        .header("cf-aig-cache-status")
        .expect("a cache status")
}

fn ask(gateway: &Gateway, headers: &str, body: &str) -> Answer {
    gateway.send(&post("openai/chat/completions", headers, body))
}

/// Sends it twice and says how the second was answered. On one connection: an answer is stored once it was written, which another
/// thread could overtake.
fn again(gateway: &Gateway, headers: &str, body: &str) -> String {
    let mut client = gateway.connect();
    let request = post("openai/chat/completions", headers, body);
    client.write(request.as_bytes());
    client.answer();
    client.write(request.as_bytes());
    status(&client.answer()).to_owned()
}

#[test]
fn a_repeated_request_gets_the_same_bytes_and_no_provider_is_asked() {
    let texts = json!([{"role": "user", "content": "hi"}]);
    let stream = json!({"model": "gpt-4o-mini", "stream": true, "messages": texts});
    let messages = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": texts});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]});
    let with = |model: &str, stream: bool| json!({"model": model, "stream": stream, "messages": texts, "max_tokens": 9});
    let large = json!({"model": "gpt-4o-mini+sim-huge-1m", "messages": texts});
    let run = json!({"model": "openai/gpt-4o-mini", "input": {"prompt": "hi"}});
    let embeddings = json!({"model": "google-ai-studio/gemini-embedding-001", "input": ["a", "b"]});
    let key = "x-goog-api-key: k\r\n";
    let cases: Vec<(&str, &str, Value)> = vec![
        ("openai/chat/completions", "", with("gpt-4o-mini", false)),
        ("openai/chat/completions", "", stream),
        ("openai/chat/completions", "", large),
        ("anthropic/v1/messages", "x-api-key: k\r\n", messages),
        (
            "google-ai-studio/v1beta/models/gemini-2.5-flash:generateContent",
            key,
            gemini.clone(),
        ),
        (
            "google-ai-studio/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            key,
            gemini,
        ),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/amazon.nova-lite-v1%3A0/converse-stream",
            "authorization: Bearer k\r\n",
            converse,
        ),
        (
            "compat/chat/completions",
            "",
            with("openai/gpt-4o-mini", true),
        ),
        (
            "compat/chat/completions",
            "",
            with("anthropic/claude-sonnet-4-5", false),
        ),
        (
            "compat/chat/completions",
            "",
            with("anthropic/claude-sonnet-4-5", true),
        ),
        (
            "compat/messages",
            "",
            with("google-ai-studio/gemini-2.5-flash", true),
        ),
        ("compat/embeddings", "", embeddings),
        ("run", "", run),
    ];
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let gateway = start(&simulator, driver, ON);
        let mut client = gateway.connect();
        let mut ids = Vec::new();
        let mut asked = 0;
        for (path, headers, body) in &cases {
            let request = match *path {
                "run" => post("", headers, &body.to_string()).replacen(
                    "/v1/acc/default/",
                    "/client/v4/accounts/acc/ai/run",
                    1,
                ),
                path => post(path, headers, &body.to_string()),
            };
            let mut send = || {
                client.write(request.as_bytes());
                client.answer()
            };
            let first = send();
            assert_eq!(status(&first), "MISS", "{path}");
            let now_asked = received(&simulator).len();
            assert!(now_asked > asked, "{path}");
            for _ in 0..2 {
                let hit = send();
                assert_eq!(status(&hit), "HIT", "{path}: {}", gateway.access.text());
                assert!(hit.whole && hit.body == first.body, "{path}");
                for name in ["content-type", "cf-aig-provider", "cf-aig-model"] {
                    assert_eq!(hit.header(name), first.header(name), "{path} {name}");
                }
                assert!(
                    hit.header("age")
                        .is_some_and(|age| age.parse::<u64>().is_ok())
                );
                ids.push(hit.header("cf-aig-log-id").expect("an entry").to_owned());
                assert_ne!(hit.header("cf-aig-log-id"), first.header("cf-aig-log-id"));
            }
            asked = now_asked;
            assert_eq!(received(&simulator).len(), asked, "{path}");
        }
        for id in ids {
            let path = format!("{GATEWAYS}/default/logs/{id}");
            let entry = eventually("the entry", || {
                let answer = gateway.call(TOKEN, "GET", &path, "");
                (answer.status == 200).then(|| answer.json()["result"].clone())
            });
            assert_eq!(
                (&entry["cached"], &entry["success"]),
                (&json!(true), &json!(true))
            );
            let figures = json!([entry["tokens_in"], entry["tokens_out"], entry["cost"]]);
            assert_eq!(figures, json!([0, 0, 0.0]), "{entry}");
            let rules = entry["trail"].as_array().expect("a trail");
            assert!(
                rules
                    .iter()
                    .any(|rule| rule["rule"] == "cache" && rule["outcome"] == "hit")
            );
        }
        let hits = 2 * cases.len() as u64;
        assert_eq!(gateway.metric("cache_hits_total"), hits);
        assert_eq!(gateway.metric("cache_misses_total"), cases.len() as u64);
        assert_eq!(gateway.metric("cache_stores_total"), cases.len() as u64);
        assert_eq!(gateway.metric("cache_answers"), cases.len() as u64);
        let page = gateway.manage("/metrics").text();
        let figure = |name: &str| -> f64 {
            let mut lines = page.lines();
            let found = lines.find_map(|line| line.strip_prefix(&format!("ringgate_{name} ")));
            found.expect("the sum").parse().expect("a number")
        };
        let (cost, saved) = (
            figure("cost_dollars_total"),
            figure("cost_saved_dollars_total"),
        );
        assert!(
            cost > 0.0 && (saved - 2.0 * cost).abs() < 1e-9,
            "{saved} of {cost}"
        );
    }
}

#[test]
fn nobody_gets_what_anothers_credential_or_gateway_was_answered() {
    let simulator = simulator();
    let other = "[gateways.other]\nauthentication = false\ncache_ttl = 300\n";
    let gateway = start(&simulator, "mixed", &format!("{ON}{other}"));
    let body = chat("secret");
    let first = "authorization: Bearer first\r\n";
    assert_eq!(again(&gateway, first, &body), "HIT");
    for headers in [
        "authorization: Bearer second\r\n",
        "authorization: bearer first\r\n",
        "",
    ] {
        assert_eq!(status(&ask(&gateway, headers, &body)), "MISS", "{headers}");
    }
    let request = post("openai/chat/completions", first, &body).replacen("/default/", "/other/", 1);
    assert_eq!(status(&gateway.send(&request)), "MISS");
    // The compatible endpoint speaks to the same provider and is another one.
    let model = body.replace("gpt-4o-mini", "openai/gpt-4o-mini");
    let compatible =
        |headers: &str| gateway.send(&post("compat/chat/completions", headers, &model));
    assert_eq!(status(&compatible(first)), "MISS");
    assert_eq!(status(&compatible(first)), "HIT");
    assert_eq!(
        status(&compatible("authorization: Bearer second\r\n")),
        "MISS"
    );
    // The same path with another query, another body by one byte, and the first once more.
    let query = post("openai/chat/completions?a=1", first, &body);
    assert_eq!(status(&gateway.send(&query)), "MISS");
    assert_eq!(status(&ask(&gateway, first, &format!("{body} "))), "MISS");
    assert_eq!(status(&ask(&gateway, first, &body)), "HIT");
    // What the caller says of itself is no part of it.
    let told = format!("{first}cf-aig-metadata: {{\"user\":\"a\"}}\r\nx-more: 1\r\n");
    assert_eq!(status(&ask(&gateway, &told, &body)), "HIT");
}

#[test]
fn requests_opt_in_and_out() {
    let simulator = simulator();
    let off = "[gateways.default]\nauthentication = false\n[gateways.strict]\nauthentication = false\ncache_ttl_header_opts_in = false\n[gateways.plain]\nauthentication = false\ncache_ttl = 300\ncache_streams = false\n";
    let gateway = start(&simulator, "auto", off);
    assert_eq!(again(&gateway, "", &chat("nothing")), "MISS");
    assert_eq!(
        again(&gateway, "cf-aig-cache-ttl: 60\r\n", &chat("time")),
        "HIT"
    );
    assert_eq!(
        again(&gateway, "cf-cache-ttl: 60\r\n", &chat("old name")),
        "HIT"
    );
    assert_eq!(
        again(&gateway, "cf-aig-cache-ttl: 0\r\n", &chat("zero")),
        "MISS"
    );
    let skip = "cf-aig-cache-ttl: 60\r\ncf-aig-skip-cache: true\r\n";
    assert_eq!(again(&gateway, skip, &chat("skipped")), "MISS");
    // What was skipped was not stored either; what is stored is not given to who skips.
    assert_eq!(
        status(&ask(&gateway, "cf-aig-cache-ttl: 60\r\n", &chat("skipped"))),
        "MISS"
    );
    assert_eq!(status(&ask(&gateway, skip, &chat("time"))), "MISS");
    // A key of the caller's stands for whatever is asked, but not for another way of answering.
    let named = "cf-aig-cache-key: greeting\r\n";
    let first = ask(&gateway, named, &chat("one"));
    let second = ask(&gateway, named, &chat("two"));
    assert_eq!((status(&first), status(&second)), ("MISS", "HIT"));
    assert_eq!(first.body, second.body);
    let stream = chat("one").replacen('{', "{\"stream\":true,", 1);
    assert_eq!(status(&ask(&gateway, named, &stream)), "MISS");
    let streamed = ask(&gateway, named, &stream);
    assert_eq!(status(&streamed), "HIT");
    assert_eq!(
        streamed.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let at = |id: &str, headers: &str, body: &str| {
        let request = post("openai/chat/completions", headers, body);
        gateway.send(&request.replacen("/default/", &format!("/{id}/"), 1))
    };
    for (id, headers, body, expected) in [
        ("strict", "cf-aig-cache-ttl: 60\r\n", &chat("time"), "MISS"),
        ("strict", named, &chat("time"), "HIT"),
        ("plain", "", &chat("plain"), "HIT"),
        ("plain", "", &stream, "MISS"),
    ] {
        at(id, headers, body);
        assert_eq!(
            status(&at(id, headers, body)),
            expected,
            "{id} {headers} {body}"
        );
    }
    // A body in chunks reads the same.
    let body = chat("time");
    let chunked = "POST /v1/acc/default/openai/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\ncf-aig-cache-ttl: 60\r\nTransfer-Encoding: chunked\r\n\r\n".to_string();
    let (front, back) = body.split_at(10);
    let send = |chunks: &str| gateway.send(&format!("{chunked}{chunks}0\r\n\r\n"));
    let chunks = format!("a\r\n{front}\r\n{:x}\r\n{back}\r\n", back.len());
    assert_eq!(status(&send(&chunks)), "HIT");
    let fresh = chat("in chunks");
    let chunks = format!("{:x}\r\n{fresh}\r\n", fresh.len());
    assert_eq!(status(&send(&chunks)), "MISS");
    assert_eq!(
        status(&ask(&gateway, "cf-aig-cache-ttl: 60\r\n", &fresh)),
        "HIT"
    );
    // The provider got it as it was.
    let last = received(&simulator).pop().expect("a request");
    assert_eq!(last["body"], fresh);
}

#[test]
fn only_good_and_whole_answers_are_stored() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let gateway = start(&simulator, driver, ON);
        for (model, stream) in [
            ("m+sim-status-500", false),
            ("m+sim-status-404", false),
            ("m+sim-status-429+retry-after-1", true),
            ("m+sim-error-in-stream", true),
            ("m+sim-close-after-2", true),
            ("m+sim-reset-after-2", true),
            ("m+sim-truncated-chunk", true),
            ("m+sim-close-after-1", false),
        ] {
            for prefix in ["", "openai/", "anthropic/", "google-ai-studio/"] {
                let path = match prefix {
                    "" => "openai/chat/completions",
                    _ => "compat/chat/completions",
                };
                let body = json!({
                    "model": format!("{prefix}{model}"), "stream": stream, "max_tokens": 90,
                    "messages": [{"role": "user", "content": "hi"}],
                });
                for _ in 0..2 {
                    let answer = gateway.send(&post(path, "", &body.to_string()));
                    let told = answer.header("cf-aig-cache-status");
                    assert_eq!(told, Some("MISS"), "{prefix}{model}");
                }
            }
        }
        assert_eq!(gateway.metric("cache_answers"), 0);
        // Nor is a stream whose client left before its end, or anything but a POST.
        let slow = chat("slow").replace("gpt-4o-mini", "m+sim-tokens-2000+tps-1000");
        let slow = slow.replacen('{', "{\"stream\":true,", 1);
        let mut client = gateway.connect();
        client.write(post("openai/chat/completions", "", &slow).as_bytes());
        client.read_until("data: ");
        drop(client);
        gateway.access.wait_for("client_left");
        let listing =
            "GET /v1/acc/default/openai/models HTTP/1.1\r\nHost: g\r\ncf-aig-cache-key: a\r\n\r\n";
        for _ in 0..2 {
            assert_eq!(gateway.send(listing).header("cf-aig-cache-status"), None);
        }
        assert_eq!(gateway.metric("cache_answers"), 0);
    }
}

#[test]
fn a_changed_gateway_or_provider_forgets_its_answers() {
    let simulator = simulator();
    let gateway = start(&simulator, "auto", "");
    let call = |method: &str, path: &str, body: &Value| {
        let answer = gateway.call(TOKEN, method, path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["result"].clone()
    };
    let mut made: Value = serde_json::from_str(&new_gateway("api", false)).expect("JSON");
    made["cache_ttl"] = json!(300);
    call("POST", GATEWAYS, &made);
    let request =
        post("openai/chat/completions", "", &chat("hi")).replacen("/default/", "/api/", 1);
    let ask = || status(&gateway.send(&request)).to_owned();
    let twice = || (ask(), ask());
    let (miss, hit) = ("MISS".to_owned(), "HIT".to_owned());
    assert_eq!(twice(), (miss.clone(), hit.clone()));
    let one = format!("{GATEWAYS}/api");
    let update = |changes: Value| {
        let mut body = made.clone();
        let members = body.as_object_mut().expect("an object");
        members.extend(changes.as_object().expect("an object").clone());
        call("PUT", &one, &body);
    };
    // An update forgets, unless the gateway says otherwise; and it says so by an update.
    update(json!({"cache_ttl": 400}));
    assert_eq!(twice(), (miss.clone(), hit.clone()));
    update(json!({"cache_invalidate_on_update": false}));
    assert_eq!(ask(), hit);
    update(json!({"cache_ttl": 500, "cache_invalidate_on_update": false}));
    assert_eq!(ask(), hit);
    let purged = call("POST", &format!("{one}/purge_cache"), &Value::Null);
    assert_eq!(purged, json!({"id": "api"}));
    assert_eq!(twice(), (miss.clone(), hit.clone()));
    update(json!({"cache_ttl": 0, "cache_invalidate_on_update": false}));
    assert_eq!(twice(), (miss.clone(), miss.clone()));
    update(json!({"cache_ttl": 300, "cache_invalidate_on_update": false}));
    assert_eq!(ask(), hit);
    // One that is made anew knows nothing of the one before.
    call("DELETE", &one, &Value::Null);
    call("POST", GATEWAYS, &made);
    assert_eq!(twice(), (miss.clone(), hit.clone()));
    // A custom provider takes its answers along when it is changed, whatever they are called.
    let providers = "/accounts/acc/ai-gateway/custom-providers";
    let url = format!("http://{}", simulator.addr());
    let provider = json!({"name": "Mine", "slug": "mine", "base_url": url, "enable": true});
    let id = call("POST", providers, &provider)["id"].clone();
    let custom = |headers: &str| {
        let request = post("custom-mine/v1/chat/completions", headers, &chat("hi"));
        let answer = gateway.send(&request.replacen("/default/", "/api/", 1));
        status(&answer).to_owned()
    };
    let named = "cf-aig-cache-key: mine\r\n";
    for headers in ["", named] {
        assert_eq!(
            (custom(headers), custom(headers)),
            (miss.clone(), hit.clone())
        );
    }
    let path = format!("{providers}/{}", id.as_str().expect("an id"));
    let patched = gateway.call(TOKEN, "PATCH", &path, &json!({"name": "Ours"}).to_string());
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert_eq!(custom(named), miss);
    // Declared gateways are purged too.
    let declared = || {
        let headers = "cf-aig-cache-ttl: 60\r\n";
        status(&self::ask(&gateway, headers, &chat("hi"))).to_owned()
    };
    assert_eq!((declared(), declared()), (miss.clone(), hit));
    call(
        "POST",
        &format!("{GATEWAYS}/default/purge_cache"),
        &Value::Null,
    );
    assert_eq!(declared(), miss);
}

#[test]
fn an_answer_is_over_after_its_time() {
    let simulator = simulator();
    let brief = "[gateways.default]\nauthentication = false\ncache_ttl = 1\n";
    let gateway = start(&simulator, "auto", brief);
    let body = chat("hi");
    ask(&gateway, "", &body);
    let asked = received(&simulator).len();
    eventually("the end of its time", || {
        (status(&ask(&gateway, "", &body)) == "MISS").then_some(())
    });
    assert_eq!(received(&simulator).len(), asked + 1);
}

#[test]
fn answers_on_disk_outlive_the_program_and_flipped_bits_do_not() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let lines = format!("[cache]\nmemory_bytes = \"1MiB\"\ndisk_bytes = \"64MiB\"\n{ON}");
        let setup = || Setup::over(&simulator).with(&lines).on(driver);
        let gateway = setup().start();
        let bodies: Vec<String> = (0..20)
            .map(|number| chat(&format!("question {number}")))
            .chain([chat("large").replace("gpt-4o-mini", "m+sim-huge-2m")])
            .chain([chat("stream").replacen('{', "{\"stream\":true,", 1)])
            .collect();
        let first: Vec<Answer> = bodies.iter().map(|body| ask(&gateway, "", body)).collect();
        // The large one is more than memory takes, and comes from disk before any restart.
        assert_eq!(status(&ask(&gateway, "", &bodies[20])), "HIT");
        let asked = received(&simulator).len();
        let folder = gateway.end(libc::SIGTERM);
        let gateway = setup().start_in(folder);
        for (body, first) in bodies.iter().zip(&first) {
            let hit = ask(&gateway, "", body);
            assert_eq!(status(&hit), "HIT");
            assert!(hit.body == first.body && hit.whole);
            assert_eq!(hit.header("content-type"), first.header("content-type"));
        }
        assert_eq!(received(&simulator).len(), asked);
        let folder = gateway.end(libc::SIGTERM);
        // One bit in every file, in the middle of a body.
        let files = std::fs::read_dir(folder.path().join("data/cache")).expect("a folder");
        let text = &first[7].body;
        let mut flipped = 0;
        for file in files {
            let path = file.expect("a file").path();
            let mut bytes = std::fs::read(&path).expect("read");
            let found = bytes
                .windows(text.len())
                .position(|part| part == text.as_slice());
            if let Some(at) = found {
                bytes[at + text.len() / 2] ^= 1;
                std::fs::write(&path, bytes).expect("written");
                flipped += 1;
            }
        }
        assert_eq!(flipped, 1);
        let gateway = setup().start_in(folder);
        let miss = ask(&gateway, "", &bodies[7]);
        assert_eq!(status(&miss), "MISS");
        assert_eq!(miss.body, first[7].body);
        assert_eq!(status(&ask(&gateway, "", &bodies[8])), "HIT");
        assert_eq!(gateway.metric("cache_disk_corrupt_total"), 1);
        assert_eq!(received(&simulator).len(), asked + 1);
    }
}

#[test]
fn memory_is_bounded_and_the_rest_goes_on() {
    let simulator = simulator();
    let lines = format!("[cache]\nmemory_bytes = \"1MiB\"\n{ON}");
    let gateway = start(&simulator, "auto", &lines);
    for number in 0..60 {
        let body = chat(&format!("question {number}")).replace("gpt-4o-mini", "m+sim-huge-50k");
        assert_eq!(status(&ask(&gateway, "", &body)), "MISS");
    }
    let bytes = gateway.metric("cache_bytes");
    assert!(bytes <= 1 << 20 && bytes > 800 << 10, "{bytes}");
    let answers = gateway.metric("cache_answers");
    assert_eq!(answers + gateway.metric("cache_evictions_total"), 60);
    // More than a quarter of it is not stored.
    let body = chat("large").replace("gpt-4o-mini", "m+sim-huge-600k");
    assert_eq!(again(&gateway, "", &body), "MISS");
    assert_eq!(gateway.metric("cache_refusals_total"), 2);
    // A request too large to be looked up streams through.
    let large = json!({"model": "m", "messages": [], "padding": "x".repeat(26 << 20)}).to_string();
    assert_eq!(again(&gateway, "", &large), "MISS");
    assert_eq!(gateway.metric("cache_misses_total"), 62);
}

/// Sends the same request on so many connections at once and takes all answers.
fn at_once(gateway: &Gateway, request: &str, count: usize) -> Vec<Answer> {
    let mut clients: Vec<_> = (0..count).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.write(request.as_bytes());
    }
    clients.iter_mut().map(|client| client.answer()).collect()
}

const TOGETHER: &str =
    "[gateways.default]\nauthentication = false\ncache_ttl = 300\ncoalesce = true\n";

fn streamed(model: &str) -> String {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

#[test]
fn like_requests_at_the_same_time_make_one_call() {
    for driver in ["auto", "epoll", "mixed"] {
        let simulator = simulator();
        let gateway = start(
            &simulator,
            driver,
            &format!("[data]\nthreads = 2\n{TOGETHER}"),
        );
        let plain =
            |path: &str, model: &str| post(path, "", &chat("hi").replace("gpt-4o-mini", model));
        let stream = |path: &str, model: &str| post(path, "", &streamed(model));
        let (native, unified) = ("openai/chat/completions", "compat/chat/completions");
        let requests = [
            plain(native, "m+sim-slow-head-300"),
            plain(native, "m+sim-slow-head-300+huge-3m"),
            stream(native, "m+sim-tokens-60+tps-100+ttft-100"),
            plain(unified, "anthropic/m+sim-slow-head-300"),
            stream(unified, "anthropic/m+sim-tokens-60+tps-100"),
            stream(unified, "groq/m+sim-tokens-60+tps-100"),
        ];
        for (number, request) in requests.iter().enumerate() {
            let answers = at_once(&gateway, request, 50);
            assert_eq!(received(&simulator).len(), number + 1, "{request}");
            let misses = answers.iter().filter(|answer| status(answer) == "MISS");
            assert_eq!(misses.count(), 1, "{request}");
            for answer in &answers {
                assert!(answer.whole && answer.body == answers[0].body, "{request}");
                let kind = answer.header("content-type");
                assert_eq!(kind, answers[0].header("content-type"), "{request}");
            }
        }
        assert_eq!(
            gateway.metric("cache_hits_total"),
            49 * requests.len() as u64
        );
        // Each has an entry of its own, and one of them cost something.
        let path = format!("{GATEWAYS}/default/logs?per_page=50&cached=false");
        let entries = eventually("the entries", || {
            let list = gateway.call(TOKEN, "GET", &path, "").json()["result"].clone();
            let list = list.as_array().expect("a list").clone();
            (list.len() == requests.len()).then_some(list)
        });
        assert!(
            entries.iter().all(|entry| entry["success"] == true),
            "{entries:?}"
        );
    }
}

#[test]
fn a_leader_that_leaves_takes_nobody_along() {
    for driver in ["auto", "epoll", "mixed"] {
        let simulator = simulator();
        let lines = "[data]\nthreads = 2\n[gateways.default]\nauthentication = false\ncoalesce = true\ncache_ttl = 300\n";
        let gateway = start(&simulator, driver, lines);
        // Before the answer begins, and in the middle of it.
        let cases = [
            (
                post(
                    "openai/chat/completions",
                    "",
                    &chat("hi").replace("gpt-4o-mini", "m+sim-slow-head-1500"),
                ),
                None,
            ),
            (
                post(
                    "compat/chat/completions",
                    "",
                    &streamed("anthropic/m+sim-slow-head-1500"),
                ),
                None,
            ),
            (
                post(
                    "openai/chat/completions",
                    "",
                    &streamed("m+sim-tokens-200+tps-100"),
                ),
                Some("data: "),
            ),
            (
                post(
                    "compat/chat/completions",
                    "",
                    &streamed("anthropic/m+sim-tokens-200+tps-100"),
                ),
                Some("data: "),
            ),
        ];
        for (number, (request, seen)) in cases.iter().enumerate() {
            let mut leader = gateway.connect();
            leader.write(request.as_bytes());
            eventually("the call", || {
                (received(&simulator).len() == number + 1).then_some(())
            });
            if let Some(seen) = seen {
                leader.read_until(seen);
            }
            let mut follower = gateway.connect();
            follower.write(request.as_bytes());
            let looked = 2 * (number as u64 + 1);
            eventually("the follower", || {
                (gateway.metric("cache_misses_total") == looked).then_some(())
            });
            drop(leader);
            let answer = follower.answer();
            assert_eq!(status(&answer), "HIT");
            assert!(answer.whole && !answer.body.is_empty());
            assert_eq!(received(&simulator).len(), number + 1, "{request}");
            assert_eq!(ask_raw(&gateway, request).body, answer.body);
        }
        assert_eq!(received(&simulator).len(), cases.len());
    }
}

fn ask_raw(gateway: &Gateway, request: &str) -> Answer {
    let answer = gateway.send(request);
    assert_eq!(status(&answer), "HIT");
    answer
}

#[test]
fn a_call_ends_when_the_last_who_waits_has_left() {
    let simulator = simulator();
    let lines = "[gateways.default]\nauthentication = false\n";
    let gateway = start(&simulator, "auto", lines);
    let together = "cf-aig-coalesce: true\r\n";
    for body in [
        streamed("m+sim-tokens-100+tps-100+hang-after-20"),
        chat("hi").replace("gpt-4o-mini", "m+sim-hang"),
    ] {
        let request = post("openai/chat/completions", together, &body);
        let before = received(&simulator).len();
        let mut clients: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
        clients
            .iter_mut()
            .for_each(|client| client.write(request.as_bytes()));
        if body.contains("tps") {
            clients
                .iter_mut()
                .for_each(|client| drop(client.read_until("data: ")));
        }
        eventually("the call", || {
            (received(&simulator).len() == before + 1).then_some(())
        });
        drop(clients);
        eventually("its end", || {
            let last = received(&simulator).pop().expect("a request");
            (last["aborted"] == true).then_some(())
        });
        eventually("no request", || {
            (gateway.metric("requests_running") == 0).then_some(())
        });
    }
}

#[test]
fn failures_are_shared_by_those_who_wait_and_by_nobody_after_them() {
    let simulator = simulator();
    let gateway = start(&simulator, "auto", TOGETHER);
    let body = chat("hi").replace("gpt-4o-mini", "m+sim-slow-head-1500+status-500");
    let request = post("openai/chat/completions", "", &body);
    let answers = at_once(&gateway, &request, 5);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 500 && answer.body == answers[0].body)
    );
    assert_eq!(received(&simulator).len(), 1);
    assert_eq!(gateway.metric("cache_hits_total"), 0);
    assert_eq!(gateway.send(&request).status, 500);
    assert_eq!(received(&simulator).len(), 2);
    // An answer that breaks off breaks off for all.
    let request = post(
        "openai/chat/completions",
        "",
        &streamed("m+sim-ttft-1000+tps-100+reset-after-5"),
    );
    let answers = at_once(&gateway, &request, 5);
    assert!(
        answers
            .iter()
            .all(|answer| !answer.whole && answer.body == answers[0].body)
    );
    assert_eq!(received(&simulator).len(), 3);
    // Who does not ask for it goes alone.
    let alone = "cf-aig-coalesce: false\r\ncf-aig-skip-cache: true\r\n";
    at_once(
        &gateway,
        &post("openai/chat/completions", alone, &chat("alone")),
        5,
    );
    assert_eq!(received(&simulator).len(), 8);
}
