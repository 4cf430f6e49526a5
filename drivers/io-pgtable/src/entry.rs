//! What one paging entry means, and how one is made. Pure functions on numbers: nothing
//! here touches memory, so a walker of guests' tables uses them as well as a driver.
//!
//! The rules are those of revision 5.10: what it ignores is ignored here (XD among it),
//! what it reserves is refused, and nothing of an entry that is not present is looked at.

use crate::geometry::{MAX_LEVEL, is_below, span_shift};
use crate::spec::{FirstStageEntry, SecondStageEntry};
use iommu_core::{Access, Address, Hpa, LeafSizes, Order, PAGE_SHIFT, Stage, TableFormat};

/// What the unit, or the virtual unit that a guest sees, accepts in entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Bits of physical address (HAW); higher address bits of an entry are reserved.
    pub host_bits: u8,
    /// Large leaves of this stage (CAP.FS1GP, CAP.SSLPS). The first stage accepts 2 MiB
    /// leaves on every unit, whatever is said here.
    pub leaves: LeafSizes,
    /// SNP may be set in second-stage leaves (ECAP.SC).
    pub snoop_control: bool,
}

/// What an entry means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Entry {
    /// A walk ends here without a translation.
    NotPresent,
    /// The entry leads to a table one level down.
    Table {
        /// Where that table lies, page-aligned, in the space that the entries speak of:
        /// host-physical, or guest-physical in a guest's own table.
        address: u64,
        /// What the entry allows below it. A present first-stage entry allows reading.
        access: Access,
        /// Requests of user privilege may pass. Always true in the second stage.
        user: bool,
    },
    /// The entry maps a page, whose size is the span of its level.
    Leaf {
        /// The page, aligned to its size, in the same space.
        address: u64,
        /// What the entry allows.
        access: Access,
        /// Requests of user privilege may pass. Always true in the second stage.
        user: bool,
    },
    /// The entry is present and has a reserved bit set: a walk ends here with a fault.
    Reserved,
}

/// What an entry of `level` in a table of `format` means. A level that the format does not
/// have holds nothing but [`Entry::Reserved`].
pub fn decode(format: TableFormat, level: u8, entry: u64, limits: &Limits) -> Entry {
    if level == 0 || level > format.levels() {
        return Entry::Reserved;
    }
    match format.stage() {
        Stage::First => decode_first(level, FirstStageEntry::from_bits(entry), limits),
        Stage::Second => decode_second(level, SecondStageEntry::from_bits(entry), limits),
    }
}

/// Whether hardware looks at the entry at all: P in the first stage, R or W in the second.
pub fn is_present(format: TableFormat, entry: u64) -> bool {
    match format.stage() {
        Stage::First => FirstStageEntry::from_bits(entry).present(),
        Stage::Second => {
            let entry = SecondStageEntry::from_bits(entry);
            entry.read() || entry.write()
        }
    }
}

/// Whether a present entry of a level with large pages is one (PS, in both stages), or
/// would be if it obeyed the rules.
pub(crate) fn is_large(entry: u64) -> bool {
    SecondStageEntry::from_bits(entry).page_size()
}

/// Whether a leaf of the second stage is marked as written through.
pub(crate) fn is_dirty(entry: u64) -> bool {
    SecondStageEntry::from_bits(entry).dirty()
}

/// The same second-stage leaf, marked.
pub(crate) fn with_dirty(entry: u64) -> u64 {
    SecondStageEntry::from_bits(entry)
        .with_dirty(true)
        .into_bits()
}

/// The same second-stage leaf, not marked.
pub(crate) fn without_dirty(entry: u64) -> u64 {
    SecondStageEntry::from_bits(entry)
        .with_dirty(false)
        .into_bits()
}

/// The first of the leaves of `level` that together are the large leaf `entry` of the level
/// above, with all its attributes and flags.
pub(crate) fn first_part(format: TableFormat, level: u8, entry: u64) -> u64 {
    match format.stage() {
        // At level 1 PAT lies where PS is above; in large leaves it is the lowest address
        // bit.
        Stage::First => {
            let large = FirstStageEntry::from_bits(entry);
            let pat = large.frame() & 1 != 0;
            let part = large.with_frame(large.frame() & !1);
            if level == 1 {
                part.with_page_size(pat).into_bits()
            } else {
                entry
            }
        }
        Stage::Second => SecondStageEntry::from_bits(entry)
            .with_page_size(level > 1)
            .into_bits(),
    }
}

/// An entry that leads to `table`, with all rights, so that leaves alone decide. In the
/// first stage A is set already, because a unit whose walks do not snoop cannot set it.
///
/// Level 1 has no tables below it, and an address must be page-aligned and have at most 52
/// bits; otherwise the result is 0, which is not present.
pub fn encode_table(format: TableFormat, level: u8, table: Hpa) -> u64 {
    if level < 2 || level > format.levels() {
        return 0;
    }
    let Some(frame) = frame_of(table, PAGE_SHIFT) else {
        return 0;
    };
    match format.stage() {
        Stage::First => FirstStageEntry::new()
            .with_present(true)
            .with_writable(true)
            .with_user(true)
            .with_accessed(true)
            .with_frame(frame)
            .into_bits(),
        Stage::Second => SecondStageEntry::new()
            .with_read(true)
            .with_write(true)
            .with_frame(frame)
            .into_bits(),
    }
}

/// An entry of level 1, 2 or 3 that maps `page`. In the first stage user requests pass,
/// and A and D are set already, because a unit whose walks do not snoop cannot set them.
///
/// The result is 0, which is not present, where no such entry exists or it would allow
/// more than was asked for:
/// - no access at all;
/// - write-only in the first stage, where every present page can be read: who accepts that
///   asks for [`Access::READ_WRITE`];
/// - a level that has no leaves, or an address that is not aligned to the page's size or
///   has more than 52 bits.
///
/// Whether the unit accepts leaves of this level is for the caller to know.
pub fn encode_leaf(format: TableFormat, level: u8, page: Hpa, access: Access) -> u64 {
    if !(1..=3).contains(&level) || access.is_none() {
        return 0;
    }
    let Some(frame) = frame_of(page, span_shift(level)) else {
        return 0;
    };
    match format.stage() {
        Stage::First if !access.reads() => 0,
        Stage::First => FirstStageEntry::new()
            .with_present(true)
            .with_writable(access.writes())
            .with_user(true)
            .with_accessed(true)
            .with_dirty(true)
            .with_page_size(level > 1)
            .with_frame(frame)
            .into_bits(),
        Stage::Second => SecondStageEntry::new()
            .with_read(access.reads())
            .with_write(access.writes())
            .with_page_size(level > 1)
            .with_frame(frame)
            .into_bits(),
    }
}

fn decode_first(level: u8, entry: FirstStageEntry, limits: &Limits) -> Entry {
    if !entry.present() {
        return Entry::NotPresent;
    }
    let address = address_of(entry.frame());
    if !is_below(address, limits.host_bits) {
        return Entry::Reserved;
    }
    let leaves = LeafSizes {
        mib2: true,
        ..limits.leaves
    };
    let access = if entry.writable() {
        Access::READ_WRITE
    } else {
        Access::READ
    };
    let user = entry.user();
    match Shape::of(level, entry.page_size(), leaves) {
        Shape::Table => Entry::Table {
            address,
            access,
            user,
        },
        Shape::Leaf(size) => {
            // The lowest address bit of a large leaf is PAT.
            let attribute = FirstStageEntry::new().with_frame(u64::from(level > 1));
            let address = address & !attribute.into_bits();
            if !Hpa::new(address).is_aligned(size.shift()) {
                return Entry::Reserved;
            }
            Entry::Leaf {
                address,
                access,
                user,
            }
        }
        Shape::Reserved => Entry::Reserved,
    }
}

fn decode_second(level: u8, entry: SecondStageEntry, limits: &Limits) -> Entry {
    let access = match (entry.read(), entry.write()) {
        (false, false) => return Entry::NotPresent,
        (true, false) => Access::READ,
        (false, true) => Access::WRITE,
        (true, true) => Access::READ_WRITE,
    };
    let address = address_of(entry.frame());
    if entry.io_write() || !is_below(address, limits.host_bits) {
        return Entry::Reserved;
    }
    match Shape::of(level, entry.page_size(), limits.leaves) {
        Shape::Table if !entry.snoop() => Entry::Table {
            address,
            access,
            user: true,
        },
        Shape::Leaf(size)
            if Hpa::new(address).is_aligned(size.shift())
                && (limits.snoop_control || !entry.snoop()) =>
        {
            Entry::Leaf {
                address,
                access,
                user: true,
            }
        }
        _ => Entry::Reserved,
    }
}

/// What level and PS make of a present entry.
enum Shape {
    Table,
    Leaf(Order),
    Reserved,
}

impl Shape {
    fn of(level: u8, page_size: bool, leaves: LeafSizes) -> Self {
        match (level, page_size) {
            (1, _) => Self::Leaf(Order::PAGE),
            (2, true) if leaves.mib2 => Self::Leaf(Order::PAGE_2M),
            (3, true) if leaves.gib1 => Self::Leaf(Order::PAGE_1G),
            (2..=MAX_LEVEL, false) => Self::Table,
            _ => Self::Reserved,
        }
    }
}

/// The number of the frame at `address`, if that is aligned and fits an entry.
fn frame_of(address: Hpa, shift: u32) -> Option<u64> {
    let frame = address.as_u64().checked_shr(PAGE_SHIFT)?;
    (address.is_aligned(shift) && is_below(address.as_u64(), 52)).then_some(frame)
}

/// The address of a frame number of at most 40 bits.
fn address_of(frame: u64) -> u64 {
    frame << PAGE_SHIFT
}
