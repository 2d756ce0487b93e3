//! Golden cases of the dialect, each from a fact of the spec; what was recorded is checked where it is at hand.

mod answers;
mod recorded;
mod requests;
mod streams;

use serde_json::{Value, json};

use super::*;
use crate::dialect::changes::Changes;
use crate::dialect::failure::{Failure, FailureKind, Invalid};
use crate::dialect::neutral::*;
use crate::dialect::{Dialect, Terms, Upstream};
use crate::providers::Slug;

fn terms(tools: &[&str]) -> Terms {
    Terms {
        model: "gemini-3-flash-preview".to_owned(),
        id: "Ab12".to_owned(),
        tools: tools.iter().map(|name| (*name).to_owned()).collect(),
        ..Terms::default()
    }
}

fn google(data: &str) -> Signature {
    Signature::new(Origin::Google, data)
}

fn call(id: &str, name: &str, arguments: &str, signature: Option<Signature>) -> Part {
    PartKind::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        custom: false,
        signature,
    })
    .into()
}
