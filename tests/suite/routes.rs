//! Dynamic routes: `route test` tells the way of a request; the gateway goes it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

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
