//! PASID directory (§9.5) and PASID table (§9.6) entries.

use super::{bit, bits, page};
use crate::config::Config;

/// What a directory entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Directory {
    NotPresent,
    Reserved,
    Table(u64),
}

/// Decodes a directory entry.
pub(crate) fn directory(word: u64, config: &Config) -> Directory {
    if !bit(word, 0) {
        Directory::NotPresent
    } else if word & (0xffc | config.above_host()) != 0 {
        Directory::Reserved
    } else {
        Directory::Table(page(word))
    }
}

/// PGTT (§9.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Granular {
    /// 001b.
    First,
    /// 010b.
    Second,
    /// 011b.
    Nested,
    /// 100b.
    PassThrough,
}

impl Granular {
    /// Whether a first stage takes part: such cached translations fall to a PASID-based
    /// invalidation by page, and to any IOTLB invalidation of the domain (tables 23, 24).
    pub(crate) fn has_first(self) -> bool {
        matches!(self, Self::First | Self::Nested)
    }

    pub(crate) fn has_second(self) -> bool {
        matches!(self, Self::Second | Self::Nested)
    }
}

/// A host permission table, as a PASID table entry names it (§4.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Permissions {
    /// HPTDID.
    pub(crate) domain: u16,
    /// HPTPTR.
    pub(crate) table: u64,
    /// HPTSZ: the root table has `0x1000 << size` bytes.
    pub(crate) size: u8,
    /// HPTPFD is clear: entries may be prefetched after a translation completion.
    pub(crate) prefetch: bool,
    /// PWSNP.
    pub(crate) snooped: bool,
}

impl Permissions {
    /// The first address that the table does not govern.
    pub(crate) fn end(self) -> u64 {
        1 << (49 + self.size)
    }
}

/// A valid PASID table entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) fpd: bool,
    pub(crate) kind: Granular,
    pub(crate) domain: u16,
    pub(crate) second_table: u64,
    pub(crate) second_levels: u8,
    pub(crate) second_dirty: bool,
    pub(crate) first_table: u64,
    pub(crate) first_levels: u8,
    pub(crate) supervisor: bool,
    pub(crate) write_protect: bool,
    pub(crate) extended_accessed: bool,
    /// Page walks snoop: SMPWCS and PWSNP.
    pub(crate) walk_snoop: bool,
    pub(crate) page_snoop: bool,
    /// CD: every page is uncacheable.
    pub(crate) cache_disable: bool,
    /// EMTE: the second stage's pages have types of their own.
    pub(crate) extended_types: bool,
    /// PAT; `None` where the unit knows no memory types.
    pub(crate) attributes: Option<u32>,
    /// Of meaning only where the context entry has HPTE set.
    pub(crate) permissions: Permissions,
}

/// Why an entry serves no request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bad {
    NotPresent,
    Reserved,
    /// SPT.4.1.
    Width,
    /// SPT.4.2.
    Type,
    /// SPT.4.3.
    PagingMode,
    /// SPT.4.4.
    FirstTable,
}

/// Decodes a table entry.
pub(crate) fn entry(words: [u64; 8], config: &Config) -> Result<Entry, Bad> {
    if !bit(words[0], 0) {
        return Err(Bad::NotPresent);
    }
    let nested = bits(words[0], 8, 6) == 3;
    let reserved = reserved(config, nested);
    if words
        .iter()
        .zip(reserved)
        .any(|(word, mask)| word & mask != 0)
    {
        return Err(Bad::Reserved);
    }
    let kind = kind(words[0], config)?;
    let second_levels = bits(words[0], 4, 2) as u8 + 2;
    if kind.has_second() && !config.depths.allows(second_levels) {
        return Err(Bad::Width);
    }
    let first_levels = first_levels(words[2], config);
    if kind.has_first() && first_levels.is_none() {
        return Err(Bad::PagingMode);
    }
    let first_table = page(words[2]);
    if nested && first_table > config.second_stage_limit(second_levels) {
        return Err(Bad::FirstTable);
    }
    Ok(Entry {
        fpd: bit(words[0], 1),
        kind,
        domain: bits(words[1], 15, 0) as u16,
        second_table: page(words[0]),
        second_levels,
        second_dirty: kind.has_second() && bit(words[0], 9),
        first_table,
        first_levels: first_levels.unwrap_or(4),
        supervisor: bit(words[2], 0),
        write_protect: bit(words[2], 4),
        extended_accessed: bit(words[2], 7),
        walk_snoop: bit(words[1], 23),
        page_snoop: bit(words[1], 24),
        cache_disable: bit(words[1], 25),
        extended_types: bit(words[1], 26),
        attributes: config.memory_type.then_some(bits(words[1], 63, 32) as u32),
        permissions: Permissions {
            domain: bits(words[5], 15, 0) as u16,
            table: page(words[4]),
            size: bits(words[4], 1, 0) as u8,
            prefetch: !bit(words[4], 2),
            snooped: bit(words[1], 23),
        },
    })
}

fn kind(word: u64, config: &Config) -> Result<Granular, Bad> {
    match bits(word, 8, 6) {
        1 if config.first_stage => Ok(Granular::First),
        2 if config.second_stage => Ok(Granular::Second),
        3 if config.nested => Ok(Granular::Nested),
        4 if config.pass_through => Ok(Granular::PassThrough),
        _ => Err(Bad::Type),
    }
}

fn first_levels(word: u64, config: &Config) -> Option<u8> {
    match bits(word, 3, 2) {
        0 => Some(4),
        1 if config.first_stage_5_level => Some(5),
        _ => None,
    }
}

/// Reserved bits by word: those that always are, and those of capabilities that the unit
/// lacks (§9.6). With nesting FSPTPTR is a guest address, checked apart.
fn reserved(config: &Config, nested: bool) -> [u64; 8] {
    let high = config.above_host();
    let mut mask = [
        0xc20 | high,
        0xf87f_0000,
        0xf02,
        !0,
        0xff8 | high,
        !0xffff | u64::from(!config.domain_mask()),
        !0,
        !0,
    ];
    if !nested {
        mask[2] |= high;
    }
    mask[1] |= u64::from(!config.domain_mask());
    for (supported, word, fields) in [
        (config.second_stage, 0, 0x21c | !0xfff),
        (config.second_stage_dirty, 0, 0x200),
        (config.walk_coherency, 1, 1 << 23),
        (config.snoop_control, 1, 1 << 24),
        (config.memory_type, 1, 0xffff_ffff_0600_0000),
        (config.supervisor_requests, 2, 1),
        (config.first_stage, 2, 0x1c | !0xfff),
        (config.extended_accessed, 2, 0x80),
        (config.host_permissions, 4, !0),
        (config.host_permissions, 5, !0),
    ] {
        if !supported {
            mask[word] |= fields;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    type Edit = fn(&mut [u64; 8]);

    fn second() -> [u64; 8] {
        [0x5000_0000 | 2 << 6 | 2 << 2 | 1, 7, 0, 0, 0, 0, 0, 0]
    }

    #[test]
    fn always_reserved_bits_are_refused_one_by_one() {
        let config = Config {
            memory_type: true,
            ..Config::everything()
        };
        assert!(entry(second(), &config).is_ok());
        let always = [5, 10, 11]
            .into_iter()
            .chain(80..87)
            .chain(91..96)
            .chain([129])
            .chain(136..140)
            .chain(192..256)
            .chain(259..268)
            .chain(302..320)
            .chain(336..512);
        for at in always {
            let mut words = second();
            words[at / 64] |= 1 << (at % 64);
            assert_eq!(entry(words, &config), Err(Bad::Reserved), "bit {at}");
        }
        let permissions = [256, 257, 258, 268, 301, 320, 335];
        for ignored in [132, 133, 134, 135, 96, 127, 89]
            .into_iter()
            .chain(permissions)
        {
            let mut words = second();
            words[ignored / 64] |= 1 << (ignored % 64);
            assert!(entry(words, &config).is_ok(), "bit {ignored}");
        }
        let without = Config {
            host_permissions: false,
            host_permissions_1g: false,
            ..config
        };
        for reserved in permissions {
            let mut words = second();
            words[reserved / 64] |= 1 << (reserved % 64);
            assert_eq!(
                entry(words, &without),
                Err(Bad::Reserved),
                "bit {reserved} without HPTS"
            );
        }
    }

    #[test]
    fn programming_that_the_unit_cannot_follow_has_its_reason() {
        let config = Config::everything();
        let edits: &[(Bad, Edit)] = &[
            (Bad::Type, |w| w[0] &= !(7 << 6)),
            (Bad::Type, |w| w[0] |= 7 << 6),
            (Bad::Width, |w| w[0] = w[0] & !(7 << 2) | 4 << 2),
            (Bad::PagingMode, |w| {
                w[0] = w[0] & !(7 << 6) | 1 << 6;
                w[2] = 2 << 2
            }),
            (Bad::FirstTable, |w| {
                w[0] |= 3 << 6;
                w[2] = 1 << 50
            }),
        ];
        for (bad, edit) in edits {
            let mut words = second();
            edit(&mut words);
            assert_eq!(entry(words, &config), Err(*bad));
        }
        let mut nested = second();
        nested[0] |= 3 << 6;
        nested[2] = 1 << 47;
        assert!(entry(nested, &config).is_ok(), "just below the limit");
    }
}
