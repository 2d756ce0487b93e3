//! OpenAI's Responses, as clients speak it. Providers that speak it too are relayed; for the others the items of a request become
//! turns, and an answer becomes items again.
//!
//! Nothing is stored: whoever goes on sends the whole conversation, reasoning included. What another provider wants back travels
//! in `encrypted_content` ([`seal`]), the one opaque field that clients return untouched. Tools that only this dialect knows and
//! that the client runs itself are declared as functions, and their calls turned back ([`tools`]).

mod answer;
mod custom;
mod errors;
mod home;
mod input;
mod parts;
mod pen;
mod request;
mod seal;
mod stream;
#[cfg(test)]
mod tests;
mod tools;

pub use answer::write_answer;
pub use errors::{write_error, write_invalid};
pub use home::without_foreign_reasoning;
pub use request::{note, read_request};
pub use stream::StreamWriter;
