//! Filters as they stand in a query (spec: control plane 3.2), where the official clients flatten the list into repeated names,
//! each in an order of its own, and as datasets keep them.

use serde_json::Value as Json;

use super::answer::Problem;
use crate::limits::{LOG_FILTER_VALUES_MAX, LOG_FILTERS_MAX};
use crate::telemetry::logs::{Condition, Key, Operator, Value, condition};

/// One filter, as written.
#[derive(Debug, Clone, Default, PartialEq)]
struct Filter {
    key: String,
    operator: String,
    values: Vec<Value>,
}

/// The conditions of all filters of a query.
pub(super) fn conditions(pairs: &[(String, String)]) -> Result<Vec<Condition>, Problem> {
    let filters = read(pairs)?;
    if filters.len() > LOG_FILTERS_MAX {
        return Err(wrong(format!("must be at most {LOG_FILTERS_MAX}")));
    }
    compile("query", filters)
}

/// The conditions of filters in a body. Each is an object, and its values are strings, numbers or booleans.
pub(super) fn conditions_of(filters: &Json) -> Result<Vec<Condition>, Problem> {
    let filters = filters.as_array().into_iter().flatten();
    compile("body", filters.filter_map(of_json).collect())
}

fn compile(place: &str, filters: Vec<Filter>) -> Result<Vec<Condition>, Problem> {
    let filters = filters.into_iter().enumerate();
    filters
        .map(|(index, filter)| compile_one(place, index, &filter))
        .collect()
}

fn compile_one(place: &str, index: usize, filter: &Filter) -> Result<Condition, Problem> {
    let at = index.to_string();
    let flaw = |field: &str, message: String| {
        Problem::field(
            &[place, "filters", &at, field],
            format!("{place}.filters.{at}.{field} {message}"),
        )
    };
    let one_of = |names: String| format!("must be one of {names}");
    let key = Key::parse(&filter.key).ok_or_else(|| {
        let names: Vec<&str> = Key::names().collect();
        flaw("key", one_of(names.join(", ")))
    })?;
    let operator = Operator::parse(&filter.operator)
        .ok_or_else(|| flaw("operator", one_of("eq, neq, contains, lt, gt".to_owned())))?;
    if !(1..=LOG_FILTER_VALUES_MAX).contains(&filter.values.len()) {
        return Err(flaw(
            "value",
            format!("must have 1 to {LOG_FILTER_VALUES_MAX} elements"),
        ));
    }
    condition(key, operator, &filter.values).map_err(|error| flaw("value", format!("has {error}")))
}

fn wrong(message: impl std::fmt::Display) -> Problem {
    Problem::field(&["query", "filters"], format!("query.filters {message}"))
}

fn read(pairs: &[(String, String)]) -> Result<Vec<Filter>, Problem> {
    let mut filters = Vec::new();
    for (name, text) in pairs {
        if name == "filters" && !text.trim().is_empty() {
            filters.extend(from_json(text)?);
        }
    }
    filters.extend(dotted(pairs)?);
    filters.extend(bracketed(pairs)?);
    Ok(filters)
}

fn from_json(text: &str) -> Result<Vec<Filter>, Problem> {
    let list: Json =
        serde_json::from_str(text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    let list = match list {
        Json::Array(list) => list,
        one @ Json::Object(_) => vec![one],
        _ => return Err(wrong("must be an array")),
    };
    let one = |filter: &Json| {
        let values = "must have values that are strings, numbers, booleans or null";
        of_json(filter).ok_or_else(|| wrong(values))
    };
    list.iter().map(one).collect()
}

/// `None`: a value is none that can be compared with.
fn of_json(filter: &Json) -> Option<Filter> {
    let text = |name: &str| filter[name].as_str().unwrap_or_default().to_owned();
    let values = match &filter["value"] {
        Json::Array(values) => values.iter().map(value).collect::<Option<Vec<_>>>(),
        one => value(one).map(|value| vec![value]),
    };
    Some(Filter {
        key: text("key"),
        operator: text("operator"),
        values: values?,
    })
}

fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Null => Some(Value::None),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Bool(_) | Json::Number(_) => Some(Value::Text(json.to_string())),
        Json::Array(_) | Json::Object(_) => None,
    }
}

/// `filters.key`, `filters.operator` and `filters.value`, filter after filter, or all keys, then all operators, then all values.
fn dotted(pairs: &[(String, String)]) -> Result<Vec<Filter>, Problem> {
    let mut filters: Vec<Filter> = Vec::new();
    let mut operators = Vec::new();
    let mut values: Vec<(usize, &str)> = Vec::new();
    let mut interleaved = false;
    for (name, text) in pairs {
        match name.as_str() {
            "filters.key" => {
                interleaved |= !filters.is_empty() && (!operators.is_empty() || !values.is_empty());
                filters.push(Filter {
                    key: text.clone(),
                    ..Filter::default()
                });
            }
            "filters.operator" => operators.push(text.clone()),
            "filters.value" | "filters.value[]" => values.push((filters.len(), text)),
            _ => {}
        }
    }
    if operators.len() != filters.len() {
        return Err(wrong(format!(
            "has {} keys and {} operators",
            filters.len(),
            operators.len()
        )));
    }
    for (filter, operator) in filters.iter_mut().zip(operators) {
        filter.operator = operator;
    }
    let value = |text: &str| Value::Text(text.to_owned());
    if interleaved {
        for (after, text) in values {
            let index = after
                .checked_sub(1)
                .ok_or_else(|| wrong("has a value before its key"))?;
            filters[index].values.push(value(text));
        }
        return Ok(filters);
    }
    match filters.len() {
        0 if values.is_empty() => {}
        0 => return Err(wrong("has values and no key")),
        1 => filters[0].values = values.into_iter().map(|(_, text)| value(text)).collect(),
        count if values.len() < count => {
            return Err(wrong(format!(
                "has {count} keys and {} values",
                values.len()
            )));
        }
        count => {
            // What is more belongs to the last that can have several.
            let several =
                |filter: &Filter| matches!(filter.operator.as_str(), "eq" | "neq" | "contains");
            let last = filters.iter().rposition(several);
            for (index, (_, text)) in values.into_iter().enumerate() {
                let index = if index < count { Some(index) } else { last };
                let index =
                    index.ok_or_else(|| wrong("has more values than its operators take"))?;
                filters[index].values.push(value(text));
            }
        }
    }
    Ok(filters)
}

/// `filters[0][key]=`, `filters[0][value][]=` and the like.
fn bracketed(pairs: &[(String, String)]) -> Result<Vec<Filter>, Problem> {
    let mut filters: Vec<(u32, Filter)> = Vec::new();
    for (name, text) in pairs {
        let Some(rest) = name.strip_prefix("filters[") else {
            continue;
        };
        let parsed = rest
            .split_once("][")
            .and_then(|(index, field)| Some((index.parse().ok()?, field)));
        let Some((index, field)) = parsed else {
            return Err(wrong(format!(
                "has the name {name:?}; write filters[0][key]"
            )));
        };
        let known = filters.iter().position(|(known, _)| *known == index);
        let known = known.unwrap_or_else(|| {
            filters.push((index, Filter::default()));
            filters.len() - 1
        });
        let filter = &mut filters[known].1;
        // `value]`, `value][]` or `value][0]`.
        match field.split(']').next() {
            Some("key") => filter.key = text.clone(),
            Some("operator") => filter.operator = text.clone(),
            Some("value") => filter.values.push(Value::Text(text.clone())),
            _ => return Err(wrong(format!("has the unknown part {name:?}"))),
        }
    }
    filters.sort_by_key(|(index, _)| *index);
    Ok(filters.into_iter().map(|(_, filter)| filter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        super::super::serve::pairs(query)
    }

    /// Filters as `key operator value|value`.
    fn shown(query: &str) -> Vec<String> {
        let one = |filter: Filter| {
            let value = |value: Value| match value {
                Value::Text(text) => text,
                Value::None => "<null>".to_owned(),
            };
            let values: Vec<String> = filter.values.into_iter().map(value).collect();
            format!("{} {} {}", filter.key, filter.operator, values.join("|"))
        };
        let filters = read(&pairs(query)).unwrap_or_else(|problem| panic!("{problem}"));
        filters.into_iter().map(one).collect()
    }

    #[test]
    fn both_clients_orders_are_read() {
        let expected = ["cost gt 0.1", "model eq a|b"];
        for query in [
            "filters.key=cost&filters.operator=gt&filters.value=0.1&filters.key=model&filters.operator=eq&filters.value=a&filters.value=b",
            "filters.key=cost&filters.key=model&filters.operator=gt&filters.operator=eq&filters.value=0.1&filters.value=a&filters.value=b",
            "filters[0][key]=cost&filters[0][operator]=gt&filters[0][value]=0.1&filters[1][key]=model&filters[1][operator]=eq&filters[1][value][]=a&filters[1][value][]=b",
            r#"filters=[{"key":"cost","operator":"gt","value":[0.1]},{"key":"model","operator":"eq","value":["a","b"]}]"#,
        ] {
            assert_eq!(shown(query), expected, "{query}");
        }
        let one = "filters.key=model&filters.operator=eq&filters.value=a&filters.value=b&page=2";
        assert_eq!(shown(one), ["model eq a|b"]);
        let each = "filters.key=a&filters.key=b&filters.operator=lt&filters.operator=gt&filters.value=1&filters.value=2";
        assert_eq!(shown(each), ["a lt 1", "b gt 2"]);
        let surplus = "filters.key=a&filters.key=b&filters.operator=eq&filters.operator=gt&filters.value=1&filters.value=2&filters.value=3";
        assert_eq!(shown(surplus), ["a eq 1|3", "b gt 2"]);
        assert_eq!(shown("page=1&per_page=20").len(), 0);
        let null = r#"filters={"key":"feedback","operator":"eq","value":null}"#;
        assert_eq!(shown(null), ["feedback eq <null>"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for query in [
            "filters.key=cost&filters.value=1",
            "filters.operator=eq",
            "filters.value=1",
            "filters.key=cost&filters.operator=eq",
            "filters.key=a&filters.key=b&filters.operator=eq&filters.operator=eq&filters.value=1",
            "filters.key=cost&filters.key=duration&filters.operator=lt&filters.operator=gt&filters.value=1&filters.value=2&filters.value=3",
            "filters.key=nothing&filters.operator=eq&filters.value=1",
            "filters.key=cost&filters.operator=like&filters.value=1",
            "filters.key=cost&filters.operator=gt&filters.value=much",
            "filters.key=success&filters.operator=eq&filters.value=maybe",
            "filters.key=created_at&filters.operator=gt&filters.value=soon",
            "filters=[",
            "filters=3",
            "filters=[{}]",
            r#"filters=[{"key":"cost","operator":"eq","value":[[1]]}]"#,
            "filters[x][key]=cost",
            "filters[0][other]=cost",
        ] {
            let problem = conditions(&pairs(query)).expect_err(query);
            assert_eq!(
                (problem.status, problem.errors[0].code),
                (400, 7001),
                "{query}"
            );
            assert_eq!(problem.errors[0].path[..2], ["query", "filters"], "{query}");
        }
    }
}
