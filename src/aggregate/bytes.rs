//! Cells as bytes, for a database: numbers as LEB128, of which a later version may write more.

use super::{Cell, Latencies};
use crate::meter::cost::Money;

/// The numbers in the order in which they are stored: only ever longer.
macro_rules! in_order {
    ($cell:ident $(, $mutable:tt)?) => {
        [
            &$($mutable)? $cell.requests,
            &$($mutable)? $cell.errors,
            &$($mutable)? $cell.cached,
            &$($mutable)? $cell.tokens_in,
            &$($mutable)? $cell.tokens_out,
            &$($mutable)? $cell.cache_read,
            &$($mutable)? $cell.cache_write,
            &$($mutable)? $cell.reasoning,
            &$($mutable)? $cell.cached_in,
            &$($mutable)? $cell.cached_out,
            &$($mutable)? $cell.unpriced,
            &$($mutable)? $cell.rate_limited,
            &$($mutable)? $cell.blocked,
            &$($mutable)? $cell.retries,
            &$($mutable)? $cell.fallbacks,
            &$($mutable)? $cell.duration_sum,
            &$($mutable)? $cell.last,
        ]
    };
}

impl Cell {
    /// As bytes: how many numbers, the numbers, the two amounts, how many histograms, each with its length.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = self.numbers();
        let mut out = Vec::with_capacity(64);
        write_varint(&mut out, numbers.len() as u64);
        for number in numbers {
            write_varint(&mut out, number);
        }
        for amount in [self.cost, self.cost_saved] {
            // No cost is below nothing.
            let pico = amount.0.max(0) as u128;
            write_varint(&mut out, (pico >> 64) as u64);
            write_varint(&mut out, pico as u64);
        }
        let histograms = self.histograms();
        write_varint(&mut out, histograms.len() as u64);
        for histogram in histograms {
            let bytes = histogram.encode();
            write_varint(&mut out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Reads [`Self::encode`], with the histograms where they are wanted; `None` for bytes that it does not make.
    pub fn decode(mut bytes: &[u8], latencies: bool) -> Option<Self> {
        let bytes = &mut bytes;
        let mut cell = Self::default();
        let count = read_varint(bytes)?;
        let places = cell.numbers_mut();
        let known = places.len() as u64;
        for place in places.into_iter().take(count.min(known) as usize) {
            *place = read_varint(bytes)?;
        }
        for _ in known..count {
            read_varint(bytes)?;
        }
        for amount in [&mut cell.cost, &mut cell.cost_saved] {
            let high = u128::from(read_varint(bytes)?);
            let pico = high << 64 | u128::from(read_varint(bytes)?);
            *amount = Money(i128::try_from(pico).unwrap_or(i128::MAX));
        }
        let count = read_varint(bytes)?;
        for index in 0..count {
            let length = usize::try_from(read_varint(bytes)?).ok()?;
            let (encoded, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            let place = cell.histograms_mut().into_iter().nth(index as usize);
            if let Some(place) = place.filter(|_| latencies) {
                *place = Latencies::decode(encoded)?;
            }
        }
        bytes.is_empty().then_some(cell)
    }

    fn numbers(&self) -> [u64; 17] {
        let cell = self;
        in_order!(cell).map(|number| *number)
    }

    fn numbers_mut(&mut self) -> [&mut u64; 17] {
        let cell = self;
        in_order!(cell, mut)
    }

    fn histograms(&self) -> [&Latencies; 5] {
        [
            &self.duration,
            &self.first_byte,
            &self.own,
            &self.connect,
            &self.upstream,
        ]
    }

    fn histograms_mut(&mut self) -> [&mut Latencies; 5] {
        [
            &mut self.duration,
            &mut self.first_byte,
            &mut self.own,
            &mut self.connect,
            &mut self.upstream,
        ]
    }
}

/// Appends a number, seven bits a byte.
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front.
pub(super) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cell_comes_back_whole_or_without_its_histograms() {
        let mut cell = Cell {
            requests: 3,
            tokens_in: u64::MAX,
            cost: Money(i128::MAX),
            cost_saved: Money(5_000_000_000_000),
            duration_sum: 7,
            ..Cell::default()
        };
        cell.duration.record(40);
        cell.upstream.record(1_000_000);
        let bytes = cell.encode();
        assert_eq!(Cell::decode(&bytes, true), Some(cell.clone()));
        let bare = Cell {
            duration: Latencies::default(),
            upstream: Latencies::default(),
            ..cell
        };
        assert_eq!(Cell::decode(&bytes, false), Some(bare));
        assert_eq!(Cell::decode(&bytes[..bytes.len() - 1], true), None);
    }

    #[test]
    fn what_an_earlier_or_a_later_version_wrote_is_read() {
        // Two numbers and one histogram, then eighteen and six.
        assert_eq!(
            Cell::decode(&[2, 9, 4, 0, 5, 0, 0, 1, 0], true),
            Some(Cell {
                requests: 9,
                errors: 4,
                cost: Money(5),
                ..Cell::default()
            })
        );
        let mut later = vec![18];
        later.extend([1; 18]);
        later.extend([0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 2, 1, 1]);
        assert_eq!(
            Cell::decode(&later, true).map(|cell| cell.duration_sum),
            Some(1)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Some(cell) = Cell::decode(&bytes, true) {
                prop_assert_eq!(Cell::decode(&cell.encode(), true), Some(cell));
            }
        }
    }
}
