//! One function that reads everything: for fuzzers, and for tests that hand it any bytes.

use crate::table::Dmar;
use crate::topology::{BusRange, PciTopology};
use core::fmt::{self, Write};
use iommu_core::{DeviceId, Segment, SourceId};

/// Every function is a bridge to the bus of its own number plus one.
struct BridgesEverywhere;

impl PciTopology for BridgesEverywhere {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        let secondary = bridge.source.bus().checked_add(1)?;
        Some(BusRange {
            secondary,
            subordinate: secondary | 0xf,
        })
    }
}

/// Counts what is written to it.
struct Sink(usize);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.wrapping_add(text.len());
        Ok(())
    }
}

/// Reads all of a table in every way there is, and returns a number that depends on it.
///
/// Whatever the bytes are, this returns.
pub fn exercise(bytes: &[u8]) -> usize {
    let dmar = Dmar::new(bytes);
    let topology = BridgesEverywhere;
    let mut sink = Sink(0);
    let _ = write!(
        sink,
        "{:?} {:?} {:?}",
        dmar.host_address_width(),
        dmar.flags(),
        dmar.oem()
    );
    dmar.audit(&mut |finding| {
        let _ = write!(
            sink,
            "{finding} {:?} {:?}",
            finding.severity(),
            finding.action()
        );
    });
    for structure in dmar.structures() {
        let _ = write!(sink, "{} {structure:?}", structure.offset());
    }
    for unit in dmar.units() {
        let domain = dmar.proximity_domain(&unit);
        let _ = write!(sink, "{unit:?} {domain:?} {}", unit.drhd.register_bytes());
    }
    for region in dmar.regions() {
        let _ = write!(sink, "{region:?}");
    }
    for source in dmar.interrupt_sources(&topology) {
        let _ = write!(sink, "{source:?}");
    }
    for device in dmar.namespace_devices() {
        let _ = write!(sink, "{device:?}");
    }
    for source in [0, 0x00f8, 0x0100, 0xffff] {
        let device = DeviceId::new(Segment(0), SourceId::from_bits(source));
        let unit = dmar.unit_of(device, &topology).map(|unit| unit.index);
        let regions = dmar.regions_of(device, &topology).count();
        let properties = dmar.properties(device, &topology);
        let ats = dmar.supports_ats(device, &topology);
        let _ = write!(sink, "{unit:?} {regions} {properties:?} {ats}");
    }
    sink.0
}
