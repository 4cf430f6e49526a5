//! What is known of a machine: its table, and of a running one its devices and registers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use iommu_core::{DeviceId, Hpa};

use ::dmar::{BusRange, PciTopology};

use super::system;

/// Registers that say what a unit can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registers {
    /// VER, if it is known.
    pub(super) version: Option<u32>,
    pub(super) cap: u64,
    pub(super) ecap: u64,
}

/// A PCI function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Function {
    /// Class, subclass and programming interface.
    pub(super) class: u32,
    /// The buses behind it, of a bridge.
    pub(super) behind: Option<BusRange>,
}

impl Function {
    /// Whether it drives a screen.
    pub(super) fn is_display(&self) -> bool {
        self.class >> 16 == 3
    }
}

/// The PCI functions of a machine; none of one that is only a file.
#[derive(Default, Debug)]
pub(super) struct Functions(pub(super) BTreeMap<DeviceId, Function>);

impl PciTopology for Functions {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        self.0.get(&bridge)?.behind
    }
}

/// One table, and what else is known of its machine.
#[derive(Debug)]
pub(super) struct Input {
    /// Where the table was read.
    pub(super) name: String,
    pub(super) table: Vec<u8>,
    pub(super) functions: Functions,
    registers: BTreeMap<Hpa, Registers>,
    assumed: Option<Registers>,
}

impl Input {
    pub(super) fn new(name: String, table: Vec<u8>) -> Self {
        Self {
            name,
            table,
            functions: Functions::default(),
            registers: BTreeMap::new(),
            assumed: None,
        }
    }

    pub(super) fn file(path: &Path) -> Result<Self> {
        let table = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::new(path.display().to_string(), table))
    }

    /// What the kernel of a running Linux system shows in its `sysfs`.
    pub(super) fn running_system(sys: &Path) -> Result<Self> {
        let path = system::table(sys);
        let mut input = Self::file(&path).with_context(|| {
            format!(
                "this system shows no DMAR table at {} (or not to this user); name a file instead",
                path.display()
            )
        })?;
        input.functions = system::functions(sys)?;
        input.registers = system::registers(sys);
        Ok(input)
    }

    /// Takes every unit to have these capabilities.
    pub(super) fn assume(&mut self, cap: u64, ecap: u64) {
        self.assumed = Some(Registers {
            version: None,
            cap,
            ecap,
        });
    }

    /// What is known of the unit with these registers.
    pub(super) fn registers_at(&self, base: Hpa) -> Option<Registers> {
        self.assumed.or_else(|| self.registers.get(&base).copied())
    }
}
