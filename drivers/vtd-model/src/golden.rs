//! Golden vectors: literal words of each structure, the section that lays them out, two
//! sources outside of this project that agree, and what this crate makes of them.
//!
//! The words are spelled out bit by bit from the sources, never composed by code of ours.

use crate::caches::Range;
use crate::config::{Config, Depths};
use crate::faults::page_request::PageRequest;
use crate::interrupts::index;
use crate::queue::Command;
use crate::queue::descriptor::{DevicePasid, DeviceRange, decode};
use crate::remapping::Mode;
use crate::tables::context::{self, TranslationType};
use crate::tables::interrupt::{Delivery, Irte, SourceCheck};
use crate::tables::pasid::{self, Granular};
use crate::tables::{first_stage, root, second_stage};
use std::fmt::Debug;

const QEMU_LINUX: &str = "QEMU intel_iommu_internal.h; Linux iommu/intel/{iommu,pasid}.h";
const QEMU_XEN: &str = "QEMU intel_iommu_internal.h; Xen vtd/iommu.h";
const LINUX_XEN: &str = "Linux iommu/intel/irq_remapping.c; Xen vtd/intremap.c";
const QEMU_RUN: &str = "QEMU 10.0.13 and 11.1.3, read from the running unit; Linux iommu/intel/iommu.h decodes it alike";

#[track_caller]
fn check<T: PartialEq + Debug>(section: &str, sources: &str, got: T, want: T) {
    assert_eq!(got, want, "{section}; {sources}");
}

/// QEMU's units, as far as this model can be configured alike.
fn qemu() -> Config {
    Config {
        depths: Depths {
            three: true,
            four: true,
            five: false,
        },
        protected_low: false,
        protected_high: false,
        zero_length_read: false,
        fault_offset: 0x22,
        fault_records: 1,
        iotlb_offset: 0xf,
        coherent: false,
        x2apic: false,
        snoop_control: false,
        second_stage: false,
        ..Config::legacy()
    }
}

#[test]
fn capability_registers_match_those_read_from_qemu() {
    let registers = |config: &Config| {
        (
            config.check(),
            config.capability(),
            config.extended_capability(),
        )
    };
    let legacy = qemu();
    check(
        "§11.4.2, §11.4.3",
        QEMU_RUN,
        registers(&legacy),
        (Ok(()), 0x00d2_008c_222f_0606, 0xf0_0f4a),
    );
    let eim = Config {
        x2apic: true,
        ..qemu()
    };
    check("§11.4.3", QEMU_RUN, eim.extended_capability(), 0xf0_0f5a);
    let caching = Config {
        caching_mode: true,
        ..qemu()
    };
    check(
        "§11.4.2",
        QEMU_RUN,
        caching.capability(),
        0x00d2_008c_222f_0686,
    );
    let snoop = Config {
        snoop_control: true,
        ..qemu()
    };
    check("§11.4.3", QEMU_RUN, snoop.extended_capability(), 0xf0_0fca);
    let no_remapping = Config {
        interrupt_remapping: false,
        max_handle_mask: 0,
        ..qemu()
    };
    // QEMU leaves MHMV at 0 too then.
    check(
        "§11.4.3",
        QEMU_RUN,
        no_remapping.extended_capability(),
        0x0f42,
    );
    let scalable = Config {
        scalable_mode: true,
        supervisor_requests: true,
        second_stage: true,
        ..qemu()
    };
    check(
        "§11.4.3",
        QEMU_RUN,
        registers(&scalable),
        (Ok(()), 0x00d2_008c_222f_0606, 0x4800_80f0_0f4a),
    );
    let first = Config {
        scalable_mode: true,
        first_stage: true,
        first_stage_1g: true,
        srtp_invalidates: true,
        pasid_bits: Some(20),
        device_tlb: true,
        page_requests: true,
        page_request_drain: true,
        no_write_flag: true,
        ..qemu()
    };
    check(
        "§11.4.2, §11.4.3",
        QEMU_RUN,
        registers(&first),
        (Ok(()), 0x81d2_008c_222f_0606, 0x8d9a_20f0_0f4e),
    );
}

#[test]
fn root_and_context_entries() {
    let config = Config::everything();
    check(
        "§9.1",
        QEMU_XEN,
        root::legacy([0x10_1001, 0], &config),
        root::Root::Table(0x10_1000),
    );
    check(
        "§9.2",
        QEMU_LINUX,
        root::scalable([0x1001, 0x2001], 0x7f, &config),
        root::Root::Table(0x1000),
    );
    check(
        "§9.2",
        QEMU_LINUX,
        root::scalable([0x1001, 0x2001], 0x80, &config),
        root::Root::Table(0x2000),
    );
    let legacy = |kind, domain| context::Legacy {
        kind,
        levels: 4,
        table: 0x11_0000,
        domain,
        fpd: false,
    };
    check(
        "§9.3",
        QEMU_XEN,
        context::legacy([0x11_0001, 0x702], &config),
        Ok(legacy(TranslationType::Untranslated, 7)),
    );
    check(
        "§9.3",
        QEMU_XEN,
        context::legacy([0x11_0005, 0xff_ff02], &config),
        Ok(legacy(TranslationType::DeviceTlb, 0xffff)),
    );
    check(
        "§9.3",
        QEMU_XEN,
        context::legacy([0x11_0009, 0x102], &config),
        Ok(legacy(TranslationType::PassThrough, 1)),
    );
    let scalable = context::Scalable {
        fpd: true,
        device_tlb: true,
        pasid_enable: true,
        page_requests: true,
        permissions: false,
        translated_pasid: false,
        directory: 0x5_5000,
        pasids: 1 << 20,
        rid_pasid: 0xabcde,
        rid_priv: true,
    };
    check(
        "§9.4",
        QEMU_LINUX,
        context::scalable([0x5_5e1f, 0x1a_bcde, 0, 0], &config),
        Ok(scalable),
    );
}

#[test]
fn pasid_entries() {
    let config = Config::everything();
    check(
        "§9.5",
        QEMU_LINUX,
        pasid::directory(0x7_7001, &config),
        pasid::Directory::Table(0x7_7000),
    );
    // Second stage, AW 48, domain 1234h; snooping walks and pages.
    let second = pasid::entry([0x11_0089, 0x0180_1234, 0, 0, 0, 0, 0, 0], &config).expect("valid");
    let seen = (
        second.kind,
        second.second_table,
        second.second_levels,
        second.domain,
        second.walk_snoop,
        second.page_snoop,
    );
    check(
        "§9.6",
        QEMU_LINUX,
        seen,
        (Granular::Second, 0x11_0000, 4, 0x1234, true, true),
    );
    // First stage, 5 levels, SRE, WPE, EAFE.
    let first = pasid::entry([0x41, 9, 0x22_0095, 0, 0, 0, 0, 0], &config).expect("valid");
    let seen = (
        first.kind,
        first.first_table,
        first.first_levels,
        first.supervisor,
        first.write_protect,
        first.extended_accessed,
    );
    check(
        "§9.6",
        QEMU_LINUX,
        seen,
        (Granular::First, 0x22_0000, 5, true, true, true),
    );
    let nested = pasid::entry([0x11_00c9, 9, 0x33_0000, 0, 0, 0, 0, 0], &config).expect("valid");
    let seen = (
        nested.kind,
        nested.second_table,
        nested.first_table,
        nested.first_levels,
    );
    check(
        "§9.6",
        QEMU_LINUX,
        seen,
        (Granular::Nested, 0x11_0000, 0x33_0000, 4),
    );
    let pass = pasid::entry([0x101, 9, 0, 0, 0, 0, 0, 0], &config).expect("valid");
    check("§9.6", QEMU_LINUX, pass.kind, Granular::PassThrough);
    let dirty = pasid::entry([0x11_0289, 9, 0, 0, 0, 0, 0, 0], &config).expect("valid");
    check(
        "§9.6",
        "Linux iommu/intel/pasid.h; OpenVMM intel_vtd/spec",
        dirty.second_dirty,
        true,
    );
}

#[test]
fn paging_entries() {
    use second_stage::{Entry, Rights};
    let config = Config::everything();
    let page = |address, snoop| Entry::Page {
        address,
        rights: Rights::ALL,
        snoop,
    };
    check(
        "§9.8",
        QEMU_XEN,
        second_stage::decode(0x11_1003, 4, &config, false),
        Entry::Table {
            address: 0x11_1000,
            rights: Rights::ALL,
        },
    );
    check(
        "§9.8",
        QEMU_XEN,
        second_stage::decode(0x20_0083, 2, &config, false),
        page(0x20_0000, false),
    );
    check(
        "§9.8",
        QEMU_XEN,
        second_stage::decode(0x4000_0083, 3, &config, false),
        page(0x4000_0000, false),
    );
    check(
        "§9.8",
        QEMU_XEN,
        second_stage::decode(0x5803, 1, &config, false),
        page(0x5000, true),
    );
    check(
        "§9.8",
        "Linux iommu/intel/iommu.h; OpenVMM intel_vtd/spec",
        (second_stage::ACCESSED, second_stage::DIRTY),
        (0x100, 0x200),
    );
    let table = first_stage::Entry::Table {
        address: 0x11_1000,
        rights: first_stage::Rights::ALL,
    };
    check(
        "§9.7",
        QEMU_LINUX,
        first_stage::decode(0x11_1027, 4, &config),
        table,
    );
    let page = first_stage::Entry::Page {
        address: 0x20_0000,
        rights: first_stage::Rights {
            write: false,
            user: true,
        },
    };
    check(
        "§9.7",
        QEMU_LINUX,
        first_stage::decode(0x20_00e5, 2, &config),
        page,
    );
    check(
        "§9.7",
        QEMU_LINUX,
        (first_stage::ACCESSED, first_stage::DIRTY),
        (0x20, 0x40),
    );
}

#[test]
fn interrupt_entries_and_messages() {
    let config = Config::everything();
    // Vector 31h, lowest priority, logical, level, RH; APIC id 0Ah; source F0:1F.7, SVT 1.
    let entry = Irte([0x0000_0a00_0031_003d, 0x4_f0ff]);
    let remapped = Delivery::Remapped {
        vector: 0x31,
        mode: 1,
        level: true,
        logical: true,
        hint: true,
        destination: 0xa,
    };
    check(
        "§9.9",
        LINUX_XEN,
        entry.delivery(false, &config),
        Some(remapped),
    );
    check(
        "§9.9",
        LINUX_XEN,
        entry.source_check(),
        Some(SourceCheck::Id {
            source: 0xf0ff,
            ignored: 0,
        }),
    );
    let posted = Irte([0xabcd_ef40_0055_c001, 0x1_0004_0010]);
    let expected = Delivery::Posted {
        vector: 0x55,
        urgent: true,
        descriptor: 0x1_abcd_ef40,
    };
    check(
        "§9.10",
        LINUX_XEN,
        posted.delivery(false, &config),
        Some(expected),
    );
    // Handle 8001h with subhandle 2: bits 19:5 and 2, SHV 3, format 4.
    check("§5.1.2.2", LINUX_XEN, index(0xfee0_003c, 2), Ok(0x8003));
    check("§5.1.2.2", LINUX_XEN, index(0xfee0_0070, 0xffff), Ok(3));
}

#[test]
fn queue_descriptors() {
    let config = Config::everything();
    let sources = "QEMU intel_iommu.c, reserved-bit masks; Linux iommu/intel/dmar.c";
    let golden = |section, low, high, want| {
        check(
            section,
            sources,
            decode([low, high, 0, 0], true, Mode::Scalable, &config),
            Ok(want),
        )
    };
    golden(
        "§6.5.2.1",
        0x11,
        0,
        Command::Contexts {
            source: None,
            domain: None,
        },
    );
    golden(
        "§6.5.2.3",
        0x1234_00e2,
        0,
        Command::Iotlb {
            domain: Some(0x1234),
            pages: None,
        },
    );
    let pages = Some((
        Range {
            first: 0x20_0000,
            last: 0x3f_ffff,
        },
        true,
    ));
    golden(
        "§6.5.2.3",
        0x7_0032,
        0x20_0049,
        Command::Iotlb {
            domain: Some(7),
            pages,
        },
    );
    let pages = Some((
        Range {
            first: 0x5000,
            last: 0x5fff,
        },
        false,
    ));
    golden(
        "§6.5.2.4",
        0x0003_0000_0007_0036,
        0x5000,
        Command::PasidIotlb {
            domain: 7,
            pasid: 0x3_0000,
            pages,
        },
    );
    golden(
        "§6.5.2.2",
        0x0000_0005_0007_0017,
        0,
        Command::Pasids {
            domain: Some(7),
            pasid: Some(5),
        },
    );
    let range = DeviceRange {
        source: 0x0108,
        physical: 0,
        pasid: DevicePasid::None,
        range: Range {
            first: 0,
            last: 0x1f_ffff,
        },
    };
    golden(
        "§6.5.2.5",
        0x0000_0108_0000_0003,
        0xf_f001,
        Command::DeviceTlb(range),
    );
    let range = DeviceRange {
        pasid: DevicePasid::One(5),
        range: Range {
            first: 0x4000,
            last: 0x5fff,
        },
        ..range
    };
    golden(
        "§6.5.2.6",
        0x0000_0005_0108_0008,
        0x4800,
        Command::DeviceTlb(range),
    );
    golden(
        "§6.5.2.8",
        0x0000_0010_1000_0014,
        0,
        Command::Interrupts(Some((0x10, 2))),
    );
    golden(
        "§7.6.1",
        0x0000_0005_0108_f019,
        0x28,
        Command::PageResponse {
            source: 0x108,
            pasid: Some(5),
            group: 5,
            code: 15,
        },
    );
}

#[test]
fn page_requests() {
    let request = PageRequest {
        source: 0x108,
        pasid: Some(5),
        address: 0x7fff_1234_5000,
        read: true,
        write: false,
        execute: false,
        privileged: true,
        group: 9,
        last: true,
    };
    let words = [0x0020_0005_0108_0101, 0x7fff_1234_504d, 0, 0];
    check(
        "§7.4.1.1",
        "Linux iommu/intel/prq.c; OpenVMM intel_vtd/spec",
        request.words(),
        words,
    );
}
