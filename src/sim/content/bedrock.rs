//! Bedrock's Converse, and InvokeModel for models whose own format is close to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::eventstream;
use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage};
use super::text::json_tokens;

/// The Converse dialect; `invoke`: Nova's own events inside `chunk` frames.
pub struct Converse {
    invoke: bool,
    pad: usize,
}

/// Reads a Converse request (Nova's invoke body has the same fields).
pub fn ask(body: &Value, model: &str, stream: bool) -> Ask {
    let empty = Vec::new();
    let tools = body["toolConfig"]["tools"].as_array().unwrap_or(&empty);
    let choice = &body["toolConfig"]["toolChoice"];
    let extra = &body["additionalModelRequestFields"];
    let last = body["messages"]
        .as_array()
        .and_then(|messages| messages.last());
    Ask {
        model: model.to_owned(),
        stream,
        prompt: prompt_tokens(body),
        max_tokens: body["inferenceConfig"]["maxTokens"].as_u64(),
        tools: tools
            .iter()
            .filter(|tool| tool["toolSpec"].is_object())
            .map(|tool| Tool {
                name: tool["toolSpec"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                schema: tool["toolSpec"]["inputSchema"]["json"].clone(),
            })
            .collect(),
        tool_choice: match (choice.get("any"), choice["tool"]["name"].as_str()) {
            (Some(_), _) => ToolChoice::Required,
            (None, Some(name)) => ToolChoice::Named(name.to_owned()),
            (None, None) => ToolChoice::Auto,
        },
        question: last.map(question).unwrap_or_default(),
        schema: body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok()),
        reasoning: matches!(
            extra["thinking"]["type"].as_str(),
            Some("enabled" | "adaptive")
        ) || extra["reasoning_effort"].is_string()
            || extra["reasoningConfig"]["type"] == "enabled",
        choices: 1,
    }
}

/// What CountTokens answers for a request.
pub fn prompt_tokens(body: &Value) -> u64 {
    ["system", "messages", "toolConfig"]
        .iter()
        .map(|name| json_tokens(&body[*name]))
        .sum::<u64>()
        + 3
}

/// The headers of non-streamed answers that tell the counts.
pub fn count_headers(usage: &Usage) -> Vec<(&'static str, String)> {
    vec![
        (
            "x-amzn-requestid",
            "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        ),
        (
            "x-amzn-bedrock-input-token-count",
            usage.fresh().to_string(),
        ),
        (
            "x-amzn-bedrock-output-token-count",
            usage.output().to_string(),
        ),
        (
            "x-amzn-bedrock-cache-read-input-token-count",
            usage.cached.to_string(),
        ),
        (
            "x-amzn-bedrock-cache-write-input-token-count",
            usage.cache_write.to_string(),
        ),
        ("x-amzn-bedrock-invocation-latency", "100".to_owned()),
    ]
}

fn question(message: &Value) -> String {
    let empty = Vec::new();
    let blocks = message["content"].as_array().unwrap_or(&empty);
    if message["role"] != "user" || blocks.iter().any(|block| block.get("toolResult").is_some()) {
        return String::new();
    }
    blocks
        .iter()
        .filter_map(|block| block["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

impl Converse {
    /// The dialect of one operation.
    pub fn new(invoke: bool) -> Self {
        Self { invoke, pad: 0 }
    }

    fn emit(&mut self, name: &str, mut payload: Value, out: &mut Frames) {
        const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP";
        self.pad = (self.pad * 7 + 3) % PADDING.len();
        let padding = &PADDING[..self.pad];
        if self.invoke {
            let inner = STANDARD.encode(json!({name: payload}).to_string());
            payload = json!({"bytes": inner, "p": padding});
            out.push(eventstream::event("chunk", payload.to_string().as_bytes()));
            return;
        }
        payload["p"] = json!(padding);
        out.push(eventstream::event(name, payload.to_string().as_bytes()));
    }
}

impl Dialect for Converse {
    fn whole(&self, reply: &Reply) -> Value {
        let blocks: Vec<Value> = reply
            .blocks
            .iter()
            .map(|block| match &block.kind {
                Kind::Text => json!({"text": block.text}),
                Kind::Reasoning => {
                    json!({"reasoningContent": {"reasoningText": {"text": block.text, "signature": SIGNATURE}}})
                }
                Kind::Tool { id, name } => json!({"toolUse": {
                    "toolUseId": format!("tooluse_{id}"), "name": name,
                    "input": serde_json::from_str::<Value>(&block.text).unwrap_or_else(|_| json!({})),
                }}),
            })
            .collect();
        let mut body = json!({
            "output": {"message": {"role": "assistant", "content": blocks}},
            "stopReason": stop_reason(reply.finish), "metrics": {"latencyMs": 100},
        });
        if reply.usage_told {
            body["usage"] = usage(&reply.usage);
        }
        body
    }

    fn headers(&self, reply: &Reply) -> Vec<(&'static str, String)> {
        let mut headers = count_headers(&reply.usage);
        if !self.invoke {
            headers.truncate(1);
        }
        headers
    }

    fn stream_type(&self) -> &'static str {
        eventstream::CONTENT_TYPE
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment => {}
            Piece::Open => self.emit("messageStart", json!({"role": "assistant"}), out),
            Piece::BlockOpen(block) => {
                // Text and reasoning blocks have no start event.
                if let Kind::Tool { id, name } = &reply.blocks[block].kind {
                    let start =
                        json!({"toolUse": {"toolUseId": format!("tooluse_{id}"), "name": name}});
                    self.emit(
                        "contentBlockStart",
                        json!({"contentBlockIndex": block, "start": start}),
                        out,
                    );
                }
            }
            Piece::Delta(block, token) => {
                let text = reply.delta(block, token);
                let delta = match reply.blocks[block].kind {
                    Kind::Text => json!({"text": text}),
                    Kind::Reasoning => json!({"reasoningContent": {"text": text}}),
                    Kind::Tool { .. } => json!({"toolUse": {"input": text}}),
                };
                self.emit(
                    "contentBlockDelta",
                    json!({"contentBlockIndex": block, "delta": delta}),
                    out,
                );
            }
            Piece::BlockClose(block) => {
                if reply.blocks[block].kind == Kind::Reasoning {
                    let delta = json!({"reasoningContent": {"signature": SIGNATURE}});
                    self.emit(
                        "contentBlockDelta",
                        json!({"contentBlockIndex": block, "delta": delta}),
                        out,
                    );
                }
                self.emit("contentBlockStop", json!({"contentBlockIndex": block}), out);
            }
            Piece::Finish => {
                self.emit(
                    "messageStop",
                    json!({"stopReason": stop_reason(reply.finish)}),
                    out,
                );
                let mut metadata = json!({"metrics": {"latencyMs": 100}});
                if reply.usage_told {
                    metadata["usage"] = usage(&reply.usage);
                }
                self.emit("metadata", metadata, out);
            }
            Piece::Error => {
                let payload = br#"{"message":"The simulated model failed midway."}"#;
                out.push(eventstream::exception("modelStreamErrorException", payload));
            }
        }
    }
}

const SIGNATURE: &str = "c2ltdWxhdGVkLXNpZ25hdHVyZQ==";

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
        Finish::Filter => "content_filtered",
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "inputTokens": usage.fresh(), "outputTokens": usage.output(), "totalTokens": usage.total(),
        "cacheReadInputTokens": usage.cached, "cacheWriteInputTokens": usage.cache_write,
        "cacheReadInputTokenCount": usage.cached, "cacheWriteInputTokenCount": usage.cache_write,
    })
}
