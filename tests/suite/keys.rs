//! Stored provider keys: the secrets store, provider configurations, who pays, what nobody ever sees, the master key.

use std::process::Command;

use ringgate::sim;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Setup, received, sent_header, simulator};

const TOKEN: &str = "rg-keys-test-token-0123456789-0123456789";
const STORES: &str = "secrets_store/stores";

/// A gateway that knows [`TOKEN`], with a gateway `g` of the API behind it that demands it.
fn start(setup: Setup) -> Gateway {
    let gateway = setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start();
    create_gateway(&gateway, "g", json!({}));
    gateway
}

fn create_gateway(gateway: &Gateway, id: &str, settings: Value) {
    let mut body = json!({"id": id, "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
        "rate_limiting_interval": 0, "rate_limiting_limit": 0});
    for (name, value) in settings.as_object().expect("settings") {
        body[name] = value.clone();
    }
    ok(&api(gateway, "POST", "ai-gateway/gateways", Some(&body)));
}

/// A management call below the account.
fn api(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Answer {
    api_as(gateway, TOKEN, method, path, body)
}

fn api_as(
    gateway: &Gateway,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let text = body.map(Value::to_string);
    raw(gateway, token, method, path, text.as_deref())
}

fn raw(gateway: &Gateway, token: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
    let body = body.unwrap_or_default();
    let mut client = Client::connect(gateway.management);
    let request = format!(
        "{method} /client/v4/accounts/acc/{path} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write(request.as_bytes());
    client.answer()
}

/// The result of a success.
fn ok(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["success"]),
        (200, &json!(true)),
        "{body}"
    );
    body["result"].clone()
}

/// Status, code and message of a refusal.
fn refusal(answer: &Answer) -> (u16, u64, String) {
    let body = answer.json();
    assert_eq!(
        (&body["success"], &body["result"]),
        (&json!(false), &Value::Null),
        "{body}"
    );
    let error = &body["errors"][0];
    let message = error["message"].as_str().expect("a message");
    (
        answer.status,
        error["code"].as_u64().expect("a code"),
        message.to_owned(),
    )
}

fn word(answer: &Answer) -> (u16, u64, String) {
    let (status, code, message) = refusal(answer);
    let word = message.split(':').next().expect("a word").to_owned();
    (status, code, word)
}

fn configs(gateway_id: &str) -> String {
    format!("ai-gateway/gateways/{gateway_id}/provider_configs")
}

/// Stores a key for gateway `g`.
fn store_key(gateway: &Gateway, provider: &str, alias: &str, default: bool, secret: &str) -> Value {
    let body = json!({"provider_slug": provider, "alias": alias, "default_config": default, "secret": secret});
    ok(&api(gateway, "POST", &configs("g"), Some(&body)))
}

/// A request through a gateway, and what the provider received of it.
fn send(gateway: &Gateway, simulator: &sim::Running, target: &str, headers: &[&str]) -> Value {
    let answer = try_send(gateway, target, headers);
    let requests = received(simulator);
    let sent = requests
        .last()
        .unwrap_or_else(|| panic!("nothing went up: {}", answer.text()));
    let path = target.split(['?']).next().expect("a path");
    let tail = path.rsplit('/').next().expect("a segment");
    assert!(
        sent["path"].as_str().expect("a path").ends_with(tail),
        "{sent} for {target}: {}",
        answer.text()
    );
    assert!(!sent.to_string().contains(TOKEN), "{sent}");
    sent.clone()
}

fn try_send(gateway: &Gateway, target: &str, headers: &[&str]) -> Answer {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    gateway.send(&format!(
        "GET /v1/acc/{target} HTTP/1.1\r\nHost: g\r\n{lines}\r\n"
    ))
}

fn own_store(gateway: &Gateway) -> String {
    let stores = ok(&api(gateway, "GET", STORES, None));
    assert_eq!(stores[0]["name"], "default_secrets_store");
    stores[0]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn the_secrets_store_takes_values_and_never_gives_them_back() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let store = own_store(&gateway);
    let shown = ok(&api(&gateway, "GET", &format!("{STORES}/{store}"), None));
    assert_eq!(shown["account_id"], "acc");
    assert!(shown["created"].is_string() && shown["modified"].is_string());
    let secrets = format!("{STORES}/{store}/secrets");
    let answer = api(
        &gateway,
        "POST",
        &secrets,
        Some(&json!([
            {"name": "one", "scopes": ["workers", "ai_gateway"], "value": "v-one", "comment": "Of Team A"},
            {"name": "two", "scopes": ["workers"], "value": "x".repeat(65_536)},
            {"name": "three", "scopes": ["dex", "dex"], "value": "v-three", "comment": ""},
        ])),
    );
    let created = ok(&answer);
    assert_eq!(answer.json()["result_info"]["total_count"], 3);
    assert_eq!(created[0]["scopes"], json!(["ai_gateway", "workers"]));
    assert_eq!(
        (&created[1]["comment"], &created[2]["comment"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!(created[2]["scopes"], json!(["dex"]));
    for secret in created.as_array().expect("a list") {
        assert_eq!(
            (&secret["status"], &secret["store_id"]),
            (&json!("active"), &json!(store))
        );
        assert!(secret.get("value").is_none(), "{secret}");
        let one = format!("{secrets}/{}", secret["id"].as_str().expect("an id"));
        assert_eq!(&ok(&api(&gateway, "GET", &one, None)), secret);
    }
    let quota = ok(&api(&gateway, "GET", "secrets_store/quota", None));
    assert_eq!(quota["secrets"]["usage"], 3);
    assert!(quota["secrets"]["quota"].is_number());
    let names = |query: &str| -> Vec<String> {
        let listed = ok(&api(&gateway, "GET", &format!("{secrets}?{query}"), None));
        let names = listed.as_array().expect("a list").iter();
        names
            .map(|secret| secret["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(""), ["one", "three", "two"]);
    assert_eq!(names("order=name&direction=desc"), ["two", "three", "one"]);
    assert_eq!(names("search=team%20a"), ["one"]);
    assert_eq!(names("search=T&order=status"), ["one", "three", "two"]);
    assert_eq!(names("scopes=dex&scopes=ai_gateway"), ["one", "three"]);
    assert_eq!(names("scopes[]=workers"), ["one", "two"]);
    assert_eq!(names("per_page=2&page=2"), ["two"]);
    assert!(names("per_page=2&page=3").is_empty());
    let one = format!("{secrets}/{}", created[0]["id"].as_str().expect("an id"));
    let edited = ok(&api(
        &gateway,
        "PATCH",
        &one,
        Some(&json!({"comment": null, "scopes": ["workers"]})),
    ));
    assert_eq!(
        (&edited["comment"], &edited["scopes"]),
        (&Value::Null, &json!(["workers"]))
    );
    assert!(edited["modified"].as_str() > created[0]["modified"].as_str());
    ok(&api(
        &gateway,
        "PATCH",
        &one,
        Some(&json!({"value": "v-new"})),
    ));
    let copy = json!({"name": "copy", "scopes": ["ai_gateway"]});
    let copied = ok(&api(
        &gateway,
        "POST",
        &format!("{one}/duplicate"),
        Some(&copy),
    ));
    assert_ne!(copied["id"], created[0]["id"]);
    // The copy holds the value: it pays.
    let body =
        json!({"provider_slug": "openai", "default_config": true, "secret_id": copied["id"]});
    ok(&api(&gateway, "POST", &configs("g"), Some(&body)));
    let token = format!("cf-aig-authorization: Bearer {TOKEN}");
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer v-new"));
    assert_eq!(
        ok(&api(&gateway, "DELETE", &one, None))["status"],
        "deleted"
    );
    let ids = json!([{"id": created[1]["id"]}, {"id": created[2]["id"]}]);
    let deleted = ok(&api(&gateway, "DELETE", &secrets, Some(&ids)));
    assert_eq!(deleted.as_array().map(Vec::len), Some(2));
    assert_eq!(names(""), ["copy"]);
}

#[test]
fn the_secrets_store_refuses_with_its_own_codes() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let store = own_store(&gateway);
    let secrets = format!("{STORES}/{store}/secrets");
    let kept = json!([{"name": "kept", "scopes": ["ai_gateway"], "value": "sk-kept"}]);
    let kept = ok(&api(&gateway, "POST", &secrets, Some(&kept)))[0]["id"].clone();
    let one = format!("{secrets}/{}", kept.as_str().expect("an id"));
    let body =
        json!({"provider_slug": "openai", "alias": "a", "default_config": true, "secret_id": kept});
    ok(&api(&gateway, "POST", &configs("g"), Some(&body)));
    let full = |changes: Value| {
        let mut body = json!({"name": "n", "scopes": ["workers"], "value": "v"});
        for (name, value) in changes.as_object().expect("changes") {
            body[name] = value.clone();
        }
        json!([body]).to_string()
    };
    let cases: Vec<(&str, String, Option<String>, (u16, u64, &str))> = vec![
        (
            "POST",
            secrets.clone(),
            None,
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            secrets.clone(),
            Some("{".to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            secrets.clone(),
            Some("{}".to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            secrets.clone(),
            Some("[]".to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            secrets.clone(),
            Some("[1]".to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"name": ""}))),
            (400, 1001, "secret_name_empty"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"name": null}))),
            (400, 1001, "secret_name_empty"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"name": "n".repeat(256)}))),
            (400, 1001, "secret_name_too_long"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"name": "kept"}))),
            (400, 1003, "secret_name_already_exists"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"scopes": []}))),
            (400, 1001, "secret_scopes_empty"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"scopes": ["all"]}))),
            (400, 1001, "secret_scope_invalid"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"value": ""}))),
            (400, 1001, "secret_value_empty"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"value": 1}))),
            (400, 1001, "secret_value_empty"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"value": "x".repeat(65_537)}))),
            (400, 1001, "secret_value_too_large"),
        ),
        (
            "POST",
            secrets.clone(),
            Some(full(json!({"comment": 1}))),
            (400, 1001, "secret_comment_invalid"),
        ),
        (
            "POST",
            format!("{STORES}/none/secrets"),
            Some(full(json!({}))),
            (404, 1001, "store_not_found"),
        ),
        (
            "GET",
            format!("{STORES}/none"),
            None,
            (404, 1001, "store_not_found"),
        ),
        (
            "GET",
            format!("{STORES}/none/secrets"),
            None,
            (404, 1001, "store_not_found"),
        ),
        (
            "GET",
            format!("{secrets}/none"),
            None,
            (404, 1001, "secret_not_found"),
        ),
        (
            "PATCH",
            format!("{secrets}/none"),
            Some("{}".to_owned()),
            (404, 1001, "secret_not_found"),
        ),
        ("PATCH", one.clone(), None, (400, 1001, "invalid_json_body")),
        (
            "PATCH",
            one.clone(),
            Some(r#"{"scopes":["workers"]}"#.to_owned()),
            (400, 1003, "secret_in_use"),
        ),
        (
            "PATCH",
            one.clone(),
            Some(r#"{"scopes":[]}"#.to_owned()),
            (400, 1001, "secret_scopes_empty"),
        ),
        (
            "PATCH",
            one.clone(),
            Some(r#"{"value":"a\r\nX: 1"}"#.to_owned()),
            (400, 1001, "secret_value_invalid"),
        ),
        (
            "POST",
            format!("{one}/duplicate"),
            Some("{}".to_owned()),
            (400, 1001, "secret_name_empty"),
        ),
        (
            "POST",
            format!("{one}/duplicate"),
            Some(r#"{"name":"kept","scopes":["dex"]}"#.to_owned()),
            (400, 1003, "secret_name_already_exists"),
        ),
        (
            "POST",
            format!("{secrets}/none/duplicate"),
            Some("{}".to_owned()),
            (404, 1001, "secret_not_found"),
        ),
        (
            "DELETE",
            format!("{secrets}/none"),
            None,
            (404, 1000, "secret_not_found"),
        ),
        ("DELETE", one.clone(), None, (400, 1003, "secret_in_use")),
        (
            "DELETE",
            secrets.clone(),
            None,
            (400, 1001, "invalid_json_body"),
        ),
        (
            "DELETE",
            secrets.clone(),
            Some("[]".to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "DELETE",
            secrets.clone(),
            Some(r#"["x"]"#.to_owned()),
            (400, 1001, "invalid_json_body"),
        ),
        (
            "DELETE",
            secrets.clone(),
            Some(r#"[{"id":"none"}]"#.to_owned()),
            (404, 1000, "secret_not_found"),
        ),
        (
            "POST",
            STORES.to_owned(),
            None,
            (400, 1001, "invalid_json_body"),
        ),
        (
            "POST",
            STORES.to_owned(),
            Some("{}".to_owned()),
            (400, 1001, "store_name_empty"),
        ),
        (
            "POST",
            STORES.to_owned(),
            Some(r#"{"name":"second"}"#.to_owned()),
            (400, 1003, "maximum_stores_exceeded"),
        ),
        (
            "DELETE",
            format!("{STORES}/none"),
            None,
            (404, 1000, "store_not_found"),
        ),
        (
            "DELETE",
            format!("{STORES}/{store}"),
            None,
            (400, 1003, "store_not_empty"),
        ),
    ];
    for (method, path, body, expected) in cases {
        let answer = raw(&gateway, TOKEN, method, &path, body.as_deref());
        let (status, code, word) = word(&answer);
        let shown = body
            .unwrap_or_default()
            .chars()
            .take(80)
            .collect::<String>();
        assert_eq!(
            (status, code, word.as_str()),
            expected,
            "{method} {path} {shown}"
        );
    }
    let in_use = refusal(&api(&gateway, "DELETE", &one, None)).2;
    assert!(in_use.contains("gateway g (openai, alias a)"), "{in_use}");
    for query in [
        "order=size",
        "direction=up",
        "scopes=all",
        "per_page=101",
        "page=0",
    ] {
        let answer = api(&gateway, "GET", &format!("{secrets}?{query}"), None);
        assert_eq!((answer.status, refusal(&answer).1), (400, 7001), "{query}");
    }
    // All or nothing.
    let half = json!([{"name": "first", "scopes": ["dex"], "value": "v"}, {"name": "kept", "scopes": ["dex"], "value": "v"}]);
    assert_eq!(api(&gateway, "POST", &secrets, Some(&half)).status, 400);
    let half = json!([{"id": kept}, {"id": "none"}]);
    assert_eq!(api(&gateway, "DELETE", &secrets, Some(&half)).status, 400);
    let listed = ok(&api(&gateway, "GET", &secrets, None));
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    // By force the store goes with all that hangs on it, and the next key makes another.
    let token = format!("cf-aig-authorization: Bearer {TOKEN}");
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-kept"));
    ok(&api(
        &gateway,
        "DELETE",
        &format!("{STORES}/{store}?force=true"),
        None,
    ));
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(sent_header(&sent, "authorization"), None);
    assert_eq!(ok(&api(&gateway, "GET", &configs("g"), None)), json!([]));
    store_key(&gateway, "openai", "a", true, "sk-again");
    assert_ne!(own_store(&gateway), store);
}

#[test]
fn provider_configurations_are_listed_rotated_and_deleted() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let body = json!({"provider_slug": "google", "default_config": true, "secret": "AIza-0123456789abcd", "rate_limit": 10, "rate_limit_period": 1.5});
    let answer = api(&gateway, "POST", &configs("g"), Some(&body));
    let made = ok(&answer);
    assert_eq!(answer.json()["messages"], json!([]));
    assert_eq!(
        made["provider_slug"], "google-ai-studio",
        "the alias's own name"
    );
    assert_eq!(
        (&made["alias"], &made["gateway_id"]),
        (&json!("default"), &json!("g"))
    );
    assert_eq!(made["secret_preview"], "AIz...abcd");
    assert_eq!(
        (&made["rate_limit"], &made["rate_limit_period"]),
        (&json!(10), &json!(1.5))
    );
    assert!(made["modified_at"].is_string() && made["id"].is_string());
    let secret = format!(
        "{STORES}/{}/secrets/{}",
        own_store(&gateway),
        made["secret_id"].as_str().expect("an id")
    );
    let stored = ok(&api(&gateway, "GET", &secret, None));
    assert_eq!(stored["name"], "g_google-ai-studio_default");
    assert_eq!(stored["scopes"], json!(["ai_gateway"]));
    let short = store_key(&gateway, "openai", "b", true, "short");
    assert_eq!(
        (
            &short["secret_preview"],
            &short["rate_limit"],
            &short["rate_limit_period"]
        ),
        (&json!("****"), &Value::Null, &json!(60))
    );
    // One default a provider: the later one takes over.
    store_key(&gateway, "openai", "a", true, "sk-a");
    let listed = ok(&api(&gateway, "GET", &configs("g"), None));
    let rows: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["alias"].clone(), row["default_config"] == true))
        .collect();
    assert_eq!(
        rows,
        [
            (json!("default"), true),
            (json!("a"), true),
            (json!("b"), false)
        ]
    );
    let second = api(
        &gateway,
        "GET",
        &format!("{}?per_page=2&page=2", configs("g")),
        None,
    );
    assert_eq!(second.json()["result_info"]["total_count"], 3);
    assert_eq!(ok(&second)[0]["alias"], "b");
    let one = format!("{}/{}", configs("g"), made["id"].as_str().expect("an id"));
    let rotated = ok(&api(
        &gateway,
        "PUT",
        &one,
        Some(&json!({"secret": "AIza-new-0123456789wxyz"})),
    ));
    assert_eq!(rotated["secret_preview"], "AIz...wxyz");
    assert_eq!(rotated["secret_id"], made["secret_id"]);
    assert!(rotated["modified_at"].as_str() > made["modified_at"].as_str());
    let deleted = api(&gateway, "DELETE", &one, None);
    assert_eq!(ok(&deleted)["id"], made["id"]);
    assert!(deleted.json()["messages"][0]["message"].is_string());
    assert_eq!(api(&gateway, "DELETE", &one, None).status, 404);
    // Its secret stays, and is used again by the next one of the same name.
    ok(&api(&gateway, "GET", &secret, None));
    let again = store_key(&gateway, "google-ai-studio", "default", true, "AIza-again");
    assert_eq!(again["secret_id"], made["secret_id"]);
    // A secret that the user keeps: its value is used, and overwritten where one is given.
    let secrets = format!("{STORES}/{}/secrets", own_store(&gateway));
    let body = json!([{"name": "mine", "scopes": ["ai_gateway"], "value": "sk-mine"}, {"name": "label", "scopes": ["workers"], "value": "x"}]);
    let made = ok(&api(&gateway, "POST", &secrets, Some(&body)));
    let (mine, label) = (made[0]["id"].clone(), made[1]["id"].clone());
    let by_id = |provider: &str, id: &Value, secret: Option<&str>| {
        let body = json!({"provider_slug": provider, "default_config": true, "secret_id": id, "secret": secret});
        api(&gateway, "POST", &configs("g"), Some(&body))
    };
    let token = format!("cf-aig-authorization: {TOKEN}");
    ok(&by_id("groq", &mine, None));
    let sent = send(&gateway, &simulator, "g/groq/models", &[&token]);
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-mine"));
    ok(&by_id("custom-sim", &mine, Some("sk-theirs")));
    for provider in ["groq", "custom-sim"] {
        let sent = send(
            &gateway,
            &simulator,
            &format!("g/{provider}/models"),
            &[&token],
        );
        assert_eq!(
            sent_header(&sent, "authorization"),
            Some("Bearer sk-theirs"),
            "{provider}"
        );
    }
    let refused = refusal(&by_id("mistral", &label, None));
    assert!(refused.2.contains("scope ai_gateway"), "{refused:?}");
    assert_eq!((refused.0, refused.1), (400, 7001));
    assert_eq!(refusal(&by_id("mistral", &json!("none"), None)).1, 7001);
}

#[test]
fn provider_configurations_are_refused_field_by_field() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    store_key(&gateway, "openai", "taken", false, "sk-taken");
    let generated = ok(&api(
        &gateway,
        "POST",
        "tokens",
        Some(&json!({"name": "t", "policies": [{"effect": "allow",
        "permission_groups": [{"id": "AI Gateway Run"}], "resources": {"com.cloudflare.api.account.acc": "*"}}]})),
    ));
    let generated = generated["value"].as_str().expect("a value").to_owned();
    let cases = [
        (json!({"secret": null}), "secret"),
        (json!({"secret": ""}), "secret"),
        (json!({"secret": 1}), "secret"),
        (json!({"secret": "sk\n"}), "secret"),
        (json!({"secret": "a\r\nX-Evil: 1"}), "secret"),
        (json!({"secret": "schlüssel"}), "secret"),
        (json!({"secret": " sk"}), "secret"),
        (json!({"secret": "x".repeat(65_537)}), "secret"),
        (json!({"secret": TOKEN}), "secret"),
        (json!({"secret": generated}), "secret"),
        (json!({"provider_slug": null}), "provider_slug"),
        (json!({"provider_slug": "nobody"}), "provider_slug"),
        (json!({"provider_slug": "custom-nobody"}), "provider_slug"),
        (json!({"provider_slug": "custom"}), "provider_slug"),
        (json!({"provider_slug": "OpenAI"}), "provider_slug"),
        (json!({"alias": "taken"}), "alias"),
        (json!({"alias": "a".repeat(65)}), "alias"),
        (json!({"alias": "a\nb"}), "alias"),
        (json!({"alias": 1}), "alias"),
        (json!({"default_config": null}), "default_config"),
        (json!({"default_config": "yes"}), "default_config"),
        (json!({"rate_limit": -1}), "rate_limit"),
        (json!({"rate_limit_period": 0}), "rate_limit_period"),
        (json!({"secret_id": "none"}), "secret_id"),
    ];
    for (changes, field) in cases {
        let mut body = json!({"provider_slug": "openai", "alias": "a", "default_config": false, "secret": "sk-1"});
        for (name, value) in changes.as_object().expect("changes") {
            body[name] = value.clone();
        }
        let answer = api(&gateway, "POST", &configs("g"), Some(&body));
        let (status, code, message) = refusal(&answer);
        assert_eq!((status, code), (400, 7001), "{changes}: {message}");
        assert_eq!(
            answer.json()["errors"][0]["path"],
            json!(["body", field]),
            "{message}"
        );
    }
    let body =
        json!({"provider_slug": "openai", "alias": "a", "default_config": false, "secret": "sk-1"});
    let answer = api(&gateway, "POST", &configs("none"), Some(&body));
    assert_eq!((answer.status, refusal(&answer).1), (404, 7002));
    for method in ["PUT", "DELETE"] {
        let body = (method == "PUT").then(|| json!({"secret": "sk-1"}));
        let answer = api(
            &gateway,
            method,
            &format!("{}/none", configs("g")),
            body.as_ref(),
        );
        assert_eq!((answer.status, refusal(&answer).1), (404, 7002));
    }
    let listed = ok(&api(&gateway, "GET", &configs("g"), None));
    let one = format!(
        "{}/{}",
        configs("g"),
        listed[0]["id"].as_str().expect("an id")
    );
    for body in [
        json!({}),
        json!({"secret": "a\nb"}),
        json!({"secret": TOKEN}),
    ] {
        let answer = api(&gateway, "PUT", &one, Some(&body));
        assert_eq!((answer.status, refusal(&answer).1), (400, 7001), "{body}");
    }
    // Names are joined by underscores, which stand in their parts as well: two configurations never share one by chance.
    create_gateway(&gateway, "g_openai", json!({}));
    store_key(&gateway, "openai", "groq_x", false, "sk-first");
    let body = json!({"provider_slug": "groq", "alias": "x", "default_config": true, "secret": "sk-second"});
    ok(&api(&gateway, "POST", &configs("g_openai"), Some(&body)));
    let alias = "cf-aig-byok-alias: groq_x";
    let sent = send(
        &gateway,
        &simulator,
        "g/openai/models",
        &[&format!("cf-aig-authorization: {TOKEN}"), alias],
    );
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-first"));
}

#[test]
fn permissions_decide_over_secrets_and_keys() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    create_gateway(&gateway, "h", json!({}));
    let token = |group: &str, gateway_id: Option<&str>| {
        let resource = match gateway_id {
            Some(id) => format!("com.cloudflare.api.account.acc.ai-gateway.gateway.{id}"),
            None => "com.cloudflare.api.account.acc".to_owned(),
        };
        let body = json!({"name": group, "policies": [{"effect": "allow", "permission_groups": [{"id": group}], "resources": {resource: "*"}}]});
        ok(&api(&gateway, "POST", "tokens", Some(&body)))["value"]
            .as_str()
            .expect("a value")
            .to_owned()
    };
    let secrets = format!("{STORES}/{}/secrets", own_store(&gateway));
    let secret = json!([{"name": "shared", "scopes": ["ai_gateway"], "value": "sk-shared"}]);
    let shared = ok(&api(&gateway, "POST", &secrets, Some(&secret)))[0]["id"].clone();
    let new_secret = json!([{"name": "n", "scopes": ["dex"], "value": "v"}]);
    let new_key = |alias: &str| json!({"provider_slug": "openai", "alias": alias, "default_config": false, "secret": "sk-1"});
    for (group, reads_store, writes_store, reads_keys, writes_keys) in [
        ("Secrets Store Read", true, false, true, false),
        ("Secrets Store Write", true, true, true, true),
        ("AI Gateway Read", false, false, true, false),
        ("AI Gateway Write", false, false, true, true),
        ("AI Gateway Run", false, false, false, false),
        ("Logs Write", false, false, false, false),
    ] {
        let value = token(group, None);
        let allowed = |answer: Answer, expected: bool| {
            let seen = answer.status != 403;
            assert_eq!(seen, expected, "{group}: {}", answer.text());
        };
        allowed(api_as(&gateway, &value, "GET", &secrets, None), reads_store);
        allowed(
            api_as(&gateway, &value, "GET", "secrets_store/quota", None),
            reads_store,
        );
        allowed(
            api_as(&gateway, &value, "POST", &secrets, Some(&new_secret)),
            writes_store,
        );
        allowed(
            api_as(&gateway, &value, "DELETE", &secrets, None),
            writes_store,
        );
        allowed(
            api_as(&gateway, &value, "GET", &configs("g"), None),
            reads_keys,
        );
        let body = new_key(&group.replace(' ', ""));
        allowed(
            api_as(&gateway, &value, "POST", &configs("g"), Some(&body)),
            writes_keys,
        );
    }
    // A token for one gateway stores keys there, and reaches nobody else's.
    let narrow = token("AI Gateway Write", Some("h"));
    let made = ok(&api_as(
        &gateway,
        &narrow,
        "POST",
        &configs("h"),
        Some(&new_key("own")),
    ));
    assert_eq!(
        api_as(
            &gateway,
            &narrow,
            "POST",
            &configs("g"),
            Some(&new_key("x"))
        )
        .status,
        403
    );
    let mut by_id = json!({"provider_slug": "openai", "alias": "theirs", "default_config": false, "secret_id": shared});
    assert_eq!(
        api_as(&gateway, &narrow, "POST", &configs("h"), Some(&by_id)).status,
        403
    );
    by_id["secret_id"] = made["secret_id"].clone();
    ok(&api_as(
        &gateway,
        &narrow,
        "POST",
        &configs("h"),
        Some(&by_id),
    ));
    // Once another gateway uses it too, it is not this one's alone.
    let one = format!("{}/{}", configs("h"), made["id"].as_str().expect("an id"));
    let rotation = json!({"secret": "sk-2"});
    ok(&api_as(&gateway, &narrow, "PUT", &one, Some(&rotation)));
    ok(&api(&gateway, "POST", &configs("g"), Some(&by_id)));
    assert_eq!(
        api_as(&gateway, &narrow, "PUT", &one, Some(&rotation)).status,
        403
    );
}

#[test]
fn stored_keys_pay_from_the_very_next_request_on() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let token = format!("cf-aig-authorization: Bearer {TOKEN}");
    let paid_by = |headers: &[&str]| {
        let mut lines = vec![token.as_str()];
        lines.extend(headers);
        let sent = send(&gateway, &simulator, "g/openai/models", &lines);
        sent_header(&sent, "authorization").map(str::to_owned)
    };
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    assert_eq!(paid_by(&[]), None);
    let named = store_key(&gateway, "openai", "team", false, "sk-team");
    assert_eq!(paid_by(&[]), None, "neither the default nor called so");
    assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer("sk-team"));
    let unknown = try_send(
        &gateway,
        "g/openai/models",
        &[&token, "cf-aig-byok-alias: Team"],
    );
    assert_eq!((unknown.status, unknown.code()), (400, 2005));
    assert!(unknown.text().contains(r#"\"Team\""#), "{}", unknown.text());
    store_key(&gateway, "openai", "default", false, "sk-default");
    assert_eq!(paid_by(&[]), bearer("sk-default"));
    store_key(&gateway, "openai", "chosen", true, "sk-chosen");
    assert_eq!(paid_by(&[]), bearer("sk-chosen"));
    assert_eq!(
        paid_by(&["cf-aig-byok-alias: default"]),
        bearer("sk-default")
    );
    assert_eq!(paid_by(&["Authorization: Bearer sk-own"]), bearer("sk-own"));
    let one = format!("{}/{}", configs("g"), named["id"].as_str().expect("an id"));
    let secret = format!(
        "{STORES}/{}/secrets/{}",
        own_store(&gateway),
        named["secret_id"].as_str().expect("an id")
    );
    for round in 0..50 {
        let key = format!("sk-{round}");
        let body = json!({"secret": key});
        ok(&api(&gateway, "PUT", &one, Some(&body)));
        assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer(&key));
        let key = format!("sk-patched-{round}");
        ok(&api(
            &gateway,
            "PATCH",
            &secret,
            Some(&json!({"value": key})),
        ));
        assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer(&key));
    }
    ok(&api(&gateway, "DELETE", &one, None));
    let gone = try_send(
        &gateway,
        "g/openai/models",
        &[&token, "cf-aig-byok-alias: team"],
    );
    assert_eq!((gone.status, gone.code()), (400, 2005));
    // Credentials of several values are kept, in one line, and are no plain key.
    let aws = store_key(
        &gateway,
        "bedrock",
        "default",
        true,
        "{\n \"accessKeyId\": \"AKIA0123456789\",\r\n \"secretAccessKey\": \"aws-very-secret\"\n}\n",
    );
    assert_eq!(aws["secret_preview"], "{\"a...et\"}");
    // With the gateway go its keys, and a new one of its name has none.
    ok(&api(&gateway, "DELETE", "ai-gateway/gateways/g", None));
    create_gateway(&gateway, "g", json!({}));
    assert_eq!(paid_by(&[]), None);
    assert_eq!(ok(&api(&gateway, "GET", &configs("g"), None)), json!([]));
}

#[test]
fn who_pays_follows_the_five_rules() {
    let simulator = simulator();
    let lines = "[providers.mistral]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_HOUSE_KEY\"\n[providers.elevenlabs]\nbase_url = \"http://{sim}\"\n[providers.deepgram]\nbase_url = \"http://{sim}\""
        .replace("{sim}", &simulator.addr().to_string());
    let gateway = start(
        Setup::over(&simulator)
            .with(&lines)
            .env("TEST_HOUSE_KEY", "house-1"),
    );
    for provider in [
        "openai",
        "anthropic",
        "google-ai-studio",
        "azure-openai",
        "custom-sim",
        "elevenlabs",
        "deepgram",
    ] {
        store_key(
            &gateway,
            provider,
            "default",
            true,
            &format!("stored-{provider}"),
        );
    }
    let own = format!("cf-aig-authorization: Bearer {TOKEN}");
    let in_bearer = format!("Authorization: Bearer {TOKEN}");
    let in_api_key = format!("x-api-key: {TOKEN}");
    let in_goog = format!("x-goog-api-key: {TOKEN}");
    let in_azure = format!("api-key: {TOKEN}");
    let in_token_scheme = format!("Authorization: Token {TOKEN}");
    let in_eleven = format!("xi-api-key: {TOKEN}");
    let openai = "g/openai/models";
    let anthropic = "g/anthropic/v1/models";
    let google = "g/google-ai-studio/v1beta/models";
    let query_token = format!("{google}?key={TOKEN}&alt=sse");
    let stray_token = format!("{openai}?key={TOKEN}&x=1&y={TOKEN}");
    let encoded_token = format!("{openai}?key={TOKEN}&z={}", TOKEN.replace('-', "%2D"));
    let cases: Vec<(&str, Vec<&str>, &str, Option<&str>)> = vec![
        // OpenAI SDK with its own key, and with a stored one.
        (
            openai,
            vec![&own, "Authorization: Bearer sk-own"],
            "authorization",
            Some("Bearer sk-own"),
        ),
        (
            openai,
            vec![&in_bearer],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        // Anthropic SDK with its own key, and with a stored one and a placeholder.
        (
            anthropic,
            vec![&own, "x-api-key: sk-ant"],
            "x-api-key",
            Some("sk-ant"),
        ),
        (
            anthropic,
            vec!["x-api-key: placeholder", &in_bearer],
            "x-api-key",
            Some("stored-anthropic"),
        ),
        (
            anthropic,
            vec!["x-api-key: placeholder", &in_bearer],
            "authorization",
            None,
        ),
        // Google's SDK, by header and by query; Claude Code; Claude Desktop; Codex.
        (
            google,
            vec![&in_goog],
            "x-goog-api-key",
            Some("stored-google-ai-studio"),
        ),
        (
            &query_token,
            vec![],
            "x-goog-api-key",
            Some("stored-google-ai-studio"),
        ),
        (
            anthropic,
            vec![&in_api_key, &own],
            "x-api-key",
            Some("stored-anthropic"),
        ),
        (
            anthropic,
            vec![&in_bearer],
            "x-api-key",
            Some("stored-anthropic"),
        ),
        (
            openai,
            vec![&in_bearer, "content-type: application/json"],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        // OpenCode and AI SDKs with an empty key.
        (
            anthropic,
            vec![&own, "x-api-key: "],
            "x-api-key",
            Some("stored-anthropic"),
        ),
        (
            openai,
            vec![&own, "Authorization: Bearer "],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        (
            openai,
            vec![&own, "Authorization: Bearer"],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        // Both places hold the token.
        (
            openai,
            vec![&own, &in_bearer],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        (
            "g/azure-openai/r/d/models",
            vec![&in_azure],
            "api-key",
            Some("stored-azure-openai"),
        ),
        // SDKs of other providers put what they are given behind their own scheme or header.
        (
            "g/deepgram/v1/models",
            vec![&in_token_scheme],
            "authorization",
            Some("Token stored-deepgram"),
        ),
        (
            "g/elevenlabs/v1/models",
            vec![&in_eleven],
            "xi-api-key",
            Some("stored-elevenlabs"),
        ),
        // A slot of another provider's opens the gateway as well, and does not go up.
        (openai, vec![&in_api_key], "x-api-key", None),
        (
            openai,
            vec![&in_api_key, "Authorization: Bearer sk-own"],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        // A token in the query goes up for no provider.
        (
            &stray_token,
            vec![],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        (
            &encoded_token,
            vec![],
            "authorization",
            Some("Bearer stored-openai"),
        ),
        // A placeholder in a slot is a key, as documented, unless the gateway prefers its own.
        (
            openai,
            vec![&own, "Authorization: Bearer placeholder"],
            "authorization",
            Some("Bearer placeholder"),
        ),
        // No stored key: the house pays.
        (
            "g/mistral/v1/models",
            vec![&own],
            "authorization",
            Some("Bearer house-1"),
        ),
        (
            "g/mistral/v1/models",
            vec![&in_bearer],
            "authorization",
            Some("Bearer house-1"),
        ),
    ];
    for (target, headers, name, expected) in &cases {
        let sent = send(&gateway, &simulator, target, headers);
        assert_eq!(sent_header(&sent, name), *expected, "{target} {headers:?}");
        assert!(!sent.to_string().contains("%2D0123456789"), "{sent}");
    }
    let sent = send(&gateway, &simulator, &query_token, &[]);
    assert_eq!(sent["query"], "alt=sse");
    let sent = send(&gateway, &simulator, &stray_token, &[]);
    assert_eq!(sent["query"], "x=1");
    // Nobody may pay in its place.
    let refused = try_send(
        &gateway,
        "g/mistral/v1/models",
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let refused = try_send(
        &gateway,
        "g/groq/models",
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let sent = send(
        &gateway,
        &simulator,
        openai,
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer stored-openai")
    );
    assert_ne!(
        try_send(
            &gateway,
            "g/workers-ai/@cf/m",
            &[&own, "cf-aig-no-wholesale: true"]
        )
        .status,
        400
    );
    create_gateway(&gateway, "byok", json!({"byok_only": true}));
    let refused = try_send(&gateway, "byok/mistral/v1/models", &[&own]);
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let sent = send(
        &gateway,
        &simulator,
        "byok/mistral/v1/models",
        &[&own, "Authorization: Bearer sk-own"],
    );
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-own"));
    // The gateway's own keys first: placeholders do not matter, and where it has none the request's key pays.
    create_gateway(&gateway, "first", json!({"prefer_stored_keys": true}));
    let body =
        json!({"provider_slug": "anthropic", "default_config": true, "secret": "stored-first"});
    ok(&api(&gateway, "POST", &configs("first"), Some(&body)));
    let sent = send(
        &gateway,
        &simulator,
        "first/anthropic/v1/models",
        &[&own, "x-api-key: placeholder", "Authorization: Bearer x"],
    );
    assert_eq!(sent_header(&sent, "x-api-key"), Some("stored-first"));
    assert_eq!(sent_header(&sent, "authorization"), None);
    let sent = send(
        &gateway,
        &simulator,
        "first/openai/models",
        &[&own, "Authorization: Bearer sk-own"],
    );
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-own"));
}

#[test]
fn declared_and_open_gateways_have_stored_keys_too() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    // `default` is declared in the file, and open.
    let body = json!({"provider_slug": "openai", "default_config": true, "secret": "sk-declared"});
    let answer = api(&gateway, "POST", &configs("default"), Some(&body));
    let made = ok(&answer);
    let warning = answer.json()["messages"][0]["message"].to_string();
    assert!(warning.contains("without a token"), "{warning}");
    let sent = send(&gateway, &simulator, "default/openai/models", &[]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-declared")
    );
    assert_eq!(
        ok(&api(&gateway, "GET", &configs("default"), None))[0]["id"],
        made["id"]
    );
    // The keys outlast a reload of the file.
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reload");
    let sent = send(&gateway, &simulator, "default/openai/models", &[]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-declared")
    );
}

#[test]
fn no_secret_is_seen_anywhere() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let values = [
        "very-secret-key-of-team-a",
        "very-secret-key-of-team-b",
        "very-secret-key-of-team-c",
        "very-secret-key-of-team-d",
        "very-secret-in-json",
    ];
    let secrets = format!("{STORES}/{}/secrets", own_store(&gateway));
    let mut seen = String::new();
    let mut call = |method: &str, path: &str, body: Option<Value>| {
        let answer = api(&gateway, method, path, body.as_ref());
        seen.push_str(&answer.head);
        seen.push_str(&answer.text());
        answer
    };
    let made = ok(&call(
        "POST",
        &secrets,
        Some(json!([{"name": "n", "scopes": ["ai_gateway"], "value": values[0]}])),
    ));
    let one = format!("{secrets}/{}", made[0]["id"].as_str().expect("an id"));
    ok(&call("PATCH", &one, Some(json!({"value": values[1]}))));
    ok(&call(
        "POST",
        &format!("{one}/duplicate"),
        Some(json!({"name": "m", "scopes": ["dex"]})),
    ));
    let key = ok(&call(
        "POST",
        &configs("g"),
        Some(json!({"provider_slug": "openai", "default_config": true, "secret": values[2]})),
    ));
    let config = format!("{}/{}", configs("g"), key["id"].as_str().expect("an id"));
    ok(&call("PUT", &config, Some(json!({"secret": values[3]}))));
    ok(&call(
        "POST",
        &configs("g"),
        Some(
            json!({"provider_slug": "bedrock", "default_config": true, "secret": format!("{{\"key\": \"{}\"}}", values[4])}),
        ),
    ));
    // Refusals repeat no value either.
    for body in [
        json!({"secret": format!("{}\n", values[2])}),
        json!({"secret": [values[2]]}),
    ] {
        assert_eq!(call("PUT", &config, Some(body)).status, 400);
    }
    assert_eq!(
        call(
            "POST",
            &secrets,
            Some(json!([{"name": values[0].len(), "value": values[0]}]))
        )
        .status,
        400
    );
    let token = format!("cf-aig-authorization: {TOKEN}");
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    let mut refusals = String::new();
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some(format!("Bearer {}", values[3]).as_str())
    );
    refusals.push_str(
        &try_send(
            &gateway,
            "g/bedrock/bedrock-runtime/us-east-1/model/m/converse",
            &[&token],
        )
        .text(),
    );
    refusals.push_str(
        &try_send(
            &gateway,
            "g/openai/models",
            &[&token, "cf-aig-byok-alias: none"],
        )
        .text(),
    );
    ok(&call("DELETE", &config, None));
    for path in [
        &secrets,
        &configs("g"),
        "audit_logs?per_page=1000",
        "logs/audit?limit=1000",
    ] {
        ok(&call("GET", path, None));
    }
    assert!(
        seen.contains("secrets_store.secret") && seen.contains("\"sealed "),
        "the audit log was read"
    );
    seen.push_str(&refusals);
    gateway.access.record("/v1/acc/g/openai/models");
    seen.push_str(&gateway.access.text());
    seen.push_str(&gateway.notices.text());
    let folder = gateway.folder.path().join("data");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        files.push(
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned(),
        );
        seen.push_str(&String::from_utf8_lossy(
            &std::fs::read(path).expect("readable"),
        ));
    }
    assert!(
        files.iter().any(|name| name == "ringgate.db-wal"),
        "{files:?}"
    );
    for value in values {
        assert!(!seen.contains(value), "{value}");
    }
    assert!(!seen.contains(TOKEN));
    // A needle that is known to be there is found by the same search.
    assert!(seen.contains("default_secrets_store"));
}

/// Runs a command on the data directory of a gateway, with its standard output and error.
fn command(
    folder: &std::path::Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .arg("--data-dir")
        .arg(folder)
        .envs(environment.iter().copied())
        .output()
        .expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Starts a server on a data directory that was used before.
fn start_on(
    folder: tempfile::TempDir,
    simulator: &sim::Running,
    environment: &[(&'static str, &str)],
) -> Gateway {
    let mut setup = Setup::over(simulator);
    for (name, value) in environment {
        setup = setup.env(name, value);
    }
    setup.start_in(folder)
}

#[test]
fn the_master_key_is_rotated_while_no_server_runs() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    store_key(&gateway, "openai", "default", true, "sk-stored");
    let data = gateway.folder.path().join("data");
    for operation in ["rotate", "show"] {
        let (done, text) = command(&data, &["key", operation], &[]);
        assert!(!done && text.contains("a server runs on"), "{text}");
    }
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    let folder = gateway.take_folder();
    let before = std::fs::read_to_string(data.join("master-key")).expect("a key");
    let (done, shown) = command(&data, &["key", "show"], &[]);
    assert!(done && shown.contains("seals 1 secrets"), "{shown}");
    let (done, text) = command(&data, &["key", "rotate"], &[]);
    assert!(done && text.contains("1 secrets are sealed anew"), "{text}");
    let after = std::fs::read_to_string(data.join("master-key")).expect("a key");
    assert_ne!(before, after);
    assert!(!data.join("master-key.next").exists());
    for key in [&before, &after] {
        assert!(!text.contains(key.trim()) && !shown.contains(key.trim()));
    }
    let token = format!("cf-aig-authorization: {TOKEN}");
    let mut gateway = start_on(folder, &simulator, &[]);
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-stored")
    );
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    // The key may come from the environment, and then the new one does too.
    std::fs::remove_file(data.join("master-key")).expect("removed");
    let (done, text) = command(&data, &["key", "rotate"], &[]);
    assert!(!done && text.contains("put the master key back"), "{text}");
    let new = "5a".repeat(32);
    let given = ("RINGGATE_MASTER_KEY", after.trim());
    let (done, text) = command(&data, &["key", "rotate"], &[given]);
    assert!(!done && text.contains("RINGGATE_NEW_MASTER_KEY"), "{text}");
    for _ in 0..2 {
        let (done, text) = command(
            &data,
            &["key", "rotate"],
            &[given, ("RINGGATE_NEW_MASTER_KEY", &new)],
        );
        assert!(done && text.contains("start with the new key"), "{text}");
    }
    let (done, text) = command(&data, &["key", "show"], &[given]);
    assert!(
        !done && text.contains("give the one that sealed them"),
        "{text}"
    );
    let gateway = start_on(folder, &simulator, &[("RINGGATE_MASTER_KEY", &new)]);
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-stored")
    );
    let (done, text) = command(&data.join("none"), &["key", "rotate"], &[]);
    assert!(!done && text.contains("is no data directory"), "{text}");
    assert!(!data.join("none").exists());
}

#[test]
fn a_renamed_account_keeps_its_stored_keys() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    let body = json!({"provider_slug": "openai", "default_config": true, "secret": "sk-stored"});
    ok(&api(&gateway, "POST", &configs("default"), Some(&body)));
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    let gateway = Setup::over(&simulator).account("renamed").start_in(folder);
    gateway.notices.wait_for("1 secrets are sealed for it");
    let answer = gateway.send("GET /v1/renamed/default/openai/models HTTP/1.1\r\nHost: g\r\n\r\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    assert_eq!(sent_header(sent, "authorization"), Some("Bearer sk-stored"));
}
