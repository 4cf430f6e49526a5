//! The machines that a test is run on: values along axes, every pair of values together at
//! least once, or every combination.

use std::collections::BTreeSet;
use std::fmt;

use crate::cli::Matrix;
use crate::provision::Suite;
use crate::qemu::Mode;

/// The values that a test allows along each axis, the most usual first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axes {
    pub(crate) modes: Vec<Mode>,
    pub(crate) suites: Vec<Suite>,
    /// Address widths of the unit.
    pub(crate) widths: Vec<u8>,
    pub(crate) caching: Vec<bool>,
    pub(crate) cpus: Vec<u32>,
    /// Back-ends of the guest; one that stands for none where no guest is run.
    pub(crate) guests: Vec<&'static str>,
}

/// For tests without a guest.
pub(crate) const NO_GUEST: &str = "";

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corner {
    pub(crate) mode: Mode,
    pub(crate) suite: Suite,
    pub(crate) width: u8,
    pub(crate) caching: bool,
    pub(crate) cpus: u32,
    pub(crate) guest: &'static str,
}

impl Axes {
    /// What a boot test is run on if it does not say otherwise.
    pub(crate) fn of_boot_tests() -> Self {
        Self {
            modes: Mode::ALL.to_vec(),
            suites: vec![Suite::TrixieBackports, Suite::Trixie],
            widths: vec![48, 39],
            caching: vec![false, true],
            cpus: vec![1, 2],
            guests: vec![NO_GUEST],
        }
    }

    /// What the demonstration is run on.
    pub(crate) fn of_demonstrations() -> Self {
        Self {
            suites: vec![
                Suite::TrixieBackports,
                Suite::Trixie,
                Suite::BookwormBackports,
            ],
            guests: vec!["svm", "direct"],
            ..Self::of_boot_tests()
        }
    }

    /// The first value of each axis.
    pub(crate) fn first(&self) -> Self {
        Self {
            modes: first(&self.modes),
            suites: first(&self.suites),
            widths: first(&self.widths),
            caching: first(&self.caching),
            cpus: first(&self.cpus),
            guests: first(&self.guests),
        }
    }

    /// The combinations to run.
    pub(crate) fn corners(&self, matrix: Matrix) -> Vec<Corner> {
        let all = self.combinations();
        match matrix {
            Matrix::Full => all.iter().map(|choice| self.corner(choice)).collect(),
            Matrix::Pairs => cover_pairs(&all)
                .iter()
                .map(|choice| self.corner(choice))
                .collect(),
        }
    }

    fn combinations(&self) -> Vec<Vec<usize>> {
        let lengths = [
            self.modes.len(),
            self.suites.len(),
            self.widths.len(),
            self.caching.len(),
            self.cpus.len(),
            self.guests.len(),
        ];
        let mut all = vec![Vec::new()];
        for length in lengths {
            all = all
                .into_iter()
                .flat_map(|choice: Vec<usize>| {
                    (0..length).map(move |value| [choice.as_slice(), &[value]].concat())
                })
                .collect();
        }
        all.retain(|choice| self.corner(choice).exists());
        all
    }

    fn corner(&self, choice: &[usize]) -> Corner {
        Corner {
            mode: self.modes[choice[0]],
            suite: self.suites[choice[1]],
            width: self.widths[choice[2]],
            caching: self.caching[choice[3]],
            cpus: self.cpus[choice[4]],
            guest: self.guests[choice[5]],
        }
    }
}

impl Corner {
    /// QEMU offers first-stage translation with 48 bits only.
    fn exists(&self) -> bool {
        self.mode != Mode::FirstStage || self.width == 48
    }
}

impl fmt::Display for Corner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},aw{}", self.mode, self.suite.version(), self.width)?;
        if self.caching {
            f.write_str(",cm")?;
        }
        write!(f, ",{}cpu", self.cpus)?;
        if self.guest != NO_GUEST {
            write!(f, ",{}", self.guest)?;
        }
        Ok(())
    }
}

fn first<T: Clone>(values: &[T]) -> Vec<T> {
    values.iter().take(1).cloned().collect()
}

/// Few of the combinations, such that every pair of values of two axes that comes up in any
/// of them comes up in these: greedily the one that adds most.
fn cover_pairs(all: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut missing: BTreeSet<_> = all.iter().flat_map(|choice| pairs(choice)).collect();
    let mut chosen: Vec<Vec<usize>> = Vec::new();
    // Of a single axis, or none, there are no pairs.
    chosen.extend(all.first().cloned());
    for pair in chosen.iter().flat_map(|choice| pairs(choice)) {
        missing.remove(&pair);
    }
    while !missing.is_empty() {
        let gain =
            |choice: &Vec<usize>| pairs(choice).filter(|pair| missing.contains(pair)).count();
        // `rev`, so that of equals the first is taken.
        let Some(best) = all.iter().rev().max_by_key(|choice| gain(choice)) else {
            break;
        };
        for pair in pairs(best) {
            missing.remove(&pair);
        }
        chosen.push(best.clone());
    }
    chosen
}

/// Pairs of (axis, value).
fn pairs(choice: &[usize]) -> impl Iterator<Item = [(usize, usize); 2]> {
    choice.iter().enumerate().flat_map(move |(axis, &value)| {
        choice
            .iter()
            .enumerate()
            .skip(axis + 1)
            .map(move |(other, &its)| [(axis, value), (other, its)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_comes_up_in_far_fewer_boots_than_combinations() {
        let axes = Axes::of_demonstrations();
        let full = axes.corners(Matrix::Full);
        let few = axes.corners(Matrix::Pairs);
        assert!(
            few.len() * 5 < full.len(),
            "{} of {}",
            few.len(),
            full.len()
        );
        for mode in Mode::ALL {
            for &suite in &axes.suites {
                for &guest in &axes.guests {
                    assert!(
                        few.iter()
                            .any(|corner| corner.mode == mode && corner.guest == guest)
                    );
                    assert!(
                        few.iter()
                            .any(|corner| corner.mode == mode && corner.suite == suite)
                    );
                    assert!(
                        few.iter()
                            .any(|corner| corner.suite == suite && corner.guest == guest)
                    );
                }
            }
        }
        assert!(
            few.iter()
                .any(|corner| corner.width == 39 && corner.caching && corner.cpus == 2)
                || few
                    .iter()
                    .any(|corner| corner.width == 39 && corner.caching)
        );
    }

    #[test]
    fn what_qemu_does_not_offer_is_left_out() {
        let corners = Axes::of_boot_tests().corners(Matrix::Full);
        assert!(
            corners
                .iter()
                .all(|corner| corner.mode != Mode::FirstStage || corner.width == 48)
        );
        assert_eq!(corners.len(), (2 * 2 + 1) * 2 * 2 * 2);
    }

    #[test]
    fn a_test_that_needs_one_machine_gets_one() {
        let axes = Axes::of_boot_tests().first();
        assert_eq!(axes.corners(Matrix::Pairs).len(), 1);
        assert_eq!(
            axes.corners(Matrix::Full)[0].to_string(),
            "legacy,11.1,aw48,1cpu"
        );
    }

    #[test]
    fn no_two_corners_are_the_same() {
        let mut names: Vec<_> = Axes::of_demonstrations()
            .corners(Matrix::Pairs)
            .iter()
            .map(Corner::to_string)
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
