//! Undoes in an answer what was done to get JSON from a model without a mode for it (spec: providers 4.2): the call of a forced
//! tool, or the code fence around the text, becomes plain text again.

use std::borrow::Cow;

use super::Unwrap;
use super::neutral::{Answer, Choice, Delta, Event, Opening, Part, PartKind, StopReason};

/// Undoes it in a whole answer. Doing so twice does no harm.
pub fn answer(answer: &mut Answer, unwrap: &Unwrap) {
    for choice in &mut answer.choices {
        match unwrap {
            Unwrap::Nothing => {}
            Unwrap::Tool(name) => unwrap_tool(choice, name),
            Unwrap::Fence => unwrap_fence(choice),
        }
    }
}

fn unwrap_tool(choice: &mut Choice, name: &str) {
    let is_wanted =
        |part: &Part| matches!(&part.kind, PartKind::ToolUse(call) if call.name == name);
    if !choice.parts.iter().any(is_wanted) {
        return;
    }
    // What the model says beside the call would spoil the JSON.
    choice.parts.retain(|part| part.as_text().is_none());
    for part in &mut choice.parts {
        if is_wanted(part)
            && let PartKind::ToolUse(call) = &mut part.kind
        {
            *part = Part::text(std::mem::take(&mut call.arguments));
        }
    }
    let calls = choice
        .parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolUse(_)));
    if choice.stop.reason == StopReason::ToolUse && !calls {
        choice.stop.reason = StopReason::End;
    }
}

fn unwrap_fence(choice: &mut Choice) {
    let texts = choice
        .parts
        .iter_mut()
        .filter_map(|part| match &mut part.kind {
            PartKind::Text { text, .. } => Some(text),
            _ => None,
        });
    for text in texts {
        let mut fence = Fence::default();
        let mut inner = fence.feed(text).into_owned();
        inner.push_str(&fence.finish());
        *text = inner;
    }
}

/// Undoes it in a stream, event by event. Holds back a few characters where a fence may begin or end.
#[derive(Debug, Default)]
pub struct Undo {
    unwrap: Unwrap,
    /// Parts that are calls of the forced tool, or texts with their fences.
    open: Vec<(u32, u32, State)>,
    /// Answers in which another tool was called.
    calls: Vec<u32>,
}

#[derive(Debug)]
enum State {
    /// A call; whether arguments came.
    Call(bool),
    Text(Fence),
}

impl Undo {
    /// Undoes what `unwrap` says.
    pub fn new(unwrap: &Unwrap) -> Self {
        Self {
            unwrap: unwrap.clone(),
            ..Self::default()
        }
    }

    /// Passes an event on as it would have come without the trick.
    pub fn pass(&mut self, event: Event<'_>, out: &mut dyn FnMut(Event<'_>)) {
        if self.unwrap == Unwrap::Nothing {
            return out(event);
        }
        match event {
            Event::Open {
                choice,
                index,
                part,
            } => {
                let part = self.open(choice, index, part);
                out(Event::Open {
                    choice,
                    index,
                    part,
                });
            }
            Event::Delta {
                choice,
                index,
                delta,
            } => {
                if let Some(delta) = self.grow(choice, index, delta) {
                    out(Event::Delta {
                        choice,
                        index,
                        delta,
                    });
                }
            }
            Event::Close { choice, index } => {
                let rest = self.close(choice, index);
                if !rest.is_empty() {
                    let delta = Delta::Text(rest);
                    out(Event::Delta {
                        choice,
                        index,
                        delta,
                    });
                }
                out(Event::Close { choice, index });
            }
            Event::Stop { choice, mut stop } => {
                let tool = matches!(self.unwrap, Unwrap::Tool(_));
                if tool && stop.reason == StopReason::ToolUse && !self.calls.contains(&choice) {
                    stop.reason = StopReason::End;
                }
                out(Event::Stop { choice, stop });
            }
            event => out(event),
        }
    }

    fn open<'a>(&mut self, choice: u32, index: u32, part: Opening<'a>) -> Opening<'a> {
        match (&self.unwrap, &part) {
            (Unwrap::Tool(wanted), Opening::ToolUse { name, .. }) if name == wanted => {
                self.open.push((choice, index, State::Call(false)));
                return Opening::Text;
            }
            (Unwrap::Tool(_), Opening::ToolUse { .. }) if !self.calls.contains(&choice) => {
                self.calls.push(choice);
            }
            (Unwrap::Fence, Opening::Text) => {
                self.open
                    .push((choice, index, State::Text(Fence::default())));
            }
            _ => {}
        }
        part
    }

    fn grow<'a>(&mut self, choice: u32, index: u32, delta: Delta<'a>) -> Option<Delta<'a>> {
        match (self.state(choice, index), delta) {
            (Some(State::Call(came)), Delta::Arguments(text)) => {
                *came |= !text.is_empty();
                Some(Delta::Text(text))
            }
            (Some(State::Text(fence)), Delta::Text(text)) => {
                let inner = fence.feed(&text).into_owned();
                (!inner.is_empty()).then_some(Delta::Text(Cow::Owned(inner)))
            }
            (_, delta) => Some(delta),
        }
    }

    fn close(&mut self, choice: u32, index: u32) -> Cow<'static, str> {
        let found = self
            .open
            .iter()
            .position(|open| (open.0, open.1) == (choice, index));
        match found.map(|at| self.open.swap_remove(at).2) {
            Some(State::Call(false)) => Cow::Borrowed("{}"),
            Some(State::Text(fence)) => Cow::Owned(fence.finish()),
            _ => Cow::Borrowed(""),
        }
    }

    fn state(&mut self, choice: u32, index: u32) -> Option<&mut State> {
        let mut open = self.open.iter_mut();
        open.find(|open| (open.0, open.1) == (choice, index))
            .map(|open| &mut open.2)
    }
}

/// Takes a fence of backticks off a text that comes in pieces.
#[derive(Debug, Default)]
struct Fence {
    place: Place,
    /// What is not passed on yet: the start of the text, or what may be its closing fence.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// It is not clear whether there is a fence.
    #[default]
    Start,
    Inside,
    /// There is none.
    Without,
}

const TICKS: &str = "```";
/// Longest opening line with what may stand before it; whoever writes more means no fence.
const OPENING_MAX: usize = 64;
/// White space that is held back before a closing fence: some models write it without end.
const HELD_MAX: usize = 1024;

impl Fence {
    fn feed<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        match self.place {
            Place::Without => Cow::Borrowed(text),
            Place::Start => {
                self.held.push_str(text);
                Cow::Owned(self.begin())
            }
            Place::Inside => {
                self.held.push_str(text);
                Cow::Owned(self.release())
            }
        }
    }

    /// The text ended: what was held back and is no fence.
    fn finish(mut self) -> String {
        match self.place {
            Place::Inside => {
                let text = self.held.trim_end();
                let inner = text.strip_suffix(TICKS).map(str::trim_end);
                inner.unwrap_or(text).to_owned()
            }
            Place::Start | Place::Without => std::mem::take(&mut self.held),
        }
    }

    fn begin(&mut self) -> String {
        let start = self.held.trim_start();
        let may_open = TICKS.starts_with(start) || start.starts_with(TICKS);
        let before = self.held.len() - start.len();
        let opening = start.strip_prefix(TICKS).and_then(|rest| {
            let (language, inner) = rest.split_once('\n')?;
            let short = before + TICKS.len() + language.len() < OPENING_MAX;
            let is_word = language
                .trim()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric());
            (short && is_word).then(|| inner.to_owned())
        });
        if let Some(inner) = opening {
            (self.place, self.held) = (Place::Inside, inner);
            return self.release();
        }
        if !may_open || start.contains('\n') || self.held.len() > OPENING_MAX {
            self.place = Place::Without;
            return std::mem::take(&mut self.held);
        }
        String::new()
    }

    /// All but what may belong to the closing fence: white space, at most three backticks, white space.
    fn release(&mut self) -> String {
        if self.held.len() > HELD_MAX {
            return std::mem::take(&mut self.held);
        }
        let text = self.held.trim_end();
        let ticks = text.len() - text.trim_end_matches('`').len();
        let kept = text[..text.len() - ticks.min(TICKS.len())].trim_end().len();
        let rest = self.held.split_off(kept);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::neutral::{Stop, ToolUse};
    use super::*;

    fn call(name: &str, arguments: &str) -> Part {
        PartKind::ToolUse(ToolUse {
            id: "1".to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            custom: false,
            signature: None,
        })
        .into()
    }

    fn whole(parts: Vec<Part>, reason: StopReason) -> Answer {
        let choice = Choice {
            parts,
            stop: Stop::new(reason),
            logprobs: None,
        };
        Answer {
            choices: vec![choice],
            ..Answer::default()
        }
    }

    #[test]
    fn a_forced_call_becomes_the_text() {
        let wanted = Unwrap::Tool("json_output".to_owned());
        let mut got = whole(
            vec![Part::text("Here:"), call("json_output", r#"{"a":1}"#)],
            StopReason::ToolUse,
        );
        for _ in 0..2 {
            answer(&mut got, &wanted);
            assert_eq!(got, whole(vec![Part::text(r#"{"a":1}"#)], StopReason::End));
        }
        let other = whole(
            vec![Part::text("Let me see"), call("search", "{}")],
            StopReason::ToolUse,
        );
        let mut got = other.clone();
        answer(&mut got, &wanted);
        assert_eq!(got, other);
    }

    #[test]
    fn a_fence_is_taken_off() {
        for (text, expected) in [
            ("```json\n{\"a\": 1}\n```", "{\"a\": 1}"),
            ("\n```\n{}\n```\n", "{}"),
            ("```JSON \r\n[1,\n 2]\n```", "[1,\n 2]"),
            ("{\"a\": \"```\"}", "{\"a\": \"```\"}"),
            ("  {}\n", "  {}\n"),
            ("``` and so on\n```", "``` and so on\n```"),
            ("```json", "```json"),
            ("```json\n{\"a\": \"``\"", "{\"a\": \"``\""),
            ("", ""),
        ] {
            let mut got = whole(vec![Part::text(text)], StopReason::End);
            answer(&mut got, &Unwrap::Fence);
            assert_eq!(
                got.choices[0].parts[0].as_text(),
                Some(expected),
                "{text:?}"
            );
        }
    }

    fn stream(unwrap: &Unwrap, events: Vec<Event<'_>>) -> Vec<Event<'static>> {
        let (mut undo, mut out) = (Undo::new(unwrap), Vec::new());
        let mut sink = |event: Event<'_>| {
            out.push(match event {
                Event::Open {
                    choice,
                    index,
                    part: Opening::Text,
                } => Event::Open {
                    choice,
                    index,
                    part: Opening::Text,
                },
                Event::Delta {
                    choice,
                    index,
                    delta: Delta::Text(text),
                } => Event::Delta {
                    choice,
                    index,
                    delta: Delta::Text(text.into_owned().into()),
                },
                Event::Close { choice, index } => Event::Close { choice, index },
                Event::Stop { choice, stop } => Event::Stop { choice, stop },
                other => panic!("unexpected {other:?}"),
            });
        };
        events
            .into_iter()
            .for_each(|event| undo.pass(event, &mut sink));
        out
    }

    #[test]
    fn a_forced_call_streams_as_text() {
        let tool = |arguments: Option<&'static str>| {
            let part = Opening::ToolUse {
                id: "1".into(),
                name: "json_output".into(),
                custom: false,
                signature: None,
            };
            let mut events = vec![Event::Open {
                choice: 0,
                index: 0,
                part,
            }];
            events.extend(arguments.map(|text| Event::Delta {
                choice: 0,
                index: 0,
                delta: Delta::Arguments(text.into()),
            }));
            events.push(Event::Close {
                choice: 0,
                index: 0,
            });
            events.push(Event::Stop {
                choice: 0,
                stop: Stop::new(StopReason::ToolUse),
            });
            events
        };
        for (arguments, text) in [(Some("{\"a\":1}"), "{\"a\":1}"), (None, "{}")] {
            let expected = vec![
                Event::Open {
                    choice: 0,
                    index: 0,
                    part: Opening::Text,
                },
                Event::Delta {
                    choice: 0,
                    index: 0,
                    delta: Delta::Text(text.into()),
                },
                Event::Close {
                    choice: 0,
                    index: 0,
                },
                Event::Stop {
                    choice: 0,
                    stop: Stop::new(StopReason::End),
                },
            ];
            let unwrap = Unwrap::Tool("json_output".to_owned());
            assert_eq!(stream(&unwrap, tool(arguments)), expected);
        }
    }

    proptest! {
        #[test]
        fn a_fence_cut_anywhere_is_taken_off_the_same(text in "(```(json)?\n)?[{}` \na]{0,20}(\n```)?\n?", cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut events = vec![Event::Open { choice: 0, index: 0, part: Opening::Text }];
            events.extend(cuts.windows(2).map(|pair| Event::Delta { choice: 0, index: 0, delta: Delta::Text(text[pair[0]..pair[1]].into()) }));
            events.push(Event::Close { choice: 0, index: 0 });
            let streamed: String = stream(&Unwrap::Fence, events)
                .iter()
                .filter_map(|event| match event {
                    Event::Delta { delta: Delta::Text(text), .. } => Some(text.as_ref()),
                    _ => None,
                })
                .collect();
            let mut expected = whole(vec![Part::text(text)], StopReason::End);
            answer(&mut expected, &Unwrap::Fence);
            prop_assert_eq!(Some(streamed.as_str()), expected.choices[0].parts[0].as_text());
        }
    }
}
