//! From what a slot shall lead to, to the words of its entry (§9.3, §9.6).

use crate::abilities::Abilities;
use crate::quirks;
use crate::tables::context::{ContextHigh, ContextLow, TranslationType as LegacyType};
use crate::tables::frame_number;
use crate::tables::pasid::{Pasid0, Pasid1, Pasid2, Pasid4, Pasid5, PasidEntry, TranslationType};
use iommu_core::{Gpa, Hpa, MemoryType, TableFormat};

/// A second-stage table as an entry names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SecondStage {
    pub(crate) root: Hpa,
    pub(crate) levels: u8,
}

/// A first-stage table as an entry names it. The root is a host address, or a guest's if
/// the entry is nested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FirstStage {
    pub(crate) root: u64,
    pub(crate) levels: u8,
    pub(crate) supervisor: bool,
    pub(crate) write_protect: bool,
}

/// WB, WT, UC-, UC, twice, from PA0 up.
const RESET_PAT: u32 = 0x0746_0746;

/// What the entries of a domain say beside where its tables are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Attributes {
    /// Accessed and dirty flags are set in second-stage tables (SSADE).
    pub(crate) dirty: bool,
    /// Accesses to pages are snooped (PGSNP).
    pub(crate) snoop: bool,
    /// Memory type of all pages (EMTE, PAT).
    pub(crate) memory_type: Option<MemoryType>,
    /// Nothing is cached (CD).
    pub(crate) uncached: bool,
    /// Root of the host permission table, one page (HPTPTR).
    pub(crate) permissions: Option<Hpa>,
}

/// Where a slot leads, in hardware's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// Nowhere.
    Blocked,
    /// To the address in the request.
    PassThrough { domain_id: u16 },
    /// Through a second stage.
    Second { domain_id: u16, second: SecondStage },
    /// Through a first stage.
    First { domain_id: u16, first: FirstStage },
    /// Through a guest's first stage and then a second.
    Nested {
        domain_id: u16,
        first: FirstStage,
        second: SecondStage,
    },
}

impl Target {
    /// A table of any format.
    pub(crate) fn table(domain_id: u16, format: TableFormat, root: Hpa) -> Self {
        let levels = format.levels();
        match format {
            TableFormat::FirstStage4 | TableFormat::FirstStage5 => Self::First {
                domain_id,
                first: FirstStage {
                    root: root.as_u64(),
                    levels,
                    supervisor: false,
                    write_protect: true,
                },
            },
            _ => Self::Second {
                domain_id,
                second: SecondStage { root, levels },
            },
        }
    }

    /// A guest's table above a second stage.
    pub(crate) fn nested(
        domain_id: u16,
        first: (TableFormat, Gpa),
        rights: (bool, bool),
        second: (TableFormat, Hpa),
    ) -> Self {
        let (supervisor, write_protect) = rights;
        Self::Nested {
            domain_id,
            first: FirstStage {
                root: first.1.as_u64(),
                levels: first.0.levels(),
                supervisor,
                write_protect,
            },
            second: SecondStage {
                root: second.1,
                levels: second.0.levels(),
            },
        }
    }

    pub(crate) fn domain_id(&self) -> u16 {
        match *self {
            Self::Blocked => 0,
            Self::PassThrough { domain_id }
            | Self::Second { domain_id, .. }
            | Self::First { domain_id, .. }
            | Self::Nested { domain_id, .. } => domain_id,
        }
    }

    fn has_second_stage(&self) -> bool {
        matches!(self, Self::Second { .. } | Self::Nested { .. })
    }

    /// PAT, by which first-stage leaves choose their memory type (§3.11.1). Where nobody wants
    /// something else it is what CPUs begin with: a table of zeroes would make all pages
    /// uncacheable.
    fn page_attribute_table(&self, abilities: &Abilities, attributes: &Attributes) -> u32 {
        if !abilities.ecap.mts() {
            return 0;
        }
        match (self, attributes.memory_type) {
            (Self::First { .. }, Some(kind)) => RESET_PAT & !0xf | kind as u32,
            (Self::First { .. } | Self::Nested { .. }, _) => RESET_PAT,
            _ => 0,
        }
    }

    /// The words of a legacy context entry. A first stage does not exist there: blocked.
    pub(crate) fn context_entry(
        &self,
        abilities: &Abilities,
        translation_requests: bool,
    ) -> [u64; 2] {
        let low = ContextLow::new().with_p(true);
        let high = ContextHigh::new().with_did(self.domain_id());
        let (low, high) = match self {
            Self::PassThrough { .. } => (
                low.with_tt(LegacyType::PassThrough),
                high.with_aw(abilities.largest_address_width_code()),
            ),
            Self::Second { second, .. } => (
                low.with_tt(LegacyType::of_tables(translation_requests))
                    .with_ssptptr(frame_number(second.root)),
                high.with_aw(Abilities::address_width_code(second.levels) & 7),
            ),
            Self::Blocked | Self::First { .. } | Self::Nested { .. } => return [0, 0],
        };
        [low.into_bits(), high.into_bits()]
    }

    /// A PASID table entry.
    pub(crate) fn pasid_entry(&self, abilities: &Abilities, attributes: &Attributes) -> PasidEntry {
        let entry = self.translation(abilities, attributes);
        match attributes.permissions {
            Some(root) if abilities.checks_translated_requests() && entry.word0.p() => PasidEntry {
                word4: Pasid4::new().with_hptptr(frame_number(root)),
                word5: Pasid5::new().with_hptdid(self.domain_id()),
                ..entry
            },
            _ => entry,
        }
    }

    /// The part of a PASID table entry that says where requests are translated.
    fn translation(&self, abilities: &Abilities, attributes: &Attributes) -> PasidEntry {
        let word0 = Pasid0::new().with_p(true);
        let word1 = Pasid1::new()
            .with_did(self.domain_id())
            .with_pwsnp(abilities.walks_can_snoop())
            .with_pgsnp(attributes.snoop)
            .with_cd(attributes.uncached)
            .with_emte(self.has_second_stage() && attributes.memory_type.is_some())
            .with_pat(self.page_attribute_table(abilities, attributes));
        match self {
            Self::Blocked => PasidEntry::default(),
            Self::PassThrough { .. } => PasidEntry {
                word0: word0
                    .with_pgtt(TranslationType::PASS_THROUGH)
                    .with_aw(quirks::unused_address_width(abilities)),
                word1,
                word2: Pasid2::new(),
                ..PasidEntry::default()
            },
            Self::Second { second, .. } => PasidEntry {
                word0: with_second_stage(word0, second, attributes)
                    .with_pgtt(TranslationType::SECOND_STAGE),
                word1,
                word2: Pasid2::new(),
                ..PasidEntry::default()
            },
            Self::First { first, .. } => PasidEntry {
                word0: word0
                    .with_pgtt(TranslationType::FIRST_STAGE)
                    .with_aw(quirks::unused_address_width(abilities)),
                word1,
                word2: with_first_stage(first),
                ..PasidEntry::default()
            },
            Self::Nested { first, second, .. } => PasidEntry {
                word0: with_second_stage(word0, second, attributes)
                    .with_pgtt(TranslationType::NESTED),
                word1,
                word2: with_first_stage(first),
                ..PasidEntry::default()
            },
        }
    }
}

fn with_second_stage(word: Pasid0, second: &SecondStage, attributes: &Attributes) -> Pasid0 {
    word.with_ssade(attributes.dirty)
        .with_aw(Abilities::address_width_code(second.levels) & 7)
        .with_ssptptr(frame_number(second.root))
}

fn with_first_stage(first: &FirstStage) -> Pasid2 {
    Pasid2::new()
        .with_sre(first.supervisor)
        .with_wpe(first.write_protect)
        .with_fspm(u8::from(first.levels == 5))
        .with_fsptptr(frame_number(Hpa::new(first.root)))
}
