//! Every client's dialect against every provider, plain and streamed.

use serde_json::Value;

use super::dialects::{CLIENTS, Client};
use crate::credentials::{service_account, token_endpoint};
use crate::harness::{Answer, Gateway, Setup, eventually, post, received, simulator};

/// Every provider that serves conversations, and a model of each family that is spoken to in a way of its own.
const MODELS: [&str; 23] = [
    "openai/gpt-4o",
    "anthropic/claude-sonnet-4-5",
    "google-ai-studio/gemini-2.5-flash",
    "google-vertex-ai/google/gemini-2.5-flash",
    "google-vertex-ai/anthropic/claude-haiku-4-5@20251001",
    "google-vertex-ai/meta/llama-4",
    "aws-bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "aws-bedrock/us.amazon.nova-lite-v1:0",
    "azure-openai/res/gpt-4o",
    "workers-ai/@cf/meta/llama-3.1-8b-instruct",
    "mistral/mistral-small-latest",
    "cohere/command-a-03-2025",
    "groq/llama-3.3-70b-versatile",
    "deepseek/deepseek-chat",
    "perplexity/sonar",
    "grok/grok-4",
    "openrouter/meta-llama/llama-3.3-70b",
    "cerebras/llama-3.3-70b",
    "huggingface/meta-llama/Llama-3.3-70B-Instruct",
    "baseten/deepseek-ai/DeepSeek-V3",
    "fireworks/accounts/fireworks/models/llama",
    "alibaba/qwen-max",
    "custom-sim/any",
];

/// A gateway with the simulator behind every provider; each knows by its path whose quirks to show.
pub fn everything(simulator: &ringgate::sim::Running) -> Gateway {
    let address = simulator.addr();
    let mut config = String::from("[data]\nhouse_keys_unauthenticated = true\n");
    for model in MODELS.iter().chain(&["parallel/base", "minimax/m"]) {
        let provider = model.split('/').next().expect("a provider");
        let provider = if provider == "perplexity" {
            "perplexity-ai"
        } else {
            provider
        };
        let below = match provider {
            "aws-bedrock" | "azure-openai" | "workers-ai" => "",
            "custom-sim" => "/openai",
            other => other,
        };
        let slash = if below.is_empty() || below.starts_with('/') {
            ""
        } else {
            "/"
        };
        let table = format!("[providers.{provider}]");
        if config.contains(&table) {
            continue;
        }
        let key = match provider {
            "google-vertex-ai" => "TEST_GOOGLE",
            "aws-bedrock" => "TEST_AWS",
            _ => "TEST_KEY",
        };
        config.push_str(&format!(
            "{table}\nbase_url = \"http://{address}{slash}{below}\"\napi_key = \"env:{key}\"\n"
        ));
    }
    let (endpoint, _) = token_endpoint(3600, 200);
    let known = ringgate::sim::Options::default();
    let aws = serde_json::json!({
        "accessKeyId": known.access_key_id, "secretAccessKey": known.secret_access_key, "region": "eu-north-1",
    });
    Setup::default()
        .with(&config)
        .env("TEST_GOOGLE", &service_account(endpoint))
        .env("TEST_AWS", &aws.to_string())
        .env("TEST_KEY", "sk-house")
        .start()
}

/// With directives for the simulator.
fn directed(model: &str, directives: &str) -> String {
    format!("{model}+{directives}")
}

fn record(gateway: &Gateway, answer: &Answer) -> Value {
    let id = answer
        .header("cf-aig-request-id")
        .expect("an id")
        .to_owned();
    let line = gateway.access.wait_for(&id);
    serde_json::from_str(&line).expect("JSON")
}

/// Input, output and cached tokens as the client is told.
fn counted(client: Client, usage: &Value) -> (u64, u64, u64) {
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    match client {
        Client::Chat => (
            count(&usage["prompt_tokens"]),
            count(&usage["completion_tokens"]),
            count(&usage["prompt_tokens_details"]["cached_tokens"]),
        ),
        // Anthropic counts apart what was read from a cache or written to one.
        Client::Messages => {
            let cached = count(&usage["cache_read_input_tokens"]);
            let written = count(&usage["cache_creation_input_tokens"]);
            let input = count(&usage["input_tokens"]) + cached + written;
            (input, count(&usage["output_tokens"]), cached)
        }
        Client::Responses => (
            count(&usage["input_tokens"]),
            count(&usage["output_tokens"]),
            count(&usage["input_tokens_details"]["cached_tokens"]),
        ),
    }
}

#[test]
fn every_client_reaches_every_provider() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    let mut wrong = Vec::new();
    let mut sums = [0; 3];
    for model in MODELS {
        for client in CLIENTS {
            for stream in [false, true] {
                let asked = directed(model, "sim-tokens-7");
                let answer = gateway.send(&post(
                    client.path(),
                    "",
                    &client.body(&asked, stream, false),
                ));
                let case = format!("{client:?} {model} stream={stream}");
                if answer.status != 200 || !answer.whole {
                    wrong.push(format!("{case}: {} {}", answer.status, answer.text()));
                    continue;
                }
                let said = std::panic::catch_unwind(|| client.read(&answer, stream));
                let Ok(said) = said else {
                    wrong.push(format!("{case}: {}", answer.text()));
                    continue;
                };
                let record = record(&gateway, &answer);
                let logged = &record["usage"];
                let told = counted(client, &said.usage);
                let expected = (
                    logged["input"].as_u64().unwrap_or_default(),
                    logged["output"].as_u64().unwrap_or_default(),
                    logged["cached_input"].as_u64().unwrap_or_default(),
                );
                // The provider, the client, the operator's lines and their sums are told the same.
                let provided = received(&simulator).pop().expect("a request");
                let mut provided = ["input", "output", "cached"]
                    .map(|name| provided["usage"][name].as_u64().unwrap_or_default());
                // Cohere counts the template around a prompt among its tokens, which it does not bill.
                if model.starts_with("cohere/") {
                    provided[0] += 60;
                }
                for (sum, count) in sums.iter_mut().zip(provided) {
                    *sum += count;
                }
                if provided != <[u64; 3]>::from(expected) {
                    wrong.push(format!("{case}: provided {provided:?} logged {logged}"));
                }
                let stop_is_right = match client {
                    Client::Chat => said.stop == "stop",
                    Client::Messages => said.stop == "end_turn",
                    Client::Responses => said.stop == "completed",
                };
                if said.text.split_whitespace().count() < 3
                    || !stop_is_right
                    || told != expected
                    || told.1 < 7
                    || told.0 == 0
                    || record["end"] != "complete"
                {
                    wrong.push(format!(
                        "{case}: {said:?} logged {logged} {}",
                        record["end"]
                    ));
                }
                let (provider, name) = model.split_once('/').expect("both");
                let provider = if provider == "perplexity" {
                    "perplexity-ai"
                } else {
                    provider
                };
                assert_eq!(answer.header("cf-aig-provider"), Some(provider));
                assert_eq!(
                    answer.header("cf-aig-model"),
                    Some(&*directed(name, "sim-tokens-7"))
                );
                assert_eq!(
                    record["model"].as_str(),
                    Some(&*directed(name, "sim-tokens-7"))
                );
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    eventually("an idle gateway", || {
        (gateway.metric("requests_running") == 0).then_some(())
    });
    let counted = [
        "input_tokens_total",
        "output_tokens_total",
        "cached_input_tokens_total",
    ];
    assert_eq!(counted.map(|name| gateway.metric(name)), sums);
}

/// Those whose models take no tools say so.
const WITHOUT_TOOLS: [&str; 1] = ["perplexity"];

#[test]
fn tools_are_called_through_every_pair() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    let mut wrong = Vec::new();
    for model in MODELS {
        for client in CLIENTS {
            for stream in [false, true] {
                let asked = directed(model, "sim-tool");
                let answer =
                    gateway.send(&post(client.path(), "", &client.body(&asked, stream, true)));
                let case = format!("{client:?} {model} stream={stream}");
                if WITHOUT_TOOLS
                    .iter()
                    .any(|provider| model.starts_with(provider))
                {
                    continue;
                }
                let said = std::panic::catch_unwind(|| client.read(&answer, stream));
                let stop = match client {
                    Client::Chat => "tool_calls",
                    Client::Messages => "tool_use",
                    Client::Responses => "completed",
                };
                match said {
                    Ok(said)
                        if said.stop == stop
                            && said.calls.len() == 1
                            && said.calls[0].0 == "weather"
                            && said.calls[0].1["city"].is_string() => {}
                    Ok(said) => wrong.push(format!("{case}: {said:?}")),
                    Err(_) => wrong.push(format!("{case}: {} {}", answer.status, answer.text())),
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn errors_come_in_the_clients_dialect_with_their_status() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    let mut wrong = Vec::new();
    for model in MODELS {
        for client in CLIENTS {
            for stream in [false, true] {
                for status in [400, 401, 404, 429, 500, 503] {
                    let asked = directed(model, &format!("sim-status-{status}+retry-after-7"));
                    let body = client.body(&asked, stream, false);
                    let answer = gateway.send(&post(client.path(), "", &body));
                    let case = format!("{client:?} {model} stream={stream} {status}");
                    let told = std::panic::catch_unwind(|| client.error(&answer.json()));
                    if answer.status != status
                        || told.is_err()
                        || told.is_ok_and(|text| text.is_empty())
                    {
                        wrong.push(format!("{case}: {} {}", answer.status, answer.text()));
                    }
                    if status == 429 && answer.header("retry-after") != Some("7") {
                        wrong.push(format!("{case}: {}", answer.head));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_stream_that_breaks_ends_with_the_dialects_own_error_and_never_cleanly() {
    let simulator = simulator();
    let gateway = everything(&simulator);
    let mut wrong = Vec::new();
    for model in MODELS {
        for client in CLIENTS {
            for fault in [
                "sim-reset-after-4",
                "sim-close-after-4",
                "sim-truncated-chunk",
                "sim-error-in-stream",
            ] {
                let asked = directed(model, &format!("{fault}+tokens-20"));
                let answer =
                    gateway.send(&post(client.path(), "", &client.body(&asked, true, false)));
                let case = format!("{client:?} {model} {fault}");
                let record = record(&gateway, &answer);
                let translated = record["translated"] == true;
                let text = answer.text();
                let ended = match client {
                    Client::Chat => text.contains("[DONE]"),
                    Client::Messages => text.contains("message_stop"),
                    Client::Responses => text.contains("response.completed"),
                };
                // A relayed error event is the provider's own way to end a stream.
                let clean = answer.whole && (fault != "sim-error-in-stream" || translated);
                if answer.status != 200 || ended || clean || translated && !text.contains("error") {
                    wrong.push(format!(
                        "{case}: {} whole={} {text}",
                        answer.status, answer.whole
                    ));
                }
                if translated && record["end"] != "upstream_broke" {
                    wrong.push(format!("{case}: {}", record["end"]));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
