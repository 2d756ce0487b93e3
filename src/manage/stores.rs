//! Stores of secrets (spec: control plane 6.2): an account has one.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Operation, paging, time};
use super::schema::{Field, Kind, TEXT, optional, required};
use super::secrets::{self, DIRECTION, NAME, READ, WRITE, bad_body, missing, refused};
use crate::limits::{SECRET_NAME_MAX, SECRETS_MAX};
use crate::store::{hex32, now};

const STORES: &str = "/accounts/{account_id}/secrets_store/stores";
const STORE: &str = "/accounts/{account_id}/secrets_store/stores/{store_id}";
/// The store that every instance has (our name).
const OWN_STORE: &str = "default_secrets_store";
/// What audit lines are about.
const RESOURCE: &str = "secrets_store.store";

const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("created", Kind::Time),
    required("modified", Kind::Time),
    required("account_id", TEXT),
];
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/secrets_store/quota",
        name: "secrets_store.quota",
        about: "How many secrets there are and may be",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(&[required("secrets", Kind::Any)]),
        run: quota,
    },
    Operation {
        method: "GET",
        path: STORES,
        name: "secrets_store.stores.list",
        about: "List stores",
        needs: READ,
        query: &[
            optional("order", Kind::Choice(&["name", "created", "modified"])),
            DIRECTION,
            paging(1, 100)[0],
            paging(1, 100)[1],
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: STORES,
        name: "secrets_store.stores.create",
        about: "Create the store, where there is none",
        needs: WRITE,
        query: &[],
        body: Body::Own(Kind::Record(&[NAME])),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: STORE,
        name: "secrets_store.stores.get",
        about: "Read a store",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "DELETE",
        path: STORE,
        name: "secrets_store.stores.delete",
        about: "Delete a store; with force also its secrets and the provider configurations that use them",
        needs: WRITE,
        query: &[optional("force", Kind::Boolean)],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

/// A store, which is a name above secrets.
pub(super) struct Row {
    pub id: String,
    name: String,
    created: i64,
    modified: i64,
}

impl Row {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            created: row.get(2)?,
            modified: row.get(3)?,
        })
    }

    fn show(&self, account: &str) -> Value {
        json!({
            "id": self.id,
            "account_id": account,
            "name": self.name,
            "created": time(self.created),
            "modified": time(self.modified),
        })
    }
}

fn quota(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let usage = secrets::count(call.database)?;
    Ok(Answer::Result(
        json!({"secrets": {"quota": SECRETS_MAX, "usage": usage}}),
    ))
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let order = call.text("order").unwrap_or("name");
    let direction = call.text("direction").unwrap_or("asc");
    let query =
        format!("SELECT id, name, created, modified FROM stores ORDER BY {order} {direction}, id");
    let mut statement = call.database.prepare_cached(&query)?;
    let rows = statement.query_map([], Row::of)?;
    let stores = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let account = &call.office.account;
    Ok(call.paginate(stores.iter().map(|store| store.show(account)).collect()))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    if !call.body.is_object() {
        return Err(bad_body("a JSON object with a name is required"));
    }
    let name = match call.body["name"].as_str() {
        None | Some("") => return Err(refused(1001, "store_name_empty", "a store needs a name")),
        Some(name) if name.chars().count() > SECRET_NAME_MAX => {
            let about = format!("at most {SECRET_NAME_MAX} characters");
            return Err(refused(1001, "store_name_too_long", about));
        }
        Some(name) => name.to_owned(),
    };
    if the_store(call.database)?.is_some() {
        let about = "an account has one store, and it is there";
        return Err(refused(1003, "maximum_stores_exceeded", about));
    }
    let store = insert(call, name)?;
    Ok(Answer::Result(store.show(&call.office.account)))
}

fn insert(call: &mut Call<'_>, name: String) -> Result<Row, Problem> {
    let now = now();
    let store = Row {
        id: hex32(),
        name,
        created: now,
        modified: now,
    };
    call.database.execute(
        "INSERT INTO stores (id, name, created, modified) VALUES (?1, ?2, ?3, ?4)",
        params![store.id, store.name, store.created, store.modified],
    )?;
    let shown = store.show(&call.office.account);
    call.audit("create", (RESOURCE, &store.id), None, Some(&shown))?;
    Ok(store)
}

fn the_store(database: &Connection) -> Result<Option<Row>, Problem> {
    let query = "SELECT id, name, created, modified FROM stores ORDER BY created, id LIMIT 1";
    Ok(database.query_row(query, [], Row::of).optional()?)
}

/// The id of the account's store, which is made where it was deleted.
pub(super) fn create_own(call: &mut Call<'_>) -> Result<String, Problem> {
    match the_store(call.database)? {
        Some(store) => Ok(store.id),
        None => Ok(insert(call, OWN_STORE.to_owned())?.id),
    }
}

/// The store that the path names.
pub(super) fn store(call: &Call<'_>, code: u32) -> Result<Row, Problem> {
    let query = "SELECT id, name, created, modified FROM stores WHERE id = ?1";
    let id = call.parameter("store_id");
    let found = call.database.query_row(query, [id], Row::of);
    found
        .optional()?
        .ok_or_else(|| missing(code, "store_not_found", &format!("no store {id:?}")))
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let store = store(call, 1001)?;
    Ok(Answer::Result(store.show(&call.office.account)))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let store = store(call, 1000)?;
    let force = call.query.get("force") == Some(&Value::Bool(true));
    let query = "SELECT id FROM secrets WHERE store_id = ?1 ORDER BY name";
    let mut statement = call.database.prepare_cached(query)?;
    let ids = statement.query_map([&store.id], |row| row.get::<_, String>(0))?;
    let ids = ids.collect::<rusqlite::Result<Vec<_>>>()?;
    if !ids.is_empty() && !force {
        let about = format!("it holds {} secrets; force=true deletes them", ids.len());
        return Err(refused(1003, "store_not_empty", about));
    }
    for id in ids {
        if let Some(row) = secrets::find(call.database, &id)? {
            secrets::drop_secret(call, row)?;
        }
    }
    call.database
        .execute("DELETE FROM stores WHERE id = ?1", [&store.id])?;
    let shown = store.show(&call.office.account);
    call.audit("delete", (RESOURCE, &store.id), Some(&shown), None)?;
    Ok(Answer::Result(shown))
}
