//! The secrets store (spec: control plane 6.2). Values go in and never come out. Its errors have codes of their own, and a word
//! for machines in front of the message.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Problem};
use super::gateways;
use super::operation::{Answers, Body, Call, Needs, Operation, paging, time};
use super::publish::Change;
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required};
use super::secret_values::{fit, preview, secret_of, text_of};
use super::stores::store;
use crate::access::Permission as P;
use crate::config::Secret;
use crate::limits::{SECRET_COMMENT_MAX, SECRET_NAME_MAX, SECRET_VALUE_MAX, SECRETS_MAX};
use crate::seal::{Belonging, Sealed};
use crate::store::{hex32, now};

const SECRETS: &str = "/accounts/{account_id}/secrets_store/stores/{store_id}/secrets";
const SECRET: &str = "/accounts/{account_id}/secrets_store/stores/{store_id}/secrets/{secret_id}";
pub(super) const READ: Needs = Needs::Any(&[P::SecretsStoreRead]);
pub(super) const WRITE: Needs = Needs::Any(&[P::SecretsStoreWrite]);
/// What audit lines are about.
const RESOURCE: &str = "secrets_store.secret";

/// The scope without which no gateway uses a secret; the others are labels.
pub(super) const GATEWAY_SCOPE: &str = "ai_gateway";
const SCOPES: &[&str] = &[
    "access",
    GATEWAY_SCOPE,
    "containers",
    "dex",
    "websearch",
    "workers",
];
const SCOPE_LIST: Kind = Kind::List(&Kind::Choice(SCOPES), 1, SCOPES.len());
pub(super) const DIRECTION: Field = optional("direction", Kind::Choice(&["asc", "desc"]));

pub(super) const NAME: Field = required("name", Kind::Text(1, SECRET_NAME_MAX));
const VALUE: Kind = Kind::Text(1, SECRET_VALUE_MAX);
const COMMENT: Field = optional("comment", Kind::Text(0, SECRET_COMMENT_MAX));
const NEW: Kind = Kind::Record(&[
    NAME,
    required("scopes", SCOPE_LIST),
    required("value", VALUE),
    COMMENT,
]);
const EDIT: Kind = Kind::Record(&[
    optional("value", VALUE),
    optional("scopes", SCOPE_LIST),
    COMMENT,
]);
const COPY: Kind = Kind::Record(&[NAME, required("scopes", SCOPE_LIST), COMMENT]);
const NAMED: Kind = Kind::Record(&[required("id", TEXT)]);

const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("store_id", TEXT),
    required("name", TEXT),
    required("status", Kind::Choice(&["pending", "active", "deleted"])),
    required("created", Kind::Time),
    required("modified", Kind::Time),
    required("scopes", SCOPE_LIST),
    optional("comment", TEXT),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: SECRETS,
        name: "secrets_store.secrets.list",
        about: "List secrets, without their values",
        needs: READ,
        query: &[
            optional("search", QUERY_TEXT),
            optional(
                "order",
                Kind::Choice(&["name", "comment", "created", "modified", "status"]),
            ),
            DIRECTION,
            optional("scopes", Kind::List(&Kind::Choice(SCOPES), 0, SCOPES.len())),
            paging(1, 100)[0],
            paging(1, 100)[1],
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: SECRETS,
        name: "secrets_store.secrets.create",
        about: "Create secrets, all of them or none; no answer ever shows a value",
        needs: WRITE,
        query: &[],
        body: Body::Own(Kind::List(&NEW, 1, SECRETS_MAX as usize)),
        answers: Answers::Page(ANSWER),
        run: create,
    },
    Operation {
        method: "DELETE",
        path: SECRETS,
        name: "secrets_store.secrets.bulk_delete",
        about: "Delete the secrets named in the body, all of them or none",
        needs: WRITE,
        query: &[],
        body: Body::Own(Kind::List(&NAMED, 1, SECRETS_MAX as usize)),
        answers: Answers::Page(ANSWER),
        run: bulk_delete,
    },
    Operation {
        method: "GET",
        path: SECRET,
        name: "secrets_store.secrets.get",
        about: "Read a secret, without its value",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "PATCH",
        path: SECRET,
        name: "secrets_store.secrets.edit",
        about: "Change a secret: what is left out stays; the next request uses a new value",
        needs: WRITE,
        query: &[],
        body: Body::Own(EDIT),
        answers: Answers::Result(ANSWER),
        run: edit,
    },
    Operation {
        method: "DELETE",
        path: SECRET,
        name: "secrets_store.secrets.delete",
        about: "Delete a secret that no provider configuration uses",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
    Operation {
        method: "POST",
        path: "/accounts/{account_id}/secrets_store/stores/{store_id}/secrets/{secret_id}/duplicate",
        name: "secrets_store.secrets.duplicate",
        about: "Copy a secret's value under another name",
        needs: WRITE,
        query: &[],
        body: Body::Own(COPY),
        answers: Answers::Result(ANSWER),
        run: duplicate,
    },
];

/// A secret as it is stored.
pub(super) struct Row {
    pub id: String,
    store_id: String,
    pub name: String,
    comment: Option<String>,
    scopes: String,
    pub sealed: Sealed,
    /// What may be seen of the value.
    pub preview: String,
    created: i64,
    modified: i64,
}

pub(super) const COLUMNS: &str =
    "id, store_id, name, comment, scopes, key_id, sealed, preview, created, modified";

impl Row {
    pub fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            store_id: row.get(1)?,
            name: row.get(2)?,
            comment: row.get(3)?,
            scopes: row.get(4)?,
            sealed: Sealed {
                key_id: row.get::<_, String>(5)?.into(),
                bytes: row.get::<_, Vec<u8>>(6)?.into(),
            },
            preview: row.get(7)?,
            created: row.get(8)?,
            modified: row.get(9)?,
        })
    }

    pub fn belonging<'a>(&'a self, account: &'a str) -> Belonging<'a> {
        Belonging {
            account,
            id: &self.id,
            name: &self.name,
        }
    }

    /// Whether a gateway may use it.
    pub fn is_for_gateways(&self) -> bool {
        self.scopes.split(',').any(|scope| scope == GATEWAY_SCOPE)
    }

    fn show(&self) -> Value {
        let scopes: Vec<&str> = self.scopes.split(',').collect();
        json!({
            "id": self.id,
            "store_id": self.store_id,
            "name": self.name,
            "comment": self.comment,
            "scopes": scopes,
            "status": "active",
            "created": time(self.created),
            "modified": time(self.modified),
        })
    }

    /// For the audit log: a new value shows, and nothing of it. A hash of the value itself could be tried against guesses.
    fn audited(&self) -> Value {
        let digest = Sha256::digest(&self.sealed.bytes);
        let prefix: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut shown = self.show();
        shown["value"] = Value::from(format!("sealed {prefix}"));
        shown
    }
}

pub(super) fn find(database: &Connection, id: &str) -> Result<Option<Row>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM secrets WHERE id = ?1");
    let mut statement = database.prepare_cached(&query)?;
    Ok(statement.query_row([id], Row::of).optional()?)
}

pub(super) fn find_named(
    database: &Connection,
    store_id: &str,
    name: &str,
) -> Result<Option<Row>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM secrets WHERE store_id = ?1 AND name = ?2");
    let mut statement = database.prepare_cached(&query)?;
    Ok(statement.query_row([store_id, name], Row::of).optional()?)
}

/// The secret that the path names.
fn existing(call: &Call<'_>, code: u32) -> Result<Row, Problem> {
    let store = store(call, code)?;
    in_store(call, &store.id, call.parameter("secret_id"), code)
}

fn in_store(call: &Call<'_>, store_id: &str, id: &str, code: u32) -> Result<Row, Problem> {
    let found = find(call.database, id)?.filter(|row| row.store_id == store_id);
    found.ok_or_else(|| missing(code, "secret_not_found", &format!("no secret {id:?}")))
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let store = store(call, 1001)?;
    let order = match call.text("order") {
        // All have the same.
        None | Some("status") => "name",
        Some(order) => order,
    };
    let direction = call.text("direction").unwrap_or("asc");
    let mut clause = "WHERE store_id = ?1 AND (instr(lower(name), ?2) > 0 OR instr(lower(coalesce(comment, '')), ?2) > 0)".to_owned();
    let search = call.text("search").unwrap_or_default().to_lowercase();
    let mut values = vec![Sql::from(store.id), Sql::from(search)];
    let scopes = call.query.get("scopes").and_then(Value::as_array);
    let scopes = scopes.filter(|scopes| !scopes.is_empty());
    if let Some(scopes) = scopes {
        let mut any = Vec::new();
        for scope in scopes.iter().filter_map(Value::as_str) {
            values.push(Sql::from(format!(",{scope},")));
            any.push(format!(
                "instr(',' || scopes || ',', ?{}) > 0",
                values.len()
            ));
        }
        clause.push_str(&format!(" AND ({})", any.join(" OR ")));
    }
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as _).collect();
    call.select_page(
        COLUMNS,
        &format!("secrets {clause}"),
        &format!("{order} {direction}, id"),
        &values,
        |row| Ok(Row::of(row)?.show()),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Result(existing(call, 1001)?.show()))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let store = store(call, 1001)?;
    let Value::Array(bodies) = call.body.take() else {
        return Err(bad_body("an array of secrets is required"));
    };
    if bodies.is_empty() {
        return Err(bad_body("an array of at least one secret is required"));
    }
    let mut shown = Vec::new();
    for mut body in bodies {
        if !body.is_object() {
            return Err(bad_body("each secret is an object"));
        }
        let name = name(&body)?;
        let scopes = scopes(&body)?;
        let comment = comment(&body)?;
        let value = value(&mut body)?;
        let row = insert(call, &store.id, name, scopes, comment, &value)?;
        shown.push(row.show());
    }
    Ok(whole(shown))
}

fn edit(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call, 1001)?;
    let mut body = call.body.take();
    if !body.is_object() {
        return Err(bad_body("a JSON object is required"));
    }
    let mut row = row;
    let old = row.audited();
    let users = users(call, &row.id)?;
    if body.get("scopes").is_some_and(|scopes| !scopes.is_null()) {
        row.scopes = scopes(&body)?;
    }
    if !users.is_empty() && !row.is_for_gateways() {
        let about = format!(
            "{}; it needs the scope {GATEWAY_SCOPE}",
            told(&row.name, &users)
        );
        return Err(refused(1003, "secret_in_use", about));
    }
    if body.get("comment").is_some() {
        row.comment = comment(&body)?;
    }
    if body.get("value").is_some_and(|value| !value.is_null()) {
        let value = value(&mut body)?;
        let value = match users.is_empty() {
            true => value,
            false => {
                let fit = fit(call.database, text_of(&value))?;
                let fit = fit.map_err(|why| refused(1001, "secret_value_invalid", why))?;
                secret_of(fit.into_owned())
            }
        };
        seal(call, &mut row, &value)?;
    }
    store_changed(call, &mut row, &old)?;
    Ok(Answer::Result(row.show()))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call, 1000)?;
    refuse_used(call, &row)?;
    Ok(Answer::Result(drop_secret(call, row)?))
}

fn bulk_delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let store = store(call, 1000)?;
    let bodies = call.body.as_array().filter(|bodies| !bodies.is_empty());
    let ids: Option<Vec<String>> = bodies.and_then(|bodies| {
        let id = |body: &Value| Some(body.get("id")?.as_str()?.to_owned());
        bodies.iter().map(id).collect()
    });
    // The SDKs send no body here; nothing may be deleted then.
    let mut ids = ids.ok_or_else(|| bad_body("an array of {\"id\": ...} is required"))?;
    ids.sort_unstable();
    ids.dedup();
    let mut shown = Vec::new();
    for id in &ids {
        let row = in_store(call, &store.id, id, 1000)?;
        refuse_used(call, &row)?;
        shown.push(drop_secret(call, row)?);
    }
    Ok(whole(shown))
}

fn duplicate(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call, 1001)?;
    let body = call.body.take();
    if !body.is_object() {
        return Err(bad_body("a JSON object is required"));
    }
    let name = name(&body)?;
    let scopes = scopes(&body)?;
    let comment = match body.get("comment") {
        Some(_) => comment(&body)?,
        None => row.comment.clone(),
    };
    let value = open(call, &row)?;
    let copy = insert(call, &row.store_id, name, scopes, comment, &value)?;
    Ok(Answer::Result(copy.show()))
}

/// A list that is always whole.
fn whole(items: Vec<Value>) -> Answer {
    let total = items.len() as i64;
    Answer::Page {
        items,
        page: 1,
        per_page: total,
        total,
    }
}

/// Makes a secret. `scopes` as [`Row`] keeps them.
pub(super) fn insert(
    call: &mut Call<'_>,
    store_id: &str,
    name: String,
    scopes: String,
    comment: Option<String>,
    value: &Secret,
) -> Result<Row, Problem> {
    if find_named(call.database, store_id, &name)?.is_some() {
        let about = format!("there is a secret {name:?}");
        return Err(refused(1003, "secret_name_already_exists", about));
    }
    if count(call.database)? >= SECRETS_MAX {
        let about = format!("there are {SECRETS_MAX} secrets already");
        return Err(refused(1003, "maximum_secrets_exceeded", about));
    }
    let now = now();
    let mut row = Row {
        id: hex32(),
        store_id: store_id.to_owned(),
        name,
        comment,
        scopes,
        sealed: Sealed {
            key_id: Box::default(),
            bytes: Box::default(),
        },
        preview: String::new(),
        created: now,
        modified: now,
    };
    seal(call, &mut row, value)?;
    let statement =
        format!("INSERT INTO secrets ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    call.database.execute(
        &statement,
        params![
            row.id,
            row.store_id,
            row.name,
            row.comment,
            row.scopes,
            &*row.sealed.key_id,
            &*row.sealed.bytes,
            row.preview,
            row.created,
            row.modified
        ],
    )?;
    call.audit("create", (RESOURCE, &row.id), None, Some(&row.audited()))?;
    Ok(row)
}

pub(super) fn count(database: &Connection) -> Result<i64, Problem> {
    Ok(database.query_row("SELECT count(*) FROM secrets", [], |row| row.get(0))?)
}

/// Gives a secret another value, for every gateway that uses it.
pub(super) fn replace_value(
    call: &mut Call<'_>,
    row: &mut Row,
    value: &Secret,
) -> Result<(), Problem> {
    let old = row.audited();
    seal(call, row, value)?;
    store_changed(call, row, &old)
}

fn store_changed(call: &mut Call<'_>, row: &mut Row, old: &Value) -> Result<(), Problem> {
    row.modified = now().max(row.modified + 1);
    let statement = "UPDATE secrets SET comment = ?2, scopes = ?3, key_id = ?4, sealed = ?5, preview = ?6, modified = ?7 WHERE id = ?1";
    call.database.execute(
        statement,
        params![
            row.id,
            row.comment,
            row.scopes,
            &*row.sealed.key_id,
            &*row.sealed.bytes,
            row.preview,
            row.modified
        ],
    )?;
    call.audit(
        "update",
        (RESOURCE, &row.id),
        Some(old),
        Some(&row.audited()),
    )?;
    tell_gateways(call, &row.id)
}

/// Removes a secret with the configurations that use it, and answers what it was.
pub(super) fn drop_secret(call: &mut Call<'_>, row: Row) -> Result<Value, Problem> {
    tell_gateways(call, &row.id)?;
    for statement in [
        "DELETE FROM provider_configs WHERE secret_id = ?1",
        "DELETE FROM secrets WHERE id = ?1",
    ] {
        call.database.execute(statement, [&row.id])?;
    }
    call.audit("delete", (RESOURCE, &row.id), Some(&row.audited()), None)?;
    let mut shown = row.show();
    shown["status"] = Value::from("deleted");
    Ok(shown)
}

/// The data plane hears of every gateway that uses a secret.
fn tell_gateways(call: &mut Call<'_>, id: &str) -> Result<(), Problem> {
    let query = "SELECT DISTINCT gateway_id FROM provider_configs WHERE secret_id = ?1";
    let mut statement = call.database.prepare_cached(query)?;
    for gateway in statement.query_map([id], |row| row.get(0))? {
        let change = Change::Gateway(gateway?);
        if !call.changes.contains(&change) {
            call.changes.push(change);
        }
    }
    Ok(())
}

/// A provider configuration that uses a secret.
pub(super) struct User {
    pub gateway: String,
    provider: String,
    alias: String,
}

/// Who uses a secret. What a gateway left behind that is gone from the configuration file does not count.
pub(super) fn users(call: &Call<'_>, id: &str) -> Result<Vec<User>, Problem> {
    let query = "SELECT gateway_id, provider_slug, alias FROM provider_configs WHERE secret_id = ?1 ORDER BY 1, 2, 3";
    let mut statement = call.database.prepare_cached(query)?;
    let rows = statement.query_map([id], |row| {
        Ok(User {
            gateway: row.get(0)?,
            provider: row.get(1)?,
            alias: row.get(2)?,
        })
    })?;
    let mut users = Vec::new();
    for user in rows {
        let user = user?;
        if gateways::exists(call, &user.gateway)? {
            users.push(user);
        }
    }
    Ok(users)
}

fn refuse_used(call: &Call<'_>, row: &Row) -> Result<(), Problem> {
    let users = users(call, &row.id)?;
    match users.is_empty() {
        true => Ok(()),
        false => {
            let about = format!("{}; delete these first", told(&row.name, &users));
            Err(refused(1003, "secret_in_use", about))
        }
    }
}

/// Where a secret is used, for people; the first few places are enough to go on.
fn told(name: &str, users: &[User]) -> String {
    let place = |user: &User| {
        let User {
            gateway,
            provider,
            alias,
        } = user;
        format!("gateway {gateway} ({provider}, alias {alias})")
    };
    let places: Vec<String> = users.iter().take(5).map(place).collect();
    let more = match users.len() - places.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the secret {name:?} is used by provider configurations of {}{more}",
        places.join(", ")
    )
}

// --- values ---

/// Opens a secret's value.
pub(super) fn open(call: &Call<'_>, row: &Row) -> Result<Secret, Problem> {
    let office = call.office;
    Ok(office
        .sealer
        .open(&row.sealed, row.belonging(&office.account))?)
}

fn seal(call: &Call<'_>, row: &mut Row, value: &Secret) -> Result<(), Problem> {
    let office = call.office;
    row.preview = preview(text_of(value));
    row.sealed = office
        .sealer
        .seal(value.expose(), row.belonging(&office.account))?;
    Ok(())
}

// --- what bodies hold ---

fn name(body: &Value) -> Result<String, Problem> {
    match body["name"].as_str() {
        None | Some("") => Err(refused(1001, "secret_name_empty", "a secret needs a name")),
        Some(name) if name.chars().count() > SECRET_NAME_MAX => {
            let about = format!("at most {SECRET_NAME_MAX} characters");
            Err(refused(1001, "secret_name_too_long", about))
        }
        Some(name) => Ok(name.to_owned()),
    }
}

/// Sorted, each once, as Terraform demands them.
fn scopes(body: &Value) -> Result<String, Problem> {
    let listed = match &body["scopes"] {
        Value::Array(listed) if !listed.is_empty() => listed,
        Value::Array(_) | Value::Null => {
            let about = "a secret needs at least one scope";
            return Err(refused(1001, "secret_scopes_empty", about));
        }
        _ => return Err(bad_scope("scopes must be an array")),
    };
    let mut scopes = Vec::new();
    for scope in listed {
        match scope.as_str() {
            Some(scope) if SCOPES.contains(&scope) => scopes.push(scope),
            _ => return Err(bad_scope(&format!("no scope {scope}"))),
        }
    }
    scopes.sort_unstable();
    scopes.dedup();
    Ok(scopes.join(","))
}

fn bad_scope(about: &str) -> Problem {
    let about = format!("{about}; there are {}", SCOPES.join(", "));
    refused(1001, "secret_scope_invalid", about)
}

fn comment(body: &Value) -> Result<Option<String>, Problem> {
    match &body["comment"] {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= SECRET_COMMENT_MAX => Ok(Some(text.clone())),
        _ => {
            let about = format!("a text of at most {SECRET_COMMENT_MAX} characters");
            Err(refused(1001, "secret_comment_invalid", about))
        }
    }
}

/// Takes the value out of the body.
fn value(body: &mut Value) -> Result<Secret, Problem> {
    match body["value"].take() {
        Value::String(text) if !text.is_empty() => {
            let value = secret_of(text);
            match value.expose().len() > SECRET_VALUE_MAX {
                true => {
                    let about = format!("a value has at most {SECRET_VALUE_MAX} bytes");
                    Err(refused(1001, "secret_value_too_large", about))
                }
                false => Ok(value),
            }
        }
        _ => Err(refused(
            1001,
            "secret_value_empty",
            "a secret needs a value, which is a text",
        )),
    }
}

// --- errors ---

pub(super) fn refused(code: u32, word: &str, about: impl std::fmt::Display) -> Problem {
    Problem::new(400, code, format!("{word}: {about}"))
}

pub(super) fn missing(code: u32, word: &str, about: &str) -> Problem {
    Problem::new(404, code, format!("{word}: {about}"))
}

pub(super) fn bad_body(about: &str) -> Problem {
    refused(1001, "invalid_json_body", about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_sorted_and_each_once() {
        let read = |scopes: Value| {
            let read = super::scopes(&json!({"scopes": scopes}));
            read.map_err(|problem| {
                problem.errors[0]
                    .message
                    .split(':')
                    .next()
                    .map(str::to_owned)
            })
        };
        assert_eq!(
            read(json!(["workers", "ai_gateway", "workers"])).as_deref(),
            Ok("ai_gateway,workers")
        );
        for (scopes, word) in [
            (json!([]), "secret_scopes_empty"),
            (json!(null), "secret_scopes_empty"),
            (json!("workers"), "secret_scope_invalid"),
            (json!(["Workers"]), "secret_scope_invalid"),
            (json!([1]), "secret_scope_invalid"),
        ] {
            assert_eq!(read(scopes), Err(Some(word.to_owned())));
        }
    }
}
