//! What answers cost: in log entries and in the metrics, exactly and alike.

use serde_json::{Value, json};

use crate::harness::{Setup, eventually, post, simulator};

const TOKEN: &str = "cost-test-token-0123456789-0123456789";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs?per_page=50";

/// Path, headers, model, streamed; dollars for a million tokens in and out.
type Case = (&'static str, &'static str, &'static str, bool, Rates);
type Rates = Option<(f64, f64)>;

#[test]
fn every_answer_is_priced_once_and_told_alike_in_logs_and_metrics() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    // A price that the operator sets for a built-in provider holds for the next request.
    let set = json!({
        "account_provider_id": "groq", "model": "my-", "model_rule": "starts-with",
        "cost_in": 0.000001, "cost_out": 0.000002,
    });
    let costs = "/accounts/acc/ai-gateway/custom-providers/costs";
    let made = gateway.call(TOKEN, "POST", costs, &set.to_string());
    assert_eq!(made.status, 200, "{}", made.text());
    let custom = "cf-aig-custom-cost: {\"per_token_in\":0.5,\"per_token_out\":0.25}\r\n";
    let cases: [Case; 9] = [
        (
            "openai/chat/completions",
            "",
            "gpt-4o-mini",
            false,
            Some((0.15, 0.6)),
        ),
        (
            "openai/responses",
            "",
            "gpt-4o-mini",
            true,
            Some((0.15, 0.6)),
        ),
        (
            "anthropic/v1/messages",
            "",
            "claude-sonnet-4-5",
            false,
            Some((3.0, 15.0)),
        ),
        (
            "anthropic/v1/messages",
            "",
            "claude-sonnet-4-5",
            true,
            Some((3.0, 15.0)),
        ),
        (
            "compat/chat/completions",
            "",
            "anthropic/claude-sonnet-4-5",
            false,
            Some((3.0, 15.0)),
        ),
        (
            "compat/messages",
            "",
            "google-ai-studio/gemini-2.5-flash",
            true,
            Some((0.3, 2.5)),
        ),
        (
            "groq/chat/completions",
            "",
            "my-llama",
            false,
            Some((1.0, 2.0)),
        ),
        (
            "openai/chat/completions",
            custom,
            "gpt-4o-mini",
            false,
            Some((500_000.0, 250_000.0)),
        ),
        ("openai/chat/completions", "", "no-such-model", false, None),
    ];
    for (path, headers, model, stream, _) in cases {
        let text = json!([{"role": "user", "content": "hi"}]);
        let body = match path.ends_with("responses") {
            true => json!({"model": model, "stream": stream, "input": "hi"}),
            false => json!({"model": model, "stream": stream, "max_tokens": 50, "messages": text}),
        };
        let mut body = body;
        if path == "compat/chat/completions" {
            body["seed"] = json!(7);
        }
        let answer = gateway.send(&post(path, headers, &body.to_string()));
        assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text());
    }
    let entries = eventually("every entry", || {
        let listed = gateway.call(TOKEN, "GET", LOGS, "").json()["result"].clone();
        let entries: Vec<Value> = listed.as_array().expect("a list").clone();
        (entries.len() == cases.len()).then_some(entries)
    });
    let mut sum = 0.0;
    // The newest comes first.
    for (entry, (path, headers, model, _, rates)) in entries.iter().rev().zip(cases) {
        let count = |name: &str| entry[name].as_f64().expect("a count");
        let expected = rates.map(|(input, output)| {
            (count("tokens_in") * input + count("tokens_out") * output) / 1e6
        });
        let told = entry["cost"].as_f64();
        assert_eq!(
            told.is_some(),
            expected.is_some(),
            "{path} {model}: {entry}"
        );
        if let (Some(told), Some(expected)) = (told, expected) {
            assert!(
                (told - expected).abs() < 1e-11,
                "{path} {model}: {told} for {expected}"
            );
            sum += told;
        }
        // What translation dropped and clamped is told where the request is looked up.
        assert_eq!(
            entry["changes"].is_string(),
            path.starts_with("compat/chat"),
            "{entry}"
        );
        assert_eq!(entry["custom_cost"], !headers.is_empty(), "{path}");
    }
    let page = gateway.manage("/metrics").text();
    let told = page
        .lines()
        .find_map(|line| line.strip_prefix("ringgate_cost_dollars_total "))
        .expect("the sum");
    let told: f64 = told.parse().expect("a number");
    assert!((told - sum).abs() < 1e-9, "{told} for {sum}");
    assert_eq!(gateway.metric("unpriced_answers_total"), 1);
}

#[test]
fn prices_of_the_file_stand_between_the_list_and_the_api() {
    let simulator = simulator();
    let priced = |dollars: u32| {
        format!(
            "[prices.groq.\"my-\"]\nmatch = \"starts-with\"\ninput = {dollars}\noutput = {dollars}"
        )
    };
    let setup = Setup::over(&simulator).with(&priced(3));
    let config = setup.config.clone();
    let gateway = setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start();
    let mut asked = 0;
    // Dollars for a million tokens, as the log entry of one more request tells.
    let mut rate = || {
        let body = json!({"model": "my-llama", "messages": [{"role": "user", "content": "hi"}]});
        let answer = gateway.send(&post("groq/chat/completions", "", &body.to_string()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        asked += 1;
        let entry = eventually("the entry", || {
            let listed = gateway.call(TOKEN, "GET", LOGS, "").json();
            let is_there = listed["result_info"]["total_count"] == asked;
            is_there.then(|| listed["result"][0].clone())
        });
        let tokens = entry["tokens_in"].as_f64().expect("tokens")
            + entry["tokens_out"].as_f64().expect("tokens");
        (entry["cost"].as_f64().expect("a cost") * 1e6 / tokens).round() as u32
    };
    assert_eq!(rate(), 3);
    // A changed file holds after a reload.
    gateway.reconfigure(&config.replace("= 3", "= 5"));
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reloaded");
    assert_eq!(rate(), 5);
    let set = json!({
        "account_provider_id": "groq", "model": "my-llama", "cost_in": 0.000007, "cost_out": 0.000007,
    });
    let costs = "/accounts/acc/ai-gateway/custom-providers/costs";
    let made = gateway.call(TOKEN, "POST", costs, &set.to_string());
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(rate(), 7);
}
