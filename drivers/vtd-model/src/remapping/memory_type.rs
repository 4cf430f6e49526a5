//! Memory types (§3.11) and snooping (§3.10) of the page that a request reaches.
//!
//! Both matter to devices inside the processors' coherency domain, and snooping to all
//! others too. A walk collects what the entries say ([`Typing`], which the IOTLB keeps with
//! a translation); what it comes to, with the memory type range registers, is worked out
//! when somebody asks.

use crate::tables::pasid::{Entry, Granular};
use crate::tables::{bit, bits};

/// How an access is cached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum MemoryType {
    /// UC.
    Uncacheable,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
    /// WB.
    WriteBack,
}

impl MemoryType {
    /// The encoding of EMT (§9.8) and of the range registers (§11.4.12).
    pub(crate) fn decode(raw: u64) -> Option<Self> {
        match raw {
            0 => Some(Self::Uncacheable),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            _ => None,
        }
    }
}

/// A memory type of the page attribute table (§9.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Attribute {
    Type(MemoryType),
    /// UC-: like UC, but write combining below it counts.
    UncacheableMinus,
    /// An encoding without a meaning.
    Reserved,
}

impl Attribute {
    fn decode(raw: u64) -> Self {
        match MemoryType::decode(raw) {
            Some(known) => Self::Type(known),
            None if raw == 7 => Self::UncacheableMinus,
            None => Self::Reserved,
        }
    }

    /// What the table of a PASID entry (`pat`) says of a page whose first-stage entry, at
    /// `level`, is `leaf` (§3.11.1).
    fn of(pat: u32, leaf: u64, level: u8) -> Self {
        let attribute = bit(leaf, if level == 1 { 7 } else { 12 });
        let index = u32::from(attribute) << 2 | bits(leaf, 4, 3) as u32;
        Self::decode(u64::from(pat >> (4 * index) & 0xf))
    }

    /// Table 7: together with the type of the address, by range registers or EMT.
    fn over(self, address: MemoryType) -> Option<MemoryType> {
        use MemoryType::{Uncacheable, WriteBack, WriteCombining, WriteProtected, WriteThrough};
        Some(match (self, address) {
            (Self::Reserved, _) => return None,
            (Self::Type(Uncacheable), _) => Uncacheable,
            (Self::Type(WriteCombining), _) => WriteCombining,
            (Self::UncacheableMinus, WriteCombining | WriteProtected) => WriteCombining,
            (Self::UncacheableMinus, _) => Uncacheable,
            (Self::Type(WriteThrough), Uncacheable | WriteCombining) => Uncacheable,
            (Self::Type(WriteThrough), _) => WriteThrough,
            (Self::Type(WriteProtected), Uncacheable | WriteCombining) => Uncacheable,
            (Self::Type(WriteProtected), _) => WriteProtected,
            (Self::Type(WriteBack), address) => address,
        })
    }
}

/// What the entries that a translation came from say of the page's memory type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Typing {
    /// Nothing: the unit knows no memory types, or did not translate the request.
    Unsaid,
    /// One type, wherever the page lies.
    Fixed(MemoryType),
    /// EMT of the second-stage leaf; nothing if it is reserved.
    Extended(Option<MemoryType>),
    /// To be combined with the type of the range registers.
    Attribute(Attribute),
    /// To be combined with EMT.
    Both(Attribute, Option<MemoryType>),
}

impl Typing {
    /// Table 9, for what needs no leaf: CD, and pass-through.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        if entry.cache_disable {
            Self::Fixed(MemoryType::Uncacheable)
        } else {
            Self::Fixed(MemoryType::WriteBack)
        }
    }

    /// Table 9, second stage alone: legacy mode without a PASID entry.
    pub(crate) fn of_second(entry: Option<&Entry>, leaf: u64) -> Self {
        match entry {
            Some(entry) if entry.extended_types && !entry.cache_disable => {
                Self::Extended(MemoryType::decode(bits(leaf, 5, 3)))
            }
            Some(entry) => Self::of_entry(entry),
            None => Self::Fixed(MemoryType::WriteBack),
        }
    }

    /// Table 9, by a first stage whose page entry at `level` is `leaf`.
    pub(crate) fn of_first(entry: &Entry, leaf: u64, level: u8) -> Self {
        match entry.attributes {
            _ if entry.cache_disable => Self::of_entry(entry),
            Some(table) => Self::Attribute(Attribute::of(table, leaf, level)),
            None => Self::Unsaid,
        }
    }

    /// Table 9, nested: with the second-stage leaf below.
    pub(crate) fn nest(self, entry: &Entry, leaf: u64) -> Self {
        debug_assert_eq!(entry.kind, Granular::Nested);
        match self {
            Self::Attribute(attribute) if entry.extended_types => {
                let extended = MemoryType::decode(bits(leaf, 5, 3));
                if bit(leaf, 6) {
                    Self::Extended(extended)
                } else {
                    Self::Both(attribute, extended)
                }
            }
            other => other,
        }
    }

    /// What it comes to at an address for which the range registers say `ranges`. `None`
    /// where the specification leaves it open: reserved encodings, ranges that contradict
    /// each other.
    pub(crate) fn effective(
        self,
        ranges: impl FnOnce() -> Option<MemoryType>,
    ) -> Option<MemoryType> {
        match self {
            Self::Unsaid => None,
            Self::Fixed(known) => Some(known),
            Self::Extended(known) => known,
            Self::Attribute(attribute) => attribute.over(ranges()?),
            Self::Both(attribute, extended) => attribute.over(extended?),
        }
    }
}

/// How a request reaches memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageAccess {
    /// Host physical address.
    pub address: u64,
    /// The caches are snooped whatever the request says (PGSNP, or SNP of the second-stage
    /// page; table 6).
    pub forced_snoop: bool,
    /// The memory type for a device inside the processors' coherency domain (tables 8, 9).
    /// `None` where the specification does not say: a unit without memory types and with a
    /// first stage, reserved encodings, ranges that contradict each other, requests that the
    /// unit did not translate.
    pub memory_type: Option<MemoryType>,
}

impl PageAccess {
    /// Whether a request with this No Snoop attribute snoops the caches (§3.10).
    pub fn snoops(&self, no_snoop: bool) -> bool {
        !no_snoop || self.forced_snoop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [(&str, u64); 6] = [
        ("UC", 0),
        ("UC-", 7),
        ("WC", 1),
        ("WT", 4),
        ("WB", 6),
        ("WP", 5),
    ];

    /// Table 7, by the range registers' type (rows) and the page attribute table's
    /// (columns, in the order of [`TYPES`]).
    const EFFECTIVE: [(&str, [&str; 6]); 5] = [
        ("UC", ["UC", "UC", "WC", "UC", "UC", "UC"]),
        ("WC", ["UC", "WC", "WC", "UC", "WC", "UC"]),
        ("WT", ["UC", "UC", "WC", "WT", "WT", "WP"]),
        ("WB", ["UC", "UC", "WC", "WT", "WB", "WP"]),
        ("WP", ["UC", "WC", "WC", "WT", "WP", "WP"]),
    ];

    fn raw(name: &str) -> u64 {
        TYPES.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn types_combine_as_table_7_says() {
        for (ranges, row) in EFFECTIVE {
            let ranges = MemoryType::decode(raw(ranges)).unwrap();
            for ((name, attribute), expected) in TYPES.into_iter().zip(row) {
                let found = Attribute::decode(attribute).over(ranges);
                let expected = MemoryType::decode(raw(expected));
                assert_eq!(found, expected, "{ranges:?} with {name}");
            }
        }
    }

    #[test]
    fn reserved_encodings_come_to_nothing() {
        for reserved in [2, 3, 7, 8, 15] {
            assert_eq!(MemoryType::decode(reserved), None);
        }
        for reserved in [2, 3, 8, 9, 14, 15] {
            let attribute = Attribute::decode(reserved);
            assert_eq!(attribute.over(MemoryType::WriteBack), None, "{reserved}");
        }
    }

    #[test]
    fn the_index_is_made_of_pat_pcd_and_pwt_of_the_page() {
        // PA0 to PA7: UC, WC, WT, WP, WB, UC-, and two reserved ones.
        let pat = 0x9876_5410 & !0xff00_0000 | 0x3200_0000;
        let of = |leaf, level| Attribute::of(pat, leaf, level);
        let places = [(0, 0), (8, 1), (0x10, 2), (0x18, 3)];
        for (leaf, index) in places {
            let small = u64::from(pat >> (4 * index) & 0xf);
            assert_eq!(of(leaf, 1), Attribute::decode(small), "index {index}");
            let upper = u64::from(pat >> (4 * (index + 4)) & 0xf);
            // PAT is bit 7 of a small page's entry, and bit 12 of a large one's, where bit 7
            // says that it is a page.
            assert_eq!(of(leaf | 0x80, 1), Attribute::decode(upper));
            assert_eq!(of(leaf | 0x1000, 1), Attribute::decode(small));
            for level in [2, 3] {
                assert_eq!(of(leaf | 0x80, level), Attribute::decode(small));
                assert_eq!(of(leaf | 0x1080, level), Attribute::decode(upper));
            }
        }
    }
}
