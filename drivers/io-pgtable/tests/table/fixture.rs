//! A table beside a plain map of what it should translate, and a walk that hardware would
//! make, written without the code under test.

use crate::model::Model;
use io_pgtable::{Limits, Mapped, PageTable, TableConfig, Unmapped};
use iommu_core::{
    Access, AddressRange, Coherence, FrameList, Hpa, Iova, LeafSizes, MapError, Platform, Run,
    Stage, TableFormat,
};
use std::sync::Arc;
use test_platform::TestPlatform;

pub(crate) const PAGE: u64 = 0x1000;
pub(crate) const MIB2: u64 = 0x20_0000;
pub(crate) const GIB1: u64 = 0x4000_0000;

pub(crate) const SMALL: LeafSizes = LeafSizes {
    mib2: false,
    gib1: false,
};
pub(crate) const LARGE: LeafSizes = LeafSizes {
    mib2: true,
    gib1: true,
};

/// Room enough for every test.
pub(crate) const ARENA: usize = 4096;

pub(crate) fn config(leaves: LeafSizes) -> TableConfig {
    TableConfig {
        limits: Limits {
            host_bits: 46,
            leaves,
            snoop_control: false,
        },
        iova_bits: 57,
        coherence: Coherence::Snooped,
        snoop: false,
        memory_type: None,
    }
}

pub(crate) fn run(hpa: u64, pages: u64) -> Run {
    Run {
        hpa: Hpa::new(hpa),
        pages,
    }
}

pub(crate) fn pages(iova: u64, count: u64) -> AddressRange<Iova> {
    AddressRange::of_pages(Iova::new(iova), count).unwrap()
}

pub(crate) struct Fixture {
    pub(crate) platform: Arc<TestPlatform>,
    pub(crate) format: TableFormat,
    pub(crate) table: PageTable,
    pub(crate) model: Model,
}

impl Fixture {
    pub(crate) fn new(format: TableFormat, leaves: LeafSizes) -> Self {
        Self::with(TestPlatform::new(ARENA), format, config(leaves))
    }

    /// With memory for a few tables.
    pub(crate) fn small(format: TableFormat) -> Self {
        Self::with(TestPlatform::new(12), format, config(LARGE))
    }

    /// A unit that does not snoop.
    pub(crate) fn non_coherent(format: TableFormat, leaves: LeafSizes) -> Self {
        let config = TableConfig {
            coherence: Coherence::WriteBack,
            ..config(leaves)
        };
        Self::with(TestPlatform::non_coherent(ARENA), format, config)
    }

    pub(crate) fn small_non_coherent(format: TableFormat) -> Self {
        let config = TableConfig {
            coherence: Coherence::WriteBack,
            ..config(LARGE)
        };
        Self::with(TestPlatform::non_coherent(12), format, config)
    }

    pub(crate) fn with(platform: TestPlatform, format: TableFormat, config: TableConfig) -> Self {
        let platform = Arc::new(platform);
        // SAFETY: this platform is used for all calls.
        let table = unsafe { PageTable::new(&platform, format, config) }.unwrap();
        Self {
            platform,
            format,
            table,
            model: Model::default(),
        }
    }

    pub(crate) fn map(&mut self, iova: u64, runs: &[Run], access: Access) -> Result<(), MapError> {
        self.map_telling(iova, runs, access).map(drop)
    }

    /// Maps, and tells what hardware would have to be told.
    pub(crate) fn map_telling(
        &mut self,
        iova: u64,
        runs: &[Run],
        access: Access,
    ) -> Result<Mapped, MapError> {
        let mapped = self
            .table
            .map(&self.platform, Iova::new(iova), runs, access)?;
        let mut next = iova;
        for run in runs {
            self.model.map(next, run.hpa.as_u64(), run.pages, access);
            next = next.wrapping_add(run.pages * PAGE);
        }
        Ok(mapped)
    }

    /// Unmaps, and holds what the table says against what the model knows. The caller
    /// releases the frames.
    pub(crate) fn unmap_holding(
        &mut self,
        range: AddressRange<Iova>,
    ) -> Result<Unmapped, MapError> {
        let unmapped = self.table.unmap(&self.platform, range)?;
        let (first, last) = (range.first().as_u64(), range.last().as_u64());
        let gone = self.model.unmap(first, last);
        for &(first, last) in &gone {
            let changed = unmapped.changed.expect("something changed");
            let ends = [first, last].map(Iova::new);
            assert!(
                ends.iter().all(|&end| changed.contains(end)),
                "{first:#x} must be flushed"
            );
        }
        for (first, last) in gone.iter().copied() {
            self.check_page(first);
            self.check_page(last & !0xfff);
        }
        assert_eq!(unmapped.changed.is_some(), !gone.is_empty());
        assert!(unmapped.frames.is_empty() || !unmapped.leaf_only);
        Ok(unmapped)
    }

    pub(crate) fn unmap(&mut self, range: AddressRange<Iova>) -> Result<(), MapError> {
        let unmapped = self.unmap_holding(range)?;
        self.release(unmapped.frames);
        Ok(())
    }

    pub(crate) fn release(&self, mut frames: FrameList) {
        while let Some(frame) = frames.pop() {
            self.platform.release(frame);
        }
    }

    /// Everything that the model knows is translated so, by the table and by hardware, and
    /// its neighbours are not translated.
    #[track_caller]
    pub(crate) fn check(&self) {
        for page in self.model.pages() {
            let neighbours = [page.checked_sub(PAGE), Some(page), page.checked_add(PAGE)];
            for page in neighbours.into_iter().flatten() {
                self.check_page(page);
            }
        }
        assert_eq!(self.table.table_pages(), self.platform.outstanding());
    }

    #[track_caller]
    pub(crate) fn check_page(&self, page: u64) {
        if !io_pgtable::in_width(self.format, Iova::new(page), 57) {
            return;
        }
        let expected = self.model.get(page);
        let said = self
            .table
            .translate(&self.platform, Iova::new(page + 0x123));
        let said = said.map(|(hpa, access)| (hpa.as_u64() - 0x123, access));
        assert_eq!(said, expected, "{:?} {page:#x}", self.format);
        let seen = device_walk(&self.platform, self.table.root(), self.format, page);
        assert_eq!(seen, expected, "hardware, {:?} {page:#x}", self.format);
    }

    /// The entry that ends the walk to `iova`, with its level.
    pub(crate) fn last_entry(&self, iova: u64) -> (u8, u64) {
        let mut last = (0, 0);
        self.table
            .walk(&self.platform, Iova::new(iova), &mut |level, _, entry| {
                last = (level, entry);
            });
        last
    }
}

/// Gives everything back and expects that nothing was lost.
pub(crate) fn finish(fixture: Fixture) {
    let frames = fixture.table.destroy(&fixture.platform);
    let mut frames = frames;
    while let Some(frame) = frames.pop() {
        fixture.platform.release(frame);
    }
    assert_eq!(fixture.platform.outstanding(), 0, "table pages were lost");
}

/// The page and the rights that hardware finds for the page at `iova`.
pub(crate) fn device_walk(
    platform: &TestPlatform,
    root: Hpa,
    format: TableFormat,
    iova: u64,
) -> Option<(u64, Access)> {
    let (mut read, mut write) = (true, true);
    let mut table = root.as_u64();
    for level in (1..=u32::from(format.levels())).rev() {
        let shift = 12 + 9 * (level - 1);
        let index = iova >> shift & 0x1ff;
        let entry = platform
            .device_load(Hpa::new(table + index * 8))
            .expect("a table lies in table memory");
        match format.stage() {
            Stage::First => {
                read &= entry & 1 != 0;
                write &= entry & 3 == 3;
                // User access, and A, which a walk may be unable to set.
                assert!(entry & 1 == 0 || entry & 0x24 == 0x24, "{entry:#x}");
            }
            Stage::Second => {
                read &= entry & 1 != 0;
                write &= entry & 2 != 0;
            }
        }
        if !read && !write {
            return None;
        }
        if level == 1 || entry & 0x80 != 0 {
            let page = entry & 0x000f_ffff_ffff_f000;
            let offset = iova & ((1 << shift) - 1) & !0xfff;
            assert_eq!(page & ((1 << shift) - 1), 0, "a large page is aligned");
            let access = match (read, write) {
                (true, true) => Access::READ_WRITE,
                (true, false) => Access::READ,
                _ => Access::WRITE,
            };
            return Some((page + offset, access));
        }
        table = entry & 0x000f_ffff_ffff_f000;
    }
    None
}
