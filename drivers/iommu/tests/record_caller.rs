//! Records a caller of the newest version of the interface, as `old_callers.rs` replays it:
//! `cargo test -p iommu --test record_caller -- --nocapture` prints it. Done once for each
//! version, when it is finished; the record is kept and this goes on with the types.

mod common;

use common::machine::{LEAVES, ROOT, VM, device};
use common::tables::FULL;
use common::{Bench, Setup};
use iommu_abi::*;
use iommu_core::TableFormat::FirstStage4;
use iommu_core::{
    Access, FaultKind, FaultReason, FaultRecord, Gpa, Iova, Nanoseconds, Pasid, Slot,
};

/// Where arguments lie, and what they point to.
const ARGUMENT: u64 = 0x5a000;
const ARRAY: u64 = 0x5b000;
/// A PASID directory, and the table behind its first entry.
const DIRECTORY: u64 = 0x28000;
const ENTRIES: u64 = 0x29000;
/// A ring's indices, submissions, completions.
const INDICES: u64 = 0x2a000;
const SUBMISSIONS: u64 = 0x2a100;
const COMPLETIONS: u64 = 0x2a800;
/// The guest's PASID, which is the machine's first.
const PASID: u32 = 9;

/// Fields that a later version may fill in otherwise: a caller does not rely on them.
const LATER: [&str; 5] = [
    "version",
    "capabilities",
    "known_flags",
    "invalidate_entries",
    "shadow_entries",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Recorder {
    bench: Bench,
    lines: Vec<String>,
}

impl Recorder {
    fn say(&mut self, what: &str) {
        self.lines.push(format!("# {what}"));
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.bench.machine.ram.write_bytes(at, bytes);
        self.lines.push(format!("write {at:#x} {}", hex(bytes)));
    }

    fn expect(&mut self, at: u64, bytes: usize) {
        let now = self.bench.machine.ram.read_bytes(at, bytes);
        self.lines.push(format!("expect {at:#x} {}", hex(&now)));
    }

    /// Makes a call, and relies on all of the answer that no later version changes.
    fn call<A: Argument>(&mut self, argument: A) -> (i64, A) {
        self.write(ARGUMENT, argument.as_bytes());
        let (op, at) = (A::OP.as_u32(), Gpa::new(ARGUMENT));
        let result = self.bench.machine.policy.call(VM, op.into(), at);
        self.lines
            .push(format!("call {op:#x} {ARGUMENT:#x} {result}"));
        let mut now = self.bench.machine.ram.read_bytes(ARGUMENT, A::SIZE);
        let answer = A::read_from_bytes(&now).unwrap();
        let mut mask = vec![0xff; now.len()];
        for field in A::FIELDS {
            if LATER.contains(&field.name) {
                let place = field.offset..field.offset + field.size;
                now[place.clone()].fill(0);
                mask[place].fill(0);
            }
        }
        let line = format!("expect {ARGUMENT:#x} {} {}", hex(&now), hex(&mask));
        self.lines.push(line);
        (result, answer)
    }

    fn done<A: Argument>(&mut self, argument: A) -> A {
        let (result, answer) = self.call(argument);
        assert!(result >= 0, "{}: {result}", A::NAME);
        answer
    }

    fn refused<A: Argument>(&mut self, argument: A, errno: Errno) {
        assert_eq!(self.call(argument).0, errno.to_register(), "{}", A::NAME);
    }

    fn reaches(&mut self, pasid: u32, address: u64) {
        let slot = Slot {
            device: device(4),
            pasid: Pasid::new(pasid).filter(|pasid| *pasid != Pasid::ZERO),
        };
        let now = self.bench.machine.hardware.walk(slot, address);
        let where_to = match now {
            None => "nothing".to_owned(),
            Some((hpa, writable)) => {
                let frames = (0..0x60u64).map(|frame| frame << 12);
                let at = |gpa: &u64| self.bench.host(*gpa) == Some(hpa);
                let gpa = frames.into_iter().find(at).unwrap();
                format!("{gpa:#x} {}", if writable { "rw" } else { "r" })
            }
        };
        self.lines
            .push(format!("reaches {pasid} {address:#x} {where_to}"));
    }

    fn fault(&mut self, address: u64) {
        let record = FaultRecord {
            unit: 0,
            device: device(4),
            pasid: None,
            kind: FaultKind::Dma {
                address: Iova::new(address),
                access: Access::WRITE,
            },
            reason: FaultReason::FIRST_STAGE_NOT_PRESENT,
            privileged: false,
            at: Nanoseconds(0),
        };
        self.bench.machine.policy.report(&record).unwrap();
        self.lines.push(format!("fault {address:#x}"));
    }
}

fn record() -> Vec<String> {
    let bench = Bench::new(Setup::new(FirstStage4).quota(|quota| {
        quota.objects = 6;
        quota.pasids = 4;
        quota.fault_events = 4;
    }));
    let mut recorder = Recorder {
        bench,
        lines: Vec::new(),
    };
    what_there_is(&mut recorder);
    linux_structures(&mut recorder);
    pasid_table(&mut recorder);
    queue(&mut recorder);
    ring(&mut recorder);
    recorder.bench.end();
    recorder.lines
}

fn what_there_is(recorder: &mut Recorder) {
    recorder.say("what there is");
    recorder.done(Info::new());
    for (subject, numbers) in [
        (
            Subject::Operation,
            Op::ALL.iter().map(|op| op.as_u32()).collect::<Vec<_>>(),
        ),
        (
            Subject::Structure,
            Structure::ALL.iter().map(|kind| kind.as_u32()).collect(),
        ),
    ] {
        for number in numbers {
            for version in 1..=VERSION {
                recorder.done(Probe {
                    subject: subject.as_u32(),
                    version,
                    number: number.into(),
                    ..Probe::new()
                });
            }
        }
    }
}

fn linux_structures(recorder: &mut Recorder) {
    recorder.say("structures of linux/iommu.h");
    let device_id = recorder.bench.device_id;
    recorder.done(PasidAllocate {
        minimum: PASID,
        maximum: PASID,
        ..PasidAllocate::new()
    });
    let data = LinuxGpasidBindData {
        argsz: 72,
        version: 1,
        format: 1,
        addr_width: 48,
        gpgd: ROOT,
        hpasid: PASID.into(),
        ..LinuxGpasidBindData::default()
    };
    recorder.write(ARRAY, data.as_bytes());
    recorder.write(ARRAY + 56, LinuxGpasidBindDataVtd::default().as_bytes());
    let bind = LinuxBindGpasid {
        device_id,
        structure: ARRAY,
        ..LinuxBindGpasid::new()
    };
    recorder.done(bind);
    recorder.refused(bind, Errno::EBUSY);
    recorder.reaches(1, 0x5000);
    recorder.reaches(1, 0x4000);
    recorder.reaches(0, 0x5000);

    recorder.write(LEAVES + 8 * 5, &(0x30_000 | FULL).to_le_bytes());
    let header = LinuxCacheInvalidateInfo {
        argsz: 56,
        version: 1,
        cache: LinuxCacheInvalidateInfo::IOTLB,
        granularity: LinuxGranularity::Addr as u8,
        padding: [0; 6],
    };
    let extent = LinuxInvAddrInfo {
        flags: LinuxInvAddrInfo::PASID,
        pasid: PASID.into(),
        addr: 0x5000,
        granule_size: 0x1000,
        nb_granules: 1,
        ..LinuxInvAddrInfo::default()
    };
    recorder.write(ARRAY, header.as_bytes());
    recorder.write(ARRAY + 16, extent.as_bytes());
    recorder.done(LinuxCacheInvalidate {
        device_id,
        structure: ARRAY,
        ..LinuxCacheInvalidate::new()
    });
    recorder.reaches(1, 0x5000);

    recorder.fault(0x13000);
    recorder.done(LinuxFaultRead {
        buffer: ARRAY,
        capacity: 4,
        ..LinuxFaultRead::new()
    });
    recorder.expect(ARRAY, 64);
    let response = LinuxPageResponseData {
        argsz: 24,
        version: 1,
        flags: LinuxPageResponseData::PASID_VALID,
        pasid: PASID,
        grpid: 7,
        code: 0,
    };
    recorder.write(ARRAY, response.as_bytes());
    let respond = LinuxPageResponse {
        device_id,
        structure: ARRAY,
        ..LinuxPageResponse::new()
    };
    recorder.refused(respond, Errno::ENOENT);

    recorder.write(ARRAY, data.as_bytes());
    recorder.write(ARRAY + 56, LinuxGpasidBindDataVtd::default().as_bytes());
    let unbind = LinuxUnbindGpasid {
        device_id,
        structure: ARRAY,
        ..LinuxUnbindGpasid::new()
    };
    recorder.done(unbind);
    recorder.refused(unbind, Errno::ENOENT);
    recorder.reaches(1, 0x5000);
    recorder.done(PasidFree {
        pasid: PASID,
        ..PasidFree::new()
    });
}

fn pasid_table(recorder: &mut Recorder) {
    recorder.say("a PASID table of the guest's own");
    let device_id = recorder.bench.device_id;
    let entry = |word0: u64| [word0, 0, ROOT].map(u64::to_le_bytes).concat();
    recorder.write(DIRECTORY, &(ENTRIES | 1).to_le_bytes());
    recorder.write(ENTRIES, &entry(1 | 1 << 6));
    let bind = PasidTableBind {
        device_id,
        directory: DIRECTORY,
        ..PasidTableBind::new()
    };
    recorder.done(bind);
    recorder.refused(bind, Errno::EBUSY);
    recorder.reaches(0, 0x6000);
    let look = PasidTableInvalidate {
        device_id,
        ..PasidTableInvalidate::new()
    };
    // A second stage is not the guest's to ask for.
    recorder.write(ENTRIES, &entry(1 | 2 << 6));
    recorder.reaches(0, 0x6000);
    recorder.done(look);
    recorder.reaches(0, 0x6000);
    recorder.write(ENTRIES, &entry(1 | 1 << 6));
    recorder.done(look);
    recorder.reaches(0, 0x6000);
    let unbind = PasidTableUnbind {
        device_id,
        ..PasidTableUnbind::new()
    };
    recorder.done(unbind);
    recorder.refused(unbind, Errno::ENOENT);
    recorder.reaches(0, 0x6000);
}

fn queue(recorder: &mut Recorder) {
    recorder.say("a queue of events");
    let object_id = recorder.bench.device_id;
    let made = recorder.done(QueueAllocate {
        kind: QueueKind::Events.as_u32(),
        depth: 4,
        ..QueueAllocate::new()
    });
    let queue_id = made.queue_id;
    let bind = QueueBind {
        queue_id,
        object_id,
        ..QueueBind::new()
    };
    recorder.done(bind);
    recorder.refused(bind, Errno::EBUSY);
    recorder.fault(0x14000);
    let own = FaultRead {
        buffer: ARRAY,
        entry_size: FaultEvent::SIZE as u32,
        capacity: 4,
        ..FaultRead::new()
    };
    recorder.done(own);
    recorder.done(FaultRead { queue_id, ..own });
    recorder.expect(ARRAY, FaultEvent::SIZE);
    let destroy = Destroy {
        id: queue_id,
        ..Destroy::new()
    };
    recorder.refused(destroy, Errno::EBUSY);
    recorder.done(QueueUnbind {
        queue_id,
        object_id,
        ..QueueUnbind::new()
    });
    recorder.done(destroy);
    recorder.fault(0x15000);
    recorder.done(own);
}

fn ring(recorder: &mut Recorder) {
    recorder.say("a ring");
    let create = RingCreate {
        indices: INDICES,
        submissions: SUBMISSIONS,
        completions: COMPLETIONS,
        entries: 4,
        first: u32::MAX,
        ..RingCreate::new()
    };
    recorder.refused(
        RingCreate {
            entries: 3,
            ..create
        },
        Errno::EINVAL,
    );
    let ring_id = recorder.done(create).ring_id;
    recorder.expect(INDICES, RingIndices::SIZE);
    for (place, operation) in [(3u64, Op::Info.as_u32()), (0, 0x1ff)] {
        let argument = ARRAY + 0x100 * place;
        let submission = RingSubmission {
            operation,
            argument,
            user_data: 0x70 + place,
            ..RingSubmission::default()
        };
        recorder.write(argument, Info::new().as_bytes());
        recorder.write(SUBMISSIONS + 32 * place, submission.as_bytes());
    }
    recorder.write(INDICES, &1u32.to_le_bytes());
    recorder.done(RingEnter {
        ring_id,
        ..RingEnter::new()
    });
    recorder.expect(COMPLETIONS, 16);
    recorder.expect(COMPLETIONS + 48, 16);
    recorder.done(Destroy {
        id: ring_id,
        ..Destroy::new()
    });
    recorder.refused(
        RingEnter {
            ring_id,
            ..RingEnter::new()
        },
        Errno::ENOENT,
    );
}

#[test]
fn a_record_of_the_newest_version_can_be_made() {
    let lines = record();
    print(&lines);
    let calls = lines.iter().filter(|line| line.starts_with("call"));
    assert!(calls.count() > 80);
    for &op in Op::ALL
        .iter()
        .filter(|op| size_of_argument(**op, 2).is_none())
    {
        let call = format!("call {:#x} ", op.as_u32());
        assert!(lines.iter().any(|line| line.starts_with(&call)), "{op:?}");
    }
}

fn print(lines: &[String]) {
    println!(
        "# A caller of version {VERSION} of the interface: what it passed, what it was answered, and"
    );
    println!(
        "# what its device reached. Recorded when that version was the newest; never changed since."
    );
    for line in lines {
        println!("{line}");
    }
}
