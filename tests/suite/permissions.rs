//! Who may do what, and how a call is refused: every operation of the description with every permission group, by rules
//! written here anew, and each row of the table of errors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Setup, call, chat, new_gateway, simulator};

const TOKEN: &str = "rg-permissions-0123456789-0123456789-abc";
const ALL: &str = "com.cloudflare.api.account.acc";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";
const STORES: &str = "/accounts/acc/secrets_store/stores";

/// Control plane 7.2.
const GROUPS: [&str; 19] = [
    "AI Gateway Read",
    "AI Gateway Write",
    "AI Gateway Run",
    "AI Gateway Metadata Read",
    "Workers AI Read",
    "Workers AI Write",
    "Secrets Store Read",
    "Secrets Store Write",
    "Account API Tokens Read",
    "Account API Tokens Write",
    "API Tokens Read",
    "API Tokens Write",
    "Logs Read",
    "Logs Write",
    "Account Analytics Read",
    "Account Settings Read",
    "Zero Trust Read",
    "Zero Trust Write",
    "Ringgate Admin",
];
const TOKENS_WRITE: [&str; 2] = ["Account API Tokens Write", "API Tokens Write"];
const TOKENS_READ: [&str; 2] = ["Account API Tokens Read", "API Tokens Read"];
const GATEWAY_READ: [&str; 3] = [
    "AI Gateway Read",
    "AI Gateway Write",
    "AI Gateway Metadata Read",
];

/// Who may call an operation.
#[derive(Debug, PartialEq, Eq)]
enum Rule {
    /// Whoever shows a token.
    Anyone,
    /// Nobody: there is one account.
    Nobody,
    /// Holders of one of these, and of `Ringgate Admin`.
    Holders(BTreeSet<&'static str>),
}

/// The rules of control plane 1.2, 2, 3, 5, 6, 7.2 and 13.
fn rule(method: &str, path: &str) -> Rule {
    let reads = method == "GET";
    let holders = |readers: &[&'static str], writers: &[&'static str]| {
        let more = if reads { readers } else { &[] };
        Rule::Holders(writers.iter().chain(more).copied().collect())
    };
    let below = path.strip_prefix("/accounts/{account_id}").unwrap_or(path);
    if path == "/accounts" || below.is_empty() {
        return match reads {
            // Whoever reads gateways must be able to learn the account that their paths name.
            true => holders(&["Account Settings Read"], &GATEWAY_READ),
            false => Rule::Nobody,
        };
    }
    if below.ends_with("/tokens/verify") {
        return Rule::Anyone;
    }
    if below.starts_with("/tokens") || below.starts_with("/user/tokens") {
        return holders(&TOKENS_READ, &TOKENS_WRITE);
    }
    if below.starts_with("/secrets_store/") {
        return holders(&["Secrets Store Read"], &["Secrets Store Write"]);
    }
    if below.starts_with("/audit_logs") || below.starts_with("/logs/audit") {
        return holders(&[], &[]);
    }
    if below == "/graphql" {
        return Rule::Holders(BTreeSet::from([
            "AI Gateway Read",
            "AI Gateway Write",
            "Account Analytics Read",
        ]));
    }
    assert!(
        below.starts_with("/ai-gateway/"),
        "a rule for {method} {path} is missing"
    );
    if below.contains("/provider_configs") {
        let readers = ["Secrets Store Read"].iter().chain(&GATEWAY_READ);
        let readers: Vec<&'static str> = readers.copied().collect();
        return holders(&readers, &["AI Gateway Write", "Secrets Store Write"]);
    }
    let bodies =
        below.contains("/logs/") && (below.ends_with("/request") || below.ends_with("/response"));
    match bodies {
        true => holders(&["AI Gateway Read"], &["AI Gateway Write"]),
        false => holders(&GATEWAY_READ, &["AI Gateway Write"]),
    }
}

impl Rule {
    fn admits(&self, group: Option<&str>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Nobody => false,
            Self::Holders(_) if group == Some("Ringgate Admin") => true,
            Self::Holders(groups) => group.is_some_and(|group| groups.contains(group)),
        }
    }
}

/// One connection to the management listener.
struct Manager(Client);

impl Manager {
    fn of(gateway: &Gateway) -> Self {
        Self(Client::connect(gateway.management))
    }

    fn call(&mut self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.0.write(call(token, method, path, body).as_bytes());
        self.0.answer()
    }

    fn made(&mut self, path: &str, body: Value) -> Value {
        let answer = self.call(TOKEN, "POST", path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["result"].clone()
    }

    /// The value of a new token; `more` are members beside its name and policies.
    fn token(&mut self, policies: Value, more: Value) -> String {
        let mut body = json!({"name": "t", "policies": policies});
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        text(&self.made("/accounts/acc/tokens", body)["value"]).to_owned()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn policy(effect: &str, groups: &[&str], resource: &str) -> Value {
    let groups: Vec<Value> = groups.iter().map(|name| json!({"id": name})).collect();
    json!({"effect": effect, "permission_groups": groups, "resources": {resource: "*"}})
}

fn start(setup: Setup) -> Gateway {
    setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start()
}

/// A refusal of the permission: what it says is missing.
fn missing(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    assert_eq!(answer.status, 403, "{body}");
    let errors = body["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 2, "{body}");
    assert!(errors.iter().all(|error| error["code"] == 10000), "{body}");
    assert_eq!(errors[0]["message"], "Authentication error");
    let told = text(&errors[1]["message"]);
    let names = told.strip_prefix("The token lacks the permission ");
    let names = names.unwrap_or_else(|| panic!("{body}"));
    names.split(" or ").map(str::to_owned).collect()
}

/// Something of everything, and the path parameters that name it.
fn furnish(manager: &mut Manager) -> BTreeMap<&'static str, String> {
    for id in ["g", "other"] {
        let answer = manager.call(TOKEN, "POST", GATEWAYS, &new_gateway(id, true));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let elements = json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "m"}}},
        {"id": "m", "type": "model", "properties": {"provider": "openai", "model": "gpt", "retries": 0, "timeout": 1000},
            "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}},
    ]);
    let route = manager.made(
        &format!("{GATEWAYS}/g/routes"),
        json!({"name": "r", "elements": elements}),
    );
    let key =
        json!({"provider_slug": "openai", "alias": "a", "default_config": true, "secret": "sk-1"});
    let config = manager.made(&format!("{GATEWAYS}/g/provider_configs"), key);
    let stores = manager.call(TOKEN, "GET", STORES, "").json();
    let provider = manager.made(
        "/accounts/acc/ai-gateway/custom-providers",
        json!({"name": "P", "slug": "p", "base_url": "https://p.example"}),
    );
    let price = manager.made(
        "/accounts/acc/ai-gateway/custom-providers/costs",
        json!({"account_provider_id": provider["id"], "model": "m", "cost_in": 1, "cost_out": 1}),
    );
    manager.made(
        &format!("{GATEWAYS}/g/custom-domains"),
        json!({"domain": "llm.example", "zone_id": "z"}),
    );
    let dataset = manager.made(
        &format!("{GATEWAYS}/g/datasets"),
        json!({"name": "d", "enable": true, "filters": []}),
    );
    let evaluation = manager.made(
        &format!("{GATEWAYS}/g/evaluations"),
        json!({"name": "e", "dataset_ids": [dataset["id"]], "evaluation_type_ids": ["cost"]}),
    );
    let token = manager.made(
        "/accounts/acc/tokens",
        json!({"name": "scrap", "policies": [policy("allow", &["AI Gateway Run"], ALL)]}),
    );
    let id = |object: &Value| text(&object["id"]).to_owned();
    BTreeMap::from([
        ("account_id", "acc".to_owned()),
        ("gateway_id", "g".to_owned()),
        ("user", "ada".to_owned()),
        ("provider", "openai".to_owned()),
        ("route_id", id(&route)),
        (
            "version_id",
            text(&route["version"]["version_id"]).to_owned(),
        ),
        ("id", id(&config)),
        ("store_id", id(&stores["result"][0])),
        ("secret_id", text(&config["secret_id"]).to_owned()),
        ("custom_provider_id", id(&provider)),
        ("cost_id", id(&price)),
        ("dataset_id", id(&dataset)),
        ("evaluation_id", id(&evaluation)),
        ("hostname", "llm.example".to_owned()),
        ("domain", "llm.example".to_owned()),
        ("token_id", id(&token)),
    ])
}

/// The description of the API.
fn described(manager: &mut Manager) -> Value {
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: m\r\n\r\n";
    manager.0.write(request);
    manager.0.answer().json()
}

/// Method, path as described, and the path with its parameters filled; what deletes comes last.
fn operations(
    manager: &mut Manager,
    known: &BTreeMap<&str, String>,
) -> Vec<(String, String, String)> {
    let described = described(manager);
    let mut operations = Vec::new();
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let mut filled = path.clone();
            for parameter in operation["parameters"].as_array().expect("parameters") {
                if parameter["in"] == "path" {
                    let name = text(&parameter["name"]);
                    let value = known.get(name);
                    let value =
                        value.unwrap_or_else(|| panic!("{method} {path}: a value for {name}"));
                    filled = filled.replace(&format!("{{{name}}}"), value);
                }
            }
            operations.push((method.to_ascii_uppercase(), path.clone(), filled));
        }
    }
    operations.sort_by_key(|(method, path, _)| (method == "DELETE", std::cmp::Reverse(path.len())));
    operations
}

#[test]
fn each_permission_opens_what_it_says_and_nothing_else() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    let known = furnish(&mut manager);
    let operations = operations(&mut manager, &known);
    assert!(operations.len() > 60, "{}", operations.len());
    let listed = manager.call(TOKEN, "GET", "/accounts/acc/tokens/permission_groups", "");
    let listed = listed.json()["result"].clone();
    let names: Vec<&str> = listed
        .as_array()
        .expect("groups")
        .iter()
        .map(|group| text(&group["name"]))
        .collect();
    assert_eq!(names, GROUPS);
    // A token that is only denied something holds nothing.
    let nothing = json!([policy("deny", &["AI Gateway Run"], ALL)]);
    let mut holders = vec![(None, manager.token(nothing, json!({})))];
    for group in GROUPS {
        let policies = json!([policy("allow", &[group], ALL)]);
        holders.push((Some(group), manager.token(policies, json!({}))));
    }
    let (mut admitted, mut refused) = (0, 0);
    for (method, path, filled) in &operations {
        let rule = rule(method, path);
        for (group, token) in &holders {
            let body = if method == "GET" || method == "DELETE" {
                ""
            } else {
                "{}"
            };
            let answer = manager.call(token, method, filled, body);
            let about = format!("{method} {path} with {group:?}: {}", answer.text());
            if rule.admits(*group) {
                assert!(!matches!(answer.status, 401 | 403), "{about}");
                assert!(answer.status < 500, "{about}");
                admitted += 1;
                continue;
            }
            refused += 1;
            match &rule {
                Rule::Holders(_) => {
                    // Whoever gets one of the groups it names may come again.
                    for name in missing(&answer) {
                        assert!(rule.admits(Some(&name)), "{name}: {about}");
                    }
                }
                _ => {
                    assert_eq!(answer.status, 403, "{about}");
                    assert_eq!(answer.json()["errors"][0]["code"], 10000, "{about}");
                }
            }
        }
    }
    assert_eq!(admitted + refused, operations.len() * (GROUPS.len() + 1));
    assert!(admitted > operations.len() && refused > admitted);
}

#[test]
fn what_the_matrix_admits_is_really_done() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    let known = furnish(&mut manager);
    let mut holder =
        |group: &str| manager.token(json!([policy("allow", &[group], ALL)]), json!({}));
    let (write, metadata) = (
        holder("AI Gateway Write"),
        holder("AI Gateway Metadata Read"),
    );
    let (tokens, secrets) = (holder("API Tokens Write"), holder("Secrets Store Write"));
    let (admin, settings) = (holder("Ringgate Admin"), holder("Account Settings Read"));
    let policies = json!([policy("allow", &["AI Gateway Run"], ALL)]);
    let store = &known["store_id"];
    let one = json!([{"name": "n", "scopes": ["dex"], "value": "v"}]).to_string();
    let key = |alias: &str| {
        json!({"provider_slug": "openai", "alias": alias, "default_config": false, "secret": "sk-2"}).to_string()
    };
    let configs = format!("{GATEWAYS}/g/provider_configs");
    let token = json!({"name": "made", "policies": policies}).to_string();
    for (holder, method, path, body) in [
        (
            &write,
            "POST",
            GATEWAYS.to_owned(),
            new_gateway("new", true),
        ),
        (&write, "DELETE", format!("{GATEWAYS}/new"), String::new()),
        (
            &write,
            "GET",
            format!("{GATEWAYS}/g/url/openai"),
            String::new(),
        ),
        (&write, "POST", configs.clone(), key("b")),
        (&secrets, "POST", configs, key("c")),
        (&metadata, "GET", GATEWAYS.to_owned(), String::new()),
        (&tokens, "POST", "/user/tokens".to_owned(), token.clone()),
        (&tokens, "POST", "/accounts/acc/tokens".to_owned(), token),
        (&secrets, "POST", format!("{STORES}/{store}/secrets"), one),
        (
            &admin,
            "GET",
            "/accounts/acc/audit_logs".to_owned(),
            String::new(),
        ),
        (&settings, "GET", "/accounts/acc".to_owned(), String::new()),
    ] {
        let answer = manager.call(holder, method, &path, &body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    }
}

#[test]
fn what_the_description_gives_as_an_example_is_taken() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    let known = furnish(&mut manager);
    let described = described(&mut manager);
    let mut taken = 0;
    for (method, path, filled) in operations(&mut manager, &known) {
        let operation = &described["paths"][&path][method.to_ascii_lowercase()];
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        if !example.is_null() {
            let answer = manager.call(TOKEN, &method, &filled, &example.to_string());
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
            taken += 1;
        }
    }
    assert!(taken >= 15, "{taken}");
}

#[test]
fn who_makes_tokens_does_not_become_administrator() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    let path = "/accounts/acc/tokens";
    let maker = manager.token(
        json!([policy("allow", &["Account API Tokens Write"], ALL)]),
        json!({}),
    );
    let admin = json!({"name": "x", "policies": [policy("allow", &["Ringgate Admin"], ALL)]});
    let administrators = manager.made(path, admin.clone());
    let one = format!("{path}/{}", text(&administrators["id"]));
    let own = manager
        .call(&maker, "GET", &format!("{path}/verify"), "")
        .json();
    let own = format!("{path}/{}", text(&own["result"]["id"]));
    for (method, path, body) in [
        ("POST", path, admin.to_string()),
        ("PUT", &own, admin.to_string()),
        // A new value would be shown to whoever asked for it.
        ("PUT", &format!("{one}/value"), "{}".to_owned()),
    ] {
        let answer = manager.call(&maker, method, path, &body);
        assert!(
            missing(&answer)[0].starts_with("Ringgate Admin"),
            "{method} {path}"
        );
    }
    let value = text(&administrators["value"]);
    assert_eq!(
        manager.call(value, "GET", path, "").status,
        200,
        "nothing was changed"
    );
    assert_eq!(
        manager
            .call(TOKEN, "PUT", &format!("{one}/value"), "{}")
            .status,
        200
    );
    assert_eq!(
        manager
            .call(&maker, "PUT", &format!("{own}/value"), "{}")
            .status,
        200
    );
}

#[test]
fn denied_and_limited_tokens_reach_what_is_left() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    furnish(&mut manager);
    let one = format!("{ALL}.ai-gateway.gateway.g");
    let denied = manager.token(
        json!([
            policy("allow", &["AI Gateway Write", "AI Gateway Run"], ALL),
            policy("deny", &["AI Gateway Write"], ALL),
            policy("deny", &["AI Gateway Run"], &one),
        ]),
        json!({}),
    );
    let limited = manager.token(
        json!([policy(
            "allow",
            &["AI Gateway Write", "AI Gateway Run"],
            &one
        )]),
        json!({}),
    );
    let mut settings: Value = serde_json::from_str(&new_gateway("g", true)).expect("JSON");
    settings.as_object_mut().expect("an object").remove("id");
    let settings = settings.to_string();
    let (g, other) = (format!("{GATEWAYS}/g"), format!("{GATEWAYS}/other"));
    let below = |path: &str, rest: &str| format!("{path}/{rest}");
    for (token, method, path, status) in [
        // Write is taken back, what it gave beside stays.
        (&denied, "GET", &g, 200),
        (&denied, "PUT", &g, 403),
        (&denied, "DELETE", &g, 403),
        (&denied, "GET", &below(&g, "routes"), 200),
        (&denied, "POST", &below(&g, "routes"), 403),
        (&denied, "GET", &GATEWAYS.to_owned(), 200),
        // One gateway and what is below it; no list of all, no other, nothing of the account's.
        (&limited, "GET", &g, 200),
        (&limited, "PUT", &g, 200),
        (&limited, "GET", &below(&g, "routes"), 200),
        (&limited, "GET", &below(&g, "provider_configs"), 200),
        (&limited, "GET", &below(&g, "url/openai"), 200),
        (&limited, "GET", &GATEWAYS.to_owned(), 403),
        (&limited, "POST", &GATEWAYS.to_owned(), 403),
        (&limited, "GET", &other, 403),
        (&limited, "PUT", &other, 403),
        (&limited, "DELETE", &other, 403),
        (&limited, "GET", &below(&other, "routes"), 403),
        (&limited, "GET", &below(&other, "provider_configs"), 403),
        (&limited, "GET", &format!("{GATEWAYS}/none"), 403),
        (
            &limited,
            "GET",
            &"/accounts/acc/ai-gateway/custom-providers".to_owned(),
            403,
        ),
        (&limited, "GET", &"/accounts/acc/tokens".to_owned(), 403),
        (&limited, "GET", &STORES.to_owned(), 403),
        (
            &limited,
            "GET",
            &"/accounts/acc/tokens/verify".to_owned(),
            200,
        ),
    ] {
        let body = if method == "GET" || method == "DELETE" {
            ""
        } else {
            &settings
        };
        let answer = manager.call(token, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if status == 403 {
            assert!(!missing(&answer).is_empty());
        }
    }
    // On the data plane: both Run on one of the two gateways only.
    for (token, opened, shut) in [(&denied, "other", "g"), (&limited, "g", "other")] {
        assert_eq!(run(&gateway, opened, token), (200, None));
        assert_eq!(run(&gateway, shut, token), (401, Some(2009)));
    }
    let reader = manager.token(
        json!([policy(
            "allow",
            &["AI Gateway Read", "AI Gateway Write"],
            ALL
        )]),
        json!({}),
    );
    assert_eq!(run(&gateway, "g", &reader), (401, Some(2009)));
    for group in [
        "AI Gateway Run",
        "Workers AI Read",
        "Workers AI Write",
        "Ringgate Admin",
    ] {
        let runner = manager.token(json!([policy("allow", &[group], ALL)]), json!({}));
        assert_eq!(run(&gateway, "g", &runner), (200, None), "{group}");
    }
}

/// Status and code of a chat request through a gateway, by the holder of a token.
fn run(gateway: &Gateway, id: &str, token: &str) -> (u16, Option<u64>) {
    let request = chat("gpt-4o", false).replacen("/default/", &format!("/{id}/"), 1);
    let header = format!("Host: g\r\ncf-aig-authorization: Bearer {token}\r\n");
    let answer = gateway.send(&request.replacen("Host: g\r\n", &header, 1));
    (answer.status, (answer.status != 200).then(|| answer.code()))
}

#[test]
fn a_token_counts_in_its_time_and_from_its_addresses() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    furnish(&mut manager);
    let everything = json!([policy("allow", &["Ringgate Admin"], ALL)]);
    let verify = "/user/tokens/verify";
    for (more, counts) in [
        (json!({"expires_on": "2020-01-01T00:00:00Z"}), false),
        (json!({"not_before": "2090-01-01T00:00:00Z"}), false),
        (
            json!({"condition": {"request_ip": {"in": ["10.0.0.0/8"]}}}),
            false,
        ),
        (
            json!({"condition": {"request_ip": {"not_in": ["127.0.0.1"]}}}),
            false,
        ),
        (
            json!({"condition": {"request_ip": {"in": ["127.0.0.0/8"], "not_in": ["127.0.0.1/32"]}}}),
            false,
        ),
        (
            json!({"expires_on": "2090-01-01T00:00:00Z", "not_before": "2020-01-01T00:00:00.5Z"}),
            true,
        ),
        (
            json!({"condition": {"request_ip": {"in": ["127.0.0.0/8"], "not_in": ["10.0.0.0/8"]}}}),
            true,
        ),
    ] {
        let token = manager.token(everything.clone(), more.clone());
        let answer = manager.call(&token, "GET", GATEWAYS, "");
        let code = answer.json()["errors"][0]["code"].clone();
        match counts {
            true => assert_eq!(answer.status, 200, "{more}"),
            false => assert_eq!((answer.status, code), (401, json!(10000)), "{more}"),
        }
        let ran = run(&gateway, "g", &token);
        assert_eq!(
            ran,
            if counts {
                (200, None)
            } else {
                (401, Some(2009))
            },
            "{more}"
        );
        // The token itself is known.
        assert_eq!(
            manager.call(&token, "GET", verify, "").status,
            200,
            "{more}"
        );
    }
}

/// A request of the management listener with these headers instead of a token.
fn bare(gateway: &Gateway, method: &str, path: &str, headers: &str) -> Answer {
    let mut client = Client::connect(gateway.management);
    client.write(
        format!("{method} /client/v4{path} HTTP/1.1\r\nHost: m\r\n{headers}\r\n").as_bytes(),
    );
    client.answer_to(method == "HEAD")
}

fn error(answer: &Answer) -> (u16, u64) {
    let body = answer.json();
    assert_eq!(
        (&body["success"], &body["result"], &body["messages"]),
        (&json!(false), &Value::Null, &json!([])),
        "{body}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = answer.header("x-request-id").expect("a request id");
    assert_eq!(id.len(), 36, "{id}");
    for error in body["errors"].as_array().expect("errors") {
        assert!(
            !text(&error["message"]).is_empty() && error["code"].is_u64(),
            "{body}"
        );
    }
    let code = body["errors"][0]["code"].as_u64();
    (answer.status, code.expect("a code"))
}

#[test]
fn each_row_of_the_table_of_errors() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    let known = furnish(&mut manager);
    let verify = "/accounts/acc/tokens/verify";
    for (path, headers, expected, chain) in [
        (GATEWAYS, "", (400, 9106), None),
        (verify, "", (400, 1001), None),
        ("/user/tokens/verify", "", (400, 1001), None),
        (
            GATEWAYS,
            "Authorization: Basic eDp5\r\n",
            (400, 6003),
            Some(6111),
        ),
        (
            GATEWAYS,
            "Authorization: Bearer \r\n",
            (400, 6003),
            Some(6111),
        ),
        (
            GATEWAYS,
            "X-Auth-Email: a@b.example\r\nX-Auth-Key: k\r\n",
            (400, 6003),
            Some(6103),
        ),
        (
            GATEWAYS,
            "X-Auth-User-Service-Key: k\r\n",
            (400, 6003),
            Some(6103),
        ),
        (
            GATEWAYS,
            "Authorization: Bearer nobodys\r\n",
            (401, 10000),
            None,
        ),
        (
            GATEWAYS,
            "Authorization: Bearer nobodys\r\nX-Auth-Key: k\r\n",
            (401, 10000),
            None,
        ),
        (
            verify,
            "Authorization: Bearer nobodys\r\n",
            (401, 1000),
            None,
        ),
    ] {
        let answer = bare(&gateway, "GET", path, headers);
        assert_eq!(error(&answer), expected, "{path} {headers}");
        let told = answer.json()["errors"][0]["error_chain"][0]["code"].clone();
        assert_eq!(told.as_u64(), chain, "{path} {headers}");
        assert_eq!(answer.header("x-should-retry"), None);
    }
    // The scheme may be written in any case; the token decides over the keys.
    let both = format!("Authorization: bEaReR {TOKEN}\r\nX-Auth-Key: k\r\n");
    assert_eq!(bare(&gateway, "GET", GATEWAYS, &both).status, 200);

    let config = format!("{GATEWAYS}/g/provider_configs");
    let secrets = format!("{STORES}/{}/secrets", known["store_id"]);
    let twin =
        json!({"provider_slug": "openai", "alias": "a", "default_config": true, "secret": "sk-1"});
    let secret = json!([{"name": "g_openai_a", "scopes": ["dex"], "value": "v"}]);
    let long = "x".repeat(1 << 20);
    for (method, path, body, expected, places) in [
        ("POST", GATEWAYS, "{", (400, 7001), vec!["body"]),
        ("POST", GATEWAYS, "", (400, 7001), vec!["body"]),
        ("POST", GATEWAYS, "[]", (400, 7001), vec!["body"]),
        ("POST", &secrets, "{", (400, 1001), vec![""]),
        (
            "POST",
            GATEWAYS,
            r#"{"id":"x","cache_ttl":-1,"collect_logs":"yes","rate_limiting_interval":0,"rate_limiting_limit":0,"retry_backoff":"Linear"}"#,
            (400, 7001),
            vec![
                "body.cache_invalidate_on_update",
                "body.cache_ttl",
                "body.collect_logs",
                "body.retry_backoff",
            ],
        ),
        (
            "GET",
            "/accounts/acc/ai-gateway/gateways?page=0&per_page=101",
            "",
            (400, 7001),
            vec!["query.page", "query.per_page"],
        ),
        (
            "POST",
            GATEWAYS,
            &new_gateway("g", true),
            (400, 7001),
            vec!["body.id"],
        ),
        (
            "POST",
            &config,
            &twin.to_string(),
            (400, 7001),
            vec!["body.alias"],
        ),
        ("POST", &secrets, &secret.to_string(), (400, 1003), vec![""]),
        (
            "GET",
            "/accounts/acc/ai-gateway/gateways/none",
            "",
            (404, 7002),
            vec![""],
        ),
        (
            "DELETE",
            "/accounts/acc/ai-gateway/gateways/none",
            "",
            (404, 7002),
            vec![""],
        ),
        (
            "GET",
            "/accounts/acc/ai-gateway/gateways/g/routes/none",
            "",
            (404, 7002),
            vec![""],
        ),
        ("GET", "/accounts/acc/nothing", "", (404, 7003), vec![""]),
        ("GET", "/", "", (404, 7003), vec![""]),
        (
            "GET",
            "/accounts/other/ai-gateway/gateways",
            "",
            (404, 7003),
            vec![""],
        ),
        (
            "GET",
            "/accounts/a%20b/ai-gateway/gateways",
            "",
            (404, 7003),
            vec![""],
        ),
        (
            "POST",
            GATEWAYS,
            &format!(r#"{{"id":"{long}"}}"#),
            (413, 7001),
            vec![""],
        ),
    ] {
        let answer = Manager::of(&gateway).call(TOKEN, method, path, body);
        assert_eq!(
            error(&answer),
            expected,
            "{method} {path}: {}",
            answer.text()
        );
        let body = answer.json();
        let place = |error: &Value| {
            let parts = error["path"].as_array().into_iter().flatten();
            parts.map(text).collect::<Vec<_>>().join(".")
        };
        let mut told: Vec<String> = body["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(place)
            .collect();
        told.sort();
        assert_eq!(told, places, "{method} {path}");
        assert_eq!(answer.header("x-should-retry"), None);
        assert_eq!(answer.header("retry-after"), None);
    }

    for (method, path, allow) in [
        ("PATCH", GATEWAYS, "GET, POST"),
        (
            "POST",
            "/accounts/acc/ai-gateway/gateways/g",
            "DELETE, GET, PUT",
        ),
        ("TRACE", "/user/tokens", "GET, POST"),
        ("BREW", "/user/tokens", "GET, POST"),
    ] {
        let answer = manager.call(TOKEN, method, path, "");
        assert_eq!(error(&answer), (405, 7001), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    assert_eq!(bare(&gateway, "HEAD", GATEWAYS, "").status, 405);
}

#[test]
fn failures_within_are_told_and_not_sent_again() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut manager = Manager::of(&gateway);
    furnish(&mut manager);
    let file = gateway.folder.path().join("data").join("ringgate.db");
    let database = rusqlite::Connection::open(file).expect("opened");
    database
        .execute(
            "UPDATE gateways SET settings = 'not JSON' WHERE id = 'other'",
            [],
        )
        .expect("spoilt");
    let answer = manager.call(TOKEN, "GET", &format!("{GATEWAYS}/other"), "");
    assert_eq!(error(&answer), (500, 7009));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(!answer.text().contains("JSON"), "{}", answer.text());
    // The others are served. (A database that is locked or full is durability.rs's: 503/7011.)
    assert_eq!(
        manager
            .call(TOKEN, "GET", &format!("{GATEWAYS}/g"), "")
            .status,
        200
    );
}
