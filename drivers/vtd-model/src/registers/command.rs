//! GCMD, GSTS, RTADDR, IRTA (§11.4.4, §11.4.5, §11.4.10): one command at a time, each
//! answered some time later.

use super::dispatch::Write;
use crate::machine::drain::{Drain, Drained};
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::violation::Rule;

pub(crate) const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const WBF: u32 = 1 << 27;
pub(crate) const QIE: u32 = 1 << 26;
pub(crate) const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;
pub(crate) const CFI: u32 = 1 << 23;
const RESERVED: u32 = 0x307f_ffff;
/// Commands whose bit stands for a state.
const STATES: u32 = TE | QIE | IRE | CFI;
const ONE_SHOTS: u32 = SRTP | WBF | SIRTP;

/// A command that hardware works on: the bit, and its new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Global {
    bit: u32,
    on: bool,
}

impl Unit {
    /// GSTS. Looking lets time pass: a command may complete.
    pub(crate) fn read_status(&mut self, world: &mut World) -> u32 {
        self.maybe_complete_command(world);
        self.status()
    }

    pub(crate) fn status(&self) -> u32 {
        let flushing = self
            .registers
            .command
            .is_some_and(|command| command.bit == WBF);
        self.registers.status | if flushing { WBF } else { 0 }
    }

    pub(crate) fn is_set(&self, bit: u32) -> bool {
        self.registers.status & bit != 0
    }

    /// CFIS.
    pub(crate) fn compatibility_format(&self) -> bool {
        self.is_set(CFI)
    }

    /// A command that any register submitted and that was not answered (§6.9).
    fn command_in_flight(&self) -> Option<&'static str> {
        if self.registers.command.is_some() {
            Some("GCMD")
        } else if self.registers.ccmd >> 63 == 1 {
            Some("CCMD")
        } else if self.registers.iotlb >> 63 == 1 {
            Some("IOTLB")
        } else if self.registers.protection.changing.is_some() {
            Some("PMEN")
        } else if self.registers.enhanced.in_progress() {
            Some("ECMD")
        } else {
            None
        }
    }

    /// GCMD or PMEN is being worked on: an enhanced command aborts (§11.4.14.3).
    pub(crate) fn global_command_in_flight(&self) -> bool {
        matches!(self.command_in_flight(), Some("GCMD" | "PMEN"))
    }

    /// Records a command that comes while another is in flight; says whether one was.
    pub(crate) fn busy(&self, world: &mut World, register: &str) -> bool {
        let Some(other) = self.command_in_flight() else {
            return false;
        };
        let message = format!("{register} written while a command of {other} is not answered");
        world.violate(Rule::OneCommand, "§6.9", message);
        true
    }

    pub(crate) fn write_command(&mut self, world: &mut World, value: u32) {
        if self.busy(world, "GCMD") {
            return;
        }
        self.reserved(
            world,
            "GCMD",
            "§11.4.4.1",
            u64::from(value),
            u64::from(RESERVED),
        );
        let changed = (value ^ self.registers.status) & STATES | value & ONE_SHOTS;
        if changed.count_ones() > 1 {
            let message = format!(
                "GCMD {value:#010x} changes {} fields at once (GSTS {:#010x})",
                changed.count_ones(),
                self.registers.status
            );
            world.violate(Rule::OneCommand, "§11.4.4.1", message);
        }
        if changed == 0 {
            return;
        }
        // Of several, the lowest is carried out: software may not rely on any.
        let bit = changed & changed.wrapping_neg();
        if let Some(message) = self.unsupported(bit) {
            world.violate(Rule::Reserved, "§11.4.4.1", message);
            return;
        }
        let command = Global {
            bit,
            on: value & bit != 0,
        };
        self.check_command(world, command);
        if bit == SRTP || bit == SIRTP {
            self.registers.status &= !bit;
        }
        self.registers.command = Some(command);
    }

    fn unsupported(&self, bit: u32) -> Option<&'static str> {
        match bit {
            QIE if !self.config.queued_invalidation => {
                Some("GCMD.QIE on a unit without queued invalidation")
            }
            IRE | SIRTP | CFI if !self.config.interrupt_remapping => {
                Some("GCMD: interrupt remapping on a unit without it")
            }
            _ => None,
        }
    }

    fn check_command(&mut self, world: &mut World, command: Global) {
        match (command.bit, command.on) {
            (TE, true) if !self.registers.root_set => {
                world.violate(
                    Rule::Order,
                    "§6.6",
                    "TE set without a Set Root Table Pointer since translation was off",
                );
            }
            (IRE, true) if !self.registers.interrupt_table_set => {
                world.violate(
                    Rule::Order,
                    "§6.7",
                    "IRE set without a Set Interrupt Remap Table Pointer since remapping was off",
                );
            }
            (SRTP, _) => self.check_root_pointer(world),
            (SIRTP, _) => {
                let changes = (self.registers.irta ^ self.interrupt_table) & 1 << 11 != 0;
                if changes && self.is_set(IRE) {
                    world.violate(
                        Rule::Value,
                        "§11.4.10",
                        "EIME changed while interrupt remapping is on",
                    );
                }
            }
            (QIE, true) => self.check_queue_start(world),
            (QIE, false) => self.check_queue_stop(world),
            _ => {}
        }
    }

    fn check_root_pointer(&mut self, world: &mut World) {
        let changes = (self.registers.rtaddr ^ self.latched.root) & 0xc80 != 0;
        if changes && self.latched.enabled && !self.config.srtp_invalidates {
            world.violate(
                Rule::Value,
                "§11.4.5",
                "TTM or SSIRWE changed while translation is on, without ESRTPS",
            );
        }
    }

    /// A command completes when hardware likes, but a driver that polls must not wait for
    /// ever.
    pub(crate) fn maybe_complete_command(&mut self, world: &mut World) {
        if self.registers.command.is_some() && (world.pessimist || world.random.bool()) {
            self.complete_command(world);
        }
    }

    pub(crate) fn complete_command(&mut self, world: &mut World) {
        let Some(command) = self.registers.command.take() else {
            return;
        };
        match command.bit {
            TE => self.enable_translation(world, command.on),
            SRTP => self.set_root_pointer(world),
            WBF => world.image.drain(&*world.memory),
            QIE => self.enable_queue(command.on),
            IRE if self.config.sirtp_invalidates && !command.on => {
                self.caches.drop_interrupts(None)
            }
            SIRTP => {
                self.interrupt_table = self.registers.irta;
                self.registers.interrupt_table_set = true;
                if self.config.sirtp_invalidates {
                    self.caches.drop_interrupts(None);
                }
            }
            _ => {}
        }
        if command.bit != WBF {
            let on = command.on || command.bit == SRTP || command.bit == SIRTP;
            self.registers.status =
                self.registers.status & !command.bit | if on { command.bit } else { 0 };
        }
        if command.bit == IRE && !command.on {
            self.registers.interrupt_table_set = false;
        }
        if self.registers.status & (TE | IRE) == 0 {
            self.faults.restart();
        }
        self.disturbed = true;
    }

    fn enable_translation(&mut self, world: &World, on: bool) {
        self.latched.enabled = on;
        // Enabling drains; and without translation nothing is contained any more.
        self.underway.clear();
        if on {
            self.drain_posted(&Drained::default(), Drain::ALL);
            self.land_drained();
        }
        if !on {
            self.registers.root_set = false;
            if self.config.scalable_mode {
                self.caches.drop_all_dma();
                self.invalidated(world, Drained::default(), Drain::NONE);
                self.underway.clear();
            }
        }
    }

    fn set_root_pointer(&mut self, world: &World) {
        self.latched.root = self.registers.rtaddr;
        self.registers.root_set = true;
        if self.config.srtp_invalidates {
            self.caches.drop_all_dma();
            self.invalidated(world, Drained::default(), Drain::NONE);
        }
    }

    pub(crate) fn write_rtaddr(&mut self, world: &mut World, write: Write) {
        let value = write.over(self.registers.rtaddr);
        let io_rights = if self.config.second_stage_io_rights {
            0
        } else {
            0x80
        };
        self.reserved(world, "RTADDR", "§11.4.5", value, 0x37f | io_rights);
        if self
            .registers
            .command
            .is_some_and(|command| command.bit == SRTP)
        {
            world.violate(
                Rule::Busy,
                "§6.9",
                "RTADDR written while a Set Root Table Pointer is not answered",
            );
        }
        if value >> 10 & 3 == 2 {
            world.violate(Rule::Value, "§11.4.5", "RTADDR.TTM 10 is reserved");
        }
        self.registers.rtaddr = value & !self.config.above_host();
    }

    pub(crate) fn write_irta(&mut self, world: &mut World, write: Write) {
        let value = write.over(self.registers.irta);
        let extended = if self.config.x2apic { 0 } else { 0x800 };
        self.reserved(world, "IRTA", "§11.4.10", value, 0x7f0 | extended);
        if self
            .registers
            .command
            .is_some_and(|command| command.bit == SIRTP)
        {
            world.violate(
                Rule::Busy,
                "§6.9",
                "IRTA written while a Set Interrupt Remap Table Pointer is not answered",
            );
        }
        self.registers.irta = value;
    }
}
