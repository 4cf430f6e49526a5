//! A machine made of the model.

use iommu_core::{DeviceId, FaultReason, Hpa, Iova, Mmio, Segment, SourceId};
use std::alloc::{Layout, alloc_zeroed};
use std::error::Error;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vtd::UnitDescription;
use vtd_model::{Config, Freedom, HostMemory, Machine, Width};
use your_kernel::{Frames, Kernel, protect};

const NIC: u16 = 0x0010;
const BYTES: usize = 512 << 12;
/// Where the region is in the physical address space.
const AT: u64 = 0x4000_0000;

/// The region as hardware sees it.
struct Ram(&'static [AtomicU64]);

impl Ram {
    fn cell(&self, hpa: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(hpa.checked_sub(AT)? / 8).ok()?)
    }
}

impl HostMemory for Ram {
    fn load(&self, hpa: u64) -> Option<u64> {
        Some(self.cell(hpa)?.load(Ordering::SeqCst))
    }

    fn store(&self, hpa: u64, value: u64) -> Option<()> {
        self.cell(hpa)?.store(value, Ordering::SeqCst);
        Some(())
    }

    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>> {
        let order = Ordering::SeqCst;
        Some(self.cell(hpa)?.compare_exchange(current, new, order, order))
    }
}

/// The registers of the model's unit.
#[derive(Clone)]
struct Registers(Arc<Mutex<Machine>>);

impl Registers {
    fn with<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Time passes.
        machine.tick();
        act(&mut machine)
    }
}

impl Mmio for Registers {
    fn size(&self) -> usize {
        self.with(|machine| machine.register_bytes(0))
    }

    fn read32(&self, offset: usize) -> u32 {
        self.with(|machine| machine.read(0, offset, Width::Dword) as u32)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.with(|machine| machine.read(0, offset, Width::Qword))
    }

    fn write32(&self, offset: usize, value: u32) {
        self.with(|machine| machine.write(0, offset, Width::Dword, value.into()));
    }

    fn write64(&self, offset: usize, value: u64) {
        self.with(|machine| machine.write(0, offset, Width::Qword, value));
    }
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let layout = Layout::from_size_align(BYTES, BYTES)?;
    // SAFETY: the layout has a size. The region is never given back.
    let region = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or("no memory")?;
    let cells = region.cast::<AtomicU64>();
    // SAFETY: zeroed, and accessed by atomic cells from here on.
    let ram = Ram(unsafe { std::slice::from_raw_parts(cells.as_ptr(), BYTES / 8) });
    let machine = Machine::builder()
        .unit(Config::legacy())
        .device(NIC, 0)
        .memory(Arc::new(ram))
        .freedom(Freedom::Random(1))
        .build()?;
    let registers = Registers(Arc::new(Mutex::new(machine)));
    // SAFETY: the region is as `Frames` wants it, and for the kernel alone.
    let frames = unsafe { Frames::new(Hpa::new(AT), cells) };
    let kernel = Kernel::new(frames, 2_000).ok_or("this CPU has no cmpxchg16b")?;

    let description = UnitDescription {
        index: 0,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: 46,
    };
    let card = DeviceId::new(Segment(0), SourceId::from_bits(NIC));
    let buffer = Iova::new(0x10_0000);
    let reads = |bytes: &mut [u8]| {
        registers.with(|machine| machine.dma_read(NIC, None, buffer.as_u64(), bytes))
    };
    let protected = protect(&kernel, description, registers.clone())?;
    let mut seen = [0; 8];
    let told = || {
        let mut reasons = Vec::new();
        let tell =
            &mut |fault: &iommu_core::FaultRecord| reasons.push((fault.device, fault.reason));
        iommu_core::Backend::drain_faults(&protected.driver, tell);
        reasons
    };

    // Nobody has given the card anything: it is refused, and that is told.
    assert!(!reads(&mut seen));
    assert_eq!(told(), [(card, FaultReason::ROOT_NOT_PRESENT)]);

    let domain = protected.confine(card)?;
    let page = protected.give(domain, buffer)?;
    kernel.with_page(page, |cells| cells[0].store(0x1234_5678_9abc_def0, Ordering::SeqCst));
    assert!(reads(&mut seen));
    assert_eq!(u64::from_le_bytes(seen), 0x1234_5678_9abc_def0);
    println!("the card reads the page that it was given: {:#x}", u64::from_le_bytes(seen));

    protected.take_back(domain, buffer, page)?;
    assert!(!reads(&mut seen));
    let refused = told();
    assert_eq!(refused, [(card, FaultReason::READ_DENIED)]);
    println!("taken back, it is refused: {}", FaultReason::READ_DENIED);
    assert_eq!(protected.driver.quarantined(), vtd::Quarantined::default());
    assert_eq!(kernel.troubles.load(Ordering::Relaxed), 0);
    assert!(registers.with(Machine::take_violations).is_empty());
    Ok(())
}
