//! The DMAR: the one of the boot module, if it has one, else the firmware's.

use super::error::RemappingError;
use crate::archive::Archive;
use crate::devices::Bridges;
use crate::firmware::Firmware;
use crate::log::report;
use crate::pci::Bus;
use dmar::{BusRange, Dmar, Oddity, PciTopology, Severity};
use iommu_core::DeviceId;

/// The DMAR's name in the boot module.
const FILE: &str = "dmar.bin";

/// Where a DMAR comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmarSource {
    /// The firmware's tables.
    Firmware,
    /// The boot module's `dmar.bin`.
    Module,
}

impl DmarSource {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "the firmware's DMAR",
            Self::Module => "the boot module's dmar.bin",
        }
    }
}

impl PciTopology for Bus {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        Bridges(&self.topology).buses_behind(bridge)
    }
}

/// Finds the DMAR and tells what is odd about it. One that is malformed is refused.
pub fn table(
    archive: &Archive<'static>,
    firmware: &Firmware,
) -> Result<(Dmar<'static>, DmarSource), RemappingError> {
    let (bytes, source) = match archive.file(FILE) {
        Some(bytes) => (bytes, DmarSource::Module),
        None => (of_firmware(firmware)?, DmarSource::Firmware),
    };
    let dmar = Dmar::new(bytes);
    let mut first_error = None;
    dmar.audit(&mut |finding| {
        let is_error =
            finding.severity() == Severity::Error || matches!(finding.oddity, Oddity::Signature(_));
        report::note(format_args!(
            "DMAR at byte {}: {finding} ({})",
            finding.offset,
            finding.action().name()
        ));
        if is_error && first_error.is_none() {
            first_error = Some(finding);
        }
    });
    match first_error {
        Some(finding) => Err(RemappingError::BadDmar { source, finding }),
        None => Ok((dmar, source)),
    }
}

fn of_firmware(firmware: &Firmware) -> Result<&'static [u8], RemappingError> {
    firmware
        .dmar()
        .map_err(RemappingError::Firmware)?
        .ok_or(RemappingError::NoDmar)
}
