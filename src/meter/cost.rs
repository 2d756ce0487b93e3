//! What an answer costs (spec: providers 1.8, data plane 8.3, resolutions 14): whole numbers throughout, rounded once at the end.

use std::fmt;
use std::ops::{Add, AddAssign};

use serde::Deserialize;

use super::usage::Usage;

/// Pico-dollars: 1e-12 USD. Sums saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub i128);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    const PER_DOLLAR: f64 = 1e12;

    /// Of an amount in dollars; `None` where it is not finite, negative, or more than a log could sum.
    pub fn of_dollars(dollars: f64) -> Option<Self> {
        let pico = (dollars * Self::PER_DOLLAR).round();
        (0.0..=1e30).contains(&pico).then_some(Self(pico as i128))
    }

    /// For the edge, where amounts are JSON numbers.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / Self::PER_DOLLAR
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// In dollars, exactly: `0.00035`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, rest) = (amount / 1_000_000_000_000, amount % 1_000_000_000_000);
        let digits = format!("{rest:012}");
        match digits.trim_end_matches('0') {
            "" => write!(formatter, "{sign}{whole}"),
            digits => write!(formatter, "{sign}{whole}.{digits}"),
        }
    }
}

/// The price of one unit in attodollars (1e-18 USD): fine enough for any documented price and for what operators set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(i128);

impl Rate {
    /// Dollars for one unit; `None` where it is not finite, negative or absurd.
    pub fn of_dollars(dollars: f64) -> Option<Self> {
        let atto = (dollars * 1e18).round();
        (0.0..=1e30).contains(&atto).then_some(Self(atto as i128))
    }

    /// Dollars for a million units, as price lists state them.
    pub fn of_dollars_per_million(dollars: f64) -> Option<Self> {
        let atto = (dollars * 1e12).round();
        (0.0..=1e30).contains(&atto).then_some(Self(atto as i128))
    }

    fn times(self, units: u64) -> i128 {
        self.0.saturating_mul(i128::from(units))
    }
}

/// What one model costs. A rate that is not there is not charged apart: its units go at the rate of what they are part of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// A token of the prompt.
    pub input: Option<Rate>,
    /// A generated token.
    pub output: Option<Rate>,
    /// A prompt token read from a cache; else `input`.
    pub cache_read: Option<Rate>,
    /// A prompt token written to a cache for minutes; else `input`.
    pub cache_write: Option<Rate>,
    /// A prompt token written to a cache for an hour; else `cache_write`.
    pub cache_write_long: Option<Rate>,
    /// A generated token of thought; else `output`.
    pub reasoning: Option<Rate>,
    /// A token of sound in the prompt; else `input`.
    pub audio_input: Option<Rate>,
    /// A generated token of sound; else `output`.
    pub audio_output: Option<Rate>,
    /// A token of pictures in the prompt; else `input`.
    pub image_input: Option<Rate>,
    /// A generated token of pictures; else `output`.
    pub image_output: Option<Rate>,
    /// A search that the provider ran.
    pub search: Option<Rate>,
    /// The request itself.
    pub request: Option<Rate>,
    /// Of the tiers that begin below the prompt's tokens the last one replaces the rates it names, for the whole request.
    pub tiers: Vec<Tier>,
    /// Most tokens the model generates.
    pub max_output: Option<u64>,
}

/// Rates of large prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tier {
    /// For prompts of more tokens than this, cached ones included.
    pub above: u64,
    /// As in [`Price`].
    pub input: Option<Rate>,
    /// As in [`Price`].
    pub output: Option<Rate>,
    /// As in [`Price`].
    pub cache_read: Option<Rate>,
    /// As in [`Price`].
    pub cache_write: Option<Rate>,
}

/// What an answer states beside its tokens and that changes its cost. All counts are parts of [`Usage`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// Of what was written to a cache: for an hour.
    pub cache_write_long: u64,
    /// Of the prompt, not from a cache: sound.
    pub audio_input: u64,
    /// Of the generated tokens: sound.
    pub audio_output: u64,
    /// Of the prompt: pictures.
    pub image_input: u64,
    /// Of the generated tokens: pictures.
    pub image_output: u64,
    /// Searches that the provider ran.
    pub searches: u64,
    /// What is charged, where that is not what was counted (Cohere): prompt and generated tokens.
    pub billed: Option<(u64, u64)>,
    /// The provider's own price, which wins.
    pub stated: Option<Money>,
}

impl Price {
    /// What the answer costs. `None`: the price says nothing about tokens, and the provider stated none.
    pub fn cost(&self, usage: &Usage, extras: &Extras) -> Option<Money> {
        if let Some(stated) = extras.stated {
            return Some(stated);
        }
        let priced = self.input.is_some() || self.output.is_some() || self.request.is_some();
        if !priced {
            return None;
        }
        let rates = self.at(usage.input);
        let other = rates.search.unwrap_or_default().times(extras.searches);
        let other = other.saturating_add(rates.request.unwrap_or_default().times(1));
        let tokens = match extras.billed {
            // What is billed leaves out the cached and the scaffolding already: nothing is to be subtracted.
            Some((input, output)) => {
                let input = rates.input.unwrap_or_default().times(input);
                input.saturating_add(rates.output.unwrap_or_default().times(output))
            }
            None => rates
                .prompt(usage, extras)
                .saturating_add(rates.generated(usage, extras)),
        };
        Some(rounded(tokens.saturating_add(other)))
    }

    /// The rates for a prompt of so many tokens.
    fn at(&self, prompt: u64) -> Self {
        let reached = self.tiers.iter().filter(|tier| tier.above < prompt);
        let Some(tier) = reached.max_by_key(|tier| tier.above) else {
            return Self {
                tiers: Vec::new(),
                ..self.clone()
            };
        };
        Self {
            input: tier.input.or(self.input),
            output: tier.output.or(self.output),
            cache_read: tier.cache_read.or(self.cache_read),
            cache_write: tier.cache_write.or(self.cache_write),
            // A tier that raises the short write and is silent about the long one raises that in proportion.
            cache_write_long: match (self.cache_write_long, self.cache_write, tier.cache_write) {
                (Some(long), Some(short), Some(raised)) if short.0 > 0 => {
                    Some(Rate(long.0.saturating_mul(raised.0) / short.0))
                }
                (long, ..) => long,
            },
            tiers: Vec::new(),
            ..self.clone()
        }
    }

    fn prompt(&self, usage: &Usage, extras: &Extras) -> i128 {
        let input = self.input.unwrap_or_default();
        let short = self.cache_write.unwrap_or(input);
        let long = self.cache_write_long.unwrap_or(short);
        let written_long = extras.cache_write_long.min(usage.cache_write);
        let cached = usage.cached_input.saturating_add(usage.cache_write);
        let mut fresh = usage.input.saturating_sub(cached);
        let mut part = |count: u64, rate: Option<Rate>| {
            let count = count.min(fresh);
            fresh -= count;
            rate.unwrap_or(input).times(count)
        };
        let audio = part(extras.audio_input, self.audio_input);
        let images = part(extras.image_input, self.image_input);
        [
            input.times(fresh),
            audio,
            images,
            self.cache_read.unwrap_or(input).times(usage.cached_input),
            short.times(usage.cache_write - written_long),
            long.times(written_long),
        ]
        .into_iter()
        .fold(0, i128::saturating_add)
    }

    fn generated(&self, usage: &Usage, extras: &Extras) -> i128 {
        let output = self.output.unwrap_or_default();
        let mut text = usage.output;
        let mut part = |count: u64, rate: Option<Rate>| {
            let count = count.min(text);
            text -= count;
            rate.unwrap_or(output).times(count)
        };
        let audio = part(extras.audio_output, self.audio_output);
        let images = part(extras.image_output, self.image_output);
        let thoughts = part(usage.reasoning, self.reasoning);
        let parts = [audio, images, thoughts];
        parts
            .into_iter()
            .fold(output.times(text), i128::saturating_add)
    }
}

/// A price that a caller names for one request: the header `cf-aig-custom-cost` (spec: data plane 8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomCost {
    /// Whatever was used.
    Total(Money),
    /// By the token.
    Tokens(Box<Price>),
}

/// The header's JSON. Members that nobody knows are left for later versions.
#[derive(Deserialize)]
struct CustomRates {
    total_cost: Option<f64>,
    per_token_in: Option<f64>,
    per_token_out: Option<f64>,
    per_cache_read_token: Option<f64>,
    per_cache_write_token: Option<f64>,
}

impl CustomCost {
    /// Reads the header's value; `None` where it says nothing that can be charged.
    pub fn read(header: &[u8]) -> Option<Self> {
        let rates: CustomRates = serde_json::from_slice(header).ok()?;
        if let Some(total) = rates.total_cost {
            return Money::of_dollars(total).map(Self::Total);
        }
        let rate = |dollars: Option<f64>| dollars.map(Rate::of_dollars);
        let all = [
            rate(rates.per_token_in),
            rate(rates.per_token_out),
            rate(rates.per_cache_read_token),
            rate(rates.per_cache_write_token),
        ];
        // One rate that makes no sense spoils the whole: half a price is a wrong one.
        let is_wrong = all.iter().any(|rate| matches!(rate, Some(None)));
        let [input, output, cache_read, cache_write] = all.map(Option::flatten);
        let is_empty = input.or(output).or(cache_read).or(cache_write).is_none();
        (!is_wrong && !is_empty).then(|| {
            Self::Tokens(Box::new(Price {
                input: input.or(Some(Rate::default())),
                output,
                cache_read,
                cache_write,
                ..Price::default()
            }))
        })
    }

    /// What the answer costs.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        match self {
            Self::Total(total) => Some(*total),
            Self::Tokens(price) => price.cost(usage, &Extras::default()),
        }
    }
}

fn rounded(atto: i128) -> Money {
    const PICO: i128 = 1_000_000;
    Money(atto.saturating_add(PICO / 2) / PICO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(dollars: f64) -> Option<Rate> {
        Rate::of_dollars_per_million(dollars)
    }

    fn usage(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Usage {
        Usage {
            input,
            output,
            cached_input: cached,
            cache_write: written,
            reasoning,
            total: input.saturating_add(output),
        }
    }

    fn claude() -> Price {
        Price {
            input: rate(3.0),
            output: rate(15.0),
            cache_read: rate(0.3),
            cache_write: rate(3.75),
            cache_write_long: rate(6.0),
            search: Rate::of_dollars(0.01),
            tiers: vec![Tier {
                above: 200_000,
                input: rate(6.0),
                output: rate(22.5),
                cache_read: rate(0.6),
                cache_write: rate(7.5),
            }],
            ..Price::default()
        }
    }

    #[test]
    fn money_is_shown_and_read_exactly() {
        for (pico, shown) in [
            (0, "0"),
            (1, "0.000000000001"),
            (350_000_000, "0.00035"),
            (1_000_000_000_000, "1"),
            (-2_500_000_000_000, "-2.5"),
        ] {
            assert_eq!(Money(pico).to_string(), shown);
        }
        assert_eq!(Money::of_dollars(0.00035), Some(Money(350_000_000)));
        assert_eq!(Money::of_dollars(0.1), Some(Money(100_000_000_000)));
        for wrong in [f64::NAN, f64::INFINITY, -0.1, 1e40] {
            assert_eq!(Money::of_dollars(wrong), None);
            assert_eq!(Rate::of_dollars(wrong), None);
        }
        assert_eq!(Money(i128::MAX) + Money(1), Money(i128::MAX));
    }

    #[test]
    fn every_part_goes_at_its_own_rate() {
        let none = Extras::default();
        let price = claude();
        let micro = |micros: i128| Some(Money(micros * 1_000_000));
        // 1000 in, 600 read, 200 written: 200 fresh.
        let cost = price.cost(&usage(1000, 600, 200, 100, 0), &none);
        assert_eq!(cost, micro(200 * 3 + 180 + 750 + 100 * 15));
        let long = Extras {
            cache_write_long: 50,
            ..none
        };
        let cost = price.cost(&usage(1000, 600, 200, 0, 0), &long);
        assert_eq!(
            cost,
            Some(Money(
                (200 * 3_000_000) + 180_000_000 + 150 * 3_750_000 + 50 * 6_000_000
            ))
        );
        let searched = Extras {
            searches: 2,
            ..none
        };
        assert_eq!(price.cost(&usage(0, 0, 0, 0, 0), &searched), micro(20_000));
    }

    #[test]
    fn large_prompts_reach_their_tier_as_a_whole() {
        let none = Extras::default();
        let price = claude();
        let at = price
            .cost(&usage(200_000, 0, 0, 10, 0), &none)
            .expect("a price");
        assert_eq!(at, Money(200_000 * 3_000_000 + 10 * 15_000_000));
        let above = price
            .cost(&usage(200_001, 150_000, 1, 10, 0), &none)
            .expect("a price");
        let expected = 50_000 * 6_000_000 + 150_000 * 600_000 + 7_500_000 + 10 * 22_500_000;
        assert_eq!(above, Money(expected));
        let long = Extras {
            cache_write_long: 1,
            ..none
        };
        let above = price
            .cost(&usage(200_001, 150_000, 1, 10, 0), &long)
            .expect("a price");
        assert_eq!(above, Money(expected + 4_500_000));
    }

    #[test]
    fn thoughts_sound_and_pictures_are_parts_and_not_more() {
        let price = Price {
            input: rate(2.0),
            output: rate(8.0),
            reasoning: rate(3.0),
            audio_input: rate(40.0),
            audio_output: rate(80.0),
            ..Price::default()
        };
        let extras = Extras {
            audio_input: 10,
            audio_output: 5,
            image_input: 7,
            ..Extras::default()
        };
        let cost = price
            .cost(&usage(100, 0, 0, 50, 20), &extras)
            .expect("a price");
        let expected = 90 * 2 + 10 * 40 + 25 * 8 + 5 * 80 + 20 * 3;
        assert_eq!(cost, Money(expected * 1_000_000));
        // More sound than there is prompt is no reason to charge more than the prompt.
        let absurd = Extras {
            audio_input: 1000,
            ..Extras::default()
        };
        let cost = price
            .cost(&usage(100, 0, 0, 0, 0), &absurd)
            .expect("a price");
        assert_eq!(cost, Money(100 * 40 * 1_000_000));
    }

    #[test]
    fn what_the_provider_states_and_bills_comes_first() {
        let stated = Extras {
            stated: Some(Money(5)),
            ..Extras::default()
        };
        assert_eq!(
            claude().cost(&usage(1, 0, 0, 1, 0), &stated),
            Some(Money(5))
        );
        assert_eq!(
            Price::default().cost(&usage(1, 0, 0, 1, 0), &stated),
            Some(Money(5))
        );
        assert_eq!(
            Price::default().cost(&usage(1, 0, 0, 1, 0), &Extras::default()),
            None
        );
        let cohere = Price {
            input: rate(2.5),
            output: rate(10.0),
            ..Price::default()
        };
        let billed = Extras {
            billed: Some((33, 22)),
            ..Extras::default()
        };
        let cost = cohere.cost(&usage(1452, 144, 0, 33, 0), &billed);
        assert_eq!(cost, Some(Money(33 * 2_500_000 + 22 * 10_000_000)));
    }

    #[test]
    fn callers_name_prices_for_one_request() {
        let used = usage(1000, 600, 200, 10, 0);
        for (header, pico) in [
            (
                r#"{"per_token_in":0.000001,"per_token_out":0.000002}"#,
                Some(1_020_000_000),
            ),
            (
                r#"{"per_token_in":0.000001,"per_token_out":0.000002,"per_cache_read_token":1e-7}"#,
                Some((400 + 60 + 20) * 1_000_000),
            ),
            (r#"{"per_token_out":0.5}"#, Some(5_000_000_000_000)),
            (
                r#"{"total_cost":0.05,"per_token_in":1}"#,
                Some(50_000_000_000),
            ),
            (r#"{"per_token_in":-1}"#, None),
            (r#"{"per_token_in":1e300,"per_token_out":1}"#, None),
            (r#"{"per_token_in":"1"}"#, None),
            ("{}", None),
            ("nonsense", None),
        ] {
            let cost = CustomCost::read(header.as_bytes()).and_then(|custom| custom.cost(&used));
            assert_eq!(cost, pico.map(Money), "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_counts_make_a_negative_cost_or_a_panic(
            counts in proptest::collection::vec(any::<u64>(), 11),
        ) {
            let whole = usage(counts[0], 0, 0, counts[1] , 0);
            let usage = Usage {
                cached_input: counts[2].min(whole.input),
                cache_write: counts[3].min(whole.input - counts[2].min(whole.input)),
                reasoning: counts[4].min(whole.output),
                total: u64::MAX,
                ..whole
            };
            let extras = Extras {
                cache_write_long: counts[5],
                audio_input: counts[6],
                audio_output: counts[7],
                image_input: counts[8],
                image_output: counts[9],
                searches: counts[10],
                ..Extras::default()
            };
            prop_assert!(claude().cost(&usage, &extras) >= Some(Money::ZERO));
        }
    }
}
