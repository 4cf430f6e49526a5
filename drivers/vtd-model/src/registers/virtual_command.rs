//! Virtual commands (§11.4.16), which only emulations have: PASIDs that all guests of a host
//! share are given out by the host.

use super::dispatch::Write;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::tables::{bit, bits};
use crate::violation::Rule;
use std::collections::BTreeSet;

/// Status codes of table 55.
const UNDEFINED: u64 = 1;
const NONE_OR_INVALID: u64 = 16;

/// The registers' content.
#[derive(Default, Debug)]
pub(crate) struct VirtualCommands {
    command: u64,
    operand: u64,
    /// VCRSP.
    response: u64,
    /// PASIDs that were given out.
    pub(crate) allocated: BTreeSet<u32>,
}

impl VirtualCommands {
    fn in_progress(&self) -> bool {
        bit(self.response, 0)
    }
}

/// VCMD and its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Command,
    Operand,
    Response,
    Capability,
}

impl Unit {
    /// Looking at VCRSP lets time pass.
    pub(crate) fn read_virtual(&mut self, world: &mut World, place: Place) -> u64 {
        let looks = place == Place::Response && self.registers.virtual_commands.in_progress();
        if looks && (world.pessimist || world.random.bool()) {
            self.complete_virtual_command(world);
        }
        let held = &self.registers.virtual_commands;
        match place {
            Place::Command => held.command,
            Place::Operand => held.operand,
            Place::Response => held.response,
            Place::Capability if self.config.pasid_bits.is_some() => 0x7,
            Place::Capability => 0x1,
        }
    }

    pub(crate) fn write_virtual(&mut self, world: &mut World, place: Place, write: Write) {
        if self.registers.virtual_commands.in_progress() {
            let message = format!("virtual {place:?} written while VCRSP.IP is set: dropped");
            world.violate(Rule::OneCommand, "§11.4.16", message);
            return;
        }
        let held = &mut self.registers.virtual_commands;
        match place {
            Place::Command => {
                held.command = write.over(held.command);
                if write.mask & 0xff != 0 {
                    held.response = 1;
                }
                self.reserved(world, "VCMD", "§11.4.16.1", write.value, 0xff00);
            }
            Place::Operand => held.operand = write.over(held.operand),
            Place::Response | Place::Capability => {
                let message = format!("write of virtual {place:?}, which is read-only");
                world.violate(Rule::Reserved, "§11.3", message);
            }
        }
    }

    pub(crate) fn complete_virtual_command(&mut self, world: &mut World) {
        if !self.registers.virtual_commands.in_progress() {
            return;
        }
        let limit = self.config.pasid_limit();
        let held = &mut self.registers.virtual_commands;
        let result = match held.command as u8 {
            0 => Ok(0),
            1 if limit > 0 => {
                // Any free one: a driver that counts on the order is wrong.
                let from = world.random.u32(..limit);
                let free = (0..limit)
                    .map(|step| (from + step) % limit)
                    .find(|pasid| *pasid != 0 && !held.allocated.contains(pasid));
                free.inspect(|pasid| {
                    held.allocated.insert(*pasid);
                })
                .ok_or(NONE_OR_INVALID)
            }
            2 if limit > 0 => {
                let pasid = bits(held.command, 35, 16) as u32;
                let freed = held.allocated.remove(&pasid);
                freed.then_some(0).ok_or(NONE_OR_INVALID)
            }
            _ => Err(UNDEFINED),
        };
        held.response = match result {
            Ok(pasid) => u64::from(pasid) << 16,
            Err(status) => status << 1,
        };
        // Entries for a PASID that was just given back are looked at again.
        self.disturbed = true;
    }
}
