//! The management API: one file per resource, each a table of operations; this file takes a call from its request to its
//! answer. Its caller is the HTTP listener, or a command on the data directory.

mod accounts;
mod analytics;
mod answer;
mod audit;
mod custom_providers;
mod datasets;
mod domains;
mod evaluate;
mod evaluation_types;
mod evaluations;
mod filters;
mod gateways;
mod inference;
mod logs;
mod openapi;
mod operation;
mod prices;
mod provider_configs;
pub mod publish;
mod reseal;
mod routes;
mod schema;
mod secret_values;
mod secrets;
mod serve;
mod stores;
mod tokens;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

pub use answer::{Answer, Fault, Problem};
pub use evaluate::Evaluator;
pub use operation::{Caller, Office};
pub use publish::{Declared, PublishError};
pub use reseal::{ResealError, reseal};
pub use serve::{Api, Status, router};

use crate::limits::DEFAULT_GATEWAY;
use crate::snapshot::Published;
use crate::store::Database;
use operation::{Call, Operation, Parts};

/// Every operation. A path's literal segments win over its parameters, so that `costs` is not taken for an id.
fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        accounts::OPERATIONS,
        audit::OPERATIONS,
        custom_providers::OPERATIONS,
        datasets::OPERATIONS,
        domains::OPERATIONS,
        evaluation_types::OPERATIONS,
        evaluations::OPERATIONS,
        gateways::OPERATIONS,
        logs::OPERATIONS,
        prices::OPERATIONS,
        provider_configs::OPERATIONS,
        routes::OPERATIONS,
        secrets::OPERATIONS,
        stores::OPERATIONS,
        tokens::USER,
        tokens::ACCOUNT,
    ]
    .into_iter()
    .chain(analytics::OPERATIONS.iter().copied())
    .flatten()
}

/// What a method and a path lead to.
struct Found {
    operation: &'static Operation,
    parameters: HashMap<&'static str, String>,
}

/// Finds the operation of a path below `/client/v4`. Empty segments do not count (control plane 1.1).
fn find(method: &str, path: &str) -> Result<Found, Problem> {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let mut methods = Vec::new();
    let mut best: Option<(usize, Found)> = None;
    for operation in operations() {
        let Some(parameters) = matched(operation.path, &segments) else {
            continue;
        };
        methods.push(operation.method);
        let found = (
            parameters.len(),
            Found {
                operation,
                parameters,
            },
        );
        let better = best.as_ref().is_none_or(|(fewest, _)| found.0 < *fewest);
        if operation.method == method && better {
            best = Some(found);
        }
    }
    match best {
        Some((_, found)) => Ok(found),
        None if methods.is_empty() => Err(Problem::no_route(path)),
        None => {
            methods.sort_unstable();
            methods.dedup();
            let allow = methods.join(", ");
            let mut problem = Problem::new(
                405,
                7001,
                format!("{method} is not allowed here; allowed: {allow}"),
            );
            problem.allow = Some(allow);
            Err(problem)
        }
    }
}

fn matched(pattern: &'static str, segments: &[&str]) -> Option<HashMap<&'static str, String>> {
    let parts = pattern.split('/').skip(1);
    if parts.clone().count() != segments.len() {
        return None;
    }
    let mut parameters = HashMap::new();
    for (part, segment) in parts.zip(segments) {
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) => {
                let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
                parameters.insert(name, decoded.ok()?.into_owned());
            }
            None if part == *segment => {}
            None => return None,
        }
    }
    Some(parameters)
}

/// An outcome and the notes beside it.
type Outcome = (Result<Answer, Problem>, Vec<(u32, String)>);

/// Runs an operation in a transaction of its own. What it changed is published before this returns; `None`: nobody reads.
fn run(
    operation: &'static Operation,
    parts: Parts,
    office: &Office,
    published: Option<&Published>,
    database: &mut Database,
) -> Outcome {
    let mut messages = Vec::new();
    let outcome = change_and_warn(
        office,
        published,
        database,
        operation.method == "GET",
        |transaction| {
            let mut call = Call::prepare(operation, parts, office, transaction)?;
            let answer = (operation.run)(&mut call)?;
            debug_assert!(!call.unaudited(), "{} leaves no trace", operation.name);
            messages = std::mem::take(&mut call.messages);
            Ok((answer, std::mem::take(&mut call.changes)))
        },
    );
    let outcome = outcome.map(|(answer, warning)| {
        messages.extend(warning.map(|warning| (NOTE, warning)));
        answer
    });
    (outcome, messages)
}

/// The code of a note that warns.
const NOTE: u32 = 10000;

/// Does something in a transaction, commits it and publishes its changes, in this order.
fn change<T>(
    office: &Office,
    published: Option<&Published>,
    database: &mut Database,
    reads_only: bool,
    work: impl FnOnce(&Connection) -> Result<(T, Vec<publish::Change>), Problem>,
) -> Result<T, Problem> {
    change_and_warn(office, published, database, reads_only, work).map(|(done, _)| done)
}

/// As `change`, with a warning of what the change opens.
fn change_and_warn<T>(
    office: &Office,
    published: Option<&Published>,
    database: &mut Database,
    reads_only: bool,
    work: impl FnOnce(&Connection) -> Result<(T, Vec<publish::Change>), Problem>,
) -> Result<(T, Option<String>), Problem> {
    if reads_only {
        let transaction = database.connection().unchecked_transaction()?;
        return work(&transaction).map(|(done, _)| (done, None));
    }
    let transaction = database.begin()?;
    let (done, changes) = work(&transaction)?;
    let declared = office.declared.load_full();
    let current = published.map(Published::load_full);
    let parts = publish::read(
        &changes,
        &office.account,
        &declared,
        &office.sealer,
        &transaction,
        current.as_deref(),
    )
    .map_err(|error| Problem::new(500, 7009, error.to_string()))?;
    transaction.commit()?;
    let warning = declared.open_relay_of(&parts);
    if let Some(published) = published {
        publish::publish(published, parts);
    }
    Ok((done, warning))
}

/// A request by the operator, on the data directory itself, and the body that answers it.
pub fn call_as_operator(
    office: &Office,
    database: &mut Database,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<Value, Problem> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let found = find(method, path)?;
    let parts = Parts {
        caller: Caller::Operator,
        address: None,
        host: None,
        parameters: found.parameters,
        pairs: serve::pairs(query),
        body,
    };
    let (outcome, messages) = run(found.operation, parts, office, None, database);
    let answer = match outcome? {
        Answer::Later(later) => later.ask.without_server()?,
        answer => answer,
    };
    Ok(answer.into_body(&messages))
}

/// Makes what is stored follow the account's name, which the operator may change (control plane 1.2).
pub fn follow_account(office: &Office, database: &mut Database) -> Result<(), Problem> {
    change(office, None, database, false, |transaction| {
        reseal::follow_account(office, transaction)?;
        Ok(((), Vec::new()))
    })
}

/// Readies a database: the account, the first token, the gateway `default` at the very first start. Returns the token where
/// it was made now and was not given.
pub fn inaugurate(
    office: &Office,
    database: &mut Database,
    bootstrap: Option<&str>,
) -> Result<Option<String>, Problem> {
    let made = change(office, None, database, false, |transaction| {
        let first = transaction
            .query_row("SELECT 1 FROM meta WHERE key = 'created'", [], |_| Ok(()))
            .optional()?
            .is_none();
        let mut call = Call::bare(Parts::own(), office, transaction);
        if first {
            transaction.execute(
                "INSERT INTO meta VALUES ('created', ?1)",
                [crate::store::now().to_string()],
            )?;
            stores::create_own(&mut call)?;
            gateways::create_default(&mut call, DEFAULT_GATEWAY)?;
        }
        let token = tokens::create_first(&mut call, bootstrap)?;
        Ok((token, std::mem::take(&mut call.changes)))
    })?;
    Ok(made.filter(|_| bootstrap.is_none()))
}

/// Makes the gateway `default` that an authenticated request asked for, where it is missing (control plane 2.3).
pub fn create_default_gateway(
    office: &Office,
    published: &Published,
    database: &mut Database,
) -> Result<(), Problem> {
    change(office, Some(published), database, false, |transaction| {
        let mut call = Call::bare(Parts::own(), office, transaction);
        gateways::create_default(&mut call, DEFAULT_GATEWAY)?;
        Ok(((), std::mem::take(&mut call.changes)))
    })
}

/// When tokens were last shown, by id; a walk over all of them, for a thread that may take its time.
pub fn last_used(published: &Published) -> Vec<(String, u64)> {
    let snapshot = published.load_full();
    let tokens = snapshot.tokens.iter();
    tokens
        .filter_map(|token| tokens::last_used(token))
        .collect()
}

/// Stores when tokens were last shown.
pub fn store_last_used(used: Vec<(String, u64)>, database: &mut Database) -> Result<(), Problem> {
    let transaction = database.begin()?;
    tokens::store_last_used(&transaction, used.into_iter())?;
    transaction.commit()?;
    Ok(())
}

/// The whole API's description (`/openapi.json`).
pub fn openapi() -> Value {
    openapi::document(&operations().collect::<Vec<_>>())
}

/// What the instance is without anything stored: for commands on the data directory.
pub fn office(account: &str, sealer: Arc<crate::seal::Sealer>, declared: Declared) -> Office {
    Office {
        account: account.into(),
        sealer,
        declared: arc_swap::ArcSwap::from_pointee(declared),
    }
}
