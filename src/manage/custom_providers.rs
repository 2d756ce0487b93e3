//! Custom providers (spec: control plane 6.3, resolutions 3).

use std::collections::HashSet;

use axum::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging, time};
use super::publish::Change;
use super::schema::{Field, INTEGER, Kind, QUERY_TEXT, TEXT, optional, required};
use super::secret_values::text_of;
use crate::access::Permission as P;
use crate::config::is_near;
use crate::http::is_about_connection;
use crate::providers::BaseUrl;
use crate::seal::{Belonging, SealError, Sealed, Sealer};
use crate::store::{now, uuid};

const PATH: &str = "/accounts/{account_id}/ai-gateway/custom-providers";
const ONE: &str = "/accounts/{account_id}/ai-gateway/custom-providers/{custom_provider_id}";
/// What the audit log calls a custom provider.
const RESOURCE: &str = "ai_gateway.custom_provider";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "custom_providers.list",
        about: "List custom providers",
        needs: READ,
        query: &[
            optional("enable", Kind::Boolean),
            optional("beta", Kind::Boolean),
            optional("search", QUERY_TEXT),
            optional(
                "order_by",
                Kind::Checked(|text| order(text).is_some(), ORDER_RULE),
            ),
            optional("order_by_direction", Kind::Choice(&["asc", "desc"])),
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
        name: "custom_providers.create",
        about: "Create a custom provider, reached as custom-{slug}",
        needs: WRITE,
        query: &[],
        body: Body::Members(CREATE),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "custom_providers.get",
        about: "Read a custom provider",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "PATCH",
        path: ONE,
        name: "custom_providers.update",
        about: "Change a custom provider: what is left out stays, null resets",
        needs: WRITE,
        query: &[],
        body: Body::Members(UPDATE),
        answers: Answers::Result(ANSWER),
        run: update,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "custom_providers.delete",
        about: "Delete a custom provider and its prices",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

const ORDER_RULE: &str = "must be name, slug, base_url, enable, beta, created_at or modified_at, with ASC or DESC behind it or not";
const SLUG_RULE: &str = "must be 1 to 64 letters, digits and hyphens";
/// Members that nothing but the answer depends on, stored as they came.
const NOTES: [&str; 6] = [
    "description",
    "link",
    "curl_example",
    "js_example",
    "position",
    "logo",
];
const CREATE: &[Field] = &[
    required("name", Kind::Text(1, 256)),
    required(
        "slug",
        Kind::Matched(is_slug, SLUG_RULE, "^[A-Za-z0-9-]{1,64}$"),
    ),
    required("base_url", Kind::Text(1, 2048)),
    optional("enable", Kind::Boolean),
    optional("beta", Kind::Boolean),
    optional("headers", Kind::Text(0, 8192)),
    optional("description", TEXT),
    optional("link", TEXT),
    optional("curl_example", TEXT),
    optional("js_example", TEXT),
    optional("position", INTEGER),
    optional("logo", TEXT),
];
const UPDATE: &[Field] = &{
    let mut fields = [CREATE[0]; CREATE.len()];
    let mut index = 0;
    while index < CREATE.len() {
        fields[index] = Field {
            required: false,
            ..CREATE[index]
        };
        index += 1;
    }
    fields
};
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("slug", TEXT),
    required("base_url", TEXT),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
    required("enable", Kind::Boolean),
    required("beta", Kind::Boolean),
    optional("headers", TEXT),
    optional("description", TEXT),
    optional("link", TEXT),
    optional("curl_example", TEXT),
    optional("js_example", TEXT),
    optional("position", INTEGER),
    required("logo", TEXT),
];

/// A custom provider as it is stored.
#[derive(Clone)]
struct Row {
    id: String,
    slug: String,
    name: String,
    enable: bool,
    beta: bool,
    base_url: String,
    /// A JSON object of what every request to it carries.
    headers: Option<SealedHeaders>,
    notes: Map<String, Value>,
    created_at: i64,
    modified_at: i64,
}

const COLUMNS: &str = "id, slug, name, enable, beta, base_url, headers_key_id, headers, fields, created_at, modified_at";

/// Headers of a custom provider as they are stored: they may hold keys.
#[derive(Clone)]
pub(super) struct SealedHeaders(pub Sealed);

impl SealedHeaders {
    /// Of two columns of a row: the master key's id and the bytes.
    pub fn of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Self>> {
        let key_id = row.get::<_, Option<String>>(column)?;
        let bytes = row.get::<_, Option<Vec<u8>>>(column + 1)?;
        Ok(key_id.zip(bytes).map(|(key_id, bytes)| {
            Self(Sealed {
                key_id: key_id.into(),
                bytes: bytes.into(),
            })
        }))
    }

    fn seal(text: &str, sealer: &Sealer, account: &str, id: &str) -> Result<Self, SealError> {
        sealer
            .seal(text.as_bytes(), Self::belonging(account, id))
            .map(Self)
    }

    /// The JSON object in a text.
    pub fn open(&self, sealer: &Sealer, account: &str, id: &str) -> Result<String, SealError> {
        let opened = sealer.open(&self.0, Self::belonging(account, id))?;
        Ok(text_of(&opened).to_owned())
    }

    /// The row to which they are sealed, whatever it is called by then.
    pub fn belonging<'a>(account: &'a str, id: &'a str) -> Belonging<'a> {
        Belonging {
            account,
            id,
            name: RESOURCE,
        }
    }
}

/// Whether paths and routes may name this provider: a built-in one, one of the configuration file, or a stored one.
pub(super) fn is_known(call: &Call<'_>, provider: &str) -> Result<bool, Problem> {
    if call.office.declared.load().providers.contains_key(provider) {
        return Ok(true);
    }
    match provider.strip_prefix("custom-") {
        Some(slug) => Ok(find(call.database, "slug", slug)?.is_some()),
        None => Ok(false),
    }
}

/// Whether there is a stored one of this id.
pub(super) fn exists(call: &Call<'_>, id: &str) -> Result<bool, Problem> {
    Ok(find(call.database, "id", id)?.is_some())
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let flag = |name: &str| call.query.get(name).and_then(Value::as_bool);
    let (enable, beta) = (flag("enable"), flag("beta"));
    let search = call.text("search").unwrap_or_default().to_lowercase();
    let (column, direction) = call
        .text("order_by")
        .and_then(order)
        .unwrap_or(("name", None));
    let asked = call.text("order_by_direction");
    let direction = match direction.or(asked) {
        Some("desc") => "DESC",
        _ => "ASC",
    };
    call.select_page(
        COLUMNS,
        "custom_providers WHERE (?1 IS NULL OR enable = ?1) AND (?2 IS NULL OR beta = ?2)
            AND (instr(lower(id), ?3) > 0 OR instr(lower(name), ?3) > 0 OR instr(lower(slug), ?3) > 0)",
        &format!("{column} {direction}, id"),
        params![enable, beta, search],
        |row| Ok(show(call, &of_row(row)?, clear(call))),
    )
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    Ok(Answer::Result(show(call, &row, clear(call))))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let now = now();
    let mut row = Row {
        id: uuid(),
        slug: String::new(),
        name: String::new(),
        enable: false,
        beta: false,
        base_url: String::new(),
        headers: None,
        notes: Map::new(),
        created_at: now,
        modified_at: now,
    };
    take(&mut row, call)?;
    let statement = format!(
        "INSERT INTO custom_providers ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    store(call.database, &statement, &row)?;
    let shown = show(call, &row, false);
    call.audit("create", (RESOURCE, &row.id), None, Some(&shown))?;
    // Its prices are found by its name, and go with it.
    call.changes.extend([Change::Providers, Change::Prices]);
    Ok(Answer::Result(show(call, &row, clear(call))))
}

fn update(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let old = existing(call)?;
    let mut row = old.clone();
    take(&mut row, call)?;
    row.modified_at = now().max(row.modified_at + 1);
    let statement = "UPDATE custom_providers SET slug = ?2, name = ?3, enable = ?4, beta = ?5, base_url = ?6,
        headers_key_id = ?7, headers = ?8, fields = ?9, created_at = ?10, modified_at = ?11 WHERE id = ?1";
    store(call.database, statement, &row)?;
    let (before, after) = (show(call, &old, false), show(call, &row, false));
    call.audit("update", (RESOURCE, &row.id), Some(&before), Some(&after))?;
    // Its prices are found by its name, and go with it.
    call.changes.extend([Change::Providers, Change::Prices]);
    Ok(Answer::Result(show(call, &row, clear(call))))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    call.database
        .execute("DELETE FROM custom_providers WHERE id = ?1", [&row.id])?;
    let shown = show(call, &row, false);
    call.audit("delete", (RESOURCE, &row.id), Some(&shown), None)?;
    // Its prices are found by its name, and go with it.
    call.changes.extend([Change::Providers, Change::Prices]);
    Ok(Answer::Result(show(call, &row, clear(call))))
}

/// The custom provider that the path names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let id = call.parameter("custom_provider_id");
    find(call.database, "id", id)?.ok_or_else(|| Problem::not_found("custom provider"))
}

fn find(database: &Connection, column: &str, value: &str) -> Result<Option<Row>, Problem> {
    let query = format!("SELECT {COLUMNS} FROM custom_providers WHERE {column} = ?1");
    let mut statement = database.prepare_cached(&query)?;
    let mut rows = statement.query([value])?;
    rows.next()?.map(of_row).transpose()
}

fn of_row(row: &rusqlite::Row<'_>) -> Result<Row, Problem> {
    Ok(Row {
        id: row.get(0)?,
        slug: row.get(1)?,
        name: row.get(2)?,
        enable: row.get(3)?,
        beta: row.get(4)?,
        base_url: row.get(5)?,
        headers: SealedHeaders::of(row, 6)?,
        notes: serde_json::from_str(&row.get::<_, String>(8)?)?,
        created_at: row.get(9)?,
        modified_at: row.get(10)?,
    })
}

fn store(database: &Connection, statement: &str, row: &Row) -> Result<(), Problem> {
    let notes = Value::Object(row.notes.clone()).to_string();
    let headers = row.headers.as_ref().map(|headers| &headers.0);
    database.execute(
        statement,
        params![
            row.id,
            row.slug,
            row.name,
            row.enable,
            row.beta,
            row.base_url,
            headers.map(|sealed| &*sealed.key_id),
            headers.map(|sealed| &*sealed.bytes),
            notes,
            row.created_at,
            row.modified_at,
        ],
    )?;
    Ok(())
}

/// Takes the members of the body: `null` resets, what is left out stays.
fn take(row: &mut Row, call: &Call<'_>) -> Result<(), Problem> {
    let text = |name: &str| call.body[name].as_str().map(str::to_owned);
    if let Some(name) = text("name") {
        row.name = name;
    }
    if let Some(slug) = text("slug") {
        refuse_twin(call, &row.id, &slug)?;
        row.slug = slug;
    }
    if let Some(url) = text("base_url") {
        check_base_url(&url).map_err(|reason| Problem::field(&["body", "base_url"], reason))?;
        row.base_url = url;
    }
    for (name, flag) in [("enable", &mut row.enable), ("beta", &mut row.beta)] {
        if let Some(value) = call.body.get(name) {
            *flag = value.as_bool().unwrap_or(false);
        }
    }
    if call.body.get("headers").is_some() {
        row.headers = match text("headers").filter(|headers| !headers.is_empty()) {
            Some(headers) => {
                check_headers(&headers)
                    .map_err(|reason| Problem::field(&["body", "headers"], reason))?;
                let (sealer, account) = (&call.office.sealer, &call.office.account);
                Some(SealedHeaders::seal(&headers, sealer, account, &row.id)?)
            }
            None => None,
        };
    }
    for name in NOTES {
        match call.body.get(name) {
            None => {}
            Some(Value::Null) => {
                row.notes.remove(name);
            }
            Some(value) => {
                row.notes.insert(name.to_owned(), value.clone());
            }
        }
    }
    Ok(())
}

fn refuse_twin(call: &Call<'_>, id: &str, slug: &str) -> Result<(), Problem> {
    let path = ["body", "slug"];
    let name = format!("custom-{slug}");
    let declared = call.office.declared.load();
    if declared.providers.contains_key(&*name) {
        let file = &declared.file;
        return Err(Problem::exists(
            &path,
            &format!("a provider {name:?}, declared in {file},"),
        ));
    }
    let query = "SELECT 1 FROM custom_providers WHERE slug = ?1 AND id <> ?2";
    let twin = call
        .database
        .query_row(query, [slug, id], |_| Ok(()))
        .optional()?;
    match twin {
        Some(()) => Err(Problem::exists(&path, &format!("a provider {name:?}"))),
        None => Ok(()),
    }
}

/// Keys cross plain http only within this machine and private networks (resolutions 3).
fn check_base_url(url: &str) -> Result<(), String> {
    let base: BaseUrl = url
        .parse()
        .map_err(|error: crate::providers::BaseUrlError| error.to_string())?;
    match base.origin.tls || is_near(&base.origin.host) {
        true => Ok(()),
        false => Err(format!(
            "{url:?} sends keys in clear text to another network: use https, or declare the provider in the configuration file with allow_insecure = true"
        )),
    }
}

/// `headers` is a JSON object in a text: names to values, all of which go upstream.
fn check_headers(text: &str) -> Result<(), String> {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        return Err("must be a JSON object of header names and values".to_owned());
    };
    let mut seen = HashSet::new();
    for (given, value) in &members {
        let name = HeaderName::from_bytes(given.as_bytes())
            .map_err(|_| format!("{given:?} is no header name"))?;
        if is_about_connection(name.as_str().as_bytes()) || is_gateways_own(name.as_str()) {
            return Err(format!("{given:?} is set by the gateway itself"));
        }
        let fits = value
            .as_str()
            .is_some_and(|value| HeaderValue::from_str(value).is_ok());
        if !fits {
            return Err(format!(
                "the value of {given:?} must be a text that a header can hold"
            ));
        }
        if !seen.insert(name) {
            return Err(format!("{given:?} stands twice"));
        }
    }
    Ok(())
}

/// Whether a header, its name in lower case, is one that every upstream request gets from the gateway, or is its own.
fn is_gateways_own(name: &str) -> bool {
    const NAMES: [&str; 4] = ["accept-encoding", "content-length", "expect", "host"];
    NAMES.contains(&name) || name.starts_with("cf-aig-")
}

fn clear(call: &Call<'_>) -> bool {
    call.caller.may(P::GatewayWrite, None)
}

/// A custom provider as the API answers it; the values of its headers only for those who may change them.
fn show(call: &Call<'_>, row: &Row, clear: bool) -> Value {
    let (sealer, account) = (&call.office.sealer, &call.office.account);
    let opened = row
        .headers
        .as_ref()
        .map(|headers| headers.open(sealer, account, &row.id));
    let headers = opened.map(|opened| match opened {
        Ok(headers) if clear => headers,
        Ok(headers) => masked(&headers),
        // They are lost, and can be set anew.
        Err(_) => MASK.to_owned(),
    });
    let mut shown = json!({
        "id": row.id,
        "name": row.name,
        "slug": row.slug,
        "base_url": row.base_url,
        "enable": row.enable,
        "beta": row.beta,
        "headers": headers,
        "created_at": time(row.created_at),
        "modified_at": time(row.modified_at),
    });
    for name in NOTES {
        shown[name] = row.notes.get(name).cloned().unwrap_or_default();
    }
    if shown["logo"].is_null() {
        shown["logo"] = Value::from(logo(&row.name, &row.slug));
    }
    shown
}

/// What stands for a value that is not shown.
const MASK: &str = "****";

fn masked(headers: &str) -> String {
    match serde_json::from_str(headers) {
        Ok(Value::Object(members)) => {
            let masked = members.into_iter().map(|(name, _)| (name, json!(MASK)));
            Value::Object(masked.collect()).to_string()
        }
        _ => MASK.to_owned(),
    }
}

/// A mark for a provider without a logo: the first letter of its name on a colour that its slug decides.
fn logo(name: &str, slug: &str) -> String {
    let letter = name
        .chars()
        .find(|letter| letter.is_alphanumeric())
        .map_or_else(
            || "?".to_owned(),
            |letter| letter.to_uppercase().to_string(),
        );
    let hue = slug.bytes().fold(0_u32, |hue, byte| {
        hue.wrapping_mul(31).wrapping_add(u32::from(byte))
    }) % 360;
    STANDARD.encode(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><rect width=\"32\" height=\"32\" rx=\"6\" fill=\"hsl({hue},55%,42%)\"/><text x=\"16\" y=\"22\" font-family=\"sans-serif\" font-size=\"18\" text-anchor=\"middle\" fill=\"#fff\">{letter}</text></svg>"
    ))
}

/// `name`, `name ASC`, `name desc`: a column and, where it is told, the direction in lower case.
fn order(text: &str) -> Option<(&'static str, Option<&'static str>)> {
    const COLUMNS: [&str; 7] = [
        "name",
        "slug",
        "base_url",
        "enable",
        "beta",
        "created_at",
        "modified_at",
    ];
    let (column, direction) = match text.split_once(' ') {
        Some((column, direction)) => (column, Some(direction)),
        None => (text, None),
    };
    let column = COLUMNS.into_iter().find(|known| *known == column)?;
    let direction = match direction.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("asc") => Some("asc"),
        Some("desc") => Some("desc"),
        Some(_) => return None,
    };
    Some((column, direction))
}

fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_an_object_of_headers() {
        for right in [
            "{}",
            r#"{"X-Team": "a", "authorization": "Bearer k", "content-type": "x/y"}"#,
        ] {
            assert_eq!(check_headers(right), Ok(()), "{right}");
        }
        for (wrong, said) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            ("x: y", "JSON object"),
            (r#"{"x": 1}"#, "the value of \"x\""),
            (r#"{"x": "a\r\nb: c"}"#, "the value of \"x\""),
            (r#"{"x y": "a"}"#, "no header name"),
            (r#"{"": "a"}"#, "no header name"),
            (r#"{"X-A": "1", "x-a": "2"}"#, "stands twice"),
            (r#"{"Host": "a"}"#, "set by the gateway"),
            (r#"{"Content-Length": "1"}"#, "set by the gateway"),
            (r#"{"Transfer-Encoding": "chunked"}"#, "set by the gateway"),
            (r#"{"Connection": "close"}"#, "set by the gateway"),
            (r#"{"TE": "trailers"}"#, "set by the gateway"),
            (r#"{"CF-AIG-Metadata": "{}"}"#, "set by the gateway"),
        ] {
            let reason = check_headers(wrong).expect_err(wrong);
            assert!(reason.contains(said), "{wrong}: {reason}");
        }
    }

    #[test]
    fn base_urls_do_not_send_keys_in_clear_text_far_away() {
        for right in [
            "https://llm.example/v1",
            "http://127.0.0.1:11434",
            "http://10.1.2.3/x",
            "http://[::1]:9",
            "http://localhost:1",
        ] {
            assert_eq!(check_base_url(right), Ok(()), "{right}");
        }
        for wrong in [
            "http://llm.example",
            "http://8.8.8.8",
            "ftp://x",
            "llm.example",
            "https://",
            "https://a/../b",
            "https://user@host",
        ] {
            assert!(check_base_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn readers_see_the_names_of_headers_only() {
        assert_eq!(
            masked(r#"{"b": "secret", "a": "x"}"#),
            r#"{"b":"****","a":"****"}"#
        );
        assert_eq!(masked("secret"), "****");
    }

    #[test]
    fn a_generated_logo_is_an_image_without_anything_of_the_name_but_a_letter() {
        let svg = |name: &str| {
            let bytes = STANDARD.decode(logo(name, "a-1")).expect("base64");
            String::from_utf8(bytes).expect("text")
        };
        assert!(svg("<script>").contains(">S</text>"));
        assert!(svg("äther").contains(">Ä</text>"));
        assert!(svg("&<>").contains(">?</text>"));
    }

    #[test]
    fn orders_name_a_column_and_a_direction() {
        assert_eq!(order("name"), Some(("name", None)));
        assert_eq!(order("name ASC"), Some(("name", Some("asc"))));
        assert_eq!(order("created_at desc"), Some(("created_at", Some("desc"))));
        for wrong in ["", "headers", "name up", "name; DROP TABLE x", "name  asc"] {
            assert_eq!(order(wrong), None, "{wrong}");
        }
    }
}
