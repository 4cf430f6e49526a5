//! The driver of all units of a machine.

mod backend;
mod capabilities;
mod checked;
mod commit;
mod completion;
mod device_tlb;
mod dirty;
mod enable;
mod floods;
mod inspect;
mod interrupts;
mod memory_ranges;
mod page_requests;
mod quarantine;
mod replace;
mod scopes;
mod shared;
mod shut_down;
mod virtual_pasids;

pub(crate) use device_tlb::Standing;
pub use device_tlb::{DeviceTlb, DeviceTlbError};
pub use enable::{EnableError, EnableFailure};
pub use inspect::{Inspected, Sink};
pub use memory_ranges::MemoryRanges;
pub use quarantine::Quarantined;
pub use scopes::Scopes;
pub use shared::{NotShareable, SharedTables};
pub use shut_down::{Failed, ShutDownFailure};
pub use virtual_pasids::{VirtualCommandError, VirtualPasids};

use crate::Event;
use crate::bring_up::Ready;
use crate::domain::{DomainIds, Domains, IdSet, Numbering, PagingTables};
use crate::fault::FaultLimit;
use crate::invalidation::CostRule;
use crate::statistics::Statistics;
use crate::takeover::read_domain_ids;
use crate::unit::Unit;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{DeviceId, Mmio, Observer, Order, OutOfFrames, Platform};
use quarantine::Parked;

/// State of a [`Driver`] whose tables are being filled and are not in force.
#[derive(Debug)]
pub enum Preparing {}

/// State of a [`Driver`] whose tables are in force on every unit.
#[derive(Debug)]
pub enum Translating {}

/// All units of a machine, and the domains that devices behind them are attached to.
///
/// Every function may be called on any CPU; see [`iommu_core::sync::Rank`] for the locks
/// that are taken, and in which order.
pub struct Driver<P, M, S = Translating> {
    platform: P,
    scopes: Box<dyn Scopes>,
    units: Vec<Unit<M>>,
    costs: CostRule,
    /// Some unit wants to be told when translations become present.
    tells_of_mappings: bool,
    domains: Mutex<Domains>,
    paging: PagingTables,
    parked: Mutex<Parked>,
    state: PhantomData<fn() -> S>,
}

/// How much a driver can keep track of, all of it allocated when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DriverConfig {
    /// Domains that can exist at once, those that hardware has not forgotten included.
    pub domains: u16,
    /// Slots that can lead somewhere at once, likewise.
    pub attachments: u16,
    /// When many invalidations become one.
    pub costs: CostRule,
    /// What a device may do by way of faults; `None` lets it do anything.
    pub fault_limit: Option<FaultLimit>,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            domains: 1_024,
            attachments: 4_096,
            costs: CostRule::default(),
            fault_limit: Some(FaultLimit::default()),
        }
    }
}

impl<P: Platform + Observer<Event>, M: Mmio> Driver<P, M, Preparing> {
    /// Takes over units that are ready. No device can reach memory through their tables
    /// until it is attached.
    pub fn new(
        platform: P,
        units: impl IntoIterator<Item = Ready<M>>,
        scopes: Box<dyn Scopes>,
        config: &DriverConfig,
    ) -> Result<Self, OutOfFrames> {
        let mut all: Vec<Unit<M>> = Vec::new();
        let mut ids = Vec::new();
        let no_memory = |_| OutOfFrames { order: Order::PAGE };
        for mut ready in units {
            ready.unit.faults.get_mut().limit = config.fault_limit;
            all.try_reserve(1).map_err(no_memory)?;
            ids.try_reserve(1).map_err(no_memory)?;
            ids.push(ids_of(&platform, &ready.unit)?);
            all.push(ready.unit);
        }
        let tells_of_mappings = all.iter().any(|unit| {
            unit.abilities.caches_absence() || unit.abilities.needs_write_buffer_flush()
        });
        let domains = Domains::new(config.domains, config.attachments, ids)?;
        Ok(Self {
            platform,
            scopes,
            units: all,
            costs: config.costs,
            tells_of_mappings,
            domains: Mutex::new(Rank::Domains, domains),
            paging: PagingTables::new(config.domains)?,
            parked: Mutex::new(
                Rank::Quarantine,
                Parked::new(usize::from(config.attachments))?,
            ),
            state: PhantomData,
        })
    }
}

/// The ids of a unit, less those of tables that it translates by already.
fn ids_of<P: Platform + Observer<Event>, M: Mmio>(
    platform: &P,
    unit: &Unit<M>,
) -> Result<DomainIds, OutOfFrames> {
    let count = unit.abilities.cap.domain_ids();
    let mut foreign = IdSet::new(count)?;
    let Some(root) = unit.root_left_in_force() else {
        return DomainIds::new(count, foreign, Numbering::Rising);
    };
    let complete = read_domain_ids(platform, &unit.abilities, root, &mut foreign);
    platform.observe(&Event::DomainIdsInUse {
        unit: unit.index(),
        count: foreign.len(),
        complete,
    });
    let numbering = if complete {
        Numbering::Rising
    } else {
        Numbering::Falling
    };
    DomainIds::new(count, foreign, numbering)
}

impl<P, M, S> Driver<P, M, S> {
    /// The same driver, known to be in another state.
    fn into_state<T>(self) -> Driver<P, M, T> {
        Driver {
            platform: self.platform,
            scopes: self.scopes,
            units: self.units,
            costs: self.costs,
            tells_of_mappings: self.tells_of_mappings,
            domains: self.domains,
            paging: self.paging,
            parked: self.parked,
            state: PhantomData,
        }
    }
}

impl<P, M: Mmio, S> Driver<P, M, S> {
    /// The platform that it runs on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Numbers of the units, as their descriptions gave them.
    pub fn units(&self) -> impl Iterator<Item = u16> + '_ {
        self.units.iter().map(Unit::index)
    }

    /// Counters of a unit, or `None` if there is no such unit.
    pub fn statistics(&self, unit: u16) -> Option<Statistics> {
        self.unit(unit).map(|unit| unit.counters.snapshot())
    }

    pub(crate) fn unit(&self, index: u16) -> Option<&Unit<M>> {
        self.units.iter().find(|unit| unit.index() == index)
    }

    /// The unit that remaps a device.
    pub(crate) fn unit_of(&self, device: DeviceId) -> Option<&Unit<M>> {
        self.unit(self.scopes.unit_of(device)?)
    }
}

impl<P, M: core::fmt::Debug, S> core::fmt::Debug for Driver<P, M, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Driver")
            .field("units", &self.units)
            .finish_non_exhaustive()
    }
}
