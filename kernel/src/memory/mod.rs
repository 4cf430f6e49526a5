//! Physical memory: which there is, whose it is, and where the kernel sees it.

pub mod map;

#[cfg(target_os = "none")]
mod frames;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
mod window;

#[cfg(target_os = "none")]
pub use frames::{FrameCounters, counters};
#[cfg(target_os = "none")]
pub(crate) use frames::{adopt, allocate, release};
#[cfg(target_os = "none")]
pub use heap::{HeapCounters, counters as heap_counters};
#[cfg(target_os = "none")]
pub use paging::MapError;
#[cfg(target_os = "none")]
pub(crate) use paging::map_firmware_tables;
#[cfg(target_os = "none")]
pub use window::RegisterWindow;

#[cfg(target_os = "none")]
pub use start::{StartError, start};

#[cfg(target_os = "none")]
mod start {
    use super::map::{self, MapIncomplete};
    use super::{MapError, frames, heap, paging};
    use boot::BootInfo;
    use core::fmt;
    use core::sync::atomic::AtomicU64;
    use iommu_core::{Address, AddressRange, Hpa, OutOfFrames, PAGE_SIZE};

    /// Why there is no memory to work with.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum StartError {
        /// The memory map is too fragmented for the fixed table of free ranges.
        Map(MapIncomplete),
        /// Not enough for the heap or for page tables.
        OutOfFrames(OutOfFrames),
        /// The kernel's address space could not be made.
        Paging(MapError),
    }

    impl fmt::Display for StartError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Map(MapIncomplete) => f.write_str("the memory map has too many regions"),
                Self::OutOfFrames(error) => write!(f, "{error}"),
                Self::Paging(error) => write!(f, "page tables: {error}"),
            }
        }
    }

    impl From<OutOfFrames> for StartError {
        fn from(error: OutOfFrames) -> Self {
            Self::OutOfFrames(error)
        }
    }

    impl From<MapError> for StartError {
        fn from(error: MapError) -> Self {
            Self::Paging(error)
        }
    }

    /// Takes the machine's memory over and leaves the early address space. Once.
    pub fn start(info: &BootInfo) -> Result<(), StartError> {
        let image = paging::image();
        let free = map::free_memory(&info.memory, image, &info.modules).map_err(StartError::Map)?;
        let early = map::early_part(&free);
        // SAFETY: these ranges are usable, nobody's, and mapped in the early address space.
        unsafe { frames::add(&early.ranges) };
        paging::start(&info.memory, image, &info.modules)?;
        // SAFETY: likewise, and mapped in the address space that is active now.
        unsafe { frames::add(&early.beyond) };
        heap::start()?;
        Ok(())
    }

    /// The aligned 64 bits of usable memory at `hpa`, whoever owns them.
    pub(crate) fn cell(hpa: Hpa) -> Option<&'static AtomicU64> {
        if !hpa.is_aligned(3) {
            return None;
        }
        let range = AddressRange::of_bytes(hpa, 8).ok()?;
        let pointer = paging::memory_pointer(&range)?;
        // SAFETY: usable memory is mapped for ever, and the cell is aligned. Only for
        // diagnosis: who owns it may write meanwhile, and a torn value does no harm.
        Some(unsafe { &*pointer.cast::<AtomicU64>() })
    }

    /// Makes this CPU, which has just been started, see what the first CPU sees.
    pub(crate) fn enter() {
        paging::enter();
    }

    /// A page below 1 MiB that is nobody's, for the start of other CPUs.
    pub(crate) fn low_page(info: &BootInfo) -> Option<(Hpa, &'static [AtomicU64])> {
        let page = map::low_page(&info.memory, &info.modules)?;
        let cells = paging::memory_pointer(&page)?.cast::<AtomicU64>();
        // SAFETY: usable memory, mapped for ever and aligned, that is neither a module's nor
        // the allocator's.
        let cells = unsafe { core::slice::from_raw_parts(cells, PAGE_SIZE as usize / 8) };
        Some((page.first(), cells))
    }

    /// Whether a byte of `range` is usable memory.
    pub fn is_usable(range: &AddressRange<Hpa>) -> bool {
        map::touches_usable_memory(&crate::start::boot_info().memory, range)
    }

    /// Where this kernel's image lies.
    pub(crate) fn image_range() -> AddressRange<Hpa> {
        paging::image()
    }

    /// A boot module's bytes.
    pub fn module(range: &AddressRange<Hpa>) -> Option<&'static [u8]> {
        let bytes = usize::try_from(range.bytes()?).ok()?;
        let start = paging::memory_pointer(range)?;
        // SAFETY: the module is mapped, and was left out of the free memory, so nobody
        // writes to it.
        Some(unsafe { core::slice::from_raw_parts(start, bytes) })
    }
}

#[cfg(target_os = "none")]
pub(crate) use start::{cell, enter, image_range, low_page};
#[cfg(target_os = "none")]
pub use start::{is_usable, module};
