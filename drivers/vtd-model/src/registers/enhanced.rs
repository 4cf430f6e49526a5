//! Enhanced commands (§11.4.14): submitted by ECMD, answered some time later in ECRSP.

use super::dispatch::Write;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::tables::{bit, bits};
use crate::violation::Rule;

/// Status code of a command that the unit does not know.
pub(crate) const UNDEFINED: u8 = 1;
/// Status code of a command that met another in flight.
const ABORTED: u8 = 2;

/// The registers' content.
#[derive(Default, Debug)]
pub(crate) struct Enhanced {
    /// Operand A, and the command.
    command: u64,
    /// ECRSP.
    response: u64,
    /// The status code that a command in progress will have, if it is not carried out.
    aborted: bool,
}

impl Enhanced {
    /// ECRSP.IP.
    pub(crate) fn in_progress(&self) -> bool {
        bit(self.response, 0)
    }
}

impl Unit {
    /// ECRSP. Looking lets time pass.
    pub(crate) fn read_enhanced_response(&mut self, world: &mut World) -> u64 {
        if self.registers.enhanced.in_progress() && (world.pessimist || world.random.bool()) {
            self.complete_enhanced_command(world);
        }
        self.registers.enhanced.response
    }

    pub(crate) fn write_enhanced_command(&mut self, world: &mut World, write: Write) {
        self.reserved(world, "ECMD", "§11.4.14.1", write.value, 0xff00);
        if self.registers.enhanced.in_progress() {
            let message = "ECMD written while ECRSP.IP is set: dropped";
            world.violate(Rule::OneCommand, "§11.4.14.1", message);
            return;
        }
        let aborted = self.global_command_in_flight();
        let triggers = write.mask & 0xff != 0;
        if triggers {
            self.busy(world, "ECMD");
        }
        let enhanced = &mut self.registers.enhanced;
        enhanced.command = write.over(enhanced.command);
        if triggers {
            enhanced.response = 1;
            enhanced.aborted = aborted;
        }
    }

    pub(crate) fn write_enhanced_operand(&mut self, world: &mut World) {
        if self.registers.enhanced.in_progress() {
            let message = "ECEO written while ECRSP.IP is set: dropped";
            world.violate(Rule::OneCommand, "§11.4.14.2", message);
        }
    }

    pub(crate) fn complete_enhanced_command(&mut self, _world: &mut World) {
        if !self.registers.enhanced.in_progress() {
            return;
        }
        let submitted = self.registers.enhanced.command;
        let (command, operand) = (submitted as u8, bits(submitted, 63, 16));
        let status = match &self.config.perfmon {
            _ if self.registers.enhanced.aborted => ABORTED,
            Some(perfmon) => self.registers.counters.command(command, operand, perfmon),
            None => UNDEFINED,
        };
        self.registers.enhanced.response = u64::from(status) << 1;
    }

    /// ECCAP 0 to 3.
    pub(crate) fn enhanced_capability(&self, index: usize) -> u64 {
        if index == 3 && self.config.perfmon.is_some() {
            0x3f << 48
        } else {
            0
        }
    }
}
