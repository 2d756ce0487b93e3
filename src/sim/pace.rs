//! When things happen: seeded draws and the distributions of delays.

use std::time::Duration;

use crate::limits::SIM_DELAY_FACTOR;

/// A small generator (SplitMix64) of our own, so that a seed means the same bytes and delays in every version of every
/// dependency.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Mixes all of `parts` into one starting point.
    pub fn new(parts: &[u64]) -> Self {
        let mut dice = Self(0x5eed_0f51_3a11_0bad);
        for part in parts {
            dice.0 ^= *part;
            dice.0 = dice.roll();
        }
        dice
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 for a bound of 0). The bias of the remainder is far below what a simulator shows.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `length` lower-case letters and digits, as identifiers have them.
    pub fn letters(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..length)
            .map(|_| ALPHABET[self.below(ALPHABET.len() as u64) as usize] as char)
            .collect()
    }
}

/// How a delay scatters round its mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Distribution {
    /// Always the mean.
    #[default]
    Fixed,
    /// Even between nothing and twice the mean.
    Uniform,
    /// Memoryless: many short delays, few long ones.
    Exponential,
    /// The shape that measured model latencies have: sigma 0.6.
    Lognormal,
}

impl Distribution {
    /// One delay with the mean `mean`, at most [`SIM_DELAY_FACTOR`] times as long.
    pub fn draw(self, mean: Duration, dice: &mut Dice) -> Duration {
        let factor = match self {
            Self::Fixed => return mean,
            Self::Uniform => 2.0 * dice.unit(),
            Self::Exponential => -(1.0 - dice.unit()).ln(),
            Self::Lognormal => lognormal(dice),
        };
        mean.mul_f64(factor.clamp(0.0, SIM_DELAY_FACTOR))
    }
}

/// Box-Muller; the location is chosen so that the mean is one.
fn lognormal(dice: &mut Dice) -> f64 {
    const SIGMA: f64 = 0.6;
    let radius = (-2.0 * (1.0 - dice.unit()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * dice.unit()).cos();
    (SIGMA * normal - SIGMA * SIGMA / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_draws() {
        let draws = |seed| {
            let mut dice = Dice::new(&[seed, 7]);
            (0..5).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn every_distribution_keeps_its_mean() {
        let mean = Duration::from_millis(100);
        for distribution in [
            Distribution::Fixed,
            Distribution::Uniform,
            Distribution::Exponential,
            Distribution::Lognormal,
        ] {
            let mut dice = Dice::new(&[3]);
            let total: Duration = (0..20_000)
                .map(|_| distribution.draw(mean, &mut dice))
                .sum();
            let average = total.as_secs_f64() / 20_000.0;
            assert!((average - 0.1).abs() < 0.005, "{distribution:?}: {average}");
        }
    }
}
