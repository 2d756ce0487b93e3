//! What the management API takes: fields with kinds, checked at the door and told in `/openapi.json` from the same table.

use serde_json::{Map, Value, json};

use crate::limits::{AGGREGATE_TEXT_MAX, QUERY_TEXT_MAX};

/// A member of a body or of a query.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// Whether `null` is taken; it is for all that may be left out.
    pub nullable: bool,
}

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Anything.
    Any,
    Boolean,
    /// A whole number within bounds; `60.0` is one too.
    Integer(i64, i64),
    /// A number within bounds.
    Number(f64, f64),
    /// Text of so many characters.
    Text(usize, usize),
    /// Text that keeps a rule, which the message tells.
    Checked(fn(&str) -> bool, &'static str),
    /// As `Checked`, with a regular expression that every such text matches, for the description.
    Matched(fn(&str) -> bool, &'static str, &'static str),
    /// One of these, in exactly this case.
    Choice(&'static [&'static str]),
    /// RFC 3339.
    Time,
    /// So many of a kind.
    List(&'static Kind, usize, usize),
    /// Any names, or these alone, to values of a kind.
    Map(Option<&'static [&'static str]>, &'static Kind),
    /// Members; others are ignored.
    Record(&'static [Field]),
    /// The members of one of these.
    OneOf(&'static [&'static [Field]]),
    /// Text, a number or a boolean.
    Scalar,
    /// A kind, or `null`.
    Nullable(&'static Kind),
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub path: Vec<String>,
    pub message: String,
}

pub(super) const fn required(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
        nullable: false,
    }
}

pub(super) const fn required_nullable(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
        nullable: true,
    }
}

pub(super) const fn optional(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: false,
        nullable: true,
    }
}

/// A text without bounds worth naming.
pub(super) const TEXT: Kind = Kind::Text(0, 65_536);
/// A text of a query: more would not fit into a request's head.
pub(super) const QUERY_TEXT: Kind = Kind::Text(0, QUERY_TEXT_MAX);
/// Names in a query that figures are told apart by: so many of them, percent-encoded, fit as well.
pub(super) const QUERY_NAMES: Kind = Kind::List(&Kind::Text(0, AGGREGATE_TEXT_MAX), 0, 20);
/// Any whole number.
pub(super) const INTEGER: Kind = Kind::Integer(i64::MIN, i64::MAX);

/// Checks a value; whole numbers written as `60.0` become whole.
pub(super) fn check(kind: &Kind, value: &mut Value, path: &mut Vec<String>, flaws: &mut Vec<Flaw>) {
    let problem = match kind {
        Kind::Any => None,
        Kind::Nullable(_) if value.is_null() => None,
        Kind::Nullable(kind) => return check(kind, value, path, flaws),
        Kind::Boolean => (!value.is_boolean()).then(|| "must be true or false".to_owned()),
        Kind::Integer(lowest, highest) => integer(value, *lowest, *highest),
        Kind::Number(lowest, highest) => match value.as_f64() {
            Some(number) if (*lowest..=*highest).contains(&number) => None,
            _ => Some(bounds("a number", lowest, highest, *lowest == f64::MIN)),
        },
        Kind::Text(shortest, longest) => match value.as_str().map(|text| text.chars().count()) {
            Some(length) if (*shortest..=*longest).contains(&length) => None,
            Some(_) => Some(format!("must have {shortest} to {longest} characters")),
            None => Some("must be a string".to_owned()),
        },
        Kind::Checked(holds, rule) | Kind::Matched(holds, rule, _) => {
            (!value.as_str().is_some_and(holds)).then(|| (*rule).to_owned())
        }
        Kind::Choice(choices) => (!value.as_str().is_some_and(|text| choices.contains(&text)))
            .then(|| format!("must be one of {}", choices.join(", "))),
        Kind::Time => (!value.as_str().is_some_and(is_time))
            .then(|| "must be a time such as 2026-01-31T12:00:00Z".to_owned()),
        Kind::Scalar => (!(value.is_string() || value.is_number() || value.is_boolean()))
            .then(|| "must be a string, a number or a boolean".to_owned()),
        Kind::List(of, fewest, most) => match value {
            Value::Array(elements) if (*fewest..=*most).contains(&elements.len()) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    within(path, index.to_string(), |path| {
                        check(of, element, path, flaws)
                    });
                }
                None
            }
            Value::Array(_) => Some(format!("must have {fewest} to {most} elements")),
            _ => Some("must be an array".to_owned()),
        },
        Kind::Map(names, of) => match value {
            Value::Object(members) => {
                for (name, member) in members {
                    within(path, name.clone(), |path| match names {
                        Some(names) if !names.contains(&name.as_str()) => {
                            let message = format!("must be one of {}", names.join(", "));
                            flaws.push(Flaw {
                                path: path.clone(),
                                message,
                            });
                        }
                        _ => check(of, member, path, flaws),
                    });
                }
                None
            }
            _ => Some("must be an object".to_owned()),
        },
        Kind::Record(fields) => match value {
            Value::Object(members) => return check_members(fields, members, path, flaws),
            _ => Some("must be an object".to_owned()),
        },
        Kind::OneOf(variants) => match value {
            Value::Object(members) => return check_variants(variants, members, path, flaws),
            _ => Some("must be an object".to_owned()),
        },
    };
    if let Some(message) = problem {
        flaws.push(Flaw {
            path: path.clone(),
            message,
        });
    }
}

/// Checks the members of an object; unknown ones are left alone (control plane 1.1).
pub(super) fn check_members(
    fields: &[Field],
    members: &mut Map<String, Value>,
    path: &mut Vec<String>,
    flaws: &mut Vec<Flaw>,
) {
    for field in fields {
        within(path, field.name.to_owned(), |path| {
            match members.get_mut(field.name) {
                Some(Value::Null) if field.nullable => {}
                Some(value) => check(&field.kind, value, path, flaws),
                None if field.required => flaws.push(Flaw {
                    path: path.clone(),
                    message: "is required".to_owned(),
                }),
                None => {}
            }
        });
    }
}

/// The variant with the fewest flaws is the one that was meant.
fn check_variants(
    variants: &[&[Field]],
    members: &mut Map<String, Value>,
    path: &mut Vec<String>,
    flaws: &mut Vec<Flaw>,
) {
    let mut best: Option<(Map<String, Value>, Vec<Flaw>)> = None;
    for fields in variants {
        let (mut tried, mut found) = (members.clone(), Vec::new());
        check_members(fields, &mut tried, path, &mut found);
        if best
            .as_ref()
            .is_none_or(|(_, least)| found.len() < least.len())
        {
            best = Some((tried, found));
        }
    }
    if let Some((tried, found)) = best {
        *members = tried;
        flaws.extend(found);
    }
}

fn within(path: &mut Vec<String>, step: String, inner: impl FnOnce(&mut Vec<String>)) {
    path.push(step);
    inner(path);
    path.pop();
}

fn integer(value: &mut Value, lowest: i64, highest: i64) -> Option<String> {
    let whole = value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        // Beyond this not every whole number is one of the type.
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    });
    match whole {
        Some(number) if (lowest..=highest).contains(&number) => {
            *value = Value::from(number);
            None
        }
        _ => Some(bounds(
            "a whole number",
            lowest,
            highest,
            lowest == i64::MIN,
        )),
    }
}

fn bounds<T: std::fmt::Display>(what: &str, lowest: T, highest: T, unbounded: bool) -> String {
    match unbounded {
        true => format!("must be {what}"),
        false => format!("must be {what} from {lowest} to {highest}"),
    }
}

/// Whether a text is a time as RFC 3339 writes it.
pub(super) fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

/// Reads a query by its fields: pairs in their order, lists as repeated names, comma lists or `name[]`. Unknown names are
/// ignored.
pub(super) fn read_query(
    fields: &[Field],
    pairs: &[(String, String)],
    flaws: &mut Vec<Flaw>,
) -> Map<String, Value> {
    let mut members = Map::new();
    for field in fields {
        let given = pairs.iter().filter(|(name, _)| {
            name == field.name
                || name
                    .strip_suffix("[]")
                    .is_some_and(|name| name == field.name)
        });
        let texts: Vec<&str> = given.map(|(_, value)| value.as_str()).collect();
        let Some(last) = texts.last() else { continue };
        let value = match field.kind {
            Kind::List(of, _, _) => Value::Array(
                texts
                    .iter()
                    .flat_map(|text| text.split(','))
                    .filter(|text| !text.is_empty())
                    .map(|text| of_text(of, text))
                    .collect(),
            ),
            // An empty value is what clients send for one that was left out.
            _ if last.is_empty() => continue,
            kind => of_text(&kind, last),
        };
        members.insert(field.name.to_owned(), value);
    }
    check_members(fields, &mut members, &mut vec!["query".to_owned()], flaws);
    members
}

fn of_text(kind: &Kind, text: &str) -> Value {
    let parsed = match kind {
        Kind::Boolean => match text {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Kind::Integer(..) => text.parse::<i64>().ok().map(Value::from),
        Kind::Number(..) => text.parse::<f64>().ok().map(Value::from),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::from(text))
}

/// The JSON Schema of a kind, for the OpenAPI description.
pub(super) fn describe(kind: &Kind) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer(i64::MIN, _) => json!({"type": "integer"}),
        Kind::Integer(lowest, highest) => {
            json!({"type": "integer", "minimum": lowest, "maximum": highest})
        }
        Kind::Number(lowest, _) if *lowest == f64::MIN => json!({"type": "number"}),
        Kind::Number(lowest, highest) => {
            json!({"type": "number", "minimum": lowest, "maximum": highest})
        }
        Kind::Text(shortest, longest) => {
            json!({"type": "string", "minLength": shortest, "maxLength": longest})
        }
        Kind::Checked(_, rule) => json!({"type": "string", "description": rule}),
        Kind::Matched(_, rule, pattern) => {
            json!({"type": "string", "description": rule, "pattern": pattern})
        }
        Kind::Choice(choices) => json!({"type": "string", "enum": choices}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Scalar => {
            json!({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})
        }
        Kind::List(of, fewest, most) => {
            json!({"type": "array", "items": describe(of), "minItems": fewest, "maxItems": most})
        }
        Kind::Map(None, of) => json!({"type": "object", "additionalProperties": describe(of)}),
        Kind::Map(Some(names), of) => {
            let members: Map<String, Value> = names
                .iter()
                .map(|name| ((*name).to_owned(), describe(of)))
                .collect();
            json!({"type": "object", "properties": members, "additionalProperties": false})
        }
        Kind::Record(fields) => describe_members(fields),
        Kind::OneOf(variants) => {
            let variants: Vec<Value> = variants
                .iter()
                .map(|fields| describe_members(fields))
                .collect();
            json!({"anyOf": variants})
        }
        Kind::Nullable(kind) => json!({"anyOf": [describe(kind), {"type": "null"}]}),
    }
}

pub(super) fn describe_members(fields: &[Field]) -> Value {
    let member = |field: &Field| {
        let kind = match field.nullable {
            true => json!({"anyOf": [describe(&field.kind), {"type": "null"}]}),
            false => describe(&field.kind),
        };
        (field.name.to_owned(), kind)
    };
    let members: Map<String, Value> = fields.iter().map(member).collect();
    let needed: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({"type": "object", "properties": members, "required": needed})
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &[Field] = &[
        required("url", TEXT),
        optional("kind", Kind::Choice(&["a", "b"])),
    ];
    const FIELDS: &[Field] = &[
        required("count", Kind::Integer(0, 10)),
        required_nullable("limit", Kind::Integer(0, 10)),
        optional("ratio", Kind::Number(-1.0, 1.0)),
        optional("inner", Kind::List(&Kind::Record(INNER), 0, 2)),
        optional("when", Kind::Time),
        optional("map", Kind::Map(Some(&["x"]), &Kind::Boolean)),
    ];

    fn flaws(value: Value) -> Vec<String> {
        let (mut value, mut flaws) = (value, Vec::new());
        check(
            &Kind::Record(FIELDS),
            &mut value,
            &mut vec!["body".to_owned()],
            &mut flaws,
        );
        let told = |flaw: Flaw| format!("{} {}", flaw.path.join("."), flaw.message);
        flaws.into_iter().map(told).collect()
    }

    #[test]
    fn each_flaw_is_told_with_its_path() {
        assert_eq!(
            flaws(json!({"count": 1.0, "limit": null, "ratio": null, "other": {}})).len(),
            0
        );
        assert_eq!(
            flaws(
                json!({"count": 11, "inner": [{"url": "u"}, {"kind": "c"}], "when": "soon", "map": {"y": true}})
            ),
            [
                "body.count must be a whole number from 0 to 10",
                "body.limit is required",
                "body.inner.1.url is required",
                "body.inner.1.kind must be one of a, b",
                "body.when must be a time such as 2026-01-31T12:00:00Z",
                "body.map.y must be one of x",
            ]
        );
        assert_eq!(flaws(json!({"count": null, "limit": 0.5})).len(), 2);
        assert_eq!(flaws(json!([])), ["body must be an object"]);
    }

    #[test]
    fn queries_are_read_by_their_kinds() {
        const QUERY: &[Field] = &[
            optional("page", Kind::Integer(1, 100)),
            optional("on", Kind::Boolean),
            optional("scopes", Kind::List(&TEXT, 0, 10)),
        ];
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut flaws = Vec::new();
        let pairs = [
            pair("page", "3"),
            pair("on", "1"),
            pair("scopes", "a,b"),
            pair("scopes[]", "c"),
            pair("x", "y"),
        ];
        let read = read_query(QUERY, &pairs, &mut flaws);
        assert_eq!(
            Value::Object(read),
            json!({"page": 3, "on": true, "scopes": ["a", "b", "c"]})
        );
        assert!(flaws.is_empty());
        read_query(QUERY, &[pair("page", "0"), pair("on", "maybe")], &mut flaws);
        let paths: Vec<_> = flaws.iter().map(|flaw| flaw.path.join(".")).collect();
        assert_eq!(paths, ["query.page", "query.on"]);
    }

    #[test]
    fn the_nearest_variant_is_the_one_that_was_meant() {
        const VARIANTS: Kind = Kind::OneOf(&[
            &[required("action", TEXT), required("profiles", Kind::Any)],
            &[required("policies", Kind::List(&Kind::Any, 0, 9))],
        ]);
        let check = |mut value: Value| {
            let mut flaws = Vec::new();
            check(&VARIANTS, &mut value, &mut Vec::new(), &mut flaws);
            flaws
                .into_iter()
                .map(|flaw| flaw.path.join("."))
                .collect::<Vec<_>>()
        };
        assert!(check(json!({"policies": []})).is_empty());
        assert_eq!(check(json!({"action": 1, "profiles": []})), ["action"]);
    }
}
