//! The reference page says what the types say: every structure with its fields, offsets and
//! sizes, every number with its name, nothing that does not exist, and nothing left out.

use iommu_abi::*;
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../docs/guest-interface.md");

/// Rows of the tables below each heading of the third level: the cells of each row.
fn sections() -> BTreeMap<String, Vec<Vec<String>>> {
    let mut sections: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    let mut current = String::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            current = heading.replace('`', "");
        } else if line.starts_with("## ") {
            current.clear();
        } else if let Some(row) = line.strip_prefix("| ") {
            let cells = row.trim_end_matches('|').split(" | ");
            let cells = cells.map(|cell| cell.trim().replace('`', "")).collect();
            sections.entry(current.clone()).or_default().push(cells);
        }
    }
    sections
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::InOut => "in, out",
        Direction::Reserved => "zero",
    }
}

#[track_caller]
fn check_structure<T: Layout>() {
    let sections = sections();
    let heading = format!("{}: {} bytes", T::NAME, T::SIZE);
    let rows = sections
        .get(&heading)
        .unwrap_or_else(|| panic!("no section \"{heading}\""));
    let told: Vec<&[String]> = rows
        .iter()
        .map(|row| &row[..row.len().min(4)])
        .skip(1)
        .take_while(|row| row[0] != "bit")
        .collect();
    let meant: Vec<[String; 4]> = T::FIELDS
        .iter()
        .map(|field| {
            [
                field.offset.to_string(),
                field.size.to_string(),
                field.name.to_string(),
                direction(field.direction).to_string(),
            ]
        })
        .collect();
    assert_eq!(told, meant, "{}", T::NAME);
}

#[track_caller]
fn check_flags<T: Argument>() {
    check_structure::<T>();
    let heading = format!("{}: {} bytes", T::NAME, T::SIZE);
    let rows = &sections()[&heading];
    let flags = rows
        .iter()
        .skip_while(|row| row[0] != "bit")
        .skip(1)
        .filter(|row| !row[1].starts_with("FORMAT_"))
        .map(|row| u32::from_str_radix(row[0].trim_start_matches("0x"), 16).unwrap())
        .fold(0, |flags, bit| flags | bit);
    assert_eq!(flags, T::FLAGS, "{}", T::NAME);
}

#[track_caller]
fn check_numbers(heading: &str, meant: impl Iterator<Item = (u64, String)>) {
    let sections = sections();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let told: Vec<(u64, String)> = sections[heading]
        .iter()
        .skip(1)
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    assert_eq!(told, meant.collect::<Vec<_>>(), "{heading}");
}

macro_rules! check_enumerations {
    ($($name:ident),*) => {
        $(check_numbers(
            stringify!($name),
            $name::ALL.iter().map(|value| (value.as_u32().into(), value.name().to_string())),
        );)*
    };
}

#[test]
fn every_argument_is_told_as_it_is() {
    check_flags::<Probe>();
    check_flags::<Info>();
    check_flags::<DeviceList>();
    check_flags::<DeviceInfo>();
    check_flags::<Destroy>();
    check_flags::<IoasAllocate>();
    check_flags::<IoasRanges>();
    check_flags::<IoasMap>();
    check_flags::<IoasUnmap>();
    check_flags::<Bind>();
    check_flags::<Unbind>();
    check_flags::<Invalidate>();
    check_flags::<FaultRead>();
    check_flags::<PageResponse>();
    check_flags::<PasidAllocate>();
    check_flags::<PasidFree>();
    check_flags::<LinuxBindGpasid>();
    check_flags::<LinuxUnbindGpasid>();
    check_flags::<LinuxCacheInvalidate>();
    check_flags::<LinuxFaultRead>();
    check_flags::<LinuxPageResponse>();
    check_flags::<PasidTableBind>();
    check_flags::<PasidTableUnbind>();
    check_flags::<PasidTableInvalidate>();
    check_flags::<RingCreate>();
    check_flags::<RingEnter>();
    check_flags::<QueueAllocate>();
    check_flags::<QueueBind>();
    check_flags::<QueueUnbind>();
}

#[test]
fn every_array_element_is_told_as_it_is() {
    check_structure::<DeviceEntry>();
    check_structure::<IovaRange>();
    check_structure::<InvalidateRange>();
    check_structure::<FaultEvent>();
    check_structure::<PageAnswer>();
    check_structure::<LinuxGpasidBindData>();
    check_structure::<LinuxGpasidBindDataVtd>();
    check_structure::<LinuxCacheInvalidateInfo>();
    check_structure::<LinuxInvPasidInfo>();
    check_structure::<LinuxInvAddrInfo>();
    check_structure::<LinuxFaultUnrecoverable>();
    check_structure::<LinuxFaultPageRequest>();
    check_structure::<LinuxPageResponseData>();
    check_structure::<RingIndices>();
    check_structure::<RingSubmission>();
    check_structure::<RingCompletion>();
}

#[test]
fn every_number_is_told_with_its_name() {
    check_enumerations!(
        Op,
        Subject,
        Structure,
        Use,
        Format,
        Granularity,
        InvalidateModel,
        FaultEventKind,
        PageResponseCode,
        LinuxGranularity,
        LinuxFaultType,
        LinuxFaultReason,
        LinuxPageResponseCode,
        QueueKind,
        Errno
    );
    check_numbers(
        "Capabilities",
        Capabilities::all()
            .iter_names()
            .map(|(name, bit)| (bit.bits(), name.to_string())),
    );
}

#[test]
fn nothing_is_told_that_does_not_exist() {
    let structures = Op::ALL.len() + Structure::ALL.len();
    let numbers = 15 + 1;
    let example = 1;
    let told = sections().keys().filter(|name| !name.is_empty()).count();
    assert_eq!(told, structures + numbers + example);
}
