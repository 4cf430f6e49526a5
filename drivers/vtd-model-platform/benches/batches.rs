//! What typical batches of invalidations cost: descriptors, doorbells and waits, counted by
//! the driver while it is on the hardware model.
//!
//! These are counts, not times, so one run tells them exactly. The peer is Linux 7.0, not
//! run but counted by its rules (`drivers/iommu/intel/{cache,dmar}.c`), for a device without
//! ATS: each range that is unmapped by a call of its own costs an IOTLB descriptor, a wait
//! descriptor, a doorbell and a wait; a range is told by the one aligned block that holds
//! it. An array of invalidations of a guest (`iommufd`) costs the same for each entry.
//!
//! `cargo bench -p vtd-model-platform --bench batches -- --json` prints an array of
//! `{name, value, unit, peer, peer_value, ratio}`; `ratio` is value by peer's value.

use iommu_core::{
    Access, AddressRange, Attachment, Backend, Batch, DeviceId, DomainHandle, DomainSpec, Flushed,
    Hpa, Iova, Platform, Run, Scope, Segment, Slot, SourceId, TableFormat,
};
use serde_json::{Value, json};
use std::env;
use std::sync::Arc;
use vtd::{
    CostRule, Debt, Discovered, DriverConfig, Event, ModeRequest, TimeLimits, UnitConfig,
    UnitDescription,
};
use vtd_model::{Config, Freedom};
use vtd_model_platform::{ModelMmio, ModelPlatform};

type Platforms = Arc<ModelPlatform<Event>>;
type Driver = vtd::Driver<Platforms, ModelMmio<Event>>;

const NIC: u16 = 0x0010;
/// The first page of all workloads.
const FIRST: u64 = 0x1_0000;

/// Ranges of pages that are taken away together, or `None` for all that a domain has.
struct Workload {
    name: &'static str,
    ranges: Option<Vec<(u64, u64)>>,
    /// Page-selective whatever it costs.
    exact: bool,
}

impl Workload {
    fn all() -> [Self; 6] {
        let scattered = |count: u64| (0..count).map(|n| (FIRST + 2 * n, 1)).collect();
        let new = |name, ranges: Vec<(u64, u64)>| Self {
            name,
            ranges: Some(ranges),
            exact: false,
        };
        [
            new("1 page", vec![(FIRST, 1)]),
            new("512 pages in one range", vec![(FIRST, 512)]),
            new("100 pages, each elsewhere", scattered(100)),
            new("4096 pages, each elsewhere", scattered(4096)),
            Self {
                exact: true,
                ..new("4096 pages, each elsewhere, one by one", scattered(4096))
            },
            Self {
                name: "the whole domain",
                ranges: None,
                exact: false,
            },
        ]
    }

    /// Ranges, for one who makes a call for each.
    fn calls(&self) -> f64 {
        self.ranges.as_ref().map_or(1, Vec::len) as f64
    }
}

fn main() {
    let mut results = Vec::new();
    for mode in MODES {
        for workload in Workload::all() {
            measure(mode, &workload, &mut results);
        }
    }
    if env::args().any(|argument| argument == "--json") {
        println!("{}", Value::Array(results));
    } else {
        results.iter().for_each(|row| println!("{row}"));
    }
}

/// How a unit is used, and by what name.
type Mode = (&'static str, ModeRequest, TableFormat);

const MODES: [Mode; 3] = [
    ("legacy", ModeRequest::Legacy, TableFormat::SecondStage4),
    (
        "second stage",
        ModeRequest::SecondStage,
        TableFormat::SecondStage4,
    ),
    (
        "first stage",
        ModeRequest::FirstStage,
        TableFormat::FirstStage4,
    ),
];

fn measure(mode: Mode, workload: &Workload, results: &mut Vec<Value>) {
    let (platform, driver) = boot(mode.1, workload.exact);
    let domain = attached(&platform, &driver, mode.2);
    let told = flush(&platform, &driver, domain, workload);
    let calls = workload.calls();
    for (unit, value, peer) in [
        ("descriptors", told.descriptors, 2.0 * calls),
        ("doorbells", told.doorbells, calls),
        ("waits", told.waits, calls),
    ] {
        let value = f64::from(value);
        results.push(json!({
            "name": format!("flush {}, {}", workload.name, mode.0),
            "value": value,
            "unit": unit,
            "peer": "Linux 7.0, by its rules",
            "peer_value": peer,
            "ratio": (value / peer * 1e6).round() / 1e6,
        }));
    }
}

fn boot(mode: ModeRequest, exact: bool) -> (Platforms, Driver) {
    let platform = ModelPlatform::<Event>::new(1 << 11, |machine| {
        machine
            .unit(Config::scalable())
            .device(NIC, 0)
            .freedom(Freedom::Random(1))
    });
    let platform = platform.expect("a possible machine");
    let description = UnitDescription {
        index: 0,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits: 46,
    };
    let config = UnitConfig {
        mode,
        ..UnitConfig::default()
    };
    let unit = Discovered::open(description, ModelMmio::new(&platform, 0), &platform)
        .expect("a unit")
        .quiesce(&platform, TimeLimits::default())
        .expect("it is quiet")
        .prepare(&platform, &config)
        .expect("it is ready");
    let mut config = DriverConfig::default();
    if exact {
        config.costs = CostRule {
            page_selective_limit: u32::MAX,
        };
    }
    let driver = vtd::Driver::new(platform.clone(), [unit], Box::new(|_| Some(0)), &config)
        .expect("there is memory")
        .enable()
        .expect("translation comes on");
    (platform, driver)
}

/// A domain with all pages that workloads take away, and a device in it.
fn attached(platform: &Platforms, driver: &Driver, format: TableFormat) -> DomainHandle {
    let device = DeviceId::new(Segment(0), SourceId::from_bits(NIC));
    let domain = driver
        .create(device, &DomainSpec::Paging(format))
        .expect("a domain");
    let slot = Slot {
        device,
        pasid: None,
    };
    // One page off, so that no large page fits.
    let run = Run {
        hpa: Hpa::new((1 << 32) + 0x1000),
        pages: 0x2000,
    };
    let owed = driver.map(domain, iova(FIRST), &[run], Access::READ_WRITE);
    let replaced = driver.replace(slot, Attachment::Domain(domain));
    let mut batch = Batch::with_capacity(2).expect("room");
    batch.add(owed.expect("mapped")).expect("room");
    batch.add(replaced.expect("attached").owed).expect("room");
    assert!(commit(platform, driver, &mut batch).frames.is_empty());
    domain
}

/// Takes everything away, and settles it with one commit.
fn flush(
    platform: &Platforms,
    driver: &Driver,
    domain: DomainHandle,
    workload: &Workload,
) -> Flushed {
    let ranges = workload.ranges.as_deref().unwrap_or_default();
    let mut batch = Batch::with_capacity(ranges.len().max(1)).expect("room");
    for &(first, pages) in ranges {
        let range = AddressRange::of_pages(iova(first), pages).expect("a range");
        let owed = driver.unmap(domain, range).expect("unmapped");
        batch.add(owed).expect("room");
    }
    if ranges.is_empty() {
        let owed = driver.invalidate(domain, Scope::Everything);
        batch.add(owed.expect("a domain")).expect("room");
    }
    commit(platform, driver, &mut batch)
}

fn commit(platform: &Platforms, driver: &Driver, batch: &mut Batch<'_, Debt>) -> Flushed {
    let mut flushed = driver.commit(batch).expect("hardware confirms");
    while let Some(frame) = flushed.frames.pop() {
        platform.release(frame);
    }
    flushed
}

fn iova(page: u64) -> Iova {
    Iova::new(page << 12)
}
