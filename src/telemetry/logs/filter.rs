//! The language of filters (spec: control plane 3.2), and its way into SQL over one segment.

use std::cmp::Ordering;
use std::fmt::Write;

use regex::bytes::{Regex, RegexBuilder};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params};

use super::row::flag;
use super::segment::Kind;
use crate::record::Id;

/// What a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Id,
    CreatedAt,
    RequestContentType,
    ResponseContentType,
    RequestType,
    Success,
    Cached,
    Provider,
    Model,
    ModelType,
    Cost,
    Tokens,
    TokensIn,
    TokensOut,
    Duration,
    Feedback,
    EventId,
    MetadataKey,
    MetadataValue,
    Authentication,
    Wholesale,
    Compatibility,
    /// No entry has one yet, and none matches but the question for none.
    DlpAction,
    UserAgent,
    /// Of older descriptions: nothing has one.
    Prompt,
}

/// Every key by its name.
const KEYS: [(&str, Key); 26] = [
    ("id", Key::Id),
    ("created_at", Key::CreatedAt),
    ("request_content_type", Key::RequestContentType),
    ("response_content_type", Key::ResponseContentType),
    ("request_type", Key::RequestType),
    ("success", Key::Success),
    ("cached", Key::Cached),
    ("provider", Key::Provider),
    ("model", Key::Model),
    ("model_type", Key::ModelType),
    ("cost", Key::Cost),
    ("tokens", Key::Tokens),
    ("tokens_in", Key::TokensIn),
    ("tokens_out", Key::TokensOut),
    ("duration", Key::Duration),
    ("feedback", Key::Feedback),
    ("event_id", Key::EventId),
    ("metadata.key", Key::MetadataKey),
    ("metadata.value", Key::MetadataValue),
    ("authentication", Key::Authentication),
    ("wholesale", Key::Wholesale),
    ("compatibilityMode", Key::Compatibility),
    ("dlp_action", Key::DlpAction),
    ("user_agent", Key::UserAgent),
    ("prompts.prompt_id", Key::Prompt),
    ("prompts.version_id", Key::Prompt),
];

impl Key {
    /// The names of all keys.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|(name, _)| *name)
    }

    /// Of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let found = KEYS.iter().find(|(known, _)| *known == name);
        found.map(|(_, key)| *key)
    }
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Eq,
    Neq,
    Contains,
    Lt,
    Gt,
}

impl Operator {
    /// Of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "neq" => Self::Neq,
            "contains" => Self::Contains,
            "lt" => Self::Lt,
            "gt" => Self::Gt,
            _ => return None,
        })
    }
}

/// What is compared with: a text, which a number or a boolean is too, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As written.
    Text(String),
    /// `null`.
    None,
}

impl Value {
    fn is_none(&self) -> bool {
        matches!(self, Self::None) || matches!(self, Self::Text(text) if text == "null")
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::None => "null",
        }
    }
}

/// Why a filter cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not of the key's type.
    #[error("{0:?} is no number")]
    Number(String),
    /// Not of the key's type.
    #[error("{0:?} is neither true nor false")]
    Boolean(String),
    /// Not of the key's type.
    #[error("{0:?} is no time such as 2026-01-31T12:00:00Z")]
    Time(String),
}

/// Which part of a metadata entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its name.
    Key,
    /// Its value.
    Value,
}

/// A filter that can be asked of any segment.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A number in an SQL expression.
    Number(&'static str, Operator, Vec<Option<f64>>),
    /// At least so much, or at most.
    Bound(&'static str, bool, f64),
    /// The text of such a number.
    NumberText(&'static str, Vec<String>),
    /// An SQL expression that is 0 or 1.
    Flag(&'static str, Operator, Vec<bool>),
    /// A name, by the column of its number.
    Name(&'static str, Kind, Operator, Vec<Value>),
    /// Metadata.
    Metadata(Part, Operator, Vec<Value>),
    /// The client's trace id, or the entry's own.
    Event(Operator, Vec<String>),
    /// The entry's own id.
    Id(Operator, Vec<String>),
    /// Milliseconds, inclusive, where there are bounds.
    Between(Option<u64>, Option<u64>),
    /// Not within one of these.
    Outside(Vec<(u64, u64)>),
    /// Within one of these.
    Inside(Vec<(u64, u64)>),
    /// The text of the time.
    TimeText(Vec<String>),
    /// Any of the texts that a search looks at.
    Search(String),
    /// All, or none.
    Always(bool),
}

/// The condition of a filter. `values` has at least one element.
pub fn condition(key: Key, operator: Operator, values: &[Value]) -> Result<Condition, FilterError> {
    let name = |column, kind| Ok(Condition::Name(column, kind, operator, values.to_vec()));
    let texts = || values.iter().map(|value| value.text().to_owned()).collect();
    match key {
        Key::Id => Ok(Condition::Id(operator, texts())),
        Key::EventId => Ok(Condition::Event(operator, texts())),
        Key::CreatedAt => created_at(operator, values),
        Key::Provider => name("provider", Kind::Provider),
        Key::Model => name("model", Kind::Model),
        Key::ModelType => name("model_type", Kind::ModelType),
        Key::RequestType => name("request_type", Kind::RequestType),
        Key::RequestContentType => name("request_content_type", Kind::ContentType),
        Key::ResponseContentType => name("response_content_type", Kind::ContentType),
        Key::UserAgent => name("user_agent", Kind::UserAgent),
        Key::MetadataKey => Ok(Condition::Metadata(Part::Key, operator, values.to_vec())),
        Key::MetadataValue => Ok(Condition::Metadata(Part::Value, operator, values.to_vec())),
        Key::Success => flag_condition("success", operator, values),
        Key::Cached => flag_condition("cached", operator, values),
        Key::Authentication => flag_condition(AUTHENTICATED, operator, values),
        Key::Wholesale => flag_condition(WHOLESALE, operator, values),
        Key::Compatibility => flag_condition(COMPATIBLE, operator, values),
        Key::Cost => number("cost", 1e12, operator, values),
        Key::Tokens => number("tokens_in + tokens_out", 1.0, operator, values),
        Key::TokensIn => number("tokens_in", 1.0, operator, values),
        Key::TokensOut => number("tokens_out", 1.0, operator, values),
        Key::Duration => number("duration", 1.0, operator, values),
        Key::Feedback => number("feedback", 1.0, operator, values).map(without_zero),
        Key::DlpAction | Key::Prompt => Ok(Condition::Always(match operator {
            Operator::Eq => values.iter().any(Value::is_none) && key == Key::DlpAction,
            Operator::Neq => !values.iter().any(Value::is_none) && key == Key::DlpAction,
            _ => false,
        })),
    }
}

// Written out, as SQL is put together of constants alone.
const AUTHENTICATED: &str = "(flags & 1)";
const WHOLESALE: &str = "((flags & 2) / 2)";
const COMPATIBLE: &str = "((flags & 8) / 8)";
const _: () = assert!(flag::AUTHENTICATED == 1 && flag::WHOLESALE == 2 && flag::COMPATIBLE == 8);

fn flag_condition(
    column: &'static str,
    operator: Operator,
    values: &[Value],
) -> Result<Condition, FilterError> {
    let read = |value: &Value| match value.text() {
        text if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
        text if text.eq_ignore_ascii_case("false") || text == "0" => Ok(false),
        text => Err(FilterError::Boolean(text.to_owned())),
    };
    let values: Result<Vec<bool>, _> = values.iter().map(read).collect();
    Ok(Condition::Flag(column, operator, values?))
}

fn number(
    column: &'static str,
    scale: f64,
    operator: Operator,
    values: &[Value],
) -> Result<Condition, FilterError> {
    if operator == Operator::Contains {
        let texts = values.iter().map(|value| value.text().to_owned()).collect();
        let text = match column {
            "cost" => "cost / 1e12",
            column => column,
        };
        return Ok(Condition::NumberText(text, texts));
    }
    let read = |value: &Value| {
        if value.is_none() {
            return Ok(None);
        }
        let text = value.text();
        let parsed = text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite());
        let number = parsed.ok_or_else(|| FilterError::Number(text.to_owned()))?;
        Ok(Some(if scale == 1.0 {
            number
        } else {
            (number * scale).round()
        }))
    };
    let values: Result<Vec<Option<f64>>, _> = values.iter().map(read).collect();
    Ok(Condition::Number(column, operator, values?))
}

/// At least `value` of a figure, or at most.
pub fn bound(key: Key, least: bool, value: f64) -> Condition {
    match key {
        Key::Cost => Condition::Bound("cost", least, (value * 1e12).round()),
        Key::TokensIn => Condition::Bound("tokens_in", least, value),
        Key::TokensOut => Condition::Bound("tokens_out", least, value),
        Key::Tokens => Condition::Bound("tokens_in + tokens_out", least, value),
        _ => Condition::Bound("duration", least, value),
    }
}

/// Feedback of 0 is none (control plane 3.5).
fn without_zero(condition: Condition) -> Condition {
    match condition {
        Condition::Number(_, operator @ (Operator::Eq | Operator::Neq), values) => {
            let values = values
                .into_iter()
                .map(|value| value.filter(|value| *value != 0.0));
            Condition::Number("nullif(feedback, 0)", operator, values.collect())
        }
        other => other,
    }
}

/// Within the first and the last millisecond of two times, where they are given.
pub fn between(first: Option<&str>, last: Option<&str>) -> Result<Condition, FilterError> {
    let first = first.map(moment).transpose()?;
    let last = last.map(moment).transpose()?;
    let (first, last) = (first.map(|first| first.0), last.map(|last| last.1));
    Ok(Condition::Between(first, last))
}

/// The first and the last millisecond of what a text or a number means.
fn moment(text: &str) -> Result<(u64, u64), FilterError> {
    let wrong = || FilterError::Time(text.to_owned());
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        let at = u64::try_from(time.as_millisecond()).map_err(|_| wrong())?;
        return Ok((at, at));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok((number, number));
    }
    // A day, all of it.
    let midnight = format!("{text}T00:00:00Z");
    let begin: jiff::Timestamp = midnight.parse().map_err(|_| wrong())?;
    let begin = u64::try_from(begin.as_millisecond()).map_err(|_| wrong())?;
    Ok((begin, begin + 86_400_000 - 1))
}

fn created_at(operator: Operator, values: &[Value]) -> Result<Condition, FilterError> {
    if operator == Operator::Contains {
        let texts = values.iter().map(|value| value.text().to_owned()).collect();
        return Ok(Condition::TimeText(texts));
    }
    let moments: Result<Vec<(u64, u64)>, _> =
        values.iter().map(|value| moment(value.text())).collect();
    let moments = moments?;
    let first = moments.first().copied().unwrap_or_default();
    Ok(match operator {
        Operator::Gt => Condition::Between(Some(first.1 + 1), None),
        Operator::Lt if first.0 == 0 => Condition::Always(false),
        Operator::Lt => Condition::Between(None, Some(first.0 - 1)),
        Operator::Eq if moments.len() == 1 => Condition::Between(Some(first.0), Some(first.1)),
        Operator::Eq => Condition::Inside(moments),
        Operator::Neq | Operator::Contains => Condition::Outside(moments),
    })
}

/// An SQL condition and its values, as they are put together.
#[derive(Clone, Default)]
pub struct Clause {
    /// The text.
    pub sql: String,
    /// Values by their numbers in it.
    pub values: Vec<Sql>,
}

impl Clause {
    fn value(&mut self, value: impl Into<Sql>) -> usize {
        self.values.push(value.into());
        self.values.len()
    }

    fn id(&mut self, id: Id) -> usize {
        self.value(id.to_bytes().to_vec())
    }

    /// Appends ` AND ` and the condition, read against the names of one segment.
    pub fn and(
        &mut self,
        condition: &Condition,
        segment: &Connection,
        has_bodies: bool,
    ) -> rusqlite::Result<()> {
        self.sql.push_str(" AND ");
        match condition {
            Condition::Always(all) => self.push(if *all { "1" } else { "0" }),
            Condition::Number(column, operator, values) => self.number(column, *operator, values),
            Condition::Bound(column, least, bound) => {
                let sign = if *least { ">=" } else { "<=" };
                let number = self.value(Sql::Real(*bound));
                self.push(&format!("{column} {sign} ?{number}"));
            }
            Condition::NumberText(expression, texts) => {
                let expression = format!("CAST({expression} AS TEXT)");
                self.any(texts, |clause, text| {
                    let number = clause.value(text.clone());
                    clause.push(&format!("instr({expression}, ?{number}) > 0"));
                });
            }
            Condition::Flag(expression, operator, values) => {
                self.flag(expression, *operator, values);
            }
            Condition::Name(column, kind, operator, values) => {
                self.name(segment, column, *kind, *operator, values)?;
            }
            Condition::Metadata(part, operator, values) => {
                self.metadata(segment, *part, *operator, values)?;
            }
            Condition::Event(operator, texts) => self.event(segment, *operator, texts)?,
            Condition::Id(operator, texts) => self.ids(*operator, texts),
            Condition::Between(first, last) => {
                self.push("1");
                if let Some(first) = first {
                    let number = self.id(Id::lowest_at(*first));
                    self.push(&format!(" AND id >= ?{number}"));
                }
                if let Some(last) = last {
                    let number = self.id(Id::lowest_at(last + 1));
                    self.push(&format!(" AND id < ?{number}"));
                }
            }
            Condition::Inside(ranges) => self.any(ranges, Self::range),
            Condition::Outside(ranges) => {
                self.push("NOT ");
                self.any(ranges, Self::range);
            }
            Condition::TimeText(texts) => self.any(texts, |clause, text| {
                let number = clause.value(text.clone());
                clause.push(&format!("instr(time_text(id), ?{number}) > 0"));
            }),
            Condition::Search(text) => self.search(segment, text, has_bodies)?,
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    /// One of several conditions, in parentheses.
    fn any<T>(&mut self, of: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.push("(");
        for (index, element) in of.iter().enumerate() {
            if index > 0 {
                self.push(" OR ");
            }
            one(self, element);
        }
        if of.is_empty() {
            self.push("0");
        }
        self.push(")");
    }

    fn range(&mut self, (first, last): &(u64, u64)) {
        let (from, to) = (
            self.id(Id::lowest_at(*first)),
            self.id(Id::lowest_at(last + 1)),
        );
        self.push(&format!("id >= ?{from} AND id < ?{to}"));
    }

    fn number(&mut self, column: &str, operator: Operator, values: &[Option<f64>]) {
        // Whole numbers as such: a comparison with a float would not be exact beyond 2^53.
        let sql = |number: f64| match number.fract() == 0.0 && number.abs() < 9e18 {
            true => Sql::Integer(number as i64),
            false => Sql::Real(number),
        };
        let sign = match operator {
            Operator::Lt => "<",
            Operator::Gt => ">",
            _ => {
                if operator == Operator::Neq {
                    self.push("NOT ");
                }
                return self.any(values, |clause, value| match value {
                    Some(number) => {
                        let number = clause.value(sql(*number));
                        clause.push(&format!("{column} IS ?{number}"));
                    }
                    None => clause.push(&format!("{column} IS NULL")),
                });
            }
        };
        match values.first().copied().flatten() {
            Some(number) => {
                let number = self.value(sql(number));
                self.push(&format!("{column} {sign} ?{number}"));
            }
            None => self.push("0"),
        }
    }

    fn flag(&mut self, expression: &str, operator: Operator, values: &[bool]) {
        let first = values.first().copied().unwrap_or_default();
        let holds = |on: bool| match operator {
            Operator::Eq | Operator::Contains => values.contains(&on),
            Operator::Neq => !values.contains(&on),
            Operator::Lt => !on & first,
            Operator::Gt => on & !first,
        };
        match (holds(false), holds(true)) {
            (true, true) => self.push("1"),
            (false, false) => self.push("0"),
            (_, on) => {
                let _ = write!(self.sql, "{expression} = {}", u8::from(on));
            }
        }
    }

    fn name(
        &mut self,
        segment: &Connection,
        column: &str,
        kind: Kind,
        operator: Operator,
        values: &[Value],
    ) -> rusqlite::Result<()> {
        let positive = match operator {
            Operator::Neq => Operator::Eq,
            operator => operator,
        };
        let texts: Vec<&str> = values.iter().map(Value::text).collect();
        let found = names(segment, kind, |text| matches(positive, text, &texts))?;
        let none = positive == Operator::Eq && values.iter().any(Value::is_none);
        if operator == Operator::Neq {
            self.push("NOT ");
        }
        self.push("(");
        if none {
            self.push(&format!("{column} IS NULL OR "));
        }
        self.among(column, &found);
        self.push(")");
        Ok(())
    }

    fn metadata(
        &mut self,
        segment: &Connection,
        part: Part,
        operator: Operator,
        values: &[Value],
    ) -> rusqlite::Result<()> {
        let positive = match operator {
            Operator::Neq => Operator::Eq,
            operator => operator,
        };
        let texts: Vec<&str> = values.iter().map(Value::text).collect();
        let found = match (part, key_marks(positive, &texts)) {
            (Part::Key, Some(marks)) => selected(segment, METADATA, None, |text| {
                marks.iter().any(|mark| text.contains(mark))
            })?,
            _ => metadata(segment, &likely(positive, &texts), |entries| {
                entries.iter().any(|(key, value)| match part {
                    Part::Key => matches(positive, key, &texts),
                    Part::Value => matches(positive, &shown(value), &texts),
                })
            })?,
        };
        if operator == Operator::Neq {
            self.push("NOT ");
        }
        self.among("metadata", &found);
        Ok(())
    }

    fn event(
        &mut self,
        segment: &Connection,
        operator: Operator,
        texts: &[String],
    ) -> rusqlite::Result<()> {
        let positive = match operator {
            Operator::Neq => Operator::Eq,
            operator => operator,
        };
        let wanted: Vec<&str> = texts.iter().map(String::as_str).collect();
        let query = "SELECT id, text FROM events";
        let found = selected(segment, query, None, |text| {
            matches(positive, text, &wanted)
        })?;
        if operator == Operator::Neq {
            self.push("NOT ");
        }
        self.push("CASE WHEN event IS NULL THEN ");
        self.ids(positive, texts);
        self.push(" ELSE ");
        self.among("event", &found);
        self.push(" END");
        Ok(())
    }

    fn ids(&mut self, operator: Operator, texts: &[String]) {
        match operator {
            Operator::Eq | Operator::Neq => {
                if operator == Operator::Neq {
                    self.push("NOT ");
                }
                let ids: Vec<Id> = texts.iter().filter_map(|text| Id::parse(text)).collect();
                self.push("id IN (");
                for (index, id) in ids.into_iter().enumerate() {
                    let number = self.id(id);
                    let comma = if index > 0 { ", " } else { "" };
                    self.push(&format!("{comma}?{number}"));
                }
                self.push(")");
            }
            Operator::Contains => self.any(texts, |clause, text| {
                let number = clause.value(text.to_ascii_lowercase());
                clause.push(&format!("instr(id_text(id), ?{number}) > 0"));
            }),
            Operator::Lt | Operator::Gt => {
                let sign = if operator == Operator::Lt { "<" } else { ">" };
                let text = texts.first().map(|text| text.to_ascii_lowercase());
                let number = self.value(text.unwrap_or_default());
                self.push(&format!("id_text(id) {sign} ?{number}"));
            }
        }
    }

    /// Whether a column has one of these numbers; a set of bits is looked into where they are many. Never NULL: of an absent
    /// name neither this nor its opposite would be true.
    fn among(&mut self, column: &str, found: &[i64]) {
        const FEW: usize = 64;
        if found.len() > FEW {
            let number = self.value(bits(found));
            return self.push(&format!("in_set({column}, ?{number})"));
        }
        let _ = write!(self.sql, "ifnull({column}, -1) IN (");
        for (index, number) in found.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let _ = write!(self.sql, "{comma}{number}");
        }
        self.push(")");
    }

    fn search(
        &mut self,
        segment: &Connection,
        text: &str,
        has_bodies: bool,
    ) -> rusqlite::Result<()> {
        let needle = text.to_ascii_lowercase();
        let holds = |text: &str| contains(text, &needle);
        self.push("(");
        for (column, kind) in [
            ("provider", Kind::Provider),
            ("model", Kind::Model),
            ("path", Kind::Path),
        ] {
            let found = names(segment, kind, holds)?;
            self.among(column, &found);
            self.push(" OR ");
        }
        let likely = likely(Operator::Contains, &[text]);
        let found = metadata(segment, &likely, |entries| {
            entries
                .iter()
                .any(|(key, value)| holds(key) || holds(&shown(value)))
        })?;
        self.among("metadata", &found);
        if needle
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        {
            let number = self.value(needle.clone());
            self.push(&format!(" OR instr(id_text(id), ?{number}) > 0"));
        }
        if has_bodies {
            let number = self.value(needle);
            self.push(&format!(
                " OR EXISTS (SELECT 1 FROM bodies.bodies AS b WHERE b.row = logs.row AND (head_has(b.request, ?{number}) OR head_has(b.response, ?{number})))"
            ));
        }
        self.push(")");
        Ok(())
    }
}

/// A set of small numbers as a text of bits.
fn bits(found: &[i64]) -> Vec<u8> {
    let highest = found.iter().copied().max().unwrap_or(0).max(0) as usize;
    let mut bits = vec![0; highest / 8 + 1];
    for number in found.iter().filter(|number| **number >= 0) {
        bits[*number as usize / 8] |= 1 << (number % 8);
    }
    bits
}

/// Whether a set of bits has a number.
pub fn in_set(bits: &[u8], number: i64) -> bool {
    let Ok(number) = usize::try_from(number) else {
        return false;
    };
    bits.get(number / 8)
        .is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}

fn names(
    segment: &Connection,
    kind: Kind,
    holds: impl Fn(&str) -> bool,
) -> rusqlite::Result<Vec<i64>> {
    let query = "SELECT id, text FROM names WHERE kind = ?1";
    selected(segment, query, Some(kind as i64), holds)
}

/// What JSON writes otherwise, and numbers, which are equal in more than one form, cannot be told by a look at the bytes.
fn is_plain(value: &&str) -> bool {
    let special = |byte| matches!(byte, b'"' | b'\\' | 0..=31 | 127..);
    !value.bytes().any(special) && value.parse::<f64>().is_err()
}

/// What stands in a metadata text exactly where it has one of these keys: it is written without spaces, and a quote within one
/// of its texts is escaped. Nothing has to be parsed then.
fn key_marks(operator: Operator, keys: &[&str]) -> Option<Vec<String>> {
    let tells = operator == Operator::Eq && keys.iter().all(is_plain);
    tells.then(|| keys.iter().map(|key| format!("\"{key}\":")).collect())
}

/// Whether a metadata text may hold one of the values, from a look at its bytes: most need not be parsed then.
fn likely(operator: Operator, values: &[&str]) -> impl Fn(&str) -> bool + use<> {
    let tells = matches!(operator, Operator::Eq | Operator::Contains);
    let needles: Option<Vec<Regex>> = (tells && values.iter().all(is_plain))
        .then(|| {
            let one = |value: &&str| {
                let folds = operator == Operator::Contains;
                let mut builder = RegexBuilder::new(&regex::escape(value));
                builder.unicode(false).case_insensitive(folds).build().ok()
            };
            values.iter().map(one).collect()
        })
        .flatten();
    move |text: &str| {
        let found = |needle: &Regex| needle.is_match(text.as_bytes());
        needles
            .as_ref()
            .is_none_or(|needles| needles.iter().any(found))
    }
}

const METADATA: &str = "SELECT id, text FROM metadata";

fn metadata(
    segment: &Connection,
    likely: &dyn Fn(&str) -> bool,
    holds: impl Fn(&serde_json::Map<String, serde_json::Value>) -> bool,
) -> rusqlite::Result<Vec<i64>> {
    selected(segment, METADATA, None, |text| {
        // Written by this program, as a flat object.
        likely(text) && serde_json::from_str(text).is_ok_and(|entries| holds(&entries))
    })
}

fn selected(
    segment: &Connection,
    query: &str,
    kind: Option<i64>,
    holds: impl Fn(&str) -> bool,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = segment.prepare_cached(query)?;
    let mut rows = match kind {
        Some(kind) => statement.query(params![kind])?,
        None => statement.query([])?,
    };
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if holds(row.get_ref(1)?.as_str()?) {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// A metadata value as its text.
fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn matches(operator: Operator, text: &str, values: &[&str]) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    // A number is compared with numbers alone.
    let compared = |wanted: &str| match (number(text), number(wanted)) {
        (Some(own), Some(wanted)) => own.partial_cmp(&wanted),
        (None, Some(_)) => None,
        _ => Some(text.cmp(wanted)),
    };
    let first = values.first().copied().unwrap_or_default();
    match operator {
        Operator::Eq => values.iter().any(|value| {
            text == *value || number(text).is_some_and(|own| number(value) == Some(own))
        }),
        Operator::Neq => !matches(Operator::Eq, text, values),
        Operator::Contains => {
            let folded = text.to_ascii_lowercase();
            values
                .iter()
                .any(|value| folded.contains(&value.to_ascii_lowercase()))
        }
        Operator::Lt => compared(first) == Some(Ordering::Less),
        Operator::Gt => compared(first) == Some(Ordering::Greater),
    }
}

/// Whether a text has another, in lower case, whatever its own case.
pub fn contains(text: &str, needle: &str) -> bool {
    text.to_ascii_lowercase().contains(needle)
}
