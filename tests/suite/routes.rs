//! Dynamic routes: `route test` tells the way of a request; the gateway goes it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Answer, Client, DRIVERS, Gateway, Setup, eventually, new_gateway, new_token, post, received,
    sent_header, simulator,
};

/// How a command ended: its exit code, what it printed and what it complained of.
type Ended = (Option<i32>, String, String);

/// A route in a file, and requests beside it.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn with(route: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("route.json"), route.to_string()).expect("written");
        Self { folder }
    }

    /// Runs `route test` on the route with the request on standard input.
    fn test(&self, request: &Value, arguments: &[&str]) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["route", "test", "route.json", "--request", "-"])
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut input = child.stdin.take().expect("a pipe");
        // A command that refuses its options does not read.
        let _ = input.write_all(request.to_string().as_bytes());
        drop(input);
        let output = child.wait_with_output().expect("its end");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// The same as JSON: the elements passed, each with its outcome, and the end.
    fn way(&self, request: &Value, arguments: &[&str]) -> (Option<i32>, String, Value) {
        let (code, out, err) = self.test(request, &[arguments, &["--json"]].concat());
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let passed = told["trail"].as_array().expect("a trail").iter();
        let passed = passed.map(|entry| {
            let outcome = entry["outcome"].as_str().map(|text| format!(":{text}"));
            let id = entry["element"].as_str().expect("an id");
            format!("{id}{}", outcome.unwrap_or_default())
        });
        let passed: Vec<String> = passed.collect();
        (code, passed.join(" "), told["end"].clone())
    }
}

fn support(old: bool) -> Value {
    let (conditions, rate, window) = match old {
        true => ("condition", "rate_limit", "interval"),
        false => ("conditions", "rate", "window"),
    };
    json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}},
        {"id": "c", "type": "conditional", "properties": {conditions: {"$or": [
            {"metadata.plan": {"$eq": "free"}}, {"headers.x-team": "trial", "body.max_tokens": {"$gt": 100}}]}},
         "outputs": {"true": {"elementId": "r"}, "false": {"elementId": "p"}}},
        {"id": "r", "type": rate,
         "properties": {"limitType": "count", "key": "metadata.user_id", "limit": 100, window: 3600},
         "outputs": {"success": {"elementId": "m1"}, "fallback": {"elementId": "m2"}}},
        {"id": "p", "type": "percentage", "outputs": {"10%": {"elementId": "m2"}, "90%": {"elementId": "m1"}}},
        {"id": "m1", "type": "model",
         "properties": {"provider": "openai", "model": "gpt-4o-mini", "timeout": 60000, "retries": 4},
         "outputs": {"success": {"elementId": "e"}, "fallback": {"elementId": "m2"}}},
        {"id": "m2", "type": "model",
         "properties": {"provider": "custom-local", "model": "llama", "timeout": 0, "retries": 0},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}}
    ])
}

#[test]
fn a_test_tells_the_way_of_a_request_and_why() {
    for old in [false, true] {
        let bench = Bench::with(&support(old));
        let request = json!({"model": "dynamic/support", "max_tokens": 200, "messages": []});
        let free = ["--metadata", r#"{"plan":"free","user_id":"u"}"#];
        let (code, passed, end) = bench.way(&request, &free);
        assert_eq!(
            (code, &*passed),
            (Some(0), "s c:true r:success m1:success e")
        );
        let answer = json!({"outcome": "answer", "element": "m1", "provider": "openai", "model": "gpt-4o-mini", "step": 0});
        assert_eq!(end, answer);

        let (_, passed, _) = bench.way(&request, &["--header", "X-Team:  trial", "--fail", "r"]);
        assert_eq!(passed, "s c:true r:fallback m2:success e");
        let few = json!({"max_tokens": 100});
        let team = ["--header", "x-team: trial", "--draw", "9.99"];
        assert_eq!(bench.way(&few, &team).1, "s c:false p:10% m2:success e");

        let (code, passed, end) = bench.way(&few, &["--draw", "10", "--fail", "m1"]);
        assert_eq!(
            (code, &*passed),
            (Some(0), "s c:false p:90% m1:fallback m2:success e")
        );
        assert_eq!((&end["element"], &end["step"]), (&json!("m2"), &json!(1)));
        let all = ["--draw", "10", "--fail", "m1", "--fail", "m2"];
        let (code, passed, end) = bench.way(&few, &all);
        assert_eq!(
            (code, &*passed),
            (Some(1), "s c:false p:90% m1:fallback m2:fallback")
        );
        assert_eq!(end, json!({"outcome": "failure"}));
    }
}

#[test]
fn a_test_is_readable() {
    let bench = Bench::with(&json!({"name": "support", "elements": support(false)}));
    let metadata = r#"{"plan":"paid","cf.token_name":"ci"}"#;
    let (code, out, err) = bench.test(
        &json!({"max_tokens": 5}),
        &["--metadata", metadata, "--draw", "42.5"],
    );
    assert_eq!(code, Some(0), "{err}");
    let expected = r#"ELEMENT  TYPE         INPUTS                                                            OUTCOME  NEXT
s        start        -                                                                 -        c
c        conditional  metadata.plan="paid" body.max_tokens=5 no headers.x-team          false    p
p        percentage   drawn="42.5%"                                                     90%      m1
m1       model        provider="openai" model="gpt-4o-mini" step=0                      success  e
e        end          -                                                                 -        -
answered by openai/gpt-4o-mini (element "m1", cf-aig-step: 0)
"#;
    let squeezed = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&out), squeezed(expected));
    assert_eq!(
        err,
        "ringgate: note: \"custom-local\" is no built-in provider: such a version is not deployed before there is one\n"
    );
}

#[test]
fn a_route_without_an_answer_says_what_the_client_gets() {
    let route = |kind: &str, limit: f64| {
        json!([
            {"id": "s", "type": "start", "outputs": {"next": {"elementId": "r"}}},
            {"id": "r", "type": "rate", "properties": {"limitType": kind, "key": "metadata.u", "limit": limit, "window": 60},
             "outputs": {"success": {"elementId": "e"}}},
            {"id": "e", "type": "end", "outputs": {}}
        ])
    };
    for (kind, code) in [("count", 2003), ("cost", 2045)] {
        let bench = Bench::with(&route(kind, 2.0));
        let (exit, passed, end) = bench.way(&json!({}), &["--fail", "r"]);
        assert_eq!((exit, &*passed), (Some(1), "s r:fallback"));
        assert_eq!(
            end,
            json!({"outcome": "limit", "status": 429, "code": code})
        );
        let (exit, passed, end) = bench.way(&json!({}), &[]);
        assert_eq!((exit, &*passed), (Some(1), "s r:success e"));
        assert_eq!(
            end,
            json!({"outcome": "nothing", "status": 400, "code": 2005})
        );
    }
}

#[test]
fn what_cannot_be_tested_is_refused_with_its_place() {
    let refused = |route: &Value, arguments: &[&str]| {
        let (code, out, err) = Bench::with(route).test(&json!({}), arguments);
        assert_eq!((code, &*out), (Some(2), ""), "{err}");
        err
    };
    let mut looping = support(false);
    looping[5]["outputs"]["fallback"] = json!({"elementId": "m1"});
    assert_eq!(
        refused(&looping, &[]),
        "ringgate: route.json: elements.5.outputs.fallback: element \"m2\": leads back: m1 -> m2 -> m1\n"
    );
    let mut dangling = support(false);
    dangling[4]["outputs"]["fallback"] = json!({"elementId": "m3"});
    dangling[1]["properties"]["conditions"] = json!({"plan": "free"});
    let err = refused(&dangling, &[]);
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(
        err.contains("element \"m1\": output \"fallback\" leads to \"m3\", which is no element"),
        "{err}"
    );
    assert!(
        err.contains("elements.1.properties.conditions.plan: element \"c\": \"plan\" is no field"),
        "{err}"
    );

    let sound = support(false);
    for (arguments, told) in [
        (
            &["--fail", "c"][..],
            "--fail c: no such model or rate element; there are: r, m1, m2",
        ),
        (
            &["--draw", "100"],
            "--draw 100: must be from 0 to below 100",
        ),
        (&["--header", "x"], "--header \"x\": write NAME: VALUE"),
        (&["--metadata", "[]"], "--metadata: "),
    ] {
        let err = refused(&sound, arguments);
        assert!(err.starts_with(&format!("ringgate: {told}")), "{err}");
    }
    assert!(refused(&json!({"a": 1}), &[]).contains("no elements of a route"));
}

// --- execution ---

const TOKEN: &str = "routes-test-token-0123456789-01234567";

/// A gateway `g` that demands its token, over a simulator.
struct Site {
    simulator: ringgate::sim::Running,
    gateway: Gateway,
}

impl Site {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let simulator = simulator();
        let setup = Setup::over(&simulator)
            .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
            .with("[providers.groq]\nbase_url = \"http://127.0.0.1:9\"");
        let config = setup.config.replace(
            &format!(
                "[providers.groq]\nbase_url = \"http://{}\"\n",
                simulator.addr()
            ),
            "",
        );
        let setup = Setup { config, ..setup };
        let gateway = change(setup).start();
        let site = Self { simulator, gateway };
        let gateways = "/accounts/acc/ai-gateway/gateways";
        site.call("POST", gateways, &new_gateway("g", true));
        site
    }

    /// A call of the management API that succeeds.
    fn call(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.gateway.call(TOKEN, method, path, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Creates a route; returns its id.
    fn route(&self, name: &str, elements: &Value) -> String {
        let body = json!({"name": name, "elements": elements}).to_string();
        let made = self.call("POST", ROUTES, &body);
        assert_eq!(made["messages"], json!([]), "{made}");
        made["result"]["id"].as_str().expect("an id").to_owned()
    }

    fn request(&self, path: &str, headers: &str, body: &Value) -> String {
        let headers = format!("cf-aig-authorization: Bearer {TOKEN}\r\n{headers}");
        post(path, &headers, &body.to_string()).replace("/v1/acc/default/", "/v1/acc/g/")
    }

    /// Asks a route for a short conversation.
    fn ask(&self, route: &str, headers: &str) -> Answer {
        self.gateway
            .send(&self.request("compat/chat/completions", headers, &chat(route)))
    }

    /// Requests that the simulator received since this was last asked, by their models.
    fn asked(&self) -> Vec<String> {
        let requests = received(&self.simulator);
        let models = requests.iter().map(|request| {
            let body = request["body"].as_str().expect("a body");
            let body: Value = serde_json::from_str(body).expect("JSON");
            body["model"].as_str().unwrap_or_default().to_owned()
        });
        let models = models.collect();
        let mut client = Client::connect(self.simulator.addr());
        client.write(b"DELETE /sim/requests HTTP/1.1\r\nHost: s\r\n\r\n");
        assert_eq!(client.answer().status / 100, 2);
        models
    }

    /// The log entries that one trace ties together, by their steps, once there are so many.
    fn entries(&self, event: &str, count: usize) -> Vec<Value> {
        let path = format!("{LOGS}?order_by=created_at&order_by_direction=asc&per_page=50");
        eventually("the log entries", || {
            let all = self.call("GET", &path, "")["result"].clone();
            let all = all.as_array().expect("a list").iter();
            let mut found: Vec<Value> = all
                .filter(|entry| entry["event_id"] == event)
                .cloned()
                .collect();
            found.sort_by_key(|entry| entry["step"].as_u64());
            (found.len() == count).then_some(found)
        })
    }
}

const ROUTES: &str = "/accounts/acc/ai-gateway/gateways/g/routes";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/g/logs";

fn chat(route: &str) -> Value {
    json!({"model": format!("dynamic/{route}"), "messages": [{"role": "user", "content": "hi"}]})
}

fn to(id: &str) -> Value {
    json!({"elementId": id})
}

fn start(next: &str) -> Value {
    json!({"id": "s", "type": "start", "outputs": {"next": to(next)}})
}

fn end() -> Value {
    json!({"id": "e", "type": "end", "outputs": {}})
}

/// A model element that is called by its model's first letters.
fn model(id: &str, provider: &str, name: &str, properties: Value, fallback: Option<&str>) -> Value {
    let mut element = json!({"id": id, "type": "model", "properties": {"provider": provider, "model": name},
        "outputs": {"success": to("e")}});
    if let Some(fallback) = fallback {
        element["outputs"]["fallback"] = to(fallback);
    }
    for (name, value) in properties.as_object().into_iter().flatten() {
        element["properties"][name] = value.clone();
    }
    element
}

fn plain(id: &str, name: &str) -> Value {
    model(id, "openai", name, json!({}), None)
}

/// Which model answered.
fn answered(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("cf-aig-model").expect("a model")
}

#[test]
fn conditions_look_at_metadata_headers_body_and_caller() {
    let site = Site::new();
    for (old, name) in [(false, "new"), (true, "old")] {
        let conditions = json!({"$or": [
            {"metadata.plan": {"$eq": "free"}, "metadata.seats": {"$lt": 10}},
            {"headers.x-team": {"$in": ["a", "b"]}},
            {"body.messages.0.content": "hello", "body.temperature": {"$gte": 1}},
            {"metadata.cf.token_name": {"$ne": "initial"}},
            {"metadata.cf.user_id": "forged"},
        ]});
        let condition = if old { "condition" } else { "conditions" };
        let elements = json!([
            start("c"),
            {"id": "c", "type": "conditional", "properties": {condition: conditions},
             "outputs": {"true": to("y"), "false": to("n")}},
            plain("y", "yes"),
            plain("n", "no"),
            end()
        ]);
        site.route(name, &elements);
        for (headers, expected) in [
            ("", "no"),
            (
                "cf-aig-metadata: {\"plan\":\"free\",\"seats\":9}\r\n",
                "yes",
            ),
            (
                "cf-aig-metadata: {\"plan\":\"free\",\"seats\":\"9\"}\r\n",
                "yes",
            ),
            (
                "cf-aig-metadata: {\"plan\":\"free\",\"seats\":10}\r\n",
                "no",
            ),
            (
                "cf-aig-metadata: {\"plan\":\"free\",\"seats\":9,\"x\":{}}\r\n",
                "no",
            ),
            ("cf-aig-metadata: {\"cf.user_id\":\"forged\"}\r\n", "no"),
            ("X-Team: b\r\n", "yes"),
            ("X-Team: c\r\n", "no"),
        ] {
            assert_eq!(answered(&site.ask(name, headers)), expected, "{headers}");
        }
        let mut body = chat(name);
        body["messages"][0]["content"] = json!("hello");
        for (temperature, expected) in [(0.5, "no"), (1.0, "yes")] {
            body["temperature"] = json!(temperature);
            let request = site.request("compat/chat/completions", "", &body);
            assert_eq!(answered(&site.gateway.send(&request)), expected);
        }
        let token = site.call("POST", "/accounts/acc/tokens", &new_token("other"));
        let token = token["result"]["value"].as_str().expect("a token");
        let request = site.request("compat/chat/completions", "", &chat(name));
        let request = request.replace(TOKEN, token);
        assert_eq!(answered(&site.gateway.send(&request)), "yes");
    }
}

#[test]
fn shares_are_drawn_for_each_request() {
    let site = Site::new();
    let elements = json!([
        start("p"),
        {"id": "p", "type": "percentage", "outputs": {"30%": to("a"), "0%": to("c"), "else": to("b")}},
        plain("a", "a"), plain("b", "b"), plain("c", "c"),
        end()
    ]);
    site.route("split", &elements);
    let request = site.request("compat/chat/completions", "", &chat("split"));
    let mut client = site.gateway.connect();
    let (mut first, mut changes, mut before) = (0, 0, String::new());
    const REQUESTS: usize = 600;
    for _ in 0..REQUESTS {
        client.write(request.as_bytes());
        let answer = client.answer();
        let model = answered(&answer);
        assert_ne!(model, "c");
        first += usize::from(model == "a");
        changes += usize::from(model != before);
        before = model.to_owned();
    }
    // Seven standard deviations around 180 and 252: once in four hundred thousand million runs.
    assert!((102..=258).contains(&first), "{first}");
    assert!((160..=344).contains(&changes), "{changes}");
}

#[test]
fn a_model_that_fails_is_followed_by_its_fallback() {
    for driver in DRIVERS {
        let site = Site::with(|setup| setup.on(driver));
        let retries = json!({"retries": 2, "timeout": 0});
        let elements = json!([
            start("m1"),
            model("m1", "openai", "gpt-4o+sim-status-500", retries, Some("m2")),
            model("m2", "groq", "nobody-listens", json!({}), Some("m3")),
            model(
                "m3",
                "openai",
                "sim-hang",
                json!({"timeout": 150}),
                Some("m4")
            ),
            model("m4", "custom-none", "x", json!({}), Some("m5")),
            model(
                "m5",
                "anthropic",
                "claude+sim-tokens-3",
                json!({}),
                Some("m6")
            ),
            plain("m6", "never"),
            end()
        ]);
        let body = json!({"name": "chain", "elements": elements}).to_string();
        // A provider that goes away after a version was deployed.
        let custom = json!({"name": "none", "slug": "none", "base_url": format!("http://{}", site.simulator.addr())});
        let custom = site.call(
            "POST",
            "/accounts/acc/ai-gateway/custom-providers",
            &custom.to_string(),
        );
        site.call("POST", ROUTES, &body);
        let id = custom["result"]["id"].as_str().expect("an id");
        site.call(
            "DELETE",
            &format!("/accounts/acc/ai-gateway/custom-providers/{id}"),
            "",
        );

        let headers = "cf-aig-event-id: trace-1\r\ncf-aig-retry-delay: 1\r\ncf-aig-metadata: {\"team\":\"a\"}\r\n";
        for stream in [false, true] {
            let headers = headers.replace("trace-1", &format!("trace-{driver}-{stream}"));
            let mut body = chat("chain");
            body["stream"] = json!(stream);
            let answer =
                site.gateway
                    .send(&site.request("compat/chat/completions", &headers, &body));
            assert_eq!(answered(&answer), "claude+sim-tokens-3");
            assert_eq!(answer.header("cf-aig-provider"), Some("anthropic"));
            assert_eq!(answer.header("cf-aig-step"), Some("4"));
            match stream {
                true => assert!(
                    answer.text().ends_with("data: [DONE]\n\n"),
                    "{}",
                    answer.text()
                ),
                false => assert_eq!(answer.json()["object"], "chat.completion"),
            }
            let failing = "gpt-4o+sim-status-500";
            assert_eq!(
                site.asked(),
                [failing, failing, failing, "sim-hang", "claude+sim-tokens-3"]
            );
            let entries = site.entries(&format!("trace-{driver}-{stream}"), 5);
            let told: Vec<(u64, &str, bool)> = entries
                .iter()
                .map(|entry| {
                    let element = entry["route"]["element_id"].as_str().expect("an element");
                    let success = entry["success"].as_bool().expect("a flag");
                    (entry["step"].as_u64().expect("a step"), element, success)
                })
                .collect();
            let expected = [
                (0, "m1", false),
                (1, "m2", false),
                (2, "m3", false),
                (3, "m4", false),
                (4, "m5", true),
            ];
            assert_eq!(told, expected);
            assert_eq!(entries[0]["route"]["name"], "chain");
            assert_eq!(entries[0]["retries"], 2);
            assert_eq!(entries[0]["provider"], "openai");
            assert_eq!(entries[4]["metadata"], r#"{"team":"a"}"#);
            assert_eq!(
                Some(entries[4]["id"].as_str().expect("an id")),
                answer.header("cf-aig-log-id")
            );
        }
    }
}

#[test]
fn the_trail_tells_how_a_request_went() {
    let site = Site::new();
    let elements = json!([
        start("c"),
        {"id": "c", "type": "conditional", "properties": {"conditions": {"metadata.plan": "free", "headers.x-api-key": "k"}},
         "outputs": {"true": to("m1"), "false": to("r")}},
        {"id": "r", "type": "rate", "properties": {"limitType": "count", "key": "metadata.user", "limit": 1, "window": 86400},
         "outputs": {"success": to("m1"), "fallback": to("m2")}},
        model("m1", "openai", "gpt-4o+sim-status-500", json!({}), Some("m2")),
        plain("m2", "good"),
        end()
    ]);
    site.route("trail", &elements);
    let headers = "cf-aig-event-id: t1\r\ncf-aig-metadata: {\"plan\":\"paid\",\"user\":\"u\"}\r\n";
    assert_eq!(answered(&site.ask("trail", headers)), "good");
    let entries = site.entries("t1", 2);
    let passed = |entry: &Value| {
        let trail = entry["trail"].as_array().expect("a trail").iter();
        let passed = trail.filter(|decision| decision["rule"] == "route");
        let text =
            |decision: &Value, name: &str| decision[name].as_str().expect("a text").to_owned();
        let passed = passed.map(|decision| {
            let words = ["element", "outcome", "saw", "next"].map(|name| text(decision, name));
            words.join("|")
        });
        passed.collect::<Vec<_>>()
    };
    assert_eq!(
        passed(&entries[0]),
        [
            "s|passed||c",
            "c|false|metadata.plan=\"paid\" no headers.x-api-key|r",
            "r|success|metadata.user=\"u\" limitType=\"count\" limit=1 window=86400|m1",
            "m1|fallback|provider=\"openai\" model=\"gpt-4o+sim-status-500\" step=0|m2",
        ]
    );
    assert_eq!(
        passed(&entries[1]),
        [
            "m2|success|provider=\"openai\" model=\"good\" step=1|e",
            "e|passed||"
        ]
    );
    let headers = headers.replace("t1", "t2");
    assert_eq!(answered(&site.ask("trail", &headers)), "good");
    let entries = site.entries("t2", 1);
    assert_eq!(passed(&entries[0])[2].split('|').nth(1), Some("fallback"));
}

#[test]
fn where_no_model_answers_the_last_failure_goes_down() {
    let site = Site::new();
    let failing = |id: &str, name: &str, fallback| model(id, "openai", name, json!({}), fallback);
    let last_answer = json!([
        start("a"),
        failing("a", "a+sim-status-503", Some("b")),
        failing("b", "b+sim-status-418", Some("c")),
        model("c", "groq", "nobody-listens", json!({}), Some("e")),
        end()
    ]);
    site.route("answers", &last_answer);
    let answer = site.ask("answers", "cf-aig-event-id: x1\r\n");
    assert_eq!(
        (answer.status, answer.header("cf-aig-step")),
        (418, Some("1")),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("cf-aig-model"), Some("b+sim-status-418"));
    assert!(answer.json()["error"].is_object(), "{}", answer.text());
    let statuses: Vec<Value> = site
        .entries("x1", 3)
        .iter()
        .map(|entry| entry["status_code"].clone())
        .collect();
    assert_eq!(statuses, [json!(503), json!(418), json!(400)]);

    let nobody = json!([
        start("a"),
        model("a", "groq", "x", json!({"retries": 1}), None),
        end()
    ]);
    site.route("nobody", &nobody);
    let answer = site.ask("nobody", "cf-aig-retry-delay: 1\r\n");
    assert_eq!((answer.status, answer.code()), (400, 2005));
    let alone = json!([start("a"), failing("a", "a+sim-status-401", None), end()]);
    site.route("alone", &alone);
    assert_eq!(site.ask("alone", "").status, 401);
}

#[test]
fn what_is_no_route_is_refused_with_its_name() {
    let site = Site::new();
    let ends = json!([start("e"), end()]);
    site.route("ends", &ends);
    let draft = json!({"name": "draft", "elements": [start("m"), model("m", "custom-none", "x", json!({}), None), end()]});
    site.call("POST", ROUTES, &draft.to_string());
    for name in ["ends", "draft", "nowhere"] {
        let answer = site.ask(name, "");
        assert_eq!((answer.status, answer.code()), (400, 2005), "{name}");
        let told = answer.json()["description"]
            .as_str()
            .expect("a description")
            .to_owned();
        assert!(told.contains(&format!("{name:?}")), "{told}");
    }
    let body = json!({"model": "dynamic/ends", "input": "x"});
    let answer = site
        .gateway
        .send(&site.request("compat/embeddings", "", &body));
    assert_eq!((answer.status, answer.code()), (400, 2005));
    let body = json!({"model": "cloudflare/auto", "messages": []});
    let answer = site
        .gateway
        .send(&site.request("compat/chat/completions", "", &body));
    assert_eq!((answer.status, answer.code()), (400, 2005));
    assert_eq!(site.asked(), Vec::<String>::new());
}

fn rate(properties: Value, fallback: Option<&str>) -> Value {
    let mut element = json!({"id": "r", "type": "rate", "properties": properties, "outputs": {"success": to("m1")}});
    if let Some(fallback) = fallback {
        element["outputs"]["fallback"] = to(fallback);
    }
    json!([
        start("r"),
        element,
        plain("m1", "within"),
        plain("m2", "beyond"),
        end()
    ])
}

#[test]
fn a_rate_element_admits_exactly_its_limit_over_threads() {
    let site = Site::with(|setup| setup.with("[data]\nthreads = 2"));
    for technique in ["fixed", "sliding"] {
        let properties = json!({"limitType": "count", "key": "metadata.user", "limit": 7, "window": 86400, "technique": technique});
        site.route(technique, &rate(properties, Some("m2")));
        let headers = "cf-aig-metadata: {\"user\":\"u\"}\r\n";
        let request = site.request("compat/chat/completions", headers, &chat(technique));
        let ask = || {
            let mut client = site.gateway.connect();
            let mut within = 0;
            for _ in 0..6 {
                client.write(request.as_bytes());
                within += usize::from(answered(&client.answer()) == "within");
            }
            within
        };
        let within: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("asked"))
                .sum()
        });
        assert_eq!(within, 7, "{technique}");
        // Another value has a count of its own, and so have those that lack it.
        for headers in ["cf-aig-metadata: {\"user\":\"v\"}\r\n", ""] {
            assert_eq!(answered(&site.ask(technique, headers)), "within");
        }
    }
}

#[test]
fn a_limit_without_a_fallback_ends_the_route() {
    let site = Site::new();
    let properties =
        json!({"limitType": "count", "key": "headers.x-user", "limit": 1, "interval": 86400});
    site.route("count", &rate(properties.clone(), None));
    // A fallback that leads to the end alone is none.
    let mut to_end = rate(properties, Some("e"));
    to_end[1]["type"] = json!("rate_limit");
    site.route("end", &to_end);
    for name in ["count", "end"] {
        assert_eq!(answered(&site.ask(name, "")), "within");
        let answer = site.ask(name, "cf-aig-event-id: refused\r\n");
        assert_eq!((answer.status, answer.code()), (429, 2003), "{name}");
        assert!(answer.header("retry-after").is_some(), "{}", answer.head);
        assert_eq!(answered(&site.ask(name, "X-User: other\r\n")), "within");
    }
    let entries = site.entries("refused", 2);
    assert!(
        entries
            .iter()
            .all(|entry| entry["status_code"] == 429 && entry["route"]["element_id"] == "")
    );
    site.asked();
}

#[test]
fn a_cost_element_is_full_once_what_was_spent_reaches_it() {
    let site = Site::new();
    let properties =
        json!({"limitType": "cost", "key": "metadata.user", "limit": 0.01, "window": 86400});
    let mut elements = rate(properties, None);
    elements[2] = plain("m1", "gpt-4o");
    site.route("cost", &elements);
    let spend = "cf-aig-custom-cost: {\"per_token_in\":0,\"per_token_out\":1}\r\n";
    let ask = |user: &str, more: &str| {
        site.ask(
            "cost",
            &format!("cf-aig-metadata: {{\"user\":\"{user}\"}}\r\n{more}"),
        )
    };
    // Costs next to nothing, and so does not fill it.
    for _ in 0..3 {
        assert_eq!(
            answered(&ask(
                "a",
                "cf-aig-custom-cost: {\"per_token_in\":0,\"per_token_out\":0}\r\n"
            )),
            "gpt-4o"
        );
    }
    assert_eq!(answered(&ask("a", spend)), "gpt-4o");
    // It is booked when the answer has ended, which its client may see first.
    let refused = eventually("a full budget", || {
        let answer = ask("a", spend);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.code()), (429, 2045));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(answered(&ask("b", spend)), "gpt-4o");
}

#[test]
fn a_deployment_counts_for_the_next_request_and_the_way_back_too() {
    let site = Site::new();
    let elements = |name: &str| json!([start("m"), plain("m", name), end()]);
    let id = site.route("live", &elements("one"));
    let path = format!("{ROUTES}/{id}");
    let first = site.call("GET", &path, "")["result"]["version"]["version_id"].clone();
    let body = json!({"elements": elements("two")}).to_string();
    let saved = site.call("POST", &format!("{path}/versions"), &body);
    let second = saved["result"]["version"]["version_id"].clone();
    assert_eq!(answered(&site.ask("live", "")), "one");
    for round in 0..40 {
        let (version, expected) = if round % 2 == 0 {
            (&second, "two")
        } else {
            (&first, "one")
        };
        let body = json!({"version_id": version}).to_string();
        site.call("POST", &format!("{path}/deployments"), &body);
        assert_eq!(answered(&site.ask("live", "")), expected, "{round}");
    }
    site.call("PATCH", &path, r#"{"name":"renamed"}"#);
    assert_eq!(answered(&site.ask("renamed", "")), "one");
    assert_eq!(site.ask("live", "").status, 400);
    site.call("DELETE", &path, "");
    assert_eq!(site.ask("renamed", "").status, 400);
}

#[test]
fn every_endpoint_for_conversations_takes_routes() {
    let site = Site::new();
    let elements = json!([
        start("a"),
        model("a", "openai", "a+sim-status-500", json!({}), Some("b")),
        model("b", "anthropic", "b", json!({}), Some("c")),
        plain("c", "c"),
        end()
    ]);
    site.route("r", &elements);
    let hi = json!([{"role": "user", "content": "hi"}]);
    let model = json!("dynamic/r");
    let authorized = format!("Authorization: Bearer {TOKEN}\r\ncf-aig-gateway-id: g\r\n");
    let rest = |path: &str, body: Value| {
        post("X", &authorized, &body.to_string()).replace(
            "/v1/acc/default/X",
            &format!("/client/v4/accounts/acc/ai/{path}"),
        )
    };
    let entry = json!({"provider": "compat", "endpoint": "chat/completions", "query": {"model": model, "messages": hi}});
    let other = json!({"provider": "openai", "endpoint": "v1/chat/completions", "query": {"model": "sim-status-503", "messages": hi}});
    let chat = json!({"model": model, "messages": hi});
    let messages = json!({"model": model, "messages": hi, "max_tokens": 50});
    let responses = json!({"model": model, "input": "hi"});
    for (request, member, step) in [
        (
            site.request("compat/v1/chat/completions", "", &chat),
            "choices",
            "1",
        ),
        (
            site.request("compat/messages", "", &messages),
            "content",
            "1",
        ),
        (
            site.request("compat/responses", "", &responses),
            "output",
            "1",
        ),
        (rest("v1/chat/completions", chat.clone()), "choices", "1"),
        (rest("v1/messages", messages.clone()), "content", "1"),
        (rest("v1/responses", responses.clone()), "output", "1"),
        (
            rest("run", json!({"model": model, "input": {"messages": hi}})),
            "gatewayMetadata",
            "1",
        ),
        // SDKs choose their parser by the place of the entry that answered.
        (
            site.request("", "", &entry).replace("/g/ ", "/g "),
            "choices",
            "0",
        ),
        (
            site.request("", "", &json!([other, entry]))
                .replace("/g/ ", "/g "),
            "choices",
            "1",
        ),
    ] {
        let answer = site.gateway.send(&request);
        assert_eq!(answered(&answer), "b", "{request}");
        assert_eq!(answer.header("cf-aig-step"), Some(step), "{request}");
        assert!(answer.json().get(member).is_some(), "{}", answer.text());
    }
    let listed = format!(
        "GET /v1/acc/g/compat/v1/models HTTP/1.1\r\nHost: g\r\ncf-aig-authorization: Bearer {TOKEN}\r\n\r\n"
    );
    assert!(site.gateway.send(&listed).text().contains("\"dynamic/r\""));
}

#[test]
fn of_models_one_after_the_other_the_last_that_answers_is_heard() {
    let site = Site::new();
    let chain = |second: &str| {
        let mut first = plain("a", "first");
        first["outputs"]["success"] = to("b");
        json!([
            start("a"),
            first,
            model("b", "openai", second, json!({}), Some("e")),
            end()
        ])
    };
    site.route("both", &chain("second"));
    site.route("one", &chain("second+sim-status-500"));
    for (name, expected, step) in [("both", "second", "1"), ("one", "first", "0")] {
        for stream in [false, true] {
            let mut body = chat(name);
            body["stream"] = json!(stream);
            let answer = site
                .gateway
                .send(&site.request("compat/chat/completions", "", &body));
            assert_eq!(answered(&answer), expected);
            assert_eq!(answer.header("cf-aig-step"), Some(step));
            assert!(answer.whole);
        }
    }
}

#[test]
fn stored_keys_pay_for_each_model_of_a_route() {
    let site = Site::new();
    for (provider, key) in [
        ("openai", "sk-stored-openai"),
        ("anthropic", "sk-stored-anthropic"),
    ] {
        let body = json!({"provider_slug": provider, "alias": "default", "default_config": true, "secret": key});
        site.call(
            "POST",
            "/accounts/acc/ai-gateway/gateways/g/provider_configs",
            &body.to_string(),
        );
    }
    let elements = json!([
        start("a"),
        model("a", "openai", "a+sim-status-500", json!({}), Some("b")),
        model("b", "anthropic", "b", json!({}), None),
        end()
    ]);
    site.route("keys", &elements);
    let answer = site.ask("keys", "cf-aig-event-id: k\r\n");
    assert_eq!(answered(&answer), "b");
    let requests = received(&site.simulator);
    assert_eq!(
        sent_header(&requests[0], "authorization"),
        Some("Bearer sk-stored-openai")
    );
    assert_eq!(
        sent_header(&requests[1], "x-api-key"),
        Some("sk-stored-anthropic")
    );
    assert!(
        site.entries("k", 2)
            .iter()
            .all(|entry| entry["byok"] == true)
    );
}
