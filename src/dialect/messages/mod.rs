//! Anthropic's Messages (spec: providers 4, 6.3 and 7.7), from both sides.
//!
//! A client's request is read in `read_request` and `read_blocks`; one for a provider is written in `write_request` (settings) and
//! `write_turns` (the conversation). Where the client speaks Messages too, the body is not translated: `envelope` changes in it what
//! the platform wants otherwise, and `invoke` takes Claude's events out of Bedrock's frames.

mod answer;
mod betas;
mod carried;
mod envelope;
mod errors;
mod invoke;
mod read_blocks;
mod read_request;
mod read_stream;
mod wire;
mod write_request;
mod write_settings;
mod write_stream;
mod write_tools;
mod write_turns;

pub use answer::{read_answer, write_answer};
pub use betas::{BetaRules, Platform};
pub use envelope::{envelope, envelope_with};
pub use errors::{read_error, write_error, write_invalid};
pub use invoke::InvokeStream;
use read_request::read_thinking;
pub use read_request::{count_tokens_unavailable, read_request};
pub use read_stream::StreamReader;
pub use write_request::{takes_url, write_request};
pub use write_stream::StreamWriter;

#[cfg(test)]
mod tests;
