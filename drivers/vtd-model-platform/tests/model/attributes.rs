//! How pages are accessed: snooping, memory types, supervisor and execute requests.

use crate::guest::{ALL, PRESENT, USER, WRITABLE};
use crate::nesting::{Nest, Privileges};
use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, read, slot, write};
use iommu_core::{
    Access, Attachment, Backend, BackendError, DomainHandle, FaultReason, MemoryType,
    PageAttributes, Pasid, SourceId, TableFormat,
};
use vtd::tables::pasid::PasidEntry;
use vtd::{DeviceTlb, Inspected, MemoryRanges, ModeRequest};
use vtd_model::{Config, Freedom, Promptness, Request, Translations};

const CACHING: u16 = 0x0420;

/// Memory types bring registers of their own, beside which the others must lie.
fn with_types() -> Config {
    Config {
        memory_type: true,
        fault_offset: 0x40,
        iotlb_offset: 0x60,
        ..Config::scalable()
    }
}

fn snooping() -> PageAttributes {
    PageAttributes {
        snoop: true,
        ..PageAttributes::default()
    }
}

fn typed(kind: MemoryType) -> PageAttributes {
    PageAttributes {
        memory_type: Some(kind),
        ..PageAttributes::default()
    }
}

fn create(rig: &Rig, format: TableFormat, attributes: PageAttributes) -> DomainHandle {
    let made = rig.driver.create_with(device(CACHING), format, &attributes);
    made.expect("the unit has it")
}

/// Whether a translation tells its device that accesses are snooped (N).
fn must_snoop(rig: &Rig, address: u64) -> bool {
    let request = Request::read(CACHING, address).translation(false);
    let answer = rig.with(|machine| machine.request_translations(&request, 2, 0xff));
    match answer {
        Translations::Completed(completions) => completions[0].snoop,
        other => panic!("a translation, not {other:?}"),
    }
}

#[test]
fn pages_are_snooped_where_that_is_wanted_in_every_mode() {
    let units = [
        (
            Config {
                device_tlb: true,
                snoop_control: true,
                ..Config::legacy()
            },
            ModeRequest::Legacy,
            TableFormat::SecondStage4,
        ),
        (
            Config::everything(),
            ModeRequest::SecondStage,
            TableFormat::SecondStage4,
        ),
        (
            Config::everything(),
            ModeRequest::FirstStage,
            TableFormat::FirstStage4,
        ),
    ];
    for (config, mode, format) in units {
        for freedom in FREEDOMS {
            for wanted in [false, true] {
                let rig = Plan::new(config.clone())
                    .mode(mode)
                    .freedom(freedom)
                    .ats_device(CACHING, 0, Promptness::Prompt)
                    .start();
                rig.assign(CACHING, 1);
                let attributes = if wanted {
                    snooping()
                } else {
                    PageAttributes::default()
                };
                let domain = create(&rig, format, attributes);
                rig.attach(CACHING, None, domain);
                let settings = DeviceTlb {
                    queue_depth: 0,
                    physical_function: SourceId::from_bits(CACHING),
                    page_requests: false,
                };
                rig.driver
                    .enable_device_tlb(device(CACHING), settings, || Ok::<(), ()>(()))
                    .expect("the unit has device-TLBs");
                let page = rig.page(1);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                rig.assert_reaches(&write(CACHING, 0x7000), page.hpa());
                assert_eq!(must_snoop(&rig, 0x7000), wanted, "{mode:?} {format:?}");
                rig.assert_clean();
            }
        }
    }
}

/// The PASID entry of a device's requests without PASID.
fn entry(rig: &Rig, source: u16) -> PasidEntry {
    let mut found = None;
    rig.driver.inspect(0, &mut |item| {
        if let Inspected::Pasid {
            source: of,
            pasid: Pasid::ZERO,
            entry,
        } = item
            && of.bits() == source
        {
            found = Some(*entry);
        }
    });
    found.expect("it leads somewhere")
}

#[test]
fn memory_types_stand_where_hardware_looks_for_them() {
    let config = with_types();
    for (format, mode) in [
        (TableFormat::SecondStage4, ModeRequest::SecondStage),
        (TableFormat::FirstStage4, ModeRequest::FirstStage),
    ] {
        for kind in [
            MemoryType::WriteBack,
            MemoryType::Uncacheable,
            MemoryType::WriteThrough,
        ] {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .device(CACHING, 0)
                .start();
            rig.assign(CACHING, 1);
            let domain = create(&rig, format, typed(kind));
            rig.attach(CACHING, None, domain);
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            // No reserved bit is in the way.
            rig.assert_reaches(&write(CACHING, 0x7000), page.hpa());
            let entry = entry(&rig, CACHING);
            let mut leaf = 0;
            let mut tell = |step: &iommu_core::WalkStep| leaf = step.words[0];
            let to = rig.driver.explain(
                slot(CACHING, None),
                iommu_core::Iova::new(0x7000),
                Access::WRITE,
                &mut tell,
            );
            assert_eq!(to.map(|hpa| hpa.as_u64() & !0xfff), Ok(page.hpa().as_u64()));
            if format == TableFormat::SecondStage4 {
                assert!(entry.word1.emte());
                assert_eq!(leaf >> 3 & 7, kind as u64, "EMT");
            } else {
                assert_eq!(entry.word1.pat() & 7, kind as u32, "PA0");
                assert_eq!(leaf & 0x98, 0, "leaves choose PA0");
            }
            rig.assert_clean();
        }
    }
}

/// How hardware caches a device's accesses to a page.
fn types(rig: &Rig, address: u64) -> Vec<Option<vtd_model::MemoryType>> {
    let request = read(CACHING, address);
    let accesses = rig.with(|machine| machine.possible_accesses(&request));
    accesses.iter().map(|access| access.memory_type).collect()
}

#[test]
fn pages_are_cached_as_the_domain_says() {
    use vtd_model::MemoryType as Found;
    let uncached = PageAttributes {
        uncached: true,
        ..typed(MemoryType::WriteBack)
    };
    for freedom in FREEDOMS {
        for (attributes, expected) in [
            (PageAttributes::default(), Found::WriteBack),
            (typed(MemoryType::WriteBack), Found::WriteBack),
            (typed(MemoryType::WriteThrough), Found::WriteThrough),
            (typed(MemoryType::WriteCombining), Found::WriteCombining),
            (typed(MemoryType::Uncacheable), Found::Uncacheable),
            (uncached, Found::Uncacheable),
        ] {
            let rig = Plan::new(with_types())
                .mode(ModeRequest::SecondStage)
                .freedom(freedom)
                .device(CACHING, 0)
                .start();
            rig.assign(CACHING, 1);
            let domain = create(&rig, TableFormat::SecondStage4, attributes);
            rig.attach(CACHING, None, domain);
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            assert_eq!(types(&rig, 0x7000), [Some(expected)], "{attributes:?}");
            rig.assert_clean();
        }
    }
}

#[test]
fn a_first_stage_is_cacheable_where_the_cpus_ranges_say_so() {
    use vtd_model::MemoryType as Found;
    let ranges = MemoryRanges {
        // Write-back, and on.
        default_type: 0x806,
        fixed: [0; 11],
        variable: &[],
    };
    for freedom in FREEDOMS {
        for (attributes, expected) in [
            (PageAttributes::default(), Found::WriteBack),
            (typed(MemoryType::WriteThrough), Found::WriteThrough),
            (typed(MemoryType::Uncacheable), Found::Uncacheable),
        ] {
            let rig = Plan::new(with_types())
                .mode(ModeRequest::FirstStage)
                .freedom(freedom)
                .device(CACHING, 0)
                .start();
            rig.assign(CACHING, 1);
            let domain = create(&rig, TableFormat::FirstStage4, attributes);
            rig.attach(CACHING, None, domain);
            let page = rig.page(1);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            rig.assert_reaches(&write(CACHING, 0x7000), page.hpa());
            assert_eq!(
                types(&rig, 0x7000),
                [Some(Found::Uncacheable)],
                "ranges are off"
            );
            rig.driver
                .set_memory_ranges(0, &ranges)
                .expect("it has them");
            assert_eq!(types(&rig, 0x7000), [Some(expected)], "{attributes:?}");
            let one = page.hpa().as_u64() & !0xfffff;
            let uncacheable = MemoryRanges {
                variable: &[(one, 0x3fff_fff0_0800)],
                ..ranges
            };
            rig.driver
                .set_memory_ranges(0, &uncacheable)
                .expect("it has them");
            assert_eq!(
                types(&rig, 0x7000),
                [Some(Found::Uncacheable)],
                "by its range"
            );
            rig.assert_clean();
        }
    }
    let rig = Plan::new(Config::scalable()).start();
    let refused = rig.driver.set_memory_ranges(0, &ranges);
    assert!(matches!(refused, Err(BackendError::Unsupported(_))));
    rig.assert_clean();
}

#[test]
fn a_guests_page_attributes_count_and_never_loosen_those_of_its_memory() {
    use vtd_model::MemoryType as Found;
    const PWT: u64 = 1 << 3;
    const PCD: u64 = 1 << 4;
    for freedom in FREEDOMS {
        for (memory, attributes, expected) in [
            (MemoryType::WriteBack, 0, Found::WriteBack),
            (MemoryType::WriteBack, PWT, Found::WriteThrough),
            (MemoryType::WriteBack, PCD | PWT, Found::Uncacheable),
            (MemoryType::WriteThrough, 0, Found::WriteThrough),
            (MemoryType::WriteCombining, 0, Found::WriteCombining),
            (MemoryType::Uncacheable, PWT, Found::Uncacheable),
            (MemoryType::Uncacheable, 0, Found::Uncacheable),
        ] {
            let rig = Plan::new(with_types())
                .mode(ModeRequest::SecondStage)
                .freedom(freedom)
                .device(CACHING, 0)
                .start();
            let parent = create(&rig, TableFormat::SecondStage4, typed(memory));
            let nest = Nest::over(&rig, (CACHING, None), parent, Privileges::NONE);
            let guest = &nest.guest;
            let data = guest.data(3);
            guest.map(nest.root, 0x7000, data, ALL | attributes);
            rig.assert_reaches(&write(CACHING, 0x7000), guest.hpa(data));
            let found = types(&rig, 0x7000);
            assert_eq!(found, [Some(expected)], "{memory:?} {attributes:#x}");
            rig.assert_clean();
            nest.end(None);
        }
    }
}

#[test]
fn pages_are_cacheable_where_no_table_says_anything_of_it() {
    for (config, mode) in [
        (Config::legacy(), ModeRequest::Legacy),
        (with_types(), ModeRequest::SecondStage),
    ] {
        for freedom in FREEDOMS {
            let rig = Plan::new(config.clone())
                .mode(mode)
                .freedom(freedom)
                .device(CACHING, 0)
                .start();
            let cacheable = [Some(vtd_model::MemoryType::WriteBack)];
            let page = rig.page(1);
            let domain = rig.domain(CACHING, TableFormat::SecondStage4);
            rig.attach(CACHING, None, domain);
            rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
            assert_eq!(types(&rig, 0x7000), cacheable, "{mode:?}");
            rig.lead(CACHING, None, Attachment::PassThrough);
            let found = types(&rig, page.hpa().as_u64());
            assert_eq!(found, cacheable, "{mode:?}, passed through");
            rig.assert_clean();
        }
    }
}

#[test]
fn first_stage_pages_are_cacheable_unless_somebody_wants_otherwise() {
    for (memory_type, pat) in [(true, 0x0746_0746), (false, 0)] {
        let config = Config {
            memory_type,
            ..with_types()
        };
        let rig = Plan::new(config)
            .mode(ModeRequest::FirstStage)
            .device(CACHING, 0)
            .start();
        let domain = rig.domain(CACHING, TableFormat::FirstStage4);
        rig.attach(CACHING, None, domain);
        let word = entry(&rig, CACHING).word1;
        assert_eq!((word.pat(), word.cd(), word.emte()), (pat, false, false));
        rig.assert_clean();
    }
    let config = with_types();
    let rig = Plan::new(config)
        .mode(ModeRequest::FirstStage)
        .device(CACHING, 0)
        .start();
    let uncached = PageAttributes {
        uncached: true,
        ..PageAttributes::default()
    };
    let domain = create(&rig, TableFormat::FirstStage4, uncached);
    rig.attach(CACHING, None, domain);
    assert!(entry(&rig, CACHING).word1.cd());
    rig.assert_clean();
}

#[test]
fn attributes_that_a_unit_lacks_are_refused_by_name_also_later() {
    let refused = |source| BackendError::AttributesUnsupported(device(source));
    let without = Config {
        snoop_control: false,
        memory_type: false,
        ..Config::scalable()
    };
    let with = Config {
        snoop_control: true,
        ..with_types()
    };
    let uncached = PageAttributes {
        uncached: true,
        ..PageAttributes::default()
    };
    for attributes in [snooping(), typed(MemoryType::WriteBack), uncached] {
        let rig = Plan {
            units: vec![with.clone(), without.clone()],
            ..Plan::new(with.clone())
        }
        .mode(ModeRequest::SecondStage)
        .device(OTHER, 1)
        .start();
        let format = TableFormat::SecondStage4;
        let made = rig.driver.create_with(device(OTHER), format, &attributes);
        assert_eq!(made, Err(refused(OTHER)));
        let made = rig.driver.create_with(device(ONE), format, &attributes);
        let domain = made.expect("this unit has it");
        rig.attach(ONE, None, domain);
        let replaced = rig
            .driver
            .replace(slot(OTHER, None), Attachment::Domain(domain));
        assert_eq!(replaced.map(drop), Err(refused(OTHER)));
        rig.assert_clean();
    }
    // Memory types are none of legacy mode.
    let rig = Plan::new(with).mode(ModeRequest::Legacy).start();
    let format = TableFormat::SecondStage4;
    let made = rig
        .driver
        .create_with(device(ONE), format, &typed(MemoryType::WriteBack));
    assert_eq!(made, Err(refused(ONE)));
    let made = rig.driver.create_with(device(ONE), format, &snooping());
    assert!(made.is_ok());
}

#[test]
fn execute_requests_are_refused_for_the_reason_of_the_units_revision() {
    for (major, reason) in [
        (5, FaultReason::EXECUTE_DISABLED),
        (7, FaultReason::EXECUTE_DISABLED),
        (8, FaultReason::EXECUTE_REQUEST),
    ] {
        for (mode, format) in [
            (ModeRequest::FirstStage, TableFormat::FirstStage4),
            (ModeRequest::SecondStage, TableFormat::SecondStage4),
        ] {
            for freedom in FREEDOMS {
                let config = Config {
                    major,
                    ..Config::scalable()
                };
                let rig = Plan::new(config).mode(mode).freedom(freedom).start();
                rig.assign(ONE, 1);
                let domain = rig.domain(ONE, format);
                rig.attach(ONE, Some(5), domain);
                let page = rig.page(1);
                rig.map(domain, 0x7000, page.hpa(), Access::READ_WRITE);
                let plain = read(ONE, 0x7000).with_pasid(5);
                rig.assert_reaches(&plain, page.hpa());
                let execute = Request {
                    execute: true,
                    ..plain
                };
                rig.assert_faults(&execute, reason);
                rig.assert_clean();
            }
        }
    }
}

#[test]
fn supervisor_requests_pass_where_the_guest_may_make_them_and_obey_write_protection() {
    for freedom in [Freedom::Pessimist(1), Freedom::Random(2)] {
        for (supervisor, write_protect) in [(false, true), (true, true), (true, false)] {
            let config = Config {
                supervisor_requests: true,
                ..Config::scalable()
            };
            let rig = Plan::new(config)
                .mode(ModeRequest::SecondStage)
                .freedom(freedom)
                .start();
            let parent = rig.domain(ONE, TableFormat::SecondStage4);
            let privileges = Privileges {
                supervisor,
                write_protect,
            };
            let nest = Nest::over(&rig, (ONE, Some(5)), parent, privileges);
            let (guest, root) = (&nest.guest, nest.root);
            let data = guest.data(3);
            let there = guest.hpa(data);
            guest.map(root, 0x1000, data, ALL);
            guest.map(root, 0x2000, data, PRESENT | USER);
            guest.map(root, 0x3000, data, PRESENT | WRITABLE);
            let user = |request: Request| request.with_pasid(5);
            let supervisor_request = |request: Request| request.with_pasid(5).privileged();
            rig.assert_reaches(&user(write(ONE, 0x1000)), there);
            rig.assert_faults(&user(read(ONE, 0x3000)), FaultReason::USER_DENIED);
            if !supervisor {
                let refused = supervisor_request(read(ONE, 0x1000));
                rig.assert_faults(&refused, FaultReason::SUPERVISOR_DISABLED);
            } else {
                rig.assert_reaches(&supervisor_request(write(ONE, 0x3000)), there);
                let read_only = supervisor_request(write(ONE, 0x2000));
                if write_protect {
                    rig.assert_faults(&read_only, FaultReason::SCALABLE_WRITE_DENIED);
                } else {
                    rig.assert_reaches(&read_only, there);
                }
            }
            rig.assert_clean();
            nest.end(Some(5));
        }
    }
}
