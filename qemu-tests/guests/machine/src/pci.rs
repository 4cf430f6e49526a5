//! Finding a device of the guest, and turning it on.

use crate::{Machine, Trouble};
use iommu_core::{Gpa, SourceId};
use pci_types::capability::PciCapability;
use pci_types::{Bar, CommandRegister, ConfigRegionAccess, EndpointHeader, PciAddress, PciHeader};

/// Where a message for the local APIC of CPU 0 goes, as the guest sees it.
const LOCAL_APIC: u64 = 0xfee0_0000;

/// Configuration space as `pci_types` wants it.
#[derive(Clone, Copy)]
struct Config<'m>(&'m dyn Machine);

fn source(address: PciAddress) -> Option<SourceId> {
    SourceId::new(address.bus(), address.device(), address.function())
}

impl ConfigRegionAccess for Config<'_> {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match (source(address), u8::try_from(offset)) {
            (Some(function), Ok(offset)) => self.0.read_config(function, offset),
            _ => u32::MAX,
        }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let (Some(function), Ok(offset)) = (source(address), u8::try_from(offset)) {
            self.0.write_config(function, offset, value);
        }
    }
}

/// A function of the guest's bus 0.
#[derive(Clone, Copy)]
pub struct Function<'m> {
    config: Config<'m>,
    id: SourceId,
}

impl<'m> Function<'m> {
    /// The first function 0 on bus 0 with these ids.
    pub fn find(machine: &'m dyn Machine, vendor: u16, device: u16) -> Result<Self, Trouble> {
        let config = Config(machine);
        (0..32)
            .filter_map(|number| SourceId::new(0, number, 0))
            .map(|id| Self { config, id })
            .find(|function| function.header().id(config) == (vendor, device))
            .ok_or(Trouble::NoDevice)
    }

    /// Bus, device and function.
    pub fn id(&self) -> SourceId {
        self.id
    }

    fn address(&self) -> PciAddress {
        PciAddress::new(0, self.id.bus(), self.id.device(), self.id.function())
    }

    fn header(&self) -> PciHeader {
        PciHeader::new(self.address())
    }

    fn endpoint(&self) -> Result<EndpointHeader, Trouble> {
        EndpointHeader::from_header(self.header(), self.config)
            .ok_or(Trouble::Unsuitable("an endpoint's header"))
    }

    /// Where BAR 0 lies.
    pub fn registers(&self) -> Result<Gpa, Trouble> {
        match self.endpoint()?.bar(0, self.config) {
            Some(Bar::Memory32 { address, .. }) if address != 0 => Ok(Gpa::new(address.into())),
            Some(Bar::Memory64 { address, .. }) if address != 0 => Ok(Gpa::new(address)),
            _ => Err(Trouble::Unsuitable("a memory BAR")),
        }
    }

    /// Lets the device decode its memory and send requests, or stops it.
    pub fn enable(&self, on: bool) {
        let wanted = CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE;
        self.header().update_command(self.config, |mut command| {
            command.set(wanted, on);
            command
        });
    }

    /// Turns the function's MSI on: `address` and `data` as for the local APIC of the
    /// guest's only CPU.
    pub fn enable_msi(&self, vector: u8) -> Result<(), Trouble> {
        let mut capabilities = self.endpoint()?.capabilities(self.config);
        let msi = capabilities
            .find_map(|capability| match capability {
                PciCapability::Msi(msi) => Some(msi),
                _ => None,
            })
            .ok_or(Trouble::Unsuitable("an MSI capability"))?;
        msi.set_message_info(LOCAL_APIC, u32::from(vector), self.config);
        msi.set_enabled(true, self.config);
        Ok(())
    }
}
