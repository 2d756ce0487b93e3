//! Which rules ran for a request, in their order, with what they saw and what came of it: the answer to "why?".

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::limits::TRAIL_MAX;

/// The decisions about one request; of too many the first are kept.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    decisions: Vec<Decision>,
}

/// What one rule decided.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The rule: `rate_limit`, `cache`, `spend_limit`, `route`, `try`, ...
    pub rule: &'static str,
    /// What came of it: `admitted`, `refused`, `hit`, `failed`, ...
    pub outcome: &'static str,
    /// When, after the request's head was whole.
    pub at: Duration,
    /// What it looked at.
    pub inputs: Vec<(&'static str, Input)>,
}

/// Something a rule looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A name or another text.
    Text(Box<str>),
    /// A count, or a time in the unit that its name tells.
    Number(i64),
    /// A switch.
    Flag(bool),
}

impl Trail {
    /// Adds a decision, within the bound.
    pub fn push(&mut self, decision: Decision) {
        if self.decisions.len() < TRAIL_MAX {
            self.decisions.push(decision);
        }
    }

    /// The decisions in their order.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
}

/// One flat object: `rule`, `outcome`, `at_us`, and the inputs by their names.
impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + self.inputs.len()))?;
        map.serialize_entry("rule", self.rule)?;
        map.serialize_entry("outcome", self.outcome)?;
        map.serialize_entry("at_us", &(self.at.as_micros() as u64))?;
        for (name, input) in &self.inputs {
            map.serialize_entry(name, input)?;
        }
        map.end()
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Input {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Saturating: no rule counts so far.
impl From<u64> for Input {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Input {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_one_flat_object_and_their_number_is_bounded() {
        let decision = Decision {
            rule: "rate_limit",
            outcome: "refused",
            at: Duration::from_micros(12),
            inputs: vec![
                ("limit", 3_u64.into()),
                ("technique", "fixed".into()),
                ("key", Input::from(String::from("a"))),
                ("cached", false.into()),
                ("left", Input::from(-1_i64)),
                ("most", u64::MAX.into()),
            ],
        };
        let text = serde_json::to_string(&decision).expect("texts and numbers");
        let expected = r#"{"rule":"rate_limit","outcome":"refused","at_us":12,"limit":3,"technique":"fixed","key":"a","cached":false,"left":-1,"most":9223372036854775807}"#;
        assert_eq!(text, expected);
        let mut trail = Trail::default();
        for _ in 0..TRAIL_MAX + 1 {
            trail.push(decision.clone());
        }
        assert_eq!(trail.decisions().len(), TRAIL_MAX);
    }
}
