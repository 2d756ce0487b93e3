//! Anthropic's beta features where Claude runs at others: which of them the platform takes, and under which name. A platform
//! refuses the whole request for one beta that it does not know, and clients name new ones with every release.

use super::super::changes::Changes;

/// Where Claude runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Anthropic's own API, and others that offer the same.
    Anthropic,
    /// Google's Vertex AI (`rawPredict`).
    Vertex,
    /// Amazon's Bedrock (`InvokeModel`).
    Bedrock,
}

/// What an operator knows better than the table that is built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BetaRules {
    rules: Vec<(Platform, String, Option<String>)>,
}

impl BetaRules {
    /// A platform takes a beta, under this name; `None`: it does not. A later rule for the same beta counts.
    pub fn set(&mut self, platform: Platform, beta: impl Into<String>, taken_as: Option<String>) {
        self.rules.push((platform, beta.into(), taken_as));
    }

    fn find(&self, platform: Platform, beta: &str) -> Option<Option<&str>> {
        let mut rules = self.rules.iter().rev();
        let found = rules.find(|rule| (rule.0, rule.1.as_str()) == (platform, beta));
        found.map(|rule| rule.2.as_deref())
    }
}

/// Betas that another platform than Anthropic takes: the name there on Vertex, and on Bedrock. All others are left out; most of
/// these are part of the API by now, or mean nothing outside of Anthropic.
const TAKEN: [(&str, Option<&str>, Option<&str>); 19] = [
    ("advanced-tool-use-2025-11-20", TOOL_SEARCH, TOOL_SEARCH),
    ("tool-search-tool-2025-10-19", TOOL_SEARCH, TOOL_SEARCH),
    ("compact-2026-01-12", SAME, SAME),
    ("compact-2026-09-04", SAME, None),
    ("computer-use-2025-01-24", SAME, SAME),
    ("computer-use-2025-11-24", SAME, SAME),
    ("context-1m-2025-08-07", SAME, SAME),
    ("context-management-2025-06-27", SAME, SAME),
    ("dangerous-tool-use-2026-09-03", SAME, SAME),
    ("dev-full-thinking-2025-05-14", None, SAME),
    ("effort-2025-11-24", None, SAME),
    ("fine-grained-tool-streaming-2025-05-14", None, SAME),
    ("interleaved-thinking-2025-05-14", SAME, SAME),
    ("mid-conversation-output-config-2026-07-01", None, SAME),
    ("mid-conversation-tool-changes-2026-07-01", None, SAME),
    ("per-turn-control-2026-07-01", SAME, None),
    ("thinking-binding-controls-2026-08-01", SAME, SAME),
    ("thinking-display-updates-2026-08-18", SAME, SAME),
    ("web-search-2025-03-05", SAME, None),
];
const TOOL_SEARCH: Option<&str> = Some("tool-search-tool-2025-10-19");
/// Under its own name.
const SAME: Option<&str> = Some("");

/// The betas that go to the platform, each once, in the client's order.
pub(super) fn kept(
    platform: Platform,
    asked: &[String],
    rules: &BetaRules,
    changes: &mut Changes,
) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let named = asked.iter().flat_map(|list| list.split(',')).map(str::trim);
    for beta in named.filter(|beta| !beta.is_empty()) {
        let Some(name) = rules
            .find(platform, beta)
            .unwrap_or_else(|| built_in(platform, beta))
        else {
            changes.dropped(&format!("anthropic-beta.{beta}"));
            continue;
        };
        if !kept.iter().any(|other| other == name) {
            kept.push(name.to_owned());
        }
    }
    kept
}

fn built_in(platform: Platform, beta: &str) -> Option<&str> {
    let found = TAKEN.iter().find(|(name, ..)| *name == beta);
    let name = match platform {
        Platform::Anthropic => return Some(beta),
        Platform::Vertex => found?.1?,
        Platform::Bedrock => found?.2?,
    };
    Some(if name.is_empty() { beta } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_get_the_betas_they_take() {
        let asked = [
            "claude-code-20250219, interleaved-thinking-2025-05-14",
            "advanced-tool-use-2025-11-20,tool-search-tool-2025-10-19,",
            "interleaved-thinking-2025-05-14",
            "never-heard-of-2027-01-01",
        ]
        .map(str::to_owned);
        let kept = |platform, rules: &BetaRules| {
            let mut changes = Changes::default();
            (
                kept(platform, &asked, rules, &mut changes).join(","),
                changes.to_string(),
            )
        };
        let none = BetaRules::default();
        let all = "claude-code-20250219,interleaved-thinking-2025-05-14,advanced-tool-use-2025-11-20,\
                   tool-search-tool-2025-10-19,never-heard-of-2027-01-01";
        assert_eq!(
            kept(Platform::Anthropic, &none),
            (all.to_owned(), String::new())
        );
        let some = "interleaved-thinking-2025-05-14,tool-search-tool-2025-10-19";
        let dropped = "drop:anthropic-beta.claude-code-20250219,drop:anthropic-beta.never-heard-of-2027-01-01";
        for platform in [Platform::Vertex, Platform::Bedrock] {
            assert_eq!(kept(platform, &none), (some.to_owned(), dropped.to_owned()));
        }
        let mut rules = BetaRules::default();
        rules.set(Platform::Bedrock, "interleaved-thinking-2025-05-14", None);
        rules.set(
            Platform::Bedrock,
            "never-heard-of-2027-01-01",
            Some("known".to_owned()),
        );
        assert_eq!(
            kept(Platform::Bedrock, &rules).0,
            "tool-search-tool-2025-10-19,known"
        );
        assert_eq!(kept(Platform::Vertex, &rules).0, some);
    }
}
