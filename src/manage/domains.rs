//! Custom domains: host names that lead to one gateway (spec: control plane 13, data plane 1).

use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::gateways;
use super::operation::{Answers, Body, Call, Operation, READ, WRITE, paging};
use super::publish::Change;
use super::schema::{Field, INTEGER, Kind, TEXT, optional, required};
use crate::store::now;

const PATH: &str = "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/custom-domains";
const ONE: &str =
    "/accounts/{account_id}/ai-gateway/gateways/{gateway_id}/custom-domains/{hostname}";
/// What the audit log calls a domain.
const RESOURCE: &str = "ai_gateway.custom_domain";

const ANSWER: &[Field] = &[
    required("hostname", TEXT),
    required("gateway_id", TEXT),
    required("status", Kind::Choice(&["active"])),
    required("cname_target", TEXT),
    required("created_at", INTEGER),
    required("modified_at", INTEGER),
];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: PATH,
        name: "custom_domains.list",
        about: "List the host names of a gateway",
        needs: READ,
        query: &paging(1, 100),
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: list,
    },
    Operation {
        method: "POST",
        path: PATH,
        name: "custom_domains.create",
        about: "Lead a host name to a gateway; paths on it begin with the provider",
        needs: WRITE,
        query: &[],
        body: Body::Members(&[
            required(
                "domain",
                Kind::Checked(
                    |text| hostname(text).is_some(),
                    "must be a host name such as ai.example.com",
                ),
            ),
            // Cloudflare's zone; nothing here has one.
            optional("zone_id", TEXT),
        ]),
        answers: Answers::Result(ANSWER),
        run: create,
    },
    Operation {
        method: "GET",
        path: ONE,
        name: "custom_domains.get",
        about: "Read a host name of a gateway",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: get,
    },
    Operation {
        method: "DELETE",
        path: ONE,
        name: "custom_domains.delete",
        about: "Lead a host name nowhere any more",
        needs: WRITE,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: delete,
    },
];

/// A domain as it is stored.
struct Row {
    hostname: String,
    gateway_id: String,
    created_at: i64,
    modified_at: i64,
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let query = "SELECT hostname, gateway_id, created_at, modified_at FROM domains WHERE gateway_id = ?1 ORDER BY hostname";
    let mut statement = call.database.prepare_cached(query)?;
    let mut all = Vec::new();
    for row in statement.query_map([&gateway.id], of_row)? {
        all.push(show(call, &row?));
    }
    Ok(call.paginate(all))
}

fn get(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    Ok(Answer::Result(show(call, &row)))
}

fn create(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let gateway = gateways::existing(call)?;
    let given = call.body["domain"].as_str().unwrap_or_default();
    let hostname = hostname(given).unwrap_or_default();
    let path = ["body", "domain"];
    if public_host(call).as_deref() == Some(&*hostname) {
        let message = "this is the host of public_url, where every gateway is reached by its path";
        return Err(Problem::field(&path, message));
    }
    if let Some(row) = find(call, &hostname)? {
        // A gateway that has left the configuration file leaves its names behind.
        let declared = call.office.declared.load_full();
        let held = declared.gateways.contains_key(&row.gateway_id)
            || gateways::read(call.database, &row.gateway_id)?.is_some();
        if held {
            return Err(Problem::exists(&path, &format!("the domain {hostname:?}")));
        }
        call.database
            .execute("DELETE FROM domains WHERE hostname = ?1", [&hostname])?;
    }
    let now = now();
    let row = Row {
        hostname,
        gateway_id: gateway.id,
        created_at: now,
        modified_at: now,
    };
    call.database.execute(
        "INSERT INTO domains (hostname, gateway_id, created_at, modified_at) VALUES (?1, ?2, ?3, ?3)",
        params![row.hostname, row.gateway_id, now],
    )?;
    let shown = show(call, &row);
    call.audit("create", (RESOURCE, &row.hostname), None, Some(&shown))?;
    call.changes.push(Change::Domains);
    Ok(Answer::Result(shown))
}

fn delete(call: &mut Call<'_>) -> Result<Answer, Problem> {
    let row = existing(call)?;
    call.database
        .execute("DELETE FROM domains WHERE hostname = ?1", [&row.hostname])?;
    let shown = show(call, &row);
    call.audit("delete", (RESOURCE, &row.hostname), Some(&shown), None)?;
    call.changes.push(Change::Domains);
    Ok(Answer::Result(shown))
}

/// The domain that the path names, on the gateway that it names.
fn existing(call: &Call<'_>) -> Result<Row, Problem> {
    let gateway = gateways::existing(call)?;
    let found = match hostname(call.parameter("hostname")) {
        Some(hostname) => find(call, &hostname)?,
        None => None,
    };
    found
        .filter(|row| row.gateway_id == gateway.id)
        .ok_or_else(|| Problem::not_found("custom domain"))
}

fn find(call: &Call<'_>, hostname: &str) -> Result<Option<Row>, Problem> {
    let query =
        "SELECT hostname, gateway_id, created_at, modified_at FROM domains WHERE hostname = ?1";
    let mut statement = call.database.prepare_cached(query)?;
    Ok(statement.query_row([hostname], of_row).optional()?)
}

fn of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        hostname: row.get(0)?,
        gateway_id: row.get(1)?,
        created_at: row.get(2)?,
        modified_at: row.get(3)?,
    })
}

/// Times are Unix milliseconds here (control plane 1.7).
fn show(call: &Call<'_>, row: &Row) -> Value {
    json!({
        "hostname": row.hostname,
        "gateway_id": row.gateway_id,
        "status": "active",
        "cname_target": public_host(call).or_else(|| own_host(call)).unwrap_or_default(),
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    })
}

/// The host of `public_url`, in lower case.
fn public_host(call: &Call<'_>) -> Option<String> {
    let declared = call.office.declared.load();
    let url = declared.public_url.as_deref()?;
    let (_, rest) = url.split_once("://")?;
    Some(host_of(rest.split('/').next().unwrap_or(rest)))
}

/// The name under which the caller reached this listener: the best guess where `public_url` is not set.
fn own_host(call: &Call<'_>) -> Option<String> {
    call.host.as_deref().map(host_of)
}

/// An authority without its port, in lower case.
fn host_of(authority: &str) -> String {
    let host = match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    };
    host.to_ascii_lowercase()
}

/// A host name in lower case (RFC 1123 section 2.1), without the dot of the root. Addresses are none: they stand for the
/// whole instance.
fn hostname(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_name = name.len() <= 253
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit());
    is_name.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_lower_case_and_no_addresses() {
        let long = format!("{}.example", "x".repeat(63));
        for (given, taken) in [
            ("AI.Example.COM", "ai.example.com"),
            ("ai.example.com.", "ai.example.com"),
            ("llm", "llm"),
            ("1st.example", "1st.example"),
            (&long, &long),
        ] {
            assert_eq!(hostname(given).as_deref(), Some(taken));
        }
        for wrong in [
            "",
            ".",
            "a..b",
            "-a.example",
            "a-.example",
            "a_b.example",
            "10.0.0.1",
            "[::1]",
            "a.example:443",
            "https://a.example",
            "a.example/x",
            "bücher.example",
            "*.example",
            &format!("{}.example", "x".repeat(64)),
            &"a.".repeat(128),
        ] {
            assert_eq!(hostname(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ports_are_no_part_of_a_host() {
        assert_eq!(host_of("AI.example:8443"), "ai.example");
        assert_eq!(host_of("[::1]:80"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
    }
}
