//! Cohere's chat, version 2 (spec: providers 11).

mod answer;
mod errors;
mod messages;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub use answer::read_answer;
pub use errors::read_error;
pub use messages::takes_url;
pub use request::write_request;
pub use stream::StreamReader;
