//! A guest's memory map as the CPU has it, used by devices as it is.

use crate::rig::{FREEDOMS, ONE, OTHER, Plan, Rig, device, range, read, slot, write};
use iommu_core::{
    Attachment, Backend, BackendError, Coherence, DomainHandle, FaultReason, Frame, Hpa, LeafSizes,
    Order, Platform, Scope, TableFormat,
};
use vtd::{ModeRequest, NotShareable, SharedTables};
use vtd_model::{Config, Freedom};

/// Read, write, execute, for supervisor and user mode; write-back; accessed.
const EPT_TABLE: u64 = 0x507;
/// The same for a page: memory type WB, IPAT, dirty; and suppress-#VE.
const EPT_PAGE: u64 = 0x777 | 1 << 63;
/// Of nested tables: present, writable, user, accessed.
const NPT_TABLE: u64 = 0x27;
/// And dirty.
const NPT_PAGE: u64 = 0x67;

/// Tables that a CPU walks, and their owner.
struct Cpu<'r> {
    rig: &'r Rig,
    format: TableFormat,
    tables: Vec<Frame>,
}

impl<'r> Cpu<'r> {
    fn new(rig: &'r Rig, format: TableFormat) -> Self {
        let root = rig.platform.allocate(Order::PAGE).expect("a page");
        Self {
            rig,
            format,
            tables: vec![root],
        }
    }

    fn root(&self) -> Hpa {
        self.tables[0].hpa()
    }

    fn is_ept(&self) -> bool {
        self.format.stage() == iommu_core::Stage::Second
    }

    /// Stores an entry as the CPU's memory manager does, written back.
    fn set(&mut self, gpa: u64, entry: u64) {
        let link = if self.is_ept() { EPT_TABLE } else { NPT_TABLE };
        let mut table = 0;
        for level in (1..=self.format.levels()).rev() {
            let index = (gpa >> (12 + 9 * (u32::from(level) - 1)) & 0x1ff) as usize;
            if level == 1 {
                let frame = &self.tables[table];
                let platform = &self.rig.platform;
                platform.publish64(frame, index, entry, Coherence::WriteBack);
                return;
            }
            let next = self.tables[table].load(index).expect("an entry") & 0xf_ffff_ffff_f000;
            let known = self.tables.iter().position(|it| it.hpa().as_u64() == next);
            table = known.unwrap_or_else(|| {
                let below = self.rig.platform.allocate(Order::PAGE).expect("a page");
                let value = below.hpa().as_u64() | link;
                let platform = &self.rig.platform;
                platform.publish64(&self.tables[table], index, value, Coherence::WriteBack);
                self.tables.push(below);
                self.tables.len() - 1
            });
        }
    }

    fn map(&mut self, gpa: u64, page: &Frame) {
        let flags = if self.is_ept() { EPT_PAGE } else { NPT_PAGE };
        self.set(gpa, page.hpa().as_u64() | flags);
    }

    fn described(&self) -> SharedTables {
        SharedTables {
            format: self.format,
            root: self.root(),
            leaves: LeafSizes {
                mib2: false,
                gib1: false,
            },
            guest_bits: 39,
            host_bits: 40,
            written_back: true,
            pinned: true,
            flags_set: true,
        }
    }

    fn release(self) {
        for table in self.tables {
            self.rig.platform.release(table);
        }
    }
}

fn told(rig: &Rig, domain: DomainHandle, gpa: u64, leaf_only: bool) {
    let scope = Scope::Range {
        range: range(gpa, 1),
        leaf_only,
    };
    rig.settle(rig.driver.invalidate(domain, scope).expect("a domain"));
}

#[test]
fn a_device_goes_where_the_cpu_goes_and_follows_its_changes() {
    let ept = TableFormat::SecondStage4;
    let units = [
        (Config::legacy(), ModeRequest::Legacy, ept),
        (Config::legacy().non_coherent(), ModeRequest::Legacy, ept),
        (
            Config::legacy().with_caching_mode(),
            ModeRequest::Legacy,
            ept,
        ),
        (Config::scalable(), ModeRequest::SecondStage, ept),
        (
            Config::scalable().non_coherent(),
            ModeRequest::SecondStage,
            ept,
        ),
        (
            Config::scalable(),
            ModeRequest::SecondStage,
            TableFormat::SecondStage5,
        ),
        (Config::everything(), ModeRequest::SecondStage, ept),
        (
            Config::scalable(),
            ModeRequest::FirstStage,
            TableFormat::FirstStage4,
        ),
        (
            Config::scalable().non_coherent(),
            ModeRequest::FirstStage,
            TableFormat::FirstStage4,
        ),
    ];
    for (config, mode, format) in units {
        for freedom in FREEDOMS {
            eprintln!("{mode:?} {format:?} {freedom:?} {config:?}");
            let config = Config {
                depths: vtd_model::Depths {
                    three: true,
                    four: true,
                    five: true,
                },
                guest_bits: 57,
                snoop_control: false,
                ..config.clone()
            };
            let rig = Plan::new(config).mode(mode).freedom(freedom).start();
            rig.assign(ONE, 1);
            let mut cpu = Cpu::new(&rig, format);
            let [first, second] = [(); 2].map(|()| rig.page(1));
            cpu.map(0x12_3000, &first);
            let domain = rig
                .driver
                .create_shared(device(ONE), &cpu.described())
                .expect("it can be shared");
            rig.attach(ONE, None, domain);
            rig.assert_reaches(&write(ONE, 0x12_3456), first.hpa());
            // Present where nothing was.
            cpu.map(0x12_4000, &second);
            told(&rig, domain, 0x12_4000, true);
            rig.assert_reaches(&read(ONE, 0x12_4000), second.hpa());
            // Gone, told, and the page another's.
            cpu.set(0x12_3000, 0);
            told(&rig, domain, 0x12_3000, true);
            rig.assert_blocked(&read(ONE, 0x12_3000));
            rig.assert_reaches(&read(ONE, 0x12_4000), second.hpa());
            rig.platform.release(first);
            rig.assert_clean();
            rig.detach(ONE, None);
            rig.destroy(domain);
            rig.platform.release(second);
            cpu.release();
            rig.assert_clean();
        }
    }
}

#[test]
fn tables_that_a_unit_could_not_use_are_refused_with_what_failed() {
    let config = Config {
        host_bits: 46,
        guest_bits: 48,
        second_stage_1g: false,
        depths: vtd_model::Depths {
            three: true,
            four: true,
            five: false,
        },
        ..Config::scalable()
    };
    let start = |config: Config| {
        Plan::new(config)
            .mode(ModeRequest::SecondStage)
            .freedom(Freedom::Pessimist(1))
            .start()
    };
    let rig = start(config.clone());
    let cpu = Cpu::new(&rig, TableFormat::SecondStage4);
    let good = cpu.described();
    let large = |mib2, gib1| LeafSizes { mib2, gib1 };
    let attempt = |rig: &Rig, tables: SharedTables| {
        rig.driver
            .create_shared(device(ONE), &tables)
            .map(|domain| rig.destroy(domain))
    };
    assert_eq!(attempt(&rig, good), Ok(()));
    assert_eq!(
        attempt(
            &rig,
            SharedTables {
                leaves: large(true, false),
                ..good
            }
        ),
        Ok(())
    );
    let cases = [
        (
            SharedTables {
                leaves: large(true, true),
                ..good
            },
            NotShareable::LargePages(large(true, true)),
        ),
        (
            SharedTables {
                format: TableFormat::SecondStage5,
                ..good
            },
            NotShareable::Format(TableFormat::SecondStage5),
        ),
        (
            SharedTables {
                guest_bits: 49,
                ..good
            },
            NotShareable::GuestWidth { unit: 48 },
        ),
        (
            SharedTables {
                host_bits: 47,
                ..good
            },
            NotShareable::HostWidth { unit: 46 },
        ),
        (
            SharedTables {
                root: Hpa::new(1 << 46),
                ..good
            },
            NotShareable::Root(Hpa::new(1 << 46)),
        ),
        (
            SharedTables {
                root: Hpa::new(good.root.as_u64() + 8),
                ..good
            },
            NotShareable::Root(Hpa::new(good.root.as_u64() + 8)),
        ),
        (
            SharedTables {
                pinned: false,
                ..good
            },
            NotShareable::Pinning,
        ),
    ];
    for (tables, expected) in cases {
        assert_eq!(attempt(&rig, tables), Err(expected));
        assert!(!expected.to_string().is_empty());
    }
    // A unit that snoops takes tables that are not written back, another does not.
    let plain = SharedTables {
        written_back: false,
        ..good
    };
    assert_eq!(attempt(&rig, plain), Ok(()));
    let other = start(config.non_coherent());
    assert_eq!(attempt(&other, plain), Err(NotShareable::Coherence));
    assert_eq!(attempt(&other, good), Ok(()));
    let nested = SharedTables {
        format: TableFormat::FirstStage4,
        flags_set: false,
        ..good
    };
    assert_eq!(attempt(&rig, nested), Ok(()));
    assert_eq!(attempt(&other, nested), Err(NotShareable::Flags));
    // Half of the canonical addresses is not the guest's.
    let wide = SharedTables {
        guest_bits: 48,
        ..nested
    };
    assert_eq!(
        attempt(&rig, wide),
        Err(NotShareable::GuestWidth { unit: 47 })
    );
    cpu.release();
    rig.assert_clean();
}

#[test]
fn another_unit_is_held_to_the_same_conditions() {
    let other = Config {
        second_stage_2m: false,
        second_stage_1g: false,
        ..Config::scalable()
    };
    let rig = Plan {
        units: vec![Config::scalable(), other],
        ..Plan::new(Config::scalable())
    }
    .mode(ModeRequest::SecondStage)
    .device(OTHER, 1)
    .start();
    let cpu = Cpu::new(&rig, TableFormat::SecondStage4);
    for (mib2, allowed) in [(false, true), (true, false)] {
        let tables = SharedTables {
            leaves: LeafSizes { mib2, gib1: false },
            ..cpu.described()
        };
        let domain = rig
            .driver
            .create_shared(device(ONE), &tables)
            .expect("it can be shared");
        rig.attach(ONE, None, domain);
        let replaced = rig
            .driver
            .replace(slot(OTHER, None), Attachment::Domain(domain));
        let done = replaced.map(|replaced| rig.settle(replaced.owed));
        let unsupported = BackendError::Unsupported(device(OTHER));
        assert_eq!(done, if allowed { Ok(()) } else { Err(unsupported) });
        rig.assert_faults(&read(ONE, 0x7000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        rig.detach(ONE, None);
        rig.detach(OTHER, None);
        rig.destroy(domain);
    }
    cpu.release();
    rig.assert_clean();
}
