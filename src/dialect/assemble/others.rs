//! Streams of the other vendors.

use serde_json::{Value, json};

use super::Maker;
use super::merge::{Parts, append, grow, member, parsed, push, replace, take};

/// Anthropic's Messages (spec: providers 4).
#[derive(Default)]
pub struct Messages {
    message: Value,
    blocks: Parts,
}

impl Maker for Messages {
    fn take(&mut self, _: &str, mut event: Value) {
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => self.message = take(&mut event, "message"),
            "content_block_start" => {
                if let Some(block) = self.blocks.at(&event["index"]) {
                    *block = take(&mut event, "content_block");
                    // It stands for what is still to come.
                    if block["input"] == json!({}) {
                        *member(block, "input") = "".into();
                    }
                }
            }
            "content_block_delta" => {
                if let Some(block) = self.blocks.at(&event["index"]) {
                    block_delta(block, take(&mut event, "delta"));
                }
            }
            "message_delta" => {
                replace(&mut self.message, take(&mut event, "delta"));
                replace(
                    member(&mut self.message, "usage"),
                    take(&mut event, "usage"),
                );
            }
            "error" => *member(&mut self.message, "error") = take(&mut event, "error"),
            _ => {}
        }
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut message = self.message;
        let mut blocks = self.blocks.into_list();
        for input in blocks.iter_mut().filter_map(|block| block.get_mut("input")) {
            parsed(input);
        }
        *member(&mut message, "content") = Value::Array(blocks);
        Some(message)
    }
}

fn block_delta(block: &mut Value, mut delta: Value) {
    match delta["type"].as_str().unwrap_or_default() {
        "text_delta" => append(block, "text", &delta["text"]),
        "thinking_delta" => append(block, "thinking", &delta["thinking"]),
        "signature_delta" => append(block, "signature", &delta["signature"]),
        "input_json_delta" => append(block, "input", &delta["partial_json"]),
        "citations_delta" => push(block, "citations", take(&mut delta, "citation")),
        _ => {}
    }
}

/// Google's generateContent (spec: providers 5).
#[derive(Default)]
pub struct Gemini {
    answer: Value,
    candidates: Parts,
}

impl Maker for Gemini {
    fn take(&mut self, _: &str, mut chunk: Value) {
        if let Value::Array(candidates) = take(&mut chunk, "candidates") {
            for mut candidate in candidates {
                let Some(known) = self.candidates.at(&candidate["index"]) else {
                    continue;
                };
                let mut content = take(&mut candidate, "content");
                let parts = take(&mut content, "parts");
                if content.is_object() {
                    replace(member(known, "content"), content);
                }
                if let Value::Array(parts) = parts {
                    for part in parts {
                        add_part(member(known, "content"), part);
                    }
                }
                replace(known, candidate);
            }
        }
        replace(&mut self.answer, chunk);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut answer = json!({"candidates": self.candidates.into_list()});
        replace(&mut answer, self.answer);
        Some(answer)
    }
}

/// A text goes on with the part before it, where that is a text of the same kind: a thought or not.
fn add_part(content: &mut Value, part: Value) {
    let is_text = |part: &Value| {
        let members = part.as_object();
        members.is_some_and(|members| members.keys().all(|key| key == "text" || key == "thought"))
            && part["text"].is_string()
    };
    let parts = content.get_mut("parts").and_then(Value::as_array_mut);
    match parts.and_then(|parts| parts.last_mut()) {
        Some(last) if is_text(last) && is_text(&part) && last["thought"] == part["thought"] => {
            append(last, "text", &part["text"]);
        }
        _ => push(content, "parts", part),
    }
}

/// Bedrock's Converse (spec: providers 7.6).
#[derive(Default)]
pub struct Converse {
    role: Value,
    blocks: Parts,
    answer: Value,
}

impl Maker for Converse {
    fn take(&mut self, name: &str, mut event: Value) {
        match name {
            "messageStart" => self.role = take(&mut event, "role"),
            "contentBlockStart" => {
                if let Some(block) = self.blocks.at(&event["contentBlockIndex"]) {
                    *block = take(&mut event, "start");
                }
            }
            "contentBlockDelta" => {
                if let Some(block) = self.blocks.at(&event["contentBlockIndex"]) {
                    converse_delta(block, take(&mut event, "delta"));
                }
            }
            "messageStop" | "metadata" => {
                // Padding against those who watch the length.
                take(&mut event, "p");
                replace(&mut self.answer, event);
            }
            // An exception.
            _ => *member(&mut self.answer, "error") = json!({"type": name, "error": event}),
        }
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut content = self.blocks.into_list();
        for block in &mut content {
            let call = block.get_mut("toolUse");
            if let Some(input) = call.and_then(|call| call.get_mut("input")) {
                parsed(input);
            }
        }
        let message = json!({"role": self.role, "content": content});
        let mut answer = json!({"output": {"message": message}});
        replace(&mut answer, self.answer);
        Some(answer)
    }
}

fn converse_delta(block: &mut Value, mut delta: Value) {
    if let Value::Object(reasoning) = take(&mut delta, "reasoningContent") {
        for (name, piece) in reasoning {
            let content = member(block, "reasoningContent");
            match name.as_str() {
                // A whole answer has both one level deeper.
                "text" | "signature" => append(member(content, "reasoningText"), &name, &piece),
                _ => append(content, &name, &piece),
            }
        }
    }
    let citation = take(&mut delta, "citation");
    if !citation.is_null() {
        push(block, "citations", citation);
    }
    grow(block, delta);
}

/// Cohere's v2 chat (spec: providers 11).
#[derive(Default)]
pub struct Cohere {
    answer: Value,
    content: Parts,
    calls: Parts,
    citations: Vec<Value>,
}

impl Maker for Cohere {
    fn take(&mut self, _: &str, mut event: Value) {
        let index = take(&mut event, "index");
        let mut delta = take(&mut event, "delta");
        let mut message = take(&mut delta, "message");
        match event["type"].as_str().unwrap_or_default() {
            "message-start" => {
                self.answer = json!({"id": event["id"], "message": {"role": message["role"]}});
            }
            "content-start" | "content-delta" => {
                if let Some(part) = self.content.at(&index) {
                    grow(part, take(&mut message, "content"));
                }
            }
            "tool-plan-delta" => {
                let told = member(&mut self.answer, "message");
                append(told, "tool_plan", &message["tool_plan"]);
            }
            "tool-call-start" | "tool-call-delta" => {
                if let Some(call) = self.calls.at(&index) {
                    grow(call, take(&mut message, "tool_calls"));
                }
            }
            "citation-start" => self.citations.push(take(&mut message, "citations")),
            "message-end" => replace(&mut self.answer, delta),
            _ => {}
        }
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut answer = self.answer;
        for (name, list) in [
            ("content", self.content.into_list()),
            ("tool_calls", self.calls.into_list()),
            ("citations", self.citations),
        ] {
            if !list.is_empty() {
                *member(member(&mut answer, "message"), name) = Value::Array(list);
            }
        }
        Some(answer)
    }
}

/// Workers AI's own: pieces of one text.
#[derive(Default)]
pub struct Words {
    answer: Value,
    text: String,
}

impl Maker for Words {
    fn take(&mut self, _: &str, mut event: Value) {
        if let Value::String(piece) = take(&mut event, "response") {
            self.text.push_str(&piece);
        }
        take(&mut event, "p");
        replace(&mut self.answer, event);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut answer = json!({"response": self.text});
        replace(&mut answer, self.answer);
        Some(answer)
    }
}
