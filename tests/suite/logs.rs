//! Log entries: what they say, how they are found, and what becomes of them when the disk or the program fails.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Setup, chat, eventually, new_gateway, post, simulator};

const TOKEN: &str = "logs-test-token-0123456789-0123456789";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs";

fn start(setup: Setup) -> Gateway {
    setup.env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN).start()
}

fn get(gateway: &Gateway, path: &str) -> Answer {
    gateway.call(TOKEN, "GET", path, "")
}

/// A page of the log, once it has so many entries.
fn page(gateway: &Gateway, query: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} entries"), || {
        let answer = get(gateway, &format!("{LOGS}?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let items = answer.json()["result"].as_array().expect("a list").clone();
        (items.len() == count).then_some(items)
    })
}

/// Waits until all that was sent is stored or counted as lost.
fn settled(gateway: &Gateway, sent: u64) {
    eventually("all entries", || {
        let sum: u64 = [
            "logs_stored_total",
            "logs_dropped_total",
            "logs_over_quota_total",
            "logs_ownerless_total",
        ]
        .iter()
        .map(|name| gateway.metric(name))
        .sum();
        (sum + gateway.metric("records_dropped_total") == sent).then_some(())
    });
}

#[test]
fn an_entry_tells_what_was_asked_and_what_came() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let headers = "User-Agent: test/1\r\ncf-aig-event-id: trace-7\r\ncf-aig-metadata: {\"team\":\"a\",\"n\":3}\r\nAuthorization: Bearer sk-x\r\n";
    let answer = gateway.send(&post(
        "openai/chat/completions",
        headers,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#,
    ));
    assert_eq!(answer.status, 200);
    let id = answer.header("cf-aig-log-id").expect("a log id").to_owned();
    assert_eq!(Some(&*id), answer.header("cf-aig-request-id"));
    let usage = answer.json()["usage"].clone();
    let listed = page(&gateway, "", 1).remove(0);
    let read = get(&gateway, &format!("{LOGS}/{id}"));
    assert_eq!(read.status, 200, "{}", read.text());
    let entry = read.json()["result"].clone();
    for (name, expected) in [
        ("id", json!(id)),
        ("event_id", json!("trace-7")),
        ("provider", json!("openai")),
        ("path", json!("chat/completions")),
        ("request_type", json!("chat")),
        ("request_content_type", json!("application/json")),
        ("success", json!(true)),
        ("cached", json!(false)),
        ("status_code", json!(200)),
        ("step", json!(0)),
        ("tokens_in", usage["prompt_tokens"].clone()),
        ("tokens_out", usage["completion_tokens"].clone()),
        ("cost", json!(0.00034)),
        ("metadata", json!(r#"{"team":"a","n":3}"#)),
        ("user_agent", json!("test/1")),
        ("authentication", json!(false)),
        ("wholesale", json!(false)),
        ("end", json!("complete")),
        ("client", json!("127.0.0.1")),
        ("upstream", json!(simulator.addr().to_string())),
        ("method", json!("POST")),
        ("response_size", json!(answer.body.len())),
    ] {
        assert_eq!(entry[name], expected, "{name}");
        assert_eq!(listed[name], expected, "{name} in a list");
    }
    assert!(entry["request_size"].as_u64().expect("a size") > 10);
    let times = &entry["timings_us"];
    let sum: u64 = ["own", "wait", "connect", "upstream", "stream"]
        .iter()
        .map(|name| times[name].as_u64().expect("a time"))
        .sum();
    assert!(
        times["total"].as_u64().expect("a time").abs_diff(sum) <= 6,
        "{times}"
    );
    let other = "0".repeat(8) + &id[8..];
    for path in [
        format!("{LOGS}/{other}"),
        format!("{LOGS}/{other}/response"),
        format!("{LOGS}/no-id"),
    ] {
        let answer = get(&gateway, &path);
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["code"]),
            (404, &json!(7002)),
            "{path}"
        );
    }
}

#[test]
fn the_readme_names_every_member_of_an_entry() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    gateway.send(&chat("gpt-4o", false));
    let listed = page(&gateway, "", 1).remove(0);
    let id = listed["id"].as_str().expect("an id");
    let entry = get(&gateway, &format!("{LOGS}/{id}")).json()["result"].clone();
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## Logs\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let told: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let names: HashSet<&str> = told.iter().copied().collect();
    assert_eq!(names.len(), told.len(), "each once");
    let members = entry.as_object().expect("an object");
    let members: HashSet<&str> = members.keys().map(String::as_str).collect();
    let lacks: Vec<_> = members.difference(&names).collect();
    let invents: Vec<_> = names.difference(&members).collect();
    assert!(
        lacks.is_empty() && invents.is_empty(),
        "README lacks {lacks:?} and invents {invents:?}"
    );
    // What it calls planned is null, and nothing else of a list is missing.
    let planned = section.lines().find(|line| line.contains("planned"));
    let planned = planned.expect("the row").split(" | ").next();
    for name in planned.expect("a cell").split('`').skip(1).step_by(2) {
        assert!(
            entry[name].is_null(),
            "{name} is filled: say so in the README"
        );
    }
    let single = |name: &&&str| name.contains("_head");
    let listed = listed.as_object().expect("an object");
    let listed: HashSet<&str> = listed.keys().map(String::as_str).collect();
    assert!(members.difference(&listed).all(|name| single(&name)));
}

#[test]
fn failures_and_streams_are_logged_and_refused_callers_are_not() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator).with("[gateways.closed]\nauthentication = true"));
    assert_eq!(
        gateway.send(&chat("gpt-4o+sim-status-500", false)).status,
        500
    );
    let body =
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    assert_eq!(
        gateway
            .send(&post("openai/chat/completions", "", body))
            .status,
        200
    );
    let answer = gateway.send(&chat("gpt-4o", false).replace("/default/", "/closed/"));
    assert_eq!((answer.status, answer.header("cf-aig-log-id")), (401, None));
    let mut client = gateway.connect();
    client.write(chat("sim-hang-after-2", true).as_bytes());
    client.read_until("data:");
    drop(client);
    let entries = page(&gateway, "order_by_direction=asc", 3);
    let told = |index: usize| {
        let entry = &entries[index];
        (
            entry["success"].clone(),
            entry["status_code"].clone(),
            entry["end"].clone(),
        )
    };
    assert_eq!(told(0), (json!(false), json!(500), json!("complete")));
    assert_eq!(told(1), (json!(true), json!(200), json!("complete")));
    assert_eq!(told(2), (json!(false), json!(200), json!("client_left")));
    assert!(
        entries[1]["tokens_out"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0)
    );
    let closed = get(&gateway, "/accounts/acc/ai-gateway/gateways/closed/logs").json();
    assert_eq!(closed["result_info"]["total_count"], 0);
}

#[test]
fn gateway_and_request_say_whether_there_is_an_entry() {
    let simulator = simulator();
    let gateway = start(
        Setup::over(&simulator)
            .with("[gateways.quiet]\nauthentication = false\ncollect_logs = false"),
    );
    let send = |gateway_id: &str, headers: &str| {
        let request =
            post("openai/models", headers, "{}").replace("/default/", &format!("/{gateway_id}/"));
        gateway.send(&request).header("cf-aig-log-id").is_some()
    };
    assert!(send("default", ""));
    assert!(!send("default", "cf-aig-collect-log: false\r\n"));
    assert!(send("default", "cf-aig-collect-log: perhaps\r\n"));
    assert!(!send("quiet", ""));
    assert!(send("quiet", "cf-aig-collect-log: True\r\n"));
    page(&gateway, "", 2);
    let quiet = "/accounts/acc/ai-gateway/gateways/quiet/logs";
    eventually("the entry", || {
        (get(&gateway, quiet).json()["result_info"]["total_count"] == 1).then_some(())
    });
}

/// Sends requests that differ and tells what their entries must be.
fn various(gateway: &Gateway) {
    for (model, path, metadata) in [
        ("gpt-4o", "openai/chat/completions", r#"{"team":"red"}"#),
        (
            "gpt-4o-mini",
            "openai/chat/completions",
            r#"{"team":"blue","n":10}"#,
        ),
        ("llama", "groq/chat/completions", r#"{"other":"red"}"#),
        ("gpt-4o+sim-status-429", "openai/chat/completions", ""),
        ("text-embedding-3", "openai/embeddings", ""),
    ] {
        let headers = match metadata {
            "" => "User-Agent: plain\r\n".to_owned(),
            text => format!("User-Agent: tagged\r\ncf-aig-metadata: {text}\r\n"),
        };
        let body = match path.ends_with("embeddings") {
            true => json!({"model": model, "input": "hi"}),
            false => json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}),
        };
        gateway.send(&post(path, &headers, &body.to_string()));
        // Each begins in a millisecond of its own, which is what times are told by.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    page(gateway, "", 5);
}

#[test]
fn filters_find_what_they_say() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    various(&gateway);
    let all = page(&gateway, "", 5);
    let id = all[2]["id"].as_str().expect("an id");
    let created = all[2]["created_at"].as_str().expect("a time");
    let single = format!("key=id&operator=eq&value={id}");
    let part = format!(
        "key=id&operator=contains&value={}",
        &id[24..].to_uppercase()
    );
    let event = format!("key=event_id&operator=eq&value={id}");
    let after = format!("key=created_at&operator=gt&value={created}");
    let day = format!("key=created_at&operator=eq&value={}", &created[..10]);
    let text = format!("key=created_at&operator=contains&value={}", &created[..23]);
    for (filter, expected) in [
        ("key=provider&operator=eq&value=groq", 1),
        ("key=provider&operator=neq&value=groq", 4),
        ("key=provider&operator=contains&value=O", 5),
        ("key=provider&operator=eq&value=groq&value=openai", 5),
        ("key=provider&operator=neq&value=groq&value=openai", 0),
        ("key=provider&operator=lt&value=h", 1),
        ("key=success&operator=eq&value=false", 1),
        ("key=success&operator=neq&value=false", 4),
        ("key=cached&operator=eq&value=true", 0),
        ("key=cached&operator=eq&value=0", 5),
        ("key=request_type&operator=eq&value=chat", 4),
        ("key=model_type&operator=eq&value=embeddings", 1),
        ("key=request_content_type&operator=contains&value=json", 5),
        ("key=response_content_type&operator=eq&value=text/html", 0),
        ("key=user_agent&operator=eq&value=tagged", 3),
        ("key=metadata.key&operator=eq&value=team", 2),
        ("key=metadata.key&operator=neq&value=team", 3),
        ("key=metadata.value&operator=eq&value=red", 2),
        ("key=metadata.value&operator=eq&value=10.0", 1),
        ("key=metadata.value&operator=gt&value=9", 1),
        ("key=metadata.value&operator=contains&value=E", 3),
        ("key=tokens_in&operator=gt&value=0", 4),
        ("key=tokens&operator=gt&value=0", 4),
        ("key=tokens_in&operator=eq&value=null", 1),
        ("key=tokens_in&operator=neq&value=null", 4),
        ("key=cost&operator=eq&value=null", 3),
        ("key=cost&operator=gt&value=0", 2),
        ("key=duration&operator=lt&value=60000", 5),
        ("key=feedback&operator=eq&value=null", 5),
        ("key=feedback&operator=eq&value=0", 5),
        ("key=feedback&operator=neq&value=1", 5),
        ("key=authentication&operator=eq&value=false", 5),
        ("key=wholesale&operator=eq&value=true", 0),
        ("key=compatibilityMode&operator=eq&value=false", 5),
        ("key=dlp_action&operator=eq&value=BLOCK", 0),
        ("key=dlp_action&operator=neq&value=BLOCK", 5),
        ("key=prompts.prompt_id&operator=eq&value=x", 0),
        (&single, 1),
        (&part, 1),
        (&event, 1),
        (&day, 5),
        (&text, 1),
        (&after, 2),
    ] {
        let query = filter
            .replace("key=", "filters.key=")
            .replace("operator=", "filters.operator=")
            .replace("value=", "filters.value=");
        let answer = get(&gateway, &format!("{LOGS}?{query}")).json();
        let count = &answer["result_info"]["total_count"];
        let items = answer["result"].as_array().map_or(0, Vec::len);
        assert_eq!(*count, expected, "{filter}: {answer}");
        assert_eq!(count, items, "{filter}");
    }
    let two = "filters.key=provider&filters.key=success&filters.operator=eq&filters.operator=eq&filters.value=openai&filters.value=true";
    page(&gateway, two, 3);
    for (query, expected) in [
        ("provider=groq", 1),
        ("success=true", 4),
        ("success=1&provider=openai", 3),
        ("feedback=0", 5),
        ("feedback=1", 0),
        ("min_tokens_in=1", 4),
        ("max_duration=60000", 5),
        ("min_duration=60000", 0),
        ("min_cost=0", 2),
        ("start_date=2026-01-01T00:00:00Z&end_date=2100-01-01", 5),
        ("end_date=2026-01-01T00:00:00Z", 0),
        ("search=GROQ", 1),
        ("search=blue", 1),
        ("search=team", 2),
        ("search=embed", 1),
        ("search=nowhere", 0),
    ] {
        let answer = get(&gateway, &format!("{LOGS}?{query}"));
        if query.contains("end_date=2100-01-01") {
            // A date alone is no time as this parameter takes them.
            assert_eq!(answer.status, 400);
            continue;
        }
        assert_eq!(
            answer.json()["result_info"]["total_count"],
            expected,
            "{query}: {}",
            answer.text()
        );
    }
    for query in [
        "per_page=51",
        "order_by=cost",
        "filters.key=cost",
        "success=maybe",
        "start_date=soon",
        "page=0",
    ] {
        assert_eq!(
            get(&gateway, &format!("{LOGS}?{query}")).status,
            400,
            "{query}"
        );
    }
}

#[test]
fn lists_have_a_total_order_and_pages_that_end() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    various(&gateway);
    let ids = |query: &str| -> Vec<String> {
        let answer = get(&gateway, &format!("{LOGS}?{query}")).json();
        let items = answer["result"].as_array().expect("a list").clone();
        items
            .iter()
            .map(|item| item["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let newest_first = ids("");
    let mut oldest_first = ids("direction=asc");
    assert_eq!(ids("direction=asc&order_by_direction=desc"), newest_first);
    oldest_first.reverse();
    assert_eq!(oldest_first, newest_first);
    assert!(newest_first.is_sorted_by(|one, other| one > other));
    for order in [
        "created_at",
        "provider",
        "model",
        "model_type",
        "success",
        "cached",
    ] {
        let mut seen = HashSet::new();
        for page in 1..=3 {
            seen.extend(ids(&format!("order_by={order}&per_page=2&page={page}")));
        }
        assert_eq!(seen.len(), 5, "{order}");
        assert!(ids(&format!("order_by={order}&per_page=2&page=4")).is_empty());
    }
    let first = |query: &str| get(&gateway, &format!("{LOGS}?{query}")).json()["result"][0].clone();
    assert_eq!(
        first("order_by=provider&order_by_direction=asc")["provider"],
        "groq"
    );
    assert_eq!(
        first("order_by=success&order_by_direction=asc")["success"],
        false
    );
    let info = get(
        &gateway,
        &format!("{LOGS}?meta_info=true&per_page=2&page=3"),
    )
    .json()["result_info"]
        .clone();
    assert_eq!(
        (&info["count"], &info["total_count"], &info["total_pages"]),
        (&json!(1), &json!(5), &json!(3))
    );
    assert!(
        info["min_tokens_in"].is_u64()
            && info["max_total_tokens"].is_u64()
            && info["min_cost"].is_number()
    );
    assert!(info["min_duration"].as_u64() <= info["max_duration"].as_u64());
}

#[test]
fn entries_are_changed_and_deleted() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    various(&gateway);
    let id = page(&gateway, "", 5)[0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let one = format!("{LOGS}/{id}");
    let edit = |body: Value| gateway.call(TOKEN, "PATCH", &one, &body.to_string());
    let answer = edit(json!({"feedback": 1, "score": 87.5, "metadata": {"a": "b", "n": 1}}));
    assert_eq!((answer.status, &answer.json()["result"]), (200, &json!({})));
    let entry = get(&gateway, &one).json()["result"].clone();
    assert_eq!(
        (&entry["feedback"], &entry["score"]),
        (&json!(1), &json!(87.5))
    );
    assert_eq!(entry["metadata"], r#"{"a":"b","n":1}"#);
    page(&gateway, "feedback=1", 1);
    page(
        &gateway,
        "filters.key=metadata.key&filters.operator=eq&filters.value=a",
        1,
    );
    edit(json!({"score": null}));
    let entry = get(&gateway, &one).json()["result"].clone();
    assert_eq!(
        (&entry["feedback"], &entry["score"]),
        (&json!(1), &json!(null)),
        "what is left out stays"
    );
    for wrong in [
        json!({"feedback": 2}),
        json!({"score": 101}),
        json!({"metadata": {"a": {}}}),
        json!([]),
    ] {
        assert_eq!(edit(wrong.clone()).status, 400, "{wrong}");
    }
    let missing = format!("{LOGS}/{}{}", "0".repeat(8), &id[8..]);
    assert_eq!(
        gateway
            .call(TOKEN, "PATCH", &missing, r#"{"score":1}"#)
            .status,
        404
    );
    // Both changes stand in the audit log, and the one that was none does not.
    let lines = get(&gateway, "/accounts/acc/audit_logs?action.type=update").json();
    let lines = lines["result"].as_array().expect("lines").clone();
    let about = lines
        .iter()
        .filter(|line| line["resource"]["type"] == "ai_gateway.log");
    assert_eq!(about.count(), 2);

    let delete = |query: &str| gateway.call(TOKEN, "DELETE", &format!("{LOGS}?{query}"), "");
    let answer = delete("filters.key=provider&filters.operator=eq&filters.value=groq");
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"success": true}))
    );
    page(&gateway, "", 4);
    delete("limit=1&order_by=success&order_by_direction=asc");
    page(&gateway, "success=true", 3);
    page(&gateway, "", 3);
    assert_eq!(delete("limit=10001").status, 400);
    assert_eq!(delete("").status, 200);
    page(&gateway, "", 0);
    assert_eq!(delete("").status, 200, "nothing to delete is no failure");
}

#[test]
fn a_deleted_gateway_takes_its_entries_with_it() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let gateways = "/accounts/acc/ai-gateway/gateways";
    let make = || {
        assert_eq!(
            gateway
                .call(TOKEN, "POST", gateways, &new_gateway("gone", false))
                .status,
            200
        )
    };
    let total = || {
        get(&gateway, &format!("{gateways}/gone/logs")).json()["result_info"]["total_count"].clone()
    };
    make();
    for _ in 0..3 {
        gateway.send(&chat("gpt-4o", false).replace("/default/", "/gone/"));
    }
    gateway.send(&chat("gpt-4o", false));
    eventually("the entries", || (total() == 3).then_some(()));
    assert_eq!(
        gateway
            .call(TOKEN, "DELETE", &format!("{gateways}/gone"), "")
            .status,
        200
    );
    assert_eq!(get(&gateway, &format!("{gateways}/gone/logs")).status, 404);
    make();
    eventually("no entries", || (total() == 0).then_some(()));
    page(&gateway, "", 1);
}

/// The file of entries.
fn segment_in(logs: &Path) -> PathBuf {
    std::fs::read_dir(logs)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "db"))
        .expect("a segment")
}

/// Every file below a folder that holds a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_credential_of_a_request_is_stored() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let secret = "Zq8-secret-0123456789abcdefghijklmnop";
    let slots = [
        "authorization: Bearer",
        "authorization: Basic",
        "authorization: Token",
        "authorization: Key",
        "cf-aig-authorization: Bearer",
        "x-api-key:",
        "api-key:",
        "x-goog-api-key:",
        "xi-api-key:",
        "cf-access-token:",
        "Cf-Access-Jwt-Assertion:",
        "cookie: CF_Authorization=",
        "Sec-WebSocket-Protocol: cf-aig-authorization.",
        "x-amz-security-token:",
        "PAYMENT-SIGNATURE:",
        "proxy-authorization: Bearer",
    ];
    for slot in slots {
        gateway.send(&post(
            "openai/chat/completions",
            &format!("{slot} {secret}\r\n"),
            r#"{"model":"m","messages":[]}"#,
        ));
    }
    let inside = format!(
        r#"authorization: {{"cf-access-client-id":"i","cf-access-client-secret":"{secret}"}}"#
    );
    gateway.send(&post(
        "openai/chat/completions",
        &format!("{inside}\r\n"),
        "{}",
    ));
    gateway.send(&post(
        &format!("google-ai-studio/v1beta/models/m:generateContent?key={secret}"),
        "",
        "{}",
    ));
    // Keys that a client puts where none belongs.
    let key = "sk-misplaced-0123456789abcdefghij";
    let misplaced = format!(
        "User-Agent: mine {key}\r\ncf-aig-event-id: {key}\r\ncf-aig-metadata: {{\"k\":\"{key}\"}}\r\nContent-Type: x/{key}\r\n"
    );
    gateway.send(&post("openai/chat/completions", &misplaced, "{}"));
    let entries = page(&gateway, "per_page=50", slots.len() + 3);
    for entry in &entries {
        assert!(
            !entry.to_string().contains(secret) && !entry.to_string().contains(key),
            "{entry}"
        );
    }
    let folder = gateway.end(libc::SIGTERM);
    for text in [secret, key] {
        let found = files_with(&folder.path().join("data"), text);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn a_number_of_entries_is_kept_to_by_either_strategy() {
    let simulator = simulator();
    // The API takes no number below 10,000, so that as many must be there first.
    let config = "[gateways.oldest]\nauthentication = false\nlog_management = 10000\n[gateways.stops]\nauthentication = false\nlog_management = 10000\nlog_management_strategy = \"STOP_INSERTING\"";
    let setup = Setup::over(&simulator).with(config);
    let gateway = start(setup);
    let sent = 10_050;
    for id in ["oldest", "stops"] {
        let mut client = gateway.connect();
        let request = "GET /v1/acc/default/openai/models HTTP/1.1\r\nHost: g\r\n\r\n"
            .replace("/default/", &format!("/{id}/"));
        for _ in 0..sent / 50 {
            client.write(request.repeat(50).as_bytes());
            for _ in 0..50 {
                client.answer();
            }
        }
    }
    settled(&gateway, 2 * sent);
    let total = |id: &str| {
        get(
            &gateway,
            &format!("/accounts/acc/ai-gateway/gateways/{id}/logs"),
        )
        .json()["result_info"]["total_count"]
            .as_u64()
    };
    let lost = gateway.metric("records_dropped_total") + gateway.metric("logs_dropped_total");
    assert_eq!(lost, 0);
    eventually("the oldest to go", || {
        (total("oldest") == Some(10_000)).then_some(())
    });
    assert_eq!(total("stops"), Some(10_000));
    assert_eq!(gateway.metric("logs_over_quota_total"), 50);
    assert_eq!(gateway.metric("logs_expired_total"), 50);
}

#[test]
fn a_kill_loses_the_last_moment_at_most_and_never_a_file() {
    let simulator = simulator();
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut settled = 0;
    for round in 0..4 {
        let setup = Setup::over(&simulator).env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN);
        let gateway = setup.start_in(folder);
        let total = || {
            get(&gateway, LOGS).json()["result_info"]["total_count"]
                .as_u64()
                .expect("a number")
        };
        // What was there is there, or else it was among the entries of the last moment.
        let kept = total();
        assert!(kept >= settled, "{kept} of {settled} in round {round}");
        for _ in 0..20 {
            gateway.send(&chat("gpt-4o", false));
        }
        eventually("the entries", || (total() == kept + 20).then_some(()));
        settled = kept + 20;
        // Some more that the writer may be in the middle of.
        for _ in 0..10 {
            gateway.send(&chat("gpt-4o", false));
        }
        folder = gateway.end(libc::SIGKILL);
    }
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder);
    let folder = gateway.end(libc::SIGTERM);
    let mut checked = 0;
    for entry in std::fs::read_dir(folder.path().join("data/logs")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "db") {
            let database = rusqlite::Connection::open(&path).expect("opened");
            let health: String = database
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .expect("checked");
            assert_eq!(health, "ok");
            checked += 1;
        }
    }
    assert!(checked >= 1);
}

#[test]
fn a_folder_that_cannot_be_used_costs_the_logs_and_nothing_else() {
    let simulator = simulator();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("data")).expect("made");
    std::fs::write(folder.path().join("data/logs"), "in the way").expect("written");
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder);
    assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    gateway.notices.wait_for("logs: entries cannot be written");
    let store = get(&gateway, "/accounts/acc/ai-gateway/log-store").json()["result"].clone();
    assert!(
        store["failures"].as_u64() > Some(0) && store["last_failure"].is_string(),
        "{store}"
    );
    assert_eq!(get(&gateway, LOGS).json()["result_info"]["total_count"], 0);
    // Once it is out of the way, what waited is written.
    std::fs::remove_file(gateway.folder.path().join("data/logs")).expect("removed");
    gateway.notices.wait_for("logs: entries are written again");
    page(&gateway, "", 1);
}

#[test]
fn a_disk_that_stalls_holds_up_no_request() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let mut sent = 0;
    let mut send = |count: u64| {
        for _ in 0..count {
            assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
        }
        sent += count;
        sent
    };
    let before = send(5);
    settled(&gateway, before);
    let logs = gateway.folder.path().join("data/logs");
    let segment = segment_in(&logs);
    // Somebody else holds the file: the writer waits and fails, as on a disk that does not answer.
    let holder = rusqlite::Connection::open(&segment).expect("opened");
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let during = send(30);
    gateway.notices.wait_for("logs: entries cannot be written");
    assert_eq!(gateway.metric("logs_stored_total"), before);
    holder.execute_batch("ROLLBACK").expect("let go");
    settled(&gateway, during);
    assert_eq!(
        gateway.metric("logs_stored_total"),
        during,
        "what found room in the queue is written late"
    );
    assert!(gateway.metric("log_failures_total") > 0);
    page(&gateway, "per_page=50", during as usize);
}

#[test]
fn a_full_disk_costs_entries_only_for_as_long_as_it_is_full() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    gateway.send(&chat("gpt-4o", false));
    settled(&gateway, 1);
    // No file may grow beyond this: what would be written is refused, as on a disk without room.
    let before = gateway.limit(libc::RLIMIT_FSIZE, 32 << 10);
    for _ in 0..20 {
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    }
    gateway.notices.wait_for("logs: entries cannot be written");
    assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    assert!(gateway.metric("log_failures_total") > 0);
    assert!(gateway.metric("logs_stored_total") < 22);
    gateway.limit(libc::RLIMIT_FSIZE, before);
    gateway.notices.wait_for("logs: entries are written again");
    settled(&gateway, 22);
    page(&gateway, "per_page=50", 22);
}

#[test]
fn what_finds_no_room_while_the_disk_stalls_is_counted() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    gateway.send(&chat("gpt-4o", false));
    settled(&gateway, 1);
    let logs = gateway.folder.path().join("data/logs");
    let segment = segment_in(&logs);
    let holder = rusqlite::Connection::open(&segment).expect("opened");
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let mut client = gateway.connect();
    let mut sent = 1;
    // More than the queue and a batch before it hold.
    let request = "GET /v1/acc/default/openai/models HTTP/1.1\r\nHost: g\r\n\r\n".repeat(100);
    for _ in 0..400 {
        client.write(request.as_bytes());
        for _ in 0..100 {
            assert_eq!(client.answer().status, 200);
        }
        sent += 100;
    }
    eventually("entries without room", || {
        (gateway.metric("logs_dropped_total") > 0).then_some(())
    });
    holder.execute_batch("ROLLBACK").expect("let go");
    settled(&gateway, sent);
    let (stored, lost) = (
        gateway.metric("logs_stored_total"),
        gateway.metric("logs_dropped_total"),
    );
    assert_eq!(
        stored + lost + gateway.metric("records_dropped_total"),
        sent
    );
    let store = get(&gateway, "/accounts/acc/ai-gateway/log-store").json()["result"].clone();
    assert_eq!(
        (&store["stored"], &store["dropped"]),
        (&json!(stored), &json!(lost))
    );
    let listed = get(&gateway, LOGS).json();
    assert_eq!(listed["result_info"]["total_count"], stored);
}
