//! Reads the fields of a JSON object by type. A value of the wrong type is refused and its place is named (spec: providers 15);
//! `null` counts as absent.

use serde_json::{Map, Value};

use super::failure::Invalid;

/// The fields of one object that were not taken yet, and where it stands in the request.
#[derive(Debug)]
pub struct Fields {
    map: Map<String, Value>,
    place: String,
}

impl Fields {
    /// The fields of `value`, which stands at `place` (empty: it is the request itself).
    pub fn of(value: Value, place: impl Into<String>) -> Result<Self, Invalid> {
        let place = place.into();
        match value {
            Value::Object(map) => Ok(Self { map, place }),
            other => Err(wrong(&place, "an object", &other)),
        }
    }

    /// Where a field of this object stands: `messages[0].content`.
    pub fn place(&self, field: &str) -> String {
        match self.place.is_empty() {
            true => field.to_owned(),
            false => format!("{}.{field}", self.place),
        }
    }

    /// Takes a field whatever it is; `None` where it is absent or null.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.map
            .shift_remove(field)
            .filter(|value| !value.is_null())
    }

    /// Looks at a field and leaves it.
    pub fn peek(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>, Invalid> {
        self.typed(field, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// Takes a text that must be there.
    pub fn required_text(&mut self, field: &str) -> Result<String, Invalid> {
        self.text(field)?.ok_or_else(|| {
            Invalid::at(
                self.place(field),
                format!("{} is missing", self.place(field)),
            )
        })
    }

    /// Takes a truth value.
    pub fn truth(&mut self, field: &str) -> Result<Option<bool>, Invalid> {
        self.typed(field, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// Takes a number.
    pub fn number(&mut self, field: &str) -> Result<Option<f64>, Invalid> {
        self.typed(field, "a number", |value| value.as_f64().ok_or(value))
    }

    /// Takes a whole number that is not negative. Some clients write counts as floats: `4096.0`.
    pub fn count(&mut self, field: &str) -> Result<Option<u64>, Invalid> {
        self.typed(field, "a whole number that is not negative", |value| {
            let whole = value
                .as_f64()
                .filter(|float| {
                    float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(float)
                })
                .map(|float| float as u64);
            value.as_u64().or(whole).ok_or(value)
        })
    }

    /// Takes a whole number.
    pub fn integer(&mut self, field: &str) -> Result<Option<i64>, Invalid> {
        self.typed(field, "a whole number", |value| value.as_i64().ok_or(value))
    }

    /// Takes a list.
    pub fn list(&mut self, field: &str) -> Result<Option<Vec<Value>>, Invalid> {
        self.typed(field, "a list", |value| match value {
            Value::Array(list) => Ok(list),
            other => Err(other),
        })
    }

    /// Takes an object.
    pub fn object(&mut self, field: &str) -> Result<Option<Map<String, Value>>, Invalid> {
        self.typed(field, "an object", |value| match value {
            Value::Object(map) => Ok(map),
            other => Err(other),
        })
    }

    /// Takes an object's fields.
    pub fn inner(&mut self, field: &str) -> Result<Option<Self>, Invalid> {
        let place = self.place(field);
        let map = self.object(field)?;
        Ok(map.map(|map| Self { map, place }))
    }

    /// What was not taken, without nulls.
    pub fn rest(self) -> Map<String, Value> {
        let mut map = self.map;
        map.retain(|_, value| !value.is_null());
        map
    }

    fn typed<T>(
        &mut self,
        field: &str,
        wanted: &str,
        convert: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Invalid> {
        match self.take(field) {
            None => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .map_err(|value| wrong(&self.place(field), wanted, &value)),
        }
    }
}

/// The refusal of a value of the wrong type.
pub fn wrong(place: &str, wanted: &str, value: &Value) -> Invalid {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let name = if place.is_empty() { "the body" } else { place };
    Invalid {
        code: Some("invalid_type"),
        ..Invalid::at(place, format!("{name} must be {wanted}, not {found}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_taken_by_type_and_refused_by_place() {
        let body = json!({"a": "x", "b": 1.0, "c": null, "d": {"e": [1]}, "f": -1, "rest": 7, "none": null});
        let mut fields = Fields::of(body, "").unwrap();
        assert_eq!(fields.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(fields.text("a").unwrap(), None);
        assert_eq!(fields.count("b").unwrap(), Some(1));
        assert_eq!(fields.number("c").unwrap(), None);
        let mut inner = fields.inner("d").unwrap().unwrap();
        let refused = inner.text("e").unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("d.e"));
        assert_eq!(refused.message, "d.e must be a string, not a list");
        let refused = fields.count("f").unwrap_err();
        assert_eq!(refused.param.as_deref(), Some("f"));
        assert_eq!(Value::Object(fields.rest()), json!({"rest": 7}));
        assert!(Fields::of(json!([]), "tools[0]").is_err());
    }
}
