//! Dynamic routes, their versions and deployments (spec: control plane 5, data plane 7, resolutions 12).

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::answer::{Answer, Fault, Problem};
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging, time};
use super::publish::Change;
use super::schema::{Field, INTEGER, Kind, TEXT, optional, required};
use super::{custom_providers, gateways};
use crate::limits::ROUTE_ELEMENTS_MAX;
use crate::route::{Graph, RouteError};
use crate::store::{now, uuid};

/// What the audit log calls a route.
const RESOURCE: &str = "ai_gateway.route";

/// A path below the routes of a gateway.
macro_rules! below {
    ($rest:literal) => {
        concat!(
            "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/routes",
            $rest
        )
    };
}

const NAME: Field = required(
    "name",
    Kind::Matched(
        is_name,
        "must be 1 to 64 characters without a / and control characters",
        "^[^/\\x00-\\x1f\\x7f]{1,64}$",
    ),
);
/// The graph's own reader checks them and names the element.
const GIVEN_ELEMENTS: Field = required("elements", Kind::List(&Kind::Any, 0, ROUTE_ELEMENTS_MAX));
const ELEMENTS: Field = required(
    "elements",
    Kind::List(
        &Kind::Record(&[
            required("id", TEXT),
            required("type", TEXT),
            optional("outputs", Kind::Map(None, &Kind::Any)),
            optional("properties", Kind::Map(None, &Kind::Any)),
        ]),
        0,
        ROUTE_ELEMENTS_MAX,
    ),
);
const VERSION: &[Field] = &[
    required("version_id", TEXT),
    required("active", Kind::Choice(&["true", "false"])),
    required("data", TEXT),
    required("is_valid", Kind::Boolean),
    required("created_at", Kind::Time),
];
const DEPLOYMENT: &[Field] = &[
    required("deployment_id", TEXT),
    required("version_id", TEXT),
    required("created_at", TEXT),
];
const PLAIN: &[Field] = &[
    required("id", TEXT),
    required("account_tag", TEXT),
    required("name", TEXT),
    required("gateway_id", TEXT),
    ELEMENTS,
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];
const WHOLE: &[Field] = &[
    PLAIN[0],
    PLAIN[1],
    PLAIN[2],
    PLAIN[3],
    PLAIN[4],
    PLAIN[5],
    PLAIN[6],
    required("version", Kind::Record(VERSION)),
    required("deployment", Kind::Record(DEPLOYMENT)),
];
const ONE_VERSION: &[Field] = &[
    PLAIN[0], PLAIN[1], PLAIN[2], PLAIN[3], PLAIN[4], PLAIN[6], VERSION[0], VERSION[1], VERSION[2],
    VERSION[3], VERSION[4],
];

/// The members of a list's body, which is no envelope (control plane 1.3).
macro_rules! listed {
    ($name:literal, $fields:expr) => {
        &[
            required("success", Kind::Boolean),
            required(
                "data",
                Kind::Record(&[
                    required($name, Kind::List(&Kind::Record($fields), 0, 100)),
                    required("page", INTEGER),
                    required("per_page", INTEGER),
                    required("order_by", TEXT),
                    required("order_by_direction", TEXT),
                ]),
            ),
        ]
    };
}

const PAGING: &[Field] = &paging(1, 100);

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: below!(""),
        name: "routes.list",
        about: "List dynamic routes",
        needs: READ,
        query: PAGING,
        body: Body::None,
        answers: Answers::Raw(listed!("routes", WHOLE)),
        run: list,
    },
    Operation {
        method: "POST",
        path: below!(""),
        name: "routes.create",
        about: "Create a dynamic route and deploy its first version",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[NAME, GIVEN_ELEMENTS]),
        answers: Answers::Result(WHOLE),
        run: create,
    },
    Operation {
        method: "GET",
        path: below!("/{route_id}"),
        name: "routes.get",
        about: "Read a dynamic route",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(WHOLE),
        run: get,
    },
    Operation {
        method: "PATCH",
        path: below!("/{route_id}"),
        name: "routes.update",
        about: "Rename a dynamic route",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[NAME]),
        answers: Answers::Raw(&[
            required("success", Kind::Boolean),
            required("route", Kind::Record(WHOLE)),
        ]),
        run: rename,
    },
    Operation {
        method: "DELETE",
        path: below!("/{route_id}"),
        name: "routes.delete",
        about: "Delete a dynamic route with its versions",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(PLAIN),
        run: delete,
    },
    Operation {
        method: "GET",
        path: below!("/{route_id}/versions"),
        name: "routes.list_versions",
        about: "List the versions of a dynamic route, the latest first",
        needs: READ,
        query: PAGING,
        body: Body::None,
        answers: Answers::Raw(listed!("versions", VERSION)),
        run: list_versions,
    },
    Operation {
        method: "POST",
        path: below!("/{route_id}/versions"),
        name: "routes.create_version",
        about: "Save a version of a dynamic route, which serves nothing until it is deployed",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[GIVEN_ELEMENTS]),
        answers: Answers::Result(WHOLE),
        run: create_version,
    },
    Operation {
        method: "GET",
        path: below!("/{route_id}/versions/{version_id}"),
        name: "routes.get_version",
        about: "Read a version of a dynamic route",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ONE_VERSION),
        run: get_version,
    },
    Operation {
        method: "GET",
        path: below!("/{route_id}/deployments"),
        name: "routes.list_deployments",
        about: "List the deployments of a dynamic route, the latest first",
        needs: READ,
        query: PAGING,
        body: Body::None,
        answers: Answers::Raw(listed!("deployments", DEPLOYMENT)),
        run: list_deployments,
    },
    Operation {
        method: "POST",
        path: below!("/{route_id}/deployments"),
        name: "routes.create_deployment",
        about: "Deploy a version: the next request walks it. An older one is the way back",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[required("version_id", TEXT)]),
        answers: Answers::Result(WHOLE),
        run: deploy_version,
    },
];

/// A route as it is stored.
struct Row {
    id: String,
    gateway_id: String,
    name: String,
    created_at: i64,
    modified_at: i64,
}

struct Version {
    id: String,
    elements: String,
    created_at: i64,
}

struct Deployment {
    id: String,
    version_id: String,
    created_at: i64,
}

/// The graph of stored elements.
pub(super) fn stored_graph(elements: &str) -> Option<Graph> {
    Graph::parse(&serde_json::from_str(elements).ok()?).ok()
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let (page, per_page) = call.page();
    let query =
        "SELECT id, gateway_id, name, created_at, modified_at FROM routes WHERE gateway_id = ?1
        ORDER BY created_at DESC, id LIMIT ?2 OFFSET ?3";
    let mut statement = call.database.prepare_cached(query)?;
    let skipped = (page - 1).saturating_mul(per_page);
    let rows = statement.query_map(params![gateway.id, per_page, skipped], of_row)?;
    let mut shown = Vec::new();
    for row in rows {
        shown.push(show(call, &row?)?);
    }
    Ok(listed("routes", shown, page, per_page))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let graph = graph_of_body(call)?;
    let now = now();
    let row = Row {
        id: uuid(),
        gateway_id: gateway.id.clone(),
        name: text_of_body(call, "name"),
        created_at: now,
        modified_at: now,
    };
    refuse_twin(call, &row)?;
    call.database.execute(
        "INSERT INTO routes (id, gateway_id, name, created_at, modified_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![row.id, row.gateway_id, row.name, now],
    )?;
    let version = insert_version(call.database, &row, &graph)?;
    let unknown = unknown_providers(call, &graph)?;
    match unknown.is_empty() {
        true => insert_deployment(call.database, &row, &version.id)?,
        false => {
            let names = unknown.join(", ");
            let message =
                format!("version 1 is stored but not deployed: no provider is called {names}");
            call.messages.push((7001, message));
        }
    }
    if !gateway.is_on("authentication") {
        let message = format!(
            "gateway {:?} demands no token: whoever reaches it may use this route",
            gateway.id
        );
        call.messages.push((10000, message));
    }
    let shown = show(call, &row)?;
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    call.changes.push(Change::Gateway(row.gateway_id));
    Ok(Answer::Result(shown))
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    Ok(Answer::Result(show(call, &row)?))
}

fn rename(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut row = existing(call)?;
    let old = show(call, &row)?;
    row.name = text_of_body(call, "name");
    refuse_twin(call, &row)?;
    touch(call.database, &mut row)?;
    let shown = show(call, &row)?;
    call.audit("update", (RESOURCE, &row.id), Some(&old), Some(&shown))?;
    call.changes.push(Change::Gateway(row.gateway_id));
    Ok(Answer::Raw(json!({"success": true, "route": shown})))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    let shown = show(call, &row)?;
    call.database
        .execute("DELETE FROM routes WHERE id = ?1", [&row.id])?;
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    call.changes.push(Change::Gateway(row.gateway_id));
    let mut plain = shown;
    if let Some(members) = plain.as_object_mut() {
        members.retain(|name, _| name != "version" && name != "deployment");
    }
    Ok(Answer::Result(plain))
}

fn list_versions(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    let (page, per_page) = call.page();
    let deployed = deployment(call.database, &row.id)?.map(|deployment| deployment.version_id);
    let query = "SELECT id, elements, created_at FROM route_versions WHERE route_id = ?1
        ORDER BY number DESC LIMIT ?2 OFFSET ?3";
    let mut statement = call.database.prepare_cached(query)?;
    let skipped = (page - 1).saturating_mul(per_page);
    let versions = statement.query_map(params![row.id, per_page, skipped], of_version)?;
    let mut shown = Vec::new();
    for version in versions {
        let version = version?;
        let active = deployed.as_ref() == Some(&version.id);
        shown.push(show_version(call, &version, active)?);
    }
    Ok(listed("versions", shown, page, per_page))
}

fn create_version(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut row = existing(call)?;
    let graph = graph_of_body(call)?;
    let version = insert_version(call.database, &row, &graph)?;
    touch(call.database, &mut row)?;
    let unknown = unknown_providers(call, &graph)?;
    if !unknown.is_empty() {
        let message = format!(
            "this version cannot be deployed: no provider is called {}",
            unknown.join(", ")
        );
        call.messages.push((7001, message));
    }
    let deployed = deployment(call.database, &row.id)?;
    let shown = show_with(call, &row, &version, deployed.as_ref())?;
    call.audit("update", (RESOURCE, &row.id), None, Some(&shown))?;
    Ok(Answer::Result(shown))
}

fn get_version(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    let version = version(call.database, &row.id, call.parameter("version_id"))?
        .ok_or_else(|| Problem::not_found("version"))?;
    let deployed = deployment(call.database, &row.id)?;
    let active = deployed.is_some_and(|deployment| deployment.version_id == version.id);
    let mut shown = show_plain(call, &row, &version)?;
    if let Value::Object(members) = show_version(call, &version, active)? {
        for (name, value) in members {
            shown[name] = value;
        }
    }
    Ok(Answer::Result(shown))
}

fn list_deployments(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    let (page, per_page) = call.page();
    let query = "SELECT id, version_id, created_at FROM route_deployments WHERE route_id = ?1
        ORDER BY number DESC LIMIT ?2 OFFSET ?3";
    let mut statement = call.database.prepare_cached(query)?;
    let skipped = (page - 1).saturating_mul(per_page);
    let deployments = statement.query_map(params![row.id, per_page, skipped], of_deployment)?;
    let mut shown = Vec::new();
    for deployment in deployments {
        shown.push(show_deployment(Some(&deployment?)));
    }
    Ok(listed("deployments", shown, page, per_page))
}

fn deploy_version(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut row = existing(call)?;
    let id = text_of_body(call, "version_id");
    let path = ["body", "version_id"];
    let version = version(call.database, &row.id, &id)?
        .ok_or_else(|| Problem::field(&path, format!("the route has no version {id:?}")))?;
    let graph = stored_graph(&version.elements)
        .ok_or_else(|| Problem::field(&path, "this version cannot be read; save it anew"))?;
    let unknown = unknown_providers(call, &graph)?;
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        let message = format!("this version cannot be deployed: no provider is called {names}");
        return Err(Problem::field(&path, message));
    }
    let old = show(call, &row)?;
    insert_deployment(call.database, &row, &version.id)?;
    touch(call.database, &mut row)?;
    let shown = show(call, &row)?;
    call.audit("update", (RESOURCE, &row.id), Some(&old), Some(&shown))?;
    call.changes.push(Change::Gateway(row.gateway_id));
    Ok(Answer::Result(shown))
}

/// The route that the path names, on the gateway that it names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let gateway = gateways::existing(call)?;
    let query = "SELECT id, gateway_id, name, created_at, modified_at FROM routes WHERE id = ?1 AND gateway_id = ?2";
    let ids = [call.parameter("route_id"), &gateway.id];
    let row = call
        .database
        .prepare_cached(query)?
        .query_row(ids, of_row)
        .optional()?;
    row.ok_or_else(|| Problem::not_found("route"))
}

fn of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        gateway_id: row.get(1)?,
        name: row.get(2)?,
        created_at: row.get(3)?,
        modified_at: row.get(4)?,
    })
}

fn of_version(row: &rusqlite::Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        id: row.get(0)?,
        elements: row.get(1)?,
        created_at: row.get(2)?,
    })
}

fn of_deployment(row: &rusqlite::Row<'_>) -> rusqlite::Result<Deployment> {
    Ok(Deployment {
        id: row.get(0)?,
        version_id: row.get(1)?,
        created_at: row.get(2)?,
    })
}

fn version(database: &Connection, route: &str, id: &str) -> Result<Option<Version>, Problem> {
    let query =
        "SELECT id, elements, created_at FROM route_versions WHERE id = ?1 AND route_id = ?2";
    let mut statement = database.prepare_cached(query)?;
    Ok(statement.query_row([id, route], of_version).optional()?)
}

fn latest_version(database: &Connection, route: &str) -> Result<Version, Problem> {
    let query = "SELECT id, elements, created_at FROM route_versions WHERE route_id = ?1 ORDER BY number DESC LIMIT 1";
    let mut statement = database.prepare_cached(query)?;
    Ok(statement.query_row([route], of_version)?)
}

/// The deployment in force: the last one.
fn deployment(database: &Connection, route: &str) -> Result<Option<Deployment>, Problem> {
    let query = "SELECT id, version_id, created_at FROM route_deployments WHERE route_id = ?1 ORDER BY number DESC LIMIT 1";
    let mut statement = database.prepare_cached(query)?;
    Ok(statement.query_row([route], of_deployment).optional()?)
}

fn insert_version(database: &Connection, row: &Row, graph: &Graph) -> Result<Version, Problem> {
    let version = Version {
        id: uuid(),
        elements: graph.to_elements().to_string(),
        created_at: now(),
    };
    let statement = "INSERT INTO route_versions (id, route_id, number, elements, created_at)
        VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM route_versions WHERE route_id = ?2), ?3, ?4)";
    database.execute(
        statement,
        params![version.id, row.id, version.elements, version.created_at],
    )?;
    Ok(version)
}

fn insert_deployment(database: &Connection, row: &Row, version: &str) -> Result<(), Problem> {
    let statement = "INSERT INTO route_deployments (id, route_id, number, version_id, created_at)
        VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM route_deployments WHERE route_id = ?2), ?3, ?4)";
    database.execute(statement, params![uuid(), row.id, version, now()])?;
    Ok(())
}

/// Stores the name and that the route was changed.
fn touch(database: &Connection, row: &mut Row) -> Result<(), Problem> {
    row.modified_at = now().max(row.modified_at + 1);
    database.execute(
        "UPDATE routes SET name = ?2, modified_at = ?3 WHERE id = ?1",
        params![row.id, row.name, row.modified_at],
    )?;
    Ok(())
}

fn refuse_twin(call: &Call<'_>, row: &Row) -> Result<(), Problem> {
    let query = "SELECT 1 FROM routes WHERE gateway_id = ?1 AND name = ?2 AND id <> ?3";
    let twin = call
        .database
        .query_row(query, [&row.gateway_id, &row.name, &row.id], |_| Ok(()))
        .optional()?;
    match twin {
        Some(()) => Err(Problem::exists(
            &["body", "name"],
            &format!("a route {:?}", row.name),
        )),
        None => Ok(()),
    }
}

fn graph_of_body(call: &Call<'_>) -> Result<Graph, Problem> {
    Graph::parse(&call.body["elements"]).map_err(|errors| {
        let fault = |error: RouteError| Fault {
            code: 7001,
            message: error.to_string(),
            path: error.path,
            chain: Vec::new(),
        };
        Problem {
            status: 400,
            errors: errors.into_iter().map(fault).collect(),
            allow: None,
        }
    })
}

/// The providers of a graph that nobody knows, each once, quoted.
fn unknown_providers(call: &Call<'_>, graph: &Graph) -> Result<Vec<String>, Problem> {
    let mut unknown = Vec::new();
    for provider in graph.providers() {
        let quoted = format!("{provider:?}");
        if !unknown.contains(&quoted) && !custom_providers::is_known(call, provider)? {
            unknown.push(quoted);
        }
    }
    Ok(unknown)
}

fn text_of_body(call: &Call<'_>, name: &str) -> String {
    call.body[name].as_str().unwrap_or_default().to_owned()
}

/// A route with the version that is deployed, else its latest.
fn show(call: &Call<'_>, row: &Row) -> Result<Value, Problem> {
    let deployed = deployment(call.database, &row.id)?;
    let stored = match &deployed {
        Some(deployment) => version(call.database, &row.id, &deployment.version_id)?,
        None => None,
    };
    let version = match stored {
        Some(version) => version,
        None => latest_version(call.database, &row.id)?,
    };
    show_with(call, row, &version, deployed.as_ref())
}

fn show_with(
    call: &Call<'_>,
    row: &Row,
    version: &Version,
    deployed: Option<&Deployment>,
) -> Result<Value, Problem> {
    let active = deployed.is_some_and(|deployment| deployment.version_id == version.id);
    let mut shown = show_plain(call, row, version)?;
    shown["version"] = show_version(call, version, active)?;
    shown["deployment"] = show_deployment(deployed);
    Ok(shown)
}

fn show_plain(call: &Call<'_>, row: &Row, version: &Version) -> Result<Value, Problem> {
    Ok(json!({
        "id": row.id,
        "account_tag": *call.office.account,
        "name": row.name,
        "gateway_id": row.gateway_id,
        "elements": serde_json::from_str::<Value>(&version.elements)?,
        "created_at": time(row.created_at),
        "modified_at": time(row.modified_at),
    }))
}

/// A version. `active` is a text in every client. Whether it is valid is told as of now: providers come and go.
fn show_version(call: &Call<'_>, version: &Version, active: bool) -> Result<Value, Problem> {
    let is_valid = match stored_graph(&version.elements) {
        Some(graph) => unknown_providers(call, &graph)?.is_empty(),
        None => false,
    };
    Ok(json!({
        "version_id": version.id,
        "active": active.to_string(),
        "data": version.elements,
        "is_valid": is_valid,
        "created_at": time(version.created_at),
    }))
}

/// A deployment. Where there is none its members are empty: clients know the object as one that is always there.
fn show_deployment(deployment: Option<&Deployment>) -> Value {
    match deployment {
        Some(deployment) => json!({
            "deployment_id": deployment.id,
            "version_id": deployment.version_id,
            "created_at": time(deployment.created_at),
        }),
        None => json!({"deployment_id": "", "version_id": "", "created_at": ""}),
    }
}

fn listed(name: &str, items: Vec<Value>, page: i64, per_page: i64) -> Answer {
    let mut data = json!({
        "page": page,
        "per_page": per_page,
        "order_by": "created_at",
        "order_by_direction": "desc",
    });
    data[name] = Value::from(items);
    Answer::Raw(json!({"success": true, "data": data}))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count())
        && !text
            .chars()
            .any(|letter| letter == '/' || letter.is_control())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Flags, load};
    use crate::manage::{Declared, Office, call_as_operator, office, publish};
    use crate::seal::Sealer;
    use crate::snapshot::{Gateway, Published};
    use crate::store::Database;

    /// An instance without listeners, with a gateway `g`.
    struct Instance {
        office: Office,
        database: Database,
        published: Published,
        _folder: tempfile::TempDir,
    }

    impl Instance {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let (config, _) = load(&Flags::default(), &|_| None).expect("a configuration");
            let sealer = Sealer::create(&folder.path().join("master-key")).expect("a key");
            let declared = Declared::of(&config).expect("declared");
            let office = office("acc", Arc::new(sealer), declared);
            let database = Database::open(folder.path()).expect("opened");
            let published = Published::new(snapshot(&office, &database));
            let mut instance = Self {
                office,
                database,
                published,
                _folder: folder,
            };
            let settings = json!({
                "id": "g", "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
                "rate_limiting_interval": 0, "rate_limiting_limit": 0,
            });
            instance.call("POST", "", settings);
            instance
        }

        fn call(&mut self, method: &str, path: &str, body: Value) -> Value {
            let path = format!("/accounts/acc/ai-gateway/gateways{path}");
            let body = (!body.is_null()).then_some(body);
            let found = crate::manage::find(method, &path).expect("an operation");
            let parts = super::super::operation::Parts {
                caller: super::super::operation::Caller::Operator,
                address: None,
                host: None,
                parameters: found.parameters,
                pairs: Vec::new(),
                body,
            };
            let (office, database) = (&self.office, &mut self.database);
            let published = Some(&self.published);
            let (outcome, _) =
                crate::manage::run(found.operation, parts, office, published, database);
            match outcome.expect("done") {
                Answer::Result(value) | Answer::Raw(value) => value,
                Answer::Page { items, .. } => items.into(),
                Answer::Stored { .. } | Answer::Later(_) => Value::Null,
            }
        }

        /// The gateway as published; a snapshot built anew has the same routes.
        fn gateway(&self) -> Arc<Gateway> {
            let current = self.published.load_full();
            let gateway = current.gateways.get("g").expect("published").clone();
            let anew = snapshot(&self.office, &self.database);
            let other = anew.gateways.get("g").expect("built");
            assert_eq!(gateway.routes.len(), other.routes.len());
            for (name, route) in &gateway.routes {
                assert_eq!(route.version_id, other.routes[name].version_id);
            }
            gateway
        }
    }

    fn snapshot(office: &Office, database: &Database) -> crate::snapshot::Snapshot {
        let declared = office.declared.load_full();
        let sealer = office.sealer.clone();
        publish::build(&office.account, &declared, sealer, database.connection()).expect("built")
    }

    fn elements(provider: &str, model: &str) -> Value {
        json!([
            {"id": "s", "type": "start", "outputs": {"next": {"elementId": "m"}}},
            {"id": "m", "type": "model", "properties": {"provider": provider, "model": model, "retries": 0, "timeout": 0},
             "outputs": {"success": {"elementId": "e"}}},
            {"id": "e", "type": "end", "outputs": {}},
        ])
    }

    #[test]
    fn what_is_deployed_is_published_by_name() {
        let mut instance = Instance::new();
        assert!(instance.gateway().routes.is_empty());
        let body = json!({"name": "a", "elements": elements("openai", "one")});
        let route = instance.call("POST", "/g/routes", body);
        let published = instance.gateway().routes["a"].clone();
        assert_eq!(route["id"], *published.id);
        assert_eq!(route["version"]["version_id"], *published.version_id);
        assert_eq!(published.graph.to_elements(), elements("openai", "one"));

        // What a write does not touch is not read again.
        let settings = json!({"retry_max_attempts": 2, "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
            "rate_limiting_interval": 0, "rate_limiting_limit": 0});
        instance.call("PUT", "/g", settings);
        assert!(Arc::ptr_eq(&published, &instance.gateway().routes["a"]));

        // A draft changes nothing; its deployment does; requests that hold the old graph keep it.
        let path = format!("/g/routes/{}", route["id"].as_str().expect("an id"));
        let body = json!({"elements": elements("openai", "two")});
        let saved = instance.call("POST", &format!("{path}/versions"), body);
        assert_eq!(
            instance.gateway().routes["a"].version_id,
            published.version_id
        );
        let body = json!({"version_id": saved["version"]["version_id"]});
        instance.call("POST", &format!("{path}/deployments"), body);
        let second = instance.gateway().routes["a"].clone();
        assert_eq!(saved["version"]["version_id"], *second.version_id);
        assert_eq!(published.graph.to_elements(), elements("openai", "one"));
        let body = json!({"version_id": *published.version_id});
        instance.call("POST", &format!("{path}/deployments"), body);
        assert_eq!(
            instance.gateway().routes["a"].version_id,
            published.version_id
        );

        instance.call("PATCH", &path, json!({"name": "b"}));
        let names: Vec<_> = instance.gateway().routes.keys().cloned().collect();
        assert_eq!(names, ["b".into()]);
        let body = json!({"name": "c", "elements": elements("custom-none", "x")});
        instance.call("POST", "/g/routes", body);
        assert!(!instance.gateway().routes.contains_key("c"), "not deployed");
        instance.call("DELETE", &path, Value::Null);
        assert!(instance.gateway().routes.is_empty());
    }

    #[test]
    fn deleting_a_gateway_leaves_nothing_of_its_routes() {
        let mut instance = Instance::new();
        let body = json!({"name": "a", "elements": elements("openai", "one")});
        instance.call("POST", "/g/routes", body);
        let delete = "/accounts/acc/ai-gateway/gateways/g";
        let deleted = call_as_operator(
            &instance.office,
            &mut instance.database,
            "DELETE",
            delete,
            None,
        );
        deleted.expect("deleted");
        for table in ["routes", "route_versions", "route_deployments", "domains"] {
            let query = format!("SELECT count(*) FROM {table}");
            let connection = instance.database.connection();
            let count: i64 = connection
                .query_row(&query, [], |row| row.get(0))
                .expect("counted");
            assert_eq!(count, 0, "{table}");
        }
    }

    #[test]
    fn a_stored_version_that_cannot_be_read_is_left_out() {
        let mut instance = Instance::new();
        let body = json!({"name": "a", "elements": elements("openai", "one")});
        let route = instance.call("POST", "/g/routes", body);
        let spoiled = "UPDATE route_versions SET elements = '[]'";
        instance
            .database
            .connection()
            .execute(spoiled, [])
            .expect("spoiled");
        let anew = snapshot(&instance.office, &instance.database);
        assert!(anew.gateways.get("g").expect("built").routes.is_empty());
        let path = format!("/g/routes/{}", route["id"].as_str().expect("an id"));
        let shown = instance.call("GET", &path, Value::Null);
        assert_eq!(shown["version"]["is_valid"], false);
    }

    #[test]
    fn names_can_stand_behind_dynamic() {
        for name in ["a", "support 2", "günstig", &"ü".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a/b", "a\nb", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn no_deployment_is_an_object_all_the_same() {
        let shown = show_deployment(None);
        for field in DEPLOYMENT {
            assert_eq!(shown[field.name], "", "{}", field.name);
        }
    }
}
