//! Host memory still to be mapped.

use iommu_core::{Address, Hpa, MapError, Order, PAGE_SHIFT, PAGE_SIZE, Run};

/// Runs that were checked: none is empty or misaligned, and all lie in memory that entries
/// can name.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'r> {
    runs: &'r [Run],
    /// Pages of all runs.
    pub(crate) total: u64,
    /// Pages of the longest stretch that is contiguous, across runs that continue each
    /// other.
    pub(crate) longest: u64,
}

impl<'r> Runs<'r> {
    /// Checks runs against the host's width.
    pub(crate) fn check(runs: &'r [Run], host_bits: u8) -> Result<Self, MapError> {
        let host_bits = u32::from(host_bits).min(52);
        let host_pages = 1u64 << host_bits.saturating_sub(PAGE_SHIFT);
        let (mut total, mut longest) = (0u64, 0u64);
        // Pages before the stretch that the last run belongs to, and the page behind it.
        let (mut before, mut end) = (0u64, 0u64);
        for run in runs {
            let first = run.hpa.as_u64() >> PAGE_SHIFT;
            if run.pages == 0 || !run.hpa.is_aligned(PAGE_SHIFT) {
                return Err(MapError::Malformed);
            }
            if run.pages > host_pages || first > host_pages.wrapping_sub(run.pages) {
                return Err(MapError::BeyondHostWidth(run.hpa));
            }
            if first != end {
                before = total;
            }
            end = first.wrapping_add(run.pages);
            total = total.wrapping_add(run.pages);
            longest = longest.max(total.wrapping_sub(before));
            // No table is so large, as the check of the range behind this one says.
            if total > Order::MAX.pages() {
                break;
            }
        }
        if total == 0 {
            return Err(MapError::Malformed);
        }
        Ok(Self {
            runs,
            total,
            longest,
        })
    }

    /// Reads from the first page on.
    pub(crate) fn cursor(&self) -> Cursor<'r> {
        Cursor {
            runs: self.runs,
            read: 0,
        }
    }
}

/// Reads runs one page after the other, in pieces as large as the reader likes.
#[derive(Clone)]
pub(crate) struct Cursor<'r> {
    /// The current run and those behind it.
    runs: &'r [Run],
    /// Pages of the current run that were read.
    read: u64,
}

impl<'r> Cursor<'r> {
    /// The next page, and how many of the current run are left, it included. `None` at the
    /// end.
    fn here(&self) -> Option<(u64, u64)> {
        let run = self.runs.first()?;
        let hpa = run.hpa.as_u64();
        let read = self.read.wrapping_mul(PAGE_SIZE);
        Some((hpa.wrapping_add(read), run.pages.wrapping_sub(self.read)))
    }

    /// The next page; 0 at the end.
    pub(crate) fn hpa(&self) -> Hpa {
        Hpa::new(self.here().map_or(0, |(hpa, _)| hpa))
    }

    /// Reads up to `limit` pages that are contiguous in host memory; none only at the end.
    pub(crate) fn take(&mut self, limit: u64) -> (Hpa, u64) {
        let Some((hpa, left)) = self.here() else {
            return (Hpa::new(0), 0);
        };
        let pages = left.min(limit);
        if pages == left {
            self.runs = self.runs.get(1..).unwrap_or_default();
            self.read = 0;
        } else {
            self.read = self.read.wrapping_add(pages);
        }
        (Hpa::new(hpa), pages)
    }

    /// Reads up to `limit` runs that have one page each.
    pub(crate) fn take_single_pages(&mut self, limit: usize) -> &'r [Run] {
        let is_single = |run: &&Run| run.pages == 1;
        let count = self.runs.iter().take(limit).take_while(is_single).count();
        let (singles, behind) = self.runs.split_at_checked(count).unwrap_or_default();
        self.runs = behind;
        singles
    }

    /// Reads `pages` pages past.
    pub(crate) fn skip(&mut self, mut pages: u64) {
        while pages > 0 {
            let (_, taken) = self.take(pages);
            if taken == 0 {
                return;
            }
            pages = pages.saturating_sub(taken);
        }
    }

    /// How many of the next pages are contiguous, across runs that continue each other. At
    /// least `limit` if that many are; counts no further.
    pub(crate) fn contiguous(&self, limit: u64) -> u64 {
        let Some((hpa, mut pages)) = self.here() else {
            return 0;
        };
        for run in self.runs.iter().skip(1) {
            let end = hpa.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
            if pages >= limit || run.hpa.as_u64() != end {
                break;
            }
            pages = pages.saturating_add(run.pages);
        }
        pages
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

    fn cursor(runs: &[Run]) -> Cursor<'_> {
        Runs::check(runs, 46).unwrap().cursor()
    }

    #[test]
    fn pages_come_run_by_run() {
        let runs = [run(0x1000, 2), run(0x9000, 3)];
        let mut cursor = cursor(&runs);
        assert_eq!(cursor.take(1), (Hpa::new(0x1000), 1));
        assert_eq!(cursor.take(9), (Hpa::new(0x2000), 1));
        assert_eq!(cursor.take(2), (Hpa::new(0x9000), 2));
        cursor.skip(1);
        assert_eq!(cursor.take(1).1, 0);
        cursor.skip(1);
    }

    #[test]
    fn single_pages_come_as_runs_up_to_the_first_longer_one() {
        let runs = [
            run(0x1000, 1),
            run(0x9000, 1),
            run(0x5000, 2),
            run(0x3000, 1),
        ];
        let mut cursor = cursor(&runs);
        assert_eq!(cursor.take_single_pages(1), &runs[..1]);
        assert_eq!(cursor.take_single_pages(9), &runs[1..2]);
        assert_eq!(cursor.take_single_pages(9), &[]);
        cursor.skip(1);
        // Half a run is not one of a single page.
        assert_eq!(cursor.take_single_pages(9), &[]);
        cursor.skip(1);
        assert_eq!(cursor.take_single_pages(9), &runs[3..]);
        assert_eq!(cursor.take_single_pages(9), &[]);
    }

    #[test]
    fn runs_that_continue_each_other_are_contiguous() {
        let runs = [run(0x1000, 2), run(0x3000, 1), run(0x8000, 1)];
        assert_eq!(cursor(&runs).contiguous(9), 3);
        assert_eq!(cursor(&runs[..1]).contiguous(9), 2);
        assert_eq!(Runs::check(&runs, 46).unwrap().longest, 3);
        assert_eq!(Runs::check(&runs[1..], 46).unwrap().longest, 1);
        let mut rest = cursor(&runs);
        rest.skip(1);
        assert_eq!(rest.contiguous(9), 2);
    }

    #[test]
    fn runs_are_checked_against_the_width_of_the_host() {
        let total = |hpa, pages, bits| {
            let runs = [run(hpa, pages)];
            Runs::check(&runs, bits).map(|runs| runs.total)
        };
        let beyond = |hpa| Err(MapError::BeyondHostWidth(Hpa::new(hpa)));
        assert_eq!(total(0xffff_f000, 1, 32), Ok(1));
        assert_eq!(total(0xffff_f000, 2, 32), beyond(0xffff_f000));
        assert_eq!(total(0x1000, u64::MAX, 52), beyond(0x1000));
        assert_eq!(total(!0xfff, 1, 52), beyond(!0xfff));
        // Entries name 52 bits, whatever the caller says of the host.
        assert_eq!(total((1 << 52) - 0x1000, 1, 64), Ok(1));
        assert_eq!(total(1 << 52, 1, 64), beyond(1 << 52));
    }

    #[test]
    fn runs_that_are_none_are_malformed() {
        for runs in [&[][..], &[run(0x1000, 0)], &[run(0x1800, 1)]] {
            let refused = Runs::check(runs, 46).map(|runs| runs.total);
            assert_eq!(refused, Err(MapError::Malformed));
        }
    }
}
