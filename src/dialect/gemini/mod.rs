//! Google's generateContent, on AI Studio and on Vertex (spec: providers 5 and 6).

mod contents;
mod paths;
mod request;

pub use contents::takes_url;
pub use paths::{VertexPlace, studio_path, vertex_place};
pub use request::write_request;
