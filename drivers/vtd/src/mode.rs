//! Legacy or scalable mode, first or second stage: chosen by what the unit has and by what
//! the caller asks for, never by build option.

use crate::abilities::Abilities;
use crate::registers::TableMode;
use core::fmt;
use iommu_core::{Stage, TableFormat};

/// What the caller wants a unit to do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ModeRequest {
    /// The best that the unit has: first stage, else scalable second stage, else legacy.
    #[default]
    Automatic,
    /// Legacy root and context tables.
    Legacy,
    /// Scalable mode; domains are of the second stage unless asked for otherwise.
    SecondStage,
    /// Scalable mode; domains are of the first stage unless asked for otherwise.
    FirstStage,
}

/// How a unit translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// Legacy root and context tables, second stage.
    Legacy,
    /// Scalable mode. The stage is what domains get unless another format is asked for;
    /// the others that the unit has can be used too.
    Scalable(Stage),
}

impl Mode {
    /// Whether the unit uses PASID tables.
    pub const fn is_scalable(self) -> bool {
        matches!(self, Self::Scalable(_))
    }

    /// RTADDR.TTM.
    pub const fn table_mode(self) -> TableMode {
        match self {
            Self::Legacy => TableMode::Legacy,
            Self::Scalable(_) => TableMode::Scalable,
        }
    }

    /// The stage of domains for which nothing else is asked.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Legacy => Stage::Second,
            Self::Scalable(stage) => stage,
        }
    }

    /// The name that command lines and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Scalable(Stage::First) => "first-stage",
            Self::Scalable(Stage::Second) => "second-stage",
        }
    }
}

/// A mode that the unit has, and why it was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ModeChoice {
    mode: Mode,
    format: TableFormat,
    reason: &'static str,
}

impl ModeChoice {
    /// The mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The format of domains for which nothing else is asked: the widest of the mode's
    /// stage that has at most 48 bits, or the only one.
    pub const fn format(&self) -> TableFormat {
        self.format
    }

    /// Why, in words.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

/// The unit lacks what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ModeError {
    /// ECAP.SMTS is 0: no scalable mode.
    NoScalableMode,
    /// ECAP.FSTS is 0: no first stage.
    NoFirstStage,
    /// ECAP.SSTS is 0: no second stage in scalable mode.
    NoSecondStage,
    /// CAP.SAGAW names no width that the driver knows (39, 48, 57 bits).
    NoWidth,
}

impl core::error::Error for ModeError {}

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScalableMode => "the unit has no scalable mode (ECAP.SMTS = 0)",
            Self::NoFirstStage => "the unit has no first-stage translation (ECAP.FSTS = 0)",
            Self::NoSecondStage => {
                "the unit has no second-stage translation in scalable mode (ECAP.SSTS = 0)"
            }
            Self::NoWidth => "the unit has no second-stage address width (CAP.SAGAW)",
        })
    }
}

impl Abilities {
    /// The mode for a request.
    pub fn choose(&self, request: ModeRequest) -> Result<ModeChoice, ModeError> {
        match request {
            ModeRequest::Automatic => self.best(),
            ModeRequest::Legacy => self.legacy("asked for"),
            ModeRequest::SecondStage => self.second_stage("asked for"),
            ModeRequest::FirstStage => self.first_stage("asked for"),
        }
    }

    fn best(&self) -> Result<ModeChoice, ModeError> {
        self.first_stage("the unit has scalable mode and first-stage translation")
            .or_else(|_| {
                self.second_stage("the unit has scalable mode, but no first-stage translation")
            })
            .or_else(|error| {
                self.legacy(match error {
                    ModeError::NoScalableMode => "the unit has no scalable mode",
                    _ => "the unit's scalable mode has no stage that can be used",
                })
            })
    }

    fn legacy(&self, reason: &'static str) -> Result<ModeChoice, ModeError> {
        Ok(ModeChoice {
            mode: Mode::Legacy,
            format: self.second_stage_format().ok_or(ModeError::NoWidth)?,
            reason,
        })
    }

    fn second_stage(&self, reason: &'static str) -> Result<ModeChoice, ModeError> {
        if !self.scalable_mode() {
            return Err(ModeError::NoScalableMode);
        }
        if !self.ecap.ssts() {
            return Err(ModeError::NoSecondStage);
        }
        Ok(ModeChoice {
            mode: Mode::Scalable(Stage::Second),
            format: self.second_stage_format().ok_or(ModeError::NoWidth)?,
            reason,
        })
    }

    fn first_stage(&self, reason: &'static str) -> Result<ModeChoice, ModeError> {
        if !self.scalable_mode() {
            return Err(ModeError::NoScalableMode);
        }
        if !self.ecap.fsts() {
            return Err(ModeError::NoFirstStage);
        }
        Ok(ModeChoice {
            mode: Mode::Scalable(Stage::First),
            format: TableFormat::FirstStage4,
            reason,
        })
    }

    fn second_stage_format(&self) -> Option<TableFormat> {
        [
            TableFormat::SecondStage4,
            TableFormat::SecondStage3,
            TableFormat::SecondStage5,
        ]
        .into_iter()
        .find(|&format| self.legacy_format(format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::{Cap, Ecap, Ver};

    fn abilities(cap: u64, ecap: u64) -> Abilities {
        Abilities {
            version: Ver::from_bits(0x10),
            cap: Cap::from_bits(cap),
            ecap: Ecap::from_bits(ecap),
            host_bits: 46,
        }
    }

    const LEGACY: (u64, u64) = (0x00d2_008c_222f_0606, 0xf0_0f4a);
    const SECOND: (u64, u64) = (0x00d2_008c_222f_0606, 0x4800_80f0_0f4a);
    const FIRST: (u64, u64) = (0x01d2_008c_222f_0606, 0x8800_00f0_0f4a);

    fn chosen((cap, ecap): (u64, u64), request: ModeRequest) -> Result<Mode, ModeError> {
        abilities(cap, ecap).choose(request).map(|c| c.mode())
    }

    #[test]
    fn the_best_mode_is_what_the_unit_has() {
        use ModeRequest::Automatic;
        assert_eq!(chosen(LEGACY, Automatic), Ok(Mode::Legacy));
        assert_eq!(chosen(SECOND, Automatic), Ok(Mode::Scalable(Stage::Second)));
        assert_eq!(chosen(FIRST, Automatic), Ok(Mode::Scalable(Stage::First)));
    }

    #[test]
    fn a_mode_that_the_unit_lacks_is_refused_by_name() {
        assert_eq!(
            chosen(LEGACY, ModeRequest::FirstStage),
            Err(ModeError::NoScalableMode)
        );
        assert_eq!(
            chosen(SECOND, ModeRequest::FirstStage),
            Err(ModeError::NoFirstStage)
        );
        assert_eq!(
            chosen(FIRST, ModeRequest::SecondStage),
            Err(ModeError::NoSecondStage)
        );
        assert_eq!(
            chosen((LEGACY.0 & !0x1f00, LEGACY.1), ModeRequest::Legacy),
            Err(ModeError::NoWidth)
        );
    }

    #[test]
    fn legacy_can_be_asked_of_a_unit_that_has_more() {
        assert_eq!(chosen(FIRST, ModeRequest::Legacy), Ok(Mode::Legacy));
    }

    #[test]
    fn a_unit_of_39_bits_gets_three_levels() {
        let choice = abilities(LEGACY.0 & !0x400, LEGACY.1)
            .choose(ModeRequest::Automatic)
            .unwrap();
        assert_eq!(choice.format(), TableFormat::SecondStage3);
    }
}
