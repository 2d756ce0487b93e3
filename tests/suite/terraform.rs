//! What Cloudflare's Terraform provider sends, and that the read behind it differs in nothing from what was sent: a plan after
//! an apply is empty (spec: control plane 2.2).

use serde_json::{Map, Value, json};

use crate::harness::{Answer, Gateway, Setup, simulator};

const TOKEN: &str = "rg-terraform-0123456789-0123456789-abcde";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";

/// What the provider demands in every configuration.
const REQUIRED: [&str; 5] = [
    "cache_invalidate_on_update",
    "cache_ttl",
    "collect_logs",
    "rate_limiting_interval",
    "rate_limiting_limit",
];
/// What a configuration may leave out, and the provider then expects to be null.
const OPTIONAL: [&str; 14] = [
    "authentication",
    "dlp",
    "guardrails",
    "log_management",
    "log_management_strategy",
    "logpush",
    "logpush_public_key",
    "rate_limiting_technique",
    "retry_backoff",
    "retry_delay",
    "retry_max_attempts",
    "store_id",
    "stripe",
    "zdr",
];
/// What the provider takes from the answer where the configuration leaves it out.
const COMPUTED: [&str; 3] = ["otel", "spend_limits", "workers_ai_billing_mode"];

struct Terraform {
    gateway: Gateway,
}

impl Terraform {
    fn start() -> Self {
        let simulator = simulator();
        let setup = Setup::over(&simulator);
        Self {
            gateway: setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start(),
        }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        self.gateway.call(TOKEN, method, path, &body)
    }

    fn body(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    fn result(&self, method: &str, path: &str, body: &Value) -> Value {
        self.body(method, path, body)["result"].clone()
    }

    fn get(&self, path: &str) -> Value {
        self.result("GET", path, &Value::Null)
    }

    /// Sends a configuration and reads it back: no attribute may differ from it, in the answer or in the read.
    fn apply(&self, method: &str, path: &str, configuration: &Value) -> Value {
        let answered = self.result(method, path, configuration);
        let id = answered["id"].as_str().expect("an id");
        let read = self.get(&format!("{GATEWAYS}/{id}"));
        for state in [&answered, &read] {
            assert_eq!(
                plan(configuration, state),
                Vec::<String>::new(),
                "{configuration}"
            );
        }
        assert_eq!(answered, read);
        read
    }
}

/// The attributes in which a state differs from a configuration.
fn plan(configuration: &Value, state: &Value) -> Vec<String> {
    let wanted = |name: &str| configuration.get(name).unwrap_or(&Value::Null);
    let mut differing = Vec::new();
    for name in REQUIRED.iter().chain(&OPTIONAL) {
        if state.get(name) != Some(wanted(name)) {
            differing.push(format!("{name}: {} is {:?}", wanted(name), state.get(name)));
        }
    }
    for name in COMPUTED {
        let told = state.get(name);
        if told.is_none() || !wanted(name).is_null() && told != Some(wanted(name)) {
            differing.push(format!("{name}: {} is {told:?}", wanted(name)));
        }
    }
    differing
}

fn only_required() -> Value {
    json!({
        "cache_invalidate_on_update": false, "cache_ttl": 0, "collect_logs": true, "rate_limiting_interval": 0,
        "rate_limiting_limit": 0,
    })
}

/// A configuration with more members.
fn with(mut configuration: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("members") {
        configuration[name] = value.clone();
    }
    configuration
}

/// `null` for each attribute that may be left out.
fn nulls() -> Value {
    let names = OPTIONAL.iter().chain(&COMPUTED);
    Value::Object(
        names
            .map(|name| ((*name).to_owned(), Value::Null))
            .collect::<Map<_, _>>(),
    )
}

fn everything() -> Value {
    json!({
        "cache_invalidate_on_update": true, "cache_ttl": 300, "collect_logs": true, "rate_limiting_interval": 60,
        "rate_limiting_limit": 100,
        "authentication": false,
        "dlp": {"enabled": true, "policies": [{"id": "p", "action": "BLOCK", "check": ["RESPONSE", "REQUEST"], "enabled": true, "profiles": ["b", "a"]}]},
        "guardrails": {"prompt": {"S1": "FLAG", "P1": "BLOCK"}, "response": {"S13": "BLOCK"}},
        "log_management": 10_000,
        "log_management_strategy": "STOP_INSERTING",
        "logpush": true,
        "logpush_public_key": RSA_KEY,
        "rate_limiting_technique": "sliding",
        "retry_backoff": "exponential",
        "retry_delay": 5000,
        "retry_max_attempts": 5,
        "store_id": "0123456789abcdef0123456789abcdef",
        "stripe": {"authorization": "secret", "usage_events": [{"payload": "{\"b\":1,\"a\":2}"}]},
        "zdr": true,
        "otel": [
            {"url": "https://b.example/v1/traces", "headers": {"b": "1", "a": "2"}, "authorization": "s", "content_type": "protobuf"},
            {"url": "https://a.example/v1/traces", "headers": {}, "authorization": "s", "content_type": "json"},
        ],
        "spend_limits": {"enabled": true, "rules": [{
            "id": "12345678", "enabled": false, "limit": 0.25, "limitType": "cost", "window": 86_400, "technique": "fixed",
            "model": {"mode": "filter", "values": ["b", "a"]}, "provider": {"mode": "filter", "values": ["openai"]},
            "metadata": {"team": {"mode": "partition"}, "plan": {"mode": "filter", "values": ["free"]}},
        }]},
        "workers_ai_billing_mode": "postpaid",
    })
}

const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
";

#[test]
fn an_applied_gateway_plans_nothing_whatever_is_set() {
    let terraform = Terraform::start();
    let id = |id: &str| json!({"id": id});
    terraform.apply("POST", GATEWAYS, &with(only_required(), id("bare")));
    terraform.apply(
        "POST",
        GATEWAYS,
        &with(with(only_required(), nulls()), id("nulls")),
    );
    terraform.apply("POST", GATEWAYS, &with(everything(), id("all")));
    // One attribute more than the required ones, made, changed to null again, and left out at last.
    for name in OPTIONAL.iter().chain(&COMPUTED) {
        let one = format!("one-{}", name.replace('_', "-"));
        let path = format!("{GATEWAYS}/{one}");
        let set = with(only_required(), json!({*name: everything()[name]}));
        let before = terraform.apply("POST", GATEWAYS, &with(set.clone(), id(&one)));
        let again = terraform.apply("PUT", &path, &with(set, id(&one)));
        assert_eq!(again["created_at"], before["created_at"]);
        assert!(again["modified_at"].as_str() > before["modified_at"].as_str());
        let removed = with(only_required(), json!({*name: null, "id": one}));
        terraform.apply("PUT", &path, &removed);
        terraform.apply("PUT", &path, &with(only_required(), id(&one)));
    }
    // The whole of it is removed at once, and comes again.
    let all = format!("{GATEWAYS}/all");
    let bare = terraform.get(&format!("{GATEWAYS}/bare"));
    let reset = terraform.apply("PUT", &all, &with(only_required(), nulls()));
    for name in OPTIONAL.iter().chain(&COMPUTED) {
        assert_eq!(reset[name], bare[name], "{name}");
    }
    terraform.apply("PUT", &all, &everything());
}

#[test]
fn what_is_imported_can_be_applied_as_it_was_read() {
    let terraform = Terraform::start();
    terraform.apply("POST", GATEWAYS, &with(everything(), json!({"id": "all"})));
    terraform.apply(
        "POST",
        GATEWAYS,
        &with(only_required(), json!({"id": "bare"})),
    );
    for id in ["all", "bare"] {
        let path = format!("{GATEWAYS}/{id}");
        let read = terraform.get(&path);
        assert_eq!(read["id"], id);
        // The configuration that the state of an import is written down as.
        let names = REQUIRED.iter().chain(&OPTIONAL).chain(&COMPUTED);
        let written: Map<String, Value> = names
            .map(|name| ((*name).to_owned(), read[name].clone()))
            .collect();
        let applied = terraform.apply("PUT", &path, &Value::Object(written));
        for (name, value) in read.as_object().expect("an object") {
            if name != "modified_at" {
                assert_eq!(&applied[name], value, "{name}");
            }
        }
    }
}

#[test]
fn what_was_deleted_elsewhere_leaves_the_state() {
    let terraform = Terraform::start();
    terraform.apply(
        "POST",
        GATEWAYS,
        &with(only_required(), json!({"id": "gone"})),
    );
    let path = format!("{GATEWAYS}/gone");
    terraform.result("DELETE", &path, &Value::Null);
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", only_required()),
        ("DELETE", Value::Null),
    ] {
        let answer = terraform.call(method, &path, &body);
        let code = answer.json()["errors"][0]["code"].clone();
        assert_eq!((answer.status, code), (404, json!(7002)), "{method}");
    }
    terraform.apply(
        "POST",
        GATEWAYS,
        &with(only_required(), json!({"id": "gone"})),
    );
}

#[test]
fn enumerations_are_taken_in_their_exact_case_only() {
    let terraform = Terraform::start();
    for (name, right, wrong) in [
        ("rate_limiting_technique", "sliding", "Sliding"),
        ("log_management_strategy", "DELETE_OLDEST", "delete_oldest"),
        ("retry_backoff", "linear", "LINEAR"),
        ("workers_ai_billing_mode", "postpaid", "Postpaid"),
    ] {
        let set = |value: &str| {
            with(
                only_required(),
                json!({"id": name.replace('_', "-"), name: value}),
            )
        };
        let answer = terraform.call("POST", GATEWAYS, &set(wrong));
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["errors"][0]["code"]),
            (400, &json!(7001)),
            "{name}"
        );
        assert_eq!(body["errors"][0]["path"], json!(["body", name]));
        terraform.apply("POST", GATEWAYS, &set(right));
    }
}

#[test]
fn a_route_is_read_as_it_was_made_and_renamed_without_an_envelope() {
    let terraform = Terraform::start();
    terraform.apply("POST", GATEWAYS, &with(only_required(), json!({"id": "g"})));
    let routes = format!("{GATEWAYS}/g/routes");
    let elements = json!([
        {"id": "1", "type": "start", "outputs": {"next": {"elementId": "2"}}},
        {"id": "2", "type": "conditional", "properties": {"conditions": {"metadata.plan": {"$eq": "free"}}},
            "outputs": {"true": {"elementId": "3"}, "false": {"elementId": "4"}}},
        {"id": "3", "type": "rate", "properties": {"key": "metadata.user", "limit": 10, "limitType": "count", "window": 60},
            "outputs": {"success": {"elementId": "4"}, "fallback": {"elementId": "5"}}},
        {"id": "4", "type": "model", "properties": {"provider": "openai", "model": "gpt", "retries": 1, "timeout": 1000},
            "outputs": {"success": {"elementId": "5"}, "fallback": {"elementId": "5"}}},
        {"id": "5", "type": "end", "outputs": {}},
    ]);
    let made = terraform.result(
        "POST",
        &routes,
        &json!({"name": "first", "elements": elements}),
    );
    assert_eq!(made["elements"], elements);
    let one = format!("{routes}/{}", made["id"].as_str().expect("an id"));
    let read = terraform.get(&one);
    for name in [
        "id",
        "name",
        "gateway_id",
        "elements",
        "created_at",
        "version",
        "deployment",
    ] {
        assert_eq!(read[name], made[name], "{name}");
    }
    assert_eq!(read["version"]["active"], "true");
    let renamed = terraform.body("PATCH", &one, &json!({"name": "second"}));
    assert!(renamed.get("result").is_none(), "{renamed}");
    assert_eq!(
        (&renamed["success"], &renamed["route"]["name"]),
        (&json!(true), &json!("second"))
    );
    assert_eq!(renamed["route"]["elements"], elements);
    assert_eq!(terraform.get(&one)["name"], "second");
    terraform.result("DELETE", &one, &Value::Null);
    let answer = terraform.call("GET", &one, &Value::Null);
    assert_eq!(
        (answer.status, answer.json()["errors"][0]["code"].clone()),
        (404, json!(7002))
    );
}

#[test]
fn scopes_of_a_secret_come_in_alphabetical_order() {
    let terraform = Terraform::start();
    let stores = "/accounts/acc/secrets_store/stores";
    let store = terraform.get(stores)[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let secrets = format!("{stores}/{store}/secrets");
    let sent = json!([{"name": "s", "scopes": ["workers", "dex", "ai_gateway"], "value": "v", "comment": "Of Team A"}]);
    let made = terraform.result("POST", &secrets, &sent)[0].clone();
    let one = format!("{secrets}/{}", made["id"].as_str().expect("an id"));
    let sorted = json!(["ai_gateway", "dex", "workers"]);
    for state in [&made, &terraform.get(&one)] {
        assert_eq!(
            (&state["scopes"], &state["comment"]),
            (&sorted, &json!("Of Team A"))
        );
        assert_eq!(
            (&state["name"], &state["status"]),
            (&json!("s"), &json!("active"))
        );
    }
    let edited = terraform.result(
        "PATCH",
        &one,
        &json!({"scopes": ["workers", "access"], "comment": null, "value": "w"}),
    );
    assert_eq!(
        (&edited["scopes"], &edited["comment"]),
        (&json!(["access", "workers"]), &Value::Null)
    );
    assert_eq!(terraform.get(&one), edited);
}

/// The provider keeps `resources` as a text of JSON, which it decodes before it sends and encodes when it has read.
#[test]
fn resources_of_a_token_come_back_as_the_text_they_were() {
    let terraform = Terraform::start();
    for text in [
        r#"{"com.cloudflare.api.account.acc":"*"}"#,
        r#"{"com.cloudflare.api.account.acc":{"com.cloudflare.api.account.acc.ai-gateway.gateway.g":"*"}}"#,
        r#"{"com.cloudflare.api.account.*":"*"}"#,
    ] {
        let resources: Value = serde_json::from_str(text).expect("JSON");
        let sent = json!({
            "name": "t",
            "policies": [{"effect": "allow", "permission_groups": [{"id": "644535f4ed854494a59cb289d634b257"}], "resources": resources}],
            "condition": {"request_ip": {"in": ["10.0.0.0/8", "192.0.2.1"], "not_in": ["10.1.0.0/16"]}},
            "expires_on": "2090-01-01T00:00:00Z", "not_before": "2020-01-01T00:00:00Z",
        });
        let made = terraform.result("POST", "/accounts/acc/tokens", &sent);
        let one = format!(
            "/accounts/acc/tokens/{}",
            made["id"].as_str().expect("an id")
        );
        let mut change = sent.clone();
        change["status"] = json!("active");
        for state in [
            made,
            terraform.get(&one),
            terraform.result("PUT", &one, &change),
            terraform.get(&one),
        ] {
            let policy = &state["policies"][0];
            assert_eq!(policy["resources"].to_string(), text);
            assert_eq!(
                (
                    &policy["effect"],
                    policy["permission_groups"][0]["id"].as_str()
                ),
                (&json!("allow"), Some("644535f4ed854494a59cb289d634b257"))
            );
            for name in ["name", "condition", "expires_on", "not_before"] {
                assert_eq!(state[name], sent[name], "{name}");
            }
            assert_eq!(state["status"], "active");
        }
    }
}
