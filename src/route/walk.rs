//! A request's way through a route. The walk decides what it can and asks for the rest: whether a limit is reached, whether a
//! model answers.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use super::report::shown;
use super::{
    Allowance, Element, Field, FieldValue, Graph, Index, Kind, Model, Number, Rate, Split,
};
use crate::limits::ROUTE_DEPTH_MAX;

/// What a walk needs to know of its request. The fields do not change on the way.
pub trait Request {
    /// The value of a field; `None` where the request lacks it.
    fn field(&self, field: &Field) -> Option<FieldValue<'_>>;

    /// A new random number each time, any being as likely as the others.
    fn draw(&self) -> u64;
}

/// A request on its way. Every call names the graph that it began with.
#[derive(Debug, Clone)]
pub struct Walk {
    at: Index,
    /// Models asked so far.
    asked: u8,
    /// The last model that answered.
    answered: Option<Index>,
    /// The last limit that was reached.
    reached: Option<Index>,
    visits: SmallVec<[Visit; 8]>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<'g> {
    /// To count the request, or to look what was spent; then [`Walk::counted`].
    Count(Count<'g>),
    /// To ask a model; then [`Walk::asked`].
    Ask(Ask<'g>),
    /// Nothing more.
    End(End<'g>),
}

/// A rate element's question.
#[derive(Debug, Clone, PartialEq)]
pub struct Count<'g> {
    /// The element's id.
    pub id: &'g str,
    /// What is allowed.
    pub rate: &'g Rate,
    /// The value of its key, which tells the request's bucket; `None`: the bucket of all that lack the key.
    pub bucket: Option<Cow<'g, str>>,
}

/// A model element's question.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask<'g> {
    /// The element's id.
    pub id: &'g str,
    /// Which model, and how patiently.
    pub model: &'g Model,
    /// How many were asked before: `cf-aig-step`.
    pub number: u8,
    /// Whether there may be another one where it fails.
    pub has_others: bool,
}

/// What comes of a route.
#[derive(Debug, Clone, PartialEq)]
pub enum End<'g> {
    /// The answer of the model that answered last.
    Answer(&'g Element),
    /// Models were asked and none answered: the last failure.
    Failure,
    /// No model was asked, as this limit was reached.
    Limit(&'g Rate),
    /// No model was asked at all.
    Nothing,
}

/// An element that was passed, told.
#[derive(Debug)]
pub struct Passage<'g> {
    /// The element.
    pub element: &'g Element,
    /// What it looked at, by name; `missing` are the fields that the request lacks.
    pub saw: Map<String, Value>,
    /// The output that it chose, where it had a choice.
    pub outcome: Option<Cow<'static, str>>,
    /// The id of the element behind; `None`: the route ended here.
    pub next: Option<&'g str>,
}

/// An element that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visit {
    element: Index,
    passed: Passed,
}

/// How it was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    Through,
    Tested(bool),
    /// The point drawn, in hundredths of a percent.
    Drawn(u16),
    Counted(bool),
    Asked(u8, bool),
}

impl Walk {
    /// Stands at the route's start.
    pub fn new(graph: &Graph) -> Self {
        Self {
            at: graph.start(),
            asked: 0,
            answered: None,
            reached: None,
            visits: SmallVec::new(),
        }
    }

    /// Sets out.
    pub fn begin<'g>(&mut self, graph: &'g Graph, request: &'g impl Request) -> Step<'g> {
        debug_assert!(self.visits.is_empty(), "a walk begins once");
        self.go_on(graph, request)
    }

    /// Goes on from a rate element; `within` is whether its limit allowed the request.
    pub fn counted<'g>(
        &mut self,
        within: bool,
        graph: &'g Graph,
        request: &'g impl Request,
    ) -> Step<'g> {
        let Kind::Rate {
            success, fallback, ..
        } = graph.element(self.at).kind
        else {
            unreachable!("the walk stands at a rate element");
        };
        self.visit(Passed::Counted(within));
        let next = match within {
            true => Some(success),
            false => {
                self.reached = Some(self.at);
                fallback
            }
        };
        self.leave(next, graph, request)
    }

    /// Goes on from a model element; `answers` is whether the model began to answer.
    pub fn asked<'g>(
        &mut self,
        answers: bool,
        graph: &'g Graph,
        request: &'g impl Request,
    ) -> Step<'g> {
        let Kind::Model {
            success, fallback, ..
        } = graph.element(self.at).kind
        else {
            unreachable!("the walk stands at a model element");
        };
        self.visit(Passed::Asked(self.asked, answers));
        self.asked += 1;
        let next = match answers {
            true => {
                self.answered = Some(self.at);
                Some(success)
            }
            false => fallback,
        };
        self.leave(next, graph, request)
    }

    /// What was passed so far, in order, without the first ones.
    pub fn passages<'g>(
        &self,
        skipped: usize,
        graph: &'g Graph,
        request: &impl Request,
    ) -> Vec<Passage<'g>> {
        let after = self.visits.iter().skip(1).map(|visit| visit.element);
        let visits = self.visits.iter().zip(after.chain([self.at]));
        let passage = |(visit, next): (&Visit, Index)| {
            let element = graph.element(visit.element);
            let (saw, outcome) = visit.saw(element, request);
            Passage {
                element,
                saw,
                outcome,
                next: (next != visit.element).then(|| &*graph.element(next).id),
            }
        };
        visits.skip(skipped).map(passage).collect()
    }

    fn leave<'g>(
        &mut self,
        next: Option<Index>,
        graph: &'g Graph,
        request: &'g impl Request,
    ) -> Step<'g> {
        match next {
            Some(next) => {
                self.at = next;
                self.go_on(graph, request)
            }
            None => Step::End(self.end(graph)),
        }
    }

    /// Passes what needs no answer.
    fn go_on<'g>(&mut self, graph: &'g Graph, request: &'g impl Request) -> Step<'g> {
        loop {
            // No path of a sound graph is longer.
            assert!(self.visits.len() < ROUTE_DEPTH_MAX, "a route leads back");
            let element = graph.element(self.at);
            let (passed, next) = match &element.kind {
                Kind::Start { next } => (Passed::Through, *next),
                Kind::Conditional {
                    condition,
                    holds,
                    fails,
                } => match condition.matches(&|field: &Field| request.field(field)) {
                    true => (Passed::Tested(true), *holds),
                    false => (Passed::Tested(false), *fails),
                },
                Kind::Percentage(split) => {
                    let point = Split::point(request.draw());
                    (Passed::Drawn(point), split.share(point).target)
                }
                Kind::Rate { rate, .. } => {
                    return Step::Count(Count {
                        id: &element.id,
                        rate,
                        bucket: request.field(&rate.key).and_then(bucket),
                    });
                }
                Kind::Model {
                    model, fallback, ..
                } => {
                    return Step::Ask(Ask {
                        id: &element.id,
                        model,
                        number: self.asked,
                        has_others: fallback.is_some_and(|next| graph.asks_from(next)),
                    });
                }
                Kind::End => {
                    self.visit(Passed::Through);
                    return Step::End(self.end(graph));
                }
            };
            self.visit(passed);
            self.at = next;
        }
    }

    fn end<'g>(&self, graph: &'g Graph) -> End<'g> {
        match (
            self.answered,
            self.reached.map(|at| &graph.element(at).kind),
        ) {
            (Some(at), _) => End::Answer(graph.element(at)),
            (None, _) if self.asked > 0 => End::Failure,
            (None, Some(Kind::Rate { rate, .. })) => End::Limit(rate),
            (None, _) => End::Nothing,
        }
    }

    fn visit(&mut self, passed: Passed) {
        let element = self.at;
        self.visits.push(Visit { element, passed });
    }
}

impl Visit {
    /// What the element looked at, and which of its outputs it chose.
    fn saw(
        self,
        element: &Element,
        request: &impl Request,
    ) -> (Map<String, Value>, Option<Cow<'static, str>>) {
        let way = |success| match success {
            true => Some("success".into()),
            false => Some("fallback".into()),
        };
        let mut saw = Map::new();
        let outcome = match (&element.kind, self.passed) {
            (Kind::Conditional { condition, .. }, Passed::Tested(holds)) => {
                let mut fields = Vec::new();
                condition.visit_fields(&mut |field| {
                    if !fields.contains(&field) {
                        fields.push(field);
                    }
                });
                see(&mut saw, &fields, request);
                Some(if holds { "true" } else { "false" }.into())
            }
            (Kind::Percentage(split), Passed::Drawn(point)) => {
                saw.insert("drawn".to_owned(), json!(hundredths(point)));
                Some(hundredths(split.share(point).size).into())
            }
            (Kind::Rate { rate, .. }, Passed::Counted(within)) => {
                see(&mut saw, &[&rate.key], request);
                let (kind, limit) = match rate.allowance {
                    Allowance::Requests(limit) => ("count", json!(limit)),
                    Allowance::Cost(limit) => ("cost", json!(limit as f64 / 1e12)),
                };
                saw.insert("limitType".to_owned(), json!(kind));
                saw.insert("limit".to_owned(), limit);
                saw.insert("window".to_owned(), json!(rate.window.as_secs()));
                way(within)
            }
            (Kind::Model { model, .. }, Passed::Asked(number, answers)) => {
                saw.insert("provider".to_owned(), json!(*model.provider));
                saw.insert("model".to_owned(), json!(*model.model));
                saw.insert("step".to_owned(), json!(number));
                way(answers)
            }
            _ => None,
        };
        (saw, outcome)
    }
}

/// One flat object: `element`, `type`, what it saw by name, `outcome` and `next`.
impl Serialize for Passage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("element", &*self.element.id)?;
        map.serialize_entry("type", self.element.kind.name())?;
        if !self.saw.is_empty() {
            map.serialize_entry("inputs", &self.saw)?;
        }
        if let Some(outcome) = &self.outcome {
            map.serialize_entry("outcome", outcome)?;
        }
        if let Some(next) = self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

impl Passage<'_> {
    /// What it saw, for people.
    pub fn saw_text(&self) -> String {
        let pair = |(name, value): (&String, &Value)| match (name.as_str(), value) {
            ("missing", Value::Array(fields)) => {
                let fields: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
                format!("no {}", fields.join(", no "))
            }
            _ => format!("{name}={value}"),
        };
        self.saw.iter().map(pair).collect::<Vec<_>>().join(" ")
    }
}

/// The values that fields have, cut to a bound, and the names of those that the request lacks.
fn see(saw: &mut Map<String, Value>, fields: &[&Field], request: &impl Request) {
    let mut missing = Vec::new();
    for field in fields {
        let name = field.to_string();
        let value = match request.field(field) {
            None => {
                missing.push(json!(name));
                continue;
            }
            Some(_) if holds_key(field) => json!("(not shown)"),
            Some(FieldValue::Null) => Value::Null,
            Some(FieldValue::Bool(value)) => json!(value),
            Some(FieldValue::Number(Number::Whole(number))) => json!(number),
            Some(FieldValue::Number(Number::Fraction(number))) => json!(number),
            Some(FieldValue::Text(text)) => json!(shown(text)),
            Some(FieldValue::Nested) => json!("(nested)"),
        };
        saw.insert(name, value);
    }
    if !missing.is_empty() {
        saw.insert("missing".to_owned(), Value::Array(missing));
    }
}

/// Whether a field is a header by whose name its value lets somebody in.
fn holds_key(field: &Field) -> bool {
    const WORDS: [&str; 5] = ["auth", "key", "token", "secret", "cookie"];
    match field {
        Field::Header(name) => WORDS.iter().any(|word| name.contains(word)),
        _ => false,
    }
}

/// Hundredths of a percent as outputs write them.
fn hundredths(size: u16) -> String {
    format!("{}%", f64::from(size) / 100.0)
}

/// What tells one bucket from the others: a number and the text that writes it are the same one.
fn bucket(value: FieldValue<'_>) -> Option<Cow<'_, str>> {
    Some(match value {
        FieldValue::Text(text) => text.into(),
        FieldValue::Bool(value) => value.to_string().into(),
        FieldValue::Number(Number::Whole(number)) => number.to_string().into(),
        FieldValue::Number(Number::Fraction(number)) => number.to_string().into(),
        FieldValue::Null | FieldValue::Nested => return None,
    })
}

#[cfg(test)]
mod tests;
