//! Host permission table entries: §4.2.4 and §9.12.

use super::second_stage::Rights;
use super::{bit, page};
use crate::config::{Config, above};

/// Levels of a table; its root is of this level.
pub(crate) const LEVELS: u8 = 4;

/// An entry whose reserved bits are clear: permissions of pages, and the table below for
/// pages that have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    level: u8,
    permissions: u128,
    /// The table of the next lower level (AV).
    pub(crate) next: Option<u64>,
}

impl Entry {
    /// What the entry grants for the page that holds `address`: nothing at level 4, which
    /// has no pages, and where PPi is zero.
    pub(crate) fn rights(&self, address: u64) -> Rights {
        if self.level == LEVELS {
            return Rights::default();
        }
        let field = (self.permissions >> (4 * page_index(self.level, address))) as u64;
        Rights {
            read: bit(field, 0),
            write: bit(field, 1),
        }
    }

    /// Whether hardware may cache it: it says something at all (§6.2.6).
    pub(crate) fn is_cacheable(&self) -> bool {
        self.permissions != 0 || self.next.is_some()
    }

    /// The pages (PPi as bit i) that grant nothing here, for which the walk goes on.
    pub(crate) fn open(&self) -> u32 {
        (0..pages(self.level))
            .filter(|at| (self.permissions >> (4 * at)) & 0xf == 0)
            .fold(0, |open, at| open | 1 << at)
    }
}

/// Pages that an entry of `level` has a field for; one for all of them at level 4.
pub(crate) fn pages(level: u8) -> u32 {
    [32, 16, 8, 1][usize::from(level - 1)]
}

/// Size of the pages of `level` as a power of two.
pub(crate) fn page_shift(level: u8) -> u8 {
    12 + 9 * (level - 1)
}

/// Bytes that an entry of `level` governs, as a power of two.
pub(crate) fn entry_shift(level: u8) -> u8 {
    17 + 8 * (level - 1)
}

/// Which of the entry's pages holds `address`.
pub(crate) fn page_index(level: u8, address: u64) -> u32 {
    if level == LEVELS {
        return 0;
    }
    (address >> page_shift(level)) as u32 % pages(level)
}

/// Where the entry of a table of `level` for `address` lies. A root table may be larger
/// than a page.
pub(crate) fn entry_address(table: u64, level: u8, address: u64) -> u64 {
    let index = address >> entry_shift(level);
    let index = if level == LEVELS { index } else { index & 0xff };
    table + index * 16
}

/// Decodes an entry; `None` if a reserved field is set (HPT.2). There is no present bit:
/// reserved fields are always looked at.
pub(crate) fn decode(words: [u64; 2], level: u8, config: &Config) -> Option<Entry> {
    let (permissions, pointer) = match level {
        1 => (u128::from(words[1]) << 64 | u128::from(words[0]), 0),
        _ => (u128::from(words[0]), words[1]),
    };
    let has_pages = match level {
        4 => 0,
        3 if config.host_permissions_1g => u128::from(u32::MAX),
        3 => 0,
        2 => u128::from(u64::MAX),
        _ => u128::MAX,
    };
    let rights = 0x3333_3333_3333_3333_3333_3333_3333_3333_u128;
    let beyond = config.above_host() & !above(52);
    let valid = bit(pointer, 0);
    // The address counts only with AV; what lies around it always does.
    if permissions & !(has_pages & rights) != 0 || pointer & (0xffe | beyond) != 0 {
        return None;
    }
    Some(Entry {
        level,
        permissions,
        next: valid.then_some(page(pointer) & !above(52)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Config {
        Config::everything()
    }

    #[test]
    fn each_level_has_its_own_pages_and_reserved_bits() {
        let good: [(u8, [u64; 2]); 4] = [
            (4, [0, 0x5001]),
            (3, [0x3333_3333, 0x5001]),
            (2, [0x3333_3333_3333_3333, 0xfff0_0000_0000_5001]),
            (1, [0x3333_3333_3333_3333, 0x3333_3333_3333_3333]),
        ];
        for (level, words) in good {
            assert!(decode(words, level, &all()).is_some(), "level {level}");
            for at in 0..128 {
                let mut edited = words;
                edited[at / 64] |= 1 << (at % 64);
                let (permission, pointer) = (at % 4 < 2, at >= 64 && level > 1);
                let reserved = match level {
                    _ if pointer => (65..76).contains(&at) || (64 + 46..116).contains(&at),
                    4 => true,
                    3 => at >= 32 || !permission,
                    _ => !permission,
                };
                assert_eq!(
                    decode(edited, level, &all()).is_none(),
                    reserved,
                    "level {level}, bit {at}"
                );
            }
        }
        let small = Config {
            host_permissions_1g: false,
            ..all()
        };
        assert!(decode([3, 0], 3, &small).is_none(), "no 1 GiB pages");
        assert!(decode([0, 0x5001], 3, &small).is_some());
    }

    #[test]
    fn an_address_finds_its_field() {
        let entry = decode([0x0020_0000, 0x5001], 2, &all()).expect("a good entry");
        let write = Rights {
            read: false,
            write: true,
        };
        assert_eq!(entry.rights(5 << 21), write);
        assert_eq!(entry.rights(4 << 21), Rights::default());
        assert_eq!(entry.open(), 0xffff & !(1 << 5));
        let wide = 0x5_1234_5678_9000_u64;
        assert_eq!(entry_address(0x1000, 4, wide), 0x1000 + (wide >> 41) * 16);
        assert_eq!(
            entry_address(0x1000, 1, wide),
            0x1000 + (wide >> 17 & 0xff) * 16
        );
    }
}
