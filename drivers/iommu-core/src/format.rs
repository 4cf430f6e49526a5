//! The page-table formats of VT-d, by name. Their entries belong to `io-pgtable`.

/// Which of the two translations a table is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// First stage: the x86-64 format (§9.7 ff., formerly "first level").
    First,
    /// Second stage: the format of EPT (§9.8 ff., formerly "second level").
    Second,
}

/// A page-table format: stage and number of levels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TableFormat {
    /// First stage, 4 levels, 48-bit canonical input (FSPM 00).
    FirstStage4,
    /// First stage, 5 levels, 57-bit canonical input (FSPM 01).
    FirstStage5,
    /// Second stage, 3 levels, 39-bit input (AW 1).
    SecondStage3,
    /// Second stage, 4 levels, 48-bit input (AW 2).
    SecondStage4,
    /// Second stage, 5 levels, 57-bit input (AW 3).
    SecondStage5,
}

impl TableFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [
        Self::FirstStage4,
        Self::FirstStage5,
        Self::SecondStage3,
        Self::SecondStage4,
        Self::SecondStage5,
    ];

    /// First or second stage.
    pub const fn stage(self) -> Stage {
        match self {
            Self::FirstStage4 | Self::FirstStage5 => Stage::First,
            Self::SecondStage3 | Self::SecondStage4 | Self::SecondStage5 => Stage::Second,
        }
    }

    /// Levels of tables; the root is at this level, 4 KiB leaves at level 1.
    pub const fn levels(self) -> u8 {
        match self {
            Self::SecondStage3 => 3,
            Self::FirstStage4 | Self::SecondStage4 => 4,
            Self::FirstStage5 | Self::SecondStage5 => 5,
        }
    }

    /// Bits of input address that the tables translate: 39, 48 or 57. The first stage
    /// wants the bits above to equal the highest of these (canonical), the second stage
    /// wants them 0.
    pub const fn input_bits(self) -> u8 {
        match self.levels() {
            3 => 39,
            4 => 48,
            _ => 57,
        }
    }
}

/// Leaf sizes beside 4 KiB that a unit accepts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LeafSizes {
    /// 2 MiB at level 2.
    pub mib2: bool,
    /// 1 GiB at level 3.
    pub gib1: bool,
}
