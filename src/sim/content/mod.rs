//! What each provider answers: scripts of timed bytes, without I/O.

pub mod bedrock;
pub mod chat;
pub mod cohere;
pub mod errors;
pub mod eventstream;
pub mod gemini;
pub mod messages;
pub mod reply;
pub mod request;
pub mod responses;
pub mod sigv4;
pub mod text;
