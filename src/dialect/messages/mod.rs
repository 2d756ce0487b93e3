//! Anthropic's Messages (spec: providers 4, 6.3 and 7.7), from both sides.
//!
//! A client's request is read in `read_request` and `read_blocks`; one for a provider is written in `write_request` (settings) and
//! `write_turns` (the conversation).

mod carried;
mod read_blocks;
mod read_request;
mod wire;
mod write_request;
mod write_turns;

use read_request::read_thinking;
pub use read_request::{count_tokens_unavailable, read_request};
pub use write_request::{takes_url, write_request};
