//! Dynamic routes, custom providers, prices and custom domains: the API, and what requests see of it.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Setup, received, sent_header, simulator};

const TOKEN: &str = "rg-resources-0123456789-0123456789-ab";

/// The API of a gateway, as the holder of a token sees it.
struct Api<'a> {
    gateway: &'a Gateway,
    token: String,
}

impl<'a> Api<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self {
            gateway,
            token: TOKEN.to_owned(),
        }
    }

    /// A call below `/client/v4/accounts/acc`.
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut client = Client::connect(self.gateway.management);
        client.write(
            format!(
                "{method} /client/v4/accounts/acc{path} HTTP/1.1\r\nHost: m.example:1\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
                self.token,
                body.len()
            )
            .as_bytes(),
        );
        client.answer()
    }

    /// The whole body of a call that succeeds.
    fn raw(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(method, &format!("/ai-gateway{path}"), &body);
        let text = answer.text();
        assert_eq!(answer.status, 200, "{method} {path}: {text}");
        let body = answer.json();
        assert_eq!(body["success"], true, "{text}");
        body
    }

    /// `result` of a call that succeeds.
    fn result(&self, method: &str, path: &str, body: Value) -> Value {
        let body = self.raw(method, path, body);
        for name in ["errors", "messages", "result"] {
            assert!(body.get(name).is_some(), "{method} {path} lacks {name}");
        }
        body["result"].clone()
    }

    fn get(&self, path: &str) -> Value {
        self.result("GET", path, Value::Null)
    }

    /// Status, first code, and the path of each error of a call that fails.
    fn refusal(&self, method: &str, path: &str, body: Value) -> (u16, u64, Vec<String>) {
        let answer = self.call(method, &format!("/ai-gateway{path}"), &body);
        let body = answer.json();
        assert_eq!(body["success"], false, "{method} {path}: {body}");
        let errors = body["errors"].as_array().expect("errors");
        let place = |error: &Value| {
            let parts = error["path"].as_array().into_iter().flatten();
            let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
            parts.join(".")
        };
        (
            answer.status,
            errors[0]["code"].as_u64().expect("a code"),
            errors.iter().map(place).collect(),
        )
    }

    /// Makes a gateway that asks for no token.
    fn create_gateway(&self, id: &str) {
        let settings = json!({
            "id": id, "authentication": false, "cache_invalidate_on_update": true, "cache_ttl": 0,
            "collect_logs": true, "rate_limiting_interval": 0, "rate_limiting_limit": 0,
        });
        self.result("POST", "/gateways", settings);
    }

    /// The API as the holder of a new token with one permission sees it.
    fn with(&self, permission: &str) -> Self {
        let groups = self.call("GET", "/tokens/permission_groups?per_page=50", &Value::Null);
        let groups = groups.json()["result"].clone();
        let group = groups.as_array().expect("groups").iter();
        let group = group
            .clone()
            .find(|group| group["name"] == permission)
            .expect("the group");
        let body = json!({"name": permission, "policies": [{
            "effect": "allow",
            "permission_groups": [{"id": group["id"]}],
            "resources": {"com.cloudflare.api.account.acc": "*"},
        }]});
        let made = self.call("POST", "/tokens", &body).json();
        Self {
            gateway: self.gateway,
            token: made["result"]["value"]
                .as_str()
                .expect("a value")
                .to_owned(),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn elements(provider: &str, model: &str) -> Value {
    json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "m"}}},
        {"id": "m", "type": "model",
         "properties": {"provider": provider, "model": model, "retries": 1, "timeout": 1000},
         "outputs": {"success": {"elementId": "e"}, "fallback": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}},
    ])
}

fn start(simulator: &ringgate::sim::Running) -> Gateway {
    Setup::over(simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start()
}

/// All items of a list, page by page until one is empty, as clients read it.
fn pages(
    api: &Api<'_>,
    path: &str,
    per_page: usize,
    items: impl Fn(&Value) -> Value,
) -> Vec<Value> {
    let mut all = Vec::new();
    for page in 1.. {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}page={page}&per_page={per_page}");
        let body = api.raw("GET", &path, Value::Null);
        let items = items(&body);
        let items = items.as_array().expect("a list");
        assert!(items.len() <= per_page);
        if items.is_empty() {
            break;
        }
        all.extend(items.iter().cloned());
    }
    all
}

#[test]
fn a_route_lives_through_versions_and_deployments() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    api.create_gateway("g");
    let routes = "/gateways/g/routes";
    let older = json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}},
        {"id": "c", "type": "conditional", "properties": {"condition": {"metadata.plan": "free"}},
         "outputs": {"true": {"elementId": "r"}, "false": {"elementId": "m"}}},
        {"id": "r", "type": "rate_limit",
         "properties": {"limitType": "count", "key": "metadata.user", "limit": 3, "interval": 60},
         "outputs": {"success": {"elementId": "m"}}},
        {"id": "m", "type": "model", "properties": {"provider": "openai", "model": "any-model-at-all"},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}},
    ]);
    let made = api.raw(
        "POST",
        routes,
        json!({"name": "support", "elements": older}),
    );
    let notes = made["messages"].to_string();
    assert!(notes.contains("demands no token"), "{notes}");
    let route = made["result"].clone();
    // The API's spelling, whatever was sent.
    assert_eq!(route["elements"][2]["type"], "rate");
    assert_eq!(route["elements"][2]["properties"]["window"], 60);
    assert!(route["elements"][1]["properties"]["conditions"].is_object());
    assert_eq!(route["gateway_id"], "g");
    let first = text(&route["version"]["version_id"]).to_owned();
    assert_eq!(route["version"]["active"], "true");
    assert_eq!(route["version"]["is_valid"], true);
    let data: Value = serde_json::from_str(text(&route["version"]["data"])).expect("JSON");
    assert_eq!(data, route["elements"]);
    assert_eq!(route["deployment"]["version_id"], first);
    let one = format!("{routes}/{}", text(&route["id"]));
    assert_eq!(api.get(&one), route);

    // A version serves nothing until it is deployed.
    let saved = api.result(
        "POST",
        &format!("{one}/versions"),
        json!({"elements": elements("groq", "b")}),
    );
    assert_eq!(saved["elements"], elements("groq", "b"));
    let body = api.raw("GET", &format!("{one}/versions"), Value::Null);
    assert!(body.get("result").is_none(), "a raw body: {body}");
    let versions = body["data"]["versions"].clone();
    let states: Vec<&str> = versions
        .as_array()
        .expect("a list")
        .iter()
        .map(|version| text(&version["active"]))
        .collect();
    assert_eq!(states, ["false", "true"]);
    assert_eq!(
        (&body["data"]["page"], &body["data"]["per_page"]),
        (&json!(1), &json!(20))
    );
    assert_eq!(
        (
            &body["data"]["order_by"],
            &body["data"]["order_by_direction"]
        ),
        (&json!("created_at"), &json!("desc"))
    );
    assert_eq!(api.get(&one)["version"]["version_id"], first);
    let second = text(&versions[0]["version_id"]).to_owned();
    let version = api.get(&format!("{one}/versions/{second}"));
    for (name, value) in [
        ("version_id", json!(second)),
        ("active", json!("false")),
        ("is_valid", json!(true)),
        ("name", json!("support")),
        ("elements", elements("groq", "b")),
    ] {
        assert_eq!(version[name], value, "{name}");
    }
    assert_eq!(version["data"], versions[0]["data"]);

    let deployed = api.result(
        "POST",
        &format!("{one}/deployments"),
        json!({"version_id": second}),
    );
    assert_eq!(
        (&deployed["elements"], &deployed["version"]["active"]),
        (&elements("groq", "b"), &json!("true"))
    );
    assert!(text(&deployed["modified_at"]) > text(&route["modified_at"]));
    // And back.
    api.result(
        "POST",
        &format!("{one}/deployments"),
        json!({"version_id": first}),
    );
    let body = api.raw("GET", &format!("{one}/deployments"), Value::Null);
    let deployments = body["data"]["deployments"]
        .as_array()
        .expect("a list")
        .clone();
    let which: Vec<&str> = deployments
        .iter()
        .map(|one| text(&one["version_id"]))
        .collect();
    assert_eq!(which, [&*first, &*second, &*first]);
    assert_eq!(api.get(&one)["deployment"], deployments[0]);

    let renamed = api.raw("PATCH", &one, json!({"name": "help"}));
    assert!(renamed.get("result").is_none(), "a raw body: {renamed}");
    assert_eq!(
        (&renamed["route"]["name"], &renamed["route"]["account_tag"]),
        (&json!("help"), &json!("acc"))
    );
    assert_eq!(renamed["route"]["version"]["version_id"], first);
    api.raw("PATCH", &one, json!({"name": "help"}));
    let listed = api.raw("GET", routes, Value::Null);
    assert_eq!(listed["data"]["routes"][0]["name"], "help");

    let gone = api.result("DELETE", &one, Value::Null);
    assert!(gone.get("version").is_none() && gone.get("deployment").is_none());
    assert_eq!(gone["elements"], route["elements"]);
    assert_eq!(api.refusal("GET", &one, Value::Null).1, 7002);
    let audit = api
        .call("GET", "/audit_logs?per_page=50", &Value::Null)
        .json();
    let audit = audit["result"].as_array().expect("a list");
    let lines = audit
        .iter()
        .filter(|line| line["resource"]["type"] == "ai_gateway.route");
    assert_eq!(lines.count(), 7);
}

#[test]
fn what_is_no_route_says_where() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    api.create_gateway("g");
    api.create_gateway("other");
    let routes = "/gateways/g/routes";
    let create = |name: &str, elements: Value| json!({"name": name, "elements": elements});
    let route = api.result("POST", routes, create("a", elements("openai", "m")));
    let one = format!("{routes}/{}", text(&route["id"]));
    let first = text(&route["version"]["version_id"]);

    let mut cut = elements("openai", "m");
    cut.as_array_mut().expect("a list").pop();
    let answer = api.call("POST", "/ai-gateway/gateways/g/routes", &create("b", cut));
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["errors"][0]["code"]),
        (400, &json!(7001))
    );
    assert!(
        text(&body["errors"][0]["message"]).contains("element \"m\""),
        "{body}"
    );
    assert_eq!(
        body["errors"][0]["path"],
        json!(["body", "elements", "1", "outputs", "success", "elementId"])
    );

    let bad = |path: &str| (400, 7001, vec![path.to_owned()]);
    for (body, path) in [
        (create("a", elements("openai", "m")), "body.name"),
        (create("x/y", elements("openai", "m")), "body.name"),
        (create("", elements("openai", "m")), "body.name"),
        (
            create(&"x".repeat(65), elements("openai", "m")),
            "body.name",
        ),
        (json!({"elements": elements("openai", "m")}), "body.name"),
        (json!({"name": "b"}), "body.elements"),
        (create("b", json!([])), "body.elements"),
        (create("b", json!({})), "body.elements"),
        (create("b", json!("[]")), "body.elements"),
    ] {
        assert_eq!(
            api.refusal("POST", routes, body.clone()),
            bad(path),
            "{body}"
        );
    }
    api.result("POST", routes, create("taken", elements("openai", "m")));
    assert_eq!(
        api.refusal("PATCH", &one, json!({"name": "taken"})),
        bad("body.name")
    );
    assert_eq!(api.refusal("PATCH", &one, json!({})), bad("body.name"));
    assert_eq!(
        api.refusal("POST", &format!("{one}/versions"), json!({"elements": []})),
        bad("body.elements")
    );
    for version in [
        "nope",
        text(&api.raw("GET", routes, Value::Null)["data"]["routes"][0]["version"]["version_id"]),
    ] {
        let answer = api.refusal(
            "POST",
            &format!("{one}/deployments"),
            json!({"version_id": version}),
        );
        assert_eq!(
            answer,
            bad("body.version_id"),
            "of another route: {version}"
        );
    }
    assert_eq!(
        api.refusal("POST", &format!("{one}/deployments"), json!({})),
        bad("body.version_id")
    );
    // The same name is free on another gateway, where this route is not.
    api.result(
        "POST",
        "/gateways/other/routes",
        create("a", elements("openai", "m")),
    );
    let id = text(&route["id"]);
    for path in [
        format!("/gateways/other/routes/{id}"),
        format!("/gateways/none/routes/{id}"),
        format!("{routes}/nope"),
        format!("{one}/versions/nope"),
        format!("/gateways/other/routes/{id}/versions/{first}"),
        format!("{routes}/nope/versions"),
        format!("{routes}/nope/deployments"),
        "/gateways/none/routes".to_owned(),
    ] {
        let (status, code, _) = api.refusal("GET", &path, Value::Null);
        assert_eq!((status, code), (404, 7002), "{path}");
    }
    assert_eq!(
        api.refusal("GET", &format!("{routes}?per_page=101"), Value::Null),
        bad("query.per_page")
    );

    // An unknown provider is stored and cannot be deployed, until there is one of the name.
    let made = api.raw(
        "POST",
        routes,
        create("later", elements("custom-later", "m")),
    );
    assert!(made["messages"].to_string().contains("custom-later"));
    let later = made["result"].clone();
    assert_eq!(
        (&later["version"]["is_valid"], &later["version"]["active"]),
        (&json!(false), &json!("false"))
    );
    assert_eq!(
        later["deployment"],
        json!({"deployment_id": "", "version_id": "", "created_at": ""})
    );
    let deployments = format!("{routes}/{}/deployments", text(&later["id"]));
    let version = json!({"version_id": later["version"]["version_id"]});
    assert_eq!(
        api.refusal("POST", &deployments, version.clone()),
        bad("body.version_id")
    );
    let provider = json!({"name": "L", "slug": "later", "base_url": "https://l.example"});
    api.result("POST", "/custom-providers", provider);
    let deployed = api.result("POST", &deployments, version);
    assert_eq!(
        (
            &deployed["version"]["is_valid"],
            &deployed["version"]["active"]
        ),
        (&json!(true), &json!("true"))
    );

    // Readers read.
    let reader = api.with("AI Gateway Read");
    assert_eq!(reader.get(&one)["name"], "a");
    for (method, path, body) in [
        (
            "POST",
            routes.to_owned(),
            create("z", elements("openai", "m")),
        ),
        ("PATCH", one.clone(), json!({"name": "z"})),
        ("DELETE", one.clone(), Value::Null),
        (
            "POST",
            format!("{one}/versions"),
            json!({"elements": elements("openai", "m")}),
        ),
        (
            "POST",
            format!("{one}/deployments"),
            json!({"version_id": first}),
        ),
    ] {
        let (status, code, _) = reader.refusal(method, &path, body);
        assert_eq!((status, code), (403, 10000), "{method} {path}");
    }
    // A gateway of the configuration file has routes too.
    api.result(
        "POST",
        "/gateways/default/routes",
        create("a", elements("openai", "m")),
    );
}

#[test]
fn lists_are_read_to_their_end() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    api.create_gateway("g");
    let routes = |body: &Value| body["data"]["routes"].clone();
    let result = |body: &Value| body["result"].clone();
    for count in 0..=21 {
        if [0, 1, 20, 21].contains(&count) {
            for per_page in [1, 20, 100] {
                let all = pages(&api, "/gateways/g/routes", per_page, routes);
                let mut names: Vec<&str> = all.iter().map(|route| text(&route["name"])).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!((all.len(), names.len()), (count, count));
                let lists = [
                    ("/custom-providers", "slug"),
                    ("/custom-providers/costs", "model"),
                    ("/gateways/g/custom-domains", "hostname"),
                ];
                for (path, name) in lists {
                    let all = pages(&api, path, per_page, result);
                    let mut names: Vec<&str> = all.iter().map(|item| text(&item[name])).collect();
                    names.sort_unstable();
                    names.dedup();
                    assert_eq!((all.len(), names.len()), (count, count), "{path}");
                }
            }
            let body = api.raw("GET", "/custom-providers?page=2", Value::Null);
            let beyond = count.saturating_sub(20);
            assert_eq!(
                body["result_info"],
                json!({"page": 2, "per_page": 20, "count": beyond, "total_count": count, "total_pages": count.div_ceil(20)})
            );
        }
        api.result(
            "POST",
            "/gateways/g/routes",
            json!({"name": format!("r{count}"), "elements": elements("openai", "m")}),
        );
        api.result(
            "POST",
            "/custom-providers",
            json!({"name": "same", "slug": format!("p{count}"), "base_url": "https://p.example"}),
        );
        api.result(
            "POST",
            "/custom-providers/costs",
            json!({"account_provider_id": "openai", "model": format!("m{count}")}),
        );
        api.result(
            "POST",
            "/gateways/g/custom-domains",
            json!({"domain": format!("h{count}.example")}),
        );
    }
}

#[test]
fn requests_go_through_a_custom_provider_as_it_is_now() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    api.create_gateway("g");
    let providers = "/custom-providers";
    let url = format!("http://{}/echo/v1", simulator.addr());
    let headers = json!({"X-Team": "blue", "Authorization": "Bearer house-secret"}).to_string();
    let body = json!({
        "name": "My LLM", "slug": "my-llm", "base_url": url, "enable": true, "headers": headers,
        "description": "d", "link": "https://x.example", "curl_example": "curl", "js_example": "js", "position": 3,
    });
    let made = api.result("POST", providers, body.clone());
    for (name, value) in body.as_object().expect("an object") {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!(made["beta"], false);
    assert!(
        text(&made["logo"]).starts_with("PHN2Zy"),
        "a picture in base64"
    );
    let one = format!("{providers}/{}", text(&made["id"]));
    assert_eq!(api.get(&one), made);

    let send = |headers: &str| {
        gateway.send(&format!(
            "GET /v1/acc/g/custom-my-llm/v1/models?a=b HTTP/1.1\r\nHost: g\r\n{headers}\r\n"
        ))
    };
    let last = || received(&simulator).last().expect("a request").clone();
    assert_eq!(
        send("X-Team: red\r\nAuthorization: Bearer sk-none\r\nX-Other: o\r\n").status,
        200
    );
    let sent = last();
    assert_eq!(
        (&sent["path"], &sent["query"]),
        (&json!("/echo/v1/models"), &json!("a=b"))
    );
    for (name, value) in [
        ("x-team", "blue"),
        ("authorization", "Bearer house-secret"),
        ("x-other", "o"),
    ] {
        let same = sent["headers"].as_array().expect("headers").iter();
        let same: Vec<&Value> = same
            .filter(|pair| text(&pair[0]).eq_ignore_ascii_case(name))
            .collect();
        assert_eq!(same.len(), 1, "{name} once: {sent}");
        assert_eq!(sent_header(&sent, name), Some(value));
    }

    // Every change is there for the next request.
    let other = format!("http://{}/echo/other", simulator.addr());
    let changed = api.result(
        "PATCH",
        &one,
        json!({"base_url": other, "headers": null, "position": null, "logo": "bG9nbw=="}),
    );
    assert_eq!(
        (&changed["headers"], &changed["position"], &changed["logo"]),
        (&Value::Null, &Value::Null, &json!("bG9nbw=="))
    );
    assert_eq!(
        (
            &changed["name"],
            &changed["enable"],
            &changed["description"]
        ),
        (&json!("My LLM"), &json!(true), &json!("d"))
    );
    assert!(text(&changed["modified_at"]) > text(&made["modified_at"]));
    assert_eq!(send("Authorization: Bearer sk-mine\r\n").status, 200);
    assert_eq!(last()["path"], "/echo/other/v1/models");
    assert_eq!(
        sent_header(&last(), "authorization"),
        Some("Bearer sk-mine")
    );
    let count = received(&simulator).len();
    for enable in [json!(false), json!(null)] {
        api.result("PATCH", &one, json!({"enable": enable}));
        let answer = send("");
        assert_eq!((answer.status, answer.code()), (400, 2008));
        api.result("PATCH", &one, json!({"enable": true}));
        assert_eq!(send("").status, 200);
    }
    api.result("PATCH", &one, json!({"slug": "renamed"}));
    assert_eq!(send("").code(), 2008);
    api.result("PATCH", &one, json!({"slug": "my-llm"}));
    assert_eq!(received(&simulator).len(), count + 2);
    assert_eq!(
        text(&api.get("/gateways/g/url/custom-my-llm"))
            .rsplit('/')
            .next(),
        Some("custom-my-llm")
    );
    let gone = api.result("DELETE", &one, Value::Null);
    assert_eq!(gone["id"], made["id"]);
    assert_eq!(send("").code(), 2008);
    assert_eq!(api.refusal("GET", &one, Value::Null).1, 7002);
    let audit = api
        .call("GET", "/audit_logs?per_page=100", &Value::Null)
        .text();
    assert!(
        audit.contains("X-Team") && !audit.contains("house-secret"),
        "the audit log knows no values"
    );
    assert!(!gateway.access.text().contains("house-secret"));
}

#[test]
fn custom_providers_are_checked_found_and_masked() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    let providers = "/custom-providers";
    let with = |name: &str, value: Value| {
        let mut body = json!({"name": "n", "slug": "fresh", "base_url": "https://a.example"});
        body[name] = value;
        body
    };
    let headers = json!({"X-Key": "k-secret"}).to_string();
    let made = api.result("POST", providers, json!({"name": "Beta One", "slug": "taken", "base_url": "https://a.example", "beta": true, "headers": headers}));
    assert_eq!(
        (&made["enable"], &made["headers"]),
        (&json!(false), &json!(headers))
    );
    for (name, value) in [
        ("slug", json!("taken")),
        ("slug", json!("sim")),
        ("slug", json!("a_b")),
        ("slug", json!("")),
        ("base_url", json!("http://far.example")),
        ("base_url", json!("a.example")),
        ("base_url", json!("ftp://a")),
        ("name", json!("")),
        ("name", json!(5)),
        ("enable", json!("yes")),
        ("position", json!(1.5)),
        ("headers", json!({"x": "y"})),
        ("headers", json!("x: y")),
        ("headers", json!("[]")),
        ("headers", json!(r#"{"Host": "x"}"#)),
        ("headers", json!(r#"{"content-length": "1"}"#)),
        ("headers", json!(r#"{"Transfer-Encoding": "chunked"}"#)),
        ("headers", json!(r#"{"cf-aig-metadata": "x"}"#)),
        ("headers", json!(r#"{"a": "b\r\nc: d"}"#)),
        (
            "headers",
            json!(format!(r#"{{"a": "{}"}}"#, "x".repeat(8192))),
        ),
    ] {
        let path = format!("body.{name}");
        assert_eq!(
            api.refusal("POST", providers, with(name, value.clone())),
            (400, 7001, vec![path]),
            "{name} {value}"
        );
    }
    let (status, code, paths) = api.refusal("POST", providers, json!({}));
    assert_eq!(
        (status, code, paths),
        (
            400,
            7001,
            vec![
                "body.name".to_owned(),
                "body.slug".to_owned(),
                "body.base_url".to_owned()
            ]
        )
    );
    let one = format!("{providers}/{}", text(&made["id"]));
    for (name, value) in [
        ("slug", json!("sim")),
        ("name", json!(null)),
        ("base_url", json!("http://8.8.8.8")),
        ("headers", json!("x")),
    ] {
        let path = format!("body.{name}");
        assert_eq!(
            api.refusal("PATCH", &one, json!({name: value})),
            (400, 7001, vec![path]),
            "{name}"
        );
    }
    assert_eq!(api.get(&one), made, "a refused change changes nothing");
    assert_eq!(api.refusal("PUT", &one, json!({})).0, 405);
    for method in ["GET", "PATCH", "DELETE"] {
        let (status, code, _) = api.refusal(method, "/custom-providers/nope", json!({}));
        assert_eq!((status, code), (404, 7002), "{method}");
    }

    api.result(
        "POST",
        providers,
        json!({"name": "alpha", "slug": "zz", "base_url": "https://b.example", "enable": true}),
    );
    let slugs = |query: &str| -> Vec<String> {
        let items = api.get(&format!("{providers}?{query}"));
        let items = items.as_array().expect("a list");
        items
            .iter()
            .map(|item| text(&item["slug"]).to_owned())
            .collect()
    };
    for (query, expected) in [
        ("", &["taken", "zz"][..]),
        ("enable=true", &["zz"]),
        ("enable=0", &["taken"]),
        ("beta=true", &["taken"]),
        ("beta=false&enable=false", &[]),
        ("search=BETA", &["taken"]),
        ("search=Z", &["zz"]),
        ("search=%25", &[]),
        ("order_by=slug%20DESC", &["zz", "taken"]),
        (
            "order_by=created_at&order_by_direction=desc",
            &["zz", "taken"],
        ),
        ("order_by=name", &["taken", "zz"]),
    ] {
        assert_eq!(slugs(query), expected, "{query}");
    }
    let bad = api.refusal("GET", &format!("{providers}?order_by=headers"), Value::Null);
    assert_eq!(bad, (400, 7001, vec!["query.order_by".to_owned()]));

    for permission in ["AI Gateway Read", "AI Gateway Metadata Read"] {
        let reader = api.with(permission);
        let masked = json!({"X-Key": "****"}).to_string();
        assert_eq!(reader.get(&one)["headers"], masked, "{permission}");
        let listed = reader.get(&format!("{providers}?search=taken"));
        assert_eq!(listed[0]["headers"], masked, "{permission}");
        for (method, body) in [("PATCH", json!({"name": "x"})), ("DELETE", Value::Null)] {
            assert_eq!(reader.refusal(method, &one, body).0, 403);
        }
    }
    assert_eq!(api.with("AI Gateway Write").get(&one)["headers"], headers);
}

#[test]
fn prices_belong_to_providers_of_every_kind() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    let costs = "/custom-providers/costs";
    let provider = api.result(
        "POST",
        "/custom-providers",
        json!({"name": "n", "slug": "p", "base_url": "https://a.example"}),
    );
    let id = text(&provider["id"]);
    let pricing =
        json!({"input_tokens": 0.00000015, "output_tokens": 6e-7, "input_cached_tokens": 7.5e-8});
    let body = json!({
        "account_provider_id": id, "model": "m-", "model_rule": "starts-with", "cost_in": 1.25e-6, "cost_out": 0.1,
        "token_pricing": pricing, "weight": 7,
    });
    let made = api.result("POST", costs, body);
    let told: Value = serde_json::from_str(text(&made["token_pricing"])).expect("JSON in a text");
    assert_eq!(told, pricing);
    for (name, value) in [
        ("account_provider_id", json!(id)),
        ("model", json!("m-")),
        ("model_rule", json!("starts-with")),
        ("cost_type", json!("tokens")),
        ("cost_in", json!(1.25e-6)),
        ("cost_out", json!(0.1)),
        ("enable", json!(true)),
        ("weight", json!(7)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert!(!text(&made["changed_by"]).is_empty());
    let one = format!("{costs}/{}", text(&made["id"]));
    assert_eq!(api.get(&one), made);
    let plain = api.result(
        "POST",
        costs,
        json!({"account_provider_id": "openai", "model": "gpt-x"}),
    );
    assert_eq!(
        (
            &plain["model_rule"],
            &plain["weight"],
            &plain["token_pricing"]
        ),
        (&json!("equals"), &json!(0), &Value::Null)
    );
    // `custom-sim` stands in the configuration file.
    api.result("POST", costs, json!({"account_provider_id": "custom-sim", "model": "gpt-x", "enable": false, "cost_type": "images"}));

    let count = |query: &str| {
        api.get(&format!("{costs}?{query}"))
            .as_array()
            .expect("a list")
            .len()
    };
    for (query, expected) in [
        (String::new(), 3),
        (format!("account_provider_id={id}"), 1),
        ("model_rule=equals".to_owned(), 2),
        ("cost_type=images".to_owned(), 1),
        ("enable=true".to_owned(), 2),
        ("search=GPT".to_owned(), 2),
        ("search=GPT&enable=true".to_owned(), 1),
    ] {
        assert_eq!(count(&query), expected, "{query}");
    }

    let changed = api.result("PATCH", &one, json!({"model": "n", "cost_out": null, "token_pricing": {"total_tokens": 1}, "model_rule": null, "enable": false}));
    for (name, value) in [
        ("model", json!("n")),
        ("cost_in", json!(1.25e-6)),
        ("cost_out", Value::Null),
        ("token_pricing", json!(r#"{"total_tokens":1}"#)),
        ("model_rule", json!("equals")),
        ("enable", json!(false)),
        ("weight", json!(7)),
    ] {
        assert_eq!(changed[name], value, "{name}");
    }
    assert!(text(&changed["modified_at"]) > text(&made["modified_at"]));

    let with = |name: &str, value: Value| {
        let mut body = json!({"account_provider_id": "openai", "model": "m"});
        body[name] = value;
        body
    };
    for (name, value, path) in [
        (
            "account_provider_id",
            json!("nobody"),
            "body.account_provider_id",
        ),
        (
            "account_provider_id",
            json!(null),
            "body.account_provider_id",
        ),
        ("model", json!(""), "body.model"),
        ("model_rule", json!("like"), "body.model_rule"),
        ("cost_in", json!(-1), "body.cost_in"),
        (
            "token_pricing",
            json!({"beer": 1}),
            "body.token_pricing.beer",
        ),
        (
            "token_pricing",
            json!({"input_tokens": "1"}),
            "body.token_pricing.input_tokens",
        ),
        ("weight", json!(0.5), "body.weight"),
    ] {
        assert_eq!(
            api.refusal("POST", costs, with(name, value.clone())),
            (400, 7001, vec![path.to_owned()]),
            "{name} {value}"
        );
    }
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(
            api.refusal(method, &format!("{costs}/nope"), json!({})).1,
            7002,
            "{method}"
        );
    }
    let reader = api.with("AI Gateway Read");
    assert_eq!(reader.get(&one), changed);
    assert_eq!(reader.refusal("PATCH", &one, json!({})).0, 403);

    assert_eq!(
        api.result(
            "DELETE",
            &format!("{costs}/{}", text(&plain["id"])),
            Value::Null
        ),
        plain
    );
    assert_eq!(count(""), 2);
    // A provider takes its prices with it.
    api.result("DELETE", &format!("/custom-providers/{id}"), Value::Null);
    assert_eq!(
        (count(""), api.refusal("GET", &one, Value::Null).1),
        (1, 7002)
    );
}

#[test]
fn a_custom_domain_leads_to_its_gateway() {
    let simulator = simulator();
    let config =
        "public_url = \"https://gateway.example:8443/x\"\n[gateways.open]\nauthentication = false";
    let gateway = Setup::over(&simulator);
    let gateway = Setup {
        // A key of the file's top stands before its tables.
        config: format!(
            "{}\n{}",
            config.lines().next().expect("a line"),
            gateway.config
        ),
        ..gateway
    };
    let gateway = gateway.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start();
    let api = Api::of(&gateway);
    api.create_gateway("g");
    api.create_gateway("h");
    let send = |host: &str, path: &str| {
        gateway.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    let direct = "/openai/v1/models";
    assert_eq!(send("ai.example", direct).code(), 7003);

    let domains = "/gateways/g/custom-domains";
    let made = api.result(
        "POST",
        domains,
        json!({"domain": "AI.Example", "zone_id": "whatever"}),
    );
    for (name, value) in [
        ("hostname", "ai.example"),
        ("gateway_id", "g"),
        ("status", "active"),
        ("cname_target", "gateway.example"),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert!(made["created_at"].as_i64().expect("milliseconds") > 1_700_000_000_000);
    assert_eq!(made["created_at"], made["modified_at"]);
    for host in ["ai.example", "AI.EXAMPLE:8787", "ai.example."] {
        assert_eq!(send(host, direct).status, 200, "{host}");
        assert_eq!(
            received(&simulator).last().expect("a request")["path"],
            "/v1/models"
        );
    }
    let absolute =
        gateway.send("GET http://ai.example/openai/v1/models HTTP/1.1\r\nHost: ai.example\r\n\r\n");
    assert_eq!(absolute.status, 200);
    let line = gateway.access.wait_for("\"gateway\":\"g\"");
    assert!(line.contains("\"path\":\"/openai/v1/models"), "{line}");
    // The long path is for other hosts.
    assert_eq!(
        send("ai.example", "/v1/acc/g/openai/v1/models").code(),
        2008
    );
    assert_eq!(send("ai.example", "/").code(), 2008);
    assert_eq!(send("ai.example", "/nobody/v1").code(), 2008);
    assert_eq!(send("ai.example", "/openai/../x").code(), 2008);
    assert_eq!(
        send("other.example", "/v1/acc/g/openai/v1/models").status,
        200
    );
    assert_eq!(send("sub.ai.example", direct).code(), 7003);

    let one = format!("{domains}/ai.example");
    assert_eq!(api.get(&one), made);
    assert_eq!(api.get(&format!("{domains}/AI.example")), made);
    assert_eq!(api.get(domains), json!([made]));
    assert_eq!(api.get("/gateways/h/custom-domains"), json!([]));
    let bad = (400, 7001, vec!["body.domain".to_owned()]);
    for wrong in [
        "ai.example",
        "Ai.Example.",
        "",
        "a b",
        "10.0.0.1",
        "a.example:80",
        "https://a.example",
        "*.example",
        "gateway.example",
    ] {
        for gateway_id in ["g", "h"] {
            let path = format!("/gateways/{gateway_id}/custom-domains");
            assert_eq!(
                api.refusal("POST", &path, json!({"domain": wrong})),
                bad,
                "{wrong}"
            );
        }
    }
    assert_eq!(api.refusal("POST", domains, json!({})), bad);
    for path in [
        "/gateways/h/custom-domains/ai.example",
        "/gateways/none/custom-domains/ai.example",
        "/gateways/g/custom-domains/x.example",
        "/gateways/g/custom-domains/10.0.0.1",
    ] {
        assert_eq!(api.refusal("GET", path, Value::Null).1, 7002, "{path}");
        assert_eq!(api.refusal("DELETE", path, Value::Null).1, 7002, "{path}");
    }
    assert_eq!(
        api.refusal(
            "POST",
            "/gateways/none/custom-domains",
            json!({"domain": "x.example"})
        )
        .1,
        7002
    );
    let reader = api.with("AI Gateway Read");
    assert_eq!(reader.get(&one), made);
    assert_eq!(reader.refusal("DELETE", &one, Value::Null).0, 403);

    // A reload builds everything anew.
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reloaded");
    assert_eq!(send("ai.example", direct).status, 200);
    // From one gateway to another.
    assert_eq!(api.result("DELETE", &one, Value::Null), made);
    assert_eq!(send("ai.example", direct).code(), 7003);
    api.result(
        "POST",
        "/gateways/h/custom-domains",
        json!({"domain": "ai.example"}),
    );
    assert_eq!(send("ai.example", direct).status, 200);
}

#[test]
fn a_gateway_takes_its_routes_and_domains_with_it() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let api = Api::of(&gateway);
    let send = || gateway.send("GET /openai/v1/models HTTP/1.1\r\nHost: ai.example\r\n\r\n");
    // Twice: nothing of the first is in the way of the second.
    for _ in 0..2 {
        api.create_gateway("g");
        assert_eq!(api.get("/gateways/g/custom-domains"), json!([]));
        let listed = api.raw("GET", "/gateways/g/routes", Value::Null);
        assert_eq!(listed["data"]["routes"], json!([]));
        api.result(
            "POST",
            "/gateways/g/custom-domains",
            json!({"domain": "ai.example"}),
        );
        api.result(
            "POST",
            "/gateways/g/routes",
            json!({"name": "a", "elements": elements("openai", "m")}),
        );
        assert_eq!(send().status, 200);
        api.result("DELETE", "/gateways/g", Value::Null);
        assert_eq!(send().code(), 7003);
        assert_eq!(
            api.refusal("GET", "/gateways/g/routes", Value::Null).1,
            7002
        );
    }
}

#[test]
fn names_that_a_vanished_gateway_left_behind_are_free() {
    let simulator = simulator();
    let setup = Setup::over(&simulator).with("[gateways.default]\nauthentication = false");
    let config = setup.config.clone();
    let gateway = setup
        .with("[gateways.passing]\nauthentication = false")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let api = Api::of(&gateway);
    let send = || gateway.send("GET /openai/v1/models HTTP/1.1\r\nHost: ai.example\r\n\r\n");
    api.result(
        "POST",
        "/gateways/passing/custom-domains",
        json!({"domain": "ai.example"}),
    );
    assert_eq!(send().status, 200);
    let taken = api.refusal(
        "POST",
        "/gateways/default/custom-domains",
        json!({"domain": "ai.example"}),
    );
    assert_eq!(taken.1, 7001);
    gateway.reconfigure(&config);
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reloaded");
    assert_eq!(send().code(), 2001);
    api.result(
        "POST",
        "/gateways/default/custom-domains",
        json!({"domain": "ai.example"}),
    );
    assert_eq!(send().status, 200);
}

#[test]
fn a_refused_call_with_a_body_leaves_the_connection_usable() {
    let simulator = simulator();
    let gateway = start(&simulator);
    let mut client = Client::connect(gateway.management);
    let body = "x".repeat(900_000);
    let lines = [
        (
            "PUT /client/v4/accounts/acc/ai-gateway/custom-providers",
            405,
        ),
        ("POST /client/v4/accounts/acc/ai-gateway/nothing", 404),
        (
            "POST /client/v4/accounts/acc/ai-gateway/custom-providers",
            401,
        ),
        ("POST /elsewhere", 404),
    ];
    for (line, status) in lines {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer wrong\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write(head.as_bytes());
        for piece in body.as_bytes().chunks(100_000) {
            client.write(piece);
        }
        assert_eq!(client.answer().status, status, "{line}");
    }
    client.write(b"GET /health HTTP/1.1\r\nHost: m\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}
