//! What all streams do with their documents: texts grow, lists get longer, all else is said anew.

use serde_json::{Map, Value};

use crate::limits::ASSEMBLED_PARTS_MAX;

/// A member to write to; what is no object becomes one.
pub fn member<'v>(value: &'v mut Value, name: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[name]
}

/// Takes a member out.
pub fn take(value: &mut Value, name: &str) -> Value {
    let members = value.as_object_mut();
    members
        .and_then(|members| members.shift_remove(name))
        .unwrap_or_default()
}

/// Adds a piece of text to a member.
pub fn append(object: &mut Value, name: &str, piece: &Value) {
    let Some(piece) = piece.as_str() else { return };
    match member(object, name) {
        Value::String(text) => text.push_str(piece),
        other => *other = Value::from(piece),
    }
}

/// Adds one to a list.
pub fn push(object: &mut Value, name: &str, one: Value) {
    match member(object, name) {
        Value::Array(list) => list.push(one),
        other => *other = Value::Array(vec![one]),
    }
}

/// Takes the members of `newer` that say something in place of those of `object`.
pub fn replace(object: &mut Value, newer: Value) {
    let Value::Object(newer) = newer else { return };
    for (name, value) in newer {
        let known = member(object, &name);
        if !value.is_null() {
            *known = value;
        }
    }
}

/// Adds a delta: texts that are told in pieces grow, objects are gone through, elements of lists find their own by `index` or come
/// behind the others.
pub fn grow(target: &mut Value, delta: Value) {
    match (target, delta) {
        (_, Value::Null) => {}
        (Value::Object(object), Value::Object(delta)) => {
            for (name, value) in delta {
                match (object.get_mut(&name), value) {
                    (Some(Value::String(text)), Value::String(piece))
                        if is_told_in_pieces(&name) =>
                    {
                        text.push_str(&piece);
                    }
                    (Some(known), value) => grow(known, value),
                    (None, value) => {
                        object.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(list), Value::Array(more)) => {
            for element in more {
                let index = element["index"].as_u64();
                let known = index.and_then(|index| place(list, index));
                match known {
                    Some(known) => grow(&mut list[known], element),
                    None if index.is_none() || list.len() < ASSEMBLED_PARTS_MAX => {
                        list.push(element);
                    }
                    None => {}
                }
            }
        }
        (target, delta) => *target = delta,
    }
}

fn place(list: &[Value], index: u64) -> Option<usize> {
    list.iter().rposition(|known| known["index"] == index)
}

fn is_told_in_pieces(name: &str) -> bool {
    matches!(
        name,
        "content"
            | "text"
            | "refusal"
            | "reasoning"
            | "reasoning_content"
            | "thinking"
            | "arguments"
            | "input"
            | "data"
            | "transcript"
    )
}

/// Parts of an answer by the number that the stream gives them.
#[derive(Default)]
pub struct Parts(Vec<(u64, Value)>);

impl Parts {
    /// The part of that number, made where it is not there yet; `None`: there are too many.
    pub fn at(&mut self, number: &Value) -> Option<&mut Value> {
        let number = number.as_u64().unwrap_or(0);
        let known = self.0.iter().rposition(|(known, _)| *known == number);
        let place = match known {
            Some(place) => place,
            None if self.0.len() < ASSEMBLED_PARTS_MAX => {
                self.0.push((number, Value::Object(Map::new())));
                self.0.len() - 1
            }
            None => return None,
        };
        Some(&mut self.0[place].1)
    }

    /// All of them, in the order of their numbers.
    pub fn into_list(mut self) -> Vec<Value> {
        self.0.sort_by_key(|(number, _)| *number);
        self.0.into_iter().map(|(_, part)| part).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// JSON that was told as text, piece by piece; where it is cut, the text.
pub fn parsed(text: &mut Value) {
    let read = match text.as_str() {
        Some("") => Some(Value::Object(Map::new())),
        Some(written) => serde_json::from_str(written).ok(),
        None => None,
    };
    if let Some(read) = read {
        *text = read;
    }
}
