//! Samples of all changes: one in so many.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, ensure};

/// Every change whose number leaves this remainder, as `cargo-mutants` counts: `0/40` to
/// `39/40` are all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    number: u64,
    of: u64,
}

/// A sample is swept in so many pieces, between which it can stop.
const PIECES: u64 = 4;

impl Shard {
    /// What together is the same.
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        (0..PIECES).map(move |piece| Self {
            number: self.number + self.of * piece,
            of: self.of * PIECES,
        })
    }

    /// One change of so many.
    pub(super) fn one(number: usize, of: usize) -> Self {
        Self {
            number: number as u64,
            of: of as u64,
        }
    }

    pub(super) fn arguments(self) -> Vec<String> {
        let words = ["--sharding", "round-robin", "--shard"].map(str::to_owned);
        words.into_iter().chain([self.to_string()]).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (number, of) = text.split_once('/').context("no `/` between two numbers")?;
        let (number, of) = (number.parse()?, of.parse()?);
        ensure!(number < of, "the first number must be below the second");
        ensure!(of <= 1 << 16, "there are not so many changes");
        Ok(Self { number, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_and_nothing_else() {
        let shard: Shard = "3/40".parse().unwrap();
        for change in 0..1000 {
            let of = |shard: &Shard| change % shard.of == shard.number;
            let pieces = shard.pieces().filter(of).count();
            assert_eq!(pieces, usize::from(of(&shard)));
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        assert!("39/40".parse::<Shard>().is_ok());
        for wrong in ["40/40", "0/0", "1", "-1/4", "a/b", "0/70000"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
