//! Bedrock's Converse and ConverseStream (spec: providers 7): spoken by the provider, for all families of models there.

mod media;
mod request;
mod thinking;
mod tools;
mod turns;
mod wire;

pub use request::{takes_url, write_request};
