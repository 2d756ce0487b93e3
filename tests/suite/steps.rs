//! Tries and steps: what each failure comes to without a retry, with one and with another step, and how often providers are asked.

use ringgate::sim;
use serde_json::{Value, json};

use crate::harness::{Answer, DRIVERS, Gateway, Setup, eventually, post, received, simulator};

const TOKEN: &str = "steps-test-token-0123456789-0123456789";
const QUICK: &str = "cf-aig-retry-delay: 1\r\n";

/// An entry of a universal request to OpenAI.
fn entry(model: &str, stream: bool) -> Value {
    json!({
        "provider": "openai", "endpoint": "chat/completions",
        "query": {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]},
    })
}

fn universal(headers: &str, body: &Value) -> String {
    post("", headers, &body.to_string())
}

fn chat(model: &str, stream: bool) -> String {
    let body =
        json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    body.to_string()
}

/// How often the simulator was asked while `ask` ran, and what came.
fn counted<T>(simulator: &sim::Running, ask: impl FnOnce() -> T) -> (usize, T) {
    let before = received(simulator).len();
    let answer = ask();
    (received(simulator).len() - before, answer)
}

fn step(answer: &Answer) -> &str {
    answer.header("cf-aig-step").expect("a step")
}

/// A failure, the status that it comes to, and how often it is asked for with three tries.
type Case = (&'static str, u16, usize);

const FAILURES: [Case; 13] = [
    ("status-500", 500, 3),
    ("status-502", 502, 3),
    ("status-503", 503, 3),
    ("status-408", 408, 3),
    ("status-429", 429, 3),
    ("retry-after-0", 429, 3),
    ("status-400", 400, 1),
    ("status-401", 401, 1),
    ("status-404", 404, 1),
    ("status-409", 409, 1),
    ("status-422", 422, 1),
    ("status-503+close", 503, 3),
    ("status-503+gzip", 503, 3),
];

#[test]
fn every_failure_comes_to_what_is_documented() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for (fault, status, tries) in FAILURES {
            let model = format!("m+sim-{fault}");
            let path = "openai/chat/completions";
            let (asked, once) = counted(&simulator, || {
                gateway.send(&post(path, "", &chat(&model, false)))
            });
            assert_eq!((asked, once.status), (1, status), "{fault} once");
            let headers = format!("cf-aig-max-attempts: 3\r\n{QUICK}");
            let (asked, thrice) = counted(&simulator, || {
                gateway.send(&post(path, &headers, &chat(&model, false)))
            });
            assert_eq!((asked, thrice.status), (tries, status), "{fault} thrice");
            if !fault.ends_with("gzip") {
                assert_eq!(thrice.body, once.body, "{fault}: verbatim");
            }
            let both = json!([entry(&model, false), entry("good", false)]);
            let (asked, other) = counted(&simulator, || gateway.send(&universal(&headers, &both)));
            assert_eq!(
                (asked, other.status, step(&other)),
                (tries + 1, 200, "1"),
                "{fault} with another step"
            );
            // The same through the endpoint for all providers.
            let unified = chat(&format!("openai/{model}"), false);
            let (asked, thrice) = counted(&simulator, || {
                gateway.send(&post("compat/chat/completions", &headers, &unified))
            });
            assert_eq!((asked, thrice.status), (tries, status), "{fault} unified");
        }
        assert_eq!(gateway.metric("requests_running"), 0);
    }
}

#[test]
fn broken_and_silent_providers_are_tried_again_and_passed_over() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for (fault, headers) in [
            ("reset-after-0", ""),
            ("hang", "cf-aig-request-timeout: 100\r\n"),
            ("slow-head-60000", "cf-aig-request-timeout: 100\r\n"),
        ] {
            // Each time once more than is tried, so that only the other step answers.
            let both = json!([
                entry(&format!("m+sim-{fault}"), false),
                entry("good", false)
            ]);
            let headers = format!("cf-aig-max-attempts: 2\r\n{QUICK}{headers}");
            let (asked, other) = counted(&simulator, || gateway.send(&universal(&headers, &both)));
            assert_eq!(
                (asked, other.status, step(&other)),
                (3, 200, "1"),
                "{fault}"
            );
            let model = format!("m+sim-{fault}+first-1");
            let body = chat(&model, false);
            let (asked, again) = counted(&simulator, || {
                gateway.send(&post("openai/chat/completions", &headers, &body))
            });
            assert_eq!((asked, again.status), (2, 200), "{fault} once only");
        }
        let hang = post(
            "openai/chat/completions",
            "cf-aig-request-timeout: 50\r\n",
            &chat("m+sim-hang", false),
        );
        let late = gateway.send(&hang);
        assert_eq!((late.status, late.code()), (400, 2005));
    }
}

#[test]
fn a_stream_that_begins_with_an_error_falls_over_and_others_are_untouched() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let headers = format!("cf-aig-max-attempts: 2\r\n{QUICK}");
        for (provider, path, body) in [
            ("openai", "chat/completions", "m"),
            ("anthropic", "v1/messages", "claude-m"),
            ("compat", "chat/completions", "openai/m"),
            ("compat", "chat/completions", "anthropic/claude-m"),
            ("compat", "chat/completions", "google-ai-studio/gemini-m"),
        ] {
            let body = |fault: &str| {
                json!({
                    "model": format!("{body}+sim-{fault}"), "stream": true, "max_tokens": 9,
                    "messages": [{"role": "user", "content": "hi"}],
                })
            };
            let path = format!("{provider}/{path}");
            let once = gateway.send(&post(&path, "", &body("tokens-9").to_string()));
            let (asked, again) = counted(&simulator, || {
                let body = body("error-first+first-1+tokens-9").to_string();
                gateway.send(&post(&path, &headers, &body))
            });
            assert_eq!((asked, again.status, again.whole), (2, 200, true), "{path}");
            let clean = again.text().replace("sim-error-first", "");
            assert!(!clean.contains("error"), "{path}: {clean}");
            assert!(again.body.len().abs_diff(once.body.len()) < 400, "{path}");
            // Without a try left the error goes down as it came.
            let (asked, failed) = counted(&simulator, || {
                gateway.send(&post(&path, "", &body("error-first").to_string()))
            });
            assert_eq!((asked, failed.status), (1, 200), "{path}");
            let told = failed.text().replace("sim-error-first", "");
            assert!(told.contains("error"), "{path}: {told}");
        }
        // What has begun is never tried again.
        let body = chat("m+sim-error-in-stream", true);
        let (asked, late) = counted(&simulator, || {
            gateway.send(&post("openai/chat/completions", &headers, &body))
        });
        assert_eq!((asked, late.status), (1, 200));
        let told = late.text().replace("sim-error-in-stream", "");
        assert!(told.contains("error"), "{told}");
        let good = json!([entry("m+sim-error-first", true), entry("good", true)]);
        let (asked, other) = counted(&simulator, || gateway.send(&universal("", &good)));
        assert_eq!((asked, step(&other)), (2, "1"));
        assert!(
            other.text().ends_with("data: [DONE]\n\n"),
            "{}",
            other.text()
        );
    }
}

#[test]
fn the_last_answer_of_a_provider_goes_down_with_its_own_step() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[providers.mistral]\nbase_url = \"http://127.0.0.1:1\"")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let dead =
        json!({"provider": "mistral", "endpoint": "chat/completions", "query": {"model": "m"}});
    let body = json!([entry("m+sim-status-503", false), dead]);
    let answer = gateway.send(&universal("cf-aig-event-id: mine\r\n", &body));
    assert_eq!((answer.status, step(&answer)), (503, "0"));
    let log = answer.header("cf-aig-log-id").expect("a log").to_owned();
    assert_eq!(answer.header("cf-aig-request-id"), Some(&*log));
    let nobody = gateway.send(&universal("", &json!([dead, dead])));
    assert_eq!(
        (nobody.status, nobody.code(), step(&nobody)),
        (400, 2005, "1")
    );
    let order = json!([
        entry("m+sim-status-503", false),
        entry("m+sim-status-404", false)
    ]);
    let last = gateway.send(&universal("", &order));
    assert_eq!((last.status, step(&last)), (404, "1"));
    let logs = entries(&gateway, 6);
    let of_mine: Vec<&Value> = logs
        .iter()
        .filter(|log| log["event_id"] == "mine")
        .collect();
    assert_eq!(of_mine.len(), 2);
    let steps: Vec<(u64, u64)> = of_mine
        .iter()
        .map(|log| {
            (
                log["step"].as_u64().unwrap(),
                log["status_code"].as_u64().unwrap(),
            )
        })
        .collect();
    assert!(
        steps.contains(&(0, 503)) && steps.contains(&(1, 400)),
        "{steps:?}"
    );
    // Each step is a log entry, and each request counts once.
    assert_eq!(gateway.metric("responses_total{status=\"5xx\"}"), 1);
    assert_eq!(gateway.metric("responses_total{status=\"4xx\"}"), 2);
}

#[test]
fn tries_are_told_in_the_log_and_their_tokens_add_up() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let headers = format!("cf-aig-max-attempts: 4\r\n{QUICK}cf-aig-backoff: linear\r\n");
    let body = chat("gpt-4o-mini+sim-status-503+first-2", false);
    let answer = gateway.send(&post("openai/chat/completions", &headers, &body));
    assert_eq!((answer.status, step(&answer)), (200, "0"));
    let log = entries(&gateway, 1).remove(0);
    assert_eq!(
        (&log["retries"], &log["status_code"]),
        (&json!(2), &json!(200))
    );
    let attempts = log["attempts"].as_array().expect("a list");
    let told: Vec<(&Value, &Value, &Value)> = attempts
        .iter()
        .map(|attempt| (&attempt["number"], &attempt["status"], &attempt["delay_us"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(1), &json!(503), &json!(1000)),
            (&json!(2), &json!(503), &json!(2000)),
            (&json!(3), &json!(200), &Value::Null),
        ]
    );
    assert!(
        attempts[0]["upstream"]
            .as_str()
            .expect("an address")
            .starts_with("127.")
    );
    let timings = &log["timings_us"];
    let part = |name: &str| timings[name].as_u64().expect("a number");
    assert!(part("wait") >= 3000, "{timings}");
    // What is not the gateway's own time is not counted as such.
    assert!(part("own") <= part("total") - 3000, "{timings}");
}

#[test]
fn a_retry_after_is_honoured_and_a_client_that_leaves_ends_the_wait() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let headers = format!("cf-aig-max-attempts: 2\r\n{QUICK}");
    let body = chat("m+sim-retry-after-30", false);
    let before = received(&simulator).len();
    {
        let mut client = gateway.connect();
        client.write(post("openai/chat/completions", &headers, &body).as_bytes());
        eventually("the first try", || {
            (received(&simulator).len() > before).then_some(())
        });
    }
    let record = gateway
        .access
        .record("/v1/acc/default/openai/chat/completions");
    assert_eq!(
        (&record["end"], &record["attempts"]),
        (&json!("client_left"), &json!(1))
    );
    assert_eq!(received(&simulator).len() - before, 1);
    let body = chat("m+sim-retry-after-1+first-1", false);
    let answer = gateway.send(&post("openai/chat/completions", &headers, &body));
    assert_eq!(answer.status, 200);
    let line = gateway.access.wait_for("\"attempts\":2");
    let record: Value = serde_json::from_str(&line).expect("JSON");
    assert!(record["timings_us"]["wait"].as_u64().expect("a number") >= 1_000_000);
}

#[test]
fn a_gateway_that_is_stopped_does_not_wait_for_a_retry() {
    let simulator = simulator();
    let mut gateway = Setup::over(&simulator).start();
    let headers = "cf-aig-max-attempts: 5\r\ncf-aig-retry-delay: 60000\r\n";
    let body = chat("m+sim-status-503", false);
    let mut client = gateway.connect();
    client.write(post("openai/chat/completions", headers, &body).as_bytes());
    eventually("the first try", || {
        (received(&simulator).len() == 1).then_some(())
    });
    gateway.signal(libc::SIGTERM);
    assert_eq!(client.answer().status, 503);
    assert!(gateway.wait().success());
    assert_eq!(received(&simulator).len(), 1);
}

#[test]
fn settings_of_the_gateway_hold_unless_the_request_says_otherwise() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with(
            "[gateways.default]\nauthentication = false\nretry_max_attempts = 3\nretry_delay = 1\nretry_backoff = \"exponential\"\nretry_jitter = true",
        )
        .start();
    let path = "openai/chat/completions";
    for (headers, expected) in [
        ("", 3),
        ("cf-aig-max-attempts: 1\r\n", 1),
        ("cf-aig-max-attempts: 9\r\n", 5),
    ] {
        let (asked, _) = counted(&simulator, || {
            gateway.send(&post(path, headers, &chat("m+sim-status-500", false)))
        });
        assert_eq!(asked, expected, "{headers}");
    }
    // An entry's own configuration stands above its headers, and these above the request's.
    let mut one = entry("m+sim-status-500", false);
    one["config"] = json!({"maxAttempts": 2, "retryDelay": 1});
    one["headers"] = json!({"cf-aig-max-attempts": 4});
    let ask = |one: &Value| {
        counted(&simulator, || {
            gateway.send(&universal("cf-aig-max-attempts: 5\r\n", one))
        })
        .0
    };
    assert_eq!(ask(&one), 2);
    one["config"] = json!({});
    assert_eq!(ask(&one), 4);
}

#[test]
fn universal_bodies_are_read_strictly_and_told_by_entry() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for (body, code, told) in [
        ("{", 2002, "the body"),
        ("[]", 2002, "no entry"),
        (r#"[{"provider":"openai"}]"#, 2002, "entry 0: endpoint"),
        (r#"[{"provider":"nobody","endpoint":"x"}]"#, 2008, "entry 0"),
        (
            r#"{"provider":"compat","endpoint":"models"}"#,
            2008,
            "models",
        ),
    ] {
        let answer = gateway.send(&post("", "", body));
        assert_eq!((answer.status, answer.code()), (400, code), "{body}");
        let description = answer.json()["description"].to_string();
        assert!(description.contains(told), "{body}: {description}");
    }
    let (asked, alone) = counted(&simulator, || {
        gateway.send(&universal("", &entry("good", false)))
    });
    assert_eq!((asked, alone.status, step(&alone)), (1, 200, "0"));
    let mut upper = entry("good", false);
    upper["provider"] = json!("OpenAI");
    upper["headers"] = json!({"X-Mine": 7, "Authorization": "Bearer CF_TEMP_TOKEN"});
    upper["authorization"] = json!("Bearer sk-mine");
    assert_eq!(
        gateway.send(&universal("x-outer: 1\r\n", &upper)).status,
        200
    );
    let last = received(&simulator).pop().expect("a request");
    let header = |name: &str| crate::harness::sent_header(&last, name);
    assert_eq!(header("x-mine"), Some("7"));
    assert_eq!(header("authorization"), Some("Bearer sk-mine"));
    assert_eq!(
        (header("x-outer"), header("cf-aig-max-attempts")),
        (None, None)
    );
    let compat = json!([{
        "provider": "compat", "endpoint": "chat/completions",
        "query": {"model": "anthropic/claude-m", "messages": [{"role": "user", "content": "hi"}]},
    }]);
    let answer = gateway.send(&universal("", &compat));
    assert_eq!(answer.header("cf-aig-provider"), Some("anthropic"));
    assert_eq!(answer.json()["object"], "chat.completion");
}

/// The log entries once there are so many.
fn entries(gateway: &Gateway, count: usize) -> Vec<Value> {
    let path = "/accounts/acc/ai-gateway/gateways/default/logs?per_page=50";
    let found = eventually("the log entries", || {
        let answer = gateway.call(TOKEN, "GET", path, "").json();
        let found = answer["result"].as_array()?.clone();
        (found.len() == count).then_some(found)
    });
    let one = |log: &Value| {
        let id = log["id"].as_str().expect("an id");
        let path = format!("/accounts/acc/ai-gateway/gateways/default/logs/{id}");
        gateway.call(TOKEN, "GET", &path, "").json()["result"].clone()
    };
    found.iter().map(one).collect()
}
