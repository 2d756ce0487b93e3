//! Schemas for models whose compiler of schemas is strict (Claude, on every platform; spec: providers 4.2): objects are closed,
//! and what the compiler does not know becomes part of the description, where the model may heed it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::limits::SCHEMA_DEPTH_MAX;

/// The schema as the compiler takes it. `None`: it cannot be said so, because it refers to itself, is too deep, or leaves the type
/// of something open.
pub fn strict(schema: &Value) -> Option<Value> {
    if refers_to_itself(schema) {
        return None;
    }
    close(schema, 0)
}

/// Formats of text that the compiler knows.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
];

/// Where definitions stand that are referred to.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

fn close(schema: &Value, depth: usize) -> Option<Value> {
    let mut rest = match schema {
        Value::Object(map) if depth < SCHEMA_DEPTH_MAX => map.clone(),
        _ => return None,
    };
    let mut closed = Map::new();
    for place in DEFINITIONS {
        if let Some(definitions) = rest.shift_remove(place) {
            closed.insert(place.to_owned(), close_each(&definitions, depth)?);
        }
    }
    if let Some(reference) = rest.shift_remove("$ref") {
        closed.insert("$ref".to_owned(), reference);
        return Some(Value::Object(closed));
    }
    for key in ["$schema", "$id", "$comment"] {
        rest.shift_remove(key);
    }
    let mut kind = rest.shift_remove("type");
    let literals = ["enum", "const"].map(|key| take_literals(&mut rest, key, &mut closed));
    if literals.contains(&true) {
        kind = None;
    } else if let Some((key, variants)) = take_variants(&mut rest, kind.as_ref()) {
        let variants = variants.iter().map(|variant| close(variant, depth + 1));
        let variants: Option<Vec<Value>> = variants.collect();
        closed.insert(key.to_owned(), Value::Array(variants?));
        kind = kind.filter(Value::is_string);
    } else {
        kind = Some(kind.or_else(|| implied(&rest))?);
    }
    if let Some(kind) = &kind {
        closed.insert("type".to_owned(), kind.clone());
    }
    for key in ["description", "title"] {
        if let Some(text) = rest.shift_remove(key) {
            closed.insert(key.to_owned(), text);
        }
    }
    match kind.as_ref().and_then(Value::as_str) {
        Some("object") => close_object(&mut rest, &mut closed, depth)?,
        Some("array") => close_array(&mut rest, &mut closed, depth)?,
        Some("string") => {
            let known =
                |format: &&Value| format.as_str().is_some_and(|name| FORMATS.contains(&name));
            if rest.get("format").filter(known).is_some() {
                closed.extend(rest.shift_remove_entry("format"));
            }
        }
        Some("integer" | "number" | "boolean" | "null") | None => {}
        Some(_) => return None,
    }
    describe(&rest, &mut closed);
    Some(Value::Object(closed))
}

fn close_each(schemas: &Value, depth: usize) -> Option<Value> {
    let schemas = schemas.as_object()?.iter();
    let closed = schemas.map(|(name, schema)| Some((name.clone(), close(schema, depth + 1)?)));
    closed.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn close_object(
    rest: &mut Map<String, Value>,
    closed: &mut Map<String, Value>,
    depth: usize,
) -> Option<()> {
    let properties = rest.shift_remove("properties").unwrap_or_else(|| json!({}));
    closed.insert("properties".to_owned(), close_each(&properties, depth)?);
    closed.extend(rest.shift_remove_entry("required"));
    if rest
        .get("additionalProperties")
        .is_some_and(|more| !more.is_object())
    {
        rest.shift_remove("additionalProperties");
    }
    closed.insert("additionalProperties".to_owned(), Value::Bool(false));
    Some(())
}

fn close_array(
    rest: &mut Map<String, Value>,
    closed: &mut Map<String, Value>,
    depth: usize,
) -> Option<()> {
    if let Some(items) = rest.shift_remove("items") {
        closed.insert("items".to_owned(), close(&items, depth + 1)?);
    }
    if matches!(rest.get("minItems").and_then(Value::as_u64), Some(0 | 1)) {
        closed.extend(rest.shift_remove_entry("minItems"));
    }
    Some(())
}

/// Moves a list of possible values, or the only one, if they are simple.
fn take_literals(
    rest: &mut Map<String, Value>,
    key: &str,
    closed: &mut Map<String, Value>,
) -> bool {
    let simple = |value: &Value| !value.is_array() && !value.is_object();
    let taken = match rest.get(key) {
        Some(Value::Array(values)) if key == "enum" => {
            !values.is_empty() && values.iter().all(simple)
        }
        Some(value) => key == "const" && simple(value),
        None => false,
    };
    if taken {
        closed.extend(rest.shift_remove_entry(key));
    }
    taken
}

/// Alternatives; a list of types is one.
fn take_variants(
    rest: &mut Map<String, Value>,
    kind: Option<&Value>,
) -> Option<(&'static str, Vec<Value>)> {
    for (key, said_as) in [("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")] {
        if let Some(Value::Array(variants)) = rest.get_mut(key) {
            let variants = std::mem::take(variants);
            rest.shift_remove(key);
            return Some((said_as, variants));
        }
    }
    let kinds = kind?.as_array()?;
    let about = |kind: &Value| -> &[&str] {
        match kind.as_str() {
            Some("object") => &["properties", "required", "additionalProperties"],
            Some("array") => &["items", "minItems", "maxItems", "uniqueItems"],
            Some("string") => &["format", "pattern", "minLength", "maxLength"],
            _ => &[],
        }
    };
    let variant = |kind: &Value| {
        let keys = about(kind).iter();
        let own = keys.filter_map(|key| Some(((*key).to_owned(), rest.get(*key)?.clone())));
        let mut variant: Map<String, Value> = own.collect();
        variant.insert("type".to_owned(), kind.clone());
        Value::Object(variant)
    };
    let variants = kinds.iter().map(variant).collect();
    for key in kinds.iter().flat_map(about) {
        rest.shift_remove(*key);
    }
    Some(("anyOf", variants))
}

/// The type that a schema means without saying it.
fn implied(rest: &Map<String, Value>) -> Option<Value> {
    let means = |keys: &[&str]| keys.iter().any(|key| rest.contains_key(*key));
    match () {
        () if means(&["properties", "required", "additionalProperties"]) => Some(json!("object")),
        () if means(&["items", "minItems", "maxItems"]) => Some(json!("array")),
        () if means(&["pattern", "format", "minLength", "maxLength"]) => Some(json!("string")),
        () => None,
    }
}

/// Tells in words what could not be said in the schema.
fn describe(rest: &Map<String, Value>, closed: &mut Map<String, Value>) {
    if rest.is_empty() {
        return;
    }
    let mut text = match closed.get("description").and_then(Value::as_str) {
        Some(text) => format!("{text}\n\n{{"),
        None => "{".to_owned(),
    };
    for (at, (key, value)) in rest.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{key}: {value}");
    }
    text.push('}');
    closed.insert("description".to_owned(), Value::String(text));
}

/// Whether following references may come back to where it was.
fn refers_to_itself(schema: &Value) -> bool {
    let definitions = DEFINITIONS
        .iter()
        .filter_map(|place| Some((*place, schema.get(place)?.as_object()?)));
    let mut edges: Vec<(String, Vec<String>)> = Vec::new();
    for (place, schemas) in definitions {
        for (name, schema) in schemas {
            let mut found = Vec::new();
            references(schema, 0, &mut found);
            edges.push((format!("#/{place}/{name}"), found));
        }
    }
    let mut of_root = Vec::new();
    references(schema, 0, &mut of_root);
    if of_root.iter().any(|reference| reference == "#") {
        return true;
    }
    // Takes away what refers to nothing that is left; what stays is in a circle or refers to one.
    loop {
        let names: Vec<String> = edges.iter().map(|(name, _)| name.clone()).collect();
        let before = edges.len();
        edges.retain(|(_, found)| found.iter().any(|reference| names.contains(reference)));
        if edges.len() == before {
            return before > 0;
        }
    }
}

fn references(schema: &Value, depth: usize, found: &mut Vec<String>) {
    if depth > 2 * SCHEMA_DEPTH_MAX {
        return;
    }
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.push(reference.clone());
            }
            map.values()
                .for_each(|value| references(value, depth + 1, found));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| references(value, depth + 1, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_and_bounds_become_words() {
        let schema = json!({
            "$schema": "x", "title": "T", "type": "object",
            "properties": {
                "age": {"type": "integer", "minimum": 1, "maximum": 10, "description": "years"},
                "mail": {"type": "string", "format": "email", "maxLength": 9},
                "code": {"type": "string", "format": "zip"},
                "list": {"type": "array", "items": {"properties": {}}, "minItems": 1, "maxItems": 3},
                "many": {"type": "array", "items": {"type": "number"}, "minItems": 2},
            },
            "required": ["age"],
        });
        let expected = json!({
            "type": "object", "title": "T",
            "properties": {
                "age": {"type": "integer", "description": "years\n\n{minimum: 1, maximum: 10}"},
                "mail": {"type": "string", "format": "email", "description": "{maxLength: 9}"},
                "code": {"type": "string", "description": "{format: \"zip\"}"},
                "list": {
                    "type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": false},
                    "minItems": 1, "description": "{maxItems: 3}",
                },
                "many": {"type": "array", "items": {"type": "number"}, "description": "{minItems: 2}"},
            },
            "required": ["age"], "additionalProperties": false,
        });
        assert_eq!(strict(&schema), Some(expected.clone()));
        assert_eq!(strict(&expected), Some(expected), "what is strict stays");
    }

    #[test]
    fn alternatives_and_lists_of_types_become_any_of() {
        for (schema, expected) in [
            (
                json!({"oneOf": [{"type": "null"}]}),
                json!({"anyOf": [{"type": "null"}]}),
            ),
            (
                json!({"allOf": [{"type": "null"}]}),
                json!({"allOf": [{"type": "null"}]}),
            ),
            (
                json!({"type": ["string", "null"], "description": "d", "maxLength": 2}),
                json!({"anyOf": [{"type": "string", "description": "{maxLength: 2}"}, {"type": "null"}], "description": "d"}),
            ),
            (
                json!({"type": "string", "enum": ["a", 1]}),
                json!({"enum": ["a", 1]}),
            ),
            (json!({"const": 1}), json!({"const": 1})),
        ] {
            assert_eq!(strict(&schema), Some(expected), "{schema}");
        }
        for schema in [
            json!({}),
            json!({"type": "odd"}),
            json!(true),
            json!({"enum": [[1]]}),
        ] {
            assert_eq!(strict(&schema), None, "{schema}");
        }
    }

    #[test]
    fn definitions_are_closed_and_circles_refused() {
        let definitions = json!({"P": {"type": "object"}, "Q": {"$ref": "#/$defs/P"}});
        let schema = json!({"$defs": definitions, "$ref": "#/$defs/Q"});
        let closed = strict(&schema).expect("no circle");
        assert_eq!(closed["$defs"]["P"]["additionalProperties"], false);
        assert_eq!(closed["$ref"], "#/$defs/Q");
        for circle in [
            json!({"$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N"}),
            json!({"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"$ref": "#/$defs/A"}}, "type": "object"}),
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}}),
        ] {
            assert_eq!(strict(&circle), None, "{circle}");
        }
        let deep = (0..SCHEMA_DEPTH_MAX).fold(
            json!({"type": "null"}),
            |inner, _| json!({"type": "array", "items": inner}),
        );
        assert_eq!(strict(&deep), None);
    }
}
