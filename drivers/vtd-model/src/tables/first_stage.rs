//! First-stage paging entries: §3.6 and §9.7.

use super::{bit, page};
use crate::config::{Config, above};

/// What an entry says at its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// P = 0.
    NotPresent,
    /// A reserved bit is set.
    Reserved,
    /// The table of the next lower level.
    Table { address: u64, rights: Rights },
    /// A page.
    Page { address: u64, rights: Rights },
}

/// R/W and U/S.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Rights {
    pub(crate) write: bool,
    pub(crate) user: bool,
}

impl Rights {
    pub(crate) const ALL: Self = Self {
        write: true,
        user: true,
    };

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            write: self.write && other.write,
            user: self.user && other.user,
        }
    }
}

/// A: set in every entry that is used.
pub(crate) const ACCESSED: u64 = 1 << 5;
/// D: set in a page's entry by a write.
pub(crate) const DIRTY: u64 = 1 << 6;
/// EA: set with A if EAFE.
pub(crate) const EXTENDED_ACCESSED: u64 = 1 << 10;

/// Decodes an entry of a table of `level` (1 to 5). `nested`: its address is a guest's, and
/// bits 51:HAW are checked against the second stage instead.
pub(crate) fn decode(entry: u64, level: u8, config: &Config) -> Entry {
    if !bit(entry, 0) {
        return Entry::NotPresent;
    }
    let is_page = level == 1 || bit(entry, 7);
    let mask = config.above_host() & !above(52)
        | match (level, is_page) {
            (_, false) | (1, true) => 0,
            (2, true) => 0x1f_e000,
            (3, true) if config.first_stage_1g => 0x3fff_e000,
            (_, true) => 0x80,
        };
    if entry & mask != 0 {
        return Entry::Reserved;
    }
    let rights = Rights {
        write: bit(entry, 1),
        user: bit(entry, 2),
    };
    let address = page(entry) & !above(52);
    match (level, is_page) {
        (_, false) => Entry::Table { address, rights },
        // Bit 12 of a large page is PAT.
        (1, true) => Entry::Page { address, rights },
        (_, true) => Entry::Page {
            address: address & !0x1000,
            rights,
        },
    }
}

/// Whether bits 63:N are equal, for a table of `levels` levels (§3.6).
pub(crate) fn canonical(address: u64, levels: u8) -> bool {
    let unused = 64 - (12 + 9 * u32::from(levels));
    ((address << unused) as i64) >> unused == address as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded_as_the_tables_say() {
        let config = Config::scalable();
        let all = Rights::ALL;
        let cases = [
            (
                4,
                0x1007,
                Entry::Table {
                    address: 0x1000,
                    rights: all,
                },
            ),
            (4, 0x1087, Entry::Reserved),
            (5, 0x1087, Entry::Reserved),
            (
                3,
                0x4000_0087,
                Entry::Page {
                    address: 0x4000_0000,
                    rights: all,
                },
            ),
            (
                3,
                0x4000_1087,
                Entry::Page {
                    address: 0x4000_0000,
                    rights: all,
                },
            ),
            (3, 0x4000_2087, Entry::Reserved),
            (
                2,
                0x0020_1087,
                Entry::Page {
                    address: 0x20_0000,
                    rights: all,
                },
            ),
            (2, 0x0020_2087, Entry::Reserved),
            (
                1,
                0x5087,
                Entry::Page {
                    address: 0x5000,
                    rights: all,
                },
            ),
            (
                1,
                0xfff0_0000_0000_5f07,
                Entry::Page {
                    address: 0x5000,
                    rights: all,
                },
            ),
            (1, 1 << 46 | 7, Entry::Reserved),
            (
                1,
                0x5001,
                Entry::Page {
                    address: 0x5000,
                    rights: Rights {
                        write: false,
                        user: false,
                    },
                },
            ),
            (1, 0xffff_fffe, Entry::NotPresent),
        ];
        for (level, raw, expected) in cases {
            assert_eq!(
                decode(raw, level, &config),
                expected,
                "level {level}, {raw:#x}"
            );
        }
        let small = Config {
            first_stage_1g: false,
            ..config
        };
        assert_eq!(decode(0x4000_0087, 3, &small), Entry::Reserved);
    }

    #[test]
    fn an_address_is_canonical_if_its_upper_bits_repeat_the_highest_used_one() {
        for (address, four, five) in [
            (0x0000_7fff_ffff_ffff, true, true),
            (0x0000_8000_0000_0000, false, true),
            (0xffff_8000_0000_0000, true, true),
            (0xffff_0000_0000_0000, false, true),
            (0x00ff_ffff_ffff_ffff, false, true),
            (0x0100_0000_0000_0000, false, false),
        ] {
            assert_eq!(
                (canonical(address, 4), canonical(address, 5)),
                (four, five),
                "{address:#x}"
            );
        }
    }
}
