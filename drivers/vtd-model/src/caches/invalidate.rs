//! What each invalidation removes from a unit's own caches: §6.5.1, §6.5.2, tables 23, 24.

use super::{Caches, NO_PASID, Pages, Translation};

/// Pages of an input address space: `first..=last`, as address and mask say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    /// The `2^mask` pages around `address` (table 22).
    pub(crate) fn masked(address: u64, mask: u8) -> Self {
        let size_mask = if mask >= 52 {
            u64::MAX
        } else {
            (1 << (12 + mask)) - 1
        };
        Self {
            first: address & !size_mask,
            last: address | size_mask,
        }
    }

    pub(crate) fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

impl Caches {
    /// Every context entry, of the ids that `source` and `ignored` name if any, tagged with
    /// `domain` if it matters (§6.5.2.1).
    pub(crate) fn drop_contexts(&mut self, source: Option<(u16, u16)>, domain: Option<u16>) {
        self.contexts.retain(|id, values| {
            if source.is_some_and(|(wanted, ignored)| (id ^ wanted) & !ignored != 0) {
                return true;
            }
            values.retain(|value| domain.is_some_and(|domain| value.domain() != domain));
            !values.is_empty()
        });
    }

    /// PASID entries by domain and PASID (§6.5.2.2).
    pub(crate) fn drop_pasids(&mut self, domain: Option<u16>, pasid: Option<u32>) {
        self.directories.drop(domain, pasid);
        self.pasids.retain(|(_, id), values| {
            if pasid.is_some_and(|pasid| pasid != *id) {
                return true;
            }
            values.retain(|value| domain.is_some_and(|domain| value.domain() != domain));
            !values.is_empty()
        });
    }

    /// IOTLB invalidation, global.
    pub(crate) fn drop_translations(&mut self) {
        self.iotlb.clear();
        self.absent.clear();
        self.first.clear();
        self.roots.clear();
        self.second.clear();
    }

    /// IOTLB invalidation, domain-selective.
    pub(crate) fn drop_domain(&mut self, domain: u16) {
        self.iotlb.remove(|entry| entry.domain == domain);
        self.absent.remove_domain(domain);
        self.first.remove(|pages| pages.domain == domain);
        self.roots.retain(|(pages, _), _| pages.domain != domain);
        self.second.remove(|pages| pages.domain == domain);
    }

    /// IOTLB invalidation, page-selective within a domain: what a first stage takes part in
    /// goes as a whole, whatever its address.
    pub(crate) fn drop_domain_pages(&mut self, domain: u16, range: Range, leaf_only: bool) {
        self.iotlb.remove_range(range.first, range.last, |entry| {
            entry.domain == domain && !entry.mapping.has_first
        });
        self.iotlb
            .remove(|entry| entry.domain == domain && entry.mapping.has_first);
        self.first.remove(|pages| pages.domain == domain);
        self.roots.retain(|(pages, _), _| pages.domain != domain);
        self.absent.remove(domain, range, leaf_only);
        if !leaf_only {
            self.second
                .remove_range(Pages::second(domain), range.first, range.last);
        }
    }

    /// PASID-based IOTLB invalidation, PASID-selective.
    pub(crate) fn drop_pasid(&mut self, domain: u16, pasid: u32) {
        self.iotlb
            .remove(|entry| entry.domain == domain && entry.pasid == pasid);
        self.first.remove(|pages| pages == Pages { domain, pasid });
    }

    /// PASID-based IOTLB invalidation, page-selective: second-stage and pass-through
    /// translations stay.
    pub(crate) fn drop_pasid_pages(
        &mut self,
        domain: u16,
        pasid: u32,
        range: Range,
        leaf_only: bool,
    ) {
        let gone = |entry: &Translation| {
            entry.domain == domain && entry.pasid == pasid && entry.mapping.has_first
        };
        self.iotlb.remove_range(range.first, range.last, gone);
        if !leaf_only {
            self.first
                .remove_range(Pages { domain, pasid }, range.first, range.last);
        }
    }

    /// Interrupt entries: all, or those whose index equals `index` but for `mask` low bits.
    pub(crate) fn drop_interrupts(&mut self, index: Option<(u16, u8)>) {
        match index {
            None => self.interrupts.clear(),
            Some((index, mask)) => {
                self.interrupts
                    .retain(|at, _| (at ^ u32::from(index)) >> mask != 0);
            }
        }
    }

    /// All that SRTP (ESRTPS) and switching translation off (SMTS) forget (§6.6, §11.4.4.1).
    pub(crate) fn drop_all_dma(&mut self) {
        self.contexts.clear();
        self.pasids.clear();
        self.directories.clear();
        self.drop_translations();
        self.permissions.clear();
    }

    /// Whether some entry for this page and requester has been there since `since`.
    pub(crate) fn survived(
        &self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        since: u64,
    ) -> bool {
        self.iotlb
            .find(source, pasid.unwrap_or(NO_PASID), address)
            .any(|entry| entry.born <= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caches::{CachedContext, FirstNode, Mapping, SecondNode};
    use crate::tables::{context, first_stage, second_stage};

    fn translation(domain: u16, pasid: u32, has_first: bool, shift: u8) -> Translation {
        let mapping = Mapping {
            shift,
            has_first,
            ..Mapping::unity(false, false)
        };
        Translation {
            mapping,
            fault: None,
            domain,
            pasid,
            born: 0,
            accessed: true,
        }
    }

    /// One entry of each kind: (name, domain, pasid, first stage takes part).
    fn full() -> Caches {
        let mut caches = Caches::default();
        for domain in [1, 2] {
            for pasid in [5, 6] {
                for has_first in [false, true] {
                    for page in [0x1000, 0x2000] {
                        let source = domain * 16 + u16::from(has_first);
                        caches.iotlb.add(
                            source,
                            pasid,
                            page,
                            translation(domain, pasid, has_first, 12),
                        );
                    }
                }
                let node = FirstNode {
                    table: 0,
                    rights: first_stage::Rights::ALL,
                    writable: true,
                    accessed: true,
                };
                caches.first.add(Pages { domain, pasid }, 1, 0x1000, node);
                caches
                    .first
                    .add(Pages { domain, pasid }, 1, 0x20_0000, node);
            }
            let node = SecondNode {
                table: 0,
                rights: second_stage::Rights::ALL,
                accessed: true,
            };
            caches.second.add(Pages::second(domain), 1, 0x1000, node);
            caches.second.add(Pages::second(domain), 1, 0x20_0000, node);
        }
        caches
    }

    fn left(caches: &Caches) -> (usize, usize, usize, usize) {
        let of = |first| {
            caches
                .iotlb
                .iter()
                .filter(|(.., entry)| entry.mapping.has_first == first)
                .count()
        };
        (of(false), of(true), caches.first.len(), caches.second.len())
    }

    type Act = fn(&mut Caches);
    /// Second-stage and other translations, first- and second-stage tables.
    type Left = (usize, usize, usize, usize);
    /// Source and ignored bits, domain, who is left.
    type Case<'a> = (Option<(u16, u16)>, Option<u16>, &'a [u16]);

    /// Tables 23 and 24: 8 second-stage, 8 first-stage translations, 8 and 4 structures.
    #[test]
    fn each_granularity_removes_exactly_what_tables_23_and_24_say() {
        let page = Range::masked(0x1000, 0);
        assert_eq!(
            page,
            Range {
                first: 0x1000,
                last: 0x1fff
            }
        );
        let cases: &[(&str, Act, Left)] = &[
            ("nothing", |_| (), (8, 8, 8, 4)),
            ("global", |c| c.drop_translations(), (0, 0, 0, 0)),
            ("domain", |c| c.drop_domain(1), (4, 4, 4, 2)),
            ("other domain", |c| c.drop_domain(3), (8, 8, 8, 4)),
            (
                "page in domain",
                |c| c.drop_domain_pages(1, Range::masked(0x1000, 0), false),
                (6, 4, 4, 3),
            ),
            (
                "page in domain, leaf",
                |c| c.drop_domain_pages(1, Range::masked(0x1000, 0), true),
                (6, 4, 4, 4),
            ),
            (
                "two pages",
                |c| c.drop_domain_pages(1, Range::masked(0x2000, 1), true),
                (6, 4, 4, 4),
            ),
            ("pasid", |c| c.drop_pasid(1, 5), (6, 6, 6, 4)),
            ("other pasid", |c| c.drop_pasid(1, 7), (8, 8, 8, 4)),
            (
                "page in pasid",
                |c| c.drop_pasid_pages(1, 5, Range::masked(0x1000, 0), false),
                (8, 7, 7, 4),
            ),
            (
                "page in pasid, leaf",
                |c| c.drop_pasid_pages(1, 5, Range::masked(0x1000, 0), true),
                (8, 7, 8, 4),
            ),
            (
                "page in pasid of another domain",
                |c| c.drop_pasid_pages(3, 5, Range::masked(0, 40), false),
                (8, 8, 8, 4),
            ),
        ];
        for (name, act, expected) in cases {
            let mut caches = full();
            act(&mut caches);
            assert_eq!(left(&caches), *expected, "{name}");
            assert_eq!(caches.iotlb.len(), expected.0 + expected.1, "{name}");
        }
    }

    #[test]
    fn a_large_page_leaves_its_fragments_outside_the_range() {
        let mut caches = Caches::default();
        let mut entry = translation(1, 0, false, 21);
        entry.mapping.output = 0x4000_0000;
        caches.iotlb.add(9, NO_PASID, 0x20_0000, entry);
        caches.drop_domain_pages(1, Range::masked(0x20_3000, 0), true);
        let hit = |address| {
            caches
                .iotlb
                .find(9, NO_PASID, address)
                .map(|e| e.mapping.apply(address))
                .next()
        };
        assert_eq!(hit(0x20_3123), None);
        assert_eq!(hit(0x20_4123), Some(0x4000_4123));
        assert_eq!(caches.iotlb.len(), 511);
        caches.drop_domain_pages(1, Range::masked(0x20_0000, 9), true);
        assert_eq!(caches.iotlb.len(), 0);
    }

    #[test]
    fn context_entries_go_by_source_function_mask_and_domain() {
        let entry = |domain| {
            CachedContext::Legacy(context::Legacy {
                kind: context::TranslationType::Untranslated,
                levels: 4,
                table: 0,
                domain,
                fpd: false,
            })
        };
        let cases: &[Case<'_>] = &[
            (None, None, &[]),
            (None, Some(1), &[0x14]),
            (Some((0x10, 0)), Some(1), &[0x11, 0x12, 0x14]),
            (Some((0x10, 0)), Some(2), &[0x10, 0x11, 0x12, 0x14]),
            (Some((0x10, 4)), Some(2), &[0x10, 0x11, 0x12]),
            (Some((0x10, 7)), None, &[]),
            (Some((0x11, 6)), None, &[0x10, 0x12, 0x14]),
        ];
        for (source, domain, expected) in cases {
            let mut caches = Caches::default();
            for (id, domain) in [(0x10, 1), (0x11, 1), (0x12, 1), (0x14, 2)] {
                caches.contexts.entry(id).or_default().push(entry(domain));
            }
            caches.drop_contexts(*source, *domain);
            let mut ids: Vec<u16> = caches.contexts.keys().copied().collect();
            ids.sort_unstable();
            assert_eq!(ids, *expected, "{source:?} {domain:?}");
        }
    }

    #[test]
    fn interrupt_entries_go_by_index_and_mask() {
        for (index, expected) in [
            (None, 0),
            (Some((4, 0)), 7),
            (Some((5, 2)), 4),
            (Some((0, 15)), 0),
        ] {
            let mut caches = Caches::default();
            for at in 0..8 {
                caches.interrupts.entry(at).or_default();
            }
            caches.drop_interrupts(index);
            assert_eq!(caches.interrupts.len(), expected, "{index:?}");
        }
    }
}
