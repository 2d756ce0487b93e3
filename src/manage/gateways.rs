//! Gateways (spec: control plane 2).

use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::custom_providers;
use super::logs::{Ask, Later};
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging, time};
use super::publish::Change;
use super::schema::{
    Field, Flaw, INTEGER, Kind, QUERY_TEXT, TEXT, check_members, optional, required,
    required_nullable,
};
use crate::providers::Slug;
use crate::store::{now, uuid};

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways";
const ONE: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}";
/// What the audit log calls a gateway.
const RESOURCE: &str = "ai_gateway.gateway";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "gateways.list",
        about: "List gateways",
        needs: READ,
        query: &[
            optional("search", QUERY_TEXT),
            paging(1, 100)[0],
            paging(1, 100)[1],
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: PATH,
        name: "gateways.create",
        about: "Create a gateway",
        needs: WRITE,
        query: &[],
        body: Body::Members(CREATE),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "gateways.get",
        about: "Read a gateway",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "PUT",
        path: ONE,
        name: "gateways.update",
        about: "Change a gateway: what is left out stays, null resets",
        needs: WRITE,
        query: &[],
        body: Body::Members(SETTINGS),
        answers: Answers::Result(ANSWER),
        run: update,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "gateways.delete",
        about: "Delete a gateway with its logs, routes and provider configurations; secrets stay",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
    Operation {
        method: "POST",
        path: "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/purge_cache",
        name: "gateways.purge_cache",
        about: "Forget every stored answer of a gateway",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(&[ID]),
        run: purge_cache,
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/url/{provider}",
        name: "gateways.url",
        about: "The base URL of a provider on a gateway",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Value(TEXT),
        run: url,
    },
];

const ID_RULE: &str =
    "must be 1 to 64 characters: lower case letters, digits and _, joined by single -";
const ID: Field = required(
    "id",
    Kind::Matched(is_id, ID_RULE, "^[a-z0-9_]+(?:-[a-z0-9_]+)*$"),
);
const CATEGORIES: &[&str] = &[
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "P1",
];
const VERDICT: Kind = Kind::Choice(&["FLAG", "BLOCK"]);
const EXPORTER: &[Field] = &[
    required("url", Kind::Checked(is_url, "must be an http or https URL")),
    required("headers", Kind::Map(None, &TEXT)),
    optional("authorization", TEXT),
    optional("content_type", Kind::Choice(&["json", "protobuf"])),
];
const DLP_ACTION: Kind = Kind::Choice(&["BLOCK", "FLAG"]);
const DLP_POLICY: &[Field] = &[
    required("id", TEXT),
    required("enabled", Kind::Boolean),
    required("action", DLP_ACTION),
    required(
        "check",
        Kind::List(&Kind::Choice(&["REQUEST", "RESPONSE"]), 0, 2),
    ),
    required("profiles", Kind::List(&TEXT, 0, 1000)),
];
const GUARDRAILS: &[Field] = &[
    required("prompt", Kind::Map(Some(CATEGORIES), &VERDICT)),
    required("response", Kind::Map(Some(CATEGORIES), &VERDICT)),
];
const DIMENSION: Kind = Kind::Record(&[
    required("mode", Kind::Choice(&["filter", "partition"])),
    optional("values", Kind::List(&Kind::Scalar, 0, 1000)),
]);
const RULE: &[Field] = &[
    required("limit", Kind::Number(0.0, 1e15)),
    required("limitType", Kind::Choice(&["cost"])),
    required("window", Kind::Integer(0, i64::MAX)),
    optional("id", Kind::Text(1, 128)),
    optional("enabled", Kind::Boolean),
    optional("technique", Kind::Choice(&["fixed", "sliding"])),
    optional("model", DIMENSION),
    optional("provider", DIMENSION),
    optional("metadata", Kind::Map(None, &DIMENSION)),
];
const SPEND_LIMITS: &[Field] = &[
    optional("enabled", Kind::Boolean),
    optional("rules", Kind::List(&Kind::Record(RULE), 0, 20)),
];
const STRIPE: &[Field] = &[
    required("authorization", TEXT),
    required(
        "usage_events",
        Kind::List(&Kind::Record(&[required("payload", TEXT)]), 0, 1000),
    ),
];

/// Every setting, in the order of control plane 2.1; our own behind them.
pub(super) const SETTINGS: &[Field] = &[
    required("cache_invalidate_on_update", Kind::Boolean),
    required_nullable("cache_ttl", Kind::Integer(0, 2_592_000)),
    required("collect_logs", Kind::Boolean),
    required_nullable("rate_limiting_interval", Kind::Integer(0, i64::MAX)),
    required_nullable("rate_limiting_limit", Kind::Integer(0, i64::MAX)),
    optional(
        "rate_limiting_technique",
        Kind::Choice(&["fixed", "sliding"]),
    ),
    optional("authentication", Kind::Boolean),
    optional("log_management", Kind::Integer(10_000, 10_000_000)),
    optional(
        "log_management_strategy",
        Kind::Choice(&["STOP_INSERTING", "DELETE_OLDEST"]),
    ),
    optional("logpush", Kind::Boolean),
    optional(
        "logpush_public_key",
        Kind::Checked(
            is_rsa_key,
            "must be a PEM RSA public key of 16 to 1024 characters",
        ),
    ),
    optional("log_classification", Kind::Boolean),
    optional("otel", Kind::List(&Kind::Record(EXPORTER), 0, 20)),
    optional("retry_max_attempts", Kind::Integer(1, 5)),
    optional("retry_delay", Kind::Integer(0, 60_000)),
    optional(
        "retry_backoff",
        Kind::Choice(&["constant", "linear", "exponential"]),
    ),
    optional("store_id", TEXT),
    optional("byok_only", Kind::Boolean),
    optional("zdr", Kind::Boolean),
    optional("stripe", Kind::Record(STRIPE)),
    optional(
        "workers_ai_billing_mode",
        Kind::Choice(&["postpaid", "unified"]),
    ),
    optional(
        "dlp",
        Kind::OneOf(&[
            &[
                required("enabled", Kind::Boolean),
                required("action", DLP_ACTION),
                required("profiles", Kind::List(&TEXT, 0, 1000)),
            ],
            &[
                required("enabled", Kind::Boolean),
                required("policies", Kind::List(&Kind::Record(DLP_POLICY), 0, 1000)),
            ],
        ]),
    ),
    optional("guardrails", Kind::Record(GUARDRAILS)),
    optional("spend_limits", Kind::Record(SPEND_LIMITS)),
    optional("cache_streams", Kind::Boolean),
    optional("cache_ttl_header_opts_in", Kind::Boolean),
    optional("coalesce", Kind::Boolean),
    optional("collect_log_payload", Kind::Boolean),
    optional("hedge_after_ms", Kind::Integer(0, 600_000)),
    optional("hedge_budget_percent", Kind::Integer(0, 100)),
    optional("log_redaction", Kind::Boolean),
    optional("prefer_stored_keys", Kind::Boolean),
    optional("retry_jitter", Kind::Boolean),
    optional("server_timing", Kind::Boolean),
];

const CREATE: &[Field] = &{
    let mut fields = [ID; SETTINGS.len() + 1];
    let mut index = 0;
    while index < SETTINGS.len() {
        fields[index + 1] = SETTINGS[index];
        index += 1;
    }
    fields
};

const ANSWER: &[Field] = &[
    ID,
    required("account_id", TEXT),
    required("account_tag", TEXT),
    required("internal_id", TEXT),
    required("is_default", Kind::Boolean),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
    required("cache_invalidate_on_update", Kind::Boolean),
    required_nullable("cache_ttl", INTEGER),
    required("collect_logs", Kind::Boolean),
    required_nullable("rate_limiting_interval", INTEGER),
    required_nullable("rate_limiting_limit", INTEGER),
    required("effective", Kind::Any),
];

/// What a setting is where it was never set.
fn default_of(name: &str) -> Value {
    match name {
        "authentication"
        | "cache_streams"
        | "cache_ttl_header_opts_in"
        | "collect_logs"
        | "collect_log_payload"
        | "log_redaction"
        | "cache_invalidate_on_update" => json!(true),
        "cache_ttl"
        | "rate_limiting_interval"
        | "rate_limiting_limit"
        | "hedge_after_ms"
        | "hedge_budget_percent" => json!(0),
        "rate_limiting_technique" => json!("fixed"),
        "log_management" => json!(10_000_000),
        "log_management_strategy" => json!("DELETE_OLDEST"),
        "workers_ai_billing_mode" => json!("postpaid"),
        "spend_limits" => json!({"enabled": false, "rules": []}),
        "logpush" | "log_classification" | "byok_only" | "zdr" | "coalesce"
        | "prefer_stored_keys" | "retry_jitter" | "server_timing" => json!(false),
        _ => Value::Null,
    }
}

/// Answered with their effective value even where they were never set: Terraform computes them (control plane 2.2).
const COMPUTED: [&str; 2] = ["spend_limits", "workers_ai_billing_mode"];

/// A gateway as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub id: String,
    pub internal_id: String,
    /// What was set, by name.
    pub settings: Map<String, Value>,
    pub created_at: i64,
    pub modified_at: i64,
}

impl Row {
    /// A setting as applied.
    pub fn effective(&self, name: &str) -> Value {
        match self.settings.get(name) {
            Some(value) if !value.is_null() => value.clone(),
            _ => default_of(name),
        }
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.effective(name) == Value::Bool(true)
    }

    /// Whether the configuration file declares it, which knows no times.
    pub fn is_declared(&self) -> bool {
        self.created_at == 0
    }
}

/// Tells what is stored now of a gateway's answers from what is forgotten.
pub(super) fn cache_epoch(database: &Connection, gateway: &str) -> rusqlite::Result<u64> {
    let query = "SELECT epoch FROM cache_epochs WHERE gateway_id = ?1";
    let mut statement = database.prepare_cached(query)?;
    let epoch: Option<i64> = statement
        .query_row([gateway], |row| row.get(0))
        .optional()?;
    Ok(epoch.map_or(0, i64::unsigned_abs))
}

/// Makes every stored answer of a gateway one that is not found any more.
fn forget_answers(database: &Connection, gateway: &str) -> rusqlite::Result<()> {
    let statement = "INSERT INTO cache_epochs (gateway_id, epoch) VALUES (?1, 1)
        ON CONFLICT (gateway_id) DO UPDATE SET epoch = epoch + 1";
    database.prepare_cached(statement)?.execute([gateway])?;
    Ok(())
}

pub(super) fn read(database: &Connection, id: &str) -> Result<Option<Row>, Problem> {
    let query = "SELECT internal_id, settings, created_at, modified_at FROM gateways WHERE id = ?1";
    let found = database
        .prepare_cached(query)?
        .query_row([id], |row| {
            Ok((
                row.get(0)?,
                row.get::<_, String>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        })
        .optional()?;
    let Some((internal_id, settings, created_at, modified_at)) = found else {
        return Ok(None);
    };
    Ok(Some(Row {
        id: id.to_owned(),
        internal_id,
        settings: serde_json::from_str(&settings)?,
        created_at,
        modified_at,
    }))
}

/// A gateway that the path names, stored or declared.
pub(super) fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let id = call.parameter("gateway_id");
    if let Some(row) = call.office.declared.load().gateways.get(id) {
        return Ok(row.clone());
    }
    read(call.database, id)?.ok_or_else(|| Problem::not_found("gateway"))
}

/// Refuses changes of what the configuration file declares (resolutions 27).
fn refuse_declared(call: &Call<'_>) -> Result<(), Problem> {
    let declared = call.office.declared.load();
    match declared.gateways.contains_key(call.parameter("gateway_id")) {
        true => Err(Problem::field(
            &["body"],
            format!(
                "this gateway is declared in {}; change it there",
                declared.file
            ),
        )),
        false => Ok(()),
    }
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let search = call.text("search").unwrap_or_default().to_owned();
    let (page, per_page) = call.page();
    let declared = call.office.declared.load_full();
    let mut ids: Vec<String> = declared
        .gateways
        .keys()
        .filter(|id| id.contains(&search))
        .cloned()
        .collect();
    let query = "SELECT id FROM gateways WHERE instr(id, ?1) > 0";
    let mut statement = call.database.prepare_cached(query)?;
    for id in statement.query_map([&search], |row| row.get::<_, String>(0))? {
        let id = id?;
        if !declared.gateways.contains_key(&id) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    let total = ids.len() as i64;
    let skipped = (page - 1).saturating_mul(per_page).min(total) as usize;
    let mut items = Vec::new();
    for id in ids.iter().skip(skipped).take(per_page as usize) {
        let row = match declared.gateways.get(id) {
            Some(row) => Some(row.clone()),
            None => read(call.database, id)?,
        };
        items.extend(row.map(|row| show(&row, &call.office.account)));
    }
    Ok(Answer::Page {
        items,
        page,
        per_page,
        total,
    })
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    Ok(Answer::Result(show(&row, &call.office.account)))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let id = call.body["id"].as_str().unwrap_or_default().to_owned();
    if exists(call, &id)? {
        return Err(Problem::exists(
            &["body", "id"],
            &format!("a gateway {id:?}"),
        ));
    }
    let now = now();
    let mut row = Row {
        id,
        internal_id: uuid(),
        settings: Map::new(),
        created_at: now,
        modified_at: now,
    };
    take_settings(&mut row, call)?;
    let statement = "INSERT INTO gateways (id, internal_id, settings, created_at, modified_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let settings = Value::Object(row.settings.clone()).to_string();
    call.database.execute(
        statement,
        params![
            row.id,
            row.internal_id,
            settings,
            row.created_at,
            row.modified_at
        ],
    )?;
    let shown = show(&row, &call.office.account);
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    call.changes.push(Change::Gateway(row.id));
    Ok(Answer::Result(shown))
}

fn update(call: &mut Call<'_>) -> Result<Answer, Problem> {
    refuse_declared(call)?;
    let mut row = existing(call)?;
    let old = show(&row, &call.office.account);
    take_settings(&mut row, call)?;
    row.modified_at = now().max(row.modified_at + 1);
    let settings = Value::Object(row.settings.clone()).to_string();
    call.database.execute(
        "UPDATE gateways SET settings = ?2, modified_at = ?3 WHERE id = ?1",
        params![row.id, settings, row.modified_at],
    )?;
    if row.is_on("cache_invalidate_on_update") {
        forget_answers(call.database, &row.id)?;
    }
    let shown = show(&row, &call.office.account);
    call.audit("update", (RESOURCE, &row.id), Some(&old), Some(&shown))?;
    call.changes.push(Change::Gateway(row.id));
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    refuse_declared(call)?;
    let row = existing(call)?;
    for statement in [
        "DELETE FROM provider_configs WHERE gateway_id = ?1",
        "DELETE FROM gateways WHERE id = ?1",
    ] {
        call.database.execute(statement, [&row.id])?;
    }
    forget_answers(call.database, &row.id)?;
    let shown = show(&row, &call.office.account);
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    call.changes.push(Change::Gateway(row.id.clone()));
    call.changes.push(Change::Domains);
    let gateway = row.id;
    Ok(Answer::Later(Box::new(Later {
        ask: Ask::Forget {
            gateway,
            answer: shown,
        },
        line: None,
    })))
}

/// Of declared gateways too: nothing that the file says is changed.
fn purge_cache(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    forget_answers(call.database, &row.id)?;
    call.audit("purge_cache", (RESOURCE, &row.id), None, None)?;
    call.changes.push(Change::Gateway(row.id.clone()));
    Ok(Answer::Result(json!({"id": row.id})))
}

fn url(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    let provider = call.parameter("provider");
    if provider != "compat" && !custom_providers::is_known(call, provider)? {
        return Err(Problem::field(
            &["path", "provider"],
            format!("unknown provider {provider:?}"),
        ));
    }
    let declared = call.office.declared.load();
    let base = match (&declared.public_url, &call.host) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(host)) => format!("http://{host}"),
        (None, None) => String::new(),
    };
    let url = format!("{base}/v1/{}/{}/{provider}", call.office.account, row.id);
    Ok(Answer::Result(url.into()))
}

/// The name that a provider goes by in snapshots and logs: the slug behind an alias, or `custom-{slug}` where there is such a
/// provider. `None`: there is none.
pub(super) fn canonical_provider(
    call: &Call<'_>,
    provider: &str,
) -> Result<Option<String>, Problem> {
    if let Some(slug) = Slug::parse(provider) {
        return Ok(Some(slug.as_str().to_owned()));
    }
    let known = custom_providers::is_known(call, provider)?;
    Ok(known.then(|| provider.to_owned()))
}

/// Whether a gateway is stored or declared.
pub(super) fn exists(call: &Call<'_>, id: &str) -> Result<bool, Problem> {
    let declared = call.office.declared.load().gateways.contains_key(id);
    Ok(declared || read(call.database, id)?.is_some())
}

/// Makes a gateway with every setting left to its default; `false` where it is there already.
pub(super) fn create_default(call: &mut Call<'_>, id: &str) -> Result<bool, Problem> {
    if exists(call, id)? {
        return Ok(false);
    }
    call.body = json!({
        "id": id,
        "authentication": true,
        "cache_invalidate_on_update": true,
        "cache_ttl": 0,
        "collect_logs": true,
        "rate_limiting_interval": 0,
        "rate_limiting_limit": 0,
    });
    create(call).map(|_| true)
}

/// Takes the settings of the body: `null` resets, what is left out stays (control plane 2.2).
fn take_settings(row: &mut Row, call: &Call<'_>) -> Result<(), Problem> {
    for field in SETTINGS {
        match call.body.get(field.name) {
            None => {}
            Some(Value::Null) if !field.required => {
                row.settings.remove(field.name);
            }
            Some(value) => {
                row.settings.insert(field.name.to_owned(), value.clone());
            }
        }
    }
    settle(row)
}

/// The rules between settings, and what the gateway fills in.
fn settle(row: &mut Row) -> Result<(), Problem> {
    if row.settings.get("store_id").is_some_and(|id| id == "") {
        row.settings.remove("store_id");
    }
    if !row.is_on("collect_logs") && row.settings.contains_key("log_classification") {
        row.settings
            .insert("log_classification".to_owned(), json!(false));
    }
    if let Some(limits) = row.settings.get_mut("spend_limits") {
        settle_spend_limits(limits)?;
    }
    let policies = row
        .settings
        .get("dlp")
        .and_then(|dlp| dlp["policies"].as_array());
    let ids = policies
        .into_iter()
        .flatten()
        .map(|policy| policy["id"].clone());
    refuse_twins(ids, &["body", "dlp", "policies"])
}

fn settle_spend_limits(limits: &mut Value) -> Result<(), Problem> {
    if limits.get("enabled").is_none_or(Value::is_null) {
        limits["enabled"] = json!(false);
    }
    if limits.get("rules").is_none_or(Value::is_null) {
        limits["rules"] = json!([]);
    }
    let enabled = limits["enabled"] == true;
    let rules = limits["rules"].as_array_mut().into_iter().flatten();
    let mut ids = Vec::new();
    for (index, rule) in rules.enumerate() {
        let at = index.to_string();
        if rule.get("id").is_none_or(Value::is_null) {
            rule["id"] = Value::from(&uuid()[..8]);
        }
        for (name, default) in [("enabled", json!(true)), ("technique", json!("sliding"))] {
            if rule.get(name).is_none_or(Value::is_null) {
                rule[name] = default;
            }
        }
        ids.push(rule["id"].clone());
        for name in ["limit", "window"] {
            let positive = rule[name].as_f64().is_some_and(|number| number > 0.0);
            if enabled && rule["enabled"] == true && !positive {
                let path = ["body", "spend_limits", "rules", &at, name];
                return Err(Problem::field(&path, format!("{name} must be above 0")));
            }
        }
    }
    refuse_twins(ids.into_iter(), &["body", "spend_limits", "rules"])
}

fn refuse_twins(ids: impl Iterator<Item = Value>, path: &[&str]) -> Result<(), Problem> {
    let mut seen = Vec::new();
    for id in ids {
        if seen.contains(&id) {
            return Err(Problem::field(path, format!("the id {id} stands twice")));
        }
        seen.push(id);
    }
    Ok(())
}

/// A gateway as the API answers it: `null` where nothing was set, and `effective` with everything as applied.
pub(super) fn show(row: &Row, account: &str) -> Value {
    let mut shown = Map::new();
    let mut effective = Map::new();
    for field in SETTINGS {
        let applied = row.effective(field.name);
        let set = match row.settings.get(field.name) {
            Some(value) => value.clone(),
            None if field.required || COMPUTED.contains(&field.name) => applied.clone(),
            None => Value::Null,
        };
        shown.insert(field.name.to_owned(), set);
        effective.insert(field.name.to_owned(), applied);
    }
    for (name, value) in [
        ("id", json!(row.id)),
        ("account_id", json!(account)),
        ("account_tag", json!(account)),
        ("internal_id", json!(row.internal_id)),
        (
            "is_default",
            json!(row.id == crate::limits::DEFAULT_GATEWAY),
        ),
        ("created_at", time(row.created_at)),
        ("modified_at", time(row.modified_at)),
        ("effective", Value::Object(effective)),
    ] {
        shown.insert(name.to_owned(), value);
    }
    Value::Object(shown)
}

/// A gateway of the configuration file. Every setting may be left out there.
pub(super) fn declared(id: &str, settings: Map<String, Value>) -> Result<Row, Vec<Flaw>> {
    let mut members = settings;
    let mut flaws = Vec::new();
    const LOOSE: [Field; SETTINGS.len()] = {
        let mut fields = [ID; SETTINGS.len()];
        let mut index = 0;
        while index < SETTINGS.len() {
            fields[index] = Field {
                required: false,
                ..SETTINGS[index]
            };
            index += 1;
        }
        fields
    };
    check_members(&LOOSE, &mut members, &mut Vec::new(), &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let mut row = Row {
        id: id.to_owned(),
        internal_id: format!("declared-{id}"),
        settings: members,
        created_at: 0,
        modified_at: 0,
    };
    match settle(&mut row) {
        Ok(()) => Ok(row),
        Err(problem) => Err(problem
            .errors
            .into_iter()
            .map(|fault| Flaw {
                path: fault.path,
                message: fault.message,
            })
            .collect()),
    }
}

/// `^[a-z0-9_]+(?:-[a-z0-9_]+)*$`, 1 to 64 characters.
fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(allowed))
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// A PEM block that holds an RSA public key, with or without its algorithm's name (RFC 7468 section 13, RFC 8017 A.1.1).
fn is_rsa_key(text: &str) -> bool {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let [first, body @ .., last] = &lines[..] else {
        return false;
    };
    let kind = first
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.strip_suffix("-----"));
    let framed = matches!(kind, Some("PUBLIC KEY" | "RSA PUBLIC KEY"))
        && last
            .strip_prefix("-----END ")
            .and_then(|rest| rest.strip_suffix("-----"))
            == kind;
    (16..=1024).contains(&text.len())
        && framed
        && STANDARD
            .decode(body.concat())
            .is_ok_and(|der| RsaPublicKey::from_der(&der).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_the_rule() {
        for id in ["a", "my-gateway", "a_b-c-0", &"x".repeat(64)] {
            assert!(is_id(id), "{id}");
        }
        for id in [
            "",
            "A",
            "a--b",
            "-a",
            "a-",
            "a.b",
            "a/b",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn every_setting_of_the_file_is_one_of_the_api() {
        let names: Vec<&str> = SETTINGS.iter().map(|field| field.name).collect();
        for key in crate::config::GATEWAY_KEYS {
            assert!(names.contains(&key), "{key}");
        }
        assert_eq!(names.len(), crate::config::GATEWAY_KEYS.len());
    }

    #[test]
    fn keys_for_exported_logs_must_be_rsa() {
        let pair =
            aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::signature::KeyPair as _;
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("encoded");
        let pem = |kind: &str, der: &[u8]| {
            let text = STANDARD.encode(der);
            let lines: Vec<&str> = text
                .as_bytes()
                .chunks(64)
                .map(|line| std::str::from_utf8(line).expect("base64"))
                .collect();
            format!(
                "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
                lines.join("\n")
            )
        };
        assert!(is_rsa_key(&pem("PUBLIC KEY", der.as_ref())));
        assert!(is_rsa_key(&pem(
            "RSA PUBLIC KEY",
            pair.public_key().as_ref()
        )));
        assert!(!is_rsa_key(&pem("CERTIFICATE", der.as_ref())));
        assert!(!is_rsa_key(&pem("PUBLIC KEY", b"not a key at all")));
        assert!(!is_rsa_key("0123456789abcdefghij"));
    }

    #[test]
    fn spend_rules_are_completed_and_told_apart() {
        let mut limits =
            json!({"enabled": true, "rules": [{"limit": 1, "limitType": "cost", "window": 60}]});
        settle_spend_limits(&mut limits).expect("right");
        let rule = &limits["rules"][0];
        assert_eq!(
            (rule["id"].as_str().map(str::len), &rule["technique"]),
            (Some(8), &json!("sliding"))
        );
        let rule = |id: &str, limit: f64| json!({"id": id, "limit": limit, "limitType": "cost", "window": 60, "enabled": true});
        let problem = |rules: Value| {
            let mut limits = json!({"enabled": true, "rules": rules});
            settle_spend_limits(&mut limits)
                .expect_err("refused")
                .errors
                .remove(0)
        };
        assert_eq!(
            problem(json!([rule("a", 1.0), rule("b", 0.0)]))
                .path
                .join("."),
            "body.spend_limits.rules.1.limit"
        );
        assert!(
            problem(json!([rule("a", 1.0), rule("a", 1.0)]))
                .message
                .contains("twice")
        );
    }
}
