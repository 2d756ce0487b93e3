//! Models that are known by name, for the list of what can be asked for. Nothing is refused for not standing here: providers have
//! more models, and new ones every week.

use super::table::Slug;

impl Slug {
    /// Whether a model that has a price can be asked for under its name through the endpoints for all providers.
    pub fn lists(self, model: &str) -> bool {
        match self {
            // A deployment has the name that its owner gave it.
            Self::AzureOpenAi => false,
            // Others' models are for its agents, and its searches for an endpoint of their own.
            Self::PerplexityAi => !model.contains('/'),
            Self::Parallel => !model.starts_with("search"),
            Self::OpenAi
            | Self::Anthropic
            | Self::GoogleAiStudio
            | Self::GoogleVertexAi
            | Self::AwsBedrock
            | Self::WorkersAi
            | Self::Groq
            | Self::Grok
            | Self::Mistral
            | Self::Cohere
            | Self::DeepSeek
            | Self::Cerebras
            | Self::OpenRouter
            | Self::HuggingFace
            | Self::Baseten
            | Self::Fireworks
            | Self::Alibaba
            | Self::MiniMax
            | Self::Custom => true,
            _ => false,
        }
    }

    /// The better-known models of the provider, under its own names.
    pub fn known_models(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &[
                "gpt-4.1",
                "gpt-4.1-mini",
                "gpt-4o",
                "gpt-4o-mini",
                "gpt-5",
                "gpt-5-mini",
                "gpt-5-nano",
                "gpt-5.1",
                "o3",
                "o4-mini",
                "text-embedding-3-large",
                "text-embedding-3-small",
            ],
            Self::Anthropic => &[
                "claude-haiku-4-5",
                "claude-opus-4-1",
                "claude-opus-4-5",
                "claude-sonnet-4-5",
            ],
            Self::GoogleAiStudio => &[
                "gemini-2.5-flash",
                "gemini-2.5-flash-lite",
                "gemini-2.5-pro",
                "gemini-3-pro-preview",
                "gemini-embedding-001",
            ],
            Self::GoogleVertexAi => &[
                "anthropic/claude-haiku-4-5@20251001",
                "anthropic/claude-sonnet-4-5@20250929",
                "google/gemini-2.5-flash",
                "google/gemini-2.5-pro",
            ],
            Self::AwsBedrock => &[
                "amazon.titan-embed-text-v2:0",
                "us.amazon.nova-lite-v1:0",
                "us.amazon.nova-micro-v1:0",
                "us.amazon.nova-pro-v1:0",
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ],
            Self::WorkersAi => &[
                "@cf/baai/bge-m3",
                "@cf/meta/llama-3.1-8b-instruct",
                "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
                "@cf/openai/gpt-oss-120b",
                "@cf/openai/gpt-oss-20b",
            ],
            Self::Groq => &[
                "llama-3.1-8b-instant",
                "llama-3.3-70b-versatile",
                "openai/gpt-oss-120b",
                "openai/gpt-oss-20b",
            ],
            Self::Grok => &["grok-3-mini", "grok-4", "grok-4-fast-reasoning"],
            Self::Mistral => &[
                "codestral-latest",
                "magistral-medium-latest",
                "mistral-embed",
                "mistral-large-latest",
                "mistral-small-latest",
            ],
            Self::Cohere => &[
                "command-a-03-2025",
                "command-r-08-2024",
                "command-r-plus-08-2024",
                "embed-v4.0",
            ],
            Self::PerplexityAi => &["sonar", "sonar-pro", "sonar-reasoning-pro"],
            Self::DeepSeek => &["deepseek-chat", "deepseek-reasoner"],
            Self::Cerebras => &["gpt-oss-120b", "llama-3.3-70b", "llama3.1-8b"],
            Self::OpenRouter => &["openrouter/auto"],
            Self::HuggingFace => &["meta-llama/Llama-3.3-70B-Instruct", "openai/gpt-oss-120b"],
            Self::Parallel => &["base", "core", "lite", "speed"],
            Self::Fireworks => &["accounts/fireworks/models/gpt-oss-120b"],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_models_are_sorted_and_can_be_asked_for() {
        for slug in Slug::ALL {
            let models = slug.known_models();
            assert!(models.is_sorted_by(|one, next| one < next), "{slug:?}");
            assert!(models.iter().all(|model| slug.lists(model)), "{slug:?}");
        }
    }
}
