//! Configuration space as a guest sees it.
//!
//! Identity is the device's own. The guest may turn bus mastering on and off, size BARs, and
//! program an MSI. BARs lie where the hypervisor put them, in the guest's and in the host's
//! space, and a write to one changes nothing. The MSI's address and data are the guest's to
//! read back; the device holds the message that the remapping hardware gave. Nothing else is
//! there: no other capability, no register that is not known to be harmless.

use super::InterruptLine;
use arrayvec::ArrayVec;
use bitfield_struct::bitfield;
use core::fmt;
use iommu_core::{Gpa, Hpa, IrqMessage, PAGE_SIZE};
use pci_types::capability::{MsiCapability, PciCapability};
use pci_types::{Bar, CommandRegister, ConfigRegionAccess, EndpointHeader, PciAddress, PciHeader};
use spin::Mutex;

/// Offsets of configuration registers, each 32 bits.
mod offset {
    pub(super) const IDENTITY: u8 = 0x00;
    pub(super) const COMMAND: u8 = 0x04;
    pub(super) const CLASS: u8 = 0x08;
    pub(super) const HEADER_TYPE: u8 = 0x0c;
    pub(super) const BAR_FIRST: u8 = 0x10;
    pub(super) const BAR_LAST: u8 = 0x24;
    pub(super) const SUBSYSTEM: u8 = 0x2c;
    pub(super) const CAPABILITIES: u8 = 0x34;
}

/// Capability id of MSI.
const MSI: u32 = 0x05;
/// Where the guest finds the MSI capability.
const MSI_AT: u8 = 0x40;

/// First register of an MSI capability.
#[bitfield(u32)]
struct MsiControl {
    id: u8,
    next: u8,
    enable: bool,
    #[bits(3)]
    multiple_capable: u8,
    #[bits(3)]
    multiple_enable: u8,
    address_64: bool,
    #[bits(8)]
    __: u8,
}

/// Bits of the command register that a guest may change.
const GUEST_COMMAND: CommandRegister =
    CommandRegister::MEMORY_ENABLE.union(CommandRegister::BUS_MASTER_ENABLE);
/// Status: there is a list of capabilities.
const STATUS_CAPABILITIES: u32 = 1 << 20;

/// A memory BAR of the device, in both spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarWindow {
    /// Which BAR, 0 to 5.
    pub slot: u8,
    /// Where it lies in the host.
    pub hpa: Hpa,
    /// Where it lies in the guest, below 4 GiB, aligned to its size.
    pub gpa: Gpa,
    /// Its size in bytes, a power of two and at least a page.
    pub bytes: u64,
    /// Takes two slots.
    pub wide: bool,
}

/// Why a function cannot be given to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FunctionError {
    /// Not an endpoint.
    NotEndpoint,
    /// A BAR that the firmware has not placed.
    Unplaced(u8),
    /// A BAR smaller than a page: others' registers may share its page.
    TooSmall(u8),
    /// The BARs need more room than is left below 4 GiB in the guest.
    NoRoom(u8),
    /// No MSI, and nothing else is passed on.
    NoMsi,
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEndpoint => f.write_str("not an endpoint"),
            Self::Unplaced(slot) => write!(f, "BAR {slot} has no address"),
            Self::TooSmall(slot) => write!(f, "BAR {slot} is smaller than a page"),
            Self::NoRoom(slot) => write!(f, "no room for BAR {slot}"),
            Self::NoMsi => f.write_str("no MSI capability"),
        }
    }
}

/// How real configuration space is reached.
pub type Access = &'static (dyn ConfigRegionAccess + Sync);

/// Adapts a reference: `pci_types` takes accesses by value.
#[derive(Clone, Copy)]
struct Real(Access);

impl ConfigRegionAccess for Real {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.read(address, offset) }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.write(address, offset, value) }
    }
}

/// A real function, looked over and found fit for a guest.
pub struct Function {
    access: Real,
    address: PciAddress,
    msi: MsiCapability,
    bars: ArrayVec<BarWindow, 6>,
}

impl Function {
    /// Looks a function over, stops its DMA and its interrupts, and places its BARs in the
    /// guest from `*next` on, which is moved behind them.
    pub fn new(access: Access, address: PciAddress, next: &mut u64) -> Result<Self, FunctionError> {
        let access = Real(access);
        let header = PciHeader::new(address);
        let mut endpoint =
            EndpointHeader::from_header(header, access).ok_or(FunctionError::NotEndpoint)?;
        let msi = endpoint
            .capabilities(access)
            // A list that leads in circles ends here.
            .take(64)
            .find_map(|capability| match capability {
                PciCapability::Msi(msi) => Some(msi),
                _ => None,
            })
            .ok_or(FunctionError::NoMsi)?;
        msi.set_enabled(false, access);
        // Sizing a BAR moves it about, so decoding is off meanwhile.
        endpoint.update_command(access, |_| CommandRegister::INTERRUPT_DISABLE);
        let bars = windows(&endpoint, access, next)?;
        endpoint.update_command(access, |command| command | CommandRegister::MEMORY_ENABLE);
        Ok(Self {
            access,
            address,
            msi,
            bars,
        })
    }

    /// The BARs, in both spaces.
    pub fn bars(&self) -> &[BarWindow] {
        &self.bars
    }
}

fn windows(
    endpoint: &EndpointHeader,
    access: Real,
    next: &mut u64,
) -> Result<ArrayVec<BarWindow, 6>, FunctionError> {
    let mut windows = ArrayVec::new();
    let mut slot = 0;
    while slot < 6 {
        let (hpa, bytes, wide) = match endpoint.bar(slot, access) {
            Some(Bar::Memory32 { address, size, .. }) => (u64::from(address), size.into(), false),
            Some(Bar::Memory64 { address, size, .. }) => (address, size, true),
            Some(Bar::Io { .. }) | None => {
                slot += 1;
                continue;
            }
        };
        if hpa == 0 {
            return Err(FunctionError::Unplaced(slot));
        }
        if bytes < PAGE_SIZE {
            return Err(FunctionError::TooSmall(slot));
        }
        let gpa = next
            .checked_next_multiple_of(bytes)
            .filter(|gpa| {
                gpa.checked_add(bytes)
                    .is_some_and(|end| end <= LAST_BAR_END)
            })
            .ok_or(FunctionError::NoRoom(slot))?;
        *next = gpa + bytes;
        // Six slots, so six at most.
        let _ = windows.try_push(BarWindow {
            slot,
            hpa: Hpa::new(hpa),
            gpa: Gpa::new(gpa),
            bytes,
            wide,
        });
        slot += if wide { 2 } else { 1 };
    }
    Ok(windows)
}

/// BARs end here in the guest: above is what a PC keeps for its own registers.
const LAST_BAR_END: u64 = 0xfec0_0000;

/// What the guest has written.
#[derive(Clone, Copy, Default)]
struct Written {
    command: u16,
    /// BARs to which all ones were written, to learn their size.
    sizing: [bool; 6],
    msi_control: u32,
    msi_address: [u32; 2],
    msi_data: u32,
}

/// One function's configuration space, as the guest sees it.
///
/// Used by the guest's CPU only, never in interrupt handlers.
pub struct ConfigSpace {
    function: Function,
    line: &'static InterruptLine,
    message: IrqMessage,
    written: Mutex<Written>,
}

impl ConfigSpace {
    pub(super) fn new(
        function: Function,
        line: &'static InterruptLine,
        message: IrqMessage,
    ) -> Self {
        Self {
            function,
            line,
            message,
            written: Mutex::new(Written::default()),
        }
    }

    /// The BARs, in both spaces.
    pub fn bars(&self) -> &[BarWindow] {
        &self.function.bars
    }

    fn real(&self, offset: u8) -> u32 {
        let Function {
            access, address, ..
        } = &self.function;
        // SAFETY: reads of the header's registers have no effect.
        unsafe { access.read(*address, u16::from(offset)) }
    }

    /// An aligned 32-bit read.
    pub fn read(&self, at: u8) -> u32 {
        let written = *self.written.lock();
        match at {
            offset::IDENTITY | offset::CLASS | offset::SUBSYSTEM => self.real(at),
            offset::COMMAND => STATUS_CAPABILITIES | u32::from(written.command),
            // Header type 0, one function.
            offset::HEADER_TYPE => 0,
            offset::BAR_FIRST..=offset::BAR_LAST => {
                self.bar((at - offset::BAR_FIRST) / 4, &written)
            }
            offset::CAPABILITIES => MSI_AT.into(),
            _ => match at.checked_sub(MSI_AT) {
                Some(0) => {
                    written.msi_control | MSI | MsiControl::new().with_address_64(true).into_bits()
                }
                Some(4) => written.msi_address[0],
                Some(8) => written.msi_address[1],
                Some(12) => written.msi_data,
                _ => 0,
            },
        }
    }

    fn bar(&self, slot: u8, written: &Written) -> u32 {
        let sizing = written.sizing.get(usize::from(slot)).is_some_and(|s| *s);
        for bar in self.bars() {
            let kind = if bar.wide { 0b100 } else { 0 };
            let value = if sizing {
                bar.bytes.wrapping_neg()
            } else {
                bar.gpa.as_u64()
            };
            if bar.slot == slot {
                return value as u32 | kind;
            }
            if bar.wide && bar.slot + 1 == slot {
                return (value >> 32) as u32;
            }
        }
        0
    }

    /// Stops its DMA and its interrupts: nobody has the device from now on.
    pub fn quieten(&self) {
        self.write(offset::COMMAND, 0);
        self.write(MSI_AT, 0);
        self.function.msi.set_enabled(false, self.function.access);
    }

    /// An aligned 32-bit write.
    pub fn write(&self, at: u8, value: u32) {
        let mut written = self.written.lock();
        match at {
            offset::COMMAND => self.write_command(&mut written, value as u16),
            offset::BAR_FIRST..=offset::BAR_LAST => {
                let slot = usize::from((at - offset::BAR_FIRST) / 4);
                if let Some(sizing) = written.sizing.get_mut(slot) {
                    *sizing = value == u32::MAX;
                }
            }
            _ => match at.checked_sub(MSI_AT) {
                Some(0) => self.write_msi_control(&mut written, value),
                Some(4) => written.msi_address[0] = value & !3,
                Some(8) => written.msi_address[1] = value,
                Some(12) => {
                    written.msi_data = value & 0xffff;
                    self.update_line(&written);
                }
                _ => {}
            },
        }
    }

    fn write_command(&self, written: &mut Written, value: u16) {
        let command = CommandRegister::from_bits_truncate(value) & GUEST_COMMAND;
        written.command = command.bits();
        let master = command.contains(CommandRegister::BUS_MASTER_ENABLE);
        let header = &mut PciHeader::new(self.function.address);
        header.update_command(self.function.access, |mut real| {
            real.set(CommandRegister::BUS_MASTER_ENABLE, master);
            real
        });
    }

    fn write_msi_control(&self, written: &mut Written, value: u32) {
        let wanted = MsiControl::from_bits(value).enable();
        let was = MsiControl::from_bits(written.msi_control).enable();
        written.msi_control = MsiControl::new().with_enable(wanted).into_bits();
        self.update_line(written);
        if wanted == was {
            return;
        }
        let Function { msi, access, .. } = &self.function;
        if wanted {
            msi.set_message_info(self.message.address, self.message.data, *access);
        }
        msi.set_enabled(wanted, *access);
    }

    fn update_line(&self, written: &Written) {
        let on = MsiControl::from_bits(written.msi_control).enable();
        self.line.set_vector(on.then_some(written.msi_data as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::interrupts::VirtualInterrupts;
    use alloc::sync::Arc;
    use std::collections::BTreeMap;

    const MESSAGE: IrqMessage = IrqMessage {
        address: 0xfee0_0010,
        data: 0,
    };

    /// A function with a 1 MiB BAR, an MSI capability at 0x60 and another in front of it.
    struct FakeFunction(Mutex<BTreeMap<u16, u32>>);

    impl FakeFunction {
        fn new() -> &'static Self {
            let registers = [
                (0x00, 0x11e8_1234),
                (0x04, 0x0010_0007),
                (0x08, 0x00ff_0010),
                (0x10, 0xfea0_0000),
                (0x34, 0x50),
                (0x50, 0x0000_6009),
                (0x60, 0x0080_0005),
            ];
            std::boxed::Box::leak(std::boxed::Box::new(Self(Mutex::new(registers.into()))))
        }

        fn get(&self, offset: u16) -> u32 {
            self.0.lock().get(&offset).copied().unwrap_or(0)
        }
    }

    impl ConfigRegionAccess for FakeFunction {
        unsafe fn read(&self, _: PciAddress, offset: u16) -> u32 {
            self.get(offset)
        }

        unsafe fn write(&self, _: PciAddress, offset: u16, value: u32) {
            let value = match (offset, value) {
                (0x10, value) => value & 0xfff0_0000,
                (0x14..=0x24 | 0x30, _) => 0,
                _ => value,
            };
            self.0.lock().insert(offset, value);
        }
    }

    fn space() -> (&'static FakeFunction, ConfigSpace, Arc<VirtualInterrupts>) {
        let real = FakeFunction::new();
        let mut next = 0xc000_0000;
        let function = Function::new(real, PciAddress::new(0, 0, 4, 0), &mut next).unwrap();
        assert_eq!(next, 0xc010_0000);
        let (line, interrupts) = super::super::line::tests::line();
        (real, ConfigSpace::new(function, line, MESSAGE), interrupts)
    }

    #[test]
    fn the_guest_sees_the_device_and_a_bar_elsewhere() {
        let (_, space, _) = space();
        assert_eq!(space.read(0x00), 0x11e8_1234);
        assert_eq!(space.read(0x08), 0x00ff_0010);
        assert_eq!(space.read(0x10), 0xc000_0000);
        let [bar] = space.bars() else { panic!() };
        assert_eq!((bar.hpa, bar.bytes), (Hpa::new(0xfea0_0000), 1 << 20));
    }

    #[test]
    fn a_bar_can_be_sized_and_never_moved() {
        let (real, space, _) = space();
        space.write(0x10, u32::MAX);
        assert_eq!(space.read(0x10), 0xfff0_0000);
        space.write(0x10, 0xd000_0000);
        assert_eq!(space.read(0x10), 0xc000_0000);
        assert_eq!(real.get(0x10), 0xfea0_0000);
    }

    #[test]
    fn only_bus_mastering_passes_through_the_command_register() {
        let (real, space, _) = space();
        assert_eq!(real.get(0x04) & 0x0407, 0x0402, "decodes, no DMA, no INTx");
        space.write(0x04, 0xffff);
        assert_eq!(real.get(0x04) & 0x0407, 0x0406);
        assert_eq!(space.read(0x04) & 0xffff, 0x6);
        space.write(0x04, 0);
        assert_eq!(real.get(0x04) & 0x0407, 0x0402);
    }

    #[test]
    fn the_device_gets_the_remapped_message_and_the_guest_keeps_its_own() {
        let (real, space, interrupts) = space();
        space.write(0x44, 0xfee0_0000);
        space.write(0x4c, 0x4051);
        space.write(0x40, 1 << 16);
        assert_eq!(real.get(0x64), 0xfee0_0010);
        assert_eq!(real.get(0x6c), 0);
        assert_ne!(real.get(0x60) & 1 << 16, 0);
        assert_eq!([space.read(0x44), space.read(0x4c)], [0xfee0_0000, 0x4051]);
        space.line.receive();
        assert_eq!(interrupts.next(), Some(0x51));
        space.write(0x40, 0);
        assert_eq!(real.get(0x60) & 1 << 16, 0);
    }

    #[test]
    fn a_device_that_is_taken_back_is_no_master_and_has_no_interrupt() {
        let (real, space, _) = space();
        space.write(0x04, 0xffff);
        space.write(0x40, 1 << 16);
        assert_ne!(real.get(0x60) & 1 << 16, 0);
        space.quieten();
        assert_eq!(real.get(0x60) & 1 << 16, 0);
        assert_eq!(real.get(0x04) & 0x0407, 0x0402);
    }

    #[test]
    fn nothing_else_is_there() {
        let (real, space, _) = space();
        let before = real.0.lock().clone();
        for at in (0..=0xfc).step_by(4) {
            let known = matches!(at, 0x04 | 0x10..=0x24 | 0x40..=0x4c);
            if !known {
                space.write(at, u32::MAX);
            }
        }
        assert_eq!(*real.0.lock(), before);
        assert_eq!(space.read(0x34), 0x40);
        assert_eq!(space.read(0x40) >> 8 & 0xff, 0, "the list ends with MSI");
        assert_eq!(space.read(0x50), 0);
        assert_eq!(space.read(0x60), 0);
    }
}
