//! What a QEMU can do, by its own `help`: options are probed, never assumed from a version.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::command;

/// The answers to `-device intel-iommu,help`, `-device help` and `-trace help`, as far as
/// we use them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Abilities {
    /// Options of `-device intel-iommu`.
    iommu_options: BTreeSet<String>,
    /// Devices that can be added.
    devices: BTreeSet<String>,
    /// Events of the remapping unit that can be traced.
    trace_events: BTreeSet<String>,
}

/// Devices whose presence anything depends on.
const DEVICES: &[&str] = &["edu", "intel-iommu", "iommu-testdev", "isa-debug-exit"];

/// Without these events the runner has no second witness.
const WITNESSES: &[&str] = &["vtd_inv_qi_head", "vtd_inv_qi_tail", "vtd_frr_new"];

impl Abilities {
    /// Asks the program.
    pub(crate) fn probe(program: &Path) -> Result<Self> {
        let ask = |arguments: &[&str]| command::succeed(Command::new(program).args(arguments));
        let abilities = Self {
            iommu_options: parse_options(&ask(&["-device", "intel-iommu,help"])?),
            devices: parse_devices(&ask(&["-device", "help"])?),
            trace_events: parse_events(&ask(&["-trace", "help"])?),
        };
        if abilities.iommu_options.is_empty() {
            bail!("{} has no intel-iommu", program.display());
        }
        if let Some(missing) = WITNESSES.iter().find(|event| !abilities.traces(event)) {
            bail!("{} cannot trace {missing}", program.display());
        }
        Ok(abilities)
    }

    /// Whether a device can be added.
    pub(crate) fn has_device(&self, name: &str) -> bool {
        self.devices.contains(name)
    }

    /// Whether an event can be traced.
    pub(crate) fn traces(&self, event: &str) -> bool {
        self.trace_events.contains(event)
    }

    /// Whether the unit has an option of this name.
    pub(crate) fn has_option(&self, name: &str) -> bool {
        self.iommu_options.contains(name)
    }

    /// The name of the option for scalable mode, if there is one.
    pub(crate) fn scalable_mode(&self) -> Option<&'static str> {
        self.first_of(&["scalable-mode", "x-scalable-mode"])
    }

    /// The name of the option for first-stage translation, if there is one.
    pub(crate) fn first_stage(&self) -> Option<&'static str> {
        self.first_of(&["fsts", "x-flts"])
    }

    fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has_option(name))
    }

    /// As a QEMU with just these would answer.
    #[cfg(test)]
    pub(crate) fn of(options: &[&str], devices: &[&str]) -> Self {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            iommu_options: set(options),
            devices: set(devices),
            trace_events: BTreeSet::new(),
        }
    }
}

/// Lines of the form `  aw-bits=<uint8>  - (default: 48)`.
fn parse_options(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once("=<"))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// Lines of the form `name "edu", bus PCI`.
fn parse_devices(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("name \"")?.split('"').next())
        .filter(|name| DEVICES.contains(name))
        .map(str::to_owned)
        .collect()
}

fn parse_events(text: &str) -> BTreeSet<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("vtd_"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_HELP: &str = "intel-iommu options:
  aw-bits=<uint8>        -  (default: 48)
  x-flts=<bool>          - on/off (default: off)
  x-pasid-mode=<bool>    - on/off (default: off)
  x-scalable-mode=<bool> - on/off (default: off)
";
    const NEW_HELP: &str = "intel-iommu options:
  fsts=<bool>            - on/off (default: off)
  pasid-bits=<uint8>     -  (default: 0)
  scalable-mode=<bool>   - on/off (default: off)
";

    #[test]
    fn option_names_of_both_generations_are_found() {
        let old = Abilities {
            iommu_options: parse_options(OLD_HELP),
            ..Abilities::default()
        };
        assert_eq!(old.scalable_mode(), Some("x-scalable-mode"));
        assert_eq!(old.first_stage(), Some("x-flts"));
        let new = Abilities {
            iommu_options: parse_options(NEW_HELP),
            ..Abilities::default()
        };
        assert_eq!(new.scalable_mode(), Some("scalable-mode"));
        assert_eq!(new.first_stage(), Some("fsts"));
        assert!(new.has_option("pasid-bits") && !old.has_option("pasid-bits"));
    }

    #[test]
    fn devices_and_events_are_found_and_the_rest_is_not_kept() {
        let devices = parse_devices("name \"edu\", bus PCI\nname \"e1000\", bus PCI, desc \"x\"\n");
        assert_eq!(devices.into_iter().collect::<Vec<_>>(), ["edu"]);
        let events = parse_events("vtd_inv_qi_head\nqcow2_open\n");
        assert_eq!(events.into_iter().collect::<Vec<_>>(), ["vtd_inv_qi_head"]);
    }
}
