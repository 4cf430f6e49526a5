//! The arena of a [`TestPlatform`] as the model's memory.
//!
//! A driver fills frames that hardware cannot reach yet by plain stores, of which nobody is
//! told. So a copy of every frame is kept: where it differs, the processor has stored
//! something that the model has not seen as a step.

use iommu_core::{Frame, Hpa, Order};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use test_platform::TestPlatform;
use vtd_model::HostMemory;

/// A store that the model has not been told of.
pub(crate) struct PlainStore {
    pub(crate) hpa: u64,
    /// What the model believes to be there.
    pub(crate) before: u64,
    pub(crate) now: u64,
}

pub(crate) struct Memory {
    pub(crate) platform: TestPlatform,
    /// What the model has seen of each page of each frame.
    seen: Mutex<BTreeMap<u64, Box<[u64; Frame::CELLS_IN_PAGE]>>>,
}

/// Frames larger than this are written cell by cell through `publish`, or (queues) are
/// always read coherently: they are not watched.
const WATCHED: Order = Order::PAGE;

impl Memory {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            platform: TestPlatform::new(pages),
            seen: Mutex::default(),
        }
    }

    /// Watches a frame that was just handed out, zeroed.
    pub(crate) fn watch(&self, frame: &Frame) {
        if frame.order() <= WATCHED {
            self.seen()
                .insert(frame.hpa().as_u64(), Box::new([0; Frame::CELLS_IN_PAGE]));
        }
    }

    /// Forgets a frame that comes back.
    pub(crate) fn unwatch(&self, frame: &Frame) {
        self.seen().remove(&frame.hpa().as_u64());
    }

    /// Stores since the last look, in the order of their addresses.
    pub(crate) fn plain_stores(&self) -> Vec<PlainStore> {
        let mut stores = Vec::new();
        for (&page, cells) in self.seen().iter() {
            let Some(now) = self.platform.device_page(Hpa::new(page)) else {
                continue;
            };
            for (hpa, (&before, now)) in (page..).step_by(8).zip(cells.iter().zip(now)) {
                let now = now.load(Ordering::Relaxed);
                if now != before {
                    stores.push(PlainStore { hpa, before, now });
                }
            }
        }
        stores
    }

    /// Makes memory what the model believes, so that it sees the store when it is repeated.
    pub(crate) fn take_back(&self, store: &PlainStore) {
        self.platform
            .device_store(Hpa::new(store.hpa), store.before);
    }

    /// The model has seen this value.
    pub(crate) fn note(&self, hpa: u64, value: u64) {
        if let Some(cells) = self.seen().get_mut(&(hpa & !0xfff)) {
            cells[(hpa as usize & 0xfff) / 8] = value;
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u64; Frame::CELLS_IN_PAGE]>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostMemory for Memory {
    fn load(&self, hpa: u64) -> Option<u64> {
        self.platform.device_load(Hpa::new(hpa))
    }

    fn store(&self, hpa: u64, value: u64) -> Option<()> {
        self.load(hpa)?;
        self.platform.device_store(Hpa::new(hpa), value);
        self.note(hpa, value);
        Some(())
    }

    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>> {
        let done = self
            .platform
            .device_compare_exchange(Hpa::new(hpa), current, new)?;
        if done.is_ok() {
            self.note(hpa, new);
        }
        Some(done)
    }
}
