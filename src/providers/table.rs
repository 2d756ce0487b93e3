//! The slug table.

/// A provider as URLs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Slug {
    OpenAi,
    Anthropic,
    GoogleAiStudio,
    GoogleVertexAi,
    AzureOpenAi,
    AwsBedrock,
    WorkersAi,
    Groq,
    Grok,
    Mistral,
    Cohere,
    PerplexityAi,
    DeepSeek,
    Cerebras,
    OpenRouter,
    Replicate,
    HuggingFace,
    Cartesia,
    ElevenLabs,
    Deepgram,
    Fal,
    Ideogram,
    Baseten,
    Parallel,
    Fireworks,
    AdobeFirefly,
    Alibaba,
    MiniMax,
    /// `custom-{slug}`: its base URL is configured.
    Custom,
}

/// What is fixed about a provider.
pub(super) struct Row {
    pub name: &'static str,
    /// Empty where the path or the configuration decides.
    pub host: &'static str,
    /// Path of the root, without a trailing slash.
    pub root: &'static str,
    /// Put before a rest that names no version.
    pub version: &'static str,
}

impl Slug {
    /// Every provider of the table, [`Slug::Custom`] last.
    pub const ALL: [Self; 29] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::GoogleAiStudio,
        Self::GoogleVertexAi,
        Self::AzureOpenAi,
        Self::AwsBedrock,
        Self::WorkersAi,
        Self::Groq,
        Self::Grok,
        Self::Mistral,
        Self::Cohere,
        Self::PerplexityAi,
        Self::DeepSeek,
        Self::Cerebras,
        Self::OpenRouter,
        Self::Replicate,
        Self::HuggingFace,
        Self::Cartesia,
        Self::ElevenLabs,
        Self::Deepgram,
        Self::Fal,
        Self::Ideogram,
        Self::Baseten,
        Self::Parallel,
        Self::Fireworks,
        Self::AdobeFirefly,
        Self::Alibaba,
        Self::MiniMax,
        Self::Custom,
    ];

    /// Reads a path segment: a slug or one of the accepted aliases. Custom providers are looked up by their whole name.
    pub fn parse(segment: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|slug| *slug != Self::Custom && slug.names().any(|name| name == segment))
    }

    /// Every path segment that means this provider: its slug and its alias, if any.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let alias = match self {
            Self::Grok => Some("xai"),
            Self::GoogleAiStudio => Some("google"),
            Self::GoogleVertexAi => Some("google-vertex"),
            Self::AzureOpenAi => Some("azure"),
            Self::AwsBedrock => Some("bedrock"),
            Self::PerplexityAi => Some("perplexity"),
            _ => None,
        };
        std::iter::once(self.as_str()).chain(alias)
    }

    /// The slug as written in URLs.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    pub(super) fn row(self) -> Row {
        let (name, host, root, version) = match self {
            Self::OpenAi => ("openai", "api.openai.com", "", "/v1"),
            Self::Anthropic => ("anthropic", "api.anthropic.com", "", "/v1"),
            Self::GoogleAiStudio => (
                "google-ai-studio",
                "generativelanguage.googleapis.com",
                "",
                "/v1beta",
            ),
            Self::GoogleVertexAi => ("google-vertex-ai", "", "", ""),
            Self::AzureOpenAi => ("azure-openai", "", "", ""),
            Self::AwsBedrock => ("aws-bedrock", "", "", ""),
            Self::WorkersAi => ("workers-ai", "api.cloudflare.com", "", ""),
            Self::Groq => ("groq", "api.groq.com", "/openai", "/v1"),
            Self::Grok => ("grok", "api.x.ai", "", "/v1"),
            Self::Mistral => ("mistral", "api.mistral.ai", "", "/v1"),
            Self::Cohere => ("cohere", "api.cohere.com", "", "/v1"),
            Self::PerplexityAi => ("perplexity-ai", "api.perplexity.ai", "", ""),
            Self::DeepSeek => ("deepseek", "api.deepseek.com", "", ""),
            Self::Cerebras => ("cerebras", "api.cerebras.ai", "", "/v1"),
            Self::OpenRouter => ("openrouter", "openrouter.ai", "/api", "/v1"),
            Self::Replicate => ("replicate", "api.replicate.com", "", "/v1"),
            Self::HuggingFace => (
                "huggingface",
                "router.huggingface.co",
                "/hf-inference/models",
                "",
            ),
            Self::Cartesia => ("cartesia", "api.cartesia.ai", "", ""),
            Self::ElevenLabs => ("elevenlabs", "api.elevenlabs.io", "", ""),
            Self::Deepgram => ("deepgram", "api.deepgram.com", "", ""),
            Self::Fal => ("fal", "fal.run", "", ""),
            Self::Ideogram => ("ideogram", "api.ideogram.ai", "", ""),
            Self::Baseten => ("baseten", "inference.baseten.co", "", "/v1"),
            Self::Parallel => ("parallel", "api.parallel.ai", "", ""),
            Self::Fireworks => ("fireworks", "api.fireworks.ai", "/inference", "/v1"),
            Self::AdobeFirefly => ("adobe-firefly", "firefly-api.adobe.io", "", ""),
            Self::Alibaba => (
                "alibaba",
                "dashscope-intl.aliyuncs.com",
                "/compatible-mode",
                "/v1",
            ),
            Self::MiniMax => ("minimax", "api.minimax.io", "", "/v1"),
            Self::Custom => ("custom", "", "", ""),
        };
        Row {
            name,
            host,
            root,
            version,
        }
    }
}
