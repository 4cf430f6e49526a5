//! What is around a guest on this machine that its trials must leave alone.

use super::GuestError;
use crate::cpu;
use crate::cpu::vectors::{self, Handler, Vector};
use crate::host::Host;
use crate::memory::RegisterWindow;
use crate::remapping::{self, Driver, faults};
use crate::vm::Surroundings;
use alloc::vec::Vec;
use boot::layout::KERNEL_OFFSET;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{DeviceId, Hpa, IrqMessage, IrqRemapper, Mmio, PAGE_SIZE, Segment, SourceId};
use spin::Once;
use vtd::InterruptSource;
use vtd::registers::{
    Cap, Ecap, Feaddr, Fedata, Feuaddr, Gsts, Iqa, Irta, Register32, Register64, Rtaddr, Ver,
};

/// Words of a page.
const WORDS: usize = PAGE_SIZE as usize / 8;
const PATTERN: u64 = 0x7e57_ed1a_0b5e_7fed;

/// A page of the kernel's image that nobody writes to.
#[repr(C, align(4096))]
struct ImageCanary([AtomicU64; WORDS]);

static IMAGE_CANARY: ImageCanary = ImageCanary([const { AtomicU64::new(PATTERN) }; WORDS]);

/// Somebody else's interrupt, which no guest may raise.
struct ForeignInterrupt(AtomicU64);

impl Handler for ForeignInterrupt {
    fn handle(&self, _: Vector) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

static FOREIGN: ForeignInterrupt = ForeignInterrupt(AtomicU64::new(0));

/// This machine, as trials see it.
pub(super) struct MachineAround {
    units: Vec<RegisterWindow>,
    foreign: Option<IrqMessage>,
    driver: &'static Driver,
}

impl MachineAround {
    /// The surroundings that all guests share, made at the first call.
    pub(super) fn shared(host: &Host) -> Result<&'static Self, GuestError> {
        static SHARED: Once<MachineAround> = Once::new();
        SHARED.try_call_once(|| Self::new(host))
    }

    /// Looks at the units' registers through windows of its own, and gives the host bridge
    /// an interrupt that nobody may forge.
    ///
    /// It is masked: a request that QEMU's device writes as plain DMA carries no source id,
    /// and QEMU then verifies none, so an entry that is present would be open to it.
    fn new(host: &Host) -> Result<Self, GuestError> {
        let mut units = Vec::new();
        for unit in host.remapping.dmar.units() {
            units.try_reserve(1).map_err(|_| GuestError::OutOfMemory)?;
            let drhd = &unit.drhd;
            let window = RegisterWindow::map(drhd.register_base, drhd.register_bytes() as usize)
                .map_err(|_| GuestError::OutOfMemory)?;
            units.push(window);
        }
        if !host.remapping.interrupts {
            // Whoever can write to 0xFEEx_xxxx can raise anything: there is nothing to be
            // kept from anybody.
            return Ok(Self {
                units,
                foreign: None,
                driver: &host.remapping.driver,
            });
        }
        let bridge = DeviceId::new(Segment(0), SourceId::from_bits(0));
        let driver = &host.remapping.driver;
        let vector = vectors::allocate(&FOREIGN).map_err(|_| GuestError::OutOfVectors)?;
        let source = InterruptSource::Function(bridge);
        let routed = remapping::route(driver, source, vector);
        let (entry, foreign) = routed.map_err(GuestError::Interrupt)?;
        driver.mask(&entry, 0).map_err(GuestError::Interrupt)?;
        Ok(Self {
            units,
            foreign: Some(foreign),
            driver,
        })
    }
}

/// Registers that only software changes.
const NARROW: [usize; 5] = [
    Ver::OFFSET,
    Gsts::OFFSET,
    Fedata::OFFSET,
    Feaddr::OFFSET,
    Feuaddr::OFFSET,
];
const WIDE: [usize; 5] = [
    Cap::OFFSET,
    Ecap::OFFSET,
    Rtaddr::OFFSET,
    Iqa::OFFSET,
    Irta::OFFSET,
];

impl Surroundings for MachineAround {
    fn drain_faults(&self) {
        faults::drain_and_settle();
    }

    fn faults_lost(&self) -> u64 {
        let units = self.driver.units();
        let units = units.filter_map(|unit| self.driver.statistics(unit));
        units.map(|statistics| statistics.fault_overflows).sum()
    }

    fn unit_registers(&self) -> u64 {
        // FNV-1a over words.
        let add = |all: u64, value: u64| (all ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        self.units.iter().fold(0xcbf2_9ce4_8422_2325, |all, unit| {
            let narrow = NARROW.into_iter().map(|at| u64::from(unit.read32(at)));
            let wide = WIDE.into_iter().map(|at| unit.read64(at));
            narrow.chain(wide).fold(all, add)
        })
    }

    fn unit_base(&self) -> Option<Hpa> {
        self.units.first().map(RegisterWindow::hpa)
    }

    fn image(&self) -> Option<Hpa> {
        let address = (&raw const IMAGE_CANARY).addr() as u64;
        address.checked_sub(KERNEL_OFFSET).map(Hpa::new)
    }

    fn is_image_whole(&self) -> bool {
        let mut words = IMAGE_CANARY.0.iter();
        words.all(|word| word.load(Ordering::Relaxed) == PATTERN)
    }

    fn foreign_message(&self) -> Option<IrqMessage> {
        self.foreign
    }

    fn foreign_interrupts(&self) -> u64 {
        FOREIGN.0.load(Ordering::Relaxed)
    }

    fn host_bits(&self) -> u32 {
        cpu::features().physical_bits.into()
    }
}
