//! Second-stage paging entries: §3.7 and §9.8.

use super::{bit, page};
use crate::config::{Config, above};

/// What an entry says at its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// R = W = 0: nothing else is looked at.
    NotPresent,
    /// A reserved bit is set.
    Reserved,
    /// The table of the next lower level.
    Table { address: u64, rights: Rights },
    /// A page.
    Page {
        address: u64,
        rights: Rights,
        snoop: bool,
    },
}

/// Read and write permission.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Rights {
    pub(crate) const ALL: Self = Self {
        read: true,
        write: true,
    };

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
        }
    }
}

/// The accessed flag, if SSADE is set.
pub(crate) const ACCESSED: u64 = 1 << 8;
/// The dirty flag of a page's entry, if SSADE is set.
pub(crate) const DIRTY: u64 = 1 << 9;

/// Decodes an entry of a table of `level` (1 to 5). `io_rights`: RTADDR.SSIRWE, the rights
/// are in bits 61 and 62.
pub(crate) fn decode(entry: u64, level: u8, config: &Config, io_rights: bool) -> Entry {
    let rights = if io_rights {
        Rights {
            read: bit(entry, 61),
            write: bit(entry, 62),
        }
    } else {
        Rights {
            read: bit(entry, 0),
            write: bit(entry, 1),
        }
    };
    if rights == Rights::default() {
        return Entry::NotPresent;
    }
    let is_page = level == 1 || bit(entry, 7);
    if entry & reserved(level, is_page, config, io_rights) != 0 {
        return Entry::Reserved;
    }
    let address = page(entry) & !above(52);
    if is_page {
        Entry::Page {
            address,
            rights,
            snoop: bit(entry, 11),
        }
    } else {
        Entry::Table { address, rights }
    }
}

fn reserved(level: u8, is_page: bool, config: &Config, io_rights: bool) -> u64 {
    let mut mask = config.above_host() & !above(52);
    if !io_rights {
        mask |= 1 << 62;
    }
    mask | match (level, is_page) {
        (1, _) if config.snoop_control => 0,
        (1, _) => 0x800,
        (2, true) if config.second_stage_2m => large(21, config),
        (3, true) if config.second_stage_1g => large(30, config),
        (_, true) => 0x80,
        (_, false) => 0x800,
    }
}

fn large(shift: u8, config: &Config) -> u64 {
    let snoop = if config.snoop_control { 0 } else { 0x800 };
    (!above(shift) & !0xfff) | snoop
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (level, entry, what it is), §9.8 tables 41 to 47; HAW 46.
    #[test]
    fn entries_are_decoded_as_the_tables_say() {
        let config = Config::legacy();
        let table = |address| Entry::Table {
            address,
            rights: Rights::ALL,
        };
        let page = |address| Entry::Page {
            address,
            rights: Rights::ALL,
            snoop: false,
        };
        let cases = [
            (4, 0x1000_0003, table(0x1000_0000)),
            (4, 0x1000_0083, Entry::Reserved),
            (5, 0x1000_0083, Entry::Reserved),
            (3, 0x4000_0083, page(0x4000_0000)),
            (3, 0x4020_0083, Entry::Reserved),
            (3, 0x4000_1083, Entry::Reserved),
            (2, 0x0020_0083, page(0x0020_0000)),
            (2, 0x0020_1083, Entry::Reserved),
            (2, 0x0020_0803, Entry::Reserved),
            (1, 0x0000_5083, page(0x5000)),
            (1, 0x0000_507f, page(0x5000)),
            (
                1,
                0x0000_5803,
                Entry::Page {
                    address: 0x5000,
                    rights: Rights::ALL,
                    snoop: true,
                },
            ),
            (1, 0x9ff0_0000_0000_5003, page(0x5000)),
            (1, 1 << 46 | 3, Entry::Reserved),
            (1, 1 << 62 | 3, Entry::Reserved),
            (1, 0xffff_ffff_ffff_fffc, Entry::NotPresent),
        ];
        for (level, raw, expected) in cases {
            assert_eq!(
                decode(raw, level, &config, false),
                expected,
                "level {level}, {raw:#x}"
            );
        }
        let small = Config {
            second_stage_2m: false,
            second_stage_1g: false,
            snoop_control: false,
            ..config
        };
        for (level, raw) in [(3, 0x4000_0083), (2, 0x20_0083), (1, 0x5803)] {
            assert_eq!(
                decode(raw, level, &small, false),
                Entry::Reserved,
                "level {level}"
            );
        }
    }

    #[test]
    fn io_rights_replace_the_processors() {
        let config = Config::everything();
        let entry = 1 << 61 | 0x5000;
        let rights = Rights {
            read: true,
            write: false,
        };
        assert_eq!(
            decode(entry, 1, &config, true),
            Entry::Page {
                address: 0x5000,
                rights,
                snoop: false
            }
        );
        assert_eq!(decode(entry, 1, &config, false), Entry::NotPresent);
    }
}
