//! Figures of traffic (spec: control plane 10). A call is checked on the database's thread like any other; what it asks of the
//! figures is then asked of their own thread, and shown.

mod graphql;
mod measure;
mod rest;
mod users;

use crate::limits::METADATA_KEY_MAX;
use crate::telemetry::analytics::{Analytics, Answered, Dimension, Question, Unanswered, Value};
use crate::telemetry::logs::Logs;

use super::answer::{Answer, Problem};
use super::operation::Operation;
use crate::telemetry::notice;

/// Every operation on figures.
pub(super) const OPERATIONS: &[&[Operation]] =
    &[rest::OPERATIONS, users::OPERATIONS, graphql::OPERATIONS];

/// What the figures are asked, and how that is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    questions: Vec<Question>,
    show: Show,
}

#[derive(Debug, Clone, PartialEq)]
enum Show {
    Series(rest::Series),
    Users(users::Users),
    User(users::User),
    Document(graphql::Document),
}

/// Asks the figures.
pub(super) async fn answer(
    analytics: &Analytics,
    logs: &Logs,
    ask: Ask,
) -> Result<Answer, Problem> {
    let answered = match ask.questions.is_empty() {
        true => Vec::new(),
        false => analytics.ask(ask.questions.clone()).await?,
    };
    match ask.show {
        Show::Series(series) => series.show(answered),
        Show::Users(users) => Ok(users.show(answered)),
        Show::User(user) => user.show(answered),
        Show::Document(document) => Ok(document.show(answered, logs)),
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TooMany => Self::new(400, 7001, format!("{unanswered}")),
            Unanswered::Busy => Self::new(503, 7011, "The figures are busy; try again"),
            Unanswered::Broken(reason) => {
                notice::say(format_args!("figures cannot be read: {reason}"));
                Self::new(
                    503,
                    7011,
                    "The figures cannot be used; the gateway's log tells more",
                )
            }
        }
    }
}

/// The key of `metadata.<key>`.
fn metadata_key(name: &str) -> Option<&str> {
    let key = name.strip_prefix("metadata.")?;
    (!key.is_empty() && key.len() <= METADATA_KEY_MAX).then_some(key)
}

/// Takes one answer out of several.
fn take(answered: &mut Vec<Answered>) -> Answered {
    match answered.is_empty() {
        true => Vec::new(),
        false => answered.remove(0),
    }
}

/// A value as JSON.
fn shown(value: &Value) -> serde_json::Value {
    match value {
        Value::None => serde_json::Value::Null,
        Value::Flag(flag) => (*flag).into(),
        Value::Number(number) => (*number).into(),
        Value::Text(text) => (&**text).into(),
        Value::Texts(texts) => texts.iter().map(|text| &**text).collect(),
    }
}

/// The dimension by which users are told apart: the token's id, or a pair of the metadata.
fn user_dimension(key: &str) -> Dimension {
    match key {
        "token" => Dimension::Token,
        key => Dimension::Metadata(key.to_owned()),
    }
}

/// Whether a value names a user.
fn is_named(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Text(text) => !text.is_empty(),
        _ => true,
    }
}

/// The minute since 1970 of a time as the API takes it, and the one after it where it is not the beginning of one.
fn minutes(text: &str) -> Option<(u64, u64)> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    let milliseconds = u64::try_from(time.as_millisecond()).ok()?;
    Some((milliseconds / 60_000, milliseconds.div_ceil(60_000)))
}

/// The minute that it is.
fn now() -> u64 {
    crate::store::now() as u64 / 60_000
}
