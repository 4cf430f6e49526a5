//! How a function comes back to the state of power-on: the methods in their order, the waits
//! that each demands, and what of its configuration is put back afterwards.
//!
//! | method | where | waits |
//! |---|---|---|
//! | function-level reset (PCI Express) | device capabilities say so | requests under way; 100 ms |
//! | function-level reset (Advanced Features) | the capability says so | requests under way; 100 ms |
//! | D3hot and back to D0 | a power capability whose state does not survive (`No_Soft_Reset` clear) | 10 ms each way |
//! | reset of the bus | a bridge above, behind which nobody else is at work | 2 ms held; 100 ms |
//!
//! All end with the wait for the function to answer again (it may ask for patience, PCIe 6.0,
//! 2.3.1), which has a limit. Bus mastering and interrupts of endpoints are off afterwards.

mod method;
mod saved;
mod wait;

pub use method::{Method, NoBusReset, NoMethod};
pub(crate) use wait::wait_until;

use crate::spec::{AdvancedFeaturesControl, BridgeControl, DeviceControl, PowerControl, express};
use crate::{Config, Function, Topology};
use alloc::vec::Vec;
use core::fmt;
use iommu_core::{Clock, DeviceId, Nanoseconds};
use pci_types::{CommandRegister, ConfigRegionAccess};
use saved::Saved;
use wait::pause;

/// How long is waited at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResetLimits {
    /// For requests that are under way.
    pub pending: Nanoseconds,
    /// For the function to answer again.
    pub ready: Nanoseconds,
}

impl Default for ResetLimits {
    /// One second (PCIe 6.0, 6.6.2), and five: a device that loads its own program takes a
    /// while.
    fn default() -> Self {
        Self {
            pending: Nanoseconds::from_millis(1_000),
            ready: Nanoseconds::from_millis(5_000),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// How.
    pub method: Method,
    /// Requests were still under way when the wait for them ended: it was reset all the
    /// same, and what comes of them is refused by its unit.
    pub was_busy: bool,
}

/// Why a function was not reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetFailure {
    /// There is no way; why each is none.
    NoMethod(NoMethod),
    /// It does not answer: it was taken out, or is off.
    Gone,
    /// It did not answer again in time.
    NotReady(Method),
    /// No memory to keep its configuration in.
    OutOfMemory,
}

impl fmt::Display for ResetFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMethod(why) => write!(f, "it cannot be reset: {why}"),
            Self::Gone => f.write_str("it does not answer; was it taken out?"),
            Self::NotReady(method) => {
                write!(f, "it did not answer in time after a {}", method.name())
            }
            Self::OutOfMemory => f.write_str("no memory to keep its configuration in"),
        }
    }
}

impl core::error::Error for ResetFailure {}

const FUNCTION_LEVEL: Nanoseconds = Nanoseconds::from_millis(100);
const POWER_STATE: Nanoseconds = Nanoseconds::from_millis(10);
const BUS_HELD: Nanoseconds = Nanoseconds::from_millis(2);
const BUS_RECOVERY: Nanoseconds = Nanoseconds::from_millis(100);
const BRIDGE_CONTROL: u16 = 0x3c;
const D3_HOT: u8 = 3;

/// Resets functions of a machine.
pub struct Resetter<'a, A, C> {
    /// Its functions.
    pub topology: &'a Topology,
    /// Their configuration space.
    pub access: &'a A,
    /// Time.
    pub clock: &'a C,
    /// How long is waited.
    pub limits: ResetLimits,
}

impl<'a, A: ConfigRegionAccess, C: Clock> Resetter<'a, A, C> {
    /// How a function would be reset, if nobody whom `is_in_use` names may be disturbed.
    pub fn method(
        &self,
        device: DeviceId,
        is_in_use: &dyn Fn(DeviceId) -> bool,
    ) -> Result<Method, NoMethod> {
        method::choose(self.topology, self.access, device, is_in_use)
    }

    /// Resets a function, which is blocked. A reset of its bus resets all behind its bridge,
    /// so that is no way while one of them is in use.
    pub fn reset(
        &self,
        device: DeviceId,
        is_in_use: &dyn Fn(DeviceId) -> bool,
    ) -> Result<Done, ResetFailure> {
        let Some(function) = self.topology.function(device) else {
            return Err(ResetFailure::Gone);
        };
        if !answers(self.access, function) {
            return Err(ResetFailure::Gone);
        }
        let method = self
            .method(device, is_in_use)
            .map_err(ResetFailure::NoMethod)?;
        let mut saved = Vec::new();
        let affected = |other: &&Function| match method {
            Method::Bus(bridge) => is_behind(self.topology, other.id, bridge),
            _ => other.id == device,
        };
        for other in self.topology.functions().iter().filter(affected) {
            saved
                .try_reserve(1)
                .map_err(|_| ResetFailure::OutOfMemory)?;
            saved.push((other, Saved::take(self.access, other)));
        }
        let was_busy = self.quieten(&saved);
        self.perform(function, method);
        let mut ready = true;
        // Bridges come before what is behind them.
        for (other, saved) in &saved {
            if other.physical.is_some() && other.id != device {
                // It is gone with its physical function's state.
                continue;
            }
            let is_ready = wait_until(self.clock, self.limits.ready, || {
                answers(self.access, other)
            });
            if is_ready {
                saved.put_back(self.access, other);
            }
            ready &= is_ready || other.id != device;
        }
        if ready {
            Ok(Done { method, was_busy })
        } else {
            Err(ResetFailure::NotReady(method))
        }
    }

    /// No new requests, and those under way awaited. Says whether some did not end.
    fn quieten(&self, functions: &[(&Function, Saved)]) -> bool {
        let mut was_busy = false;
        for (function, _) in functions {
            let config = Config::new(self.access, function.id);
            if function.bridge.is_none() {
                let off = CommandRegister::BUS_MASTER_ENABLE;
                config.set_command(config.command().difference(off));
            }
            let idle = || !is_busy(&config, function);
            was_busy |= !wait_until(self.clock, self.limits.pending, idle);
        }
        was_busy
    }

    fn perform(&self, function: &Function, method: Method) {
        let config = Config::new(self.access, function.id);
        let capabilities = &function.capabilities;
        match method {
            Method::Function => {
                if let Some((at, _)) = capabilities.express {
                    let at = at.saturating_add(express::DEVICE_CONTROL);
                    let control = DeviceControl::from_bits(config.read16(at).into());
                    let reset = control.with_initiate_reset(true).into_bits();
                    config.write16_beside_zeroes(at, reset as u16);
                }
                pause(self.clock, FUNCTION_LEVEL);
            }
            Method::AdvancedFeatures => {
                if let Some(at) = capabilities.advanced_features {
                    let reset = AdvancedFeaturesControl::new().with_initiate_reset(true);
                    config.write32(at.saturating_add(4), reset.into_bits());
                }
                pause(self.clock, FUNCTION_LEVEL);
            }
            Method::Power => {
                if let Some(at) = capabilities.power {
                    let at = at.saturating_add(4);
                    for state in [D3_HOT, 0] {
                        let control = PowerControl::from_bits(config.read16(at).into());
                        let to = control.with_state(state).into_bits();
                        config.write16_beside_zeroes(at, to as u16);
                        pause(self.clock, POWER_STATE);
                    }
                }
            }
            Method::Bus(bridge) => self.reset_bus(bridge),
        }
    }

    fn reset_bus(&self, bridge: DeviceId) {
        let config = Config::new(self.access, bridge);
        for (reset, then) in [(true, BUS_HELD), (false, BUS_RECOVERY)] {
            let control = BridgeControl::from_bits(config.read32(BRIDGE_CONTROL));
            config.write32(BRIDGE_CONTROL, control.with_reset(reset).into_bits());
            pause(self.clock, then);
        }
    }
}

/// Whether a function lies behind a bridge, at whatever depth.
pub(crate) fn is_behind(topology: &Topology, id: DeviceId, bridge: DeviceId) -> bool {
    topology.ancestors(id).any(|above| above.id == bridge)
}

/// Whether a function answers, and does not ask for patience. A virtual function shows no
/// vendor; whether it is there, its command register says.
fn answers<A: ConfigRegionAccess>(access: &A, function: &Function) -> bool {
    /// What a root complex answers for a function that asks for patience.
    const PATIENCE: u16 = 0x0001;
    let config = Config::new(access, function.id);
    if function.physical.is_some() {
        return config.read32(4) != u32::MAX;
    }
    !matches!(config.read16(0), PATIENCE | 0xffff)
}

fn is_busy<A: ConfigRegionAccess>(config: &Config<'_, A>, function: &Function) -> bool {
    let capabilities = &function.capabilities;
    if let Some((at, _)) = capabilities.express {
        let at = at.saturating_add(express::DEVICE_CONTROL);
        return DeviceControl::from_bits(config.read32(at)).transactions_pending();
    }
    capabilities.advanced_features.is_some_and(|at| {
        let word = config.read32(at.saturating_add(4));
        AdvancedFeaturesControl::from_bits(word).transactions_pending()
    })
}

#[cfg(test)]
mod tests;
