//! The providers: their names, where their native endpoints lead, and how they want their keys (spec: data plane 1.3,
//! providers 2).

pub mod aws;
pub mod azure;
mod catalog;
mod credentials;
mod hidden;
mod hygiene;
mod paths;
mod table;
pub mod vertex;

pub use credentials::{Slot, bearer, behind_scheme, is_empty_key, query_key};
pub use hidden::Hidden;
pub use hygiene::{goes_down, goes_up, without_access_cookie};
pub use paths::is_label;
pub use paths::{BaseUrl, BaseUrlError, Provider, Target, TargetError};
pub use table::Slug;
