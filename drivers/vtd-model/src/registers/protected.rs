//! Protected memory regions (§11.4.8).

use super::dispatch::Write;
use super::map::Register;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::violation::Rule;

const EPM: u32 = 1 << 31;
/// Granularity of both regions in this implementation: 2 MiB.
const GRAIN: u64 = 0x1f_ffff;

/// The registers' content.
#[derive(Default, Debug)]
pub(crate) struct Protection {
    /// PRS.
    pub(crate) active: bool,
    /// The EPM value that hardware works on.
    pub(crate) changing: Option<bool>,
    pub(crate) low_base: u32,
    pub(crate) low_limit: u32,
    pub(crate) high_base: u64,
    pub(crate) high_limit: u64,
}

impl Protection {
    /// Whether DMA to this host address is blocked; nothing is logged then.
    pub(crate) fn blocks(&self, address: u64) -> bool {
        let inside =
            |base: u64, limit: u64| base <= limit && (base..=limit | GRAIN).contains(&address);
        let low = self.low_limit != 0 && inside(self.low_base.into(), self.low_limit.into());
        let high = self.high_limit != 0 && inside(self.high_base, self.high_limit);
        self.active && (low || high)
    }
}

impl Unit {
    /// PMEN. Looking lets time pass.
    pub(crate) fn read_protected_enable(&mut self) -> u32 {
        self.complete_protection();
        let protection = &self.registers.protection;
        u32::from(protection.active) | if protection.active { EPM } else { 0 }
    }

    pub(crate) fn complete_protection(&mut self) {
        if let Some(on) = self.registers.protection.changing.take() {
            self.registers.protection.active = on;
        }
    }

    pub(crate) fn write_protected_enable(&mut self, world: &mut World, value: u32) {
        if self.busy(world, "PMEN") {
            return;
        }
        self.reserved(world, "PMEN", "§11.4.8.1", u64::from(value), 0x7fff_fffe);
        self.registers.protection.changing = Some(value & EPM != 0);
    }

    pub(crate) fn write_protected_range(
        &mut self,
        world: &mut World,
        register: Register,
        write: Write,
    ) {
        if self.registers.protection.active {
            world.violate(
                Rule::Busy,
                "§11.4.8",
                format!("{register:?} written while the regions are enabled"),
            );
            return;
        }
        let high = !self.config.above_host() & !GRAIN;
        let protection = &mut self.registers.protection;
        match register {
            Register::Plmbase => protection.low_base = (write.value & !GRAIN) as u32,
            Register::Plmlimit => protection.low_limit = (write.value & !GRAIN) as u32,
            Register::Phmbase => protection.high_base = write.over(protection.high_base) & high,
            _ => protection.high_limit = write.over(protection.high_limit) & high,
        }
    }
}
