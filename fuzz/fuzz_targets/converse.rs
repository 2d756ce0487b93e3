//! Whatever Bedrock sends and clients say: Converse's readers and writer come to an end, within bounds, and parts of a stream open
//! and close in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::dialect::changes::Changes;
use ringgate::dialect::converse::{StreamReader, read_answer, read_error, write_request};
use ringgate::dialect::neutral::{
    CacheMark, Citation, Event, Format, Media, Origin, Part, PartKind, Reasoning, Request, Role,
    Signature, Tool, ToolChoice, ToolKind, ToolUse, Turn,
};
use ringgate::dialect::stream::{Frame, Reader};
use ringgate::dialect::{Dialect, Terms, Upstream};
use ringgate::providers::Slug;
use serde_json::Value;

const MODELS: [&str; 8] = [
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-opus-5",
    "amazon.nova-lite-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "mistral.mistral-large-2407-v1:0",
    "meta.llama3-1-8b-instruct-v1:0",
    "us.deepseek.r1-v1:0",
    "arn:aws:bedrock:us-east-1:1:application-inference-profile/x",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (selector, bytes) = input;
    let model = MODELS[usize::from(selector) % MODELS.len()];
    let terms = Terms {
        model: model.to_owned(),
        ..Terms::default()
    };
    let failure = read_error(400 + u16::from(selector), None, bytes);
    assert!(!failure.message.is_empty());
    stream(bytes, &terms);
    if let Ok(body) = serde_json::from_slice::<Value>(bytes) {
        if let Ok(answer) = read_answer(body.clone(), &terms) {
            assert_eq!(answer.choices.len(), 1);
        }
        write(&body, bytes.len(), model);
    }
});

/// Events stand one on a line, each with its name before the first space.
fn stream(bytes: &[u8], terms: &Terms) {
    let mut reader = StreamReader::new(terms);
    let (mut open, mut next, mut size) = (Vec::new(), 0, 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b' ');
        let (name, data) = line.split_at(at.unwrap_or(line.len()));
        let name = std::str::from_utf8(name).unwrap_or_default();
        let frame = Frame::Event { name, data };
        let read = reader.read(frame, &mut |event| {
            size += format!("{event:?}").len();
            match event {
                Event::Open { index, .. } => {
                    assert_eq!(index, next);
                    next += 1;
                    open.push(index);
                }
                Event::Delta { index, .. } => assert!(open.contains(&index)),
                Event::Close { index, .. } => {
                    let at = open.iter().position(|at| *at == index);
                    open.remove(at.expect("an open part"));
                }
                Event::Stop { .. } => assert!(open.is_empty()),
                _ => {}
            }
        });
        if read.is_err() {
            return;
        }
    }
    assert!(size <= 64 * bytes.len() + 4096, "{size} of {}", bytes.len());
    let _ = reader.end(&mut |_| ());
}

fn write(body: &Value, length: usize, model: &str) {
    let request = request(body, model);
    let upstream = Upstream {
        slug: Slug::AwsBedrock,
        model,
        max_output: body["limit"].as_u64(),
    };
    let mut changes = Changes::default();
    if let Ok(written) = write_request(&request, &upstream, &mut changes) {
        let _: Value = serde_json::from_slice(&written.body).expect("JSON");
        let size = written.body.len();
        assert!(size <= 256 * length + 4096, "{size} of {length}");
    }
}

/// A request that says of each of its parts what the fuzzer's JSON says.
fn request(body: &Value, model: &str) -> Request {
    let mut request = Request::new(Dialect::Chat, model);
    request.system = parts(&body["system"]);
    for turn in list(&body["turns"]) {
        let role = match turn["role"].as_u64() {
            Some(0) => Role::System,
            Some(1) => Role::Assistant,
            _ => Role::User,
        };
        request.turns.push(Turn::new(role, parts(&turn["parts"])));
    }
    for tool in list(&body["tools"]) {
        request.tools.push(Tool {
            kind: ToolKind::Function {
                name: text(&tool["name"]),
                description: tool["description"].as_str().map(str::to_owned),
                parameters: tool.get("parameters").cloned(),
                strict: tool["strict"].as_bool(),
            },
            cache: cache(tool),
        });
    }
    request.tool_choice = match &body["choice"] {
        Value::String(name) => Some(ToolChoice::Named(name.clone())),
        Value::Bool(true) => Some(ToolChoice::Required),
        Value::Bool(false) => Some(ToolChoice::None),
        _ => None,
    };
    request.parallel_tool_calls = body["parallel"].as_bool();
    request.max_tokens = body["max"].as_u64();
    request.temperature = body["temperature"].as_f64();
    request.top_p = body["top_p"].as_f64();
    request.stop = list(&body["stop"]).iter().map(text).collect();
    request.reasoning = body.get("budget").map(|budget| Reasoning {
        budget: budget.as_u64(),
        adaptive: budget.is_boolean(),
        ..Reasoning::default()
    });
    request.format = body.get("schema").map(|schema| Format::JsonSchema {
        name: None,
        description: None,
        schema: schema.clone(),
        strict: None,
    });
    request.metadata = body["metadata"].as_object().cloned().unwrap_or_default();
    request
}

fn parts(value: &Value) -> Vec<Part> {
    list(value).iter().map(part).collect()
}

fn part(value: &Value) -> Part {
    let media = || match (&value["url"], &value["data"]) {
        (Value::String(url), _) => Media::Url {
            url: url.clone(),
            mime: None,
        },
        (_, Value::String(data)) => Media::Inline {
            mime: text(&value["mime"]),
            data: data.clone(),
        },
        _ => Media::Text(text(&value["text"])),
    };
    let origins = [Origin::Anthropic, Origin::Bedrock, Origin::Google];
    let origin = origins[value["origin"].as_u64().unwrap_or_default() as usize % 3];
    let signature = || Signature::new(origin, text(&value["signature"]));
    let kind = match value["kind"].as_u64() {
        Some(1) => PartKind::ToolUse(ToolUse {
            id: text(&value["id"]),
            name: text(&value["name"]),
            arguments: text(&value["text"]),
            custom: value["custom"] == true,
            signature: None,
        }),
        Some(2) => PartKind::ToolResult {
            id: text(&value["id"]),
            content: parts(&value["parts"]),
            is_error: value["failed"] == true,
        },
        Some(3) => PartKind::Image {
            media: media(),
            detail: None,
        },
        Some(4) => PartKind::Document {
            media: media(),
            name: value["name"].as_str().map(str::to_owned),
        },
        Some(5) => PartKind::Video(media()),
        Some(6) => PartKind::Thinking {
            text: text(&value["text"]),
            signature: value.get("signature").map(|_| signature()),
        },
        Some(7) => PartKind::Redacted(signature()),
        Some(8) => PartKind::Foreign(value.clone()),
        _ => PartKind::Text {
            text: text(&value["text"]),
            citations: vec![Citation::default(); usize::from(value["cited"] == true)],
            signature: None,
        },
    };
    Part {
        kind,
        cache: cache(value),
    }
}

fn cache(value: &Value) -> Option<CacheMark> {
    value.get("cache").map(|ttl| CacheMark {
        ttl: ttl.as_str().map(str::to_owned),
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
