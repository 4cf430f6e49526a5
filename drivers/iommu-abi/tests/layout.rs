//! What must hold for every structure of the interface.

use iommu_abi::*;

/// Name, fields and sizes of a structure, as a value.
struct Described {
    name: &'static str,
    fields: &'static [Field],
    size: usize,
    min_size: usize,
    since: u32,
}

fn describe<T: Layout>() -> Described {
    Described {
        name: T::NAME,
        fields: T::FIELDS,
        size: T::SIZE,
        min_size: T::MIN_SIZE,
        since: T::SINCE,
    }
}

fn argument<T: Argument>() -> (Op, Described) {
    (T::OP, describe::<T>())
}

fn arguments() -> Vec<(Op, Described)> {
    vec![
        argument::<Probe>(),
        argument::<Info>(),
        argument::<DeviceList>(),
        argument::<DeviceInfo>(),
        argument::<Destroy>(),
        argument::<IoasAllocate>(),
        argument::<IoasRanges>(),
        argument::<IoasMap>(),
        argument::<IoasUnmap>(),
        argument::<Bind>(),
        argument::<Unbind>(),
        argument::<Invalidate>(),
        argument::<FaultRead>(),
        argument::<PageResponse>(),
        argument::<PasidAllocate>(),
        argument::<PasidFree>(),
        argument::<LinuxBindGpasid>(),
        argument::<LinuxUnbindGpasid>(),
        argument::<LinuxCacheInvalidate>(),
        argument::<LinuxFaultRead>(),
        argument::<LinuxPageResponse>(),
        argument::<PasidTableBind>(),
        argument::<PasidTableUnbind>(),
        argument::<PasidTableInvalidate>(),
        argument::<RingCreate>(),
        argument::<RingEnter>(),
        argument::<QueueAllocate>(),
        argument::<QueueBind>(),
        argument::<QueueUnbind>(),
    ]
}

fn entries() -> Vec<(Structure, Described)> {
    vec![
        (Structure::DeviceEntry, describe::<DeviceEntry>()),
        (Structure::IovaRange, describe::<IovaRange>()),
        (Structure::InvalidateRange, describe::<InvalidateRange>()),
        (Structure::FaultEvent, describe::<FaultEvent>()),
        (Structure::PageAnswer, describe::<PageAnswer>()),
        (
            Structure::LinuxGpasidBindData,
            describe::<LinuxGpasidBindData>(),
        ),
        (
            Structure::LinuxGpasidBindDataVtd,
            describe::<LinuxGpasidBindDataVtd>(),
        ),
        (
            Structure::LinuxCacheInvalidateInfo,
            describe::<LinuxCacheInvalidateInfo>(),
        ),
        (
            Structure::LinuxInvPasidInfo,
            describe::<LinuxInvPasidInfo>(),
        ),
        (Structure::LinuxInvAddrInfo, describe::<LinuxInvAddrInfo>()),
        (
            Structure::LinuxFaultUnrecoverable,
            describe::<LinuxFaultUnrecoverable>(),
        ),
        (
            Structure::LinuxFaultPageRequest,
            describe::<LinuxFaultPageRequest>(),
        ),
        (
            Structure::LinuxPageResponseData,
            describe::<LinuxPageResponseData>(),
        ),
        (Structure::RingIndices, describe::<RingIndices>()),
        (Structure::RingSubmission, describe::<RingSubmission>()),
        (Structure::RingCompletion, describe::<RingCompletion>()),
    ]
}

#[test]
fn every_operation_has_exactly_one_argument() {
    let declared: Vec<Op> = arguments().iter().map(|(op, _)| *op).collect();
    assert_eq!(declared, Op::ALL);
    let declared: Vec<Structure> = entries().iter().map(|(structure, _)| *structure).collect();
    assert_eq!(declared, Structure::ALL);
}

#[test]
fn every_argument_begins_with_argsz_and_flags() {
    for (op, described) in arguments() {
        let [argsz, flags, ..] = described.fields else {
            panic!("{op:?} is too short");
        };
        assert_eq!((argsz.name, argsz.offset, argsz.size), ("argsz", 0, 4));
        assert_eq!((flags.name, flags.offset, flags.size), ("flags", 4, 4));
    }
}

#[test]
fn fields_follow_each_other_naturally_aligned_and_without_gaps() {
    let all = arguments().into_iter().map(|(_, described)| described);
    for described in all.chain(entries().into_iter().map(|(_, described)| described)) {
        let mut next = 0;
        for field in described.fields {
            assert_eq!(field.offset, next, "{}.{}", described.name, field.name);
            // Elements of an array of bytes or words lie as one of them would.
            let aligned = field.size.next_power_of_two() != field.size || field.size > 8;
            assert!(aligned || field.offset % field.size == 0, "{}", field.name);
            next += field.size;
        }
        assert_eq!(next, described.size, "{}", described.name);
        assert_eq!(described.size % 8, 0, "{}", described.name);
    }
}

#[test]
fn sizes_of_version_1_are_what_they_were() {
    // Callers of version 1 exist for ever: these numbers never change.
    let of_arguments = [
        48, 48, 32, 48, 16, 80, 32, 40, 32, 24, 16, 40, 40, 0, 24, 16,
    ];
    check_sizes(1, &of_arguments);
    for (&structure, size) in Structure::ALL.iter().zip([16, 16, 24, 64]) {
        assert_eq!(size_of_structure(structure, 1), Some(size));
    }
    assert_eq!(size_of_structure(Structure::PageAnswer, 1), None);
}

#[test]
fn sizes_of_version_2_are_what_they_were() {
    let of_arguments = [
        48, 48, 32, 48, 16, 80, 32, 40, 32, 24, 16, 40, 40, 32, 24, 16,
    ];
    check_sizes(2, &of_arguments);
    for (&structure, size) in Structure::ALL.iter().zip([16, 16, 24, 80, 32]) {
        assert_eq!(size_of_structure(structure, 2), Some(size));
    }
}

#[test]
fn sizes_of_version_3_are_what_they_were() {
    let of_arguments = [
        48, 48, 32, 48, 16, 80, 32, 40, 32, 24, 16, 40, 40, 32, 24, 16, 24, 24, 24, 40, 24, 48, 16,
        40, 48, 24, 24, 16, 16,
    ];
    check_sizes(3, &of_arguments);
    for (&structure, size) in Structure::ALL.iter().zip([
        16, 16, 24, 80, 32, 56, 16, 16, 16, 40, 64, 64, 24, 40, 32, 16,
    ]) {
        assert_eq!(size_of_structure(structure, 3), Some(size));
    }
}

/// Sizes of all operations in the order of their numbers; those that came later have none.
#[track_caller]
fn check_sizes(version: u32, sizes: &[usize]) {
    for (place, &op) in Op::ALL.iter().enumerate() {
        let size = sizes.get(place).copied().filter(|&size| size != 0);
        assert_eq!(size_of_argument(op, version), size, "{op:?}");
    }
}

#[test]
fn the_newest_version_has_the_sizes_of_the_types() {
    for (op, described) in arguments() {
        assert_eq!(size_of_argument(op, VERSION), Some(described.size));
        assert_eq!(size_of_argument(op, 0), Some(described.size));
        let first = Some(described.min_size);
        assert_eq!(size_of_argument(op, described.since), first);
        let before = size_of_argument(op, described.since - 1);
        assert_eq!(before.is_some(), described.since == 1, "0 is the newest");
        assert_eq!(size_of_argument(op, VERSION + 1), None);
    }
    for (structure, described) in entries() {
        assert_eq!(size_of_structure(structure, VERSION), Some(described.size));
        assert_eq!(size_of_structure(structure, VERSION + 1), None);
    }
}

#[test]
fn numbers_lead_back_to_their_names() {
    for &op in Op::ALL {
        assert_eq!(Op::from_register(op.as_u32().into()), Some(op));
        assert!((0x100..0x400).contains(&op.as_u32()));
        // Bits beyond the number are not cut off.
        assert_eq!(Op::from_register(u64::from(op.as_u32()) | 1 << 32), None);
    }
    assert_eq!(Op::from_u32(0x3ff), None);
}

#[test]
fn a_new_argument_says_its_size() {
    assert_eq!(Bind::new().argsz, 24);
    assert_eq!(IoasAllocate::new().argsz(), 80);
}

/// Every structure that is this interface's own, apart from those of `linux/iommu.h`.
fn native() -> Vec<Described> {
    let all = arguments().into_iter().map(|(_, described)| described);
    let elements = entries().into_iter().map(|(_, described)| described);
    let foreign = |name: &str| {
        let linux = ["Data", "DataVtd", "Info", "UnrecoverableFault"];
        name.starts_with("Linux") && linux.iter().any(|end| name.ends_with(end))
            || name.starts_with("LinuxFault") && name != "LinuxFaultRead"
    };
    all.chain(elements)
        .filter(|described| !foreign(described.name))
        .collect()
}

/// Why a field says less than a name and a number should; `None` if it does not.
fn opaque(field: &Field) -> Option<&'static str> {
    // Bytes that only their maker understands, or one number in two halves.
    let weak = [
        "low",
        "high",
        "lo",
        "hi",
        "lower",
        "upper",
        "opaque",
        "blob",
        "vendor",
        "private",
        "data",
        "raw",
        "bytes",
        "payload",
        "type",
        "length_low",
        "param",
        "arg",
        "value",
    ];
    // The caller's own number, which comes back to it and means nothing to anybody else.
    if field.name == "user_data" {
        return None;
    }
    let words: Vec<&str> = field.name.split('_').collect();
    if words.iter().any(|word| weak.contains(word)) {
        return Some("a name that says nothing");
    }
    let numbered = field.name.ends_with(|end: char| end.is_ascii_digit());
    if numbered {
        return Some("one of several without a name of its own");
    }
    (![4, 8].contains(&field.size)).then_some("no number of 32 or 64 bits")
}

#[test]
fn every_field_has_a_name_and_is_one_number() {
    for described in native() {
        for field in described.fields {
            let why = opaque(field);
            assert_eq!(why, None, "{}.{}", described.name, field.name);
        }
    }
    assert!(native().len() > 25);
}

#[test]
fn a_field_that_hides_what_it_holds_would_be_noticed() {
    let field = |name, size| Field {
        name,
        offset: 0,
        size,
        direction: Direction::In,
    };
    assert_eq!(opaque(&field("address", 8)), None);
    for (name, size) in [
        ("address_low", 4),
        ("high", 4),
        ("vendor_data", 8),
        ("opaque", 8),
        ("word2", 8),
        ("address", 16),
        ("flags", 3),
        ("type", 4),
    ] {
        assert!(opaque(&field(name, size)).is_some(), "{name} {size}");
    }
}

#[test]
fn what_is_a_vendors_is_told_by_a_tag() {
    // A table's format and an array's model are numbers that have names; what belongs to one
    // of them alone stands in fields of its own.
    for (name, field) in [
        ("IoasAllocate", "format"),
        ("Invalidate", "model"),
        ("LinuxGpasidBindData", "format"),
        ("LinuxCacheInvalidateInfo", "granularity"),
    ] {
        let all = arguments().into_iter().map(|(_, described)| described);
        let mut all = all.chain(entries().into_iter().map(|(_, described)| described));
        let structure = all.find(|described| described.name == name).expect(name);
        assert!(structure.fields.iter().any(|known| known.name == field));
    }
    assert!(!Format::ALL.is_empty() && !InvalidateModel::ALL.is_empty());
}

#[test]
fn no_structure_says_how_long_it_is_but_by_argsz() {
    for (op, described) in arguments() {
        let sizes = described
            .fields
            .iter()
            .filter(|field| ["argsz", "size", "length"].contains(&field.name));
        let names: Vec<&str> = sizes.map(|field| field.name).collect();
        // The length of a mapping is no length of a structure.
        let meant: &[&str] = match op {
            Op::IoasMap | Op::IoasUnmap => &["argsz", "length"],
            _ => &["argsz"],
        };
        let mut names = names;
        names.retain(|name| *name != "size" || op != Op::Probe);
        assert_eq!(names, meant, "{op:?}");
    }
}
