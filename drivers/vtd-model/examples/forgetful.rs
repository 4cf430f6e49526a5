//! A stranger's toy driver on the model: once as it should be, once forgetting an
//! invalidation, once forgetting only that requests may still be under way, and what the
//! model says about it.
//!
//! Run with `cargo run -p vtd-model --example forgetful`.

use vtd_model::{Config, Freedom, Machine, Owner, Request, Violation, Width};

/// A driver for one device in legacy mode. It knows registers and memory, nothing else:
/// in a kernel, these two functions of `Machine` would be volatile accesses.
struct Driver {
    care: Care,
    next_frame: u64,
    queue_tail: u64,
    waits: u32,
}

/// What unmapping does about the caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Care {
    /// Invalidates the IOTLB, and drains what was translated before.
    Careful,
    /// Invalidates and does not drain.
    Hasty,
    /// Does nothing.
    Forgetful,
}

const ROOT: u64 = 0x1000;
const CONTEXT: u64 = 0x2000;
const TABLE: u64 = 0x3000;
const QUEUE: u64 = 0x4000;
const STATUS: u64 = 0x5000;
const DOMAIN: u64 = 1;

impl Driver {
    fn start(machine: &mut Machine, care: Care) -> Self {
        let mut driver = Self {
            care,
            next_frame: 0x10_0000,
            queue_tail: 0,
            waits: 0,
        };
        // 00:02.0: context entry 10h of bus 0, second stage of 4 levels.
        machine.write_u64(ROOT, CONTEXT | 1);
        machine.write_u64(CONTEXT + 0x10 * 16 + 8, DOMAIN << 8 | 2);
        machine.write_u64(CONTEXT + 0x10 * 16, TABLE | 1);
        machine.write(0, 0x90, Width::Qword, QUEUE);
        driver.command(machine, 26); // QIE
        machine.write(0, 0x20, Width::Qword, ROOT);
        driver.command(machine, 30); // SRTP
        driver.submit(machine, [0x11, 0]); // contexts, all
        driver.submit(machine, [0x12, 0]); // IOTLB, all
        driver.command(machine, 31); // TE
        driver
    }

    /// One command, and polling for its status (§11.4.4.1).
    fn command(&mut self, machine: &mut Machine, bit: u32) {
        let status = machine.read(0, 0x1c, Width::Dword) & 0x96ff_ffff;
        machine.write(0, 0x18, Width::Dword, status | 1 << bit);
        while machine.read(0, 0x1c, Width::Dword) >> bit & 1 == 0 {
            machine.tick();
        }
    }

    /// One descriptor and a wait for it (§6.5.2.9).
    fn submit(&mut self, machine: &mut Machine, descriptor: [u64; 2]) {
        self.waits += 1;
        let wait = [u64::from(self.waits) << 32 | 0x25, STATUS];
        for words in [descriptor, wait] {
            machine.write_u64(QUEUE + self.queue_tail, words[0]);
            machine.write_u64(QUEUE + self.queue_tail + 8, words[1]);
            self.queue_tail = (self.queue_tail + 16) % 0x1000;
        }
        machine.write(0, 0x88, Width::Qword, self.queue_tail);
        while machine.read_u32(STATUS) != self.waits {
            machine.tick();
        }
    }

    /// The place of a page's entry; tables are made on the way.
    fn entry(&mut self, machine: &mut Machine, iova: u64) -> u64 {
        let mut table = TABLE;
        for level in (2..=4).rev() {
            let slot = table + (iova >> (12 + 9 * (level - 1)) & 0x1ff) * 8;
            if machine.read_u64(slot) == 0 {
                machine.write_u64(slot, self.next_frame | 3);
                self.next_frame += 0x1000;
            }
            table = machine.read_u64(slot) & !0xfff;
        }
        table + (iova >> 12 & 0x1ff) * 8
    }

    fn map(&mut self, machine: &mut Machine, iova: u64, page: u64) {
        let slot = self.entry(machine, iova);
        machine.write_u64(slot, page | 3);
    }

    fn unmap(&mut self, machine: &mut Machine, iova: u64) {
        let slot = self.entry(machine, iova);
        machine.write_u64(slot, 0);
        // Page-selective, leaf only; DR and DW wait for requests under way (§6.5.4).
        let drain = match self.care {
            Care::Careful => 0xc0,
            Care::Hasty => 0,
            Care::Forgetful => return,
        };
        self.submit(machine, [DOMAIN << 16 | drain | 0x32, iova | 0x40]);
    }
}

const DEVICE: u16 = 0x0010;

/// Maps a guest's page, unmaps it, and gives it back. What was violated, and what the
/// hardware sees in the end.
fn session(care: Care) -> (Vec<Violation>, String) {
    const PAGE: u64 = 0x80_0000;
    let mut machine = Machine::builder()
        .unit(Config::legacy())
        .device(DEVICE, 0)
        .freedom(Freedom::Pessimist(1))
        .build()
        .expect("the preset is a unit that may exist");
    machine.assign(DEVICE, None, Owner::Guest(1));
    machine.own(PAGE, 0x1000, Owner::Guest(1));

    let mut driver = Driver::start(&mut machine, care);
    driver.map(&mut machine, 0x7000, PAGE);
    machine.expect(DEVICE, None, 0x7000, 0x1000, PAGE, true);
    machine.release(DEVICE, None, 0x7000, 0x1000);
    driver.unmap(&mut machine, 0x7000);
    machine.own(PAGE, 0x1000, Owner::Nobody);
    let walk = machine.dump_walk(&Request::read(DEVICE, 0x7000));
    let dump = format!("{walk}{}", machine.dump_caches(0));
    (machine.take_violations(), dump)
}

fn main() {
    for care in [Care::Careful, Care::Hasty, Care::Forgetful] {
        let (violations, dump) = session(care);
        println!("the {care:?} driver: {} violation(s)", violations.len());
        for violation in &violations {
            println!("  {violation:?}");
        }
        if !violations.is_empty() {
            println!("{dump}");
        }
    }
}

#[test]
fn each_driver_is_told_what_it_forgot_and_why() {
    let told = |care| {
        let (violations, _) = session(care);
        violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(Care::Careful), [""; 0]);
    for (care, parts) in [
        (
            Care::Forgetful,
            [
                "can reach 0x800000, which belongs to Nobody, at address 0x7000",
                "needed: IOTLB invalidation (type 2) of domain 0x1, address 0x7000",
            ],
        ),
        (
            Care::Hasty,
            [
                "may still be on its way to 0x800000",
                "needed: DR and DW in an IOTLB invalidation (type 2)",
            ],
        ),
    ] {
        let told = told(care);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(parts.iter().all(|part| told[0].contains(part)), "{told:?}");
    }
}
