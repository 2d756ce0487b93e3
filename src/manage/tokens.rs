//! API tokens (spec: control plane 7). One table, shown by both the user's and the account's paths.

use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Problem};
use super::operation::{
    Answers, Body, Call, Caller, Needs, Operation, paging, seconds, time, unix_seconds,
};
use super::publish::Change;
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::access::{
    self, Grants, PERMISSION_GROUPS, Permission as P, PolicyError, generate_token, has_token_form,
};
use crate::snapshot::Token;
use crate::store::{hex32, now};

const READ: Needs = Needs::Any(&[P::AccountTokensRead, P::UserTokensRead]);
const WRITE: Needs = Needs::Any(&[P::AccountTokensWrite, P::UserTokensWrite]);
const RESOURCE: &str = "token";

const POLICY: &[Field] = &[
    required("effect", Kind::Choice(&["allow", "deny"])),
    required(
        "permission_groups",
        Kind::List(&Kind::Record(&[required("id", TEXT)]), 1, 100),
    ),
    required("resources", Kind::Map(None, &Kind::Any)),
];
const NETWORKS: Kind = Kind::List(
    &Kind::Checked(
        is_network,
        "must be an address or a network such as 10.0.0.0/8",
    ),
    0,
    1000,
);
const CONDITION: &[Field] = &[optional(
    "request_ip",
    Kind::Record(&[optional("in", NETWORKS), optional("not_in", NETWORKS)]),
)];
const CREATE: &[Field] = &[
    required("name", TEXT),
    required("policies", Kind::List(&Kind::Record(POLICY), 1, 100)),
    optional("condition", Kind::Record(CONDITION)),
    optional("not_before", Kind::Time),
    optional("expires_on", Kind::Time),
];
const UPDATE: &[Field] = &[
    CREATE[0],
    CREATE[1],
    CREATE[2],
    CREATE[3],
    CREATE[4],
    optional("status", Kind::Choice(&["active", "disabled", "expired"])),
];
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("status", TEXT),
    required("policies", Kind::Any),
    required("issued_on", Kind::Time),
    required("modified_on", Kind::Time),
    optional("condition", Kind::Any),
    optional("not_before", Kind::Time),
    optional("expires_on", Kind::Time),
    optional("last_used_on", Kind::Time),
    optional("value", TEXT),
];
const VERIFIED: &[Field] = &[
    required("id", TEXT),
    required("status", TEXT),
    optional("expires_on", Kind::Time),
    optional("not_before", Kind::Time),
];
const GROUP: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("scopes", Kind::List(&TEXT, 0, 9)),
];
const GROUP_QUERY: &[Field] = &[optional("name", QUERY_TEXT), optional("scope", QUERY_TEXT)];
const LIST_QUERY: &[Field] = &[
    paging(5, 50)[0],
    paging(5, 50)[1],
    optional("direction", Kind::Choice(&["asc", "desc"])),
    optional("include_expired", Kind::Boolean),
];

/// The operations below one of the two paths.
macro_rules! operations {
    ($path:literal, $name:literal) => {
        &[
            Operation {
                method: "GET",
                path: concat!($path, "/verify"),
                name: concat!($name, ".verify"),
                about: "Say whether the token shown is valid",
                needs: Needs::Shown,
                query: &[],
                body: Body::None,
                answers: Answers::Result(VERIFIED),
                run: verify,
            },
            Operation {
                method: "GET",
                path: concat!($path, "/permission_groups"),
                name: concat!($name, ".permission_groups"),
                about: "List permission groups",
                needs: READ,
                query: GROUP_QUERY,
                body: Body::None,
                answers: Answers::Page(GROUP),
                run: groups,
            },
            Operation {
                method: "GET",
                path: $path,
                name: concat!($name, ".list"),
                about: "List tokens, without their values",
                needs: READ,
                query: LIST_QUERY,
                body: Body::None,
                answers: Answers::Page(ANSWER),
                run: list,
            },
            Operation {
                method: "POST",
                path: $path,
                name: concat!($name, ".create"),
                about: "Create a token; its value is shown this once",
                needs: WRITE,
                query: &[],
                body: Body::Members(CREATE),
                answers: Answers::Result(ANSWER),
                run: create,
            },
            Operation {
                method: "GET",
                path: concat!($path, "/{token_id}"),
                name: concat!($name, ".get"),
                about: "Read a token",
                needs: READ,
                query: &[],
                body: Body::None,
                answers: Answers::Result(ANSWER),
                run: get,
            },
            Operation {
                method: "PUT",
                path: concat!($path, "/{token_id}"),
                name: concat!($name, ".update"),
                about: "Change a token",
                needs: WRITE,
                query: &[],
                body: Body::Members(UPDATE),
                answers: Answers::Result(ANSWER),
                run: update,
            },
            Operation {
                method: "DELETE",
                path: concat!($path, "/{token_id}"),
                name: concat!($name, ".delete"),
                about: "Revoke a token: the next request with it is refused",
                needs: WRITE,
                query: &[],
                body: Body::None,
                answers: Answers::Result(&[required("id", TEXT)]),
                run: delete,
            },
            Operation {
                method: "PUT",
                path: concat!($path, "/{token_id}/value"),
                name: concat!($name, ".roll"),
                about: "Give a token a new value, shown this once; the old one stops",
                needs: WRITE,
                query: &[],
                body: Body::Optional(&[]),
                answers: Answers::Value(TEXT),
                run: roll,
            },
        ]
    };
}

pub(super) const USER: &[Operation] = operations!("/user/tokens", "user.tokens");
pub(super) const ACCOUNT: &[Operation] =
    operations!("/accounts/{account_id}/tokens", "accounts.tokens");

/// A token as it is stored.
struct Stored {
    id: String,
    name: String,
    digest: [u8; 32],
    supplied_length: Option<usize>,
    disabled: bool,
    policies: Value,
    condition: Value,
    not_before: Option<i64>,
    expires_on: Option<i64>,
    issued_on: i64,
    modified_on: i64,
    last_used_on: Option<i64>,
}

const COLUMNS: &str = "id, name, digest, supplied_length, disabled, policies, condition, not_before, expires_on, issued_on, modified_on, last_used_on";

fn of_row(row: &Row<'_>) -> Result<Stored, Problem> {
    let condition = match row.get::<_, Option<String>>(6)? {
        Some(text) => serde_json::from_str(&text)?,
        None => Value::Null,
    };
    Ok(Stored {
        id: row.get(0)?,
        name: row.get(1)?,
        digest: row.get(2)?,
        supplied_length: row.get::<_, Option<i64>>(3)?.map(|length| length as usize),
        disabled: row.get(4)?,
        policies: serde_json::from_str(&row.get::<_, String>(5)?)?,
        condition,
        not_before: row.get(7)?,
        expires_on: row.get(8)?,
        issued_on: row.get(9)?,
        modified_on: row.get(10)?,
        last_used_on: row.get(11)?,
    })
}

/// Every token, for a snapshot.
pub(super) fn read_all(database: &Connection, account: &str) -> Result<Vec<Token>, Problem> {
    let mut statement = database.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens"))?;
    let mut rows = statement.query([])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(compile(of_row(row)?, account));
    }
    Ok(tokens)
}

/// One token, for a snapshot.
pub(super) fn read(
    database: &Connection,
    id: &str,
    account: &str,
) -> Result<Option<Token>, Problem> {
    Ok(find(database, id)?.map(|stored| compile(stored, account)))
}

fn find(database: &Connection, id: &str) -> Result<Option<Stored>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1");
    let mut statement = database.prepare_cached(&query)?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(of_row).transpose()
}

/// Whether a value is a token of this instance, or looks like one that was.
pub(super) fn is_token(database: &Connection, value: &str) -> Result<bool, Problem> {
    if has_token_form(value.as_bytes()) {
        return Ok(true);
    }
    let query = "SELECT 1 FROM tokens WHERE digest = ?1";
    let digest: [u8; 32] = Sha256::digest(value).into();
    let found = database.query_row(query, [digest], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

fn compile(stored: Stored, account: &str) -> Token {
    let networks = |name: &str| -> Box<[IpNet]> {
        let listed = stored.condition["request_ip"][name].as_array();
        let texts = listed.into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(network).collect()
    };
    let (addresses, not_addresses) = (networks("in"), networks("not_in"));
    Token {
        id: stored.id.into(),
        name: stored.name.into(),
        digest: stored.digest,
        supplied_length: stored.supplied_length,
        disabled: stored.disabled,
        not_before: stored.not_before.map(|seconds| seconds.max(0) as u64),
        expires_on: stored.expires_on.map(|seconds| seconds.max(0) as u64),
        addresses,
        not_addresses,
        // Policies are checked when they are taken; for those of another account nothing is granted.
        grants: Grants::of_policies(&stored.policies, account).unwrap_or_default(),
        last_used: AtomicU64::new(0),
    }
}

fn network(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().ok();
    net.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

fn is_network(text: &str) -> bool {
    network(text).is_some()
}

fn show(stored: &Stored) -> Value {
    let now = unix_seconds() as i64;
    let status = match (stored.disabled, stored.expires_on) {
        (true, _) => "disabled",
        (false, Some(until)) if until <= now => "expired",
        _ => "active",
    };
    let mut shown = json!({
        "id": stored.id,
        "name": stored.name,
        "status": status,
        "policies": stored.policies,
        "issued_on": time(stored.issued_on),
        "modified_on": time(stored.modified_on),
        "last_used_on": stored.last_used_on.map(|seconds| time(seconds * 1000)),
        "creator_email_at_creation": null,
    });
    if !stored.condition.is_null() {
        shown["condition"] = stored.condition.clone();
    }
    for (name, seconds) in [
        ("not_before", stored.not_before),
        ("expires_on", stored.expires_on),
    ] {
        if let Some(seconds) = seconds {
            shown[name] = whole_time(seconds);
        }
    }
    shown
}

/// A time without fractions, as people set it.
fn whole_time(seconds: i64) -> Value {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => Value::from(time.to_string()),
        Err(_) => Value::Null,
    }
}

/// The token that the path names.
fn existing(call: &Call<'_>) -> Result<Stored, Problem> {
    find(call.database, call.parameter("token_id"))?.ok_or_else(|| Problem::not_found("token"))
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let order = match call.text("direction") {
        Some("asc") => "ASC",
        _ => "DESC",
    };
    let all = call.query.get("include_expired") != Some(&Value::Bool(false));
    call.select_page(
        COLUMNS,
        "tokens WHERE ?1 OR expires_on IS NULL OR expires_on > ?2",
        &format!("issued_on {order}, id {order}"),
        params![all, unix_seconds() as i64],
        |row| Ok(show(&of_row(row)?)),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Result(show(&existing(call)?)))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let value = generate_token()
        .map_err(|_| Problem::new(500, 7009, "The system gives no random bytes"))?;
    insert(call, &value)
}

/// Makes a token of this value out of the body.
fn insert(call: &mut Call<'_>, value: &str) -> Result<Answer, Problem> {
    let now = now();
    let mut stored = Stored {
        id: hex32(),
        name: String::new(),
        digest: Sha256::digest(value).into(),
        supplied_length: (!has_token_form(value.as_bytes())).then_some(value.len()),
        disabled: false,
        policies: Value::Null,
        condition: Value::Null,
        not_before: None,
        expires_on: None,
        issued_on: now,
        modified_on: now,
        last_used_on: None,
    };
    take(&mut stored, call)?;
    let statement = "INSERT INTO tokens (id, name, digest, supplied_length, disabled, policies, condition, not_before, expires_on, issued_on, modified_on)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    call.database.prepare_cached(statement)?.execute(params![
        stored.id,
        stored.name,
        stored.digest,
        stored.supplied_length.map(|length| length as i64),
        stored.disabled,
        stored.policies.to_string(),
        (!stored.condition.is_null()).then(|| stored.condition.to_string()),
        stored.not_before,
        stored.expires_on,
        stored.issued_on,
        stored.modified_on,
    ])?;
    let mut shown = show(&stored);
    call.audit("create", (RESOURCE, &stored.id), None, Some(&shown))?;
    call.changes.push(Change::Token(stored.id));
    shown["value"] = Value::from(value);
    Ok(Answer::Result(shown))
}

fn update(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut stored = existing(call)?;
    let old = show(&stored);
    if let Some(status) = call.body["status"].as_str() {
        stored.disabled = status == "disabled";
    }
    take(&mut stored, call)?;
    stored.modified_on = now().max(stored.modified_on + 1);
    call.database.execute(
        "UPDATE tokens SET name = ?2, disabled = ?3, policies = ?4, condition = ?5, not_before = ?6, expires_on = ?7, modified_on = ?8 WHERE id = ?1",
        params![
            stored.id,
            stored.name,
            stored.disabled,
            stored.policies.to_string(),
            (!stored.condition.is_null()).then(|| stored.condition.to_string()),
            stored.not_before,
            stored.expires_on,
            stored.modified_on,
        ],
    )?;
    let shown = show(&stored);
    call.audit("update", (RESOURCE, &stored.id), Some(&old), Some(&shown))?;
    call.changes.push(Change::Token(stored.id));
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let stored = existing(call)?;
    call.database
        .execute("DELETE FROM tokens WHERE id = ?1", [&stored.id])?;
    let old = show(&stored);
    call.audit("delete", (RESOURCE, &stored.id), Some(&old), None)?;
    call.changes.push(Change::Token(stored.id.clone()));
    Ok(Answer::Result(json!({"id": stored.id})))
}

fn roll(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut stored = existing(call)?;
    let held = Grants::of_policies(&stored.policies, &call.office.account);
    refuse_escalation(call, &held.unwrap_or_default())?;
    let old = show(&stored);
    let value = generate_token()
        .map_err(|_| Problem::new(500, 7009, "The system gives no random bytes"))?;
    stored.modified_on = now().max(stored.modified_on + 1);
    let digest: [u8; 32] = Sha256::digest(&value).into();
    call.database.execute(
        "UPDATE tokens SET digest = ?2, supplied_length = NULL, modified_on = ?3 WHERE id = ?1",
        params![stored.id, digest, stored.modified_on],
    )?;
    let shown = show(&stored);
    call.audit("roll", (RESOURCE, &stored.id), Some(&old), Some(&shown))?;
    call.changes.push(Change::Token(stored.id));
    Ok(Answer::Result(value.into()))
}

/// Takes name, policies, condition and times of the body.
fn take(stored: &mut Stored, call: &Call<'_>) -> Result<(), Problem> {
    let name = call.body["name"].as_str().unwrap_or_default();
    if !(1..=120).contains(&name.chars().count()) {
        return Err(Problem::new(
            400,
            400,
            "a token's name has 1 to 120 characters",
        ));
    }
    stored.name = name.to_owned();
    stored.policies = normalised(&call.body["policies"]);
    let grants = Grants::of_policies(&stored.policies, &call.office.account);
    let grants = grants.map_err(|error| match error {
        PolicyError::Group(_) => Problem::new(400, 1001, error.to_string()),
        error => Problem::field(&["body", "policies"], error.to_string()),
    })?;
    refuse_escalation(call, &grants)?;
    if let Some(condition) = call.body.get("condition") {
        stored.condition = condition.clone();
    }
    for (name, slot) in [
        ("not_before", &mut stored.not_before),
        ("expires_on", &mut stored.expires_on),
    ] {
        match call.body.get(name) {
            Some(Value::String(text)) => *slot = seconds(text),
            Some(_) => *slot = None,
            None => {}
        }
    }
    match (stored.not_before, stored.expires_on) {
        (Some(from), Some(until)) if until <= from => Err(Problem::field(
            &["body", "expires_on"],
            "must be later than not_before",
        )),
        _ => Ok(()),
    }
}

/// Whoever may make tokens must not make one, nor get the value of one, that may do more than everything but administration.
fn refuse_escalation(call: &Call<'_>, grants: &Grants) -> Result<(), Problem> {
    match grants.permit_somewhere(P::Admin) && !call.caller.may(P::Admin, None) {
        true => Err(Problem::forbidden(
            "The token lacks the permission Ringgate Admin, and so may not give it to another or take another's value",
        )),
        false => Ok(()),
    }
}

/// Policies with an id each and the names of their groups, as Cloudflare answers them.
fn normalised(policies: &Value) -> Value {
    let mut policies = policies.clone();
    for policy in policies.as_array_mut().into_iter().flatten() {
        if !policy["id"].is_string() {
            policy["id"] = Value::from(hex32());
        }
        let groups = policy["permission_groups"].as_array_mut();
        for group in groups.into_iter().flatten() {
            if let Some(known) = group["id"].as_str().and_then(access::group) {
                group["id"] = Value::from(known.id.as_str());
                group["name"] = Value::from(known.name);
            }
        }
    }
    policies
}

fn groups(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let matches = |name: &str, wanted: Option<&str>| {
        wanted.is_none_or(|wanted| {
            name.to_ascii_lowercase()
                .contains(&wanted.to_ascii_lowercase())
        })
    };
    let (name, scope) = (call.text("name"), call.text("scope"));
    let items: Vec<Value> = PERMISSION_GROUPS
        .iter()
        .filter(|group| matches(group.name, name) && matches(SCOPE, scope))
        .map(|group| {
            json!({
                "id": group.id,
                "name": group.name,
                "scopes": [SCOPE],
                "category": "ai_and_machine_learning",
                "is_selectable": true,
            })
        })
        .collect();
    let total = items.len() as i64;
    Ok(Answer::Page {
        items,
        page: 1,
        per_page: total.max(1),
        total,
    })
}

const SCOPE: &str = "com.cloudflare.api.account";

fn verify(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let Caller::Token(token) = call.caller.clone() else {
        return Err(Problem::new(400, 1001, "Missing Authorization header"));
    };
    let stored = find(call.database, &token.id)?;
    let stored = stored.ok_or_else(|| Problem::new(401, 1000, "Invalid API Token"))?;
    let shown = show(&stored);
    let mut result = json!({"id": shown["id"], "status": shown["status"]});
    for name in ["expires_on", "not_before"] {
        if !shown[name].is_null() {
            result[name] = shown[name].clone();
        }
    }
    if result["status"] == "active" {
        let message = "This API Token is valid and active".to_owned();
        call.messages.push((10000, message));
    }
    Ok(Answer::Result(result))
}

/// Makes the first token of an instance, which may do everything; `None` where there is one already. Without a `value` one
/// is generated.
pub(super) fn create_first(
    call: &mut Call<'_>,
    value: Option<&str>,
) -> Result<Option<String>, Problem> {
    let any = call
        .database
        .query_row("SELECT 1 FROM tokens LIMIT 1", [], |_| Ok(()))
        .optional()?;
    if any.is_some() {
        return Ok(None);
    }
    let value = match value {
        Some(value) => value.to_owned(),
        None => generate_token()
            .map_err(|_| Problem::new(500, 7009, "The system gives no random bytes"))?,
    };
    let admin = access::group("Ringgate Admin").map_or("", |group| group.id.as_str());
    let resource = format!("{SCOPE}.{}", call.office.account);
    call.body = json!({
        "name": "initial",
        "policies": [{"effect": "allow", "permission_groups": [{"id": admin}], "resources": {resource: "*"}}],
    });
    insert(call, &value)?;
    Ok(Some(value))
}

/// Stores when tokens were last shown; nobody waits for it.
pub(super) fn store_last_used(
    database: &Connection,
    tokens: impl Iterator<Item = (String, u64)>,
) -> rusqlite::Result<()> {
    let statement =
        "UPDATE tokens SET last_used_on = ?2 WHERE id = ?1 AND ifnull(last_used_on, 0) < ?2";
    let mut statement = database.prepare_cached(statement)?;
    for (id, at) in tokens {
        statement.execute(params![id, at as i64])?;
    }
    Ok(())
}

/// When a token was last shown, where it was since the start.
pub(super) fn last_used(token: &Token) -> Option<(String, u64)> {
    let at = token.last_used.load(Ordering::Relaxed);
    (at > 0).then(|| (token.id.to_string(), at))
}
