//! What a table should translate, as a plain list of extents.

use crate::fixture::PAGE;
use iommu_core::Access;
use std::collections::BTreeMap;

/// Extents by their first page, which never overlap.
#[derive(Default)]
pub(crate) struct Model(BTreeMap<u64, Extent>);

#[derive(Clone, Copy)]
struct Extent {
    /// The last byte.
    last: u64,
    hpa: u64,
    access: Access,
}

impl Model {
    /// What the page at `iova` is translated to.
    pub(crate) fn get(&self, iova: u64) -> Option<(u64, Access)> {
        let (first, extent) = self.0.range(..=iova).next_back()?;
        (iova <= extent.last).then(|| (extent.hpa + (iova - first), extent.access))
    }

    /// Every page that is translated.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        let extents = self.0.iter();
        extents.flat_map(|(&first, extent)| (first..=extent.last).step_by(PAGE as usize))
    }

    /// Whether anything from `first` to `last` is translated.
    pub(crate) fn overlaps(&self, first: u64, last: u64) -> bool {
        let below = self.0.range(..=last).next_back();
        below.is_some_and(|(_, extent)| extent.last >= first)
    }

    pub(crate) fn map(&mut self, first: u64, hpa: u64, pages: u64, access: Access) {
        let last = first + (pages * PAGE - 1);
        assert!(!self.overlaps(first, last), "{first:#x} is mapped");
        self.0.insert(first, Extent { last, hpa, access });
    }

    /// Takes away what lies from `first` to `last`, and tells the extents that went.
    pub(crate) fn unmap(&mut self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gone = Vec::new();
        while let Some((&start, &extent)) = self.0.range(..=last).next_back() {
            if extent.last < first {
                break;
            }
            self.0.remove(&start);
            let cut = (start.max(first), extent.last.min(last));
            if start < cut.0 {
                let last = cut.0 - 1;
                self.0.insert(start, Extent { last, ..extent });
            }
            if cut.1 < extent.last {
                let next = cut.1 + 1;
                let hpa = extent.hpa + (next - start);
                self.0.insert(next, Extent { hpa, ..extent });
            }
            gone.push(cut);
        }
        gone
    }
}
