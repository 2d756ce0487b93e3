//! What a usage object counts, whatever its dialect calls it: each count in a place of its own.

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
    PromptDetailsCached,
    PromptDetailsCacheWrite,
    CompletionDetailsReasoning,
    CompletionDetailsThinking,
    InputDetailsCached,
    InputDetailsCacheWrite,
    OutputDetailsReasoning,
    OutputDetailsThinking,
    CreationShort,
    CreationLong,
    TokensInput,
    TokensOutput,
    BilledInput,
    BilledOutput,
}

const COUNTS: usize = Count::BilledOutput as usize + 1;

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
}

/// What a key of such an object leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Count(Count),
    Part(Part),
    Iterations,
}

impl Part {
    pub fn member(self, key: &[u8]) -> Option<Member> {
        use Count::*;
        let count = match self {
            Self::Usage => return usage_member(key),
            Self::PromptDetails => match key {
                b"cached_tokens" => PromptDetailsCached,
                b"cache_write_tokens" => PromptDetailsCacheWrite,
                _ => return None,
            },
            Self::InputDetails => match key {
                b"cached_tokens" => InputDetailsCached,
                b"cache_write_tokens" => InputDetailsCacheWrite,
                _ => return None,
            },
            Self::CompletionDetails => match key {
                b"reasoning_tokens" => CompletionDetailsReasoning,
                b"thinking_tokens" => CompletionDetailsThinking,
                _ => return None,
            },
            Self::OutputDetails => match key {
                b"reasoning_tokens" => OutputDetailsReasoning,
                b"thinking_tokens" => OutputDetailsThinking,
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
                _ => return None,
            },
        };
        Some(Member::Count(count))
    }

    /// A bit for each count of this object's own members.
    const fn counts(self) -> u64 {
        use Count::*;
        let (first, last) = match self {
            Self::Usage => (Prompt, ReplicateOutput),
            Self::PromptDetails => (PromptDetailsCached, PromptDetailsCacheWrite),
            Self::CompletionDetails => (CompletionDetailsReasoning, CompletionDetailsThinking),
            Self::InputDetails => (InputDetailsCached, InputDetailsCacheWrite),
            Self::OutputDetails => (OutputDetailsReasoning, OutputDetailsThinking),
            Self::CacheCreation => (CreationShort, CreationLong),
            Self::Tokens => (TokensInput, TokensOutput),
            Self::BilledUnits => (BilledInput, BilledOutput),
        };
        ((1 << (last as u64 + 1)) - 1) & !((1 << first as u64) - 1)
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
                self.values[count as usize] = value;
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
                Some(Member::Count(count)) => self.set(
                    count,
                    match value {
                        Node::Count(value) => Some(*value),
                        _ => None,
                    },
                ),
                Some(Member::Part(inner)) => {
                    self.begin(inner);
                    self.take(inner, value);
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
        ];
        let all = parts.iter().fold(0, |all, part| {
            assert_eq!(all & part.counts(), 0, "{part:?}");
            all | part.counts()
        });
        assert_eq!(all, (1 << COUNTS) - 1);
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
