//! Datasets and evaluations: what they keep, and that their figures are those of the logs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Setup, eventually, new_gateway, post, simulator};

const TOKEN: &str = "dataset-test-token-0123456789-0123456";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";
const DATASETS: &str = "/accounts/acc/ai-gateway/gateways/default/datasets";
const EVALUATIONS: &str = "/accounts/acc/ai-gateway/gateways/default/evaluations";
const LOGS: &str = "/accounts/acc/ai-gateway/gateways/default/logs?per_page=50";
const TYPES: [&str; 3] = ["cost", "speed", "human_feedback"];

fn setup(simulator: &ringgate::sim::Running) -> Setup {
    Setup::over(simulator).env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    gateway.call(TOKEN, method, path, &body)
}

/// `result` of a call that succeeds.
fn result(gateway: &Gateway, method: &str, path: &str, body: Value) -> Value {
    let answer = call(gateway, method, path, &body);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json()["result"].clone()
}

fn get(gateway: &Gateway, path: &str) -> Value {
    result(gateway, "GET", path, Value::Null)
}

/// Status, code and path of the first error of a call that fails.
fn refusal(gateway: &Gateway, method: &str, path: &str, body: Value) -> (u16, u64, String) {
    let answer = call(gateway, method, path, &body);
    let errors = answer.json()["errors"].clone();
    let parts = errors[0]["path"].as_array().into_iter().flatten();
    let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
    let code = errors[0]["code"].as_u64();
    (answer.status, code.expect("a code"), parts.join("."))
}

fn filter(key: &str, operator: &str, value: Value) -> Value {
    json!({"key": key, "operator": operator, "value": value})
}

fn dataset(name: &str, filters: Value) -> Value {
    json!({"name": name, "enable": true, "filters": filters})
}

fn id(object: &Value) -> &str {
    object["id"].as_str().expect("an id")
}

/// The evaluation, once it is done.
fn processed(gateway: &Gateway, evaluation: &str) -> Value {
    eventually("the results", || {
        let shown = get(gateway, &format!("{EVALUATIONS}/{evaluation}"));
        (shown["processed"] == true).then_some(shown)
    })
}

fn names(listed: &Value) -> Vec<&str> {
    let items = listed.as_array().expect("a list");
    items
        .iter()
        .map(|item| item["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn datasets_are_kept_as_they_were_given() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    let filters = json!([
        filter("model", "contains", json!(["gpt", "Ä "])),
        filter("cost", "gt", json!([0.000_1])),
        filter("success", "eq", json!([true, "false"])),
    ]);
    let made = result(&gateway, "POST", DATASETS, dataset("one", filters.clone()));
    assert_eq!(made["filters"], filters);
    for (name, value) in [
        ("account_id", "acc"),
        ("account_tag", "acc"),
        ("gateway_id", "default"),
        ("name", "one"),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    assert_eq!(id(&made).len(), 36);
    let one = format!("{DATASETS}/{}", id(&made));
    assert_eq!(get(&gateway, &one), made);
    let twin = refusal(&gateway, "POST", DATASETS, dataset("one", json!([])));
    assert_eq!(twin, (400, 7001, "body.name".to_owned()));
    let other = result(&gateway, "POST", DATASETS, dataset("two", json!([])));
    let twin = refusal(&gateway, "PUT", &one, dataset("two", json!([])));
    assert_eq!(twin, (400, 7001, "body.name".to_owned()));
    let off = json!({"name": "one", "enable": false, "filters": []});
    let changed = result(&gateway, "PUT", &one, off);
    assert_eq!(
        (&changed["enable"], &changed["filters"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(changed["created_at"], made["created_at"]);
    assert!(changed["modified_at"].as_str() > made["modified_at"].as_str());
    let result_of = |query: &str| get(&gateway, &format!("{DATASETS}?{query}"));
    for (query, expected) in [
        ("", vec!["one", "two"]),
        ("enable=true", vec!["two"]),
        ("name=one", vec!["one"]),
        ("name=on", vec![]),
        ("search=ON", vec!["one"]),
        (&format!("search={}", &id(&other)[..18]), vec!["two"]),
        ("per_page=1&page=2", vec!["two"]),
        ("per_page=1&page=3", vec![]),
    ] {
        assert_eq!(names(&result_of(query)), expected, "{query}");
    }
    result(&gateway, "PUT", &one, dataset("one", filters));
    assert_eq!(names(&result_of("search=contains")), ["one"]);
    for number in 3..=10 {
        let name = format!("number {number}");
        result(&gateway, "POST", DATASETS, dataset(&name, json!([])));
    }
    let eleventh = refusal(&gateway, "POST", DATASETS, dataset("more", json!([])));
    assert_eq!(eleventh, (400, 7001, "body".to_owned()));
    assert_eq!(result(&gateway, "DELETE", &one, Value::Null)["name"], "one");
    let gone = (404, 7002, String::new());
    assert_eq!(refusal(&gateway, "GET", &one, Value::Null), gone);
    assert_eq!(refusal(&gateway, "DELETE", &one, Value::Null), gone);
    result(&gateway, "POST", DATASETS, dataset("more", json!([])));
    // A dataset is one of its gateway's, and goes with it.
    result(
        &gateway,
        "POST",
        GATEWAYS,
        serde_json::from_str(&new_gateway("g", true)).expect("JSON"),
    );
    let own = result(
        &gateway,
        "POST",
        &format!("{GATEWAYS}/g/datasets"),
        dataset("x", json!([])),
    );
    let foreign = format!("{DATASETS}/{}", id(&own));
    assert_eq!(refusal(&gateway, "GET", &foreign, Value::Null), gone);
    result(&gateway, "DELETE", &format!("{GATEWAYS}/g"), Value::Null);
    result(
        &gateway,
        "POST",
        GATEWAYS,
        serde_json::from_str(&new_gateway("g", true)).expect("JSON"),
    );
    assert_eq!(get(&gateway, &format!("{GATEWAYS}/g/datasets")), json!([]));
    let lines = get(&gateway, "/accounts/acc/audit_logs?per_page=100");
    let about: BTreeSet<&str> = lines
        .as_array()
        .expect("lines")
        .iter()
        .filter(|line| line["resource"]["type"] == "ai_gateway.dataset")
        .map(|line| line["action"]["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(about, BTreeSet::from(["create", "delete", "update"]));
}

#[test]
fn filters_of_datasets_are_those_of_the_logs() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    for (filters, place) in [
        (
            json!([filter("event_id", "eq", json!(["x"]))]),
            "body.filters.0.key",
        ),
        (
            json!([filter("cost", "neq", json!([1]))]),
            "body.filters.0.operator",
        ),
        (
            json!([filter("cost", "gt", json!([]))]),
            "body.filters.0.value",
        ),
        (
            json!([filter("cost", "gt", json!([null]))]),
            "body.filters.0.value.0",
        ),
        (
            json!([filter("cost", "gt", json!("1"))]),
            "body.filters.0.value",
        ),
        (
            json!([filter("cost", "gt", json!(["much"]))]),
            "body.filters.0.value",
        ),
        (
            json!([
                filter("model", "eq", json!(["a"])),
                filter("model", "eq", json!(["b"]))
            ]),
            "body.filters.1.key",
        ),
        (json!({}), "body.filters"),
        (json!([1]), "body.filters.0"),
    ] {
        let told = refusal(&gateway, "POST", DATASETS, dataset("x", filters.clone()));
        assert_eq!(told, (400, 7001, place.to_owned()), "{filters}");
    }
    for missing in ["name", "enable", "filters"] {
        let mut body = dataset("x", json!([]));
        body.as_object_mut().expect("an object").remove(missing);
        let told = refusal(&gateway, "POST", DATASETS, body);
        assert_eq!(told, (400, 7001, format!("body.{missing}")));
    }
    assert_eq!(get(&gateway, DATASETS), json!([]), "nothing of it was kept");
}

#[test]
fn evaluation_types_are_always_the_same() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    let path = "/accounts/acc/ai-gateway/evaluation-types";
    let ids = |query: &str| -> Vec<String> {
        let listed = get(&gateway, &format!("{path}?{query}"));
        let items = listed.as_array().expect("a list").clone();
        items.iter().map(|item| id(item).to_owned()).collect()
    };
    assert_eq!(ids(""), ["cost", "human_feedback", "speed"]);
    assert_eq!(
        ids("order_by=name&order_by_direction=desc"),
        ["speed", "human_feedback", "cost"]
    );
    assert_eq!(ids("page=2"), [""; 0]);
    for query in ["per_page=4", "per_page=51", "order_by=luck"] {
        let answer = call(&gateway, "GET", &format!("{path}?{query}"), &Value::Null);
        assert_eq!(answer.status, 400, "{query}");
    }
    let shown = get(&gateway, path)[0].clone();
    for name in ["name", "type", "description", "created_at", "modified_at"] {
        assert!(
            shown[name].as_str().is_some_and(|text| !text.is_empty()),
            "{name}"
        );
    }
    assert_eq!(
        (&shown["enable"], &shown["mandatory"]),
        (&json!(true), &json!(false))
    );
}

/// Sends requests with known and unknown prices, judges some, and returns all entries.
fn furnish(gateway: &Gateway) -> Vec<Value> {
    for (model, path) in [
        ("gpt-4o", "openai/chat/completions"),
        ("gpt-4o-mini", "openai/chat/completions"),
        ("gpt-4o+sim-tokens-300", "openai/chat/completions"),
        ("llama", "groq/chat/completions"),
        ("gpt-4o+sim-status-429", "openai/chat/completions"),
        ("gpt-4o", "openai/chat/completions"),
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        gateway.send(&post(path, "", &body.to_string()));
    }
    let all = || get(gateway, &format!("{LOGS}&order_by_direction=asc"));
    let entries = eventually("the entries", || {
        let entries = all().as_array().expect("a list").clone();
        (entries.len() == 6).then_some(entries)
    });
    let logs = LOGS.split('?').next().expect("a path");
    for (entry, feedback) in [(0, 1), (1, -1), (3, 1), (4, 0)] {
        let path = format!("{logs}/{}", id(&entries[entry]));
        result(gateway, "PATCH", &path, json!({"feedback": feedback}));
    }
    all().as_array().expect("a list").clone()
}

/// What an evaluation of these entries must say: result and total a type.
fn expected(entries: &[&Value]) -> Vec<(f64, usize)> {
    let average = |figures: Vec<f64>| {
        let sum: f64 = figures.iter().sum();
        (sum / figures.len() as f64, figures.len())
    };
    let figures = |name: &str| {
        let figures = entries.iter().filter_map(|entry| entry[name].as_f64());
        figures.collect::<Vec<f64>>()
    };
    let judged = figures("feedback")
        .into_iter()
        .filter(|judged| *judged != 0.0);
    let liked = judged.map(|judged| if judged > 0.0 { 100.0 } else { 0.0 });
    vec![
        average(figures("cost")),
        average(figures("duration")),
        average(liked.collect()),
    ]
}

fn assert_figures(evaluation: &Value, entries: &[&Value]) {
    assert_eq!(evaluation["total_logs"], entries.len(), "{evaluation}");
    let results = evaluation["results"].as_array().expect("results");
    for ((result, (figure, total)), known) in results.iter().zip(expected(entries)).zip(TYPES) {
        assert_eq!(result["evaluation_type_id"], known);
        assert_eq!(result["evaluation_id"], evaluation["id"]);
        assert_eq!(
            (&result["status"], &result["status_description"]),
            (&json!(2), &json!("done"))
        );
        assert_eq!(result["total_logs"], total, "{known}");
        let told: f64 = result["result"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a number");
        // To the last place that is told: a pico-dollar, a microsecond, a hundredth of a percent.
        let place = [1e-12, 1e-3, 1e-2][TYPES
            .iter()
            .position(|other| *other == known)
            .expect("known")];
        assert!(
            (told - figure).abs() <= place * 0.51,
            "{known}: {told} is not {figure}"
        );
    }
}

#[test]
fn figures_of_evaluations_are_those_of_the_logs() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    let entries = furnish(&gateway);
    let made =
        |name: &str, filters: Value| result(&gateway, "POST", DATASETS, dataset(name, filters));
    let everything = made("everything", json!([]));
    let openai = made(
        "openai",
        json!([
            filter("provider", "eq", json!(["openai"])),
            filter("success", "eq", json!([true]))
        ]),
    );
    let cheap = made(
        "mini",
        json!([filter("model", "contains", json!(["MINI"]))]),
    );
    let none = made("none", json!([filter("duration", "gt", json!([1e9]))]));
    let evaluate = |name: &str, datasets: &[&Value]| {
        let ids: Vec<&str> = datasets.iter().map(|dataset| id(dataset)).collect();
        let body = json!({"name": name, "dataset_ids": ids, "evaluation_type_ids": TYPES});
        result(&gateway, "POST", EVALUATIONS, body)
    };
    let all = evaluate("all", &[&everything]);
    assert_eq!(
        (&all["processed"], &all["total_logs"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(all["datasets"], json!([everything]));
    for result in all["results"].as_array().expect("results") {
        assert_eq!(
            (&result["status"], &result["result"]),
            (&json!(0), &json!(""))
        );
    }
    // An entry that two datasets hold counts once; a dataset named twice is one.
    let both = evaluate("both", &[&openai, &cheap, &openai]);
    assert_eq!(both["datasets"].as_array().map(Vec::len), Some(2));
    let empty = evaluate("empty", &[&none]);
    // What comes later, and what becomes of a dataset, changes nothing.
    result(
        &gateway,
        "PUT",
        &format!("{DATASETS}/{}", id(&cheap)),
        dataset("mini", json!([])),
    );
    result(
        &gateway,
        "DELETE",
        &format!("{DATASETS}/{}", id(&openai)),
        Value::Null,
    );
    let body = json!({"model": "gpt-4o", "messages": []}).to_string();
    gateway.send(&post("openai/chat/completions", "", &body));
    assert_figures(
        &processed(&gateway, id(&all)),
        &entries.iter().collect::<Vec<_>>(),
    );
    let of_openai = |entry: &&Value| entry["provider"] == "openai" && entry["success"] == true;
    let both = processed(&gateway, id(&both));
    assert_figures(&both, &entries.iter().filter(of_openai).collect::<Vec<_>>());
    assert_eq!(both["datasets"][0], openai);
    assert!(both["modified_at"].as_str() > both["created_at"].as_str());
    let empty = processed(&gateway, id(&empty));
    assert_eq!(empty["total_logs"], 0);
    for result in empty["results"].as_array().expect("results") {
        assert_eq!(
            (&result["result"], &result["total_logs"]),
            (&json!(""), &json!(0))
        );
        assert_eq!(result["status"], 2);
        assert_ne!(result["status_description"], "done");
    }
    for (query, expected) in [
        ("", vec!["all", "both", "empty"]),
        ("processed=true", vec!["all", "both", "empty"]),
        ("processed=false", vec![]),
        ("name=both", vec!["both"]),
        ("search=LL", vec!["all"]),
        ("per_page=2&page=2", vec!["empty"]),
    ] {
        let listed = get(&gateway, &format!("{EVALUATIONS}?{query}"));
        assert_eq!(names(&listed), expected, "{query}");
    }
    let one = format!("{EVALUATIONS}/{}", id(&both));
    assert_eq!(result(&gateway, "DELETE", &one, Value::Null), both);
    assert_eq!(
        refusal(&gateway, "GET", &one, Value::Null),
        (404, 7002, String::new())
    );
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    let on = result(&gateway, "POST", DATASETS, dataset("on", json!([])));
    let off = json!({"name": "off", "enable": false, "filters": []});
    let off = result(&gateway, "POST", DATASETS, off);
    let body = |datasets: Value, types: Value| json!({"name": "x", "dataset_ids": datasets, "evaluation_type_ids": types});
    for (body, place) in [
        (body(json!([]), json!(["cost"])), "body.dataset_ids"),
        (
            body(json!(["a", "b", "c", "d", "e", "f"]), json!(["cost"])),
            "body.dataset_ids",
        ),
        (
            body(json!([id(&on), "nowhere"]), json!(["cost"])),
            "body.dataset_ids.1",
        ),
        (
            body(json!([id(&off)]), json!(["cost"])),
            "body.dataset_ids.0",
        ),
        (
            body(json!([id(&on)]), json!([])),
            "body.evaluation_type_ids",
        ),
        (
            body(json!([id(&on)]), json!(["cost", "luck"])),
            "body.evaluation_type_ids.1",
        ),
        (
            json!({"dataset_ids": [id(&on)], "evaluation_type_ids": ["cost"]}),
            "body.name",
        ),
    ] {
        let told = refusal(&gateway, "POST", EVALUATIONS, body.clone());
        assert_eq!(told, (400, 7001, place.to_owned()), "{body}");
    }
    assert_eq!(get(&gateway, EVALUATIONS), json!([]));
}

#[test]
fn an_evaluation_that_a_crash_interrupts_is_run_by_the_next_server() {
    let simulator = simulator();
    let gateway = setup(&simulator).start();
    let entries = furnish(&gateway);
    let made = result(&gateway, "POST", DATASETS, dataset("all", json!([])));
    let body = json!({"name": "e", "dataset_ids": [id(&made)], "evaluation_type_ids": TYPES});
    let evaluation = result(&gateway, "POST", EVALUATIONS, body);
    // It waits for what is just being logged before it reads.
    let folder = gateway.end(libc::SIGKILL);
    let gateway = setup(&simulator).start_in(folder);
    let done = processed(&gateway, id(&evaluation));
    assert_figures(&done, &entries.iter().collect::<Vec<_>>());
    assert_eq!(done["created_at"], evaluation["created_at"]);
}
