//! The rows and cells of the provider pages, as chat sees them.

mod answers;
mod edits;
mod recorded;
mod repairs;
mod requests;
mod streams;

use serde_json::{Value, json};

use super::super::changes::Changes;
use super::super::failure::{Failure, FailureKind, Invalid};
use super::super::neutral::*;
use super::super::stream::{Transform, Translator, Writer};
use super::super::{Dialect, Terms, Upstream};
use super::*;
use crate::providers::Slug;

fn upstream(slug: Slug, model: &str) -> Upstream<'_> {
    Upstream {
        slug,
        model,
        max_output: None,
    }
}

fn terms() -> Terms {
    Terms {
        model: "m".to_owned(),
        id: "abc".to_owned(),
        created: 7,
        include_usage: true,
        ..Terms::default()
    }
}

/// What becomes of a chat client's request, and what is told of it.
fn edited(slug: Slug, model: &str, body: Value) -> (Value, String) {
    let mut changes = Changes::default();
    let body = body.to_string();
    let edited = edit_request(body.as_bytes(), &upstream(slug, model), &mut changes).unwrap();
    let value = serde_json::from_slice(&edited.body).unwrap();
    (value, changes.to_string())
}

fn refused(slug: Slug, body: Value) -> Invalid {
    let body = body.to_string();
    let upstream = upstream(slug, "m");
    edit_request(body.as_bytes(), &upstream, &mut Changes::default()).unwrap_err()
}

fn hello(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}
