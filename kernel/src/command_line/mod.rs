//! The command line: `key=value` words, separated by spaces (`docs/wire.md`).
//!
//! The last word of a key counts, so that a user's words can follow a runner's; `deny=` adds
//! up.

mod switches;

pub use switches::{
    Choice, DumpForm, Graphics, GuestKind, HandOver, Mode, MonitorSwitch, ReservedRegions,
    TranslationServices, UnremappedInterrupts, VtdSwitch, device,
};

use arrayvec::{ArrayString, ArrayVec};
use core::fmt;
use iommu_core::DeviceId;

/// Longest name of a test.
const NAME_BYTES: usize = 128;
/// Devices that can be denied.
const DENIED: usize = 16;

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLine {
    /// `mode=`; the best that the units have, if absent.
    pub mode: Option<Mode>,
    /// `guest=`; SVM if the CPU has it, else direct, if absent.
    pub guest: Option<GuestKind>,
    /// `seed=`: all random choices of the run follow from it. Taken from the clock if absent.
    pub seed: Option<u64>,
    /// `test=`, for the boot-test kernel.
    pub test: Option<ArrayString<NAME_BYTES>>,
    /// `stage=`, for the boot-test kernel: which kernel of a test that starts several.
    pub stage: u8,
    /// `vtd=`
    pub vtd: VtdSwitch,
    /// `deny=`, all of them.
    pub denied: ArrayVec<DeviceId, DENIED>,
    /// `rmrr=`
    pub reserved_regions: ReservedRegions,
    /// `graphics=`
    pub graphics: Graphics,
    /// `ats=`
    pub translation_services: TranslationServices,
    /// `unremapped-interrupts=`
    pub unremapped_interrupts: UnremappedInterrupts,
    /// `dump=`; none, if absent.
    pub dump: Option<DumpForm>,
    /// `monitor=`
    pub monitor: MonitorSwitch,
    /// `hand-over=`; none, if absent.
    pub hand_over: Option<HandOver>,
}

/// A word that is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandLineError<'a> {
    /// A word without `=`, or with an unknown key.
    UnknownWord(&'a str),
    /// A value that its key does not have.
    BadValue {
        /// The word.
        word: &'a str,
        /// What the key's values look like.
        expected: &'static str,
    },
    /// More devices are denied than can be noted.
    TooManyDenied,
}

/// What is told to who mistypes a key.
const KEYS: &str = "vtd=, deny=, rmrr=, graphics=, ats=, unremapped-interrupts=, dump=, monitor=, hand-over=, mode=, guest=, seed=, test= and stage=";

impl fmt::Display for CommandLineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord(word) => write!(f, "`{word}` is not understood; there are {KEYS}"),
            Self::BadValue { word, expected } => {
                write!(f, "`{word}` is not understood; expected {expected}")
            }
            Self::TooManyDenied => write!(f, "deny= can name {DENIED} devices at most"),
        }
    }
}

impl CommandLine {
    /// Reads all words.
    pub fn parse(text: &str) -> Result<Self, CommandLineError<'_>> {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            line.take(word)?;
        }
        Ok(line)
    }

    fn take<'a>(&mut self, word: &'a str) -> Result<(), CommandLineError<'a>> {
        let (key, value) = word
            .split_once('=')
            .ok_or(CommandLineError::UnknownWord(word))?;
        let bad = |expected| CommandLineError::BadValue { word, expected };
        match key {
            "mode" => self.mode = Some(choice(word, value)?),
            "guest" => self.guest = Some(choice(word, value)?),
            "vtd" => self.vtd = choice(word, value)?,
            "rmrr" => self.reserved_regions = choice(word, value)?,
            "graphics" => self.graphics = choice(word, value)?,
            "ats" => self.translation_services = choice(word, value)?,
            "unremapped-interrupts" => self.unremapped_interrupts = choice(word, value)?,
            "dump" => self.dump = Some(choice(word, value)?),
            "monitor" => self.monitor = choice(word, value)?,
            "hand-over" => self.hand_over = Some(choice(word, value)?),
            "deny" => {
                let device = device(value).ok_or(bad(
                    "deny=SEGMENT:BB:DD.F in hexadecimal, as in deny=0000:3a:00.0",
                ))?;
                self.denied
                    .try_push(device)
                    .map_err(|_| CommandLineError::TooManyDenied)?;
            }
            "seed" => {
                let seed = seed(value).ok_or(bad("seed=0x and 1 to 16 hexadecimal digits"))?;
                self.seed = Some(seed);
            }
            "test" => {
                let name = ArrayString::from(value)
                    .ok()
                    .filter(|name| !name.is_empty())
                    .ok_or(bad("test= and a name of 1 to 128 bytes"))?;
                self.test = Some(name);
            }
            "stage" => {
                self.stage = value.parse().map_err(|_| bad("stage= and a number"))?;
            }
            _ => return Err(CommandLineError::UnknownWord(word)),
        }
        Ok(())
    }
}

fn choice<'a, T: Choice>(word: &'a str, value: &str) -> Result<T, CommandLineError<'a>> {
    let expected = T::USAGE;
    T::of_name(value).ok_or(CommandLineError::BadValue { word, expected })
}

fn seed(value: &str) -> Option<u64> {
    switches::hexadecimal(value.strip_prefix("0x")?, 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn all_keys_are_read() {
        let line =
            CommandLine::parse(" mode=first-stage  guest=direct seed=0xfeed test=a::b ").unwrap();
        assert_eq!(line.mode, Some(Mode::FirstStage));
        assert_eq!(line.guest, Some(GuestKind::Direct));
        assert_eq!(line.seed, Some(0xfeed));
        assert_eq!(line.test.as_deref(), Some("a::b"));
    }

    #[test]
    fn every_switch_is_read_by_each_of_its_names() {
        let line = CommandLine::parse(
            "vtd=report deny=0:0:4.0 rmrr=relax graphics=leave deny=0:1:0.0 \
             ats=vouched unremapped-interrupts=allow dump=both monitor=com1 hand-over=on stage=2",
        )
        .unwrap();
        assert_eq!(line.vtd, VtdSwitch::Report);
        assert_eq!(
            line.denied.as_slice(),
            ["0:0:4.0", "0:1:0.0"].map(|text| device(text).unwrap())
        );
        assert_eq!(line.reserved_regions, ReservedRegions::Relax);
        assert_eq!(line.graphics, Graphics::Leave);
        assert_eq!(line.translation_services, TranslationServices::Vouched);
        assert_eq!(line.unremapped_interrupts, UnremappedInterrupts::Allow);
        assert_eq!(line.dump, Some(DumpForm::Both));
        assert_eq!(line.monitor, MonitorSwitch::Com1);
        assert_eq!(line.hand_over, Some(HandOver::On));
        assert_eq!(line.stage, 2);
    }

    #[test]
    fn without_a_word_the_safe_choice_is_taken() {
        let line = CommandLine::default();
        assert_eq!(line.vtd, VtdSwitch::On);
        assert_eq!(line.reserved_regions, ReservedRegions::Keep);
        assert_eq!(line.graphics, Graphics::Remap);
        assert_eq!(line.translation_services, TranslationServices::Off);
        assert_eq!(line.unremapped_interrupts, UnremappedInterrupts::Refuse);
        assert_eq!(line.monitor, MonitorSwitch::Off);
        assert_eq!((line.dump, line.hand_over), (None, None));
    }

    #[test]
    fn more_denied_devices_than_fit_are_refused() {
        let words = |count: usize| "deny=0:0:1.0 ".repeat(count);
        assert!(CommandLine::parse(&words(DENIED)).is_ok());
        assert_eq!(
            CommandLine::parse(&words(DENIED + 1)),
            Err(CommandLineError::TooManyDenied)
        );
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(CommandLine::parse("  "), Ok(CommandLine::default()));
    }

    #[test]
    fn the_last_word_of_a_key_counts() {
        let line = CommandLine::parse("mode=legacy mode=second-stage").unwrap();
        assert_eq!(line.mode, Some(Mode::SecondStage));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for word in ["quiet", "color=red", "mode", "=legacy"] {
            assert_eq!(
                CommandLine::parse(word),
                Err(CommandLineError::UnknownWord(word))
            );
        }
        for word in [
            "mode=nested",
            "mode=",
            "guest=kvm",
            "seed=12",
            "seed=0x",
            "seed=0x+1",
            "seed=0x10000000000000000",
            "test=",
            "vtd=yes",
            "deny=00:04.0",
            "rmrr=",
            "graphics=off",
            "ats=on",
            "dump=",
            "stage=two",
        ] {
            let error = CommandLine::parse(word).unwrap_err();
            assert!(
                matches!(error, CommandLineError::BadValue { word: named, .. } if named == word)
            );
            assert!(error.to_string().contains(word));
        }
        assert!(CommandLine::parse("seed=0xffffffffffffffff").is_ok());
    }
}
