//! What follows from what devices are: errata that concern units, and who can be trusted to
//! translate for itself.
//!
//! Facts come in, decisions with their reasons go out; only [`Errata::apply`] touches
//! registers, and through a trait. So all of this is tested on a host.

mod asking;
mod errata;
mod trust;

pub use asking::{Mute, may_ask};
pub use errata::Errata;
pub use trust::{Distrust, ats_trust};

use dmar::{BusRange, PciTopology};
use iommu_core::DeviceId;
use pci::Topology;

/// The machine's bridges, as the DMAR's paths need them.
#[derive(Clone, Copy, Debug)]
pub struct Bridges<'a>(pub &'a Topology);

impl PciTopology for Bridges<'_> {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        let bridge = self.0.function(bridge)?.bridge?;
        // A bridge that was not set up has 0 in both.
        (bridge.secondary != 0).then_some(BusRange {
            secondary: bridge.secondary,
            subordinate: bridge.subordinate,
        })
    }
}
