//! Prices of models (spec: control plane 6.4): of custom providers and, beyond Cloudflare, of built-in ones.

use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::custom_providers;
use super::operation::{Answers, Body, Call, Caller, Operation, READ, WRITE, paging, time};
use super::publish::Change;
use super::publish::Declared;
use super::schema::{Field, INTEGER, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::meter::cost::{Price, Rate};
use crate::meter::prices::{ModelRule, SetPrice};
use crate::store::{now, uuid};

const PATH: &str = "/accounts/{account_id}/ai-gateway/custom-providers/costs";
const ONE: &str = "/accounts/{account_id}/ai-gateway/custom-providers/costs/{cost_id}";
/// What the audit log calls a price.
const RESOURCE: &str = "ai_gateway.custom_provider_cost";

const MODEL_RULE: Kind = Kind::Choice(&["equals", "starts-with", "contains"]);
const COST_TYPE: Kind = Kind::Text(1, 64);
/// Dollars for one token or image; the bound keeps sums within what a log can hold.
const COST: Kind = Kind::Number(0.0, 1e9);
const TOKEN_PRICING: Kind = Kind::Map(
    Some(&[
        "input_tokens",
        "output_tokens",
        "input_cached_tokens",
        "input_cache_creation_tokens",
        "output_reasoning_tokens",
        "input_text_tokens",
        "input_audio_tokens",
        "input_image_tokens",
        "input_video_tokens",
        "input_image_count",
        "output_image_count",
        "total_tokens",
    ]),
    &Kind::Nullable(&COST),
);
const CREATE: &[Field] = &[
    required("account_provider_id", Kind::Text(1, 256)),
    required("model", Kind::Text(1, 512)),
    optional("model_rule", MODEL_RULE),
    optional("cost_type", COST_TYPE),
    optional("cost_in", COST),
    optional("cost_out", COST),
    optional("token_pricing", TOKEN_PRICING),
    optional("enable", Kind::Boolean),
    optional("weight", INTEGER),
];
const UPDATE: &[Field] = &[
    Field {
        required: false,
        ..CREATE[1]
    },
    CREATE[2],
    CREATE[3],
    CREATE[4],
    CREATE[5],
    CREATE[6],
    CREATE[7],
    CREATE[8],
];
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("account_provider_id", TEXT),
    required("model", TEXT),
    required("model_rule", MODEL_RULE),
    required("cost_type", TEXT),
    optional("cost_in", COST),
    optional("cost_out", COST),
    // JSON in a text.
    optional("token_pricing", TEXT),
    required("enable", Kind::Boolean),
    required("weight", INTEGER),
    required("changed_by", TEXT),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "custom_providers.costs.list",
        about: "List prices",
        needs: READ,
        query: &[
            optional("account_provider_id", QUERY_TEXT),
            optional("model_rule", MODEL_RULE),
            optional("cost_type", QUERY_TEXT),
            optional("enable", Kind::Boolean),
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
        name: "custom_providers.costs.create",
        about: "Set a price, for a custom provider's id or another provider's name",
        needs: WRITE,
        query: &[],
        body: Body::Members(CREATE),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "custom_providers.costs.get",
        about: "Read a price",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "PATCH",
        path: ONE,
        name: "custom_providers.costs.update",
        about: "Change a price: what is left out stays, null resets",
        needs: WRITE,
        query: &[],
        body: Body::Members(UPDATE),
        answers: Answers::Result(ANSWER),
        run: update,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "custom_providers.costs.delete",
        about: "Delete a price",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

/// A price as it is stored.
#[derive(Clone)]
struct Row {
    id: String,
    provider: String,
    model: String,
    model_rule: String,
    cost_type: String,
    enable: bool,
    weight: i64,
    /// `cost_in`, `cost_out`, `token_pricing` and `changed_by`.
    fields: Map<String, Value>,
    created_at: i64,
    modified_at: i64,
}

const COLUMNS: &str =
    "id, provider, model, model_rule, cost_type, enable, weight, fields, created_at, modified_at";

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let enable = call.query.get("enable").and_then(Value::as_bool);
    let search = call.text("search").unwrap_or_default().to_lowercase();
    call.select_page(
        COLUMNS,
        "prices WHERE (?1 IS NULL OR provider = ?1) AND (?2 IS NULL OR model_rule = ?2)
            AND (?3 IS NULL OR cost_type = ?3) AND (?4 IS NULL OR enable = ?4) AND instr(lower(model), ?5) > 0",
        "created_at DESC, id",
        params![
            call.text("account_provider_id"),
            call.text("model_rule"),
            call.text("cost_type"),
            enable,
            search,
        ],
        |row| Ok(show(&of_row(row)?)),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    Ok(Answer::Result(show(&existing(call)?)))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let provider = call.body["account_provider_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let known =
        custom_providers::exists(call, &provider)? || custom_providers::is_known(call, &provider)?;
    if !known {
        let path = ["body", "account_provider_id"];
        let message =
            format!("{provider:?} is neither a custom provider's id nor a provider's name");
        return Err(Problem::field(&path, message));
    }
    let now = now();
    let mut row = Row {
        id: uuid(),
        provider,
        model: String::new(),
        model_rule: "equals".to_owned(),
        cost_type: "tokens".to_owned(),
        enable: true,
        weight: 0,
        fields: Map::new(),
        created_at: now,
        modified_at: now,
    };
    take(&mut row, call);
    let statement =
        format!("INSERT INTO prices ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    store(call.database, &statement, &row)?;
    call.changes.push(Change::Prices);
    let shown = show(&row);
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    call.changes.push(Change::Prices);
    Ok(Answer::Result(shown))
}

fn update(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let old = existing(call)?;
    let mut row = old.clone();
    take(&mut row, call);
    row.modified_at = now().max(row.modified_at + 1);
    let statement = "UPDATE prices SET provider = ?2, model = ?3, model_rule = ?4, cost_type = ?5, enable = ?6, weight = ?7,
        fields = ?8, created_at = ?9, modified_at = ?10 WHERE id = ?1";
    store(call.database, statement, &row)?;
    call.changes.push(Change::Prices);
    let shown = show(&row);
    call.audit(
        "update",
        (RESOURCE, &row.id),
        Some(&show(&old)),
        Some(&shown),
    )?;
    call.changes.push(Change::Prices);
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    call.database
        .execute("DELETE FROM prices WHERE id = ?1", [&row.id])?;
    call.changes.push(Change::Prices);
    let shown = show(&row);
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    call.changes.push(Change::Prices);
    Ok(Answer::Result(shown))
}

/// Every price that is switched on and can be charged by the token, under the name that the provider has in requests.
pub(super) fn all(declared: &Declared, database: &Connection) -> Result<Vec<SetPrice>, Problem> {
    let query = format!(
        "SELECT {COLUMNS}, (SELECT 'custom-' || slug FROM custom_providers WHERE id = provider) FROM prices WHERE enable"
    );
    let mut statement = database.prepare_cached(&query)?;
    let mut rows = statement.query([])?;
    let mut prices = Vec::new();
    while let Some(row) = rows.next()? {
        let custom: Option<String> = row.get(10)?;
        let row = of_row(row)?;
        let Some(price) = price(&row) else { continue };
        // Built-in providers have aliases; requests are logged under one name.
        let known = declared.providers.get(row.provider.as_str());
        let provider = custom.or(known.map(|entry| entry.name.to_string()));
        prices.push(SetPrice {
            provider: provider.unwrap_or(row.provider),
            rule: match row.model_rule.as_str() {
                "starts-with" => ModelRule::StartsWith,
                "contains" => ModelRule::Contains,
                _ => ModelRule::Equals,
            },
            model: row.model,
            weight: row.weight,
            price,
        });
    }
    Ok(prices)
}

/// Rates in dollars for one token; `token_pricing` stands above the plain two.
fn price(row: &Row) -> Option<Price> {
    let pricing = row.fields.get("token_pricing");
    let rate = |name: &str| Rate::of_dollars(pricing?.get(name)?.as_f64()?);
    let plain = |name: &str| Rate::of_dollars(row.fields.get(name)?.as_f64()?);
    let all = rate("total_tokens");
    let price = Price {
        input: rate("input_tokens")
            .or_else(|| rate("input_text_tokens"))
            .or_else(|| plain("cost_in"))
            .or(all),
        output: rate("output_tokens").or_else(|| plain("cost_out")).or(all),
        cache_read: rate("input_cached_tokens"),
        cache_write: rate("input_cache_creation_tokens"),
        reasoning: rate("output_reasoning_tokens"),
        audio_input: rate("input_audio_tokens"),
        image_input: rate("input_image_tokens"),
        ..Price::default()
    };
    (price != Price::default()).then_some(price)
}

/// The price that the path names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let query = format!("SELECT {COLUMNS} FROM prices WHERE id = ?1");
    let mut statement = call.database.prepare_cached(&query)?;
    let mut rows = statement.query([call.parameter("cost_id")])?;
    match rows.next()? {
        Some(row) => of_row(row),
        None => Err(Problem::not_found("price")),
    }
}

fn of_row(row: &rusqlite::Row<'_>) -> Result<Row, Problem> {
    Ok(Row {
        id: row.get(0)?,
        provider: row.get(1)?,
        model: row.get(2)?,
        model_rule: row.get(3)?,
        cost_type: row.get(4)?,
        enable: row.get(5)?,
        weight: row.get(6)?,
        fields: serde_json::from_str(&row.get::<_, String>(7)?)?,
        created_at: row.get(8)?,
        modified_at: row.get(9)?,
    })
}

fn store(database: &Connection, statement: &str, row: &Row) -> Result<(), Problem> {
    let fields = Value::Object(row.fields.clone()).to_string();
    database.execute(
        statement,
        params![
            row.id,
            row.provider,
            row.model,
            row.model_rule,
            row.cost_type,
            row.enable,
            row.weight,
            fields,
            row.created_at,
            row.modified_at,
        ],
    )?;
    Ok(())
}

/// Takes the members of the body: `null` resets, what is left out stays.
fn take(row: &mut Row, call: &Call<'_>) {
    if let Some(model) = call.body["model"].as_str() {
        row.model = model.to_owned();
    }
    for (name, text, default) in [
        ("model_rule", &mut row.model_rule, "equals"),
        ("cost_type", &mut row.cost_type, "tokens"),
    ] {
        if let Some(value) = call.body.get(name) {
            *text = value.as_str().unwrap_or(default).to_owned();
        }
    }
    if let Some(enable) = call.body.get("enable") {
        row.enable = enable.as_bool().unwrap_or(true);
    }
    if let Some(weight) = call.body.get("weight") {
        row.weight = weight.as_i64().unwrap_or(0);
    }
    for name in ["cost_in", "cost_out", "token_pricing"] {
        if let Some(value) = call.body.get(name) {
            row.fields.insert(name.to_owned(), value.clone());
        }
    }
    let changed_by = match &call.caller {
        Caller::Token(token) => Value::from(&*token.name),
        Caller::Operator => json!("operator"),
    };
    row.fields.insert("changed_by".to_owned(), changed_by);
}

/// A price as the API answers it: `token_pricing` is JSON in a text.
fn show(row: &Row) -> Value {
    let field = |name: &str| row.fields.get(name).cloned().unwrap_or_default();
    let pricing = match field("token_pricing") {
        Value::Null => Value::Null,
        pricing => Value::from(pricing.to_string()),
    };
    json!({
        "id": row.id,
        "account_provider_id": row.provider,
        "model": row.model,
        "model_rule": row.model_rule,
        "cost_type": row.cost_type,
        "cost_in": field("cost_in"),
        "cost_out": field("cost_out"),
        "token_pricing": pricing,
        "enable": row.enable,
        "weight": row.weight,
        "changed_by": field("changed_by"),
        "created_at": time(row.created_at),
        "modified_at": time(row.modified_at),
    })
}
