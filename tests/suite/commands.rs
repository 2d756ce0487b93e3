//! The operator's commands, on a data directory and over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, Gateway, Setup, new_gateway, simulator};

const TOKEN: &str = "a-first-token-of-the-command-tests-012345678";

/// A data directory and what is asked of it.
struct Operator {
    data: std::path::PathBuf,
    token: Option<&'static str>,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Operator {
    fn of(folder: &TempDir) -> Self {
        Self {
            data: folder.path().join("data"),
            token: None,
        }
    }

    fn with_token(folder: &TempDir) -> Self {
        Self {
            token: Some(TOKEN),
            ..Self::of(folder)
        }
    }

    /// Runs a command on the data directory.
    fn run(&self, arguments: &[&str]) -> Ended {
        let data = self.data.display().to_string();
        self.run_exactly(&[arguments, &["--data-dir", &data]].concat())
    }

    fn run_exactly(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        command.args(arguments).env_remove("CLOUDFLARE_API_TOKEN");
        if let Some(token) = self.token {
            command.env("CLOUDFLARE_API_TOKEN", token);
        }
        let output = command.output().expect("the binary");
        Ended {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Standard output of a success.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Standard error of a failure with this exit code.
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }
}

fn setup() -> Setup {
    // The gateway `default` is the API's own here, not the file's: the comment says so to the harness.
    Setup::default()
        .with("# without [gateways.default]")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
}

fn status(gateway: &Gateway, id: &str, token: &str) -> u16 {
    let mut client = Client::connect(gateway.address);
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    client.write(
        format!(
            "POST /v1/acc/{id}/openai/chat/completions HTTP/1.1\r\nHost: g\r\ncf-aig-authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    client.answer().status
}

#[test]
fn tokens_are_made_listed_rolled_and_revoked_with_and_without_a_server() {
    let simulator = simulator();
    let start = || {
        Setup::over(&simulator)
            .with("# without [gateways.default]")
            .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
    };
    let folder = start().start().end(libc::SIGTERM);
    let operator = Operator::of(&folder);
    operator.run(&["gateway", "create", "other"]).ok();
    let create = [
        "token",
        "create",
        "--name",
        "ci",
        "--permission",
        "ai gateway run",
    ];
    let made = operator.run(&[&create[..], &["--gateway", "default", "--expires", "30d"]].concat());
    let value = made.ok().trim().to_owned();
    assert!(value.starts_with("rg_"), "{value}");
    let listed: Value =
        serde_json::from_str(&operator.run(&["token", "list", "--json"]).ok()).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert!(
        !listed.to_string().contains(&value),
        "a value is shown again"
    );
    let rolled = operator
        .run(&["token", "roll", "ci"])
        .ok()
        .trim()
        .to_owned();
    let gateway = start().start_in(folder);
    assert_eq!(status(&gateway, "default", &value), 401, "the old value");
    assert_eq!(status(&gateway, "default", &rolled), 200);
    assert_eq!(
        status(&gateway, "other", &rolled),
        401,
        "of another gateway"
    );

    let operator = Operator::with_token(&gateway.folder);
    let json: Value =
        serde_json::from_str(&operator.run(&[&create[..], &["--json"]].concat()).ok())
            .expect("JSON");
    let value = json["value"].as_str().expect("a value");
    assert_eq!(status(&gateway, "other", value), 200);
    let twice = operator.run(&["token", "revoke", "ci"]).failed(1);
    assert!(
        twice.contains(json["id"].as_str().expect("an id")),
        "{twice}"
    );
    operator
        .run(&["token", "revoke", json["id"].as_str().expect("an id")])
        .ok();
    assert_eq!(status(&gateway, "other", value), 401);
    let rolled_again = operator.run(&["token", "roll", "ci"]).ok();
    assert_eq!(status(&gateway, "default", &rolled), 401);
    assert_eq!(status(&gateway, "default", rolled_again.trim()), 200);
    let page = operator.run(&["token", "list"]).ok();
    assert!(
        page.contains("AI Gateway Run on default") && page.contains("Ringgate Admin"),
        "{page}"
    );
}

#[test]
fn an_operator_who_lost_every_token_makes_a_new_one() {
    let folder = setup().start().end(libc::SIGTERM);
    let operator = Operator::of(&folder);
    operator.run(&["token", "revoke", "initial"]).ok();
    assert_eq!(operator.run(&["token", "list", "--json"]).ok().trim(), "[]");
    let create = [
        "token",
        "create",
        "--name",
        "back",
        "--permission",
        "Ringgate Admin",
    ];
    let value = operator.run(&create).ok();
    let gateway = setup().start_in(folder);
    let answer = gateway.call(value.trim(), "GET", "/accounts/acc/tokens", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.json()["result_info"]["total_count"],
        1,
        "no other first token"
    );
}

#[test]
fn errors_name_code_and_path_and_usage_is_another_exit_code() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let told = Operator::of(&nowhere).run(&["token", "list"]).failed(2);
    assert!(told.contains("ringgate.db is not there"), "{told}");
    assert!(
        !nowhere.path().join("data").exists(),
        "a command makes no instance"
    );

    let gateway = setup().start();
    let told = Operator::of(&gateway.folder).run(&["account"]).failed(2);
    let names_all = told.contains(&format!("process {}", gateway.id()))
        && told.contains(&gateway.management.to_string())
        && told.contains("CLOUDFLARE_API_TOKEN");
    assert!(names_all, "{told}");

    let operator = Operator::with_token(&gateway.folder);
    let told = operator.run(&["gateway", "create", "Wrong Name"]).failed(1);
    assert!(
        told.contains("code 7001, at body.id") && told.contains("Wrong Name"),
        "{told}"
    );
    let told = operator.run(&["gateway", "delete", "missing"]).failed(1);
    assert!(told.contains("code 7002"), "{told}");
    let told = operator.run(&["token", "roll", "missing"]).failed(1);
    assert!(told.contains("no token \"missing\""), "{told}");
    let create =
        |more: &[&str]| operator.run(&[&["token", "create", "--name", "x"], more].concat());
    let told = create(&["--permission", "Everything"]).failed(2);
    assert!(told.contains("AI Gateway Run"), "{told}");
    let told = create(&["--permission", "AI Gateway Run", "--expires", "soon"]).failed(2);
    assert!(told.contains("--expires"), "{told}");
    create(&[]).failed(2);

    let wrong = Operator {
        token: Some("not-a-token-of-this-instance-0123456789"),
        ..Operator::of(&gateway.folder)
    };
    let told = wrong.run(&["token", "list"]).failed(1);
    assert!(told.contains("code 10000"), "{told}");
    let told = operator
        .run_exactly(&["token", "list", "--url", "http://127.0.0.1:1"])
        .failed(1);
    assert!(told.contains("127.0.0.1:1"), "{told}");
}

#[test]
fn the_account_is_shown() {
    let gateway = setup().start();
    let operator = Operator::with_token(&gateway.folder);
    let online = operator.run(&["account"]).ok();
    for part in [
        "acc",
        "created         20",
        "gateways        1",
        "tokens          1",
    ] {
        assert!(online.contains(part), "{part}: {online}");
    }
    let url = format!("http://{}", gateway.management);
    let by_url = operator.run_exactly(&["account", "--url", &url]).ok();
    assert!(
        by_url.contains("tokens          1") && !by_url.contains("data directory"),
        "{by_url}"
    );
    // The account was given to the server by a flag; the data directory remembers it.
    let folder = gateway.end(libc::SIGTERM);
    assert_eq!(Operator::of(&folder).run(&["account"]).ok(), online);
}

fn write(folder: &Path, name: &str, document: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, document.to_string()).expect("written");
    path.display().to_string()
}

#[test]
fn what_is_exported_is_applied_elsewhere_and_only_once() {
    let one = setup().start();
    let settings = json!({
        "id": "prod", "authentication": false, "cache_invalidate_on_update": false, "cache_ttl": 300, "collect_logs": true,
        "rate_limiting_interval": 60, "rate_limiting_limit": 100, "rate_limiting_technique": "sliding", "retry_max_attempts": 3,
        "guardrails": {"prompt": {"S1": "BLOCK"}, "response": {}},
        "otel": [{"url": "https://collector.example", "headers": {"x-key": "hidden-value"}}],
        "spend_limits": {"enabled": true, "rules": [{"limit": 5, "limitType": "cost", "window": 3600}]},
    });
    let answer = one.call(
        TOKEN,
        "POST",
        "/accounts/acc/ai-gateway/gateways",
        &settings.to_string(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let exported = Operator::with_token(&one.folder).run(&["export"]).ok();
    let document: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(document["version"], 1);
    assert_eq!(document["not_restorable"]["tokens"][0]["name"], "initial");
    assert!(!exported.contains(TOKEN), "a token's value is exported");

    let folder = setup().start().end(libc::SIGTERM);
    let operator = Operator::of(&folder);
    let file = write(folder.path(), "one.json", &document);
    let before = operator.run(&["export"]).ok();
    let planned = operator.run(&["apply", "-f", &file, "--dry-run"]).ok();
    assert!(
        planned.contains("+ gateway \"prod\"\n") && planned.contains("    cache_ttl: 300\n"),
        "{planned}"
    );
    assert!(
        planned.contains("would be: 1 created, 0 changed, 0 deleted"),
        "{planned}"
    );
    assert!(!planned.contains("hidden-value"), "{planned}");
    assert_eq!(
        operator.run(&["export"]).ok(),
        before,
        "a dry run changes nothing"
    );
    let done = operator.run(&["apply", "-f", &file]).ok();
    assert!(done.contains("done: 1 created"), "{done}");
    assert_eq!(
        operator.run(&["apply", "-f", &file]).ok(),
        "nothing to change\n"
    );
    let there: Value = serde_json::from_str(&operator.run(&["export"]).ok()).expect("JSON");
    assert_eq!(there["gateways"], document["gateways"]);

    // What the file leaves out goes back to its default, what it does not hold goes only when asked for.
    let changed = json!({"version": 1, "gateways": [{"id": "prod", "cache_ttl": 60}]});
    let file = write(folder.path(), "two.json", &changed);
    let done = operator.run(&["apply", "-f", &file]).ok();
    assert!(done.contains("    cache_ttl: 300 -> 60\n"), "{done}");
    assert!(
        done.contains("    authentication: false -> (default)\n"),
        "{done}"
    );
    assert!(done.contains("0 created, 1 changed, 0 deleted"), "{done}");
    assert_eq!(
        operator.run(&["apply", "-f", &file]).ok(),
        "nothing to change\n"
    );
    let done = operator.run(&["apply", "-f", &file, "--prune"]).ok();
    assert!(
        done.contains("- gateway \"default\"\n") && done.contains("1 deleted"),
        "{done}"
    );
    let ids = operator.run(&["gateway", "list"]).ok();
    assert!(ids.contains("prod") && !ids.contains("default"), "{ids}");
    // A kind that the file does not name is left alone.
    let file = write(folder.path(), "none.json", &json!({"version": 1}));
    assert_eq!(
        operator.run(&["apply", "-f", &file, "--prune"]).ok(),
        "nothing to change\n"
    );
}

#[test]
fn a_document_that_cannot_be_applied_names_the_object() {
    let folder = setup().start().end(libc::SIGTERM);
    let operator = Operator::of(&folder);
    let apply = |document: Value| {
        let file = write(folder.path(), "wrong.json", &document);
        operator.run(&["apply", "-f", &file]).failed(1)
    };
    let gateways = |gateways: Value| apply(json!({"version": 1, "gateways": gateways}));
    let told = gateways(json!([{"id": "a", "cache_tll": 1}]));
    assert!(
        told.contains("gateway \"a\"") && told.contains("did you mean \"cache_ttl\""),
        "{told}"
    );
    let told = gateways(json!([{"id": "a", "cache_ttl": -1, "retry_delay": "x"}]));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    let both = lines
        .iter()
        .all(|line| line.contains("gateway \"a\": ") && line.contains("code 7001, at body."));
    assert!(both, "{told}");
    assert!(
        gateways(json!([{"id": "a"}, {"id": "a"}]))
            .contains("gateway \"a\" is in the document twice")
    );
    assert!(gateways(json!([{"cache_ttl": 1}])).contains("has no id"));
    assert!(apply(json!({"version": 2})).contains("version is 2"));
    assert!(apply(json!({"version": 1, "gateway": []})).contains("unknown member \"gateway\""));
    let ids = operator.run(&["gateway", "list"]).ok();
    assert!(!ids.contains("\na "), "nothing was made: {ids}");
}

#[test]
fn what_the_configuration_file_declares_is_neither_exported_nor_pruned() {
    let gateway = Setup::default()
        .with("[gateways.default]\nauthentication = true\n[gateways.fixed]\ncache_ttl = 5")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let operator = Operator::with_token(&gateway.folder);
    let exported: Value = serde_json::from_str(&operator.run(&["export"]).ok()).expect("JSON");
    assert_eq!(exported["gateways"], json!([]));
    let file = write(
        gateway.folder.path(),
        "none.json",
        &json!({"version": 1, "gateways": []}),
    );
    assert_eq!(
        operator.run(&["apply", "-f", &file, "--prune"]).ok(),
        "nothing to change\n"
    );
    let file = write(
        gateway.folder.path(),
        "fixed.json",
        &json!({"version": 1, "gateways": [{"id": "fixed", "cache_ttl": 6}]}),
    );
    let told = operator.run(&["apply", "-f", &file]).failed(1);
    assert!(
        told.contains("gateway \"fixed\"") && told.contains("ringgate.toml"),
        "{told}"
    );
}

#[test]
fn an_account_elsewhere_is_imported() {
    // Another instance stands for Cloudflare: the same paths, the same answers.
    let there = setup().start();
    for id in ["a", "b"] {
        let body = new_gateway(id, id == "a");
        let answer = there.call(TOKEN, "POST", "/accounts/acc/ai-gateway/gateways", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let here = Setup::default()
        .with("# without [gateways.default]")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let key = here.folder.path().join("token");
    std::fs::write(&key, TOKEN).expect("written");
    let source = format!("file:{}", key.display());
    let url = format!("http://{}/client/v4", there.management);
    let operator = Operator::with_token(&here.folder);
    let import = |more: &[&str]| {
        let all = [
            "import-cloudflare",
            "--account",
            "acc",
            "--token-from",
            &source,
            "--url",
            &url,
        ];
        operator.run(&[&all[..], more].concat())
    };
    let planned = import(&["--dry-run"]).ok();
    assert!(
        planned.contains("would be: 2 created, 0 changed, 0 deleted"),
        "{planned}"
    );
    let done = import(&[]).ok();
    assert!(
        done.contains("+ gateway \"b\"\n    authentication: false\n"),
        "{done}"
    );
    assert_eq!(import(&[]).ok(), "nothing to change\n");
    let told = operator
        .run(&[
            "import-cloudflare",
            "--account",
            "acc",
            "--token-from",
            "rg_not_here",
            "--url",
            &url,
        ])
        .failed(2);
    assert!(told.contains("env:NAME"), "{told}");
}

/// An API of every kind, which answers reads from `there` and notes writes.
fn recorded_api(there: Vec<(&'static str, Value)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let writes: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = writes.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).expect("a line");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let mut words = first.split(' ');
            let (method, path) = (
                words.next().expect("a method"),
                words.next().expect("a path"),
            );
            let path = path.split('?').next().expect("a path");
            let path = path.trim_start_matches("/client/v4").to_owned();
            let mut noted = noted.lock().expect("not poisoned");
            let known = there.iter().find(|(known, _)| *known == path);
            let answer = match (method, known) {
                ("GET", _) if path.ends_with("/versions") => {
                    let made = noted
                        .iter()
                        .filter(|line| line.contains("/versions"))
                        .count();
                    let ids = (0..=made).map(|number| json!({"version_id": format!("v{number}")}));
                    json!({"success": true, "data": {"versions": ids.collect::<Vec<_>>()}})
                }
                ("GET", Some((_, answer))) => answer.clone(),
                ("GET", None) => json!({"success": true, "result": []}),
                _ => {
                    let body = String::from_utf8_lossy(&body);
                    noted.push(format!("{method} {path} {body}").trim().to_owned());
                    json!({"success": true, "result": {"id": "made-id"}})
                }
            };
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                text.len()
            );
            reader
                .get_mut()
                .write_all((head + &text).as_bytes())
                .expect("written");
        }
    });
    (url, writes)
}

#[test]
fn routes_prices_domains_and_datasets_are_exported_and_changed() {
    let elements = |target: &str| {
        json!([
            {"id": "s", "type": "start", "outputs": {"next": {"elementId": target}}},
            {"id": "e", "type": "end", "outputs": {}},
        ])
    };
    let filters = |cost: &str| json!([{"key": "cost", "operator": "gt", "value": [cost]}]);
    let result = |items: Value| json!({"success": true, "result": items});
    let (url, writes) = recorded_api(vec![
        ("/accounts", result(json!([{"id": "acc"}]))),
        (
            "/accounts/acc/ai-gateway/custom-providers",
            result(
                json!([{"id": "uuid-1", "slug": "mine", "name": "Mine", "base_url": "https://m.example", "logo": null}]),
            ),
        ),
        (
            "/accounts/acc/ai-gateway/gateways",
            result(json!([{"id": "g", "cache_ttl": 0}])),
        ),
        (
            "/accounts/acc/ai-gateway/custom-providers/costs",
            result(
                json!([{"id": "p1", "account_provider_id": "uuid-1", "model": "m", "cost_in": 0.5, "token_pricing": "{\"input_tokens\":1}"}]),
            ),
        ),
        (
            "/accounts/acc/ai-gateway/gateways/g/routes",
            json!({"success": true, "data": {"routes": [{"id": "r1", "name": "best", "elements": elements("e")}]}}),
        ),
        (
            "/accounts/acc/ai-gateway/gateways/g/custom-domains",
            result(json!([{"hostname": "old.example", "status": "active"}])),
        ),
        (
            "/accounts/acc/ai-gateway/gateways/g/datasets",
            result(
                json!([{"id": "d1", "name": "dear", "enable": true, "filters": filters("0.5")}]),
            ),
        ),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let operator = Operator::with_token(&folder);
    let exported = operator.run_exactly(&["export", "--url", &url]).ok();
    let mut document: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(document["prices"][0]["account_provider_id"], "custom-mine");
    assert_eq!(
        document["prices"][0]["token_pricing"],
        json!({"input_tokens": 1})
    );
    assert_eq!(document["routes"][0]["gateway_id"], "g");
    assert_eq!(
        document["domains"],
        json!([{"gateway_id": "g", "hostname": "old.example"}])
    );
    let file = write(folder.path(), "all.json", &document);
    let apply = ["apply", "--url", &url, "--prune", "-f"];
    let same = operator.run_exactly(&[&apply[..], &[&file]].concat()).ok();
    assert_eq!(same, "nothing to change\n");
    document["routes"][0]["elements"][0]["properties"] = json!({"note": "x"});
    document["domains"] = json!([{"gateway_id": "g", "hostname": "new.example"}]);
    assert_eq!(document["datasets"][0]["gateway_id"], "g");
    document["datasets"][0]["filters"] = filters("0.75");
    document["datasets"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"gateway_id": "g", "name": "all"}));
    document["prices"] = json!([
        {"account_provider_id": "custom-mine", "model": "m", "cost_in": 1},
        {"account_provider_id": "custom-next", "model": "n", "cost_in": 2},
    ]);
    let next = json!({"slug": "next", "name": "Next", "base_url": "https://n.example"});
    document["custom_providers"]
        .as_array_mut()
        .expect("a list")
        .push(next);
    let file = write(folder.path(), "all.json", &document);
    operator.run_exactly(&[&apply[..], &[&file]].concat()).ok();
    let writes = writes.lock().expect("not poisoned").clone();
    let base = "/accounts/acc/ai-gateway";
    let begins = [
        format!("POST {base}/custom-providers {{"),
        format!("PATCH {base}/custom-providers/costs/p1 {{\"cost_in\":1,\"token_pricing\":null}}"),
        format!("POST {base}/custom-providers/costs {{\"account_provider_id\":\"made-id\""),
        format!("POST {base}/gateways/g/routes/r1/versions {{\"elements\""),
        format!("POST {base}/gateways/g/routes/r1/deployments {{\"version_id\":\"v1\"}}"),
        format!("POST {base}/gateways/g/custom-domains {{\"domain\":\"new.example\"}}"),
        format!(
            "PUT {base}/gateways/g/datasets/d1 {{\"enable\":true,\"filters\":{}",
            filters("0.75")
        ),
        format!(
            "POST {base}/gateways/g/datasets {{\"name\":\"all\",\"enable\":true,\"filters\":[]}}"
        ),
        format!("DELETE {base}/gateways/g/custom-domains/old.example"),
    ];
    assert_eq!(writes.len(), begins.len(), "{writes:#?}");
    for (write, begin) in writes.iter().zip(&begins) {
        assert!(write.starts_with(begin.as_str()), "{write} is not {begin}");
    }
}
