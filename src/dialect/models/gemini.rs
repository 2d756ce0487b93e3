//! Gemini's generations, told by the model's name (spec: providers 5.2 and 5.3).

use crate::dialect::neutral::Effort;

/// What a model of Google's takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemini {
    generation: Generation,
    size: Size,
    /// It makes pictures.
    image: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Generation {
    /// No Gemini (Gemma, a tuned model that has only a number), or one that does not think.
    Older,
    /// 2.5.
    Budgets,
    /// A name without a number (`gemini-flash-latest`): 2.5 or later.
    Unnumbered,
    /// 3.0.
    Levels,
    /// 3.1 and later.
    MoreLevels,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Pro,
    Flash,
    FlashLite,
}

/// How a model is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// It cannot be told.
    Fixed,
    /// `thinkingBudget`.
    Budget {
        /// Fewest tokens; thinking cannot be switched off where this is not 0, unless [`Thinking::Budget::off`].
        least: u64,
        /// Most tokens.
        most: u64,
        /// 0 switches it off.
        off: bool,
    },
    /// `thinkingLevel`: one of these, least first.
    Level(&'static [Effort]),
}

impl Gemini {
    /// The model of this name; `models/` and a publisher before it do not matter.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let name = name.to_ascii_lowercase();
        let size = match () {
            () if name.contains("flash-lite") => Size::FlashLite,
            () if name.contains("flash") => Size::Flash,
            () => Size::Pro,
        };
        Self {
            generation: generation(&name),
            size,
            image: name.contains("image"),
        }
    }

    /// How it is told how much to think.
    pub fn thinking(self) -> Thinking {
        const PRO: &[Effort] = &[Effort::Low, Effort::High];
        const LATER_PRO: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High];
        const FLASH: &[Effort] = &[Effort::Minimal, Effort::Low, Effort::Medium, Effort::High];
        if self.image {
            return Thinking::Fixed;
        }
        match (self.generation, self.size) {
            (Generation::Older, _) => Thinking::Fixed,
            // Later models take budgets too; the aliases may still lead to 2.5, which refuses levels.
            (Generation::Budgets | Generation::Unnumbered, Size::Pro) => Thinking::Budget {
                least: 128,
                most: 32_768,
                off: false,
            },
            (Generation::Budgets | Generation::Unnumbered, Size::Flash) => Thinking::Budget {
                least: 0,
                most: 24_576,
                off: true,
            },
            (Generation::Budgets | Generation::Unnumbered, Size::FlashLite) => Thinking::Budget {
                least: 512,
                most: 24_576,
                off: true,
            },
            (Generation::Levels, Size::Pro) => Thinking::Level(PRO),
            (Generation::MoreLevels, Size::Pro) => Thinking::Level(LATER_PRO),
            (Generation::Levels | Generation::MoreLevels, _) => Thinking::Level(FLASH),
        }
    }

    /// A wanted form of the answer and functions go together.
    pub fn formats_beside_tools(self) -> bool {
        self.generation >= Generation::Unnumbered
    }

    /// It refuses its calls when they come back without the signature.
    pub fn demands_signatures(self) -> bool {
        self.generation >= Generation::Unnumbered
    }

    /// What a function returned may hold pictures and documents.
    pub fn media_in_results(self) -> bool {
        self.generation >= Generation::Levels
    }

    /// Its calls have ids, or it takes them without a word.
    pub fn knows_call_ids(self) -> bool {
        self.generation >= Generation::Budgets
    }

    /// `VALIDATED` calling: it may call one of some functions, or answer.
    pub fn validates_calls(self) -> bool {
        self.generation >= Generation::Budgets
    }

    /// The most answers to one request.
    pub fn candidates_max(self) -> u64 {
        if self.image { 1 } else { 8 }
    }
}

fn generation(name: &str) -> Generation {
    let Some(rest) = name.strip_prefix("gemini-") else {
        return Generation::Older;
    };
    let number: String = rest
        .chars()
        .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
        .collect();
    let mut digits = number.split('.').map(|digits| digits.parse::<u32>().ok());
    let major = digits.next().flatten();
    let minor = digits.next().flatten().unwrap_or(0);
    match (major, minor) {
        // `gemini-exp-1206`, `gemini-pro`, `gemini-pro-vision`: of the first two generations.
        (None, _) if rest.ends_with("-latest") => Generation::Unnumbered,
        (None, _) => Generation::Older,
        (Some(0..=1), _) | (Some(2), 0..=4) => Generation::Older,
        (Some(2), _) => Generation::Budgets,
        (Some(3), 0) => Generation::Levels,
        (Some(_), _) => Generation::MoreLevels,
    }
}

/// Tokens to think with, as Google counts the words (spec: providers 5.3).
pub fn budget(effort: Effort) -> u64 {
    match effort {
        Effort::None => 0,
        Effort::Minimal => 512,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 24_576,
        Effort::XHigh | Effort::Max => u64::MAX,
    }
}

/// The level of `levels` nearest to the effort, the higher one of two.
pub fn level(effort: Effort, levels: &[Effort]) -> Effort {
    let found = levels.iter().find(|level| **level >= effort);
    found.or(levels.last()).copied().unwrap_or(effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_told_by_name() {
        for (name, expected) in [
            ("gemini-1.5-pro", Generation::Older),
            ("gemini-2.0-flash-lite", Generation::Older),
            ("gemini-pro", Generation::Older),
            ("gemma-3-27b-it", Generation::Older),
            ("1234567890", Generation::Older),
            ("gemini-2.5-flash-preview-09-2025", Generation::Budgets),
            ("models/gemini-2.5-pro", Generation::Budgets),
            ("gemini-flash-latest", Generation::Unnumbered),
            ("google/gemini-3-pro-preview", Generation::Levels),
            ("gemini-3.1-pro-preview", Generation::MoreLevels),
            ("gemini-4-flash", Generation::MoreLevels),
        ] {
            assert_eq!(Gemini::of(name).generation, expected, "{name}");
        }
    }

    #[test]
    fn each_size_has_its_own_least_thinking() {
        let budget = |least, most, off| Thinking::Budget { least, most, off };
        for (name, expected) in [
            ("gemini-2.5-pro", budget(128, 32_768, false)),
            ("gemini-2.5-flash", budget(0, 24_576, true)),
            ("gemini-2.5-flash-lite", budget(512, 24_576, true)),
            ("gemini-2.5-flash-image", Thinking::Fixed),
            ("gemini-2.0-flash", Thinking::Fixed),
            (
                "gemini-3-pro-preview",
                Thinking::Level(&[Effort::Low, Effort::High]),
            ),
            (
                "gemini-3.1-pro-preview",
                Thinking::Level(&[Effort::Low, Effort::Medium, Effort::High]),
            ),
            ("gemini-3-pro-image-preview", Thinking::Fixed),
        ] {
            assert_eq!(Gemini::of(name).thinking(), expected, "{name}");
        }
        let Thinking::Level(flash) = Gemini::of("gemini-3-flash-preview").thinking() else {
            panic!("levels");
        };
        assert_eq!(level(Effort::None, flash), Effort::Minimal);
        assert_eq!(level(Effort::Max, flash), Effort::High);
        assert_eq!(
            level(Effort::Medium, &[Effort::Low, Effort::High]),
            Effort::High
        );
    }
}
