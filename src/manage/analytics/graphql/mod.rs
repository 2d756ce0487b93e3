//! A part of Cloudflare's GraphQL (spec: control plane 10.2): four datasets below `viewer.accounts`, their settings, and what
//! scripts ask of types.

mod dataset;
mod document;
mod filter;

use serde_json::{Map, Value as Json, json};

use super::super::answer::{Answer, Problem};
use super::super::logs::Ask as LogsAsk;
use super::super::operation::{Answers, Body, Call, Needs, Operation};
use super::super::schema::{Kind, TEXT, optional, required};
use super::{Ask, Show, take};
use crate::access::Permission as P;
use crate::aggregate::Cell;
use crate::limits::GRAPHQL_QUESTIONS_MAX;
use crate::telemetry::analytics::{Answered, Dimension, Filter, Question, Test, Value};
use crate::telemetry::logs::Logs;
use dataset::{Dataset, OF_REQUESTS, PAGE_MAX};
use document::Node;

pub(super) const OPERATIONS: &[Operation] = &[Operation {
    method: "POST",
    path: "/graphql",
    name: "graphql",
    about: "Figures in Cloudflare's GraphQL: aiGateway...AdaptiveGroups below viewer.accounts",
    needs: Needs::Any(&[P::GatewayRead, P::AnalyticsRead]),
    query: &[],
    body: Body::Own(Kind::Record(&[
        required("query", TEXT),
        optional("variables", Kind::Map(None, &Kind::Any)),
        optional("operationName", TEXT),
    ])),
    answers: Answers::Raw(&[
        required("data", Kind::Any),
        required(
            "errors",
            Kind::Nullable(&Kind::List(&Kind::Any, 0, usize::MAX)),
        ),
    ]),
    run,
}];

/// What is answered, where figures still have to be put in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document(Shape);

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Ready(Json),
    Object(Vec<(String, Shape)>),
    List(Vec<Shape>),
    /// Groups of figures, of the question of this number.
    Groups(usize, Groups),
    /// Numbers of stored log entries.
    Sizes(Sizes),
}

/// How the groups of an answer are shown.
#[derive(Debug, Clone, PartialEq)]
struct Groups {
    dataset: Dataset,
    /// Names of dimensions, in the order of the question's.
    dimensions: Vec<String>,
    selected: Vec<Node>,
    order: Vec<Order>,
    limit: usize,
}

/// How log entries are counted.
#[derive(Debug, Clone, PartialEq)]
struct Sizes {
    gateways: Vec<String>,
    selected: Vec<Node>,
    limit: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Order {
    by: By,
    descending: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    Count,
    Sum(String),
    /// The value of this place.
    Dimension(usize),
}

fn run(call: &mut Call<'_>) -> Result<Answer, Problem> {
    match plan(call) {
        Ok((shape, questions)) => LogsAsk::Figures(Ask {
            questions,
            show: Show::Document(Document(shape)),
        })
        .later(),
        Err(Refused::Query(message)) => Ok(Answer::Raw(json!({
            "data": null,
            "errors": [{"message": message, "path": null}],
        }))),
        Err(Refused::Problem(problem)) => Err(problem),
    }
}

/// Why there is no answer.
enum Refused {
    /// The query is wrong.
    Query(String),
    Problem(Problem),
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Query(message)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

fn plan(call: &Call<'_>) -> Result<(Shape, Vec<Question>), Refused> {
    let query = call.body["query"].as_str();
    let query = query.ok_or_else(|| "the body needs a query".to_owned())?;
    let variables = match &call.body["variables"] {
        Json::Object(variables) => variables.clone(),
        Json::Null => Map::new(),
        _ => return Err("variables: must be an object".to_owned().into()),
    };
    let name = call.body["operationName"].as_str();
    let nodes = document::read(query, name, &variables)?;
    let mut planner = Planner {
        account: &call.office.account,
        gateways: gateways(call)?,
        questions: Vec::new(),
    };
    let shape = planner.root(&nodes)?;
    Ok((shape, planner.questions))
}

/// Every gateway's id.
fn gateways(call: &Call<'_>) -> Result<Vec<String>, Problem> {
    let query = "SELECT id FROM gateways";
    let mut statement = call.database.prepare_cached(query)?;
    let stored = statement.query_map([], |row| row.get(0))?;
    let mut ids = stored.collect::<rusqlite::Result<Vec<String>>>()?;
    ids.extend(call.office.declared.load().gateways.keys().cloned());
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

struct Planner<'a> {
    account: &'a str,
    gateways: Vec<String>,
    questions: Vec<Question>,
}

impl Planner<'_> {
    fn root(&mut self, nodes: &[Node]) -> Result<Shape, String> {
        object(nodes, |node| match node.name.as_str() {
            "__typename" => Ok(text("query")),
            "__type" => Ok(Shape::Ready(type_of(node))),
            "viewer" => self.viewer(&node.children),
            name => Err(unknown(name)),
        })
    }

    fn viewer(&mut self, nodes: &[Node]) -> Result<Shape, String> {
        object(nodes, |node| match node.name.as_str() {
            "__typename" => Ok(text("viewer")),
            "accounts" => self.accounts(node),
            "zones" => Ok(Shape::List(Vec::new())),
            name => Err(unknown(name)),
        })
    }

    fn accounts(&mut self, node: &Node) -> Result<Shape, String> {
        let filter = node.arguments.get("filter");
        let asked = filter.and_then(|filter| {
            ["accountTag", "accountTag_in"]
                .iter()
                .find_map(|name| filter.get(name))
        });
        let is_ours = |value: &Json| value == self.account;
        let found = match asked {
            None => true,
            Some(Json::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
        };
        if !found {
            return Err("not authorized for that account".to_owned());
        }
        let account = object(&node.children, |node| match node.name.as_str() {
            "__typename" => Ok(text("account")),
            "accountTag" => Ok(text(self.account)),
            "settings" => settings(&node.children),
            name => match Dataset::parse(name) {
                Some(Dataset::Size) => self.sizes(node),
                Some(dataset) => self.groups(dataset, node),
                None => Err(unknown(name)),
            },
        })?;
        Ok(Shape::List(vec![account]))
    }

    fn groups(&mut self, dataset: Dataset, node: &Node) -> Result<Shape, String> {
        if self.questions.len() >= GRAPHQL_QUESTIONS_MAX {
            return Err(format!(
                "more than {GRAPHQL_QUESTIONS_MAX} datasets are asked for"
            ));
        }
        let asked = filter::read(dataset, node.arguments.get("filter"))?;
        check_members(dataset, &node.children)?;
        let mut dimensions: Vec<String> = Vec::new();
        let selected = node
            .children
            .iter()
            .filter(|child| child.name == "dimensions");
        for child in selected.flat_map(|child| &child.children) {
            note_dimension(dataset, &child.name, &mut dimensions)?;
        }
        let order = orders(dataset, node.arguments.get("orderBy"), &mut dimensions)?;
        let filter = match dataset {
            Dataset::Errors => {
                let failed = Filter::Test(Dimension::Error, Test::In, vec![Value::Flag(true)]);
                Filter::All(vec![asked.filter, failed])
            }
            _ => asked.filter,
        };
        let by = dimensions
            .iter()
            .filter_map(|name| dataset::dimension(name));
        // To the end of the next minute: nothing comes later.
        let until = asked.until.min(super::now() + 2);
        self.questions.push(Question {
            from: asked.from.min(until),
            until,
            filter,
            by: by.collect(),
            latencies: false,
        });
        let groups = Groups {
            dataset,
            dimensions,
            selected: node.children.clone(),
            order,
            limit: limit(node)?,
        };
        Ok(Shape::Groups(self.questions.len() - 1, groups))
    }

    fn sizes(&self, node: &Node) -> Result<Shape, String> {
        check_members(Dataset::Size, &node.children)?;
        let filter = node.arguments.get("filter").and_then(Json::as_object);
        let mut gateways = self.gateways.clone();
        for (name, value) in filter.into_iter().flatten() {
            match name.as_str() {
                "gateway" | "gateway_in" => gateways.retain(|gateway| match value {
                    Json::Array(several) => several.iter().any(|one| one == gateway),
                    one => one == gateway,
                }),
                // The number is of now, whatever time is asked for.
                name if name.starts_with("date") => {}
                name => return Err(format!("filter: unknown field {name:?}")),
            }
        }
        Ok(Shape::Sizes(Sizes {
            gateways,
            selected: node.children.clone(),
            limit: limit(node)?,
        }))
    }
}

/// Checks what is selected of a group.
fn check_members(dataset: Dataset, nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let name = node.name.as_str();
        if name != "__typename" && !dataset.members().contains(&name) {
            return Err(unknown(name));
        }
        let has_members = !matches!(name, "count" | "__typename");
        if has_members == node.children.is_empty() {
            let needs = if has_members { "needs" } else { "has no" };
            return Err(format!("field {name:?} {needs} members to select"));
        }
        let dimensions = dataset.dimensions();
        for child in &node.children {
            let known = match name {
                "sum" => dataset.sums().contains(&child.name.as_str()),
                "max" => child.name == "rows",
                _ => dimensions.contains(&child.name.as_str()),
            };
            if name == "dimensions" && OF_REQUESTS.contains(&child.name.as_str()) {
                return Err(of_requests(&child.name));
            }
            if !known && child.name != "__typename" {
                return Err(unknown(&child.name));
            }
        }
    }
    Ok(())
}

fn note_dimension(dataset: Dataset, name: &str, noted: &mut Vec<String>) -> Result<(), String> {
    if name == "__typename" || noted.iter().any(|known| known == name) {
        return Ok(());
    }
    if OF_REQUESTS.contains(&name) {
        return Err(of_requests(name));
    }
    if !dataset.dimensions().contains(&name) {
        return Err(unknown(name));
    }
    noted.push(name.to_owned());
    Ok(())
}

fn of_requests(name: &str) -> String {
    format!("{name} is known of single requests alone, and not of groups; read it from the logs")
}

/// The argument `orderBy`. A dimension that is not selected is asked for all the same.
fn orders(
    dataset: Dataset,
    argument: Option<&Json>,
    dimensions: &mut Vec<String>,
) -> Result<Vec<Order>, String> {
    let given = match argument {
        None | Some(Json::Null) => &[][..],
        Some(Json::Array(several)) => several,
        Some(one) => std::slice::from_ref(one),
    };
    let mut orders = Vec::new();
    for one in given {
        let text = one.as_str().unwrap_or_default();
        let (name, descending) = match (text.strip_suffix("_ASC"), text.strip_suffix("_DESC")) {
            (Some(name), _) => (name, false),
            (_, Some(name)) => (name, true),
            _ => return Err(format!("orderBy: {one} ends with neither _ASC nor _DESC")),
        };
        let sum = name
            .strip_prefix("sum_")
            .filter(|sum| dataset.sums().contains(sum));
        let by = match (name, sum) {
            ("count", _) => By::Count,
            (_, Some(sum)) => By::Sum(sum.to_owned()),
            _ => {
                note_dimension(dataset, name, dimensions)
                    .map_err(|why| format!("orderBy: {why}"))?;
                let place = dimensions.iter().position(|known| known == name);
                By::Dimension(place.unwrap_or_default())
            }
        };
        orders.push(Order { by, descending });
    }
    Ok(orders)
}

fn limit(node: &Node) -> Result<usize, String> {
    match node.arguments.get("limit") {
        None | Some(Json::Null) => Ok(100),
        Some(limit) => match limit.as_u64() {
            Some(limit @ 1..=PAGE_MAX) => Ok(limit as usize),
            _ => Err(format!("limit: must be from 1 to {PAGE_MAX}")),
        },
    }
}

fn settings(nodes: &[Node]) -> Result<Shape, String> {
    object(nodes, |node| {
        match (node.name.as_str(), Dataset::parse(&node.name)) {
            ("__typename", _) => Ok(text("settings")),
            (_, Some(dataset)) => {
                let all = dataset.settings();
                object(&node.children, |child| {
                    match (child.name.as_str(), all.get(&child.name)) {
                        ("__typename", _) => Ok(text("settings")),
                        (_, Some(value)) => Ok(Shape::Ready(value.clone())),
                        (name, None) => Err(unknown(name)),
                    }
                })
            }
            (name, None) => Err(unknown(name)),
        }
    })
}

/// What a script asks of a type: its fields.
fn type_of(node: &Node) -> Json {
    let name = node
        .arguments
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let found = Dataset::ALL.into_iter().find_map(|dataset| {
        let end = name.strip_prefix(&dataset.type_name())?;
        let dimensions = dataset.dimensions();
        Some(match end {
            "" => fields(
                "OBJECT",
                "fields",
                dataset.members().iter().map(|name| (*name).to_owned()),
            ),
            "Sum" => fields(
                "OBJECT",
                "fields",
                dataset.sums().iter().map(|name| (*name).to_owned()),
            ),
            "Dimensions" => fields(
                "OBJECT",
                "fields",
                dimensions.iter().map(|name| (*name).to_owned()),
            ),
            "Filter_InputObject" => {
                const ENDS: [&str; 9] = [
                    "", "_geq", "_leq", "_gt", "_lt", "_in", "_neq", "_like", "_has",
                ];
                let of = |name: &&str| ENDS.map(|end| format!("{name}{end}"));
                let names = dimensions.iter().flat_map(of);
                let both = ["AND", "OR"].map(str::to_owned);
                fields("INPUT_OBJECT", "inputFields", names.chain(both))
            }
            _ => return None,
        })
    });
    match found {
        Some(mut found) => {
            found["name"] = json!(name);
            select(&found, &node.children)
        }
        None => Json::Null,
    }
}

fn fields(kind: &str, of: &str, names: impl Iterator<Item = String>) -> Json {
    let field = |name: String| {
        let scalar = json!({"name": null, "kind": "SCALAR", "ofType": null});
        json!({"name": name, "description": null, "type": scalar})
    };
    let mut found = json!({
        "kind": kind, "description": null, "fields": null, "inputFields": null, "enumValues": null, "interfaces": [],
    });
    found[of] = names.map(field).collect();
    found
}

/// Of a value what is selected; what is not there is null.
fn select(value: &Json, nodes: &[Node]) -> Json {
    match value {
        Json::Array(values) => values.iter().map(|value| select(value, nodes)).collect(),
        Json::Object(members) if !nodes.is_empty() => {
            let member = |node: &Node| {
                let value = members.get(&node.name).unwrap_or(&Json::Null);
                (node.key.clone(), select(value, &node.children))
            };
            Json::Object(nodes.iter().map(member).collect())
        }
        value => value.clone(),
    }
}

fn object(
    nodes: &[Node],
    mut shape: impl FnMut(&Node) -> Result<Shape, String>,
) -> Result<Shape, String> {
    let shapes = nodes
        .iter()
        .map(|node| Ok((node.key.clone(), shape(node)?)));
    match nodes.is_empty() {
        true => Err("an object needs members to select".to_owned()),
        false => Ok(Shape::Object(shapes.collect::<Result<_, String>>()?)),
    }
}

fn text(text: &str) -> Shape {
    Shape::Ready(Json::from(text))
}

fn unknown(name: &str) -> String {
    format!("unknown field {name:?}")
}

impl Document {
    /// Puts the figures in.
    pub fn show(self, mut answered: Vec<Answered>, logs: &Logs) -> Answer {
        let mut figures = Vec::new();
        while !answered.is_empty() {
            figures.push(take(&mut answered));
        }
        let data = self.0.show(&figures, &|gateway| logs.rows(gateway));
        Answer::Raw(json!({"data": data, "errors": null}))
    }
}

impl Shape {
    fn show(self, figures: &[Answered], rows: &dyn Fn(&str) -> u64) -> Json {
        match self {
            Self::Ready(value) => value,
            Self::List(shapes) => shapes
                .into_iter()
                .map(|shape| shape.show(figures, rows))
                .collect(),
            Self::Object(members) => Json::Object(
                members
                    .into_iter()
                    .map(|(key, shape)| (key, shape.show(figures, rows)))
                    .collect(),
            ),
            Self::Groups(number, groups) => match figures.get(number) {
                Some(answered) => groups.show(answered),
                None => Json::Null,
            },
            Self::Sizes(sizes) => sizes.show(rows),
        }
    }
}

impl Groups {
    fn show(&self, answered: &Answered) -> Json {
        let mut rows: Vec<&(Vec<Value>, Cell)> = answered.iter().collect();
        rows.sort_by(|one, other| self.compare(one, other));
        rows.truncate(self.limit);
        rows.into_iter()
            .map(|(values, cell)| self.show_group(values, cell))
            .collect()
    }

    fn compare(&self, one: &(Vec<Value>, Cell), other: &(Vec<Value>, Cell)) -> std::cmp::Ordering {
        let number = |name: &str, cell: &Cell| dataset::sum(name, cell).as_f64().unwrap_or(0.0);
        self.order
            .iter()
            .map(|order| {
                let compared = match &order.by {
                    By::Count => one.1.requests.cmp(&other.1.requests),
                    By::Sum(name) => number(name, &one.1).total_cmp(&number(name, &other.1)),
                    By::Dimension(place) => one.0.get(*place).cmp(&other.0.get(*place)),
                };
                match order.descending {
                    true => compared.reverse(),
                    false => compared,
                }
            })
            .find(|compared| compared.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }

    fn show_group(&self, values: &[Value], cell: &Cell) -> Json {
        let name = self.dataset.type_name();
        let of = |name: &str| {
            let place = self.dimensions.iter().position(|known| known == name)?;
            values.get(place)
        };
        members(&self.selected, &name, |node| match node.name.as_str() {
            "count" => json!(cell.requests),
            "sum" => members(&node.children, &format!("{name}Sum"), |child| {
                dataset::sum(&child.name, cell)
            }),
            _ => members(&node.children, &format!("{name}Dimensions"), |child| {
                of(&child.name).map_or(Json::Null, |value| dataset::show(&child.name, value))
            }),
        })
    }
}

impl Sizes {
    fn show(&self, rows: &dyn Fn(&str) -> u64) -> Json {
        let name = Dataset::Size.type_name();
        let now = Value::Number(super::now());
        let shown = self.gateways.iter().take(self.limit).map(|gateway| {
            members(&self.selected, &name, |node| match node.name.as_str() {
                "max" => members(&node.children, &format!("{name}Max"), |_| {
                    json!(rows(gateway))
                }),
                _ => members(
                    &node.children,
                    &format!("{name}Dimensions"),
                    |child| match child.name.as_str() {
                        "gateway" => json!(gateway),
                        name => dataset::show(name, &now),
                    },
                ),
            })
        });
        shown.collect()
    }
}

fn members(nodes: &[Node], type_name: &str, value: impl Fn(&Node) -> Json) -> Json {
    let member = |node: &Node| match node.name.as_str() {
        "__typename" => (node.key.clone(), Json::from(type_name)),
        _ => (node.key.clone(), value(node)),
    };
    Json::Object(nodes.iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::cost::Money;

    fn planned(query: &str) -> Result<(Shape, Vec<Question>), String> {
        let nodes = document::read(query, None, &Map::new())?;
        let mut planner = Planner {
            account: "acc",
            gateways: vec!["a".to_owned(), "b".to_owned()],
            questions: Vec::new(),
        };
        let shape = planner.root(&nodes)?;
        Ok((shape, planner.questions))
    }

    fn within(fields: &str) -> String {
        format!(r#"{{ viewer {{ accounts(filter: {{accountTag: "acc"}}) {{ {fields} }} }} }}"#)
    }

    #[test]
    fn groups_are_shown_as_they_are_selected() {
        let (shape, questions) = planned(&within(
            r#"top: aiGatewayRequestsAdaptiveGroups(limit: 2, filter: {gateway: "a"}, orderBy: [sum_cost_DESC, model_ASC]) {
                __typename count sum { cost in: tokensIn } dimensions { ts: datetimeHour cached }
            }"#,
        ))
        .expect("planned");
        let [question] = &questions[..] else {
            panic!("{questions:?}");
        };
        let by = [Dimension::Time(60), Dimension::Cached, Dimension::Model];
        assert_eq!(question.by, by, "what is only ordered by is asked for too");
        let row = |model, pico| {
            let values = vec![Value::Number(60), Value::Flag(false), Value::text(model)];
            let cell = Cell {
                requests: 2,
                cost: Money(pico),
                tokens_in: 5,
                cached_in: 1,
                ..Cell::default()
            };
            (values, cell)
        };
        let answered = vec![vec![row("c", 1), row("b", 2_000_000_000_000), row("a", 1)]];
        let shown = shape.show(&answered, &|_| 0);
        let group = |cost: f64| {
            json!({
                "__typename": "AccountAiGatewayRequestsAdaptiveGroups",
                "count": 2,
                "sum": {"cost": cost, "in": 6},
                "dimensions": {"ts": "1970-01-01T01:00:00Z", "cached": 0},
            })
        };
        let expected = json!({"viewer": {"accounts": [{"top": [group(2.0), group(1e-12)]}]}});
        assert_eq!(shown, expected);
    }

    #[test]
    fn errors_and_sizes_are_their_own() {
        let (shape, questions) = planned(&within(
            "aiGatewayErrorsAdaptiveGroups(limit: 1) { count dimensions { provider } }
             aiGatewaySizeAdaptiveGroups(limit: 10, filter: {gateway: \"b\"}) { max { rows } dimensions { gateway } }",
        ))
        .expect("planned");
        let failed = Filter::Test(Dimension::Error, Test::In, vec![Value::Flag(true)]);
        let filter = &questions[0].filter;
        assert!(
            matches!(filter, Filter::All(all) if all[1] == failed),
            "{filter:?}"
        );
        let shown = shape.show(&[Vec::new()], &|gateway| u64::from(gateway == "b") * 7);
        let account = &shown["viewer"]["accounts"][0];
        assert_eq!(account["aiGatewayErrorsAdaptiveGroups"], json!([]));
        assert_eq!(
            account["aiGatewaySizeAdaptiveGroups"],
            json!([{"max": {"rows": 7}, "dimensions": {"gateway": "b"}}])
        );
    }

    #[test]
    fn types_and_settings_tell_what_there_is() {
        let query = r#"{ __type(name: "AccountAiGatewayRequestsAdaptiveGroupsSum") { name fields { name type { kind } } } }"#;
        let (shape, _) = planned(query).expect("planned");
        let shown = shape.show(&[], &|_| 0);
        let fields = shown["__type"]["fields"].as_array().expect("fields");
        assert_eq!(fields.len(), 11);
        assert_eq!(
            fields[0],
            json!({"name": "cost", "type": {"kind": "SCALAR"}})
        );
        let query = r#"{ __type(name: "AccountAiGatewayCacheAdaptiveGroupsFilter_InputObject") { inputFields { name } } none: __type(name: "X") { name } }"#;
        let (shape, _) = planned(query).expect("planned");
        let shown = shape.show(&[], &|_| 0);
        let names = shown["__type"]["inputFields"].to_string();
        assert!(names.contains("\"datetime_geq\"") && names.contains("\"cacheStatus_in\""));
        assert_eq!(shown["none"], Json::Null);
        let settings =
            "settings { aiGatewayRequestsAdaptiveGroups { enabled availableFields maxPageSize } }";
        let (shape, _) = planned(&within(settings)).expect("planned");
        let shown = shape.show(&[], &|_| 0);
        let told = &shown["viewer"]["accounts"][0]["settings"]["aiGatewayRequestsAdaptiveGroups"];
        assert_eq!(
            (&told["enabled"], &told["maxPageSize"]),
            (&json!(true), &json!(10_000))
        );
        assert!(
            told["availableFields"]
                .to_string()
                .contains("\"sum_tokensIn\"")
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let of = |fields: &str| planned(&within(fields)).expect_err(fields);
        let groups = |selected: &str| {
            of(&format!(
                "aiGatewayRequestsAdaptiveGroups(limit: 1) {{ {selected} }}"
            ))
        };
        for (told, named) in [
            (
                of("httpRequestsAdaptiveGroups { count }"),
                "httpRequestsAdaptiveGroups",
            ),
            (groups("avg { cost }"), "avg"),
            (groups("sum { price }"), "price"),
            (groups("sum"), "members"),
            (groups("count { x }"), "has no members"),
            (groups("dimensions { durationMs }"), "single requests"),
            (
                of("aiGatewayCacheAdaptiveGroups(limit: 0) { count }"),
                "limit",
            ),
            (
                of("aiGatewayCacheAdaptiveGroups(orderBy: [count]) { count }"),
                "_DESC",
            ),
            (
                of("aiGatewayErrorsAdaptiveGroups(orderBy: [sum_cost_DESC]) { count }"),
                "sum_cost",
            ),
            (
                planned("{ viewer { accounts(filter: {accountTag: \"x\"}) { accountTag } } }")
                    .expect_err("other"),
                "not authorized",
            ),
            (planned("{ viewer { users } }").expect_err("users"), "users"),
        ] {
            assert!(told.contains(named), "{told}");
        }
    }
}
