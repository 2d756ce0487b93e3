//! JSON of requests and answers into values. Keys keep their order: schemas and prompts that come back in another order miss the
//! provider's prompt cache.

use serde_json::Value;

use super::failure::{Failure, Invalid};

/// Reads a request's body.
pub fn request(body: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(body).map_err(|error| Invalid {
        message: format!("The body is not JSON: {error}"),
        param: None,
        code: Some("invalid_json"),
    })
}

/// Reads a provider's answer.
pub fn answer(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::broken(format!("The provider's answer is not JSON: {error}")).with_raw(body)
    })
}
