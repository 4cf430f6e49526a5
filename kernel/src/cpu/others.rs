//! Starting the CPUs that the loader left alone, and waking them.
//!
//! One after another: INIT, a start-up interrupt, another one if need be (SDM 3A, 9.4.4), and
//! a bounded wait. A CPU that does not answer is named and left out. CPUs that are used have
//! the numbers from 0 on without gaps.

use super::apic::{self, Signal};
use super::vectors::{self, Vector};
use super::{interrupts, per_cpu, start_this};
use crate::memory;
use crate::time;
use crate::turns;
use boot::{BootInfo, other_cpus};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use iommu_core::{Hpa, Nanoseconds, PAGE_SHIFT};
use per_cpu::MAX_CPUS;
use spin::Once;

/// Between INIT and the start-up interrupt.
const AFTER_INIT: Nanoseconds = Nanoseconds::from_millis(10);
/// After which the start-up interrupt is sent once more.
const SECOND_START_UP: Nanoseconds = Nanoseconds(200_000);
/// After which a CPU is left out. Far more than a machine needs; an emulator whose host is
/// busy may need some of it.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(2_000);

/// The number and the APIC id of the CPU that is being started.
static STARTING: AtomicUsize = AtomicUsize::new(0);
static STARTING_ID: AtomicU32 = AtomicU32::new(0);
/// The CPU that answered last.
static ANSWERED: AtomicUsize = AtomicUsize::new(0);
/// CPUs that are used.
static COUNT: AtomicUsize = AtomicUsize::new(1);
/// Their APIC ids, by number.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// What wakes a CPU.
static KICK: Once<Vector> = Once::new();

/// A kick does nothing but end a halt, or a stay in a guest.
static KICKED: fn(Vector) = |_| {};

/// CPUs that are used.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// The APIC id of a CPU that is used.
pub(crate) fn apic_id(index: u32) -> Option<u32> {
    let index = index as usize;
    (index < count()).then(|| APIC_IDS[index].load(Ordering::Relaxed))
}

/// Makes a CPU leave the guest that it is in, or its halt. Nothing for the CPU that asks. False
/// if the local APIC does not send it; then the CPU looks again at the end of its slice.
pub fn kick(index: u32) -> bool {
    if index == per_cpu::index() {
        return true;
    }
    match (apic_id(index), KICK.get()) {
        (Some(id), Some(vector)) => apic::send(id, Signal::Interrupt(*vector)).is_ok(),
        _ => true,
    }
}

/// Starts all CPUs of these APIC ids but this one. Once, by the first CPU.
pub fn start(info: &BootInfo, processors: &[u32]) {
    let own = apic::id();
    APIC_IDS[0].store(own, Ordering::Relaxed);
    let mut others = processors.iter().copied().filter(|&id| id != own);
    let Some(first) = others.next() else {
        return;
    };
    let Some(page) = prepare(info) else {
        defmt::warn!("no page below 1 MiB is free, or no vector: one CPU is used");
        return;
    };
    for id in core::iter::once(first).chain(others) {
        let index = count();
        if index == MAX_CPUS {
            defmt::warn!(
                "CPU with APIC id {=u32} is left out: {=usize} are used",
                id,
                index
            );
        } else if let Err(why) = start_one(index, id, page) {
            defmt::warn!(
                "CPU with APIC id {=u32} is left out: {=str}",
                id,
                why.name()
            );
            if why == LeftOut::Lost {
                return;
            }
        } else {
            defmt::debug!("CPU {=usize}: APIC id {=u32}", index, id);
        }
    }
}

/// Puts the first instructions below 1 MiB, and gets the vector of kicks.
fn prepare(info: &BootInfo) -> Option<u8> {
    let vector = vectors::allocate(&KICKED).ok()?;
    KICK.call_once(|| vector);
    let (page, cells): (Hpa, _) = memory::low_page(info)?;
    for (cell, bytes) in cells.iter().zip(other_cpus::trampoline().chunks(8)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        cell.store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
    u8::try_from(page.as_u64() >> PAGE_SHIFT).ok()
}

/// Why a CPU is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LeftOut {
    /// Its number is beyond what the mode of the local APICs can name.
    Unreachable,
    /// The signal could not be sent.
    NotSent,
    /// It did not answer.
    Silent,
    /// It, or another one that was left out before, has begun and does not go on. Its number
    /// and its stack are lost, and so are all further CPUs.
    Lost,
}

impl LeftOut {
    const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "its APIC id needs x2APIC mode, which is off",
            Self::NotSent => "the local APIC does not send the interrupt that starts it",
            Self::Silent => "it does not answer",
            Self::Lost => "it began and did not go on; no more are started",
        }
    }
}

fn start_one(index: usize, id: u32, page: u8) -> Result<(), LeftOut> {
    if id >= 0xff && !apic::is_x2apic() {
        return Err(LeftOut::Unreachable);
    }
    let top = per_cpu::stack_top(index).ok_or(LeftOut::Silent)?;
    STARTING.store(index, Ordering::Relaxed);
    STARTING_ID.store(id, Ordering::Relaxed);
    // SAFETY: the stack of a number that no CPU has: if its offer is taken, the number is
    // used or lost.
    unsafe { other_cpus::offer(top, begin) };
    let answered = signal(id, page).map(|()| wait(PATIENCE, || has_answered(index)));
    if answered == Ok(true) {
        APIC_IDS[index].store(id, Ordering::Relaxed);
        COUNT.store(index + 1, Ordering::Release);
        return Ok(());
    }
    match (other_cpus::withdraw(), answered) {
        (false, _) => Err(LeftOut::Lost),
        (true, Err(apic::Stuck)) => Err(LeftOut::NotSent),
        (true, Ok(_)) => Err(LeftOut::Silent),
    }
}

fn signal(id: u32, page: u8) -> Result<(), apic::Stuck> {
    apic::send(id, Signal::Init)?;
    wait(AFTER_INIT, || false);
    apic::send(id, Signal::StartUp { page })?;
    let index = STARTING.load(Ordering::Relaxed);
    if !wait(SECOND_START_UP, || has_answered(index)) {
        apic::send(id, Signal::StartUp { page })?;
    }
    Ok(())
}

fn has_answered(index: usize) -> bool {
    ANSWERED.load(Ordering::Acquire) == index
}

/// Waits until `done`, or so long; whether it is.
fn wait(limit: Nanoseconds, done: impl Fn() -> bool) -> bool {
    let begun = time::now();
    while !done() {
        if time::now().since(begun) >= limit {
            return done();
        }
        core::hint::spin_loop();
    }
    true
}

/// The first Rust code of another CPU, on its own stack.
extern "C" fn begin() -> ! {
    let index = STARTING.load(Ordering::Acquire);
    // SAFETY: this CPU took the stack of this number, so nobody else does.
    unsafe { per_cpu::start(index) };
    start_this();
    memory::enter();
    apic::start_other();
    if apic::id() != STARTING_ID.load(Ordering::Relaxed) {
        // Started too late, by what was meant for another.
        halt();
    }
    ANSWERED.store(index, Ordering::Release);
    interrupts::restore(interrupts::Saved::ON);
    turns::serve()
}

fn halt() -> ! {
    let _ = interrupts::disable();
    loop {
        x86_64::instructions::hlt();
    }
}

/// Puts all other CPUs back to where they wait for a start-up interrupt. They do nothing more
/// of this kernel's.
pub(crate) fn stop() {
    let used = count();
    for id in APIC_IDS.iter().take(used).skip(1) {
        // One that is not reached goes on halting in this kernel's memory.
        let _ = apic::send(id.load(Ordering::Relaxed), Signal::Init);
    }
    COUNT.store(1, Ordering::Release);
}
