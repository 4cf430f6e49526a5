//! A machine of bytes, for tests: functions whose registers can be read and written, BARs
//! that can be sized, and resets that do what they should, or not.

use crate::{Clock, Topology};
use iommu_core::{DeviceId, Nanoseconds, Segment, SourceId};
use pci_types::{ConfigRegionAccess, PciAddress};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

const BYTES: usize = 4096;
const DECODING: u8 = 0b11;
/// Where `express` and `port` put their capability.
const EXPRESS: usize = 0x80;
/// All access control services but direct translated requests and egress control.
pub const FULL_ACCESS_CONTROL: u16 = 0x1f;

/// A function of segment 0.
pub fn id(bus: u8, device: u8, function: u8) -> DeviceId {
    DeviceId::new(Segment(0), SourceId::new(bus, device, function).unwrap())
}

/// What a scan of the machine finds.
pub fn scanned(machine: &Machine) -> Topology {
    let mut topology = Topology::new();
    topology.scan(machine, Segment(0), 0..=255).unwrap();
    topology
}

/// Time that passes when somebody waits.
#[derive(Debug, Default)]
pub struct Time(Cell<u64>);

impl Clock for Time {
    fn now(&self) -> Nanoseconds {
        Nanoseconds(self.0.get())
    }

    fn relax(&self) {
        self.0.set(self.0.get() + 100_000);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Power {
    D0,
    D3,
}

#[derive(Debug)]
struct Space {
    bytes: Vec<u8>,
    /// Which bits of each BAR can be written.
    masks: [u32; 6],
    /// A write with this bit set at this offset resets the function.
    resets_by: Vec<(u16, u32)>,
    /// A function whose state D3hot does not keep, and the offset of its control.
    forgets_in_d3: Option<u16>,
    power: Power,
    resets: u32,
    /// Reads that are answered by a request for patience after a reset.
    patience: u32,
    not_ready: u32,
    /// Reads of this register that show this bit, before it goes away.
    pending: Option<(u16, u32, u32)>,
    /// Page requests never stop.
    never_stops: bool,
    page_requests: Option<u16>,
    gone: bool,
    /// Registers that can only be read.
    read_only: Vec<(u16, u32)>,
    written: Vec<(u16, u32)>,
}

impl Space {
    fn new() -> Self {
        Self {
            bytes: std::vec![0; BYTES],
            masks: [0; 6],
            resets_by: Vec::new(),
            forgets_in_d3: None,
            power: Power::D0,
            resets: 0,
            patience: 0,
            not_ready: 0,
            pending: None,
            never_stops: false,
            page_requests: None,
            gone: false,
            read_only: Vec::new(),
            written: Vec::new(),
        }
    }

    fn word(&self, offset: u16) -> u32 {
        let offset = usize::from(offset);
        u32::from_le_bytes(self.bytes[offset..offset + 4].try_into().unwrap())
    }

    fn set_word(&mut self, offset: u16, value: u32) {
        let offset = usize::from(offset);
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.not_ready = self.patience;
        self.set_word(0x04, self.word(0x04) & 0xffff_0000);
        for index in 0..6u16 {
            let at = 0x10 + 4 * index;
            let mask = self.masks[usize::from(index)];
            self.set_word(at, self.word(at) & !mask);
        }
        self.bytes[0x0c] = 0;
        self.bytes[0x3c] = 0;
        if self.bytes[0x0e] & 0x7f == 1 {
            self.bytes[0x18..0x1b].fill(0);
        }
    }
}

/// Functions by id.
#[derive(Debug, Default)]
pub struct Machine {
    functions: RefCell<BTreeMap<u16, Space>>,
    sized_while_decoding: Cell<bool>,
}

/// A function that is being described.
pub struct Builder<'a> {
    machine: &'a Machine,
    source: SourceId,
}

impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Another description of a function that is there.
    pub fn builder(&self, device: DeviceId) -> Builder<'_> {
        Builder {
            machine: self,
            source: device.source,
        }
    }

    /// A conventional function.
    pub fn endpoint(&self, bus: u8, device: u8, function: u8) -> Builder<'_> {
        let source = SourceId::new(bus, device, function).unwrap();
        self.functions
            .borrow_mut()
            .insert(source.bits(), Space::new());
        let builder = Builder {
            machine: self,
            source,
        };
        builder.raw(0, 0x11e8_1234)
    }

    /// A PCI Express function of a port type.
    pub fn express(&self, bus: u8, device: u8, function: u8, port: u8) -> Builder<'_> {
        self.endpoint(bus, device, function)
            .raw(0, 0x5678_1abc)
            .port(port)
    }

    /// A conventional bridge.
    pub fn bridge(
        &self,
        bus: u8,
        device: u8,
        function: u8,
        secondary: u8,
        subordinate: u8,
    ) -> Builder<'_> {
        self.endpoint(bus, device, function)
            .raw(0, 0x9999_1abc)
            .byte(0x0e, 1)
            .byte(0x04, 0b111)
            .byte(0x19, secondary)
            .byte(0x1a, subordinate)
    }

    /// A root port.
    pub fn root_port(
        &self,
        bus: u8,
        device: u8,
        function: u8,
        secondary: u8,
        subordinate: u8,
    ) -> Builder<'_> {
        self.bridge(bus, device, function, secondary, subordinate)
            .port(4)
    }

    pub fn bytes(&self, device: DeviceId) -> Vec<u8> {
        self.functions.borrow()[&device.source.bits()].bytes.clone()
    }

    /// How often a function was reset.
    pub fn resets(&self, device: DeviceId) -> u32 {
        self.functions.borrow()[&device.source.bits()].resets
    }

    /// What was written to a function, in order.
    pub fn written(&self, device: DeviceId) -> Vec<(u16, u32)> {
        self.functions.borrow()[&device.source.bits()]
            .written
            .clone()
    }

    pub fn was_sized_while_decoding(&self) -> bool {
        self.sized_while_decoding.get()
    }
}

impl Builder<'_> {
    fn with(self, change: impl FnOnce(&mut Space)) -> Self {
        let mut functions = self.machine.functions.borrow_mut();
        change(functions.get_mut(&self.source.bits()).unwrap());
        drop(functions);
        self
    }

    pub fn byte(self, offset: usize, value: u8) -> Self {
        self.with(|space| space.bytes[offset] = value)
    }

    pub fn raw(self, offset: usize, value: u32) -> Self {
        self.with(|space| space.set_word(offset as u16, value))
    }

    /// Bits of a register that writes do not change.
    fn fixed(self, offset: u16, bits: u32) -> Self {
        self.with(|space| space.read_only.push((offset, bits)))
    }

    pub fn command(self, value: u8) -> Self {
        self.byte(4, value)
    }

    pub fn multiple_functions(self) -> Self {
        self.with(|space| space.bytes[0x0e] |= 0x80)
    }

    fn masked(self, index: usize, value: u32, mask: u32) -> Self {
        self.raw(0x10 + 4 * index, value)
            .with(|space| space.masks[index] = mask)
    }

    pub fn bar32(self, index: usize, base: u32, size: u32) -> Self {
        self.masked(index, base, size.wrapping_neg())
    }

    pub fn bar64(self, index: usize, base: u64, size: u64) -> Self {
        let mask = size.wrapping_neg();
        self.masked(index, base as u32 | 0b1100, mask as u32)
            .masked(index + 1, (base >> 32) as u32, (mask >> 32) as u32)
    }

    pub fn bar64_in_last_slot(self) -> Self {
        self.masked(5, 0b100, 0xffff_f000)
    }

    pub fn bar_io(self, index: usize, base: u32, size: u32) -> Self {
        self.masked(index, base | 1, size.wrapping_neg() & 0xffff)
    }

    /// A capability in the list; the first must lie at 0x40.
    pub fn capability(self, offset: usize, id: u8, next: u8, control: u16) -> Self {
        let header = u32::from(id) | u32::from(next) << 8 | u32::from(control) << 16;
        self.raw(offset, header).byte(6, 0x10).byte(0x34, 0x40)
    }

    /// Adds a capability in front of those that are there.
    fn first_capability(self, offset: usize, id: u8, control: u16) -> Self {
        let mut next = 0;
        self.with(|space| next = space.bytes[0x34])
            .capability(offset, id, 0, control)
            .byte(offset + 1, next)
            .byte(0x34, offset as u8)
    }

    /// Makes it a PCI Express function of a port type.
    pub fn port(self, port: u8) -> Self {
        self.first_capability(EXPRESS, 0x10, u16::from(port) << 4 | 2)
    }

    /// An extended capability in front of those that are there.
    fn extended(self, offset: usize, id: u16) -> Self {
        let mut old = 0;
        let builder = self.with(|space| old = space.word(0x100));
        if offset == 0x100 {
            return builder.raw(0x100, 0x0001_0000 | u32::from(id));
        }
        let old = if old == 0 { 0x0001_0000 } else { old };
        let next = old >> 20;
        builder
            .raw(offset, next << 20 | 0x0001_0000 | u32::from(id))
            .raw(0x100, (offset as u32) << 20 | old & 0x000f_ffff)
    }

    pub fn access_control(self, offset: usize, capable: u16, enabled: u16) -> Self {
        self.extended(offset, 0x0d)
            .raw(offset + 4, u32::from(enabled) << 16 | u32::from(capable))
            .fixed(offset as u16 + 4, 0xffff)
    }

    /// Forwards function numbers of 8 bits.
    pub fn forward_ari(self) -> Self {
        self.raw(EXPRESS + 0x28, 1 << 5)
    }

    pub fn ari(self, offset: usize, next: u8) -> Self {
        self.extended(offset, 0x0e)
            .raw(offset + 4, u32::from(next) << 8)
    }

    /// Virtual functions; adds what each of them shows too.
    pub fn virtual_functions(
        self,
        offset: usize,
        first: u16,
        stride: u16,
        count: u16,
        device: u16,
        on: bool,
    ) -> Self {
        let own = self.source.bits();
        let machine = self.machine;
        let builder = self
            .extended(offset, 0x10)
            .raw(offset + 8, on.into())
            .raw(offset + 0x10, count.into())
            .raw(offset + 0x14, u32::from(stride) << 16 | u32::from(first))
            .raw(offset + 0x18, u32::from(device) << 16);
        for index in 0..count.min(8) {
            let Some(at) = own.checked_add(first + index * stride) else {
                break;
            };
            let mut space = Space::new();
            space.set_word(0, u32::MAX);
            machine.functions.borrow_mut().insert(at, space);
        }
        builder
    }

    pub fn phantom_functions(self, bits: u32, enabled: bool) -> Self {
        self.raw(EXPRESS + 4, bits << 3)
            .raw(EXPRESS + 8, u32::from(enabled) << 9)
    }

    pub fn slot(self, hot_plug: bool, surprise: bool) -> Self {
        let bits = u32::from(hot_plug) << 6 | u32::from(surprise) << 5;
        self.with(|space| space.bytes[EXPRESS + 3] |= 1)
            .raw(EXPRESS + 0x14, bits)
    }

    /// ATS (queue depth 5) at the offset, PRI (of 32 requests) and PASID behind it.
    pub fn translation_services(self, offset: usize) -> Self {
        let control = offset as u16 + 4;
        self.extended(offset + 0x20, 0x1b)
            .raw(offset + 0x24, 20 << 8)
            .fixed(control + 0x20, 0xffff)
            .extended(offset + 0x10, 0x13)
            .raw(offset + 0x14, 1 << 31 | 1 << 24)
            .raw(offset + 0x18, 32)
            .fixed(control + 0x10, 0xffff_0000)
            .extended(offset, 0x0f)
            .raw(offset + 4, 5)
            .fixed(control, 0xffff)
            .with(|space| space.page_requests = Some(control + 0x10))
    }

    /// Goes on making page requests after it was told not to.
    pub fn never_stops(self) -> Self {
        self.with(|space| {
            space.never_stops = true;
            if let Some(at) = space.page_requests {
                space.set_word(at, space.word(at) & !(1 << 24));
            }
        })
    }

    /// Function-level reset by the PCI Express capability.
    pub fn function_reset(self) -> Self {
        self.raw(EXPRESS + 4, 1 << 28)
            .with(|space| space.resets_by.push((EXPRESS as u16 + 8, 1 << 15)))
    }

    /// Function-level reset by the Advanced Features capability.
    pub fn advanced_reset(self) -> Self {
        self.first_capability(0x60, 0x13, 0x0306)
            .with(|space| space.resets_by.push((0x64, 1)))
    }

    /// Power management.
    pub fn power(self, keeps_state: bool) -> Self {
        self.first_capability(0x50, 0x01, 3)
            .raw(0x54, u32::from(keeps_state) << 3)
            .with(|space| space.forgets_in_d3 = (!keeps_state).then_some(0x54))
    }

    /// Asks for patience so many times after a reset.
    pub fn patience(self, reads: u32) -> Self {
        self.with(|space| space.patience = reads)
    }

    /// Has requests under way for so many reads of its device status.
    pub fn busy(self, reads: u32) -> Self {
        self.with(|space| space.pending = Some((EXPRESS as u16 + 8, 1 << 21, reads)))
    }

    /// Is taken out.
    pub fn gone(self) -> Self {
        self.with(|space| space.gone = true)
    }

    pub fn id(self) -> DeviceId {
        DeviceId::new(Segment(0), self.source)
    }
}

fn source_of(address: PciAddress) -> u16 {
    SourceId::new(address.bus(), address.device(), address.function())
        .unwrap()
        .bits()
}

impl ConfigRegionAccess for Machine {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let mut functions = self.functions.borrow_mut();
        let Some(space) = functions.get_mut(&source_of(address)) else {
            return u32::MAX;
        };
        if space.gone {
            return u32::MAX;
        }
        if space.not_ready > 0 {
            space.not_ready -= 1;
            return if offset == 0 { 0xffff_0001 } else { u32::MAX };
        }
        let value = space.word(offset);
        if let Some((at, bit, reads)) = &mut space.pending
            && *at == offset
            && *reads > 0
        {
            *reads -= 1;
            return value | *bit;
        }
        value
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let source = source_of(address);
        let mut functions = self.functions.borrow_mut();
        let Some(space) = functions.get_mut(&source) else {
            return;
        };
        if space.gone || space.not_ready > 0 {
            return;
        }
        space.written.push((offset, value));
        let old = space.word(offset);
        let fixed = space
            .read_only
            .iter()
            .filter(|(at, _)| *at == offset)
            .fold(0, |all, (_, bits)| all | bits);
        let new = match offset {
            // The status register's bits are cleared by ones.
            0x04 => (old & 0xffff_0000 & !value) | (value & 0xffff),
            0x10..0x28 if space.bytes[0x0e] & 0x7f == 0 => {
                if value == u32::MAX && space.bytes[4] & DECODING != 0 {
                    self.sized_while_decoding.set(true);
                }
                let mask = space.masks[(usize::from(offset) - 0x10) / 4];
                (old & !mask) | (value & mask)
            }
            _ => (old & fixed) | (value & !fixed),
        };
        space.set_word(offset, new);
        if let Some(at) = space.page_requests.filter(|at| *at == offset) {
            // On: not stopped; off: stopped, if it does as it is told.
            let stopped = new & 1 == 0 && !space.never_stops;
            space.set_word(at, new & !(1 << 24 | 1 << 1) | u32::from(stopped) << 24);
        }
        if space
            .resets_by
            .iter()
            .any(|(at, bit)| *at == offset && value & bit != 0)
        {
            space.set_word(offset, old);
            space.reset();
        }
        if space.forgets_in_d3 == Some(offset) {
            let to = if value & 3 == 3 { Power::D3 } else { Power::D0 };
            if space.power == Power::D3 && to == Power::D0 {
                space.reset();
            }
            space.power = to;
        }
        let is_bridge = space.bytes[0x0e] & 0x7f == 1;
        if is_bridge && offset == 0x3c && old & 1 << 22 == 0 && value & 1 << 22 != 0 {
            let behind = space.bytes[0x19]..=space.bytes[0x1a];
            for (at, other) in functions.iter_mut() {
                let [bus, _] = at.to_be_bytes();
                if behind.contains(&bus) && *at != source {
                    other.reset();
                }
            }
        }
    }
}
