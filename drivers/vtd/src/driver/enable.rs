//! Putting our tables in force, on all units.

use super::{Driver, Preparing, Translating};
use crate::Event;
use crate::bring_up::BringUpError;
use crate::registers::{Gsts, Pmen};
use crate::unit::{Command, SwitchError, Unit};
use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::sync::atomic::Ordering;
use iommu_core::{Mmio, Observer, Platform};

/// Why our tables did not come into force on a unit.
pub type EnableError = BringUpError;

/// What is left when a unit could not be enabled: the driver, in whose other units the
/// tables may be in force already. It can be tried again.
pub struct EnableFailure<P, M> {
    /// The driver, which still prepares.
    pub driver: Driver<P, M, Preparing>,
    /// The unit that failed.
    pub unit: u16,
    /// Why.
    pub error: EnableError,
}

impl<P, M> fmt::Debug for EnableFailure<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnableFailure")
            .field("unit", &self.unit)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<P, M> fmt::Display for EnableFailure<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<P, M> Error for EnableFailure<P, M> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<P: Platform + Observer<Event>, M: Mmio> Driver<P, M, Preparing> {
    /// Puts our tables in force on every unit: root table, invalidation of everything,
    /// translation on, protected memory off (§6.6). Devices that are not attached are
    /// blocked from here on.
    ///
    /// A unit on which firmware left translation on keeps translating: its root table is
    /// exchanged live, unless [`Ready::needs_translation_window`] says otherwise.
    ///
    /// [`Ready::needs_translation_window`]: crate::Ready::needs_translation_window
    pub fn enable(self) -> Result<Driver<P, M, Translating>, Box<EnableFailure<P, M>>> {
        for (position, unit) in self.units.iter().enumerate() {
            if let Err(error) = unit.enable(&self.platform) {
                let unit = unit.index();
                return Err(Box::new(EnableFailure {
                    driver: self,
                    unit,
                    error,
                }));
            }
            if let Some(ids) = self.domains.lock(&self.platform).ids.get_mut(position) {
                ids.old_tables_are_gone();
            }
        }
        Ok(self.into_state())
    }
}

impl<M: Mmio> Unit<M> {
    fn enable<P: Platform + Observer<Event>>(&self, platform: &P) -> Result<(), EnableError> {
        if self.is_translating() {
            return Ok(());
        }
        if self.needs_translation_window() {
            self.may_stop_translating()?;
            platform.observe(&Event::TranslationWindow { unit: self.index() });
            self.command(platform, Command::DisableTranslation)?;
        }
        self.set_root_table(platform).map_err(|error| match error {
            SwitchError::TimedOut(error) => BringUpError::TimedOut(error),
            SwitchError::Queue(error) => BringUpError::of_queue(&self.registers, error),
        })?;
        if !self.registers.read32::<Gsts>().tes() {
            self.command(platform, Command::EnableTranslation)?;
        }
        self.translating.store(true, Ordering::Release);
        platform.observe(&Event::TranslationOn { unit: self.index() });
        self.stop_protecting_memory(platform)
    }

    /// Only now, because our tables protect from here on.
    fn stop_protecting_memory<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
    ) -> Result<(), EnableError> {
        let has_regions = self.abilities.protected_regions();
        if has_regions && self.registers.read32::<Pmen>().prs() {
            self.command(platform, Command::DisableProtectedMemory)?;
            platform.observe(&Event::ProtectedMemoryOff { unit: self.index() });
        }
        Ok(())
    }
}
