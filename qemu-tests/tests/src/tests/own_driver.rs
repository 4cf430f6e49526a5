//! The hypervisor's own driver: an NVMe disk, which holds the boot module, in a domain of its
//! own.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use iommu_core::{Access, FaultKind, Iova, Platform};
use kernel::remapping::faults;
use kernel::storage::{self, Disk, StorageError};

use crate::bench::{Bench, NOT_MAPPED, PLATFORM};
use crate::check::{Deviation, Outcome, check, check_eq};
use crate::registry::boot_test;

impl From<StorageError> for Deviation {
    fn from(error: StorageError) -> Self {
        Self::failed(format_args!("the disk: {error}"))
    }
}

/// Runs `act` with the disk; what it finds wrong comes out beside what the disk does wrong.
fn with_disk<T>(
    bench: &mut Bench,
    act: impl FnOnce(&mut Disk<'_>) -> Result<T, StorageError>,
) -> Result<T, Deviation> {
    let host = bench.host();
    Ok(storage::with_disk(host.bus, host.remapping, act)?)
}

fn words(cells: &[AtomicU64]) -> Vec<u64> {
    cells.iter().map(|c| c.load(Ordering::Acquire)).collect()
}

boot_test!(
    the_own_disk_is_read_through_a_domain_of_its_own,
    machine = "-drive file=@module,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
);
fn the_own_disk_is_read_through_a_domain_of_its_own(bench: &mut Bench) -> Outcome {
    let module = bench.module()?;
    let blocks: Vec<u64> = (0..40)
        .map(|_| bench.random().u64(0..module.len() as u64 / 512))
        .collect();
    let before = faults::taken();
    let (namespace, read) = with_disk(bench, |disk| {
        let buffer = disk.buffer()?;
        let mut read = Vec::new();
        for &block in &blocks {
            read.push(words(disk.read(block, &buffer)?));
        }
        let frame = disk.take_back(buffer)?;
        PLATFORM.release(frame);
        Ok((disk.namespace(), read))
    })?;
    check_eq!(namespace.block_bytes, 512, "bytes of a block");
    check_eq!(namespace.blocks, module.len() as u64 / 512, "blocks");
    for (block, found) in blocks.iter().zip(&read) {
        let at = *block as usize * 512;
        let expected: Vec<u64> = module[at..at + 512]
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        check!(*found == expected, "block {block} is not the module's");
    }
    faults::drain();
    check_eq!(faults::taken(), before, "faults");
    Ok(())
}

boot_test!(
    the_own_disk_reaches_nothing_but_its_buffers,
    machine = "-drive file=@module,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    provokes = "refused-dma",
);
fn the_own_disk_reaches_nothing_but_its_buffers(bench: &mut Bench) -> Outcome {
    let page = bench.page()?;
    let stranger = Iova::new(page.hpa().as_u64());
    let (device, fault, freed, fault_of_freed, whole) = with_disk(bench, |disk| {
        // Permitted: a buffer of its own.
        let buffer = disk.buffer()?;
        let first = words(disk.read(0, &buffer)?);
        let before = faults::taken();
        // Refused: a page of somebody else's. QEMU completes the command all the same.
        let _ = disk.read_to(0, stranger);
        let fault = fault_after(before);
        // Refused as well: the same buffer, given back.
        let freed = buffer.iova();
        let frame = disk.take_back(buffer)?;
        for cell in frame.cells() {
            cell.store(0x5afe, Ordering::Release);
        }
        let before = faults::taken();
        let _ = disk.read_to(0, freed);
        let fault_of_freed = fault_after(before);
        let whole = words(frame.cells()).iter().all(|&word| word == 0x5afe);
        PLATFORM.release(frame);
        // Permitted again.
        let buffer = disk.buffer()?;
        let again = words(disk.read(0, &buffer)?);
        let frame = disk.take_back(buffer)?;
        PLATFORM.release(frame);
        Ok((
            disk.id(),
            fault,
            freed,
            fault_of_freed,
            whole && first == again,
        ))
    })?;
    check!(page.is_unchanged(), "somebody else's page was written");
    check!(
        whole,
        "a buffer that was given back was written, or a read differs"
    );
    for (fault, at) in [(fault, stranger), (fault_of_freed, freed)] {
        let Some(fault) = fault else {
            return Err(Deviation::failed(format_args!("no fault tells of {at}")));
        };
        check_eq!(fault.device, device, "whose fault");
        let wanted = FaultKind::Dma {
            address: at,
            access: Access::WRITE,
        };
        check_eq!(fault.kind, wanted, "what was refused");
        check!(NOT_MAPPED.contains(&fault.reason), "why: {}", fault.reason);
    }
    Ok(())
}

/// The first fault after so many.
fn fault_after(before: u64) -> Option<iommu_core::FaultRecord> {
    faults::drain();
    (faults::taken() > before).then(faults::last).flatten()
}

boot_test!(
    the_own_disk_leaves_no_memory_behind,
    machine = "-drive file=@module,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    modes = "legacy first-stage",
);
fn the_own_disk_leaves_no_memory_behind(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        with_disk(bench, |disk| {
            let buffer = disk.buffer()?;
            disk.read(1, &buffer)?;
            let frame = disk.take_back(buffer)?;
            PLATFORM.release(frame);
            Ok(())
        })
    };
    // The first round makes what stays: the device's context and PASID tables.
    round(bench)?;
    let free = kernel::memory::counters().free;
    for _ in 0..5 {
        round(bench)?;
    }
    check_eq!(kernel::memory::counters().free, free, "pages that are free");
    Ok(())
}

boot_test!(
    the_own_disk_can_be_denied,
    machine = "-drive file=@module,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    append = "deny=0:0:7.0",
    modes = "legacy",
);
fn the_own_disk_can_be_denied(bench: &mut Bench) -> Outcome {
    let host = bench.host();
    let result = storage::with_disk(host.bus, host.remapping, |_| Ok(()));
    check!(
        matches!(result, Err(StorageError::Denied(_))),
        "the denied disk is used"
    );
    Ok(())
}
