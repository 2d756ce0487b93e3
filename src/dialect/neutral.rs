//! The neutral form: what a conversation, an answer and a stream say in every dialect. It keeps what only one side knows
//! (thoughts and their signatures, cache marks, tool-call ids, citations), so that a turn goes out through one dialect and comes
//! back through another without a loss that either could have avoided.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Dialect;
use super::failure::Failure;
use crate::meter::Usage;

/// What a client asks of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The dialect it was written in.
    pub from: Dialect,
    /// The upstream's name of the model, without the provider's prefix.
    pub model: String,
    /// System text that stands before all turns. Later system text is a [`Turn`] of its own.
    pub system: Vec<Part>,
    /// The conversation, as the client divided it; see [`merge_turns`].
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, must or must not.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one turn.
    pub parallel_tool_calls: Option<bool>,
    /// Upper bound of generated tokens, thoughts included.
    pub max_tokens: Option<u64>,
    /// 0 to 2 in chat, 0 to 1 in messages; as the client wrote it.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Sampling among the k likeliest.
    pub top_k: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Makes sampling repeatable, where the provider can.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// How many answers are wanted (`n`).
    pub choices: Option<u64>,
    /// Log probabilities are wanted, with so many alternatives for each token.
    pub logprobs: Option<u64>,
    /// What the answer's text must look like.
    pub format: Option<Format>,
    /// How much the model should think.
    pub reasoning: Option<Reasoning>,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// Whether the client wants the usage in the stream (chat only; the other dialects always state it).
    pub include_usage: bool,
    /// The end user's pseudonym (`user`, `safety_identifier`, `metadata.user_id`).
    pub user: Option<String>,
    /// The client's word for it, in its own dialect.
    pub service_tier: Option<String>,
    /// Pairs that the client attaches for its own use.
    pub metadata: Map<String, Value>,
    /// Top-level fields that have no place above, under the client's names. What a provider's dialect does not know of these is
    /// dropped and reported.
    pub extra: Map<String, Value>,
}

impl Request {
    /// A request that says nothing yet.
    pub fn new(from: Dialect, model: impl Into<String>) -> Self {
        Self {
            from,
            model: model.into(),
            system: Vec::new(),
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            stop: Vec::new(),
            seed: None,
            presence_penalty: None,
            frequency_penalty: None,
            choices: None,
            logprobs: None,
            format: None,
            reasoning: None,
            stream: false,
            include_usage: false,
            user: None,
            service_tier: None,
            metadata: Map::new(),
            extra: Map::new(),
        }
    }

    /// Every part of the conversation, those inside tool results too.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        let turns = self.turns.iter_mut().flat_map(|turn| &mut turn.parts);
        self.system
            .iter_mut()
            .chain(turns)
            .flat_map(Part::and_inner)
    }
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order. Results of tools stand in turns of the user.
    pub parts: Vec<Part>,
    /// A participant's name (chat).
    pub name: Option<String>,
}

impl Turn {
    /// A turn of an unnamed speaker.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self {
            role,
            parts,
            name: None,
        }
    }
}

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The operator, in the middle of a conversation (`system`, `developer`).
    System,
    /// The user, and the tools that answer calls.
    User,
    /// The model.
    Assistant,
}

/// A piece of a turn or of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// A prompt cache may end here.
    pub cache: Option<CacheMark>,
}

impl Part {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        PartKind::Text {
            text: text.into(),
            citations: Vec::new(),
            signature: None,
        }
        .into()
    }

    /// The text, if it is nothing else.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            PartKind::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The part itself, or what a tool's result consists of.
    fn and_inner(&mut self) -> Box<dyn Iterator<Item = &mut Part> + '_> {
        match self {
            Self {
                kind: PartKind::ToolResult { content, .. },
                ..
            } => Box::new(content.iter_mut()),
            part => Box::new(std::iter::once(part)),
        }
    }
}

impl From<PartKind> for Part {
    fn from(kind: PartKind) -> Self {
        Self { kind, cache: None }
    }
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartKind {
    /// Text for the other side.
    Text {
        /// Itself.
        text: String,
        /// Where its statements come from.
        citations: Vec<Citation>,
        /// Gemini signs the text that ends its thinking.
        signature: Option<Signature>,
    },
    /// Why the model does not answer.
    Refusal(String),
    /// A picture.
    Image {
        /// Itself.
        media: Media,
        /// `auto`, `low`, `high`, `original`.
        detail: Option<String>,
    },
    /// Sound.
    Audio(Media),
    /// A film.
    Video(Media),
    /// A file to read.
    Document {
        /// Itself.
        media: Media,
        /// Its name or title.
        name: Option<String>,
    },
    /// The model's thoughts.
    Thinking {
        /// What can be read of them; may be empty.
        text: String,
        /// What proves them to their provider.
        signature: Option<Signature>,
    },
    /// Thoughts that only their provider can read.
    Redacted(Signature),
    /// A call of a tool.
    ToolUse(ToolUse),
    /// What a tool answered.
    ToolResult {
        /// Of which call.
        id: String,
        /// Text, pictures and documents.
        content: Vec<Part>,
        /// The tool failed.
        is_error: bool,
    },
    /// A block that only the dialect knows in which it came, whole. Others leave it out and report it.
    Foreign(Value),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolUse {
    /// Its id, made by the provider or, where that makes none, by the reader. Unbounded in length and form: writers rewrite what
    /// their provider refuses with [`super::ids::fit`].
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text of an object for functions (`{}` where there are none), free text for custom tools.
    pub arguments: String,
    /// The tool is a custom one, that takes free text.
    pub custom: bool,
    /// Gemini signs its first call of a turn.
    pub signature: Option<Signature>,
}

/// An opaque proof that a provider wants back unchanged. It means nothing to another provider and is never sent to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is.
    pub origin: Origin,
    /// Its bytes as text.
    pub data: String,
}

/// Who made a [`Signature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Claude, wherever it runs.
    Anthropic,
    /// Gemini, wherever it runs.
    Google,
    /// OpenAI's encrypted reasoning.
    OpenAi,
    /// Others on Bedrock.
    Bedrock,
    /// Unknown; it goes back to declarative providers alone.
    Other,
}

impl Origin {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Anthropic, "anthropic"),
        (Self::Google, "google"),
        (Self::OpenAi, "openai"),
        (Self::Bedrock, "bedrock"),
        (Self::Other, "other"),
    ];

    /// Its name inside [`Signature::tagged`].
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(origin, _)| *origin == self);
        found.map_or("other", |(_, name)| name)
    }
}

impl Signature {
    /// A signature of `origin`.
    pub fn new(origin: Origin, data: impl Into<String>) -> Self {
        Self {
            origin,
            data: data.into(),
        }
    }

    /// For dialects that have one opaque field and no place for the origin: `google:EpID...`. A signature of the dialect's own
    /// origin is written as it is. No provider's signature holds a colon: they are base64.
    pub fn tagged(&self, own: Origin) -> Cow<'_, str> {
        match self.origin == own {
            true => Cow::Borrowed(&self.data),
            false => Cow::Owned(format!("{}:{}", self.origin.name(), self.data)),
        }
    }

    /// Reads [`Self::tagged`].
    pub fn from_tagged(text: &str, own: Origin) -> Self {
        let tagged = text.split_once(':').and_then(|(tag, data)| {
            let found = Origin::NAMES.iter().find(|(_, name)| *name == tag)?;
            Some(Self::new(found.0, data))
        });
        tagged.unwrap_or_else(|| Self::new(own, text))
    }
}

/// Bytes that are no text.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// At an address (`http`, `https`, `gs`, `s3`, ...).
    Url {
        /// The address.
        url: String,
        /// Its type, where the client says it.
        mime: Option<String>,
    },
    /// Here.
    Inline {
        /// Its type: `image/png`.
        mime: String,
        /// Base64, standard alphabet, padded.
        data: String,
    },
    /// Text of a document.
    Text(String),
    /// In a provider's own store.
    File(String),
}

/// A prompt cache may end at the part or tool that has this.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheMark {
    /// `5m` or `1h`.
    pub ttl: Option<String>,
}

/// Where a statement comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Citation {
    /// The page.
    pub url: String,
    /// Its title.
    pub title: Option<String>,
    /// The text it is about, in characters of the part.
    pub range: Option<(u64, u64)>,
    /// The words of the source.
    pub quote: Option<String>,
}

/// What the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// What it is.
    pub kind: ToolKind,
    /// A prompt cache may end here.
    pub cache: Option<CacheMark>,
}

/// What a tool is.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolKind {
    /// Takes an object.
    Function {
        /// Its name.
        name: String,
        /// What it is good for.
        description: Option<String>,
        /// JSON Schema of its arguments; `None`: it takes none.
        parameters: Option<Value>,
        /// The arguments must follow the schema to the letter.
        strict: Option<bool>,
    },
    /// Takes free text.
    Custom {
        /// Its name.
        name: String,
        /// What it is good for.
        description: Option<String>,
        /// The grammar of its input, in the client's dialect.
        format: Option<Value>,
    },
    /// Run by the provider; only the dialect knows it in which it came.
    Hosted {
        /// `web_search_20250305`, `web_search`, ...
        kind: String,
        /// Its whole definition.
        definition: Value,
    },
}

impl Tool {
    /// The name that a call would use; of hosted tools their kind.
    pub fn name(&self) -> &str {
        match &self.kind {
            ToolKind::Function { name, .. } | ToolKind::Custom { name, .. } => name,
            ToolKind::Hosted { kind, .. } => kind,
        }
    }
}

/// Whether the model may, must or must not call tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
    /// It may, or must, call one of these.
    Allowed {
        /// It must.
        required: bool,
        /// These.
        names: Vec<String>,
    },
}

/// What the answer's text must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON after a schema.
    JsonSchema {
        /// The schema's name.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema.
        schema: Value,
        /// To the letter.
        strict: Option<bool>,
    },
}

/// How much the model should think.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget: Option<u64>,
    /// The model decides (`thinking: {type: adaptive}`).
    pub adaptive: bool,
    /// Whether readable thoughts are wanted; `None`: the dialect's default.
    pub visible: Option<bool>,
}

/// How much thinking, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    const NAMES: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Minimal, "minimal"),
        (Self::Low, "low"),
        (Self::Medium, "medium"),
        (Self::High, "high"),
        (Self::XHigh, "xhigh"),
        (Self::Max, "max"),
    ];

    /// Reads a word; any case.
    pub fn parse(word: &str) -> Option<Self> {
        let found = Self::NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(word));
        found.map(|(effort, _)| *effort)
    }

    /// The word.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// Tokens to think with, for models that want a number (spec: providers 4.3).
    pub fn budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal => 1024,
            Self::Low => 2048,
            Self::Medium => 8192,
            Self::High => 16384,
            Self::XHigh | Self::Max => 32768,
        }
    }

    /// The word for a number of tokens: the least whose budget is not smaller.
    pub fn of_budget(tokens: u64) -> Self {
        let found = Self::NAMES[..6]
            .iter()
            .find(|(effort, _)| effort.budget() >= tokens);
        found.map_or(Self::Max, |(effort, _)| *effort)
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The provider's id.
    pub id: Option<String>,
    /// The model as it names itself.
    pub model: Option<String>,
    /// When, in seconds since 1970.
    pub created: Option<u64>,
    /// At least one.
    pub choices: Vec<Choice>,
    /// What it cost in tokens. Filled by [`super::read_answer`], not by the dialects' readers.
    pub usage: Option<Usage>,
    /// The tier that served it.
    pub service_tier: Option<String>,
}

/// One of the answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What the model says.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Stop,
    /// In chat's form: `{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}`.
    pub logprobs: Option<Value>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// In a word of ours.
    pub reason: StopReason,
    /// In the provider's word, where ours loses something (spec: providers 16).
    pub native: Option<String>,
    /// The text that ended it.
    pub sequence: Option<String>,
    /// What the provider says about a refusal.
    pub explanation: Option<String>,
}

impl Stop {
    /// A reason and nothing more.
    pub fn new(reason: StopReason) -> Self {
        Self {
            reason,
            native: None,
            sequence: None,
            explanation: None,
        }
    }

    /// With the provider's word beside ours.
    pub fn with_native(reason: StopReason, native: impl Into<String>) -> Self {
        Self {
            native: Some(native.into()),
            ..Self::new(reason)
        }
    }
}

/// Why an answer ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done.
    End,
    /// One of the stop texts came.
    StopSequence,
    /// The bound of tokens.
    Length,
    /// It waits for tools.
    ToolUse,
    /// A filter, or the model refused.
    Filter,
}

/// One event of an answer that streams. Parts are opened, filled and closed, and have indices that count from 0 in each choice;
/// at most one part of a choice is open unless both are calls of tools.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// Comes first (only [`Event::Usage`] and [`Event::KeepAlive`] may precede it).
    Start {
        /// The provider's id.
        id: Option<Cow<'a, str>>,
        /// The model as it names itself.
        model: Option<Cow<'a, str>>,
        /// Seconds since 1970.
        created: Option<u64>,
    },
    /// A part begins.
    Open {
        /// Of which answer.
        choice: u32,
        /// Which part of it.
        index: u32,
        /// What it is.
        part: Opening<'a>,
    },
    /// A part grows.
    Delta {
        /// Of which answer.
        choice: u32,
        /// Which part of it.
        index: u32,
        /// By what.
        delta: Delta<'a>,
    },
    /// A part is complete.
    Close {
        /// Of which answer.
        choice: u32,
        /// Which part of it.
        index: u32,
    },
    /// An answer ended.
    Stop {
        /// Which.
        choice: u32,
        /// Why.
        stop: Stop,
    },
    /// Tokens so far; a later event replaces an earlier one. Made by [`super::stream::Translator`], not by the readers. May come
    /// before `Start` and after `Stop`: writers that state usage with the end hold the end back until the stream's.
    Usage(Usage),
    /// The provider is still there.
    KeepAlive,
    /// The provider failed in the middle. Nothing follows.
    Failed(Failure),
}

/// What a part of a stream is.
#[derive(Debug, Clone, PartialEq)]
pub enum Opening<'a> {
    /// Grows by [`Delta::Text`].
    Text,
    /// Grows by [`Delta::Refusal`].
    Refusal,
    /// Grows by [`Delta::Thinking`].
    Thinking,
    /// Whole as it is.
    Redacted(Signature),
    /// Whole as it is.
    Image(Media),
    /// Grows by [`Delta::Arguments`].
    ToolUse {
        /// Its id.
        id: Cow<'a, str>,
        /// The tool's name.
        name: Cow<'a, str>,
        /// A custom tool.
        custom: bool,
        /// Gemini's.
        signature: Option<Signature>,
    },
}

/// What a part of a stream grows by.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta<'a> {
    /// Text for the user.
    Text(Cow<'a, str>),
    /// Words of a refusal.
    Refusal(Cow<'a, str>),
    /// Readable thoughts.
    Thinking(Cow<'a, str>),
    /// A fragment of the arguments' JSON text. A call without any fragment has the arguments `{}`.
    Arguments(Cow<'a, str>),
    /// The part's signature, whole.
    Signature(Signature),
    /// A source of the text.
    Citation(Citation),
    /// Log probabilities of the text, in chat's form.
    Logprobs(Value),
}

/// Joins turns that follow each other with one role, for providers that want them to alternate.
pub fn merge_turns(turns: Vec<Turn>) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        match merged.last_mut() {
            Some(last) if last.role == turn.role => last.parts.extend(turn.parts),
            _ => merged.push(turn),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_keep_their_origin_through_a_field_that_has_no_place_for_it() {
        let own = Signature::new(Origin::Anthropic, "EqQB/+=");
        let foreign = Signature::new(Origin::Google, "CiQB");
        assert_eq!(own.tagged(Origin::Anthropic), "EqQB/+=");
        assert_eq!(foreign.tagged(Origin::Anthropic), "google:CiQB");
        for signature in [own, foreign] {
            let written = signature.tagged(Origin::Anthropic);
            assert_eq!(
                Signature::from_tagged(&written, Origin::Anthropic),
                signature
            );
        }
        let odd = Signature::from_tagged("what:ever", Origin::OpenAi);
        assert_eq!(odd, Signature::new(Origin::OpenAi, "what:ever"));
    }

    #[test]
    fn efforts_and_budgets_agree() {
        for (effort, name) in Effort::NAMES {
            assert_eq!(Effort::parse(name), Some(effort));
            assert_eq!(effort.name(), name);
            if effort != Effort::Max {
                assert_eq!(Effort::of_budget(effort.budget()), effort);
            }
        }
        assert_eq!(Effort::parse("HIGH"), Some(Effort::High));
        assert_eq!(Effort::parse("much"), None);
        assert_eq!(Effort::of_budget(3000), Effort::Medium);
        assert_eq!(Effort::of_budget(100_000), Effort::Max);
    }

    #[test]
    fn turns_of_one_role_are_joined() {
        let turn = |role, text: &str| Turn::new(role, vec![Part::text(text)]);
        let merged = merge_turns(vec![
            turn(Role::User, "a"),
            turn(Role::User, "b"),
            turn(Role::Assistant, "c"),
            turn(Role::User, "d"),
        ]);
        assert_eq!(merged.len(), 3);
        assert_eq!(merged[0].parts, [Part::text("a"), Part::text("b")]);
    }
}
