//! What of a function's configuration outlives a reset: where its registers lie, and how its
//! link is set. Message-signalled interrupts and translation services stay off; who uses them
//! sets them up again.

use crate::spec::{ExpressHeader, express};
use crate::{Config, Function};
use arrayvec::ArrayVec;
use pci_types::{CommandRegister, ConfigRegionAccess};

/// Registers of the header, but for the command register, which comes last: behind cache line
/// and latency, whose upper half would start a self test.
const HEADER: [u16; 12] = [
    0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c,
];
const EXPRESS: [u16; 3] = [
    express::DEVICE_CONTROL,
    express::LINK_CONTROL,
    express::DEVICE_CONTROL_2,
];
const EXPRESS_1: [u16; 1] = [express::DEVICE_CONTROL];
const CACHE_LINE: u16 = 0x0c;
const BRIDGE_SECONDARY_STATUS: u16 = 0x1c;

/// A function's configuration before a reset.
pub(super) struct Saved {
    command: CommandRegister,
    cache_line: u16,
    header: [u32; HEADER.len()],
    /// Registers of 16 bits in capabilities.
    controls: ArrayVec<(u16, u16), 5>,
}

impl Saved {
    pub(super) fn take<A: ConfigRegionAccess>(access: &A, function: &Function) -> Self {
        let config = Config::new(access, function.id);
        let mut controls = ArrayVec::new();
        let capabilities = &function.capabilities;
        let express = capabilities.express.map(|(at, _)| at).into_iter();
        let express = express.flat_map(|at| {
            let version = ExpressHeader::from_bits(config.read32(at)).version();
            // The first version ends where a function needs no more of it.
            let kept: &[u16] = if version >= 2 { &EXPRESS } else { &EXPRESS_1 };
            kept.iter().map(move |offset| at.saturating_add(*offset))
        });
        let access_control = capabilities.acs.map(|at| at.saturating_add(6));
        for at in express.chain(access_control) {
            // Four at most.
            let _ = controls.try_push((at, config.read16(at)));
        }
        Self {
            command: config.command(),
            cache_line: config.read16(CACHE_LINE),
            header: HEADER.map(|at| config.read32(at)),
            controls,
        }
    }

    /// Puts it back, with bus mastering and interrupts of endpoints off.
    pub(super) fn put_back<A: ConfigRegionAccess>(&self, access: &A, function: &Function) {
        let config = Config::new(access, function.id);
        let is_bridge = function.bridge.is_some();
        for &(at, value) in &self.controls {
            config.write16_beside_zeroes(at, value);
        }
        for (at, value) in HEADER.into_iter().zip(self.header) {
            // The upper half of a bridge's is a status, whose bits are cleared by ones.
            let value = if is_bridge && at == BRIDGE_SECONDARY_STATUS {
                value & 0xffff
            } else {
                value
            };
            config.write32(at, value);
        }
        config.write32(CACHE_LINE, self.cache_line.into());
        let command = if is_bridge {
            self.command
        } else {
            self.command
                .difference(CommandRegister::BUS_MASTER_ENABLE)
                .union(CommandRegister::INTERRUPT_DISABLE)
        };
        config.set_command(command);
    }
}
