//! Multiboot2's boot information.

use crate::info::early_pointer;
use crate::{AcpiRoot, BootInfo, BootInfoError, MemoryKind, Protocol};
use iommu_core::Hpa;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

/// Reads the boot information at physical address `information`.
///
/// # Safety
/// The loader's memory is untouched and the early address space active.
pub(crate) unsafe fn read(information: u32) -> Result<BootInfo, BootInfoError> {
    const INFORMATION: BootInfoError = BootInfoError::Malformed("Multiboot2 information");
    let address = u64::from(information);
    let header = early_pointer(address, size_of::<BootInformationHeader>() as u64)
        .ok_or(INFORMATION)?
        .cast::<BootInformationHeader>();
    if !header.is_aligned() {
        return Err(INFORMATION);
    }
    // SAFETY: mapped and aligned; the loader put the header there.
    let bytes = unsafe { (*header).total_size() };
    early_pointer(address, u64::from(bytes)).ok_or(INFORMATION)?;
    // SAFETY: all of the information is mapped, and nobody writes to it.
    let tags = unsafe { BootInformation::load(header) }.map_err(|_| INFORMATION)?;

    let mut info = BootInfo::new(Protocol::Multiboot2);
    let map = tags
        .memory_map_tag()
        .ok_or(BootInfoError::Malformed("memory map"))?;
    for area in map.memory_areas() {
        info.add_memory(area.start_address(), area.size(), kind(area.typ()));
    }
    for module in tags.module_tags() {
        let start = module.start_address();
        let bytes = module.end_address().saturating_sub(start);
        info.add_module(u64::from(start), u64::from(bytes))?;
    }
    if let Some(tag) = tags.command_line_tag() {
        info.set_command_line(tag.cmdline().map_err(|_| BootInfoError::CommandLine)?)?;
    }
    info.acpi = acpi_root(&tags);
    Ok(info)
}

/// The newer of the two copies of the RSDP, if its checksum is right.
fn acpi_root(tags: &BootInformation<'_>) -> Option<AcpiRoot> {
    let xsdt = tags
        .rsdp_v2_tag()
        .filter(|rsdp| rsdp.checksum_is_valid())
        .map(|rsdp| AcpiRoot::Xsdt(Hpa::new(rsdp.xsdt_address() as u64)));
    let rsdt = || {
        tags.rsdp_v1_tag()
            .filter(|rsdp| rsdp.checksum_is_valid())
            .map(|rsdp| AcpiRoot::Rsdt(Hpa::new(rsdp.rsdt_address() as u64)))
    };
    xsdt.or_else(rsdt)
}

fn kind(kind: MemoryAreaType) -> MemoryKind {
    match kind {
        MemoryAreaType::Available => MemoryKind::Usable,
        MemoryAreaType::AcpiAvailable => MemoryKind::Acpi,
        MemoryAreaType::ReservedHibernate => MemoryKind::AcpiNvs,
        _ => MemoryKind::Reserved,
    }
}
