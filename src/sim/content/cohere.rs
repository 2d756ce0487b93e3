//! Cohere's chat, version 2 and the older version 1.

use serde_json::{Value, json};

use super::chat;
use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage};
use super::text::{json_tokens, tokens};

/// Version 2 of the chat API.
pub struct Version2;

/// Version 1: one message, another stream.
pub struct Version1;

/// Reads a chat request of either version.
pub fn ask(body: &Value) -> Ask {
    let mut ask = chat::ask(body);
    if let Some(message) = body["message"].as_str() {
        ask.question = message.to_owned();
        ask.prompt = tokens(message)
            + json_tokens(&body["chat_history"])
            + json_tokens(&body["preamble"])
            + 3;
        ask.tools = Vec::new();
    }
    ask.tool_choice = match body["tool_choice"].as_str() {
        Some("REQUIRED") => ToolChoice::Required,
        Some("NONE") => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    // The reference names it one way, the guides the other.
    let format = &body["response_format"];
    if let Some(schema) = format.get("json_schema").or_else(|| format.get("schema")) {
        ask.schema = Some(schema.clone());
    }
    if let Some(tools) = body["tools"]
        .as_array()
        .filter(|_| body["messages"].is_array())
    {
        ask.tools = tools
            .iter()
            .map(|tool| Tool {
                name: tool["function"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                schema: tool["function"]["parameters"].clone(),
            })
            .collect();
    }
    ask
}

/// Tokens of a text beside those charged for: Cohere's templates are not billed.
const TEMPLATE: u64 = 60;

fn usage(usage: &Usage) -> Value {
    json!({
        "billed_units": {"input_tokens": usage.prompt, "output_tokens": usage.output()},
        "tokens": {"input_tokens": usage.prompt + TEMPLATE, "output_tokens": usage.output()},
        "cached_tokens": usage.cached,
    })
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "COMPLETE",
        Finish::Length => "MAX_TOKENS",
        Finish::Tool => "TOOL_CALL",
        Finish::Filter => "ERROR_TOXIC",
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": format!("{name}_{}", &id[..12]), "type": "function", "function": {"name": name, "arguments": arguments}})
}

impl Version2 {
    fn emit(&self, kind: &str, mut event: Value, out: &mut Frames) {
        event["type"] = json!(kind);
        out.named(kind, &event);
    }
}

impl Dialect for Version2 {
    fn whole(&self, reply: &Reply) -> Value {
        let mut content = Vec::new();
        if !reply.reasoning().is_empty() {
            content.push(json!({"type": "thinking", "thinking": reply.reasoning()}));
        }
        if !reply.text().is_empty() {
            content.push(json!({"type": "text", "text": reply.text()}));
        }
        let mut message = json!({"role": "assistant", "content": content});
        let calls: Vec<Value> = reply
            .calls()
            .map(|(id, name, arguments)| call(id, name, arguments))
            .collect();
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
            message["tool_plan"] = json!("I will call the tool.");
        }
        let mut body = json!({"id": reply.id, "finish_reason": finish_reason(reply.finish), "message": message});
        if reply.usage_told {
            body["usage"] = usage(&reply.usage);
        }
        body
    }

    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment => {}
            Piece::Open => {
                let message = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
                self.emit(
                    "message-start",
                    json!({"id": reply.id, "delta": {"message": message}}),
                    out,
                );
            }
            Piece::BlockOpen(block) => {
                let (kind, message) = match &reply.blocks[block].kind {
                    Kind::Text => (
                        "content-start",
                        json!({"content": {"type": "text", "text": ""}}),
                    ),
                    Kind::Reasoning => (
                        "content-start",
                        json!({"content": {"type": "thinking", "thinking": ""}}),
                    ),
                    Kind::Tool { id, name } => {
                        ("tool-call-start", json!({"tool_calls": call(id, name, "")}))
                    }
                };
                self.emit(
                    kind,
                    json!({"index": index(reply, block), "delta": {"message": message}}),
                    out,
                );
            }
            Piece::Delta(block, token) => {
                let text = reply.delta(block, token);
                let (kind, message) = match reply.blocks[block].kind {
                    Kind::Text => ("content-delta", json!({"content": {"text": text}})),
                    Kind::Reasoning => ("content-delta", json!({"content": {"thinking": text}})),
                    Kind::Tool { .. } => (
                        "tool-call-delta",
                        json!({"tool_calls": {"function": {"arguments": text}}}),
                    ),
                };
                self.emit(
                    kind,
                    json!({"index": index(reply, block), "delta": {"message": message}}),
                    out,
                );
            }
            Piece::BlockClose(block) => {
                let tool = matches!(reply.blocks[block].kind, Kind::Tool { .. });
                let kind = if tool { "tool-call-end" } else { "content-end" };
                self.emit(kind, json!({"index": index(reply, block)}), out);
            }
            Piece::Finish => {
                let mut delta = json!({"finish_reason": finish_reason(reply.finish)});
                if reply.usage_told {
                    delta["usage"] = usage(&reply.usage);
                }
                self.emit("message-end", json!({"delta": delta}), out);
            }
            Piece::Error => {
                let delta = json!({"finish_reason": "ERROR", "error": "The simulated model failed midway."});
                self.emit("message-end", json!({"delta": delta}), out);
            }
        }
    }
}

/// Content and tool calls are counted apart.
fn index(reply: &Reply, block: usize) -> usize {
    let tool = |index: &usize| matches!(reply.blocks[*index].kind, Kind::Tool { .. });
    (0..block)
        .filter(|earlier| tool(earlier) == tool(&block))
        .count()
}

impl Dialect for Version1 {
    fn whole(&self, reply: &Reply) -> Value {
        let mut body = json!({
            "response_id": reply.id, "generation_id": reply.id, "text": reply.text(),
            "finish_reason": finish_reason(reply.finish), "chat_history": [],
        });
        if reply.usage_told {
            let usage = usage(&reply.usage);
            body["meta"] = json!({
                "api_version": {"version": "1"}, "billed_units": usage["billed_units"], "tokens": usage["tokens"],
            });
        }
        body
    }

    fn stream_type(&self) -> &'static str {
        "application/stream+json"
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        let event = match piece {
            Piece::Open => {
                json!({"event_type": "stream-start", "generation_id": reply.id, "is_finished": false})
            }
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                json!({"event_type": "text-generation", "text": reply.delta(block, token), "is_finished": false})
            }
            Piece::Finish => json!({
                "event_type": "stream-end", "is_finished": true, "finish_reason": finish_reason(reply.finish),
                "response": self.whole(reply),
            }),
            Piece::Error => {
                json!({"event_type": "stream-end", "is_finished": true, "finish_reason": "ERROR"})
            }
            _ => return,
        };
        out.push(format!("{event}\n"));
    }
}
