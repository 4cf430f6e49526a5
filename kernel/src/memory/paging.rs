//! The kernel's address space.
//!
//! | addresses | what | rights |
//! |---|---|---|
//! | lower half | nothing: a physical address used as a pointer faults | |
//! | `ffff8000_00000000` + HPA | usable memory, but not the image | RW, NX |
//! | | registers, once asked for | RW, NX, uncached |
//! | | firmware's tables, once asked for | R, NX |
//! | `ffffffff_80000000` + HPA | the image: text | RX |
//! | | read-only data | R, NX |
//! | | data and stacks, but not the pages below stacks | RW, NX |
//!
//! Invariants that the `unsafe` here rests on:
//! 1. Page tables are made here alone, of frames that are never released.
//! 2. A page of usable memory has one mapping, of one memory type.

use super::frames;
use super::map::{self, Ranges};
use crate::cpu;
use crate::platform::KernelPlatform;
use boot::{MemoryRegion, layout};
use core::fmt;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Address, AddressRange, Hpa, Order, PAGE_SIZE};
use spin::Once;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::mapper::{MapToError, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

/// Why something could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum MapError {
    /// The direct map has no room for so high an address.
    TooHigh(Hpa),
    /// Usable memory lies there, so it is not a device's.
    IsMemory(Hpa),
    /// The memory map does not list this as the firmware's.
    NotFirmware(Hpa),
    /// It is mapped already, with other rights or of another memory type.
    Conflict(Hpa),
    /// No memory for page tables.
    OutOfFrames,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooHigh(hpa) => write!(f, "{hpa} is too high to be mapped"),
            Self::IsMemory(hpa) => write!(f, "usable memory lies at {hpa}, not registers"),
            Self::NotFirmware(hpa) => {
                write!(f, "the memory map does not give {hpa} to the firmware")
            }
            Self::Conflict(hpa) => write!(f, "{hpa} is mapped already, differently"),
            Self::OutOfFrames => f.write_str("no memory for page tables"),
        }
    }
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

/// The address of a linker symbol.
macro_rules! symbol {
    ($name:ident) => {
        (&raw const $name).addr() as u64
    };
}

const READ_ONLY: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const READ_WRITE: PageTableFlags = READ_ONLY.union(PageTableFlags::WRITABLE);
const EXECUTE: PageTableFlags = PageTableFlags::PRESENT;
/// With the PAT of power-on, PCD and PWT together mean uncacheable.
const REGISTERS: PageTableFlags = READ_WRITE
    .union(PageTableFlags::NO_CACHE)
    .union(PageTableFlags::WRITE_THROUGH);

/// The rights and the memory type of a leaf, as far as they are compared.
const COMPARED: PageTableFlags = REGISTERS;

static SPACE: Mutex<Option<Space>> = Mutex::new(Rank::Mappings, None);
/// The memory that the direct map shows from the start.
static MEMORY: Once<Ranges> = Once::new();

/// Where the image lies.
pub(super) fn image() -> AddressRange<Hpa> {
    let first = Hpa::new(symbol!(__image_start));
    let last = Hpa::new(symbol!(__image_end) - 1);
    AddressRange::inclusive(first, last).unwrap_or(AddressRange::page_of(first))
}

/// Makes the kernel's address space and enters it. `map` is kept: it says what may be
/// mapped later.
pub(super) fn start(
    regions: &[MemoryRegion],
    image: AddressRange<Hpa>,
    modules: &[AddressRange<Hpa>],
) -> Result<(), MapError> {
    let mut space = Space::new()?;
    space.map_image()?;
    let memory = map::mapped_memory(regions, image, modules).map_err(|_| MapError::OutOfFrames)?;
    for range in &memory {
        space.map_direct(range, READ_WRITE)?;
    }
    // SAFETY: the new tables map what runs, its stack, and all memory that is in use.
    unsafe { space.enter() };
    *SPACE.lock(&KernelPlatform) = Some(space);
    MEMORY.call_once(|| memory);
    Ok(())
}

/// Enters the kernel's address space on another CPU than the first.
pub(super) fn enter() {
    if let Some(space) = &*SPACE.lock(&KernelPlatform) {
        // SAFETY: the tables map what runs on every CPU: image, stacks, all memory in use.
        unsafe { space.enter() };
    }
}

/// Maps a device's registers, uncached.
pub(super) fn map_registers(range: &AddressRange<Hpa>) -> Result<*mut u8, MapError> {
    let info = crate::start::boot_info();
    if map::touches_usable_memory(&info.memory, range) {
        return Err(MapError::IsMemory(range.first()));
    }
    map_late(range, REGISTERS)
}

/// Maps a table of the firmware's for reading. The bytes are the firmware's, who may have
/// written any rubbish.
pub(crate) fn map_firmware_tables(range: &AddressRange<Hpa>) -> Result<*const u8, MapError> {
    let info = crate::start::boot_info();
    if !map::is_firmware_memory(&info.memory, range) {
        return Err(MapError::NotFirmware(range.first()));
    }
    map_late(range, READ_ONLY).map(<*mut u8>::cast_const)
}

/// Where a range of usable memory, or of a boot module, is seen. `None` if any of it is something else.
pub(super) fn memory_pointer(range: &AddressRange<Hpa>) -> Option<*mut u8> {
    MEMORY.get()?.iter().find(|memory| memory.covers(range))?;
    pointer(range.first()).ok()
}

fn map_late(range: &AddressRange<Hpa>, flags: PageTableFlags) -> Result<*mut u8, MapError> {
    let start = pointer(range.first())?;
    let mut guard = SPACE.lock(&KernelPlatform);
    guard
        .as_mut()
        .ok_or(MapError::OutOfFrames)?
        .map_direct(range, flags)?;
    Ok(start)
}

fn pointer(hpa: Hpa) -> Result<*mut u8, MapError> {
    let address = layout::direct_map(hpa).ok_or(MapError::TooHigh(hpa))?;
    Ok(core::ptr::with_exposed_provenance_mut(address as usize))
}

/// Frames for page tables.
struct TableFrames;

// SAFETY: every frame is fresh and owned by the tables from then on.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame<Size4KiB>> {
        let frame = frames::allocate(Order::PAGE).ok()?;
        let address = PhysAddr::try_new(frame.leak().as_u64()).ok()?;
        Some(PhysFrame::containing_address(address))
    }
}

struct Space {
    root: Hpa,
}

impl Space {
    fn new() -> Result<Self, MapError> {
        let root = frames::allocate(Order::PAGE).map_err(|_| MapError::OutOfFrames)?;
        Ok(Self { root: root.leak() })
    }

    fn mapper(&mut self) -> OffsetPageTable<'_> {
        let root: *mut PageTable = core::ptr::with_exposed_provenance_mut(
            (layout::DIRECT_MAP | self.root.as_u64()) as usize,
        );
        // SAFETY: invariant 1; the direct map, early or final, shows all tables; `self` is
        // borrowed, so this is the only mapper.
        unsafe { OffsetPageTable::new(&mut *root, VirtAddr::new(layout::DIRECT_MAP)) }
    }

    fn map_image(&mut self) -> Result<(), MapError> {
        let segments = [
            (symbol!(__text_start), symbol!(__text_end), EXECUTE),
            (symbol!(__rodata_start), symbol!(__rodata_end), READ_ONLY),
            (symbol!(__data_start), symbol!(__data_end), READ_WRITE),
        ];
        for (start, end, flags) in segments {
            let mut page = start;
            while page < end {
                if !cpu::is_stack_guard(page) {
                    let hpa = Hpa::new(page - layout::KERNEL_OFFSET);
                    self.map_page::<Size4KiB>(page, hpa, flags)?;
                }
                page += PAGE_SIZE;
            }
        }
        Ok(())
    }

    /// Maps the pages that a range touches at their places in the direct map, in the largest
    /// pages that fit. What is mapped there already in the same way stays.
    fn map_direct(
        &mut self,
        range: &AddressRange<Hpa>,
        flags: PageTableFlags,
    ) -> Result<(), MapError> {
        let mut hpa = range.first().align_down(12);
        layout::direct_map(range.last()).ok_or(MapError::TooHigh(range.last()))?;
        while hpa <= range.last() {
            let address = layout::DIRECT_MAP | hpa.as_u64();
            let fits = |shift: u32| {
                hpa.is_aligned(shift)
                    && range
                        .last()
                        .checked_sub(hpa)
                        .is_some_and(|left| left >= (1 << shift) - 1)
            };
            let shift = if cpu::features().gib_pages && fits(30) {
                self.map_page::<Size1GiB>(address, hpa, flags)?
            } else if fits(21) {
                self.map_page::<Size2MiB>(address, hpa, flags)?
            } else {
                self.map_page::<Size4KiB>(address, hpa, flags)?
            };
            match hpa.checked_add(1 << shift) {
                Some(next) => hpa = next,
                None => break,
            }
        }
        Ok(())
    }

    /// Maps one page; returns the log2 of the step to the next one, which is smaller than
    /// the page where something is mapped there already.
    fn map_page<S: PageSize>(
        &mut self,
        address: u64,
        hpa: Hpa,
        flags: PageTableFlags,
    ) -> Result<u32, MapError>
    where
        for<'a> OffsetPageTable<'a>: Mapper<S>,
    {
        let start = VirtAddr::new(address);
        let target = PhysAddr::try_new(hpa.as_u64()).map_err(|_| MapError::TooHigh(hpa))?;
        let mut mapper = self.mapper();
        let tables = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        // SAFETY: invariant 2: memory is mapped once, registers and tables are no memory of
        // ours.
        let mapped = unsafe {
            mapper.map_to_with_table_flags(
                Page::<S>::containing_address(start),
                PhysFrame::containing_address(target),
                flags,
                tables,
                &mut TableFrames,
            )
        };
        match mapped {
            Ok(flush) => {
                flush.flush();
                Ok(S::SIZE.trailing_zeros())
            }
            Err(MapToError::FrameAllocationFailed) => Err(MapError::OutOfFrames),
            Err(MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_)) => {
                same_mapping(&mapper, start, hpa, flags)
            }
        }
    }

    /// # Safety
    /// The tables map all that is in use.
    unsafe fn enter(&self) {
        // SAFETY: global pages are not used; what the tables map is the caller's promise.
        unsafe {
            Cr4::update(|flags| flags.remove(Cr4Flags::PAGE_GLOBAL));
            let root = PhysFrame::containing_address(PhysAddr::new(self.root.as_u64()));
            Cr3::write(root, Cr3Flags::empty());
        }
    }
}

/// Accepts a page that is mapped already to the same memory in the same way, and returns
/// the step to the next one: a 4 KiB page, since only that is known to be so.
fn same_mapping(
    mapper: &OffsetPageTable<'_>,
    start: VirtAddr,
    hpa: Hpa,
    wanted: PageTableFlags,
) -> Result<u32, MapError> {
    match mapper.translate(start) {
        TranslateResult::Mapped {
            frame,
            offset,
            flags,
        } if frame.start_address().as_u64() + offset == hpa.as_u64()
            && flags.intersection(COMPARED) == wanted.intersection(COMPARED) =>
        {
            Ok(Size4KiB::SIZE.trailing_zeros())
        }
        _ => Err(MapError::Conflict(hpa)),
    }
}
