//! Gemini's generateContent, on AI Studio and on Vertex.

use serde_json::{Value, json};

use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage};
use super::text::json_tokens;
use crate::limits::SIM_CHOICES_MAX;

/// The Gemini dialect.
pub struct Gemini {
    /// `alt=sse`; without it a stream is one JSON array.
    sse: bool,
    /// Vertex adds fields to the usage.
    vertex: bool,
    started: bool,
    seen: u64,
}

/// Reads a generateContent request: camelCase and snake_case names alike.
pub fn ask(body: &Value, model: &str, stream: bool) -> Ask {
    let generation = either(body, "generationConfig", "generation_config");
    let declarations = either(
        &either(body, "tools", "tools")[0],
        "functionDeclarations",
        "function_declarations",
    );
    let calling = either(
        either(body, "toolConfig", "tool_config"),
        "functionCallingConfig",
        "function_calling_config",
    );
    let allowed = either(calling, "allowedFunctionNames", "allowed_function_names");
    let mime = either(generation, "responseMimeType", "response_mime_type");
    let thinking = either(generation, "thinkingConfig", "thinking_config");
    Ask {
        model: model.to_owned(),
        stream,
        prompt: prompt_tokens(body),
        max_tokens: either(generation, "maxOutputTokens", "max_output_tokens").as_u64(),
        tools: declarations
            .as_array()
            .map(|list| list.iter().map(tool).collect())
            .unwrap_or_default(),
        tool_choice: match (calling["mode"].as_str(), allowed[0].as_str()) {
            (Some("ANY"), Some(name)) => ToolChoice::Named(name.to_owned()),
            (Some("ANY"), None) => ToolChoice::Required,
            (Some("NONE"), _) => ToolChoice::None,
            _ => ToolChoice::Auto,
        },
        question: question(
            body["contents"]
                .as_array()
                .and_then(|contents| contents.last()),
        ),
        schema: (mime == "application/json").then(|| response_schema(generation)),
        reasoning: thinking["thinkingLevel"].is_string()
            || thinking["includeThoughts"] == true
            || thinking["thinkingBudget"]
                .as_i64()
                .is_some_and(|budget| budget != 0),
        choices: either(generation, "candidateCount", "candidate_count")
            .as_u64()
            .unwrap_or(1)
            .clamp(1, SIM_CHOICES_MAX),
    }
}

/// What countTokens answers for a request.
pub fn prompt_tokens(body: &Value) -> u64 {
    [
        "contents",
        "systemInstruction",
        "system_instruction",
        "tools",
    ]
    .iter()
    .map(|name| json_tokens(&body[*name]))
    .sum()
}

fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    value
        .get(camel)
        .or(value.get(snake))
        .unwrap_or(&Value::Null)
}

fn tool(declaration: &Value) -> Tool {
    let schema = either(
        declaration,
        "parametersJsonSchema",
        "parameters_json_schema",
    );
    let schema = if schema.is_null() {
        &declaration["parameters"]
    } else {
        schema
    };
    Tool {
        name: declaration["name"].as_str().unwrap_or_default().to_owned(),
        schema: schema.clone(),
    }
}

fn question(last: Option<&Value>) -> String {
    let Some(parts) = last
        .filter(|content| content["role"] != "model")
        .and_then(|content| content["parts"].as_array())
    else {
        return String::new();
    };
    parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

fn response_schema(generation: &Value) -> Value {
    let schema = either(generation, "responseJsonSchema", "response_json_schema");
    let schema = if schema.is_null() {
        either(generation, "responseSchema", "response_schema")
    } else {
        schema
    };
    if schema.is_null() {
        return json!({"type": "object", "properties": {"answer": {"type": "string"}}});
    }
    schema.clone()
}

impl Gemini {
    /// The dialect for one request.
    pub fn new(sse: bool, vertex: bool) -> Self {
        Self {
            sse,
            vertex,
            started: false,
            seen: 0,
        }
    }

    fn emit(&mut self, event: &Value, out: &mut Frames) {
        if self.sse {
            out.data(event);
        } else {
            let lead = if self.started { ",\r\n" } else { "[" };
            out.push(format!("{lead}{event}"));
        }
        self.started = true;
    }

    fn chunk(&mut self, reply: &Reply, parts: Value, finish: Option<&str>, out: &mut Frames) {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(reason) = finish {
            candidate["finishReason"] = json!(reason);
        }
        let mut usage = reply.usage;
        if finish.is_none() {
            usage.visible = usage.visible.min(self.seen.saturating_sub(usage.reasoning));
            usage.reasoning = usage.reasoning.min(self.seen);
        }
        let event = self.body(reply, json!([candidate]), &usage);
        self.emit(&event, out);
    }

    fn body(&self, reply: &Reply, candidates: Value, usage: &Usage) -> Value {
        let mut body = json!({
            "candidates": candidates, "modelVersion": reply.model, "responseId": reply.id,
        });
        if reply.usage_told {
            body["usageMetadata"] = self.usage(usage);
        }
        if self.vertex {
            body["createTime"] = json!("2026-01-15T12:00:00.000000Z");
        }
        body
    }

    fn usage(&self, usage: &Usage) -> Value {
        let mut fields = json!({
            "promptTokenCount": usage.prompt, "candidatesTokenCount": usage.visible, "totalTokenCount": usage.total(),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}],
        });
        if usage.reasoning > 0 {
            fields["thoughtsTokenCount"] = json!(usage.reasoning);
        }
        if usage.cached > 0 {
            fields["cachedContentTokenCount"] = json!(usage.cached);
        }
        if self.vertex {
            fields["trafficType"] = json!("ON_DEMAND");
        }
        fields
    }
}

impl Dialect for Gemini {
    fn whole(&self, reply: &Reply) -> Value {
        let parts: Vec<Value> = reply
            .blocks
            .iter()
            .map(|block| match &block.kind {
                Kind::Text => json!({"text": block.text}),
                Kind::Reasoning => json!({"text": block.text, "thought": true}),
                Kind::Tool { id, name } => call(reply, id, name, &block.text),
            })
            .collect();
        let candidate = |index: u64| {
            json!({
                "content": {"parts": parts, "role": "model"}, "finishReason": finish_reason(reply.finish),
                "index": index, "avgLogprobs": -0.1,
            })
        };
        let candidates: Vec<Value> = (0..reply.choices).map(candidate).collect();
        self.body(reply, Value::Array(candidates), &reply.usage)
    }

    fn stream_type(&self) -> &'static str {
        if self.sse {
            "text/event-stream"
        } else {
            "application/json; charset=UTF-8"
        }
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment | Piece::Open | Piece::BlockOpen(_) => {}
            Piece::Delta(block, token) => {
                self.seen += 1;
                let text = reply.delta(block, token);
                match &reply.blocks[block].kind {
                    Kind::Text => self.chunk(reply, json!([{"text": text}]), None, out),
                    Kind::Reasoning => {
                        self.chunk(reply, json!([{"text": text, "thought": true}]), None, out)
                    }
                    Kind::Tool { .. } => {}
                }
            }
            Piece::BlockClose(block) => {
                // A call comes whole, when its last token is made.
                if let Kind::Tool { id, name } = &reply.blocks[block].kind {
                    let call = call(reply, id, name, &reply.blocks[block].text);
                    self.chunk(reply, json!([call]), None, out);
                }
            }
            Piece::Finish => {
                self.chunk(
                    reply,
                    json!([{"text": ""}]),
                    Some(finish_reason(reply.finish)),
                    out,
                );
                if !self.sse {
                    out.push("]");
                }
            }
            Piece::Error => {
                // Google writes it as bare, pretty-printed JSON between the events.
                let error = json!({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}});
                let pretty = format!("{error:#}\n\n");
                if self.sse {
                    out.push(pretty)
                } else {
                    out.push(format!(",\r\n{pretty}]"))
                }
            }
        }
    }
}

/// Gemini 2 gives no identifiers; Gemini 3 gives them and signs the call.
fn call(reply: &Reply, id: &str, name: &str, arguments: &str) -> Value {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    if !reply.model.contains("gemini-3") {
        return json!({"functionCall": {"name": name, "args": arguments}});
    }
    json!({
        "functionCall": {"name": name, "args": arguments, "id": &id[..8]},
        "thoughtSignature": "c2ltdWxhdGVkLXNpZ25hdHVyZQ==",
    })
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Tool => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
    }
}
