//! How a stored answer lies on disk: a head of fixed length with a checksum of its own, and behind it what the checksum in the head
//! covers. A bit that flipped anywhere makes no answer.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Told};
use super::key::Key;
use crate::limits::{CACHED_BODY_MAX, CACHED_LINES_MAX, CACHED_TOLD_MAX};
use crate::meter::Usage;
use crate::meter::cost::Money;

/// Bytes of a head.
pub(super) const HEAD: usize = 72;
const MARK: &[u8; 4] = b"RGA1";

/// A head, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub key: Key,
    pub stored: u64,
    pub until: u64,
    told: u32,
    lines: u32,
    body: u32,
    sum: u32,
}

impl Head {
    /// Bytes that follow the head.
    pub fn rest(&self) -> usize {
        self.told as usize + self.lines as usize + self.body as usize
    }

    /// Reads a head; `None`: there is none.
    pub fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let (mark, rest) = bytes.split_at(4);
        let (sum, rest) = rest.split_at(4);
        if mark != MARK || sum != crc32fast::hash(rest).to_le_bytes() {
            return None;
        }
        let (key, rest) = rest.split_at(32);
        let long = |at: usize| rest[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let short = |at: usize| rest[at..at + 4].try_into().ok().map(u32::from_le_bytes);
        let head = Self {
            key: Key::from_bytes(key.try_into().ok()?),
            stored: long(0)?,
            until: long(8)?,
            told: short(16)?,
            lines: short(20)?,
            body: short(24)?,
            sum: short(28)?,
        };
        let fits = head.told as usize <= CACHED_TOLD_MAX
            && head.lines as usize <= CACHED_LINES_MAX
            && head.body as usize <= CACHED_BODY_MAX;
        fits.then_some(head)
    }

    fn write(&self) -> [u8; HEAD] {
        let mut rest = Vec::with_capacity(HEAD - 8);
        rest.extend_from_slice(self.key.bytes());
        rest.extend_from_slice(&self.stored.to_le_bytes());
        rest.extend_from_slice(&self.until.to_le_bytes());
        for number in [self.told, self.lines, self.body, self.sum] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(MARK);
        bytes[4..8].copy_from_slice(&crc32fast::hash(&rest).to_le_bytes());
        bytes[8..].copy_from_slice(&rest);
        bytes
    }

    /// The answer in what follows the head; `None`: it is not what was written.
    pub fn answer(&self, rest: Bytes) -> Option<Answer> {
        if rest.len() != self.rest() || crc32fast::hash(&rest) != self.sum {
            return None;
        }
        let told = read_told(&rest[..self.told as usize])?;
        let lines = rest.slice(self.told as usize..(self.told + self.lines) as usize);
        let body = rest.slice((self.told + self.lines) as usize..);
        Some(Answer {
            lines,
            pieces: vec![body],
            stored: self.stored,
            until: self.until,
            told,
        })
    }
}

/// The head of an answer, and what stands between it and the pieces of the body. `None`: it is too large for a frame.
pub(super) fn begin(key: Key, answer: &Answer) -> Option<(Head, Vec<u8>)> {
    let told = write_told(&answer.told);
    let body = answer.length();
    if told.len() > CACHED_TOLD_MAX
        || answer.lines.len() > CACHED_LINES_MAX
        || body > CACHED_BODY_MAX
    {
        return None;
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&told);
    sum.update(&answer.lines);
    answer.pieces.iter().for_each(|piece| sum.update(piece));
    let head = Head {
        key,
        stored: answer.stored,
        until: answer.until,
        told: told.len() as u32,
        lines: answer.lines.len() as u32,
        body: body as u32,
        sum: sum.finalize(),
    };
    let mut bytes = Vec::with_capacity(HEAD + told.len() + answer.lines.len());
    bytes.extend_from_slice(&head.write());
    bytes.extend_from_slice(&told);
    bytes.extend_from_slice(&answer.lines);
    Some((head, bytes))
}

fn write_told(told: &Told) -> Vec<u8> {
    let usage = told.usage.map(|usage| {
        json!([
            usage.input,
            usage.output,
            usage.cached_input,
            usage.cache_write,
            usage.reasoning,
            usage.total,
        ])
    });
    json!({
        "provider": &*told.provider,
        "revision": told.revision,
        "model": told.model,
        "answered_model": told.answered_model,
        "usage": usage,
        "cost": told.cost.map(|cost| cost.0.to_string()),
    })
    .to_string()
    .into_bytes()
}

fn read_told(bytes: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| value[name].as_str().map(Box::from);
    let count = |at: usize| value["usage"][at].as_u64();
    let usage = match &value["usage"] {
        Value::Null => None,
        _ => Some(Usage {
            input: count(0)?,
            output: count(1)?,
            cached_input: count(2)?,
            cache_write: count(3)?,
            reasoning: count(4)?,
            total: count(5)?,
        }),
    };
    Some(Told {
        provider: Arc::from(value["provider"].as_str()?),
        revision: value["revision"].as_u64()?,
        model: text("model"),
        answered_model: text("answered_model"),
        usage,
        cost: match value["cost"].as_str() {
            Some(digits) => Some(Money(digits.parse().ok()?)),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::cache::tests::{answer, key};

    fn framed(answer: &Answer) -> Vec<u8> {
        let (_, mut bytes) = begin(key(7), answer).expect("fits");
        bytes.extend_from_slice(&answer.pieces.concat());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        let head = Head::read(bytes.first_chunk()?)?;
        assert_eq!(head.key, key(7));
        head.answer(Bytes::copy_from_slice(&bytes[HEAD..]))
    }

    fn priced() -> Answer {
        let mut answer = answer(b"a body", 1000, 2000);
        answer.told.model = Some("m".into());
        answer.told.cost = Some(Money(-12_345_678_901_234_567_890_123));
        answer.told.usage = Some(Usage {
            input: 1,
            output: 2,
            cached_input: 3,
            cache_write: 4,
            reasoning: 5,
            total: u64::MAX,
        });
        answer
    }

    #[test]
    fn an_answer_comes_back_as_it_went() {
        for answer in [answer(b"", 0, 1), answer(b"a body", 1000, 2000), priced()] {
            let back = read(&framed(&answer)).expect("the same");
            assert_eq!(back.pieces.concat(), answer.pieces.concat());
            let pieces = answer.pieces.clone();
            assert_eq!(Answer { pieces, ..back }, answer);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_no_answer() {
        let bytes = framed(&priced());
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let head = Head::read(flipped.first_chunk().expect("a head"));
            let answer =
                head.and_then(|head| head.answer(Bytes::copy_from_slice(&flipped[HEAD..])));
            assert_eq!(answer, None, "bit {at}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1]), None);
    }
}
