//! Figures of users (spec: control plane 10.3). A user is whom a pair of the metadata names; a session is a run of hours in each
//! of which the user was there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::super::answer::{Answer, Problem};
use super::super::logs::Ask as LogsAsk;
use super::super::operation::{Answers, Body, Call, Operation, READ, time};
use super::super::schema::{Field, Kind, QUERY_NAMES, TEXT, optional, required};
use super::rest::{filter, range};
use super::{Ask, Show, is_named, take, user_dimension};
use crate::aggregate::Cell;
use crate::limits::{METADATA_KEY_MAX, SESSION_DAYS};
use crate::meter::cost::Money;
use crate::telemetry::analytics::{Answered, Dimension, Filter, Question, Test, Value};

const DAY: u64 = 24 * 60;

const USER_KEY: Field = optional("key", Kind::Text(1, METADATA_KEY_MAX));
const SINCE: Field = optional("since", Kind::Time);
const UNTIL: Field = optional("until", Kind::Time);
const GATEWAY: Field = optional("gateway_id", QUERY_NAMES);
const PROVIDER: Field = optional("provider", QUERY_NAMES);
const MODEL: Field = optional("model", QUERY_NAMES);
const NUMBER: Kind = Kind::Number(0.0, f64::MAX);

const USER: &[Field] = &[
    required("user", TEXT),
    required("requests", Kind::Integer(0, i64::MAX)),
    required("spend", NUMBER),
    required("sessions", Kind::Any),
    required("last_seen", Kind::Time),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/analytics/users",
        name: "analytics.users",
        about: "What users did and spent, by a pair of their metadata",
        needs: READ,
        query: &[
            SINCE,
            UNTIL,
            GATEWAY,
            PROVIDER,
            MODEL,
            USER_KEY,
            optional("limit", Kind::Integer(1, 1000)),
            optional(
                "order_by",
                Kind::Choice(&["spend", "requests", "tokens", "last_seen", "user"]),
            ),
        ],
        body: Body::None,
        answers: Answers::Result(&[
            required("key", TEXT),
            required("summary", Kind::Map(None, &Kind::Any)),
            required("users", Kind::List(&Kind::Record(USER), 0, usize::MAX)),
        ]),
        run: list,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/analytics/users/{user}",
        name: "analytics.user",
        about: "What one user did and spent, with the sessions",
        needs: READ,
        query: &[SINCE, UNTIL, GATEWAY, PROVIDER, MODEL, USER_KEY],
        body: Body::None,
        answers: Answers::Result(USER),
        run: one,
    },
];

/// How a list of users is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Users {
    key: String,
    from: u64,
    until: u64,
    limit: usize,
    order: String,
}

/// How one user is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct User {
    users: Users,
    name: String,
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (users, questions) = ask(call)?;
    LogsAsk::Figures(Ask {
        questions,
        show: Show::Users(users),
    })
    .later()
}

fn one(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let (users, mut questions) = ask(call)?;
    let name = call.parameter("user").to_owned();
    // The other users' sessions are what this one's are compared with.
    let named = Filter::Test(
        user_dimension(&users.key),
        Test::In,
        vec![Value::text(&name)],
    );
    let all = std::mem::replace(&mut questions[0].filter, Filter::everything());
    questions[0].filter = Filter::All(vec![all, named]);
    LogsAsk::Figures(Ask {
        questions,
        show: Show::User(User { users, name }),
    })
    .later()
}

fn ask(call: &Call<'_>) -> Result<(Users, Vec<Question>), Problem> {
    let (from, until) = range(call)?;
    let key = match call.text("key") {
        Some(key) => key.to_owned(),
        None => call.office.declared.load().user_key.clone(),
    };
    let filter = filter(call)?;
    let limit = call.query.get("limit").and_then(Json::as_u64);
    let user = user_dimension(&key);
    let question = |from, by: &[Dimension]| Question {
        from,
        until,
        filter: filter.clone(),
        by: [user.clone()]
            .into_iter()
            .chain(by.iter().cloned())
            .collect(),
        latencies: false,
    };
    let by_day = [Dimension::Provider, Dimension::Model, Dimension::Time(DAY)];
    let baseline = until.saturating_sub(SESSION_DAYS * DAY).min(from);
    let questions = vec![
        question(from, &by_day),
        question(baseline, &[Dimension::Time(60)]),
    ];
    let users = Users {
        key,
        from,
        until,
        limit: limit.unwrap_or(50) as usize,
        order: call.text("order_by").unwrap_or("spend").to_owned(),
    };
    Ok((users, questions))
}

/// What one user did.
#[derive(Default)]
struct Deeds {
    total: Cell,
    days: BTreeSet<u64>,
    models: BTreeMap<String, u64>,
    providers: BTreeMap<String, u64>,
    sessions: Vec<Session>,
}

/// A run of hours.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    /// The first minute of its first hour.
    from: u64,
    /// The last minute of a request.
    last: u64,
    requests: u64,
    cost: Money,
    is_flagged: bool,
}

/// All users of an answer.
struct Crowd {
    users: BTreeMap<String, Deeds>,
    /// Requests of nobody known.
    unnamed: Cell,
}

impl Crowd {
    fn of(mut answered: Vec<Answered>, from: u64) -> Self {
        let mut crowd = Self {
            users: BTreeMap::new(),
            unnamed: Cell::default(),
        };
        for (values, cell) in take(&mut answered) {
            let [user, provider, model, day] = &values[..] else {
                continue;
            };
            let Some(name) = name(user) else {
                crowd.unnamed.merge(&cell);
                continue;
            };
            let deeds = crowd.users.entry(name.to_owned()).or_default();
            deeds.total.merge(&cell);
            if let Value::Number(day) = day {
                deeds.days.insert(*day);
            }
            for (value, counts) in [(model, &mut deeds.models), (provider, &mut deeds.providers)] {
                if let Value::Text(text) = value {
                    *counts.entry(text.to_string()).or_default() += cell.requests;
                }
            }
        }
        crowd.find_sessions(take(&mut answered), from);
        crowd
    }

    /// Flags those that cost more than twice what the user's own do and more than nearly all of everybody's.
    fn find_sessions(&mut self, hours: Answered, from: u64) {
        let mut of: BTreeMap<String, Vec<Session>> = BTreeMap::new();
        // The rows come in the order of users and hours.
        for (values, cell) in hours {
            let [user, Value::Number(hour)] = &values[..] else {
                continue;
            };
            let Some(name) = name(user) else { continue };
            let sessions = of.entry(name.to_owned()).or_default();
            match sessions.last_mut() {
                Some(session) if session.last - session.last % 60 + 60 == *hour => {
                    session.last = cell.last.max(*hour);
                    session.requests += cell.requests;
                    session.cost += cell.cost;
                }
                _ => sessions.push(Session {
                    from: *hour,
                    last: cell.last.max(*hour),
                    requests: cell.requests,
                    cost: cell.cost,
                    is_flagged: false,
                }),
            }
        }
        let everybody = of.values().flatten().map(|session| session.cost);
        let common = quantile(everybody.collect(), 0.99);
        for (name, mut sessions) in of {
            let own = sessions.iter().map(|session| session.cost);
            let own = quantile(own.collect(), 0.95);
            for session in &mut sessions {
                session.is_flagged = session.cost > own + own && session.cost > common;
            }
            sessions.retain(|session| session.last >= from);
            if let Some(deeds) = self.users.get_mut(&name) {
                deeds.sessions = sessions;
            }
        }
    }

    fn summary(&self) -> Json {
        let of = |figure: fn(&Deeds) -> u64| -> Vec<u64> {
            let mut all: Vec<u64> = self.users.values().map(figure).collect();
            all.sort_unstable();
            all
        };
        let requests = of(|deeds| deeds.total.requests);
        let mut spends: Vec<Money> = self.users.values().map(|deeds| deeds.total.cost).collect();
        spends.sort_unstable();
        let named: u64 = requests.iter().sum();
        let all = named + self.unnamed.requests;
        let busiest = requests.len().div_ceil(10);
        let of_busiest: u64 = requests.iter().rev().take(busiest).sum();
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let median_spend = middle(&spends, |one, other| Money((one.0 + other.0) / 2));
        let review: Vec<&str> = self
            .users
            .iter()
            .filter(|(_, deeds)| {
                let cost = deeds.total.cost;
                median_spend.is_some_and(|median| cost > Money::ZERO && cost.0 >= 2 * median.0)
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let median_tokens = middle(&of(tokens), |one, other| (one + other) / 2);
        let flagged = self.users.values().flat_map(|deeds| &deeds.sessions);
        json!({
            "active_users": self.users.len(),
            "requests": all,
            // Who does not use it is not known here.
            "adoption_rate": null,
            "median_tokens": median_tokens,
            "median_spend": median_spend.map(Money::dollars),
            "top_10_percent_share": share(of_busiest, named),
            "users_to_review": review,
            "identity_coverage": share(named, all),
            "flagged_sessions": flagged.filter(|session| session.is_flagged).count(),
        })
    }
}

impl Users {
    /// Shows what was answered.
    pub fn show(self, answered: Vec<Answered>) -> Answer {
        let crowd = Crowd::of(answered, self.from);
        let mut users: Vec<(&String, &Deeds)> = crowd.users.iter().collect();
        match self.order.as_str() {
            "user" => {}
            "requests" => users.sort_by_key(|(_, deeds)| std::cmp::Reverse(deeds.total.requests)),
            "tokens" => users.sort_by_key(|(_, deeds)| std::cmp::Reverse(tokens(deeds))),
            "last_seen" => users.sort_by_key(|(_, deeds)| std::cmp::Reverse(deeds.total.last)),
            _ => users.sort_by_key(|(_, deeds)| std::cmp::Reverse(deeds.total.cost)),
        }
        users.truncate(self.limit);
        let shown: Vec<Json> = users
            .into_iter()
            .map(|(name, deeds)| show(name, deeds, json!(deeds.sessions.len())))
            .collect();
        Answer::Result(json!({
            "key": self.key,
            "since": at(self.from),
            "until": at(self.until),
            "summary": crowd.summary(),
            "users": shown,
        }))
    }
}

impl User {
    /// Shows what was answered.
    pub fn show(self, answered: Vec<Answered>) -> Result<Answer, Problem> {
        let crowd = Crowd::of(answered, self.users.from);
        let deeds = crowd.users.get(&self.name);
        let deeds = deeds.ok_or_else(|| Problem::not_found("user within this time"))?;
        let sessions: Vec<Json> = deeds
            .sessions
            .iter()
            .map(|session| {
                json!({
                    "from": at(session.from),
                    "last": at(session.last),
                    "requests": session.requests,
                    "spend": session.cost.dollars(),
                    "flagged": session.is_flagged,
                })
            })
            .collect();
        Ok(Answer::Result(show(
            &self.name,
            deeds,
            Json::from(sessions),
        )))
    }
}

fn show(name: &str, deeds: &Deeds, sessions: Json) -> Json {
    let total = &deeds.total;
    let most = |counts: &BTreeMap<String, u64>| {
        let most = counts.iter().max_by_key(|(_, count)| **count);
        most.map(|(text, _)| text.clone())
    };
    json!({
        "user": name,
        "spend": total.cost.dollars(),
        "requests": total.requests,
        "tokens": tokens(deeds),
        "tokens_in": total.tokens_in,
        "tokens_out": total.tokens_out,
        "cached": total.cached,
        "errored": total.errors,
        "cache_hit_rate": total.cached as f64 / total.requests.max(1) as f64,
        "sessions": sessions,
        "top_model": most(&deeds.models),
        "top_provider": most(&deeds.providers),
        "last_seen": at(total.last),
        "active_days": deeds.days.len(),
        // Who has a name here has it on each request.
        "identity_coverage": 1.0,
    })
}

fn at(minute: u64) -> Json {
    time(minute as i64 * 60_000)
}

fn tokens(deeds: &Deeds) -> u64 {
    deeds.total.tokens_in.saturating_add(deeds.total.tokens_out)
}

fn name(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) if is_named(value) => Some(text),
        _ => None,
    }
}

/// The median of what is sorted.
fn middle<T: Copy>(sorted: &[T], between: impl Fn(T, T) -> T) -> Option<T> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[half]),
        _ => Some(between(sorted[half - 1], sorted[half])),
    }
}

/// The cost that the share `quantile` of all does not exceed; nothing of none.
fn quantile(mut costs: Vec<Money>, quantile: f64) -> Money {
    costs.sort_unstable();
    let rank = (costs.len() as f64 * quantile).ceil() as usize;
    costs.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(requests: u64, pico: i128, last: u64) -> Cell {
        Cell {
            requests,
            cost: Money(pico),
            tokens_in: 10 * requests,
            last,
            ..Cell::default()
        }
    }

    fn users(order: &str) -> Users {
        Users {
            key: "user_id".to_owned(),
            from: 10_000 * DAY,
            until: 10_002 * DAY,
            limit: 2,
            order: order.to_owned(),
        }
    }

    /// Ada's many cheap hours and a dear one, bob's single one, and nobody's.
    fn answered() -> Vec<Answered> {
        let day = 10_000 * DAY;
        let of = |user: &str, model: &str, at, cell| {
            let texts = [user, "openai", model].map(Value::text);
            (texts.into_iter().chain([Value::Number(at)]).collect(), cell)
        };
        let days = vec![
            of("ada", "small", day, cell(5, 40, day + 30)),
            of("ada", "large", day + DAY, cell(3, 1000, day + DAY + 7)),
            of("bob", "small", day, cell(2, 100, day + 5)),
            of("cy", "small", day, cell(1, 0, day + 5)),
            (
                vec![
                    Value::None,
                    Value::text(""),
                    Value::text(""),
                    Value::Number(day),
                ],
                cell(1, 0, day),
            ),
        ];
        let hour = |user: &str, at, pico| {
            let values = vec![Value::text(user), Value::Number(at)];
            (values, cell(1, pico, at + 3))
        };
        let mut hours = Vec::new();
        for before in (1..=25).rev() {
            hours.push(hour("ada", day - before * DAY, 10));
        }
        hours.push(hour("ada", day, 10));
        hours.push(hour("ada", day + 60, 10));
        hours.push(hour("ada", day + DAY, 1000));
        for at in 0..100 {
            hours.push(hour("bob", day - 50 * 180 + at * 180, 1));
        }
        vec![days, hours]
    }

    #[test]
    fn users_are_summed_up() {
        let Answer::Result(result) = users("spend").show(answered()) else {
            panic!("no result");
        };
        assert_eq!(
            result["summary"],
            json!({
                "active_users": 3,
                "requests": 12,
                "adoption_rate": null,
                "median_tokens": 20,
                "median_spend": 1e-10,
                "top_10_percent_share": 8.0 / 11.0,
                "users_to_review": ["ada"],
                "identity_coverage": 11.0 / 12.0,
                "flagged_sessions": 1,
            })
        );
        let names = |order| {
            let Answer::Result(result) = users(order).show(answered()) else {
                panic!("no result");
            };
            let users = result["users"].as_array().cloned().unwrap_or_default();
            let names = users
                .iter()
                .map(|user| user["user"].as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>().expect("names")
        };
        assert_eq!(names("spend"), ["ada", "bob"]);
        assert_eq!(names("user"), ["ada", "bob"]);
        assert_eq!(names("last_seen"), ["ada", "bob"]);
    }

    #[test]
    fn one_user_is_shown_with_the_sessions() {
        let user = |name: &str| User {
            users: users("spend"),
            name: name.to_owned(),
        };
        let Ok(Answer::Result(result)) = user("ada").show(answered()) else {
            panic!("no result");
        };
        assert_eq!(result["active_days"], 2);
        assert_eq!(result["top_model"], "small");
        let sessions = result["sessions"].as_array().expect("sessions");
        let told: Vec<(u64, bool)> = sessions
            .iter()
            .map(|session| {
                (
                    session["requests"].as_u64().expect("a number"),
                    session["flagged"] == true,
                )
            })
            .collect();
        assert_eq!(told, [(2, false), (1, true)], "two hours in a row are one");
        let missing = user("dan").show(answered()).expect_err("nobody");
        assert_eq!(missing.status, 404);
    }

    #[test]
    fn medians_and_quantiles_are_of_what_is_there() {
        let mean = |one: u64, other: u64| (one + other) / 2;
        assert_eq!(middle(&[], mean), None);
        assert_eq!(middle(&[1, 5, 9], mean), Some(5));
        assert_eq!(middle(&[1, 5, 9, 9], mean), Some(7));
        assert_eq!(quantile(Vec::new(), 0.95), Money::ZERO);
        assert_eq!(quantile((1..=100).map(Money).collect(), 0.95), Money(95));
    }
}
