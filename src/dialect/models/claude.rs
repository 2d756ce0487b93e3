//! Claude's generations (spec: providers 4.2 and 4.3): what each takes and refuses, by the name that any platform gives it.

use super::super::neutral::Effort;

/// A Claude model, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claude {
    line: Line,
    version: (u8, u8),
}

/// A line of models, each with its own count of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Haiku,
    Sonnet,
    Opus,
    Fable,
    Mythos,
    /// Before the lines, or one that is not known here.
    Other,
}

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// It cannot.
    None,
    /// By a number of tokens.
    Budget,
    /// By an effort; the model decides how much.
    Adaptive,
}

/// How a model that thinks is told not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingOff {
    /// `{type: disabled}`.
    Disabled,
    /// `{type: between_tools}`.
    BetweenTools,
    /// It always thinks.
    Never,
}

/// The version that a name without numbers stands for, `claude-mythos-preview` for one: names without numbers are the newest.
const NEWEST: (u8, u8) = (5, 0);

impl Claude {
    /// What is assumed of a model whose name says nothing.
    pub const UNNAMED: Self = Self {
        line: Line::Other,
        version: NEWEST,
    };

    /// Reads the name: `claude-sonnet-4-5-20250929`, `us.anthropic.claude-3-7-sonnet-20250219-v1:0`, `claude-opus-4-1@20250805`,
    /// `anthropic/claude-opus-4.6`. `None`: not a Claude.
    pub fn of(model: &str) -> Option<Self> {
        let name = model.to_ascii_lowercase();
        let (_, name) = name.rsplit_once("claude")?;
        let (mut line, mut numbers) = (Line::Other, Vec::new());
        for word in name.split(['-', '.', '@', ':', '/', '_']) {
            match word {
                "haiku" => line = Line::Haiku,
                "sonnet" => line = Line::Sonnet,
                "opus" => line = Line::Opus,
                "fable" => line = Line::Fable,
                "mythos" => line = Line::Mythos,
                _ => match word.strip_prefix('v').unwrap_or(word).parse::<u8>() {
                    // `-v1:0` at the end is the platform's version.
                    Ok(_) if word.starts_with('v') && !numbers.is_empty() => break,
                    Ok(number) if numbers.len() < 2 => numbers.push(number),
                    Ok(_) => {}
                    // A date ends the version.
                    Err(_) if word.len() >= 6 && word.bytes().all(|byte| byte.is_ascii_digit()) => {
                        break;
                    }
                    Err(_) => {}
                },
            }
        }
        let version = match numbers[..] {
            [] if name.contains("instant") => (1, 0),
            [] => NEWEST,
            [major] => (major, 0),
            [major, minor, ..] => (major, minor),
        };
        Some(Self { line, version })
    }

    /// How it is told to think.
    pub fn thinking(self) -> Thinking {
        let adaptive = match self.line {
            Line::Haiku => self.since(5, 0),
            Line::Sonnet | Line::Opus | Line::Other => self.since(4, 6),
            Line::Fable | Line::Mythos => true,
        };
        match adaptive {
            true => Thinking::Adaptive,
            false if self.since(3, 7) => Thinking::Budget,
            false => Thinking::None,
        }
    }

    /// How it is told not to think.
    pub fn thinking_off(self) -> ThinkingOff {
        match self.line {
            Line::Fable | Line::Mythos => ThinkingOff::Never,
            Line::Opus if self.since(5, 5) => ThinkingOff::Never,
            Line::Sonnet if self.since(5, 5) => ThinkingOff::BetweenTools,
            _ => ThinkingOff::Disabled,
        }
    }

    /// It refuses `thinking: {type: enabled}`, and sampling settings altogether.
    pub fn refuses_budget_and_sampling(self) -> bool {
        let both_ways =
            matches!(self.line, Line::Sonnet | Line::Opus | Line::Other) && self.version == (4, 6);
        self.thinking() == Thinking::Adaptive && !both_ways
    }

    /// It refuses `temperature` and `top_p` together.
    pub fn refuses_two_samplings(self) -> bool {
        self.since(4, 1)
    }

    /// The nearest effort that it takes.
    pub fn effort(self, effort: Effort, thinks: bool) -> Effort {
        let capped = !thinks
            && match self.line {
                Line::Opus => self.since(5, 0),
                Line::Sonnet | Line::Haiku => self.since(5, 5),
                _ => false,
            };
        match effort {
            Effort::None | Effort::Minimal => Effort::Low,
            Effort::XHigh | Effort::Max if capped => Effort::High,
            Effort::XHigh if !self.refuses_budget_and_sampling() => Effort::Max,
            effort => effort,
        }
    }

    /// It refuses `tool_choice` `any` and `tool`, whether it thinks or not.
    pub fn refuses_forced_tools(self) -> bool {
        match self.line {
            Line::Fable | Line::Mythos => self.since(5, 1),
            Line::Opus | Line::Sonnet => self.since(5, 5),
            _ => false,
        }
    }

    /// It keeps to a schema by itself (`output_config.format`), and to strict tools.
    pub fn follows_schemas(self) -> bool {
        match self.line {
            Line::Opus => self.since(4, 1),
            _ => self.since(4, 5),
        }
    }

    /// It heeds messages of the role `system` in the middle of a conversation. Some that do not heed them answer 200 all the same.
    pub fn heeds_system_turns(self) -> bool {
        match self.line {
            Line::Opus => self.since(4, 8),
            Line::Fable | Line::Mythos => true,
            _ => false,
        }
    }

    /// Most tokens it can generate, where that is known.
    pub fn max_output(self) -> Option<u64> {
        match self.thinking() {
            Thinking::Adaptive => Some(128_000),
            _ if self.since(4, 5) => Some(64_000),
            _ => None,
        }
    }

    fn since(self, major: u8, minor: u8) -> bool {
        self.version >= (major, minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str) -> Claude {
        Claude::of(model).expect("a Claude")
    }

    #[test]
    fn names_of_every_platform_are_read() {
        let cases = [
            ("claude-sonnet-4-5-20250929", Line::Sonnet, (4, 5)),
            (
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                Line::Sonnet,
                (4, 5),
            ),
            (
                "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
                Line::Sonnet,
                (3, 7),
            ),
            (
                "anthropic.claude-3-haiku-20240307-v1:0",
                Line::Haiku,
                (3, 0),
            ),
            ("claude-3-5-haiku@20241022", Line::Haiku, (3, 5)),
            ("claude-3-5-sonnet-v2@20241022", Line::Sonnet, (3, 5)),
            ("claude-3-5-sonnet-latest", Line::Sonnet, (3, 5)),
            ("claude-opus-4-1@20250805", Line::Opus, (4, 1)),
            ("claude-opus-4@20250514", Line::Opus, (4, 0)),
            ("claude-4-opus-20250514", Line::Opus, (4, 0)),
            ("claude-sonnet-4-0", Line::Sonnet, (4, 0)),
            ("global.anthropic.claude-opus-4-6-v1", Line::Opus, (4, 6)),
            ("anthropic/claude-opus-4.6", Line::Opus, (4, 6)),
            ("claude-fable-5-2", Line::Fable, (5, 2)),
            ("claude-mythos-preview", Line::Mythos, (5, 0)),
            ("Claude-Haiku-5-5", Line::Haiku, (5, 5)),
            ("anthropic.claude-v2:1", Line::Other, (2, 1)),
            ("claude-2.1", Line::Other, (2, 1)),
            ("anthropic.claude-instant-v1", Line::Other, (1, 0)),
            ("claude-ballad-7", Line::Other, (7, 0)),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-8",
                Line::Opus,
                (4, 8),
            ),
        ];
        for (name, line, version) in cases {
            assert_eq!(of(name), Claude { line, version }, "{name}");
        }
        assert_eq!(Claude::of("gpt-5"), None);
        assert_eq!(Claude::of(""), None);
    }

    #[test]
    fn thinking_has_three_generations() {
        for name in [
            "claude-3-5-sonnet-20241022",
            "claude-3-opus-20240229",
            "claude-2.1",
        ] {
            assert_eq!(of(name).thinking(), Thinking::None, "{name}");
        }
        for name in [
            "claude-3-7-sonnet-20250219",
            "claude-sonnet-4-0",
            "claude-opus-4-1",
            "claude-opus-4-5",
            "claude-haiku-4-5",
        ] {
            assert_eq!(of(name).thinking(), Thinking::Budget, "{name}");
            assert!(!of(name).refuses_budget_and_sampling());
        }
        for (name, only) in [
            ("claude-sonnet-4-6", false),
            ("claude-opus-4-6", false),
            ("claude-opus-4-7", true),
            ("claude-sonnet-5", true),
            ("claude-opus-5", true),
            ("claude-haiku-5-5", true),
            ("claude-fable-5", true),
            ("claude-mythos-preview", true),
        ] {
            assert_eq!(of(name).thinking(), Thinking::Adaptive, "{name}");
            assert_eq!(of(name).refuses_budget_and_sampling(), only, "{name}");
        }
    }

    #[test]
    fn thinking_is_switched_off_as_the_model_allows() {
        for (name, off) in [
            ("claude-sonnet-4-5", ThinkingOff::Disabled),
            ("claude-opus-5", ThinkingOff::Disabled),
            ("claude-opus-5-5", ThinkingOff::Never),
            ("claude-sonnet-5-5", ThinkingOff::BetweenTools),
            ("claude-haiku-5-5", ThinkingOff::Disabled),
            ("claude-fable-5", ThinkingOff::Never),
            ("claude-mythos-preview", ThinkingOff::Never),
        ] {
            assert_eq!(of(name).thinking_off(), off, "{name}");
        }
    }

    #[test]
    fn efforts_are_brought_to_what_the_model_takes() {
        let effort = |name, effort| of(name).effort(effort, true);
        assert_eq!(effort("claude-sonnet-4-6", Effort::XHigh), Effort::Max);
        assert_eq!(effort("claude-opus-4-7", Effort::XHigh), Effort::XHigh);
        assert_eq!(effort("claude-sonnet-5", Effort::Minimal), Effort::Low);
        assert_eq!(of("claude-opus-5").effort(Effort::Max, false), Effort::High);
        assert_eq!(
            of("claude-opus-4-8").effort(Effort::Max, false),
            Effort::Max
        );
    }

    #[test]
    fn what_is_refused_and_what_is_followed() {
        for (name, forced, schemas, system) in [
            ("claude-sonnet-4-0", false, false, false),
            ("claude-opus-4-0", false, false, false),
            ("claude-opus-4-1", false, true, false),
            ("claude-haiku-4-5", false, true, false),
            ("claude-opus-4-8", false, true, true),
            ("claude-sonnet-5", false, true, false),
            ("claude-fable-5", false, true, true),
            ("claude-fable-5-1", true, true, true),
            ("claude-opus-5-5", true, true, true),
            ("claude-sonnet-5-5", true, true, false),
        ] {
            let model = of(name);
            assert_eq!(model.refuses_forced_tools(), forced, "{name}");
            assert_eq!(model.follows_schemas(), schemas, "{name}");
            assert_eq!(model.heeds_system_turns(), system, "{name}");
        }
        assert!(of("claude-sonnet-4-5").refuses_two_samplings());
        assert!(!of("claude-sonnet-4-0").refuses_two_samplings());
        assert_eq!(of("claude-sonnet-4-6").max_output(), Some(128_000));
        assert_eq!(of("claude-haiku-4-5").max_output(), Some(64_000));
        assert_eq!(of("claude-3-opus").max_output(), None);
    }
}
