//! How each provider's chat completions differ from OpenAI's (spec: providers 8 to 12, 15 and 19): a row for each, and the one
//! place where it is told what a provider lacks.

use crate::providers::Slug;

/// One provider's differences.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// It knows the role `developer`; otherwise that is written `system`.
    pub developer: bool,
    /// What it calls the bound of tokens.
    pub bound: Bound,
    /// Top-level fields that it refuses or has no meaning for, and that may go.
    pub drops: &'static [&'static str],
    /// Only these top-level fields get through; empty: all.
    pub keeps: &'static [&'static str],
    /// `n` above one is refused.
    pub one_choice: bool,
    /// Log probabilities are refused.
    pub no_logprobs: bool,
    /// What else it cannot do.
    pub lacks: &'static [Lack],
    /// Highest `temperature`, where it is below OpenAI's.
    pub hottest: f64,
    /// How it is asked for the usage of a stream.
    pub usage: UsageAsked,
    /// Where an assistant's thoughts go back.
    pub thoughts: Thoughts,
    /// It takes a `content` of several texts.
    pub text_parts: bool,
    /// It takes `cache_control` on parts.
    pub cache_marks: bool,
    /// It takes `top_k`.
    pub top_k: bool,
    /// It knows `tool_choice: {type: allowed_tools}`.
    pub allowed_tools: bool,
    /// What its answers need.
    pub quirks: &'static [Quirk],
}

/// What a provider calls the bound of generated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `max_completion_tokens`; `max_tokens` too, but for reasoning models.
    Completion,
    /// Either name.
    Either,
    /// `max_tokens`.
    Tokens,
}

/// Things whose loss would change what an answer means: refused, not dropped (spec: providers 1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// `tools` of any type.
    Tools,
    /// Tools of the type `custom`.
    CustomTools,
    /// `modalities` with `audio`.
    AudioOutput,
    /// Parts `input_audio`.
    AudioInput,
    /// Parts `file`.
    Files,
    /// Parts `file` with a `file_id`.
    FileIds,
}

/// How the usage of a stream is got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageAsked {
    /// With `stream_options.include_usage`.
    Asked,
    /// It comes unasked, or never; `stream_options` do not go up.
    Unasked,
}

/// Where an assistant's thoughts go back to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoughts {
    /// Nowhere: the field is refused.
    Nowhere,
    /// In the message's field of this name.
    Field(&'static str),
    /// In `reasoning`, and whole in `reasoning_details` (OpenRouter).
    Details,
    /// Among the parts of the content (Mistral's magistral).
    Parts,
    /// As the client wrote them: the provider is not known.
    AsTheyCame,
}

/// What a provider's answers need on their way to a chat client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// Thoughts stand in `reasoning`: said in `reasoning_content` too.
    ReasoningField,
    /// Usage comes on chunks that have choices.
    UsageBesideChoices,
    /// An answer or a chunk may hold an error.
    ErrorInside,
    /// Tool calls may lack ids, or indices, or have an object for arguments.
    LooseCalls,
    /// Finish reasons may be doubled, empty or words of the provider's own.
    LooseFinish,
    /// The content may be a list of parts (Mistral).
    ContentParts,
    /// Chunks without choices that hold the provider's own remarks (Azure).
    EmptyChoices,
    /// Completion tokens leave reasoning out (xAI).
    ReasoningOutside,
    /// The stream may end without `[DONE]`.
    NoDone,
}

const PLAIN: Row = Row {
    developer: false,
    bound: Bound::Tokens,
    drops: &[],
    keeps: &[],
    one_choice: false,
    no_logprobs: false,
    lacks: &[],
    hottest: f64::INFINITY,
    usage: UsageAsked::Asked,
    thoughts: Thoughts::Field("reasoning_content"),
    text_parts: true,
    cache_marks: false,
    top_k: false,
    allowed_tools: false,
    quirks: &[],
};

const OPENAI: Row = Row {
    developer: true,
    bound: Bound::Completion,
    thoughts: Thoughts::Nowhere,
    allowed_tools: true,
    ..PLAIN
};

const AZURE: Row = Row {
    quirks: &[Quirk::EmptyChoices],
    ..OPENAI
};

const WORKERS: Row = Row {
    drops: &[
        "logit_bias",
        "metadata",
        "user",
        "safety_identifier",
        "parallel_tool_calls",
        "store",
        "prediction",
        "verbosity",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "web_search_options",
    ],
    one_choice: true,
    no_logprobs: true,
    lacks: &[
        Lack::CustomTools,
        Lack::AudioOutput,
        Lack::AudioInput,
        Lack::Files,
    ],
    hottest: 5.0,
    text_parts: false,
    top_k: true,
    quirks: &[
        Quirk::ReasoningField,
        Quirk::LooseCalls,
        Quirk::LooseFinish,
        Quirk::UsageBesideChoices,
        Quirk::ErrorInside,
    ],
    ..PLAIN
};

const GROQ: Row = Row {
    bound: Bound::Either,
    drops: &["logit_bias", "prompt_cache_key"],
    one_choice: true,
    no_logprobs: true,
    thoughts: Thoughts::Field("reasoning"),
    quirks: &[
        Quirk::ReasoningField,
        Quirk::UsageBesideChoices,
        Quirk::ErrorInside,
    ],
    ..PLAIN
};

const DEEPSEEK: Row = Row {
    text_parts: false,
    quirks: &[Quirk::UsageBesideChoices, Quirk::LooseFinish],
    ..PLAIN
};

const PERPLEXITY: Row = Row {
    drops: &["stop", "seed", "logit_bias", "parallel_tool_calls"],
    one_choice: true,
    no_logprobs: true,
    usage: UsageAsked::Unasked,
    thoughts: Thoughts::Nowhere,
    text_parts: false,
    top_k: true,
    quirks: &[Quirk::UsageBesideChoices, Quirk::LooseFinish, Quirk::NoDone],
    ..PLAIN
};

const XAI: Row = Row {
    quirks: &[
        Quirk::LooseFinish,
        Quirk::UsageBesideChoices,
        Quirk::ReasoningOutside,
    ],
    ..PLAIN
};

const OPENROUTER: Row = Row {
    bound: Bound::Either,
    thoughts: Thoughts::Details,
    cache_marks: true,
    top_k: true,
    quirks: &[
        Quirk::ReasoningField,
        Quirk::UsageBesideChoices,
        Quirk::ErrorInside,
        Quirk::LooseCalls,
        Quirk::LooseFinish,
    ],
    ..PLAIN
};

const CEREBRAS: Row = Row {
    bound: Bound::Either,
    drops: &[
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "parallel_tool_calls",
        "service_tier",
    ],
    thoughts: Thoughts::Field("reasoning"),
    text_parts: false,
    quirks: &[Quirk::ReasoningField],
    ..PLAIN
};

const HUGGINGFACE: Row = Row {
    top_k: true,
    quirks: &[
        Quirk::UsageBesideChoices,
        Quirk::ReasoningField,
        Quirk::LooseCalls,
        Quirk::LooseFinish,
        Quirk::ErrorInside,
    ],
    ..PLAIN
};

const BASETEN: Row = Row {
    top_k: true,
    ..PLAIN
};

const PARALLEL: Row = Row {
    keeps: &["model", "messages", "stream", "response_format"],
    one_choice: true,
    no_logprobs: true,
    lacks: &[
        Lack::Tools,
        Lack::AudioOutput,
        Lack::AudioInput,
        Lack::Files,
    ],
    usage: UsageAsked::Unasked,
    thoughts: Thoughts::Nowhere,
    text_parts: false,
    quirks: &[Quirk::UsageBesideChoices],
    ..PLAIN
};

const FIREWORKS: Row = Row {
    top_k: true,
    quirks: &[Quirk::UsageBesideChoices],
    ..PLAIN
};

const MISTRAL: Row = Row {
    keeps: &[
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "metadata",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "reasoning_effort",
        "prompt_mode",
        "guardrails",
        "min_tokens",
        "repetition_penalty",
        "top_k",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
        "safe_prompt",
    ],
    lacks: &[Lack::CustomTools, Lack::AudioOutput, Lack::FileIds],
    hottest: 1.5,
    usage: UsageAsked::Unasked,
    thoughts: Thoughts::Parts,
    top_k: true,
    quirks: &[
        Quirk::ContentParts,
        Quirk::UsageBesideChoices,
        Quirk::LooseFinish,
        Quirk::LooseCalls,
        Quirk::ErrorInside,
    ],
    ..PLAIN
};

/// A provider that is not known: a server of the user's own, or one more that says it speaks as OpenAI does.
const UNKNOWN: Row = Row {
    thoughts: Thoughts::AsTheyCame,
    top_k: true,
    quirks: &[
        Quirk::ReasoningField,
        Quirk::LooseCalls,
        Quirk::LooseFinish,
        Quirk::ErrorInside,
        Quirk::UsageBesideChoices,
    ],
    ..PLAIN
};

/// The row of a provider.
pub fn row(slug: Slug) -> &'static Row {
    match slug {
        Slug::OpenAi => &OPENAI,
        Slug::AzureOpenAi => &AZURE,
        Slug::WorkersAi => &WORKERS,
        Slug::Groq => &GROQ,
        Slug::DeepSeek => &DEEPSEEK,
        Slug::PerplexityAi => &PERPLEXITY,
        Slug::Grok => &XAI,
        Slug::OpenRouter => &OPENROUTER,
        Slug::Cerebras => &CEREBRAS,
        Slug::HuggingFace => &HUGGINGFACE,
        Slug::Baseten => &BASETEN,
        Slug::Parallel => &PARALLEL,
        Slug::Fireworks => &FIREWORKS,
        Slug::Mistral => &MISTRAL,
        _ => &UNKNOWN,
    }
}

impl Row {
    /// Whether its answers have this quirk.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// Whether it cannot do this.
    pub fn lacks(&self, lack: Lack) -> bool {
        self.lacks.contains(&lack)
    }
}
