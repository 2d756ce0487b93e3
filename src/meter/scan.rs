//! Finds the few events that speak of usage in a stream, without reading the others.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use memchr::{memchr, memchr2_iter, memrchr, memrchr2};

use super::node::Node;
use super::usage::Reading;
use crate::http::sse::SseParser;
use crate::limits::{
    METER_EVENT_MAX, METER_HEAD, METER_MODEL_EVENTS, METER_TAIL, METER_TAIL_CANDIDATES,
};

/// How a stream separates its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events: an empty line ends each.
    Sse,
    /// One JSON document a line.
    Lines,
}

/// Reads a stream of events that comes in pieces cut anywhere. Only an event that was cut is copied, and only one that
/// speaks of usage is parsed, but for the first ones, which name the model.
#[derive(Debug)]
pub(super) struct Events {
    framing: Framing,
    hints: Hints,
    /// The event that has not ended yet.
    pending: Window,
    models_left: u8,
    reading: Reading,
    /// An event that speaks of usage could not be read.
    broken: bool,
}

impl Events {
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            hints: Hints::new(),
            pending: Window::new(METER_EVENT_MAX),
            models_left: METER_MODEL_EVENTS,
            reading: Reading::default(),
            broken: false,
        }
    }

    pub fn feed(&mut self, mut bytes: &[u8]) {
        if let Some(&last) = self.pending.kept.last() {
            let Some(end) = self.framing.first_end(bytes, Some(last)) else {
                self.pending.extend(bytes);
                return;
            };
            self.pending.extend(&bytes[..end]);
            bytes = &bytes[end..];
            self.read_pending();
        }
        let end = self.framing.last_end(bytes).unwrap_or(0);
        self.read_events(&bytes[..end]);
        self.pending.extend(&bytes[end..]);
    }

    /// Reads what stands at the end without a separator, too.
    pub fn finish(mut self) -> (Reading, bool) {
        if !self.pending.kept.is_empty() {
            self.read_pending();
        }
        (self.reading, self.broken)
    }

    fn read_pending(&mut self) {
        let pending = std::mem::replace(&mut self.pending, Window::new(METER_EVENT_MAX));
        match pending.is_cut() {
            false => self.read_events(&pending.kept),
            true => pending.search(&mut self.reading),
        }
        self.pending.reuse(pending);
    }

    /// Reads whole events.
    fn read_events(&mut self, mut events: &[u8]) {
        while self.models_left > 0 && !self.reading.has_model() && !events.is_empty() {
            let end = self.framing.first_end(events, None).unwrap_or(events.len());
            let (event, rest) = events.split_at(end);
            self.read_event(event);
            events = rest;
        }
        while let Some(at) = self.hints.find(events) {
            let start = self.framing.last_end(&events[..at]).unwrap_or(0);
            let end = self.framing.first_end(&events[at..], None);
            let (event, rest) = events.split_at(end.map_or(events.len(), |end| at + end));
            self.read_event(&event[start..]);
            events = rest;
        }
    }

    fn read_event(&mut self, event: &[u8]) {
        let (reading, models_left) = (&mut self.reading, &mut self.models_left);
        let hints = &mut self.hints;
        let mut failed = false;
        let mut observe = |data: &[u8]| {
            let data = data.trim_ascii();
            if matches!(data.first(), Some(b'{' | b'[')) && data != b"[DONE]" {
                if *models_left > 0 {
                    *models_left -= 1;
                    hints.notice(data);
                }
                failed |= reading.observe(data).is_err();
            }
        };
        match self.framing {
            Framing::Lines => observe(event),
            Framing::Sse => {
                let mut parser = SseParser::default();
                // An event within one piece of input is within the parser's bound as well.
                let fed = parser.feed(event, |event| observe(event.data));
                failed |= fed.is_err() || parser.finish(|event| observe(event.data)).is_err();
            }
        }
        self.broken |= failed && self.hints.find(event).is_some();
    }
}

impl Framing {
    /// One past the first separator in `bytes`; `before` is the byte that came before them.
    fn first_end(self, bytes: &[u8], before: Option<u8>) -> Option<usize> {
        if self == Self::Lines {
            return memchr(b'\n', bytes).map(|at| at + 1);
        }
        for at in memchr2_iter(b'\r', b'\n', bytes) {
            let before = if at == 0 { before } else { Some(bytes[at - 1]) };
            match (before, bytes[at]) {
                (Some(b'\r'), b'\n') => {}
                (Some(b'\r' | b'\n'), end) => {
                    let lf_follows = end == b'\r' && bytes.get(at + 1) == Some(&b'\n');
                    return Some(at + 1 + usize::from(lf_follows));
                }
                _ => {}
            }
        }
        None
    }

    /// One past the last separator in `bytes`.
    fn last_end(self, bytes: &[u8]) -> Option<usize> {
        if self == Self::Lines {
            return memrchr(b'\n', bytes).map(|at| at + 1);
        }
        let mut searched = bytes.len();
        while let Some(at) = memrchr2(b'\r', b'\n', &bytes[..searched]) {
            let both = bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r';
            searched = at - usize::from(both);
            if matches!(bytes[..searched].last(), Some(b'\r' | b'\n')) {
                return Some(at + 1);
            }
        }
        None
    }
}

/// Finds the keys that usage hides behind. A quote inside a JSON string is escaped, so text that speaks of usage is not found.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// Whether `billed` is looked for: only Cohere's first version states nothing else, and a search costs each event.
    seeks_billed: bool,
}

/// Prepared once: they are larger than all else that a stream holds.
struct Finders {
    usage: Finder<'static>,
    billed: Finder<'static>,
    metrics: Finder<'static>,
}

static FINDERS: LazyLock<Finders> = LazyLock::new(|| Finders {
    usage: Finder::new(b"\"usage"),
    billed: Finder::new(b"\"billed_units\""),
    metrics: Finder::new(b"\"amazon-bedrock-invocationMetrics\""),
});

impl Hints {
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the first key with a value stands.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        let finders = &*FINDERS;
        let mut from = 0;
        while let Some(at) = finders.usage.find(&bytes[from..]) {
            let at = from + at;
            let key_end = at + b"\"usage".len();
            let in_text = at > 0 && bytes[at - 1] == b'\\';
            if !in_text && !is_null_member(&bytes[key_end..]) {
                return Some(at);
            }
            from = key_end;
        }
        match self.seeks_billed {
            true => finders.billed.find(bytes),
            false => None,
        }
    }

    /// Tells Cohere's first version by one of a stream's first events.
    pub fn notice(&mut self, event: &[u8]) {
        self.seeks_billed |= memmem::find(event, b"\"event_type\"").is_some();
    }

    /// Whether the platform's own figures stand there.
    pub fn has_metrics(&self, bytes: &[u8]) -> bool {
        FINDERS.metrics.find(bytes).is_some()
    }
}

/// Whether a key's rest is `": null`: OpenAI writes it into every event but the last.
fn is_null_member(rest: &[u8]) -> bool {
    let value = rest
        .strip_prefix(b"\"")
        .map(<[u8]>::trim_ascii_start)
        .and_then(|rest| rest.strip_prefix(b":"));
    value.is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
}

/// A copy of something that may grow large: whole up to a bound, beyond it only its front and its end.
#[derive(Debug)]
pub(super) struct Window {
    pub kept: Vec<u8>,
    whole_max: usize,
    /// The front; empty as long as all is kept.
    head: Vec<u8>,
}

impl Window {
    pub fn new(whole_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            whole_max,
            head: Vec::new(),
        }
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        if !self.is_cut() && self.kept.len() + bytes.len() > self.whole_max {
            let front = self.kept.iter().chain(bytes).take(METER_HEAD);
            self.head = front.copied().collect();
            self.keep_tail();
            self.kept.shrink_to(2 * METER_TAIL);
        }
        if !self.is_cut() {
            self.kept.extend_from_slice(bytes);
            return;
        }
        self.kept
            .extend_from_slice(&bytes[bytes.len().saturating_sub(METER_TAIL)..]);
        if self.kept.len() > 2 * METER_TAIL {
            self.keep_tail();
        }
    }

    /// Whether something is missing between front and end.
    pub fn is_cut(&self) -> bool {
        !self.head.is_empty()
    }

    /// Looks for usage and model in what was kept of a cut document.
    pub fn search(&self, reading: &mut Reading) {
        let tail = self.kept.trim_ascii_end();
        let counts = ["\"usage\"", "\"usageMetadata\"", "\"meta\""];
        for counts in counts.iter().filter_map(|key| last_member(tail, key)) {
            reading.observe_counts(&counts);
        }
        let named =
            last_member(tail, "\"model\"").or_else(|| first_member(&self.head, "\"model\""));
        let named = named.or_else(|| last_member(tail, "\"modelVersion\""));
        if let Some(Node::Text(name)) = named {
            reading.set_model(&name);
        }
    }

    fn keep_tail(&mut self) {
        let surplus = self.kept.len().saturating_sub(METER_TAIL);
        self.kept.drain(..surplus);
    }

    /// Takes over another window's memory, if it is small.
    fn reuse(&mut self, other: Self) {
        if other.kept.capacity() <= METER_TAIL {
            self.kept = other.kept;
            self.kept.clear();
        }
    }
}

/// The last member of that name that stands at the top of a document, or of an object at its top, whose end is `tail`.
fn last_member<'a>(tail: &'a [u8], key: &str) -> Option<Node<'a>> {
    let candidates = memmem::rfind_iter(tail, key).take(METER_TAIL_CANDIDATES);
    candidates.into_iter().find_map(|at| {
        let value = member_value(&tail[at + key.len()..])?;
        let (node, length) = Node::read_front(value)?;
        let rest = depth(&value[length..])?;
        (matches!(rest, -1 | -2) && !matches!(node, Node::Other)).then_some(node)
    })
}

/// The first member of that name, if it stands at the top of the document that starts with `head`.
fn first_member<'a>(head: &'a [u8], key: &str) -> Option<Node<'a>> {
    let at = memmem::find(head, key.as_bytes())?;
    let start = memchr(b'{', head).filter(|&start| start < at)?;
    let at_top = depth(&head[start..at])? == 1;
    let (node, _) = Node::read_front(member_value(&head[at + key.len()..])?)?;
    at_top.then_some(node)
}

pub(super) fn member_value(rest: &[u8]) -> Option<&[u8]> {
    rest.trim_ascii_start().strip_prefix(b":")
}

/// By how many objects and lists `json`, which starts outside any string, opens more than it closes. `None`: it ends inside a string.
pub(super) fn depth(json: &[u8]) -> Option<i64> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    (!quoted).then_some(depth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn separators_are_found_from_both_ends() {
        for (bytes, first, last) in [
            (&b"a\n\nb\n\nc"[..], Some(3), Some(6)),
            (b"a\r\n\r\nb", Some(5), Some(5)),
            (b"a\r\rb\r\r", Some(3), Some(6)),
            (b"a\r\n\nb\n\r\n", Some(4), Some(8)),
            (b"a\nb\r\nc\r", None, None),
            (b"\n", None, None),
        ] {
            assert_eq!(Framing::Sse.first_end(bytes, None), first, "{bytes:?}");
            assert_eq!(Framing::Sse.last_end(bytes), last, "{bytes:?}");
        }
        assert_eq!(Framing::Sse.first_end(b"\nb", Some(b'\n')), Some(1));
        assert_eq!(Framing::Sse.first_end(b"\n\r\nb", Some(b'\r')), Some(3));
        assert_eq!(Framing::Lines.first_end(b"a\nb\nc", None), Some(2));
        assert_eq!(Framing::Lines.last_end(b"a\nb\nc"), Some(4));
    }

    #[test]
    fn null_usage_and_usage_in_a_text_are_passed_over() {
        let mut hints = Hints::new();
        assert_eq!(
            hints.find(br#"{"usage":null,"a":"\"usage\": 1","usage" : null}"#),
            None
        );
        assert_eq!(hints.find(br#"{"usage":null,"usage":{"#), Some(14));
        assert_eq!(hints.find(br#"{"usageMetadata":{"#), Some(1));
        hints.notice(br#"{"event_type":"stream-start"}"#);
        assert_eq!(hints.find(br#"{"meta":{"billed_units":{"#), Some(9));
    }

    #[test]
    fn a_cut_document_is_searched_at_its_ends() {
        let filler = "x".repeat(300_000);
        let document = format!(
            r#" {{"model":"m","choices":[{{"usage":{{"prompt_tokens":9}},"model":"n"}}],"text":"{filler}","usage":{{"prompt_tokens":3,"completion_tokens":4}},"tools":[{{"usage":{{"prompt_tokens":8}}}}]}} "#
        );
        for pieces in [1, 1000, 400_000] {
            let mut window = Window::new(METER_TAIL);
            document
                .as_bytes()
                .chunks(pieces)
                .for_each(|piece| window.extend(piece));
            assert!(window.is_cut() && window.kept.len() <= 2 * METER_TAIL);
            let mut reading = Reading::default();
            window.search(&mut reading);
            let (usage, _, model) = reading.finish();
            assert_eq!(usage.map(|usage| (usage.input, usage.output)), Some((3, 4)));
            assert_eq!(model.as_deref(), Some("m"));
        }
    }

    proptest! {
        #[test]
        fn the_last_separator_is_the_end_of_the_first_ones(text in "[ab\r\n]{0,30}") {
            let bytes = text.as_bytes();
            let mut at = 0;
            while let Some(end) = Framing::Sse.first_end(&bytes[at..], bytes[..at].last().copied().filter(|_| at == 0)) {
                at += end;
            }
            let last = Framing::Sse.last_end(bytes).unwrap_or(0);
            // A line end that a separator could share with the next is where the two may differ: never inside a line.
            prop_assert!(bytes[at.min(last)..at.max(last)].iter().all(|byte| matches!(byte, b'\r' | b'\n')));
        }
    }
}
