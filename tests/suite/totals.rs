//! What clients saw, what the provider sent, what the logs say and what the metrics say is the same, to the byte and to the
//! pico-dollar: with many clients at once, with streams that are left and that break, and over restarts.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::{Gateway, Setup, eventually, post, received, simulator};

const TOKEN: &str = "totals-test-token-0123456789-0123456789";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs";
const CLIENTS: u64 = 6;
const EACH: u64 = 20;
const RUNS: u64 = 3;

/// Sums of one side.
#[derive(Debug, Default, Clone, PartialEq)]
struct Sums {
    /// Requests by their status and how they ended.
    ended: HashMap<(u16, String), u64>,
    /// Body bytes of answers that came whole.
    whole_bytes: u64,
    tokens_in: u64,
    tokens_out: u64,
}

impl Sums {
    fn count(&mut self, status: u16, end: &str) {
        *self.ended.entry((status, end.to_owned())).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (key, count) in &other.ended {
            *self.ended.entry(key.clone()).or_default() += count;
        }
        self.whole_bytes += other.whole_bytes;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
    }

    fn of_class(&self, class: u16) -> u64 {
        let counts = self.ended.iter();
        counts
            .filter(|((status, _), _)| status / 100 == class)
            .map(|(_, count)| count)
            .sum()
    }
}

/// One client's requests; what it saw.
fn client(gateway: &Gateway, number: u64) -> Sums {
    let mut sums = Sums::default();
    for index in 0..EACH {
        let (model, stream) = match (number + index) % 5 {
            0 => ("gpt-4o-mini", false),
            1 => ("gpt-4o-mini", true),
            2 => ("gpt-4o-mini+sim-status-500", false),
            3 => ("sim-hang-after-2", true),
            _ => ("sim-reset-after-3", true),
        };
        let body = json!({
            "model": model, "stream": stream, "stream_options": {"include_usage": stream},
            "messages": [{"role": "user", "content": format!("question {number} {index}")}],
        });
        let request = post("openai/chat/completions", "", &body.to_string());
        if model.contains("hang") {
            let mut client = gateway.connect();
            client.write(request.as_bytes());
            client.read_until("data: ");
            client.read_until("data: ");
            sums.count(200, "client_left");
            continue;
        }
        let answer = gateway.send(&request);
        if model.contains("reset") {
            assert!(!answer.whole);
            sums.count(200, "upstream_broke");
            continue;
        }
        assert!(answer.whole);
        sums.count(answer.status, "complete");
        sums.whole_bytes += answer.body.len() as u64;
        if answer.status == 200 {
            let usage = match stream {
                false => answer.json()["usage"].clone(),
                true => {
                    let text = answer.text();
                    let last = text
                        .lines()
                        .filter_map(|line| line.strip_prefix("data: {"))
                        .next_back();
                    let last = format!("{{{}", last.expect("an event"));
                    serde_json::from_str::<Value>(&last).expect("JSON")["usage"].clone()
                }
            };
            sums.tokens_in += usage["prompt_tokens"].as_u64().expect("tokens");
            sums.tokens_out += usage["completion_tokens"].as_u64().expect("tokens");
        }
    }
    sums
}

/// All entries.
fn entries(gateway: &Gateway, count: u64) -> Vec<Value> {
    let page = |number: u64| {
        let path = format!("{LOGS}?per_page=50&page={number}&order_by_direction=asc");
        let answer = gateway.call(TOKEN, "GET", &path, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    eventually("all entries", || {
        (page(1)["result_info"]["total_count"] == count).then_some(())
    });
    let mut all = Vec::new();
    for number in 1..=count.div_ceil(50) {
        all.extend(page(number)["result"].as_array().expect("a list").clone());
    }
    all
}

fn sums_of(entries: &[Value]) -> Sums {
    let mut sums = Sums::default();
    for entry in entries {
        let end = entry["end"].as_str().expect("an end");
        let status = entry["status_code"].as_u64().expect("a status") as u16;
        sums.count(status, end);
        if end == "complete" {
            sums.whole_bytes += entry["response_size"].as_u64().expect("a size");
        }
        sums.tokens_in += entry["tokens_in"].as_u64().unwrap_or(0);
        sums.tokens_out += entry["tokens_out"].as_u64().unwrap_or(0);
    }
    sums
}

fn pico(dollars: f64) -> i64 {
    (dollars * 1e12).round() as i64
}

#[test]
fn logs_metrics_and_the_providers_ledger_say_what_clients_saw() {
    let simulator = simulator();
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut all = Sums::default();
    let mut logged = Vec::new();
    for run in 1..=RUNS {
        let gateway = Setup::over(&simulator)
            .with("[data]\nthreads = 2")
            .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
            .start_in(folder);
        let seen = std::thread::scope(|scope| {
            let gateway = &gateway;
            let running: Vec<_> = (0..CLIENTS)
                .map(|number| scope.spawn(move || client(gateway, number)))
                .collect();
            let mut seen = Sums::default();
            for client in running {
                seen.add(&client.join().expect("no panic"));
            }
            seen
        });
        all.add(&seen);
        eventually("the last request", || {
            (gateway.metric("requests_running") == 0).then_some(())
        });
        let metric = |name: &str| gateway.metric(name);
        assert_eq!(metric("responses_total{status=\"2xx\"}"), seen.of_class(2));
        assert_eq!(metric("responses_total{status=\"5xx\"}"), seen.of_class(5));
        let incomplete: u64 = seen
            .ended
            .iter()
            .filter(|((_, end), _)| end != "complete")
            .map(|(_, count)| count)
            .sum();
        assert_eq!(metric("requests_incomplete_total"), incomplete);
        assert_eq!(metric("input_tokens_total"), seen.tokens_in);
        assert_eq!(metric("output_tokens_total"), seen.tokens_out);
        assert_eq!(
            metric("records_dropped_total") + metric("logs_dropped_total"),
            0
        );
        logged = entries(&gateway, run * CLIENTS * EACH);
        // The entries of this run are the newest.
        let own = &logged[logged.len() - (CLIENTS * EACH) as usize..];
        assert_eq!(sums_of(own), seen, "run {run}");
        let size = |name: &str| -> u64 {
            own.iter()
                .map(|entry| entry[name].as_u64().expect("a size"))
                .sum()
        };
        assert_eq!(metric("request_body_bytes_total"), size("request_size"));
        assert_eq!(metric("response_body_bytes_total"), size("response_size"));
        let page = gateway.manage("/metrics").text();
        let told = page
            .lines()
            .find_map(|line| line.strip_prefix("ringgate_cost_dollars_total "))
            .expect("the cost");
        let costs: i64 = own
            .iter()
            .filter_map(|entry| entry["cost"].as_f64())
            .map(pico)
            .sum();
        assert_eq!(pico(told.parse().expect("a number")), costs);
        assert!(costs > 0);
        folder = gateway.end(libc::SIGTERM);
    }
    let stored = sums_of(&logged);
    assert_eq!(stored, all);
    let ledger = received(&simulator);
    assert_eq!(ledger.len() as u64, RUNS * CLIENTS * EACH);
    let sent: u64 = ledger
        .iter()
        .filter(|request| {
            let body = request["body"].as_str().expect("a body");
            !body.contains("sim-hang") && !body.contains("sim-reset")
        })
        .map(|request| {
            request["bytes_sent"]
                .as_u64()
                .unwrap_or_else(|| panic!("{request}"))
        })
        .sum();
    assert_eq!(sent, all.whole_bytes);
}
