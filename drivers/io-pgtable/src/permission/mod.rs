//! Host permission tables (§4.2.4): which host pages may be reached by addresses that
//! devices have translated themselves.
//!
//! A page may be mapped in several places, so how often it may be read and written is
//! counted beside the table, in memory that hardware never sees. Permissions are kept by
//! pages of 4 KiB. Tables that were needed once stay until the end; there are at most as
//! many as host memory has regions of 32 MiB, and a few above them.
//!
//! Permissions are granted before a device can learn of a mapping, and are revoked in two
//! steps: [`withdraw`](PermissionTable::withdraw) when a mapping goes, and
//! [`revoke`](PermissionTable::revoke) when no device has it in its TLB any more (§6.5.3.4).

mod counts;
mod node;

use crate::spec::PermissionPointer;
use alloc::vec::Vec;
use counts::{less, more};
use iommu_core::{
    Access, Coherence, Frame, FrameList, Hpa, MapError, Order, OutOfFrames, PAGE_SHIFT, PAGE_SIZE,
    Platform, Run,
};
use node::{Node, Place};

/// A root table of one page governs so many bits of host address (HPTSZ = 0). What lies
/// beyond is not permitted.
const ADDRESS_BITS: u32 = 49;

/// A host permission table.
///
/// Dropping it leaks its memory: only [`destroy`](Self::destroy) gives it back, and only the
/// owner knows when hardware has forgotten it.
#[must_use = "a table that is dropped is leaked; destroy it"]
#[derive(Debug)]
pub struct PermissionTable {
    root: Frame,
    coherence: Coherence,
    /// Tables below the root, sorted by place.
    nodes: Vec<Node>,
}

impl PermissionTable {
    /// A table that permits nothing.
    pub fn new<P: Platform>(platform: &P, coherence: Coherence) -> Result<Self, OutOfFrames> {
        Ok(Self {
            root: platform.allocate(Order::PAGE)?,
            coherence,
            nodes: Vec::new(),
        })
    }

    /// The root table, for the entries that lead to it; its size is one page (HPTSZ = 0).
    pub fn root(&self) -> Hpa {
        self.root.hpa()
    }

    /// Pages of memory in use, counters included.
    pub fn pages(&self) -> usize {
        self.nodes
            .iter()
            .map(Node::pages)
            .fold(1, usize::saturating_add)
    }

    /// Gets what [`permit`](Self::permit) will need for these runs, which lie within the
    /// host's memory. On error the table is as before.
    pub fn prepare<P: Platform>(
        &mut self,
        platform: &P,
        runs: &[Run],
        access: Access,
    ) -> Result<(), MapError> {
        for run in runs {
            let end = run.pages.saturating_mul(PAGE_SIZE);
            let last = run.hpa.as_u64().saturating_add(end.saturating_sub(1));
            if last >> ADDRESS_BITS != 0 {
                self.abandon(platform);
                return Err(MapError::BeyondHostWidth(run.hpa));
            }
        }
        for (page, pages) in pieces(runs) {
            let made = self.prepare_region(platform, page, pages, access);
            if let Err(error) = made {
                self.abandon(platform);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes back what was prepared and not used.
    pub fn abandon<P: Platform>(&mut self, platform: &P) {
        while let Some(at) = self.nodes.iter().position(|node| !node.linked) {
            self.nodes.remove(at).release(platform);
        }
    }

    /// Permits what was prepared. Devices may use it once hardware has been told
    /// (§6.5.3.4).
    pub fn permit<P: Platform>(&mut self, platform: &P, runs: &[Run], access: Access) {
        for (page, pages) in pieces(runs) {
            let Ok(at) = self.find(Place::of(1, page)) else {
                continue;
            };
            if let Some(node) = self.nodes.get_mut(at) {
                node.count(page, pages, access, more);
                node.show(platform, page, pages, self.coherence, true);
            }
            self.link(platform, page);
        }
    }

    /// Notes that pages are mapped in one place less. What is not permitted any more is
    /// revoked later.
    pub fn withdraw(&mut self, page: Hpa, pages: u64, access: Access) {
        let run = Run { hpa: page, pages };
        for (page, pages) in pieces(&[run]) {
            if let Ok(at) = self.find(Place::of(1, page))
                && let Some(node) = self.nodes.get_mut(at)
            {
                node.count(page, pages, access, less);
                node.pending = true;
            }
        }
    }

    /// Revokes what was withdrawn, when no device has cached it any more. Hardware must be
    /// told afterwards; until then it may permit it.
    pub fn revoke<P: Platform>(&mut self, platform: &P) {
        let coherence = self.coherence;
        for node in self.nodes.iter_mut().filter(|node| node.pending) {
            node.pending = false;
            node.show(platform, node.first_page(), node::PAGES, coherence, false);
        }
    }

    /// What is permitted with the page at an address.
    pub fn permitted(&self, page: Hpa) -> Access {
        self.find(Place::of(1, page))
            .ok()
            .and_then(|at| self.nodes.get(at))
            .map_or(Access::NONE, |node| node.shown(page))
    }

    /// Gives up all tables. Nothing may lead to the root any more; hold the pages until
    /// hardware has been told.
    pub fn destroy<P: Platform>(self, platform: &P) -> FrameList {
        let mut frames = FrameList::new();
        for node in self.nodes {
            let table = node.give_up(platform);
            // A single page is never refused.
            let _ = frames.push(table).map_err(core::mem::forget);
        }
        let _ = frames.push(self.root).map_err(core::mem::forget);
        frames
    }

    fn find(&self, place: Place) -> Result<usize, usize> {
        self.nodes.binary_search_by_key(&place, |node| node.place)
    }

    /// The tables above a piece of one region, and room in its counters.
    fn prepare_region<P: Platform>(
        &mut self,
        platform: &P,
        page: Hpa,
        pages: u64,
        access: Access,
    ) -> Result<(), MapError> {
        for level in [3, 2, 1] {
            let place = Place::of(level, page);
            let Err(at) = self.find(place) else {
                continue;
            };
            let no_memory = |_| OutOfFrames { order: Order::PAGE };
            self.nodes.try_reserve(1).map_err(no_memory)?;
            self.nodes.insert(at, Node::new(platform, place)?);
        }
        let node = self.find(Place::of(1, page)).ok();
        match node.and_then(|at| self.nodes.get(at)) {
            Some(node) => node
                .room(page, pages, access)
                .map_err(MapError::MappedTooOften),
            None => Ok(()),
        }
    }

    /// Links the tables above a page, from the lowest up, so that hardware meets only tables
    /// that are whole.
    fn link<P: Platform>(&mut self, platform: &P, page: Hpa) {
        for level in [1, 2, 3] {
            let place = Place::of(level, page);
            let Ok(at) = self.find(place) else {
                continue;
            };
            let table = match self.nodes.get_mut(at) {
                Some(node) if !node.linked => {
                    node.linked = true;
                    node.table.hpa()
                }
                _ => continue,
            };
            let above = self.find(place.above()).ok();
            let parent = above.and_then(|at| self.nodes.get(at));
            let parent = parent.map_or(&self.root, |node| &node.table);
            let pointer = PermissionPointer::new()
                .with_valid(true)
                .with_frame(table.as_u64() >> PAGE_SHIFT);
            let words = [0, pointer.into_bits()];
            platform.publish128(parent, place.cell_above(), words, self.coherence);
        }
    }
}

/// Runs, cut at the borders of the regions of 32 MiB that one table of level 1 has.
fn pieces(runs: &[Run]) -> impl Iterator<Item = (Hpa, u64)> {
    runs.iter().flat_map(|run| {
        let mut next = run.hpa.as_u64();
        let mut left = run.pages;
        core::iter::from_fn(move || {
            let here = next >> PAGE_SHIFT & node::PAGES.wrapping_sub(1);
            let pages = left.min(node::PAGES.wrapping_sub(here));
            let page = Hpa::new(next);
            next = next.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
            left = left.wrapping_sub(pages);
            (pages > 0).then_some((page, pages))
        })
    })
}
