//! What a unit remaps and what it can do, by name, for people.

use crate::pci::Bus;
use dmar::Unit;
use vtd::registers::{Cap, Ecap};

/// Writes the device scopes that the DMAR gives a unit.
pub(super) fn scopes(bus: &Bus, unit: &Unit<'_>) {
    let segment = unit.drhd.segment;
    for scope in unit.drhd.scopes.clone() {
        match scope.source(segment, bus) {
            Some(source) if scope.kind.is_pci() => {
                defmt::info!("unit {=usize}: {} {}", unit.index, scope.kind, source)
            }
            Some(source) => defmt::info!(
                "unit {=usize}: {} {=u8}, whose requests come from {}",
                unit.index,
                scope.kind,
                scope.enumeration_id,
                source
            ),
            None => defmt::warn!(
                "unit {=usize}: {} from bus {=u8:#x} on, behind a bridge that is not there",
                unit.index,
                scope.kind,
                scope.start_bus
            ),
        }
    }
    if unit.includes_all {
        defmt::info!(
            "unit {=usize}: all other devices of segment {=u16}",
            unit.index,
            segment.0
        );
    }
}

/// Writes the abilities that CAP and ECAP tell.
pub(super) fn abilities(unit: u16, cap: Cap, ecap: Ecap) {
    defmt::info!(
        "unit {=u16}: {=u32} domains, second stage 39/48/57 bit {=bool}/{=bool}/{=bool}, 2 MiB {=bool}, 1 GiB {=bool}; addresses up to {=u8} bits; {=usize} fault records",
        unit,
        cap.domain_ids(),
        cap.has_second_stage_levels(3),
        cap.has_second_stage_levels(4),
        cap.has_second_stage_levels(5),
        cap.sslps() & 1 != 0,
        cap.sslps() & 2 != 0,
        cap.guest_address_bits(),
        cap.fault_records()
    );
    for (name, has) in names(cap, ecap) {
        if has {
            defmt::info!("unit {=u16}: has {=str}", unit, name);
        } else {
            defmt::debug!("unit {=u16}: lacks {=str}", unit, name);
        }
    }
}

fn names(cap: Cap, ecap: Ecap) -> [(&'static str, bool); 17] {
    [
        ("caching mode (CM)", cap.cm()),
        ("required write-buffer flushing (RWBF)", cap.rwbf()),
        ("page-selective invalidation (PSI)", cap.psi()),
        ("first-stage 1 GiB pages (FS1GP)", cap.fs1gp()),
        ("posted interrupts (PI)", cap.pi()),
        ("root table change that invalidates (ESRTPS)", cap.esrtps()),
        ("coherent table walks (C)", ecap.c()),
        ("device IOTLBs (DT)", ecap.dt()),
        ("interrupt remapping (IR)", ecap.ir()),
        ("32-bit APIC ids (EIM)", ecap.eim()),
        ("pass-through (PT)", ecap.pt()),
        ("scalable mode (SMTS)", ecap.smts()),
        ("first-stage translation (FSTS)", ecap.fsts()),
        ("scalable second-stage translation (SSTS)", ecap.ssts()),
        ("nested translation (NEST)", ecap.nest()),
        ("PASIDs (PASID)", ecap.pasid()),
        ("page requests (PRS)", ecap.prs()),
    ]
}
