//! What the families of models on Bedrock take and refuse (spec: providers 7.3, 7.4). Converse is one dialect, yet it passes much
//! to the model behind it, and a field that a family does not know is a 400.

use crate::dialect::ids::IdRule;
use crate::dialect::neutral::{Effort, Origin};

/// A model on Bedrock, told by its id, with or without a region's prefix, a version, or an ARN around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model<'a> {
    /// `anthropic`, `amazon`, `meta`, ...; empty where the id does not say (an application's inference profile).
    pub vendor: &'a str,
    /// `claude-sonnet-4-5-20250929`, without the version behind it.
    pub name: &'a str,
}

/// What stands before the vendor in the id of a profile that spans regions.
const GEOGRAPHIES: [&str; 9] = [
    "us", "eu", "apac", "jp", "au", "ca", "in", "global", "us-gov",
];

impl<'a> Model<'a> {
    /// Reads an id.
    pub fn of(id: &'a str) -> Self {
        let id = match id.starts_with("arn:") {
            // arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0
            true => id.rsplit_once('/').map_or("", |(_, resource)| resource),
            false => id,
        };
        let id = match id.split_once('.') {
            Some((geography, rest)) if GEOGRAPHIES.contains(&geography) => rest,
            _ => id,
        };
        match id.split_once('.') {
            Some((vendor, name)) => Self {
                vendor,
                name: without_version(name),
            },
            None => Self {
                vendor: "",
                name: id,
            },
        }
    }

    /// Whether it is a Claude, whose own rules stand elsewhere.
    pub fn is_claude(&self) -> bool {
        self.vendor == "anthropic"
    }

    /// Whose are the proofs of its thoughts.
    pub fn origin(&self) -> Origin {
        match self.is_claude() {
            true => Origin::Anthropic,
            false => Origin::Bedrock,
        }
    }

    fn begins(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.starts_with(name))
    }
}

/// `nova-lite` of `nova-lite-v1:0`.
fn without_version(name: &str) -> &str {
    let Some((front, version)) = name.rsplit_once("-v") else {
        return name;
    };
    let (major, minor) = version.split_once(':').unwrap_or((version, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match digits(major) && digits(minor) {
        true => front,
        false => name,
    }
}

/// What a family takes in a Converse request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Abilities {
    /// `toolConfig.toolChoice` at all; without it a model calls tools as it likes.
    pub tool_choice: bool,
    /// `outputConfig.textFormat`, and `strict` in a tool's definition. Of Claudes: that Bedrock keeps it from none that has it.
    pub json_schema: bool,
    /// Temperature and the rest of sampling.
    pub sampling: bool,
    /// How much thinking is asked for.
    pub thinking: Thinking,
    /// Where top_k goes.
    pub top_k: TopK,
    /// Cache points.
    pub caching: Caching,
    /// A conversation may begin with the model's turn.
    pub leading_assistant: bool,
    /// What may stand in one turn with the results of tools.
    pub beside_results: Beside,
    /// Pictures inside the result of a tool.
    pub image_results: bool,
    /// Documents inside the result of a tool.
    pub document_results: bool,
    /// `status` of the result of a tool.
    pub result_status: bool,
    /// Results that are JSON objects go as such.
    pub json_results: bool,
    /// Films.
    pub video: bool,
    /// Sound.
    pub audio: bool,
    /// Thoughts of earlier turns go back.
    pub history: History,
    /// What an id of a tool's call looks like.
    pub ids: IdRule,
}

/// How a family is told to think, inside `additionalModelRequestFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// It cannot be told.
    No,
    /// As Claude's generation wants it.
    Claude,
    /// `{reasoningConfig: {type, maxReasoningEffort}}`: low, medium, high.
    Nova,
    /// `{reasoning_effort}`, one of these.
    Effort(&'static [Effort]),
    /// `{reasoning_config}`, one of these.
    Config(&'static [Effort]),
    /// `{reasoning: {effort}}`, one of these.
    Nested(&'static [Effort]),
}

/// Where top_k goes, inside `additionalModelRequestFields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopK {
    /// Nowhere.
    No,
    /// `{top_k}`.
    Flat,
    /// `{inferenceConfig: {topK}}`.
    Nested,
}

/// Where cache points may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Nowhere.
    No,
    /// In system text and turns, for five minutes.
    Conversation,
    /// Among the tools too; `hour`: for an hour where that is asked for.
    All {
        /// `ttl: 1h` is known.
        hour: bool,
    },
}

/// What may stand beside the results of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Whatever a user says.
    Anything,
    /// Text and pictures.
    TextAndImages,
    /// Nothing.
    Nothing,
}

/// Which thoughts a model wants back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Those that its proof stands with.
    Signed,
    /// All.
    All,
}

const UP_TO_HIGH: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High];
const UP_TO_XHIGH: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High, Effort::XHigh];
const NONE_TO_XHIGH: &[Effort] = &[
    Effort::None,
    Effort::Low,
    Effort::Medium,
    Effort::High,
    Effort::XHigh,
];
/// Qwen takes medium too, and does not think with it.
const NONE_LOW_HIGH: &[Effort] = &[Effort::None, Effort::Low, Effort::High];
const LOW_TO_MAX: &[Effort] = &[
    Effort::Low,
    Effort::Medium,
    Effort::High,
    Effort::XHigh,
    Effort::Max,
];
const NONE_OR_HIGH: &[Effort] = &[Effort::None, Effort::High];

/// Claudes that Bedrock does not give what Anthropic's own endpoint gives them: output after a schema.
const CLAUDE_WITHOUT_SCHEMA: [&str; 2] = ["claude-opus-4-1", "claude-fable-5"];
/// Claudes whose caches are kept for an hour on Bedrock too.
const CLAUDE_WITH_HOUR: [&str; 12] = [
    "claude-fable-5",
    "claude-haiku-4-5",
    "claude-haiku-5-5",
    "claude-mythos-5",
    "claude-opus-4-5",
    "claude-opus-4-6",
    "claude-opus-4-7",
    "claude-opus-4-8",
    "claude-opus-5",
    "claude-sonnet-4-5",
    "claude-sonnet-4-6",
    "claude-sonnet-5",
];

/// What families that nothing is known of are believed to take: what Converse itself describes, and no field of their own.
const PLAIN: Abilities = Abilities {
    tool_choice: false,
    json_schema: false,
    sampling: true,
    thinking: Thinking::No,
    top_k: TopK::No,
    caching: Caching::No,
    leading_assistant: false,
    beside_results: Beside::Anything,
    image_results: true,
    document_results: false,
    result_status: true,
    json_results: false,
    video: false,
    audio: false,
    history: History::Signed,
    ids: IdRule::BEDROCK,
};

/// What the model takes.
pub fn abilities(model: &Model<'_>) -> Abilities {
    match model.vendor {
        // A profile of an application, an imported model: it may be any, so what the client asks for is not taken from it.
        "" => Abilities {
            tool_choice: true,
            caching: Caching::All { hour: true },
            document_results: true,
            video: true,
            audio: true,
            ..PLAIN
        },
        "anthropic" => Abilities {
            tool_choice: true,
            json_schema: !model.begins(&CLAUDE_WITHOUT_SCHEMA),
            thinking: Thinking::Claude,
            top_k: TopK::Flat,
            caching: Caching::All {
                hour: model.begins(&CLAUDE_WITH_HOUR),
            },
            leading_assistant: true,
            beside_results: Beside::TextAndImages,
            document_results: true,
            ..PLAIN
        },
        "amazon" if model.begins(&["nova"]) => Abilities {
            tool_choice: true,
            thinking: match model.begins(&["nova-2"]) {
                true => Thinking::Nova,
                false => Thinking::No,
            },
            top_k: TopK::Nested,
            caching: Caching::Conversation,
            beside_results: Beside::Nothing,
            video: !model.begins(&["nova-micro"]),
            audio: model.name.contains("omni"),
            ..PLAIN
        },
        "meta" => Abilities {
            beside_results: Beside::Nothing,
            document_results: true,
            ..PLAIN
        },
        "mistral" => Abilities {
            tool_choice: model.begins(&["mistral-large", "pixtral-large"]),
            json_schema: model.begins(&[
                "magistral-small",
                "ministral-3",
                "mistral-large-3",
                "voxtral",
            ]),
            beside_results: Beside::Nothing,
            image_results: false,
            document_results: true,
            json_results: true,
            audio: model.begins(&["voxtral"]),
            ids: IdRule::MISTRAL,
            ..PLAIN
        },
        "qwen" => Abilities {
            json_schema: model.begins(&["qwen3"]),
            thinking: match model.begins(&["qwen3", "qwq"]) && !model.begins(&["qwen3-coder"]) {
                true => Thinking::Config(NONE_LOW_HIGH),
                false => Thinking::No,
            },
            leading_assistant: true,
            image_results: false,
            ..PLAIN
        },
        "openai" if model.begins(&["gpt-oss"]) => Abilities {
            thinking: Thinking::Effort(UP_TO_HIGH),
            ..PLAIN
        },
        "openai" => Abilities {
            sampling: false,
            thinking: Thinking::Nested(match model.begins(&["gpt-6-astra", "gpt-6.1-sol"]) {
                true => UP_TO_XHIGH,
                false => NONE_TO_XHIGH,
            }),
            ..PLAIN
        },
        "deepseek" => Abilities {
            thinking: match model.begins(&["v3.2"]) {
                true => Thinking::Effort(NONE_OR_HIGH),
                false => Thinking::No,
            },
            history: match model.name.contains("r1") {
                true => History::All,
                false => History::Signed,
            },
            ..PLAIN
        },
        "google" => Abilities {
            json_schema: model.begins(&["gemma-3-12b-it", "gemma-3-27b-it"]),
            ..PLAIN
        },
        "minimax" => Abilities {
            json_schema: model.begins(&["minimax-m2"]),
            ..PLAIN
        },
        "nvidia" => Abilities {
            json_schema: model.begins(&["nemotron"]),
            ..PLAIN
        },
        "zai" => Abilities {
            tool_choice: true,
            json_schema: true,
            thinking: Thinking::Effort(match model.begins(&["glm-5.3"]) {
                true => LOW_TO_MAX,
                false => NONE_OR_HIGH,
            }),
            leading_assistant: true,
            ..PLAIN
        },
        "moonshot" | "moonshotai" => Abilities {
            tool_choice: true,
            json_schema: true,
            leading_assistant: true,
            image_results: false,
            ..PLAIN
        },
        "xai" => Abilities {
            tool_choice: true,
            sampling: false,
            thinking: Thinking::Nested(UP_TO_XHIGH),
            ..PLAIN
        },
        "writer" => Abilities {
            beside_results: Beside::Nothing,
            result_status: false,
            ..PLAIN
        },
        _ => PLAIN,
    }
}

/// The nearest of what a family knows: the least that is not less, else the most; `None` only where that is known.
pub fn nearest(wanted: Effort, known: &[Effort]) -> Effort {
    let enough = known.iter().find(|effort| {
        **effort >= wanted && (**effort == Effort::None) == (wanted == Effort::None)
    });
    let least = known.iter().find(|effort| **effort != Effort::None);
    let found = match wanted {
        Effort::None => enough.or(least),
        _ => enough.or(known.last()),
    };
    found.copied().unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_vendor_and_name() {
        let claude = ("anthropic", "claude-haiku-4-5-20251001");
        for (id, wanted) in [
            ("anthropic.claude-haiku-4-5-20251001-v1:0", claude),
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", claude),
            ("us-gov.anthropic.claude-haiku-4-5-20251001-v1:0", claude),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
                ("amazon", "nova-lite"),
            ),
            (
                "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-8b-instruct-v1:0",
                ("meta", "llama3-1-8b-instruct"),
            ),
            (
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
                ("", "a1b2c3d4e5f6"),
            ),
            ("anthropic.claude-v2:1", ("anthropic", "claude")),
            ("deepseek.v3-v1:0", ("deepseek", "v3")),
            ("deepseek.v3.2", ("deepseek", "v3.2")),
            ("openai.gpt-oss-120b-1:0", ("openai", "gpt-oss-120b-1:0")),
            (
                "us.anthropic.claude-sonnet-4-6",
                ("anthropic", "claude-sonnet-4-6"),
            ),
            ("arn:", ("", "")),
            ("", ("", "")),
        ] {
            let model = Model::of(id);
            assert_eq!((model.vendor, model.name), wanted, "{id}");
        }
    }

    #[test]
    fn efforts_fall_to_what_a_family_knows() {
        for (wanted, known, found) in [
            (Effort::Minimal, UP_TO_HIGH, Effort::Low),
            (Effort::XHigh, UP_TO_HIGH, Effort::High),
            (Effort::None, UP_TO_HIGH, Effort::Low),
            (Effort::None, NONE_OR_HIGH, Effort::None),
            (Effort::Low, NONE_OR_HIGH, Effort::High),
            (Effort::Max, LOW_TO_MAX, Effort::Max),
            (Effort::Medium, NONE_LOW_HIGH, Effort::High),
        ] {
            assert_eq!(nearest(wanted, known), found, "{wanted:?} of {known:?}");
        }
    }

    #[test]
    fn families_differ_where_their_answers_do() {
        let of = |id| abilities(&Model::of(id));
        assert!(of("us.anthropic.claude-sonnet-4-5-20250929-v1:0").json_schema);
        assert!(!of("us.anthropic.claude-opus-4-1-20250805-v1:0").json_schema);
        assert_eq!(of("us.amazon.nova-2-lite-v1:0").thinking, Thinking::Nova);
        assert_eq!(of("amazon.nova-lite-v1:0").thinking, Thinking::No);
        assert_eq!(
            of("qwen.qwen3-32b-v1:0").thinking,
            Thinking::Config(NONE_LOW_HIGH)
        );
        assert_eq!(of("qwen.qwen3-coder-30b-a3b-v1:0").thinking, Thinking::No);
        assert_eq!(of("mistral.mistral-large-2407-v1:0").ids, IdRule::MISTRAL);
        assert!(of("arn:aws:bedrock:eu-west-1:1:application-inference-profile/x").tool_choice);
        assert!(!of("writer.palmyra-x5-v1:0").result_status);
    }
}
