//! A [`Platform`] for host tests.
//!
//! [`TestPlatform`] hands out pages of an arena at made-up physical addresses and checks
//! what the real ones cannot: that what is adopted was allocated and not released, that
//! frames come back whole and once, that locks are taken in the order of their ranks. It
//! counts how often each frame is adopted, makes the n-th allocation fail, keeps a second
//! memory for hardware that does not snoop, and tells a watcher of every step that
//! hardware could see.
//!
//! It panics where its user breaks a contract. It is for tests only.
//!
//! # Invariants that the `unsafe` here rests on
//! 1. The arena is never moved or freed while the platform exists, and consists of atomic
//!    cells.
//! 2. A block is in `blocks` from its allocation to its release, and blocks never overlap.

mod arena;
mod ranks;

use arena::{Arena, Block};
use iommu_core::sync::Rank;
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Order, OutOfFrames, Platform};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called after each store or write-back that hardware could see.
type Watcher = Arc<dyn Fn(&TestPlatform) + Send + Sync>;

/// Memory, time and locks for host tests.
pub struct TestPlatform {
    arena: Arena,
    state: Mutex<State>,
    watcher: Mutex<Option<Watcher>>,
    nanoseconds: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Allocations until one fails; 0 for never.
    until_failure: u64,
    allocations: u64,
}

impl TestPlatform {
    /// An arena of `pages` pages whose memory hardware snoops.
    pub fn new(pages: usize) -> Self {
        Self::with(Arena::new(pages, false))
    }

    /// An arena of `pages` pages where hardware sees only what was written back.
    pub fn non_coherent(pages: usize) -> Self {
        Self::with(Arena::new(pages, true))
    }

    fn with(arena: Arena) -> Self {
        Self {
            arena,
            state: Mutex::default(),
            watcher: Mutex::default(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// Makes the `n`-th allocation from now on fail, once; 1 is the next. 0 takes the
    /// order back.
    pub fn fail_allocation(&self, n: u64) {
        self.state().until_failure = n;
    }

    /// Whether the failure that was ordered is still to come.
    pub fn failure_is_pending(&self) -> bool {
        self.state().until_failure > 0
    }

    /// Allocations that succeeded since the beginning.
    pub fn allocations(&self) -> u64 {
        self.state().allocations
    }

    /// Pages that are allocated and not released.
    pub fn outstanding(&self) -> usize {
        self.arena.outstanding()
    }

    /// How often each frame was adopted since the last call of
    /// [`forget_adoptions`](Self::forget_adoptions).
    pub fn adoptions(&self) -> HashMap<Hpa, u64> {
        self.arena.adoptions().collect()
    }

    /// Starts counting adoptions anew.
    pub fn forget_adoptions(&self) {
        self.arena.forget_adoptions();
    }

    /// What hardware reads at `hpa`, a multiple of 8; `None` outside of the arena.
    pub fn device_load(&self, hpa: Hpa) -> Option<u64> {
        self.arena.device_load(hpa)
    }

    /// What hardware writes at `hpa`: both it and the CPU see the value from now on.
    pub fn device_store(&self, hpa: Hpa, value: u64) {
        self.arena.device_store(hpa, value);
    }

    /// The page at `hpa` as hardware sees it; `None` outside of the arena.
    pub fn device_page(&self, hpa: Hpa) -> Option<&[AtomicU64; Frame::CELLS_IN_PAGE]> {
        self.arena.device_page(hpa)
    }

    /// What hardware does atomically at `hpa`: replaces `current` by `new`, or tells what it
    /// found instead; `None` outside of the arena.
    pub fn device_compare_exchange(
        &self,
        hpa: Hpa,
        current: u64,
        new: u64,
    ) -> Option<Result<u64, u64>> {
        self.arena.device_compare_exchange(hpa, current, new)
    }

    /// Calls `watcher` after each step of [`Platform`] that hardware could see: a publish,
    /// an exchange (before it too), or a write-back.
    pub fn watch(&self, watcher: impl Fn(&Self) + Send + Sync + 'static) {
        *lock(&self.watcher) = Some(Arc::new(watcher));
    }

    /// Takes the watcher away.
    pub fn unwatch(&self) {
        *lock(&self.watcher) = None;
    }

    /// Locks that this thread holds: sections that no interrupt can break into.
    pub fn locks_held(&self) -> usize {
        ranks::held()
    }

    /// Lets time pass.
    pub fn advance(&self, span: Nanoseconds) {
        self.nanoseconds.fetch_add(span.0, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn step_seen(&self) {
        let watcher = lock(&self.watcher).clone();
        if let Some(watcher) = watcher {
            watcher(self);
        }
    }
}

/// A failed assertion in one test thread must not hide behind a poisoned lock in another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Platform for TestPlatform {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        let mut state = self.state();
        if state.until_failure > 0 {
            state.until_failure -= 1;
            if state.until_failure == 0 {
                return Err(OutOfFrames { order });
            }
        }
        let block = self.arena.take(order).ok_or(OutOfFrames { order })?;
        state.allocations += 1;
        // SAFETY: the arena gives each block to one owner, and lives as long as `self`.
        Ok(unsafe { Frame::from_raw(block.hpa, block.cells, order) })
    }

    fn release(&self, frame: Frame) {
        let (hpa, cells, order) = frame.into_raw();
        self.arena.give_back(Block { hpa, cells }, order);
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        let block = self.arena.adopt(hpa, order);
        // SAFETY: the caller's promise; that the block is allocated was checked.
        unsafe { Frame::from_raw(block.hpa, block.cells, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        let cell = frame.cells().get(index).expect("a cell of the frame");
        cell.store(value, Ordering::Release);
        if coherence == Coherence::WriteBack {
            self.arena.write_back(frame, index..index + 1);
        }
        self.step_seen();
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        assert!(index.is_multiple_of(2), "128-bit stores are aligned");
        let cells = frame.cells().get(index..index + 2).expect("two cells");
        // Not one store on the host; the watcher sees it as one.
        for (cell, value) in cells.iter().zip(value) {
            cell.store(value, Ordering::Release);
        }
        if coherence == Coherence::WriteBack {
            self.arena.write_back(frame, index..index + 2);
        }
        self.step_seen();
    }

    /// The watcher is called before too: hardware may set a flag between the last look at
    /// the cell and the exchange.
    fn exchange64(
        &self,
        frame: &Frame,
        index: usize,
        current: u64,
        value: u64,
        coherence: Coherence,
    ) -> Result<(), u64> {
        self.step_seen();
        let cell = frame.cells().get(index).expect("a cell of the frame");
        cell.compare_exchange(current, value, Ordering::AcqRel, Ordering::Acquire)?;
        if coherence == Coherence::WriteBack {
            self.arena.write_back(frame, index..index + 1);
        }
        self.step_seen();
        Ok(())
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        self.arena.write_back(frame, cells);
        self.step_seen();
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    fn now(&self) -> Nanoseconds {
        Nanoseconds(self.nanoseconds.load(Ordering::Relaxed))
    }

    fn relax(&self) {
        self.advance(Nanoseconds::from_micros(1));
        std::thread::yield_now();
    }

    fn enter(&self, rank: Rank) -> u64 {
        ranks::enter(rank)
    }

    fn leave(&self, rank: Rank, state: u64) {
        ranks::leave(rank, state);
    }
}

impl fmt::Debug for TestPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestPlatform({} pages out)", self.outstanding())
    }
}
