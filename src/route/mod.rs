//! Dynamic routes (spec: data plane 7, control plane 5): a graph of elements that a request walks from `start` to `end`. Here
//! it is data; who walks it supplies the fields, the dice, the counters and the models.

mod condition;
mod parse;
mod report;
mod walk;

use std::time::Duration;

use serde_json::{Map, Value};

pub use condition::{Condition, Field, FieldValue, Number, Scalar, Test};
pub use report::RouteError;
pub use walk::{Ask, Count, End, Passage, Request, Step, Walk};

/// A route whose every path ends: from each element there is a way on, none leads back, and only `end` has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    elements: Box<[Element]>,
    start: Index,
    /// For each element, whether a way from it asks a model.
    asks: Box<[bool]>,
    /// The elements as the API answers them, in the order given.
    document: Box<[Map<String, Value>]>,
}

/// An element's place in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Index(u16);

/// One element.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Its name within the route.
    pub id: Box<str>,
    /// What it does and where it leads.
    pub kind: Kind,
}

/// What an element does and where it leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Where a request comes in.
    Start {
        /// The first element to do something.
        next: Index,
    },
    /// A fork by the request's fields.
    Conditional {
        /// What is tested.
        condition: Condition,
        /// Where it holds.
        holds: Index,
        /// Where it does not.
        fails: Index,
    },
    /// A fork by chance.
    Percentage(Split),
    /// A fork by what was used so far.
    Rate {
        /// What is counted and how much of it is allowed.
        rate: Rate,
        /// Below the limit.
        success: Index,
        /// At the limit; without one the route ends there.
        fallback: Option<Index>,
    },
    /// A model is asked.
    Model {
        /// Which, and how patiently.
        model: Model,
        /// It answers.
        success: Index,
        /// It does not; without one the route ends there.
        fallback: Option<Index>,
    },
    /// The last answer is the route's.
    End,
}

/// Shares of all requests. They add up to one whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split(Box<[Share]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// Hundredths of a percent.
    size: u16,
    target: Index,
}

/// What a rate element allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The field whose every value has a count of its own; requests that lack it share one.
    pub key: Field,
    /// How much.
    pub allowance: Allowance,
    /// In what time.
    pub window: Duration,
    /// How the time is measured.
    pub technique: Technique,
}

/// How much a rate element allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// So many requests.
    Requests(u64),
    /// So many pico-dollars.
    Cost(i128),
}

/// How a window is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// By the clock.
    Fixed,
    /// Back from now.
    Sliding,
}

impl Technique {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Sliding => "sliding",
        }
    }
}

/// Which model is asked, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The provider's name: a slug, an alias or `custom-{slug}`. Whether there is such a one, the caller knows.
    pub provider: Box<str>,
    /// The model's name, as the provider knows it.
    pub model: Box<str>,
    /// Tries after the first one.
    pub retries: u8,
    /// How long it may take to begin its answer.
    pub timeout: Option<Duration>,
}

impl Graph {
    /// Reads a route's `elements` in the old or the new spelling.
    pub fn parse(elements: &Value) -> Result<Self, Vec<RouteError>> {
        parse::graph(elements)
    }

    /// The elements in the new spelling and the order given, with all that is not known here.
    pub fn to_elements(&self) -> Value {
        self.document.iter().cloned().map(Value::Object).collect()
    }

    /// Where a request comes in.
    pub fn start(&self) -> Index {
        self.start
    }

    /// The element at a place that this graph gave.
    pub fn element(&self, index: Index) -> &Element {
        &self.elements[usize::from(index.0)]
    }

    /// All elements, in the order given.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Whether a way from an element, or it, asks a model.
    fn asks_from(&self, index: Index) -> bool {
        self.asks[usize::from(index.0)]
    }

    /// Whether it looks into bodies.
    pub fn reads_body(&self) -> bool {
        let is_body = |field: &Field| matches!(field, Field::Body(_));
        self.elements.iter().any(|element| match &element.kind {
            Kind::Conditional { condition, .. } => {
                let mut found = false;
                condition.visit_fields(&mut |field| found |= is_body(field));
                found
            }
            Kind::Rate { rate, .. } => is_body(&rate.key),
            _ => false,
        })
    }

    /// The providers that model elements name, as often as they do.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.elements
            .iter()
            .filter_map(|element| match &element.kind {
                Kind::Model { model, .. } => Some(&*model.provider),
                _ => None,
            })
    }
}

impl Kind {
    /// As the API calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Conditional { .. } => "conditional",
            Self::Percentage(_) => "percentage",
            Self::Rate { .. } => "rate",
            Self::Model { .. } => "model",
            Self::End => "end",
        }
    }
}

impl Split {
    /// What all shares add up to.
    const WHOLE: u16 = 10_000;

    /// Where a request goes whose dice show `random`, any number being as likely as the others.
    pub fn target(&self, random: u64) -> Index {
        self.share(Self::point(random)).target
    }

    /// The hundredth of a percent that dice show.
    fn point(random: u64) -> u16 {
        ((u128::from(random) * u128::from(Self::WHOLE)) >> 64) as u16
    }

    /// The share in which a point lies.
    fn share(&self, mut point: u16) -> &Share {
        for share in &self.0 {
            match point.checked_sub(share.size) {
                Some(rest) => point = rest,
                None => return share,
            }
        }
        unreachable!("shares add up to a whole, and the point lies within it")
    }
}

#[cfg(test)]
mod tests;
