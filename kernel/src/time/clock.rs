//! The kernel's clock.

use super::calibration::{Reference, Scale, measure};
use super::reference::{Pit, PmTimer};
use core::fmt;
use core::hint;
use iommu_core::Nanoseconds;
use raw_cpuid::CpuId;
use spin::Once;
use x86_64::instructions::random::RdRand;

/// Where the rate of the time-stamp counter is known from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum ClockSource {
    /// CPUID leaf 15h: ratio and crystal.
    Crystal,
    /// CPUID leaf 4000_0010h of a hypervisor.
    Hypervisor,
    /// Measured against the 8254 timer.
    Pit,
    /// Measured against the ACPI power management timer.
    PmTimer,
}

/// No way to learn the counter's rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoClock;

impl fmt::Display for NoClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the time-stamp counter's rate is unknown: CPUID does not tell it, and neither \
             the 8254 nor the ACPI timer counts",
        )
    }
}

/// Counts of the time-stamp counter after which a reference that stands still is given up:
/// about a second.
const PATIENCE: u64 = 1 << 32;

struct Clock {
    source: ClockSource,
    hertz: u64,
    scale: Scale,
    /// The counter and the time when the clock was made.
    start: (u64, u64),
}

static CLOCK: Once<Clock> = Once::new();

fn counter() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and the kernel does not disable it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Time since some fixed point, never backwards.
///
/// Until [`start`] the counter is taken to run at 1 GHz.
pub fn now() -> Nanoseconds {
    let counts = counter();
    Nanoseconds(match CLOCK.get() {
        Some(clock) => {
            let (start_counts, start_time) = clock.start;
            let passed = clock.scale.nanoseconds(counts.saturating_sub(start_counts));
            start_time.saturating_add(passed)
        }
        None => counts,
    })
}

/// A number that differs from run to run: where random choices start if nobody says where.
///
/// The CPU's random numbers, if it has them, and the time-stamp counter, which an emulator
/// that counts instructions repeats. Not for secrets.
pub fn seed() -> u64 {
    let random = RdRand::new()
        .and_then(|random| random.get_u64())
        .unwrap_or(0);
    // One step of splitmix64, so that counts close to each other give numbers that are not.
    let mixed = (counter() ^ random).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What the clock goes by, and the counter's rate in Hz.
pub fn source() -> Option<(ClockSource, u64)> {
    CLOCK.get().map(|clock| (clock.source, clock.hertz))
}

/// Makes the clock, if it can be made without ACPI: from CPUID, else by the 8254.
pub fn start() -> Result<(), NoClock> {
    let known = told_by_cpuid().or_else(|| measured(ClockSource::Pit, &mut Pit::start()));
    set(known)
}

/// Makes the clock by the ACPI timer, if there is none yet.
pub(crate) fn start_by_pm_timer(port: u16, wide: bool) -> Result<(), NoClock> {
    if CLOCK.get().is_some() {
        return Ok(());
    }
    set(measured(ClockSource::PmTimer, &mut PmTimer { port, wide }))
}

fn measured(source: ClockSource, reference: &mut dyn Reference) -> Option<(ClockSource, u64)> {
    measure(reference, counter, PATIENCE).map(|hertz| (source, hertz))
}

fn set(known: Option<(ClockSource, u64)>) -> Result<(), NoClock> {
    let (source, hertz) = known.ok_or(NoClock)?;
    let scale = Scale::new(hertz).ok_or(NoClock)?;
    CLOCK.call_once(|| {
        let counts = counter();
        Clock {
            source,
            hertz,
            scale,
            start: (counts, counts),
        }
    });
    Ok(())
}

fn told_by_cpuid() -> Option<(ClockSource, u64)> {
    let cpuid = CpuId::new();
    let crystal = cpuid.get_tsc_info().and_then(|info| info.tsc_frequency());
    let crystal = crystal.map(|hertz| (ClockSource::Crystal, hertz));
    let hypervisor = || {
        let kilohertz = cpuid.get_hypervisor_info()?.tsc_frequency()?;
        Some((ClockSource::Hypervisor, u64::from(kilohertz) * 1000))
    };
    crystal.or_else(hypervisor).filter(|&(_, hertz)| hertz > 0)
}

/// The kernel's time, for drivers of devices.
#[derive(Clone, Copy, Debug)]
pub struct KernelClock;

impl iommu_core::Clock for KernelClock {
    fn now(&self) -> Nanoseconds {
        now()
    }

    fn relax(&self) {
        hint::spin_loop();
    }
}
