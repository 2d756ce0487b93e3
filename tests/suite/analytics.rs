//! Figures: exactly what was sent, however it ended, logged or not, over restarts and kills; and every way to ask for them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Client, Gateway, Setup, chat, eventually, post, received, simulator};

const TOKEN: &str = "analytics-test-token-0123456789-0123456";
const ANALYTICS: &str = "/accounts/acc/ai-gateway/analytics";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs";
/// Dollars for a token in and out, as whole pico-dollars.
const RATES: (u64, u64) = (150_000, 600_000);

/// What a driver sent and got.
#[derive(Default)]
struct Driven {
    requests: AtomicU64,
    errors: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
    logged: AtomicU64,
    logged_in: AtomicU64,
}

impl Driven {
    fn count(&self, usage: &Value, is_logged: bool) {
        let tokens = |name: &str| usage[name].as_u64().expect("tokens");
        let (input, output) = (tokens("prompt_tokens"), tokens("completion_tokens"));
        self.tokens_in.fetch_add(input, Ordering::Relaxed);
        self.tokens_out.fetch_add(output, Ordering::Relaxed);
        if is_logged {
            self.logged_in.fetch_add(input, Ordering::Relaxed);
        }
    }

    fn pico(&self) -> u64 {
        read(&self.tokens_in) * RATES.0 + read(&self.tokens_out) * RATES.1
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Sends requests of every kind, one after the other.
fn drive(gateway: &Gateway, driver: u64, rounds: u64, driven: &Driven) {
    for round in 0..rounds {
        let is_logged = !(driver + round).is_multiple_of(3);
        let user = ["ada", "bob", "cy"][(round % 3) as usize];
        let headers = format!(
            "cf-aig-collect-log: {is_logged}\r\nUser-Agent: driver/1.0\r\ncf-aig-metadata: {{\"user_id\":\"{user}\",\"round\":{}}}\r\n",
            round % 2
        );
        driven.requests.fetch_add(1, Ordering::Relaxed);
        driven
            .logged
            .fetch_add(u64::from(is_logged), Ordering::Relaxed);
        match round % 4 {
            0 => {
                let answer = ask(gateway, &headers, false);
                assert_eq!(answer.status, 200, "{}", answer.text());
                driven.count(&answer.json()["usage"], is_logged);
            }
            1 => {
                let text = ask(gateway, &headers, true).text();
                let usage = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .filter_map(|data| serde_json::from_str::<Value>(data).ok())
                    .find(|chunk| chunk["usage"].is_object());
                driven.count(&usage.expect("usage")["usage"], is_logged);
            }
            2 => {
                driven.errors.fetch_add(1, Ordering::Relaxed);
                let headers = format!("{headers}x-sim: status-503\r\n");
                assert_eq!(ask(gateway, &headers, false).status, 503);
            }
            _ => {
                driven.errors.fetch_add(1, Ordering::Relaxed);
                let headers = format!("{headers}x-sim: tokens-1000,tps-10\r\n");
                let mut client = gateway.connect();
                client.write(request(&headers, true).as_bytes());
                client.read_until("data: ");
            }
        }
    }
}

fn request(headers: &str, stream: bool) -> String {
    let mut body = json!({
        "model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": "hi"}],
    });
    if stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    post("openai/chat/completions", headers, &body.to_string())
}

fn ask(gateway: &Gateway, headers: &str, stream: bool) -> crate::harness::Answer {
    gateway.send(&request(headers, stream))
}

fn start(setup: Setup) -> Gateway {
    setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start()
}

/// The result of a question.
fn figures(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.call(TOKEN, "GET", &format!("{ANALYTICS}/{path}"), "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["result"].clone()
}

const METRICS: &str = "metrics=requests,errors,tokens_in,tokens_out,cost,unpriced,active_users";

/// The totals, once so many requests are in them: the last of them are counted as their connections end.
fn totals(gateway: &Gateway, requests: u64) -> Value {
    eventually("every request in the figures", || {
        let totals = figures(gateway, &format!("groups?{METRICS}"))["totals"].clone();
        (totals["requests"] == requests).then_some(totals)
    })
}

fn check(gateway: &Gateway, driven: &Driven) {
    let told = totals(gateway, read(&driven.requests));
    let expected = json!({
        "requests": read(&driven.requests),
        "errors": read(&driven.errors),
        "tokens_in": read(&driven.tokens_in),
        "tokens_out": read(&driven.tokens_out),
        "cost": driven.pico() as f64 / 1e12,
        "unpriced": 0,
        "active_users": 3,
    });
    assert_eq!(told, expected);
}

#[test]
fn figures_logs_metrics_and_the_provider_agree_to_the_token() {
    let simulator = simulator();
    let setup = || Setup::over(&simulator).with("[data]\nthreads = 2");
    let gateway = start(setup());
    let driven = Driven::default();
    let rounds = 24;
    std::thread::scope(|scope| {
        for driver in 0..4 {
            let (gateway, driven) = (&gateway, &driven);
            scope.spawn(move || drive(gateway, driver, rounds, driven));
        }
    });
    let sent = read(&driven.requests);
    assert_eq!(received(&simulator).len() as u64, sent);
    check(&gateway, &driven);

    // The metrics of this start.
    let page = gateway.manage("/metrics").text();
    let series = |name: &str| -> f64 {
        let begins = format!("ringgate_{name}{{");
        let lines = page.lines().filter(|line| line.starts_with(&begins));
        lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .expect("a value")
                    .parse::<f64>()
                    .expect("a number")
            })
            .sum()
    };
    assert_eq!(series("requests_total"), sent as f64);
    assert_eq!(
        series("request_input_tokens_total"),
        read(&driven.tokens_in) as f64
    );
    assert_eq!(
        gateway.metric("output_tokens_total"),
        read(&driven.tokens_out)
    );
    assert_eq!(gateway.metric("upstream_seconds_count"), sent);
    assert_eq!(gateway.metric("connect_seconds_count"), sent);
    let failed = page.lines().filter(|line| {
        line.starts_with("ringgate_requests_total{") && line.contains("status_class=\"5xx\"")
    });
    let failed: Vec<&str> = failed.collect();
    assert!(
        failed.len() == 1 && failed[0].ends_with(&format!(" {}", sent / 4)),
        "{failed:?}"
    );

    // The log entries, of the requests that wanted one.
    let listed = |page: u64| {
        let path = format!("{LOGS}?per_page=50&page={page}");
        gateway.call(TOKEN, "GET", &path, "").json()
    };
    eventually("every entry", || {
        let total = &listed(1)["result_info"]["total_count"];
        (*total == read(&driven.logged)).then_some(())
    });
    let pages = 1..=read(&driven.logged).div_ceil(50);
    let entries = pages.flat_map(|page| listed(page)["result"].as_array().expect("a list").clone());
    let logged: u64 = entries
        .filter_map(|entry| entry["tokens_in"].as_u64())
        .sum();
    assert_eq!(logged, read(&driven.logged_in));

    // A clean end loses nothing, and neither does a kill once the figures were asked for.
    let folder = gateway.end(libc::SIGTERM);
    let gateway = setup()
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder);
    check(&gateway, &driven);
    drive(&gateway, 1, 8, &driven);
    check(&gateway, &driven);
    let folder = gateway.end(libc::SIGKILL);
    let gateway = setup()
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder);
    check(&gateway, &driven);

    // Every way to tell them apart adds up to the same.
    for (by, count) in [
        ("metadata.user_id", 3),
        ("gateway,provider", 1),
        ("status_code", 2),
        ("user_agent", 1),
        ("metadata.user_id,metadata.round", 6),
    ] {
        let told = figures(&gateway, &format!("groups?group_by={by}&{METRICS}"));
        let series = told["series"].as_array().expect("series");
        assert_eq!(series.len(), count, "{by}: {told}");
        let sum: u64 = series
            .iter()
            .map(|group| group["totals"]["tokens_in"].as_u64().expect("a number"))
            .sum();
        assert_eq!(sum, read(&driven.tokens_in), "{by}");
    }
    let told = figures(
        &gateway,
        "timeseries?interval=1m&metrics=requests&group_by=status_code",
    );
    let points = told["series"]
        .as_array()
        .expect("series")
        .iter()
        .flat_map(|group| group["points"].as_array().expect("points").clone());
    let sum: u64 = points
        .map(|point| point[1].as_u64().expect("a number"))
        .sum();
    assert_eq!(sum, read(&driven.requests));
}

#[test]
fn figures_wait_in_memory_for_a_disk_that_takes_nothing() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    gateway.send(&chat("gpt-4o", false));
    totals(&gateway, 1);
    // No file may grow: as on a disk without room.
    let before = gateway.limit(libc::RLIMIT_FSIZE, 1);
    for _ in 0..10 {
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    }
    gateway
        .notices
        .wait_for("figures are not stored, and wait in memory");
    totals(&gateway, 11);
    assert!(gateway.metric("analytics_failures_total") > 0);
    gateway.limit(libc::RLIMIT_FSIZE, before);
    gateway.notices.wait_for("figures are stored again");
    totals(&gateway, 11);
    let folder = gateway.end(libc::SIGKILL);
    let again = Setup::over(&simulator).env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN);
    totals(&again.start_in(folder), 11);
}

#[test]
fn a_file_of_figures_that_is_none_keeps_nothing_from_being_served() {
    let simulator = simulator();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("data")).expect("made");
    let file = folder.path().join("data/analytics.db");
    std::fs::write(&file, "this is no database ".repeat(500)).expect("written");
    let setup = Setup::over(&simulator).env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN);
    let gateway = setup.start_in(folder);
    assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    gateway.notices.wait_for("figures are not stored");
    let answer = gateway.call(TOKEN, "GET", &format!("{ANALYTICS}/groups"), "");
    assert_eq!(answer.status, 503, "{}", answer.text());
    std::fs::remove_file(&file).expect("removed");
    totals(&gateway, 1);
}

#[test]
fn those_who_are_not_let_in_are_in_the_metrics_alone() {
    let simulator = simulator();
    let closed = "[gateways.default]\nauthentication = true";
    let gateway = start(Setup::over(&simulator).with(closed));
    for _ in 0..3 {
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 401);
    }
    let label =
        r#"requests_total{gateway="",provider="",model="",status_class="4xx",cached="false"}"#;
    eventually("three refusals", || {
        (gateway.metric(label) == 3).then_some(())
    });
    totals(&gateway, 0);
}

#[test]
fn the_share_of_the_gateway_is_proved_by_percentiles() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    for _ in 0..20 {
        ask(&gateway, "x-sim: ttft-50\r\n", false);
    }
    totals(&gateway, 20);
    let names = "overhead_p50,overhead_p99,connect_p50,upstream_p50,upstream_p99,duration_p50,duration_avg,ttft_p50";
    let told = figures(&gateway, &format!("groups?metrics={names}"));
    let of = |name: &str| {
        told["totals"][name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {told}"))
    };
    assert!(of("upstream_p50") > 45.0, "{told}");
    // In milliseconds: what the provider takes is none of the gateway's.
    assert!(of("overhead_p50") < of("upstream_p50") / 2.0, "{told}");
    assert!(of("overhead_p50") <= of("overhead_p99"), "{told}");
    assert!(of("duration_p50") > of("upstream_p50") * 0.9, "{told}");
    assert!(of("connect_p50") < of("upstream_p50"), "{told}");
}

#[test]
fn wrong_questions_say_what_is_wrong() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    for (question, named) in [
        ("groups?group_by=color", "color"),
        ("groups?group_by=gateway,provider,model,route", "at most 3"),
        ("groups?metrics=happiness", "happiness"),
        ("groups?order_by=model", "no metric"),
        ("groups?status=oops", "oops"),
        (
            "groups?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
            "before query.until",
        ),
        ("groups?since=yesterday", "must be a time"),
        ("timeseries?interval=2m", "must be one of"),
        (
            "timeseries?interval=1m&since=2026-01-01T00:00:00Z&until=2026-06-01T00:00:00Z&limit=1000",
            "too many",
        ),
    ] {
        let answer = gateway.call(TOKEN, "GET", &format!("{ANALYTICS}/{question}"), "");
        assert_eq!(answer.status, 400, "{question}: {}", answer.text());
        assert!(
            answer.text().contains(named),
            "{question}: {}",
            answer.text()
        );
    }
}

#[test]
fn users_and_their_sessions_are_told() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    for (user, count) in [("ada", 3), ("b/ob", 1)] {
        for _ in 0..count {
            let headers = format!("cf-aig-metadata: {{\"user_id\":\"{user}\"}}\r\n");
            assert_eq!(ask(&gateway, &headers, false).status, 200);
        }
    }
    gateway.send(&chat("gpt-4o-mini", false));
    totals(&gateway, 5);
    let told = figures(&gateway, "users");
    let summary = &told["summary"];
    assert_eq!(summary["active_users"], 2, "{told}");
    assert_eq!(summary["identity_coverage"], 0.8);
    assert_eq!(told["users"][0]["user"], "ada");
    assert_eq!(told["users"][0]["requests"], 3);
    assert_eq!(told["users"][0]["top_model"], "gpt-4o-mini");
    let bob = figures(&gateway, "users/b%2Fob");
    assert_eq!(
        (&bob["requests"], &bob["active_days"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(bob["sessions"][0]["requests"], 1, "{bob}");
    let nobody = gateway.call(TOKEN, "GET", &format!("{ANALYTICS}/users/dan"), "");
    assert_eq!(nobody.status, 404, "{}", nobody.text());
}

#[test]
fn graphql_answers_as_cloudflares_does() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "", false).status, 200);
    }
    assert_eq!(ask(&gateway, "x-sim: status-500\r\n", false).status, 500);
    let rows = eventually("every entry", || {
        let listed = gateway.call(TOKEN, "GET", LOGS, "").json();
        (listed["result_info"]["total_count"] == 4).then_some(4)
    });
    let tokens = totals(&gateway, 4)["tokens_in"].clone();
    let query = r#"query Q($account: string!, $since: Time) {
        viewer { accounts(filter: {accountTag: $account}) {
            all: aiGatewayRequestsAdaptiveGroups(limit: 10, filter: {datetime_geq: $since, gateway: "default"}, orderBy: [count_DESC]) {
                count sum { tokensIn erroredRequests } dimensions { statusCode provider date }
            }
            aiGatewayErrorsAdaptiveGroups(limit: 10) { count dimensions { model } }
            aiGatewayCacheAdaptiveGroups(limit: 10) { count dimensions { cacheStatus } }
            aiGatewaySizeAdaptiveGroups(limit: 10) { max { rows } dimensions { gateway } }
        } }
    }"#;
    let ask = |query: &str| {
        let variables = json!({"account": "acc", "since": "2020-01-01T00:00:00Z"});
        let body = json!({"query": query, "variables": variables}).to_string();
        let answer = gateway.call(TOKEN, "POST", "/graphql", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let told = ask(query);
    assert_eq!(told["errors"], Value::Null, "{told}");
    let account = &told["data"]["viewer"]["accounts"][0];
    let all = account["all"].as_array().expect("groups");
    assert_eq!(
        (all[0]["count"].clone(), all[1]["count"].clone()),
        (json!(3), json!(1)),
        "{told}"
    );
    assert_eq!(
        all[0]["sum"],
        json!({"tokensIn": tokens, "erroredRequests": 0})
    );
    assert_eq!(all[1]["dimensions"]["statusCode"], 500);
    assert_eq!(account["aiGatewayErrorsAdaptiveGroups"][0]["count"], 1);
    assert_eq!(
        account["aiGatewayCacheAdaptiveGroups"][0],
        json!({"count": 4, "dimensions": {"cacheStatus": "miss"}})
    );
    assert_eq!(
        account["aiGatewaySizeAdaptiveGroups"][0],
        json!({"max": {"rows": rows}, "dimensions": {"gateway": "default"}})
    );
    let told = ask("{ viewer { accounts { httpRequests1mGroups { count } } } }");
    assert_eq!(told["data"], Value::Null);
    assert_eq!(
        told["errors"][0]["message"],
        "unknown field \"httpRequests1mGroups\""
    );
    // Anything that is no query is told so and harms nothing.
    let mut client = Client::connect(gateway.management);
    client.write(crate::harness::call(TOKEN, "POST", "/graphql", "not JSON").as_bytes());
    assert_eq!(
        client.answer().json()["errors"][0]["message"],
        "the body needs a query"
    );
}
