//! The dialects in which models are spoken to, each to and from one neutral form (spec: providers 1 and 3 to 19). Functions over
//! bytes and values: no socket, no clock.
//!
//! A dialect that clients speak has `read_request`, `write_answer`, `write_error` and a `StreamWriter`; one that providers speak has
//! `write_request`, `read_answer`, `read_error` and a `StreamReader`. Chat and messages have both.

pub mod assemble;
pub mod changes;
pub mod chat;
pub mod cohere;
pub mod converse;
pub mod embeddings;
pub mod exchange;
pub mod failure;
pub mod fields;
pub mod gemini;
pub mod ids;
pub mod json;
pub mod listing;
pub mod messages;
pub mod models;
pub mod named;
pub mod neutral;
pub mod responses;
pub mod run;
pub mod schema;
pub mod splice;
pub mod stream;
pub mod surface;
pub mod unwrap;

use serde_json::{Map, Value};

use crate::providers::Slug;

/// A way to speak with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's Chat Completions, and all that follow it.
    Chat,
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
    /// Google's generateContent.
    Gemini,
    /// Bedrock's Converse.
    Converse,
    /// Cohere's v2 chat.
    Cohere,
}

/// The model that a request goes to, and what its writer needs to know of the way there.
#[derive(Debug, Clone)]
pub struct Upstream<'a> {
    /// The provider.
    pub slug: Slug,
    /// The provider's name of the model.
    pub model: &'a str,
    /// Most tokens the model can generate, where the price table says it.
    pub max_output: Option<u64>,
}

/// A request as it goes to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// JSON.
    pub body: Vec<u8>,
    /// Headers that go with it: `anthropic-beta`.
    pub headers: Vec<(&'static str, String)>,
    /// What is to be undone in the answer.
    pub unwrap: Unwrap,
}

/// How an answer in a wanted form was got from a model that has no mode for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Unwrap {
    /// No trick was needed.
    #[default]
    Nothing,
    /// The model was made to call this tool; the arguments are the text.
    Tool(String),
    /// The model was told to write JSON; it may stand in a code fence.
    Fence,
}

/// What readers and writers of an answer have to know of the request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// The provider's name of the model, as asked for.
    pub model: String,
    /// Unique letters and digits, from which ids are made that the provider does not give.
    pub id: String,
    /// Now, in seconds since 1970, where the provider does not say.
    pub created: u64,
    /// The client wants the usage in the stream (chat).
    pub include_usage: bool,
    /// Names of the functions that were declared.
    pub tools: Vec<String>,
    /// The client declared `functions` and wants `function_call` (chat before there were tools).
    pub legacy_calls: bool,
    /// Names of custom tools that were declared as functions; their calls go back as custom ones.
    pub custom_tools: Vec<String>,
    /// What is to be undone.
    pub unwrap: Unwrap,
    /// What answers of the client's dialect repeat of the request (responses).
    pub echo: Map<String, Value>,
}
