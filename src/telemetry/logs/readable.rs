//! Stored bodies as people read them: a stream as the answer that it made. The store keeps what came; this is done when it is read.

use super::reader::StoredBody;
use super::redact::redact;
use crate::dialect::assemble;
use crate::limits::LOG_HEAD_BYTES;

impl StoredBody {
    /// Whether it reads better in another form than it came in.
    pub fn is_stream(&self) -> bool {
        assemble::is_stream(self.content_type.as_deref(), &self.bytes)
    }

    /// The final form of what came as a stream; events in a binary framing as text; all else as it is. What looks like a key is
    /// looked for again: it may have come in pieces.
    pub fn readable(self, redacts: bool) -> Self {
        let content_type = self.content_type.as_deref();
        let (kind, bytes) = match assemble::assemble(content_type, &self.bytes) {
            Some(answer) => ("application/json", answer),
            None => match assemble::readable(content_type, &self.bytes) {
                Some(text) => ("text/event-stream", text),
                None => return self,
            },
        };
        Self {
            content_type: Some(kind.to_owned()),
            bytes: match redacts {
                true => redact(&bytes).into_owned(),
                false => bytes,
            },
        }
    }

    /// Its beginning, and whether that is all of it.
    pub(super) fn head(&self) -> (String, bool) {
        let head = &self.bytes[..self.bytes.len().min(LOG_HEAD_BYTES)];
        let text = String::from_utf8_lossy(head).into_owned();
        (text, head.len() == self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_came_in_pieces_is_taken_out_of_the_whole() {
        let chunk = |text: &str| {
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
            )
        };
        let body = || StoredBody {
            content_type: Some("text/event-stream".to_owned()),
            bytes: ["use sk-abcdefgh", "ijklmnopqrstuvwx", " now"]
                .map(chunk)
                .concat()
                .into_bytes(),
        };
        assert!(body().is_stream());
        let text = |redacts| String::from_utf8(body().readable(redacts).bytes).expect("text");
        assert!(text(true).contains("use [redacted] now"), "{}", text(true));
        assert!(text(false).contains("use sk-abcdefghijklmnopqrstuvwx now"));
        let plain = StoredBody {
            content_type: Some("text/plain".to_owned()),
            bytes: vec![b'x'; LOG_HEAD_BYTES + 1],
        };
        assert!(!plain.is_stream());
        assert_eq!(plain.clone().readable(true), plain);
        assert_eq!(plain.head(), ("x".repeat(LOG_HEAD_BYTES), false));
    }
}
