//! Anthropic's Messages API, over SSE or inside Bedrock's `chunk` frames.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::chat::content_text;
use super::errors;
use super::eventstream;
use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage};
use super::text::json_tokens;

/// What carries the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Anthropic itself, Vertex and whoever speaks the same.
    Sse,
    /// InvokeModelWithResponseStream.
    Bedrock,
}

/// The Messages dialect.
pub struct Messages {
    carrier: Carrier,
}

/// Reads a Messages request; the model may come from the path.
pub fn ask(body: &Value, model: Option<&str>) -> Ask {
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    let last = messages.last();
    let tools = body["tools"].as_array().unwrap_or(&empty);
    Ask {
        model: model
            .or(body["model"].as_str())
            .unwrap_or("simulated")
            .to_owned(),
        stream: body["stream"] == true,
        prompt: prompt_tokens(body),
        max_tokens: body["max_tokens"].as_u64(),
        tools: tools
            .iter()
            .map(|tool| Tool {
                name: tool["name"].as_str().unwrap_or_default().to_owned(),
                schema: tool["input_schema"].clone(),
            })
            .collect(),
        tool_choice: match body["tool_choice"]["type"].as_str() {
            Some("any") => ToolChoice::Required,
            Some("none") => ToolChoice::None,
            Some("tool") => ToolChoice::Named(
                body["tool_choice"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            ),
            _ => ToolChoice::Auto,
        },
        question: last.map(question).unwrap_or_default(),
        schema: body["output_config"]["format"].get("schema").cloned(),
        reasoning: matches!(
            body["thinking"]["type"].as_str(),
            Some("enabled" | "adaptive")
        ),
        choices: 1,
    }
}

/// What `count_tokens` answers for a request.
pub fn prompt_tokens(body: &Value) -> u64 {
    let parts = ["system", "messages", "tools"];
    parts
        .iter()
        .map(|name| json_tokens(&body[*name]))
        .sum::<u64>()
        + 3
}

fn question(message: &Value) -> String {
    let answers_a_tool = message["content"]
        .as_array()
        .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"));
    if message["role"] == "user" && !answers_a_tool {
        content_text(&message["content"])
    } else {
        String::new()
    }
}

impl Messages {
    /// The dialect over one carrier.
    pub fn new(carrier: Carrier) -> Self {
        Self { carrier }
    }

    fn emit(&self, name: &str, event: &Value, out: &mut Frames) {
        match self.carrier {
            Carrier::Sse => out.named(name, event),
            Carrier::Bedrock => {
                let inner = STANDARD.encode(event.to_string());
                out.push(eventstream::event(
                    "chunk",
                    json!({"bytes": inner, "p": "abcd"}).to_string().as_bytes(),
                ));
            }
        }
    }

    fn open(&self, reply: &Reply, out: &mut Frames) {
        let mut usage = usage(&reply.usage);
        usage["output_tokens"] = json!(1);
        let mut message = envelope(reply, json!([]), usage);
        message["stop_reason"] = Value::Null;
        if !reply.usage_told {
            message.as_object_mut().map(|fields| fields.remove("usage"));
        }
        self.emit(
            "message_start",
            &json!({"type": "message_start", "message": message}),
            out,
        );
    }

    fn block_open(&self, reply: &Reply, block: usize, out: &mut Frames) {
        let content = match &reply.blocks[block].kind {
            Kind::Text => json!({"type": "text", "text": ""}),
            Kind::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Kind::Tool { id, name } => {
                json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {}})
            }
        };
        let event =
            json!({"type": "content_block_start", "index": block, "content_block": content});
        self.emit("content_block_start", &event, out);
        if block == 0 && self.carrier == Carrier::Sse {
            self.emit("ping", &json!({"type": "ping"}), out);
        }
    }

    fn delta(&self, index: usize, delta: &str, out: &mut Frames) {
        match self.carrier {
            // The one event that comes for every token is written without a JSON tree.
            Carrier::Sse => out.push(format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}\n\n"
            )),
            Carrier::Bedrock => {
                let inner = format!("{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}");
                let payload = json!({"bytes": STANDARD.encode(inner), "p": "abcdefg"});
                out.push(eventstream::event("chunk", payload.to_string().as_bytes()));
            }
        }
    }

    fn token(&self, reply: &Reply, block: usize, token: usize, out: &mut Frames) {
        let text = Value::from(reply.delta(block, token));
        let delta = match reply.blocks[block].kind {
            Kind::Text => format!("{{\"type\":\"text_delta\",\"text\":{text}}}"),
            Kind::Reasoning => format!("{{\"type\":\"thinking_delta\",\"thinking\":{text}}}"),
            Kind::Tool { .. } => {
                format!("{{\"type\":\"input_json_delta\",\"partial_json\":{text}}}")
            }
        };
        self.delta(block, &delta, out);
    }

    fn finish(&mut self, reply: &Reply, out: &mut Frames) {
        let usage = &reply.usage;
        let mut event = json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason(reply.finish), "stop_sequence": null},
        });
        if reply.usage_told {
            event["usage"] = json!({
                "input_tokens": usage.fresh(), "cache_creation_input_tokens": usage.cache_write,
                "cache_read_input_tokens": usage.cached, "output_tokens": usage.output(),
            });
        }
        self.emit("message_delta", &event, out);
        let mut stop = json!({"type": "message_stop"});
        if self.carrier == Carrier::Bedrock && reply.usage_told {
            stop["amazon-bedrock-invocationMetrics"] = json!({
                "inputTokenCount": usage.fresh(), "outputTokenCount": usage.output(), "invocationLatency": 100,
                "firstByteLatency": 10, "cacheReadInputTokenCount": usage.cached, "cacheWriteInputTokenCount": usage.cache_write,
            });
        }
        self.emit("message_stop", &stop, out);
    }
}

impl Dialect for Messages {
    fn whole(&self, reply: &Reply) -> Value {
        let blocks: Vec<Value> = reply
            .blocks
            .iter()
            .map(|block| match &block.kind {
                Kind::Text => json!({"type": "text", "text": block.text}),
                Kind::Reasoning => json!({"type": "thinking", "thinking": block.text, "signature": SIGNATURE}),
                Kind::Tool { id, name } => json!({
                    "type": "tool_use", "id": format!("toolu_{id}"), "name": name,
                    "input": serde_json::from_str::<Value>(&block.text).unwrap_or_else(|_| json!({})),
                }),
            })
            .collect();
        let mut body = envelope(reply, Value::Array(blocks), usage(&reply.usage));
        if !reply.usage_told {
            body.as_object_mut().map(|fields| fields.remove("usage"));
        }
        body
    }

    fn headers(&self, reply: &Reply) -> Vec<(&'static str, String)> {
        let usage = &reply.usage;
        match self.carrier {
            Carrier::Sse => vec![("request-id", format!("req_{}", reply.id))],
            Carrier::Bedrock => super::bedrock::count_headers(usage),
        }
    }

    fn stream_type(&self) -> &'static str {
        match self.carrier {
            Carrier::Sse => "text/event-stream; charset=utf-8",
            Carrier::Bedrock => eventstream::CONTENT_TYPE,
        }
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment => {}
            Piece::Open => self.open(reply, out),
            Piece::BlockOpen(block) => self.block_open(reply, block, out),
            Piece::Delta(block, token) => self.token(reply, block, token, out),
            Piece::BlockClose(block) => {
                if reply.blocks[block].kind == Kind::Reasoning {
                    let signature =
                        format!("{{\"type\":\"signature_delta\",\"signature\":\"{SIGNATURE}\"}}");
                    self.delta(block, &signature, out);
                }
                self.emit(
                    "content_block_stop",
                    &json!({"type": "content_block_stop", "index": block}),
                    out,
                );
            }
            Piece::Finish => self.finish(reply, out),
            Piece::Error if self.carrier == Carrier::Bedrock => {
                let payload =
                    br#"{"message":"The simulated model failed midway.","originalStatusCode":500}"#;
                out.push(eventstream::exception("modelStreamErrorException", payload));
            }
            Piece::Error => self.emit("error", &errors::anthropic(529, "Overloaded"), out),
        }
    }
}

const SIGNATURE: &str = "c2ltdWxhdGVkLXNpZ25hdHVyZQ==";

fn envelope(reply: &Reply, content: Value, usage: Value) -> Value {
    json!({
        "id": format!("msg_{}", reply.id), "type": "message", "role": "assistant", "model": reply.model,
        "content": content, "stop_reason": stop_reason(reply.finish), "stop_sequence": null, "usage": usage,
    })
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
        Finish::Filter => "refusal",
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.fresh(), "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output(), "service_tier": "standard",
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    })
}
