//! Sans-I/O HTTP/1.1: heads, framing and chunks as functions over bytes (RFC 9110, RFC 9112).

pub mod chunked;
pub mod eventstream;
mod fields;
pub mod proxy_protocol;
mod request;
mod response;
pub mod sse;
pub mod write;

pub use fields::{HeadError, HeadLimits, Span, Version, is_about_connection, is_name};
pub use request::{Method, RequestFraming, RequestHead};
pub use response::{ResponseFraming, ResponseHead};
