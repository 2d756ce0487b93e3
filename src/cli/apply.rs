//! `ringgate apply`.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::client::{Client, Failure, Place};
use super::export::{VERSION, provider_configs};
use super::resources::{Difference, Identity, Instance, KINDS, Object, shown};

/// What `apply` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The document, as export writes it; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete what the document does not hold; kinds that it does not name are left alone
    #[arg(long)]
    prune: bool,
}

/// Brings the instance to what the document says.
pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let document = read(&options.file)?;
    let mut client = Client::open(&options.place)?;
    reconcile(&mut client, &document, options.dry_run, options.prune)?;
    Ok(())
}

/// Plans, tells, and unless it is only asked for, does what it takes.
pub(super) fn reconcile(
    client: &mut Client,
    document: &Map<String, Value>,
    dry_run: bool,
    prune: bool,
) -> Result<(), Failure> {
    let wanted = parse(document)?;
    let mut instance = Instance::read(client)?;
    let plan = plan(&wanted, &instance, prune)?;
    let count = |of: fn(&Step) -> bool| plan.iter().filter(|step| of(step)).count();
    let summary = format!(
        "{} created, {} changed, {} deleted",
        count(|step| matches!(step, Step::Create { .. })),
        count(|step| matches!(step, Step::Change { .. })),
        count(|step| matches!(step, Step::Delete { .. })),
    );
    for step in &plan {
        print!("{}", describe(step, &instance));
        if !dry_run {
            step.take(client, &mut instance)?;
        }
    }
    match (plan.is_empty(), dry_run) {
        (true, _) => println!("nothing to change"),
        (false, true) => println!("would be: {summary}"),
        (false, false) => println!("done: {summary}"),
    }
    tell_missing_keys(client, document)
}

fn read(path: &Path) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut text = String::new();
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(path).map(|found| text = found),
    };
    read.map_err(|error| failed(error.to_string()))?;
    let document: Value =
        serde_json::from_str(&text).map_err(|error| failed(format!("is not JSON: {error}")))?;
    match document {
        Value::Object(document) => Ok(document),
        _ => Err(failed("is no JSON object".to_owned()).into()),
    }
}

/// What the document wants, one list a kind; `None`: it does not name the kind.
type Wanted = Vec<Option<Vec<Object>>>;

fn parse(document: &Map<String, Value>) -> Result<Wanted, Failure> {
    if document.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err(Failure::Unfit(format!(
            "the document's version is {}, and this ringgate reads {VERSION}",
            document.get("version").unwrap_or(&Value::Null)
        )));
    }
    const BESIDE: [&str; 3] = ["version", "account", "not_restorable"];
    for member in document.keys() {
        let known =
            BESIDE.contains(&member.as_str()) || KINDS.iter().any(|kind| kind.member == member);
        if !known {
            let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.member).collect();
            return Err(Failure::Unfit(format!(
                "unknown member {member:?}; a document holds {}",
                kinds.join(", ")
            )));
        }
    }
    let mut wanted = Vec::new();
    for kind in &KINDS {
        let Some(value) = document.get(kind.member) else {
            wanted.push(None);
            continue;
        };
        let list = value
            .as_array()
            .ok_or_else(|| Failure::Unfit(format!("{} is no list", kind.member)))?;
        let mut objects: Vec<Object> = Vec::new();
        for value in list {
            let object = kind.parse(value)?;
            let identity = kind.identity.map_text(&object);
            if objects
                .iter()
                .any(|other| kind.identity.map_text(other) == identity)
            {
                return Err(Failure::Unfit(format!(
                    "{} is in the document twice",
                    kind.title(&object)
                )));
            }
            objects.push(object);
        }
        wanted.push(Some(objects));
    }
    Ok(wanted)
}

/// One thing to do. Indices are those of the kind, and of the object among the instance's.
enum Step {
    Create {
        kind: usize,
        object: Object,
    },
    Change {
        kind: usize,
        found: usize,
        object: Object,
        differences: Vec<Difference>,
    },
    Delete {
        kind: usize,
        found: usize,
    },
}

/// Creates and changes in the order of the kinds, then deletes in the opposite one.
fn plan(wanted: &Wanted, instance: &Instance, prune: bool) -> Result<Vec<Step>, Failure> {
    let (mut steps, mut deletes) = (Vec::new(), Vec::new());
    let mut going = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        let Some(objects) = &wanted[index] else {
            continue;
        };
        let Some(found) = &instance.objects[index] else {
            match objects.first() {
                Some(object) => {
                    return Err(Failure::Unfit(format!(
                        "{}: the API does not know {}",
                        kind.title(object),
                        kind.member
                    )));
                }
                None => continue,
            }
        };
        let identity = |object: &Object| kind.identity.map_text(object);
        for object in objects {
            let known = found
                .iter()
                .position(|found| identity(&found.object) == identity(object));
            let Some(known) = known else {
                steps.push(Step::Create {
                    kind: index,
                    object: object.clone(),
                });
                continue;
            };
            let differences = kind.differences(object, &found[known].object);
            if !differences.is_empty() {
                steps.push(Step::Change {
                    kind: index,
                    found: known,
                    object: object.clone(),
                    differences,
                });
            }
        }
        for (at, found) in found.iter().enumerate() {
            let kept = objects
                .iter()
                .any(|object| identity(object) == identity(&found.object));
            if !prune || kept || found.is_declared {
                continue;
            }
            match kind.member {
                "gateways" => going.push(found.object["id"].clone()),
                // They go with their gateway.
                _ if kind.is_within_gateway() && going.contains(&found.object["gateway_id"]) => {
                    continue;
                }
                _ => {}
            }
            deletes.push(Step::Delete {
                kind: index,
                found: at,
            });
        }
    }
    steps.extend(deletes.into_iter().rev());
    Ok(steps)
}

impl Step {
    fn take(&self, client: &mut Client, instance: &mut Instance) -> Result<(), Failure> {
        let at = |kind: usize, found: usize| {
            let list = instance.objects[kind].as_deref().unwrap_or_default();
            &list[found]
        };
        match self {
            Self::Create { kind, object } => {
                let kind = &KINDS[*kind];
                let made = instance.create(client, kind, object);
                made.map_err(|failure| failure.about(&kind.title(object)))
            }
            Self::Change {
                kind: index,
                found,
                object,
                differences,
            } => {
                let kind = &KINDS[*index];
                let changed =
                    instance.change(client, kind, at(*index, *found), object, differences);
                changed.map_err(|failure| failure.about(&kind.title(object)))
            }
            Self::Delete { kind: index, found } => {
                let (kind, found) = (&KINDS[*index], at(*index, *found));
                let deleted = instance.delete(client, kind, found);
                deleted.map_err(|failure| failure.about(&kind.title(&found.object)))
            }
        }
    }
}

fn describe(step: &Step, instance: &Instance) -> String {
    let mut text = String::new();
    match step {
        Step::Create { kind, object } => {
            let kind = &KINDS[*kind];
            let _ = writeln!(text, "+ {}", kind.title(object));
            let members = object
                .iter()
                .filter(|(name, _)| !kind.identity.contains(&name.as_str()));
            for (name, value) in members {
                let _ = writeln!(text, "    {}", shown(name, value));
            }
        }
        Step::Change {
            kind,
            object,
            differences,
            ..
        } => {
            let _ = writeln!(text, "~ {}", KINDS[*kind].title(object));
            for difference in differences {
                let _ = writeln!(text, "    {difference}");
            }
        }
        Step::Delete { kind, found } => {
            let list = instance.objects[*kind].as_deref().unwrap_or_default();
            let _ = writeln!(text, "- {}", KINDS[*kind].title(&list[*found].object));
        }
    }
    text
}

/// Names the keys that the document's instance had and this one lacks.
fn tell_missing_keys(client: &mut Client, document: &Map<String, Value>) -> Result<(), Failure> {
    let listed = document
        .get("not_restorable")
        .and_then(|metadata| metadata["provider_configs"].as_array());
    let Some(listed) = listed.filter(|listed| !listed.is_empty()) else {
        return Ok(());
    };
    let instance = Instance::read(client)?;
    let there = provider_configs(client, &instance)?;
    let name = |config: &Value| {
        ["gateway_id", "provider_slug", "alias"]
            .map(|name| config[name].as_str().unwrap_or_default().to_owned())
    };
    for [gateway, provider, alias] in listed
        .iter()
        .map(name)
        .filter(|wanted| !there.iter().any(|config| name(config) == *wanted))
    {
        println!("key to be entered again: {provider}, alias {alias:?}, of gateway {gateway:?}");
    }
    Ok(())
}
