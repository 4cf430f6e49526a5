//! Merging of what is owed, and the choice between many small invalidations and one large.

use super::debt::{Debt, Kind, Range};
use crate::queue::Blocks;
use iommu_core::{AddressRange, Iova, Order};

/// When page-selective invalidations of a domain are given up for one of the whole domain
/// (or PASID).
///
/// Each page-selective descriptor costs hardware and software some work; one of the whole
/// domain costs one descriptor, and afterwards a walk for each translation that was dropped
/// though it was still good. There are at most as many of those as the cache has entries:
/// once there are more descriptors than entries, selecting gains nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CostRule {
    /// So many page-selective descriptors for one domain in one commit are still sent.
    pub page_selective_limit: u32,
}

impl Default for CostRule {
    /// More translations than known IOTLBs hold.
    fn default() -> Self {
        Self {
            page_selective_limit: 1_024,
        }
    }
}

/// Whether two changes can be told as one, and what it is.
fn merged(one: &Kind, other: &Kind) -> Option<Kind> {
    match (*one, *other) {
        (Kind::Nothing, kind) => Some(kind),
        (Kind::ChangedAll(a), Kind::ChangedAll(b)) if a == b => Some(Kind::ChangedAll(a)),
        (
            Kind::Changed {
                domain,
                range,
                leaf_only,
            },
            Kind::Changed {
                domain: d,
                range: r,
                leaf_only: l,
            },
        ) if domain == d => Some(Kind::Changed {
            domain,
            range: union(range, r)?,
            leaf_only: leaf_only && l,
        }),
        (
            Kind::Mapped { domain, range },
            Kind::Mapped {
                domain: d,
                range: r,
            },
        ) if domain == d => Some(Kind::Mapped {
            domain,
            range: union(range, r)?,
        }),
        _ => None,
    }
}

/// Overlapping or adjacent ranges as one.
fn union(one: Range, other: Range) -> Option<Range> {
    one.get().merged(&other.get()).map(Range::from)
}

impl CostRule {
    /// Sorts and merges debts in place, so that none is told twice.
    pub(crate) fn apply(&self, debts: &mut [Debt]) -> usize {
        debts.sort_unstable_by_key(|debt| debt.0);
        let merged = merge_neighbours(debts);
        let debts = debts.get_mut(..merged).unwrap_or_default();
        self.widen(debts)
    }

    /// Replaces the ranges of a domain that needs too many descriptors by all of it.
    fn widen(&self, debts: &mut [Debt]) -> usize {
        let mut kept = 0usize;
        let mut next = 0usize;
        while let Some(debt) = debts.get(next).copied() {
            let group = group_length(debts.get(next..).unwrap_or_default());
            let blocks = blocks_in(debts.get(next..).unwrap_or_default(), group);
            let too_many = blocks > u64::from(self.page_selective_limit);
            match debt.0 {
                Kind::Changed { domain, .. } if too_many => {
                    put(debts, kept, Debt(Kind::ChangedAll(domain)));
                    kept = kept.saturating_add(1);
                }
                _ => {
                    for offset in 0..group {
                        if let Some(debt) = debts.get(next.saturating_add(offset)).copied() {
                            put(debts, kept, debt);
                            kept = kept.saturating_add(1);
                        }
                    }
                }
            }
            next = next.saturating_add(group);
        }
        kept
    }
}

fn put(debts: &mut [Debt], at: usize, debt: Debt) {
    if let Some(place) = debts.get_mut(at) {
        *place = debt;
    }
}

fn merge_neighbours(debts: &mut [Debt]) -> usize {
    let mut kept = 0usize;
    for next in 0..debts.len() {
        let Some(debt) = debts.get(next).copied() else {
            break;
        };
        let last = kept.checked_sub(1);
        let joined = last
            .and_then(|last| debts.get(last))
            .and_then(|last| merged(&last.0, &debt.0));
        match (last, joined) {
            (Some(last), Some(kind)) => put(debts, last, Debt(kind)),
            _ => {
                put(debts, kept, debt);
                kept = kept.saturating_add(1);
            }
        }
    }
    kept
}

/// How many debts from the first on are ranges of the same domain; at least 1.
fn group_length(debts: &[Debt]) -> usize {
    let domain = |debt: &Debt| match debt.0 {
        Kind::Changed { domain, .. } => Some(domain),
        _ => None,
    };
    let Some(first) = debts.first().and_then(domain) else {
        return 1;
    };
    debts
        .iter()
        .take_while(|debt| domain(debt) == Some(first))
        .count()
        .max(1)
}

/// Page-selective descriptors that the first `group` debts need for one tag.
fn blocks_in(debts: &[Debt], group: usize) -> u64 {
    debts
        .iter()
        .take(group)
        .map(|debt| match debt.0 {
            Kind::Changed { range, .. } => count_blocks(range.get()),
            _ => 0,
        })
        .fold(0, u64::saturating_add)
}

fn count_blocks(range: AddressRange<Iova>) -> u64 {
    // Very large ranges need not be counted out.
    let whole = range.pages() >> Order::PAGE_1G.log2();
    if whole > 1 << 16 {
        return whole;
    }
    Blocks::of(range, Order::PAGE_1G).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu_core::DomainHandle;
    use std::vec;
    use std::vec::Vec;

    fn domain(index: u16) -> super::super::debt::Handle {
        DomainHandle {
            index,
            generation: 0,
        }
        .into()
    }

    fn changed(index: u16, page: u64, pages: u64) -> Debt {
        let range = AddressRange::of_pages(Iova::new(page << 12), pages).unwrap();
        Debt(Kind::Changed {
            domain: domain(index),
            range: range.into(),
            leaf_only: true,
        })
    }

    fn applied(rule: CostRule, mut debts: Vec<Debt>) -> Vec<Debt> {
        let kept = rule.apply(&mut debts);
        debts.truncate(kept);
        debts
    }

    #[test]
    fn neighbouring_ranges_of_a_domain_become_one() {
        let debts = vec![changed(1, 2, 1), changed(2, 3, 1), changed(1, 3, 4)];
        assert_eq!(
            applied(CostRule::default(), debts),
            [changed(1, 2, 5), changed(2, 3, 1)]
        );
    }

    #[test]
    fn a_gap_keeps_ranges_apart() {
        let debts = vec![changed(1, 2, 1), changed(1, 4, 1)];
        assert_eq!(applied(CostRule::default(), debts.clone()), debts);
    }

    #[test]
    fn the_hint_survives_only_if_both_have_it() {
        let Debt(Kind::Changed { domain, range, .. }) = changed(1, 3, 1) else {
            unreachable!()
        };
        let table = Debt(Kind::Changed {
            domain,
            range,
            leaf_only: false,
        });
        let merged = applied(CostRule::default(), vec![changed(1, 2, 1), table]);
        let [Debt(Kind::Changed { leaf_only, .. })] = merged[..] else {
            panic!("{merged:?}")
        };
        assert!(!leaf_only);
    }

    #[test]
    fn too_many_ranges_become_the_whole_domain_and_one_fewer_do_not() {
        let rule = CostRule {
            page_selective_limit: 3,
        };
        let many: Vec<_> = (0..4).map(|n| changed(1, n * 2, 1)).collect();
        assert_eq!(
            applied(rule, many.clone()),
            [Debt(Kind::ChangedAll(domain(1)))]
        );
        assert_eq!(applied(rule, many[..3].to_vec()), many[..3]);
    }

    #[test]
    fn what_changed_nothing_vanishes() {
        let debts = vec![Debt(Kind::Nothing), changed(1, 2, 1), Debt(Kind::Nothing)];
        assert_eq!(applied(CostRule::default(), debts), [changed(1, 2, 1)]);
    }
}
