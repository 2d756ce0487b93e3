//! From the JSON of a route to its graph. All errors are told at once, as far as one does not hide another.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::condition::{Condition, Field};
use super::report::{Report, RouteError, shown};
use super::{Allowance, Element, Graph, Index, Kind, Model, Rate, Share, Split, Technique};
use crate::limits::{
    ROUTE_DEPTH_MAX, ROUTE_ELEMENTS_MAX, ROUTE_ID_MAX, ROUTE_RETRIES_MAX, ROUTE_SHARES_MAX,
    ROUTE_TEXT_MAX, ROUTE_TIMEOUT_MAX, ROUTE_WINDOW_MAX,
};

pub(super) fn graph(elements: &Value) -> Result<Graph, Vec<RouteError>> {
    let mut report = Report::new();
    let parsed = Parser::read(elements, &mut report);
    match parsed {
        Some(graph) if report.is_clean() => Ok(graph),
        _ => Err(report.errors()),
    }
}

type Members = Map<String, Value>;

struct Parser<'e, 'r> {
    places: HashMap<&'e str, Index>,
    report: &'r mut Report,
}

/// An element that is sound in itself.
struct Draft {
    element: Element,
    exits: Vec<Exit>,
    written: Members,
}

/// A named output and where it leads.
#[derive(Clone)]
struct Exit {
    name: String,
    target: Index,
}

impl<'e> Parser<'e, '_> {
    fn read(elements: &'e Value, report: &mut Report) -> Option<Graph> {
        let Some(list) = elements.as_array() else {
            return report.wrong("must be an array of elements");
        };
        if list.len() > ROUTE_ELEMENTS_MAX {
            return report.wrong(format!("a route has at most {ROUTE_ELEMENTS_MAX} elements"));
        }
        let places = HashMap::with_capacity(list.len());
        let mut parser = Parser { places, report };
        parser.note_places(list);
        let drafts: Vec<Option<Draft>> = list
            .iter()
            .enumerate()
            .map(|(at, value)| parser.element(at, value))
            .collect();
        parser.report.leave_element();
        let start = parser.start(list);
        let drafts = drafts.into_iter().collect::<Option<Vec<Draft>>>()?;
        let asks = Paths::check(&drafts, start?, parser.report)?;
        let (elements, document) = drafts
            .into_iter()
            .map(|draft| (draft.element, draft.written))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Some(Graph {
            elements: elements.into(),
            start: start?,
            asks,
            document: document.into(),
        })
    }

    /// Where each id stands, so that an output may name an element that comes later.
    fn note_places(&mut self, list: &'e [Value]) {
        for (at, value) in list.iter().enumerate() {
            let id = value.get("id").and_then(Value::as_str);
            self.report.enter_element(at, id);
            let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= ROUTE_ID_MAX) else {
                let message = format!("must be a text of 1 to {ROUTE_ID_MAX} bytes");
                self.report.wrong_at::<()>(&["id"], message);
                continue;
            };
            let index = Index(u16::try_from(at).expect("fewer elements"));
            if self.places.insert(id, index).is_some() {
                let message = "another element has the same id";
                self.report.wrong_at::<()>(&["id"], message);
            }
        }
    }

    /// The one element of type `start`.
    fn start(&mut self, list: &'e [Value]) -> Option<Index> {
        let starts = list
            .iter()
            .enumerate()
            .filter(|(_, value)| value.get("type").and_then(Value::as_str) == Some("start"))
            .map(|(at, _)| at);
        match starts.collect::<Vec<_>>()[..] {
            [at] => u16::try_from(at).ok().map(Index),
            [] => self.report.wrong("there is no element of type start"),
            [.., last] => {
                let id = list[last].get("id").and_then(Value::as_str);
                self.report.enter_element(last, id);
                let nothing = self
                    .report
                    .wrong_at(&["type"], "there is more than one element of type start");
                self.report.leave_element();
                nothing
            }
        }
    }

    fn element(&mut self, at: usize, value: &'e Value) -> Option<Draft> {
        let id = value.get("id").and_then(Value::as_str);
        self.report.enter_element(at, id);
        let Some(given) = value.as_object() else {
            return self.report.wrong("an element is an object");
        };
        let mut written = given.clone();
        let mut properties = self.members(given, "properties")?;
        let mut outputs = self.members(given, "outputs")?;
        outputs.retain(|_, output| !output.is_null());
        let mut exits = Exits::of(&outputs);
        let kind = match given.get("type").and_then(Value::as_str) {
            Some("start") => self.start_element(&mut exits),
            Some("conditional") => self.conditional(&mut properties, &mut exits),
            Some("percentage") => self.percentage(&mut exits),
            Some("rate" | "rate_limit") => {
                written.insert("type".to_owned(), json!("rate"));
                self.rate(&mut properties, &mut exits)
            }
            Some("model") => self.model(&mut properties, &mut exits),
            Some("end") => Some(Kind::End),
            _ => {
                let message = "must be start, conditional, percentage, rate, model or end";
                return self.report.wrong_at(&["type"], message);
            }
        };
        self.no_other_outputs(&exits);
        let Exits { taken: exits, .. } = exits;
        if !properties.is_empty() || given.contains_key("properties") {
            written.insert("properties".to_owned(), Value::Object(properties));
        }
        written.insert("outputs".to_owned(), Value::Object(outputs));
        let element = Element {
            id: id?.into(),
            kind: kind?,
        };
        Some(Draft {
            element,
            exits,
            written,
        })
    }

    /// An object below the element; empty where there is none.
    fn members(&mut self, given: &Members, name: &str) -> Option<Members> {
        match given.get(name) {
            None | Some(Value::Null) => Some(Members::new()),
            Some(Value::Object(members)) => Some(members.clone()),
            Some(_) => self.report.wrong_at(&[name], "must be an object"),
        }
    }

    fn start_element(&mut self, exits: &mut Exits<'_>) -> Option<Kind> {
        let next = self.output(exits, "next")?;
        Some(Kind::Start { next })
    }

    fn conditional(&mut self, properties: &mut Members, exits: &mut Exits<'_>) -> Option<Kind> {
        let condition = self.condition(properties);
        let (holds, fails) = (self.output(exits, "true"), self.output(exits, "false"));
        Some(Kind::Conditional {
            condition: condition?,
            holds: holds?,
            fails: fails?,
        })
    }

    fn condition(&mut self, properties: &mut Members) -> Option<Condition> {
        let name = self.respell(properties, "condition", "conditions")?;
        self.report.enter("properties");
        self.report.enter(name);
        let condition = match properties.get("conditions") {
            Some(value) => Condition::parse(value, self.report),
            None => self.report.wrong("is missing"),
        };
        self.report.leave();
        self.report.leave();
        condition
    }

    fn percentage(&mut self, exits: &mut Exits<'_>) -> Option<Kind> {
        let names: Vec<String> = exits.given.keys().cloned().collect();
        let (mut shares, mut sound, mut sum) = (Vec::new(), true, 0u16);
        for name in names.iter().filter(|name| name.ends_with('%')) {
            let target = self.output(exits, name);
            let Some(size) = share(name) else {
                let message = "a share is a percentage such as 10% or 12.5%";
                self.report.wrong_at::<()>(&["outputs", name], message);
                sound = false;
                continue;
            };
            sum = sum.saturating_add(size);
            sound &= target.is_some();
            shares.extend(target.map(|target| Share { size, target }));
        }
        let rest = self.optional_output(exits, "else")?;
        if !sound {
            return None;
        }
        if shares.is_empty() || shares.len() > ROUTE_SHARES_MAX {
            let message = format!("a percentage element has 1 to {ROUTE_SHARES_MAX} shares");
            return self.report.wrong_at(&["outputs"], message);
        }
        if sum > Split::WHOLE || (sum < Split::WHOLE && rest.is_none()) {
            let sum = f64::from(sum) / 100.0;
            let message = format!("the shares add up to {sum}%, not 100%; else takes what is left");
            return self.report.wrong_at(&["outputs"], message);
        }
        let size = Split::WHOLE - sum;
        shares.extend(rest.map(|target| Share { size, target }));
        Some(Kind::Percentage(Split(shares.into())))
    }

    fn rate(&mut self, properties: &mut Members, exits: &mut Exits<'_>) -> Option<Kind> {
        let rate = self.rate_properties(properties);
        let success = self.output(exits, "success");
        let fallback = self.optional_output(exits, "fallback");
        Some(Kind::Rate {
            rate: rate?,
            success: success?,
            fallback: fallback?,
        })
    }

    fn rate_properties(&mut self, properties: &mut Members) -> Option<Rate> {
        let window_name = self.respell(properties, "interval", "window");
        let key = self.key(properties);
        let allowance = self.allowance(properties);
        let technique = match properties.get("technique") {
            None | Some(Value::Null) => Some(Technique::Fixed),
            Some(Value::String(name)) if name == "fixed" => Some(Technique::Fixed),
            Some(Value::String(name)) if name == "sliding" => Some(Technique::Sliding),
            Some(_) => self.wrong_property("technique", "must be fixed or sliding"),
        };
        let window = match properties.get("window").and_then(whole) {
            Some(seconds @ 1..=ROUTE_WINDOW_MAX) => Some(Duration::from_secs(seconds)),
            _ => self.wrong_property(
                window_name?,
                format!("must be a whole number of seconds from 1 to {ROUTE_WINDOW_MAX}"),
            ),
        };
        Some(Rate {
            key: key?,
            allowance: allowance?,
            window: window?,
            technique: technique?,
        })
    }

    fn key(&mut self, properties: &Members) -> Option<Field> {
        let Some(path) = properties.get("key").and_then(Value::as_str) else {
            return self.wrong_property("key", "must be a field such as metadata.user_id");
        };
        match Field::parse(path) {
            Ok(field) => Some(field),
            Err(message) => self.wrong_property("key", message),
        }
    }

    fn allowance(&mut self, properties: &Members) -> Option<Allowance> {
        let limit = properties.get("limit");
        match properties.get("limitType").and_then(Value::as_str) {
            Some("count") => match limit.and_then(whole) {
                Some(requests @ 1..) => Some(Allowance::Requests(requests)),
                _ => self.wrong_property("limit", "must be a whole number greater than 0"),
            },
            Some("cost") => match limit.and_then(Value::as_f64).and_then(picodollars) {
                Some(cost) => Some(Allowance::Cost(cost)),
                None => {
                    self.wrong_property("limit", "must be an amount in US dollars greater than 0")
                }
            },
            _ => self.wrong_property("limitType", "must be count or cost"),
        }
    }

    fn model(&mut self, properties: &mut Members, exits: &mut Exits<'_>) -> Option<Kind> {
        let model = self.model_properties(properties);
        let success = self.output(exits, "success");
        let fallback = self.optional_output(exits, "fallback");
        Some(Kind::Model {
            model: model?,
            success: success?,
            fallback: fallback?,
        })
    }

    fn model_properties(&mut self, properties: &mut Members) -> Option<Model> {
        let provider = self.text(properties, "provider");
        let model = self.text(properties, "model");
        let retries = self.up_to(properties, "retries", ROUTE_RETRIES_MAX);
        let timeout = self.up_to(properties, "timeout", ROUTE_TIMEOUT_MAX);
        let timeout = timeout
            .map(|milliseconds| (milliseconds > 0).then(|| Duration::from_millis(milliseconds)));
        Some(Model {
            provider: provider?,
            model: model?,
            retries: u8::try_from(retries?).ok()?,
            timeout: timeout?,
        })
    }

    fn text(&mut self, properties: &Members, name: &str) -> Option<Box<str>> {
        let text = properties.get(name).and_then(Value::as_str);
        match text.filter(|text| !text.is_empty() && text.len() <= ROUTE_TEXT_MAX) {
            Some(text) => Some(text.into()),
            None => {
                let message = format!("must be a text of 1 to {ROUTE_TEXT_MAX} bytes");
                self.wrong_property(name, message)
            }
        }
    }

    /// A whole number that is 0 where it is absent; the API always answers it.
    fn up_to(&mut self, properties: &mut Members, name: &str, most: u64) -> Option<u64> {
        if properties.get(name).is_none_or(Value::is_null) {
            properties.insert(name.to_owned(), json!(0));
        }
        match properties.get(name).and_then(whole) {
            Some(number) if number <= most => Some(number),
            _ => {
                let message = format!("must be a whole number from 0 to {most}");
                self.wrong_property(name, message)
            }
        }
    }

    /// Gives a property its new name. Returns the name under which it was given.
    fn respell(
        &mut self,
        properties: &mut Members,
        old: &'static str,
        new: &'static str,
    ) -> Option<&'static str> {
        let Some(value) = properties.remove(old) else {
            return Some(new);
        };
        if properties.contains_key(new) {
            let message = format!("is the older name of {new}; both are given");
            return self.wrong_property(old, message);
        }
        properties.insert(new.to_owned(), value);
        Some(old)
    }

    fn output(&mut self, exits: &mut Exits<'_>, name: &str) -> Option<Index> {
        match self.optional_output(exits, name)? {
            Some(target) => Some(target),
            None => {
                let message = format!("output {:?} is missing", shown(name));
                self.report.wrong_at(&["outputs", name], message)
            }
        }
    }

    fn optional_output(&mut self, exits: &mut Exits<'_>, name: &str) -> Option<Option<Index>> {
        let Some(output) = exits.given.get(name) else {
            return Some(None);
        };
        exits.known.push(name.to_owned());
        let Some(id) = output.get("elementId").and_then(Value::as_str) else {
            let message = r#"an output is an object such as {"elementId": "..."}"#;
            return self.report.wrong_at(&["outputs", name], message);
        };
        let Some(&target) = self.places.get(id) else {
            let message = format!(
                "output {:?} leads to {:?}, which is no element",
                shown(name),
                shown(id)
            );
            return self
                .report
                .wrong_at(&["outputs", name, "elementId"], message);
        };
        exits.taken.push(Exit {
            name: name.to_owned(),
            target,
        });
        Some(Some(target))
    }

    /// An output that is never taken is a mistake: a misspelt one, as a rule.
    fn no_other_outputs(&mut self, exits: &Exits<'_>) {
        for name in exits
            .given
            .keys()
            .filter(|name| !exits.known.contains(name))
        {
            let message = format!("this type has no output {:?}", shown(name));
            self.report.wrong_at::<()>(&["outputs", name], message);
        }
    }

    fn wrong_property<T>(&mut self, name: &str, message: impl Into<String>) -> Option<T> {
        self.report.wrong_at(&["properties", name], message)
    }
}

/// The outputs of one element.
struct Exits<'a> {
    given: &'a Members,
    known: Vec<String>,
    taken: Vec<Exit>,
}

impl<'a> Exits<'a> {
    fn of(given: &'a Members) -> Self {
        Self {
            given,
            known: Vec::new(),
            taken: Vec::new(),
        }
    }
}

/// A whole number, also where it is written with a fraction of zero.
fn whole(value: &Value) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let fraction = || {
        let number = value.as_f64()?;
        let exact = number.trunc() == number && (0.0..=EXACT_MAX).contains(&number);
        exact.then_some(number as u64)
    };
    value.as_u64().or_else(fraction)
}

fn picodollars(dollars: f64) -> Option<i128> {
    const DOLLARS_MAX: f64 = 1e15;
    let cost = (dollars * 1e12).round();
    (cost >= 1.0 && dollars <= DOLLARS_MAX).then_some(cost as i128)
}

/// `12.5%` as hundredths of a percent.
fn share(text: &str) -> Option<u16> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits = |part: &str, most| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !are_digits(whole, 3) || !are_digits(fraction, 2) {
        return None;
    }
    let hundredths = format!("{whole}{fraction:0<2}").parse().ok()?;
    (hundredths <= Split::WHOLE).then_some(hundredths)
}

/// Looks at every path once: none may lead back, none may be too long.
struct Paths<'d> {
    drafts: &'d [Draft],
    /// For each element, what is known of the paths from it; `None` where nothing has come by yet.
    ahead: Vec<Option<Ahead>>,
    /// From where it began to where it stands.
    way: Vec<usize>,
}

/// What lies ahead of an element, itself included.
#[derive(Clone, Copy)]
struct Ahead {
    /// How many elements the longest path has.
    length: usize,
    /// Whether a path asks a model.
    asks: bool,
}

impl<'d> Paths<'d> {
    /// For each element, whether a path from it asks a model.
    fn check(drafts: &'d [Draft], start: Index, report: &mut Report) -> Option<Box<[bool]>> {
        let ahead = vec![None; drafts.len()];
        let way = Vec::new();
        let mut paths = Self { drafts, ahead, way };
        let longest = paths.from(usize::from(start.0)).and_then(|ahead| {
            // What no request reaches is stored with the rest and must be as sound.
            let all = (0..drafts.len()).map(|at| paths.from(at).map(|ahead| ahead.asks));
            Ok((ahead.length, all.collect::<Result<_, _>>()?))
        });
        match longest {
            Ok((length, asks)) if length <= ROUTE_DEPTH_MAX => Some(asks),
            Ok((length, _)) => report.wrong(format!(
                "the longest path has {length} elements; {ROUTE_DEPTH_MAX} is the most"
            )),
            Err((at, exit)) => {
                let message = paths.describe(&exit);
                report.enter_element(at, Some(&drafts[at].element.id));
                report.wrong_at(&["outputs", &exit.name], message)
            }
        }
    }

    /// What lies ahead of an element, or the output that closes a loop.
    fn from(&mut self, at: usize) -> Result<Ahead, (usize, Exit)> {
        if let Some(ahead) = self.ahead[at] {
            return Ok(ahead);
        }
        self.way.push(at);
        let mut longest = Ahead {
            length: 0,
            asks: matches!(self.drafts[at].element.kind, Kind::Model { .. }),
        };
        for exit in &self.drafts[at].exits {
            let target = usize::from(exit.target.0);
            if self.way.contains(&target) {
                return Err((at, exit.clone()));
            }
            let ahead = self.from(target)?;
            longest.length = longest.length.max(ahead.length);
            longest.asks |= ahead.asks;
        }
        self.way.pop();
        longest.length += 1;
        self.ahead[at] = Some(longest);
        Ok(longest)
    }

    /// The loop that an output closes, from its first element around to it again.
    fn describe(&self, exit: &Exit) -> String {
        let target = usize::from(exit.target.0);
        let around = self.way.iter().skip_while(|&&at| at != target);
        let ids: Vec<&str> = around
            .chain(std::iter::once(&target))
            .map(|&at| &*self.drafts[at].element.id)
            .collect();
        format!("leads back: {}", ids.join(" -> "))
    }
}
