//! Settings for Claude that hang together: thoughts bound tokens, and forbid sampling and forced tools.

use serde_json::{Map, Value, json};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::models::claude::{Claude, Thinking, ThinkingOff};
use super::super::neutral::{Effort, Reasoning, Request};
use super::super::{Dialect, Upstream};
use super::wire::{Block, Message};
use super::write_tools::Choice;

/// Tokens to generate where the client does not say and the model's bound is not known.
const MAX_TOKENS_UNKNOWN: u64 = 4096;
/// Tokens to generate where the client does not say.
const MAX_TOKENS_DEFAULT: u64 = 32_000;
/// Fewest tokens to think with.
const BUDGET_MIN: u64 = 1024;
/// Least `top_p` that goes together with thoughts.
const TOP_P_WITH_THOUGHTS: f64 = 0.95;

/// They are filled in order: [`Self::think`], [`Self::soften`], [`Self::sample`].
pub(super) struct Settings<'a, 'c> {
    request: &'a Request,
    claude: Claude,
    changes: &'c mut Changes,
    max_output: Option<u64>,
    pub max_tokens: u64,
    pub thinking: Option<Value>,
    thinks: bool,
    has_budget: bool,
    pub output_config: Map<String, Value>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
}

impl<'a, 'c> Settings<'a, 'c> {
    pub fn new(
        request: &'a Request,
        upstream: &Upstream<'_>,
        claude: Claude,
        changes: &'c mut Changes,
    ) -> Self {
        let max_output = upstream.max_output.or(claude.max_output());
        let max_tokens = match (request.max_tokens, max_output) {
            (Some(wanted), Some(most)) if wanted > most => {
                changes.clamped("max_tokens", most);
                most
            }
            (Some(wanted), _) => wanted,
            (None, most) => {
                let default = most.map_or(MAX_TOKENS_UNKNOWN, |most| most.min(MAX_TOKENS_DEFAULT));
                changes.set("max_tokens", default);
                default
            }
        };
        Self {
            request,
            claude,
            changes,
            max_output,
            max_tokens,
            thinking: None,
            thinks: false,
            has_budget: false,
            output_config: Map::new(),
            temperature: None,
            top_p: None,
            top_k: None,
        }
    }

    pub fn think(&mut self, reasoning: Option<&Reasoning>, may_budget: bool) {
        let Some(reasoning) = reasoning else {
            return;
        };
        if reasoning.effort.is_none() && reasoning.budget.is_none() && !reasoning.adaptive {
            // Whether thoughts are to be seen says nothing of how much to think.
            return;
        }
        let off = reasoning.effort == Some(Effort::None)
            && !reasoning.adaptive
            && reasoning.budget.is_none();
        match self.claude.thinking() {
            _ if off => self.think_not(),
            Thinking::None => self.changes.dropped("reasoning_effort"),
            Thinking::Budget if !may_budget => self.changes.dropped("reasoning_effort"),
            Thinking::Budget => self.think_within_budget(reasoning),
            Thinking::Adaptive => match reasoning.budget {
                Some(_) if !self.claude.refuses_budget_and_sampling() && may_budget => {
                    self.think_within_budget(reasoning);
                }
                _ => self.think_adaptively(reasoning),
            },
        }
    }

    fn think_not(&mut self) {
        match self.claude.thinking_off() {
            _ if self.claude.thinking() == Thinking::None => {}
            ThinkingOff::Disabled => self.thinking = Some(json!({"type": "disabled"})),
            ThinkingOff::BetweenTools => self.thinking = Some(json!({"type": "between_tools"})),
            ThinkingOff::Never => self.changes.dropped("reasoning_effort"),
        }
    }

    fn think_within_budget(&mut self, reasoning: &Reasoning) {
        let words = reasoning
            .effort
            .filter(|effort| *effort != Effort::None)
            .unwrap_or(Effort::High);
        let mut budget = reasoning.budget.unwrap_or(words.budget()).max(BUDGET_MIN);
        if self.max_tokens <= budget {
            let room = self.max_tokens.saturating_add(budget);
            self.max_tokens = room.min(self.max_output.unwrap_or(room));
            self.changes.set("max_tokens", self.max_tokens);
            budget = budget.min(self.max_tokens.saturating_sub(1));
        }
        if budget < BUDGET_MIN {
            return self.changes.dropped("reasoning_effort");
        }
        let mut thinking = json!({"type": "enabled", "budget_tokens": budget});
        self.show(reasoning, &mut thinking);
        (self.thinks, self.has_budget) = (true, true);
    }

    fn think_adaptively(&mut self, reasoning: &Reasoning) {
        let mut thinking = json!({"type": "adaptive"});
        self.show(reasoning, &mut thinking);
        self.thinks = true;
        if reasoning.budget.is_some() {
            self.changes.set("thinking", "adaptive");
        }
        let words = reasoning.effort.filter(|effort| *effort != Effort::None);
        let Some(effort) = words.or(reasoning.budget.map(Effort::of_budget)) else {
            return;
        };
        let taken = self.claude.effort(effort, true);
        if taken != effort {
            self.changes.clamped("reasoning_effort", taken.name());
        }
        self.output_config
            .insert("effort".to_owned(), json!(taken.name()));
    }

    fn show(&mut self, reasoning: &Reasoning, thinking: &mut Value) {
        if let Some(visible) = reasoning.visible {
            thinking["display"] = json!(if visible { "summarized" } else { "omitted" });
        }
        self.thinking = Some(thinking.take());
    }

    /// Forced tools become optional where the model would refuse them.
    pub fn soften(&mut self, choice: &mut Option<Choice>) {
        let refused = self.has_budget || self.claude.refuses_forced_tools();
        if let Some(choice) = choice
            .as_mut()
            .filter(|choice| choice.is_forced() && refused)
        {
            (choice.kind, choice.name) = ("auto", None);
            self.changes.set("tool_choice", "auto");
        }
    }

    pub fn sample(&mut self) {
        let request = self.request;
        let refused = self.claude.refuses_budget_and_sampling();
        let asked = [
            ("temperature", request.temperature.is_some()),
            ("top_k", request.top_k.is_some()),
            ("top_p", request.top_p.is_some()),
        ];
        let narrow = request
            .top_p
            .is_some_and(|top_p| top_p < TOP_P_WITH_THOUGHTS);
        for (field, _) in asked.iter().filter(|(_, is_set)| *is_set) {
            let with_thoughts = self.thinks && (*field != "top_p" || narrow);
            let twice = *field == "top_p"
                && request.temperature.is_some()
                && self.claude.refuses_two_samplings()
                && !self.thinks;
            if refused || with_thoughts || twice {
                self.changes.dropped(field);
                continue;
            }
            match *field {
                "temperature" => {
                    self.temperature = request
                        .temperature
                        .map(|value| self.clamp("temperature", value))
                }
                "top_p" => self.top_p = request.top_p.map(|value| self.clamp("top_p", value)),
                _ => self.top_k = request.top_k,
            }
        }
    }

    fn clamp(&mut self, field: &str, value: f64) -> f64 {
        self.changes.within(field, value, 0.0, 1.0)
    }
}

/// What the client asks of thinking; Anthropic's own field, where a client of another dialect sends it, comes first.
pub(super) fn asked_reasoning(request: &Request) -> Result<Option<Reasoning>, Invalid> {
    match request.extra.get("thinking") {
        Some(thinking) if request.from != Dialect::Messages => {
            let mut reasoning = super::read_thinking(thinking.clone(), "thinking")?;
            let words = request
                .reasoning
                .as_ref()
                .and_then(|reasoning| reasoning.effort);
            reasoning.effort = reasoning.effort.or(words);
            Ok(Some(reasoning))
        }
        _ => Ok(request.reasoning.clone()),
    }
}

/// With a budget, a turn that waits for results of tools must begin with the thoughts that led to its calls.
pub(super) fn thoughts_are_whole(messages: &[Message<'_>]) -> bool {
    let last = messages.iter().rfind(|message| message.role == "assistant");
    last.is_none_or(|message| {
        let calls = message
            .content
            .iter()
            .any(|block| matches!(block, Block::ToolUse { .. }));
        let thought = matches!(
            message.content.first(),
            Some(Block::Thinking { .. } | Block::RedactedThinking { .. })
        );
        !calls || thought
    })
}
