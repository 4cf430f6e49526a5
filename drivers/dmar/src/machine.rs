//! What a driver can rely on: units, regions and the questions that it asks, with the
//! table's oddities dealt with as the findings say.

use crate::flags::{AtsrFlags, DeviceProperties, SatcFlags};
use crate::scope::{Scope, ScopeKind, Scopes};
use crate::structure::{Drhd, Rhsa, Rmrr, Structure};
use crate::table::Dmar;
use crate::topology::{Closeness, PciTopology};
use iommu_core::{Address, AddressRange, DeviceId, Hpa, PAGE_SHIFT, PAGE_SIZE, Segment, SourceId};

/// A remapping unit that can be used.
#[derive(Clone, Debug)]
pub struct Unit<'a> {
    /// Its number among the units, from 0.
    pub index: usize,
    /// Its structure. The register base is a page that no other unit has.
    pub drhd: Drhd<'a>,
    /// It remaps what no other unit of the segment does. At most one of a segment.
    pub includes_all: bool,
}

/// Memory that devices must keep reaching, in whole pages.
#[derive(Clone, Debug)]
pub struct Region<'a> {
    /// Where its structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// The memory.
    pub range: AddressRange<Hpa>,
    /// The segment of the devices.
    pub segment: Segment,
    /// The devices.
    pub scopes: Scopes<'a>,
}

/// An I/O APIC or HPET, as a unit sees its interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InterruptSource {
    /// Which unit remaps them, by [`Unit::index`].
    pub unit: usize,
    /// [`ScopeKind::IoApic`] or [`ScopeKind::Hpet`].
    pub kind: ScopeKind,
    /// The I/O APIC's id in the MADT, or the HPET's number.
    pub id: u8,
    /// The requester id that they carry.
    pub source: DeviceId,
}

/// A device of the ACPI name space that issues requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceDevice<'a> {
    /// Which unit remaps them, by [`Unit::index`].
    pub unit: usize,
    /// Its number in the table.
    pub number: u8,
    /// Its name, if an ANDD structure declares it.
    pub name: Option<&'a [u8]>,
    /// The requester id that they carry.
    pub source: DeviceId,
}

/// Requests to these addresses are interrupts (§3.14).
const INTERRUPTS: (Hpa, Hpa) = (Hpa::new(0xfee0_0000), Hpa::new(0xfeef_ffff));

/// Whether there can be registers at `base`.
pub(crate) fn is_register_base(base: Hpa) -> bool {
    base.as_u64() != 0 && base.is_aligned(PAGE_SHIFT)
}

/// The pages that an RMRR touches, if it is a region that can be mapped.
pub(crate) fn pages_of(rmrr: &Rmrr<'_>) -> Option<AddressRange<Hpa>> {
    let written = AddressRange::inclusive(rmrr.base, rmrr.limit).ok()?;
    let last_page = written.last().align_down(PAGE_SHIFT);
    let last = Hpa::new(last_page.as_u64() | PAGE_SIZE.wrapping_sub(1));
    let pages = AddressRange::inclusive(written.first().align_down(PAGE_SHIFT), last).ok()?;
    (!is_interrupts(&pages)).then_some(pages)
}

pub(crate) fn is_interrupts(pages: &AddressRange<Hpa>) -> bool {
    AddressRange::inclusive(INTERRUPTS.0, INTERRUPTS.1)
        .is_ok_and(|interrupts| interrupts.overlaps(pages))
}

impl<'a> Dmar<'a> {
    pub(crate) fn drhds(&self) -> impl Iterator<Item = Drhd<'a>> + Clone + use<'a> {
        self.structures().filter_map(|structure| match structure {
            Structure::Drhd(drhd) => Some(drhd),
            _ => None,
        })
    }

    pub(crate) fn rmrrs(&self) -> impl Iterator<Item = Rmrr<'a>> + Clone + use<'a> {
        self.structures().filter_map(|structure| match structure {
            Structure::Rmrr(rmrr) => Some(rmrr),
            _ => None,
        })
    }

    pub(crate) fn rhsas(&self) -> impl Iterator<Item = Rhsa> + Clone + use<'a> {
        self.structures().filter_map(|structure| match structure {
            Structure::Rhsa(rhsa) => Some(rhsa),
            _ => None,
        })
    }

    /// DRHD structures whose registers can be there, and are not those of one before.
    pub(crate) fn usable_drhds(&self) -> impl Iterator<Item = Drhd<'a>> + Clone + use<'a> {
        let dmar = *self;
        self.drhds().filter(move |drhd| {
            is_register_base(drhd.register_base) && dmar.first_with_registers_of(drhd).is_none()
        })
    }

    /// The structure before `drhd` that has the same registers.
    pub(crate) fn first_with_registers_of(&self, drhd: &Drhd<'_>) -> Option<Drhd<'a>> {
        self.drhds()
            .take_while(|earlier| earlier.offset < drhd.offset)
            .find(|earlier| earlier.register_base == drhd.register_base)
    }

    /// The INCLUDE_PCI_ALL unit of a segment: the first that can be used.
    pub(crate) fn catch_all(&self, segment: Segment) -> Option<Drhd<'a>> {
        self.usable_drhds()
            .find(|drhd| drhd.segment == segment && drhd.includes_all())
    }

    /// The remapping units, in the table's order.
    pub fn units(&self) -> impl Iterator<Item = Unit<'a>> + Clone + use<'a> {
        let dmar = *self;
        self.usable_drhds().enumerate().map(move |(index, drhd)| {
            let counts = |first: Drhd<'_>| first.offset == drhd.offset;
            Unit {
                index,
                includes_all: drhd.includes_all()
                    && dmar.catch_all(drhd.segment).is_some_and(counts),
                drhd,
            }
        })
    }

    /// The unit that remaps a device's requests: the one that names it, or the nearest
    /// bridge above it, or else the one that remaps the rest of the segment.
    ///
    /// A virtual function belongs to the unit of its physical one, and an ARI function to
    /// that of function 0: ask for those (§8.3.2, §8.3.3).
    pub fn unit_of(&self, device: DeviceId, topology: &impl PciTopology) -> Option<Unit<'a>> {
        let mut nearest: Option<(Closeness, Unit<'a>)> = None;
        let mut rest = None;
        for unit in self.units() {
            let segment = unit.drhd.segment;
            let closeness = unit
                .drhd
                .scopes
                .clone()
                .filter_map(|scope| scope.closeness(segment, device, topology))
                .min();
            match closeness {
                Some(closeness) if nearest.as_ref().is_none_or(|(best, _)| closeness < *best) => {
                    nearest = Some((closeness, unit));
                }
                _ if unit.includes_all && segment == device.segment => rest = Some(unit),
                _ => {}
            }
        }
        nearest.map(|(_, unit)| unit).or(rest)
    }

    /// The reserved regions, in whole pages, in the table's order.
    pub fn regions(&self) -> impl Iterator<Item = Region<'a>> + Clone + use<'a> {
        self.rmrrs().filter_map(|rmrr| {
            Some(Region {
                offset: rmrr.offset,
                range: pages_of(&rmrr)?,
                segment: rmrr.segment,
                scopes: rmrr.scopes,
            })
        })
    }

    /// The regions that a device must keep reaching.
    pub fn regions_of<T: PciTopology>(
        &self,
        device: DeviceId,
        topology: T,
    ) -> impl Iterator<Item = Region<'a>> + use<'a, T> {
        self.regions().filter(move |region| {
            region.scopes.clone().any(|scope| {
                let closeness = scope.closeness(region.segment, device, &topology);
                closeness.is_some()
            })
        })
    }

    /// The I/O APICs and HPETs whose requester id can be told.
    pub fn interrupt_sources<T: PciTopology>(
        &self,
        topology: T,
    ) -> impl Iterator<Item = InterruptSource> + use<'a, T> {
        self.unit_scopes().filter_map(move |(unit, scope)| {
            let kind = match scope.kind {
                ScopeKind::IoApic | ScopeKind::Hpet => scope.kind,
                _ => return None,
            };
            let segment = unit.drhd.segment;
            Some(InterruptSource {
                unit: unit.index,
                kind,
                id: scope.enumeration_id,
                source: DeviceId::new(segment, scope.source(segment, &topology)?),
            })
        })
    }

    /// The I/O APIC with this id in the MADT.
    pub fn io_apic(&self, id: u8, topology: &impl PciTopology) -> Option<InterruptSource> {
        self.interrupt_sources(topology)
            .find(|source| source.kind == ScopeKind::IoApic && source.id == id)
    }

    /// The HPET with this number.
    pub fn hpet(&self, number: u8, topology: &impl PciTopology) -> Option<InterruptSource> {
        self.interrupt_sources(topology)
            .find(|source| source.kind == ScopeKind::Hpet && source.id == number)
    }

    /// The devices of the ACPI name space that units name.
    pub fn namespace_devices(&self) -> impl Iterator<Item = NamespaceDevice<'a>> + use<'a> {
        let dmar = *self;
        self.unit_scopes().filter_map(move |(unit, scope)| {
            if scope.kind != ScopeKind::NamespaceDevice {
                return None;
            }
            Some(NamespaceDevice {
                unit: unit.index,
                number: scope.enumeration_id,
                name: dmar.object_name(scope.enumeration_id),
                source: DeviceId::new(unit.drhd.segment, scope.fixed_source()?),
            })
        })
    }

    /// The node that a unit belongs to, as in the SRAT.
    pub fn proximity_domain(&self, unit: &Unit<'_>) -> Option<u32> {
        self.rhsas()
            .find(|rhsa| rhsa.register_base == unit.drhd.register_base)
            .map(|rhsa| rhsa.proximity_domain)
    }

    /// Whether ATS works behind a root port.
    pub fn supports_ats(&self, root_port: DeviceId, topology: &impl PciTopology) -> bool {
        self.structures().any(|structure| match structure {
            Structure::Atsr(atsr) if atsr.segment == root_port.segment => {
                atsr.flags.contains(AtsrFlags::ALL_PORTS)
                    || names(atsr.scopes, atsr.segment, root_port.source, topology)
            }
            _ => false,
        })
    }

    /// What firmware says of an integrated device, or of the physical function of a
    /// virtual one. SATC structures count only where there is no SIDP (§8.9).
    pub fn properties(&self, device: DeviceId, topology: &impl PciTopology) -> DeviceProperties {
        let has_sidp = self.has_sidp();
        let mut properties = DeviceProperties::empty();
        for structure in self.structures() {
            match structure {
                Structure::Sidp(sidp) if sidp.segment == device.segment => {
                    let scopes = sidp.scopes;
                    for scope in scopes
                        .filter(|scope| scope.source(sidp.segment, topology) == Some(device.source))
                    {
                        properties |= scope.flags & DeviceProperties::all();
                    }
                }
                Structure::Satc(satc)
                    if !has_sidp
                        && satc.segment == device.segment
                        && names(satc.scopes.clone(), satc.segment, device.source, topology) =>
                {
                    properties |= DeviceProperties::ATC_HARDENED;
                    if satc.flags.contains(SatcFlags::ATC_REQUIRED) {
                        properties |= DeviceProperties::ATC_REQUIRED;
                    }
                }
                _ => {}
            }
        }
        properties
    }

    /// Whether there is an SIDP structure, so that SATC structures are not looked at.
    pub fn has_sidp(&self) -> bool {
        self.structures()
            .any(|structure| matches!(structure, Structure::Sidp(_)))
    }

    fn object_name(&self, number: u8) -> Option<&'a [u8]> {
        self.structures().find_map(|structure| match structure {
            Structure::Andd(andd) if andd.acpi_device_number == number => Some(andd.object_name()),
            _ => None,
        })
    }

    fn unit_scopes(&self) -> impl Iterator<Item = (Unit<'a>, Scope<'a>)> + Clone + use<'a> {
        self.units().flat_map(|unit| {
            let scopes = unit.drhd.scopes.clone();
            scopes.map(move |scope| (unit.clone(), scope))
        })
    }
}

/// Whether a scope names just this function.
fn names(
    mut scopes: Scopes<'_>,
    segment: Segment,
    source: SourceId,
    topology: &impl PciTopology,
) -> bool {
    scopes.any(|scope| scope.source(segment, topology) == Some(source))
}
