//! Finding functions: those that answer at their place, those that only a list of function
//! numbers tells of (ARI), and virtual ones, which show no identity.

use crate::spec::{VirtualFunctions, virtualisation};
use crate::{Config, Function, OutOfMemory, Topology};
use core::ops::RangeInclusive;
use iommu_core::{DeviceId, Segment, SourceId};
use pci_types::ConfigRegionAccess;

/// Function numbers that a device can have at most.
const ARI_FUNCTIONS: usize = 256;

impl Topology {
    /// Finds all functions on these buses of a segment.
    ///
    /// Every bus is looked at, not only those that bridges lead to: root buses beside bus 0
    /// are told only by AML. Nothing is written.
    pub fn scan<A: ConfigRegionAccess>(
        &mut self,
        access: &A,
        segment: Segment,
        buses: RangeInclusive<u8>,
    ) -> Result<(), OutOfMemory> {
        for bus in buses {
            for device in 0..32 {
                self.scan_device(access, segment, bus, device)?;
            }
            self.sort();
            self.scan_ari(access, segment, bus)?;
        }
        self.sort();
        self.scan_virtual(access, segment)?;
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        self.functions.sort_unstable_by_key(|function| function.id);
    }

    fn add(&mut self, function: Function) -> Result<(), OutOfMemory> {
        self.functions.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.functions.push(function);
        Ok(())
    }

    fn scan_device<A: ConfigRegionAccess>(
        &mut self,
        access: &A,
        segment: Segment,
        bus: u8,
        device: u8,
    ) -> Result<(), OutOfMemory> {
        for number in 0..8 {
            let Some(source) = SourceId::new(bus, device, number) else {
                break;
            };
            let id = DeviceId::new(segment, source);
            let Some(function) = Function::read(access, id) else {
                if number == 0 {
                    break;
                }
                continue;
            };
            let alone = number == 0 && !function.multiple;
            // Bit 7 of the header type counts in function 0 alone; what has others beside
            // it is one of several, whatever it says.
            self.add(Function {
                multiple: function.multiple || number != 0,
                ..function
            })?;
            if alone {
                break;
            }
        }
        Ok(())
    }

    /// Follows the list of function numbers that function 0 begins, where numbers of 8 bits
    /// are forwarded (PCIe 6.0, 7.8.8).
    fn scan_ari<A: ConfigRegionAccess>(
        &mut self,
        access: &A,
        segment: Segment,
        bus: u8,
    ) -> Result<(), OutOfMemory> {
        let at = |number: u8| {
            let source = SourceId::from_bits(u16::from_be_bytes([bus, number]));
            DeviceId::new(segment, source)
        };
        if !self.has_ari(at(0)) {
            return Ok(());
        }
        let mut number = 0;
        for _ in 0..ARI_FUNCTIONS {
            let known = self.functions.iter().find(|known| known.id == at(number));
            let list = match known {
                Some(known) => known.capabilities.ari,
                None => {
                    let Some(function) = Function::read(access, at(number)) else {
                        break;
                    };
                    let list = function.capabilities.ari;
                    self.add(Function {
                        multiple: true,
                        ..function
                    })?;
                    list
                }
            };
            let Some(list) = list else { break };
            let config = Config::new(access, at(number));
            let next = config.read8(list.saturating_add(5));
            if next <= number {
                break;
            }
            number = next;
        }
        Ok(())
    }

    /// Virtual functions that somebody has turned on (PCIe 6.0, 9.3.3).
    fn scan_virtual<A: ConfigRegionAccess>(
        &mut self,
        access: &A,
        segment: Segment,
    ) -> Result<(), OutOfMemory> {
        let mut index = 0usize;
        while let Some(physical) = self.functions.get(index).cloned() {
            index = index.saturating_add(1);
            if physical.id.segment != segment || physical.physical.is_some() {
                continue;
            }
            let Some((ids, device)) = virtual_ids(access, &physical) else {
                continue;
            };
            for id in ids {
                if self.functions.iter().any(|known| known.id == id) {
                    continue;
                }
                let function = Function::read_virtual(access, id, &physical, device);
                self.add(function)?;
            }
        }
        Ok(())
    }
}

/// Ids of the virtual functions that a function has on, and their device id.
fn virtual_ids<A: ConfigRegionAccess>(
    access: &A,
    physical: &Function,
) -> Option<(impl Iterator<Item = DeviceId>, u16)> {
    let at = physical.capabilities.sriov?;
    let config = Config::new(access, physical.id);
    let control = config.read32(at.saturating_add(virtualisation::CONTROL));
    if !VirtualFunctions::from_bits(control).enable() {
        return None;
    }
    let count = config.read16(at.saturating_add(virtualisation::NUMBER));
    let steps = config.read32(at.saturating_add(virtualisation::OFFSET_AND_STRIDE));
    let (first, stride) = (steps as u16, (steps >> 16) as u16);
    let device = config.read16(
        at.saturating_add(virtualisation::DEVICE_ID)
            .saturating_add(2),
    );
    let segment = physical.id.segment;
    let first = physical.id.source.bits().checked_add(first)?;
    let ids = core::iter::successors(Some(first), move |id| id.checked_add(stride))
        // With a stride of 0 there is one at most.
        .take(if stride == 0 { count.min(1) } else { count }.into())
        .map(move |id| DeviceId::new(segment, SourceId::from_bits(id)));
    Some((ids, device))
}

#[cfg(test)]
mod tests {
    use crate::fake::{Machine, id, scanned};

    #[test]
    fn virtual_functions_are_found_where_their_physical_one_has_them_on() {
        for (on, expected) in [(true, 3), (false, 0)] {
            let machine = Machine::new();
            machine.root_port(0, 1, 0, 1, 2);
            machine
                .express(1, 0, 0, 0)
                .virtual_functions(0x160, 0x80, 2, 3, 0x1520, on);
            let topology = scanned(&machine);
            let found: std::vec::Vec<_> = topology
                .functions()
                .iter()
                .filter(|function| function.physical.is_some())
                .collect();
            assert_eq!(found.len(), expected);
            for (index, function) in (0..).zip(found) {
                assert_eq!(function.id, id(1, 0x10, 2 * index));
                assert_eq!(function.device, 0x1520);
                assert_eq!(topology.physical(function.id), id(1, 0, 0));
                assert_eq!(topology.spoken_of(function.id), id(1, 0, 0));
                assert_eq!(topology.parent(function.id).unwrap().id, id(0, 1, 0));
            }
        }
    }

    #[test]
    fn a_count_of_virtual_functions_that_leads_beyond_the_last_bus_ends_there() {
        let machine = Machine::new();
        machine
            .express(0xff, 0x1f, 0, 0)
            .virtual_functions(0x160, 1, 1, 0xffff, 0x1520, true);
        let topology = scanned(&machine);
        assert_eq!(topology.functions().len(), 8);
    }

    #[test]
    fn function_numbers_of_8_bits_are_followed_only_behind_a_port_that_forwards_them() {
        for (forwards, expected) in [(true, 3), (false, 1)] {
            let machine = Machine::new();
            let port = machine.root_port(0, 1, 0, 1, 1);
            if forwards {
                port.forward_ari();
            }
            machine.express(1, 0, 0, 0).ari(0x150, 9);
            machine.express(1, 1, 1, 0).ari(0x150, 0x22);
            machine.express(1, 4, 2, 0).ari(0x150, 0);
            let topology = scanned(&machine);
            assert_eq!(topology.functions().len() - 1, expected);
            if forwards {
                assert_eq!(topology.spoken_of(id(1, 4, 2)), id(1, 0, 0));
                assert!(topology.function(id(1, 1, 1)).unwrap().multiple);
            }
        }
    }

    #[test]
    fn a_list_of_function_numbers_that_goes_back_ends() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1).forward_ari();
        machine.express(1, 0, 0, 0).ari(0x150, 9);
        machine.express(1, 1, 1, 0).ari(0x150, 9);
        assert_eq!(scanned(&machine).functions().len(), 3);
    }
}
