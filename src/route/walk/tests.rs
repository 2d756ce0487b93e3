//! Where requests go, what they are told of it, and that they always arrive.

use std::cell::Cell;
use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{any_route, end, start, support};
use super::*;

/// A request whose dice show what is given.
struct Given {
    metadata: Value,
    body: Value,
    dice: Cell<u64>,
    /// Added to the dice after each draw.
    stride: u64,
}

impl Given {
    fn with(metadata: Value) -> Self {
        Self {
            metadata,
            body: Value::Null,
            dice: Cell::new(0),
            stride: 0,
        }
    }
}

impl Request for Given {
    fn field(&self, field: &Field) -> Option<FieldValue<'_>> {
        match field {
            Field::Metadata(key) => self.metadata.get(&**key).map(FieldValue::from),
            Field::Body(names) => FieldValue::find(&self.body, names),
            Field::Header(name) => (&**name == "x-api-key").then_some(FieldValue::Text("k")),
        }
    }

    fn draw(&self) -> u64 {
        let drawn = self.dice.get();
        self.dice.set(drawn.wrapping_add(self.stride));
        drawn
    }
}

fn graph(elements: &Value) -> Graph {
    Graph::parse(elements).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn trail(walk: &Walk, graph: &Graph, request: &Given) -> Vec<Value> {
    let passages = walk.passages(0, graph, request);
    passages.iter().map(|passage| json!(passage)).collect()
}

/// The elements passed, each with its outcome, and the end; `failing` are the models that do not answer and the limits
/// that are reached.
fn way(graph: &Graph, request: &Given, failing: &[&str]) -> (Vec<String>, String) {
    let mut walk = Walk::new(graph);
    let mut step = walk.begin(graph, request);
    let end = loop {
        step = match step {
            Step::Count(count) => walk.counted(!failing.contains(&count.id), graph, request),
            Step::Ask(ask) => walk.asked(!failing.contains(&ask.id), graph, request),
            Step::End(end) => break end,
        };
    };
    let end = match end {
        End::Answer(element) => element.id.to_string(),
        End::Failure => "failure".to_owned(),
        End::Limit(rate) => format!("limit {:?}", rate.allowance),
        End::Nothing => "nothing".to_owned(),
    };
    let trail = trail(&walk, graph, request);
    let passed = trail.iter().map(|entry| {
        let outcome = entry.get("outcome").and_then(Value::as_str);
        let id = entry["element"].as_str().expect("an id");
        outcome.map_or(id.to_owned(), |outcome| format!("{id} {outcome}"))
    });
    (passed.collect(), end)
}

#[test]
fn a_request_goes_where_its_fields_and_the_dice_say() {
    let graph = graph(&support());
    let free = Given::with(json!({"plan": "free", "user_id": "u"}));
    let paid = |dice: u64| {
        let request = Given::with(json!({"plan": "paid"}));
        request.dice.set(dice);
        request
    };
    let cases: [(Given, &[&str], &[&str], &str); 7] = [
        (
            free,
            &[],
            &["s", "c true", "r success", "m1 success", "e"],
            "m1",
        ),
        (
            Given::with(json!({"plan": "free"})),
            &["r"],
            &["s", "c true", "r fallback", "m2 success", "e"],
            "m2",
        ),
        (
            paid(0),
            &[],
            &["s", "c false", "p 10%", "m2 success", "e"],
            "m2",
        ),
        (
            paid(u64::MAX / 10 + 2),
            &[],
            &["s", "c false", "p 90%", "m1 success", "e"],
            "m1",
        ),
        (
            Given::with(Value::Null),
            &["m2"],
            &["s", "c false", "p 10%", "m2 fallback"],
            "failure",
        ),
        (
            paid(u64::MAX),
            &["m1"],
            &["s", "c false", "p 90%", "m1 fallback", "m2 success", "e"],
            "m2",
        ),
        (
            paid(u64::MAX),
            &["m1", "m2"],
            &["s", "c false", "p 90%", "m1 fallback", "m2 fallback"],
            "failure",
        ),
    ];
    for (request, failing, passed, end) in cases {
        let expected: Vec<String> = passed.iter().map(|&text| text.to_owned()).collect();
        let found = way(&graph, &request, failing);
        assert_eq!(found, (expected, end.to_owned()), "{failing:?}");
    }
}

fn rate(limit: Value, outputs: Value) -> Value {
    let mut properties = json!({"key": "metadata.user", "window": 60, "limitType": "count"});
    if let (Some(properties), Some(limit)) = (properties.as_object_mut(), limit.as_object()) {
        properties.extend(limit.clone());
    }
    json!({"id": "r", "type": "rate", "properties": properties, "outputs": outputs})
}

fn model(id: &str, outputs: Value) -> Value {
    json!({"id": id, "type": "model", "properties": {"provider": "openai", "model": id}, "outputs": outputs})
}

#[test]
fn a_route_ends_with_what_it_has() {
    let to = |id: &str| json!({"elementId": id});
    let request = Given::with(Value::Null);
    let ends = |elements: Value, failing: &[&str]| way(&graph(&elements), &request, failing).1;
    let limits = [
        json!({"limit": 3}),
        json!({"limit": 0.5, "limitType": "cost"}),
    ];
    for (limit, told) in limits
        .iter()
        .zip(["limit Requests(3)", "limit Cost(500000000000)"])
    {
        let model = model("m", json!({"success": to("e")}));
        let alone = rate(limit.clone(), json!({"success": to("m")}));
        let route = json!([start("r"), alone, model, end()]);
        assert_eq!(ends(route.clone(), &["r"]), told);
        assert_eq!(ends(route, &[]), "m");
        let with_fallback = rate(
            limit.clone(),
            json!({"success": to("m"), "fallback": to("e")}),
        );
        let route = json!([start("r"), with_fallback, model, end()]);
        assert_eq!(ends(route, &["r"]), told);
    }
    assert_eq!(ends(json!([start("e"), end()]), &[]), "nothing");

    // A limit behind a model that failed: what the provider said is the route's answer.
    let first = model("m", json!({"success": to("e"), "fallback": to("r")}));
    let second = rate(json!({"limit": 1}), json!({"success": to("n")}));
    let last = model("n", json!({"success": to("e")}));
    let route = json!([start("m"), first, second, last, end()]);
    assert_eq!(ends(route.clone(), &["m", "r"]), "failure");
    assert_eq!(ends(route.clone(), &["m"]), "n");
    assert_eq!(ends(route, &["m", "n"]), "failure");

    // Models one after the other: the last one that answered.
    let first = model("m", json!({"success": to("n")}));
    let last = model("n", json!({"success": to("e"), "fallback": to("e")}));
    let route = json!([start("m"), first, last, end()]);
    assert_eq!(ends(route.clone(), &[]), "n");
    assert_eq!(ends(route.clone(), &["n"]), "m");
    assert_eq!(ends(route, &["m"]), "failure");
}

#[test]
fn models_are_numbered_and_know_whether_others_follow() {
    let to = |id: &str| json!({"elementId": id});
    let branch =
        json!({"id": "p", "type": "percentage", "outputs": {"50%": to("e"), "else": to("c")}});
    let route = json!([
        start("a"),
        model("a", json!({"success": to("e"), "fallback": to("p")})),
        branch,
        model("c", json!({"success": to("e"), "fallback": to("e")})),
        end()
    ]);
    let graph = graph(&route);
    let request = Given::with(Value::Null);
    request.dice.set(u64::MAX);
    let mut walk = Walk::new(&graph);
    let ask = |step| match step {
        Step::Ask(Ask {
            id,
            number,
            has_others,
            ..
        }) => (id.to_owned(), number, has_others),
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(walk.begin(&graph, &request)), ("a".to_owned(), 0, true));
    let second = ask(walk.asked(false, &graph, &request));
    assert_eq!(second, ("c".to_owned(), 1, false));
    assert_eq!(walk.asked(false, &graph, &request), Step::End(End::Failure));
}

#[test]
fn values_that_are_written_alike_share_a_bucket() {
    let elements = json!([
        start("r"),
        rate(json!({"limit": 3}), json!({"success": {"elementId": "e"}})),
        end()
    ]);
    let graph = graph(&elements);
    let bucket = |value: Value| {
        let request = Given::with(json!({"user": value}));
        match Walk::new(&graph).begin(&graph, &request) {
            Step::Count(count) => count.bucket.map(Cow::into_owned),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bucket(json!("7")).as_deref(), Some("7"));
    assert_eq!(bucket(json!(7)).as_deref(), Some("7"));
    assert_eq!(bucket(json!(7.5)).as_deref(), Some("7.5"));
    assert_eq!(bucket(json!(true)).as_deref(), Some("true"));
    assert_eq!(bucket(Value::Null), None);
    assert_eq!(bucket(json!([1])), None);
}

#[test]
fn the_trail_tells_what_was_looked_at() {
    let mut elements = support();
    elements[1]["properties"]["conditions"] = json!({"$or": [
        {"metadata.plan": "free", "metadata.age": {"$gt": 3}},
        {"body.messages": {"$exists": false}, "body.model": {"$ne": "x"}, "headers.x-team": "a", "metadata.plan": "none",
         "headers.x-api-key": "a"},
    ]});
    let graph = graph(&elements);
    let mut request = Given::with(json!({"plan": "free", "age": 7, "user_id": "u"}));
    request.body = json!({"model": "y".repeat(1000), "messages": []});
    let mut walk = Walk::new(&graph);
    walk.begin(&graph, &request);
    walk.counted(false, &graph, &request);
    walk.asked(true, &graph, &request);
    let long = "y".repeat(128);
    let expected = json!([
        {"element": "s", "type": "start", "next": "c"},
        {"element": "c", "type": "conditional", "outcome": "true", "next": "r",
         "inputs": {"metadata.plan": "free", "metadata.age": 7, "body.messages": "(nested)", "body.model": long,
                    "headers.x-api-key": "(not shown)", "missing": ["headers.x-team"]}},
        {"element": "r", "type": "rate", "outcome": "fallback", "next": "m2",
         "inputs": {"metadata.user_id": "u", "limitType": "count", "limit": 100, "window": 3600}},
        {"element": "m2", "type": "model", "outcome": "success", "next": "e",
         "inputs": {"provider": "workers-ai", "model": "@cf/meta/llama-3.1-8b-instruct", "step": 0}},
        {"element": "e", "type": "end"},
    ]);
    assert_eq!(json!(trail(&walk, &graph, &request)), expected);

    let request = Given::with(json!({}));
    request.dice.set(u64::MAX / 2);
    let mut walk = Walk::new(&graph);
    walk.begin(&graph, &request);
    let trail = trail(&walk, &graph, &request);
    let split = json!({"element": "p", "type": "percentage", "inputs": {"drawn": "49.99%"}, "outcome": "90%", "next": "m1"});
    assert_eq!(trail.last(), Some(&split));
}

#[test]
fn each_request_is_drawn_for_itself_and_shares_are_exact() {
    let to = |id: &str| json!({"elementId": id});
    let route = json!([
        start("p"),
        {"id": "p", "type": "percentage", "outputs": {"12.5%": to("q"), "else": to("e")}},
        {"id": "q", "type": "percentage", "outputs": {"20%": to("a"), "80%": to("b")}},
        {"id": "a", "type": "end"},
        {"id": "b", "type": "end"},
        end()
    ]);
    let graph = graph(&route);
    const REQUESTS: u64 = 200_000;
    let mut ends: HashMap<String, usize> = HashMap::new();
    for number in 0..REQUESTS {
        let seed = mix(number);
        let request = Given {
            dice: Cell::new(seed),
            stride: mix(seed) | 1,
            ..Given::with(Value::Null)
        };
        let (passed, _) = way(&graph, &request, &[]);
        *ends
            .entry(passed.last().expect("an end").clone())
            .or_default() += 1;
    }
    for (end, share) in [("a", 0.025), ("b", 0.1), ("e", 0.875)] {
        let expected = share * REQUESTS as f64;
        // Six standard deviations; the numbers are the same at each run.
        let bound = 6.0 * (expected * (1.0 - share)).sqrt();
        let found = ends[end] as f64;
        assert!(
            (found - expected).abs() < bound,
            "{end}: {found} of {expected}"
        );
    }
}

/// splitmix64's output function.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

proptest! {
    /// Whatever is answered, a walk ends, passes no element twice, and each entry of its trail leads to the next by the
    /// output that it names.
    #[test]
    fn every_walk_ends_along_its_outputs(
        elements in any_route(),
        says in prop::collection::vec(any::<bool>(), 16),
        metadata in prop_oneof![Just(json!({})), Just(json!({"x": "a"})), Just(json!({"x": 3}))],
        dice in any::<u64>(),
    ) {
        let Ok(graph) = Graph::parse(&elements) else { return Ok(()) };
        let request = Given { dice: Cell::new(dice), stride: dice | 1, ..Given::with(metadata) };
        let mut walk = Walk::new(&graph);
        let mut says = says.into_iter().cycle();
        let mut next = || says.next().expect("endless");
        let mut step = walk.begin(&graph, &request);
        let (mut asked, mut answered) = (Vec::new(), None);
        let end = loop {
            step = match step {
                Step::Count(_) => walk.counted(next(), &graph, &request),
                Step::Ask(ask) => {
                    prop_assert_eq!(usize::from(ask.number), asked.len());
                    asked.push(ask.id);
                    let answers = next();
                    answered = answers.then_some(ask.id).or(answered);
                    walk.asked(answers, &graph, &request)
                }
                Step::End(end) => break end,
            };
        };
        match end {
            End::Answer(element) => prop_assert_eq!(Some(&*element.id), answered),
            End::Failure => prop_assert!(answered.is_none() && !asked.is_empty()),
            End::Limit(_) | End::Nothing => prop_assert!(asked.is_empty()),
        }
        let trail = trail(&walk, &graph, &request);
        let written = graph.to_elements();
        let outputs = |id: &Value| {
            let mut all = written.as_array().expect("elements").iter();
            all.find(|element| element["id"] == *id).expect("an element")["outputs"].clone()
        };
        let mut ids: Vec<&Value> = trail.iter().map(|entry| &entry["element"]).collect();
        for (at, entry) in trail.iter().enumerate() {
            let Some(next) = entry.get("next") else {
                prop_assert_eq!(at, trail.len() - 1);
                continue;
            };
            prop_assert_eq!(Some(&next), ids.get(at + 1));
            let outputs = outputs(&entry["element"]);
            let outcome = entry.get("outcome").and_then(Value::as_str).unwrap_or("next");
            let output = outputs.get(outcome).unwrap_or(&outputs["else"]);
            prop_assert_eq!(&output["elementId"], next);
        }
        let passed = ids.len();
        ids.sort_by_key(|id| id.to_string());
        ids.dedup();
        prop_assert_eq!(ids.len(), passed);
    }
}
