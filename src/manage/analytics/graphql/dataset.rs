//! What can be asked for: datasets, their sums and dimensions.

use serde_json::{Value as Json, json};

use crate::aggregate::Cell;
use crate::limits::ANALYTICS_HOURS_KEPT;
use crate::telemetry::analytics::{Dimension, Value};

/// A dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dataset {
    Requests,
    Errors,
    Cache,
    Size,
}

/// Most groups of one answer.
pub(super) const PAGE_MAX: u64 = 10_000;

impl Dataset {
    pub const ALL: [Self; 4] = [Self::Requests, Self::Errors, Self::Cache, Self::Size];

    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "aiGatewayRequestsAdaptiveGroups",
            Self::Errors => "aiGatewayErrorsAdaptiveGroups",
            Self::Cache => "aiGatewayCacheAdaptiveGroups",
            Self::Size => "aiGatewaySizeAdaptiveGroups",
        }
    }

    /// What its types' names begin with.
    pub fn type_name(self) -> String {
        format!("AccountA{}", &self.name()[1..])
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dataset| dataset.name() == name)
    }

    /// What can be selected of a group.
    pub fn members(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &["count", "sum", "dimensions"],
            Self::Errors | Self::Cache => &["count", "dimensions"],
            Self::Size => &["max", "dimensions"],
        }
    }

    pub fn sums(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &SUMS,
            _ => &[],
        }
    }

    pub fn dimensions(self) -> Vec<&'static str> {
        match self {
            Self::Size => vec!["gateway", "date", "datetime"],
            Self::Cache => DIMENSIONS.to_vec(),
            Self::Requests | Self::Errors => {
                let others = DIMENSIONS.into_iter();
                others
                    .filter(|name| !name.starts_with("cache") || *name == "cached")
                    .collect()
            }
        }
    }

    /// Every field by its path.
    pub fn available(self) -> Vec<String> {
        let mut fields: Vec<String> = Vec::new();
        for member in self.members() {
            match *member {
                "sum" => fields.extend(self.sums().iter().map(|name| format!("sum_{name}"))),
                "max" => fields.push("max_rows".to_owned()),
                "dimensions" => {
                    let dimensions = self.dimensions().into_iter();
                    fields.extend(dimensions.map(|name| format!("dimensions_{name}")));
                }
                name => fields.push(name.to_owned()),
            }
        }
        fields
    }

    /// As `settings` tells it.
    pub fn settings(self) -> Json {
        let fields = self.available();
        json!({
            "enabled": true,
            "notOlderThan": ANALYTICS_HOURS_KEPT * 60,
            "maxDuration": ANALYTICS_HOURS_KEPT * 60,
            "maxPageSize": PAGE_MAX,
            "maxNumberOfFields": fields.len(),
            "availableFields": fields,
        })
    }
}

const SUMS: [&str; 11] = [
    "cost",
    "tokensIn",
    "tokensOut",
    "cachedRequests",
    "erroredRequests",
    "cachedTokensIn",
    "cachedTokensOut",
    "uncachedTokensIn",
    "uncachedTokensOut",
    "cacheReadTokens",
    "cacheWriteTokens",
];

const DIMENSIONS: [&str; 21] = [
    "date",
    "datetime",
    "datetimeMinute",
    "datetimeFiveMinutes",
    "datetimeFifteenMinutes",
    "datetimeHour",
    "cached",
    "cacheStatus",
    "cacheOp",
    "error",
    "gateway",
    "model",
    "provider",
    "rateLimited",
    "statusCode",
    "userAgent",
    "metadataKeys",
    "metadataValues",
    "metadataRaw",
    "keyAlias",
    "token",
];

/// Known on Cloudflare, and here of single requests alone.
pub(super) const OF_REQUESTS: [&str; 5] =
    ["cost", "durationMs", "tokensIn", "tokensOut", "wholesale"];

/// A sum by its name. Tokens are those of providers and those that the cache gave out.
pub(super) fn sum(name: &str, cell: &Cell) -> Json {
    match name {
        "cost" => json!(cell.cost.dollars()),
        "tokensIn" => json!(cell.tokens_in.saturating_add(cell.cached_in)),
        "tokensOut" => json!(cell.tokens_out.saturating_add(cell.cached_out)),
        "cachedRequests" => json!(cell.cached),
        "erroredRequests" => json!(cell.errors),
        "cachedTokensIn" => json!(cell.cached_in),
        "cachedTokensOut" => json!(cell.cached_out),
        "uncachedTokensIn" => json!(cell.tokens_in),
        "uncachedTokensOut" => json!(cell.tokens_out),
        "cacheReadTokens" => json!(cell.cache_read),
        "cacheWriteTokens" => json!(cell.cache_write),
        _ => Json::Null,
    }
}

/// A dimension by its name.
pub(super) fn dimension(name: &str) -> Option<Dimension> {
    Some(match name {
        "date" => Dimension::Time(24 * 60),
        "datetime" | "datetimeMinute" => Dimension::Time(1),
        "datetimeFiveMinutes" => Dimension::Time(5),
        "datetimeFifteenMinutes" => Dimension::Time(15),
        "datetimeHour" => Dimension::Time(60),
        "cached" | "cacheStatus" | "cacheOp" => Dimension::Cached,
        "error" => Dimension::Error,
        "gateway" => Dimension::Gateway,
        "model" => Dimension::Model,
        "provider" => Dimension::Provider,
        "rateLimited" => Dimension::RateLimited,
        "statusCode" => Dimension::Status,
        "userAgent" => Dimension::UserAgent,
        "metadataKeys" => Dimension::MetadataKeys,
        "metadataValues" => Dimension::MetadataValues,
        "metadataRaw" => Dimension::MetadataRaw,
        "keyAlias" => Dimension::KeyAlias,
        "token" => Dimension::Token,
        _ => return None,
    })
}

/// A dimension's value as it is answered. Flags are numbers, as in Cloudflare's tables.
pub(super) fn show(name: &str, value: &Value) -> Json {
    match (name, value) {
        ("date", Value::Number(minute)) => {
            json!(moment(*minute).map(|time| time.strftime("%Y-%m-%d").to_string()))
        }
        (name, Value::Number(minute)) if name.starts_with("datetime") => {
            json!(moment(*minute).map(|time| time.to_string()))
        }
        ("cacheStatus" | "cacheOp", Value::Flag(hit)) => json!(if *hit { "hit" } else { "miss" }),
        (_, Value::Flag(flag)) => json!(u8::from(*flag)),
        (_, value) => super::super::shown(value),
    }
}

fn moment(minute: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(i64::try_from(minute).ok()?.checked_mul(60)?).ok()
}
