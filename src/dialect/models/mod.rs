//! What is known of families of models beyond what their provider's dialect says.

pub mod claude;
pub mod gemini;
pub mod openai;
pub mod others;
