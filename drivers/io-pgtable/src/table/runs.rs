//! Host memory still to be mapped.

use iommu_core::{Address, Hpa, MapError, PAGE_SIZE, Run};

/// Reads runs one page after the other, in pieces as large as the reader likes.
#[derive(Clone)]
pub(crate) struct Cursor<'r> {
    /// The current run and those behind it.
    runs: &'r [Run],
    /// Pages of the current run that were read.
    read: u64,
}

/// The runs' total in pages, if each lies in memory that `host_bits` address bits reach.
pub(crate) fn checked_total(runs: &[Run], host_bits: u8) -> Result<u64, MapError> {
    let mut total = 0u64;
    for run in runs {
        if run.pages == 0 || !run.hpa.is_aligned(iommu_core::PAGE_SHIFT) {
            return Err(MapError::Malformed);
        }
        let beyond = MapError::BeyondHostWidth(run.hpa);
        let last = run
            .pages
            .checked_mul(PAGE_SIZE)
            .and_then(|bytes| run.hpa.checked_add(bytes.wrapping_sub(1)))
            .ok_or(beyond)?;
        if !crate::geometry::is_below(last.as_u64(), host_bits) {
            return Err(beyond);
        }
        // More than 2^52 pages fit no table; the range check behind this one says so.
        total = total.saturating_add(run.pages);
    }
    if total == 0 {
        return Err(MapError::Malformed);
    }
    Ok(total)
}

impl<'r> Cursor<'r> {
    /// From the first page of runs that passed [`checked_total`].
    pub(crate) fn new(runs: &'r [Run]) -> Self {
        Self { runs, read: 0 }
    }

    /// The next page.
    pub(crate) fn hpa(&self) -> Option<Hpa> {
        let bytes = self.read.saturating_mul(PAGE_SIZE);
        self.runs.first()?.hpa.checked_add(bytes)
    }

    /// Reads up to `limit` pages that are contiguous in host memory.
    pub(crate) fn take(&mut self, limit: u64) -> Option<(Hpa, u64)> {
        let hpa = self.hpa()?;
        let (run, behind) = self.runs.split_first()?;
        let left = run.pages.saturating_sub(self.read);
        if left <= limit {
            self.runs = behind;
            self.read = 0;
            return Some((hpa, left));
        }
        self.read = self.read.saturating_add(limit);
        Some((hpa, limit))
    }

    /// Reads `pages` pages past.
    pub(crate) fn skip(&mut self, mut pages: u64) {
        while pages > 0 {
            let Some((_, taken)) = self.take(pages) else {
                return;
            };
            pages = pages.saturating_sub(taken);
        }
    }

    /// Whether the next `pages` pages are contiguous, across runs that continue each other.
    pub(crate) fn is_contiguous(&self, pages: u64) -> bool {
        let mut ahead = self.clone();
        let (mut end, mut left) = (self.hpa(), pages);
        while left > 0 {
            match ahead.take(left) {
                Some((hpa, taken)) if Some(hpa) == end => {
                    end = hpa.checked_add(taken.saturating_mul(PAGE_SIZE));
                    left = left.saturating_sub(taken);
                }
                _ => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hpa: u64, pages: u64) -> Run {
        Run {
            hpa: Hpa::new(hpa),
            pages,
        }
    }

    #[test]
    fn pages_come_run_by_run() {
        let runs = [run(0x1000, 2), run(0x9000, 3)];
        let mut cursor = Cursor::new(&runs);
        assert_eq!(cursor.take(1), Some((Hpa::new(0x1000), 1)));
        assert_eq!(cursor.take(9), Some((Hpa::new(0x2000), 1)));
        assert_eq!(cursor.take(2), Some((Hpa::new(0x9000), 2)));
        cursor.skip(1);
        assert_eq!(cursor.take(1), None);
    }

    #[test]
    fn runs_that_continue_each_other_are_contiguous() {
        let runs = [run(0x1000, 2), run(0x3000, 1), run(0x8000, 1)];
        assert!(Cursor::new(&runs).is_contiguous(3));
        assert!(!Cursor::new(&runs).is_contiguous(4));
        assert!(!Cursor::new(&runs[..2]).is_contiguous(4));
    }

    #[test]
    fn runs_are_checked_against_the_width_of_the_host() {
        let beyond = |hpa| Err(MapError::BeyondHostWidth(Hpa::new(hpa)));
        assert_eq!(checked_total(&[run(0xffff_f000, 1)], 32), Ok(1));
        assert_eq!(
            checked_total(&[run(0xffff_f000, 2)], 32),
            beyond(0xffff_f000)
        );
        assert_eq!(checked_total(&[run(0x1000, u64::MAX)], 52), beyond(0x1000));
        assert_eq!(checked_total(&[run(!0xfff, 1)], 52), beyond(!0xfff));
    }

    #[test]
    fn runs_that_are_none_are_malformed() {
        assert_eq!(checked_total(&[], 46), Err(MapError::Malformed));
        assert_eq!(
            checked_total(&[run(0x1000, 0)], 46),
            Err(MapError::Malformed)
        );
        assert_eq!(
            checked_total(&[run(0x1800, 1)], 46),
            Err(MapError::Malformed)
        );
    }
}
