//! OpenAI's Responses API.

use serde_json::{Value, json};

use super::chat::content_text;
use super::reply::{
    Ask, Block, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage,
};
use super::text::json_tokens;

/// The Responses dialect.
#[derive(Default)]
pub struct Responses {
    sequence: u64,
    /// OpenRouter ends its stream with `[DONE]`; OpenAI does not.
    done: bool,
}

/// Reads a Responses request.
pub fn ask(body: &Value) -> Ask {
    let empty = Vec::new();
    let tools = body["tools"].as_array().unwrap_or(&empty);
    let format = &body["text"]["format"];
    Ask {
        model: body["model"].as_str().unwrap_or("simulated").to_owned(),
        stream: body["stream"] == true,
        prompt: ["instructions", "input", "tools"]
            .iter()
            .map(|name| json_tokens(&body[*name]))
            .sum::<u64>()
            + 3,
        max_tokens: body["max_output_tokens"].as_u64(),
        tools: tools
            .iter()
            .filter(|tool| tool["type"] == "function")
            .map(|tool| Tool {
                name: tool["name"].as_str().unwrap_or_default().to_owned(),
                schema: tool["parameters"].clone(),
            })
            .collect(),
        tool_choice: match &body["tool_choice"] {
            Value::String(word) if word == "none" => ToolChoice::None,
            Value::String(word) if word == "required" => ToolChoice::Required,
            Value::Object(choice) => match choice.get("name").and_then(Value::as_str) {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None => ToolChoice::Auto,
            },
            _ => ToolChoice::Auto,
        },
        question: question(&body["input"]),
        schema: match format["type"].as_str() {
            Some("json_schema") => Some(format["schema"].clone()),
            Some("json_object") => {
                Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}}))
            }
            _ => None,
        },
        reasoning: body["reasoning"]["effort"]
            .as_str()
            .is_some_and(|effort| effort != "none"),
        choices: 1,
    }
}

fn question(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        Value::Array(items) => match items.last() {
            Some(item) if item["role"] == "user" => content_text(&item["content"]),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

impl Responses {
    /// The dialect of `slug`.
    pub fn new(slug: &str) -> Self {
        Self {
            sequence: 0,
            done: slug == "openrouter",
        }
    }

    fn emit(&mut self, kind: &str, mut event: Value, out: &mut Frames) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        out.named(kind, &event);
    }

    fn block_open(&mut self, reply: &Reply, index: usize, out: &mut Frames) {
        let block = &reply.blocks[index];
        let added = json!({"output_index": index, "item": item(reply, block, false)});
        self.emit("response.output_item.added", added, out);
        let (kind, part) = match block.kind {
            Kind::Text => (
                "response.content_part.added",
                json!({"type": "output_text", "text": "", "annotations": []}),
            ),
            Kind::Reasoning => (
                "response.reasoning_summary_part.added",
                json!({"type": "summary_text", "text": ""}),
            ),
            Kind::Tool { .. } => return,
        };
        let event = json!({
            "item_id": item_id(reply, block), "output_index": index, position(block): 0, "part": part,
        });
        self.emit(kind, event, out);
    }

    fn delta(&mut self, reply: &Reply, index: usize, token: usize, out: &mut Frames) {
        let block = &reply.blocks[index];
        let (stem, placed) = stem(block);
        let text = Value::from(reply.delta(index, token));
        out.push(format!(
            "event: response.{stem}.delta\ndata: {{\"type\":\"response.{stem}.delta\",\"sequence_number\":{},\"item_id\":\"{}\",\
             \"output_index\":{index},{placed}\"delta\":{text}}}\n\n",
            self.sequence,
            item_id(reply, block),
        ));
        self.sequence += 1;
    }

    fn block_close(&mut self, reply: &Reply, index: usize, out: &mut Frames) {
        let block = &reply.blocks[index];
        let id = item_id(reply, block);
        let field = if matches!(block.kind, Kind::Tool { .. }) {
            "arguments"
        } else {
            "text"
        };
        let kind = format!("response.{}.done", stem(block).0);
        let mut done = json!({"item_id": id, "output_index": index, field: block.text});
        if let Kind::Tool { name, .. } = &block.kind {
            done["name"] = json!(name);
        } else {
            done[position(block)] = json!(0);
        }
        if block.kind == Kind::Text {
            done["logprobs"] = json!([]);
        }
        self.emit(&kind, done, out);
        let (kind, part) = match block.kind {
            Kind::Text => (
                "response.content_part.done",
                json!({"type": "output_text", "text": block.text, "annotations": []}),
            ),
            Kind::Reasoning => (
                "response.reasoning_summary_part.done",
                json!({"type": "summary_text", "text": block.text}),
            ),
            Kind::Tool { .. } => ("", Value::Null),
        };
        if !kind.is_empty() {
            self.emit(
                kind,
                json!({"item_id": id, "output_index": index, position(block): 0, "part": part}),
                out,
            );
        }
        let done = json!({"output_index": index, "item": item(reply, block, true)});
        self.emit("response.output_item.done", done, out);
    }
}

impl Dialect for Responses {
    fn whole(&self, reply: &Reply) -> Value {
        response(reply, final_status(reply.finish))
    }

    fn headers(&self, reply: &Reply) -> Vec<(&'static str, String)> {
        vec![("x-request-id", format!("req_{}", reply.id))]
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment => {}
            Piece::Open => {
                for kind in ["response.created", "response.in_progress"] {
                    self.emit(
                        kind,
                        json!({"response": response(reply, "in_progress")}),
                        out,
                    );
                }
            }
            Piece::BlockOpen(block) => self.block_open(reply, block, out),
            Piece::Delta(block, token) => self.delta(reply, block, token, out),
            Piece::BlockClose(block) => self.block_close(reply, block, out),
            Piece::Finish => {
                let status = final_status(reply.finish);
                let kind = format!("response.{status}");
                self.emit(&kind, json!({"response": response(reply, status)}), out);
                if self.done {
                    out.push("data: [DONE]\n\n");
                }
            }
            Piece::Error => {
                let mut failed = response(reply, "failed");
                failed["error"] = json!({"code": "server_error", "message": "The simulated model failed midway."});
                self.emit("response.failed", json!({"response": failed}), out);
            }
        }
    }
}

fn final_status(finish: Finish) -> &'static str {
    match finish {
        Finish::Length | Finish::Filter => "incomplete",
        Finish::Stop | Finish::Tool => "completed",
    }
}

/// The name of a block's delta events and the position field inside them.
fn stem(block: &Block) -> (&'static str, &'static str) {
    match block.kind {
        Kind::Text => ("output_text", "\"content_index\":0,\"logprobs\":[],"),
        Kind::Reasoning => ("reasoning_summary_text", "\"summary_index\":0,"),
        Kind::Tool { .. } => ("function_call_arguments", ""),
    }
}

fn position(block: &Block) -> &'static str {
    if block.kind == Kind::Reasoning {
        "summary_index"
    } else {
        "content_index"
    }
}

fn item_id(reply: &Reply, block: &Block) -> String {
    match &block.kind {
        Kind::Text => format!("msg_{}", reply.id),
        Kind::Reasoning => format!("rs_{}", reply.id),
        Kind::Tool { id, .. } => format!("fc_{id}"),
    }
}

fn item(reply: &Reply, block: &Block, done: bool) -> Value {
    let status = if done { "completed" } else { "in_progress" };
    let text = if done { block.text.as_str() } else { "" };
    let parts = |kind: &str| {
        if !done {
            return json!([]);
        }
        match kind {
            "output_text" => {
                json!([{"type": kind, "text": text, "annotations": [], "logprobs": []}])
            }
            _ => json!([{"type": kind, "text": text}]),
        }
    };
    let id = item_id(reply, block);
    match &block.kind {
        Kind::Text => {
            json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": parts("output_text")})
        }
        Kind::Reasoning => json!({"id": id, "type": "reasoning", "summary": parts("summary_text")}),
        Kind::Tool { id: call, name } => json!({
            "id": id, "type": "function_call", "status": status, "arguments": text,
            "call_id": format!("call_{call}"), "name": name,
        }),
    }
}

fn response(reply: &Reply, status: &str) -> Value {
    let ended = matches!(status, "completed" | "incomplete");
    let reason = match reply.finish {
        Finish::Length => json!({"reason": "max_output_tokens"}),
        Finish::Filter => json!({"reason": "content_filter"}),
        _ => Value::Null,
    };
    let output: Vec<Value> = reply
        .blocks
        .iter()
        .filter(|_| ended)
        .map(|block| item(reply, block, true))
        .collect();
    json!({
        "id": format!("resp_{}", reply.id), "object": "response", "created_at": reply.created, "status": status,
        "background": false, "error": null, "incomplete_details": if ended { reason } else { Value::Null },
        "instructions": null, "max_output_tokens": null, "model": reply.model, "output": output,
        "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null},
        "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": if ended && reply.usage_told { usage(&reply.usage) } else { Value::Null },
        "user": null, "metadata": {},
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output(), "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}
