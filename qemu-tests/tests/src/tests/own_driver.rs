//! The hypervisor's own driver: an NVMe disk, which holds this kernel's own ELF file, in a domain
//! of its own. What is read is held against the code that runs.
//!
//! By the host's clock: QEMU's disk works in a thread of its own, and virtual time would run away
//! from it. Without a boot module: QEMU puts it where SeaBIOS keeps memory for such a disk.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use iommu_core::{
    Access, DeviceId, FaultKind, FaultReason, FaultRecord, Iova, IrqMessage, Platform,
};
use kernel::remapping::faults;
use kernel::storage::{self, Disk, StorageError};
use nvme::Completions;

use crate::bench::{Bench, Counter, Line, NOT_MAPPED, PLATFORM, refused_by_entry};
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
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
);
fn the_own_disk_is_read_through_a_domain_of_its_own(bench: &mut Bench) -> Outcome {
    let before = faults::taken();
    let mut random = bench.random().fork();
    let (namespace, code, read) = with_disk(bench, |disk| {
        let buffer = disk.buffer()?;
        let header = words(disk.read(0, &buffer)?);
        let code = Code::of_elf(&header);
        let mut read = Vec::new();
        for _ in 0..40 {
            let block = random.u64(code.first_block()..code.last_block());
            read.push((block, words(disk.read(block, &buffer)?)));
        }
        let frame = disk.take_back(buffer)?;
        PLATFORM.release(frame);
        Ok((disk.namespace(), code, read))
    })?;
    check_eq!(namespace.block_bytes, BLOCK as u32, "bytes of a block");
    check!(namespace.blocks > code.last_block(), "too few blocks");
    for (block, found) in &read {
        check!(
            *found == code.in_memory(*block),
            "block {block} is not what runs"
        );
    }
    faults::drain();
    check_eq!(faults::taken(), before, "faults");
    Ok(())
}

const BLOCK: u64 = 512;

/// Where the kernel's code lies, in its file and in memory.
struct Code {
    offset: u64,
    address: u64,
    bytes: u64,
}

impl Code {
    /// From the program headers (64 bytes of file header, 56 each): the largest segment that
    /// can be executed and not written.
    fn of_elf(header: &[u64]) -> Self {
        const EXECUTABLE: u64 = 5;
        let segments = (0..5).filter_map(|index| {
            let first = 8 + index * 7;
            let &[kind, offset, address, _, bytes, ..] = header.get(first..first + 7)? else {
                return None;
            };
            // Type 1 is PT_LOAD; the flags are the upper half of the word.
            (kind == EXECUTABLE << 32 | 1).then_some(Self {
                offset,
                address,
                bytes,
            })
        });
        segments.max_by_key(|code| code.bytes).unwrap_or(Self {
            offset: 0,
            address: 0,
            bytes: 0,
        })
    }

    fn first_block(&self) -> u64 {
        self.offset.div_ceil(BLOCK)
    }

    fn last_block(&self) -> u64 {
        (self.offset + self.bytes) / BLOCK
    }

    /// What is in memory where a block of the file was loaded.
    fn in_memory(&self, block: u64) -> Vec<u64> {
        let at = self.address + (block * BLOCK - self.offset);
        let words: *const u64 = core::ptr::with_exposed_provenance(at as usize);
        // SAFETY: within this kernel's own code, which nobody writes to; a block of the file
        // is aligned to 8 bytes in memory too, since segments are aligned alike in both.
        let words = unsafe { core::slice::from_raw_parts(words, BLOCK as usize / 8) };
        words.to_vec()
    }
}

boot_test!(
    the_own_disk_reaches_nothing_but_its_buffers,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
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
fn fault_after(before: u64) -> Option<FaultRecord> {
    faults::drain();
    (faults::taken() > before).then(faults::last).flatten()
}

boot_test!(
    the_own_disks_message_comes_by_its_own_entry,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
);
fn the_own_disks_message_comes_by_its_own_entry(bench: &mut Bench) -> Outcome {
    by_message(bench)
}

boot_test!(
    the_own_disks_message_comes_in_x2apic_mode_too,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    unit = "eim=on",
);
fn the_own_disks_message_comes_in_x2apic_mode_too(bench: &mut Bench) -> Outcome {
    by_message(bench)?;
    check!(
        kernel::cpu::apic::is_x2apic(),
        "the CPU is not in x2APIC mode"
    );
    Ok(())
}

/// Every read is completed because the message of the disk's MSI-X table has come.
fn by_message(bench: &mut Bench) -> Outcome {
    let before = faults::taken();
    let completions = with_disk(bench, |disk| {
        let buffer = disk.buffer()?;
        for block in 0..READS {
            disk.read(block, &buffer)?;
        }
        PLATFORM.release(disk.take_back(buffer)?);
        Ok(disk.completions())
    })?;
    let expected = Completions {
        by_interrupt: READS,
        ..Completions::default()
    };
    check_eq!(completions, expected, "how reads were completed");
    faults::drain();
    check_eq!(faults::taken(), before, "faults");
    Ok(())
}

/// More than the queues have entries.
const READS: u64 = 20;

boot_test!(
    the_own_disks_message_is_refused_when_its_entry_is_gone,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    provokes = "absent-interrupt",
    logs = "has completed a read without its interrupt; it is polled from now on",
);
fn the_own_disks_message_is_refused_when_its_entry_is_gone(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let disk = disk_of(bench)?;
    // The lower one is the disk's next.
    let lower = Line::allocate(bench.driver(), disk, &CAME)?;
    let line = Line::allocate(bench.driver(), disk, &CAME)?;
    let (message, index) = (line.message()?, line.index());
    lower.free()?;
    line.free()?;
    let fault = refused_message(bench, message)?;
    refused_by_entry(&fault, index, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT)?;
    check_eq!(CAME.count(), 0, "interrupts");
    Ok(())
}

boot_test!(
    the_own_disks_message_is_refused_by_the_entry_of_another_device,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
    provokes = "foreign-interrupt",
    logs = "has completed a read without its interrupt; it is polled from now on",
);
fn the_own_disks_message_is_refused_by_the_entry_of_another_device(bench: &mut Bench) -> Outcome {
    static CAME: Counter = Counter::new();
    let disk = disk_of(bench)?;
    let other = bench.another_device(disk)?;
    let line = Line::allocate(bench.driver(), other, &CAME)?;
    let fault = refused_message(bench, line.message()?)?;
    refused_by_entry(&fault, line.index(), FaultReason::INTERRUPT_SOURCE)?;
    check_eq!(fault.device, disk, "the device");
    check_eq!(CAME.count(), 0, "interrupts");
    line.free()
}

fn disk_of(bench: &mut Bench) -> Result<DeviceId, Deviation> {
    with_disk(bench, |disk| Ok(disk.id()))
}

/// The fault of a message that the disk sends in place of its own, which is permitted. It reads
/// all the same.
fn refused_message(bench: &mut Bench, message: IrqMessage) -> Result<FaultRecord, Deviation> {
    let (fault, same, completions) = with_disk(bench, |disk| {
        let buffer = disk.buffer()?;
        let first = words(disk.read(0, &buffer)?);
        let before = faults::taken();
        disk.send_interrupts_as(message);
        let again = words(disk.read(0, &buffer)?);
        let fault = fault_after(before);
        PLATFORM.release(disk.take_back(buffer)?);
        Ok((fault, first == again, disk.completions()))
    })?;
    check!(same, "it was not read again");
    let expected = Completions {
        by_interrupt: 1,
        polled: 1,
        interrupt_lost: true,
    };
    check_eq!(completions, expected, "how reads were completed");
    fault.ok_or_else(|| Deviation::failed(format_args!("no fault tells of the message")))
}

boot_test!(
    the_own_disk_leaves_no_memory_behind,
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
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
    clock = "host",
    machine = "-drive file=@kernel,if=none,id=d,format=raw,readonly=on -device nvme,serial=v,drive=d,addr=7",
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
