//! Configuration space by the ports CF8h and CFCh (PCI 3.0, 3.2.2.3.2), as a guest uses them.

use bitfield_struct::bitfield;
use iommu_core::SourceId;

/// The address port.
pub(super) const ADDRESS: u16 = 0xcf8;
/// The first of the four data ports.
pub(super) const DATA: u16 = 0xcfc;

#[bitfield(u32)]
#[derive(PartialEq, Eq)]
struct Address {
    #[bits(2)]
    __: u8,
    #[bits(6)]
    register: u8,
    source: u16,
    #[bits(7)]
    __: u8,
    enable: bool,
}

/// What lies behind the ports: aligned 32-bit accesses to configuration space.
pub trait ConfigBus {
    /// Reads; all ones where there is no function.
    fn read(&self, function: SourceId, offset: u8) -> u32;
    /// Writes.
    fn write(&self, function: SourceId, offset: u8, value: u32);
}

/// The state of the ports.
#[derive(Default, Debug)]
pub struct ConfigPorts {
    address: u32,
}

impl ConfigPorts {
    fn selected(&self) -> Option<(SourceId, u8)> {
        let address = Address::from_bits(self.address);
        let offset = address.register() << 2;
        address
            .enable()
            .then(|| (SourceId::from_bits(address.source()), offset))
    }

    /// A read of `width` bytes (1, 2 or 4) from a port. Ports that are not ours read as all
    /// ones.
    pub fn input(&self, bus: &impl ConfigBus, port: u16, width: u8) -> u32 {
        let value = match (port, width) {
            (ADDRESS, 4) => self.address,
            (DATA..=0xcff, _) => match (self.selected(), lane(port, width)) {
                (Some((function, offset)), Some(shift)) => bus.read(function, offset) >> shift,
                _ => u32::MAX,
            },
            _ => u32::MAX,
        };
        value & mask(width)
    }

    /// A write. Ports that are not ours take it and nothing happens.
    pub fn output(&mut self, bus: &impl ConfigBus, port: u16, width: u8, value: u32) {
        match (port, width) {
            (ADDRESS, 4) => self.address = value,
            (DATA..=0xcff, _) => {
                if let (Some((function, offset)), Some(shift)) =
                    (self.selected(), lane(port, width))
                {
                    let mask = mask(width) << shift;
                    let rest = match width {
                        4 => 0,
                        _ => bus.read(function, offset) & !mask,
                    };
                    bus.write(function, offset, rest | (value << shift) & mask);
                }
            }
            _ => {}
        }
    }
}

/// How far the bytes of an access lie from the start of the register, in bits. `None` if the
/// access leaves the register.
fn lane(port: u16, width: u8) -> Option<u32> {
    let byte = port.checked_sub(DATA)?;
    (byte + u16::from(width) <= 4).then_some(u32::from(byte) * 8)
}

fn mask(width: u8) -> u32 {
    match width {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spin::Mutex;

    struct OneFunction(Mutex<[u32; 64]>);

    impl ConfigBus for OneFunction {
        fn read(&self, function: SourceId, offset: u8) -> u32 {
            if function.bits() == 0x20 {
                self.0.lock()[usize::from(offset / 4)]
            } else {
                u32::MAX
            }
        }

        fn write(&self, function: SourceId, offset: u8, value: u32) {
            if function.bits() == 0x20 {
                self.0.lock()[usize::from(offset / 4)] = value;
            }
        }
    }

    fn ports() -> (OneFunction, ConfigPorts) {
        (
            OneFunction(Mutex::new([0x4433_2211; 64])),
            ConfigPorts::default(),
        )
    }

    #[test]
    fn bytes_and_words_of_a_register_can_be_read() {
        let (bus, mut ports) = ports();
        ports.output(&bus, ADDRESS, 4, 0x8000_2008);
        assert_eq!(ports.input(&bus, DATA, 4), 0x4433_2211);
        assert_eq!(ports.input(&bus, DATA + 2, 2), 0x4433);
        assert_eq!(ports.input(&bus, DATA + 3, 1), 0x44);
        assert_eq!(
            ports.input(&bus, DATA + 3, 2),
            0xffff,
            "leaves the register"
        );
    }

    #[test]
    fn a_byte_is_written_beside_the_others() {
        let (bus, mut ports) = ports();
        ports.output(&bus, ADDRESS, 4, 0x8000_2008);
        ports.output(&bus, DATA + 1, 1, 0xffab);
        assert_eq!(bus.0.lock()[2], 0x4433_ab11);
        ports.output(&bus, DATA + 3, 4, 0);
        assert_eq!(bus.0.lock()[2], 0x4433_ab11);
    }

    #[test]
    fn nothing_is_selected_without_the_enable_bit() {
        let (bus, mut ports) = ports();
        ports.output(&bus, ADDRESS, 4, 0x2008);
        ports.output(&bus, DATA, 4, 0);
        assert_eq!(ports.input(&bus, DATA, 4), u32::MAX);
        assert_eq!(bus.0.lock()[2], 0x4433_2211);
    }

    #[test]
    fn other_ports_read_as_ones() {
        let (bus, ports) = ports();
        assert_eq!(ports.input(&bus, 0x3f8, 1), 0xff);
        assert_eq!(ports.input(&bus, ADDRESS, 1), 0xff);
    }
}
