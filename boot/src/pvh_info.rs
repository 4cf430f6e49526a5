//! PVH's start information (`hvm_start_info`, version 1 and later).

use crate::info::early_pointer;
use crate::{AcpiRoot, BootInfo, BootInfoError, MemoryKind, Protocol};
use core::alloc::Layout;
use iommu_core::Hpa;
use pvh::start_info::MemmapType;
use pvh::start_info::reader::{MemMap, StartInfoReader};

/// Physical memory as the early address space shows it.
struct EarlyMap;

impl MemMap for EarlyMap {
    fn ptr(&self, physical: usize, layout: Layout) -> *const u8 {
        early_pointer(physical as u64, layout.size() as u64)
            .filter(|pointer| pointer.addr().is_multiple_of(layout.align()))
            .unwrap_or(core::ptr::null())
    }
}

/// Reads the start information at physical address `information`.
///
/// # Safety
/// The loader's memory is untouched and the early address space active.
pub(crate) unsafe fn read(information: u32) -> Result<BootInfo, BootInfoError> {
    const START_INFO: BootInfoError = BootInfoError::Malformed("PVH start information");
    let layout = Layout::new::<pvh::start_info::StartInfo>();
    if EarlyMap.ptr(information as usize, layout).is_null() {
        return Err(START_INFO);
    }
    // SAFETY: the pointer is mapped, and PVH puts the information there.
    let reader = unsafe { StartInfoReader::from_paddr(information, EarlyMap) }.ok_or(START_INFO)?;

    let mut info = BootInfo::new(Protocol::Pvh);
    for entry in reader.memmap() {
        info.add_memory(entry.addr, entry.size, kind(entry.ty()));
    }
    if info.memory.is_empty() {
        return Err(BootInfoError::Malformed("memory map"));
    }
    for module in reader.modlist() {
        info.add_module(module.raw().paddr, module.raw().size)?;
    }
    if let Some(line) = reader.cmdline() {
        info.set_command_line(line.to_str().map_err(|_| BootInfoError::CommandLine)?)?;
    }
    let rsdp = reader.raw().rsdp_paddr;
    info.acpi = (rsdp != 0).then(|| AcpiRoot::Rsdp(Hpa::new(rsdp)));
    Ok(info)
}

fn kind(kind: MemmapType) -> MemoryKind {
    match kind {
        MemmapType::Ram => MemoryKind::Usable,
        MemmapType::Acpi => MemoryKind::Acpi,
        MemmapType::Nvs => MemoryKind::AcpiNvs,
        _ => MemoryKind::Reserved,
    }
}
