//! Provider configurations: the keys that a gateway keeps (spec: control plane 6.1). The key itself is a secret of the store.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Needs, Operation, paging, time};
use super::publish::Change;
use super::schema::{Field, Kind, TEXT, optional, required};
use super::secret_values::{fit, secret_of, text_of};
use super::secrets::{self, GATEWAY_SCOPE};
use super::{gateways, stores};
use crate::access::Permission as P;
use crate::limits::{ALIAS_MAX, SECRET_VALUE_MAX};
use crate::store::{now, uuid};

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/provider_configs";
const ONE: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/provider_configs/{id}";
const READ: Needs = Needs::Any(&[P::GatewayRead, P::GatewayMetadataRead, P::SecretsStoreRead]);
const WRITE: Needs = Needs::Any(&[P::GatewayWrite, P::SecretsStoreWrite]);
/// What the audit log calls one.
const RESOURCE: &str = "ai_gateway.provider_config";
/// The alias where none is given, used where a request names none.
const DEFAULT_ALIAS: &str = "default";
/// Seconds in which `rate_limit` counts where nothing else is said.
const DEFAULT_PERIOD: f64 = 60.0;
/// The code of notes beside a success.
const NOTE: u32 = 10000;

const KEY: Kind = Kind::Text(1, SECRET_VALUE_MAX);
const CREATE: &[Field] = &[
    required("provider_slug", TEXT),
    optional(
        "alias",
        Kind::Matched(
            is_alias,
            "must be at most 64 visible ASCII characters",
            "^[ -~]{0,64}$",
        ),
    ),
    required("default_config", Kind::Boolean),
    optional("secret", KEY),
    optional("secret_id", TEXT),
    optional("rate_limit", Kind::Number(0.0, 1e15)),
    optional("rate_limit_period", Kind::Number(1.0, 31_622_400.0)),
];
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("gateway_id", TEXT),
    required("provider_slug", TEXT),
    required("alias", TEXT),
    required("default_config", Kind::Boolean),
    required("secret_id", TEXT),
    required("secret_preview", TEXT),
    required("modified_at", Kind::Time),
    optional("rate_limit", Kind::Number(0.0, 1e15)),
    optional("rate_limit_period", Kind::Number(1.0, 31_622_400.0)),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "provider_configs.list",
        about: "List a gateway's stored keys, without the keys",
        needs: READ,
        query: &[paging(1, 100)[0], paging(1, 100)[1]],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: PATH,
        name: "provider_configs.create",
        about: "Store a provider's key for a gateway",
        needs: WRITE,
        query: &[],
        body: Body::Members(CREATE),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "PUT",
        path: ONE,
        name: "provider_configs.rotate",
        about: "Give a stored key another value, which the next request uses",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[required("secret", KEY)]),
        answers: Answers::Result(ANSWER),
        run: rotate,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "provider_configs.delete",
        about: "Take a stored key from a gateway; its secret stays in the store",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

/// A configuration as it is stored.
struct Row {
    id: String,
    gateway_id: String,
    provider: String,
    alias: String,
    default: bool,
    secret_id: String,
    rate_limit: Option<f64>,
    rate_limit_period: f64,
    modified_at: i64,
    preview: String,
}

const QUERY: &str = "SELECT c.id, c.gateway_id, c.provider_slug, c.alias, c.default_config, c.secret_id, c.rate_limit,
    c.rate_limit_period, c.modified_at, s.preview FROM provider_configs c JOIN secrets s ON s.id = c.secret_id";

impl Row {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            gateway_id: row.get(1)?,
            provider: row.get(2)?,
            alias: row.get(3)?,
            default: row.get(4)?,
            secret_id: row.get(5)?,
            rate_limit: row.get(6)?,
            rate_limit_period: row.get(7)?,
            modified_at: row.get(8)?,
            preview: row.get(9)?,
        })
    }

    fn show(&self) -> Value {
        json!({
            "id": self.id,
            "gateway_id": self.gateway_id,
            "provider_slug": self.provider,
            "alias": self.alias,
            "default_config": self.default,
            "rate_limit": self.rate_limit.map(number),
            "rate_limit_period": number(self.rate_limit_period),
            "secret_id": self.secret_id,
            "secret_preview": self.preview,
            "modified_at": time(self.modified_at),
        })
    }
}

/// A number as it was given: whole ones without a fraction.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 {
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let query = format!("{QUERY} WHERE c.gateway_id = ?1 ORDER BY c.provider_slug, c.alias");
    let mut statement = call.database.prepare_cached(&query)?;
    let rows = statement.query_map([&gateway.id], Row::of)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(call.paginate(rows.iter().map(Row::show).collect()))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let asked = call.body["provider_slug"].as_str().unwrap_or_default();
    let provider = gateways::canonical_provider(call, asked)?.ok_or_else(|| {
        let message = format!("unknown provider {asked:?}; custom-SLUG needs a custom provider");
        Problem::field(&["body", "provider_slug"], message)
    })?;
    let alias = match call.body["alias"].as_str() {
        None | Some("") => DEFAULT_ALIAS.to_owned(),
        Some(alias) => alias.to_owned(),
    };
    let query = "SELECT 1 FROM provider_configs WHERE gateway_id = ?1 AND provider_slug = ?2 AND alias = ?3";
    let twin = call
        .database
        .query_row(query, [&gateway.id, &provider, &alias], |_| Ok(()));
    if twin.optional()?.is_some() {
        return Err(Problem::exists(
            &["body", "alias"],
            &format!("a key {alias:?} for {provider}"),
        ));
    }
    let secret = take_secret(call, &gateway.id, &provider, &alias)?;
    let row = Row {
        id: uuid(),
        gateway_id: gateway.id.clone(),
        provider,
        alias,
        default: call.body["default_config"] == true,
        secret_id: secret.id,
        rate_limit: call.body["rate_limit"].as_f64(),
        rate_limit_period: call.body["rate_limit_period"]
            .as_f64()
            .unwrap_or(DEFAULT_PERIOD),
        modified_at: now(),
        preview: secret.preview,
    };
    if row.default {
        let statement =
            "UPDATE provider_configs SET default_config = 0, modified_at = max(?3, modified_at + 1)
            WHERE gateway_id = ?1 AND provider_slug = ?2 AND default_config";
        call.database.execute(
            statement,
            params![row.gateway_id, row.provider, row.modified_at],
        )?;
    }
    call.database.execute(
        "INSERT INTO provider_configs (id, gateway_id, provider_slug, alias, default_config, secret_id, rate_limit, rate_limit_period, modified_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            row.id,
            row.gateway_id,
            row.provider,
            row.alias,
            row.default,
            row.secret_id,
            row.rate_limit,
            row.rate_limit_period,
            row.modified_at
        ],
    )?;
    if !gateway.is_on("authentication") {
        let warning = format!(
            "gateway {} takes requests without a token: whoever reaches it spends this key",
            gateway.id
        );
        call.messages.push((NOTE, warning));
    }
    let shown = row.show();
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    tell(call, row.gateway_id);
    Ok(Answer::Result(shown))
}

/// The data plane is to hear of a gateway, once.
fn tell(call: &mut Call<'_>, gateway: String) {
    let change = Change::Gateway(gateway);
    if !call.changes.contains(&change) {
        call.changes.push(change);
    }
}

/// The secret that a new configuration uses: the one named, with another value where one is given, or one of its own.
fn take_secret(
    call: &mut Call<'_>,
    gateway: &str,
    provider: &str,
    alias: &str,
) -> Result<secrets::Row, Problem> {
    let value = match call.body["secret"].take() {
        Value::String(text) => Some(key(call, text)?),
        _ => None,
    };
    let id = call.body["secret_id"].as_str().map(str::to_owned);
    let id = id.filter(|id| !id.is_empty());
    match (id, value) {
        (None, None) => Err(Problem::field(
            &["body", "secret"],
            "secret, or secret_id of a stored one, is required",
        )),
        (Some(id), value) => {
            let mut secret = named(call, &id)?;
            refuse_strangers(call, &secret, gateway)?;
            let value = match value {
                Some(value) => Some(value),
                None => refit(call, &secret)?,
            };
            if let Some(value) = value {
                secrets::replace_value(call, &mut secret, &value)?;
            }
            Ok(secret)
        }
        (None, Some(value)) => {
            let store = stores::create_own(call)?;
            let mut name = format!("{gateway}_{provider}_{alias}");
            if let Some(mut left) = secrets::find_named(call.database, &store, &name)? {
                let usable = left.is_for_gateways() && secrets::users(call, &left.id)?.is_empty();
                if usable && may_use_any(call) {
                    secrets::replace_value(call, &mut left, &value)?;
                    return Ok(left);
                }
                // Underscores may stand in each part, so that the name may be another configuration's.
                name = format!("{name}_{}", &uuid()[..8]);
            }
            secrets::insert(call, &store, name, GATEWAY_SCOPE.to_owned(), None, &value)
        }
    }
}

/// The secret of `secret_id`.
fn named(call: &Call<'_>, id: &str) -> Result<secrets::Row, Problem> {
    let path = ["body", "secret_id"];
    let secret = secrets::find(call.database, id)?
        .ok_or_else(|| Problem::field(&path, format!("no secret {id:?}")))?;
    match secret.is_for_gateways() {
        true => Ok(secret),
        false => Err(Problem::field(
            &path,
            format!("the secret has not the scope {GATEWAY_SCOPE}"),
        )),
    }
}

/// A stored secret's value in the form of a key, where it has another.
fn refit(call: &Call<'_>, secret: &secrets::Row) -> Result<Option<crate::config::Secret>, Problem> {
    let value = secrets::open(call, secret)?;
    let fit = fit(call.database, text_of(&value))?;
    let fit =
        fit.map_err(|why| Problem::field(&["body", "secret_id"], format!("the secret {why}")))?;
    Ok((fit != text_of(&value)).then(|| secret_of(fit.into_owned())))
}

/// A key of the body.
fn key(call: &Call<'_>, text: String) -> Result<crate::config::Secret, Problem> {
    let given = secret_of(text);
    let fit = fit(call.database, text_of(&given))?;
    let fit =
        fit.map_err(|why| Problem::field(&["body", "secret"], format!("body.secret {why}")))?;
    if fit.len() > SECRET_VALUE_MAX {
        let message = format!("body.secret must have at most {SECRET_VALUE_MAX} bytes");
        return Err(Problem::field(&["body", "secret"], message));
    }
    Ok(secret_of(fit.into_owned()))
}

/// Whether the caller may use any secret, not only those of the gateway at hand.
fn may_use_any(call: &Call<'_>) -> bool {
    [P::GatewayWrite, P::SecretsStoreWrite]
        .into_iter()
        .any(|permission| call.caller.may(permission, None))
}

/// A token that is limited to one gateway neither uses nor changes what others keep.
fn refuse_strangers(call: &Call<'_>, secret: &secrets::Row, gateway: &str) -> Result<(), Problem> {
    let users = secrets::users(call, &secret.id)?;
    let own = !users.is_empty() && users.iter().all(|user| user.gateway == gateway);
    if own || may_use_any(call) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "The secret is not this gateway's alone; the token is limited to the gateway",
    ))
}

/// The configuration that the path names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let gateway = gateways::existing(call)?;
    find(call.database, &gateway.id, call.parameter("id"))?
        .ok_or_else(|| Problem::not_found("provider configuration"))
}

fn find(database: &Connection, gateway: &str, id: &str) -> Result<Option<Row>, Problem> {
    let query = format!("{QUERY} WHERE c.gateway_id = ?1 AND c.id = ?2");
    let mut statement = database.prepare_cached(&query)?;
    Ok(statement.query_row([gateway, id], Row::of).optional()?)
}

fn rotate(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let mut row = existing(call)?;
    let old = row.show();
    let Value::String(text) = call.body["secret"].take() else {
        return Err(Problem::field(&["body", "secret"], "is required"));
    };
    let value = key(call, text)?;
    let mut secret = secrets::find(call.database, &row.secret_id)?
        .ok_or_else(|| Problem::not_found("secret"))?;
    refuse_strangers(call, &secret, &row.gateway_id)?;
    secrets::replace_value(call, &mut secret, &value)?;
    row.preview = secret.preview;
    row.modified_at = now().max(row.modified_at + 1);
    call.database.execute(
        "UPDATE provider_configs SET modified_at = ?2 WHERE id = ?1",
        params![row.id, row.modified_at],
    )?;
    let shown = row.show();
    call.audit("update", (RESOURCE, &row.id), Some(&old), Some(&shown))?;
    tell(call, row.gateway_id);
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    call.database
        .execute("DELETE FROM provider_configs WHERE id = ?1", [&row.id])?;
    let stays = format!("the secret {} stays in the secrets store", row.secret_id);
    call.messages.push((NOTE, stays));
    let shown = row.show();
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    tell(call, row.gateway_id);
    Ok(Answer::Result(shown))
}

/// Fit for `cf-aig-byok-alias`; an empty one stands for none.
fn is_alias(text: &str) -> bool {
    text.len() <= ALIAS_MAX
        && text.trim() == text
        && text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
