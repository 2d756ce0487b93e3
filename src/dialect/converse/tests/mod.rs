use serde_json::{Value, json};

use super::*;
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::*;
use crate::dialect::{Dialect, Terms, Unwrap, Upstream, Written};
use crate::providers::Slug;

mod answers;
mod requests;
mod streams;

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_4_6: &str = "us.anthropic.claude-sonnet-4-6";
const CLAUDE_5: &str = "us.anthropic.claude-opus-5";
const CLAUDE_3: &str = "anthropic.claude-3-haiku-20240307-v1:0";
const NOVA: &str = "us.amazon.nova-lite-v1:0";
const NOVA_2: &str = "us.amazon.nova-2-lite-v1:0";
const LLAMA: &str = "meta.llama3-1-8b-instruct-v1:0";
const MISTRAL: &str = "mistral.mistral-large-2407-v1:0";
const QWEN: &str = "qwen.qwen3-32b-v1:0";
const GPT_OSS: &str = "openai.gpt-oss-120b-1:0";
const R1: &str = "us.deepseek.r1-v1:0";
const OPAQUE: &str = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc";

fn upstream(model: &str) -> Upstream<'_> {
    Upstream {
        slug: Slug::AwsBedrock,
        model,
        max_output: None,
    }
}

fn ask(model: &str) -> Request {
    let mut request = Request::new(Dialect::Chat, model);
    request.turns = vec![user("Hello")];
    request
}

fn user(text: &str) -> Turn {
    Turn::new(Role::User, vec![Part::text(text)])
}

fn assistant(parts: Vec<Part>) -> Turn {
    Turn::new(Role::Assistant, parts)
}

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

fn result(id: &str, content: Vec<Part>) -> Part {
    PartKind::ToolResult {
        id: id.to_owned(),
        content,
        is_error: false,
    }
    .into()
}

fn function(name: &str) -> Tool {
    Tool {
        kind: ToolKind::Function {
            name: name.to_owned(),
            description: Some("Does it".to_owned()),
            parameters: Some(
                json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}),
            ),
            strict: None,
        },
        cache: None,
    }
}

fn image(mime: &str) -> Part {
    PartKind::Image {
        media: Media::Inline {
            mime: mime.to_owned(),
            data: "aGk=".to_owned(),
        },
        detail: None,
    }
    .into()
}

fn document(name: &str, mime: &str) -> Part {
    PartKind::Document {
        media: Media::Inline {
            mime: mime.to_owned(),
            data: "aGk=".to_owned(),
        },
        name: Some(name.to_owned()),
    }
    .into()
}

fn marked(part: Part, ttl: Option<&str>) -> Part {
    Part {
        cache: Some(CacheMark {
            ttl: ttl.map(str::to_owned),
        }),
        ..part
    }
}

/// The body and what was changed.
fn written(request: &Request) -> (Value, String) {
    let (written, changes) = full(request);
    (
        serde_json::from_slice(&written.body).expect("JSON"),
        changes,
    )
}

fn full(request: &Request) -> (Written, String) {
    let mut changes = Changes::default();
    let written = write_request(request, &upstream(&request.model), &mut changes);
    (written.expect("a request"), changes.to_string())
}

fn refused(request: &Request) -> Invalid {
    let mut changes = Changes::default();
    write_request(request, &upstream(&request.model), &mut changes).expect_err("a refusal")
}

fn terms(model: &str) -> Terms {
    Terms {
        model: model.to_owned(),
        ..Terms::default()
    }
}
