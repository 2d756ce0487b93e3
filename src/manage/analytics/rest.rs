//! Figures over time and by groups.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::super::answer::{Answer, Problem};
use super::super::logs::Ask as LogsAsk;
use super::super::operation::{Answers, Body, Call, Operation, READ, time};
use super::super::schema::{Field, Kind, QUERY_NAMES, QUERY_TEXT, TEXT, optional, required};
use super::measure::{MEASURES, Measure};
use super::{Ask, Show, is_named, metadata_key, minutes, now, shown, take, user_dimension};
use crate::aggregate::Cell;
use crate::limits::{ANALYTICS_MINUTES_KEPT, ANALYTICS_POINTS_MAX};
use crate::telemetry::analytics::{Answered, Dimension, Filter, Question, Test, Value};

/// Most dimensions by which one answer tells figures apart.
const GROUPED_BY_MAX: usize = 3;

const QUERY: &[Field] = &[
    optional("since", Kind::Time),
    optional("until", Kind::Time),
    optional(
        "interval",
        Kind::Choice(&["auto", "1m", "5m", "15m", "1h", "1d"]),
    ),
    optional("gateway_id", QUERY_NAMES),
    optional("provider", QUERY_NAMES),
    optional("model", QUERY_NAMES),
    optional("status", QUERY_NAMES),
    optional("cached", Kind::Boolean),
    optional("group_by", QUERY_NAMES),
    optional("metrics", QUERY_NAMES),
    optional("limit", Kind::Integer(1, 1000)),
    optional("order_by", QUERY_TEXT),
];
const ANSWER: Answers = Answers::Result(&[
    required("series", Kind::List(&Kind::Any, 0, usize::MAX)),
    required("totals", Kind::Map(None, &Kind::Any)),
    required("metrics", Kind::List(&TEXT, 0, 100)),
    required("since", Kind::Time),
    required("until", Kind::Time),
]);

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/analytics/timeseries",
        name: "analytics.timeseries",
        about: "Figures over time; conditions also as metadata.<key>",
        needs: READ,
        query: QUERY,
        body: Body::None,
        answers: ANSWER,
        run: timeseries,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/analytics/groups",
        name: "analytics.groups",
        about: "Figures by groups; conditions also as metadata.<key>",
        needs: READ,
        query: QUERY,
        body: Body::None,
        answers: ANSWER,
        run: groups,
    },
];

/// How figures are shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    from: u64,
    until: u64,
    /// Minutes of a point; `None`: the whole time is one.
    step: Option<u64>,
    /// What groups are told apart by.
    names: Vec<String>,
    measures: Vec<(String, Measure)>,
    limit: usize,
    order: (Measure, bool),
}

fn timeseries(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (from, until) = range(call)?;
    let step = match call.text("interval") {
        Some("1m") => 1,
        Some("5m") => 5,
        Some("15m") => 15,
        Some("1h") => 60,
        Some("1d") => 24 * 60,
        _ => fitting(until - from),
    };
    let has_minutes = from >= now().saturating_sub(ANALYTICS_MINUTES_KEPT);
    let step = match has_minutes || step >= 60 {
        true => step,
        false => {
            let note = "Figures of single minutes are kept for 7 days; these are by the hour";
            call.messages.push((super::super::NOTE, note.to_owned()));
            60
        }
    };
    ask(call, from, until, Some(step), 10)
}

fn groups(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (from, until) = range(call)?;
    ask(call, from, until, None, 100)
}

/// Minutes of a point that make a readable line of a time.
fn fitting(minutes: u64) -> u64 {
    const STEPS: [u64; 4] = [1, 5, 15, 60];
    let fits = |step: &&u64| minutes / **step <= 200;
    let most_hours = 31 * 24;
    match STEPS.iter().find(fits) {
        Some(step) => *step,
        None if minutes / 60 <= most_hours => 60,
        None => 24 * 60,
    }
}

/// The minutes of `since` and `until`: a day up to now, where nothing is said.
pub(super) fn range(call: &Call<'_>) -> Result<(u64, u64), Problem> {
    let given = |name: &str| {
        let wrong = || {
            Problem::field(
                &["query", name],
                format!("query.{name}: must be after 1970"),
            )
        };
        let text = call.text(name);
        text.map(|text| minutes(text).ok_or_else(wrong)).transpose()
    };
    let until = given("until")?.map_or(now() + 1, |(_, until)| until);
    let from = given("since")?.map_or(until.saturating_sub(24 * 60), |(from, _)| from);
    match from < until {
        true => Ok((from, until)),
        false => Err(Problem::field(
            &["query", "since"],
            "query.since: must be before query.until",
        )),
    }
}

fn ask(
    call: &mut Call<'_>,
    from: u64,
    until: u64,
    step: Option<u64>,
    limit_default: usize,
) -> Result<Answer, Problem> {
    let filter = filter(call)?;
    let names = texts(call, "group_by");
    if names.len() > GROUPED_BY_MAX {
        let problem = format!("query.group_by: at most {GROUPED_BY_MAX}");
        return Err(Problem::field(&["query", "group_by"], problem));
    }
    let mut by = Vec::new();
    for name in &names {
        by.push(dimension(name).ok_or_else(|| {
            let known = DIMENSIONS.map(|(name, _)| name).join(", ");
            let problem = format!("query.group_by: {name:?} is none of {known}, metadata.<key>");
            Problem::field(&["query", "group_by"], problem)
        })?);
    }
    let measures = measures(call)?;
    let order = match call.text("order_by") {
        Some(text) => order(text)?,
        None => (measures[0].1, true),
    };
    let all = || {
        measures
            .iter()
            .map(|(_, measure)| *measure)
            .chain([order.0])
    };
    let latencies = all().any(Measure::is_latency);
    let counts_users = all().any(|measure| measure == Measure::ActiveUsers);
    let mut questions = vec![Question {
        from,
        until,
        filter,
        by: step.map(Dimension::Time).into_iter().chain(by).collect(),
        latencies,
    }];
    if counts_users {
        let mut users = questions[0].clone();
        let key = call.office.declared.load().user_key.clone();
        users.by.push(user_dimension(&key));
        users.latencies = false;
        questions.push(users);
    }
    let limit = call.query.get("limit").and_then(Json::as_u64);
    let series = Series {
        from,
        until,
        step,
        names,
        limit: limit.map_or(limit_default, |limit| limit as usize),
        measures,
        order,
    };
    series.check_size()?;
    LogsAsk::Figures(Ask {
        questions,
        show: Show::Series(series),
    })
    .later()
}

const DIMENSIONS: [(&str, Dimension); 8] = [
    ("gateway", Dimension::Gateway),
    ("provider", Dimension::Provider),
    ("model", Dimension::Model),
    ("status_code", Dimension::Status),
    ("cached", Dimension::Cached),
    ("route", Dimension::Route),
    ("key_alias", Dimension::KeyAlias),
    ("user_agent", Dimension::UserAgent),
];

fn dimension(name: &str) -> Option<Dimension> {
    if name == "token" {
        return Some(Dimension::Token);
    }
    if let Some(key) = metadata_key(name) {
        return Some(Dimension::Metadata(key.to_owned()));
    }
    let found = DIMENSIONS.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, dimension)| dimension)
}

fn texts(call: &Call<'_>, name: &str) -> Vec<String> {
    let given = call.query.get(name).and_then(Json::as_array);
    let texts = given.into_iter().flatten();
    texts
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn measures(call: &Call<'_>) -> Result<Vec<(String, Measure)>, Problem> {
    let mut names = texts(call, "metrics");
    if names.is_empty() {
        names = ["requests", "errors", "tokens_in", "tokens_out", "cost"]
            .map(str::to_owned)
            .to_vec();
    }
    let parse = |name: String| match Measure::parse(&name) {
        Some(measure) => Ok((name, measure)),
        None => {
            let known = MEASURES.map(|(name, _)| name).join(", ");
            let problem = format!("query.metrics: {name:?} is none of {known}");
            Err(Problem::field(&["query", "metrics"], problem))
        }
    };
    names.into_iter().map(parse).collect()
}

/// `cost`, `-cost`, `cost_ASC`, `cost_DESC`: the highest first, unless it says otherwise.
fn order(text: &str) -> Result<(Measure, bool), Problem> {
    let (name, descending) = match text.strip_prefix('-') {
        Some(name) => (name, true),
        None => match (text.strip_suffix("_ASC"), text.strip_suffix("_DESC")) {
            (Some(name), _) => (name, false),
            (_, Some(name)) => (name, true),
            _ => (text, true),
        },
    };
    let measure = Measure::parse(name).ok_or_else(|| {
        let problem = format!("query.order_by: {name:?} is no metric");
        Problem::field(&["query", "order_by"], problem)
    })?;
    Ok((measure, descending))
}

/// The conditions of a query.
pub(super) fn filter(call: &Call<'_>) -> Result<Filter, Problem> {
    let mut all = Vec::new();
    for (name, dimension) in [
        ("gateway_id", Dimension::Gateway),
        ("provider", Dimension::Provider),
        ("model", Dimension::Model),
    ] {
        let values: Vec<Value> = texts(call, name)
            .iter()
            .map(|text| Value::text(text))
            .collect();
        if !values.is_empty() {
            all.push(Filter::Test(dimension, Test::In, values));
        }
    }
    let statuses = texts(call, "status");
    if !statuses.is_empty() {
        let any = statuses
            .iter()
            .map(|text| status(text))
            .collect::<Result<_, _>>()?;
        all.push(Filter::Any(any));
    }
    if let Some(cached) = call.query.get("cached").and_then(Json::as_bool) {
        all.push(Filter::Test(
            Dimension::Cached,
            Test::In,
            vec![Value::Flag(cached)],
        ));
    }
    let mut pairs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, value) in &call.pairs {
        let name = name.strip_suffix("[]").unwrap_or(name);
        if let Some(key) = metadata_key(name) {
            pairs.entry(key).or_default().push(Value::text(value));
        }
    }
    for (key, values) in pairs {
        let dimension = Dimension::Metadata(key.to_owned());
        all.push(Filter::Test(dimension, Test::In, values));
    }
    Ok(Filter::All(all))
}

/// `429`, `4xx`, `error` or `success`.
fn status(text: &str) -> Result<Filter, Problem> {
    let test =
        |test, status: u64| Filter::Test(Dimension::Status, test, vec![Value::Number(status)]);
    let failed = |failed| Filter::Test(Dimension::Error, Test::In, vec![Value::Flag(failed)]);
    match text {
        "error" => return Ok(failed(true)),
        "success" => return Ok(failed(false)),
        _ => {}
    }
    if let Some(class) = text
        .strip_suffix("xx")
        .and_then(|text| text.parse::<u64>().ok())
    {
        let bounds = [
            test(Test::GreaterOrEqual, class * 100),
            test(Test::Less, class * 100 + 100),
        ];
        return Ok(Filter::All(bounds.into()));
    }
    match text.parse() {
        Ok(status) => Ok(test(Test::In, status)),
        Err(_) => Err(Problem::field(
            &["query", "status"],
            format!("query.status: {text:?} is no status, such as 429, 4xx, error or success"),
        )),
    }
}

/// A group's figures: in all and by their points.
#[derive(Default)]
struct Group {
    total: Cell,
    points: BTreeMap<u64, Cell>,
    users: BTreeSet<Value>,
    users_of: BTreeMap<u64, u64>,
}

impl Series {
    fn check_size(&self) -> Result<(), Problem> {
        let points = self
            .step
            .map_or(1, |step| (self.until - self.from) / step + 2);
        if points.saturating_mul(self.limit as u64) <= ANALYTICS_POINTS_MAX {
            return Ok(());
        }
        let problem = format!(
            "query.interval: {points} points of {} series are too many; ask for a longer interval or a lower limit",
            self.limit
        );
        Err(Problem::field(&["query", "interval"], problem))
    }

    /// Shows what was answered.
    pub fn show(self, mut answered: Vec<Answered>) -> Result<Answer, Problem> {
        let mut groups: BTreeMap<Vec<Value>, Group> = BTreeMap::new();
        let mut all = Group::default();
        for (values, cell) in take(&mut answered) {
            let (at, key) = self.apart(values);
            let group = groups.entry(key).or_default();
            group.total.merge(&cell);
            group.points.entry(at).or_default().merge(&cell);
            all.total.merge(&cell);
        }
        for (mut values, _) in take(&mut answered) {
            let Some(user) = values.pop().filter(is_named) else {
                continue;
            };
            let (at, key) = self.apart(values);
            let group = groups.entry(key).or_default();
            // Each user of a point has one row.
            *group.users_of.entry(at).or_default() += 1;
            group.users.insert(user.clone());
            all.users.insert(user);
        }
        let mut groups: Vec<(Vec<Value>, Group)> = groups.into_iter().collect();
        let (measure, descending) = self.order;
        let rank = |group: &Group| {
            let value = measure.of(&group.total, group.users.len() as u64);
            value.unwrap_or(f64::NEG_INFINITY)
        };
        groups.sort_by(|(_, one), (_, other)| match descending {
            true => rank(other).total_cmp(&rank(one)),
            false => rank(one).total_cmp(&rank(other)),
        });
        groups.truncate(self.limit);
        let series: Vec<Json> = groups
            .iter()
            .map(|(key, group)| self.show_group(key, group))
            .collect();
        let metrics: Vec<&str> = self
            .measures
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let at = |minute: u64| time(minute as i64 * 60_000);
        Ok(Answer::Result(json!({
            "series": series,
            "totals": self.totals(&all),
            "metrics": metrics,
            "since": at(self.from),
            "until": at(self.until),
            "interval_minutes": self.step,
        })))
    }

    /// The point and the group of a row.
    fn apart(&self, mut values: Vec<Value>) -> (u64, Vec<Value>) {
        if self.step.is_none() {
            return (self.from, values);
        }
        match values.remove(0) {
            Value::Number(at) => (at, values),
            _ => (self.from, values),
        }
    }

    fn show_group(&self, key: &[Value], group: &Group) -> Json {
        let names = self.names.iter().cloned();
        let named: Map<String, Json> = names.zip(key.iter().map(shown)).collect();
        let none = Cell::default();
        let point = |at: u64| -> Json {
            let cell = group.points.get(&at).unwrap_or(&none);
            let users = group.users_of.get(&at).copied().unwrap_or(0);
            let values = self
                .measures
                .iter()
                .map(|(_, measure)| measure.show(cell, users));
            [json!(at * 60)].into_iter().chain(values).collect()
        };
        let points: Vec<Json> = match self.step {
            Some(step) => {
                let first = self.from - self.from % step;
                (first..self.until)
                    .step_by(step as usize)
                    .map(point)
                    .collect()
            }
            None => vec![point(self.from)],
        };
        json!({"group": named, "points": points, "totals": self.totals(group)})
    }

    fn totals(&self, group: &Group) -> Map<String, Json> {
        let users = group.users.len() as u64;
        let show =
            |(name, measure): &(String, Measure)| (name.clone(), measure.show(&group.total, users));
        self.measures.iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_fit_their_time() {
        for (minutes, step) in [
            (60, 1),
            (200, 1),
            (12 * 60, 5),
            (48 * 60, 15),
            (7 * 24 * 60, 60),
            (31 * 24 * 60, 60),
            (90 * 24 * 60, 24 * 60),
        ] {
            assert_eq!(fitting(minutes), step, "{minutes}");
        }
    }

    #[test]
    fn an_order_is_read_either_way() {
        for (text, expected) in [
            ("cost", (Measure::Cost, true)),
            ("-cost", (Measure::Cost, true)),
            ("cost_ASC", (Measure::Cost, false)),
            ("tokens_in_DESC", (Measure::TokensIn, true)),
        ] {
            assert_eq!(order(text).ok(), Some(expected), "{text}");
        }
        assert!(order("model").is_err());
        assert!(status("4x").is_err());
    }

    #[test]
    fn groups_come_in_their_order_with_every_point() {
        let series = Series {
            from: 100,
            until: 110,
            step: Some(5),
            names: vec!["model".to_owned()],
            measures: vec![
                ("requests".to_owned(), Measure::Requests),
                ("active_users".to_owned(), Measure::ActiveUsers),
            ],
            limit: 1,
            order: (Measure::Requests, true),
        };
        let cell = |requests| Cell {
            requests,
            ..Cell::default()
        };
        let at = |minute, model: &str| vec![Value::Number(minute), Value::text(model)];
        let of = |minute, model: &str, user: &str| {
            let user = Value::text(user);
            (
                at(minute, model).into_iter().chain([user]).collect(),
                cell(1),
            )
        };
        let figures = vec![
            (at(100, "a"), cell(2)),
            (at(105, "a"), cell(3)),
            (at(105, "b"), cell(1)),
        ];
        let users = vec![
            of(100, "a", "ada"),
            of(100, "a", "bob"),
            of(105, "a", "ada"),
            of(105, "a", ""),
            of(105, "b", "cy"),
        ];
        let answer = series.show(vec![figures, users]).expect("shown");
        let Answer::Result(result) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(
            result["series"],
            json!([{
                "group": {"model": "a"},
                "points": [[6000, 2, 2], [6300, 3, 1]],
                "totals": {"requests": 5, "active_users": 2},
            }])
        );
        assert_eq!(result["totals"], json!({"requests": 6, "active_users": 3}));
        assert_eq!(result["since"], "1970-01-01T01:40:00.000Z");
    }
}
