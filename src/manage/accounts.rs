//! The one account (spec: control plane 1.2).

use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Needs, Operation, paging, time};
use super::schema::{Field, Kind, QUERY_TEXT, TEXT, optional, required};
use crate::access::Permission as P;

const READ: Needs = Needs::Any(&[
    P::AccountSettingsRead,
    P::GatewayRead,
    P::GatewayMetadataRead,
]);
const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("type", TEXT),
    required("created_on", Kind::Time),
    required("settings", Kind::Any),
];
const CHANGE: Body = Body::Optional(&[optional("name", TEXT)]);

const fn refused(method: &'static str, path: &'static str, name: &'static str) -> Operation {
    Operation {
        method,
        path,
        name,
        about: "An instance has one account: this is always refused",
        needs: Needs::Token,
        query: &[],
        body: CHANGE,
        answers: Answers::Result(ANSWER),
        run: |_| {
            Err(Problem::new(
                403,
                10000,
                "This instance has one account, which cannot be made, changed or deleted",
            ))
        },
    }
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/accounts",
        name: "accounts.list",
        about: "List accounts",
        needs: READ,
        query: &[
            paging(1, 50)[0],
            paging(1, 50)[1],
            optional("name", QUERY_TEXT),
            optional("direction", QUERY_TEXT),
        ],
        body: Body::None,
        answers: Answers::Page(ANSWER),
        run: |call| {
            let account = show(call)?;
            Ok(call.paginate(vec![account]))
        },
    },
    Operation {
        method: "GET",
        path: "/accounts/{account_id}",
        name: "accounts.get",
        about: "Read the account",
        needs: READ,
        query: &[],
        body: Body::None,
        answers: Answers::Result(ANSWER),
        run: |call| show(call).map(Answer::Result),
    },
    refused("POST", "/accounts", "accounts.create"),
    refused("PUT", "/accounts/{account_id}", "accounts.update"),
    refused("DELETE", "/accounts/{account_id}", "accounts.delete"),
];

fn show(call: &Call<'_>) -> Result<Value, Problem> {
    let query = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'created'";
    let created = call.database.query_row(query, [], |row| row.get(0))?;
    Ok(json!({
        "id": &*call.office.account,
        "name": "ringgate",
        "type": "standard",
        "created_on": time(created),
        "settings": {"enforce_twofactor": false, "abuse_contact_email": null},
    }))
}
