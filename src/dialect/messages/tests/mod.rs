//! Golden cases from the wire facts of providers 4, 6.3, 7.7, 15 and 16.

mod clients;
mod envelopes;
mod recorded;
mod requests;
mod streams;

use serde_json::Value;

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::neutral::Request;
use super::super::{Upstream, Written, chat, ids};
use super::*;
use crate::providers::Slug;

fn upstream(model: &str) -> Upstream<'_> {
    Upstream {
        slug: Slug::Anthropic,
        model,
        max_output: None,
    }
}

/// A chat client's request as Claude gets it, and what was changed.
fn from_chat(model: &str, body: Value) -> Result<(Value, String, Written), Invalid> {
    let request = chat::read_request(body)?;
    written(&request, &upstream(model))
}

fn written(
    request: &Request,
    upstream: &Upstream<'_>,
) -> Result<(Value, String, Written), Invalid> {
    let mut changes = Changes::default();
    let written = write_request(request, upstream, &mut changes)?;
    let body = serde_json::from_slice(&written.body).expect("JSON");
    Ok((body, changes.to_string(), written))
}
