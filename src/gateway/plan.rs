//! Phase 6: which step answers. A native path has one.

use std::sync::Arc;

use super::error::GatewayError;
use super::resolve::Resolved;
use crate::http::{Method, RequestHead};
use crate::providers::{Slug, Target, TargetError};
use crate::snapshot::ProviderEntry;

/// One upstream request.
pub(super) struct Step<'a> {
    /// Its provider.
    pub entry: Arc<ProviderEntry>,
    /// Where it goes.
    pub target: Target<'a>,
    /// The raw path behind the provider's segment.
    pub rest: &'a str,
    /// Whether the answer is read by the meter, so that it must come without a content coding.
    pub metered: bool,
}

/// The only step of a provider-native request. The target borrows from `resolved` and the head.
pub(super) fn native<'a>(
    head: &'a RequestHead,
    resolved: &'a Resolved<'a>,
    account: &str,
    query: Option<&'a str>,
) -> Result<Step<'a>, GatewayError> {
    let provider = &resolved.entry.provider;
    let named = head.header("x-fal-target-url");
    let target = match named {
        Some(url) if provider.slug() == Slug::Fal => {
            let url = std::str::from_utf8(url).map_err(|_| refused(TargetError::Unsafe))?;
            provider.fal_target(url)
        }
        _ => provider.target(account, resolved.rest, query),
    };
    Ok(Step {
        entry: resolved.entry.clone(),
        target: target.map_err(refused)?,
        rest: resolved.rest,
        metered: head.method() == Method::Post,
    })
}

fn refused(error: TargetError) -> GatewayError {
    GatewayError::no_provider(error.to_string())
}
