//! The two ways to use hardware's freedom agree: whatever the random mode does, the
//! pessimist said that it might.
//!
//! A random driver (careless on purpose) acts on two machines that differ in nothing but
//! freedom. Each answer of the random one must be among the pessimist's possible ones.

mod common;

use common::*;
use proptest::prelude::*;
use vtd_model::{Access, Config, Freedom, Request};

const PAGES: u64 = 4;
const TARGETS: u64 = 0x40_0000;
const HOST: u64 = 0x60_0000;

#[derive(Clone, Debug)]
enum Act {
    /// Page, target, rights (0: not present); written back or not.
    Map(u64, u64, u64, bool),
    /// The directory entry over the pages: 0, or the table again.
    Table(bool),
    /// The context or PASID entry: present or not.
    Attach(bool),
    /// Nested: where a guest page comes out, and with which rights.
    Below(u64, u64, u64),
    WriteBack,
    Invalidate(Vec<usize>),
    Request(u64, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..PAGES, 0..4_u64, 0..4_u64, any::<bool>()).prop_map(|(page, target, rights, back)| Act::Map(page, target, rights, back)),
        1 => any::<bool>().prop_map(Act::Table),
        1 => any::<bool>().prop_map(Act::Attach),
        2 => (0..4_u64, 0..3_u64, 0..4_u64).prop_map(|(target, host, rights)| Act::Below(target, host, rights)),
        1 => Just(Act::WriteBack),
        3 => prop::collection::vec(0..10_usize, 1..4).prop_map(Act::Invalidate),
        6 => (0..PAGES, any::<bool>()).prop_map(|(page, write)| Act::Request(page, write)),
    ]
}

/// What a driver could send, right and wrong.
fn descriptor(scalable: bool, choice: usize) -> (u64, u64) {
    let device = u64::from(DEVICE) << 32;
    let legacy = [
        (0x11, 0),
        (0x7_0021, 0),
        (device | 0x7_0031, 0),
        (0x12, 0),
        (0x7_0022, 0),
        (0x8_0022, 0),
        (0x7_0032, 0x40),
        (0x7_0032, 0x1000),
        (0x7_0032, 0x2041),
        (0x04, 0),
    ];
    let with_pasids = [
        (0x11, 0),
        (0x37, 0),
        (5 << 32 | 0x7_0017, 0),
        (0x12, 0),
        (0x7_0022, 0),
        (5 << 32 | 0x7_0026, 0),
        (5 << 32 | 0x7_0036, 0x40),
        (5 << 32 | 0x7_0036, 0x1000),
        (6 << 32 | 0x7_0026, 0),
        (0x7_0032, 0x2041),
    ];
    if scalable {
        with_pasids[choice]
    } else {
        legacy[choice]
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Legacy,
    Second,
    First,
    Nested,
}

struct Side {
    bench: Bench,
    stage: Stage,
    slot: u64,
    directory: (u64, u64),
}

impl Side {
    fn new(config: Config, stage: Stage, freedom: Freedom) -> Self {
        let mut bench = match stage {
            Stage::Legacy => Bench::legacy(config, freedom),
            Stage::Second | Stage::First | Stage::Nested => Bench::scalable(config, freedom),
        };
        let slot = match stage {
            Stage::Legacy => bench.second(0, 1, 0),
            Stage::Second => {
                bench.pasid(5, SECOND_ENTRY);
                bench.second(0, 1, 0)
            }
            Stage::First => {
                bench.pasid(5, FIRST_ENTRY);
                bench.first(0, 1, 0)
            }
            Stage::Nested => {
                bench.pasid(5, NESTED_ENTRY);
                let slot = bench.first(0, 1, 0);
                for page in [FIRST]
                    .into_iter()
                    .chain((0x10_0000..0x10_8000).step_by(0x1000))
                {
                    bench.second(page, 1, page | 3);
                }
                slot
            }
        };
        let directory = parent(&bench, stage);
        bench.flush_all();
        let value = bench.machine.read_u64(directory);
        Self {
            bench,
            stage,
            slot,
            directory: (directory, value),
        }
    }

    fn act(&mut self, act: &Act) {
        let first = matches!(self.stage, Stage::First | Stage::Nested);
        match act {
            Act::Map(page, target, rights, back) => {
                let flags = if first {
                    [0, 0x65, 0x67, 0x61][*rights as usize]
                } else {
                    *rights
                };
                let value = if flags == 0 {
                    0
                } else {
                    (TARGETS + (target << 12)) | flags
                };
                self.bench.machine.write_u64(self.slot + 8 * page, value);
                if *back {
                    self.bench.machine.written_back(self.slot + 8 * page, 8);
                }
            }
            Act::Table(linked) => {
                let (at, value) = self.directory;
                self.bench
                    .machine
                    .write_u64(at, if *linked { value } else { 0 });
            }
            Act::Attach(attached) => {
                let (at, value) = match self.stage {
                    Stage::Legacy => (CONTEXT + 0x10 * 16, SECOND | 1),
                    Stage::Second => (PASIDS + 5 * 64, SECOND_ENTRY[0]),
                    Stage::First => (PASIDS + 5 * 64, FIRST_ENTRY[0]),
                    Stage::Nested => (PASIDS + 5 * 64, NESTED_ENTRY[0]),
                };
                self.bench
                    .machine
                    .write_u64(at, if *attached { value } else { value & !1 });
            }
            Act::Below(target, host, rights) => {
                if self.stage == Stage::Nested {
                    let page = TARGETS + (target << 12);
                    let entry = if *rights == 0 {
                        0
                    } else {
                        (HOST + (host << 12)) | rights
                    };
                    self.bench.second(page, 1, entry);
                }
            }
            Act::WriteBack => {
                for (start, bytes) in [
                    (ROOT, 0x8000),
                    (SECOND, 0x1000),
                    (FIRST, 0x1000),
                    (0x10_0000, 0x8000),
                ] {
                    self.bench.machine.written_back(start, bytes);
                }
            }
            Act::Invalidate(choices) => {
                let descriptors: Vec<_> = choices
                    .iter()
                    .map(|choice| descriptor(self.stage != Stage::Legacy, *choice))
                    .collect();
                self.bench.submit(&descriptors);
            }
            Act::Request(..) => {}
        }
    }

    fn request(&self, page: u64, write: bool) -> Request {
        let access = if write { Access::Write } else { Access::Read };
        let request = Request::new(DEVICE, page << 12, access);
        if self.stage == Stage::Legacy {
            request
        } else {
            request.with_pasid(5)
        }
    }
}

/// Where the directory entry over address 0 lies.
fn parent(bench: &Bench, stage: Stage) -> u64 {
    let first = matches!(stage, Stage::First | Stage::Nested);
    let mut table = if first { FIRST } else { SECOND };
    for _ in 0..2 {
        table = bench.machine.read_u64(table) & 0x000f_ffff_ffff_f000;
    }
    table
}

fn agree(config: &Config, stage: Stage, seed: u64, acts: &[Act]) -> Result<(), TestCaseError> {
    let mut random = Side::new(config.clone(), stage, Freedom::Random(seed));
    let mut pessimist = Side::new(config.clone(), stage, Freedom::Pessimist(seed));
    for act in acts {
        random.act(act);
        pessimist.act(act);
        if let Act::Request(page, write) = act {
            let request = random.request(*page, *write);
            let outcome = random.bench.machine.request(&request);
            let possible = pessimist.bench.machine.possible(&request);
            prop_assert!(
                possible.contains(&outcome),
                "{outcome:x?} is not among {possible:x?}"
            );
        }
    }
    Ok(())
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn in_legacy_mode(seed: u64, acts in acts()) {
        agree(&Config::legacy(), Stage::Legacy, seed, &acts)?;
    }

    #[test]
    fn in_legacy_mode_without_snooping(seed: u64, acts in acts()) {
        agree(&Config::legacy().non_coherent(), Stage::Legacy, seed, &acts)?;
    }

    #[test]
    fn in_caching_mode(seed: u64, acts in acts()) {
        agree(&Config::legacy().with_caching_mode(), Stage::Legacy, seed, &acts)?;
    }

    #[test]
    fn with_a_second_stage_by_pasid(seed: u64, acts in acts()) {
        agree(&Config::scalable(), Stage::Second, seed, &acts)?;
    }

    #[test]
    fn with_a_first_stage_by_pasid(seed: u64, acts in acts()) {
        agree(&Config::scalable(), Stage::First, seed, &acts)?;
    }

    #[test]
    fn with_nested_tables(seed: u64, acts in acts()) {
        agree(&Config::scalable(), Stage::Nested, seed, &acts)?;
    }
}
