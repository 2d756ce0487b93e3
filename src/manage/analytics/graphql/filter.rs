//! The argument `filter`.

use serde_json::{Map, Value as Json};

use super::dataset::{Dataset, OF_REQUESTS, dimension};
use crate::limits::{GRAPHQL_DEPTH_MAX, GRAPHQL_FIELDS_MAX};
use crate::telemetry::analytics::{Dimension, Filter, Test, Value};

/// A filter, with the times that hold for all of it taken out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// From this minute since 1970.
    pub from: u64,
    /// To before this one.
    pub until: u64,
    pub filter: Filter,
}

/// Reads a filter of a dataset.
pub(super) fn read(dataset: Dataset, filter: Option<&Json>) -> Result<Asked, String> {
    let mut reader = Reader {
        dataset,
        from: 0,
        until: u64::MAX,
        tests: 0,
    };
    let filter = match filter {
        None | Some(Json::Null) => Filter::everything(),
        Some(Json::Object(members)) => reader.all(members, true, 0)?,
        Some(_) => return Err("filter: must be an object".to_owned()),
    };
    Ok(Asked {
        from: reader.from,
        until: reader.until,
        filter,
    })
}

struct Reader {
    dataset: Dataset,
    from: u64,
    until: u64,
    tests: usize,
}

impl Reader {
    /// `outermost`: the members hold for everything that is asked for.
    fn all(
        &mut self,
        members: &Map<String, Json>,
        outermost: bool,
        depth: usize,
    ) -> Result<Filter, String> {
        if depth > GRAPHQL_DEPTH_MAX {
            return Err(format!("filter: nests deeper than {GRAPHQL_DEPTH_MAX}"));
        }
        let mut all = Vec::new();
        for (name, value) in members {
            match name.as_str() {
                "AND" | "OR" => {
                    let is_and = name == "AND";
                    let mut filters = Vec::new();
                    for element in elements(value) {
                        let Json::Object(members) = element else {
                            return Err(format!("filter: {name} takes objects"));
                        };
                        filters.push(self.all(members, outermost && is_and, depth + 1)?);
                    }
                    all.push(match is_and {
                        true => Filter::All(filters),
                        false => Filter::Any(filters),
                    });
                }
                _ => all.extend(self.test(name, value, outermost)?),
            }
        }
        Ok(Filter::All(all))
    }

    /// `None`: the condition went into the times.
    fn test(
        &mut self,
        name: &str,
        value: &Json,
        outermost: bool,
    ) -> Result<Option<Filter>, String> {
        self.tests += 1;
        if self.tests > GRAPHQL_FIELDS_MAX {
            return Err(format!("filter: more than {GRAPHQL_FIELDS_MAX} conditions"));
        }
        let (field, test) = OPERATORS
            .into_iter()
            .find_map(|(end, test)| Some((name.strip_suffix(end)?, test)))
            .unwrap_or((name, Test::In));
        if OF_REQUESTS.contains(&field) {
            return Err(format!(
                "filter: {field} is known of single requests alone; the logs can be filtered by it"
            ));
        }
        let known = self.dataset.dimensions().contains(&field);
        let dimension = dimension(field).filter(|_| known);
        let dimension = dimension.ok_or_else(|| format!("filter: unknown field {name:?}"))?;
        if let Dimension::Time(step) = dimension {
            return self.time(field, step, test, value, outermost);
        }
        let values = elements(value)
            .iter()
            .map(|value| read_value(&dimension, value));
        let values = values.collect::<Option<Vec<Value>>>();
        let values = values.ok_or_else(|| format!("filter: {name} takes no {value}"))?;
        Ok(Some(Filter::Test(dimension, test, values)))
    }

    fn time(
        &mut self,
        field: &str,
        step: u64,
        test: Test,
        value: &Json,
        outermost: bool,
    ) -> Result<Option<Filter>, String> {
        let read = |value: &Json| value.as_str().and_then(minutes);
        let times = elements(value).iter().map(read).collect::<Option<Vec<_>>>();
        let times = times.ok_or_else(|| {
            format!("filter: {field} takes a time such as 2026-01-31T12:00:00Z, not {value}")
        })?;
        if let ([time], true) = (&times[..], outermost)
            && self.narrow(field, step, test, *time)
        {
            return Ok(None);
        }
        let values = times
            .iter()
            .map(|(minute, _)| Value::Number(minute - minute % step));
        let values = values.collect();
        Ok(Some(Filter::Test(Dimension::Time(step), test, values)))
    }

    /// Takes a condition on the time into the bounds; false: it is no bound.
    fn narrow(&mut self, field: &str, step: u64, test: Test, time: (u64, u64)) -> bool {
        // `datetime` is the time of the request itself, the others that of its step.
        let is_exact = field == "datetime";
        let (down, up) = (time.0 - time.0 % step, time.1.div_ceil(step) * step);
        match test {
            Test::In => {
                self.from = self.from.max(down);
                self.until = self.until.min(down + step);
            }
            Test::GreaterOrEqual | Test::Greater if is_exact => self.from = self.from.max(down),
            Test::GreaterOrEqual => self.from = self.from.max(up),
            Test::Greater => self.from = self.from.max(down + step),
            Test::Less => self.until = self.until.min(up),
            Test::LessOrEqual => self.until = self.until.min(down + step),
            _ => return false,
        }
        true
    }
}

/// How conditions end; the longer ones first.
const OPERATORS: [(&str, Test); 9] = [
    ("_notin", Test::NotIn),
    ("_geq", Test::GreaterOrEqual),
    ("_leq", Test::LessOrEqual),
    ("_neq", Test::NotIn),
    ("_like", Test::Like),
    ("_has", Test::Has),
    ("_gt", Test::Greater),
    ("_lt", Test::Less),
    ("_in", Test::In),
];

/// A value to compare with, in the form that the dimension has.
fn read_value(dimension: &Dimension, value: &Json) -> Option<Value> {
    let flag = || match value {
        Json::Bool(flag) => Some(*flag),
        Json::String(text) if text == "hit" => Some(true),
        Json::String(text) if text == "miss" => Some(false),
        value => value
            .as_u64()
            .filter(|number| *number < 2)
            .map(|number| number == 1),
    };
    match dimension {
        Dimension::Cached | Dimension::Error | Dimension::RateLimited => flag().map(Value::Flag),
        Dimension::Status => value.as_u64().map(Value::Number),
        _ => value.as_str().map(Value::text),
    }
}

/// The minutes of a time or a date.
fn minutes(text: &str) -> Option<(u64, u64)> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() <= 10
    {
        let begins = format!("{date}T00:00:00Z");
        return super::super::minutes(&begins);
    }
    super::super::minutes(text)
}

fn elements(value: &Json) -> &[Json] {
    match value {
        Json::Array(values) => values,
        value => std::slice::from_ref(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(filter: Json) -> Result<Asked, String> {
        read(Dataset::Requests, Some(&filter))
    }

    #[test]
    fn times_become_the_bounds_of_the_question() {
        let bounds = |filter: Json| {
            let asked = asked(filter).expect("read");
            (asked.from, asked.until)
        };
        let minute = |hour: u64, minute: u64| 20_468 * 1440 + hour * 60 + minute;
        let (noon, past) = ("2026-01-15T12:00:00Z", "2026-01-15T12:00:30Z");
        for (filter, expected) in [
            (json!({}), (0, u64::MAX)),
            (
                json!({"datetime_geq": past, "datetime_lt": past}),
                (minute(12, 0), minute(12, 1)),
            ),
            (
                json!({"datetimeMinute_gt": noon, "datetimeMinute_leq": past}),
                (minute(12, 1), minute(12, 1)),
            ),
            (
                json!({"AND": [{"datetimeHour_geq": past}, {"date_leq": "2026-01-15"}]}),
                (minute(13, 0), minute(24, 0)),
            ),
            (json!({"date": "2026-01-15"}), (minute(0, 0), minute(24, 0))),
        ] {
            assert_eq!(bounds(filter.clone()), expected, "{filter}");
        }
        let either = json!({"OR": [{"datetime_geq": noon}, {"gateway": "a"}]});
        assert_eq!(bounds(either), (0, u64::MAX));
    }

    #[test]
    fn conditions_are_read_with_their_ends() {
        let only = |filter: Json| match asked(filter).expect("read").filter {
            Filter::All(mut all) if all.len() == 1 => all.remove(0),
            filter => filter,
        };
        for (given, dimension, test, values) in [
            (
                json!({"gateway": "a"}),
                Dimension::Gateway,
                Test::In,
                vec![Value::text("a")],
            ),
            (
                json!({"model_in": ["a", "b"]}),
                Dimension::Model,
                Test::In,
                vec![Value::text("a"), Value::text("b")],
            ),
            (
                json!({"statusCode_geq": 400}),
                Dimension::Status,
                Test::GreaterOrEqual,
                vec![Value::Number(400)],
            ),
            (
                json!({"error": 1}),
                Dimension::Error,
                Test::In,
                vec![Value::Flag(true)],
            ),
            (
                json!({"cached_neq": true}),
                Dimension::Cached,
                Test::NotIn,
                vec![Value::Flag(true)],
            ),
            (
                json!({"metadataKeys_has": "team"}),
                Dimension::MetadataKeys,
                Test::Has,
                vec![Value::text("team")],
            ),
        ] {
            assert_eq!(
                only(given.clone()),
                Filter::Test(dimension, test, values),
                "{given}"
            );
        }
        for (wrong, why) in [
            (json!({"nothing": 1}), "unknown field"),
            (json!({"cost_gt": 1}), "single requests"),
            (json!({"cacheStatus": "hit"}), "unknown field"),
            (json!({"statusCode": "x"}), "takes no"),
            (json!({"datetime_geq": "soon"}), "takes a time"),
            (json!({"OR": [1]}), "takes objects"),
            (json!([]), "must be an object"),
        ] {
            let told = asked(wrong.clone()).expect_err("refused");
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }
}
