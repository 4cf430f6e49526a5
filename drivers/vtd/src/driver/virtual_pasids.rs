//! PASIDs from whoever emulates a unit (§11.4.16): a hypervisor that itself runs as a guest
//! must use those, since the units tag with them what the host's devices do.

use super::{Driver, Translating};
use crate::Event;
use crate::registers::virtual_command::{Vccap, Vcmd, Vcrsp};
use crate::unit::{Unit, wait_until};
use core::fmt;
use core::ops::RangeInclusive;
use iommu_core::{Mmio, Nanoseconds, Observer, Pasid, PasidAllocator, Platform};

/// Commands (§11.4.16.2).
const ALLOCATE: u8 = 1;
const FREE: u8 = 2;
/// Status: no PASID is left, or the one named was not allocated.
const NO_PASID: u8 = 16;

/// Why a virtual command did not give, or take, a PASID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum VirtualCommandError {
    /// No response in time.
    TimedOut {
        /// The unit, by its description's number.
        unit: u16,
        /// How long was waited.
        waited: Nanoseconds,
    },
    /// No PASID is left, or the one to be freed was never given.
    NoPasid,
    /// Another status code, or PASID 0.
    Refused(u8),
}

impl fmt::Display for VirtualCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { unit, waited } => write!(
                f,
                "unit {unit} did not answer a virtual command within {} ms",
                waited.0 / 1_000_000
            ),
            Self::NoPasid => f.write_str("the unit has no such PASID"),
            Self::Refused(code) => write!(f, "the unit refused a virtual command ({code})"),
        }
    }
}

impl core::error::Error for VirtualCommandError {}

/// The PASIDs of the unit that gives them out, as a back-end for who keeps PASIDs.
///
/// One whose freeing fails stays taken: nobody else gets it.
#[derive(Debug)]
pub struct VirtualPasids<'d, P, M, S = Translating> {
    driver: &'d Driver<P, M, S>,
    unit: &'d Unit<M>,
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Where PASIDs must come from, if a unit gives them out (ECAP.VCS): then any others mean
    /// nothing to it.
    pub fn virtual_pasids(&self) -> Option<VirtualPasids<'_, P, M, S>> {
        let gives = |unit: &&Unit<M>| {
            let commands = || unit.registers.read64::<Vccap>();
            unit.abilities.ecap.vcs() && commands().pas() && commands().fps()
        };
        let unit = self.units.iter().find(gives)?;
        Some(VirtualPasids { driver: self, unit })
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> VirtualPasids<'_, P, M, S> {
    /// Asks for a PASID.
    pub fn take(&self) -> Result<Pasid, VirtualCommandError> {
        let response = self.command(Vcmd::new().with_cmd(ALLOCATE))?;
        Pasid::new(response.pasid())
            .filter(|pasid| *pasid != Pasid::ZERO)
            .ok_or(VirtualCommandError::Refused(response.sc()))
    }

    /// Gives a PASID back.
    pub fn give_back(&self, pasid: Pasid) -> Result<(), VirtualCommandError> {
        let command = Vcmd::new().with_cmd(FREE).with_pasid(pasid.as_u32());
        self.command(command).map(drop)
    }

    fn command(&self, command: Vcmd) -> Result<Vcrsp, VirtualCommandError> {
        let platform = &self.driver.platform;
        let registers = &self.unit.registers;
        let _one_at_a_time = self.unit.commands.lock(platform);
        let timed_out = |waited| VirtualCommandError::TimedOut {
            unit: self.unit.index(),
            waited,
        };
        // One that was given up may be under way still.
        let idle = || !registers.read64::<Vcrsp>().ip();
        wait_until(platform, self.unit.limits.command, idle).map_err(timed_out)?;
        registers.write64(platform, command);
        wait_until(platform, self.unit.limits.command, idle).map_err(timed_out)?;
        let response = registers.read64::<Vcrsp>();
        match response.sc() {
            0 => Ok(response),
            NO_PASID => Err(VirtualCommandError::NoPasid),
            code => Err(VirtualCommandError::Refused(code)),
        }
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> PasidAllocator for VirtualPasids<'_, P, M, S> {
    /// The unit chooses: `None` too if what it gives is not within the range.
    fn allocate(&self, _: &dyn Platform, range: RangeInclusive<Pasid>) -> Option<Pasid> {
        let pasid = self.take().ok()?;
        if range.contains(&pasid) {
            return Some(pasid);
        }
        // If that fails it stays taken.
        let _ = self.give_back(pasid);
        None
    }

    fn free(&self, _: &dyn Platform, pasid: Pasid) {
        let _ = self.give_back(pasid);
    }
}
