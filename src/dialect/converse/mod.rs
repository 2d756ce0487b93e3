//! Bedrock's Converse and ConverseStream (spec: providers 7): spoken by the provider, for all families of models there.

mod answer;
mod errors;
mod media;
mod request;
mod stream;
mod thinking;
mod tools;
mod turns;
mod wire;

pub use answer::read_answer;
pub use errors::read_error;
pub use request::{takes_url, write_request};
pub use stream::StreamReader;

#[cfg(test)]
mod tests;
