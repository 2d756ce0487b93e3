//! What is a route, what is none and where it says so, and what conditions hold.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::limits::{
    ROUTE_CONDITION_DEPTH_MAX, ROUTE_CONDITION_SIZE_MAX, ROUTE_DEPTH_MAX, ROUTE_ELEMENTS_MAX,
    ROUTE_ERRORS_MAX,
};

/// The documented example.
pub(super) fn support() -> Value {
    json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}},
        {"id": "c", "type": "conditional", "properties": {"conditions": {"metadata.plan": {"$eq": "free"}}},
         "outputs": {"true": {"elementId": "r"}, "false": {"elementId": "p"}}},
        {"id": "r", "type": "rate",
         "properties": {"limitType": "count", "key": "metadata.user_id", "limit": 100, "window": 3600},
         "outputs": {"success": {"elementId": "m1"}, "fallback": {"elementId": "m2"}}},
        {"id": "p", "type": "percentage", "outputs": {"10%": {"elementId": "m2"}, "90%": {"elementId": "m1"}}},
        {"id": "m1", "type": "model",
         "properties": {"provider": "openai", "model": "gpt-4o-mini", "timeout": 60000, "retries": 4},
         "outputs": {"success": {"elementId": "e"}, "fallback": {"elementId": "m2"}}},
        {"id": "m2", "type": "model",
         "properties": {"provider": "workers-ai", "model": "@cf/meta/llama-3.1-8b-instruct", "timeout": 0, "retries": 0},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}}
    ])
}

pub(super) fn start(next: &str) -> Value {
    json!({"id": "s", "type": "start", "outputs": {"next": {"elementId": next}}})
}

pub(super) fn end() -> Value {
    json!({"id": "e", "type": "end", "outputs": {}})
}

/// A route of one element between start and end.
fn around(mut element: Value) -> Value {
    element["id"] = json!("x");
    json!([start("x"), element, end()])
}

/// The same, with properties and outputs put in.
fn with(kind: &str, properties: Value, outputs: Value) -> Value {
    around(json!({"type": kind, "properties": properties, "outputs": outputs}))
}

fn success() -> Value {
    json!({"success": {"elementId": "e"}})
}

/// Every error as `path: message`, the path behind `body.elements`.
fn errors(elements: &Value) -> Vec<String> {
    let show = |error: RouteError| {
        assert_eq!(error.path[..2], ["body", "elements"]);
        format!("{}: {error}", error.path[2..].join("."))
    };
    let errors = Graph::parse(elements).expect_err("a broken route");
    errors.into_iter().map(show).collect()
}

fn kind(elements: &Value) -> Kind {
    let graph = Graph::parse(elements).unwrap_or_else(|errors| panic!("{errors:?}"));
    graph.elements()[1].kind.clone()
}

#[test]
fn the_documented_route_is_read() {
    let graph = Graph::parse(&support()).expect("sound");
    let follow = |index: Index| graph.element(index);
    assert_eq!(&*follow(graph.start()).id, "s");
    let Kind::Start { next } = follow(graph.start()).kind else {
        panic!("no start");
    };
    let Kind::Conditional {
        holds,
        fails,
        condition,
    } = &follow(next).kind
    else {
        panic!("no condition");
    };
    let field = Field::Metadata("plan".into());
    let test = Test::Equal(Scalar::Text("free".into()));
    assert_eq!(*condition, Condition::Test(field, test));
    let Kind::Rate {
        rate,
        success,
        fallback: Some(fallback),
    } = &follow(*holds).kind
    else {
        panic!("no rate");
    };
    assert_eq!(rate.key, Field::Metadata("user_id".into()));
    assert_eq!(rate.allowance, Allowance::Requests(100));
    assert_eq!(rate.window, Duration::from_secs(3600));
    assert_eq!(rate.technique, Technique::Fixed);
    let Kind::Model { model, .. } = &follow(*success).kind else {
        panic!("no model");
    };
    assert_eq!((&*model.provider, &*model.model), ("openai", "gpt-4o-mini"));
    assert_eq!(
        (model.retries, model.timeout),
        (4, Some(Duration::from_secs(60)))
    );
    let Kind::Model {
        model,
        fallback: None,
        success,
    } = &follow(*fallback).kind
    else {
        panic!("no second model");
    };
    assert_eq!((model.retries, model.timeout), (0, None));
    assert_eq!(follow(*success).kind, Kind::End);
    let Kind::Percentage(split) = &follow(*fails).kind else {
        panic!("no split");
    };
    assert_eq!(&*follow(split.target(0)).id, "m2");
    assert_eq!(&*follow(split.target(u64::MAX)).id, "m1");
    let providers: Vec<&str> = graph.providers().collect();
    assert_eq!(providers, ["openai", "workers-ai"]);
    assert_eq!(graph.to_elements(), support());
}

#[test]
fn the_old_spelling_is_read_and_the_new_one_written() {
    let old = json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}, "position": {"x": 1}},
        {"id": "c", "type": "conditional", "properties": {"condition": {"metadata.plan": "free"}, "note": "kept"},
         "outputs": {"true": {"elementId": "r"}, "false": {"elementId": "p"}}},
        {"id": "r", "type": "rate_limit",
         "properties": {"limitType": "cost", "key": "metadata.team", "limit": 0.25, "interval": 60.0, "technique": "sliding"},
         "outputs": {"success": {"elementId": "m", "label": "ok"}, "fallback": null}},
        {"id": "p", "type": "percentage", "outputs": {"12.5%": {"elementId": "m"}, "else": {"elementId": "e"}}},
        {"id": "m", "type": "model", "properties": {"provider": "openai", "model": "m", "timeout": null},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end"}
    ]);
    let new = json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}, "position": {"x": 1}},
        {"id": "c", "type": "conditional", "properties": {"conditions": {"metadata.plan": "free"}, "note": "kept"},
         "outputs": {"true": {"elementId": "r"}, "false": {"elementId": "p"}}},
        {"id": "r", "type": "rate",
         "properties": {"limitType": "cost", "key": "metadata.team", "limit": 0.25, "window": 60.0, "technique": "sliding"},
         "outputs": {"success": {"elementId": "m", "label": "ok"}}},
        {"id": "p", "type": "percentage", "outputs": {"12.5%": {"elementId": "m"}, "else": {"elementId": "e"}}},
        {"id": "m", "type": "model", "properties": {"provider": "openai", "model": "m", "timeout": 0, "retries": 0},
         "outputs": {"success": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {}}
    ]);
    let graph = Graph::parse(&old).expect("sound");
    assert_eq!(graph.to_elements(), new);
    assert_eq!(Graph::parse(&new).expect("sound"), graph);
    let Kind::Rate { rate, fallback, .. } = &graph.elements()[2].kind else {
        panic!("no rate");
    };
    assert_eq!(rate.allowance, Allowance::Cost(250_000_000_000));
    assert_eq!(rate.technique, Technique::Sliding);
    assert_eq!(*fallback, None);
}

#[test]
fn a_property_has_one_spelling() {
    let both = json!({"condition": {}, "conditions": {}});
    let outputs = json!({"true": {"elementId": "e"}, "false": {"elementId": "e"}});
    assert_eq!(
        errors(&with("conditional", both, outputs)),
        [r#"1.properties.condition: element "x": is the older name of conditions; both are given"#]
    );
    let both =
        json!({"limitType": "count", "key": "metadata.a", "limit": 1, "window": 1, "interval": 1});
    assert_eq!(
        errors(&with("rate", both, success())),
        [r#"1.properties.interval: element "x": is the older name of window; both are given"#]
    );
}

#[test]
fn what_is_no_list_of_elements_is_refused() {
    assert_eq!(errors(&json!({})), [": must be an array of elements"]);
    assert_eq!(errors(&json!([])), [": there is no element of type start"]);
    let odd =
        json!([start("e"), 5, {"id": "", "type": "end"}, {"id": "t", "type": "START"}, end()]);
    assert_eq!(
        errors(&odd),
        [
            "1.id: must be a text of 1 to 128 bytes",
            r#"2.id: element "": must be a text of 1 to 128 bytes"#,
            "1: an element is an object",
            r#"3.type: element "t": must be start, conditional, percentage, rate, model or end"#,
        ]
    );
    let wrong = json!([start("e"), {"id": "e", "type": "end", "outputs": [], "properties": 5}]);
    assert_eq!(
        errors(&wrong),
        [r#"1.properties: element "e": must be an object"#]
    );
}

#[test]
fn there_is_one_start_and_every_id_is_one_elements() {
    assert_eq!(
        errors(&json!([end()])),
        [": there is no element of type start"]
    );
    let second = json!({"id": "s2", "type": "start", "outputs": {"next": {"elementId": "e"}}});
    assert_eq!(
        errors(&json!([start("e"), end(), second])),
        [r#"2.type: element "s2": there is more than one element of type start"#]
    );
    assert_eq!(
        errors(&json!([start("e"), end(), end()])),
        [r#"2.id: element "e": another element has the same id"#]
    );
}

#[test]
fn outputs_lead_to_elements_and_are_all_there() {
    let route = json!([
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "nowhere"}}},
        {"id": "c", "type": "conditional", "properties": {"conditions": {}},
         "outputs": {"true": {"elementId": 5}, "maybe": {"elementId": "e"}}},
        {"id": "m", "type": "model", "properties": {"provider": "p", "model": "m"}, "outputs": {"sucess": {"elementId": "e"}}},
        {"id": "e", "type": "end", "outputs": {"next": {"elementId": "s"}}}
    ]);
    assert_eq!(
        errors(&route),
        [
            r#"0.outputs.next.elementId: element "s": output "next" leads to "nowhere", which is no element"#,
            r#"1.outputs.true: element "c": an output is an object such as {"elementId": "..."}"#,
            r#"1.outputs.false: element "c": output "false" is missing"#,
            r#"1.outputs.maybe: element "c": this type has no output "maybe""#,
            r#"2.outputs.success: element "m": output "success" is missing"#,
            r#"2.outputs.sucess: element "m": this type has no output "sucess""#,
            r#"3.outputs.next: element "e": this type has no output "next""#,
        ]
    );
}

#[test]
fn no_path_leads_back() {
    let leading = |id: &str, success: &str, fallback: &str| {
        json!({"id": id, "type": "model", "properties": {"provider": "p", "model": "m"},
               "outputs": {"success": {"elementId": success}, "fallback": {"elementId": fallback}}})
    };
    let loops = json!([
        start("a"),
        leading("a", "e", "b"),
        leading("b", "e", "c"),
        leading("c", "a", "e"),
        end()
    ]);
    assert_eq!(
        errors(&loops),
        [r#"3.outputs.success: element "c": leads back: a -> b -> c -> a"#]
    );
    let itself = json!([start("a"), leading("a", "e", "a"), end()]);
    assert_eq!(
        errors(&itself),
        [r#"1.outputs.fallback: element "a": leads back: a -> a"#]
    );
    // No request comes here, but what is stored is sound as a whole.
    let apart = json!([
        start("e"),
        end(),
        leading("a", "b", "e"),
        leading("b", "a", "e")
    ]);
    assert_eq!(
        errors(&apart),
        [r#"3.outputs.success: element "b": leads back: a -> b -> a"#]
    );
    let unreached = json!([start("e"), end(), leading("a", "e", "e")]);
    assert!(Graph::parse(&unreached).is_ok());
}

#[test]
fn shares_add_up() {
    let split = |outputs: Value| {
        let outputs = outputs.as_object().expect("outputs").iter();
        let outputs: Map<String, Value> = outputs
            .map(|(name, id)| (name.clone(), json!({"elementId": id})))
            .collect();
        with("percentage", json!({}), Value::Object(outputs))
    };
    for sound in [
        json!({"100%": "e"}),
        json!({"0%": "e", "100%": "e"}),
        json!({"33.33%": "e", "33.3%": "e", "33.37%": "e"}),
        json!({"50%": "e", "else": "e"}),
        json!({"100%": "e", "else": "e"}),
        json!({"10%": "e", "20%": "e", "30%": "e", "5%": "e", "35%": "e"}),
        json!({"1%": "e", "2%": "e", "3%": "e", "4%": "e", "5%": "e", "else": "e"}),
    ] {
        assert!(Graph::parse(&split(sound.clone())).is_ok(), "{sound}");
    }
    let sum = |sum| {
        format!(
            r#"1.outputs: element "x": the shares add up to {sum}%, not 100%; else takes what is left"#
        )
    };
    let name = |name| {
        format!(r#"1.outputs.{name}: element "x": a share is a percentage such as 10% or 12.5%"#)
    };
    let count = r#"1.outputs: element "x": a percentage element has 1 to 5 shares"#.to_owned();
    for (outputs, expected) in [
        (json!({"50%": "e"}), sum("50")),
        (json!({"50%": "e", "50.5%": "e"}), sum("100.5")),
        (json!({"60%": "e", "70%": "e", "else": "e"}), sum("130")),
        (json!({"101%": "e"}), name("101%")),
        (json!({"-1%": "e", "else": "e"}), name("-1%")),
        (json!({"+1%": "e", "else": "e"}), name("+1%")),
        (json!({"%": "e", "else": "e"}), name("%")),
        (json!({"1.%": "e", "else": "e"}), name("1.%")),
        (json!({"1.234%": "e", "else": "e"}), name("1.234%")),
        (json!({"else": "e"}), count.clone()),
        (json!({}), count.clone()),
        (
            json!({"1%": "e", "2%": "e", "3%": "e", "4%": "e", "5%": "e", "85%": "e"}),
            count.clone(),
        ),
    ] {
        assert_eq!(errors(&split(outputs)), [expected]);
    }
}

#[test]
fn shares_are_drawn_as_they_are_large() {
    let route = json!([
        start("p"),
        {"id": "p", "type": "percentage",
         "outputs": {"0%": {"elementId": "z"}, "12.5%": {"elementId": "a"}, "else": {"elementId": "e"}}},
        end(), {"id": "a", "type": "end"}, {"id": "z", "type": "end"}
    ]);
    let graph = Graph::parse(&route).expect("sound");
    let Kind::Percentage(split) = &graph.elements()[1].kind else {
        panic!("no split");
    };
    const DRAWS: u64 = 100_000;
    let drawn = |wanted: &str| {
        let step = u64::MAX / DRAWS;
        let ids = (0..DRAWS).map(|draw| &*graph.element(split.target(draw * step + step / 2)).id);
        ids.filter(|id| *id == wanted).count()
    };
    assert_eq!((drawn("z"), drawn("a"), drawn("e")), (0, 12_500, 87_500));
}

#[test]
fn rates_are_checked() {
    let rate = |name: &str, value: Value| {
        let mut properties =
            json!({"limitType": "count", "key": "metadata.user", "limit": 10, "window": 60});
        properties[name] = value;
        with("rate", properties, success())
    };
    let accepted = [
        ("limit", json!(1), Allowance::Requests(1)),
        ("limit", json!(5.0), Allowance::Requests(5)),
        ("technique", Value::Null, Allowance::Requests(10)),
        (
            "limitType",
            json!("cost"),
            Allowance::Cost(10_000_000_000_000),
        ),
        ("key", json!("headers.X-Team"), Allowance::Requests(10)),
    ];
    for (name, value, allowance) in accepted {
        let Kind::Rate { rate, .. } = kind(&rate(name, value.clone())) else {
            panic!("no rate");
        };
        assert_eq!(rate.allowance, allowance, "{name} {value}");
    }
    let refused = [
        ("limit", json!(0), "must be a whole number greater than 0"),
        ("limit", json!(-1), "must be a whole number greater than 0"),
        ("limit", json!(1.5), "must be a whole number greater than 0"),
        (
            "limit",
            json!("10"),
            "must be a whole number greater than 0",
        ),
        ("limitType", json!("tokens"), "must be count or cost"),
        ("limitType", Value::Null, "must be count or cost"),
        ("key", json!(5), "must be a field such as metadata.user_id"),
        (
            "key",
            json!("user"),
            r#""user" is no field: write metadata.KEY, body.PATH or headers.NAME"#,
        ),
        ("technique", json!("Fixed"), "must be fixed or sliding"),
        (
            "window",
            json!(0),
            "must be a whole number of seconds from 1 to 31622400",
        ),
        (
            "window",
            json!(0.5),
            "must be a whole number of seconds from 1 to 31622400",
        ),
        (
            "window",
            json!(31_622_401),
            "must be a whole number of seconds from 1 to 31622400",
        ),
    ];
    for (name, value, message) in refused {
        let expected = format!(r#"1.properties.{name}: element "x": {message}"#);
        assert_eq!(errors(&rate(name, value)), [expected]);
    }
    let mut cost = rate("limitType", json!("cost"));
    for limit in [
        json!(0),
        json!(-0.5),
        json!(1e-13),
        json!(1e16),
        Value::Null,
    ] {
        cost[1]["properties"]["limit"] = limit;
        let message = "must be an amount in US dollars greater than 0";
        assert_eq!(
            errors(&cost),
            [format!(r#"1.properties.limit: element "x": {message}"#)]
        );
    }
    assert_eq!(errors(&with("rate", json!({}), success())).len(), 3);
}

#[test]
fn models_are_checked() {
    let model = |name: &str, value: Value| {
        let mut properties = json!({"provider": "openai", "model": "gpt"});
        properties[name] = value;
        with("model", properties, success())
    };
    for (name, value) in [
        ("retries", json!(5)),
        ("retries", json!(0.0)),
        ("timeout", json!(86_400_000)),
    ] {
        assert!(
            Graph::parse(&model(name, value.clone())).is_ok(),
            "{name} {value}"
        );
    }
    let text = "must be a text of 1 to 512 bytes";
    let refused = [
        ("provider", json!(""), text),
        ("provider", Value::Null, text),
        ("model", json!(1), text),
        ("model", json!("m".repeat(513)), text),
        ("retries", json!(6), "must be a whole number from 0 to 5"),
        ("retries", json!(-1), "must be a whole number from 0 to 5"),
        ("retries", json!("1"), "must be a whole number from 0 to 5"),
        (
            "timeout",
            json!(-1),
            "must be a whole number from 0 to 86400000",
        ),
        (
            "timeout",
            json!(0.5),
            "must be a whole number from 0 to 86400000",
        ),
        (
            "timeout",
            json!(86_400_001),
            "must be a whole number from 0 to 86400000",
        ),
    ];
    for (name, value, message) in refused {
        let expected = format!(r#"1.properties.{name}: element "x": {message}"#);
        assert_eq!(errors(&model(name, value)), [expected]);
    }
}

#[test]
fn routes_are_bounded() {
    let chain = |models: usize| {
        let model = |at: usize| {
            let next = if at + 1 == models {
                "e".to_owned()
            } else {
                (at + 1).to_string()
            };
            json!({"id": at.to_string(), "type": "model", "properties": {"provider": "p", "model": "m"},
                   "outputs": {"success": {"elementId": "e"}, "fallback": {"elementId": next}}})
        };
        let models = (0..models).map(model);
        Value::from_iter([start("0")].into_iter().chain(models).chain([end()]))
    };
    assert!(Graph::parse(&chain(ROUTE_DEPTH_MAX - 2)).is_ok());
    assert_eq!(
        errors(&chain(ROUTE_DEPTH_MAX - 1)),
        [": the longest path has 65 elements; 64 is the most"]
    );
    assert_eq!(
        errors(&Value::Array(vec![end(); ROUTE_ELEMENTS_MAX + 1])),
        [": a route has at most 128 elements"]
    );
    assert_eq!(
        errors(&Value::Array(vec![end(); ROUTE_ELEMENTS_MAX])).len(),
        ROUTE_ERRORS_MAX
    );
    let long = "x".repeat(100_000);
    let far = json!([start(&long), {"id": "e", "type": "end", "outputs": {long.as_str(): {}}}]);
    assert!(errors(&far).iter().all(|error| error.len() < 600));
}

// --- conditions ---

fn conditional(conditions: Value) -> Value {
    let outputs = json!({"true": {"elementId": "e"}, "false": {"elementId": "e"}});
    with("conditional", json!({"conditions": conditions}), outputs)
}

fn condition(conditions: Value) -> Condition {
    match kind(&conditional(conditions)) {
        Kind::Conditional { condition, .. } => condition,
        other => panic!("{other:?}"),
    }
}

/// Whether it holds for a request with this metadata, body and headers.
fn holds(conditions: Value, metadata: &Value, body: &Value, headers: &[(&str, &str)]) -> bool {
    condition(conditions).matches(&|field: &Field| match field {
        Field::Metadata(key) => metadata.get(&**key).map(FieldValue::from),
        Field::Body(names) => FieldValue::find(body, names),
        Field::Header(name) => {
            let found = headers.iter().find(|(header, _)| *header == &**name);
            found.map(|(_, value)| FieldValue::Text(value))
        }
    })
}

/// Whether one field of that value passes a test.
fn passes(test: Value, value: Value) -> bool {
    holds(
        json!({"metadata.x": test}),
        &json!({"x": value}),
        &Value::Null,
        &[],
    )
}

#[test]
fn operators_hold_as_they_say() {
    let cases = [
        (json!("free"), json!("free"), true),
        (json!("free"), json!("Free"), false),
        (json!({"$eq": 5}), json!(5), true),
        (json!({"$eq": 5}), json!(5.0), true),
        (json!({"$eq": 5}), json!(6), false),
        (json!({"$eq": null}), Value::Null, true),
        (json!({"$eq": true}), json!(true), true),
        (json!({"$ne": "free"}), json!("paid"), true),
        (json!({"$ne": "free"}), json!("free"), false),
        (json!({"$in": ["a", 2, null]}), json!("a"), true),
        (json!({"$in": ["a", 2, null]}), json!(2), true),
        (json!({"$in": ["a", 2, null]}), Value::Null, true),
        (json!({"$in": ["a", 2, null]}), json!("b"), false),
        (json!({"$in": []}), json!("a"), false),
        (json!({"$nin": ["a", "b"]}), json!("c"), true),
        (json!({"$nin": ["a", "b"]}), json!("b"), false),
        (json!({"$nin": []}), json!("b"), true),
        (json!({"$gt": 5}), json!(5.5), true),
        (json!({"$gt": 5}), json!(5), false),
        (json!({"$gte": 5}), json!(5), true),
        (json!({"$lt": 5}), json!(-7), true),
        (json!({"$lt": 5}), json!(5), false),
        (json!({"$lte": 5}), json!(5), true),
        (json!({"$gt": "a"}), json!("b"), true),
        (json!({"$gt": "2026-01-01"}), json!("2025-12-31"), false),
        (json!({"$gte": 1, "$lt": 5}), json!(1), true),
        (json!({"$gte": 1, "$lt": 5}), json!(5), false),
        (json!({"$exists": true}), Value::Null, true),
        (json!({"$exists": false}), Value::Null, false),
        (json!({"$not": {"$gt": 5}}), json!(5), true),
        (json!({"$not": {"$gt": 5, "$lt": 9}}), json!(6), false),
        (json!({"$not": "free"}), json!("paid"), true),
    ];
    for (test, value, expected) in cases {
        assert_eq!(
            passes(test.clone(), value.clone()),
            expected,
            "{test} {value}"
        );
    }
}

#[test]
fn types_must_agree_except_for_numbers_and_their_text() {
    let equal = [
        (json!(5), json!("5")),
        (json!("5"), json!(5)),
        (json!(-5), json!("-5")),
        (json!(0.5), json!("0.5")),
        (json!("0.50"), json!(0.5)),
        (json!(5), json!("5.0")),
        (
            json!(18_446_744_073_709_551_615_u64),
            json!("18446744073709551615"),
        ),
    ];
    for (one, other) in equal {
        assert!(passes(one.clone(), other.clone()), "{one} {other}");
        assert!(!passes(json!({"$ne": one}), other.clone()), "{one} {other}");
        assert!(
            passes(json!({"$in": [one]}), other.clone()),
            "{one} {other}"
        );
    }
    let different = [
        (json!(5), json!(" 5")),
        (json!(5), json!("+5")),
        (json!(5), json!("05")),
        (json!(5), json!("5e0")),
        (json!(5), json!("5.")),
        (json!(5), json!("")),
        (json!(0), json!("-")),
        (json!("5"), json!("5.0")),
        (json!(1), json!(true)),
        (json!("true"), json!(true)),
        (json!(null), json!("null")),
        (json!(null), json!(0)),
        (json!("a"), json!(["a"])),
        (json!("a"), json!({"a": "a"})),
        (
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992_u64),
        ),
        (json!(9_007_199_254_740_993_u64), json!("9007199254740992")),
    ];
    for (one, other) in different {
        assert!(!passes(one.clone(), other.clone()), "{one} {other}");
        assert!(passes(json!({"$ne": one}), other.clone()), "{one} {other}");
        assert!(
            passes(json!({"$nin": [one]}), other.clone()),
            "{one} {other}"
        );
    }
    assert!(passes(json!({"$gt": 9}), json!("10")));
    assert!(passes(json!({"$gt": "9"}), json!(10)));
    assert!(!passes(json!({"$gt": "9"}), json!("10")));
    for unordered in [json!(true), Value::Null, json!("many"), json!([6])] {
        assert!(!passes(json!({"$gt": 5}), unordered.clone()));
        assert!(!passes(json!({"$lte": 5}), unordered));
    }
}

#[test]
fn a_missing_field_is_only_unequal() {
    let missing = |test: Value| holds(json!({"metadata.x": test}), &json!({}), &Value::Null, &[]);
    for test in [
        json!({"$ne": 1}),
        json!({"$nin": [1]}),
        json!({"$exists": false}),
        json!({"$not": {"$eq": 1}}),
    ] {
        assert!(missing(test.clone()), "{test}");
    }
    for test in [
        json!(1),
        json!(null),
        json!({"$in": [null]}),
        json!({"$gt": 0}),
        json!({"$gte": 0}),
        json!({"$lt": 0}),
        json!({"$lte": "z"}),
        json!({"$exists": true}),
        json!({"$ne": 1, "$exists": true}),
        json!({"$not": {"$ne": 1}}),
    ] {
        assert!(!missing(test.clone()), "{test}");
    }
}

#[test]
fn conditions_combine() {
    let metadata = json!({"plan": "free", "user.id": 7});
    let body = json!({"model": "m", "messages": [{"role": "system"}, {"role": "user"}], "a": {"b": {"c": 1}}});
    let headers = [("x-team", "blue"), ("x-level", "3")];
    let cases = [
        (json!({}), true),
        (
            json!({"metadata.plan": "free", "metadata.user.id": 7}),
            true,
        ),
        (
            json!({"metadata.plan": "free", "metadata.user.id": 8}),
            false,
        ),
        (
            json!({"$or": [{"metadata.plan": "paid"}, {"headers.x-team": "blue"}]}),
            true,
        ),
        (
            json!({"$or": [{"metadata.plan": "paid"}, {"headers.x-team": "red"}]}),
            false,
        ),
        (
            json!({"$and": [{"metadata.plan": "free"}, {"body.model": "m"}]}),
            true,
        ),
        (
            json!({"$and": [{"metadata.plan": "free"}, {"body.model": "n"}]}),
            false,
        ),
        (
            json!({"$and": [{"metadata.plan": "free"}], "$or": [{"body.model": "n"}]}),
            false,
        ),
        (json!({"$not": {"metadata.plan": "paid"}}), true),
        (
            json!({"$not": {"$or": [{"metadata.plan": "free"}, {"metadata.plan": "paid"}]}}),
            false,
        ),
        (
            json!({"headers.X-Team": "blue", "headers.x-level": {"$gte": 3}}),
            true,
        ),
        (
            json!({"body.a.b.c": 1, "body.messages.1.role": "user"}),
            true,
        ),
        (json!({"body.messages.2.role": {"$exists": false}}), true),
        (json!({"body.messages.x": {"$exists": false}}), true),
        (
            json!({"body.a.b": {"$exists": true}, "body.model.b": {"$exists": false}}),
            true,
        ),
    ];
    for (conditions, expected) in cases {
        let held = holds(conditions.clone(), &metadata, &body, &headers);
        assert_eq!(held, expected, "{conditions}");
    }
}

#[test]
fn what_is_no_condition_is_refused_where_it_stands() {
    let refused = [
        (json!(5), "", "a condition is an object"),
        (json!({"plan": 1}), ".plan", "\"plan\" is no field"),
        (
            json!({"metadata.": 1}),
            ".metadata.",
            "\"metadata.\" is no field",
        ),
        (
            json!({"body.a..b": 1}),
            ".body.a..b",
            "\"body.a..b\" is no field",
        ),
        (
            json!({"headers.a b": 1}),
            ".headers.a b",
            "\"headers.a b\" is no field",
        ),
        (json!({"$nor": []}), ".$nor", "unknown operator \"$nor\""),
        (
            json!({"metadata.x": {"$regex": "a"}}),
            ".metadata.x.$regex",
            "unknown operator \"$regex\"",
        ),
        (
            json!({"metadata.x": {"plan": "a"}}),
            ".metadata.x.plan",
            "unknown operator \"plan\"",
        ),
        (
            json!({"metadata.x": {}}),
            ".metadata.x",
            "must hold operators",
        ),
        (
            json!({"metadata.x": ["a"]}),
            ".metadata.x",
            "must be a text, a number",
        ),
        (
            json!({"metadata.x": {"$in": "a"}}),
            ".metadata.x.$in",
            "must be an array of values",
        ),
        (
            json!({"metadata.x": {"$in": [{}]}}),
            ".metadata.x.$in.0",
            "must be a text, a number",
        ),
        (
            json!({"metadata.x": {"$gt": true}}),
            ".metadata.x.$gt",
            "must be a number or a text",
        ),
        (
            json!({"metadata.x": {"$exists": 1}}),
            ".metadata.x.$exists",
            "must be true or false",
        ),
        (
            json!({"metadata.x": {"$not": []}}),
            ".metadata.x.$not",
            "must be a text, a number",
        ),
        (
            json!({"$and": []}),
            ".$and",
            "must be an array of conditions",
        ),
        (json!({"$or": {}}), ".$or", "must be an array of conditions"),
        (
            json!({"$or": [{}, 5]}),
            ".$or.1",
            "a condition is an object",
        ),
        (json!({"$not": [{}]}), ".$not", "a condition is an object"),
        (
            json!({"metadata.x": "v".repeat(513)}),
            ".metadata.x",
            "a text compared with is at most 512 bytes",
        ),
    ];
    for (conditions, path, message) in refused {
        let found = errors(&conditional(conditions.clone()));
        let expected = format!("1.properties.conditions{path}: element \"x\": {message}");
        assert!(
            found.len() == 1 && found[0].starts_with(&expected),
            "{conditions}: {found:?}"
        );
    }
    let several = json!({"plan": 1, "metadata.x": {"$a": 1, "$b": 2}});
    assert_eq!(errors(&conditional(several)).len(), 3);
    let absent = conditional(json!({}));
    let mut absent = absent.as_array().expect("elements").clone();
    absent[1]["properties"] = json!({});
    assert_eq!(
        errors(&Value::Array(absent)),
        [r#"1.properties.conditions: element "x": is missing"#]
    );
}

#[test]
fn conditions_are_bounded() {
    let nested =
        |depth: usize| (1..depth).fold(json!({"metadata.x": 1}), |inner, _| json!({"$not": inner}));
    assert!(Graph::parse(&conditional(nested(ROUTE_CONDITION_DEPTH_MAX))).is_ok());
    let found = errors(&conditional(nested(ROUTE_CONDITION_DEPTH_MAX + 1)));
    assert!(
        found.len() == 1 && found[0].contains("conditions nest at most 16 deep"),
        "{found:?}"
    );
    let inner = |depth: usize| {
        let test = (1..depth).fold(json!(1), |inner, _| json!({"$not": inner}));
        conditional(json!({"metadata.x": test}))
    };
    assert!(Graph::parse(&inner(ROUTE_CONDITION_DEPTH_MAX - 1)).is_ok());
    assert_eq!(errors(&inner(ROUTE_CONDITION_DEPTH_MAX + 1)).len(), 1);
    let long = |values: usize| conditional(json!({"metadata.x": {"$in": vec![1; values]}}));
    assert!(Graph::parse(&long(ROUTE_CONDITION_SIZE_MAX)).is_ok());
    let found = errors(&long(ROUTE_CONDITION_SIZE_MAX + 9));
    assert!(
        found.len() == 1 && found[0].contains("at most 256 operators"),
        "{found:?}"
    );
}

// --- made-up routes ---

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "id",
        "type",
        "outputs",
        "properties",
        "start",
        "end",
        "model",
        "rate",
        "rate_limit",
        "percentage",
        "conditional",
        "elementId",
        "next",
        "true",
        "false",
        "success",
        "fallback",
        "else",
        "50%",
        "a",
        "b",
        "conditions",
        "condition",
        "$and",
        "$not",
        "$in",
        "$gt",
        "metadata.x",
        "body.a.b",
        "key",
        "limit",
        "limitType",
        "count",
        "window",
        "interval",
        "provider",
        "retries",
        "timeout",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..10).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let members = prop::collection::vec((word.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| {
                Value::from_iter(
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                )
            }),
        ]
    })
}

/// A route whose outputs lead forward, with here and there something broken in it.
pub(super) fn any_route() -> impl Strategy<Value = Value> {
    let element = (0..5u8, any::<[u8; 3]>(), any_json(), any::<bool>());
    (prop::collection::vec(element, 0..12), 0..8u8).prop_map(|(elements, broken)| {
        let last = elements.len() + 1;
        let to = |at: usize, draw: u8| {
            let ahead = last - at;
            json!({"elementId": (at + 1 + usize::from(draw) % ahead).to_string()})
        };
        let made = elements.into_iter().enumerate().map(|(at, (kind, draws, extra, old))| {
            let at = at + 1;
            let [one, other, third] = draws.map(|draw| to(at, draw));
            let mut element = match kind {
                0 => json!({"type": "conditional", "properties": {if old {"condition"} else {"conditions"}:
                    {"metadata.x": {"$in": [draws[0], "a"]}, "$not": {"body.a.0": {"$gt": draws[1]}}}},
                    "outputs": {"true": one, "false": other}}),
                1 => json!({"type": "percentage", "outputs": {"20%": one, "30%": other, "else": third}}),
                2 => json!({"type": if old {"rate_limit"} else {"rate"}, "outputs": {"success": one},
                    "properties": {"limitType": "cost", "key": "headers.x", "limit": 0.5,
                    if old {"interval"} else {"window"}: draws[2].max(1)}}),
                _ => json!({"type": "model", "properties": {"provider": "openai", "model": "m", "retries": draws[2] % 6},
                    "outputs": {"success": one, "fallback": other}}),
            };
            element["id"] = json!(at.to_string());
            element["extra"] = extra.clone();
            if broken == 0 && old {
                element["outputs"] = extra;
            }
            element
        });
        let mut route = vec![json!({"id": "0", "type": "start", "outputs": {"next": {"elementId": last.min(1).to_string()}}})];
        route.extend(made);
        route.push(json!({"id": last.to_string(), "type": "end"}));
        Value::Array(route)
    })
}

/// What holds of whatever is given.
fn check(elements: &Value) -> Result<bool, TestCaseError> {
    match Graph::parse(elements) {
        Ok(graph) => {
            let written = graph.to_elements();
            prop_assert_eq!(Graph::parse(&written), Ok(graph.clone()));
            prop_assert_eq!(
                elements.as_array().map(Vec::len),
                Some(graph.elements().len())
            );
            Ok(true)
        }
        Err(errors) => {
            prop_assert!(!errors.is_empty() && errors.len() <= ROUTE_ERRORS_MAX);
            prop_assert!(
                errors
                    .iter()
                    .all(|error| error.path.starts_with(&["body".into(), "elements".into()]))
            );
            Ok(false)
        }
    }
}

proptest! {
    #[test]
    fn no_json_makes_the_parser_panic(value in any_json()) {
        check(&value)?;
        check(&Value::Array(vec![value]))?;
    }

    #[test]
    fn what_is_written_is_the_same_route(elements in any_route()) {
        check(&elements)?;
    }

    #[test]
    fn any_condition_is_decided(conditions in any_json(), body in any_json()) {
        let route = conditional(conditions);
        check(&route)?;
        if let Ok(graph) = Graph::parse(&route)
            && let Kind::Conditional { condition, .. } = &graph.elements()[1].kind
        {
            condition.matches(&|field: &Field| match field {
                Field::Body(names) => FieldValue::find(&body, names),
                _ => Some(FieldValue::from(&body)),
            });
        }
    }
}

#[test]
fn made_up_routes_are_sound_as_a_rule() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut draw = || {
        any_route()
            .new_tree(&mut runner)
            .expect("a route")
            .current()
    };
    let sound = (0..200).filter(|_| check(&draw()).expect("holds")).count();
    assert!((120..200).contains(&sound), "{sound}");
}
