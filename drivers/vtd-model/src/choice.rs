//! Where hardware is free to choose, the model asks a [`Chooser`].
//!
//! In the random mode the answer comes from a seeded generator; to learn everything that
//! hardware could do, the same code is run again and again until every combination of
//! answers has been given ([`Explorer`]).

/// Who decides.
pub(crate) enum Chooser<'a> {
    /// A seeded generator.
    Random(&'a mut fastrand::Rng),
    /// Each alternative in turn.
    Explore(&'a mut Explorer),
}

impl Chooser<'_> {
    /// One of `0..count`; `count` is at least 1.
    #[inline]
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        if count <= 1 {
            return 0;
        }
        match self {
            Self::Random(random) => random.usize(..count),
            Self::Explore(explorer) => explorer.pick(count),
        }
    }

    /// True in about `part` of 256 cases at random; both, when exploring.
    #[inline]
    pub(crate) fn likely(&mut self, part: u8) -> bool {
        match self {
            Self::Random(random) => random.u8(..) < part,
            Self::Explore(explorer) => explorer.pick(2) == 0,
        }
    }

    /// Whether every alternative is wanted.
    pub(crate) fn explores(&self) -> bool {
        matches!(self, Self::Explore(_))
    }
}

/// Depth-first search over sequences of choices.
#[derive(Default)]
pub(crate) struct Explorer {
    trail: Vec<(usize, usize)>,
    at: usize,
}

impl Explorer {
    fn pick(&mut self, count: usize) -> usize {
        if self.at == self.trail.len() {
            self.trail.push((0, count));
        }
        let (taken, _) = self.trail[self.at];
        self.at += 1;
        taken
    }

    /// Moves to the next sequence; false when all have been tried.
    pub(crate) fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((taken, count)) = self.trail.pop() {
            if taken + 1 < count {
                self.trail.push((taken + 1, count));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explorer_tries_every_combination_once() {
        let mut explorer = Explorer::default();
        let mut seen = Vec::new();
        loop {
            let mut choose = Chooser::Explore(&mut explorer);
            let first = choose.pick(2);
            let second = if first == 1 { choose.pick(3) } else { 9 };
            seen.push((first, second));
            if !explorer.advance() {
                break;
            }
        }
        assert_eq!(seen, [(0, 9), (1, 0), (1, 1), (1, 2)]);
    }
}
