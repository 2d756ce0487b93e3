//! The secrets store and provider configurations, operation by operation.

use serde_json::{Value, json};

use super::{
    STORES, TOKEN, api, api_as, configs, create_gateway, ok, own_store, raw, refusal, send, start,
    store_key, word,
};
use crate::harness::{Answer, Setup, sent_header, simulator};

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
    // Method, path, body, and what comes: status, code, word. LONG is a text one too long.
    let table = r#"
        POST   SECRETS                                                                  400 1001 invalid_json_body
        POST   SECRETS {                                                                400 1001 invalid_json_body
        POST   SECRETS {}                                                               400 1001 invalid_json_body
        POST   SECRETS []                                                               400 1001 invalid_json_body
        POST   SECRETS [1]                                                              400 1001 invalid_json_body
        POST   SECRETS [{"name":"","scopes":["dex"],"value":"v"}]                       400 1001 secret_name_empty
        POST   SECRETS [{"scopes":["dex"],"value":"v"}]                                 400 1001 secret_name_empty
        POST   SECRETS [{"name":"LONG","scopes":["dex"],"value":"v"}]                   400 1001 secret_name_too_long
        POST   SECRETS [{"name":"kept","scopes":["dex"],"value":"v"}]                   400 1003 secret_name_already_exists
        POST   SECRETS [{"name":"n","scopes":[],"value":"v"}]                           400 1001 secret_scopes_empty
        POST   SECRETS [{"name":"n","value":"v"}]                                       400 1001 secret_scopes_empty
        POST   SECRETS [{"name":"n","scopes":["all"],"value":"v"}]                      400 1001 secret_scope_invalid
        POST   SECRETS [{"name":"n","scopes":"dex","value":"v"}]                        400 1001 secret_scope_invalid
        POST   SECRETS [{"name":"n","scopes":["dex"]}]                                  400 1001 secret_value_empty
        POST   SECRETS [{"name":"n","scopes":["dex"],"value":""}]                       400 1001 secret_value_empty
        POST   SECRETS [{"name":"n","scopes":["dex"],"value":1}]                        400 1001 secret_value_empty
        POST   SECRETS [{"name":"n","scopes":["dex"],"value":"LONG"}]                   400 1001 secret_value_too_large
        POST   SECRETS [{"name":"n","scopes":["dex"],"value":"v","comment":1}]          400 1001 secret_comment_invalid
        POST   STORES/none/secrets [{"name":"n","scopes":["dex"],"value":"v"}]          404 1001 store_not_found
        GET    STORES/none                                                              404 1001 store_not_found
        GET    STORES/none/secrets                                                      404 1001 store_not_found
        GET    SECRETS/none                                                             404 1001 secret_not_found
        PATCH  SECRETS/none {}                                                          404 1001 secret_not_found
        PATCH  ONE                                                                      400 1001 invalid_json_body
        PATCH  ONE {"scopes":["workers"]}                                               400 1003 secret_in_use
        PATCH  ONE {"scopes":[]}                                                        400 1001 secret_scopes_empty
        PATCH  ONE {"value":"a\r\nX:1"}                                                 400 1001 secret_value_invalid
        POST   ONE/duplicate                                                            400 1001 invalid_json_body
        POST   ONE/duplicate {}                                                         400 1001 secret_name_empty
        POST   ONE/duplicate {"name":"m"}                                               400 1001 secret_scopes_empty
        POST   ONE/duplicate {"name":"kept","scopes":["dex"]}                           400 1003 secret_name_already_exists
        POST   SECRETS/none/duplicate {}                                                404 1001 secret_not_found
        DELETE SECRETS/none                                                             404 1000 secret_not_found
        DELETE ONE                                                                      400 1003 secret_in_use
        DELETE SECRETS                                                                  400 1001 invalid_json_body
        DELETE SECRETS []                                                               400 1001 invalid_json_body
        DELETE SECRETS ["x"]                                                            400 1001 invalid_json_body
        DELETE SECRETS [{"id":"none"}]                                                  404 1000 secret_not_found
        POST   STORES                                                                   400 1001 invalid_json_body
        POST   STORES {}                                                                400 1001 store_name_empty
        POST   STORES {"name":"LONG"}                                                   400 1001 store_name_too_long
        POST   STORES {"name":"second"}                                                 400 1003 maximum_stores_exceeded
        DELETE STORES/none                                                              404 1000 store_not_found
        DELETE STORES/OWN                                                               400 1003 store_not_empty"#;
    for line in table.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (method, path) = (
            words.next().expect("a method"),
            words.next().expect("a path"),
        );
        let rest: Vec<&str> = words.collect();
        let (body, expected) = rest.split_at(rest.len() - 3);
        let path = path
            .replace("SECRETS", &secrets)
            .replace("STORES", STORES)
            .replace("ONE", &one)
            .replace("OWN", &store);
        let body = body.first().map(|body| {
            let long = if body.contains("\"value\":\"LONG") {
                65_537
            } else {
                256
            };
            body.replace("LONG", &"x".repeat(long))
        });
        let (status, code, word) = word(&raw(&gateway, TOKEN, method, &path, body.as_deref()));
        assert_eq!(
            format!("{status} {code} {word}"),
            expected.join(" "),
            "{line}"
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
