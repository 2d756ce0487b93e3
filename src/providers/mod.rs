//! The providers: their names and where their native endpoints lead (spec: data plane 1.3, providers 2).

mod paths;
mod table;

pub use paths::{BaseUrl, BaseUrlError, Provider, Target, TargetError};
pub use table::Slug;
