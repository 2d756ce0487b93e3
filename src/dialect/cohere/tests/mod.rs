//! Golden cases of the dialect, each from a fact of the spec.

mod answers;
mod requests;

use serde_json::{Value, json};

use super::*;
use crate::dialect::changes::Changes;
use crate::dialect::failure::{Failure, FailureKind, Invalid};
use crate::dialect::neutral::*;
use crate::dialect::{Dialect, Terms, Upstream};
use crate::providers::Slug;

fn call(id: &str, name: &str, arguments: &str) -> Part {
    PartKind::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        custom: false,
        signature: None,
    })
    .into()
}

fn thought(text: &str) -> Part {
    PartKind::Thinking {
        text: text.to_owned(),
        signature: None,
    }
    .into()
}
