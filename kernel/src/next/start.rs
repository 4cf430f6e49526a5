//! From a kernel at work to the next one.

use super::image::{ImageError, NextImage, SEGMENTS};
use super::information::Information;
use super::jump::{self, BLOCK, Copy};
use crate::archive::Archive;
use crate::command_line::HandOver;
use crate::cpu;
use crate::host::Host;
use crate::memory;
use crate::platform::KernelPlatform;
use crate::start::Machine;
use arrayvec::ArrayVec;
use boot::{AcpiRoot, MemoryKind, layout};
use core::fmt;
use iommu_core::{AddressRange, Frame, Hpa, Order, PAGE_SIZE, Platform};
use vtd::BringUpError;

/// The next kernel's name in the boot module.
const FILE: &str = "next.elf";

/// Blocks that the next kernel is given as its memory, the largest that there is: 64 MiB down
/// to 16 MiB.
const ORDERS: [u8; 3] = [14, 13, 12];

/// Why the machine stays with this kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandOverError {
    /// The boot module holds no next kernel.
    NoFile,
    /// What it holds cannot be started.
    Image(ImageError),
    /// It needs memory that is in use.
    DoesNotFit(AddressRange<Hpa>),
    /// The loader did not say where the RSDP lies.
    NoRsdp,
    /// No memory for the next kernel.
    OutOfMemory,
    /// A unit could not be turned off.
    ShutDown(BringUpError),
}

impl fmt::Display for HandOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => write!(f, "the boot module holds no {FILE}"),
            Self::Image(error) => write!(f, "{FILE}: {error}"),
            Self::DoesNotFit(range) => write!(
                f,
                "{FILE} wants {} to {}, which is in use",
                range.first(),
                range.last()
            ),
            Self::NoRsdp => f.write_str("the loader did not say where the RSDP lies"),
            Self::OutOfMemory => f.write_str("no memory for the next kernel"),
            Self::ShutDown(error) => write!(f, "a unit cannot be turned off: {error}"),
        }
    }
}

/// All that is needed, before anything is given up.
struct Plan<'a> {
    image: NextImage<'a>,
    copies: ArrayVec<Copy, SEGMENTS>,
    block: Frame,
    /// What the next kernel is given.
    memory: Frame,
}

impl Plan<'_> {
    fn give_up(self) {
        KernelPlatform.release(self.block);
        KernelPlatform.release(self.memory);
    }
}

/// Gives the machine to the next kernel, with this command line. Returns only if it cannot;
/// then the units are as they were, unless it was one of them that could not be turned off,
/// and where that was tried this CPU is the only one that is still used.
pub fn hand_over(
    host: &Host,
    machine: &Machine,
    how: HandOver,
    command_line: &str,
) -> HandOverError {
    let plan = match plan(machine, &machine.archive, command_line) {
        Ok(plan) => plan,
        Err(error) => return error,
    };
    cpu::stop_others();
    match how {
        HandOver::On => {
            defmt::info!("the next kernel finds the units translating, and their tables kept")
        }
        HandOver::Off => {
            // Once translation is off, devices reach all of memory.
            let bus = host.bus;
            let stopped = bus.topology.stop_bus_masters(&bus.ecam, |_| false);
            defmt::info!("{=usize} devices are bus masters no more", stopped);
            x86_64::instructions::interrupts::disable();
            // SAFETY: the driver is taken out of a static that nobody looks at from here on:
            // interrupts are off, no other CPU uses it, and this kernel ends.
            let driver = unsafe { core::ptr::read(&host.remapping.driver) };
            if let Err(failure) = driver.shut_down() {
                let error = failure.error;
                // The driver stays where it was read from.
                core::mem::forget(failure);
                x86_64::instructions::interrupts::enable();
                plan.give_up();
                return HandOverError::ShutDown(error);
            }
            defmt::info!("the next kernel finds the units off");
        }
    }
    // SAFETY: the plan's copies go to the memory of this kernel's image, which is used by
    // nobody but this kernel, on its only CPU.
    unsafe { jump::jump(&plan.block, &plan.copies, &plan.image) }
}

fn plan<'a>(
    machine: &Machine,
    archive: &Archive<'a>,
    command_line: &str,
) -> Result<Plan<'a>, HandOverError> {
    let file = archive.file(FILE).ok_or(HandOverError::NoFile)?;
    let image = NextImage::parse(file).map_err(HandOverError::Image)?;
    let ours = memory::image_range();
    if !image.fits(&ours) {
        return Err(HandOverError::DoesNotFit(image.range));
    }
    let Some(AcpiRoot::Rsdp(rsdp)) = machine.boot.acpi else {
        return Err(HandOverError::NoRsdp);
    };
    let copies = image
        .segments
        .iter()
        .map(|segment| {
            let address = segment.bytes.as_ptr().addr() as u64;
            Some(Copy {
                to: segment.to,
                from: layout::direct_map_to_hpa(address)?,
                bytes: segment.bytes.len() as u64,
                zeroes: segment.zeroes,
            })
        })
        .collect::<Option<ArrayVec<_, SEGMENTS>>>()
        .ok_or(HandOverError::Image(ImageError::BadSegment))?;
    let block = allocate(BLOCK)?;
    let memory = ORDERS
        .into_iter()
        .filter_map(Order::new)
        .find_map(|order| allocate(order).ok())
        .ok_or(HandOverError::OutOfMemory)?;
    let module = machine.boot.modules.first().copied();
    let mut usable: ArrayVec<AddressRange<Hpa>, 8> = ArrayVec::new();
    usable.push(ours);
    usable.extend(AddressRange::of_bytes(memory.hpa(), memory.order().bytes()));
    usable.extend(module.map(|range| whole_pages(&range)));
    usable.extend(low_memory(machine));
    let (page, at) = jump::information_page(&block);
    Information {
        kept: &machine.boot.memory,
        usable: &usable,
        module,
        rsdp,
        command_line,
    }
    .write(page, at)
    .map_err(|_| HandOverError::OutOfMemory)?;
    Ok(Plan {
        image,
        copies,
        block,
        memory,
    })
}

/// A block that the early address space reaches.
fn allocate(order: Order) -> Result<Frame, HandOverError> {
    let frame = KernelPlatform
        .allocate(order)
        .map_err(|_| HandOverError::OutOfMemory)?;
    if frame.hpa().as_u64() + order.bytes() > layout::EARLY_BYTES {
        KernelPlatform.release(frame);
        return Err(HandOverError::OutOfMemory);
    }
    Ok(frame)
}

fn whole_pages(range: &AddressRange<Hpa>) -> AddressRange<Hpa> {
    let first = range.first().as_u64() & !(PAGE_SIZE - 1);
    let last = range.last().as_u64() | (PAGE_SIZE - 1);
    AddressRange::inclusive(Hpa::new(first), Hpa::new(last)).unwrap_or(*range)
}

/// Memory below 1 MiB, which no kernel of ours uses and every one wants to see listed.
fn low_memory(machine: &Machine) -> Option<AddressRange<Hpa>> {
    let mut regions = machine.boot.memory.iter();
    regions
        .find(|region| region.kind == MemoryKind::Usable && region.range.first().as_u64() < 1 << 20)
        .map(|region| region.range)
}
