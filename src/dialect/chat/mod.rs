//! OpenAI's Chat Completions, and the many providers that speak it with quirks of their own (spec: providers 3, 8 to 10, 12 and
//! 19). A chat client's request for such a provider is not translated: [`edit_request`] changes the few fields that the
//! provider's row names, and [`Repair`] brings its answers to what OpenAI's clients know.

mod answer;
mod calls;
mod edit;
mod errors;
mod finish;
mod mistral;
mod places;
mod repair;
mod request;
mod rows;
mod stream;
mod thoughts;
mod write;
mod writer;

pub use answer::{read_answer, write_answer};
pub use edit::{Edited, edit_request};
pub use errors::{read_error, write_error, write_invalid};
pub use places::data_url;
pub use repair::{Repair, answer_needs_repair, needs_repair, repair_answer};
pub use request::{read_request, speaks_legacy};
pub use stream::StreamReader;
pub use write::{takes_url, write_request};
pub use writer::StreamWriter;

#[cfg(test)]
mod tests;
