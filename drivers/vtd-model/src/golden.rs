//! The golden vectors that every driver can be held against too (`vtd-golden`): what this
//! crate makes of their words is what their fields say.

use crate::caches::Range;
use crate::config::{Config, Depths};
use crate::faults::page_request::PageRequest;
use crate::faults::{FaultLog, Record, RecordKind};
use crate::interrupts::index;
use crate::queue::Command;
use crate::queue::descriptor::{DevicePasid, DeviceRange, Wait, decode, drain};
use crate::remapping::Mode;
use crate::tables::context::{self, TranslationType};
use crate::tables::interrupt::{Delivery, Irte, SourceCheck};
use crate::tables::pasid::{self, Granular};
use crate::tables::{first_stage, root, second_stage};
use vtd_golden::{Structure, Vector, all, vectors};

/// Structures that are tested elsewhere, by a driver's accesses: registers and their rules in
/// `tests/registers.rs`, posted descriptors in `tests/interrupts.rs`.
const BY_ACCESS: [Structure; 23] = [
    Structure::Ver,
    Structure::Ics,
    Structure::Iectl,
    Structure::Pqh,
    Structure::Pqt,
    Structure::Pectl,
    Structure::PostedDescriptor,
    Structure::Gcmd,
    Structure::Gsts,
    Structure::Rtaddr,
    Structure::Ccmd,
    Structure::Iotlb,
    Structure::Iva,
    Structure::Fsts,
    Structure::Fectl,
    Structure::Pmen,
    Structure::Iqh,
    Structure::Iqt,
    Structure::Iqa,
    Structure::Iqercd,
    Structure::Irta,
    Structure::Pqa,
    Structure::Prs,
];

/// Firmware's and chipsets' business: a remapping unit never sees it.
const FOREIGN: [Structure; 1] = [Structure::IoapicEntry];

#[test]
fn what_the_model_decodes_is_what_others_encode() {
    let config = Config::everything();
    let mut seen = 0;
    for vector in all() {
        let structure = vector.structure;
        if BY_ACCESS.contains(&structure) || FOREIGN.contains(&structure) {
            continue;
        }
        check(vector, &config);
        seen += 1;
    }
    assert!(seen >= 100, "{seen} vectors");
}

/// Bits of which these decoders make nothing, by structure and word.
fn unused(structure: Structure, word: usize) -> u64 {
    match (structure, word) {
        // FPD counts in absent entries too: the walk reads it (`tests/scalable.rs`).
        (Structure::PasidDirectory, 0) => 1 << 1,
        // That it is an interrupt request, and in which format, is known by then.
        (Structure::RemappableAddress, 0) => 0xfff0_0010,
        // How many invalidations a device takes at once is a hint (MIP).
        (Structure::DeviceTlbDescriptor, 0) => 0x1f << 16,
        (Structure::PasidDeviceTlbDescriptor, 0) => 0x1f << 4,
        _ => 0,
    }
}

/// A decoder that overlooks a bit, or takes it for another, is told by the vectors: each kind
/// is able to fail.
#[test]
fn no_bit_of_a_word_is_overlooked() {
    let config = Config::everything();
    let mut overlooked = Vec::new();
    let mut seen = 0;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for vector in all() {
        let structure = vector.structure;
        let composed = matches!(structure, Structure::Cap | Structure::Ecap);
        if composed || BY_ACCESS.contains(&structure) || FOREIGN.contains(&structure) {
            continue;
        }
        for (word, value) in vector.words.iter().enumerate() {
            let bits = (0..64).filter(|bit| value & !unused(structure, word) & 1 << bit != 0);
            for bit in bits {
                let mut words = vector.words.to_vec();
                words[word] &= !(1 << bit);
                let without = Vector {
                    words: words.leak(),
                    ..*vector
                };
                let noticed = std::panic::catch_unwind(|| check(&without, &config));
                if noticed.is_ok() {
                    overlooked.push(format!("bit {bit} of word {word}: {vector}"));
                }
                seen += 1;
            }
        }
    }
    std::panic::set_hook(hook);
    assert!(overlooked.is_empty(), "{overlooked:#?}");
    assert!(seen >= 500, "{seen} bits");
}

fn check(vector: &Vector, config: &Config) {
    match vector.structure {
        Structure::Cap | Structure::Ecap => {}
        Structure::Root => roots(vector, config),
        Structure::LegacyContext => legacy_context(vector, config),
        Structure::ScalableContext => scalable_context(vector, config),
        Structure::PasidDirectory => pasid_directory(vector, config),
        Structure::Pasid => pasid_entry(vector, config),
        Structure::FirstStage => first_stage_entry(vector, config),
        Structure::SecondStage => second_stage_entry(vector, config),
        Structure::RemappedInterrupt | Structure::PostedInterrupt => interrupt(vector, config),
        Structure::RemappableAddress => interrupt_request(vector),
        Structure::FaultRecord => fault_record(vector),
        Structure::PageRequest => page_request(vector),
        _ => descriptor(vector, config),
    }
}

fn int<T: TryFrom<u64>>(vector: &Vector, name: &str) -> T {
    let value = T::try_from(vector.get(name));
    value.unwrap_or_else(|_| panic!("{name} fits its field: {vector}"))
}

/// A unit of which a vector is the CAP; what ECAP says is `ecap`.
fn unit(cap: &Vector, ecap: &Vector) -> Config {
    let pasid_bits = || int::<u8>(ecap, "PSS") + 1;
    Config {
        domain_bits: 4 + 2 * int::<u8>(cap, "ND"),
        write_buffer_flush: cap.is("RWBF"),
        protected_low: cap.is("PLMR"),
        protected_high: cap.is("PHMR"),
        caching_mode: cap.is("CM"),
        depths: Depths {
            three: cap.get("SAGAW") & 2 != 0,
            four: cap.get("SAGAW") & 4 != 0,
            five: cap.get("SAGAW") & 8 != 0,
        },
        guest_bits: int::<u8>(cap, "MGAW") + 1,
        host_bits: 39,
        zero_length_read: cap.is("ZLR"),
        fault_offset: int(cap, "FRO"),
        fault_records: int::<u16>(cap, "NFR") + 1,
        second_stage_2m: cap.get("SSLPS") & 1 != 0,
        second_stage_1g: cap.get("SSLPS") & 2 != 0,
        page_selective: cap.is("PSI"),
        max_address_mask: int(cap, "MAMV"),
        draining: cap.is("DRD") && cap.is("DWD"),
        first_stage_1g: cap.is("FS1GP"),
        first_stage_5_level: cap.is("FS5LP"),
        posted_interrupts: cap.is("PI"),
        sirtp_invalidates: cap.is("ESIRTPS"),
        srtp_invalidates: cap.is("ESRTPS"),
        coherent: ecap.is("C"),
        queued_invalidation: ecap.is("QI"),
        device_tlb: ecap.is("DT"),
        interrupt_remapping: ecap.is("IR"),
        x2apic: ecap.is("EIM"),
        pass_through: ecap.is("PT"),
        snoop_control: ecap.is("SC"),
        iotlb_offset: int(ecap, "IRO"),
        max_handle_mask: int(ecap, "MHMV"),
        nested: ecap.is("NEST"),
        page_requests: ecap.is("PRS"),
        supervisor_requests: ecap.is("SRS"),
        no_write_flag: ecap.is("NWFS"),
        pasid_bits: ecap.is("PASID").then(pasid_bits),
        invalidation_throttle: ecap.is("DIT"),
        page_request_drain: ecap.is("PDS"),
        scalable_mode: ecap.is("SMTS"),
        second_stage: ecap.is("SSTS"),
        first_stage: ecap.is("FSTS"),
        walk_coherency: ecap.is("SMPWCS"),
        rid_pasid: ecap.is("RPS"),
        ..Config::legacy()
    }
}

#[test]
fn units_are_composed_as_real_ones_report_themselves() {
    let named = |structure, what| {
        let found = vectors(structure).find(|vector: &&Vector| vector.what == what);
        found.unwrap_or_else(|| panic!("a vector {what}"))
    };
    let pairs = [
        ("QEMU, 48 bits", "QEMU, legacy"),
        ("QEMU, 48 bits", "QEMU, x2APIC"),
        ("QEMU, 48 bits, caching mode", "QEMU, snoop control"),
        ("QEMU, 48 bits", "QEMU, no interrupt remapping"),
        ("QEMU, 48 bits", "QEMU, scalable, second stage"),
        ("QEMU 10.0, first stage", "QEMU 10.0, first stage"),
        (
            "QEMU 11.1, first stage",
            "QEMU 11.1, first stage, PASIDs, page requests",
        ),
        ("client, not for graphics", "client, not for graphics"),
        ("server, posted interrupts", "server"),
    ];
    let mut seen = Vec::new();
    for (cap, ecap) in pairs {
        let (cap, ecap) = (named(Structure::Cap, cap), named(Structure::Ecap, ecap));
        let config = unit(cap, ecap);
        assert_eq!(config.check(), Ok(()), "{cap}; {ecap}");
        assert_eq!([config.capability()], cap.words, "{cap}");
        assert_eq!([config.extended_capability()], ecap.words, "{ecap}");
        seen.extend([cap.what, ecap.what]);
    }
    for vector in vectors(Structure::Cap).chain(vectors(Structure::Ecap)) {
        assert!(seen.contains(&vector.what), "nobody composes {vector}");
    }
}

fn roots(v: &Vector, config: &Config) {
    let expected = match v.is("P") {
        true => root::Root::Table(v.get("CTP") << 12),
        false => root::Root::NotPresent,
    };
    assert_eq!(root::legacy([v.words[0], 0], config), expected, "{v}");
    // Both halves of a scalable-mode entry look so, each for half of the devices.
    for (words, devfn) in [([v.words[0], 0], 0x7f), ([0, v.words[0]], 0x80)] {
        assert_eq!(root::scalable(words, devfn, config), expected, "{v}");
        assert_eq!(
            root::scalable(words, devfn ^ 0xff, config),
            root::Root::NotPresent
        );
    }
}

fn legacy_context(v: &Vector, config: &Config) {
    let expected = context::Legacy {
        kind: match v.get("TT") {
            0 => TranslationType::Untranslated,
            1 => TranslationType::DeviceTlb,
            _ => TranslationType::PassThrough,
        },
        levels: int::<u8>(v, "AW") + 2,
        table: v.get("SSPTPTR") << 12,
        domain: int(v, "DID"),
        fpd: v.is("FPD"),
    };
    let decoded = context::legacy([v.words[0], v.words[1]], config);
    assert_eq!(decoded, Ok(expected), "{v}");
}

fn scalable_context(v: &Vector, config: &Config) {
    let expected = context::Scalable {
        fpd: v.is("FPD"),
        device_tlb: v.is("DTE"),
        pasid_enable: v.is("PASIDE"),
        page_requests: v.is("PRE"),
        permissions: false,
        translated_pasid: false,
        directory: v.get("PASIDDIRPTR") << 12,
        pasids: 1 << (13 + v.get("PDTS")),
        rid_pasid: int(v, "RID_PASID"),
        rid_priv: v.is("RID_PRIV"),
    };
    // A RID_PASID must lie within the directory.
    let directory = v.words[0] | if v.is("RID_PASID") { 7 << 9 } else { 0 };
    let expected = context::Scalable {
        pasids: if v.is("RID_PASID") {
            1 << 20
        } else {
            expected.pasids
        },
        ..expected
    };
    let decoded = context::scalable([directory, v.words[1], 0, 0], config);
    assert_eq!(decoded, Ok(expected), "{v}");
}

fn pasid_directory(v: &Vector, config: &Config) {
    let decoded = pasid::directory(v.words[0], config);
    match v.is("P") {
        true => assert_eq!(
            decoded,
            pasid::Directory::Table(v.get("SMPTBLPTR") << 12),
            "{v}"
        ),
        false => assert_eq!(decoded, pasid::Directory::NotPresent, "{v}"),
    }
}

fn pasid_entry(v: &Vector, config: &Config) {
    let &[low, middle, high] = v.words else {
        panic!("three words: {v}");
    };
    let words = [low, middle, high, 0, 0, 0, 0, 0];
    let entry = pasid::entry(words, config).unwrap_or_else(|_| panic!("valid: {v}"));
    let kind = match v.get("PGTT") {
        1 => Granular::First,
        2 => Granular::Second,
        3 => Granular::Nested,
        _ => Granular::PassThrough,
    };
    assert_eq!((entry.kind, entry.domain), (kind, int(v, "DID")), "{v}");
    if v.get("PGTT") & 2 != 0 {
        let seen = (entry.second_table, entry.second_levels);
        assert_eq!(
            seen,
            (v.get("SSPTPTR") << 12, int::<u8>(v, "AW") + 2),
            "{v}"
        );
    }
    if v.get("PGTT") & 1 != 0 {
        let seen = (entry.first_table, entry.first_levels);
        assert_eq!(
            seen,
            (v.get("FSPTPTR") << 12, int::<u8>(v, "FSPM") + 4),
            "{v}"
        );
    }
    assert_eq!(entry.fpd, v.is("FPD"), "{v}");
    let snoops = (entry.walk_snoop, entry.page_snoop);
    assert_eq!(snoops, (v.is("PWSNP"), v.is("PGSNP")), "{v}");
}

/// A table is looked at in level 4, a page in its own.
fn level(v: &Vector) -> u8 {
    match v.get("LEVEL") {
        0 => 4,
        _ => int(v, "LEVEL"),
    }
}

fn first_stage_entry(v: &Vector, config: &Config) {
    use first_stage::{Entry, Rights};
    let rights = Rights {
        write: v.is("RW"),
        user: v.is("US"),
    };
    let address = v.get("ADDR") << 12;
    let expected = match (v.is("P"), v.is("LEVEL")) {
        (false, _) => Entry::NotPresent,
        (true, false) => Entry::Table { address, rights },
        (true, true) => Entry::Page { address, rights },
    };
    let word = v.words[0];
    assert_eq!(first_stage::decode(word, level(v), config), expected, "{v}");
    let flags = (
        word & first_stage::ACCESSED != 0,
        word & first_stage::DIRTY != 0,
    );
    assert_eq!(flags, (v.is("A"), v.is("D")), "{v}");
}

fn second_stage_entry(v: &Vector, config: &Config) {
    use second_stage::{Entry, Rights};
    let rights = Rights {
        read: v.is("R"),
        write: v.is("W"),
    };
    let address = v.get("ADDR") << 12;
    let expected = match (v.is("R") || v.is("W"), v.is("LEVEL")) {
        (false, _) => Entry::NotPresent,
        (true, false) => Entry::Table { address, rights },
        (true, true) => Entry::Page {
            address,
            rights,
            snoop: v.is("SNP"),
        },
    };
    let word = v.words[0];
    let decoded = second_stage::decode(word, level(v), config, false);
    assert_eq!(decoded, expected, "{v}");
    let flags = (
        word & second_stage::ACCESSED != 0,
        word & second_stage::DIRTY != 0,
    );
    assert_eq!(flags, (v.is("A"), v.is("D")), "{v}");
}

fn interrupt(v: &Vector, config: &Config) {
    let entry = Irte([v.words[0], v.words[1]]);
    assert_eq!(entry.present(), v.is("P"), "{v}");
    assert_eq!(entry.fpd(), v.is("FPD"), "{v}");
    if !v.is("P") {
        return;
    }
    let source = int(v, "SID");
    let check = match v.get("SVT") {
        0 => SourceCheck::None,
        1 => SourceCheck::Id {
            source,
            // SQ: none, function bit 2, bits 2:1, bits 2:0.
            ignored: [0, 4, 6, 7][v.get("SQ") as usize],
        },
        _ => SourceCheck::Bus {
            first: (source >> 8) as u8,
            last: source as u8,
        },
    };
    assert_eq!(entry.source_check(), Some(check), "{v}");
    // Bits 31:16 and 7:0 of DST tell which of the two APIC modes it is for.
    let x2apic = v.get("DST") & 0xffff_00ff != 0;
    let delivery = match v.structure {
        Structure::PostedInterrupt => Delivery::Posted {
            vector: int(v, "V"),
            urgent: v.is("URG"),
            descriptor: v.get("PDA"),
        },
        _ => Delivery::Remapped {
            vector: int(v, "V"),
            mode: int(v, "DLM"),
            level: v.is("TM"),
            logical: v.is("DM"),
            hint: v.is("RH"),
            destination: if x2apic {
                int(v, "DST")
            } else {
                int::<u32>(v, "DST") >> 8
            },
        },
    };
    assert_eq!(entry.delivery(x2apic, config), Some(delivery), "{v}");
}

fn interrupt_request(v: &Vector) {
    let handle: u32 = int(v, "HANDLE");
    let address = v.words[0];
    if v.is("SHV") {
        assert_eq!(index(address, 2), Ok(handle + 2), "{v}");
    } else {
        // The data means something else then.
        assert_eq!(index(address, 0xffff), Ok(handle), "{v}");
    }
}

/// What a descriptor with these fields asks for.
fn command(v: &Vector) -> Command {
    let domain = Some(int(v, "DID"));
    let pages = || {
        let first = v.get("ADDR") << 12;
        let bytes = 0x1000u64 << v.get("AM");
        let last = first + (bytes - 1);
        (Range { first, last }, v.is("IH"))
    };
    match v.structure {
        Structure::IotlbDescriptor => Command::Iotlb {
            domain: domain.filter(|_| v.get("G") != 1),
            pages: (v.get("G") == 3).then(pages),
        },
        Structure::PasidIotlbDescriptor => Command::PasidIotlb {
            domain: int(v, "DID"),
            pasid: int(v, "PASID"),
            pages: (v.get("G") == 3).then(pages),
        },
        Structure::PasidCacheDescriptor => Command::Pasids {
            domain: domain.filter(|_| v.get("G") != 3),
            pasid: (v.get("G") == 1).then(|| int(v, "PASID")),
        },
        Structure::InterruptCacheDescriptor => {
            Command::Interrupts(v.is("G").then(|| (int(v, "IIDX"), int(v, "IM"))))
        }
        Structure::WaitDescriptor => Command::Wait(Wait {
            interrupt: false,
            status: v.is("SW").then(|| (v.get("STATUS"), int(v, "DATA"))),
            fence: v.is("FN"),
            drain_page_requests: v.is("PD"),
        }),
        Structure::PageGroupResponse => Command::PageResponse {
            source: int(v, "RID"),
            pasid: v.is("PP").then(|| int(v, "PASID")),
            group: int(v, "PRGI"),
            code: int(v, "RC"),
        },
        Structure::DeviceTlbDescriptor => Command::DeviceTlb(DeviceRange {
            pasid: DevicePasid::None,
            ..device_range(v)
        }),
        Structure::PasidDeviceTlbDescriptor if v.is("GI") => Command::DeviceTlb(DeviceRange {
            pasid: DevicePasid::All,
            ..device_range(v)
        }),
        Structure::PasidDeviceTlbDescriptor => Command::DeviceTlb(DeviceRange {
            pasid: DevicePasid::One(int(v, "PASID")),
            ..device_range(v)
        }),
        _ => panic!("nobody knows {v}"),
    }
}

/// With S the lowest zero bit of the page number tells the size.
fn device_range(v: &Vector) -> DeviceRange {
    let page = v.get("ADDR");
    let log2 = if v.is("S") {
        page.trailing_ones() + 1
    } else {
        0
    };
    let first = page >> log2 << log2 << 12;
    DeviceRange {
        source: int(v, "SID"),
        physical: int(v, "PFSID"),
        pasid: DevicePasid::None,
        range: Range {
            first,
            last: first + ((0x1000u64 << log2).wrapping_sub(1)),
        },
    }
}

fn descriptor(v: &Vector, config: &Config) {
    let throttled = Config {
        invalidation_throttle: v.is("PFSID"),
        ..config.clone()
    };
    let words = [v.words[0], v.words[1], 0, 0];
    let scalable = decode(words, true, Mode::Scalable, &throttled);
    if v.structure == Structure::ContextCacheDescriptor {
        // The context-cache has no domain ids in scalable mode, and has them in legacy mode.
        let legacy = decode([v.words[0], v.words[1], 0, 0], false, Mode::Legacy, config);
        let source = (v.get("G") == 3).then(|| (int(v, "SID"), 0));
        let domain = (v.get("G") != 1).then(|| int(v, "DID"));
        assert_eq!(legacy, Ok(Command::Contexts { source, domain }), "{v}");
        let domain = None;
        assert_eq!(scalable, Ok(Command::Contexts { source, domain }), "{v}");
        return;
    }
    assert_eq!(scalable, Ok(command(v)), "{v}");
    if v.structure == Structure::IotlbDescriptor {
        // From version 2 on everything is drained.
        let asked = drain(words, &Config::legacy());
        let expected = (v.is("DR"), v.is("DW"));
        assert_eq!((asked.reads, asked.writes), expected, "{v}");
    }
}

fn fault_record(v: &Vector) {
    let condition = crate::Condition::ALL
        .iter()
        .copied()
        .find(|condition| u64::from(condition.code()) == v.get("FR"));
    let record = Record {
        condition: condition.unwrap_or_else(|| panic!("a reason: {v}")),
        source: int(v, "SID"),
        info: v.get("FI"),
        pasid: v.is("PP").then(|| int(v, "PV")),
        privileged: false,
        execute: false,
        kind: if v.is("T1") {
            RecordKind::Read
        } else {
            RecordKind::Write
        },
        address_type: 0,
    };
    let mut log = FaultLog::new(1, false, true);
    log.log(&record);
    assert_eq!([log.word(0, false), log.word(0, true)], v.words, "{v}");
}

fn page_request(v: &Vector) {
    let request = PageRequest {
        source: int(v, "RID"),
        pasid: v.is("PASID_PRESENT").then(|| int(v, "PASID")),
        address: v.get("ADDR") << 12,
        read: v.is("RD"),
        write: v.is("WR"),
        execute: v.is("EXE"),
        privileged: v.is("PRIV"),
        group: int(v, "PRGI"),
        last: v.is("LPIG"),
    };
    assert_eq!(request.words()[..2], *v.words, "{v}");
}
