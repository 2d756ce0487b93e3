//! `ringgate route`.

use std::cell::Cell;
use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Outcome;
use crate::limits::METADATA_ENTRIES_MAX;
use crate::providers::Slug;
use crate::route::{Allowance, End, Field, FieldValue, Graph, Kind, Passage, Request, Step, Walk};

/// What `route` can be told.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Tell which way a request would go through a route, and why; nothing is sent. Exit code 1: no model would answer
    Test(Test),
}

/// What `route test` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// The route: its elements, or an object that has them as `elements`
    #[arg(value_name = "FILE")]
    route: PathBuf,
    /// The request's body, JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The request's metadata, an object; here it may hold what the gateway adds, such as cf.token_name
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A header of the request; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A model element that does not answer, or a rate element whose limit is reached; may be repeated
    #[arg(long, value_name = "ELEMENT")]
    fail: Vec<String>,
    /// What percentage elements draw, from 0 to below 100, in the order of the way; the last one stands for all further
    /// ones [default: random]
    #[arg(long, value_name = "PERCENT")]
    draw: Vec<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn run(action: &Action) -> Outcome {
    let Action::Test(test) = action;
    let graph = read_route(&test.route)?;
    check_failing(&graph, &test.fail)?;
    let request = Given::of(test)?;
    for provider in unknown_providers(&graph) {
        eprintln!(
            "ringgate: note: {provider:?} is no built-in provider: such a version is not deployed before there is one"
        );
    }
    let mut walk = Walk::new(&graph);
    let fails = |id: &str| test.fail.iter().any(|failing| failing == id);
    let mut step = walk.begin(&graph, &request);
    let mut asked = 0;
    let mut answered = 0;
    let end = loop {
        step = match step {
            Step::Count(count) => walk.counted(!fails(count.id), &graph, &request),
            Step::Ask(ask) => {
                asked = ask.number;
                let answers = !fails(ask.id);
                answered = if answers { asked } else { answered };
                walk.asked(answers, &graph, &request)
            }
            Step::End(end) => break end,
        };
    };
    let trail = walk.passages(0, &graph, &request);
    let told = told(&end, answered);
    match test.json {
        true => println!("{:#}", json!({"trail": trail, "end": told})),
        false => println!("{}{}", table(&trail), sentence(&end, answered, asked)),
    }
    Ok(match end {
        End::Answer(_) => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn read_route(path: &Path) -> Result<Graph, Box<dyn Error>> {
    let value = read_json(path)?;
    let elements = match &value {
        Value::Array(_) => &value,
        _ => ["/elements", "/result/elements"]
            .iter()
            .find_map(|place| value.pointer(place))
            .ok_or_else(|| format!("{}: no elements of a route", path.display()))?,
    };
    Graph::parse(elements).map_err(|errors| {
        let line = |error: &crate::route::RouteError| {
            let place = error.path[1..].join(".");
            format!("{}: {place}: {error}", path.display())
        };
        let lines: Vec<String> = errors.iter().map(line).collect();
        lines.join("\n").into()
    })
}

fn read_json(path: &Path) -> Result<Value, Box<dyn Error>> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// A misspelt element would be one that answers.
fn check_failing(graph: &Graph, failing: &[String]) -> Result<(), String> {
    let can_fail = |kind: &Kind| matches!(kind, Kind::Model { .. } | Kind::Rate { .. });
    let fallible = graph
        .elements()
        .iter()
        .filter(|element| can_fail(&element.kind));
    let ids: Vec<&str> = fallible.map(|element| &*element.id).collect();
    match failing.iter().find(|id| !ids.contains(&id.as_str())) {
        Some(id) => Err(format!(
            "--fail {id}: no such model or rate element; there are: {}",
            ids.join(", ")
        )),
        None => Ok(()),
    }
}

fn unknown_providers(graph: &Graph) -> Vec<&str> {
    let mut unknown: Vec<&str> = graph
        .providers()
        .filter(|provider| Slug::parse(provider).is_none())
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// The request as it is given.
struct Given {
    body: Value,
    metadata: Map<String, Value>,
    headers: Vec<(String, String)>,
    draws: Vec<u64>,
    drawn: Cell<usize>,
}

impl Given {
    fn of(test: &Test) -> Result<Self, Box<dyn Error>> {
        let header = |text: &String| match text.split_once(':') {
            Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
            None => Err(format!("--header {text:?}: write NAME: VALUE")),
        };
        let draw = |percent: &f64| match (0.0..100.0).contains(percent) {
            true => Ok(random_for(*percent)),
            false => Err(format!("--draw {percent}: must be from 0 to below 100")),
        };
        Ok(Self {
            body: test.request.as_deref().map_or(Ok(Value::Null), read_json)?,
            metadata: test.metadata.as_deref().map_or(Ok(Map::new()), metadata)?,
            headers: test.header.iter().map(header).collect::<Result<_, _>>()?,
            draws: test.draw.iter().map(draw).collect::<Result<_, _>>()?,
            drawn: Cell::new(0),
        })
    }
}

impl Request for Given {
    fn field(&self, field: &Field) -> Option<FieldValue<'_>> {
        match field {
            Field::Metadata(key) => self.metadata.get(&**key).map(FieldValue::from),
            Field::Body(names) => FieldValue::find(&self.body, names),
            Field::Header(name) => {
                let found = self.headers.iter().find(|(header, _)| *header == **name);
                found.map(|(_, value)| FieldValue::Text(value))
            }
        }
    }

    fn draw(&self) -> u64 {
        let at = self.drawn.replace(self.drawn.get() + 1);
        match self.draws.get(at).or(self.draws.last()) {
            Some(draw) => *draw,
            None => RandomState::new().build_hasher().finish(),
        }
    }
}

/// The least random number that comes to this point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn random_for(percent: f64) -> u64 {
    let point = (percent * 100.0 + 1e-6).floor() as u128;
    (point << 64).div_ceil(10_000) as u64
}

/// What a gateway would keep of it, and what it adds itself.
fn metadata(text: &str) -> Result<Map<String, Value>, Box<dyn Error>> {
    let parsed: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("--metadata: {error}"))?;
    if parsed
        .values()
        .any(|value| value.is_array() || value.is_object())
    {
        return Err("--metadata: a nested value makes the gateway drop all of it".into());
    }
    let mut own = 0;
    let keep = |(name, value): &(String, Value)| {
        own += usize::from(!name.starts_with("cf.") && !value.is_null());
        !value.is_null() && (name.starts_with("cf.") || own <= METADATA_ENTRIES_MAX)
    };
    Ok(parsed.into_iter().filter(keep).collect())
}

fn told(end: &End<'_>, step: u8) -> Value {
    match end {
        End::Answer(element) => {
            let mut told = json!({"outcome": "answer", "element": *element.id});
            if let Kind::Model { model, .. } = &element.kind {
                told["provider"] = json!(*model.provider);
                told["model"] = json!(*model.model);
                told["step"] = json!(step);
            }
            told
        }
        End::Failure => json!({"outcome": "failure"}),
        End::Limit(rate) => {
            let code = match rate.allowance {
                Allowance::Requests(_) => 2003,
                Allowance::Cost(_) => 2045,
            };
            json!({"outcome": "limit", "status": 429, "code": code})
        }
        End::Nothing => json!({"outcome": "nothing", "status": 400, "code": 2005}),
    }
}

fn sentence(end: &End<'_>, step: u8, asked: u8) -> String {
    match end {
        End::Answer(element) => match &element.kind {
            Kind::Model { model, .. } => format!(
                "answered by {}/{} (element {:?}, cf-aig-step: {step})",
                model.provider, model.model, element.id
            ),
            _ => unreachable!("models answer"),
        },
        End::Failure => format!(
            "not answered: the last provider's failure goes to the client, or 400 with code 2005 (cf-aig-step: {asked})"
        ),
        End::Limit(rate) => match rate.allowance {
            Allowance::Requests(_) => {
                "not answered: 429 with code 2003, no model is asked".to_owned()
            }
            Allowance::Cost(_) => "not answered: 429 with code 2045, no model is asked".to_owned(),
        },
        End::Nothing => "not answered: 400 with code 2005, no model is asked".to_owned(),
    }
}

fn table(trail: &[Passage<'_>]) -> String {
    let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    let row = |passage: &Passage<'_>| {
        [
            passage.element.id.to_string(),
            passage.element.kind.name().to_owned(),
            or_dash(&passage.saw_text()),
            or_dash(passage.outcome.as_deref().unwrap_or_default()),
            or_dash(passage.next.unwrap_or_default()),
        ]
    };
    let heading = ["ELEMENT", "TYPE", "INPUTS", "OUTCOME", "NEXT"].map(str::to_owned);
    super::table(heading, trail.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_drawn_as_it_is_named() {
        let route = json!([
            {"id": "s", "type": "start", "outputs": {"next": {"elementId": "p"}}},
            {"id": "p", "type": "percentage",
             "outputs": {"0.29%": {"elementId": "a"}, "57.01%": {"elementId": "b"}, "else": {"elementId": "c"}}},
            {"id": "a", "type": "end"}, {"id": "b", "type": "end"}, {"id": "c", "type": "end"},
        ]);
        let graph = Graph::parse(&route).expect("sound");
        let Kind::Percentage(split) = &graph.elements()[1].kind else {
            panic!("no split");
        };
        for (percent, expected) in [
            (0.0, "a"),
            (0.28, "a"),
            (0.29, "b"),
            (57.29, "b"),
            (57.3, "c"),
            (99.999, "c"),
        ] {
            let target = split.target(random_for(percent));
            assert_eq!(&*graph.element(target).id, expected, "{percent}");
        }
    }

    #[test]
    fn metadata_is_kept_as_a_gateway_keeps_it() {
        let kept = |text: &str| metadata(text).map(|kept| Value::Object(kept).to_string());
        let text = r#"{"1":1,"2":null,"cf.token_name":"t","3":3,"4":4,"5":5,"6":6,"7":7}"#;
        let expected = r#"{"1":1,"cf.token_name":"t","3":3,"4":4,"5":5,"6":6}"#;
        assert_eq!(kept(text).expect("metadata"), expected);
        for wrong in ["[]", "{", r#"{"a":{}}"#] {
            assert!(kept(wrong).is_err(), "{wrong}");
        }
    }
}
