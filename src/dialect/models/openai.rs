//! OpenAI's reasoning models, wherever they run (spec: providers 3).

use super::super::neutral::Effort;

/// What a model of OpenAI's refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// It knows `max_completion_tokens` only.
    pub completion_tokens_only: bool,
    /// Whether it thinks, and how much it may be told to.
    pub efforts: &'static [Effort],
    /// It thinks although nothing is said of it, and then refuses `temperature` and its like.
    pub thinks_unasked: bool,
}

const NO_EFFORTS: &[Effort] = &[];
const FIRST_EFFORTS: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High];
const FIVE_EFFORTS: &[Effort] = &[Effort::Minimal, Effort::Low, Effort::Medium, Effort::High];
const FIVE_ONE_EFFORTS: &[Effort] = &[Effort::None, Effort::Low, Effort::Medium, Effort::High];
const LATER_EFFORTS: &[Effort] = &[
    Effort::None,
    Effort::Low,
    Effort::Medium,
    Effort::High,
    Effort::XHigh,
];
const PRO_EFFORTS: &[Effort] = &[Effort::High];
const LATER_PRO_EFFORTS: &[Effort] = &[Effort::Medium, Effort::High, Effort::XHigh];

/// The rules of a model, by its name; a name with a vendor before it (`openai/o3`) is read behind the slash.
pub fn rules(model: &str) -> Rules {
    let name = model.rsplit('/').next().unwrap_or(model);
    let (efforts, thinks_unasked, is_reasoning) = match generation(name) {
        None => (NO_EFFORTS, false, false),
        Some(Generation::First) => (FIRST_EFFORTS, true, true),
        // The chat variants do not think, but share the fields of their generation.
        Some(Generation::Five(_)) if name.contains("-chat") => (NO_EFFORTS, false, true),
        Some(Generation::Five(minor)) if name.contains("-pro") => match minor {
            0 => (PRO_EFFORTS, true, true),
            _ => (LATER_PRO_EFFORTS, true, true),
        },
        Some(Generation::Five(minor)) if name.contains("-codex") => match minor {
            0 | 1 => (FIRST_EFFORTS, true, true),
            _ => (&LATER_EFFORTS[1..], true, true),
        },
        Some(Generation::Five(0)) => (FIVE_EFFORTS, true, true),
        Some(Generation::Five(1)) => (FIVE_ONE_EFFORTS, false, true),
        Some(Generation::Five(_)) => (LATER_EFFORTS, false, true),
    };
    Rules {
        completion_tokens_only: is_reasoning,
        efforts,
        thinks_unasked,
    }
}

impl Rules {
    /// The nearest effort that the model knows; `None`: it cannot be told.
    pub fn fit(&self, wanted: Effort) -> Option<Effort> {
        let distance = |effort: &&Effort| (**effort as i8 - wanted as i8).abs();
        self.efforts.iter().min_by_key(distance).copied()
    }

    /// Whether it refuses `temperature`, `top_p`, penalties and log probabilities when it is told to think so much.
    pub fn refuses_sampling(&self, effort: Option<Effort>) -> bool {
        !self.efforts.is_empty()
            && match effort {
                None => self.thinks_unasked,
                Some(effort) => effort != Effort::None,
            }
    }
}

enum Generation {
    /// `o1`, `o3-mini`, `o4-mini`.
    First,
    /// `gpt-5`, `gpt-5.2`, with what stands behind the point.
    Five(u32),
}

fn generation(name: &str) -> Option<Generation> {
    let mut letters = name.chars();
    if letters.next() == Some('o') && letters.next().is_some_and(|digit| digit.is_ascii_digit()) {
        return matches!(letters.next(), None | Some('-')).then_some(Generation::First);
    }
    let rest = name.strip_prefix("gpt-5")?;
    match rest.chars().next() {
        None | Some('-') => Some(Generation::Five(0)),
        Some('.') => {
            let digits = rest[1..].split('-').next().unwrap_or_default();
            digits.parse().ok().map(Generation::Five)
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_models_are_told_by_their_names() {
        for (model, only, sampling, efforts) in [
            ("gpt-4o-mini", false, false, NO_EFFORTS),
            ("gpt-4.1", false, false, NO_EFFORTS),
            ("omni-moderation-latest", false, false, NO_EFFORTS),
            ("o1-mini", true, true, FIRST_EFFORTS),
            ("o3", true, true, FIRST_EFFORTS),
            ("openai/o4-mini-2025-04-16", true, true, FIRST_EFFORTS),
            ("gpt-5", true, true, FIVE_EFFORTS),
            ("gpt-5-mini-2025-08-07", true, true, FIVE_EFFORTS),
            ("gpt-5-chat-latest", true, false, NO_EFFORTS),
            ("gpt-5.1", true, false, FIVE_ONE_EFFORTS),
            ("gpt-5.1-codex", true, true, FIRST_EFFORTS),
            ("gpt-5.2", true, false, LATER_EFFORTS),
            ("gpt-5.2-pro", true, true, LATER_PRO_EFFORTS),
            ("gpt-5-pro", true, true, PRO_EFFORTS),
            ("gpt-50", false, false, NO_EFFORTS),
            ("gpt-oss-120b", false, false, NO_EFFORTS),
        ] {
            let rules = rules(model);
            assert_eq!(rules.completion_tokens_only, only, "{model}");
            assert_eq!(rules.refuses_sampling(None), sampling, "{model}");
            assert_eq!(rules.efforts, efforts, "{model}");
        }
    }

    #[test]
    fn efforts_are_brought_to_what_the_model_knows() {
        for (model, wanted, fitted) in [
            ("o3", Effort::Minimal, Some(Effort::Low)),
            ("o3", Effort::Max, Some(Effort::High)),
            ("gpt-5", Effort::None, Some(Effort::Minimal)),
            ("gpt-5.1", Effort::XHigh, Some(Effort::High)),
            ("gpt-5.2", Effort::XHigh, Some(Effort::XHigh)),
            ("gpt-4o", Effort::High, None),
        ] {
            assert_eq!(rules(model).fit(wanted), fitted, "{model}");
        }
        assert!(rules("gpt-5.2").refuses_sampling(Some(Effort::High)));
        assert!(!rules("gpt-5.2").refuses_sampling(Some(Effort::None)));
    }
}
