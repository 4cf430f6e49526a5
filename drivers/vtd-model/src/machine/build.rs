//! Setting a machine up.

use super::Machine;
use super::device::{Device, Promptness};
use super::prefetch::Prefetch;
use super::unit::Unit;
use super::world::{Freedom, World};
use crate::config::{Config, ConfigError};
use crate::memory::{HostMemory, Image, Ram};
use crate::oracle::Oracle;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a [`Machine`] is made of.
pub struct Builder {
    units: Vec<Config>,
    memory: Option<Arc<dyn HostMemory>>,
    freedom: Freedom,
    devices: BTreeMap<u16, Device>,
    patience: u64,
}

impl Machine {
    /// A machine with no unit, no device, 16 MiB of memory from address 0 and random
    /// freedom with seed 0.
    pub fn builder() -> Builder {
        Builder {
            units: Vec::new(),
            memory: None,
            freedom: Freedom::Random(0),
            devices: BTreeMap::new(),
            patience: 64,
        }
    }
}

impl Builder {
    /// Adds a unit; units are numbered from 0.
    pub fn unit(mut self, config: Config) -> Self {
        self.units.push(config);
        self
    }

    /// Uses this memory.
    pub fn memory(mut self, memory: Arc<dyn HostMemory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// How hardware's freedom is used.
    pub fn freedom(mut self, freedom: Freedom) -> Self {
        self.freedom = freedom;
        self
    }

    /// Adds a device without ATS behind a unit. Only known devices are prefetched for.
    pub fn device(mut self, source: u16, unit: usize) -> Self {
        self.devices.insert(source, Device::new(unit));
        self
    }

    /// Adds a device with a device-TLB of its own.
    pub fn ats_device(mut self, source: u16, unit: usize, promptness: Promptness) -> Self {
        self.devices
            .insert(source, Device::with_tlb(unit, promptness));
        self
    }

    /// Ticks after which an unanswered device-TLB invalidation times out (64 if not set).
    pub fn invalidation_timeout(mut self, ticks: u64) -> Self {
        self.patience = ticks;
        self
    }

    /// Makes the machine.
    ///
    /// # Errors
    /// The first rule that a configuration breaks, or a device behind a unit that is not
    /// there.
    pub fn build(self) -> Result<Machine, ConfigError> {
        for config in &self.units {
            config.check()?;
        }
        if self
            .devices
            .values()
            .any(|device| device.unit >= self.units.len())
        {
            return Err(ConfigError {
                section: "§8.3",
                rule: "every device lies behind a unit",
            });
        }
        let stale = self
            .units
            .iter()
            .any(|config| !config.coherent || (config.scalable_mode && !config.walk_coherency));
        let buffered = self.units.iter().any(|config| config.write_buffer_flush);
        let walks = self.units.iter().any(|config| config.scalable_mode);
        let (seed, pessimist) = match self.freedom {
            Freedom::Random(seed) => (seed, false),
            Freedom::Pessimist(seed) => (seed, true),
        };
        let memory = self
            .memory
            .unwrap_or_else(|| Arc::new(Ram::new(0, 16 << 20)));
        let prefetch = self.units.iter().map(|_| Prefetch::default()).collect();
        let units = self
            .units
            .into_iter()
            .enumerate()
            .map(|(index, config)| {
                // Where some unit sees only what was written back, that covers the buffer.
                let buffered = config.write_buffer_flush && !(stale || walks);
                let mut unit = Unit::new(index, config, buffered);
                if pessimist {
                    unit.caches.iotlb.bury();
                }
                unit
            })
            .collect();
        Ok(Machine {
            world: World {
                memory,
                image: Image::new(stale || buffered || walks, stale || walks),
                violations: Vec::new(),
                messages: Vec::new(),
                time: 0,
                step: 1,
                random: fastrand::Rng::with_seed(seed),
                pessimist,
            },
            units,
            devices: self.devices,
            oracle: Oracle::default(),
            prefetch,
            patience: self.patience,
            responses: Vec::new(),
        })
    }
}
