//! The driver's events as log lines: what everybody wants to know as `info`, steps as
//! `debug`, each register write and each descriptor as `trace`.

use crate::platform::KernelPlatform;
use iommu_core::Observer;
use vtd::Event;

impl Observer<Event> for KernelPlatform {
    fn observe(&self, event: &Event) {
        match *event {
            Event::RegisterWritten {
                unit,
                register,
                offset,
                value,
            } => defmt::trace!(
                "unit {=u16}: {=str} ({=u32:#x}) = {=u64:#x}",
                unit,
                register,
                offset,
                value
            ),
            Event::Queued { unit, descriptor } => {
                defmt::trace!("unit {=u16}: {}", unit, descriptor)
            }
            Event::Discovered {
                unit,
                register_base,
                version,
                capability,
                extended_capability,
            } => {
                defmt::info!(
                    "unit {=u16} at {}: {}, CAP {=u64:#x}, ECAP {=u64:#x}",
                    unit,
                    register_base,
                    version,
                    capability.into_bits(),
                    extended_capability.into_bits()
                );
                super::describe::abilities(unit, capability, extended_capability);
            }
            Event::Firmware { unit, state } => {
                defmt::info!("unit {=u16}: firmware left {}", unit, state)
            }
            Event::ModeChosen { unit, choice } => defmt::info!(
                "unit {=u16}: {=str} mode, {}: {=str}",
                unit,
                choice.mode().name(),
                choice.format(),
                choice.reason()
            ),
            Event::QueueOn { unit, slots } => {
                defmt::info!("unit {=u16}: queue of {=u32} descriptors", unit, slots)
            }
            Event::InterruptRemappingOn {
                unit,
                entries,
                extended,
            } => defmt::info!(
                "unit {=u16}: interrupts remapped, {=u32} entries, 32-bit APIC ids {=bool}",
                unit,
                entries,
                extended
            ),
            Event::TranslationWindow { unit } => defmt::warn!(
                "unit {=u16}: translation is off while the table mode changes",
                unit
            ),
            Event::TranslationOn { unit } => defmt::info!("unit {=u16}: translation on", unit),
            // Told by `faults`, with the walk.
            Event::Fault(_) => {}
            ref serious @ (Event::FirmwareQueueNotEmpty { .. }
            | Event::FaultsLost { .. }
            | Event::DescriptorRefused { .. }
            | Event::DeviceSilent { .. }
            | Event::UnexpectedCompletion { .. }
            | Event::Isolated { .. }
            | Event::Quarantined { .. }) => defmt::warn!("{}", serious),
            ref other => defmt::debug!("{}", other),
        }
    }
}
