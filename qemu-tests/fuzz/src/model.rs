//! Raw register writes, raw descriptors, raw tables, given to the hardware model.
//!
//! A driver under test may write anything anywhere; the model must answer with a violation
//! at worst. Its memory is small, so that registers, queues and tables meet.

use crate::Bytes;
use std::sync::Arc;
use vtd_model::{
    Access, Config, Freedom, Machine, Owner, PageRequest, Promptness, Ram, Request, Width,
};

const SOURCES: [u16; 4] = [0x0010, 0x0018, 0x0319, 0xffff];
/// Memory, from 0 on.
const BYTES: u64 = 16 << 12;
/// Longer programs find nothing that shorter ones do not.
const STEPS_MOST: usize = 64;

/// Registers that do something when they are written.
const REGISTERS: [usize; 22] = [
    0x18, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x38, 0x3c, 0x40, 0x64, 0x80, 0x88, 0x8c, 0x90, 0xa0, 0xb8,
    0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0x9c,
];

/// Carries the program out.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut machine = machine(&mut bytes);
    for _ in 0..STEPS_MOST {
        if bytes.is_empty() {
            break;
        }
        step(&mut machine, &mut bytes);
    }
    machine.settle(200);
    for violation in machine.take_violations() {
        assert!(!violation.message.is_empty(), "a violation says which");
    }
}

fn machine(bytes: &mut Bytes<'_>) -> Machine {
    let config = match bytes.byte() % 5 {
        0 => Config::legacy(),
        1 => Config::scalable(),
        2 => Config::scalable_with_ats(),
        3 => Config::everything(),
        _ => Config::legacy().non_coherent().with_caching_mode(),
    };
    let seed = u64::from(bytes.byte());
    let freedom = match seed & 3 {
        0 => Freedom::Pessimist(seed),
        _ => Freedom::Random(seed),
    };
    let built = Machine::builder()
        .unit(config)
        .device(SOURCES[0], 0)
        .ats_device(SOURCES[1], 0, Promptness::Prompt)
        .ats_device(SOURCES[2], 0, Promptness::Never)
        .memory(Arc::new(Ram::new(0, BYTES as usize)))
        .freedom(freedom)
        .invalidation_timeout(8)
        .build();
    built.expect("a configuration without contradiction")
}

fn step(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    match bytes.byte() % 32 {
        0..=4 => {
            let (offset, value) = (bytes.one_of(&REGISTERS), word(bytes));
            let width = width(bytes);
            machine.write(0, offset, width, value);
        }
        5 => {
            let (offset, value) = (usize::from(bytes.u16()), bytes.u64());
            let width = width(bytes);
            machine.write(0, offset, width, value);
        }
        6 => {
            let offset = usize::from(bytes.u16());
            let width = width(bytes);
            machine.read(0, offset, width);
        }
        7 => command(machine, bytes),
        8 => queue(machine, bytes),
        9..=12 => descriptor(machine, bytes),
        13..=18 => {
            let (at, value) = (address(bytes), word(bytes));
            machine.write_u64(at, value);
            machine.written_back(at, 8);
        }
        19..=23 => request(machine, bytes),
        24 => {
            let (source, address) = (bytes.one_of(&SOURCES), word(bytes));
            let data = bytes.u32();
            machine.interrupt(source, 0xfee0_0000 | address & 0xf_ffff, data);
            machine.possible_interrupts(source, address, data);
        }
        25 => machine.page_request(&PageRequest {
            source: bytes.one_of(&SOURCES),
            pasid: bytes.flag().then(|| bytes.u32()),
            address: word(bytes),
            read: bytes.flag(),
            write: bytes.flag(),
            execute: bytes.flag(),
            privileged: bytes.flag(),
            group: bytes.u16(),
            last: bytes.flag(),
        }),
        26 => machine.forget(0),
        27 => machine.stray_completion(bytes.one_of(&SOURCES)),
        28 => machine.own(
            address(bytes),
            word(bytes),
            Owner::Guest(bytes.below(3) as u32),
        ),
        29 => machine.assign(bytes.one_of(&SOURCES), None, Owner::Guest(1)),
        30 => machine.sweep(),
        _ => machine.settle(u64::from(bytes.byte())),
    }
}

/// One control bit more or less, as software that knows the rules would.
fn command(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    let status = machine.read(0, 0x1c, Width::Dword) & 0x96ff_ffff;
    let bit = 1 << (23 + bytes.below(9));
    machine.write(0, 0x18, Width::Dword, status ^ bit);
    machine.settle(16);
}

/// A queue somewhere, turned on.
fn queue(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    let wide = u64::from(bytes.flag()) << 11;
    machine.write(0, 0x88, Width::Qword, 0);
    machine.write(0, 0x90, Width::Qword, bytes.below(16) << 12 | wide);
    let status = machine.read(0, 0x1c, Width::Dword) & 0x96ff_ffff;
    machine.write(0, 0x18, Width::Dword, status | 1 << 26);
    machine.settle(16);
}

/// Writes a descriptor where the tail stands, and rings the doorbell.
fn descriptor(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    let base = machine.read(0, 0x90, Width::Qword);
    let tail = machine.read(0, 0x88, Width::Qword);
    let step = if base >> 11 & 1 != 0 { 32 } else { 16 };
    let at = (base & !0xfff).wrapping_add(tail);
    let kind = bytes.byte();
    let low = u64::from(kind & 0xf) | word(bytes) & !0xf;
    let words = [low, word(bytes)];
    for (word, offset) in words.into_iter().chain([0, 0]).zip((0..step).step_by(8)) {
        let noise = if kind & 0x80 != 0 { u64::from(kind) } else { 0 };
        machine.write_u64(
            at.wrapping_add(offset),
            if offset < 16 { word } else { noise },
        );
    }
    let size = 0x1000u64 << (base & 7);
    machine.write(0, 0x88, Width::Qword, tail.wrapping_add(step) % size);
    machine.settle(u64::from(kind >> 4));
}

fn request(machine: &mut Machine, bytes: &mut Bytes<'_>) {
    let access = [
        Access::Read,
        Access::Write,
        Access::Atomic,
        Access::ZeroLengthRead,
    ];
    let source = bytes.one_of(&SOURCES);
    let mut request = Request::new(source, word(bytes), bytes.one_of(&access));
    let how = bytes.byte();
    if how & 1 != 0 {
        request = request.with_pasid(bytes.below(3) as u32);
    }
    if how & 2 != 0 {
        request = request.privileged();
    }
    request.execute = how & 4 != 0;
    request = match how >> 3 & 3 {
        0 => request.translation(how & 32 != 0),
        1 => request.translated(),
        _ => request,
    };
    machine.possible(&request);
    machine.request(&request);
    if how & 64 != 0 {
        machine.ats_access(source, request.pasid, request.address, request.access);
    }
}

fn width(bytes: &mut Bytes<'_>) -> Width {
    bytes.one_of(&[Width::Dword, Width::Qword])
}

/// An address of a cell.
fn address(bytes: &mut Bytes<'_>) -> u64 {
    let page = bytes.below(17) << 12;
    page + 8 * (u64::from(bytes.u16()) % 512)
}

/// A pointer to one of the pages with some low bits, an entry, or raw.
fn word(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.byte() {
        choice @ 0..=127 => u64::from(choice & 15) << 12 | u64::from(bytes.byte()),
        choice @ 128..=159 => u64::from(choice & 15) << 12 | u64::from(bytes.u16() & 0xfff),
        choice @ 160..=191 => u64::from(choice & 31),
        choice @ 192..=199 => 1 << (8 * (choice & 7)),
        _ => bytes.u64(),
    }
}
