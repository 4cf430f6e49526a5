//! Callers of every version are served for ever: what they passed, byte by byte, gets the
//! answers that it got when their version was the newest.
//!
//! The callers are kept as the bytes that they passed (`callers/version-N.txt`, recorded by
//! `record_caller.rs` on a tree of that version) and not as a program, which would follow
//! the types. Guests that were built then are kept too, and run under QEMU
//! (`qemu-tests/callers`). A line is a step:
//!
//! * `write ADDRESS BYTES`: the guest writes.
//! * `call OPERATION ADDRESS RESULT`: a call, and what the result register held.
//! * `expect ADDRESS BYTES [MASK]`: what the guest finds there; bits that are not in the
//!   mask it does not rely on, such as capabilities that its version has no name for.
//! * `reaches PASID ADDRESS nothing|GPA r|rw`: where its device gets, with the machine's
//!   PASID or 0 for none.
//! * `fault ADDRESS`: the device's write there was refused, and recorded.
//!
//! # A caller that is kept never changes
//! Neither the file nor its hash below. If this test fails, the hypervisor is wrong. A
//! version that is finished adds a file.

mod common;

use common::machine::{VM, device};
use common::{Bench, Setup};
use iommu_abi::VERSION;
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{
    Access, FaultKind, FaultReason, FaultRecord, Gpa, Iova, Nanoseconds, Pasid, Slot,
};
use sha2::{Digest, Sha256};

/// Version, record, and its SHA-256.
const CALLERS: [(u32, &str, &str); 3] = [
    (
        1,
        include_str!("callers/version-1.txt"),
        "39c6b0c2ef4ce31ef2f26125b0bc075ce14fd773e75d0846dcb44a4f79b87d9a",
    ),
    (
        2,
        include_str!("callers/version-2.txt"),
        "287e89f3980ba5d4fdc0e78c11a6981badb9d8a8816be0d7c7809dabfbea699d",
    ),
    (
        3,
        include_str!("callers/version-3.txt"),
        "0efa3addf860fbe09159a598fa2e697fc46f979a297b4cd18cd2ae8a4a17381e",
    ),
];

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The guest that a record was made with.
fn bench() -> Bench {
    Bench::new(Setup::new(FirstStage4).quota(|quota| {
        quota.objects = 6;
        quota.pasids = 4;
        quota.fault_events = 4;
    }))
}

/// Does one step; `Err` says what is not as it was.
fn step(bench: &Bench, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["write", at, content] => bench.machine.ram.write_bytes(number(at), &bytes(content)),
        ["call", operation, at, result] => {
            let at = Gpa::new(number(at));
            let now = bench.machine.policy.call(VM, number(operation), at);
            if now != result.parse::<i64>().unwrap() {
                return Err(format!("it returned {now}"));
            }
        }
        ["expect", at, content] => expect(bench, at, content, None)?,
        ["expect", at, content, mask] => expect(bench, at, content, Some(mask))?,
        ["reaches", pasid, address, ref where_to @ ..] => {
            let slot = Slot {
                device: device(4),
                pasid: Pasid::new(pasid.parse().unwrap()).filter(|pasid| *pasid != Pasid::ZERO),
            };
            let now = bench.machine.hardware.walk(slot, number(address));
            let meant = match where_to {
                ["nothing"] => None,
                [gpa, rights] => Some((bench.host(number(gpa)).unwrap(), *rights == "rw")),
                _ => panic!("{line}"),
            };
            if now != meant {
                return Err(format!("it reaches {now:x?}, not {meant:x?}"));
            }
        }
        ["fault", address] => {
            let record = FaultRecord {
                unit: 0,
                device: device(4),
                pasid: None,
                kind: FaultKind::Dma {
                    address: Iova::new(number(address)),
                    access: Access::WRITE,
                },
                reason: FaultReason::FIRST_STAGE_NOT_PRESENT,
                privileged: false,
                at: Nanoseconds(0),
            };
            let told = bench.machine.policy.report(&record);
            told.ok_or("it is nobody's")?;
        }
        _ => panic!("no such step: {line}"),
    }
    Ok(())
}

fn expect(bench: &Bench, at: &str, content: &str, mask: Option<&str>) -> Result<(), String> {
    let meant = bytes(content);
    let mask = mask.map_or_else(|| vec![0xff; meant.len()], bytes);
    let now = bench.machine.ram.read_bytes(number(at), meant.len());
    let now: Vec<u8> = now
        .iter()
        .zip(&mask)
        .map(|(byte, bits)| byte & bits)
        .collect();
    if now == meant {
        Ok(())
    } else {
        Err(format!("{now:02x?}, not {meant:02x?}"))
    }
}

fn replay(version: u32, record: &str) -> usize {
    let bench = bench();
    let mut calls = 0;
    for (index, line) in record.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        calls += usize::from(line.starts_with("call"));
        if let Err(what) = step(&bench, line) {
            panic!("version {version}, line {}: {line}: {what}", index + 1);
        }
    }
    bench.end();
    calls
}

#[test]
fn a_caller_of_every_older_version_gets_the_answers_that_it_got_then() {
    for (version, record, _) in CALLERS {
        assert!(replay(version, record) > 80, "version {version}");
    }
}

#[test]
fn a_caller_of_every_version_is_kept() {
    let kept: Vec<u32> = CALLERS.iter().map(|(version, ..)| *version).collect();
    assert_eq!(kept, (1..=VERSION).collect::<Vec<_>>());
}

#[test]
fn a_caller_that_is_kept_never_changes() {
    for (version, record, hash) in CALLERS {
        let now: String = Sha256::digest(record.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(now, hash, "the caller of version {version} was changed");
    }
}

#[test]
fn a_caller_notices_when_an_answer_is_not_what_it_was() {
    let bench = bench();
    assert!(step(&bench, "call 0x101 0x5a000 -22").is_ok(), "argsz 0");
    assert!(step(&bench, "call 0x101 0x5a000 0").is_err());
    assert!(step(&bench, "write 0x9000 01ff").is_ok());
    assert!(step(&bench, "expect 0x9000 01ff").is_ok());
    assert!(step(&bench, "expect 0x9000 010f ff0f").is_ok());
    assert!(step(&bench, "expect 0x9000 010f").is_err());
    assert!(step(&bench, "reaches 0 0x5000 nothing").is_ok());
    assert!(step(&bench, "reaches 0 0x5000 0x25000 rw").is_err());
    bench.end();
}
