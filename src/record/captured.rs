//! The bodies of a request and of its answer, as far as they are kept for the log: within a bound each, and all together.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::http::eventstream;
use crate::limits::{CAPTURED_BYTES_MAX, CAPTURED_TOTAL_MAX};

/// Bytes of all kept bodies, from the first copy until the log has stored them. Of the whole process: bodies are let go by
/// other threads than those that kept them, and a reference to it in each would cost more than the count itself.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Both bodies.
#[derive(Debug, Default)]
pub struct Captured {
    /// As the client sent it.
    pub request: CapturedBody,
    /// As the client got it.
    pub response: CapturedBody,
}

impl Captured {
    /// Bytes held in memory.
    pub fn held(&self) -> usize {
        self.request.held + self.response.held
    }
}

/// One body.
#[derive(Debug, Default)]
pub struct CapturedBody {
    kept: Kept,
    /// The content coding to be undone.
    coding: Option<Box<str>>,
    /// Bytes taken of what all may hold.
    held: usize,
}

#[derive(Debug)]
enum Kept {
    /// Copied as it went by.
    Copy(Vec<u8>),
    /// Shared: it was in memory as a whole.
    Shared(Bytes),
    /// It is none that is kept.
    Unwanted,
    /// It is let go as a whole: a part of it would be taken for all of it.
    Lost(Loss),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Copy(Vec::new())
    }
}

/// Why a body is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is larger than what is kept of one.
    TooLarge,
    /// All kept bodies together would be more than there is room for.
    NoRoom,
}

impl CapturedBody {
    /// Says what will come: a body of another kind than text is not kept; of one in a content coding the coding is
    /// remembered.
    pub fn describe(&mut self, content_type: Option<&[u8]>, coding: Option<&[u8]>) {
        if !is_text(content_type) {
            self.kept = Kept::Unwanted;
            return;
        }
        let coding = coding.map(<[u8]>::trim_ascii).unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
            self.coding = Some(String::from_utf8_lossy(coding).into());
        }
    }

    /// Says how long it will be: one that is too large is then not copied at all.
    pub fn expect(&mut self, length: u64) {
        match usize::try_from(length) {
            Ok(length) if length <= CAPTURED_BYTES_MAX => self.reserve(length),
            _ => self.lose(Loss::TooLarge),
        }
    }

    /// Copies what comes next.
    #[inline]
    pub fn copy(&mut self, run: &[u8]) {
        let Kept::Copy(bytes) = &mut self.kept else {
            return;
        };
        let length = bytes.len() + run.len();
        if length <= self.held {
            bytes.extend_from_slice(run);
        } else {
            self.grow(length, run);
        }
    }

    #[cold]
    fn grow(&mut self, length: usize, run: &[u8]) {
        if length > CAPTURED_BYTES_MAX {
            return self.lose(Loss::TooLarge);
        }
        self.reserve(length.max(self.held * 2).min(CAPTURED_BYTES_MAX));
        if let Kept::Copy(bytes) = &mut self.kept {
            bytes.extend_from_slice(run);
        }
    }

    fn reserve(&mut self, length: usize) {
        let Kept::Copy(bytes) = &mut self.kept else {
            return;
        };
        let more = length.saturating_sub(self.held);
        if !take(more) {
            return self.lose(Loss::NoRoom);
        }
        self.held += more;
        bytes.reserve_exact(length - bytes.len());
    }

    /// Keeps a body that is in memory as a whole, without a copy.
    pub fn share(&mut self, whole: Bytes) {
        if !self.is_wanted() || whole.is_empty() {
            return;
        }
        self.let_go();
        if whole.len() > CAPTURED_BYTES_MAX {
            self.lose(Loss::TooLarge);
        } else if !take(whole.len()) {
            self.lose(Loss::NoRoom);
        } else {
            self.held = whole.len();
            self.kept = Kept::Shared(whole);
        }
    }

    /// Whether more of it is to be kept.
    pub fn is_wanted(&self) -> bool {
        matches!(self.kept, Kept::Copy(_) | Kept::Shared(_))
    }

    /// What is kept; nothing where the body was empty or is not kept.
    pub fn bytes(&self) -> &[u8] {
        match &self.kept {
            Kept::Copy(bytes) => bytes,
            Kept::Shared(bytes) => bytes,
            Kept::Unwanted | Kept::Lost(_) => &[],
        }
    }

    /// The content coding that it is in.
    pub fn coding(&self) -> Option<&str> {
        self.coding.as_deref()
    }

    /// Bytes held in memory.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Why it is not kept although it was wanted.
    pub fn loss(&self) -> Option<Loss> {
        match self.kept {
            Kept::Lost(loss) => Some(loss),
            _ => None,
        }
    }

    fn lose(&mut self, loss: Loss) {
        if self.is_wanted() {
            self.let_go();
            self.kept = Kept::Lost(loss);
        }
    }

    fn let_go(&mut self) {
        self.kept = Kept::default();
        if self.held > 0 {
            HELD.fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
        }
    }
}

impl Drop for CapturedBody {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Takes so many bytes of what all may hold; `false`: there are not as many.
fn take(bytes: usize) -> bool {
    let room = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes <= CAPTURED_TOTAL_MAX;
    if !room {
        HELD.fetch_sub(bytes, Ordering::Relaxed);
    }
    room
}

/// Whether people can read a body of that type: text, JSON and what frames them. A body without a type is taken for JSON, as
/// requests without one are.
pub fn is_text(content_type: Option<&[u8]>) -> bool {
    const OTHERS: [&[u8]; 8] = [
        b"application/json",
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/x-jsonlines",
        b"application/xml",
        b"application/x-www-form-urlencoded",
        eventstream::CONTENT_TYPE.as_bytes(),
    ];
    let Some(content_type) = content_type else {
        return true;
    };
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let kind = content_type[..end].trim_ascii();
    let ends_with = |suffix: &[u8]| {
        let at = kind.len().saturating_sub(suffix.len());
        kind[at..].eq_ignore_ascii_case(suffix)
    };
    kind.is_empty()
        || OTHERS.iter().any(|other| kind.eq_ignore_ascii_case(other))
        || kind
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
        || ends_with(b"+json")
        || ends_with(b"+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_beyond_the_bound_is_let_go_as_a_whole() {
        let mut body = CapturedBody::default();
        body.copy(b"one ");
        body.copy(b"");
        body.copy(b"two");
        assert_eq!((body.bytes(), body.loss()), (&b"one two"[..], None));
        body.copy(&vec![0; CAPTURED_BYTES_MAX - 7]);
        assert_eq!(body.loss(), None);
        body.copy(b"x");
        body.copy(b"y");
        assert_eq!(
            (body.bytes(), body.loss(), body.held()),
            (&b""[..], Some(Loss::TooLarge), 0)
        );
        let mut stated = CapturedBody::default();
        stated.expect(CAPTURED_BYTES_MAX as u64 + 1);
        stated.copy(b"x");
        assert_eq!(
            (stated.bytes(), stated.loss()),
            (&b""[..], Some(Loss::TooLarge))
        );
        let mut shared = CapturedBody::default();
        shared.share(Bytes::from(vec![0; CAPTURED_BYTES_MAX + 1]));
        assert_eq!(shared.loss(), Some(Loss::TooLarge));
    }

    #[test]
    fn all_together_are_bounded_and_what_is_dropped_makes_room() {
        let whole = Bytes::from(vec![7; CAPTURED_BYTES_MAX]);
        let shared = || {
            let mut body = CapturedBody::default();
            body.share(whole.clone());
            body
        };
        let most = CAPTURED_TOTAL_MAX / CAPTURED_BYTES_MAX;
        let mut bodies: Vec<CapturedBody> = (0..=most).map(|_| shared()).collect();
        let last = bodies.pop().expect("one more");
        assert_eq!((last.loss(), last.held()), (Some(Loss::NoRoom), 0));
        let mut copied = CapturedBody::default();
        copied.copy(&whole);
        assert_eq!(copied.loss(), Some(Loss::NoRoom));
        bodies.clear();
        let mut copied = CapturedBody::default();
        copied.copy(&whole);
        assert_eq!((copied.loss(), copied.bytes().len()), (None, whole.len()));
    }

    #[test]
    fn what_people_cannot_read_is_not_kept() {
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/event-stream",
            "TEXT/plain",
            "application/problem+json",
            "application/vnd.amazon.eventstream",
            "application/x-ndjson",
            "",
        ] {
            assert!(is_text(Some(kind.as_bytes())), "{kind}");
        }
        for kind in [
            "multipart/form-data; boundary=x",
            "audio/mpeg",
            "image/png",
            "application/octet-stream",
            "text",
            "json",
        ] {
            assert!(!is_text(Some(kind.as_bytes())), "{kind}");
        }
        let mut body = CapturedBody::default();
        body.describe(Some(b"audio/mpeg"), None);
        body.expect(3);
        body.copy(b"abc");
        body.share(Bytes::from_static(b"abc"));
        assert_eq!(
            (body.bytes(), body.held(), body.loss()),
            (&b""[..], 0, None)
        );
        let mut coded = CapturedBody::default();
        coded.describe(None, Some(b" gzip"));
        assert!(coded.is_wanted() && coded.coding() == Some("gzip"));
        let mut plain = CapturedBody::default();
        plain.describe(Some(b"text/plain"), Some(b"identity"));
        assert_eq!(plain.coding(), None);
    }
}
