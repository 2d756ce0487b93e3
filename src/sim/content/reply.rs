//! What is asked for and what is answered, whatever the dialect.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;

use super::text;
use crate::sim::directives::Directives;
use crate::sim::pace::Dice;

/// A generation request, read out of any dialect.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The model as asked for.
    pub model: String,
    /// Whether events are wanted.
    pub stream: bool,
    /// Tokens of the whole prompt, tools included.
    pub prompt: u64,
    /// The client's bound on output tokens.
    pub max_tokens: Option<u64>,
    /// Declared tools.
    pub tools: Vec<Tool>,
    /// What the client says about calling them.
    pub tool_choice: ToolChoice,
    /// The last message's text when it is the user's; empty after tool results, so that an agent's loop ends.
    pub question: String,
    /// The schema of a structured answer; `Value::Null` for any JSON object.
    pub schema: Option<Value>,
    /// Whether reasoning is switched on.
    pub reasoning: bool,
    /// `n` or `candidateCount`.
    pub choices: u64,
}

/// A declared tool.
#[derive(Debug, Clone, Default)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments.
    pub schema: Value,
}

/// `tool_choice` in its four meanings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No call.
    None,
    /// Some call.
    Required,
    /// This one.
    Named(String),
}

/// A finished answer, before a dialect writes it down.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Letters and digits for the identifiers of this answer.
    pub id: String,
    /// The model's name to answer with.
    pub model: String,
    /// Unix seconds. A constant, so that a seed fixes every byte.
    pub created: u64,
    /// Reasoning, text and tool calls, in order.
    pub blocks: Vec<Block>,
    /// Why it ends.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
    /// Whether usage is told.
    pub usage_told: bool,
    /// Equal choices to answer with.
    pub choices: u64,
}

/// One part of an answer.
#[derive(Debug, Clone)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its text; for a tool call the arguments' JSON.
    pub text: String,
    /// Where each token ends in `text`.
    pub ends: Vec<u32>,
}

/// The kinds of [`Block`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Thoughts.
    Reasoning,
    /// The answer itself.
    Text,
    /// A tool call.
    Tool {
        /// Letters for its identifier; each dialect adds its own prefix.
        id: String,
        /// The tool's name.
        name: String,
    },
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It is complete.
    Stop,
    /// The client's bound.
    Length,
    /// It calls a tool.
    Tool,
    /// It was refused.
    Filter,
}

/// Token counts in OpenAI's arithmetic: `prompt` holds the cached and written tokens too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens.
    pub prompt: u64,
    /// Of these, read from the cache.
    pub cached: u64,
    /// Of these, written to the cache.
    pub cache_write: u64,
    /// Visible output.
    pub visible: u64,
    /// Reasoning, beside the visible output.
    pub reasoning: u64,
}

impl Usage {
    /// Reasoning and visible output.
    pub fn output(&self) -> u64 {
        self.visible + self.reasoning
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        self.prompt + self.output()
    }

    /// Prompt tokens neither read from nor written to the cache: what Anthropic and Bedrock call input.
    pub fn fresh(&self) -> u64 {
        self.prompt - self.cached - self.cache_write
    }
}

/// One moment of a stream; a dialect makes none, one or several events of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Something to keep the connection alive before the first token.
    Comment,
    /// The answer begins.
    Open,
    /// Block `0` begins.
    BlockOpen(usize),
    /// Token `.1` of block `.0`.
    Delta(usize, usize),
    /// Block `0` ends.
    BlockClose(usize),
    /// The answer ends; usage goes here or after it.
    Finish,
    /// It fails midway.
    Error,
}

/// Where a dialect puts its events: each leaves as a step of its own.
#[derive(Debug, Default)]
pub struct Frames(pub VecDeque<Bytes>);

impl Frames {
    /// Adds one event as it goes on the wire.
    pub fn push(&mut self, event: impl Into<Bytes>) {
        self.0.push_back(event.into());
    }

    /// Adds `data: {data}` without a name.
    pub fn data(&mut self, data: &impl std::fmt::Display) {
        self.push(format!("data: {data}\n\n"));
    }

    /// Adds a named event.
    pub fn named(&mut self, name: &str, data: &impl std::fmt::Display) {
        self.push(format!("event: {name}\ndata: {data}\n\n"));
    }
}

/// A wire format for generation.
pub trait Dialect {
    /// The whole answer as one body.
    fn whole(&self, reply: &Reply) -> Value;
    /// Headers of either form beside the content type.
    fn headers(&self, _reply: &Reply) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The stream's content type.
    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }
    /// Whether comments keep a waiting connection alive, so that the head goes first.
    fn comments(&self) -> bool {
        false
    }
    /// The events of one moment.
    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames);
}

impl Reply {
    /// Decides what to answer: a tool call, JSON or prose, and what it used.
    pub fn plan(ask: &Ask, directives: &Directives, tokens: u64, dice: &mut Dice) -> Self {
        let id = dice.letters(24);
        let room = ask.max_tokens.unwrap_or(u64::MAX).max(1);
        let reasoning = directives
            .reasoning
            .unwrap_or(if ask.reasoning { 8 } else { 0 })
            .min(room - 1);
        let mut blocks = Vec::new();
        if reasoning > 0 {
            let (text, ends) = text::prose(reasoning, dice);
            blocks.push(Block {
                kind: Kind::Reasoning,
                text,
                ends,
            });
        }
        let wanted = directives.tokens.unwrap_or(tokens);
        let (block, visible, finish) = content(ask, directives, wanted, room - reasoning, dice);
        blocks.push(block);
        let cached = directives.cached.unwrap_or(0).min(ask.prompt);
        let cache_write = directives.cache_write.unwrap_or(0).min(ask.prompt - cached);
        let choices = ask.choices.max(1);
        Self {
            id,
            model: ask.model.clone(),
            created: CREATED,
            blocks,
            finish,
            usage: Usage {
                prompt: ask.prompt,
                cached,
                cache_write,
                visible: visible * choices,
                reasoning: reasoning * choices,
            },
            usage_told: !directives.no_usage,
            choices,
        }
    }

    /// The visible text.
    pub fn text(&self) -> &str {
        self.first(|kind| *kind == Kind::Text)
    }

    /// The thoughts.
    pub fn reasoning(&self) -> &str {
        self.first(|kind| *kind == Kind::Reasoning)
    }

    /// Identifier, name and arguments of each call.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.blocks.iter().filter_map(|block| match &block.kind {
            Kind::Tool { id, name } => Some((id.as_str(), name.as_str(), block.text.as_str())),
            _ => None,
        })
    }

    /// The text of one token.
    pub fn delta(&self, block: usize, token: usize) -> &str {
        let block = &self.blocks[block];
        let start = if token == 0 {
            0
        } else {
            block.ends[token - 1] as usize
        };
        &block.text[start..block.ends[token] as usize]
    }

    fn first(&self, wanted: impl Fn(&Kind) -> bool) -> &str {
        let found = self.blocks.iter().find(|block| wanted(&block.kind));
        found.map_or("", |block| block.text.as_str())
    }
}

/// 15 January 2026, 12:00 UTC.
const CREATED: u64 = 1_768_478_400;

fn content(
    ask: &Ask,
    directives: &Directives,
    wanted: u64,
    room: u64,
    dice: &mut Dice,
) -> (Block, u64, Finish) {
    if directives.filter {
        let (block, visible) = written("I cannot help with that.".to_owned());
        return (block, visible, Finish::Filter);
    }
    if let Some(bytes) = directives.huge {
        let (text, visible) = text::long_prose(bytes, dice);
        let ends = vec![text.len() as u32];
        return (
            Block {
                kind: Kind::Text,
                text,
                ends,
            },
            visible,
            Finish::Stop,
        );
    }
    if let Some(tool) = chosen_tool(ask, directives.tool) {
        let arguments = arguments(&tool.schema, dice);
        let ends = text::fragments(&arguments);
        let visible = ends.len() as u64 + text::tokens(&tool.name);
        let kind = Kind::Tool {
            id: dice.letters(24),
            name: tool.name.clone(),
        };
        return (
            Block {
                kind,
                text: arguments,
                ends,
            },
            visible,
            Finish::Tool,
        );
    }
    if let Some(schema) = &ask.schema {
        let (block, visible) = written(arguments(schema, dice));
        return (block, visible, Finish::Stop);
    }
    let count = wanted.min(room);
    let (text, ends) = text::prose(count, dice);
    let finish = if wanted > room {
        Finish::Length
    } else {
        Finish::Stop
    };
    (
        Block {
            kind: Kind::Text,
            text,
            ends,
        },
        count,
        finish,
    )
}

fn written(text: String) -> (Block, u64) {
    let ends = text::fragments(&text);
    let visible = ends.len() as u64;
    (
        Block {
            kind: Kind::Text,
            text,
            ends,
        },
        visible,
    )
}

/// Objects only: neither a tool nor a JSON mode takes anything else.
fn arguments(schema: &Value, dice: &mut Dice) -> String {
    match text::fitting(schema, dice) {
        Value::Null | Value::String(_) => "{}".to_owned(),
        value => value.to_string(),
    }
}

fn chosen_tool(ask: &Ask, told: bool) -> Option<&Tool> {
    let mentioned = ask
        .tools
        .iter()
        .find(|tool| !tool.name.is_empty() && ask.question.contains(&tool.name));
    match &ask.tool_choice {
        ToolChoice::None => None,
        ToolChoice::Named(name) => ask.tools.iter().find(|tool| tool.name == *name),
        ToolChoice::Required => mentioned.or(ask.tools.first()),
        ToolChoice::Auto if told || ask.question.contains("tool") => {
            mentioned.or(ask.tools.first())
        }
        ToolChoice::Auto => mentioned,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(ask: &Ask, directives: &str) -> Reply {
        let mut read = Directives::default();
        read.read_header(directives).expect("directives that exist");
        Reply::plan(ask, &read, 32, &mut Dice::new(&[1]))
    }

    #[test]
    fn a_bound_cuts_the_answer() {
        let ask = Ask {
            prompt: 10,
            max_tokens: Some(5),
            ..Ask::default()
        };
        let reply = plan(&ask, "cached-4+cache-write-20+reasoning-2");
        assert_eq!(reply.finish, Finish::Length);
        assert_eq!(
            (
                reply.usage.visible,
                reply.usage.reasoning,
                reply.usage.total()
            ),
            (3, 2, 15)
        );
        assert_eq!(
            (
                reply.usage.cached,
                reply.usage.cache_write,
                reply.usage.fresh()
            ),
            (4, 6, 0)
        );
    }

    #[test]
    fn a_tool_is_called_when_told_chosen_or_named() {
        let tool = |name: &str| Tool {
            name: name.into(),
            schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
        };
        let mut ask = Ask {
            tools: vec![tool("clock"), tool("weather")],
            ..Ask::default()
        };
        assert_eq!(plan(&ask, "").finish, Finish::Stop);
        assert_eq!(plan(&ask, "tool").finish, Finish::Tool);
        ask.question = "What is the weather?".into();
        let reply = plan(&ask, "");
        let (_, name, arguments) = reply.calls().next().expect("a call");
        assert_eq!(name, "weather");
        assert!(serde_json::from_str::<Value>(arguments).expect("JSON")["city"].is_string());
        ask.tool_choice = ToolChoice::None;
        assert_eq!(plan(&ask, "tool").finish, Finish::Stop);
        ask.tool_choice = ToolChoice::Named("clock".into());
        assert_eq!(
            plan(&ask, "").calls().next().map(|call| call.1),
            Some("clock")
        );
    }
}
