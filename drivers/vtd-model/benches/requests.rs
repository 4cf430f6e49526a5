//! Requests a second on one core: random mode without and with the oracle, and what a
//! pessimist's answer costs.
//!
//! Run with `cargo bench -p vtd-model`.

use divan::Bencher;
use divan::counter::ItemsCount;
use vtd_model::{Config, Freedom, Machine, Owner, Request, Width};

const DEVICE: u16 = 0x0010;
const PAGES: u64 = 1024;
const BATCH: usize = 10_000;

fn main() {
    divan::main();
}

/// A legacy unit with `PAGES` pages mapped from 0, permuted.
fn machine(freedom: Freedom, oracle: bool) -> Machine {
    let mut machine = Machine::builder()
        .unit(Config::legacy())
        .device(DEVICE, 0)
        .freedom(freedom)
        .build()
        .expect("a preset");
    if oracle {
        machine.assign(DEVICE, None, Owner::Guest(1));
        machine.own(0x80_0000, PAGES << 12, Owner::Guest(1));
    }
    for (slot, value) in [
        (0x1000, 0x2001),
        (0x2100, 0x3001),
        (0x2108, 0x102),
        (0x3000, 0x4003),
        (0x4000, 0x5003),
    ] {
        machine.write_u64(slot, value);
    }
    for table in 0..PAGES / 512 {
        machine.write_u64(0x5000 + 8 * table, (0x6000 + (table << 12)) | 3);
    }
    for page in 0..PAGES {
        let target = page * 7 % PAGES;
        machine.write_u64(0x6000 + 8 * page, (0x80_0000 + (target << 12)) | 3);
    }
    machine.write(0, 0x20, Width::Qword, 0x1000);
    for command in [0x4000_0000, 0x8000_0000] {
        machine.write(0, 0x18, Width::Dword, command);
        for _ in 0..100 {
            machine.tick();
        }
    }
    let first = machine.request(&Request::read(DEVICE, 0));
    assert_eq!(first.address(), Some(0x80_0000), "translation is on");
    if oracle {
        machine.expect(DEVICE, None, 0, 0x1000, 0x80_0000, true);
    }
    machine
}

fn run(machine: &mut Machine) -> u64 {
    let mut sum = 0;
    for turn in 0..BATCH as u64 {
        let request = Request::read(DEVICE, (turn * 977 % PAGES) << 12 | turn & 0xfff);
        sum += machine.request(&request).address().unwrap_or(0);
    }
    sum
}

#[divan::bench]
fn random(bencher: Bencher<'_, '_>) {
    let mut machine = machine(Freedom::Random(1), false);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| run(&mut machine));
}

#[divan::bench]
fn random_with_oracle(bencher: Bencher<'_, '_>) {
    let mut machine = machine(Freedom::Random(1), true);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| run(&mut machine));
}

#[divan::bench]
fn pessimist_with_oracle(bencher: Bencher<'_, '_>) {
    let mut machine = machine(Freedom::Pessimist(1), true);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| run(&mut machine));
}

/// Every possible answer to one request.
#[divan::bench]
fn pessimist_all_answers(bencher: Bencher<'_, '_>) {
    let machine = machine(Freedom::Pessimist(1), true);
    bencher
        .counter(ItemsCount::new(1_usize))
        .bench_local(|| machine.possible(&Request::read(DEVICE, 0x5000)).len());
}

/// One store to a mapped page's entry, judged.
#[divan::bench]
fn pessimist_store(bencher: Bencher<'_, '_>) {
    let mut machine = machine(Freedom::Pessimist(1), true);
    let mut turn = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        turn += 1;
        machine.write_u64(
            0x6000 + 8 * (turn % PAGES),
            (0x80_0000 + ((turn * 5 % PAGES) << 12)) | 3,
        );
    });
}
