//! Rows of the table of quirks that this machine is in.

use alloc::vec::Vec;
use iommu_core::DeviceId;
use pci::{Config, ConfigRegionAccess, OutOfMemory, Topology};
use quirks::{Effect, Processor, Quirk};
use vtd::Corrections;

/// Rows of the table that functions and the CPU of this machine are in.
#[derive(Clone, Debug, Default)]
pub struct Errata {
    rows: Vec<(&'static Quirk, Option<DeviceId>)>,
}

impl Errata {
    /// Looks functions and the CPU up.
    pub fn of(topology: &Topology, processor: Option<Processor>) -> Result<Self, OutOfMemory> {
        let mut rows = Vec::new();
        let mut add = |quirk, device| {
            rows.try_reserve(1).map_err(|_| OutOfMemory)?;
            rows.push((quirk, device));
            Ok(())
        };
        for function in topology.functions() {
            for quirk in function.quirks() {
                add(quirk, Some(function.id))?;
            }
        }
        for quirk in processor.iter().flat_map(quirks::of_processor) {
            add(quirk, None)?;
        }
        Ok(Self { rows })
    }

    /// The rows, and the function that each is about, if it is none about the CPU.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Quirk, Option<DeviceId>)> + '_ {
        self.rows.iter().copied()
    }

    /// What a unit must be told of, where `remaps` says which functions are behind it.
    pub fn corrections(&self, remaps: impl Fn(DeviceId) -> bool) -> Corrections {
        let mut all = Corrections::default();
        for (quirk, device) in self.rows() {
            match quirk.effect {
                Effect::NeedsWriteBufferFlush => all.needs_write_buffer_flush = true,
                Effect::NoSecondStageSuperpages => all.no_second_stage_superpages = true,
                Effect::MaskAtMost(limit) => {
                    all.mask_limit = Some(all.mask_limit.map_or(limit, |known| known.min(limit)));
                }
                Effect::NoInterruptRemapping => all.no_interrupt_remapping = true,
                Effect::NoProtectedRegions => all.no_protected_regions = true,
                Effect::NoNesting => all.no_nesting = true,
                Effect::KeepsTranslating => all.keeps_translating |= device.is_some_and(&remaps),
                _ => {}
            }
        }
        all
    }

    /// Whether display devices are left as they are, whatever the command line says.
    pub fn leave_graphics_alone(&self) -> bool {
        self.rows()
            .any(|(quirk, _)| quirk.effect == Effect::LeaveGraphicsAlone)
    }

    /// Sets what configuration registers must be set to.
    pub fn apply<A: ConfigRegionAccess>(&self, access: &A) {
        for (quirk, device) in self.rows() {
            if let (Effect::SetConfiguration { offset, bits }, Some(device)) =
                (quirk.effect, device)
            {
                let config = Config::new(access, device);
                config.write32(offset, config.read32(offset) | bits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pci::fake::{Machine, id, scanned};

    fn errata(machine: &Machine, processor: Option<Processor>) -> Errata {
        Errata::of(&scanned(machine), processor).unwrap()
    }

    fn cpu(model: u8, stepping: u8) -> Option<Processor> {
        Some(Processor {
            intel: true,
            family: 6,
            model,
            stepping,
        })
    }

    /// A laptop of the 4 series: host bridge 2a40h, graphics.
    fn four_series() -> Machine {
        let machine = Machine::new();
        machine.endpoint(0, 0, 0).raw(0, 0x2a40_8086);
        machine
            .endpoint(0, 2, 0)
            .raw(0, 0x2a42_8086)
            .raw(8, 0x0300_0007);
        machine
    }

    #[test]
    fn a_host_bridge_of_the_4_series_makes_all_units_flush_write_buffers() {
        let found = errata(&four_series(), None);
        let corrections = found.corrections(|_| false);
        assert!(corrections.needs_write_buffer_flush);
        assert!(found.leave_graphics_alone());
        let machine = Machine::new();
        machine.endpoint(0, 0, 0).raw(0, 0x2a41_8086);
        let found = errata(&machine, None);
        assert_eq!(found.corrections(|_| true), Corrections::default());
        assert!(!found.leave_graphics_alone());
    }

    #[test]
    fn graphics_that_must_go_on_translating_concern_their_own_unit_alone() {
        let machine = Machine::new();
        machine
            .endpoint(0, 2, 0)
            .raw(0, 0x9a49_8086)
            .raw(8, 0x0300_0001);
        let found = errata(&machine, None);
        let graphics = id(0, 2, 0);
        assert!(
            found
                .corrections(|device| device == graphics)
                .keeps_translating
        );
        assert!(
            !found
                .corrections(|device| device != graphics)
                .keeps_translating
        );
    }

    #[test]
    fn errata_of_a_cpu_come_together() {
        let found = errata(&Machine::new(), cpu(0x2d, 6));
        let corrections = found.corrections(|_| false);
        assert!(corrections.no_second_stage_superpages);
        assert_eq!(corrections.mask_limit, Some(9));
        assert!(!corrections.no_nesting);
        let newer = errata(&Machine::new(), cpu(0x8f, 6)).corrections(|_| false);
        assert!(newer.no_nesting && newer.mask_limit.is_none());
    }

    #[test]
    fn a_chipset_that_loses_remapped_interrupts_is_not_asked_for_them() {
        for (revision, expected) in [(0x13, true), (0x23, false)] {
            let machine = Machine::new();
            machine
                .endpoint(0, 0, 0)
                .raw(0, 0x3405_8086)
                .raw(8, revision);
            let corrections = errata(&machine, None).corrections(|_| false);
            assert_eq!(corrections.no_interrupt_remapping, expected);
        }
    }

    #[test]
    fn bits_of_a_configuration_register_are_set_and_the_others_stay() {
        let machine = Machine::new();
        machine
            .endpoint(0, 5, 0)
            .raw(0, 0x3c28_8086)
            .raw(0x1ac, 0x0000_0421);
        errata(&machine, None).apply(&machine);
        assert_eq!(machine.written(id(0, 5, 0)), [(0x1ac, 0x8000_0421)]);
    }

    #[test]
    fn every_row_is_told_with_whom_it_is_about() {
        let found = errata(&four_series(), cpu(0x2a, 7));
        let about: std::vec::Vec<_> = found.rows().map(|(_, device)| device).collect();
        let bridge = Some(id(0, 0, 0));
        assert_eq!(about, [bridge, bridge, None]);
    }
}
