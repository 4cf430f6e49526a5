//! What is done, and how it is timed.

use iommu_core::{Hpa, Iova, LeafSizes, Run};
use std::time::Instant;

/// Where the range begins: a multiple of 512 GiB, so that every page size fits.
pub(crate) const IOVA: Iova = Iova::new(512 << 30);

/// A range to be mapped at [`IOVA`] by one call, and unmapped by one call.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Log2 of the bytes of a leaf.
    pub(crate) shift: u32,
    pub(crate) leaves: u64,
    pub(crate) sizes: LeafSizes,
    /// Host memory, in runs of whole leaves.
    pub(crate) runs: Vec<Run>,
    pub(crate) rounds: u32,
}

impl Workload {
    pub(crate) fn all() -> [Self; 4] {
        let small = LeafSizes::default();
        let mib2 = LeafSizes {
            mib2: true,
            gib1: false,
        };
        let gib1 = LeafSizes {
            mib2: true,
            gib1: true,
        };
        [
            Self::contiguous("1 GiB, 4 KiB pages, one run", 12, 1 << 18, small, 40),
            Self::scattered("1 GiB, 4 KiB pages, each elsewhere", 1 << 18, gib1, 40),
            Self::contiguous("64 GiB, 2 MiB pages", 21, 1 << 15, mib2, 100),
            Self::contiguous("256 GiB, 1 GiB pages", 30, 1 << 8, gib1, 400),
        ]
    }

    fn contiguous(
        name: &'static str,
        shift: u32,
        leaves: u64,
        sizes: LeafSizes,
        rounds: u32,
    ) -> Self {
        // Aligned to the leaf and to nothing larger: nobody can do with fewer leaves.
        let run = Run {
            hpa: Hpa::new((1 << 40) + (1 << shift)),
            pages: leaves << (shift - 12),
        };
        Self {
            name,
            shift,
            leaves,
            sizes,
            runs: vec![run],
            rounds,
        }
    }

    /// Every page for itself, as a guest's memory is after some time.
    fn scattered(name: &'static str, leaves: u64, sizes: LeafSizes, rounds: u32) -> Self {
        // An odd number modulo a power of two visits every page once.
        let elsewhere = |page: u64| page.wrapping_mul(0x9e37_79b1) % leaves;
        let run = |page| Run {
            hpa: Hpa::new((1 << 40) + (elsewhere(page) << 12)),
            pages: 1,
        };
        Self {
            name,
            shift: 12,
            leaves,
            sizes,
            runs: (0..leaves).map(run).collect(),
            rounds,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.leaves << self.shift
    }

    /// The host address of each leaf.
    pub(crate) fn pages(&self) -> impl Iterator<Item = u64> {
        let shift = self.shift;
        self.runs.iter().flat_map(move |run| {
            let leaves = run.pages >> (shift - 12);
            (0..leaves).map(move |leaf| run.hpa.as_u64() + (leaf << shift))
        })
    }
}

/// Someone who maps and unmaps the range. What it prepares is not timed.
pub(crate) trait Contestant {
    fn name(&self) -> &'static str;
    fn prepare(&mut self);
    fn map(&mut self);
    fn unmap(&mut self);
    /// Gives everything back.
    fn clean_up(&mut self);
    /// Bytes of tables while the range is mapped; 0 if it makes none.
    fn table_bytes(&self) -> usize;
}

/// The best times so far, in nanoseconds a leaf.
pub(crate) struct Fastest {
    pub(crate) map: f64,
    pub(crate) unmap: f64,
    pub(crate) table_bytes: f64,
}

impl Default for Fastest {
    fn default() -> Self {
        Self {
            map: f64::INFINITY,
            unmap: f64::INFINITY,
            table_bytes: 0.0,
        }
    }
}

impl Fastest {
    /// One round.
    pub(crate) fn add(&mut self, contestant: &mut dyn Contestant, leaves: u64) {
        contestant.prepare();
        let map = nanoseconds(|| contestant.map());
        self.table_bytes = contestant.table_bytes() as f64;
        let unmap = nanoseconds(|| contestant.unmap());
        contestant.clean_up();
        self.map = self.map.min(map / leaves as f64);
        self.unmap = self.unmap.min(unmap / leaves as f64);
    }
}

fn nanoseconds(act: impl FnOnce()) -> f64 {
    let start = Instant::now();
    act();
    start.elapsed().as_secs_f64() * 1e9
}
