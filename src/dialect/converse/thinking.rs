//! How the model is told to think, and what must give way for it: each family has a field of its own.

use serde_json::{Map, Value, json};

use super::wire::Inference;
use crate::dialect::changes::Changes;
use crate::dialect::models::claude::{self, Claude, ThinkingOff};
use crate::dialect::models::others::{Abilities, Thinking, nearest};
use crate::dialect::neutral::{Effort, Reasoning};

/// What is already decided of the request.
pub(super) struct Terms<'t> {
    pub abilities: &'t Abilities,
    pub claude: Option<Claude>,
    /// The thoughts before the last calls are gone.
    pub lost: bool,
    /// Most tokens that the model can generate.
    pub max_output: Option<u64>,
}

/// Whether the model will think, as far as others must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinks {
    /// As it does by itself.
    Unsaid,
    /// It decides how much.
    Freely,
    /// With a budget, which goes with no forced tool.
    Budget,
}

/// Writes what makes the model think into the fields of its own.
pub(super) fn write(
    reasoning: Option<&Reasoning>,
    terms: &Terms<'_>,
    fields: &mut Map<String, Value>,
    inference: &mut Inference<'_>,
    changes: &mut Changes,
) -> Thinks {
    let Some(reasoning) = reasoning else {
        return Thinks::Unsaid;
    };
    let Some(effort) = effort(reasoning) else {
        return Thinks::Unsaid;
    };
    let (field, value) = match terms.abilities.thinking {
        Thinking::No => {
            if effort != Effort::None {
                changes.dropped("reasoning_effort");
            }
            return Thinks::Unsaid;
        }
        Thinking::Claude => {
            let claude = terms.claude.map(|claude| (claude, claude.thinking()));
            return match claude {
                Some((claude, claude::Thinking::Adaptive)) => {
                    adaptive(claude, reasoning, effort, fields, changes)
                }
                Some((_, claude::Thinking::Budget)) => {
                    budget(reasoning, effort, terms, fields, inference, changes)
                }
                Some((_, claude::Thinking::None)) | None => {
                    if effort != Effort::None {
                        changes.dropped("reasoning_effort");
                    }
                    Thinks::Unsaid
                }
            };
        }
        Thinking::Nova if effort == Effort::None => return Thinks::Unsaid,
        Thinking::Nova => {
            let effort = known(
                effort,
                &[Effort::Low, Effort::Medium, Effort::High],
                changes,
            );
            if effort == Effort::High {
                drop_sampling(inference, changes);
            }
            let config = json!({"type": "enabled", "maxReasoningEffort": effort.name()});
            ("reasoningConfig", config)
        }
        Thinking::Effort(efforts) => (
            "reasoning_effort",
            known(effort, efforts, changes).name().into(),
        ),
        Thinking::Config(efforts) => (
            "reasoning_config",
            known(effort, efforts, changes).name().into(),
        ),
        Thinking::Nested(efforts) => (
            "reasoning",
            json!({"effort": known(effort, efforts, changes).name()}),
        ),
    };
    fields.insert(field.to_owned(), value);
    Thinks::Freely
}

/// The nearest effort of those that a family knows.
fn known(effort: Effort, efforts: &[Effort], changes: &mut Changes) -> Effort {
    let found = nearest(effort, efforts);
    if found != effort {
        changes.set("reasoning_effort", found.name());
    }
    found
}

/// How much, in one word; `None`: nothing is said.
fn effort(reasoning: &Reasoning) -> Option<Effort> {
    let budget = reasoning.budget.map(Effort::of_budget);
    let adaptive = reasoning.adaptive.then_some(Effort::Medium);
    reasoning.effort.or(budget).or(adaptive)
}

fn adaptive(
    claude: Claude,
    reasoning: &Reasoning,
    effort: Effort,
    fields: &mut Map<String, Value>,
    changes: &mut Changes,
) -> Thinks {
    if effort == Effort::None {
        let off = match claude.thinking_off() {
            ThinkingOff::Disabled => "disabled",
            ThinkingOff::BetweenTools => "between_tools",
            ThinkingOff::Never => {
                changes.set("reasoning_effort", Effort::Low.name());
                fields.insert("output_config".to_owned(), json!({"effort": "low"}));
                return Thinks::Freely;
            }
        };
        fields.insert("thinking".to_owned(), json!({"type": off}));
        return Thinks::Unsaid;
    }
    let mut thinking = json!({"type": "adaptive"});
    if let Some(visible) = reasoning.visible {
        thinking["display"] = Value::from(if visible { "summarized" } else { "omitted" });
    }
    fields.insert("thinking".to_owned(), thinking);
    // Told only to think as it likes, it takes its own effort.
    if reasoning.effort.is_some() || reasoning.budget.is_some() {
        let found = claude.effort(effort, true);
        if found != effort {
            changes.set("reasoning_effort", found.name());
        }
        let config = json!({"effort": found.name()});
        fields.insert("output_config".to_owned(), config);
    }
    Thinks::Freely
}

/// Fewest tokens to think with.
const BUDGET_MIN: u64 = 1024;

fn budget(
    reasoning: &Reasoning,
    effort: Effort,
    terms: &Terms<'_>,
    fields: &mut Map<String, Value>,
    inference: &mut Inference<'_>,
    changes: &mut Changes,
) -> Thinks {
    if effort == Effort::None {
        return Thinks::Unsaid;
    }
    if terms.lost {
        changes.dropped("reasoning_effort");
        return Thinks::Unsaid;
    }
    let most = terms.max_output.unwrap_or(u64::MAX).max(2 * BUDGET_MIN);
    let wanted = reasoning.budget.unwrap_or(effort.budget());
    let budget = wanted.clamp(BUDGET_MIN, most - BUDGET_MIN);
    if reasoning.budget.is_some_and(|asked| asked != budget) {
        changes.clamped("thinking.budget_tokens", budget);
    }
    if let Some(tokens) = inference.max_tokens.filter(|tokens| *tokens <= budget) {
        let raised = tokens.saturating_add(budget).min(most);
        changes.set("max_tokens", raised);
        inference.max_tokens = Some(raised);
    }
    let thinking = json!({"type": "enabled", "budget_tokens": budget});
    fields.insert("thinking".to_owned(), thinking);
    Thinks::Budget
}

/// Takes sampling away where the model, or its thinking, refuses it.
pub(super) fn drop_sampling(inference: &mut Inference<'_>, changes: &mut Changes) {
    if inference.temperature.take().is_some() {
        changes.dropped("temperature");
    }
    if inference.top_p.take().is_some() {
        changes.dropped("top_p");
    }
}
