//! Host permission tables, by what they permit and what memory they take.

use io_pgtable::PermissionTable;
use iommu_core::{Access, Coherence, Hpa, MapError, Platform, Run};
use test_platform::TestPlatform;

const PAGE: u64 = 0x1000;
const REGION: u64 = 32 << 20;
const RW: Access = Access::READ_WRITE;

fn run(hpa: u64, pages: u64) -> Run {
    Run {
        hpa: Hpa::new(hpa),
        pages,
    }
}

struct Fixture {
    platform: TestPlatform,
    table: PermissionTable,
}

impl Fixture {
    fn new() -> Self {
        let platform = TestPlatform::new(256);
        let table = PermissionTable::new(&platform, Coherence::Snooped).expect("a page");
        Self { platform, table }
    }

    fn permit(&mut self, runs: &[Run], access: Access) -> Result<(), MapError> {
        self.table.prepare(&self.platform, runs, access)?;
        self.table.permit(&self.platform, runs, access);
        assert_eq!(self.table.pages(), self.platform.outstanding());
        Ok(())
    }

    fn permitted(&self, hpa: u64) -> Access {
        self.hardware(hpa, self.table.permitted(Hpa::new(hpa)))
    }

    /// The walk of §4.2.4, made without the code under test.
    fn hardware(&self, hpa: u64, said: Access) -> Access {
        let load = |at: u64| self.platform.device_load(Hpa::new(at)).expect("a table");
        let mut table = self.table.root().as_u64();
        let mut found = Access::NONE;
        for shift in [41, 33, 25, 17] {
            let entry = table + (hpa >> shift & 0xff) * 16;
            if shift == 17 {
                let page = hpa >> 12 & 31;
                let bits = load(entry + page / 16 * 8) >> (page % 16 * 4) & 0xf;
                found = match bits {
                    0 => Access::NONE,
                    1 => Access::READ,
                    2 => Access::WRITE,
                    3 => Access::READ_WRITE,
                    reserved => panic!("{reserved:#x}"),
                };
                break;
            }
            assert_eq!(load(entry), 0, "no permissions for larger pages");
            let pointer = load(entry + 8);
            if pointer & 1 == 0 {
                break;
            }
            table = pointer & 0xf_ffff_ffff_f000;
        }
        assert_eq!(found, said, "{hpa:#x}");
        found
    }

    fn end(self) {
        let mut frames = self.table.destroy(&self.platform);
        while let Some(frame) = frames.pop() {
            self.platform.release(frame);
        }
        assert_eq!(self.platform.outstanding(), 0);
    }
}

#[test]
fn pages_are_permitted_by_their_rights_and_their_neighbours_are_not() {
    let mut fixture = Fixture::new();
    let runs = [run(REGION - 2 * PAGE, 4), run(1 << 48, 1)];
    fixture.permit(&runs, Access::READ).unwrap();
    fixture.permit(&[run(REGION, 1)], Access::WRITE).unwrap();
    for (at, expected) in [
        (REGION - 3 * PAGE, Access::NONE),
        (REGION - 2 * PAGE, Access::READ),
        (REGION, RW),
        (REGION + PAGE, Access::READ),
        (REGION + 2 * PAGE, Access::NONE),
        (1 << 48, Access::READ),
        ((1 << 48) + PAGE, Access::NONE),
    ] {
        assert_eq!(fixture.permitted(at), expected, "{at:#x}");
    }
    fixture.end();
}

#[test]
fn what_was_withdrawn_stays_until_it_is_revoked() {
    let mut fixture = Fixture::new();
    fixture.permit(&[run(0, 64)], RW).unwrap();
    fixture.permit(&[run(5 * PAGE, 1)], Access::READ).unwrap();
    fixture.table.withdraw(Hpa::new(4 * PAGE), 2, RW);
    assert_eq!(fixture.permitted(4 * PAGE), RW);
    // What is permitted meanwhile does not take the rest away early.
    fixture.permit(&[run(6 * PAGE, 1)], RW).unwrap();
    assert_eq!(fixture.permitted(4 * PAGE), RW);
    fixture.table.revoke(&fixture.platform);
    assert_eq!(fixture.permitted(4 * PAGE), Access::NONE);
    assert_eq!(fixture.permitted(5 * PAGE), Access::READ);
    assert_eq!(fixture.permitted(3 * PAGE), RW);
    fixture.end();
}

#[test]
fn a_page_that_cannot_be_counted_any_more_is_refused_whole() {
    let mut fixture = Fixture::new();
    for _ in 0..255 {
        fixture.permit(&[run(PAGE, 1)], Access::READ).unwrap();
    }
    let refused = fixture.permit(&[run(REGION, 1), run(0, 3)], RW);
    assert_eq!(refused, Err(MapError::MappedTooOften(Hpa::new(PAGE))));
    assert_eq!(fixture.table.pages(), fixture.platform.outstanding());
    assert_eq!(fixture.permitted(REGION), Access::NONE);
    fixture.permit(&[run(PAGE, 1)], Access::WRITE).unwrap();
    for _ in 0..255 {
        fixture.table.withdraw(Hpa::new(PAGE), 1, Access::READ);
    }
    fixture.table.revoke(&fixture.platform);
    assert_eq!(fixture.permitted(PAGE), Access::WRITE);
    fixture.end();
}

#[test]
fn memory_that_one_root_page_does_not_govern_is_refused() {
    let mut fixture = Fixture::new();
    let last = (1 << 49) - PAGE;
    let beyond = MapError::BeyondHostWidth(Hpa::new(last));
    assert_eq!(fixture.permit(&[run(last, 2)], RW), Err(beyond));
    assert_eq!(fixture.permit(&[run(last, 1)], RW), Ok(()));
    assert_eq!(fixture.permitted(last), RW);
    fixture.end();
}

#[test]
fn a_failed_allocation_leaves_nothing_behind() {
    for n in 1.. {
        let mut fixture = Fixture::new();
        fixture.permit(&[run(0, 1)], RW).unwrap();
        let before = fixture.platform.outstanding();
        fixture.platform.fail_allocation(n);
        let result = fixture.permit(&[run(REGION - PAGE, 2), run(1 << 41, 1)], RW);
        if fixture.platform.failure_is_pending() {
            fixture.platform.fail_allocation(0);
            // A table and counters beside the first region, and three tables and counters.
            assert_eq!((result, n), (Ok(()), 7));
            fixture.end();
            return;
        }
        assert!(matches!(result, Err(MapError::OutOfFrames(_))));
        assert_eq!(fixture.platform.outstanding(), before, "allocation {n}");
        assert_eq!(fixture.permitted(REGION - PAGE), Access::NONE);
        assert_eq!(fixture.permitted(0), RW);
        fixture.end();
    }
}
