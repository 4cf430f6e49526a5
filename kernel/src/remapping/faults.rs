//! Faults: taken from the units by the fault event's interrupt, explained, told to whoever
//! asked.

use super::start::{Driver, remapping};
use crate::cpu::vectors::Vector;
use crate::cpu::{self, MAX_CPUS};
use crate::platform::KernelPlatform;
use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Backend, FaultKind, FaultRecord, Nanoseconds, Slot, WalkStep};
use spin::Once;

/// Faults that are explained in full; of later ones a guest could make any number.
const EXPLAINED: u64 = 256;

/// Whoever wants to know of each fault.
pub trait FaultSink: Sync {
    /// A device's request was refused. Called with interrupts off, no lock held.
    fn fault(&self, record: &FaultRecord);
}

static SINK: Once<&'static dyn FaultSink> = Once::new();
/// How often a CPU has begun to take faults, and was done with it.
struct Rounds {
    begun: AtomicU64,
    over: AtomicU64,
}

static ROUNDS: [Rounds; MAX_CPUS] = [const {
    Rounds {
        begun: AtomicU64::new(0),
        over: AtomicU64::new(0),
    }
}; MAX_CPUS];
static TAKEN: AtomicU64 = AtomicU64::new(0);
static INTERRUPTS: AtomicU64 = AtomicU64::new(0);
static LAST: Mutex<Option<FaultRecord>> = Mutex::new(Rank::Events, None);

/// Names who wants to know of each fault. The first one counts.
pub fn deliver_to(sink: &'static dyn FaultSink) {
    SINK.call_once(|| sink);
}

/// Faults that were taken so far.
pub fn taken() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}

/// The fault that was taken last.
pub fn last() -> Option<FaultRecord> {
    *LAST.lock(&KernelPlatform)
}

/// Fault events that came as interrupts so far.
pub fn interrupts() -> u64 {
    INTERRUPTS.load(Ordering::Relaxed)
}

/// The fault event's interrupt.
pub(super) static INTERRUPT: fn(Vector) = |_| {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
    drain();
};

/// Takes all faults that the units have recorded. For the end of a run, and for tests that
/// do not wait for the interrupt.
pub fn drain() {
    let Some(remapping) = remapping() else {
        return;
    };
    let round = &ROUNDS[cpu::index() as usize];
    round.begun.fetch_add(1, Ordering::AcqRel);
    remapping
        .driver
        .drain_faults(&mut |record| tell(&remapping.driver, record));
    round.over.fetch_add(1, Ordering::AcqRel);
}

/// Like [`drain`], and waits until other CPUs have delivered what they had taken before: then
/// whoever wants to know of a fault that has happened knows of it.
pub fn drain_and_settle() {
    /// Far more than a CPU needs to explain and log what it has taken; the CPUs of an emulator
    /// may stand still for a while.
    const PATIENCE: Nanoseconds = Nanoseconds::from_millis(2_000);
    drain();
    let begun = time::now();
    let own = cpu::index() as usize;
    let others = ROUNDS.iter().enumerate().filter(|(cpu, _)| *cpu != own);
    for (_, round) in others {
        let wanted = round.begun.load(Ordering::Acquire);
        while round.over.load(Ordering::Acquire) < wanted && time::now().since(begun) < PATIENCE {
            core::hint::spin_loop();
        }
    }
}

fn tell(driver: &Driver, record: &FaultRecord) {
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    if number < EXPLAINED {
        describe_fault(record);
        explain(driver, record);
    }
    *LAST.lock(&KernelPlatform) = Some(*record);
    if let Some(sink) = SINK.get() {
        sink.fault(record);
    }
}

/// Who wanted what, and why it was refused.
fn describe_fault(record: &FaultRecord) {
    let (device, reason) = (record.device, record.reason);
    if let Some(pasid) = record.pasid {
        defmt::info!(
            "the next fault is of a request with PASID {=u32}",
            pasid.as_u32()
        );
    }
    match record.kind {
        FaultKind::Dma { address, access } => {
            defmt::info!(
                "fault: {}: {} of {} refused, {}",
                device,
                access,
                address,
                reason
            )
        }
        FaultKind::Interrupt { index } => defmt::info!(
            "fault: {}: interrupt by entry {=u16} refused, {}",
            device,
            index,
            reason
        ),
        FaultKind::PageRequest { address } => {
            defmt::info!(
                "fault: {}: page request for {} dropped, {}",
                device,
                address,
                reason
            )
        }
    }
}

/// Writes the walk that led to a fault, as software reads it back now.
fn explain(driver: &Driver, record: &FaultRecord) {
    let FaultKind::Dma { address, access } = record.kind else {
        return;
    };
    let slot = Slot {
        device: record.device,
        pasid: record.pasid,
    };
    match driver.explain(slot, address, access, &mut describe) {
        Ok(hpa) => defmt::info!("  the tables lead to {} now: they have changed since", hpa),
        Err(reason) => defmt::info!("  the tables refuse it: {}", reason),
    }
}

fn describe(step: &WalkStep) {
    defmt::info!(
        "  {=str}: entry {=u16} at {}: {=[?]:#x}",
        step.table,
        step.index,
        step.entry_at,
        words(step)
    );
}

/// The entry's words, without those that its kind does not have.
fn words(step: &WalkStep) -> &[u64] {
    let used = step.words.iter().rposition(|&word| word != 0);
    step.words
        .get(..used.map_or(1, |last| last + 1))
        .unwrap_or_default()
}
