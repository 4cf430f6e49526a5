//! Commands to a unit: one control bit at a time, each waited for (§11.4.4).

use crate::Event;
use crate::registers::{Gcmd, Gsts, Pmen, Registers};
use core::fmt;
use iommu_core::{Mmio, Nanoseconds, Observer, Platform};

/// How long the driver waits for hardware.
///
/// The specification names no limits. The defaults are far above what hardware needs; a
/// wait that exceeds one is an error with a name, never a hang.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimeLimits {
    /// A bit of GSTS that follows a command. Turning translation on or off drains requests
    /// in flight first.
    pub command: Nanoseconds,
    /// A batch of invalidations, or room in the queue for it.
    pub flush: Nanoseconds,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            command: Nanoseconds::from_millis(1_000),
            flush: Nanoseconds::from_millis(2_000),
        }
    }
}

/// What a unit was told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Command {
    /// TE = 1.
    EnableTranslation,
    /// TE = 0.
    DisableTranslation,
    /// SRTP.
    SetRootTable,
    /// WBF.
    FlushWriteBuffer,
    /// QIE = 1.
    EnableQueue,
    /// QIE = 0.
    DisableQueue,
    /// IRE = 1.
    EnableInterruptRemapping,
    /// IRE = 0.
    DisableInterruptRemapping,
    /// SIRTP.
    SetInterruptTable,
    /// CFI = 0.
    BlockCompatibilityFormat,
    /// PMEN.EPM = 0.
    DisableProtectedMemory,
    /// A batch of invalidations.
    Invalidate,
}

/// A unit did not do in time what it was told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimedOut {
    /// The unit.
    pub unit: u16,
    /// What it was told.
    pub command: Command,
    /// How long was waited.
    pub waited: Nanoseconds,
}

impl core::error::Error for TimedOut {}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unit {} did not finish {:?} within {} ms",
            self.unit,
            self.command,
            self.waited.0 / 1_000_000
        )
    }
}

/// Waits until `done`, at most `limit`.
pub(crate) fn wait_until<P: Platform>(
    platform: &P,
    limit: Nanoseconds,
    mut done: impl FnMut() -> bool,
) -> Result<(), Nanoseconds> {
    let begun = platform.now();
    loop {
        if done() {
            return Ok(());
        }
        let waited = platform.now().since(begun);
        if waited > limit {
            // Whoever took the CPU meanwhile took time from the wait, not from hardware.
            return if done() { Ok(()) } else { Err(waited) };
        }
        platform.relax();
    }
}

impl<M: Mmio> Registers<M> {
    /// Gives one command and waits for the status that it leads to.
    pub(crate) fn command<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        limits: &TimeLimits,
        command: Command,
    ) -> Result<(), TimedOut> {
        let keep = self.read32::<Gsts>().as_command();
        let (write, done): (Gcmd, fn(Gsts) -> bool) = match command {
            Command::EnableTranslation => (keep.with_te(true), |s| s.tes()),
            Command::DisableTranslation => (keep.with_te(false), |s| !s.tes()),
            Command::SetRootTable => (keep.with_srtp(true), |s| s.rtps()),
            Command::FlushWriteBuffer => (keep.with_wbf(true), |s| !s.wbfs()),
            Command::EnableQueue => (keep.with_qie(true), |s| s.qies()),
            Command::DisableQueue => (keep.with_qie(false), |s| !s.qies()),
            Command::EnableInterruptRemapping => (keep.with_ire(true), |s| s.ires()),
            Command::DisableInterruptRemapping => (keep.with_ire(false), |s| !s.ires()),
            Command::SetInterruptTable => (keep.with_sirtp(true), |s| s.irtps()),
            Command::BlockCompatibilityFormat => (keep.with_cfi(false), |s| !s.cfis()),
            Command::DisableProtectedMemory => {
                return self.disable_protected_memory(platform, limits);
            }
            Command::Invalidate => return Ok(()),
        };
        self.write32(platform, write);
        wait_until(platform, limits.command, || done(self.read32::<Gsts>()))
            .map_err(|waited| self.timed_out(command, waited))
    }

    fn disable_protected_memory<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        limits: &TimeLimits,
    ) -> Result<(), TimedOut> {
        let pmen = self.read32::<Pmen>();
        self.write32(platform, pmen.with_epm(false));
        wait_until(platform, limits.command, || !self.read32::<Pmen>().prs())
            .map_err(|waited| self.timed_out(Command::DisableProtectedMemory, waited))
    }

    pub(crate) fn timed_out(&self, command: Command, waited: Nanoseconds) -> TimedOut {
        TimedOut {
            unit: self.unit(),
            command,
            waited,
        }
    }
}
