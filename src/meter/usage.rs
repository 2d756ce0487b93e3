//! Token counts in one canon (spec: providers 1.8), read from the shape that any dialect gives them (providers 17).

use super::cost::{Extras, Money};
use super::counts::{Count, Counts};
use super::node::Node;
use super::{plain, search};

/// Tokens of one answer. `input` includes what was cached or written to a cache, `output` includes reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All tokens of the prompt.
    pub input: u64,
    /// All generated tokens.
    pub output: u64,
    /// Prompt tokens read from a cache; at most `input`.
    pub cached_input: u64,
    /// Prompt tokens written to a cache; with `cached_input` at most `input`.
    pub cache_write: u64,
    /// Generated tokens that were reasoning; at most `output`.
    pub reasoning: u64,
    /// What the provider states, and never less than `input` and `output`.
    pub total: u64,
}

impl Usage {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            total: self.total.saturating_add(other.total),
        }
    }
}

/// What the events or the body of one answer said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    usage: Option<Usage>,
    /// Belongs to `usage`.
    extras: Extras,
    /// Searches that no usage object counts.
    searches: u64,
    /// Messages dialect: its stream states the counts in parts.
    messages: Messages,
    /// The platform's own figures, which count where the vendor gave none.
    platform: Option<Usage>,
    model: Option<String>,
}

impl Reading {
    /// Takes note of one document: an event's data, or a body.
    pub fn observe(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        match Node::read(json)? {
            // A stream of Gemini that was not asked for as events is one list of answers.
            Node::List(answers) => answers.iter().for_each(|answer| self.note(answer)),
            answer => self.note(&answer),
        }
        self.searches = self.searches.max(search::count(json));
        Ok(())
    }

    /// Takes note of a body by the short way; false where that is not sure.
    pub fn take(&mut self, body: &[u8]) -> bool {
        let mut counts = Counts::default();
        let model = plain::read(body, &mut counts);
        let (Some(model), Some(usage)) = (model, from_counts(&counts)) else {
            return false;
        };
        self.usage = Some(usage);
        self.extras = extras(&counts);
        self.set_model(model);
        true
    }

    /// Takes note of a usage object that was found apart from its document.
    pub fn observe_counts(&mut self, counts: &Node<'_>) {
        let counts = Counts::of(counts);
        if let Some(usage) = from_counts(&counts) {
            self.usage = Some(usage);
            self.extras = extras(&counts);
        }
    }

    /// Whether a model was named.
    pub fn has_model(&self) -> bool {
        self.model.is_some()
    }

    /// Takes a model's name that was found apart from its document.
    pub fn set_model(&mut self, name: &str) {
        self.model = Some(name.to_owned());
    }

    /// The counts stated up to here.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.or(self.platform)
    }

    /// What came of it all.
    pub fn finish(self) -> (Option<Usage>, Extras, Option<String>) {
        let extras = Extras {
            searches: self.extras.searches.max(self.searches),
            ..self.extras
        };
        (self.usage(), extras, self.model)
    }

    fn note(&mut self, answer: &Node<'_>) {
        let name = MODELS.iter().find_map(|path| answer.text(path));
        if let Some(name) = name.filter(|name| self.model.as_deref() != Some(name)) {
            self.set_model(name);
        }
        let part = match answer.text(&["type"]) {
            Some("message_start") => answer.at(&["message", "usage"]),
            Some("message_delta") => answer.get("usage"),
            _ => None,
        };
        if let Some(part) = part {
            self.messages.overlay(Messages::read(&Counts::of(part)));
            if let Some(usage) = self.messages.usage() {
                self.usage = Some(usage);
                self.extras = self.messages.extras();
            }
        } else if let Some((usage, extras)) = find(answer) {
            self.usage = Some(usage);
            self.extras = extras;
        }
        let platform = answer.get("amazon-bedrock-invocationMetrics");
        self.platform = platform
            .and_then(|counts| converse(&Counts::of(counts)))
            .or(self.platform);
    }
}

/// Where dialects name the model that answered.
const MODELS: [&[&str]; 5] = [
    &["model"],
    &["modelVersion"],
    &["response", "model"],
    &["message", "model"],
    &["result", "model"],
];

/// Where dialects put the object with the counts; the first that has some is taken.
const PLACES: [&[&str]; 11] = [
    &["usageMetadata"],
    &["response", "usage"],
    &["usage"],
    &["x_groq", "usage"],
    &["result", "usage"],
    &["delta", "usage"],
    &["metadata", "usage"],
    &["meta"],
    &["response", "meta"],
    &["message", "usage"],
    &["metrics"],
];

fn find(answer: &Node<'_>) -> Option<(Usage, Extras)> {
    let stated = PLACES.iter().find_map(|path| {
        let counts = Counts::of(answer.at(path)?);
        Some((from_counts(&counts)?, extras(&counts)))
    });
    stated.or_else(|| Some((embedded(answer)?, Extras::default())))
}

/// What changes the cost beside the counts themselves.
fn extras(counts: &Counts) -> Extras {
    use Count::*;
    if counts.is_messages {
        return Messages::read(counts).extras();
    }
    let first = |places: &[Count]| counts.first(places).unwrap_or(0);
    let cached_audio = first(&[GeminiCachedAudio]);
    let billed = counts.get(BilledInput).or(counts.get(BilledOutput));
    let ticks = counts.get(CostTicks).map(|ticks| ticks.saturating_mul(100));
    let cost = counts.first(&[Cost, TotalCost]).or(ticks);
    Extras {
        cache_write_long: first(&[CreationLong, ConverseCacheWriteLong]),
        audio_input: first(&[PromptDetailsAudio, InputDetailsAudio, GeminiPromptAudio])
            .saturating_sub(cached_audio),
        audio_output: first(&[
            CompletionDetailsAudio,
            OutputDetailsAudio,
            GeminiOutputAudio,
        ]),
        image_input: first(&[PromptDetailsImages, InputDetailsImages, GeminiPromptImages]),
        image_output: first(&[
            CompletionDetailsImages,
            OutputDetailsImages,
            GeminiOutputImages,
        ]),
        searches: first(&[Searches, BilledSearches, SearchQueries]),
        billed: billed.map(|_| (first(&[BilledInput]), first(&[BilledOutput]))),
        stated: cost.map(|pico| Money(pico.into())),
    }
}

/// Embeddings of Titan and of Vertex state their input only.
fn embedded(answer: &Node<'_>) -> Option<Usage> {
    let titan = answer.count(&["inputTextTokenCount"]);
    let counts = answer.list("predictions").iter();
    let vertex = counts
        .filter_map(|one| one.count(&["embeddings", "statistics", "token_count"]))
        .reduce(u64::saturating_add);
    let input = titan.or(vertex)?;
    Some(Usage::canonical(Canon {
        input,
        ..Canon::default()
    }))
}

/// Tells the dialect by its keys.
fn from_counts(counts: &Counts) -> Option<Usage> {
    gemini(counts)
        .or_else(|| converse(counts))
        .or_else(|| chat(counts))
        .or_else(|| input_output(counts))
        .or_else(|| cohere(counts))
        .or_else(|| replicate(counts))
}

/// Thoughts and the prompts of tool use are counted apart.
fn gemini(counts: &Counts) -> Option<Usage> {
    let (prompt, candidates) = (
        counts.get(Count::GeminiPrompt),
        counts.get(Count::GeminiCandidates),
    );
    prompt.or(candidates)?;
    let thoughts = counts.get(Count::GeminiThoughts).unwrap_or(0);
    Some(Usage::canonical(Canon {
        input: add(prompt, counts.get(Count::GeminiToolUsePrompt)),
        output: add(candidates, Some(thoughts)),
        cached_input: counts.get(Count::GeminiCachedContent).unwrap_or(0),
        reasoning: thoughts,
        total: counts.get(Count::GeminiTotal),
        ..Canon::default()
    }))
}

/// Input without what was read from or written to a cache. InvokeModel's metrics, and Nova's own shape, say `Count`.
fn converse(counts: &Counts) -> Option<Usage> {
    use Count::*;
    let input = counts.first(&[ConverseInput, InvokeInput]);
    let output = counts.first(&[ConverseOutput, InvokeOutput]);
    input.or(output)?;
    let read = counts.first(&[ConverseCacheRead, InvokeCacheRead]);
    let write = counts.first(&[ConverseCacheWrite, InvokeCacheWrite]);
    Some(Usage::canonical(Canon {
        input: add(Some(add(input, read)), write),
        output: output.unwrap_or(0),
        cached_input: read.unwrap_or(0),
        cache_write: write.unwrap_or(0),
        total: counts.get(ConverseTotal),
        ..Canon::default()
    }))
}

/// Chat completions, completions and embeddings of OpenAI and of all who follow it.
fn chat(counts: &Counts) -> Option<Usage> {
    use Count::*;
    let (prompt, completion) = (counts.get(Prompt), counts.get(Completion));
    prompt.or(completion)?;
    let details = Details {
        cached: counts.get(PromptDetailsCached),
        written: counts.get(PromptDetailsCacheWrite),
        reasoning: counts.first(&[CompletionDetailsReasoning, CompletionDetailsThinking]),
    };
    Some(openai(counts, prompt, completion, details))
}

/// Responses, images and transcriptions of OpenAI, or Messages.
fn input_output(counts: &Counts) -> Option<Usage> {
    use Count::*;
    let (input, output) = (counts.get(Input), counts.get(Output));
    input.or(output)?;
    if counts.is_messages {
        return Messages::read(counts).usage();
    }
    let details = Details {
        cached: counts.get(InputDetailsCached),
        written: counts.get(InputDetailsCacheWrite),
        reasoning: counts.first(&[OutputDetailsReasoning, OutputDetailsThinking]),
    };
    Some(openai(counts, input, output, details))
}

/// What OpenAI states in objects of their own.
struct Details {
    cached: Option<u64>,
    written: Option<u64>,
    reasoning: Option<u64>,
}

fn openai(counts: &Counts, input: Option<u64>, output: Option<u64>, details: Details) -> Usage {
    use Count::*;
    let cached = details
        .cached
        .or_else(|| counts.first(&[PromptCacheHit, NumCached, Cached]));
    let reasoning = details.reasoning.or(counts.get(Reasoning)).unwrap_or(0);
    let (total, mut output) = (counts.get(Total), output.unwrap_or(0));
    // xAI counts reasoning apart; only the total tells.
    let with_reasoning = output.saturating_add(reasoning);
    if reasoning > 0 && total == Some(add(input, Some(with_reasoning))) {
        output = with_reasoning;
    }
    Usage::canonical(Canon {
        input: input.unwrap_or(0),
        output,
        cached_input: cached.unwrap_or(0),
        cache_write: details.written.unwrap_or(0),
        reasoning,
        total,
    })
}

/// `tokens` are all, `billed_units` what is charged; embeddings and reranking state the latter only.
fn cohere(counts: &Counts) -> Option<Usage> {
    use Count::*;
    let places = [(TokensInput, TokensOutput), (BilledInput, BilledOutput)];
    let (input, output) = places.iter().find_map(|(input, output)| {
        let (input, output) = (counts.get(*input), counts.get(*output));
        input.or(output).map(|_| (input, output))
    })?;
    Some(Usage::canonical(Canon {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        cached_input: counts.get(Cached).unwrap_or(0),
        ..Canon::default()
    }))
}

fn replicate(counts: &Counts) -> Option<Usage> {
    let (input, output) = (
        counts.get(Count::ReplicateInput),
        counts.get(Count::ReplicateOutput),
    );
    input.or(output)?;
    Some(Usage::canonical(Canon {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        ..Canon::default()
    }))
}

/// Counts of the Messages dialect: input without caches, and each part may come later than the others.
#[derive(Debug, Clone, Copy, Default)]
struct Messages {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
    /// Of `cache_write`: for an hour.
    long: Option<u64>,
    searches: Option<u64>,
}

impl Messages {
    fn read(counts: &Counts) -> Self {
        let stated = Self::read_one(counts);
        let iterations = counts.iterations.iter().map(Self::read_one);
        // The top level leaves out some iterations, those of another model for one; all are charged.
        match iterations.reduce(Self::plus) {
            Some(sum) if sum.all() >= stated.all() => Self {
                thinking: stated.thinking.or(sum.thinking),
                long: sum.long.or(stated.long),
                searches: stated.searches.or(sum.searches),
                ..sum
            },
            _ => stated,
        }
    }

    fn read_one(counts: &Counts) -> Self {
        use Count::*;
        let (short, long) = (counts.get(CreationShort), counts.get(CreationLong));
        let split = short.or(long).map(|_| add(short, long));
        Self {
            input: counts.get(Input),
            cache_read: counts.get(CacheRead),
            cache_write: counts.get(CacheCreation).or(split),
            output: counts.get(Output),
            thinking: counts.get(OutputDetailsThinking),
            long: counts.get(CreationLong),
            searches: counts.get(Searches),
        }
    }

    fn plus(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| add(a, b));
        Self {
            input: sum(self.input, other.input),
            cache_read: sum(self.cache_read, other.cache_read),
            cache_write: sum(self.cache_write, other.cache_write),
            output: sum(self.output, other.output),
            thinking: sum(self.thinking, other.thinking),
            long: sum(self.long, other.long),
            searches: sum(self.searches, other.searches),
        }
    }

    /// Later counts replace earlier ones, in both directions; they are cumulative.
    fn overlay(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.output = later.output.or(self.output);
        self.thinking = later.thinking.or(self.thinking);
        self.long = later.long.or(self.long);
        self.searches = later.searches.or(self.searches);
    }

    fn extras(&self) -> Extras {
        Extras {
            cache_write_long: self.long.unwrap_or(0),
            searches: self.searches.unwrap_or(0),
            ..Extras::default()
        }
    }

    fn prompt(&self) -> u64 {
        add(Some(add(self.input, self.cache_read)), self.cache_write)
    }

    fn all(&self) -> u64 {
        add(Some(self.prompt()), self.output)
    }

    fn usage(&self) -> Option<Usage> {
        self.input.or(self.output)?;
        Some(Usage::canonical(Canon {
            input: self.prompt(),
            output: self.output.unwrap_or(0),
            cached_input: self.cache_read.unwrap_or(0),
            cache_write: self.cache_write.unwrap_or(0),
            reasoning: self.thinking.unwrap_or(0),
            total: None,
        }))
    }
}

/// Counts brought to one meaning, before their invariants are seen to.
#[derive(Default)]
struct Canon {
    input: u64,
    output: u64,
    cached_input: u64,
    cache_write: u64,
    reasoning: u64,
    total: Option<u64>,
}

impl Usage {
    /// Parts never exceed their whole, whatever a provider writes: a price made from them must not turn negative.
    fn canonical(counts: Canon) -> Self {
        let cached_input = counts.cached_input.min(counts.input);
        let sum = counts.input.saturating_add(counts.output);
        Self {
            input: counts.input,
            output: counts.output,
            cached_input,
            cache_write: counts.cache_write.min(counts.input - cached_input),
            reasoning: counts.reasoning.min(counts.output),
            total: counts.total.map_or(sum, |total| total.max(sum)),
        }
    }
}

fn add(a: Option<u64>, b: Option<u64>) -> u64 {
    a.unwrap_or(0).saturating_add(b.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(documents: &[&str]) -> Option<Usage> {
        let mut reading = Reading::default();
        for document in documents {
            reading.observe(document.as_bytes()).expect("valid JSON");
        }
        reading.finish().0
    }

    /// input, output, cached, written, reasoning, total
    fn usage(counts: [u64; 6]) -> Option<Usage> {
        let [input, output, cached_input, cache_write, reasoning, total] = counts;
        Some(Usage {
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            total,
        })
    }

    #[test]
    fn the_vectors_of_the_canon() {
        let gemini = r#"{"usageMetadata":{"promptTokenCount":29,"candidatesTokenCount":10,"totalTokenCount":241,"thoughtsTokenCount":202}}"#;
        assert_eq!(read(&[gemini]), usage([29, 212, 0, 0, 202, 241]));
        let start = r#"{"type":"message_start","message":{"model":"c","usage":{"input_tokens":2,"cache_creation_input_tokens":1590,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":1590,"ephemeral_1h_input_tokens":0},"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#;
        assert_eq!(read(&[start, delta]), usage([1592, 4, 0, 1590, 0, 1596]));
        let bedrock = r#"{"usage":{"inputTokens":2,"outputTokens":5,"totalTokens":1329,"cacheReadInputTokens":1322,"cacheWriteInputTokens":0,"cacheReadInputTokenCount":1322}}"#;
        assert_eq!(read(&[bedrock]), usage([1324, 5, 1322, 0, 0, 1329]));
        let xai = r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}}"#;
        assert_eq!(read(&[xai]), usage([10, 105, 0, 0, 100, 115]));
    }

    #[test]
    fn every_shape_is_told_by_its_keys() {
        let cases: [(&str, [u64; 6]); 22] = [
            (
                r#"{"usage":{"prompt_tokens":129,"completion_tokens":83,"total_tokens":212,"prompt_tokens_details":{"cached_tokens":100,"cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":64}}}"#,
                [129, 83, 100, 9, 64, 212],
            ),
            (
                r#"{"usage":{"prompt_tokens":4,"total_tokens":4}}"#,
                [4, 0, 0, 0, 0, 4],
            ),
            (
                r#"{"usage":{"input_tokens":440,"input_tokens_details":{"cached_tokens":384,"cache_write_tokens":2},"output_tokens":14,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":454}}"#,
                [440, 14, 384, 2, 3, 454],
            ),
            (
                r#"{"type":"response.completed","response":{"usage":{"input_tokens":600,"output_tokens":47,"total_tokens":647}}}"#,
                [600, 47, 0, 0, 0, 647],
            ),
            (
                r#"{"usage":{"prompt_tokens":875,"completion_tokens":79,"total_tokens":954,"prompt_cache_hit_tokens":800}}"#,
                [875, 79, 800, 0, 0, 954],
            ),
            (
                r#"{"usage":{"prompt_tokens":64,"completion_tokens":6,"total_tokens":70,"num_cached_tokens":32}}"#,
                [64, 6, 32, 0, 0, 70],
            ),
            (
                r#"{"usage":{"input_tokens":3,"output_tokens":44,"cache_creation_input_tokens":1956,"cache_read_input_tokens":9511}}"#,
                [11470, 44, 9511, 1956, 0, 11514],
            ),
            (
                r#"{"usage":{"input_tokens":3,"output_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":6},"output_tokens_details":{"thinking_tokens":2}}}"#,
                [14, 4, 0, 11, 2, 18],
            ),
            (
                r#"{"usage":{"input_tokens":2390,"output_tokens":121,"cache_read_input_tokens":0,"output_tokens_details":{"thinking_tokens":28},"iterations":[{"input_tokens":1128,"output_tokens":110},{"input_tokens":2518,"output_tokens":22},{"input_tokens":1262,"output_tokens":11}]}}"#,
                [4908, 143, 0, 0, 28, 5051],
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":13,"candidatesTokenCount":194,"toolUsePromptTokenCount":289,"totalTokenCount":496,"cachedContentTokenCount":5}}"#,
                [302, 194, 5, 0, 0, 496],
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":15,"thoughtsTokenCount":2,"totalTokenCount":17}}"#,
                [15, 2, 0, 0, 2, 17],
            ),
            (
                r#"[{"usageMetadata":{"promptTokenCount":1}},{"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":3}}]"#,
                [2, 3, 0, 0, 0, 5],
            ),
            (
                r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":304,"completion_tokens":49,"total_tokens":353}}}"#,
                [304, 49, 0, 0, 0, 353],
            ),
            (
                r#"{"result":{"response":"hi","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}},"success":true}"#,
                [3, 4, 0, 0, 0, 7],
            ),
            (
                r#"{"usage":{"billed_units":{"input_tokens":2406,"output_tokens":2},"tokens":{"input_tokens":2935.0,"output_tokens":4.0},"cached_tokens":2928}}"#,
                [2935, 4, 2928, 0, 0, 2939],
            ),
            (
                r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":7,"output_tokens":8}}}}"#,
                [7, 8, 0, 0, 0, 15],
            ),
            (
                r#"{"event_type":"stream-end","response":{"meta":{"billed_units":{"input_tokens":5,"output_tokens":6},"tokens":{"input_tokens":70,"output_tokens":6}}}}"#,
                [70, 6, 0, 0, 0, 76],
            ),
            (
                r#"{"embeddings":{"float":[[0.5]]},"meta":{"billed_units":{"input_tokens":9}}}"#,
                [9, 0, 0, 0, 0, 9],
            ),
            (
                r#"{"metadata":{"usage":{"inputTokens":3,"outputTokens":4,"cacheReadInputTokenCount":2}}}"#,
                [5, 4, 2, 0, 0, 9],
            ),
            (
                r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":3,"outputTokenCount":44,"cacheReadInputTokenCount":9,"cacheWriteInputTokenCount":1}}"#,
                [13, 44, 9, 1, 0, 57],
            ),
            (
                r#"{"embedding":[0.1],"inputTextTokenCount":6}"#,
                [6, 0, 0, 0, 0, 6],
            ),
            (
                r#"{"predictions":[{"embeddings":{"values":[0.1],"statistics":{"token_count":4.0}}},{"embeddings":{"statistics":{"token_count":5}}}]}"#,
                [9, 0, 0, 0, 0, 9],
            ),
        ];
        for (document, expected) in cases {
            assert_eq!(read(&[document]), usage(expected), "{document}");
        }
    }

    #[test]
    fn what_changes_the_cost_is_read_beside_the_counts() {
        let none = Extras::default();
        let cases = [
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"prompt_tokens_details":{"audio_tokens":3,"image_tokens":2},"completion_tokens_details":{"audio_tokens":4}}}"#,
                Extras {
                    audio_input: 3,
                    image_input: 2,
                    audio_output: 4,
                    ..none
                },
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"cost":0.0000315,"is_byok":false}}"#,
                Extras {
                    stated: Some(Money(31_500_000)),
                    ..none
                },
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"num_search_queries":2,"cost":{"input_tokens_cost":0.1,"total_cost":0.25}}}"#,
                Extras {
                    searches: 2,
                    stated: Some(Money(250_000_000_000)),
                    ..none
                },
            ),
            (
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"cost_in_usd_ticks":37756000}}"#,
                Extras {
                    stated: Some(Money(3_775_600_000)),
                    ..none
                },
            ),
            (
                r#"{"usage":{"input_tokens":3,"output_tokens":4,"cache_creation_input_tokens":11,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":6},"server_tool_use":{"web_search_requests":3}}}"#,
                Extras {
                    cache_write_long: 6,
                    searches: 3,
                    ..none
                },
            ),
            (
                r#"{"usage":{"inputTokens":2,"outputTokens":5,"cacheWriteInputTokens":9,"cacheDetails":[{"ttl":"5m","inputTokens":2},{"ttl":"1h","inputTokens":7}]}}"#,
                Extras {
                    cache_write_long: 7,
                    ..none
                },
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":50,"candidatesTokenCount":9,"cachedContentTokenCount":10,"promptTokensDetails":[{"modality":"TEXT","tokenCount":10},{"modality":"AUDIO","tokenCount":30},{"modality":"IMAGE","tokenCount":10}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":10}],"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":8}]}}"#,
                Extras {
                    audio_input: 20,
                    image_input: 10,
                    image_output: 8,
                    ..none
                },
            ),
            (
                r#"{"usage":{"billed_units":{"input_tokens":33.0,"output_tokens":22},"tokens":{"input_tokens":1452,"output_tokens":33}}}"#,
                Extras {
                    billed: Some((33, 22)),
                    ..none
                },
            ),
        ];
        for (document, expected) in cases {
            let mut reading = Reading::default();
            reading.observe(document.as_bytes()).expect("valid JSON");
            assert_eq!(reading.finish().1, expected, "{document}");
        }
    }

    #[test]
    fn long_writes_and_searches_follow_their_stream() {
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":7},"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","usage":{"output_tokens":4,"server_tool_use":{"web_search_requests":2}}}"#;
        let mut reading = Reading::default();
        for document in [start, delta] {
            reading.observe(document.as_bytes()).expect("valid JSON");
        }
        let extras = reading.finish().1;
        assert_eq!((extras.cache_write_long, extras.searches), (7, 2));
    }

    #[test]
    fn what_counts_nothing_is_no_usage() {
        let cases = [
            r#"{"usage":null}"#,
            r#"{"usage":{"type":"duration","seconds":5}}"#,
            r#"{"usage":"none","message":"text","response":"text","result":7}"#,
            r#"{"input_tokens":671}"#,
            r#"{"totalTokens":12}"#,
            r#"{"choices":[{"message":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}]}"#,
            r#"{"metrics":{"latencyMs":3}}"#,
            r#""usage""#,
            "[]",
        ];
        for document in cases {
            assert_eq!(read(&[document]), None, "{document}");
        }
    }

    #[test]
    fn later_counts_replace_earlier_ones_in_both_directions() {
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":34824,"cache_read_input_tokens":0,"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","usage":{"input_tokens":3883,"cache_read_input_tokens":30464,"output_tokens":9,"cache_creation_input_tokens":null}}"#;
        assert_eq!(read(&[start, delta]), usage([34347, 9, 30464, 0, 0, 34356]));
        let first = r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}"#;
        let last = r#"{"usage":{"prompt_tokens":8,"completion_tokens":7,"total_tokens":15}}"#;
        assert_eq!(
            read(&[first, last, r#"{"usage":null}"#]),
            usage([8, 7, 0, 0, 0, 15])
        );
    }

    #[test]
    fn the_vendors_figures_win_over_the_platforms() {
        let vendor =
            r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":4}}}"#;
        let platform = r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":1,"outputTokenCount":1}}"#;
        assert_eq!(read(&[vendor, platform]), usage([3, 4, 0, 0, 0, 7]));
    }

    #[test]
    fn the_last_named_model_is_kept() {
        let mut reading = Reading::default();
        for document in [
            r#"{"model":"","choices":[]}"#,
            r#"{"model":"a"}"#,
            r#"{"type":"message_start","message":{"model":"b"}}"#,
            r#"{"modelVersion":"c","model":7}"#,
            "{}",
        ] {
            reading.observe(document.as_bytes()).expect("valid JSON");
        }
        assert_eq!(reading.finish().2.as_deref(), Some("c"));
    }

    proptest! {
        #[test]
        fn parts_never_exceed_their_whole(counts in proptest::collection::vec(any::<u64>(), 6), shape in 0..4usize) {
            let [a, b, c, d, e, f] = counts[..] else { unreachable!("six counts") };
            let document = match shape {
                0 => format!(r#"{{"usage":{{"prompt_tokens":{a},"completion_tokens":{b},"total_tokens":{c},"prompt_tokens_details":{{"cached_tokens":{d},"cache_write_tokens":{e}}},"reasoning_tokens":{f}}}}}"#),
                1 => format!(r#"{{"usage":{{"input_tokens":{a},"output_tokens":{b},"cache_read_input_tokens":{c},"cache_creation_input_tokens":{d}}}}}"#),
                2 => format!(r#"{{"usage":{{"inputTokens":{a},"outputTokens":{b},"totalTokens":{c},"cacheReadInputTokens":{d},"cacheWriteInputTokens":{e}}}}}"#),
                _ => format!(r#"{{"usageMetadata":{{"promptTokenCount":{a},"candidatesTokenCount":{b},"totalTokenCount":{c},"thoughtsTokenCount":{d},"cachedContentTokenCount":{e},"toolUsePromptTokenCount":{f}}}}}"#),
            };
            let usage = read(&[&document]).expect("counts");
            prop_assert!(usage.cached_input.saturating_add(usage.cache_write) <= usage.input);
            prop_assert!(usage.reasoning <= usage.output);
            prop_assert!(usage.total >= usage.input.saturating_add(usage.output));
        }
    }
}
