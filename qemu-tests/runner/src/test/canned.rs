//! DMAR tables that stand in for QEMU's, which never holds a reserved region.

use ::dmar::builder::{Scope, Structure, Table};

/// One of them, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canned(&'static str);

/// Where QEMU's unit has its registers.
const UNIT: u64 = 0xfed9_0000;
/// Memory that SeaBIOS keeps for ACPI tables and never fills: the end of the machine's 256 MiB,
/// which the memory map lists as reserved. Devices may write there and break nothing.
const RESERVED: (u64, u64) = (0x0fff_c000, 0x0fff_dfff);
/// Memory that the memory map lists as usable.
const USABLE: (u64, u64) = (0x0200_0000, 0x0200_0fff);
/// Interrupts can be remapped (§8.1).
const INTR_REMAP: u8 = 1;
/// The firmware's own DMA keeps to reserved regions.
const DMA_CTRL_PLATFORM_OPT_IN: u8 = 1 << 2;
/// DRHD: all devices that no other unit has (§8.3).
const INCLUDE_PCI_ALL: u8 = 1;
/// Where the machine's devices are: `edu`, `iommu-testdev`, a display device.
const EDU: &[(u8, u8)] = &[(4, 0)];
const TESTDEV: &[(u8, u8)] = &[(5, 0)];
const DISPLAY: &[(u8, u8)] = &[(6, 0)];

/// A device behind a root port and a bridge to a conventional bus.
const BRIDGED: &[(u8, u8)] = &[(8, 0), (0, 0), (3, 0)];
/// Another one beside it.
const BESIDE: &[(u8, u8)] = &[(8, 0), (0, 0), (5, 0)];

/// Names, the devices that have a region by their paths, and the region.
type Row = (&'static str, &'static [&'static [(u8, u8)]], (u64, u64));
const OPT_IN: &str = "opt-in";
const ALL: &[Row] = &[
    ("plain", &[], RESERVED),
    (OPT_IN, &[], RESERVED),
    ("reserved-edu", &[EDU, TESTDEV], RESERVED),
    ("reserved-usable", &[EDU], USABLE),
    ("reserved-display", &[DISPLAY], RESERVED),
    ("reserved-bridged", &[BRIDGED, BESIDE], RESERVED),
];

impl Canned {
    /// The table of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let mut all = ALL.iter();
        all.find(|(known, ..)| *known == name)
            .map(|&(name, ..)| Self(name))
    }

    /// Its bytes, for a unit of this address width.
    pub(crate) fn bytes(self, width: u8) -> Vec<u8> {
        let unit = Structure::drhd(UNIT)
            .flags(INCLUDE_PCI_ALL)
            .scope(Scope::io_apic(0, 0xff, (0, 0)));
        let promise = match self.0 {
            OPT_IN => DMA_CTRL_PLATFORM_OPT_IN,
            _ => 0,
        };
        let table = Table::new(width).flags(INTR_REMAP | promise).with(unit);
        let (_, devices, (base, limit)) = ALL
            .iter()
            .find(|(name, ..)| *name == self.0)
            .expect("only `of_name` makes these");
        if devices.is_empty() {
            return table.build();
        }
        let mut region = Structure::rmrr(*base, *limit);
        for path in *devices {
            region = region.scope(Scope::endpoint(0, path));
        }
        table.with(region).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::dmar::Dmar;

    #[test]
    fn each_is_a_sound_table() {
        for (name, devices, _) in ALL {
            let bytes = Canned::of_name(name).unwrap().bytes(39);
            let dmar = Dmar::new(&bytes);
            assert!(!dmar.is_malformed(), "{name}");
            assert_eq!(dmar.regions().count(), usize::from(!devices.is_empty()));
            assert_eq!(dmar.host_address_width(), Some(39));
        }
        assert_eq!(Canned::of_name("other"), None);
    }
}
