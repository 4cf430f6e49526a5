//! The platform.

use crate::memory::Memory;
use iommu_core::sync::Rank;
use iommu_core::{Coherence, Frame, Hpa, Nanoseconds, Observer, Order, OutOfFrames, Platform};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use test_platform::TestPlatform;
use vtd_model::{Builder, ConfigError, Machine, Message, Owner, Violation, Width};

/// What one tick of the model's clock is worth.
const TICK: Nanoseconds = Nanoseconds::from_micros(1);

/// Memory, time and locks around a [`Machine`]. `E` is what the driver under test observes.
///
/// A machine's lock is held for one step at a time; nothing is called with it held but the
/// closure of [`with_machine`](Self::with_machine).
pub struct ModelPlatform<E> {
    memory: Arc<Memory>,
    machine: Mutex<Machine>,
    events: Mutex<Vec<E>>,
    /// Looks at the clock: a driver that polls without waiting sees time pass too.
    looks: AtomicU64,
    write_backs_lost: AtomicBool,
    /// A unit reads behind a write buffer (CAP.RWBF): the model must see a store itself.
    buffered: bool,
    before_write: Mutex<Option<BeforeWrite>>,
    before_exchange: Mutex<Option<BeforeExchange>>,
    messages: Mutex<Vec<Message>>,
    sleepy: AtomicBool,
    deaf: AtomicBool,
}

/// Called with the machine before a cell is exchanged: its address.
type BeforeExchange = Box<dyn FnMut(&mut Machine, u64) + Send>;

/// Called with the machine before a register is written: unit, offset, value.
type BeforeWrite = Box<dyn FnMut(&mut Machine, usize, usize, u64) + Send>;

impl<E> ModelPlatform<E> {
    /// A machine over an arena of `pages` pages. Its memory is already set in the builder
    /// that `build` gets and returns.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn new(
        pages: usize,
        build: impl FnOnce(Builder) -> Builder,
    ) -> Result<Arc<Self>, ConfigError> {
        let memory = Arc::new(Memory::new(pages));
        let mut machine = build(Machine::builder().memory(memory.clone())).build()?;
        let buffered = has_write_buffer(&mut machine);
        Ok(Arc::new(Self {
            memory,
            machine: Mutex::new(machine),
            events: Mutex::default(),
            looks: AtomicU64::new(0),
            write_backs_lost: AtomicBool::new(false),
            buffered,
            before_write: Mutex::default(),
            before_exchange: Mutex::default(),
            messages: Mutex::default(),
            sleepy: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
        }))
    }

    /// Does something with the machine, which has seen every store by then. The closure
    /// must not call the driver.
    pub fn with_machine<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = lock(&self.machine);
        self.tell_plain_stores(&mut machine);
        act(&mut machine)
    }

    /// The arena: fails allocations on demand, counts what is out.
    pub fn arena(&self) -> &TestPlatform {
        &self.memory.platform
    }

    /// A page of memory that belongs to `owner`, for devices to reach.
    ///
    /// # Errors
    /// As [`Platform::allocate`].
    pub fn page_for(&self, owner: Owner) -> Result<Frame, OutOfFrames>
    where
        E: Send,
    {
        let page = self.allocate(Order::PAGE)?;
        self.with_machine(|machine| machine.own(page.hpa().as_u64(), page.order().bytes(), owner));
        Ok(page)
    }

    /// Does something with the machine that is not the driver's doing: a request of a device.
    /// What the driver has stored since its last step is not looked at, which no hardware can
    /// reach before its next one; so this costs little.
    pub fn as_hardware<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        act(&mut lock(&self.machine))
    }

    /// A store by somebody else than the driver, such as a guest's into its own memory: one
    /// step, and written back at once. Costs as little as [`as_hardware`](Self::as_hardware).
    pub fn foreign_store(&self, hpa: Hpa, value: u64) {
        self.as_hardware(|machine| {
            machine.write_u64(hpa.as_u64(), value);
            machine.written_back(hpa.as_u64(), 8);
        });
    }

    /// Leaves every write-back out from now on, as a driver would that forgot them; or no
    /// longer.
    pub fn lose_write_backs(&self, lose: bool) {
        self.write_backs_lost.store(lose, Ordering::Relaxed);
    }

    /// Calls `before` whenever the driver writes a register, before the unit gets it: with
    /// the machine, the unit, the offset and the value. For whoever wants something to
    /// happen at just that moment.
    pub fn before_writes(
        &self,
        before: impl FnMut(&mut Machine, usize, usize, u64) + Send + 'static,
    ) {
        *lock(&self.before_write) = Some(Box::new(before));
    }

    /// Calls `before` whenever the driver is about to exchange a cell, behind its last look
    /// at it: with the machine and the cell's address.
    pub fn before_exchanges(&self, before: impl FnMut(&mut Machine, u64) + Send + 'static) {
        *lock(&self.before_exchange) = Some(Box::new(before));
    }

    /// Interrupts that arrived while the driver slept, since the last call.
    pub fn interrupts(&self) -> Vec<Message> {
        std::mem::take(&mut *lock(&self.messages))
    }

    /// A CPU that once asleep is woken by interrupts and by time alone, even if what it waits
    /// for has come; and which hears no interrupt if it is `deaf`.
    pub fn sleep_deeply(&self, deaf: bool) {
        self.sleepy.store(true, Ordering::Relaxed);
        self.deaf.store(deaf, Ordering::Relaxed);
    }

    fn written_back(&self, machine: &mut Machine, hpa: u64, bytes: u64) {
        if !self.write_backs_lost.load(Ordering::Relaxed) {
            machine.written_back(hpa, bytes);
        }
    }

    /// What was observed since the last call.
    pub fn take_events(&self) -> Vec<E> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// What was violated since the last call.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.with_machine(Machine::take_violations)
    }

    /// The machine, for what software does without storing before.
    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    fn tell_plain_stores(&self, machine: &mut Machine) {
        for store in self.memory.plain_stores() {
            if self.buffered {
                self.memory.take_back(&store);
                machine.write_u64(store.hpa, store.now);
            } else {
                self.memory.note(store.hpa, store.now);
                machine.stored(store.hpa, 8);
            }
        }
    }

    pub(crate) fn write_register(&self, unit: usize, offset: usize, width: Width, value: u64) {
        self.with_machine(|machine| {
            if let Some(before) = &mut *lock(&self.before_write) {
                before(machine, unit, offset, value);
            }
            machine.write(unit, offset, width, value);
        });
    }

    /// One store, after every store before.
    fn publish(&self, frame: &Frame, cells: Range<usize>, values: &[u64], coherence: Coherence) {
        assert!(cells.end <= frame.cells().len(), "cells of the frame");
        let hpa = frame.hpa().as_u64() + 8 * cells.start as u64;
        self.with_machine(|machine| {
            match *values {
                [low, high] => machine.write_u128(hpa, [low, high]),
                _ => machine.write_u64(hpa, values[0]),
            }
            if coherence == Coherence::WriteBack {
                self.written_back(machine, hpa, 8 * values.len() as u64);
            }
        });
    }
}

impl<E: Send> Platform for ModelPlatform<E> {
    fn allocate(&self, order: Order) -> Result<Frame, OutOfFrames> {
        let frame = self.memory.platform.allocate(order)?;
        self.memory.watch(&frame);
        let (hpa, bytes) = (frame.hpa().as_u64(), order.bytes());
        self.with_machine(|machine| {
            machine.stored(hpa, bytes);
            machine.written_back(hpa, bytes);
            machine.own(hpa, bytes, Owner::Host);
        });
        Ok(frame)
    }

    /// The memory is nobody's from here on: whoever can still reach it, or still reads it as
    /// a table, is told as a violation.
    fn release(&self, frame: Frame) {
        let (hpa, bytes) = (frame.hpa().as_u64(), frame.order().bytes());
        self.with_machine(|machine| machine.own(hpa, bytes, Owner::Nobody));
        self.memory.unwatch(&frame);
        self.memory.platform.release(frame);
        self.with_machine(|machine| machine.stored(hpa, bytes));
    }

    unsafe fn adopt(&self, hpa: Hpa, order: Order) -> Frame {
        // SAFETY: the caller's promise is the same.
        unsafe { self.memory.platform.adopt(hpa, order) }
    }

    fn publish64(&self, frame: &Frame, index: usize, value: u64, coherence: Coherence) {
        self.publish(frame, index..index + 1, &[value], coherence);
    }

    fn publish128(&self, frame: &Frame, index: usize, value: [u64; 2], coherence: Coherence) {
        assert!(index.is_multiple_of(2), "128-bit stores are aligned");
        self.publish(frame, index..index + 2, &value, coherence);
    }

    fn exchange64(
        &self,
        frame: &Frame,
        index: usize,
        current: u64,
        value: u64,
        coherence: Coherence,
    ) -> Result<(), u64> {
        assert!(index < frame.cells().len(), "a cell of the frame");
        let hpa = frame.hpa().as_u64() + 8 * index as u64;
        self.with_machine(|machine| {
            if let Some(before) = &mut *lock(&self.before_exchange) {
                before(machine, hpa);
            }
            // Hardware waits for the machine's lock, so look and store are one step.
            let found = machine.read_u64(hpa);
            if found != current {
                return Err(found);
            }
            machine.write_u64(hpa, value);
            if coherence == Coherence::WriteBack {
                self.written_back(machine, hpa, 8);
            }
            Ok(())
        })
    }

    fn write_back(&self, frame: &Frame, cells: Range<usize>) {
        assert!(cells.end <= frame.cells().len(), "cells of the frame");
        let hpa = frame.hpa().as_u64() + 8 * cells.start as u64;
        let bytes = 8 * cells.len() as u64;
        self.with_machine(|machine| self.written_back(machine, hpa, bytes));
    }

    fn peek(&self, at: Hpa) -> Option<u64> {
        self.memory.platform.device_load(at)
    }

    fn fence(&self) {
        self.memory.platform.fence();
    }

    fn now(&self) -> Nanoseconds {
        let ticks = lock(&self.machine).now();
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        Nanoseconds(ticks * TICK.0 + looks)
    }

    fn relax(&self) {
        lock(&self.machine).tick();
    }

    /// Ends with the first message that the machine sends; see
    /// [`interrupts`](Self::interrupts).
    fn rest(&self, limit: Nanoseconds, done: &mut dyn FnMut() -> bool) {
        let begun = self.now();
        while !done() || self.sleepy.load(Ordering::Relaxed) {
            let sent = {
                let mut machine = lock(&self.machine);
                machine.tick();
                machine.take_messages()
            };
            let woken = !sent.is_empty() && !self.deaf.load(Ordering::Relaxed);
            lock(&self.messages).extend(sent);
            if woken || self.now().since(begun) >= limit {
                return;
            }
        }
    }

    fn enter(&self, rank: Rank) -> u64 {
        self.memory.platform.enter(rank)
    }

    fn leave(&self, rank: Rank, state: u64) {
        self.memory.platform.leave(rank, state);
    }
}

impl<E: Clone + Send> Observer<E> for ModelPlatform<E> {
    fn observe(&self, event: &E) {
        lock(&self.events).push(event.clone());
    }
}

impl<E> fmt::Debug for ModelPlatform<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.memory.platform, f)
    }
}

/// Whether any unit has CAP.RWBF.
fn has_write_buffer(machine: &mut Machine) -> bool {
    const CAP: usize = 0x08;
    const RWBF: u64 = 1 << 4;
    let mut unit = 0;
    while machine.register_bytes(unit) != 0 {
        if machine.read(unit, CAP, Width::Qword) & RWBF != 0 {
            return true;
        }
        unit += 1;
    }
    false
}

/// A failed assertion in one test thread must not hide behind a poisoned lock in another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
