//! Which unit remaps a device, which regions it has, and who sends which interrupts.

use dmar::builder::{Scope, Structure, Table};
use dmar::{BusRange, DeviceProperties, Dmar, NoBridges, PciTopology, ScopeKind};
use iommu_core::{DeviceId, Segment, SourceId};
use std::collections::BTreeMap;

fn device(bus: u8, device: u8, function: u8) -> DeviceId {
    in_segment(0, bus, device, function)
}

fn in_segment(segment: u16, bus: u8, device: u8, function: u8) -> DeviceId {
    DeviceId::new(
        Segment(segment),
        SourceId::new(bus, device, function).unwrap(),
    )
}

/// Bridges by where they are.
#[derive(Default)]
struct Bridges(BTreeMap<DeviceId, BusRange>);

impl Bridges {
    fn with(mut self, bridge: DeviceId, secondary: u8, subordinate: u8) -> Self {
        let buses = BusRange {
            secondary,
            subordinate,
        };
        self.0.insert(bridge, buses);
        self
    }
}

impl PciTopology for Bridges {
    fn buses_behind(&self, bridge: DeviceId) -> Option<BusRange> {
        self.0.get(&bridge).copied()
    }
}

/// The unit of a device, by its register base.
fn unit_of(table: &Table, device: DeviceId, topology: &impl PciTopology) -> Option<u64> {
    let bytes = table.clone().build();
    let unit = Dmar::new(&bytes).unit_of(device, topology)?;
    Some(unit.drhd.register_base.as_u64())
}

const GRAPHICS: u64 = 0xfed9_0000;
const PORTS: u64 = 0xfed9_1000;
const REST: u64 = 0xfed9_2000;

fn rest() -> Structure {
    Structure::drhd(REST).flags(1)
}

#[test]
fn a_device_belongs_to_the_unit_that_names_it_and_others_to_the_rest() {
    let table = Table::new(39)
        .with(Structure::drhd(GRAPHICS).scope(Scope::endpoint(0, &[(2, 0)])))
        .with(rest());
    assert_eq!(unit_of(&table, device(0, 2, 0), &NoBridges), Some(GRAPHICS));
    assert_eq!(unit_of(&table, device(0, 2, 1), &NoBridges), Some(REST));
    assert_eq!(unit_of(&table, device(1, 2, 0), &NoBridges), Some(REST));
}

#[test]
fn the_unit_for_the_rest_is_matched_last_wherever_it_stands() {
    let table = Table::new(39)
        .with(rest())
        .with(Structure::drhd(GRAPHICS).scope(Scope::endpoint(0, &[(2, 0)])));
    assert_eq!(unit_of(&table, device(0, 2, 0), &NoBridges), Some(GRAPHICS));
    assert_eq!(unit_of(&table, device(0, 3, 0), &NoBridges), Some(REST));
}

#[test]
fn without_a_unit_for_the_rest_what_is_not_named_has_none() {
    let table = Table::new(39).with(Structure::drhd(GRAPHICS).scope(Scope::endpoint(0, &[(2, 0)])));
    assert_eq!(unit_of(&table, device(0, 2, 0), &NoBridges), Some(GRAPHICS));
    assert_eq!(unit_of(&table, device(0, 3, 0), &NoBridges), None);
}

#[test]
fn segments_have_units_of_their_own() {
    let table = Table::new(39)
        .with(
            Structure::drhd(GRAPHICS)
                .segment(1)
                .scope(Scope::endpoint(0, &[(2, 0)])),
        )
        .with(rest())
        .with(Structure::drhd(PORTS).segment(2).flags(1));
    let unit = |segment| unit_of(&table, in_segment(segment, 0, 2, 0), &NoBridges);
    assert_eq!(unit(0), Some(REST));
    assert_eq!(unit(1), Some(GRAPHICS));
    assert_eq!(unit(2), Some(PORTS));
    assert_eq!(unit(3), None);
    assert_eq!(unit_of(&table, in_segment(1, 0, 3, 0), &NoBridges), None);
}

#[test]
fn a_sub_hierarchy_is_the_bridge_and_the_buses_behind_it() {
    let table = Table::new(39)
        .with(Structure::drhd(PORTS).scope(Scope::bridge(0, &[(0x1c, 0)])))
        .with(rest());
    let bridges = Bridges::default().with(device(0, 0x1c, 0), 3, 5);
    for inside in [device(0, 0x1c, 0), device(3, 0, 0), device(5, 31, 7)] {
        assert_eq!(unit_of(&table, inside, &bridges), Some(PORTS), "{inside}");
    }
    for outside in [device(0, 0x1c, 1), device(2, 0, 0), device(6, 0, 0)] {
        assert_eq!(unit_of(&table, outside, &bridges), Some(REST), "{outside}");
    }
    // Named as an endpoint, it is itself alone.
    let table = Table::new(39)
        .with(Structure::drhd(PORTS).scope(Scope::endpoint(0, &[(0x1c, 0)])))
        .with(rest());
    assert_eq!(unit_of(&table, device(0, 0x1c, 0), &bridges), Some(PORTS));
    assert_eq!(unit_of(&table, device(3, 0, 0), &bridges), Some(REST));
}

#[test]
fn a_path_follows_the_buses_that_bridges_have_now() {
    let path = [(0x1c, 4), (0, 0), (2, 0), (0, 1)];
    let table = Table::new(39)
        .with(Structure::drhd(PORTS).scope(Scope::endpoint(0, &path)))
        .with(rest());
    let numbered = |buses: [u8; 3]| {
        Bridges::default()
            .with(device(0, 0x1c, 4), buses[0], 9)
            .with(device(buses[0], 0, 0), buses[1], 9)
            .with(device(buses[1], 2, 0), buses[2], 9)
    };
    let bridges = numbered([1, 2, 3]);
    assert_eq!(unit_of(&table, device(3, 0, 1), &bridges), Some(PORTS));
    assert_eq!(unit_of(&table, device(3, 0, 0), &bridges), Some(REST));
    let renumbered = numbered([4, 6, 9]);
    assert_eq!(unit_of(&table, device(9, 0, 1), &renumbered), Some(PORTS));
    assert_eq!(unit_of(&table, device(3, 0, 1), &renumbered), Some(REST));
    // A bridge on the way is missing: the scope names nothing.
    let gap = Bridges::default().with(device(0, 0x1c, 4), 1, 9);
    assert_eq!(unit_of(&table, device(3, 0, 1), &gap), Some(REST));
}

#[test]
fn the_nearest_scope_wins_whatever_the_order() {
    let outer = || Structure::drhd(PORTS).scope(Scope::bridge(0, &[(1, 0)]));
    let inner = || Structure::drhd(0xfed9_3000).scope(Scope::bridge(0, &[(1, 0), (0, 0)]));
    let device_itself =
        || Structure::drhd(GRAPHICS).scope(Scope::endpoint(0, &[(1, 0), (0, 0), (0, 0)]));
    let bridges = Bridges::default()
        .with(device(0, 1, 0), 1, 9)
        .with(device(1, 0, 0), 2, 5);
    let orders = [
        [outer(), inner(), device_itself()],
        [device_itself(), inner(), outer()],
        [inner(), device_itself(), outer()],
    ];
    for order in orders {
        let table = order
            .into_iter()
            .fold(Table::new(39), Table::with)
            .with(rest());
        assert_eq!(unit_of(&table, device(2, 0, 0), &bridges), Some(GRAPHICS));
        assert_eq!(
            unit_of(&table, device(2, 1, 0), &bridges),
            Some(0xfed9_3000)
        );
        assert_eq!(unit_of(&table, device(7, 0, 0), &bridges), Some(PORTS));
        assert_eq!(unit_of(&table, device(0, 7, 0), &bridges), Some(REST));
    }
}

#[test]
fn register_sets_have_the_size_that_the_table_says() {
    let bytes = |size| {
        let table = Table::new(39).with(rest().byte(5, size)).build();
        let unit = Dmar::new(&table).units().next().unwrap();
        unit.drhd.register_bytes()
    };
    assert_eq!(bytes(0), 0x1000);
    assert_eq!(bytes(4), 0x1_0000);
    assert_eq!(bytes(0xf), 0x800_0000);
    assert_eq!(bytes(0xf1), 0x2000);
}

#[test]
fn a_device_has_the_regions_that_name_it() {
    let bytes = Table::new(39)
        .with(rest())
        .with(Structure::rmrr(0x1000, 0x2fff).scope(Scope::endpoint(0, &[(20, 0)])))
        .with(
            Structure::rmrr(0x8000, 0x8fff)
                .scope(Scope::endpoint(0, &[(2, 0)]))
                .scope(Scope::endpoint(0, &[(20, 0)])),
        )
        .with(
            Structure::rmrr(0x9000, 0x9fff)
                .segment(1)
                .scope(Scope::endpoint(0, &[(20, 0)])),
        )
        .with(Structure::rmrr(0xa000, 0xafff).scope(Scope::bridge(0, &[(1, 0)])))
        .build();
    let dmar = Dmar::new(&bytes);
    let bridges = Bridges::default().with(device(0, 1, 0), 4, 4);
    let regions = |device| -> Vec<u64> {
        let regions = dmar.regions_of(device, &bridges);
        regions
            .map(|region| region.range.first().as_u64())
            .collect()
    };
    assert_eq!(regions(device(0, 20, 0)), [0x1000, 0x8000]);
    assert_eq!(regions(device(0, 2, 0)), [0x8000]);
    assert_eq!(regions(in_segment(1, 0, 20, 0)), [0x9000]);
    assert_eq!(regions(device(4, 0, 0)), [0xa000]);
    assert_eq!(regions(device(0, 20, 1)), []);
}

#[test]
fn interrupt_sources_are_found_by_id_with_their_unit_and_source() {
    let bytes = Table::new(39)
        .with(
            Structure::drhd(GRAPHICS)
                .scope(Scope::endpoint(0, &[(2, 0)]))
                .scope(Scope::new(3, 9, 0, &[(1, 0), (0, 1)])),
        )
        .with(
            rest()
                .scope(Scope::io_apic(2, 0xf0, (0x1f, 0)))
                .scope(Scope::hpet(0, 0xf0, (0x0f, 0)))
                .scope(Scope::hpet(1, 0xf0, (0x0f, 1))),
        )
        .build();
    let dmar = Dmar::new(&bytes);
    let apic = dmar.io_apic(2, &NoBridges).unwrap();
    assert_eq!((apic.unit, apic.source), (1, device(0xf0, 0x1f, 0)));
    assert_eq!(apic.kind, ScopeKind::IoApic);
    let hpet = dmar.hpet(1, &NoBridges).unwrap();
    assert_eq!((hpet.unit, hpet.source), (1, device(0xf0, 0x0f, 1)));
    assert_eq!(dmar.io_apic(0, &NoBridges), None);
    assert_eq!(dmar.hpet(2, &NoBridges), None);
    // One behind a bridge is found where the bridge leads.
    assert_eq!(dmar.io_apic(9, &NoBridges), None);
    let bridges = Bridges::default().with(device(0, 1, 0), 6, 6);
    let behind = dmar.io_apic(9, &bridges).unwrap();
    assert_eq!((behind.unit, behind.source), (0, device(6, 0, 1)));
}

#[test]
fn namespace_devices_have_name_unit_and_source() {
    let bytes = Table::new(39)
        .with(
            rest()
                .scope(Scope::namespace(3, 0, (0x15, 1)))
                .scope(Scope::namespace(4, 0, (9, 0))),
        )
        .with(Structure::andd(3, b"\\_SB.I2C0\0\0\0"))
        .build();
    let dmar = Dmar::new(&bytes);
    let devices: Vec<_> = dmar.namespace_devices().collect();
    assert_eq!(devices[0].name, Some(&b"\\_SB.I2C0"[..]));
    assert_eq!(
        (devices[0].number, devices[0].source),
        (3, device(0, 0x15, 1))
    );
    assert_eq!((devices[1].number, devices[1].name), (4, None));
    // Its requests belong to the unit that names it.
    assert!(dmar.unit_of(device(0, 0x15, 1), &NoBridges).is_some());
}

#[test]
fn units_know_their_node() {
    let bytes = Table::new(39)
        .with(Structure::drhd(PORTS).scope(Scope::bridge(0, &[(1, 0)])))
        .with(rest())
        .with(Structure::rhsa(REST, 7))
        .build();
    let dmar = Dmar::new(&bytes);
    let domains: Vec<_> = dmar
        .units()
        .map(|unit| dmar.proximity_domain(&unit))
        .collect();
    assert_eq!(domains, [None, Some(7)]);
}

#[test]
fn ats_works_behind_the_ports_that_are_named_or_all() {
    let supports = |atsr: Structure, device| {
        let bytes = Table::new(39).with(rest()).with(atsr).build();
        Dmar::new(&bytes).supports_ats(device, &NoBridges)
    };
    let one = || Structure::atsr().scope(Scope::bridge(0, &[(1, 0)]));
    assert!(supports(one(), device(0, 1, 0)));
    assert!(!supports(one(), device(0, 1, 1)));
    assert!(!supports(one(), in_segment(1, 0, 1, 0)));
    assert!(supports(Structure::atsr().flags(1), device(0, 9, 0)));
    assert!(!supports(
        Structure::atsr().flags(1),
        in_segment(1, 0, 9, 0)
    ));
}

#[test]
fn properties_come_from_sidp_and_only_without_it_from_satc() {
    let hardened_and_required = DeviceProperties::ATC_HARDENED | DeviceProperties::ATC_REQUIRED;
    let satc = || {
        Structure::satc()
            .flags(1)
            .scope(Scope::endpoint(0, &[(8, 0)]))
    };
    let properties = |table: Table, device| {
        let bytes = table.build();
        Dmar::new(&bytes).properties(device, &NoBridges)
    };
    let old = Table::new(39).with(rest()).with(satc());
    assert_eq!(
        properties(old.clone(), device(0, 8, 0)),
        hardened_and_required
    );
    assert_eq!(
        properties(old.clone(), device(0, 8, 1)),
        DeviceProperties::empty()
    );
    let sidp = Structure::sidp().scope(Scope::endpoint(0, &[(9, 0)]).flags(0xe2));
    let new = old.with(sidp);
    assert_eq!(
        properties(new.clone(), device(0, 8, 0)),
        DeviceProperties::empty()
    );
    let no_pwsnp = DeviceProperties::REQ_WO_PASID_PWSNP_NOTALLOWED;
    assert_eq!(properties(new, device(0, 9, 0)), no_pwsnp);
}
