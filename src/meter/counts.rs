//! What a usage object counts, whatever its dialect calls it: each count in a place of its own.

use super::cost::Money;
use super::node::Node;

/// The counts of one usage object. Of a key that stands there twice the last value counts, as in every JSON parser.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    values: [u64; COUNTS],
    /// A bit for each count that was stated.
    stated: u64,
    /// Whether a key is there, with whatever value, that the Messages dialect alone has.
    pub is_messages: bool,
    /// The counts of each of the Messages dialect's iterations.
    pub iterations: Vec<Counts>,
}

/// A count that some dialect states. Those of objects within the usage object begin with the object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Prompt,
    Completion,
    Input,
    Output,
    Total,
    PromptCacheHit,
    NumCached,
    Cached,
    Reasoning,
    CacheRead,
    CacheCreation,
    GeminiPrompt,
    GeminiCandidates,
    GeminiThoughts,
    GeminiToolUsePrompt,
    GeminiCachedContent,
    GeminiTotal,
    ConverseInput,
    InvokeInput,
    ConverseOutput,
    InvokeOutput,
    ConverseCacheRead,
    InvokeCacheRead,
    ConverseCacheWrite,
    InvokeCacheWrite,
    ConverseTotal,
    ReplicateInput,
    ReplicateOutput,
    SearchQueries,
    /// Pico-dollars.
    Cost,
    /// 1e-10 dollars.
    CostTicks,
    ConverseCacheWriteLong,
    GeminiPromptAudio,
    GeminiPromptImages,
    GeminiCachedAudio,
    GeminiOutputAudio,
    GeminiOutputImages,
    PromptDetailsCached,
    PromptDetailsCacheWrite,
    PromptDetailsAudio,
    PromptDetailsImages,
    CompletionDetailsReasoning,
    CompletionDetailsThinking,
    CompletionDetailsAudio,
    CompletionDetailsImages,
    InputDetailsCached,
    InputDetailsCacheWrite,
    InputDetailsAudio,
    InputDetailsImages,
    OutputDetailsReasoning,
    OutputDetailsThinking,
    OutputDetailsAudio,
    OutputDetailsImages,
    CreationShort,
    CreationLong,
    TokensInput,
    TokensOutput,
    BilledInput,
    BilledOutput,
    BilledSearches,
    Searches,
    /// Pico-dollars.
    TotalCost,
}

const COUNTS: usize = Count::TotalCost as usize + 1;

/// An object that counts something: the usage object itself, or one within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Usage,
    PromptDetails,
    CompletionDetails,
    InputDetails,
    OutputDetails,
    CacheCreation,
    Tokens,
    BilledUnits,
    ServerTools,
    Costs,
}

/// What a key of such an object leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Count(Count),
    Part(Part),
    /// What is a count in one dialect and an object in another.
    Either(Count, Part),
    Iterations,
    /// A list of counts by modality, of sound and of pictures.
    Modalities(Count, Option<Count>),
    /// A list of what was written to caches, by how long it stays.
    CacheDetails,
}

impl Part {
    pub fn member(self, key: &[u8]) -> Option<Member> {
        use Count::*;
        let count = match self {
            Self::Usage => return usage_member(key),
            Self::PromptDetails => match key {
                b"cached_tokens" => PromptDetailsCached,
                b"cache_write_tokens" => PromptDetailsCacheWrite,
                b"audio_tokens" => PromptDetailsAudio,
                b"image_tokens" => PromptDetailsImages,
                _ => return None,
            },
            Self::InputDetails => match key {
                b"cached_tokens" => InputDetailsCached,
                b"cache_write_tokens" => InputDetailsCacheWrite,
                b"audio_tokens" => InputDetailsAudio,
                b"image_tokens" => InputDetailsImages,
                _ => return None,
            },
            Self::CompletionDetails => match key {
                b"reasoning_tokens" => CompletionDetailsReasoning,
                b"thinking_tokens" => CompletionDetailsThinking,
                b"audio_tokens" => CompletionDetailsAudio,
                b"image_tokens" => CompletionDetailsImages,
                _ => return None,
            },
            Self::OutputDetails => match key {
                b"reasoning_tokens" => OutputDetailsReasoning,
                b"thinking_tokens" => OutputDetailsThinking,
                b"audio_tokens" => OutputDetailsAudio,
                b"image_tokens" => OutputDetailsImages,
                _ => return None,
            },
            Self::CacheCreation => match key {
                b"ephemeral_5m_input_tokens" => CreationShort,
                b"ephemeral_1h_input_tokens" => CreationLong,
                _ => return None,
            },
            Self::Tokens => match key {
                b"input_tokens" => TokensInput,
                b"output_tokens" => TokensOutput,
                _ => return None,
            },
            Self::BilledUnits => match key {
                b"input_tokens" => BilledInput,
                b"output_tokens" => BilledOutput,
                b"search_units" => BilledSearches,
                _ => return None,
            },
            Self::ServerTools => match key {
                b"web_search_requests" => Searches,
                _ => return None,
            },
            Self::Costs => match key {
                b"total_cost" => TotalCost,
                _ => return None,
            },
        };
        Some(Member::Count(count))
    }

    /// A bit for each count of this object's own members.
    const fn counts(self) -> u64 {
        use Count::*;
        let (first, last) = match self {
            Self::Usage => (Prompt, GeminiOutputImages),
            Self::PromptDetails => (PromptDetailsCached, PromptDetailsImages),
            Self::CompletionDetails => (CompletionDetailsReasoning, CompletionDetailsImages),
            Self::InputDetails => (InputDetailsCached, InputDetailsImages),
            Self::OutputDetails => (OutputDetailsReasoning, OutputDetailsImages),
            Self::CacheCreation => (CreationShort, CreationLong),
            Self::Tokens => (TokensInput, TokensOutput),
            Self::BilledUnits => (BilledInput, BilledSearches),
            Self::ServerTools => (Searches, Searches),
            Self::Costs => (TotalCost, TotalCost),
        };
        (u64::MAX >> (63 - last as u64)) & !((1 << first as u64) - 1)
    }
}

fn usage_member(key: &[u8]) -> Option<Member> {
    use Count::*;
    let count = match key {
        b"prompt_tokens" => Prompt,
        b"completion_tokens" => Completion,
        b"input_tokens" => Input,
        b"output_tokens" => Output,
        b"total_tokens" => Total,
        b"prompt_cache_hit_tokens" => PromptCacheHit,
        b"num_cached_tokens" => NumCached,
        b"cached_tokens" => Cached,
        b"reasoning_tokens" => Reasoning,
        b"cache_read_input_tokens" => CacheRead,
        b"cache_creation_input_tokens" => CacheCreation,
        b"promptTokenCount" => GeminiPrompt,
        b"candidatesTokenCount" => GeminiCandidates,
        b"thoughtsTokenCount" => GeminiThoughts,
        b"toolUsePromptTokenCount" => GeminiToolUsePrompt,
        b"cachedContentTokenCount" => GeminiCachedContent,
        b"totalTokenCount" => GeminiTotal,
        b"inputTokens" => ConverseInput,
        b"inputTokenCount" => InvokeInput,
        b"outputTokens" => ConverseOutput,
        b"outputTokenCount" => InvokeOutput,
        b"cacheReadInputTokens" => ConverseCacheRead,
        b"cacheReadInputTokenCount" => InvokeCacheRead,
        b"cacheWriteInputTokens" => ConverseCacheWrite,
        b"cacheWriteInputTokenCount" => InvokeCacheWrite,
        b"totalTokens" => ConverseTotal,
        b"input_token_count" => ReplicateInput,
        b"output_token_count" => ReplicateOutput,
        b"num_search_queries" => SearchQueries,
        b"cost" => return Some(Member::Either(Cost, Part::Costs)),
        b"cost_in_usd_ticks" => CostTicks,
        b"server_tool_use" => return Some(Member::Part(Part::ServerTools)),
        b"promptTokensDetails" => {
            return Some(Member::Modalities(
                GeminiPromptAudio,
                Some(GeminiPromptImages),
            ));
        }
        b"candidatesTokensDetails" => {
            return Some(Member::Modalities(
                GeminiOutputAudio,
                Some(GeminiOutputImages),
            ));
        }
        b"cacheTokensDetails" => return Some(Member::Modalities(GeminiCachedAudio, None)),
        b"cacheDetails" => return Some(Member::CacheDetails),
        b"prompt_tokens_details" => return Some(Member::Part(Part::PromptDetails)),
        b"completion_tokens_details" => return Some(Member::Part(Part::CompletionDetails)),
        b"input_tokens_details" => return Some(Member::Part(Part::InputDetails)),
        b"output_tokens_details" => return Some(Member::Part(Part::OutputDetails)),
        b"cache_creation" => return Some(Member::Part(Part::CacheCreation)),
        b"tokens" => return Some(Member::Part(Part::Tokens)),
        b"billed_units" => return Some(Member::Part(Part::BilledUnits)),
        b"iterations" => return Some(Member::Iterations),
        _ => return None,
    };
    Some(Member::Count(count))
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            values: [0; COUNTS],
            stated: 0,
            is_messages: false,
            iterations: Vec::new(),
        }
    }
}

impl Counts {
    /// Of a document's value; empty where that is no object.
    pub fn of(usage: &Node<'_>) -> Self {
        let mut counts = Self::default();
        counts.take(Part::Usage, usage);
        counts
    }

    #[inline]
    pub fn get(&self, count: Count) -> Option<u64> {
        let stated = self.stated >> count as u32 & 1 == 1;
        stated.then_some(self.values[count as usize])
    }

    /// The first of these that is stated.
    pub fn first(&self, counts: &[Count]) -> Option<u64> {
        counts.iter().find_map(|count| self.get(*count))
    }

    /// Takes note of a count's key and its value; `None`: it is no number that counts.
    #[inline]
    pub fn set(&mut self, count: Count, value: Option<u64>) {
        self.is_messages |= matches!(count, Count::CacheRead | Count::CacheCreation);
        let bit = 1 << count as u32;
        match value {
            Some(value) => {
                // Stated in dollars, kept in pico-dollars.
                let is_cost = matches!(count, Count::Cost | Count::TotalCost);
                let scale = if is_cost { 1_000_000_000_000 } else { 1 };
                self.values[count as usize] = value.saturating_mul(scale);
                self.stated |= bit;
            }
            None => self.stated &= !bit,
        }
    }

    /// Takes note of an object's key: what another of that name counted is void.
    #[inline]
    pub fn begin(&mut self, part: Part) {
        self.is_messages |= part == Part::CacheCreation;
        self.stated &= !part.counts();
    }

    fn take(&mut self, part: Part, node: &Node<'_>) {
        let Node::Map(members) = node else { return };
        for (key, value) in members {
            match part.member(key.as_bytes()) {
                Some(Member::Count(count)) => self.take_count(count, value),
                Some(Member::Part(inner)) => {
                    self.begin(inner);
                    self.take(inner, value);
                }
                Some(Member::Either(count, inner)) => {
                    self.take_count(count, value);
                    self.begin(inner);
                    self.take(inner, value);
                }
                Some(Member::Modalities(audio, images)) => {
                    let sum = |name| {
                        let list = value.items().iter();
                        let of_name = list.filter(|one| one.text(&["modality"]) == Some(name));
                        of_name
                            .filter_map(|one| one.count(&["tokenCount"]))
                            .reduce(u64::saturating_add)
                    };
                    self.set(audio, sum("AUDIO"));
                    if let Some(images) = images {
                        self.set(images, sum("IMAGE"));
                    }
                }
                Some(Member::CacheDetails) => {
                    let list = value.items().iter();
                    let long = list.filter(|one| one.text(&["ttl"]) == Some("1h"));
                    let counts = long.filter_map(|one| one.count(&["inputTokens"]));
                    let long = counts.reduce(u64::saturating_add);
                    self.set(Count::ConverseCacheWriteLong, long);
                }
                Some(Member::Iterations) => {
                    self.is_messages = true;
                    self.iterations = match value {
                        Node::List(list) => list.iter().map(Self::of).collect(),
                        _ => Vec::new(),
                    };
                }
                None => {}
            }
        }
    }

    fn take_count(&mut self, count: Count, value: &Node<'_>) {
        match value {
            Node::Fraction(dollars) if matches!(count, Count::Cost | Count::TotalCost) => {
                let pico = Money::of_dollars(*dollars).map(|money| money.0);
                self.set(count, Some(0));
                self.values[count as usize] =
                    pico.map_or(0, |pico| u64::try_from(pico).unwrap_or(u64::MAX));
            }
            value => self.set(count, value.as_count()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::known;
    use super::*;

    #[test]
    fn every_part_has_counts_of_its_own() {
        let parts = [
            Part::Usage,
            Part::PromptDetails,
            Part::CompletionDetails,
            Part::InputDetails,
            Part::OutputDetails,
            Part::CacheCreation,
            Part::Tokens,
            Part::BilledUnits,
            Part::ServerTools,
            Part::Costs,
        ];
        let all = parts.iter().fold(0, |all, part| {
            assert_eq!(all & part.counts(), 0, "{part:?}");
            all | part.counts()
        });
        assert_eq!(all, u64::MAX >> (64 - COUNTS));
        for key in ["cached_tokens", "input_tokens", "reasoning_tokens"] {
            assert!(known(key.as_bytes()).is_some());
            for part in parts {
                if let Some(Member::Count(count)) = part.member(key.as_bytes()) {
                    assert_eq!(part.counts() >> count as u32 & 1, 1, "{part:?} {key}");
                }
            }
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let read = |json: &str| Counts::of(&Node::read(json.as_bytes()).expect("valid"));
        let counts = read(
            r#"{"prompt_tokens":1,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":2},"prompt_tokens":3,
            "prompt_tokens_details":{"cache_write_tokens":5},"total_tokens":null}"#,
        );
        assert_eq!(counts.get(Count::Prompt), Some(3));
        assert_eq!(counts.get(Count::Total), None);
        assert_eq!(counts.get(Count::PromptDetailsCached), None);
        assert_eq!(counts.get(Count::PromptDetailsCacheWrite), Some(5));
        assert!(!counts.is_messages && read(r#"{"cache_creation":null}"#).is_messages);
        assert!(read("[]").first(&[Count::Prompt, Count::Input]).is_none());
    }
}
