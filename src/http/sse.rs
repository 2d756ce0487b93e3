//! Server-sent events (WHATWG HTML section 9.2.6), cut out of a stream and read.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr2_iter};

use crate::limits::SSE_EVENT_MAX;

/// One event, as it is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// Its type; empty where none was given, which stands for `message`.
    pub event: &'a [u8],
    /// Its data lines, joined by LF.
    pub data: &'a [u8],
    /// The last event id that the stream has set up to here; empty where it set none.
    pub id: &'a [u8],
}

/// An event is larger than its bound; the stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {0} bytes")]
pub struct SseError(pub usize);

/// Reads a stream of events that comes in pieces cut anywhere. An event that lies whole in one piece is not copied, unless
/// it has several data lines.
#[derive(Debug, Clone, Default)]
pub struct SseParser {
    /// The bytes of an event that has not ended yet.
    partial: Vec<u8>,
    /// Bytes of `partial` that were searched for line ends.
    searched: usize,
    /// Where its last line starts.
    line: usize,
    /// The last event ended with CR: an LF right after it belongs to that line end.
    after_cr: bool,
    /// Something was read before: no byte order mark can come any more.
    begun: bool,
    id: Vec<u8>,
    failed: bool,
}

impl SseParser {
    /// Calls `on` with each event that ends in `bytes`. Comments, `retry` and blocks without data make no event.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on: impl FnMut(SseEvent<'_>),
    ) -> Result<(), SseError> {
        if self.failed {
            return Err(SseError(SSE_EVENT_MAX));
        }
        if !self.partial.is_empty() {
            let held = self.partial.len();
            self.partial.extend_from_slice(bytes);
            let Some(block) = self.find_end() else {
                return self.check_size(self.partial.len());
            };
            let mut partial = std::mem::take(&mut self.partial);
            self.dispatch(&partial[..block.end], &mut on)?;
            bytes = &bytes[block.next - held..];
            partial.clear();
            self.partial = partial;
        }
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(block) = end_of_block(bytes, &mut 0, &mut 0) else {
                self.partial.extend_from_slice(bytes);
                let found = self.find_end();
                debug_assert!(found.is_none());
                return self.check_size(self.partial.len());
            };
            self.after_cr = block.cr;
            self.dispatch(&bytes[..block.end], &mut on)?;
            bytes = &bytes[block.next..];
        }
        Ok(())
    }

    /// Calls `on` with what stands at the end of the stream without an empty line. The standard drops it; some providers
    /// end their streams so.
    pub fn finish(mut self, mut on: impl FnMut(SseEvent<'_>)) -> Result<(), SseError> {
        if self.failed {
            return Err(SseError(SSE_EVENT_MAX));
        }
        let partial = std::mem::take(&mut self.partial);
        self.dispatch(&partial, &mut on)
    }

    /// Searches what is new in `partial` for the end of its event.
    fn find_end(&mut self) -> Option<Block> {
        let block = end_of_block(&self.partial, &mut self.searched, &mut self.line)?;
        (self.searched, self.line) = (0, 0);
        self.after_cr = block.cr;
        Some(block)
    }

    fn dispatch(
        &mut self,
        mut block: &[u8],
        on: &mut impl FnMut(SseEvent<'_>),
    ) -> Result<(), SseError> {
        self.check_size(block.len())?;
        if !std::mem::replace(&mut self.begun, true) {
            block = block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(block);
        }
        let (mut event, mut data): (&[u8], Option<Cow<'_, [u8]>>) = (b"", None);
        while !block.is_empty() {
            let (line, rest) = split_line(block);
            block = rest;
            match split_field(line) {
                (b"data", value) => match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(data) => {
                        let data = data.to_mut();
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                },
                (b"event", value) => event = value,
                (b"id", value) if memchr(0, value).is_none() => {
                    self.id.clear();
                    self.id.extend_from_slice(value);
                }
                _ => {}
            }
        }
        if let Some(data) = data {
            on(SseEvent {
                event,
                data: &data,
                id: &self.id,
            });
        }
        Ok(())
    }

    fn check_size(&mut self, length: usize) -> Result<(), SseError> {
        self.failed = length > SSE_EVENT_MAX;
        match self.failed {
            true => {
                self.partial = Vec::new();
                Err(SseError(SSE_EVENT_MAX))
            }
            false => Ok(()),
        }
    }
}

/// The lines of one event.
struct Block {
    /// One past the last line's end, before the empty line.
    end: usize,
    /// Where the next event starts.
    next: usize,
    /// The empty line's CR stands at the very end: an LF may follow.
    cr: bool,
}

/// Finds the empty line that ends the event at the front of `bytes`. `searched` and `line` keep repeated calls linear.
fn end_of_block(bytes: &[u8], searched: &mut usize, line: &mut usize) -> Option<Block> {
    let from = *searched;
    for at in memchr2_iter(b'\r', b'\n', &bytes[from..]).map(|at| from + at) {
        let cr = bytes[at] == b'\r';
        if !cr && at > 0 && bytes[at - 1] == b'\r' {
            *line = at + 1;
        } else if at == *line {
            let lf_follows = cr && bytes.get(at + 1) == Some(&b'\n');
            return Some(Block {
                end: at,
                next: at + 1 + usize::from(lf_follows),
                cr: cr && at + 1 == bytes.len(),
            });
        } else {
            *line = at + 1;
        }
    }
    *searched = bytes.len();
    None
}

/// The first line without its end, and what follows it.
fn split_line(block: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = memchr2(b'\r', b'\n', block) else {
        return (block, b"");
    };
    let both = block[end] == b'\r' && block.get(end + 1) == Some(&b'\n');
    (&block[..end], &block[end + 1 + usize::from(both)..])
}

/// A line's field name and value; a comment has an empty name.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b':', line) {
        Some(colon) => {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, String, String);

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn read(pieces: &[&[u8]], finish: bool) -> Vec<Owned> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        let mut note = |event: SseEvent<'_>| {
            events.push((text(event.event), text(event.data), text(event.id)));
        };
        for piece in pieces {
            parser.feed(piece, &mut note).expect("small");
        }
        if finish {
            parser.finish(&mut note).expect("small");
        }
        events
    }

    fn data(stream: &str) -> Vec<String> {
        read(&[stream.as_bytes()], false)
            .into_iter()
            .map(|event| event.1)
            .collect()
    }

    #[test]
    fn the_standards_examples() {
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        let stream = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let expected = [
            ("first event", "1"),
            ("second event", ""),
            (" third event", ""),
        ];
        let expected = expected.map(|(data, id)| (String::new(), data.to_owned(), id.to_owned()));
        assert_eq!(read(&[stream.as_bytes()], false), expected);
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = "event: add|data: 1|data: 2||: comment||data: 3||".replace('|', end);
            let expected = [("add", "1\n2", ""), ("", "3", "")]
                .map(|(event, data, id)| (event.to_owned(), data.to_owned(), id.to_owned()));
            assert_eq!(read(&[stream.as_bytes()], false), expected, "{end:?}");
        }
        assert_eq!(
            data("data: 1\r\n\ndata: 2\n\r\n\r\ndata: 3\r\r\n"),
            ["1", "2", "3"]
        );
    }

    #[test]
    fn fields_without_meaning_are_skipped() {
        assert_eq!(
            data("event: x\n\nretry: 10\nunknown: y\ndata: 1\n\n"),
            ["1"]
        );
        assert_eq!(data("\u{feff}data: 1\n\n\u{feff}data: 2\n\n"), ["1"]);
        let events = read(&[b"id: a\n\nid: b\0\ndata: 1\n\n"], false);
        assert_eq!(events[0].2, "a");
    }

    #[test]
    fn an_end_without_an_empty_line_is_given_only_by_finish() {
        for stream in ["data: 1\n\ndata: [DONE]", "data: 1\n\ndata: [DONE]\n"] {
            assert_eq!(data(stream), ["1"]);
            assert_eq!(read(&[stream.as_bytes()], true)[1].1, "[DONE]");
        }
        assert_eq!(read(&[b"data: 1\r\n\r"], true).len(), 1);
    }

    #[test]
    fn an_event_in_one_piece_is_not_copied() {
        let stream = b"event: a\ndata: hello\n\n";
        let mut seen = false;
        let lies_within = |part: &[u8]| stream.as_ptr_range().contains(&part.as_ptr());
        SseParser::default()
            .feed(stream, |event| {
                seen = lies_within(event.event) && lies_within(event.data);
            })
            .expect("small");
        assert!(seen);
    }

    #[test]
    fn an_event_without_end_is_refused_at_its_bound() {
        let (mut parser, piece) = (SseParser::default(), vec![b'a'; SSE_EVENT_MAX / 4]);
        for _ in 0..4 {
            parser.feed(&piece, |_| ()).expect("within the bound");
        }
        let error = SseError(SSE_EVENT_MAX);
        assert_eq!(parser.feed(b"a", |_| ()), Err(error));
        assert_eq!(parser.feed(b"\n\ndata: 1\n\n", |_| ()), Err(error));
        assert_eq!(parser.finish(|_| ()), Err(error));
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_reads_the_same(
            stream in "(\u{feff})?([\r\n]|\r\n|data: ?|event:|id:|:|[ab]|é){0,40}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = read(&[bytes], true);
            prop_assert_eq!(&read(&pieces, true), &whole);
            prop_assert_eq!(&read(&single, true), &whole);
        }
    }
}
