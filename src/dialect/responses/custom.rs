//! The free text of a custom tool, out of the arguments of the function that stands for it, as they stream in.

use super::tools::{INPUT, custom_input};

/// Reads the arguments in pieces cut anywhere. Text that was given is never taken back.
#[derive(Debug)]
pub(super) struct InputReader {
    stage: Stage,
    /// The text so far.
    text: String,
}

#[derive(Debug)]
enum Stage {
    /// The text has not begun; what came.
    Before(String),
    /// In it.
    Inside {
        /// The beginning of an escape.
        escape: String,
        /// The first half of a character that takes two.
        high: Option<u16>,
    },
    /// Behind it.
    After,
    /// The arguments are not as they should be: they are read at their end.
    Odd(String),
}

/// What the beginning of the arguments is.
enum Beginning {
    /// Nothing that says so yet.
    Open,
    /// As it should be; so many bytes.
    Good(usize),
    Odd,
}

impl Default for InputReader {
    fn default() -> Self {
        Self {
            stage: Stage::Before(String::new()),
            text: String::new(),
        }
    }
}

impl InputReader {
    /// Takes the next piece; gives the text that it adds.
    pub fn feed(&mut self, piece: &str) -> String {
        let begun = self.text.len();
        match &mut self.stage {
            Stage::Before(held) => {
                held.push_str(piece);
                match beginning(held) {
                    Beginning::Open => {}
                    Beginning::Odd => self.stage = Stage::Odd(std::mem::take(held)),
                    Beginning::Good(length) => {
                        let rest = held.split_off(length);
                        self.stage = Stage::Inside {
                            escape: String::new(),
                            high: None,
                        };
                        self.inside(&rest);
                    }
                }
            }
            Stage::Inside { .. } => self.inside(piece),
            Stage::After => {}
            Stage::Odd(held) => held.push_str(piece),
        }
        self.text[begun..].to_owned()
    }

    /// The arguments are complete; gives the text that was held back. Then [`Self::text`] is all of it.
    pub fn end(&mut self) -> String {
        match std::mem::replace(&mut self.stage, Stage::After) {
            Stage::Before(held) | Stage::Odd(held) => {
                self.text = custom_input(&held);
                self.text.clone()
            }
            Stage::Inside { .. } | Stage::After => String::new(),
        }
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn inside(&mut self, mut piece: &str) {
        while let Stage::Inside { escape, high } = &mut self.stage {
            if escape.is_empty() {
                let Some(at) = piece.find(['"', '\\']) else {
                    lonely(high, !piece.is_empty(), &mut self.text);
                    return self.text.push_str(piece);
                };
                let ends = piece.as_bytes()[at] == b'"';
                lonely(high, at > 0 || ends, &mut self.text);
                self.text.push_str(&piece[..at]);
                match ends {
                    true => self.stage = Stage::After,
                    false => escape.push('\\'),
                }
                piece = &piece[at + 1..];
                continue;
            }
            let Some(next) = piece.chars().next() else {
                return;
            };
            escape.push(next);
            piece = &piece[next.len_utf8()..];
            if !escape.starts_with("\\u") {
                lonely(high, true, &mut self.text);
                self.text.push(unescape(next));
                escape.clear();
            } else if escape.chars().count() == 6 {
                let unit = u16::from_str_radix(&escape[2..], 16).unwrap_or(0xfffd);
                escape.clear();
                take_unit(high, unit, &mut self.text);
            }
        }
    }
}

/// One unit of UTF-16, which may be half of a character.
fn take_unit(high: &mut Option<u16>, unit: u16, text: &mut String) {
    let second = (0xdc00..0xe000).contains(&unit);
    if let Some(first) = high.take_if(|_| second) {
        return text.extend(char::decode_utf16([first, unit]).flatten());
    }
    lonely(high, true, text);
    match unit {
        0xd800..0xdc00 => *high = Some(unit),
        _ => text.push(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}

/// Half of a character whose other half cannot come any more.
fn lonely(high: &mut Option<u16>, over: bool, text: &mut String) {
    if over && high.take().is_some() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
}

fn unescape(letter: char) -> char {
    match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        other => other,
    }
}

/// Whether the arguments begin with `{"input":"`, with spaces or without.
fn beginning(held: &str) -> Beginning {
    let name = format!("\"{INPUT}\"");
    let mut rest = held;
    for token in ["{", &name, ":", "\""] {
        rest = rest.trim_start_matches([' ', '\n', '\r', '\t']);
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None if token.starts_with(rest) => return Beginning::Open,
            None => return Beginning::Odd,
        }
    }
    Beginning::Good(held.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::responses::tools::custom_arguments;

    fn read(pieces: &[&str]) -> (String, String) {
        let mut reader = InputReader::default();
        let mut given: String = pieces.iter().map(|piece| reader.feed(piece)).collect();
        given += &reader.end();
        (given, reader.text().to_owned())
    }

    #[test]
    fn arguments_are_read_as_they_come() {
        let mut reader = InputReader::default();
        assert_eq!(reader.feed("{ \"inp"), "");
        assert_eq!(reader.feed("ut\" : \"a\\"), "a");
        assert_eq!(reader.feed("n\\u00e"), "\n");
        assert_eq!(reader.feed("9\\ud83d\\ude0"), "é");
        assert_eq!(reader.feed("0!\"} "), "😀!");
        assert_eq!(reader.end(), "");
        assert_eq!(reader.text(), "a\né😀!");
    }

    #[test]
    fn odd_arguments_are_read_at_their_end() {
        for (arguments, text) in [
            ("{}", ""),
            ("", ""),
            ("plain text", "plain text"),
            (r#"{"patch": "a"}"#, "a"),
            (r#"{"a": "b", "input": "c"}"#, "c"),
            (r#"{"input": 7}"#, r#"{"input": 7}"#),
            (r#"{"a": 1, "b": 2}"#, r#"{"a": 1, "b": 2}"#),
            (r#"{"input": "cut"#, "cut"),
            (r#"{"input": "\ud83d-"}"#, "\u{fffd}-"),
            (r#"{"input": "\ud83d\n"}"#, "\u{fffd}\n"),
            (r#"{"input": "\ud83d\u0041\udc00"}"#, "\u{fffd}A\u{fffd}"),
        ] {
            assert_eq!(
                read(&[arguments]),
                (text.to_owned(), text.to_owned()),
                "{arguments}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(text in ".{0,40}", cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let mut arguments = custom_arguments(text.clone());
            if text.len() % 2 == 0 {
                // Escape everything.
                let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                arguments = format!("{{\"input\":\"{units}\"}}");
            }
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(arguments.len() + 1)).collect();
            ends.retain(|end| arguments.is_char_boundary(*end));
            ends.sort_unstable();
            ends.push(arguments.len());
            let mut begin = 0;
            let pieces: Vec<&str> = ends.into_iter().map(|end| {
                let piece = &arguments[begin..end];
                begin = end;
                piece
            }).collect();
            prop_assert_eq!(read(&pieces), (text.clone(), text));
        }

        #[test]
        fn nothing_panics(pieces in proptest::collection::vec("[\\\\\"u0-9a-fd{}: input\u{e9}]{0,12}", 0..8)) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (given, text) = read(&pieces);
            prop_assert_eq!(given, text);
        }
    }
}
