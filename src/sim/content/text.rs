//! Words, tokens and values that fit a schema: what an answer says.

use serde_json::{Map, Value, json};

use crate::limits::{SIM_DIMENSIONS_MAX, SIM_SCHEMA_DEPTH};
use crate::sim::pace::Dice;

/// A plain words' list with accents, another script and an emoji in it, so that cuts inside characters show.
const WORDS: [&str; 48] = [
    "river",
    "stone",
    "quiet",
    "harbour",
    "window",
    "paper",
    "morning",
    "copper",
    "garden",
    "signal",
    "bridge",
    "winter",
    "orange",
    "letter",
    "valley",
    "engine",
    "silver",
    "market",
    "lantern",
    "forest",
    "thread",
    "planet",
    "kettle",
    "island",
    "mirror",
    "summer",
    "candle",
    "ladder",
    "pocket",
    "meadow",
    "anchor",
    "basket",
    "velvet",
    "pepper",
    "rocket",
    "saddle",
    "tunnel",
    "violin",
    "walnut",
    "yellow",
    "zebra",
    "café",
    "naïve",
    "über",
    "東京",
    "данные",
    "🚀",
    "jalapeño",
];

/// Tokens of a text: a word counts one for each six characters begun, every other sign that is no space counts one.
pub fn tokens(text: &str) -> u64 {
    let mut total = 0;
    let mut run = 0u64;
    for sign in text.chars() {
        if sign.is_alphanumeric() {
            run += 1;
            continue;
        }
        total += run.div_ceil(6);
        run = 0;
        total += u64::from(!sign.is_whitespace());
    }
    total + run.div_ceil(6)
}

/// Tokens of everything textual in a JSON value: its strings, and four for every object with a role. Long strings without
/// a space (base64, data URLs) count as one picture of 85.
pub fn json_tokens(value: &Value) -> u64 {
    match value {
        Value::String(text) if text.len() > 512 && !text.contains(' ') => 85,
        Value::String(text) => tokens(text),
        Value::Array(items) => items.iter().map(json_tokens).sum(),
        Value::Object(fields) => {
            let role = if fields.contains_key("role") { 3 } else { 0 };
            role + fields.values().map(json_tokens).sum::<u64>()
        }
        Value::Number(_) | Value::Bool(_) => 1,
        Value::Null => 0,
    }
}

/// `count` tokens of prose and where each of them ends.
pub fn prose(count: u64, dice: &mut Dice) -> (String, Vec<u32>) {
    let mut text = String::with_capacity(count as usize * 7);
    let mut ends = Vec::with_capacity(count as usize);
    for position in 0..count {
        let word = WORDS[dice.below(WORDS.len() as u64) as usize];
        if position == 0 {
            let mut letters = word.chars();
            text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
            text.push_str(letters.as_str());
        } else {
            text.push(' ');
            text.push_str(word);
        }
        if position + 1 == count {
            text.push('.');
        }
        ends.push(text.len() as u32);
    }
    (text, ends)
}

/// Prose of at least `bytes` bytes and its tokens.
pub fn long_prose(bytes: u64, dice: &mut Dice) -> (String, u64) {
    let mut text = String::with_capacity(bytes as usize + 16);
    let mut count = 0;
    while (text.len() as u64) < bytes {
        text.push_str(WORDS[dice.below(WORDS.len() as u64) as usize]);
        text.push(' ');
        count += 1;
    }
    (text, count)
}

/// Cuts a text (tool arguments, structured output) into tokens of about four bytes, never inside a character.
pub fn fragments(text: &str) -> Vec<u32> {
    let mut ends = Vec::with_capacity(text.len() / 4 + 1);
    let mut end = 0;
    while end < text.len() {
        end = (end + 4).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        ends.push(end as u32);
    }
    ends
}

/// A unit vector.
pub fn embedding(dimensions: u64, dice: &mut Dice) -> Vec<f32> {
    let count = dimensions.clamp(1, SIM_DIMENSIONS_MAX);
    let mut values: Vec<f32> = (0..count).map(|_| dice.unit() as f32 * 2.0 - 1.0).collect();
    let length = values
        .iter()
        .map(|v| v * v)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// A value that fits `schema` (the JSON Schema keywords that function schemas use; `pattern` is not followed).
pub fn fitting(schema: &Value, dice: &mut Dice) -> Value {
    Fitting { root: schema, dice }.value(schema, 0)
}

struct Fitting<'a> {
    root: &'a Value,
    dice: &'a mut Dice,
}

impl<'a> Fitting<'a> {
    fn value(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > SIM_SCHEMA_DEPTH {
            return Value::Null;
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            return choices.first().cloned().unwrap_or(Value::Null);
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            return match target
                .strip_prefix('#')
                .and_then(|pointer| root.pointer(pointer))
            {
                Some(found) => self.value(found, depth + 1),
                None => Value::Null,
            };
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(keyword).and_then(Value::as_array) {
                let real = choices.iter().find(|choice| kind(choice) != "null");
                return real.map_or(Value::Null, |choice| self.value(choice, depth + 1));
            }
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.all_of(parts, depth);
        }
        self.typed(schema, depth)
    }

    fn all_of(&mut self, parts: &'a [Value], depth: usize) -> Value {
        let mut merged = Map::new();
        let mut other = Value::Null;
        for part in parts {
            match self.value(part, depth + 1) {
                Value::Object(fields) => merged.extend(fields),
                value => other = value,
            }
        }
        if merged.is_empty() {
            other
        } else {
            Value::Object(merged)
        }
    }

    fn typed(&mut self, schema: &'a Value, depth: usize) -> Value {
        match kind(schema).as_str() {
            "object" => self.object(schema, depth),
            "array" => {
                let count = bound(schema, "minItems").unwrap_or(1).clamp(1, 16);
                let item = schema.get("items").unwrap_or(&Value::Null);
                (0..count).map(|_| self.value(item, depth + 1)).collect()
            }
            "integer" => json!(self.number(schema).ceil() as i64),
            "number" => json!(self.number(schema)),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return json!({});
        };
        let required = schema.get("required").and_then(Value::as_array);
        let wanted = |name: &String| {
            required.is_none_or(|names| names.iter().any(|r| r.as_str() == Some(name)))
        };
        let mut fields = Map::new();
        for (name, property) in properties.iter().filter(|(name, _)| wanted(name)) {
            fields.insert(name.clone(), self.value(property, depth + 1));
        }
        Value::Object(fields)
    }

    fn number(&mut self, schema: &Value) -> f64 {
        let read = |name: &str| schema.get(name).and_then(Value::as_f64);
        let low = read("minimum").or(read("exclusiveMinimum").map(|n| n + 1.0));
        let high = read("maximum").or(read("exclusiveMaximum").map(|n| n - 1.0));
        let drawn = self.dice.below(100) as f64;
        let value = match (low, high) {
            (Some(low), Some(high)) if high >= low => low + (high - low).floor().min(drawn),
            (Some(low), _) => low + drawn,
            (None, Some(high)) => high.min(drawn),
            (None, None) => drawn,
        };
        match read("multipleOf") {
            Some(step) if step > 0.0 => (value / step).ceil() * step,
            _ => value,
        }
    }

    fn string(&mut self, schema: &Value) -> String {
        let named = match schema.get("format").and_then(Value::as_str) {
            Some("date") => Some("2026-01-15"),
            Some("date-time") => Some("2026-01-15T12:00:00Z"),
            Some("time") => Some("12:00:00Z"),
            Some("email") => Some("someone@example.com"),
            Some("uuid") => Some("01890a5d-ac96-774b-bcce-b302099a8057"),
            Some("uri" | "url") => Some("https://example.com/"),
            Some("ipv4") => Some("192.0.2.1"),
            _ => None,
        };
        if let Some(text) = named {
            return text.to_owned();
        }
        let mut text = WORDS[self.dice.below(41) as usize].to_owned();
        let shortest = bound(schema, "minLength").unwrap_or(0).min(4096) as usize;
        while text.len() < shortest {
            text.push('x');
        }
        if let Some(longest) = bound(schema, "maxLength") {
            text.truncate(longest as usize);
        }
        text
    }
}

/// The type a schema asks for: its first that is not null, or what its keywords imply. Gemini writes types in capitals.
fn kind(schema: &Value) -> String {
    let stated = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    };
    match stated {
        Some(name) => name.to_ascii_lowercase(),
        None if schema.get("properties").is_some() => "object".into(),
        None if schema.get("items").is_some() => "array".into(),
        None => "string".into(),
    }
}

fn bound(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_by_a_simple_rule() {
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens("Hello, world!"), 4);
        assert_eq!(tokens("internationalisation"), 4);
        assert_eq!(
            json_tokens(&json!({"role": "user", "content": "hi there"})),
            6
        );
    }

    #[test]
    fn cuts_never_fall_inside_a_character() {
        let (text, ends) = prose(500, &mut Dice::new(&[1]));
        assert_eq!(ends.len(), 500);
        assert!(ends.iter().all(|&end| text.is_char_boundary(end as usize)));
        let cuts = fragments("{\"a\":\"東京東京\"}");
        assert_eq!(cuts.last(), Some(&20));
    }

    #[test]
    fn values_fit_their_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 12},
                "unit": {"enum": ["celsius", "kelvin"]},
                "days": {"type": "integer", "minimum": 3, "maximum": 5},
                "place": {"$ref": "#/$defs/Place"},
                "maybe": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "skipped": {"type": "string"},
            },
            "required": ["city", "unit", "days", "place", "maybe", "tags"],
            "$defs": {"Place": {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}}},
        });
        let value = fitting(&schema, &mut Dice::new(&[9]));
        assert!(value["city"].as_str().is_some_and(|city| city.len() >= 12));
        assert_eq!(value["unit"], "celsius");
        assert!((3..=5).contains(&value["days"].as_i64().expect("an integer")));
        assert_eq!(value["place"], json!({"when": "2026-01-15"}));
        assert_eq!(value["maybe"], true);
        assert_eq!(value["tags"].as_array().map(Vec::len), Some(2));
        assert!(value.get("skipped").is_none());
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(fitting(&schema, &mut Dice::new(&[1])).is_object());
    }
}
