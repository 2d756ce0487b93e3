//! Google's generateContent, on AI Studio and on Vertex (spec: providers 5 and 6).

mod answer;
mod contents;
mod errors;
mod piece;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub use answer::read_answer;
pub use contents::takes_url;
pub use errors::read_error;
pub use request::write_request;
pub use stream::StreamReader;
